"""Whole nodes in virtual time: a few seeds of every kind, and the same run every time."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from typing import Any, Literal

import pytest

from connector.simulation.draw import make_plan
from connector.simulation.kinds import KNOWN_OPEN, OF_HTTP, TRAITS, Kind, default_kinds
from connector.simulation.plan import FaultPlan, Plan
from connector.simulation.run import Simulation, run_plan
from tests.support.worlds import small_plan

SEEDS = range(1, 1 + int(os.environ.get("SIMULATION_SEEDS", "1")))
QUICK = os.environ.get("HYPOTHESIS_PROFILE") == "quick"
PAYMENTS = 16 if QUICK else 80
"""Of a plan: so many are enough to show whether a kind works at all."""
STEPS = range(0, 12, 3 if QUICK else 1)
"""Writes, commits and requests to the ledger before a node is killed."""
EXPECTED = sorted(frozenset(Kind) - KNOWN_OPEN.keys())
TOGETHER = {
    Kind.SETTLE_FALSELY: {Kind.SETTLE},
    Kind.SETTLEMENTS_LOST: {Kind.SETTLE, Kind.SETTLE_FALSELY, Kind.PREPAID},
    Kind.PREPAID: {Kind.SETTLE, Kind.SETTLE_FALSELY},
    Kind.IN_FLIGHT_VALUE: {Kind.LATE},
    **{kind: {Kind.HTTP} for kind in OF_HTTP},
}
"""Kinds that show nothing alone, and what they need."""


LONG = frozenset((Kind.LAST_MOMENT, Kind.PRUNED, Kind.CLOCK_FAR))
KINDS = [pytest.param(one, marks=pytest.mark.long) if one in LONG else one for one in EXPECTED]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_unit_is_accounted_for(kind: Kind, seed: int) -> None:
    """One kind at a time; where it is a property of the network, crashes come with it."""
    kinds = frozenset((kind, *TOGETHER.get(kind, ()), *([Kind.CRASH] if kind in TRAITS else [])))
    plan = make_plan(seed, kinds=kinds, nodes=2)
    numbers = [one.number for one in plan.payments[:PAYMENTS]]
    plan = plan.keep(numbers, [one.number for one in plan.faults])
    assert run_plan(plan).findings == []


@pytest.mark.parametrize("seed", [100 + seed for seed in SEEDS])
def test_every_unit_is_accounted_for_when_everything_breaks(seed: int) -> None:
    assert run_plan(make_plan(seed, kinds=default_kinds())).findings == []


@pytest.mark.parametrize("crashes", [False, True])
def test_packets_in_a_ring_of_default_routes_are_rejected_after_two_laps(crashes: bool) -> None:
    kinds = {Kind.ROUTING_LOOP, Kind.CRASH} if crashes else {Kind.ROUTING_LOOP}
    plan = make_plan(1, kinds=frozenset(kinds), nodes=4)
    nowhere = [one for one in plan.payments if one.outcome == "nowhere"]
    plan = plan.keep((one.number for one in (*plan.payments[:PAYMENTS], *nowhere)), range(100))
    simulation = Simulation(plan)
    outcome = simulation.run()
    assert outcome.findings == []
    assert any("logs routing_loop" in line.text for line in outcome.facts.diary)
    for one in nowhere:
        assert outcome.facts.by_number[one.number].outcome != "fulfilled"


@pytest.mark.parametrize("ledger", ["embedded", "tigerbeetle"])
def test_payments_arrive_where_nothing_breaks(ledger: str) -> None:
    outcome = run_plan(small_plan(ledger=ledger, count=20, outcomes=("pay",)))
    assert outcome.findings == []
    assert (outcome.payments, outcome.fulfilled, outcome.packets) == (20, 20, 40)


# --- one payment, and one thing that goes wrong at a time


def _one_payment(**options: Any) -> Plan:
    plan = small_plan(count=1, outcomes=("pay",), traffic_s=2.0, **options)
    return replace(plan, payments=(replace(plan.payments[0], think_s=0.2),))


def _between_the_nodes(kind: Kind, *, at_s: float, for_s: float) -> tuple[FaultPlan, ...]:
    return (FaultPlan(1, kind, at_s=at_s, for_s=for_s, where="n1", other="n2"),)


def test_a_link_that_is_cut_and_joined_carries_the_answer_under_the_same_packet_id() -> None:
    """The first connection takes the answer with it; the second asks for it again."""
    plan = _one_payment(faults=_between_the_nodes(Kind.CUT, at_s=0.1, for_s=1.0))
    simulation = Simulation(plan)
    outcome = simulation.run()
    assert outcome.findings == []
    assert outcome.excused == {}
    assert outcome.fulfilled == 1
    core = simulation.nodes["n2"].core
    assert core is not None
    assert core.peers["n1"].counters.resent_in == 1
    assert outcome.facts.by_number[1].given[0].amount == 1000


def test_a_cut_without_packet_ids_gives_the_money_back() -> None:
    plan = _one_payment(faults=_between_the_nodes(Kind.CUT, at_s=0.1, for_s=1.0))
    plain = tuple(replace(one, resumable=one.left != "n2") for one in plan.links)
    payments = (replace(plan.payments[0], outcome="silence"),)
    outcome = run_plan(replace(plan, links=plain, payments=payments))
    assert outcome.findings == []
    assert outcome.facts.by_number[1].outcome == "T00"


@pytest.mark.long
@pytest.mark.parametrize("ledger", ["embedded", "tigerbeetle"])
@pytest.mark.parametrize("victim", ["n1", "n2"])
@pytest.mark.parametrize("operations", STEPS)
def test_a_node_that_is_killed_at_any_step_pays_and_is_paid_once(
    victim: str, operations: int, ledger: str
) -> None:
    """Killed before and after each write, commit and request to its ledger."""
    faults = (
        FaultPlan(1, Kind.CRASH, at_s=0.0, for_s=4.0, where=victim, after_operations=operations),
    )
    plan = _one_payment(ledger=ledger, faults=faults)
    outcome = run_plan(plan)
    assert outcome.findings == []
    assert outcome.excused == {}
    assert outcome.crashes == 1
    fact = outcome.facts.by_number[1]
    # Without a Fulfill it had not left yet: then nothing was promised.
    assert fact.outcome == "fulfilled" or not fact.given


@pytest.mark.long
@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize("victim", ["n1", "n2"])
@pytest.mark.parametrize("operations", STEPS)
def test_a_node_by_http_that_is_killed_at_any_step_pays_and_is_paid_once(
    victim: str, operations: int, mode: Literal["sync", "async"]
) -> None:
    """The same where the nodes have no link but HTTP: before and after each request and answer, too."""
    faults = (
        FaultPlan(1, Kind.CRASH, at_s=0.0, for_s=4.0, where=victim, after_operations=operations),
    )
    plan = _one_payment(faults=faults)
    links = tuple(replace(one, http=mode if one.left == "n2" else "") for one in plan.links)
    outcome = run_plan(replace(plan, links=links))
    assert outcome.findings == []
    assert outcome.excused == {}
    assert outcome.crashes == 1
    fact = outcome.facts.by_number[1]
    assert fact.outcome == "fulfilled" or not fact.given


def test_a_node_that_is_back_before_its_ledger_pays_once() -> None:
    """What it had taken only the ledger knows; until that is there, nothing counts as new."""
    faults = (FaultPlan(1, Kind.LEDGER_AND_CRASH, at_s=0.15, for_s=2.0, where="n1"),)
    outcome = run_plan(_one_payment(ledger="tigerbeetle", faults=faults))
    assert outcome.findings == []
    assert outcome.fulfilled == 1


@pytest.mark.long
@pytest.mark.parametrize("ledger", ["embedded", "tigerbeetle"])
def test_a_hold_is_shown_until_it_ends_though_its_node_began_with_a_clock_that_was_behind(
    ledger: str,
) -> None:
    """Its sender cannot resend it, so it ends by itself; meanwhile the clock is set right."""
    plan = _one_payment(
        ledger=ledger,
        faults=(
            FaultPlan(1, Kind.CLOCK_BACK, at_s=0.0, for_s=2.0, where="n1", size=5.0),
            FaultPlan(2, Kind.CRASH, at_s=0.15, for_s=0.5, where="n1"),
        ),
    )
    plain = tuple(replace(one, resumable=one.left != "n1a") for one in plan.links)
    payments = (replace(plan.payments[0], at_s=0.1, outcome="silence"),)
    outcome = run_plan(replace(plan, links=plain, payments=payments))
    assert outcome.findings == []
    assert outcome.excused == {}
    assert outcome.virtual_s > 65


# --- nodes that are replaced


def _replaced(*faults: tuple[str, float, float], **options: Any) -> Plan:
    """Payments all the time, and nodes that are replaced: which, when, and when the next process starts."""
    plan = small_plan(count=40, outcomes=("pay",), traffic_s=8.0, **options)
    spread = tuple(
        replace(one, at_s=0.2 * one.number, think_s=0.1, expires_in_s=100.0)
        for one in plan.payments
    )
    planned = tuple(
        FaultPlan(number, Kind.REPLACE, at_s=at_s, for_s=for_s, where=where)
        for number, (where, at_s, for_s) in enumerate(faults, 1)
    )
    return replace(plan, payments=spread, faults=planned)


@pytest.mark.parametrize("ledger", ["embedded", "tigerbeetle"])
@pytest.mark.parametrize("where", ["n1", "n2"])
@pytest.mark.parametrize("for_s", [0.1, 3.0, 20.0])
def test_a_node_that_is_replaced_loses_no_packet(ledger: str, where: str, for_s: float) -> None:
    outcome = run_plan(_replaced((where, 2.0, for_s), ledger=ledger))
    assert outcome.findings == []
    said = {one.outcome for one in outcome.facts.by_condition.values()}
    assert said <= {"fulfilled", "unsent"}
    assert outcome.fulfilled >= 20


@pytest.mark.parametrize("ledger", ["embedded", "tigerbeetle"])
@pytest.mark.parametrize("apart_s", [0.0, 0.05, 0.7, 1.5, 3.0])
def test_two_neighbours_that_are_replaced_about_the_same_time_lose_no_packet(
    ledger: str, apart_s: float
) -> None:
    """Also while one holds packets for the other, and is replaced itself."""
    plan = _replaced(("n2", 2.0, 2.5), ("n1", 2.0 + apart_s, 1.0), ledger=ledger)
    outcome = run_plan(plan)
    assert outcome.findings == []
    said = {one.outcome for one in outcome.facts.by_condition.values()}
    assert said <= {"fulfilled", "unsent"}


def test_peers_give_up_a_node_that_does_not_come_back_in_time() -> None:
    plan = _replaced(("n2", 2.0, 40.0))
    late = tuple(replace(one, kind=Kind.REPLACE_LATE) for one in plan.faults)
    outcome = run_plan(replace(plan, faults=late))
    assert outcome.findings == []
    assert "T01" in {one.outcome for one in outcome.facts.by_condition.values()}


_PROGRAM = """
from connector.simulation.draw import make_plan
from connector.simulation.kinds import default_kinds
from connector.simulation.run import run_plan
print([run_plan(make_plan(seed, kinds=default_kinds())).digest for seed in (8, 11, 23)])
"""


@pytest.mark.processes
def test_a_seed_gives_the_same_run_under_every_hash_seed() -> None:
    said = {
        subprocess.run(
            [sys.executable, "-c", _PROGRAM],
            check=True,
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONHASHSEED": str(number)},
        ).stdout
        for number in (1, 2)
    }
    assert len(said) == 1
