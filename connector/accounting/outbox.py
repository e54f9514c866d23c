"""The outbox: durable requests that the ledger has not acknowledged.

One SQLite file in DATA_DIR, independent of the ledger. It holds requests as they will be sent, in
order, and the balances at the last clean stop, with which a node starts while its ledger is away.
It also has the balances that the ledger has acknowledged (`acknowledged`), and fulfilments that
could not be fetched again (`fulfilments`), and the names under which processes have claimed the
lease from this DATA_DIR (`leaseholder`).
"""

from __future__ import annotations

import asyncio
import sqlite3
import struct
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Final, TypeVar

from connector.accounting import bounds
from connector.base import limits
from connector.base.disk import Database
from connector.base.errors import LedgerCorruptError, LedgerUnavailableError
from connector.base.sqlite import in_transaction
from connector.base.words import words_of
from connector.ledger import kept
from connector.ledger.kept import Block, KeptTable, blocks_of
from connector.ledger.model import Kept, Memory, Posted, Transfer
from connector.ledger.rows import ROW, pack_transfer, unpack_transfer

T = TypeVar("T")

FILE_NAME: Final = "outbox.db"
_FORMAT: Final = 4
_FORMAT_OF_ROWS: Final = 2
"""Had one row per fulfilment, in table `fulfilment`."""
_FORMAT_OF_INDEXES: Final = 3
"""Had other numbers of blocks; see `kept.convert`."""
_ROWS_MOVED_AT_ONCE: Final = 1000
_PAGE_BYTES: Final = 4096
_KEPT_BYTES_PER_CHECK: Final = 64 << 10
_WRONG_VALUES: Final = (struct.error, ValueError, TypeError, OverflowError)
"""SQLite does not enforce the types of columns: a value that was not written here fails like this."""
_SCHEMA: Final = f"""
CREATE TABLE IF NOT EXISTS request (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, count INTEGER NOT NULL, transfers BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS book (
    account_id BLOB PRIMARY KEY, debits_posted TEXT NOT NULL, credits_posted TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS stop (clean INTEGER NOT NULL);
{kept.SCHEMA}CREATE TABLE IF NOT EXISTS acknowledged (
    account_id BLOB PRIMARY KEY, debits_posted TEXT NOT NULL, credits_posted TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS highest (id BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS claim (process BLOB NOT NULL);
PRAGMA user_version = {_FORMAT};
"""


class SqliteOutbox:
    """See the module."""

    def __init__(self, database: Database) -> None:
        self._file = database
        self._in_use = asyncio.Lock()
        self.transfers = 0
        """Transfers in the outbox."""
        self._kept = KeptTable(write=self._run, read=self._run)
        # Octets of fulfilments since the room reserved for posts was checked.
        self._unchecked = _KEPT_BYTES_PER_CHECK

    @property
    def waits_for_commits(self) -> bool:
        """See `Outbox`."""
        return self._file.waits_for_commits

    async def open(self) -> None:
        """Open or create the file.

        Raises:
            LedgerUnavailableError: it cannot be used.
            LedgerCorruptError: it is of another version of the connector.
        """
        try:
            await self._file.open()
            await self._file.run(self._check_format)
            await self._file.run(_set_room_aside)
            self.transfers = await self._file.run(_count)
            await self._file.run(self._kept.count)
        except (sqlite3.Error, OSError) as error:
            await self._file.close()
            raise LedgerUnavailableError(
                f"the outbox {self._file.path} cannot be used: {words_of(error)}; "
                "DATA_DIR must be a folder that this user may write in"
            ) from error
        except _WRONG_VALUES as error:
            await self._file.close()
            raise self._damaged(error) from error
        except BaseException:
            await self._file.close()
            raise

    def _check_format(self, connection: sqlite3.Connection) -> None:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version == _FORMAT_OF_ROWS:
            connection.executescript(kept.SCHEMA)
            in_transaction(connection, _move_rows)
        elif version == _FORMAT_OF_INDEXES:
            kept.convert(connection)
        elif version != _FORMAT and connection.execute("SELECT 1 FROM sqlite_master").fetchone():
            raise LedgerCorruptError(
                f"{self._file.path} has format {version}, this version reads {_FORMAT}: let the "
                "version that wrote it book what is in it, or move the file away"
            )
        connection.executescript(_SCHEMA)

    async def close(self) -> None:
        """Close the file."""
        await self._file.close()

    async def add(self, transfers: list[Transfer]) -> int:
        """Append a request; it is on disk when this returns its number. Numbers rise.

        Raises:
            LedgerUnavailableError: the disk refuses, or the outbox is full.
        """
        count = len(transfers)
        assert count > 0, "a request of nothing"
        if self.transfers + count > limits.OUTBOX_TRANSFERS_MAX:
            raise LedgerUnavailableError(f"the outbox is full: {self.transfers} transfers")
        rows = b"".join(map(pack_transfer, transfers))

        def work(connection: sqlite3.Connection) -> int:
            cursor = connection.execute(
                "INSERT INTO request (count, transfers) VALUES (?, ?)", (count, rows)
            )
            assert cursor.lastrowid is not None
            return cursor.lastrowid

        seq = await self._commit(work, count)
        self.transfers += count
        return seq

    async def remove(self, seqs: list[int]) -> None:
        """Forget requests that the ledger has acknowledged.

        Raises:
            LedgerUnavailableError: the disk refuses.
        """

        def work(connection: sqlite3.Connection) -> int:
            connection.executemany("DELETE FROM request WHERE seq = ?", [(seq,) for seq in seqs])
            return _count(connection)

        self.transfers = await self._run(lambda c: in_transaction(c, work))
        assert self.transfers >= 0, self.transfers

    async def load(self, after_seq: int, transfers_max: int) -> list[tuple[int, list[Transfer]]]:
        """The oldest requests after one, as many as fit in `transfers_max`, and one at least.

        Raises:
            LedgerUnavailableError: the file cannot be read.
            LedgerCorruptError: a request in it is damaged.
        """
        assert transfers_max > 0, transfers_max

        def work(connection: sqlite3.Connection) -> list[tuple[int, list[Transfer]]]:
            found: list[tuple[int, list[Transfer]]] = []
            room = transfers_max
            for seq, count, rows in connection.execute(
                "SELECT seq, count, transfers FROM request WHERE seq > ? ORDER BY seq", (after_seq,)
            ):
                room -= count
                if room < 0 and found:
                    break
                offsets = range(0, len(rows), ROW.size)
                transfers = [unpack_transfer(rows, at) for at in offsets]
                if len(transfers) != count:
                    raise ValueError(f"request {seq} has {len(transfers)} transfers, not {count}")
                found.append((seq, transfers))
            return found

        return await self._run(work)

    # --- fulfilments that could not be fetched again

    @property
    def kept_bytes(self) -> int:
        """Octets of the kept fulfilments on disk."""
        return self._kept.kept_bytes

    async def keep(self, rows: Sequence[Kept]) -> None:
        """Write fulfilments; they are on disk when this returns. Idempotent.

        Raises:
            LedgerUnavailableError: the disk refuses.
        """
        blocks = blocks_of(rows)
        size = sum(block.size for block in blocks)
        table = self._kept
        try:
            await self._commit(lambda connection: self._insert(connection, blocks, size), len(rows))
        except BaseException:
            # The write failed; or it was done, and the caller had given up waiting.
            table.may_have_added()
            raise
        table.added(blocks)

    def _insert(self, connection: sqlite3.Connection, blocks: list[Block], size: int) -> None:
        # The room reserved for posts is not used for fulfilments: on a full disk this fails.
        self._unchecked += size
        if self._unchecked >= _KEPT_BYTES_PER_CHECK:
            (free,) = connection.execute("PRAGMA freelist_count").fetchone()
            wanted = bounds.OUTBOX_RESERVED_BYTES + _KEPT_BYTES_PER_CHECK + size
            if free * _PAGE_BYTES < wanted:
                _make_room(connection, wanted + bounds.OUTBOX_RESERVED_BYTES)
            self._unchecked = 0
        if len(blocks) == 1:
            kept.insert(connection, blocks, posted=False)
        else:
            in_transaction(connection, lambda c: kept.insert(c, blocks, posted=False))

    async def kept(self, packet_ids: Sequence[int]) -> dict[int, bytes]:
        """The kept Fulfills of the given packets, by packet id.

        Raises:
            LedgerUnavailableError: the file cannot be read.
        """
        return await self._kept.kept(packet_ids)

    async def kept_ids(self) -> list[int]:
        """The ids of all packets with a kept Fulfill, rising.

        Raises:
            LedgerUnavailableError: the file cannot be read.
        """
        return await self._kept.kept_ids()

    async def forget_kept(self, now_ms: int) -> bool:
        """Remove a bounded number of fulfilments that are out of date; whether there may be more.

        Raises:
            LedgerUnavailableError: the disk refuses.
        """
        return await self._kept.forget_kept(now_ms)

    # --- state kept over restarts

    async def begin(self) -> Memory:
        """Read what was saved before this start, and mark the node as not stopped cleanly.

        Raises:
            LedgerUnavailableError: the disk refuses.
            LedgerCorruptError: the saved state is damaged.
        """

        def work(connection: sqlite3.Connection) -> Memory:
            row = connection.execute("SELECT clean FROM stop").fetchone()
            books = _posted(connection.execute("SELECT * FROM book"))
            acknowledged = _posted(connection.execute("SELECT * FROM acknowledged"))
            highest = connection.execute("SELECT id FROM highest").fetchone()
            (last_seq,) = connection.execute("SELECT coalesce(max(seq), 0) FROM request").fetchone()
            connection.execute("DELETE FROM stop")
            connection.execute("INSERT INTO stop VALUES (0)")
            return Memory(
                row is None,
                books if row is not None and row[0] else None,
                last_seq,
                acknowledged,
                0 if highest is None else int.from_bytes(highest[0], "big"),
            )

        return await self._run(lambda c: in_transaction(c, work))

    async def end(self, books: Mapping[int, Posted]) -> None:
        """Save these balances and mark the node as stopped cleanly.

        Raises:
            LedgerUnavailableError: the disk refuses.
        """

        def work(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM book")
            connection.executemany("INSERT INTO book VALUES (?, ?, ?)", _rows(books))
            connection.execute("UPDATE stop SET clean = 1")

        await self._run(lambda c: in_transaction(c, work))

    async def remember(
        self, books: Mapping[int, Posted], highest_id: int, *, replace: bool = False
    ) -> None:
        """Save the balances that the ledger has acknowledged for some accounts, and the highest id.

        `replace`: and delete those of all other accounts.

        Raises:
            LedgerUnavailableError: the disk refuses.
        """

        def work(connection: sqlite3.Connection) -> None:
            if replace:
                connection.execute("DELETE FROM acknowledged")
            connection.executemany(
                "INSERT OR REPLACE INTO acknowledged VALUES (?, ?, ?)", _rows(books)
            )
            connection.execute("DELETE FROM highest")
            connection.execute("INSERT INTO highest VALUES (?)", (highest_id.to_bytes(16, "big"),))

        await self._run(lambda c: in_transaction(c, work))

    async def claims(self) -> list[int]:
        """The names under which processes have claimed the accounts from here.

        Raises:
            LedgerUnavailableError: the file cannot be read.
        """

        def work(connection: sqlite3.Connection) -> list[int]:
            rows = connection.execute("SELECT process FROM claim ORDER BY rowid")
            return [int.from_bytes(process, "big") for (process,) in rows]

        return await self._run(work)

    async def keep_claims(self, processes: Sequence[int]) -> None:
        """Remember these names instead; on disk when this returns.

        Raises:
            LedgerUnavailableError: the disk refuses.
        """

        def work(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM claim")
            connection.executemany(
                "INSERT INTO claim VALUES (?)", [(one.to_bytes(16, "big"),) for one in processes]
            )

        await self._run(lambda c: in_transaction(c, work))

    async def restore(self) -> bool:
        """Write the file again if it was deleted while in use; returns whether it was.

        Raises:
            LedgerUnavailableError: it cannot be written again.
        """
        try:
            if not self._file.is_removed():
                return False
            async with self._in_use:
                await self._file.rescue()
                await self.open()
        except (sqlite3.Error, OSError) as error:
            raise LedgerUnavailableError(f"outbox {self._file.path}: {words_of(error)}") from error
        return True

    async def _run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        return await self._usable(lambda: self._file.run(work))

    async def _commit(self, work: Callable[[sqlite3.Connection], T], transfers: int) -> T:
        return await self._usable(lambda: self._file.commit(work, transfers))

    async def _usable(self, step: Callable[[], Awaitable[T]]) -> T:
        """The result of `step`, which uses the file; errors of SQLite become ours."""
        try:
            async with self._in_use:
                return await step()
        except (sqlite3.Error, OSError) as error:
            raise LedgerUnavailableError(f"outbox: {words_of(error)}") from error
        except _WRONG_VALUES as error:
            raise self._damaged(error) from error

    def _damaged(self, error: Exception) -> LedgerCorruptError:
        return LedgerCorruptError(
            f"{self._file.path} is damaged ({error}): restore a backup of DATA_DIR, or move the "
            "file away; then what it promised must be compared with the peers by hand"
        )


async def acknowledged_in(database: Database) -> dict[int, Posted]:
    """What a file remembers that the ledger has acknowledged, by account; for a look beside its node.

    Raises:
        LedgerUnavailableError: it cannot be read.
    """

    def work(connection: sqlite3.Connection) -> dict[int, Posted]:
        known = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'acknowledged'")
        return _posted(connection.execute("SELECT * FROM acknowledged")) if known.fetchone() else {}

    try:
        await database.open()
        return await database.run(work)
    except (sqlite3.Error, OSError, *_WRONG_VALUES) as error:
        raise LedgerUnavailableError(f"outbox {database.path}: {words_of(error)}") from error
    finally:
        await database.close()


def _set_room_aside(connection: sqlite3.Connection) -> None:
    """Reserve room on the disk for posts, which must be written even when the disk is full.

    Pages that are written and freed stay in the file. The WAL is reused from its start after a
    checkpoint, which happens before it would grow beyond its size.
    """
    pages = bounds.OUTBOX_RESERVED_BYTES // _PAGE_BYTES
    connection.execute(f"PRAGMA wal_autocheckpoint={pages // 2}")
    connection.execute("CREATE TABLE IF NOT EXISTS room (filler BLOB)")
    _make_room(connection, bounds.OUTBOX_RESERVED_BYTES)
    connection.execute("PRAGMA wal_checkpoint(PASSIVE)")


def _make_room(connection: sqlite3.Connection, size: int) -> None:
    connection.execute("INSERT INTO room VALUES (zeroblob(?))", (size,))
    connection.execute("DELETE FROM room")


def _move_rows(connection: sqlite3.Connection) -> None:
    """Convert the fulfilments of a file of format 2 to blocks, once: seconds per million."""
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'fulfilment'").fetchone():
        return  # written before fulfilments were kept
    rows = (
        Kept(int.from_bytes(packet_id, "big"), until_ms, octets)
        for packet_id, until_ms, octets in connection.execute(
            "SELECT packet_id, keep_until_ms, octets FROM fulfilment ORDER BY packet_id"
        )
    )
    while part := list(islice(rows, _ROWS_MOVED_AT_ONCE)):
        kept.insert(connection, blocks_of(part), posted=False)
    connection.execute("DROP TABLE fulfilment")


def _posted(rows: Iterable[tuple[bytes, str, str]]) -> dict[int, Posted]:
    return {
        int.from_bytes(id_, "big"): Posted(int(debits), int(credits_))
        for id_, debits, credits_ in rows
    }


def _rows(books: Mapping[int, Posted]) -> list[tuple[bytes, str, str]]:
    return [
        (id_.to_bytes(16, "big"), str(posted.debits), str(posted.credits))
        for id_, posted in books.items()
    ]


def _count(connection: sqlite3.Connection) -> int:
    return int(connection.execute("SELECT coalesce(sum(count), 0) FROM request").fetchone()[0])
