"""Writes what follows from the commands and their options; a test fails while it is out of date.

    python scripts/command_reference.py

    docs/reference/commands.md                     the reference
    share/man/man1/                                the manual page, under both names
    share/bash-completion, share/zsh, share/fish   completion, where shells look for it

Packages put `share/` beside `bin/` (pyproject.toml). Texts come from `--help`: change them there.
"""

# ruff: noqa: INP001 - a script, no part of a package
from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from connector.cli.completion import PROGRAMS, Shell, script
from connector.cli.main import app
from connector.cli.tree import Command, Parameter, tree
from connector.version import __version__

ROOT: Final = Path(__file__).resolve().parents[1]
NAME: Final = PROGRAMS[0]
EXIT_CODES: Final = (
    (0, "done"),
    (1, "it did not work, and may the next time"),
    (2, "the command line, the settings, a name or a key is wrong: the same again ends in the same way"),
    (3, "another process of the node has taken over (only `run`)"),
    (130, "interrupted with Ctrl-C; after another signal 128 and its number"),
)  # fmt: skip
ENVIRONMENT: Final = (
    ("CONFIG_FILE", "the configuration of `run`, `check-config` and `audit` in YAML; variables win over it"),
    ("CONNECTOR_NODE", "the node that commands ask, by its name (`nodes`)"),
    ("CONNECTOR_URL", "the HTTP address of the node that commands ask"),
    ("ADMIN_API_KEY, READ_API_KEY", "the key that they show to it"),
    ("CONNECTOR_AUTH", "log-in of `send`, `ping`, `trace` and `conformance`"),
    ("NO_COLOR", "no colours, if it is not empty"),
    ("XDG_CONFIG_HOME", "where names of nodes are kept; else ~/.config"),
)  # fmt: skip
_HEAD: Final = f"""\
# Commands

Made from the command line's own parser by `python scripts/command_reference.py`: change the texts there.

Every command is `{NAME} COMMAND`; `connector` is the same command under a shorter name, and in a checkout it is
`python -m connector`. `{NAME} COMMAND --help` shows what stands here. The manual page `{NAME}(1)` has it too, and
`{NAME} completion bash` (or `zsh`, `fish`) prints what completes commands and options in a shell.

Amounts are whole smallest units of the asset; where it says so they may be written in the asset, as `1.25USD`.
"""


def _code(text: str) -> str:
    """In a table of Markdown."""
    return f"`{text}`".replace("|", "\\|")


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("**", "\\*\\*")


def reference(program: Command) -> str:
    """The page of all commands, in Markdown."""
    parts = [_HEAD, "## The program", "", *_table(program.options), ""]
    for one in list(program.all())[1:]:
        parts += [f"{'##' if len(one.path) == 1 else '###'} {one.name}", ""]
        parts += [f"```text\n{NAME} {one.usage}\n```", "", _cell(one.help), ""]
        if one.arguments:
            parts += [*_table(one.arguments, "argument"), ""]
        if one.options:
            parts += [*_table(one.options), ""]
    parts += ["## Exit codes", "", "| exit code | means |", "|--:|---|"]
    parts += [f"| {code} | {text} |" for code, text in EXIT_CODES]
    parts += ["", "## Environment", "", "| variable | means |", "|---|---|"]
    parts += [f"| `{name}` | {text} |" for name, text in ENVIRONMENT]
    return "\n".join(parts) + "\n"


def _table(parameters: tuple[Parameter, ...], kind: str = "option") -> Iterator[str]:
    yield f"| {kind} | means |"
    yield "|---|---|"
    for one in parameters:
        yield f"| {_code(one.shown)} | {_cell(one.meaning)} |"


def manual(program: Command) -> str:
    """The manual page, in the macros of man(7)."""
    lines = [
        f'.TH {NAME.upper()} 1 "" "{NAME} {__version__}" "User Commands"',
        ".SH NAME", _roff(f"{NAME} - {program.summary[0].lower()}{program.summary[1:].rstrip('.')}"),
        ".SH SYNOPSIS", f".B {_roff(NAME)}", _roff("[--node NAME] COMMAND [OPTIONS]"),
        ".SH DESCRIPTION",
        _roff(f"{NAME} runs a node, and asks and changes nodes that run. Without a command it runs a node, configured by "
              "its environment. The same command is installed as connector."),
        ".SH OPTIONS", *_roff_options(program.options), ".SH COMMANDS",
    ]  # fmt: skip
    for one in list(program.all())[1:]:
        lines += [f".SS {_roff(f'{NAME} {one.usage}')}"]
        lines += _roff(one.help).replace("\n\n", "\n.PP\n").split("\n")
        lines += [*_roff_options(one.arguments), *_roff_options(one.options[:-1])]
    lines.append(".SH EXIT STATUS")
    for code, text in EXIT_CODES:
        lines += [".TP", f".B {code}", _roff(text)]
    lines.append(".SH ENVIRONMENT")
    for name, text in ENVIRONMENT:
        lines += [".TP", f".B {_roff(name)}", _roff(text)]
    lines += [
        ".SH FILES", ".TP", ".I ~/.config/ilp\\-connector/nodes.json", "names of nodes",
        ".TP", ".I DATA_DIR", "the books of a node and all that it remembers (default: ./data)",
        ".SH SEE ALSO", "The documentation in docs/ of the source distribution.",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _roff_options(parameters: tuple[Parameter, ...]) -> Iterator[str]:
    for one in parameters:
        yield ".TP"
        yield f".B {_roff(one.shown)}"
        yield _roff(one.meaning) or "\\&"


def _roff(text: str) -> str:
    """Escaped, so that roff sets what stands there."""
    escaped = (
        text.replace("\\", "\\e").replace("-", "\\-").replace("`", "\\(ga").replace("'", "\\(aq")
    )
    return re.sub(r"(?m)^(?=\.)", "\\\\&", escaped)


def pages() -> dict[Path, str]:
    """Every file that follows from the commands, with its text."""
    program = tree(app)
    first, *others = PROGRAMS
    share = ROOT / "share"
    bash = script(Shell.bash, program)
    return {
        ROOT / "docs" / "reference" / "commands.md": reference(program),
        share / "man" / "man1" / f"{first}.1": manual(program),
        **{share / "man" / "man1" / f"{name}.1": f".so man1/{first}.1\n" for name in others},
        **{share / "bash-completion" / "completions" / name: bash for name in PROGRAMS},
        share / "zsh" / "site-functions" / "_ilp_connector": script(Shell.zsh, program),
        share / "fish" / "vendor_completions.d" / f"{first}.fish": script(Shell.fish, program),
        **{
            share / "fish" / "vendor_completions.d" / f"{name}.fish": f"complete -c {name} -w {first}\n"
            for name in others
        },
    }  # fmt: skip


def main() -> None:
    """Write them."""
    for path, text in pages().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
