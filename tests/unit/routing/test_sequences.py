"""Requests in any order, broken ones among them: the table holds what neighbours are known to have said."""

from __future__ import annotations

import random

import pytest

from connector.ilp.packet import Code, Fulfill, reject
from connector.peering.model import LOCAL, Relation
from connector.peering.routing import Property, Route, RouteSource, RoutingTable
from connector.routing import bounds, codec
from connector.routing.codec import Announcement, Mode, RouteControl, RouteUpdate
from connector.routing.model import NeighbourTerms, is_within
from connector.routing.router import Request, Router

STEPS = 200
PEERS = ("bob", "eve", "zoe")
HOPS = ("g.bob", "g.us", "g", "")
EPOCHS = (0, 1, 2, 5, 2**32 - 1)
ANSWERS = (
    Fulfill(fulfillment=bytes(32)),
    reject(Code.T05_RATE_LIMITED, "", ""),
    reject(Code.F00_BAD_REQUEST, "", ""),
)


class Sequence:
    """A router among neighbours that do anything."""

    def __init__(self, seed: int) -> None:
        chance = self.chance = random.Random(seed)
        self.table = RoutingTable([Route(RouteSource.LOCAL, LOCAL, "g.us")])
        self.router = Router(
            self.table, secret=bytes(32), interval_ms=3000, hold_down_ms=4500,
            random_octets=chance.randbytes,
        )  # fmt: skip
        self.router.set_address("g.us", 0)
        self.now_ms = 0
        self.tables = [chance.randbytes(16) for _ in range(3)]
        self.under_way: list[Request] = []
        self.change_terms()

    def change_terms(self) -> None:
        chance = self.chance
        self.router.set_neighbours(
            [
                NeighbourTerms(
                    peer_id=peer, relation=chance.choice(list(Relation)),
                    sends=chance.random() < 0.9, receives=chance.random() < 0.9,
                    is_customer=chance.random() < 0.7,
                )
                for peer in PEERS
                if chance.random() < 0.95
            ],
            self.now_ms,
        )  # fmt: skip

    def prefix(self) -> str:
        chance = self.chance
        segments = chance.choices(("a", "b", "us", "a-b", "x" * 900), (9, 9, 3, 3, 1), k=3)
        name = ".".join(("g", *segments[: chance.randint(1, 3)]))
        return chance.choice((name, name, name, name, "", "g", "test.x", "peer.a"))

    def announcement(self) -> Announcement:
        chance = self.chance
        return Announcement(
            prefix=self.prefix(),
            path=tuple(chance.choices(HOPS, (9, 2, 1, 1), k=chance.randint(0, 3))),
            auth=chance.randbytes(32),
            properties=tuple(
                Property(flags=flags, id=1, value=bytes(size))
                for flags, size in ((0x40, 3), (0xC0, 700))
                if chance.random() < 0.2
            ),
        )

    def update(self) -> bytes:
        chance = self.chance
        octets = codec.encode_update(
            RouteUpdate(
                table_id=chance.choice(self.tables), current_epoch=chance.choice(EPOCHS),
                from_epoch=chance.choice(EPOCHS[:3]), to_epoch=chance.choice(EPOCHS),
                hold_down_ms=chance.choice((0, 1000, 2**32 - 1)),
                speaker=chance.choice(("g.bob", "", "x")),
                new=tuple(self.announcement() for _ in range(chance.randint(0, 8))),
                withdrawn=tuple(self.prefix() for _ in range(chance.randint(0, 4))),
            )
        )  # fmt: skip
        if chance.random() < 0.2:
            at = chance.randrange(len(octets))
            octets = octets[:at] + chance.randbytes(1) + octets[at + 1 :]
        return octets

    def control(self) -> bytes:
        chance = self.chance
        ours = [one.sender.table_id for one in self.router.neighbours.values()]
        return codec.encode_control(
            RouteControl(
                mode=chance.choice(list(Mode)),
                table_id=chance.choice([bytes(16), *self.tables, *ours]),
                epoch=chance.choice([*EPOCHS, self.router.journal.epoch]),
            )
        )

    def step(self) -> None:
        chance, router, peer = self.chance, self.router, self.chance.choice(PEERS)
        self.now_ms += chance.choice((0, 1, 10, 60, 200, 2000))
        what = chance.random()
        if what < 0.55:
            destination, data = (
                (codec.UPDATE, self.update()) if what < 0.4 else (codec.CONTROL, self.control())
            )
            request = codec.request(destination, data, self.now_ms + 100)
            router.request(peer, request, self.now_ms)
        elif what < 0.62:
            router.connected(peer, self.now_ms)
        elif what < 0.66:
            router.disconnected(peer, self.now_ms, comes_back=chance.random() < 0.5)
        elif what < 0.68:
            self.change_terms()
        elif what < 0.69:
            router.set_address(chance.choice(("g.us", "g.a", "test.us")), self.now_ms)
        self.under_way += router.tick(self.now_ms)
        for one in [one for one in self.under_way if chance.random() < 0.5]:
            self.under_way.remove(one)
            router.answered(one, chance.choice(ANSWERS), self.now_ms)

    def check(self) -> None:
        said = {
            (name, prefix): route
            for name, one in self.router.neighbours.items()
            for prefix, route in one.receiver.routes.items()
        }
        held = {
            (route.next_hop, route.prefix): route
            for best in self.table
            for route in self.table.candidates(best.prefix)
            if route.learned is not None
        }
        assert held == said
        assert [route.learned for route in held.values()] == [said[key].learned for key in held]
        assert self.router.room.routes == len(said)
        own = self.router.address
        assert not [prefix for _, prefix in held if is_within(prefix, own) or "." not in prefix]
        assert all(route.hops for route in held.values())


@pytest.mark.parametrize("seed", range(40))
def test_what_is_in_the_table_a_neighbour_has_said_last(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (
        ("ROUTES_PER_PEER_MAX", 30), ("ROUTES_MAX", 60), ("ROUTE_BYTES_PER_PEER_MAX", 3000),
        ("WITHDRAWN_MAX", 5), ("ROUTES_PER_LOOK_MAX", 6), ("ROUTES_BELOW_AT_ONCE", 2),
    ):  # fmt: skip
        monkeypatch.setattr(bounds, name, value)
    sequence = Sequence(seed)
    for _ in range(STEPS):
        sequence.step()
        sequence.check()
