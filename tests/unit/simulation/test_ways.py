"""Networks with several ways and learned routes: what the judge follows from link to link, and what it says of routes."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import cache

import pytest

from connector.simulation.draw import make_plan
from connector.simulation.evidence import Evidence
from connector.simulation.judge import Judge
from connector.simulation.kinds import Kind, default_kinds
from connector.simulation.plan import USD, FaultPlan, LinkPlan, NodePlan, Plan
from connector.simulation.raw import PENDING, POST, VOID
from connector.simulation.run import Simulation
from tests.support.worlds import small_plan

CUT_S = 0.2


def triangle(**options: object) -> Plan:
    """n1 - n2 - n3 - n1, ends at n1 and n2, whose own link is the short way."""
    plan = small_plan(count=30, outcomes=("pay",), **options)
    third = NodePlan("n3", "embedded", "spool", 30, 0.001)
    beside = [LinkPlan("n3", one, USD, 0.004, beside=one == "n2") for one in ("n1", "n2")]
    plan = replace(plan, nodes=(*plan.nodes, third), links=(*plan.links, *beside))
    return replace(plan, hold_down_ms=45_000, traffic_s=12.0)


@cache
def detoured() -> Simulation:
    """The short way is lost for a while."""
    outage = FaultPlan(1, Kind.OUTAGE, at_s=CUT_S, for_s=9.0, where="n1", other="n2")
    plan = triangle()
    payments = [replace(one, at_s=0.4 * one.number) for one in plan.payments]
    simulation = Simulation(replace(plan, payments=tuple(payments), faults=(outage,)))
    assert simulation.run().findings == []
    return simulation


def evidence() -> Evidence:
    return copy.deepcopy(detoured().evidence)


def by_the_long_way(found: Evidence) -> int:
    """The number of a payment that was paid over n3."""
    facts = found.facts.by_number.values()
    return next(one.plan.number for one in facts if one.outcome == "fulfilled" and "n3" in one.way)


def test_a_payment_goes_the_other_way_and_is_followed_there() -> None:
    found = evidence()
    ways = {tuple(one.way) for one in found.facts.by_number.values() if one.outcome == "fulfilled"}
    assert {("n1a", "n1", "n3", "n2", "n2a"), ("n1a", "n1", "n2", "n2a")} <= ways


@pytest.mark.parametrize("node", ["n1", "n2", "n3"])
@pytest.mark.parametrize("what", ["not booked", "another amount", "twice"])
def test_what_one_hop_of_any_way_has_wrong_is_found(node: str, what: str) -> None:
    found = evidence()
    number = by_the_long_way(found)
    start = int.from_bytes(found.facts.by_number[number].condition[:12], "big")
    rows = found.rows[node]
    holds = {
        row.id: at
        for at, row in enumerate(rows)
        if row.condition_start == start and row.flags & PENDING
    }
    at = next(at for at, row in enumerate(rows) if row.pending_id in holds and row.flags & POST)
    hold_at = holds[rows[at].pending_id]
    if what == "not booked":
        rows[at] = rows[at]._replace(flags=VOID)
    elif what == "another amount":
        rows[at] = rows[at]._replace(amount=7)
        rows[hold_at] = rows[hold_at]._replace(amount=7)
    else:
        other = rows[hold_at].id + (1 << 100)
        rows.append(rows[hold_at]._replace(id=other))
        rows.append(rows[at]._replace(id=other | 0x10, pending_id=other))
    expected = {
        "not booked": {"lost", "unproven"},
        "another amount": {"wrong-amount"},
        "twice": {"lost", "unproven"},
    }
    said = {one.rule for one in Judge(found).judge().findings if one.payment == number}
    assert said & expected[what]


def test_a_detour_that_is_not_taken_in_time_is_found() -> None:
    found = evidence()
    fact = found.facts.by_number[by_the_long_way(found)]
    fact.sent_s = fact.answered_s = found.fault_times_s[1] + 6.0
    fact.outcome, fact.rejected_by = "T01", "g.n1"
    assert "detour" in {one.rule for one in Judge(found).judge().findings}
    fact.sent_s = found.fault_times_s[1] + 1.0
    assert "detour" not in {one.rule for one in Judge(found).judge().findings}


@pytest.mark.parametrize(("at_s", "is_wrong"), [(3.0, False), (30.0, True)])
def test_only_a_process_that_knows_nothing_may_say_that_there_is_no_route(
    *, at_s: float, is_wrong: bool
) -> None:
    found = evidence()
    found.plan = replace(found.plan, faults=())
    fact = found.facts.by_number[1]
    fact.outcome, fact.rejected_by, fact.answered_s = "F02", "g.n1", at_s
    assert ("unreachable" in {one.rule for one in Judge(found).judge().findings}) is is_wrong
    other = FaultPlan(9, Kind.SECOND_PROCESS, at_s=0.0, for_s=4.0, where="n1")
    found.plan = replace(found.plan, faults=(other,))
    assert "unreachable" not in {one.rule for one in Judge(found).judge().findings}


def test_such_networks_are_drawn_with_a_share() -> None:
    plans = [make_plan(seed, kinds=default_kinds()) for seed in range(200)]
    learned = [plan for plan in plans if plan.hold_down_ms]
    assert 15 < len(learned) < 60
    assert any(plan.has_ways for plan in learned)
    assert {one.announces for plan in learned for one in plan.links} == {"", "own", "all"}
    kinds = {one.kind for plan in learned for one in plan.faults}
    assert kinds >= {Kind.FLAP, Kind.OUTAGE}
    assert 5 < sum(bool(plan.streams) for plan in plans) < 50


def test_learned_routes_change_nothing_else_of_a_plan() -> None:
    kinds = default_kinds() - {Kind.STREAM}
    new = {Kind.FLAP, Kind.OUTAGE}
    for seed in range(60):
        plan = make_plan(seed, kinds=kinds)
        if not plan.hold_down_ms or plan.has_ways:
            continue
        without = make_plan(seed, kinds=kinds - {Kind.LEARNED_ROUTES, Kind.FALSE_ROUTES, *new})
        assert (plan.nodes, plan.payments, plan.ends) == (
            without.nodes,
            without.payments,
            without.ends,
        )
        assert [one for one in plan.faults if one.kind not in new] == list(without.faults)
        assert [one for one in plan.links if not one.announces] == list(without.links)
