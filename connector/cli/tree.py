"""Every command, option and argument, as plain data: for completion, the manual and the reference.

Read from what parses the command line, so that nothing has to be told twice.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Final

import typer

_CHOICES: Final[dict[tuple[str, str], tuple[str, ...]]] = {
    ("compose", "--ledger"): ("tigerbeetle", "embedded"),
    ("log", "--export"): ("csv", "jsonl"),
    ("log", "--type"): ("operator", "link", "settlement", "alert", "books", "node"),
    ("peers add", "--relation"): ("peer", "parent", "child"),
    ("peers edit", "--relation"): ("peer", "parent", "child"),
}
"""What a value may be, where its type is a text; a test tries each of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """An option or an argument."""

    names: tuple[str, ...]
    """`--json`, `-y`; of an argument its name in capitals."""
    is_argument: bool
    takes_value: bool
    shown: str
    """As `--help` shows it on the left: `--amount <int range>`."""
    meaning: str
    """As `--help` shows it on the right, with default, range and variables of the environment."""
    help: str
    """The same without those."""
    choices: tuple[str, ...]
    """All that the value may be; empty: anything, or see `completes`."""
    completes: str
    """`file`, `folder` or nothing."""
    is_repeated: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A command, or a group with commands below it."""

    path: tuple[str, ...]
    """Empty: the program itself."""
    help: str
    """Paragraphs, divided by empty lines."""
    options: tuple[Parameter, ...]
    arguments: tuple[Parameter, ...]
    commands: tuple[Command, ...]

    @property
    def name(self) -> str:
        """`peers add`."""
        return " ".join(self.path)

    @property
    def summary(self) -> str:
        """The first paragraph, in one line."""
        return self.help.split("\n\n")[0]

    @property
    def usage(self) -> str:
        """What follows the name of the program."""
        parts = [*self.path, *(["[OPTIONS]"] if self.options else [])]
        parts += [one.shown for one in self.arguments]
        return " ".join([*parts, *(["[COMMAND]"] if self.commands else [])])

    def all(self) -> Iterator[Command]:
        """This one and all below it, in the order of `--help`."""
        yield self
        for one in self.commands:
            yield from one.all()


def tree(app: typer.Typer) -> Command:
    """The program of `app`."""
    return _command(typer.main.get_command(app), ())


def _command(found: Any, path: tuple[str, ...]) -> Command:
    context = typer.Context(found, info_name=path[-1] if path else None)
    parameters = [_parameter(one, context, path) for one in found.params if not _hidden(one)]
    below = {name: one for name, one in getattr(found, "commands", {}).items() if not one.hidden}
    paragraphs = re.split(r"\n\s*\n", (found.help or "").strip())
    return Command(
        path=path,
        help="\n\n".join(" ".join(one.split()) for one in paragraphs),
        options=(*(one for one in parameters if not one.is_argument), _HELP),
        arguments=tuple(one for one in parameters if one.is_argument),
        commands=tuple(_command(one, (*path, name)) for name, one in below.items()),
    )


_HELP: Final = Parameter(
    names=("-h", "--help"), is_argument=False, takes_value=False, shown="-h, --help",
    meaning="Show this message and exit.", help="Show this message and exit.",
    choices=(), completes="", is_repeated=False,
)  # fmt: skip
"""Of every command; `context_settings` of the app names it."""


def _hidden(found: Any) -> bool:
    return bool(getattr(found, "hidden", False))


def _parameter(found: Any, context: typer.Context, path: tuple[str, ...]) -> Parameter:
    is_argument = found.param_type_name == "argument"
    shown, meaning = found.get_help_record(context) or ("", "")
    kind = _kind(found)
    names = (*found.opts, *found.secondary_opts)
    if is_argument:
        name = found.metavar or found.opts[0].upper()
        names = (name,)
        shown = name if found.required else f"[{name}]"
    is_path = kind == "path"
    is_folder = is_path and (found.metavar == "FOLDER" or found.name.endswith("_dir"))
    choices = next(
        (_CHOICES[at] for name in names if (at := (" ".join(path), name)) in _CHOICES), ()
    )
    if isinstance(kind, tuple):
        choices = kind
    return Parameter(
        names=names,
        is_argument=is_argument,
        takes_value=is_argument or not found.is_flag,
        shown=" ".join(shown.split()),
        meaning=" ".join(meaning.split()),
        help=" ".join((found.help or "").split()),
        choices=choices,
        completes="folder" if is_folder else "file" if is_path else "",
        is_repeated=bool(found.multiple) if not is_argument else found.nargs == -1,
    )


def _kind(found: Any) -> str | tuple[str, ...]:
    """`path`, the values that it may have, or another name of its type."""
    described = getattr(found, "type_descriptor", None)
    if described is None:  # typer before 0.27, on click
        choices = getattr(found.type, "choices", None)
        return str(found.type.name) if choices is None else tuple(str(one) for one in choices)
    kind = described.annotation
    if isinstance(kind, type) and issubclass(kind, Enum):
        return tuple(str(one.value) for one in kind)
    return "path" if kind is Path else str(kind)
