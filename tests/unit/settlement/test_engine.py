"""A settlement engine over HTTP (RFC 38): what it is asked, and what it may answer."""

from __future__ import annotations

import asyncio
import gzip
import json
from typing import Any

import httpx
import pytest

from connector.base import limits
from connector.base.errors import EngineError
from connector.settlement import bounds
from connector.settlement.engine import Answer, HttpEngine, ManualEngine, make_client
from connector.settlement.model import Quantity
from tests.support.outside_http import FakeNetwork, raw

QUANTITY = Quantity(254, 2)


class FakeEngine:
    """Takes requests down and answers what it is told to."""

    def __init__(self, answer: Any = None) -> None:
        self.answer = answer
        self.asked: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> Any:
        self.asked.append(request)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer(request) if callable(self.answer) else raw(201)

    def engine(self, token: str | None = "token") -> HttpEngine:
        client = make_client(transport=FakeNetwork(self))
        return HttpEngine("http://engine/", client=client, token=token)


async def test_an_account_is_made_before_the_first_settlement_and_the_key_is_sent() -> None:
    fake = FakeEngine()
    engine = fake.engine()
    for key in ("k1", "k2"):
        assert await engine.settle("a b", key, QUANTITY) is Answer.TAKEN
    made, first, second = fake.asked
    assert (str(made.url), json.loads(made.content)) == ("http://engine/accounts", {"id": "a b"})
    assert str(first.url) == "http://engine/accounts/a%20b/settlements"
    assert json.loads(first.content) == {"amount": "254", "scale": 2}
    assert [one.headers["idempotency-key"] for one in (first, second)] == ["k1", "k2"]
    assert {one.headers["authorization"] for one in fake.asked} == {"Bearer token"}
    assert {one.headers["content-type"] for one in fake.asked} == {"application/json"}


async def test_an_account_that_the_engine_forgot_is_made_again() -> None:
    fake = FakeEngine(lambda request: raw(201 if request.url.path == "/accounts" else 404))
    engine = fake.engine()
    for _ in range(2):
        with pytest.raises(EngineError, match="HTTP 404 to a settlement"):
            await engine.settle("alice", "k", QUANTITY)
    assert [one.url.path for one in fake.asked].count("/accounts") == 2


@pytest.mark.parametrize(
    ("status", "taken"), [(200, True), (409, True), (400, False), (302, False)]
)
async def test_an_account_that_there_is_already_is_fine(status: int, taken: bool) -> None:
    engine = FakeEngine(lambda _: raw(status)).engine()
    if taken:
        await engine.add_account("alice")
    else:
        with pytest.raises(EngineError, match=f"HTTP {status} to a new account"):
            await engine.add_account("alice")


async def test_a_message_is_handed_over_and_its_answer_given_back() -> None:
    fake = FakeEngine(lambda _: raw(400, b"what?"))
    reply = await fake.engine(token=None).message("alice", b"\x00octets")
    assert (reply.status, reply.body, reply.ok) == (400, b"what?", False)
    (request,) = fake.asked
    assert (request.url.path, request.content) == ("/accounts/alice/messages", b"\x00octets")
    assert request.headers["content-type"] == "application/octet-stream"
    assert "authorization" not in request.headers


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (httpx.ConnectError("refused"), "ConnectError: refused"),
        (httpx.RemoteProtocolError(""), "RemoteProtocolError:"),
        (lambda _: raw(200, b"x" * (limits.PACKET_DATA_BYTES_MAX + 1)), "the answer is too long"),
        (lambda _: raw(200, gzip.compress(b" " * (1 << 20)), content_encoding="gzip"), "too long"),
        (lambda _: raw(200, b"x", content_encoding="gzip, gzip"), "content encoding"),
        (lambda _: raw(200, b"x", content_encoding="gzip"), "not the gzip"),
    ],
)
async def test_whatever_goes_wrong_is_an_engine_error_with_its_reason(
    answer: Any, said: str
) -> None:
    with pytest.raises(EngineError, match=said):
        await FakeEngine(answer).engine().message("alice", b"x")


async def test_an_engine_that_is_silent_is_left_at_the_deadline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bounds, "SETTLEMENT_ENGINE_SECONDS_MAX", 0.02)

    async def silent(_: httpx.Request) -> httpx.Response:
        await asyncio.Event().wait()
        raise AssertionError

    with pytest.raises(EngineError, match=r"^no answer within 0\.02 s$"):
        await FakeEngine(silent).engine().message("alice", b"x")


async def test_a_peer_that_is_gone_is_forgotten() -> None:
    await FakeEngine(lambda _: raw(404)).engine().remove_account("alice")
    with pytest.raises(EngineError, match="HTTP 500 to the end of an account"):
        await FakeEngine(lambda _: raw(500)).engine().remove_account("alice")


async def test_without_an_engine_an_operator_pays() -> None:
    manual = ManualEngine()
    assert await manual.settle("alice", "k", QUANTITY) is Answer.WAITING
    with pytest.raises(EngineError, match="by hand"):
        await manual.message("alice", b"x")
