"""Detects loops of routes: packets of this node that come back to it.

Nothing in a Prepare names the nodes that it has passed. But its **copy** has the same destination, condition
and data, is to be sent to the same next hop while the first one still waits for its answer, and expires earlier
than the first one was forwarded with. Amounts are not compared: fees and rates change them.

A copy proves nothing. Pings have one condition for all, and so may other packets; somebody else may send
an equal packet at the same time, over more nodes or with less time. So a copy is forwarded, but its expiry is **marked**: shortened
by a few hundred milliseconds, a number that is not known before. Only who gets the copy learns it. The other
nodes of a loop take the same off in each lap. If a packet comes back again from the same peer, and its lap has shortened it by
exactly what the lap before has, its expiry contains our mark: it is our own. It is refused before anything is held.

Marks of other nodes would hide ours, so only the node where a packet enters a loop marks it: there the
first one came from another peer than its copies. If all come from the same peer (a node of
another kind, which does not look for loops, is where the packet enters), the first one of two equal laps is
marked, which costs one lap more. The other nodes do not see two equal laps then.

Once a loop is found, copies that come from that peer along that route are refused at once for
`LOOP_KNOWN_MS`; then it has to be found anew. So each node of a loop forwards a packet twice at most,
and once as soon as the loop is known, instead of until its time runs out.

Packets resent under their packet ids are not compared: they join the flow of the first one, or are
recovered from the ledger (`driver`). Nor is a peer without packet ids mistaken that sends a packet again:
that expires later than what was forwarded.

A packet costs one look-up, and one entry while it waits for its answer.
"""

from __future__ import annotations

from connector.ilp.packet import Prepare
from connector.ledger.model import TAG_BITS
from connector.peering.model import Peer
from connector.peering.routing import Route
from connector.switch import bounds
from connector.switch.terms import Offer


class Loop:
    """A loop of routes, as an operator is told of it."""

    __slots__ = ("destination", "found_ms", "next_hop_id", "packets", "prefix", "seen_ms", "source_id", "told",
                 "told_ms")  # fmt: skip

    def __init__(self, source_id: str, route: Route) -> None:
        self.source_id = source_id
        """The peer from which packets come back."""
        self.prefix = route.prefix
        """Of the route that they take; empty: the default route."""
        self.next_hop_id = route.next_hop
        self.destination = ""
        """Of the last packet."""
        self.packets = 0
        """Refused since they came back."""
        self.found_ms = 0
        """When a packet came back with our mark."""
        self.seen_ms = 0
        """When the last packet was refused."""
        self.told = 0
        """How many of the packets the log has."""
        self.told_ms = 0


class Loops:
    """See the module. All times are milliseconds since the epoch."""

    def __init__(self) -> None:
        self.packets = 0
        """Refused since they came back."""
        self._forwarded: dict[bytes, Offer] = {}
        """Packets that wait for the answer of a next hop, by condition; of equal ones the first, or its
        last lap. With `_sharing`, never more than packets in flight."""
        self._sharing: dict[tuple[bytes, str, bytes], Offer] = {}
        """Those that have their condition in common with one of `_forwarded` and are not equal to it:
        pings, above all. By condition, destination and data."""
        self._found: dict[tuple[str, str, str], Loop] = {}
        """By peer, prefix and next hop; never more than LOOPS_MAX."""

    @property
    def waiting(self) -> int:
        """Packets that others are compared with."""
        return len(self._forwarded) + len(self._sharing)

    def began(self, offer: Offer) -> None:
        """A packet is sent to its next hop."""
        prepare = offer.prepare
        first = self._forwarded.setdefault(prepare.condition, offer)
        if first is offer:
            return
        # An equal packet of somebody else must not hide one that has come back.
        if not _are_equal(first.prepare, prepare):
            key = offer.key = (prepare.condition, prepare.destination, prepare.data)
            if self._sharing.setdefault(key, offer) is not offer and offer.lap_ms:
                self._sharing[key] = offer
        elif offer.lap_ms:
            self._forwarded[prepare.condition] = offer

    def ended(self, offer: Offer) -> None:
        """It waits no longer."""
        condition = offer.prepare.condition
        if self._forwarded.get(condition) is offer:
            del self._forwarded[condition]
            return
        key = offer.key
        if key is not None:
            other = self._sharing.pop(key, None)
            if other is not None and other is not offer:
                self._sharing[key] = other

    def find(self, prepare: Prepare) -> Offer | None:
        """A packet equal to `prepare` that waits for its answer."""
        first = self._forwarded.get(prepare.condition)
        if first is not None and _are_equal(first.prepare, prepare):
            return first
        if not self._sharing:
            return None
        # Also where `_forwarded` has none: the packet with the same condition may have been answered first.
        return self._sharing.get((prepare.condition, prepare.destination, prepare.data))

    def has_passed(self, prepare: Prepare) -> bool:
        """Whether an equal packet, which waits for its answer, was forwarded with more time than this one has."""
        first = self.find(prepare)
        return first is not None and first.deadline_ms > prepare.expires_at_ms

    def refuses(
        self, first: Offer, lap_ms: int, source: Peer, prepare: Prepare, route: Route, now_ms: int
    ) -> bool:
        """Whether `prepare`, a copy of `first`, is refused; then it is counted."""
        key = (source.peer_id, route.prefix, route.next_hop)
        loop = self._found.get(key)
        if first.mark_ms and lap_ms == first.lap_ms and source is first.source:
            if loop is None:
                if len(self._found) >= bounds.LOOPS_MAX:
                    del self._found[min(self._found, key=self._seen_ms)]
                loop = self._found[key] = Loop(source.peer_id, route)
            loop.found_ms = now_ms
        elif loop is None or now_ms - loop.found_ms >= bounds.LOOP_KNOWN_MS:
            return False
        assert len(self._found) <= bounds.LOOPS_MAX, len(self._found)
        loop.packets += 1
        loop.seen_ms = now_ms
        loop.destination = prepare.destination
        self.packets += 1
        assert loop.packets <= self.packets, (loop.packets, self.packets)
        return True

    def _seen_ms(self, key: tuple[str, str, str]) -> int:
        return self._found[key].seen_ms

    def current(self, now_ms: int) -> list[Loop]:
        """Loops in which a packet was refused in the last LOOP_SHOWN_MS, the latest first."""
        for key, loop in list(self._found.items()):
            if now_ms - loop.seen_ms >= bounds.LOOP_SHOWN_MS:
                del self._found[key]
        return sorted(self._found.values(), key=_last_first)

    def take_news(self, now_ms: int) -> list[tuple[Loop, int]]:
        """Loops to be logged, with the packets since the last time: each every LOOP_TOLD_AGAIN_MS."""
        news: list[tuple[Loop, int]] = []
        for loop in self.current(now_ms):
            untold = loop.packets - loop.told
            assert untold >= 0, (loop.packets, loop.told)
            if untold and (not loop.told or now_ms - loop.told_ms >= bounds.LOOP_TOLD_AGAIN_MS):
                loop.told = loop.packets
                loop.told_ms = now_ms
                news.append((loop, untold))
        return news


def mark_ms(first: Offer, lap_ms: int, source: Peer, packet_id: int) -> int:
    """By how much more the expiry of a copy is shortened, to recognise it; zero: not at all.

    `packet_id`: of the copy, ours, from whose random bits the mark is made.
    """
    if source is first.source and lap_ms != first.lap_ms:
        return 0
    return bounds.LOOP_MARK_MS_MIN + (packet_id >> TAG_BITS) % bounds.LOOP_MARKS


def _last_first(loop: Loop) -> tuple[int, str, str]:
    return -loop.seen_ms, loop.source_id, loop.prefix


def lap_ms(first: Offer, prepare: Prepare, next_hop: Peer) -> int:
    """By how much an equal packet expires earlier than `first` was forwarded with; zero: it is no copy."""
    if first.next_hop is not next_hop:
        return 0
    return max(0, first.deadline_ms - prepare.expires_at_ms)


def _are_equal(one: Prepare, other: Prepare) -> bool:
    """Whether two packets with the same condition are equal in all else that no node changes."""
    return one.destination == other.destination and one.data == other.data
