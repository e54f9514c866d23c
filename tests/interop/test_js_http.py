"""Unchanged ilp-plugin-http as a peer over HTTP, in both directions and on a way through BTP."""

from __future__ import annotations

import contextlib
import json
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.interop.harness import JsPeer, Node, install_node_modules, running
from tests.support.ports import free_ports

pytestmark = [pytest.mark.interop, pytest.mark.asyncio(loop_scope="module")]


@pytest.fixture(scope="module")
def modules(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    cache = getattr(request.config, "cache", None)  # `-p no:cacheprovider`: once a session then
    folder = cache.mkdir("interop") if cache is not None else tmp_path_factory.mktemp("interop")
    return install_node_modules(folder)


class Line:
    """alice (JS, HTTP) - alpha (ours) - beta (ours) - bob (JS, HTTP); HTTP on every link."""

    def __init__(self, folder: Path) -> None:
        ports = free_ports(8)
        self.alpha_http, self.beta_http, self.alice_port, self.bob_port = ports[4:]
        self.alpha = Node(
            "alpha", folder, ports[:2],
            ROUTES="g.alpha.alice=alice,g.beta=beta",
            ILP_HTTP_PORT=str(self.alpha_http),
            BTP_PEER_ALICE_SECRET="of-alice",
            BTP_PEER_ALICE_RECEIVE_ROUTES="false",
            BTP_PEER_ALICE_HTTP_URL=f"http://127.0.0.1:{self.alice_port}",
            BTP_PEER_ALICE_HTTP_TOKEN="for-alice",
            BTP_PEER_ALICE_HTTP_CONTENT_TYPE="application/ilp+octet-stream",
            BTP_PEER_BETA_SECRET="between",
            BTP_PEER_BETA_HTTP_URL=f"http://127.0.0.1:{self.beta_http}/accounts/alpha/ilp",
        )  # fmt: skip
        self.beta = Node(
            "beta", folder, ports[2:4],
            ROUTES="g.beta.bob=bob,g.alpha=alpha",
            ILP_HTTP_PORT=str(self.beta_http),
            BTP_PEER_BOB_SECRET="of-bob",
            BTP_PEER_BOB_RECEIVE_ROUTES="false",
            BTP_PEER_BOB_HTTP_URL=f"http://127.0.0.1:{self.bob_port}",
            BTP_PEER_ALPHA_SECRET="between",
            BTP_PEER_ALPHA_HTTP_URL=f"http://127.0.0.1:{self.alpha_http}/accounts/beta/ilp",
            BTP_PEER_ALPHA_HTTP_MODE="async",
        )  # fmt: skip
        self.alice: JsPeer
        self.bob: JsPeer

    async def balances(self) -> dict[str, int]:
        alpha, beta = await self.alpha.balances(), await self.beta.balances()
        return {
            "alice": alpha["alice"], "alpha to beta": -alpha["beta"],
            "beta of alpha": beta["alpha"], "bob": beta["bob"],
        }  # fmt: skip


@contextlib.asynccontextmanager
async def js_peer(
    modules: Path, port: int, token: str, url: str, shown: str, shown_as: str = "staticToken"
) -> AsyncIterator[JsPeer]:
    peer = JsPeer(modules)
    options: dict[str, Any] = {
        "plugin": "ilp-plugin-http",
        "incoming": {"port": port, "staticToken": token},
        "outgoing": {"url": url, shown_as: shown},
    }
    await peer.start("peer.js", json.dumps(options))
    try:
        await peer.connected()
        yield peer
    finally:
        await peer.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def line(tmp_path_factory: pytest.TempPathFactory, modules: Path) -> AsyncIterator[Line]:
    built = Line(tmp_path_factory.mktemp("line"))
    alpha = f"http://127.0.0.1:{built.alpha_http}/accounts/alice/ilp"
    beta = f"http://127.0.0.1:{built.beta_http}/ilp"
    async with (
        running(built.alpha, built.beta),
        js_peer(modules, built.alice_port, "for-alice", alpha, "of-alice") as built.alice,
        js_peer(modules, built.bob_port, "of-bob", beta, "of-bob") as built.bob,
    ):
        await built.alpha.connected("alice", "beta")
        await built.beta.connected("bob", "alpha")
        yield built


async def test_a_payment_passes_from_one_js_peer_to_the_other_and_back(line: Line) -> None:
    before = await line.balances()
    for sender, receiver, destination in (
        (line.alice, line.bob, "g.beta.bob.shop"),
        (line.bob, line.alice, "g.alpha.alice.shop"),
    ):
        await receiver.do("behave", how={"fulfill": "data"})
        preimage = secrets.token_bytes(32)
        answer = await sender.send(destination, 700, preimage=preimage, data=b"hello")
        assert answer["type"] == "fulfill", answer
        assert answer["fulfillment"] == preimage.hex()
        assert bytes.fromhex(answer["data"]) == b"hello"
        (prepare,) = (await receiver.do("seen"))["prepares"]
        assert (prepare["amount"], prepare["destination"]) == ("700", destination)
    assert await line.balances() == before
    await line.alice.send("g.beta.bob", 5, preimage=secrets.token_bytes(32))
    after = await line.balances()
    assert {name: after[name] - before[name] for name in after} == {
        "alice": 5, "alpha to beta": 5, "beta of alpha": 5, "bob": -5,
    }  # fmt: skip


async def test_a_reject_of_a_js_peer_comes_back_as_it_is(line: Line) -> None:
    before = await line.balances()
    reject = {"code": "F99", "triggeredBy": "g.beta.bob", "message": "sold out", "data": "0102"}
    await line.bob.do("behave", how={"reject": reject})
    answer = await line.alice.send("g.beta.bob", 5, preimage=secrets.token_bytes(32))
    assert {name: answer[name] for name in reject} == reject
    assert await line.balances() == before


async def test_our_rejects_reach_a_js_peer(line: Line) -> None:
    answer = await line.alice.send("g.nowhere", 5, preimage=secrets.token_bytes(32))
    assert (answer["code"], answer["triggeredBy"]) == ("F02", "g.alpha")


async def test_a_js_peer_that_fails_is_a_t00_and_costs_nothing(line: Line) -> None:
    """Its handler throws: the plugin answers HTTP 500."""
    before = await line.balances()
    await line.bob.do("behave", how={"fulfill": "x"})
    answer = await line.alice.send("g.beta.bob", 5, preimage=secrets.token_bytes(32))
    assert (answer["code"], answer["triggeredBy"]) == ("T00", "g.beta")
    assert await line.balances() == before


async def test_a_js_peer_with_a_wrong_token_gets_401(line: Line, modules: Path) -> None:
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{line.alpha_http}/accounts/alice/ilp"
    async with js_peer(modules, port, "any", url, "wrong") as mallory:
        answer = await mallory.send("g.beta.bob", 5, preimage=secrets.token_bytes(32))
        assert answer["error"] == "failed to fetch. code=401"


async def test_a_js_peer_may_show_its_token_without_the_word_bearer(
    line: Line, modules: Path
) -> None:
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{line.alpha_http}/ilp"
    async with js_peer(modules, port, "any", url, "of-alice", "secretToken") as alice:
        answer = await alice.send("g.nowhere", 5, preimage=secrets.token_bytes(32))
        assert (answer["code"], answer["triggeredBy"]) == ("F02", "g.alpha")
