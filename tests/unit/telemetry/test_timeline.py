"""The timeline of one packet, also where some of its events were not kept."""

from __future__ import annotations

import json
from typing import Any

from connector.telemetry import events
from connector.telemetry.events import Event, encode
from connector.telemetry.timeline import packet_timeline

BEGAN_MS = 1_700_000_000_000
PACKET: dict[str, Any] = {"packet_id": 256, "peer_id": "alice", "destination": "g.bob"}


def shown(event: Event, after_ms: int) -> dict[str, Any]:
    text = encode(event, node_id="me", seq=after_ms, at_ms=BEGAN_MS + after_ms)
    form: dict[str, Any] = json.loads(text)
    return form


RECEIVED = shown(
    events.PacketReceived(**PACKET, amount=100, expires_at=0, execution_condition=bytes(32)), 0
)
FORWARDED = shown(events.PacketForwarded(**PACKET, next_hop="bob", amount=90, fee=10), 2)
FULFILLED = shown(
    events.PacketFulfilled(
        **PACKET,
        next_hop="bob",
        amount=100,
        duration_ms=9.5,
        reserved_ms=1.0,
        forwarded_ms=2.0,
        answered_ms=7.0,
        posted_ms=9.0,
        reserve_ids="aa ab",
        resolve_ids="ba bb",
    ),
    9,
)
REJECTED = shown(
    events.PacketRejected(
        **PACKET,
        next_hop=None,
        amount=100,
        code="F02",
        message="no",
        triggered_by="g.me",
        duration_ms=4.0,
    ),
    4,
)


def test_a_complete_packet() -> None:
    detail = packet_timeline([RECEIVED, FORWARDED, FULFILLED])
    assert (detail["status"], detail["amount"], detail["amountOut"], detail["fee"]) == (
        "fulfilled",
        "100",
        "90",
        "10",
    )
    assert [(step["step"], step["ms"]) for step in detail["timeline"]] == [
        ("received", 0.0),
        ("reserved", 1.0),
        ("forwarded", 2.0),
        ("answered", 7.0),
        ("posted", 9.0),
        ("fulfilled", 9.5),
    ]
    assert detail["timeline"][3]["at"] == "2023-11-14T22:13:20.007Z"
    assert detail["transfers"] == [
        {"id": "aa", "step": "reserve"},
        {"id": "ab", "step": "reserve"},
        {"id": "ba", "step": "post"},
        {"id": "bb", "step": "post"},
    ]


def test_a_packet_under_way_is_pending() -> None:
    detail = packet_timeline([RECEIVED, FORWARDED])
    assert (detail["status"], detail["durationMs"], detail["nextHop"]) == ("pending", None, "bob")
    assert [(step["step"], step["ms"]) for step in detail["timeline"]] == [
        ("received", 0.0),
        ("forwarded", 2.0),
    ]
    assert packet_timeline([RECEIVED])["nextHop"] is None


def test_a_reject_without_its_received_event() -> None:
    detail = packet_timeline([REJECTED])
    assert (detail["status"], detail["code"], detail["amount"]) == ("rejected", "F02", "100")
    assert detail["receivedAt"] == "2023-11-14T22:13:20.000Z"
    assert detail["executionCondition"] is None
    assert [step["step"] for step in detail["timeline"]] == ["received", "rejected"]
    assert detail["transfers"] == []


def test_a_packet_whose_received_event_was_deleted() -> None:
    detail = packet_timeline([FORWARDED, FULFILLED])
    assert (detail["status"], detail["receivedAt"]) == ("fulfilled", "2023-11-14T22:13:20.000Z")
    assert packet_timeline([FORWARDED])["status"] == "pending"
