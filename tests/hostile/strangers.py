"""Attacks at the BTP port without a secret."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

from connector.simulation import octets
from tests.hostile import packets
from tests.hostile.attack import Attack, together
from tests.hostile.target import RECEIVER, SENDER
from tests.hostile.wire import GONE, Wire, connect

_CLIENT_HELLO_START: Final = bytes.fromhex("1603010200010001fc0303") + bytes(32)


class Held:
    """Connections that are kept open, the newest so many of them."""

    def __init__(self, count_max: int) -> None:
        self._count_max = count_max
        self._open: deque[Callable[[], None]] = deque()

    def add(self, close: Callable[[], None]) -> None:
        """Keep one more, and close the oldest where there are too many."""
        self._open.append(close)
        if len(self._open) > self._count_max:
            self._open.popleft()()


class SilentSockets(Attack):
    """Sockets over which no TLS handshake ever begins."""

    name = "silent-sockets"
    rate = "10 connections from 6 addresses, 600 held"

    async def run(self) -> None:
        held = Held(600)

        async def one(count: int) -> None:
            _, writer = await connect(self.target.btp_port, self.source(1 + count % 6))
            held.add(writer.transport.abort)
            self.done["connections"] += 1

        await self.each(10, one)


class BrokenHandshakes(Attack):
    """TLS handshakes that are rubbish, or stop in the middle."""

    name = "broken-handshakes"
    rate = "5 connections from 3 addresses, 300 held"

    async def run(self) -> None:
        held = Held(300)

        async def one(count: int) -> None:
            said = self.chance.choice(
                (
                    _CLIENT_HELLO_START,
                    _CLIENT_HELLO_START[:5],
                    b"GET / HTTP/1.1\r\nHost: hub\r\n\r\n",
                    self.chance.randbytes(200),
                    b"\x16\x03\x01\x40\x00" + bytes(16_384),
                    b"\x15\x03\x01\x00\x02\x02\x28",
                )
            )
            _, writer = await connect(self.target.btp_port, self.source(1 + count % 3))
            writer.write(said)
            held.add(writer.transport.abort)
            self.done["connections"] += 1

        await self.each(5, one)


class HalfUpgrades(Attack):
    """The request that opens a WebSocket: an octet a second, too long, or never complete."""

    name = "half-upgrades"
    rate = "2 TLS handshakes, 20 upgrades an octet a second each"

    async def run(self) -> None:
        await together(self._slow_ones(), self._odd_ones())

    async def _slow_ones(self) -> None:
        async def session() -> None:
            async with self.stranger(upgrade=False) as wire:
                for octet in octets.upgrade_request("hub"):
                    wire.raw(bytes((octet,)))
                    await asyncio.sleep(1)
                    if wire.reader.at_eof():
                        return

        async with asyncio.TaskGroup() as group:
            async for count in self.ticks(1):
                group.create_task(self.keep(session))
                if count == 20:
                    return

    async def _odd_ones(self) -> None:
        held = Held(100)
        upgrade = octets.upgrade_request("hub")

        async def one(_: int) -> None:
            said = self.chance.choice(
                (
                    upgrade[:-2],
                    upgrade[:-2] + b"X: " + b"y" * 20_000,
                    upgrade[:-2] + b"X: y\r\n" * 3000,
                    upgrade.replace(b"13", b"99"),
                    upgrade.replace(b"13", b"99") + b"\x82\x00",
                    upgrade + b"\x82\xff" + b"\xff" * 12,
                    upgrade + b"\x88\x80" + bytes(4),
                    b"POST /\x00 HTTP/9.9\r\n\r\n",
                    upgrade.replace(b"GET /", b"GET /" + b"a" * 9000),
                    self.chance.randbytes(300),
                )
            )
            wire = await Wire.open(
                self.target, self.source(self.chance.randint(2, 4)), upgrade=False
            )
            wire.raw(said)
            held.add(wire.abort)
            self.done["connections"] += 1

        await self.each(1, one)


class NoLogIn(Attack):
    """WebSockets over which nobody logs in: nothing is said, or what only a peer may say."""

    name = "no-log-in"
    rate = "2 WebSockets from 4 addresses, 200 held"

    async def run(self) -> None:
        held = Held(200)

        async def one(count: int) -> None:
            wire = await Wire.open(self.target, self.source(1 + count % 4))
            held.add(wire.abort)
            self.done["connections"] += 1
            self._speak(wire)

        await self.each(2, one)

    def _speak(self, wire: Wire) -> None:
        match self.chance.randrange(8):
            case 0 | 1 | 2:
                pass
            case 3:
                wire.frame(bytes(70_000))
            case 4:
                for _ in range(50):
                    wire.frame(bytes(125), octets.PING)
            case 5:
                wire.request(packets.prepare(RECEIVER, 10))
            case 6:
                wire.frame(b'{"auth": "please"}', 1)
            case _:
                wire.frame(self.chance.randbytes(200))


class Guesses(Attack):
    """Wrong secrets of the honest peers, and names that nobody has."""

    name = "log-in-guesses"
    rate = "3 log-ins from 3 addresses"

    async def run(self) -> None:
        async def one(count: int) -> None:
            user = self.chance.choice((SENDER, RECEIVER, "root", "", "é" * 200, "x" * 20_000))
            token = self.chance.choice(("", "guess", "secret-of-alice", "t" * 1024, "t" * 20_000))
            wire = await Wire.open(self.target, self.source(1 + count % 3))
            try:
                await wire.log_in(user, token)
                self.find(f"{user[:20]!r} logged in with a wrong secret")
            except GONE:
                self.done["guesses"] += 1
            finally:
                wire.abort()

        await self.each(3, one)
