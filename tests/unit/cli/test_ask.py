"""Amounts as they are typed: the node is asked for its asset only where one is named."""

from __future__ import annotations

from typing import Any

import pytest
import typer

from connector.cli import ask

ANSWERS: dict[str, Any] = {
    "/api/status": {"assetCode": "USD", "assetScale": 2},
    "/api/accounts": {"items": [{"peerId": "bob", "assetCode": "XRP", "assetScale": 6}]},
}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a node was asked for."""
    found: list[str] = []

    def get(_url: str, path: str, _key: str | None) -> dict[str, Any]:
        found.append(path)
        answer: dict[str, Any] = ANSWERS[path]
        return answer

    monkeypatch.setattr(ask, "get", get)
    return found


@pytest.mark.parametrize(
    ("text", "peer", "units", "paths"),
    [
        ("250", None, 250, []),
        (" 250 ", "bob", 250, []),
        ("2.50USD", None, 250, ["/api/status"]),
        ("1,000.25 usd", None, 100_025, ["/api/status"]),
        ("1.5XRP", "bob", 1_500_000, ["/api/accounts"]),
    ],
)
def test_an_amount_is_in_the_asset_that_is_named(
    asked: list[str], text: str, peer: str | None, units: int, paths: list[str]
) -> None:
    assert ask.units_typed("http://node", None, text, peer) == units
    assert asked == paths


@pytest.mark.parametrize(
    ("text", "peer", "said"),
    [
        ("2.505USD", None, "is finer than a smallest unit"),
        ("2EUR", None, "the asset of this node is USD"),
        ("2USD", "bob", "the asset of this peer is XRP"),
        ("2USD", "nobody", "no such peer nobody"),
        (str(2**64), None, "above the largest amount"),
        ("default", None, "is no amount"),
    ],
)
def test_what_is_no_amount_ends_the_command(
    asked: list[str], capsys: pytest.CaptureFixture[str], text: str, peer: str | None, said: str
) -> None:
    with pytest.raises(typer.Exit) as ended:
        ask.units_typed("http://node", None, text, peer)
    assert ended.value.exit_code == 2
    assert said in capsys.readouterr().err
