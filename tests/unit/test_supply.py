"""Locked dependencies, shipped files, and their licences."""

from __future__ import annotations

import re
import runpy
import tomllib
from pathlib import Path
from typing import Any, Final

import pytest

import hatch_build
import hatch_compile

ROOT: Final = Path(__file__).parents[2]
LOCKS: Final = sorted((ROOT / "requirements").glob("*.txt"))
SUPPLY: Final[dict[str, Any]] = runpy.run_path(str(ROOT / "scripts" / "supply.py"))


def locked(name: str) -> dict[str, str]:
    """Packages of a lock, and their versions."""
    text = (ROOT / "requirements" / f"{name}.txt").read_text("utf-8")
    return dict(re.findall(r"^([\w.-]+)==([^\s;]+)", text, re.MULTILINE))


def name_of(requirement: str) -> str:
    """The normalized name in a requirement."""
    found = re.match(r"[\w.-]+", requirement)
    assert found is not None
    return re.sub(r"[-_.]+", "-", found[0]).lower()


def test_there_are_locks() -> None:
    assert {path.stem for path in LOCKS} == {"build", "dev", "docs", "page", "release", "runtime"}


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.name)
def test_every_package_of_a_lock_has_hashes_and_no_index(path: Path) -> None:
    text = path.read_text("utf-8")
    for line in text.replace("\\\n", " ").splitlines():
        if line and not line.startswith("#"):
            assert re.match(r"[\w.-]+==\S+ .*--hash=sha256:[0-9a-f]{64}", line), line
    assert "://" not in text
    assert "--" not in re.sub(r"--hash=sha256:", "", text)


def test_all_that_the_project_asks_for_is_locked() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    assert {name_of(one) for one in project["project"]["dependencies"]} <= set(locked("runtime"))
    wanted = project["project"]["optional-dependencies"]["dev"]
    assert {name_of(one) for one in wanted} <= set(locked("dev"))
    wanted = [*project["build-system"]["requires"], *hatch_compile.REQUIREMENTS]
    assert {name_of(one) for one in wanted} <= set(locked("build"))
    asked = (ROOT / "requirements" / "build.in").read_text("utf-8").splitlines()
    assert set(wanted) <= set(asked)
    assert hatch_build.NODE_PACKAGE in (ROOT / "requirements" / "page.in").read_text("utf-8")


def test_what_is_tested_is_what_is_shipped() -> None:
    dev = locked("dev")
    for name in ("runtime", "build"):
        assert locked(name).items() <= dev.items(), "run: scripts/lock"


def test_every_part_has_a_licence_that_may_be_shipped() -> None:
    listed = SUPPLY["listed"]()
    parts = [*SUPPLY["python_parts"](), *SUPPLY["page_parts"]()]
    assert {(part.name, part.version) for part in parts} == set(listed), (
        "run: .venv/bin/python scripts/supply.py licences"
    )
    for part, licence in listed.items():
        assert set(re.split(r" (?:AND|OR) ", licence)) <= SUPPLY["ALLOWED"], part


def test_the_bill_of_materials_names_each_part_with_version_hash_and_licence() -> None:
    bill = SUPPLY["sbom"]()
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*", bill["metadata"]["component"]["version"])
    names = {one["name"] for one in bill["components"]}
    assert set(locked("runtime")) | {"preact", "python"} <= names
    references = [one["bom-ref"] for one in bill["components"]]
    assert len(references) == len(set(references))
    assert bill["dependencies"] == [{"ref": "ilp-connector", "dependsOn": references}]
    for one in bill["components"]:
        assert one["version"]
        assert one["hashes"]
        assert one.get("licenses") or one["type"] == "container"
