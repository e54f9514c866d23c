"""What commands print, in terminals of any width."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from connector.cli.main import app
from connector.tools.terminal import exact, figures, python_command, table

PARTS = ("[bold]100 of 100 fulfilled[/bold] in 1.00 s:", "1,234 packets/s,", "p50 71.05 ms,", "p99 149.37 ms")  # fmt: skip


def shown(width: int) -> list[str]:
    out = io.StringIO()
    figures(Console(file=out, width=width), *PARTS)
    return out.getvalue().splitlines()


@pytest.mark.parametrize("width", [80, 74, 60, 50, 33])
def test_no_number_is_cut_from_its_unit(width: int) -> None:
    lines = shown(width)
    assert " ".join(lines) == " ".join(PARTS).replace("[bold]", "").replace("[/bold]", "")
    for line in lines:
        assert len(line) <= width
        assert line.endswith((":", ",", "ms")), lines


def test_one_line_where_there_is_room() -> None:
    assert len(shown(200)) == 1


def test_what_to_type_for_an_interpreter_that_is_not_on_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = tmp_path / "a b" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    assert python_command() == f"'{python}'"
    monkeypatch.chdir(tmp_path / "a b")
    assert python_command() == "bin/python"
    monkeypatch.setenv("PATH", str(python.parent))
    assert python_command() == "python"


@pytest.mark.parametrize(
    ("amount", "scale", "shown"),
    [
        (0, 9, "0"), (984200, 9, "0.0009842"), (1, 0, "1"), (1234567, 0, "1,234,567"), (100, 2, "1"),
        (123456, 2, "1,234.56"), (2**64, 255, f"0.{'0' * 235}{2**64}"),
    ],
)  # fmt: skip
def test_an_amount_is_as_the_page_shows_it(amount: int, scale: int, shown: str) -> None:
    assert exact(amount, scale) == shown


def printed(width: int, *names: str, text: tuple[str, ...], row: tuple[str, ...]) -> str:
    out = io.StringIO()
    made = table(*names, text=text)
    made.add_row(*row)
    Console(file=out, width=width).print(made)
    assert all(len(line) <= width or len(row[0]) > width for line in out.getvalue().splitlines())
    return out.getvalue()


@pytest.mark.parametrize("width", [80, 60, 40])
@pytest.mark.parametrize(
    "figure", ["1,234,567,890,123.456789012", "12345678901234567890", "-0.000000001"]
)
def test_an_amount_in_free_text_is_whole_at_any_width(width: int, figure: str) -> None:
    """What a change of a limit shows: setting, now, then."""
    row = ("maxInFlightValue", f"{figure} USD", f"{figure} USD")
    said = printed(width, "setting", "now", "then", text=("now", "then"), row=row)
    assert said.count(figure) == 2, said


def test_what_is_copied_out_of_the_table_of_nodes_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = tmp_path / ("a-long-name-of-a-folder" * 3) / "admin-api-key"
    key.parent.mkdir()
    key.write_text("key-of-an-operator")
    key.chmod(0o600)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("COLUMNS", "60")
    done = CliRunner().invoke(
        app, ["nodes", "add", "hub", "--url", "https://hub.example", "--key-file", str(key)]
    )
    assert done.exit_code == 0, done.output
    shown = CliRunner().invoke(app, ["nodes"]).output
    assert "https://hub.example\n" in shown
    assert "".join(shown.split("key file: ")[1].split("\n")) == str(key), "no border in it"
