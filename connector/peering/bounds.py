"""Bounds of this package, the unit in each name; those shared with others: `base.limits`."""

from __future__ import annotations

from typing import Final

RATE_LIMIT_BURST_SECONDS: Final = 1
# Routing
ROUTES_MAX: Final = 1_000_000
ROUTE_CACHE_ENTRIES_MAX: Final = 16_384
KNOWN_PEERS_FILE_BYTES_MAX: Final = 16 << 20
"""A peer takes about 150 octets."""
UNSORTED_MORE_MAX: Final = 10_000
"""Prefixes that come and go while nobody looks, more than there are: then all are sorted anew."""
MISSED_MAX: Final = 10_000
MISSED_PER_PEER_MAX: Final = 1_000
MISSED_SEGMENTS_MAX: Final = 33
"""No learned prefix has more (`routing.bounds.SEGMENTS_MAX`)."""
