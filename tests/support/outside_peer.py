"""A peer over HTTP that a test controls: an HTTP server of few lines, and requests as a client."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.support.patience import PATIENCE_SECONDS


@dataclass
class Asked:
    """A request to the peer."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Said:
    """Its answer; `raw` is written as it is, and the connection closed after it."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    raw: bytes | None = None


Serve = Callable[[Asked], Awaitable[Said] | Said]


class OutsidePeer:
    """Answers each POST by `serve`; a GET with 404, as a program without packet ids does."""

    def __init__(self, serve: Serve) -> None:
        self.serve = serve
        self.asked: list[Asked] = []
        self.port = 0
        self.connections = 0
        self.open = 0
        self.open_most = 0
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/ilp"

    @contextlib.asynccontextmanager
    async def running(self, port: int = 0) -> AsyncIterator[OutsidePeer]:
        server = await asyncio.start_server(self._connected, "127.0.0.1", port)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for writer in self._writers:
                writer.transport.abort()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open += 1
        self.open_most = max(self.open, self.open_most)
        self._writers.add(writer)
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                while await self._request(reader, writer):
                    pass
        except asyncio.CancelledError:
            pass  # the server is closed
        finally:
            self.open -= 1
            self._writers.discard(writer)
            writer.close()

    async def _request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        method, path, _ = head[0].split(" ")
        pairs = (line.split(": ", 1) for line in head[1:] if line)
        headers = {name.lower(): value for name, value in pairs}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        asked = Asked(method, path, headers, body)
        said: Any = Said(404)
        if method == "POST":
            self.asked.append(asked)
            said = self.serve(asked)
            if not isinstance(said, Said):
                said = await said
        if said.raw is not None:
            writer.write(said.raw)
            await writer.drain()
            return False
        lines = [f"HTTP/1.1 {said.status} x", f"content-length: {len(said.body)}"]
        lines += [f"{name}: {value}" for name, value in said.headers.items()]
        writer.write("\r\n".join([*lines, "", ""]).encode() + said.body)
        await writer.drain()
        return True


async def post(
    url: str, body: bytes, token: str, headers: dict[str, str] | None = None
) -> httpx.Response:
    """Post a packet as a program of another kind would."""
    async with httpx.AsyncClient(verify=False, trust_env=False, timeout=PATIENCE_SECONDS) as client:
        return await client.post(
            url,
            content=body,
            headers={
                "authorization": f"Bearer {token}",
                "content-type": "application/octet-stream",
                **(headers or {}),
            },
        )
