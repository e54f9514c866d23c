"""What is written to the ledger for a packet: a hold, then a post or a void, perhaps a correction.

Pure. An entry is what the writer queues; its transfers go into one request, never apart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from connector.accounting.mirror import PeerBooks
from connector.accounting.promises import Reservation, Token
from connector.ledger.model import (
    DONE,
    LINKED,
    PHASE_CORRECT,
    PHASE_RESOLVE,
    POST,
    VOID,
    Posted,
    Status,
    Transfer,
    TransferCode,
    grant_id,
)
from connector.peering.model import PeerTerms


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


class Entry:
    """Transfers of one packet, to be written together. Its class says what they do."""

    __slots__ = ("reservation", "token", "transfers")

    def __init__(self, token: Token, reservation: Reservation, transfers: list[Transfer]) -> None:
        assert transfers, "an entry without transfers"
        self.token = token
        """Who is told the outcome; None: nobody."""
        self.reservation = reservation
        self.transfers = transfers


class Hold(Entry):
    """Reserves the money: a pending transfer for each leg."""

    __slots__ = ()


class Post(Entry):
    """Makes a hold final."""

    __slots__ = ()


class Void(Entry):
    """Gives a hold back."""

    __slots__ = ()


class Correction(Entry):
    """Books the legs outright after their hold has expired."""

    __slots__ = ()


def post_of(token: Token, reservation: Reservation, resolution: list[Transfer]) -> Post:
    """The entry that makes a hold final."""
    assert len(resolution) == len(reservation.legs)
    return Post(token, reservation, resolution)


def void_of(reservation: Reservation) -> Void:
    """The entry that gives a hold back.

    Nobody waits for it: a crash before it is booked only means that the ledger's own timeout frees
    the money later.
    """
    return Void(None, reservation, resolutions(reservation.legs, VOID))


def correction_of(
    reservation: Reservation, credit_line_of: Callable[[int], int | None]
) -> Correction:
    """The entry that takes the place of a post which came too late."""
    transfers = correcting_transfers(reservation.legs, credit_line_of)
    assert len(transfers) >= len(reservation.legs)
    return Correction(reservation.waiter, reservation, transfers)


def outbox_rows(entry: Entry) -> list[Transfer]:
    """An entry as it is put into the outbox in place of the ledger."""
    if type(entry) is Post and entry.reservation.hold_spooled:
        return with_legs(entry.transfers, entry.reservation.legs)
    return entry.transfers


def promised_rows(reservation: Reservation) -> list[Transfer]:
    """A post as it is put into the outbox when its Fulfill is let go."""
    if reservation.hold_spooled:
        return with_legs(reservation.resolution, reservation.legs)
    return reservation.resolution


def condition_tag(condition: bytes) -> int:
    """The first 96 bits of a condition: user_data_64 and user_data_32 of a leg."""
    return int.from_bytes(condition[:12], "big")


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
    """What books the legs outright after their reservation has expired.

    A chain for each leg, one behind the other. The sender's limit must not stand in the way of
    what has happened, so the amount is granted first; `take_back_credit` lowers it again as far as
    it is free.
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
    assert change, "a grant of nothing"
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
    assert start == len(transfers), "a chain without an end"


def is_booked(statuses: Sequence[Status]) -> bool:
    """Whether a chain is in the ledger: now, or since an earlier try (docs/accounting.md)."""
    return all(status in DONE for status in statuses) or (
        statuses[0] is Status.EXISTS and len(statuses) > 1
    )
