"""What the read and admin APIs answer, for the OpenAPI document.

Answers are not validated by these at run time: they are made in views.py and node/changes.py, and a
test compares them with the models. Fields may be added, so unknown ones are allowed.

Long because it is one list of models.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

Amount = Annotated[str, Field(pattern=r"^-?[0-9]+$", examples=["1000"])]
"""In the smallest unit of the asset, as a decimal string."""


class _Answer(BaseModel):
    model_config = ConfigDict(extra="allow", alias_generator=to_camel, populate_by_name=True)


class Fault(_Answer):
    """Why a request was refused."""

    error: str
    code: Literal["key_reused"] | None = None
    """For programs: the idempotency key is that of another request."""


class Accounting(_Answer):
    """The ledger."""

    state: str
    backend: str
    generation: int | None = None
    """Of the lease by which this process is the active one of its node; null: there is none."""


class Health(_Answer):
    """Whether the node is well."""

    status: Literal["healthy", "degraded", "unhealthy"]
    reason: str
    node_id: str
    peers_connected: int
    peers_total: int
    accounting: Accounting
    version: str
    uptime_seconds: int


class Alive(_Answer):
    """The process answers."""

    status: Literal["alive"]


class Ready(_Answer):
    """Whether new Prepares can be taken."""

    status: Literal["ready", "degraded", "not ready"]
    reason: str


class RoutingLoop(_Answer):
    """Packets that come back: sent to `nextHop`, they arrive again from `peerId`, and are refused."""

    peer_id: str
    next_hop: str
    prefix: str
    destination: str
    packets: int
    last_at: str


class NextHopShort(_Answer):
    """A next hop that has answered T04 in the last five minutes."""

    peer_id: str
    triggered_by: str
    message: str
    packets: int
    last_at: str


class RatesState(_Answer):
    """How live exchange rates are; `stale`: packets that need one get T00."""

    state: Literal["off", "fresh", "stale"]
    age_seconds: float | None
    error: str
    """Of the last answer of the source; empty: it was good."""
    refused: int
    """Currencies without a usable price in the last answer."""


class SinkState(_Answer):
    """A sink at a glance; /api/v1/sinks has more."""

    sink: Literal["webhook", "nats", "postgres"]
    state: Literal["current", "behind", "failing"]
    fault: str | None
    lag_events: int
    lag_seconds: float
    missed: int
    dead_letters: int


class RateItem(_Answer):
    """Units of `to` for one unit of `from`: an exact decimal number, or a fraction `12/13`."""

    from_: str = Field(alias="from")
    to: str
    rate: str
    source: Literal["config", "live"]


class RatesShown(RatesState):
    """Exchange rates: the static ones, and live ones against their base."""

    source: str | None
    max_age_seconds: int
    spread_basis_points: int
    refused_currencies: dict[str, str]
    items: list[RateItem]
    next: str | None


class SecretRotation(_Answer):
    """A peer whose former secret still serves."""

    peer_id: str
    until: str
    uses_former: bool
    """Whether its link was logged in over with the former secret: it may not have changed it yet."""


class Status(Health):
    """The node at a glance."""

    ilp_address: str
    btp_server_port: int
    http_port: int
    asset_code: str
    """Of the node, and of peers that name none; `assetScale` is its scale."""
    asset_scale: int
    routes: int
    packets_in_flight: int
    packets_fulfilled: int
    packets_rejected: int
    packets_counted: int
    """Packets that were only counted, without events of their own."""
    events_dropped: int
    settlements_waiting: int
    routing_loops: list[RoutingLoop]
    next_hops_short: list[NextHopShort]
    secret_rotations: list[SecretRotation]
    rates: RatesState
    sinks: list[SinkState]


class PeerItem(_Answer):
    """A peer and its link."""

    peer_id: str
    relation: Literal["peer", "parent", "child"]
    asset_code: str
    asset_scale: int
    connected: bool
    draining: bool
    """Whether it is being removed."""
    enabled: bool
    """False: no new packet is taken from it or routed to it."""
    offline_expected: bool
    """Whether it may be away without an alarm."""
    dials: bool
    """Whether this node dials it."""
    direction: Literal["inbound", "outbound"] | None
    latency_ms: float | None
    connects: int
    last_error: str
    in_flight: int
    """Packets that it sent and that have no answer yet."""
    in_flight_out: int
    """Packets that were sent to it and have no answer yet."""
    packets_in: int
    """Prepares from it since the start of the node; `Out`: to it."""
    packets_out: int
    fulfilled_in: int
    fulfilled_out: int
    rejected_in: int
    rejected_out: int
    resent_in: int
    resent_out: int
    resent_refused: int
    short_out: int
    """Packets to it that it refused with T04."""
    secret_former_until: str | None
    """Until when its former secret serves beside the present one; null: there is none."""
    uses_secret_former: bool
    """Whether its link was logged in over with the former secret."""
    throughput_in_left: Amount | None
    """What it may send now by its limit of value per time; null: there is none."""
    throughput_out_left: Amount | None


class RouteItem(_Answer):
    """A route in effect."""

    prefix: str
    next_hop: str
    source: str
    """`config`, `admin` (added by an operator), `local`, `child`, `parent`, or `ccp`: announced by the next hop."""
    path: list[str]
    """Of a route from CCP: the addresses on the way, the next hop first."""
    learned_ms: int | None
    """Of a route from CCP: when it was learned as it is, in milliseconds since the epoch."""


class RouteInUse(RouteItem):
    """A route in use, and who knows of it."""

    age_seconds: int | None
    """Of a route from CCP: for how long it is as it is."""
    announced_to: list[str]
    """The neighbours that have taken our announcement of it, of the first 32."""
    goes_before: str | None
    """Of a route from CCP: the route of the settings for a shorter prefix, as `prefix=next hop`, whose packets it takes."""


class Explained(_Answer):
    """Why packets for an address go where they go."""

    destination: str
    chosen: RouteItem | None
    shorter: list[RouteItem]
    beaten: list[RouteItem]
    local: bool


class NextHop(_Answer):
    """The next hop of a packet, and what decides whether it gets it."""

    peer_id: str
    connected: bool
    asset: str
    rate: str | None
    """Its units for one of the sender's; null: there is no rate."""
    payable_left: Amount | None
    """What we may still come to owe it; null: any amount."""


class Foretold(_Answer):
    """What would happen to a packet now. `sent` and `delivered`: others decide how it ends."""

    destination: str
    amount: Amount
    from_: str = Field(alias="from")
    asset: str
    route: RouteItem | None
    shorter: list[RouteItem]
    beaten: list[RouteItem]
    local: bool
    next_hop: NextHop | None
    credit_left: Amount | None
    """What the sender may still send; null: it is this node."""
    fee: Amount | None
    amount_out: Amount | None
    expires_in_ms: int
    expires_in_ms_out: int | None
    outcome: Literal["sent", "delivered", "fulfilled", "rejected"]
    code: str | None
    message: str


class _Books(_Answer):
    """What the books of a node say of a peer; `netBalance` above zero: it owes the node."""

    peer_id: str
    asset_code: str
    asset_scale: int
    debit_balance: Amount
    credit_balance: Amount
    net_balance: Amount
    pending_debits: Amount
    pending_credits: Amount
    credit_limit: Amount
    available_credit: Amount
    settlement_threshold: Amount | None
    settlement_state: str
    settlements_waiting: int
    settlements_waiting_amount: Amount


class AccountItem(_Books):
    """How we stand with a peer."""

    granted: Amount
    max_payable: Amount | None
    removed: bool


class NetworkLink(_Books):
    """A link as one node has it: the account, and what is known of the connection."""

    connected: bool | None
    """Null, as those below: not known."""
    enabled: bool | None
    offline_expected: bool | None
    packets_in: int | None
    """Prepares from the peer since the start of the node."""
    packets_out: int | None


class NetworkNode(_Answer):
    """A node, or why it could not be asked, with what it said last."""

    url: str
    """Empty: this node itself."""
    error: str
    """Empty: it has answered."""
    at: str | None
    """When it said what is shown; null: it has not answered since this node was started."""
    node_id: str | None
    ilp_address: str | None
    status: str | None
    accounting_state: str | None
    accounts: list[NetworkLink]


class NetworkShown(_Answer):
    """This node first, then those of EXPLORER_NODES."""

    configured: bool
    """Whether EXPLORER_NODES names others."""
    nodes: list[NetworkNode]


class HopAsset(_Answer):
    """Of an amount of a packet."""

    code: str
    scale: int


class Hop(_Answer):
    """One packet as one node has it, by that node's clock; what is null is not known there."""

    packet_id: str
    """Of that node: each has one of its own."""
    status: Literal["pending", "fulfilled", "rejected"]
    peer_id: str
    """Empty: the node itself, as `nextHop`."""
    next_hop: str | None
    destination: str
    amount: Amount
    amount_out: Amount | None
    fee: Amount | None
    asset_in: HopAsset | None
    """Of `amount` and `fee`."""
    asset_out: HopAsset | None
    """Of `amountOut`."""
    expires_at: str | None
    received_at: str | None
    duration_ms: float | None
    reserved_ms: float | None
    """After it was received, as those below."""
    forwarded_ms: float | None
    answered_ms: float | None
    posted_ms: float | None
    code: str | None
    message: str | None
    triggered_by: str | None
    ways: list[str]
    """The next hops that it was sent to; more than one where the first refused it."""


class HopList(_Answer):
    """Packets of this node."""

    items: list[Hop]
    next: None


class HopsHere(_Answer):
    """Packets of this node with a condition, oldest first."""

    node_id: str
    ilp_address: str
    now: str
    """By its clock."""
    items: list[Hop]
    more: bool
    """Whether others have the same condition."""


class HopsOfNode(_Answer):
    """What one node has of a condition, or why it could not be asked."""

    url: str
    """Empty: this node itself."""
    error: str
    """Empty: it has answered."""
    node_id: str | None
    """Of one that has not: as it said before; null: it never has."""
    ilp_address: str | None
    now: str | None
    clock_offset_ms: float | None
    """How far its clock is ahead of this node's, as well as one request can tell."""
    clock_error_ms: float | None
    """By how much that may be wrong."""
    items: list[Hop]
    more: bool


class HopsEverywhere(_Answer):
    """One packet over all nodes: this one first, then those of EXPLORER_NODES."""

    condition: str
    configured: bool
    """Whether EXPLORER_NODES names others."""
    nodes: list[HopsOfNode]


class Certificate(_Answer):
    """Whether a listener speaks TLS."""

    enabled: bool
    fingerprint: str | None


class KeyItem(_Answer):
    """What secures the link with a peer."""

    peer_id: str
    secret_fingerprint: str
    secret_since: str | None
    secret_age_seconds: int | None
    dials: bool
    tls: bool
    connected: bool


class WalletItem(_Answer):
    """What a wallet of this node was paid."""

    wallet: str
    asset_code: str
    asset_scale: int
    received: Amount
    sent: Amount
    balance: Amount
    pending: Amount
    pay_url: str | None


class IncomingItem(_Answer):
    """A payment that came in for a wallet of this node; `ended` is null while it is open."""

    id: str
    payment_id: str
    wallet: str
    asset_code: str
    asset_scale: int
    amount: Amount
    at_least: bool
    packets: int
    began_at: str
    last_at: str
    ended: Literal["closed", "quiet", "room"] | None
    webhook: Literal["none", "waiting", "told", "dead"]
    webhook_attempts: int
    webhook_next_at: str | None
    webhook_fault: str | None


class IncomingPayments(_Answer):
    """Payments that came in, latest first."""

    items: list[IncomingItem]
    next: str | None
    webhooks_waiting: int
    webhooks_dead: int


class Told(_Answer):
    """The webhook is told again."""

    id: str
    webhook: Literal["waiting"]


class SinkItem(_Answer):
    """A sink. Counts are since the start of the node, but `missed` and `deadLettersLost`."""

    sink: Literal["webhook", "nats", "postgres"]
    place: str
    """Where it is, without credentials."""
    events: list[str] | None
    """Types that it gets; null: all."""
    state: Literal["current", "behind", "failing"]
    fault: str | None
    """Why the last attempt failed."""
    attempts: int
    """That failed, in a row."""
    next_attempt_at: str | None
    last_delivered_at: str | None
    lag_events: int
    """Events that are stored and not delivered."""
    lag_seconds: float
    """Age of the oldest of these."""
    delivered: int
    delivered_bytes: int
    retried: int
    refused: int
    """Events refused for good: dead letters."""
    missed: int
    """Events that were gone before they were delivered."""
    dead_letters: int
    dead_letter_bytes: int
    dead_letters_lost: int
    """Those that went for want of room."""


class Sinks(_Answer):
    """Where events are delivered."""

    items: list[SinkItem]
    next: None


class DeadLetterItem(_Answer):
    """An event that a sink refused for good."""

    seq: int
    type: str
    timestamp: str
    reason: str
    refused_at: str
    attempts: int
    again: bool
    """Whether it will be delivered again."""
    event: str
    """The event, as JSON."""


class DeadLetters(_Answer):
    """Of a sink, oldest first."""

    items: list[DeadLetterItem]
    next: str | None


class DeliveredAgain(_Answer):
    """So many dead letters will be delivered again."""

    sink: str
    letters: int


class AdminPeer(_Answer):
    """The settings of a peer that are in effect, without its secrets."""

    id: str
    url: str | None
    relation: Literal["peer", "parent", "child"]
    asset_code: str
    asset_scale: int
    credit_limit: Amount
    max_payable: Amount | None
    max_in_flight_value: Amount | None
    max_packet_amount: Amount | None
    rate_limit: int | None
    throughput_in: Amount | None
    throughput_out: Amount | None
    throughput_window_seconds: int
    max_prepaid: Amount
    routes: list[str]
    enabled: bool
    offline_expected: bool
    secret_former_until: str | None
    """Until when its former secret serves beside the present one; null: there is none."""
    settlement_token_set: bool
    http_url: str | None
    http_token_set: bool
    source: Literal["config", "admin"]
    changed: list[str]


class PeerTerms(_Answer):
    """What was agreed with a peer and is in effect, without secrets; of URLs scheme, host and port."""

    id: str
    relation: Literal["peer", "parent", "child"]
    asset_code: str
    asset_scale: int
    url: str | None
    """Where it is dialled; null: it dials us."""
    http_url: str | None
    credit_limit: Amount
    max_payable: Amount | None
    """Null, as in the limits below: there is none."""
    max_in_flight_value: Amount | None
    max_packet_amount: Amount | None
    rate_limit: int | None
    throughput_in: Amount | None
    throughput_out: Amount | None
    throughput_window_seconds: int
    settle_threshold: Amount | None
    settle_to: Amount
    max_prepaid: Amount
    settlement_engine_url: str | None
    """Its own; `manual`: an operator pays it; null: SETTLEMENT_ENGINE_URL."""
    fee_basis_points: int
    """Of what it sends."""
    routes: list[str]
    """The prefixes that its settings name."""
    allow_reflection: bool
    send_routes: bool | None
    receive_routes: bool | None
    transit: bool | None
    enabled: bool
    offline_expected: bool
    source: Literal["config", "admin"]
    changed: list[str]
    """Settings that an operator has changed while the node ran."""


class Changed(_Answer):
    """One setting that a change would change; `(secret)` stands for a secret."""

    target: str
    field: str
    from_: str = Field(alias="from")
    to: str


class ChangePreview(_Answer):
    """What a change would do, with `preview=true`: it is checked, and not made."""

    preview: Literal[True]
    action: str
    target: str
    changes: list[Changed]
    effects: list[str]
    """Sentences."""
    shown: str
    """For the same request without `preview`: so it is made only where it is still this."""


class RemovedPeer(_Answer):
    """What had no answer when a peer was removed: what it fulfils of it is lost to this node."""

    packets_unanswered: int
    amount_unanswered: Amount


class AdminRoute(_Answer):
    """A static route."""

    prefix: str
    next_hop: str


class ListedRoute(AdminRoute):
    """A static route, as it is listed."""

    source: Literal["admin", "config"]
    announced_to: list[str]
    """The neighbours that have taken our announcement of it; none while it is not in use."""


class PacketAnswer(_Answer):
    """The answer to a packet: `fulfillment` of a Fulfill, `code` and `message` of a Reject."""

    status: Literal["fulfilled", "rejected"]
    data: str
    duration_ms: float
    """From sending the packet to its answer."""
    fulfillment: str | None = None
    code: str | None = None
    message: str | None = None
    triggered_by: str | None = None


class LogEvent(_Answer):
    """An event of the log, with the fields of its type (docs/api.md)."""

    type: str
    node_id: str
    seq: int
    timestamp: str
    group: Literal["operator", "link", "settlement", "alert", "books", "node"]
    said: str
    """The event in words; texts of others are as they came."""


class LogPage(_Answer):
    """A page of the log."""

    items: list[LogEvent]
    next: str | None
    """The `cursor` of the next page; null: there is none."""
    last_seq: str
    """The number of the last event of the node: `after` it what comes."""
    fault: str
    """Why nothing is kept at the moment; empty: events are kept."""
    not_kept: int
    """Events since the start that were not kept: links of peers that flap, and those of a disk that fails."""


class AuditCheck(_Answer):
    """One rule of the books."""

    name: str
    ok: bool
    details: str


class AuditReport(_Answer):
    """What `audit --json` prints."""

    node_id: str
    backend: str
    ok: bool
    pending: Amount
    """Held by packets in flight."""
    checks: list[AuditCheck]
    peers: list[dict[str, str]]


class Audit(_Answer):
    """A check of the books; `failed`: it could not be made, and `error` says why."""

    state: Literal["none", "running", "done", "failed"]
    began_at: str | None = None
    ended_at: str | None = None
    done: int | None = None
    """Requests of the journal that were replayed."""
    of: int | None = None
    report: AuditReport | None
    error: str | None


class PaymentProof(_Answer):
    """What the payer has in hand about delivery, in the receiver's asset."""

    acknowledged: int
    reported: Amount
    receiver_total: Amount | None
    last_sequence: int


class PaymentAnswer(_Answer):
    """A payment of this node. `sent`, `uncertain` in its asset, `delivered`, `min_delivered` in the receiver's."""

    key: str
    target: str
    state: Literal["running", "completed", "failed", "interrupted"]
    amount: Amount
    sent: Amount
    delivered: Amount
    min_delivered: Amount
    uncertain: Amount
    packets: int
    duration_ms: int
    asset: str
    receiver_asset: str | None
    reason: str
    proof: PaymentProof


class PaymentAnswers(_Answer):
    """Payments of this node, latest first."""

    items: list[PaymentAnswer]
    next: str | None


class Peers(_Answer):
    """All peers."""

    items: list[PeerItem]
    next: str | None


class Routes(_Answer):
    """Routes by prefix."""

    items: list[RouteInUse]
    next: str | None


class Accounts(_Answer):
    """All accounts."""

    items: list[AccountItem]
    next: str | None


class Wallets(_Answer):
    """All wallets."""

    items: list[WalletItem]
    next: str | None


class Keys(_Answer):
    """What identifies this node and secures its links."""

    node_id: str
    ilp_address: str
    admin_key_set: bool
    admin_key_fingerprint: str | None
    read_key_set: bool
    receiver_secret_set: bool
    btp_tls: Certificate
    http_tls: Certificate
    items: list[KeyItem]
    next: str | None


class Session(_Answer):
    """What the login of a browser may do."""

    role: Literal["read", "operate"]
    logged_in: bool
    can_operate: bool
    """Whether there is an ADMIN_API_KEY to log in with."""
    operates_for_seconds: int
    csrf_token: str | None
    """To be sent as `X-CSRF-Token` with what changes something; null: it may not."""


class SettlementItem(_Answer):
    """One settlement. `phase` `booked` and `payer` `operator`: it waits to be paid and confirmed."""

    settlement_id: str
    peer_id: str
    asset_code: str
    asset_scale: int
    direction: Literal["incoming", "outgoing"]
    amount: Amount
    phase: str
    payer: str
    attempts: int
    error: str
    next_attempt_ms: int | None
    """When its engine is asked again; null: it is not."""
    created_ms: int
    changed_ms: int


class SettlementList(_Answer):
    """Settlements, newest first."""

    items: list[SettlementItem]
    next: str | None


class Value(_Answer):
    """An amount in an asset."""

    asset_code: str
    asset_scale: int
    amount: Amount


class CodeCount(_Answer):
    """How many packets were rejected with a code."""

    code: str
    count: int


class Aggregate(_Answer):
    """What passed from `timestamp` on, for `resolutionMs`; null: not known."""

    timestamp: str
    seconds: int
    """How many seconds of it are known."""
    fulfilled: int | None
    rejected: int | None
    value: list[Value]
    """Of fulfilled packets, in the asset of their sender; settlements are not in it."""
    codes: list[CodeCount]
    """Of the rejected ones, the most frequent first."""
    latency_p50_ms: float | None
    """Median time to the answer, estimated from a histogram; null: there was no packet."""
    latency_p99_ms: float | None


class AggregateList(_Answer):
    """Points on multiples of their width, oldest first."""

    resolution_ms: int
    from_: str = Field(alias="from")
    to: str
    since: str | None
    """Since when anything is known, over restarts; null: nothing is."""
    items: list[Aggregate]
    next: str | None


class PeerAggregate(_Answer):
    """What passed from (`In`) and to (`Out`) a peer from `timestamp` on; null: not known."""

    timestamp: str
    seconds: int
    """How many seconds of it are known."""
    fulfilled_in: int | None
    rejected_in: int | None
    fulfilled_out: int | None
    rejected_out: int | None
    amount_in: Amount | None
    """Fulfilled, in its asset."""
    amount_out: Amount | None
    codes: list[CodeCount]
    """How packets from it were rejected."""


class PeerAggregateList(_Answer):
    """Points on multiples of their width, oldest first; the last may be under way."""

    peer_id: str
    resolution_ms: int
    from_: str = Field(alias="from")
    to: str
    items: list[PeerAggregate]
    next: str | None


class PeerActivity(_Answer):
    """The packets of a peer, both ways, by the minute; null: not known."""

    peer_id: str
    packets: list[int | None]


class Activity(_Answer):
    """The last hour, by the minute; the last one is under way."""

    resolution_ms: int
    from_: str = Field(alias="from")
    to: str
    items: list[PeerActivity]
    next: str | None


class AdminPeers(_Answer):
    """All peers."""

    items: list[AdminPeer]
    next: str | None


class AdminRoutes(_Answer):
    """The static routes."""

    items: list[ListedRoute]
    next: str | None
