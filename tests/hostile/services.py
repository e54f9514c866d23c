"""Attacks by what the node sends requests to: nodes, engine, receiver, trace collector."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Callable
from typing import Any, ClassVar, Final

from connector.simulation import octets
from tests.hostile import packets
from tests.hostile.attack import Attack, Peers, together
from tests.hostile.target import ENGINE_TOKEN
from tests.hostile.visitors import READER, Visitor, request
from tests.hostile.wire import Wire

_SLOW_SECONDS: Final = 9.0
_MIB: Final = 1 << 20


def _bomb() -> bytes:
    """64 MiB of blanks."""
    return gzip.compress(b" " * (64 * _MIB), 9)


def _double_bomb() -> bytes:
    return gzip.compress(gzip.compress(b" " * (512 * _MIB), 9), 9)


class Service(Attack):
    """Answers HTTP requests of the node in every wrong way."""

    async def serve(self, port: int, answer: Callable[[str], tuple[str, bytes]]) -> None:
        """Listen until cancelled; `answer` gives headers and body for a path."""

        async def serve_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                head = await reader.readuntil(b"\r\n\r\n")
                path = head.split()[1].decode("latin-1")
                self.done["asked"] += 1
                headers, body = answer(path)
                if headers == "slow":
                    await asyncio.sleep(_SLOW_SECONDS)
                    headers = ""
                if headers == "reset":
                    return
                length = f"Content-Length: {len(body)}\r\n" if "ength" not in headers else ""
                writer.write(f"HTTP/1.1 200 OK\r\n{length}{headers}\r\n".encode())
                writer.write(body)
                await writer.drain()
            except (OSError, EOFError, IndexError, asyncio.LimitOverrunError):
                self.done["hung up"] += 1
            finally:
                writer.transport.abort()

        server = await asyncio.start_server(serve_one, "127.0.0.1", port)
        async with server:
            await server.serve_forever()


class Pages(Service, Visitor):
    """The page of another node, which a viewer of ours has shown all the time."""

    name = "pages"
    rate = "0.5 looks at the network, whose answers are bombs, 8 MB of JSON or lies"

    async def run(self) -> None:
        account = dict.fromkeys(
            ("peerId", "assetCode", "debitBalance", "creditBalance", "netBalance", "pendingDebits",
             "pendingCredits", "creditLimit", "availableCredit", "settlementThreshold",
             "settlementState"), "0",
        )  # fmt: skip
        whole = json.dumps({**account, "assetScale": 9})
        self._answers: tuple[tuple[str, bytes], ...] = (
            ("Content-Encoding: gzip\r\n", _bomb()),
            ("Content-Encoding: gzip, gzip\r\n", _double_bomb()),
            ("", b'{"items":[],"x":[' + b"[]," * 2_700_000 + b"1]}"),
            ("", b'{"items":[' + b"{}," * 150_000 + b"1]}"),
            ("", f'{{"items":[{",".join([whole] * 20_000)}]}}'.encode()),
            ("", b'{"items":[' + whole.replace('"0"', '"\\ud800"').encode() + b"]}"),
            ("", b"[" * 100_000),
            ("", b'{"items": ' + b"9" * 5000 + b"}"),
            ("Location: http://127.0.0.1:1/\r\n", b"x" * (9 * _MIB)),
            ("Content-Length: 99999999\r\n", b"{"),
            ("slow", b"{}"),
            ("reset", b""),
            ("", b"\xff\xfe"),
        )
        await together(self.serve(self.target.pages_port, self._answer), self._look())

    def _answer(self, path: str) -> tuple[str, bytes]:
        if path.endswith("status") and self.chance.random() < 0.7:
            return "", b'{"nodeId": "evil", "accounting": {"state": "\x1b"}}'
        return self.chance.choice(self._answers)

    async def _look(self) -> None:
        await self.each(0.5, lambda _: self.ask(request("/api/network", READER)))


class Receiver(Service):
    """The local receiver: slow, wrong, huge, or gone."""

    name = "receiver"
    rate = "10 packets to the node's own receiver"
    peers: ClassVar[Peers] = {"receiver-asks": {}}

    async def run(self) -> None:
        bomb = ("Content-Encoding: gzip\r\n", _bomb())

        def answer(_: str) -> tuple[str, bytes]:
            return self.chance.choice(
                (
                    ("", b'{"fulfillment": "' + b"A" * 43 + b'="}'),
                    ("", b'{"code": "F99", "message": "' + b"m" * 60_000 + b'"}'),
                    ("", b"[" * 60_000),
                    ("", b"x" * 200_000),
                    bomb,
                    ("slow", b"{}"),
                    ("slow", b"{}"),
                    ("reset", b""),
                )
            )

        await together(
            self.serve(self.target.receiver_port, answer),
            self.sends("receiver-asks", 10, lambda _: packets.prepare("local", 1, seconds=12)),
        )


class Collector(Service):
    """The collector of traces: slow, huge or gone."""

    name = "collector"
    rate = "as often as the node sends traces"

    async def run(self) -> None:
        answers = (("slow", b""), ("", b"x" * 500_000), ("reset", b""), ("", b"{}"))
        await self.serve(self.target.collector_port, lambda _: self.chance.choice(answers))


class Engine(Service, Visitor):
    """A settlement engine that lies about payments, and floods its peer with messages."""

    name = "engine"
    rate = "4 claims, 5 messages to it, 3 packets whose value it is to settle"
    peers: ClassVar[Peers] = {
        "engine-peer": {"engine": True, "settleThreshold": 10, "maxPrepaid": 1000},
        "engine-other": {"engine": True},
    }

    async def run(self) -> None:
        answers = (("slow", b"{}"), ("", b"x" * 200_000), ("reset", b""), ("", b"{}"), ("", b"["))
        await together(
            self.serve(self.target.engine_port, lambda _: self.chance.choice(answers)),
            self.keep(self._peer),
            self.sends("engine-other", 3, lambda _: packets.prepare("engine-peer", 1)),
            self._claim(),
        )

    async def _peer(self) -> None:
        async with self.peer("engine-peer") as wire, asyncio.TaskGroup() as group:
            listening = group.create_task(self._fulfils(wire))
            async for count in self.ticks(5):
                if listening.done():
                    return
                wire.request(self._message(count))
                await wire.writer.drain()

    async def _fulfils(self, wire: Wire) -> None:
        async for seen in wire.heard():
            if seen.kind == octets.MESSAGE:
                wire.answer(seen.request_id, octets.fulfill(packets.PREIMAGE))
            elif "ilp" in seen.protocols:
                self.count(seen.protocols["ilp"])

    def _message(self, count: int) -> bytes:
        message = bytes(3000) if count % 10 == 9 else self.chance.randbytes(30)
        return octets.prepare(0, packets.soon_ms(), packets.PEER, "peer.settle", message)

    async def _claim(self) -> None:
        claims: tuple[Any, ...] = (
            {"amount": "1", "scale": 9},
            {"amount": "9" * 30, "scale": 9},
            {"amount": str(2**64), "scale": 0},
            {"amount": "5", "scale": 255},
            {"amount": "-1", "scale": 9},
            {"amount": 1.5, "scale": True},
            {"amount": "1" * 5000, "scale": 9},
            [],
        )

        async def one(count: int) -> None:
            peer = self.chance.choice(("engine-peer", "engine-peer", "nobody", "engine-other"))
            # Now and then an old key with another amount.
            key = (
                f"claim-{count if self.chance.random() < 0.7 else self.chance.randrange(count + 1)}"
            )
            body = json.dumps(self.chance.choice(claims)).encode()
            if self.chance.random() < 0.1:
                body = self.chance.choice((b"[" * 50_000, b"\xff", b'{"amount": ' + b"9" * 9000))
            headers = (
                f"Authorization: Bearer {ENGINE_TOKEN}\r\nIdempotency-Key: {key}\r\n"
                "Content-Type: application/json\r\n"
            )
            path = f"/settlement/accounts/{peer}/settlements"
            await self.ask(request(path, headers, method="POST", body=body))

        await self.each(4, one)


class RatesSource(Service, Visitor):
    """A source of exchange rates that lies, and peers that pay in the currencies that it names."""

    name = "rates"
    rate = "as often as the node asks for rates, and 5 packets that need them"
    peers: ClassVar[Peers] = {"rates-euro": {"assetCode": "EUR"}, "rates-yen": {"assetCode": "JPY"}}

    async def run(self) -> None:
        bomb = ("Content-Encoding: gzip\r\n", _bomb())

        def answer(_: str) -> tuple[str, bytes]:
            chance = self.chance
            price = chance.choice(
                ("0.9", "-1", "0", "1e99", "1e999999999", "NaN", '"x"', "[]", "9" * 5000)
            )
            many = ",".join(f'"C{number}": {chance.randrange(-5, 9)}' for number in range(9000))
            return chance.choice(
                (
                    ("", b'{"base": "USD", "rates": {"EUR": 0.9, "JPY": "150.5"}}'),
                    (
                        "",
                        f'{{"base": "USD", "rates": {{"EUR": {price}, "JPY": {price}}}}}'.encode(),
                    ),
                    ("", f'{{"base": "USD", "rates": {{{many}}}}}'.encode()),
                    ("", b'{"base": "USD", "timestamp": 9999999999, "rates": {"EUR": 5}}'),
                    ("", b'{"base": "USD", "base": "EUR", "rates": {}}'),
                    ("", b"[" * 90_000),
                    ("", b"x" * (2 * _MIB)),
                    bomb,
                    ("Location: http://127.0.0.1:1/\r\n", b""),
                    ("slow", b"{}"),
                    ("reset", b""),
                )
            )

        await together(
            self.serve(self.target.rates_port, answer),
            self.sends("rates-euro", 5, lambda _: packets.prepare("rates-yen", 1000)),
            self.silent("rates-yen"),
        )
