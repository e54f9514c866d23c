"""Simulated time: the clock advances only when no task is ready.

`simulate` runs a coroutine on an event loop whose clock stands still while a task is ready, and
jumps to the next timer otherwise. An hour of sleeps takes no real time, every run is the same, and a
wait without a timer to end it is an error at once. `ManualClock`, which is set by hand, is in
`tests.support.ledgers`.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, TypeVar

from tests.support.ledgers import NS, START_NS

T = TypeVar("T")


class NothingWillHappenError(AssertionError):
    """Every task waits, and there is no timer to wake one."""


class _Selector(selectors.SelectSelector):
    """Instead of waiting, puts the loop's clock forward."""

    loop: SimulatedLoop

    def select(self, timeout: float | None = None) -> list[Any]:
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        if timeout is None:
            raise NothingWillHappenError
        self.loop.now_s += timeout
        return ready


class SimulatedLoop(asyncio.SelectorEventLoop):
    """An event loop that never waits."""

    def __init__(self) -> None:
        self.now_s = 0.0
        selector = _Selector()
        selector.loop = self
        super().__init__(selector)

    def time(self) -> float:
        return self.now_s


class SimulatedClock:
    """The clock of a node in a simulation: the loop's time, counted from a fixed date."""

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self._loop = loop or asyncio.get_running_loop()

    def now_ns(self) -> int:
        return START_NS + round(self._loop.time() * NS)

    def now_ms(self) -> int:
        return self.now_ns() // 1_000_000

    def monotonic_s(self) -> float:
        return self._loop.time()


def simulate(main: Coroutine[Any, Any, T]) -> T:
    """Run `main` to its end in simulated time."""
    with asyncio.Runner(loop_factory=SimulatedLoop) as runner:
        return runner.run(main)


def simulated(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Decorator: run an async test in simulated time."""

    @wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        simulate(test(*args, **kwargs))

    return run
