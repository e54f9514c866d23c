"""The process of an audit that a running node was asked for (`node.auditor`).

Settings come on standard input, pickled by the node that has started it; progress, and at the end the report
or what went wrong, go to standard output as lines of JSON. It runs with a low priority.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import pickle
import sys
from typing import Any, Final

import structlog

from connector.base.clock import SystemClock
from connector.base.errors import ConnectorError
from connector.settings.model import Settings
from connector.tools.audit import audit

_NICE: Final = 10


def main() -> None:
    """Audit, once."""
    os.nice(_NICE)
    logging.basicConfig(level=logging.CRITICAL)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    # Of our own parent, over a pipe that nobody else has.
    settings = pickle.loads(sys.stdin.buffer.read())  # noqa: S301
    assert isinstance(settings, Settings)
    try:
        report = asyncio.run(audit(settings, SystemClock(), on_progress=_progress))
    except ConnectorError as error:
        _say({"error": str(error)})
        return
    _say({"report": report.as_json()})


def _progress(done: int, of: int) -> None:
    _say({"done": done, "of": of})


def _say(what: dict[str, Any]) -> None:
    print(json.dumps(what), flush=True)  # noqa: T201 - it is read by the node


if __name__ == "__main__":
    main()
