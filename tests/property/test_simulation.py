"""Whole nodes in virtual time: a few seeds of every kind, and the same run every time."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from connector.simulation.plan import KNOWN_OPEN, TRAITS, Kind, default_kinds, make_plan
from connector.simulation.run import run_plan
from tests.support.worlds import small_plan

SEEDS = range(1, 1 + int(os.environ.get("SIMULATION_SEEDS", "1")))
PAYMENTS = 80
"""Of a plan: so many are enough to show whether a kind works at all."""
EXPECTED = sorted(frozenset(Kind) - KNOWN_OPEN.keys())


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("kind", EXPECTED)
def test_every_unit_is_accounted_for(kind: Kind, seed: int) -> None:
    """One kind at a time; where it is a property of the network, crashes come with it."""
    kinds = frozenset((kind, Kind.CRASH)) if kind in TRAITS else frozenset((kind,))
    plan = make_plan(seed, kinds=kinds, nodes=2)
    numbers = [one.number for one in plan.payments[:PAYMENTS]]
    plan = plan.keep(numbers, [one.number for one in plan.faults])
    assert run_plan(plan).findings == []


@pytest.mark.parametrize("seed", [100 + seed for seed in SEEDS])
def test_every_unit_is_accounted_for_when_everything_breaks(seed: int) -> None:
    assert run_plan(make_plan(seed, kinds=default_kinds())).findings == []


@pytest.mark.parametrize("ledger", ["embedded", "tigerbeetle"])
def test_payments_arrive_where_nothing_breaks(ledger: str) -> None:
    outcome = run_plan(small_plan(ledger=ledger, count=20, outcomes=("pay",)))
    assert outcome.findings == []
    assert (outcome.payments, outcome.fulfilled, outcome.packets) == (20, 20, 40)


_PROGRAM = """
from connector.simulation.plan import default_kinds, make_plan
from connector.simulation.run import run_plan
print([run_plan(make_plan(seed, kinds=default_kinds())).digest for seed in (8, 10, 22)])
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
