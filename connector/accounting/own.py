"""What the ledger knows of the payments that this node makes.

A payment has a key, and is made in attempts: one, and one more each time that it goes on after the node
was stopped. Each is **claimed** before it sends anything, by a transfer of amount zero between two accounts
that hold nothing (`AccountCode.PAYMENT`). Its id follows from node, key and attempt, and `user_data_128` is
random, so of two processes that begin the same attempt the ledger takes the first: an active one
and its standby, or one whose file of payments was lost or is older than the ledger. Such ids are
known for ever. An attempt that is about to send money claims the next number as well, with its own `user_data_128`
(`node.payment_run`).

The **packets** of an attempt carry ids of their own in their holds, as those of peers do. So after a
crash the ledger tells which of them there were, and what has become of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from connector.accounting import bounds
from connector.accounting.availability import Availability
from connector.accounting.chart import Chart
from connector.accounting.recovery import packets_tagged
from connector.accounting.resent import superseded_by_second_ways
from connector.accounting.turn import Turn
from connector.base.errors import LedgerUnavailableError
from connector.ledger.interface import Ledger
from connector.ledger.model import (
    DONE,
    POST,
    VOID,
    Account,
    AccountCode,
    AccountStatus,
    Status,
    Transfer,
    TransferCode,
    account_id,
    payment_id,
    payment_tag,
)
from connector.peering.model import Asset

LEDGER: Final = 1
"""The ledger number of the claims' accounts: of no asset, since nothing is moved."""
_SIDES: Final = ("payer", "payment")
_CLAIMED_BY_ANOTHER: Final = Status.EXISTS_WITH_DIFFERENT_USER_DATA_128


class OwnPacket(NamedTuple):
    """A packet that this node has sent, as the ledger has it."""

    sender_packet_id: int
    amount: int
    """In the asset of the account."""
    condition_tag: int
    """The first 96 bits of its condition."""
    age_ms: int
    """Since it was held, by the ledger's clock."""
    expires_at_ms: int
    """No later than its first expiry, and at most two seconds earlier; by the ledger's clock."""
    is_posted: bool
    is_void: bool


class Claim(NamedTuple):
    """What claims an attempt at a payment."""

    key: str
    attempt: int
    """From 1."""
    tag: int
    """128 bits, not zero, the same for the same attempt of the same process."""


class OwnPayments:
    """See the module. The only writer of claims."""

    def __init__(self, *, turn: Turn, chart: Chart, availability: Availability) -> None:
        self._turn = turn
        self._chart = chart
        self._availability = availability
        self._has_accounts = False

    async def claim(self, claim: Claim) -> bool:
        """Have an attempt at a payment claimed. See `AccountManager.claim_payment`."""
        key, attempt, tag = claim
        assert attempt > 0, attempt
        assert tag, "without a tag claims are all the same"
        self._availability.require_up()
        node_id = self._chart.node_id
        debit, credit = _accounts_of(node_id)
        async with self._turn as ledger:
            await self._create_accounts(ledger, [debit, credit])
            row = Transfer(
                id=payment_id(node_id, key, attempt),
                debit_account_id=debit.id,
                credit_account_id=credit.id,
                user_data_128=tag,
                user_data_64=attempt,
                ledger=LEDGER,
                code=TransferCode.PAYMENT,
            )
            (status,) = await ledger.create_transfers([row])
        if status not in DONE and status is not _CLAIMED_BY_ANOTHER:
            raise LedgerUnavailableError(f"no claim of a payment: {status.name}")
        return status in DONE

    async def _create_accounts(self, ledger: Ledger, accounts: list[Account]) -> None:
        if self._has_accounts:
            return
        for status in await ledger.create_accounts(accounts):
            if status not in (AccountStatus.CREATED, AccountStatus.EXISTS):
                raise LedgerUnavailableError(f"no account for payments: {status.name}")
        self._has_accounts = True

    async def packets(
        self, claim: Claim, packet_ids: Sequence[int], asset: Asset, now_ms: int
    ) -> list[OwnPacket] | None:
        """What the ledger has of packets of this node. See `AccountManager.own_packets`.

        `now_ms`: by the ledger's clock.
        """
        self._availability.require_up()
        wallet_id = account_id(self._chart.node_id, AccountCode.WALLET, "", str(asset))
        claim_id = payment_id(self._chart.node_id, claim.key, claim.attempt)
        async with self._turn as ledger:
            claims = await ledger.lookup_transfers([claim_id])
            if [one.user_data_128 for one in claims] != [claim.tag]:
                return None
            # None was held before. Our own clock may have been wrong then, or be now.
            found = await packets_tagged(ledger, packet_ids, claims[0].timestamp, by_ledger=True)
        superseded = superseded_by_second_ways(found)
        packets: list[OwnPacket] = []
        for one in found:
            if one.packet_id in superseded:
                continue  # its next hop has refused it; what counts is its second way
            first = one.legs[0]
            if first.debit_account_id != wallet_id:
                continue  # a peer may use the same ids
            held_at_ms = first.timestamp // 1_000_000
            # `Writer.reserve` has added the grace, and rounded up to seconds.
            lives_ms = first.timeout * 1000 - bounds.PENDING_GRACE_MS - 1000
            packets.append(
                OwnPacket(
                    sender_packet_id=first.user_data_128,
                    amount=sum(leg.amount for leg in one.legs if leg.debit_account_id == wallet_id),
                    condition_tag=first.user_data_64 << 32 | first.user_data_32,
                    age_ms=now_ms - held_at_ms,
                    expires_at_ms=held_at_ms + lives_ms,
                    is_posted=one.outcome == POST,
                    is_void=one.outcome == VOID,
                )
            )
        return packets


def _accounts_of(node_id: str) -> list[Account]:
    """The two accounts that claims stand between; none of those that hold money."""
    return [
        Account(
            id=account_id(node_id, AccountCode.PAYMENT, "", side),
            user_data_128=payment_tag(node_id),
            ledger=LEDGER,
            code=AccountCode.PAYMENT,
        )
        for side in _SIDES
    ]
