"""The documentation is true where a program can tell: commands, options, blocks, links, diagrams."""

from __future__ import annotations

import ast
import configparser
import json
import re
import runpy
import shlex
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Final

import pytest
import typer
import yaml

from connector.cli.main import app
from connector.settings.load import load
from tests.support.written import ELSEWHERE, PAGES, PROGRAMS, ROOT, RUN, WHOLE, Block, blocks

COMMANDS = typer.main.get_command(app)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_OURS = ("python -m connector", ".venv/bin/python -m connector", "ilp-connector")
_INSTALLED = re.compile(r"connector(?: |$)")
"""As a whole command, since it is a word in others too."""


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def commands() -> Iterator[tuple[str, str]]:
    """Page and text of every command in a block of a console or shell, comments and prompts off."""
    for page, _, text in blocks("console", "sh", "bash"):
        for line in text.replace("\\\n", " ").splitlines():
            command = line.strip().removeprefix("$ ")
            if command and not command.startswith("#"):
                yield page, re.sub(r"\s+#.*", "", command)


def shown(one: Block) -> str:
    return f"{one.page}: {one.first}"


def test_of_every_block_it_is_known_what_runs_it() -> None:
    """tests/support/written.py says so; a new block needs a line there, and a test if it can be run."""
    known = [*RUN, *ELSEWHERE]
    found = set()
    for one in blocks(*PROGRAMS):
        if one.page in WHOLE:
            continue
        fitting = [(page, first) for page, first in known
                   if page == one.page and one.first.startswith(first)]  # fmt: skip
        assert len(fitting) == 1, f"{shown(one)}: {fitting}"
        found.add(fitting[0])
    assert found == set(known), "no block begins so any more"


@pytest.mark.parametrize("one", blocks("python"), ids=shown)
def test_every_python_block_is_a_program_or_a_part_of_one(one: Block) -> None:
    ast.parse(one.text)


@pytest.mark.parametrize("one", blocks("json"), ids=shown)
def test_every_json_block_is_json(one: Block) -> None:
    json.loads(one.text)


@pytest.mark.parametrize("one", blocks("yaml"), ids=shown)
def test_every_yaml_block_can_be_used_as_a_configuration(one: Block, tmp_path: Path) -> None:
    found = yaml.safe_load(one.text)
    if "scrape_configs" in found:  # of Prometheus
        for job in found["scrape_configs"]:
            assert job["job_name"]
            assert all(one["targets"] for one in job["static_configs"])
        return
    if "nodeId" not in found:
        pytest.fail(f"{one.page}: a YAML block that is no configuration")
    path = tmp_path / "node.yaml"
    path.write_text(one.text)
    load({"CONFIG_FILE": str(path)})


UNITS: Final = sorted((ROOT / "deploy" / "systemd").glob("*.service"))


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_every_unit_of_systemd_starts_a_script_that_is_there(path: Path) -> None:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read_string(path.read_text("utf-8"))
    program, *arguments = shlex.split(unit["Service"]["ExecStart"])
    if program.startswith("/srv/ilp/"):
        script = ROOT / program.removeprefix("/srv/ilp/")
        assert script.is_file(), program
        options = [word for word in arguments if word.startswith("-")]
        assert all(option in script.read_text("utf-8") for option in options), arguments
        for word in arguments:
            if word.startswith("/srv/ilp/"):
                assert (ROOT / word.removeprefix("/srv/ilp/")).exists(), word
    timer = path.with_suffix(".timer")
    if not timer.exists():
        assert unit["Install"]["WantedBy"].endswith(".target")
    assert path.name in (path.parent / "README.md").read_text("utf-8")


def test_every_command_of_the_connector_has_the_options_that_are_shown() -> None:
    checked = 0
    for page, command in commands():
        start = next((name for name in _OURS if f"{name} " in f"{command} "), None)
        if start is None and _INSTALLED.match(command):
            start = "connector"
        if start is None:
            continue
        words = shlex.split(command[command.index(start) + len(start) :].split("|")[0])
        ends = (">", ">>", "&&", "||", "&", "2>&1")
        words = words[: next((at for at, word in enumerate(words) if word in ends), None)]
        # In a shell of its own: `(...; exec ilp-connector run)`.
        words = [word.rstrip(")") for word in words]
        checked += 1
        if words[:1] == ["--node"]:
            words = words[2:]
        if not words:
            continue
        name, *arguments = words
        if name.startswith("-"):
            continue
        found = COMMANDS.commands.get(name)  # type: ignore[attr-defined]
        assert found is not None, f"{page}: there is no command {name!r}: {command}"
        if arguments and arguments[0] in getattr(found, "commands", {}):
            found, arguments = found.commands[arguments[0]], arguments[1:]
        known = {"--help"}
        for parameter in found.params:
            known.update(parameter.opts, parameter.secondary_opts)
        for word in arguments:
            if word.startswith("--"):
                assert word.split("=")[0] in known, f"{page}: {name} has no {word}: {command}"
    assert checked > 20


def test_a_variable_that_is_set_for_a_later_command_is_exported() -> None:
    for page, command in commands():
        assert not re.fullmatch(r"(?:[A-Z_]+=\S*\s*)+", command), f"{page}: {command}"


def test_every_script_and_make_target_that_is_shown_exists() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    rules = re.findall(r"^([a-z][a-z -]*):", makefile, re.MULTILINE)
    named = set(" ".join(rules).split()) | set(re.findall(r"make ([a-z-]+)", makefile))
    for page, command in commands():
        for script in re.findall(r"(?:^|[ (])(scripts/[\w.-]+|\.ci/\w+)", command):
            assert (ROOT / script).is_file(), f"{page}: {script}"
        for target in re.findall(r"^make ([\w-]+)", command):
            assert target in named, f"{page}: make {target}"


def anchors(path: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", path.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", one.lower()).replace(" ", "-") for one in headings}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in _LINK.findall(page.read_text("utf-8")):
        if re.match(r"[a-z]+:", link):
            continue
        place, _, anchor = link.partition("#")
        target = (page.parent / place).resolve() if place else page
        assert target.exists(), f"{link} does not exist"
        if anchor:
            assert anchor in anchors(target), f"{link}: no such heading"


def test_the_diagrams_are_drawn_from_the_tables() -> None:
    script = runpy.run_path(str(ROOT / "scripts" / "state_diagrams.py"))
    for path, text in script["pages"]().items():
        assert path.exists(), "run: python scripts/state_diagrams.py"
        assert path.read_text("utf-8") == text, "run: python scripts/state_diagrams.py"


def test_what_the_readme_makes_in_the_checkout_is_left_out_of_commits() -> None:
    """A node's data and secrets, if its commands are run as they stand."""
    text = (ROOT / "README.md").read_text("utf-8")
    made = set(re.findall(r"(?:\bDATA_DIR=|_SECRET_FILE=|CONFIG_FILE=|data_dir=\")([\w.-]+)", text))
    assert {"hub-data", "hub-secrets", "hub.yaml", "alice-data"} <= made
    ignored = [line.strip("/") for line in (ROOT / ".gitignore").read_text("utf-8").splitlines()]
    for name in made:
        assert any(fnmatch(name, pattern) for pattern in ignored), name
