"""Bounds of this package, the unit in each name; those shared with others: `base.limits`."""

from __future__ import annotations

from typing import Final

TELEMETRY_ROUTES_MAX: Final = 1000
ILDCP_SECONDS_MAX: Final = 10
