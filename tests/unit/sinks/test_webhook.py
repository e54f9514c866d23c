"""Webhooks: signed, no redirects, and which refusals are for good."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from connector.sinks import bounds
from connector.sinks.port import Record, SinkError
from connector.sinks.webhook import WebhookSink, secret_octets
from tests.support.outside_http import FakeNetwork, raw

SECRET = "a-secret-of-this-test"
NOW_MS = 1_700_000_000_500
Answer = Callable[[list[int]], httpx.Response]


def record(seq: int) -> Record:
    return Record(seq, NOW_MS, "ALERT", json.dumps({"type": "ALERT", "seq": seq}))


class Receiver:
    """Answers with what `answer` says of the numbers in a delivery."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.requests: list[httpx.Request] = []
        self.got: list[int] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        seqs = [one["seq"] for one in json.loads(request.content)["events"]]
        response = self.answer(seqs)
        if response.is_success:
            self.got += seqs
        return response

    @property
    def deliveries(self) -> list[list[int]]:
        return [
            [one["seq"] for one in json.loads(request.content)["events"]]
            for request in self.requests
        ]


def sink(receiver: Callable[[httpx.Request], Any], url: str = "https://x.example/h") -> WebhookSink:
    return WebhookSink(
        url, secret=SECRET, node_id="me", now_ms=lambda: NOW_MS, transport=FakeNetwork(receiver)
    )


async def test_a_delivery_is_signed_as_standard_webhooks_are() -> None:
    receiver = Receiver(lambda _: httpx.Response(204))
    assert await sink(receiver).deliver([record(1), record(2)]) == ()
    (request,) = receiver.requests
    assert request.method == "POST"
    assert request.headers["content-type"] == "application/json"
    assert request.headers["webhook-id"] == "me-1-2"
    assert request.headers["webhook-timestamp"] == "1700000000"
    signed = b"me-1-2.1700000000." + request.content
    expected = base64.b64encode(hmac.new(SECRET.encode(), signed, hashlib.sha256).digest()).decode()
    assert request.headers["webhook-signature"] == f"v1,{expected}"
    assert receiver.got == [1, 2]


def test_a_secret_may_be_base64_or_text() -> None:
    assert secret_octets("whsec_" + base64.b64encode(b"\1\2").decode()) == b"\1\2"
    assert secret_octets("text") == b"text"
    with pytest.raises(ValueError):
        secret_octets("whsec_%%%")


async def test_refused_events_are_found_and_all_others_delivered() -> None:
    bad = {3, 4, 9}

    def answer(seqs: list[int]) -> httpx.Response:
        return httpx.Response(422 if bad & set(seqs) else 200)

    receiver = Receiver(answer)
    refused = await sink(receiver).deliver([record(seq) for seq in range(1, 12)])
    assert [(one.record.seq, one.reason) for one in refused] == [
        (3, "HTTP 422"),
        (4, "HTTP 422"),
        (9, "HTTP 422"),
    ]
    assert sorted(receiver.got) == sorted(set(range(1, 12)) - bad)
    assert len(receiver.requests) <= 2 * 11 + 1


@pytest.mark.parametrize("status", [400, 409, 413, 422])
async def test_a_server_that_refuses_everything_is_not_set_up_and_nothing_is_given_up(
    status: int,
) -> None:
    """A wrong secret, a wrong clock: each event would be refused, and all would be dead letters."""
    receiver = Receiver(lambda _: httpx.Response(status))
    with pytest.raises(SinkError, match=f"HTTP {status}, to an empty delivery HTTP {status}"):
        await sink(receiver).deliver([record(1), record(2)])
    assert receiver.deliveries == [[1, 2], []]


async def test_a_batch_of_nothing_but_refused_events_does_not_hold_up_the_rest() -> None:
    receiver = Receiver(lambda seqs: httpx.Response(400 if seqs else 200))
    refused = await sink(receiver).deliver([record(seq) for seq in range(5)])
    assert [one.record.seq for one in refused] == list(range(5))


@pytest.mark.parametrize("status", [301, 302, 307, 401, 403, 404, 408, 410, 429, 502, 503, 504])
async def test_other_answers_are_tried_again_and_redirects_are_not_followed(status: int) -> None:
    receiver = Receiver(
        lambda _: httpx.Response(status, headers={"location": "http://127.0.0.1:1/secret"})
    )
    with pytest.raises(SinkError, match=f"HTTP {status}") as caught:
        await sink(receiver).deliver([record(1)])
    assert len(receiver.requests) == 1
    assert ("not followed" in str(caught.value)) == (300 <= status < 400)


async def test_an_event_that_makes_the_server_fail_is_found_after_a_while() -> None:
    receiver = Receiver(lambda seqs: httpx.Response(500 if 2 in seqs else 200))
    webhook = sink(receiver)
    batch = [record(1), record(2), record(3)]
    for _ in range(bounds.WEBHOOK_ERRORS_MAX - 1):
        with pytest.raises(SinkError, match="HTTP 500"):
            await webhook.deliver(batch)
    refused = await webhook.deliver(batch)
    assert [one.record.seq for one in refused] == [2]
    assert sorted(receiver.got) == [1, 3]


async def test_a_server_that_fails_always_keeps_everything_waiting() -> None:
    webhook = sink(Receiver(lambda _: httpx.Response(500)))
    for _ in range(3 * bounds.WEBHOOK_ERRORS_MAX):
        with pytest.raises(SinkError, match="HTTP 500"):
            await webhook.deliver([record(1), record(2)])


@pytest.mark.parametrize(
    ("said", "wait_s"), [("7", 7), ("999999", 300), ("-1", 0), ("Fri, 31 Dec 1999", 0), ("", 0)]
)
async def test_it_waits_as_long_as_it_is_asked_within_bounds(said: str, wait_s: float) -> None:
    receiver = Receiver(lambda _: httpx.Response(429, headers={"retry-after": said}))
    with pytest.raises(SinkError) as caught:
        await sink(receiver).deliver([record(1)])
    assert caught.value.wait_s == wait_s


async def test_an_answer_without_end_is_no_success() -> None:
    def endless(_request: httpx.Request) -> httpx.Response:
        return raw(200, *[b"x" * 65_536] * 3)

    with pytest.raises(SinkError, match="too long"):
        await sink(endless).deliver([record(1)])


async def test_credentials_of_the_url_are_not_shown() -> None:
    def fails(_request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("cannot reach hunter2 at token=abc")

    webhook = sink(fails, "https://user:hunter2@x.example:8443/h/path?token=abc")
    assert webhook.place == "https://x.example:8443"
    with pytest.raises(SinkError) as caught:
        await webhook.deliver([record(1)])
    assert "hunter2" not in str(caught.value)
    assert "token=abc" not in str(caught.value)
