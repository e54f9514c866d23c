"""Local delivery: once per packet, in time, bounded; whatever the receiver does gives an answer."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
import structlog

from connector.base import limits
from connector.ilp import settle
from connector.ilp.packet import Fulfill, Prepare, Reject
from connector.peering.model import Asset, Peer, PeerTerms, Unanswered
from connector.switch import bounds as switch_bounds
from connector.switch.delivery import Deliveries, Handler, Places, read_answer
from connector.switch.switch import Deliver
from tests.support.ledgers import ManualClock
from tests.support.outside_http import FakeNetwork, raw

ADDRESS = "g.us"
URL = "http://wallet/prepare"
PREIMAGE = b"p" * 32
PACKET_ID = 0x0193_4F3A_0000_0000_0000_0000_0000_0700
SOURCE = Peer(PeerTerms(peer_id="alice", asset=Asset("USD", 9)))
Said = Fulfill | Reject | Unanswered
Wallet = Callable[[httpx.Request], httpx.Response]


class FakeDriver:
    """Stands in for the driver: records which answer each flight got."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.said: asyncio.Queue[tuple[int, Said]] = asyncio.Queue()
        self.log = structlog.testing.CapturingLogger()
        self.deliveries: Deliveries

    def delivered(self, flight: Any, said: Said) -> None:
        self.said.put_nowait((flight, said))

    def deliver(
        self, flight: int = 1, *, left_ms: int = 20_000, destination: str = "g.us.invoice"
    ) -> None:
        now_ms = self.clock.now_ms()
        prepare = Prepare(
            amount=2**64 - 1,
            expires_at_ms=now_ms + left_ms + 1000,
            condition=bytes(range(32)),
            destination=destination,
            data=b"\x00\xff",
        )
        step = Deliver(SOURCE, prepare, now_ms + left_ms, PACKET_ID)
        self.deliveries.deliver(flight, step)  # type: ignore[arg-type]

    async def ask(self, **how: Any) -> Said:
        self.deliver(**how)
        return (await self.said.get())[1]


@asynccontextmanager
async def delivering(
    *, wallet: Wallet | None = None, handler: Handler | None = None
) -> AsyncIterator[FakeDriver]:
    driver = FakeDriver()
    driver.deliveries = Deliveries(
        url=URL if wallet is not None else None,
        clock=driver.clock,
        log=driver.log,
        own_address=lambda: ADDRESS,
        transport=None if wallet is None else FakeNetwork(wallet),
    )
    if handler is not None:
        driver.deliveries.on_prepare(handler)
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        driver.deliveries.attach(group, driver, lambda: None)  # type: ignore[arg-type]
        yield driver
        await driver.deliveries.close()


def encoded(octets: bytes) -> str:
    return base64.b64encode(octets).decode()


def failed(said: Said) -> bool:
    return said == Reject(code="T00", triggered_by=ADDRESS, message="receiver failed")


# --- the handler of the library


async def test_a_handler_gets_the_prepare_and_its_answer_is_reported() -> None:
    seen: list[Prepare] = []

    async def handler(prepare: Prepare) -> Fulfill | Reject:
        seen.append(prepare)
        return Fulfill(fulfillment=PREIMAGE, data=b"thanks")

    async with delivering(handler=handler) as driver:
        assert await driver.ask() == Fulfill(fulfillment=PREIMAGE, data=b"thanks")
    assert [prepare.destination for prepare in seen] == ["g.us.invoice"]


async def test_a_handler_that_needs_a_second_argument_gets_the_packet_id() -> None:
    seen: list[str] = []

    async def handler(_prepare: Prepare, packet_id: str) -> Fulfill | Reject:
        seen.append(packet_id)
        return Fulfill(fulfillment=PREIMAGE)

    async with delivering(handler=handler) as driver:
        await driver.ask()
        await driver.ask()
    assert seen == ["01934f3a000000000000000000000700"] * 2


async def test_a_handler_with_a_default_for_its_second_parameter_keeps_it() -> None:
    seen: list[object] = []

    async def handler(_prepare: Prepare, answers: int = 7, *more: int) -> Fulfill | Reject:
        seen.extend((answers, *more))
        return Fulfill(fulfillment=PREIMAGE)

    async with delivering(handler=handler) as driver:
        await driver.ask()
    assert seen == [7]


def test_a_handler_that_takes_something_else_is_refused_at_once() -> None:
    async def handler(_prepare: Prepare, _id: str, _source: str) -> Fulfill | Reject:
        raise AssertionError("never asked")

    deliveries = Deliveries(
        url=None, clock=ManualClock(), log=structlog.get_logger(), own_address=lambda: ADDRESS
    )
    with pytest.raises(TypeError, match=r"takes \(_prepare: "):
        deliveries.on_prepare(handler)  # type: ignore[arg-type]
    assert not deliveries.possible()


async def test_a_message_between_settlement_engines_goes_to_the_engine_alone() -> None:
    seen: list[tuple[str, bytes]] = []

    async def engine(peer_id: str, octets: bytes) -> Fulfill | Reject:
        seen.append((peer_id, octets))
        return Fulfill(fulfillment=bytes(32), data=b"hello")

    async def handler(_: Prepare) -> Fulfill | Reject:
        raise AssertionError

    async with delivering(handler=handler) as driver:
        refused = await driver.ask(destination="peer.settle")
        assert isinstance(refused, Reject)
        assert (refused.code, refused.triggered_by) == ("F00", "peer.settle")
        driver.deliveries.on_settle_message(engine)
        said = await driver.ask(destination="peer.settle")
        assert said == Fulfill(fulfillment=bytes(32), data=b"hello")
    assert seen == [("alice", b"\x00\xff")]


async def test_delivery_is_possible_only_with_a_receiver() -> None:
    deliveries = Deliveries(
        url=None, clock=ManualClock(), log=structlog.get_logger(), own_address=lambda: ADDRESS
    )
    assert not deliveries.possible()

    async def handler(_prepare: Prepare) -> Fulfill | Reject:
        raise AssertionError("never asked")

    deliveries.on_prepare(handler)
    assert deliveries.possible()
    assert Deliveries(
        url=URL, clock=ManualClock(), log=structlog.get_logger(), own_address=lambda: ADDRESS
    ).possible()


class OddError(Exception):
    """Says a secret, on several lines."""


@pytest.mark.parametrize(
    "answer",
    [
        None,
        b"octets",
        Prepare(amount=1, expires_at_ms=0, condition=bytes(32), destination="g.a"),
        Fulfill(fulfillment=b"short"),
        Fulfill(fulfillment=PREIMAGE, data=bytes(limits.PACKET_DATA_BYTES_MAX + 1)),
        Reject(code="nonsense"),
        Reject(code="F99", triggered_by="not an address"),
        Reject(code="F99", message="\ud800"),
        OddError("first\nsecond"),
    ],
)
async def test_a_handler_that_fails_or_answers_nonsense_is_a_t00(answer: object) -> None:
    async def handler(_prepare: Prepare) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer

    async with delivering(handler=handler) as driver:
        assert failed(await driver.ask())
    (line,) = driver.log.calls
    assert line.args == ("local_delivery_failed",)
    assert "\n" not in line.kwargs["reason"]
    assert len(line.kwargs["reason"]) <= 200


async def test_what_senders_cause_is_said_a_few_times_a_second() -> None:
    async def handler(_prepare: Prepare) -> Any:
        raise OSError("the file is away")

    async with delivering(handler=handler) as driver:
        for _ in range(50):
            assert failed(await driver.ask())
        assert len(driver.log.calls) == limits.LOG_LINES_PER_SECOND_PER_EVENT_MAX


@pytest.mark.parametrize("left_ms", [0, -5, 20])
async def test_a_slow_handler_times_out(left_ms: int) -> None:
    ended = asyncio.Event()

    async def handler(_prepare: Prepare) -> Fulfill | Reject:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        raise AssertionError

    async with delivering(handler=handler) as driver:
        assert await driver.ask(left_ms=left_ms) is Unanswered.TIMED_OUT
        assert left_ms <= 0 or ended.is_set(), "it is not left running"


async def test_concurrent_deliveries_are_bounded_and_the_next_is_refused() -> None:
    go = asyncio.Event()

    async def handler(_prepare: Prepare) -> Fulfill | Reject:
        await go.wait()
        return Fulfill(fulfillment=PREIMAGE)

    async with delivering(handler=handler) as driver:
        alone = switch_bounds.LOCAL_DELIVERIES_MAX // 2
        for flight in range(alone):
            driver.deliver(flight)
        driver.deliver(-1)
        assert driver.said.empty(), "never from within the flow that asks"
        flight, said = await driver.said.get()
        assert (flight, said) == (
            -1, Reject(code="T03", triggered_by=ADDRESS, message="receiver is busy"),
        )  # fmt: skip
        go.set()
        answered = {(await driver.said.get())[0] for _ in range(alone)}
        assert answered == set(range(alone))
        await asyncio.sleep(0)  # the tasks end in the turn after they have told their answers
        assert isinstance(await driver.ask(), Fulfill), "there is room again"


@pytest.mark.parametrize("greedy", [1, 2, 5])
def test_however_many_peers_take_all_places_they_can_the_next_one_finds_some(greedy: int) -> None:
    places = Places(120)
    for n in range(greedy):
        while places.take(f"p{n}"):
            pass
    left = 0
    while places.take("next"):
        left += 1
    assert left >= 120 // 2 ** (greedy + 1) > 0
    for _ in range(left):
        places.give_back("next")
    assert places.take("next")
    assert not places._taken.keys() - {f"p{n}" for n in range(greedy)} - {"next"}


async def test_a_slow_settlement_engine_leaves_the_places_of_the_receiver() -> None:
    """Messages of one peer's engine fill their own places only; they are refused by peer.settle."""
    go = asyncio.Event()

    async def handler(_prepare: Prepare) -> Fulfill | Reject:
        return Fulfill(fulfillment=PREIMAGE)

    async def engine(_peer_id: str, octets: bytes) -> Fulfill | Reject:
        await go.wait()
        return settle.answer(octets)

    async with delivering(handler=handler) as driver:
        driver.deliveries.on_settle_message(engine)
        taken = switch_bounds.SETTLE_MESSAGES_MAX // 2
        for flight in range(1, taken + 2):
            driver.deliver(flight, destination="peer.settle")
        flight, said = await driver.said.get()
        assert flight == taken + 1
        assert said == Reject(code="T03", triggered_by="peer.settle", message="receiver is busy")
        assert isinstance(await driver.ask(), Fulfill)
        go.set()
        answers = {(await driver.said.get())[0] for _ in range(taken)}
        assert answers == set(range(1, taken + 1))


async def test_an_unanswered_delivery_does_not_delay_closing() -> None:
    async def handler(_prepare: Prepare) -> Fulfill | Reject:
        await asyncio.Event().wait()
        raise AssertionError

    async with delivering(handler=handler) as driver:
        driver.deliver()
    assert driver.said.empty()


# --- LOCAL_DELIVERY_URL


async def test_a_wallet_gets_every_field_of_the_packet() -> None:
    seen: list[httpx.Request] = []

    def wallet(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, json={"fulfillment": encoded(PREIMAGE), "data": encoded(b"hi")})

    async with delivering(wallet=wallet) as driver:
        assert await driver.ask() == Fulfill(fulfillment=PREIMAGE, data=b"hi")
    (request,) = seen
    assert (request.method, str(request.url)) == ("POST", URL)
    assert json.loads(request.content) == {
        "destination": "g.us.invoice",
        "amount": "18446744073709551615",
        "condition": encoded(bytes(range(32))),
        "expiresAt": "2023-11-14T22:13:41.000Z",
        "data": encoded(b"\x00\xff"),
        "source": "alice",
        "packetId": f"{PACKET_ID:032x}",
    }


async def test_a_handler_takes_precedence_over_the_wallet() -> None:
    async def handler(_prepare: Prepare) -> Fulfill | Reject:
        return Reject(code="F99")

    async with delivering(wallet=lambda _: httpx.Response(500), handler=handler) as driver:
        assert await driver.ask() == Reject(code="F99")


async def endless() -> AsyncIterator[bytes]:
    """An answer that has no end."""
    while True:
        await asyncio.sleep(0)
        yield b" " * 1000


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(500, text="stack trace"),
        httpx.Response(302, headers={"location": "http://elsewhere/"}),
        httpx.Response(204),
        httpx.Response(200, text="not json"),
        httpx.Response(200, content=b"\xff\xfe\xfd"),
        httpx.Response(200, json=[1]),
        httpx.Response(200, json={}),
        httpx.Response(200, json={"fulfillment": "%%%"}),
        httpx.Response(200, json={"fulfillment": encoded(b"short")}),
        httpx.Response(200, content=b" " * (switch_bounds.LOCAL_ANSWER_BYTES_MAX + 1)),
        httpx.Response(200, content=b"[" * 60_000),
        httpx.ConnectError("nobody listens"),
    ],
)
async def test_a_wallet_that_fails_or_answers_nonsense_is_a_t00(
    answer: httpx.Response | Exception,
) -> None:
    def wallet(_request: httpx.Request) -> httpx.Response:
        if isinstance(answer, Exception):
            raise answer
        return answer

    async with delivering(wallet=wallet) as driver:
        assert failed(await driver.ask())


async def test_an_endless_answer_is_read_up_to_its_bound() -> None:
    async with delivering(wallet=lambda _: httpx.Response(200, content=endless())) as driver:
        assert failed(await driver.ask())


async def test_an_answer_that_is_compressed_is_bounded_decompressed() -> None:
    fulfill = json.dumps({"fulfillment": encoded(PREIMAGE)}).encode()
    packed = gzip.compress(fulfill)
    async with delivering(wallet=lambda _: raw(200, packed, content_encoding="gzip")) as driver:
        assert await driver.ask() == Fulfill(fulfillment=PREIMAGE)
    for encoding, body in (
        ("gzip", gzip.compress(fulfill + b" " * switch_bounds.LOCAL_ANSWER_BYTES_MAX)),
        ("gzip, gzip", gzip.compress(packed)),
    ):
        answer = raw(200, body, content_encoding=encoding)
        async with delivering(wallet=lambda _, answer=answer: answer) as driver:
            assert failed(await driver.ask())


async def test_a_wallet_that_is_silent_is_waited_for_until_the_deadline() -> None:
    async def silent(_: httpx.Request) -> httpx.Response:
        await asyncio.Event().wait()
        raise AssertionError

    async with delivering(wallet=silent) as driver:  # type: ignore[arg-type]
        assert await driver.ask(left_ms=5) is Unanswered.TIMED_OUT


def test_an_answer_is_a_fulfill_or_a_reject_in_our_name() -> None:
    assert read_answer({"fulfillment": encoded(PREIMAGE)}, ADDRESS) == Fulfill(fulfillment=PREIMAGE)
    body = {"code": "F99", "message": "m" * 500, "data": encoded(b"why")}
    assert read_answer(body, ADDRESS) == Reject(
        code="F99", triggered_by=ADDRESS, message="m" * 200, data=b"why"
    )
    assert read_answer({"code": "R01"}, ADDRESS) == Reject(code="R01", triggered_by=ADDRESS)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("text", "not an object"),
        (None, "not an object"),
        ({"code": "X99"}, "neither fulfillment nor code"),
        ({"code": "F9"}, "neither fulfillment nor code"),
        ({"code": "F99\n"}, "neither fulfillment nor code"),
        ({"code": 5}, "neither fulfillment nor code"),
        ({"fulfillment": "a"}, "not base64"),
        ({"fulfillment": {"a": 1}}, "not base64"),
        ({"fulfillment": encoded(bytes(31))}, "not 32 octets"),
        ({"fulfillment": encoded(PREIMAGE), "data": "*"}, "not base64"),
        ({"code": "F99", "data": encoded(bytes(limits.PACKET_DATA_BYTES_MAX + 1))}, "too long"),
    ],
)
def test_any_other_answer_is_refused_with_its_reason(body: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read_answer(body, ADDRESS)
