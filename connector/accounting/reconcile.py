"""Follows bookings that other processes make on this node's accounts."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from connector.accounting import bounds
from connector.accounting.acknowledged import Acknowledged
from connector.accounting.availability import Availability
from connector.accounting.chart import Chart
from connector.accounting.entries import Entry, entry_of
from connector.accounting.mirror import Mirror
from connector.accounting.promises import Reservation
from connector.accounting.reports import Reports
from connector.accounting.turn import Turn
from connector.base.clock import Clock
from connector.base.errors import (
    LedgerBehindError,
    LedgerRefusedError,
    LedgerUnavailableError,
)
from connector.ledger.model import Posted, Transfer, TransferCode


class Reconciler:
    """Updates the mirror from the ledger, every few seconds."""

    def __init__(
        self,
        *,
        turn: Turn,
        chart: Chart,
        mirror: Mirror,
        acknowledged: Acknowledged,
        availability: Availability,
        reports: Reports,
        clock: Clock,
    ) -> None:
        self._turn = turn
        self._chart = chart
        self._mirror = mirror
        self._acknowledged = acknowledged
        self._availability = availability
        self._reports = reports
        self._clock = clock
        self._due_at_s = clock.monotonic_s() + bounds.RECONCILE_SECONDS
        self.is_shared = False
        """Whether another process was found to book for this node too."""

    @property
    def is_due(self) -> bool:
        """Whether the interval has passed since the last time."""
        return self._clock.monotonic_s() >= self._due_at_s

    async def reconcile(self, unacknowledged: Callable[[], Iterable[Reservation]]) -> bool:
        """Update the mirror by what other processes booked on this node's accounts.

        Returns whether there was anything.

        The mirror should have the posted balances of the ledger plus what is queued here. Pending
        amounts are not compared: each process counts its own.

        Args:
            unacknowledged: returns what is queued and not acknowledged by the ledger.
        """
        self._due_at_s = self._clock.monotonic_s() + bounds.RECONCILE_SECONDS
        if not self._turn.ledger.may_be_away:
            return False
        try:
            async with self._turn as ledger:
                asked = list(self._chart.by_id)
                found = await self._chart.look_up(ledger, asked)
                self._acknowledged.check(found, asked)
        except (LedgerUnavailableError, LedgerRefusedError):
            return False  # the next request reports it
        except LedgerBehindError as error:
            self._acknowledged.refuse(error)
            return False
        if not self._availability.is_up:
            return False  # while this waited for the turn, entries went into the outbox
        expected = {account.id: [*account[2:5:2]] for account in found}
        for reservation in unacknowledged():
            for transfer in _still_to_be_posted(reservation):
                # An account added meanwhile was not looked up.
                if transfer.debit_account_id in expected:
                    expected[transfer.debit_account_id][0] += transfer.amount
                if transfer.credit_account_id in expected:
                    expected[transfer.credit_account_id][1] += transfer.amount
        differing = 0
        for id_, posted in expected.items():
            book = self._chart.by_id.get(id_)
            if book is not None:
                differing += self._mirror.set_posted(book, Posted(*posted))
        assert differing <= len(expected)
        if differing:
            self._tell(differing)
        return differing > 0

    def _tell(self, differing: int) -> None:
        self._reports.counters.reconciled += differing
        if self.is_shared:
            return
        self.is_shared = True
        self._reports.alert(
            "accounts_are_shared",
            {
                "accounts": differing,
                "detail": "the ledger has more than this process has written: another one "
                "books for this node too; what is shown here follows within "
                f"{bounds.RECONCILE_SECONDS:.0f} s",
            },
        )


def _still_to_be_posted(reservation: Reservation) -> list[Transfer]:
    """The transfers that the ledger will post for what is queued of a reservation."""
    match entry_of(reservation):
        case Entry.CORRECTION:
            grants = [one for one in reservation.transfers if one.code == TransferCode.CREDIT]
            return [*reservation.legs, *grants]
        case Entry.POST if not reservation.posted:
            return reservation.legs
        case _:
            # A hold or a void posts nothing; and a replay has booked what was promised from the
            # outbox, while the writer was busy.
            return []
