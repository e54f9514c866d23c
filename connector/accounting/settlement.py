"""Books settlements: value that moved, or is about to, outside (`connector.settlement` decides)."""

from __future__ import annotations

from connector.accounting.availability import Availability
from connector.accounting.chart import Chart
from connector.accounting.mirror import Mirror
from connector.accounting.turn import Turn
from connector.ledger.model import DONE, Status, Transfer, TransferCode


class SettlementBooks:
    """The only writer of settlement accounts."""

    def __init__(
        self, *, turn: Turn, chart: Chart, mirror: Mirror, availability: Availability
    ) -> None:
        self._turn = turn
        self._chart = chart
        self._mirror = mirror
        self._availability = availability

    async def record(
        self, peer_id: str, transfer_id: int, amount: int, *, outgoing: bool, tag: int
    ) -> Status:
        """Book a settlement; the same id again is booked once. See `AccountManager`."""
        assert amount > 0, amount
        self._availability.require_up()
        books = self._chart.peers[peer_id]
        debit, credit = (
            (books.peer, books.settlement) if outgoing else (books.settlement, books.peer)
        )
        assert debit.ledger == credit.ledger
        transfer = Transfer(
            id=transfer_id,
            debit_account_id=debit.account_id,
            credit_account_id=credit.account_id,
            amount=amount,
            user_data_128=tag,
            ledger=debit.ledger,
            code=TransferCode.SETTLEMENT,
        )
        async with self._turn as ledger:
            status = (await ledger.create_transfers([transfer]))[0]
            if status is Status.EXISTS:
                # The mirror has counted it, unless the acknowledgement was lost. Nothing but this
                # moves the settlement account, so what it has and its mirror has not was lost.
                (account,) = await ledger.lookup_accounts([books.settlement.account_id])
                amount = (
                    account.credits_posted - books.settlement.credits_posted
                    if outgoing
                    else account.debits_posted - books.settlement.debits_posted
                )
        if status in DONE:
            self._mirror.move(debit, credit, amount)
        return status

    async def settleable(self, peer_id: str) -> tuple[int, int]:
        """What we owe a peer, and how much of it may be paid, as the ledger has it now.

        See `AccountManager`.
        """
        self._availability.require_up()
        books = self._chart.peers[peer_id]
        async with self._turn as ledger:
            peer, line = await ledger.lookup_accounts(
                [books.peer.account_id, books.credit_line.account_id]
            )
        granted = line.debits_posted - line.credits_posted
        posted = peer.credits_posted - peer.debits_posted
        return posted - granted, posted - peer.debits_pending
