"""A Prepare under way, and what identifies it when it is resent."""

from __future__ import annotations

from typing import Final, Protocol

from connector.accounting.entries import Reserve
from connector.accounting.promises import Reservation
from connector.ilp.packet import Prepare
from connector.peering.model import Peer
from connector.switch.switch import Story

NEVER_MS: Final = 1 << 62


class ReplyTo(Protocol):
    """Where the answer of a Prepare goes."""

    def reply(self, request_id: int, octets: bytes) -> bool:
        """Queue the answer; False: it can no longer be delivered."""


class Trace:
    """Times of a packet that is observed in detail, by the monotonic clock; None: not yet."""

    __slots__ = ("answered_s", "asked", "forwarded_s", "posted_s", "reserved_s")

    def __init__(self) -> None:
        self.asked: Reserve | None = None
        """What was to be held for it."""
        self.reserved_s: float | None = None
        self.forwarded_s: float | None = None
        self.answered_s: float | None = None
        self.posted_s: float | None = None


class Flight:
    """One Prepare under way: its story, and where its answer goes."""

    __slots__ = (
        "again", "began_s", "counted", "deadline_ms", "keeps", "next_hop", "octets",
        "packet_id", "prepare", "reply_to", "request_id", "reservation", "sender_packet_id", "source", "story",
        "trace",
    )  # fmt: skip

    def __init__(
        self,
        story: Story,
        source: Peer,
        prepare: Prepare,
        packet_id: int,
        sender_packet_id: int,
        reply_to: ReplyTo,
        request_id: int,
    ) -> None:
        self.story = story
        self.source = source
        self.prepare = prepare
        self.packet_id = packet_id
        """Ours, 128 bits."""
        self.sender_packet_id = sender_packet_id
        """The sender's, 128 bits; zero: it cannot resend the packet."""
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
        self.began_s = 0.0
        self.trace: Trace | None = None
        """Only of a few packets: most are merely counted."""


def same_packet(first: Prepare, resent: Prepare) -> bool:
    """Whether a resent packet equals the first one: all but the expiry, which a sender may shorten."""
    return (
        first.amount == resent.amount
        and first.condition == resent.condition
        and first.destination == resent.destination
        and first.data == resent.data
    )


def fingerprint(prepare: Prepare) -> int:
    """A 64-bit number of all that `same_packet` compares; equal packets have equal ones.

    For this process only. Python's keyed hash, a tenth of the cost of a SHA-256: on its word an
    answer is repeated to the peer that got it before, and no money moves.
    """
    return hash((prepare.amount, prepare.condition, prepare.destination, prepare.data))
