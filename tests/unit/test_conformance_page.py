"""docs/conformance.md: all 85 requirements, each with a test that exists, and checks that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from connector.tools import conformance_btp, conformance_ilp

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "conformance.md"
_ROW = re.compile(r"^\| (\d+) \| (must|should|usual) \| (.+) \| (.+) \| (.*) \|$", re.MULTILINE)
_LINK = re.compile(r"\[`([^`]+)`\]\(\.\./(tests/[^)]+)\)")
ROWS = _ROW.findall(PAGE.read_text("utf-8"))
CHECKS = [*conformance_btp.CHECKS.all, *conformance_ilp.CHECKS.all]


def test_every_requirement_has_one_row() -> None:
    assert [int(number) for number, *_ in ROWS] == list(range(1, 86))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_a_requirement_is_linked_to_tests_that_exist_or_said_not_to_be_built(
    row: tuple[str, ...],
) -> None:
    number, _, _, tests, _ = row
    if tests == "not built":
        return
    links = _LINK.findall(tests)
    assert ", ".join(f"[`{name}`](../{path})" for name, path in links) == tests, number
    for name, path in links:
        text = (ROOT / path).read_text("utf-8")
        if name.startswith("test_"):
            assert re.search(rf"^(?:async )?def {name}\(", text, re.MULTILINE), (number, name)
        else:
            assert path.endswith(name), (number, name)


def test_the_checks_are_named_at_all_their_requirements() -> None:
    for number, *_, named in ROWS:
        made = {check.name for check in CHECKS if int(number) in check.requirements}
        assert set(re.findall(r"`([\w-]+)`", named)) == made, number
