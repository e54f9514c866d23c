"""Connections of the HTTP client, read in small parts: no server holds the event loop.

The library parses all that it has read in one go: 64 KB of interim answers (1xx), or of chunks with one octet
each, take it 100 to 200 ms, and as much is there again at once. So a part is small, others have their turn before each, and
all that is read for one request is bounded.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterable
from typing import Any, Final

import httpcore
import httpx

_PART_BYTES: Final = 8192
_HEADERS_BYTES: Final = 65_536
_IDLE_SECONDS_MAX: Final = 5.0
# A head, or trailers, of 100 KB as the library takes them are 25,000 lines: it parses them in one go, in 150 ms.
httpcore.AsyncHTTP11Connection.MAX_INCOMPLETE_EVENT_SIZE = 16_384


def read_max(answer_bytes_max: int) -> int:
    """Octets that are read for one request: the headers, and the body with what its chunks cost."""
    return _HEADERS_BYTES + 2 * answer_bytes_max


class InTurns(httpx.AsyncBaseTransport):
    """The network of an `HttpClient`. Raises what `httpcore` raises."""

    def __init__(
        self, *, trusted: ssl.SSLContext, connections_max: int, answer_bytes_max: int
    ) -> None:
        """Nothing is connected yet.

        Args:
            trusted: for TLS.
            connections_max: open at one time.
            answer_bytes_max: of an answer's body.
        """
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=trusted,
            max_connections=connections_max,
            max_keepalive_connections=connections_max,
            keepalive_expiry=_IDLE_SECONDS_MAX,
            network_backend=_Network(read_max(answer_bytes_max)),
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """See `httpx.AsyncBaseTransport`."""
        url = request.url
        answer = await self._pool.handle_async_request(
            httpcore.Request(
                method=request.method,
                url=httpcore.URL(
                    scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path
                ),
                headers=request.headers.raw,
                content=request.stream,
                extensions=request.extensions,
            )
        )
        return httpx.Response(
            status_code=answer.status,
            headers=answer.headers,
            stream=_Body(answer.stream),
            extensions=answer.extensions,
        )

    async def aclose(self) -> None:
        """Close all connections."""
        await self._pool.aclose()


class _Body(httpx.AsyncByteStream):
    def __init__(self, stream: Any) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for part in self._stream:
            yield part

    async def aclose(self) -> None:
        await self._stream.aclose()


class _Network(httpcore.AsyncNetworkBackend):
    def __init__(self, bytes_max: int) -> None:
        self._inner = httpcore.AnyIOBackend()
        self._bytes_max = bytes_max

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        stream = await self._inner.connect_tcp(host, port, timeout, local_address, socket_options)
        return _Stream(stream, self._bytes_max)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class _Stream(httpcore.AsyncNetworkStream):
    def __init__(self, inner: httpcore.AsyncNetworkStream, bytes_max: int) -> None:
        self._inner = inner
        self._bytes_max = self._left = bytes_max

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        # What TLS has decrypted already comes without a wait.
        await asyncio.sleep(0)
        part = await self._inner.read(min(max_bytes, _PART_BYTES), timeout)
        self._left -= len(part)
        if self._left < 0:
            raise httpcore.ReadError("the answer is too long")
        return part

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._left = self._bytes_max
        await self._inner.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.AsyncNetworkStream:
        inner = await self._inner.start_tls(ssl_context, server_hostname, timeout)
        return _Stream(inner, self._bytes_max)

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)
