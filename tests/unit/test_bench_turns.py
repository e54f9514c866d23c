"""benchmarks/turns.py: two versions measured in turns, and what the figures say."""

from __future__ import annotations

import importlib.util
import math
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

ROOT = Path(__file__).resolve().parents[2]


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("turns", ROOT / "benchmarks" / "turns.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["turns"] = module
    spec.loader.exec_module(module)
    return module


turns = _load()
FIGURES = st.floats(min_value=0.01, max_value=1e6)


@given(st.lists(FIGURES, min_size=2, max_size=9), st.floats(min_value=0.1, max_value=10))
def test_what_slows_a_round_down_slows_both(before: list[float], factor: float) -> None:
    ratio = turns.paired(before, [one * factor for one in before])
    assert ratio.mean == pytest.approx(factor)
    assert ratio.error == pytest.approx(0, abs=1e-6)


@given(st.lists(st.tuples(FIGURES, FIGURES), min_size=2, max_size=9))
def test_the_order_of_the_versions_turns_the_ratio_over(pairs: list[tuple[float, float]]) -> None:
    before, after = zip(*pairs, strict=True)
    assert turns.paired(before, after).mean * turns.paired(after, before).mean == pytest.approx(1)


def test_the_error_is_that_of_the_mean_of_the_logarithms() -> None:
    ratio = turns.paired([100, 100], [100 * math.e, 100 / math.e])
    assert ratio.mean == pytest.approx(1)
    assert ratio.error == pytest.approx(1)  # logarithms 1 and -1: deviation sqrt(2), of two rounds
    assert not ratio.is_clear
    assert str(ratio) == "1.000 ± 1.000"


def test_of_one_round_no_error_is_told() -> None:
    ratio = turns.paired([100], [150])
    assert ratio == (1.5, None)
    assert not ratio.is_clear
    assert str(ratio) == "1.500"


def test_a_difference_of_more_than_two_errors_is_clear() -> None:
    assert turns.paired([100, 100, 100], [110, 111, 112]).is_clear
    assert not turns.paired([100, 100, 100], [110, 90, 103]).is_clear


def test_the_first_of_a_round_is_the_second_of_the_next() -> None:
    pair = ("before", "after")
    assert [turns.in_turn(pair, number)[0] for number in range(4)] == ["before", "after"] * 2


def test_a_row_has_medians_and_the_ratio_within_the_rounds() -> None:
    seen = {
        ("embedded", 100, "before"): [{"packets_per_second": 10, "p50_ms": 2.0, "cpu_us": 8}] * 3,
        ("embedded", 100, "after"): [{"packets_per_second": 20, "p50_ms": 1.0, "cpu_us": 0}] * 3,
    }
    (row,) = turns.rows_of(seen)
    assert (row["target"], row["window"], row["rounds"]) == ("embedded", 100, 3)
    assert row["packets_per_second"] == {"before": 10, "after": 20, "ratio": 2.0, "error": 0.0}
    assert row["p50_ms"]["ratio"] == 0.5
    assert "cpu_us" not in row  # where the system does not say


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    def git(*command: str) -> None:
        who = ["-c", "user.name=t", "-c", "user.email=t@example.com"]
        subprocess.run(
            ["git", "-C", str(tmp_path), *who, *command], check=True, capture_output=True
        )

    git("init", "-q")
    for text in ("one", "two"):
        (tmp_path / "file").write_text(text)
        git("add", "file")
        git("commit", "-qm", text)
    return tmp_path


@pytest.mark.processes
def test_the_files_of_a_commit_are_checked_out_once(repository: Path) -> None:
    commit = turns.commit_of(repository, "HEAD~1")
    with turns.tree_of(repository, commit) as tree:
        assert (tree / "file").read_text() == "one"
        (tree / "build").mkdir()
    with turns.tree_of(repository, commit) as again:
        assert again == tree
        assert (again / "build").exists()  # what was compiled there is used again
    assert (repository / "file").read_text() == "two"


@pytest.mark.processes
def test_a_tree_that_was_changed_is_made_anew(repository: Path) -> None:
    commit = turns.commit_of(repository, "HEAD~1")
    with turns.tree_of(repository, commit) as tree:
        (tree / "file").write_text("changed")
    with turns.tree_of(repository, commit) as again:
        assert (again / "file").read_text() == "one"


@pytest.mark.processes
@pytest.mark.parametrize("name", ["no-such-commit", "--help", ""])
def test_a_commit_that_is_not_there_is_told(repository: Path, name: str) -> None:
    with pytest.raises(SystemExit, match="git knows no commit"):
        turns.commit_of(repository, name)
