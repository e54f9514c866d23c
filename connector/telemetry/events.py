"""The events of a node: one frozen record per event, and its flat JSON form.

The source of an event builds it and passes it to `EventBus.emit`, which adds `nodeId`, `seq` and
`timestamp`. JSON names are the field names in camel case and part of the interface
(docs/api.md). Money is a decimal string in JSON, because it can exceed what a double holds exactly.

The peer id of this node itself is empty: as `peerId` of what it sends, as `nextHop` of what is
delivered here.

Events are msgspec structs. Building one costs a sixth of a frozen dataclass, which the packet path
pays, and encoding one needs no dictionary. docs/decisions/0009-msgspec-for-events.md compares msgspec
with orjson and the standard library.

Long because it is one list of events.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from json import JSONEncoder
from operator import attrgetter
from typing import Any, Final

import msgspec

from connector.telemetry import bounds

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class _Fact(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Base of all events. Fields hold no containers, so the garbage collector skips them."""


class AccountBalance(_Fact, frozen=True, kw_only=True):
    """`ACCOUNT_BALANCE`: the balance with a peer. Amounts in units of its asset."""

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


class PacketReceived(_Fact, frozen=True, kw_only=True):
    """`PACKET_RECEIVED`: a Prepare arrived from a peer, or was sent by this node itself."""

    packet_id: int
    """Ours: the id of its first ledger transfer."""
    peer_id: str
    destination: str
    amount: int
    expires_at: int
    """Milliseconds since the epoch; ISO 8601 in JSON."""
    execution_condition: bytes
    """32 octets, the same on every node that the packet passes."""


class PacketForwarded(_Fact, frozen=True, kw_only=True):
    """`PACKET_FORWARDED`: the Prepare was sent to the next hop."""

    packet_id: int
    peer_id: str
    next_hop: str
    destination: str
    amount: int
    """As sent on, in the next hop's asset."""
    fee: int
    """In the sender's asset."""


class PacketFulfilled(_Fact, frozen=True, kw_only=True):
    """`PACKET_FULFILLED`: the Prepare was answered with a Fulfill, and booked.

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
    """Ids of the ledger transfers that held its money: hex, separated by spaces."""
    resolve_ids: str = ""
    """Ids of those that posted it."""


class PacketRejected(_Fact, frozen=True, kw_only=True):
    """`PACKET_REJECTED`: it was rejected, here or further on. Times as in `PacketFulfilled`."""

    packet_id: int
    peer_id: str
    next_hop: str | None
    """None: it was rejected before it had a next hop."""
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
    """Ids of the transfers that voided its hold."""


class PeerConnected(_Fact, frozen=True, kw_only=True):
    """`PEER_CONNECTED`: a link to a peer is up."""

    peer_id: str
    direction: str
    """`inbound` or `outbound`."""
    reason: str = ""


class PeerDisconnected(_Fact, frozen=True, kw_only=True):
    """`PEER_DISCONNECTED`: the link to a peer is closed."""

    peer_id: str
    direction: str
    """`inbound` or `outbound`."""
    reason: str


class RouteAdded(_Fact, frozen=True, kw_only=True):
    """`ROUTE_ADDED`: packets for `prefix` may go to `next_hop`."""

    prefix: str
    next_hop: str
    source: str
    """Where the route comes from: `config`, `admin` if an operator has added it, `local`, `child`, `parent`,
    or `ccp` if a peer has announced it."""


class RouteRemoved(_Fact, frozen=True, kw_only=True):
    """`ROUTE_REMOVED`: a route was removed."""

    prefix: str
    next_hop: str
    source: str


class RoutingLoop(_Fact, frozen=True, kw_only=True):
    """`ROUTING_LOOP`: packets come back and are refused; at most once a minute for each loop."""

    peer_id: str
    """From which they come back."""
    next_hop: str
    """To which they were sent."""
    prefix: str
    """Of the route that they took; empty: the default route."""
    destination: str
    """Of the last one."""
    packets: int
    """Refused since the last event of this loop."""


class NextHopShort(_Fact, frozen=True, kw_only=True):
    """`NEXT_HOP_SHORT`: a next hop answers T04; at most once a minute for each."""

    peer_id: str
    """The next hop."""
    triggered_by: str
    """ILP address that the last Reject names."""
    message: str
    packets: int
    """Refused since the last event of this next hop."""


class PaymentReceived(_Fact, frozen=True, kw_only=True):
    """`PAYMENT_RECEIVED`: a payment to a wallet of this node has come in; see `stream.incoming`."""

    payment_id: str
    wallet: str
    asset_code: str
    asset_scale: int
    amount: int
    packets: int
    ended: str


class _Settlement(_Fact, frozen=True, kw_only=True):
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


class SettlementTriggered(_Settlement, frozen=True, kw_only=True):
    """`SETTLEMENT_TRIGGERED`: we owe a peer more than agreed, or an operator requested it."""


class SettlementStarted(_Settlement, frozen=True, kw_only=True):
    """`SETTLEMENT_STARTED`: booked; the settlement engine, or an operator, has to pay."""


class SettlementCompleted(_Settlement, frozen=True, kw_only=True):
    """`SETTLEMENT_COMPLETED`: booked, and paid according to its engine or an operator."""


class SettlementFailed(_Settlement, frozen=True, kw_only=True):
    """`SETTLEMENT_FAILED`: an attempt failed, or the settlement failed permanently."""

    error: str
    """Why, and whether it is tried again."""


class SettlementWaiting(_Settlement, frozen=True, kw_only=True):
    """`SETTLEMENT_WAITING`: an engine reports more than it may vouch for; an operator has to decide."""


class AccountingState(_Fact, frozen=True, kw_only=True):
    """`ACCOUNTING_STATE`: whether new packets can be accounted for has changed."""

    state: str
    """`available`, `spooling`, `rejecting` or `unavailable`."""
    backend: str
    spooled: int = 0
    """Transfers that wait for the ledger to come back."""
    error: str = ""


class NodeStatus(_Fact, frozen=True, kw_only=True):
    """`NODE_STATUS`: the status of the node, every few seconds. Counts are since the start."""

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
    """Received packets without events of their own, because more came than are recorded."""
    events_dropped: int = 0
    """Events lost on the way to viewers or the store."""
    latency_p50_ms: float | None = None
    """Of the packets answered since the last status; None: there were none."""
    latency_p99_ms: float | None = None
    rates: str = "off"
    """Live exchange rates: `off`, `fresh`, or `stale`, when packets that need one get T00."""


class AdminAction(_Fact, frozen=True, kw_only=True):
    """`ADMIN_ACTION`: someone with the admin key changed something."""

    action: str
    """What was done, such as `peer.create`."""
    target: str
    """What it was done to, such as a peer id."""
    key_fingerprint: str
    outcome: str = "ok"
    """`ok`, or why it was refused."""
    via: str = "key"
    """`key`: a request with ADMIN_API_KEY; `page`: a login of a browser, made with that key."""
    address: str = ""
    """Where the request came from."""
    peer_id: str = ""
    """The peer that it concerns; empty: none."""
    detail: str = ""
    """What was changed, with the values before and after; never a secret."""


class NodeStarted(_Fact, frozen=True, kw_only=True):
    """`NODE_STARTED`: a process of the node takes packets."""

    version: str
    ilp_address: str
    backend: str
    """Of the ledger."""


class NodeStopped(_Fact, frozen=True, kw_only=True):
    """`NODE_STOPPED`: it has stopped in order. Without one before the next start, it crashed."""

    uptime_seconds: int


class Alert(_Fact, frozen=True, kw_only=True):
    """`ALERT`: something that an operator should check: a line of the log of level `warning` or above.

    At most one a minute for each name and peer (`telemetry.alerts`).
    """

    name: str
    """Of the line, such as `clock_jumped`."""
    level: str
    """`warning` or `error`."""
    peer_id: str
    """Empty: it concerns no peer."""
    detail: str
    """The other fields of the line, as a JSON object that may be cut short; secrets redacted."""
    suppressed: int = 0
    """Lines of this name and peer since the last event, that had none."""


class BooksChecked(_Fact, frozen=True, kw_only=True):
    """`BOOKS_CHECKED`: the books of the running node were checked (`audit --url`)."""

    ok: bool
    checks: int
    """How many rules were checked."""
    failed: str
    """Names of those that do not hold, separated by `; `."""
    detail: str
    """What is wrong."""
    pending: int
    """Held by packets in flight."""


Event = (
    AccountBalance | PacketReceived | PacketForwarded | PacketFulfilled | PacketRejected
    | PeerConnected | PeerDisconnected | RouteAdded | RouteRemoved | RoutingLoop
    | NextHopShort
    | PaymentReceived
    | SettlementTriggered | SettlementStarted | SettlementCompleted | SettlementFailed
    | SettlementWaiting
    | AccountingState | NodeStatus | AdminAction
    | NodeStarted | NodeStopped | Alert | BooksChecked
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
    RoutingLoop: "ROUTING_LOOP",
    NextHopShort: "NEXT_HOP_SHORT",
    PaymentReceived: "PAYMENT_RECEIVED",
    SettlementTriggered: "SETTLEMENT_TRIGGERED",
    SettlementStarted: "SETTLEMENT_STARTED",
    SettlementCompleted: "SETTLEMENT_COMPLETED",
    SettlementFailed: "SETTLEMENT_FAILED",
    SettlementWaiting: "SETTLEMENT_WAITING",
    AccountingState: "ACCOUNTING_STATE",
    NodeStatus: "NODE_STATUS",
    AdminAction: "ADMIN_ACTION",
    NodeStarted: "NODE_STARTED",
    NodeStopped: "NODE_STOPPED",
    Alert: "ALERT",
    BooksChecked: "BOOKS_CHECKED",
}
"""The `type` of each event in JSON."""


def iso(at_ms: int) -> str:
    """Milliseconds since the epoch as `2026-01-31T12:00:00.000Z`.

    A time beyond the year 9999, which a peer may claim, is shown as the last one of it.
    """
    try:
        return f"{_iso_second(at_ms // 1000)}.{at_ms % 1000:03d}Z"
    except OverflowError:
        return "9999-12-31T23:59:59.999Z"


def iso_seconds(at_s: int) -> str:
    """Seconds since the epoch as `2026-01-31T12:00:00Z`."""
    return f"{_iso_second(at_s)}Z"


@lru_cache(maxsize=1024)  # most events of a moment share theirs
def _iso_second(at_s: int) -> str:
    return (_EPOCH + timedelta(seconds=at_s)).strftime("%Y-%m-%dT%H:%M:%S")


def packet_hex(packet_id: int) -> str:
    """The id of a packet or transfer as shown in JSON, logs and the ledger's tools."""
    return packet_id.to_bytes(16, "big").hex()


def cut(text: str) -> str:
    """`text`, shortened to `EVENT_TEXT_CHARACTERS_MAX` characters; a cut text ends with an ellipsis."""
    if len(text) <= bounds.EVENT_TEXT_CHARACTERS_MAX:
        return text
    return text[: bounds.EVENT_TEXT_CHARACTERS_MAX - 1] + "\u2026"


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
    # Text from peers, engines and the operating system. All other texts have bounds of their own:
    # ids, addresses and asset codes are checked where they enter.
    **dict.fromkeys(("accounting_reason", "detail", "error", "failed", "message", "outcome", "reason", "target"), cut),
}  # fmt: skip


def _camel_case(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(part.title() for part in rest)


class _Form:
    """How one type of event is written as JSON."""

    __slots__ = ("converters", "names", "values", "wire")

    def __init__(self, kind: type, type_name: str) -> None:
        fields = kind.__struct_fields__  # type: ignore[attr-defined] # of every struct
        self.names = tuple(map(_camel_case, fields))
        # Of a single name it would return the value itself.
        self.values: Callable[[Any], tuple[Any, ...]] = (
            attrgetter(*fields)
            if len(fields) > 1
            else lambda event: tuple(getattr(event, name) for name in fields)
        )
        self.converters = tuple(
            (index, _CONVERTERS[name]) for index, name in enumerate(fields) if name in _CONVERTERS
        )
        """Of the fields that JSON has in another form: index and conversion."""
        self.wire: Callable[..., msgspec.Struct] = msgspec.defstruct(
            kind.__name__,
            [
                ("nodeId", str),
                ("seq", int),
                ("timestamp", str),
                *((name, Any) for name in self.names),
            ],
            tag_field="type",
            tag=type_name,
            gc=False,
        )
        """The JSON object with its names and in its order."""

    def converted(self, event: Event) -> list[Any]:
        values = list(self.values(event))
        for index, convert in self.converters:
            values[index] = convert(values[index])
        return values


_FORMS: Final = {kind: _Form(kind, name) for kind, name in TYPES.items()}
_encoder: Final = msgspec.json.Encoder()
_ascii_encode: Final = JSONEncoder(separators=(",", ":")).encode


def body(event: Event) -> dict[str, Any]:
    """The event's own fields with their JSON names and values."""
    form = _FORMS[type(event)]
    return dict(zip(form.names, form.converted(event), strict=True))


def encode(event: Event, *, node_id: str, seq: int, at_ms: int) -> str:
    """The flat JSON object: type, node, sequence number, time, and the event's own fields."""
    form = _FORMS[type(event)]
    values = form.converted(event)
    try:
        return _encoder.encode(form.wire(node_id, seq, iso(at_ms), *values)).decode()
    except UnicodeEncodeError:
        # A lone surrogate, such as in the name of a file that is not UTF-8: no UTF-8 text can hold
        # it, an escape in ASCII can.
        common = {
            "type": TYPES[type(event)],
            "nodeId": node_id,
            "seq": seq,
            "timestamp": iso(at_ms),
        }
        return _ascii_encode(common | dict(zip(form.names, values, strict=True)))
