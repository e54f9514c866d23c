"""What `pay` and `payments` say of a payment."""

from __future__ import annotations

from typing import Any

import pytest
import typer
from rich.console import Console

from connector.cli import pay, received
from connector.tools.terminal import Fitted

KEY = "319f443c312c4fb78d18dda49dcb4df2"
ONE: dict[str, Any] = {
    "key": KEY, "target": "http://127.0.0.1:54527/pay/alice", "state": "interrupted",
    "sent": "1000000", "amount": "3000000", "asset": "USD/9", "delivered": "920000",
    "receiverAsset": "EUR/9", "reason": "the node was stopped", "uncertain": "0", "packets": 1,
    "durationMs": 75, "proof": {"reported": "920000", "acknowledged": 1},
}  # fmt: skip


@pytest.mark.parametrize("width", [60, 80, 100, 140])
def test_what_was_delivered_is_shown_before_keys_and_uncut(
    monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    made: list[Fitted] = []
    monkeypatch.setattr(
        received, "table_command", lambda _path, make, *_: made.append(make({"items": [ONE]}))
    )
    received.payments()
    screen = Console(width=width)
    with screen.capture() as capture:
        screen.print(made[0])
    shown = capture.get()
    assert "920000" in shown
    assert "3000000" in shown
    assert "interrupted" in shown
    assert all(len(line) <= width for line in shown.splitlines())
    assert (KEY in shown) == ("no room for: key" not in shown)


@pytest.mark.parametrize(
    ("packets", "said"),
    [
        (0, []),
        (1, ["the receiver has reported 920000 in 1 answer"]),
        (2, ["the receiver has reported 920000 in 2 answers"]),
    ],
)
def test_without_packets_nothing_is_said_of_the_receiver(packets: int, said: list[str]) -> None:
    screen = Console(width=100)
    one = {**ONE, "packets": packets, "proof": {"reported": "920000", "acknowledged": packets}}
    with screen.capture() as capture:
        pay._print(one, screen)
    lines = capture.get().splitlines()
    assert lines[0].startswith("sent 1000000 of 3000000 USD/9, delivered 920000 EUR/9,")
    assert lines[1:] == said


def test_a_wallet_that_is_none_is_not_just_one_without_payments(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[Fitted] = []
    monkeypatch.setattr(
        received, "table_command", lambda _path, make, *_: asked.append(make({"items": []}))
    )
    monkeypatch.setattr(received, "get", lambda *_: {"items": [{"wallet": "alice"}]})
    received.received("alice")
    assert [len(one) for one in asked] == [0]
    with pytest.raises(typer.Exit) as ended:
        received.received("carol")
    assert ended.value.exit_code == 2
    assert "no such wallet carol: `connector wallets` lists them" in capsys.readouterr().err
