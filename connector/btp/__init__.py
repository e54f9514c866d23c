"""The Bilateral Transfer Protocol, version 2 (RFC 23), over WebSockets.

`packet` knows the octets, `session` what may be said when, `link` the sockets.
"""
