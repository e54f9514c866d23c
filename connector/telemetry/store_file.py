"""The event store's file: its schema, inserts, and the limits on its size.

Everything here runs in the writer's thread.

**Limits.** At most `events_max` events and as many balances, none older than `retention_ms`, and at
most `bytes_max` octets, of which minutes of traffic (`store_minutes`) take a quarter at most. The oldest frequent events (packets, balances, status) are deleted first, so
that a busy hour does not remove last week's settlements; a tenth of `events_max` is for those.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from itertools import count
from typing import Any, Final

from connector.base.sqlite import in_transaction
from connector.telemetry import bounds
from connector.telemetry.bus import PACKET_TYPES, Emitted
from connector.telemetry.events import TYPES, AccountBalance
from connector.telemetry.store_minutes import Minute, MinuteTable
from connector.telemetry.store_readers import Losses, ReaderTable

ROWS_PER_STATEMENT: Final = 100
"""One statement for so many rows takes a quarter less CPU than one for each, and takes the
interpreter's lock from the event loop once instead of a hundred times. Older SQLite allows 999
values in a statement."""
SLICE_ROWS: Final = 2000
SLICES_PER_WRITE: Final = 20
"""Slices deleted after one write at most; the rest after the next ones."""
VACUUM_PAGES: Final = 500
FINE_S: Final = 1
COARSE_S: Final = 60

# These numbers are in the file: never change one, only add.
CODES: Final = {
    "ACCOUNT_BALANCE": 1, "PACKET_RECEIVED": 2, "PACKET_FORWARDED": 3, "PACKET_FULFILLED": 4,
    "PACKET_REJECTED": 5, "PEER_CONNECTED": 6, "PEER_DISCONNECTED": 7, "ROUTE_ADDED": 8,
    "ROUTE_REMOVED": 9, "SETTLEMENT_TRIGGERED": 10, "SETTLEMENT_STARTED": 11,
    "SETTLEMENT_COMPLETED": 12, "SETTLEMENT_FAILED": 13, "ACCOUNTING_STATE": 14,
    "NODE_STATUS": 15, "ADMIN_ACTION": 16, "SETTLEMENT_WAITING": 17,
    "ROUTING_LOOP": 18, "NEXT_HOP_SHORT": 40, "PAYMENT_RECEIVED": 50,
    "NODE_STARTED": 70, "NODE_STOPPED": 71, "ALERT": 72, "BOOKS_CHECKED": 73,
}  # fmt: skip
_CODE_OF: Final = {kind: CODES[name] for kind, name in TYPES.items()}
FREQUENT: Final = ("ACCOUNT_BALANCE", *PACKET_TYPES, "NODE_STATUS")
"""Types of the events that go first."""

CONDITION: Final = """substr(body, instr(body, '"executionCondition":"') + 22, 16)"""
"""Of a `PACKET_RECEIVED`: the first 16 hex digits of its condition. It does not parse the JSON: a damaged row
is no fault of the whole file."""
_SCHEMA: Final = f"""
CREATE TABLE IF NOT EXISTS events (
    seq INTEGER PRIMARY KEY, at_ms INTEGER NOT NULL, type INTEGER NOT NULL,
    peer TEXT, hop TEXT, packet BLOB, body TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS events_by_type ON events (type);
CREATE INDEX IF NOT EXISTS events_by_peer ON events (peer, type) WHERE peer IS NOT NULL;
CREATE INDEX IF NOT EXISTS events_by_hop ON events (hop, type) WHERE hop IS NOT NULL;
CREATE INDEX IF NOT EXISTS events_by_packet ON events (packet) WHERE packet IS NOT NULL;
CREATE INDEX IF NOT EXISTS events_by_condition ON events ({CONDITION}) WHERE type = {CODES["PACKET_RECEIVED"]};
CREATE TABLE IF NOT EXISTS balances (
    step_s INTEGER, bucket_s INTEGER, peer TEXT, asset TEXT, at_ms INTEGER NOT NULL,
    net TEXT NOT NULL, debit TEXT NOT NULL, credit TEXT NOT NULL,
    pending_debits TEXT NOT NULL, pending_credits TEXT NOT NULL,
    PRIMARY KEY (step_s, bucket_s, peer, asset)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS balances_by_peer ON balances (peer, asset, step_s, bucket_s);
"""


class EventFile:
    """Counts what is in the file, and keeps it within the limits."""

    def __init__(
        self,
        *,
        node_id: str,
        events_max: int,
        bytes_max: int,
        retention_ms: int,
        frequent: Sequence[str] = FREQUENT,
        rare_max: int | None = None,
        is_durable: bool = False,
    ) -> None:
        """Nothing is opened yet.

        Args:
            node_id: of the events.
            events_max: events in the file, and balances.
            bytes_max: of its pages, in octets.
            retention_ms: the age at which an event goes.
            frequent: types of the events that go first.
            rare_max: how many others are kept; None: a tenth of `events_max`.
            is_durable: what was written survives a power cut, too.
        """
        assert bytes_max >= bounds.EVENT_STORE_BYTES_MIN
        self._frequent = frozenset(CODES[name] for name in frequent)
        self._is_frequent = f"type IN ({','.join(map(str, sorted(self._frequent)))})"
        self._rare_max = max(1, events_max // 10) if rare_max is None else rare_max
        self._synchronous = "FULL" if is_durable else "NORMAL"
        self.stored = 0
        """Events in the file."""
        self.history_points = 0
        """Balances in the file."""
        self.last_seq = 0
        """The highest number that was in use when the file was opened."""
        self.octets = 0
        """Of the pages in use, as of the last write. The write-ahead log is not part of it."""
        self._node_id = node_id
        self._events_max = events_max
        self._bytes_max = bytes_max
        self._retention_ms = retention_ms
        self._rare = 0
        """Of the stored events, those that are not frequent."""
        self._buckets: dict[tuple[int, str, str], int] = {}
        """The newest row of each step and account; another write to it adds none."""
        self._floor = 0
        """No frequent event has a number up to this one."""
        self._minutes = MinuteTable(min(bounds.MINUTES_BYTES_MAX, bytes_max // 4))
        self.readers = ReaderTable()
        self.inserted = False
        """Whether the last batch is in the file, whatever failed afterwards."""
        self._slices = 0
        """Slices that may still be deleted after this write."""

    def prepare(self, connection: sqlite3.Connection) -> None:
        """Create missing tables, and count the rows."""
        # NORMAL: the last events before a power cut may be lost: they are not the books.
        connection.execute(f"PRAGMA synchronous={self._synchronous}")
        if connection.execute("PRAGMA auto_vacuum").fetchone()[0] != 2:
            connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
            connection.execute("VACUUM")
        connection.executescript(_SCHEMA)
        self._minutes.prepare(connection)
        counts = dict(connection.execute("SELECT type, count(*) FROM events GROUP BY type"))
        self.stored = sum(counts.values())
        self._rare = sum(count for code, count in counts.items() if code not in self._frequent)
        self.history_points = connection.execute("SELECT count(*) FROM balances").fetchone()[0]
        last_seq = connection.execute("SELECT max(seq) FROM events").fetchone()[0] or 0
        # A reader knows numbers of events that were deleted since: none may be used again.
        self.last_seq = max(last_seq, self.readers.prepare(connection))
        self._buckets.clear()
        self._floor = 0

    def write(
        self,
        connection: sqlite3.Connection,
        batch: Sequence[Emitted],
        now_ms: int,
        minutes: Sequence[Minute] = (),
        losses: Losses | None = None,
    ) -> None:
        """Insert `batch` and `minutes` in one transaction, then delete what is beyond the limits.

        `losses`: what could not be written before, for the readers.
        """
        self.inserted = False
        if batch or minutes or losses is not None:
            balances = [one for one in batch if type(one.event) is AccountBalance]

            def insert(file: sqlite3.Connection) -> None:
                self._insert_events(file, batch)
                self._insert_balances(file, balances)
                self._minutes.write(file, minutes)
                if losses is not None:
                    self.readers.note_lost(file, losses)

            in_transaction(connection, insert)
            self.inserted = True
            self.readers.note_inserted(_CODE_OF[type(one.event)] for one in batch)
            self.stored += len(batch)
            self._rare += sum(_CODE_OF[type(one.event)] not in self._frequent for one in batch)
        self._trim(connection, now_ms)

    def _insert_events(self, connection: sqlite3.Connection, batch: Sequence[Emitted]) -> None:
        for at in range(0, len(batch), ROWS_PER_STATEMENT):
            part = batch[at : at + ROWS_PER_STATEMENT]
            values: list[Any] = []
            for one in part:
                self._append_row(values, one)
            # After the clock was set back, numbers may be in use already: the later run wins.
            rows = ",".join(["(?,?,?,?,?,?,?)"] * len(part))
            connection.execute(f"INSERT OR REPLACE INTO events VALUES {rows}", values)

    def _append_row(self, values: list[Any], one: Emitted) -> None:
        event = one.event
        packet_id: int | None = getattr(event, "packet_id", None)
        values += (
            one.seq,
            one.at_ms,
            _CODE_OF[type(event)],
            getattr(event, "peer_id", None),
            getattr(event, "next_hop", None),
            None if packet_id is None else packet_id.to_bytes(16, "big"),
            one.text(self._node_id),
        )

    def _insert_balances(self, connection: sqlite3.Connection, balances: Iterable[Emitted]) -> None:
        points: list[tuple[Any, ...]] = []
        for one in balances:
            event = one.event
            assert isinstance(event, AccountBalance)
            for step_s in (FINE_S, COARSE_S):
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

    # --- limits

    def _trim(self, connection: sqlite3.Connection, now_ms: int) -> None:
        """Delete what is beyond the limits, in slices that are a transaction each."""
        self._slices = SLICES_PER_WRITE
        oldest_ms = now_ms - self._retention_ms
        self._trim_old(connection, oldest_ms)
        self._delete_frequent(connection, self.stored - self._events_max)
        self._delete_rare(connection, self._rare - self._rare_max)
        self._trim_history(connection, now_ms // 1000, oldest_ms // 1000)
        self._minutes.trim(connection, oldest_ms // 1000)
        self._trim_octets(connection)
        if _pragma(connection, "freelist_count") > VACUUM_PAGES:
            # `execute` would stop after the first page.
            connection.executescript(f"PRAGMA incremental_vacuum({VACUUM_PAGES})")

    def _trim_old(self, connection: sqlite3.Connection, oldest_ms: int) -> None:
        first = connection.execute("SELECT at_ms FROM events ORDER BY seq LIMIT 1").fetchone()
        if first is None or first[0] >= oldest_ms:
            return
        slice_ = f"(SELECT seq FROM events ORDER BY seq LIMIT {SLICE_ROWS})"
        gone = f"seq IN {slice_} AND at_ms < {oldest_ms}"
        rare = connection.execute(
            f"SELECT count(*) FROM events WHERE {gone} AND NOT {self._is_frequent}"
        ).fetchone()[0]
        self.stored -= self.readers.delete(connection, gone)
        self._rare -= rare

    def _trim_octets(self, connection: sqlite3.Connection) -> None:
        """Delete the oldest frequent events, then rare ones, then balances, until it fits."""
        for attempt in count():
            pages = _pragma(connection, "page_count") - _pragma(connection, "freelist_count")
            self.octets = octets = pages * _pragma(connection, "page_size")
            rows = self.stored + self.history_points
            if octets <= self._bytes_max or not rows or self._slices <= 0:
                return
            # An estimate: rows differ in size, and a page is free only when all its rows are. So
            # each further attempt deletes twice as much.
            excess = max(1, rows * (octets - self._bytes_max) // octets) << attempt
            deleted = self._delete_frequent(connection, excess)
            deleted += self._delete_rare(connection, excess - deleted)
            if excess > deleted:
                self._delete_oldest_balances(connection, excess - deleted)

    def _delete_frequent(self, connection: sqlite3.Connection, excess: int) -> int:
        """Delete up to this many of the oldest frequent events; returns how many."""
        deleted = 0
        while deleted < excess and self._slices > 0:
            self._slices -= 1
            last = connection.execute(
                "SELECT max(seq) FROM (SELECT seq FROM events "
                f"WHERE seq > ? AND {self._is_frequent} ORDER BY seq LIMIT ?)",
                (self._floor, min(excess - deleted, SLICE_ROWS)),
            ).fetchone()[0]
            if last is None:
                self._floor = 0
                break
            deleted += self.readers.delete(
                connection, f"seq > ? AND seq <= ? AND {self._is_frequent}", (self._floor, last)
            )
            self._floor = last
        self.stored -= deleted
        return deleted

    def _delete_rare(self, connection: sqlite3.Connection, excess: int) -> int:
        """Delete up to this many of the oldest other events, one slice at most; returns how many."""
        if excess <= 0 or self._slices <= 0:
            return 0
        self._slices -= 1
        deleted = self.readers.delete(
            connection,
            f"seq IN (SELECT seq FROM events WHERE NOT {self._is_frequent} ORDER BY seq LIMIT ?)",
            (min(excess, SLICE_ROWS),),
        )
        self.stored -= deleted
        self._rare -= deleted
        return deleted

    def _trim_history(self, connection: sqlite3.Connection, now_s: int, oldest_s: int) -> None:
        excess = self.history_points - self._events_max
        for step_s, before_s in (
            (FINE_S, now_s - bounds.HISTORY_FINE_SECONDS),
            (COARSE_S, oldest_s),
        ):
            first = connection.execute(
                "SELECT min(bucket_s) FROM balances WHERE step_s = ?", (step_s,)
            ).fetchone()[0]
            if first is None or (first >= before_s and excess <= 0):
                continue
            until_s = now_s if excess > 0 else before_s
            excess -= self._delete_balances(connection, step_s, until_s, SLICE_ROWS)

    def _delete_oldest_balances(self, connection: sqlite3.Connection, excess: int) -> None:
        """Delete the oldest balances, those by the second first."""
        self._slices -= 1
        for step_s in (FINE_S, COARSE_S):
            excess -= self._delete_balances(
                connection, step_s, _SECONDS_MAX, min(excess, SLICE_ROWS)
            )

    def _delete_balances(
        self, connection: sqlite3.Connection, step_s: int, before_s: int, rows_max: int
    ) -> int:
        deleted = connection.execute(
            "DELETE FROM balances WHERE (step_s, bucket_s, peer, asset) IN ("
            "SELECT step_s, bucket_s, peer, asset FROM balances WHERE step_s = ? "
            "AND bucket_s < ? ORDER BY bucket_s LIMIT ?)",
            (step_s, before_s, max(0, rows_max)),
        ).rowcount
        self.history_points -= deleted
        return deleted


_SECONDS_MAX: Final = 1 << 62


def code_of(kind: type) -> int:
    """The number of a type of event in the file."""
    return _CODE_OF[kind]


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    number: int = connection.execute(f"PRAGMA {name}").fetchone()[0]
    return number
