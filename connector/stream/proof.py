"""What a payer has in hand about delivery: fulfillments, and what the receiver has authenticated. Pure.

Every fulfilled packet has given the preimage of its condition, which follows from the shared secret and
the packet's octets: only a holder of the secret can have made it. The answer says how much arrived,
encrypted and authenticated with the same secret, for the sequence of that packet.

It proves delivery to the payer, not to others: the payer holds the secret too, and could have made all of
it. That is so in all of STREAM; receipts (RFC 39), which were to change it, are deprecated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from connector.stream.packet import StreamMaxMoney, StreamPacket


@dataclass(slots=True)
class Proof:
    """Of one payment, over all its connections. Amounts in the receiver's asset."""

    acknowledged: int = 0
    """Fulfilled packets whose answer has a report of the receiver that authenticates."""
    reported: int = 0
    """The sum of these reports."""
    receiver_total: int = 0
    """What the receiver says that it got in all; zero: it has not said it."""
    last_sequence: int = 0
    """The highest sequence that was fulfilled, on the last connection."""

    def fulfilled(self, sequence: int, stream_id: int, reply: StreamPacket | None) -> None:
        """A packet was fulfilled; `reply`: the report that authenticates and is for this packet."""
        self.last_sequence = max(self.last_sequence, sequence)
        if reply is None:
            return
        self.acknowledged += 1
        self.reported += reply.amount
        for frame in reply.frames:
            if isinstance(frame, StreamMaxMoney) and frame.stream_id == stream_id:
                # Reports come in any order, and a receiver that was restarted counts anew.
                self.receiver_total = max(self.receiver_total, frame.total_received)

    def after(self, before: Proof) -> Proof:
        """The proof of a payment that went on: `before` is of its earlier connections."""
        return Proof(
            before.acknowledged + self.acknowledged,
            before.reported + self.reported,
            before.receiver_total + self.receiver_total,
            self.last_sequence or before.last_sequence,
        )

    def to_text(self) -> str:
        """As it is stored."""
        fields = (self.acknowledged, self.reported, self.receiver_total, self.last_sequence)
        return " ".join(map(str, fields))

    @classmethod
    def from_text(cls, text: str) -> Proof:
        """From what `to_text` gave."""
        fields: Sequence[int] = [int(one) for one in text.split()]
        return cls(*fields)
