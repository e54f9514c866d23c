"""What is written to the ledger for a packet: a hold, then a post or a void, perhaps a correction.

Pure. The writer queues reservations; the entry of each follows from the state of its promise, so
the two cannot contradict each other. The transfers of a reservation go into one request.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import Enum, auto
from typing import Final, NamedTuple

from connector.accounting.mirror import Book, PeerBooks
from connector.accounting.promises import Promise, Reservation
from connector.ledger.model import (
    DONE,
    LINKED,
    PENDING,
    PHASE_AGAIN,
    PHASE_CORRECT,
    PHASE_RESOLVE,
    POST,
    VOID,
    AccountCode,
    Posted,
    Status,
    Transfer,
    TransferCode,
    grant_id,
)
from connector.peering.model import Asset, PeerTerms

GRANT_BIT: Final = 0x40
"""Set in the id of a transfer that grants credit for another; its phase is that of the other."""


class Reserve:
    """A request of the switch to hold the money of a packet."""

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


class Entry(Enum):
    """What a queued reservation is written as."""

    HOLD = auto()
    """Reserves the money: a pending transfer for each leg."""
    POST = auto()
    """Makes the hold final."""
    VOID = auto()
    """Gives the hold back."""
    CORRECTION = auto()
    """Books the legs directly after their hold has expired."""


# In any other state there is nothing to write.
WRITTEN_AS: Final[Mapping[Promise, Entry]] = {
    Promise.ASKED: Entry.HOLD,
    Promise.VOIDING: Entry.VOID,
    Promise.POSTING: Entry.POST,
    Promise.OVERDUE: Entry.POST,
    Promise.RELEASED: Entry.POST,
    # A replay has booked it from the outbox while it was in the writer's queue.
    Promise.BOOKED: Entry.POST,
    Promise.CORRECTING: Entry.CORRECTION,
    Promise.CORRECTING_OVERDUE: Entry.CORRECTION,
    Promise.CORRECTING_RELEASED: Entry.CORRECTION,
}


def entry_of(reservation: Reservation) -> Entry:
    """What a queued reservation is written as."""
    return WRITTEN_AS[Promise(reservation.state)]


class Move(NamedTuple):
    """One leg before it is given an id."""

    debit: Book
    credit: Book
    amount: int
    code: TransferCode


def moves_of(
    source: Book, target: Book, asked: Reserve, own: Callable[[AccountCode, Asset], Book]
) -> list[Move]:
    """The legs of a packet with a fee, or one that changes its asset.

    Args:
        source: the peer that is debited.
        target: the peer that is credited.
        asked: the packet.
        own: the node's own accounts.
    """
    assert asked.fee <= asked.amount_in, (asked.fee, asked.amount_in)
    revenue = own(AccountCode.REVENUE, source.asset)
    fee = [Move(source, revenue, asked.fee, TransferCode.FEE)] if asked.fee else []
    if source.ledger == target.ledger and source is not target:
        moves = [Move(source, target, asked.amount_out, TransferCode.PACKET), *fee]
    else:
        # Another asset; or back to the source, and a transfer needs two different accounts.
        exchange_in = own(AccountCode.EXCHANGE, source.asset)
        exchange_out = own(AccountCode.EXCHANGE, target.asset)
        moves = [
            Move(source, exchange_in, asked.amount_in - asked.fee, TransferCode.EXCHANGE_IN),
            *fee,
            Move(exchange_out, target, asked.amount_out, TransferCode.EXCHANGE_OUT),
        ]
    for move in moves:
        assert move.debit is not move.credit
        assert move.debit.ledger == move.credit.ledger
    return moves


def legs_of(
    moves: list[Move], packet_id: int, sender_packet_id: int, tag: int, timeout: int
) -> list[Transfer]:
    """The transfers that hold the money of a packet, linked: all or none.

    Args:
        moves: one for each leg, in order.
        packet_id: ours.
        sender_packet_id: the sender's id of the packet; zero: it gave none.
        tag: see `condition_tag`.
        timeout: seconds until the hold expires.
    """
    last = len(moves) - 1
    return [
        Transfer(
            packet_id | index, move.debit.account_id, move.credit.account_id, move.amount, 0,
            sender_packet_id, tag >> 32, tag & 0xFFFFFFFF, timeout, move.debit.ledger, move.code,
            PENDING | (LINKED if index < last else 0),
        )
        for index, move in enumerate(moves)
    ]  # fmt: skip


def is_within_credit(reservation: Reservation) -> bool:
    """Whether, by the mirror, the sender is within its credit with all its holds so far."""
    debit = reservation.books[0][0]
    return (
        debit.code is not AccountCode.PEER
        or debit.debits_posted + debit.debits_pending <= debit.credits_posted
    )


def outbox_rows(reservation: Reservation) -> list[Transfer]:
    """The rows of a queued reservation for the outbox, where it goes instead of the ledger."""
    if reservation.hold_spooled and entry_of(reservation) is Entry.POST:
        return with_legs(reservation.transfers, reservation.legs)
    return reservation.transfers


def promised_rows(reservation: Reservation) -> list[Transfer]:
    """The rows of a post, or its correction, for the outbox when its Fulfill is released."""
    posts = resolutions(reservation.legs, POST)
    return with_legs(posts, reservation.legs) if reservation.hold_spooled else posts


TAG: Final = struct.Struct(">QI")
"""user_data_64 and user_data_32 of a leg, as a condition begins with them."""


def condition_tag(condition: bytes) -> int:
    """The first 96 bits of a condition: user_data_64 and user_data_32 of a leg."""
    return int.from_bytes(condition[: TAG.size], "big")


def resolutions(legs: list[Transfer], flag: int) -> list[Transfer]:
    """The transfers that post (`POST`) or void (`VOID`) every leg, linked: all or none."""
    assert flag in (POST, VOID), flag
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
    """The transfers that book the legs directly after their hold has expired.

    One chain per leg. The amount is owed whatever the sender's limit, so it is granted as credit
    first; `take_back_credit` takes that back as far as it is unused.
    """
    correction: list[Transfer] = []
    for leg in legs:
        # The same ids for the first hold and a later one: a packet is corrected at most once.
        base = leg.id & ~PHASE_AGAIN | PHASE_CORRECT
        line = credit_line_of(leg.debit_account_id)
        if line is not None:
            correction.append(
                Transfer(
                    id=base | GRANT_BIT,
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


def again(legs: Sequence[Transfer]) -> list[Transfer]:
    """The legs of a hold under the ids of its second hold (`held_again`)."""
    return [leg._replace(id=leg.id | PHASE_AGAIN, timestamp=0) for leg in legs]


def held_again(
    legs: Sequence[Transfer], credit_line_of: Callable[[int], int | None]
) -> list[Transfer]:
    """The transfers of a second hold after the ledger refused the first; one chain, all or none.

    The amount of each leg is granted as credit first, so the hold cannot exceed a limit, even if
    other processes use the account.

    Args:
        legs: of the hold that was refused.
        credit_line_of: the credit line beside the account of a peer; None: it is no peer's.
    """
    grants: list[Transfer] = []
    holds = again(legs)
    for leg in holds:
        line = credit_line_of(leg.debit_account_id)
        if line is not None:
            grants.append(
                Transfer(
                    id=leg.id | GRANT_BIT,
                    debit_account_id=line,
                    credit_account_id=leg.debit_account_id,
                    amount=leg.amount,
                    ledger=leg.ledger,
                    code=TransferCode.CREDIT,
                    flags=LINKED,
                )
            )
    return [*grants, *holds]


def with_legs(posts: list[Transfer], legs: list[Transfer]) -> list[Transfer]:
    """Posts that carry the accounts and amounts of their holds.

    With these they can be booked directly if the ledger refuses the hold later.
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


def grant_transfer(books: PeerBooks, change: int, line: Posted, refused: int = 0) -> Transfer:
    """The transfer that changes the credit granted to a peer.

    Its id is derived from `line` and `refused` alone, not from the change: each grant changes the
    credit line, so of all grants computed from the same balances the ledger accepts one.

    Args:
        books: of the peer.
        change: the credit to grant; below zero: to take back.
        line: the balances of the credit line in the ledger.
        refused: grants at these balances that the ledger has refused already.
    """
    assert change, "a grant of nothing"
    debit, credit = books.credit_line, books.peer
    if change < 0:
        debit, credit = credit, debit
    return Transfer(
        id=grant_id(books.credit_line.account_id, *line, refused),
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
    assert start == len(transfers), "a chain without an end"


def is_booked(statuses: Sequence[Status]) -> bool:
    """Whether a chain is in the ledger, by this request or an earlier one (docs/accounting.md)."""
    return all(status in DONE for status in statuses) or (
        statuses[0] is Status.EXISTS and len(statuses) > 1
    )
