"""Attacks by peers that announce routes (CCP): too many, again and again, and ones that are not theirs."""

from __future__ import annotations

import struct
from typing import ClassVar, Final

from connector.simulation import octets
from tests.hostile import packets
from tests.hostile.attack import Attack, Peers, together
from tests.hostile.target import ADDRESS, RECEIVER
from tests.hostile.wire import Wire

_AUTH: Final = bytes(32)
_CUSTOMER: Final = {"transit": True, "creditLimit": 0}
_ROUTES_AT_ONCE: Final = 700
_NESTED: Final = 24


def update(
    table: bytes, new: list[tuple[str, list[str]]], gone: list[str], *, to: int = 0, start: int = 0
) -> bytes:
    """A route update, a Prepare; `new`: prefixes and their paths."""
    head = table + struct.pack(">IIII", to, start, to, 45_000)
    body = head + octets.var(b"g.eve") + _count(len(new))
    for prefix, path in new:
        body += octets.var(prefix.encode()) + _count(len(path))
        body += b"".join(octets.var(hop.encode()) for hop in path) + _AUTH + _count(0)
    body += _count(len(gone)) + b"".join(octets.var(prefix.encode()) for prefix in gone)
    return octets.prepare(0, packets.soon_ms(), packets.PEER, "peer.route.update", body)


def control(table: bytes, epoch: int = 0, mode: int = 1) -> bytes:
    """A request for routes, a Prepare."""
    body = bytes((mode,)) + table + struct.pack(">I", epoch) + _count(0)
    return octets.prepare(0, packets.soon_ms(), packets.PEER, "peer.route.control", body)


def _count(number: int) -> bytes:
    return octets.var(number.to_bytes(max(1, (number.bit_length() + 7) // 8), "big"))


class RouteFloods(Attack):
    """Tables of hundreds of routes that change with each update, names without octets, endless questions."""

    name = "route-floods"
    rate = "10 updates of 32 KB of 4 peers, 50 requests for routes of one that answers nothing"
    peers: ClassVar[Peers] = {f"router-{number}": _CUSTOMER for number in range(4)} | {
        "router-asks": _CUSTOMER
    }

    async def run(self) -> None:
        await together(
            *(self.sends(f"router-{number}", 2.5, self._update) for number in range(4)),
            self.keep(self._asks),
        )

    def _update(self, count: int) -> bytes:
        chance = self.chance
        table = chance.randbytes(16)
        nested = [f"g.top{'.c' * depth}" for depth in range(_NESTED)]
        deep = nested[-1]
        many = [
            (f"{deep}.{chance.randrange(10**6)}", ["g.eve"]) for _ in range(_ROUTES_AT_ONCE // 3)
        ]
        match count % 6:
            case 0:
                routes = [
                    (f"g.{chance.randrange(10**6):x}", ["g.e"]) for _ in range(_ROUTES_AT_ONCE)
                ]
                return update(table, routes, [])
            case 1:
                return update(bytes(15) + b"1", many, [])
            case 2:
                return update(bytes(15) + b"1", [(prefix, ["g.eve"]) for prefix in nested], [])
            case 3:
                return update(bytes(15) + b"1", [], nested)
            case 4:
                return update(table, [], [""] * 32_000)
            case _:
                return update(table, [("g.a", [""] * 500)] * 55, [])

    async def _asks(self) -> None:
        async with self.peer("router-asks") as wire:
            async for _ in self.ticks(50):
                wire.request(control(self.chance.choice((bytes(16), self.chance.randbytes(16)))))
                await wire.writer.drain()
                self.done["asked"] += 1


class RouteThieves(Attack):
    """Announces the node's own address, its peers', everybody's: no packet may come of it."""

    name = "route-thieves"
    rate = "1 update with all that is not its own"
    peers: ClassVar[Peers] = {"aaa-thief": _CUSTOMER}

    async def run(self) -> None:
        await self.keep(self._steal)

    async def _steal(self) -> None:
        others = f"{ADDRESS}.{RECEIVER}"
        prefixes = (ADDRESS, others, f"{others}.shop", f"{others}.shop.x", "", "g", "test", "g.")
        wanted = [(prefix, path) for prefix in prefixes for path in ([], ["g"], [others])]
        async with self.peer("aaa-thief") as wire:
            answers = self._answers(wire)
            await together(answers, self._announce(wire, wanted))

    async def _announce(self, wire: Wire, wanted: list[tuple[str, list[str]]]) -> None:
        async for _ in self.ticks(1):
            wire.request(update(self.chance.randbytes(16), wanted, []))
            await wire.writer.drain()
            self.done["announced"] += len(wanted)

    async def _answers(self, wire: Wire) -> None:
        async for seen in wire.heard():
            if seen.kind != octets.MESSAGE:
                continue
            packet = octets.read_ilp(seen.protocols["ilp"])
            assert isinstance(packet, octets.PrepareSeen)
            if packet.destination.startswith("peer."):
                wire.answer(seen.request_id, octets.fulfill(bytes(32)))
            else:
                self.find(f"a packet for {packet.destination} came to who has announced it")
