"""Attacks by peers that exhaust a resource: packets in flight, memory, disk, buffers, time."""

from __future__ import annotations

import asyncio
from typing import ClassVar, Final

from connector.simulation import octets
from tests.hostile import packets
from tests.hostile.attack import Attack, Peers, together
from tests.hostile.target import secret_of
from tests.hostile.wire import Wire

_LARGE: Final = bytes(32_000)
_POOR: Final = {"creditLimit": 0}
"""A peer that cannot owe anything: its packets carry no money."""


class Jam(Attack):
    """Packets without money towards a peer that keeps silent."""

    name = "jam"
    rate = "80 packets of 4 peers without credit"
    peers: ClassVar[Peers] = {f"jam-{number}": _POOR for number in range(4)} | {"jam-silent": _POOR}

    async def run(self) -> None:
        await together(
            self.silent("jam-silent"),
            *(
                self.sends(f"jam-{number}", 20, lambda _: packets.prepare("jam-silent"))
                for number in range(4)
            ),
        )


class PaidJam(Attack):
    """The least money towards a peer that keeps silent, as much as may be in flight."""

    name = "paid-jam"
    rate = "40 packets of 2 peers, held for 28 s each"
    peers: ClassVar[Peers] = {"paid-jam-0": {}, "paid-jam-1": {}, "paid-jam-silent": {}}

    async def run(self) -> None:
        await together(
            self.silent("paid-jam-silent"),
            *(
                self.sends(
                    f"paid-jam-{number}", 20, lambda _: packets.prepare("paid-jam-silent", 1)
                )
                for number in range(2)
            ),
        )


class DataJam(Attack):
    """As much data in flight as a peer may have, and more."""

    name = "data-jam"
    rate = "45 packets of 32 KB, of 2 peers, held for 28 s each"
    peers: ClassVar[Peers] = {"data-jam-0": {}, "data-jam-1": {}, "data-jam-silent": {}}

    async def run(self) -> None:
        def large(_: int) -> bytes:
            return packets.prepare("data-jam-silent", 1, data=_LARGE)

        await together(
            self.silent("data-jam-silent"),
            self.sends("data-jam-0", 40, large),
            self.sends("data-jam-1", 5, large),
        )


class LargeAnswers(Attack):
    """Answers of 32 KB for nothing, to a peer that never says that it has read them."""

    name = "large-answers"
    rate = "15 packets"
    peers: ClassVar[Peers] = {"large-asks": _POOR, "large-answers": _POOR}

    async def run(self) -> None:
        await together(self._asks(), self._answers())

    async def _asks(self) -> None:
        async def session() -> None:
            async with self.peer("large-asks", ids=True) as wire, asyncio.TaskGroup() as group:
                wire.answers_pings = False
                listening = group.create_task(self.counts(wire))
                async for _ in self.ticks(15):
                    if listening.done():
                        return
                    wire.request(packets.prepare("large-answers"), self.chance.randbytes(16))
                    self.done["packets"] += 1

        await self.keep(session)

    async def _answers(self) -> None:
        large = octets.fulfill(packets.PREIMAGE, _LARGE)

        async def session() -> None:
            async with self.peer("large-answers") as wire:
                async for seen in wire.heard():
                    if seen.kind == octets.MESSAGE:
                        wire.answer(seen.request_id, large)
                        await wire.writer.drain()

        await self.keep(session)


class LongTexts(Attack):
    """Rejects with texts of 8 KB and addresses of 1,000 characters, which events would keep."""

    name = "long-texts"
    rate = "10 packets"
    peers: ClassVar[Peers] = {"long-asks": _POOR, "long-rejects": _POOR}

    async def run(self) -> None:
        to = "long-rejects." + "b" * 980
        await together(self.sends("long-asks", 10, lambda _: packets.prepare(to)), self._rejects())

    async def _rejects(self) -> None:
        text = "\x01\u20ac" * 2000
        long = octets.reject("F99", "g." + "a" * 1000, text)

        async def session() -> None:
            async with self.peer("long-rejects") as wire:
                async for seen in wire.heard():
                    if seen.kind == octets.MESSAGE:
                        wire.answer(seen.request_id, long)
                        await wire.writer.drain()

        await self.keep(session)


class Deaf(Attack):
    """Peers that never read: one that asks, and one that is sent packets of 32 KB."""

    name = "deaf"
    rate = "25 pings, 5 packets of 32 KB"
    peers: ClassVar[Peers] = {"deaf-asks": {}, "deaf-sends": {}, "deaf": {}}

    async def run(self) -> None:
        await together(
            self.keep(self._asks),
            self.keep(self._is_sent),
            self.sends("deaf-sends", 5, lambda _: packets.prepare("deaf", 1, data=_LARGE)),
        )

    async def _deaf(self, peer_id: str) -> Wire:
        wire = await Wire.open(self.target, self.source(2), receive_bytes=4096)
        await wire.log_in(peer_id, secret_of(peer_id))
        self.done["log-ins"] += 1
        return wire

    async def _asks(self) -> None:
        wire = await self._deaf("deaf-asks")
        try:
            async for _ in self.ticks(25):
                if wire.writer.transport.is_closing():
                    return
                wire.request(packets.prepare("", condition=packets.PING, data=bytes(1000)))
                self.done["packets"] += 1
                async with asyncio.timeout(120):
                    await wire.writer.drain()
        finally:
            wire.abort()

    async def _is_sent(self) -> None:
        wire = await self._deaf("deaf")
        try:
            while not wire.writer.transport.is_closing():
                await asyncio.sleep(5)
                wire.frame(b"", octets.PONG)
        finally:
            wire.abort()


class ControlFrames(Attack):
    """Floods of pings, pongs and empty frames."""

    name = "control-frames"
    rate = "0.5 connections, with 500 frames at once"
    peers: ClassVar[Peers] = {"control": {}}

    async def run(self) -> None:
        async def one(count: int) -> None:
            async with self.peer("control") as wire:
                kind = (octets.PING, octets.PONG, 0, octets.CLOSE)[count % 4]
                wire.raw(octets.frame(kind, bytes(125)) * 500)
                async with asyncio.timeout(5):
                    async for _ in wire.heard():
                        pass

        await self.each(0.5, one)


class Reconnects(Attack):
    """A peer that logs in again and again, with packets waiting for it."""

    name = "reconnects"
    rate = "3 log-ins, each with 10 packets under way"
    peers: ClassVar[Peers] = {"reconnects": {}, "reconnects-silent": {}}

    async def run(self) -> None:
        await together(self.silent("reconnects-silent"), self._storm())

    async def _storm(self) -> None:
        async def one(count: int) -> None:
            async with self.peer("reconnects", ids=count % 2 == 0) as wire:
                for _ in range(10):
                    wire.request(
                        packets.prepare("reconnects-silent", 1, seconds=5),
                        self.chance.randbytes(16),
                    )
                await wire.writer.drain()

        await self.each(3, one)


class Loop(Attack):
    """Two peers that send every packet that they get back to each other, as a new one."""

    name = "loop"
    rate = "0.5 packets, each of which makes as many hops as its time allows, 27"
    peers: ClassVar[Peers] = {"loop-0": {}, "loop-1": {}}

    async def run(self) -> None:
        await together(self._mirror("loop-0", "loop-1"), self._mirror("loop-1", "loop-0"))

    async def _mirror(self, own: str, other: str) -> None:
        async def session() -> None:
            async with self.peer(own) as wire, asyncio.TaskGroup() as group:
                begins = group.create_task(self._begins(wire, other)) if own == "loop-0" else None
                async for seen in wire.heard():
                    if seen.kind != octets.MESSAGE:
                        continue
                    packet = octets.read_ilp(seen.protocols["ilp"])
                    if isinstance(packet, octets.PrepareSeen):
                        wire.request(
                            octets.prepare(
                                packet.amount, packet.expires_at_ms, packet.condition,
                                packet.destination.replace(own, other), packet.data,
                            )
                        )  # fmt: skip
                        self.done["hops"] += 1
                if begins is not None:
                    begins.cancel()

        await self.keep(session)

    async def _begins(self, wire: Wire, other: str) -> None:
        async for _ in self.ticks(0.5):
            wire.request(packets.prepare(other, 1))
