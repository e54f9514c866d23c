"""Connectors under load, their accounts in a real TigerBeetle cluster, while parts of it fail.

Three connectors, each a process of its own, share one cluster of three replicas. Packets never stop
coming. Afterwards the books are exact: every node's invariants hold, nothing is held, neighbours
mirror each other, and what the sender saw fulfilled is what was booked.

OUTAGE_ROUNDS says how often each fault is repeated (default 1; 10 for a full run). What a single
server can do to a node is in test_outages.py.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import secrets
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from connector.base.clock import SystemClock
from connector.settings.load import load as load_settings
from connector.tools import demo
from connector.tools.audit import audit, mirror_faults
from connector.tools.demo import DemoNode, at_rest, start, wait_ready
from tests.support.inherited import INHERITED
from tests.support.load import Portion, Portions, load
from tests.support.patience import PATIENCE_SECONDS, allowed_s
from tests.support.tigerbeetle_server import TigerBeetleCluster

pytestmark = [pytest.mark.tigerbeetle, pytest.mark.slow]

CLOCK = SystemClock()
ROUNDS = int(os.environ.get("OUTAGE_ROUNDS", "1"))
NODES = 3
AMOUNT = 7
LIFE_SECONDS = 90.0
"""What a packet has. What it lacks to be asked for again after a crash would be lost, and a machine
that runs other tests as well needs half a minute for the longest of these outages."""
HOLD_SECONDS_MAX = LIFE_SECONDS + 15
"""A hold's longest life: what a packet has, and the grace after it."""
AWAY = {"reject": (503, "rejecting"), "spool": (200, "spooling")}
"""What /health/ready answers, and the state of accounting, while the ledger is away."""
ANSWERED_MS_MAX = 15_000
"""A small part of a packet's life: nobody is left to wait. (On a machine with nothing else to do no answer
takes longer than 1.3 seconds; while other tests run, starved servers are no fault of ours.)"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[TigerBeetleCluster]:
    """Three replicas that these tests may mistreat."""
    cluster = TigerBeetleCluster(9, 3)
    cluster.start()
    yield cluster
    cluster.remove()


@dataclass(slots=True)
class Chain:
    """Connectors in a line and the load on them."""

    nodes: list[DemoNode]
    secret: str
    client: httpx.AsyncClient
    dice: random.Random
    policy: str
    said: str = ""
    """How long the last outage took to be seen, and to end."""

    @property
    def last(self) -> str:
        return self.nodes[-1].node_id

    def load(self, count: int = 100, window: int = 50) -> AbstractAsyncContextManager[Portions]:
        return load(
            f"ws://127.0.0.1:{self.nodes[0].btp_port}", self.secret, f"g.{self.last}",
            amount=AMOUNT, count=count, window=window, expiry_s=LIFE_SECONDS,
        )  # fmt: skip

    async def ready(self, node: DemoNode) -> tuple[int, str]:
        """The status of /health/ready and what the node says of its accounting."""
        answer = await self.client.get(f"{node.url}/health/ready")
        health = (await self.client.get(f"{node.url}/health")).json()
        return answer.status_code, str(health["accounting"]["state"])

    async def until(self, fits: Callable[[int, str], bool]) -> float:
        """Wait until all nodes are so; how many seconds that took."""
        began_s = CLOCK.monotonic_s()
        async with asyncio.timeout(PATIENCE_SECONDS):
            for node in self.nodes:
                while not fits(*await self.ready(node)):
                    await asyncio.sleep(0.02)
        return CLOCK.monotonic_s() - began_s

    async def linked(self, node: DemoNode) -> None:
        """Wait until it is connected to both sides; whatever its ledger does."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                try:
                    health = (await self.client.get(f"{node.url}/health")).json()
                    if health["peersConnected"] == health["peersTotal"]:
                        return
                except httpx.HTTPError:
                    pass  # not up yet
                await asyncio.sleep(0.02)

    async def busy(self, node: DemoNode) -> None:
        """Wait until it has packets in flight."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                status = await self.client.get(f"{node.url}/api/status")
                if status.json()["packetsInFlight"]:
                    return

    async def available(self) -> float:
        return await self.until(lambda status, state: (status, state) == (200, "available"))

    async def outage(self, load: Portions) -> None:
        """Wait until packets are treated as the policy says."""
        began_s = CLOCK.monotonic_s()
        if self.policy == "reject":
            await load.next(rejected_at_once)
        await self.until(lambda *seen: seen == AWAY[self.policy])
        self.said = f"away after {CLOCK.monotonic_s() - began_s:.1f} s, "
        if self.policy == "spool":
            await load.whole(5)

    async def recovery(self, load: Portions) -> None:
        """Wait until the ledger has the books again."""
        took_s = await self.available()
        self.said += f"back after {took_s:.1f} s, "
        await load.whole(3)

    async def received(self) -> int:
        """What the sender owes, as the first node has booked it."""
        items = (await self.client.get(f"{self.nodes[0].url}/api/accounts")).json()["items"]
        (sender,) = [item for item in items if item["peerId"] == "sender"]
        return int(sender["debitBalance"])


@asynccontextmanager
async def chain(
    folder: Path, cluster: TigerBeetleCluster, policy: str, **settings: str
) -> AsyncIterator[Chain]:
    cluster.start()
    environment = {
        **INHERITED,
        "TIGERBEETLE_CLUSTER_ID": str(cluster.cluster_id),
        "TIGERBEETLE_REPLICAS": cluster.address,
        "ACCOUNTING_OUTAGE_POLICY": policy,
        **settings,
    }
    secret = secrets.token_urlsafe(16)
    seed = os.environ.get("OUTAGE_SEED", str(secrets.randbits(32)))
    print(f"OUTAGE_SEED={seed}")
    nodes = demo.chain(NODES, folder, environment, secret)
    try:
        for node in nodes:
            node.environment["MAX_HOLD_MS"] = str(int(LIFE_SECONDS * 1000))
            await start(node)
        for index, node in enumerate(nodes):
            await wait_ready(node, (index > 0) + (index + 1 < NODES), CLOCK)
        async with httpx.AsyncClient(
            timeout=PATIENCE_SECONDS, trust_env=False, verify=False
        ) as client:
            yield Chain(nodes, secret, client, random.Random(seed), policy)
    finally:
        await demo.stop(nodes)


async def assert_exact(chain: Chain, booked: int) -> None:
    """The books of every node, and the sender's word against the first one's."""
    await chain.available()
    await at_rest(chain.nodes, CLOCK)
    names = [node.node_id for node in chain.nodes]
    # A killed node says no more that it gives a hold back: then the ledger's own timeout does.
    async with asyncio.timeout(HOLD_SECONDS_MAX):
        while True:
            reports = await asyncio.gather(
                *(
                    audit(load_settings(node.environment).settings, CLOCK, names)
                    for node in chain.nodes
                )
            )
            if not any(report.pending for report in reports):
                break
            await asyncio.sleep(1)
    for report in reports:
        assert report.ok, [check for check in report.checks if not check[1]]
    assert mirror_faults(reports, list(itertools.pairwise(names))) == []
    assert await chain.received() == booked


def rejected_at_once(portion: Portion) -> bool:
    """Nobody waits for a ledger that is known to be away."""
    at_once_ms = allowed_s(0.5) * 1000
    return (
        set(portion.rejected) == {"T00"}
        and not portion.fulfilled
        and portion.slowest_ms < at_once_ms
    )


def describe(portions: Portions) -> str:
    """For those who run it with -s."""
    return (
        f"{portions.fulfilled} fulfilled, {dict(portions.rejected)}, "
        f"slowest {portions.slowest_ms:.0f} ms"
    )


# --- what goes wrong, while packets come


async def the_leader_dies(chain: Chain, cluster: TigerBeetleCluster, load: Portions) -> None:
    """The others choose another one."""
    leader = cluster.leader
    leader.kill()
    await load.whole(3)
    await asyncio.to_thread(leader.start)


async def each_role_dies(chain: Chain, cluster: TigerBeetleCluster, load: Portions) -> None:
    """The leader, then one of those that follow the next leader."""
    dead = cluster.leader
    await the_leader_dies(chain, cluster, load)
    # Until then it is none of the majority, and the next one to die would end it.
    await dead.caught_up()
    leader = cluster.leader
    follower = chain.dice.choice([one for one in cluster.replicas if one is not leader])
    follower.kill()
    await load.whole(3)
    await asyncio.to_thread(follower.start)


async def two_replicas_die(chain: Chain, cluster: TigerBeetleCluster, load: Portions) -> None:
    """No majority is left; with the first of them it is back."""
    dead = chain.dice.sample(cluster.replicas, 2)
    for replica in dead:
        replica.kill()
    await chain.outage(load)
    await asyncio.to_thread(dead[0].start)
    await chain.recovery(load)
    dead[1].launch()


async def all_replicas_die(chain: Chain, cluster: TigerBeetleCluster, load: Portions) -> None:
    """At once, as a power cut would: what was acknowledged is there afterwards."""
    await asyncio.to_thread(cluster.start)  # one may still be on its way up
    for replica in cluster.replicas:
        replica.kill()
    await chain.outage(load)
    await asyncio.to_thread(cluster.start)
    await chain.recovery(load)


async def a_connector_is_killed(chain: Chain, cluster: TigerBeetleCluster, load: Portions) -> None:
    """The one in the middle: its packets are asked for again when it is back."""
    victim = chain.nodes[1]
    assert victim.process is not None
    victim.process.send_signal(signal.SIGKILL)
    await victim.process.wait()
    await asyncio.sleep(chain.dice.random())  # how long it is down is part of the case
    await start(victim)
    await wait_ready(victim, 2, CLOCK)
    await load.whole(3)


async def a_connector_dies_while_all_replicas_are_dead(
    chain: Chain, cluster: TigerBeetleCluster, load: Portions
) -> None:
    """It is back first, and only the cluster knows what it had taken: nothing is answered before.

    For longer, now and then, than its next hop keeps answers of which a receipt came.
    """
    await asyncio.to_thread(cluster.start)
    for replica in cluster.replicas:
        replica.kill()
    if chain.dice.random() < 0.7:
        await chain.outage(load)
    await asyncio.sleep(chain.dice.random())  # before it is noticed, or afterwards
    victim = chain.dice.choice(chain.nodes[1:])
    if chain.policy == "spool":
        await chain.busy(victim)
    assert victim.process is not None
    victim.process.send_signal(signal.SIGKILL)
    await victim.process.wait()
    await start(victim)
    await chain.linked(victim)
    await asyncio.sleep(chain.dice.random() * 5)
    await asyncio.to_thread(cluster.start)
    await chain.recovery(load)


LEDGER_FAULTS = (the_leader_dies, two_replicas_die, all_replicas_die)
CONNECTOR_FAULTS = (a_connector_is_killed, a_connector_dies_while_all_replicas_are_dead)


@pytest.mark.parametrize("policy", ["reject", "spool"])
async def test_faults_under_load(tmp_path: Path, cluster: TigerBeetleCluster, policy: str) -> None:
    """Every fault in turn; after each the books are exact."""
    async with chain(tmp_path, cluster, policy) as nodes:
        booked = await nodes.received()
        for _ in range(ROUNDS):
            for fault in (*LEDGER_FAULTS, *CONNECTOR_FAULTS):
                # Many at once are at many places of their way.
                size = (2000, 400) if fault is CONNECTOR_FAULTS[-1] else (100, 50)
                async with nodes.load(*size) as portions:
                    await asyncio.sleep(nodes.dice.random() * 0.2)  # a random moment
                    await fault(nodes, cluster, portions)
                print(f"{policy}, {fault.__name__}: {nodes.said}{describe(portions)}")
                if fault in LEDGER_FAULTS:
                    assert portions.slowest_ms < allowed_s(ANSWERED_MS_MAX), fault
                    # With the spool nobody notices.
                    fair = {"T00"} if policy == "reject" else set()
                else:
                    # On a slow machine the time of a packet may run out while it has to wait.
                    fair = {"T00", "T01", "R00", "R02"}
                assert portions.rejected.keys() <= fair, (fault, portions.rejected)
                booked += portions.fulfilled * AMOUNT
                await assert_exact(nodes, booked)


async def test_with_time_enough_nobody_notices_that_a_replica_died(
    tmp_path: Path, cluster: TigerBeetleCluster
) -> None:
    """Without the spool, too: a new leader takes a second or two, so requests are given more."""
    patient = {"ACCOUNTING_TIMEOUT_MS": "15000"}
    async with chain(tmp_path, cluster, "reject", **patient) as nodes:
        booked = await nodes.received()
        for _ in range(ROUNDS):
            async with nodes.load() as portions:
                await each_role_dies(nodes, cluster, portions)
            print("two of three in turn, patiently:", describe(portions))
            assert not portions.rejected
            booked += portions.fulfilled * AMOUNT
            await assert_exact(nodes, booked)
