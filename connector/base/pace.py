"""Where short transactions are committed: on the event loop, or in the file's own thread. Pure.

Handing a commit to a thread and back costs more than the commit itself where the disk is quick, and
under load each statement of the thread waits for the interpreter. Where the disk is slow, a commit on
the loop would hold up everything else. So commits are timed. While they are quick they are made on
the loop; when too many of the latest are slow, or one is very slow, or all of them together take too
much of the loop's time, the thread takes over. It has them for a while, longer each time, before the
loop is tried again.

Durability is the same: either way a commit is acknowledged when it is on disk.
"""

from __future__ import annotations

from typing import Final

MAYBE_QUICK_SECONDS: Final = 0.006
"""The loop is tried when a recent commit in the thread took no longer. It is more than a quick commit
takes: each statement of the thread may wait 5 ms for the interpreter."""
SLOW_SECONDS: Final = 0.002
VERY_SLOW_SECONDS: Final = 0.050
"""One of these on the loop, and the thread takes over."""
RECENT: Final = 64
"""The commits that are looked at."""
SLOW_MAX: Final = 8
"""Of RECENT on the loop: at the next one the thread takes over."""
SLOW_AT_FIRST: Final = 5
"""So many of them are assumed when the loop is tried: a disk that is not quick has few tries."""
SHARE_MAX: Final = 0.75
"""Of the loop's time, over SHARE_SECONDS, that commits may take."""
SHARE_SECONDS: Final = 0.25
PAUSE_SECONDS: Final = 1.0
"""How long the thread has the commits at first; twice as long each time, if the loop was left early."""
PAUSE_SECONDS_MAX: Final = 60.0
STEADY_SECONDS: Final = 60.0
"""On the loop for so long: the next pause is a short one again."""


class CommitPace:
    """Decides it for one file. Times are seconds of a monotonic clock."""

    def __init__(self) -> None:
        self.on_loop = False
        """Whether the next commit may be made on the loop."""
        self._in_thread = 0
        # Of the latest commits in the thread.
        self._quickest_s = VERY_SLOW_SECONDS
        # Of the latest on the loop, as bits: which were slow.
        self._slow = (1 << SLOW_AT_FIRST) - 1
        self._since_s = 0.0
        self._share_since_s = 0.0
        self._spent_s = 0.0
        self._not_before_s = 0.0
        self._pause_s = PAUSE_SECONDS

    def done_in_thread(self, took_s: float, now_s: float) -> bool:
        """Count a commit that the thread made; returns whether the next ones go to the loop."""
        assert took_s >= 0.0, took_s
        if self.on_loop:
            return False  # it was queued before the loop took over
        self._in_thread += 1
        self._quickest_s = min(self._quickest_s, took_s)
        if self._in_thread < RECENT:
            return False
        may_be_quick = self._quickest_s <= MAYBE_QUICK_SECONDS
        self._in_thread = 0
        self._quickest_s = VERY_SLOW_SECONDS
        if not may_be_quick or now_s < self._not_before_s:
            return False
        self.on_loop = True
        self._slow = (1 << SLOW_AT_FIRST) - 1
        self._since_s = self._share_since_s = now_s
        self._spent_s = 0.0
        return True

    def done_on_loop(self, took_s: float, now_s: float) -> bool:
        """Count a commit that the loop made; returns whether the next ones go to the thread."""
        assert self.on_loop, "the thread has the commits"
        self._slow = (self._slow << 1 | (took_s > SLOW_SECONDS)) & ((1 << RECENT) - 1)
        self._spent_s += took_s
        is_too_slow = took_s >= VERY_SLOW_SECONDS or self._slow.bit_count() > SLOW_MAX
        elapsed_s = now_s - self._share_since_s
        if elapsed_s >= SHARE_SECONDS:
            is_too_slow = is_too_slow or self._spent_s > SHARE_MAX * elapsed_s
            self._share_since_s = now_s
            self._spent_s = 0.0
        if is_too_slow:
            self.leave_loop(now_s)
        return is_too_slow

    def leave_loop(self, now_s: float) -> None:
        """Give the commits to the thread for a while."""
        assert self.on_loop, "the thread has them"
        if now_s - self._since_s >= STEADY_SECONDS:
            self._pause_s = PAUSE_SECONDS
        self.on_loop = False
        self._not_before_s = now_s + self._pause_s
        self._pause_s = min(2 * self._pause_s, PAUSE_SECONDS_MAX)
        self._in_thread = 0
        self._quickest_s = VERY_SLOW_SECONDS
