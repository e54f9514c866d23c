"""The last events on disk, for the page: what happened, one packet, a balance over time.

A file of its own in DATA_DIR with one writer thread, and one more for readers. What comes is kept
in memory, bounded, and written twice a second in one transaction; a reader first has written what
waits, so it misses nothing. Nothing here ever holds up a packet: a disk that is full or fails turns
keeping into counting, with one warning.

**What is kept.** `EXPLORER_MAX_EVENTS` rows and `EXPLORER_RETENTION_DAYS` days. Frequent events
(packets, balances, status) make room first, so that a busy hour does not push out last week's
settlements; a tenth of the rows is for those. The sequence number of an event is its key, since it
rises over all runs of the node. Balances go into a table of their own, which a busy node does not
push out either: by the second for an hour, by the minute for the rest.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from heapq import nlargest, nsmallest
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

from connector.base.clock import Clock
from connector.base.log import Log
from connector.base.sqlite import SqliteFile, in_transaction
from connector.peering.model import Asset
from connector.telemetry import bounds
from connector.telemetry.bus import PACKET_TYPES, Emitted
from connector.telemetry.events import TYPES, AccountBalance, NodeStatus, iso

T = TypeVar("T")

FILE_NAME: Final = "events.sqlite"
WRITE_SECONDS: Final = 0.5
RETRY_SECONDS: Final = 5.0
SAY_AGAIN_SECONDS: Final = 600.0
STATUS_SECONDS: Final = 10
"""One `NODE_STATUS` in so many seconds is kept."""
SLICE_ROWS: Final = 2000
VACUUM_PAGES: Final = 500

# Numbers stand in the file: never change one, only add.
_CODES: Final = {
    "ACCOUNT_BALANCE": 1, "PACKET_RECEIVED": 2, "PACKET_FORWARDED": 3, "PACKET_FULFILLED": 4,
    "PACKET_REJECTED": 5, "PEER_CONNECTED": 6, "PEER_DISCONNECTED": 7, "ROUTE_ADDED": 8,
    "ROUTE_REMOVED": 9, "SETTLEMENT_TRIGGERED": 10, "SETTLEMENT_STARTED": 11,
    "SETTLEMENT_COMPLETED": 12, "SETTLEMENT_FAILED": 13, "ACCOUNTING_STATE": 14,
    "NODE_STATUS": 15, "ADMIN_ACTION": 16,
}  # fmt: skip
_FREQUENT: Final = tuple(_CODES[name] for name in ("ACCOUNT_BALANCE", *PACKET_TYPES, "NODE_STATUS"))
_IS_FREQUENT: Final = f"type IN ({','.join(map(str, _FREQUENT))})"

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS events (
    seq INTEGER PRIMARY KEY, at_ms INTEGER NOT NULL, type INTEGER NOT NULL,
    peer TEXT, hop TEXT, packet BLOB, body TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS events_by_type ON events (type);
CREATE INDEX IF NOT EXISTS events_by_peer ON events (peer, type) WHERE peer IS NOT NULL;
CREATE INDEX IF NOT EXISTS events_by_hop ON events (hop, type) WHERE hop IS NOT NULL;
CREATE INDEX IF NOT EXISTS events_by_packet ON events (packet) WHERE packet IS NOT NULL;
CREATE TABLE IF NOT EXISTS balances (
    step_s INTEGER, bucket_s INTEGER, peer TEXT, asset TEXT, at_ms INTEGER NOT NULL,
    net TEXT NOT NULL, debit TEXT NOT NULL, credit TEXT NOT NULL,
    pending_debits TEXT NOT NULL, pending_credits TEXT NOT NULL,
    PRIMARY KEY (step_s, bucket_s, peer, asset)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS balances_by_peer ON balances (peer, asset, step_s, bucket_s);
"""
_FINE_S: Final = 1
_COARSE_S: Final = 60

_Row = tuple[int, int, int, str | None, str | None, bytes | None, str]


@dataclass(slots=True, frozen=True, kw_only=True)
class EventQuery:
    """Which events; None: any."""

    types: Sequence[str] | None = None
    peer: str | None = None
    """As sender or as next hop."""
    packet: str | None = None
    """32 hex digits."""
    from_ms: int | None = None
    to_ms: int | None = None
    before: int | None = None
    """Only those with a lower sequence number, newest first."""
    after: int | None = None
    """Only those with a higher one; the answer is oldest first then."""
    count: int = 100


class Events(NamedTuple):
    """Events as JSON, and where the next page begins."""

    items: list[str]
    next: str | None


class Point(NamedTuple):
    """A balance at a time, as the store has it."""

    at_ms: int
    net: str
    debit: str
    credit: str
    pending_debits: str
    pending_credits: str

    def as_json(self) -> dict[str, str]:
        """With the names of `ACCOUNT_BALANCE`."""
        return {
            "timestamp": iso(self.at_ms),
            "netBalance": self.net,
            "debitBalance": self.debit,
            "creditBalance": self.credit,
            "pendingDebits": self.pending_debits,
            "pendingCredits": self.pending_credits,
        }


class EventStore:
    """See the module. `take` is given to the bus; `run` writes."""

    def __init__(
        self,
        *,
        path: Path,
        node_id: str,
        clock: Clock,
        log: Log,
        events_max: int,
        retention_days: int,
    ) -> None:
        self.dropped = 0
        """Events that could not be kept."""
        self.stored = 0
        """Events in the file."""
        self.history_points = 0
        """Balances in the file."""
        self.last_seq = 0
        """The highest number in the file when it was opened."""
        self.fault = ""
        """Why nothing is kept just now; empty: it is."""
        self._path = path
        self._node_id = node_id
        self._clock = clock
        self._log = log
        self._events_max = events_max
        self._retention_ms = retention_days * 86_400_000
        self._writer: SqliteFile | None = None
        self._reader: SqliteFile | None = None
        self._rows: list[_Row] = []
        self._balances: dict[str, Emitted] = {}
        self._status_due_ms = 0
        self._retry_at_s = 0.0
        self._say_again_s = -SAY_AGAIN_SECONDS
        self._one_at_a_time = asyncio.Lock()
        # Of the file, known to the writer's thread.
        self._rare = 0
        self._buckets: dict[tuple[int, str, str], int] = {}
        self._floor = 0

    # --- life

    async def open(self) -> None:
        """Open the file, if events are to be kept at all. Never raises: see `fault`."""
        if not self._events_max:
            self.fault = "EXPLORER_MAX_EVENTS=0"
            return
        try:
            await self._open_files()
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                self._failed(str(error))
                return
            # Not a database, or damaged: what it held was for looking at. Keep it, begin anew.
            await self._close_files()
            self._path.replace(self._path.with_name(f"{self._path.name}.damaged"))
            for suffix in ("-wal", "-shm"):
                self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)
            self._log.warning("event_store_replaced", path=str(self._path), reason=str(error))
            try:
                await self._open_files()
            except (OSError, sqlite3.Error) as again:
                self._failed(str(again))
        except OSError as error:
            self._failed(str(error))

    async def _open_files(self) -> None:
        writer = SqliteFile(self._path)
        self._writer = writer
        await writer.open()
        await writer.run(self._prepare)
        self._reader = SqliteFile(self._path, read_only=True)
        await self._reader.open()

    def _prepare(self, connection: sqlite3.Connection) -> None:
        # For looking at: the last moments before a power cut may be lost.
        connection.execute("PRAGMA synchronous=NORMAL")
        if connection.execute("PRAGMA auto_vacuum").fetchone()[0] != 2:
            connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
            connection.execute("VACUUM")
        connection.executescript(_SCHEMA)
        counts = dict(connection.execute("SELECT type, count(*) FROM events GROUP BY type"))
        self.stored = sum(counts.values())
        self._rare = sum(count for code, count in counts.items() if code not in _FREQUENT)
        self.history_points = connection.execute("SELECT count(*) FROM balances").fetchone()[0]
        self.last_seq = connection.execute("SELECT max(seq) FROM events").fetchone()[0] or 0

    async def close(self) -> None:
        """Write what waits and let go of the file."""
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
        # A disk that is nearly full takes a little now and then: not a line for each time.
        if not self.fault and now_s >= self._say_again_s:
            self._say_again_s = now_s + SAY_AGAIN_SECONDS
            self._log.warning("event_store_failed", path=str(self._path), reason=why)
        self.fault = why
        self._retry_at_s = now_s + RETRY_SECONDS

    # --- writing

    def take(self, batch: Iterable[Emitted]) -> None:
        """Keep these with the next write. Of balances the last of an account, of status a tenth."""
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
            if len(self._rows) >= bounds.EVENT_STORE_QUEUE_EVENTS_MAX:
                self.dropped += 1
            else:
                self._rows.append(self._row(one))

    def _row(self, one: Emitted) -> _Row:
        event = one.event
        packet_id: int | None = getattr(event, "packet_id", None)
        return (
            one.seq,
            one.at_ms,
            _CODES[TYPES[type(event)]],
            getattr(event, "peer_id", None),
            getattr(event, "next_hop", None),
            None if packet_id is None else packet_id.to_bytes(16, "big"),
            one.text(self._node_id),
        )

    async def run(self) -> None:
        """Write twice a second until cancelled."""
        while True:
            await asyncio.sleep(WRITE_SECONDS)
            await self.write()

    async def write(self) -> None:
        """Write what waits, and let go of what is beyond the caps."""
        if not self._events_max or self._clock.monotonic_s() < self._retry_at_s:
            return
        async with self._one_at_a_time:
            rows, self._rows = self._rows, []
            balances, self._balances = self._balances, {}
            rows += [self._row(one) for one in balances.values()]
            try:
                if self._writer is None or self._reader is None:
                    await self._close_files()
                    await self._open_files()
                assert self._writer is not None
                now_ms = self._clock.now_ms()
                await self._writer.run(lambda file: self._write(file, rows, balances, now_ms))
            except (sqlite3.Error, OSError) as error:
                self.dropped += len(rows)
                self._failed(str(error))
            else:
                self.fault = ""

    def _write(
        self,
        connection: sqlite3.Connection,
        rows: list[_Row],
        balances: dict[str, Emitted],
        now_ms: int,
    ) -> None:
        """In the writer's thread."""
        if rows:
            in_transaction(connection, lambda file: self._insert(file, rows, balances))
            self.stored += len(rows)
            self._rare += sum(row[2] not in _FREQUENT for row in rows)
        self._trim(connection, now_ms)

    def _insert(
        self, connection: sqlite3.Connection, rows: list[_Row], balances: dict[str, Emitted]
    ) -> None:
        # A clock that was set back would give numbers that are taken: the later run wins.
        connection.executemany("INSERT OR REPLACE INTO events VALUES (?,?,?,?,?,?,?)", rows)
        points: list[tuple[Any, ...]] = []
        for one in balances.values():
            event = one.event
            assert isinstance(event, AccountBalance)
            for step_s in (_FINE_S, _COARSE_S):
                bucket_s = one.at_ms // 1000 // step_s * step_s
                asset = f"{event.asset_code}/{event.asset_scale}"
                points.append(
                    (
                        step_s, bucket_s, event.peer_id, asset, one.at_ms,
                        str(event.net_balance), str(event.debit_balance),
                        str(event.credit_balance), str(event.pending_debits),
                        str(event.pending_credits),
                    )
                )  # fmt: skip
        connection.executemany(
            "INSERT OR REPLACE INTO balances VALUES (?,?,?,?,?,?,?,?,?,?)", points
        )
        for step_s, bucket_s, peer, asset, *_ in points:
            if self._buckets.get((step_s, peer, asset)) != bucket_s:
                self._buckets[step_s, peer, asset] = bucket_s
                self.history_points += 1

    # --- caps

    def _trim(self, connection: sqlite3.Connection, now_ms: int) -> None:
        """Delete what is beyond the caps, in slices that are a transaction each."""
        oldest_ms = now_ms - self._retention_ms
        self._trim_old(connection, oldest_ms)
        self._trim_frequent(connection)
        self._trim_rare(connection)
        self._trim_history(connection, now_ms // 1000, oldest_ms // 1000)
        free = connection.execute("PRAGMA freelist_count").fetchone()[0]
        if free > VACUUM_PAGES:
            # `execute` would stop after the first page.
            connection.executescript(f"PRAGMA incremental_vacuum({VACUUM_PAGES})")

    def _trim_old(self, connection: sqlite3.Connection, oldest_ms: int) -> None:
        first = connection.execute("SELECT at_ms FROM events ORDER BY seq LIMIT 1").fetchone()
        if first is None or first[0] >= oldest_ms:
            return
        slice_ = f"(SELECT seq FROM events ORDER BY seq LIMIT {SLICE_ROWS})"
        gone = f"seq IN {slice_} AND at_ms < {oldest_ms}"
        rare = connection.execute(
            f"SELECT count(*) FROM events WHERE {gone} AND NOT {_IS_FREQUENT}"
        ).fetchone()[0]
        self.stored -= connection.execute(f"DELETE FROM events WHERE {gone}").rowcount
        self._rare -= rare

    def _trim_frequent(self, connection: sqlite3.Connection) -> None:
        """The oldest of the frequent: below `_floor` there are none any more."""
        while (excess := self.stored - self._events_max) > 0:
            last = connection.execute(
                "SELECT max(seq) FROM (SELECT seq FROM events WHERE seq > ? ORDER BY seq LIMIT ?)",
                (self._floor, min(excess, SLICE_ROWS)),
            ).fetchone()[0]
            if last is None:
                self._floor = 0
                return
            self.stored -= connection.execute(
                f"DELETE FROM events WHERE seq > ? AND seq <= ? AND {_IS_FREQUENT}",
                (self._floor, last),
            ).rowcount
            self._floor = last

    def _trim_rare(self, connection: sqlite3.Connection) -> None:
        excess = self._rare - max(1, self._events_max // 10)
        if excess <= 0:
            return
        deleted = connection.execute(
            "DELETE FROM events WHERE seq IN (SELECT seq FROM events "
            f"WHERE NOT {_IS_FREQUENT} ORDER BY seq LIMIT ?)",
            (min(excess, SLICE_ROWS),),
        ).rowcount
        self.stored -= deleted
        self._rare -= deleted

    def _trim_history(self, connection: sqlite3.Connection, now_s: int, oldest_s: int) -> None:
        excess = self.history_points - self._events_max
        for step_s, before_s in (
            (_FINE_S, now_s - bounds.HISTORY_FINE_SECONDS),
            (_COARSE_S, oldest_s),
        ):
            first = connection.execute(
                "SELECT min(bucket_s) FROM balances WHERE step_s = ?", (step_s,)
            ).fetchone()[0]
            if first is None or (first >= before_s and excess <= 0):
                continue
            deleted = connection.execute(
                "DELETE FROM balances WHERE (step_s, bucket_s, peer, asset) IN ("
                "SELECT step_s, bucket_s, peer, asset FROM balances WHERE step_s = ? "
                "AND bucket_s < ? ORDER BY bucket_s LIMIT ?)",
                (step_s, now_s if excess > 0 else before_s, SLICE_ROWS),
            ).rowcount
            self.history_points -= deleted
            excess -= deleted

    # --- reading

    async def _read(self, work: Callable[[sqlite3.Connection], list[T]]) -> list[T]:
        """`work` with all that was taken so far in the file; nothing if there is no file."""
        await self.write()
        if self._reader is None:
            return []
        try:
            return await self._reader.run(work)
        except (sqlite3.Error, OSError) as error:
            self._failed(str(error))
            return []

    async def events(self, query: EventQuery) -> Events:
        """A page of events."""
        rows = await self._read(lambda file: _find(file, query))
        following = str(rows[-1][0]) if len(rows) == query.count else None
        return Events([body for _, body in rows], following)

    async def last_packet_events(self) -> list[str]:
        """As many as a new viewer is shown, oldest first."""
        query = EventQuery(types=PACKET_TYPES, count=bounds.VIEWER_PACKET_EVENTS_MAX)
        return (await self.events(query)).items[::-1]

    async def packet(self, packet_id: str) -> list[str]:
        """All events of a packet, oldest first."""
        return (await self.events(EventQuery(packet=packet_id, after=0, count=100))).items

    async def last_asset(self, peer: str) -> Asset | None:
        """In what a peer, which may be no more, had its last balance."""
        rows = await self._read(
            lambda file: file.execute(
                "SELECT asset, max(at_ms) FROM balances WHERE peer = ?", (peer,)
            ).fetchall()
        )
        text = rows[0][0] if rows else None
        if text is None:
            return None
        code, _, scale = text.rpartition("/")
        return Asset(code, int(scale))

    async def history(
        self, peer: str, asset: Asset, from_ms: int, to_ms: int, points: int
    ) -> tuple[int, list[Point]]:
        """Milliseconds between points, and the balances of an account, oldest first."""
        now_s = self._clock.now_ms() // 1000
        fine = from_ms // 1000 >= now_s - bounds.HISTORY_FINE_SECONDS
        step_s = _FINE_S if fine else _COARSE_S
        width_s = max(step_s, -(-(to_ms - from_ms) // (1000 * points)))
        width_s = -(-width_s // step_s) * step_s
        found = await self._read(
            lambda file: _history(file, peer, str(asset), from_ms, to_ms, step_s, width_s)
        )
        return width_s * 1000, found


def _find(connection: sqlite3.Connection, query: EventQuery) -> list[tuple[int, str]]:
    """Numbers and bodies of a page.

    Every index holds one type after the other; so each type is asked for its next few and the best
    of all are taken, which costs the same however many events there are.
    """
    forward = query.after is not None
    low = max(query.after or 0, _seq_at(connection, query.from_ms, 0))
    high = min(
        _SEQ_MAX if query.before is None else query.before - 1,
        _seq_at(connection, None if query.to_ms is None else query.to_ms + 1, _SEQ_MAX),
    )
    order = f"ORDER BY seq {'ASC' if forward else 'DESC'} LIMIT ?"
    bounds = (low, high, query.count)
    codes = [_CODES[name] for name in query.types] if query.types is not None else None
    if query.packet is not None:
        where = "packet = ?"
        values: tuple[Any, ...] = (bytes.fromhex(query.packet),)
        if query.peer is not None:
            where, values = f"{where} AND ? IN (peer, hop)", (*values, query.peer)
        if codes is not None:
            where += f" AND type IN ({','.join(map(str, codes))})"
        return connection.execute(
            f"SELECT seq, body FROM events WHERE {where} AND seq > ? AND seq <= ? {order}",
            (*values, *bounds),
        ).fetchall()
    if codes is None and query.peer is None:
        return connection.execute(
            f"SELECT seq, body FROM events WHERE seq > ? AND seq <= ? {order}", bounds
        ).fetchall()
    found: set[int] = set()
    for code in _CODES.values() if codes is None else codes:
        if query.peer is None:
            found.update(_seqs(connection, "type = ?", (code,), bounds, order))
            continue
        for column in ("peer", "hop"):
            where = f"{column} = ? AND type = ?"
            found.update(_seqs(connection, where, (query.peer, code), bounds, order))
    best = nsmallest(query.count, found) if forward else nlargest(query.count, found)
    return [
        connection.execute("SELECT seq, body FROM events WHERE seq = ?", (seq,)).fetchone()
        for seq in best
    ]


_SEQ_MAX: Final = (1 << 63) - 1


def _seqs(
    connection: sqlite3.Connection,
    where: str,
    values: tuple[Any, ...],
    bounds: tuple[int, int, int],
    order: str,
) -> Iterator[int]:
    rows = connection.execute(
        f"SELECT seq FROM events WHERE {where} AND seq > ? AND seq <= ? {order}",
        (*values, *bounds),
    )
    return (row[0] for row in rows)


def _seq_at(connection: sqlite3.Connection, at_ms: int | None, otherwise: int) -> int:
    """The highest number below that of the first event not before `at_ms`.

    Times rise with numbers as long as nobody sets the clock: found by halving.
    """
    if at_ms is None:
        return otherwise
    # Asked for both at once, SQLite would read the whole table.
    low = connection.execute("SELECT min(seq) FROM events").fetchone()[0]
    high = connection.execute("SELECT max(seq) FROM events").fetchone()[0]
    if low is None:
        return 0
    high += 1  # the answer lies in [low, high]
    while low < high:
        middle = (low + high) // 2
        row = connection.execute(
            "SELECT seq, at_ms FROM events WHERE seq >= ? ORDER BY seq LIMIT 1", (middle,)
        ).fetchone()
        if row is None or row[1] >= at_ms:
            high = middle
        else:
            low = row[0] + 1
    return int(low) - 1


def _history(
    connection: sqlite3.Connection,
    peer: str,
    asset: str,
    from_ms: int,
    to_ms: int,
    step_s: int,
    width_s: int,
) -> list[Point]:
    columns = "net, debit, credit, pending_debits, pending_credits"
    account = (peer, asset)
    earlier = [
        connection.execute(
            f"SELECT at_ms, {columns} FROM balances WHERE peer = ? AND asset = ? AND step_s = ? "
            "AND bucket_s <= ? AND at_ms < ? ORDER BY bucket_s DESC LIMIT 1",
            (*account, step, from_ms // 1000, from_ms),
        ).fetchone()
        for step in (_FINE_S, _COARSE_S)
    ]
    before = max((row for row in earlier if row is not None), default=None)
    rows = connection.execute(
        # With max() SQLite takes the other columns from the row that has it.
        f"SELECT max(at_ms), {columns} FROM balances WHERE peer = ? AND asset = ? AND step_s = ? "
        "AND bucket_s >= ? AND bucket_s <= ? AND at_ms >= ? AND at_ms <= ? "
        "GROUP BY bucket_s / ? ORDER BY bucket_s",
        (
            *account, step_s, from_ms // 1000 - step_s, to_ms // 1000, from_ms, to_ms,
            width_s,
        ),
    ).fetchall()  # fmt: skip
    points = [Point(*row) for row in rows]
    if before is not None and (not points or points[0].at_ms > from_ms):
        points.insert(0, Point(*before)._replace(at_ms=from_ms))
    return points
