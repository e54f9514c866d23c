"""The only module that reads the system's random source. Everything else receives `Randomness`.

Ids, salts and masks need unpredictable numbers; retry jitter needs only different ones. One interface
serves both, so a simulation with one seeded source is reproducible.
"""

from __future__ import annotations

import secrets
from typing import Final, Protocol


class Randomness(Protocol):
    """A source of unpredictable random numbers."""

    def bits(self, count: int) -> int:
        """An integer from 0 to `2**count - 1`."""

    def octets(self, count: int) -> bytes:
        """`count` random octets."""

    def random(self) -> float:
        """A float from 0 to 1, 1 excluded; for jitter."""


class SystemRandomness:
    """The operating system's source."""

    def __init__(self) -> None:
        self._source: Final = secrets.SystemRandom()

    def bits(self, count: int) -> int:
        """See `Randomness`."""
        return secrets.randbits(count)

    def octets(self, count: int) -> bytes:
        """See `Randomness`."""
        return secrets.token_bytes(count)

    def random(self) -> float:
        """See `Randomness`."""
        return self._source.random()
