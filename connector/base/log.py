"""Structured logs: JSON lines or a readable console, secrets redacted, rates limited.

Lines are written by a thread (`log_sink`): logging never waits for the reader of the log.

`error` is for bugs of this program; what a peer or the network can cause is at most `warning`.
"""

from __future__ import annotations

import atexit
import logging
import re
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any, Final, Protocol, TextIO, cast

import structlog

from connector.base.log_sink import LogSink

_SECRET_NAMES: Final = re.compile(r"secret|token|password|api_?key|authorization", re.IGNORECASE)
REDACTED: Final = "[redacted]"


class Log(Protocol):
    """What the package uses of structlog."""

    def debug(self, event: str, **fields: Any) -> Any:
        """Details for developers."""

    def info(self, event: str, **fields: Any) -> Any:
        """Information for an operator."""

    def warning(self, event: str, **fields: Any) -> Any:
        """Something that an operator should check."""

    def error(self, event: str, **fields: Any) -> Any:
        """A bug of this program."""


def _camel_case(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(part.title() for part in rest)


def _fields(
    _logger: Any, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    return shown_fields(event)


def shown_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Camel-case names as in telemetry; values of fields with secret-sounding names are redacted."""
    return {
        _camel_case(name): REDACTED if _SECRET_NAMES.search(name) and value else value
        for name, value in fields.items()
    }


def set_up(level: str, log_format: str, node_id: str) -> Log:
    """Configure logging to stderr; returns the log that every part receives.

    `log_format` is `json`, `console`, or empty: console on a terminal, else json.
    """
    if not log_format:
        log_format = "console" if sys.stderr.isatty() else "json"
    sink = _sink_of_stderr()
    number = logging.getLevelNamesMapping()[level.upper()]
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if log_format == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            _fields,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(cast(TextIO, sink)),
        cache_logger_on_first_use=False,
    )
    log: Log = structlog.get_logger().bind(node_id=node_id)
    sink.on_recovery = lambda lost: log.warning("log_lines_lost", lines=lost)
    # Libraries use the standard module: their warnings and errors go to the same log.
    logging.basicConfig(level=logging.WARNING, handlers=[_Libraries(log)], force=True)
    for name in ("websockets", "uvicorn", "httpx"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    return log


_sinks: Final[list[LogSink]] = []
"""The sink of standard error: one, once logging is set up."""


def _sink_of_stderr() -> LogSink:
    if _sinks and _sinks[0].stream is sys.stderr:
        return _sinks[0]
    while _sinks:
        _sinks.pop().close()  # tests replace `sys.stderr`
    sink = LogSink(sys.stderr)
    _sinks.append(sink)
    return sink


@atexit.register
def drain() -> None:
    """Wait, for a bounded time, until all lines are written: before a process prints or ends."""
    for sink in _sinks:
        sink.drain()


class _Libraries(logging.Handler):
    """Forwards log records of libraries as lines of this log."""

    def __init__(self, log: Log) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line; `detail` is the library's text."""
        say = self._log.error if record.levelno >= logging.ERROR else self._log.warning
        say(
            "library_message",
            library=record.name,
            detail=record.getMessage(),
            exc_info=record.exc_info or None,
        )


class Sampler:
    """Passes a bounded number of lines of one kind per second and counts the others."""

    def __init__(self, per_second_max: int) -> None:
        self._max = per_second_max
        self._second = 0
        self._count = 0
        self._suppressed = 0

    def allow(self, now_s: float) -> int | None:
        """None: suppress this line. Else the number suppressed since the last line."""
        second = int(now_s)
        if second != self._second:
            self._second = second
            self._count = 0
        if self._count >= self._max:
            self._suppressed += 1
            return None
        self._count += 1
        suppressed, self._suppressed = self._suppressed, 0
        return suppressed
