"""`simulate`: what it prints, and how it ends."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from dataclasses import replace

import pytest
import typer
from typer.testing import CliRunner, Result

from connector.cli.simulate import simulate
from connector.simulation import run as run_module
from connector.simulation.evidence import Finding
from connector.simulation.kinds import KNOWN_OPEN, Kind
from connector.simulation.plan import Plan
from connector.simulation.run import Outcome, run_plan
from tests.support.inherited import INHERITED
from tests.support.patience import PATIENCE_SECONDS
from tests.support.worlds import small_plan

app = typer.Typer()
app.command()(simulate)


def invoke(*words: str) -> Result:
    return CliRunner().invoke(app, [*words])


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> list[Plan]:
    """Every plan is run as if it were a small one; gives those that were asked for."""
    outcome = run_plan(small_plan(count=2))
    asked: list[Plan] = []

    def run(plan: Plan) -> Outcome:
        asked.append(plan)
        return replace(outcome, plan=plan)

    monkeypatch.setattr(run_module, "run_plan", run)
    return asked


def test_a_seed_in_which_all_is_well(quick: list[Plan]) -> None:
    result = invoke("--seed", "5")
    assert result.exit_code == 0
    assert result.output.startswith("ok: 1 seeds, 4 packets, 0 faults, 0 crashes")
    assert [one.seed for one in quick] == [5]


def test_new_seeds_until_the_time_is_over(quick: list[Plan]) -> None:
    result = invoke("--minutes", "0.001")
    assert result.exit_code == 0
    assert len({one.seed for one in quick}) == len(quick) >= 1


def test_the_seed_of_every_run_is_printed_on_a_line_of_its_own_when_asked_for(
    quick: list[Plan],
) -> None:
    result = invoke("--minutes", "0.001", "--print-seeds")
    assert result.exit_code == 0
    *seeds, last = result.output.splitlines()
    assert seeds == [f"seed {one.seed}" for one in quick]
    assert last.startswith(f"ok: {len(quick)} seeds")
    assert invoke("--seed", "5", "--print-seeds").output.startswith("seed 5\nok: 1 seeds")


def test_a_seed_is_printed_before_its_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(_: Plan) -> Outcome:
        raise KeyboardInterrupt

    monkeypatch.setattr(run_module, "run_plan", run)
    result = CliRunner().invoke(app, ["--seed", "5", "--print-seeds"])
    assert result.exit_code == 130
    assert result.stdout.startswith("seed 5\n")


def test_json_has_one_object_a_seed(quick: list[Plan]) -> None:
    result = invoke("--seed", "5", "--json")
    said = json.loads(result.output)
    assert (said["seed"], said["packets"], said["findings"]) == (5, 4, [])


def test_only_and_without_choose_kinds(quick: list[Plan]) -> None:
    invoke("--seed", "5", "--only", "crash,cut", "--without", "cut", "--nodes", "3")
    assert quick[0].kinds == {Kind.CRASH}
    assert len(quick[0].nodes) == 3


def test_kept_parts_are_what_is_run(quick: list[Plan]) -> None:
    invoke("--seed", "5", "--only", "crash", "--keep", "p2,p3,f1")
    assert sorted(one.number for one in quick[0].payments) == [2, 3]
    assert [one.number for one in quick[0].faults] == [1]


def test_a_kind_that_does_not_exist_is_a_usage_error() -> None:
    result = invoke("--only", "crash,flood-of-frogs")
    assert result.exit_code == 2


def test_kinds_are_listed_with_those_that_are_off() -> None:
    result = invoke("--kinds")
    lines = result.output.splitlines()
    assert len(lines) == len(Kind)
    assert sum("off:" in line for line in lines) == len(KNOWN_OPEN)


def test_a_failure_is_told_and_can_be_run_again(monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = run_plan(small_plan(count=2))
    finding = Finding("lost", "n1", "booked 0 times, n2 has 1", 1)

    def run(plan: Plan) -> Outcome:
        kept = small_plan(count=2).keep([one.number for one in plan.payments], [])
        return replace(outcome, plan=replace(kept, seed=plan.seed), findings=[finding])

    monkeypatch.setattr(run_module, "run_plan", run)
    result = invoke("--seed", "5", "--only", "crash", "--shrink-seconds", "0")
    assert result.exit_code == 1
    assert "seed 5: lost: booked 0 times, n2 has 1" in result.output
    assert "the same again:  connector simulate --seed 5 --only crash --keep p1,p2" in result.output
    assert "the whole seed:  connector simulate --seed 5 --only crash\n" in result.output
    assert "FAILED: 1 seeds" in result.output


def test_an_interruption_is_one_line_and_the_figures_so_far(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    outcome = run_plan(small_plan(count=2))
    seeds: list[int] = []

    def run(plan: Plan) -> Outcome:
        seeds.append(plan.seed)
        if len(seeds) == 3:
            raise KeyboardInterrupt
        return replace(outcome, plan=plan)

    monkeypatch.setattr(run_module, "run_plan", run)
    result = CliRunner().invoke(app, ["--minutes", "5"])
    assert result.exit_code == 130
    assert result.stderr == "connector: interrupted\n"
    assert result.stdout.startswith("so far: 2 seeds, 8 packets, 0 faults")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--minutes", "-1"], "--minutes"),
        (["--minutes", "0"], "--minutes"),
        (["--minutes", "nan"], "--minutes"),
        (["--seed", "5", "--shrink-seconds", "-1"], "--shrink-seconds"),
        (["--keep", "p1"], "needs --seed"),
        (["--seed", "5", "--keep", "px"], "p1,p2,f1"),
        (["--json", "--print-seeds"], "--print-seeds"),
    ],
)
def test_what_makes_no_sense_is_a_usage_error(words: list[str], said: str) -> None:
    result = invoke(*words)
    assert result.exit_code == 2
    assert said in result.output


@pytest.mark.processes
def test_ctrl_c_in_a_seed_leaves_nothing_else_to_be_said() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "connector", "simulate", "--minutes", "5", "--json"],
        env=INHERITED,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        assert running.stdout is not None
        patience = threading.Timer(PATIENCE_SECONDS, running.kill)
        patience.start()
        assert json.loads(running.stdout.readline())["findings"] == []
        running.send_signal(signal.SIGINT)
        _, err = running.communicate()
        patience.cancel()
    assert (running.returncode, err) == (130, "connector: interrupted\n")
