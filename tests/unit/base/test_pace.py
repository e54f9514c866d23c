"""Where commits are made: on the event loop while they are short there."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from connector.base.pace import (
    LONG_MAX,
    LONG_WEIGHT,
    REST,
    SETTLED_SECONDS,
    SHARE_MAX,
    SHARE_SECONDS,
    SHORT_SECONDS,
    STALL_SECONDS,
    TRIAL_COMMITS,
    Pace,
    Phase,
)

SHORT, LONG = SHORT_SECONDS / 2, SHORT_SECONDS * 2


class Disk:
    """Commits as they are asked for, one every `every_s`."""

    def __init__(self, every_s: float = 0.01) -> None:
        self.now_s = 0.0
        self.every_s = every_s
        self.pace = Pace(self.now_s)

    def commit(self, taken_s: float) -> Phase:
        self.now_s += self.every_s
        if self.pace.is_on_loop(self.now_s):
            began_s = self.now_s
            self.now_s += taken_s
            self.pace.took(began_s, self.now_s)
        return self.pace.phase

    def settle(self) -> None:
        for _ in range(TRIAL_COMMITS):
            assert self.pace.phase is not Phase.LOOP
            self.commit(SHORT)
        assert self.pace.phase is Phase.LOOP

    def until_trial(self) -> float:
        """Seconds until a commit is made on the loop again."""
        began_s = self.now_s
        while not self.pace.is_on_loop(self.now_s):
            self.now_s += 0.1
        return self.now_s - began_s


def test_a_fast_disk_commits_on_the_loop_after_a_trial() -> None:
    disk = Disk()
    disk.settle()
    for _ in range(1000):
        assert disk.commit(SHORT) is Phase.LOOP


def test_a_slow_disk_has_few_commits_on_the_loop_and_ever_fewer() -> None:
    disk = Disk()
    rests = []
    for _ in range(10):
        on_loop = 0
        while disk.pace.phase is not Phase.THREAD or disk.pace.is_on_loop(disk.now_s):
            disk.commit(LONG)
            on_loop += 1
        assert on_loop <= LONG_MAX // 4 // LONG_WEIGHT + 1
        rests.append(disk.until_trial())
    for rest, failures in zip(rests, range(1, 11), strict=True):
        assert REST.grown_s(failures) <= rest <= REST.grown_s(failures) + 0.2


def test_one_stall_ends_it_at_once() -> None:
    disk = Disk()
    assert disk.commit(STALL_SECONDS * 1.5) is Phase.THREAD
    disk.until_trial()
    disk.settle()
    assert disk.commit(STALL_SECONDS * 1.5) is Phase.THREAD


def test_a_few_long_commits_among_many_are_borne() -> None:
    disk = Disk()
    disk.settle()
    for _ in range(200):
        assert disk.commit(LONG) is Phase.LOOP
        for _ in range(LONG_WEIGHT):
            assert disk.commit(SHORT) is Phase.LOOP


def test_too_many_long_commits_are_not() -> None:
    disk = Disk()
    disk.settle()
    count = 0
    while disk.commit(LONG) is Phase.LOOP:
        count += 1
    assert count == LONG_MAX // LONG_WEIGHT


def test_short_commits_that_fill_the_loop_go_to_the_thread() -> None:
    disk = Disk(every_s=SHORT / 10)
    while disk.commit(SHORT) is not Phase.THREAD:
        assert disk.now_s < 2 * SHARE_SECONDS


def test_a_share_is_counted_over_a_second_at_a_time() -> None:
    disk = Disk(every_s=SHORT / SHARE_MAX * 1.5)
    for _ in range(20_000):
        disk.commit(SHORT)
    assert disk.pace.phase is Phase.LOOP


def test_after_a_long_stay_on_the_loop_the_rest_is_short_again() -> None:
    disk = Disk()
    for _ in range(5):
        disk.commit(STALL_SECONDS * 1.5)
        disk.until_trial()
    disk.settle()
    while disk.now_s - disk.pace._since_s < SETTLED_SECONDS:
        disk.commit(SHORT)
    assert disk.commit(STALL_SECONDS * 1.5) is Phase.THREAD
    assert disk.until_trial() <= REST.min_s + 0.2


@given(st.lists(st.tuples(st.floats(0, 0.1), st.floats(0, 10)), max_size=300))
def test_the_loop_never_waits_for_more_than_its_share_and_one_commit(
    commits: list[tuple[float, float]],
) -> None:
    """Over any second that begins with a commit: twice the share, and what went over it."""
    disk = Disk(every_s=0)
    taken: list[tuple[float, float]] = []
    for taken_s, pause_s in commits:
        disk.now_s += pause_s
        before_s = disk.now_s
        disk.commit(taken_s)
        if disk.now_s > before_s:
            taken.append((before_s, taken_s))
    for begun_s, _ in taken:
        within = [one for at_s, one in taken if begun_s <= at_s < begun_s + SHARE_SECONDS]
        assert sum(within) <= 2 * SHARE_MAX * SHARE_SECONDS + 2 * max(within) + 1e-9
