"""`settle`: options that belong together, and a payment that is asked for first."""

from __future__ import annotations

import io
import sys
from typing import Any

import pytest
import typer

from connector.cli import settle as module
from tests.support.commands import command


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("arguments", "needs"),
    [
        (["--amount", "5"], "--pay"),
        (["--incoming", "5", "--amount", "5"], "--pay"),
        (["--force", "--key", "k"], "--cancel"),
        (["--confirm", "--force"], "--cancel"),
        (["--scale", "9"], "--incoming or --outgoing"),
        (["--pay", "--scale", "9"], "--incoming or --outgoing"),
        (["--id", "7"], "--confirm or --cancel or --accept or --decline"),
        (["--idempotency-key", "x"], "--incoming or --outgoing or --pay"),
        (["--yes"], "--incoming or --outgoing or --pay"),
    ],
)
def test_an_option_without_the_one_that_it_belongs_to_is_refused(
    arguments: list[str], needs: str
) -> None:
    done = command("settle", "bob", *arguments)
    assert done.code == 2
    assert f"needs {needs}" in done.err


@pytest.fixture
def balance(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The account with bob, with asset scale 9; the tests set its balance."""
    account = {"peerId": "bob", "netBalance": "0", "assetScale": 9}
    monkeypatch.setattr(module, "_account", lambda *_: account)
    return account


def ask(incoming: int | None, outgoing: int | None, scale: int | None = None) -> None:
    module._ask_before_overpaying("http://node", None, "bob", incoming, outgoing, scale)


@pytest.mark.parametrize(
    ("net", "incoming", "outgoing", "scale"),
    [
        (10_000, 10_000, None, None),
        (10_000, None, 1_000_000, None),
        (-10_000, None, 10_000, None),
        (-10_000, 1_000_000, None, None),
        (0, 1_000_000, None, None),  # paid in advance: there was no debt that could turn
        (10_000, 10, None, 6),
        (10_000, 10_000_999, None, 12),
    ],
)
def test_what_is_paid_up_to_the_debt_is_not_asked_for(
    balance: dict[str, Any], net: int, incoming: int | None, outgoing: int | None, scale: int | None
) -> None:
    balance["netBalance"] = str(net)
    ask(incoming, outgoing, scale)


@pytest.mark.parametrize(
    ("net", "incoming", "outgoing", "scale", "after"),
    [
        (
            10_000,
            1_000_000,
            None,
            None,
            "balance with bob: owes us 10000; after this: we owe 990000",
        ),
        (-10_000, None, 10_001, None, "balance with bob: we owe 10000; after this: owes us 1"),
        (10_000, 11, None, 6, "balance with bob: owes us 10000; after this: we owe 1000"),
    ],
)
def test_a_payment_that_turns_the_debt_is_asked_for(
    balance: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    net: int,
    incoming: int | None,
    outgoing: int | None,
    scale: int | None,
    after: str,
) -> None:
    balance["netBalance"] = str(net)
    monkeypatch.setattr(sys, "stdin", Terminal("y\n"))
    ask(incoming, outgoing, scale)
    assert capsys.readouterr().err == f"{after}. Record it? [y/N] "
    for answer in ("", "\n", "no\n"):
        monkeypatch.setattr(sys, "stdin", Terminal(answer))
        with pytest.raises(typer.Exit) as ended:
            ask(incoming, outgoing, scale)
        assert ended.value.exit_code == 1
        assert "nothing was recorded" in capsys.readouterr().err
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    with pytest.raises(typer.Exit) as ended:
        ask(incoming, outgoing, scale)
    assert ended.value.exit_code == 2
    said = capsys.readouterr().err
    assert after in said
    assert "--yes" in said


@pytest.mark.parametrize(
    ("step", "items", "said"),
    [
        ("accept", [{"settlementId": "a1", "phase": "waiting"}], "a1"),
        ("decline", [{"settlementId": "a1", "phase": "waiting"}], "a1"),
        ("confirm", [{"settlementId": "a1", "state": "IDLE"}, {"settlementId": "a2", "state": "IN_PROGRESS"}],
         "a2"),
    ],
)  # fmt: skip
def test_the_only_settlement_that_it_can_be_needs_no_id(
    step: str, items: list[dict[str, str]], said: str
) -> None:
    assert module._only_one({"items": items}, "bob", step) == said


def test_of_several_payments_that_wait_one_has_to_be_named(
    capsys: pytest.CaptureFixture[str],
) -> None:
    items = [{"settlementId": name, "phase": "waiting"} for name in ("a1", "a2")]
    with pytest.raises(typer.Exit):
        module._only_one({"items": items}, "bob", "accept")
    assert "2 settlements with bob are waiting for an operator: name one with --id" in (
        capsys.readouterr().err
    )
    with pytest.raises(typer.Exit):
        module._only_one({"items": []}, "bob", "decline")
    assert "no settlement with bob is waiting" in capsys.readouterr().err
