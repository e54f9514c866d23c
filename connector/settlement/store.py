"""Every settlement, and remainders below one unit, in one SQLite file.

Rows are never deleted: they record what was paid, and there are few of them. So a repeated key always
gets the same answer.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar

from connector.base import limits
from connector.base.disk import Database
from connector.base.errors import SettlementError, SettlementStoreError
from connector.base.sqlite import in_transaction
from connector.base.words import words_of
from connector.peering.model import Asset
from connector.settlement.model import (
    NOTHING,
    OPEN,
    Direction,
    Move,
    Origin,
    Payer,
    Phase,
    Quantity,
    Settlement,
    after,
    convert,
)

T = TypeVar("T")

FILE_NAME: Final = "settlements.db"
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS settlement (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    peer_id TEXT NOT NULL, asset_code TEXT NOT NULL, asset_scale INTEGER NOT NULL,
    direction TEXT NOT NULL, origin TEXT NOT NULL, idempotency_key TEXT NOT NULL,
    amount TEXT NOT NULL, quantity_amount TEXT NOT NULL, quantity_scale INTEGER NOT NULL,
    payer TEXT NOT NULL, phase TEXT NOT NULL,
    created_ms INTEGER NOT NULL, changed_ms INTEGER NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0, error TEXT NOT NULL DEFAULT '',
    booking_id TEXT NOT NULL DEFAULT '',
    UNIQUE (peer_id, origin, idempotency_key, asset_code, asset_scale));
CREATE INDEX IF NOT EXISTS settlement_open ON settlement (phase)
    WHERE phase IN ('accepted', 'booked', 'cancelling', 'pending', 'waiting');
CREATE INDEX IF NOT EXISTS settlement_peer ON settlement (peer_id, seq);
CREATE TABLE IF NOT EXISTS remainder (
    peer_id TEXT NOT NULL, asset_code TEXT NOT NULL, asset_scale INTEGER NOT NULL,
    amount TEXT NOT NULL, scale INTEGER NOT NULL,
    PRIMARY KEY (peer_id, asset_code, asset_scale));
"""
_ADD_BOOKING_ID: Final = "ALTER TABLE settlement ADD COLUMN booking_id TEXT NOT NULL DEFAULT ''"
"""For files of older versions. Empty: booked under the settlement's own id, as they did."""
_COLUMNS: Final = (
    "id, peer_id, asset_code, asset_scale, direction, origin, idempotency_key, amount, "
    "quantity_amount, quantity_scale, payer, phase, created_ms, changed_ms, attempts, error, "
    "booking_id"
)
_VALUES: Final = ", ".join("?" * len(_COLUMNS.split(",")))


class SettlementStore:
    """See the module. Changes are on disk when a call returns."""

    def __init__(self, database: Database, *, read_only: bool = False) -> None:
        """`read_only`: the database was opened so; no tables are created."""
        self._file = database
        self._read_only = read_only

    async def open(self) -> None:
        """Open or create the file.

        Raises:
            SettlementStoreError: it cannot be used.
        """
        try:
            await self._file.open("" if self._read_only else _SCHEMA)
            if not self._read_only:
                await self._file.run(_migrate)
        except (sqlite3.Error, OSError) as error:
            raise SettlementStoreError(
                f"settlements {self._file.path}: {words_of(error)}"
            ) from error

    async def close(self) -> None:
        """Close the file. Safe to call twice."""
        await self._file.close()

    async def add(self, settlement: Settlement) -> Settlement:
        """Store a settlement if its key is new; returns the stored settlement with its key.

        The quantity of an incoming one is added to the remainder of earlier ones: the whole units
        are its amount, the rest is the new remainder. Without a whole unit there is nothing to
        book, and it is completed at once. One that is completed already, because the ledger has it,
        or that waits for an operator, is stored as it is and does not change the remainder.

        Raises:
            SettlementError: the amount is above `AMOUNT_MAX`.
        """

        def work(connection: sqlite3.Connection) -> Settlement:
            found = _with_key(
                connection,
                settlement.peer_id,
                settlement.asset,
                settlement.origin,
                settlement.key,
            )
            if found is not None:
                return found
            if settlement.direction is Direction.INCOMING and settlement.phase is Phase.PENDING:
                settlement.amount = _take_remainder(connection, settlement)
                if not settlement.amount:
                    settlement.phase = Phase.COMPLETED
            connection.execute(
                f"INSERT INTO settlement ({_COLUMNS}) VALUES ({_VALUES})",  # noqa: S608
                _row(settlement),
            )
            return settlement

        return await self._run(lambda c: in_transaction(c, work))

    async def accept(self, settlement: Settlement, *, at_ms: int) -> None:
        """Store that a waiting payment is to be credited, then update `settlement`.

        Its amount is that of a new one: with the remainder of earlier payments. Without a whole unit
        it is completed at once.

        Raises:
            SettlementError: the amount is above `AMOUNT_MAX`; or it does not wait any more.
        """

        def work(connection: sqlite3.Connection) -> tuple[int, Phase]:
            found = _find(connection, settlement.id)
            if found is None or found.phase is not Phase.WAITING:
                raise SettlementError(f"settlement {settlement.settlement_id} does not wait")
            amount = _take_remainder(connection, settlement)
            phase = after(found.phase, Move.ACCEPT)
            if not amount:
                phase = after(phase, Move.SETTLE)
            connection.execute(
                "UPDATE settlement SET phase = ?, changed_ms = ?, amount = ? WHERE id = ?",
                (phase, at_ms, str(amount), settlement.settlement_id),
            )
            return amount, phase

        settlement.amount, settlement.phase = await self._run(lambda c: in_transaction(c, work))
        settlement.changed_ms = at_ms

    async def change(self, settlement: Settlement, phase: Phase, *, error: str, at_ms: int) -> None:
        """Store a new phase or another attempt, then update `settlement`.

        Stores amount and quantity too: the ledger may have booked less than was decided.
        """

        def work(connection: sqlite3.Connection) -> None:
            connection.execute(
                "UPDATE settlement SET phase = ?, attempts = ?, error = ?, changed_ms = ?, "
                "amount = ?, quantity_amount = ? WHERE id = ?",
                (
                    phase, settlement.attempts, error, at_ms, str(settlement.amount),
                    str(settlement.quantity.amount), settlement.settlement_id,
                ),
            )  # fmt: skip

        await self._run(lambda c: in_transaction(c, work))
        settlement.phase = phase
        settlement.error = error
        settlement.changed_ms = at_ms

    async def find(self, id_: int) -> Settlement | None:
        """The settlement with this id."""
        return await self._run(lambda c: _find(c, id_))

    async def with_key(
        self, peer_id: str, asset: Asset, origin: Origin, key: str
    ) -> Settlement | None:
        """The settlement with this key."""
        return await self._run(lambda c: _with_key(c, peer_id, asset, origin, key))

    async def open_ones(self) -> list[Settlement]:
        """Settlements with another step to take, oldest first."""
        phases = ", ".join(f"'{phase}'" for phase in sorted(OPEN))
        query = f"SELECT {_COLUMNS} FROM settlement WHERE phase IN ({phases}) ORDER BY seq"  # noqa: S608
        return await self._run(lambda c: [_settlement(row) for row in c.execute(query)])

    async def latest(
        self, peer_id: str | None, count: int, phase: Phase | None = None
    ) -> list[Settlement]:
        """The newest settlements of a peer, or of all, newest first; those in `phase`, or all."""
        query = (
            f"SELECT {_COLUMNS} FROM settlement "  # noqa: S608 - constants
            "WHERE peer_id = ifnull(?, peer_id) AND phase = ifnull(?, phase) "
            f"ORDER BY seq DESC LIMIT {count:d}"
        )
        values = (peer_id, phase)
        return await self._run(lambda c: [_settlement(row) for row in c.execute(query, values)])

    async def remainder(self, peer_id: str, asset: Asset) -> Quantity:
        """The part of incoming payments that is less than a unit of the asset."""
        return await self._run(lambda c: _remainder(c, peer_id, asset))

    async def booked(self, peer_id: str, asset: Asset) -> list[tuple[Phase, Direction, int]]:
        """Phase, direction and amount of all settlements of an account, for the audit."""
        query = (
            "SELECT phase, direction, amount FROM settlement "
            "WHERE peer_id = ? AND asset_code = ? AND asset_scale = ?"
        )
        rows = await self._run(
            lambda c: c.execute(query, (peer_id, asset.code, asset.scale)).fetchall()
        )
        with _reading(f"a settlement of {peer_id}"):
            return [(Phase(phase), Direction(way), int(amount)) for phase, way, amount in rows]

    async def _run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            return await self._file.run(work)
        except (sqlite3.Error, OSError) as error:
            raise SettlementStoreError(f"settlements: {words_of(error)}") from error


@contextmanager
def _reading(what: str) -> Iterator[None]:
    """Turns a value of the wrong type into an error: SQLite does not enforce column types."""
    try:
        yield
    except (ValueError, TypeError, OverflowError, AssertionError) as error:
        raise SettlementStoreError(f"settlements: {what} is damaged: {error}") from error


def _migrate(connection: sqlite3.Connection) -> None:
    columns = {row[1] for row in connection.execute("PRAGMA table_info(settlement)")}
    if "booking_id" not in columns:
        connection.execute(_ADD_BOOKING_ID)
    # Of versions with fewer open phases.
    connection.execute("DROP INDEX IF EXISTS settlement_phase")


def _row(one: Settlement) -> tuple[Any, ...]:
    return (
        one.settlement_id, one.peer_id, one.asset.code, one.asset.scale, one.direction, one.origin,
        one.key, str(one.amount), str(one.quantity.amount), one.quantity.scale, one.payer,
        one.phase, one.created_ms, one.changed_ms, one.attempts, one.error,
        f"{one.booking_id:032x}",
    )  # fmt: skip


def _settlement(row: Any) -> Settlement:
    (
        id_, peer_id, asset_code, asset_scale, direction, origin, key, amount, quantity_amount,
        quantity_scale, payer, phase, created_ms, changed_ms, attempts, error, booking_id,
    ) = row  # fmt: skip
    with _reading(f"settlement {id_}"):
        return Settlement(
            id=int(id_, 16),
            booking_id=int(booking_id or id_, 16),
            peer_id=peer_id,
            asset=Asset(asset_code, asset_scale),
            direction=Direction(direction),
            origin=Origin(origin),
            key=key,
            amount=int(amount),
            quantity=Quantity(int(quantity_amount), quantity_scale),
            payer=Payer(payer),
            phase=Phase(phase),
            created_ms=created_ms,
            changed_ms=changed_ms,
            attempts=attempts,
            error=error,
        )


def _find(connection: sqlite3.Connection, id_: int) -> Settlement | None:
    row = connection.execute(
        f"SELECT {_COLUMNS} FROM settlement WHERE id = ?",  # noqa: S608 - constants
        (f"{id_:032x}",),
    ).fetchone()
    return None if row is None else _settlement(row)


def _with_key(
    connection: sqlite3.Connection, peer_id: str, asset: Asset, origin: Origin, key: str
) -> Settlement | None:
    row = connection.execute(
        f"SELECT {_COLUMNS} FROM settlement WHERE peer_id = ? AND origin = ? "  # noqa: S608
        "AND idempotency_key = ? AND asset_code = ? AND asset_scale = ?",
        (peer_id, origin, key, asset.code, asset.scale),
    ).fetchone()
    return None if row is None else _settlement(row)


def _remainder(connection: sqlite3.Connection, peer_id: str, asset: Asset) -> Quantity:
    row = connection.execute(
        "SELECT amount, scale FROM remainder "
        "WHERE peer_id = ? AND asset_code = ? AND asset_scale = ?",
        (peer_id, asset.code, asset.scale),
    ).fetchone()
    with _reading(f"the remainder of {peer_id}"):
        return NOTHING if row is None else Quantity(int(row[0]), row[1])


def _take_remainder(connection: sqlite3.Connection, one: Settlement) -> int:
    """The whole units of an incoming payment and of what earlier ones left; keeps what is left now.

    Raises:
        SettlementError: it is above `AMOUNT_MAX`; nothing is changed.
    """
    kept = _remainder(connection, one.peer_id, one.asset)
    amount, kept = convert(one.quantity, kept, one.asset.scale)
    if amount > limits.AMOUNT_MAX:
        raise SettlementError(f"more than {limits.AMOUNT_MAX} units at once")
    _keep(connection, one.peer_id, one.asset, kept)
    return amount


def _keep(connection: sqlite3.Connection, peer_id: str, asset: Asset, kept: Quantity) -> None:
    connection.execute(
        "INSERT OR REPLACE INTO remainder VALUES (?, ?, ?, ?, ?)",
        (peer_id, asset.code, asset.scale, str(kept.amount), kept.scale),
    )
