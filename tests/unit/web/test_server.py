"""uvicorn as a part of the daemon: no exit of the process, no signal handlers, a stop in time."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from connector.base.errors import ListenError
from connector.web import bounds
from connector.web.proxies import Proxies, ProxyHeaders
from connector.web.server import WebServer
from tests.support.patience import PATIENCE_SECONDS


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
        async with httpx.AsyncClient(trust_env=False, verify=False) as client:
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
        async with httpx.AsyncClient(trust_env=False, verify=False) as client:
            await client.get(f"http://127.0.0.1:{port}/")
            (connection,) = server._server.server_state.connections
            sock = connection.transport.get_extra_info("socket")
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        server.stop()


async def closed(reader: asyncio.StreamReader) -> bytes:
    """All that comes until the server closes."""
    with contextlib.suppress(ConnectionError):
        return await reader.read()
    return b""


async def test_who_never_ends_its_headers_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "HTTP_HEADERS_SECONDS_MAX", 0.05)
    server = WebServer(FastAPI(), "127.0.0.1", 0)
    port = server.bind()
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        group.create_task(server.run())
        await server.started()
        for sent in ((b"",), (b"GET / HT",), (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"GET / HT")):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            for part in sent:
                writer.write(part)
                if part.endswith(b"\r\n\r\n"):
                    assert await reader.readuntil(b"}") != b""
            assert await closed(reader) == b""
            writer.close()
        assert not server._server.server_state.connections
        server.stop()


async def test_an_answer_that_takes_too_long_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "HTTP_ANSWER_SECONDS_MAX", 0.05)
    app = FastAPI()
    never = asyncio.Event()

    @app.get("/")
    async def root() -> None:
        await never.wait()

    server = WebServer(app, "127.0.0.1", 0)
    port = server.bind()
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        group.create_task(server.run())
        await server.started()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert await closed(reader) == b""
        writer.close()
        never.set()
        server.stop()


async def test_idle_connections_keep_nobody_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "HTTP_CONNECTIONS_PER_ADDRESS_MAX", 5)
    server = WebServer(FastAPI(), "127.0.0.1", 0)
    port = server.bind()
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        group.create_task(server.run())
        await server.started()
        idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(20)]
        async with httpx.AsyncClient(trust_env=False, verify=False) as client:
            for _ in range(3):
                assert (await client.get(f"http://127.0.0.1:{port}/")).status_code == 404
        for reader, _ in idle[:15]:
            assert await closed(reader) == b"", "the oldest went"
        for _, writer in idle:
            writer.close()
        server.stop()


async def test_behind_a_proxy_connections_count_for_the_clients(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bounds, "HTTP_CONNECTIONS_PER_ADDRESS_MAX", 3)
    proxies = Proxies(["127.0.0.1"])
    server = WebServer(ProxyHeaders(FastAPI(), proxies), "127.0.0.1", 0, proxies=proxies)
    port = server.bind()
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        group.create_task(server.run())
        await server.started()

        async def ask(address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(
                f"GET / HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: {address}\r\n\r\n".encode()
            )
            assert (await reader.readuntil(b"}")).startswith(b"HTTP/1.1 404")
            return reader, writer

        others = [await ask(f"203.0.113.{number}") for number in range(10)]
        crowd = [await ask("198.51.100.1") for _ in range(5)]
        for reader, _ in crowd[:2]:
            assert await closed(reader) == b"", "the oldest of the busiest client went"
        assert len(server._server.server_state.connections) == 13
        for _, writer in (*others, *crowd):
            writer.close()
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


_CHUNKED = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize("answers", ["at once", "after the body", "in part"])
@pytest.mark.parametrize("at_once", [True, False])
async def test_rubbish_behind_a_request_is_no_failure_of_the_application(
    answers: str, at_once: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """A body whose chunks are none: refused or cut off, whatever became of the request."""
    begun = asyncio.Event()

    async def app(_scope: Any, receive: Any, send: Any) -> None:
        if answers == "after the body":
            begun.set()
            while (await receive()).get("more_body", False):
                pass
        await send({"type": "http.response.start", "status": 403, "headers": []})
        await send({"type": "http.response.body", "body": b"x", "more_body": answers == "in part"})
        begun.set()
        if answers == "in part":
            await receive()
            await send({"type": "http.response.body", "body": b"y"})

    server = WebServer(app, "127.0.0.1", 0)
    port = server.bind()
    async with asyncio.timeout(PATIENCE_SECONDS), asyncio.TaskGroup() as group:
        group.create_task(server.run())
        await server.started()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(_CHUNKED + b"no chunk\r\n" if at_once else _CHUNKED)
        if not at_once:
            await begun.wait()
            writer.write(b"no chunk\r\n")
        await closed(reader)
        writer.close()
        server.stop()
    assert [one.message for one in caplog.records if one.levelname == "ERROR"] == []


async def test_a_client_that_speaks_before_its_websocket_is_open_is_heard_later(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A frame that breaks the rules ends the connection, not the handshake."""
    may_accept = asyncio.Event()

    async def app(_scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await may_accept.wait()
        await send({"type": "websocket.accept"})
        while (await receive())["type"] != "websocket.disconnect":
            pass

    server = WebServer(app, "127.0.0.1", 0)
    port = server.bind()
    async with asyncio.timeout(PATIENCE_SECONDS), asyncio.TaskGroup() as group:
        group.create_task(server.run())
        await server.started()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(
            b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        await writer.drain()
        while not server._server.server_state.tasks:
            await asyncio.sleep(0.005)
        writer.write(b"\x82\x00unmasked")
        await writer.drain()
        for _ in range(20):  # turns of the event loop, in which it would be read
            await asyncio.sleep(0)
        may_accept.set()
        assert (await closed(reader)).startswith(b"HTTP/1.1 101")
        writer.close()
        server.stop()
    assert [one.message for one in caplog.records if one.levelname == "ERROR"] == []


@pytest.mark.parametrize("answer", ["response", "close", "nothing sent"])
async def test_a_refused_websocket_is_no_failure_of_the_application(
    answer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever asks without a key could fill the log with errors."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if answer == "response":
            await send({"type": "websocket.http.response.start", "status": 401, "headers": []})
            await send({"type": "websocket.http.response.body", "body": b"no "})
        elif answer == "close":
            await send({"type": "websocket.close", "code": 1008})

    errors: list[str] = []
    monkeypatch.setattr(logging.getLogger("uvicorn.error"), "error", errors.append)
    server = WebServer(app, "127.0.0.1", 0)
    port = server.bind()
    async with asyncio.timeout(PATIENCE_SECONDS), asyncio.TaskGroup() as group:
        group.create_task(server.run())
        await server.started()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(
            b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        )
        status = (await closed(reader)).split(b"\r\n")[0].split(b" ")[1]
        writer.close()
        server.stop()
    assert status == {"response": b"401", "close": b"403", "nothing sent": b"500"}[answer]
    # Only an application that answers nothing has failed.
    assert bool(errors) is (answer == "nothing sent"), errors
