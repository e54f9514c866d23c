"""uvicorn as a part of the daemon: in its loop, on a socket of ours, without its signal handlers."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator

import uvicorn
from fastapi import FastAPI

from connector.errors import ListenError


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """SIGINT and SIGTERM are the daemon's."""
        yield


class WebServer:
    """Serves an application until `stop`."""

    def __init__(self, app: FastAPI, host: str, port: int) -> None:
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
            ws="none",
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
