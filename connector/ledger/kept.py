"""Fulfilments in a database: many in one row, found by packet, forgotten by time.

A request's fulfilments go into one row, a *block*, so that a packet costs neither a row nor an entry
in an index. Packet ids rise with time: a block holds packets of one span of ids (`SPAN_MS` of their
creation), and a look-up reads the blocks of that span alone. A request with older packets among the
new ones has several blocks. A block goes as a whole, when the last of its packets can no longer be
asked for.

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
_HEAD: Final = struct.Struct(">16sI")
"""Before the octets of each fulfilment: packet id, and how many octets follow."""

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS kept (
    n INTEGER PRIMARY KEY, span INTEGER NOT NULL, keep_until_ms INTEGER NOT NULL,
    posted INTEGER NOT NULL, packets BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS kept_by_span ON kept (span);
CREATE INDEX IF NOT EXISTS kept_by_time ON kept (keep_until_ms);
"""


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
    rows = [(span, until_ms, int(posted), packets) for span, until_ms, packets in blocks]
    statement = "INSERT INTO kept (span, keep_until_ms, posted, packets) VALUES (?, ?, ?, ?)"
    if len(rows) == 1:
        connection.execute(statement, rows[0])
    else:
        connection.executemany(statement, rows)


def _find(connection: sqlite3.Connection, packet_ids: Sequence[int]) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    spans: dict[int, set[int]] = {}
    for packet_id in packet_ids:
        spans.setdefault(packet_id >> _SPAN_SHIFT, set()).add(packet_id)
    for span, wanted in spans.items():
        patterns = [packet_id.to_bytes(16, "big") for packet_id in wanted]
        for (packets,) in connection.execute("SELECT packets FROM kept WHERE span = ?", (span,)):
            # The octets may also stand in somebody's data: only the walk decides.
            if any(pattern in packets for pattern in patterns):
                found.update(one for one in packets_of(packets) if one[0] in wanted)
    return found


def _unposted(connection: sqlite3.Connection) -> list[int]:
    ids: set[int] = set()
    for (packets,) in connection.execute("SELECT packets FROM kept WHERE NOT posted"):
        ids.update(packet_id for packet_id, _ in packets_of(packets))
    return sorted(ids)


def _size(connection: sqlite3.Connection) -> int:
    (size,) = connection.execute(
        "SELECT coalesce(sum(length(packets) + ?), 0) FROM kept",
        (bounds.KEPT_BLOCK_OVERHEAD_BYTES,),
    ).fetchone()
    return int(size)


def _forget(connection: sqlite3.Connection, now_ms: int) -> list[tuple[int, int]]:
    """The blocks that were removed, and the octets of each."""
    over: list[tuple[int, int]] = connection.execute(
        "SELECT n, length(packets) FROM kept WHERE keep_until_ms <= ? LIMIT ?",
        (now_ms, bounds.KEPT_BLOCKS_FORGOTTEN_AT_ONCE_MAX),
    ).fetchall()
    if over:
        numbers = [(n,) for n, _ in over]
        in_transaction(connection, lambda c: c.executemany("DELETE FROM kept WHERE n = ?", numbers))
    return over


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
        self.kept_bytes = 0
        """What all blocks take; see `Block.size`."""
        self.must_recount = False
        """Whether an insertion failed, or was not waited for, so that the count may be wrong."""

    def count(self, connection: sqlite3.Connection) -> None:
        """Learn what is in the table."""
        self.kept_bytes = _size(connection)

    async def kept(self, packet_ids: Sequence[int]) -> dict[int, bytes]:
        """The Fulfills of those packets that one is kept for, by packet."""
        return await self._read(lambda connection: _find(connection, packet_ids))

    async def kept_ids(self) -> list[int]:
        """The packets that a Fulfill is kept for and that are not known to be posted; rising."""
        return await self._read(_unposted)

    async def forget_kept(self, now_ms: int) -> bool:
        """Remove blocks whose time is over, a slice of them; whether there may be more."""
        if self.must_recount:
            self.must_recount = False
            await self._write(self.count)
        if not self.kept_bytes:
            return False
        over = await self._write(lambda connection: _forget(connection, now_ms))
        self.kept_bytes -= sum(size + bounds.KEPT_BLOCK_OVERHEAD_BYTES for _, size in over)
        return len(over) == bounds.KEPT_BLOCKS_FORGOTTEN_AT_ONCE_MAX
