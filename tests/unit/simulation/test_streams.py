"""Payments of many packets in a simulation: what the judge finds in their rows, and a payer that is killed at any step."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import cache

import pytest

from connector.simulation.evidence import Evidence
from connector.simulation.judge import Judge
from connector.simulation.kinds import Kind
from connector.simulation.plan import (
    STREAM_PACKET_MAX,
    USD,
    FaultPlan,
    LinkPlan,
    NodePlan,
    Plan,
    StreamPlan,
)
from connector.simulation.raw import PENDING, POST, VOID
from connector.simulation.run import Simulation
from tests.support.worlds import small_plan

PACKETS = 40
STEPS = (0, 1, 2, 3, 5, 8, 12, 20, 30, 45, 70, 100)


def line(ledger: str = "embedded", **options: object) -> Plan:
    """n1 pays a wallet of n3 over n2, which takes a fee."""
    plan = small_plan(ledger=ledger, count=2, fee_basis_points=30, traffic_s=4.0)
    third = NodePlan("n3", ledger, "spool", 0, 0.001)
    amount = PACKETS * STREAM_PACKET_MAX - 12_345
    return replace(
        plan,
        nodes=(*plan.nodes, third),
        links=(*plan.links, LinkPlan("n3", "n2", USD, 0.004)),
        streams=(StreamPlan(1, 0.5, "n1", "n3", amount),),
        **options,  # type: ignore[arg-type]
    )


@cache
def paid() -> Simulation:
    simulation = Simulation(line())
    assert simulation.run().findings == []
    return simulation


def evidence() -> Evidence:
    return copy.deepcopy(paid().evidence)


def row_of_a_packet(found: Evidence, node: str, flags: int) -> int:
    """Where a row of a packet of the stream stands, the same packet at each node."""
    known = {int.from_bytes(one.condition[:12], "big") for one in found.facts.by_number.values()}
    wanted = min(
        row.condition_start
        for row in found.rows["n3"]
        if row.flags & PENDING and row.condition_start not in known
    )
    rows = found.rows[node]
    holds = {row.id for row in rows if row.condition_start == wanted and row.flags & PENDING}
    return next(
        at
        for at, row in enumerate(rows)
        if row.flags & flags and (row.id in holds or row.pending_id in holds)
    )


def test_a_payment_where_nothing_breaks_is_complete() -> None:
    found = evidence()
    (stream,) = found.plan.streams
    seen = found.streams[1]
    assert (seen.state, seen.sent, seen.uncertain) == ("completed", stream.amount, 0)
    assert seen.delivered == pytest.approx(stream.amount * 0.997, rel=1e-6)
    many = sum(1 for row in found.rows["n3"] if row.flags & POST)
    assert many >= PACKETS


@pytest.mark.parametrize("node", ["n1", "n2", "n3"])
def test_a_packet_that_one_hop_has_not_booked_is_found(node: str) -> None:
    found = evidence()
    at = row_of_a_packet(found, node, POST)
    found.rows[node][at] = found.rows[node][at]._replace(flags=VOID)
    said = {one.rule for one in Judge(found).judge().findings}
    assert said & {"lost", "unproven", "stream-sent", "stream-delivered"}


@pytest.mark.parametrize("node", ["n1", "n2", "n3"])
def test_a_packet_that_is_booked_twice_is_found(node: str) -> None:
    found = evidence()
    rows = found.rows[node]
    hold = rows[row_of_a_packet(found, node, PENDING)]
    post = rows[row_of_a_packet(found, node, POST)]
    other = hold.id + (1 << 100)
    rows += [hold._replace(id=other), post._replace(id=other | 0x10, pending_id=other)]
    assert "booked-twice" in {one.rule for one in Judge(found).judge().findings}


def test_more_than_was_asked_for_is_found() -> None:
    found = evidence()
    found.plan = replace(found.plan, streams=(replace(found.plan.streams[0], amount=1000),))
    assert "stream-sent" in {one.rule for one in Judge(found).judge().findings}


@pytest.mark.parametrize("ledger", ["embedded", "tigerbeetle"])
@pytest.mark.parametrize("step", STEPS)
def test_a_payer_that_is_killed_at_any_step_pays_to_the_unit(step: int, ledger: str) -> None:
    """It is asked again under its key. One that was killed alone leaves nothing uncertain."""
    crash = FaultPlan(1, Kind.CRASH, 0.52, 1.0, "n1", after_operations=step)
    simulation = Simulation(line(ledger, faults=(crash,)))
    assert simulation.run().findings == []
    seen = simulation.evidence.streams[1]
    assert (seen.state, seen.sent, seen.uncertain) == (
        "completed", simulation.plan.streams[0].amount, 0,
    )  # fmt: skip
