"""`connector.client` against the OpenAPI document of a running node, and against the node itself."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

from connector.base.errors import (
    EnvironmentFault,
    KeyRefusedError,
    OperatorError,
    UnknownNameError,
)
from connector.client import OPERATIONS, Client
from tests.support.admin import KEY, Operator
from tests.support.daemons import RunningNodes, secret_of

T = TypeVar("T")


@pytest.fixture
async def network(tmp_path: Path) -> AsyncIterator[RunningNodes]:
    async with RunningNodes(tmp_path) as network:
        yield network


async def made(network: RunningNodes) -> tuple[Client, Operator]:
    a, _ = await network.chain("a", "b", node={"a": {"admin_api_key": KEY}})
    return Client(f"http://127.0.0.1:{a.connector.http_port}", KEY), Operator(a)


async def call(work: Callable[[], T]) -> T:
    return await asyncio.to_thread(work)


def models_of(answer: Any) -> set[str]:
    """The names of the models of an answer, of which there may be several."""
    schema = answer.get("content", {}).get("application/json", {}).get("schema", {})
    return {
        one["$ref"].rsplit("/", 1)[1] for one in (schema, *schema.get("anyOf", ())) if "$ref" in one
    }


async def test_every_call_is_one_of_the_document(network: RunningNodes) -> None:
    document = await Operator(await network.add("a", [])).get("/api/openapi.json")
    for name, one in OPERATIONS.items():
        operation = document["paths"][one.path][one.method.lower()]
        declared = {
            each["name"] for each in operation.get("parameters", ()) if each["in"] == "query"
        }
        assert set(one.query) <= declared, name
        answers = [each for status, each in operation["responses"].items() if status[0] == "2"]
        if one.answer is None:
            assert "204" in operation["responses"], name
        else:
            assert one.answer.__name__ in set().union(*map(models_of, answers)), name
        has_body = "requestBody" in operation
        assert has_body == (
            name in ("add_peer", "edit_peer", "set_limits", "rotate_secret", "add_route")
        ), name


def test_every_operation_is_called_by_a_method() -> None:
    source = inspect.getsource(Client)
    assert all(f'"{name}"' in source for name in OPERATIONS)


async def test_what_a_node_shows(network: RunningNodes) -> None:
    client, a = await made(network)
    status = await call(client.status)
    assert (status.node_id, status.peers_connected, status.secret_rotations) == ("a", 1, [])
    (peer,) = await call(client.peers)
    assert (peer.peer_id, peer.connected, peer.secret_former_until) == ("b", True, None)
    routes = await call(lambda: list(client.routes()))
    assert {(one.prefix, one.source) for one in routes} >= {("g.b", "config"), ("g.a", "local")}
    (account,) = await call(client.accounts)
    assert (account.peer_id, account.net_balance) == ("b", "0")
    assert (await call(client.keys)).items[0].peer_id == "b"
    for number in range(3):
        await call(lambda number=number: client.set_limits("b", creditLimit=str(5000 + number)))  # type: ignore[misc]
    page = await call(lambda: client.log(types=["operator"], limit=2))
    assert [one.type for one in page.items] == ["ADMIN_ACTION"] * 2
    assert page.next is not None
    assert len(await call(lambda: list(client.log_events(types=["operator"], peer="b")))) == 3
    assert await call(lambda: list(client.log_events(text="no such text"))) == []
    later = await call(lambda: client.log(after=page.last_seq))
    assert later.items == []
    assert a.daemon.log.count("http_failed") == 0


async def test_what_an_operator_does(network: RunningNodes) -> None:
    client, _ = await made(network)
    assert (await call(client.audit)).ok
    added = await call(
        lambda: client.add_peer("carol", "secret-of-carol-and-a", routes=["g.carol"])
    )
    assert (added.id, added.source) == ("carol", "admin")
    assert not (await call(lambda: client.edit_peer("carol", enabled=False))).enabled
    rotated = await call(lambda: client.rotate_secret("b", "another-of-both", grace_s=60))
    assert rotated.secret_former_until is not None
    assert (await call(client.status)).secret_rotations[0].uses_former
    route = await call(lambda: client.add_route("", "b"))
    assert (route.prefix, route.next_hop) == ("", "b")
    await call(lambda: client.remove_route("", "b"))
    await call(lambda: client.reconnect("b"))
    assert await call(lambda: client.remove_peer("carol")) is None
    with pytest.raises(UnknownNameError):
        await call(lambda: client.peer("nobody"))
    assert (await call(lambda: client.peer("b"))).secret_former_until is not None


async def test_what_goes_wrong_is_told_by_kind(network: RunningNodes) -> None:
    client, a = await made(network)
    url = f"http://127.0.0.1:{a.daemon.connector.http_port}"
    with pytest.raises(KeyRefusedError):
        await call(lambda: Client(url, "wrong").peer("b"))
    with pytest.raises(OperatorError, match="creditLimit"):
        await call(lambda: client.set_limits("b", creditLimit="much"))
    with pytest.raises(OperatorError, match="type is one of"):
        await call(lambda: client.log(types=["nonsense"]))
    with pytest.raises(EnvironmentFault, match="not done yet"):
        await call(lambda: client.audit(wait_s=0))
    with pytest.raises(EnvironmentFault, match="does not answer"):
        await call(Client("http://127.0.0.1:9").status)
    with pytest.raises(OperatorError):
        Client("nonsense")
    with pytest.raises(OperatorError) as caught:
        await call(lambda: client.add_peer("carol", secret_of("a", "b")))
    assert secret_of("a", "b") not in str(caught.value)
