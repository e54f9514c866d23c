"""A new data file under the same cluster id is refused: it is not the ledger of before."""

from __future__ import annotations

import asyncio
import random
import secrets
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from connector import Fulfill, Reject
from connector.accounting.manager import State
from connector.settings.load import load
from connector.tools.audit import audit
from connector.tools.demo import DemoNode, chain, start, wait_ready
from connector.tools.sender import Order, Sender
from tests.support.daemons import CLOCK, Daemon, RunningNodes, until
from tests.support.inherited import INHERITED
from tests.support.patience import PATIENCE_SECONDS
from tests.support.tigerbeetle_server import TigerBeetleServer

pytestmark = [pytest.mark.tigerbeetle, pytest.mark.slow]
CHECK = "ledger has all that it acknowledged"


@pytest.fixture
def server(fragile_server: TigerBeetleServer) -> Iterator[TigerBeetleServer]:
    """The server, which has its own file again when the test ends."""
    yield fragile_server
    if (fragile_server.folder / "own data").exists():
        fragile_server.put_data_back()


async def ended(node: DemoNode) -> int:
    assert node.process is not None
    async with asyncio.timeout(PATIENCE_SECONDS):
        return await node.process.wait()


async def stop(node: DemoNode) -> None:
    assert node.process is not None
    node.process.send_signal(signal.SIGTERM)
    assert await ended(node) == 0


async def pay(node: DemoNode, secret: str, count: int) -> None:
    url = f"ws://127.0.0.1:{node.btp_port}"
    log = structlog.get_logger()
    sender = Sender(url=url, username="sender", token=secret, clock=CLOCK, log=log)
    report = await sender.send(Order(destination="g.peer1", amount=7, count=count, window=5))
    assert report.fulfilled == count, report


async def checked(node: DemoNode) -> tuple[bool, str]:
    report = await audit(load(node.environment).settings, CLOCK)
    return next((holds, details) for name, holds, details in report.checks if name == CHECK)


async def test_between_two_runs_it_is_refused_until_the_loss_is_accepted(
    server: TigerBeetleServer, tmp_path: Path
) -> None:
    secret = secrets.token_urlsafe(16)
    (node,) = chain(1, tmp_path, INHERITED, secret)
    node.environment |= {
        "TIGERBEETLE_CLUSTER_ID": str(server.cluster_id),
        "TIGERBEETLE_REPLICAS": server.address,
        "ASSET_CODE": f"T{secrets.token_hex(4)}",
    }
    await start(node)
    await wait_ready(node, 0, CLOCK)
    await pay(node, secret, 10)
    await stop(node)
    assert (await checked(node))[0]

    server.replace_data()
    log = node.data_dir / "connector.log"
    before = log.read_text("utf-8")
    await start(node)
    assert await ended(node) == 2
    said = log.read_text("utf-8")[len(before) :]
    assert "the ledger does not have what it has acknowledged" in said
    assert "is not there" in said
    assert "--accept-ledger-loss" in said
    holds, details = await checked(node)
    assert not holds
    assert "remembered in outbox.db; the ledger is behind" in details
    assert "peer of sender" in details
    # Nothing was made in it.
    report = await audit(load(node.environment).settings, CLOCK)
    assert ("accounts found", False, "this node has no accounts yet") in report.checks

    server.put_data_back()
    await start(node)
    await wait_ready(node, 0, CLOCK)
    await pay(node, secret, 1)
    await stop(node)
    assert (await checked(node))[0]

    server.replace_data()
    node.process = await asyncio.create_subprocess_exec(
        *_command("--accept-ledger-loss"), env=node.environment, stdin=asyncio.subprocess.DEVNULL
    )
    await wait_ready(node, 0, CLOCK)
    await pay(node, secret, 1)
    await stop(node)
    # From now on this is the one.
    await start(node)
    await wait_ready(node, 0, CLOCK)
    await stop(node)
    report = await audit(load(node.environment).settings, CLOCK)
    assert report.ok, report.checks
    assert report.peers[0]["netBalance"] == "7"


def _command(*options: str) -> list[str]:
    return [sys.executable, "-m", "connector", "run", *options]


@pytest.mark.parametrize("policy", ["spool", "reject"])
async def test_while_the_node_runs_nothing_is_taken_until_the_right_one_is_there(
    server: TigerBeetleServer, tmp_path: Path, policy: str
) -> None:
    names = [f"{name}{random.getrandbits(40):x}" for name in "ab"]
    cluster = {
        "tigerbeetle_cluster_id": server.cluster_id,
        "tigerbeetle_replicas": server.address,
        "accounting_outage_policy": policy,
        "credit_limit": 10**9,
    }
    async with RunningNodes(tmp_path) as network:
        nodes = await network.chain(*names, node=dict.fromkeys(names, cluster), at_once=True)
        await until(lambda: all(_state(node) is State.AVAILABLE for node in nodes))
        assert isinstance(await _send(nodes), Fulfill)
        for node in nodes:
            await node.connector.accounts.remember_acknowledged()

        server.replace_data()
        await until(lambda: all(node.log.count("ledger_behind") for node in nodes))
        for node in nodes:
            accounts = node.connector.accounts
            assert accounts.state is State.REJECTING
            assert "does not have what it has acknowledged" in accounts.state_reason
        answer = await _send(nodes)
        assert isinstance(answer, Reject)
        assert answer.code == "T00"
        # Limits are not granted in it either.
        await asyncio.sleep(2)
        assert [node.log.count("ledger_behind") for node in nodes] == [1, 1]

        server.put_data_back()
        try:
            await until(lambda: all(_state(node) is State.AVAILABLE for node in nodes))
        except TimeoutError:
            reasons = [node.connector.accounts.state_reason for node in nodes]
            raise AssertionError(f"not back: {reasons}") from None
        assert isinstance(await _send(nodes), Fulfill)
        assert nodes[1].net(names[0]) == 10
        assert await network.stop() == []


def _state(node: Daemon) -> State:
    return node.connector.accounts.state


async def _send(nodes: list[Daemon]) -> Fulfill | Reject:
    return await nodes[0].connector.send(nodes[1].connector.node.address, 5)
