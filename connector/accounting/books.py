"""What the books are made of: mirrored accounts, what is held for a packet, the transfers of a step.

Pure: `account_manager` decides when, and has them written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from connector.ledger.model import (
    DONE,
    LINKED,
    PHASE_CORRECT,
    PHASE_RESOLVE,
    Account,
    AccountCode,
    Posted,
    Status,
    Transfer,
    TransferCode,
    account_id,
    asset_ledger,
    grant_id,
)
from connector.peering.model import Asset, PeerTerms

Token = Any
"""Whoever waits; handed back with the outcome. Nobody here looks into it."""


class Outcome(Enum):
    """What became of a reservation or a post."""

    HELD = auto()
    NO_CREDIT = auto()
    """The sender would owe us more than its limit."""
    NO_PAYABLE = auto()
    """We would owe the next hop more than we allow."""
    BUSY = auto()
    """The queue is full."""
    UNAVAILABLE = auto()
    """The ledger does not answer."""
    POSTED = auto()
    RELEASED = auto()
    """Not acknowledged within the budget; in the outbox, and retried until it is."""


class Book:
    """The mirror of one account."""

    __slots__ = (
        "account_id", "asset", "code", "credits_pending", "credits_posted", "debits_pending",
        "debits_posted", "ledger", "peer_id",
    )  # fmt: skip

    def __init__(self, node_id: str, code: AccountCode, peer_id: str, asset: Asset) -> None:
        self.account_id = account_id(node_id, code, peer_id, str(asset))
        self.code = code
        self.peer_id = peer_id
        self.asset = asset
        self.ledger = asset_ledger(asset.code, asset.scale)
        self.debits_pending = 0
        self.debits_posted = 0
        self.credits_pending = 0
        self.credits_posted = 0

    def load(self, account: Account) -> None:
        """Take over the balances that the ledger has."""
        self.debits_pending = account.debits_pending
        self.debits_posted = account.debits_posted
        self.credits_pending = account.credits_pending
        self.credits_posted = account.credits_posted


@dataclass(slots=True, eq=False)
class PeerBooks:
    """The accounts of one peer."""

    terms: PeerTerms
    peer: Book
    credit_line: Book
    settlement: Book
    removed: bool = False
    """Whether we have no terms with it any more: its balance stays until it is settled."""

    @property
    def is_even(self) -> bool:
        """Whether nobody owes anything, and nothing is held."""
        held = self.peer.debits_pending or self.peer.credits_pending
        return not self.net_balance and not held

    @property
    def granted(self) -> int:
        """Credit that the ledger lets it use."""
        return self.credit_line.debits_posted - self.credit_line.credits_posted

    def move_credit(self, change: int, sign: int = 1) -> None:
        """Grant so much more or less; `sign` -1 undoes that."""
        debit, credit = self.credit_line, self.peer
        if change < 0:
            debit, credit = credit, debit
        debit.debits_posted += sign * abs(change)
        credit.credits_posted += sign * abs(change)

    @property
    def debit_balance(self) -> int:
        """All that it has been debited: value it sent through us."""
        return self.peer.debits_posted - self.credit_line.credits_posted

    @property
    def credit_balance(self) -> int:
        """All that it has been credited: value we sent towards it."""
        return self.peer.credits_posted - self.credit_line.debits_posted

    @property
    def net_balance(self) -> int:
        """Positive: it owes us. Negative: we owe it."""
        return self.debit_balance - self.credit_balance

    @property
    def available_credit(self) -> int:
        """What it may still send."""
        book = self.peer
        return book.credits_posted - book.debits_posted - book.debits_pending

    @property
    def payable(self) -> int:
        """What we owe it if all that is pending towards it is fulfilled."""
        return self.credit_balance + self.peer.credits_pending - self.debit_balance


class Reserve:
    """A packet's money to be held: what the switch asks for."""

    __slots__ = ("amount_in", "amount_out", "condition", "fee", "hold_ms", "next_hop", "source")

    def __init__(
        self,
        source: PeerTerms,
        next_hop: PeerTerms,
        amount_in: int,
        fee: int,
        amount_out: int,
        condition: bytes,
        hold_ms: int,
    ) -> None:
        self.source = source
        self.next_hop = next_hop
        self.amount_in = amount_in
        self.fee = fee
        self.amount_out = amount_out
        self.condition = condition
        self.hold_ms = hold_ms


class Reservation:
    """Money held for one packet: its legs, and the books they move."""

    __slots__ = (
        "books", "correcting", "legs", "outbox_seq", "packet_id", "posted", "relay_by_ms",
        "resolution", "spooled", "waiter",
    )  # fmt: skip

    def __init__(
        self,
        packet_id: int,
        legs: list[Transfer],
        books: list[tuple[Book, Book]],
        *,
        posted: bool = False,
    ) -> None:
        self.packet_id = packet_id
        self.legs = legs
        self.books = books
        self.posted = posted
        """Whether the ledger is known to have posted it: before a restart, or after the waiter was
        let go."""
        self.correcting = False
        """Whether the post came too late and a correction takes its place."""
        self.resolution: list[Transfer] = []
        """The transfers that post it, once that is asked for."""
        self.waiter: Token = None
        """Who waits for the post."""
        self.relay_by_ms = 0
        """When the waiter is let go, posted or not."""
        self.spooled = False
        """Whether the hold itself has gone into the outbox: the ledger may refuse it later."""
        self.outbox_seq = 0
        """Where the post stands in the outbox, after the waiter was let go."""


@dataclass(slots=True)
class Recovered:
    """A packet that another process has taken, or this one has forgotten; known by its sender's id."""

    reservation: Reservation
    source_id: str
    sender_packet_id: int
    next_hop_id: str
    condition_tag: int


def condition_tag(condition: bytes) -> int:
    """The first 96 bits of a condition: user_data_64 and user_data_32 of a leg."""
    return int.from_bytes(condition[:12], "big")


def resolutions(legs: list[Transfer], flag: int) -> list[Transfer]:
    """The transfers that post or void every leg, linked: all or none."""
    last = len(legs) - 1
    return [
        Transfer(
            leg.id | PHASE_RESOLVE, 0, 0, leg.amount, leg.id, 0, 0, 0, 0, 0, 0,
            flag | (LINKED if index < last else 0),
        )
        for index, leg in enumerate(legs)
    ]  # fmt: skip


def correcting_transfers(
    legs: list[Transfer], credit_line_of: Callable[[int], int | None]
) -> list[Transfer]:
    """What books the legs outright after their reservation has expired.

    A chain for each leg, one behind the other. The sender's limit must not stand in the way of what has happened, so the
    amount is granted first; `take_back_credit` lowers it again as far as it is free.
    """
    correction: list[Transfer] = []
    for leg in legs:
        base = leg.id | PHASE_CORRECT
        line = credit_line_of(leg.debit_account_id)
        if line is not None:
            correction.append(
                Transfer(
                    id=base | 0x40,
                    debit_account_id=line,
                    credit_account_id=leg.debit_account_id,
                    amount=leg.amount,
                    ledger=leg.ledger,
                    code=TransferCode.CREDIT,
                    flags=LINKED,
                )
            )
        correction.append(
            Transfer(
                id=base,
                debit_account_id=leg.debit_account_id,
                credit_account_id=leg.credit_account_id,
                amount=leg.amount,
                user_data_128=leg.user_data_128,
                user_data_64=leg.user_data_64,
                user_data_32=leg.user_data_32,
                ledger=leg.ledger,
                code=TransferCode.CORRECTION,
            )
        )
    return correction


def with_legs(posts: list[Transfer], legs: list[Transfer]) -> list[Transfer]:
    """Posts that say themselves what they make final.

    Enough to book it outright if the ledger, asked later, refuses the hold.
    """
    return [
        post._replace(
            debit_account_id=leg.debit_account_id,
            credit_account_id=leg.credit_account_id,
            user_data_128=leg.user_data_128,
            user_data_64=leg.user_data_64,
            user_data_32=leg.user_data_32,
            ledger=leg.ledger,
            code=leg.code,
        )
        for post, leg in zip(posts, legs, strict=True)
    ]


def grant_transfer(books: PeerBooks, change: int, there: tuple[Posted, Posted]) -> Transfer:
    """A change of the credit granted to a peer whose credit line and account stand as in `there`.

    The id follows from that: processes that share the accounts of a node and start together grant
    once, and so does one that asks again.
    """
    debit, credit = books.credit_line, books.peer
    if change < 0:
        debit, credit = credit, debit
    return Transfer(
        id=grant_id(debit.account_id, change, *there[0], *there[1]),
        debit_account_id=debit.account_id,
        credit_account_id=credit.account_id,
        amount=abs(change),
        ledger=debit.ledger,
        code=TransferCode.CREDIT,
    )


def chains(transfers: Sequence[Transfer]) -> Iterator[tuple[int, int]]:
    """Where each chain begins and ends."""
    start = 0
    for index, transfer in enumerate(transfers):
        if not transfer.flags & LINKED:
            yield start, index + 1
            start = index + 1


def is_booked(statuses: Sequence[Status]) -> bool:
    """Whether a chain is in the ledger: now, or since an earlier try (docs/accounting.md)."""
    return all(status in DONE for status in statuses) or (
        statuses[0] is Status.EXISTS and len(statuses) > 1
    )
