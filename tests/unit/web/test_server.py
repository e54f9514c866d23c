"""uvicorn as a part of the daemon: no exits, no signal handlers, an end that comes."""

from __future__ import annotations

import asyncio
import signal
import socket

import httpx
import pytest
from fastapi import FastAPI

from connector.base.errors import ListenError
from connector.web.server import WebServer


async def test_the_server_runs_from_started_to_stop_without_signal_handlers() -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    app = FastAPI()

    @app.get("/")
    async def root() -> str:
        return "here"

    server = WebServer(app, "127.0.0.1", 0)
    port = server.bind()
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        serving = group.create_task(server.run())
        await server.started()
        assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
        async with httpx.AsyncClient(trust_env=False) as client:
            assert (await client.get(f"http://127.0.0.1:{port}/")).json() == "here"
        server.stop()
        await serving
    with socket.socket() as sock:
        assert sock.connect_ex(("127.0.0.1", port)) != 0, "nobody listens any more"


async def test_an_answer_on_a_kept_connection_is_sent_at_once() -> None:
    """Head and body are two segments: the second may not wait until the first is acknowledged."""
    server = WebServer(FastAPI(), "127.0.0.1", 0)
    port = server.bind()
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        group.create_task(server.run())
        await server.started()
        async with httpx.AsyncClient(trust_env=False) as client:
            await client.get(f"http://127.0.0.1:{port}/")
            (connection,) = server._server.server_state.connections
            sock = connection.transport.get_extra_info("socket")
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        server.stop()


async def test_without_connections_it_stops_at_once() -> None:
    loop = asyncio.get_running_loop()
    took_s = []
    for _ in range(5):
        server = WebServer(FastAPI(), "127.0.0.1", 0)
        server.bind()
        async with asyncio.timeout(10), asyncio.TaskGroup() as group:
            group.create_task(server.run())
            await server.started()
            began_s = loop.time()
            server.stop()
        took_s.append(loop.time() - began_s)
    assert min(took_s) < 0.05, took_s


def test_a_port_in_use_is_an_error_that_names_it() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(ListenError, match=rf"127\.0\.0\.1:{port}.*choose another HTTP_PORT"):
            WebServer(FastAPI(), "127.0.0.1", port).bind()


def test_a_foreign_address_is_an_error() -> None:
    with pytest.raises(ListenError, match=r"cannot listen for HTTP on 192\.0\.2\.1:0"):
        WebServer(FastAPI(), "192.0.2.1", 0).bind()


async def test_ipv6_is_served_where_available() -> None:
    server = WebServer(FastAPI(), "::1", 0)
    try:
        assert server.bind() > 0
    except ListenError as error:
        pytest.skip(f"no IPv6 loopback on this machine: {error}")
    assert server._socket is not None
    server._socket.close()
