"""Past balances from a ledger that keeps them, for times that the event store does not cover.

Only for display, so packets have priority: few balances are read per request, between the writer's
requests and with a pause after each, for one viewer at a time. The newest are read first, so a
partial result is correct if the ledger fails or takes too long.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Final, NamedTuple, Protocol

from connector.accounting import bounds
from connector.accounting.manager import AccountManager
from connector.accounting.mirror import PeerBooks
from connector.base.errors import LedgerRefusedError, LedgerUnavailableError
from connector.ledger.model import ACCOUNT_HISTORY, Account, Balance
from connector.peering.model import Asset

_MS: Final = 1_000_000
_TIMESTAMP_MAX: Final = (1 << 63) - 1
_NOTHING: Final = Balance()
_PAUSE_FACTOR: Final = 3
"""Pauses last three times as long as requests: three quarters of the ledger's time stay free."""


class PastLedger(Protocol):
    """A ledger that keeps the past balances of accounts with the flag `ACCOUNT_HISTORY`."""

    async def lookup_accounts(self, ids: Sequence[int]) -> list[Account]:
        """See `Ledger`."""

    async def balances_at(self, account_id: int, moments_ns: Sequence[int]) -> list[Balance | None]:
        """The newest balance at or before each time; None: nothing was booked until then.

        Raises:
            LedgerUnavailableError: no answer.
        """


class PastBalance(NamedTuple):
    """The balance with a peer from a time on, without granted credit."""

    at_ms: int
    debit_balance: int
    credit_balance: int
    pending_debits: int
    pending_credits: int


class LedgerHistory:
    """See the module."""

    def __init__(self, ledger: PastLedger, accounts: AccountManager) -> None:
        self._ledger = ledger
        self._accounts = accounts
        self._waiting = 0
        self._one_viewer = asyncio.Lock()
        self._pause_until_s = 0.0

    async def balances(
        self,
        peer_id: str,
        asset: Asset,
        from_ms: int,
        until_ms: int,
        *,
        points_max: int,
        step_ms_min: int,
    ) -> list[PastBalance]:
        """Balances of an account, oldest first, the last before `until_ms`.

        The first is the balance at `from_ms`, if the account existed then; the others are the last
        of intervals of `step_ms_min` or longer. Fewer, or none, if the account keeps no history, or
        the ledger is away or slow, or too many requests wait.
        """
        books = self._accounts.peers.get(peer_id)
        if books is None or books.terms.asset != asset:
            return []
        if self._waiting >= bounds.LEDGER_HISTORY_ANSWERS_WAITING_MAX:
            return []
        # Three at least: at the beginning, at the end, and one interval between them.
        intervals_max = max(3, min(points_max, bounds.LEDGER_HISTORY_POINTS_MAX)) - 2
        newest_first: list[PastBalance] = []
        self._waiting += 1
        try:
            async with asyncio.timeout(bounds.LEDGER_HISTORY_SECONDS_MAX), self._one_viewer:
                await self._collect(
                    newest_first,
                    books,
                    from_ns=max(1, from_ms * _MS),
                    until_ns=min(until_ms * _MS, _TIMESTAMP_MAX),
                    step_ns_min=step_ms_min * _MS,
                    intervals_max=intervals_max,
                )
        except (TimeoutError, LedgerUnavailableError, LedgerRefusedError):
            pass  # the writer reports it
        finally:
            self._waiting -= 1
        return newest_first[::-1]

    async def _collect(
        self,
        newest_first: list[PastBalance],
        books: PeerBooks,
        *,
        from_ns: int,
        until_ns: int,
        step_ns_min: int,
        intervals_max: int,
    ) -> None:
        ids = [books.peer.account_id, books.credit_line.account_id]
        found = await self._accounts.in_turn(partial(self._ledger.lookup_accounts, ids))
        if len(found) < 2 or not all(account.flags & ACCOUNT_HISTORY for account in found):
            return
        created_ns = found[0].timestamp
        begin_ns = max(from_ns, created_ns)
        step_ns = max(step_ns_min, -((begin_ns - until_ns) // intervals_max))
        line = Balance(timestamp=_TIMESTAMP_MAX)
        since_ns, count = until_ns, 1
        moments_ns = [until_ns - 1] if begin_ns < until_ns else []
        while moments_ns:
            for peer in await self._read(ids[0], moments_ns):
                if max(peer.timestamp, begin_ns) >= since_ns:
                    continue  # nothing happened between two moments
                # Credit is granted by a transfer between the two accounts: both change at the same time.
                if not peer.timestamp:
                    line = _NOTHING
                elif line.timestamp > peer.timestamp:
                    (line,) = await self._read(ids[1], [peer.timestamp])
                since_ns = max(peer.timestamp, begin_ns)
                newest_first.append(_past(peer, line, since_ns // _MS))
            # Few points in time suffice for an account that changes rarely: double them as needed.
            count = min(2 * count, bounds.LEDGER_HISTORY_POINTS_PER_REQUEST_MAX)
            moments_ns = list(_moments_before(since_ns, begin_ns, step_ns, count))

    async def _read(self, account_id: int, moments_ns: Sequence[int]) -> list[Balance]:
        loop = asyncio.get_running_loop()
        began_s = 0.0

        async def ask() -> list[Balance | None]:
            nonlocal began_s
            began_s = loop.time()
            return await self._ledger.balances_at(account_id, moments_ns)

        await asyncio.sleep(max(0.0, self._pause_until_s - loop.time()))
        try:
            found = await self._accounts.in_turn(ask)
        finally:
            now_s = loop.time()
            took_s = now_s - (began_s or now_s)
            self._pause_until_s = now_s + max(
                bounds.LEDGER_HISTORY_PAUSE_SECONDS, _PAUSE_FACTOR * took_s
            )
        return [balance or _NOTHING for balance in found]


def _moments_before(since_ns: int, begin_ns: int, step_ns: int, count: int) -> Iterator[int]:
    """Ends of the intervals before that of `since_ns`, newest first; the last is `begin_ns`."""
    for _ in range(count):
        if since_ns <= begin_ns:
            return
        since_ns = max(begin_ns, since_ns // step_ns * step_ns - 1)
        yield since_ns


def _past(peer: Balance, line: Balance, at_ms: int) -> PastBalance:
    return PastBalance(
        at_ms=at_ms,
        # As in `PeerBooks.net_balance`.
        debit_balance=peer.debits_posted - line.credits_posted,
        credit_balance=peer.credits_posted - line.debits_posted,
        pending_debits=peer.debits_pending,
        pending_credits=peer.credits_pending,
    )
