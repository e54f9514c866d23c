"""What passed this node, by the second and by the minute, for charts; bounded.

Each second the counters are read once, and the difference to the last reading is kept for that second.
Packets that are only counted are in it, settlements are not. A second without a reading (the node did
not run, its clock was set back) has no row: it is a gap, not a zero. After a standstill the difference
is spread over the seconds that it took, since nobody knows in which of them it happened.

Seconds are in memory. Minutes are handed to a sink when they are over, and the last one at the stop, so
that they are there after a restart; `restore` takes them back. What each peer had is in `peer_minutes`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from json import JSONEncoder, loads
from typing import Any, Final

from connector.telemetry import bounds
from connector.telemetry.events import iso
from connector.telemetry.histogram import LATENCY_BUCKETS_S

STEPS_S: Final = (1, 2, 5, 10, 15, 30, 60, 300, 900, 1800, 3600, 7200, 21_600)
"""Widths of a point, in seconds; from a minute on it is made of minutes."""
MINUTE_S: Final = 60
QUARTER_S: Final = 900
NODE: Final = "*"
"""In place of a peer id, which it cannot be: the rows of the whole node."""

_encode: Final = JSONEncoder(separators=(",", ":")).encode


@dataclass(slots=True)
class Counters:
    """What has been counted since the start; never falls while a peer is there."""

    fulfilled: int
    rejected: int
    value: Mapping[tuple[str, str, int], int]
    """Fulfilled, by sender, asset code and scale, in the asset's smallest unit."""
    codes: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """Rejected, by sender and code."""
    latency: Sequence[int] = ()
    """Packets by how long they took: one number for each of `LATENCY_BUCKETS_S`, and one above."""


@dataclass(slots=True)
class Row:
    """What passed in an interval."""

    fulfilled: int = 0
    rejected: int = 0
    value: dict[tuple[str, int], int] = field(default_factory=dict)
    seconds: int = 0
    """How many of its seconds are known."""
    codes: dict[str, int] = field(default_factory=dict)
    latency: dict[int, int] = field(default_factory=dict)
    """By the index of the bucket."""

    def add(self, other: Row) -> None:
        """Add another interval."""
        self.fulfilled += other.fulfilled
        self.rejected += other.rejected
        self.seconds += other.seconds
        for asset, units in other.value.items():
            self.value[asset] = self.value.get(asset, 0) + units
        for code, count in other.codes.items():
            self.codes[code] = self.codes.get(code, 0) + count
        for bucket, count in other.latency.items():
            self.latency[bucket] = self.latency.get(bucket, 0) + count

    def share(self, span: int, left: int) -> Row:
        """Of what passed in `span` seconds, the part of the one before which `left - 1` remain."""
        return Row(
            fulfilled=share_of(self.fulfilled, span, left),
            rejected=share_of(self.rejected, span, left),
            value=_shares(self.value, span, left),
            seconds=1,
            codes=_shares(self.codes, span, left),
            latency=_shares(self.latency, span, left),
        )

    def quantile_ms(self, part: float) -> float | None:
        """The latency below which `part` (0 to 1) of its packets stayed, in ms; None: none is known.

        Estimated from the histogram: within a bucket packets are taken for evenly spread, and what
        is above the last bound for being at it.
        """
        whole = sum(self.latency.values())
        if whole == 0:
            return None
        wanted, below = part * whole, 0
        for bucket in sorted(self.latency):
            count = self.latency[bucket]
            if below + count >= wanted:
                if bucket >= len(LATENCY_BUCKETS_S):
                    break
                low = LATENCY_BUCKETS_S[bucket - 1] if bucket else 0.0
                at = low + (LATENCY_BUCKETS_S[bucket] - low) * (wanted - below) / count
                return round(at * 1000, 3)
            below += count
        return LATENCY_BUCKETS_S[-1] * 1000

    def as_text(self) -> str:
        """For the disk."""
        return _encode(
            {
                "s": self.seconds,
                "f": self.fulfilled,
                "r": self.rejected,
                "v": [[code, scale, str(units)] for (code, scale), units in self.value.items()],
                "c": self.codes,
                "l": list(self.latency.items()),
            }
        )

    @staticmethod
    def from_text(text: str) -> Row:
        """What `as_text` has made.

        Raises:
            ValueError, TypeError, KeyError: it is damaged.
        """
        read = loads(text)
        return Row(
            fulfilled=_whole(read["f"]),
            rejected=_whole(read["r"]),
            value={(str(code), _whole(scale)): int(units) for code, scale, units in read["v"]},
            seconds=min(MINUTE_S, _whole(read["s"])),
            codes={str(code): _whole(count) for code, count in read["c"].items()},
            latency={_whole(bucket): _whole(count) for bucket, count in read["l"]},
        )


class Aggregates:
    """The rows of one node."""

    def __init__(
        self,
        *,
        read: Callable[[], Counters],
        now_ms: Callable[[], int],
        sink: Callable[[int, str, Row], None] = lambda _minute, _peer, _row: None,
    ) -> None:
        """Nothing is read yet.

        Args:
            read: the counters.
            now_ms: the time.
            sink: takes each minute that is over, its peer (`NODE`) and what is new of it.
        """
        self._read = read
        self._now_ms = now_ms
        self._sink = sink
        self._last: Counters | None = None
        self._second = 0
        self._seconds: OrderedDict[int, Row] = OrderedDict()
        self._minutes: OrderedDict[int, Row] = OrderedDict()
        self._quarters: OrderedDict[int, Row] = OrderedDict()
        """The same by the quarter of an hour: a week of minutes takes long to add up."""
        self._shown: OrderedDict[tuple[int, int], dict[str, Any]] = OrderedDict()
        self._fresh: tuple[int, Row] | None = None
        """The minute under way, and what of it has not been handed to the sink."""
        self.since_s = 0
        """The first second that is known; 0: none is."""

    def restore(self, minutes: Iterable[tuple[int, Row]]) -> None:
        """Take back minutes of earlier runs, oldest first, before the first sample; none of the future."""
        now_s = self._now_ms() // 1000
        for minute, row in minutes:
            if minute % MINUTE_S or minute > now_s:
                continue
            self._add(minute, row)
            self.since_s = self.since_s or minute

    def sample(self) -> None:
        """Close the seconds that are over; cheap when there is none. Call it several times a second."""
        second = self._now_ms() // 1000
        if second == self._second:
            return
        last, now = self._last, self._read()
        if last is not None and second > self._second:
            self._close(second, last, now)
        elif last is not None:
            self._shown.clear()  # the clock was set back: what was over is not
        # Else the first reading, or the clock was set back: only what comes from here on is known.
        self._last, self._second = now, second

    def flush(self) -> None:
        """Hand what is known of the minute under way to the sink: the node stops."""
        self.sample()
        if self._last is not None:
            # The second under way, too: nobody closes it any more.
            self._close(self._second + 1, self._last, self._read())
            self._last = None
        fresh, self._fresh = self._fresh, None
        if fresh is not None:
            self._sink(fresh[0], NODE, fresh[1])

    def known_s(self, minute: int) -> int:
        """How many seconds of a minute are known; 0: the node did not run."""
        row = self._minutes.get(minute)
        return 0 if row is None else min(MINUTE_S, row.seconds)

    def _close(self, second: int, last: Counters, now: Counters) -> None:
        span = second - self._second
        moved = Row(
            fulfilled=max(0, now.fulfilled - last.fulfilled),
            rejected=max(0, now.rejected - last.rejected),
        )
        for (sender, code, scale), units in now.value.items():
            _more(moved.value, (code, scale), units - last.value.get((sender, code, scale), 0))
        for (sender, code), count in now.codes.items():
            _more(moved.codes, code, count - last.codes.get((sender, code), 0))
        for bucket, (after, before) in enumerate(zip(now.latency, last.latency, strict=False)):
            _more(moved.latency, bucket, after - before)
        # A long standstill: the seconds that are not kept any more need no row.
        for at in range(max(self._second, second - bounds.AGGREGATE_SECONDS_MAX), second):
            self._keep(at, moved.share(span, second - at))

    def _keep(self, second: int, row: Row) -> None:
        self.since_s = self.since_s or second
        self._seconds[second] = row
        while len(self._seconds) > bounds.AGGREGATE_SECONDS_MAX:
            self._seconds.popitem(last=False)
        minute = second - second % MINUTE_S
        self._add(minute, row)
        fresh = self._fresh
        if fresh is None or fresh[0] != minute:
            if fresh is not None:
                self._sink(fresh[0], NODE, fresh[1])
            fresh = self._fresh = (minute, Row())
        fresh[1].add(row)

    def _add(self, minute: int, row: Row) -> None:
        self._minutes.setdefault(minute, Row()).add(row)
        self._quarters.setdefault(minute - minute % QUARTER_S, Row()).add(row)
        while len(self._minutes) > bounds.AGGREGATE_MINUTES_MAX:
            self._minutes.popitem(last=False)
        while len(self._quarters) > bounds.AGGREGATE_QUARTERS_MAX:
            self._quarters.popitem(last=False)

    def view(
        self, range_s: int, points_max: int, after_ms: int = 0, to_ms: int | None = None
    ) -> dict[str, Any]:
        """The `range_s` seconds up to `to_ms` in at most about `points_max` points, oldest first.

        Points lie on multiples of their width, so that asking again shows the same; the last one is the
        last that is over. One without any known second has nulls.

        Args:
            range_s: at least 1.
            points_max: at least 1.
            after_ms: only points that begin after this moment.
            to_ms: the end; None: now.
        """
        until = self._second if to_ms is None else min(self._second, max(0, to_ms // 1000))
        step = step_for(range_s, points_max)
        if until - range_s < self._second - bounds.AGGREGATE_SECONDS_MAX:
            step = max(step, MINUTE_S)  # seconds are not kept for so long
        end = until - until % step
        first = end - max(1, range_s // step) * step
        if after_ms >= first * 1000:
            first = (after_ms // 1000 // step + 1) * step
        rows, width = self._seconds, 1
        if step % QUARTER_S == 0:
            rows, width = self._quarters, QUARTER_S
        elif step >= MINUTE_S:
            rows, width = self._minutes, MINUTE_S
        return {
            "resolutionMs": step * 1000,
            "from": iso(first * 1000),
            "to": iso(end * 1000),
            "since": iso(self.since_s * 1000) if self.since_s else None,
            "items": [self._point(rows, at, step, width) for at in range(first, end, step)],
            "next": None,
        }

    def _point(self, rows: Mapping[int, Row], at: int, step: int, width: int) -> dict[str, Any]:
        """A point that is over. Long ones do not change, and are asked for again and again."""
        if step < MINUTE_S:
            return _as_json(at, _sum(rows, at, step, width))
        shown = self._shown.get((at, step))
        if shown is None:
            shown = self._shown[at, step] = _as_json(at, _sum(rows, at, step, width))
            while len(self._shown) > bounds.AGGREGATE_POINTS_SHOWN_MAX:
                self._shown.popitem(last=False)
        return shown


def step_for(range_s: int, points_max: int) -> int:
    """The width of a point, so that a range has at most about so many."""
    return next((one for one in STEPS_S if range_s <= one * points_max), STEPS_S[-1])


def share_of(whole: int, span: int, left: int) -> int:
    """Of a whole number over `span` seconds, the part of the one before which `left - 1` remain."""
    done = span - left
    return whole * (done + 1) // span - whole * done // span


def _shares(whole: dict[Any, int], span: int, left: int) -> dict[Any, int]:
    if span == 1:
        return dict(whole)
    return {key: part for key, one in whole.items() if (part := share_of(one, span, left))}


def _more(numbers: dict[Any, int], key: Any, moved: int) -> None:
    if moved > 0:
        numbers[key] = numbers.get(key, 0) + moved


def _whole(number: Any) -> int:
    if not isinstance(number, int) or number < 0:
        raise ValueError("not a count")
    return number


def _sum(rows: Mapping[int, Row], at: int, step: int, width: int) -> Row:
    total = Row()
    for one in range(at, at + step, width):
        row = rows.get(one)
        if row is not None:
            total.add(row)
    return total


def codes_as_json(codes: Mapping[str, int]) -> list[dict[str, Any]]:
    """Rejects by code, the most frequent first."""
    most = sorted(codes.items(), key=lambda one: (-one[1], one[0]))
    return [{"code": code, "count": count} for code, count in most]


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
        "codes": codes_as_json(row.codes),
        "latencyP50Ms": row.quantile_ms(0.5),
        "latencyP99Ms": row.quantile_ms(0.99),
    }
