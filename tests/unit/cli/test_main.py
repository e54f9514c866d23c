"""Output and exit codes of commands, for the answers of a node."""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from connector.cli.common import as_called, key_in_file
from connector.cli.main import name_of
from connector.cli.send import _print_report
from connector.cli.show import _but, _packet_row, _standing
from connector.tools.sender import Order, Report
from connector.tools.terminal import console, plain, table

ROOT = Path(__file__).parents[3]
EVEN = {
    "netBalance": "0", "availableCredit": "100", "pendingDebits": "0", "pendingCredits": "0",
    "creditLimit": "100", "granted": "100", "maxPayable": None, "assetCode": "USD", "assetScale": 2,
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, ("even", "", "100", "any amount", "0", "0", "100 granted of limit 100")),
        ({"netBalance": "30", "availableCredit": "60", "pendingDebits": "10", "maxPayable": "50"},
         ("[green]owes us 30[/green]", "0.3 USD", "60", "80", "10", "0", "100 granted of limit 100")),
        ({"netBalance": "-30", "pendingCredits": "15", "maxPayable": "50", "granted": "120"},
         ("[magenta]we owe 30[/magenta]", "0.3 USD", "100", "5", "0", "15", "120 granted of limit 100")),
        ({"netBalance": "-60", "maxPayable": "50"},
         ("[magenta]we owe 60[/magenta]", "0.6 USD", "100", "0", "0", "0", "100 granted of limit 100")),
    ],
)  # fmt: skip
def test_an_account_is_explained_in_plain_words(
    change: dict[str, Any], said: tuple[str, ...]
) -> None:
    assert _standing({**EVEN, **change}) == said


def test_no_figure_is_cut_off(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    figure = str(2**127)
    rows = table("peer", "balance", "may still send", right=("balance",))
    rows.add_row("alice", figure, figure)
    console().print(rows)
    assert capsys.readouterr().out.count(figure) == 2
    monkeypatch.setenv("COLUMNS", "30")
    console().print(rows)
    folded = capsys.readouterr().out
    assert "\u2026" not in folded
    assert sum(one.isdecimal() for one in folded) == 2 * len(figure)


FIGURES = ("1000000000", "2000000000000", "-990000")
ROWS = [
    (
        "alice",
        "USD/9",
        "[green]owes us 1000000000[/green]",
        *FIGURES,
        "ok",
        "T04 insufficient liquidity",
    ),
    ("bob", "USD/9", "even", *reversed(FIGURES), "", "/".join("abcdefghijkl") * 3),
]
NAMES = (
    "peer",
    "asset",
    "balance",
    "may still send",
    "we may still owe",
    "pending",
    "state",
    "note",
)


def printed(width: int, monkeypatch: pytest.MonkeyPatch, capsys: Any, **options: Any) -> str:
    monkeypatch.setenv("COLUMNS", str(width))
    rows = table(*NAMES, text=("note",), title="accounts", **options)
    for row in ROWS:
        rows.add_row(*row)
    console().print(rows)
    return str(capsys.readouterr().out)


@pytest.mark.parametrize("width", [30, 40, 60, 80, 100, 160])
@pytest.mark.parametrize("spare", [(), ("note", "state"), ("asset", "pending", "we may still owe")])
def test_a_table_splits_no_figure_and_no_word_of_a_header(
    width: int,
    spare: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = printed(width, monkeypatch, capsys, spare=spare)
    assert all(len(line) <= width for line in out.splitlines())
    words = re.findall(r"[^\s│┃]+", out.split("no room for: ")[0])
    left_out = re.sub(r"\s+", " ", out.partition("no room for: ")[2]).strip().split(", ")
    assert {one for one in left_out if one} <= {*spare}
    for name, cells in zip(NAMES, zip(*ROWS, strict=True), strict=True):
        if name in left_out or name == "note":
            continue
        assert all(word in words or f"{word}:" in words for word in name.split()), (name, out)
        for cell in cells:
            plain_words = re.sub(r"\[.*?\]", "", cell).split()
            assert all(word in words for word in plain_words), (cell, out)


def test_a_figure_in_free_text_is_not_split_either(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for width in (25, 40, 60):
        monkeypatch.setenv("COLUMNS", str(width))
        rows = table("what", "value", text=("value",))
        rows.add_row("amount onward", f"{2**64 - 1} USD/9 to {'/'.join('abcdefghijklmnopqr')}")
        console().print(rows)
        out = capsys.readouterr().out
        assert str(2**64 - 1) in out, out
        assert all(len(line) <= width for line in out.splitlines())


def test_columns_are_left_out_in_their_order_and_rows_stacked_at_last(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    spare = ("pending", "note", "asset")
    assert "no room" not in printed(160, monkeypatch, capsys, spare=spare)
    assert "no room for: pending\n" in printed(90, monkeypatch, capsys, spare=spare)
    stacked = printed(40, monkeypatch, capsys, spare=spare)
    assert "peer: alice\nasset: USD/9\nbalance: owes us 1000000000\n" in stacked
    assert "pending: -990000" in stacked


def test_what_others_say_is_neither_markup_nor_an_order_to_the_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    report = Report(rejected=Counter({"F99": 1}), messages={"F99": "[/red] [bold]x \x1b[2J\a"})
    _print_report(report, Order(destination="g.x", amount=1, count=1), console())
    out = capsys.readouterr().out
    assert "1 x F99: [/red] [bold]x \ufffd[2J\ufffd" in out
    console().print(plain("[red]7[/red]"))
    assert "[red]7[/red]" in capsys.readouterr().out


def test_the_program_is_installed_under_both_of_its_names() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    entry = "connector.__main__:main"
    assert project["scripts"] == {"connector": entry, "ilp-connector": entry}


@pytest.mark.parametrize(
    ("program", "shown"),
    [
        ("/usr/bin/connector", "connector"),
        ("/usr/bin/ilp-connector", "ilp-connector"),
        ("/somewhere/connector/__main__.py", "python -m connector"),
    ],
)
def test_help_shows_the_name_that_was_called(program: str, shown: str) -> None:
    assert name_of(program) == shown


@pytest.mark.parametrize(
    ("typed", "shown"),
    [
        (["settle", "bob"], "ilp-connector"),
        (["--node", "hub", "settle", "bob"], "ilp-connector --node hub"),
        (["--node=hub", "settle", "bob"], "ilp-connector --node=hub"),
        (["--node", "a b", "settle"], "ilp-connector --node 'a b'"),
        (["--version"], "ilp-connector"),
        ([], "ilp-connector"),
    ],
)
def test_what_is_to_be_typed_next_asks_the_same_node(
    monkeypatch: pytest.MonkeyPatch, typed: list[str], shown: str
) -> None:
    monkeypatch.setattr("sys.argv", ["/usr/bin/ilp-connector", *typed])
    assert as_called() == shown


def test_a_packet_of_another_day_has_its_date() -> None:
    event = {
        "type": "PACKET_FULFILLED", "timestamp": "2026-01-31T23:59:59.123Z", "packetId": "1f" * 16,
        "peerId": "alice", "nextHop": "bob", "destination": "g.bob", "amount": "5", "durationMs": 1.0,
    }  # fmt: skip
    assert _packet_row(event, "2026-01-31")[0] == "23:59:59.123"
    assert _packet_row(event, "2026-02-01")[0] == "2026-01-31 23:59:59.123"


@pytest.mark.parametrize(
    ("status", "connected", "total", "said"),
    [
        ("healthy", 1, 2, ""),
        ("healthy", 0, 2, ", but no peer is connected: packets reach only the node itself"),
        ("healthy", 0, 0, ", but has no peers: packets reach only the node itself"),
        ("unhealthy", 0, 0, ""),
    ],
)
def test_a_healthy_node_that_reaches_nobody_says_so(
    status: str, connected: int, total: int, said: str
) -> None:
    body = {"status": status, "peersConnected": connected, "peersTotal": total}
    assert _but(body) == said


def test_a_key_is_read_from_the_file_that_the_environment_names(tmp_path: Path) -> None:
    """As the variables of `init` and of the production file have it."""
    admin, read = tmp_path / "admin", tmp_path / "read"
    read.write_text("key-of-a-reader\n")
    environment = {"ADMIN_API_KEY_FILE": str(admin), "READ_API_KEY_FILE": str(read)}
    assert key_in_file({}) is None
    assert key_in_file(environment) == "key-of-a-reader", "the other one cannot be read"
    admin.write_text(" key-of-an-operator\n")
    assert key_in_file(environment) == "key-of-an-operator"
    admin.write_text("\n")
    assert key_in_file({"ADMIN_API_KEY_FILE": str(admin)}) is None
