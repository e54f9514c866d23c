"""Readers of the event store that must know what they have missed: where each is, and what went before it came.

A reader (a sink, `connector.sinks`) reads the events of its types in the order of their numbers, and says
how far it is. What is deleted before that is counted in the transaction that deletes it, and so is what
could never be written: the count is exact, whatever crashes. Everything here runs in the writer's thread.

**Why a number is never skipped.** All events of one write have higher numbers than those of the write before
it, and a write is one transaction. So below a number that a reader has seen nothing appears later.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import nsmallest
from typing import Any, Final, NamedTuple

from connector.base.sqlite import in_transaction

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS readers (
    name TEXT PRIMARY KEY, seq INTEGER NOT NULL DEFAULT 0, codes TEXT NOT NULL,
    missed INTEGER NOT NULL DEFAULT 0, missed_from INTEGER, missed_to INTEGER,
    gap INTEGER NOT NULL DEFAULT 0, gap_from INTEGER, gap_to INTEGER,
    gap_seq INTEGER NOT NULL DEFAULT 0, gap_ms INTEGER NOT NULL DEFAULT 0,
    missed_total INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
"""
_VALUES_MAX: Final = 500
"""Older SQLite allows 999 in a statement."""


class StoredEvent(NamedTuple):
    """An event as it is kept."""

    seq: int
    at_ms: int
    code: int
    """Of its type, see `store_file.CODES`."""
    body: str
    """JSON."""


class Gap(NamedTuple):
    """Events that a reader has missed. The same until it has been told."""

    missed: int
    total: int
    """Of all that it has missed so far, these included."""
    from_seq: int
    """The numbers of those missed lie from here to `to_seq`; others there may have been read."""
    to_seq: int
    seq: int
    """Of the record of this gap."""
    at_ms: int


class Reading(NamedTuple):
    """What comes next for a reader."""

    gap: Gap | None
    events: list[StoredEvent]
    has_more: bool


@dataclass(slots=True)
class Losses:
    """Events that could not be written: how many of each code, and between which numbers."""

    counts: Counter[int] = field(default_factory=Counter)
    from_seq: int = 0
    to_seq: int = 0

    def add(self, code: int, seq: int) -> None:
        """Count one."""
        self.counts[code] += 1
        self.from_seq = min(self.from_seq or seq, seq)
        self.to_seq = max(self.to_seq, seq)

    def merge(self, other: Losses) -> None:
        """Count those of `other`, too."""
        if other.counts:
            self.counts += other.counts
            self.from_seq = min(self.from_seq or other.from_seq, other.from_seq)
            self.to_seq = max(self.to_seq, other.to_seq)


@dataclass(slots=True)
class _Reader:
    seq: int
    """All of its events up to this number were read."""
    codes: frozenset[int] | None
    """None: all."""
    pending: int = 0
    """Events in the file that it has yet to read."""
    missed_total: int = 0

    def wants(self, code: int) -> bool:
        return self.codes is None or code in self.codes

    def condition(self) -> str:
        if self.codes is None:
            return "seq > ?"
        return f"seq > ? AND type IN ({','.join(map(str, sorted(self.codes)))})"


class ReaderTable:
    """The readers of one file."""

    def __init__(self) -> None:
        self._wanted: dict[str, frozenset[int] | None] = {}
        self._readers: dict[str, _Reader] = {}

    def want(self, name: str, codes: Iterable[int] | None) -> None:
        """Keep a place for a reader of these types; a new one begins with the oldest event."""
        self._wanted[name] = None if codes is None else frozenset(codes)

    @property
    def any(self) -> bool:
        """Whether there are readers."""
        return bool(self._readers)

    @property
    def wanted(self) -> bool:
        """Whether there will be, also where the file could not be opened yet."""
        return bool(self._wanted)

    def pending(self, name: str) -> int:
        """Events in the file that it has yet to read."""
        reader = self._readers.get(name)
        return 0 if reader is None else reader.pending

    def missed_total(self, name: str) -> int:
        """Events that it has missed, of all starts."""
        reader = self._readers.get(name)
        return 0 if reader is None else reader.missed_total

    def prepare(self, connection: sqlite3.Connection) -> int:
        """Create the table, find the readers; the highest number that one of them knows."""
        connection.executescript(_SCHEMA)
        for name, codes in self._wanted.items():
            text = "" if codes is None else ",".join(map(str, sorted(codes)))
            # Not an upsert: SQLite before 3.24 has none.
            connection.execute(
                "INSERT OR IGNORE INTO readers (name, codes) VALUES (?, ?)", (name, text)
            )
            connection.execute("UPDATE readers SET codes = ? WHERE name = ?", (text, name))
        self._readers = {}
        highest = 0
        rows = connection.execute(
            "SELECT name, seq, codes, missed_total, max(seq, gap_seq, ifnull(missed_to, 0)) FROM readers"
        ).fetchall()
        for name, seq, codes_text, total, known in rows:
            codes = frozenset(map(int, codes_text.split(","))) if codes_text else None
            reader = self._readers[name] = _Reader(seq, codes, missed_total=total)
            reader.pending = connection.execute(
                f"SELECT count(*) FROM events WHERE {reader.condition()}", (seq,)
            ).fetchone()[0]
            highest = max(highest, known)
        return highest

    # --- what the writer does

    def note_inserted(self, codes: Iterable[int]) -> None:
        """Count events that were written."""
        if self._readers:
            counts = Counter(codes)
            for reader in self._readers.values():
                reader.pending += sum(n for code, n in counts.items() if reader.wants(code))

    def note_lost(self, connection: sqlite3.Connection, losses: Losses) -> None:
        """Count events that could not be written; in the transaction of the next ones."""
        for name, reader in self._readers.items():
            count = sum(n for code, n in losses.counts.items() if reader.wants(code))
            if count:
                self._add_missed(connection, name, count, losses.from_seq, losses.to_seq)

    def delete(self, connection: sqlite3.Connection, where: str, values: Sequence[Any] = ()) -> int:
        """Delete events; those that a reader has yet to read it has missed. Returns how many."""
        statement = f"DELETE FROM events WHERE {where}"
        if not self._readers:
            return connection.execute(statement, values).rowcount

        def work(file: sqlite3.Connection) -> tuple[int, dict[str, int]]:
            unread: dict[str, int] = {}
            for name, reader in self._readers.items():
                count, first, last = file.execute(
                    "SELECT count(*), min(seq), max(seq) FROM events "
                    f"WHERE {where} AND {reader.condition()}",
                    (*values, reader.seq),
                ).fetchone()
                if count:
                    self._add_missed(file, name, count, first, last)
                    unread[name] = count
            return file.execute(statement, values).rowcount, unread

        deleted, unread = in_transaction(connection, work)
        for name, count in unread.items():
            self._readers[name].pending -= count
        return deleted

    def _add_missed(
        self, connection: sqlite3.Connection, name: str, count: int, first: int, last: int
    ) -> None:
        connection.execute(
            "UPDATE readers SET missed = missed + ?, missed_from = min(ifnull(missed_from, ?), ?), "
            "missed_to = max(ifnull(missed_to, 0), ?) WHERE name = ?",
            (count, first, first, last, name),
        )

    # --- what a reader does

    def read(
        self,
        connection: sqlite3.Connection,
        name: str,
        *,
        count: int,
        bytes_max: int,
        gap_seq: int,
        now_ms: int,
    ) -> Reading:
        """What comes next: at most `count` events with `bytes_max` octets, but one at least.

        `gap_seq`: the number that the record of a gap gets, if there is one from now on.

        Raises:
            KeyError: there is no such reader.
        """
        reader = self._readers[name]
        gap = self._gap(connection, name, gap_seq, now_ms)
        if reader.codes is None:
            found = connection.execute(
                "SELECT seq, at_ms, type, body FROM events WHERE seq > ? ORDER BY seq LIMIT ?",
                (reader.seq, count),
            ).fetchall()
        else:
            # The index of each type is in the order of numbers: the cost does not depend on what lies between.
            seqs: list[int] = []
            for code in reader.codes:
                rows = connection.execute(
                    "SELECT seq FROM events WHERE type = ? AND seq > ? ORDER BY seq LIMIT ?",
                    (code, reader.seq, count),
                )
                seqs.extend(row[0] for row in rows)
            found = self._events(connection, nsmallest(count, seqs))
        events: list[StoredEvent] = []
        octets = 0
        for row in found:
            event = StoredEvent(*row)
            octets += len(event.body.encode())
            if events and octets > bytes_max:
                break
            events.append(event)
        return Reading(gap, events, len(events) < len(found) or len(found) == count)

    def _events(self, connection: sqlite3.Connection, seqs: Sequence[int]) -> list[Any]:
        found: list[Any] = []
        for at in range(0, len(seqs), _VALUES_MAX):
            part = seqs[at : at + _VALUES_MAX]
            found += connection.execute(
                "SELECT seq, at_ms, type, body FROM events "
                f"WHERE seq IN ({','.join('?' * len(part))}) ORDER BY seq",
                part,
            ).fetchall()
        return found

    def _gap(self, connection: sqlite3.Connection, name: str, seq: int, now_ms: int) -> Gap | None:
        """The gap that the reader is to be told; it stays as it is until it was."""
        columns = "gap, missed_total, gap_from, gap_to, gap_seq, gap_ms"
        row = connection.execute(
            f"SELECT {columns}, missed FROM readers WHERE name = ?", (name,)
        ).fetchone()
        if not row[0] and row[-1]:
            connection.execute(
                "UPDATE readers SET gap = missed, gap_from = missed_from, gap_to = missed_to, "
                "gap_seq = ?, gap_ms = ?, missed_total = missed_total + missed, "
                "missed = 0, missed_from = NULL, missed_to = NULL WHERE name = ?",
                (seq, now_ms, name),
            )
            row = connection.execute(
                f"SELECT {columns}, missed FROM readers WHERE name = ?", (name,)
            ).fetchone()
        self._readers[name].missed_total = row[1]
        return Gap(*row[:-1]) if row[0] else None

    def advance(
        self, connection: sqlite3.Connection, name: str, seqs: Sequence[int], *, gap: bool
    ) -> None:
        """The reader has these events, and where `gap` was told it, too.

        Raises:
            KeyError: there is no such reader.
        """
        reader = self._readers[name]

        def work(file: sqlite3.Connection) -> int:
            present = sum(self._present(file, seqs))
            # What was deleted since it was read was counted as missed.
            over = len(seqs) - present
            file.execute(
                "UPDATE readers SET seq = max(seq, ?), missed = max(0, missed - ?) WHERE name = ?",
                (seqs[-1] if seqs else 0, over, name),
            )
            if over:
                file.execute(
                    "UPDATE readers SET missed_from = NULL, missed_to = NULL "
                    "WHERE name = ? AND missed = 0",
                    (name,),
                )
            if gap:
                file.execute("UPDATE readers SET gap = 0 WHERE name = ?", (name,))
            return present

        present = in_transaction(connection, work)
        reader.pending = max(0, reader.pending - present)
        if seqs:
            reader.seq = max(reader.seq, seqs[-1])

    def _present(self, connection: sqlite3.Connection, seqs: Sequence[int]) -> Iterable[int]:
        for at in range(0, len(seqs), _VALUES_MAX):
            part = seqs[at : at + _VALUES_MAX]
            yield connection.execute(
                f"SELECT count(*) FROM events WHERE seq IN ({','.join('?' * len(part))})", part
            ).fetchone()[0]


def losses_of(events: Iterable[tuple[int, int]]) -> Losses:
    """Of codes and numbers."""
    losses = Losses()
    for code, seq in events:
        losses.add(code, seq)
    return losses


def wanted_codes(names: Iterable[str] | None, codes: Mapping[str, int]) -> list[int] | None:
    """The codes of types; None: all."""
    return None if names is None else [codes[name] for name in names]
