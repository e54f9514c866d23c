"""A Prepare in flight, and its comparison with a resent one."""

from __future__ import annotations

from typing import Final, Protocol

from connector.accounting.entries import Reserve
from connector.accounting.promises import Reservation
from connector.ilp.packet import Prepare
from connector.peering.model import Peer
from connector.switch.switch import PacketFlow

NEVER_MS: Final = 1 << 62


class ReplyTo(Protocol):
    """The destination of the answer to a Prepare."""

    def reply(self, request_id: int, octets: bytes) -> bool:
        """Queue the answer; False: it can no longer be delivered."""


class Trace:
    """Times of a packet that is observed in detail, by the monotonic clock; None: not yet."""

    __slots__ = ("answered_s", "asked", "forwarded_s", "posted_s", "reserved_s")

    def __init__(self) -> None:
        self.asked: Reserve | None = None
        """The requested hold."""
        self.reserved_s: float | None = None
        self.forwarded_s: float | None = None
        self.answered_s: float | None = None
        self.posted_s: float | None = None


class Flight:
    """One Prepare in flight: its flow, and the destination of its answer."""

    __slots__ = (
        "again", "began_s", "counted", "deadline_ms", "flow", "keeps", "next_hop", "octets",
        "packet_id", "prepare", "quiet", "reply_to", "request_id", "reservation", "sender_packet_id",
        "source", "trace",
    )  # fmt: skip

    def __init__(
        self,
        flow: PacketFlow,
        source: Peer,
        prepare: Prepare,
        packet_id: int,
        sender_packet_id: int,
        reply_to: ReplyTo,
        request_id: int,
    ) -> None:
        self.flow = flow
        self.source = source
        self.prepare = prepare
        self.packet_id = packet_id
        """Ours, 128 bits."""
        self.sender_packet_id = sender_packet_id
        """The sender's packet id, 128 bits; zero: it cannot resend the packet."""
        self.reply_to = reply_to
        self.request_id = request_id
        self.reservation: Reservation | None = None
        self.next_hop: Peer | None = None
        """The peer whose answer it waits for."""
        self.octets = b""
        """The Prepare as sent to the next hop."""
        self.deadline_ms = NEVER_MS
        self.counted = False
        """Whether it counts as in flight: from its first wait to its end."""
        self.again = False
        """Whether it may have been sent to the next hop before this node restarted."""
        self.keeps = False
        """Whether its Fulfill is to be durable before it is posted: see `accounting.fulfilments`."""
        self.quiet = False
        """Whether it is a request of this node about addresses or routes: neither counted nor shown."""
        self.began_s = 0.0
        self.trace: Trace | None = None
        """Only for observed packets: most are only counted."""


def same_packet(first: Prepare, resent: Prepare) -> bool:
    """Whether a resent packet equals the first one in all but the expiry, which may be earlier."""
    return (
        first.amount == resent.amount
        and first.condition == resent.condition
        and first.destination == resent.destination
        and first.data == resent.data
    )


def fingerprint(prepare: Prepare) -> int:
    """A 64-bit hash of the fields that `same_packet` compares.

    Valid in this process only. Python's keyed hash, at a tenth of the cost of SHA-256. That is enough:
    by it an answer is repeated to the peer that got it before, and no money moves.
    """
    return hash((prepare.amount, prepare.condition, prepare.destination, prepare.data))
