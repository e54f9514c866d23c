"""Shared by several commands: options, exit codes, the event loop, requests to a node.

Exit codes are the same in all commands (README): 0 done; 1 it did not work, and may the next time;
2 the command line, the settings, a name or a key is wrong, and the same again fails the same way; 3
(`run` only) another process of this node has taken over; 130 interrupted with Ctrl-C (`run` and
`demo --keep` end with it: 0), other signals 128 and their number where no figures are printed.
"""

import asyncio
import contextlib
import logging
import math
import os
import re
import shlex
import signal
import sys
import threading
from collections.abc import Coroutine, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Optional

import structlog
import typer

from connector.base.errors import (
    ConfigError,
    ConnectorError,
    OperatorError,
    SupersededError,
)
from connector.base.stop import Stop

# What only some commands need is imported inside them: the daemon with its web framework, the
# settings and the HTTP client take half a second to load, longer than most commands run.

DEFAULT_URL = "http://127.0.0.1:8080"
_KEY_CHARACTERS_MAX: Final = 65_536


@dataclass(frozen=True, slots=True)
class ChosenNode:
    """The node of `--node`; the object of the root context."""

    name: str
    url: str
    key: str | None
    is_typed: bool
    """Whether it is of the command line, not of the environment."""


def _chosen(context: typer.Context) -> ChosenNode | None:
    found = context.find_root().obj
    return found if isinstance(found, ChosenNode) else None


def _is_typed(context: typer.Context, name: str) -> bool:
    return getattr(context.get_parameter_source(name), "name", "") == "COMMANDLINE"


def url_of(context: typer.Context, param: typer.CallbackParam, value: Any) -> Any:
    """Of options with the address of a node: that of --node, if it is given."""
    node = _chosen(context)
    if node is None:
        return value
    if _is_typed(context, param.name or ""):
        if node.is_typed:
            raise typer.BadParameter("--node and --url exclude each other")
        return value  # CONNECTOR_NODE is only a default
    return node.url


def key_of(context: typer.Context, param: typer.CallbackParam, value: Any) -> Any:
    """Of options with a key: that of --node, and never the key of another node from the environment."""
    node = _chosen(context)
    if _is_typed(context, param.name or ""):
        return value
    # Where --url is typed beside CONNECTOR_NODE, the key is of the environment as ever.
    if node is not None and not _is_typed(context, "url"):
        return node.key
    return value if value is not None else key_in_file(os.environ)


def key_in_file(environment: Mapping[str, str]) -> str | None:
    """The key in the file that ADMIN_API_KEY_FILE or READ_API_KEY_FILE names, as a node reads it.

    None without one that can be read: whether a key is needed says the node.
    """
    for name in ("ADMIN_API_KEY_FILE", "READ_API_KEY_FILE"):
        if path := environment.get(name):
            try:
                with Path(path).open(encoding="utf-8") as file:
                    return file.read(_KEY_CHARACTERS_MAX).strip() or None
            except (OSError, ValueError):
                continue
    return None


Url = Annotated[
    str,
    typer.Option(help="HTTP address of the node.", envvar="CONNECTOR_URL", callback=url_of),
]
Key = Annotated[
    Optional[str],
    typer.Option(
        help="ADMIN_API_KEY of the node; READ_API_KEY where nothing is changed.",
        envvar=["ADMIN_API_KEY", "READ_API_KEY"],
        callback=key_of,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
Watch = Annotated[bool, typer.Option("--watch", help="Show it again every second.")]


def name_of(program: str) -> str:
    """The command as it was called, so that what help shows works as it stands."""
    called = Path(program).name
    return "python -m connector" if called == "__main__.py" else called


def as_called() -> str:
    """The command as it was called, with its `--node`: what a message shows asks the same node when it is pasted."""
    name, *words = (name_of(sys.argv[0]), *sys.argv[1:3])
    if words[:1] == ["--node"] and len(words) == 2:
        return f"{name} --node {shlex.quote(words[1])}"
    if words and words[0].startswith("--node="):
        return f"{name} {shlex.quote(words[0])}"
    return name


def run_loop(work: Coroutine[Any, Any, Any]) -> Any:
    """Run `work` on an event loop of its own; uvloop where there is one."""
    try:
        import uvloop  # there is none on Windows
    except ImportError:
        return asyncio.run(work)
    return uvloop.run(work)


def quiet_log() -> Any:
    """A log that writes nothing: the command prints what matters."""
    logging.basicConfig(level=logging.CRITICAL)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    return structlog.get_logger()


def fail(message: str, code: int) -> "typer.Exit":
    """Print `message` to stderr; returns the exception that ends the command with `code`."""
    print(f"connector: {message}", file=sys.stderr)
    return typer.Exit(code)


@contextlib.contextmanager
def faults_named() -> Iterator[None]:
    """Turn the package's errors into a message and an exit code."""
    try:
        yield
    except ConfigError as error:
        print("connector: the configuration cannot be used:", file=sys.stderr)
        for fault in error.faults:
            print(f"  - {fault}", file=sys.stderr)
        raise typer.Exit(2) from None
    except SupersededError as error:
        raise fail(str(error), 3) from None
    except OperatorError as error:
        raise fail(str(error), 2) from None
    except ConnectorError as error:
        raise fail(str(error), 1) from None


def _stop_signals() -> list[signal.Signals]:
    """SIGTERM, SIGINT, and SIGHUP where it is not ignored (`nohup`): the terminal was closed."""
    numbers = [signal.SIGTERM, signal.SIGINT]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    return numbers


def stop_event() -> Stop:
    """Set by the signals that ask a process to stop."""
    stop = Stop()
    loop = asyncio.get_running_loop()
    for number in _stop_signals():
        loop.add_signal_handler(number, stop.set)
    return stop


@contextlib.contextmanager
def stopped_by_signal() -> Iterator[asyncio.Event]:
    """Set by the signals of `stop_event` while the block runs, which then do not end the command."""
    if threading.current_thread() is not threading.main_thread():
        yield asyncio.Event()  # signals are the main thread's
        return
    loop = asyncio.get_running_loop()
    numbers = _stop_signals()
    before = [(number, signal.getsignal(number)) for number in numbers]
    try:
        yield stop_event()
    finally:
        for number, handler in before:
            loop.remove_signal_handler(number)
            signal.signal(number, handler)


@contextlib.contextmanager
def cancelled_by_signal() -> Iterator[None]:
    """SIGTERM and SIGHUP cancel the running task while the block runs, so that it ends what it has started.

    The command ends with 128 and the signal's number. Inside, `stopped_by_signal` takes precedence.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    assert task is not None
    came: list[int] = []

    def cancel(number: int, _frame: object) -> None:
        came.append(number)
        loop.call_soon_threadsafe(task.cancel)

    # Not a handler of the loop: that of `stopped_by_signal` would take its place for good.
    numbers = [one for one in _stop_signals() if one is not signal.SIGINT]
    before = {number: signal.getsignal(number) for number in numbers}
    for number in numbers:
        signal.signal(number, cancel)
    try:
        yield
    except asyncio.CancelledError:
        if not came:
            raise
        raise typer.Exit(128 + came[0]) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}


def seconds_in(text: str) -> int | None:
    """The seconds of `30m`, `24h`, `7d`; None: it is no such time."""
    found = re.fullmatch(r"([0-9]{1,9})([smhdw])", text)
    return None if found is None else int(found[1]) * _UNITS[found[2]]


def finite(number: float) -> float:
    """For options: `nan` and `inf` pass every comparison with a range, or none."""
    if not math.isfinite(number):
        raise typer.BadParameter(f"{number} is no number of this kind")
    return number


def check_peer(url: str, key: str | None, peer: str) -> None:
    """End the command if the node has no peer of this name."""
    if all(item["peerId"] != peer for item in get(url, "/api/peers", key)["items"]):
        raise no_such_peer(peer)


def no_such_peer(peer: str) -> "typer.Exit":
    """Say so; returns the exception that ends the command."""
    from connector.tools.terminal import plain

    return fail(f"no such peer {plain(peer)}: `{as_called()} peers` lists them", 2)


def get(url: str, path: str, key: str | None, *, verify: bool = True) -> dict[str, Any]:
    """A JSON answer of a node's HTTP API; ends the command if there is none.

    `verify`: whether the certificate of an https node is checked.
    """
    from connector.tools.client import NodeClient

    with faults_named():
        return NodeClient(url, key, verify=verify).get(path)
