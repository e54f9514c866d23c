"""Books settlements: payments outside, made or about to be made (`connector.settlement`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from connector.accounting.availability import Availability
from connector.accounting.chart import Chart
from connector.accounting.mirror import Mirror, PeerBooks
from connector.accounting.turn import Turn
from connector.ledger.interface import Ledger
from connector.ledger.model import Status, Transfer, TransferCode, settlement_id

_NEVER_OWED: Final = 1 << 126
"""More than any account has: the ledger refuses to debit a peer with it, which uses up the id."""


class Payment(NamedTuple):
    """A payment to be booked before it is made, in units of the peer's asset."""

    most: int
    """The decided amount, above zero."""
    least: int
    """The smallest amount to pay; equal to `most`: all or nothing."""
    unit: int
    """The amount, like `most`, is a multiple of this."""
    leave: int
    """The amount that is to stay owed."""
    tag: int
    """128 bits of the settlement's key, kept in the transfer."""


class SettlementBooks:
    """The only writer of settlement accounts."""

    def __init__(
        self, *, turn: Turn, chart: Chart, mirror: Mirror, availability: Availability
    ) -> None:
        self._turn = turn
        self._chart = chart
        self._mirror = mirror
        self._availability = availability

    def id_of(self, peer_id: str, words: Sequence[str]) -> int:
        """The id of the transfer of a settlement. See `AccountManager`."""
        return settlement_id(self._chart.peers[peer_id].settlement.account_id, *words)

    async def record(
        self, peer_id: str, transfer_id: int, amount: int, *, outgoing: bool, tag: int
    ) -> Status:
        """Book a settlement; idempotent by its id. See `AccountManager`."""
        assert amount > 0, amount
        self._availability.require_up()
        books = self._chart.peers[peer_id]
        transfer = _transfer(books, transfer_id, amount, outgoing=outgoing, tag=tag)
        async with self._turn as ledger:
            return await self._book(ledger, books, transfer)

    async def pay_out(self, peer_id: str, transfer_id: int, payment: Payment) -> int:
        """Book a payment before it is made; returns the amount. See `AccountManager`."""
        assert 0 < payment.least <= payment.most, payment
        assert payment.most % payment.unit == 0, payment
        books = self._chart.peers[peer_id]
        async with self._turn as ledger:
            # Checked inside the turn: while this waited, holds may have gone to the outbox, and the
            # ledger does not have them.
            self._availability.require_up()
            _, payable = await self._payable(ledger, books)
            amount = min(payment.most, payable - payment.leave)
            amount -= amount % payment.unit
            if amount < payment.least:
                amount = _NEVER_OWED
            transfer = _transfer(books, transfer_id, amount, outgoing=True, tag=payment.tag)
            status = await self._book(ledger, books, transfer)
            if status is Status.CREATED:
                assert amount <= payment.most, amount
                return amount
            # An earlier request under this id, whose answer was lost, was booked; its amount counts.
            # Otherwise the id is used up: nothing can be booked under it.
            for there in await ledger.lookup_transfers([transfer_id]):
                if there.user_data_128 == payment.tag:
                    return there.amount
            return 0

    async def booked(self, transfer_ids: Sequence[int]) -> list[Transfer]:
        """The transfers of settlements that the ledger has. See `AccountManager`."""
        self._availability.require_up()
        async with self._turn as ledger:
            return await ledger.lookup_transfers(transfer_ids)

    async def settleable(self, peer_id: str) -> tuple[int, int]:
        """What we owe a peer, and how much of it may be paid. See `AccountManager`."""
        self._availability.require_up()
        async with self._turn as ledger:
            return await self._payable(ledger, self._chart.peers[peer_id])

    async def _payable(self, ledger: Ledger, books: PeerBooks) -> tuple[int, int]:
        """What we owe a peer, and that amount less what is held for packets that it has sent.

        Granted credit is excluded: the ledger would let a settlement use it up.
        """
        peer, line = await self._chart.look_up_all(
            ledger, [books.peer.account_id, books.credit_line.account_id]
        )
        granted = line.debits_posted - line.credits_posted
        owed = peer.credits_posted - peer.debits_posted - granted
        # The mirror also has what is queued for the ledger.
        owed_here = -books.net_balance
        return min(owed, owed_here), min(
            owed - peer.debits_pending, owed_here - books.peer.debits_pending
        )

    async def _book(self, ledger: Ledger, books: PeerBooks, transfer: Transfer) -> Status:
        """Create a transfer and count it in the mirror once. The caller holds the turn."""
        status = (await ledger.create_transfers([transfer]))[0]
        if status is Status.CREATED:
            debit, credit = books.peer, books.settlement
            if transfer.debit_account_id != debit.account_id:
                debit, credit = credit, debit
            self._mirror.move(debit, credit, transfer.amount)
        else:
            # The mirror has counted an existing transfer, unless its acknowledgement was lost. Only
            # this class moves settlement accounts, so a difference from the mirror is a transfer
            # whose acknowledgement was lost: it is counted now.
            (account,) = await self._chart.look_up_all(ledger, [books.settlement.account_id])
            paid = account.credits_posted - books.settlement.credits_posted
            received = account.debits_posted - books.settlement.debits_posted
            if paid > 0:
                self._mirror.move(books.peer, books.settlement, paid)
            if received > 0:
                self._mirror.move(books.settlement, books.peer, received)
        return status


def _transfer(
    books: PeerBooks, transfer_id: int, amount: int, *, outgoing: bool, tag: int
) -> Transfer:
    debit, credit = (books.peer, books.settlement) if outgoing else (books.settlement, books.peer)
    assert debit.ledger == credit.ledger
    return Transfer(
        id=transfer_id,
        debit_account_id=debit.account_id,
        credit_account_id=credit.account_id,
        amount=amount,
        user_data_128=tag,
        ledger=debit.ledger,
        code=TransferCode.SETTLEMENT,
    )
