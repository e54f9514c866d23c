"""One SQLite file behind one thread.

Every statement runs in the file's own thread, so that the event loop does not wait for a disk; but
where the disk is quick, it waits a little for a short transaction (`SqliteFile.commit`, `pace`).
A transaction is acknowledged only after it is on disk (WAL, `synchronous=FULL`).
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Final, TypeVar
from urllib.parse import quote

from connector.base.files import private_file
from connector.base.pace import FEW, WAIT_SECONDS, CommitPace

T = TypeVar("T")

BUSY_MS = 2000
_WAL_PAGES_MAX: Final = 4000
"""In the write-ahead log when its pages are copied into the file, which takes a while."""


class _Job:
    """Work for the thread, and where its result goes."""

    __slots__ = ("error", "future", "is_done", "loop", "result", "took_s", "work")

    def __init__(
        self,
        work: Callable[[Any], Any],
        loop: asyncio.AbstractEventLoop,
        future: asyncio.Future[Any] | None,
    ) -> None:
        self.work = work
        self.loop = loop
        self.future = future
        """None while the loop waits for it."""
        self.result: Any = None
        self.error: BaseException | None = None
        self.is_done = False
        self.took_s = 0.0


class SqliteFile:
    """A database file with one connection, used from one thread of its own.

    The thread takes work from a queue and answers through the event loop, like an executor but at a
    third of its cost, which matters for every request to the embedded ledger.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self.path = path
        self._read_only = read_only
        self._queue: SimpleQueue[_Job | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._connection: sqlite3.Connection | None = None
        self._reader: sqlite3.Connection | None = None
        self._inode: int | None = None
        # Jobs that the loop has had no answer of. With none, a commit is begun at once.
        self._open_jobs = 0
        self._pace = CommitPace()
        # Of the job that the loop waits for: whether it is done, and who is told, is decided under one
        # lock; the other is held until it is done.
        self._decision = threading.Lock()
        self._done = threading.Lock()
        self._done.acquire()

    @property
    def waits_for_commits(self) -> bool:
        """Whether the event loop waits for short transactions at present."""
        return self._pace.waits

    async def open(self, schema: str = "") -> None:
        """Open or create the file, and run `schema`.

        Raises:
            sqlite3.Error: it cannot be opened or is not a database.
            OSError: the folder cannot be made.
        """
        self._queue = SimpleQueue()
        self._pace = CommitPace()
        self._open_jobs = 0
        self._done = threading.Lock()
        self._done.acquire()
        self._thread = threading.Thread(
            target=self._work, name=f"sqlite-{self.path.name}", daemon=True
        )
        self._thread.start()
        try:
            self._connection = await self.run(lambda _: self._connect(schema))
            self._inode = self._inode_at_path()
        except BaseException:
            await self.close()
            raise

    def _connect(self, schema: str) -> sqlite3.Connection:
        if self._read_only:
            connection = sqlite3.connect(
                self._read_only_uri, uri=True, isolation_level=None, check_same_thread=False
            )
            connection.execute(f"PRAGMA busy_timeout={BUSY_MS}")
            return connection
        if str(self.path) != ":memory:":
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with contextlib.suppress(OSError):  # SQLite says what is wrong with the file
                private_file(self.path)
        connection = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
        try:
            prepare(connection, schema)
        except BaseException:
            connection.close()
            raise
        return connection

    @property
    def _read_only_uri(self) -> str:
        # Quoted: a folder may be named `data #1`, `a?b` or `100%41`.
        return f"file:{quote(str(self.path))}?mode=ro"

    def _inode_at_path(self) -> int | None:
        try:
            return self.path.stat().st_ino
        except FileNotFoundError:
            return None

    def _work(self) -> None:
        """The thread: executes jobs in order, until it gets None."""
        while (job := self._queue.get()) is not None:
            began_s = time.perf_counter()
            try:
                job.result = job.work(self._connection)
            except BaseException as caught:  # noqa: BLE001 - raised in the caller
                job.error = caught
            job.took_s = time.perf_counter() - began_s
            with self._decision:
                job.is_done = True
                if job.future is None:
                    self._done.release()
                    continue
            try:
                job.loop.call_soon_threadsafe(self._answer, job)
            except RuntimeError:
                pass  # the loop is closed: no caller waits, and the work is done

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` with the connection, in the file's thread; returns its result.

        A cancelled caller only stops waiting; the work is still done.
        """
        return await self._queued(work).future  # type: ignore[misc,no-any-return]

    def _queued(self, work: Callable[[sqlite3.Connection], Any]) -> _Job:
        assert self._thread is not None, "the file is not open"
        loop = asyncio.get_running_loop()
        job = _Job(work, loop, loop.create_future())
        self._open_jobs += 1
        self._queue.put(job)
        return job

    def _answer(self, job: _Job) -> None:
        self._open_jobs -= 1
        assert self._open_jobs >= 0, self._open_jobs
        future = job.future
        assert future is not None, "nobody is told"
        if future.done():
            return  # the caller was cancelled
        if job.error is not None:
            future.set_exception(job.error)
        else:
            future.set_result(job.result)

    async def commit(self, work: Callable[[sqlite3.Connection], T], transfers: int) -> T:
        """As `run`, for a short transaction: where the disk is quick, the event loop waits for it.

        At most `pace.WAIT_SECONDS`, and what it takes to get the interpreter back; only while the
        thread has nothing else to do, and only for FEW `transfers`.
        """
        if transfers > FEW:
            return await self.run(work)
        pace = self._pace
        if not pace.waits:
            queued = self._queued(work)
            assert queued.future is not None
            result = await queued.future
            pace.committed(queued.took_s, time.perf_counter())
            return result  # type: ignore[no-any-return]
        if self._open_jobs:
            return await self.run(work)
        assert self._thread is not None, "the file is not open"
        loop = asyncio.get_running_loop()
        job = _Job(work, loop, None)
        self._open_jobs += 1
        began_s = time.perf_counter()
        self._queue.put(job)
        if not (in_time := self._done.acquire(timeout=WAIT_SECONDS)):
            with self._decision:
                # It may have been done since; else the thread tells the loop.
                in_time = job.is_done
                if not in_time:
                    job.future = loop.create_future()
            if in_time:
                self._done.acquire()
        now_s = time.perf_counter()
        pace.waited(now_s - began_s, now_s, in_vain=not in_time)
        if job.future is not None:
            return await job.future  # type: ignore[no-any-return]
        assert job.is_done, "acknowledged before it is on disk"
        self._open_jobs -= 1
        if job.error is not None:
            raise job.error
        return job.result  # type: ignore[no-any-return]

    def look(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work`, which only reads, with a separate connection in the caller's thread."""
        if self._reader is None:
            self._reader = sqlite3.connect(self._read_only_uri, uri=True, check_same_thread=False)
        return work(self._reader)

    def is_removed(self) -> bool:
        """Whether the file under the path is not, or no longer, the one that is open.

        Raises:
            OSError: it cannot be looked at.
        """
        # A database in memory never had one.
        return self._inode is not None and self._inode_at_path() != self._inode

    async def rescue(self) -> None:
        """Write the content of a removed file to its path again, and close it; reopen it afterwards.

        The connection still has the deleted file open, which is copied.

        Raises:
            sqlite3.Error, OSError: it could not be written; what was not renamed yet is still open.
        """
        copy = self.path.with_name(self.path.name + ".rescued")

        def work(connection: sqlite3.Connection) -> None:
            copy.unlink(missing_ok=True)
            connection.execute("VACUUM INTO ?", (str(copy),))

        await self.run(work)
        await self.close()
        for leftover in ("-wal", "-shm"):
            self.path.with_name(self.path.name + leftover).unlink(missing_ok=True)
        copy.replace(self.path)

    async def close(self) -> None:
        """Finish what is queued and close. Safe to call twice."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None
        if self._thread is None:
            return
        if self._connection is not None:
            await self.run(lambda connection: connection.close())
            self._connection = None
        # Another call may have come to its end meanwhile.
        thread, self._thread = self._thread, None
        if thread is not None:
            self._queue.put(None)
            thread.join()


def prepare(connection: sqlite3.Connection, schema: str) -> None:
    """Set a new connection to wait for the disk at each commit, and run `schema`."""
    connection.execute(f"PRAGMA busy_timeout={BUSY_MS}")
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute(f"PRAGMA wal_autocheckpoint={_WAL_PAGES_MAX}")
    connection.execute("PRAGMA journal_size_limit=67108864")
    if schema:
        connection.executescript(schema)


def in_transaction(connection: sqlite3.Connection, work: Callable[[sqlite3.Connection], T]) -> T:
    """Run `work` as one transaction: it is on disk when this returns, or rolled back."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        result = work(connection)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return result
