"""Rates over time: each second once, nothing invented, gaps as gaps, the same when asked again."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector.telemetry import bounds
from connector.telemetry.aggregates import NODE, Aggregates, Counters, Row
from connector.telemetry.histogram import LATENCY_BUCKETS_S

START_S = 1_700_000_040
"""On a minute."""


class Node:
    """Counters and a clock that are set by hand."""

    def __init__(self) -> None:
        self.at_ms = START_S * 1000
        self.fulfilled = 0
        self.rejected = 0
        self.value: dict[tuple[str, str, int], int] = {}
        self.codes: dict[tuple[str, str], int] = {}
        self.latency = [0] * (len(LATENCY_BUCKETS_S) + 1)
        self.handed: list[tuple[int, str, Row]] = []
        self.start()

    def start(self) -> None:
        """The node is started (again): nothing is in memory."""
        self.aggregates = Aggregates(
            read=lambda: Counters(
                self.fulfilled,
                self.rejected,
                dict(self.value),
                dict(self.codes),
                tuple(self.latency),
            ),
            now_ms=lambda: self.at_ms,
            sink=lambda minute, peer, row: self.handed.append((minute, peer, row)),
        )
        kept: dict[int, Row] = {}
        for minute, _, row in self.handed:
            kept.setdefault(minute, Row()).add(row)
        self.aggregates.restore(sorted(kept.items()))
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


def test_codes_and_latency_are_those_of_their_time() -> None:
    node = Node()
    node.codes, node.latency[4] = {("a", "F02"): 3, ("b", "T04"): 1}, 10
    node.second(0, 4)
    node.codes = {("a", "F02"): 3, ("b", "T04"): 6}
    node.second(0, 5)
    first, second = node.items(2)
    assert first["codes"] == [{"code": "F02", "count": 3}, {"code": "T04", "count": 1}]
    assert second["codes"] == [{"code": "T04", "count": 5}]
    # The fifth bucket is from 5 to 10 ms.
    assert (first["latencyP50Ms"], first["latencyP99Ms"]) == (7.5, 9.95)
    assert (second["latencyP50Ms"], second["latencyP99Ms"]) == (None, None)


@given(st.dictionaries(st.integers(0, len(LATENCY_BUCKETS_S)), st.integers(1, 1000), min_size=1))
def test_a_quantile_lies_in_the_bucket_of_its_packet(latency: dict[int, int]) -> None:
    row = Row(latency=latency)
    for part in (0.0, 0.5, 0.99, 1.0):
        found = row.quantile_ms(part)
        assert found is not None
        ordered = [bucket for bucket in sorted(latency) for _ in range(latency[bucket])]
        bucket = ordered[max(0, -int(-part * len(ordered) // 1) - 1)]
        low = 0.0 if bucket == 0 else LATENCY_BUCKETS_S[bucket - 1]
        high = LATENCY_BUCKETS_S[min(bucket, len(LATENCY_BUCKETS_S) - 1)]
        assert low * 1000 - 0.001 <= found <= high * 1000 + 0.001


def test_minutes_are_handed_over_once_and_are_there_after_a_restart() -> None:
    node = Node()
    for _ in range(130):
        node.second(2)
    assert [(minute - START_S, peer, row.fulfilled) for minute, peer, row in node.handed] == [
        (0, NODE, 120), (60, NODE, 120),
    ]  # fmt: skip
    node.aggregates.flush()
    assert node.handed[-1][2].fulfilled == 20
    # It is away for five minutes, then runs twice in the same minute.
    node.at_ms += 300_000
    node.start()
    for _ in range(5):
        node.second(1)
    node.aggregates.flush()
    node.start()
    for _ in range(100):
        node.second(1)
    known = [(one["fulfilled"], one["seconds"]) for one in node.items(600, 10)]
    assert known[-8:-1] == [
        (120, 60), (120, 60), (20, 11), (None, 0), (None, 0), (None, 0), (None, 0),
    ]  # fmt: skip
    assert known[-1] == (50, 51), "from the tenth second on"
    assert node.aggregates.view(60, 60)["since"] == "2023-11-14T22:14:00.000Z"
    assert sum(row.fulfilled for _, _, row in node.handed) == 260 + 50, "the last minute is open"


def test_what_came_in_the_last_second_before_a_stop_is_kept() -> None:
    node = Node()
    node.second(4)
    node.fulfilled += 3
    node.aggregates.flush()
    assert [row.fulfilled for _, _, row in node.handed] == [7]
    node.aggregates.flush()
    assert len(node.handed) == 1


@given(
    st.builds(
        Row,
        fulfilled=st.integers(0, 2**60),
        rejected=st.integers(0, 2**60),
        value=st.dictionaries(st.tuples(st.text(max_size=5), st.integers(0, 255)), st.integers(0)),
        seconds=st.integers(0, 60),
        codes=st.dictionaries(st.text(max_size=3), st.integers(0, 10**9)),
        latency=st.dictionaries(st.integers(0, 15), st.integers(0, 10**9)),
    )
)
def test_a_row_survives_the_disk(row: Row) -> None:
    assert Row.from_text(row.as_text()) == row


@pytest.mark.parametrize(
    "text",
    ["", "[]", "null", "{}", '{"s":-1,"f":0,"r":0,"v":[],"c":{},"l":[]}',
     '{"s":1,"f":"x","r":0,"v":[],"c":{},"l":[]}', '{"s":1,"f":0,"r":0,"v":[[1]],"c":{},"l":[]}'],
)  # fmt: skip
def test_a_damaged_row_is_refused(text: str) -> None:
    with pytest.raises((ValueError, TypeError, KeyError)):
        Row.from_text(text)


def test_a_range_may_end_in_the_past_and_is_by_the_minute_where_seconds_are_gone() -> None:
    node = Node()
    for count in range(3000):
        node.second(count % 2)
    end_ms = (START_S + 600) * 1000
    view = node.aggregates.view(300, 300, to_ms=end_ms)
    assert view["resolutionMs"] == 60_000
    assert view["to"] == "2023-11-14T22:24:00.000Z"
    assert [one["fulfilled"] for one in view["items"]] == [30] * 5
    late = node.aggregates.view(10, 10, to_ms=(START_S + 2900) * 1000)
    assert (late["resolutionMs"], len(late["items"])) == (1000, 10)
    assert node.aggregates.view(10, 10, to_ms=10**15)["to"] == node.aggregates.view(10, 10)["to"]


def test_a_point_that_is_over_is_the_same_when_it_is_asked_again_and_the_store_of_them_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bounds, "AGGREGATE_POINTS_SHOWN_MAX", 10)
    node = Node()
    for _ in range(1800):
        node.second(1)
    first = node.items(1800, 30)
    assert node.items(1800, 30) == first
    assert [one["fulfilled"] for one in first] == [60] * 30
    assert len(node.aggregates._shown) == 10
    # A clock that is set back makes what was over unfinished.
    node.second(0, lasts=-300)
    for _ in range(400):
        node.second(1)
    assert max(one["fulfilled"] for one in node.items(600, 10) if one["fulfilled"]) > 60
