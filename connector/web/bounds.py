"""Bounds of this package, the unit in each name; those shared with others: `base.limits`."""

from __future__ import annotations

from typing import Final

# HTTP
HTTP_CONNECTIONS_MAX: Final = 256
HTTP_CONNECTIONS_PER_ADDRESS_MAX: Final = 128
HTTP_HEADERS_BYTES_MAX: Final = 16_384
# What is read of one connection at a time, and of all of a listener in one turn of the event loop; chunks of a
# body, octets behind it.
HTTP_READ_BYTES: Final = 2048
HTTP_READ_SECONDS_PER_TURN: Final = 0.005
HTTP_BODY_CHUNKS_MAX: Final = 1024
# From the connection, or from the first octet of a further request, to the end of its headers.
HTTP_HEADERS_SECONDS_MAX: Final = 10.0
HTTP_KEEP_ALIVE_SECONDS: Final = 30
# From the end of the headers to the end of the answer; removing a peer takes the longest, 31 s.
HTTP_ANSWER_SECONDS_MAX: Final = 60.0
HTTP_BODY_BYTES_MAX: Final = 1 << 20
HTTP_BODY_SECONDS_MAX: Final = 10.0
HTTP_LOGIN_BYTES_MAX: Final = 8192
HTTP_LOGIN_SECONDS_MAX: Final = 12 * 3600
# From the moment at which ADMIN_API_KEY was given for it.
HTTP_OPERATE_SECONDS_MAX: Final = 3600
HTTP_SESSIONS_MAX: Final = 1024
PROXY_PREFIX_CHARACTERS_MAX: Final = 200
NETWORK_SECONDS_MAX: Final = 2.0
NETWORK_ANSWER_SECONDS: Final = 1.0
NETWORK_ANSWER_BYTES_MAX: Final = 8 << 20
NETWORK_REQUESTS_AT_ONCE_MAX: Final = 8
# Packets of one node with a condition, the octets of its answer, and packets that are followed at a time.
HOPS_SHOWN_MAX: Final = 20
HOPS_ANSWER_BYTES_MAX: Final = 1 << 20
HOPS_FOLLOWED_AT_ONCE_MAX: Final = 4
# Packets whose id or condition begins with some digits.
BEGINNINGS_SHOWN_MAX: Final = 10
VIEWERS_MAX: Final = 32
VIEWER_SEND_SECONDS_MAX: Final = 10.0
VIEWER_MESSAGE_BYTES_MAX: Final = 1024
VIEWER_MESSAGES_MAX: Final = 100
HISTORY_POINTS_MAX: Final = 1000
# Rates in one answer.
RATES_SHOWN_MAX: Final = 2000

GRACE_SECONDS_MAX: Final = 90 * 86_400
"""How long a former secret may serve."""
LOG_WRITE_SECONDS_MAX: Final = 2.0
"""How long the answer to a change waits for the log to be on disk."""
