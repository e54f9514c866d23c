"""What each peer had by the minute: nothing twice, nothing lost, gaps as gaps."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector.telemetry import bounds
from connector.telemetry.peer_minutes import PeerMinutes, PeerRow

START_S = 1_700_000_040
"""On a minute."""


class Node:
    """Counters and a clock that are set by hand; it runs all the time but in `away`."""

    def __init__(self) -> None:
        self.at_s = START_S
        self.peers: dict[str, PeerRow] = {"a": PeerRow(), "b": PeerRow()}
        self.away: set[int] = set()
        self.handed: list[tuple[int, str, PeerRow]] = []
        self.start()

    def start(self) -> None:
        self.minutes = PeerMinutes(
            read=lambda: [(peer, _copy(row)) for peer, row in self.peers.items()],
            now_ms=lambda: self.at_s * 1000,
            known_s=lambda minute: 0 if minute in self.away or minute < START_S else 60,
            sink=lambda minute, peer, row: self.handed.append((minute, peer, row)),
        )
        self.minutes.restore([(minute, peer, _copy(row)) for minute, peer, row in self.handed])
        self.minutes.sample()

    def later(self, seconds: int) -> None:
        self.at_s += seconds
        self.minutes.sample()

    def stored(self, peer: str, points: range) -> dict[int, PeerRow]:
        """As the event store does it."""
        found: dict[int, PeerRow] = {}
        for minute, of, row in self.handed:
            if of == peer and points.start <= minute < points.stop:
                at = minute - (minute - points.start) % points.step
                found.setdefault(at, PeerRow()).add(row)
        return found

    def counts(self, peer: str, range_s: int = 300) -> list[int | None]:
        points = self.minutes.window(range_s, 300)
        items = self.minutes.view(peer, points, self.stored(peer, points))["items"]
        return [one["fulfilledIn"] for one in items]


def _copy(row: PeerRow) -> PeerRow:
    copied = PeerRow()
    copied.add(row)
    return copied


def test_a_minute_has_what_came_in_it_and_the_one_under_way_what_has_come_so_far() -> None:
    node = Node()
    node.peers["a"].fulfilled_in = 3
    node.later(60)
    node.peers["a"].fulfilled_in = 8
    node.later(60)
    node.peers["a"].fulfilled_in = 9
    assert node.counts("a") == [None, None, 3, 5, 1]
    assert node.counts("b") == [None, None, 0, 0, 0]
    assert [(minute - START_S, peer, row.fulfilled_in) for minute, peer, row in node.handed] == [
        (0, "a", 3), (60, "a", 5),
    ]  # fmt: skip


def test_codes_and_amounts_are_those_of_the_minute() -> None:
    node = Node()
    node.peers["b"] = PeerRow(1, 3, 4, 5, 600, 700, {"F02": 2, "T04": 1})
    node.later(60)
    node.peers["b"] = PeerRow(1, 4, 4, 5, 600, 2**70, {"F02": 3, "T04": 1})
    points = node.minutes.window(120, 300)
    for stored in (node.stored("b", points), None):
        first, second = node.minutes.view("b", points, stored)["items"]
        assert first["fulfilledIn"] == 1, "with and without a disk"
    assert first["codes"] == [{"code": "F02", "count": 2}, {"code": "T04", "count": 1}]
    assert (first["amountIn"], second["amountIn"]) == ("600", "0")
    assert (second["amountOut"], second["rejectedIn"]) == (str(2**70 - 700), 1)
    assert second["codes"] == [{"code": "F02", "count": 1}]


def test_after_a_restart_it_goes_on_and_the_time_between_is_a_gap() -> None:
    node = Node()
    node.peers["a"].fulfilled_in = 3
    node.later(10)
    node.minutes.flush()
    node.away = {START_S + 60, START_S + 120}
    node.at_s = START_S + 185
    node.peers = {"a": PeerRow(fulfilled_in=1)}  # counters begin anew, and one has come already
    node.start()
    node.peers["a"].fulfilled_in = 5
    assert node.counts("a", 240) == [3, None, None, 4]
    assert node.minutes.activity()["items"][0]["packets"][-4:] == [3, None, None, 4]
    # Flushed and started in the same minute: neither lost nor twice.
    node.minutes.flush()
    node.start()
    node.peers["a"].fulfilled_in = 7
    assert node.counts("a", 240)[-1] == 6


def test_a_standstill_is_spread_and_a_clock_that_is_set_back_loses_no_order() -> None:
    node = Node()
    node.peers["a"].fulfilled_in = 7
    node.later(180)
    assert node.counts("a", 240) == [2, 2, 3, 0]
    node.peers["a"].fulfilled_in = 100
    node.later(-120)
    node.peers["a"].fulfilled_in = 101
    node.later(60)
    assert sum(row.fulfilled_in for _, _, row in node.handed) == 8


def test_memory_holds_an_hour() -> None:
    node = Node()
    for _ in range(200):
        node.peers["a"].fulfilled_in += 1
        node.later(60)
    assert len(node.minutes._recent) == bounds.PEER_MINUTES_MAX
    activity = node.minutes.activity()
    assert activity["resolutionMs"] == 60_000
    assert [len(one["packets"]) for one in activity["items"]] == [bounds.PEER_MINUTES_MAX] * 2
    # What is older comes from the disk.
    assert node.counts("a", 7200)[:60] == [1] * 60


@pytest.mark.parametrize(("range_s", "points"), [(1, 1), (604_800, 1000), (604_800, 1), (60, 1000)])
def test_every_answer_is_bounded_and_its_points_lie_on_multiples(range_s: int, points: int) -> None:
    node = Node()
    window = node.minutes.window(range_s, points)
    assert 1 <= len(window) <= max(points, 604_800 // 21_600)
    assert window.start % window.step == 0
    past = node.minutes.window(range_s, points, (START_S - 86_400) * 1000)
    assert past.stop <= START_S - 86_400


@given(
    st.lists(st.integers(0, 2**80), min_size=6, max_size=6),
    st.dictionaries(st.text(max_size=3), st.integers(0, 10**9)),
)
def test_a_row_survives_the_disk(numbers: list[int], codes: dict[str, int]) -> None:
    row = PeerRow(*numbers, codes)  # type: ignore[arg-type]
    assert PeerRow.from_text(row.as_text()) == row


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", '["1"]', '["-1","0","0","0","0","0",{}]',
                                  '["x","0","0","0","0","0",{}]'])  # fmt: skip
def test_a_damaged_row_is_refused(text: str) -> None:
    with pytest.raises((ValueError, TypeError)):
        PeerRow.from_text(text)
