"""Payments that came in, on disk, and which of them the webhook has yet to be told.

One row a payment. Bounded in number: of those that nobody waits for the last `RECEIVED_KEPT_MAX`, and as
many each that wait for the webhook, and that it could not be told (dead letters). A row has less than
1 KB, so the file is bounded in octets.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from connector.base.disk import Database
from connector.base.errors import EnvironmentFault
from connector.base.sqlite import in_transaction
from connector.base.words import words_of
from connector.node import bounds
from connector.stream.incoming import Incoming

FILE_NAME: Final = "received.db"
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS received (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE,
    payment_id TEXT NOT NULL, token TEXT NOT NULL, wallet TEXT NOT NULL,
    asset_code TEXT NOT NULL, asset_scale INTEGER NOT NULL, amount TEXT NOT NULL,
    packets INTEGER NOT NULL, began_ms INTEGER NOT NULL, last_ms INTEGER NOT NULL,
    at_least INTEGER NOT NULL, ended TEXT NOT NULL,
    hook TEXT NOT NULL, attempts INTEGER NOT NULL DEFAULT 0, next_ms INTEGER NOT NULL DEFAULT 0,
    fault TEXT NOT NULL DEFAULT '');
CREATE INDEX IF NOT EXISTS received_hook ON received (hook, wallet, seq);
CREATE INDEX IF NOT EXISTS received_wallet ON received (wallet, seq);
CREATE INDEX IF NOT EXISTS received_open ON received (ended) WHERE ended = '';
CREATE TABLE IF NOT EXISTS stop (clean INTEGER NOT NULL);
"""
_OF_PAYMENT: Final = (
    "id, payment_id, token, wallet, asset_code, asset_scale, amount, packets, began_ms, last_ms, "
    "at_least, ended"
)
_COLUMNS: Final = f"seq, {_OF_PAYMENT}, hook, attempts, next_ms, fault"
_PUT: Final = (
    f"INSERT INTO received ({_OF_PAYMENT}, hook, next_ms) "  # noqa: S608 - our own columns
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET "
    "token = excluded.token, amount = excluded.amount, packets = excluded.packets, "
    "last_ms = excluded.last_ms, at_least = excluded.at_least, ended = excluded.ended, "
    "hook = excluded.hook, next_ms = excluded.next_ms WHERE ended = ''"
)
"""One that has ended is never changed."""


class Hook(StrEnum):
    """Whether the webhook was told of a payment."""

    NONE = "none"
    """It has not ended, or there was no webhook when it did."""
    WAITING = "waiting"
    TOLD = "told"
    DEAD = "dead"
    """It was tried for a day, or too many waited: an operator may have it told again."""


@dataclass(frozen=True, slots=True)
class Received:
    """A payment that came in, as it is on disk."""

    seq: int
    payment: Incoming
    hook: Hook
    attempts: int
    next_ms: int
    """When it is told next, if it waits."""
    fault: str
    """Why it could not be told the last time; empty: it was not tried, or told."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt to tell the webhook has ended."""

    hook: Hook
    attempts: int
    """So far."""
    next_ms: int
    """When it is told next, if it waits."""
    fault: str
    """Why it could not be told; empty: it was."""


class ReceivedStore:
    """See the module. Raises `EnvironmentFault` where the disk fails."""

    def __init__(self, database: Database) -> None:
        self._file = database

    async def open(self) -> list[Incoming]:
        """Open or create the file; returns the payments that are open.

        Where the process before was killed, they may have got more than is written (`at_least`).
        """
        await self._guard(self._file.open(_SCHEMA))
        try:
            return await self._run(_begin)  # type: ignore[no-any-return]
        except BaseException:
            await self._file.close()
            raise

    async def note_clean_stop(self) -> None:
        """All that came in is written: nothing will be missing at the next start."""
        await self._run(lambda connection: connection.execute("UPDATE stop SET clean = 1"))

    async def close(self) -> None:
        """Close the file. Safe to call twice."""
        await self._file.close()

    async def put(self, changed: Sequence[Incoming], *, tells: bool, now_ms: int) -> None:
        """Write these down; those that have ended wait for the webhook if it `tells`."""
        # Read here, and not in the file's thread: an open one may change meanwhile.
        rows = [
            (
                one.id, one.payment_id, "" if one.ended else one.token, one.wallet, one.asset_code,
                one.asset_scale, str(one.amount), one.packets, one.began_ms, one.last_ms,
                int(one.at_least), one.ended,
                (Hook.WAITING if one.ended and tells else Hook.NONE).value, now_ms,
            )
            for one in changed
        ]  # fmt: skip

        def work(connection: sqlite3.Connection) -> None:
            connection.executemany(_PUT, rows)
            _make_room(connection)

        await self._run(lambda connection: in_transaction(connection, work))

    async def due(self, now_ms: int) -> list[Received]:
        """Those to be told now: of each wallet a few, oldest first; see `base.backoff.is_due`."""
        select = (
            f"SELECT {_COLUMNS} FROM (SELECT *, row_number() OVER (PARTITION BY wallet ORDER BY seq) "  # noqa: S608 - our own columns
            "AS place FROM received WHERE hook = 'waiting' AND NOT (next_ms > ? AND next_ms <= ?)) WHERE place <= ? "
            "ORDER BY place, seq"
        )
        latest_ms = now_ms + int(bounds.WEBHOOK_PAUSE_SECONDS_MAX * 1000)
        arguments = (now_ms, latest_ms, bounds.WEBHOOKS_PER_WALLET_MAX)
        found: list[Received] = await self._run(
            lambda c: [_received(row) for row in c.execute(select, arguments)]
        )
        return found

    async def next_due_ms(self) -> int | None:
        """When the next one is to be told; None: none waits."""
        select = "SELECT min(next_ms) FROM received WHERE hook = 'waiting'"
        return await self._run(lambda c: c.execute(select).fetchone()[0])  # type: ignore[no-any-return]

    async def told(self, id_: str, outcome: Outcome) -> None:
        """Write down how an attempt to tell it has ended."""
        update = (
            "UPDATE received SET hook = ?, attempts = ?, next_ms = ?, fault = ? "
            "WHERE id = ? AND hook = 'waiting'"
        )
        values = (outcome.hook.value, outcome.attempts, outcome.next_ms, outcome.fault, id_)
        await self._run(lambda connection: connection.execute(update, values))

    async def tell_again(self, id_: str, now_ms: int) -> bool:
        """Let it be told as if it had never been; False: there is none, or it is open."""
        update = (
            "UPDATE received SET hook = 'waiting', attempts = 0, next_ms = ?, fault = '' "
            "WHERE id = ? AND ended != ''"
        )
        return await self._run(  # type: ignore[no-any-return]
            lambda connection: connection.execute(update, (now_ms, id_)).rowcount == 1
        )

    async def counts(self) -> dict[str, int]:
        """How many wait, and how many are dead letters."""
        select = (
            "SELECT hook, count(*) FROM received WHERE hook IN ('waiting', 'dead') GROUP BY hook"
        )
        return dict(await self._run(lambda c: c.execute(select).fetchall()))

    async def recent(
        self, *, wallet: str | None, hook: str | None, before: int | None, count: int
    ) -> list[Received]:
        """The latest, latest first: of one wallet, in one state, before a `seq`, where given."""
        where, values = ["1"], list[Any]()
        for clause, value in (("wallet = ?", wallet), ("hook = ?", hook), ("seq < ?", before)):
            if value is not None:
                where.append(clause)
                values.append(value)
        select = (
            f"SELECT {_COLUMNS} FROM received WHERE {' AND '.join(where)} ORDER BY seq DESC LIMIT ?"  # noqa: S608 - our own clauses
        )
        found: list[Received] = await self._run(
            lambda c: [_received(row) for row in c.execute(select, (*values, count))]
        )
        return found

    async def _run(self, work: Callable[[sqlite3.Connection], Any]) -> Any:
        return await self._guard(self._file.run(work))

    async def _guard(self, done: Any) -> Any:
        try:
            return await done
        except (sqlite3.Error, OSError) as error:
            raise EnvironmentFault(
                f"received payments {self._file.path}: {words_of(error)}"
            ) from error
        except (ValueError, TypeError) as error:
            raise EnvironmentFault(f"received payments {self._file.path}: damaged") from error


def _begin(connection: sqlite3.Connection) -> list[Incoming]:
    def work(connection: sqlite3.Connection) -> list[Incoming]:
        row = connection.execute("SELECT clean FROM stop").fetchone()
        if row is None:
            connection.execute("INSERT INTO stop (clean) VALUES (0)")
        elif not row[0]:
            connection.execute("UPDATE received SET at_least = 1 WHERE ended = ''")
        connection.execute("UPDATE stop SET clean = 0")
        select = f"SELECT {_COLUMNS} FROM received WHERE ended = '' ORDER BY last_ms"  # noqa: S608 - our own columns
        return [_received(row).payment for row in connection.execute(select)]

    return in_transaction(connection, work)


def _make_room(connection: sqlite3.Connection) -> None:
    """Of those that wait, and of dead letters, the least amounts go first.

    Whoever would push out a payment with others of his own has to pay more with each.
    """
    most = bounds.RECEIVED_KEPT_MAX
    for hook, then in (
        ("waiting", "UPDATE received SET hook = 'dead', fault = 'too many waited'"),
        ("dead", "DELETE FROM received"),
    ):
        count = connection.execute("SELECT count(*) FROM received WHERE hook = ?", (hook,))
        more = count.fetchone()[0] - most
        if more > 0:
            connection.execute(
                f"{then} WHERE seq IN (SELECT seq FROM received WHERE hook = ? "  # noqa: S608 - ours
                "ORDER BY length(amount), amount, seq LIMIT ?)",
                (hook, more),
            )
    clause = "hook IN ('none', 'told') AND ended != ''"
    connection.execute(
        f"DELETE FROM received WHERE {clause} AND seq <= (SELECT seq FROM received "  # noqa: S608 - our own clause
        f"WHERE {clause} ORDER BY seq DESC LIMIT 1 OFFSET ?)",
        (most,),
    )


def _received(row: Sequence[Any]) -> Received:
    """From what is stored.

    Raises:
        ValueError: it is damaged.
    """
    seq, id_, payment_id, token, wallet, code, scale, amount, packets, began, last, *rest = row
    at_least, ended, hook, attempts, next_ms, fault = rest
    texts, numbers = (
        (id_, payment_id, token, wallet, code, amount, ended, fault),
        (scale, packets, began, last, at_least, attempts, next_ms),
    )
    if (
        not all(isinstance(text, str) for text in texts)
        or not all(isinstance(number, int) and number >= 0 for number in numbers)
        or not 0 < int(amount) < 1 << 128
        or not token.isascii()
    ):
        raise ValueError("out of range")
    payment = Incoming(
        id_, payment_id, token, wallet, code, scale, int(amount), packets, began, last,
        bool(at_least), ended,
    )  # fmt: skip
    return Received(seq, payment, Hook(hook), attempts, next_ms, fault)
