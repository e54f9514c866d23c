"""The process of a command: Ctrl-C, and a standard output that is full or that has no reader left.

The one place for both. It loads next to nothing: `__main__` calls it before everything else.

Ctrl-C ends every command with exit code 130, quietly: while modules are loaded as well as later.
SIGTERM, SIGHUP and SIGUSR2 end one that does not handle them, or not yet, with 128 and their number:
also as process 1, where the kernel would ignore them. SIGHUP is left alone where it is ignored (`nohup`).
SIGUSR1 is ignored: it asks many programs to open their log again, and would end this one.
Commands that print what they have done so far catch it themselves (`common.stopped_by_signal`), and so
do those that are meant to run until Ctrl-C, whose exit code it is not: `run` and `demo --keep`.
"""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Final

from connector.base.errors import EnvironmentFault

EXIT_INTERRUPTED: Final = 130
"""128 and the number of SIGINT, as shells have it."""
_EXIT_SIGNALLED: Final = 128
_STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2)
"""What `run` stops on, once it runs; Ctrl-C is apart, since it becomes an exception when all is loaded."""


class OutputError(EnvironmentFault):
    """Standard output cannot be written, because the disk is full for example."""


class Output(io.TextIOWrapper):
    """Standard output.

    When its reader goes away (`| head -1`) what follows is dropped: what a command does and its exit
    code do not depend on its reader. `has_reader` is for commands that would never end.
    """

    has_reader = True

    def write(self, text: str, /) -> int:
        """See `io.TextIOWrapper`.

        Raises:
            OutputError: it cannot be written.
        """
        try:
            return super().write(text)
        except OSError as error:
            self._failed(error)
            return len(text)

    def flush(self) -> None:
        """See `io.TextIOWrapper`.

        Raises:
            OutputError: it cannot be written.
        """
        try:
            super().flush()
        except OSError as error:
            self._failed(error)

    def _failed(self, error: OSError) -> None:
        # What is buffered would fail again, at the latest when the interpreter ends.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.fileno())
        os.close(nowhere)
        if isinstance(error, BrokenPipeError):
            self.has_reader = False
            return
        raise OutputError(f"the output cannot be written: {error.strerror}") from None


def has_reader() -> bool:
    """Whether standard output may still be read."""
    return not isinstance(sys.stdout, Output) or sys.stdout.has_reader


def prepare() -> None:
    """Call it first: from now on signals end the process quietly, and output is an `Output`."""
    # Where SIGINT is ignored (`nohup`, a job in the background of a script), it stays so.
    if _in_main_thread() and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end)
    for number in _STOP_SIGNALS:
        if _in_main_thread() and signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _end)
    if _in_main_thread() and signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL:
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    out = sys.stdout
    if type(out) is io.TextIOWrapper:  # not what a test or another program put there
        sys.stdout = Output(
            out.buffer,
            encoding=out.encoding,
            errors=out.errors,
            line_buffering=out.line_buffering,
            write_through=out.write_through,
        )


def loaded() -> None:
    """Call it when all is loaded: from now on Ctrl-C is a `KeyboardInterrupt`."""
    if _in_main_thread() and signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def run(command: Callable[[], None]) -> None:
    """Run a command to its end, the writing of its output included.

    Raises:
        SystemExit: with its exit code.
    """
    try:
        try:
            command()
        finally:
            if sys.stdout is not None:  # None: it was closed, `>&-`
                sys.stdout.flush()
    except KeyboardInterrupt:
        raise SystemExit(EXIT_INTERRUPTED) from None
    except OutputError as error:
        with contextlib.suppress(OSError):
            print(f"connector: {error}", file=sys.stderr)
        raise SystemExit(1) from None


def _end(number: int, _frame: FrameType | None) -> None:
    # Nothing is open yet, or nothing that must be closed. An exception here could come out of any module that is being loaded.
    os._exit(_EXIT_SIGNALLED + number)


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
