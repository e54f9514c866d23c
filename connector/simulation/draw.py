"""Draws the plan of a seed: which nodes, links, payments, faults and hostile moves there are."""

from __future__ import annotations

import random
from collections.abc import Set as AbstractSet
from dataclasses import replace
from typing import Final

from connector.simulation.draw_apart import (
    FEW_KINDS,
    bounds_in_flight,
    clean_stops,
    lost_machines,
    numbered,
    prepayments,
    relaying,
    replacements,
    second_processes,
    with_loop,
    with_second_ways,
)
from connector.simulation.draw_http import with_http
from connector.simulation.draw_routes import with_learned_routes
from connector.simulation.draw_streams import with_streams
from connector.simulation.kinds import (
    FAULTS,
    HOSTILE,
    OF_HTTP,
    ONLY_TIGERBEETLE,
    ROUTES,
    TRAITS,
    Kind,
)
from connector.simulation.plan import (
    EUR,
    LONG_FAULT_S,
    RATES,
    USD,
    FaultPlan,
    LinkPlan,
    NodePlan,
    PaymentPlan,
    Plan,
    PrepaymentPlan,
)

NODES_MAX: Final = 8
LONG: Final = frozenset((Kind.LONG_UP, Kind.PRUNED))
"""Traits that take minutes of virtual time."""
DRAWN_APART: Final = frozenset((Kind.ROUTING_LOOP, Kind.TWO_WAYS, Kind.STREAM))


def _seldom(dice: random.Random, kinds: AbstractSet[Kind]) -> bool:
    """Whether something that takes minutes of virtual time is in a plan."""
    return dice.random() < (1.0 if len(kinds) <= FEW_KINDS else 0.05)


def make_plan(seed: int, *, kinds: frozenset[Kind], nodes: int | None = None) -> Plan:
    """The plan of a seed."""
    dice = random.Random(f"plan {seed}")  # noqa: S311 - to be repeated, not to be secret
    count = nodes or dice.choice((1, 2, 2, 3, 3, 3, 4, 5))
    names = [f"n{number}" for number in range(1, count + 1)]
    traits = frozenset(
        kind
        for kind in sorted(kinds & TRAITS - LONG - ROUTES - OF_HTTP - DRAWN_APART)
        if dice.random() < (0.8 if len(kinds) <= FEW_KINDS else _TRAIT_CHANCE.get(kind, 0.3))
    )
    traits |= {kind for kind in sorted(kinds & LONG) if _seldom(dice, kinds)}
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
            clock_s=round(dice.uniform(-CLOCK_AWAY_S, CLOCK_AWAY_S), 3)
            if Kind.CLOCKS_DIFFER in traits
            else 0.0,
        )
        for name in names
    )
    links: list[LinkPlan] = []
    asset = USD
    latency_s = dice.choice((0.001, 0.004, 0.02, 0.06))
    limit = dice.choice((200_000, 2_000_000)) if Kind.LIMITS in traits else 10**15

    def add_link(left: str, right: str, *, resumable: bool = True) -> None:
        one = EUR if Kind.ASSETS in traits and dice.random() < 0.4 else asset
        both = Kind.BOTH_DIAL in traits and left in names
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
        if Kind.TWO_SOCKETS in traits and dice.random() < 0.5:
            links[-1] = replace(links[-1], resumable=False, both_dial=True)
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
    hostile_moves = sorted(kinds & set(HOSTILE) - {Kind.LAST_MOMENT})
    if Kind.LAST_MOMENT in kinds and _seldom(dice, kinds):
        hostile_moves.append(Kind.LAST_MOMENT)
    hostile: list[str] = []
    if hostile_moves and dice.random() < (0.5 if len(kinds) > FEW_KINDS else 1.0):
        name = dice.choice(names)
        hostile.append(f"{name}h")
        add_link(f"{name}h", name)
    traffic_s = dice.choice((4.0, 6.0, 10.0))
    lives_s = PATIENT_S if Kind.CLOCKS_DIFFER in traits else LIVES_S
    replaced, alone = replacements(seed, kinds, node_plans, traffic_s)
    if any(one.for_s > LONG_FAULT_S for one in replaced):
        lives_s += SLOWLY_REPLACED_S
    payments = _payments(dice, kinds, ends, local, hostile, hostile_moves, traffic_s, lives_s)
    faults = _faults(dice, kinds, node_plans, links, traffic_s)
    if alone:
        faults = numbered((), replaced)
    else:
        processes = second_processes(seed, kinds, node_plans, traffic_s)
        if Kind.PRUNED in traits:
            processes += clean_stops(node_plans, traffic_s)
        others = (*faults, *processes)
        processes += lost_machines(seed, kinds, node_plans, others, traffic_s)
        faults = numbered(faults, [*processes, *replaced])
    prepaid: tuple[dict[tuple[str, str], int], tuple[PrepaymentPlan, ...]] = ({}, ())
    if Kind.PREPAID in traits:
        prepaid = prepayments(seed, links, set(names), traffic_s)
    settles = Kind.SETTLE in kinds and dice.random() < 0.4
    plan = Plan(
        seed=seed,
        nodes=relaying(seed, node_plans),
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
        in_flight_max=bounds_in_flight(seed, links, set(names))
        if Kind.IN_FLIGHT_VALUE in traits
        else {},
        prepaid_max=prepaid[0],
        prepayments=prepaid[1],
    )
    if Kind.ROUTING_LOOP in kinds:
        plan = with_loop(plan, lives_s)
    if Kind.TWO_WAYS in kinds:
        plan = with_second_ways(plan)
    if kinds & ROUTES:
        plan = with_learned_routes(plan)
    if Kind.HTTP in kinds:
        plan = with_http(plan)
    return with_streams(plan) if Kind.STREAM in kinds else plan


CLOCK_AWAY_S: Final = 10.0
"""With `CLOCKS_DIFFER`: how far a node's clock is away from the true time at most. Two of them, and a
jump of each, are within the 30 s that docs/protocol.md allows."""
LIVES_S: Final = 60.0
"""How long packets live."""
SLOWLY_REPLACED_S: Final = 45.0
"""How much longer where a node is replaced slowly."""
PATIENT_S: Final = 90.0
"""How long packets live with `CLOCKS_DIFFER`: faults and the difference of two clocks together take less."""
_EXPIRES_LATE_S: Final = (200.0, 300.0, 319.0, 328.0, 331.0, 345.0, 372.0, 400.0)
"""Around the latest expiry that a node takes (docs/protocol.md)."""

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
    lives_s: float,
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
        expires_in_s = lives_s
        if outcome in ("silence", "late") or (Kind.SHORT in kinds and dice.random() < 0.06):
            expires_in_s = dice.choice((6.0, 8.0, 12.0))
        move = None
        if hostile and hostile[0] in pair and dice.random() < 0.4:
            move = dice.choice(hostile_moves)
        again_in_s = 0.0
        if move is Kind.LAST_MOMENT and pair[0] == hostile[0]:
            expires_in_s = dice.choice(_EXPIRES_LATE_S)
            again_in_s = expires_in_s - dice.choice((0.3, 3.0, 12.0, 24.0))
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
                again_in_s=again_in_s,
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
    if not embedded:
        possible = [kind for kind in possible if kind is not Kind.JOURNAL_CUT]
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
        elif kind in (Kind.DISK_FULL, Kind.DISK_BROKEN, Kind.JOURNAL_CUT) and embedded:
            where = dice.choice(embedded)
        at_s = dice.random() * traffic_s
        for_s = dice.choice((0.02, 0.2, 0.7, 1.5, 2.5))
        if kind is Kind.DISK_LOW:
            for_s += 1.5  # a node looks once a second
        last = faults[-1] if faults else None
        if last is not None and {kind, last.kind} == {Kind.CHANGE_LIMIT, Kind.LEDGER_AWAY}:
            # An operator who is answered with 503.
            where = last.where if last.where in on_cluster else where
            at_s = max(0.0, last.at_s + (dice.random() - 0.5) * last.for_s)
        if where and other and faults and (faults[-1].where, faults[-1].other) == (where, other):
            at_s = faults[-1].at_s + dice.random() * faults[-1].for_s
        faults.append(
            FaultPlan(
                number=number,
                kind=kind,
                at_s=round(at_s, 4),
                for_s=for_s,
                where=where,
                other=other,
                after_operations=dice.choice((0, 0, 1, 2, 3, 7, 20)),
                size=dice.choice((0.5, 2.0, 5.0)),
            )
        )
    faults.sort(key=lambda one: (one.at_s, one.number))
    return tuple(faults)
