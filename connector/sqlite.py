"""One SQLite file behind one thread.

The event loop never waits for a disk: every statement runs in the file's own thread, and a
transaction is acknowledged only after it is on disk (WAL, `synchronous=FULL`).
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

BUSY_MS = 2000


class SqliteFile:
    """A database file with one connection, used from one thread of its own."""

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self.path = path
        self._read_only = read_only
        self._thread: ThreadPoolExecutor | None = None
        self._connection: sqlite3.Connection | None = None

    async def open(self, schema: str = "") -> None:
        """Open or create the file, and run `schema`.

        Raises:
            sqlite3.Error: it cannot be opened or is not a database.
            OSError: the folder cannot be made.
        """
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"sqlite-{self.path.name}")
        try:
            self._connection = await self.run(lambda _: self._connect(schema))
        except BaseException:
            await self.close()
            raise

    def _connect(self, schema: str) -> sqlite3.Connection:
        if self._read_only:
            connection = sqlite3.connect(
                f"file:{self.path}?mode=ro", uri=True, isolation_level=None, check_same_thread=False
            )
            connection.execute(f"PRAGMA busy_timeout={BUSY_MS}")
            return connection
        self.path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
        try:
            connection.execute(f"PRAGMA busy_timeout={BUSY_MS}")
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute("PRAGMA wal_autocheckpoint=4000")
            connection.execute("PRAGMA journal_size_limit=67108864")
            if schema:
                connection.executescript(schema)
        except BaseException:
            connection.close()
            raise
        return connection

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """`work` done with the connection, in the file's thread.

        A caller that is cancelled abandons its wait; the work is done all the same.
        """
        assert self._thread is not None, "the file is not open"
        loop = asyncio.get_running_loop()
        return await asyncio.shield(
            loop.run_in_executor(self._thread, work, self._connection)  # type: ignore[arg-type]
        )

    async def close(self) -> None:
        """Finish what is queued and close. Safe to call twice."""
        thread, self._thread = self._thread, None
        connection, self._connection = self._connection, None
        if thread is None:
            return
        if connection is not None:
            loop = asyncio.get_running_loop()
            await asyncio.shield(loop.run_in_executor(thread, connection.close))
        thread.shutdown(wait=False)


def in_transaction(connection: sqlite3.Connection, work: Callable[[sqlite3.Connection], T]) -> T:
    """`work` as one transaction: on disk when this returns, or not at all."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        result = work(connection)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return result
