"""Value per time: on the line and one unit over, what leaks, what is given back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector.peering.throughput import Shares, Throughput

LIMIT, WINDOW_MS = 1_000, 60_000
START_MS = 1_700_000_000_000


def take(one: Throughput, amount: int, after_ms: int = 0, limit: int = LIMIT) -> bool:
    return one.take(amount, limit, WINDOW_MS, START_MS + after_ms)


def test_the_limit_passes_at_once_and_one_unit_more_does_not() -> None:
    one = Throughput()
    assert take(one, LIMIT - 1)
    assert take(one, 1)
    assert not take(one, 1)
    assert one.refused == 1


def test_it_leaks_evenly_and_exactly() -> None:
    one = Throughput()
    assert take(one, LIMIT)
    assert not take(one, 1, after_ms=59)
    assert take(one, 1, after_ms=60)
    assert one.left(LIMIT, WINDOW_MS, START_MS + 60) == 0
    assert one.left(LIMIT, WINDOW_MS, START_MS + WINDOW_MS // 2) == LIMIT // 2 - 1
    assert one.left(LIMIT, WINDOW_MS, START_MS + 2 * WINDOW_MS) == LIMIT


def test_a_clock_that_goes_back_gives_nothing() -> None:
    one = Throughput()
    assert take(one, LIMIT, after_ms=1_000)
    assert not take(one, 1, after_ms=0)
    assert take(one, 1, after_ms=1_060)


def test_a_clock_that_is_set_back_by_years_stops_nobody_for_longer_than_a_window() -> None:
    one = Throughput()
    assert take(one, LIMIT, after_ms=10**11)
    assert not take(one, 1)
    assert take(one, 1, after_ms=60)
    assert not take(one, 1, after_ms=119)
    assert take(one, LIMIT, after_ms=2 * WINDOW_MS)


def test_what_is_given_back_at_once_can_be_taken_again() -> None:
    one = Throughput()
    assert take(one, LIMIT)
    one.give_back(400, LIMIT, WINDOW_MS, START_MS, START_MS)
    assert take(one, 400)
    assert not take(one, 1)


def test_what_has_leaked_meanwhile_is_not_given_back_again() -> None:
    one = Throughput()
    assert take(one, 400)
    half_ms = WINDOW_MS // 5
    one.give_back(400, LIMIT, WINDOW_MS, START_MS, START_MS + half_ms)
    assert one.left(LIMIT, WINDOW_MS, START_MS + half_ms) == LIMIT
    assert take(one, LIMIT, after_ms=half_ms)
    # It was taken long ago: all of it has leaked, and nothing of the others is given back for it.
    one.give_back(400, LIMIT, WINDOW_MS, START_MS - WINDOW_MS, START_MS + half_ms)
    assert not take(one, 1, after_ms=half_ms)


def test_another_limit_or_window_takes_effect_at_once() -> None:
    one = Throughput()
    assert take(one, LIMIT)
    assert take(one, LIMIT, limit=2 * LIMIT)
    assert not one.take(1, 2 * LIMIT, 7 * WINDOW_MS, START_MS)
    assert one.take(1, 2 * LIMIT, 7 * WINDOW_MS, START_MS + 7 * WINDOW_MS)
    assert not one.take(LIMIT, LIMIT // 2, WINDOW_MS, START_MS + 7 * WINDOW_MS)


def test_it_can_be_undone() -> None:
    one = Throughput()
    assert take(one, 300)
    before = one.state()
    assert take(one, 700, after_ms=5)
    assert not take(one, 700, after_ms=5)
    one.restore(before)
    assert one.refused == 0
    assert one.left(LIMIT, WINDOW_MS, START_MS) == 700


steps = st.lists(
    st.tuples(st.integers(1, 1_500), st.integers(0, 20_000), st.booleans()), max_size=40
)


@given(steps)
def test_never_more_than_two_limits_pass_within_a_window(
    moves: list[tuple[int, int, bool]],
) -> None:
    """Whatever is refused and given back: what stays within any window is bounded."""
    one = Throughput()
    now_ms = START_MS
    passed: list[tuple[int, int]] = []
    for amount, wait_ms, is_rejected in moves:
        now_ms += wait_ms
        if not one.take(amount, LIMIT, WINDOW_MS, now_ms):
            continue
        if is_rejected:
            one.give_back(amount, LIMIT, WINDOW_MS, now_ms, now_ms)
        else:
            passed.append((now_ms, amount))
    for began_ms, _ in passed:
        within = sum(a for at, a in passed if began_ms <= at < began_ms + WINDOW_MS)
        assert within <= 2 * LIMIT


@pytest.mark.parametrize("amount", [2**64 - 1])
def test_amounts_of_64_bits_are_exact(amount: int) -> None:
    one = Throughput()
    assert one.take(amount, amount, 86_400_000, START_MS)
    assert not one.take(1, amount, 86_400_000, START_MS)
    assert one.left(amount, 86_400_000, START_MS + 86_400_000) == amount


# --- shared by several senders


def share(one: Shares, sender: str, amount: int, after_ms: int = 0) -> bool:
    return one.take(sender, amount, LIMIT, WINDOW_MS, START_MS + after_ms)


def test_who_is_alone_has_all_of_it() -> None:
    one = Shares()
    assert share(one, "a", LIMIT)
    assert not share(one, "a", 1)
    assert one.refused == 1
    assert share(one, "a", LIMIT // 2, after_ms=WINDOW_MS // 2)


def test_nobody_keeps_the_others_out_by_being_first() -> None:
    """`a` tries for each unit that leaks, `b` seldom: after one refusal there is room for it."""
    one = Shares()
    assert share(one, "a", LIMIT)
    assert not share(one, "b", 100)
    for after_ms in range(0, WINDOW_MS, 60):
        share(one, "a", 1, after_ms=after_ms)
    free = one.left(LIMIT, WINDOW_MS, START_MS + WINDOW_MS)
    assert LIMIT // 4 <= free <= LIMIT // 4 + 2
    assert share(one, "b", LIMIT // 4, after_ms=WINDOW_MS)


def test_who_asks_for_more_often_gets_no_more_than_its_share() -> None:
    one = Shares()
    assert share(one, "a", LIMIT)
    passed = {"a": LIMIT, "b": 0}
    for step in range(10 * WINDOW_MS // 60):
        for name in ("a", "a", "a", "b"):
            passed[name] += share(one, name, 1, after_ms=step * 60)
    total = sum(passed.values())
    assert total == pytest.approx(11 * LIMIT, rel=0.05)
    assert passed["a"] == pytest.approx(passed["b"], rel=0.1)


def test_what_others_do_not_want_is_not_kept_for_them() -> None:
    one = Shares()
    passed = 0
    for step in range(10 * WINDOW_MS // 60):
        passed += share(one, "a", 1, after_ms=step * 60)
        if not step % 100:
            assert share(one, "b", 1, after_ms=step * 60)
    assert passed >= 10 * LIMIT - 10 * LIMIT // 100 - LIMIT // 4


def test_a_sender_that_is_seen_no_more_leaves_its_share() -> None:
    one = Shares()
    assert share(one, "b", 1)
    assert share(one, "a", LIMIT // 2)
    assert not share(one, "a", LIMIT // 2 - 1)
    assert share(one, "a", LIMIT // 2, after_ms=WINDOW_MS + 1)
    assert len(one._senders) == 1


def test_what_comes_back_is_not_counted_to_a_sender() -> None:
    one = Shares()
    assert share(one, "b", 1)
    for _ in range(5):
        assert share(one, "a", LIMIT // 2)
        one.give_back("a", LIMIT // 2, LIMIT, WINDOW_MS, START_MS, START_MS)
    assert one.left(LIMIT, WINDOW_MS, START_MS) == LIMIT - 1


def test_what_is_only_looked_at_leaves_no_trace() -> None:
    one = Shares()
    assert share(one, "a", LIMIT)
    before = one.state()
    assert not share(one, "b", 1)
    one.restore(before)
    assert one.state() == before
    assert share(one, "a", 1, after_ms=60)


@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.integers(1, LIMIT), st.integers(-WINDOW_MS, WINDOW_MS))
    )
)
def test_all_senders_together_never_pass_more_than_the_limit(
    steps: list[tuple[str, int, int]],
) -> None:
    shares, whole = Shares(), Throughput()
    now_ms = START_MS
    for sender, amount, passes_ms in steps:
        now_ms += passes_ms
        if shares.take(sender, amount, LIMIT, WINDOW_MS, now_ms):
            assert whole.take(amount, LIMIT, WINDOW_MS, now_ms)
        assert shares.left(LIMIT, WINDOW_MS, now_ms) == whole.left(LIMIT, WINDOW_MS, now_ms)
        assert len(shares._senders) <= 3
