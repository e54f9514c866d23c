"""The only place that asks the machine for random numbers. Everything else is handed `Randomness`.

Ids, salts and masks need numbers that nobody can guess; retries need only different ones. One port
serves both, so a simulation that hands in one seeded source is the same run every time.
"""

from __future__ import annotations

import secrets
from typing import Final, Protocol


class Randomness(Protocol):
    """A source of random numbers that cannot be guessed."""

    def bits(self, count: int) -> int:
        """An integer from 0 to `2**count - 1`."""

    def octets(self, count: int) -> bytes:
        """So many octets."""

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
