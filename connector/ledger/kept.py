"""Fulfilments in a database: many in one row, found by packet, forgotten by time.

A request's fulfilments go into one row, a *block*, so that a packet costs neither a row nor an entry
in an index. Packet ids rise with time: a block holds packets of one span of ids (`SPAN_MS` of their
creation), and a look-up reads the blocks of that span alone. A request with older packets among the
new ones has several blocks. A span goes as a whole, when the last of its packets can no longer be
asked for.

The table is one b-tree: a row's number is its span, then its place in the span. So a new block is
written at the end of the table, to one page or a few, and no index is written. When a span is over is
kept in memory, for each span: there are about a hundred of them.

The table is in the file of whoever writes it: the journal of the embedded ledger, beside the posts
and in their transaction; else the outbox, before the posts are submitted.
"""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, NamedTuple, Protocol, TypeVar

from connector.base.sqlite import in_transaction
from connector.ledger import bounds
from connector.ledger.model import Kept

T = TypeVar("T")

_SPAN_BITS: Final = 12
SPAN_MS: Final = 1 << _SPAN_BITS
"""How far apart the packets of a block were created at most, in milliseconds."""
_SPAN_SHIFT: Final = 80 + _SPAN_BITS
"""A packet id begins with its time in milliseconds; see `model.IdGenerator`."""
_PLACE_BITS: Final = 27
"""Of a row's number, for its place in the span; the span has the 36 bits above."""
_PLACE_MAX: Final = (1 << _PLACE_BITS) - 1
assert 128 - _SPAN_SHIFT + _PLACE_BITS <= 63, "SQLite numbers its rows with 63 bits"
_HEAD: Final = struct.Struct(">16sI")
"""Before the octets of each fulfilment: packet id, and how many octets follow."""

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS kept (
    n INTEGER PRIMARY KEY, keep_until_ms INTEGER NOT NULL, posted INTEGER NOT NULL,
    packets BLOB NOT NULL);
"""
_INSERT: Final = """
INSERT INTO kept (n, keep_until_ms, posted, packets) VALUES (
    (SELECT ifnull(max(n), ?1) + 1 FROM kept WHERE n BETWEEN ?1 AND ?2), ?3, ?4, ?5)
"""
_ROWS_CONVERTED_AT_ONCE: Final = 256


class Block(NamedTuple):
    """Fulfilments as one row of the table."""

    span: int
    keep_until_ms: int
    """When the last of them can no longer be asked for."""
    packets: bytes
    """Of each: packet id (16 octets), length (4 octets), the Fulfill."""

    @property
    def size(self) -> int:
        """About what it takes on disk, in octets."""
        return len(self.packets) + bounds.KEPT_BLOCK_OVERHEAD_BYTES


def blocks_of(rows: Iterable[Kept]) -> list[Block]:
    """Fulfilments as blocks: each of one span of ids, and of no more octets than bounded."""
    blocks: list[Block] = []
    spans: dict[int, list[bytes]] = {}
    until_ms: dict[int, int] = {}
    sizes: dict[int, int] = {}
    for packet_id, keep_until_ms, octets in rows:
        span = packet_id >> _SPAN_SHIFT
        length = len(octets)
        size = sizes.get(span, 0) + _HEAD.size + length
        if size > bounds.KEPT_BLOCK_BYTES_MAX and span in spans:
            blocks.append(Block(span, until_ms[span], b"".join(spans.pop(span))))
            size = _HEAD.size + length
        sizes[span] = size
        parts = spans.get(span)
        if parts is None:
            parts = spans[span] = []
            until_ms[span] = keep_until_ms
        elif keep_until_ms > until_ms[span]:
            until_ms[span] = keep_until_ms
        parts.append(packet_id.to_bytes(16, "big") + length.to_bytes(4, "big"))
        parts.append(octets)
    assert len(spans) == len(sizes), (len(spans), len(sizes))
    blocks += [Block(span, until_ms[span], b"".join(parts)) for span, parts in spans.items()]
    return blocks


def packets_of(packets: bytes) -> Iterator[tuple[int, bytes]]:
    """The packet ids and Fulfills of a block.

    Raises:
        struct.error, ValueError: it is damaged.
    """
    at, end = 0, len(packets)
    while at < end:
        id_octets, length = _HEAD.unpack_from(packets, at)
        at += _HEAD.size
        if at + length > end:
            raise ValueError("a block of fulfilments ends early")
        yield int.from_bytes(id_octets, "big"), packets[at : at + length]
        at += length


def insert(connection: sqlite3.Connection, blocks: Sequence[Block], *, posted: bool) -> None:
    """Add blocks; one of them is one statement, a transaction by itself.

    `posted`: whether the ledger has posted all packets in them.
    """
    rows = [(*_numbers(span), until_ms, int(posted), packets) for span, until_ms, packets in blocks]
    if len(rows) == 1:
        connection.execute(_INSERT, rows[0])
    else:
        connection.executemany(_INSERT, rows)


def _numbers(span: int) -> tuple[int, int]:
    """The lowest and the highest number of a row of this span."""
    low = span << _PLACE_BITS
    assert 0 <= low < 1 << 63, span
    return low, low | _PLACE_MAX


def convert(connection: sqlite3.Connection) -> None:
    """Number the rows of an earlier format by their spans, in one transaction; else do nothing.

    It had a column for the span, and indexes of spans and times.
    """
    if ("span",) not in connection.execute("SELECT name FROM pragma_table_info('kept')"):
        return
    in_transaction(connection, _convert)


def _convert(connection: sqlite3.Connection) -> None:
    connection.execute("DROP INDEX IF EXISTS kept_by_span")
    connection.execute("DROP INDEX IF EXISTS kept_by_time")
    connection.execute("ALTER TABLE kept RENAME TO kept_before")
    connection.execute(SCHEMA)
    # A part at a time: the room that it leaves is used by the next one.
    while rows := connection.execute(
        "SELECT n, span, keep_until_ms, posted, packets FROM kept_before ORDER BY n LIMIT ?",
        (_ROWS_CONVERTED_AT_ONCE,),
    ).fetchall():
        for _, span, until_ms, posted, packets in rows:
            insert(connection, [Block(span, until_ms, packets)], posted=bool(posted))
        connection.execute("DELETE FROM kept_before WHERE n <= ?", (rows[-1][0],))
    connection.execute("DROP TABLE kept_before")


def _find(connection: sqlite3.Connection, packet_ids: Sequence[int]) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    spans: dict[int, set[int]] = {}
    for packet_id in packet_ids:
        spans.setdefault(packet_id >> _SPAN_SHIFT, set()).add(packet_id)
    for span, wanted in spans.items():
        patterns = [packet_id.to_bytes(16, "big") for packet_id in wanted]
        for (packets,) in connection.execute(
            "SELECT packets FROM kept WHERE n BETWEEN ? AND ?", _numbers(span)
        ):
            # The octets may also stand in somebody's data: only the walk decides.
            if any(pattern in packets for pattern in patterns):
                found.update(one for one in packets_of(packets) if one[0] in wanted)
    return found


def _unposted(connection: sqlite3.Connection) -> list[int]:
    ids: set[int] = set()
    for (packets,) in connection.execute("SELECT packets FROM kept WHERE NOT posted"):
        ids.update(packet_id for packet_id, _ in packets_of(packets))
    return sorted(ids)


class _Span:
    """What is kept of one span."""

    __slots__ = ("keep_until_ms", "size")

    def __init__(self, keep_until_ms: int, size: int) -> None:
        self.keep_until_ms = keep_until_ms
        """When the last of its packets can no longer be asked for."""
        self.size = size
        """Of its blocks; see `Block.size`."""


def _spans(connection: sqlite3.Connection) -> dict[int, _Span]:
    """Every span in the table.

    Raises:
        ValueError, TypeError: a row is damaged.
    """
    rows = connection.execute(
        "SELECT n >> ?, max(keep_until_ms), sum(length(packets) + ?) FROM kept GROUP BY 1",
        (_PLACE_BITS, bounds.KEPT_BLOCK_OVERHEAD_BYTES),
    )
    # SQLite does not enforce the types of columns: `int` fails on what was not written here.
    spans = {span: _Span(int(until_ms), int(size)) for span, until_ms, size in rows}
    if any(span < 0 for span in spans):
        raise ValueError("a block of fulfilments has a number below zero")
    return spans


def _forget(connection: sqlite3.Connection, span: int, now_ms: int) -> list[int]:
    """Remove blocks of a span whose time is over, a slice of them; the octets of each."""
    low, high = _numbers(span)
    over = connection.execute(
        "SELECT n, length(packets) FROM kept WHERE n BETWEEN ? AND ? AND keep_until_ms <= ?"
        " ORDER BY n LIMIT ?",
        (low, high, now_ms, bounds.KEPT_BLOCKS_FORGOTTEN_AT_ONCE_MAX),
    ).fetchall()
    if over:
        removed = connection.execute(
            "DELETE FROM kept WHERE n BETWEEN ? AND ? AND keep_until_ms <= ?",
            (low, over[-1][0], now_ms),
        ).rowcount
        assert removed == len(over), (removed, len(over))
    return [size for _, size in over]


class Run(Protocol):
    """Does work with the connection of a file, off the event loop; raises the errors of its owner."""

    async def __call__(self, work: Callable[[sqlite3.Connection], T], /) -> T:
        """The result of `work`."""


class KeptTable:
    """The table in one file. The owner of the file inserts; everything else is here."""

    def __init__(self, *, write: Run, read: Run) -> None:
        """`read` may run beside the writer."""
        self._write = write
        self._read = read
        self._spans: dict[int, _Span] = {}
        self._size = 0
        # Insertions that failed, or were not waited for, since the last count.
        self._in_doubt = 0

    @property
    def kept_bytes(self) -> int:
        """What all blocks take (`Block.size`); zero only if there are none for sure."""
        return self._size or self._in_doubt

    def count(self, connection: sqlite3.Connection) -> None:
        """Learn what is in the table; before anything else is done with it."""
        self._take(_spans(connection))
        self._in_doubt = 0

    async def _recount(self) -> None:
        in_doubt = self._in_doubt
        # What is inserted behind this is added behind it, too.
        self._take(await self._write(_spans))
        self._in_doubt -= in_doubt
        assert self._in_doubt >= 0, self._in_doubt

    def _take(self, spans: dict[int, _Span]) -> None:
        self._spans = spans
        self._size = sum(one.size for one in spans.values())

    def added(self, blocks: Iterable[Block]) -> None:
        """These blocks are in the table."""
        for block in blocks:
            self._size += block.size
            span = self._spans.get(block.span)
            if span is None:
                self._spans[block.span] = _Span(block.keep_until_ms, block.size)
            else:
                span.keep_until_ms = max(span.keep_until_ms, block.keep_until_ms)
                span.size += block.size

    def may_have_added(self) -> None:
        """An insertion failed, or was not waited for: it may be in the table, or not."""
        self._in_doubt += 1

    async def kept(self, packet_ids: Sequence[int]) -> dict[int, bytes]:
        """The Fulfills of those packets that one is kept for, by packet."""
        return await self._read(lambda connection: _find(connection, packet_ids))

    async def kept_ids(self) -> list[int]:
        """The packets that a Fulfill is kept for and that are not known to be posted; rising."""
        return await self._read(_unposted)

    async def forget_kept(self, now_ms: int) -> bool:
        """Remove blocks of a span whose time is over, a slice of them; whether there may be more."""
        if self._in_doubt:
            await self._recount()
        span = self._over(now_ms)
        if span is None:
            return False
        sizes = await self._write(lambda connection: _forget(connection, span, now_ms))
        left = self._spans.get(span)
        if left is None:
            return True  # counted anew meanwhile
        removed = sum(sizes) + len(sizes) * bounds.KEPT_BLOCK_OVERHEAD_BYTES
        left.size -= removed
        self._size -= removed
        # More than was added is removed only if an insertion was left in doubt meanwhile.
        assert self._in_doubt or 0 <= left.size <= self._size, (left.size, self._size)
        if len(sizes) == bounds.KEPT_BLOCKS_FORGOTTEN_AT_ONCE_MAX:
            return True
        # What was added to it meanwhile is not over.
        if left.keep_until_ms <= now_ms:
            self._size -= left.size
            del self._spans[span]
        return self._over(now_ms) is not None

    def _over(self, now_ms: int) -> int | None:
        """A span of which no packet can be asked for any more."""
        for span, one in self._spans.items():
            if one.keep_until_ms <= now_ms:
                return span
        return None
