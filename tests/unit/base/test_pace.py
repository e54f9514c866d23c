"""Whether the event loop waits for short transactions."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from connector.base import pace
from connector.base.pace import CommitPace
from connector.base.sqlite import SqliteFile

QUICK_S = 0.0002


def waiting(now_s: float = 0.0) -> CommitPace:
    """One that has just begun with waits."""
    it = CommitPace()
    for _ in range(pace.RECENT):
        assert not it.waits
        it.committed(QUICK_S, now_s)
    assert it.waits
    return it


def test_it_waits_after_some_commits_if_the_disk_may_be_quick() -> None:
    assert waiting().waits


def test_a_slow_disk_is_never_tried() -> None:
    it = CommitPace()
    for _ in range(10 * pace.RECENT):
        it.committed(2 * pace.MAYBE_QUICK_SECONDS, 0.0)
        assert not it.waits


def test_a_disk_that_is_not_quick_has_few_tries() -> None:
    it = waiting()
    tries = 0
    while it.waits:
        it.waited(pace.WAIT_SECONDS, 0.0, in_vain=True)
        tries += 1
    assert tries == pace.IN_VAIN_MAX - pace.IN_VAIN_AT_FIRST + 1


def test_a_few_slow_ones_among_many_are_borne() -> None:
    it = waiting()
    for turn in range(10 * pace.RECENT):
        it.waited(QUICK_S, 0.0, in_vain=turn % 16 == 15)
        assert it.waits, turn


def test_too_large_a_share_of_the_loop_ends_it() -> None:
    it = waiting()
    now_s = 0.0
    while it.waits:
        it.waited(QUICK_S, now_s, in_vain=False)
        now_s += QUICK_S * 1.1
        assert now_s < 2 * pace.SHARE_SECONDS


def test_pauses_grow_until_it_was_steady() -> None:
    def give_up(it: CommitPace, now_s: float) -> None:
        while it.waits:
            it.waited(0.0, now_s, in_vain=True)

    it = waiting()
    now_s = 0.0
    pauses = []
    for _ in range(8):
        give_up(it, now_s)
        left_s = now_s
        while not it.waits:
            now_s += 0.25
            for _ in range(pace.RECENT):
                it.committed(QUICK_S, now_s)
        pauses.append(now_s - left_s)
    assert pauses == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]
    give_up(it, now_s + pace.STEADY_SECONDS)
    for _ in range(pace.RECENT):
        it.committed(QUICK_S, now_s + pace.STEADY_SECONDS + pace.PAUSE_SECONDS)
    assert it.waits


# --- the file


def insert(connection: sqlite3.Connection) -> None:
    connection.execute("INSERT INTO row DEFAULT VALUES")


@pytest.fixture
async def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SqliteFile:
    """With waits, whatever this machine's disk is."""
    monkeypatch.setattr(pace, "MAYBE_QUICK_SECONDS", 1e9)
    monkeypatch.setattr(pace, "SHARE_MAX", 1e9)
    monkeypatch.setattr("connector.base.sqlite.WAIT_SECONDS", 30.0)
    file = SqliteFile(tmp_path / "file.db")
    await file.open("CREATE TABLE row (n INTEGER PRIMARY KEY)")
    for _ in range(pace.RECENT):
        assert not file.waits_for_commits
        await file.commit(insert, 1)
    assert file.waits_for_commits
    return file


async def rows(file: SqliteFile) -> int:
    (count,) = await file.run(lambda c: c.execute("SELECT count(*) FROM row").fetchone())
    return int(count)


def hanging() -> tuple[threading.Event, Callable[[sqlite3.Connection], str]]:
    """A transaction that ends when the event is set."""
    may_end = threading.Event()

    def hangs(connection: sqlite3.Connection) -> str:
        assert may_end.wait(30)
        insert(connection)
        return "done"

    return may_end, hangs


@pytest.mark.interpreted
async def test_a_commit_that_is_waited_for_lets_nothing_else_run(file: SqliteFile) -> None:
    turns = 0

    def count() -> None:
        nonlocal turns
        turns += 1

    asyncio.get_running_loop().call_soon(count)
    for _ in range(10):
        await file.commit(insert, 1)
    assert turns == 0
    assert await rows(file) == pace.RECENT + 10
    await file.close()


@pytest.mark.interpreted
async def test_the_loop_goes_on_when_a_commit_takes_longer(
    file: SqliteFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("connector.base.sqlite.WAIT_SECONDS", 0.001)
    may_end, hangs = hanging()
    first = asyncio.ensure_future(file.commit(hangs, 1))
    second = asyncio.ensure_future(file.commit(insert, 1))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not first.done()
    assert not second.done()
    may_end.set()
    assert await first == "done"
    await second
    assert await rows(file) == pace.RECENT + 2
    await file.close()


@pytest.mark.interpreted
async def test_who_gives_up_a_commit_that_takes_longer_ends_no_other(
    file: SqliteFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("connector.base.sqlite.WAIT_SECONDS", 0.0)
    may_end, hangs = hanging()
    task = asyncio.ensure_future(file.commit(hangs, 1))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    may_end.set()
    await file.commit(insert, 1)
    assert await rows(file) == pace.RECENT + 2
    await file.close()


@pytest.mark.interpreted
async def test_commits_that_fail_slowly_end_the_waits(
    file: SqliteFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("connector.base.sqlite.WAIT_SECONDS", 0.001)

    def fails(_connection: sqlite3.Connection) -> None:
        time.sleep(0.003)
        raise sqlite3.OperationalError("disk I/O error")

    for _ in range(pace.RECENT):
        with pytest.raises(sqlite3.OperationalError, match="disk I/O error"):
            await file.commit(fails, 1)
    assert not file.waits_for_commits
    await file.commit(insert, 1)
    assert await rows(file) == pace.RECENT + 1
    await file.close()


@pytest.mark.interpreted
async def test_a_commit_that_fails_in_time_raises_its_error(file: SqliteFile) -> None:
    def fails(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO absent DEFAULT VALUES")

    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        await file.commit(fails, 1)
    await file.commit(insert, 1)
    assert await rows(file) == pace.RECENT + 1
    await file.close()


@pytest.mark.interpreted
async def test_a_transaction_of_many_packets_is_not_waited_for(file: SqliteFile) -> None:
    turns = 0

    def count() -> None:
        nonlocal turns
        turns += 1

    asyncio.get_running_loop().call_soon(count)
    await file.commit(insert, pace.FEW + 1)
    assert turns == 1
    await file.close()
