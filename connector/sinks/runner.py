"""Delivers the events of a node to one sink, in order, from a cursor on disk.

A turn: read what comes next from the store, deliver it, put what was refused with the dead letters, move the
cursor. A turn that fails is made again after a pause, with what comes next by then. So a crash at any point
costs at most one batch that is delivered twice:

    crash after          is there         comes again
    read                 nothing          the batch
    deliver              the batch        the batch
    dead letters         the batch        the batch; refused ones replace their letters
    cursor               the batch        nothing

When the cursor cannot be moved, nothing more is delivered until it can.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Sequence
from typing import Any, Final, Protocol

from connector.base import limits
from connector.base.backoff import Backoff
from connector.base.clock import Clock
from connector.base.errors import EnvironmentFault
from connector.base.log import Log, Sampler
from connector.base.randomness import Randomness
from connector.sinks import bounds
from connector.sinks.dead import DeadCounts, DeadLetters
from connector.sinks.port import Record, Sink, SinkError
from connector.telemetry.events import iso
from connector.telemetry.store_readers import Gap, Reading

GAP_TYPE: Final = "SINK_GAP"
_PAUSE: Final = Backoff(min_s=bounds.PAUSE_SECONDS_MIN, max_s=bounds.PAUSE_SECONDS_MAX, jitter=0.3)


class Source(Protocol):
    """The part of the event store that is used here; see `telemetry.store.EventStore`."""

    def pending(self, name: str) -> int:
        """Events that a reader has yet to read."""

    def missed(self, name: str) -> int:
        """Events that it has missed."""

    async def read_next(self, name: str, *, count: int, bytes_max: int, gap_seq: int) -> Reading:
        """What comes next."""

    async def advance(self, name: str, seqs: Sequence[int], *, gap: bool) -> None:
        """Move the cursor."""


class Numbers(Protocol):
    """Numbers of events; see `telemetry.bus.EventBus`."""

    def take_number(self) -> int:
        """One that no event has."""


class Runner:
    """One sink. `run` delivers until `stop`."""

    def __init__(
        self,
        sink: Sink,
        *,
        types: Sequence[str] | None,
        type_names: dict[int, str],
        source: Source,
        numbers: Numbers,
        dead: DeadLetters,
        node_id: str,
        clock: Clock,
        randomness: Randomness,
        log: Log,
    ) -> None:
        """Nothing is delivered yet.

        Args:
            sink: where to.
            types: of events that it gets; None: all.
            type_names: names of types by their codes in the store.
            source: has the events.
            numbers: for records of gaps.
            dead: takes what is refused.
            node_id: of the node.
            clock: for pauses, and how far behind the sink is.
            randomness: for pauses.
            log: of faults.
        """
        self.sink: Final = sink
        self.types: Final = types
        self.delivered = 0
        """Events since the start of the node."""
        self.octets = 0
        """Of these."""
        self.retried = 0
        """Attempts that failed."""
        self.refused = 0
        """Events that were refused for good."""
        self.dead_counts = DeadCounts(0, 0, 0)
        self.fault = ""
        """Why the last attempt failed; empty: it did not."""
        self.failures = 0
        """Attempts in a row that failed."""
        self.last_ms: int | None = None
        """When something was delivered last."""
        self.next_ms: int | None = None
        """When it is tried again, while it fails."""
        self._names: Final = type_names
        self._source: Final = source
        self._numbers: Final = numbers
        self._dead: Final = dead
        self._node_id: Final = node_id
        self._clock: Final = clock
        self._randomness: Final = randomness
        self._log: Final = log
        self._oldest_ms: int | None = None
        """Of what is not delivered, as far as it was read."""
        self._wake = asyncio.Event()
        self._stopped = asyncio.Event()
        self._woken_ms: int | None = clock.now_ms()
        """Since when there may be more than was read; None: there is not."""
        self._said_s = -bounds.FAILURE_AGAIN_SECONDS
        self._failure_is_told = False
        self._refusals: Final = Sampler(limits.LOG_LINES_PER_SECOND_PER_EVENT_MAX)
        self._gaps: Final = Sampler(limits.LOG_LINES_PER_SECOND_PER_EVENT_MAX)
        self._looks_at_dead = True

    # --- how it is

    @property
    def lag_events(self) -> int:
        """Events that are stored and not delivered."""
        return self._source.pending(self.sink.name)

    @property
    def lag_seconds(self) -> float:
        """How old the oldest of these is; before it was read, how long it is known that there are some."""
        since_ms = self._woken_ms if self._oldest_ms is None else self._oldest_ms
        if since_ms is None or not self.lag_events:
            return 0.0
        return max(0.0, (self._clock.now_ms() - since_ms) / 1000)

    @property
    def missed(self) -> int:
        """Events that it has missed, of all starts."""
        return self._source.missed(self.sink.name)

    @property
    def state(self) -> str:
        """`failing`, `behind` or `current`."""
        if self.fault:
            return "failing"
        is_behind = (
            self.lag_events > bounds.BATCH_EVENTS_MAX
            or self.lag_seconds > bounds.BEHIND_SECONDS_MIN
        )
        return "behind" if is_behind else "current"

    # --- what others ask for

    def wake(self) -> None:
        """There may be more."""
        if self._woken_ms is None:
            self._woken_ms = self._clock.now_ms()
        self._wake.set()

    def deliver_dead_again(self) -> None:
        """Some dead letters were marked."""
        self._looks_at_dead = True
        self._wake.set()

    def stop(self) -> None:
        """End `run` after the delivery under way."""
        self._stopped.set()
        self._wake.set()

    # --- delivering

    async def run(self) -> None:
        """Deliver until `stop`; what fails is tried again. Never raises what the sink does."""
        while not self._stopped.is_set():
            self._wake.clear()
            wait_s: float | None = None
            try:
                more = await self._turn()
                self._recovered()
                if more:
                    wait_s = bounds.REST_SECONDS
            except EnvironmentFault as error:
                wait_s = self._failed(error)
            except Exception as error:  # noqa: BLE001 - whatever a library raises
                # A fault of ours or of a library: the node goes on without this sink, and tries again.
                if self.fault != type(error).__name__:
                    self._log.error("sink_broken", sink=self.sink.name, exc_info=True)
                wait_s = self._failed(SinkError(type(error).__name__))
            await self._pause(wait_s)

    async def _pause(self, wait_s: float | None) -> None:
        """Wait so many seconds, or where that is None until there may be more; not while it stops."""
        event = self._wake if wait_s is None else self._stopped
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await event.wait()

    async def _turn(self) -> bool:
        """Deliver one batch; whether there is more."""
        name = self.sink.name
        if self._looks_at_dead:
            await self._deliver_dead()
        reading = await self._source.read_next(
            name,
            count=bounds.BATCH_EVENTS_MAX,
            bytes_max=bounds.BATCH_BYTES_MAX,
            gap_seq=self._numbers.take_number(),
        )
        records = [
            Record(one.seq, one.at_ms, self._names[one.code], one.body) for one in reading.events
        ]
        self._oldest_ms = records[0].at_ms if records else None
        if not reading.has_more:
            self._woken_ms = None
        gap = reading.gap
        if gap is not None:
            records.insert(0, self._gap_record(gap))
        if not records:
            return False
        await self._deliver(records)
        await self._moved([one.seq for one in reading.events], gap)
        self.delivered += len(reading.events)
        self.octets += sum(len(one.text) for one in records)
        self.last_ms = self._clock.now_ms()
        if not reading.has_more:
            self._oldest_ms = None
        return reading.has_more

    async def _deliver(self, records: Sequence[Record]) -> None:
        """Deliver these; those that are refused are dead letters when this returns."""
        refused = await self.sink.deliver(records)
        if not refused:
            return
        gone = await self._dead.put(self.sink.name, refused, self._clock.now_ms())
        self.refused += len(refused)
        self.dead_counts = await self._dead.counts(self.sink.name)
        suppressed = self._refusals.allow(self._clock.monotonic_s())
        if suppressed is not None:
            self._log.warning(
                "sink_refused",
                sink=self.sink.name,
                events=len(refused),
                first=refused[0].record.seq,
                reason=refused[0].reason,
                letters_gone=gone,
                suppressed=suppressed,
            )

    async def _deliver_dead(self) -> None:
        """Deliver a batch of the dead letters that an operator has marked."""
        name = self.sink.name
        try:
            self.dead_counts = await self._dead.counts(name)
            due = await self._dead.due(name)
        except EnvironmentFault as error:
            # What is stored can be delivered all the same.
            self._log.warning("sink_dead_letters_unread", sink=name, reason=str(error))
            self._looks_at_dead = False
            return
        if not due:
            self._looks_at_dead = False
            return
        refused = await self.sink.deliver([one.record for one in due])
        if refused:
            await self._dead.put(name, refused, self._clock.now_ms())
        again = {one.record.seq for one in refused}
        done = [one.record.seq for one in due if one.record.seq not in again]
        await self._dead.remove(name, done)
        self.dead_counts = await self._dead.counts(name)
        self.delivered += len(done)
        self.octets += sum(len(one.record.text) for one in due if one.record.seq not in again)

    async def _moved(self, seqs: Sequence[int], gap: Gap | None) -> None:
        """Move the cursor; until that works nothing else is delivered."""
        failures = 0
        while True:
            try:
                await self._source.advance(self.sink.name, seqs, gap=gap is not None)
            except EnvironmentFault as error:
                if self._stopped.is_set():
                    raise
                failures += 1
                wait_s = self._failed(error)
                await self._pause(wait_s)
            else:
                break
        if gap is None:
            return
        suppressed = self._gaps.allow(self._clock.monotonic_s())
        if suppressed is not None:
            self._log.warning(
                "sink_missed_events",
                sink=self.sink.name,
                events=gap.missed,
                total=gap.total,
                from_seq=gap.from_seq,
                to_seq=gap.to_seq,
                suppressed=suppressed,
            )

    def _gap_record(self, gap: Gap) -> Record:
        """What takes the place of events that were missed. Counts are exact."""
        body: dict[str, Any] = {
            "type": GAP_TYPE,
            "nodeId": self._node_id,
            "seq": gap.seq,
            "timestamp": iso(gap.at_ms),
            "sink": self.sink.name,
            "missed": gap.missed,
            "missedTotal": gap.total,
            "fromSeq": gap.from_seq,
            "toSeq": gap.to_seq,
        }
        return Record(gap.seq, gap.at_ms, GAP_TYPE, json.dumps(body, separators=(",", ":")))

    # --- faults

    def _failed(self, error: EnvironmentFault) -> float:
        """Note a failure; returns how long to wait, in seconds."""
        self.retried += 1
        self.failures += 1
        self.fault = str(error)[: bounds.FAULT_CHARACTERS_MAX]
        wait_s = _PAUSE.wait_s(self.failures, self._randomness.random)
        if isinstance(error, SinkError):
            wait_s = max(wait_s, error.wait_s)
        self.next_ms = self._clock.now_ms() + int(wait_s * 1000)
        now_s = self._clock.monotonic_s()
        # One by itself is often a connection that was idle for too long.
        if self.failures > 1 and now_s >= self._said_s + bounds.FAILURE_AGAIN_SECONDS:
            self._said_s = now_s
            self._failure_is_told = True
            self._log.warning(
                "sink_failed",
                sink=self.sink.name,
                place=self.sink.place,
                reason=self.fault,
                attempts=self.failures,
                lag_events=self.lag_events,
            )
        return wait_s

    def _recovered(self) -> None:
        if self.failures and self._failure_is_told:
            self._failure_is_told = False
            self._log.info("sink_recovered", sink=self.sink.name, attempts=self.failures)
        self.failures = 0
        self.fault = ""
        self.next_ms = None
