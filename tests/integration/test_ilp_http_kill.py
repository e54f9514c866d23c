"""`kill -9` under load between nodes that are linked over HTTP: every book mirrors its neighbour's."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import secrets
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import structlog

from connector.base.clock import SystemClock
from connector.settings.load import load
from connector.tools.audit import audit, mirror_faults
from connector.tools.demo import DemoNode, at_rest, start, stop, wait_ready
from connector.tools.sender import Order, Report, Sender
from tests.support.inherited import INHERITED
from tests.support.ports import free_ports

CLOCK = SystemClock()
ROUNDS = int(os.environ.get("KILL_ROUNDS", "1"))
NAMES = ("n1", "n2", "n3")


def _nodes(folder: Path, mode: str, secret: str) -> list[DemoNode]:
    """n1 - n2 - n3, linked over HTTP alone; the sender comes to n1 by BTP."""
    btp, http, ilp_http = (dict(zip(NAMES, free_ports(3), strict=True)) for _ in range(3))
    nodes = []
    for at, name in enumerate(NAMES):
        environment = {
            **INHERITED,
            "NODE_ID": name,
            "ILP_ADDRESS": f"g.{name}",
            "BTP_SERVER_PORT": str(btp[name]),
            "HTTP_PORT": str(http[name]),
            "ILP_HTTP_PORT": str(ilp_http[name]),
            "DATA_DIR": str(folder / name),
            "LOG_FORMAT": "json",
            "CREDIT_LIMIT": str(10**18),
        }
        if not at:
            environment["BTP_PEER_SENDER_SECRET"] = secret
        routes = []
        for beside, beyond in (
            (NAMES[max(at - 1, 0) : at], NAMES[:at]),
            (NAMES[at + 1 : at + 2], NAMES[at + 1 :]),
        ):
            for other in beside:
                prefix = f"BTP_PEER_{other.upper()}"
                environment[f"{prefix}_SECRET"] = "-".join(sorted((name, other)))
                environment[f"{prefix}_HTTP_MODE"] = mode
                environment[f"{prefix}_HTTP_URL"] = (
                    f"http://127.0.0.1:{ilp_http[other]}/accounts/{name}/ilp"
                )
                routes += [f"g.{one}={other}" for one in beyond]
        environment["ROUTES"] = ",".join(routes)
        nodes.append(DemoNode(name, btp[name], http[name], folder / name, environment))
    return nodes


@asynccontextmanager
async def _line(folder: Path, mode: str, secret: str) -> AsyncIterator[list[DemoNode]]:
    nodes = _nodes(folder, mode, secret)
    try:
        for node in nodes:
            await start(node)
        for node, links in zip(nodes, (1, 2, 1), strict=True):
            await wait_ready(node, links, CLOCK)
        yield nodes
    finally:
        await stop(nodes)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize("victim", [0, 1, 2], ids=["first", "middle", "last"])
async def test_books_are_exact_after_a_kill_under_load(
    tmp_path: Path, mode: str, victim: int
) -> None:
    secret = secrets.token_urlsafe(16)
    dice = random.Random(os.environ.get("KILL_SEED", str(secrets.randbits(32))))
    async with _line(tmp_path, mode, secret) as nodes:
        for _ in range(ROUNDS):
            sender = Sender(
                url=f"ws://127.0.0.1:{nodes[0].btp_port}",
                username="sender",
                token=secret,
                clock=CLOCK,
                log=structlog.get_logger(),
            )
            order = Order(destination="g.n3", amount=7, count=2000, window=100)
            under_load = asyncio.Event()

            def progress(report: Report, moment: int = dice.randrange(100, 1000)) -> None:
                if report.answered > moment:
                    under_load.set()  # noqa: B023 - this round's own

            async with asyncio.TaskGroup() as group:
                sending = group.create_task(sender.send(order, progress))
                await under_load.wait()
                node = nodes[victim]
                assert node.process is not None
                node.process.send_signal(signal.SIGKILL)
                await node.process.wait()
                # How long it is down is part of the case, not a wait for an event.
                await asyncio.sleep(dice.random())
                await start(node)
                await wait_ready(node, 2 if victim == 1 else 1, CLOCK)
                report = await sending
            assert report.answered == order.count, report
            assert report.fulfilled > 100, report
            assert report.rejected.keys() <= {"T00", "T01", "R00"}, report.messages
            await at_rest(nodes, CLOCK)
            reports = await asyncio.gather(
                *(audit(load(node.environment).settings, CLOCK) for node in nodes)
            )
            for one in reports:
                assert one.ok, one.checks
                assert one.pending == 0, f"{one.node_id} still holds {one.pending}"
            assert mirror_faults(reports, list(itertools.pairwise(NAMES))) == []
