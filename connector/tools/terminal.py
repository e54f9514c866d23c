"""How commands print: tables in which no figure is ever cut off."""

from __future__ import annotations

import os
from typing import Final

from rich.console import Console
from rich.markup import escape
from rich.table import Table

PIPE_COLUMNS: Final = 160
"""Width where nothing says how wide it may be: a pipe, a log, `docker exec` without a terminal."""


def console(*, quiet: bool = False) -> Console:
    """Where a command prints, other than its JSON."""
    made = Console(quiet=quiet)
    if not made.is_terminal and "COLUMNS" not in os.environ:
        made.width = PIPE_COLUMNS
    return made


def plain(text: object) -> str:
    """What others said, as text: neither markup of `rich` nor orders to the terminal."""
    return escape(
        "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in str(text))
    )


def table(*names: str, right: tuple[str, ...] = (), title: str | None = None) -> Table:
    """A table with these columns, those in `right` aligned there; what is too long is folded."""
    made = Table(title=title, title_justify="left")
    for name in names:
        made.add_column(name, justify="right" if name in right else "left", overflow="fold")
    return made
