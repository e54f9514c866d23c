"""Packets for this node that are answered locally, without a handler.

In order: ping, then packets with a condition made from `RECEIVER_SECRET`. The driver passes all
others to the handler of the library API or to `LOCAL_DELIVERY_URL`.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Final

from connector.ilp.packet import Fulfill, Prepare

PING_FULFILLMENT: Final = b"ping" * 8
PING_CONDITION: Final = hashlib.sha256(PING_FULFILLMENT).digest()


def fulfillment_for(secret: bytes, data: bytes) -> bytes:
    """The fulfillment that only the holder of `secret` can compute: HMAC-SHA256(secret, data)."""
    return hmac.digest(secret, data, "sha256")


def answer(prepare: Prepare, secret: bytes | None) -> Fulfill | None:
    """The Fulfill of a ping or of a packet made with `secret`; None for everything else."""
    if prepare.condition == PING_CONDITION:
        return Fulfill(fulfillment=PING_FULFILLMENT)
    if secret is not None:
        fulfillment = fulfillment_for(secret, prepare.data)
        if hashlib.sha256(fulfillment).digest() == prepare.condition:
            return Fulfill(fulfillment=fulfillment)
    return None
