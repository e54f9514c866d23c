"""Where short transactions are committed."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from connector.base import pace
from connector.base.pace import CommitPace
from connector.base.sqlite import SqliteFile

QUICK_S = 0.0002


def on_loop(now_s: float = 0.0) -> CommitPace:
    """One that has just given the commits to the loop."""
    it = CommitPace()
    for _ in range(pace.RECENT):
        it.done_in_thread(QUICK_S, now_s)
    assert it.on_loop
    return it


def test_it_begins_in_the_thread_and_goes_to_the_loop_when_the_disk_may_be_quick() -> None:
    it = CommitPace()
    moves = [it.done_in_thread(QUICK_S, 0.0) for _ in range(pace.RECENT)]
    assert moves == [False] * (pace.RECENT - 1) + [True]


def test_a_slow_disk_is_never_tried() -> None:
    it = CommitPace()
    for _ in range(10 * pace.RECENT):
        assert not it.done_in_thread(2 * pace.MAYBE_QUICK_SECONDS, 0.0)
    assert not it.on_loop


def test_a_very_slow_commit_ends_it_at_once() -> None:
    it = on_loop()
    assert it.done_on_loop(pace.VERY_SLOW_SECONDS, 1.0)
    assert not it.on_loop


def test_a_disk_that_is_not_quick_has_few_tries() -> None:
    it = on_loop()
    tries = 1
    while not it.done_on_loop(2 * pace.SLOW_SECONDS, 0.0):
        tries += 1
    assert tries == pace.SLOW_MAX - pace.SLOW_AT_FIRST + 1


def test_a_few_slow_ones_among_many_are_borne() -> None:
    it = on_loop()
    for turn in range(10 * pace.RECENT):
        took_s = 2 * pace.SLOW_SECONDS if turn % 16 == 15 else QUICK_S
        assert not it.done_on_loop(took_s, 0.0), turn


def test_too_large_a_share_of_the_loop_ends_it() -> None:
    it = on_loop()
    now_s = 0.0
    while not it.done_on_loop(QUICK_S, now_s):
        now_s += QUICK_S * 1.1
        assert now_s < 2 * pace.SHARE_SECONDS
    assert not it.on_loop


def test_pauses_grow_until_it_was_steady() -> None:
    it = on_loop()
    now_s = 0.0
    pauses = []
    for _ in range(8):
        it.leave_loop(now_s)
        left_s = now_s
        while not it.on_loop:
            now_s += 0.25
            for _ in range(pace.RECENT):
                it.done_in_thread(QUICK_S, now_s)
        pauses.append(now_s - left_s)
    assert pauses == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]
    it.leave_loop(now_s + pace.STEADY_SECONDS)
    it.done_in_thread(QUICK_S, now_s)
    for _ in range(pace.RECENT):
        it.done_in_thread(QUICK_S, now_s + pace.STEADY_SECONDS + pace.PAUSE_SECONDS)
    assert it.on_loop


def insert(connection: sqlite3.Connection) -> None:
    connection.execute("INSERT INTO row DEFAULT VALUES")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is quick, whatever this machine has."""
    monkeypatch.setattr(pace, "MAYBE_QUICK_SECONDS", 1e9)
    monkeypatch.setattr(pace, "VERY_SLOW_SECONDS", 1e9)
    monkeypatch.setattr(pace, "SLOW_SECONDS", 1e9)
    monkeypatch.setattr(pace, "SHARE_MAX", 1e9)


@pytest.mark.interpreted
@pytest.mark.usefixtures("quick")
async def test_commits_move_to_the_loop_and_another_process_sends_them_back(tmp_path: Path) -> None:
    file = SqliteFile(tmp_path / "file.db")
    await file.open("CREATE TABLE row (n INTEGER PRIMARY KEY)")
    for _ in range(pace.RECENT):
        assert not file.commits_on_loop
        await file.commit(insert, 1)
    assert file.commits_on_loop
    for _ in range(10):
        await file.commit(insert, 1)
    other = sqlite3.connect(file.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        await file.commit(insert, 1)  # the thread has waited for it
    assert not file.commits_on_loop
    other.execute("ROLLBACK")
    await file.commit(insert, 1)
    (count,) = await file.run(lambda c: c.execute("SELECT count(*) FROM row").fetchone())
    assert count == pace.RECENT + 11
    other.close()
    await file.close()
