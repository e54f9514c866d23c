"""Settings of those that can be paid by name."""

from __future__ import annotations

import pytest

from connector.peering.model import Asset
from connector.settings.terms import wallets_of
from tests.support.settings import fault, settings


def test_without_a_port_nobody_can_be_paid() -> None:
    assert settings(WALLETS="alice").wallet_names == []


def test_who_can_be_paid() -> None:
    assert settings(PAY_PORT="0", NODE_ID="Alice").wallet_names == ["alice"]
    found = settings(PAY_PORT="0", WALLETS="bob, alice,bob", ASSET_SCALE="2")
    assert found.wallet_names == ["bob", "alice"]
    assert wallets_of(found) == {"bob": Asset("USD", 2), "alice": Asset("USD", 2)}


@pytest.mark.parametrize("name", ["a" * 64, "a", "~a_b.c-d", "0"])
def test_names_that_are_taken(name: str) -> None:
    assert settings(PAY_PORT="0", WALLETS=name).wallet_names == [name]


@pytest.mark.parametrize("name", ["a" * 65, "Alice", "a/b", ".a", "a.", "ä", "a b", "%41"])
def test_names_that_are_refused(name: str) -> None:
    assert "WALLETS" in fault(PAY_PORT="0", WALLETS=name)


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"PAY_PORT": "3000"}, "BTP_SERVER_PORT and PAY_PORT are both 3000"),
        ({"PAY_PORT": "8080"}, "HTTP_PORT and PAY_PORT are both 8080"),
        ({"PAY_DATA_URL": "http://c/decide"}, "PAY_DATA_URL needs PAY_PORT"),
        ({"PAY_WEBHOOK_URL": "http://c/paid"}, "PAY_WEBHOOK_URL needs PAY_PORT"),
        ({"PAY_WEBHOOK_SECRET": "x"}, "PAY_WEBHOOK_SECRET needs PAY_WEBHOOK_URL"),
        ({"PAY_QUIET_SECONDS": "0"}, "PAY_QUIET_SECONDS"),
        ({"PAY_PORT": "0", "PAY_SECRET": "ab" * 31}, "PAY_SECRET must be 64 hex digits"),
        ({"PAY_PORT": "0", "PAY_SECRET": "xy" * 32}, "PAY_SECRET must be 64 hex digits"),
        ({"PAY_SECRET_FORMER": "x"}, "PAY_SECRET_FORMER must be 64 hex digits"),
        ({"PAY_PORT": "0", "PAY_URL": "pay.example"}, "PAY_URL"),
    ],
)
def test_what_does_not_go_together(environment: dict[str, str], said: str) -> None:
    assert said in fault(**environment)
