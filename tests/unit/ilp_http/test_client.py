"""The HTTP client against servers that say anything: what was not sent, what may have been, and bounds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import h11
import pytest

from connector.base.errors import HttpAnswerError, HttpTimeoutError, HttpUnreachableError
from connector.base.http import HttpAnswer
from connector.base.http_heads import HEAD_LINES_MAX
from connector.ilp_http import bounds
from connector.ilp_http.client import LOST, NOT_CONNECTED, Client, _Connection
from tests.support.clocks import SimulatedClock, simulated
from tests.support.in_memory import LATENCY_S, MemoryNetwork

URL = "http://bob:7000/accounts/us/ilp"


class Server(asyncio.Protocol):
    """Answers what comes as `serve` says: octets, and whether the connection is closed then."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self.transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self._host.connections.append(self)

    def data_received(self, data: bytes) -> None:
        self._host.received.append(data)
        octets, closes = self._host.serve(data)
        if octets:
            self.transport.write(octets)
        if closes:
            self.transport.close()

    def connection_lost(self, _error: Exception | None) -> None:
        self._host.closed += 1


class Host:
    def __init__(self, serve: Callable[[bytes], tuple[bytes, bool]]) -> None:
        self.serve = serve
        self.received: list[bytes] = []
        self.connections: list[Server] = []
        self.closed = 0
        self.network = MemoryNetwork()
        self.client = Client(
            clock=SimulatedClock(), network=self.network, headers={"Authorization": "Bearer t"}
        )

    async def up(self) -> Host:
        await self.network.listen(lambda: Server(self), "bob", 7000, None)
        return self

    async def ask(self, content: bytes = b"packet", seconds_max: float = 10) -> HttpAnswer:
        return await self.client.ask("POST", URL, content=content, seconds_max=seconds_max)


def says(octets: bytes, *, closes: bool = False) -> Callable[[bytes], tuple[bytes, bool]]:
    return lambda _request: (octets, closes)


OK = b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nanswer"


@simulated
async def test_a_request_is_whole_and_its_answer_too() -> None:
    host = await Host(says(OK)).up()
    answer = await host.client.ask(
        "POST", URL + "?x=1", content=b"packet", headers={"Request-Id": "1"}, seconds_max=1
    )
    assert (answer.status, answer.body) == (200, b"answer")
    assert answer.headers == {"content-length": "6"}
    (received,) = host.received
    assert received == (
        b"POST /accounts/us/ilp?x=1 HTTP/1.1\r\nHost: bob:7000\r\nAuthorization: Bearer t\r\n"
        b"Request-Id: 1\r\nContent-Length: 6\r\n\r\npacket"
    )


@pytest.mark.parametrize(
    ("octets", "closes"),
    [
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n6\r\nanswer\r\n0\r\n\r\n", False),
        (b"HTTP/1.1 200 OK\r\n\r\nanswer", True),
        (b"HTTP/1.0 200 OK\r\ncontent-length: 6\r\n\r\nanswer", True),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK, False),
        (b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + OK, False),
        (b"HTTP/1.1 200 OK\r\ncontent-encoding: identity\r\ncontent-length: 6\r\n\r\nanswer", False),
    ],
    ids=["chunked", "until closed", "1.0", "continue", "hints", "identity"],
)  # fmt: skip
def test_every_way_to_frame_an_answer_is_read(octets: bytes, closes: bool) -> None:
    @simulated
    async def scenario() -> None:
        host = await Host(says(octets, closes=closes)).up()
        assert (await host.ask()).body == b"answer"
        assert (await host.ask()).body == b"answer"
        assert len(host.connections) == (2 if closes else 1)

    scenario()


@simulated
async def test_a_connection_is_reused_while_it_is_young() -> None:
    host = await Host(says(OK)).up()
    for _ in range(5):
        await host.ask()
    assert len(host.connections) == 1
    await asyncio.sleep(bounds.SENDING_IDLE_SECONDS_MAX + 0.1)
    await host.ask()
    assert len(host.connections) == 2
    await asyncio.sleep(1)
    assert host.closed == 1


@simulated
async def test_a_connection_that_the_server_has_closed_is_not_reused() -> None:
    host = await Host(says(OK)).up()
    await host.ask()
    host.connections[0].transport.close()
    await asyncio.sleep(3 * LATENCY_S)
    assert (await host.ask()).body == b"answer"
    assert len(host.connections) == 2


@simulated
async def test_idle_connections_of_a_rush_are_closed_when_they_are_old() -> None:
    host = await Host(says(OK)).up()
    async with asyncio.TaskGroup() as group:
        for _ in range(10):
            group.create_task(host.ask())
    assert len(host.connections) == 10
    for _ in range(10):
        await asyncio.sleep(bounds.SENDING_IDLE_SECONDS_MAX / 4)
        await host.ask()
    await asyncio.sleep(3 * LATENCY_S)
    assert host.closed == 9
    await host.client.close()
    await asyncio.sleep(3 * LATENCY_S)
    assert host.closed == 10


@simulated
async def test_what_cannot_be_connected_was_not_sent() -> None:
    host = Host(says(OK))
    with pytest.raises(HttpUnreachableError) as caught:
        await host.ask()
    assert caught.value.kind == NOT_CONNECTED
    assert host.received == []


@pytest.mark.parametrize(
    "octets",
    [b"", OK[:-1], OK[:20], b"\x16\x03\x01 TLS", b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n",
     b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 10_000],
    ids=["nothing", "cut short", "cut in the head", "no HTTP", "bad length", "endless head"],
)  # fmt: skip
def test_without_a_whole_answer_the_server_may_have_it(octets: bytes) -> None:
    @simulated
    async def scenario() -> None:
        host = await Host(says(octets, closes=True)).up()
        with pytest.raises(HttpUnreachableError) as caught:
            await host.ask()
        assert caught.value.kind == LOST
        assert len(host.received) == 1

    scenario()


@simulated
async def test_an_answer_has_a_deadline_and_what_comes_later_is_nobodys() -> None:
    host = await Host(says(b"")).up()
    with pytest.raises(HttpTimeoutError):
        await host.ask(seconds_max=3)
    assert SimulatedClock().monotonic_s() < 3.1
    host.connections[0].transport.write(OK)
    host.serve = says(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nother")
    assert (await host.ask()).body == b"other"
    assert len(host.connections) == 2


@simulated
async def test_an_answer_that_nobody_asked_for_closes_the_connection() -> None:
    host = await Host(says(OK)).up()
    await host.ask()
    host.connections[0].transport.write(OK.replace(b"answer", b"forged"))
    await asyncio.sleep(3 * LATENCY_S)
    assert (await host.ask()).body == b"answer"
    assert len(host.connections) == 2


@pytest.mark.parametrize(
    "octets",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 70000\r\n\r\n" + bytes(70_000),
        b"HTTP/1.1 200 OK\r\n\r\n" + bytes(bounds.BODY_BYTES_MAX + 1),
        b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 1\r\n\r\nx",
    ],
    ids=["long", "endless", "encoded"],
)
def test_an_answer_beyond_the_bounds_is_refused(octets: bytes) -> None:
    @simulated
    async def scenario() -> None:
        host = await Host(says(octets)).up()
        with pytest.raises(HttpAnswerError):
            await host.ask()
        await asyncio.sleep(3 * LATENCY_S)
        assert host.closed == 1

    scenario()


CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


class Pausable(asyncio.Transport):
    """Notes whether it is read."""

    def __init__(self) -> None:
        super().__init__()
        self.is_read = True

    def write(self, data: Any) -> None:
        assert data

    def abort(self) -> None:
        pass

    def pause_reading(self) -> None:
        assert self.is_read
        self.is_read = False

    def resume_reading(self) -> None:
        assert not self.is_read
        self.is_read = True


@pytest.mark.parametrize("closes", [False, True])
@pytest.mark.parametrize("is_whole", [False, True])
def test_an_answer_in_many_pieces_lets_others_have_their_turn(closes: bool, is_whole: bool) -> None:
    @simulated
    async def scenario() -> None:
        count = bounds.ANSWER_PIECES_MAX
        transport = Pausable()
        connection = _Connection()
        connection.connection_made(transport)
        request = h11.Request(method="POST", target="/", headers=[("host", "bob")])
        answer = connection.send(request, b"")
        connection.data_received(CHUNKED + b"1\r\nX\r\n" * count + b"0\r\n\r\n" * is_whole)
        assert not transport.is_read
        if closes:
            connection.connection_lost(None)
        turns = 0
        while not answer.done() and turns <= 2 * count // bounds.EVENTS_PER_READ_MAX:
            turns += 1
            await asyncio.sleep(0)
        assert turns >= count // bounds.EVENTS_PER_READ_MAX
        if is_whole:
            assert (await answer).body == b"X" * count
        elif closes:
            with pytest.raises(HttpUnreachableError):
                await answer
        else:
            assert not answer.done()
        assert transport.is_read is not closes

    scenario()


@pytest.mark.parametrize("lines", [0, 3, 10_000])
def test_lines_behind_an_answer_are_bounded_and_parsed_in_small_parts(lines: int) -> None:
    @simulated
    async def scenario() -> None:
        trailers = b"a:\r\n" * lines
        host = await Host(says(CHUNKED + b"6\r\nanswer\r\n0\r\n" + trailers + b"\r\n")).up()
        if lines < 1000:
            assert (await host.ask()).body == b"answer"
            assert (await host.ask()).body == b"answer"
            assert len(host.connections) == 1
        else:
            with pytest.raises(HttpUnreachableError) as caught:
                await host.ask()
            assert caught.value.kind == LOST

    scenario()


def test_an_answer_in_too_many_pieces_is_refused() -> None:
    @simulated
    async def scenario() -> None:
        pieces = b"1\r\nX\r\n" * (bounds.ANSWER_PIECES_MAX + 1)
        host = await Host(says(CHUNKED + pieces + b"0\r\n\r\n")).up()
        with pytest.raises(HttpAnswerError):
            await host.ask()
        await asyncio.sleep(3 * LATENCY_S)
        assert host.closed == 1

    scenario()


@pytest.mark.parametrize("hint", [b"", b"HTTP/1.1 103 Early Hints\r\n\r\n"])
def test_a_head_of_many_lines_is_no_answer(hint: bytes) -> None:
    @simulated
    async def scenario() -> None:
        lines = b"a: b\r\n" * (HEAD_LINES_MAX - 1)
        head = hint + b"HTTP/1.1 200 OK\r\n" + lines + b"content-length: 0\r\n"
        host = await Host(says(head + b"\r\n")).up()
        assert (await host.ask()).status == 200
        host.serve = says(head + b"a: b\r\n" + b"\r\n")
        with pytest.raises(HttpUnreachableError) as caught:
            await host.ask()
        assert caught.value.kind == LOST

    scenario()


@simulated
async def test_1xx_without_end_are_no_answer() -> None:
    hints = b"HTTP/1.1 103 Early Hints\r\n\r\n"
    host = await Host(says(hints * bounds.INFORMATIONAL_RESPONSES_MAX + OK)).up()
    assert (await host.ask()).body == b"answer"
    assert (await host.ask()).body == b"answer", "they are counted by answer"
    host.serve = says(hints * (bounds.INFORMATIONAL_RESPONSES_MAX + 1) + OK)
    with pytest.raises(HttpUnreachableError) as caught:
        await host.ask()
    assert caught.value.kind == LOST


@pytest.mark.parametrize("surplus", [OK.replace(b"answer", b"forged"), b"\r\n", b"x"])
def test_what_comes_after_an_answer_is_not_that_of_the_next_packet(surplus: bytes) -> None:
    @simulated
    async def scenario() -> None:
        host = await Host(says(OK + surplus)).up()
        assert (await host.ask()).body == b"answer"
        host.serve = says(OK.replace(b"answer", b"second"))
        assert (await host.ask()).body == b"second"
        assert len(host.connections) == 2

    scenario()


@simulated
async def test_a_request_that_is_cancelled_closes_its_connection() -> None:
    host = await Host(says(b"")).up()
    task = asyncio.ensure_future(host.ask())
    await asyncio.sleep(1)
    task.cancel()
    await asyncio.sleep(1)
    assert task.cancelled()
    assert host.closed == 1


@simulated
async def test_nothing_is_kept_after_the_end() -> None:
    host = await Host(says(OK)).up()
    task = asyncio.ensure_future(host.ask())
    await asyncio.sleep(LATENCY_S)
    await host.client.close()
    await task
    assert host.client._idle == {}
