"""Questions about data of payments: asked once per packet, in time, bounded and fair; any failure is temporary."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from connector.base import limits
from connector.peering.model import Asset, Peer, PeerTerms, Unanswered
from connector.stream.questions import DataPiece, Decision, PaymentData
from connector.switch import bounds
from connector.switch.asking import DataHandler, DataQuestions, SharedPlaces
from connector.switch.switch import Ask
from tests.support.ledgers import ManualClock
from tests.support.outside_http import FakeNetwork, raw

URL = "http://compliance/decide"
Said = Decision | Unanswered
Operator = Callable[[httpx.Request], Any]


def asked(wallet: str = "alice") -> PaymentData:
    return PaymentData(
        question_id="ab" * 16,
        payment_id="cd" * 16,
        wallet=wallet,
        asset_code="USD",
        asset_scale=9,
        amount=5,
        pieces=(DataPiece(1, 0, b"rent"),),
    )


class FakeDriver:
    """Stands in for the driver: records which decision each flight got."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.said: asyncio.Queue[tuple[int, Said]] = asyncio.Queue()
        self.log = structlog.testing.CapturingLogger()
        self.questions: DataQuestions

    def decided(self, flight: Any, said: Said) -> None:
        self.said.put_nowait((flight, said))

    def begin(
        self, flight: int = 1, *, peer: str = "bob", wallet: str = "alice", left_ms: int = 20_000
    ) -> None:
        source = Peer(PeerTerms(peer_id=peer, asset=Asset("USD", 9)))
        step = Ask(source, asked(wallet), self.clock.now_ms() + left_ms)
        self.questions.ask(flight, step)  # type: ignore[arg-type]

    async def ask(self, **how: Any) -> Said:
        self.begin(**how)
        return (await self.said.get())[1]


@asynccontextmanager
async def asking(
    *, operator: Operator | None = None, handler: DataHandler | None = None
) -> AsyncIterator[FakeDriver]:
    driver = FakeDriver()
    driver.questions = DataQuestions(
        url=None if operator is None else URL,
        clock=driver.clock,
        log=driver.log,
        transport=None if operator is None else FakeNetwork(operator),
    )
    if handler is not None:
        driver.questions.on_payment_data(handler)
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        driver.questions.attach(group, driver, lambda: None)  # type: ignore[arg-type]
        yield driver
        await driver.questions.close()


async def test_the_url_is_asked_and_its_decision_is_given() -> None:
    seen: list[httpx.Request] = []

    def operator(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, json={"accept": len(seen) == 1, "message": "not from there"})

    async with asking(operator=operator) as driver:
        assert (await driver.ask(), await driver.ask()) == (
            Decision(True, "not from there"),
            Decision(False, "not from there"),
        )
        counted = driver.questions
        assert (counted.accepted, counted.declined, counted.failed) == (1, 1, 0)
    body = json.loads(seen[0].content)
    assert (body["id"], body["wallet"], body["amount"]) == ("ab" * 16, "alice", "5")
    assert body["expiresAt"] == "2023-11-14T22:13:40.000Z"
    assert seen[0].headers["Idempotency-Key"] == "ab" * 16
    assert seen[0].headers["Accept-Encoding"] == "identity"


async def test_a_handler_comes_before_the_url_and_may_give_reasons() -> None:
    answers = iter([True, False, Decision(False, "no")])

    async def handler(_asked: PaymentData) -> bool | Decision:
        return next(answers)

    async with asking(operator=lambda _: httpx.Response(500), handler=handler) as driver:
        said = [await driver.ask() for _ in range(3)]
    assert said == [Decision(True), Decision(False), Decision(False, "no")]


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(500, json={"accept": True}),
        httpx.Response(302, headers={"location": "http://elsewhere/"}),
        httpx.Response(200, text="yes"),
        httpx.Response(200, json={"accepted": True}),
        httpx.Response(200, content=b" " * (bounds.DATA_ANSWER_BYTES_MAX + 1)),
        httpx.Response(200, content=b"[" * 4000),
        raw(200, gzip.compress(b'{"accept": true}'), content_encoding="gzip"),
        httpx.ConnectError("nobody listens"),
    ],
)
async def test_whatever_else_is_answered_neither_accepts_nor_declines(
    answer: httpx.Response | Exception,
) -> None:
    def operator(_request: httpx.Request) -> httpx.Response:
        if isinstance(answer, Exception):
            raise answer
        return answer

    async with asking(operator=operator) as driver:
        assert await driver.ask() is Unanswered.REFUSED
        assert driver.questions.failed == 1
        assert [call.method_name for call in driver.log.calls] == ["warning"]


@pytest.mark.parametrize("returned", [None, 1, "yes"])
async def test_a_handler_that_returns_something_else_has_failed(returned: Any) -> None:
    async def handler(_asked: PaymentData) -> Any:
        return returned

    async with asking(handler=handler) as driver:
        assert await driver.ask() is Unanswered.REFUSED


async def test_silence_is_waited_for_until_the_deadline() -> None:
    async def silent(_: httpx.Request) -> httpx.Response:
        await asyncio.Event().wait()
        raise AssertionError

    async with asking(operator=silent) as driver:
        assert await driver.ask(left_ms=5) is Unanswered.TIMED_OUT


async def test_a_busy_operator_gets_no_more_and_places_are_given_back() -> None:
    gate = asyncio.Event()

    async def handler(_asked: PaymentData) -> bool:
        await gate.wait()
        return True

    async with asking(handler=handler) as driver:
        for flight in range(bounds.DATA_QUESTIONS_MAX):
            driver.begin(flight)
        busy = [await driver.said.get() for _ in range(driver.questions.failed)]
        assert busy
        assert {said for _, said in busy} == {Unanswered.BUSY}
        # Another peer, and another wallet, are asked about all the same.
        driver.begin(-1, peer="carol")
        driver.begin(-2, wallet="erin")
        gate.set()
        left = bounds.DATA_QUESTIONS_MAX - len(busy) + 2
        said = dict([await driver.said.get() for _ in range(left)])
        assert said[-1] == said[-2] == Decision(True)
        assert await driver.ask() == Decision(True)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.booleans()), max_size=300))
def test_one_peer_or_one_wallet_never_takes_all_places(
    moves: list[tuple[int, int, bool]],
) -> None:
    places, most = SharedPlaces(16), 16
    taken: list[tuple[str, str]] = []
    for peer, wallet, takes in moves:
        key = (f"p{peer}", f"w{wallet}")
        if takes:
            if places.take(*key):
                taken.append(key)
        elif key in taken:
            taken.remove(key)
            places.give_back(*key)
        assert len(taken) <= most
        if len({peer for peer, _ in taken}) == 1:
            assert len(taken) <= most // 2
            assert places.take("other", "w0")
            places.give_back("other", "w0")


async def test_what_payers_cause_is_said_a_few_times_a_second() -> None:
    async def handler(_asked: PaymentData) -> bool:
        raise OSError("the file is away")

    async with asking(handler=handler) as driver:
        for _ in range(50):
            assert await driver.ask() is Unanswered.REFUSED
        assert len(driver.log.calls) == limits.LOG_LINES_PER_SECOND_PER_EVENT_MAX
        driver.clock.advance(1)
        await driver.ask()
        assert driver.log.calls[-1].kwargs["suppressed"] == 50 - len(driver.log.calls) + 1
