"""The list of commands in `--help`, and what is said of a wrong command line, at any width."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup


class Commands(TyperGroup):
    """All commands: whole sentences in the list, and our words for values that are not valid."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """See click; it would cut each text to one line."""
        rows = []
        for name in self.list_commands(ctx):
            command = self.get_command(ctx, name)
            if command is not None and not command.hidden:
                first = (command.help or "").strip().split("\n\n")[0]
                rows.append((name, " ".join(first.split())))
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def invoke(self, ctx: Any) -> Any:
        """See click."""
        try:
            return super().invoke(ctx)
        except typer.BadParameter as error:
            error.message = in_our_words(error)
            raise


def in_our_words(error: typer.BadParameter) -> str:
    """What is wrong with a value; typer may give pydantic's words, which are for programmers."""
    from pydantic import ValidationError

    from connector.settings.faults import in_plain_words

    cause = error.__cause__
    if not isinstance(cause, ValidationError):
        return error.message
    return in_plain_words(cause.errors(include_url=False)[0])[0]
