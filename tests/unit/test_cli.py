"""What the commands make of the answers of a node."""

from __future__ import annotations

from typing import Any

import pytest

from connector.cli import _standing

EVEN = {
    "netBalance": "0", "availableCredit": "100", "pendingDebits": "0", "pendingCredits": "0",
    "creditLimit": "100", "granted": "100", "maxPayable": None,
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, ("even", "100", "any amount", "0", "0", "100 granted of limit 100")),
        ({"netBalance": "30", "availableCredit": "60", "pendingDebits": "10", "maxPayable": "50"},
         ("[green]owes us 30[/green]", "60", "80", "10", "0", "100 granted of limit 100")),
        ({"netBalance": "-30", "pendingCredits": "15", "maxPayable": "50", "granted": "120"},
         ("[magenta]we owe 30[/magenta]", "100", "5", "0", "15", "120 granted of limit 100")),
        ({"netBalance": "-60", "maxPayable": "50"},
         ("[magenta]we owe 60[/magenta]", "100", "0", "0", "0", "100 granted of limit 100")),
    ],
)  # fmt: skip
def test_an_account_is_explained_in_plain_words(
    change: dict[str, Any], said: tuple[str, ...]
) -> None:
    assert _standing({**EVEN, **change}) == said
