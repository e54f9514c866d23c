"""The disk of a simulated machine: SQLite in memory, with the delays and faults of a disk.

Committed data survives the death of its process (`kill -9`). It survives a power cut only if SQLite
was set to wait for the disk (`synchronous=FULL`), which is read at each commit; otherwise the
database returns to its last synced state.

Long because the files of a machine, their faults and what each process sees of them belong together.
"""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

from connector.base.disk import HeldByAnotherError
from connector.base.sqlite import prepare
from connector.simulation.world import ProcessLoop, World

T = TypeVar("T")

DELAY_S: Final = 0.0008
AMPLE_BYTES: Final = 1 << 40
_FULL: Final = 2


class Database:
    """One database file, and its synced state."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.connection = sqlite3.connect(
            ":memory:", isolation_level=None, check_same_thread=False, cached_statements=256
        )
        self.unsynced_from: bytes | None = None
        """The state that a power cut would leave; None: the same as the committed state."""

    def commit_of(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do `work`, and record what a power cut would leave of it."""
        connection = self.connection
        before = connection.total_changes
        waits = self._waits_for_disk()
        image = None
        if not waits and self.unsynced_from is None:
            image = connection.serialize()
        result = work(connection)
        if connection.in_transaction:
            return result  # nothing is committed yet
        if waits and self._waits_for_disk():
            if connection.total_changes != before:
                self.unsynced_from = None  # the log is written in order, all of it
        elif image is not None:
            self.unsynced_from = image
        return result

    def _waits_for_disk(self) -> bool:
        return int(self.connection.execute("PRAGMA synchronous").fetchone()[0]) >= _FULL

    def process_died(self) -> None:
        """Roll back an open transaction."""
        if self.connection.in_transaction:
            self.connection.execute("ROLLBACK")

    def power_was_cut(self) -> int:
        """Return to the synced state; returns how many octets differ from the committed state."""
        self.process_died()
        image, self.unsynced_from = self.unsynced_from, None
        if image is None:
            return 0
        lost = len(self.connection.serialize()) - len(image)
        self.connection.close()
        self.connection = sqlite3.connect(
            ":memory:", isolation_level=None, check_same_thread=False, cached_statements=256
        )
        if image:
            self.connection.deserialize(image)
        return lost


class Disk:
    """The files of one machine; they outlive its processes."""

    def __init__(self, world: World, host: str) -> None:
        self.world: Final = world
        self.host: Final = host
        self.databases: dict[str, Database] = {}
        self.held: dict[str, ProcessLoop] = {}
        """Files that a process holds."""
        self.marks: dict[str, list[int]] = {}
        """Small files with a number: as written, and as after a power cut."""
        self.notes: dict[str, bytes] = {}
        """What one process leaves to the next."""
        self.taken: dict[str, bytes] = {}
        """Notes that were taken: after a power cut they may be there again."""
        self.delay_s = DELAY_S
        self.broken = False
        """Every write fails (EIO)."""
        self.ill_until_s = -1.0
        """When it was last broken or full, if it is neither now."""
        self.on_operation: Callable[[str, str], None] = lambda _host, _what: None
        """Called before and after each piece of work: the process may be killed there."""
        self.chance: random.Random = world.random(f"disk {host}")
        self.is_quick: Final = world.random(f"quick disk {host}").random() < 0.5
        """Whether the event loop waits for commits while nothing slows the disk."""
        self.misplaced = 0
        """Requests in journals whose end was missing, made while it was."""
        self.free_bytes = AMPLE_BYTES
        """What a process is told; less than the reserve while there still is room for it."""
        self._is_full = False
        self._whole: dict[str, tuple[Database, list[int], int]] = {}

    def database(self, name: str) -> Database:
        """The database of that name; a new one is empty."""
        found = self.databases.get(name)
        if found is None:
            found = self.databases[name] = Database(name)
            if self._is_full:
                _limit(found, full=True)
        return found

    def fill(self, *, full: bool) -> None:
        """Make the disk full, or not full."""
        if self._is_full and not full:
            self.ill_until_s = self.world.now_s
        self._is_full = full
        self.free_bytes = 0 if full else AMPLE_BYTES
        for database in self.databases.values():
            _limit(database, full=full)

    def mend(self) -> None:
        """It is not broken any more."""
        self.broken = False
        self.ill_until_s = self.world.now_s

    def has_been_ill(self, since_s: float) -> bool:
        """Whether it has been broken or full since then."""
        return self.broken or self._is_full or self.ill_until_s >= since_s

    @property
    def is_full(self) -> bool:
        """Whether there is no room."""
        return self._is_full

    # --- files that are lost

    def remove(self, name: str) -> None:
        """A file is gone; no process may have it open."""
        self.databases.pop(name, None)

    @property
    def has_cut_journal(self) -> bool:
        """Whether a journal stands there without its end."""
        return bool(self._whole)

    def cut_journal(self, name: str, requests: int) -> bool:
        """A journal has lost its latest requests, as with its write-ahead log; whether it had any.

        No process may have it open. Of what a checkpoint covers nothing is lost.
        """
        whole = self.database(name)
        whole.process_died()
        query = "SELECT 1 FROM sqlite_master WHERE name = 'journal'"
        if not whole.connection.execute(query).fetchone():
            return False
        cut = Database(name)
        connection = cut.connection
        connection.deserialize(whole.connection.serialize())
        (saved,) = connection.execute("SELECT ifnull(max(seq), 0) FROM checkpoint").fetchone()
        (newest,) = connection.execute("SELECT ifnull(max(seq), 0) FROM journal").fetchone()
        last = max(saved, newest - requests)
        if last == newest:
            return False
        connection.execute("DELETE FROM journal WHERE seq > ?", (last,))
        connection.execute("DELETE FROM derived WHERE seq > ?", (last,))
        self._whole[name] = (whole, list(self.marks.get(f"{name}.acknowledged", [0, 0])), last)
        self.databases[name] = cut
        return True

    def put_back(self, name: str) -> None:
        """The right journal is there again; what was written to the other one was wrong to be."""
        whole, mark, last = self._whole.pop(name)
        (written,) = (
            self.databases[name]
            .connection.execute("SELECT count(*) FROM journal WHERE seq > ?", (last,))
            .fetchone()
        )
        self.misplaced += written
        self.databases[name] = whole
        self.marks[f"{name}.acknowledged"] = mark

    def process_died(self) -> None:
        """Keep everything that was committed."""
        for database in self.databases.values():
            database.process_died()

    def power_was_cut(self) -> int:
        """Keep only what was synced; returns how many octets were lost."""
        for mark in self.marks.values():
            mark[0] = mark[1]
        for name, octets in self.taken.items():
            if self.chance.random() < 0.5:
                self.notes.setdefault(name, octets)
        self.taken.clear()
        return sum(database.power_was_cut() for database in self.databases.values())


def _limit(database: Database, *, full: bool) -> None:
    pages = 1 if full else 1_000_000  # SQLite takes the size that there is, if it is more
    database.connection.execute(f"PRAGMA max_page_count={pages}").fetchone()


class DiskFile:
    """A database as one process sees it; its work is done in order, in virtual time."""

    def __init__(self, disk: Disk, path: Path, loop: ProcessLoop, *, read_only: bool) -> None:
        self.path: Final = path
        self._disk = disk
        self._name = path.name
        self._loop = loop
        self._queue: deque[tuple[Callable[[sqlite3.Connection], Any], asyncio.Future[Any]]] = (
            deque()
        )
        self._busy = False
        self._is_open = False
        self._read_only = read_only
        self._own = Database(self._name) if self._name == ":memory:" else None
        """Without a file: it ends with the process."""

    async def open(self, schema: str = "") -> None:
        """See `connector.base.disk.Database`."""
        self._is_open = True
        try:
            if not self._read_only:
                await self.run(lambda connection: prepare(connection, schema))
        except BaseException:
            self._is_open = False
            raise

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` with the connection, after all work submitted before."""
        assert self._is_open, "the file is not open"
        future: asyncio.Future[T] = self._loop.create_future()
        self._queue.append((work, future))
        if not self._busy:
            self._busy = True
            self._next()
        return await future

    @property
    def waits_for_commits(self) -> bool:
        """See `connector.base.disk.Database`."""
        return self._disk.is_quick and self._disk.delay_s <= DELAY_S

    async def commit(self, work: Callable[[sqlite3.Connection], T], transfers: int) -> T:
        """See `connector.base.disk.Database`. What is waited for takes no time."""
        assert transfers >= 0, transfers
        disk = self._disk
        if not self.waits_for_commits or self._busy:
            return await self.run(work)
        assert self._is_open, "the file is not open"
        disk.on_operation(disk.host, "before a commit")
        if self._loop.alive:
            try:
                result = self._work(work)
            finally:
                disk.on_operation(disk.host, "after a commit")
        if not self._loop.alive:
            await self._loop.create_future()  # killed: nothing follows
        return result

    def look(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """See `connector.base.disk.Database`."""
        return work(self._database.connection)

    def is_removed(self) -> bool:
        """Never: in a simulation no file is removed."""
        return False

    async def rescue(self) -> None:
        """Never: in a simulation no file is removed."""

    async def close(self) -> None:
        """See `connector.base.disk.Database`."""
        if self._is_open:
            await self.run(lambda _connection: None)
            self._is_open = False

    @property
    def _database(self) -> Database:
        return self._own or self._disk.database(self._name)

    def _next(self) -> None:
        disk = self._disk
        delay_s = disk.delay_s * (0.5 + disk.chance.random())
        disk.world.after(delay_s, self._do)

    def _do(self) -> None:
        if not self._loop.alive:
            return  # it never came to that
        disk = self._disk
        disk.on_operation(disk.host, "before a commit")
        if self._is_dead():
            return
        work, future = self._queue.popleft()
        result: Any = None
        error: BaseException | None = None
        try:
            result = self._work(work)
        except Exception as caught:  # noqa: BLE001 - whoever asked gets it
            error = caught
        disk.on_operation(disk.host, "after a commit")
        if self._queue:
            self._next()
        else:
            self._busy = False
        self._loop.run_now(_answer, future, result, error)

    def _is_dead(self) -> bool:
        return not self._loop.alive

    def _work(self, work: Callable[[sqlite3.Connection], T]) -> T:
        database = self._database
        if not self._disk.broken:
            return database.commit_of(work)
        connection = database.connection
        connection.execute("PRAGMA query_only=1")
        try:
            return work(connection)
        except sqlite3.OperationalError as error:
            raise sqlite3.OperationalError("disk I/O error") from error
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            connection.execute("PRAGMA query_only=0")


def _answer(future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if future.done():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)


class SimulatedMarker:
    """The number of the last acknowledged request, beside a journal (`connector.base.marker`)."""

    def __init__(self, disk: Disk, name: str, loop: ProcessLoop) -> None:
        self._disk = disk
        self._name = name
        self._loop = loop

    def open(self) -> int:
        """See `Marker`."""
        return self._disk.marks.setdefault(self._name, [0, 0])[0]

    def write(self, seq: int) -> None:
        """See `Marker`."""
        if self._disk.broken:
            raise OSError(5, "Input/output error")
        if self._loop.alive:
            self._disk.marks[self._name][0] = seq

    def lower(self, seq: int) -> None:
        """See `Marker`."""
        self.write(seq)

    def sync(self) -> None:
        """See `Marker`."""
        if self._loop.alive:
            mark = self._disk.marks[self._name]
            mark[1] = mark[0]

    def close(self) -> None:
        """See `Marker`."""
        if self._name in self._disk.marks:
            self.sync()


class SimulatedNote:
    """What a process leaves to the next one (`connector.base.files.FileNote`)."""

    def __init__(self, disk: Disk, name: str, loop: ProcessLoop) -> None:
        self._disk = disk
        self._name = name
        self._loop = loop

    def leave(self, text: str) -> None:
        """See `Note`."""
        disk = self._disk
        disk.on_operation(disk.host, "before a note")
        if disk.broken or disk.is_full:
            raise OSError(28, "No space left on device")
        if self._loop.alive:
            disk.notes[self._name] = text.encode()
            disk.taken.pop(self._name, None)
            disk.on_operation(disk.host, "after a note")

    def take(self, bytes_max: int) -> bytes:
        """See `Note`."""
        disk = self._disk
        if self._name not in disk.notes:
            raise FileNotFoundError(2, "No such file or directory")
        if disk.broken:
            raise OSError(5, "Input/output error")
        octets = disk.notes[self._name]
        assert len(octets) <= bytes_max, "a note is short"
        if self._loop.alive:
            disk.taken[self._name] = disk.notes.pop(self._name)
        return octets


class _Held:
    """A file that a process holds."""

    def __init__(self, disk: Disk, name: str, loop: ProcessLoop) -> None:
        self._disk = disk
        self._name = name
        self._loop = loop

    def close(self) -> None:
        """See `connector.base.disk.Hold`."""
        if self._disk.held.get(self._name) is self._loop:
            del self._disk.held[self._name]


class ProcessDisk:
    """The disk as one process sees it; implements `connector.base.disk.Disk`."""

    def __init__(self, disk: Disk, loop: ProcessLoop) -> None:
        self._disk = disk
        self._loop = loop

    def database(self, path: Path, *, read_only: bool = False) -> DiskFile:
        """See `connector.base.disk.Disk`."""
        return DiskFile(self._disk, path, self._loop, read_only=read_only)

    def marker(self, path: Path, *, read_only: bool = False) -> SimulatedMarker:
        """See `connector.base.disk.Disk`."""
        return SimulatedMarker(self._disk, path.name, self._loop)

    def note(self, path: Path) -> SimulatedNote:
        """See `connector.base.disk.Disk`."""
        return SimulatedNote(self._disk, path.name, self._loop)

    async def free_bytes(self, path: Path) -> int:
        """See `connector.base.disk.Disk`."""
        return self._disk.free_bytes

    def hold(self, path: Path) -> _Held:
        """See `connector.base.disk.Disk`."""
        owner = self._disk.held.get(path.name)
        if owner is not None and owner.alive and owner is not self._loop:
            raise HeldByAnotherError(owner.name)
        self._disk.held[path.name] = self._loop
        return _Held(self._disk, path.name, self._loop)
