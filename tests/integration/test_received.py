"""Being paid: data of payers is decided about, and what has come in is told."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import urllib.request
from pathlib import Path
from typing import Any

import httpx
import pytest

from connector import Connector, Decision, Fulfill, PaymentData, Reject
from connector.base.backoff import Backoff
from connector.node import bounds, received
from connector.node.payment_store import PaymentState
from connector.node.received import ReceivedPayments
from connector.stream.crypto import Keys
from connector.stream.packet import (
    ConnectionClose,
    Frame,
    StreamClose,
    StreamData,
    StreamMoney,
    StreamPacket,
    decode,
    encode,
)
from tests.support.admin import KEY, Operator
from tests.support.daemons import Daemon, RunningNodes
from tests.support.outside_http import FakeNetwork

PAID: dict[str, Any] = {"pay_port": 0, "wallets": ["alice", "bob"]}


class Payer:
    """Pays a wallet packet by packet, from a node, with the frames that a test wants."""

    def __init__(self, node: Connector, destination: str, secret: bytes) -> None:
        self.node = node
        self.destination = destination
        self.keys = Keys(secret)
        self.sequence = 0

    @classmethod
    async def meet(cls, node: Connector, url: str) -> Payer:
        """Ask the listener for payment pointers."""
        body = json.loads(await asyncio.to_thread(lambda: urllib.request.urlopen(url).read()))
        secret = base64.b64decode(body["shared_secret"])
        return cls(node, body["destination_account"], secret)

    async def send(self, amount: int, *frames: Frame) -> Fulfill | Reject:
        self.sequence += 1
        data = self.keys.seal(encode(StreamPacket(self.sequence, 12, 0, frames)))
        answer = await self.node.send(
            self.destination, amount, data=data, condition=self.keys.condition(data)
        )
        assert isinstance(answer, Fulfill | Reject)
        return answer

    async def close(self) -> Fulfill | Reject:
        return await self.send(0, StreamClose(1, 1, ""), ConnectionClose(1, ""))

    def read(self, answer: Fulfill | Reject) -> StreamPacket:
        plain = self.keys.open(answer.data)
        assert plain is not None
        return decode(plain)


def url(node: Daemon, wallet: str = "alice") -> str:
    return f"http://127.0.0.1:{node.connector.pay_port}/pay/{wallet}"


def wallet(node: Daemon, name: str = "alice") -> dict[str, Any]:
    (found,) = [one for one in node.connector.views.wallets_view() if one["wallet"] == name]
    return found


async def test_data_is_accepted_or_declined_and_a_declined_packet_books_nothing(
    tmp_path: Path,
) -> None:
    asked: list[PaymentData] = []

    async def decide(one: PaymentData) -> Decision:
        asked.append(one)
        return Decision(b"rent" in one.pieces[0].data, "not for that")

    async with RunningNodes(tmp_path) as network:
        a, _, c = await network.chain("a", "b", "c", node={"c": PAID})
        c.connector.on_payment_data(decide)
        good = await Payer.meet(a.connector, url(c))
        answer = await good.send(5, StreamMoney(1, 1), StreamData(1, 0, b"rent of May"))
        assert isinstance(answer, Fulfill)
        assert isinstance(await good.send(5, StreamMoney(1, 1)), Fulfill)
        bad = await Payer.meet(a.connector, url(c))
        refused = await bad.send(7, StreamMoney(1, 1), StreamData(1, 0, b"arms"))
        assert isinstance(refused, Reject)
        assert refused.code == "F99"
        assert StreamData(1, 0, b"not for that") in bad.read(refused).frames
        # The connection is over: also a packet without data is refused.
        assert isinstance(await bad.send(7, StreamMoney(1, 1)), Reject)
        assert [(one.wallet, one.amount) for one in asked] == [("alice", 5), ("alice", 7)]
        assert len({one.payment_id for one in asked}) == 2
        found = wallet(c)
        assert (found["balance"], found["pending"]) == ("10", "0")
        assert (a.net("b"), c.net("b")) == (-10, 10)
        assert await network.stop() == []


async def test_nothing_is_held_while_a_question_is_open_and_silence_is_temporary(
    tmp_path: Path,
) -> None:
    came, gate = asyncio.Event(), asyncio.Event()

    async def decide(_one: PaymentData) -> bool:
        came.set()
        await gate.wait()
        raise RuntimeError("nobody knows")

    async with RunningNodes(tmp_path) as network:
        a, _, c = await network.chain("a", "b", "c", node={"c": PAID})
        c.connector.on_payment_data(decide)
        payer = await Payer.meet(a.connector, url(c))
        async with asyncio.TaskGroup() as group:
            sending = group.create_task(payer.send(5, StreamMoney(1, 1), StreamData(1, 0, b"rent")))
            await came.wait()
            assert wallet(c)["pending"] == "0"
            assert c.connector.driver.in_flight == 1
            gate.set()
        answer = sending.result()
        assert isinstance(answer, Reject)
        assert answer.code == "T00"
        assert c.connector.driver.in_flight == 0
        assert wallet(c)["balance"] == "0"
        assert await network.stop() == []


# --- what has come in


class Application:
    """Takes the webhook, as an application does."""

    def __init__(self) -> None:
        self.fails = 0
        """So many requests are refused first."""
        self.came: asyncio.Queue[tuple[dict[str, Any], dict[str, str], bytes]] = asyncio.Queue()

    def answer(self, request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        self.came.put_nowait((body, dict(request.headers), request.content))
        self.fails -= 1
        return httpx.Response(503 if self.fails >= 0 else 204)


@pytest.fixture
def application(monkeypatch: pytest.MonkeyPatch) -> Application:
    """Instead of the network of webhooks. The pauses between attempts are short."""
    one = Application()
    made = ReceivedPayments.__init__

    def init(self: ReceivedPayments, *arguments: Any, **others: Any) -> None:
        made(self, *arguments, **others, transport=FakeNetwork(one.answer))

    monkeypatch.setattr(ReceivedPayments, "__init__", init)
    monkeypatch.setattr(received, "_PAUSE", Backoff(min_s=0.01, max_s=0.02))
    return one


HOOK = {**PAID, "pay_webhook_url": "http://application/paid", "admin_api_key": KEY}


async def test_a_payment_is_told_once_it_is_closed_signed_and_again_until_it_is_taken(
    tmp_path: Path, application: Application
) -> None:
    application.fails = 2
    async with RunningNodes(tmp_path) as network:
        a, _, c = await network.chain(
            "a", "b", "c", node={"c": {**HOOK, "pay_webhook_secret": "sign"}}
        )
        result = await a.connector.pay(url(c), 12_345)
        assert result.state is PaymentState.COMPLETED, result.reason
        async with asyncio.timeout(20):
            told = [await application.came.get() for _ in range(3)]
        body, headers, content = told[0]
        assert [one[0] for one in told] == [body] * 3
        assert {key: body[key] for key in ("type", "wallet", "amount", "atLeast", "ended")} == {
            "type": "payment.received",
            "wallet": "alice",
            "amount": "12345",
            "atLeast": False,
            "ended": "closed",
        }
        assert body["packets"] == result.packets
        assert headers["idempotency-key"] == body["id"]
        at, signature = headers["connector-signature"].removeprefix("t=").split(",v1=")
        signed = hmac.digest(b"sign", f"{at}.".encode() + content, "sha256").hex()
        assert signature == signed
        operator = Operator(c)
        async with asyncio.timeout(20):
            while (found := (await operator.get("/api/wallets/payments"))["items"][0])[
                "webhook"
            ] != "told":
                await asyncio.sleep(0)
        assert (found["id"], found["amount"], found["webhookAttempts"]) == (body["id"], "12345", 3)
        # An operator has it told again, under the same id.
        again = await operator.ask("POST", f"/admin/wallets/payments/{body['id']}/tell")
        assert again.status_code == 202
        async with asyncio.timeout(20):
            assert (await application.came.get())[0] == body
        assert await network.stop() == []


async def test_a_payment_goes_on_over_a_restart_and_waiting_ones_are_told_after_it(
    tmp_path: Path, application: Application
) -> None:
    application.fails = 1 << 30
    async with RunningNodes(tmp_path) as network:
        a, _, c = await network.chain("a", "b", "c", node={"c": HOOK})
        payer = await Payer.meet(a.connector, url(c, "bob"))
        assert isinstance(await payer.send(5, StreamMoney(1, 1)), Fulfill)
        other = await Payer.meet(a.connector, url(c))
        assert isinstance(await other.send(7, StreamMoney(1, 1)), Fulfill)
        await other.close()
        async with asyncio.timeout(20):
            refused, _, _ = await application.came.get()
        c = await network.restart("c")
        assert isinstance(await payer.send(6, StreamMoney(1, 1)), Fulfill)
        await payer.close()
        application.fails = 0
        told: dict[str, dict[str, Any]] = {}
        async with asyncio.timeout(20):
            while len(told) < 2 or application.fails >= 0:
                body, _, _ = await application.came.get()
                told[body["id"]] = body
        assert refused["id"] in told
        assert {(one["wallet"], one["amount"], one["packets"]) for one in told.values()} == {
            ("bob", "11", 2),
            ("alice", "7", 1),
        }
        assert not any(one["atLeast"] for one in told.values())
        assert (wallet(c)["balance"], wallet(c, "bob")["balance"]) == ("7", "11")
        assert await network.stop() == []


async def test_dead_letters_are_shown_and_payments_in_and_out_come_in_pages(
    tmp_path: Path, application: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounds, "WEBHOOK_ATTEMPTS_MAX", 2)
    application.fails = 1 << 30
    async with RunningNodes(tmp_path) as network:
        a, c = await network.chain("a", "c", node={"c": HOOK, "a": {"admin_api_key": KEY}})
        for amount in (1, 2, 3):
            await a.connector.pay(url(c), amount, key=f"number {amount}")
        operator = Operator(c)
        async with asyncio.timeout(20):
            while (found := await operator.get("/api/wallets/payments?webhook=dead"))[
                "webhooksDead"
            ] != 3:
                await asyncio.sleep(0)
        assert [one["webhookFault"] for one in found["items"]] == ["the answer is HTTP 503"] * 3
        assert {one["webhookAttempts"] for one in found["items"]} == {2}
        first = await operator.get("/api/wallets/payments?limit=2")
        rest = await operator.get(f"/api/wallets/payments?limit=2&cursor={first['next']}")
        amounts = [one["amount"] for one in first["items"] + rest["items"]]
        assert (amounts, rest["next"]) == (["3", "2", "1"], None)
        assert (await operator.get("/api/wallets/payments?wallet=bob"))["items"] == []
        assert b'ilp_webhooks{state="dead"} 3.0' in c.connector.views.metrics(money=True)
        out = await Operator(a).get("/api/payments?limit=2")
        assert [(one["key"], one["sent"]) for one in out["items"]] == [
            ("number 3", "3"),
            ("number 2", "2"),
        ]
        out = await Operator(a).get(f"/api/payments?cursor={out['next']}")
        assert [one["key"] for one in out["items"]] == ["number 1"]
        assert await network.stop() == []


async def test_without_wallets_nothing_has_come_in(tmp_path: Path) -> None:
    async with RunningNodes(tmp_path) as network:
        (a,) = await network.chain("a", node={"a": {"admin_api_key": KEY}})
        operator = Operator(a)
        assert (await operator.get("/api/wallets/payments"))["items"] == []
        answer = await operator.ask("POST", "/admin/wallets/payments/x/tell")
        assert answer.status_code in (404, 405)
        assert not (tmp_path / "a" / "received.db").exists()
        assert await network.stop() == []


async def test_a_file_that_cannot_be_used_stops_no_payment_and_is_tried_again(
    tmp_path: Path, application: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounds, "RECEIVED_FAULT_SECONDS", 0.05)
    file = tmp_path / "c" / "received.db"
    file.parent.mkdir()
    file.write_bytes(b"no database" * 1000)
    async with RunningNodes(tmp_path) as network:
        a, c = await network.chain("a", "c", node={"c": HOOK})
        assert (await a.connector.pay(url(c), 5)).sent == 5
        assert (await Operator(c).ask("GET", "/api/wallets/payments")).status_code == 503
        file.unlink()
        async with asyncio.timeout(20):
            body, _, _ = await application.came.get()
        assert (body["amount"], wallet(c)["balance"]) == ("5", "5")
        assert await network.stop() == []


# --- what the payer has in hand


async def test_the_payer_keeps_what_the_receiver_has_reported_also_over_a_restart(
    tmp_path: Path,
) -> None:
    async with RunningNodes(tmp_path) as network:
        limit = {"max_packet_amount": 1000}
        a, _, c = await network.chain(
            "a", "b", "c", node={"a": {"admin_api_key": KEY}, "c": PAID}, peer={"b-a": limit}
        )
        result = await a.connector.pay(url(c), 100_000, key="one")
        assert result.state is PaymentState.COMPLETED, result.reason
        proof = result.proof
        assert proof.acknowledged == result.packets >= 100
        assert proof.reported == proof.receiver_total == result.delivered == 100_000
        # Probes and the end have sequences, too.
        assert proof.last_sequence > result.packets
        a = await network.restart("a")
        body = await Operator(a).get("/admin/payments/one")
        assert body["proof"] == {
            "acknowledged": result.packets,
            "reported": "100000",
            "receiverTotal": "100000",
            "lastSequence": proof.last_sequence,
        }
        assert await network.stop() == []
