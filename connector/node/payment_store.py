"""Payments of this node on disk, by key."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from fractions import Fraction
from typing import Any, Final

from connector.base.errors import EnvironmentFault
from connector.base.sqlite import in_transaction
from connector.base.words import words_of
from connector.node import bounds
from connector.node.core import Core
from connector.stream.proof import Proof

FILE_NAME: Final = "payments.db"
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS payment (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT NOT NULL UNIQUE,
    target TEXT NOT NULL, amount TEXT NOT NULL, slippage TEXT NOT NULL,
    state TEXT NOT NULL, sent TEXT NOT NULL, delivered TEXT NOT NULL, committed TEXT NOT NULL,
    uncertain TEXT NOT NULL, packets INTEGER NOT NULL, duration_ms INTEGER NOT NULL,
    asset TEXT NOT NULL, reason TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS proof (key TEXT PRIMARY KEY, fields TEXT NOT NULL);
"""
_COLUMNS: Final = (
    "key, target, amount, slippage, state, sent, delivered, committed, uncertain, packets, "
    "duration_ms, asset, reason"
)
_PROOF: Final = "(SELECT fields FROM proof WHERE proof.key = payment.key)"


class PaymentState(StrEnum):
    """How far a payment is."""

    RUNNING = "running"
    COMPLETED = "completed"
    """All of its amount was sent."""
    FAILED = "failed"
    """Less was sent; `reason` says why. It is not tried again under its key."""
    INTERRUPTED = "interrupted"
    """The node was stopped meanwhile; asked for again under its key, it goes on."""


@dataclass(slots=True)
class PaymentStatus:
    """A payment as it is now. Amounts in the smallest unit of the asset named."""

    key: str
    target: str
    amount: int
    """To be sent, in the node's asset."""
    slippage: Fraction
    state: PaymentState = PaymentState.RUNNING
    sent: int = 0
    """Fulfilled, in the node's asset."""
    delivered: int = 0
    """What the receiver got, in its asset."""
    uncertain: int = 0
    """What a crash has left without a known outcome; counted as sent."""
    packets: int = 0
    """Fulfilled ones."""
    duration_ms: int = 0
    asset: str = ""
    """Of the receiver, `CODE/scale`; empty until it has said it."""
    reason: str = ""
    """Why it failed."""
    committed: int = 0
    """What may be sent so far."""
    proof: Proof = field(default_factory=Proof)
    """What the payer has in hand about delivery."""
    changed: asyncio.Event = field(default_factory=asyncio.Event, compare=False)
    """Set when it has ended."""


class PaymentStore:
    """Payments on disk; the oldest that have ended are forgotten when there are too many."""

    def __init__(self, core: Core) -> None:
        self._file = core.platform.disk.database(core.settings.data_dir / FILE_NAME)
        self._opened = False
        self._opening = asyncio.Lock()

    async def find(self, key: str) -> PaymentStatus | None:
        """The payment with this key, if there is one."""
        select = f"SELECT {_COLUMNS}, {_PROOF} FROM payment WHERE key = ?"  # noqa: S608 - our own columns
        row = await self._run(lambda c: c.execute(select, (key,)).fetchone())
        return None if row is None else _status(row)

    async def recent(self, before: int | None, count: int) -> list[tuple[int, PaymentStatus]]:
        """The latest, latest first, each with its number; only those before number `before`."""
        select = (
            f"SELECT seq, {_COLUMNS}, {_PROOF} FROM payment WHERE ? IS NULL OR seq < ? "  # noqa: S608 - our own columns
            "ORDER BY seq DESC LIMIT ?"
        )
        rows = await self._run(lambda c: c.execute(select, (before, before, count)).fetchall())
        return [(row[0], _status(row[1:])) for row in rows]

    async def put(self, one: PaymentStatus) -> None:
        """Add or replace it; on disk when this returns."""
        values = (
            one.key, one.target, str(one.amount), str(one.slippage), one.state.value,
            str(one.sent), str(one.delivered), str(one.committed), str(one.uncertain),
            one.packets, one.duration_ms, one.asset, one.reason,
        )  # fmt: skip
        proof = (one.key, one.proof.to_text())
        places = ", ".join("?" * len(values))
        names = _COLUMNS.split(", ")
        updates = ", ".join(f"{name} = excluded.{name}" for name in names)

        def work(connection: sqlite3.Connection) -> None:
            connection.execute(
                f"INSERT INTO payment ({_COLUMNS}) VALUES ({places}) "  # noqa: S608 - our own columns
                f"ON CONFLICT (key) DO UPDATE SET {updates}",
                values,
            )
            connection.execute("INSERT OR REPLACE INTO proof VALUES (?, ?)", proof)
            connection.execute(
                "DELETE FROM payment WHERE state IN ('completed', 'failed') AND seq <= "
                "(SELECT max(seq) FROM payment) - ?",
                (bounds.PAYMENTS_KEPT_MAX,),
            )
            if connection.execute("SELECT changes()").fetchone()[0]:
                connection.execute("DELETE FROM proof WHERE key NOT IN (SELECT key FROM payment)")

        await self._run(lambda connection: in_transaction(connection, work))

    async def close(self) -> None:
        """Close the file. Safe to call when it was never opened."""
        if self._opened:
            await self._file.close()

    async def _run(self, work: Callable[[sqlite3.Connection], Any]) -> Any:
        try:
            async with self._opening:
                if not self._opened:
                    await self._file.open(_SCHEMA)
                    self._opened = True
            return await self._file.run(work)
        except (sqlite3.Error, OSError) as error:
            raise EnvironmentFault(f"payments {self._file.path}: {words_of(error)}") from error


def _status(row: Sequence[Any]) -> PaymentStatus:
    return PaymentStatus(
        key=row[0],
        target=row[1],
        amount=int(row[2]),
        slippage=Fraction(row[3]),
        state=PaymentState(row[4]),
        sent=int(row[5]),
        delivered=int(row[6]),
        committed=int(row[7]),
        uncertain=int(row[8]),
        packets=row[9],
        duration_ms=row[10],
        asset=row[11],
        reason=row[12],
        proof=Proof() if row[13] is None else Proof.from_text(row[13]),
    )
