"""The network interface of `Links`: listening for peers, and connecting to them.

`SystemNetwork` uses the machine's network and the running event loop. The simulator has its own
implementation.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Any, Protocol


class Listener(Protocol):
    """A listening port."""

    @property
    def port(self) -> int:
        """The port number; chosen by the system if 0 was requested."""

    def close(self) -> None:
        """Stop accepting connections; existing ones stay open."""


class Network(Protocol):
    """Byte streams to and from other hosts. Protocols are those of `asyncio`."""

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
    """A listening socket of the machine."""

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


class SystemNetwork:
    """TCP and TLS of the machine, on the running event loop."""

    async def listen(
        self,
        protocol_factory: Callable[[], asyncio.Protocol],
        host: str,
        port: int,
        tls: ssl.SSLContext | None,
    ) -> SystemListener:
        """See `Network`."""
        loop = asyncio.get_running_loop()
        return SystemListener(
            await loop.create_server(protocol_factory, host, port, ssl=tls, backlog=1024)
        )

    async def connect(
        self,
        protocol_factory: Callable[[], asyncio.Protocol],
        host: str,
        port: int,
        tls: ssl.SSLContext | None,
    ) -> None:
        """See `Network`."""
        await asyncio.get_running_loop().create_connection(protocol_factory, host, port, ssl=tls)
