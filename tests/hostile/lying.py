"""Attacks by peers that lie, break the protocols, or send requests that are costly to answer."""

from __future__ import annotations

import asyncio
import hashlib
import struct
from typing import ClassVar, Final

from connector.simulation import octets
from tests.hostile import packets
from tests.hostile.attack import Attack, Peers, together
from tests.hostile.target import SENDER
from tests.hostile.wire import Wire

_REMEMBERED: Final = 2000


class Resent(Attack):
    """Packets paid once and sent again: the same, others under the same id, and ones never sent."""

    name = "resent"
    rate = "5 paid packets, 30 sent again"
    peers: ClassVar[Peers] = {"resent-pays": {}, "resent-paid": {}}

    async def run(self) -> None:
        self._paid: dict[bytes, int] = {}
        self._delivered: set[bytes] = set()
        await together(self._pays(), self._is_paid())

    async def _pays(self) -> None:
        async def session() -> None:
            async with self.peer("resent-pays", ids=True) as wire, asyncio.TaskGroup() as group:
                listening = group.create_task(self.counts(wire))
                async for _ in self.ticks(5):
                    if listening.done():
                        return
                    self._one(wire)
                    await wire.writer.drain()

        await self.keep(session)

    def _one(self, wire: Wire) -> None:
        # One nonce a packet: each has a condition of its own.
        nonce = self.chance.randbytes(16)
        condition = hashlib.sha256(hashlib.sha256(nonce).digest()).digest()
        packet_id = self.chance.randbytes(16)
        first = packets.prepare("resent-paid", 1, condition=condition, data=nonce)
        wire.request(first, packet_id)
        self.done["packets"] += 1
        for ilp, known in (
            (first, packet_id),
            (packets.prepare("resent-paid", 900_000, condition=condition, data=nonce), packet_id),
            (packets.prepare("resent-paid", 1, condition=condition, data=b"other"), packet_id),
            (packets.prepare("resent-pays", 1, condition=condition, data=nonce), packet_id),
            (packets.prepare("resent-paid", 1, seconds=200, data=nonce), packet_id),
            (packets.prepare("resent-paid", 0, seconds=-5, data=nonce), self.chance.randbytes(16)),
        ):
            wire.request(ilp, known, again=True)
            self.done["sent again"] += 1

    async def _is_paid(self) -> None:
        async def session() -> None:
            async with self.peer("resent-paid") as wire:
                async for seen in wire.heard():
                    if seen.kind != octets.MESSAGE:
                        continue
                    packet = octets.read_ilp(seen.protocols["ilp"])
                    assert isinstance(packet, octets.PrepareSeen)
                    if packet.amount > 1:
                        self.find(f"a resent packet of another amount was forwarded: {packet}")
                    if packet.amount and packet.data in self._delivered:
                        self.find(f"a packet was delivered twice: {packet}")
                    if len(self._delivered) > _REMEMBERED:
                        self._delivered.clear()
                    self._delivered.add(packet.data)
                    preimage = hashlib.sha256(packet.data).digest()
                    wire.answer(seen.request_id, octets.fulfill(preimage))

        await self.keep(session)


class Liars(Attack):
    """A peer that answers wrongly: no preimage, twice, too late, to what it was never asked."""

    name = "liars"
    rate = "15 packets"
    peers: ClassVar[Peers] = {"liar-asks": {}, "liar": {}}

    async def run(self) -> None:
        await together(
            self.sends("liar-asks", 15, lambda _: packets.prepare("liar", 1, seconds=4)),
            self.keep(self._lies),
        )

    async def _lies(self) -> None:
        async with self.peer("liar") as wire, asyncio.TaskGroup() as group:
            async for seen in wire.heard():
                if seen.kind != octets.MESSAGE:
                    continue
                to = seen.request_id
                match self.chance.randrange(8):
                    case 0:
                        wire.answer(to, octets.fulfill(b"w" * 32))
                    case 1:
                        for _ in range(3):
                            wire.answer(to, octets.fulfill(packets.PREIMAGE))
                    case 2:
                        group.create_task(self._late(wire, to))
                    case 3:
                        wire.answer(self.chance.randrange(2**32), octets.fulfill(packets.PREIMAGE))
                    case 4:
                        wire.answer(to, self.chance.randbytes(50))
                    case 5:
                        wire.answer(to, packets.prepare(SENDER, 1))
                    case 6:
                        wire.btp(octets.RESPONSE, to, [])
                    case _:
                        wire.answer(to, octets.reject("T00", "g.\u00e9", "\x1b[31m\x00"))

    async def _late(self, wire: Wire, request_id: int) -> None:
        await asyncio.sleep(4.5)
        wire.answer(request_id, octets.fulfill(packets.PREIMAGE))
        self.done["late fulfils"] += 1


class BrokenFrames(Attack):
    """Frames and BTP packets that break the rules, after the log-in."""

    name = "broken-frames"
    rate = "2 log-ins, one broken frame each"
    peers: ClassVar[Peers] = {"broken": {}}

    async def run(self) -> None:
        head = b"\x06\x00\x00\x00\x07"
        broken = (
            octets.frame(1, b"text"),
            octets.server_frame(octets.BINARY, b"unmasked"),
            b"\x82\xff" + struct.pack(">Q", 1 << 40) + bytes(4),
            b"\x82\xff" + struct.pack(">Q", 1 << 63) + bytes(4),
            b"\xc2\x80" + bytes(4),
            b"\x02\x81" + bytes(5),
            (b"\x02\x81" + bytes(5)) + (b"\x00\x81" + bytes(5)) * 3000,
            octets.frame(3, b""),
            octets.frame(octets.BINARY, bytes(200_000)),
            octets.frame(octets.BINARY, b""),
            octets.frame(octets.BINARY, head + b"\xff" * 10),
            octets.frame(octets.BINARY, head + octets.var(b"\x04\xff\xff\xff\xff")),
            octets.frame(octets.BINARY, head + octets.var(b"\x01\x20" + b"\x01a\x00\x00" * 32)),
            octets.frame(octets.BINARY, b"\x07\x00\x00\x00\x07\x02\x01\x01"),
            octets.frame(octets.BINARY, b"\x2a\x00\x00\x00\x07\x00"),
            octets.frame(octets.BINARY, octets.btp_ilp(6, 9, b"\x0c\x03abc")),
            octets.frame(octets.BINARY, octets.btp_ilp(6, 9, b"\xff" * 60_000)),
            octets.frame(octets.BINARY, octets.btp(2, 5, [("error", 0, bytes(9000))])),
            octets.frame(octets.CLOSE, b"\x00\x01\xff\xfe"),
            octets.frame(octets.PING, bytes(200)),
        )

        async def one(_: int) -> None:
            async with self.peer("broken") as wire:
                wire.raw(self.chance.choice(broken))
                wire.raw(self.chance.randbytes(20))
                async with asyncio.timeout(0.3):
                    async for _ in wire.heard():
                        pass

        await self.each(2, one)


class OddPackets(Attack):
    """Packets that no rule lets pass: expired, too large, to nowhere, to other networks, unreadable."""

    name = "odd-packets"
    rate = "20 packets"
    peers: ClassVar[Peers] = {
        "odd": {"maxPacketAmount": 1000, "rateLimit": 15},
        "odd-silent": {"creditLimit": 0},
    }

    async def run(self) -> None:
        await together(self.silent("odd-silent"), self.sends("odd", 20, self._odd, ids=True))

    def _odd(self, _: int) -> bytes:
        ask = packets.prepare
        condition, later = packets.CONDITION, 4_000_000_000_000
        return self.chance.choice(
            (
                ask("odd-silent", 2**64 - 1),
                ask("odd-silent", 1, seconds=-100),
                ask("odd-silent", 1, seconds=90_000_000),
                ask("odd-silent", 500, seconds=0.9),
                octets.prepare(1, later, condition, "peer.config", b""),
                octets.prepare(0, later, condition, "peer.route.control", bytes(900)),
                octets.prepare(0, later, condition, "peer.settle", bytes(900)),
                octets.prepare(0, later, condition, "peer." + "x" * 900, b""),
                octets.prepare(1, later, condition, "test.nobody", b""),
                octets.prepare(1, later, condition, "g.nobody." + "~" * 900, b""),
                octets.prepare(1, later, condition, "g", b""),
                octets.prepare(1, later, condition, "", b""),
                octets.prepare(1, later, condition, "g..hub/../\x00", b""),
                ask("odd", 1),
                ask("", 1),
                ask("", 1, condition=bytes(32)),
                ask("odd-silent", 1, data=bytes(33_000)),
                b"\x0c" + octets.var(bytes(40)),
                b"\x0d" + octets.var(bytes(33)),
                b"\x0c\x84\xff\xff\xff\xff",
                self.chance.randbytes(80),
            )
        )
