"""Admission: the rules that a Prepare must pass, in order.

A rule takes the packet and returns a Reject or None. Their order stands in `check`: cheap checks
first; the rate limit is last, so only packets that pass all other rules use its tokens.
"""

from __future__ import annotations

from connector.base import limits
from connector.ilp.packet import Code, Prepare, Reject, amount_too_large_data, reject
from connector.peering.model import Peer
from connector.switch import bounds


class Node:
    """What the rules need of this node."""

    __slots__ = (
        "address",
        "disk_full",
        "foreign_prefixes",
        "in_flight",
        "in_flight_bytes",
        "stopping",
    )

    address: str
    """Own ILP address; empty while it is not known yet."""
    foreign_prefixes: tuple[str, ...]
    """Address prefixes of the other network, live or test."""

    def __init__(self, address: str) -> None:
        self.set_address(address)
        self.in_flight = 0
        """Prepares of all peers without an answer."""
        self.in_flight_bytes = 0
        """Octets of their data."""
        self.stopping = False
        self.disk_full = False
        """The room left on the disk is for packets in flight (`base.room`)."""

    def set_address(self, address: str) -> None:
        """Set this node's address, which also determines its network (live or test)."""
        self.address = address
        if address.startswith("g."):
            self.foreign_prefixes = ("test.", "test1.", "test2.", "test3.")
        elif address.startswith("test"):
            self.foreign_prefixes = ("g.",)
        else:
            self.foreign_prefixes = ()


def ready(node: Node, _source: Peer, prepare: Prepare, _now_ms: int) -> Reject | None:
    """Refuses all packets while stopping, and all but peer protocols without an own address."""
    if node.stopping:
        return reject(Code.T03_CONNECTOR_BUSY, node.address, "shutting down")
    if not node.address and not prepare.destination.startswith("peer."):
        return reject(Code.T03_CONNECTOR_BUSY, node.address, "no address yet")
    return None


def not_expired(node: Node, _source: Peer, prepare: Prepare, now_ms: int) -> Reject | None:
    """Refuses a Prepare that has expired (RFC 27)."""
    if prepare.expires_at_ms <= now_ms:
        return reject(Code.R00_TRANSFER_TIMED_OUT, node.address, "packet expired")
    return None


def amount_allowed(node: Node, source: Peer, prepare: Prepare, _now_ms: int) -> Reject | None:
    """Refuses amounts above the largest allowed for this peer (RFC 27, F08).

    What may be held at a time for packets from it, or sent by it in a time, bounds each of them: a larger
    one could never pass.
    """
    terms = source.terms
    amount_max = terms.max_packet_amount
    held_max, sent_max = terms.max_in_flight_value, terms.throughput_in
    if held_max is not None and (amount_max is None or held_max < amount_max):
        amount_max = held_max
    if sent_max is not None and (amount_max is None or sent_max < amount_max):
        amount_max = sent_max
    if amount_max is not None and prepare.amount > amount_max:
        return reject(
            Code.F08_AMOUNT_TOO_LARGE,
            node.address,
            "packet amount too large",
            amount_too_large_data(prepare.amount, amount_max),
        )
    return None


def same_network(node: Node, _source: Peer, prepare: Prepare, _now_ms: int) -> Reject | None:
    """Live and test networks are kept apart (RFC 32, requirement 53)."""
    if prepare.destination.startswith(node.foreign_prefixes):
        return reject(Code.F02_UNREACHABLE, node.address, "other network")
    return None


def in_flight_bounded(node: Node, source: Peer, prepare: Prepare, _now_ms: int) -> Reject | None:
    """Bounds the Prepares in flight, in total and per peer, so that no peers take all places.

    A peer may have as many in flight as places are left: one alone gets half of them, n together
    n / (n + 1), and the next one still finds as many free as each of them has. The same holds for the
    octets of their data. Packets with amount zero cost their sender nothing, so there are far fewer
    places for them.
    """
    # What was counted in is counted out once: in the driver, at the end of a packet.
    assert 0 <= source.in_flight <= node.in_flight, (source.in_flight, node.in_flight)
    free = limits.IN_FLIGHT_TOTAL_MAX - node.in_flight
    if free <= 0:
        return reject(Code.T03_CONNECTOR_BUSY, node.address, "too many packets in flight")
    if source.in_flight >= min(free, limits.IN_FLIGHT_PER_PEER_MAX):
        return reject(Code.T05_RATE_LIMITED, node.address, "too many packets of yours in flight")
    octets = len(prepare.data)
    if octets:
        assert 0 <= source.in_flight_bytes <= node.in_flight_bytes, source.in_flight_bytes
        free = limits.IN_FLIGHT_BYTES_MAX - node.in_flight_bytes
        if octets > free:
            return reject(Code.T03_CONNECTOR_BUSY, node.address, "too much data in flight")
        if source.in_flight_bytes + octets > min(free, limits.IN_FLIGHT_BYTES_PER_PEER_MAX):
            return reject(Code.T05_RATE_LIMITED, node.address, "too much data of yours in flight")
    if not prepare.amount and source.in_flight_unpaid >= bounds.IN_FLIGHT_UNPAID_PER_PEER_MAX:
        return reject(Code.T05_RATE_LIMITED, node.address, "too many packets without an amount")
    return None


def rate_allowed(node: Node, source: Peer, _prepare: Prepare, now_ms: int) -> Reject | None:
    """Packets per second, by token bucket (RFC 18)."""
    if source.terms.rate_limit is not None and not source.take_token(now_ms):
        return reject(Code.T05_RATE_LIMITED, node.address, "too many packets per second")
    return None


def takes_new(node: Node, source: Peer, _prepare: Prepare, _now_ms: int) -> Reject | None:
    """Refuses new packets of a peer that is being removed or is disabled, and all while the disk is nearly full.

    Resent packets whose money is held or posted are finished.
    """
    if node.disk_full:
        return reject(Code.T00_INTERNAL_ERROR, node.address, "no room on disk")
    if source.draining:
        why = "this peer is disabled" if source.disabled else "this peer is being removed"
        return reject(Code.T03_CONNECTOR_BUSY, node.address, why)
    return None


def check(
    node: Node, source: Peer, prepare: Prepare, now_ms: int, *, is_new: bool = True
) -> Reject | None:
    """The Reject of the first rule that `prepare` violates; None: it is admitted.

    Not new is a resent packet whose money is held or posted (`Switch.must_wait`): only the rules that bound
    work are for it. Its amount and network were admitted with the first one, although a limit may be
    lower by now.
    """
    # Calls one by one: those of a tuple's functions are four times as dear, for every packet.
    if not is_new:
        return (
            ready(node, source, prepare, now_ms)
            or in_flight_bounded(node, source, prepare, now_ms)
            or rate_allowed(node, source, prepare, now_ms)
        )
    return (
        takes_new(node, source, prepare, now_ms)
        or ready(node, source, prepare, now_ms)
        or not_expired(node, source, prepare, now_ms)
        or amount_allowed(node, source, prepare, now_ms)
        or same_network(node, source, prepare, now_ms)
        or in_flight_bounded(node, source, prepare, now_ms)
        or rate_allowed(node, source, prepare, now_ms)
    )
