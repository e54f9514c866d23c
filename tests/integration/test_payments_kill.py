"""`kill -9` while a payment runs: no unit is lost or paid twice, whichever node dies."""

from __future__ import annotations

import asyncio
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

CLOCK = SystemClock()
PACKET_MAX = 7
AMOUNT = 3000 * PACKET_MAX


class Line:
    """peer1, which pays, - peer2 - peer3, which is paid; each a process."""

    def __init__(self, folder: Path) -> None:
        self.nodes = chain(3, folder, dict(INHERITED), "sender-secret-of-the-test")
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
        await start(self.nodes[at])
        await wait_ready(self.nodes[at], (1, 2, 1)[at], CLOCK)

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
        one = await line.until(ended=True)
        assert (one["state"], one["sent"], one["delivered"]) == (
            "completed", str(AMOUNT), str(AMOUNT)
        ), one  # fmt: skip
        await at_rest(line.nodes, CLOCK)
        assert await line.received() == AMOUNT
        reports = [await audit(load(node.environment).settings, CLOCK) for node in line.nodes]
        assert all(report.ok for report in reports)
        assert mirror_faults(reports, [("peer1", "peer2"), ("peer2", "peer3")]) == []
    finally:
        await stop(line.nodes)


@pytest.mark.slow
async def test_a_payer_that_is_killed_never_pays_more_than_it_was_asked_to(tmp_path: Path) -> None:
    line = Line(tmp_path)
    try:
        await line.start()
        await line.pay()
        await line.until(AMOUNT // 10)
        await line.kill(0)
        cut_off = await line.ask(line.nodes[0], "GET", "/admin/payments/one")
        assert cut_off["state"] == "interrupted"
        assert (await line.pay())["state"] in ("running", "failed")
        one = await line.until(ended=True)
        # What was committed on disk and has no known outcome counts as sent.
        assert int(one["sent"]) + int(one["uncertain"]) == AMOUNT, one
        assert int(one["sent"]) <= await line.received() <= AMOUNT
        assert (await line.pay()) == one
    finally:
        await stop(line.nodes)
