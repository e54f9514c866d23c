"""Packets in small portions for as long as a block runs, and what became of each portion.

async with load(sender_url, secret, "g.peer3") as portions:
    server.kill()
    ...
assert all(not portion.rejected for portion in portions)
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import structlog

from connector.base.clock import SystemClock
from connector.tools.sender import Order, Sender

CLOCK = SystemClock()
QUIET = structlog.wrap_logger(
    structlog.PrintLogger(), wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING)
)
PATIENCE_SECONDS = 90.0


@dataclass(slots=True, frozen=True)
class Portion:
    """Some packets that were sent together."""

    began_s: float
    """By the event loop's clock."""
    ended_s: float
    sent: int
    fulfilled: int
    rejected: dict[str, int]
    messages: dict[str, str]
    slowest_ms: float

    @property
    def whole(self) -> bool:
        """Whether every packet was fulfilled."""
        return self.fulfilled == self.sent


class Portions(list[Portion]):
    """What has been sent so far."""

    def __init__(self) -> None:
        super().__init__()
        self._more = asyncio.Event()

    def add(self, portion: Portion) -> None:
        self.append(portion)
        self._more.set()

    async def next(self, fits: Callable[[Portion], bool]) -> Portion:
        """The first portion from now on that fits."""
        at = len(self)
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                for portion in self[at:]:
                    if fits(portion):
                        return portion
                at = len(self)
                self._more.clear()
                await self._more.wait()

    async def whole(self, count: int = 1) -> None:
        """Wait for so many more portions without a reject, in a row."""
        in_a_row = 0
        while in_a_row < count:
            portion = await self.next(lambda _: True)
            in_a_row = in_a_row + 1 if portion.whole else 0

    @property
    def fulfilled(self) -> int:
        return sum(portion.fulfilled for portion in self)

    @property
    def rejected(self) -> Counter[str]:
        total: Counter[str] = Counter()
        for portion in self:
            total.update(portion.rejected)
        return total

    @property
    def slowest_ms(self) -> float:
        return max(portion.slowest_ms for portion in self)


@asynccontextmanager
async def load(
    url: str,
    token: str,
    destination: str,
    *,
    amount: int = 7,
    count: int = 200,
    window: int = 50,
    sender: str = "sender",
    expiry_s: float = 30.0,
) -> AsyncIterator[Portions]:
    """Keep sending while the block runs; the last portion is waited for."""
    portions = Portions()
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()

    async def send() -> None:
        while not stopped.is_set():
            source = Sender(url=url, username=sender, token=token, clock=CLOCK, log=QUIET)
            began_s = loop.time()
            order = Order(
                destination=destination,
                amount=amount,
                count=count,
                window=window,
                expiry_s=expiry_s,
            )
            report = await source.send(order)
            portion = Portion(
                began_s, loop.time(), order.count, report.fulfilled, dict(report.rejected),
                dict(report.messages), report.percentile(1.0),
            )  # fmt: skip
            portions.add(portion)
            # Rejects come at once: without a pause an outage would be millions of them, and what is
            # to come back would have no processor left for that.
            await asyncio.sleep(0.02 if portion.whole else 0.1)

    async with asyncio.TaskGroup() as group:
        sending = group.create_task(send())
        try:
            await portions.next(lambda portion: portion.whole)
            yield portions
        except BaseException:
            sending.cancel()
            raise
        stopped.set()
