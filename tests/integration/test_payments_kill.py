"""`kill -9` while a payment runs: no unit is lost or paid twice, whichever node dies.

KILL_ROUNDS says how often the payer is killed (default 2; 20 for a full run), KILL_SEED repeats the moments.
"""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import signal
from pathlib import Path
from typing import Any

import pytest

from connector.base.clock import SystemClock
from connector.settings.load import load
from connector.tools.audit import audit, mirror_faults
from connector.tools.client import NodeClient
from connector.tools.demo import DemoNode, at_rest, chain, start, stop, wait_ready
from tests.support.inherited import INHERITED
from tests.support.patience import PATIENCE_SECONDS
from tests.support.tigerbeetle_server import TigerBeetleServer

CLOCK = SystemClock()
PACKET_MAX = 7
ROUNDS = int(os.environ.get("KILL_ROUNDS", "2"))
ROUND_PACKETS = 1000
AMOUNT = 2 * ROUND_PACKETS * (ROUNDS + 1) * PACKET_MAX


class Line:
    """peer1, which pays, - peer2 - peer3, which is paid; each a process."""

    def __init__(self, folder: Path, settings: dict[str, str] | None = None) -> None:
        inherited = {**INHERITED, **(settings or {})}
        self.nodes = chain(3, folder, inherited, "sender-secret-of-the-test")
        self.nodes[1].environment["BTP_PEER_PEER1_MAX_PACKET_AMOUNT"] = str(PACKET_MAX)

    async def start(self) -> None:
        for node in self.nodes:
            await start(node)
        for node, links in zip(self.nodes, (1, 2, 1), strict=True):
            await wait_ready(node, links, CLOCK)

    async def ask(self, node: DemoNode, method: str, path: str, body: Any = None) -> Any:
        client = NodeClient(node.url, node.environment["ADMIN_API_KEY"])
        return await asyncio.to_thread(client.admin, method, path, body, "again")

    async def pay(self) -> Any:
        paid = self.nodes[2].environment
        target = f"http://127.0.0.1:{paid['PAY_PORT']}/pay/{paid['NODE_ID']}"
        body = {"target": target, "amount": str(AMOUNT), "key": "one"}
        return await self.ask(self.nodes[0], "POST", "/admin/payments", body)

    async def until(self, sent: int = 0, *, ended: bool = False) -> Any:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                one = await self.ask(self.nodes[0], "GET", "/admin/payments/one")
                if one["state"] != "running" if ended else int(one["sent"]) >= sent:
                    return one
                await asyncio.sleep(0.02)

    async def kill(self, at: int) -> None:
        process = self.nodes[at].process
        assert process is not None
        process.send_signal(signal.SIGKILL)
        await process.wait()

    async def restart(self, at: int) -> None:
        await start(self.nodes[at])
        await wait_ready(self.nodes[at], (1, 2, 1)[at], CLOCK)

    async def assert_books(self, received: int) -> None:
        await at_rest(self.nodes, CLOCK)
        reports = [await audit(load(node.environment).settings, CLOCK) for node in self.nodes]
        for report in reports:
            assert report.ok, report.checks
            assert report.pending == 0, report.node_id
        assert mirror_faults(reports, [("peer1", "peer2"), ("peer2", "peer3")]) == []
        assert await self.received() == received

    async def received(self) -> int:
        node = self.nodes[2]
        body = await asyncio.to_thread(NodeClient(node.url, None).get, "/api/wallets")
        return int(body["items"][0]["balance"])


@pytest.mark.slow
@pytest.mark.parametrize("victim", [1, 2], ids=["on the way", "the receiver"])
async def test_a_payment_goes_on_and_delivers_every_unit_once(tmp_path: Path, victim: int) -> None:
    line = Line(tmp_path)
    try:
        await line.start()
        assert (await line.pay())["state"] == "running"
        await line.until(AMOUNT // 10)
        await line.kill(victim)
        await line.restart(victim)
        await _assert_paid(line, await line.until(ended=True))
    finally:
        await stop(line.nodes)


async def _assert_paid(line: Line, one: Any) -> None:
    assert (one["state"], one["sent"], one["delivered"], one["uncertain"]) == (
        "completed", str(AMOUNT), str(AMOUNT), "0"
    ), one  # fmt: skip
    await line.assert_books(AMOUNT)


async def _kill_the_payer_again_and_again(line: Line) -> None:
    """At random moments, with a hundred packets or more in flight; also while it settles."""
    dice = random.Random(os.environ.get("KILL_SEED", str(secrets.randbits(32))))
    try:
        await line.start()
        sent = 0
        for _ in range(ROUNDS):
            assert (await line.pay())["state"] == "running"
            await line.until(sent + dice.randrange(ROUND_PACKETS) * PACKET_MAX)
            await asyncio.sleep(dice.random() * 0.05)  # a random moment
            await line.kill(0)
            if dice.random() < 0.3:
                # Once more, as soon as it is back: while it settles what was under way.
                await line.restart(0)
                await asyncio.sleep(dice.random() * 0.05)
                await line.kill(0)
            await line.restart(0)
            cut_off = await line.until(ended=True)
            assert (cut_off["state"], cut_off["uncertain"]) == ("interrupted", "0"), cut_off
            sent = int(cut_off["sent"])
            # What was under way is counted without being asked for: the books agree already.
            await line.assert_books(sent)
            assert cut_off["delivered"] == str(sent)
        await line.pay()
        await _assert_paid(line, await line.until(ended=True))
        assert (await line.pay())["sent"] == str(AMOUNT)
        assert await line.received() == AMOUNT
    finally:
        await stop(line.nodes)


@pytest.mark.slow
async def test_a_payer_that_is_killed_pays_exactly_what_it_was_asked_to(tmp_path: Path) -> None:
    await _kill_the_payer_again_and_again(Line(tmp_path))


@pytest.mark.slow
async def test_a_payer_that_is_away_for_longer_than_packets_live(tmp_path: Path) -> None:
    line = Line(tmp_path)
    try:
        await line.start()
        await line.pay()
        await line.until(AMOUNT // 10)
        await line.kill(0)
        await asyncio.sleep(45)  # how long it is away is the case
        await line.restart(0)
        cut_off = await line.until(ended=True)
        assert (cut_off["state"], cut_off["uncertain"]) == ("interrupted", "0"), cut_off
        await line.assert_books(int(cut_off["sent"]))
        await line.pay()
        await _assert_paid(line, await line.until(ended=True))
    finally:
        await stop(line.nodes)


@pytest.mark.slow
@pytest.mark.tigerbeetle
async def test_the_same_with_the_accounts_of_all_in_one_cluster(
    tmp_path: Path, tigerbeetle_server: TigerBeetleServer
) -> None:
    cluster = {
        "TIGERBEETLE_CLUSTER_ID": str(tigerbeetle_server.cluster_id),
        "TIGERBEETLE_REPLICAS": tigerbeetle_server.address,
        # Others have had nodes of these names there.
        "ASSET_CODE": f"T{secrets.token_hex(4)}",
    }
    await _kill_the_payer_again_and_again(Line(tmp_path, cluster))
