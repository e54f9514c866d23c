"""The network: latency, cuts, links that hold back all octets, hosts that vanish.

Within a connection octets arrive in order and complete; across connections there is no order.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from connector.simulation.transport import (
    BTP_PORT,
    Connection,
    Link,
    Pipe,
    Transport,
)
from connector.simulation.world import ProcessLoop, World

CONNECT_TIMEOUT_S: Final = 3.0
_KNOWS_IDS: Final = b"\x09packet-id"
_SAYS_NOTHING: Final = b"\x09packet-no"
"""Of the same length, and known to nobody: so two nodes talk as one does with a foreign connector."""
_KNOWS_IDS_BY_HTTP: Final = b"ILP-Packet-Id:"
_SAYS_NOTHING_BY_HTTP: Final = b"ILP-Packet-No:"


class _Listening:
    def __init__(self, loop: ProcessLoop | None, factory: Callable[[], Any], port: int) -> None:
        self.loop = loop
        self.factory = factory
        self.open = True
        self.port: Final = port

    def close(self) -> None:
        """See `Listener`."""
        self.open = False


class Network:
    """All hosts and the links between them."""

    def __init__(self, world: World) -> None:
        self.world: Final = world
        self.links: dict[frozenset[str], Link] = {}
        self.on_operation: Callable[[str, str], None] = lambda _host, _what: None
        """Called at each write of a process: it may be killed there."""
        self.on_lost: Callable[[str, str], None] = lambda _host, _other: None
        """Called for each side of a connection that is lost."""
        self.octets = 0
        self._listening: dict[tuple[str, int], _Listening] = {}
        self._last_number = 0

    def link(self, left: str, right: str) -> Link:
        """The link between two hosts."""
        key = frozenset((left, right))
        found = self.links.get(key)
        if found is None:
            names = sorted(key)
            chance = self.world.random(f"link {names[0]} {names[1]}")
            found = self.links[key] = Link(names[0], names[1], chance)
        return found

    # --- connecting

    def listen(
        self,
        host: str,
        loop: ProcessLoop | None,
        factory: Callable[[], Any],
        port: int = BTP_PORT,
    ) -> _Listening:
        """Let a host accept connections."""
        old = self._listening.get((host, port))
        if old is not None and old.open and (old.loop is None or old.loop.alive):
            raise OSError(98, "Address already in use")
        self._listening[host, port] = listening = _Listening(loop, factory, port)
        return listening

    def connect(
        self,
        host: str,
        loop: ProcessLoop | None,
        to: str,
        made: Callable[[Transport], None],
        failed: Callable[[OSError], None],
        port: int = BTP_PORT,
    ) -> None:
        """Open a connection; one of the two callbacks is called later."""
        link = self.link(host, to)
        there_s = link.latency_s[host] * (1 + link.chance.random())
        if not link.up or link.held:
            self.world.after(CONNECT_TIMEOUT_S, failed, TimeoutError(110, "Connection timed out"))
            return
        self.world.after(there_s, self._knock, link, host, loop, to, made, failed, port)

    def _knock(
        self,
        link: Link,
        host: str,
        loop: ProcessLoop | None,
        to: str,
        made: Callable[[Transport], None],
        failed: Callable[[OSError], None],
        port: int,
    ) -> None:
        back_s = link.latency_s[to] * (1 + link.chance.random())
        listening = self._listening.get((to, port))
        is_open = (
            link.up
            and not link.refuses
            and port not in link.refused_ports
            and listening is not None
            and listening.open
            and (listening.loop is None or listening.loop.alive)
        )
        if not is_open or (loop is not None and not loop.alive):
            self.world.after(back_s, failed, ConnectionRefusedError(111, "Connection refused"))
            return
        assert listening is not None
        self._last_number += 1
        number = self._last_number
        connection = Connection(number, link, port)
        client = Transport(self, loop, host, to)
        server = Transport(self, listening.loop, to, host)
        there = Pipe(connection, host, self.world.random(f"pipe {number} there"))
        back = Pipe(connection, to, self.world.random(f"pipe {number} back"))
        there.writer = back.reader = client
        back.writer = there.reader = server
        client.out, client.into, server.out, server.into = there, back, back, there
        connection.client, connection.server = client, server
        link.connections[number] = connection
        back.arrived_s = self.world.now_s + back_s  # nothing before the client knows of it
        self.world.at(self.world.now_s + back_s, made, client)
        server.run(self._accept, listening, server)

    @staticmethod
    def _accept(listening: _Listening, server: Transport) -> None:
        if not listening.open:
            server.abort()
            return
        server.begin(listening.factory())

    # --- carrying

    def carry(self, pipe: Pipe, data: bytes | None) -> None:
        """Deliver octets, or the end of the stream, after all that was written before."""
        if not pipe.open:
            return
        link = pipe.link
        if not link.knows_ids and data is not None:
            data = data.replace(_KNOWS_IDS, _SAYS_NOTHING)
            data = data.replace(_KNOWS_IDS_BY_HTTP, _SAYS_NOTHING_BY_HTTP)
        connection = pipe.connection
        if connection.comes_and_goes and data is not None:
            connection.unanswered += pipe is connection.client.out
        if link.proxy is not None and data is not None and connection.port != BTP_PORT:
            data = link.proxy.passes(pipe, data)
            if data is None:
                return
        self.carry_on(pipe, data)

    def carry_on(self, pipe: Pipe, data: bytes | None) -> None:
        """The same behind a proxy."""
        if not pipe.open:
            return
        link = pipe.link
        if pipe.source in link.held or pipe.stuck:
            pipe.stuck.append(data)
            return
        latency_s = link.latency_s[pipe.source]
        when_s = self.world.now_s + latency_s * (0.75 + pipe.chance.random() / 2)
        if when_s <= pipe.arrived_s:
            when_s = pipe.arrived_s + 1e-7
        pipe.arrived_s = when_s
        self.world.at(when_s, self._arrived, pipe, data)

    def _arrived(self, pipe: Pipe, data: bytes | None) -> None:
        if not pipe.open:
            return
        if pipe.source in pipe.link.held or pipe.stuck:
            pipe.stuck.append(data)
            return
        reader = pipe.reader
        if reader.protocol is None:
            pipe.to_read.append(data)  # a paused process has not accepted it yet
        elif data is None:
            pipe.open = False
            self._forget(pipe.connection)
            reader.end()
        else:
            self.octets += len(data)
            self._count_answer(pipe)
            reader.arrive(data)

    def _count_answer(self, pipe: Pipe) -> None:
        connection = pipe.connection
        if connection.comes_and_goes and pipe is connection.server.out:
            connection.unanswered -= 1
            connection.answered_s = self.world.now_s

    def reset(self, connection: Connection, by: Transport, *, silent: bool = False) -> None:
        """Close one side at once: the other is notified a little later, or not at all."""
        connection.client.out.open = connection.server.out.open = False
        if silent:
            connection.zombie = True
            return
        self._forget(connection)
        other = connection.server if by is connection.client else connection.client
        link = connection.link
        self.world.after(
            link.latency_s[by.host] * (1 + link.chance.random()),
            other.lose,
            ConnectionResetError(104, "Connection reset by peer"),
        )

    def _forget(self, connection: Connection) -> None:
        connection.link.connections.pop(connection.number, None)

    # --- what breaks

    def cut(self, link: Link) -> None:
        """Lose every connection of a link and everything in transit; new ones fail."""
        link.up = False
        for connection in list(link.connections.values()):
            self.drop(connection)

    def drop(self, connection: Connection) -> None:
        """Lose a connection and everything in transit."""
        connection.client.out.open = connection.server.out.open = False
        self._forget(connection)
        self._tell_of_loss(connection)
        error = ConnectionResetError(104, "Connection reset by peer")
        for side in (connection.client, connection.server):
            self.world.after(0.001 + 0.05 * connection.link.chance.random(), side.lose, error)

    def refuse(self, link: Link, port: int) -> None:
        """Lose the connections of a link to one port, and refuse new ones."""
        link.refused_ports.add(port)
        for connection in list(link.connections.values()):
            if connection.port == port:
                self.drop(connection)

    def _tell_of_loss(self, connection: Connection) -> None:
        """Of one that its hosts close as they like: else each side is told when it notices."""
        if connection.comes_and_goes and connection.is_used(self.world.now_s):
            self.on_lost(connection.client.host, connection.server.host)

    def join(self, link: Link) -> None:
        """Allow connections again."""
        link.up = True

    def hold(self, link: Link, source: str) -> None:
        """Hold back everything that `source` sends, without notifying either side."""
        link.held.add(source)

    def release(self, link: Link, source: str) -> None:
        """Deliver what was held back."""
        link.held.discard(source)
        for connection in list(link.connections.values()):
            for side in (connection.client, connection.server):
                pipe = side.out
                if pipe.source == source and pipe.stuck:
                    stuck, pipe.stuck = pipe.stuck, []
                    for data in stuck:
                        self.carry_on(pipe, data)

    def leave(self, host: str) -> None:
        """The address of a host leads nowhere, until another process listens there."""
        for place in [one for one in self._listening if one[0] == host]:
            del self._listening[place]

    def host_died(
        self, host: str, *, silent: bool, keep_sent: bool, loop: ProcessLoop | None = None
    ) -> None:
        """A process has died: its kernel closes the connections, unless the machine lost power.

        Args:
            host: where it ran.
            silent: the machine lost power.
            keep_sent: what it had written is still delivered.
            loop: which of the processes at this address has died; None: all of them.
        """
        for link in self.links.values():
            if host not in link.hosts:
                continue
            for connection in list(link.connections.values()):
                here = connection.client if connection.client.host == host else connection.server
                if loop is not None and not here.belongs_to(loop):
                    continue
                self._tell_of_loss(connection)
                if silent:
                    here.into.open = False
                    connection.zombie = True
                elif keep_sent and here.out.open:
                    here.into.open = False
                    self.carry(here.out, None)
                else:
                    self.reset(connection, here)

    def host_back(self, host: str) -> None:
        """A machine is back after a power cut: it resets its old connections."""
        for link in self.links.values():
            if host not in link.hosts:
                continue
            for connection in list(link.connections.values()):
                if connection.zombie:
                    here = (
                        connection.client if connection.client.host == host else connection.server
                    )
                    self.world.after(2.0 * link.chance.random(), self.reset, connection, here)


class HostNetwork:
    """The network as one process sees it; implements `connector.btp.network.Network`."""

    def __init__(self, network: Network, host: str, loop: ProcessLoop) -> None:
        self._network = network
        self._host = host
        self._loop = loop
        self.strangers_max: Final = 1024

    async def listen(
        self, protocol_factory: Callable[[], asyncio.Protocol], host: str, port: int, tls: Any
    ) -> _Listening:
        """See `connector.btp.network.Network`."""
        return self._network.listen(self._host, self._loop, protocol_factory, port)

    async def connect(
        self, protocol_factory: Callable[[], asyncio.Protocol], host: str, port: int, tls: Any
    ) -> None:
        """See `connector.btp.network.Network`. The name of a host is its address."""
        future: asyncio.Future[Transport] = self._loop.create_future()

        def made(transport: Transport) -> None:
            if transport.is_lost or not transport.is_alive:
                return
            if future.cancelled():
                self._network.reset(transport.out.connection, transport)
                return
            self._loop.run_now(opened, transport)

        def opened(transport: Transport) -> None:
            if future.cancelled():
                self._network.reset(transport.out.connection, transport)
                return
            transport.begin(protocol_factory())
            future.set_result(transport)

        def failed(error: OSError) -> None:
            self._loop.run_now(refused, error)

        def refused(error: OSError) -> None:
            if not future.done():
                future.set_exception(error)

        self._network.connect(self._host, self._loop, host, made, failed, port)
        await future
