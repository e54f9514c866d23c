"""Dead letters: bounded in octets, the oldest go first, and that is counted."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from connector.base.disk import SystemDisk
from connector.base.errors import EnvironmentFault
from connector.sinks import bounds
from connector.sinks.dead import DeadLetters
from connector.sinks.port import Record, Refused


def refused(seq: int, octets: int = 100, reason: str = "HTTP 400") -> Refused:
    return Refused(Record(seq, seq, "ALERT", "x" * octets), reason)


def letters(folder: Path, bytes_max: int = 1 << 20) -> DeadLetters:
    return DeadLetters(SystemDisk().database(folder / "sinks.sqlite"), bytes_max)


async def test_each_sink_has_its_own_and_they_survive(tmp_path: Path) -> None:
    dead = letters(tmp_path)
    assert await dead.put("a", [refused(1), refused(2)], 5) == 0
    assert await dead.put("b", [refused(1)], 5) == 0
    await dead.close()
    dead = letters(tmp_path)
    assert [one.record.seq for one in await dead.page("a", 0, 10)] == [1, 2]
    assert [one.record.seq for one in await dead.page("a", 1, 10)] == [2]
    size = 100 + bounds.DEAD_OVERHEAD_BYTES
    assert await dead.counts("a") == (2, 2 * size, 0)
    await dead.remove("a", [1, 2])
    assert (await dead.counts("a")).letters == 0
    assert (await dead.counts("b")).letters == 1
    await dead.close()


async def test_all_sinks_may_come_at_once_before_it_is_open(tmp_path: Path) -> None:
    dead = letters(tmp_path)
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        counts = [group.create_task(dead.counts(name)) for name in "abc"]
        group.create_task(dead.put("a", [refused(1)], 5))
    assert [one.result().octets for one in counts] != []
    assert (await dead.counts("a")).letters == 1
    await dead.close()


async def test_the_oldest_go_when_there_is_no_room_and_are_counted(tmp_path: Path) -> None:
    size = 100 + bounds.DEAD_OVERHEAD_BYTES
    dead = letters(tmp_path, 3 * size)
    assert await dead.put("a", [refused(seq) for seq in range(1, 4)], 5) == 0
    assert await dead.put("a", [refused(4), refused(5)], 6) == 2
    assert [one.record.seq for one in await dead.page("a", 0, 10)] == [3, 4, 5]
    assert (await dead.counts("a")).lost == 2
    # One that is larger than all the room does not stay.
    assert await dead.put("a", [refused(6, 10_000)], 7) == 4
    assert await dead.counts("a") == (0, 0, 6)
    await dead.close()


async def test_the_same_again_counts_its_attempts(tmp_path: Path) -> None:
    dead = letters(tmp_path)
    await dead.put("a", [refused(1)], 5)
    assert await dead.deliver_again("a", 1) == 1
    assert [one.record.seq for one in await dead.due("a")] == [1]
    await dead.put("a", [refused(1, reason="HTTP 422")], 9)
    (one,) = await dead.page("a", 0, 10)
    assert (one.attempts, one.reason, one.died_ms, one.again) == (2, "HTTP 422", 9, False)
    assert await dead.due("a") == []
    await dead.close()


async def test_a_page_is_bounded_in_octets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "DEAD_SHOWN_BYTES_MAX", 250)
    dead = letters(tmp_path)
    await dead.put("a", [refused(seq) for seq in range(1, 5)], 5)
    assert len(await dead.page("a", 0, 10)) == 2
    await dead.close()


async def test_a_disk_that_fails_is_said(tmp_path: Path) -> None:
    (tmp_path / "sinks.sqlite").mkdir()
    dead = letters(tmp_path)
    with pytest.raises(EnvironmentFault, match="dead letters cannot be kept"):
        await dead.put("a", [refused(1)], 5)
    await dead.close()
