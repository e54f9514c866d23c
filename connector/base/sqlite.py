"""One SQLite file behind one thread.

Every statement runs in the file's own thread, so that the event loop does not wait for a disk; but
where the disk is quick, short transactions are committed on the loop (`SqliteFile.commit`, `pace`).
A transaction is acknowledged only after it is on disk (WAL, `synchronous=FULL`).
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Final, TypeVar
from urllib.parse import quote

from connector.base.pace import CommitPace

T = TypeVar("T")

BUSY_MS = 2000
_WAL_PAGES_MAX: Final = 4000
"""In the write-ahead log when its pages are copied into the file, which takes a while."""
_WAL_PAGES_ON_LOOP_MAX: Final = 256
"""Where it is copied at so few pages, the loop does it; else the thread."""
_WAL_GROWTH_MAX: Final = 4
"""So many times as many pages, and the loop copies them all the same: the thread could not."""
_PAGE_BYTES: Final = 4096
_PAGES_PER_COMMIT: Final = 3
"""About what a commit adds to the log beside its own octets."""


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
        # Jobs of the thread whose answer the loop has not had yet. Without any, the connection is the
        # loop's.
        self._open_jobs = 0
        self._pace = CommitPace()
        # About what the loop has added to the write-ahead log, and when it is copied.
        self._wal_pages = 0
        self._wal_pages_max = _WAL_PAGES_MAX

    @property
    def commits_on_loop(self) -> bool:
        """Whether short transactions are committed on the event loop at present."""
        return self._pace.on_loop

    async def open(self, schema: str = "") -> None:
        """Open or create the file, and run `schema`.

        Raises:
            sqlite3.Error: it cannot be opened or is not a database.
            OSError: the folder cannot be made.
        """
        self._queue = SimpleQueue()
        self._pace = CommitPace()
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
        self.path.parent.mkdir(parents=True, exist_ok=True)
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
            work, future, loop = job
            try:
                result, error = work(self._connection), None
            except BaseException as caught:  # noqa: BLE001 - raised in the caller
                result, error = None, caught
            try:
                loop.call_soon_threadsafe(self._answer, future, result, error)
            except RuntimeError:
                pass  # the loop is closed: no caller waits, and the work is done

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` with the connection, in the file's thread; returns its result.

        A cancelled caller only stops waiting; the work is still done.
        """
        assert self._thread is not None, "the file is not open"
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._open_jobs += 1
        self._queue.put((work, future, loop))
        return await future

    def _answer(
        self, future: asyncio.Future[Any], result: Any, error: BaseException | None
    ) -> None:
        self._open_jobs -= 1
        assert self._open_jobs >= 0, self._open_jobs
        if future.done():
            return  # the caller was cancelled
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)

    async def commit(self, work: Callable[[sqlite3.Connection], T], size: int) -> T:
        """Run `work`, one short transaction of about `size` octets that ends by itself.

        It is done at once, on the loop, while the disk is quick and the thread has nothing to do; else
        as by `run`. `work` may be called again if another process has the file locked.
        """
        pace = self._pace
        if not pace.on_loop:
            took_s = 0.0

            def timed(connection: sqlite3.Connection) -> T:
                nonlocal took_s
                began_s = time.perf_counter()
                result = work(connection)
                took_s = time.perf_counter() - began_s
                return result

            result = await self.run(timed)
            if self._pace is pace and pace.done_in_thread(took_s, time.perf_counter()):
                self._begin_on_loop()
            return result
        if self._open_jobs or self._connection is None:
            return await self.run(work)
        began_s = time.perf_counter()
        try:
            result = work(self._connection)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                raise
            # Another process writes, which is not foreseen: the thread waits for it.
            pace.leave_loop(time.perf_counter())
            self._end_on_loop()
            return await self.run(work)
        now_s = time.perf_counter()
        self._wal_pages += _PAGES_PER_COMMIT + size // _PAGE_BYTES
        if pace.done_on_loop(now_s - began_s, now_s):
            self._end_on_loop()
        elif self._wal_pages >= self._wal_pages_max > _WAL_PAGES_ON_LOOP_MAX:
            self._checkpoint()
        return result

    def _begin_on_loop(self) -> None:
        """Prepare the connection: on the loop it waits for no other process, and copies few pages."""
        self._wal_pages = 0

        def work(connection: sqlite3.Connection) -> None:
            connection.execute("PRAGMA busy_timeout=0")
            (pages,) = connection.execute("PRAGMA wal_autocheckpoint").fetchone()
            self._wal_pages_max = pages
            if pages > _WAL_PAGES_ON_LOOP_MAX:
                connection.execute(f"PRAGMA wal_autocheckpoint={_WAL_GROWTH_MAX * pages}")

        self._do(work)

    def _end_on_loop(self) -> None:
        def work(connection: sqlite3.Connection) -> None:
            connection.execute(f"PRAGMA busy_timeout={BUSY_MS}")
            connection.execute(f"PRAGMA wal_autocheckpoint={self._wal_pages_max}")

        self._do(work)

    def _checkpoint(self) -> None:
        """Let the thread copy the pages of the write-ahead log into the file."""
        self._wal_pages = 0
        self._do(lambda connection: connection.execute("PRAGMA wal_checkpoint(PASSIVE)").close())

    def _do(self, work: Callable[[sqlite3.Connection], None]) -> None:
        """Have the thread do something that nobody waits for, before anything that comes later."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        # Had it failed, a later commit fails as well, and says so.
        future.add_done_callback(_look_away)
        self._open_jobs += 1
        self._queue.put((work, future, loop))

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
        thread, self._thread = self._thread, None
        self._queue.put(None)
        thread.join()


_Job = tuple[Callable[[Any], Any], "asyncio.Future[Any]", asyncio.AbstractEventLoop]


def _look_away(future: asyncio.Future[None]) -> None:
    if not future.cancelled():
        future.exception()


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
