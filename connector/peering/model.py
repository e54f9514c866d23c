"""Peers: their assets, terms and counters, and the registry of current peers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from typing import Final

from connector.peering import bounds
from connector.peering.throughput import Shares, SharesState, State, Throughput


class Relation(StrEnum):
    """Relation of a peer to this node; decides addresses and which of two routes wins."""

    PEER = "peer"
    PARENT = "parent"
    CHILD = "child"


@dataclass(slots=True, frozen=True, order=True)
class Asset:
    """The unit of amounts on a link: 10**-scale of a currency."""

    code: str
    scale: int
    """0 to 255."""

    def __str__(self) -> str:
        return f"{self.code}/{self.scale}"


class Unanswered(Enum):
    """Why there is no answer from the next hop."""

    NOT_SENT = "next hop not connected"
    """It cannot have seen the packet."""
    TIMED_OUT = "next hop did not answer in time"
    LINK_LOST = "link to the next hop lost"
    """It may have seen the packet: the outcome is unknown."""
    REFUSED = "next hop could not handle the packet"
    """A BTP Error, or a Response without an ILP packet."""
    BUSY = "next hop is too slow"


LOCAL: Final = ""
"""The peer id of this node itself, as source or next hop."""


@dataclass(slots=True, frozen=True, kw_only=True)
class PeerTerms:
    """The terms agreed with a peer. Amounts in units of its asset."""

    peer_id: str
    asset: Asset
    relation: Relation = Relation.PEER
    credit_limit: int = 0
    """The most that it may owe us."""
    max_payable: int | None = None
    """The most that we may owe it; None: we set no bound."""
    max_in_flight_value: int | None = None
    """The most that is held at a time for packets from it, and for packets to it; None: no bound."""
    max_packet_amount: int | None = None
    """The largest Prepare accepted from it; None: any."""
    rate_limit: int | None = None
    """Prepares per second accepted from it, with bursts of one second; None: no limit."""
    throughput_in: int | None = None
    """The most value that it may send within `throughput_window_ms`; None: no limit."""
    throughput_out: int | None = None
    """The most value that may be sent to it within that time; None: no limit."""
    throughput_window_ms: int = 60_000
    fee_basis_points: int = 0
    """The fee on what it sends, rounded up; 0 to 10000."""
    settle_threshold: int | None = None
    settle_to: int = 0
    max_prepaid: int | None = None
    """The most that its settlement engine can make us owe it without an operator; None: no bound."""
    allow_reflection: bool = False
    """Whether its packets may be sent back to it."""
    wallet: str = ""
    """Of this node as a payee: the wallet that is credited; empty: its own account."""
    segment: str = ""
    """Of a child: what follows our address in its own; empty: its id."""

    @property
    def child_segment(self) -> str:
        """What follows our address in its own, if it is a child."""
        return self.segment or self.peer_id


class PeerCounters:
    """Plain integers, counted on the packet path and read by metrics and status."""

    __slots__ = (
        "amount_in",
        "amount_out",
        "answers_late",
        "answers_malformed",
        "answers_undelivered",
        "fulfilled_in",
        "fulfilled_out",
        "prepares_in",
        "prepares_out",
        "rejected_in",
        "rejected_in_by_code",
        "rejected_out",
        "resent_in",
        "resent_out",
        "resent_refused",
        "short_out",
    )  # fmt: skip

    def __init__(self) -> None:
        self.prepares_in = 0
        self.prepares_out = 0
        self.fulfilled_in = 0
        """Prepares it sent us that were fulfilled."""
        self.fulfilled_out = 0
        """Prepares we sent it that it fulfilled."""
        self.rejected_in = 0
        self.rejected_out = 0
        self.rejected_in_by_code: dict[str, int] = {}
        self.amount_in = 0
        """Fulfilled, in its asset."""
        self.amount_out = 0
        self.answers_late = 0
        self.answers_malformed = 0
        self.answers_undelivered = 0
        self.resent_in = 0
        self.resent_out = 0
        self.resent_refused = 0
        """Refused packets under the id of another packet, or resent after their answer was read."""
        self.short_out = 0
        """Prepares we sent it that it refused with T04, for want of credit of ours."""


@dataclass(slots=True, eq=False)
class Peer:
    """A counterparty: its terms and its current state."""

    terms: PeerTerms
    draining: bool = False
    """Whether it is being removed, or disabled: packets in flight are finished, new ones are refused."""
    disabled: bool = False
    """Whether an operator has disabled it, and it is not being removed; it is `draining` too."""
    away: bool = False
    """Whether its last link was lost, and its process is not just being replaced: another route is taken
    where there is one."""
    in_flight: int = 0
    """Prepares it sent that have no answer yet."""
    in_flight_unpaid: int = 0
    """Those of them whose amount is zero."""
    in_flight_bytes: int = 0
    """Octets of their data."""
    tokens: float = 0.0
    """Tokens of the rate limit at `tokens_at_ms`."""
    tokens_at_ms: int = 0
    throughput_in: Throughput = field(default_factory=Throughput)
    """What it has sent lately, for its limit."""
    throughput_out: Shares = field(default_factory=Shares)
    """What was sent to it lately, and by whom."""
    counters: PeerCounters = field(default_factory=PeerCounters)

    @property
    def peer_id(self) -> str:
        """Its id; `LOCAL` for this node itself."""
        return self.terms.peer_id

    def take_token(self, now_ms: int) -> bool:
        """Whether the rate limit allows one more Prepare now, and count it."""
        rate = self.terms.rate_limit
        if rate is None:
            return True
        burst = float(max(1, rate * bounds.RATE_LIMIT_BURST_SECONDS))
        gained = max(0, now_ms - self.tokens_at_ms) * rate / 1000
        self.tokens = min(burst, self.tokens + gained)
        self.tokens_at_ms = now_ms
        if self.tokens < 1.0:
            return False
        self.tokens -= 1.0
        return True

    def taken(self) -> tuple[float, int, State, SharesState]:
        """What rules have taken of its limits, for `put_back`."""
        limits = self.throughput_in.state(), self.throughput_out.state()
        return self.tokens, self.tokens_at_ms, *limits

    def put_back(self, before: tuple[float, int, State, SharesState]) -> None:
        """Undo what rules have taken since: nothing else has run meanwhile."""
        self.tokens, self.tokens_at_ms, incoming, outgoing = before
        self.throughput_in.restore(incoming)
        self.throughput_out.restore(outgoing)


class PeerRegistry:
    """All current peers, by id."""

    def __init__(self, peers: Iterable[Peer] = ()) -> None:
        self._peers: dict[str, Peer] = {peer.peer_id: peer for peer in peers}

    def add(self, peer: Peer) -> None:
        """Add a peer."""
        assert peer.peer_id not in self._peers, peer.peer_id
        self._peers[peer.peer_id] = peer

    def remove(self, peer_id: str) -> Peer:
        """Remove a peer: packets from and to it are refused from now on."""
        return self._peers.pop(peer_id)

    def get(self, peer_id: str) -> Peer | None:
        """The peer, if there is one."""
        return self._peers.get(peer_id)

    def __getitem__(self, peer_id: str) -> Peer:
        return self._peers[peer_id]

    def __contains__(self, peer_id: object) -> bool:
        return peer_id in self._peers

    def __iter__(self) -> Iterator[Peer]:
        return iter(self._peers.values())

    def __len__(self) -> int:
        return len(self._peers)
