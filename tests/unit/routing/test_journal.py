"""The journal of changes: bounded work at a time, and a follower that ends with what is told."""

from __future__ import annotations

import random

import pytest

from connector.ilp.packet import Code, Fulfill, reject
from connector.peering.model import LOCAL
from connector.peering.routing import Learned, Route, RouteSource, RoutingTable
from connector.routing import bounds, codec
from connector.routing.codec import NO_TABLE, Announcement, Mode, RouteControl
from connector.routing.journal import Journal
from connector.routing.model import NeighbourTerms
from connector.routing.router import Request, Router

ANSWERED = Fulfill(fulfillment=bytes(32))


def learned(next_hop: str, prefix: str) -> Route:
    path = (f"g.{next_hop}",)
    return Route(RouteSource.PEER, next_hop, prefix, Learned(path=path, auth=bytes(32)))


def test_a_change_that_concerns_many_others_is_entered_in_bounded_steps() -> None:
    """Thirty nested prefixes, each above thousands: as much work as the routes are many, not thirty times that."""
    table = RoutingTable()
    journal = Journal(table)
    nested = ["g.top" + ".c" * depth for depth in range(28)]
    below = [f"{nested[-1]}.r{at}" for at in range(6000)]
    for prefix in below:
        table.add(learned("eve", prefix))
    looks = 0
    while journal.has_work:
        journal.look()
        looks += 1
    assert looks == pytest.approx(len(below) / (bounds.ROUTES_PER_LOOK_MAX // 2), abs=1)
    before = journal.epoch
    for prefix in nested:
        table.add(learned("eve", prefix))
    most = bounds.ROUTES_PER_LOOK_MAX + len(below) // bounds.ROUTES_SORTED_PER_EXAMINED
    looks = 0
    while journal.has_work:
        assert journal.look() <= most
        looks += 1
    assert looks < 10
    told = [prefix for _, prefix in journal.after(before)]
    assert sorted(told) == sorted([*nested, *below]), "each once"


def test_a_prefix_that_moves_all_the_time_keeps_nothing_below_it_from_its_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bounds, "ROUTES_PER_LOOK_MAX", 8)
    monkeypatch.setattr(bounds, "ROUTES_BELOW_AT_ONCE", 2)
    table = RoutingTable()
    journal = Journal(table)
    below = [f"g.top.r{at}" for at in range(100)]
    for prefix in below:
        table.add(learned("bob", prefix))
    while journal.has_work:
        journal.look()
    began = journal.epoch
    for turn in range(100):
        # There, and gone again.
        (table.remove if turn % 2 else table.add)(learned("eve", "g.top"))
        journal.look()
    assert {prefix for _, prefix in journal.after(began)} >= set(below)


def test_withdrawn_prefixes_are_forgotten_when_all_know_and_one_that_is_back_is_none() -> None:
    table = RoutingTable()
    journal = Journal(table)
    routes = [learned("eve", f"g.r{at}") for at in range(100)]
    for route in routes:
        table.add(route)
    journal.look()
    for route in routes:
        table.remove(route)
    journal.look()
    gone = journal.epoch
    table.add(routes[0])
    journal.look()
    journal.forget_withdrawn(0)
    assert len(journal) == 100
    assert journal.complete_from == 0
    journal.forget_withdrawn(journal.epoch)
    assert len(journal) == 1
    assert journal.complete_from == gone
    assert journal.best("g.r0") == routes[0]


class Follower:
    """A neighbour that keeps what it is told."""

    def __init__(self) -> None:
        self.table_id = NO_TABLE
        self.epoch = 0
        self.has: dict[str, Announcement] = {}

    def take(self, data: bytes) -> bool:
        update = codec.decode_update(data)
        if update.table_id != self.table_id:
            self.table_id, self.epoch = update.table_id, 0
            self.has.clear()
        if update.from_epoch > self.epoch:
            return False
        if update.to_epoch < self.epoch:
            return True
        self.epoch = update.to_epoch
        for prefix in update.withdrawn:
            self.has.pop(prefix, None)
        self.has |= {one.prefix: one for one in update.new}
        return True


@pytest.mark.parametrize("seed", range(30))
def test_whoever_follows_ends_with_what_is_told(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nested routes come and go; updates cross with requests, are lost, and arrive late."""
    monkeypatch.setattr(bounds, "ROUTES_PER_LOOK_MAX", 4)
    monkeypatch.setattr(bounds, "ROUTES_BELOW_AT_ONCE", 1)
    monkeypatch.setattr(bounds, "ROUTES_SORTED_SINGLY_MAX", seed % 3)
    monkeypatch.setattr(bounds, "WITHDRAWN_MAX", 3 if seed % 2 else 1000)
    chance = random.Random(seed)
    prefixes = ["g.a", "g.a.b", "g.a.b.c", "g.a.b.d", "g.a-b", "g.a.bb", "g.e", "g.e.f", "g.h"]
    table = RoutingTable([Route(RouteSource.LOCAL, LOCAL, "g.us")])
    router = Router(
        table, secret=bytes(32), interval_ms=30_000, hold_down_ms=45_000,
        random_octets=chance.randbytes,
    )  # fmt: skip
    router.set_address("g.us", 0)
    terms = NeighbourTerms(peer_id="next", is_customer=True)
    router.set_neighbours([terms], 0)
    router.connected("next", 0)
    follower = Follower()
    under_way: list[Request] = []
    now_ms = 0

    def ask() -> None:
        known = chance.random() < 0.5
        control = RouteControl(
            mode=Mode.SYNC,
            table_id=follower.table_id if known else NO_TABLE,
            epoch=follower.epoch if known else 0,
        )
        request = codec.request(codec.CONTROL, codec.encode_control(control), now_ms + 60_000)
        assert isinstance(router.request("next", request, now_ms), Fulfill)

    def arrives(request: Request) -> None:
        if chance.random() < 0.2:
            router.answered(request, reject(Code.R00_TRANSFER_TIMED_OUT, "", "lost"), now_ms)
            return
        is_told = follower.take(request.data)
        is_lost = chance.random() < 0.2
        answer = ANSWERED if is_told and not is_lost else reject(Code.T00_INTERNAL_ERROR, "", "")
        router.answered(request, answer, now_ms)
        if not is_told:
            ask()

    def tick() -> None:
        for request in router.tick(now_ms):
            if request.number:
                under_way.append(request)
                assert len(under_way) <= bounds.UPDATES_UNANSWERED_MAX
            else:
                router.answered(request, reject(Code.F00_BAD_REQUEST, "", "none"), now_ms)

    ask()
    for _ in range(400):
        now_ms += chance.randrange(200)
        route = learned(chance.choice(("bob", "eve")), chance.choice(prefixes))
        (table.add if chance.random() < 0.6 else table.remove)(route)
        if chance.random() < 0.05:
            ask()
        tick()
        # In order, as over a link.
        while under_way and chance.random() < 0.4:
            arrives(under_way.pop(0))
    chance.random = lambda: 0.9  # type: ignore[method-assign]
    for _ in range(100):
        now_ms += 200
        tick()
        while under_way:
            arrives(under_way.pop(0))
    wanted = {prefix: router.told(terms, prefix) for prefix in [*prefixes, "g.us"]}
    assert follower.has == {prefix: one for prefix, one in wanted.items() if one is not None}


def test_of_many_neighbours_some_are_told_at_a_time_and_all_in_turn() -> None:
    table = RoutingTable([Route(RouteSource.LOCAL, LOCAL, "g.us")])
    router = Router(
        table, secret=bytes(32), interval_ms=30_000, hold_down_ms=45_000,
        random_octets=random.Random(1).randbytes,
    )  # fmt: skip
    router.set_address("g.us", 0)
    names = [f"n{at}" for at in range(3 * bounds.UPDATES_PER_TICK_MAX)]
    router.set_neighbours((NeighbourTerms(peer_id=name, receives=False) for name in names), 0)
    control = codec.encode_control(RouteControl(mode=Mode.SYNC, table_id=NO_TABLE, epoch=0))
    for name in names:
        router.connected(name, 0)
        router.request(name, codec.request(codec.CONTROL, control, 1000), 0)
    told: list[str] = []
    for now_ms in range(0, 150, 50):
        requests = router.tick(now_ms)
        assert len(requests) == bounds.UPDATES_PER_TICK_MAX
        told += [one.peer_id for one in requests]
    assert sorted(told) == sorted(names)
