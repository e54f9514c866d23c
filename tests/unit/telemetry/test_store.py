"""The event store: queries, limits, and a failing disk."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from connector.base.disk import SystemDisk
from connector.peering.model import Asset
from connector.telemetry import bounds as telemetry_bounds
from connector.telemetry import store_file
from connector.telemetry.bus import EventBus
from connector.telemetry.events import (
    TYPES,
    AccountBalance,
    Event,
    NodeStatus,
    PacketFulfilled,
    PacketReceived,
    PacketRejected,
    PeerConnected,
)
from connector.telemetry.store import EventStore
from connector.telemetry.store_query import EventQuery
from tests.support.daemons import EventLog
from tests.support.ledgers import ManualClock

USD = Asset("USD", 9)
MINUTE = 60.0
Open = Callable[..., Awaitable["StoreSetup"]]


class StoreSetup:
    """A store, a bus that feeds it, and time."""

    def __init__(
        self,
        path: Path,
        clock: ManualClock,
        *,
        events_max: int = 1000,
        bytes_max: int = 1 << 30,
        days: int = 7,
    ) -> None:
        self.clock = clock
        self.log = EventLog()
        self.store = EventStore(
            path=path,
            disk=SystemDisk(),
            node_id="me",
            clock=clock,
            log=self.log,
            events_max=events_max,
            bytes_max=bytes_max,
            retention_days=days,
        )
        self.bus = EventBus(node_id="me", clock=clock)
        self.bus.hand_to(self.store.take)

    async def tell(self, *events: Event) -> None:
        for event in events:
            self.bus.emit(event)
        self.bus.flush()
        await self.store.write()

    async def find(self, **query: Any) -> list[dict[str, Any]]:
        found = await self.store.events(EventQuery(**query))
        return [json.loads(text) for text in found.items]

    async def amounts(self, **query: Any) -> list[int]:
        return [int(event["amount"]) for event in await self.find(**query)]

    async def nets(self, seconds: float, points: int = 300) -> list[int]:
        """Of bob, over the last so many seconds."""
        now_ms = self.clock.now_ms()
        _, found = await self.store.history(
            "bob", USD, now_ms - round(seconds * 1000), now_ms, points
        )
        return [int(point.net) for point in found]


def link(peer_id: str = "bob") -> PeerConnected:
    return PeerConnected(peer_id=peer_id, direction="inbound")


def received(number: int, peer_id: str = "alice") -> PacketReceived:
    return PacketReceived(
        packet_id=number << 8,
        peer_id=peer_id,
        destination="g.bob",
        amount=number,
        expires_at=0,
        execution_condition=bytes(32),
    )


def fulfilled(number: int, peer_id: str = "alice", next_hop: str = "bob") -> PacketFulfilled:
    return PacketFulfilled(
        packet_id=number << 8,
        peer_id=peer_id,
        next_hop=next_hop,
        destination="g.bob",
        amount=number,
        duration_ms=1.0,
    )


def balance(net: int, peer_id: str = "bob") -> AccountBalance:
    return AccountBalance(
        peer_id=peer_id,
        asset_code="USD",
        asset_scale=9,
        debit_balance=max(net, 0),
        credit_balance=max(-net, 0),
        net_balance=net,
        pending_debits=0,
        pending_credits=0,
        credit_limit=1000,
        available_credit=1000,
        settlement_threshold=None,
    )


def status() -> NodeStatus:
    return NodeStatus(
        ilp_address="g.me",
        version="1",
        uptime_seconds=0,
        peers_connected=0,
        peers_total=0,
        routes=0,
        accounting="available",
    )


@pytest.fixture
async def open_store(tmp_path: Path) -> AsyncIterator[Open]:
    clock = ManualClock()
    desks: list[StoreSetup] = []

    async def open_one(**options: Any) -> StoreSetup:
        for setup in desks:
            await setup.store.close()
        setup = StoreSetup(tmp_path / "events.sqlite", clock, **options)
        desks.append(setup)
        await setup.store.open()
        setup.bus.number_from(setup.store.last_seq)
        return setup

    yield open_one
    for setup in desks:
        await setup.store.close()


# --- finding


async def test_events_are_found_newest_first_and_by_pages(open_store: Open) -> None:
    setup = await open_store()
    await setup.tell(*map(received, range(1, 8)))
    assert await setup.amounts() == [7, 6, 5, 4, 3, 2, 1]
    first = await setup.store.events(EventQuery(count=3))
    assert first.next is not None
    assert await setup.amounts(before=int(first.next), count=3) == [4, 3, 2]
    assert (await setup.store.events(EventQuery(count=8))).next is None


async def test_events_after_a_number_come_oldest_first(open_store: Open) -> None:
    setup = await open_store()
    await setup.tell(*map(received, range(1, 8)))
    third = (await setup.find(after=0, count=3))[-1]
    assert third["amount"] == "3"
    assert await setup.amounts(after=third["seq"], count=2) == [4, 5]
    assert await setup.amounts(after=third["seq"], types=["PACKET_RECEIVED"]) == [4, 5, 6, 7]


async def test_filters_combine(open_store: Open) -> None:
    setup = await open_store()
    await setup.tell(link("alice"), received(1), fulfilled(1), received(2, "bob"), link("bob"))
    await setup.tell(fulfilled(2, "bob", "alice"))
    assert len(await setup.find(types=["PEER_CONNECTED"])) == 2
    assert await setup.amounts(peer="alice", types=["PACKET_RECEIVED", "PACKET_FULFILLED"]) == [
        2,
        1,
        1,
    ]
    assert [event["type"] for event in await setup.find(peer="bob")] == [
        "PACKET_FULFILLED",
        "PEER_CONNECTED",
        "PACKET_RECEIVED",
        "PACKET_FULFILLED",
    ]
    one = f"{1 << 8:032x}"
    assert [event["type"] for event in await setup.find(packet=one)] == [
        "PACKET_FULFILLED",
        "PACKET_RECEIVED",
    ]
    assert len(await setup.find(packet=one, types=["PACKET_RECEIVED"])) == 1
    assert len(await setup.find(packet=one, peer="bob")) == 1
    assert await setup.find(packet=one, peer="carol") == []


async def test_time_limits_are_inclusive(open_store: Open) -> None:
    setup = await open_store()
    times = []
    for number in range(1, 6):
        times.append(setup.clock.now_ms())
        await setup.tell(received(number))
        setup.clock.advance(MINUTE)
    assert await setup.amounts(from_ms=times[2]) == [5, 4, 3]
    assert await setup.amounts(to_ms=times[2]) == [3, 2, 1]
    assert await setup.amounts(from_ms=times[1], to_ms=times[3]) == [4, 3, 2]
    assert await setup.amounts(from_ms=times[1] + 1, to_ms=times[3] - 1) == [3]
    assert await setup.amounts(from_ms=times[4] + 1) == []
    assert await setup.amounts(to_ms=times[0] - 1) == []
    assert await setup.amounts(types=["PACKET_RECEIVED"], from_ms=times[3]) == [5, 4]


async def test_queued_events_are_found(open_store: Open) -> None:
    setup = await open_store()
    setup.bus.emit(received(1))
    setup.bus.flush()
    assert await setup.amounts() == [1]


async def test_events_survive_a_restart_and_numbers_continue(open_store: Open) -> None:
    setup = await open_store()
    await setup.tell(received(1))
    last = setup.bus.seq
    setup.clock.advance(-3600.0)  # the clock was wrong
    setup = await open_store()
    assert setup.store.last_seq == last
    await setup.tell(received(2))
    assert await setup.amounts() == [2, 1]
    assert setup.store.stored == 2


async def test_every_kind_of_event_has_a_number_in_the_file() -> None:
    codes = store_file.CODES
    assert codes.keys() == set(TYPES.values())
    assert len(set(codes.values())) == len(codes)


# --- what is kept


async def test_only_the_last_balance_and_a_tenth_of_the_status_are_kept(open_store: Open) -> None:
    setup = await open_store()
    for net in range(1, 21):
        setup.bus.emit(balance(net))
        setup.bus.emit(balance(-net, "carol"))
        setup.bus.emit(status())
    await setup.tell()
    kept = await setup.find(types=["ACCOUNT_BALANCE"])
    assert {(event["peerId"], event["netBalance"]) for event in kept} == {
        ("bob", "20"),
        ("carol", "-20"),
    }
    for _ in range(30):
        setup.clock.advance(1.0)
        await setup.tell(status())
    assert len(await setup.find(types=["NODE_STATUS"])) == 4


async def test_the_newest_events_stay_within_the_limit(open_store: Open) -> None:
    setup = await open_store(events_max=100)
    for begin in range(0, 1000, 50):
        await setup.tell(*map(received, range(begin, begin + 50)))
        assert setup.store.stored <= 100
    assert await setup.amounts(count=1000) == list(range(999, 899, -1))


async def test_rare_events_survive_a_flood_of_packets(open_store: Open) -> None:
    setup = await open_store(events_max=100)
    await setup.tell(link("first"))
    for begin in range(0, 500, 50):
        await setup.tell(*map(received, range(begin, begin + 50)))
    assert [event["peerId"] for event in await setup.find(types=["PEER_CONNECTED"])] == ["first"]
    for number in range(30):
        await setup.tell(link(f"peer-{number}"))
    rare = await setup.find(types=["PEER_CONNECTED"])
    assert [event["peerId"] for event in rare] == [f"peer-{n}" for n in range(29, 19, -1)]
    assert setup.store.stored <= 100


def refused(number: int) -> PacketRejected:
    """The longest event that a peer can cause."""
    return PacketRejected(
        packet_id=number << 8,
        peer_id="mallory",
        next_hop="carol",
        destination="g.carol." + "b" * 1000,
        amount=number,
        code="F99",
        message="\x01" * 8191,
        triggered_by="g." + "a" * 1000,
        duration_ms=1.0,
    )


def octets(tmp_path: Path) -> int:
    return (tmp_path / "events.sqlite").stat().st_size


async def test_a_long_reject_costs_a_few_kilobytes_on_disk(
    open_store: Open, tmp_path: Path
) -> None:
    setup = await open_store(events_max=100_000)
    await setup.tell(*map(refused, range(1000)))
    await setup.store.close()
    assert octets(tmp_path) < 1000 * 8192


@pytest.mark.long
async def test_the_file_stays_within_its_octets(open_store: Open, tmp_path: Path) -> None:
    limit = 2 << 20
    setup = await open_store(events_max=100_000, bytes_max=limit)
    await setup.tell(link("first"))
    for begin in range(0, 2000, 100):
        await setup.tell(*map(refused, range(begin, begin + 100)), balance(begin))
        assert setup.store.octets <= limit
    kept = await setup.amounts(types=["PACKET_REJECTED"], count=1000)
    assert 100 < len(kept) < 600
    assert kept == list(range(1999, 1999 - len(kept), -1)), "the newest stay"
    assert [one["peerId"] for one in await setup.find(types=["PEER_CONNECTED"])] == ["first"]
    assert (await setup.nets(3600))[-1] == 1900
    await setup.store.close()
    # Free pages are given back in steps.
    assert octets(tmp_path) <= limit + 2 * store_file.VACUUM_PAGES * 4096


@pytest.mark.long
async def test_rare_events_and_balances_alone_stay_within_the_octets(open_store: Open) -> None:
    limit = 1 << 20
    setup = await open_store(events_max=1_000_000, bytes_max=limit)
    for number in range(60):
        setup.clock.advance(3600.0)
        await setup.tell(
            *(link(f"peer-{number}-{index}") for index in range(100)),
            *(balance(number, f"peer-{index}") for index in range(100)),
        )
        assert setup.store.octets <= limit
    newest = await setup.find(types=["PEER_CONNECTED"], count=1)
    assert newest[0]["peerId"] == "peer-59-99"


@pytest.mark.long
async def test_a_lower_limit_of_octets_takes_effect_in_bounded_steps(
    open_store: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_file, "SLICE_ROWS", 100)
    monkeypatch.setattr(store_file, "SLICES_PER_WRITE", 3)
    setup = await open_store(events_max=100_000)
    await setup.tell(*map(refused, range(1000)))
    stored = setup.store.stored
    setup = await open_store(events_max=100_000, bytes_max=1 << 20)
    for _ in range(20):
        await setup.tell()
        assert stored - setup.store.stored <= 300
        stored = setup.store.stored
    assert setup.store.octets <= 1 << 20
    assert await setup.amounts(count=3) == [999, 998, 997]
    await setup.store.close()
    connection = sqlite3.connect(tmp_path / "events.sqlite")
    assert connection.execute("SELECT count(*) FROM events").fetchone() == (stored,)
    connection.close()


async def test_events_beyond_the_retention_are_deleted(open_store: Open) -> None:
    setup = await open_store(days=1)
    await setup.tell(received(1), link(), balance(5))
    setup.clock.advance(23 * 3600.0)
    await setup.tell(received(2))
    assert len(await setup.find()) == 4
    setup.clock.advance(2 * 3600.0)
    await setup.tell(received(3))
    assert await setup.amounts() == [3, 2]
    assert setup.store.stored == 2


@pytest.mark.long
async def test_a_lower_limit_takes_effect_and_frees_disk_space(
    open_store: Open, tmp_path: Path
) -> None:
    setup = await open_store(events_max=10_000)
    for begin in range(0, 10_000, 2500):
        await setup.tell(*map(received, range(begin, begin + 2500)))
    setup = await open_store(events_max=500)
    assert setup.store.stored == 10_000
    for _ in range(30):
        await setup.tell(link())
    assert setup.store.stored <= 500
    await setup.store.close()
    connection = sqlite3.connect(tmp_path / "events.sqlite")
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    (free,) = connection.execute("PRAGMA freelist_count").fetchone()
    assert connection.execute("PRAGMA auto_vacuum").fetchone() == (2,)
    assert connection.execute("SELECT count(*) FROM events").fetchone()[0] == setup.store.stored
    connection.close()
    assert free <= store_file.VACUUM_PAGES
    assert pages < 1000


async def test_counts_match_the_file(open_store: Open, tmp_path: Path) -> None:
    setup = await open_store(events_max=50, days=1)
    for number in range(300):
        setup.clock.advance(600.0)
        await setup.tell(received(number), balance(number), link(f"p{number}"))
    connection = sqlite3.connect(tmp_path / "events.sqlite")
    (events,) = connection.execute("SELECT count(*) FROM events").fetchone()
    (points,) = connection.execute("SELECT count(*) FROM balances").fetchone()
    connection.close()
    assert (setup.store.stored, setup.store.history_points) == (events, points)
    assert events <= 50
    assert points <= 52


# --- balances over time


async def test_balances_are_kept_by_the_second_for_an_hour_then_by_the_minute(
    open_store: Open,
) -> None:
    setup = await open_store(events_max=100_000)
    for net in range(1, 7201):  # two hours, a change a second
        setup.clock.advance(1.0)
        setup.bus.emit(balance(net))
        if net % 100 == 0:
            await setup.tell()
        else:
            setup.bus.flush()
            if net > 7190:
                await setup.store.write()
    last = await setup.nets(5)
    assert last[-1] == 7200
    whole = await setup.nets(7200, points=1000)
    assert whole == sorted(whole)
    assert 60 <= len(whole) <= 121
    assert len(await setup.nets(3600, points=10)) <= 12


async def test_a_history_begins_with_the_balance_at_its_start(open_store: Open) -> None:
    setup = await open_store()
    await setup.tell(balance(-5))
    setup.clock.advance(30 * MINUTE)
    assert await setup.nets(10 * MINUTE) == [-5]
    await setup.tell(balance(-9))
    assert await setup.nets(10 * MINUTE) == [-5, -9]
    _, points = await setup.store.history(
        "bob", USD, setup.clock.now_ms() - 1000, setup.clock.now_ms(), 10
    )
    assert points[0].at_ms == setup.clock.now_ms() - 1000


async def test_accounts_of_different_assets_are_separate(open_store: Open) -> None:
    setup = await open_store()
    await setup.tell(balance(5))
    now_ms = setup.clock.now_ms()
    assert (await setup.store.history("bob", Asset("EUR", 9), 0, now_ms, 10))[1] == []
    assert await setup.store.last_asset("bob") == USD
    assert await setup.store.last_asset("nobody") is None


async def test_the_history_is_limited(open_store: Open) -> None:
    setup = await open_store(events_max=100)
    for net in range(500):
        setup.clock.advance(1.0)
        await setup.tell(balance(net))
    assert setup.store.history_points <= 102
    assert (await setup.nets(3600))[-1] == 499


# --- a bad disk


async def test_a_file_that_is_not_a_database_is_renamed_and_replaced(
    open_store: Open, tmp_path: Path
) -> None:
    (tmp_path / "events.sqlite").write_bytes(b"no database at all" * 1000)
    setup = await open_store()
    await setup.tell(received(1))
    assert await setup.amounts() == [1]
    assert setup.log.count("event_store_replaced") == 1
    assert (tmp_path / "events.sqlite.damaged").exists()


async def test_a_failing_disk_drops_events_with_one_warning_and_recovers(
    open_store: Open, tmp_path: Path
) -> None:
    (tmp_path / "events.sqlite").mkdir()
    setup = await open_store()
    assert setup.store.fault
    for number in range(20):
        setup.clock.advance(60.0)
        await setup.tell(received(number))
    assert setup.store.dropped == 20
    assert setup.log.count("event_store_failed") == 1
    assert await setup.find() == []
    (tmp_path / "events.sqlite").rmdir()
    setup.clock.advance(60.0)
    await setup.tell(received(99))
    assert setup.store.fault == ""
    assert await setup.amounts() == [99]


async def test_the_queue_is_bounded_while_the_disk_fails(
    open_store: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(telemetry_bounds, "EVENT_STORE_QUEUE_EVENTS_MAX", 10)
    (tmp_path / "events.sqlite").mkdir()
    setup = await open_store()
    await setup.tell(*map(received, range(100)))
    assert len(setup.store._queue) == 10
    assert setup.store.dropped == 90


async def test_a_limit_of_zero_keeps_nothing(open_store: Open, tmp_path: Path) -> None:
    setup = await open_store(events_max=0)
    await setup.tell(received(1), balance(1))
    assert await setup.find() == []
    assert not (tmp_path / "events.sqlite").exists()
    assert setup.store.dropped == 0


# --- size


async def steps_of(store: EventStore, query: EventQuery) -> int:
    """How many hundreds of instructions SQLite's machine takes for a query."""
    reader = store._reader
    assert reader is not None
    steps = 0

    def step() -> int:
        nonlocal steps
        steps += 1
        return 0

    await store.events(query)  # the queue is written before
    await reader.run(lambda connection: connection.set_progress_handler(step, 100))
    await store.events(query)
    await reader.run(lambda connection: connection.set_progress_handler(None, 0))
    return steps


@pytest.mark.long
async def test_the_cost_of_a_query_does_not_depend_on_the_number_of_events(
    open_store: Open,
) -> None:
    """Counted, not timed. benchmarks/event_store.py times the queries on a whole day."""
    steps: list[list[int]] = []
    number = 0
    for cap in (1_000, 8_000):
        setup = await open_store(events_max=cap)
        for batch in range(4):
            setup.clock.advance(25.0)
            if batch % 2 == 0:
                setup.bus.emit(link(f"peer-{batch // 2}"))
            for _ in range(cap // 2):
                number += 1
                setup.bus.emit(fulfilled(number, f"peer-{number % 50}", f"peer-{number % 49}"))
            await setup.tell(balance(number))
        assert cap // 2 < setup.store.stored <= cap
        now_ms = setup.clock.now_ms()
        steps.append([])
        for query in (
            EventQuery(),
            EventQuery(types=["PEER_CONNECTED"]),
            EventQuery(peer="peer-7"),
            EventQuery(peer="nobody"),
            EventQuery(peer="peer-7", types=["SETTLEMENT_FAILED"]),
            EventQuery(types=["PACKET_FULFILLED"], from_ms=now_ms - 50_000, to_ms=now_ms - 25_000),
            EventQuery(packet=f"{number << 8:032x}"),
        ):
            steps[-1].append(await steps_of(setup.store, query))
    few, many = steps
    # A binary search takes a little more; a scan would take eight times as many.
    assert all(more <= 2 * less + 5 for less, more in zip(few, many, strict=True)), steps
