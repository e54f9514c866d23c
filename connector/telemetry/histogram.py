"""Histograms in plain integers. Compiled where supported: every packet is counted in one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

LATENCY_BUCKETS_S: Final[Sequence[float]] = (
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
)  # fmt: skip


class Histogram:
    """A histogram with fixed buckets."""

    __slots__ = ("bounds", "buckets", "count", "sum")

    def __init__(self, upper: Sequence[float]) -> None:
        self.bounds = [float(bound) for bound in upper]
        """The upper bound of each bucket; one more bucket is above the last."""
        self.buckets = [0] * (len(upper) + 1)
        self.count = 0
        self.sum = 0.0

    def observe(self, number: float) -> None:
        """Count one."""
        # `bisect_left`, without a call.
        upper = self.bounds
        low, high = 0, len(upper)
        while low < high:
            middle = (low + high) >> 1
            if upper[middle] < number:
                low = middle + 1
            else:
                high = middle
        self.buckets[low] += 1
        self.count += 1
        self.sum += number


class Latency(Histogram):
    """Seconds from receiving a Prepare to answering it."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(LATENCY_BUCKETS_S)
