"""The only module that reads the system clock. Everything else receives a `Clock`."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, Protocol

JUMP_SECONDS_MIN: Final = 1.0
JUMP_LASTS_SECONDS: Final = 60.0
"""Longer than packets are held: what was in flight when the clock jumped has ended by then."""
_NS: Final = 1_000_000_000


class Clock(Protocol):
    """The time: wall clock for expiries on the wire, monotonic for durations."""

    def now_ms(self) -> int:
        """Milliseconds since the Unix epoch."""

    def now_ns(self) -> int:
        """Nanoseconds since the Unix epoch."""

    def monotonic_s(self) -> float:
        """Seconds since some point in the past; never goes back."""


class SystemClock:
    """The machine's clock."""

    def now_ms(self) -> int:
        """Milliseconds since the Unix epoch."""
        return time.time_ns() // 1_000_000

    def now_ns(self) -> int:
        """Nanoseconds since the Unix epoch."""
        return time.time_ns()

    def monotonic_s(self) -> float:
        """Seconds since some point in the past; never goes back."""
        return time.monotonic()


class SteadyClock:
    """The wall clock without its jumps: it continues at the pace of the monotonic clock.

    Deadlines and holds are in wall time, like the expiry of packets. If the machine's clock jumps,
    they still end when their time has elapsed. `watch` follows small corrections at once,
    and a jump when it has lasted for JUMP_LASTS_SECONDS.
    """

    def __init__(
        self,
        wall_ns: Callable[[], int] = time.time_ns,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """Both clocks in nanoseconds; the monotonic one never goes back."""
        self._wall_ns = wall_ns
        self._monotonic_ns = monotonic_ns
        self._offset_ns = wall_ns() - monotonic_ns()
        self._jump_ns: int | None = None
        self._jumped_at_ns = 0

    def now_ms(self) -> int:
        """Milliseconds since the Unix epoch."""
        return (self._monotonic_ns() + self._offset_ns) // 1_000_000

    def now_ns(self) -> int:
        """Nanoseconds since the Unix epoch."""
        return self._monotonic_ns() + self._offset_ns

    def monotonic_s(self) -> float:
        """Seconds since some point in the past; never goes back."""
        return self._monotonic_ns() / _NS

    def watch(self) -> float | None:
        """Compare with the machine's wall clock; called about once a second.

        Returns:
            Seconds by which it has jumped, once per jump; positive: forward.
        """
        now_ns = self._monotonic_ns()
        away_ns = self._wall_ns() - now_ns - self._offset_ns
        if abs(away_ns) < JUMP_SECONDS_MIN * _NS:
            self._offset_ns += away_ns
            self._jump_ns = None
            return None
        if self._jump_ns is None or abs(away_ns - self._jump_ns) >= JUMP_SECONDS_MIN * _NS:
            self._jump_ns, self._jumped_at_ns = away_ns, now_ns
            return away_ns / _NS
        if now_ns - self._jumped_at_ns >= JUMP_LASTS_SECONDS * _NS:
            self._offset_ns += away_ns
            self._jump_ns = None
        return None
