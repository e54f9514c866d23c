"""What passed this node, by the second and by the minute, for charts; in memory, bounded.

Each second the counters are read once, and the difference to the last reading is kept for that second.
Packets that are only counted are in it, settlements are not. A second without a reading (the node did
not run, its clock was set back) has no row: it is a gap, not a zero. After a standstill the difference
is spread over the seconds that it took, since nobody knows in which of them it happened.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from connector.telemetry import bounds
from connector.telemetry.events import iso

STEPS_S: Final = (1, 2, 5, 10, 15, 30, 60, 300, 900, 1800, 3600, 7200, 21_600)
"""Widths of a point, in seconds; from a minute on it is made of minutes."""
_MINUTE_S: Final = 60


@dataclass(slots=True)
class Counters:
    """What has been counted since the start; never falls while a peer is there."""

    fulfilled: int
    rejected: int
    value: Mapping[tuple[str, str, int], int]
    """Fulfilled, by sender, asset code and scale, in the asset's smallest unit."""


@dataclass(slots=True)
class Row:
    """What passed in an interval."""

    fulfilled: int = 0
    rejected: int = 0
    value: dict[tuple[str, int], int] = field(default_factory=dict)
    seconds: int = 0
    """How many of its seconds are known."""

    def add(self, other: Row) -> None:
        """Add another interval."""
        self.fulfilled += other.fulfilled
        self.rejected += other.rejected
        self.seconds += other.seconds
        for asset, units in other.value.items():
            self.value[asset] = self.value.get(asset, 0) + units


class Aggregates:
    """The rows of one node since its start."""

    def __init__(self, *, read: Callable[[], Counters], now_ms: Callable[[], int]) -> None:
        """Nothing is read yet.

        Args:
            read: the counters.
            now_ms: the time.
        """
        self._read = read
        self._now_ms = now_ms
        self._last: Counters | None = None
        self._second = 0
        self._seconds: OrderedDict[int, Row] = OrderedDict()
        self._minutes: OrderedDict[int, Row] = OrderedDict()
        self.since_s = 0
        """The first second that is known; 0: none is."""

    def sample(self) -> None:
        """Close the seconds that are over; cheap when there is none. Call it several times a second."""
        second = self._now_ms() // 1000
        if second == self._second:
            return
        last, now = self._last, self._read()
        if last is not None and second > self._second:
            self._close(second, last, now)
        # Else the first reading, or the clock was set back: only what comes from here on is known.
        self._last, self._second = now, second

    def _close(self, second: int, last: Counters, now: Counters) -> None:
        span = second - self._second
        value: dict[tuple[str, int], int] = {}
        for (sender, code, scale), units in now.value.items():
            moved = units - last.value.get((sender, code, scale), 0)
            if moved > 0:
                value[code, scale] = value.get((code, scale), 0) + moved
        fulfilled = max(0, now.fulfilled - last.fulfilled)
        rejected = max(0, now.rejected - last.rejected)
        # A long standstill: the seconds that are not kept any more need no row.
        first = max(self._second, second - bounds.AGGREGATE_SECONDS_MAX)
        for at in range(first, second):
            left = second - at
            row = Row(
                fulfilled=_share(fulfilled, span, left),
                rejected=_share(rejected, span, left),
                value={asset: _share(units, span, left) for asset, units in value.items()},
                seconds=1,
            )
            self._keep(at, row)

    def _keep(self, second: int, row: Row) -> None:
        self.since_s = self.since_s or second
        self._seconds[second] = row
        while len(self._seconds) > bounds.AGGREGATE_SECONDS_MAX:
            self._seconds.popitem(last=False)
        minute = second - second % _MINUTE_S
        self._minutes.setdefault(minute, Row()).add(row)
        while len(self._minutes) > bounds.AGGREGATE_MINUTES_MAX:
            self._minutes.popitem(last=False)

    def view(self, range_s: int, points_max: int, after_ms: int = 0) -> dict[str, Any]:
        """The last `range_s` seconds in at most about `points_max` points, oldest first.

        Points lie on multiples of their width, so that asking again shows the same; the last one is the
        last that is over. One without any known second has nulls.

        Args:
            range_s: at least 1.
            points_max: at least 1.
            after_ms: only points that begin after this moment.
        """
        step = next((one for one in STEPS_S if range_s <= one * points_max), STEPS_S[-1])
        end = self._second - self._second % step
        first = end - max(1, range_s // step) * step
        if after_ms >= first * 1000:
            first = (after_ms // 1000 // step + 1) * step
        rows = self._seconds if step < _MINUTE_S else self._minutes
        width = 1 if step < _MINUTE_S else _MINUTE_S
        return {
            "resolutionMs": step * 1000,
            "from": iso(first * 1000),
            "to": iso(end * 1000),
            "since": iso(self.since_s * 1000) if self.since_s else None,
            "items": [_as_json(at, _sum(rows, at, step, width)) for at in range(first, end, step)],
            "next": None,
        }


def _share(whole: int, span: int, left: int) -> int:
    """Of a whole number over `span` seconds, the part of the one before which `left - 1` remain."""
    done = span - left
    return whole * (done + 1) // span - whole * done // span


def _sum(rows: Mapping[int, Row], at: int, step: int, width: int) -> Row:
    total = Row()
    for one in range(at, at + step, width):
        row = rows.get(one)
        if row is not None:
            total.add(row)
    return total


def _as_json(at: int, row: Row) -> dict[str, Any]:
    known = row.seconds > 0
    return {
        "timestamp": iso(at * 1000),
        "seconds": row.seconds,
        "fulfilled": row.fulfilled if known else None,
        "rejected": row.rejected if known else None,
        "value": [
            {"assetCode": code, "assetScale": scale, "amount": str(units)}
            for (code, scale), units in sorted(row.value.items())
        ],
    }
