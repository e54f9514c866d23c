"""Dead letters: events that a sink refused for good, on disk until an operator has them delivered again.

One file for all sinks, `DATA_DIR/sinks.sqlite`; of each sink at most so many octets: the oldest go first, and
are counted. A letter is written before the cursor of its sink moves on; the same event again replaces it.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, TypeVar

from connector.base.disk import Database
from connector.base.errors import EnvironmentFault
from connector.base.sqlite import in_transaction
from connector.base.words import words_of
from connector.sinks import bounds
from connector.sinks.port import Record, Refused

T = TypeVar("T")

FILE_NAME: Final = "sinks.sqlite"
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS dead (
    sink TEXT NOT NULL, seq INTEGER NOT NULL, at_ms INTEGER NOT NULL, type TEXT NOT NULL,
    body TEXT NOT NULL, octets INTEGER NOT NULL, reason TEXT NOT NULL, died_ms INTEGER NOT NULL,
    attempts INTEGER NOT NULL, again INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (sink, seq)
);
CREATE INDEX IF NOT EXISTS dead_again ON dead (sink, seq) WHERE again;
CREATE TABLE IF NOT EXISTS lost (sink TEXT PRIMARY KEY, letters INTEGER NOT NULL);
"""
_COLUMNS: Final = "seq, at_ms, type, body, reason, died_ms, attempts, again"


class DeadLetter(NamedTuple):
    """An event that was refused."""

    record: Record
    reason: str
    """Of the last refusal."""
    died_ms: int
    """When that was."""
    attempts: int
    """How often it was refused."""
    again: bool
    """Whether it will be delivered again."""


class DeadCounts(NamedTuple):
    """Of one sink."""

    letters: int
    octets: int
    lost: int
    """Letters that went for want of room, of all starts."""


class DeadLetters:
    """See the module. Raises `EnvironmentFault` where the disk fails."""

    def __init__(self, database: Database, bytes_max: int) -> None:
        """`bytes_max`: octets of the letters of each sink."""
        self._file: Final = database
        self._bytes_max: Final = bytes_max
        self._is_open = False
        self._opening = asyncio.Lock()

    async def _run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            async with self._opening:  # all sinks come at once
                if not self._is_open:
                    await self._file.open(_SCHEMA)
                    self._is_open = True
            return await self._file.run(work)
        except (sqlite3.Error, OSError) as error:
            raise EnvironmentFault(f"dead letters cannot be kept: {words_of(error)}") from error

    async def close(self) -> None:
        """Close the file. Safe to call twice."""
        self._is_open = False
        await self._file.close()

    async def put(self, sink: str, refused: Sequence[Refused], now_ms: int) -> int:
        """Keep these; returns how many others had to go."""

        def work(file: sqlite3.Connection) -> int:
            for record, reason in refused:
                former = file.execute(
                    "SELECT attempts FROM dead WHERE sink = ? AND seq = ?", (sink, record.seq)
                ).fetchone()
                octets = len(record.text.encode()) + bounds.DEAD_OVERHEAD_BYTES
                file.execute(
                    "INSERT OR REPLACE INTO dead VALUES (?,?,?,?,?,?,?,?,?,0)",
                    (
                        sink, record.seq, record.at_ms, record.type, record.text, octets,
                        reason[: bounds.FAULT_CHARACTERS_MAX], now_ms,
                        1 + (former[0] if former is not None else 0),
                    ),
                )  # fmt: skip
            return _make_room(file, sink, self._bytes_max)

        return await self._run(lambda file: in_transaction(file, work))

    async def counts(self, sink: str) -> DeadCounts:
        """How many there are."""

        def work(file: sqlite3.Connection) -> DeadCounts:
            letters, octets = file.execute(
                "SELECT count(*), ifnull(sum(octets), 0) FROM dead WHERE sink = ?", (sink,)
            ).fetchone()
            lost = file.execute("SELECT letters FROM lost WHERE sink = ?", (sink,)).fetchone()
            return DeadCounts(letters, octets, 0 if lost is None else lost[0])

        return await self._run(work)

    async def page(self, sink: str, after: int, count: int) -> list[DeadLetter]:
        """Letters with a higher number, oldest first: `count`, or as many as fit an answer."""

        def work(file: sqlite3.Connection) -> list[DeadLetter]:
            rows = file.execute(
                f"SELECT {_COLUMNS} FROM dead WHERE sink = ? AND seq > ? ORDER BY seq LIMIT ?",
                (sink, after, count),
            )
            return _bounded(rows, bounds.DEAD_SHOWN_BYTES_MAX)

        return await self._run(work)

    async def deliver_again(self, sink: str, seq: int | None) -> int:
        """Mark a letter, or all of a sink, to be delivered again; returns how many."""
        which, values = ("", ()) if seq is None else (" AND seq = ?", (seq,))
        return await self._run(
            lambda file: (
                file.execute(
                    f"UPDATE dead SET again = 1 WHERE sink = ?{which}", (sink, *values)
                ).rowcount
            )
        )

    async def due(self, sink: str) -> list[DeadLetter]:
        """Those to be delivered again: one batch, oldest first."""

        def work(file: sqlite3.Connection) -> list[DeadLetter]:
            rows = file.execute(
                f"SELECT {_COLUMNS} FROM dead WHERE sink = ? AND again ORDER BY seq LIMIT ?",
                (sink, bounds.BATCH_EVENTS_MAX),
            )
            return _bounded(rows, bounds.BATCH_BYTES_MAX)

        return await self._run(work)

    async def remove(self, sink: str, seqs: Sequence[int]) -> None:
        """Those were delivered."""
        await self._run(
            lambda file: in_transaction(
                file,
                lambda one: one.executemany(
                    "DELETE FROM dead WHERE sink = ? AND seq = ?", [(sink, seq) for seq in seqs]
                ),
            )
        )


def _bounded(rows: Any, bytes_max: int) -> list[DeadLetter]:
    """As many as have so many octets, but one at least."""
    found: list[DeadLetter] = []
    octets = 0
    for seq, at_ms, kind, body, reason, died_ms, attempts, again in rows:
        octets += len(body.encode())
        if found and octets > bytes_max:
            break
        record = Record(seq, at_ms, kind, body)
        found.append(DeadLetter(record, reason, died_ms, attempts, bool(again)))
    return found


def _make_room(file: sqlite3.Connection, sink: str, bytes_max: int) -> int:
    """Remove the oldest letters of a sink until the rest fits."""
    octets = file.execute("SELECT sum(octets) FROM dead WHERE sink = ?", (sink,)).fetchone()[0] or 0
    gone: list[int] = []
    if octets > bytes_max:
        rows = file.execute("SELECT seq, octets FROM dead WHERE sink = ? ORDER BY seq", (sink,))
        for seq, size in rows:
            if octets <= bytes_max:
                break
            gone.append(seq)
            octets -= size
        rows.close()
    file.executemany("DELETE FROM dead WHERE sink = ? AND seq = ?", [(sink, seq) for seq in gone])
    if gone:
        file.execute("INSERT OR IGNORE INTO lost VALUES (?, 0)", (sink,))
        file.execute("UPDATE lost SET letters = letters + ? WHERE sink = ?", (len(gone), sink))
    return len(gone)
