"""Queries of the event store; they run in the reader's thread.

The tables are those of `store_file`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from heapq import nlargest, nsmallest
from typing import Any, Final, NamedTuple

from connector.telemetry.events import iso
from connector.telemetry.store_file import COARSE_S, CODES, FINE_S
from connector.telemetry.store_search import Found, Wanted, search

_SEQ_MAX: Final = (1 << 63) - 1


@dataclass(slots=True, frozen=True, kw_only=True)
class EventQuery:
    """A filter of events; None: any."""

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
    text: str = ""
    """See `store_search.Wanted`, as `code`; with one of them, newest first only."""
    code: str = ""
    anywhere: bool = False
    """Whether `text` may stand anywhere in the event."""


class Events(NamedTuple):
    """Events as JSON, and where the next page begins."""

    items: list[str]
    next: str | None


class Point(NamedTuple):
    """A balance at a time. Amounts are decimal strings, as in the file."""

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


def find_text(connection: sqlite3.Connection, query: EventQuery) -> Found:
    """One page of the events that fit a text or a code."""
    low = max(query.after or 0, seq_at(connection, query.from_ms, 0))
    high = min(
        _SEQ_MAX if query.before is None else query.before - 1,
        seq_at(connection, None if query.to_ms is None else query.to_ms + 1, _SEQ_MAX),
    )
    names = CODES if query.types is None else query.types
    return search(
        connection,
        Wanted(text=query.text.strip().lower(), code=query.code.upper(), anywhere=query.anywhere),
        codes=[CODES[name] for name in names],
        peer=query.peer,
        low=low,
        high=high,
        count=query.count,
    )


def find(connection: sqlite3.Connection, query: EventQuery) -> list[tuple[int, str]]:
    """Sequence numbers and JSON texts of one page.

    Every index is ordered by type, then number. So the next `count` of each type are read, and the
    first of all are returned: the cost does not depend on the number of events.
    """
    forward = query.after is not None
    low = max(query.after or 0, seq_at(connection, query.from_ms, 0))
    high = min(
        _SEQ_MAX if query.before is None else query.before - 1,
        seq_at(connection, None if query.to_ms is None else query.to_ms + 1, _SEQ_MAX),
    )
    order = f"ORDER BY seq {'ASC' if forward else 'DESC'} LIMIT ?"
    bounds = (low, high, query.count)
    codes = [CODES[name] for name in query.types] if query.types is not None else None
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
    for code in CODES.values() if codes is None else codes:
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


def seq_at(connection: sqlite3.Connection, at_ms: int | None, otherwise: int) -> int:
    """The highest number below that of the first event not before `at_ms`.

    A binary search: times rise with numbers, unless the clock was set back.
    """
    if at_ms is None:
        return otherwise
    # One query for both would read the whole table.
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


def history(
    connection: sqlite3.Connection,
    peer: str,
    asset: str,
    from_ms: int,
    to_ms: int,
    step_s: int,
    width_s: int,
) -> list[Point]:
    """The last balance of every `width_s`, oldest first, from the rows kept each `step_s`.

    Begins with the balance at `from_ms`, if an earlier row has it.
    """
    columns = "net, debit, credit, pending_debits, pending_credits"
    account = (peer, asset)
    earlier = [
        connection.execute(
            f"SELECT at_ms, {columns} FROM balances WHERE peer = ? AND asset = ? AND step_s = ? "
            "AND bucket_s <= ? AND at_ms < ? ORDER BY bucket_s DESC LIMIT 1",
            (*account, step, from_ms // 1000, from_ms),
        ).fetchone()
        for step in (FINE_S, COARSE_S)
    ]
    before = max((row for row in earlier if row is not None), default=None)
    rows = connection.execute(
        # With max() SQLite takes the other columns from the row with the maximum.
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
