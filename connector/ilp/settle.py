"""`peer.settle` (RFC 38): settlement engines of neighbours talk through their connectors.

A message is a Prepare for nothing to `peer.settle`; the answer of the other engine is the data of
its Fulfill. It concerns the two neighbours alone and is never routed.
"""

from __future__ import annotations

from typing import Final

from connector.ilp.ildcp import PEER_CONDITION, PEER_FULFILLMENT
from connector.ilp.packet import Code, Fulfill, Prepare, Reject, reject

DESTINATION: Final = "peer.settle"


def request(message: bytes, expires_at_ms: int) -> Prepare:
    """The Prepare that carries a message of our engine.

    RFC 38 gives a condition that no fulfilment of 32 zeros has; this one has it. As receiver any is
    accepted.
    """
    return Prepare(
        amount=0,
        expires_at_ms=expires_at_ms,
        condition=PEER_CONDITION,
        destination=DESTINATION,
        data=message,
    )


def answer(message: bytes) -> Fulfill:
    """The Fulfill that carries what our engine answers."""
    return Fulfill(fulfillment=PEER_FULFILLMENT, data=message)


def refusal(code: Code, message: str, data: bytes = b"") -> Reject:
    """Why there is no answer; `data` is what our engine said, if it said anything."""
    return reject(code, DESTINATION, message, data)
