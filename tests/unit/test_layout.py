"""The layout holds: the map is true, files are short or say why not, every package says what it is."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import connector

ROOT = Path(__file__).parents[2] / "connector"
LINES_MAX = 450
REASON = "Long because "
UNNAMED = {"__init__.py", "bounds.py", "version.py", "__main__.py"}
"""Every package has the first two; the others are told by the packaging."""


def modules() -> set[str]:
    return {str(path.relative_to(ROOT)) for path in ROOT.rglob("*.py") if path.name not in UNNAMED}


def docstring(path: Path) -> str:
    return ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""


def mapped() -> set[str]:
    """The modules that the docstring of the package names, below the package each stands under."""
    assert connector.__doc__ is not None
    found: set[str] = set()
    package = ""
    for line in connector.__doc__.splitlines():
        if head := re.match(r" {4}(\w+)/", line):
            package = f"{head[1]}/"
        elif re.match(r" {4}\w+\.py", line):
            package = ""
        if line.startswith("    "):
            found |= {package + name for name in re.findall(r"(?<![\w/.])(\w+\.py)\b", line)}
    return {name for name in found if Path(name).name not in UNNAMED}


def test_the_map_names_every_module() -> None:
    assert sorted(modules() - mapped()) == [], (
        "a line each in the docstring of connector/__init__.py"
    )


def test_the_map_names_only_modules_that_exist() -> None:
    assert sorted(mapped() - modules()) == []


def test_a_long_file_says_why_it_is_long() -> None:
    long = {
        name: len((ROOT / name).read_text("utf-8").splitlines())
        for name in modules()
        if len((ROOT / name).read_text("utf-8").splitlines()) > LINES_MAX
    }
    without = {name: lines for name, lines in long.items() if REASON not in docstring(ROOT / name)}
    assert without == {}, f"over {LINES_MAX} lines: split it, or say {REASON!r} in its docstring"


def test_every_package_and_module_has_a_docstring() -> None:
    lacking = [
        str(path.relative_to(ROOT)) for path in ROOT.rglob("*.py") if not docstring(path).strip()
    ]
    assert lacking == []


def test_a_unit_test_stands_where_its_package_does() -> None:
    packages = {path.name for path in ROOT.iterdir() if (path / "__init__.py").is_file()}
    folders = {path.name for path in Path(__file__).parent.iterdir() if path.is_dir()}
    assert folders - packages - {"__pycache__"} == set()
