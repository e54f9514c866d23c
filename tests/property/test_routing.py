"""The routing table finds what a naive search by segments finds, after any changes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from connector.peering.routing import Route, RouteSource, RoutingTable

# Few and similar segments, so that prefixes nest, touch and nearly touch.
_segment = st.sampled_from(("a", "al", "alice", "b"))
_prefixes = st.builds(
    lambda scheme, rest: ".".join((scheme, *rest)),
    st.sampled_from(("g", "test", "test1")),
    st.lists(_segment, max_size=4),
) | st.just("")
_destinations = st.builds(
    lambda scheme, rest: ".".join((scheme, *rest)),
    st.sampled_from(("g", "test", "test1", "private")),
    st.lists(_segment, min_size=1, max_size=6),
)
_routes = st.builds(Route, st.sampled_from(RouteSource), st.sampled_from("abc"), _prefixes)
_changes = st.lists(
    st.tuples(st.sampled_from(("add", "add", "remove", "find")), _routes, _destinations),
    max_size=30,
)


def segments(prefix: str) -> list[str]:
    return prefix.split(".") if prefix else []


def matching(routes: set[Route], destination: str) -> list[Route]:
    """Routes that hold `destination`, the best first."""
    wanted = segments(destination)
    found = [r for r in routes if wanted[: len(segments(r.prefix))] == segments(r.prefix)]
    return sorted(found, key=lambda r: (-len(segments(r.prefix)), r.source, r.next_hop))


@given(_changes, st.lists(_destinations, max_size=8))
def test_the_table_finds_what_a_naive_search_finds(
    changes: list[tuple[str, Route, str]], destinations: list[str]
) -> None:
    table, routes = RoutingTable(), set[Route]()
    for change, route, destination in changes:
        match change:
            case "add":
                table.add(route)
                routes.add(route)
            case "remove":
                table.remove(route)
                routes.discard(route)
            case _:
                pass
        # Looking things up between changes fills the cache with what may go stale.
        assert table.find(destination) == next(iter(matching(routes, destination)), None)
    assert len(table) == len({route.prefix for route in routes})
    for destination in destinations:
        best = matching(routes, destination)
        explained = table.explain(destination)
        assert table.find(destination) == explained.chosen == (best[0] if best else None)
        same = tuple(r for r in best[1:] if r.prefix == best[0].prefix)
        assert explained.beaten == same
        shorter = {r.prefix: r for r in reversed(best) if r.prefix != best[0].prefix}
        assert list(explained.shorter) == sorted(
            shorter.values(), key=lambda r: -len(segments(r.prefix))
        )
