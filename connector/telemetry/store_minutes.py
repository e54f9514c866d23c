"""Minutes of traffic in the event store's file: of the whole node, and of each peer that had packets.

Everything here runs in a thread of the store. Rows are few (one a minute for the node, one for each peer
that had a packet), and bounded in octets: beyond that the oldest of peers go first, then those of the node.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple, TypeVar

from connector.telemetry.aggregates import NODE, Row
from connector.telemetry.peer_minutes import PeerRow

R = TypeVar("R", Row, PeerRow)

ROW_OCTETS: Final = 80
"""Of a row besides its text, about: keys, in the table and in the index."""
SLICE_ROWS: Final = 2000
_DAMAGE: Final = (
    ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError,
)  # fmt: skip
"""What a text gives that nobody has written so."""

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS minutes (
    minute_s INTEGER, peer TEXT, body TEXT NOT NULL, PRIMARY KEY (minute_s, peer)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS minutes_by_peer ON minutes (peer, minute_s);
"""


class Minute(NamedTuple):
    """What is new of a minute."""

    minute_s: int
    peer: str
    """`NODE`: the whole node."""
    row: Row | PeerRow


class MinuteTable:
    """Counts what is in the table, and keeps it within its bound."""

    def __init__(self, bytes_max: int) -> None:
        self.octets = 0
        """Of all rows, about."""
        self._bytes_max = bytes_max

    def prepare(self, connection: sqlite3.Connection) -> None:
        """Create the table where it is missing, and count the rows."""
        connection.executescript(_SCHEMA)
        self.octets = _octets(connection, "1")

    def write(self, connection: sqlite3.Connection, minutes: Iterable[Minute]) -> None:
        """Add minutes to what is there of them: a node may have run twice in one."""
        for one in minutes:
            key = (one.minute_s, one.peer)
            row = one.row
            known = connection.execute(
                "SELECT body FROM minutes WHERE minute_s = ? AND peer = ?", key
            ).fetchone()
            if known is not None:
                self.octets -= len(known[0]) + ROW_OCTETS
                row = _sum(known[0], row)
            text = row.as_text()
            self.octets += len(text) + ROW_OCTETS
            connection.execute("INSERT OR REPLACE INTO minutes VALUES (?,?,?)", (*key, text))

    def trim(self, connection: sqlite3.Connection, oldest_s: int) -> None:
        """Delete a slice of what is too old, and of what is too much."""
        self._delete(connection, f"minute_s < {oldest_s}")
        for where in (f"peer != '{NODE}'", f"peer = '{NODE}'"):
            if self.octets > self._bytes_max:
                self._delete(connection, where)

    def _delete(self, connection: sqlite3.Connection, where: str) -> None:
        slice_ = (
            f"SELECT minute_s, peer FROM minutes WHERE {where} ORDER BY minute_s LIMIT {SLICE_ROWS}"
        )
        gone = _octets(connection, f"(minute_s, peer) IN ({slice_})")
        if gone:
            connection.execute(f"DELETE FROM minutes WHERE (minute_s, peer) IN ({slice_})")
            self.octets -= gone


def _octets(connection: sqlite3.Connection, where: str) -> int:
    text, rows = connection.execute(
        f"SELECT total(length(body)), count(*) FROM minutes WHERE {where}"
    ).fetchone()
    return int(text) + int(rows) * ROW_OCTETS


def _sum(text: str, row: Row | PeerRow) -> Row | PeerRow:
    """A row that is stored and what has come; a damaged one counts for nothing."""
    try:
        if isinstance(row, Row):
            whole = Row.from_text(text)
            whole.add(row)
            return whole
        of_peer = PeerRow.from_text(text)
        of_peer.add(row)
    except _DAMAGE:
        return row
    return of_peer


def of_node(connection: sqlite3.Connection, from_s: int) -> list[tuple[int, Row]]:
    """The minutes of the whole node, oldest first."""
    rows = connection.execute(
        "SELECT minute_s, body FROM minutes WHERE peer = ? AND minute_s >= ? ORDER BY minute_s",
        (NODE, from_s),
    )
    return [
        (minute, row)
        for minute, text in rows
        if isinstance(minute, int) and (row := _read(Row, text)) is not None
    ]


def of_peers(
    connection: sqlite3.Connection, from_s: int, rows_max: int
) -> list[tuple[int, str, PeerRow]]:
    """The last minutes of all peers, oldest first."""
    rows: Sequence[tuple[Any, str, str]] = connection.execute(
        "SELECT minute_s, peer, body FROM minutes WHERE minute_s >= ? AND peer != ? "
        "ORDER BY minute_s DESC LIMIT ?",
        (from_s, NODE, rows_max),
    ).fetchall()
    return [
        (minute, peer, row)
        for minute, peer, text in reversed(rows)
        if isinstance(minute, int) and (row := _read(PeerRow, text)) is not None
    ]


def of_peer(connection: sqlite3.Connection, peer: str, points: range) -> dict[int, PeerRow]:
    """What a peer had, by the points of a view: seconds at which they begin, each `points.step` long."""
    rows = connection.execute(
        "SELECT minute_s, body FROM minutes WHERE peer = ? AND minute_s >= ? AND minute_s < ?",
        (peer, points.start, points.stop),
    )
    found: dict[int, PeerRow] = {}
    for minute, text in rows:
        row = _read(PeerRow, text)
        if row is not None:
            at = minute - (minute - points.start) % points.step
            found.setdefault(at, PeerRow()).add(row)
    return found


def _read(kind: type[R], text: str) -> R | None:
    try:
        return kind.from_text(text)
    except _DAMAGE:
        return None  # a gap
