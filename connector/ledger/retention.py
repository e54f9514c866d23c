"""How long the journal of the embedded ledger is kept: points, their chain, and pruning.

A *point* is the state of the ledger (all balances, all open holds) after one row of the journal. Its
hash covers that state and the hash of the point before, so the points are a chain: a change of the
past changes every later hash. The states of old points are dropped with the rows before them; their
hashes stay.

    rows:    ...pruned... | kept for look-ups | replayed by the audit ................ newest
    points:  hash only    | hash only         | base: hash and state    | hash and state |

The audit restores the *base*, the oldest point with a state, and replays every row after it. The
result must equal the state of each later point, and the balances in use. The rows between the base
and the point before it are kept, so that transfers repeated after the base are still found.

Rows are pruned a few at a time, between requests, and never while a packet in them can still be
resent (`JOURNAL_KEPT_SECONDS_MIN`, by the monotonic clock of this process, so that a wrong wall
clock cannot make a row look old). Pruning loses history, never a balance; the ids of grants and
settlements stay in table `derived`.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from connector.base import limits
from connector.base.files import private_file
from connector.base.sqlite import in_transaction
from connector.ledger import bounds
from connector.ledger.journal import account_of_row, pack_state

_NS: Final = 1_000_000_000
_DAY_NS: Final = 86_400 * _NS
_FIRST_HASH: Final = bytes(32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How much of a journal is kept."""

    days: int = limits.LEDGER_DAYS_KEPT
    """Days after which rows are pruned; 0: rows are not pruned by age."""
    bytes_max: int = limits.LEDGER_FILE_BYTES
    """Size of the file in octets above which rows are pruned before `days` have passed."""
    archive: Path | None = None
    """A folder into which rows are copied before they are pruned; None: they are dropped."""


@dataclass(frozen=True, slots=True)
class Point:
    """A past state; only its hash once the state was dropped."""

    seq: int
    """The last row of the journal that it includes."""
    now_ns: int
    """When it was added, by the wall clock."""
    timestamp: int
    """Timestamp of the ledger's last event."""
    hash: bytes
    state: bytes | None
    """As `journal.pack_state` writes it; None: dropped."""


def chain_hash(before: bytes, seq: int, timestamp: int, state: bytes) -> bytes:
    """The hash of a point: 32 octets over the hash before, its row, its times and its state."""
    head = before + seq.to_bytes(8, "big") + timestamp.to_bytes(8, "big")
    return hashlib.sha256(head + hashlib.sha256(state).digest()).digest()


def points(connection: sqlite3.Connection, *, states: bool = True) -> list[Point]:
    """All points, oldest first; `states`: only those that have a state, with it."""
    what = "state" if states else "NULL"
    where = "WHERE state IS NOT NULL" if states else ""
    rows = connection.execute(
        f"SELECT seq, now_ns, timestamp, hash, {what} FROM point {where} ORDER BY seq"  # noqa: S608
    )
    return [
        Point(
            seq, now_ns, timestamp, bytes(hash_), None if state is None else zlib.decompress(state)
        )
        for seq, now_ns, timestamp, hash_, state in rows
    ]


def hash_before(connection: sqlite3.Connection, seq: int) -> bytes:
    """The hash of the last point before row `seq`."""
    row = connection.execute(
        "SELECT hash FROM point WHERE seq < ? ORDER BY seq DESC LIMIT 1", (seq,)
    ).fetchone()
    return _FIRST_HASH if row is None else bytes(row[0])


def used_bytes(connection: sqlite3.Connection) -> int:
    """Octets of the file in use; its free pages are reused before it grows."""
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    (free,) = connection.execute("PRAGMA freelist_count").fetchone()
    (size,) = connection.execute("PRAGMA page_size").fetchone()
    return int((pages - free) * size)


class Upkeep:
    """Adds points and prunes, in bounded steps. One per open journal."""

    def __init__(self, retention: Retention, *, began_s: float) -> None:
        """`began_s`: the start, by the monotonic clock; rows are not pruned soon after it."""
        self.retention: Final = retention
        self._taken_s: dict[int, float] = {}
        self._began_s = began_s
        self.bytes_since_point = 0
        """Octets of rows that this process has written since the last point."""
        self.pruned_rows = 0
        """Rows pruned by this process."""
        self.is_over = False
        """Whether the file is above its limit, and no row is old enough to prune."""

    def wants_point(self, connection: sqlite3.Connection, now_ns: int) -> bool:
        """Whether a new point is due: by time, or by what was written since the last one."""
        last = connection.execute(
            "SELECT seq, now_ns FROM point ORDER BY seq DESC LIMIT 1"
        ).fetchone()
        (newest,) = connection.execute("SELECT max(seq) FROM journal").fetchone()
        saved = connection.execute("SELECT seq FROM checkpoint").fetchone()
        if saved is None or newest is None or (last is not None and last[0] >= saved[0]):
            return False
        if last is None:
            return True
        days = self.retention.days or limits.LEDGER_DAYS_KEPT
        spacing_ns = days * _DAY_NS // bounds.JOURNAL_POINTS_PER_RETENTION
        if abs(now_ns - last[1]) >= spacing_ns:
            return True
        share = self.retention.bytes_max // bounds.JOURNAL_POINTS_PER_SIZE
        return self.bytes_since_point >= share

    def read_state(self, connection: sqlite3.Connection) -> tuple[int, int, bytes]:
        """The state of the last checkpoint: its row, its timestamp, its octets.

        Read in one transaction, so that the two tables are consistent; may run beside the writer.
        """
        connection.execute("BEGIN")
        try:
            seq, timestamp, holds = connection.execute(
                "SELECT seq, timestamp, holds FROM checkpoint"
            ).fetchone()
            rows = connection.execute("SELECT * FROM account ORDER BY timestamp")
            accounts = [account_of_row(row) for row in rows]
        finally:
            connection.execute("ROLLBACK")
        newest = accounts[-1].timestamp if accounts else 0
        assert newest <= timestamp, (newest, timestamp)
        return seq, timestamp, pack_state(accounts, zlib.decompress(holds) if holds else b"")

    def add_point(
        self,
        connection: sqlite3.Connection,
        taken: tuple[int, int, bytes],
        now_ns: int,
        now_s: float,
    ) -> None:
        """Append a point to the chain."""
        seq, timestamp, state = taken
        (last,) = connection.execute("SELECT max(seq) FROM point").fetchone()
        assert last is None or last <= seq, (last, seq)
        hash_ = chain_hash(hash_before(connection, seq), seq, timestamp, state)
        connection.execute(
            "INSERT OR IGNORE INTO point VALUES (?, ?, ?, ?, ?)",
            (seq, now_ns, timestamp, hash_, zlib.compress(state, 6)),
        )
        self._taken_s[seq] = now_s
        self.bytes_since_point = 0

    def base_wanted(
        self, connection: sqlite3.Connection, now_ns: int, now_s: float
    ) -> tuple[int, int] | None:
        """The row of the point that is to be the base, and the row up to which to prune.

        None: everything is kept.
        """
        kept = connection.execute(
            "SELECT seq, now_ns FROM point WHERE state IS NOT NULL ORDER BY seq"
        ).fetchall()
        old_enough = [at for at, (seq, _) in enumerate(kept) if self._is_past(seq, now_s)]
        wanted = 0
        if self.retention.days:
            since_ns = now_ns - self.retention.days * _DAY_NS
            wanted = max((at for at in old_enough if kept[at][1] <= since_ns), default=0)
        over = used_bytes(connection) > self.retention.bytes_max
        if over and not wanted:
            wanted = 1
        if not wanted:
            self.is_over = False
            return None
        self.is_over = over and wanted not in old_enough
        if wanted not in old_enough:
            return None
        assert 0 < wanted < len(kept), (wanted, len(kept))
        return kept[wanted][0], kept[wanted - 1][0]

    def _is_past(self, seq: int, now_s: float) -> bool:
        since_s = self._taken_s.get(seq, self._began_s)
        assert now_s >= since_s, (now_s, since_s)
        return now_s - since_s >= bounds.JOURNAL_KEPT_SECONDS_MIN

    def move_base(self, connection: sqlite3.Connection, base_seq: int) -> None:
        """Drop the states of all points before `base_seq`, so that rows before it can be pruned."""
        connection.execute("UPDATE point SET state = NULL WHERE seq < ?", (base_seq,))
        (oldest,) = connection.execute(
            "SELECT min(seq) FROM point WHERE state IS NOT NULL"
        ).fetchone()
        assert oldest == base_seq, (oldest, base_seq)
        for seq in [one for one in self._taken_s if one < base_seq]:
            del self._taken_s[seq]

    def prune(self, connection: sqlite3.Connection) -> int:
        """Delete a bounded number of the oldest rows that may be pruned; returns how many."""
        (last,) = connection.execute("SELECT max(seq) FROM point WHERE state IS NULL").fetchone()
        (first,) = connection.execute("SELECT min(seq) FROM journal").fetchone()
        if last is None or first is None or first > last:
            return 0
        end = min(last, first + bounds.JOURNAL_ROWS_PRUNED_AT_ONCE - 1)
        gone = connection.execute("DELETE FROM journal WHERE seq <= ?", (end,)).rowcount
        connection.execute("DELETE FROM id_range WHERE last_seq <= ?", (end,))
        assert gone <= bounds.JOURNAL_ROWS_PRUNED_AT_ONCE, gone
        self.pruned_rows += gone
        return gone


def archive_rows(
    connection: sqlite3.Connection, folder: Path, name: str, last_seq: int
) -> Path | None:
    """Copy the rows up to `last_seq` into a new file, complete and synced; None: no rows.

    The file has the tables `journal` and `point` of a ledger: the points of its rows, the first one
    with its state if that exists, so that the file can be replayed by itself.

    Raises:
        OSError, sqlite3.Error: it cannot be written; the rows must not be pruned then.
    """
    first, count = connection.execute(
        "SELECT min(seq), count(*) FROM journal WHERE seq <= ?", (last_seq,)
    ).fetchone()
    if first is None:
        return None
    path = folder / f"{name}-{first:012d}-{last_seq:012d}.db"
    if path.exists():
        return path
    partial = path.with_suffix(".partial")
    partial.unlink(missing_ok=True)
    private_file(partial)
    target = sqlite3.connect(partial, isolation_level=None)
    try:
        target.execute("PRAGMA journal_mode=OFF")
        target.execute("PRAGMA synchronous=OFF")
        for table in ("journal", "point"):
            (schema,) = connection.execute(
                "SELECT sql FROM sqlite_master WHERE name = ?", (table,)
            ).fetchone()
            target.execute(schema)

        def copy(target: sqlite3.Connection) -> None:
            rows = connection.execute("SELECT * FROM journal WHERE seq <= ?", (last_seq,))
            copied = target.executemany("INSERT INTO journal VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
            assert copied.rowcount == count, (copied.rowcount, count)
            old = connection.execute("SELECT * FROM point WHERE seq <= ?", (last_seq,))
            target.executemany("INSERT INTO point VALUES (?, ?, ?, ?, ?)", old)

        in_transaction(target, copy)
    finally:
        target.close()
    file = os.open(partial, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
    partial.rename(path)
    return path
