"""Commands of the command line, run in this process.

Same arguments, environment, output and exit code as `python -m connector`, without the start of an
interpreter, which takes a hundred times as long as most commands. What a command changes in its
process (environment, logging, garbage collection, signal handlers) is put back when it ends.
Tests of what only a process has (signals, options of the interpreter) start one.
"""

from __future__ import annotations

import contextlib
import gc
import io
import json
import logging
import os
import resource
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from typing import Any
from unittest import mock

import structlog
from typer import rich_utils

from connector.__main__ import main
from tests.support.inherited import INHERITED

SECRET = "hunter2"
"""Part of every secret of the command tests: no command may print it."""


class Done:
    """A command that has ended."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code = code
        self.out = out
        self.err = err
        assert "Traceback" not in out + err, err
        assert SECRET not in out + err, "the output contains a secret"

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def command(*arguments: str, env: Mapping[str, str] | None = None) -> Done:
    """Run a command to its end; `env` is added to what processes of tests get.

    An exception that a command does not turn into an exit code is raised here.
    """
    out, err = io.StringIO(), io.StringIO()
    environment = {**INHERITED, "COLUMNS": "200", **(env or {})}
    with (
        _kept_process_state(),
        mock.patch.dict(os.environ, environment, clear=True),
        mock.patch.object(sys, "argv", ["connector", *arguments]),
        # All that collecting the tests has made is frozen (tests/conftest.py) and stays so: else each
        # later test pays for garbage collections that look at all of it.
        mock.patch.object(gc, "freeze"),
        mock.patch.object(gc, "unfreeze"),
        # Read from the environment when typer is imported: colours of a hosted runner.
        mock.patch.object(rich_utils, "FORCE_TERMINAL", None),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        code = _exit_code(err)
    return Done(code, out.getvalue(), err.getvalue())


def _exit_code(err: io.StringIO) -> int:
    try:
        main()
    except SystemExit as ended:
        if isinstance(ended.code, str):  # as the interpreter does it
            print(ended.code, file=err)
            return 1
        return ended.code or 0
    return 0


@contextlib.contextmanager
def _kept_process_state() -> Iterator[None]:
    collects, thresholds = gc.isenabled(), gc.get_threshold()
    switch_interval = sys.getswitchinterval()
    open_files = resource.getrlimit(resource.RLIMIT_NOFILE)
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2)
    handlers = {number: signal.getsignal(number) for number in numbers}
    root = logging.getLogger()
    log_handlers, log_level = root.handlers[:], root.level
    levels = {name: logging.getLogger(name).level for name in ("websockets", "uvicorn", "httpx")}
    structured = structlog.get_config()
    try:
        yield
    finally:
        structlog.configure(**structured)
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
        root.handlers[:] = log_handlers
        root.setLevel(log_level)
        if threading.current_thread() is threading.main_thread():
            for number, handler in handlers.items():
                signal.signal(number, handler)
        resource.setrlimit(resource.RLIMIT_NOFILE, open_files)
        sys.setswitchinterval(switch_interval)
        gc.set_threshold(*thresholds)
        (gc.enable if collects else gc.disable)()
