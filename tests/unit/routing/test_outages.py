"""A link that is lost for a while: who has another way takes it soon, who has none keeps the route, and nothing circles.

What is asserted here of packets: a node that has a route over a lost link answers T01, one without any F02, which ends payments.
"""

from __future__ import annotations

import random

import pytest

from connector.peering.model import LOCAL
from connector.peering.routing import Learned, Route, RouteSource, RoutingTable
from connector.routing import bounds
from connector.routing.codec import Announcement
from connector.routing.model import announcement
from tests.unit.routing.net import HOLD_DOWN_MS, SECRET, Member, Net


def joined(pairs: list[tuple[str, str]]) -> Net:
    net = Net(sorted({name for pair in pairs for name in pair}))
    for one, other in pairs:
        net.join(one, other, is_customer=True)
    assert net.run(5000, net.all_reach_all) is not None
    net.run(1000)
    return net


def ring(size: int) -> Net:
    names = [f"n{at}" for at in range(size)]
    return joined(list(zip(names, names[1:] + names[:1], strict=True)))


def nobody_is_without_a_route(net: Net) -> bool:
    return all(
        net[one].hop(net[other].address + ".x") is not None
        for one in net.members
        for other in net.members
    )


def watch(net: Net, duration_ms: int) -> int:
    """Let time pass; no way may be a loop meanwhile, nor anybody without a route. When all reach all, after how long."""
    took_ms: list[int] = []
    began_ms = net.now_ms

    def look() -> bool:
        assert nobody_is_without_a_route(net)
        if net.all_reach_all():
            took_ms.append(net.now_ms - began_ms)
        else:
            took_ms.clear()
        return False

    net.run(duration_ms, look)
    assert took_ms, "somebody is not reached"
    return took_ms[0]


@pytest.mark.parametrize("size", [3, 5, 10])
def test_in_a_ring_all_take_the_other_way_and_nobody_is_without_a_route_meanwhile(
    size: int,
) -> None:
    net = ring(size)
    before = {name: net.way("n0", f"g.{name}.x") for name in net.members}
    net.down("n0", "n1")
    # The node beside the cut may hear of the other way last, from its one neighbour.
    assert watch(net, 2 * HOLD_DOWN_MS) < 3000
    net.up("n0", "n1")
    assert watch(net, 5000) == 10, "at the first look"
    assert {name: net.way("n0", f"g.{name}.x") for name in net.members} == before


@pytest.mark.parametrize("seed", range(6))
def test_in_a_mesh_too(seed: int) -> None:
    dice = random.Random(seed)
    names = [f"n{at}" for at in range(10)]
    pairs = {tuple(sorted((names[at], names[(at + 1) % 10]))) for at in range(10)}
    while len(pairs) < 14:
        pairs.add(tuple(sorted(dice.sample(names, 2))))
    net = joined(sorted(pairs))  # type: ignore[arg-type]
    for _ in range(2):
        one, other = dice.choice(sorted(tuple(sorted(link)) for link in net.links))
        net.down(one, other)
        assert watch(net, 8000) < 3000
        net.up(one, other)
        watch(net, 3000)


@pytest.mark.parametrize("outage_ms", [400, 2000, 20_000, HOLD_DOWN_MS - 2000])
def test_where_there_is_no_other_way_the_route_outlives_the_outage(outage_ms: int) -> None:
    net = joined([("a", "b"), ("b", "c"), ("c", "d")])
    net.down("b", "c")

    def look() -> bool:
        assert nobody_is_without_a_route(net)
        return False

    net.run(outage_ms, look)
    net.up("b", "c")
    assert watch(net, 5000) == 10, "at the first look"
    route = net["a"].table.best("g.d")
    assert route is not None
    assert route.learned is not None
    assert not route.learned.is_last_resort


def test_others_are_told_of_a_last_resort_by_a_longer_path() -> None:
    net = joined([("a", "b"), ("b", "c"), ("c", "d")])
    net.down("c", "d")
    net.run(bounds.LOST_MS - 100)
    assert net["a"].path("g.d") == ("g.b", "g.c", "g.d")
    net.run(1000)
    named = ("g.c",) * (1 + bounds.LAST_RESORT_NAMES)
    assert net["a"].path("g.d") == ("g.b", *named, "g.d")
    # What a node that does not know of this looks at: any other way is shorter.
    assert len(net["a"].path("g.d") or ()) > 10


def test_a_node_that_is_gone_for_good_is_forgotten_by_all_soon_after_the_hold_down_time() -> None:
    """No way lives on in a circle of nodes that have it from each other."""
    net = ring(8)
    for name in ("n2", "n5"):
        net.join("n0", name, is_customer=True)
    net.run(3000)
    for link in sorted(map(sorted, net.links)):
        if "n7" in link:
            net.down(*link)
    others = [name for name in net.members if name != "n7"]
    net.run(HOLD_DOWN_MS - 1000)
    took_ms = net.run(20_000, lambda: all(net[one].hop("g.n7.x") is None for one in others))
    assert took_ms is not None
    assert took_ms < 1000 + 5000
    assert all(net[one].table.missed.holds("g.n7.x") for one in others)
    net.run(bounds.MISSED_MS + 5000)
    assert not any(net[one].table.missed.holds("g.n7.x") for one in others)


def test_a_link_that_comes_and_goes_causes_few_updates() -> None:
    net = joined([("a", "b"), ("b", "c"), ("c", "d")])
    net.sent.clear()
    for _ in range(60):
        net.down("c", "d")
        net.run(800)
        net.up("c", "d")
        net.run(200)
    told = [one for _, name, one in net.sent if name == "b" and one.peer_id == "a"]
    assert len(told) < 12


def test_a_neighbour_that_says_nothing_after_an_outage_is_kept_no_longer() -> None:
    net = joined([("a", "b"), ("b", "c")])
    net.loses = lambda name, _request: name == "c"
    began_ms = net.now_ms
    while net["b"].hop("g.c.x") is not None:
        assert net.now_ms - began_ms < HOLD_DOWN_MS + 3000
        net.down("b", "c")
        net.run(1000)
        net.up("b", "c")
        net.run(1000)


def test_a_route_of_the_settings_whose_next_hop_is_away_is_told_as_a_last_resort() -> None:
    net = joined([("a", "b"), ("b", "c"), ("a", "x"), ("x", "c")])
    table = net["b"].table
    table.add(Route(RouteSource.CONFIG, "c", "g.c"))
    net.run(500)
    assert net["a"].hop("g.c.y") == "b"
    assert net["a"].path("g.c") == ("g.b",)
    net.down("b", "c")
    # A long way for `a`, so it takes the other one, and tells `b`.
    assert net.run(3000, lambda: net.way("b", "g.c.y") == ["b", "a", "x", "c"]) is not None
    net.up("b", "c")
    assert net.run(3000, lambda: net.way("a", "g.c.y") == ["a", "b", "c"]) is not None
    table.remove(Route(RouteSource.CONFIG, "c", "g.c"))
    assert table.best("g.c") is not None


def test_a_removed_neighbour_ranks_as_before_when_it_is_back() -> None:
    net = joined([("a", "b"), ("b", "c")])
    member = net["b"]
    net.down("b", "c")
    net.run(1000)
    assert member.table.ranks_last("c")
    member.router.set_neighbours(
        [terms for peer, terms in member.terms.items() if peer != "c"], net.now_ms
    )
    assert not member.table.ranks_last("c")
    assert not member.table.missed.holds("g.c.x"), "that was the will of an operator"


def test_an_announcement_without_room_for_a_longer_path_is_none() -> None:
    learned = Learned(path=("g." + "a" * 900, "g." + "b" * 900), auth=bytes(32))
    route = Route(RouteSource.PEER, "bob", "g.b", learned)
    assert announcement(route, "g.us", SECRET) is not None
    longer = announcement(route, "g.us", SECRET, is_last_resort=True)
    assert longer is not None
    assert longer.path[:3] == ("g.us", "g.us", "g.us")
    assert longer.size <= bounds.ROUTE_BYTES_MAX
    assert announcement(route, "g." + "c" * 200, SECRET, is_last_resort=True) is None


def test_the_rank_of_a_last_resort() -> None:
    table = RoutingTable()
    ways = {
        "far": ("g.far", "g.x", "g.y", "g.z", "g.d"),
        "twice": ("g.twice", "g.twice", "g.d"),
        "near": ("g.near", "g.d"),
    }
    for name, path in ways.items():
        source = RouteSource.CHILD if name == "twice" else RouteSource.PEER
        table.add(Route(source, name, "g.d", Learned(path=path, auth=bytes(32))))
    order = [route.next_hop for route in table.candidates("g.d")]
    assert order == ["near", "far", "twice"]
    table.rank_last("near", True, ["g.d"])
    assert [route.next_hop for route in table.candidates("g.d")] == ["far", "twice", "near"]
    table.add(Route(RouteSource.LOCAL, LOCAL, "g.d"))
    assert table.candidates("g.d")[0].next_hop == LOCAL
    table.rank_last("near", False, ["g.d"])
    assert [route.next_hop for route in table.candidates("g.d")][1:] == ["near", "far", "twice"]


def restart(net: Net, name: str, *, remembers: bool) -> None:
    """Another process of a node begins, perhaps with the routes of the one before; its links are lost."""
    old = net[name]
    peers = sorted(old.terms)
    for peer in peers:
        net.links.discard(frozenset((name, peer)))
        net[peer].router.disconnected(name, net.now_ms, comes_back=False)
    net.members[name] = new = Member(name, process=net.now_ms)
    new.terms = old.terms
    new.router.set_neighbours(new.terms.values(), net.now_ms)
    for peer in peers if remembers else ():
        known = old.router.neighbours[peer].receiver.routes.values()
        routes = [
            Announcement(prefix=one.prefix, path=one.learned.path, auth=one.learned.auth)
            for one in known
            if one.learned is not None
        ]
        new.router.restore(peer, routes, net.now_ms, net.now_ms)


def test_a_process_that_remembers_routes_leaves_nobody_without_one() -> None:
    net = joined([("a", "b"), ("b", "c"), ("c", "d")])
    restart(net, "b", remembers=True)
    assert nobody_is_without_a_route(net)
    net.run(1500, lambda: not nobody_is_without_a_route(net))
    net.up("a", "b")
    net.run(1500, lambda: not nobody_is_without_a_route(net))
    assert nobody_is_without_a_route(net)
    net.up("b", "c")
    assert watch(net, 3000) == 10
    route = net["a"].table.best("g.d")
    assert route is not None
    assert route.learned is not None
    assert not route.learned.is_last_resort


def test_one_that_does_not_is_a_moment_without() -> None:
    net = joined([("a", "b"), ("b", "c"), ("c", "d")])
    restart(net, "b", remembers=False)
    assert net["b"].hop("g.d.x") is None
    net.up("a", "b")
    net.run(1000)
    # Its table is known by now, and has no such route.
    assert net["a"].hop("g.d.x") is None
    assert net["a"].table.missed.holds("g.d.x")
    net.up("b", "c")
    assert net.run(5000, net.all_reach_all) is not None


def test_remembered_routes_of_a_neighbour_that_never_comes_go_after_the_hold_down_time() -> None:
    net = joined([("a", "b"), ("b", "c")])
    restart(net, "b", remembers=True)
    net.up("a", "b")
    net.run(1000)
    assert net["b"].table.ranks_last("c")
    assert net["a"].hop("g.c.x") == "b"
    took_ms = net.run(2 * HOLD_DOWN_MS, lambda: net["a"].hop("g.c.x") is None)
    assert took_ms is not None
    assert took_ms <= HOLD_DOWN_MS + 1000


def test_what_a_new_table_of_a_neighbour_does_not_name_goes_when_it_is_whole() -> None:
    net = joined([("a", "b"), ("b", "c")])
    restart(net, "b", remembers=True)
    net.up("a", "b")
    # c has gone meanwhile, and so has what it had announced: nobody remembers that but b.
    restart(net, "c", remembers=False)
    net["c"].table.remove(Route(RouteSource.LOCAL, LOCAL, "g.c"))
    net.up("b", "c")
    assert net.run(3000, lambda: net["b"].hop("g.c.x") is None) is not None
    assert net.run(3000, lambda: net["a"].hop("g.c.x") is None) is not None


def test_what_is_remembered_is_taken_by_the_rules_of_today() -> None:
    net = joined([("a", "b")])
    router = net["a"].router
    net.down("a", "b")
    router.neighbours["b"].receiver.forget()
    routes = [
        Announcement(prefix=prefix, path=("g.b",), auth=bytes(32))
        for prefix in ("g.x", "g.a", "", "test.x", "g.a.y")
    ]
    fresh = Member("a", process=1)
    fresh.terms = net["a"].terms
    fresh.router.set_neighbours(fresh.terms.values(), net.now_ms)
    fresh.router.restore("b", routes, net.now_ms, net.now_ms)
    fresh.router.restore("nobody", routes, net.now_ms, net.now_ms)
    assert set(fresh.router.neighbours["b"].receiver.routes) == {"g.x"}
    fresh.router.set_address("g.other", net.now_ms)
    assert fresh.router.neighbours["b"].receiver.routes == {}
    assert fresh.hop("g.x.y") is None
