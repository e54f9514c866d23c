"""Bounds of this package, the unit in each name; those shared with others: `base.limits`."""

from __future__ import annotations

from typing import Final

ADDRESS_CACHE_ENTRIES_MAX: Final = 16_384
LATEST_ADDRESSES_MAX: Final = 1024
"""Of those, short ones that are found without a call."""
TIME_CACHE_ENTRIES_MAX: Final = 1024
