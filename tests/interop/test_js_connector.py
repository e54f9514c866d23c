"""The JS connector (ilp-connector 23.0.2, unchanged) as parent, child and peer of ours: ILDCP, CCP, packets.

    alice (ilp-plugin-btp) - ours - JS connector - wallet (ilp-plugin-btp)

Neither connector has a static route to the other: addresses and routes come from each other.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.interop.harness import HERE, JsPeer, Node, install_node_modules, running
from tests.support.patience import PATIENCE_SECONDS
from tests.support.ports import free_ports

pytestmark = [pytest.mark.interop, pytest.mark.asyncio]

INTERVAL_MS = 1000
HOLD_DOWN_MS = 4000
BALANCE = {"maximum": "1000000000"}


class Modules:
    """Where the packages are."""

    def __init__(self, peer: Path, connector: Path) -> None:
        self.peer = peer
        self.connector = connector


@pytest.fixture(scope="module")
def modules(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Modules:
    cache = getattr(request.config, "cache", None)
    folder = cache.mkdir("interop") if cache is not None else tmp_path_factory.mktemp("interop")
    return Modules(install_node_modules(folder), install_node_modules(folder, HERE / "connector"))


class JsConnector:
    """A process of ilp-connector, with its admin API."""

    def __init__(
        self, modules: Path, folder: Path, admin_port: int, accounts: dict[str, Any], **more: str
    ) -> None:
        self._folder = folder
        self._script = modules / "ilp-connector" / "dist" / "index.js"
        self._url = f"http://127.0.0.1:{admin_port}"
        self._environment = {
            **{name: value for name, value in os.environ.items() if "CONNECTOR_" not in name},
            "NODE_PATH": str(modules),
            "DEBUG": "",
            "CONNECTOR_ENV": "test",
            "CONNECTOR_SPREAD": "0",
            "CONNECTOR_BACKEND": "one-to-one",
            "CONNECTOR_STORE": "ilp-store-memory",
            "CONNECTOR_ADMIN_API": "true",
            "CONNECTOR_ADMIN_API_PORT": str(admin_port),
            "CONNECTOR_ROUTE_BROADCAST_INTERVAL": str(INTERVAL_MS),
            "CONNECTOR_ROUTE_EXPIRY": str(HOLD_DOWN_MS),
            "CONNECTOR_LOG_LEVEL": "debug",
            "CONNECTOR_ACCOUNTS": json.dumps(accounts),
            **more,
        }
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        with (self._folder / "js.log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                "node", str(self._script), cwd=self._folder, env=self._environment,
                stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip

    def log(self) -> str:
        return (self._folder / "js.log").read_text()[-3000:]

    async def until(self, check: Callable[[dict[str, Any]], bool]) -> None:
        """Wait until it is so of its routes in use, by prefix."""
        routes: Any = None
        try:
            async with (
                asyncio.timeout(PATIENCE_SECONDS),
                httpx.AsyncClient(trust_env=False, verify=False) as client,
            ):
                while True:
                    with contextlib.suppress(httpx.HTTPError):
                        body = (await client.get(f"{self._url}/routing")).json()
                        routes = body["localRoutingTable"]
                        if check(routes):
                            return
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise AssertionError(f"{routes}\n{self.log()}") from None

    async def stop(self, number: int = signal.SIGTERM) -> None:
        assert self._process is not None
        if self._process.returncode is None:
            self._process.send_signal(number)
        async with asyncio.timeout(PATIENCE_SECONDS):
            await self._process.wait()


def account(relation: str, **fields: Any) -> dict[str, Any]:
    return {
        "relation": relation, "plugin": "ilp-plugin-btp", "assetCode": "USD", "assetScale": 9,
        "balance": BALANCE, **fields,
    }  # fmt: skip


class Both:
    """See the module; `role` is what the JS connector is for ours."""

    def __init__(self, role: str, folder: Path, modules: Modules) -> None:
        self.role = role
        ports = free_ports(5)
        self.ours_address = "test.js.ours" if role == "parent" else "test.ours"
        self.js_address = "test.ours.js" if role == "child" else "test.js"
        self.modules = modules
        ours_port, wallet_port = ports[0], ports[2]
        for_js = {"parent": "child", "child": "parent", "peer": "peer"}[role]
        routes = {"sendRoutes": True, "receiveRoutes": True}
        ours: dict[str, str] = {
            "BTP_PEER_JS_SECRET": "between", "BTP_PEER_JS_RELATION": role,
            "BTP_PEER_JS_SEND_ROUTES": "true", "BTP_PEER_JS_RECEIVE_ROUTES": "true",
            "BTP_PEER_ALICE_SECRET": "token", "BTP_PEER_ALICE_RELATION": "child",
            "BTP_PEER_ALICE_ROUTES": "test.far",
            "ROUTE_BROADCAST_INTERVAL_MS": str(INTERVAL_MS),
            "ROUTE_HOLD_DOWN_MS": str(HOLD_DOWN_MS),
        }  # fmt: skip
        more = {} if role == "child" else {"CONNECTOR_ILP_ADDRESS": self.js_address}
        if role == "parent":
            # We dial the JS connector, and have no address of our own.
            link = {"listener": {"port": ports[3], "secret": "between"}}
            ours |= {"BTP_PEER_JS_URL": f"ws://127.0.0.1:{ports[3]}", "ILP_ADDRESS": ""}
        else:
            link = {"server": f"btp+ws://js:between@127.0.0.1:{ours_port}"}  # type: ignore[dict-item]
            ours |= {"ILP_ADDRESS": self.ours_address}
        self.ours = Node("ours", folder, ports[:2], **ours)
        self.js = JsConnector(
            modules.connector, folder, ports[4],
            {
                "ours": account(for_js, options=link, **routes),
                "wallet": account(
                    "child", options={"listener": {"port": wallet_port, "secret": "w"}}
                ),
            },
            **more,
        )  # fmt: skip
        self.alice: JsPeer
        self.wallet: JsPeer
        self._wallets: contextlib.AsyncExitStack
        self._alice_url = self.ours.url("alice", "token")
        self._wallet_url = f"btp+ws://:w@127.0.0.1:{wallet_port}"

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Both]:
        await self.js.start()
        try:
            async with (
                running(self.ours),
                js_peer(self.modules.peer, self._alice_url) as self.alice,
                contextlib.AsyncExitStack() as self._wallets,
            ):
                await self.new_wallet()
                await self.alice.connected()
                yield self
        finally:
            await self.js.stop()

    async def new_wallet(self) -> None:
        """A wallet at the JS connector, in place of the one before.

        That link is JS at both ends. ilp-plugin-btp sends its log-in once per connection and never
        again, so the wallet of a JS connector that restarts can stay away for good.
        """
        await self._wallets.aclose()
        self.wallet = await self._wallets.enter_async_context(
            js_peer(self.modules.peer, self._wallet_url)
        )

    async def ours_learns(self, *, is_there: bool = True) -> None:
        """The JS connector's address is known to ours, from itself; or it is no more."""

        def check(body: Any) -> bool:
            found = [item for item in body["items"] if item["prefix"] == self.js_address]
            learned = [one for one in found if one["source"] in ("ccp", "child")]
            if not is_there:
                return not [one for one in found if one["source"] == "ccp"]
            return bool(learned) and learned[0]["nextHop"] == "js"

        await self.ours.until(check, "/api/routes?limit=1000")

    async def js_learns(self, *, is_there: bool = True) -> None:
        """What ours announces is known to the JS connector: its customer's prefix."""
        await self.js.until(
            lambda table: (table.get("test.far", {}).get("nextHop") == "ours") is is_there
        )

    async def pay_both_ways(self) -> None:
        await self.wallet.connected()
        for sender, destination, at in (
            (self.alice, f"{self.js_address}.wallet.shop", self.wallet),
            (self.wallet, f"{self.ours_address}.alice.shop", self.alice),
            (self.wallet, "test.far.shop", self.alice),
        ):
            await at.do("seen")
            answer = await sender.send(destination, 1000, preimage=secrets.token_bytes(32))
            assert answer["type"] == "fulfill", (destination, answer, self.js.log())
            (prepare,) = (await at.do("seen"))["prepares"]
            assert (prepare["destination"], prepare["amount"]) == (destination, "1000")


@contextlib.asynccontextmanager
async def js_peer(modules: Path, server: str) -> AsyncIterator[JsPeer]:
    peer = JsPeer(modules)
    await peer.start("peer.js", json.dumps({"server": server}))
    try:
        yield peer
    finally:
        await peer.stop()


@pytest.mark.parametrize("role", ["parent", "child", "peer"])
async def test_addresses_routes_and_packets_both_ways(
    role: str, tmp_path: Path, modules: Modules
) -> None:
    async with Both(role, tmp_path, modules).running() as both:
        await both.ours.until(
            lambda status: status["ilpAddress"] == both.ours_address, "/api/status"
        )
        await both.ours_learns()
        await both.js_learns()
        await both.pay_both_ways()
        balances = await both.ours.balances()
        assert balances == {"alice": 1000 - 2000, "js": 2000 - 1000}


@pytest.mark.parametrize("role", ["parent", "child", "peer"])
async def test_routes_go_with_a_killed_connector_and_come_back_with_it(
    role: str, tmp_path: Path, modules: Modules
) -> None:
    async with Both(role, tmp_path, modules).running() as both:
        await both.ours_learns()
        await both.js_learns()
        clock = asyncio.get_running_loop()

        await both.js.stop(signal.SIGKILL)
        killed_s = clock.time()
        await both.ours_learns(is_there=False)
        assert clock.time() - killed_s < HOLD_DOWN_MS / 1000 + 1.5
        await both.js.start()
        await both.ours_learns()
        await both.js_learns()
        await both.new_wallet()
        await both.pay_both_ways()

        await both.ours.stop(signal.SIGKILL)
        await both.js_learns(is_there=False)
        await both.ours.start()
        await both.alice.connected()
        await both.ours_learns()
        await both.js_learns()
        await both.pay_both_ways()
