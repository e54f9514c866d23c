"""Warnings of the log as `ALERT` events, so that they are kept, searched and shown with the rest."""

from __future__ import annotations

import threading
from collections.abc import Callable
from json import JSONEncoder
from typing import Any, Final

from connector.base.clock import Clock
from connector.base.log import Log, shown_fields
from connector.telemetry import bounds
from connector.telemetry.events import Alert, Event

_encode: Final = JSONEncoder(separators=(",", ":"), default=str, ensure_ascii=False).encode
_TOLD: Final = frozenset(
    (
        "accounting_state_changed",
        "next_hop_short",
        "routing_loop",
        "settlement_waits_for_operator",
    )
)
"""Lines that have an event of their own."""


class AlertingLog:
    """A `Log` that passes on every line, and emits an event for warnings.

    One event for each name and peer in `ALERT_SECONDS_MIN`; the next one counts the lines between. What it
    remembers is bounded, the oldest is forgotten first. Lines of other threads have no event.
    """

    def __init__(self, log: Log, *, emit: Callable[[Event], None], clock: Clock) -> None:
        self._log: Final = log
        self._emit: Final = emit
        self._clock: Final = clock
        self._thread: Final = threading.get_ident()
        self._told: dict[tuple[str, str], _Told] = {}

    def debug(self, event: str, **fields: Any) -> Any:
        """See `Log`."""
        return self._log.debug(event, **fields)

    def info(self, event: str, **fields: Any) -> Any:
        """See `Log`."""
        return self._log.info(event, **fields)

    def warning(self, event: str, **fields: Any) -> Any:
        """See `Log`."""
        self._alert("warning", event, fields)
        return self._log.warning(event, **fields)

    def error(self, event: str, **fields: Any) -> Any:
        """See `Log`."""
        self._alert("error", event, fields)
        return self._log.error(event, **fields)

    def _alert(self, level: str, name: str, fields: dict[str, Any]) -> None:
        if name in _TOLD or threading.get_ident() != self._thread:
            return
        peer_id = str(fields.get("peer_id") or "")
        now_s = self._clock.monotonic_s()
        told = self._told.pop((name, peer_id), None)
        if told is not None and now_s < told.at_s + bounds.ALERT_SECONDS_MIN:
            told.suppressed += 1
            self._told[name, peer_id] = told
            return
        suppressed = 0 if told is None else told.suppressed
        self._told[name, peer_id] = _Told(now_s)
        if len(self._told) > bounds.ALERTS_REMEMBERED_MAX:
            del self._told[next(iter(self._told))]
        shown = {
            key: value
            for key, value in shown_fields(fields).items()
            if key not in ("peerId", "excInfo")
        }
        self._emit(
            Alert(
                name=name,
                level=level,
                peer_id=peer_id,
                detail=_encode(shown) if shown else "",
                suppressed=suppressed,
            )
        )


class _Told:
    """When an event was last emitted, and how many lines had none since."""

    __slots__ = ("at_s", "suppressed")

    def __init__(self, at_s: float) -> None:
        self.at_s = at_s
        self.suppressed = 0
