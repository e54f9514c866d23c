"""Which events a sink gets: the names in SINK_*_EVENTS."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from connector.telemetry.bus import PACKET_TYPES
from connector.telemetry.event_log import GROUPS
from connector.telemetry.events import TYPES

ALL: Final = "all"
_GROUPS: Final[dict[str, tuple[str, ...]]] = {
    **GROUPS,
    "packet": PACKET_TYPES,
    "balance": ("ACCOUNT_BALANCE",),
    "route": ("ROUTE_ADDED", "ROUTE_REMOVED"),
    "payment": ("PAYMENT_RECEIVED",),
    "status": ("NODE_STATUS",),
}
_NAMES: Final = frozenset(TYPES.values())
CALM: Final = tuple(
    name for name in TYPES.values() if name not in (*PACKET_TYPES, "ACCOUNT_BALANCE", "NODE_STATUS")
)
"""What does not come with every packet or every few seconds: what a webhook gets by default."""


def chosen_types(names: Iterable[str]) -> tuple[str, ...] | None:
    """The types of groups and types; None: all.

    Raises:
        KeyError: a name is neither.
    """
    found: dict[str, None] = {}
    for name in names:
        if name.lower() == ALL:
            return None
        # `alert` is a group, `ALERT` a type.
        if name not in _GROUPS and name.upper() in _NAMES:
            found[name.upper()] = None
        else:
            found.update(dict.fromkeys(_GROUPS[name.lower()]))
    return tuple(found) or None


def known_names() -> str:
    """For a message: what may be written."""
    return ", ".join((ALL, *_GROUPS))
