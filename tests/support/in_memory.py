"""A platform for a core, in memory: connections without sockets, databases without files.

Together with `tests.support.clocks.simulate` a whole core runs in simulated time. Everything that a
`MemoryDisk` was told is durable: a core that is abandoned finds it again.
"""

from __future__ import annotations

import asyncio
import errno
import random
import sqlite3
import ssl
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from connector.base.log import Log
from connector.node.core import Platform
from tests.support.clocks import SimulatedClock

T = TypeVar("T")

LATENCY_S = 0.001


class MemoryTransport(asyncio.Transport):
    """One end of a connection; octets arrive at the other one in order."""

    def __init__(self, protocol: asyncio.Protocol) -> None:
        super().__init__({"peername": ("in-memory", 0)})
        self.other: MemoryTransport
        self.protocol = protocol
        self._closing = False
        self._paused = False
        self._arriving: deque[bytes | None] = deque()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """There is no buffer."""

    def get_write_buffer_size(self) -> int:
        return 0

    def can_write_eof(self) -> bool:
        return False

    def is_closing(self) -> bool:
        return self._closing

    def pause_reading(self) -> None:
        self._paused = True

    def resume_reading(self) -> None:
        self._paused = False
        self._deliver()

    def write(self, data: Any) -> None:
        if not self._closing:
            self._carry(bytes(data))

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            self._carry(None)
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)

    def abort(self) -> None:
        self.close()

    def _carry(self, data: bytes | None) -> None:
        self.other._arriving.append(data)
        asyncio.get_running_loop().call_later(LATENCY_S, self.other._deliver)

    def _deliver(self) -> None:
        while self._arriving and not self._paused and not self._closing:
            data = self._arriving.popleft()
            if data is None:
                self.close()
            else:
                self.protocol.data_received(data)


class MemoryListener:
    def __init__(self, network: MemoryNetwork, port: int) -> None:
        self._network = network
        self._port = port

    @property
    def port(self) -> int:
        return self._port

    def close(self) -> None:
        self._network.listening.pop(self._port, None)


class MemoryNetwork:
    """See `connector.btp.network.Network`. All hosts share one address; ports distinguish them."""

    def __init__(self) -> None:
        self.listening: dict[int, Callable[[], asyncio.Protocol]] = {}
        self.transports: list[MemoryTransport] = []
        self.strangers_max = 1024

    async def listen(
        self,
        protocol_factory: Callable[[], asyncio.Protocol],
        host: str,
        port: int,
        tls: ssl.SSLContext | None,
    ) -> MemoryListener:
        port = port or 1024 + len(self.listening)
        if port in self.listening:
            raise OSError(errno.EADDRINUSE, "Address already in use")
        self.listening[port] = protocol_factory
        return MemoryListener(self, port)

    async def connect(
        self,
        protocol_factory: Callable[[], asyncio.Protocol],
        host: str,
        port: int,
        tls: ssl.SSLContext | None,
    ) -> None:
        await asyncio.sleep(LATENCY_S)
        if port not in self.listening:
            raise OSError(errno.ECONNREFUSED, "Connection refused")
        here = MemoryTransport(protocol_factory())
        there = MemoryTransport(self.listening[port]())
        here.other, there.other = there, here
        self.transports += [here, there]
        for end in (there, here):
            end.protocol.connection_made(end)

    def cut(self) -> None:
        """Abort all connections."""
        for transport in self.transports:
            transport.abort()
        self.transports.clear()


class MemoryDatabase:
    """One use of a database of a `MemoryDisk`."""

    def __init__(self, disk: MemoryDisk, path: Path) -> None:
        self.path = path
        self._disk = disk
        self._connection: sqlite3.Connection | None = None

    async def open(self, schema: str = "") -> None:
        self._disk.opened.append(self.path)
        self._connection = self._disk.connection(self.path)
        if schema:
            self._connection.executescript(schema)

    waits_for_commits = False

    async def commit(self, work: Callable[[sqlite3.Connection], T], transfers: int) -> T:
        assert transfers >= 0, transfers
        return await self.run(work)

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        await asyncio.sleep(0)
        return self.look(work)

    def look(self, work: Callable[[sqlite3.Connection], T]) -> T:
        assert self._connection is not None, "the database is not open"
        return work(self._connection)

    def is_removed(self) -> bool:
        return False

    async def rescue(self) -> None:
        raise AssertionError("it is never removed")

    async def close(self) -> None:
        self._connection = None


class MemoryHold:
    def close(self) -> None:
        """Nobody else is there."""


class MemoryNote:
    """What one process leaves to the next."""

    def __init__(self, notes: dict[Path, bytes], path: Path) -> None:
        self._notes = notes
        self._path = path

    def leave(self, text: str) -> None:
        self._notes[self._path] = text.encode()

    def take(self, bytes_max: int) -> bytes:
        if self._path not in self._notes:
            raise FileNotFoundError(self._path)
        return self._notes.pop(self._path)


class MemoryDisk:
    """Databases by path; they last as long as the disk does."""

    def __init__(self) -> None:
        self.free = 1 << 40
        self.opened: list[Path] = []
        """Each time a database was opened."""
        self.notes: dict[Path, bytes] = {}
        self._connections: dict[Path, sqlite3.Connection] = {}

    def connection(self, path: Path) -> sqlite3.Connection:
        if path not in self._connections:
            self._connections[path] = sqlite3.connect(":memory:", isolation_level=None)
        return self._connections[path]

    def database(self, path: Path, *, read_only: bool = False) -> MemoryDatabase:
        return MemoryDatabase(self, path)

    def note(self, path: Path) -> MemoryNote:
        return MemoryNote(self.notes, path)

    async def free_bytes(self, path: Path) -> int:
        return self.free

    def hold(self, path: Path) -> MemoryHold:
        return MemoryHold()

    def copy(self, path: Path) -> sqlite3.Connection:
        """A file as it is now, for `restore`."""
        copy = sqlite3.connect(":memory:", isolation_level=None)
        self.connection(path).backup(copy)
        return copy

    def restore(self, path: Path, copy: sqlite3.Connection) -> None:
        """A file is replaced by an earlier copy of it, while nobody has it open."""
        self.connection(path).close()
        self._connections[path] = copy

    def lose(self, name: str) -> None:
        """A file is deleted, while nobody has it open."""
        for path in [path for path in self._connections if path.name == name]:
            self._connections.pop(path).close()

    def close(self) -> None:
        """Let go of the memory."""
        for connection in self._connections.values():
            connection.close()


class SeededRandomness:
    """The same numbers every time."""

    def __init__(self, seed: int) -> None:
        self._source = random.Random(seed)

    def bits(self, count: int) -> int:
        return self._source.getrandbits(count)

    def octets(self, count: int) -> bytes:
        return self._source.randbytes(count)

    def random(self) -> float:
        return self._source.random()


def memory_platform(
    network: MemoryNetwork, disk: MemoryDisk, log: Log, *, seed: int = 0
) -> Platform:
    """A platform in simulated time."""
    return Platform(
        clock=SimulatedClock(),
        randomness=SeededRandomness(seed),
        network=network,
        disk=disk,
        log=log,
    )
