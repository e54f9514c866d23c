"""The only module that reads the system clock. Everything else receives a `Clock`."""

from __future__ import annotations

import time
from typing import Protocol


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
