"""The Interledger protocol, version 4: addresses (RFC 15), packets (RFC 27), ILDCP (RFC 31)."""
