"""The machine's network: connecting by name."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import uvloop

from connector.btp.network import SystemNetwork
from tests.support.patience import PATIENCE_SECONDS


async def _listening() -> tuple[asyncio.Server, int]:
    server = await asyncio.get_running_loop().create_server(asyncio.Protocol, "127.0.0.1", 0)
    return server, int(server.sockets[0].getsockname()[1])


def _names(*addresses: str) -> Callable[..., Awaitable[list[tuple[Any, ...]]]]:
    async def getaddrinfo(_host: str, port: int, **_: Any) -> list[tuple[Any, ...]]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, port)) for one in addresses]

    return getaddrinfo


async def test_all_addresses_of_a_name_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    server, port = await _listening()
    loop = asyncio.get_running_loop()
    made: list[asyncio.BaseTransport] = []

    class Noted(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            made.append(transport)

    factory = Noted

    monkeypatch.setattr(loop, "getaddrinfo", _names("127.0.0.2", "127.0.0.1"))
    await SystemNetwork().connect(factory, "peer.example", port, None)
    (transport,) = made
    transport.close()
    server.close()
    await server.wait_closed()
    with pytest.raises(ConnectionRefusedError):
        await SystemNetwork().connect(factory, "peer.example", port, None)
    monkeypatch.setattr(loop, "getaddrinfo", _names())
    with pytest.raises(OSError, match="has no address"):
        await SystemNetwork().connect(factory, "peer.example", port, None)


def test_a_look_up_that_nobody_waits_for_any_more_is_no_error_of_this_program() -> None:
    """With uvloop, which the daemon uses."""

    async def main() -> list[str]:
        said: list[str] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _loop, context: said.append(context["message"]))
        for _ in range(20):
            with pytest.raises((TimeoutError, OSError)):
                async with asyncio.timeout(0.0001):
                    await SystemNetwork().connect(asyncio.Protocol, "nothing.invalid", 80, None)
        # Until the look-ups have ended, in the threads of the loop.
        with pytest.raises(OSError, match=r"\w"):
            await SystemNetwork().connect(asyncio.Protocol, "nothing.invalid", 80, None)
        return said

    assert uvloop.run(main()) == []


@pytest.mark.parametrize("with_tls", [False, True])
@pytest.mark.parametrize("with_uvloop", [False, True])
def test_a_port_in_use_is_said_in_the_systems_words(with_tls: bool, with_uvloop: bool) -> None:
    """Not in those of asyncio, which name the address once more."""

    async def main() -> str:
        server, port = await _listening()
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH) if with_tls else None
        with pytest.raises(OSError) as caught:
            await SystemNetwork().listen(asyncio.Protocol, "127.0.0.1", port, tls)
        server.close()
        await server.wait_closed()
        assert caught.value.errno == errno.EADDRINUSE
        return str(caught.value.strerror)

    run = uvloop.run if with_uvloop else asyncio.run
    assert run(main()) == os.strerror(errno.EADDRINUSE)


async def test_a_connection_that_was_reset_at_once_does_not_end_the_listener(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """macOS refuses options of such a socket; nobody could connect any more."""

    class Reset(socket.socket):
        refuses = True

        def setsockopt(self, *what: Any) -> None:
            if self.refuses:
                self.refuses = False
                raise OSError(errno.EINVAL, "Invalid argument")
            super().setsockopt(*what)

    loop = asyncio.get_running_loop()
    accept = loop.sock_accept

    async def accept_reset(listening: socket.socket) -> tuple[socket.socket, Any]:
        sock, name = await accept(listening)
        return Reset(fileno=sock.detach()), name

    monkeypatch.setattr(loop, "sock_accept", accept_reset)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    listener = await SystemNetwork().listen(asyncio.Protocol, "127.0.0.1", 0, tls)
    for _ in range(2):
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        writer.write(b"no TLS at all")
        async with asyncio.timeout(PATIENCE_SECONDS):
            await reader.read()
        writer.close()
    listener.close()
