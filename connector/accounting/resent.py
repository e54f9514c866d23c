"""Rebuilds packets from ledger transfers, so that resent packets can be answered. Pure.

A packet's transfers carry the sender's packet id (`user_data_128`), so every process that shares
the accounts finds the packet by it, also after a crash (docs/protocol.md, "Resent packets"). The sender
may be this node itself: packets of its payments have ids too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from connector.accounting.mirror import Book
from connector.accounting.promises import Promise, Reservation
from connector.ledger.model import (
    PENDING,
    PHASE_AGAIN,
    PHASE_RESOLVE,
    POST,
    SECOND_WAY,
    TAG_BITS,
    VOID,
    AccountCode,
    Transfer,
    TransferCode,
    first_id,
)
from connector.peering.model import LOCAL

_RESOLVED: Final = POST | VOID
_SOURCES: Final = (AccountCode.PEER, AccountCode.WALLET)
"""The accounts that packets are paid from: those of peers, and this node's own."""


@dataclass(slots=True)
class Recovered:
    """A packet that the ledger has and this process has not, found by its sender's packet id."""

    reservation: Reservation
    source_id: str
    sender_packet_id: int
    next_hop_id: str
    condition_tag: int
    """The first 96 bits of its condition."""
    fulfill: bytes = b""
    """Its Fulfill, if one was kept (`fulfilments`): an ILP packet; else empty."""
    may_be_kept: bool = False
    """Whether there may be a kept Fulfill that has not been read yet."""
    was_posted: bool = False
    """Of a packet that credits an account which is gone: whether it is posted."""


@dataclass(slots=True)
class LedgerPacket:
    """One packet, rebuilt from the ledger."""

    packet_id: int
    legs: list[Transfer] = field(default_factory=list)
    """Its holds, in order."""
    outcome: int = 0
    """POST, VOID, or 0: neither among the transfers that were read."""

    @property
    def resolution_id(self) -> int:
        """The id of the transfer that resolves it, if it is resolved."""
        return self.legs[0].id | PHASE_RESOLVE

    @property
    def expires_at_ns(self) -> int:
        """When its hold expires."""
        assert self.legs, "a packet of which nothing was held"
        first = self.legs[0]
        return first.timestamp + first.timeout * 1_000_000_000

    def is_over(self, now_ns: int) -> bool:
        """Whether nothing is held or owed for it any more."""
        return self.outcome == VOID or (not self.outcome and self.expires_at_ns <= now_ns)

    def reservation(self, books: Mapping[int, Book]) -> Reservation | None:
        """What is held or posted for it; None: one of its accounts is not among `books`.

        None, too, if its first legs are older than the transfers that were read.
        """
        # A second hold, made at a replay, has other ids.
        if self.legs[0].id & ~PHASE_AGAIN != self.packet_id:
            return None
        ids = {id_ for leg in self.legs for id_ in (leg.debit_account_id, leg.credit_account_id)}
        if not ids <= books.keys():
            return None  # to a peer that is not configured any more
        return Reservation(
            self.packet_id,
            # As requested: the timestamps were set by the ledger.
            [leg._replace(timestamp=0) for leg in self.legs],
            [(books[leg.debit_account_id], books[leg.credit_account_id]) for leg in self.legs],
            Promise.BOOKED if self.outcome == POST else Promise.HELD,
        )


class Packets:
    """Groups transfers by the packets that they belong to; takes them in any number of parts."""

    def __init__(self) -> None:
        self._found: dict[int, LedgerPacket] = {}
        self._outcomes: dict[int, int] = {}

    def add(self, transfers: Iterable[Transfer]) -> None:
        """Take some more transfers, oldest first."""
        found, outcomes = self._found, self._outcomes
        for transfer in transfers:
            packet_id = transfer.id >> TAG_BITS << TAG_BITS
            if transfer.flags & PENDING:
                packet = found.get(packet_id)
                if packet is None:
                    packet = found[packet_id] = LedgerPacket(packet_id)
                packet.legs.append(transfer)
            elif transfer.flags & _RESOLVED:
                outcomes.setdefault(packet_id, transfer.flags & _RESOLVED)
            elif transfer.code == TransferCode.CORRECTION:
                # It was posted too late and corrected: it is owed like any other.
                outcomes[packet_id] = POST

    def all(self) -> list[LedgerPacket]:
        """The packets that money was held for, in the order of their first legs."""
        for packet_id, packet in self._found.items():
            packet.outcome = self._outcomes.get(packet_id, 0)
        return list(self._found.values())


def superseded_by_second_ways(packets: Iterable[LedgerPacket]) -> set[int]:
    """Ids of packets that their next hop has refused and that were sent a second way.

    Whatever became of their first hold, only the second says what is owed: it was requested after the first
    next hop had answered with a Reject.
    """
    return {first_id(one.packet_id) for one in packets if one.packet_id & SECOND_WAY}


def packets_of(transfers: Iterable[Transfer]) -> list[LedgerPacket]:
    """The packets that `transfers` hold money for, in the order of their first legs."""
    packets = Packets()
    packets.add(transfers)
    return packets.all()


def recovered(reservation: Reservation) -> Recovered | None:
    """What is needed to answer a resent packet; None: its sender gave it no packet id."""
    first = reservation.legs[0]
    source = reservation.books[0][0]
    if source.code not in _SOURCES or not first.user_data_128:
        return None
    # At most one leg credits a peer; a packet without such a leg was for this node.
    next_hops = [
        credit.peer_id for _, credit in reservation.books if credit.code is AccountCode.PEER
    ]
    assert len(next_hops) <= 1, next_hops
    return Recovered(
        reservation=reservation,
        source_id=source.peer_id,
        sender_packet_id=first.user_data_128,
        next_hop_id=next_hops[0] if next_hops else LOCAL,
        condition_tag=first.user_data_64 << 32 | first.user_data_32,
    )


def recovered_without_accounts(packet: LedgerPacket, books: Mapping[int, Book]) -> Recovered | None:
    """The same of a packet towards a peer whose accounts this node no longer has.

    It is known all the same: forwarded as a new packet, it might be paid twice. Its next hop cannot
    be asked, so it is answered with its kept Fulfill, or refused; to a former wallet of this node with
    the Fulfill that is computed again, if it is posted.
    """
    first = packet.legs[0]
    source = books.get(first.debit_account_id)
    if source is None or source.code not in _SOURCES or not first.user_data_128:
        return None
    if first.id & ~PHASE_AGAIN != packet.packet_id:
        return None  # its first legs are older than what was read
    return Recovered(
        reservation=Reservation(packet.packet_id, packet.legs, [], Promise.FREE),
        source_id=source.peer_id,
        sender_packet_id=first.user_data_128,
        next_hop_id=LOCAL,
        condition_tag=first.user_data_64 << 32 | first.user_data_32,
        was_posted=packet.outcome == POST,
    )
