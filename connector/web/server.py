"""Runs uvicorn in the daemon's event loop, on our own socket, without its signal handlers."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar, Final

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from connector.base.connections import Connections, network_of
from connector.base.errors import ListenError
from connector.web import bounds
from connector.web.proxies import CAME_FROM, Proxies
from connector.web.turns import BoundedConnection, Flow, Turns

_TURNS_TO_LET_IN: Final = 4


class _Server(uvicorn.Server):
    """Stops at once; uvicorn's own server polls ten times a second, then waits once more."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._asked_to_stop = asyncio.Event()

    def stop(self) -> None:
        """Let `serve` end after the requests in progress."""
        self.should_exit = True
        self._asked_to_stop.set()

    async def main_loop(self) -> None:
        """Update the date header once a second until `stop`."""
        while not await self.on_tick(0):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1):
                    await self._asked_to_stop.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Wait for connections only where there are any."""
        for server in self.servers:
            server.close()
        for sock in sockets or []:
            sock.close()
        # A connection that was just accepted is registered some turns of the loop later.
        for _ in range(_TURNS_TO_LET_IN):
            await asyncio.sleep(0)
        if self.server_state.connections or self.server_state.tasks:
            await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave SIGINT and SIGTERM to the daemon."""
        yield


class _Viewers(WebSocketsSansIOProtocol):
    """A WebSocket that can be aborted although its socket is full.

    What a client sends before it is let in is read afterwards: uvicorn would end the handshake, and take
    that for a failure of the application.
    """

    _waits_to_read = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.app_state = {**self.app_state, "abort": self.transport.abort}

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if not (self.handshake_complete or self._waits_to_read or self.transport.is_closing()):
            self._waits_to_read = True
            self.transport.pause_reading()

    async def send(self, message: Any) -> None:
        await super().send(message)
        if self.close_sent and not self.handshake_complete:
            # Refused with an HTTP response, which ends the handshake. uvicorn notices that when the connection
            # is lost, and takes the return of the application before that for its failure.
            self.handshake_complete = True
        if self._waits_to_read and self.handshake_complete:
            self._waits_to_read = False
            if not self.transport.is_closing():
                self.transport.resume_reading()

    def shutdown(self) -> None:
        """Close, without waiting for a viewer that does not read."""
        stuck = not self.writable.is_set()
        super().shutdown()
        if stuck:
            self.transport.abort()


class _Http(H11Protocol):
    """HTTP/1.1 with a deadline for every wait, a place in a bounded table of connections, and reading by turns."""

    open_connections: ClassVar[Connections[Any]]
    proxies: ClassVar[Proxies]
    turns: ClassVar[Turns]

    address = ""
    _deadline: asyncio.TimerHandle | None = None
    _waits_for_turn = False
    _is_upgraded = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.conn = BoundedConnection(h11.SERVER, 2 * bounds.HTTP_HEADERS_BYTES_MAX)
        self.flow = Flow(transport, self._read_on)
        self._unread = bytearray()
        host = self.client[0] if self.client else ""
        self.address = network_of(host)
        self.app_state = {**self.app_state, CAME_FROM: self._came_from}
        self._wait(bounds.HTTP_HEADERS_SECONDS_MAX)
        superfluous = self.open_connections.add(self, shared=self.proxies.trusts(host))
        if superfluous is not None:
            superfluous.abort()

    def _came_from(self, host: str) -> None:
        """Count the connection of a trusted proxy for the client of its last request."""
        address = network_of(host)
        if address == self.address:
            return
        shared = self.proxies.trusts(host)
        superfluous = self.open_connections.move(self, address, shared=shared)
        if superfluous is not None:
            superfluous.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._unread.clear()
        self._wait(None)
        self.open_connections.remove(self)
        super().connection_lost(exc)

    @property
    def is_idle(self) -> bool:
        """Whether no request is being answered."""
        cycle: Any = self.cycle  # uvicorn's annotation leaves None out
        return cycle is None or bool(cycle.response_complete)

    def abort(self) -> None:
        """Close at once."""
        self.transport.abort()

    def data_received(self, data: bytes) -> None:
        self._unread += data
        self._read_on()

    def _read_on(self) -> None:
        """Go on with what is unread, in its turn; where there is much, no more is taken meanwhile."""
        if len(self._unread) > bounds.HTTP_READ_BYTES and not self.transport.is_closing():
            self.transport.pause_reading()
        if self._unread and not self._waits_for_turn and not self.flow.read_paused:
            self._waits_for_turn = True
            self.turns.join(self)

    def read_part(self) -> None:
        """See `Turns`."""
        self._waits_for_turn = False
        if not self._may_read():
            return  # `Flow` says when it goes on
        part = bytes(self._unread[: bounds.HTTP_READ_BYTES])
        del self._unread[: len(part)]
        self._read(part)
        if self._unread:
            self._read_on()
        elif self._may_read():
            self.transport.resume_reading()

    def _may_read(self) -> bool:
        return not (self.flow.read_paused or self._is_upgraded or self.transport.is_closing())

    def _read(self, data: bytes) -> None:
        was_idle = self.is_idle
        super().data_received(data)
        if not self.is_idle:
            if was_idle:
                self._wait(bounds.HTTP_ANSWER_SECONDS_MAX)
        elif self._deadline is None and self.conn.their_state is h11.IDLE:
            # Headers have begun that are not complete; `timeout_keep_alive` has ended with them.
            self._wait(bounds.HTTP_HEADERS_SECONDS_MAX)

    def send_400_response(self, msg: str) -> None:
        """Refuse octets that are no HTTP, also behind a request that is being answered, or was.

        An answer that is being made is dropped, and one that has begun is cut off: uvicorn would fail to
        send another, and take that for a failure of the application.
        """
        cycle: Any = self.cycle
        if cycle is not None and not cycle.response_complete:
            cycle.disconnected = True
            cycle.message_event.set()
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            super().send_400_response(msg)
        else:
            self.abort()

    def on_response_complete(self) -> None:
        self._wait(None)
        super().on_response_complete()

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        self._wait(None)
        self.open_connections.remove(self)
        self._is_upgraded = True
        self._unread.clear()  # it was sent too early
        self.transport.resume_reading()
        super().handle_websocket_upgrade(event)

    def _wait(self, seconds: float | None) -> None:
        """Abort in so many seconds, in place of an earlier deadline; None: there is none."""
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = None if seconds is None else self.loop.call_later(seconds, self.abort)


class WebServer:
    """Serves an application until `stop`."""

    def __init__(
        self,
        app: Callable[..., Any],
        host: str,
        port: int,
        tls_cert: Path | None = None,
        tls_key: Path | None = None,
        *,
        proxies: Proxies | None = None,
        setting: str = "HTTP",
    ) -> None:
        """Build it.

        Args:
            app: the ASGI application.
            host: the address to listen at.
            port: its port; 0 takes a free one.
            tls_cert: certificate chain, PEM and valid; None as `tls_key` is.
            tls_key: its private key, PEM and valid.
            proxies: those whose addresses many clients share (`ProxyHeaders`); None: there are none.
            setting: how the settings of host and port begin, for messages.
        """
        self._setting = setting
        self._host = host
        self._port = port
        self._socket: socket.socket | None = None
        connections: Connections[_Http] = Connections(
            count_max=bounds.HTTP_CONNECTIONS_MAX,
            per_address_max=bounds.HTTP_CONNECTIONS_PER_ADDRESS_MAX,
        )
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            lifespan="off",
            loop="none",
            server_header=False,
            date_header=True,
            timeout_graceful_shutdown=1,
            http=type(
                "_HttpHere",
                (_Http,),
                {
                    "open_connections": connections,
                    "proxies": proxies or Proxies([]),
                    "turns": Turns(),
                },
            ),
            timeout_keep_alive=bounds.HTTP_KEEP_ALIVE_SECONDS,
            h11_max_incomplete_event_size=2 * bounds.HTTP_HEADERS_BYTES_MAX,
            proxy_headers=False,
            ws=_Viewers,
            ws_max_size=bounds.VIEWER_MESSAGE_BYTES_MAX,
            # Frames are encoded once for all viewers; compression would work for each.
            ws_per_message_deflate=False,
            ws_ping_interval=20.0,
            ws_ping_timeout=20.0,
            ssl_certfile=tls_cert,
            ssl_keyfile=tls_key,
        )
        self._server = _Server(config)

    def bind(self) -> int:
        """Bind the socket; gives the port, chosen by the system for port 0.

        Raises:
            ListenError: the port is in use, or the address is not local. (uvicorn would exit.)
        """
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        # asyncio sets TCP_NODELAY only when the protocol is named. Without it, answers on a kept
        # connection wait 40 ms for the client to acknowledge their headers.
        sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((self._host, self._port))
            sock.listen(128)
        except OSError as error:
            sock.close()
            raise ListenError(
                f"cannot listen for HTTP on {self._host}:{self._port}: {error.strerror or error}; "
                f"choose another {self._setting}_PORT or {self._setting}_HOST"
            ) from error
        sock.setblocking(False)
        self._socket = sock
        return int(sock.getsockname()[1])

    async def run(self) -> None:
        """Serve until `stop`."""
        assert self._socket is not None, "bind first"
        await self._server.serve(sockets=[self._socket])

    async def started(self) -> None:
        """Return when the server accepts requests."""
        while not self._server.started:
            await asyncio.sleep(0.005)

    def stop(self) -> None:
        """Let `run` end after the requests in progress."""
        self._server.stop()
