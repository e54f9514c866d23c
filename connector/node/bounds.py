"""Bounds of this package, the unit in each name; those shared with others: `base.limits`."""

from __future__ import annotations

from typing import Final

TELEMETRY_ROUTES_MAX: Final = 1000
ILDCP_SECONDS_MAX: Final = 10
# From the stop of a process to the start of the one that replaces it.
REPLACED_SECONDS_MAX: Final = 60
REPLACED_FILE_BYTES_MAX: Final = 1 << 20
