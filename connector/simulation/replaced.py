"""Checks that a planned replacement loses no packet between peers that know packet ids.

For the judge: whatever is rejected on such a way, or gets no answer, is a loss, also one that costs
no money. Peers hold packets for 30 s; a node that is replaced later (`Kind.REPLACE_LATE`) counts as broken.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Final

from connector.simulation.evidence import Evidence, Finding
from connector.simulation.facts import Fact
from connector.simulation.kinds import Kind

LIVES_S: Final = 60.0
"""A packet that lives so long outlives a replacement."""
LOSSES: Final = frozenset(("T00", "T01", "T02", "T03", "R00", "R02", "expired", "lost", "error"))
"""What a replacement may not be the cause of. What else a packet may be refused for does not pass."""
LEDGERS: Final = frozenset((Kind.LEDGER_FORGETS, Kind.LEDGER_GOES_BACK))
"""Of all nodes on the cluster."""


def look_at_replacements(evidence: Evidence) -> Iterator[Finding]:
    """All findings."""
    plan = evidence.plan
    if plan.traits & {Kind.LEDGER_FIRST_START, Kind.LONG_UP} or not any(
        one.kind is Kind.REPLACE for one in plan.faults
    ):
        return
    for fact in evidence.facts.by_condition.values():
        if fact.outcome in LOSSES and _is_covered(evidence, fact):
            yield Finding(
                "replaced",
                fact.way[1],
                f"{fact.outcome} of {fact.rejected_by or 'nobody'}, and nothing else is broken",
                fact.plan.number,
            )


def _is_covered(evidence: Evidence, fact: Fact) -> bool:
    """Whether nothing else on the way of a packet was broken before it ended."""
    plan, payment, way = evidence.plan, fact.plan, fact.way
    if fact.hostile or payment.outcome != "pay" or payment.expires_in_s < LIVES_S:
        return False
    if not all(plan.link_of(left, right).resumable for left, right in pairwise(way)):
        return False
    links = [plan.link_of(left, right) for left, right in pairwise(way)]
    if any(one.http and not one.with_btp for one in links):
        return False  # new packets for a neighbour that is away get T01 there
    if plan.hold_down_ms and any(
        one.kind is Kind.REPLACE and one.for_s * 1000 > plan.hold_down_ms for one in plan.faults
    ):
        return False  # its routes are withdrawn, as they have to be
    ended_s = fact.expires_at_s if fact.answered_s is None else fact.answered_s
    return not any(
        one.kind is not Kind.REPLACE
        and evidence.fault_times_s[one.number] <= ended_s
        and (one.where in way or one.other in way or one.kind in LEDGERS)
        for one in plan.faults
    )
