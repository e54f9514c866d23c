"""Events in JSON: flat, with the names of the interface, money as decimal strings."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError
from typing import Any, get_args

import pytest

from connector.telemetry import bounds, events
from connector.telemetry.events import TYPES, Event, body, cut, encode, iso

CONDITION = bytes(range(32))
HUGE = 2**70 + 1
SETTLEMENT = {
    "peer_id": "bob",
    "asset_code": "USD",
    "asset_scale": 9,
    "amount": HUGE,
    "net_balance": -HUGE,
    "threshold": 10,
    "settlement_id": "s-1",
}
SETTLEMENT_FIELDS = {
    "peerId", "assetCode", "assetScale", "amount", "netBalance", "threshold", "settlementId",
}  # fmt: skip
PACKET = {"packet_id": 255, "peer_id": "alice", "destination": "g.bob", "amount": HUGE}

# Each event with the fields that it must have (explorer's interface); there may be more.
EVENTS: list[tuple[str, Event, set[str]]] = [
    (
        "ACCOUNT_BALANCE",
        events.AccountBalance(
            peer_id="bob",
            asset_code="USD",
            asset_scale=9,
            debit_balance=HUGE,
            credit_balance=1,
            net_balance=HUGE - 1,
            pending_debits=2,
            pending_credits=3,
            credit_limit=4,
            available_credit=5,
            settlement_threshold=None,
        ),
        {
            "peerId", "assetCode", "assetScale", "debitBalance", "creditBalance", "netBalance",
            "pendingDebits", "pendingCredits", "creditLimit", "availableCredit",
            "settlementThreshold", "settlementState",
        },
    ),
    (
        "PACKET_RECEIVED",
        events.PacketReceived(**PACKET, expires_at=0, execution_condition=CONDITION),
        {"packetId", "peerId", "destination", "amount", "expiresAt", "executionCondition"},
    ),
    (
        "PACKET_FORWARDED",
        events.PacketForwarded(**PACKET, next_hop="bob", fee=1),
        {"packetId", "peerId", "nextHop", "destination", "amount", "fee"},
    ),
    (
        "PACKET_FULFILLED",
        events.PacketFulfilled(**PACKET, next_hop="bob", duration_ms=1.5),
        {"packetId", "peerId", "nextHop", "destination", "amount", "durationMs"},
    ),
    (
        "PACKET_REJECTED",
        events.PacketRejected(
            **PACKET, next_hop=None, code="F02", message="no", triggered_by="g.a", duration_ms=0.1
        ),
        {
            "packetId", "peerId", "nextHop", "destination", "amount", "code", "message",
            "triggeredBy", "durationMs",
        },
    ),
    (
        "PEER_CONNECTED",
        events.PeerConnected(peer_id="bob", direction="inbound"),
        {"peerId", "direction", "reason"},
    ),
    (
        "PEER_DISCONNECTED",
        events.PeerDisconnected(peer_id="bob", direction="outbound", reason="lost"),
        {"peerId", "direction", "reason"},
    ),
    (
        "ROUTE_ADDED",
        events.RouteAdded(prefix="g.b", next_hop="bob", source="config"),
        {"prefix", "nextHop", "source"},
    ),
    (
        "ROUTE_REMOVED",
        events.RouteRemoved(prefix="g.b", next_hop="bob", source="child"),
        {"prefix", "nextHop", "source"},
    ),
    (
        "ROUTING_LOOP",
        events.RoutingLoop(
            peer_id="carol", next_hop="bob", prefix="", destination="g.nowhere", packets=3
        ),
        {"peerId", "nextHop", "prefix", "destination", "packets"},
    ),
    (
        "NEXT_HOP_SHORT",
        events.NextHopShort(peer_id="bob", triggered_by="g.bob", message="limit", packets=3),
        {"peerId", "triggeredBy", "message", "packets"},
    ),
    (
        "PAYMENT_RECEIVED",
        events.PaymentReceived(
            payment_id="ab" * 16,
            wallet="alice",
            asset_code="USD",
            asset_scale=9,
            amount=2**64,
            packets=3,
            ended="closed",
        ),
        {"paymentId", "wallet", "assetCode", "assetScale", "amount", "packets", "ended"},
    ),
    ("SETTLEMENT_TRIGGERED", events.SettlementTriggered(**SETTLEMENT), SETTLEMENT_FIELDS),
    ("SETTLEMENT_STARTED", events.SettlementStarted(**SETTLEMENT), SETTLEMENT_FIELDS),
    ("SETTLEMENT_COMPLETED", events.SettlementCompleted(**SETTLEMENT), SETTLEMENT_FIELDS),
    (
        "SETTLEMENT_FAILED",
        events.SettlementFailed(**SETTLEMENT, error="refused"),
        SETTLEMENT_FIELDS | {"error"},
    ),
    ("SETTLEMENT_WAITING", events.SettlementWaiting(**SETTLEMENT), SETTLEMENT_FIELDS),
    (
        "ACCOUNTING_STATE",
        events.AccountingState(state="available", backend="embedded"),
        {"state", "backend", "spooled", "error"},
    ),
    (
        "NODE_STATUS",
        events.NodeStatus(
            ilp_address="g.a",
            version="1",
            uptime_seconds=1,
            peers_connected=1,
            peers_total=2,
            routes=3,
            accounting="available",
        ),
        {
            "ilpAddress", "version", "uptimeSeconds", "peersConnected", "peersTotal", "routes",
            "accounting",
        },
    ),
    (
        "ADMIN_ACTION",
        events.AdminAction(action="peer.create", target="bob", key_fingerprint="ab12"),
        {
            "action", "target", "keyFingerprint", "outcome", "via", "address", "peerId", "detail",
        },
    ),
    (
        "NODE_STARTED",
        events.NodeStarted(version="1", ilp_address="g.a", backend="embedded"),
        {"version", "ilpAddress", "backend"},
    ),
    ("NODE_STOPPED", events.NodeStopped(uptime_seconds=5), {"uptimeSeconds"}),
    (
        "ALERT",
        events.Alert(name="clock_jumped", level="warning", peer_id="", detail="{}"),
        {"name", "level", "peerId", "detail", "suppressed"},
    ),
    (
        "BOOKS_CHECKED",
        events.BooksChecked(ok=False, checks=9, failed="a; b", detail="1 is not 2", pending=0),
        {"ok", "checks", "failed", "detail", "pending"},
    ),
]  # fmt: skip
MONEY = {
    "amount", "fee", "debitBalance", "creditBalance", "netBalance", "pendingDebits",
    "pendingCredits", "creditLimit", "availableCredit", "settlementThreshold", "threshold",
}  # fmt: skip


def shown(event: Event) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads(text_of(event))
    return parsed


def text_of(event: Event) -> str:
    return encode(event, node_id="n", seq=7, at_ms=1_700_000_000_123)


def rejected(message: str, destination: str = "g.bob", triggered_by: str = "g.a") -> Event:
    return events.PacketRejected(
        packet_id=2**128 - 1,
        peer_id="alice",
        next_hop="bob",
        destination=destination,
        amount=2**64 - 1,
        code="F99",
        message=message,
        triggered_by=triggered_by,
        duration_ms=0.1,
    )


@pytest.mark.parametrize(("kind", "event", "names"), EVENTS, ids=[kind for kind, *_ in EVENTS])
def test_an_event_has_its_type_its_fields_and_the_common_ones(
    kind: str, event: Event, names: set[str]
) -> None:
    form = shown(event)
    assert form["type"] == kind
    assert form["nodeId"] == "n"
    assert form["seq"] == 7
    assert form["timestamp"] == "2023-11-14T22:13:20.123Z"
    assert names <= form.keys()


@pytest.mark.parametrize("event", [event for _, event, _ in EVENTS])
def test_an_event_is_flat_and_its_money_decimal(event: Event) -> None:
    for name, value in shown(event).items():
        assert not isinstance(value, dict | list), name
        if name in MONEY:
            assert value is None or str(int(value)) == value


@pytest.mark.parametrize("event", [event for _, event, _ in EVENTS])
def test_an_event_cannot_be_changed(event: Event) -> None:
    with pytest.raises((FrozenInstanceError, AttributeError, TypeError)):
        event.seq = 1  # type: ignore[union-attr]
    assert not hasattr(event, "__dict__")


def test_every_event_is_in_the_table_above() -> None:
    assert {type(event) for _, event, _ in EVENTS} == set(get_args(Event)) == set(events.TYPES)


@pytest.mark.parametrize("event", [event for _, event, _ in EVENTS])
def test_the_text_is_that_of_the_standard_library_in_its_shortest_form(event: Event) -> None:
    """Names, order, spacing and numbers: clients may compare texts of different versions."""
    whole = {
        "type": TYPES[type(event)],
        "nodeId": "n",
        "seq": 7,
        "timestamp": "2023-11-14T22:13:20.123Z",
        **body(event),
    }
    assert text_of(event) == json.dumps(whole, separators=(",", ":"))


@pytest.mark.parametrize("duration_ms", [0.0, 0.001, 0.1, 1.0, 12.345, 99_999.999, 1e15])
def test_durations_are_written_as_python_writes_them(duration_ms: float) -> None:
    event = events.PacketFulfilled(**PACKET, next_hop="bob", duration_ms=duration_ms)
    assert f'"durationMs":{duration_ms!r},' in text_of(event)


@pytest.mark.parametrize(
    "message", ["caf\u00e9 \u20ac \U0001f600", '"\\\n\x00\x7f', "name \udcff of a file", "\ud800"]
)
def test_any_text_survives_encoding(message: str) -> None:
    assert shown(rejected(message))["message"] == message
    text_of(rejected(message)).encode()


def test_a_long_text_from_outside_is_cut() -> None:
    limit = bounds.EVENT_TEXT_CHARACTERS_MAX
    assert cut("x" * limit) == "x" * limit
    assert cut("x" * (limit + 1)) == "x" * (limit - 1) + "\u2026"
    assert shown(rejected("\x01" * 8191))["message"] == "\x01" * (limit - 1) + "\u2026"
    for name, event in (
        ("reason", events.PeerDisconnected(peer_id="b", direction="inbound", reason="x" * 9999)),
        ("error", events.SettlementFailed(**SETTLEMENT, error="x" * 9999)),
        ("error", events.AccountingState(state="s", backend="b", error="x" * 9999)),
        (
            "outcome",
            events.AdminAction(action="a", target="t", key_fingerprint="", outcome="x" * 9999),
        ),
        ("target", events.AdminAction(action="a", target="x" * 9999, key_fingerprint="")),
    ):
        assert len(shown(event)[name]) == limit


def test_the_longest_event_of_a_packet_is_bounded_in_octets() -> None:
    longest = rejected("\x01" * 8191, "g." + "d" * 1021, "g." + "t" * 1021)
    assert len(text_of(longest).encode()) < 6000


def test_amounts_beyond_a_double_stay_exact() -> None:
    assert shown(EVENTS[0][1])["debitBalance"] == str(HUGE)
    assert shown(EVENTS[1][1])["amount"] == str(HUGE)


def test_a_packet_has_the_id_that_the_ledger_and_the_log_show() -> None:
    form = shown(EVENTS[1][1])
    assert form["packetId"] == "000000000000000000000000000000ff"
    assert form["executionCondition"] == CONDITION.hex()
    assert form["expiresAt"] == "1970-01-01T00:00:00.000Z"


@pytest.mark.parametrize(
    ("at_ms", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (1_700_000_000_999, "2023-11-14T22:13:20.999Z"),
        (253_402_300_799_999, "9999-12-31T23:59:59.999Z"),
        (253_402_300_800_000, "9999-12-31T23:59:59.999Z"),
    ],
)
def test_times_are_iso_8601_in_utc_with_milliseconds(at_ms: int, text: str) -> None:
    assert iso(at_ms) == text
