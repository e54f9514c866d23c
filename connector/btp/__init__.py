"""The Bilateral Transfer Protocol, version 2 (RFC 23), over WebSockets.

`packet` encodes, `session` decides what may be said when, `link` moves the octets of one
connection, `links` owns all of them.
"""
