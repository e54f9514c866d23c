"""Prepares of one peer that sends packet ids: under way, answered lately, or asked of the ledger."""

from __future__ import annotations

from connector.base import limits
from connector.ilp.packet import Prepare
from connector.peering.model import Peer
from connector.switch import bounds
from connector.switch.flight import Flight, ReplyTo


class Answered:
    """An answer that was given."""

    __slots__ = ("fingerprint", "octets")

    def __init__(self, octets: bytes, fingerprint: int) -> None:
        self.octets = octets
        """The ILP packet."""
        self.fingerprint = fingerprint
        """Of the Prepare that it answers; see `flight.fingerprint`."""


class Asked:
    """A resent packet of which only the ledger knows whether it was taken before."""

    __slots__ = ("prepare", "reply_to", "request_id", "source")

    def __init__(self, source: Peer, prepare: Prepare, reply_to: ReplyTo, request_id: int) -> None:
        self.source = source
        self.prepare = prepare
        self.reply_to = reply_to
        self.request_id = request_id


class Inbox:
    """See the module. Keys are the sender's packet ids.

    Answers are kept in generations. A receipt (the peer has read what was sent before it was pinged)
    moves each to the next older one; the oldest is dropped. Each holds at most
    ANSWERS_KEPT_PER_PEER_MAX, for a peer that sends no receipts. Receipts say nothing about answers
    that were sent over an earlier connection: `unread` keeps them as long as the peer may resend
    their packets.
    """

    __slots__ = (
        "answers", "asked", "forgotten_id_max", "lost_id_max", "older", "oldest", "open", "unread",
        "unread_until_ms",
    )  # fmt: skip

    def __init__(self) -> None:
        self.open: dict[int, Flight] = {}
        """Under way."""
        self.answers: dict[int, Answered] = {}
        """Since the last receipt."""
        self.older: dict[int, Answered] = {}
        self.oldest: dict[int, Answered] = {}
        self.unread: dict[int, Answered] = {}
        self.unread_until_ms = 0
        self.forgotten_id_max = 0
        """The highest id of an answer that was dropped."""
        self.lost_id_max = 0
        """The highest id of an answer that was dropped though the peer may not have read it."""
        self.asked: dict[int, Asked] = {}

    def find(self, packet_id: int) -> Answered | None:
        """The answer that was given, if it is still kept."""
        return (
            self.answers.get(packet_id)
            or self.older.get(packet_id)
            or self.oldest.get(packet_id)
            or self.unread.get(packet_id)
        )

    def keep(self, packet_id: int, octets: bytes, fingerprint: int) -> None:
        """Remember an answer."""
        self.answers[packet_id] = Answered(octets, fingerprint)
        if len(self.answers) >= bounds.ANSWERS_KEPT_PER_PEER_MAX:
            self._rotate(was_read=False)

    def receipt(self, now_ms: int) -> None:
        """The peer has read all that was sent before it was pinged."""
        self._rotate(was_read=True)
        if self.unread and now_ms >= self.unread_until_ms:
            self._forget(self.unread, was_read=False)
            self.unread = {}

    def reconnected(self, now_ms: int) -> None:
        """The peer has a new connection: it may not have read the answers sent over older ones."""
        given = self.oldest | self.older | self.answers
        if not given:
            return
        self.oldest, self.older, self.answers = {}, {}, {}
        if len(self.unread) + len(given) > bounds.ANSWERS_KEPT_PER_PEER_MAX:
            self._forget(self.unread, was_read=False)
            self.unread = given
        else:
            self.unread |= given
        self.unread_until_ms = now_ms + limits.FORMER_PACKETS_MS

    def was_read(self, packet_id: int) -> bool:
        """Whether an answer that is no longer kept, given by this process, was read by the peer."""
        return packet_id > self.lost_id_max

    @property
    def keeps(self) -> bool:
        """Whether there are answers that a receipt would let go."""
        return bool(self.answers or self.older or self.oldest)

    def _rotate(self, *, was_read: bool) -> None:
        self._forget(self.oldest, was_read=was_read)
        self.oldest, self.older, self.answers = self.older, self.answers, {}

    def _forget(self, answers: dict[int, Answered], *, was_read: bool) -> None:
        if answers:
            highest = max(answers)
            self.forgotten_id_max = max(self.forgotten_id_max, highest)
            if not was_read:
                self.lost_id_max = max(self.lost_id_max, highest)
