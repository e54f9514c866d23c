"""Bounds of this package, the unit in each name; those shared with others: `base.limits`."""

from __future__ import annotations

from typing import Final

BTP_PROTOCOLS_MAX: Final = 32
BTP_PROTOCOL_NAME_BYTES_MAX: Final = 255
BTP_ERROR_DATA_BYTES_MAX: Final = 8192
# Links
HANDSHAKE_BYTES_MAX: Final = 16_384
# What is not on the fast path is parsed in parts, and there may be so many frames of it: pings, pongs,
# fragments. A peer of any known kind sends a few.
NOT_PLAIN_BYTES_AT_ONCE: Final = 1024
ODD_FRAMES_PER_SECOND_MAX: Final = 1000
# What a link may do in one turn of the event loop, in packets; then the others have theirs. What is no packet is dearer.
WORK_PER_TURN: Final = 512
WORK_RARE: Final = 16
WORK_NOT_PLAIN: Final = 16
WORK_NOT_PLAIN_BYTES: Final = 2
SPLIT_BYTES_AT_ONCE: Final = 65_536
DIAL_SECONDS_MAX: Final = 10.0
CLOSE_SECONDS_MAX: Final = 1.0
CLOSE_REASON_BYTES_MAX: Final = 123
CONNECTIONS_MAX: Final = 10_000
# Each log-in costs a WebSocket handshake and an event, and makes packets under way be sent again.
# A program that opens a connection for each of its payments stays below it.
LOG_INS_PER_SECOND_PER_PEER_MAX: Final = 50
# Of connections that were established and lost.
CONNECTION_LINES_PER_SECOND_PER_PEER_MAX: Final = 10
CONNECTIONS_NOT_LOGGED_IN_MAX: Final = 1024
CONNECTIONS_NOT_LOGGED_IN_PER_ADDRESS_MAX: Final = 512
# Before the log-in, over TLS.
TLS_HANDSHAKES_MAX: Final = 256
TLS_HANDSHAKES_PER_ADDRESS_MAX: Final = 128
TLS_HANDSHAKE_SECONDS_MAX: Final = 10.0
# The rest is for files, the ledger, HTTP and links that are dialled.
DESCRIPTORS_FOR_STRANGERS: Final = 0.25
KEEPALIVE_PING_SECONDS: Final = 20.0
KEEPALIVE_SILENCE_SECONDS_MAX: Final = 50.0
RECONNECT_DELAY_SECONDS_MIN: Final = 0.1
RECONNECT_DELAY_SECONDS_MAX: Final = 5.0
RECONNECT_STABLE_SECONDS: Final = 10.0
# After a link that ended sooner, but had carried packets: so many failures count, and its own end.
RECONNECT_FAILURES_CARRIED: Final = 2
# How long a peer that is being replaced is expected back: time to stop, to start and to dial.
RETURN_SECONDS_MAX: Final = 30.0
DRAIN_SECONDS_MIN: Final = 1.0
DRAIN_SECONDS_MAX: Final = 10.0
# Each may hold a full write buffer. A program that opens a connection for each of its payments, as
# often as it may log in, has fewer: a drained link without anything open is closed after a second.
LINKS_DRAINED_PER_PEER_MAX: Final = 64
# Of packets that are resent after a log-in, in one turn of the event loop.
RESENT_AT_ONCE_BYTES: Final = 256 << 10
# What a packet costs besides its octets.
RESENT_OVERHEAD_BYTES: Final = 256
REQUEST_IDS_OF_ONE_PACKET_MAX: Final = 8
WRITE_BUFFER_PAUSE_BYTES: Final = 1 << 20
WRITE_BUFFER_BYTES_MAX: Final = 16 << 20
assert KEEPALIVE_SILENCE_SECONDS_MAX > 2 * KEEPALIVE_PING_SECONDS
assert DRAIN_SECONDS_MAX > DRAIN_SECONDS_MIN
assert WRITE_BUFFER_BYTES_MAX > WRITE_BUFFER_PAUSE_BYTES
assert LINKS_DRAINED_PER_PEER_MAX > LOG_INS_PER_SECOND_PER_PEER_MAX * DRAIN_SECONDS_MIN
assert RESENT_AT_ONCE_BYTES < WRITE_BUFFER_PAUSE_BYTES
