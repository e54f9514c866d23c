"""Bounds of this package, the unit in each name; those shared with others: `base.limits`."""

from __future__ import annotations

from typing import Final

from connector.base import limits

LOCAL_DELIVERIES_MAX: Final = 256
LOCAL_ANSWER_BYTES_MAX: Final = 65_536
# Answers are kept until the peer has shown twice that it read past them (docs/protocol.md).
ANSWERS_KEPT_PER_PEER_MAX: Final = 200_000
# Resent Prepares that wait until the ledger has said whether it knows them.
PACKETS_ASKED_AGAIN_PER_PEER_MAX: Final = limits.IN_FLIGHT_PER_PEER_MAX
PACKETS_ASKED_AGAIN_MAX: Final = limits.IN_FLIGHT_TOTAL_MAX
PACKETS_LOOKED_UP_AT_ONCE_MAX: Final = 256
STATUS_LATENCY_PACKETS_MAX: Final = 8192
