"""STREAM and SPSP with unchanged JS software at the other end, through two nodes of ours."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from connector import PeerSettings
from connector.base.http import HttpClient
from connector.node.payment_store import PaymentState
from tests.interop.harness import JsPeer, spsp_server
from tests.support.daemons import Daemon, RunningNodes

pytestmark = [pytest.mark.interop, pytest.mark.asyncio(loop_scope="module")]

AMOUNT = 1_000_000
PACKET_MAX = 9000


class Line:
    """left (JS) - a - b - right (JS); each packet between a and b is at most `PACKET_MAX`."""

    def __init__(self, network: RunningNodes, a: Daemon, b: Daemon) -> None:
        self.network, self.a, self.b = network, a, b
        self.left: JsPeer
        self.right: JsPeer

    def received(self) -> int:
        (bob,) = self.b.connector.views.wallets_view()
        return int(bob["balance"])

    async def invitation(self) -> dict[str, str]:
        """What the payer of b's wallet is told."""
        url = f"http://127.0.0.1:{self.b.connector.pay_port}/pay/bob"
        async with HttpClient(seconds_max=5, answer_bytes_max=9999, connections_max=1) as client:
            answer = await client.ask("GET", url, headers={"Accept": "application/spsp4+json"})
        body = answer.json()
        return {"address": body["destination_account"], "secret": body["shared_secret"]}


@contextlib.asynccontextmanager
async def js_end(modules: Path, node: Daemon, name: str, **options: Any) -> AsyncIterator[JsPeer]:
    end = JsPeer(modules)
    server = f"btp+ws://{name}:{name}-token@127.0.0.1:{node.connector.btp_port}"
    await end.start("stream.js", json.dumps({"server": server, **options}))
    try:
        yield end
    finally:
        await end.stop()


@pytest_asyncio.fixture(loop_scope="module")
async def line(tmp_path: Path, js_modules: Path) -> AsyncIterator[Line]:
    async with RunningNodes(tmp_path) as network:
        a = await network.add(
            "a",
            [
                PeerSettings(id="left", secret="left-token", relation="child"),
                PeerSettings(id="b", secret="between", routes=["g.b"]),
            ],
        )
        b = await network.add(
            "b",
            [
                PeerSettings(
                    id="a", secret="between", url=network.url_of("a"), routes=["g.a"],
                    max_packet_amount=PACKET_MAX,
                ),
                PeerSettings(id="right", secret="right-token", relation="child"),
            ],
            pay_port=0, wallets=["bob"],
        )  # fmt: skip
        await b.linked("a")
        one = Line(network, a, b)
        names = {"pay.test": b.connector.pay_port}
        async with (
            js_end(js_modules, a, "left", names=names) as left,
            js_end(js_modules, b, "right") as right,
        ):
            one.left, one.right = left, right
            yield one
        assert await network.stop() == []


async def test_a_js_sender_pays_a_wallet(line: Line) -> None:
    said = await line.left.do("send", **await line.invitation(), amount=str(AMOUNT))
    assert said == {"sent": str(AMOUNT), "delivered": str(AMOUNT)}
    assert line.received() == AMOUNT


async def test_interledger_pay_pays_a_wallet_by_its_payment_pointer(line: Line) -> None:
    amount = 20 * PACKET_MAX  # it paces itself: 1,000,000 would take four seconds
    said = await line.left.do("pay", pointer="$pay.test/pay/bob", amount=str(amount))
    assert said == {"sent": str(amount), "delivered": str(amount)}
    assert line.received() == amount


@pytest.mark.parametrize("packets", [111, 5000])
async def test_our_payment_to_a_js_server(line: Line, packets: int) -> None:
    """Also one that takes seconds: the server tries to send to us meanwhile, and must not give up."""
    total = packets * PACKET_MAX
    async with spsp_server(await line.right.do("serve")) as url:
        result = await line.a.connector.pay(url, total)
    assert (result.state, result.sent) == (PaymentState.COMPLETED, total), result.reason
    assert result.delivered == total
    assert result.packets == packets
    assert await line.right.do("received") == {"received": str(total)}
