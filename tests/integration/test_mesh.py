"""Ten nodes, each a process of its own, that know each other's routes by CCP alone: a ring, and a mesh drawn at random.

Every link leads through a proxy, so that it can be slowed down and cut while payments pass. What each packet has passed is read
from the events of the nodes, and what they owe each other from their books on disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from connector.base.clock import SystemClock
from connector.settings.load import load
from connector.tools.audit import audit, mirror_faults
from tests.interop.harness import Node
from tests.support.btp_proxy import BtpProxy
from tests.support.patience import PATIENCE_SECONDS, allowed_s
from tests.support.ports import free_ports

pytestmark = pytest.mark.slow

NODES = 10
CONVERGES_SECONDS_MAX = 5.0
KEY = "an-admin-key-of-tests"
PACKET_MAX = 1000
AMOUNT = 200 * PACKET_MAX
EXPIRES_SECONDS = 25
"""Packets of payments live for 30 s."""

Edge = tuple[str, str]
"""The second dials the first."""


def ring() -> list[Edge]:
    names = [f"n{at}" for at in range(NODES)]
    return list(zip(names, names[1:] + names[:1], strict=True))


def mesh(seed: int) -> list[Edge]:
    """A random tree, and as many links more: no link is the only way but by chance."""
    dice = random.Random(seed)
    names = [f"n{at}" for at in range(NODES)]
    edges = [(names[dice.randrange(at)], names[at]) for at in range(1, NODES)]
    while len(edges) < 2 * (NODES - 1):
        one, other = sorted(dice.sample(names, 2))
        if (one, other) not in edges:
            edges.append((one, other))
    return edges


class Network:
    """See the module."""

    def __init__(self, folder: Path, edges: Sequence[Edge]) -> None:
        names = sorted({name for edge in edges for name in edge})
        ports = {name: free_ports(3) for name in names}
        links = dict(zip(edges, free_ports(len(edges)), strict=True))
        self.edges = list(edges)
        self.pay_ports = {name: ports[name][2] for name in names}
        self.proxies = {edge: BtpProxy(ports[edge[0]][0], seed=at) for at, edge in enumerate(edges)}
        self._links = links
        self.nodes: dict[str, Node] = {}
        for name in names:
            settings = {
                "ADMIN_API_KEY": KEY, "PAY_PORT": str(ports[name][2]), "WALLETS": "w",
                "TELEMETRY_PACKETS_PER_SECOND": "10000",
            }  # fmt: skip
            for edge in edges:
                if name in edge:
                    other = edge[edge[0] == name]
                    mine = f"BTP_PEER_{other.upper()}_"
                    settings |= {
                        f"{mine}SECRET": "-".join(edge), f"{mine}TRANSIT": "true",
                        f"{mine}MAX_PACKET_AMOUNT": str(PACKET_MAX),
                    }  # fmt: skip
                    if edge[1] == name:
                        settings[f"{mine}URL"] = f"ws://127.0.0.1:{links[edge]}"
            self.nodes[name] = Node(name, folder, ports[name][:2], **settings)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Started, connected, and stopped at the end; none has logged an error of ours."""
        async with contextlib.AsyncExitStack() as stack:
            for edge, proxy in self.proxies.items():
                await stack.enter_async_context(proxy.running(self._links[edge]))
            for node in self.nodes.values():
                await node.launch()
                stack.push_async_callback(node.stop)
            for name, node in self.nodes.items():
                others = [edge[edge[0] == name] for edge in self.edges if name in edge]
                await node.connected(*others)
            yield
        for node in self.nodes.values():
            assert '"level": "error"' not in node.log(), node.log()

    async def converged(self) -> float:
        """Wait until all know all; the seconds that took."""
        began_s = asyncio.get_running_loop().time()
        wanted = {f"g.{name}" for name in self.nodes}
        for node in self.nodes.values():
            await node.until(
                lambda body: {item["prefix"] for item in body["items"]} >= wanted, "/api/routes"
            )
        return asyncio.get_running_loop().time() - began_s

    async def way(self, source: str, to: str) -> list[str]:
        """The nodes that packets pass, by the tables of all."""
        passed = [source]
        while passed[-1] != to:
            found = await self.nodes[passed[-1]].get(f"/api/routes/explain?destination=g.{to}.x")
            passed.append(found["chosen"]["nextHop"])
            assert len(passed) <= NODES, f"a loop: {passed}"
        return passed

    def proxy_of(self, one: str, other: str) -> BtpProxy:
        return self.proxies.get((one, other)) or self.proxies[other, one]

    async def packets(self, node: Node) -> list[tuple[str, str]]:
        """Condition and next hop of each packet that a node has sent on."""
        found: dict[str, list[dict[str, Any]]] = {"PACKET_RECEIVED": [], "PACKET_FORWARDED": []}
        for kind, items in found.items():
            cursor = ""
            while True:
                body = await node.get(f"/api/events?type={kind}&limit=1000{cursor}")
                items.extend(body["items"])
                if body["next"] is None:
                    break
                cursor = f"&cursor={body['next']}"
        conditions = {
            one["packetId"]: one["executionCondition"] for one in found["PACKET_RECEIVED"]
        }
        return [
            (conditions[one["packetId"]], one["nextHop"])
            for one in found["PACKET_FORWARDED"]
            if one["packetId"] in conditions
        ]

    async def look_for_loops(self) -> int:
        """No packet takes a link twice in the same direction; gives how many packets were looked at."""
        seen: set[str] = set()
        for name, node in self.nodes.items():
            packets = Counter(await self.packets(node))
            seen.update(condition for condition, _ in packets)
            twice = [one for one, count in packets.items() if count > 1]
            assert not twice, f"{name} has sent a packet twice: {twice[:3]}"
            metrics = await self.metrics(node)
            assert "ilp_packets_looped_total 0.0" in metrics
        return len(seen)

    @staticmethod
    async def metrics(node: Node) -> str:
        async with httpx.AsyncClient(trust_env=False, verify=False) as client:
            return (await client.get(f"http://127.0.0.1:{node.http_port}/metrics")).text

    async def faults_on_disk(self) -> list[str]:
        """What is wrong with the books that the nodes have left behind."""
        clock = SystemClock()
        reports = [
            await audit(load(node._environment).settings, clock) for node in self.nodes.values()
        ]
        faults = [
            f"{one.node_id}: {check}" for one in reports for check in one.checks if not check[1]
        ]
        faults += [f"{one.node_id} still holds {one.pending}" for one in reports if one.pending]
        return faults + mirror_faults(reports, self.edges)


class Payment:
    """A payment of one node to the wallet of another."""

    def __init__(self, network: Network, source: str, to: str, key: str) -> None:
        self._key = key
        self._base = f"http://127.0.0.1:{network.nodes[source].http_port}"
        self._target = f"http://127.0.0.1:{network.pay_ports[to]}/pay/w"
        self._headers = {"authorization": f"Bearer {KEY}"}

    async def start(self) -> None:
        wanted = {"target": self._target, "amount": str(AMOUNT), "key": self._key}
        async with self._client() as client:
            asked = await client.post("/admin/payments", json=wanted)
        assert asked.status_code == 202, asked.text

    async def state(self) -> dict[str, Any]:
        async with self._client() as client:
            body: dict[str, Any] = (await client.get(f"/admin/payments/{self._key}")).json()
        return body

    async def until_sent(self, amount: int) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while int((state := await self.state())["sent"]) < amount:
                assert state["state"] == "running", state
                await asyncio.sleep(0.3)

    async def completed(self) -> None:
        """Wait until all is paid, to the unit."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while (state := await self.state())["state"] == "running":
                await asyncio.sleep(0.3)
        assert (state["state"], state["sent"], state["delivered"]) == (
            "completed", str(AMOUNT), str(AMOUNT),
        )  # fmt: skip

    def _client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            base_url=self._base, headers=self._headers, trust_env=False, verify=False
        )


@pytest.mark.parametrize("edges", [ring(), mesh(7)], ids=["ring", "mesh"])
async def test_routes_converge_and_a_cut_link_loses_no_payment_and_makes_no_loop(
    edges: list[Edge], tmp_path: Path
) -> None:
    network = Network(tmp_path, edges)
    async with network.running():
        assert await network.converged() < allowed_s(CONVERGES_SECONDS_MAX)
        ways = [
            await network.way(source, to)
            for source in network.nodes
            for to in network.nodes
            if to != source
        ]
        way = max(ways, key=len)
        payer, payee = way[0], way[-1]
        first, second = (Payment(network, payer, payee, key) for key in ("first", "second"))
        at = len(way) // 2
        cut = network.proxy_of(way[at - 1], way[at])
        cut.delay_share = 0.3  # so that there is something in flight on that link
        await first.start()
        await first.until_sent(AMOUNT // 4)
        cut.cut()
        began_s, passed = asyncio.get_running_loop().time(), cut.prepares
        # Over other links, while that one is away.
        await second.start()
        await second.completed()
        assert cut.prepares == passed
        # What was in flight there is sent again when it is back: sooner than it expires.
        cut.delay_share = 0.0
        cut.mend()
        assert asyncio.get_running_loop().time() - began_s < EXPIRES_SECONDS
        await first.completed()
        (wallet,) = (await network.nodes[payee].get("/api/wallets"))["items"]
        assert wallet["balance"] == str(2 * AMOUNT)
        assert await network.look_for_loops() >= 2 * AMOUNT // PACKET_MAX
        for node in network.nodes.values():
            await node.balances()
    assert await network.faults_on_disk() == []
