"""Draws whether nodes learn their routes of each other (CCP), and what comes with it: rings, links that come and go, liars.

From a random source of its own: the rest of a plan stays as it is.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations, pairwise
from typing import Final

from connector.simulation.draw_apart import chance_of, dice_of, numbered
from connector.simulation.kinds import Kind
from connector.simulation.plan import USD, FaultPlan, LinkPlan, Plan

LEARNED_CHANCE: Final = 0.25
_NOT_WITH: Final = frozenset((Kind.ROUTING_LOOP, Kind.TWO_WAYS))
"""Their packets take ways of the settings that the judge knows."""
_HOLD_DOWN_MS: Final = (6_000, 45_000)


def with_learned_routes(plan: Plan) -> Plan:
    """Perhaps nodes that know of no routes but those that they tell each other."""
    dice = dice_of("learned routes", plan.seed)
    names = [one.name for one in plan.nodes]
    if len(names) < 2 or plan.traits & _NOT_WITH:
        return plan
    if dice.random() >= chance_of(plan.kinds, LEARNED_CHANCE):
        return plan
    links, faults, traits = list(plan.links), list(plan.faults), {Kind.LEARNED_ROUTES}
    between = [one for one in links if one.left in names and one.right in names]
    joined = {frozenset((one.left, one.right)) for one in between}
    apart = [pair for pair in combinations(names, 2) if frozenset(pair) not in joined]
    is_ring = dice.random() < 0.7
    if is_ring and apart and Kind.PRUNED not in plan.traits:
        # Of these a rule of the judge says what happens on the one way of a packet.
        faults = [one for one in faults if one.kind is not Kind.MACHINE_LOST]
        plan = replace(plan, in_flight_max={}, traits=plan.traits - {Kind.IN_FLIGHT_VALUE})
        # A packet that is lost with such a link has an unknown outcome: by which way, nobody could say.
        links = [replace(one, resumable=True) if one in between else one for one in links]
        between = [replace(one, resumable=True) for one in between]
        for left, right in dice.sample(apart, min(len(apart), dice.choice((1, 1, 2)))):
            # The later one dials, as in the rest of the network.
            one = replace(between[0], left=right, right=left, asset=USD, both_dial=False)
            links.append(replace(one, beside=True))
            between.append(links[-1])
        if Kind.OUTAGE in plan.kinds and dice.random() < chance_of(plan.kinds, 0.5):
            # The link beside the tree, or one that it spans: there is another way.
            span = plan.way(links[-1].left, links[-1].right)
            where, other = dice.choice([*pairwise(span), (links[-1].left, links[-1].right)])
            outage = FaultPlan(
                number=0,
                kind=Kind.OUTAGE,
                at_s=round(dice.random() * plan.traffic_s / 4, 4),
                for_s=dice.choice((8.0, 12.0)),
                where=where,
                other=other,
            )
            alone = dice.random() < 0.5
            faults = list(numbered(() if alone else faults, [outage]))
    if Kind.FLAP in plan.kinds and dice.random() < chance_of(plan.kinds, 0.5):
        link = dice.choice(between)
        flap = FaultPlan(
            number=0,
            kind=Kind.FLAP,
            at_s=round(dice.random() * plan.traffic_s, 4),
            for_s=dice.choice((2.0, 4.0)),
            where=link.left,
            other=link.right,
            size=dice.choice((0.1, 0.6, 1.2)),
        )
        faults = list(numbered(faults, [flap]))
    if Kind.FALSE_ROUTES in plan.kinds and dice.random() < chance_of(plan.kinds, 0.4):
        at, latency_s = dice.choice(names), between[0].latency_s
        what = dice.choice(("own", "own", "all"))
        links.append(LinkPlan(f"{at}f", at, USD, latency_s, announces=what))
        traits |= {Kind.FALSE_ROUTES}
    return replace(
        plan,
        links=tuple(links),
        faults=tuple(faults),
        traits=plan.traits | traits,
        hold_down_ms=dice.choice(_HOLD_DOWN_MS),
    )
