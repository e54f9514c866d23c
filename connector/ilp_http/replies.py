"""Posts answers to the callback of one peer (RFC 35, asynchronous).

What waits, or is being posted, is bounded in octets, of each peer and of all. What finds no room is given up: to
the sender its packet has no answer in time.
"""

from __future__ import annotations

import asyncio
import uuid
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any, Final

from connector.base.clock import Clock
from connector.base.errors import HttpAnswerError, HttpError
from connector.ilp_http import bounds
from connector.ilp_http.client import Asks
from connector.ilp_http.message import REQUEST_ID
from connector.ilp_http.reach import BACKOFF, HttpTerms


class Room:
    """How many octets the answers of all peers take."""

    def __init__(self) -> None:
        self.taken = 0

    def has(self, size: int, *, of_peer: int) -> bool:
        """Whether a peer whose answers take `of_peer` octets may have `size` more."""
        left = bounds.REPLY_BYTES_MAX - self.taken
        wanted = of_peer + size
        return size <= left and wanted <= min(
            bounds.REPLY_BYTES_PER_PEER_MAX, (left + of_peer) // 2
        )


class Replies:
    """The answers that wait to be posted, oldest first, and the tasks that post them."""

    def __init__(
        self,
        terms: HttpTerms,
        *,
        client: Asks,
        clock: Clock,
        random: Callable[[], float],
        run: Callable[[Any], None],
        may_speak: Callable[[], Awaitable[bool]],
        say: Callable[[str, str], None],
        room: Room,
    ) -> None:
        """Nothing waits.

        Args:
            terms: with the callback.
            client: shows the token of the peer.
            clock: for deadlines.
            random: returns a number from 0 to 1, for the back-off.
            run: runs a coroutine as a task.
            may_speak: waits while the process does not know whether it is the active one.
            say: logs an event and its reason, at a limited rate.
            room: shared by all peers.
        """
        self._terms: Final = terms
        self._client = client
        self._clock = clock
        self._random = random
        self._run = run
        self._may_speak = may_speak
        self._say = say
        self._queue: OrderedDict[uuid.UUID, tuple[bytes, int]] = OrderedDict()
        self._room = room
        self._is_closed = False
        self._taken = 0
        """Octets of those that wait or are being posted."""
        self._working = 0

    def post(self, request_id: uuid.UUID, octets: bytes, until_ms: int) -> bool:
        """Post an answer, which is of use until then, and a moment in any case; False: there is no room."""
        if request_id in self._queue:
            return True  # the same packet, asked for again: its answer waits already
        size = _size(octets)
        if (
            self._is_closed
            or len(self._queue) >= bounds.QUEUE_PER_PEER_MAX
            or not self._room.has(size, of_peer=self._taken)
        ):
            self._say("ilp_http_answer_undelivered", "no room")
            return False
        self._take(size)
        least_ms = self._clock.now_ms() + int(bounds.REPLY_SECONDS_MIN * 1000)
        self._queue[request_id] = octets, max(until_ms, least_ms)
        if self._working < bounds.REPLIES_AT_ONCE_PER_PEER_MAX:
            self._working += 1
            self._run(self._post_all())
        return True

    async def _post_all(self) -> None:
        try:
            while self._queue:
                request_id, (octets, until_ms) = self._queue.popitem(last=False)
                try:
                    await self._post(request_id, octets, until_ms)
                finally:
                    self._take(-_size(octets))
        finally:
            self._working -= 1

    def close(self) -> None:
        """Give up what waits; the tasks are ended by the caller."""
        self._is_closed = True
        for octets, _ in self._queue.values():
            self._take(-_size(octets))
        self._queue.clear()

    def _take(self, size: int) -> None:
        self._taken += size
        self._room.taken += size
        assert 0 <= self._taken <= self._room.taken, (self._taken, self._room.taken)

    async def _post(self, request_id: uuid.UUID, octets: bytes, until_ms: int) -> None:
        """Repeated after a 5xx or none at all, while the answer can be of use (RFC 35)."""
        terms = self._terms
        assert terms.callback_url is not None
        headers = {"Content-Type": terms.content_type, REQUEST_ID: str(request_id)}
        reason = "no time left"
        for attempt in range(1, bounds.REPLY_ATTEMPTS_MAX + 1):
            left_s = (until_ms - self._clock.now_ms()) / 1000
            if left_s <= 0 or not await self._may_speak():
                break
            try:
                answer = await self._client.ask(
                    "POST",
                    terms.callback_url,
                    content=octets,
                    headers=headers,
                    seconds_max=min(left_s, bounds.ATTEMPT_SECONDS_MAX),
                )
            except HttpAnswerError:
                return  # it was answered, if badly
            except HttpError as error:
                reason = str(error)
            else:
                if answer.status < 500:
                    return
                reason = f"HTTP {answer.status}"
            await asyncio.sleep(BACKOFF.wait_s(attempt, self._random))
        self._say("ilp_http_answer_undelivered", reason)


def _size(octets: bytes) -> int:
    return len(octets) + bounds.REPLY_BYTES_EACH
