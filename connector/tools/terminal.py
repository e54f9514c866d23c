"""Output of commands: tables that never truncate or split a figure, and what to type."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, JustifyMethod, RenderResult
from rich.markup import escape
from rich.table import Table
from rich.text import Text

PIPE_COLUMNS: Final = 160
"""Width where no terminal reports one: a pipe, a log, `docker exec` without a terminal."""
TEXT_COLUMNS_MIN: Final = 12
"""Least width of free text with longer words."""
_FIGURE: Final = re.compile(r"[-+]?\d[\d,]*(?:\.\d+)?")


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


def exact(amount: int, scale: int) -> str:
    """An amount, not negative, as the page shows it: all digits, no zeros at the end of the fraction."""
    assert amount >= 0, amount
    digits = str(amount).zfill(scale + 1)
    whole, fraction = digits[: len(digits) - scale], digits[len(digits) - scale :].rstrip("0")
    return f"{int(whole):,}" + (f".{fraction}" if fraction else "")


def python_command() -> str:
    """What to type for this interpreter: it may be that of a .venv that is not active."""
    if shutil.which("python") == sys.executable:
        return "python"
    here, folder = Path(sys.executable), Path.cwd()
    return shlex.quote(str(here.relative_to(folder) if here.is_relative_to(folder) else here))


def figures(screen: Console, *parts: str) -> None:
    """Print parts of a sentence, markup allowed; a new line begins between two of them only.

    So no number is cut from its unit.
    """
    line = ""
    for part in parts:
        longer = f"{line} {part}" if line else part
        if line and cell_len(Text.from_markup(longer).plain) > screen.width:
            screen.print(line)
            longer = part
        line = longer
    screen.print(line)


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a `Fitted` table."""

    name: str
    right: bool = False
    """Aligned there."""
    text: bool = False
    """Free text: a long word in it may be folded. Figures, names and ids never are."""
    spare: int = 0
    """Left out where there is no room: the highest first; 0 never."""


class Fitted:
    """A table that fits the width it is printed in and never splits a figure or a word of a header.

    Where there is no room, cells are wrapped between words; then spare columns are left out, which
    is said below; at last the rows are printed one below the other, all columns of each.
    """

    def __init__(self, columns: Sequence[Column], *, title: str | None = None) -> None:
        assert columns
        self._columns = columns
        self._title = title
        self._rows: list[tuple[tuple[Text, ...], str | None]] = []

    def __len__(self) -> int:
        return len(self._rows)

    def add_row(self, *cells: str, style: str | None = None) -> None:
        """Add a row; cells may have `rich` markup."""
        assert len(cells) == len(self._columns), cells
        self._rows.append((tuple(Text.from_markup(cell) for cell in cells), style))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """See `rich`."""
        sizes = [self._sizes(at) for at in range(len(self._columns))]
        shown = list(range(len(self._columns)))
        while sum(sizes[at][0] for at in shown) > _room(options.max_width, len(shown)):
            spare = max(shown, key=lambda at: self._columns[at].spare)
            if not self._columns[spare].spare:
                yield from self._stacked()
                return
            shown.remove(spare)
        widths = _fit([sizes[at] for at in shown], _room(options.max_width, len(shown)))
        yield self._table(shown, widths)
        left_out = [one.name for at, one in enumerate(self._columns) if at not in shown]
        if left_out:
            yield Text(f"no room for: {', '.join(left_out)}", style="dim")

    def _sizes(self, at: int) -> tuple[int, int]:
        """The least and the best width of a column: of its longest word, and of its longest cell."""
        column = self._columns[at]
        cells = [cells[at] for cells, _ in self._rows]
        words = [word for cell in cells for word in cell.plain.split()]
        least = max(
            (
                # A figure is not folded in free text either.
                min(cell_len(word), TEXT_COLUMNS_MIN)
                if column.text and not _FIGURE.fullmatch(word)
                else cell_len(word)
                for word in words
            ),
            default=1,
        )
        header = max((cell_len(word) for word in column.name.split()), default=1)
        best = max((cell.cell_len for cell in cells), default=1)
        return max(least, header), max(best, cell_len(column.name))

    def _table(self, shown: Sequence[int], widths: Sequence[int]) -> Table:
        made = Table(title=self._title, title_justify="left")
        for at, width in zip(shown, widths, strict=True):
            column = self._columns[at]
            justify: JustifyMethod = "right" if column.right else "left"
            made.add_column(column.name, justify=justify, overflow="fold", width=width)
        for cells, style in self._rows:
            made.add_row(*(cells[at] for at in shown), style=style)
        return made

    def _stacked(self) -> RenderResult:
        if self._title is not None:
            yield Text(self._title, style="italic")
        for number, (cells, style) in enumerate(self._rows):
            if number:
                yield Text()
            for column, cell in zip(self._columns, cells, strict=True):
                line = Text.assemble((f"{column.name}: ", "bold"), cell, overflow="fold")
                if style is not None:
                    line.stylize(style)
                yield line


def _room(width: int, columns: int) -> int:
    """What is left for the cells: each has a border and two spaces, and one border is at the end."""
    return width - 3 * columns - 1


def _fit(sizes: Sequence[tuple[int, int]], room: int) -> list[int]:
    """Widths within `room`, each at least the least: the widest columns are wrapped first."""
    widths = [min(best, room) for _, best in sizes]
    while sum(widths) > room:
        can = [at for at, (least, _) in enumerate(sizes) if widths[at] > least]
        assert can, "all at their least fit"
        widths[max(can, key=widths.__getitem__)] -= 1
    return widths


def table(
    *names: str,
    right: tuple[str, ...] = (),
    text: tuple[str, ...] = (),
    spare: tuple[str, ...] = (),
    title: str | None = None,
) -> Fitted:
    """A table with these columns.

    Args:
        names: of all columns, from left to right.
        right: those aligned there.
        text: those with free text.
        spare: those that are left out where there is no room, in this order.
        title: above it.
    """
    assert {*right, *text, *spare} <= {*names}
    columns = [
        Column(
            name,
            right=name in right,
            text=name in text,
            spare=len(spare) - spare.index(name) if name in spare else 0,
        )
        for name in names
    ]
    return Fitted(columns, title=title)
