"""What a node tells the world: one frozen record a fact, and its flat JSON form.

Whoever knows a fact makes the event and hands it to `EventBus.emit`, which adds `nodeId`, `seq` and
`timestamp`. Names in JSON are the fields' in camel case and part of the interface (docs/api.md);
money is a decimal string there, since it can exceed what a double holds exactly.

The peer id of this node itself is empty: as `peerId` of what it sends, as `nextHop` of what is for it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Final

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(slots=True, frozen=True, kw_only=True)
class AccountBalance:
    """`ACCOUNT_BALANCE`: how we stand with a peer. Amounts in units of its asset."""

    peer_id: str
    asset_code: str
    asset_scale: int
    debit_balance: int
    """All that it has been debited: value it sent through us."""
    credit_balance: int
    """All that it has been credited: value we sent towards it."""
    net_balance: int
    """Positive: it owes us. Negative: we owe it."""
    pending_debits: int
    """Held for packets from it that have no answer yet."""
    pending_credits: int
    """Held for packets to it that have no answer yet."""
    credit_limit: int
    available_credit: int
    """What it may still send."""
    settlement_threshold: int | None
    settlement_state: str = "IDLE"
    """`IDLE`, `PENDING` or `IN_PROGRESS`."""


@dataclass(slots=True, frozen=True, kw_only=True)
class PacketReceived:
    """`PACKET_RECEIVED`: a Prepare came from a peer, or from this node itself."""

    packet_id: int
    """Ours: the id of its first ledger transfer."""
    peer_id: str
    destination: str
    amount: int
    expires_at: int
    """Milliseconds since the epoch; ISO 8601 in JSON."""
    execution_condition: bytes
    """32 octets, the same on every node that the packet passes."""


@dataclass(slots=True, frozen=True, kw_only=True)
class PacketForwarded:
    """`PACKET_FORWARDED`: the Prepare went on to the next hop."""

    packet_id: int
    peer_id: str
    next_hop: str
    destination: str
    amount: int
    """As sent on, in the next hop's asset."""
    fee: int
    """In the sender's asset."""


@dataclass(slots=True, frozen=True, kw_only=True)
class PacketFulfilled:
    """`PACKET_FULFILLED`: it was answered with the proof of delivery, and booked.

    The times of its steps are milliseconds after it was received, None for a step that it did not
    take.
    """

    packet_id: int
    peer_id: str
    next_hop: str
    destination: str
    amount: int
    """As received."""
    duration_ms: float
    reserved_ms: float | None = None
    forwarded_ms: float | None = None
    answered_ms: float | None = None
    posted_ms: float | None = None
    reserve_ids: str = ""
    """Ids of the ledger transfers that held its money: hex, divided by spaces."""
    resolve_ids: str = ""
    """Ids of those that posted it."""


@dataclass(slots=True, frozen=True, kw_only=True)
class PacketRejected:
    """`PACKET_REJECTED`: it was refused, here or further on. Times as in `PacketFulfilled`."""

    packet_id: int
    peer_id: str
    next_hop: str | None
    """None: it did not come to a next hop."""
    destination: str
    amount: int
    """As received."""
    code: str
    """Of the Reject, such as `F02`."""
    message: str
    triggered_by: str
    """ILP address of the node that refused it."""
    duration_ms: float
    reserved_ms: float | None = None
    forwarded_ms: float | None = None
    answered_ms: float | None = None
    reserve_ids: str = ""
    resolve_ids: str = ""
    """Ids of the transfers that gave its money back."""


@dataclass(slots=True, frozen=True, kw_only=True)
class PeerConnected:
    """`PEER_CONNECTED`: a link to a peer is up."""

    peer_id: str
    direction: str
    """`inbound` or `outbound`."""
    reason: str = ""


@dataclass(slots=True, frozen=True, kw_only=True)
class PeerDisconnected:
    """`PEER_DISCONNECTED`: the link to a peer is gone."""

    peer_id: str
    direction: str
    """`inbound` or `outbound`."""
    reason: str


@dataclass(slots=True, frozen=True, kw_only=True)
class RouteAdded:
    """`ROUTE_ADDED`: packets for `prefix` may go to `next_hop`."""

    prefix: str
    next_hop: str
    source: str
    """Where the route comes from: `config`, `local`, `child`, `peer`, `parent`."""


@dataclass(slots=True, frozen=True, kw_only=True)
class RouteRemoved:
    """`ROUTE_REMOVED`: a route is no more."""

    prefix: str
    next_hop: str
    source: str


@dataclass(slots=True, frozen=True, kw_only=True)
class _Settlement:
    """What all events of a settlement have. Amounts in units of the peer's asset."""

    peer_id: str
    asset_code: str
    asset_scale: int
    amount: int
    """What is paid."""
    net_balance: int
    """As of this event: positive, the peer owes us."""
    threshold: int | None
    """The debt that triggers a settlement; None: there is none."""
    settlement_id: str
    direction: str = "outgoing"
    """`outgoing`: we pay; `incoming`: the peer paid us."""


@dataclass(slots=True, frozen=True, kw_only=True)
class SettlementTriggered(_Settlement):
    """`SETTLEMENT_TRIGGERED`: we owe a peer more than agreed, or an operator asked for it."""


@dataclass(slots=True, frozen=True, kw_only=True)
class SettlementStarted(_Settlement):
    """`SETTLEMENT_STARTED`: booked; the settlement engine, or an operator, is asked to pay."""


@dataclass(slots=True, frozen=True, kw_only=True)
class SettlementCompleted(_Settlement):
    """`SETTLEMENT_COMPLETED`: booked, and paid as far as its engine or an operator says."""


@dataclass(slots=True, frozen=True, kw_only=True)
class SettlementFailed(_Settlement):
    """`SETTLEMENT_FAILED`: an attempt came to nothing, or the settlement did for good."""

    error: str
    """Why, and whether it is tried again."""


@dataclass(slots=True, frozen=True, kw_only=True)
class AccountingState:
    """`ACCOUNTING_STATE`: whether new packets can be accounted for has changed."""

    state: str
    """`available`, `spooling`, `rejecting` or `unavailable`."""
    backend: str
    spooled: int = 0
    """Transfers that wait for the ledger to come back."""
    error: str = ""


@dataclass(slots=True, frozen=True, kw_only=True)
class NodeStatus:
    """`NODE_STATUS`: how the node is, every few seconds. Numbers count since the start."""

    ilp_address: str
    version: str
    uptime_seconds: int
    peers_connected: int
    peers_total: int
    routes: int
    accounting: str
    accounting_reason: str = ""
    """Why it is not available."""
    accounting_spooled: int = 0
    """Transfers that wait for the ledger to come back."""
    packets_in_flight: int = 0
    packets_received: int = 0
    packets_fulfilled: int = 0
    packets_rejected: int = 0
    packets_counted: int = 0
    """Of those received, how many have no events of their own: more came than are kept whole."""
    events_dropped: int = 0
    """Events lost on the way to viewers or the store."""
    latency_p50_ms: float | None = None
    """Of the packets answered since the last status; None: there were none."""
    latency_p99_ms: float | None = None


@dataclass(slots=True, frozen=True, kw_only=True)
class AdminAction:
    """`ADMIN_ACTION`: someone with the admin key changed something."""

    action: str
    """What was done, such as `peer.create`."""
    target: str
    """What it was done to, such as a peer id."""
    key_fingerprint: str
    outcome: str = "ok"
    """`ok`, or why it was refused."""


Event = (
    AccountBalance | PacketReceived | PacketForwarded | PacketFulfilled | PacketRejected
    | PeerConnected | PeerDisconnected | RouteAdded | RouteRemoved
    | SettlementTriggered | SettlementStarted | SettlementCompleted | SettlementFailed
    | AccountingState | NodeStatus | AdminAction
)  # fmt: skip

TYPES: Final[dict[type, str]] = {
    AccountBalance: "ACCOUNT_BALANCE",
    PacketReceived: "PACKET_RECEIVED",
    PacketForwarded: "PACKET_FORWARDED",
    PacketFulfilled: "PACKET_FULFILLED",
    PacketRejected: "PACKET_REJECTED",
    PeerConnected: "PEER_CONNECTED",
    PeerDisconnected: "PEER_DISCONNECTED",
    RouteAdded: "ROUTE_ADDED",
    RouteRemoved: "ROUTE_REMOVED",
    SettlementTriggered: "SETTLEMENT_TRIGGERED",
    SettlementStarted: "SETTLEMENT_STARTED",
    SettlementCompleted: "SETTLEMENT_COMPLETED",
    SettlementFailed: "SETTLEMENT_FAILED",
    AccountingState: "ACCOUNTING_STATE",
    NodeStatus: "NODE_STATUS",
    AdminAction: "ADMIN_ACTION",
}
"""The `type` of each event in JSON."""


def iso(at_ms: int) -> str:
    """Milliseconds since the epoch as `2026-01-31T12:00:00.000Z`.

    What a peer may claim beyond the year 9999 is shown as its last moment.
    """
    try:
        return f"{_iso_second(at_ms // 1000)}.{at_ms % 1000:03d}Z"
    except OverflowError:
        return "9999-12-31T23:59:59.999Z"


@lru_cache(maxsize=1024)  # most events of a moment share theirs
def _iso_second(at_s: int) -> str:
    return (_EPOCH + timedelta(seconds=at_s)).strftime("%Y-%m-%dT%H:%M:%S")


def packet_hex(packet_id: int) -> str:
    """A packet's or transfer's id as it stands in JSON, logs and the ledger's tools."""
    return f"{packet_id:032x}"


def _decimal(amount: int | None) -> str | None:
    return None if amount is None else str(amount)


_CONVERTERS: Final[dict[str, Callable[[Any], Any]]] = {
    "packet_id": packet_hex,
    "expires_at": iso,
    "execution_condition": bytes.hex,
    **dict.fromkeys(
        (
            "amount", "available_credit", "credit_balance", "credit_limit", "debit_balance", "fee",
            "net_balance", "pending_credits", "pending_debits", "settlement_threshold", "threshold",
        ),
        _decimal,
    ),
}  # fmt: skip


def _camel_case(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(part.title() for part in rest)


_FORMS: Final = {
    kind: tuple(
        (field.name, _camel_case(field.name), _CONVERTERS.get(field.name)) for field in fields(kind)
    )
    for kind in TYPES
}


def body(event: Event) -> dict[str, Any]:
    """The event's own fields as JSON has them."""
    form: dict[str, Any] = {}
    for name, json_name, convert in _FORMS[type(event)]:
        value = getattr(event, name)
        form[json_name] = value if convert is None else convert(value)
    return form


def as_json(event: Event, *, node_id: str, seq: int, at_ms: int) -> dict[str, Any]:
    """The whole flat object: type, node, sequence number, time, and the event's own fields."""
    return {
        "type": TYPES[type(event)],
        "nodeId": node_id,
        "seq": seq,
        "timestamp": iso(at_ms),
        **body(event),
    }
