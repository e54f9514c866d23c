"""What a command that takes long says on stderr meanwhile."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator

from rich.console import Console

from connector.base.clock import Clock
from connector.cli import bounds


@contextlib.contextmanager
def told_of_progress(what: str, clock: Clock) -> Iterator[Callable[[int, int], None]]:
    """Gives a function that is told how many of `what` are done, and of how many, from any thread.

    Nothing is said of what takes less than a few seconds. Then a terminal has one line in its place; a
    log gets a line now and then.
    """
    screen = Console(stderr=True)
    room = screen.width - 1
    pause_s = bounds.PROGRESS_SECONDS if screen.is_terminal else bounds.PROGRESS_LINE_SECONDS
    began_s = clock.monotonic_s()
    next_s = began_s + bounds.PROGRESS_AFTER_SECONDS
    is_shown = False

    def tell(done: int, of: int) -> None:
        nonlocal next_s, is_shown
        now_s = clock.monotonic_s()
        if now_s < next_s or not done:
            return
        next_s = now_s + pause_s
        left_s = (now_s - began_s) * (of - done) / done
        line = f"{done} of {of} {what}, about {left_s:.0f} s left"
        if screen.is_terminal:
            is_shown = True
            print(f"\r{line[:room]:<{room}}", end="", file=sys.stderr, flush=True)
        else:
            print(line, file=sys.stderr, flush=True)

    try:
        yield tell
    finally:
        if is_shown:
            print(f"\r{'':<{room}}\r", end="", file=sys.stderr, flush=True)
