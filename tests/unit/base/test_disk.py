"""The machine's disk: durable, rescued and read databases; locked files."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from connector.base.disk import HeldByAnotherError, SystemDisk
from connector.base.randomness import SystemRandomness

DISK = SystemDisk()
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


async def test_what_is_kept_can_be_read_by_this_user_only(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    database = DISK.database(folder / "a.db")
    await database.open(SCHEMA)
    await database.run(lambda connection: put(1, connection))
    with DISK.hold(folder / "a.db.lock"):
        modes = {one.name: one.stat().st_mode & 0o777 for one in (folder, *folder.iterdir())}
    await database.close()
    assert modes.pop("data") == 0o700
    assert set(modes) == {"a.db", "a.db-wal", "a.db-shm", "a.db.lock"}
    assert set(modes.values()) == {0o600}


async def test_the_mode_that_an_operator_gave_stays(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    path.touch()
    path.chmod(0o640)
    database = DISK.database(path)
    await database.open(SCHEMA)
    await database.close()
    assert path.stat().st_mode & 0o777 == 0o640
