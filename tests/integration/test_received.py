"""Being paid: data of payers is decided about, and what has come in is told."""

from __future__ import annotations

import asyncio
import base64
import json
import urllib.request
from pathlib import Path
from typing import Any

from connector import Connector, Decision, Fulfill, PaymentData, Reject
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
from tests.support.daemons import Daemon, RunningNodes

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
