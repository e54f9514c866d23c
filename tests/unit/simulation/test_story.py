"""Shrinking a failure, and telling it."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

from connector.simulation import story
from connector.simulation.evidence import Finding
from connector.simulation.kinds import Kind
from connector.simulation.plan import FaultPlan, Plan
from connector.simulation.run import Outcome, run_plan
from tests.support.worlds import small_plan

FAULTS = tuple(
    FaultPlan(number=number, kind=Kind.CUT, at_s=0.1, for_s=0.2, where="n1", other="n2")
    for number in range(1, 5)
)


@cache
def run() -> Outcome:
    """Of two payments."""
    return run_plan(small_plan(count=2))


def outcome_of(plan: Plan, *findings: Finding) -> Outcome:
    """As if `plan` had been run."""
    return replace(run(), plan=plan, findings=list(findings))


def test_what_is_not_needed_is_left_out() -> None:
    """Payment 3 fails whenever fault 2 is there."""
    plan = small_plan(count=8, faults=FAULTS)
    finding = Finding("lost", "n1", "booked 0 times", 3)

    def run_tried(tried: Plan) -> Outcome:
        fails = any(one.number == 3 for one in tried.payments) and any(
            one.number == 2 for one in tried.faults
        )
        return outcome_of(tried, *([finding] if fails else []))

    shortest = story.shrink(outcome_of(plan, finding), seconds_max=60.0, run=run_tried)
    assert [one.number for one in shortest.plan.payments] == [3]
    assert [one.number for one in shortest.plan.faults] == [2]
    assert story.command(shortest) == "connector simulate --seed 1 --keep p3,f2"


def test_another_failure_is_not_taken_for_this_one() -> None:
    plan = small_plan(count=4, faults=FAULTS)

    def run_tried(tried: Plan) -> Outcome:
        return outcome_of(tried, Finding("shown", "n1", "differs"))

    shortest = story.shrink(
        outcome_of(plan, Finding("lost", "n1", "booked 0 times", 3)),
        seconds_max=60.0,
        run=run_tried,
    )
    assert shortest.plan == plan


def test_without_time_the_whole_plan_is_told() -> None:
    plan = small_plan(count=4, faults=FAULTS)
    finding = Finding("lost", "n1", "booked 0 times", 3)
    shortest = story.shrink(
        outcome_of(plan, finding), seconds_max=0.0, run=lambda tried: outcome_of(tried, finding)
    )
    assert shortest.plan == plan


def test_a_story_has_the_payment_the_ledger_and_the_rule() -> None:
    told = replace(run(), findings=[Finding("lost", "n1", "booked 0 times", 1)])
    text = "\n".join(story.tell(told))
    assert "seed 1: lost: booked 0 times" in text
    assert "payment 1: n1a -> n1 -> n2 -> n2a" in text
    assert "n1a    offers 1000 to n2a" in text
    assert "ledger: holds 1000" in text
    assert "ledger: posts 1000" in text
    assert "payment 2" not in text
