"""The Request-Ids that are remembered: never too few, and never too many."""

from __future__ import annotations

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector.ilp_http import bounds
from connector.ilp_http.request_ids import RequestIds, Seen

NOW = 1_000_000


def id_of(number: int) -> uuid.UUID:
    return uuid.UUID(int=number)


def test_the_same_id_is_the_same_packet_or_refused() -> None:
    ids = RequestIds()
    assert ids.note("bob", id_of(1), b"one", NOW + 10, NOW) is Seen.NEW
    assert ids.note("bob", id_of(1), b"one", NOW + 10, NOW + 1) is Seen.SAME
    assert ids.note("bob", id_of(1), b"other", NOW + 10, NOW + 1) is Seen.OTHER
    assert ids.note("bob", id_of(1), b"one", NOW + 10, NOW + 9) is Seen.SAME


def test_ids_of_peers_have_nothing_to_do_with_each_other() -> None:
    ids = RequestIds()
    assert ids.note("bob", id_of(1), b"one", NOW + 10, NOW) is Seen.NEW
    assert ids.note("carol", id_of(1), b"other", NOW + 10, NOW) is Seen.NEW
    ids.forget_peer("bob")
    ids.forget_peer("nobody")
    assert len(ids) == 1
    assert ids.note("bob", id_of(1), b"other", NOW + 10, NOW) is Seen.NEW


def test_an_id_is_remembered_until_its_packet_has_expired() -> None:
    ids = RequestIds()
    ids.note("bob", id_of(1), b"one", NOW + 10, NOW)
    assert ids.note("bob", id_of(1), b"other", NOW + 30, NOW + 10) is Seen.NEW
    assert len(ids) == 1
    assert ids.note("bob", id_of(1), b"other", NOW + 30, NOW + 29) is Seen.SAME


@pytest.mark.parametrize("bound", ["REQUEST_IDS_PER_PEER_MAX", "REQUEST_IDS_MAX"])
def test_none_is_dropped_for_want_of_room(monkeypatch: pytest.MonkeyPatch, bound: str) -> None:
    monkeypatch.setattr(bounds, bound, 3)
    ids = RequestIds()
    for number in range(3):
        assert ids.note("bob", id_of(number), b"", NOW + 5000 + number, NOW) is Seen.NEW
    assert ids.note("bob", id_of(3), b"", NOW + 5000, NOW) is Seen.FULL
    assert ids.note("bob", id_of(0), b"", NOW + 5000, NOW) is Seen.SAME
    assert ids.note("bob", id_of(4), b"", NOW + 9000, NOW + 5001) is Seen.NEW
    assert len(ids) <= 3


def test_a_full_table_makes_room_for_others_also_where_its_oldest_lives_longest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bounds, "REQUEST_IDS_PER_PEER_MAX", 2)
    ids = RequestIds()
    ids.note("bob", id_of(0), b"", NOW + 100_000, NOW)
    ids.note("bob", id_of(1), b"", NOW + 10, NOW)
    assert ids.note("bob", id_of(2), b"", NOW + 5000, NOW + 20) is Seen.NEW
    assert ids.note("bob", id_of(3), b"", NOW + 5000, NOW + 30) is Seen.FULL
    # The whole table is looked through once a second, however often it is full.
    assert ids.note("bob", id_of(3), b"", NOW + 9000, NOW + 5001) is Seen.NEW


@given(
    st.lists(
        st.tuples(st.sampled_from("ab"), st.integers(0, 5), st.sampled_from((b"x", b"y")),
                  st.integers(0, 30), st.integers(0, 10)),
        max_size=60,
    )
)  # fmt: skip
def test_an_id_that_lives_is_never_new(steps: list[tuple[str, int, bytes, int, int]]) -> None:
    """Against a dictionary that forgets nothing."""
    ids = RequestIds()
    known: dict[tuple[str, int], tuple[bytes, int]] = {}
    now_ms = NOW
    for peer_id, number, packet, lives_ms, later_ms in steps:
        now_ms += later_ms
        seen = ids.note(peer_id, id_of(number), packet, now_ms + lives_ms, now_ms)
        earlier = known.get((peer_id, number))
        if earlier is not None and earlier[1] > now_ms:
            assert seen is (Seen.SAME if earlier[0] == packet else Seen.OTHER)
        else:
            assert seen is Seen.NEW
            known[peer_id, number] = packet, now_ms + lives_ms
    assert len(ids) <= len(known)
