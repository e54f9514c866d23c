"""The way of events from whoever knows something to viewers and the event store.

`emit` is cheap, synchronous and never waits: it numbers the event and keeps it for the next flush.
`run` flushes 20 times a second: what gathered is encoded once for all viewers, whose queues are
bounded, and handed to the store. Telemetry may be lost, and says how much; the books may not.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from json import JSONEncoder
from typing import Final, NamedTuple

from connector.base import limits
from connector.base.clock import Clock
from connector.base.log import Log
from connector.telemetry import bounds
from connector.telemetry.events import (
    TYPES,
    Event,
    PacketForwarded,
    PacketFulfilled,
    PacketReceived,
    PacketRejected,
    as_json,
)

FLUSH_SECONDS: Final = 0.05
PACKET_EVENTS: Final = (PacketReceived, PacketForwarded, PacketFulfilled, PacketRejected)
PACKET_TYPES: Final = tuple(TYPES[kind] for kind in PACKET_EVENTS)

_encode: Final = JSONEncoder(separators=(",", ":")).encode


class Emitted:
    """An event with its number and time."""

    __slots__ = ("_text", "at_ms", "event", "seq")

    def __init__(self, seq: int, at_ms: int, event: Event) -> None:
        self.seq = seq
        self.at_ms = at_ms
        self.event = event
        self._text = ""

    def text(self, node_id: str) -> str:
        """Its JSON; made once, and only for whoever wants it."""
        if not self._text:
            self._text = _encode(
                as_json(self.event, node_id=node_id, seq=self.seq, at_ms=self.at_ms)
            )
        return self._text


class Frame(NamedTuple):
    """One message to viewers, encoded."""

    seq: int
    """Of the last event in it."""
    text: str


def frame(seq: int, texts: Sequence[str]) -> Frame:
    """A message with these events."""
    return Frame(seq, f'{{"seq":{seq},"events":[{",".join(texts)}]}}')


class Viewer:
    """What waits to be sent to one viewer. Bounded: the oldest makes room, and that is told."""

    def __init__(self) -> None:
        self.dropped = 0
        self._frames: deque[Frame] = deque()
        self._bytes = 0
        self._gap_seq = 0
        self._more = asyncio.Event()

    def put(self, frame: Frame) -> None:
        """Queue a message; the text is the same object for every viewer."""
        self._frames.append(frame)
        self._bytes += len(frame.text)
        while len(self._frames) > bounds.VIEWER_FRAMES_MAX or self._bytes > limits.VIEWER_BYTES_MAX:
            oldest = self._frames.popleft()
            self._bytes -= len(oldest.text)
            self._gap_seq = oldest.seq
            self.dropped += 1
        self._more.set()

    def tell_gap(self, seq: int) -> None:
        """Events up to `seq` were lost before they came here."""
        self._gap_seq = seq
        self._more.set()

    def clear(self) -> None:
        """Forget what waits."""
        self._frames.clear()
        self._bytes = 0

    async def next(self) -> str:
        """The next message, as soon as there is one."""
        while not self._frames and not self._gap_seq:
            self._more.clear()
            await self._more.wait()
        if self._gap_seq:
            seq, self._gap_seq = self._gap_seq, 0
            return f'{{"seq":{seq},"events":[],"gap":true}}'
        frame = self._frames.popleft()
        self._bytes -= len(frame.text)
        return frame.text


class EventBus:
    """One per node."""

    def __init__(self, *, node_id: str, clock: Clock) -> None:
        self.node_id: Final = node_id
        self.dropped = 0
        """Events that came faster than they could be flushed."""
        self.frames_dropped = 0
        """Messages that viewers, who have left since, did not read in time."""
        self.viewers_dropped = 0
        """Viewers that were let go of, because they did not read at all."""
        # Microseconds since the epoch: so numbers go on rising when the node is started again, and
        # one number tells an event of any run, with nothing to be kept for it.
        self.seq = clock.now_ms() * 1000
        """Of the last event."""
        self.recent_packets: deque[str] = deque(maxlen=bounds.VIEWER_PACKET_EVENTS_MAX)
        """The last `PACKET_*` events as JSON, oldest first."""
        self._clock = clock
        self._pending: deque[Emitted] = deque()
        self._lost_seq = 0
        self._ring: deque[Emitted] = deque(maxlen=bounds.TELEMETRY_RING_EVENTS_MAX)
        self._viewers: set[Viewer] = set()
        self._sources: list[Callable[[], None]] = []
        self._takers: list[Callable[[Sequence[Emitted]], None]] = []

    def number_from(self, seq: int) -> None:
        """Go on above `seq`: what is stored of earlier runs, even if the clock was set back."""
        self.seq = max(self.seq, seq)

    # --- from whoever knows something

    def emit(self, event: Event) -> None:
        """Give the event a number and a time, and pass it on with the next flush."""
        self.seq = seq = self.seq + 1
        pending = self._pending
        if len(pending) >= bounds.TELEMETRY_RING_EVENTS_MAX:
            self._lost_seq = pending.popleft().seq
            self.dropped += 1
        pending.append(Emitted(seq, self._clock.now_ms(), event))

    def ask_before_flush(self, source: Callable[[], None]) -> None:
        """Let `source` emit what it has gathered, before every flush."""
        self._sources.append(source)

    # --- to store and viewers

    def hand_to(self, taker: Callable[[Sequence[Emitted]], None]) -> None:
        """Give everything that is flushed to `taker`, which must not wait."""
        self._takers.append(taker)

    @property
    def viewers(self) -> int:
        """How many there are."""
        return len(self._viewers)

    def join(self, since: int | None) -> tuple[Viewer, Frame | None]:
        """A new viewer, and what it has missed since `since`; None: more than is remembered.

        All events after that, or after this moment, come to the viewer.
        """
        self.flush()
        missed = None if since is None else self._missed(since)
        viewer = Viewer()
        self._viewers.add(viewer)
        return viewer, missed

    def leave(self, viewer: Viewer) -> None:
        """It does not look any more. Safe to call twice."""
        if viewer in self._viewers:
            self._viewers.remove(viewer)
            self.frames_dropped += viewer.dropped

    def frames_dropped_total(self) -> int:
        """Messages that viewers did not read in time."""
        return self.frames_dropped + sum(viewer.dropped for viewer in self._viewers)

    def _missed(self, since: int) -> Frame | None:
        ring = self._ring
        first = ring[0].seq if ring else self.seq + 1
        if not first - 1 <= since <= self.seq:
            return None
        return frame(self.seq, [one.text(self.node_id) for one in ring if one.seq > since])

    def remembered(self) -> Sequence[Emitted]:
        """The last events, oldest first."""
        self.flush()
        return self._ring

    def flush(self) -> None:
        """Pass on what gathered. Without anything new it does nothing."""
        if not self._pending:
            return
        batch = list(self._pending)
        self._pending.clear()
        if self._lost_seq:
            self._tell_lost()
        self._ring.extend(batch)
        node_id = self.node_id
        for one in batch:
            if isinstance(one.event, PACKET_EVENTS):
                self.recent_packets.append(one.text(node_id))
        for taker in self._takers:
            taker(batch)
        if not self._viewers:
            return
        for at in range(0, len(batch), bounds.VIEWER_FRAME_EVENTS_MAX):
            part = batch[at : at + bounds.VIEWER_FRAME_EVENTS_MAX]
            message = frame(part[-1].seq, [one.text(node_id) for one in part])
            for viewer in self._viewers:
                viewer.put(message)

    def _tell_lost(self) -> None:
        for viewer in self._viewers:
            viewer.tell_gap(self._lost_seq)
        self._lost_seq = 0
        self._ring.clear()  # nobody can resume over the gap

    async def run(self, log: Log) -> None:
        """Flush until cancelled. A fault in what only watches must not stop what it watches."""
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            try:
                for source in self._sources:
                    source()
                self.flush()
            except Exception:
                log.error("telemetry_failed", exc_info=True)  # noqa: G201 - a structured log
                await asyncio.sleep(1.0)
