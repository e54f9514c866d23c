"""Waits that grow."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector.base.backoff import Backoff, is_due


def least() -> float:
    return 0.0


def most() -> float:
    return 1.0


def test_the_wait_doubles_up_to_the_maximum() -> None:
    backoff = Backoff(min_s=0.25, max_s=2)
    waits = [backoff.wait_s(failures, most) for failures in range(1, 7)]
    assert waits == [0.25, 0.5, 1, 2, 2, 2]
    assert waits == [backoff.wait_s(failures, least) for failures in range(1, 7)]
    assert waits == [backoff.grown_s(failures) for failures in range(1, 7)]


def test_the_factor_says_how_fast_it_grows() -> None:
    backoff = Backoff(min_s=1, max_s=100, factor=3)
    assert [backoff.wait_s(failures, most) for failures in (1, 2, 3, 4, 5, 6)] == [
        1, 3, 9, 27, 81, 100,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("jitter", "floor_s", "low", "high"),
    [(0.0, 0.0, 4, 4), (0.5, 0.0, 2, 4), (1.0, 0.0, 0, 4), (1.0, 0.05, 0.05, 4.05)],
)
def test_jitter_is_the_random_share_and_the_floor_is_added(
    jitter: float, floor_s: float, low: float, high: float
) -> None:
    backoff = Backoff(min_s=1, max_s=60, jitter=jitter, floor_s=floor_s)
    assert backoff.wait_s(3, least) == pytest.approx(low)
    assert backoff.wait_s(3, most) == pytest.approx(high)


@given(
    failures=st.integers(1, 10**9),
    chance=st.floats(0, 1),
    jitter=st.floats(0, 1),
    factor=st.floats(1, 16),
)
def test_every_wait_is_within_its_bounds(
    failures: int, chance: float, jitter: float, factor: float
) -> None:
    backoff = Backoff(min_s=0.1, max_s=3600, factor=factor, jitter=jitter, floor_s=0.05)
    wait_s = backoff.wait_s(failures, lambda: chance)
    assert 0.05 <= wait_s <= 3600.05
    assert wait_s >= 0.05 + 0.1 * (1 - jitter) - 1e-9


def test_impossible_bounds_are_our_own_fault() -> None:
    with pytest.raises(AssertionError):
        Backoff(min_s=2, max_s=1)
    with pytest.raises(AssertionError):
        Backoff(min_s=1, max_s=1).wait_s(0, most)


@pytest.mark.parametrize(
    ("at_ms", "expected"),
    [(0, True), (1000, True), (1001, False), (61_000, False), (61_001, True), (10**13, True)],
)
def test_what_waits_for_longer_than_it_ever_would_is_due(at_ms: int, expected: bool) -> None:
    assert is_due(at_ms, 1000, 60.0) is expected
