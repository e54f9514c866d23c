"""Ledgers for tests: a clock that is set by hand, and accounts and transfers in few words."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Any

from connector.ledger.interface import Ledger
from connector.ledger.model import (
    ACCOUNT_CREDITS_MUST_NOT_EXCEED_DEBITS,
    ACCOUNT_DEBITS_MUST_NOT_EXCEED_CREDITS,
    Account,
    AccountStatus,
    Status,
    Transfer,
)
from tests.support.patience import PATIENCE_SECONDS

NS = 1_000_000_000
START_NS = 1_700_000_000 * NS


class ManualClock:
    """Stands still until told otherwise."""

    def __init__(self, now_ns: int = START_NS) -> None:
        self.ns = now_ns

    def now_ms(self) -> int:
        return self.ns // 1_000_000

    def now_ns(self) -> int:
        return self.ns

    def monotonic_s(self) -> float:
        return self.ns / NS

    def advance(self, seconds: float) -> None:
        self.ns += round(seconds * NS)


class Books:
    """A ledger with four fresh accounts, whose ids and transfers nobody else uses.

    `peer` may not owe more than it is granted; `bank` has no limit; `sink` may not be credited more
    than it was debited; `other` is of another asset.
    """

    def __init__(self, ledger: Ledger, pass_time: Callable[[float], Awaitable[None]]) -> None:
        self.ledger = ledger
        self.pass_time = pass_time
        self.base = int.from_bytes(os.urandom(11), "big") << 32
        self.tag = self.base
        self.peer, self.bank, self.sink, self.other = (self.base + n for n in range(1, 5))

    async def create(self) -> None:
        accounts = [
            self.account(self.peer, flags=ACCOUNT_DEBITS_MUST_NOT_EXCEED_CREDITS),
            self.account(self.bank),
            self.account(self.sink, flags=ACCOUNT_CREDITS_MUST_NOT_EXCEED_DEBITS),
            self.account(self.other, ledger=2),
        ]
        assert set(await self.ledger.create_accounts(accounts)) == {AccountStatus.CREATED}

    def account(self, id_: int, **fields: int) -> Account:
        return Account(id_, **{"ledger": 1, "code": 1, "user_data_128": self.tag, **fields})

    def id(self, number: int) -> int:
        """A transfer id, its low octet clear for phase and leg."""
        return self.base + (number + 1 << 8)

    def move(self, number: int, amount: int = 10, **fields: int) -> Transfer:
        """A transfer from bank to peer unless said otherwise."""
        return Transfer(
            **{
                "id": self.id(number),
                "debit_account_id": self.bank,
                "credit_account_id": self.peer,
                "amount": amount,
                "ledger": 1,
                "code": 1,
                **fields,
            }
        )

    def spend(self, number: int, amount: int = 10, **fields: int) -> Transfer:
        """A transfer from peer to bank: what limits stop."""
        return self.move(
            number,
            amount,
            **{"debit_account_id": self.peer, "credit_account_id": self.bank, **fields},
        )

    async def write(self, *transfers: Transfer) -> list[Status]:
        return await self.ledger.create_transfers(transfers)

    async def done(self, *transfers: Transfer) -> None:
        assert set(await self.write(*transfers)) == {Status.CREATED}

    async def balances(self, id_: int) -> tuple[int, int, int, int]:
        """Debits pending, debits posted, credits pending, credits posted."""
        (account,) = await self.ledger.lookup_accounts([id_])
        return account[1:5]


async def eventually(
    check: Callable[[], Awaitable[Any]], seconds: float = PATIENCE_SECONDS
) -> None:
    """Ask until it is true."""
    async with asyncio.timeout(seconds):
        while not await check():
            await asyncio.sleep(0.05)
