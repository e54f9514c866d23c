"""What answers to callbacks take: bounded in octets, of one peer and of all, and given back."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping
from typing import Any

import pytest

from connector.base.errors import HttpUnreachableError
from connector.base.http import HttpAnswer
from connector.ilp_http import bounds
from connector.ilp_http.client import LOST
from connector.ilp_http.reach import HttpTerms
from connector.ilp_http.replies import Replies, Room
from tests.support.clocks import SimulatedClock, simulated

BIG = bytes(41_000)
SIZE = len(BIG) + bounds.REPLY_BYTES_EACH
TERMS = HttpTerms(peer_id="bob", token="of-bob", callback_url="http://bob/")


class Callback:
    """Hangs until it is let go, then answers with a status, or not at all (0)."""

    def __init__(self) -> None:
        self.may_answer = asyncio.Event()
        self.status = 200
        self.posted: list[bytes] = []

    async def ask(
        self,
        method: str,
        url: str,
        *,
        content: bytes = b"",
        headers: Mapping[str, str] | None = None,
        seconds_max: float,
    ) -> HttpAnswer:
        assert (method, url, seconds_max > 0, headers is not None) == (
            "POST",
            "http://bob/",
            True,
            True,
        )
        await self.may_answer.wait()
        self.posted.append(content)
        if not self.status:
            raise HttpUnreachableError(LOST, "gone")
        return HttpAnswer(self.status, b"", {})

    async def close(self) -> None:
        """Nothing is open."""


class Peer:
    def __init__(self, room: Room) -> None:
        self.callback = Callback()
        self.tasks: list[asyncio.Task[None]] = []
        self.said: list[tuple[str, str]] = []
        self.clock = SimulatedClock()
        self.replies = Replies(
            TERMS,
            client=self.callback,
            clock=self.clock,
            random=lambda: 0.5,
            run=self._run,
            may_speak=self._may_speak,
            say=lambda event, reason: self.said.append((event, reason)),
            room=room,
        )

    def _run(self, work: Any) -> None:
        self.tasks.append(asyncio.ensure_future(work))

    async def _may_speak(self) -> bool:
        return True

    async def fill(self, octets: bytes = BIG) -> int:
        """How many answers of one kind are taken."""
        count = 0
        while self.replies.post(uuid.uuid4(), octets, self.clock.now_ms() + 30_000):
            count += 1
            await asyncio.sleep(0)
        return count

    async def end(self) -> None:
        self.replies.close()
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


@simulated
async def test_answers_to_a_callback_that_hangs_take_bounded_octets() -> None:
    room = Room()
    peer = Peer(room)
    count = await peer.fill()
    assert count == bounds.REPLY_BYTES_PER_PEER_MAX // SIZE
    assert room.taken == count * SIZE, "those that are being posted, too"
    assert peer.said == [("ilp_http_answer_undelivered", "no room")]
    peer.callback.may_answer.set()
    await asyncio.gather(*peer.tasks)
    assert (len(peer.callback.posted), room.taken) == (count, 0)
    assert peer.replies.post(uuid.uuid4(), BIG, peer.clock.now_ms() + 30_000)
    await peer.end()


@simulated
async def test_all_peers_together_are_bounded_and_a_later_one_has_room() -> None:
    room = Room()
    peers = [Peer(room) for _ in range(40)]
    counts = [await peer.fill() for peer in peers]
    assert room.taken <= bounds.REPLY_BYTES_MAX
    assert counts[0] == bounds.REPLY_BYTES_PER_PEER_MAX // SIZE
    late = Peer(room)
    assert late.replies.post(uuid.uuid4(), bytes(300), late.clock.now_ms() + 30_000)
    for peer in (*peers, late):
        await peer.end()
    assert room.taken == 0


@pytest.mark.parametrize("status", [0, 200, 400, 500])
def test_whatever_becomes_of_an_answer_its_room_is_given_back(status: int) -> None:
    @simulated
    async def scenario() -> None:
        room = Room()
        peer = Peer(room)
        peer.callback.status = status
        peer.callback.may_answer.set()
        for octets in (b"", b"x", BIG):
            assert peer.replies.post(uuid.uuid4(), octets, peer.clock.now_ms() + 5000)
        assert room.taken == SIZE + 1 + 2 * bounds.REPLY_BYTES_EACH
        await asyncio.gather(*peer.tasks)
        assert room.taken == 0
        assert len(peer.callback.posted) == 3 or status in (0, 500)

    scenario()


@simulated
async def test_a_peer_that_is_left_gives_its_room_back() -> None:
    room = Room()
    peer = Peer(room)
    for _ in range(2 * bounds.REPLIES_AT_ONCE_PER_PEER_MAX):
        assert peer.replies.post(uuid.uuid4(), b"answer", peer.clock.now_ms() + 30_000)
    await asyncio.sleep(1)
    await peer.end()
    assert room.taken == 0
    assert not peer.replies.post(uuid.uuid4(), b"answer", peer.clock.now_ms() + 30_000)


@simulated
async def test_an_answer_at_the_last_moment_is_posted_all_the_same() -> None:
    """R00 at the expiry: who waits for it may have a clock that is behind."""
    peer = Peer(Room())
    peer.callback.may_answer.set()
    assert peer.replies.post(uuid.uuid4(), b"answer", peer.clock.now_ms() - 20_000)
    await asyncio.gather(*peer.tasks)
    assert peer.callback.posted == [b"answer"]


@simulated
async def test_an_id_that_waits_already_takes_no_second_place() -> None:
    room = Room()
    peer = Peer(room)
    request_id = uuid.uuid4()
    until_ms = peer.clock.now_ms() + 30_000
    assert peer.replies.post(request_id, BIG, until_ms)
    assert peer.replies.post(request_id, BIG, until_ms)
    assert room.taken == SIZE
    peer.callback.may_answer.set()
    await asyncio.gather(*peer.tasks)
    assert peer.callback.posted == [BIG]
    assert room.taken == 0
