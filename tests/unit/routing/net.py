"""Routers joined in simulated time, without nodes: requests arrive after a delay, or not at all."""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable, Iterable
from typing import Any

from connector.ilp.packet import Code, Fulfill, Reject, reject
from connector.peering.model import LOCAL, Relation
from connector.peering.routing import Route, RouteSource, RoutingTable
from connector.routing import bounds, codec
from connector.routing.model import NeighbourTerms
from connector.routing.router import Request, Router

INTERVAL_MS = 30_000
HOLD_DOWN_MS = 45_000
DELAY_MS = 5
SECRET = b"s" * 32


class Member:
    """A router with its routing table."""

    def __init__(self, name: str, **settings: Any) -> None:
        self.name = name
        self.address = f"g.{name}"
        self.table = RoutingTable([Route(RouteSource.LOCAL, LOCAL, self.address)])
        self.terms: dict[str, NeighbourTerms] = {}
        self.refused: list[tuple[str, str]] = []
        source = random.Random(f"{name} {settings.get('process', '')}")
        self.router = Router(
            self.table,
            secret=SECRET,
            interval_ms=settings.get("interval_ms", INTERVAL_MS),
            hold_down_ms=settings.get("hold_down_ms", HOLD_DOWN_MS),
            random_octets=source.randbytes,
            refused=lambda peer_id, why: self.refused.append((peer_id, why)),
        )
        self.router.set_address(self.address, 0)

    def hop(self, destination: str) -> str | None:
        found = self.table.find(destination)
        return None if found is None else found.next_hop

    def path(self, prefix: str) -> tuple[str, ...] | None:
        found = self.table.best(prefix)
        return None if found is None or found.learned is None else found.learned.path


class Net:
    """Members, the links between them, and time."""

    def __init__(self, names: Iterable[str], **settings: Any) -> None:
        self.members = {name: Member(name, **settings) for name in names}
        self.now_ms = 1_000_000
        self.links: set[frozenset[str]] = set()
        self.dead: set[str] = set()
        self.sent: list[tuple[int, str, Request]] = []
        """When, by whom, what."""
        self.loses: Callable[[str, Request], bool] = lambda _name, _request: False
        self._events: list[tuple[int, int, Callable[[], None]]] = []
        self._order = itertools.count()

    def __getitem__(self, name: str) -> Member:
        return self.members[name]

    def join(self, one: str, other: str, relation: Relation = Relation.PEER, **more: Any) -> None:
        """Link two; `relation`: what `other` is for `one`."""
        back = {Relation.CHILD: Relation.PARENT, Relation.PARENT: Relation.CHILD}
        for name, peer, its in (
            (one, other, relation),
            (other, one, back.get(relation, Relation.PEER)),
        ):
            terms = {"is_customer": its is Relation.CHILD, **more}
            member = self[name]
            member.terms[peer] = NeighbourTerms(peer_id=peer, relation=its, **terms)
            member.router.set_neighbours(member.terms.values(), self.now_ms)
        self.up(one, other)

    def up(self, one: str, other: str) -> None:
        self.links.add(frozenset((one, other)))
        self[one].router.connected(other, self.now_ms)
        self[other].router.connected(one, self.now_ms)

    def down(self, one: str, other: str) -> None:
        self.links.discard(frozenset((one, other)))
        for name, peer in ((one, other), (other, one)):
            if name not in self.dead:
                self[name].router.disconnected(peer, self.now_ms, comes_back=False)

    def freeze(self, name: str) -> None:
        """It says nothing any more, and its links stay."""
        self.dead.add(name)

    def after(self, delay_ms: int, work: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now_ms + delay_ms, next(self._order), work))

    def run(self, duration_ms: int, until: Callable[[], bool] = lambda: False) -> int | None:
        """Let time pass; gives the milliseconds until it was so, None: it was not."""
        began_ms = self.now_ms
        while self.now_ms < began_ms + duration_ms:
            self.now_ms += 10
            while self._events and self._events[0][0] <= self.now_ms:
                heapq.heappop(self._events)[2]()
            for name, member in self.members.items():
                if name not in self.dead:
                    for request in member.router.tick(self.now_ms):
                        self._send(name, request)
            if until():
                return self.now_ms - began_ms
        return None

    def _send(self, name: str, request: Request) -> None:
        self.sent.append((self.now_ms, name, request))
        router, peer = self[name].router, request.peer_id

        def answered(answer: Fulfill | Reject) -> None:
            router.answered(request, answer, self.now_ms)

        def late() -> None:
            answered(reject(Code.R00_TRANSFER_TIMED_OUT, "", "no answer"))

        if self.loses(name, request) or peer in self.dead:
            self.after(bounds.ANSWER_MS_MAX, late)
            return

        def arrives() -> None:
            if frozenset((name, peer)) not in self.links:
                late()
                return
            prepare = codec.request(request.destination, request.data, self.now_ms + 60_000)
            answer = self[peer].router.request(name, prepare, self.now_ms)
            self.after(DELAY_MS, lambda: answered(answer))

        self.after(DELAY_MS, arrives)

    # --- what has to hold

    def way(self, source: str, destination: str) -> list[str] | None:
        """The nodes that a packet passes; None: it does not arrive. A loop is an error.

        A node does not send a packet back to where it came from (`switch.switch`).
        """
        way = [source]
        while True:
            hop = self[way[-1]].hop(destination)
            if hop == LOCAL:
                return way
            if hop is None or frozenset((way[-1], hop)) not in self.links:
                return None
            if len(way) > 1 and hop == way[-2]:
                return None
            assert hop not in way, f"loop: {[*way, hop]}"
            way.append(hop)

    def all_reach_all(self) -> bool:
        alive = [name for name in self.members if name not in self.dead]
        return all(
            self.way(one, self[other].address + ".x") is not None
            for one in alive
            for other in alive
        )
