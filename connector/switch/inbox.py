"""Prepares of one peer with packet ids: in flight, recently answered, or waiting for a look-up."""

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
        """Of the answered Prepare; see `flight.fingerprint`."""


class Asked:
    """A resent packet that waits for its look-up in the ledger."""

    __slots__ = ("prepare", "reply_to", "request_id", "source")

    def __init__(self, source: Peer, prepare: Prepare, reply_to: ReplyTo, request_id: int) -> None:
        self.source = source
        self.prepare = prepare
        self.reply_to = reply_to
        self.request_id = request_id


class Answers:
    """Answers by the sender's packet id, with their size."""

    __slots__ = ("by_id", "octets")

    def __init__(self) -> None:
        self.by_id: dict[int, Answered] = {}
        self.octets = 0
        """Their approximate size in memory, in octets."""

    def take_in(self, other: Answers) -> None:
        """Add those of `other`, which must not be used afterwards."""
        assert self is not other
        size = len(self.by_id) + len(other.by_id)
        self.by_id.update(other.by_id)
        # Each answer is in one generation, so its octets are counted once.
        assert len(self.by_id) == size, (len(self.by_id), size)
        self.octets += other.octets


class Inbox:
    """See the module. Keys are the sender's packet ids.

    Answers are kept in generations. A receipt (the peer has read what was sent before it was pinged)
    moves each to the next older one; the oldest is dropped. Receipts say nothing about answers that
    were sent over an earlier connection: `unread` keeps them as long as the peer may resend their
    packets.

    All generations together are bounded in number and in octets; beyond that the oldest is dropped
    although the peer may not have read it. The ledger knows its packets: if one of them is resent,
    it is looked up there.
    """

    __slots__ = (
        "answers", "asked", "asked_bytes", "forgotten_id_max", "inboxes", "lost_id_max", "octets", "older", "oldest",
        "open", "unread", "unread_until_ms",
    )  # fmt: skip

    def __init__(self, inboxes: Inboxes) -> None:
        self.inboxes = inboxes
        self.open: dict[int, Flight] = {}
        """Prepares in flight."""
        self.answers = Answers()
        """Answers since the last receipt."""
        self.older = Answers()
        self.oldest = Answers()
        self.unread = Answers()
        self.unread_until_ms = 0
        self.octets = 0
        """The approximate size of all kept answers in memory, in octets."""
        self.forgotten_id_max = 0
        """The highest id of an answer that was dropped."""
        self.lost_id_max = 0
        """The highest id of an answer that was dropped before the peer had certainly read it."""
        self.asked: dict[int, Asked] = {}
        self.asked_bytes = 0
        """Octets of the data of these."""

    def find(self, packet_id: int) -> Answered | None:
        """The answer that was given, if it is kept."""
        return (
            self.answers.by_id.get(packet_id)
            or self.older.by_id.get(packet_id)
            or self.oldest.by_id.get(packet_id)
            or self.unread.by_id.get(packet_id)
        )

    def keep(self, packet_id: int, octets: bytes, fingerprint: int) -> None:
        """Keep an answer; older ones are dropped if necessary."""
        size = len(octets) + bounds.ANSWER_KEPT_OVERHEAD_BYTES
        answers = self.answers
        answers.by_id[packet_id] = Answered(octets, fingerprint)
        answers.octets += size
        self.octets += size
        inboxes = self.inboxes
        inboxes.octets += size
        if len(answers.by_id) >= bounds.ANSWERS_PER_GENERATION_MAX:
            self._rotate(was_read=False)
        while self.octets > bounds.ANSWERS_KEPT_PER_PEER_BYTES_MAX:
            self.shed()
        while inboxes.octets > bounds.ANSWERS_KEPT_BYTES_MAX:
            inboxes.largest().shed()

    def receipt(self, now_ms: int) -> None:
        """The peer has read all that was sent before it was pinged."""
        self._rotate(was_read=True)
        if self.unread.by_id and now_ms >= self.unread_until_ms:
            self._drop_unread()

    def reconnected(self, now_ms: int) -> None:
        """The peer has a new connection: it may not have read the answers sent over older ones."""
        given = self.oldest
        given.take_in(self.older)
        given.take_in(self.answers)
        if not given.by_id:
            return
        self.oldest, self.older, self.answers = Answers(), Answers(), Answers()
        if len(self.unread.by_id) + len(given.by_id) > bounds.ANSWERS_UNREAD_MAX:
            self._drop_unread()
        self.unread.take_in(given)
        self.unread_until_ms = now_ms + limits.FORMER_PACKETS_MS

    def was_read(self, packet_id: int) -> bool:
        """Whether an answer that is no longer kept, given by this process, was read by the peer."""
        return packet_id > self.lost_id_max

    def put_asked(self, packet_id: int, asked: Asked) -> None:
        """Let a packet wait for its look-up; it may replace its like, which came earlier."""
        if packet_id not in self.asked:
            self.asked_bytes += len(asked.prepare.data)
        self.asked[packet_id] = asked
        # What it replaces has the same data, or more would be taken off than was added.
        assert self.asked_bytes >= len(asked.prepare.data), self.asked_bytes

    def take_asked(self, packet_id: int) -> Asked | None:
        """Remove a packet that waits for its look-up; None: there is none with this id."""
        asked = self.asked.pop(packet_id, None)
        if asked is not None:
            self.asked_bytes -= len(asked.prepare.data)
            assert self.asked_bytes >= 0, self.asked_bytes
            assert self.asked or not self.asked_bytes, self.asked_bytes
        return asked

    @property
    def keeps(self) -> bool:
        """Whether there are answers that a receipt would move or drop."""
        return bool(self.answers.by_id or self.older.by_id or self.oldest.by_id)

    def shed(self) -> None:
        """Drop the oldest non-empty generation, because memory is short."""
        before = self.octets
        if self.unread.by_id:
            self._drop_unread()
            assert self.octets < before, (self.octets, before)
            return
        assert self.keeps, "nothing to drop"
        while not self.oldest.by_id:
            self._rotate(was_read=False)
        self._rotate(was_read=False)
        assert self.octets < before, (self.octets, before)

    def _rotate(self, *, was_read: bool) -> None:
        self._forget(self.oldest, was_read=was_read)
        self.oldest, self.older, self.answers = self.older, self.answers, Answers()

    def _drop_unread(self) -> None:
        self._forget(self.unread, was_read=False)
        self.unread = Answers()

    def _forget(self, answers: Answers, *, was_read: bool) -> None:
        if answers.by_id:
            highest = max(answers.by_id)
            self.forgotten_id_max = max(self.forgotten_id_max, highest)
            if not was_read:
                self.lost_id_max = max(self.lost_id_max, highest)
            self.octets -= answers.octets
            self.inboxes.octets -= answers.octets
            assert 0 <= self.octets <= self.inboxes.octets, (self.octets, self.inboxes.octets)


class Inboxes:
    """The inboxes of all peers. Their answers are bounded together: the largest inbox sheds first."""

    def __init__(self) -> None:
        self.by_peer: dict[str, Inbox] = {}
        self.octets = 0
        """The approximate size of the kept answers of all peers in memory, in octets."""

    def get(self, peer_id: str) -> Inbox:
        """The inbox of a peer; created by the first call."""
        inbox = self.by_peer.get(peer_id)
        if inbox is None:
            inbox = self.by_peer[peer_id] = Inbox(self)
        return inbox

    def largest(self) -> Inbox:
        """The inbox with the most octets. Linear in the peers: called once per dropped generation."""
        return max(self.by_peer.values(), key=_octets_of)


def _octets_of(inbox: Inbox) -> int:
    return inbox.octets
