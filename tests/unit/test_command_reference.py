"""The reference, the manual page and the completion of the commands are those of the command line."""

from __future__ import annotations

import re
import runpy
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from connector.cli.main import app
from connector.cli.tree import Command, tree

ROOT = Path(__file__).parents[2]
SCRIPT = runpy.run_path(str(ROOT / "scripts" / "command_reference.py"))
ALL = list(tree(app).all())


def test_they_are_made_from_the_commands() -> None:
    pages = SCRIPT["pages"]()
    assert len(pages) == 8
    for path, text in pages.items():
        assert path.exists(), "run: python scripts/command_reference.py"
        assert path.read_text("utf-8") == text, f"{path}: run python scripts/command_reference.py"
    there = {path for path in (ROOT / "share").rglob("*") if path.is_file()}
    assert there == {path for path in pages if "share" in path.relative_to(ROOT).parts}


def plain(text: str) -> str:
    """What roff makes of it, without its macros."""
    text = re.sub(r"(?m)^\.\w+ ?", "", text)
    return text.replace("\\-", "-").replace("\\(aq", "'").replace("\\(ga", "`").replace("\\e", "\\")


@pytest.mark.parametrize("one", ALL[1:], ids=lambda one: one.name)
def test_every_command_and_option_is_in_the_manual_and_in_the_reference(one: Command) -> None:
    manual = plain(SCRIPT["manual"](ALL[0]))
    reference = (ROOT / "docs" / "reference" / "commands.md").read_text("utf-8")
    assert f"\nilp-connector {one.usage}\n" in manual
    assert f"\n## {one.name}\n" in reference or f"\n### {one.name}\n" in reference
    of_one = manual.split(f"\nilp-connector {one.usage}\n")[1].split("\nilp-connector ")[0]
    assert all(paragraph in of_one for paragraph in one.help.split("\n\n"))
    for option in one.options[:-1]:
        assert f"\n{option.shown}\n{option.meaning}" in of_one, option.shown
        assert f"| `{option.shown}`".replace("<line|", "<line\\|")[:12] in reference


@pytest.mark.processes
def test_roff_has_nothing_to_complain_of_in_the_manual() -> None:
    if shutil.which("groff") is None:
        pytest.skip("there is no groff here")
    page = ROOT / "share" / "man" / "man1" / "ilp-connector.1"
    done = subprocess.run(
        ["groff", "-man", "-Tutf8", "-ww", "-z", str(page)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


def test_packages_hold_them() -> None:
    """tests/compose/test_wheel.py looks into a wheel."""
    build = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["hatch"]["build"]
    assert build["targets"]["wheel"]["shared-data"] == {"share": "share"}
    assert "/share" in build["targets"]["sdist"]["include"]


def test_the_exit_codes_are_those_of_the_readme() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    assert [code for code, _ in SCRIPT["EXIT_CODES"]] == [
        int(code) for code in re.findall(r"^\| (\d+) \| ", readme, re.MULTILINE)
    ]
