"""Proxies between two hosts that speak HTTP: they lose answers, answer themselves, or ask twice.

A request or an answer is written at once by everybody here, so what a side writes is one of them.
"""

from __future__ import annotations

from typing import Any, Final

from connector.simulation.kinds import Kind
from connector.simulation.network import Network
from connector.simulation.octets import http
from connector.simulation.transport import Pipe, Transport

_FAILED: Final = http("HTTP/1.1 502 Bad Gateway", {"Content-Type": "text/plain"}, b"no answer")


class FaultyProxy:
    """See the module; a `Proxy`."""

    def __init__(self, network: Network, kind: Kind, size: float, *, behind: bool) -> None:
        """Nothing has passed.

        Args:
            network: carries.
            kind: what it does.
            size: how many seconds later it asks again.
            behind: whether its own answer stands for one of the other side, which has had the request.
        """
        self._network = network
        self._kind = kind
        self._size = size
        self._behind = behind
        self.struck = 0
        """How often it did so."""

    def passes(self, pipe: Pipe, data: bytes) -> bytes | None:
        """See `transport.Proxy`."""
        connection = pipe.connection
        is_request = pipe is connection.client.out
        match self._kind:
            case Kind.ANSWERS_LOST if not is_request:
                self._network.drop(connection)
            case Kind.GATEWAY if is_request and not self._behind:
                pipe.unread -= len(data)
                self._answer(connection.server.out)
            case Kind.GATEWAY if self._behind and not is_request:
                pipe.unread -= len(data)
                self._answer(pipe)
            case Kind.ASKED_TWICE if is_request and not isinstance(
                connection.client.protocol, _Again
            ):
                self._network.world.after(
                    self._size * pipe.chance.random(), self._ask_again, pipe.reader, data
                )
                self.struck += 1
                return data
            case _:
                return data
        self.struck += 1
        return None

    def _answer(self, pipe: Pipe) -> None:
        pipe.unread += len(_FAILED)
        self._network.carry_on(pipe, _FAILED)

    def _ask_again(self, server: Transport, data: bytes) -> None:
        """The same request once more: of a process that lives, as RFC 9110 wants it of proxies."""
        connection = server.out.connection

        def made(client: Transport) -> None:
            if client.out.reader.is_same_process(server):
                client.begin(_Again(data))
            else:
                self._network.drop(client.out.connection)

        self._network.connect(
            connection.client.host, None, server.host, made, lambda _error: None, connection.port
        )


class _Again:
    """The client's side of a connection for one request, whose answer nobody reads: an `asyncio.Protocol`."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._transport: Transport

    def connection_made(self, transport: Transport) -> None:
        """See `asyncio.Protocol`."""
        self._transport = transport
        transport.write(self._data)

    def data_received(self, _data: bytes) -> None:
        """See `asyncio.Protocol`."""
        self._transport.close()

    def eof_received(self) -> None:
        """See `asyncio.Protocol`."""

    def pause_writing(self) -> None:
        """See `asyncio.Protocol`."""

    def resume_writing(self) -> None:
        """See `asyncio.Protocol`."""

    def connection_lost(self, _error: Any) -> None:
        """See `asyncio.Protocol`."""
