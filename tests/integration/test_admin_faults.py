"""What the admin API says of a request that is not valid: each fault, where, and in plain words."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from connector.settings.model import PeerSettings
from tests.support.admin import KEY, Operator
from tests.support.daemons import RunningNodes

PEER = {"id": "b", "secret": "of-a-and-b"}
MONEY = (
    "creditLimit", "maxPayable", "maxInFlightValue", "maxPacketAmount", "throughputIn", "throughputOut",
    "settleThreshold", "settleTo", "maxPrepaid",
)  # fmt: skip
NO_AMOUNTS = ("1.5", "1.0", "1e3", '"1.5"', '"1_000"', '"+5"', '" 5 "', '"-1"', "-1", "true", '""', '"x"',
              "[]", "{}", '"\\u0663"', str(2**64), '"0x10"')  # fmt: skip
"""As JSON, since Python's would write some of them otherwise."""
LIBRARY = (
    "Input should",
    "valid integer",
    "Field required",
    "should match",
    "should have",
    "Extra inputs",
)
"""How pydantic says it."""


@pytest.fixture
async def operator(tmp_path: Path) -> AsyncIterator[Operator]:
    """Of a node with a peer `c`."""
    async with RunningNodes(tmp_path) as network:
        peer = PeerSettings(id="c", secret="of-a-and-c")
        yield Operator(await network.add("a", [peer], admin_api_key=KEY))


async def refused(operator: Operator, method: str, path: str, body: str | None = None) -> str:
    """What is wrong with a request whose body is this text."""
    async with operator.client() as client:
        answer = await client.request(
            method, path, content=body, headers={"content-type": "application/json"}
        )
    said = str(answer.json()["error"])
    assert answer.status_code == 422, (path, body, answer.status_code, said)
    assert said.startswith("not valid: "), said
    assert not any(words in said for words in LIBRARY), said
    return said


@pytest.mark.parametrize("amount", NO_AMOUNTS)
async def test_money_is_a_whole_number_or_its_digits_at_every_endpoint(
    operator: Operator, amount: str
) -> None:
    places: list[tuple[str, str, dict[str, Any], str]] = [
        ("POST", "/admin/packets", {"destination": "g.a"}, "amount"),
        ("POST", "/admin/payments", {"target": "http://127.0.0.1:1/pay/x"}, "amount"),
        *(("POST", "/admin/peers", PEER, name) for name in MONEY),
        *(("PUT", "/admin/peers/c", {}, name) for name in MONEY),
        *(("PUT", "/admin/peers/c/limits", {}, name) for name in MONEY),
    ]
    if amount != str(2**64):  # a settlement may have a scale that is as much larger
        places += [
            ("POST", "/admin/accounts/c/settlements", {"direction": "incoming"}, "amount"),
            ("POST", "/admin/accounts/c/settlements", {"direction": "outgoing", "execute": True},
             "amount"),
        ]  # fmt: skip
    for method, path, rest, field in places:
        text = json.dumps({**rest, field: 0}).replace(f'"{field}": 0', f'"{field}": {amount}')
        said = await refused(operator, method, path, text)
        assert f"body.{field}: must be" in said, said


async def test_money_as_a_number_is_as_good_as_its_digits(operator: Operator) -> None:
    most = 2**64 - 1  # a float would be another number
    for given in (str(most), most):
        answer = await operator.ask("PUT", "/admin/peers/c/limits", {"maxPayable": given})
        assert (answer.status_code, answer.json()["maxPayable"]) == (200, str(most))
    for given in ("7", 7):
        answer = await operator.ask(
            "POST", "/admin/accounts/c/settlements", {"direction": "incoming", "amount": given}
        )
        assert (answer.status_code, answer.json()["amount"]) == (201, "7")


@pytest.mark.parametrize(
    ("method", "path", "body", "said"),
    [
        ("POST", "/admin/peers", {**PEER, "creditLimt": 1},
         "body.creditLimt: an unknown field; did you mean creditLimit?"),
        ("PUT", "/admin/peers/c/limits", {"credit_limits": 1, "foo": 1}, "body.foo: an unknown field"),
        ("PUT", "/admin/peers/c/limits", {"x9-k3": 1},
         "body: an unknown field, with a name that is not shown here"),
        ("POST", "/admin/routes", {"prefix": "g.x", "nexthop": "c"},
         "body.nextHop: is required; body.nexthop: an unknown field; did you mean nextHop?"),
        ("POST", "/admin/routes", {"prefix": "g.x", "nextHop": 5},
         "body.nextHop: must be text: put it in quotes"),
        ("DELETE", "/admin/routes?prefix=g..x", None,
         "query.prefix: is not an ILP address prefix; query.nextHop: is required"),
        ("DELETE", "/admin/routes?prefix=g.x&nextHop=c&forced=1", None,
         "query.forced: an unknown parameter"),
        ("DELETE", "/admin/peers/c?forced=true", None,
         "query.forced: an unknown parameter; did you mean force?"),
        ("DELETE", "/admin/peers/c?force=maybe", None, "query.force: must be true or false"),
        ("PUT", "/admin/peers/C", {}, "path.peer_id: must be 1 to 63 lower-case letters"),
        ("POST", "/admin/peers", {**PEER, "rateLimit": True, "assetScale": 999},
         "body.assetScale: must be 255 or less; body.rateLimit: must be a whole number"),
        ("POST", "/admin/peers", {**PEER, "relation": "x", "httpMode": "x"},
         "body.httpMode: must be 'sync' or 'async'; body.relation: must be 'peer', 'parent' or 'child'"),
        ("POST", "/admin/packets", {"destination": "g.a", "condition": "aa", "expirySeconds": 0},
         "body.condition: must be 64 hex digits, for 32 octets; body.expirySeconds: must be more than 0"),
        ("POST", "/admin/payments", {"target": "", "amount": 1, "maxSlippage": "2"},
         "body.target: must have 1 characters or more; body.maxSlippage: must be a text with a number from 0 to 1"),
        ("GET", "/admin/settlements?limit=x&phase=x", None,
         "query.limit: must be a whole number, in digits only; query.phase: must be 'pending'"),
        ("POST", "/admin/accounts/c/settlements", {"direction": "in", "amount": "1", "scale": True},
         "body.direction: must be 'outgoing' or 'incoming'; body.scale: must be a whole number"),
        ("POST", "/admin/accounts/c/settlements", {"direction": "incoming"}, "amount: must be"),
        ("POST", "/admin/accounts/c/settlements", {"direction": "incoming", "amount": 0},
         "amount: must be above zero"),
        ("GET", "/api/explain?destination=g.a&amount=1_0", None, "query.amount: must be a whole number"),
        ("POST", "/admin/peers", [], "body: not a JSON object"),
    ],
)  # fmt: skip
async def test_each_fault_is_named_in_plain_words(
    operator: Operator, method: str, path: str, body: Any, said: str
) -> None:
    assert said in await refused(operator, method, path, None if body is None else json.dumps(body))


async def test_what_is_not_there_is_said_with_what_is(operator: Operator) -> None:
    for method, path, status, said in (
        ("GET", "/api/nothing", 404, "there is nothing at this path"),
        ("POST", "/api/status", 405, "POST does nothing here; GET does"),
        ("GET", "/api/explain?destination=g.a&from=nobody", 404, "no such peer"),
    ):
        answer = await operator.ask(method, path)
        assert (answer.status_code, said in answer.json()["error"]) == (status, True), answer.text
