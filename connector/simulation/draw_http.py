"""Draws links by HTTP, synchronous and asynchronous, beside or instead of BTP, and what is between their hosts.

From a random source of its own: the rest of a plan stays as it is.
"""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Final, Literal

from connector.simulation.draw_apart import chance_of, dice_of, numbered
from connector.simulation.kinds import Kind
from connector.simulation.plan import FaultPlan, LinkPlan, Plan

HTTP_CHANCE: Final = 0.3
_MODES: Final[tuple[Literal["", "sync", "async"], ...]] = ("", "sync", "sync", "async")
_LASTS_S: Final = (0.2, 0.7, 1.5, 2.5)


def with_http(plan: Plan) -> Plan:
    """Perhaps links by HTTP: between nodes, and to ends that speak nothing else."""
    dice = dice_of("http", plan.seed)
    if dice.random() >= chance_of(plan.kinds, HTTP_CHANCE):
        return plan
    names = {one.name for one in plan.nodes}
    links: list[LinkPlan] = []
    for one in plan.links:
        between = one.left in names and one.right in names
        if one.closes or not (between or one.left in plan.ends):
            links.append(one)  # nothing is drawn for what other kinds add
            continue
        mode = dice.choice(_MODES)
        with_btp = between and one.resumable and dice.random() < 0.4
        if not mode:
            links.append(one)
        elif between:
            links.append(
                replace(one, http=mode, with_btp=with_btp, both_dial=one.both_dial and with_btp)
            )
        else:
            links.append(replace(one, http=mode, resumable=False, both_dial=False))
    by_http = [one for one in links if one.http]
    if not by_http:
        return plan
    faults = [
        fault
        for _ in range(dice.choice((0, 1, 2, 4)))
        for fault in _faults(dice, plan, dice.choice(by_http))
    ]
    return replace(
        plan,
        links=tuple(links),
        faults=numbered(plan.faults, faults),
        traits=plan.traits | {Kind.HTTP},
    )


def _faults(dice: random.Random, plan: Plan, link: LinkPlan) -> list[FaultPlan]:
    """Something between two hosts that speak HTTP; perhaps one of them is killed before it is over."""
    possible = [Kind.ANSWERS_LOST, Kind.GATEWAY]
    if link.resumable or link.http == "async":
        possible.append(Kind.ASKED_TWICE)  # what has no name would be another packet
    if link.with_btp:
        possible.append(Kind.ONE_CARRIER)
    possible = [kind for kind in possible if kind in plan.kinds]
    if not possible:
        return []
    where, other = dice.sample((link.left, link.right), 2)
    fault = FaultPlan(
        number=0,
        kind=dice.choice(possible),
        at_s=round(dice.random() * plan.traffic_s, 4),
        for_s=dice.choice(_LASTS_S),
        where=where,
        other=other,
        # Whether 502 comes behind the other side: only where that is asked again (docs/ilp-over-http.md).
        after_operations=int(dice.random() < 0.6 and (link.resumable or link.http == "async")),
        size=dice.choice((0.0, 0.05, 1.0)),
    )
    if Kind.CRASH not in plan.kinds or dice.random() < 0.6:
        return [fault]
    # What was done, and not answered in time, is asked for again of a process that knows nothing of it.
    names = [one.name for one in plan.nodes if one.name in (where, other)]
    crash = FaultPlan(
        number=0,
        kind=Kind.CRASH,
        at_s=round(fault.at_s + fault.for_s * dice.random(), 4),
        for_s=dice.choice((0.2, 0.7)),
        where=dice.choice(names),
    )
    return [fault, crash]
