"""Fuzz targets: whole connections, of any client at both listeners, and to a server.

What the libraries make of octets is tried together with what is ours around them.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import logging
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from typing import Any

import httpcore
import httpx
from hypothesis import strategies as st
from uvicorn.server import ServerState

from connector.base.errors import HttpError
from connector.base.http import HttpClient
from connector.btp.packet import encode
from connector.web.server import WebServer
from tests.fuzz.http import READ_KEY, _node
from tests.fuzz.target import Target, corpus, json_octets, json_values
from tests.support import strategies as some
from tests.support.clocks import simulate
from tests.support.guest import auth_packet
from tests.support.in_memory import MemoryNetwork, MemoryTransport
from tests.unit.btp.test_links import PORTS, Host

_places = st.lists(st.integers(0, 5000), max_size=5)
_TURNS = 30
"""Of the event loop, in which a request is answered by an application without waits."""


def _cut(octets: bytes, places: list[int]) -> Iterator[bytes]:
    ends = [0, *sorted(place % (len(octets) + 1) for place in places), len(octets)]
    for begin, end in pairwise(ends):
        if begin < end:  # a read is never empty
            yield octets[begin:end]


class _Faults(logging.Handler):
    """What libraries log as an error, and what the event loop is told of."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.seen: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.seen.append(self.format(record))

    def handle_exception(self, _: object, context: dict[str, Any]) -> None:
        self.seen.append(str(context))

    @contextlib.contextmanager
    def none(self) -> Iterator[None]:
        """None while the block runs."""
        root = logging.getLogger()
        root.addHandler(self)
        asyncio.get_running_loop().set_exception_handler(self.handle_exception)
        try:
            yield
        finally:
            root.removeHandler(self)
        assert not self.seen, self.seen


# --- the HTTP listener

_HEADERS = st.sampled_from(
    ("Host: 127.0.0.1", "Host: x", "Content-Length: 5", "Content-Length: -1", "Content-Length: 1e9",
     "Transfer-Encoding: chunked", "Transfer-Encoding: gzip", "Connection: close", "Connection: upgrade",
     "Upgrade: websocket", "Upgrade: h2c", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
     "Sec-WebSocket-Version: 13", "Sec-WebSocket-Extensions: permessage-deflate", "Expect: 100-continue",
     f"Authorization: Bearer {READ_KEY}", "X-Forwarded-For: 1.2.3.4, \xff", "Origin: http://[",
     "Cookie: a=" + "\\" * 99, ": x", "X", "X : y", "X:" + "y" * 9000, "\x00: \x00", " folded")
)  # fmt: skip
_upgrade = (
    "Host: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Version: 13\r\n"
    f"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nAuthorization: Bearer {READ_KEY}\r\n"
)
_heads = st.builds(
    lambda line, headers, more: (line + "\r\n" + more + "".join(h + "\r\n" for h in headers) + "\r\n")
    .encode("latin-1"),
    st.sampled_from(
        ("GET /health HTTP/1.1", "GET / HTTP/1.0", "POST /login HTTP/1.1", "GET /ws HTTP/1.1",
         "GET /ws?since=%ff HTTP/1.1", "GET /ws?since=99999999999999999999 HTTP/1.1", "HEAD // HTTP/1.1",
         "OPTIONS * HTTP/1.1", "CONNECT x:1 HTTP/1.1", "GET http://[/ HTTP/1.1", "GET /%00%zz HTTP/1.1",
         "PRI * HTTP/2.0", "GET /\xff HTTP/1.1", "GET /a HTTP/9.9", "X", "", "GET /api/status HTTP/1.1")
    ),
    st.lists(_HEADERS, max_size=5),
    st.sampled_from(("", _upgrade, "Host: 127.0.0.1\r\n")),
)  # fmt: skip
_behind = st.sampled_from(
    (b"", b"hello", b"5\r\nhello\r\n0\r\n\r\n", b"ffffffffffffffff\r\n", b"-1\r\n", b"\x81\x80\0\0\0\0",
     b"\x82\xff" + b"\xff" * 8, b"\x89\x85\0\0\0\0hello", b"\x88\x82\0\0\0\0\x03\xe8", b"\xc1\x80\0\0\0\0")
) | st.binary(max_size=40)  # fmt: skip
http_octets = some.hostile(
    st.lists(st.tuples(_heads, _behind).map(b"".join), min_size=1, max_size=3).map(b"".join)
)


class _Sink(asyncio.Transport):
    """The node's end of a connection whose other end reads everything at once."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 1), "sockname": ("127.0.0.1", 8080)})
        self.closed = False
        self.paused = False

    def write(self, data: Any) -> None:
        pass

    def writelines(self, data: Any) -> None:
        pass

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol: Any = protocol


@cache
def _config() -> Any:
    app, _, _ = _node()
    config = WebServer(app, "127.0.0.1", 0)._server.config
    config.load()
    return config


def check_http_connection(value: tuple[bytes, list[int], bool]) -> None:
    """Whatever is sent, and whether or not it waits for answers: nothing of ours fails."""
    octets, places, waits = value

    async def work() -> None:
        config, transport = _config(), _Sink()
        _, log, _ = _node()
        log.events.clear()
        with _Faults().none():
            state = ServerState()
            protocol = config.http_protocol_class(config=config, server_state=state, app_state={})
            transport.set_protocol(protocol)
            protocol.connection_made(transport)
            for read in _cut(octets, places):
                for _ in range(_TURNS):
                    if not transport.paused:
                        break
                    await asyncio.sleep(0)
                if transport.closed or transport.paused:
                    break
                transport.protocol.data_received(read)
                for _ in range(_TURNS if waits else 0):
                    await asyncio.sleep(0)
            transport.protocol.connection_lost(None)
            while state.tasks:
                await asyncio.sleep(0.001)
        failures = [fields for level, _, fields in log.events if level == "error"]
        assert not failures, failures

    asyncio.run(work())


# --- the BTP listener

_btp_heads = st.builds(
    lambda line, headers: (line + "\r\n" + "".join(h + "\r\n" for h in headers) + "\r\n").encode(
        "latin-1"
    ),
    st.sampled_from(
        ("GET / HTTP/1.1", "GET /accounts/b/ilp/btp HTTP/1.1", "GET /accounts/%ff%00/ilp/btp HTTP/1.1",
         "GET /accounts//ilp/btp?x#y HTTP/1.1", "GET http://[ HTTP/1.1", "POST / HTTP/1.1", "X", "")
    ),
    st.lists(_HEADERS, max_size=3).map(lambda more: [*_upgrade.split("\r\n")[:-1], *more])
    | st.lists(_HEADERS, max_size=6),
)  # fmt: skip
_log_in = encode(auth_packet("b", b"secret"))


def _frame(opcode: int, payload: bytes) -> bytes:
    size = len(payload)
    head = bytes((opcode, 0x80 | size)) if size < 126 else bytes((opcode, 0xFE)) + size.to_bytes(2)
    return head + bytes(4) + payload


_frames = st.lists(
    st.builds(
        _frame,
        st.sampled_from((0x82, 0x82, 0x82, 0x02, 0x00, 0x80, 0x81, 0x88, 0x89, 0x8A, 0xC2, 0x83)),
        st.sampled_from(corpus("btp")) | st.just(_log_in) | st.binary(max_size=130),
    ),
    max_size=4,
).map(b"".join)
btp_octets = some.hostile(
    st.builds(
        lambda head, logs_in, rest: head + (_frame(0x82, _log_in) if logs_in else b"") + rest,
        _btp_heads,
        st.booleans(),
        _frames,
    )
)


class _Stranger(asyncio.Protocol):
    """Whoever connects; it reads nothing that matters."""

    def connection_made(self, transport: Any) -> None:
        self.transport: MemoryTransport = transport


def check_btp_connection(value: tuple[bytes, list[int]]) -> None:
    """Whatever is sent, with and without a log-in, it is answered or closed, and nothing fails."""
    octets, places = value

    async def work() -> None:
        with _Faults().none():
            network = MemoryNetwork()
            host = Host(network, "a", "b")
            await host.links.listen("host", PORTS["a"], None)
            stranger = _Stranger()
            await network.connect(lambda: stranger, "host", PORTS["a"], None)
            for read in _cut(octets, places):
                stranger.transport.write(read)
            await asyncio.sleep(1)
            host.links.tick()
            await asyncio.sleep(60)
            host.links.tick()
            stranger.transport.close()
            await host.links.close()
            await asyncio.sleep(1)
        assert all(level != "error" for level, _, _ in host.log.events), host.log.events

    simulate(work())


# --- what a server answers

_answer_heads = st.builds(
    lambda line, headers: (line + "\r\n" + "".join(h + "\r\n" for h in headers) + "\r\n").encode(
        "latin-1"
    ),
    st.sampled_from(
        ("HTTP/1.1 200 OK", "HTTP/1.0 200", "HTTP/1.1 99 X", "HTTP/1.1 101 Switching", "HTTP/1.1 304 X",
         "HTTP/1.1 100 Continue", "HTTP/2 200", "ICY 200 OK", "", "HTTP/1.1 200 \xff", "HTTP/1.1 301 X")
    ),
    st.lists(
        st.sampled_from(
            ("Content-Length: 5", "Content-Length: 99", "Content-Length: -1", "Content-Length: x",
             "Transfer-Encoding: chunked", "Content-Encoding: gzip", "Content-Encoding: gzip, gzip",
             "Content-Encoding: br", "Content-Type: application/json", "Location: http://[", "X",
             "Set-Cookie: a=b; Max-Age=x", "Connection: close", "Content-Encoding: \xff", "X: " + "y" * 9000)
        ),
        max_size=4,
    ),
)  # fmt: skip
_bodies = (
    json_octets(json_values)
    | json_octets(json_values).map(gzip.compress)
    | st.binary(max_size=30).map(lambda octets: b"5\r\n" + octets)
)
answer_octets = st.tuples(_answer_heads, some.hostile(_bodies)).map(b"".join) | some.hostile(
    _answer_heads
)


def check_answer(value: tuple[bytes, list[int]]) -> None:
    """Whatever a server sends, it is an answer within the bounds, or an HttpError."""
    octets, places = value

    async def work() -> None:
        parts = list(_cut(octets, places))
        async with HttpClient(
            seconds_max=5,
            answer_bytes_max=65_536,
            connections_max=1,
            transport=_OverOctets(parts),
        ) as client:
            with contextlib.suppress(HttpError):
                answer = await client.ask("GET", "http://127.0.0.1:1/x")
                assert len(answer.body) <= 65_536
                answer.json()

    asyncio.run(work())


class _OverOctets(httpx.AsyncHTTPTransport):
    """The library's own transport, on octets that are there already."""

    def __init__(self, parts: list[bytes]) -> None:
        super().__init__(verify=False)
        self._pool = httpcore.AsyncConnectionPool(network_backend=httpcore.AsyncMockBackend(parts))


TARGETS = (
    Target(
        "http-connection", st.tuples(http_octets, _places, st.booleans()), check_http_connection
    ),
    Target("btp-connection", st.tuples(btp_octets, _places), check_btp_connection),
    Target("http-answer", st.tuples(answer_octets, _places), check_answer),
)
