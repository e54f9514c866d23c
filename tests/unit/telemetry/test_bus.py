"""The bus: numbers without gaps, one encoding for all, bounded queues, reported losses."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from connector.base import limits
from connector.telemetry import bounds as telemetry_bounds
from connector.telemetry.bus import Emitted, EventBus, Viewer, frame
from connector.telemetry.events import Event, PacketReceived, PeerConnected
from tests.support.daemons import EventLog
from tests.support.ledgers import ManualClock


def happened(peer_id: str = "bob") -> PeerConnected:
    return PeerConnected(peer_id=peer_id, direction="inbound")


def packet(amount: int) -> PacketReceived:
    return PacketReceived(
        packet_id=amount,
        peer_id="alice",
        destination="g.bob",
        amount=amount,
        expires_at=0,
        execution_condition=bytes(32),
    )


@pytest.fixture
def bus() -> EventBus:
    return EventBus(node_id="me", clock=ManualClock())


async def read(viewer: Viewer) -> dict[str, Any]:
    async with asyncio.timeout(1):
        message: dict[str, Any] = json.loads(await viewer.next())
        return message


def seqs(message: dict[str, Any]) -> list[int]:
    return [event["seq"] for event in message["events"]]


async def test_events_of_a_flush_reach_all_viewers_in_one_message(bus: EventBus) -> None:
    one, _ = bus.join(None)
    two, _ = bus.join(None)
    began = bus.seq
    for _ in range(3):
        bus.emit(happened())
    bus.flush()
    texts = [await one.next(), await two.next()]
    assert texts[0] is texts[1], "encoded once"
    message = json.loads(texts[0])
    assert seqs(message) == [began + 1, began + 2, began + 3]
    assert message["seq"] == began + 3
    assert {event["nodeId"] for event in message["events"]} == {"me"}


async def test_viewers_and_store_share_one_text(bus: EventBus) -> None:
    taken: list[Emitted] = []
    bus.hand_to(taken.extend)
    viewer, _ = bus.join(None)
    bus.emit(packet(1))
    bus.flush()
    (one,) = taken
    text = one.text("me")
    assert one.text("me") is text
    assert bus.recent_packets()[0] is text
    assert json.loads(await viewer.next())["events"] == [json.loads(text)]


async def test_without_viewers_a_flush_encodes_nothing(
    bus: EventBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[Event] = []

    def encode(event: Event, **_: object) -> str:
        encoded.append(event)
        return "{}"

    monkeypatch.setattr("connector.telemetry.bus.encode", encode)
    bus.emit(packet(1))
    bus.emit(happened())
    bus.flush()
    assert encoded == []
    assert bus.recent_packets() == ["{}"]
    assert len(encoded) == 1


async def test_recent_packets_begin_with_those_of_earlier_runs(bus: EventBus) -> None:
    bus.remember_packets(['{"amount":"1"}', '{"amount":"2"}'])
    bus.emit(packet(3))
    bus.flush()
    assert [json.loads(text)["amount"] for text in bus.recent_packets()] == ["1", "2", "3"]


async def test_a_flush_without_events_sends_no_message(bus: EventBus) -> None:
    viewer, _ = bus.join(None)
    bus.flush()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await viewer.next()


async def test_takers_get_every_event_in_order(bus: EventBus) -> None:
    taken: list[int] = []
    bus.hand_to(lambda batch: taken.extend(one.seq for one in batch))
    began = bus.seq
    for _ in range(5):
        bus.emit(happened())
        bus.flush()
    assert taken == list(range(began + 1, began + 6))


async def test_a_long_message_is_split(bus: EventBus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telemetry_bounds, "VIEWER_FRAME_EVENTS_MAX", 2)
    viewer, _ = bus.join(None)
    for _ in range(5):
        bus.emit(happened())
    bus.flush()
    assert [len(seqs(await read(viewer))) for _ in range(3)] == [2, 2, 1]


async def test_a_resuming_viewer_gets_exactly_the_missed_events(bus: EventBus) -> None:
    for _ in range(4):
        bus.emit(happened())
    _, missed = bus.join(bus.seq - 2)
    assert missed is not None
    assert seqs(json.loads(missed.text)) == [bus.seq - 1, bus.seq]
    _, missed = bus.join(bus.seq)
    assert missed is not None
    assert json.loads(missed.text) == {"seq": bus.seq, "events": []}


@pytest.mark.parametrize("since", [0, -1, 1 << 60])
async def test_a_viewer_that_missed_more_than_the_ring_is_told(bus: EventBus, since: int) -> None:
    bus.emit(happened())
    assert bus.join(since)[1] is None


async def test_a_bus_without_events_resumes_only_from_its_own_number(bus: EventBus) -> None:
    assert bus.join(bus.seq)[1] is not None
    assert bus.join(bus.seq - 1)[1] is None


async def test_the_ring_is_bounded(bus: EventBus) -> None:
    began = bus.seq
    for _ in range(telemetry_bounds.TELEMETRY_RING_EVENTS_MAX + 10):
        bus.emit(happened())
        bus.flush()
    assert len(bus.remembered()) == telemetry_bounds.TELEMETRY_RING_EVENTS_MAX
    assert bus.join(began)[1] is None
    assert bus.join(began + 10)[1] is not None


async def test_too_many_events_between_flushes_drop_the_oldest_and_report_a_gap(
    bus: EventBus,
) -> None:
    viewer, _ = bus.join(None)
    began = bus.seq
    for _ in range(telemetry_bounds.TELEMETRY_RING_EVENTS_MAX + 3):
        bus.emit(happened())
    bus.flush()
    assert bus.dropped == 3
    assert await read(viewer) == {"seq": began + 3, "events": [], "gap": True}
    assert seqs(await read(viewer))[0] == began + 4
    assert bus.join(began + 1)[1] is None


async def test_a_slow_viewer_loses_the_oldest_messages_and_gets_one_gap(
    bus: EventBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(telemetry_bounds, "VIEWER_FRAMES_MAX", 3)
    slow, _ = bus.join(None)
    began = bus.seq
    for _ in range(10):
        bus.emit(happened())
        bus.flush()
    assert await read(slow) == {"seq": began + 7, "events": [], "gap": True}
    assert [seqs(await read(slow)) for _ in range(3)] == [[began + 8], [began + 9], [began + 10]]
    assert bus.frames_dropped_total() == 7
    bus.leave(slow)
    bus.leave(slow)
    assert bus.frames_dropped_total() == 7
    assert bus.viewers == 0


async def test_a_viewer_is_bounded_in_octets_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "VIEWER_BYTES_MAX", 1000)
    viewer = Viewer()
    for seq in range(1, 51):
        viewer.put(frame(seq, ['"' + "x" * 100 + '"']))
    assert (await read(viewer))["gap"] is True
    kept = []
    while viewer._frames:
        kept.append(len(await viewer.next()))
    assert sum(kept) <= 1000
    assert viewer.dropped == 50 - len(kept)


async def test_recent_packets_are_not_displaced_by_other_events(bus: EventBus) -> None:
    for amount in range(telemetry_bounds.VIEWER_PACKET_EVENTS_MAX + 5):
        bus.emit(packet(amount))
        bus.emit(happened())
    bus.flush()
    amounts = [int(json.loads(text)["amount"]) for text in bus.recent_packets()]
    assert amounts == list(range(5, telemetry_bounds.VIEWER_PACKET_EVENTS_MAX + 5))


async def test_sequence_numbers_continue_above_earlier_runs() -> None:
    clock = ManualClock()
    before = EventBus(node_id="me", clock=clock)
    before.emit(happened())
    clock.advance(0.001)
    assert EventBus(node_id="me", clock=clock).seq >= before.seq
    clock.advance(-3600)
    after = EventBus(node_id="me", clock=clock)
    assert after.seq < before.seq
    after.number_from(before.seq)
    after.emit(happened())
    assert after.seq == before.seq + 1


@pytest.mark.long
async def test_a_failing_source_is_logged_and_flushing_continues(
    bus: EventBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("connector.telemetry.bus.FLUSH_SECONDS", 0.001)
    log = EventLog()
    faults = iter([ValueError("once")])

    def source() -> None:
        for fault in faults:
            raise fault
        bus.emit(happened())

    bus.ask_before_flush(source)
    viewer, _ = bus.join(None)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(bus.run(log))
        async with asyncio.timeout(10):
            await viewer.next()
        running.cancel()
    assert log.count("telemetry_failed") == 1
