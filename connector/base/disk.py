"""The disk as a node uses it: databases, and files locked by one process.

Every store receives a `Database`, or the `Disk` that opens it. `SystemDisk` is the file system; a
simulation supplies one that is slow, full, or loses power between two transactions.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import IO, Protocol, TypeVar

from connector.base.files import FileNote, private_file
from connector.base.marker import FileMarker, Marker
from connector.base.sqlite import SqliteFile

T = TypeVar("T")


class HeldByAnotherError(OSError):
    """Another process holds the file."""

    def __init__(self, owner: str) -> None:
        super().__init__(f"in use by process {owner}")
        self.owner = owner
        """Its process id, or `unknown`."""


class Database(Protocol):
    """An SQLite database. A transaction is acknowledged only after it is durable.

    Work is a function of the connection. The connection is in autocommit mode: a statement by
    itself is a transaction (`base.sqlite.in_transaction` makes one of several).
    """

    @property
    def path(self) -> Path:
        """Its path, for messages."""

    async def open(self, schema: str = "") -> None:
        """Open or create it, and run the statements of `schema`. May be opened again after `close`.

        Raises:
            sqlite3.Error: it cannot be opened or is not a database.
            OSError: its folder cannot be created.
        """

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """The result of `work`, done off the event loop, in the order of the calls.

        A cancelled caller only stops waiting; the work is still done.

        Raises:
            sqlite3.Error, OSError: the disk refuses, or it is full.
        """

    async def commit(self, work: Callable[[sqlite3.Connection], T], transfers: int) -> T:
        """As `run`, for one short transaction: perhaps the event loop waits for it (`pace`).

        `transfers`: how many transfers or fulfilments it writes.

        Raises:
            sqlite3.Error, OSError: the disk refuses, or it is full.
        """

    @property
    def waits_for_commits(self) -> bool:
        """Whether the event loop waits for `commit` at present."""

    def look(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """The result of `work`, which only reads, done at once: the caller waits for the disk.

        May be called from within `run`. For rare look-ups in the middle of a step that cannot wait.
        """

    def is_removed(self) -> bool:
        """Whether the file was removed or replaced while it is open here.

        Raises:
            OSError: its status cannot be read.
        """

    async def rescue(self) -> None:
        """Write the content of a removed file to its path again, and close it; reopen it afterwards.

        Raises:
            sqlite3.Error, OSError: it could not be written; the database is still open.
        """

    async def close(self) -> None:
        """Finish the work in progress and close. Safe to call twice."""


class Hold(Protocol):
    """An exclusive lock on a file, held by this process."""

    def close(self) -> None:
        """Release the lock."""


class Note(Protocol):
    """A short text that a process leaves to the next one (`base.files.FileNote`)."""

    def leave(self, text: str) -> None:
        """Put it on disk, instead of an earlier one.

        Raises:
            OSError: it could not be written.
        """

    def take(self, bytes_max: int) -> bytes:
        """What was left, once. After a power cut it may be there again.

        Raises:
            FileNotFoundError: nothing was.
            OSError: it cannot be read or removed.
            ValueError: it is longer than `bytes_max`.
        """


class Disk(Protocol):
    """Opens databases, markers, notes and file locks."""

    def database(self, path: Path, *, read_only: bool = False) -> Database:
        """The database at `path`; nothing is opened yet. `:memory:` is one without a file."""

    def marker(self, path: Path, *, read_only: bool = False) -> Marker:
        """The number kept at `path`; nothing is opened yet."""

    def note(self, path: Path) -> Note:
        """The text that one process leaves to the next at `path`."""

    async def free_bytes(self, path: Path) -> int:
        """Octets that may still be written on the disk of a file or folder, which need not exist.

        Raises:
            OSError: it cannot be measured.
        """

    def hold(self, path: Path) -> Hold:
        """Lock the file at `path`, creating it if missing, until closed or this process ends.

        Raises:
            HeldByAnotherError: another process holds the lock.
            OSError: it cannot be created.
        """


class SystemDisk:
    """The machine's file system."""

    def database(self, path: Path, *, read_only: bool = False) -> SqliteFile:
        """See `Disk`."""
        return SqliteFile(path, read_only=read_only)

    def marker(self, path: Path, *, read_only: bool = False) -> FileMarker:
        """See `Disk`."""
        return FileMarker(path, read_only=read_only)

    def note(self, path: Path) -> FileNote:
        """See `Disk`."""
        return FileNote(path)

    async def free_bytes(self, path: Path) -> int:
        """See `Disk`. In a thread: a network file system may take its time."""
        return await asyncio.to_thread(_free_bytes, path)

    def hold(self, path: Path) -> IO[str]:
        """See `Disk`. Our process id is written into it."""
        private_file(path)
        file = path.open("a+", encoding="ascii")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            owner = file.read(20).strip() or "unknown"
            file.close()
            raise HeldByAnotherError(owner) from None
        file.seek(0)
        file.truncate()
        file.write(f"{os.getpid()}\n")
        file.flush()
        return file


def _free_bytes(path: Path) -> int:
    there = path.absolute()
    while not there.exists() and there != there.parent:
        there = there.parent
    found = os.statvfs(there)
    # Some file systems do not say how large they are.
    return found.f_bavail * found.f_frsize if found.f_blocks else 1 << 62
