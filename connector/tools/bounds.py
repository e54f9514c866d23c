"""Bounds of this package, the unit in each name; those shared with others: `base.limits`."""

from __future__ import annotations

from typing import Final

COMPOSE_NODES_TIGERBEETLE_MAX: Final = 60
