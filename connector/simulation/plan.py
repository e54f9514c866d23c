"""The plan of a seed: nodes, links, payments, faults and hostile actions, all decided beforehand.

A plan is data, so that parts of it can be left out and the rest run again (`story`). `draw` makes one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Final, Literal

from connector.simulation.kinds import REPLACED, Kind

CREDIT_MAX: Final = 10**15
"""A credit limit that nobody reaches."""


@dataclass(frozen=True, slots=True)
class Asset:
    """What a link is denominated in."""

    code: str
    scale: int

    def __str__(self) -> str:
        return f"{self.code}/{self.scale}"


@dataclass(frozen=True, slots=True)
class NodePlan:
    """One connector."""

    name: str
    ledger: str
    """`embedded` or `tigerbeetle`."""
    policy: str
    fee_basis_points: int
    latency_s: float
    """Of its disk or of its connection to the cluster."""
    clock_s: float = 0.0
    """How far its clock is ahead, all the time; below zero: behind."""
    fulfill_when: Literal["durable", "booked"] = "durable"
    """When its Fulfills are relayed."""


@dataclass(frozen=True, slots=True)
class LinkPlan:
    """Two neighbours, or a node and an end of the network: `left` dials."""

    left: str
    right: str
    asset: Asset
    latency_s: float
    resumable: bool = True
    """Whether both sides support packet ids."""
    both_dial: bool = False
    credit_limit: int = CREDIT_MAX
    local: bool = False
    """Not a link: `left` is a receiver within the node `right`."""
    default_of: str = ""
    """The node whose default route leads over it; empty: none does."""
    closes: bool = False
    """Whether it closes a ring of default routes: no other packet takes it."""
    refuses: bool = False
    """`left` is an end with a better route to all that `right` reaches over others, and refuses every packet with
    T01, T02 or T05: each then takes its second way, the one that the judge knows."""
    beside: bool = False
    """Another way between two nodes that others connect, too: the network is no tree then."""
    http: Literal["", "sync", "async"] = ""
    """Packets go by HTTP, answered in this way. An end knows no packet ids then; one that is `async` asks again under
    its `Request-Id`, and recognises what it is asked again."""
    with_btp: bool = False
    """With `http`: and by BTP as long as such a link serves."""
    announces: str = ""
    """`left` is an end that announces routes to what is not behind it, and `right` takes them (`all`), or only those
    that belong to `left` (`own`)."""

    @property
    def is_btp(self) -> bool:
        """Whether there are BTP connections."""
        return self.with_btp or not self.http


@dataclass(frozen=True, slots=True)
class PaymentPlan:
    """One packet from end to end, and what its receiver does with it."""

    number: int
    at_s: float
    sender: str
    receiver: str
    amount: int
    expires_in_s: float
    outcome: str
    """`pay`, `reject`, `lie`, `silence` or `late`; `nowhere`: it is sent to an address that nobody has,
    instead of that of its receiver."""
    think_s: float
    hostile: Kind | None = None
    """A violation that the sender commits with it."""
    again_in_s: float = 0.0
    """With `LAST_MOMENT`: how long after the first time it is sent again."""

    @property
    def preimage(self) -> bytes:
        """What fulfils it."""
        return hashlib.sha256(b"simulated payment %d" % self.number).digest()

    @property
    def condition(self) -> bytes:
        """What it is conditional on."""
        return hashlib.sha256(self.preimage).digest()


@dataclass(frozen=True, slots=True)
class FaultPlan:
    """Something that breaks for a while."""

    number: int
    kind: Kind
    at_s: float
    for_s: float
    where: str
    """A host."""
    other: str = ""
    """The host at the other end of a link."""
    after_operations: int = 0
    """For a crash, and for a ledger that goes away or loses answers: so many writes, commits and
    ledger requests later, in the middle of them. For a journal that is cut: how many requests are
    missing at its end."""
    size: float = 0.0


@dataclass(frozen=True, slots=True)
class PrepaymentPlan:
    """A payment outside that the engine of a node reports unasked."""

    number: int
    at_s: float
    node: str
    peer: str
    amount: int
    is_true: bool
    """Whether the money is there: an operator who is asked accepts it, else declines."""

    @property
    def key(self) -> str:
        """Its Idempotency-Key."""
        return f"prepayment {self.number}"


@dataclass(frozen=True, slots=True)
class StreamPlan:
    """A payment of many packets (STREAM), of one node to a wallet of another."""

    number: int
    at_s: float
    payer: str
    payee: str
    amount: int


WALLET: Final = "w"
"""Of a node that can be paid."""
STREAM_PACKET_MAX: Final = 150_000_000
"""The largest packet between nodes where there are streams: far more than a single payment has, and little for a stream."""
MAX_HOLD_MS: Final = 120_000
"""Of every node."""
LONG_FAULT_S: Final = 5.0
"""Packets live longer where a fault lasts longer than this."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that a seed decides."""

    seed: int
    nodes: tuple[NodePlan, ...]
    links: tuple[LinkPlan, ...]
    ends: tuple[str, ...]
    hostile_ends: tuple[str, ...]
    rates: dict[tuple[str, str], Fraction]
    payments: tuple[PaymentPlan, ...]
    faults: tuple[FaultPlan, ...]
    traffic_s: float
    traits: frozenset[Kind] = frozenset()
    settle_threshold: int | None = None
    kinds: frozenset[Kind] = field(default=frozenset())
    in_flight_max: dict[tuple[str, str], int] = field(default_factory=dict)
    """By node and peer: what may be held at a time for packets from it, and the same for those to it."""
    prepaid_max: dict[tuple[str, str], int] = field(default_factory=dict)
    """By node and peer: what the peer's engine may make the node owe it. Else: the credit limit."""
    prepayments: tuple[PrepaymentPlan, ...] = ()
    streams: tuple[StreamPlan, ...] = ()
    """Each of another node."""
    hold_down_ms: int = 0
    """For how long nodes keep the routes that they learn of each other (CCP); zero: they learn none, all are of the
    settings."""

    @property
    def has_ways(self) -> bool:
        """Whether a packet may take one of several ways."""
        return any(one.beside for one in self.links)

    def link_of(self, left: str, right: str) -> LinkPlan:
        """The link between two hosts."""
        return next(one for one in self.links if {one.left, one.right} == {left, right})

    def neighbours(self, host: str) -> list[str]:
        """The hosts with a link to `host`, in order."""
        return [
            one.right if one.left == host else one.left
            for one in self.links
            if host in (one.left, one.right)
        ]

    def way(self, sender: str, receiver: str) -> list[str]:
        """The hosts that a payment passes, its ends included.

        The network is a tree, but for links that close a ring of default routes, and those beside it.
        """
        before: dict[str, str] = {sender: ""}
        queue = [sender]
        for host in queue:
            for other in self.neighbours(host):
                link = self.link_of(host, other)
                if other not in before and not (link.closes or link.beside):
                    before[other] = host
                    queue.append(other)
        way = [receiver]
        while way[-1] != sender:
            way.append(before[way[-1]])
        return way[::-1]

    @property
    def refusing_ends(self) -> list[str]:
        """The ends that refuse every packet."""
        return [one.left for one in self.links if one.refuses]

    @property
    def long_faults_s(self) -> float:
        """How long nodes are away because they are replaced slowly, or links for the sake of another way."""
        long = REPLACED | {Kind.OUTAGE}
        return sum(
            one.for_s for one in self.faults if one.kind in long and one.for_s > LONG_FAULT_S
        )

    def keep(self, payments: Iterable[int], faults: Iterable[int]) -> Plan:
        """The plan with only some of its payments and faults."""
        kept_payments, kept_faults = set(payments), set(faults)
        return replace(
            self,
            payments=tuple(one for one in self.payments if one.number in kept_payments),
            faults=tuple(one for one in self.faults if one.number in kept_faults),
        )


USD: Final = Asset("USD", 9)
EUR: Final = Asset("EUR", 10)
RATES: Final = {("USD", "EUR"): Fraction(9, 10), ("EUR", "USD"): Fraction(10, 9)}
