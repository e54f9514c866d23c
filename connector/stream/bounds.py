"""Bounds of this package, the unit in each name; those shared with others: `base.limits`."""

from __future__ import annotations

from typing import Final

# RFC 29: a connection ends before its keys have encrypted more than this.
SEQUENCE_MAX: Final = (1 << 31) - 1
# RFC 29: streams that the other end may open until it is told more.
STREAM_ID_FIRST_MAX: Final = 20
STREAMS_PER_CONNECTION_MAX: Final = 20
# Streams whose end is remembered: each allows another one.
STREAMS_CLOSED_MAX: Final = 256
# What an earlier process may have allowed: all that this one ever would.
STREAM_ID_AFTER_RESTART_MAX: Final = STREAM_ID_FIRST_MAX + 2 * STREAMS_CLOSED_MAX
# Connections whose totals are remembered; one that is forgotten goes on all the same.
CONNECTIONS_MAX: Final = 10_000
WALLETS_MAX: Final = 1000
WALLET_CHARACTERS_MAX: Final = 64
FRAMES_PER_PACKET_MAX: Final = 64
CLOSE_MESSAGE_CHARACTERS_MAX: Final = 100
# What payers say in data frames: octets that they may be ahead of what was accepted, and what an operator may
# say to a payer who is declined.
DATA_AHEAD_BYTES: Final = 1 << 16
DECLINED_MESSAGE_CHARACTERS_MAX: Final = 200
# Payments that come in: open at one time; ended and not written down yet; and for how long after the close of a
# connection packets are waited for that were under way.
OPEN_PAYMENTS_MAX: Final = 10_000
UNWRITTEN_PAYMENTS_MAX: Final = 10_000
CLOSED_GRACE_MS: Final = 1000
# A payment of this node. Packets in flight: what a window grows to while nothing is refused.
WINDOW_FIRST: Final = 16
WINDOW_MAX: Final = 512
PROBES_MAX: Final = 64
# Packets made in one turn of the event loop: each takes it 0.1 ms, and as much to be sent.
PACKETS_AT_ONCE_MAX: Final = 64
# What the minima of all packets may be rounded down by: one unit, and the payment by so much.
ROUNDED_DOWN_PARTS: Final = 1000
# Pauses after a packet that may pass later (T codes), and how long a payment may make no progress.
PAUSE_MS_MIN: Final = 20
PAUSE_MS_MAX: Final = 2000
STALLED_MS_MAX: Final = 30_000
PACKET_EXPIRY_MS: Final = 30_000
# The close has as long as other packets: each hop takes a second of it (MESSAGE_WINDOW_MS).
CLOSE_EXPIRY_MS: Final = PACKET_EXPIRY_MS
# Packets whose sequences are written to disk before they are sent.
COMMITTED_PACKETS: Final = 1024
assert COMMITTED_PACKETS >= 2 * WINDOW_MAX
CONDITION_BYTES: Final = 32
REASON_CHARACTERS_MAX: Final = 200
# Of the asset that a receiver names: as long as the longest that a node here can have.
ASSET_CHARACTERS_SHOWN_MAX: Final = 32
