"""Output of commands: tables that never truncate a figure."""

from __future__ import annotations

import os
from typing import Final

from rich.console import Console
from rich.markup import escape
from rich.table import Table

PIPE_COLUMNS: Final = 160
"""Width where no terminal reports one: a pipe, a log, `docker exec` without a terminal."""


def console(*, quiet: bool = False) -> Console:
    """Where a command prints, other than its JSON."""
    made = Console(quiet=quiet)
    if not made.is_terminal and "COLUMNS" not in os.environ:
        made.width = PIPE_COLUMNS
    return made


def plain(text: object) -> str:
    """Untrusted text, escaped: neither `rich` markup nor terminal control sequences."""
    return escape(
        "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in str(text))
    )


def table(*names: str, right: tuple[str, ...] = (), title: str | None = None) -> Table:
    """A table with these columns, those in `right` aligned there; long text is folded."""
    made = Table(title=title, title_justify="left")
    for name in names:
        made.add_column(name, justify="right" if name in right else "left", overflow="fold")
    return made
