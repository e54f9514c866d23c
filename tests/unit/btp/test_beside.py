"""Another way beside the links: when it is used, and what changes over to it and from it."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from typing import Any

from connector.btp.link import OutgoingRequest
from connector.peering.model import Unanswered
from tests.support.clocks import simulated
from tests.unit.btp.test_links import LinksSetup, Request


class Way:
    """Carries what it is given; answers nothing."""

    def __init__(self, *, up: bool = True, ids: bool = True) -> None:
        self.up = up
        self.ids = ids
        self.sent: list[Any] = []
        self.open: dict[Any, None] = {}
        self.parked: set[Any] = set()

    def reaches(self, peer_id: str) -> bool:
        return self.up and peer_id == "b"

    def knows_packet_ids(self, peer_id: str) -> bool:
        return self.ids

    def send(self, flight: OutgoingRequest) -> Unanswered | None:
        if not self.up:
            return Unanswered.NOT_SENT
        self.sent.append(flight)
        self.open[flight] = None
        return None

    def carries(self, flight: OutgoingRequest) -> bool:
        return flight in self.open

    def take_over(
        self, peer_id: str, flights: Sequence[OutgoingRequest]
    ) -> Sequence[OutgoingRequest]:
        if not (self.up and self.ids):
            return ()
        self.open |= dict.fromkeys(flights)
        return list(flights)

    def hand_over(self, peer_id: str) -> None:
        for flight in self.parked:
            self.open.pop(flight, None)

    def forget(self, flights: Collection[OutgoingRequest]) -> None:
        for flight in flights:
            self.open.pop(flight, None)


async def linked(setup: LinksSetup, *, ids: bool = True) -> None:
    setup.start(setup.a, dials=False)
    if ids:
        setup.start(setup.b, dials=False)
        await asyncio.sleep(0.5)
        await setup.b.links._connect(setup.b.credentials)
    await asyncio.sleep(0.5)


@simulated
async def test_it_is_used_while_no_link_serves() -> None:
    async with LinksSetup() as setup:
        a = setup.a
        way = a.links.beside = Way()
        first = a.ask(1)
        assert way.sent == [first]
        assert a.links.reaches("b")
        assert (a.links.reached, a.links.direction("b")) == (1, "http")
        assert a.links.is_resumable("b")
        await linked(setup)
        second = a.ask(2)
        await asyncio.sleep(0.5)
        assert way.sent == [first]
        assert second.answers == [b"answer 2"]
        assert a.links.direction("b") == "inbound"
        assert first.answers == [], "it is waited for where it was sent"
        assert setup.b.arrivals == [b"prepare 2"]


@simulated
async def test_without_either_a_packet_is_not_sent() -> None:
    async with LinksSetup() as setup:
        links = setup.a.links
        assert links.send(Request(setup.a.peer, 1)) is Unanswered.NOT_SENT
        links.beside = Way(up=False)
        assert links.send(Request(setup.a.peer, 1)) is Unanswered.NOT_SENT
        assert not links.reaches("b")
        assert (links.reached, links.direction("b"), links.is_resumable("b")) == (0, None, False)


@simulated
async def test_whether_a_packet_could_be_sent_again_is_asked_of_what_would_carry_it() -> None:
    async with LinksSetup() as setup:
        links = setup.a.links
        assert links.can_ask_again(setup.a.peer)
        links.beside = Way(ids=False)
        assert not links.can_ask_again(setup.a.peer)
        assert not links.is_resumable("b")
        await linked(setup)
        assert links.can_ask_again(setup.a.peer)


@simulated
async def test_what_waits_changes_over_when_the_last_link_is_lost() -> None:
    async with LinksSetup() as setup:
        a, b = setup.a, setup.b
        way = a.links.beside = Way()
        await linked(setup)
        b.answers_at_once = False
        asked = a.ask(1)
        await asyncio.sleep(0.1)
        setup.network.cut()
        await asyncio.sleep(0.1)
        assert list(way.open) == [asked]
        assert asked.answers == []
        assert a.events[-1] == "connected http"
        # The link that comes next does not ask for it, too.
        await b.links._connect(b.credentials)
        await asyncio.sleep(0.5)
        assert b.arrivals == [b"prepare 1"]


@simulated
async def test_what_waits_to_be_sent_again_changes_over_to_a_new_link() -> None:
    async with LinksSetup() as setup:
        a, b = setup.a, setup.b
        way = a.links.beside = Way()
        asked = a.ask(1)
        way.parked.add(asked)
        await linked(setup)
        await asyncio.sleep(0.5)
        assert b.arrivals == [b"prepare 1"]
        assert asked.answers == [b"answer 1"]
        assert not way.carries(asked)


@simulated
async def test_a_link_without_packet_ids_neither_takes_nor_ends_what_is_carried_beside() -> None:
    async with LinksSetup() as setup:
        a = setup.a
        way = a.links.beside = Way()
        asked = a.ask(1)
        way.parked.add(asked)
        await linked(setup, ids=False)
        socket = await setup.dial_a()
        await asyncio.sleep(0.5)
        assert socket.requests == []
        assert asked.answers == []
        assert way.carries(asked)


@simulated
async def test_without_packet_ids_beside_it_waits_for_a_link_as_before() -> None:
    async with LinksSetup() as setup:
        a, b = setup.a, setup.b
        way = a.links.beside = Way(ids=False)
        await linked(setup)
        b.answers_at_once = False
        asked = a.ask(1)
        await asyncio.sleep(0.1)
        setup.network.cut()
        await asyncio.sleep(0.1)
        assert way.open == {}
        b.answers_at_once = True
        await b.links._connect(b.credentials)
        await asyncio.sleep(0.5)
        assert asked.answers == [b"answer 1"]


@simulated
async def test_a_packet_of_an_earlier_process_goes_beside_if_no_link_is_there() -> None:
    async with LinksSetup() as setup:
        a = setup.a
        way = a.links.beside = Way()
        former = Request(a.peer, 1)
        former.again = True
        assert a.links.send(former) is None
        assert way.sent == [former]
        a.links.forget([former])
        assert way.open == {}
