"""The network interface of `Links`: listening for peers, and connecting to them.

`SystemNetwork` uses the machine's network and the running event loop. The simulator has its own
implementation.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import socket
import ssl
from collections.abc import Callable
from typing import Any, Final, Protocol

from connector.base.connections import Connections, network_of
from connector.btp import bounds

BACKLOG: Final = 1024
ACCEPT_PAUSE_SECONDS: Final = 0.1


class Listener(Protocol):
    """A listening port."""

    @property
    def port(self) -> int:
        """The port number; chosen by the system if 0 was requested."""

    def close(self) -> None:
        """Stop accepting connections; existing ones stay open."""


class Network(Protocol):
    """Byte streams to and from other hosts. Protocols are those of `asyncio`."""

    @property
    def strangers_max(self) -> int:
        """How many incoming connections without a log-in the machine has room for."""

    async def listen(
        self,
        protocol_factory: Callable[[], asyncio.Protocol],
        host: str,
        port: int,
        tls: ssl.SSLContext | None,
    ) -> Listener:
        """Accept connections; each gets a new protocol. Port 0: any free one.

        Raises:
            OSError: the port is in use, or the address is not one of this machine.
        """

    async def connect(
        self,
        protocol_factory: Callable[[], asyncio.Protocol],
        host: str,
        port: int,
        tls: ssl.SSLContext | None,
    ) -> None:
        """Open a connection; returns when `connection_made` was called on its protocol.

        Raises:
            OSError: the connection failed, or TLS did (`ssl.SSLError`).
        """


class SystemListener:
    """A listening port of the machine, without TLS."""

    def __init__(self, server: asyncio.Server) -> None:
        self._server = server
        sockets: Any = server.sockets  # a list with uvloop, a tuple with asyncio
        self._port = int(sockets[0].getsockname()[1])

    @property
    def port(self) -> int:
        """See `Listener`."""
        return self._port

    def close(self) -> None:
        """See `Listener`."""
        self._server.close()


class _Handshake:
    """A connection that was accepted and has not finished its TLS handshake."""

    is_idle = True

    def __init__(self, sock: socket.socket, address: str) -> None:
        self.sock = sock
        self.address = network_of(address)

    def abort(self) -> None:
        """Close it; the handshake ends with an error."""
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)


class TlsListener:
    """Listening sockets of the machine, with TLS.

    Accepts by itself: asyncio tells a protocol of a connection only after the handshake, so sockets
    that never begin one would be neither counted nor bounded.
    """

    def __init__(
        self,
        sockets: list[socket.socket],
        protocol_factory: Callable[[], asyncio.Protocol],
        tls: ssl.SSLContext,
        handshakes_max: int,
    ) -> None:
        self._sockets = sockets
        self._protocol_factory = protocol_factory
        self._tls = tls
        self._handshakes: Connections[_Handshake] = Connections(
            count_max=handshakes_max,
            per_address_max=min(bounds.TLS_HANDSHAKES_PER_ADDRESS_MAX, handshakes_max),
        )
        self._loop = asyncio.get_running_loop()
        self._port = int(sockets[0].getsockname()[1])
        self._tasks = {self._loop.create_task(self._accept(sock)) for sock in sockets}

    @property
    def port(self) -> int:
        """See `Listener`."""
        return self._port

    def close(self) -> None:
        """See `Listener`. Handshakes in progress end too."""
        for task in self._tasks:
            task.cancel()
        for sock in self._sockets:
            sock.close()

    async def _accept(self, listening: socket.socket) -> None:
        while True:
            try:
                sock, name = await self._loop.sock_accept(listening)
            except OSError:
                # Out of descriptors: connections wait in the backlog.
                await asyncio.sleep(ACCEPT_PAUSE_SECONDS)
                continue
            with contextlib.suppress(OSError):  # macOS: of a connection that was reset meanwhile
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            handshake = _Handshake(sock, str(name[0]))
            superfluous = self._handshakes.add(handshake)
            if superfluous is handshake:
                sock.close()
                continue
            if superfluous is not None:
                superfluous.abort()
            task = self._loop.create_task(self._shake_hands(handshake))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _shake_hands(self, handshake: _Handshake) -> None:
        try:
            await self._loop.connect_accepted_socket(
                self._protocol_factory,
                handshake.sock,
                ssl=self._tls,
                ssl_handshake_timeout=bounds.TLS_HANDSHAKE_SECONDS_MAX,
            )
        except OSError:
            pass  # not TLS, too slow, or gone
        finally:
            self._handshakes.remove(handshake)


class SystemNetwork:
    """TCP and TLS of the machine, on the running event loop."""

    @property
    def strangers_max(self) -> int:
        """See `Network`: a share of the files that the process may open."""
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft == resource.RLIM_INFINITY:
            return bounds.CONNECTIONS_NOT_LOGGED_IN_MAX
        return max(1, int(soft * bounds.DESCRIPTORS_FOR_STRANGERS))

    async def listen(
        self,
        protocol_factory: Callable[[], asyncio.Protocol],
        host: str,
        port: int,
        tls: ssl.SSLContext | None,
    ) -> Listener:
        """See `Network`."""
        try:
            if tls is None:
                loop = asyncio.get_running_loop()
                server = await loop.create_server(protocol_factory, host, port, backlog=BACKLOG)
                return SystemListener(server)
            handshakes_max = min(bounds.TLS_HANDSHAKES_MAX, self.strangers_max)
            return TlsListener(await _bound(host, port), protocol_factory, tls, handshakes_max)
        except socket.gaierror:
            raise
        except OSError as error:
            if not error.errno:
                raise
            # Without the address, which asyncio and `socket` put into the text: the caller names it.
            raise OSError(error.errno, os.strerror(error.errno)) from error

    async def connect(
        self,
        protocol_factory: Callable[[], asyncio.Protocol],
        host: str,
        port: int,
        tls: ssl.SSLContext | None,
    ) -> None:
        """See `Network`. The addresses of a name are tried one after the other.

        The name is looked up here: uvloop's `create_connection` leaves a look-up that fails after the
        caller has given up to the log, as an error of this program.
        """
        loop = asyncio.get_running_loop()
        infos = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        refused: OSError = OSError(f"{host} has no address")
        for _, _, _, _, name in dict.fromkeys(infos):
            try:
                await loop.create_connection(
                    protocol_factory,
                    str(name[0]),
                    int(name[1]),
                    ssl=tls,
                    server_hostname=host if tls is not None else None,
                )
            except ssl.SSLError:
                raise
            except OSError as error:
                refused = error
            else:
                return
        raise refused


async def _bound(host: str, port: int) -> list[socket.socket]:
    """Listening sockets for all addresses of a name, as `loop.create_server` makes them.

    Raises:
        OSError: one cannot be bound.
    """
    infos = await asyncio.get_running_loop().getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    sockets: list[socket.socket] = []
    try:
        for family, _, _, _, name in dict.fromkeys(infos):
            place = name[0], port or (sockets[0].getsockname()[1] if sockets else 0), *name[2:]
            sockets.append(socket.create_server(place, family=family, backlog=BACKLOG))
            sockets[-1].setblocking(False)
    except BaseException:
        for sock in sockets:
            sock.close()
        raise
    return sockets
