"""Links by HTTP in the simulator: ends that speak it, and proxies between hosts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import pytest

from connector.simulation import octets
from connector.simulation.draw import make_plan
from connector.simulation.http_ends import HttpEnd
from connector.simulation.kinds import Kind
from connector.simulation.plan import FaultPlan, Plan
from connector.simulation.run import Simulation
from tests.support.worlds import small_plan

Mode = Literal["sync", "async"]


def by_http(
    mode: Mode, *, between: Mode | None = None, resumable: bool = True, **options: Any
) -> Plan:
    """Two nodes; the end of the first one speaks HTTP, and the nodes with each other, where `between` is given."""
    plan = small_plan(count=12, outcomes=("pay",), traffic_s=3.0, **options)
    links = tuple(
        replace(one, http=mode, resumable=False)
        if one.left == "n1a"
        else replace(one, http=between or "", resumable=resumable)
        if one.left == "n2"
        else one
        for one in plan.links
    )
    return replace(plan, links=links)


def fault(kind: Kind, where: str, other: str, *, behind: bool = True) -> FaultPlan:
    return FaultPlan(
        1,
        kind,
        at_s=0.35,
        for_s=1.0,
        where=where,
        other=other,
        after_operations=int(behind),
        size=0.0,
    )


def said(simulation: Simulation) -> set[str]:
    return {one.outcome for one in simulation.facts.by_condition.values()}


@pytest.mark.parametrize("between", ["sync", "async"])
@pytest.mark.parametrize("mode", ["sync", "async"])
def test_every_payment_passes_by_http_in_both_directions(mode: Mode, between: Mode) -> None:
    simulation = Simulation(by_http(mode, between=between))
    outcome = simulation.run()
    assert outcome.findings == []
    assert outcome.excused == {}
    assert (outcome.payments, outcome.fulfilled) == (12, 12)
    assert isinstance(simulation.ends["n1a"], HttpEnd)
    core = simulation.nodes["n1"].core
    assert core is not None
    assert all(one.url is None for one in core.applier.settings.peers)


@pytest.mark.parametrize("between", ["sync", "async"])
@pytest.mark.parametrize("kind", [Kind.ANSWERS_LOST, Kind.GATEWAY, Kind.ASKED_TWICE])
def test_what_a_proxy_does_between_nodes_costs_no_packet(kind: Kind, between: Mode) -> None:
    behind = between == "sync"  # else the answer comes by itself all the same
    plan = by_http("async", between=between, faults=(fault(kind, "n1", "n2", behind=behind),))
    simulation = Simulation(plan)
    outcome = simulation.run()
    assert outcome.findings == []
    assert outcome.excused == {}
    assert said(simulation) <= {"fulfilled", "T01"}  # while it is not reached nothing new is sent
    again = [simulation.nodes[name].core for name in ("n1", "n2")]
    if kind is Kind.GATEWAY or (kind is Kind.ANSWERS_LOST and behind):
        assert sum(p.counters.resent_out for core in again if core for p in core.peers) > 0


@pytest.mark.parametrize("kind", [Kind.ANSWERS_LOST, Kind.GATEWAY, Kind.ASKED_TWICE])
def test_an_asynchronous_end_asks_until_it_has_the_answer(kind: Kind) -> None:
    plan = by_http("async", faults=(fault(kind, "n1a", "n1", behind=False),))
    simulation = Simulation(plan)
    outcome = simulation.run()
    assert outcome.findings == []
    assert outcome.excused == {}
    assert said(simulation) <= {"fulfilled", "T01"}
    if kind is Kind.GATEWAY:
        assert simulation.ends["n1a"].resent > 0


def test_an_answer_that_is_lost_on_the_way_to_a_synchronous_end_is_lost_to_it() -> None:
    simulation = Simulation(by_http("sync", faults=(fault(Kind.ANSWERS_LOST, "n1a", "n1"),)))
    outcome = simulation.run()
    assert outcome.findings == []
    assert "lost" in said(simulation)


def test_an_answer_of_a_synchronous_end_that_is_lost_is_excused_and_counted() -> None:
    plan = by_http("sync", faults=(fault(Kind.ANSWERS_LOST, "n1", "n1a"),))
    simulation = Simulation(plan)
    outcome = simulation.run()
    assert outcome.findings == []
    assert outcome.excused.keys() == {"plain-link"}


def test_what_a_proxy_refuses_before_a_synchronous_end_costs_nothing() -> None:
    plan = by_http("sync", faults=(fault(Kind.GATEWAY, "n1", "n1a", behind=False),))
    simulation = Simulation(plan)
    outcome = simulation.run()
    assert outcome.findings == []
    assert outcome.excused == {}
    assert said(simulation) & {"T00", "T01"}


@pytest.mark.parametrize("port", [0.0, 1.0])
def test_of_two_carriers_either_may_be_away(port: float) -> None:
    """Zero: HTTP is; else BTP."""
    plan = small_plan(count=12, outcomes=("pay",), traffic_s=3.0)
    links = tuple(
        replace(one, http="sync", with_btp=True) if one.left == "n2" else one for one in plan.links
    )
    away = replace(fault(Kind.ONE_CARRIER, "n1", "n2"), size=port)
    simulation = Simulation(replace(plan, links=links, faults=(away,)))
    outcome = simulation.run()
    assert outcome.findings == []
    assert outcome.excused == {}
    assert said(simulation) <= {"fulfilled", "T01"}
    assert outcome.fulfilled >= 6


def test_a_node_that_stops_takes_the_answers_that_it_waits_for() -> None:
    """They come by requests of the other side, and the sender could not ask again."""
    plan = by_http("sync", between="async")
    payment = replace(plan.payments[0], think_s=1.0)  # of n1a
    stop = FaultPlan(1, Kind.STOP, at_s=0.3, for_s=4.0, where="n1")
    simulation = Simulation(replace(plan, payments=(payment,), faults=(stop,)))
    outcome = simulation.run()
    assert outcome.findings == []
    assert outcome.excused == {}
    assert said(simulation) == {"fulfilled"}


def killed_meanwhile(plan: Plan, gateway: FaultPlan, victim: str) -> Simulation:
    """One payment of n1a; its answer does not get through for two seconds, and who had it is killed within them."""
    faults = (
        replace(gateway, for_s=2.0),
        FaultPlan(2, Kind.CRASH, at_s=1.2, for_s=0.3, where=victim),
    )
    payments = (replace(plan.payments[0], at_s=0.1, think_s=0.3),)
    return Simulation(replace(plan, payments=payments, faults=faults))


def test_what_a_killed_process_had_paid_is_answered_under_its_request_id() -> None:
    gateway = replace(fault(Kind.GATEWAY, "n1", "n1a", behind=False), at_s=0.3)  # it was told 202
    simulation = killed_meanwhile(by_http("async"), gateway, "n1")
    outcome = simulation.run()
    assert outcome.findings == []
    assert outcome.excused == {}
    assert said(simulation) == {"fulfilled"}
    assert simulation.ends["n1a"].resent > 0


@pytest.mark.parametrize("between", ["sync", "async"])
def test_what_a_killed_process_had_paid_is_answered_under_its_packet_id(between: Mode) -> None:
    gateway = replace(fault(Kind.GATEWAY, "n1", "n2", behind=between == "sync"), at_s=0.3)
    simulation = killed_meanwhile(by_http("sync", between=between), gateway, "n2")
    outcome = simulation.run()
    assert outcome.findings == []
    assert outcome.excused == {}
    assert said(simulation) == {"fulfilled"}


def test_a_plan_has_links_by_http_and_the_rest_of_it_stays_the_same() -> None:
    kinds = frozenset((Kind.HTTP, Kind.GATEWAY, Kind.CRASH))
    plan = make_plan(1, kinds=kinds, nodes=3)
    without = make_plan(1, kinds=kinds - {Kind.HTTP}, nodes=3)
    assert any(one.http for one in plan.links)
    assert plan.payments == without.payments
    assert {replace(one, number=0) for one in without.faults} <= {
        replace(one, number=0) for one in plan.faults
    }


def test_http_is_read_when_it_is_whole() -> None:
    sent = octets.http("HTTP/1.1 200 OK", {"A": "b"}, b"body")
    assert octets.read_http(sent[:-1]) == (None, sent[:-1])
    seen, rest = octets.read_http(sent + b"more")
    assert seen is not None
    assert (seen.status, seen.headers["a"], seen.body, rest) == (200, "b", b"body", b"more")
    with pytest.raises(octets.UnreadableError, match="HTTP"):
        octets.read_http(b"HTTP/1.0 200 OK\r\n\r\n")
