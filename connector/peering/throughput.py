"""How much value may pass in one direction within a time: a bucket that leaks. Pure; integers only.

A limit of N per window lets N pass at once, and then N for each window, evenly. So within any window
at most 2 N pass, over long times N per window. What all send to one next hop is shared between those who do (`Shares`).
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

    def add(self, amount: int, limit: int, window_ms: int, now_ms: int) -> None:
        """`take`, whether it may or not: the limit says only how fast it leaks."""
        self._leak(limit, window_ms, now_ms)
        self._used += amount * window_ms

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


SharesState = tuple[State, dict[str, tuple[State, int]]]
"""Of `Shares`: of the whole, and of each sender with when it was seen last."""


class _Sender:
    __slots__ = ("at_ms", "own")

    def __init__(self, at_ms: int) -> None:
        self.at_ms = at_ms
        """When it has sent something last, refused or not."""
        self.own = Throughput()


class Shares:
    """A limit that several senders share: whoever is alone has all of it, and nobody keeps the others out.

    Among N senders that were seen within a window each has an Nth; what one has taken leaks as fast as its share. Who has taken more is
    let through as long as half of such a share is free after that, for the others.
    """

    __slots__ = ("_senders", "all")

    def __init__(self) -> None:
        self.all = Throughput()
        self._senders: dict[str, _Sender] = {}
        """By id; who was seen last is the last one."""

    def take(self, sender: str, amount: int, limit: int, window_ms: int, now_ms: int) -> bool:
        """See `Throughput.take`; `sender`: whose packet it is."""
        one = self._seen(sender, window_ms, now_ms)
        count = len(self._senders)
        share = limit // count
        if (
            count > 1
            and one.own.left(share, window_ms, now_ms) < amount
            and self.all.left(limit, window_ms, now_ms) - amount < share // 2
        ):
            self.all.refused += 1
            return False
        if not self.all.take(amount, limit, window_ms, now_ms):
            return False
        one.own.add(amount, share, window_ms, now_ms)
        return True

    def give_back(
        self, sender: str, amount: int, limit: int, window_ms: int, taken_ms: int, now_ms: int
    ) -> None:
        """See `Throughput.give_back`."""
        self.all.give_back(amount, limit, window_ms, taken_ms, now_ms)
        one = self._senders.get(sender)
        if one is not None:
            share = limit // len(self._senders)
            one.own.give_back(amount, share, window_ms, taken_ms, now_ms)

    def left(self, limit: int, window_ms: int, now_ms: int) -> int:
        """See `Throughput.left`: for all together."""
        return self.all.left(limit, window_ms, now_ms)

    @property
    def refused(self) -> int:
        """Packets that were refused."""
        return self.all.refused

    def _seen(self, sender: str, window_ms: int, now_ms: int) -> _Sender:
        senders = self._senders
        one = senders.pop(sender, None)
        if one is None or abs(now_ms - one.at_ms) > window_ms:
            one = _Sender(now_ms)  # all that it had has leaked
        one.at_ms = now_ms
        while senders:
            oldest = next(iter(senders))
            if abs(now_ms - senders[oldest].at_ms) <= window_ms:
                break
            del senders[oldest]
        senders[sender] = one
        return one

    def state(self) -> SharesState:
        """All of it, for `restore`."""
        senders = {name: (one.own.state(), one.at_ms) for name, one in self._senders.items()}
        return self.all.state(), senders

    def restore(self, state: SharesState) -> None:
        """Undo all since `state` was taken."""
        whole, senders = state
        self.all.restore(whole)
        self._senders = {}
        for name, (own, at_ms) in senders.items():
            one = self._senders[name] = _Sender(at_ms)
            one.own.restore(own)
