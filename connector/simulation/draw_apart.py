"""Draws parts of a plan, each from a random source of its own, so that the rest stays the same.

They are long faults, replacements, bounds, payments in advance, and rings of routes.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from dataclasses import replace
from itertools import pairwise
from typing import Final

from connector.simulation.kinds import CLOCKS, REPLACED, Kind
from connector.simulation.plan import (
    FaultPlan,
    LinkPlan,
    NodePlan,
    PaymentPlan,
    Plan,
    PrepaymentPlan,
)

FEW_KINDS: Final = 8
"""So many kinds were picked by hand: what takes long comes into play every time, traits mostly."""
SECOND_PROCESS_CHANCE: Final = 0.25
MACHINE_LOST_CHANCE: Final = 0.2
REPLACED_CHANCE: Final = 0.3
ROUTING_LOOP_CHANCE: Final = 0.25
TWO_WAYS_CHANCE: Final = 0.25
LOST_MACHINE_S: Final = 15.0
"""From when a standby begins to wait for a machine that is lost until it surely has taken over."""
_NOT_WITH_A_LOST_MACHINE: Final = frozenset(
    (Kind.SECOND_PROCESS, Kind.LEDGER_FORGETS, Kind.LEDGER_GOES_BACK)
)
_ALONE_CHANCE: Final = 0.5
"""The share of plans with replacements in which nothing else breaks: no packet may be lost then."""
_SOON_S: Final = (0.02, 0.7, 2.5, 8.0, 16.0)
"""When the process that follows starts: within the time for which peers hold packets for it."""
_LATE_S: Final = (33.0, 40.0)
"""And when they have given it up."""
_STEPS: Final = (1, 2, 3, 5, 8, 13, 30, 80)
"""So many writes, commits and ledger requests after it was asked to stop it, or the next one, is killed."""


def chance_of(kinds: AbstractSet[Kind], usual: float) -> float:
    """The chance of a part of a plan: certain where few kinds were picked by hand."""
    return 1.0 if len(kinds) <= FEW_KINDS else usual


def dice_of(what: str, seed: int) -> random.Random:
    """A random source of its own for a part of the plan of a seed."""
    return random.Random(f"{what} {seed}")  # noqa: S311 - to be repeated, not to be secret


def numbered(faults: Iterable[FaultPlan], more: Iterable[FaultPlan]) -> tuple[FaultPlan, ...]:
    """All of them in order of time; `more` get the numbers that follow."""
    whole = list(faults)
    first = max((one.number for one in whole), default=0) + 1
    whole += [replace(one, number=number) for number, one in enumerate(more, first)]
    return tuple(sorted(whole, key=lambda one: (one.at_s, one.number)))


def second_processes(
    seed: int, kinds: AbstractSet[Kind], nodes: tuple[NodePlan, ...], traffic_s: float
) -> list[FaultPlan]:
    """Perhaps one: it takes longer than other faults, so there is one at most."""
    dice = dice_of("second process", seed)
    on_cluster = [one.name for one in nodes if one.ledger == "tigerbeetle"]
    chance = chance_of(kinds, SECOND_PROCESS_CHANCE)
    if Kind.SECOND_PROCESS not in kinds or not on_cluster or dice.random() >= chance:
        return []
    return [
        FaultPlan(
            number=0,
            kind=Kind.SECOND_PROCESS,
            at_s=round(dice.random() * traffic_s, 4),
            for_s=dice.choice((4.0, 5.0, 7.0, 10.0, 15.0)),
            where=dice.choice(on_cluster),
        )
    ]


def lost_machines(
    seed: int,
    kinds: AbstractSet[Kind],
    nodes: tuple[NodePlan, ...],
    others: Iterable[FaultPlan],
    traffic_s: float,
) -> list[FaultPlan]:
    """Perhaps one: a node's machine is lost for good, its disk too, while a standby on another one waits.

    None where another fault takes as long, or where the ledger is the wrong one for a while: who has
    an empty disk cannot know.
    """
    dice = dice_of("lost machine", seed)
    on_cluster = [one.name for one in nodes if one.ledger == "tigerbeetle"]
    chance = chance_of(kinds, MACHINE_LOST_CHANCE)
    if Kind.MACHINE_LOST not in kinds or not on_cluster or dice.random() >= chance:
        return []
    if any(one.kind in _NOT_WITH_A_LOST_MACHINE for one in others):
        return []
    return [
        FaultPlan(
            number=0,
            kind=Kind.MACHINE_LOST,
            at_s=round(dice.random() * traffic_s / 2, 4),
            for_s=LOST_MACHINE_S,
            where=dice.choice(on_cluster),
            after_operations=dice.choice(_STEPS),
            size=dice.choice((0.5, 2.0, 5.0)),
        )
    ]


def relaying(seed: int, nodes: Iterable[NodePlan]) -> tuple[NodePlan, ...]:
    """The same nodes; some relay a Fulfill only when its post is booked."""
    dice = dice_of("relaying", seed)
    return tuple(
        replace(one, fulfill_when=dice.choice(("durable", "durable", "booked"))) for one in nodes
    )


def clean_stops(nodes: tuple[NodePlan, ...], traffic_s: float) -> list[FaultPlan]:
    """Two of each node with a journal, before the long pause: each lets it prune up to the one before."""
    return [
        FaultPlan(
            number=0,
            kind=Kind.STOP,
            at_s=round(share * traffic_s, 4),
            for_s=0.3,
            where=node.name,
        )
        for node in nodes
        for share in (0.15, 0.4)
        if node.ledger == "embedded"
    ]


def replacements(
    seed: int, kinds: AbstractSet[Kind], nodes: tuple[NodePlan, ...], traffic_s: float
) -> tuple[list[FaultPlan], bool]:
    """Nodes that are replaced by new processes, one after the other or together.

    Also: whether nothing else breaks.
    """
    dice = dice_of("replacements", seed)
    possible = sorted(kinds & REPLACED)
    if not possible or dice.random() >= chance_of(kinds, REPLACED_CHANCE):
        return [], False
    alone = len(possible) < len(kinds) and dice.random() < _ALONE_CHANCE
    if alone and Kind.REPLACE in possible:
        possible = [Kind.REPLACE]
    found: list[FaultPlan] = []
    at_s = dice.random() * traffic_s / 2
    for _ in range(dice.choice((1, 1, 2, 3))):
        kind = dice.choice(possible)
        for_s = dice.choice(_SOON_S)
        if any(one.for_s > min(_LATE_S) / 6 for one in found):
            for_s = dice.choice(_SOON_S[:3])  # one that takes long is enough for packets
        elif kind is Kind.REPLACE_LATE:
            for_s = dice.choice(_LATE_S)
        node = dice.choice(nodes).name
        found.append(
            FaultPlan(
                number=0,
                kind=kind,
                at_s=round(at_s, 4),
                for_s=for_s,
                where=node,
                after_operations=dice.choice(_STEPS) if kind is Kind.REPLACE_CRASH else 0,
            )
        )
        clocks = sorted(kinds & CLOCKS)
        if clocks and not alone and dice.random() < 0.3:
            # The time in the note to the next process is old then, or still to come.
            found.append(
                FaultPlan(
                    number=0,
                    kind=dice.choice(clocks),
                    at_s=round(at_s + dice.random() * min(for_s, 2.0), 4),
                    for_s=for_s + 1.0,
                    where=node,
                    size=dice.choice((0.5, 2.0, 5.0)),
                )
            )
        at_s += dice.choice((0.0, 0.3, 2.0, 5.0)) * dice.random()
    return found, alone


def bounds_in_flight(
    seed: int, links: Iterable[LinkPlan], names: AbstractSet[str]
) -> dict[tuple[str, str], int]:
    """What may be held at a time for packets from a peer, and to it, by node and peer: some have it."""
    dice = dice_of("in flight", seed)
    found: dict[tuple[str, str], int] = {}
    for link in links:
        for node, peer in ((link.left, link.right), (link.right, link.left)):
            bound = dice.choice((500, 20_000, 90_000, 1_500_000))
            if dice.random() < 0.5 and node in names and not link.local:
                found[node, peer] = bound
    return found


def prepayments(
    seed: int, links: Iterable[LinkPlan], names: AbstractSet[str], traffic_s: float
) -> tuple[dict[tuple[str, str], int], tuple[PrepaymentPlan, ...]]:
    """What engines may vouch for, by node and peer, and payments that they report unasked."""
    dice = dice_of("prepayments", seed)
    bounds: dict[tuple[str, str], int] = {}
    payments: list[PrepaymentPlan] = []
    for link in links:
        for node, peer in ((link.left, link.right), (link.right, link.left)):
            if node not in names or link.local or dice.random() < 0.3:
                continue
            bound = bounds[node, peer] = dice.choice((0, 1_000, 60_000))
            if peer in names:
                continue  # its own engine pays what it owes
            payments += [
                PrepaymentPlan(
                    number=len(payments) + number,
                    at_s=round(dice.random() * traffic_s, 4),
                    node=node,
                    peer=peer,
                    amount=1 + int((bound or 500) * dice.choice((0.3, 0.9, 1.1, 30.0))),
                    is_true=dice.random() < 0.6,
                )
                for number in range(1, dice.choice((0, 1, 3)) + 1)
            ]
    return bounds, tuple(payments)


def with_loop(plan: Plan, lives_s: float) -> Plan:
    """Perhaps a ring of default routes, and payments to nowhere, which would go round in it."""
    dice = dice_of("routing loop", plan.seed)
    if any(one.kind is Kind.REMOVE_PEER for one in plan.faults):
        return plan  # packets whose route is gone would take a default route: a way without a judge
    names = [one.name for one in plan.nodes]
    ways = [
        way
        for left in names
        for right in names
        if left != right and len(way := plan.way(left, right)) > 2
    ]
    if not ways or dice.random() >= chance_of(plan.kinds, ROUTING_LOOP_CHANCE):
        return plan
    ring = dice.choice(ways)
    last, first = ring[-1], ring[0]
    between = [plan.link_of(*pair) for pair in pairwise(ring)]
    default_of = dict(zip(between, ring, strict=False))
    links = [replace(one, default_of=default_of.get(one, "")) for one in plan.links]
    links.append(replace(between[0], left=last, right=first, default_of=last, closes=True))
    number = max(one.number for one in plan.payments)
    payments = list(plan.payments)
    for _ in range(dice.choice((1, 4, 30))):
        number += 1
        sender, receiver = dice.sample(plan.ends, 2)
        payments.append(
            PaymentPlan(
                number=number,
                at_s=round(dice.random() * plan.traffic_s, 6),
                sender=sender,
                receiver=receiver,
                amount=dice.choice((0, 1000, 1000, 40_000)),
                expires_in_s=lives_s,
                outcome="nowhere",
                think_s=0.0,
            )
        )
    payments.sort(key=lambda one: (one.at_s, one.number))
    return replace(
        plan,
        links=tuple(links),
        payments=tuple(payments),
        traits=plan.traits | {Kind.ROUTING_LOOP},
    )


def with_second_ways(plan: Plan) -> Plan:
    """Perhaps ends that are the better way to everywhere and refuse every packet, at some of the nodes."""
    dice = dice_of("two ways", plan.seed)
    # Each has another answer to some packets, and a rule of its own for that: whose way is gone; that are taken up
    # after a replacement, which go no second way; that are too large for the second way alone.
    if plan.in_flight_max or any(
        one.kind in REPLACED or one.kind is Kind.REMOVE_PEER for one in plan.faults
    ):
        return plan
    if dice.random() >= chance_of(plan.kinds, TWO_WAYS_CHANCE):
        return plan
    at = dice.sample([one.name for one in plan.nodes], dice.randrange(1, len(plan.nodes) + 1))
    links = [
        LinkPlan(
            # Among routes of the settings the lower id is better: nodes and ends begin with an n.
            f"a{name}",
            name,
            dice.choice([one.asset for one in plan.links if name in (one.left, one.right)]),
            plan.links[0].latency_s,
            resumable=dice.random() < 0.7,
            refuses=True,
        )
        for name in sorted(at)
    ]
    return replace(plan, links=(*plan.links, *links), traits=plan.traits | {Kind.TWO_WAYS})
