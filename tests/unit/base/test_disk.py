"""The machine's disk: databases that are durable, rescued and looked at; files that are held."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path

import pytest

from connector.base.clock import SystemClock
from connector.base.disk import HeldByAnotherError, SystemDisk
from connector.base.pace import LOOP_OCTETS_MAX, STALL_SECONDS, TRIAL_COMMITS, Phase
from connector.base.randomness import SystemRandomness

DISK = SystemDisk()


class StoppedClock(SystemClock):
    """A clock on which nothing takes longer than told."""

    now_s = 0.0
    now_s_each = 0.0
    """What each reading adds."""

    def monotonic_s(self) -> float:
        self.now_s += self.now_s_each
        return self.now_s


def thread_of(_connection: sqlite3.Connection) -> int:
    return threading.get_ident()


SCHEMA = "CREATE TABLE IF NOT EXISTS number (value INTEGER);"


def put(value: int, connection: sqlite3.Connection) -> None:
    connection.execute("INSERT INTO number VALUES (?)", (value,))


def numbers(connection: sqlite3.Connection) -> list[int]:
    return [value for (value,) in connection.execute("SELECT value FROM number ORDER BY value")]


async def test_what_was_run_is_there_after_a_close_and_in_another_connection(
    tmp_path: Path,
) -> None:
    database = DISK.database(tmp_path / "folder" / "a.db")
    await database.open(SCHEMA)
    await database.run(lambda connection: put(1, connection))
    reader = DISK.database(database.path, read_only=True)
    await reader.open()
    assert await reader.run(numbers) == [1]
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        await reader.run(lambda connection: put(2, connection))
    await reader.close()
    await database.close()
    await database.close()
    await database.open()
    assert await database.run(numbers) == [1]
    await database.close()


async def test_a_look_sees_what_was_committed_and_works_within_a_run(tmp_path: Path) -> None:
    database = DISK.database(tmp_path / "a.db")
    await database.open(SCHEMA)
    await database.run(lambda connection: put(7, connection))
    assert database.look(numbers) == [7]
    assert await database.run(lambda _: database.look(numbers)) == [7]
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        database.look(lambda connection: put(8, connection))
    await database.close()


@pytest.mark.parametrize("replaced", [False, True])
async def test_a_removed_file_is_noticed_and_rescued(tmp_path: Path, replaced: bool) -> None:
    database = DISK.database(tmp_path / "a.db")
    await database.open(SCHEMA)
    await database.run(lambda connection: put(3, connection))
    assert not database.is_removed()
    for file in tmp_path.iterdir():
        file.unlink()
    if replaced:
        database.path.write_bytes(b"")
    assert database.is_removed()
    await database.rescue()
    await database.open()
    assert not database.is_removed()
    assert await database.run(numbers) == [3]
    await database.close()


class TestCommits:
    """`commit`, which is made on the event loop or in the file's thread."""

    async def test_they_move_to_the_loop_when_they_are_short_there(self, tmp_path: Path) -> None:
        clock, moved = StoppedClock(), []
        disk = SystemDisk(clock, on_pace=lambda name, phase: moved.append((name, phase)))
        database = disk.database(tmp_path / "a.db")
        await database.open(SCHEMA)
        threads = [await database.commit(thread_of, 8) for _ in range(4 * TRIAL_COMMITS)]
        # All but those that came while the thread made a checkpoint.
        assert threads.count(threading.get_ident()) > 3 * TRIAL_COMMITS
        assert moved == [("a.db", Phase.LOOP)]
        assert disk.commits_on_loop == {"a.db": True}
        clock.now_s_each = STALL_SECONDS
        await database.commit(thread_of, 8)
        assert moved[1:] == [("a.db", Phase.THREAD)]
        assert disk.commits_on_loop == {"a.db": False}
        clock.now_s_each = 0.0
        assert await database.commit(thread_of, 8) != threading.get_ident()
        await database.close()

    async def test_a_large_one_is_made_in_the_thread(self, tmp_path: Path) -> None:
        database = SystemDisk(StoppedClock()).database(tmp_path / "a.db")
        await database.open(SCHEMA)
        there = await database.commit(thread_of, LOOP_OCTETS_MAX + 1)
        assert there != threading.get_ident()
        assert await database.commit(thread_of, LOOP_OCTETS_MAX) == threading.get_ident()
        await database.close()

    async def test_the_order_is_that_of_the_calls_whoever_makes_them(self, tmp_path: Path) -> None:
        database = SystemDisk(StoppedClock()).database(tmp_path / "a.db")
        await database.open(SCHEMA)
        order: list[int] = []

        def step(number: int, connection: sqlite3.Connection) -> None:
            put(number, connection)
            order.append(number)

        async with asyncio.TaskGroup() as tasks:
            for number in range(300):
                work = partial(step, number)
                is_commit = number % 7 != 0
                tasks.create_task(database.commit(work, 8) if is_commit else database.run(work))
        assert order == list(range(300))
        assert await database.run(numbers) == order
        await database.close()

    async def test_one_that_fails_raises_and_the_next_is_made(self, tmp_path: Path) -> None:
        database = SystemDisk(StoppedClock()).database(tmp_path / "a.db")
        await database.open(SCHEMA)
        for _ in range(3):
            with pytest.raises(sqlite3.OperationalError, match="no such table"):
                await database.commit(lambda c: c.execute("INSERT INTO nowhere VALUES (1)"), 8)
        await database.commit(partial(put, 1), 8)
        assert await database.run(numbers) == [1]
        await database.close()

    @pytest.mark.parametrize("size", [100, 50_000])
    async def test_the_wal_is_checkpointed_between_commits(self, tmp_path: Path, size: int) -> None:
        """So that no commit on the loop has a checkpoint in it."""
        database = SystemDisk(StoppedClock()).database(tmp_path / "a.db")
        await database.open("CREATE TABLE text (value BLOB);")
        await database.run(lambda c: c.execute("PRAGMA wal_autocheckpoint=1000"))
        octets = bytes(size)
        for _ in range(2000):
            await database.commit(
                lambda c: c.execute("INSERT INTO text VALUES (?)", (octets,)), size
            )
        frames = (tmp_path / "a.db-wal").stat().st_size // 4096
        await database.close()
        assert frames < 800, "SQLite would have checkpointed at 1000"


async def test_a_database_in_memory_is_never_removed() -> None:
    database = DISK.database(Path(":memory:"))
    await database.open(SCHEMA)
    assert not database.is_removed()
    await database.close()


@pytest.mark.processes
def test_a_file_is_held_by_one_process(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "lock"
    program = (
        "import pathlib, sys\n"
        "from connector.base.disk import HeldByAnotherError, SystemDisk\n"
        "try:\n"
        "    SystemDisk().hold(pathlib.Path(sys.argv[1])).close()\n"
        "except HeldByAnotherError as error:\n"
        "    print(error.owner)\n"
        "else:\n"
        "    print('free')\n"
    )

    def other_process() -> str:
        done = subprocess.run(
            [sys.executable, "-c", program, str(path)],
            cwd=Path(__file__).parents[3], capture_output=True, text=True, check=True, timeout=60,
        )  # fmt: skip
        return done.stdout.strip()

    held = DISK.hold(path)
    assert other_process() == str(os.getpid())
    with pytest.raises(HeldByAnotherError, match=f"process {os.getpid()}"):
        DISK.hold(path)
    held.close()
    assert other_process() == "free"


def test_random_numbers_keep_to_their_ranges() -> None:
    source = SystemRandomness()
    assert {source.bits(1) for _ in range(100)} == {0, 1}
    assert len(source.octets(16)) == 16
    assert source.octets(16) != source.octets(16)
    assert all(0.0 <= source.random() < 1.0 for _ in range(100))


@pytest.mark.parametrize("name", ["data #1", "a?mode=rwc", "100%41", "%", "ümlaut", "a&b=c;d"])
async def test_any_name_of_a_folder_is_read_as_it_is(tmp_path: Path, name: str) -> None:
    database = DISK.database(tmp_path / name / "a.db")
    await database.open(SCHEMA)
    await database.run(lambda connection: put(7, connection))
    assert database.look(numbers) == [7]
    reader = DISK.database(database.path, read_only=True)
    await reader.open()
    assert await reader.run(numbers) == [7]
    await reader.close()
    await database.close()
    assert [path.name for path in tmp_path.iterdir()] == [name]
