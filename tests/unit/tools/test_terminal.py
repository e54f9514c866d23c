"""What commands print, in terminals of any width."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest
from rich.console import Console

from connector.tools.terminal import exact, figures, python_command

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
