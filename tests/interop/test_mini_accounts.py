"""ilp-plugin-mini-accounts as our parent; behind it @interledger/stream-receiver and ilp-protocol-stream."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from connector import Decision, PaymentData, PeerSettings
from connector.node.payment_store import PaymentState
from tests.interop.harness import JsPeer, spsp_server
from tests.support.daemons import Daemon, RunningNodes
from tests.support.ports import free_port

pytestmark = [pytest.mark.interop, pytest.mark.asyncio(loop_scope="module")]

AMOUNT = 1_000_000
TOKEN = "token-of-the-child"
SEGMENT = base64.urlsafe_b64encode(hashlib.sha256(TOKEN.encode()).digest()).rstrip(b"=").decode()
"""Of a child in the default mode of mini-accounts; it takes no other user name."""


class Home:
    """mini-accounts, and a node of ours as its child."""

    def __init__(self, mini: JsPeer, node: Daemon) -> None:
        self.mini, self.node = mini, node

    def invitation(self) -> dict[str, str]:
        assert self.node.connector.core.wallets is not None
        nonce = self.node.connector.core.platform.randomness.octets(12)
        invited = self.node.connector.core.wallets.invite("bob", nonce)
        assert invited is not None
        return {"address": invited[0], "secret": base64.b64encode(invited[1]).decode()}

    def balance(self) -> int:
        (bob,) = self.node.connector.views.wallets_view()
        return int(bob["balance"])


@contextlib.asynccontextmanager
async def mini_accounts(modules: Path, port: int) -> AsyncIterator[JsPeer]:
    mini = JsPeer(modules)
    await mini.start("mini.js", json.dumps({"port": port, "token": TOKEN}))
    try:
        yield mini
    finally:
        await mini.stop()


@pytest_asyncio.fixture(loop_scope="module")
async def home(tmp_path: Path, js_modules: Path) -> AsyncIterator[Home]:
    port = free_port()
    async with RunningNodes(tmp_path) as network, mini_accounts(js_modules, port) as mini:
        parent = PeerSettings(
            id="mini",
            secret=TOKEN,
            url=f"ws://127.0.0.1:{port}",
            username=SEGMENT,
            relation="parent",
            routes=[""],
        )
        node = await network.add("node", [parent], ilp_address=None, pay_port=0, wallets=["bob"])
        await node.linked("mini")
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(network.stop)
            await until_named(node)
            yield Home(mini, node)


async def until_named(node: Daemon) -> None:
    """The parent has said what the node's address is (ILDCP)."""
    async with asyncio.timeout(30):
        while node.connector.node.address != f"test.mini.{SEGMENT}":
            await asyncio.sleep(0.02)


async def test_a_js_sender_behind_the_parent_pays_a_wallet(home: Home) -> None:
    said = await home.mini.do("send", **home.invitation(), amount=str(AMOUNT))
    assert said == {"sent": str(AMOUNT), "delivered": str(AMOUNT), "error": ""}
    assert home.balance() == AMOUNT


async def test_our_payment_to_a_stream_receiver_behind_the_parent(home: Home) -> None:
    async with spsp_server(await home.mini.do("serve")) as url:
        result = await home.node.connector.pay(url, AMOUNT)
    assert (result.state, result.sent) == (PaymentState.COMPLETED, AMOUNT), result.reason
    assert result.delivered == result.proof.reported == AMOUNT
    assert result.proof.receiver_total == 0  # it states none without receipts
    assert result.asset == "USD/9"
    assert await home.mini.do("received") == {"received": str(AMOUNT), "packets": result.packets}


async def test_our_payment_ends_when_a_stream_receiver_declines(home: Home) -> None:
    await home.mini.do("decline")
    async with spsp_server(await home.mini.do("serve")) as url:
        result = await home.node.connector.pay(url, AMOUNT)
    assert (result.state, result.sent, result.delivered) == (PaymentState.FAILED, 0, 0)
    assert "closed" in result.reason


async def test_data_of_a_js_sender_is_accepted_whole_and_in_order(home: Home) -> None:
    """Also more than it may send before it is told that it may send more."""
    told = bytearray()
    asked: list[str] = []

    async def decide(one: PaymentData) -> bool:
        asked.append(one.question_id)
        for piece in sorted(one.pieces, key=lambda piece: piece.offset):
            assert piece.offset <= len(told)
            told[piece.offset : piece.offset + len(piece.data)] = piece.data
        return True

    home.node.connector.on_payment_data(decide)
    data = "".join(f"line {number} of what the payer says\n" for number in range(3000))
    said = await home.mini.do("send", **home.invitation(), amount=str(AMOUNT), data=data)
    assert said == {"sent": str(AMOUNT), "delivered": str(AMOUNT), "error": ""}
    assert told.decode() == data
    assert len(asked) == len(set(asked)) > 1
    assert home.balance() == AMOUNT


async def test_a_js_sender_whose_data_is_declined_gives_up_and_pays_nothing(home: Home) -> None:
    async def decide(one: PaymentData) -> Decision:
        return Decision(b"rent" in one.pieces[0].data, "not for that")

    home.node.connector.on_payment_data(decide)
    said = await home.mini.do("send", **home.invitation(), amount="500", data="arms")
    assert said["error"]
    assert (said["sent"], home.balance()) == ("0", 0)
