"""The journal of the embedded ledger over time: points, pruning, archives, and a lost end."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from connector.base.errors import LedgerBehindError, LedgerCorruptError, LedgerUnavailableError
from connector.base.marker import SUFFIX, FileMarker
from connector.ledger import bounds
from connector.ledger.embedded import EmbeddedLedger
from connector.ledger.model import PENDING, PHASE_RESOLVE, POST, Status, Transfer
from connector.ledger.retention import Retention
from tests.support.ledgers import Books, ManualClock

DAY = 86_400
DERIVED_ID = 77 << 8


async def no_waiting(_: float) -> None:
    raise AssertionError


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "node" / "ledger.db"


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint after each request, so that every request can be a point."""
    monkeypatch.setattr(bounds, "LEDGER_CHECKPOINT_TRANSFERS", 1)
    monkeypatch.setattr(bounds, "LEDGER_REMEMBERED_TRANSFERS_MAX", 8)


async def opened(path: Path, clock: ManualClock, **options: Any) -> EmbeddedLedger:
    ledger = EmbeddedLedger(path, clock=clock, **options)
    await ledger.open()
    return ledger


@pytest.fixture
async def books(path: Path, clock: ManualClock, tmp_path: Path) -> AsyncIterator[Books]:
    retention = Retention(days=10, archive=tmp_path / "archive")
    ledger = await opened(path, clock, retention=retention)
    books = Books(ledger, no_waiting)
    await books.create()
    yield books
    await ledger.close()


def embedded(books: Books) -> EmbeddedLedger:
    assert isinstance(books.ledger, EmbeddedLedger)
    return books.ledger


async def live(books: Books, clock: ManualClock, days: int, *, first: int = 0) -> None:
    """A transfer a day, and upkeep after each."""
    for day in range(first, first + days):
        await books.done(books.move(day, 1))
        clock.advance(DAY)
        await embedded(books).maintain()


def rows_of(path: Path) -> list[int]:
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as file:
        return [seq for (seq,) in file.execute("SELECT seq FROM journal ORDER BY seq")]


async def test_rows_past_their_days_are_pruned_and_balances_stay(
    books: Books, path: Path, clock: ManualClock
) -> None:
    await live(books, clock, 40)
    ledger = embedded(books)
    kept = rows_of(path)
    # The 40 transfers are rows 2 to 41. Ten days, the base, and the stretch before it.
    assert 10 <= len(kept) <= 13
    assert kept[-1] == 41
    assert ledger.upkeep.pruned_rows == 41 - len(kept)
    assert await books.balances(books.peer) == (0, 0, 0, 40)
    machine, rows = await ledger.replay_all()
    assert rows < len(kept)
    assert machine.accounts[books.peer].snapshot() == ledger.machine.accounts[books.peer].snapshot()


async def test_stretches_go_with_their_rows(books: Books, path: Path, clock: ManualClock) -> None:
    await live(books, clock, 30)
    clock.advance(3600)
    for _ in range(5):
        await embedded(books).maintain()
    rows = rows_of(path)
    assert rows[0] > 5
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as file:
        found = file.execute("SELECT first_seq, last_seq FROM id_range ORDER BY 2").fetchall()
    file.close()
    assert found[0][0] <= rows[0] <= found[0][1]
    await embedded(books).close()
    again = await opened(path, clock)
    assert await again.lookup_transfers([books.id(29)])
    await again.close()


async def test_a_pruned_journal_opens_again_after_a_kill(
    books: Books, path: Path, clock: ManualClock, tmp_path: Path
) -> None:
    await live(books, clock, 40)
    shutil.copytree(path.parent, tmp_path / "copy")
    after = await opened(tmp_path / "copy" / path.name, clock)
    assert (await after.lookup_accounts([books.peer]))[0].credits_posted == 40
    machine, _ = await after.replay_all()
    assert machine.accounts[books.bank].debits_posted == 40
    await after.close()


async def test_a_hold_that_is_older_than_the_journal_can_be_posted(
    books: Books, clock: ManualClock
) -> None:
    await books.done(books.move(1000, 50))
    hold = books.spend(1001, 5, flags=PENDING)
    await books.done(hold)
    await live(books, clock, 40)
    post = Transfer(hold.id | PHASE_RESOLVE, 0, 0, 5, hold.id, flags=POST)
    await books.done(post)
    machine, _ = await embedded(books).replay_all()
    assert machine.accounts[books.peer].debits_posted == 5


async def test_a_derived_id_is_known_for_ever(books: Books, path: Path, clock: ManualClock) -> None:
    """A settlement told once more after its journal row is gone: the ledger says it exists."""
    settled = books.move(0, 70, id=DERIVED_ID)
    await books.done(settled)
    await live(books, clock, 40, first=1)
    assert rows_of(path)[0] > 2
    assert await books.write(settled) == [Status.EXISTS]
    assert await books.write(books.move(0, 71, id=DERIVED_ID)) == [
        Status.EXISTS_WITH_DIFFERENT_AMOUNT
    ]
    await embedded(books).close()
    after = await opened(path, clock)
    assert await after.create_transfers([settled]) == [Status.EXISTS]
    await after.close()


async def test_a_derived_id_that_failed_stays_failed(books: Books, clock: ManualClock) -> None:
    refused = books.spend(0, 70, id=DERIVED_ID)
    assert await books.write(refused) == [Status.EXCEEDS_CREDITS]
    await live(books, clock, 40, first=1)
    await books.done(books.move(100, 1000))
    assert await books.write(refused) == [Status.ID_ALREADY_FAILED]


async def test_pruned_rows_are_archived_first(
    books: Books, path: Path, clock: ManualClock, tmp_path: Path
) -> None:
    await live(books, clock, 40)
    archived: list[int] = []
    for file in sorted((tmp_path / "archive").glob("*.db")):
        with sqlite3.connect(file) as copy:
            archived += [seq for (seq,) in copy.execute("SELECT seq FROM journal ORDER BY seq")]
    assert archived + rows_of(path) == list(range(1, 42))
    assert not list((tmp_path / "archive").glob("*.partial"))


async def test_rows_that_cannot_be_archived_are_not_pruned(
    books: Books, path: Path, clock: ManualClock, tmp_path: Path
) -> None:
    (tmp_path / "archive").write_text("a file, not a folder")
    for day in range(30):
        await books.done(books.move(day, 1))
        clock.advance(DAY)
        try:
            await embedded(books).maintain()
        except LedgerUnavailableError:
            continue
    assert rows_of(path) == list(range(1, 32))


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE checkpoint SET holds = x'0102'",
        "UPDATE checkpoint SET timestamp = 1",
        "UPDATE account SET user_data_128 = 'x'",
    ],
)
async def test_a_file_that_is_damaged_while_it_is_used_is_told_and_not_pruned(
    books: Books, path: Path, clock: ManualClock, damage: str
) -> None:
    await live(books, clock, 30)
    await books.done(books.move(30, 1))
    before = rows_of(path)
    with sqlite3.connect(path) as file:
        file.execute(damage)
    file.close()
    clock.advance(2 * DAY)
    with pytest.raises(LedgerUnavailableError, match="is damaged, and nothing is pruned"):
        await embedded(books).maintain()
    assert rows_of(path) == before
    assert await books.balances(books.peer) == (0, 0, 0, 31)


async def test_nothing_young_is_pruned_however_large_the_file(
    path: Path, clock: ManualClock
) -> None:
    ledger = await opened(path, clock, retention=Retention(days=10, bytes_max=1))
    books = Books(ledger, no_waiting)
    await books.create()
    for number in range(20):
        await books.done(books.move(number, 1))
        clock.advance(1)
        await ledger.maintain()
    assert rows_of(path) == list(range(1, 22))
    assert ledger.upkeep.is_over
    for number in range(20, 40):
        await books.done(books.move(number, 1))
        clock.advance(bounds.JOURNAL_KEPT_SECONDS_MIN)
        await ledger.maintain()
    for _ in range(20):
        await ledger.maintain()
    assert len(rows_of(path)) < 10
    await ledger.close()


async def test_a_clock_that_jumps_ahead_prunes_nothing_young(
    path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monotonic_s = [0.0]
    monkeypatch.setattr(clock, "monotonic_s", lambda: monotonic_s[0])
    ledger = await opened(path, clock, retention=Retention(days=10))
    books = Books(ledger, no_waiting)
    await books.create()
    await live(books, clock, 40)
    assert rows_of(path) == list(range(1, 42))
    await ledger.close()


async def test_rows_are_pruned_a_slice_at_a_time(
    books: Books, path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounds, "JOURNAL_ROWS_PRUNED_AT_ONCE", 2)
    monkeypatch.setattr(bounds, "JOURNAL_SLICES_PER_UPKEEP", 1)
    for day in range(40):
        await books.done(books.move(day, 1))
    await embedded(books).maintain()
    clock.advance(30 * DAY)
    await books.done(books.move(40, 1))
    await embedded(books).maintain()
    clock.advance(30 * DAY)
    await books.done(books.move(41, 1))
    before = len(rows_of(path))
    await embedded(books).maintain()
    assert len(rows_of(path)) == before - 2
    await embedded(books).maintain()
    assert len(rows_of(path)) == before - 4
    await embedded(books).replay_all()


@pytest.mark.long
@pytest.mark.parametrize(
    "spoil",
    [
        "UPDATE point SET hash = zeroblob(32) WHERE state IS NOT NULL",
        "UPDATE point SET timestamp = timestamp + 1 WHERE state IS NOT NULL",
        "UPDATE point SET state = (SELECT state FROM point ORDER BY seq DESC LIMIT 1)",
        "DELETE FROM journal WHERE seq = (SELECT max(seq) - 3 FROM journal)",
        "DELETE FROM point",
    ],
)
async def test_a_chain_that_was_changed_is_found(
    books: Books, path: Path, clock: ManualClock, tmp_path: Path, spoil: str
) -> None:
    await live(books, clock, 40)
    shutil.copytree(path.parent, tmp_path / "copy")
    copy = tmp_path / "copy" / path.name
    with sqlite3.connect(copy) as file:
        file.execute(spoil)
    after = await opened(copy, clock, read_only=True)
    with pytest.raises(LedgerCorruptError):
        await after.replay_all()
    await after.close()


async def test_an_older_format_is_brought_up_to_date(path: Path, clock: ManualClock) -> None:
    ledger = await opened(path, clock)
    books = Books(ledger, no_waiting)
    await books.create()
    grant = books.move(0, 70, id=DERIVED_ID)
    await books.done(grant)
    for number in range(1, 20):
        await books.done(books.move(number, 1))
    await ledger.close()
    with sqlite3.connect(path) as file:
        file.executescript("DROP TABLE derived; DROP TABLE point; PRAGMA user_version = 2;")
    path.with_name(path.name + SUFFIX).unlink()
    after = await opened(path, clock)
    assert await after.create_transfers([grant]) == [Status.EXISTS]
    await after.replay_all()
    await after.close()


# --- a journal that has lost its end


def without_wal(path: Path, to: Path) -> Path:
    """The folder as after `kill -9`, its write-ahead log lost."""
    shutil.copytree(path.parent, to)
    (to / f"{path.name}-wal").unlink()
    return to / path.name


async def with_log(path: Path, clock: ManualClock, requests: int) -> tuple[EmbeddedLedger, Books]:
    """A ledger with so many requests in its write-ahead log; all else is in the file itself."""
    ledger = await opened(path, clock)
    books = Books(ledger, no_waiting)
    await books.create()
    await ledger.close()
    await ledger.open()
    for number in range(requests):
        await books.done(books.move(number, 1))
    return ledger, books


async def test_a_lost_write_ahead_log_is_refused_with_what_is_missing(
    path: Path, clock: ManualClock, tmp_path: Path
) -> None:
    ledger, books = await with_log(path, clock, 5)
    copy = without_wal(path, tmp_path / "copy")
    await ledger.close()
    with pytest.raises(LedgerBehindError, match=r"the last 5 are missing.*--accept-ledger-loss"):
        await opened(copy, clock)
    reader = await opened(copy, clock, read_only=True)
    assert reader.missing_requests == 5
    await reader.close()
    after = await opened(copy, clock, accept_loss=True)
    assert after.missing_requests == 5
    assert await after.create_transfers([books.move(0, 1)]) == [Status.CREATED]
    await after.close()
    # It was said once: from now on the file is whole again.
    again = await opened(copy, clock)
    assert again.missing_requests == 0
    await again.close()


async def test_what_was_given_up_is_not_missed_again(
    path: Path, clock: ManualClock, tmp_path: Path
) -> None:
    """Also if the process is killed before it has acknowledged anything."""
    ledger, _ = await with_log(path, clock, 4)
    copy = without_wal(path, tmp_path / "copy")
    await ledger.close()
    after = await opened(copy, clock, accept_loss=True)
    shutil.copytree(copy.parent, tmp_path / "killed")
    await after.close()
    again = await opened(tmp_path / "killed" / copy.name, clock)
    assert again.missing_requests == 0
    await again.close()


async def test_after_a_power_cut_all_that_is_there_counts_as_acknowledged(
    path: Path, clock: ManualClock, tmp_path: Path
) -> None:
    """The marker is not synced with every request: it may be behind the journal then."""
    ledger = await opened(path, clock)
    books = Books(ledger, no_waiting)
    await books.create()
    await ledger.close()
    await ledger.open()
    marker = path.with_name(path.name + SUFFIX)
    synced = marker.read_bytes()
    for number in range(3):
        await books.done(books.move(number, 1))
    shutil.copytree(path.parent, tmp_path / "cut")
    await ledger.close()
    copy = tmp_path / "cut" / path.name
    copy.with_name(marker.name).write_bytes(synced)
    after = await opened(copy, clock)
    later = without_wal(copy, tmp_path / "later")
    await after.close()
    with pytest.raises(LedgerBehindError, match="the last 3 are missing"):
        await opened(later, clock)


async def test_a_missing_file_is_refused(path: Path, clock: ManualClock) -> None:
    ledger = await opened(path, clock)
    books = Books(ledger, no_waiting)
    await books.create()
    await ledger.close()
    path.unlink()
    with pytest.raises(LedgerBehindError, match="ends at request 0, but 1 were acknowledged"):
        await opened(path, clock)
    await (await opened(path, clock, accept_loss=True)).close()


async def test_a_refused_journal_is_not_touched(
    path: Path, clock: ManualClock, tmp_path: Path
) -> None:
    ledger = await opened(path, clock)
    books = Books(ledger, no_waiting)
    await books.create()
    await books.done(books.move(0, 1))
    await ledger.close()
    marker = FileMarker(path.with_name(path.name + SUFFIX))
    marker.open()
    marker.write(9)
    marker.close()
    before = path.read_bytes()
    with pytest.raises(LedgerBehindError, match="the last 7 are missing"):
        await opened(path, clock)
    assert path.read_bytes() == before


@pytest.mark.long
def test_a_marker_survives_a_torn_write(tmp_path: Path) -> None:
    path = tmp_path / "marker"
    marker = FileMarker(path)
    assert marker.open() == 0
    for seq in range(1, 8):
        marker.write(seq)
    marker.close()
    whole = path.read_bytes()
    assert FileMarker(path).open() == 7
    for at in range(len(whole)):
        octets = bytearray(whole)
        octets[at] ^= 0xFF
        path.write_bytes(octets)
        assert FileMarker(path, read_only=True).open() in (6, 7)


def test_a_marker_that_is_missing_or_short_says_nothing(tmp_path: Path) -> None:
    path = tmp_path / "marker"
    assert FileMarker(path, read_only=True).open() == 0
    assert not path.exists()
    path.write_bytes(b"ilp")
    assert FileMarker(path).open() == 0
    marker = FileMarker(path)
    marker.open()
    marker.write(3)
    marker.close()
    marker.close()
    assert FileMarker(path).open() == 3
