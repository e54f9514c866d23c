"""The HTTP client: answers are bounded, and every failure is an exception of ours."""

from __future__ import annotations

import asyncio
import gzip
import json
import ssl
import zlib
from typing import Any

import httpcore
import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector.base import http, http_turns
from connector.base.errors import (
    EnvironmentFault,
    HttpAnswerError,
    HttpError,
    HttpTimeoutError,
    HttpUnreachableError,
)
from connector.base.http import HttpAnswer, HttpClient, gunzip, read_json
from connector.base.http_turns import read_max
from tests.support.outside_http import FakeNetwork, raw

BYTES_MAX = 1000


def client(handler: Any, **options: Any) -> HttpClient:
    options = {"seconds_max": 5, "answer_bytes_max": BYTES_MAX, "connections_max": 2, **options}
    return HttpClient(transport=FakeNetwork(handler), **options)


async def ask(handler: Any, **options: Any) -> HttpAnswer:
    async with client(handler, **options) as one:
        return await one.ask("GET", "http://other/")


async def test_a_request_has_what_was_asked_and_the_answer_is_complete() -> None:
    seen: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return raw(201, b"a", b"b", b"c")

    async with client(handler, headers={"authorization": "Bearer k"}) as one:
        answer = await one.ask("POST", "http://other/x", content=b"body", headers={"x-y": "z"})
    assert (answer.status, answer.body, answer.ok) == (201, b"abc", True)
    (request,) = seen
    assert (request.method, request.url.path, request.content) == ("POST", "/x", b"body")
    assert request.headers["authorization"] == "Bearer k"
    assert request.headers["x-y"] == "z"
    assert request.headers["accept-encoding"] == "gzip"


@pytest.mark.parametrize(("status", "ok"), [(199, False), (200, True), (299, True), (300, False)])
async def test_success_is_a_status_from_200_to_299(status: int, ok: bool) -> None:
    assert HttpAnswer(status, b"").ok is ok


async def test_redirects_are_not_followed() -> None:
    hosts: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        hosts.append(request.url.host)
        return raw(302, location="http://elsewhere/")

    assert (await ask(handler)).status == 302
    assert hosts == ["other"]


async def test_cookies_are_neither_kept_nor_sent() -> None:
    seen: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return raw(200, set_cookie="a=b")

    async with client(handler) as one:
        await one.ask("GET", "http://other/")
        await one.ask("GET", "http://other/")
    assert ["cookie" in request.headers for request in seen] == [False, False]


async def test_an_answer_may_be_as_long_as_the_bound_and_no_longer() -> None:
    assert len((await ask(lambda _: raw(200, b"x" * BYTES_MAX))).body) == BYTES_MAX
    with pytest.raises(HttpAnswerError, match="too long"):
        await ask(lambda _: raw(200, b"x" * BYTES_MAX, b"x"))


async def test_an_answer_without_end_is_left_at_the_bound() -> None:
    sent = 0

    class Endless(httpx.AsyncByteStream):
        async def __aiter__(self) -> Any:
            nonlocal sent
            while True:
                sent += 100
                yield b"x" * 100

    class Network(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            return httpx.Response(200, stream=Endless())

    async with HttpClient(
        seconds_max=5, answer_bytes_max=BYTES_MAX, connections_max=1, transport=Network()
    ) as one:
        with pytest.raises(HttpAnswerError, match="too long"):
            await one.ask("GET", "http://other/")
    assert sent <= BYTES_MAX + http._READ_BYTES + 100


# --- encodings


@pytest.mark.parametrize("encoding", ["gzip", "x-gzip", "GZIP"])
async def test_one_layer_of_gzip_is_undone(encoding: str) -> None:
    answer = await ask(lambda _: raw(200, gzip.compress(b"hello"), content_encoding=encoding))
    assert answer.body == b"hello"


@pytest.mark.parametrize(
    "encoding", ["gzip, gzip", "deflate", "br", "zstd", "compress", "identity, gzip", "nonsense"]
)
async def test_any_other_encoding_is_refused_before_the_body_is_read(encoding: str) -> None:
    with pytest.raises(HttpAnswerError, match="content encoding"):
        await ask(lambda _: raw(200, gzip.compress(b"hello"), content_encoding=encoding))


@pytest.mark.long
async def test_gzip_is_bounded_as_it_arrives_and_decompressed() -> None:
    bomb = gzip.compress(b" " * (64 << 20))  # 64 KB on the wire
    with pytest.raises(HttpAnswerError, match="too long"):
        await ask(lambda _: raw(200, bomb, content_encoding="gzip"))
    with pytest.raises(HttpAnswerError, match="too long"):
        await ask(lambda _: raw(200, bomb, content_encoding="gzip"), answer_bytes_max=len(bomb) + 1)


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b"hello",
        gzip.compress(b"hello", mtime=0)[:-1],
        gzip.compress(b"hello", mtime=0) + b"more",
        gzip.compress(b"a", mtime=0) + gzip.compress(b"b", mtime=0),
        zlib.compress(b"hello"),
    ],
)
def test_what_is_not_exactly_one_gzip_stream_is_refused(octets: bytes) -> None:
    with pytest.raises(HttpAnswerError, match="not the gzip"):
        gunzip(octets, BYTES_MAX)


@given(st.binary(max_size=300), st.integers(1, 300))
def test_gzip_is_undone_or_refused(octets: bytes, bytes_max: int) -> None:
    packed = gzip.compress(octets)
    if len(octets) <= bytes_max:
        assert gunzip(packed, bytes_max) == octets
    else:
        with pytest.raises(HttpAnswerError):
            gunzip(packed, bytes_max)


@given(st.binary(max_size=200))
def test_foreign_octets_are_never_more_than_refused(octets: bytes) -> None:
    for read in (lambda: gunzip(octets, BYTES_MAX), lambda: read_json(octets)):
        try:
            read()
        except HttpAnswerError:
            pass


# --- faults


async def test_a_server_that_is_silent_is_left_at_the_deadline() -> None:
    async def silent(_: httpx.Request) -> httpx.Response:
        await asyncio.Event().wait()
        raise AssertionError

    with pytest.raises(HttpTimeoutError, match=r"^no answer within 0.01 s$"):
        await ask(silent, seconds_max=0.01)
    async with client(silent) as one:
        with pytest.raises(HttpTimeoutError, match=r"0\.02 s"):
            await one.ask("GET", "http://other/", seconds_max=0.02)


async def test_a_server_that_is_not_there_is_told_in_the_systems_words() -> None:
    async with HttpClient(seconds_max=5, answer_bytes_max=1, connections_max=1) as one:
        with pytest.raises(HttpUnreachableError) as caught:
            await one.ask("GET", "http://127.0.0.1:9/")
    assert (caught.value.kind, caught.value.detail) == (
        "ConnectError",
        "Connection refused",
    )
    assert str(caught.value) == "Connection refused"


async def test_a_fault_of_tls_is_not_told_as_one_of_the_system() -> None:
    """Its number is 1, as that of a missing permission."""

    def plain(_: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("x") from ssl.SSLError(1, "[SSL] record layer failure")

    with pytest.raises(HttpUnreachableError, match=r"TLS: .*record layer failure"):
        await ask(plain)


@pytest.mark.parametrize(
    "url", ["nonsense", "ftp://other/", "http://", "http://[x/", "http://a:b/"]
)
async def test_a_url_that_is_none_is_a_fault_of_ours_too(url: str) -> None:
    async with HttpClient(seconds_max=5, answer_bytes_max=1, connections_max=1) as one:
        with pytest.raises(HttpUnreachableError):
            await one.ask("GET", url)


async def test_faults_of_the_library_are_translated() -> None:
    def broken(_: httpx.Request) -> httpx.Response:
        raise httpx.RemoteProtocolError("")

    with pytest.raises(HttpUnreachableError) as caught:
        await ask(broken)
    assert str(caught.value) == "RemoteProtocolError"
    assert issubclass(HttpError, EnvironmentFault)


# --- servers that are hostile on the wire


class Server:
    """Answers every request with the same octets: what comes first, then the rest again and again."""

    def __init__(self, first: bytes, rest: bytes) -> None:
        self._first = first
        self._rest = rest
        self.sent = 0
        self.gone = asyncio.Event()

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(self._first)
        try:
            while self._rest:
                writer.write(self._rest)
                self.sent += len(self._rest)
                await writer.drain()
        except OSError:
            pass
        writer.close()
        self.gone.set()


async def asked(server: Server) -> HttpAnswer:
    listening = await asyncio.start_server(server.answer, "127.0.0.1", 0)
    async with (
        listening,
        HttpClient(seconds_max=60, answer_bytes_max=BYTES_MAX, connections_max=1) as one,
    ):
        port = listening.sockets[0].getsockname()[1]
        try:
            return await one.ask("GET", f"http://127.0.0.1:{port}/")
        finally:
            await server.gone.wait()


_CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("first", "rest"),
    [
        (b"", b"HTTP/1.1 100 \r\n\r\n" * 100),
        (_CHUNKED, b"1\r\na\r\n" * 100),
        (_CHUNKED, b"1;" + b"x" * 1000 + b"\r\na\r\n"),
        (_CHUNKED + b"0\r\n", b"a: b\r\n" * 100),
    ],
    ids=["interim", "chunks", "extensions", "trailers"],
)
async def test_an_answer_without_end_is_left_by_its_octets_not_by_its_time(
    first: bytes, rest: bytes
) -> None:
    server = Server(first, rest)
    with pytest.raises((HttpUnreachableError, HttpAnswerError)):
        await asked(server)
    # What the sockets hold comes on top of it.
    assert server.sent < read_max(BYTES_MAX) + (16 << 20)


@pytest.mark.parametrize(
    "begin", [b"HTTP/1.1 200 OK\r\n", _CHUNKED + b"0\r\n"], ids=["head", "trailers"]
)
async def test_an_answer_with_thousands_of_lines_is_refused_before_they_are_parsed(
    begin: bytes,
) -> None:
    with pytest.raises(HttpUnreachableError):
        await asked(Server(begin + b"a:\r\n" * 8000 + b"\r\n", b""))


@pytest.mark.parametrize(
    "location", [b"http://" + b"xn--a." * 50, b"http://[", b"http://a:b", b"//\xff\x00", b"x:" * 9]
)
async def test_whatever_a_server_says_fails_as_an_error_of_ours_if_at_all(location: bytes) -> None:
    head = b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: " + location + b"\r\n\r\n"
    try:
        assert (await asked(Server(head, b""))).status == 302
    except HttpError:
        pass


async def test_others_have_their_turn_between_small_parts_also_where_nothing_is_waited_for() -> (
    None
):
    turns = 0

    class Wire(httpcore.AsyncNetworkStream):
        """As TLS, which has decrypted a lot."""

        async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
            return b"x" * max_bytes

        async def write(self, buffer: bytes, timeout: float | None = None) -> None:
            pass

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def read_all(parts: list[int]) -> None:
        while True:
            parts.append(len(await stream.read(1 << 16)))

    stream = http_turns._Stream(Wire(), 100_000)
    task = asyncio.ensure_future(others())
    for asked_for in range(2):
        await stream.write(b"GET / ...")
        parts: list[int] = []
        with pytest.raises(httpcore.ReadError):
            await read_all(parts)
        assert max(parts) <= 8192
        assert 100_000 - 8192 < sum(parts) <= 100_000
        assert turns >= (asked_for + 1) * len(parts)
    task.cancel()


# --- JSON


def test_json_is_read() -> None:
    assert read_json(b'{"a": [1, 2.5, null, true, "\\ud83d\\ude00"]}') == {
        "a": [1, 2.5, None, True, "\U0001f600"]
    }
    assert HttpAnswer(200, b"[]").json() == []


@pytest.mark.parametrize(
    "octets",
    [
        b"", b"{", b"nonsense", b"\xff", b"\xef\xbb\xbf{}", b'"\xed\xa0\x80"', b'"\\ud800"',
        b'{"\\uDfff": 1}', b"NaN", b"[Infinity]", b"-Infinity", b"1e999", b"[-1e999]",
        b"9" * 5000, b"[" * 100_000 + b"]" * 100_000, b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
    ],
)  # fmt: skip
def test_what_is_not_json_is_refused(octets: bytes) -> None:
    with pytest.raises(HttpAnswerError, match="not JSON"):
        read_json(octets)


@pytest.mark.parametrize("value", [b"[],", b"{},", b"1,", b'"",'])
def test_more_values_than_the_bound_are_refused_unread(value: bytes) -> None:
    with pytest.raises(HttpAnswerError, match="too many values"):
        read_json(b"[" + value * http.JSON_VALUES_MAX + b"1]")


def test_the_accounts_of_ten_thousand_peers_are_few_enough_values() -> None:
    account = {f"field{n}": "0" for n in range(24)}
    octets = json.dumps({"items": [account] * 10_000}).encode()
    http.check_json(octets)


async def test_what_is_long_is_read_in_a_thread_and_what_is_short_at_once() -> None:
    import threading

    threads: list[bool] = []

    def read(octets: bytes) -> int:
        threads.append(threading.current_thread() is threading.main_thread())
        return len(octets)

    assert await http.off_loop(read, b"x" * (http.OFF_LOOP_BYTES_MIN - 1)) > 0
    assert await http.off_loop(read, b"x" * http.OFF_LOOP_BYTES_MIN) == http.OFF_LOOP_BYTES_MIN
    assert threads == [True, False]
