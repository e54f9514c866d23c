"""HTTP servers that are functions: the transport that an `HttpClient` is handed instead of a network."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx


class _Octets(httpx.AsyncByteStream):
    def __init__(self, parts: list[bytes]) -> None:
        self._parts = parts

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for part in self._parts:
            yield part


def raw(status: int, *parts: bytes, **headers: str) -> httpx.Response:
    """An answer exactly as it is on the wire, in these parts."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.Response(status, headers=named, stream=_Octets(list(parts)))


class FakeNetwork(httpx.AsyncBaseTransport):
    """Every request is answered by `handler`, which may be a coroutine function."""

    def __init__(self, handler: Callable[[httpx.Request], Any]) -> None:
        self._handler = handler

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await request.aread()
        response = self._handler(request)
        if inspect.isawaitable(response):
            response = await response
        if response.is_closed:
            # Made with its content, which was read at once: put on the wire again.
            return raw(response.status_code, response.content, **dict(response.headers))
        return response
