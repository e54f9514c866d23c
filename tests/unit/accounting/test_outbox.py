"""The outbox: durable when it has acknowledged, in order, and its state after a clean stop."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from connector.accounting import bounds as accounting_bounds
from connector.accounting.outbox import SqliteOutbox
from connector.base import limits
from connector.base.errors import LedgerCorruptError, LedgerUnavailableError
from connector.base.sqlite import SqliteFile
from connector.ledger import bounds as ledger_bounds
from connector.ledger.kept import SPAN_MS
from connector.ledger.model import Kept, Memory, Posted, Transfer

ALL = 1000
TRANSFERS = [Transfer(2**127 + n, 1, 2, n, flags=4) for n in (3, 1, 2)]
FIRST, SECOND = TRANSFERS[:2], TRANSFERS[2:]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "node" / "outbox.db"


@pytest.fixture
async def outbox(path: Path) -> AsyncIterator[SqliteOutbox]:
    outbox = SqliteOutbox(SqliteFile(path))
    await outbox.open()
    yield outbox
    await outbox.close()


async def requests(outbox: SqliteOutbox) -> list[list[Transfer]]:
    return [request for _, request in await outbox.load(0, ALL)]


async def again(path: Path) -> SqliteOutbox:
    outbox = SqliteOutbox(SqliteFile(path))
    await outbox.open()
    return outbox


async def test_requests_come_back_in_the_order_they_were_added(outbox: SqliteOutbox) -> None:
    assert await outbox.load(0, ALL) == []
    one, two = await outbox.add(FIRST), await outbox.add(SECOND)
    assert one < two
    assert await outbox.load(0, ALL) == [(one, FIRST), (two, SECOND)]
    assert await outbox.load(one, ALL) == [(two, SECOND)]
    assert outbox.transfers == 3
    await outbox.remove([one])
    assert await outbox.load(0, ALL) == [(two, SECOND)]
    assert outbox.transfers == 1


async def test_as_many_as_fit_and_one_at_least(outbox: SqliteOutbox) -> None:
    seqs = [await outbox.add(request) for request in (FIRST, SECOND, SECOND)]
    for room, count in ((1, 1), (2, 1), (3, 2), (4, 3)):
        assert [seq for seq, _ in await outbox.load(0, room)] == seqs[:count]


async def test_a_number_is_never_used_twice(outbox: SqliteOutbox) -> None:
    seq = await outbox.add(FIRST)
    await outbox.remove([seq])
    assert await outbox.add(SECOND) > seq


async def test_what_was_added_survives_a_restart(outbox: SqliteOutbox, path: Path) -> None:
    await outbox.add(TRANSFERS)
    await outbox.close()
    later = await again(path)
    assert await requests(later) == [TRANSFERS]
    assert later.transfers == 3
    await later.close()


async def test_it_is_bounded(outbox: SqliteOutbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "OUTBOX_TRANSFERS_MAX", 2)
    with pytest.raises(LedgerUnavailableError, match="full"):
        await outbox.add(TRANSFERS)
    seq = await outbox.add(FIRST)
    with pytest.raises(LedgerUnavailableError, match="full: 2 transfers"):
        await outbox.add(SECOND)
    await outbox.remove([seq])
    await outbox.add(SECOND)
    assert await requests(outbox) == [SECOND]


@pytest.mark.long
async def test_room_for_posts_is_set_aside(outbox: SqliteOutbox, path: Path) -> None:
    """What a full disk must take is what it has given already."""
    log = path.with_name("outbox.db-wal")
    sizes = path.stat().st_size, log.stat().st_size
    assert min(sizes) >= accounting_bounds.OUTBOX_RESERVED_BYTES
    for _ in range(300):
        seq = await outbox.add(TRANSFERS * 10)
        await outbox.remove([seq])
    assert (path.stat().st_size, log.stat().st_size) == sizes


async def test_a_disk_that_refuses_is_unavailable(outbox: SqliteOutbox) -> None:
    seq = await outbox.add(FIRST)
    await outbox._file.run(lambda c: c.execute("PRAGMA query_only = 1"))
    with pytest.raises(LedgerUnavailableError, match="readonly"):
        await outbox.add(SECOND)
    with pytest.raises(LedgerUnavailableError, match="readonly"):
        await outbox.remove([seq])
    assert await requests(outbox) == [FIRST]
    assert outbox.transfers == 2


async def test_a_file_that_cannot_be_read_is_unavailable(outbox: SqliteOutbox) -> None:
    await outbox._file.run(lambda c: c.execute("DROP TABLE request"))
    with pytest.raises(LedgerUnavailableError, match="no such table"):
        await outbox.load(0, ALL)


async def test_a_file_of_another_version_is_refused(path: Path) -> None:
    path.parent.mkdir()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE outbox (seq INTEGER)")
    connection.close()
    with pytest.raises(LedgerCorruptError, match="format 0, this version reads 4"):
        await again(path)


async def test_what_is_no_database_is_unavailable(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"?" * 5000)
    with pytest.raises(LedgerUnavailableError, match="not a database"):
        await again(path)


async def test_how_far_it_goes_is_known_at_the_start(outbox: SqliteOutbox) -> None:
    assert (await outbox.begin()).last_seq == 0
    await outbox.add(FIRST)
    seq = await outbox.add(SECOND)
    assert (await outbox.begin()).last_seq == seq


async def test_balances_are_remembered_after_a_clean_stop_only(
    outbox: SqliteOutbox, path: Path
) -> None:
    assert await outbox.begin() == Memory(is_new=True, books=None)
    assert await outbox.begin() == Memory(is_new=False, books=None)  # as after a crash
    books = {2**127 + 1: Posted(2**100, 0), 7: Posted(0, 5)}
    await outbox.end(books)
    await outbox.close()
    later = await again(path)
    assert await later.begin() == Memory(is_new=False, books=books)
    await later.close()
    after_crash = await again(path)
    assert await after_crash.begin() == Memory(is_new=False, books=None)
    await after_crash.end({})
    assert await after_crash.begin() == Memory(is_new=False, books={})
    await after_crash.close()


async def test_what_was_acknowledged_is_remembered_account_by_account(
    outbox: SqliteOutbox, path: Path
) -> None:
    assert (await outbox.begin()).acknowledged == {}
    await outbox.remember({2**127 + 1: Posted(2**100, 0), 7: Posted(0, 5)}, 2**120)
    await outbox.remember({7: Posted(1, 6)}, 2**121)
    await outbox.close()
    later = await again(path)
    memory = await later.begin()
    assert memory.acknowledged == {2**127 + 1: Posted(2**100, 0), 7: Posted(1, 6)}
    assert memory.highest_id == 2**121
    await later.remember({9: Posted(0, 0)}, 2**121, replace=True)
    assert (await later.begin()).acknowledged == {9: Posted(0, 0)}
    await later.close()


@pytest.mark.parametrize("replaced", [False, True])
async def test_a_file_that_was_removed_is_written_anew(
    outbox: SqliteOutbox, path: Path, replaced: bool
) -> None:
    seq = await outbox.add(FIRST)
    assert not await outbox.restore()
    for file in path.parent.iterdir():
        file.unlink()
    if replaced:
        path.write_bytes(b"")
    assert await outbox.restore()
    assert not await outbox.restore()
    assert await outbox.load(0, ALL) == [(seq, FIRST)]
    assert await outbox.add(SECOND) > seq
    await outbox.close()
    later = await again(path)
    assert await requests(later) == [FIRST, SECOND]
    await later.close()


async def test_a_folder_that_was_removed_cannot_be_written_anew(
    outbox: SqliteOutbox, path: Path
) -> None:
    await outbox.add(FIRST)
    for file in path.parent.iterdir():
        file.unlink()
    path.parent.rmdir()
    with pytest.raises(LedgerUnavailableError, match="unable to open"):
        await outbox.restore()
    assert await requests(outbox) == [FIRST]  # as long as the process lives


# --- fulfilments that could not be fetched again


def kept(number: int, until_ms: int = 1000, size: int = 40, *, span: int = 0) -> Kept:
    """`span`: packets of different ones were created so far apart that they are in two blocks."""
    id_ = 2**120 + (span * SPAN_MS << 80) + (number << 8)
    return Kept(id_, until_ms, bytes([number % 256]) * size)


def size_of(*blocks: list[Kept]) -> int:
    return sum(
        ledger_bounds.KEPT_BLOCK_OVERHEAD_BYTES + sum(20 + len(row.octets) for row in block)
        for block in blocks
    )


async def test_fulfilments_are_found_by_their_packets_also_later(
    outbox: SqliteOutbox, path: Path
) -> None:
    rows = [kept(3), kept(1, size=32_800), kept(2)]
    await outbox.keep(rows)
    await outbox.keep(rows[:1])  # again is no harm
    await outbox.close()
    later = await again(path)
    assert later.kept_bytes == size_of(rows, rows[:1])
    assert await later.kept_ids() == [kept(number).packet_id for number in (1, 2, 3)]
    found = await later.kept([row.packet_id for row in (*rows[:2], kept(9))])
    assert found == {row.packet_id: row.octets for row in rows[:2]}
    await later.close()


@pytest.mark.interpreted
async def test_fulfilments_are_forgotten_in_slices(
    outbox: SqliteOutbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_bounds, "KEPT_BLOCKS_FORGOTTEN_AT_ONCE_MAX", 3)
    rows = [kept(number, until_ms=number * 100, span=number // 6) for number in range(1, 8)]
    for row in rows:
        await outbox.keep([row])
    assert await outbox.forget_kept(500)
    assert not await outbox.forget_kept(500)
    assert await outbox.kept_ids() == [rows[5].packet_id, rows[6].packet_id]
    assert outbox.kept_bytes == size_of([rows[5]], [rows[6]])
    assert not await outbox.forget_kept(500)
    assert not await outbox.forget_kept(1000)
    assert outbox.kept_bytes == 0
    assert not await outbox.forget_kept(1000)


async def test_a_block_is_kept_until_the_last_of_its_packets_is_over(outbox: SqliteOutbox) -> None:
    await outbox.keep([kept(1, until_ms=900), kept(2, until_ms=100), kept(3, 100, span=1)])
    await outbox.forget_kept(899)
    assert await outbox.kept_ids() == [kept(1).packet_id, kept(2).packet_id]
    await outbox.forget_kept(900)
    assert await outbox.kept_ids() == []


async def test_fulfilments_that_the_disk_refused_take_no_room(path: Path) -> None:
    file = SqliteFile(path)
    outbox = SqliteOutbox(file)
    await outbox.open()
    await file.run(lambda connection: connection.execute("PRAGMA query_only=1"))
    with pytest.raises(LedgerUnavailableError):
        await outbox.keep([kept(1)])
    await file.run(lambda connection: connection.execute("PRAGMA query_only=0"))
    await outbox.forget_kept(0)
    assert outbox.kept_bytes == 0
    assert await outbox.kept_ids() == []
    await outbox.close()


async def test_a_file_of_before_there_were_fulfilments_is_taken(path: Path) -> None:
    first = await again(path)
    await first.add(FIRST)
    await first.close()
    connection = sqlite3.connect(path)
    connection.executescript("DROP TABLE kept; PRAGMA user_version = 2")
    connection.close()
    later = await again(path)
    assert await requests(later) == [FIRST]
    assert await later.kept_ids() == []
    await later.close()


async def test_fulfilments_in_rows_of_an_earlier_version_are_found(path: Path) -> None:
    first = await again(path)
    await first.add(FIRST)
    await first.close()
    connection = sqlite3.connect(path)
    connection.executescript(
        "DROP TABLE kept; PRAGMA user_version = 2;"
        "CREATE TABLE fulfilment (packet_id BLOB PRIMARY KEY, keep_until_ms INTEGER NOT NULL,"
        " octets BLOB NOT NULL) WITHOUT ROWID;"
    )
    rows = [kept(number, until_ms=number, span=number // 1000) for number in range(2500)]
    connection.executemany(
        "INSERT INTO fulfilment VALUES (?, ?, ?)",
        [(row.packet_id.to_bytes(16, "big"), row.keep_until_ms, row.octets) for row in rows],
    )
    connection.commit()
    connection.close()
    later = await again(path)
    assert await requests(later) == [FIRST]
    assert await later.kept_ids() == [row.packet_id for row in rows]
    assert await later.kept([row.packet_id for row in rows]) == {
        row.packet_id: row.octets for row in rows
    }
    while await later.forget_kept(1999):
        pass
    assert await later.kept_ids() == [row.packet_id for row in rows[2000:]]
    await later.close()
    last = await again(path)
    assert await last.kept_ids() == [row.packet_id for row in rows[2000:]]
    await last.close()


@pytest.mark.long
async def test_fulfilments_leave_the_room_that_is_set_aside_for_posts(
    outbox: SqliteOutbox, path: Path
) -> None:
    for start in range(0, 200, 20):
        await outbox.keep([kept(n, size=32_000) for n in range(start, start + 20)])
        connection = sqlite3.connect(path)
        (free,) = connection.execute("PRAGMA freelist_count").fetchone()
        connection.close()
        assert free * 4096 >= accounting_bounds.OUTBOX_RESERVED_BYTES
