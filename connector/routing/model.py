"""The terms of routing with a neighbour, and the rules of what is taken from and told to it."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Collection
from dataclasses import dataclass, replace

from connector.ilp import address
from connector.peering.model import LOCAL, Relation
from connector.peering.routing import Route, RouteSource
from connector.routing import bounds
from connector.routing.codec import Announcement

_SOURCES = {
    Relation.CHILD: RouteSource.CHILD,
    Relation.PEER: RouteSource.PEER,
    Relation.PARENT: RouteSource.PARENT,
}


@dataclass(slots=True, frozen=True, kw_only=True)
class NeighbourTerms:
    """How routes are exchanged with a peer."""

    peer_id: str
    relation: Relation = Relation.PEER
    sends: bool = True
    """Whether we announce routes to it."""
    receives: bool = True
    """Whether we take routes from it."""
    is_customer: bool = False
    """Whether it gets all routes, and its routes are told to all: a child, or a peer with TRANSIT."""
    send_prefixes: tuple[str, ...] = ()
    """Only routes at or below these are announced; empty: all."""
    receive_prefixes: tuple[str, ...] = ()
    """Only routes at or below these are taken; empty: all."""

    @property
    def source(self) -> RouteSource:
        """Of the routes learned from it."""
        return _SOURCES[self.relation]


def is_within(prefix: str, of: str) -> bool:
    """Whether `prefix` is `of` or below it, by whole segments."""
    return of in (prefix, "") or prefix.startswith(of + ".")


def network_of(own_address: str) -> str:
    """The scheme that all routes of a network begin with, such as `g`."""
    return own_address.split(".", 1)[0]


def may_take(terms: NeighbourTerms, own_address: str, route: Announcement) -> str:
    """Why an announcement is not taken; empty: it is (requirement 80)."""
    prefix = route.prefix
    network = network_of(own_address)
    if not address.is_prefix(prefix) or not all(map(address.is_address, route.path)):
        return "not an address"
    if "." not in prefix:
        return "a default route"
    if not is_within(prefix, network):
        return "another network"
    if is_within(prefix, own_address):
        return "our own prefix"
    if own_address in route.path:
        return "loop"
    if prefix.count(".") >= bounds.SEGMENTS_MAX or route.size > bounds.ROUTE_BYTES_MAX:
        return "too long"
    if len(route.properties) > bounds.PROPERTIES_MAX:
        return "too many properties"
    if not _passes(prefix, terms.receive_prefixes):
        return "filtered"
    return ""


def may_tell(
    terms: NeighbourTerms, own_address: str, route: Route, customers: Collection[str]
) -> bool:
    """Whether the route in use for a prefix is announced to a neighbour (requirement 80).

    `customers`: the ids of those that pay for transit. What they have announced, and this node itself, all
    are told; all else only they are told. What lies below our own address is found by that.
    """
    prefix = route.prefix
    if not terms.sends or route.next_hop == terms.peer_id:
        return False
    if "." not in prefix or not is_within(prefix, network_of(own_address)):
        return False
    if is_within(prefix, own_address) and prefix != own_address:
        return False
    if not (terms.is_customer or route.next_hop == LOCAL or route.next_hop in customers):
        return False
    return _passes(prefix, terms.send_prefixes)


def _passes(prefix: str, allowed: tuple[str, ...]) -> bool:
    return not allowed or any(is_within(prefix, one) for one in allowed)


def announcement(
    route: Route, own_address: str, secret: bytes, *, is_last_resort: bool = False
) -> Announcement | None:
    """A route in use as it is announced (requirement 82): our address before its path.

    `is_last_resort`: the link to its next hop is lost, so our address stands there several times, which makes the path
    longer than any other for nodes of other kinds, too. None: there is no room for that.
    """
    learned = route.learned
    if learned is None:
        auth = hmac.digest(secret, route.prefix.encode("ascii"), "sha256")
        plain = Announcement(prefix=route.prefix, path=(own_address,), auth=auth)
    else:
        plain = Announcement(
            prefix=route.prefix,
            path=(own_address, *learned.path),
            auth=hashlib.sha256(learned.auth).digest(),
            properties=tuple(one for one in learned.properties if one.flags & 0x40),
        )
    if not is_last_resort:
        return plain
    # Each name has up to three octets before it; nobody takes an announcement beyond these bounds.
    room = (bounds.ROUTE_BYTES_MAX - plain.size) // (len(own_address) + 3)
    more = min(bounds.LAST_RESORT_NAMES, room, bounds.HOPS_MAX - len(plain.path))
    if more < 1:
        return None
    return replace(plain, path=(own_address,) * more + plain.path)
