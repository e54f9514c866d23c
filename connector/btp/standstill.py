"""Notices that the process stood still; then no link writes or reads until its lease is checked.

A process that was stopped or starved may have been replaced meanwhile (`accounting/lease`), and its
peers may have resent to its successor what it finds in its buffers. Before it knows, it must say
nothing: not that a packet has expired, for example, which its successor may fulfil. So if `seen` was
not called for `limit_s`, all links are held: nothing is written and nothing more is read, until the
node has asked its ledger and calls `Links.release` or `Links.abandon`.

What counts is the monotonic clock. Where that stands still as well, while the machine is suspended,
nothing is noticed.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from connector.base.clock import Clock
from connector.base.log import Log


class Standstill:
    """Whether links are held."""

    def __init__(
        self, *, clock: Clock, log: Log, limit_s: float, on_standstill: Callable[[], None]
    ) -> None:
        """Nothing is known before the first call of `seen`.

        Args:
            clock: its monotonic time counts.
            log: for one warning each time.
            limit_s: the time without a call of `seen` that counts; infinite: none does.
            on_standstill: called when links are held.
        """
        self.is_held = False
        """Whether nothing may be written or read."""
        self._clock = clock
        self._log = log
        self._limit_s = limit_s
        self._on_standstill = on_standstill
        self._seen_s = math.inf
        """When `seen` was called last; infinite: never."""
        self._held_s = 0.0
        """When links were held, by the monotonic clock."""

    def seen(self) -> bool:
        """Note that the process runs; called 50 times a second. Returns whether links are in use."""
        now_s = self._clock.monotonic_s()
        self.look(now_s)
        self._seen_s = now_s
        return not self.is_held

    def look(self, now_s: float) -> None:
        """Hold links if the process has stood still until now, by the monotonic clock."""
        for_s = now_s - self._seen_s
        if for_s <= self._limit_s:
            return
        if self.is_held:
            self._on_standstill()  # a further one: what was asked before it is of no use
            return
        self.is_held = True
        self._held_s = now_s
        self._log.warning(
            "process_stood_still",
            seconds=round(for_s, 3),
            detail="nothing is sent until the ledger says that no other process has taken over",
        )
        self._on_standstill()

    def over(self) -> bool:
        """Links may be used again, unless the process has stood still once more meanwhile."""
        assert self.is_held
        now_s = self._clock.monotonic_s()
        if now_s - self._seen_s > self._limit_s:
            self._on_standstill()
            return False
        self.is_held = False
        self._seen_s = now_s
        self._log.info("process_goes_on", seconds=round(now_s - self._held_s, 3))
        return True

    def end(self) -> None:
        """Look no more: `seen` is not called any more."""
        self._limit_s = math.inf
