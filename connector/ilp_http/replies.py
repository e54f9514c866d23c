"""Posts answers to the callback of one peer (RFC 35, asynchronous)."""

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
        """
        self._terms: Final = terms
        self._client = client
        self._clock = clock
        self._random = random
        self._run = run
        self._may_speak = may_speak
        self._say = say
        self._queue: OrderedDict[uuid.UUID, tuple[bytes, int]] = OrderedDict()
        self._working = 0

    def post(self, request_id: uuid.UUID, octets: bytes, until_ms: int) -> bool:
        """Post an answer, which is of use until then; False: there is no room."""
        if len(self._queue) >= bounds.QUEUE_PER_PEER_MAX:
            return False
        self._queue[request_id] = octets, until_ms
        if self._working < bounds.REPLIES_AT_ONCE_PER_PEER_MAX:
            self._working += 1
            self._run(self._post_all())
        return True

    async def _post_all(self) -> None:
        try:
            while self._queue:
                request_id, (octets, until_ms) = self._queue.popitem(last=False)
                await self._post(request_id, octets, until_ms)
        finally:
            self._working -= 1

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
