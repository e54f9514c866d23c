"""Asks whether data of payments to wallets here is accepted: a handler, or PAY_DATA_URL.

In the manner of local delivery (`delivery`). Bounded are the number at a time, fairly between wallets and
between peers, the time (5 s, and the packet's deadline) and the size of an answer. Whatever fails, the
packet gets a temporary error: its payer may try again, and nothing is held for it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, Final

from connector.base import limits
from connector.base.clock import Clock
from connector.base.errors import HttpTimeoutError
from connector.base.http import HttpClient, Transport
from connector.base.log import Log, Sampler
from connector.peering.model import Unanswered
from connector.stream.questions import Decision, PaymentData, question, read_decision
from connector.switch import bounds
from connector.switch.driver import Driver
from connector.switch.flight import Flight
from connector.switch.switch import Ask

DataHandler = Callable[[PaymentData], Awaitable[bool | Decision]]
"""Decides about data of a payment; an exception becomes a T00."""


class SharedPlaces:
    """Places for questions. One wallet leaves some to all others, and so does one peer.

    A peer takes as many as are left, whatever wallets it pays, and of what is left to a wallet a part only:
    so neither a peer that pays all wallets nor one that pays another's takes the last place.
    """

    def __init__(self, places_max: int) -> None:
        self._left = places_max
        self._of_peer: dict[str, int] = {}
        self._of_wallet: dict[str, int] = {}
        self._of_both: dict[tuple[str, str], int] = {}

    def take(self, peer_id: str, wallet: str) -> bool:
        """Take a place; False: there is none for this peer and wallet."""
        left = self._left
        if self._of_peer.get(peer_id, 0) >= left or self._of_both.get(
            (peer_id, wallet), 0
        ) >= left - self._of_wallet.get(wallet, 0):
            return False
        self._left -= 1
        _add(self._of_peer, peer_id, 1)
        _add(self._of_wallet, wallet, 1)
        _add(self._of_both, (peer_id, wallet), 1)
        return True

    def give_back(self, peer_id: str, wallet: str) -> None:
        """A question has ended."""
        self._left += 1
        _add(self._of_peer, peer_id, -1)
        _add(self._of_wallet, wallet, -1)
        _add(self._of_both, (peer_id, wallet), -1)


class DataQuestions:
    """Calls the handler of the library API, else PAY_DATA_URL."""

    def __init__(
        self, *, url: str | None, clock: Clock, log: Log, transport: Transport | None = None
    ) -> None:
        """`url` is PAY_DATA_URL; `transport` replaces the network in tests."""
        self.accepted = 0
        self.declined = 0
        self.failed = 0
        """Busy, late, or no answer that can be read."""
        self._url = url
        self._clock = clock
        self._log = log
        self._handler: DataHandler | None = None
        self._group: asyncio.TaskGroup | None = None
        self._driver: Driver | None = None
        self._turn_done: Callable[[], None] = lambda: None
        self._client: Final = HttpClient(
            seconds_max=bounds.DATA_ANSWER_MS_MAX / 1000,
            answer_bytes_max=bounds.DATA_ANSWER_BYTES_MAX,
            connections_max=bounds.DATA_QUESTIONS_MAX,
            gzip=False,
            transport=transport,
        )
        self._lines = Sampler(limits.LOG_LINES_PER_SECOND_PER_EVENT_MAX)
        self._tasks: set[asyncio.Task[None]] = set()
        self._places = SharedPlaces(bounds.DATA_QUESTIONS_MAX)

    def attach(
        self, group: asyncio.TaskGroup, driver: Driver, turn_done: Callable[[], None]
    ) -> None:
        """Set the owner of the tasks, the driver that gets answers, and a call after each."""
        self._group = group
        self._driver = driver
        self._turn_done = turn_done

    def on_payment_data(self, handler: DataHandler) -> None:
        """Let `handler` decide."""
        self._handler = handler

    def possible(self) -> bool:
        """Whether there is a handler or URL."""
        return self._handler is not None or self._url is not None

    def ask(self, flight: Flight, step: Ask) -> None:
        """Start a task; the driver gets the answer."""
        assert self._group is not None
        assert self._driver is not None
        peer_id, wallet = step.source.peer_id, step.question.wallet
        if not self._places.take(peer_id, wallet):
            self.failed += 1
            # Not synchronously: the driver is resuming the flow right now.
            asyncio.get_running_loop().call_soon(self._driver.decided, flight, Unanswered.BUSY)
            return
        task = self._group.create_task(self._ask(flight, step))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _ask(self, flight: Flight, step: Ask) -> None:
        assert self._driver is not None
        try:
            said = await self._said(step)
        finally:
            self._places.give_back(step.source.peer_id, step.question.wallet)
        if isinstance(said, Unanswered):
            self.failed += 1
        elif said.accept:
            self.accepted += 1
        else:
            self.declined += 1
        self._driver.decided(flight, said)
        self._turn_done()

    async def _said(self, step: Ask) -> Decision | Unanswered:
        left_s = max(0.0, (step.deadline_ms - self._clock.now_ms()) / 1000)
        try:
            async with asyncio.timeout(left_s):
                if self._handler is not None:
                    return _decision(await self._handler(step.question))
                return await self._post(step.question, step.deadline_ms, left_s)
        except (TimeoutError, HttpTimeoutError):
            return Unanswered.TIMED_OUT
        except Exception as error:  # noqa: BLE001 - foreign code; the packet must be answered
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            # Payers cause these lines, so their rate is limited.
            suppressed = self._lines.allow(self._clock.monotonic_s())
            if suppressed is not None:
                self._log.warning("payment_data_failed", reason=reason, suppressed=suppressed)
            return Unanswered.REFUSED

    async def _post(self, asked: PaymentData, deadline_ms: int, left_s: float) -> Decision:
        assert self._url is not None
        until = datetime.fromtimestamp(deadline_ms / 1000, UTC).isoformat(timespec="milliseconds")
        body = question(asked, until.replace("+00:00", "Z"))
        answer = await self._client.ask(
            "POST",
            self._url,
            content=json.dumps(body, separators=(",", ":")).encode(),
            headers={"Content-Type": "application/json", "Idempotency-Key": asked.question_id},
            seconds_max=max(0.001, left_s),
        )
        if answer.status != 200:
            raise ValueError(f"the answer is HTTP {answer.status}")
        return read_decision(answer.json())

    async def close(self) -> None:
        """Cancel unfinished questions, and close all connections."""
        for task in list(self._tasks):
            task.cancel()
        await self._client.close()


def _decision(said: Any) -> Decision:
    """What a handler returned; it is not checked by types."""
    if isinstance(said, Decision):
        return said
    if isinstance(said, bool):
        return Decision(said)
    raise TypeError(f"the handler returned {type(said).__name__}")


def _add(counts: dict[Any, int], key: Any, more: int) -> None:
    now = counts.pop(key, 0) + more
    assert now >= 0, now
    if now:
        counts[key] = now
