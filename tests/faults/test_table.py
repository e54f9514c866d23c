"""The table of seeded faults stays true: every line is there once, and gives a program."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from table import FAULTS, KINDS, Fault

ROOT = Path(__file__).resolve().parents[2]


def test_there_are_enough_of_them() -> None:
    assert len(FAULTS) >= 20
    assert len({one.name for one in FAULTS}) == len(FAULTS)


def test_something_of_each_kind_is_taken_out() -> None:
    assert {one.kind for one in FAULTS} == {"", *KINDS}
    assert len(KINDS) == 18


@pytest.mark.parametrize("fault", FAULTS, ids=lambda one: one.name)
def test_the_lines_of_a_fault_are_in_the_sources(fault: Fault) -> None:
    for path, old, new in fault.edits:
        text = (ROOT / path).read_text("utf-8")
        assert text.count(old) == 1
        compile(text.replace(old, new), path, "exec")
