"""The settlement API: answers to engines and operators, and who may call it."""

from __future__ import annotations

import base64
import itertools
import sqlite3
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import httpx
import pytest
from pydantic import ValidationError

from connector.base.clock import SystemClock
from connector.ilp import settle
from connector.ilp.packet import Code, Fulfill
from connector.web.engine_access import EngineAccess, account_of
from connector.web.guard import Guard
from connector.web.settlement import NewSettlement, engine_router, settlements_router
from tests.support.settlements import ALICE, BOB, DurableState, SettlementNode
from tests.unit.web.test_app import KEY, MadeUpNode, app_of, client_of

TOKEN = "shared-with-the-engine"
CREDIT = "/settlement/accounts/bob/settlements"
MESSAGE = "/settlement/accounts/bob/messages"
ADMIN = "/admin/accounts/bob/settlements"
BEARER = {"authorization": f"Bearer {KEY}"}


@pytest.fixture
async def node() -> AsyncIterator[SettlementNode]:
    async with SettlementNode(DurableState(), looks=False) as node:
        yield node


def app_with(
    node: SettlementNode, *, token: str | None = None, loopback: bool = True, key: str | None = KEY,
    own: dict[str, str] | None = None,
) -> Guard:  # fmt: skip
    """`own`: tokens of peers that have one of their own."""
    numbers = itertools.count()
    engines = EngineAccess(
        token_of=lambda peer_id: (own or {}).get(peer_id, token), required=not loopback,
        clock=SystemClock(), log=node.log,
    )  # fmt: skip
    return app_of(
        MadeUpNode(),
        key=key,
        required=not loopback,
        engines=engines,
        routers=[
            engine_router(node.settlements),
            settlements_router(
                node.settlements,
                lambda: f"made-{next(numbers)}",
                lambda *action: node.actions.append(action),
            ),
        ],
    )


@pytest.fixture
async def client(node: SettlementNode) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(app_with(node)) as client:
        yield client


async def credit(
    client: httpx.AsyncClient, key: str | None = "k", body: Any = None, **headers: str
) -> httpx.Response:
    return await client.post(
        CREDIT,
        json={"amount": "254", "scale": 9} if body is None else body,
        headers={**({} if key is None else {"idempotency-key": key}), **headers},
    )


# --- engines


async def test_a_payment_is_credited_once_and_answered_the_same(
    client: httpx.AsyncClient, node: SettlementNode
) -> None:
    first, again = await credit(client), await credit(client)
    assert (first.status_code, first.json()) == (201, {"amount": "254", "scale": 9})
    assert (again.status_code, again.content) == (201, first.content)
    assert node.settled() == (0, 254)


async def test_another_amount_with_the_same_key_is_a_conflict(
    client: httpx.AsyncClient, node: SettlementNode
) -> None:
    await credit(client)
    answer = await credit(client, body={"amount": "255", "scale": 9})
    assert answer.status_code == 409
    assert "was used for" in answer.json()["error"]
    assert node.settled() == (0, 254)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 422), ([], 422), ("x", 422), ({"amount": 254, "scale": 9}, 201),
        ({"amount": "254", "scale": 256}, 422), ({"amount": "254"}, 422),
        ({"amount": "-1", "scale": 9}, 422), ({"amount": "0", "scale": 9}, 422),
        ({"amount": -1, "scale": 9}, 422), ({"amount": 254.0, "scale": 9}, 422),
        ({"amount": "254.0", "scale": 9}, 422), ({"amount": True, "scale": 9}, 422),
        ({"amount": "+254", "scale": 9}, 422), ({"amount": "254", "scale": 9.0}, 422),
        ({"amount": "9" * 60, "scale": 9}, 400),
        ({"amount": "254", "scale": 9, "more": "is ignored"}, 201),
    ],
)  # fmt: skip
async def test_an_invalid_quantity_is_refused(
    client: httpx.AsyncClient, body: Any, status: int
) -> None:
    assert (await credit(client, body=body)).status_code == status


async def test_without_a_key_nothing_is_credited(
    client: httpx.AsyncClient, node: SettlementNode
) -> None:
    assert (await credit(client, key=None)).status_code == 400
    assert (await credit(client, key="")).status_code == 400
    assert (await credit(client, key="k" * 257)).status_code == 400
    assert node.settled() == (0, 0)


async def test_a_page_of_another_origin_cannot_report_a_payment(
    client: httpx.AsyncClient, node: SettlementNode
) -> None:
    """What a browser sends without asking first is not taken."""
    headers = {"idempotency-key": "k", "content-type": "text/plain"}
    answer = await client.post(CREDIT, content='{"amount":"1","scale":9}', headers=headers)
    assert answer.status_code == 415
    assert (await credit(client, origin="http://evil.example")).status_code == 403
    assert node.settled() == (0, 0)


async def test_a_payment_that_cannot_be_booked_now_is_answered_503(
    client: httpx.AsyncClient, node: SettlementNode
) -> None:
    node.durable.file.down = sqlite3.OperationalError("disk is full")
    answer = await credit(client)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    node.durable.file.down = None
    assert (await credit(client)).status_code == 201
    assert node.settled() == (0, 254)


async def test_an_unknown_account_is_answered_404(client: httpx.AsyncClient) -> None:
    headers = {"idempotency-key": "k"}
    path = CREDIT.replace("bob", "nobody")
    answer = await client.post(path, json={"amount": "1", "scale": 9}, headers=headers)
    assert (answer.status_code, answer.json()) == (404, {"error": "there is no peer nobody"})


async def test_a_message_is_relayed_to_the_peers_engine(
    client: httpx.AsyncClient, node: SettlementNode
) -> None:
    node.peer_answer = Fulfill(fulfillment=bytes(32), data=b"\x00theirs")
    headers = {"content-type": "application/octet-stream"}
    answer = await client.post(MESSAGE, content=b"\xffours", headers=headers)
    assert (answer.status_code, answer.content) == (201, b"\x00theirs")
    assert answer.headers["content-type"] == "application/octet-stream"
    assert [(peer, one.data) for peer, one in node.asked_peer] == [("bob", b"\xffours")]
    assert (await client.post(MESSAGE, json={})).status_code == 415
    too_long = await client.post(MESSAGE, content=bytes(32_768), headers=headers)
    assert too_long.status_code == 413


@pytest.mark.parametrize(
    ("code", "data", "status", "content"),
    [
        (Code.F00_BAD_REQUEST, b"no", 400, b"no"),
        (Code.T01_PEER_UNREACHABLE, b"", 502, b'{"error":"T01: away"}'),
    ],
)
async def test_a_refused_message_says_whether_to_try_again(
    client: httpx.AsyncClient,
    node: SettlementNode,
    code: Code,
    data: bytes,
    status: int,
    content: bytes,
) -> None:
    node.peer_answer = settle.refusal(code, "away", data)
    headers = {"content-type": "application/octet-stream"}
    answer = await client.post(MESSAGE, content=b"?", headers=headers)
    assert (answer.status_code, answer.content) == (status, content)


# --- who is let in


def basic(password: str) -> str:
    return "Basic " + base64.b64encode(f"connector:{password}".encode()).decode()


@pytest.mark.parametrize(
    ("authorization", "status"),
    [
        (f"Bearer {TOKEN}", 201), (basic(TOKEN), 201), ("", 401), (f"Bearer {KEY}", 401),
        (basic("wrong"), 401), ("Basic !", 401), (TOKEN, 401), ("Bearer ", 401),
    ],
)  # fmt: skip
@pytest.mark.parametrize("loopback", [True, False])
async def test_with_a_token_configured_requests_need_it(
    node: SettlementNode, authorization: str, status: int, loopback: bool
) -> None:
    async with client_of(app_with(node, token=TOKEN, loopback=loopback)) as client:
        answer = await credit(client, authorization=authorization)
        assert answer.status_code == status
        if status == 401:
            has_token = authorization in (f"Bearer {KEY}", basic("wrong"))
            assert ("wrong token" in answer.json()["error"]) is has_token


async def test_off_loopback_engines_need_a_token(node: SettlementNode) -> None:
    async with client_of(app_with(node, loopback=False)) as client:
        for authorization in ("", f"Bearer {KEY}"):
            assert (await credit(client, authorization=authorization)).status_code == 403


async def test_nobody_reports_payments_through_a_proxy_without_a_token(
    node: SettlementNode,
) -> None:
    """On loopback engines need none; but who comes through a proxy may be anybody."""
    through = {"x-forwarded-for": "203.0.113.9"}
    async with client_of(app_with(node)) as client:
        answer = await credit(client, **through)
        assert (answer.status_code, "TRUSTED_PROXIES" in answer.text) == (403, True)
        assert (await credit(client)).status_code == 201
    async with client_of(app_with(node, token=TOKEN)) as client:
        assert (await credit(client, "l", **through)).status_code == 401
        shown = {"authorization": f"Bearer {TOKEN}"}
        assert (await credit(client, "l", **through, **shown)).status_code == 201


async def test_the_token_gives_access_to_settlement_only(node: SettlementNode) -> None:
    async with client_of(app_with(node, token=TOKEN, loopback=False)) as client:
        headers = {"authorization": f"Bearer {TOKEN}"}
        for path in ("/api/status", "/admin/settlements", "/", "/settlement"):
            assert (await client.get(path, headers=headers)).status_code == 401


OWN = "shared-with-the-engine-of-bob"


@pytest.mark.long
@pytest.mark.parametrize("loopback", [True, False])
@pytest.mark.parametrize(
    ("peer_id", "token", "status"),
    [
        ("bob", OWN, 201), ("bob", TOKEN, 401), ("bob", "", 401), ("bob", "of-alice", 401),
        ("alice", "of-alice", 201), ("alice", OWN, 401),
        # One without its own.
        ("carol", TOKEN, 201), ("carol", OWN, 401), ("carol", "", 401),
        # An unknown one is told from others by nobody who has no token.
        ("nobody", TOKEN, 404), ("nobody", OWN, 401), ("nobody", "", 401), ("BOB", OWN, 401),
        ("bob%2Fx", OWN, 404), ("bob%0A", OWN, 401),
    ],
)  # fmt: skip
async def test_the_token_of_a_peers_engine_reports_this_peer_and_no_other(
    peer_id: str, token: str, status: int, loopback: bool
) -> None:
    carol = replace(ALICE, peer_id="carol")
    async with SettlementNode(DurableState(), (ALICE, BOB, carol)) as node:
        guard = app_with(
            node, token=TOKEN, loopback=loopback, own={"bob": OWN, "alice": "of-alice"}
        )
        async with client_of(guard) as client:
            headers = {"idempotency-key": "k", "authorization": f"Bearer {token}"}
            path = f"/settlement/accounts/{peer_id}/settlements"
            body = {"amount": "7", "scale": 9}
            answer = await client.post(path, json=body, headers=headers if token else {})
            assert answer.status_code == status
            message = f"/settlement/accounts/{peer_id}/messages"
            said = await client.post(message, content=b"?", headers=headers if token else {})
            assert (said.status_code == 401) is (status == 401)
            assert OWN not in answer.text + said.text
        credited = {name: books.settlement for name, books in node.accounts.peers.items()}
        assert sum(one.debits_posted for one in credited.values()) == (7 if status == 201 else 0)


async def test_a_peer_with_its_own_token_is_closed_without_one_on_loopback_too(
    node: SettlementNode,
) -> None:
    async with client_of(app_with(node, own={"alice": OWN})) as client:
        assert (await credit(client)).status_code == 201
        path = CREDIT.replace("bob", "alice")
        answer = await client.post(path, json={"amount": "1", "scale": 9})
        assert answer.status_code == 401


async def test_wrong_tokens_slow_an_address_and_not_the_right_token(node: SettlementNode) -> None:
    async with client_of(app_with(node, token=TOKEN, own={"bob": OWN})) as client:
        for _ in range(30):
            refused = await credit(client, authorization=f"Bearer {TOKEN}")
        assert (refused.status_code, "retry-after" in refused.headers) == (429, True)
        assert (await credit(client, authorization=f"Bearer {OWN}")).status_code == 201
    assert not any(OWN in str(line) or TOKEN in str(line) for line in node.log.events)


@pytest.mark.parametrize(
    ("path", "peer_id"),
    [
        ("/settlement/accounts/bob/settlements", "bob"), ("/settlement/accounts/b\nb/messages", "b\nb"),
        ("/settlement/accounts/bob", ""), ("/settlement/accounts//settlements", ""),
        ("/settlement/accounts/bob/x/settlements", "bob"), ("/settlement/", ""), ("/other", ""),
    ],
)  # fmt: skip
def test_the_peer_of_a_path_is_the_one_that_the_routes_find(path: str, peer_id: str) -> None:
    assert account_of(path) == peer_id


async def test_guessing_tokens_is_throttled(node: SettlementNode) -> None:
    async with client_of(app_with(node, token=TOKEN)) as client:
        statuses = {
            (await credit(client, authorization=f"Bearer {n}")).status_code for n in range(40)
        }
        assert statuses == {401, 429}


# --- operators


async def test_the_admin_key_is_needed_to_settle(
    client: httpx.AsyncClient, node: SettlementNode
) -> None:
    body = {"direction": "incoming", "amount": "5"}
    assert (await client.post(ADMIN, json=body)).status_code == 401
    assert (await client.get("/admin/settlements")).status_code == 401
    async with client_of(app_with(node, key=None)) as off:
        assert (await off.post(ADMIN, json=body, headers=BEARER)).status_code == 403
    assert node.settled() == (0, 0)


async def test_an_operator_records_a_payment_once_for_each_key(
    client: httpx.AsyncClient, node: SettlementNode
) -> None:
    headers = {**BEARER, "idempotency-key": "k"}
    body = {"direction": "incoming", "amount": "50"}
    first = await client.post(ADMIN, json=body, headers=headers)
    assert first.status_code == 201
    said = first.json()
    assert (said["amount"], said["direction"], said["phase"], said["peerId"]) == (
        "50", "incoming", "completed", "bob",
    )  # fmt: skip
    assert (await client.post(ADMIN, json=body, headers=headers)).json() == said
    other = await client.post(ADMIN, json={**body, "amount": "51"}, headers=headers)
    assert other.status_code == 409
    assert node.settled() == (0, 50)
    for _ in range(2):  # without a key each is one of its own
        assert (await client.post(ADMIN, json=body, headers=BEARER)).status_code == 201
    assert node.settled() == (0, 150)
    out = {"direction": "outgoing", "amount": 15, "scale": 8}
    assert (await client.post(ADMIN, json=out, headers=BEARER)).json()["amount"] == "150"
    assert node.net() == 0
    listed = (await client.get(ADMIN, headers=BEARER)).json()["items"]
    assert [one["amount"] for one in listed] == ["150", "50", "50", "50"]
    some = (await client.get("/admin/settlements?limit=2", headers=BEARER)).json()["items"]
    assert len(some) == 2


@pytest.mark.long
@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        (ADMIN, {"direction": "sideways", "amount": "5"}, 422),
        (ADMIN, {"direction": "incoming", "amount": "5", "more": 1}, 422),
        (ADMIN, {"direction": "incoming"}, 422),
        (ADMIN, {"direction": "incoming", "amount": "five"}, 422),
        (ADMIN, {"direction": "outgoing", "amount": str(10**10)}, 409),
        (ADMIN, {"direction": "outgoing", "execute": True}, 400),
        (ADMIN, {"direction": "incoming", "amount": "5", "execute": True}, 400),
        (ADMIN, {"direction": "outgoing", "amount": "5", "scale": 3, "execute": True}, 400),
        ("/admin/accounts/nobody/settlements", {"direction": "incoming", "amount": "5"}, 404),
        (f"{ADMIN}/abc/confirm", None, 404),
        (f"{ADMIN}/not-hex/cancel", {"force": True}, 404),
    ],
)
async def test_a_refused_request_says_why(
    client: httpx.AsyncClient, path: str, body: Any, status: int
) -> None:
    answer = await client.post(path, json=body, headers=BEARER)
    assert answer.status_code == status
    assert answer.json()["error"]


async def test_settlements_of_an_unknown_peer_are_answered_404(client: httpx.AsyncClient) -> None:
    answer = await client.get("/admin/accounts/nobody/settlements", headers=BEARER)
    assert answer.status_code == 404


async def test_an_operator_pays_confirms_and_cancels() -> None:
    async with (
        SettlementNode(DurableState(), by_hand=True) as node,
        client_of(app_with(node)) as client,
    ):
        await node.owe(70)
        key = {**BEARER, "idempotency-key": "k"}
        order = {"direction": "outgoing", "execute": True}
        said = (await client.post(ADMIN, json=order, headers=key)).json()
        assert (said["amount"], said["payer"]) == ("70", "operator")
        await node.until(lambda: node.settlements.state("bob").value == "IN_PROGRESS")
        path = f"{ADMIN}/{said['settlementId']}"
        done = await client.post(f"{path}/confirm", headers=BEARER)
        assert (done.status_code, done.json()["phase"]) == (200, "completed")
        late = await client.post(f"{path}/cancel", headers=BEARER)
        assert late.status_code == 409
        assert node.net() == 0


@pytest.mark.parametrize("decision", ["accept", "decline"])
async def test_an_operator_decides_on_a_payment_that_waits(decision: str) -> None:
    terms = (ALICE, replace(BOB, max_prepaid=100, settle_threshold=None))
    async with SettlementNode(DurableState(), terms) as node, client_of(app_with(node)) as client:
        first, again = await credit(client), await credit(client)
        assert (first.status_code, first.json()) == (202, {"amount": "254", "scale": 9})
        assert (again.status_code, node.settled()) == (202, (0, 0))
        assert (
            await credit(client, key="small", body={"amount": "1", "scale": 9})
        ).status_code == 201
        (waits,) = (await client.get(f"{ADMIN}?phase=waiting", headers=BEARER)).json()["items"]
        assert (waits["phase"], waits["amount"], waits["origin"]) == ("waiting", "254", "engine")
        assert (await client.get(f"{ADMIN}?phase=sideways", headers=BEARER)).status_code == 422
        path = f"{ADMIN}/{waits['settlementId']}/{decision}"
        assert (await client.post(path)).status_code == 401
        for _ in range(2):
            done = await client.post(path, headers=BEARER)
            assert (done.status_code, done.json()["phase"]) == (
                (200, "completed") if decision == "accept" else (200, "declined")
            )
        assert (await credit(client)).status_code == (201 if decision == "accept" else 409)
        assert node.settled() == (0, 255 if decision == "accept" else 1)


@pytest.mark.parametrize("amount", ["12345678901234567.0", "1.2345678901234567e16", "true", "[1]"])
def test_an_amount_that_is_neither_a_text_nor_a_whole_number_is_refused(amount: str) -> None:
    with pytest.raises(ValidationError):
        NewSettlement.model_validate_json(f'{{"direction": "incoming", "amount": {amount}}}')


def test_large_amounts_keep_every_unit() -> None:
    for amount in ("12345678901234567", '"12345678901234567"'):
        found = NewSettlement.model_validate_json(
            f'{{"direction": "incoming", "amount": {amount}}}'
        )
        assert str(found.amount) == "12345678901234567"
