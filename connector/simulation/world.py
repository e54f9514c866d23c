"""Virtual time and the processes that live in it.

A `World` has one clock, one queue of timers and any number of processes. Each process has its own
event loop, so that it can be paused, or killed between any two callbacks without running any more
of its code: no `finally`, no cancellation. Nothing waits in real time, and no system call is made.

Events are ordered by time, then by the order of scheduling; random numbers come from streams seeded
by name. So a seed gives the same run under every hash seed.
"""

from __future__ import annotations

import asyncio
import gc
import random
import sys
from asyncio.events import _get_running_loop, _set_running_loop
from collections import deque
from collections.abc import Callable, Coroutine
from heapq import heappop, heappush
from typing import Any, Final, TypeVar

T = TypeVar("T")

START_NS: Final = 1_767_225_600_000_000_000
"""Nanoseconds since the epoch when a world begins: 2026-01-01."""
_NS: Final = 1_000_000_000
CALLBACKS_AT_ONCE_MAX: Final = 2_000_000
"""More callbacks at one virtual time mean that the process spins."""
CANCELLATIONS_MAX: Final = 100
"""How often the tasks of a world that has ended are cancelled, until they are done."""


class NothingWillHappenError(AssertionError):
    """Every process waits, and there is no timer left."""


class SpinsError(AssertionError):
    """A process runs without end at one virtual time."""


_Event = tuple[float, int, "ProcessLoop | None", Any, tuple[Any, ...]]


class World:
    """Time, timers, random streams and processes."""

    def __init__(self, seed: int) -> None:
        self.seed: Final = seed
        self.now_s = 0.0
        """Virtual seconds since the beginning."""
        self.events = 0
        """How many timers have fired."""
        self._heap: list[_Event] = []
        self._sequence = 0
        self._runnable: deque[ProcessLoop] = deque()
        self._loops: list[ProcessLoop] = []

    def random(self, name: str) -> random.Random:
        """A random stream of its own, independent of all others."""
        return random.Random(f"{self.seed}/{name}")  # noqa: S311 - to be repeated, not to be secret

    def at(self, when_s: float, call: Callable[..., object], *args: Any) -> None:
        """Call at a virtual time, outside all processes."""
        self._sequence += 1
        heappush(self._heap, (when_s, self._sequence, None, call, args))

    def after(self, seconds: float, call: Callable[..., object], *args: Any) -> None:
        """Call after so many virtual seconds, outside all processes."""
        self.at(self.now_s + seconds, call, *args)

    def push_timer(self, when_s: float, loop: ProcessLoop, handle: Handle) -> None:
        """For `ProcessLoop`."""
        self._sequence += 1
        heappush(self._heap, (when_s, self._sequence, loop, handle, ()))

    def wake(self, loop: ProcessLoop) -> None:
        """For `ProcessLoop`: it has something to run."""
        self._runnable.append(loop)

    def new_process(self, name: str) -> ProcessLoop:
        """The event loop of a process that starts now."""
        loop = ProcessLoop(self, name)
        self._loops.append(loop)
        return loop

    def run_until(self, done: Callable[[], bool], deadline_s: float) -> bool:
        """Run until `done()` or the deadline; returns whether `done()` was true.

        Raises:
            NothingWillHappenError: no timer is left.
            SpinsError: a process never waits.
        """
        heap, runnable = self._heap, self._runnable
        while True:
            while runnable:
                runnable.popleft().run_ready()
            if done():
                return True
            if not heap:
                raise NothingWillHappenError
            when_s, _, loop, what, args = heappop(heap)
            if when_s > deadline_s:
                heappush(heap, (when_s, _, loop, what, args))
                self.now_s = deadline_s
                return False
            self.now_s = max(self.now_s, when_s)
            self.events += 1
            if loop is None:
                what(*args)
            else:
                loop.due(what)

    def close(self) -> None:
        """End all processes; the coroutines of killed ones are closed here, without effect."""
        hook = sys.unraisablehook
        sys.unraisablehook = lambda _unraisable: None
        try:
            for loop in self._loops:
                loop.bury()
            self._loops.clear()
            self._heap.clear()
            self._runnable.clear()
            gc.collect()
        finally:
            sys.unraisablehook = hook


class Handle:
    """A callback that is to come, as far as asyncio's parts use `asyncio.Handle`.

    Callbacks run without a context of their own: nothing in a node keeps anything there.
    """

    __slots__ = ("args", "call")

    def __init__(self, call: Callable[..., object], args: tuple[Any, ...]) -> None:
        self.call: Callable[..., object] | None = call
        self.args = args

    def cancel(self) -> None:
        """See `asyncio.Handle`."""
        self.call = None
        self.args = ()

    def cancelled(self) -> bool:
        """See `asyncio.Handle`."""
        return self.call is None


class ProcessLoop:
    """The event loop of one process, as far as asyncio's own parts use one."""

    def __init__(self, world: World, name: str) -> None:
        self.world: Final = world
        self.name: Final = name
        self.alive = True
        """Whether it has not been killed and has not ended."""
        self._self: Any = self
        """Passed to asyncio as a complete event loop."""
        self.faults: list[BaseException] = []
        """Uncaught exceptions of callbacks and tasks."""
        self._ready: deque[Handle] = deque()
        self._dropped: list[Handle] = []
        """Callbacks that a killed process did not run."""
        self._paused = False
        self._queued = False
        self._runs = False
        self._buried = False
        self._tasks: list[asyncio.Task[Any]] = []
        self._prune_at = 256

    # --- life and death

    def kill(self) -> None:
        """Run no more of its code."""
        self.alive = False
        self._dropped.extend(self._ready)
        self._ready.clear()

    @property
    def paused(self) -> bool:
        """Whether it is stopped for a while (SIGSTOP)."""
        return self._paused

    def pause(self) -> None:
        """Run none of its code until `go_on`; timers that expire meanwhile fire late."""
        self._paused = True

    def go_on(self) -> None:
        """Run what has become due."""
        self._paused = False
        if self._ready:
            self._wake()

    def bury(self) -> None:
        """After the end of the world: cancel all tasks, and ignore their results."""
        self.alive = self._paused = False
        # A task whose wake-up was dropped cannot be cancelled without it.
        self._ready.extend(self._dropped)
        self._dropped.clear()
        self._buried = True
        for _ in range(CANCELLATIONS_MAX):
            tasks = [task for task in self._tasks if not task.done()]
            if not tasks:
                break
            for task in tasks:
                task.cancel()
            self._run_all()
        self._buried = False
        self._tasks.clear()
        self.faults.clear()

    # --- running

    def run_ready(self) -> None:
        """Run until no callback is ready."""
        self._queued = False
        if not self._paused and self.alive:
            self._run_all()

    def _run_all(self) -> None:
        """Run what is ready, perhaps while another process is in the middle of a step.

        A fault may strike at a step of one process, and other processes see its effect at once.
        """
        if self._runs:
            return  # it is itself in the middle of a step: the rest comes after that
        ready = self._ready
        self._queued = self._runs = True  # what is added meanwhile is run here
        other = _get_running_loop()
        _set_running_loop(self._self)
        try:
            count = 0
            while ready:
                handle = ready.popleft()
                call = handle.call
                if call is None:
                    continue
                try:
                    call(*handle.args)
                except (SystemExit, KeyboardInterrupt):
                    # Kept by a task that Ctrl-C has interrupted, and given to its parent.
                    if not self._buried:
                        raise
                except BaseException as error:  # noqa: BLE001 - as an event loop does
                    if self.alive:
                        self.faults.append(error)
                count += 1
                if count > CALLBACKS_AT_ONCE_MAX:
                    raise SpinsError(f"{self.name} runs {call!r}, and time stands still")
        finally:
            _set_running_loop(other)
            self._queued = self._runs = False

    def due(self, handle: Handle) -> None:
        """One of its timers has expired."""
        if self.alive and handle.call is not None:
            self._ready.append(handle)
            if not self._paused:
                self._run_all()

    def run_now(self, call: Callable[..., object], *args: Any) -> None:
        """Run `call` now, or when its pause is over: an event from outside."""
        if not self.alive:
            return
        self._ready.append(Handle(call, args))
        if not self._paused:
            self._run_all()

    def _wake(self) -> None:
        if not self._queued and not self._paused:
            self._queued = True
            self.world.wake(self)

    # --- the part of the event loop interface that asyncio uses

    def time(self) -> float:
        """See `asyncio`."""
        return self.world.now_s

    def call_soon(
        self,
        callback: Callable[..., object],
        *args: Any,
        context: object = None,
    ) -> Handle:
        """See `asyncio`."""
        handle = Handle(callback, args)
        if self.alive:
            self._ready.append(handle)
            if not self._queued:
                self._wake()
        else:
            (self._ready if self._buried else self._dropped).append(handle)
        return handle

    def call_soon_threadsafe(
        self,
        callback: Callable[..., object],
        *args: Any,
        context: object = None,
    ) -> Handle:
        """See `asyncio`."""
        return self.call_soon(callback, *args)

    def call_later(
        self,
        delay: float,
        callback: Callable[..., object],
        *args: Any,
        context: object = None,
    ) -> Handle:
        """See `asyncio`."""
        handle = Handle(callback, args)
        if self.alive:
            world = self.world
            world.push_timer(world.now_s + delay, self, handle)
        return handle

    def call_at(
        self,
        when: float,
        callback: Callable[..., object],
        *args: Any,
        context: object = None,
    ) -> Handle:
        """See `asyncio`."""
        handle = Handle(callback, args)
        if self.alive:
            self.world.push_timer(when, self, handle)
        return handle

    def create_future(self) -> asyncio.Future[Any]:
        """See `asyncio`."""
        return asyncio.Future(loop=self._self)

    def create_task(
        self,
        coro: Coroutine[Any, Any, T],
        *,
        name: str | None = None,
        context: Any = None,
        **_options: Any,
    ) -> asyncio.Task[T]:
        """See `asyncio`."""
        task: asyncio.Task[T] = asyncio.Task(coro, loop=self._self, name=name, context=context)
        # Keep a reference: if the coroutines of a killed process were collected, their `finally`
        # blocks would run.
        self._tasks.append(task)
        if len(self._tasks) > self._prune_at:
            self._tasks = [one for one in self._tasks if not one.done()]
            self._prune_at = max(256, 2 * len(self._tasks))
        return task

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """See `asyncio`."""
        error = context.get("exception")
        if self.alive and isinstance(error, BaseException):
            self.faults.append(error)

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        """See `asyncio`."""
        self.call_exception_handler(context)

    def get_debug(self) -> bool:
        """See `asyncio`."""
        return False

    def is_running(self) -> bool:
        """See `asyncio`."""
        return True

    def is_closed(self) -> bool:
        """See `asyncio`."""
        return False


class NodeClock:
    """The clock of a machine in a world; its wall clock may be wrong and may jump."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.offset_ns = 0

    def now_ns(self) -> int:
        """See `Clock`."""
        return START_NS + self.offset_ns + int(self._world.now_s * _NS)

    def now_ms(self) -> int:
        """See `Clock`."""
        return self.now_ns() // 1_000_000

    def monotonic_s(self) -> float:
        """See `Clock`."""
        return self._world.now_s

    def monotonic_ns(self) -> int:
        """The same in nanoseconds."""
        return int(self._world.now_s * _NS)

    def jump(self, seconds: float) -> None:
        """Set the wall clock forward, or back."""
        self.offset_ns += round(seconds * _NS)
