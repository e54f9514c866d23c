"""Readers of the event store: nothing is skipped, and what was missed is counted exactly."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from connector.base.disk import SystemDisk
from connector.base.errors import EnvironmentFault
from connector.telemetry import bounds as telemetry_bounds
from connector.telemetry import bus as bus_module
from connector.telemetry.bus import EventBus
from connector.telemetry.events import Event, PacketReceived, PeerConnected
from connector.telemetry.store import EventStore
from connector.telemetry.store_readers import Reading
from tests.support.daemons import EventLog
from tests.support.ledgers import ManualClock

DAY_S = 86_400
Open = Callable[..., Awaitable["Setup"]]


class Setup:
    """A store with readers, and a bus that feeds it."""

    def __init__(self, path: Path, clock: ManualClock, *, events_max: int = 1000) -> None:
        self.clock = clock
        self.no_room = ""
        self.written = 0
        self.store = EventStore(
            path=path,
            disk=SystemDisk(),
            node_id="me",
            clock=clock,
            log=EventLog(),
            events_max=events_max,
            bytes_max=1 << 30,
            retention_days=7,
            no_room=lambda: self.no_room,
        )
        self.bus = EventBus(node_id="me", clock=clock)
        self.bus.hand_to(self.store.take)
        self.bus.tell_lost(self.store.note_lost)
        self.store.add_reader("all", None, self._note_written)
        self.store.add_reader("links", ["PEER_CONNECTED"], self._note_written)

    def _note_written(self) -> None:
        self.written += 1

    async def open(self) -> None:
        await self.store.open()
        self.bus.number_from(self.store.last_seq)

    async def tell(self, *events: Event) -> list[int]:
        """Emit and write these; their numbers."""
        first = self.bus.seq + 1
        for event in events:
            self.bus.emit(event)
        self.bus.flush()
        await self.store.write()
        return list(range(first, first + len(events)))

    async def read(self, name: str = "all", count: int = 100, bytes_max: int = 1 << 20) -> Reading:
        return await self.store.read_next(
            name, count=count, bytes_max=bytes_max, gap_seq=self.bus.take_number()
        )

    async def take(self, name: str = "all", count: int = 100) -> tuple[list[int], int]:
        """Read and advance; the numbers read, and how many are said to be missed."""
        reading = await self.read(name, count)
        seqs = [one.seq for one in reading.events]
        await self.store.advance(name, seqs, gap=reading.gap is not None)
        return seqs, 0 if reading.gap is None else reading.gap.missed


@pytest.fixture
async def opened(tmp_path: Path) -> AsyncIterator[Open]:
    made: list[Setup] = []

    async def make(clock: ManualClock | None = None, **options: Any) -> Setup:
        setup = Setup(tmp_path / "events.sqlite", clock or ManualClock(), **options)
        await setup.open()
        made.append(setup)
        return setup

    yield make
    for setup in made:
        await setup.store.close()


def link() -> PeerConnected:
    return PeerConnected(peer_id="bob", direction="inbound")


def packet(number: int = 1) -> PacketReceived:
    return PacketReceived(
        packet_id=number << 8,
        peer_id="alice",
        destination="g.bob",
        amount=number,
        expires_at=0,
        execution_condition=bytes(32),
    )


async def test_each_reader_gets_the_events_of_its_types_in_order_and_once(opened: Open) -> None:
    setup = await opened()
    seqs = await setup.tell(link(), packet(), packet(), link())
    assert await setup.take("all", count=3) == (seqs[:3], 0)
    assert await setup.take("all", count=3) == (seqs[3:], 0)
    assert await setup.take("all") == ([], 0)
    assert setup.store.pending("links") == 2
    assert await setup.take("links") == ([seqs[0], seqs[3]], 0)
    assert (setup.store.pending("all"), setup.store.pending("links")) == (0, 0)
    assert setup.written == 2


async def test_what_was_read_and_not_confirmed_comes_again_also_after_a_restart(
    opened: Open, tmp_path: Path
) -> None:
    setup = await opened()
    seqs = await setup.tell(*[packet()] * 5)
    await setup.take("all", count=2)
    assert [one.seq for one in (await setup.read()).events] == seqs[2:]
    await setup.store.close()
    again = await opened(setup.clock)
    assert again.store.pending("all") == 3
    assert await again.take() == (seqs[2:], 0)


async def test_a_batch_is_bounded_in_octets_but_never_empty(opened: Open) -> None:
    setup = await opened()
    seqs = await setup.tell(*[packet()] * 3)
    reading = await setup.read(bytes_max=1)
    assert [one.seq for one in reading.events] == seqs[:1]
    assert reading.has_more
    size = len(reading.events[0].body)
    assert len((await setup.read(bytes_max=2 * size)).events) == 2


async def test_deleted_events_are_missed_exactly_and_told_once(opened: Open) -> None:
    setup = await opened(events_max=10)
    seqs = await setup.tell(*[packet()] * 25)
    assert setup.store.stored == 10
    reading = await setup.read()
    gap = reading.gap
    assert gap is not None
    assert (gap.missed, gap.total, gap.from_seq, gap.to_seq) == (15, 15, seqs[0], seqs[14])
    assert [one.seq for one in reading.events] == seqs[15:]
    # Until it is told it stays as it is, whatever goes meanwhile.
    more = await setup.tell(*[packet()] * 10)
    again = await setup.read()
    assert again.gap == gap
    await setup.store.advance("all", [], gap=True)
    reading = await setup.read()
    assert reading.gap is not None
    assert (reading.gap.missed, reading.gap.total) == (10, 25)
    assert [one.seq for one in reading.events] == more
    assert reading.gap.seq not in seqs + more
    # Nobody missed a link.
    assert await setup.take("links") == ([], 0)


async def test_what_is_deleted_while_it_is_delivered_is_not_missed(opened: Open) -> None:
    setup = await opened(events_max=10)
    first = await setup.tell(*[packet()] * 10)
    reading = await setup.read()
    assert len(reading.events) == 10
    later = await setup.tell(*[packet()] * 14)  # the ten go, and four of these
    await setup.store.advance("all", first, gap=False)
    assert await setup.take() == (later[4:], 4)
    assert await setup.take() == ([], 0)


async def test_old_events_and_rare_ones_are_counted_too(opened: Open) -> None:
    setup = await opened(events_max=100)
    await setup.tell(*[link()] * 30)  # a tenth of 100 is for these
    assert (await setup.take("links"))[1] == 20
    await setup.tell(*[packet()] * 5, link())
    setup.clock.advance(8 * DAY_S)
    await setup.store.write()
    seqs, missed = await setup.take("links")
    assert (seqs, missed) == ([], 1)
    assert (await setup.take("all"))[1] == 36


async def test_what_could_not_be_written_is_missed(opened: Open) -> None:
    setup = await opened()
    setup.no_room = "the disk is nearly full"
    await setup.tell(packet(), link(), packet())
    setup.no_room = ""
    seqs = await setup.tell(packet())
    assert await setup.take("all") == (seqs, 3)
    assert await setup.take("links") == ([], 1)


async def test_what_a_full_disk_did_not_take_is_missed_and_told_when_there_is_room(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup = await opened()
    writing = setup.store._file._insert_events
    fails = True

    def full(file: sqlite3.Connection, batch: Any) -> None:
        writing(file, batch)
        if fails:
            raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(setup.store._file, "_insert_events", full)
    await setup.tell(packet(), link())
    assert setup.store.dropped == 2
    assert await setup.take("all") == ([], 0)
    fails = False
    setup.clock.advance(6)
    seqs = await setup.tell(packet())
    assert await setup.take("all") == (seqs, 2)
    assert await setup.take("links") == ([], 1)


async def test_what_is_stored_although_the_limits_could_not_be_applied_is_not_missed(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup = await opened()

    def fails(_file: sqlite3.Connection, _now_ms: int) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(setup.store._file, "_trim", fails)
    seqs = await setup.tell(packet())
    monkeypatch.undo()
    setup.clock.advance(6)
    seqs += await setup.tell(packet())
    assert await setup.take("all") == (seqs, 0)


async def test_what_overflowed_on_the_way_to_the_store_is_missed(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup = await opened()
    monkeypatch.setattr(telemetry_bounds, "EVENT_STORE_QUEUE_EVENTS_MAX", 4)
    assert bus_module.bounds.TELEMETRY_RING_EVENTS_MAX > 4
    seqs = await setup.tell(*[packet()] * 6)
    await setup.tell(packet())
    got, missed = await setup.take("all")
    assert (got[:4], missed) == (seqs[:4], 2)


async def test_numbers_that_a_reader_knows_are_not_used_again_when_the_clock_is_set_back(
    opened: Open,
) -> None:
    setup = await opened()
    seqs = await setup.tell(packet())
    await setup.take()
    setup.clock.advance(8 * DAY_S)
    await setup.store.write()  # all has gone
    assert setup.store.stored == 0
    await setup.store.close()
    earlier = ManualClock(setup.clock.ns - 30 * DAY_S * 1_000_000_000)
    again = await opened(earlier)
    (seq,) = await again.tell(packet())
    assert seq > seqs[0]
    assert await again.take() == ([seq], 0)


async def test_a_store_that_is_not_open_says_so(tmp_path: Path) -> None:
    setup = Setup(tmp_path / "events.sqlite", ManualClock())
    with pytest.raises(EnvironmentFault, match="not open"):
        await setup.read()


async def test_whatever_happens_read_and_missed_are_what_was_emitted(opened: Open) -> None:
    """Random writes, reads, deletions, failures and restarts, against plain sums."""
    chance = random.Random(20)
    setup = await opened(events_max=40)
    emitted: list[int] = []
    got: list[int] = []
    missed = 0
    for _ in range(300):
        match chance.randrange(5):
            case 0 | 1:
                setup.no_room = "full" if chance.random() < 0.1 else ""
                emitted += await setup.tell(*[packet()] * chance.randrange(30))
            case 2:
                await setup.read(count=chance.randrange(1, 30))  # a crash before it is confirmed
            case 3:
                reading = await setup.read(count=chance.randrange(1, 30))
                emitted += await setup.tell(*[packet()] * chance.randrange(60))
                seqs = [one.seq for one in reading.events]
                await setup.store.advance("all", seqs, gap=reading.gap is not None)
                got += seqs
                missed += 0 if reading.gap is None else reading.gap.missed
            case _:
                setup.no_room = ""
                await setup.tell()  # losses of this process would be forgotten with it
                emitted += await setup.tell(packet())
                await setup.store.close()
                setup = await opened(setup.clock, events_max=40)
    setup.no_room = ""
    emitted += await setup.tell(packet())
    for _ in range(5):
        seqs, gone = await setup.take()
        got += seqs
        missed += gone
    assert got == sorted(set(got))
    assert set(got) <= set(emitted)
    assert len(got) + missed == len(emitted)
    assert missed > 0
    assert setup.store.pending("all") == 0
