"""The outbox: on disk when it says so, in order, each transfer once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from connector import limits
from connector.errors import LedgerUnavailableError
from connector.ledger.model import Transfer
from connector.ledger.outbox import SqliteOutbox

TRANSFERS = [Transfer(2**127 + n, 1, 2, n, flags=4) for n in (3, 1, 2)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "node" / "outbox.db"


@pytest.fixture
async def outbox(path: Path) -> AsyncIterator[SqliteOutbox]:
    outbox = SqliteOutbox(path)
    await outbox.open()
    yield outbox
    await outbox.close()


async def test_transfers_come_back_in_the_order_they_were_added(outbox: SqliteOutbox) -> None:
    assert await outbox.load() == []
    await outbox.add(TRANSFERS[:2])
    await outbox.add(TRANSFERS[2:])
    assert await outbox.load() == TRANSFERS
    await outbox.remove([TRANSFERS[1].id])
    assert await outbox.load() == [TRANSFERS[0], TRANSFERS[2]]


async def test_a_transfer_added_again_stays_once_and_in_its_place(outbox: SqliteOutbox) -> None:
    await outbox.add(TRANSFERS)
    await outbox.add(TRANSFERS[:1])
    assert await outbox.load() == TRANSFERS


async def test_what_was_added_survives_a_restart(outbox: SqliteOutbox, path: Path) -> None:
    await outbox.add(TRANSFERS)
    await outbox.close()
    again = SqliteOutbox(path)
    await again.open()
    assert await again.load() == TRANSFERS
    await again.close()


async def test_it_is_bounded(outbox: SqliteOutbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "OUTBOX_TRANSFERS_MAX", 2)
    with pytest.raises(LedgerUnavailableError, match="full"):
        await outbox.add(TRANSFERS)
    await outbox.add(TRANSFERS[:2])
    with pytest.raises(LedgerUnavailableError, match="full: 2 transfers"):
        await outbox.add(TRANSFERS[2:])
    await outbox.remove([TRANSFERS[0].id])
    await outbox.add(TRANSFERS[2:])
    assert await outbox.load() == TRANSFERS[1:]


async def test_a_disk_that_refuses_is_unavailable(outbox: SqliteOutbox) -> None:
    await outbox.add(TRANSFERS[:1])
    await outbox._file.run(lambda c: c.execute("PRAGMA query_only = 1"))
    with pytest.raises(LedgerUnavailableError, match="readonly"):
        await outbox.add(TRANSFERS[1:])
    with pytest.raises(LedgerUnavailableError, match="readonly"):
        await outbox.remove([TRANSFERS[0].id])
    assert await outbox.load() == TRANSFERS[:1]


async def test_a_file_that_cannot_be_read_is_unavailable(outbox: SqliteOutbox) -> None:
    await outbox._file.run(lambda c: c.execute("DROP TABLE outbox"))
    with pytest.raises(LedgerUnavailableError, match="no such table"):
        await outbox.load()


async def test_what_is_no_database_is_not_overwritten(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"something else entirely" * 100)
    with pytest.raises(LedgerUnavailableError, match=r"outbox\.db"):
        await SqliteOutbox(path).open()
    assert path.read_bytes().startswith(b"something else")


async def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(LedgerUnavailableError):
        await SqliteOutbox(tmp_path / "file" / "outbox.db").open()
