"""Prefixes that had a route a moment ago: found by whole segments, for a bounded time, in a bounded number."""

from __future__ import annotations

import pytest

from connector.peering import bounds
from connector.peering.missed import Missed


def test_what_is_below_a_missed_prefix_is_missed_too() -> None:
    missed = Missed()
    missed.add("g.al", "bob", 100)
    assert missed.holds("g.al")
    assert missed.holds("g.al.shop.x")
    assert not missed.holds("g.alice")
    assert not missed.holds("g")
    assert not missed.holds("")


def test_they_are_forgotten_in_time() -> None:
    missed = Missed()
    missed.add("g.a", "bob", 100)
    missed.add("g.b", "bob", 150)
    assert missed.forget(99) == 100
    assert missed.holds("g.a")
    assert missed.forget(100) == 150
    assert not missed.holds("g.a")
    missed.add("g.b", "eve", 200)
    assert missed.forget(150) == 200
    assert missed.forget(200) is None
    assert len(missed) == 0
    assert not missed.holds("g.b")


def test_one_peer_has_a_share_of_the_room_and_all_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "MISSED_PER_PEER_MAX", 3)
    monkeypatch.setattr(bounds, "MISSED_MAX", 5)
    missed = Missed()
    for number in range(10):
        missed.add(f"g.eve.{number}", "eve", 100)
    assert len(missed) == 3
    missed.add("g.eve.0", "eve", 101)
    assert len(missed) == 3
    for number in range(10):
        missed.add(f"g.bob.{number}", "bob", 102)
    assert len(missed) == 5
    assert missed.holds("g.bob.1")
    assert missed.forget(1000) is None


def test_an_address_of_many_segments_costs_no_more_than_a_prefix_may_have() -> None:
    missed = Missed()
    missed.add("g." + ".".join("a" * 31), "bob", 100)
    assert missed.holds("g." + ".".join("a" * 500))
