"""Bounds of this package, the unit in each name; those shared with others: `base.limits`."""

from __future__ import annotations

from typing import Final

COMPOSE_NODES_TIGERBEETLE_MAX: Final = 60
# A node's own API, asked by a command: /api/accounts of 10,000 peers takes about 6 MB.
NODE_ANSWER_BYTES_MAX: Final = 32 << 20
NODE_SECONDS_MAX: Final = 5.0
NODE_ADMIN_SECONDS_MAX: Final = 10.0
NODE_KNOCK_SECONDS_MAX: Final = 2.0
"""For looking whether anything answers."""
