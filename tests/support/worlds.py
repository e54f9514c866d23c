"""Small simulated networks for tests."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from connector.simulation.evidence import Evidence
from connector.simulation.facts import Facts
from connector.simulation.kinds import Kind
from connector.simulation.plan import RATES, USD, LinkPlan, NodePlan, PaymentPlan, Plan


def small_plan(
    *,
    ledger: str = "embedded",
    count: int = 3,
    fee_basis_points: int = 0,
    outcomes: tuple[str, ...] = ("pay", "pay", "reject"),
    **options: Any,
) -> Plan:
    """Two nodes, an end at each, and a few payments between the ends."""
    nodes = tuple(
        NodePlan(
            name=name,
            ledger=ledger,
            policy="spool",
            fee_basis_points=fee_basis_points,
            latency_s=0.001,
        )
        for name in ("n1", "n2")
    )
    links = (
        LinkPlan("n2", "n1", USD, 0.004),
        LinkPlan("n1a", "n1", USD, 0.004),
        LinkPlan("n2a", "n2", USD, 0.004),
    )
    payments = tuple(
        PaymentPlan(
            number=number + 1,
            at_s=0.1 * number,
            sender="n1a" if number % 2 == 0 else "n2a",
            receiver="n2a" if number % 2 == 0 else "n1a",
            amount=1000 + number,
            expires_in_s=60.0,
            outcome=outcomes[number % len(outcomes)],
            think_s=0.0,
        )
        for number in range(count)
    )
    plan = Plan(
        seed=1,
        nodes=nodes,
        links=links,
        ends=("n1a", "n2a"),
        hostile_ends=(),
        rates=RATES,
        payments=payments,
        faults=(),
        traffic_s=1.0,
        kinds=frozenset[Kind](),
    )
    return replace(plan, **options)


def nothing_seen(plan: Plan, facts: Facts) -> Evidence:
    """Evidence of a run of which nothing has been recorded yet, for tests to fill in."""
    return Evidence(
        plan=plan,
        facts=facts,
        rows={},
        shown={},
        failures={},
        not_ready={},
        losses={},
        deaths={},
        kept={},
        alerts={},
        now_ns=0,
    )
