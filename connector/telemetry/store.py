"""The event store: the last events on disk, for lists, single packets and balances over time.

One file in DATA_DIR with a writer thread and a reader thread. `take` queues events in memory,
bounded; they are encoded and written by the thread, twice a second in one transaction. A query
writes the queue first, so it sees all events. Nothing here delays a packet: while the disk is full
or fails, events are counted instead of kept, with one warning.

**What is kept.** `EXPLORER_MAX_EVENTS` events of `EXPLORER_RETENTION_DAYS` days in
`EXPLORER_MAX_BYTES` octets (`store_file` has the order in which they go). The key of an event is its
sequence number, which rises over all runs of the node. Balances have a table of their own, which
packets do not push out: by the second for an hour, by the minute for the rest. So have minutes of
traffic (`store_minutes`). Sinks read in the order of numbers, and learn what was deleted before
they came (`store_readers`).
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final, TypeVar

from connector.base.clock import Clock
from connector.base.disk import Database, Disk
from connector.base.errors import EnvironmentFault
from connector.base.log import Log
from connector.base.words import words_of
from connector.peering.model import Asset
from connector.telemetry import bounds, store_ids, store_minutes
from connector.telemetry.aggregates import Row
from connector.telemetry.bus import PACKET_TYPES, Emitted
from connector.telemetry.events import AccountBalance, NodeStatus
from connector.telemetry.peer_minutes import PeerRow
from connector.telemetry.store_file import (
    COARSE_S,
    CODES,
    FINE_S,
    FREQUENT,
    EventFile,
    code_of,
)
from connector.telemetry.store_minutes import Minute
from connector.telemetry.store_query import (
    EventQuery,
    Events,
    Point,
    find,
    find_text,
    history,
)
from connector.telemetry.store_readers import Losses, Reading, losses_of, wanted_codes
from connector.telemetry.store_search import Found

T = TypeVar("T")

FILE_NAME: Final = "events.sqlite"
WRITE_SECONDS: Final = 0.5
RETRY_SECONDS: Final = 5.0
WARN_AGAIN_SECONDS: Final = 600.0
_DAMAGE: Final = (sqlite3.Error, OSError, TypeError, ValueError)
"""SQLite does not enforce the types of columns: damage may show as one of the last two."""
STATUS_SECONDS: Final = 10
"""One `NODE_STATUS` per this many seconds is kept."""


class EventStore:
    """See the module. `take` is given to the bus; `run` writes."""

    def __init__(
        self,
        *,
        path: Path,
        disk: Disk,
        node_id: str,
        clock: Clock,
        log: Log,
        events_max: int,
        bytes_max: int,
        retention_days: int,
        no_room: Callable[[], str] = lambda: "",
        off_by: str = "EXPLORER_MAX_EVENTS=0",
        frequent: Sequence[str] = FREQUENT,
        rare_max: int | None = None,
        is_durable: bool = False,
    ) -> None:
        """Nothing is opened yet.

        Args:
            path: the file.
            disk: its file system.
            node_id: `nodeId` of the events.
            clock: for times of writes and the age of events.
            log: for one warning when the disk fails.
            events_max: events in the file, and balances; 0: none, and no file.
            bytes_max: octets of the file, at least `EVENT_STORE_BYTES_MIN`.
            retention_days: how long an event is kept.
            no_room: why nothing is to be written at the moment; empty: write.
            off_by: the setting by which `events_max` is 0.
            frequent: see `EventFile`, as the next two.
            rare_max: others that are kept.
            is_durable: whether a power cut loses nothing.
        """
        self.dropped = 0
        """Events that could not be kept."""
        self.fault = ""
        """Why nothing is kept at the moment; empty: events are kept."""
        self._path = path
        self._disk = disk
        self._clock = clock
        self._log = log
        self._events_max = events_max
        self._no_room = no_room
        self._writer: Database | None = None
        self._reader: Database | None = None
        self._queue: list[Emitted] = []
        self._balances: dict[str, Emitted] = {}
        """The last `ACCOUNT_BALANCE` of each peer since the last write."""
        self._minutes: list[Minute] = []
        self._status_due_ms = 0
        self._retry_at_s = 0.0
        self._warn_again_s = -WARN_AGAIN_SECONDS
        self._one_at_a_time = asyncio.Lock()
        self._file = EventFile(
            node_id=node_id,
            events_max=events_max,
            bytes_max=bytes_max,
            retention_ms=retention_days * 86_400_000,
            frequent=frequent,
            rare_max=rare_max,
            is_durable=is_durable,
        )
        self._off_by = off_by
        self._losses = Losses()
        """What readers are to be told with the next write."""
        self._written: list[Callable[[], None]] = []

    @property
    def stored(self) -> int:
        """Events in the file."""
        return self._file.stored

    @property
    def is_kept(self) -> bool:
        """Whether events are to be kept."""
        return self._events_max > 0

    @property
    def has_unwritten(self) -> bool:
        """Whether events wait for the next write."""
        return bool(self._queue)

    @property
    def octets(self) -> int:
        """Of the file's pages in use, as of the last write."""
        return self._file.octets

    @property
    def history_points(self) -> int:
        """Balances in the file."""
        return self._file.history_points

    @property
    def last_seq(self) -> int:
        """The highest number in the file when it was opened; 0: it was empty."""
        return self._file.last_seq

    # --- lifecycle

    async def open(self) -> None:
        """Open the file, if events are to be kept. Errors of the disk are reported by `fault`."""
        if not self._events_max:
            self.fault = self._off_by
            return
        try:
            await self._open_files()
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                self._failed(words_of(error))
                return
            # Not a database, or damaged. It has no money in it: rename it and start empty.
            await self._close_files()
            self._path.replace(self._path.with_name(f"{self._path.name}.damaged"))
            for suffix in ("-wal", "-shm"):
                self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)
            self._log.warning("event_store_replaced", path=str(self._path), reason=words_of(error))
            try:
                await self._open_files()
            except (OSError, sqlite3.Error) as again:
                self._failed(words_of(again))
        except OSError as error:
            self._failed(words_of(error))

    async def _open_files(self) -> None:
        writer = self._disk.database(self._path)
        self._writer = writer
        await writer.open()
        await writer.run(self._file.prepare)
        self._reader = self._disk.database(self._path, read_only=True)
        await self._reader.open()

    async def close(self) -> None:
        """Write the queue and close the file."""
        if self._writer is not None:
            self._retry_at_s = 0.0
            await self.write()
        await self._close_files()

    async def _close_files(self) -> None:
        for file in (self._reader, self._writer):
            if file is not None:
                await file.close()
        self._reader = self._writer = None

    def _failed(self, why: str) -> None:
        now_s = self._clock.monotonic_s()
        # A disk that is nearly full accepts some writes: do not warn each time.
        if not self.fault and now_s >= self._warn_again_s:
            self._warn_again_s = now_s + WARN_AGAIN_SECONDS
            self._log.warning("event_store_failed", path=str(self._path), reason=why)
        self.fault = why
        self._retry_at_s = now_s + RETRY_SECONDS

    # --- writing

    def take(self, batch: Iterable[Emitted]) -> None:
        """Queue events for the next write: the last balance of an account, a tenth of the status."""
        if not self._events_max:
            return
        for one in batch:
            event = one.event
            if type(event) is AccountBalance:
                self._balances[event.peer_id] = one
                continue
            if type(event) is NodeStatus:
                if one.at_ms < self._status_due_ms:
                    continue
                self._status_due_ms = one.at_ms + STATUS_SECONDS * 1000
            if len(self._queue) >= bounds.EVENT_STORE_QUEUE_EVENTS_MAX:
                self.dropped += 1
                self.note_lost(type(event), one.seq)
            else:
                self._queue.append(one)

    def take_minute(self, minute_s: int, peer: str, row: Row | PeerRow) -> None:
        """Queue a minute of traffic for the next write."""
        if not self._events_max:
            return
        if len(self._minutes) >= bounds.MINUTES_QUEUED_MAX:
            self.dropped += 1
        else:
            self._minutes.append(Minute(minute_s, peer, row))

    async def run(self) -> None:
        """Write twice a second until cancelled."""
        while True:
            await asyncio.sleep(WRITE_SECONDS)
            await self.write()

    async def write(self) -> None:
        """Write the queue, and delete what is beyond the limits."""
        if not self._events_max or self._clock.monotonic_s() < self._retry_at_s:
            return
        async with self._one_at_a_time:
            batch, self._queue = self._queue, []
            balances, self._balances = self._balances, {}
            batch += balances.values()
            minutes, self._minutes = self._minutes, []
            if no_room := self._no_room():
                # The room on the disk is for packets. That has an alert of its own.
                self.dropped += len(batch) + len(minutes)
                self._lose(batch)
                self.fault = no_room
                return
            losses, self._losses = self._losses, Losses()
            self._file.inserted = False
            try:
                if self._writer is None or self._reader is None:
                    await self._close_files()
                    await self._open_files()
                assert self._writer is not None
                now_ms = self._clock.now_ms()
                lost = losses if losses.counts else None
                await self._writer.run(
                    lambda file: self._file.write(file, batch, now_ms, minutes, lost)
                )
            except _DAMAGE as error:
                if not self._file.inserted:
                    self.dropped += len(batch) + len(minutes)
                    self._losses.merge(losses)
                    self._lose(batch)
                self._failed(words_of(error))
            else:
                self.fault = ""
                if batch or losses.counts:
                    for told in self._written:
                        told()

    def note_lost(self, kind: type, seq: int) -> None:
        """Count an event that never got here, for the readers."""
        if self._file.readers.wanted:
            self._losses.add(code_of(kind), seq)

    def _lose(self, batch: Iterable[Emitted]) -> None:
        if self._file.readers.wanted:
            self._losses.merge(losses_of((code_of(type(one.event)), one.seq) for one in batch))

    # --- readers that must know what they have missed

    def add_reader(
        self, name: str, types: Sequence[str] | None, written: Callable[[], None]
    ) -> None:
        """Keep the place of a reader of these types; before `open`. `written` is called after writes."""
        self._file.readers.want(name, wanted_codes(types, CODES))
        self._written.append(written)

    def pending(self, name: str) -> int:
        """Events in the file that a reader has yet to read."""
        return self._file.readers.pending(name)

    def missed(self, name: str) -> int:
        """Events that a reader has missed, of all starts, as far as it was told or is being told."""
        return self._file.readers.missed_total(name)

    async def read_next(self, name: str, *, count: int, bytes_max: int, gap_seq: int) -> Reading:
        """What comes next for a reader; see `ReaderTable.read`.

        Raises:
            EnvironmentFault: the disk fails.
        """
        now_ms = self._clock.now_ms()
        return await self._by_reader(
            lambda file: self._file.readers.read(
                file, name, count=count, bytes_max=bytes_max, gap_seq=gap_seq, now_ms=now_ms
            )
        )

    async def advance(self, name: str, seqs: Sequence[int], *, gap: bool) -> None:
        """A reader has these events, and has been told of the gap.

        Raises:
            EnvironmentFault: the disk fails.
        """
        await self._by_reader(lambda file: self._file.readers.advance(file, name, seqs, gap=gap))

    async def _by_reader(self, work: Callable[[sqlite3.Connection], T]) -> T:
        writer = self._writer
        if writer is None or self._reader is None:
            raise EnvironmentFault(f"the event store is not open: {self.fault}")
        try:
            return await writer.run(work)
        except (*_DAMAGE, KeyError) as error:
            raise EnvironmentFault(f"the event store: {words_of(error)}") from error

    # --- reading

    async def _read(self, work: Callable[[sqlite3.Connection], list[T]]) -> list[T]:
        """Write the queue, then run `work` in the reader's thread; empty where there is no file."""
        await self.write()
        if self._reader is None:
            return []
        try:
            return await self._reader.run(work)
        except _DAMAGE as error:
            self._failed(words_of(error))
            return []

    async def events(self, query: EventQuery) -> Events:
        """A page of events."""
        if query.text or query.code:
            found = await self._search(query)
            before = None if found.before is None else str(found.before)
            return Events([body for _, body in found.rows], before)
        rows = await self._read(lambda file: find(file, query))
        following = str(rows[-1][0]) if len(rows) == query.count else None
        return Events([body for _, body in rows], following)

    async def _search(self, query: EventQuery) -> Found:
        pages = await self._read(lambda file: [find_text(file, query)])
        return pages[0] if pages else Found([], None)

    async def last_packet_events(self) -> list[str]:
        """The last `VIEWER_PACKET_EVENTS_MAX` events of packets, oldest first."""
        query = EventQuery(types=PACKET_TYPES, count=bounds.VIEWER_PACKET_EVENTS_MAX)
        return (await self.events(query)).items[::-1]

    async def packet(self, packet_id: str) -> list[str]:
        """All events of a packet, oldest first."""
        return (await self.events(EventQuery(packet=packet_id, after=0, count=100))).items

    async def packets_with(self, condition: str, at_ms: int | None, count: int) -> list[list[str]]:
        """The events of each packet with a condition (`store_ids.with_condition`)."""
        return await self._read(
            lambda file: store_ids.with_condition(file, condition, at_ms, count)
        )

    async def packets_beginning(self, digits: str, count: int) -> list[list[str]]:
        """The events of each packet whose id or condition begins so (`store_ids.beginning`)."""
        return await self._read(lambda file: store_ids.beginning(file, digits, count))

    async def last_asset(self, peer: str) -> Asset | None:
        """The asset of a peer's last balance, also of a peer that was removed; None: unknown."""

        def find_last(file: sqlite3.Connection) -> list[Asset]:
            text, _ = file.execute(
                "SELECT asset, max(at_ms) FROM balances WHERE peer = ?", (peer,)
            ).fetchone()
            if text is None:
                return []
            code, _, scale = str(text).rpartition("/")
            return [Asset(code, int(scale))]

        return next(iter(await self._read(find_last)), None)

    async def history(
        self, peer: str, asset: Asset, from_ms: int, to_ms: int, points: int
    ) -> tuple[int, list[Point]]:
        """Milliseconds between points, and the balances of an account, oldest first."""
        assert points > 0
        now_s = self._clock.now_ms() // 1000
        fine = from_ms // 1000 >= now_s - bounds.HISTORY_FINE_SECONDS
        step_s = FINE_S if fine else COARSE_S
        width_s = max(step_s, -(-(to_ms - from_ms) // (1000 * points)))
        width_s = -(-width_s // step_s) * step_s
        found = await self._read(
            lambda file: history(file, peer, str(asset), from_ms, to_ms, step_s, width_s)
        )
        return width_s * 1000, found

    async def minutes(self, from_s: int) -> list[tuple[int, Row]]:
        """What passed the node in each minute since, oldest first."""
        return await self._read(lambda file: store_minutes.of_node(file, from_s))

    async def minutes_of_peers(self, from_s: int) -> list[tuple[int, str, PeerRow]]:
        """What each peer had in each minute since, oldest first."""
        rows_max = bounds.PEER_MINUTES_RESTORED_MAX
        return await self._read(lambda file: store_minutes.of_peers(file, from_s, rows_max))

    async def minutes_of_peer(self, peer: str, points: range) -> dict[int, PeerRow] | None:
        """What a peer had, by points (`PeerMinutes.window`); None: nothing is kept at the moment."""
        found = await self._read(lambda file: [store_minutes.of_peer(file, peer, points)])
        return None if self.fault or not found else found[0]
