"""Fuzz targets: what peers say over HTTP, as clients of the listener and as servers."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any

from hypothesis import strategies as st

from connector.base.errors import HttpError
from connector.ilp.packet import decode
from connector.ilp_http.message import AGAIN
from tests.fuzz.target import Target, near
from tests.support import strategies as some
from tests.support.clocks import simulate
from tests.support.in_memory import LATENCY_S
from tests.unit.ilp_http.test_client import Host as ServerHost
from tests.unit.ilp_http.test_listener import CALLBACK, Host, answers_at_once

_ID = "42ee09c8-a6de-4ae3-8a47-4732b0cbb07b"
_HEADERS = st.sampled_from(
    ("authorization: Bearer of-bob", "authorization: of-bob", "authorization: Bearer \xff", "authorization:",
     "content-type: application/octet-stream", "content-type: application/ilp+octet-stream;",
     "content-type: text/html", f"request-id: {_ID}", "request-id: 1", f"callback-url: {CALLBACK}",
     "callback-url: http://[", "ilp-packet-id: " + "1" * 32, "ilp-packet-id: " + "0" * 32, "ilp-packet-id: -1",
     "content-length: 5", "content-length: -1", "content-length: " + "9" * 30, "transfer-encoding: chunked",
     "transfer-encoding: gzip", "connection: close", "connection: upgrade", "expect: 100-continue",
     "host: x", "X", ": x", " folded", "x: " + "y" * 9000)
)  # fmt: skip
_bodies = st.tuples(
    st.sampled_from((b"", AGAIN, b"packet-again")), near("ilp", some.ilp_octets)
).map(b"".join)


def _request(line: str, good: bool, headers: list[str], body: bytes) -> bytes:
    most = [
        "host: us", "authorization: Bearer of-bob", "content-type: application/octet-stream",
        f"content-length: {len(body)}",
    ]  # fmt: skip
    lines = [line, *(most if good else ()), *headers, "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


_requests = st.builds(
    _request,
    st.sampled_from(
        ("POST /ilp HTTP/1.1", "POST /accounts/bob/ilp HTTP/1.1", "POST /accounts/%zz%ff/ilp HTTP/1.1",
         "GET /ilp HTTP/1.1", "POST /ilp HTTP/1.0", "HEAD /ilp HTTP/1.1", "POST * HTTP/1.1",
         "POST /accounts/\xff/ilp HTTP/1.1", "X", "PRI * HTTP/2.0", "POST http://[/ilp HTTP/1.1")
    ),
    st.booleans(),
    st.lists(_HEADERS, max_size=4),
    _bodies,
)  # fmt: skip
_places = st.lists(st.integers(0, 5000), max_size=4)


def _listen(drawn: tuple[bytes, list[int], bool]) -> None:
    octets, places, answers = drawn

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        faults: list[Any] = []
        loop.set_exception_handler(lambda _, context: faults.append(context))
        host = answers_at_once(Host()) if answers else Host()
        client = await host.listen()
        client.http = _Ignores()  # type: ignore[assignment]
        ends = [0, *sorted(place % (len(octets) + 1) for place in places), len(octets)]
        for begin, end in pairwise(ends):
            if begin < end:
                client.transport.write(octets[begin:end])
        await host.tick(3)
        for arrival in host.arrivals:
            assert arrival.source == "bob"
            decode(arrival.octets)
        # Whatever it is, its connection is over in time.
        await host.tick(400)
        await asyncio.sleep(3 * LATENCY_S)
        assert len(host.listener) == 0
        assert not faults, faults

    simulate(scenario())


class _Ignores:
    def receive_data(self, _data: bytes) -> None:
        """The client does not care what it is told."""


def _ask(drawn: tuple[bytes, bool]) -> None:
    octets, closes = drawn

    async def scenario() -> None:
        host = await ServerHost(lambda _request: (octets, closes)).up()
        for _ in range(2):
            try:
                answer = await host.ask(seconds_max=5)
            except HttpError:
                continue
            assert 100 <= answer.status < 1000
            assert answer.body in octets or b"chunked" in octets.lower()
        await host.client.close()

    simulate(scenario())


_answers = st.builds(
    lambda line, headers, body: "\r\n".join((line, *headers, "", "")).encode("latin-1") + body,
    st.sampled_from(
        ("HTTP/1.1 200 OK", "HTTP/1.1 202 Accepted", "HTTP/1.1 500 x", "HTTP/1.1 100 Continue",
         "HTTP/1.1 101 Switching Protocols", "HTTP/1.1 204 x", "HTTP/1.1 304 x", "HTTP/1.0 200 OK", "HTTP/2 200",
         "HTTP/1.1 999 \xff", "HTTP/1.1 20 x", "X", "")
    ),
    st.lists(_HEADERS | st.sampled_from(("content-encoding: gzip", "content-length: 0")), max_size=4),
    _bodies | st.sampled_from((b"5\r\nhello\r\n0\r\n\r\n", b"ffffffffffffffffff\r\n", b"hello")),
)  # fmt: skip

TARGETS = (
    Target(
        "ilp-http-requests",
        st.tuples(
            some.hostile(st.lists(_requests, min_size=1, max_size=3).map(b"".join)),
            _places,
            st.booleans(),
        ),
        _listen,
    ),
    Target("ilp-http-answers", st.tuples(some.hostile(_answers), st.booleans()), _ask),
)
