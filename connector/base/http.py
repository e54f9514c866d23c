"""The one HTTP client of the package: every answer is bounded in time, octets and shape.

A server may be hostile. So the size of an answer is bounded before and after decompression; one
layer of gzip is decoded (unless a client takes none), any other encoding is refused; redirects are not followed, since an API key
is meant for the configured host; proxy variables of the environment are ignored. Every failure is an
`HttpError`, independent of the library in use. No server holds the event loop (`http_turns`).
"""

from __future__ import annotations

import asyncio
import functools
import json
import math
import os
import socket
import ssl
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, Final, NoReturn, Self, TypeVar

import httpx

from connector.base.errors import HttpAnswerError, HttpTimeoutError, HttpUnreachableError

HEADERS: Final = {"Accept-Encoding": "gzip"}
_AS_IT_IS: Final = {"Accept-Encoding": "identity"}
JSON_VALUES_MAX: Final = 500_000
"""Values in one JSON text: room for the accounts of 10,000 peers. Small values take a hundred times
their octets in memory, and the interpreter does nothing else while it reads them."""
OFF_LOOP_BYTES_MIN: Final = 65_536
"""Answers of at least this size are parsed in a thread: a smaller one takes under 1 ms."""
_READ_BYTES: Final = 65_536
_GZIP: Final = 31  # zlib's wbits: a gzip header, the largest window

T = TypeVar("T")
Transport = httpx.AsyncBaseTransport
"""The transport of requests; tests pass a function instead of the network."""


@dataclass(slots=True, frozen=True)
class HttpAnswer:
    """A complete answer within the bounds."""

    status: int
    """Of HTTP: 100 to 599."""
    body: bytes
    """Decompressed."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """By name, in lower case."""

    @property
    def ok(self) -> bool:
        """Whether the status is one of success."""
        return 200 <= self.status < 300

    def json(self) -> Any:
        """The body as JSON; see `read_json`.

        Raises:
            HttpAnswerError: it is not JSON, or beyond the bounds.
        """
        return read_json(self.body)


class HttpClient:
    """Sends HTTP requests; connections are reused until `close`."""

    def __init__(
        self,
        *,
        seconds_max: float,
        answer_bytes_max: int,
        connections_max: int,
        headers: Mapping[str, str] | None = None,
        verify: bool = True,
        gzip: bool = True,
        transport: Transport | None = None,
    ) -> None:
        """No connection is opened before the first request.

        Args:
            seconds_max: for each request as a whole, connecting and waiting for a place included.
            answer_bytes_max: of an answer's body, as it arrives and decompressed.
            connections_max: open at one time, to all servers together.
            headers: sent with every request.
            verify: whether certificates are checked.
            gzip: whether answers may be compressed; False: only what is sent as it is.
            transport: replaces the network in tests.
        """
        assert seconds_max > 0
        assert answer_bytes_max > 0
        assert connections_max > 0
        self._seconds_max = seconds_max
        self._bytes_max = answer_bytes_max
        self._connections_max = connections_max
        self._headers = {**(HEADERS if gzip else _AS_IT_IS), **(headers or {})}
        self._encodings = ("", "identity", "gzip", "x-gzip") if gzip else ("", "identity")
        self._verify = verify
        self._transport = transport
        self._client: httpx.AsyncClient | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections; requests in progress fail."""
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    async def ask(
        self,
        method: str,
        url: str,
        *,
        content: bytes = b"",
        headers: Mapping[str, str] | None = None,
        seconds_max: float | None = None,
    ) -> HttpAnswer:
        """Send one request; returns the complete answer, whatever its status.

        Args:
            method: of HTTP, in upper case.
            url: absolute, http or https.
            content: the body of the request.
            headers: besides those of the client.
            seconds_max: for this request, instead of the client's.

        Raises:
            HttpUnreachableError: no connection, or no HTTP over it; also an invalid URL.
            HttpTimeoutError: the answer was not complete in time.
            HttpAnswerError: the answer is too long, or encoded otherwise than once by gzip.
        """
        seconds = self._seconds_max if seconds_max is None else seconds_max
        try:
            async with asyncio.timeout(seconds):
                return await self._ask(method, url, content, headers)
        except TimeoutError:
            raise HttpTimeoutError(f"no answer within {seconds:g} s") from None
        except HttpAnswerError:
            raise
        except Exception as error:
            # Not only the library's: of a Location that it cannot read it lets an IDNAError through.
            raise HttpUnreachableError(type(error).__name__, _reason(error)) from error

    async def _ask(
        self, method: str, url: str, content: bytes, headers: Mapping[str, str] | None
    ) -> HttpAnswer:
        client = self._client or await self._open()
        async with client.stream(
            method, url, content=content, headers={**self._headers, **(headers or {})}
        ) as response:
            encoding = response.headers.get("content-encoding", "").strip().lower()
            if encoding not in self._encodings:
                raise HttpAnswerError("the answer has a content encoding that was not asked for")
            octets = bytearray()
            # Raw: the library would decompress before the size is checked.
            async for part in response.aiter_raw(_READ_BYTES):
                octets += part
                if len(octets) > self._bytes_max:
                    raise HttpAnswerError("the answer is too long")
        body = bytes(octets)
        if "gzip" in encoding:
            # A few hundred octets can decompress to the maximum: always off the loop.
            body = await asyncio.to_thread(gunzip, body, self._bytes_max)
        return HttpAnswer(response.status_code, body, response.headers)

    async def _open(self) -> httpx.AsyncClient:
        # In a thread: reading the certificates takes 25 ms, and loading the library more.
        transport = self._transport or await asyncio.to_thread(self._network)
        if self._client is None:  # two requests may get here at once
            self._client = httpx.AsyncClient(
                timeout=None,  # noqa: S113 - `ask` has one deadline for the whole request
                follow_redirects=False,
                trust_env=False,
                cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),  # keeps none
                transport=transport,
            )
        return self._client

    def _network(self) -> Transport:
        from connector.base.http_turns import InTurns  # noqa: PLC0415 - most commands ask nobody

        return InTurns(
            trusted=_trusted() if self._verify else _trusts_any(),
            connections_max=self._connections_max,
            answer_bytes_max=self._bytes_max,
        )


@functools.cache
def _trusted() -> ssl.SSLContext:
    """Read once a process, not once a client."""
    return httpx.create_ssl_context(trust_env=False)


def _trusts_any() -> ssl.SSLContext:
    return httpx.create_ssl_context(verify=False, trust_env=False)


def gunzip(octets: bytes, bytes_max: int) -> bytes:
    """Decode one layer of gzip, to at most `bytes_max` octets.

    Raises:
        HttpAnswerError: it is longer, incomplete, or not gzip.
    """
    stream = zlib.decompressobj(_GZIP)
    try:
        plain = stream.decompress(octets, bytes_max + 1)
    except zlib.error:
        raise HttpAnswerError("the answer is not the gzip that it claims to be") from None
    if len(plain) > bytes_max:
        raise HttpAnswerError("the answer is too long")
    if not stream.eof or stream.unused_data:
        raise HttpAnswerError("the answer is not the gzip that it claims to be")
    return plain


def check_json(octets: bytes) -> None:
    """Refuse JSON with too many values, before it is parsed.

    Each value but the first follows a comma or a bracket; those in strings are counted as well.

    Raises:
        HttpAnswerError: there may be more than `JSON_VALUES_MAX`.
    """
    if octets.count(b",") + octets.count(b"[") + octets.count(b"{") >= JSON_VALUES_MAX:
        raise HttpAnswerError("the answer has too many values")


def read_json(octets: bytes) -> Any:
    """Any JSON value within the bounds; NaN and infinities, which are not JSON, are refused.

    Raises:
        HttpAnswerError: it is not JSON, or too deep or too long for us.
    """
    check_json(octets)
    try:
        value = json.loads(octets.decode("utf-8"), parse_constant=_no_json, parse_float=_finite)
        if b"\\ud" in octets.lower():
            # A lone surrogate is not valid text: fail here, not where it is used.
            json.dumps(value, ensure_ascii=False).encode("utf-8")
        return value
    # A number of more than 4300 digits is a ValueError as well.
    except (ValueError, RecursionError):
        raise HttpAnswerError("the answer is not JSON that can be read") from None


def _no_json(name: str) -> NoReturn:
    raise ValueError(name)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):  # 1e999
        raise ValueError(text)
    return value


async def off_loop(read: Callable[[bytes], T], octets: bytes) -> T:
    """`read(octets)`, in a thread if it is long, so that packets are not delayed."""
    if len(octets) < OFF_LOOP_BYTES_MIN:
        return read(octets)
    return await asyncio.to_thread(read, octets)


def _reason(error: BaseException) -> str:
    """What happened, from the system where it was the system's: the library says less."""
    at: BaseException | None = error
    found = ""
    for _ in range(8):  # bounded: causes can be a circle
        if at is None:
            break
        if isinstance(at, socket.gaierror):
            found = str(at)
        elif isinstance(at, ssl.SSLError):  # its errno is none of the system's
            why = getattr(at, "verify_message", "") or getattr(at, "reason", "") or at
            found = f"TLS: {why}"
        elif isinstance(at, OSError) and at.errno is not None and at.errno > 0:
            found = os.strerror(at.errno)
        at = at.__cause__ or at.__context__
    return found or str(error)
