"""Another way for a packet that its next hop has refused: once, and only while nothing is promised. Pure.

A next hop that answers T01, T02 or T05 says that it cannot forward now; one that is not there could not even be
asked. Then the next best route for the same prefix is tried (RFC 32), within the time that the packet has left, with a hold of its own under an id
that is derived from the packet's (`ledger.model.second_id`). Every legal step is a row of `TRANSITIONS`;
what the sender gets is where they end: the answer of the FIRST next hop, or of the SECOND.

What is certain before the second hold is requested: the first next hop has answered with a Reject, or was not sent the
packet, and its hold is being given back. So no more than one hop can be paid. After a crash the second hold, if the
ledger has it, is what counts (`accounting.recovery`); the first next hop is never asked again then.

Not another way:

- for a Reject of a node behind the next hop, as far as its address is known: all nodes of a way would try
  theirs, and one packet would become as many as there are ways;
- for a packet that has passed this node before, or was resent after a restart of it;
- for an unknown outcome (T00, R00): the next hop may have been paid.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import Enum, auto
from typing import Final

from connector.ilp.ildcp import child_address
from connector.peering.model import LOCAL, Peer, PeerRegistry, Relation
from connector.peering.routing import Route, RoutingTable

CODES: Final = frozenset(("T01", "T02", "T05"))
"""Of a Reject: the next hop cannot forward now, and has promised nothing."""


class Step(Enum):
    """How far the second way has come."""

    REFUSED = auto()
    """The first next hop has refused, and its hold is given back: another one is looked for."""
    HOLDING = auto()
    """The money for the other one is being held; nothing is sent."""
    SENT = auto()
    """It may have been sent."""
    FIRST = auto()
    """Over: the sender gets the answer of the first next hop."""
    SECOND = auto()
    """Over: the sender gets the answer of the second."""


class StepEvent(Enum):
    """What can happen."""

    NO_OTHER = auto()
    """There is no other way, or not enough time for it."""
    OTHER = auto()
    HELD = auto()
    """Also where there is nothing to hold."""
    NOT_HELD = auto()
    TOO_LATE = auto()
    """The ledger took so long that it cannot be sent: the second hold is given back."""
    NOT_SENT = auto()
    """The second next hop is not there, or too slow: its hold is given back."""
    ANSWERED = auto()
    """By the second next hop, or by its time being over."""


_S, _E = Step, StepEvent
TRANSITIONS: Final[Mapping[tuple[Step, StepEvent], Step]] = {
    (_S.REFUSED, _E.NO_OTHER): _S.FIRST,
    (_S.REFUSED, _E.OTHER): _S.HOLDING,
    (_S.HOLDING, _E.HELD): _S.SENT,
    (_S.HOLDING, _E.NOT_HELD): _S.FIRST,
    (_S.HOLDING, _E.TOO_LATE): _S.FIRST,
    (_S.SENT, _E.NOT_SENT): _S.FIRST,
    (_S.SENT, _E.ANSWERED): _S.SECOND,
}


class SecondWay:
    """The second way of one packet."""

    __slots__ = ("step",)

    def __init__(self) -> None:
        self.step = Step.REFUSED

    def move(self, event: StepEvent) -> None:
        """Go on along `TRANSITIONS`."""
        to = TRANSITIONS.get((self.step, event))
        assert to is not None, (self.step, event)
        self.step = to


class Ways:
    """How often a second way was tried, and how often it led to a Fulfill."""

    def __init__(self) -> None:
        self.tried = 0
        self.fulfilled = 0


def refuses_itself(
    hop: Peer, routes: RoutingTable, destination: str, triggered_by: str, own_address: str
) -> bool:
    """Whether a next hop has refused a packet itself, as far as its address is known.

    Known is that of a child, and of who has announced the route. Otherwise any is taken for its, but
    ours: then the packet has come back.
    """
    if hop.terms.relation is Relation.CHILD and own_address:
        return triggered_by == child_address(own_address, hop.terms.child_segment)
    for route in _candidates(routes, destination):
        if route.next_hop == hop.peer_id and route.learned is not None and route.learned.path:
            return triggered_by == route.learned.path[0]
    return triggered_by != own_address and not triggered_by.startswith(own_address + ".")


def others(
    routes: RoutingTable, peers: PeerRegistry, destination: str, source: Peer, first_id: str
) -> Iterator[tuple[Route, Peer]]:
    """Ways for the same prefix whose next hop is there, the best first: neither `first_id` nor back to the sender."""
    for route in _candidates(routes, destination):
        if route.next_hop in (LOCAL, first_id):
            continue
        peer = peers.get(route.next_hop)
        if peer is not None and peer is not source and not peer.away and not peer.draining:
            yield route, peer


def _candidates(routes: RoutingTable, destination: str) -> Iterator[Route]:
    best = routes.find(destination)
    if best is not None:
        yield from routes.candidates(best.prefix)
