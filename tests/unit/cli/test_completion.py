"""Completion of commands, options and values: all of them are in it, and the shells understand it."""

from __future__ import annotations

import os
import pty
import re
import select
import shlex
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from connector.cli import tree as tree_module
from connector.cli.completion import PROGRAMS, Shell, script
from connector.cli.main import app
from connector.cli.tree import Command, tree
from connector.peering.model import Relation
from connector.telemetry.event_log import GROUPS
from tests.support.commands import command
from tests.support.patience import PATIENCE_SECONDS

PROGRAM = tree(app)
ALL = list(PROGRAM.all())


def named(name: str) -> Command:
    (found,) = [one for one in ALL if one.name == name]
    return found


def has(shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell} here")


def test_the_tree_has_what_help_shows() -> None:
    for one in ALL:
        shown = command(*one.path, "--help", env={"COLUMNS": "80"}).out
        for option in one.options:
            assert all(name in shown for name in option.names), (one.name, option.names)
        for below in one.commands:
            assert re.search(rf"^  {re.escape(below.path[-1])}  ", shown, re.MULTILINE), below.name
        known = {name for option in one.options for name in option.names}
        options = shown.split("\nOptions:\n")[1]
        starts = re.findall(r"^ {2}(-[^\s,]+(?:, -[^\s,]+)*)", options, re.MULTILINE)
        found = {name for start in starts for name in re.split(r"[,/ ]+", start)}
        assert found <= known, (one.name, found - known)


@pytest.mark.parametrize("columns", ["60", "80"])
@pytest.mark.parametrize("one", [one for one in ALL if one.commands], ids=lambda one: one.name)
def test_no_command_of_a_group_is_described_by_half_a_sentence(one: Command, columns: str) -> None:
    shown = command(*one.path, "--help", env={"COLUMNS": columns}).out
    assert "..." not in shown.replace("[ARGS]...", "")
    words = " ".join(shown.split())
    assert all(below.summary in words for below in one.commands)
    assert all(len(line) <= int(columns) for line in shown.splitlines())


def test_choices_are_of_options_that_exist_and_those_that_a_node_takes() -> None:
    for path, name in tree_module._CHOICES:
        assert any(name in option.names for option in named(path).options), (path, name)
    assert set(tree_module._CHOICES["log", "--type"]) == set(GROUPS)
    for path in ("peers add", "peers edit"):
        assert set(tree_module._CHOICES[path, "--relation"]) == {one.value for one in Relation}


@pytest.mark.parametrize(
    ("path", "name"), sorted(tree_module._CHOICES), ids=lambda part: part.replace(" ", "_")
)
def test_a_choice_that_is_offered_is_taken_and_another_one_is_not(path: str, name: str) -> None:
    """Of options that take one of a few texts; nobody listens where the node would be."""
    needed = {
        "peers add": ["bob", "--new-secret"],
        "peers edit": ["bob"],
        "compose": ["--topology", "line"],
    }
    choices = tree_module._CHOICES[path, name]
    url = [] if path == "compose" else ["--url", "http://127.0.0.1:1"]
    for value in choices:
        done = command(*path.split(), *needed.get(path, []), name, value, *url)
        assert done.code == (0 if path == "compose" else 1), done.err
    # The node checks the others; it takes types of events for --type, too.
    if (path, name) in {("compose", "--ledger"), ("log", "--export")}:
        done = command(*path.split(), *needed.get(path, []), name, "nothing-such", *url)
        assert done.code == 2, done.err


@pytest.mark.parametrize("shell", list(Shell))
def test_every_command_option_and_value_is_in_it(shell: Shell) -> None:
    text = command("completion", shell.value).out
    assert text == script(shell, PROGRAM)
    for one in ALL:
        for below in one.commands:
            assert below.path[-1] in text
        for option in one.options:
            for name in option.names:
                shown = name if shell != Shell.fish else re.sub(r"^--", "-l ", name)
                assert shown in text or f"-s {name[1:]}" in text, (one.name, name)
            assert all(value in text for value in option.choices)
    assert all(name in text for name in PROGRAMS)


def test_of_another_shell_nothing_is_known() -> None:
    done = command("completion", "csh")
    assert (done.code, done.out) == (2, "")
    assert "'csh' is not one of 'bash', 'zsh', 'fish'" in done.err


CASES = [
    ("pee", {"peers"}),
    ("peers ad", {"add"}),
    ("--node peers peers re", {"remove", "reconnect"}),
    ("peers add --rel", {"--relation"}),
    ("peers add --relation ", {"peer", "parent", "child"}),
    ("log --export ", {"csv", "jsonl"}),
    ("compose --topology m", {"mesh"}),
    ("completion ", {"bash", "zsh", "fish"}),
    ("routes ", {"add", "remove"}),
    ("send --destination ", set()),
    ("init inn", {"inner"}),
    ("check-config --a", {"--all"}),
]
"""What is typed behind the program, and what is offered."""


@pytest.mark.processes
def test_bash_offers_what_fits(tmp_path: Path) -> None:
    has("bash")
    (tmp_path / "inner").mkdir()
    lines = [script(Shell.bash, PROGRAM)]
    for typed, _ in CASES:
        words = [PROGRAMS[0], *typed.split(" ")]
        quoted = " ".join(shlex.quote(word) for word in words)
        lines.append(
            f"COMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}; _ilp_connector; "
            'echo "${COMPREPLY[*]}"'
        )
    done = subprocess.run(
        ["bash", "--norc", "-uc", "\n".join(lines)], cwd=tmp_path, capture_output=True, text=True,
        timeout=PATIENCE_SECONDS, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    offered = [set(line.split()) for line in done.stdout.splitlines()]
    assert offered == [expected for _, expected in CASES]


@pytest.mark.processes
def test_fish_offers_what_fits(tmp_path: Path) -> None:
    has("fish")
    (tmp_path / "inner").mkdir()
    (tmp_path / "c.fish").write_text(script(Shell.fish, PROGRAM))
    asked = "; ".join(
        f"complete -C {shlex.quote(f'{name} {typed}')}; echo ----"
        for typed, _ in CASES for name in PROGRAMS
    )  # fmt: skip
    done = subprocess.run(
        ["fish", "--no-config", "-c", f"source c.fish; {asked}"], cwd=tmp_path,
        capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "TERM": "dumb"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    offered = [
        {line.split("\t")[0].rstrip("/") for line in one.split("\n") if line}
        for one in done.stdout.split("----\n")[:-1]
    ]
    expected = [values for _, values in CASES for _ in PROGRAMS]
    assert offered == expected


class Typing:
    """A shell on a terminal of its own, with keys typed."""

    def __init__(self, *shell: str, folder: Path) -> None:
        self._terminal, other = pty.openpty()
        self._process = subprocess.Popen(
            shell, stdin=other, stdout=other, stderr=other, cwd=folder, start_new_session=True,
            env={"PATH": os.environ["PATH"], "HOME": str(folder), "TERM": "dumb", "PS1": ""},
        )  # fmt: skip
        os.close(other)
        self.said = ""

    def type(self, keys: str) -> None:
        os.write(self._terminal, keys.encode())

    def until(self, pattern: str) -> None:
        """Read until that was said."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not re.search(pattern, self.said):
            ready, _, _ = select.select([self._terminal], [], [], deadline - time.monotonic())
            assert ready, f"{pattern!r} was not said: {self.said}"
            self.said += os.read(self._terminal, 65536).decode(errors="replace")

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._terminal)


@pytest.mark.processes
@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_the_tab_key_completes(shell: str, tmp_path: Path) -> None:
    """As it is set up by hand: `eval` of what the command prints, in a shell that somebody types in."""
    has(shell)
    (tmp_path / "completion").write_text(script(Shell(shell), PROGRAM))
    options = {"bash": ["--norc", "--noprofile", "-i"], "zsh": ["-f", "-i"]}[shell]
    before = "autoload -Uz compinit; compinit -u -D; " if shell == "zsh" else ""
    typing = Typing(shell, *options, folder=tmp_path)
    try:
        typing.type(f'{before}eval "$(cat completion)"; echo re""ady\n')
        typing.until(r"\bready\b")
        # What is run in the end is what the key has made of it.
        typing.type('ilp-connector() { echo "got[$*]"; }\nconnector() { echo "short[$*]"; }\n')
        typing.type("ilp-connector pee\tad\tbob --rela\tpar\t\n")
        typing.until(r"got\[peers add bob --relation parent *\]")
        typing.type("connector check\t--al\t\n")
        typing.until(r"short\[check-config --all *\]")
    finally:
        typing.end()
