"""Peers: the token bucket, and the registry."""

from __future__ import annotations

import pytest

from connector.peering.model import (
    LOCAL,
    Asset,
    Peer,
    PeerRegistry,
    PeerTerms,
    Relation,
    Unanswered,
)

XRP = Asset("XRP", 9)
NOW_MS = 1_700_000_000_000


def peer(peer_id: str = "alice", rate_limit: int | None = None) -> Peer:
    return Peer(PeerTerms(peer_id=peer_id, asset=XRP, rate_limit=rate_limit))


def taken(one: Peer, now_ms: int) -> int:
    """How many tokens are there to be taken now."""
    count = 0
    while one.take_token(now_ms):
        count += 1
        assert count < 10_000
    return count


def test_an_asset_reads_as_code_and_scale() -> None:
    assert str(XRP) == "XRP/9"
    assert Asset("EUR", 9) < XRP < Asset("XRP", 10)


def test_a_peer_without_terms_of_its_own_gets_no_credit() -> None:
    terms = peer().terms
    assert terms.credit_limit == 0
    assert terms.relation is Relation.PEER
    assert terms.fee_basis_points == 0
    assert not terms.allow_reflection
    assert terms.settle_to == peer().in_flight == 0


def test_a_peer_has_the_id_of_its_terms() -> None:
    assert peer("bob").peer_id == "bob"
    assert peer(LOCAL).peer_id == ""


def test_every_unanswered_reason_has_a_message() -> None:
    assert len({reason.value for reason in Unanswered}) == len(Unanswered)


# --- rate limit


def test_without_a_rate_limit_there_is_always_a_token() -> None:
    one = peer()
    assert all(one.take_token(NOW_MS) for _ in range(1000))
    assert one.tokens == 0.0


def test_the_first_burst_is_one_seconds_worth() -> None:
    assert taken(peer(rate_limit=10), NOW_MS) == 10


def test_tokens_come_back_with_time() -> None:
    one = peer(rate_limit=10)
    taken(one, NOW_MS)
    assert taken(one, NOW_MS + 99) == 0
    assert taken(one, NOW_MS + 100) == 1
    assert taken(one, NOW_MS + 600) == 5


def test_idle_time_gives_no_more_than_one_burst() -> None:
    one = peer(rate_limit=10)
    taken(one, NOW_MS)
    assert taken(one, NOW_MS + 1000) == 10
    assert taken(one, NOW_MS + 1_000_000) == 10


def test_a_rate_of_one_allows_one_packet_a_second() -> None:
    one = peer(rate_limit=1)
    assert [one.take_token(NOW_MS + ms) for ms in (0, 999, 1000, 1001, 2000)] == [
        True,
        False,
        True,
        False,
        True,
    ]


def test_a_rate_of_zero_allows_no_packet() -> None:
    one = peer(rate_limit=0)
    assert taken(one, NOW_MS) == taken(one, NOW_MS + 10_000_000) == 0


def test_a_clock_that_goes_back_takes_no_tokens_away_and_does_not_stop_the_bucket() -> None:
    one = peer(rate_limit=10)
    assert one.take_token(NOW_MS)
    assert taken(one, NOW_MS - 3_600_000) == 9
    assert taken(one, NOW_MS - 3_600_000 + 100) == 1


# --- counters


@pytest.mark.interpreted
def test_counters_start_at_zero_and_belong_to_one_peer() -> None:
    one, other = peer("a"), peer("b")
    for name in one.counters.__slots__:
        assert not getattr(one.counters, name)
    one.counters.prepares_in += 1
    one.counters.rejected_in_by_code["F00"] = 1
    assert other.counters.prepares_in == 0
    assert other.counters.rejected_in_by_code == {}


# --- registry


def test_the_registry_finds_peers_by_id() -> None:
    alice, bob = peer("alice"), peer("bob")
    registry = PeerRegistry([alice, bob])
    assert registry.get("alice") is registry["alice"] is alice
    assert list(registry) == [alice, bob]
    assert len(registry) == 2
    assert "bob" in registry


def test_the_registry_has_no_unknown_peer() -> None:
    registry = PeerRegistry()
    assert len(registry) == 0
    assert registry.get("mallory") is None
    assert "mallory" not in registry
    with pytest.raises(KeyError):
        registry["mallory"]


def test_two_peers_are_never_equal() -> None:
    assert peer("alice") != peer("alice")


def test_peers_are_added_and_removed() -> None:
    registry = PeerRegistry([peer("alice")])
    bob = peer("bob")
    registry.add(bob)
    assert registry.get("bob") is bob
    assert registry.remove("bob") is bob
    assert registry.get("bob") is None
    assert [one.peer_id for one in registry] == ["alice"]
