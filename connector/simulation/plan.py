"""The plan of a seed: nodes, links, payments, faults and hostile actions, all decided beforehand.

A plan is data, so that parts of it can be left out and the rest run again (`story`).
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from enum import StrEnum
from fractions import Fraction
from typing import Final

NODES_MAX: Final = 8


class Kind(StrEnum):
    """Kinds of faults and properties, switched on and off by `--only` and `--without`."""

    CRASH = "crash"
    POWER = "power"
    STOP = "stop"
    PAUSE = "pause"
    BOTH_ENDS = "both-ends"
    CUT = "cut"
    HOLD = "hold"
    SLOW_LINK = "slow-link"
    REFUSE = "refuse"
    LEDGER_AWAY = "ledger-away"
    LEDGER_SLOW = "ledger-slow"
    LEDGER_ACK_LOST = "ledger-ack-lost"
    LEDGER_REFUSED = "ledger-refused"
    LEDGER_AND_CRASH = "ledger-and-crash"
    LEDGER_FORGETS = "ledger-forgets"
    LEDGER_FIRST_START = "ledger-first-start"
    DISK_FULL = "disk-full"
    DISK_BROKEN = "disk-broken"
    DISK_SLOW = "disk-slow"
    CLOCK_AHEAD = "clock-ahead"
    CLOCK_BACK = "clock-back"
    CLOCK_FAR = "clock-far"
    FEES = "fees"
    ASSETS = "assets"
    LIMITS = "limits"
    LIES = "lies"
    LATE = "late"
    SHORT = "short"
    PLAIN_LINKS = "plain-links"
    PLAIN_RECEIVERS = "plain-receivers"
    LOCAL = "local"
    BOTH_DIAL = "both-dial"
    SETTLE = "settle"
    SETTLE_FALSELY = "settle-falsely"
    RESEND_OTHER = "resend-other"
    REPLAY = "replay"
    ANSWER_TWICE = "answer-twice"
    NEVER_READ = "never-read"
    FLOOD = "flood"
    REMOVE_PEER = "remove-peer"


ONLY_TIGERBEETLE: Final = frozenset(
    (
        Kind.LEDGER_AWAY,
        Kind.LEDGER_SLOW,
        Kind.LEDGER_ACK_LOST,
        Kind.LEDGER_REFUSED,
        Kind.LEDGER_AND_CRASH,
        Kind.LEDGER_FORGETS,
        Kind.LEDGER_FIRST_START,
    )
)
TRAITS: Final = frozenset(
    (
        Kind.FEES,
        Kind.ASSETS,
        Kind.LIMITS,
        Kind.PLAIN_LINKS,
        Kind.PLAIN_RECEIVERS,
        Kind.BOTH_DIAL,
        Kind.LOCAL,
        Kind.LEDGER_FIRST_START,
    )
)
"""Properties of a whole network, drawn once."""
FAULTS: Final = (
    Kind.CRASH,
    Kind.POWER,
    Kind.STOP,
    Kind.PAUSE,
    Kind.BOTH_ENDS,
    Kind.CUT,
    Kind.HOLD,
    Kind.SLOW_LINK,
    Kind.REFUSE,
    Kind.LEDGER_AWAY,
    Kind.LEDGER_SLOW,
    Kind.LEDGER_ACK_LOST,
    Kind.LEDGER_REFUSED,
    Kind.LEDGER_AND_CRASH,
    Kind.LEDGER_FORGETS,
    Kind.DISK_FULL,
    Kind.DISK_BROKEN,
    Kind.DISK_SLOW,
    Kind.CLOCK_AHEAD,
    Kind.CLOCK_BACK,
    Kind.CLOCK_FAR,
    Kind.REMOVE_PEER,
)
HOSTILE: Final = (
    Kind.RESEND_OTHER,
    Kind.REPLAY,
    Kind.ANSWER_TWICE,
    Kind.NEVER_READ,
    Kind.FLOOD,
    Kind.SETTLE_FALSELY,
)

KNOWN_OPEN: Final[dict[Kind, str]] = {}
"""Kinds that show faults which are known and not yet cured; off unless asked for."""


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
    credit_limit: int = 10**15
    local: bool = False
    """Not a link: `left` is a receiver within the node `right`."""


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
    """`pay`, `reject`, `lie`, `silence` or `late`."""
    think_s: float
    hostile: Kind | None = None
    """A violation that the sender commits with it."""

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
    """For a crash: after this many writes, commits and ledger requests, in the middle of one."""
    size: float = 0.0


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

    def link_of(self, left: str, right: str) -> LinkPlan:
        """The link between two hosts."""
        return next(one for one in self.links if {one.left, one.right} == {left, right})

    def neighbours(self, host: str) -> list[str]:
        """Who has a link with `host`, in order."""
        return [
            one.right if one.left == host else one.left
            for one in self.links
            if host in (one.left, one.right)
        ]

    def way(self, sender: str, receiver: str) -> list[str]:
        """The hosts that a payment passes, its ends included. The network is a tree."""
        before: dict[str, str] = {sender: ""}
        queue = [sender]
        for host in queue:
            for other in self.neighbours(host):
                if other not in before:
                    before[other] = host
                    queue.append(other)
        way = [receiver]
        while way[-1] != sender:
            way.append(before[way[-1]])
        return way[::-1]

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


def default_kinds(
    only: AbstractSet[Kind] | None = None, without: AbstractSet[Kind] = frozenset()
) -> frozenset[Kind]:
    """The kinds to simulate: those requested, else all that are not `KNOWN_OPEN`."""
    kinds = frozenset(only) if only is not None else frozenset(Kind) - KNOWN_OPEN.keys()
    return kinds - without


def make_plan(seed: int, *, kinds: frozenset[Kind], nodes: int | None = None) -> Plan:
    """The plan of a seed."""
    dice = random.Random(f"plan {seed}")  # noqa: S311 - to be repeated, not to be secret
    count = nodes or dice.choice((1, 2, 2, 3, 3, 3, 4, 5))
    names = [f"n{number}" for number in range(1, count + 1)]
    traits = frozenset(
        kind for kind in sorted(kinds & TRAITS) if dice.random() < _TRAIT_CHANCE.get(kind, 0.3)
    )
    mix = dice.choice(("embedded", "tigerbeetle", "mixed"))
    needs_cluster = kinds & ONLY_TIGERBEETLE
    if kinds <= ONLY_TIGERBEETLE | TRAITS and needs_cluster:
        mix = "tigerbeetle"
    node_plans = tuple(
        NodePlan(
            name=name,
            ledger=mix if mix != "mixed" else dice.choice(("embedded", "tigerbeetle")),
            policy=dice.choice(("spool", "spool", "reject")),
            fee_basis_points=dice.choice((0, 30, 250)) if Kind.FEES in traits else 0,
            latency_s=dice.choice((0.0005, 0.001, 0.004, 0.015)),
        )
        for name in names
    )
    links: list[LinkPlan] = []
    asset = USD
    latency_s = dice.choice((0.001, 0.004, 0.02, 0.06))
    limit = dice.choice((200_000, 2_000_000)) if Kind.LIMITS in traits else 10**15

    def add_link(left: str, right: str, *, resumable: bool = True) -> None:
        one = EUR if Kind.ASSETS in traits and dice.random() < 0.4 else asset
        both = Kind.BOTH_DIAL in traits and right.startswith("n") and left.startswith("n")
        links.append(
            LinkPlan(left, right, one, latency_s, resumable, both_dial=both, credit_limit=limit)
        )

    for index in range(1, count):
        # A chain mostly, else a tree.
        back = index - 1 if dice.random() < 0.8 else dice.randrange(index)
        add_link(names[index], names[back])
    ends: list[str] = []
    for index, name in enumerate(names):
        at_the_edge = index in (0, count - 1)
        if at_the_edge or dice.random() < 0.4:
            ends.append(f"{name}a")
        if at_the_edge and dice.random() < 0.5:
            ends.append(f"{name}b")
    if len(ends) < 2:
        ends.append(f"{names[-1]}c")
    for end in ends:
        plain = Kind.PLAIN_RECEIVERS in traits and dice.random() < 0.5
        add_link(end, end[:-1], resumable=not plain)
    if Kind.PLAIN_LINKS in traits:
        between = [
            index
            for index, one in enumerate(links)
            if one.left.startswith("n") and one.left[1:].isdigit()
        ]
        for index in between:
            if dice.random() < 0.5:
                links[index] = replace(links[index], resumable=False)
    local: list[str] = []
    if Kind.LOCAL in traits:
        name = dice.choice(names)
        local.append(f"{name}r")
        links.append(LinkPlan(f"{name}r", name, USD, latency_s, local=True))
    hostile_moves = sorted(kinds & set(HOSTILE))
    hostile: list[str] = []
    if hostile_moves and dice.random() < (0.5 if kinds - set(HOSTILE) else 1.0):
        name = dice.choice(names)
        hostile.append(f"{name}h")
        add_link(f"{name}h", name)
    traffic_s = dice.choice((4.0, 6.0, 10.0))
    payments = _payments(dice, kinds, ends, local, hostile, hostile_moves, traffic_s)
    faults = _faults(dice, kinds, node_plans, links, traffic_s)
    settles = Kind.SETTLE in kinds and dice.random() < 0.4
    return Plan(
        seed=seed,
        nodes=node_plans,
        links=tuple(links),
        ends=tuple(ends),
        hostile_ends=tuple(hostile),
        rates=RATES,
        payments=payments,
        faults=faults,
        traffic_s=traffic_s,
        traits=traits,
        settle_threshold=dice.choice((20_000, 500_000)) if settles else None,
        kinds=kinds,
    )


_TRAIT_CHANCE: Final = {
    Kind.LOCAL: 0.8,
    Kind.FEES: 0.5,
    Kind.ASSETS: 0.35,
    Kind.LIMITS: 0.3,
    Kind.PLAIN_LINKS: 0.3,
}


def _payments(
    dice: random.Random,
    kinds: frozenset[Kind],
    ends: list[str],
    local: list[str],
    hostile: list[str],
    hostile_moves: list[Kind],
    traffic_s: float,
) -> tuple[PaymentPlan, ...]:
    count = dice.choice((40, 40, 120, 120, 300, 800))
    sizes = dice.choice(((1, 10, 400), (1, 400, 40_000), (0, 1000, 1_000_000, 12_345_678)))
    outcomes = ["pay"] * 14 + ["reject"]
    if Kind.LIES in kinds:
        outcomes += ["lie"]
    if Kind.LATE in kinds:
        outcomes += ["late", "silence"]
    payments: list[PaymentPlan] = []
    burst_at, burst_left, pair = 0.0, 0, (ends[0], ends[-1])
    for number in range(count):
        if not burst_left:
            burst_at, burst_left = dice.random() * traffic_s, dice.choice((1, 2, 8, 30))
            sender, receiver = dice.sample(ends, 2)
            if hostile and dice.random() < 0.3:
                sender = hostile[0]
                receiver = dice.choice(ends)
            elif hostile and dice.random() < 0.15:
                receiver = hostile[0]
            if local and dice.random() < 0.4:
                receiver = local[0]
            pair = (sender, receiver)
        burst_left -= 1
        outcome = dice.choice(outcomes)
        expires_in_s = 60.0
        if outcome in ("silence", "late") or (Kind.SHORT in kinds and dice.random() < 0.06):
            expires_in_s = dice.choice((6.0, 8.0, 12.0))
        move = None
        if hostile and hostile[0] in pair and dice.random() < 0.4:
            move = dice.choice(hostile_moves)
        payments.append(
            PaymentPlan(
                number=number + 1,
                at_s=round(burst_at + dice.random() * 0.01, 6),
                sender=pair[0],
                receiver=pair[1],
                amount=0 if dice.random() < 0.02 else dice.choice(sizes) + dice.randrange(3),
                expires_in_s=expires_in_s,
                outcome=outcome,
                think_s=0.0 if dice.random() < 0.7 else round(dice.random() * 1.5, 4),
                hostile=move,
            )
        )
    payments.sort(key=lambda one: (one.at_s, one.number))
    return tuple(payments)


def _faults(
    dice: random.Random,
    kinds: frozenset[Kind],
    nodes: tuple[NodePlan, ...],
    links: list[LinkPlan],
    traffic_s: float,
) -> tuple[FaultPlan, ...]:
    """Few enough at a time that a packet with a minute to live outlives them."""
    names = [one.name for one in nodes]
    on_cluster = [one.name for one in nodes if one.ledger == "tigerbeetle"]
    embedded = [one.name for one in nodes if one.ledger == "embedded"]
    possible = [kind for kind in FAULTS if kind in kinds]
    if not on_cluster:
        possible = [kind for kind in possible if kind not in ONLY_TIGERBEETLE]
    if len(names) < 2:
        possible = [kind for kind in possible if kind is not Kind.BOTH_ENDS]
    faults: list[FaultPlan] = []
    if not possible:
        return ()
    favourites = dice.sample(possible, min(len(possible), dice.choice((1, 2, 4, 30))))
    for number in range(1, dice.choice((1, 2, 4, 8)) + 1):
        kind = dice.choice(favourites)
        link = dice.choice(links)
        where, other = dice.choice(names), ""
        if kind in (Kind.CUT, Kind.HOLD, Kind.SLOW_LINK, Kind.REFUSE):
            last = faults[-1] if faults else None
            if (
                last is not None
                and last.kind in (Kind.HOLD, Kind.SLOW_LINK)
                and dice.random() < 0.5
            ):
                # What waits at a link is lost when the link is.
                where, other = last.where, last.other
            else:
                where, other = dice.sample((link.left, link.right), 2)
        elif kind is Kind.BOTH_ENDS:
            between = [one for one in links if one.left in names and one.right in names]
            chosen = dice.choice(between)
            where, other = chosen.left, chosen.right
        elif kind in ONLY_TIGERBEETLE:
            where = dice.choice(on_cluster)
        elif kind in (Kind.DISK_FULL, Kind.DISK_BROKEN) and embedded:
            where = dice.choice(embedded)
        at_s = dice.random() * traffic_s
        if where and other and faults and (faults[-1].where, faults[-1].other) == (where, other):
            at_s = faults[-1].at_s + dice.random() * faults[-1].for_s
        faults.append(
            FaultPlan(
                number=number,
                kind=kind,
                at_s=round(at_s, 4),
                for_s=dice.choice((0.02, 0.2, 0.7, 1.5, 2.5)),
                where=where,
                other=other,
                after_operations=dice.choice((0, 0, 1, 2, 3, 7, 20)),
                size=dice.choice((0.5, 2.0, 5.0)),
            )
        )
    faults.sort(key=lambda one: (one.at_s, one.number))
    return tuple(faults)
