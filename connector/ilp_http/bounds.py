"""Bounds of this package, the unit in each name; those shared with others: `base.limits`."""

from __future__ import annotations

from typing import Final

from connector.base import limits

# A packet, with what precedes a resent one.
BODY_BYTES_MAX: Final = 65_536
assert BODY_BYTES_MAX > limits.PACKET_DATA_BYTES_MAX + limits.REJECT_MESSAGE_BYTES_MAX + 2048
HEADERS_BYTES_MAX: Final = 16_384
# Listening
CONNECTIONS_MAX: Final = 4096
"""Of peers that have shown their token. Of more, each is closed when it has been answered, and of twice
as many none is answered; the same for those of one peer."""
CONNECTIONS_PER_PEER_MAX: Final = 256
STRANGERS_MAX: Final = 512
"""Connections without a right token: of all addresses together."""
STRANGERS_PER_ADDRESS_MAX: Final = 256
REQUEST_SECONDS_MAX: Final = 10.0
"""From the first octet of a request to its last, and from the connection to its first request."""
IDLE_SECONDS_MAX: Final = 75.0
"""Without a request, of a connection whose last one had the right token. Longer than clients keep
theirs: one that is closed while a request is on its way makes the outcome of a packet unknown."""
ANSWER_MARGIN_SECONDS: Final = 1.0
"""From the expiry of a packet to the end of the wait for its answer."""
UNREAD_BYTES_MAX: Final = 65_536
"""Of further requests, while one is answered."""
WRITE_BUFFER_BYTES: Final = 131_072
# RFC 35, asynchronous: remembered Request-Ids, each until its packet has expired.
REQUEST_IDS_PER_PEER_MAX: Final = 20_000
REQUEST_IDS_MAX: Final = 200_000
FORMER_ANSWERS_SECONDS: Final = 30.0
"""After a start answers that nobody waits for may be of packets that their senders are about to send again: the
peer is told to post them again (503)."""
# Sending
REQUESTS_AT_ONCE_PER_PEER_MAX: Final = 64
"""Requests to a peer under way, each on a connection of its own."""
REPLIES_AT_ONCE_PER_PEER_MAX: Final = 32
"""Answers to a peer by requests of their own, besides."""
REPLY_BYTES_PER_PEER_MAX: Final = 8 * 2**20
"""Of answers to a peer that wait or are being posted: as many packets of 1.6 KiB as may be in flight."""
REPLY_BYTES_MAX: Final = 64 * 2**20
"""The same of all peers. A peer gets no more than half of what is left, so one that comes later has room."""
REPLY_BYTES_EACH: Final = 512
"""What an answer costs besides its octets."""
QUEUE_PER_PEER_MAX: Final = limits.IN_FLIGHT_PER_PEER_MAX
CONNECT_SECONDS_MAX: Final = 5.0
SENDING_IDLE_SECONDS_MAX: Final = 2.0
"""How long a connection is kept for the next request: less than servers do (5 s is a usual value)."""
ATTEMPT_SECONDS_MAX: Final = 10.0
"""How long one request is waited for that can be sent again without harm."""
PROBE_SECONDS: Final = 20.0
PROBE_ANSWER_SECONDS_MAX: Final = 10.0
RETRY_DELAY_SECONDS_MIN: Final = 0.1
RETRY_DELAY_SECONDS_MAX: Final = 5.0
INFORMATIONAL_RESPONSES_MAX: Final = 4
"""1xx before an answer."""
ANSWER_PIECES_MAX: Final = 1024
"""Chunks, or parts, of one answer: a peer that sends one octet a chunk costs 8 ms."""
ANSWER_BYTES_AT_ONCE: Final = 4096
"""Of an answer: `h11` parses all that it is given in one go."""
EVENTS_PER_READ_MAX: Final = 64
"""Of `h11`, half a millisecond; then others have their turn."""
REPLY_SECONDS_MIN: Final = 5.0
"""How long an answer is of use at least, also where its packet has expired by our clock: R00 comes at the last
moment, and the clock of who waits for it may be behind."""
REPLY_ATTEMPTS_MAX: Final = 8
"""Of an answer that is posted to the callback of a peer."""
assert SENDING_IDLE_SECONDS_MAX < IDLE_SECONDS_MAX
