"""A link between running nodes that know each other's routes by CCP is lost: no sender is told that a destination is unreachable."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from connector import Fulfill, PeerSettings, Reject
from tests.support.btp_proxy import BtpProxy
from tests.support.daemons import Daemon, RunningNodes, secret_of, until
from tests.support.patience import allowed_s

SWITCHES_SECONDS_MAX = 3.0
PAUSE_SECONDS = 0.02


@contextlib.asynccontextmanager
async def joined(folder: Path, edges: list[str], through: str) -> AsyncIterator[Joined]:
    """Nodes named by letters; `edges`: pairs, the second dials the first; one of them leads through a proxy."""
    async with RunningNodes(folder) as network, contextlib.AsyncExitStack() as stack:
        names = sorted({name for edge in edges for name in edge})
        proxy = None
        for name in names:
            peers = []
            for edge in edges:
                if name in edge:
                    other = edge[edge[0] == name]
                    url = network.url_of(other) if other in network.daemons else None
                    if edge == through and url is not None:
                        proxy = BtpProxy(network.daemons[other].connector.btp_port or 0)
                        await stack.enter_async_context(proxy.running())
                        url = f"ws://127.0.0.1:{proxy.port}"
                    peers.append(
                        PeerSettings(id=other, secret=secret_of(*edge), transit=True, url=url)
                    )
            await network.add(name, peers)
        assert proxy is not None
        for daemon in network.daemons.values():
            for peer in daemon.settings.peers:
                await daemon.linked(peer.id)
        network._pairs += [(edge[0], edge[1]) for edge in edges]
        wanted = {f"g.{name}" for name in names}
        for daemon in network.daemons.values():
            routes = daemon.connector.routes
            await until(lambda routes=routes: {one.prefix for one in routes} >= wanted)  # type: ignore[misc]
        yield Joined(network, proxy)
        assert await network.stop() == []


class Joined:
    """The nodes, and what has become of packets that are sent all the time."""

    def __init__(self, network: RunningNodes, proxy: BtpProxy) -> None:
        self.network = network
        self.proxy = proxy
        self.codes: list[str] = []
        """In the order of the answers."""

    def __getitem__(self, name: str) -> Daemon:
        return self.network.daemons[name]

    @contextlib.asynccontextmanager
    async def sending(self, source: str, to: str) -> AsyncIterator[None]:
        async def pay(_prepare: object) -> Fulfill:
            return Fulfill(fulfillment=b"p" * 32)

        self[to].connector.on_prepare(pay)
        condition = hashlib.sha256(b"p" * 32).digest()

        async def send(number: int) -> None:
            answer = await self[source].connector.send(
                f"g.{to}", 5, condition=condition, data=number.to_bytes(4, "big")
            )
            self.codes.append(answer.code if isinstance(answer, Reject) else "paid")

        async def send_all(group: asyncio.TaskGroup) -> None:
            number = 0
            while not ends:
                number += 1
                group.create_task(send(number))
                await asyncio.sleep(PAUSE_SECONDS)

        ends: list[bool] = []
        # What was in flight at the cut is answered when the link is back, so it has no place in a row.
        async with asyncio.TaskGroup() as group:
            group.create_task(send_all(group))
            await self.paid()
            yield
            ends.append(True)

    async def paid(self) -> float:
        """Wait until ten packets in a row are paid; after how long the first of them was, in seconds."""
        loop = asyncio.get_running_loop()
        began_s, first_s, seen, row = loop.time(), 0.0, len(self.codes), 0

        def look() -> bool:
            nonlocal first_s, seen, row
            for code in self.codes[seen:]:
                row = row + 1 if code == "paid" else 0
                if row == 1:
                    first_s = loop.time()
            seen = len(self.codes)
            return row >= 10

        await until(look)
        return first_s - began_s

    async def lost(self) -> None:
        """Wait until both ends of the link have noticed."""
        await until(lambda: "T01" in self.codes or self["b"].connector.peers["c"].away)


@pytest.mark.parametrize("size", [4, 6])
async def test_in_a_ring_payments_go_the_other_way_soon(tmp_path: Path, size: int) -> None:
    """With six nobody beside the link knows another way: the one who does is told that this is the last resort."""
    names = "abcdef"[:size]
    edges = [names[at] + names[at + 1] for at in range(size - 1)] + ["a" + names[-1]]
    async with joined(tmp_path, edges, "bc") as nodes:
        assert nodes["a"].connector.routes.find("g.c").next_hop == "b"  # type: ignore[union-attr]
        async with nodes.sending("a", "c"):
            nodes.proxy.cut()
            await nodes.lost()
            passed = nodes.proxy.prepares
            assert await nodes.paid() < allowed_s(SWITCHES_SECONDS_MAX)
            other = names[-1]
            await until(lambda: nodes["a"].connector.routes.find("g.c").next_hop == other)  # type: ignore[union-attr]
            await nodes.paid()
            assert nodes.proxy.prepares == passed
            nodes.proxy.mend()
            await until(lambda: nodes["a"].connector.routes.find("g.c").next_hop == "b")  # type: ignore[union-attr]
            await nodes.paid()
        assert set(nodes.codes) <= {"paid", "T01"}
        assert all(
            daemon.connector.switch.loops.packets == 0 for daemon in nodes.network.daemons.values()
        )


@pytest.mark.slow
async def test_in_a_line_payments_go_on_when_the_link_is_back(tmp_path: Path) -> None:
    """Away for longer than learned routes were kept once (3 s)."""
    async with joined(tmp_path, ["ab", "bc", "cd"], "bc") as nodes:
        async with nodes.sending("a", "d"):
            nodes.proxy.cut()
            await nodes.lost()
            await asyncio.sleep(5.0)  # what passes is the outage itself
            assert nodes["a"].connector.routes.find("g.d.x") is not None
            nodes.proxy.mend()
            await nodes.paid()
        assert set(nodes.codes) <= {"paid", "T01"}
        assert "T01" in nodes.codes


async def test_short_links_that_carry_packets_are_dialled_again_at_once(tmp_path: Path) -> None:
    async with joined(tmp_path, ["ab", "bc"], "bc") as nodes, nodes.sending("a", "c"):
        waits = []
        for _ in range(6):
            nodes.proxy.cut()
            nodes.proxy.mend()
            waits.append(await nodes.paid())
        # Six times in a row; the back-off alone would be up to 5 s by now.
        assert max(waits) < 2.0, waits
        assert set(nodes.codes) <= {"paid", "T01"}


@pytest.mark.parametrize("comes_back", [False, True])
async def test_a_node_that_is_started_again_tells_nobody_that_there_is_no_route(
    tmp_path: Path, *, comes_back: bool
) -> None:
    """It begins with the routes of the process before, so its neighbours may be connected in any order."""
    async with joined(tmp_path, ["ab", "bc", "cd"], "bc") as nodes:
        async with nodes.sending("a", "d"):
            await nodes.network.restart("b", comes_back=comes_back)
            await nodes.paid()
        assert set(nodes.codes) <= {"paid", "T01", "T03"}
