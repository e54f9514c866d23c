"""The network as `Links` uses it: a port that peers connect to, and connections to peers.

`SystemNetwork` is the one of the machine, on the running event loop. A simulation hands in one of
its own; links cannot tell the difference.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Any, Protocol


class Listener(Protocol):
    """A port that connections are accepted on."""

    @property
    def port(self) -> int:
        """Which one it is, where any free one was asked for."""

    def close(self) -> None:
        """Accept no more connections; those that exist stay."""


class Network(Protocol):
    """Byte streams to and from other machines. Protocols are those of `asyncio`."""

    async def listen(
        self,
        protocol_factory: Callable[[], asyncio.Protocol],
        host: str,
        port: int,
        tls: ssl.SSLContext | None,
    ) -> Listener:
        """Accept connections; each gets a protocol of its own. Port 0: any free one.

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
            OSError: nobody answers there, or TLS failed (`ssl.SSLError`).
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
