"""Payments of this node on disk, by key."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from fractions import Fraction
from typing import Any, Final

from connector.accounting.own import Claim
from connector.base import limits
from connector.base.disk import Database
from connector.base.errors import EnvironmentFault
from connector.base.sqlite import in_transaction
from connector.base.words import words_of
from connector.ilp import address
from connector.node import bounds
from connector.peering.model import Asset
from connector.stream.bounds import COMMITTED_PACKETS, SEQUENCE_MAX, WINDOW_MAX
from connector.stream.crypto import SECRET_BYTES
from connector.stream.money import Terms
from connector.stream.proof import Proof

FILE_NAME: Final = "payments.db"
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS payments (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT NOT NULL UNIQUE, target TEXT NOT NULL, amount TEXT NOT NULL, slippage TEXT NOT NULL,
    min_delivered TEXT NOT NULL, state TEXT NOT NULL, sent TEXT NOT NULL, delivered TEXT NOT NULL,
    uncertain TEXT NOT NULL, packets INTEGER NOT NULL, duration_ms INTEGER NOT NULL,
    asset TEXT NOT NULL, reason TEXT NOT NULL, attempt INTEGER NOT NULL, tag TEXT NOT NULL,
    connection TEXT NOT NULL, proof TEXT NOT NULL, own_asset TEXT NOT NULL, ended INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS payments_by_end ON payments (ended);
"""
_COLUMNS: Final = (
    "key, target, amount, slippage, min_delivered, state, sent, delivered, uncertain, packets, "
    "duration_ms, asset, reason, attempt, tag, connection, proof, own_asset"
)
_CUT_OFF: Final = "(state = 'running' OR connection != '')"
_SEQUENCE_BITS: Final = 32


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
class Connection:
    """What is needed to make the packets again that may have been under way in a crash."""

    destination: str
    secret: bytes
    terms: Terms
    last: int
    """The last sequence when this was written: those of `open` were under way, none above it was sent before."""
    high: int
    """The highest sequence that packets with money may have until it is written again."""
    open: list[int]
    """Sequences up to `last` that had no answer; all others are counted."""

    @property
    def uncertain(self) -> list[int]:
        """The sequences of packets that may have been sent and are not counted."""
        return [*self.open, *range(self.last + 1, self.high + 1)]

    def to_text(self) -> str:
        """As it is stored."""
        terms = [str(one) for one in (self.terms.rate, self.terms.slippage, self.terms.share)]
        return json.dumps(
            [
                self.destination,
                self.secret.hex(),
                terms,
                self.last,
                self.high,
                self.open,
            ]
        )

    @classmethod
    def from_text(cls, text: str) -> Connection:
        """From what `to_text` gave.

        Raises:
            ValueError, TypeError, ZeroDivisionError, RecursionError: it is not that.
        """
        destination, secret, terms, last, high, open_ = json.loads(text)
        rate, slippage, share = (Fraction(one) for one in terms)
        found = cls(
            destination=destination,
            secret=bytes.fromhex(secret),
            terms=Terms(rate, slippage, share),
            last=int(last),
            high=int(high),
            open=[int(one) for one in open_],
        )
        if (
            not address.is_address(destination)
            or len(found.secret) != SECRET_BYTES
            or not 0 <= found.last <= found.high <= found.last + COMMITTED_PACKETS
            or found.high > SEQUENCE_MAX + COMMITTED_PACKETS
            or len(found.open) > WINDOW_MAX
            or any(not 0 < one <= found.last for one in found.open)
            or min(rate, slippage, share) < 0
            or slippage > 1
        ):
            raise ValueError("out of range")
        return found


@dataclass(slots=True)
class PaymentStatus:
    """A payment as it is now. Amounts in the smallest unit of the asset named."""

    key: str
    target: str
    amount: int
    """To be sent, in `own_asset`."""
    slippage: Fraction
    own_asset: Asset
    """The node's when it was begun: `amount` and `sent` are in it."""
    min_delivered: int = 0
    """The least that the receiver must get of all, in its asset."""
    state: PaymentState = PaymentState.RUNNING
    sent: int = 0
    """Fulfilled, in `own_asset`."""
    delivered: int = 0
    """What the receiver got, in its asset."""
    uncertain: int = 0
    """What a crash has left without an outcome that can be learned; it is not sent again."""
    packets: int = 0
    """Fulfilled ones."""
    duration_ms: int = 0
    asset: str = ""
    """Of the receiver, `CODE/scale`; empty until it has said it."""
    reason: str = ""
    """Why it failed."""
    attempt: int = 1
    """From 1; the next one begins when it goes on after the node was stopped. One that has sent money counts for two."""
    tag: int = 0
    """Of this attempt, 128 random bits: see `accounting.own`."""
    connection: Connection | None = None
    """None: there is no packet whose outcome is not counted."""
    proof: Proof = field(default_factory=Proof)
    """What the payer has in hand about delivery."""
    changed: asyncio.Event = field(default_factory=asyncio.Event, compare=False)
    """Set when it has ended."""

    @property
    def left(self) -> int:
        """What may still be sent."""
        return self.amount - self.sent - self.uncertain

    @property
    def claim(self) -> Claim:
        """What claims its attempt in the ledger."""
        return Claim(self.key, self.attempt, self.tag)

    def use_up(self) -> None:
        """All packets of this attempt are counted; it has the number after its own, too (`payment_run`)."""
        self.connection = None
        self.attempt += 1

    def packet_id(self, sequence: int) -> int:
        """The sender's packet id of a packet of this attempt: 96 bits of its tag, then the sequence."""
        assert 0 < sequence < 1 << _SEQUENCE_BITS, sequence
        return self.tag >> _SEQUENCE_BITS << _SEQUENCE_BITS | sequence


def sequence_of(packet_id: int) -> int:
    """The sequence of a packet."""
    return packet_id & ((1 << _SEQUENCE_BITS) - 1)


class PaymentStore:
    """Payments on disk; those that have ended first are forgotten when there are too many."""

    def __init__(self, file: Database) -> None:
        """`file`: not open yet; it is opened when it is needed first, and by `close` closed."""
        self._file = file
        self._opened = False
        self._opening = asyncio.Lock()

    @property
    def is_there(self) -> bool:
        """Whether there is a file: without a payment there is none."""
        return self._file.path.exists()

    async def find(self, key: str) -> PaymentStatus | None:
        """The payment with this key, if there is one.

        Raises:
            EnvironmentFault: the disk cannot be read.
        """
        select = f"SELECT {_COLUMNS} FROM payments WHERE key = ?"  # noqa: S608 - our own columns
        row = await self._run(lambda c: c.execute(select, (key,)).fetchone())
        return None if row is None else self._status_of(row)

    async def recent(self, before: int | None, count: int) -> list[tuple[int, PaymentStatus]]:
        """The latest, latest first, each with its number; only those before number `before`.

        Raises:
            EnvironmentFault: the disk cannot be read.
        """
        select = (
            f"SELECT seq, {_COLUMNS} FROM payments WHERE ? IS NULL OR seq < ? "  # noqa: S608 - our own columns
            "ORDER BY seq DESC LIMIT ?"
        )
        rows = await self._run(lambda c: c.execute(select, (before, before, count)).fetchall())
        return [(row[0], self._status_of(row[1:])) for row in rows]

    async def cut_off(self) -> list[PaymentStatus]:
        """Those that were under way when an earlier process was cut off, or have packets that were.

        Raises:
            EnvironmentFault: the disk cannot be read.
        """
        if not self.is_there:
            return []
        select = f"SELECT {_COLUMNS} FROM payments WHERE {_CUT_OFF}"  # noqa: S608 - our own columns
        rows = await self._run(lambda c: c.execute(select).fetchall())
        return [self._status_of(row) for row in rows]

    async def put(self, one: PaymentStatus) -> None:
        """Add or replace it, as it is at the call; on disk when this returns.

        Raises:
            EnvironmentFault: the disk cannot remember it.
        """
        values = (
            one.key, one.target, str(one.amount), str(one.slippage), str(one.min_delivered),
            one.state.value, str(one.sent), str(one.delivered), str(one.uncertain), one.packets,
            one.duration_ms, one.asset, one.reason, one.attempt, f"{one.tag:032x}",
            "" if one.connection is None else one.connection.to_text(), one.proof.to_text(), str(one.own_asset),
        )  # fmt: skip
        places = ", ".join("?" * len(values))
        names = _COLUMNS.split(", ")
        updates = ", ".join(f"{name} = excluded.{name}" for name in (*names, "ended"))
        # Numbered in the order in which they end; zero: it has not.
        ended = "(SELECT coalesce(max(ended), 0) + 1 FROM payments)"
        if one.state is PaymentState.RUNNING:
            ended = "0"

        def work(connection: sqlite3.Connection) -> None:
            connection.execute(
                f"INSERT INTO payments ({_COLUMNS}, ended) VALUES ({places}, {ended}) "  # noqa: S608
                f"ON CONFLICT (key) DO UPDATE SET {updates}",
                values,
            )
            connection.execute(
                "DELETE FROM payments WHERE ended > 0 AND connection = '' AND ended <= "
                "(SELECT max(ended) FROM payments) - ?",
                (bounds.PAYMENTS_KEPT_MAX,),
            )

        await self._run(lambda connection: in_transaction(connection, work))

    async def interrupt(self, key: str, reason: str) -> None:
        """Note that a payment does not go on by itself; what is counted of it stays as it was written.

        Raises:
            EnvironmentFault: the disk cannot remember it.
        """
        update = (
            "UPDATE payments SET state = 'interrupted', reason = ?, "
            "ended = (SELECT coalesce(max(ended), 0) + 1 FROM payments) WHERE key = ?"
        )
        await self._run(lambda c: c.execute(update, (reason, key)))

    async def forget(self, key: str) -> None:
        """Remove a payment that has not begun.

        Raises:
            EnvironmentFault: the disk refuses.
        """
        await self._run(lambda c: c.execute("DELETE FROM payments WHERE key = ?", (key,)))

    async def close(self) -> None:
        """Close the file. Safe to call when it was never opened."""
        if self._opened:
            await self._file.close()

    def _status_of(self, row: tuple[Any, ...]) -> PaymentStatus:
        try:
            return _status_of(row)
        except (ValueError, TypeError, ArithmeticError, RecursionError) as error:
            raise EnvironmentFault(f"payments {self._file.path}: damaged") from error

    async def _run(self, work: Callable[[sqlite3.Connection], Any]) -> Any:
        try:
            async with self._opening:
                if not self._opened:
                    await self._file.open(_SCHEMA)
                    self._opened = True
            return await self._file.run(work)
        except (sqlite3.Error, OSError) as error:
            raise EnvironmentFault(f"payments {self._file.path}: {words_of(error)}") from error


def _asset_of(text: str) -> Asset:
    code, _, scale = text.rpartition("/")
    return Asset(code, int(scale))


def _status_of(row: tuple[Any, ...]) -> PaymentStatus:
    found = PaymentStatus(
        key=row[0],
        target=row[1],
        amount=int(row[2]),
        slippage=Fraction(row[3]),
        min_delivered=int(row[4]),
        state=PaymentState(row[5]),
        sent=int(row[6]),
        delivered=int(row[7]),
        uncertain=int(row[8]),
        packets=row[9],
        duration_ms=row[10],
        asset=row[11],
        reason=row[12],
        attempt=row[13],
        tag=int(row[14], 16),
        connection=Connection.from_text(row[15]) if row[15] else None,
        proof=Proof.from_text(row[16]),
        own_asset=_asset_of(row[17]),
    )
    texts = [row[at] for at in (0, 1, 11, 12)]
    numbers = (found.sent, found.delivered, found.uncertain, *(row[at] for at in (9, 10, 13)))
    if (
        not all(isinstance(text, str) for text in texts)
        or not all(isinstance(number, int) and number >= 0 for number in numbers)
        or not found.attempt
        or not 0 < found.tag < 1 << 128
        or not 0 <= found.left <= found.amount <= limits.AMOUNT_MAX
        or not 0 <= found.min_delivered <= limits.AMOUNT_MAX
        or not 0 <= found.slippage <= 1
    ):
        raise ValueError("out of range")
    return found
