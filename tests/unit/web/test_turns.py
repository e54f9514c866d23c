"""No client holds the event loop, however it sends a request, nor do many together."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from fastapi import FastAPI, Request

from connector.base.http_heads import HEAD_LINES_MAX
from connector.web import bounds
from connector.web.pay import PayApp
from connector.web.server import WebServer
from connector.web.turns import Turns

GET = b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST /0 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"


@contextlib.asynccontextmanager
async def served() -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection to a server that answers with the number in the path and the length of the body."""
    app = FastAPI()

    @app.api_route("/{number}", methods=["GET", "POST"])
    async def root(number: int, request: Request) -> list[int]:
        return [number, len(await request.body())]

    server = WebServer(app, "127.0.0.1", 0)
    port = server.bind()
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        group.create_task(server.run())
        await server.started()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        yield reader, writer
        writer.close()
        server.stop()


async def answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(
        int(line.split(b":")[1])
        for line in head.split(b"\r\n")
        if line.startswith(b"content-length")
    )
    return int(head.split()[1]), await reader.readexactly(length)


async def refused(octets: bytes) -> bytes:
    """The status with which a request is refused; then the connection is closed."""
    async with served() as (reader, writer):
        writer.write(octets)
        with contextlib.suppress(ConnectionError):
            return (await reader.read())[:12]
    return b""


async def test_requests_that_come_together_are_answered_in_their_order() -> None:
    """Some thousands in one write: many parts, and parts that end within a request."""
    async with served() as (reader, writer):
        writer.write(b"".join(GET % number for number in range(2000)))
        for number in range(2000):
            assert await answer(reader) == (200, b"[%d,0]" % number)


@pytest.mark.parametrize("size", [0, 1, bounds.HTTP_READ_BYTES, bounds.HTTP_BODY_BYTES_MAX])
@pytest.mark.parametrize("chunked", [True, False])
async def test_bodies_of_any_size_come_whole(size: int, chunked: bool) -> None:
    body = bytes(size)
    async with served() as (reader, writer):
        for number in range(2):
            if chunked:
                writer.write(POST.replace(b"/0", b"/%d" % number))
                for at in range(0, size, 60_000):
                    part = body[at : at + 60_000]
                    writer.write(b"%x\r\n%b\r\n" % (len(part), part))
                writer.write(b"0\r\nA-Trailer: x\r\n\r\n")
            else:
                writer.write(b"POST /%d HTTP/1.1\r\nHost: x\r\n" % number)
                writer.write(b"Content-Length: %d\r\n\r\n%b" % (size, body))
        for number in range(2):
            assert await answer(reader) == (200, b"[%d,%d]" % (number, size))


async def test_so_many_headers_and_chunks_are_read_and_no_more() -> None:
    more = b"a: b\r\n" * (HEAD_LINES_MAX - 2)
    chunks = b"1\r\na\r\n" * bounds.HTTP_BODY_CHUNKS_MAX
    async with served() as (reader, writer):
        writer.write((GET % 7).replace(b"\r\n\r\n", b"\r\n" + more + b"\r\n"))
        assert await answer(reader) == (200, b"[7,0]")
        writer.write(POST + chunks + b"0\r\n\r\n")
        assert await answer(reader) == (200, b"[0,%d]" % bounds.HTTP_BODY_CHUNKS_MAX)
    head = (GET % 7).replace(b"\r\n\r\n", b"\r\n" + more + b"a: b\r\na: b\r\n\r\n")
    assert await refused(head) == b"HTTP/1.1 400"
    # The library does not see the beginning of a chunk where a part ends: one less for each part.
    assert await refused(POST + chunks + b"1\r\na\r\n" * 10) == b"HTTP/1.1 400"
    assert await refused(POST + b"0\r\n" + b"a: b\r\n" * 2000) == b"HTTP/1.1 400"
    assert await refused(POST + b"1;" + b"x" * 10_000) == b"HTTP/1.1 400"
    assert await refused(b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 1000) == b"HTTP/1.1 400"


async def test_many_connections_share_a_bounded_part_of_each_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bounds, "HTTP_READ_SECONDS_PER_TURN", 0.0)
    turns, read = Turns(), list[int]()

    class Reader:
        def __init__(self, number: int, parts: int) -> None:
            self.number, self.parts = number, parts

        def read_part(self) -> None:
            read.append(self.number)
            self.parts -= 1
            if self.parts:
                turns.join(self)

    for number in range(3):
        turns.join(Reader(number, 2))
    for done in range(1, 7):
        await asyncio.sleep(0)
        assert len(read) == done
    await asyncio.sleep(0)
    assert read == [0, 1, 2, 0, 1, 2]


async def test_of_what_a_payers_client_accepts_the_beginning_is_read() -> None:
    app = PayApp(["alice"], lambda _name: ("test.alice.token", bytes(32)))
    said: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        said.append(message)

    async def receive() -> dict[str, Any]:
        raise AssertionError("a body is not read")

    for accept, status in ((b"text/html," * 100_000, 406), (b"*/*," + b"a," * 100_000, 200)):
        scope = {
            "type": "http",
            "method": "GET",
            "path": "/pay/alice",
            "headers": [(b"accept", accept)],
        }
        await app(scope, receive, send)
        assert said[-2]["status"] == status
