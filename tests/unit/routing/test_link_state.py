"""When the routes over a neighbour rank last: after a while without a link, for longer if that happens again and again."""

from __future__ import annotations

import pytest

from connector.routing import bounds
from connector.routing.link_state import LinkState


class Watched:
    """A link, its time, and when its rank has changed."""

    def __init__(self) -> None:
        self.link = LinkState()
        self.now_ms = 0
        self.changes: list[tuple[int, bool]] = []

    def run(self, duration_ms: int) -> None:
        until_ms = self.now_ms + duration_ms
        while self.now_ms < until_ms:
            self.now_ms += 10
            if self.link.tick(self.now_ms):
                self.changes.append((self.now_ms, self.link.ranks_last))

    def outage(self, duration_ms: int, *, comes_back: bool = False) -> None:
        self.link.lost(self.now_ms, comes_back=comes_back)
        self.run(duration_ms)
        self.link.connected(self.now_ms)


def test_a_link_that_is_back_soon_changes_nothing() -> None:
    one = Watched()
    for _ in range(20):
        one.outage(bounds.LOST_MS - 10)
        one.run(100)
    assert one.changes == []


def test_a_link_that_is_lost_for_longer_ranks_last_until_it_is_back() -> None:
    one = Watched()
    one.outage(3000)
    one.run(1000)
    assert one.changes == [(bounds.LOST_MS, True), (3010, False)]


def test_a_neighbour_that_is_replaced_ranks_last_when_packets_wait_no_longer() -> None:
    one = Watched()
    one.outage(bounds.REPLACED_MS - 10, comes_back=True)
    one.run(1000)
    assert one.changes == []
    one.outage(bounds.REPLACED_MS + 10, comes_back=True)
    one.run(1000)
    assert [is_last for _, is_last in one.changes] == [True, False]


def test_a_link_that_comes_and_goes_moves_routes_ever_more_rarely() -> None:
    one = Watched()
    for _ in range(600):
        one.outage(600)
        one.run(400)
    assert one.now_ms == 600_000
    # Once at first, and again only after it was there for two seconds in a row, which it never is.
    assert one.changes == [(500, True), (610, False), (1500, True)]


@pytest.mark.parametrize("steady_ms", [5_000, 30_000])
def test_the_wait_doubles_up_to_its_maximum(steady_ms: int) -> None:
    one = Watched()
    for _ in range(200):
        one.outage(1000)
        one.run(steady_ms)
    assert len(one.changes) < 2 * 8, "as many as there are doublings"


def test_after_a_steady_time_an_outage_is_the_first_again() -> None:
    one = Watched()
    for _ in range(5):
        one.outage(1000)
        one.run(bounds.STEADY_MS + 1000)
    assert len(one.changes) == 10
    assert all(at_ms % 62_000 in (500, 1010) for at_ms, _ in one.changes)


def test_a_link_lost_again_while_it_waits_is_no_new_loss() -> None:
    one = Watched()
    for _ in range(3):
        one.outage(1000)
        one.run(100)
    changes = len(one.changes)
    one.outage(1000)
    one.outage(1000)
    one.run(bounds.STEADY_MS)
    assert len(one.changes) == changes + 1
    assert not one.link.ranks_last
