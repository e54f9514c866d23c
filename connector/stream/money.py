"""A packet with money of a payment of this node, and what its receiver answers (RFC 29). Pure.

Such a packet follows from the secret, its sequence, its amount and the terms, octet by octet; only the
expiry does not. So one that was under way in a crash can be made again (`crypto`).
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from connector.base.errors import DecodeError
from connector.ilp.packet import PREPARE, Prepare
from connector.stream.crypto import Keys
from connector.stream.packet import StreamMoney, StreamPacket, decode, encode

STREAM_ID: Final = 1


@dataclass(frozen=True, slots=True)
class Terms:
    """The least that packets have to deliver; the same for all packets of a connection."""

    rate: Fraction
    """Units of the receiver for one of ours, as quoted."""
    slippage: Fraction
    """By which part it may become worse; 0 to 1."""
    share: Fraction = Fraction(0)
    """Units of the receiver for one of ours that must arrive in any case: of every packet, so of all."""

    def minimum(self, amount: int, *, rounds_up: bool = False) -> int:
        """The least that the receiver gets of a packet of `amount`; what is demanded is rounded up anyhow."""
        tolerated = amount * self.rate * (1 - self.slippage)
        demanded = amount * self.share
        least = -(-tolerated // 1) if rounds_up else tolerated // 1
        return max(least, -(-demanded // 1))


def make(
    keys: Keys, destination: str, sequence: int, amount: int, minimum: int, expires_at_ms: int
) -> Prepare:
    """The packet that pays `amount`, of which the receiver gets `minimum` at least."""
    data = keys.seal(encode(StreamPacket(sequence, PREPARE, minimum, (StreamMoney(STREAM_ID, 1),))))
    return Prepare(
        amount=amount,
        expires_at_ms=expires_at_ms,
        condition=keys.condition(data),
        destination=destination,
        data=data,
    )


def read(keys: Keys, sequence: int, data: bytes, packet_type: int) -> StreamPacket | None:
    """What the receiver says in its answer to a packet.

    None: it was not said by the receiver, or not to this packet, or not in an answer of this type.
    """
    plain = keys.open(data)
    if plain is None:
        return None
    try:
        packet = decode(plain)
    except DecodeError:
        return None
    if packet.sequence != sequence or packet.packet_type != packet_type:
        return None
    return packet
