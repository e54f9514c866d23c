"""uvicorn as a part of the daemon: in its loop, on a socket of ours, without its signal handlers."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import uvicorn
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from connector import limits
from connector.errors import ListenError


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """SIGINT and SIGTERM are the daemon's."""
        yield


class _Viewers(WebSocketsSansIOProtocol):
    """A websocket that can be let go of although its socket is full."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.app_state = {**self.app_state, "abort": self.transport.abort}

    def shutdown(self) -> None:
        """Say goodbye, but do not wait for whoever reads nothing."""
        stuck = not self.writable.is_set()
        super().shutdown()
        if stuck:
            self.transport.abort()


class WebServer:
    """Serves an application until `stop`."""

    def __init__(
        self,
        app: Callable[..., Any],
        host: str,
        port: int,
        tls_cert: Path | None = None,
        tls_key: Path | None = None,
    ) -> None:
        """Build it. Certificate chain and private key: both PEM, both usable, or both None."""
        self._host = host
        self._port = port
        self._socket: socket.socket | None = None
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            lifespan="off",
            loop="none",
            server_header=False,
            date_header=True,
            timeout_graceful_shutdown=1,
            timeout_keep_alive=30,
            limit_concurrency=256,
            h11_max_incomplete_event_size=32_768,
            proxy_headers=False,
            ws=_Viewers,
            ws_max_size=limits.VIEWER_MESSAGE_BYTES_MAX,
            # Frames are encoded once for all; compressing would be done for each.
            ws_per_message_deflate=False,
            ws_ping_interval=20.0,
            ws_ping_timeout=20.0,
            ssl_certfile=tls_cert,
            ssl_keyfile=tls_key,
        )
        self._server = _Server(config)

    def bind(self) -> int:
        """Take the port; gives it, which is another one where 0 was asked for.

        Raises:
            ListenError: the port is taken, or the address is not ours. (uvicorn would exit.)
        """
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((self._host, self._port))
            sock.listen(128)
        except OSError as error:
            sock.close()
            raise ListenError(
                f"cannot listen for HTTP on {self._host}:{self._port}: {error.strerror or error}; "
                "choose another HTTP_PORT or HTTP_HOST"
            ) from error
        sock.setblocking(False)
        self._socket = sock
        return int(sock.getsockname()[1])

    async def run(self) -> None:
        """Serve until `stop`."""
        assert self._socket is not None, "bind first"
        await self._server.serve(sockets=[self._socket])

    async def started(self) -> None:
        """Return when requests are answered."""
        while not self._server.started:
            await asyncio.sleep(0.005)

    def stop(self) -> None:
        """Let `run` end after the requests that are under way."""
        self._server.should_exit = True
