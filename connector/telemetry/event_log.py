"""The log of a node: what operators, links, settlements and the books did, kept for long.

A second event store (`store`), in a file of its own, `DATA_DIR/log.sqlite`, that packets do not push out. It takes
from the bus what `GROUPS` names. It is bounded in octets (`EVENT_LOG_MAX_BYTES`) and in days. When it is full,
links and alerts go first: what operators, settlements and the books did is not pushed out by a link that
flaps, and of one peer only so many links per hour are kept at all. What was written survives a power cut.
"""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import replace
from json import JSONEncoder, loads
from pathlib import Path
from typing import Any, Final

from connector.base import limits
from connector.base.clock import Clock
from connector.base.disk import Disk
from connector.base.log import Log
from connector.telemetry import bounds
from connector.telemetry.bus import Emitted
from connector.telemetry.events import TYPES, PeerConnected, PeerDisconnected
from connector.telemetry.store import EventStore
from connector.telemetry.store_query import EventQuery, Events

FILE_NAME: Final = "log.sqlite"
GROUPS: Final[dict[str, tuple[str, ...]]] = {
    "operator": ("ADMIN_ACTION",),
    "link": ("PEER_CONNECTED", "PEER_DISCONNECTED"),
    "settlement": (
        "SETTLEMENT_TRIGGERED",
        "SETTLEMENT_STARTED",
        "SETTLEMENT_COMPLETED",
        "SETTLEMENT_FAILED",
        "SETTLEMENT_WAITING",
    ),
    "alert": ("ALERT", "ROUTING_LOOP", "NEXT_HOP_SHORT"),
    "books": ("BOOKS_CHECKED", "ACCOUNTING_STATE"),
    "node": ("NODE_STARTED", "NODE_STOPPED"),
}
"""Types of events that are kept, by the name under which they are asked for together."""
GROUP_OF: Final = {name: group for group, names in GROUPS.items() for name in names}
KEPT_TYPES: Final = tuple(GROUP_OF)
_KEPT: Final = frozenset(kind for kind, name in TYPES.items() if name in GROUP_OF)
_GO_FIRST: Final = (*GROUPS["link"], *GROUPS["alert"])
_LINKS: Final = (PeerConnected, PeerDisconnected)


class EventLog:
    """See the module. `take` is given to the bus; `store.run` writes."""

    def __init__(
        self,
        *,
        folder: Path,
        disk: Disk,
        node_id: str,
        clock: Clock,
        log: Log,
        bytes_max: int,
        retention_days: int,
        no_room: Callable[[], str] = lambda: "",
    ) -> None:
        """Nothing is opened yet.

        Args:
            folder: DATA_DIR.
            disk: its file system.
            node_id: `nodeId` of the events.
            clock: for the age of events.
            log: for one warning when the disk fails.
            bytes_max: octets of the file, at least `EVENT_STORE_BYTES_MIN`; 0: nothing is kept.
            retention_days: how long an event is kept.
            no_room: why nothing is to be written at the moment; empty: write.
        """
        self.passed_over = 0
        """Links of peers that flap, which were not kept."""
        self._clock: Final = clock
        self._pace: dict[str, tuple[float, float]] = {}
        """Of each peer: links that may still be kept, and as of when in seconds."""
        # Octets bound it: an event takes more than EVENT_BYTES_MIN of them.
        events_max = bytes_max // bounds.EVENT_BYTES_MIN
        self.store: Final = EventStore(
            path=folder / FILE_NAME,
            disk=disk,
            node_id=node_id,
            clock=clock,
            log=log,
            events_max=events_max,
            bytes_max=max(bytes_max, bounds.EVENT_STORE_BYTES_MIN),
            retention_days=retention_days,
            no_room=no_room,
            off_by="EVENT_LOG_MAX_BYTES=0",
            frequent=_GO_FIRST,
            rare_max=events_max,
            is_durable=True,
        )

    def take(self, batch: Iterable[Emitted]) -> None:
        """Queue what is to be kept for the next write."""
        kept = [one for one in batch if type(one.event) in _KEPT and self._is_in_pace(one)]
        if kept:
            self.store.take(kept)

    def _is_in_pace(self, one: Emitted) -> bool:
        """Whether an event is kept: of each peer, so many links at once, and so many per hour."""
        event = one.event
        if not isinstance(event, _LINKS):
            return True
        now_s = self._clock.monotonic_s()
        left, as_of_s = self._pace.pop(event.peer_id, (bounds.LOG_LINKS_AT_ONCE_MAX, now_s))
        left += (now_s - as_of_s) * bounds.LOG_LINKS_PER_HOUR_MAX / 3600
        left = min(left, bounds.LOG_LINKS_AT_ONCE_MAX)
        is_kept = left >= 1
        self._pace[event.peer_id] = (left - is_kept, now_s)
        if len(self._pace) > bounds.LOG_PEERS_REMEMBERED_MAX:
            del self._pace[next(iter(self._pace))]
        self.passed_over += not is_kept
        return is_kept

    async def page(self, query: EventQuery) -> Events:
        """A page of what is kept; `query.types` None: all of it."""
        return await self.store.events(replace(query, anywhere=True))

    async def export(self, query: EventQuery, last: int) -> AsyncIterator[list[str]]:
        """All that fits up to the number `last`, oldest first, page by page.

        `query`: its cursor and count are not looked at.
        """
        text = query.text.strip().lower()
        page = replace(query, text="", before=last + 1, after=0, count=limits.HTTP_PAGE_ITEMS_MAX)
        while True:
            events = await self.page(page)
            # No index has it: every event is looked at, one page at a time.
            yield [one for one in events.items if text in one.lower()]
            if events.next is None:
                return
            page = replace(page, after=int(events.next))


def types_of(names: Iterable[str]) -> list[str] | None:
    """The types of groups and types; None: of none of them.

    Raises:
        KeyError: a name is neither.
    """
    found: dict[str, None] = {}
    for name in names:
        # `alert` is a group, `ALERT` a type.
        if name not in GROUPS and name.upper() in GROUP_OF:
            found[name.upper()] = None
        else:
            found.update(dict.fromkeys(GROUPS[name.lower()]))
    return list(found) or None


# --- in words


def said_of(event: dict[str, Any]) -> str:
    """An event of the log in one sentence; texts of others are as they came.

    One of another version, or of a damaged file, may lack what the sentence needs: then it is its type.
    """
    words = _WORDS.get(event["type"])
    if words is not None:
        try:
            return words(event)
        except (KeyError, TypeError, AttributeError):
            pass
    return str(event["type"]).lower().replace("_", " ")


def shown(text: str) -> dict[str, Any] | None:
    """A stored event, with its group and what it says in words; None: the file is damaged there."""
    try:
        event = loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(event, dict) or not isinstance(event.get("type"), str):
        return None
    if event["type"] not in GROUP_OF:
        return None
    if not isinstance(event.get("seq"), int) or not isinstance(event.get("timestamp"), str):
        return None
    return {**event, "group": GROUP_OF[event["type"]], "said": said_of(event)}


def _operator(event: dict[str, Any]) -> str:
    outcome, detail = event["outcome"], event.get("detail", "")
    said = f"{event['action']} {event['target']}" + (f" ({detail})" if detail else "")
    if not outcome.startswith("ok"):
        said += f": {outcome}"
    elif outcome != "ok":
        said += f" {outcome.removeprefix('ok').lstrip(': ')}"
    return f"{said}, by {event.get('via', 'key')} {event.get('address', '')}".rstrip()


def _settlement(event: dict[str, Any]) -> str:
    phase = event["type"].removeprefix("SETTLEMENT_").lower()
    said = (
        f"{event.get('direction', 'outgoing')} settlement with {event['peerId']} {phase}: {event['amount']} "
        f"{event['assetCode']}/{event['assetScale']}"
    )
    return f"{said}: {event['error']}" if event.get("error") else said


def _alert(event: dict[str, Any]) -> str:
    more = f", {event['suppressed']} more before" if event.get("suppressed") else ""
    peer = f" ({event['peerId']})" if event["peerId"] else ""
    return f"{event['name']}{peer}{more}" + (f": {event['detail']}" if event["detail"] else "")


def _books(event: dict[str, Any]) -> str:
    if event["ok"]:
        return f"the books are right: {event['checks']} rules hold"
    return f"the books are wrong: {event['failed']}: {event['detail']}"


_WORDS: Final[dict[str, Callable[[dict[str, Any]], str]]] = {
    "ADMIN_ACTION": _operator,
    "PEER_CONNECTED": lambda one: f"{one['peerId']} is connected, {one['direction']}",
    "PEER_DISCONNECTED": lambda one: f"{one['peerId']} is disconnected: {one['reason']}",
    **dict.fromkeys(GROUPS["settlement"], _settlement),
    "ALERT": _alert,
    "ROUTING_LOOP": lambda one: (
        f"packets to {one['nextHop']} come back from {one['peerId']}: {one['packets']} refused"
    ),
    "NEXT_HOP_SHORT": lambda one: f"{one['peerId']} answers T04: {one['packets']} packets",
    "BOOKS_CHECKED": _books,
    "ACCOUNTING_STATE": lambda one: (
        f"accounting is {one['state']}" + (f": {one['error']}" if one["error"] else "")
    ),
    "NODE_STARTED": lambda one: f"version {one['version']} started as {one['ilpAddress'] or '?'}",
    "NODE_STOPPED": lambda one: f"stopped after {one['uptimeSeconds']} s",
}


# --- as a table for other programs

_COLUMNS: Final = ("timestamp", "seq", "group", "type", "peerId", "said", "event")
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
"""With these a cell begins that spreadsheets execute."""
_encode: Final = JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode


def csv_columns() -> tuple[str, ...]:
    """The names in the first row; `event` is JSON with the other fields."""
    return _COLUMNS


def csv_cells(event: dict[str, Any]) -> list[str]:
    """An event with `group` and `said` as the cells of a row."""
    named = [*_COLUMNS[:-1], "nodeId"]
    own = {name: value for name, value in event.items() if name not in named or name == "peerId"}
    return [*(str(event.get(name, "")) for name in _COLUMNS[:-1]), _encode(own)]


def csv_row(cells: Sequence[str]) -> str:
    """A row of CSV (RFC 4180). A text that a spreadsheet would take for a formula begins with `'`."""
    out = io.StringIO()
    csv.writer(out).writerow(f"'{one}" if one.startswith(_FORMULA) else one for one in cells)
    return out.getvalue()
