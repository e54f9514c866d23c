"""`kill -9` under load: nothing acknowledged is lost, and neighbours' books mirror each other.

KILL_ROUNDS says how often each victim is killed (default 2; 20 for a full run).
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import secrets
import signal
from pathlib import Path

import pytest
import structlog

from connector.base.clock import SystemClock
from connector.settings.load import load
from connector.tools.audit import audit, mirror_faults
from connector.tools.demo import DemoNode, at_rest, line, start, wait_ready
from connector.tools.sender import Order, Report, Sender
from tests.support.inherited import INHERITED
from tests.support.tigerbeetle_server import TigerBeetleServer

CLOCK = SystemClock()
ROUNDS = int(os.environ.get("KILL_ROUNDS", "2"))


def _environment() -> dict[str, str]:
    return dict(INHERITED)


async def _kill_and_restart(node: DemoNode, links: int, down_s: float) -> None:
    assert node.process is not None
    node.process.send_signal(signal.SIGKILL)
    await node.process.wait()
    await asyncio.sleep(down_s)  # how long it is down is part of the case, not a wait for an event
    await start(node)
    await wait_ready(node, links, CLOCK)


async def _assert_books(nodes: list[DemoNode]) -> None:
    await at_rest(nodes, CLOCK)
    reports = await asyncio.gather(
        *(audit(load(node.environment).settings, CLOCK) for node in nodes)
    )
    for report in reports:
        assert report.ok, report.checks
        assert report.pending == 0, f"{report.node_id} still holds {report.pending}"
    pairs = [(a.node_id, b.node_id) for a, b in itertools.pairwise(nodes)]
    assert mirror_faults(reports, pairs) == []


@pytest.mark.slow
async def test_connectors_killed_under_load_come_back_with_mirrored_books(tmp_path: Path) -> None:
    """The one next to the sender's and the one in the middle."""
    await _kill_again_and_again(tmp_path, [1, 2] * ROUNDS, {})


@pytest.mark.slow
@pytest.mark.tigerbeetle
@pytest.mark.parametrize("fulfill_when", ["durable", "booked"])
async def test_the_same_with_the_accounts_of_all_in_one_cluster(
    tmp_path: Path, tigerbeetle_server: TigerBeetleServer, fulfill_when: str
) -> None:
    cluster = {
        "TIGERBEETLE_CLUSTER_ID": str(tigerbeetle_server.cluster_id),
        "TIGERBEETLE_REPLICAS": tigerbeetle_server.address,
        "FULFILL_WHEN": fulfill_when,
        # Others have had nodes of these names there.
        "ASSET_CODE": f"T{secrets.token_hex(4)}",
    }
    await _kill_again_and_again(tmp_path, [2] * ROUNDS, cluster)


async def _kill_again_and_again(
    tmp_path: Path, victims: list[int], settings: dict[str, str]
) -> None:
    """At random moments; the packets in flight are answered over the new connections."""
    secret = secrets.token_urlsafe(16)
    dice = random.Random(os.environ.get("KILL_SEED", str(secrets.randbits(32))))
    async with line(5, tmp_path, _environment() | settings, secret, CLOCK) as nodes:
        for victim in victims:
            sender = Sender(
                url=f"ws://127.0.0.1:{nodes[0].btp_port}",
                username="sender",
                token=secret,
                clock=CLOCK,
                log=structlog.get_logger(),
            )
            order = Order(destination="g.peer5", amount=7, count=3000, window=100)
            under_load = asyncio.Event()

            def progress(report: Report, moment: int = dice.randrange(100, 1500)) -> None:
                if report.answered > moment:
                    under_load.set()  # noqa: B023 - this round's own

            async with asyncio.TaskGroup() as group:
                sending = group.create_task(sender.send(order, progress))
                await under_load.wait()
                await asyncio.sleep(dice.random() * 0.2)  # a random moment
                await _kill_and_restart(nodes[victim], 2, dice.random())
                report = await sending
            assert report.answered == order.count, report
            assert report.rejected.keys() <= {"T00", "T01", "R00"}, report.messages
            await _assert_books(nodes)
