"""Payments of many packets in a simulation: the product's own, asked for until they end.

A node pays with `node.payments.Payments` on its core, over the simulated disk, and asks a wallet of another node for an address and a
secret (SPSP) over a stand-in for HTTP.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any, Final, Protocol

import httpx

from connector.node.core import Core
from connector.node.payment_store import PaymentState
from connector.node.payments import Payments
from connector.simulation.evidence import StreamSeen
from connector.simulation.plan import WALLET, StreamPlan
from connector.stream.tokens import NONCE_BYTES

TIMEOUT_S: Final = 3600.0
AGAIN_S: Final = 0.5
SPSP_S: Final = 0.02
SLIPPAGE: Final = Fraction(1, 5)
"""More than the fees of the longest way."""


def pay_key_of(node: str) -> bytes:
    """The key of a node's wallets."""
    return hashlib.sha256(f"pay key of {node}".encode()).digest()


class _Node(Protocol):
    @property
    def core(self) -> Core | None:
        """Of the process of now."""

    @property
    def is_up(self) -> bool:
        """Whether it answers."""

    def ask_payments(self, what: Callable[[Payments], Any], done: Callable[[bool], None]) -> None:
        """Ask the process of now."""


class Payer:
    """Asks a node for a payment until it has ended, as an application does that has its key."""

    def __init__(self, node: _Node, plan: StreamPlan, after: Callable[..., object]) -> None:
        """`after`: calls something so many seconds later."""
        self.plan: Final = plan
        self.seen: StreamSeen | None = None
        """At its end; None: it has not ended."""
        self._node = node
        self._after = after

    def ask(self) -> None:
        """Ask for it now, and again until it has ended."""
        self._node.ask_payments(self._pay, self._answered)

    async def _pay(self, payments: Payments) -> None:
        plan = self.plan
        target, key = f"http://{plan.payee}/pay/{WALLET}", f"stream {plan.number}"
        status = await payments.pay(
            target, plan.amount, slippage=SLIPPAGE, key=key, timeout_s=TIMEOUT_S
        )
        if status.state is PaymentState.INTERRUPTED:
            raise RuntimeError(status.reason)
        state = status.state.value
        self.seen = StreamSeen(
            state, status.sent, status.delivered, status.uncertain, status.reason
        )

    def _answered(self, taken: bool) -> None:
        if not taken or self.seen is None:
            self._after(AGAIN_S, self.ask)


class Spsp(httpx.AsyncBaseTransport):
    """Asks a node of the world whom to pay, in place of HTTP."""

    def __init__(self, nodes: Mapping[str, _Node], octets: Callable[[int], bytes]) -> None:
        self._nodes = nodes
        self._octets = octets

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """See `httpx.AsyncBaseTransport`."""
        await asyncio.sleep(SPSP_S)
        node = self._nodes[request.url.host]
        core = node.core
        if core is None or not node.is_up or core.wallets is None:
            raise httpx.ConnectError("nobody listens")
        invitation = core.wallets.invite(WALLET, self._octets(NONCE_BYTES))
        if invitation is None:
            return httpx.Response(503, stream=httpx.ByteStream(b""))
        address, secret = invitation
        shared = base64.b64encode(secret).decode()
        body = json.dumps({"destination_account": address, "shared_secret": shared}).encode()
        return httpx.Response(200, stream=httpx.ByteStream(body))
