"""The links of one peer when both sides dial: which serves, what is drained, where answers count."""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
from collections.abc import Callable
from typing import Any, Self

import pytest
from websockets.client import ClientProtocol
from websockets.frames import Frame
from websockets.server import ServerProtocol
from websockets.uri import parse_uri

from connector.btp import bounds
from connector.btp.credentials import Credentials
from connector.btp.link import Link
from connector.btp.links import Links
from connector.btp.packet import (
    MESSAGE,
    RESPONSE,
    decode,
    encode,
    encode_empty_response,
    encode_ilp,
    read_ilp,
)
from connector.peering.model import Asset, Peer, PeerRegistry, PeerTerms, Unanswered
from tests.support.clocks import SimulatedClock, simulated
from tests.support.daemons import EventLog
from tests.support.guest import auth_packet
from tests.support.in_memory import LATENCY_S, MemoryNetwork, MemoryTransport

PORTS = {"a": 1, "b": 2}


class Request:
    """A Prepare on its way to a next hop."""

    def __init__(self, peer: Peer, number: int) -> None:
        self.octets = b"prepare %d" % number
        self.packet_id = number
        self.sender_packet_id = 1
        self.next_hop: Peer | None = peer
        self.again = False
        self.quiet = False
        self.answers: list[bytes | Unanswered] = []


class Host:
    """A node that is nothing but its links; it is also the handler of its packets."""

    def __init__(
        self, network: MemoryNetwork, name: str, other: str, *, standstill_s: float = math.inf
    ) -> None:
        self.name, self.log = name, EventLog()
        self.peer = Peer(PeerTerms(peer_id=other, asset=Asset("USD", 9)))
        self.credentials = Credentials(
            peer_id=other, token="secret", username=name, url=f"ws://host:{PORTS[other]}"
        )
        dice = random.Random(name)
        self.events: list[str] = []
        self.waiting: list[Request] = []
        self.arrivals: list[bytes] = []
        self.to_answer: list[tuple[Link, int, bytes]] = []
        self.answers_at_once = True
        self.receipts = 0
        self.links = Links(
            clock=SimulatedClock(),
            log=self.log,
            peers=PeerRegistry([self.peer]),
            credentials=[self.credentials],
            random_id=lambda: dice.getrandbits(31),
            random_octets=bytes,
            observer=self,
            network=network,
            standstill_s=standstill_s,
        )
        self.links.attach(self)

    def ask(self, number: int) -> Request:
        request = Request(self.peer, number)
        assert self.links.send(request) is None
        self.waiting.append(request)
        self.links.flush()
        return request

    def answer_all(self) -> None:
        for link, request_id, octets in self.to_answer:
            link.reply(request_id, octets)
        self.to_answer.clear()
        self.links.flush()

    @property
    def live(self) -> Link:
        return self.links.live[self.peer.peer_id]

    async def run(self, *, dials: bool) -> None:
        await self.links.listen("host", PORTS[self.name], None)
        async with asyncio.TaskGroup() as group:
            if dials:
                group.create_task(self.links.dialler.stay_connected(self.credentials))
            while True:
                await asyncio.sleep(1)
                self.links.tick()

    # --- PacketHandler

    def arrived(
        self,
        source: Peer,
        octets: bytes,
        sender_packet_id: int,
        reply_to: Link,
        request_id: int,
        again: bool,
    ) -> None:
        self.arrivals.append(octets)
        self.to_answer.append((reply_to, request_id, octets.replace(b"prepare", b"answer")))
        if self.answers_at_once:
            self.answer_all()

    def answered(self, flight: Any, said: bytes | Unanswered) -> None:
        flight.answers.append(said)
        self.waiting.remove(flight)

    def reconnected(self, peer_id: str) -> None:
        self.events.append("reconnected")

    def receipt(self, peer_id: str) -> None:
        self.receipts += 1

    def wants_receipt(self, peer_id: str) -> bool:
        return True

    def waiting_for(self, peer: Peer) -> list[Request]:
        return list(self.waiting)

    # --- LinkObserver

    def connected(self, peer_id: str, direction: str) -> None:
        self.events.append(f"connected {direction}")

    def disconnected(self, peer_id: str, direction: str, reason: str) -> None:
        self.events.append(f"disconnected {direction}")


class PlainSocket(asyncio.Protocol):
    """One websocket of a program that does not know packet ids, like ilp-plugin-btp."""

    def __init__(self, websocket: ClientProtocol | ServerProtocol) -> None:
        self.websocket = websocket
        self.ready = asyncio.Event()
        self.closed = asyncio.Event()
        self.requests: list[tuple[int, bytes]] = []
        self.answers: list[tuple[int, bytes]] = []

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        if isinstance(self.websocket, ClientProtocol):
            self.websocket.send_request(self.websocket.connect())
            self._flush()

    def data_received(self, data: bytes) -> None:
        self.websocket.receive_data(data)
        for event in self.websocket.events_received():
            if isinstance(event, Frame):
                if event.opcode == 2:
                    self._btp(bytes(event.data))
            elif isinstance(self.websocket, ServerProtocol):
                self.websocket.send_response(self.websocket.accept(event))  # type: ignore[arg-type]
            else:
                self.say(encode(auth_packet("b", b"secret")))
        self._flush()

    def _btp(self, octets: bytes) -> None:
        short = read_ilp(octets)
        if short is not None:
            into = self.requests if short[0] == MESSAGE else self.answers
            into.append((short[1], short[2]))
            return
        packet = decode(octets)
        if packet.kind == MESSAGE:
            self.say(encode_empty_response(packet.request_id))
        self.ready.set()

    def say(self, octets: bytes) -> None:
        self.websocket.send_binary(octets)
        self._flush()

    def connection_lost(self, error: Exception | None) -> None:
        self.closed.set()

    def _flush(self) -> None:
        self.transport.write(b"".join(self.websocket.data_to_send()))


class LinksSetup:
    """Two hosts, `a` and `b`; or `a` alone, with plain sockets as its peer `b`."""

    def __init__(self, *, standstill_s: float = math.inf) -> None:
        self.network = MemoryNetwork()
        self.a = Host(self.network, "a", "b", standstill_s=standstill_s)
        self.b = Host(self.network, "b", "a")

    async def __aenter__(self) -> Self:
        self._group = asyncio.TaskGroup()
        await self._group.__aenter__()
        self._tasks: list[asyncio.Task[None]] = []
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._group.__aexit__(None, None, None)
        await self.a.links.close()
        await self.b.links.close()

    def start(self, host: Host, *, dials: bool = True) -> None:
        self._tasks.append(self._group.create_task(host.run(dials=dials)))

    async def dial_a(self) -> PlainSocket:
        socket = PlainSocket(ClientProtocol(parse_uri("ws://host:1")))
        await self.network.connect(lambda: socket, "host", PORTS["a"], None)
        await socket.ready.wait()
        return socket

    async def dialled_by_a(self) -> PlainSocket:
        socket = PlainSocket(ServerProtocol())
        await self.network.listen(lambda: socket, "host", PORTS["b"], None)
        self.start(self.a)
        await socket.ready.wait()
        await asyncio.sleep(10 * LATENCY_S)
        return socket


def links_of(host: Host) -> int:
    return sum(one.peer is not None for one in host.links._all)


# --- two nodes that know packet ids


@simulated
async def test_of_two_nodes_that_dial_each_other_at_once_both_keep_the_same_link() -> None:
    async with LinksSetup() as setup:
        a, b = setup.a, setup.b
        setup.start(a)
        setup.start(b)
        await asyncio.sleep(60)
        # Both dial in the same moment, so two links are made; "a" comes before "b".
        assert a.links.connects["b"] == b.links.connects["a"] == 2
        assert links_of(a) == links_of(b) == 1
        assert {a.live.direction, b.live.direction} == {"inbound", "outbound"}
        settled = a.links.connects["b"], b.links.connects["a"]
        await asyncio.sleep(600)
        assert (a.links.connects["b"], b.links.connects["a"]) == settled


@pytest.mark.parametrize("first", ["a", "b"])
@simulated
async def test_the_lower_user_name_keeps_its_link_whichever_is_first(first: str) -> None:
    async with LinksSetup() as setup:
        a, b = setup.a, setup.b
        setup.start(a, dials=False)
        setup.start(b, dials=False)
        await asyncio.sleep(0)
        one, other = (a, b) if first == "a" else (b, a)
        await one.links._connect(one.credentials)
        await asyncio.sleep(0.1)
        one.answers_at_once = False
        early = other.ask(1)
        await asyncio.sleep(0.1)
        await other.links._connect(other.credentials)
        await asyncio.sleep(0.1)
        assert (a.live.direction, b.live.direction) == ("outbound", "inbound")
        late = other.ask(2)
        await asyncio.sleep(0.1)
        one.answer_all()
        await asyncio.sleep(0.1)
        assert early.answers == [b"answer 1"]
        assert late.answers == [b"answer 2"]
        await asyncio.sleep(2 * bounds.DRAIN_SECONDS_MAX)
        assert links_of(a) == links_of(b) == 1
        assert (a.live.direction, b.live.direction) == ("outbound", "inbound")


@simulated
async def test_a_peer_that_has_dialled_is_not_dialled_and_dialling_goes_on_when_it_is_gone() -> (
    None
):
    async with LinksSetup() as setup:
        a, b = setup.a, setup.b
        setup.start(b)
        setup.start(a, dials=False)
        await asyncio.sleep(10)
        assert a.live.direction == "inbound"
        dialling = asyncio.create_task(a.links.dialler.stay_connected(a.credentials))
        await asyncio.sleep(100)
        assert a.links.dialler.states["b"].attempts == 0
        b.links.dialler.stop()
        setup.network.cut()
        await asyncio.sleep(10)
        assert a.live.direction == "outbound"
        dialling.cancel()


@simulated
async def test_receipts_count_only_while_there_is_no_other_link() -> None:
    async with LinksSetup() as setup:
        a, b = setup.a, setup.b
        setup.start(a, dials=False)
        setup.start(b, dials=False)
        await asyncio.sleep(0.5)
        await b.links._connect(b.credentials)
        await asyncio.sleep(5)
        assert a.receipts > 0
        a.answers_at_once = False
        b.ask(1)
        await asyncio.sleep(0.1)
        await b.links._connect(b.credentials)
        await asyncio.sleep(0.1)
        assert links_of(a) == 2
        counted, noted = a.receipts, a.events.count("reconnected")
        await asyncio.sleep(bounds.DRAIN_SECONDS_MIN + 1)
        assert a.receipts == counted
        a.answer_all()
        await asyncio.sleep(2 * bounds.DRAIN_SECONDS_MAX)
        assert links_of(a) == 1
        assert a.receipts > counted
        assert a.events.count("reconnected") == noted + 1


# --- a peer without packet ids


@simulated
async def test_ilp_plugin_btp_may_answer_over_the_link_that_it_dialled() -> None:
    async with LinksSetup() as setup:
        a = setup.a
        listening = await setup.dialled_by_a()
        request = a.ask(1)
        await asyncio.sleep(0.1)
        dialled = await setup.dial_a()
        await asyncio.sleep(0.1)
        assert links_of(a) == 2
        ((request_id, _),) = listening.requests
        dialled.say(encode_ilp(RESPONSE, request_id, b"answer"))
        await asyncio.sleep(0.1)
        assert request.answers == [b"answer"]
        # Requests go over the link that it answers over.
        a.ask(2)
        await asyncio.sleep(0.1)
        assert len(dialled.requests) == 1
        await asyncio.sleep(100)
        assert a.links.connects["b"] == 2
        assert links_of(a) == 2


@pytest.mark.parametrize("lost", ["asked over", "answered over"])
@simulated
async def test_a_request_waits_while_any_link_of_the_peer_is_left(lost: str) -> None:
    async with LinksSetup() as setup:
        a = setup.a
        listening = await setup.dialled_by_a()
        dialled = await setup.dial_a()
        await asyncio.sleep(0.1)
        request = a.ask(1)
        await asyncio.sleep(0.1)
        ((request_id, _),) = dialled.requests
        assert not listening.requests
        gone, left = (dialled, listening) if lost == "asked over" else (listening, dialled)
        gone.transport.abort()
        await asyncio.sleep(0.1)
        assert request.answers == []
        left.say(encode_ilp(RESPONSE, request_id, b"answer"))
        await asyncio.sleep(0.1)
        assert request.answers == [b"answer"]


@simulated
async def test_with_the_last_link_of_a_peer_its_requests_are_lost() -> None:
    async with LinksSetup() as setup:
        setup.start(setup.a, dials=False)
        await asyncio.sleep(0)
        dialled = await setup.dial_a()
        request = setup.a.ask(1)
        await asyncio.sleep(0.1)
        dialled.transport.abort()
        await asyncio.sleep(0.1)
        assert request.answers == [Unanswered.LINK_LOST]
        assert setup.a.events[-1] == "disconnected inbound"


@simulated
async def test_a_link_that_is_replaced_is_drained_and_its_answers_count() -> None:
    async with LinksSetup() as setup:
        a = setup.a
        a.answers_at_once = False
        setup.start(a, dials=False)
        await asyncio.sleep(0)
        old = await setup.dial_a()
        ours = a.ask(1)
        old.say(encode_ilp(MESSAGE, 77, b"prepare 9"))
        await asyncio.sleep(0.1)
        new = await setup.dial_a()
        later = a.ask(2)
        await asyncio.sleep(bounds.DRAIN_SECONDS_MIN + 1.5)
        assert len(old.requests) == len(new.requests) == 1
        assert not old.closed.is_set()
        old.say(encode_ilp(RESPONSE, old.requests[0][0], b"answer"))
        a.answer_all()
        await asyncio.sleep(0.1)
        assert ours.answers == [b"answer"]
        assert old.answers == [(77, b"answer 9")]
        await asyncio.sleep(2)
        assert old.closed.is_set()
        assert later.answers == []


@simulated
async def test_draining_is_bounded() -> None:
    async with LinksSetup() as setup:
        a = setup.a
        setup.start(a, dials=False)
        await asyncio.sleep(0)
        old = await setup.dial_a()
        request = a.ask(1)
        await asyncio.sleep(0.1)
        new = await setup.dial_a()
        await asyncio.sleep(bounds.DRAIN_SECONDS_MAX + 2)
        assert old.closed.is_set()
        # The peer has another link, over which the answer may still come.
        assert request.answers == []
        new.say(encode_ilp(RESPONSE, old.requests[0][0], b"answer"))
        await asyncio.sleep(0.1)
        assert request.answers == [b"answer"]


@simulated
async def test_what_was_asked_over_a_drained_link_is_asked_again_when_its_time_is_over() -> None:
    """With packet ids the other side gives its answer over no other link than it was asked over."""
    async with LinksSetup() as setup:
        a, b = setup.a, setup.b
        b.answers_at_once = False
        setup.start(a)
        setup.start(b, dials=False)
        await asyncio.sleep(10)
        request = a.ask(1)
        await asyncio.sleep(0.1)
        old = a.live
        await a.links._connect(a.credentials)
        await asyncio.sleep(1)
        assert a.live is not old
        asked = len(b.arrivals)
        await asyncio.sleep(bounds.DRAIN_SECONDS_MAX + 2)
        assert old.closed.is_set()
        assert len(b.arrivals) == asked + 1
        b.answer_all()
        await asyncio.sleep(0.1)
        assert request.answers == [b"answer 1"]


@simulated
async def test_an_answer_goes_over_the_other_link_when_the_one_that_was_asked_over_is_gone() -> (
    None
):
    async with LinksSetup() as setup:
        a = setup.a
        a.answers_at_once = False
        listening = await setup.dialled_by_a()
        dialled = await setup.dial_a()
        dialled.say(encode_ilp(MESSAGE, 77, b"prepare 9"))
        await asyncio.sleep(0.1)
        dialled.transport.abort()
        await asyncio.sleep(0.1)
        a.answer_all()
        await asyncio.sleep(0.1)
        assert listening.answers == [(77, b"answer 9")]


@simulated
async def test_a_later_connection_gets_no_answer_to_a_request_of_an_earlier_one() -> None:
    """It may lead to another process, whose requests may have the same number."""
    async with LinksSetup() as setup:
        a = setup.a
        a.answers_at_once = False
        setup.start(a, dials=False)
        await asyncio.sleep(0)
        first = await setup.dial_a()
        first.say(encode_ilp(MESSAGE, 77, b"prepare 9"))
        await asyncio.sleep(0.1)
        first.transport.abort()
        await asyncio.sleep(0.1)
        second = await setup.dial_a()
        a.answer_all()
        await asyncio.sleep(0.1)
        assert second.answers == []


@simulated
async def test_a_peer_that_is_removed_loses_all_its_links() -> None:
    async with LinksSetup() as setup:
        a = setup.a
        listening = await setup.dialled_by_a()
        dialled = await setup.dial_a()
        request = a.ask(1)
        await asyncio.sleep(0.1)
        a.links.dialler.stop()
        a.links.remove_peer("b", "the peer was removed")
        await asyncio.sleep(2)
        assert request.answers == [Unanswered.LINK_LOST]
        assert listening.closed.is_set()
        assert dialled.closed.is_set()
        assert a.links.live == {}


# --- a process that stood still


async def _stood_still(setup: LinksSetup) -> tuple[PlainSocket, Request]:
    """A peer has asked `a`, and was asked by it, when `a` stands still for two seconds."""
    setup.start(setup.a, dials=False)
    await asyncio.sleep(0)
    peer = await setup.dial_a()
    setup.a.answers_at_once = False
    peer.say(encode_ilp(MESSAGE, 1, b"prepare 1"))
    asked = setup.a.ask(7)
    await asyncio.sleep(0.1)
    assert setup.a.links.standstill.seen()
    await asyncio.sleep(2)
    return peer, asked


@pytest.mark.parametrize("first", ["tick", "a read"])
@simulated
async def test_whoever_stood_still_neither_writes_nor_reads_until_it_is_known_to_be_active(
    first: str,
) -> None:
    async with LinksSetup(standstill_s=1.0) as setup:
        a = setup.a
        peer, asked = await _stood_still(setup)
        if first == "tick":
            assert not a.links.standstill.seen()
        a.answer_all()
        peer.say(encode_ilp(RESPONSE, peer.requests[0][0], b"answer 7"))
        peer.say(encode_ilp(MESSAGE, 2, b"prepare 2"))
        await asyncio.sleep(0.1)
        for _ in range(50):
            a.links.tick()
            assert not a.links.standstill.seen()
        assert peer.answers == []
        assert len(a.arrivals) == 1
        assert asked.answers == []
        later = await _connected(setup)  # a connection that is made meanwhile
        assert a.log.count("process_stood_still") == 1

        a.answers_at_once = True
        a.links.release()
        await asyncio.sleep(0.1)
        assert a.links.standstill.seen()
        assert peer.answers[0] == (1, b"answer 1")
        assert (2, b"answer 2") in peer.answers
        assert asked.answers == [b"answer 7"]
        assert later.ready.is_set()


async def _connected(setup: LinksSetup) -> PlainSocket:
    socket = PlainSocket(ClientProtocol(parse_uri("ws://host:1")))
    await setup.network.connect(lambda: socket, "host", PORTS["a"], None)
    await asyncio.sleep(0.1)
    assert not socket.ready.is_set()
    return socket


@simulated
async def test_whoever_was_replaced_while_it_stood_still_leaves_without_a_word() -> None:
    async with LinksSetup(standstill_s=1.0) as setup:
        peer, asked = await _stood_still(setup)
        setup.a.answer_all()
        setup.a.links.abandon()
        await peer.closed.wait()
        assert peer.answers == []
        assert asked.answers == [Unanswered.LINK_LOST]
        assert links_of(setup.a) == 0


@simulated
async def test_a_process_that_runs_is_never_held() -> None:
    async with LinksSetup(standstill_s=1.0) as setup:
        setup.start(setup.a, dials=False)
        await asyncio.sleep(5)  # before the first call nothing is known
        for _ in range(500):
            assert setup.a.links.standstill.seen()
            await asyncio.sleep(0.5)
        assert not setup.a.log.count("process_stood_still")


@simulated
async def test_a_connection_that_is_dialled_while_links_are_held_is_used_afterwards() -> None:
    async with LinksSetup(standstill_s=1.0) as setup:
        a, b = setup.a, setup.b
        setup.start(b, dials=False)
        await asyncio.sleep(0)
        assert a.links.standstill.seen()
        await asyncio.sleep(2)
        assert not a.links.standstill.seen()
        dialling = asyncio.create_task(a.links.dialler.stay_connected(a.credentials))
        await asyncio.sleep(1)
        assert not b.links.live
        a.links.release()
        await asyncio.sleep(0.5)
        assert links_of(a) == links_of(b) == 1
        dialling.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await dialling


@simulated
async def test_a_link_that_ends_while_it_is_held_takes_nothing_with_it() -> None:
    async with LinksSetup(standstill_s=1.0) as setup:
        peer, asked = await _stood_still(setup)
        peer.say(encode_ilp(MESSAGE, 2, b"prepare 2"))
        await asyncio.sleep(0.1)
        assert setup.a.links.standstill.is_held
        setup.a.links.hang_up("b", "on purpose")
        await peer.closed.wait()
        setup.a.links.release()
        await asyncio.sleep(0.1)
        assert setup.a.arrivals == [b"prepare 1"]
        assert asked.answers == [Unanswered.LINK_LOST]


@simulated
async def test_a_second_standstill_is_noticed_while_links_are_held() -> None:
    told: list[float] = []
    async with LinksSetup(standstill_s=1.0) as setup:
        links = setup.a.links
        links._on_standstill = lambda: told.append(asyncio.get_running_loop().time())
        await _stood_still(setup)
        assert not links.standstill.seen()
        await asyncio.sleep(5)
        links.release()  # by an answer from before
        assert links.standstill.is_held
        assert not links.standstill.seen()
        links.release()
        assert links.standstill.seen()
        assert len(told) >= 3
        assert told[-1] - told[0] >= 5


@simulated
async def test_no_link_is_closed_for_its_silence_while_it_is_held() -> None:
    async with LinksSetup(standstill_s=1.0) as setup:
        peer, asked = await _stood_still(setup)
        links = setup.a.links
        setup.a.answer_all()
        peer.say(encode_ilp(RESPONSE, peer.requests[0][0], b"answer 7"))
        for _ in range(round(1.5 * bounds.KEEPALIVE_SILENCE_SECONDS_MAX / 0.5)):
            assert not links.standstill.seen()
            await asyncio.sleep(0.5)
        links.release()
        await asyncio.sleep(0.2)
        assert peer.answers == [(1, b"answer 1")]
        assert asked.answers == [b"answer 7"]
        assert not peer.closed.is_set()


@simulated
async def test_what_breaks_while_it_is_read_afterwards_breaks_one_link() -> None:
    async with LinksSetup(standstill_s=1.0) as setup:
        peer, _ = await _stood_still(setup)
        # uvloop may read once more after it was told to pause.
        peer.websocket.send_binary(encode_ilp(MESSAGE, 2, b"prepare 2"))
        setup.a.live.data_received(b"".join(peer.websocket.data_to_send()))
        said: list[str] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _loop, context: said.append(context["message"]))

        def fails(*_: Any) -> None:
            raise RuntimeError("a fault of ours")

        setup.a.arrived = fails  # type: ignore[method-assign]
        setup.a.links.standstill.seen()
        setup.a.links.release()
        await peer.closed.wait()
        assert said == ["what was read while links were held"]


@simulated
async def test_the_reason_of_a_close_fits_into_its_frame() -> None:
    async with LinksSetup() as setup:
        setup.start(setup.a, dials=False)
        await asyncio.sleep(0)
        peer = await setup.dial_a()
        await asyncio.sleep(0.1)
        setup.a.links.hang_up("b", "\u00e4" * 100)
        await peer.closed.wait()


@simulated
async def test_after_its_end_nothing_is_a_standstill() -> None:
    async with LinksSetup(standstill_s=1.0) as setup:
        standstill = setup.a.links.standstill
        assert standstill.seen()
        standstill.end()
        await asyncio.sleep(5)
        setup.a.links.flush()
        assert not standstill.is_held


# --- a peer that logs in without end


@simulated
async def test_log_ins_of_a_peer_are_bounded_and_it_gets_in_again_later() -> None:
    async with LinksSetup() as setup:
        a = setup.a
        setup.start(a, dials=False)
        await asyncio.sleep(0.01)
        for _ in range(100):
            (await setup.dial_a()).transport.abort()
        assert a.links.connects["b"] == bounds.LOG_INS_PER_SECOND_PER_PEER_MAX
        lines = a.log.count("btp_connection_established") + a.log.count("btp_connection_lost")
        assert lines == bounds.CONNECTION_LINES_PER_SECOND_PER_PEER_MAX
        assert 0 < a.log.count("btp_connection_refused") <= 5
        assert a.links.auth_failures == 0
        await asyncio.sleep(1)
        await setup.dial_a()
        assert a.links.connects["b"] == bounds.LOG_INS_PER_SECOND_PER_PEER_MAX + 1


@simulated
async def test_drained_links_of_a_peer_are_bounded_and_the_oldest_ones_are_closed() -> None:
    async with LinksSetup() as setup:
        a = setup.a
        a.answers_at_once = False
        setup.start(a, dials=False)
        await asyncio.sleep(0.01)
        sockets: list[PlainSocket] = []
        for _ in range(3):
            for _ in range(bounds.LOG_INS_PER_SECOND_PER_PEER_MAX - 1):
                sockets.append(await setup.dial_a())
                sockets[-1].say(encode_ilp(MESSAGE, 77, b"prepare 9"))  # keeps it from being closed
            await asyncio.sleep(1)
        is_open = [not one.closed.is_set() for one in sockets]
        kept = bounds.LINKS_DRAINED_PER_PEER_MAX + 1
        assert is_open == [False] * (len(sockets) - kept) + [True] * kept
        a.answer_all()
        await asyncio.sleep(0.1)
        assert sockets[-1].answers == [(77, b"answer 9")]


# --- many packets that a log-in asks for again


class Resending:
    """A host that loses its link with 100 open requests of 10,000 octets."""

    def __init__(self, setup: LinksSetup, monkeypatch: pytest.MonkeyPatch) -> None:
        self.a, self.b, self._setup = setup.a, setup.b, setup
        self.b.answers_at_once = False
        self.asked: list[Request] = []
        self.written: list[int] = []
        """Octets of each write with requests."""
        self.on_write: Callable[[], None] = lambda: None
        plain = MemoryTransport.write

        def write(transport: MemoryTransport, data: bytes) -> None:
            plain(transport, data)
            if len(data) > 10_000:
                self.written.append(len(data))
                self.on_write()

        monkeypatch.setattr(MemoryTransport, "write", write)

    async def begin(self) -> None:
        self._setup.start(self.b, dials=False)
        self._setup.start(self.a)
        await asyncio.sleep(0.1)
        self.asked = [self.a.ask(number) for number in range(100)]
        for one in self.asked:
            one.octets = one.octets.ljust(10_000)
        await asyncio.sleep(0.1)
        self.b.arrivals.clear()

    def pause(self) -> None:
        """What a transport does whose write buffer is full."""
        self.a.live.pause_writing()

    @property
    def resent(self) -> int:
        return self.a.peer.counters.resent_out


@simulated
async def test_what_a_log_in_asks_for_again_is_resent_in_parts_unless_it_has_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with LinksSetup() as setup:
        a, b, one = setup.a, setup.b, Resending(setup, monkeypatch)
        await one.begin()
        ended = one.asked[-2:]
        one.on_write = lambda: a.links.forget(ended)  # their deadline passes after the first part
        a.live.abort()
        await asyncio.sleep(1)
        assert one.resent == len(b.arrivals) == len(set(b.arrivals)) == 98
        assert len(one.written) > 2
        assert max(one.written) <= bounds.RESENT_AT_ONCE_BYTES + 11_000
        b.answer_all()
        await asyncio.sleep(0.1)
        assert a.waiting == ended


@simulated
async def test_nothing_more_is_resent_to_a_peer_that_does_not_read_until_it_reads_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with LinksSetup() as setup:
        a, one = setup.a, Resending(setup, monkeypatch)
        await one.begin()
        one.on_write = one.pause
        a.live.abort()
        await asyncio.sleep(1)
        first = one.resent
        assert 0 < first < 100
        assert len(one.written) == 1
        one.on_write = lambda: None
        a.live.resume_writing()
        await asyncio.sleep(1)
        assert one.resent == 100
        assert sum(one.written) > 100 * 10_000


@simulated
async def test_a_packet_of_an_earlier_process_waits_for_a_peer_that_does_not_read() -> None:
    """Refused, its hold would be given back, although the peer may have fulfilled it before."""
    async with LinksSetup() as setup:
        a, b = setup.a, setup.b
        setup.start(b, dials=False)
        setup.start(a)
        await asyncio.sleep(0.1)
        a.live.pause_writing()
        assert a.links.send(Request(a.peer, 1)) is Unanswered.BUSY
        asked = []
        for number in range(2, 5):
            request = Request(a.peer, number)
            request.again = True
            assert a.links.send(request) is None
            a.waiting.append(request)
            asked.append(request)
        a.links.forget(asked[:1])  # its deadline has passed
        await asyncio.sleep(1)
        assert b.arrivals == []
        a.live.resume_writing()
        await asyncio.sleep(0.1)
        assert len(b.arrivals) == 2
        b.answer_all()
        await asyncio.sleep(0.1)
        assert a.waiting == asked[:1]


@simulated
async def test_a_link_that_is_replaced_resends_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    async with LinksSetup() as setup:
        a, one = setup.a, Resending(setup, monkeypatch)
        await one.begin()
        one.on_write = one.pause
        a.live.abort()
        await asyncio.sleep(1)
        stuck = a.live
        one.on_write = lambda: None
        await a.links._connect(a.credentials)
        await asyncio.sleep(0.1)
        assert a.live is not stuck
        assert len(set(setup.b.arrivals)) == 100
        before = one.resent
        stuck.resume_writing()
        await asyncio.sleep(0.1)
        assert one.resent == before


# --- a node that is replaced


async def replaced(setup: LinksSetup) -> None:
    """`b` ends as it does when a new process follows at once."""
    setup.start(setup.a)
    setup.start(setup.b, dials=False)
    await asyncio.sleep(10)
    setup.b.links.comes_back = True
    await setup.b.links.close()
    await asyncio.sleep(10 * LATENCY_S)


@simulated
async def test_new_packets_wait_for_a_peer_that_is_replaced_and_are_sent_once() -> None:
    async with LinksSetup() as setup:
        await replaced(setup)
        request = setup.a.ask(1)
        await asyncio.sleep(2)
        assert not request.answers
        after = setup.b = Host(setup.network, "b", "a")
        setup.start(after, dials=False)
        await asyncio.sleep(10)
        assert request.answers == [b"answer 1"]
        assert after.arrivals == [b"prepare 1"]


@simulated
async def test_a_peer_that_does_not_come_back_in_time_is_not_connected() -> None:
    async with LinksSetup() as setup:
        await replaced(setup)
        request = setup.a.ask(1)
        await asyncio.sleep(bounds.RETURN_SECONDS_MAX - 2)
        assert not request.answers
        await asyncio.sleep(4)
        assert request.answers == [Unanswered.NOT_SENT]
        assert setup.a.links.send(Request(setup.a.peer, 2)) is Unanswered.NOT_SENT  # type: ignore[arg-type]


@simulated
async def test_a_peer_that_only_stops_is_not_waited_for() -> None:
    async with LinksSetup() as setup:
        setup.start(setup.a)
        setup.start(setup.b, dials=False)
        await asyncio.sleep(10)
        await setup.b.links.close()
        await asyncio.sleep(10 * LATENCY_S)
        assert setup.a.links.send(Request(setup.a.peer, 1)) is Unanswered.NOT_SENT  # type: ignore[arg-type]


@simulated
async def test_a_packet_that_is_over_while_it_waits_is_not_sent() -> None:
    async with LinksSetup() as setup:
        await replaced(setup)
        request = setup.a.ask(1)
        setup.a.links.forget([request])  # type: ignore[list-item]
        setup.a.waiting.remove(request)
        after = setup.b = Host(setup.network, "b", "a")
        setup.start(after, dials=False)
        await asyncio.sleep(30)
        assert not after.arrivals
        assert not request.answers


@simulated
async def test_a_node_that_stops_itself_rejects_what_waits_for_another() -> None:
    async with LinksSetup() as setup:
        await replaced(setup)
        request = setup.a.ask(1)
        setup.a.links.stop_listening()
        assert request.answers == [Unanswered.NOT_SENT]


@simulated
async def test_a_node_that_is_replaced_itself_leaves_what_waits_to_the_process_that_follows() -> (
    None
):
    """Its senders resend it; who cannot is told now."""
    async with LinksSetup() as setup:
        await replaced(setup)
        links = setup.a.links
        resent, plain = setup.a.ask(1), Request(setup.a.peer, 2)
        plain.sender_packet_id = 0
        assert links.send(plain) is None  # type: ignore[arg-type]
        setup.a.waiting.append(plain)
        links.comes_back = True
        links.stop_listening()
        assert (resent.answers, plain.answers) == ([], [Unanswered.NOT_SENT])
        assert links.held == 1
        later = Request(setup.a.peer, 3)
        assert links.send(later) is None  # type: ignore[arg-type]
        assert links.held == 2
        later.sender_packet_id = 0
        assert links.send(later) is Unanswered.NOT_SENT  # type: ignore[arg-type]


@simulated
async def test_two_neighbours_that_are_replaced_at_the_same_time_reject_nothing() -> None:
    """What is being reserved while both stop is left to the process that follows."""
    async with LinksSetup() as setup:
        a, b = setup.a, setup.b
        setup.start(a)
        setup.start(b, dials=False)
        await asyncio.sleep(10)
        a.links.comes_back = b.links.comes_back = True
        a.links.stop_listening()
        await b.links.close()
        await asyncio.sleep(1)
        assert not a.links.live
        resent, plain = Request(a.peer, 1), Request(a.peer, 2)
        plain.sender_packet_id = 0
        assert a.links.send(resent) is None  # type: ignore[arg-type]
        assert a.links.send(plain) is Unanswered.NOT_SENT  # type: ignore[arg-type]
        assert a.links.held == 1
        assert a.links.to_expect() == ["b"]


@simulated
async def test_a_node_that_only_stops_rejects_what_it_cannot_send_to_one_that_is_replaced() -> None:
    async with LinksSetup() as setup:
        a, b = setup.a, setup.b
        setup.start(a)
        setup.start(b, dials=False)
        await asyncio.sleep(10)
        b.links.comes_back = True
        a.links.stop_listening()
        await b.links.close()
        await asyncio.sleep(1)
        assert a.links.send(Request(a.peer, 1)) is Unanswered.NOT_SENT


@simulated
async def test_a_peer_that_is_expected_back_is_expected_by_the_process_that_follows_too() -> None:
    async with LinksSetup() as setup:
        await replaced(setup)
        assert not setup.a.links.live
        assert setup.a.links.to_expect() == ["b"]
        after = setup.b = Host(setup.network, "b", "a")
        setup.start(after, dials=False)
        await asyncio.sleep(10)
        assert setup.a.links.to_expect() == ["b"]


@simulated
async def test_another_program_in_the_place_of_a_node_gets_nothing_that_waited() -> None:
    async with LinksSetup() as setup:
        await replaced(setup)
        request = setup.a.ask(1)
        socket = await setup.dial_a()
        await asyncio.sleep(1)
        assert request.answers == [Unanswered.NOT_SENT]
        assert not socket.requests


@simulated
async def test_a_node_that_is_replaced_leaves_new_packets_to_the_process_that_follows() -> None:
    async with LinksSetup() as setup:
        a, b = setup.a, setup.b
        setup.start(a)
        setup.start(b, dials=False)
        await asyncio.sleep(10)
        b.answers_at_once = False
        first = a.ask(1)
        await asyncio.sleep(1)
        b.links.comes_back = True
        b.links.stop_listening()
        second = a.ask(2)
        await asyncio.sleep(1)
        b.answer_all()
        await asyncio.sleep(1)
        assert (first.answers, second.answers) == ([b"answer 1"], [])
        await b.links.close()
        after = setup.b = Host(setup.network, "b", "a")
        setup.start(after, dials=False)
        await asyncio.sleep(10)
        assert second.answers == [b"answer 2"]
        assert (b.arrivals, after.arrivals) == ([b"prepare 1"], [b"prepare 2"])


class Octets(asyncio.Protocol):
    """A connection over which octets are said, and nothing is understood."""

    def __init__(self) -> None:
        self.closed = asyncio.Event()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def connection_lost(self, error: Exception | None) -> None:
        self.closed.set()


@pytest.mark.parametrize("version", ["13", "99"])
@pytest.mark.parametrize(
    "frame", [b"\x82\x00", b"\x88\x80\0\0\0\0", b"\xff\xff", b"\x82\xff" + b"\xff" * 12]
)
@simulated
async def test_a_frame_behind_the_request_that_ends_the_connection_is_no_fault_of_ours(
    version: str, frame: bytes
) -> None:
    """Unmasked, a close, reserved, too long: before, an assertion of the library failed."""
    faults: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, said: faults.append(str(said)))
    network = MemoryNetwork()
    host = Host(network, "a", "b")
    await host.links.listen("host", PORTS["a"], None)
    stranger = Octets()
    await network.connect(lambda: stranger, "host", PORTS["a"], None)
    request = (
        "GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {'A' * 22}==\r\nSec-WebSocket-Version: {version}\r\n\r\n"
    )
    stranger.transport.write(request.encode() + frame)
    await stranger.closed.wait()
    assert faults == []
