"""The routing table: longest prefix by whole segments, and precedence of routes.

Several routes may name one prefix; the best is used and the others are kept as fallbacks (RFC 32,
requirement 81): configured, local, child, peer, parent, then the shorter path, then the lower peer id. After all of
these come routes whose path names a node twice: that is how a node says that its own link on the way is lost
(docs/decisions/0015). Last come those over a next hop whose link is lost here.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from itertools import islice
from typing import Final

from connector.ilp import address
from connector.peering import bounds
from connector.peering.missed import Missed


class RouteSource(IntEnum):
    """Where a route comes from; the lower wins for the same prefix."""

    CONFIG = 0
    LOCAL = 1
    CHILD = 2
    PEER = 3
    PARENT = 4


@dataclass(slots=True, frozen=True, kw_only=True)
class Property:
    """A property of a route, as CCP carries it."""

    flags: int
    """The octet on the wire: 0x80 optional, 0x40 transitive, 0x20 partial, 0x10 UTF-8."""
    id: int
    """0 to 65535."""
    value: bytes


@dataclass(slots=True, frozen=True, kw_only=True)
class Learned:
    """What a peer has announced of a route (CCP)."""

    path: tuple[str, ...]
    """Addresses of the nodes on the way, the next hop first."""
    auth: bytes
    """32 octets."""
    properties: tuple[Property, ...] = ()
    learned_ms: int = field(default=0, compare=False)
    """When, in milliseconds since the epoch."""

    @property
    def is_last_resort(self) -> bool:
        """Whether a node on the way has lost its link, and says so by naming itself more than once."""
        return len(set(self.path)) < len(self.path)


@dataclass(slots=True, frozen=True, order=True)
class Route:
    """Packets for `prefix` and below go to `next_hop`. What was learned does not count when compared."""

    source: RouteSource
    next_hop: str
    """A peer id."""
    prefix: str
    """An ILP address prefix; empty for the default route."""
    learned: Learned | None = field(default=None, compare=False)
    """None: a route of the settings."""

    @property
    def hops(self) -> int:
        """Nodes on the way, as far as they are known."""
        return 0 if self.learned is None else len(self.learned.path)

    @property
    def origin(self) -> str:
        """Where it comes from, as the API shows it: `ccp` if a peer has announced it."""
        return self.source.name.lower() if self.learned is None else "ccp"


@dataclass(slots=True, frozen=True, kw_only=True)
class Explanation:
    """Why packets for an address go where they go."""

    destination: str
    chosen: Route | None
    shorter: tuple[Route, ...]
    """Routes that match fewer segments, longest first."""
    beaten: tuple[Route, ...]
    """Routes for the same prefix that rank lower."""


class RoutingTable:
    """All current routes."""

    def __init__(self, routes: Iterable[Route] = ()) -> None:
        self._routes: dict[str, list[Route]] = {}
        self._depths: list[int] = []
        self._counts: dict[int, int] = {}
        self._cache: dict[str, Route | None] = {}
        self._changed: dict[str, None] = {}
        self._order: list[str] = []
        """The prefixes as they were, sorted."""
        self._unsorted: dict[str, None] = {}
        """Those that have come or gone since."""
        self._last: dict[str, None] = {}
        """Next hops whose routes rank last."""
        self._static: dict[str, dict[str, None]] = {}
        """Prefixes of the routes that were not learned, by next hop."""
        self.missed: Final = Missed()
        for route in routes:
            self.add(route)

    def __len__(self) -> int:
        return len(self._routes)

    def __iter__(self) -> Iterator[Route]:
        """The best route of every prefix, by prefix."""
        return self.after("")

    def after(self, prefix: str) -> Iterator[Route]:
        """Those of the prefixes that come after this one; empty: all.

        Cheap where few prefixes have come or gone since the last call: a table of many is shown page by page.
        """
        order = self._sorted()
        at = bisect_right(order, prefix) if prefix else 0
        return (self._routes[one][0] for one in islice(order, at, None))

    def _sorted(self) -> list[str]:
        if self._unsorted:
            unsorted, self._unsorted = self._unsorted, {}
            order = [prefix for prefix in self._order if prefix not in unsorted]
            order += [prefix for prefix in unsorted if prefix in self._routes]
            order.sort()
            self._order = order
        return self._order

    def _has_changed(self, prefix: str) -> None:
        """A prefix has come or gone."""
        self._unsorted[prefix] = None
        if len(self._unsorted) > len(self._routes) + bounds.UNSORTED_MORE_MAX:
            self._order = []
            self._unsorted = dict.fromkeys(self._routes)

    def best(self, prefix: str) -> Route | None:
        """The route in use for exactly this prefix, if there is one."""
        candidates = self._routes.get(prefix)
        return None if candidates is None else candidates[0]

    def candidates(self, prefix: str) -> Sequence[Route]:
        """All routes for exactly this prefix, the best first."""
        return self._routes.get(prefix, ())

    def has_room(self, prefixes: int) -> bool:
        """Whether so many more prefixes may come."""
        return len(self._routes) + prefixes <= bounds.ROUTES_MAX

    @property
    def has_changed(self) -> bool:
        """Whether `take_changed` would return any."""
        return bool(self._changed)

    def take_changed(self) -> dict[str, None]:
        """Prefixes whose routes have changed since the last call, in the order of their first change."""
        changed, self._changed = self._changed, {}
        return changed

    def add(self, route: Route) -> None:
        """Add a route, or replace what was learned of it; adding it twice has no effect.

        Raises:
            ValueError: the prefix is not one, or the table is full.
        """
        if not address.is_prefix(route.prefix):
            raise ValueError(f"{route.prefix!r} is not an address prefix")
        candidates = self._routes.get(route.prefix)
        if candidates is None:
            if len(self._routes) >= bounds.ROUTES_MAX:
                raise ValueError(f"more than {bounds.ROUTES_MAX} routes")
            self._routes[route.prefix] = [route]
            self._count(_depth(route.prefix), 1)
            self._has_changed(route.prefix)
        else:
            if route in candidates:
                if candidates[candidates.index(route)].learned == route.learned:
                    return
                candidates.remove(route)
            candidates.append(route)
            candidates.sort(key=self._rank)
        if route.learned is None:
            self._static.setdefault(route.next_hop, {})[route.prefix] = None
        self._changed[route.prefix] = None
        self._cache.clear()

    def remove(self, route: Route) -> None:
        """Drop a route; unknown ones are ignored."""
        candidates = self._routes.get(route.prefix)
        if candidates is None or route not in candidates:
            return
        candidates.remove(route)
        if route.learned is None:
            static = self._static.get(route.next_hop)
            if static is not None and not any(
                one.learned is None and one.next_hop == route.next_hop for one in candidates
            ):
                static.pop(route.prefix, None)
        if not candidates:
            del self._routes[route.prefix]
            self._count(_depth(route.prefix), -1)
            self._has_changed(route.prefix)
        self._changed[route.prefix] = None
        self._cache.clear()

    def rank_last(self, next_hop: str, is_last: bool, learned: Iterable[str]) -> None:
        """Rank all routes over a next hop last, because its link is lost, or no longer.

        `learned`: the prefixes of those that it has announced.
        """
        if is_last is self.ranks_last(next_hop):
            return
        if is_last:
            self._last[next_hop] = None
        else:
            del self._last[next_hop]
        for prefixes in (learned, self._static.get(next_hop, {})):
            for prefix in prefixes:
                candidates = self._routes.get(prefix)
                if candidates is not None:
                    candidates.sort(key=self._rank)
                    self._changed[prefix] = None
        self._cache.clear()

    def ranks_last(self, next_hop: str) -> bool:
        """Whether routes over a next hop rank last."""
        return next_hop in self._last

    def _rank(self, route: Route) -> tuple[int, int, int, str]:
        if route.next_hop in self._last:
            resort = 2
        else:
            resort = int(route.learned is not None and route.learned.is_last_resort)
        return resort, route.source, route.hops, route.next_hop

    def _count(self, depth: int, change: int) -> None:
        self._counts[depth] = self._counts.get(depth, 0) + change
        if not self._counts[depth]:
            del self._counts[depth]
        self._depths = sorted(self._counts, reverse=True)

    def find(self, destination: str) -> Route | None:
        """The best route of the longest prefix that holds `destination`, if there is one."""
        try:
            return self._cache[destination]
        except KeyError:
            pass
        found = next(self._matches(destination), None)
        route = None if found is None else found[0]
        if len(self._cache) >= bounds.ROUTE_CACHE_ENTRIES_MAX:
            self._cache.clear()
        self._cache[destination] = route
        return route

    def _matches(self, destination: str) -> Iterator[list[Route]]:
        """The candidates of every prefix that holds `destination`, longest prefix first.

        Only prefixes with as many segments as some route has are looked up: an address of five
        hundred segments costs no more than a short one.
        """
        segments = destination.split(".", self._depths[0]) if self._depths else []
        for depth in self._depths:
            if depth > len(segments):
                continue
            candidates = self._routes.get(".".join(segments[:depth]))
            if candidates is not None:
                yield candidates

    def goes_before(self, route: Route) -> Route | None:
        """Of the settings' routes for shorter prefixes, the longest over another next hop that a learned one goes before.

        None: there is none. The default route, and that of a whole network, are there to be gone before.
        """
        if route.learned is None:
            return None
        prefix = route.prefix.rpartition(".")[0]
        while "." in prefix:
            for one in self._routes.get(prefix, ()):
                if one.learned is None and one.next_hop != route.next_hop:
                    return one
            prefix = prefix.rpartition(".")[0]
        return None

    def explain(self, destination: str) -> Explanation:
        """Which route is taken, and which others there were."""
        matches = list(self._matches(destination))
        return Explanation(
            destination=destination,
            chosen=matches[0][0] if matches else None,
            shorter=tuple(candidates[0] for candidates in matches[1:]),
            beaten=tuple(matches[0][1:]) if matches else (),
        )


def _depth(prefix: str) -> int:
    return prefix.count(".") + 1 if prefix else 0
