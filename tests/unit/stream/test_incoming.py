"""Which packets make a payment, and when it has come in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector.stream import bounds
from connector.stream.incoming import Incoming, IncomingPayments
from connector.stream.questions import payment_id_of

QUIET_MS = 30_000


class Setup:
    def __init__(self, code: str = "USD") -> None:
        self.now_ms = 1_000_000
        self.payments = IncomingPayments(
            asset_code=code, asset_scale=9, quiet_ms=QUIET_MS, now_ms=lambda: self.now_ms
        )

    def take(self, after_ms: int = 0) -> list[Incoming]:
        self.now_ms += after_ms
        return self.payments.take_changed(1000)


def test_packets_of_a_connection_are_one_payment_until_it_is_quiet() -> None:
    one = Setup()
    one.payments.received("t", "alice", 5)
    (began,) = one.take()
    assert (began.amount, began.packets, began.ended) == (5, 1, "")
    one.now_ms += QUIET_MS - 1
    one.payments.received("t", "alice", 7)
    (goes_on,) = one.take()
    assert (goes_on.id, goes_on.amount, goes_on.packets) == (began.id, 12, 2)
    assert one.take(QUIET_MS - 1) == []
    (ended,) = one.take(1)
    assert (ended.id, ended.amount, ended.ended) == (began.id, 12, "quiet")
    assert ended.last_ms - ended.began_ms == QUIET_MS - 1
    assert one.take(QUIET_MS) == []
    # More on the same connection is another payment of the same payer.
    one.payments.received("t", "alice", 1)
    (another,) = one.take()
    assert another.id != began.id
    assert another.payment_id == began.payment_id == payment_id_of("t")


def test_a_close_ends_it_once_packets_on_their_way_are_counted() -> None:
    one = Setup()
    one.payments.closed("t")  # nothing was paid: nothing has come in
    one.payments.received("t", "alice", 5)
    one.payments.closed("t")
    one.take()
    assert one.take(bounds.CLOSED_GRACE_MS - 1) == []
    one.payments.received("t", "alice", 1)
    one.payments.closed("t")  # said again, it is not put off
    (ended,) = one.take(1)
    assert (ended.amount, ended.ended) == (6, "closed")


@pytest.mark.parametrize("closes", [True, False])
def test_a_clock_that_is_set_back_delays_the_end_of_a_payment_no_longer(closes: bool) -> None:
    one = Setup()
    one.payments.received("t", "alice", 5)
    if closes:
        one.payments.closed("t")
    one.take()
    one.take(-900_000)
    (ended,) = one.take(bounds.CLOSED_GRACE_MS if closes else QUIET_MS)
    assert (ended.amount, ended.ended) == (5, "closed" if closes else "quiet")


def test_nothing_comes_in_with_packets_without_an_amount() -> None:
    one = Setup()
    one.payments.received("t", "alice", 0)
    assert one.take(QUIET_MS) == []
    assert len(one.payments) == 0


def test_what_was_left_open_goes_on_unless_it_is_in_another_asset() -> None:
    before = Setup()
    before.payments.received("t", "alice", 5)
    (left,) = before.take()
    same, other = Setup(), Setup("EUR")
    same.now_ms = other.now_ms = before.now_ms + 1
    same.payments.restore([left])
    same.payments.received("t", "alice", 2)
    (goes_on,) = same.take()
    assert (goes_on.id, goes_on.amount, goes_on.ended) == (left.id, 7, "")
    other.payments.restore([left])
    other.payments.received("t", "alice", 2)
    assert [(one.asset_code, one.ended) for one in other.take()] == [("USD", "quiet"), ("EUR", "")]


def test_the_one_quiet_for_longest_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "OPEN_PAYMENTS_MAX", 2)
    one = Setup()
    for token in ("a", "b", "a", "c"):
        one.payments.received(token, "alice", 1)
    assert [(each.token, each.ended) for each in one.take()] == [
        ("b", "room"),
        ("a", ""),
        ("c", ""),
    ]
    assert len(one.payments) == 2


def test_what_could_not_be_written_down_comes_again_within_a_bound(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one = Setup()
    one.payments.received("a", "alice", 1)
    one.payments.put_back(one.take())
    one.payments.received("a", "alice", 1)
    assert [each.amount for each in one.take()] == [2]
    assert one.payments.take_lost() == 0


def test_of_those_that_wait_for_a_disk_that_is_stuck_some_are_kept_and_the_others_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also while what was taken before is being written, however long that takes."""
    monkeypatch.setattr(bounds, "UNWRITTEN_PAYMENTS_MAX", 2)
    monkeypatch.setattr(bounds, "OPEN_PAYMENTS_MAX", 1)
    one = Setup()
    for token in "abcdef":
        one.payments.received(token, "alice", 1)  # each makes room for the next
    assert one.payments.take_lost() == 3
    being_written = one.take()
    assert [(each.token, each.ended) for each in being_written] == [
        ("d", "room"),
        ("e", "room"),
        ("f", ""),
    ]
    one.payments.received("g", "alice", 1)
    one.payments.put_back(being_written)
    assert one.payments.take_lost() == 1
    # None that is open is lost, and none is there twice.
    assert [each.token for each in one.take()] == ["e", "f", "g"]
    assert one.take() == []


def test_they_are_taken_in_parts_those_that_have_ended_first() -> None:
    one = Setup()
    for token in "abc":
        one.payments.received(token, "alice", 1)
    one.payments.closed("c")
    one.now_ms += bounds.CLOSED_GRACE_MS
    parts = [[each.token for each in one.payments.take_changed(2)] for _ in range(3)]
    assert parts == [["c", "a"], ["b"], []]


@given(
    st.lists(
        st.tuples(
            st.sampled_from("abc"), st.integers(0, 3), st.integers(0, QUIET_MS), st.booleans()
        )
    )
)
def test_every_unit_is_in_exactly_one_payment(
    packets: list[tuple[str, int, int, bool]],
) -> None:
    one, found = Setup(), dict[str, Incoming]()
    for token, amount, after_ms, closes in packets:
        one.payments.received(token, "alice", amount)
        if closes:
            one.payments.closed(token)
        for each in one.take(after_ms):
            assert each.id not in found or not found[each.id].ended or found[each.id] is each
            found[each.id] = each
    for each in one.take(QUIET_MS + bounds.CLOSED_GRACE_MS):
        found[each.id] = each
    assert all(each.ended for each in found.values())
    assert sum(each.amount for each in found.values()) == sum(amount for _, amount, *_ in packets)
