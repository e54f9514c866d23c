"""A wall clock without jumps."""

from __future__ import annotations

import pytest

from connector.base.clock import JUMP_LASTS_SECONDS, SteadyClock

S = 1_000_000_000
START = 1_700_000_000 * S


class Machine:
    """A machine whose wall clock can be set."""

    def __init__(self) -> None:
        self.elapsed_ns = 5 * S
        self.set_by_ns = 0
        self.clock = SteadyClock(
            lambda: START + self.elapsed_ns + self.set_by_ns, lambda: self.elapsed_ns
        )

    def run(self, seconds: float) -> list[float]:
        """Let time pass, and look at the clock once a second; the jumps that were told."""
        told = []
        for _ in range(int(seconds)):
            self.elapsed_ns += S
            jump_s = self.clock.watch()
            if jump_s is not None:
                told.append(jump_s)
        return told

    @property
    def off_s(self) -> float:
        """How far it is from the time that has elapsed since the start."""
        return (self.clock.now_ns() - START - self.elapsed_ns) / S


def test_it_shows_the_wall_clock() -> None:
    machine = Machine()
    assert machine.clock.now_ns() == START + 5 * S
    assert machine.clock.now_ms() == (START + 5 * S) // 1_000_000
    assert machine.clock.monotonic_s() == 5.0
    assert machine.run(10) == []
    assert machine.clock.now_ns() == START + 15 * S


@pytest.mark.parametrize("seconds", [3600, 300, -300])
def test_a_jump_is_told_once_and_followed_when_it_lasts(seconds: int) -> None:
    machine = Machine()
    machine.set_by_ns = seconds * S
    assert machine.off_s == 0
    assert machine.run(JUMP_LASTS_SECONDS) == [seconds]
    assert machine.off_s == 0  # what was in flight has kept its time
    assert machine.run(2) == []
    assert machine.off_s == seconds


def test_a_jump_that_is_taken_back_is_not_followed() -> None:
    machine = Machine()
    machine.set_by_ns = 3600 * S
    assert machine.run(30) == [3600]
    machine.set_by_ns = 0
    assert machine.run(100) == []
    assert machine.off_s == 0


def test_another_jump_meanwhile_is_told_and_lasts_from_then() -> None:
    machine = Machine()
    machine.set_by_ns = 3600 * S
    assert machine.run(50) == [3600]
    machine.set_by_ns = 7200 * S
    assert machine.run(50) == [7200]
    assert machine.off_s == 0
    machine.run(20)
    assert machine.off_s == 7200


def test_small_corrections_are_followed_at_once() -> None:
    machine = Machine()
    machine.set_by_ns = -S // 2
    assert machine.run(1) == []
    assert machine.off_s == -0.5
