"""What one link may do in a turn of the event loop: the others are not kept waiting by its small messages."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest
from websockets.frames import Frame, Opcode

from connector.btp import bounds
from connector.btp.link import Link
from connector.btp.packet import MESSAGE, RESPONSE, BtpPacket, encode, encode_ilp
from connector.peering.model import Unanswered
from tests.support.clocks import simulated
from tests.support.guest import auth_packet
from tests.support.in_memory import LATENCY_S
from tests.unit.btp.test_links import LinksSetup, PlainSocket, Request

MANY = 3 * bounds.WORK_PER_TURN
PLAIN = bytes(4)
EMPTY = encode(BtpPacket(kind=MESSAGE, request_id=9, protocols=[]))


def _frames(messages: list[bytes]) -> bytes:
    return b"".join(
        Frame(Opcode.BINARY, message).serialize(mask=True, extensions=[]) for message in messages
    )


async def _linked(setup: LinksSetup) -> tuple[PlainSocket, Link]:
    setup.start(setup.a, dials=False)
    await asyncio.sleep(0)
    socket = await setup.dial_a()
    setup.a.answers_at_once = False
    return socket, setup.a.live


async def _asked(setup: LinksSetup, socket: PlainSocket) -> tuple[list[Request], bytes]:
    """Many requests to a peer, and the read with the answers to all of them."""
    asked = [setup.a.ask(number) for number in range(MANY)]
    await asyncio.sleep(10 * LATENCY_S)
    assert len(socket.requests) == MANY
    answers = [encode_ilp(RESPONSE, id_, ilp) for id_, ilp in socket.requests]
    return asked, _frames(answers)


def _answered(asked: list[Request]) -> list[int]:
    return [number for number, one in enumerate(asked) if one.answers]


@simulated
async def test_packets_of_one_read_are_handled_in_turns_and_in_their_order() -> None:
    async with LinksSetup() as setup:
        _, link = await _linked(setup)
        link.data_received(_frames([encode_ilp(MESSAGE, n, b"%d" % n) for n in range(MANY)]))
        link.data_received(_frames([encode_ilp(MESSAGE, MANY, b"%d" % MANY)]))
        seen = [len(setup.a.arrivals)]
        while len(setup.a.arrivals) <= MANY:
            await asyncio.sleep(0)  # others have their turn
            if len(setup.a.arrivals) != seen[-1]:
                seen.append(len(setup.a.arrivals))
        assert seen[0] == bounds.WORK_PER_TURN
        assert all(b - a <= bounds.WORK_PER_TURN + 1 for a, b in pairwise(seen))
        assert setup.a.arrivals == [b"%d" % n for n in range(MANY + 1)]


@simulated
async def test_what_is_no_packet_takes_more_of_a_turn() -> None:
    async with LinksSetup() as setup:
        _, link = await _linked(setup)
        before = setup.a.links.ignored
        link.data_received(_frames([EMPTY] * MANY))
        assert setup.a.links.ignored - before == bounds.WORK_PER_TURN // bounds.WORK_RARE
        await asyncio.sleep(1)
        assert setup.a.links.ignored - before == MANY


@simulated
async def test_nothing_more_is_read_until_all_of_a_read_is_handled() -> None:
    async with LinksSetup() as setup:
        socket, link = await _linked(setup)
        link.data_received(_frames([EMPTY] * MANY))
        assert socket.transport.other._paused
        await asyncio.sleep(1)
        assert not socket.transport.other._paused
        socket.say(encode_ilp(MESSAGE, 1, b"prepare"))
        await asyncio.sleep(10 * LATENCY_S)
        assert setup.a.arrivals == [b"prepare"]


@simulated
async def test_answers_that_came_before_the_connection_was_lost_count() -> None:
    async with LinksSetup() as setup:
        socket, link = await _linked(setup)
        asked, read = await _asked(setup, socket)
        link.data_received(read)
        assert len(_answered(asked)) == bounds.WORK_PER_TURN
        link.connection_lost(ConnectionResetError())
        assert setup.a.live is link
        await asyncio.sleep(0.1)
        assert link.closed.is_set()
        assert not setup.a.links.live
        assert all(isinstance(one.answers[0], bytes) for one in asked)


@simulated
async def test_a_link_that_is_given_up_after_its_connection_was_lost_ends() -> None:
    async with LinksSetup(standstill_s=1.0) as setup:
        socket, link = await _linked(setup)
        asked, read = await _asked(setup, socket)
        assert setup.a.links.standstill.seen()
        link.data_received(read)
        link.connection_lost(None)
        setup.a.links.standstill._seen_s -= 2
        assert not setup.a.links.standstill.seen()
        setup.a.links.abandon()
        assert link.closed.is_set()
        assert asked[-1].answers == [Unanswered.LINK_LOST]


@simulated
async def test_a_link_that_is_dropped_handles_no_more_of_its_read() -> None:
    async with LinksSetup() as setup:
        socket, link = await _linked(setup)
        asked, read = await _asked(setup, socket)
        link.data_received(read)
        link.drop("on purpose")
        await socket.closed.wait()
        await asyncio.sleep(0.1)
        assert len(_answered(asked)) == MANY
        assert [one.answers for one in asked[bounds.WORK_PER_TURN :]] == [
            [Unanswered.LINK_LOST]
        ] * (MANY - bounds.WORK_PER_TURN)


@simulated
async def test_who_stands_still_between_two_turns_goes_on_when_it_is_known_to_be_active() -> None:
    async with LinksSetup(standstill_s=1.0) as setup:
        socket, link = await _linked(setup)
        asked, read = await _asked(setup, socket)
        assert setup.a.links.standstill.seen()
        link.data_received(read)
        setup.a.links.standstill._seen_s -= 2
        await asyncio.sleep(0.1)
        assert not setup.a.links.standstill.seen()
        assert len(_answered(asked)) == bounds.WORK_PER_TURN
        setup.a.links.release()
        await asyncio.sleep(0.1)
        assert len(_answered(asked)) == MANY


@simulated
async def test_a_peer_that_does_not_read_is_heard_when_it_does() -> None:
    async with LinksSetup() as setup:
        socket, link = await _linked(setup)
        asked, read = await _asked(setup, socket)
        link.data_received(read)
        link.pause_writing()
        await asyncio.sleep(0.1)
        assert len(_answered(asked)) == bounds.WORK_PER_TURN
        link.resume_writing()
        await asyncio.sleep(0.1)
        assert len(_answered(asked)) == MANY


@pytest.mark.parametrize("behind", [1, 40])
@simulated
async def test_a_link_whose_frames_followed_its_handshake_has_smaller_turns(behind: int) -> None:
    async with LinksSetup() as setup:
        setup.start(setup.a, dials=False)
        await asyncio.sleep(0)
        link = setup.a.links._network.listening[1]()  # type: ignore[attr-defined]
        assert isinstance(link, Link)
        socket = await setup.dial_a()
        link.connection_made(socket.transport.other)
        hello = (
            b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        link.data_received(hello + _frames([encode(auth_packet("b", b"secret"))]))
        assert link.peer is not None
        before = setup.a.links.ignored
        link.data_received(_frames([EMPTY] * 100 * behind))
        first = setup.a.links.ignored - before
        assert first <= bounds.NOT_PLAIN_BYTES_AT_ONCE // len(EMPTY)
        await asyncio.sleep(1)
        assert setup.a.links.ignored - before == 100 * behind
