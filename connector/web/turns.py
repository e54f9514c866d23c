"""What clients send by HTTP is read in small parts, by turns: no client holds the event loop, nor do many.

The library parses all that has come, 256 KB at a time: of chunks with one octet each, or of headers with
one letter each, that takes it a second and more, and everybody may send that. So a part is small, all
connections of a server together read for a few milliseconds in a turn of the loop, and the lines of a
head and the chunks of a body are bounded.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final, Protocol

import h11
from uvicorn.protocols.http.flow_control import FlowControl

from connector.base.http_heads import BoundedHeads
from connector.web import bounds


class Reads(Protocol):
    """A connection."""

    def read_part(self) -> None:
        """Read one part; it joins again if there is more."""


class Turns:
    """The connections of one server that have something to be read."""

    def __init__(self) -> None:
        """None has."""
        self._waiting: deque[Reads] = deque()
        self._is_scheduled = False

    def join(self, one: Reads) -> None:
        """Let it read a part when its turn comes."""
        self._waiting.append(one)
        self._schedule()

    def _schedule(self) -> None:
        if not self._is_scheduled:
            self._is_scheduled = True
            asyncio.get_running_loop().call_soon(self._run)

    def _run(self) -> None:
        self._is_scheduled = False
        # Not the loop's time: that of a uvloop stands still meanwhile.
        until_s = time.perf_counter() + bounds.HTTP_READ_SECONDS_PER_TURN
        while self._waiting:
            self._waiting.popleft().read_part()
            if time.perf_counter() >= until_s:
                break
        if self._waiting:
            self._schedule()


class Flow(FlowControl):
    """uvicorn's, which tells when reading goes on."""

    def __init__(self, transport: asyncio.Transport, goes_on: Callable[[], None]) -> None:
        super().__init__(transport)
        self._goes_on: Final = goes_on

    def resume_reading(self) -> None:
        """See `FlowControl`."""
        was_paused = self.read_paused
        super().resume_reading()
        if was_paused:
            self._goes_on()


class BoundedConnection(BoundedHeads):
    """The server's side of a connection, with a bound for what is cheap to send and dear to read."""

    _chunks = 0

    def next_event(self) -> Any:
        """See `h11.Connection`.

        Raises:
            h11.RemoteProtocolError: also for too many lines, trailers or chunks.
        """
        event = super().next_event()
        kind = type(event)
        if kind is h11.Request:
            self._chunks = 0
        elif kind is h11.Data:
            self._chunks += event.chunk_start
            if self._chunks > bounds.HTTP_BODY_CHUNKS_MAX:
                raise h11.RemoteProtocolError("too many chunks")
        return event
