"""Asking other nodes for the picture of the network: over a made-up network."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from connector.web import bounds as web_bounds
from connector.web.network import Neighbourhood
from tests.support.ledgers import ManualClock

ACCOUNT: dict[str, Any] = {
    "peerId": "b", "assetCode": "USD", "assetScale": 9, "debitBalance": "0", "creditBalance": "5",
    "netBalance": "-5", "pendingDebits": "0", "pendingCredits": "0", "creditLimit": "10",
    "availableCredit": "10", "settlementThreshold": None, "settlementState": "IDLE",
}  # fmt: skip


class Own:
    """This node."""

    def status(self) -> dict[str, Any]:
        return {
            "nodeId": "a", "ilpAddress": "g.a", "status": "healthy",
            "accounting": {"state": "available"}, "btpServerPort": 1,
        }  # fmt: skip

    def accounts_view(self) -> list[dict[str, Any]]:
        return [ACCOUNT]


def answers(request: httpx.Request) -> httpx.Response:
    """What node b says."""
    if request.url.path == "/api/status":
        return httpx.Response(200, json={**Own().status(), "nodeId": "b", "ilpAddress": "g.b"})
    return httpx.Response(200, json={"items": [{**ACCOUNT, "peerId": "a", "extra": 1}]})


def neighbourhood(
    handler: Callable[[httpx.Request], Any],
    *urls: str,
    key: str | None = None,
    clock: ManualClock | None = None,
) -> Neighbourhood:
    return Neighbourhood(
        own=Own(),
        urls=urls or ["http://b/"],
        key=key,
        clock=clock or ManualClock(),
        transport=httpx.MockTransport(handler),
    )


async def test_this_node_comes_first_and_the_others_say_what_they_book() -> None:
    own, other = await neighbourhood(answers).nodes()
    assert (own["nodeId"], own["url"], own["accounts"]) == ("a", "", [ACCOUNT])
    assert (other["nodeId"], other["url"], other["error"]) == ("b", "http://b", "")
    assert other["accounts"] == [{**ACCOUNT, "peerId": "a"}]


async def test_this_node_may_be_among_those_that_are_named() -> None:
    def a_and_b(request: httpx.Request) -> httpx.Response:
        if request.url.host == "b":
            return answers(request)
        if request.url.path == "/api/status":
            return httpx.Response(200, json=Own().status())
        return httpx.Response(200, json={"items": [ACCOUNT]})

    nodes = await neighbourhood(a_and_b, "http://a", "http://b").nodes()
    assert [one["nodeId"] for one in nodes] == ["a", "b"]


async def test_the_key_goes_to_the_named_nodes_and_nowhere_else() -> None:
    seen: list[tuple[str, str | None]] = []

    def moved(request: httpx.Request) -> httpx.Response:
        seen.append((request.url.host, request.headers.get("authorization")))
        return httpx.Response(302, headers={"location": "http://elsewhere/api/status"})

    _, other = await neighbourhood(moved, key="secret-key").nodes()
    assert seen == [("b", "Bearer secret-key")]
    assert other["error"] == "it answered 302"
    assert "secret-key" not in str(other)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (httpx.Response(401), "EXPLORER_NODES_KEY"),
        (httpx.Response(200, text="<html>"), "not that of a connector"),
        (httpx.Response(200, json=[1]), "not that of a connector"),
        (httpx.Response(200, json={"nodeId": 7}), "not that of a connector"),
        (httpx.Response(200, json={"nodeId": "b", "items": [{}]}), "not that of a connector"),
        (
            httpx.Response(200, content=b" " * (web_bounds.NETWORK_ANSWER_BYTES_MAX + 1)),
            "not that of a connector",
        ),
        (httpx.ConnectError("refused"), "cannot be reached: refused"),
        (httpx.ReadTimeout(""), "cannot be reached: ReadTimeout"),
    ],
)
async def test_a_node_that_does_not_answer_well_is_named_with_the_reason(
    answer: httpx.Response | Exception, says: str
) -> None:
    def handler(_request: httpx.Request) -> httpx.Response:
        if isinstance(answer, Exception):
            raise answer
        return answer

    own, other = await neighbourhood(handler).nodes()
    assert own["error"] == ""
    assert says in other["error"]
    assert other["nodeId"] is None
    assert other["accounts"] == []


async def test_however_many_look_on_the_others_are_asked_once_a_second() -> None:
    asked: list[str] = []

    def counting(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        return answers(request)

    clock = ManualClock()
    network = neighbourhood(counting, clock=clock)
    async with asyncio.TaskGroup() as group:
        for _ in range(5):
            group.create_task(network.nodes())
    assert len(asked) == 2
    clock.advance(web_bounds.NETWORK_ANSWER_SECONDS)
    await network.nodes()
    assert len(asked) == 4
