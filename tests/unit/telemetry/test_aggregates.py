"""Rates over time: each second once, nothing invented, gaps as gaps, the same when asked again."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector.telemetry import bounds
from connector.telemetry.aggregates import Aggregates, Counters

START_S = 1_700_000_040
"""On a minute."""


class Node:
    """Counters and a clock that are set by hand."""

    def __init__(self) -> None:
        self.at_ms = START_S * 1000
        self.fulfilled = 0
        self.rejected = 0
        self.value: dict[tuple[str, str, int], int] = {}
        self.aggregates = Aggregates(
            read=lambda: Counters(self.fulfilled, self.rejected, dict(self.value)),
            now_ms=lambda: self.at_ms,
        )
        self.aggregates.sample()

    def second(self, fulfilled: int = 0, rejected: int = 0, *, lasts: int = 1) -> None:
        self.fulfilled += fulfilled
        self.rejected += rejected
        self.at_ms += lasts * 1000
        self.aggregates.sample()

    def items(self, range_s: int, points: int = 1000, after_ms: int = 0) -> list[dict[str, Any]]:
        return list(self.aggregates.view(range_s, points, after_ms)["items"])

    def counts(self, range_s: int, points: int = 1000) -> list[int | None]:
        return [one["fulfilled"] for one in self.items(range_s, points)]


def test_each_second_has_what_was_counted_in_it() -> None:
    node = Node()
    for fulfilled, rejected in ((3, 0), (0, 0), (5, 2)):
        node.second(fulfilled, rejected)
    assert [(one["fulfilled"], one["rejected"]) for one in node.items(3)] == [
        (3, 0),
        (0, 0),
        (5, 2),
    ]
    assert node.items(3)[0]["timestamp"] == "2023-11-14T22:14:00.000Z"


def test_before_the_start_nothing_is_known_and_that_is_no_zero() -> None:
    node = Node()
    assert node.counts(2) == [None, None]
    node.second(1)
    assert node.counts(3) == [None, None, 1]
    assert node.aggregates.view(3, 10)["since"] == "2023-11-14T22:14:00.000Z"


def test_a_standstill_is_spread_and_no_packet_is_lost_in_it() -> None:
    node = Node()
    node.second(7, lasts=3)
    assert node.counts(3) == [2, 2, 3]
    node.second(10, lasts=bounds.AGGREGATE_SECONDS_MAX * 3)
    assert len([one for one in node.counts(bounds.AGGREGATE_SECONDS_MAX) if one is not None]) > 0


def test_a_clock_that_was_set_back_leaves_no_row_for_what_it_cannot_place() -> None:
    node = Node()
    node.second(1)
    node.second(4, lasts=-30)
    node.second(2)
    assert node.counts(1) == [2]


def test_value_is_by_asset_and_a_peer_that_goes_takes_nothing_back() -> None:
    node = Node()
    node.value = {("a", "USD", 9): 100, ("b", "USD", 9): 5, ("c", "EUR", 2): 7}
    node.second()
    node.value = {("b", "USD", 9): 6}
    node.second()
    first, second = node.items(2)
    assert first["value"] == [
        {"assetCode": "EUR", "assetScale": 2, "amount": "7"},
        {"assetCode": "USD", "assetScale": 9, "amount": "105"},
    ]
    assert second["value"] == [{"assetCode": "USD", "assetScale": 9, "amount": "1"}]


def test_points_lie_on_multiples_and_are_the_same_when_asked_again() -> None:
    node = Node()
    for count in range(60):
        node.second(count)
    before = node.items(60, 12)
    node.second(1)
    after = node.items(60, 12)
    assert [one["fulfilled"] for one in before[:3]] == [10, 35, 60]
    assert before == after, "the point that is not over is not shown"
    for _ in range(4):
        node.second(1)
    assert node.items(60, 12)[:-1] == before[1:]


def test_only_what_is_after_a_moment_is_told() -> None:
    node = Node()
    for _ in range(5):
        node.second(1)
    shown = node.items(900, 900, after_ms=(START_S + 2) * 1000)
    assert [one["timestamp"][17:19] for one in shown] == ["03", "04"]
    assert node.items(900, 900, after_ms=(START_S + 99) * 1000) == []


def test_long_ranges_are_made_of_minutes() -> None:
    node = Node()
    for _ in range(180):
        node.second(2)
    view = node.aggregates.view(3600, 60)
    assert view["resolutionMs"] == 60_000
    known = [one for one in view["items"] if one["fulfilled"] is not None]
    assert [(one["fulfilled"], one["seconds"]) for one in known] == [(120, 60)] * 3


@pytest.mark.parametrize(("range_s", "points"), [(1, 1), (604_800, 1000), (604_800, 1), (7, 1000)])
def test_every_answer_is_bounded(range_s: int, points: int) -> None:
    node = Node()
    node.second(1)
    assert len(node.items(range_s, points)) <= max(points, 604_800 // 21_600)


@given(
    st.lists(st.tuples(st.integers(0, 1000), st.integers(1, 9)), min_size=1, max_size=60),
)
def test_all_that_was_counted_is_somewhere(steps: list[tuple[int, int]]) -> None:
    node = Node()
    for fulfilled, lasts in steps:
        node.second(fulfilled, lasts=lasts)
    total = sum(one for one, _ in steps)
    assert sum(one or 0 for one in node.counts(900, 900)) == total
