"""JS - ours - ours - JS: routes by CCP alone, and payments of many packets both ways over a bad link.

    left (ilp-plugin-btp) - JS connector one - a ~~ proxy ~~ b - JS connector two - right (ilp-plugin-btp)

No node has a static route. The proxy delays messages, and loses some, with the connection or without it. The JS connectors are ilp-connector 23.0.2,
unchanged.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from connector.base.http import HttpClient
from tests.interop.harness import JsPeer, Node, running
from tests.interop.test_js_connector import JsConnector, Modules, account
from tests.interop.test_js_connector import modules as modules  # noqa: PLC0414 - a fixture
from tests.support.btp_proxy import BtpProxy
from tests.support.patience import PATIENCE_SECONDS
from tests.support.ports import free_ports

pytestmark = [pytest.mark.interop, pytest.mark.slow, pytest.mark.asyncio]

AMOUNT = 1_000_000
PACKET_MAX = 10_000
INTERVAL_MS = 1000
KEY = "an-admin-key-of-tests"
LOSSES_MAX = 3
# ilp-protocol-stream probes with 10**12.
BALANCE = {"maximum": "1000000000000000"}
SECRETS = {"ONE": "one-secret", "TWO": "two-secret", "A": "between", "B": "between"}

ASSETS = {"one asset": ("USD", "USD", "USD"), "three assets": ("USD", "EUR", "XRP")}
# Exact both ways: one USD is two EUR, one XRP is two EUR.
RATES = "USD/EUR=2,EUR/USD=0.5,XRP/EUR=2,EUR/XRP=0.5"
PRICES = {"USD": 1, "EUR": 0.5, "XRP": 1}


class Row:
    """See the module."""

    def __init__(self, folder: Path, modules: Modules, assets: tuple[str, str, str]) -> None:
        first, middle, last = assets
        ports = free_ports(10)
        self.folder, self.modules, self.assets = folder, modules, assets
        self.proxy = BtpProxy(ports[0], seed=7)
        self.proxy_port = ports[9]
        self.pay_port = ports[8]
        common = {
            "RATES": RATES, "ROUTE_BROADCAST_INTERVAL_MS": str(INTERVAL_MS), "MAX_HOLD_MS": "8000",
            "ADMIN_API_KEY": KEY,
        }  # fmt: skip
        self.a = Node(
            "a", folder, ports[:2], **common, ILP_ADDRESS="test.a", ASSET_CODE=first,
            **peer("ONE", first), **peer("B", middle),
        )  # fmt: skip
        self.b = Node(
            "b", folder, ports[2:4], **common, ILP_ADDRESS="test.b", ASSET_CODE=last,
            PAY_PORT=str(self.pay_port), WALLETS="bob",
            **peer("TWO", last), **peer("A", middle),
            BTP_PEER_A_URL=f"ws://127.0.0.1:{self.proxy_port}",
        )  # fmt: skip
        self.js = [
            JsConnector(
                modules.connector, folder / name, admin_port,
                {
                    "ours": account(
                        "peer", assetCode=asset, balance=BALANCE, sendRoutes=True, receiveRoutes=True,
                        options={"server": f"btp+ws://{name}:{name}-secret@127.0.0.1:{ours.btp_port}"},
                    ),
                    "wallet": account(
                        "child", assetCode=asset, balance=BALANCE,
                        options={"listener": {"port": wallet_port, "secret": "w"}},
                    ),
                },
                CONNECTOR_ILP_ADDRESS=f"test.{name}",
            )
            for name, asset, ours, admin_port, wallet_port in (
                ("one", first, self.a, ports[4], ports[5]),
                ("two", last, self.b, ports[6], ports[7]),
            )
        ]  # fmt: skip
        for name in ("one", "two"):
            (folder / name).mkdir()
        self._wallets = [f"btp+ws://:w@127.0.0.1:{port}" for port in (ports[5], ports[7])]

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(self.proxy.running(self.proxy_port))
            for one in self.js:
                await one.start()
                stack.push_async_callback(one.stop)
            await stack.enter_async_context(running(self.a, self.b))
            async with self.ends():  # the JS connectors wait for these
                for js, prefix in zip(self.js, ("test.two", "test.one"), strict=True):
                    await js.until(lambda routes, prefix=prefix: prefix in routes)
                    async with asyncio.timeout(PATIENCE_SECONDS):
                        # It waits for all its accounts, and leaves requests without an answer meanwhile.
                        while "connector ready" not in js.log():
                            await asyncio.sleep(0.05)
            yield

    @contextlib.asynccontextmanager
    async def ends(self) -> AsyncIterator[tuple[JsPeer, JsPeer]]:
        """left and right, for one payment: ilp-protocol-stream disconnects the plugin after it."""
        common = {"names": {"pay.test": self.pay_port}, "prices": PRICES}
        one, two = self._wallets
        async with (
            end(self.modules.peer, one, asset=self.assets[0], **common) as left,
            end(self.modules.peer, two, asset=self.assets[2], **common) as right,
        ):
            yield left, right

    def audit(self) -> list[str]:
        """What is wrong with the books of each of our nodes, on disk."""
        faults = []
        for node in (self.a, self.b):
            done = subprocess.run(
                [sys.executable, "-m", "connector", "audit", "--json"],
                env=node._environment, capture_output=True, text=True, timeout=60, check=False,
            )  # fmt: skip
            if done.returncode:
                faults.append(f"{node.name}: {done.stdout[-1500:]}{done.stderr[-500:]}")
        return faults


def peer(name: str, asset: str) -> dict[str, str]:
    fields = {
        "SECRET": SECRETS[name], "ASSET_CODE": asset, "TRANSIT": "true", "MAX_PACKET_AMOUNT": str(PACKET_MAX * 2),
        "CREDIT_LIMIT": "100000000000",
    }  # fmt: skip
    return {f"BTP_PEER_{name}_{key}": value for key, value in fields.items()}


@contextlib.asynccontextmanager
async def end(modules: Path, server: str, **options: Any) -> AsyncIterator[JsPeer]:
    one = JsPeer(modules)
    await one.start("stream.js", json.dumps({"server": server, **options}))
    try:
        yield one
    finally:
        await one.stop()


async def invitation(port: int) -> dict[str, str]:
    url = f"http://127.0.0.1:{port}/pay/bob"
    async with HttpClient(seconds_max=5, answer_bytes_max=9999, connections_max=1) as client:
        answer = await client.ask("GET", url, headers={"Accept": "application/spsp4+json"})
    body = answer.json()
    return {"address": body["destination_account"], "secret": body["shared_secret"]}


async def our_payment(node: Node, target: str, amount: int) -> dict[str, Any]:
    """A payment of our node, when it is over."""
    base = f"http://127.0.0.1:{node.http_port}"
    headers = {"authorization": f"Bearer {KEY}"}
    async with (
        asyncio.timeout(PATIENCE_SECONDS),
        httpx.AsyncClient(base_url=base, headers=headers, trust_env=False, verify=False) as client,
    ):
        wanted = {"target": target, "amount": str(amount), "key": "one", "maxSlippage": "0.05"}
        asked = await client.post("/admin/payments", json=wanted)
        assert asked.status_code == 202, asked.text
        while True:
            body: dict[str, Any] = (await client.get("/admin/payments/one")).json()
            if body["state"] != "running":
                return body
            await asyncio.sleep(0.1)


@contextlib.asynccontextmanager
async def spsp(served: dict[str, Any]) -> AsyncIterator[str]:
    """A payment pointer's server for a STREAM server of JS."""
    body = {"destination_account": served["address"], "shared_secret": served["secret"]}

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        content = json.dumps(body).encode()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/spsp4+json\r\n")
        writer.write(b"Content-Length: %d\r\nConnection: close\r\n\r\n" % len(content) + content)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1") as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"


@pytest.mark.parametrize("assets", ASSETS.values(), ids=ASSETS)
async def test_payments_of_many_packets_over_a_bad_link_are_exact(
    assets: tuple[str, str, str], tmp_path: Path, modules: Modules
) -> None:
    row = Row(tmp_path, modules, assets)
    async with row.running():
        proxy = row.proxy
        sent = {"sent": str(AMOUNT), "delivered": str(AMOUNT)}

        async def badly(payment: Any, *, breaks: bool = True) -> Any:
            """One payment with 5 % of the messages late or, while that lasts, lost.

            `breaks`: with the connection. Senders of JS end a payment at the first R00, which a lost Prepare gets.
            """
            proxy.delay_share, proxy.loss_share, proxy.breaks = 0.05, 0.05, breaks
            proxy.losses_max = proxy.lost + LOSSES_MAX
            before = proxy.prepares, proxy.lost, proxy.delayed
            result = await payment
            proxy.delay_share = proxy.loss_share = 0.0
            passed = proxy.prepares - before[0]
            assert passed >= AMOUNT // (2 * PACKET_MAX), (passed, result)
            assert proxy.lost + proxy.delayed > before[1] + before[2]
            return result

        # JS to JS, both ways.
        for leftwards in (False, True):
            async with row.ends() as ends:
                payer, payee = reversed(ends) if leftwards else ends
                served = await payee.do("serve")
                assert await badly(payer.do("send", **served, amount=str(AMOUNT))) == sent
                assert await payee.do("received") == {"received": str(AMOUNT)}
        # Ours to JS.
        async with row.ends() as (_, right), spsp(await right.do("serve")) as url:
            done = await badly(our_payment(row.a, url, AMOUNT), breaks=False)
            assert (done["state"], done["sent"], done["delivered"]) == (
                "completed", str(AMOUNT), str(AMOUNT),
            )  # fmt: skip
        # JS to ours: ilp-protocol-stream, and @interledger/pay by the payment pointer.
        async with row.ends() as (left, _):
            told = await invitation(row.pay_port)
            assert await badly(left.do("send", **told, amount=str(AMOUNT))) == sent
        async with row.ends() as (left, _):
            asked = left.do("pay", pointer="$pay.test/pay/bob", amount=str(AMOUNT))
            assert await badly(asked) == sent
        (bob,) = (await row.b.get("/api/wallets"))["items"]
        assert bob["balance"] == str(2 * AMOUNT)
        ours = await row.a.balances(), await row.b.balances()
        assert proxy.lost > 0
    middle = (AMOUNT if assets[1] == assets[0] else 2 * AMOUNT) * 3
    # Two came back and forth; one of ours, and two to the wallet, went from a to b.
    assert ours == (
        {"one": 2 * AMOUNT, "b": -middle},
        {"a": middle, "two": -AMOUNT},
    )
    assert row.audit() == []
