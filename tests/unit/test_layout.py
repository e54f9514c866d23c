"""The layout holds: the map is true, files are short or say why not, every package says what it is."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import connector

ROOT = Path(__file__).parents[2] / "connector"
LINES_MAX = 450
REASON = "Long because "
UNNAMED = {"__init__.py", "bounds.py", "version.py", "__main__.py"}
"""Every package has the first two; the others are told by the packaging."""


def modules() -> set[str]:
    return {str(path.relative_to(ROOT)) for path in ROOT.rglob("*.py") if path.name not in UNNAMED}


ASSERTED = ("accounting", "ledger", "switch")
"""Packages that state their invariants: money, and the packets that move it."""
ASSERTS_PER_100_FUNCTIONS_MIN = 20


def is_stub(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Whether it is a method of a port: a docstring or `...`, and nothing else."""
    return all(
        isinstance(step, ast.Expr) and isinstance(step.value, ast.Constant)
        for step in function.body
    )


def functions_and_asserts(source: str) -> tuple[int, int]:
    """How many functions, methods of protocols without a body not counted, and asserts in them."""
    nodes = list(ast.walk(ast.parse(source)))
    ports = {
        method
        for node in nodes
        if isinstance(node, ast.ClassDef)
        and any(ast.unparse(base).startswith("Protocol") for base in node.bases)
        for method in node.body
        if isinstance(method, ast.FunctionDef | ast.AsyncFunctionDef) and is_stub(method)
    }
    functions = [
        node
        for node in nodes
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node not in ports
    ]
    asserts = {
        node
        for function in functions
        for node in ast.walk(function)
        if isinstance(node, ast.Assert)
    }
    return len(functions), len(asserts)


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


def test_functions_and_asserts_are_counted_without_ports_and_modules() -> None:
    source = """
assert TABLE

class Port(Protocol):
    def ask(self): "What it does."
    def tell(self): ...
    def both(self):
        assert self

class Part(Base):
    def run(self):
        def step():
            assert self
            assert step
    def nothing(self): "It has nothing to do."
"""
    assert functions_and_asserts(source) == (4, 3)


@pytest.mark.parametrize("package", ASSERTED)
def test_a_package_that_moves_money_asserts_its_invariants(package: str) -> None:
    counts = [
        functions_and_asserts(path.read_text("utf-8")) for path in (ROOT / package).rglob("*.py")
    ]
    functions = sum(one for one, _ in counts)
    asserts = sum(one for _, one in counts)
    assert 100 * asserts >= ASSERTS_PER_100_FUNCTIONS_MIN * functions, (
        f"connector/{package}: {asserts} asserts in {functions} functions"
    )
