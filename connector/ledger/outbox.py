"""The outbox: durable memory of transfers that were promised but not yet acknowledged.

One SQLite file in DATA_DIR, apart from the ledger: it is there for the time when the ledger is not.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from connector import limits
from connector.errors import LedgerUnavailableError
from connector.ledger.model import Transfer, pack_transfer, unpack_transfer
from connector.sqlite import SqliteFile, in_transaction

FILE_NAME: Final = "outbox.db"
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS outbox (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, id BLOB NOT NULL UNIQUE, transfer BLOB NOT NULL);
"""


class SqliteOutbox:
    """See the module."""

    def __init__(self, path: Path) -> None:
        self._file = SqliteFile(path)
        self._count = 0

    async def open(self) -> None:
        """Open or create the file.

        Raises:
            LedgerUnavailableError: it cannot be used.
        """
        try:
            await self._file.open(_SCHEMA)
            self._count = await self._file.run(
                lambda c: c.execute("SELECT count(*) FROM outbox").fetchone()[0]
            )
        except (sqlite3.Error, OSError) as error:
            await self._file.close()
            raise LedgerUnavailableError(f"outbox {self._file.path}: {error}") from error

    async def close(self) -> None:
        """Let go of the file."""
        await self._file.close()

    async def add(self, transfers: list[Transfer]) -> None:
        """On disk when this returns.

        Raises:
            LedgerUnavailableError: the disk refuses, or the outbox is full.
        """
        if self._count + len(transfers) > limits.OUTBOX_TRANSFERS_MAX:
            raise LedgerUnavailableError(f"outbox is full: {self._count} transfers")
        rows = [
            (transfer.id.to_bytes(16, "big"), pack_transfer(transfer)) for transfer in transfers
        ]

        await self._change("INSERT OR IGNORE INTO outbox (id, transfer) VALUES (?, ?)", rows)

    async def remove(self, ids: list[int]) -> None:
        """Forget transfers that the ledger has acknowledged.

        Raises:
            LedgerUnavailableError: the disk refuses.
        """
        keys = [(id_.to_bytes(16, "big"),) for id_ in ids]

        await self._change("DELETE FROM outbox WHERE id = ?", keys)

    async def _change(self, statement: str, rows: Sequence[tuple[bytes, ...]]) -> None:
        """Carry out `statement` for every row, all or none, and count what is left."""

        def work(connection: sqlite3.Connection) -> int:
            connection.executemany(statement, rows)
            return int(connection.execute("SELECT count(*) FROM outbox").fetchone()[0])

        try:
            self._count = await self._file.run(lambda c: in_transaction(c, work))
        except (sqlite3.Error, OSError) as error:
            raise LedgerUnavailableError(f"outbox: {error}") from error

    async def load(self) -> list[Transfer]:
        """All that is in it, oldest first.

        Raises:
            LedgerUnavailableError: the file cannot be read.
        """
        try:
            rows = await self._file.run(
                lambda c: c.execute("SELECT transfer FROM outbox ORDER BY seq").fetchall()
            )
        except (sqlite3.Error, OSError) as error:
            raise LedgerUnavailableError(f"outbox: {error}") from error
        return [unpack_transfer(row[0]) for row in rows]
