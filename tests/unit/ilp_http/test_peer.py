"""Sending by HTTP in simulated time: what each failure means for a packet, and what is sent again."""

from __future__ import annotations

import asyncio
import inspect
import math
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import httpx
import pytest

from connector.base.errors import HttpUnreachableError
from connector.base.http import HttpAnswer, HttpClient
from connector.btp.standstill import Standstill
from connector.ilp_http import bounds
from connector.ilp_http.client import LOST, NOT_CONNECTED
from connector.ilp_http.message import AGAIN, request_id_of
from connector.ilp_http.peer import HttpPeer
from connector.ilp_http.reach import (
    NEXT,
    WITH_PACKET_ID,
    WITHOUT_NAME,
    HttpTerms,
    Named,
    Probed,
    Reach,
    Sent,
)
from connector.ilp_http.replies import Room
from connector.peering.model import Asset, Peer, PeerTerms, Unanswered
from tests.support.clocks import SimulatedClock, simulated
from tests.support.daemons import EventLog
from tests.support.outside_http import FakeNetwork

TERMS = HttpTerms(
    peer_id="bob", url="http://bob/ilp", token="of-bob", callback_url="http://bob/ilp"
)
ASYNC = replace(TERMS, is_async=True, own_callback_url="http://us/accounts/bob/ilp")
KNOWN = {"ILP-Packet-Id": "known"}


class Flight:
    """A Prepare on its way."""

    def __init__(self, number: int, *, lives_s: float = 30, again: bool = False) -> None:
        self.octets = b"\x0cprepare %d" % number
        self.packet_id = number
        self.sender_packet_id = number
        self.next_hop: Peer | None = Peer(PeerTerms(peer_id="bob", asset=Asset("USD", 9)))
        self.again = again
        self.quiet = False
        self.deadline_ms = SimulatedClock().now_ms() + round(lives_s * 1000)


class _Fake(HttpClient):
    """The client of the package; what fails before it is sent has the name that ours gives it."""

    async def ask(self, *args: Any, **kwargs: Any) -> HttpAnswer:
        try:
            return await super().ask(*args, **kwargs)
        except HttpUnreachableError as error:
            kind = NOT_CONNECTED if error.kind == "ConnectError" else LOST
            raise HttpUnreachableError(kind, error.detail) from error


def client_of(serve: Callable[[httpx.Request], Any], token: str = "of-bob") -> HttpClient:
    return _Fake(
        seconds_max=1,
        answer_bytes_max=bounds.BODY_BYTES_MAX,
        connections_max=1000,
        headers={"Authorization": f"Bearer {token}"},
        transport=FakeNetwork(serve),
    )


class Owner:
    """The carrier, and the world behind the wire: `serve` answers every request but probes."""

    def __init__(
        self, serve: Callable[[httpx.Request], Any], terms: HttpTerms, *, ids: bool, up: bool
    ) -> None:
        self.clock = SimulatedClock()
        self.log = EventLog()
        self.standstill = Standstill(
            clock=self.clock, log=self.log, limit_s=math.inf, on_standstill=lambda: None
        )
        self.ids = ids
        self.up = up
        self.serve = serve
        self.probes = 0
        self.requests: list[httpx.Request] = []
        self.answers: dict[Any, bytes | Unanswered] = {}
        self.changes: list[str] = []
        self.peer = HttpPeer(
            terms,
            owner=self,
            log=self.log,
            random=lambda: 0.5,
            client=client_of(self._ask),
            room=Room(),
        )

    async def _ask(self, request: httpx.Request) -> httpx.Response:
        if not self.up:
            raise httpx.ConnectError("refused")
        if request.method == "GET":
            self.probes += 1
            assert request.headers["authorization"] == "Bearer of-bob"
            return httpx.Response(200 if self.ids else 404, headers=KNOWN if self.ids else {})
        self.requests.append(request)
        answer = self.serve(request)
        if inspect.isawaitable(answer):
            answer = await answer
        assert isinstance(answer, httpx.Response)
        return answer

    def reached(self, peer_id: str) -> None:
        self.changes.append(f"{peer_id} reached")

    def lost(self, peer_id: str, _reason: str) -> None:
        self.changes.append(f"{peer_id} lost")

    def answered(self, flight: Any, said: bytes | Unanswered) -> None:
        assert flight not in self.answers, "answered twice"
        self.answers[flight] = said

    def posted(self) -> list[bytes]:
        return [request.content for request in self.requests]


def ok(request: httpx.Request) -> httpx.Response:
    known = KNOWN if "ilp-packet-id" in request.headers else {}
    return httpx.Response(200, content=b"answer to " + request.content[-1:], headers=known)


def fails(error: type[httpx.TransportError]) -> Callable[[httpx.Request], httpx.Response]:
    def serve(_request: httpx.Request) -> httpx.Response:
        raise error("made up")

    return serve


def status(code: int) -> Callable[[httpx.Request], httpx.Response]:
    return lambda _request: httpx.Response(code)


async def never(_request: httpx.Request) -> httpx.Response:
    await asyncio.sleep(10_000)
    raise AssertionError


def in_turn(*serves: Callable[[httpx.Request], Any]) -> Callable[[httpx.Request], Any]:
    """The first request is served by the first, and so on; all further ones by the last."""
    left = list(serves)

    def serve(request: httpx.Request) -> Any:
        now = left.pop(0) if len(left) > 1 else left[0]
        return now(request)

    return serve


@asynccontextmanager
async def running(
    serve: Callable[[httpx.Request], Any],
    terms: HttpTerms = TERMS,
    *,
    ids: bool = True,
    up: bool = True,
) -> AsyncIterator[Owner]:
    owner = Owner(serve, terms, ids=ids, up=up)
    async with asyncio.TaskGroup() as group:
        owner.peer.start(group)
        await asyncio.sleep(0.01)
        yield owner
        await owner.peer.close()


async def sent(owner: Owner, *flights: Flight, wait_s: float = 1) -> list[Any]:
    """Send packets; what is said at once or after so many seconds; None: nothing."""
    refused = {flight: owner.peer.send(flight) for flight in flights}
    await asyncio.sleep(wait_s)
    return [refused[flight] or owner.answers.get(flight) for flight in flights]


# --- the usual


@simulated
async def test_a_packet_is_posted_and_its_answer_handed_on() -> None:
    async with running(ok) as owner:
        assert await sent(owner, Flight(1)) == [b"answer to 1"]
        (request,) = owner.requests
        assert (request.method, str(request.url)) == ("POST", "http://bob/ilp")
        assert request.content == b"\x0cprepare 1"
        assert request.headers["authorization"] == "Bearer of-bob"
        assert request.headers["content-type"] == "application/octet-stream"
        assert request.headers["ilp-packet-id"] == f"{1:032x}"
        assert "request-id" not in request.headers
        assert "callback-url" not in request.headers
        assert owner.changes == ["bob reached"]
        assert not owner.peer.carries(Flight(1))


@simulated
async def test_a_peer_of_another_kind_is_told_no_packet_id() -> None:
    terms = replace(TERMS, content_type="application/ilp+octet-stream")
    async with running(ok, terms, ids=False) as owner:
        assert owner.peer.reach is Reach.PLAIN
        assert await sent(owner, Flight(1)) == [b"answer to 1"]
        (request,) = owner.requests
        assert "ilp-packet-id" not in request.headers
        assert request.headers["content-type"] == "application/ilp+octet-stream"


@simulated
async def test_requests_at_once_and_the_queue_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "REQUESTS_AT_ONCE_PER_PEER_MAX", 3)
    monkeypatch.setattr(bounds, "QUEUE_PER_PEER_MAX", 5)
    under_way = most = 0

    async def slow(request: httpx.Request) -> httpx.Response:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.1)
        under_way -= 1
        return ok(request)

    async with running(slow) as owner:
        flights = [Flight(number) for number in range(20)]
        first = [owner.peer.send(flight) for flight in flights[:5]]
        assert first == [None] * 5
        assert owner.peer.send(flights[5]) is Unanswered.BUSY
        await asyncio.sleep(0.05)
        later = [owner.peer.send(flight) for flight in flights[6:]]
        assert later.count(None) == 3
        await asyncio.sleep(5)
        assert most == 3
        assert len(owner.answers) == 8


# --- failures of the peer


@simulated
async def test_what_cannot_be_connected_was_not_sent() -> None:
    async with running(ok) as owner:
        owner.up = False
        assert await sent(owner, Flight(1)) == [Unanswered.NOT_SENT]
        assert owner.changes == ["bob reached", "bob lost"]
        assert owner.peer.send(Flight(2)) is Unanswered.NOT_SENT
        owner.up = True
        await asyncio.sleep(bounds.RETRY_DELAY_SECONDS_MAX)
        assert owner.changes[-1] == "bob reached"
        assert await sent(owner, Flight(3)) == [b"answer to 3"]


@simulated
async def test_a_peer_that_was_never_reached_gets_nothing() -> None:
    async with running(ok, up=False) as owner:
        assert owner.peer.send(Flight(1)) is Unanswered.NOT_SENT
        await asyncio.sleep(100)
        said = [event for event in owner.log.events if event[1] == "ilp_http_not_reached"]
        assert len(said) == 1, "one line for one reason"


@pytest.mark.parametrize("code", [400, 401, 404, 409, 413, 415, 429])
@pytest.mark.parametrize("ids", [True, False])
def test_a_4xx_is_a_refusal_and_is_not_repeated(code: int, ids: bool) -> None:
    @simulated
    async def scenario() -> None:
        async with running(status(code), ids=ids) as owner:
            assert await sent(owner, Flight(1), wait_s=20) == [Unanswered.REFUSED]
            assert len(owner.requests) == 1

    scenario()


@pytest.mark.parametrize("code", [500, 502, 503, 504])
def test_a_5xx_of_another_kind_of_peer_is_a_refusal(code: int) -> None:
    @simulated
    async def scenario() -> None:
        async with running(status(code), ids=False) as owner:
            assert await sent(owner, Flight(1), wait_s=20) == [Unanswered.REFUSED]
            assert len(owner.requests) == 1

    scenario()


@pytest.mark.parametrize(
    "first",
    [status(500), status(503), fails(httpx.ReadError), fails(httpx.RemoteProtocolError),
     fails(httpx.WriteError), never],
)  # fmt: skip
def test_a_peer_with_packet_ids_is_asked_again(first: Callable[[httpx.Request], Any]) -> None:
    @simulated
    async def scenario() -> None:
        async with running(in_turn(first, first, ok)) as owner:
            flight = Flight(1)
            assert await sent(owner, flight, wait_s=25) == [b"answer to 1"]
            assert owner.posted() == [flight.octets, AGAIN + flight.octets, AGAIN + flight.octets]
            assert {request.headers["ilp-packet-id"] for request in owner.requests} == {f"{1:032x}"}
            assert flight.next_hop is not None
            assert flight.next_hop.counters.resent_out == 2

    scenario()


def not_ours(_request: httpx.Request) -> httpx.Response:
    """The login page of a network, or another program at the same URL."""
    return httpx.Response(200, content=b"<html>")


def too_long(_request: httpx.Request) -> httpx.Response:
    return httpx.Response(200, content=bytes(bounds.BODY_BYTES_MAX + 1))


@pytest.mark.parametrize("then", [status(401), status(403), status(404), not_ours, too_long])
def test_a_refusal_of_the_second_question_says_nothing_of_the_first(
    then: Callable[[httpx.Request], Any],
) -> None:
    """The peer has the packet, its answer is lost, and meanwhile its token has changed, or a proxy is between."""

    @simulated
    async def scenario() -> None:
        async with running(in_turn(fails(httpx.ReadError), then, then)) as owner:
            flight = Flight(1)
            assert await sent(owner, flight, wait_s=5) == [None]
            assert owner.peer.carries(flight)
            owner.serve = ok
            await asyncio.sleep(15)
            assert owner.answers == {flight: b"answer to 1"}
            assert 3 <= len(owner.requests) <= 30, "not without pause"

    scenario()


@pytest.mark.parametrize("code", [400, 409, 401])
def test_an_asynchronous_packet_that_is_refused_the_second_time_may_still_be_answered(
    code: int,
) -> None:
    """RFC 35: a 4xx ends the asking. The first request may have been taken, and its answer is on its way."""

    @simulated
    async def scenario() -> None:
        async with running(
            in_turn(fails(httpx.ReadError), status(code)), ASYNC, ids=False
        ) as owner:
            flight = Flight(7)
            assert await sent(owner, flight, wait_s=20) == [None]
            assert len(owner.requests) == 2
            assert owner.peer.unknown == 1
            assert owner.peer.replied(request_id_of(7), b"\x0danswer")
            assert owner.answers == {flight: b"\x0danswer"}

    scenario()


@pytest.mark.parametrize(
    "serve", [fails(httpx.ReadError), fails(httpx.RemoteProtocolError), never, status(202)]
)
def test_another_kind_of_peer_is_never_asked_again(serve: Callable[[httpx.Request], Any]) -> None:
    """The outcome is unknown until the deadline, when the driver ends it (R00)."""

    @simulated
    async def scenario() -> None:
        async with running(serve, ids=False) as owner:
            flight = Flight(1)
            assert await sent(owner, flight, wait_s=29.5) == [None]
            assert owner.peer.carries(flight)
            owner.peer.forget([flight])
            await asyncio.sleep(100)
            assert len(owner.requests) == 1
            assert owner.answers == {}

    scenario()


@simulated
async def test_requests_that_are_no_packets_are_no_unknown_outcomes() -> None:
    async with running(fails(httpx.ReadError), ids=False) as owner:
        about_routes = Flight(1)
        about_routes.quiet = True
        assert await sent(owner, about_routes, Flight(2)) == [None, None]
        assert owner.peer.unknown == 1


@simulated
async def test_an_answer_that_is_too_long_is_a_refusal() -> None:
    def long(_request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=bytes(bounds.BODY_BYTES_MAX + 1))

    async with running(long) as owner:
        assert await sent(owner, Flight(1)) == [Unanswered.REFUSED]


@simulated
async def test_a_storm_of_5xx_is_answered_with_growing_pauses() -> None:
    async with running(status(500)) as owner:
        flights = [Flight(number, lives_s=120) for number in range(10)]
        assert await sent(owner, *flights, wait_s=100) == [None] * 10
        assert len(owner.requests) < 10 * 40
        said = [event for event in owner.log.events if event[1] == "ilp_http_no_answer"]
        assert 0 < len(said) <= len(owner.requests)
        owner.serve = ok
        await asyncio.sleep(2 * bounds.RETRY_DELAY_SECONDS_MAX)
        assert len(owner.answers) == 10
        assert owner.peer.send(Flight(99)) is None


@simulated
async def test_no_request_is_made_for_a_packet_whose_time_is_over() -> None:
    async with running(ok) as owner:
        flight = Flight(1, lives_s=0)
        assert await sent(owner, flight, wait_s=100) == [None]
        assert owner.requests == []


@simulated
async def test_a_packet_that_is_forgotten_is_not_sent_again() -> None:
    async with running(status(500)) as owner:
        flight = Flight(1, lives_s=1000)
        assert owner.peer.send(flight) is None
        await asyncio.sleep(0.01)
        owner.peer.forget([flight])
        await asyncio.sleep(100)
        assert len(owner.requests) == 1
        assert not owner.peer.carries(flight)


@simulated
async def test_what_was_not_sent_yet_is_given_back_when_the_peer_goes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bounds, "REQUESTS_AT_ONCE_PER_PEER_MAX", 1)
    async with running(never) as owner:
        flights = [Flight(number) for number in range(3)]
        assert [owner.peer.send(flight) for flight in flights] == [None] * 3
        await asyncio.sleep(0.1)
        owner.up = False
        await asyncio.sleep(25)
        # The first may have been taken; the others were not.
        assert owner.answers == dict.fromkeys(flights[1:], Unanswered.NOT_SENT)


# --- after a restart of this node, or of the peer


@simulated
async def test_a_packet_of_an_earlier_process_waits_for_the_peer_and_is_marked() -> None:
    async with running(ok, up=False) as owner:
        flight = Flight(1, again=True)
        assert await sent(owner, flight) == [None]
        owner.up = True
        await asyncio.sleep(bounds.RETRY_DELAY_SECONDS_MAX)
        assert owner.answers == {flight: b"answer to 1"}
        assert owner.posted() == [AGAIN + flight.octets]


@simulated
async def test_a_peer_of_another_kind_is_not_asked_for_a_packet_of_an_earlier_process() -> None:
    for terms in (TERMS, ASYNC):
        async with running(ok, terms, ids=False) as owner:
            flight = Flight(1, again=True)
            assert await sent(owner, flight, wait_s=29) == [None]
            assert (owner.peer.carries(flight), owner.peer.unknown) == (True, 1)
            assert owner.requests == []
        async with running(ok, terms, ids=False, up=False) as owner:
            flight = Flight(1, again=True)
            assert await sent(owner, flight) == [None]
            owner.up = True
            await asyncio.sleep(bounds.RETRY_DELAY_SECONDS_MAX)
            assert (owner.answers, owner.peer.carries(flight)) == ({}, True)
            owner.ids = True  # it may be the one that had it, or not: nobody knows
            await asyncio.sleep(3 * bounds.PROBE_SECONDS)
            assert owner.peer.reach is Reach.IDS
            assert owner.requests == []
            assert owner.peer.unknown == 1


@simulated
async def test_the_answer_to_a_packet_of_an_earlier_process_is_taken_when_it_is_posted() -> None:
    async with running(ok, ASYNC, ids=False) as owner:
        flight = Flight(1, again=True)
        assert await sent(owner, flight) == [None]
        assert owner.peer.replied(request_id_of(1), b"\x0danswer")
        assert owner.answers == {flight: b"\x0danswer"}
        assert not owner.peer.replied(request_id_of(1), b"\x0danswer")
        assert owner.requests == []


@simulated
async def test_a_peer_that_became_another_program_is_not_asked_again() -> None:
    async with running(fails(httpx.ReadError)) as owner:
        flight = Flight(1)
        assert owner.peer.send(flight) is None
        await asyncio.sleep(0.001)
        owner.ids = False
        await asyncio.sleep(5)
        assert owner.peer.reach is Reach.PLAIN
        assert (owner.answers, owner.peer.carries(flight)) == ({}, True)
        assert (len(owner.requests), owner.peer.unknown) == (1, 1)
        owner.ids, owner.serve = True, ok  # it was something before it that had answered
        await asyncio.sleep(2 * bounds.PROBE_SECONDS)
        assert owner.answers == {flight: b"answer to 1"}
        assert owner.posted()[1:] == [AGAIN + flight.octets]


@simulated
async def test_another_program_gives_itself_away_by_its_first_answer() -> None:
    async with running(lambda _request: httpx.Response(200, content=b"x")) as owner:
        assert await sent(owner, Flight(1), Flight(2)) == [b"x", b"x"]
        assert owner.peer.reach is Reach.PLAIN
        assert owner.changes == ["bob reached"]
        assert await sent(owner, Flight(3)) == [b"x"]
        assert "ilp-packet-id" not in owner.requests[-1].headers


@simulated
async def test_a_peer_that_knew_packet_ids_is_asked_again_although_it_was_seen_to_be_away() -> None:
    async def lost_while_away(_request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(2)
        raise httpx.ReadError("gone")

    async with running(lost_while_away) as owner:
        flight = Flight(1)
        assert owner.peer.send(flight) is None
        await asyncio.sleep(1)
        owner.up = False
        assert await sent(owner, Flight(2)) == [Unanswered.NOT_SENT]
        assert owner.peer.reach is Reach.DOWN
        await asyncio.sleep(1)
        owner.up, owner.serve = True, ok
        await asyncio.sleep(10)
        assert owner.answers[flight] == b"answer to 1"


@simulated
async def test_packets_change_over_to_and_from_other_links() -> None:
    async with running(ok) as owner:
        flights = [Flight(1), Flight(2)]
        assert owner.peer.take_over(flights) == flights
        await asyncio.sleep(1)
        assert owner.answers == {flights[0]: b"answer to 1", flights[1]: b"answer to 2"}
        assert owner.posted() == [AGAIN + flight.octets for flight in flights]
    async with running(ok, ids=False) as owner:
        assert owner.peer.take_over([Flight(1)]) == []
    async with running(status(500)) as owner:
        parked = Flight(1)
        assert await sent(owner, parked, wait_s=0.02) == [None]
        owner.peer.hand_over()
        assert not owner.peer.carries(parked)


@simulated
async def test_what_one_has_left_another_asks_for_when_it_has_found_the_peer() -> None:
    """As when the settings of a peer are changed."""
    for ids in (True, False):
        async with running(never) as former:
            flight = Flight(1)
            assert await sent(former, flight) == [None]
            left = former.peer.release()
            assert (left, former.peer.carries(flight)) == ({flight: WITH_PACKET_ID}, False)
            async with running(ok, up=False, ids=ids) as owner:
                assert owner.peer.adopt(left) == [flight]
                owner.up = True
                await asyncio.sleep(bounds.RETRY_DELAY_SECONDS_MAX)
                assert owner.answers == ({flight: b"answer to 1"} if ids else {})
                assert owner.peer.carries(flight) is not ids
            assert former.answers == {}


OTHER_ASYNC = [
    replace(ASYNC, url="http://elsewhere/ilp"),
    replace(ASYNC, token="of-somebody-else"),
]


@pytest.mark.parametrize(
    ("first", "then", "repeats"),
    [
        (TERMS, ASYNC, False),
        (ASYNC, TERMS, False),
        *((other, ASYNC, False) for other in OTHER_ASYNC),
        (ASYNC, replace(ASYNC, callback_url="http://bob/other"), True),
    ],
    ids=["to async", "to sync", "another URL", "another account", "the same place"],
)  # fmt: skip
def test_settings_that_change_send_nothing_to_another_program_in_another_way(
    first: HttpTerms, then: HttpTerms, repeats: bool
) -> None:
    """An unknown outcome stays so until the deadline: no second packet, and no early end."""

    @simulated
    async def scenario() -> None:
        former = Owner(never, first, ids=False, up=True)
        former.peer = HttpPeer(
            first,
            owner=former,
            log=former.log,
            random=lambda: 0.5,
            client=client_of(former._ask),
            room=Room(),
        )
        flight = Flight(7)
        async with asyncio.TaskGroup() as group:
            former.peer.reach = Reach.PLAIN
            former.peer._group = group
            assert await sent(former, flight) == [None]
            left = former.peer.release()
            await former.peer.close()
        assert len(former.requests) == 1
        async with running(status(202), then, ids=False) as owner:
            assert owner.peer.adopt(left) == [flight]
            await asyncio.sleep(25)
            assert owner.posted() == [flight.octets] * repeats
            assert (owner.answers, owner.peer.carries(flight)) == ({}, True)
            # An answer to what went out asynchronously counts, whatever the terms are now.
            was_async = first.is_async or then.is_async
            assert owner.peer.replied(request_id_of(7), b"\x0danswer") is was_async

    scenario()


@pytest.mark.parametrize("terms", [TERMS, ASYNC], ids=["sync", "async"])
def test_what_another_program_may_have_is_not_asked_for_by_packet_id(terms: HttpTerms) -> None:
    """A node of this kind would know the packet under no id, or another one, and pay it again."""

    @simulated
    async def scenario() -> None:
        async with running(fails(httpx.ReadError), terms, ids=False) as owner:
            flight = Flight(1)
            assert owner.peer.send(flight) is None
            owner.ids = True
            await asyncio.sleep(2 * bounds.PROBE_SECONDS)
            assert owner.peer.reach is Reach.IDS
            assert owner.posted() == [flight.octets]
            owner.peer.hand_over()
            assert owner.peer.carries(flight), "no other link may ask for it either"
            assert (owner.answers, owner.peer.unknown) == ({}, 1)

    scenario()


@simulated
async def test_what_is_taken_over_from_another_link_is_no_news_to_another_program() -> None:
    for terms in (TERMS, ASYNC):
        async with running(ok, terms) as owner:
            owner.ids = False
            flight = Flight(1)
            assert owner.peer.take_over([flight]) == [flight]
            await asyncio.sleep(25)
            assert owner.peer.reach is Reach.PLAIN
            assert owner.requests == []
            assert (owner.answers, owner.peer.carries(flight)) == ({}, True)


@simulated
async def test_what_was_not_sent_ends_so_when_the_settings_change(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bounds, "REQUESTS_AT_ONCE_PER_PEER_MAX", 1)
    async with running(never, ids=False) as owner:
        first, second = Flight(1), Flight(2)
        assert await sent(owner, first, second) == [None, None]
        assert owner.peer.release() == {first: WITHOUT_NAME}
        assert owner.answers == {second: Unanswered.NOT_SENT}


def test_a_token_is_not_shown_where_it_says_how_a_packet_was_sent() -> None:
    assert "secret" not in repr(Sent(Named.REQUEST_ID, "http://bob/ilp", "secret"))


@simulated
async def test_a_peer_that_only_posts_to_us_is_answered_at_its_callback() -> None:
    async with running(status(200), replace(TERMS, url=None)) as owner:
        assert owner.peer.reply(uuid.uuid4(), b"\x0danswer", owner.clock.now_ms() + 1000)
        await asyncio.sleep(60)
        assert owner.posted() == [b"\x0danswer"]
        assert (owner.probes, owner.peer.is_reached) == (0, False)


@simulated
async def test_a_stop_ends_what_no_sender_will_ask_for_again() -> None:
    async with running(never) as owner:
        ours, resendable = Flight(1), Flight(2)
        ours.sender_packet_id = 0
        assert await sent(owner, ours, resendable) == [None, None]
        owner.peer.give_up(only_not_resendable=True)
        assert owner.answers == {ours: Unanswered.LINK_LOST}
        owner.peer.give_up(only_not_resendable=False)
        assert owner.answers == dict.fromkeys((ours, resendable), Unanswered.LINK_LOST)


# --- probes


def test_every_probe_has_a_place_in_the_table() -> None:
    assert NEXT.keys() == {(reach, probed) for reach in Reach for probed in Probed}
    assert all(NEXT[Reach.CLOSED, probed] is Reach.CLOSED for probed in Probed)


@simulated
async def test_a_peer_at_rest_is_probed_now_and_then() -> None:
    async with running(ok) as owner:
        await asyncio.sleep(10 * bounds.PROBE_SECONDS)
        assert 10 <= owner.probes <= 12


@simulated
async def test_a_peer_that_answers_packets_is_not_probed() -> None:
    async with running(ok) as owner:
        for number in range(100):
            assert await sent(owner, Flight(number), wait_s=2) == [b"answer to %d" % (number % 10)]
        assert owner.probes == 1


@simulated
async def test_a_packet_that_gets_401_is_followed_by_a_probe() -> None:
    async with running(status(401), ids=False) as owner:
        assert await sent(owner, Flight(1)) == [Unanswered.REFUSED]
        assert owner.probes == 2


@pytest.mark.parametrize("code", [401, 429, 502, 503, 504])
def test_a_probe_that_is_refused_is_no_connection(code: int) -> None:
    @simulated
    async def scenario() -> None:
        owner = Owner(ok, TERMS, ids=True, up=True)
        client = client_of(lambda _request: httpx.Response(code, headers=KNOWN))
        owner.peer = HttpPeer(
            TERMS, owner=owner, log=owner.log, random=lambda: 0.5, client=client, room=Room()
        )
        async with asyncio.TaskGroup() as group:
            owner.peer.start(group)
            await asyncio.sleep(60)
            assert owner.peer.reach is Reach.DOWN
            assert str(code) in owner.peer.last_error
            await owner.peer.close()
        assert owner.changes == []

    scenario()


# --- RFC 35, asynchronous


@simulated
async def test_an_asynchronous_packet_is_answered_by_a_request() -> None:
    async with running(status(202), ASYNC, ids=False) as owner:
        flight = Flight(7)
        assert await sent(owner, flight) == [None]
        (request,) = owner.requests
        request_id = uuid.UUID(request.headers["request-id"])
        assert (request_id, request_id.version) == (request_id_of(7), 4)
        assert request.headers["callback-url"] == "http://us/accounts/bob/ilp"
        assert not owner.peer.replied(uuid.uuid4(), b"\x0dno")
        assert owner.peer.replied(request_id, b"\x0danswer")
        assert not owner.peer.replied(request_id, b"\x0danswer"), "only the first counts"
        assert owner.answers == {flight: b"\x0danswer"}


@simulated
async def test_an_answer_may_come_before_the_202() -> None:
    async with running(ok, ASYNC) as owner:

        async def quick(request: httpx.Request) -> httpx.Response:
            assert owner.peer.replied(uuid.UUID(request.headers["request-id"]), b"\x0danswer")
            return httpx.Response(202)

        owner.serve = quick
        assert await sent(owner, Flight(1), wait_s=60) == [b"\x0danswer"]
        owner.peer.tick(owner.clock.monotonic_s())
        await asyncio.sleep(60)
        assert len(owner.requests) == 1


@pytest.mark.parametrize("first", [status(500), fails(httpx.ReadError), never])
def test_an_asynchronous_packet_is_sent_again_with_the_same_id_and_body(
    first: Callable[[httpx.Request], Any],
) -> None:
    @simulated
    async def scenario() -> None:
        async with running(in_turn(first, status(202)), ASYNC, ids=False) as owner:
            flight = Flight(7)
            assert await sent(owner, flight, wait_s=20) == [None]
            assert owner.posted() == [flight.octets] * 2
            assert {request.headers["request-id"] for request in owner.requests} == {
                str(request_id_of(7))
            }

    scenario()


@simulated
async def test_an_answer_that_never_comes_is_asked_for_where_packet_ids_are_known() -> None:
    for ids, requests in ((True, 3), (False, 1)):
        async with running(status(202), ASYNC, ids=ids) as owner:
            flight = Flight(7)
            assert owner.peer.send(flight) is None
            for _ in range(25):
                await asyncio.sleep(1)
                owner.peer.tick(owner.clock.monotonic_s())
            assert len(owner.requests) == requests
            owner.peer.forget([flight])
            assert not owner.peer.replied(request_id_of(7), b"\x0dlate")


@simulated
async def test_a_synchronous_answer_to_an_asynchronous_packet_counts() -> None:
    async with running(ok, ASYNC) as owner:
        assert await sent(owner, Flight(1)) == [b"answer to 1"]
        assert not owner.peer.replied(request_id_of(1), b"\x0dlate")


@pytest.mark.parametrize("first", [status(500), fails(httpx.ReadError), fails(httpx.ConnectError)])
def test_an_answer_is_posted_to_the_callback_until_it_is_taken(
    first: Callable[[httpx.Request], Any],
) -> None:
    @simulated
    async def scenario() -> None:
        async with running(in_turn(first, first, status(200))) as owner:
            request_id = uuid.uuid4()
            until_ms = owner.clock.now_ms() + 20_000
            assert owner.peer.reply(request_id, b"\x0danswer", until_ms)
            await asyncio.sleep(20)
            assert owner.posted() == [b"\x0danswer"] * 3
            assert {request.headers["request-id"] for request in owner.requests} == {
                str(request_id)
            }

    scenario()


@simulated
async def test_an_answer_that_is_refused_is_not_repeated() -> None:
    async with running(status(400)) as owner:
        assert owner.peer.reply(uuid.uuid4(), b"\x0danswer", owner.clock.now_ms() + 20_000)
        await asyncio.sleep(20)
        assert len(owner.requests) == 1


@simulated
async def test_an_answer_is_not_posted_for_longer_than_it_is_of_use() -> None:
    async with running(status(500)) as owner:
        assert owner.peer.reply(uuid.uuid4(), b"\x0danswer", owner.clock.now_ms() - 1)
        assert owner.peer.reply(uuid.uuid4(), b"\x0danswer", owner.clock.now_ms() + 1000)
        await asyncio.sleep(bounds.REPLY_SECONDS_MIN + bounds.RETRY_DELAY_SECONDS_MAX)
        count = len(owner.requests)
        assert 0 < count <= 2 * bounds.REPLY_ATTEMPTS_MAX
        await asyncio.sleep(60)
        assert len(owner.requests) == count
        said = [event for event in owner.log.events if event[1] == "ilp_http_answer_undelivered"]
        assert 0 < len(said) <= 2


@simulated
async def test_a_flood_of_answers_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "QUEUE_PER_PEER_MAX", 3)
    async with running(never) as owner:
        until_ms = owner.clock.now_ms() + 1000
        taken = [owner.peer.reply(uuid.uuid4(), b"", until_ms) for _ in range(5)]
        assert taken == [True] * 3 + [False] * 2
