"""Ports for servers whose port has to be known before they start."""

from __future__ import annotations

import os
import random
import socket
from typing import Final

_LOWEST: Final = 20_000
_HIGHEST: Final = 32_000
"""Below what systems give to outgoing connections and to port 0 (Linux: from 32,768; macOS: 49,152)."""
# Of the processes that run tests side by side each has a part of its own.
_COUNT: Final = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
_PART: Final = (_HIGHEST - _LOWEST) // _COUNT
_FIRST: Final = _LOWEST + _PART * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:])
_dice: Final = random.SystemRandom()
_given: Final[set[int]] = set()


def free_ports(count: int) -> list[int]:
    """Ports at which nothing listens; this process is never given one of them again.

    A port that the system chose and that was closed again may be anybody's before its server starts;
    these are nobody's but those of another run on this machine that chooses the same of thousands.
    """
    found: list[int] = []
    while len(found) < count:
        port = _dice.randrange(_FIRST, _FIRST + _PART)
        if port in _given:
            continue
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        _given.add(port)
        found.append(port)
    return found


def free_port() -> int:
    """One such port."""
    return free_ports(1)[0]
