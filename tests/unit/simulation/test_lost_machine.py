"""A machine that is lost for good while a standby on another one waits."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest

from connector.simulation.draw import make_plan
from connector.simulation.kinds import Kind, default_kinds
from connector.simulation.plan import FaultPlan, LinkPlan, Plan
from connector.simulation.run import Outcome, Simulation
from tests.support.worlds import small_plan

LOST = FaultPlan(
    1, Kind.MACHINE_LOST, at_s=0.5, for_s=15.0, where="n2", after_operations=5, size=2.0
)


def plan() -> Plan:
    """A payment every tenth of a second to an end without packet ids, before and after the loss."""
    whole = small_plan(ledger="tigerbeetle", count=100, outcomes=("pay",), faults=(LOST,))
    changed = tuple(replace(one, resumable=one.left != "n2a") for one in whole.links)
    return replace(whole, links=changed, traffic_s=10.0)


@cache
def run() -> tuple[Simulation, Outcome]:
    simulation = Simulation(plan())
    return simulation, simulation.run()


def test_the_standby_takes_over_without_the_disk_and_nothing_is_unproven() -> None:
    simulation, outcome = run()
    assert outcome.findings == []
    (lost_s,) = simulation.evidence.machines_lost["n2"]
    assert simulation.evidence.machines_lost["n1"] == []
    facts = outcome.facts.by_condition.values()
    assert any(one.outcome == "fulfilled" and (one.answered_s or 0.0) < lost_s for one in facts)
    assert any(one.outcome == "fulfilled" and (one.sent_s or 0.0) > lost_s for one in facts)
    assert simulation.disks["n2"].host == "n2#2"
    assert simulation.cluster.lost


def test_a_machine_is_lost_only_after_its_process_has_answered_the_standby() -> None:
    simulation, outcome = run()
    (lost_s,) = simulation.evidence.machines_lost["n2"]
    said = [one for one in outcome.facts.diary if one.text == "standby: generation 1 is active"]
    assert said
    assert said[0].at_s < lost_s


def test_a_node_with_a_receiver_of_its_own_keeps_its_machine() -> None:
    """What such a receiver has fulfilled may be known to the disk alone."""
    whole = plan()
    local = LinkPlan("n2r", "n2", whole.links[0].asset, 0.004, local=True)
    simulation = Simulation(replace(whole, links=(*whole.links, local)))
    assert not simulation.may_move("n2", is_expected=True)
    assert Simulation(whole).may_move("n2", is_expected=True)
    assert not Simulation(whole).may_move("n2")


@pytest.mark.parametrize("settles", [True, False])
def test_what_is_being_settled_is_known_to_the_disk_alone(*, settles: bool) -> None:
    whole = replace(plan(), settle_threshold=500 if settles else None)
    assert Simulation(whole).may_move("n2", is_expected=True) is not settles


@pytest.mark.parametrize("other", [Kind.SECOND_PROCESS, Kind.LEDGER_FORGETS])
def test_no_machine_is_lost_where_its_successor_could_not_know_its_ledger(other: Kind) -> None:
    for seed in range(40):
        kinds = {
            one.kind
            for one in make_plan(seed, kinds=default_kinds({Kind.MACHINE_LOST, other})).faults
        }
        assert not kinds >= {Kind.MACHINE_LOST, other}
