"""Value per time: on the line and one unit over, what leaks, what is given back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector.peering.throughput import Throughput

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
