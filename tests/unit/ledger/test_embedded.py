"""The embedded ledger's file: who may use it, what happens when it is damaged or the disk full."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import sqlite3
import subprocess
import sys
import textwrap
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from connector.base.errors import LedgerCorruptError, LedgerLockedError, LedgerUnavailableError
from connector.ledger import bounds as ledger_bounds
from connector.ledger import journal
from connector.ledger.embedded import EmbeddedLedger
from connector.ledger.model import (
    AMOUNT_MAX,
    PENDING,
    PHASE_RESOLVE,
    POST,
    VOID,
    Kept,
    Status,
    Transfer,
)
from tests.support.ledgers import Books, ManualClock


async def no_waiting(_: float) -> None:
    raise AssertionError


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "node" / "ledger.db"


@pytest.fixture
async def books(path: Path, clock: ManualClock) -> AsyncIterator[Books]:
    ledger = EmbeddedLedger(path, clock=clock)
    await ledger.open()
    books = Books(ledger, no_waiting)
    await books.create()
    yield books
    await ledger.close()


def embedded(books: Books) -> EmbeddedLedger:
    assert isinstance(books.ledger, EmbeddedLedger)
    return books.ledger


def killed(path: Path, to: Path) -> Path:
    """The file as `kill -9` would leave it now."""
    shutil.copytree(path.parent, to)
    return to / path.name


async def reopened(path: Path, clock: ManualClock, **options: Any) -> EmbeddedLedger:
    ledger = EmbeddedLedger(path, clock=clock, **options)
    await ledger.open()
    return ledger


@pytest.mark.processes
async def test_a_second_user_of_the_file_is_refused_by_name(
    books: Books, path: Path, clock: ManualClock
) -> None:
    program = textwrap.dedent(f"""
        import asyncio, pathlib
        from connector.base.clock import SystemClock
        from connector.base.errors import LedgerLockedError
        from connector.ledger.embedded import EmbeddedLedger
        async def main():
            try:
                await EmbeddedLedger(pathlib.Path({str(path)!r}), clock=SystemClock()).open()
            except LedgerLockedError as error:
                print(error)
        asyncio.run(main())
    """)
    done = subprocess.run(  # noqa: ASYNC221 - nothing else runs here
        [sys.executable, "-c", program], cwd=Path(__file__).parents[3], capture_output=True,
        text=True, check=True, timeout=60,
    )  # fmt: skip
    assert "is in use by process" in done.stdout
    with pytest.raises(LedgerLockedError, match="DATA_DIR"):
        await EmbeddedLedger(path, clock=clock).open()
    await books.ledger.close()
    await (await reopened(path, clock)).close()


async def test_the_file_may_be_looked_at_while_it_is_in_use(
    books: Books, path: Path, clock: ManualClock
) -> None:
    await books.done(books.move(1, 30), books.spend(2, 10, flags=PENDING))
    reader = await reopened(path, clock, read_only=True)
    ids = [books.peer, books.bank]
    assert await reader.lookup_accounts(ids) == await books.ledger.lookup_accounts(ids)
    machine, rows = await reader.replay_all()
    assert machine.accounts[books.peer].snapshot()[1:5] == (10, 0, 0, 30)
    assert rows == 2
    await reader.close()
    # Looking has changed nothing.
    await books.done(books.move(3))


async def test_closing_twice_and_closing_what_never_opened(path: Path, clock: ManualClock) -> None:
    ledger = EmbeddedLedger(path, clock=clock)
    await ledger.close()
    await ledger.open()
    await ledger.close()
    await ledger.close()


@pytest.mark.parametrize("close_first", [False, True])
async def test_a_request_that_is_written_while_the_ledger_is_closed_is_counted_once(
    books: Books, path: Path, clock: ManualClock, close_first: bool
) -> None:
    """Its row comes after the checkpoint, or the checkpoint has it and says so."""
    await books.done(books.move(1, 100))
    pending = [lambda: books.write(books.move(2, 30)), books.ledger.close]
    if close_first:
        pending.reverse()
    tasks = [asyncio.ensure_future(one()) for one in pending]
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert None in results, "it was closed"
    acknowledged = 100
    if [Status.CREATED] in results:
        acknowledged += 30
    else:
        assert any(isinstance(one, LedgerUnavailableError) for one in results)
    with pytest.raises(LedgerUnavailableError, match="is being closed"):
        await books.write(books.move(3))
    after = await reopened(path, clock)
    (peer,) = await after.lookup_accounts([books.peer])
    assert peer.credits_posted == acknowledged
    replayed, _ = await after.replay_all()
    assert replayed.accounts[books.peer].snapshot() == peer
    await after.close()


async def test_a_replay_tells_how_far_it_is(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_bounds, "REPLAYED_ROWS_PER_REPORT", 2)
    for number in range(4):
        await books.done(books.move(number))
    told: list[tuple[int, int]] = []
    _, rows = await embedded(books).replay_all(lambda done, of: told.append((done, of)))
    assert rows == 5, "the accounts, too"
    assert told == [(2, 5), (4, 5)]


@pytest.mark.interpreted
async def test_a_request_that_fails_before_it_is_written_is_no_part_of_the_books(
    books: Books, path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was applied in memory; neither the next request nor a checkpoint sees it."""
    await books.done(books.move(1, 100))

    def no_memory(*_: object) -> bytes:
        raise MemoryError

    for close in (False, True):
        with monkeypatch.context() as patch:
            patch.setattr("connector.ledger.embedded.pack_entries", no_memory)
            with pytest.raises(MemoryError):
                await books.write(books.move(2, 30))
        if close:
            await books.ledger.close()
            await books.ledger.open()
        (peer,) = await books.ledger.lookup_accounts([books.peer])
        assert peer.credits_posted == 100
    await books.done(books.move(2, 30))
    replayed, _ = await embedded(books).replay_all()
    assert replayed.accounts[books.peer].credits_posted == 130


async def test_a_closed_ledger_is_not_called_damaged(books: Books) -> None:
    ledger = embedded(books)
    await ledger.close()
    for question in (
        ledger.lookup_accounts([books.peer]),
        ledger.lookup_transfers([books.id(1)]),
        ledger.tagged_transfers([books.tag], 0),
        ledger.recent_transfers(0),
        ledger.replay_all(),
        ledger.maintain(),
        ledger.fulfilments.kept([books.id(1)]),
    ):
        with pytest.raises(LedgerUnavailableError, match="is being closed"):
            await question


async def test_acknowledged_requests_survive_a_kill(
    books: Books, path: Path, clock: ManualClock, tmp_path: Path
) -> None:
    """First all from the journal, then from a checkpoint and the tail after it."""
    hold = books.spend(2, 40, flags=PENDING, timeout=30)
    await books.done(books.move(1, 100), hold)
    for round_ in range(2):
        if round_ == 1:
            await books.ledger.close()
            await books.ledger.open()
            await books.done(books.move(3, 1))
        after = await reopened(killed(path, tmp_path / f"copy{round_}"), clock)
        ids = [books.peer, books.bank, books.sink, books.other]
        assert await after.lookup_accounts(ids) == await books.ledger.lookup_accounts(ids)
        assert await after.create_transfers([books.move(1, 100), hold]) == [Status.EXISTS] * 2
        post = Transfer(hold.id | PHASE_RESOLVE, 0, 0, AMOUNT_MAX, hold.id, flags=POST)
        assert await after.create_transfers([post]) == [Status.CREATED]
        await after.close()


async def test_checkpoints_are_saved_while_running(
    books: Books, path: Path, clock: ManualClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_bounds, "LEDGER_CHECKPOINT_TRANSFERS", 3)
    for number in range(10):
        await books.done(books.move(number, 1))
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as file:
        seq, rows = file.execute(
            "SELECT seq, (SELECT count(*) FROM journal) FROM checkpoint"
        ).fetchone()
    file.close()
    assert 8 <= seq <= rows == 11
    after = await reopened(killed(path, tmp_path / "copy"), clock)
    assert await after.lookup_accounts([books.bank]) == await books.ledger.lookup_accounts(
        [books.bank]
    )
    replayed, _ = await after.replay_all()
    assert replayed.accounts[books.bank].snapshot() == after.machine.accounts[books.bank].snapshot()
    await after.close()


@pytest.mark.interpreted
async def test_ids_older_than_what_is_remembered_are_found_in_the_journal(
    path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_bounds, "LEDGER_REMEMBERED_TRANSFERS_MAX", 6)
    monkeypatch.setattr(ledger_bounds, "LEDGER_CHECKPOINT_TRANSFERS", 2)
    ledger = await reopened(path, clock)
    books = Books(ledger, no_waiting)
    await books.create()
    hold = books.move(0, 5, flags=PENDING)
    post = Transfer(hold.id | PHASE_RESOLVE, 0, 0, AMOUNT_MAX, hold.id, flags=POST)
    refused = books.spend(1, 1000)
    await books.done(hold, post)
    assert await books.write(refused) == [Status.EXCEEDS_CREDITS]
    for number in range(2, 12):
        await books.done(books.move(number, 1))
    for _ in range(2):
        assert hold.id not in [t.id for t, _ in ledger.machine.records()]
        assert await ledger.create_transfers([hold, post, refused, books.move(2, 1)]) == [
            Status.EXISTS,
            Status.EXISTS,
            Status.ID_ALREADY_FAILED,
            Status.EXISTS,
        ]
        again = post._replace(id=books.id(0) | 0x40)
        assert await ledger.create_transfers([again]) == [Status.PENDING_TRANSFER_ALREADY_POSTED]
        found = await ledger.lookup_transfers([hold.id, refused.id, books.id(3)])
        assert [t.id for t in found] == [hold.id, books.id(3)]
        # And after a restart, which remembers no more than before.
        await ledger.close()
        await ledger.open()
    await ledger.close()


# --- stretches of rows, by their ids


@pytest.fixture
async def long_ago(
    path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Books]:
    """Thirty transfers in stretches of three, of which the last six are remembered."""
    monkeypatch.setattr(ledger_bounds, "LEDGER_REMEMBERED_TRANSFERS_MAX", 6)
    monkeypatch.setattr(ledger_bounds, "LEDGER_CHECKPOINT_TRANSFERS", 3)
    ledger = await reopened(path, clock)
    books = Books(ledger, no_waiting)
    await books.create()
    for number in range(30):
        await books.done(books.move(number, 1))
    yield books
    await embedded(books).close()


def stretches(path: Path) -> list[tuple[int, int]]:
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as file:
        found = file.execute(
            "SELECT first_seq, last_seq FROM id_range ORDER BY last_seq"
        ).fetchall()
    file.close()
    return found


def statements_of(books: Books, connection: str = "_file") -> list[str]:
    """The statements with which the ledger looks into its journal from now on."""
    seen: list[str] = []

    def trace(connection: sqlite3.Connection) -> None:
        connection.set_trace_callback(
            lambda text: seen.append(text) if "FROM journal" in text else None
        )

    getattr(embedded(books), connection).look(trace)
    return seen


def is_contiguous(found: list[tuple[int, int]]) -> bool:
    return all(end + 1 == begin for (_, end), (begin, _) in pairwise(found))


@pytest.mark.interpreted
async def test_an_old_id_is_looked_for_in_the_stretch_that_may_have_it(
    long_ago: Books, path: Path
) -> None:
    found = stretches(path)
    assert len(found) >= 9
    assert found[0][0] == 1
    assert is_contiguous(found)
    seen = statements_of(long_ago)
    again = long_ago.move(4, 1)
    assert await long_ago.write(again) == [Status.EXISTS]
    assert len(seen) == 1
    # Not in what the table says of others.
    break_row(path, "UPDATE id_range SET id_min = NULL WHERE first_seq <= 6 AND last_seq >= 6")
    assert await long_ago.write(again) == [Status.CREATED]


@pytest.mark.interpreted
async def test_new_ids_below_old_ones_read_no_rows(long_ago: Books) -> None:
    """As after a clock that was ahead, from somebody who does not count on from the highest id."""
    long_ago.base -= 10**9
    seen = statements_of(long_ago)
    for number in range(20):
        await long_ago.done(long_ago.move(number, 1))
    assert seen == []


@pytest.mark.interpreted
async def test_many_old_transfers_are_looked_up_in_one_pass(long_ago: Books) -> None:
    reads: list[int] = []
    rows_with = journal.rows_with

    def counted(connection: sqlite3.Connection, ids: Sequence[int], before: int) -> Any:
        reads.append(len(ids))
        return rows_with(connection, ids, before)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(journal, "rows_with", counted)
        order = [7, 29, 40, 3, 0, 28, 12]
        # And of each, one that was never there.
        ids = [id_ | phase for id_ in map(long_ago.id, order) for phase in (0, PHASE_RESOLVE)]
        found = await long_ago.ledger.lookup_transfers(ids)
    assert [one.id for one in found] == [long_ago.id(one) for one in order if one != 40]
    assert len(reads) == 1


@pytest.mark.interpreted
@pytest.mark.parametrize(
    "statement",
    [
        "DROP TABLE id_range",
        "DELETE FROM id_range WHERE last_seq BETWEEN 5 AND 14",
        "DELETE FROM id_range WHERE last_seq > 20",
        "DELETE FROM id_range WHERE last_seq < 8",
    ],
)
@pytest.mark.parametrize("at_once", [1, 4, 1000])
async def test_rows_of_a_version_without_stretches_are_covered_at_the_start(
    long_ago: Books,
    path: Path,
    clock: ManualClock,
    monkeypatch: pytest.MonkeyPatch,
    statement: str,
    at_once: int,
) -> None:
    monkeypatch.setattr(ledger_bounds, "JOURNAL_ROWS_COVERED_AT_ONCE", at_once)
    await embedded(long_ago).close()
    # Accounts are no transfers; the last row is from before the last checkpoint.
    break_row(path, statement)
    reader = await reopened(path, clock, read_only=True)
    if statement.startswith("DROP"):
        assert await reader.lookup_transfers([long_ago.id(4)])
    await reader.close()
    again = await reopened(path, clock)
    found = stretches(path)
    assert found[0][0] == 1
    assert is_contiguous(found)
    ids = [long_ago.id(number) for number in range(30)]
    assert [one.id for one in await again.lookup_transfers(ids)] == ids
    await again.close()


@pytest.mark.parametrize(
    "statement",
    [
        f"UPDATE journal SET seq = {-(2**62)} WHERE seq = 2",
        f"UPDATE checkpoint SET seq = {2**62}",
        f"UPDATE checkpoint SET seq = {2**63 - 1}",
        f"INSERT OR REPLACE INTO id_range VALUES (1, {2**62}, NULL, NULL)",
        f"UPDATE OR REPLACE id_range SET first_seq = {2**62}, last_seq = {2**62} WHERE last_seq < 8",
    ],
)
async def test_row_numbers_far_apart_do_not_keep_the_start_busy(
    long_ago: Books, path: Path, clock: ManualClock, statement: str
) -> None:
    await embedded(long_ago).close()
    break_row(path, statement)
    with contextlib.suppress(LedgerCorruptError):
        await (await reopened(path, clock)).close()
    assert len(stretches(path)) < 100


async def test_a_late_transfer_with_a_low_id_survives_a_kill(
    books: Books, path: Path, tmp_path: Path, clock: ManualClock
) -> None:
    """After a restart, the resolution of an old hold: its id is lower than many before it."""
    await books.done(books.move(1, 10, flags=PENDING), books.move(50))
    await books.ledger.close()
    second = Books(await reopened(path, clock), no_waiting)
    second.base = books.base
    second.peer, second.bank = books.peer, books.bank
    await second.done(second.move(60))  # the first request saves a checkpoint, those below do not
    late = Transfer(
        second.id(1) | PHASE_RESOLVE, amount=AMOUNT_MAX, pending_id=second.id(1), flags=POST
    )
    await second.done(late)
    await second.done(second.move(2))
    third = await reopened(killed(path, tmp_path / "copy"), clock)
    try:
        assert third.machine.accounts[books.bank].snapshot().debits_posted == 40
        assert await third.create_transfers([late, second.move(2)]) == [Status.EXISTS] * 2
        machine, _ = await third.replay_all()
        assert (
            machine.accounts[books.bank].snapshot() == third.machine.accounts[books.bank].snapshot()
        )
    finally:
        await third.close()
        await second.ledger.close()


async def test_recent_transfers_include_an_old_hold(
    books: Books, clock: ManualClock, path: Path
) -> None:
    hold = books.move(1, flags=PENDING)
    await books.done(hold)
    clock.advance(1000)
    await books.done(books.move(2))
    found = await books.ledger.recent_transfers(clock.now_ns() - 1)
    assert [t.id for t in found] == [hold.id, books.id(2)]


# --- damage


def break_row(path: Path, statement: str) -> None:
    with sqlite3.connect(path) as file:
        file.execute(statement)
    file.close()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE journal SET events = x'00' WHERE seq = 2",
        "UPDATE journal SET statuses = x'2e' WHERE seq = 2",
        "UPDATE checkpoint SET holds = x'1234'",
        "UPDATE account SET debits_posted = 'many'",
        "DROP TABLE journal",
        "PRAGMA user_version = 99",
    ],
)
async def test_a_damaged_file_is_refused_by_name(
    books: Books, path: Path, clock: ManualClock, statement: str
) -> None:
    await books.done(books.move(1))
    await books.ledger.close()
    if "journal" in statement:
        break_row(path, "DELETE FROM checkpoint")
        break_row(path, "DELETE FROM account")
    break_row(path, statement)
    read_only = "DROP" in statement or "PRAGMA" in statement
    with pytest.raises(LedgerCorruptError, match=r"ledger\.db"):
        await reopened(path, clock, read_only=read_only)


async def test_a_file_that_is_no_database_is_refused_by_name(
    path: Path, clock: ManualClock
) -> None:
    path.parent.mkdir()
    path.write_bytes(b"not a database at all, not by far" * 100)
    with pytest.raises(LedgerCorruptError, match="not a usable ledger"):
        await reopened(path, clock)
    assert path.read_bytes().startswith(b"not a database")


async def test_a_replay_that_differs_is_noticed_by_the_audit(
    books: Books, path: Path, clock: ManualClock
) -> None:
    await books.done(books.move(1))
    break_row(path, "UPDATE journal SET statuses = x'2e' WHERE seq = 2")
    with pytest.raises(LedgerCorruptError, match="row 2"):
        await embedded(books).replay_all()


async def test_a_folder_that_cannot_be_made_is_unavailable(
    tmp_path: Path, clock: ManualClock
) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(LedgerUnavailableError, match="cannot write in"):
        await EmbeddedLedger(tmp_path / "file" / "ledger.db", clock=clock).open()


# --- a full disk


async def fill(ledger: EmbeddedLedger, full: bool) -> None:
    def work(connection: sqlite3.Connection) -> None:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count={pages if full else 1 << 30}")

    await ledger._file.run(work)


async def until_full(books: Books, first: int) -> int:
    """The number of the first transfer that the disk has no room for."""
    for number in range(first, first + 1000):
        try:
            await books.done(books.move(number, 1))
        except LedgerUnavailableError:
            return number
    raise AssertionError


async def test_a_full_disk_loses_nothing_and_recovers_with_room(
    books: Books, path: Path, clock: ManualClock
) -> None:
    ledger = embedded(books)
    await fill(ledger, True)
    stuck = await until_full(books, 1)
    # As if the request had never been: memory is again what is on disk.
    assert await books.balances(books.bank) == (0, stuck - 1, 0, 0)
    again = await until_full(books, stuck)
    await fill(ledger, False)
    clock.advance(1)
    assert await books.write(books.move(again, 1), books.move(stuck - 1, 1)) == [
        Status.CREATED,
        Status.EXISTS,
    ]
    replayed, _ = await ledger.replay_all()
    assert (
        replayed.accounts[books.bank].snapshot() == ledger.machine.accounts[books.bank].snapshot()
    )


async def test_a_disk_that_cannot_even_be_read_is_unavailable(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = embedded(books)
    run, commit = ledger._file.run, ledger._file.commit

    async def broken(_: Callable[[sqlite3.Connection], Any], _transfers: int = 0) -> Any:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(ledger._file, "run", broken)
    monkeypatch.setattr(ledger._file, "commit", broken)
    for _ in range(2):
        with pytest.raises(LedgerUnavailableError, match="Input/output error"):
            await books.write(books.move(1))
    with pytest.raises(LedgerUnavailableError):
        await ledger.lookup_accounts([books.bank])
    monkeypatch.setattr(ledger._file, "run", run)
    monkeypatch.setattr(ledger._file, "commit", commit)
    await books.done(books.move(1))


async def test_a_checkpoint_that_fails_at_the_end_costs_nothing(
    books: Books, path: Path, clock: ManualClock
) -> None:
    await books.done(books.move(1, 7))
    await fill(embedded(books), True)
    await embedded(books)._file.run(lambda c: c.execute("PRAGMA query_only = 1"))
    await books.ledger.close()
    after = await reopened(path, clock)
    assert (await after.lookup_accounts([books.bank]))[0].debits_posted == 7
    await after.close()


async def test_holds_end_by_what_has_elapsed_though_the_clock_went_back(
    path: Path, clock: ManualClock
) -> None:
    clock.advance(600)  # it is ten minutes ahead
    ledger = await reopened(path, clock)
    books = Books(ledger, no_waiting)
    await books.create()
    await books.done(books.move(1, flags=PENDING, timeout=60))
    await ledger.close()
    clock.advance(-600)
    again = await reopened(path, clock)
    books.ledger = again
    await books.done(books.move(2, flags=PENDING, timeout=60))
    clock.advance(61)
    await again.create_transfers([])
    assert again.machine.holds == {}
    assert len(await again.recent_transfers(clock.now_ns() - 62 * 10**9)) == 2
    await again.close()


async def test_packets_from_before_a_jump_of_the_clock_are_found_when_it_is_right_again(
    path: Path, clock: ManualClock
) -> None:
    """A process with a clock an hour ahead has booked something between."""
    ledger = await reopened(path, clock)
    books = Books(ledger, no_waiting)
    await books.create()
    clock.advance(600)
    first = books.move(1, user_data_128=books.tag)
    await books.done(first)
    await ledger.close()
    clock.advance(3600)
    books.ledger = ahead = await reopened(path, clock)
    await books.done(books.move(2, user_data_128=books.tag))
    await ahead.close()
    clock.advance(-3590)
    books.ledger = right = await reopened(path, clock)
    await books.done(books.move(3))
    assert right.now_ns() > clock.now_ns() + 3500 * 10**9  # it goes on from the highest
    tags = [first.user_data_128]
    found = await right.tagged_transfers(tags, clock.now_ns() - 60 * 10**9)
    assert first.id in {one.id for one in found}
    # What is older by our own time is of no use, also then.
    assert all(one.timestamp >= clock.now_ns() - 60 * 10**9 for one in found)
    clock.advance(120)
    later = await right.tagged_transfers(tags, clock.now_ns() - 60 * 10**9)
    assert first.id not in {one.id for one in later}
    await right.close()


class SetClock:
    """A wall clock that can be set, and a monotonic one that cannot."""

    def __init__(self, clock: ManualClock) -> None:
        self.set_by_s = 0
        self._clock = clock

    def now_ns(self) -> int:
        return self._clock.now_ns() + self.set_by_s * 10**9

    def now_ms(self) -> int:
        return self.now_ns() // 10**6

    def monotonic_s(self) -> float:
        return self._clock.monotonic_s()


async def test_holds_end_by_what_has_elapsed_though_a_clock_that_was_behind_is_set_right(
    path: Path, clock: ManualClock
) -> None:
    """The ledger is ahead of the clock then, and no longer when that is right."""
    ledger = await reopened(path, clock)
    books = Books(ledger, no_waiting)
    await books.create()
    await ledger.close()
    wrong = SetClock(clock)
    wrong.set_by_s = -600
    books.ledger = again = EmbeddedLedger(path, clock=wrong)
    await again.open()
    await books.done(books.move(1, flags=PENDING, timeout=60))
    assert again.now_ns() == pytest.approx(clock.now_ns(), abs=10**6)
    wrong.set_by_s = 0
    clock.advance(30)
    await again.create_transfers([])
    assert len(again.machine.holds) == 1
    assert again.now_ns() == pytest.approx(clock.now_ns(), abs=10**6)
    clock.advance(31)
    await again.create_transfers([])
    assert again.machine.holds == {}
    await again.close()


async def test_the_highest_id_is_known_at_the_start(path: Path, clock: ManualClock) -> None:
    ledger = await reopened(path, clock)
    assert await ledger.highest_id() == 0
    books = Books(ledger, no_waiting)
    await books.create()
    await books.done(books.move(2), books.move(1))
    await ledger.close()
    again = await reopened(path, clock)
    assert await again.highest_id() == books.id(2)
    await again.close()


# --- fulfilments beside their posts


def kept(number: int, until_ms: int = 1000) -> Kept:
    return Kept(2**120 + (number << 8), until_ms, bytes([number]) * 40)


async def held(books: Books, number: int) -> tuple[Transfer, Kept]:
    """A hold; what posts it, and its fulfilment."""
    hold = books.move(number, 10, flags=PENDING)
    await books.done(hold)
    return books.move(number, 10, id=hold.id | PHASE_RESOLVE, flags=POST, pending_id=hold.id), kept(
        number
    )


async def test_a_post_and_its_fulfilment_are_on_disk_together(
    books: Books, path: Path, tmp_path: Path, clock: ManualClock
) -> None:
    ledger = embedded(books)
    post, row = await held(books, 1)
    before = killed(path, tmp_path / "before")
    assert await ledger.create_transfers([post], [row]) == [Status.CREATED]
    after = killed(path, tmp_path / "after")
    for file, is_there in ((before, False), (after, True)):
        again = await reopened(file, clock)
        assert bool(await again.lookup_transfers([post.id])) == is_there
        assert bool(await again.fulfilments.kept([row.packet_id])) == is_there
        assert bool(again.fulfilments.kept_bytes) == is_there
        assert await again.fulfilments.kept_ids() == []  # it is posted
        await again.close()
    assert await ledger.fulfilments.kept([row.packet_id]) == {row.packet_id: row.octets}


async def test_a_request_that_failed_leaves_neither_post_nor_fulfilment(
    books: Books, path: Path, clock: ManualClock
) -> None:
    ledger = embedded(books)
    post, row = await held(books, 1)
    await ledger._file.run(lambda connection: connection.execute("PRAGMA query_only=1"))
    with pytest.raises(LedgerUnavailableError):
        await ledger.create_transfers([post], [row])
    await ledger._file.run(lambda connection: connection.execute("PRAGMA query_only=0"))
    assert await ledger.lookup_transfers([post.id]) == []
    assert await ledger.fulfilments.kept([row.packet_id]) == {}
    assert await ledger.create_transfers([post], [row]) == [Status.CREATED]
    assert await ledger.fulfilments.kept([row.packet_id]) == {row.packet_id: row.octets}
    counted = ledger.fulfilments.kept_bytes
    await ledger.fulfilments.forget_kept(0)
    assert ledger.fulfilments.kept_bytes == counted


async def test_a_request_whose_caller_gave_up_is_known_by_the_next_one(
    books: Books, path: Path, clock: ManualClock
) -> None:
    ledger = embedded(books)
    post, row = await held(books, 1)
    asked, may_go_on = threading.Event(), threading.Event()

    def wait(_: sqlite3.Connection) -> None:
        asked.set()
        may_go_on.wait()

    holding_up = asyncio.ensure_future(ledger._file.run(wait))
    posting = asyncio.ensure_future(ledger.create_transfers([post], [row]))
    while not asked.is_set():
        await asyncio.sleep(0)
    posting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await posting
    may_go_on.set()
    await holding_up
    # Behind it the file's thread has done what was asked.
    assert [one.id for one in await ledger.lookup_transfers([post.id])] == [post.id]
    assert await ledger.create_transfers([post]) == [Status.EXISTS]
    await books.done(books.move(2))
    await ledger.fulfilments.forget_kept(0)
    assert await ledger.fulfilments.kept([row.packet_id]) == {row.packet_id: row.octets}
    counted = ledger.fulfilments.kept_bytes
    await ledger.close()
    again = await reopened(path, clock)
    assert again.fulfilments.kept_bytes == counted > 0
    assert len(await again.lookup_transfers([post.id])) == 1
    await again.close()


async def test_of_a_post_that_was_refused_the_fulfilment_is_listed(books: Books) -> None:
    ledger = embedded(books)
    (fine, row), (late, late_row) = await held(books, 1), await held(books, 2)
    await books.done(late._replace(flags=VOID, id=late.id + 1))
    assert await ledger.create_transfers([fine], [row]) == [Status.CREATED]
    assert await ledger.create_transfers([late], [late_row]) == [
        Status.PENDING_TRANSFER_ALREADY_VOIDED
    ]
    assert await ledger.fulfilments.kept_ids() == [late_row.packet_id]


async def test_fulfilments_are_forgotten_by_time_and_are_none_of_the_audits(
    books: Books, path: Path, clock: ManualClock
) -> None:
    ledger = embedded(books)
    for number in range(1, 5):
        post, row = await held(books, number)
        await ledger.create_transfers([post], [row._replace(keep_until_ms=100 * number)])
    ids = [kept(number).packet_id for number in range(1, 5)]
    assert not await ledger.fulfilments.forget_kept(399)
    assert list(await ledger.fulfilments.kept(ids)) == ids
    reader = await reopened(path, clock, read_only=True)
    machine, rows = await reader.replay_all()
    assert machine.accounts[books.peer].snapshot()[1:5] == (0, 0, 0, 40)
    assert rows == 9
    await reader.close()
    assert not await ledger.fulfilments.forget_kept(400)
    assert ledger.fulfilments.kept_bytes == 0


async def test_fulfilments_of_an_earlier_format_are_found_and_forgotten(
    books: Books, path: Path, clock: ManualClock
) -> None:
    post, row = await held(books, 1)
    assert await books.ledger.create_transfers([post], [row]) == [Status.CREATED]
    await books.ledger.close()
    with sqlite3.connect(path) as file:
        file.executescript(
            "ALTER TABLE kept ADD COLUMN span INTEGER NOT NULL DEFAULT 0;"
            f"UPDATE kept SET n = 1, span = {row.packet_id >> 92};"
            "CREATE INDEX kept_by_span ON kept (span);"
            "CREATE INDEX kept_by_time ON kept (keep_until_ms);"
            "PRAGMA user_version = 4"
        )
    file.close()
    for _ in range(2):
        books.ledger = again = await reopened(path, clock)
        assert await again.fulfilments.kept([row.packet_id]) == {row.packet_id: row.octets}
        assert await again.fulfilments.kept_ids() == []
        await again.close()
    books.ledger = again = await reopened(path, clock)
    assert not await again.fulfilments.forget_kept(row.keep_until_ms)
    assert again.fulfilments.kept_bytes == 0
    await again.close()


async def test_a_file_without_fulfilments_is_taken_and_looked_at(
    books: Books, path: Path, clock: ManualClock
) -> None:
    await books.done(books.move(1, 30))
    await books.ledger.close()
    with sqlite3.connect(path) as file:
        file.executescript("DROP TABLE kept; PRAGMA user_version = 3")
    file.close()
    reader = await reopened(path, clock, read_only=True)
    assert (await reader.replay_all())[1] == 2
    await reader.close()
    again = await reopened(path, clock)
    books.ledger = again
    post, row = await held(books, 2)
    assert await again.create_transfers([post], [row]) == [Status.CREATED]
    assert await again.fulfilments.kept([row.packet_id]) == {row.packet_id: row.octets}
    await again.close()


@pytest.mark.parametrize("packets", ["x'00'", "7", "'text'"])
async def test_damaged_fulfilments_are_named(books: Books, packets: str) -> None:
    ledger = embedded(books)
    post, row = await held(books, 1)
    await ledger.create_transfers([post], [row])
    await ledger._file.run(
        lambda connection: connection.execute(f"UPDATE kept SET posted = 0, packets = {packets}")
    )
    with pytest.raises(LedgerCorruptError, match="damaged"):
        await ledger.fulfilments.kept_ids()
