"""Builds the packets of attackers."""

from __future__ import annotations

import hashlib
import time
from typing import Final

from connector.simulation import octets
from tests.hostile.target import ADDRESS

PREIMAGE: Final = b"p" * 32
CONDITION: Final = hashlib.sha256(PREIMAGE).digest()
PEER: Final = hashlib.sha256(bytes(32)).digest()
"""That of `peer.settle` (RFC 38)."""
PING: Final = hashlib.sha256(b"ping" * 8).digest()
"""The condition that every node can fulfil (docs/protocol.md)."""
HOLD_SECONDS: Final = 28.0
"""Nearly the longest that the node holds a packet."""


def soon_ms(seconds: float = HOLD_SECONDS) -> int:
    """The expiry of a packet that lives so long."""
    return int((time.time() + seconds) * 1000)


def prepare(
    to: str,
    amount: int = 0,
    *,
    seconds: float = HOLD_SECONDS,
    condition: bytes = CONDITION,
    data: bytes = b"",
) -> bytes:
    """A Prepare to what is behind the node's address; `to` empty: to the node itself."""
    destination = f"{ADDRESS}.{to}" if to else ADDRESS
    return octets.prepare(amount, soon_ms(seconds), condition, destination, data)
