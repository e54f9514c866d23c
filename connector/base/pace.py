"""Whether the event loop waits for short transactions, or does other work meanwhile. Pure.

Every transaction is committed by its file's own thread. Where the disk is quick, the way back to the
event loop costs more than the commit itself: under load the answer waits behind everything else that
the loop has to do. So the loop waits for it, WAIT_SECONDS at most. Where the disk is slow, that would
hold up everything else for nothing. So the waits are counted: when too many of the latest were in vain,
or all of them together take too much of the loop's time, there are none for a while, longer each time.

Durability is the same: either way a commit is acknowledged when it is on disk.
"""

from __future__ import annotations

from typing import Final

WAIT_SECONDS: Final = 0.002
"""What a commit may take while the loop waits for it; after that it is answered like any other work."""
FEW: Final = 24
"""The most transfers in a transaction that is waited for. Larger ones occur when many packets are in
flight: then the loop has other work to do."""
MAYBE_QUICK_SECONDS: Final = 0.006
"""Waiting is tried when a recent commit took no longer. It is more than a quick commit takes: while
the loop does not wait, each statement of the thread waits for the interpreter: 0.1 ms in the daemon,
5 ms elsewhere."""
RECENT: Final = 64
"""The commits that are looked at."""
IN_VAIN_MAX: Final = 8
"""Of the RECENT waits: the next one in vain is the last."""
IN_VAIN_AT_FIRST: Final = 5
"""So many are assumed when waiting is tried: a disk that is not quick has few tries."""
SHARE_MAX: Final = 0.75
"""Of the loop's time, over SHARE_SECONDS, that waits may take."""
SHARE_SECONDS: Final = 0.25
PAUSE_SECONDS: Final = 1.0
"""How long there are no waits at first; twice as long each time, if they ended early."""
PAUSE_SECONDS_MAX: Final = 60.0
STEADY_SECONDS: Final = 60.0
"""After so long with waits the next pause is a short one again."""


class CommitPace:
    """Decides it for one file. Times are seconds of a monotonic clock."""

    def __init__(self) -> None:
        self.waits = False
        """Whether the loop waits for the next commit."""
        # Commits without a wait since the last decision, and the quickest of them.
        self._count = 0
        self._quickest_s = MAYBE_QUICK_SECONDS * 2
        # Of the latest waits, as bits: which were in vain.
        self._in_vain = (1 << IN_VAIN_AT_FIRST) - 1
        self._since_s = 0.0
        self._share_since_s = 0.0
        self._spent_s = 0.0
        self._not_before_s = 0.0
        self._pause_s = PAUSE_SECONDS

    def committed(self, took_s: float, now_s: float) -> None:
        """Count a commit that was not waited for; perhaps the next ones are."""
        assert took_s >= 0.0, took_s
        if self.waits:
            return  # it was queued before
        self._count += 1
        self._quickest_s = min(self._quickest_s, took_s)
        if self._count < RECENT:
            return
        may_be_quick = self._quickest_s <= MAYBE_QUICK_SECONDS
        self._count = 0
        self._quickest_s = MAYBE_QUICK_SECONDS * 2
        if may_be_quick and now_s >= self._not_before_s:
            self.waits = True
            self._in_vain = (1 << IN_VAIN_AT_FIRST) - 1
            self._since_s = self._share_since_s = now_s
            self._spent_s = 0.0

    def waited(self, took_s: float, now_s: float, *, in_vain: bool) -> None:
        """Count a wait; `in_vain`: the commit was not over then."""
        assert self.waits, "nobody waits"
        self._in_vain = (self._in_vain << 1 | in_vain) & ((1 << RECENT) - 1)
        self._spent_s += took_s
        is_too_much = self._in_vain.bit_count() > IN_VAIN_MAX
        elapsed_s = now_s - self._share_since_s
        if elapsed_s >= SHARE_SECONDS:
            is_too_much = is_too_much or self._spent_s > SHARE_MAX * elapsed_s
            self._share_since_s = now_s
            self._spent_s = 0.0
        if is_too_much:
            self._pause(now_s)

    def _pause(self, now_s: float) -> None:
        if now_s - self._since_s >= STEADY_SECONDS:
            self._pause_s = PAUSE_SECONDS
        self.waits = False
        self._not_before_s = now_s + self._pause_s
        self._pause_s = min(2 * self._pause_s, PAUSE_SECONDS_MAX)
        self._count = 0
        self._quickest_s = MAYBE_QUICK_SECONDS * 2
