"""Exponential back-off. Pure: the caller sleeps and supplies the randomness."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final


def is_due(at_ms: int, now_ms: int, wait_s_max: float) -> bool:
    """Whether what waits until `at_ms`, and never for longer than `wait_s_max`, is due.

    Also where that is further ahead: the clock was set back since, and nobody waits for it to be there again.
    """
    return not now_ms < at_ms <= now_ms + int(wait_s_max * 1000)


_DOUBLINGS_MAX: Final = 64
"""Exponents beyond this change nothing: every sensible maximum is reached, and no float overflows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """The wait before attempt n + 1, after n consecutive failures.

    The wait grows from `min_s` by `factor` a failure, up to `max_s`; then the share `jitter` of
    it is random, so that clients that failed together do not retry together. `floor_s` is added to
    every wait: with full jitter the rest may be zero.
    """

    min_s: float
    """After the first failure, in seconds; above zero."""
    max_s: float
    """The longest, in seconds; at least `min_s`."""
    factor: float = 2.0
    """Growth per failure; 1 to 16."""
    jitter: float = 0.0
    """Share of the wait that is random: 0 none, 0.5 the second half, 1 all of it."""
    floor_s: float = 0.0
    """Added to every wait, in seconds; not part of `max_s`."""

    def __post_init__(self) -> None:
        assert 0 < self.min_s <= self.max_s
        assert 1 <= self.factor <= 16
        assert 0 <= self.jitter <= 1
        assert self.floor_s >= 0

    def grown_s(self, failures: int) -> float:
        """Seconds after this many consecutive failures, at least 1, without jitter and floor."""
        assert failures >= 1
        return min(self.min_s * self.factor ** min(failures - 1, _DOUBLINGS_MAX), self.max_s)

    def wait_s(self, failures: int, random: Callable[[], float]) -> float:
        """Seconds to wait after this many consecutive failures.

        Args:
            failures: at least 1.
            random: returns a number from 0 to 1; called once, also without jitter.
        """
        chance = random()
        assert 0 <= chance <= 1
        return self.floor_s + self.grown_s(failures) * (1 - self.jitter + self.jitter * chance)
