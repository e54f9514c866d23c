"""Fulfilments in a database: in blocks by the age of their packets, found by packet, damage named."""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Callable, Sequence
from typing import TypeVar

import pytest

from connector.ledger import bounds, kept
from connector.ledger.kept import SPAN_MS, KeptTable, blocks_of, packets_of
from connector.ledger.model import Kept

T = TypeVar("T")
NOW_MS = 1_700_000_000_000 // SPAN_MS * SPAN_MS


def row(created_ms: int, number: int = 0, *, until_ms: int = 1000, octets: bytes = b"f") -> Kept:
    return Kept(((NOW_MS + created_ms) << 80) + (number << 8), until_ms, octets)


class Table:
    """A `KeptTable` in memory, without a thread."""

    def __init__(self) -> None:
        self.connection = sqlite3.connect(":memory:", isolation_level=None)
        self.connection.executescript(kept.SCHEMA)
        self.reads = 0
        self.table = KeptTable(write=self._run, read=self._run)
        self.before_answer: Callable[[], None] = lambda: None

    async def _run(self, work: Callable[[sqlite3.Connection], T], /) -> T:
        result = work(self.connection)
        self.before_answer()
        return result

    def add(self, rows: list[Kept], *, posted: bool = False) -> None:
        blocks = blocks_of(rows)
        kept.insert(self.connection, blocks, posted=posted)
        self.table.added(blocks)

    def count(self) -> None:
        self.table.count(self.connection)

    async def kept(self, packet_ids: Sequence[int]) -> dict[int, bytes]:
        return await self.table.kept(packet_ids)

    async def kept_ids(self) -> list[int]:
        return await self.table.kept_ids()


def test_packets_of_one_age_share_a_block() -> None:
    rows = [row(number, number, octets=bytes([number]) * number) for number in range(50)]
    (block,) = blocks_of(rows)
    assert list(packets_of(block.packets)) == [(one.packet_id, one.octets) for one in rows]
    assert block.size == bounds.KEPT_BLOCK_OVERHEAD_BYTES + len(block.packets)
    assert blocks_of([]) == []


def test_an_old_packet_has_a_block_of_its_own_and_widens_no_other() -> None:
    old = row(-60_000, until_ms=5000)
    blocks = blocks_of([row(1), old, row(2)])
    assert [len(list(packets_of(block.packets))) for block in blocks] == [2, 1]
    assert [block.keep_until_ms for block in blocks] == [1000, 5000]
    assert blocks[0].span - blocks[1].span == -(-60_000 // SPAN_MS)


def test_a_block_lives_as_long_as_the_last_of_its_packets() -> None:
    (block,) = blocks_of([row(1, until_ms=10), row(2, until_ms=30), row(3, until_ms=20)])
    assert block.keep_until_ms == 30


def test_a_block_is_no_longer_than_bounded_unless_one_fulfilment_is() -> None:
    size = bounds.KEPT_BLOCK_BYTES_MAX
    rows = [row(0, number, octets=bytes(size // 4)) for number in range(10)]
    blocks = blocks_of([*rows, row(0, 11, octets=bytes(2 * size))])
    assert [len(list(packets_of(block.packets))) for block in blocks] == [3, 3, 3, 1, 1]
    assert all(len(block.packets) <= size for block in blocks[:-1])


async def test_only_blocks_of_the_age_of_a_packet_are_read() -> None:
    table = Table()
    for age_ms in range(0, 100 * SPAN_MS, SPAN_MS):
        table.add([row(-age_ms, number) for number in range(3)])
    wanted = row(-7 * SPAN_MS, 2)
    read: list[str] = []
    table.connection.set_trace_callback(read.append)
    assert await table.kept([wanted.packet_id, row(9 * SPAN_MS).packet_id]) == {
        wanted.packet_id: wanted.octets
    }
    table.connection.set_trace_callback(None)
    assert len(read) == 2
    for statement in read:
        (plan,) = table.connection.execute(f"EXPLAIN QUERY PLAN {statement}")
        assert "INTEGER PRIMARY KEY (rowid>? AND rowid<?)" in plan[3]
    (rows,) = table.connection.execute(read[0].replace("packets", "count(*)")).fetchall()
    assert rows == (1,)


async def test_blocks_of_a_span_are_forgotten_together_in_slices() -> None:
    table = Table()
    most = bounds.KEPT_BLOCKS_FORGOTTEN_AT_ONCE_MAX
    for number in range(most + 3):
        table.add([row(0, number, until_ms=number)])
    table.add([row(SPAN_MS, 0, until_ms=7), row(SPAN_MS, 1, until_ms=1)])
    table.add([row(2 * SPAN_MS, 0, until_ms=5000)])
    assert not await table.table.forget_kept(6)
    assert len(await table.kept_ids()) == most + 6
    assert not await table.table.forget_kept(7)
    assert len(await table.kept_ids()) == most + 4
    assert await table.table.forget_kept(1000)
    assert await table.kept_ids() == [
        row(created_ms, number).packet_id
        for created_ms, number in ((0, most), (0, most + 1), (0, most + 2), (2 * SPAN_MS, 0))
    ]
    assert not await table.table.forget_kept(1000)
    assert await table.kept_ids() == [row(2 * SPAN_MS).packet_id]
    size = table.table.kept_bytes
    table.count()
    assert table.table.kept_bytes == size > 0
    assert not await table.table.forget_kept(5000)
    assert table.table.kept_bytes == 0


async def test_what_is_added_while_its_span_is_forgotten_stays() -> None:
    table = Table()
    table.add([row(0, 1, until_ms=10)])
    (late,) = blocks_of([row(0, 2, until_ms=900)])
    # On disk, and not yet counted.
    kept.insert(table.connection, [late], posted=False)
    table.before_answer = lambda: table.table.added([late])
    assert not await table.table.forget_kept(10)
    table.before_answer = lambda: None
    assert await table.kept_ids() == [row(0, 2).packet_id]
    assert table.table.kept_bytes == late.size
    assert not await table.table.forget_kept(900)
    assert table.table.kept_bytes == 0


async def test_an_insertion_in_doubt_counts_as_kept_until_it_is_looked_for() -> None:
    table = Table()
    table.table.may_have_added()
    assert table.table.kept_bytes > 0
    (block,) = blocks_of([row(0, 1, until_ms=10)])
    kept.insert(table.connection, [block], posted=False)
    assert not await table.table.forget_kept(9)
    assert table.table.kept_bytes == block.size
    table.table.may_have_added()
    assert not await table.table.forget_kept(10)
    assert table.table.kept_bytes == 0


async def test_rows_of_an_earlier_format_are_numbered_by_their_spans() -> None:
    table = Table()
    rows = [row(number % 3 * SPAN_MS, number, until_ms=number) for number in range(600)]
    table.connection.executescript(
        "DROP TABLE kept;"
        "CREATE TABLE kept (n INTEGER PRIMARY KEY, span INTEGER NOT NULL,"
        " keep_until_ms INTEGER NOT NULL, posted INTEGER NOT NULL, packets BLOB NOT NULL);"
        "CREATE INDEX kept_by_span ON kept (span);"
        "CREATE INDEX kept_by_time ON kept (keep_until_ms);"
    )
    for block, one in zip((blocks_of([one])[0] for one in rows), rows, strict=True):
        table.connection.execute(
            "INSERT INTO kept (span, keep_until_ms, posted, packets) VALUES (?, ?, ?, ?)",
            (block.span, block.keep_until_ms, one.keep_until_ms % 2, block.packets),
        )
    kept.convert(table.connection)
    kept.convert(table.connection)  # again is no harm
    table.count()
    assert await table.kept([one.packet_id for one in rows]) == {
        one.packet_id: one.octets for one in rows
    }
    assert await table.kept_ids() == sorted(one.packet_id for one in rows[::2])
    names = table.connection.execute("SELECT name FROM sqlite_master ORDER BY name").fetchall()
    assert names == [("kept",)]
    while await table.table.forget_kept(598):
        pass
    assert set(await table.kept([one.packet_id for one in rows])) == {
        one.packet_id for one in rows if one.packet_id >> 92 == rows[599].packet_id >> 92
    }


async def test_a_fulfilment_cannot_hold_another_one_in_its_data() -> None:
    table = Table()
    mine = row(0, 1, octets=b"mine")
    forged = mine.packet_id.to_bytes(16, "big") + struct.pack(">I", 6) + b"forged"
    table.add([row(0, 2, octets=forged)])
    assert await table.kept([mine.packet_id]) == {}
    table.add([row(0, 3, octets=forged), mine])
    assert await table.kept([mine.packet_id]) == {mine.packet_id: b"mine"}


async def test_packets_known_to_be_posted_are_found_and_not_listed() -> None:
    table = Table()
    table.add([row(0, 1)], posted=True)
    table.add([row(0, 3), row(0, 2)])
    ids = [row(0, number).packet_id for number in (1, 2, 3)]
    assert set(await table.kept(ids)) == set(ids)
    assert await table.kept_ids() == ids[1:]


@pytest.mark.parametrize("damage", [b"short", bytes(16) + b"\0\0\0\x09data"])
def test_a_damaged_block_is_noticed(damage: bytes) -> None:
    with pytest.raises((struct.error, ValueError)):
        list(packets_of(damage))


@pytest.mark.parametrize(
    "damaged",
    [(-1, 1000, 0, b""), (1, "soon", 0, b""), (1, None, 0, b""), (-(2**63), 1000, 1, b"")],
)
def test_a_damaged_row_is_noticed_when_the_table_is_counted(damaged: tuple[object, ...]) -> None:
    table = Table()
    table.connection.executescript(
        "DROP TABLE kept; CREATE TABLE kept (n INTEGER PRIMARY KEY, keep_until_ms, posted, packets)"
    )
    table.connection.execute("INSERT INTO kept VALUES (?, ?, ?, ?)", damaged)
    with pytest.raises((ValueError, TypeError)):
        table.table.count(table.connection)
