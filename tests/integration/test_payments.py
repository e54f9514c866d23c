"""Payments by name: a wallet is paid through two nodes, and what both books say afterwards."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import httpx
import pytest

from connector import Fulfill, Reject
from connector.base.errors import ConflictError
from connector.node.payment_store import PaymentState
from connector.peering.model import LOCAL
from connector.stream.bounds import WINDOW_MAX
from tests.support.commands import Done, command
from tests.support.daemons import Daemon, RunningNodes, until
from tests.support.inherited import INHERITED

PAID: dict[str, Any] = {"pay_port": 0, "wallets": ["alice", "bob"]}


def url(node: Daemon, wallet: str = "alice") -> str:
    return f"http://127.0.0.1:{node.connector.pay_port}/pay/{wallet}"


def balance(node: Daemon, wallet: str = "alice") -> int:
    (found,) = [one for one in node.connector.views.wallets_view() if one["wallet"] == wallet]
    return int(found["balance"])


async def test_a_wallet_two_nodes_away_is_paid(tmp_path: Path) -> None:
    async with RunningNodes(tmp_path) as network:
        a, b, c = await network.chain("a", "b", "c", node={"c": PAID})
        result = await a.connector.pay(url(c), 5, key="one")
        assert (result.state, result.sent, result.delivered) == (PaymentState.COMPLETED, 5, 5)
        assert result.asset == "USD/9"
        assert (balance(c), balance(c, "bob")) == (5, 0)
        assert (a.net("b"), b.net("c"), c.net("b")) == (-5, -5, 5)
        # The same key: nothing is paid again, also by the process after this one.
        assert await a.connector.pay(url(c), 5, key="one") == result
        with pytest.raises(ConflictError):
            await a.connector.pay(url(c), 6, key="one")
        a = await network.restart("a")
        again = await a.connector.pay(result.target, 5, key="one")
        assert (again.state, again.sent, again.packets) == (PaymentState.COMPLETED, 5, 1)
        assert balance(c) == 5
        assert await network.stop() == []


async def test_a_payment_of_many_packets_delivers_every_unit(tmp_path: Path) -> None:
    async with RunningNodes(tmp_path) as network:
        limit = {"max_packet_amount": 700}
        a, _, c = await network.chain("a", "b", "c", node={"c": PAID}, peer={"b-a": limit})
        result = await a.connector.pay(url(c), 1_000_003, key="invoice 9")
        assert (result.sent, result.delivered) == (1_000_003, 1_000_003), result.reason
        assert result.packets >= 1429
        assert balance(c) == 1_000_003
        assert a.log.count("payment_ended", payment="invoice 9", state="completed") == 1
        assert await network.stop() == []


async def test_three_assets_on_the_way(tmp_path: Path) -> None:
    async with RunningNodes(tmp_path) as network:
        usd, eur, xrp = (
            {"asset_code": code, "asset_scale": scale}
            for code, scale in (("USD", 9), ("EUR", 6), ("XRP", 4))
        )
        rates = {
            ("USD", "EUR"): Fraction("0.9"),
            ("EUR", "XRP"): Fraction(2),
            ("XRP", "EUR"): Fraction(1, 2),
            ("EUR", "USD"): Fraction(1),
        }
        a, _, c = await network.chain(
            "a",
            "b",
            "c",
            node={"a": usd, "b": {**eur, "rates": rates}, "c": {**xrp, "rates": rates, **PAID}},
            peer={"a-b": usd, "b-a": {**usd, "max_packet_amount": 10**8}, "b-c": eur, "c-b": eur},
        )
        result = await a.connector.pay(url(c), 10**9)
        assert result.state is PaymentState.COMPLETED, result.reason
        assert result.asset == "XRP/4"
        assert result.delivered == balance(c)
        # 1 USD is 0.9 EUR is 1.8 XRP.
        assert 17_990 <= balance(c) <= 18_000
        assert await network.stop() == []


async def test_a_restart_of_the_receiver_loses_no_payment(tmp_path: Path) -> None:
    async with RunningNodes(tmp_path) as network:
        limit = {"max_packet_amount": 10}
        a, _, c = await network.chain("a", "b", "c", node={"c": PAID}, peer={"b-a": limit})
        async with asyncio.TaskGroup() as group:
            paying = group.create_task(a.connector.pay(url(c), 20_000, key="long"))
            async with asyncio.timeout(30):
                while balance(c) < 200:
                    await asyncio.sleep(0)
            c = await network.restart("c")
        result = paying.result()
        assert (result.state, result.sent) == (PaymentState.COMPLETED, 20_000), result.reason
        assert result.delivered == balance(c) == 20_000
        assert await network.stop() == []


async def test_a_stop_interrupts_a_payment_and_its_key_goes_on_with_it(tmp_path: Path) -> None:
    async with RunningNodes(tmp_path) as network:
        limit = {"max_packet_amount": 1}
        a, _, c = await network.chain("a", "b", "c", node={"c": PAID}, peer={"b-a": limit})
        async with asyncio.TaskGroup() as group:
            paying = group.create_task(a.connector.pay(url(c), 5000, key="long"))
            async with asyncio.timeout(30):
                while balance(c) < 50:
                    await asyncio.sleep(0)
            a = await network.restart("a")
        cut_off = paying.result()
        assert cut_off.state is PaymentState.INTERRUPTED
        assert 50 <= cut_off.sent < 5000
        result = await a.connector.pay(url(c), 5000, key="long")
        assert (result.state, result.sent, result.uncertain) == (PaymentState.COMPLETED, 5000, 0)
        assert result.delivered == balance(c) == 5000
        assert await network.stop() == []


async def test_ctrl_c_cancels_a_payment_and_shows_what_was_delivered(tmp_path: Path) -> None:
    async with RunningNodes(tmp_path) as network:
        a, _, c = await network.chain(
            "a", "b", "c", peer={"b-a": {"max_packet_amount": 1}},
            node={"c": PAID, "a": {"admin_api_key": "key-of-the-operator"}},
        )  # fmt: skip
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "connector", "pay", url(c), "--amount", "1000000", "--json",
            "--url", f"http://127.0.0.1:{a.connector.http_port}", "--key", "key-of-the-operator",
            "--idempotency-key", "invoice 7", "--min-delivered", "1000000", "--timeout", "600",
            env=INHERITED, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        await until(lambda: balance(c) >= 50)
        process.send_signal(signal.SIGINT)
        out, err = await process.communicate()
        assert out, err
        said = json.loads(out)
        assert (process.returncode, said["state"]) == (130, "failed"), err
        assert said["reason"] == "it was cancelled"
        assert said["minDelivered"] == "1000000"
        assert 50 <= int(said["sent"]) == int(said["delivered"]) == balance(c) < 1_000_000
        assert b"it was cancelled" in err
        assert await network.stop() == []


async def test_a_key_of_another_payment_is_wrong_for_good(tmp_path: Path) -> None:
    async with RunningNodes(tmp_path) as network:
        a, c = await network.chain(
            "a", "c", node={"c": PAID, "a": {"admin_api_key": "key-of-the-operator"}}
        )

        async def paid(amount: int) -> Done:
            return await asyncio.to_thread(
                command, "pay", url(c), "--amount", str(amount), "--key", "key-of-the-operator",
                "--idempotency-key", "invoice 7",
                "--url", f"http://127.0.0.1:{a.connector.http_port}",
            )  # fmt: skip

        assert (await paid(50)).code == 0
        assert (await paid(50)).code == 0
        other = await paid(51)
        assert (other.code, "is that of another payment" in other.err) == (2, True), other.err
        assert balance(c) == 50
        async with httpx.AsyncClient(trust_env=False) as client:
            answer = await client.post(
                f"http://127.0.0.1:{a.connector.http_port}/admin/payments",
                json={"target": url(c), "amount": "51", "key": "invoice 7"},
                headers={"Authorization": "Bearer key-of-the-operator"},
            )
        assert (answer.status_code, answer.json()["code"]) == (409, "key_reused")
        assert await network.stop() == []


@pytest.mark.slow
async def test_a_hundred_thousand_packets(tmp_path: Path) -> None:
    """Every unit arrives, progress is told, and what the payer remembers of it does not grow."""
    packets = 100_000
    async with RunningNodes(tmp_path) as network:
        a, _, c = await network.chain(
            "a", "b", "c", peer={"b-a": {"max_packet_amount": 3}}, node={"c": PAID}
        )
        paying = asyncio.create_task(a.connector.pay(url(c), 3 * packets, key="long"))
        told: list[tuple[int, int]] = []
        kept: list[int] = []
        while not paying.done():
            await asyncio.wait([paying], timeout=0.5)
            one = await a.connector._payments.find("long")
            told.append((one.sent, one.packets))
            connection = one.connection
            kept.append(0 if connection is None else len(connection.open))
            inbox = a.connector.core.driver._inboxes.get(LOCAL)
            assert len(inbox.open) <= WINDOW_MAX
            assert not inbox.keeps
            assert a.connector.core.driver.in_flight <= WINDOW_MAX + 1
            for run in a.connector._payments._running.values():
                assert run._machine is None or len(run._machine._open) <= WINDOW_MAX
        result = await paying
        assert (result.state, result.sent) == (PaymentState.COMPLETED, 3 * packets), result.reason
        assert result.delivered == balance(c) == 3 * packets
        assert result.packets == packets
        assert told == sorted(told)
        assert len({sent for sent, _ in told}) > 5
        assert max(kept) <= WINDOW_MAX
        stored = (tmp_path / "a" / "payments.db").stat().st_size
        assert stored < 1 << 20
        assert await network.stop() == []


@pytest.mark.parametrize("path", ["/pay/nobody", "/"])
async def test_nobody_there_to_be_paid(tmp_path: Path, path: str) -> None:
    async with RunningNodes(tmp_path) as network:
        (a,) = await network.chain("a", node={"a": PAID})
        target = f"http://127.0.0.1:{a.connector.pay_port}{path}x"
        result = await a.connector.pay(target, 5)
        assert (result.state, result.sent) == (PaymentState.FAILED, 0)
        assert "404" in result.reason
        assert await network.stop() == []


async def test_a_wallet_is_credited_less_the_fee_also_for_packets_resent_after_a_restart(
    tmp_path: Path,
) -> None:
    async with RunningNodes(tmp_path) as network:
        terms = {"b-a": {"max_packet_amount": 100}, "c-b": {"fee_basis_points": 100}}
        a, _, c = await network.chain("a", "b", "c", node={"c": PAID}, peer=terms)
        async with asyncio.TaskGroup() as group:
            paying = group.create_task(a.connector.pay(url(c), 100_000))
            async with asyncio.timeout(30):
                while balance(c) < 2000:
                    await asyncio.sleep(0)
            c = await network.restart("c")
        result = paying.result()
        assert (result.sent, result.delivered) == (100_000, 99_000), result.reason
        assert balance(c) == 99_000
        assert c.net("b") == 100_000
        assert await network.stop() == []


async def test_strangers_at_the_address_of_a_wallet(tmp_path: Path) -> None:
    """Without the secret nothing is taken; a ping is answered; what is no token is not ours."""
    async with RunningNodes(tmp_path) as network:
        a, c = await network.chain("a", "c", node={"c": PAID})
        wallets = c.connector.core.wallets
        assert wallets is not None
        invited = wallets.invite("alice", bytes(12))
        assert invited is not None
        for data in (b"", bytes(100)):
            answer = await a.connector.send(invited[0], 5, data=data, condition=bytes(32))
            assert isinstance(answer, Reject)
            assert (answer.code, answer.triggered_by, answer.data) == ("F06", "g.c", b"")
        assert isinstance(await a.connector.send(invited[0], 5), Fulfill)
        answer = await a.connector.send("g.c.no-token", 5, condition=bytes(32))
        assert isinstance(answer, Reject)
        assert answer.code == "F06"
        assert balance(c) == 0
        assert await network.stop() == []
