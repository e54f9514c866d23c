"""Next hops that answer T04: who is meant, how often it is told, and for how long it is shown."""

from __future__ import annotations

import pytest

from connector.peering.model import Asset, Peer, PeerTerms, Relation
from connector.switch import bounds
from connector.switch.shortages import Shortages, is_beyond

USD = Asset("USD", 9)
OWN = "g.us"


def peer(name: str = "bob", relation: Relation = Relation.PEER) -> Peer:
    return Peer(PeerTerms(peer_id=name, asset=USD, relation=relation))


@pytest.mark.parametrize(
    ("relation", "triggered_by", "own", "beyond"),
    [
        (Relation.PEER, "g.bob", OWN, False),
        (Relation.PEER, "g.bob.x", OWN, False),  # its address is not known
        (Relation.PEER, "", OWN, False),
        (Relation.PEER, OWN, OWN, True),
        (Relation.PEER, "g.us.kid", OWN, True),
        (Relation.PEER, "g.useful", OWN, False),
        (Relation.PEER, "g.us", "", False),
        (Relation.CHILD, "g.us.bob", OWN, False),
        (Relation.CHILD, "g.us.bob.kid", OWN, True),
        (Relation.CHILD, "g.us.other", OWN, True),
    ],
)
def test_a_node_behind_the_next_hop_is_told_apart_where_that_is_known(
    relation: Relation, triggered_by: str, own: str, beyond: bool
) -> None:
    assert is_beyond(peer(relation=relation), triggered_by, own) is beyond


@pytest.mark.parametrize(
    ("triggered_by", "beyond"),
    [("g.us.shop", False), ("g.us.shop.x", True), ("g.us.bob", True), ("g.us.shopping", True)],
)
def test_a_child_with_a_segment_of_its_own_is_known_by_it(triggered_by: str, beyond: bool) -> None:
    terms = PeerTerms(peer_id="bob", asset=USD, relation=Relation.CHILD, segment="shop")
    assert is_beyond(Peer(terms), triggered_by, OWN) is beyond


def test_it_is_told_at_once_then_once_a_minute_with_what_came_meanwhile() -> None:
    found = Shortages()
    bob = peer()
    found.note(bob, "g.bob", "limit", OWN, 1_000)
    assert [(one.peer_id, count) for one, count in found.take_news(1_000)] == [("bob", 1)]
    for _ in range(3):
        found.note(bob, "g.bob", "limit", OWN, 2_000)
    assert found.take_news(1_000 + bounds.SHORTAGE_TOLD_AGAIN_MS - 1) == []
    ((one, count),) = found.take_news(1_000 + bounds.SHORTAGE_TOLD_AGAIN_MS)
    assert (one.message, count, one.packets) == ("limit", 3, 4)
    assert bob.counters.short_out == 4


def test_it_is_shown_for_a_while_and_then_begins_anew() -> None:
    found = Shortages()
    bob = peer()
    found.note(bob, "g.bob", "limit", OWN, 1_000)
    assert [one.packets for one in found.current(1_000 + bounds.SHORTAGE_SHOWN_MS - 1)] == [1]
    assert found.current(1_000 + bounds.SHORTAGE_SHOWN_MS) == []
    found.note(bob, "g.bob", "limit", OWN, 1_000 + bounds.SHORTAGE_SHOWN_MS)
    assert [one.packets for one in found.current(1_000 + bounds.SHORTAGE_SHOWN_MS)] == [1]


def test_many_next_hops_are_bounded_the_oldest_gives_way() -> None:
    found = Shortages()
    for number in range(bounds.SHORTAGES_MAX + 1):
        found.note(peer(f"p{number}"), "g.x", "", OWN, 1_000 + number)
    names = [one.peer_id for one in found.current(2_000)]
    assert len(names) == bounds.SHORTAGES_MAX
    assert "p0" not in names
    assert names[0] == f"p{bounds.SHORTAGES_MAX}"
