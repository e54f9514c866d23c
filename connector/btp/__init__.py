"""The Bilateral Transfer Protocol, version 2 (RFC 23), over WebSockets.

`packet` is the codec, `session` the protocol state of one connection, `link` moves its octets,
`links` owns all connections.
"""
