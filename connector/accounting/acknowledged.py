"""Detects a ledger that has lost acknowledged bookings.

Posted balances only rise. A ledger with less than it has acknowledged is not the one that this node
was working with: its data file was replaced under the same cluster id, or is an older copy. Booking
into it would pay again what was paid, and lose what was owed.

About once a second the balances that have changed are read from the ledger and saved in the outbox's
file in DATA_DIR, a bounded number at a time, so no packet pays for it. After a crash the ledger may
be ahead of the saved balances; that is expected.
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
    """The balances that the ledger must have at least."""

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
            turn: the ledger.
            chart: the names of accounts.
            spool: the file.
            availability: notified when the ledger is behind.
            reports: alerts.
            ids: their highest id is saved too.
            accept_loss: accept the first ledger that is reached, whatever its balances.
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
        """Restore what the file has saved."""
        if self._is_kept:
            self._posted = dict(memory.acknowledged)
        self._ids.rise_above(memory.highest_id)

    # --- comparing

    async def compare(self, ledger: Ledger) -> None:
        """Check that the ledger has all that it acknowledged. The caller holds the turn.

        Raises:
            LedgerBehindError: it does not.
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
            await self._spool.remember(self._posted, self._ids.last, replace=True)
        self._accept_loss = False

    def check(self, found: Iterable[Account], asked: Iterable[int]) -> None:
        """Check the balances of accounts that were looked up against those acknowledged.

        Raises:
            LedgerBehindError: an account has less, or does not exist.
        """
        there = {account.id: _posted(account) for account in found}
        faults: list[str] = []
        known = [(id_, self._posted[id_]) for id_ in asked if id_ in self._posted]
        # Where most has been booked first: not all are named.
        for id_, least in sorted(known, key=lambda one: -max(one[1])):
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
                "neighbours resend may be paid twice"
            )

    def _name(self, account_id: int) -> str:
        book = self._chart.by_id.get(account_id)
        if book is None:
            return f"account {account_id:032x}"
        whose = f" of {book.peer_id}" if book.peer_id else ""
        return f"{book.code.name.lower()}{whose} ({book.asset})"

    def is_doubtful(self, statuses: Sequence[Status]) -> bool:
        """Whether these statuses suggest that another ledger has answered."""
        return bool(self._posted) and any(status in statuses for status in _DOUBTFUL)

    async def require(self, ledger: Ledger) -> None:
        """As `compare`, while the ledger is in use: after a failed request, or before accounts are made.

        Raises:
            LedgerUnavailableError: it does not answer; or it is behind, which is now recorded.
        """
        try:
            await self.compare(ledger)
        except LedgerBehindError as error:
            if not self._availability.is_returning:
                self.refuse(error)
            # Otherwise the replay fails with this, and the next poll finds the same.
            raise LedgerUnavailableError(str(error)) from error

    def refuse(self, error: LedgerBehindError) -> None:
        """Reject new packets and write nothing to this ledger until the right one answers."""
        if self._availability.behind(str(error)):
            self._reports.alert("ledger_behind", {"error": str(error)})

    # --- remembering

    async def remember(self) -> None:
        """Save balances that have changed; called about once a second while the ledger is up.

        At most ACKNOWLEDGED_ACCOUNTS_AT_ONCE_MAX accounts; the others at the next call.
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
        """Save the balances of all accounts, at the end of a start. The caller holds the turn."""
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
