"""One connection: its two ends as asyncio transports, and the pipe of each direction.

A write to a reader that does not read fills the window and then the writer's own buffer, as with TCP.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable
from typing import Any, Final, Protocol

from connector.simulation.world import ProcessLoop, World

WINDOW_BYTES: Final = 256 * 1024
"""Octets that kernels buffer for a reader before the writer is blocked."""
LATENCY_S: Final = 0.004
FRESH_S: Final = 1.0
"""So long after an answer has arrived its reader may not have kept it."""
BTP_PORT: Final = 7768
HTTP_PORT: Final = 7769


class Link:
    """The link between two hosts."""

    def __init__(self, left: str, right: str, chance: random.Random) -> None:
        self.hosts = (left, right)
        self.up = True
        """False: connections are lost and none can be made."""
        self.refuses = False
        """Connections are refused; those that exist stay."""
        self.knows_ids = True
        """False: what says in a log-in that packet ids are known does not get through."""
        self.latency_s = {left: LATENCY_S, right: LATENCY_S}
        """By the sending host."""
        self.refused_ports: set[int] = set()
        """Connections to these are refused."""
        self.proxy: Proxy | None = None
        """What HTTP passes for a while."""
        self.held: set[str] = set()
        """Sending hosts whose octets are held back."""
        self.connections: dict[int, Connection] = {}
        self.chance = chance


class Pipe:
    """One direction of a connection."""

    __slots__ = (
        "arrived_s", "chance", "connection", "held", "latency_s", "link", "open", "reader", "source",
        "stuck", "to_read", "unread", "writer",
    )  # fmt: skip

    def __init__(self, connection: Connection, source: str, chance: random.Random) -> None:
        self.connection = connection
        self.link = connection.link
        self.source = source
        self.chance = chance
        self.open = True
        self.unread = 0
        """Octets that were written and not yet handed to the reader."""
        self.arrived_s = 0.0
        self.stuck: list[Any] = []
        """What is held back in this direction; None is the end of the stream."""
        self.to_read: deque[Any] = deque()
        """What has arrived while the reader has paused reading."""
        self.writer: Transport
        self.reader: Transport


class Proxy(Protocol):
    """What HTTP between two hosts passes."""

    def passes(self, pipe: Pipe, data: bytes) -> bytes | None:
        """What goes on of octets that one side has written; None: nothing."""


class Carrier(Protocol):
    """What carries octets from one end of a connection to the other."""

    @property
    def world(self) -> World:
        """Virtual time."""

    on_operation: Callable[[str, str], None]
    on_lost: Callable[[str, str], None]

    def carry(self, pipe: Pipe, data: bytes | None) -> None:
        """Let octets, or the end, arrive after all that was written before."""

    def reset(self, connection: Connection, by: Transport, *, silent: bool = False) -> None:
        """One side is gone at once."""


class Transport(asyncio.Transport):
    """One end of a connection."""

    def __init__(self, network: Carrier, loop: ProcessLoop | None, host: str, other: str) -> None:
        super().__init__()
        self._network = network
        self._loop = loop
        self.host = host
        self._other = other
        self.protocol: Any = None
        self.out: Pipe
        self.into: Pipe
        self._closing = False
        self._lost = False
        self._reads = True
        self._high = 64 * 1024
        self._paused_writing = False

    def belongs_to(self, loop: ProcessLoop) -> bool:
        """Whether this end is of that process."""
        return self._loop is loop

    def is_same_process(self, other: Transport) -> bool:
        """Whether both ends are of one process."""
        return self._loop is other._loop

    @property
    def is_lost(self) -> bool:
        """Whether the connection is gone, for this side."""
        return self._lost

    @property
    def is_alive(self) -> bool:
        """Whether its process lives."""
        return self._loop is None or self._loop.alive

    def begin(self, protocol: Any) -> None:
        """The process at this end has taken the connection."""
        self.protocol = protocol
        protocol.connection_made(self)
        if self.into.to_read:
            self._network.world.after(0.0, self.read)

    def run(self, call: Callable[..., object], *args: Any) -> None:
        """Let the process at this end run something."""
        if self._loop is None:
            call(*args)
        else:
            self._loop.run_now(call, *args)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """See `asyncio`."""
        return (self._other, 0) if name == "peername" else default

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """See `asyncio`."""
        if high is not None:
            self._high = high

    def get_write_buffer_size(self) -> int:
        """See `asyncio`."""
        return max(0, self.out.unread - WINDOW_BYTES)

    def write(self, data: Any) -> None:
        """See `asyncio`."""
        if self._closing or self._lost or not self.is_alive or not data:
            return
        if self._loop is not None:
            self._network.on_operation(self.host, "write")
            if not self._loop.alive:
                return
        pipe = self.out
        pipe.unread += len(data)
        self._network.carry(pipe, bytes(data))
        if not self._paused_writing and self.get_write_buffer_size() > self._high:
            self._paused_writing = True
            self.protocol.pause_writing()

    def writelines(self, list_of_data: Any) -> None:
        """See `asyncio`."""
        self.write(b"".join(list_of_data))

    def can_write_eof(self) -> bool:
        """See `asyncio`."""
        return False

    def is_closing(self) -> bool:
        """See `asyncio`."""
        return self._closing

    def is_reading(self) -> bool:
        """See `asyncio`."""
        return self._reads and not self._closing

    def pause_reading(self) -> None:
        """See `asyncio`."""
        self._reads = False

    def resume_reading(self) -> None:
        """See `asyncio`."""
        if not self._reads:
            self._reads = True
            if self.into.to_read:
                self._network.world.after(0.0, self.read)

    def read(self) -> None:
        """Hand on what has arrived."""
        waiting = self.into.to_read
        while waiting and self._reads and not self._lost and self.is_alive:
            data = waiting.popleft()
            if data is None:
                self.lose(None)
                return
            self.into.unread -= len(data)
            self.into.writer.drained()
            self.run(self.protocol.data_received, data)

    def arrive(self, data: bytes) -> None:
        """Octets have come over."""
        if self._lost or not self.is_alive:
            return
        if self._closing:
            self.into.unread -= len(data)
            return
        if not self._reads or self.into.to_read:
            self.into.to_read.append(data)
            return
        pipe = self.into
        if self._loop is None or not self._loop.paused:
            pipe.unread -= len(data)
            pipe.writer.drained()
            self.run(self.protocol.data_received, data)
        else:
            self._loop.run_now(self._arrive_later, data)

    def _arrive_later(self, data: bytes) -> None:
        self.into.unread -= len(data)
        self.into.writer.drained()
        if not self._lost and not self._closing:
            self.protocol.data_received(data)

    def drained(self) -> None:
        """The reader has read something."""
        if (
            self._paused_writing
            and not self._lost
            and self.get_write_buffer_size() <= self._high // 4
        ):
            self._paused_writing = False
            self.run(self.protocol.resume_writing)

    def end(self) -> None:
        """The other side has closed."""
        if self._lost or not self.is_alive:
            return
        if not self._reads:
            self.into.to_read.append(None)
            return
        self.run(self.protocol.eof_received)
        self.lose(None)

    def close(self) -> None:
        """See `asyncio`."""
        if self._closing or not self.is_alive:
            return
        self._closing = True
        if not self._lost:
            self._network.carry(self.out, None)
            self._network.world.after(0.0, self.lose, None)

    def abort(self) -> None:
        """See `asyncio`."""
        if self._lost or not self.is_alive:
            return
        self._closing = True
        self._network.reset(self.out.connection, self)
        self._network.world.after(0.0, self.lose, None)

    def lose(self, error: Exception | None) -> None:
        """The connection is gone, for this side."""
        if self._lost:
            return
        self._lost = self._closing = True
        if not self.out.connection.comes_and_goes:
            self._network.on_lost(self.host, self._other)
        if self.is_alive and self.protocol is not None:
            self.run(self.protocol.connection_lost, error)


class Connection:
    """Two pipes and their ends."""

    def __init__(self, number: int, link: Link, port: int = BTP_PORT) -> None:
        self.number = number
        self.link = link
        self.port = port
        self.comes_and_goes = port != BTP_PORT
        """Whether its hosts close it when they do not need it: only what breaks it while it is used is a loss then."""
        self.unanswered = 0
        """Of one that comes and goes: requests whose answers have not arrived."""
        self.answered_s = -FRESH_S
        """When the last one arrived."""
        self.client: Transport
        self.server: Transport
        self.zombie = False
        """One host has vanished without closing the connection."""

    def is_used(self, now_s: float) -> bool:
        """Whether something is lost with it, though its hosts may close it when they like."""
        return self.unanswered > 0 or now_s - self.answered_s < FRESH_S
