"""The simulated disk: what survives the end of a process, and what survives a power cut."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from connector.base.disk import HeldByAnotherError
from connector.base.errors import LedgerBehindError
from connector.ledger.embedded import EmbeddedLedger
from connector.ledger.model import Account, Transfer
from connector.simulation.disk import Disk, DiskFile, ProcessDisk, SimulatedMarker
from connector.simulation.world import NodeClock, ProcessLoop, World

PATH = Path("/simulated/a.db")
SCHEMA = "CREATE TABLE IF NOT EXISTS t (x INTEGER)"


class Machine:
    """A machine with one disk."""

    def __init__(self) -> None:
        self.world = World(1)
        self.disk = Disk(self.world, "a")
        self.loop: ProcessLoop = self.world.new_process("a")

    def do(self, work: Callable[[DiskFile], Awaitable[None]]) -> None:
        """Run `work` on the database, in the present process."""
        done: list[bool] = []

        async def run() -> None:
            file = ProcessDisk(self.disk, self.loop).database(PATH)
            await file.open(SCHEMA)
            await work(file)
            done.append(True)

        self.loop.run_now(lambda: self.loop.create_task(run()))
        self.world.run_until(lambda: bool(done), self.world.now_s + 60)
        assert done

    def restart(self) -> None:
        """Kill the process and start another."""
        self.loop.kill()
        self.loop = self.world.new_process("a again")

    def rows(self) -> list[int]:
        """What another process finds."""
        found: list[int] = []

        async def read(file: DiskFile) -> None:
            found.extend(
                await file.run(lambda c: [x for (x,) in c.execute("SELECT x FROM t ORDER BY x")])
            )

        self.do(read)
        return found


def insert(number: int) -> Callable[[sqlite3.Connection], object]:
    return lambda connection: connection.execute("INSERT INTO t VALUES (?)", (number,))


def test_what_was_committed_survives_the_end_of_the_process() -> None:
    machine = Machine()

    async def work(file: DiskFile) -> None:
        await file.run(insert(1))
        await file.run(lambda c: c.execute("BEGIN"))
        await file.run(insert(2))

    machine.do(work)
    machine.disk.process_died()
    machine.restart()
    assert machine.rows() == [1]


def test_a_commit_that_waited_for_the_disk_survives_a_power_cut() -> None:
    machine = Machine()

    async def work(file: DiskFile) -> None:
        await file.run(insert(1))

    machine.do(work)
    assert machine.disk.power_was_cut() == 0
    machine.restart()
    assert machine.rows() == [1]


@pytest.mark.parametrize("level", ["NORMAL", "OFF"])
def test_a_commit_that_did_not_wait_is_lost_by_a_power_cut(level: str) -> None:
    machine = Machine()

    async def work(file: DiskFile) -> None:
        await file.run(insert(1))
        await file.run(lambda c: c.execute(f"PRAGMA synchronous={level}"))
        await file.run(insert(2))
        await file.run(insert(3))

    machine.do(work)
    machine.disk.power_was_cut()
    machine.restart()
    assert machine.rows() == [1]


def test_a_commit_that_waits_makes_those_before_it_durable() -> None:
    machine = Machine()

    async def work(file: DiskFile) -> None:
        await file.run(lambda c: c.execute("PRAGMA synchronous=NORMAL"))
        await file.run(insert(1))
        await file.run(lambda c: c.execute("PRAGMA synchronous=FULL"))
        await file.run(insert(2))

    machine.do(work)
    machine.disk.power_was_cut()
    machine.restart()
    assert machine.rows() == [1, 2]


def test_work_that_was_asked_for_and_not_done_is_never_done() -> None:
    machine = Machine()

    async def work(file: DiskFile) -> None:
        machine.loop.create_task(file.run(insert(1)))  # type: ignore[arg-type]
        await asyncio.sleep(0)

    machine.do(work)
    machine.restart()
    assert machine.rows() == []


def test_a_full_disk_takes_no_new_pages_and_lets_nothing_be_lost() -> None:
    machine = Machine()

    async def work(file: DiskFile) -> None:
        await file.run(insert(1))
        machine.disk.fill(full=True)
        with pytest.raises(sqlite3.OperationalError, match="full"):
            await file.run(lambda c: c.execute("CREATE TABLE u AS SELECT zeroblob(100000) AS b"))
        machine.disk.fill(full=False)
        await file.run(insert(2))

    machine.do(work)
    assert machine.rows() == [1, 2]


def test_a_broken_disk_refuses_writes_and_can_be_read() -> None:
    machine = Machine()

    async def work(file: DiskFile) -> None:
        await file.run(insert(1))
        machine.disk.broken = True
        with pytest.raises(sqlite3.OperationalError, match="I/O"):
            await file.run(insert(2))
        machine.disk.broken = False

    machine.do(work)
    assert machine.rows() == [1]


def test_a_file_that_a_living_process_holds_is_refused() -> None:
    machine = Machine()
    hold = ProcessDisk(machine.disk, machine.loop).hold(PATH)
    other = machine.world.new_process("b")
    with pytest.raises(HeldByAnotherError):
        ProcessDisk(machine.disk, other).hold(PATH)
    hold.close()
    ProcessDisk(machine.disk, other).hold(PATH)
    other.kill()
    ProcessDisk(machine.disk, machine.loop).hold(PATH)


def test_a_marker_that_was_not_synced_is_older_after_a_power_cut() -> None:
    machine = Machine()
    marker = SimulatedMarker(machine.disk, "m", machine.loop)
    assert marker.open() == 0
    marker.write(5)
    marker.sync()
    marker.write(7)
    machine.disk.process_died()
    assert marker.open() == 7
    machine.disk.power_was_cut()
    assert marker.open() == 5


def test_a_note_is_taken_once_and_may_be_there_again_after_a_power_cut() -> None:
    machine = Machine()
    disk = ProcessDisk(machine.disk, machine.loop)
    note = disk.note(Path("/simulated/replaced.json"))
    with pytest.raises(FileNotFoundError):
        note.take(100)
    note.leave("first")
    note.leave("second")
    machine.disk.power_was_cut()
    assert note.take(100) == b"second"
    machine.disk.process_died()
    with pytest.raises(FileNotFoundError):
        note.take(100)
    found = False
    for _ in range(20):
        machine.disk.power_was_cut()
        machine.disk.taken["replaced.json"] = b"second"
        found = found or "replaced.json" in machine.disk.notes
    assert found


def test_a_disk_that_is_full_or_broken_takes_no_note() -> None:
    machine = Machine()
    note = ProcessDisk(machine.disk, machine.loop).note(Path("/simulated/replaced.json"))
    machine.disk.fill(full=True)
    with pytest.raises(OSError, match="No space"):
        note.leave("x")
    machine.disk.fill(full=False)
    machine.disk.broken = True
    with pytest.raises(OSError, match="No space"):
        note.leave("x")
    machine.disk.broken = False
    machine.loop.kill()
    note.leave("x")
    assert machine.disk.notes == {}


async def _books(machine: Machine, *amounts: int) -> None:
    """Open a ledger, as a process does that starts, and book."""
    clock = NodeClock(machine.world)
    disk = ProcessDisk(machine.disk, machine.loop)
    ledger = EmbeddedLedger(Path("/simulated/ledger.db"), clock=clock, disk=disk)
    await ledger.open()
    await ledger.create_accounts([Account(id=1, ledger=1, code=1), Account(id=2, ledger=1, code=1)])
    for amount in amounts:
        await ledger.create_transfers(
            [
                Transfer(
                    id=amount << 100,
                    debit_account_id=1,
                    credit_account_id=2,
                    amount=amount,
                    ledger=1,
                    code=1,
                )
            ]
        )


def _run(machine: Machine, work: Coroutine[Any, Any, None]) -> None:
    done: list[bool] = []

    async def run() -> None:
        await work
        done.append(True)

    machine.loop.run_now(lambda: machine.loop.create_task(run()))
    machine.world.run_until(lambda: bool(done), machine.world.now_s + 60)
    assert done


def test_a_journal_without_its_end_is_refused_until_the_right_one_is_back() -> None:
    machine = Machine()
    _run(machine, _books(machine, 1, 2, 3))
    machine.restart()
    assert machine.disk.cut_journal("ledger.db", 2)
    assert machine.disk.has_cut_journal

    async def refused() -> None:
        with pytest.raises(LedgerBehindError):
            await _books(machine)

    _run(machine, refused())
    machine.restart()
    machine.disk.put_back("ledger.db")
    assert not machine.disk.has_cut_journal
    _run(machine, _books(machine, 4))
    assert machine.disk.misplaced == 0


def test_what_is_written_to_a_journal_without_its_end_is_counted() -> None:
    machine = Machine()
    _run(machine, _books(machine, 1, 2, 3))
    machine.restart()
    assert machine.disk.cut_journal("ledger.db", 1)
    machine.disk.marks["ledger.db.acknowledged"] = [0, 0]  # a node that does not look
    _run(machine, _books(machine, 4))
    machine.restart()
    machine.disk.put_back("ledger.db")
    assert machine.disk.misplaced >= 1


def test_a_journal_that_has_nothing_to_lose_is_left_alone() -> None:
    machine = Machine()
    assert not machine.disk.cut_journal("ledger.db", 5)
    assert not machine.disk.has_cut_journal
