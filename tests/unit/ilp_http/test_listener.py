"""The listener in memory: tokens, bodies, deadlines, both ways to answer, and what is refused."""

from __future__ import annotations

import asyncio
import math
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import h11
import pytest

from connector.base import limits
from connector.btp.credentials import Credentials, CredentialTable
from connector.btp.standstill import Standstill
from connector.ilp.packet import Fulfill, Prepare, Reject, encode
from connector.ilp_http import bounds
from connector.ilp_http.listener import HttpListener, ReplyTo
from connector.ilp_http.message import AGAIN
from connector.peering.model import Asset, Peer, PeerRegistry, PeerTerms
from tests.support.clocks import SimulatedClock, simulated
from tests.support.daemons import EventLog
from tests.support.in_memory import LATENCY_S, MemoryNetwork, MemoryTransport

PORT = 7770
ID = "42ee09c8-a6de-4ae3-8a47-4732b0cbb07b"
PACKET_ID = "0123456789abcdef0123456789abcdef"
CALLBACK = "http://bob.example/accounts/us/ilp"
FULFILL = encode(Fulfill(fulfillment=b"f" * 32))
REJECT = encode(Reject(code="F99", triggered_by="g.us", message="no"))
OCTETS = {"content-type": "application/octet-stream"}
BOB = {"authorization": "Bearer of-bob", **OCTETS}


def prepare(amount: int = 7, lives_ms: int = 20_000) -> bytes:
    return encode(
        Prepare(
            amount=amount,
            expires_at_ms=SimulatedClock().now_ms() + lives_ms,
            condition=b"c" * 32,
            destination="g.us",
        )
    )


@dataclass
class Arrival:
    source: str
    octets: bytes
    packet_id: int
    reply_to: ReplyTo
    request_id: int
    again: bool

    def answer(self, octets: bytes = FULFILL) -> bool:
        return self.reply_to.reply(self.request_id, octets)


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


class Client(asyncio.Protocol):
    """One connection to the listener."""

    def __init__(self) -> None:
        self.http = h11.Connection(h11.CLIENT)
        self.transport: MemoryTransport
        self.closed = asyncio.Event()
        self._more = asyncio.Event()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.http.receive_data(data)
        self._more.set()

    def connection_lost(self, _error: Exception | None) -> None:
        self.closed.set()
        self._more.set()

    def send(
        self, body: bytes = b"", *, method: str = "POST", path: str = "/ilp", **headers: str
    ) -> None:
        if self.http.our_state is h11.DONE:
            self.http.start_next_cycle()
        fields = [
            ("host", "us"),
            *((name.replace("_", "-"), value) for name, value in headers.items()),
        ]
        if method == "POST" and "transfer-encoding" not in dict(fields):
            fields.append(("content-length", str(len(body))))
        octets = self.http.send(h11.Request(method=method, target=path, headers=fields)) or b""
        if body:
            octets += self.http.send(h11.Data(data=body)) or b""
        octets += self.http.send(h11.EndOfMessage()) or b""
        self.transport.write(octets)

    async def answer(self) -> Answer:
        status, headers, body = 0, {}, b""
        async with asyncio.timeout(600):
            while True:
                event = self.http.next_event()
                if event is h11.NEED_DATA:
                    if self.closed.is_set():
                        raise ConnectionError
                    self._more.clear()
                    await self._more.wait()
                elif isinstance(event, h11.Response):
                    status = event.status_code
                    headers = {name.decode(): value.decode() for name, value in event.headers}
                elif isinstance(event, h11.Data):
                    body += bytes(event.data)
                elif isinstance(event, h11.EndOfMessage):
                    return Answer(status, headers, body)

    async def ask(self, body: bytes = b"", **more: Any) -> Answer:
        self.send(body, **more)
        return await self.answer()


class Host:
    """A listener, and stand-ins for all that it needs; peers bob and carol."""

    def __init__(self, standstill_s: float = math.inf) -> None:
        self.log = EventLog()
        self.network = MemoryNetwork()
        self.arrivals: list[Arrival] = []
        self.on_arrival: Callable[[Arrival], Any] = lambda _arrival: None
        self.replies: list[tuple[str, uuid.UUID, bytes]] = []
        self.waits_for: set[uuid.UUID] = set()
        self.posted: list[tuple[str, uuid.UUID, bytes, int]] = []
        self.flushes = 0
        clock = SimulatedClock()
        self.standstill = Standstill(
            clock=clock, log=self.log, limit_s=standstill_s, on_standstill=lambda: None
        )
        self.listener = HttpListener(
            clock=clock,
            log=self.log,
            peers=PeerRegistry(
                Peer(PeerTerms(peer_id=one, asset=Asset("USD", 9))) for one in ("bob", "carol")
            ),
            credentials=CredentialTable(
                Credentials(peer_id=one, token=f"of-{one}", username="us")
                for one in ("bob", "carol")
            ),
            driver=self,
            callbacks=self,
            network=self.network,
            standstill=self.standstill,
            flush=self._flush,
        )

    def _flush(self) -> None:
        self.flushes += 1

    def arrived(
        self, source: Peer, octets: bytes, sender_packet_id: int, reply_to: ReplyTo,
        request_id: int, again: bool = False,
    ) -> None:  # fmt: skip
        arrival = Arrival(source.peer_id, octets, sender_packet_id, reply_to, request_id, again)
        self.arrivals.append(arrival)
        self.on_arrival(arrival)

    def callback_of(self, peer_id: str) -> str | None:
        return CALLBACK if peer_id == "bob" else None

    def answer_to(self, peer_id: str, request_id: uuid.UUID, until_ms: int) -> ReplyTo:
        host = self

        class To:
            def reply(self, _request_id: int, octets: bytes) -> bool:
                host.posted.append((peer_id, request_id, octets, until_ms))
                return True

        return To()

    def replied(self, peer_id: str, request_id: uuid.UUID, octets: bytes) -> bool:
        if request_id not in self.waits_for:
            return False
        self.waits_for.remove(request_id)
        self.replies.append((peer_id, request_id, octets))
        return True

    async def client(self) -> Client:
        client = Client()
        await self.network.connect(lambda: client, "us", PORT, None)
        return client

    async def listen(self) -> Client:
        await self.listener.listen("us", PORT, None)
        return await self.client()

    async def tick(self, seconds: int) -> None:
        for _ in range(seconds):
            await asyncio.sleep(1)
            self.listener.tick(SimulatedClock().monotonic_s())


def answers_at_once(host: Host) -> Host:
    host.on_arrival = lambda arrival: arrival.answer()
    return host


# --- packets


@simulated
async def test_a_packet_is_answered_in_the_response() -> None:
    host = answers_at_once(Host())
    client = await host.listen()
    packet = prepare()
    for path in ("/ilp", "/accounts/bob/ilp"):
        answer = await client.ask(packet, path=path, **BOB)
        assert (answer.status, answer.body) == (200, FULFILL)
        assert answer.headers["content-type"] == "application/octet-stream"
        assert answer.headers["ilp-packet-id"] == "known"
    assert [(one.source, one.octets, one.packet_id, one.again) for one in host.arrivals] == [
        ("bob", packet, 0, False)
    ] * 2
    assert host.flushes >= 2


@simulated
async def test_an_answer_that_comes_later_goes_out_when_it_comes() -> None:
    host = Host()
    client = await host.listen()
    client.send(prepare(), **BOB | {"content-type": "application/ilp+octet-stream"})
    await asyncio.sleep(5)
    assert host.arrivals[0].answer(REJECT)
    answer = await client.answer()
    assert (answer.status, answer.body) == (200, REJECT)
    assert answer.headers["content-type"] == "application/ilp+octet-stream"
    assert not host.arrivals[0].answer(REJECT), "answered twice"


@simulated
async def test_an_answer_after_the_connection_is_gone_is_not_delivered() -> None:
    host = Host()
    client = await host.listen()
    client.send(prepare(), **BOB)
    await asyncio.sleep(1)
    client.transport.close()
    await asyncio.sleep(1)
    assert not host.arrivals[0].answer()
    assert len(host.listener) == 0


@simulated
async def test_requests_of_one_connection_are_answered_in_turn() -> None:
    host = Host()
    client = await host.listen()
    packets = [prepare(amount) for amount in (1, 2, 3)]
    octets = b""
    for packet in packets:
        octets += (
            b"POST /ilp HTTP/1.1\r\nhost: us\r\nauthorization: Bearer of-bob\r\n"
            b"content-type: application/octet-stream\r\ncontent-length: %d\r\n\r\n" % len(packet)
        ) + packet
    client.transport.write(octets)
    client.send(packets[0], **BOB)  # so that h11 expects answers; a fourth request
    await asyncio.sleep(1)
    for number in range(1, 4):
        assert len(host.arrivals) == number
        assert host.arrivals[-1].octets == packets[number - 1]
        assert host.arrivals[-1].answer()
        await asyncio.sleep(1)
    assert len(host.arrivals) == 4


@simulated
async def test_an_early_answer_to_a_request_does_not_answer_the_next_one() -> None:
    host = Host()
    client = await host.listen()
    client.send(prepare(1), **BOB)
    await asyncio.sleep(1)
    first = host.arrivals[0]
    assert first.answer()
    await client.answer()
    client.send(prepare(2), **BOB)
    await asyncio.sleep(1)
    assert not first.answer(REJECT)
    assert host.arrivals[1].answer(FULFILL)
    assert (await client.answer()).body == FULFILL


@simulated
async def test_a_packet_id_is_handed_on_and_a_resent_packet_is_marked() -> None:
    host = answers_at_once(Host())
    client = await host.listen()
    packet = prepare()
    await client.ask(packet, ilp_packet_id=PACKET_ID, **BOB)
    await client.ask(AGAIN + packet, ilp_packet_id=PACKET_ID, **BOB)
    assert [(one.octets, one.packet_id, one.again) for one in host.arrivals] == [
        (packet, int(PACKET_ID, 16), False),
        (packet, int(PACKET_ID, 16), True),
    ]
    assert host.listener.answered_ms.keys() == {"bob"}


@simulated
async def test_a_packet_without_an_answer_ends_with_504_a_second_after_its_expiry() -> None:
    host = Host()
    client = await host.listen()
    client.send(prepare(lives_ms=20_000), **BOB)
    await host.tick(20)
    assert len(host.arrivals) == 1
    await host.tick(2)
    assert (await client.answer()).status == 504
    assert not host.arrivals[0].answer(), "too late"


@simulated
async def test_a_probe_says_that_packet_ids_are_known() -> None:
    host = Host()
    client = await host.listen()
    answer = await client.ask(method="GET", authorization="Bearer of-bob")
    assert (answer.status, answer.headers["ilp-packet-id"]) == (200, "known")
    assert host.arrivals == []


# --- refusals


@pytest.mark.parametrize(
    ("path", "token"),
    [
        ("/ilp", "Bearer of-nobody"),
        ("/ilp", None),
        ("/accounts/bob/ilp", "Bearer of-carol"),
        ("/accounts/dave/ilp", "Bearer of-bob"),
    ],
)
def test_a_wrong_token_is_refused_before_the_body(path: str, token: str | None) -> None:
    @simulated
    async def scenario() -> None:
        host = answers_at_once(Host())
        client = await host.listen()
        headers = OCTETS | ({} if token is None else {"authorization": token})
        for method in ("POST", "GET"):
            answer = await (await host.client()).ask(
                prepare() * (method == "POST"), method=method, path=path, **headers
            )
            assert answer.status == 401
            assert answer.headers["connection"] == "close"
            assert answer.headers["www-authenticate"] == "Bearer"
        assert host.arrivals == []
        assert host.listener.wrong_tokens.count == 2
        client.transport.close()

    scenario()


@simulated
async def test_too_many_wrong_tokens_are_throttled_and_the_right_one_still_passes() -> None:
    host = answers_at_once(Host())
    await host.listen()
    statuses = []
    for _ in range(limits.HTTP_WRONG_KEYS_MAX + 2):
        client = await host.client()
        answer = await client.ask(prepare(), authorization="Bearer no", **OCTETS)
        statuses.append(answer.status)
    assert statuses[: limits.HTTP_WRONG_KEYS_MAX] == [401] * limits.HTTP_WRONG_KEYS_MAX
    assert statuses[-1] == 429
    assert (await (await host.client()).ask(prepare(), **BOB)).status == 200
    said = [event for event in host.log.events if event[1] == "http_authentication_failed"]
    assert 0 < len(said) <= limits.HTTP_WRONG_KEYS_MAX


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"", {}, 400),
        (b"\x0c\x01", {}, 400),
        (b"hello", {}, 400),
        (bytes(1000), {}, 400),
        (AGAIN, {"ilp_packet_id": PACKET_ID}, 400),
        (AGAIN + FULFILL, {"ilp_packet_id": PACKET_ID, "request_id": ID}, 400),
        (FULFILL, {}, 400),
        (FULFILL[:9], {"request_id": ID}, 400),
        (b"\x0c", {"content-type": "application/json"}, 415),
        (b"\x0c", {"content-type": ""}, 415),
        (b"\x0c", {"request_id": "7"}, 400),
        (b"\x0c", {"path": "/metrics"}, 404),
        (b"", {"method": "HEAD"}, 405),
        (b"", {"method": "PUT"}, 405),
        (b"\x0c" * (bounds.BODY_BYTES_MAX + 1), {}, 413),
    ],
)  # fmt: skip
def test_what_cannot_be_read_gets_a_4xx_and_reaches_nobody(
    body: bytes, headers: dict[str, str], status: int
) -> None:
    @simulated
    async def scenario() -> None:
        host = answers_at_once(Host())
        client = await host.listen()
        answer = await client.ask(body, **BOB | headers)
        assert answer.status == status
        assert len(answer.body) < 200
        assert host.arrivals == []
        assert host.listener.refusals == {status: 1}
        refused = [event for event in host.log.events if event[1] == "ilp_http_request_refused"]
        assert len(refused) == 1

    scenario()


@simulated
async def test_a_resent_packet_without_a_packet_id_is_not_read() -> None:
    host = answers_at_once(Host())
    client = await host.listen()
    assert (await client.ask(AGAIN + prepare(), **BOB)).status == 400
    assert host.arrivals == []


@simulated
async def test_the_connection_goes_on_after_an_unreadable_packet() -> None:
    host = answers_at_once(Host())
    client = await host.listen()
    assert (await client.ask(b"nonsense", **BOB)).status == 400
    assert (await client.ask(prepare(), **BOB)).status == 200


@simulated
async def test_refusals_are_told_at_a_limited_rate() -> None:
    host = Host()
    client = await host.listen()
    for _ in range(50):
        await client.ask(b"nonsense", **BOB)
    assert host.listener.refusals == {400: 50}
    refused = [event for event in host.log.events if event[1] == "ilp_http_request_refused"]
    assert len(refused) == limits.LOG_LINES_PER_SECOND_PER_EVENT_MAX


@pytest.mark.parametrize("length", [b"", b"Content-Length: 5\r\n"])
def test_a_body_in_chunks_is_refused_unread_and_its_connection_closed(length: bytes) -> None:
    @simulated
    async def scenario() -> None:
        host = answers_at_once(Host())
        client = await host.listen()
        client.http.send(h11.Request(method="POST", target="/ilp", headers=[("host", "us")]))
        client.transport.write(
            b"POST /ilp HTTP/1.1\r\nHost: us\r\nAuthorization: Bearer of-bob\r\n"
            b"Content-Type: application/octet-stream\r\n" + length + b"Transfer-Encoding: chunked\r\n\r\n"
            + b"1\r\nX\r\n" * 5000 + b"0\r\n\r\n"
            + b"GET /ilp HTTP/1.1\r\nHost: us\r\nAuthorization: Bearer of-bob\r\n\r\n"
        )  # fmt: skip
        answer = await client.answer()
        assert (answer.status, answer.headers["connection"]) == (411, "close")
        await client.closed.wait()
        assert host.listener.refusals == {411: 1}
        assert host.arrivals == []

    scenario()


@simulated
async def test_what_is_no_http_is_refused_and_closed() -> None:
    for octets in (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 TLS\r\n\r\n", b"GET\r\n\r\n"):
        host = Host()
        client = await host.listen()
        client.transport.write(octets)
        await client.closed.wait()
        assert host.listener.refusals == {400: 1}


@simulated
async def test_a_head_of_many_lines_is_refused_unparsed() -> None:
    """Each line takes as long as half a packet, and a whole head comes in one read however long it is."""
    host = Host()
    client = await host.listen()
    client.transport.write(b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 50_000 + b"\r\n")
    await client.closed.wait()
    assert host.listener.refusals == {431: 1}


# --- slow and many


@simulated
async def test_a_slow_request_is_cut_off() -> None:
    host = Host()
    client = await host.listen()
    client.transport.write(b"POST /ilp HTTP/1.1\r\nhost: us\r\n")
    for _ in range(int(bounds.REQUEST_SECONDS_MAX) + 1):
        client.transport.write(b"x: y\r\n")
        await host.tick(1)
    await asyncio.sleep(3 * LATENCY_S)
    assert client.closed.is_set()


@simulated
async def test_a_slow_body_is_cut_off_also_on_a_connection_that_was_used() -> None:
    host = answers_at_once(Host())
    client = await host.listen()
    await client.ask(prepare(), **BOB)
    await host.tick(30)
    head = (
        b"POST /ilp HTTP/1.1\r\nhost: us\r\nauthorization: Bearer of-bob\r\ncontent-length: 99\r\n"
    )
    client.transport.write(head + b"content-type: application/octet-stream\r\n\r\n")
    for _ in range(int(bounds.REQUEST_SECONDS_MAX) + 1):
        client.transport.write(b"x")
        await host.tick(1)
    await asyncio.sleep(3 * LATENCY_S)
    assert client.closed.is_set()
    assert len(host.arrivals) == 1


@simulated
async def test_an_idle_connection_is_kept_longer_than_clients_keep_theirs() -> None:
    host = answers_at_once(Host())
    client = await host.listen()
    await client.ask(prepare(), **BOB)
    await host.tick(int(bounds.IDLE_SECONDS_MAX) - 2)
    assert (await client.ask(prepare(), **BOB)).status == 200
    await host.tick(int(bounds.IDLE_SECONDS_MAX) + 1)
    await asyncio.sleep(3 * LATENCY_S)
    assert client.closed.is_set()


@simulated
async def test_strangers_take_no_places_of_peers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "STRANGERS_MAX", 4)
    monkeypatch.setattr(bounds, "STRANGERS_PER_ADDRESS_MAX", 4)
    host = answers_at_once(Host())
    peer = await host.listen()
    await peer.ask(prepare(), **BOB)
    strangers = [await host.client() for _ in range(10)]
    await asyncio.sleep(3 * LATENCY_S)
    assert [one.closed.is_set() for one in strangers] == [True] * 6 + [False] * 4
    assert (await peer.ask(prepare(), **BOB)).status == 200


@simulated
async def test_a_peer_with_too_many_connections_is_answered_and_then_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bounds, "CONNECTIONS_PER_PEER_MAX", 2)
    host = answers_at_once(Host())
    first = await host.listen()
    clients = [first, await host.client(), await host.client()]
    answers = [await client.ask(prepare(), **BOB) for client in clients]
    assert [one.status for one in answers] == [200] * 3
    assert ["connection" in one.headers for one in answers] == [False, False, True]
    other = await host.client()
    answer = await other.ask(prepare(), authorization="Bearer of-carol", **OCTETS)
    assert "connection" not in answer.headers


@simulated
async def test_a_peer_that_opens_connections_without_end_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each with a right token and half a request, so that none of them is ever answered."""
    monkeypatch.setattr(bounds, "CONNECTIONS_PER_PEER_MAX", 2)
    host = Host()
    await host.listen()
    head = (
        b"POST /ilp HTTP/1.1\r\nhost: us\r\nauthorization: Bearer of-bob\r\ncontent-length: 9\r\n"
    )
    clients = []
    for _ in range(20):
        clients.append(await host.client())
        clients[-1].transport.write(head + b"content-type: application/octet-stream\r\n\r\n")
        await asyncio.sleep(3 * LATENCY_S)
    assert [one.closed.is_set() for one in clients] == [False] * 5 + [True] * 15
    assert host.listener.refusals == {503: 15}


# --- RFC 35, asynchronous


@simulated
async def test_an_asynchronous_packet_is_accepted_and_answered_at_the_callback() -> None:
    host = Host()
    client = await host.listen()
    packet = prepare()
    answer = await client.ask(packet, request_id=ID, callback_url=CALLBACK, **BOB)
    assert (answer.status, answer.body) == (202, b"")
    assert [(one.octets, one.packet_id) for one in host.arrivals] == [(packet, uuid.UUID(ID).int)]
    host.arrivals[0].answer()
    expires_ms = SimulatedClock().now_ms() + 20_000
    ((peer_id, request_id, octets, until_ms),) = host.posted
    assert (peer_id, request_id, octets) == ("bob", uuid.UUID(ID), FULFILL)
    assert abs(until_ms - expires_ms) < 1000


@pytest.mark.parametrize(
    "callback",
    ["http://127.0.0.1:8080/admin/peers", CALLBACK + "/", CALLBACK.upper(), "file:///etc/passwd"],
)
def test_a_callback_that_is_not_configured_is_refused(callback: str) -> None:
    @simulated
    async def scenario() -> None:
        host = Host()
        client = await host.listen()
        answer = await client.ask(prepare(), request_id=ID, callback_url=callback, **BOB)
        assert answer.status == 400
        assert (host.arrivals, host.posted) == ([], [])

    scenario()


@simulated
async def test_a_peer_without_a_configured_callback_has_none() -> None:
    host = Host()
    client = await host.listen()
    carol = {"authorization": "Bearer of-carol", **OCTETS}
    answer = await client.ask(prepare(), request_id=ID, callback_url=CALLBACK, **carol)
    assert answer.status == 400
    assert host.arrivals == []


@pytest.mark.parametrize("callback", [{}, {"callback_url": CALLBACK}])
def test_the_same_id_is_the_same_packet(callback: dict[str, str]) -> None:
    @simulated
    async def scenario() -> None:
        host = answers_at_once(Host())
        client = await host.listen()
        await asyncio.sleep(2 * limits.FORMER_PACKETS_MS / 1000)
        client = await host.client()
        packet, other = prepare(1), prepare(2)
        status = 202 if callback else 200
        assert (await client.ask(packet, request_id=ID, **callback, **BOB)).status == status
        assert (await client.ask(packet, request_id=ID, **callback, **BOB)).status == status
        assert [(one.packet_id, one.again) for one in host.arrivals] == [
            (uuid.UUID(ID).int, False),
            (uuid.UUID(ID).int, True),
        ]
        # With another packet it is refused, and that packet reaches nobody.
        assert (await client.ask(other, request_id=ID, **callback, **BOB)).status == 409
        assert len(host.arrivals) == 2

    scenario()


@simulated
async def test_after_a_start_every_request_id_may_be_one_that_came_before() -> None:
    host = answers_at_once(Host())
    client = await host.listen()
    await client.ask(prepare(), request_id=ID, **BOB)
    assert host.arrivals[0].again


@simulated
async def test_too_many_request_ids_are_refused_for_the_time_being(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bounds, "REQUEST_IDS_PER_PEER_MAX", 1)
    host = answers_at_once(Host())
    client = await host.listen()
    assert (await client.ask(prepare(), request_id=ID, **BOB)).status == 200
    other = ID.replace("42", "43")
    assert (await client.ask(prepare(), request_id=other, **BOB)).status == 503


@simulated
async def test_an_answer_counts_once() -> None:
    host = Host()
    client = await host.listen()
    # Who waits for it may be about to: this process has just started.
    assert (await client.ask(FULFILL, request_id=ID, **BOB)).status == 503
    await asyncio.sleep(bounds.FORMER_ANSWERS_SECONDS)
    host.waits_for.add(uuid.UUID(ID))
    statuses = [(await client.ask(FULFILL, request_id=ID, **BOB)).status for _ in range(2)]
    assert statuses == [200, 400]
    assert host.replies == [("bob", uuid.UUID(ID), FULFILL)]
    assert host.arrivals == []


# --- stopping, and standing still


@simulated
async def test_nothing_is_read_or_said_while_the_process_may_have_been_replaced() -> None:
    host = Host(standstill_s=1.0)
    host.standstill.seen()
    client = await host.listen()
    other = await host.client()
    client.send(prepare(1), **BOB)
    await asyncio.sleep(0.5)
    host.standstill.seen()
    await asyncio.sleep(5)
    other.send(prepare(2), **BOB)
    await asyncio.sleep(5)
    assert host.standstill.is_held
    assert len(host.arrivals) == 1
    assert host.arrivals[0].answer(), "it is kept until it may be said"
    await host.tick(30)
    assert client.http.next_event() is h11.NEED_DATA
    host.standstill.is_held = False
    host.standstill.end()
    host.listener.go_on()
    assert (await client.answer()).body == FULFILL
    await asyncio.sleep(1)
    assert len(host.arrivals) == 2


@simulated
async def test_a_node_that_is_replaced_leaves_what_will_be_sent_again() -> None:
    host = answers_at_once(Host())
    client = await host.listen()
    host.listener.leaves_new = True
    assert (await client.ask(prepare(), ilp_packet_id=PACKET_ID, **BOB)).status == 503
    assert host.arrivals == []
    assert (await client.ask(prepare(), **BOB)).status == 200


@simulated
async def test_a_stop_lets_open_requests_end_and_closes_their_connections() -> None:
    host = Host()
    client = await host.listen()
    client.send(prepare(), **BOB)
    await asyncio.sleep(1)
    host.listener.stop_listening()
    with pytest.raises(OSError, match="refused"):
        await host.client()
    host.arrivals[0].answer()
    answer = await client.answer()
    assert (answer.status, answer.headers["connection"]) == (200, "close")


@simulated
async def test_while_a_stop_waits_answers_come_in_and_probes_find_nobody() -> None:
    host = answers_at_once(Host())
    client = await host.listen()
    host.listener.winds_down = True
    answer = await client.ask(b"", method="GET", **BOB)
    assert (answer.status, "ilp-packet-id" in answer.headers) == (503, True)
    again = await host.client()
    answer = await again.ask(prepare(), **BOB)
    assert (answer.status, answer.headers["connection"]) == (200, "close")


@simulated
async def test_a_peer_that_is_removed_is_cut_off() -> None:
    host = answers_at_once(Host())
    client = await host.listen()
    await client.ask(prepare(), ilp_packet_id=PACKET_ID, **BOB)
    host.listener.forget_peer("bob")
    await asyncio.sleep(1)
    assert client.closed.is_set()
    assert host.listener.answered_ms == {}
