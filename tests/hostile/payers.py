"""Attacks at the listeners for payment pointers and for ILP over HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import json
import uuid
from typing import Any, ClassVar, Final

from tests.hostile import packets
from tests.hostile.attack import Peers, together
from tests.hostile.strangers import Held
from tests.hostile.target import RECEIVER, secret_of
from tests.hostile.visitors import Visitor, request
from tests.hostile.wire import GONE, connect

_ACCEPT: Final = "Accept: application/spsp4+json\r\n"


class Payers(Visitor):
    """Who asks for addresses to pay to without end, and pays to them what is no payment."""

    name = "payers"
    rate = "30 requests, 10 packets to the addresses, 100 connections held"
    peers: ClassVar[Peers] = {"payer": {}}

    async def run(self) -> None:
        self._addresses: list[str] = []
        await together(
            self.each(30, self._ask), self.sends("payer", 10, self._packet), self._hold()
        )

    @property
    def port(self) -> int:
        """Where it asks."""
        return self.target.pay_port

    async def _ask(self, count: int) -> None:
        odd = self.chance.choice(
            ("/pay/" + "h" * 5000, "/pay/..%2f", "/pay/%00", "/metrics", "/api/status")
        )
        path = "/pay/hub" if count % 3 else odd
        headers = self.chance.choice((_ACCEPT, "", "Accept: " + "a/b," * 3000 + "\r\n"))
        method = self.chance.choice(("GET", "GET", "HEAD", "OPTIONS", "POST"))
        status = await self.ask(
            request(path, headers, method=method, body=bytes(2000) if method == "POST" else b""),
            1 + count % 4,
        )
        if status == 200 and path not in ("/pay/hub", "/.well-known/pay") and method != "OPTIONS":
            self.find(f"{path} is served to the public")
        if count % 10 == 1:
            await self._invite()

    async def _invite(self) -> None:
        reader, writer = await connect(self.port, self.source())
        try:
            writer.write(request("/pay/hub", _ACCEPT))
            async with asyncio.timeout(20):
                answer = await reader.read(-1)
            with contextlib.suppress(ValueError, KeyError):
                body: dict[str, Any] = json.loads(answer.partition(b"\r\n\r\n")[2])
                self._addresses = [*self._addresses[-20:], body["destination_account"]]
        finally:
            writer.transport.abort()

    def _packet(self, _: int) -> bytes:
        if not self._addresses:
            return packets.prepare("", 1)
        token = self.chance.choice(self._addresses).rpartition(".")[2]
        token = self.chance.choice((token, token[:-1], token + "A", "A" * 1000, token + ".x"))
        return packets.prepare(
            token, 1, data=self.chance.randbytes(self.chance.choice((0, 40, 9000)))
        )

    async def _hold(self) -> None:
        held = Held(100)
        async for count in self.ticks(5):
            with contextlib.suppress(*GONE):
                _, writer = await connect(self.port, self.source(5 + count % 3))
                writer.write(b"GET /pay/hub HT")
                held.add(writer.transport.abort)


class HttpPeers(Visitor):
    """ILP over HTTP: guesses, requests that break HTTP, and a peer that posts what is no packet."""

    name = "ilp-http"
    rate = "30 requests of strangers and of a peer, 100 connections held"
    peers: ClassVar[Peers] = {"http-peer": {"creditLimit": 0}}

    @property
    def port(self) -> int:
        """Where it asks."""
        return self.target.ilp_http_port

    async def run(self) -> None:
        await together(self.each(30, self._one), self._hold())

    async def _one(self, count: int) -> None:
        chance = self.chance
        token = chance.choice((secret_of("http-peer"), secret_of(RECEIVER) + "x", ""))
        headers = f"Authorization: Bearer {token}\r\nContent-Type: application/octet-stream\r\n"
        headers += chance.choice(
            (
                "",
                f"ILP-Packet-Id: {chance.randbytes(16).hex()}\r\n",
                f"Request-Id: {uuid.UUID(bytes=chance.randbytes(16), version=4)}\r\n",
                "Request-Id: x\r\nRequest-Id: y\r\n",
                "Callback-Url: http://127.0.0.1:1/\r\n",
                "Transfer-Encoding: chunked\r\n",
                "Expect: 100-continue\r\n",
                "Cookie: " + "a=b; " * 2000 + "\r\n",
            )
        )
        body = chance.choice(
            (
                packets.prepare(RECEIVER, 1),
                packets.prepare(""),
                b"packet-again\0" + packets.prepare("", 0, seconds=200),
                b"\x0d" + bytes(40),
                b"",
                chance.randbytes(90_000),
            )
        )
        path = chance.choice(("/accounts/http-peer/ilp", "/ilp", f"/accounts/{RECEIVER}/ilp", "/x"))
        await self.ask(request(path, headers, method="POST", body=body), 1 + count % 4)

    async def _hold(self) -> None:
        held = Held(100)
        async for count in self.ticks(5):
            with contextlib.suppress(*GONE):
                _, writer = await connect(self.port, self.source(5 + count % 3))
                writer.write(b"POST /ilp HTTP/1.1\r\nContent-Le")
                held.add(writer.transport.abort)
