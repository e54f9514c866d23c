"""Bounds that several packages share, and their relations; a package's own are in its `bounds`.

A bound that comes from a specification names it; all others are our choice and may be changed here.
"""

from __future__ import annotations

from typing import Final

# ILPv4 (RFC 27) and addresses (RFC 15)
AMOUNT_MAX: Final = 2**64 - 1
ADDRESS_CHARACTERS_MAX: Final = 1023
PACKET_DATA_BYTES_MAX: Final = 32_767
REJECT_MESSAGE_BYTES_MAX: Final = 8191
REJECT_MESSAGE_CHARACTERS_OURS_MAX: Final = 200
# BTP (RFC 23). The largest Prepare takes about 34 KB; the rest is room for side protocols.
BTP_MESSAGE_BYTES_MAX: Final = 65_536
BTP_TOKEN_BYTES_MAX: Final = 1024
assert BTP_MESSAGE_BYTES_MAX > PACKET_DATA_BYTES_MAX + ADDRESS_CHARACTERS_MAX + 1024
assert BTP_MESSAGE_BYTES_MAX > PACKET_DATA_BYTES_MAX + REJECT_MESSAGE_BYTES_MAX + 2048
LOGIN_SECONDS_MAX: Final = 10.0
LOG_LINES_PER_SECOND_PER_EVENT_MAX: Final = 5
# Packets in flight
IN_FLIGHT_TOTAL_MAX: Final = 20_000
IN_FLIGHT_PER_PEER_MAX: Final = 5_000
# Of their data, each octet of which is in memory about twice: 5,000 packets of a peer have 6.5 KB each,
# many times what a payment needs, or 1,000 have all that a packet may.
IN_FLIGHT_BYTES_MAX: Final = 128 << 20
IN_FLIGHT_BYTES_PER_PEER_MAX: Final = 32 << 20
HOLD_MS_MAX: Final = 300_000
# A packet may be resent until it expires; clocks differ.
# A node remembers every packet that may still be resent to it (docs/protocol.md has the proof).
CLOCK_ERROR_MS: Final = 30_000
EXPIRY_MS_MAX: Final = HOLD_MS_MAX + CLOCK_ERROR_MS
FORMER_PACKETS_MS: Final = EXPIRY_MS_MAX + CLOCK_ERROR_MS + 15_000
assert IN_FLIGHT_TOTAL_MAX >= IN_FLIGHT_PER_PEER_MAX
assert IN_FLIGHT_BYTES_MAX >= IN_FLIGHT_BYTES_PER_PEER_MAX >= PACKET_DATA_BYTES_MAX
# Ledger
TRANSFERS_PER_RESERVATION_MAX: Final = 3
SPOOL_TRANSFERS_MAX: Final = 10_000_000
# Every admitted packet can be resolved: beyond the spool there is room for hold and post of all in
# flight, and for the posts of as many whose Fulfills were relayed.
OUTBOX_TRANSFERS_MAX: Final = (
    SPOOL_TRANSFERS_MAX + 3 * TRANSFERS_PER_RESERVATION_MAX * IN_FLIGHT_TOTAL_MAX
)
# Settlement (RFC 38: retries for ever, at least once an hour)
ASSET_SCALE_DIGITS_MAX: Final = 255
HTTP_PAGE_ITEMS_MAX: Final = 1000
# Wrong keys per address: a burst of this many, then one per this many seconds.
HTTP_WRONG_KEYS_MAX: Final = 20
HTTP_WRONG_KEY_SECONDS: Final = 3.0
HTTP_THROTTLED_SOURCES_MAX: Final = 4096
# Waiting for one viewer of the live feed
VIEWER_BYTES_MAX: Final = 4 << 20
# Stopping
STOP_IN_FLIGHT_SECONDS_MAX: Final = 5.0
# Kept free on the disk for packets in flight: holds and resolutions (3 transfers of 225 octets each) and
# 5 KB of fulfilment data for each of IN_FLIGHT_TOTAL_MAX packets, twice, since SQLite logs ahead.
DISK_RESERVE_BYTES: Final = 256 << 20
assert DISK_RESERVE_BYTES > 2 * IN_FLIGHT_TOTAL_MAX * (
    2 * TRANSFERS_PER_RESERVATION_MAX * 225 + 5000
)
# The journal of an embedded ledger
LEDGER_DAYS_KEPT: Final = 30
LEDGER_FILE_BYTES: Final = 8 << 30
