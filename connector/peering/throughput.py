"""How much value may pass in one direction within a time: a bucket that leaks. Pure; integers only.

A limit of N per window lets N pass at once, and then N for each window, evenly. So within any window
at most 2 N pass, over long times N per window.
"""

from __future__ import annotations

State = tuple[int, int, int, int]
"""Of a `Throughput`: see its slots."""


class Throughput:
    """What has passed and has not leaked yet. Limit and window come with each call: they may change."""

    __slots__ = ("_at_ms", "_used", "_window_ms", "refused")

    def __init__(self) -> None:
        self._at_ms = 0
        self._used = 0
        """Units times `_window_ms`, so that each millisecond leaks a whole number: the limit."""
        self._window_ms = 1
        self.refused = 0
        """Packets that were refused."""

    def take(self, amount: int, limit: int, window_ms: int, now_ms: int) -> bool:
        """Let `amount` pass, if it may.

        Args:
            amount: in units of the peer's asset, above zero.
            limit: units per window.
            window_ms: above zero.
            now_ms: milliseconds since the epoch; an earlier time than before counts as the same, unless it is
                earlier by more than the window.
        """
        assert amount > 0, amount
        self._leak(limit, window_ms, now_ms)
        used = self._used + amount * window_ms
        if used > limit * window_ms:
            self.refused += 1
            return False
        self._used = used
        return True

    def give_back(
        self, amount: int, limit: int, window_ms: int, taken_ms: int, now_ms: int
    ) -> None:
        """It did not pass after all: give back what has not leaked since it was taken.

        As if all that has leaked since had been of this amount, so never more than it still takes up.
        """
        self._leak(limit, window_ms, now_ms)
        leaked = max(0, now_ms - taken_ms) * limit
        self._used = max(0, self._used - max(0, amount * window_ms - leaked))

    def left(self, limit: int, window_ms: int, now_ms: int) -> int:
        """What may pass now, in units."""
        self._leak(limit, window_ms, now_ms)
        return max(0, limit * window_ms - self._used) // window_ms

    def _leak(self, limit: int, window_ms: int, now_ms: int) -> None:
        assert window_ms > 0, window_ms
        if window_ms != self._window_ms:
            # The window was changed: the same units in the new measure, rounded up.
            self._used = -(-self._used * window_ms // self._window_ms)
            self._window_ms = window_ms
        elapsed_ms = now_ms - self._at_ms
        if elapsed_ms > 0:
            self._used = max(0, self._used - elapsed_ms * limit)
            self._at_ms = now_ms
        elif elapsed_ms < -window_ms:
            # The clock was set back: waiting until it is there again could take for ever.
            self._at_ms = now_ms
        assert self._used >= 0, self._used

    def state(self) -> State:
        """All of it, for `restore`."""
        return self._at_ms, self._used, self._window_ms, self.refused

    def restore(self, state: State) -> None:
        """Undo all since `state` was taken."""
        self._at_ms, self._used, self._window_ms, self.refused = state
