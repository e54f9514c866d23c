"""Room on the disk: when events and new packets stop, and when they go on."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from connector.base.disk import SystemDisk
from connector.base.room import TRANSITIONS, DiskRoom, Level, Reading, reading_of
from tests.support.daemons import EventLog

RESERVE = 800


class FakeDisk:
    """Measures what it is told to."""

    def __init__(self) -> None:
        self.free = 10 * RESERVE
        self.error: OSError | None = None
        self.asked = 0

    async def free_bytes(self, path: Path) -> int:
        self.asked += 1
        if self.error is not None:
            raise self.error
        return self.free


class Watched:
    """A room, and what it has told."""

    def __init__(self, reserve: int = RESERVE) -> None:
        self.disk = FakeDisk()
        self.log = EventLog()
        self.levels: list[Level] = []
        self.room = DiskRoom(
            disk=self.disk, path=Path("data"), reserve_bytes=reserve, log=self.log,
            on_level=self.levels.append,
        )  # fmt: skip

    async def at(self, free: int) -> Level:
        self.disk.free = free
        await self.room.look()
        return self.room.level


@pytest.mark.parametrize(
    ("free", "reading"),
    [
        (0, Reading.BELOW_RESERVE), (799, Reading.BELOW_RESERVE), (800, Reading.JUST_ABOVE),
        (899, Reading.JUST_ABOVE), (900, Reading.LITTLE), (1599, Reading.LITTLE),
        (1600, Reading.JUST_ENOUGH), (1799, Reading.JUST_ENOUGH), (1800, Reading.ENOUGH),
    ],
)  # fmt: skip
def test_one_step_over_each_line(free: int, reading: Reading) -> None:
    assert reading_of(free, RESERVE) is reading


def test_less_room_never_means_a_better_level() -> None:
    order = list(Level)
    for level in Level:
        after = [order.index(TRANSITIONS[level, reading]) for reading in Reading]
        assert all(less >= more for less, more in pairwise(after))
    for reading in Reading:
        after = [order.index(TRANSITIONS[level, reading]) for level in Level]
        assert after == sorted(after), "one that was worse off does not recover first"


async def test_events_stop_first_and_everything_goes_on_by_itself() -> None:
    watched = Watched()
    levels = [await watched.at(free) for free in (8000, 1599, 1200, 799, 0, 899, 900, 1799, 1800)]
    assert levels == [
        Level.AMPLE, Level.LOW, Level.LOW, Level.FULL, Level.FULL, Level.FULL, Level.LOW, Level.LOW,
        Level.AMPLE,
    ]  # fmt: skip
    assert watched.levels == [Level.LOW, Level.FULL, Level.LOW, Level.AMPLE]
    assert watched.log.count("disk_nearly_full") == 3, "one line for each change"
    assert watched.log.count("disk_has_room") == 1


async def test_it_says_what_does_not_happen() -> None:
    watched = Watched()
    said = {await watched.at(free): watched.room.reason for free in (0, 1000, 8000)}
    assert "new packets are refused" in said[Level.FULL]
    assert "events are not kept" in said[Level.LOW]
    assert said[Level.AMPLE] == ""


async def test_a_disk_that_cannot_be_measured_keeps_its_level() -> None:
    watched = Watched()
    assert await watched.at(0) is Level.FULL
    watched.disk.error = OSError(5, "Input/output error")
    assert [await watched.at(8000) for _ in range(3)] == [Level.FULL] * 3
    assert watched.log.count("disk_not_measured") == 1
    watched.disk.error = None
    assert await watched.at(8000) is Level.AMPLE


async def test_without_a_reserve_nothing_is_measured() -> None:
    watched = Watched(0)
    assert await watched.at(0) is Level.AMPLE
    assert watched.disk.asked == 0


async def test_the_disk_of_this_machine_is_measured_also_for_a_folder_that_is_not_there_yet(
    tmp_path: Path,
) -> None:
    disk = SystemDisk()
    there = await disk.free_bytes(tmp_path)
    assert there > 0
    later = await disk.free_bytes(tmp_path / "not" / "yet")
    assert 0.5 < later / there < 2
    assert await disk.free_bytes(Path("not-yet")) > 0
