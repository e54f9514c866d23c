"""Carries events from their sources to viewers and the event store.

`emit` is cheap, synchronous and never waits: it numbers the event and keeps it for the next flush.
`run` flushes 20 times a second. An event is encoded when its text is first needed, and once: with
viewers by the flush, for all of them; without, by the thread of the event store. Queues of viewers
are bounded. Events may be lost; the losses are counted.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
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
    encode,
)

FLUSH_SECONDS: Final = 0.05
PACKET_EVENTS: Final = (PacketReceived, PacketForwarded, PacketFulfilled, PacketRejected)
PACKET_TYPES: Final = tuple(TYPES[kind] for kind in PACKET_EVENTS)


class Emitted:
    """An event with its number and time."""

    __slots__ = ("_text", "at_ms", "event", "seq")

    def __init__(self, seq: int, at_ms: int, event: Event) -> None:
        self.seq = seq
        self.at_ms = at_ms
        self.event = event
        self._text = ""

    def text(self, node_id: str) -> str:
        """The event as JSON, encoded on the first call.

        Thread-safe: concurrent calls give the same text.
        """
        text = self._text
        if not text:
            text = encode(self.event, node_id=node_id, seq=self.seq, at_ms=self.at_ms)
            self._text = text
        return text


class Frame(NamedTuple):
    """One message to viewers, as JSON."""

    seq: int
    """Of the last event in it."""
    text: str


def frame(seq: int, texts: Sequence[str]) -> Frame:
    """A message with these events."""
    return Frame(seq, f'{{"seq":{seq},"events":[{",".join(texts)}]}}')


class Viewer:
    """Messages queued for one viewer. Bounded: the oldest are dropped, and the viewer is notified."""

    def __init__(self) -> None:
        self.dropped = 0
        self._frames: deque[Frame] = deque()
        self._bytes = 0
        self._gap_seq = 0
        self._has_ended = False
        self._more = asyncio.Event()

    def put(self, frame: Frame) -> None:
        """Queue a message. All viewers share its text."""
        self._frames.append(frame)
        self._bytes += len(frame.text)
        while len(self._frames) > bounds.VIEWER_FRAMES_MAX or self._bytes > limits.VIEWER_BYTES_MAX:
            oldest = self._frames.popleft()
            self._bytes -= len(oldest.text)
            self._gap_seq = oldest.seq
            self.dropped += 1
        self._more.set()

    def tell_gap(self, seq: int) -> None:
        """Tell the viewer that events up to `seq` were lost before they were queued."""
        self._gap_seq = seq
        self._more.set()

    def clear(self) -> None:
        """Drop all queued messages."""
        self._frames.clear()
        self._bytes = 0

    def end(self) -> None:
        """Tell the viewer that its place is needed for another. It has left the bus."""
        self.clear()
        self._has_ended = True
        self._more.set()

    async def next(self) -> str:
        """The next message; waits for one. Empty: there are no more, since `end` was called."""
        while not self._frames and not self._gap_seq and not self._has_ended:
            self._more.clear()
            await self._more.wait()
        if self._has_ended:
            return ""
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
        """Events emitted faster than they were flushed."""
        self.frames_dropped = 0
        """Messages that viewers which have left did not read in time."""
        self.viewers_dropped = 0
        """Viewers disconnected because they did not read at all."""
        # Starts at the microseconds since the epoch: numbers keep rising over restarts, so one
        # number identifies an event of any run without a counter on disk.
        self.seq = clock.now_ms() * 1000
        """Of the last event."""
        self._recent_packets: deque[Emitted | str] = deque(maxlen=bounds.VIEWER_PACKET_EVENTS_MAX)
        self._clock = clock
        self._pending: deque[Emitted] = deque()
        self._lost_seq = 0
        self._ring: deque[Emitted] = deque(maxlen=bounds.TELEMETRY_RING_EVENTS_MAX)
        self._viewers: set[Viewer] = set()
        self._sources: list[Callable[[], None]] = []
        self._takers: list[Callable[[Sequence[Emitted]], None]] = []
        self._on_lost: Callable[[type, int], None] | None = None

    def number_from(self, seq: int) -> None:
        """Continue above `seq`, the last stored number, even if the clock was set back."""
        self.seq = max(self.seq, seq)

    def remember_packets(self, texts: Iterable[str]) -> None:
        """Start with these `PACKET_*` events of earlier runs, as JSON, oldest first."""
        self._recent_packets.extend(texts)

    # --- from the sources

    def emit(self, event: Event) -> None:
        """Number the event and keep it for the next flush."""
        self.seq = seq = self.seq + 1
        pending = self._pending
        if len(pending) >= bounds.TELEMETRY_RING_EVENTS_MAX:
            lost = pending.popleft()
            self._lost_seq = lost.seq
            self.dropped += 1
            if self._on_lost is not None:
                self._on_lost(type(lost.event), lost.seq)
        pending.append(Emitted(seq, self._clock.now_ms(), event))

    def ask_before_flush(self, source: Callable[[], None]) -> None:
        """Call `source` before every flush, to emit what it has gathered."""
        self._sources.append(source)

    # --- to store and viewers

    def hand_to(self, taker: Callable[[Sequence[Emitted]], None]) -> None:
        """Pass every flushed event to `taker`, which must not block."""
        self._takers.append(taker)

    def take_number(self) -> int:
        """A number for a record that is no event of the node."""
        self.seq += 1
        return self.seq

    def tell_lost(self, on_lost: Callable[[type, int], None]) -> None:
        """Call `on_lost` with the type and the number of each event that was dropped; must not block."""
        self._on_lost = on_lost

    @property
    def viewers(self) -> int:
        """How many viewers there are."""
        return len(self._viewers)

    def recent_packets(self) -> list[str]:
        """The last `PACKET_*` events as JSON, oldest first."""
        return [
            one if isinstance(one, str) else one.text(self.node_id) for one in self._recent_packets
        ]

    def join(self, since: int | None) -> tuple[Viewer, Frame | None]:
        """Add a viewer; returns it with the events after number `since`.

        Missed events are None when `since` is None or older than the ring. All later events are
        queued for the viewer.
        """
        self.flush()
        missed = None if since is None else self._missed(since)
        viewer = Viewer()
        self._viewers.add(viewer)
        return viewer, missed

    def leave(self, viewer: Viewer) -> None:
        """Remove a viewer. Safe to call twice."""
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
        """The last events, at most `TELEMETRY_RING_EVENTS_MAX`, oldest first."""
        self.flush()
        return self._ring

    def flush(self) -> None:
        """Pass on all events since the last flush."""
        if not self._pending:
            return
        batch = list(self._pending)
        self._pending.clear()
        if self._lost_seq:
            self._tell_lost()
        self._ring.extend(batch)
        self._recent_packets.extend(one for one in batch if isinstance(one.event, PACKET_EVENTS))
        for taker in self._takers:
            taker(batch)
        if not self._viewers:
            return
        node_id = self.node_id
        for at in range(0, len(batch), bounds.VIEWER_FRAME_EVENTS_MAX):
            part = batch[at : at + bounds.VIEWER_FRAME_EVENTS_MAX]
            message = frame(part[-1].seq, [one.text(node_id) for one in part])
            for viewer in self._viewers:
                viewer.put(message)

    def _tell_lost(self) -> None:
        for viewer in self._viewers:
            viewer.tell_gap(self._lost_seq)
        self._lost_seq = 0
        self._ring.clear()  # no viewer can resume across the gap

    async def run(self, log: Log) -> None:
        """Flush until cancelled. An error here is logged: telemetry must not stop the node."""
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            try:
                for source in self._sources:
                    source()
                self.flush()
            except Exception:
                log.error("telemetry_failed", exc_info=True)  # noqa: G201 - a structured log
                await asyncio.sleep(1.0)
