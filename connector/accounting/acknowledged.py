"""What the ledger has acknowledged, remembered in DATA_DIR, and compared with what it has now.

What is posted only rises. A ledger that has less than it acknowledged is not the one that this node
was working with: a data file that was replaced under the same cluster id, or an older copy. Booking
into it would pay again what was paid, and lose what was owed.

About once a second the balances that have moved are read from the ledger and put into the outbox's
file, a bounded number at a time, and never for a single packet. After a crash the ledger is ahead of
what is remembered, which is no fault.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from connector.accounting import bounds
from connector.accounting.availability import Availability, Phase
from connector.accounting.chart import Chart
from connector.accounting.reports import Reports
from connector.accounting.spool import Spool
from connector.accounting.turn import Turn
from connector.base.errors import (
    LedgerBehindError,
    LedgerRefusedError,
    LedgerUnavailableError,
)
from connector.ledger.interface import Ledger
from connector.ledger.model import Account, IdGenerator, Memory, Posted, Status

_DOUBTFUL: Final = (
    Status.DEBIT_ACCOUNT_NOT_FOUND,
    Status.CREDIT_ACCOUNT_NOT_FOUND,
    Status.PENDING_TRANSFER_NOT_FOUND,
)
_NAMED_MAX: Final = 3


class Acknowledged:
    """Knows the least that the ledger must have."""

    def __init__(
        self,
        *,
        turn: Turn,
        chart: Chart,
        spool: Spool,
        availability: Availability,
        reports: Reports,
        ids: IdGenerator,
        accept_loss: bool,
    ) -> None:
        """Nothing is remembered yet.

        Args:
            turn: for the ledger.
            chart: for the names of accounts.
            spool: for the file.
            availability: told when the ledger is behind.
            reports: for alerts.
            ids: whose highest id is remembered too.
            accept_loss: go on with the first ledger that is reached, whatever it has.
        """
        self._turn = turn
        self._chart = chart
        self._spool = spool
        self._availability = availability
        self._reports = reports
        self._ids = ids
        self._accept_loss = accept_loss
        self._posted: dict[int, Posted] = {}
        self._is_kept = turn.ledger.keeps_books

    def begin(self, memory: Memory) -> None:
        """Take up what the file remembers."""
        if self._is_kept:
            self._posted = dict(memory.acknowledged)
        self._ids.rise_above(memory.highest_id)

    # --- comparing

    async def compare(self, ledger: Ledger) -> None:
        """See that the ledger has all that it acknowledged; it is the caller's turn.

        Raises:
            LedgerBehindError: it has not.
            LedgerUnavailableError: no answer.
        """
        if not self._posted:
            self._accept_loss = False
            return
        found = await self._chart.look_up(ledger, self._posted)
        try:
            self.check(found, self._posted)
        except LedgerBehindError as error:
            if not self._accept_loss:
                raise
            self._reports.alert("ledger_loss_accepted", {"detail": str(error)})
            self._posted = {account.id: _posted(account) for account in found}
            await self._spool.remember(self._posted, self._ids.last, anew=True)
        self._accept_loss = False

    def check(self, found: Iterable[Account], asked: Iterable[int]) -> None:
        """See that accounts which were looked up have what was acknowledged.

        Raises:
            LedgerBehindError: one has less, or is not there.
        """
        there = {account.id: _posted(account) for account in found}
        faults: list[str] = []
        for id_ in asked:
            least = self._posted.get(id_)
            if least is None:
                continue
            now = there.get(id_)
            if now is None:
                faults.append(f"{self._name(id_)} is not there")
            elif now.debits < least.debits or now.credits < least.credits:
                faults.append(
                    f"{self._name(id_)} has {now.debits} debited and {now.credits} credited, "
                    f"{least.debits} and {least.credits} were acknowledged"
                )
        if faults:
            more = len(faults) - _NAMED_MAX
            listed = "; ".join(faults[:_NAMED_MAX]) + (f"; and {more} more" if more > 0 else "")
            raise LedgerBehindError(
                f"the ledger does not have what it has acknowledged: {listed}. Another or an older "
                "data file stands in its place, or DATA_DIR is of another node. Put the right "
                "ledger back; the node goes on by itself then. If it is gone for good, start once "
                "with --accept-ledger-loss: what is missing is lost then, and packets that "
                "neighbours send again may be paid twice"
            )

    def _name(self, account_id: int) -> str:
        book = self._chart.by_id.get(account_id)
        if book is None:
            return f"account {account_id:032x}"
        whose = f" of {book.peer_id}" if book.peer_id else ""
        return f"{book.code.name.lower()}{whose} ({book.asset})"

    def is_doubtful(self, statuses: Sequence[Status]) -> bool:
        """Whether a ledger that answers so may be another one."""
        return bool(self._posted) and any(status in statuses for status in _DOUBTFUL)

    async def require(self, ledger: Ledger) -> None:
        """See the same before accounts are made in a ledger that is in use.

        Raises:
            LedgerUnavailableError: it is behind, which is known now, or does not answer.
        """
        try:
            await self.compare(ledger)
        except LedgerBehindError as error:
            self.refuse(error)
            raise LedgerUnavailableError(str(error)) from error

    def refuse(self, error: LedgerBehindError) -> None:
        """Take nothing new and write nothing to this ledger, until the right one is there."""
        if self._availability.behind(str(error)):
            self._reports.alert("ledger_behind", {"error": str(error)})

    # --- remembering

    async def remember(self) -> None:
        """Remember what has moved; called about once a second while the ledger is there.

        No more than ACKNOWLEDGED_ACCOUNTS_AT_ONCE_MAX accounts; the others next time.
        """
        if not self._is_kept or self._availability.phase is not Phase.UP:
            return
        # The mirror is never behind the ledger in what this process books.
        moved = [
            book.account_id
            for book in self._chart.by_id.values()
            if self._posted.get(book.account_id) != book.posted
        ][: bounds.ACKNOWLEDGED_ACCOUNTS_AT_ONCE_MAX]
        if not moved:
            return
        try:
            async with self._turn as ledger:
                found = await self._chart.look_up(ledger, moved)
                self.check(found, moved)
        except (LedgerUnavailableError, LedgerRefusedError):
            return  # the next request will say so
        except LedgerBehindError as error:
            self.refuse(error)
            return
        await self._keep(found)

    async def remember_all(self, ledger: Ledger) -> None:
        """Remember all accounts of the node: at the end of a start. It is the caller's turn."""
        if self._is_kept:
            found = await self._chart.look_up(ledger, self._chart.by_id)
            await self._keep(found)

    async def _keep(self, found: Iterable[Account]) -> None:
        news = {
            account.id: posted
            for account in found
            if self._posted.get(account.id) != (posted := _posted(account))
        }
        if news:
            self._posted |= news
            await self._spool.remember(news, self._ids.last)


def _posted(account: Account) -> Posted:
    return Posted(account.debits_posted, account.credits_posted)
