"""Querying other nodes for the network view, over a network that the test makes."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from connector.web import bounds as web_bounds
from connector.web.models import NetworkLink, NetworkShown
from connector.web.network import Neighbourhood, network_router
from tests.support.ledgers import ManualClock
from tests.support.outside_http import FakeNetwork, raw

ACCOUNT: dict[str, Any] = {
    "peerId": "b", "assetCode": "USD", "assetScale": 9, "debitBalance": "0", "creditBalance": "5",
    "netBalance": "-5", "pendingDebits": "0", "pendingCredits": "0", "creditLimit": "10",
    "availableCredit": "10", "settlementThreshold": None, "settlementState": "IDLE",
}  # fmt: skip


LINK: dict[str, Any] = {
    "connected": True, "enabled": True, "offlineExpected": False, "packetsIn": 3, "packetsOut": 4,
}  # fmt: skip
WAITING: dict[str, Any] = {"settlementsWaiting": 0, "settlementsWaitingAmount": "0"}


class Own:
    """This node."""

    def status(self) -> dict[str, Any]:
        return {
            "nodeId": "a", "ilpAddress": "g.a", "status": "healthy",
            "accounting": {"state": "available"}, "btpServerPort": 1,
        }  # fmt: skip

    def accounts_view(self) -> list[dict[str, Any]]:
        return [ACCOUNT]

    def peers_view(self) -> list[dict[str, Any]]:
        return [{"peerId": "b", "relation": "peer", **LINK}]


def answers(request: httpx.Request) -> httpx.Response:
    """What node b says."""
    if request.url.path == "/api/status":
        return httpx.Response(200, json={**Own().status(), "nodeId": "b", "ilpAddress": "g.b"})
    if request.url.path == "/api/peers":
        return httpx.Response(200, json={"items": [{"peerId": "a", "connected": False}]})
    return httpx.Response(200, json={"items": [{**ACCOUNT, "peerId": "a", "extra": 1}]})


def neighbourhood(
    handler: Callable[[httpx.Request], Any],
    *urls: str,
    key: str | None = None,
    keys: dict[str, str] | None = None,
    clock: ManualClock | None = None,
    urls_: tuple[str, ...] = ("http://b/",),
) -> Neighbourhood:
    return Neighbourhood(
        own=Own(),
        urls=urls or urls_,
        key=key,
        keys=keys,
        clock=clock or ManualClock(),
        transport=FakeNetwork(handler),
    )


async def test_this_node_comes_first_and_the_others_say_what_they_book() -> None:
    own, other = await neighbourhood(answers).nodes()
    assert (own["nodeId"], own["url"]) == ("a", "")
    assert own["accounts"] == [{**ACCOUNT, **WAITING, **LINK}]
    assert (other["nodeId"], other["url"], other["error"]) == ("b", "http://b", "")
    unknown = dict.fromkeys(LINK)
    assert other["accounts"] == [
        {**ACCOUNT, **WAITING, "peerId": "a", **unknown, "connected": False}
    ]


async def test_of_a_node_that_falls_silent_its_last_values_are_shown_with_their_time() -> None:
    silent = False

    def handler(request: httpx.Request) -> httpx.Response:
        if silent:
            raise httpx.ConnectError("refused")
        return answers(request)

    clock = ManualClock()
    network = neighbourhood(handler, clock=clock)
    _, before = await network.nodes()
    silent = True
    clock.advance(60)
    own, after = await network.nodes()
    assert after["error"] == "cannot be reached: refused"
    assert (after["status"], after["accountingState"]) == (None, None)
    for field in ("at", "nodeId", "ilpAddress", "accounts"):
        assert after[field] == before[field]
    assert own["at"] > after["at"]
    silent = False
    clock.advance(60)
    _, again = await network.nodes()
    assert (again["error"], again["status"]) == ("", "healthy")
    assert again["at"] > own["at"]


async def test_the_answer_is_what_the_document_says() -> None:
    nodes = await neighbourhood(answers).nodes()
    shown = NetworkShown.model_validate({"configured": True, "nodes": nodes}, strict=True)
    assert set(nodes[0]["accounts"][0]) == {
        field.alias for field in NetworkLink.model_fields.values()
    }
    assert shown.nodes[1].accounts[0].connected is False


async def test_a_node_without_others_shows_itself_and_its_links() -> None:
    app = FastAPI()
    app.include_router(network_router(neighbourhood(answers, urls_=())))
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://node"
    ) as viewer:
        answer = (await viewer.get("/api/network")).json()
    assert answer["configured"] is False
    assert [one["nodeId"] for one in answer["nodes"]] == ["a"]


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


@pytest.mark.parametrize("default", [None, "of-all-others"])
async def test_a_node_is_shown_its_own_key_and_no_other(default: str | None) -> None:
    seen: dict[str, set[str | None]] = {}

    def noting(request: httpx.Request) -> httpx.Response:
        shown = request.headers.get("authorization")
        seen.setdefault(request.url.host, set()).add(shown)
        return answers(request)

    keys = {"http://b": "of-b", "https://c:8080/x": "of-c"}
    urls = ("http://b/", "https://c:8080/x", "http://d")
    await neighbourhood(noting, *urls, key=default, keys=keys).nodes()
    others = None if default is None else f"Bearer {default}"
    assert seen == {"b": {"Bearer of-b"}, "c": {"Bearer of-c"}, "d": {others}}


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (httpx.Response(401), "EXPLORER_NODE_KEYS, or EXPLORER_NODES_KEY, is missing or wrong"),
        (httpx.Response(403), "EXPLORER_NODE_KEYS, or EXPLORER_NODES_KEY, is missing or wrong"),
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
        (
            raw(200, gzip.compress(b" " * (64 << 20)), content_encoding="gzip"),
            "not that of a connector",
        ),
        (
            raw(200, gzip.compress(gzip.compress(b"{}")), content_encoding="gzip, gzip"),
            "not that of a connector",
        ),
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


def odd(account: str, status: str = '{"nodeId": "b"}') -> Callable[[httpx.Request], Any]:
    """A node that says this of its one account, in place of the net balance."""

    def handler(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/api/status":
            return raw(200, status.encode())
        text = json.dumps({"items": [{**ACCOUNT, "netBalance": "@"}]}).replace('"@"', account)
        return raw(200, text.encode())

    return handler


@pytest.mark.parametrize(
    "handler",
    [
        odd("NaN"), odd("Infinity"), odd("1e999"), odd("null"), odd("5"), odd('"five"'), odd('""'),
        odd("1" * 4000), odd("[" * 900 + "]" * 900), odd('{"a":' * 480 + "1" + "}" * 480),
        odd("[" * 100_000 + "]" * 100_000), odd('"\\ud800"'), odd('"' + "9" * 100 + '"'),
        odd('"0"', '{"nodeId": "evil\\ud800"}'), odd('"0"', "[1]"), odd('"0"', "nonsense"),
        odd('"0"', '{"nodeId": "b", "accounting": "x"}'), odd('"0"', '{"nodeId": NaN}'),
        odd('"0"', '{"nodeId": "b", "status": {}}'), odd('"0"', json.dumps({"nodeId": "b" * 101})),
        odd('"0"', '{"nodeId": "b", "x": [' + "[]," * 2_700_000 + "1]}"),
        odd('"0"', '{"nodeId": "b", "x": [' + "{}," * 1_000_000 + "1]}"),
    ],
)  # fmt: skip
async def test_odd_json_is_that_nodes_fault_and_the_page_is_answered(
    handler: Callable[[httpx.Request], Any],
) -> None:
    app = FastAPI()
    app.include_router(network_router(neighbourhood(handler)))
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://node"
    ) as viewer:
        answer = await viewer.get("/api/network")
    assert answer.status_code == 200
    own, other = answer.json()["nodes"]
    assert (own["nodeId"], own["error"]) == ("a", "")
    assert other["error"] == "its answer is not that of a connector"
    assert other["accounts"] == []


async def test_an_account_that_is_as_it_should_be_is_shown() -> None:
    _, other = await neighbourhood(odd('"-7"')).nodes()
    assert (other["error"], other["accounts"][0]["netBalance"]) == ("", "-7")


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
    assert len(asked) == 3
    clock.advance(web_bounds.NETWORK_ANSWER_SECONDS)
    await network.nodes()
    assert len(asked) == 6
