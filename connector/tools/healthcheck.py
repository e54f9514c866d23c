"""Fast `connector healthcheck`: containers run it every few seconds.

Loading the package takes a hundred times as long as the check itself. So this module imports only what
it needs, and `__main__` calls it before it loads the commands. Where the environment alone does not
determine the address of the node, it leaves the check to the full command.

An engine checks a container for the first time some seconds after its start, and then again after as many:
a node that is ready just after a check would be healthy only after the next one. So a check can wait. It does not
wait for a process that has ended: where the machine shows its processes (`/proc`) and none of them can be the
node, it says so after `GONE_SECONDS`.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Mapping, Sequence
from time import monotonic, sleep  # noqa: TID251 - a Clock would load a part of the package
from typing import Final

_SECONDS_MAX: Final = 4.0
_ANSWER_BYTES_MAX: Final = 65_536
_PAUSE_SECONDS: Final = 0.1
WAIT_VARIABLE: Final = "CONNECTOR_HEALTHCHECK_WAIT"
"""Seconds to wait, as `--wait`; images set it, so that compose files need not know of it."""
WAIT_SECONDS_MAX: Final = 60
_IS_IT_RUNNING: Final = "; is the node running?"
_LINE_CHARACTERS_MAX: Final = 300
GONE_SECONDS: Final = 3.0
"""For so long no process may be seen that can be the node: one that is being started may not be there yet."""
_PROCESSES: Final = "/proc"
_PROGRAMS: Final = frozenset((b"connector", b"ilp-connector"))
"""Names of this program, as `python -m connector` has them too."""
_ANYWHERE: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - reaching it, not binding
# These name files that must be read first; TLS is checked separately below.
_ELSEWHERE: Final = ("CONFIG_FILE", "HTTP_HOST_FILE", "HTTP_PORT_FILE")


def address(environment: Mapping[str, str]) -> tuple[str, int] | None:
    """Where the node of this environment listens; None when the full command must determine it."""
    if any(environment.get(name) for name in _ELSEWHERE):
        return None
    if any(name.startswith("HTTP_TLS_") and value for name, value in environment.items()):
        return None
    host = environment.get("HTTP_HOST", "").strip() or "127.0.0.1"
    port = environment.get("HTTP_PORT", "").strip() or "8080"
    if not port.isdecimal() or not 0 < int(port) < 1 << 16:
        return None
    return _ANYWHERE.get(host, host), int(port)


def ask(host: str, port: int) -> tuple[bool, str]:
    """Whether the node is ready, and one line for the operator."""
    where = f"[{host}]" if ":" in host else host
    request = f"GET /health/ready HTTP/1.0\r\nHost: {where}:{port}\r\n\r\n"
    octets = b""
    try:
        with socket.create_connection((host, port), _SECONDS_MAX) as connection:
            connection.sendall(request.encode("ascii"))
            while len(octets) < _ANSWER_BYTES_MAX and (part := connection.recv(4096)):
                octets += part
    except (OSError, UnicodeError) as error:
        return False, f"http://{where}:{port} does not answer: {error}{_IS_IT_RUNNING}"
    return read_answer(octets, f"http://{where}:{port}")


def read_answer(octets: bytes, url: str) -> tuple[bool, str]:
    """What `ask` returns, from the whole answer of whoever listens at `url`."""
    head, _, body = octets.partition(b"\r\n\r\n")
    try:
        said = json.loads(body)
        status, reason = _line(said["status"]), _line(said.get("reason") or "")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        line = head.split(b"\r\n", 1)[0].decode("ascii", "replace")
        return False, f"{url} answered {_line(line)!r}: not a connector?"
    if status not in ("ready", "degraded"):
        return False, reason or status
    return True, f"{status}: {reason}" if reason else status


def _line(said: object) -> str:
    """A text of others, on one line, in characters that a terminal shows."""
    text = str(said)[:_LINE_CHARACTERS_MAX]
    return "".join(one if one.isprintable() else "?" for one in text)


def may_run(port: int, processes: str = _PROCESSES) -> bool:
    """Whether a process of this machine can be the node that is to listen at `port`.

    True also where processes cannot be seen. A node that another program has in it is not recognised.
    """
    try:
        numbers = [name for name in os.listdir(processes) if name.isdecimal()]  # noqa: PTH208 - loads little
    except OSError:
        return True
    return not numbers or any(_can_be(f"{processes}/{number}", port) for number in numbers)


def _can_be(process: str, port: int) -> bool:
    words = _words(f"{process}/cmdline")
    if words is None or b"healthcheck" in words:
        return False
    if not any(word.rpartition(b"/")[2] in _PROGRAMS for word in words[:4]):
        return False
    variables = _words(f"{process}/environ")
    if variables is None:
        return True  # of another user
    found = dict(one.partition(b"=")[::2] for one in variables)
    given = found.get(b"HTTP_PORT", b"").strip()
    if not given and any(found.get(name) for name in (b"CONFIG_FILE", b"HTTP_PORT_FILE")):
        return True
    return (given or b"8080") == b"%d" % port


def _words(path: str) -> list[bytes] | None:
    """What a file of the kernel has, ended by zeros each; None: it cannot be read."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - loads little
            return file.read(_ANSWER_BYTES_MAX).split(b"\0")
    except OSError:
        return None


class Presence:
    """Whether it is worth while to wait for a node that does not answer."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._gone_since_s: float | None = None

    def has_gone(self) -> bool:
        """Called whenever the node has not answered: whether its process has ended, or there never was one."""
        if may_run(self._port):
            self._gone_since_s = None
            return False
        now_s = monotonic()
        if self._gone_since_s is None:
            self._gone_since_s = now_s
        return now_s >= self._gone_since_s + GONE_SECONDS


def ask_until(host: str, port: int, wait_s: float) -> tuple[bool, str]:
    """See `ask`; a node that is not ready is asked again for so many seconds, unless its process has ended."""
    deadline_s = monotonic() + wait_s
    presence = Presence(port)
    while True:
        ready, said = ask(host, port)
        if ready or monotonic() >= deadline_s:
            return ready, said
        if said.endswith(_IS_IT_RUNNING) and presence.has_gone():
            return False, f"{said} No process of it is to be seen, so it is not waited for"
        sleep(_PAUSE_SECONDS)


def main(arguments: Sequence[str]) -> int | None:
    """The exit code, 0 when the node is ready; None when the full command must run.

    `arguments`: none are taken here; they are the full command's.
    """
    found = address(os.environ)
    wait_s = os.environ.get(WAIT_VARIABLE) or "0"
    if (
        arguments
        or os.environ.get("CONNECTOR_NODE")
        or found is None
        or not wait_s.isdecimal()
        or int(wait_s) > WAIT_SECONDS_MAX
    ):
        return None
    ready, said = ask_until(*found, int(wait_s))
    if ready:
        print(said)  # noqa: T201 - a command
    else:
        print(f"connector: {said}", file=sys.stderr)  # noqa: T201
    return 0 if ready else 1
