"""Settlements between whole nodes and an engine that misbehaves; nodes and engine are killed."""

from __future__ import annotations

import asyncio
import json
import secrets
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog
from pydantic import SecretStr

from connector import Fulfill, PeerSettings
from connector.base.clock import SystemClock
from connector.settings.load import load
from connector.settlement import bounds as settlement_bounds
from connector.settlement.store import FILE_NAME
from connector.tools.audit import audit
from connector.tools.demo import DemoNode, chain, start, stop, wait_ready
from connector.tools.sender import Order, Sender
from tests.support.commands import command
from tests.support.daemons import Daemon, RunningNodes, until
from tests.support.engine import EngineProcess
from tests.support.inherited import INHERITED
from tests.support.patience import PATIENCE_SECONDS
from tests.support.tigerbeetle_server import TigerBeetleServer

CLOCK = SystemClock()
SECRET = bytes(range(32))


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[EngineProcess]:
    engine = EngineProcess(tmp_path)
    yield engine
    engine.kill()


@asynccontextmanager
async def pair(
    tmp_path: Path, engine: EngineProcess, *, a: dict[str, Any] | None = None, **node: Any
) -> AsyncIterator[tuple[RunningNodes, Daemon, Daemon]]:
    """a, which settles above 100 with b by the engine, and b."""
    async with RunningNodes(tmp_path) as network:
        nodes = await network.chain(
            "a", "b",
            peer={"a-b": {"settle_threshold": 100, **(a or {})}},
            node={"a": {"settlement_engine_url": engine.url, **node}},
        )  # fmt: skip
        yield network, nodes[0], nodes[1]


async def pay(daemon: Daemon, amount: int) -> None:
    """A payment from a node itself, by way of nobody: its neighbour answers a ping."""
    assert isinstance(await daemon.connector.send("g.b", amount), Fulfill)


async def completed(daemon: Daemon, times: int = 1) -> None:
    await daemon.log.seen("settlement_completed", times=times)


async def assert_audit(daemon: Daemon) -> None:
    report = await audit(daemon.settings, CLOCK)
    assert report.ok, report.checks
    assert any("settlements" in name for name, _, _ in report.checks)


@pytest.mark.parametrize(
    "faults",
    [[], ["500"], ["500 after"], ["cut"], ["500", "cut", "500 after"]],
    ids=lambda faults: ", ".join(faults) or "well",
)
async def test_an_engine_that_fails_pays_once(
    tmp_path: Path, engine: EngineProcess, faults: list[str]
) -> None:
    engine.fail(*faults)
    engine.start()
    async with pair(tmp_path, engine) as (_, a, _b):
        await until(lambda: engine.state["accounts"] == ["b"])
        await pay(a, 150)
        await completed(a)
        assert engine.paid == [("b", "150", 9)]
        assert len(set(engine.state["asked"])) == 1
        assert len(engine.state["asked"]) == len(faults) + 1
        assert a.net("b") == 0
        assert a.log.count("settlement_failed") == len(faults)
        await a.stop()
        await assert_audit(a)


async def test_an_engine_that_is_down_is_asked_when_it_is_up(
    tmp_path: Path, engine: EngineProcess
) -> None:
    async with pair(tmp_path, engine) as (_, a, _b):
        await pay(a, 150)
        await a.log.seen("settlement_failed", times=2)
        assert a.net("b") == 0, "booked before the engine is asked"
        (account,) = a.connector.views.accounts_view()
        assert account["settlementState"] == "IN_PROGRESS"
        engine.start()
        await completed(a)
        assert engine.paid == [("b", "150", 9)]
        (account,) = a.connector.views.accounts_view()
        assert account["settlementState"] == "IDLE"
        metrics = a.connector.views.metrics(money=False).decode()
        assert 'settlements_total{peer="b",result="completed"} 1.0' in metrics


@pytest.mark.parametrize("fault", ["die before", "die"])
async def test_the_engine_killed_in_the_middle_and_everything_restarted(
    tmp_path: Path, engine: EngineProcess, fault: str
) -> None:
    """Settled exactly once, whether the engine had taken the order when it died or not."""
    engine.fail(fault)
    engine.start()
    async with pair(tmp_path, engine) as (network, before, _):
        await pay(before, 150)
        await until(lambda: not engine.is_running)
        await before.log.seen("settlement_failed")
        await network.restart("b")
        a = await network.restart("a")
        assert a.log.count("settlement_resumed") == 1
        engine.start()
        await completed(a)
        assert engine.paid == [("b", "150", 9)]
        assert len(set(engine.state["asked"])) == 1
        assert a.net("b") == 0
        await a.stop()
        await assert_audit(a)


async def test_an_engine_that_is_too_slow_is_asked_again(
    tmp_path: Path, engine: EngineProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settlement_bounds, "SETTLEMENT_ENGINE_SECONDS_MAX", 1.0)
    engine.fail("slow")
    engine.start()
    async with pair(tmp_path, engine) as (_, a, _b):
        await pay(a, 150)
        await a.log.seen("settlement_failed", reason="no answer within 1 s")
        await completed(a)
        assert engine.paid == [("b", "150", 9)]


async def test_an_engine_of_a_coarser_scale_leaves_the_rest_owed(
    tmp_path: Path, engine: EngineProcess
) -> None:
    engine.start()
    async with pair(tmp_path, engine, a={"settlement_engine_scale": 7}) as (_, a, _b):
        await pay(a, 1234)
        await completed(a)
        assert (engine.paid, a.net("b")) == ([("b", "12", 7)], -34)


# --- what comes in


def client_of(daemon: Daemon, token: str | None = None) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{daemon.connector.http_port}",
        headers={"authorization": f"Bearer {token}"} if token else {},
        trust_env=False,
        verify=False,
        timeout=PATIENCE_SECONDS,
    )


async def test_an_engine_tells_a_payment_twice_and_in_a_wrong_scale(
    tmp_path: Path, engine: EngineProcess
) -> None:
    async with pair(tmp_path, engine) as (network, before, _):
        async with client_of(before) as client:
            path = "/settlement/accounts/b/settlements"
            headers = {"idempotency-key": "theirs"}
            for _attempt in range(3):
                answer = await client.post(path, json={"amount": "5", "scale": 9}, headers=headers)
                assert answer.status_code == 201
            wrong = await client.post(
                path, json={"amount": "5", "scale": 300}, headers={"idempotency-key": "wrong"}
            )
            assert wrong.status_code == 422
            fine = {"amount": "12345678901", "scale": 18}
            for number in range(2):
                answer = await client.post(
                    path, json=fine, headers={"idempotency-key": f"fine {number}"}
                )
                assert answer.status_code == 201
        assert before.net("b") == -5 - 24, (
            "12.345678901 twice: the halves that are kept make a unit"
        )
        a = await network.restart("a")
        async with client_of(a) as client:
            await client.post(path, json={"amount": "5", "scale": 9}, headers=headers)
            await client.post(
                path,
                json={"amount": "4", "scale": 10},
                headers=headers | {"idempotency-key": "last"},
            )
        assert a.net("b") == -5 - 25, "the remainder outlives a restart"
        await a.stop()
        await assert_audit(a)


async def test_engines_talk_to_each_other_through_their_connectors(
    tmp_path: Path, engine: EngineProcess
) -> None:
    """From a's engine to a, over BTP to b, to b's engine, and back."""
    engine.start()
    token = SecretStr("for-engines-only")
    async with RunningNodes(tmp_path) as network:
        a, b = await network.chain(
            "a", "b",
            node={
                "a": {"settlement_token": token},
                "b": {"settlement_engine_url": engine.url},
            },
        )  # fmt: skip
        headers = {"content-type": "application/octet-stream"}
        path = "/settlement/accounts/b/messages"
        async with client_of(a) as stranger:
            assert (await stranger.post(path, content=b"x", headers=headers)).status_code == 401
        async with client_of(a, token.get_secret_value()) as client:
            answer = await client.post(path, content=b"\x00hello", headers=headers)
            assert (answer.status_code, answer.content) == (201, b"heard \x00hello")
            engine.kill()
            answer = await client.post(path, content=b"hello", headers=headers)
            assert (answer.status_code, "T00" in answer.text) == (502, True)
        async with client_of(b) as client:
            answer = await client.post(
                "/settlement/accounts/a/messages", content=b"hello", headers=headers
            )
            assert (answer.status_code, "F00" in answer.text) == (400, True)


# --- processes


def environment() -> dict[str, str]:
    return dict(INHERITED)


@asynccontextmanager
async def processes(
    tmp_path: Path, engine: EngineProcess, sender: str, extra: dict[str, str]
) -> AsyncIterator[list[DemoNode]]:
    nodes = chain(2, tmp_path, {**environment(), **extra}, sender)
    nodes[0].environment.update(
        {
            "SETTLEMENT_ENGINE_URL": engine.url,
            "BTP_PEER_PEER2_SETTLE_THRESHOLD": "100",
            "ADMIN_API_KEY": "k",
            # Who is killed again and again dials: the other one would take longer each time.
            "BTP_PEER_PEER2_URL": f"ws://127.0.0.1:{nodes[1].btp_port}",
        }
    )
    del nodes[1].environment["BTP_PEER_PEER1_URL"]
    try:
        for node in nodes:
            await start(node)
        for node in nodes:
            await wait_ready(node, 1, CLOCK)
        yield nodes
    finally:
        await stop(nodes)


async def send(node: DemoNode, token: str, amount: int) -> None:
    sender = Sender(
        url=f"ws://127.0.0.1:{node.btp_port}", username="sender", token=token, clock=CLOCK,
        log=structlog.get_logger(),
    )  # fmt: skip
    report = await sender.send(Order(destination="g.peer2", amount=amount), lambda _: None)
    assert report.fulfilled == 1


async def account(node: DemoNode) -> dict[str, Any]:
    async with httpx.AsyncClient(timeout=PATIENCE_SECONDS, trust_env=False, verify=False) as client:
        items = (await client.get(f"{node.url}/api/accounts")).json()["items"]
    return next(item for item in items if item["peerId"] == "peer2")


async def eventually(check: Callable[[dict[str, Any]], bool], node: DemoNode) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            try:
                if check(await account(node)):
                    return
            except httpx.HTTPError:
                pass
            await asyncio.sleep(0.05)


MOMENTS = (("500", 0.0), ("die", 0.0), ("cut", 0.3), ("die before", 0.5), ("", 0.7))
"""What the engine does, and how many seconds later the connector is killed."""


async def killed_in_the_middle(
    tmp_path: Path,
    engine: EngineProcess,
    extra: dict[str, str],
    moments: tuple[tuple[str, float], ...] = MOMENTS,
) -> None:
    """kill -9 of the connector at several moments of a settlement, and of the engine with it."""
    token = secrets.token_urlsafe(12)
    async with processes(tmp_path, engine, token, extra) as nodes:
        node = nodes[0]
        total = 0
        for number, (fault, pause_s) in enumerate(moments):
            engine.fail(*([fault] if fault else []))
            engine.start()
            amount = 1000 + number
            total += amount
            await send(node, token, amount)
            asked = len(engine.state["asked"])
            if fault:
                async with asyncio.timeout(PATIENCE_SECONDS):
                    while len(engine.state["asked"]) == asked:
                        await asyncio.sleep(0.002)
            await asyncio.sleep(pause_s)  # the moment is part of the case
            assert node.process is not None
            node.process.send_signal(signal.SIGKILL)
            await node.process.wait()
            engine.kill()
            await start(node)
            await wait_ready(node, 0, CLOCK)
            engine.start()
            await eventually(
                lambda item: item["netBalance"] == "0" and item["settlementState"] == "IDLE",
                node,
            )
            await wait_ready(node, 1, CLOCK)
            assert sum(int(amount) for _, amount, _ in engine.paid) == total, engine.state
            engine.kill()
        assert len(engine.paid) == len(moments)
        await stop(nodes)
        report = await audit(load(node.environment).settings, CLOCK)
        assert report.ok, report.checks
        assert (node.data_dir / FILE_NAME).is_file()


@pytest.mark.slow
async def test_killed_in_the_middle_it_is_settled_exactly_once(
    tmp_path: Path, engine: EngineProcess
) -> None:
    await killed_in_the_middle(tmp_path, engine, {})


@pytest.mark.slow
@pytest.mark.tigerbeetle
async def test_killed_in_the_middle_it_is_settled_exactly_once_in_tigerbeetle(
    tmp_path: Path, engine: EngineProcess, tigerbeetle_server: TigerBeetleServer
) -> None:
    suffix = secrets.token_hex(4)
    await killed_in_the_middle(
        tmp_path,
        engine,
        {
            "TIGERBEETLE_CLUSTER_ID": str(tigerbeetle_server.cluster_id),
            "TIGERBEETLE_REPLICAS": tigerbeetle_server.address,
            "ASSET_CODE": f"T{suffix}",
        },
        MOMENTS[1:4],
    )


async def test_the_settle_command_records_pays_confirms_and_lists(tmp_path: Path) -> None:
    """Against a node whose operator settles by hand."""
    async with RunningNodes(tmp_path) as network:
        a, _ = await network.chain(
            "a", "b",
            peer={"a-b": {"settle_threshold": 100}},
            node={"a": {"admin_api_key": SecretStr("k")}},
        )  # fmt: skip
        url = f"http://127.0.0.1:{a.connector.http_port}"

        async def settle(*arguments: str) -> tuple[int, str]:
            done = await asyncio.to_thread(
                command, "settle", *arguments, "--url", url, "--key", "k"
            )
            return done.code, done.out + done.err

        await pay(a, 150)
        await a.log.seen("settlement_awaits_operator")
        code, said = await settle()
        assert code == 0
        assert "booked" in said
        code, said = await settle("b", "--confirm")
        assert (code, "completed" in said) == (0, True), said
        assert said.endswith("balance with b: even\n")
        assert await settle("b", "--confirm") == (
            1, "connector: no settlement with b is in progress\n",
        )  # fmt: skip
        assert (await settle("b", "--incoming", "30", "--idempotency-key", "x"))[0] == 0
        assert (await settle("b", "--incoming", "30", "--idempotency-key", "x"))[0] == 0
        assert a.net("b") == -30
        code, said = await settle("b", "--incoming", "5", "--idempotency-key", "x", "--yes")
        assert (code, "Idempotency-Key was used for incoming 30" in said) == (2, True), said
        code, said = await settle("b", "--outgoing", "40")
        assert code == 2
        assert "balance with b: we owe 30; after this: owes us 10" in said
        assert a.net("b") == -30
        code, said = await settle("b", "--outgoing", "20")
        assert (code, "balance with b: we owe 10\n" in said) == (0, True), said
        code, said = await settle("b", "--pay")
        assert code == 0
        assert "outgoing settlement of 10 with b: booked (" in said
        assert "now pay b 10 " in said
        assert "settle b --confirm" in said
        await a.log.seen("settlement_awaits_operator", times=2)
        assert (await settle("b", "--cancel"))[0] == 0
        assert a.net("b") == -10
        code, said = await settle("nobody", "--incoming", "1")
        assert (code, said) == (2, "connector: there is no peer nobody\n")
        code, said = await settle("b", "--incoming", "1", "--pay")
        assert (code, "exclude each other" in said) == (2, True)
        await a.stop()
        await assert_audit(a)


async def test_a_payment_beyond_the_bound_waits_over_a_restart_until_an_operator_accepts_it(
    tmp_path: Path,
) -> None:
    async with RunningNodes(tmp_path) as network:
        a, _ = await network.chain(
            "a", "b",
            peer={"a-b": {"max_prepaid": 100, "settlement_token": SecretStr("of-b")}},
            node={"a": {"admin_api_key": SecretStr("k"), "settlement_token": SecretStr("of-all")}},
        )  # fmt: skip
        path = "/settlement/accounts/b/settlements"

        async def tell(daemon: Daemon, amount: str, token: str = "of-b") -> int:
            async with client_of(daemon, token) as client:
                body, headers = {"amount": amount, "scale": 9}, {"idempotency-key": amount}
                return (await client.post(path, json=body, headers=headers)).status_code

        async def settle(daemon: Daemon, *arguments: str) -> tuple[int, str]:
            url = f"http://127.0.0.1:{daemon.connector.http_port}"
            done = await asyncio.to_thread(
                command, "settle", *arguments, "--url", url, "--key", "k"
            )
            return done.code, done.out + done.err

        assert await tell(a, "101", "of-all") == 401, "b has a token of its own"
        assert [await tell(a, amount) for amount in ("100", "101", "102")] == [201, 202, 202]
        await a.log.seen("settlement_waits_for_operator", times=2)
        assert a.connector.views.status()["settlementsWaiting"] == 2
        (account,) = a.connector.views.accounts_view()
        assert (account["settlementState"], account["settlementsWaiting"]) == ("IDLE", 2)
        assert account["settlementsWaitingAmount"] == "203"
        assert b'settlements_waiting{peer="b"} 2.0' in a.connector.views.metrics(money=False)
        a = await network.restart("a")
        await a.log.seen("settlement_waits_for_operator", times=2)
        assert (await tell(a, "101"), a.net("b")) == (202, -100)
        code, said = await settle(a, "b", "--accept")
        assert (code, "2 settlements with b are waiting" in said) == (1, True), said
        code, listed = await settle(a, "b", "--json")
        one, other = (
            next(
                one["settlementId"] for one in json.loads(listed)["items"] if one["amount"] == want
            )
            for want in ("101", "102")
        )
        code, said = await settle(a, "b", "--accept", "--id", one)
        assert (code, "balance with b: we owe 201\n" in said) == (0, True), said
        code, said = await settle(a, "b", "--decline")
        assert (code, f"102 with b: declined ({other})" in said) == (0, True), said
        assert [await tell(a, amount) for amount in ("101", "102")] == [201, 409]
        assert a.net("b") == -201
        assert a.connector.views.status()["settlementsWaiting"] == 0
        (account,) = a.connector.views.accounts_view()
        assert account["settlementsWaitingAmount"] == "0"
        assert "of-b" not in str(a.log.events)
        await a.stop()
        await assert_audit(a)


async def test_the_audit_finds_a_settlement_that_nobody_noted(tmp_path: Path) -> None:
    async with RunningNodes(tmp_path) as network:
        a = await network.add("a", [PeerSettings(id="b", secret=SecretStr("s"))])
        await a.connector.accounts.record_settlement("b", 99, 7, outgoing=False, tag=0)
        await a.stop()
        report = await audit(a.settings, CLOCK)
        faults = [(name, text) for name, holds, text in report.checks if not holds]
        assert faults == [
            (
                "peer b: settlements in the ledger = settlements noted",
                "ledger: paid 0, received 7; noted: paid 0, received 0",
            )
        ]
        (tmp_path / "a" / FILE_NAME).unlink()
        report = await audit(a.settings, CLOCK)
        assert [text for _, holds, text in report.checks if not holds] == [
            f"{FILE_NAME} is missing: paid 0, received 7"
        ]
