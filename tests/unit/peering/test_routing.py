"""The routing table: which peer a packet goes to."""

from __future__ import annotations

import random

import pytest

from connector.peering import bounds as peering_bounds
from connector.peering.routing import Explanation, Learned, Route, RouteSource, RoutingTable


def route(prefix: str, next_hop: str = "bob", source: RouteSource = RouteSource.CONFIG) -> Route:
    return Route(source, next_hop, prefix)


def hop(table: RoutingTable, destination: str) -> str | None:
    found = table.find(destination)
    return None if found is None else found.next_hop


def test_an_empty_table_has_no_route() -> None:
    table = RoutingTable()
    assert table.find("g.alice") is None
    assert len(table) == 0
    assert list(table) == []


@pytest.mark.parametrize(
    ("destination", "expected"),
    [
        ("g.alice", "alice"),
        ("g.alice.wallet", "wallet"),
        ("g.alice.wallet.7", "wallet"),
        ("g.alice.other", "alice"),
        ("g.al", "all of g"),
        ("g.alicea", "all of g"),
        ("g.alice.wallet2", "alice"),
        ("g.Alice", "all of g"),
        ("test.alice", "default"),
        ("ga.alice", "default"),
    ],
)
def test_the_longest_prefix_by_whole_segments_wins(destination: str, expected: str) -> None:
    table = RoutingTable(
        [
            route("", "default"),
            route("g", "all of g"),
            route("g.alice", "alice"),
            route("g.alice.wallet", "wallet"),
        ]
    )
    assert hop(table, destination) == expected
    assert hop(table, destination) == expected  # from the cache


@pytest.mark.parametrize(
    ("destination", "prefix", "within"),
    [
        ("g.alice", "", True),
        ("g.alice", "g.alice", True),
        ("g.alice.bob", "g.alice", True),
        ("g.alice", "g", True),
        ("g.alice", "g.al", False),
        ("g.al", "g.alice", False),
        ("g.Alice", "g.alice", False),
        ("test.alice", "test1", False),
        ("test1.alice", "test", False),
    ],
)
def test_a_route_takes_addresses_by_whole_segments(
    destination: str, prefix: str, *, within: bool
) -> None:
    assert hop(RoutingTable([route(prefix)]), destination) == ("bob" if within else None)


def test_without_a_default_route_other_addresses_have_none() -> None:
    table = RoutingTable([route("g.alice", "alice")])
    assert hop(table, "g.al") is None
    assert hop(table, "g") is None
    assert hop(table, "test.alice") is None


def test_the_better_source_wins_for_the_same_prefix_whatever_the_order() -> None:
    by_rank = [route("g.x", f"via {source.name}", source) for source in RouteSource]
    for order in (by_rank, by_rank[::-1], by_rank[2:] + by_rank[:2]):
        table = RoutingTable(order)
        assert len(table) == 1
        for best in by_rank:
            assert table.find("g.x.y") == best
            table.remove(best)
        assert table.find("g.x.y") is None


def test_sources_rank_as_the_rfc_says() -> None:
    assert [source.name for source in sorted(RouteSource)] == [
        "CONFIG",
        "LOCAL",
        "CHILD",
        "PEER",
        "PARENT",
    ]


def test_the_lower_peer_id_wins_between_equals() -> None:
    assert hop(RoutingTable([route("g.x", "b"), route("g.x", "a")]), "g.x") == "a"


def test_a_longer_prefix_wins_over_a_better_source() -> None:
    table = RoutingTable(
        [route("g.x", "config"), route("g.x.y", "parent", RouteSource.PARENT)],
    )
    assert hop(table, "g.x.y") == "parent"


def test_a_route_added_twice_is_gone_when_removed_once() -> None:
    table = RoutingTable([route("g.x"), route("g.x")])
    assert hop(table, "g.x") == "bob"
    table.remove(route("g.x"))
    assert table.find("g.x") is None
    assert len(table) == 0


def test_a_change_is_seen_at_once_by_addresses_already_looked_up() -> None:
    table = RoutingTable([route("g", "g")])
    assert hop(table, "g.x.y") == "g"
    table.add(route("g.x", "x"))
    assert hop(table, "g.x.y") == "x"
    table.add(route("g.x", "a"))
    assert hop(table, "g.x.y") == "a"
    table.remove(route("g.x", "a"))
    assert hop(table, "g.x.y") == "x"
    table.remove(route("g.x", "x"))
    assert hop(table, "g.x.y") == "g"
    table.remove(route("g", "g"))
    assert hop(table, "g.x.y") is None
    table.add(route("", "default"))
    assert hop(table, "g.x.y") == "default"


def test_removing_an_unknown_route_changes_nothing() -> None:
    table = RoutingTable([route("g.x", "x")])
    table.remove(route("g.y", "x"))
    table.remove(route("g.x", "y"))
    assert hop(table, "g.x") == "x"


def test_removing_one_of_two_prefixes_of_a_length_keeps_the_other() -> None:
    table = RoutingTable([route("g.x", "x"), route("g.y", "y")])
    table.remove(route("g.x", "x"))
    assert hop(table, "g.y") == "y"
    assert hop(table, "g.x") is None


def test_only_lengths_that_some_route_has_are_looked_up() -> None:
    table = RoutingTable([route(""), route("g.a"), route("g.b"), route("g.a.b.c")])
    assert table._depths == [4, 2, 0]
    table.remove(route("g.a"))
    table.remove(route("g.a.b.c"))
    assert table._depths == [2, 0]
    table.remove(route("g.b"))
    table.remove(route(""))
    assert table._depths == []


@pytest.mark.parametrize("prefix", [".", "g.", "g..x", "x", "g.x.", "g x", "G"])
def test_an_invalid_prefix_is_refused_by_the_table(prefix: str) -> None:
    table = RoutingTable()
    with pytest.raises(ValueError, match="not an address prefix"):
        table.add(route(prefix))
    assert len(table) == 0


@pytest.mark.interpreted
def test_the_table_takes_exactly_as_many_prefixes_as_allowed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(peering_bounds, "ROUTES_MAX", 2)
    table = RoutingTable([route("g.a"), route("g.b")])
    table.add(route("g.b", "another way"))
    with pytest.raises(ValueError, match="more than 2 routes"):
        table.add(route("g.c"))
    assert [found.prefix for found in table] == ["g.a", "g.b"]


@pytest.mark.interpreted
def test_the_cache_is_bounded_and_still_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peering_bounds, "ROUTE_CACHE_ENTRIES_MAX", 3)
    table = RoutingTable([route("g.even", "even"), route("g.odd", "odd")])
    for _ in range(2):
        for number in range(10):
            name = "odd" if number % 2 else "even"
            assert hop(table, f"g.{name}.{number}") == name
            assert len(table._cache) <= 3


def test_the_best_routes_are_listed_by_prefix() -> None:
    table = RoutingTable([route("g.b"), route("g.a", "z"), route("g.a", "y"), route("")])
    assert [(found.prefix, found.next_hop) for found in table] == [
        ("", "bob"),
        ("g.a", "y"),
        ("g.b", "bob"),
    ]


@pytest.mark.parametrize("seed", range(5))
def test_a_table_that_changes_is_listed_in_order_from_any_place(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peering_bounds, "UNSORTED_MORE_MAX", seed * 5)
    chance = random.Random(seed)
    table = RoutingTable()
    prefixes = ["", "g", *(f"g.{chance.randrange(40)}.{chance.randrange(3)}" for _ in range(60))]
    there: set[str] = set()
    for _ in range(2000):
        prefix = chance.choice(prefixes)
        if chance.random() < 0.5:
            table.add(route(prefix))
            there.add(prefix)
        else:
            table.remove(route(prefix))
            there.discard(prefix)
        if chance.random() < 0.1:
            after = chance.choice(prefixes)
            wanted = sorted(one for one in there if one > after or not after)
            assert [one.prefix for one in table.after(after)] == wanted


def test_an_explanation_names_the_chosen_the_shorter_and_the_beaten() -> None:
    chosen, beaten = route("g.x.y", "a"), route("g.x.y", "b", RouteSource.PEER)
    shorter, default = route("g.x", "c"), route("", "d")
    other = route("g.z", "e")
    table = RoutingTable([default, beaten, other, shorter, chosen])
    assert table.explain("g.x.y.z") == Explanation(
        destination="g.x.y.z", chosen=chosen, shorter=(shorter, default), beaten=(beaten,)
    )


def test_an_explanation_without_a_route_says_that_there_is_none() -> None:
    assert RoutingTable([route("g.x")]).explain("g.y") == Explanation(
        destination="g.y", chosen=None, shorter=(), beaten=()
    )


def test_a_very_long_address_is_looked_up_like_a_short_one() -> None:
    table = RoutingTable([route("g.a", "a"), route("g.a.a.a", "deep")])
    assert hop(table, "g" + ".a" * 500) == "deep"


@pytest.mark.parametrize(
    ("prefix", "next_hop", "expected"),
    [
        ("g.bob.wallet", "mallory", "bob"),
        ("g.bob.wallet.7", "mallory", "bob"),
        ("g.bob", "mallory", None),  # the configured one is used
        ("g.bob.wallet", "bob", None),
        ("g.bobby", "mallory", None),
        ("g.carol", "mallory", None),  # a whole network's route and the default are no promise
        ("g.dan.x", "mallory", None),  # learned as well
    ],
)
def test_it_is_known_which_configured_route_a_learned_one_goes_before(
    prefix: str, next_hop: str, expected: str | None
) -> None:
    learned = Learned(path=("g.x",), auth=bytes(32))
    table = RoutingTable(
        [
            route("", "default"),
            route("g", "network"),
            route("g.bob", "bob"),
            Route(RouteSource.PEER, "dan", "g.dan", learned),
        ]
    )
    one = Route(RouteSource.PEER, next_hop, prefix, learned)
    table.add(one)
    before = table.goes_before(one)
    assert (None if before is None else before.next_hop) == expected
    assert table.goes_before(route(prefix, "mallory")) is None
