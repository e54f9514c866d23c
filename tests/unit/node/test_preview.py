"""What a change would do, in words: no secret in it, and nothing left out."""

from __future__ import annotations

from typing import Any

import pytest

from connector import PeerSettings, Settings
from connector.node.preview import Standing, amount_in_words, preview_of
from connector.peering.model import Asset
from connector.settings.model import RouteSettings

USD = Asset("USD", 2)
BOB = {"id": "bob", "secret": "hunter2-bob", "asset_scale": 2, "credit_limit": 500}


def settings(*peers: dict[str, Any], routes: tuple[tuple[str, str], ...] = ()) -> Settings:
    return Settings(
        node_id="hub",
        peers=[PeerSettings(**one) for one in peers],
        routes=[RouteSettings(prefix=prefix, next_hop=hop) for prefix, hop in routes],
    )


def effects(
    before: Settings, after: Settings, *, removing: tuple[str, ...] = (), force: bool = False,
    net: int = 0, in_flight: int = 0,
) -> str:  # fmt: skip
    standing = {"bob": Standing(connected=True, in_flight=in_flight, net=net, asset=USD)}
    shown = preview_of(before, after, removing=removing, standing=standing, force=force)
    assert "hunter2" not in str(shown)
    return "; ".join(shown.effects)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, "nothing changes"),
        ({"credit_limit": 700}, "the link with bob stays up"),
        ({"secret": "hunter2-other"}, "is closed, and it has to log in again"),
        ({"url": "ws://127.0.0.1:9"}, "is closed and opened anew"),
        ({"enabled": False}, "new packets of bob are refused (T03) and none are routed to it"),
        ({"offline_expected": True}, "a missing link with bob is no alarm"),
        ({"routes": ["g.bob"]}, "packets for g.bob go to bob"),
    ],
)
def test_an_edit_says_what_becomes_of_link_and_packets(change: dict[str, Any], said: str) -> None:
    assert said in effects(settings(BOB), settings({**BOB, **change}))


def test_the_values_before_and_after_are_in_the_asset() -> None:
    shown = preview_of(
        settings(BOB), settings({**BOB, "credit_limit": 725, "secret": "hunter2-new"}),
        removing=(), standing={},
    )  # fmt: skip
    assert shown.changes == [
        {"target": "bob", "field": "secret", "from": "(secret)", "to": "(secret)"},
        {"target": "bob", "field": "creditLimit", "from": "5 USD", "to": "7.25 USD"},
    ]


def test_a_removal_says_what_is_owed_and_what_may_be_lost() -> None:
    here = settings(BOB)
    said = effects(here, here, removing=("bob",), net=-125, in_flight=3)
    assert "3 packets of or to it under way are finished first" in said
    assert "we owe it 1.25 USD" in said
    assert "stays visible as removed until it is even" in said
    assert "may be lost to us" in effects(here, here, removing=("bob",), in_flight=3, force=True)
    assert "its account is even" in effects(here, here, removing=("bob",))


def test_static_routes_are_told_by_prefix() -> None:
    one, two = settings(BOB), settings(BOB, routes=(("", "bob"), ("g.far", "bob")))
    assert effects(one, two) == "packets for all else go to bob; packets for g.far go to bob"
    assert "packets for g.far no longer go to bob by this route" in effects(two, one)


def test_a_new_peer_is_told_with_its_former_account() -> None:
    said = effects(settings(), settings({**BOB, "routes": ["g.bob"]}), net=40)
    assert "bob may log in" in said
    assert "it owes us 0.4 USD" in said
    assert "packets for g.bob go to bob" in said


@pytest.mark.parametrize(
    ("units", "scale", "text"),
    [(0, 2, "0 USD"), (-5, 2, "-0.05 USD"), (100, 2, "1 USD"), (7, 0, "7 USD")],
)
def test_an_amount_is_exact(units: int, scale: int, text: str) -> None:
    assert amount_in_words(units, Asset("USD", scale)) == text
