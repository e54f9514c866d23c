"""The list of commands, and what is said of a wrong command line: whole, and in plain words."""

from __future__ import annotations

import pytest

from tests.support.commands import command

LIBRARY = ("Input should", "Value error", "parse string", "valid integer", "is not in the range")


@pytest.mark.parametrize("columns", ["60", "80", "99", "100", "160"])
def test_no_command_is_described_by_half_a_sentence(columns: str) -> None:
    done = command("--help", env={"COLUMNS": columns})
    assert done.code == 0
    assert "..." not in done.out.replace("[ARGS]...", "")
    words = " ".join(done.out.replace("│", " ").split())
    for sentence in (
        "Run the daemon, configured from the environment (default).",
        "Pay a payment pointer or URL from a running node; exit 0 only when all was sent.",
        "Write a compose file: a line, a ring, a mesh or a hub of connectors, with secrets of its own.",
        "Check the invariants of the books, of this environment or of a running node; exit 0 only when all hold.",
    ):
        assert sentence in words, (sentence, done.out)
    assert all(len(line) <= int(columns) for line in done.out.splitlines())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["settle", "bob", "--incoming", "1.5"], "'--incoming': has a point: name its asset, such as 1.5USD"),
        (["settle", "bob", "--outgoing", "-5"], "'--outgoing': must be whole smallest units, or an amount in the asset"),
        (["limits", "bob", "--credit-limit", "much"], "'--credit-limit': must be whole smallest units"),
        (["demo", "--peers", "1"], "'--peers': must be 2 or more"),
        (["demo", "--packets", "many"], "'--packets': must be a whole number, in digits only"),
        (["pay", "$x", "--amount", "0"], "--amount: must be 1 or more"),
        (["pay", "$x", "--amount", "1", "--max-slippage", "2"], "--max-slippage: must be a number from 0 to 1, such as 0.01"),
        (["ping", "g.x", "--interval", "soon"], "'--interval': must be a number such as 0.5"),
        (["ping", "g.x", "--url", "nowhere"], "--url: must be http://host:port, ws://host:port or wss://host:port"),
        (["ping", "g.x", "--url", "ws://127.0.0.1:9"], "needs --auth USER:TOKEN"),
        (["trace", "g..x"], "ADDR: is not an ILP address"),
        (["explain", "g.x", "--amount", "-1"], "'--amount': must be whole smallest units, or an amount in the asset"),
        (["ping", "g.x", "--amount", "1.5"], "'--amount': has a point: name its asset, such as 1.5USD"),
        (["ping", "g.x", "--amount", "1.5USD", "--url", "ws://127.0.0.1:9", "--auth", "a:b"],
         "--amount: must be whole smallest units where --url is ws://"),
        (["pay", "$x", "--amount", "18446744073709551616"], "above the largest amount, 18446744073709551615 units"),
        (["compose", "--topology", "star"], "'--topology': 'star' is not one of 'line', 'ring', 'mesh', 'hub'"),
        (["simulate", "--minutes", "nan"], "'--minutes': must be 0.001 or more"),
        (["healthcheck", "--wait", "x"], "must be a whole number, in digits only"),
        (["sen"], "No such command 'sen'"),
        (["run", "--stand-by"], "No such option: --stand-by"),
    ],
)  # fmt: skip
def test_a_wrong_command_line_is_told_in_plain_words(arguments: list[str], said: str) -> None:
    done = command(*arguments, env={"NO_COLOR": "1"})
    assert (done.code, done.out) == (2, "")
    assert said in " ".join(done.err.split()), done.err
    assert not any(words in done.err for words in LIBRARY), done.err
