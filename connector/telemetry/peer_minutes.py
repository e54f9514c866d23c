"""What passed from and to each peer, by the minute, for charts.

Read off the packet path: once a minute the counters of all peers, and for a view those since. The last hour
is in memory, which is enough for small charts; minutes that are over go to a sink, and what is older than an
hour comes from there. A minute in which a peer had no packet has no row: whether the node ran at all is known
from the rows of the whole node (`aggregates`).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from json import JSONEncoder, loads
from typing import Any, Final

from connector.telemetry import bounds
from connector.telemetry.aggregates import MINUTE_S, codes_as_json, share_of, step_for
from connector.telemetry.events import iso

_encode: Final = JSONEncoder(separators=(",", ":")).encode
_NUMBERS: Final = (
    "fulfilled_in", "rejected_in", "fulfilled_out", "rejected_out", "amount_in", "amount_out",
)  # fmt: skip


@dataclass(slots=True)
class PeerRow:
    """What passed from (`in`) and to (`out`) a peer; also what has since the start, as a reading."""

    fulfilled_in: int = 0
    rejected_in: int = 0
    fulfilled_out: int = 0
    rejected_out: int = 0
    amount_in: int = 0
    """Fulfilled, in its asset."""
    amount_out: int = 0
    codes: dict[str, int] = field(default_factory=dict)
    """How packets from it were rejected."""

    @property
    def packets(self) -> int:
        """All of them."""
        return self.fulfilled_in + self.rejected_in + self.fulfilled_out + self.rejected_out

    def add(self, other: PeerRow) -> None:
        """Add another interval."""
        self.fulfilled_in += other.fulfilled_in
        self.rejected_in += other.rejected_in
        self.fulfilled_out += other.fulfilled_out
        self.rejected_out += other.rejected_out
        self.amount_in += other.amount_in
        self.amount_out += other.amount_out
        for code, count in other.codes.items():
            self.codes[code] = self.codes.get(code, 0) + count

    def since(self, before: PeerRow) -> PeerRow:
        """What has come since an earlier reading."""
        old = before.codes
        return PeerRow(
            max(0, self.fulfilled_in - before.fulfilled_in),
            max(0, self.rejected_in - before.rejected_in),
            max(0, self.fulfilled_out - before.fulfilled_out),
            max(0, self.rejected_out - before.rejected_out),
            max(0, self.amount_in - before.amount_in),
            max(0, self.amount_out - before.amount_out),
            {code: n - old.get(code, 0) for code, n in self.codes.items() if n > old.get(code, 0)},
        )

    def share(self, span: int, left: int) -> PeerRow:
        """Its part of one of `span` minutes, before which `left - 1` remain."""
        parts = (share_of(getattr(self, name), span, left) for name in _NUMBERS)
        codes = {code: share_of(n, span, left) for code, n in self.codes.items()}
        return _row(parts, {code: n for code, n in codes.items() if n})

    def as_text(self) -> str:
        """For the disk."""
        return _encode([*(str(getattr(self, name)) for name in _NUMBERS), self.codes])

    @staticmethod
    def from_text(text: str) -> PeerRow:
        """What `as_text` has made.

        Raises:
            ValueError, TypeError: it is damaged.
        """
        *numbers, codes = loads(text)
        read = [int(one) for one in numbers]
        if len(read) != len(_NUMBERS) or min(read) < 0:
            raise ValueError("not a row")
        return _row(read, {str(code): int(count) for code, count in codes.items()})


def _row(numbers: Iterable[int], codes: dict[str, int]) -> PeerRow:
    row = PeerRow(codes=codes)
    for name, number in zip(_NUMBERS, numbers, strict=True):
        setattr(row, name, number)
    return row


class PeerMinutes:
    """See the module."""

    def __init__(
        self,
        *,
        read: Callable[[], Iterable[tuple[str, PeerRow]]],
        now_ms: Callable[[], int],
        known_s: Callable[[int], int],
        sink: Callable[[int, str, PeerRow], None] = lambda _minute, _peer, _row: None,
    ) -> None:
        """Nothing is read yet.

        Args:
            read: what each peer has had since the start.
            now_ms: the time.
            known_s: how many seconds of a minute the node ran.
            sink: takes each minute that is over, the peer and what it had.
        """
        self._read = read
        self._now_ms = now_ms
        self._known_s = known_s
        self._sink = sink
        self._last: dict[str, PeerRow] | None = None
        self._minute = 0
        self._recent: OrderedDict[int, dict[str, PeerRow]] = OrderedDict()
        self._activity: tuple[int, dict[str, Any]] | None = None

    @property
    def minute(self) -> int:
        """The minute under way, as a second since 1970."""
        return self._minute

    def restore(self, rows: Iterable[tuple[int, str, PeerRow]]) -> None:
        """Take back the last hour of an earlier run, oldest first, before the first sample."""
        now_s = self._now_ms() // 1000
        for minute, peer, row in rows:
            if minute % MINUTE_S or minute > now_s:
                continue
            self._recent.setdefault(minute, {})[peer] = row
        self._trim()

    def sample(self) -> None:
        """Close the minutes that are over; cheap when there is none."""
        minute = self._now_ms() // 1000 // MINUTE_S * MINUTE_S
        if minute == self._minute:
            return
        now = dict(self._read())
        if self._last is not None and minute > self._minute:
            self._close(minute, now)
        # Else the first reading, or the clock was set back.
        self._last, self._minute = now, minute

    def flush(self) -> None:
        """Hand what the minute under way has to the sink: the node stops."""
        self.sample()
        for peer, row in self._under_way().items():
            self._sink(self._minute, peer, row)
        self._last = None

    def _close(self, minute: int, now: dict[str, PeerRow]) -> None:
        assert self._last is not None
        span = (minute - self._minute) // MINUTE_S
        moved = _moved(now, self._last)
        # After a standstill nobody knows in which of its minutes it was: it is spread over them.
        for at in range(max(0, span - bounds.PEER_MINUTES_MAX), span):
            begin = self._minute + at * MINUTE_S
            for peer, whole in moved.items():
                row = whole if span == 1 else whole.share(span, span - at)
                if row.packets == 0:
                    continue
                self._recent.setdefault(begin, {}).setdefault(peer, PeerRow()).add(row)
                self._sink(begin, peer, row)
        self._trim()

    def _trim(self) -> None:
        while len(self._recent) > bounds.PEER_MINUTES_MAX:
            self._recent.popitem(last=False)

    def _under_way(self) -> dict[str, PeerRow]:
        """What has come since the last minute was over."""
        return {} if self._last is None else _moved(dict(self._read()), self._last)

    def _known_with_now(self, minute: int) -> int:
        known = self._known_s(minute)
        return max(1, known) if minute == self._minute else known

    def activity(self) -> dict[str, Any]:
        """Packets of each peer by the minute, over the last hour and in the minute under way.

        Made anew at most every few seconds, however many ask.
        """
        at = self._now_ms() // bounds.PEER_ACTIVITY_MS
        if self._activity is None or self._activity[0] != at:
            self._activity = (at, self._make_activity())
        return self._activity[1]

    def _make_activity(self) -> dict[str, Any]:
        self.sample()
        minutes = range(
            self._minute - (bounds.PEER_MINUTES_MAX - 1) * MINUTE_S, self._minute + 1, MINUTE_S
        )
        none = [0 if self._known_with_now(minute) else None for minute in minutes]
        counts = {peer: none.copy() for peer, _ in self._read()}
        for index, minute in enumerate(minutes):
            if none[index] is None:
                continue
            for peer, row in self._recent.get(minute, {}).items():
                if peer in counts:
                    counts[peer][index] = row.packets
        for peer, row in self._under_way().items():
            counts[peer][-1] = (counts[peer][-1] or 0) + row.packets
        return {
            "resolutionMs": MINUTE_S * 1000,
            "from": iso(minutes[0] * 1000),
            "to": iso((self._minute + MINUTE_S) * 1000),
            "items": [{"peerId": peer, "packets": one} for peer, one in counts.items()],
            "next": None,
        }

    def window(self, range_s: int, points_max: int, to_ms: int | None = None) -> range:
        """The points of a view, as the seconds at which they begin; the last may be under way."""
        self.sample()
        step = max(MINUTE_S, step_for(range_s, points_max))
        last = self._minute - self._minute % step + step
        end = last if to_ms is None else min(last, max(0, to_ms // 1000 // step * step))
        return range(end - max(1, range_s // step) * step, end, step)

    def view(
        self, peer: str, points: range, stored: Mapping[int, PeerRow] | None
    ) -> dict[str, Any]:
        """What a peer had, by the points of `window`.

        Args:
            peer: its id.
            points: of `window`.
            stored: its rows on disk, by the points; None: nothing is kept there at the moment, and what is
                in memory is shown.
        """
        now = self._under_way().get(peer)
        items = []
        for at in points:
            minutes = range(at, at + points.step, MINUTE_S)
            total = PeerRow()
            if stored is not None and at in stored:
                total.add(stored[at])
            elif stored is None:
                for minute in minutes:
                    total.add(self._recent.get(minute, {}).get(peer, _NOTHING))
            if now is not None and self._minute in minutes:
                total.add(now)
            items.append(_as_json(at, sum(map(self._known_with_now, minutes)), total))
        return {
            "peerId": peer,
            "resolutionMs": points.step * 1000,
            "from": iso(points.start * 1000),
            "to": iso(points.stop * 1000),
            "items": items,
            "next": None,
        }


_NOTHING: Final = PeerRow()


def _moved(now: Mapping[str, PeerRow], before: Mapping[str, PeerRow]) -> dict[str, PeerRow]:
    moved = {peer: row.since(before.get(peer, _NOTHING)) for peer, row in now.items()}
    return {peer: row for peer, row in moved.items() if row.packets}


def _as_json(at: int, seconds: int, row: PeerRow) -> dict[str, Any]:
    known = seconds > 0
    return {
        "timestamp": iso(at * 1000),
        "seconds": seconds,
        "fulfilledIn": row.fulfilled_in if known else None,
        "rejectedIn": row.rejected_in if known else None,
        "fulfilledOut": row.fulfilled_out if known else None,
        "rejectedOut": row.rejected_out if known else None,
        "amountIn": str(row.amount_in) if known else None,
        "amountOut": str(row.amount_out) if known else None,
        "codes": codes_as_json(row.codes),
    }
