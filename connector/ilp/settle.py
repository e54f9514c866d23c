"""`peer.settle` (RFC 38): messages between the settlement engines of two peers.

A message is a Prepare with amount zero to `peer.settle`; the answer of the other engine is the data
of its Fulfill. It is between the two peers and is never routed.
"""

from __future__ import annotations

from typing import Final

from connector.ilp.ildcp import PEER_CONDITION, PEER_FULFILLMENT
from connector.ilp.packet import Code, Fulfill, Prepare, Reject, reject

DESTINATION: Final = "peer.settle"


def request(message: bytes, expires_at_ms: int) -> Prepare:
    """The Prepare that carries a message of our engine.

    The condition of RFC 38 does not match a fulfillment of 32 zeros; this one does. As receiver we
    accept any condition.
    """
    return Prepare(
        amount=0,
        expires_at_ms=expires_at_ms,
        condition=PEER_CONDITION,
        destination=DESTINATION,
        data=message,
    )


def answer(message: bytes) -> Fulfill:
    """The Fulfill with the answer of our engine."""
    return Fulfill(fulfillment=PEER_FULFILLMENT, data=message)


def refusal(code: Code, message: str, data: bytes = b"") -> Reject:
    """The Reject when there is no answer; `data`: the response of our engine, if there is one."""
    return reject(code, DESTINATION, message, data)
