"""How large the packets of a payment are, and how many are in flight. Pure.

Both follow the rule of TCP: a little more for every packet that passes (additive increase), half when
one is refused for want of room (multiplicative decrease). Packets that were sent before a decrease
say nothing new, so they cause no further one.
"""

from __future__ import annotations

import struct
from typing import Final

from connector.stream import bounds

_TOO_LARGE: Final = struct.Struct(">QQ")


class PacketSize:
    """The largest amount of a packet, as far as it is known."""

    def __init__(self, amount: int) -> None:
        """`amount`: of the whole payment."""
        self.hard = amount
        """No larger one passes: connectors on the way have said so (F08)."""
        self.now = amount
        """The largest that is sent now; below `hard` after a want of liquidity (T04)."""

    def too_large(self, amount: int, data: bytes) -> None:
        """A packet of `amount` was too large (F08); `data` of the Reject tells by how much."""
        limit = amount // 2
        if len(data) >= _TOO_LARGE.size:
            received, maximum = _TOO_LARGE.unpack_from(data)
            if 0 < maximum < received:
                # In another asset than ours: by proportion.
                limit = amount * maximum // received
        self.hard = min(self.hard, max(1, limit), max(1, amount - 1))
        self.now = min(self.now, self.hard)

    def no_liquidity(self, amount: int) -> None:
        """A packet of `amount` was refused with T04."""
        self.now = min(self.now, max(1, amount // 2))

    def passed(self, amount: int) -> None:
        """A packet of `amount` was fulfilled."""
        if self.now < self.hard:
            self.now = min(self.hard, self.now + max(1, amount // 10))

    def next(self, left: int) -> int:
        """The amount of the next packet of `left`: all are about equal, so that none is tiny at the end."""
        count = -(-left // self.now)
        return -(-left // count)


class Window:
    """How many packets may be in flight, and the pause after refusals."""

    def __init__(self) -> None:
        self.size = float(bounds.WINDOW_FIRST)
        self.pause_until_ms = 0
        """Nothing is sent before; zero: at once."""
        self._pause_ms = bounds.PAUSE_MS_MIN
        self._starts = True
        """Whether it grows by one for each packet, until the first refusal."""
        self._cut_at = -1
        """Sequence at the last decrease: earlier packets cause no further one."""

    def passed(self) -> None:
        """A packet was fulfilled."""
        self._pause_ms = bounds.PAUSE_MS_MIN
        gain = 1.0 if self._starts else 1.0 / self.size
        self.size = min(float(bounds.WINDOW_MAX), self.size + gain)

    def refused(self, sequence: int, last_sequence: int, now_ms: int) -> bool:
        """A packet was refused for now; whether this was the first of its window."""
        if sequence <= self._cut_at:
            return False
        self._cut_at = last_sequence
        self._starts = False
        self.size = max(1.0, self.size / 2)
        self.pause_until_ms = now_ms + self._pause_ms
        self._pause_ms = min(bounds.PAUSE_MS_MAX, self._pause_ms * 2)
        return True
