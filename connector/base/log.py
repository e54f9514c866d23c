"""Structured logs: JSON lines or a readable console, secrets redacted, floods cut.

`error` is for our own impossible cases; what a peer or the network can cause is at most `warning`.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any, Final, Protocol

import structlog

_SECRET_NAMES: Final = re.compile(r"secret|token|password|api_?key|authorization", re.IGNORECASE)
REDACTED: Final = "[redacted]"


class Log(Protocol):
    """What the package uses of structlog."""

    def debug(self, event: str, **fields: Any) -> Any:
        """Details for developers."""

    def info(self, event: str, **fields: Any) -> Any:
        """What an operator wants to see."""

    def warning(self, event: str, **fields: Any) -> Any:
        """What an operator should look at."""

    def error(self, event: str, **fields: Any) -> Any:
        """Our own impossible cases."""


def _camel_case(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(part.title() for part in rest)


def _fields(
    _logger: Any, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Camel-case names as in telemetry; values of fields with secret-sounding names are redacted."""
    return {
        _camel_case(name): REDACTED if _SECRET_NAMES.search(name) and value else value
        for name, value in event.items()
    }


def set_up(level: str, log_format: str, node_id: str) -> Log:
    """Configure logging to stderr; returns the log that every part receives.

    `log_format` is `json`, `console`, or empty: console on a terminal, else json.
    """
    if not log_format:
        log_format = "console" if sys.stderr.isatty() else "json"
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
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    log: Log = structlog.get_logger().bind(node_id=node_id)
    # Libraries use the standard module: their warnings and errors go to the same place, same format.
    logging.basicConfig(level=logging.WARNING, handlers=[_Libraries(log)], force=True)
    for name in ("websockets", "uvicorn", "httpx"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    return log


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
