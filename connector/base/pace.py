"""Decides whether the commits of a file are made on the event loop or in the file's thread. Pure.

Handing a commit to a thread and its result back costs more than the commit itself on a disk that
takes a fraction of a millisecond. On a slower one the event loop must not wait for it. So commits are
made on the loop for as long as they are measured to be short there, and in the thread otherwise.

    phase   commits are made   until
    THREAD  in the thread      a rest is over, which doubles each time that the loop was left -> TRIAL
    TRIAL   on the loop        TRIAL_COMMITS were short -> LOOP; one of few was not -> THREAD
    LOOP    on the loop        too many were long, or they took too much of the time -> THREAD

One commit that takes STALL_SECONDS ends TRIAL and LOOP at once: the disk may stall again.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from connector.base.backoff import Backoff

SHORT_SECONDS: Final = 0.0006
"""A commit on the loop that takes no longer is short."""
STALL_SECONDS: Final = 0.02
TRIAL_COMMITS: Final = 32
LONG_WEIGHT: Final = 16
"""A long commit weighs as much as this many short ones: more than 1 in 17 are too many."""
LONG_MAX: Final = 8 * LONG_WEIGHT
"""How many long commits beyond their share are borne; a trial bears a quarter of it."""
SHARE_MAX: Final = 0.25
"""Of the time, for commits on the loop, over SHARE_SECONDS."""
SHARE_SECONDS: Final = 1.0
SETTLED_SECONDS: Final = 60.0
"""Commits that stayed on the loop for so long begin with the shortest rest again."""
REST: Final = Backoff(min_s=1.0, max_s=64.0)
"""Before the next trial, after so many that did not last."""
LOOP_OCTETS_MAX: Final = 256 << 10
"""What writes more is made in the thread, whatever the disk."""


class Phase(Enum):
    """Where commits are made."""

    THREAD = "thread"
    TRIAL = "trial"
    LOOP = "loop"


class Pace:
    """The decision for one file. `now_s` is of a monotonic clock."""

    def __init__(self, now_s: float) -> None:
        self.phase = Phase.THREAD
        self._failures = 0
        """Trials and stays on the loop that ended early, one after the other."""
        self._since_s = now_s
        """When the phase began."""
        self._rest_s = 0.0
        self._short = 0
        """Short commits of this trial."""
        self._long = 0
        """Weight of long commits beyond their share."""
        self._window_s = now_s
        self._spent_s = 0.0
        """On the loop since `_window_s`."""

    def is_on_loop(self, now_s: float) -> bool:
        """Whether a commit is to be made on the loop now."""
        if self.phase is not Phase.THREAD:
            return True
        if now_s - self._since_s < self._rest_s:
            return False
        self._enter(Phase.TRIAL, now_s)
        return True

    def took(self, began_s: float, ended_s: float) -> bool:
        """Take note of a commit on the loop; returns whether the next ones are made in the thread."""
        assert self.phase is not Phase.THREAD, "a commit on the loop"
        taken_s = ended_s - began_s
        assert taken_s >= 0, taken_s
        if ended_s - self._window_s >= SHARE_SECONDS:
            self._window_s, self._spent_s = began_s, 0.0
        self._spent_s += taken_s
        if taken_s <= SHORT_SECONDS:
            self._long = max(0, self._long - 1)
            self._short += 1
        else:
            self._long += LONG_WEIGHT
        is_trial = self.phase is Phase.TRIAL
        if (
            taken_s >= STALL_SECONDS
            or self._long > (LONG_MAX // 4 if is_trial else LONG_MAX)
            or self._spent_s > SHARE_MAX * SHARE_SECONDS
        ):
            self._leave(ended_s)
            return True
        if is_trial and self._short >= TRIAL_COMMITS:
            self._enter(Phase.LOOP, ended_s)
        return False

    def _leave(self, now_s: float) -> None:
        if self.phase is Phase.LOOP and now_s - self._since_s >= SETTLED_SECONDS:
            self._failures = 0
        self._failures += 1
        self._rest_s = REST.grown_s(self._failures)
        self._enter(Phase.THREAD, now_s)

    def _enter(self, phase: Phase, now_s: float) -> None:
        self.phase = phase
        self._since_s = now_s
        self._short = self._long = 0
