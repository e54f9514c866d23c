"""Next hops that answer T04: they refuse packets because of what we owe them, or of a limit of theirs.

An operator has to settle with such a peer, or to ask for a higher limit; until then every packet to it
fails. A T04 may also come from a node behind the next hop, which is nothing that we could settle: the
`triggered_by` of a Reject tells, as far as the address of the next hop is known (`is_beyond`).
"""

from __future__ import annotations

from connector.ilp.ildcp import child_address
from connector.peering.model import Peer, Relation
from connector.switch import bounds


class Shortage:
    """A next hop that answers T04, as an operator is told of it."""

    __slots__ = ("message", "packets", "peer_id", "seen_ms", "told", "told_ms", "triggered_by")

    def __init__(self, peer_id: str) -> None:
        self.peer_id = peer_id
        self.triggered_by = ""
        """Of the last one, as are message and time."""
        self.message = ""
        self.packets = 0
        """Refused since it began; it ends when there is none for `SHORTAGE_SHOWN_MS`."""
        self.seen_ms = 0
        self.told = 0
        """How many of them the log has."""
        self.told_ms = 0


def is_beyond(next_hop: Peer, triggered_by: str, own_address: str) -> bool:
    """Whether a node behind the next hop has refused the packet, as far as that is known.

    Known is the address of a child, which we assign. What is triggered by ourselves or below us went
    through the next hop and came back.
    """
    if not own_address:
        return False
    if next_hop.terms.relation is Relation.CHILD:
        child = child_address(own_address, next_hop.terms.child_segment)
        if triggered_by == child:
            return False
        if triggered_by.startswith(child + "."):
            return True
    return triggered_by == own_address or triggered_by.startswith(own_address + ".")


class Shortages:
    """The next hops that have answered T04 lately."""

    def __init__(self) -> None:
        self._by_peer: dict[str, Shortage] = {}

    def note(
        self, next_hop: Peer, triggered_by: str, message: str, own_address: str, now_ms: int
    ) -> None:
        """A next hop has answered T04."""
        if is_beyond(next_hop, triggered_by, own_address):
            return
        next_hop.counters.short_out += 1
        peer_id = next_hop.peer_id
        one = self._by_peer.get(peer_id)
        if one is None:
            if len(self._by_peer) >= bounds.SHORTAGES_MAX:
                oldest = min(self._by_peer.values(), key=_seen_ms)
                del self._by_peer[oldest.peer_id]
            one = self._by_peer[peer_id] = Shortage(peer_id)
        elif now_ms - one.seen_ms >= bounds.SHORTAGE_SHOWN_MS:
            one.packets = one.told = 0
        assert len(self._by_peer) <= bounds.SHORTAGES_MAX, len(self._by_peer)
        one.triggered_by, one.message = triggered_by, message
        one.packets += 1
        one.seen_ms = now_ms

    def take_news(self, now_ms: int) -> list[tuple[Shortage, int]]:
        """What an operator is to be told now: each at most once in `SHORTAGE_TOLD_AGAIN_MS`.

        With the number of packets since the last time.
        """
        news = []
        for one in self._by_peer.values():
            since = one.packets - one.told
            if since and (not one.told_ms or now_ms - one.told_ms >= bounds.SHORTAGE_TOLD_AGAIN_MS):
                one.told, one.told_ms = one.packets, now_ms
                news.append((one, since))
        return news

    def current(self, now_ms: int) -> list[Shortage]:
        """Those that are not over, the last one first."""
        found = [
            one for one in self._by_peer.values() if now_ms - one.seen_ms < bounds.SHORTAGE_SHOWN_MS
        ]
        return sorted(found, key=_seen_ms, reverse=True)


def _seen_ms(one: Shortage) -> int:
    return one.seen_ms
