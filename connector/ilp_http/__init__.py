"""ILP over HTTP (RFC 35): packets to and from peers by HTTP requests, beside or instead of BTP.

Each packet is the body of a POST. The answer is the body of the response (synchronous: what all
software in use speaks), or of a POST in the other direction (asynchronous: what RFC 35 says since
March 2026). Between two nodes of this kind a packet has its packet id in a header, so that it can
be resent after a broken connection, as over BTP (docs/protocol.md).
"""
