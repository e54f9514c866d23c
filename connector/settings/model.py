"""Every setting: its type, its default and, under it, what it means.

The docstrings of the fields are the reference: docs/configuration.md is made from them. `Settings(...)`
makes them in a program (the library use) and reads nothing; `load` reads them for the daemon.
Frozen, and checked as a whole. Amounts are in the smallest unit of an asset.

Long because every setting stands here with its meaning.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, model_validator
from pydantic.alias_generators import to_camel
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from connector.base import limits
from connector.peering.model import Asset, Relation
from connector.settings import bounds
from connector.settings.contradictions import contradictions
from connector.settings.types import (
    EXACT,
    PRINTABLE,
    Amount,
    AssetCode,
    BasisPoints,
    DialUrl,
    EngineUrl,
    EventNames,
    HostName,
    HttpUrl,
    IlpAddress,
    Moment,
    Network,
    NodeId,
    PeerId,
    PlainHttpUrl,
    Port,
    Prefix,
    Prefixes,
    RateLimit,
    Rates,
    Replicas,
    Scale,
    StreamName,
    Subject,
    TableName,
    Throughput,
    ThroughputWindow,
    WalletName,
    is_loopback,
    moment_ms,
    split_list,
    split_node_keys,
    split_routes,
)


class PeerSettings(BaseModel):
    """One peer: `BTP_PEER_<ID>_*`, or an item of `peers` in YAML."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True
    )

    id: PeerId
    """Its name; in the environment the `<ID>` in lower case, `_` as `-`."""
    secret: SecretStr
    """Shared with the peer: the token of the BTP log-in, and of what it posts over HTTP. Without it no
    peer is accepted. Where BTP_SERVER_HOST or ILP_HTTP_HOST is not loopback: at least 16 characters."""
    secret_former: SecretStr | None = None
    """The secret before SECRET, which serves beside it until SECRET_FORMER_UNTIL, so that both sides can
    change without losing the link: its log-ins are accepted, and where the peer refuses the new one, ours
    show it (docs/operating.md)."""
    secret_former_until: Moment | None = None
    """Until when SECRET_FORMER serves, such as `2026-01-31T12:00:00Z`; after that it has no effect."""
    url: DialUrl | None = None
    """Where to dial it; without it, it dials us."""
    username: str | None = None
    """Sent as `auth_username` instead of NODE_ID when we dial it."""
    http_url: PlainHttpUrl | None = None
    """Where packets for it are posted (ILP over HTTP, RFC 35), such as
    `https://bob.example/accounts/alice/ilp`; used while no BTP connection with it serves."""
    http_token: SecretStr | None = None
    """Bearer token that is shown there. Default: its secret."""
    http_mode: Literal["sync", "async"] = "sync"
    """`sync`: the answer is the response, as all software in use does it; `async`: the peer posts it to
    this node's listener (RFC 35 of 2026). What it sends us may be either."""
    http_content_type: Literal["application/octet-stream", "application/ilp+octet-stream"] = (
        "application/octet-stream"
    )
    """Content type of what is posted to it; both are accepted from it."""
    http_callback_url: PlainHttpUrl | None = None
    """The only Callback-Url that is accepted from it, if it wants its answers posted. Default: HTTP_URL
    of this peer."""
    relation: Relation = Relation.PEER
    """`peer`, `parent` or `child`."""
    asset_code: AssetCode | None = None
    """Default: ASSET_CODE; of a parent what it says itself (docs/routing.md)."""
    asset_scale: Scale | None = None
    """Default: ASSET_SCALE; of a parent what it says itself."""
    credit_limit: Amount | None = None
    """What it may owe us. Default: CREDIT_LIMIT."""
    max_payable: Amount | None = None
    """What we may owe it. Default: no bound."""
    max_in_flight_value: Amount | None = None
    """What may be held at a time for packets from it that have no answer yet, and the same for packets
    to it. Default: no bound."""
    max_packet_amount: Amount | None = None
    """The largest packet taken from it. Default: no bound."""
    rate_limit: RateLimit | None = None
    """Packets per second taken from it. Default: no bound."""
    throughput_in: Throughput | None = None
    """Value taken from it per THROUGHPUT_WINDOW_SECONDS. Default: no bound."""
    throughput_out: Throughput | None = None
    """Value sent to it per THROUGHPUT_WINDOW_SECONDS. Default: no bound."""
    throughput_window_seconds: ThroughputWindow = 60
    """The time for THROUGHPUT_IN and _OUT: so much may pass at once, and again within each such time,
    evenly. What is rejected does not count."""
    settle_threshold: Amount | None = None
    """When we owe it more than this, settle. Default: never."""
    settle_to: Amount = 0
    """What we go on owing it after a settlement."""
    max_prepaid: Amount | None = None
    """What its settlement engine can make us owe it: a payment that it reports beyond what the peer
    owes us and this waits for an operator (`settle --accept`). Default: its credit limit."""
    settlement_engine_url: EngineUrl | None = None
    """Settlement engine (RFC 38) that pays it; `manual`: an operator does. Default:
    SETTLEMENT_ENGINE_URL."""
    settlement_token: SecretStr | None = None
    """Shared with its settlement engine alone: /settlement takes requests about this peer with this
    token only, and about no other peer; our requests to the engine carry it. Default:
    SETTLEMENT_TOKEN."""
    settlement_engine_scale: Scale | None = None
    """Scale that its settlement engine is given amounts in; what is less than a unit of it stays
    owed. Default: the scale of the asset."""
    routes: Prefixes = Field(default_factory=list)
    """Prefixes that are reached through it."""
    fee_basis_points: BasisPoints | None = None
    """Taken from what it sends. Default: FEE_BASIS_POINTS."""
    allow_reflection: bool = False
    """Whether its packets may be sent back to it."""
    ilp_address_segment: NodeId | None = None
    """Of a child: what follows our address in its own. Default: its id."""
    send_routes: bool | None = None
    """Whether routes are announced to it (CCP, docs/routing.md). Default: `true` for a peer and a
    parent, `false` for a child."""
    receive_routes: bool | None = None
    """Whether routes are taken from it. Default: as for SEND_ROUTES."""
    transit: bool | None = None
    """Whether it is told all routes and its own are told to all, as those of a child are. Without it
    it is told what leads to this node and to those that have it, and its own routes are told to
    these only. Default: `true` for a child, else `false`."""
    send_prefixes: Prefixes = Field(default_factory=list)
    """Only routes at or below these prefixes are announced to it, comma-separated. Default: all."""
    receive_prefixes: Prefixes = Field(default_factory=list)
    """Only routes at or below these prefixes are taken from it, comma-separated. Default: all."""
    enabled: bool = True
    """`false`: no packet is taken from it (T03) or routed to it; its account and its link stay."""
    offline_expected: bool = False
    """Whether it may be away for as long as it likes: then a missing link is no alarm on the page."""

    @model_validator(mode="after")
    def _check_whole(self) -> PeerSettings:
        token = self.secret.get_secret_value()
        if not token:
            raise ValueError("secret must not be empty")
        if len(token.encode()) > limits.BTP_TOKEN_BYTES_MAX or not PRINTABLE.fullmatch(token):
            raise ValueError(
                f"secret must be 1 to {limits.BTP_TOKEN_BYTES_MAX} printable ASCII characters"
            )
        former = self.secret_former
        if (former is None) != (self.secret_former_until is None):
            raise ValueError("secretFormer and secretFormerUntil go together")
        if former is not None:
            if former.get_secret_value() == token:
                raise ValueError("secretFormer must not be the secret")
            if not PRINTABLE.fullmatch(former.get_secret_value()):
                raise ValueError("secretFormer must be printable ASCII characters without spaces")
        settlement_token = self.settlement_token
        if settlement_token and not PRINTABLE.fullmatch(settlement_token.get_secret_value()):
            raise ValueError("settlementToken must be printable ASCII characters without spaces")
        if self.settle_threshold is not None and self.settle_to > self.settle_threshold:
            raise ValueError("settleTo must not be above settleThreshold")
        return self

    @property
    def secret_former_until_ms(self) -> int:
        """Until when the former secret serves, in milliseconds since the epoch; 0: there is none."""
        return 0 if self.secret_former_until is None else moment_ms(self.secret_former_until)


class RouteSettings(BaseModel):
    """A static route."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True
    )

    prefix: Prefix
    """Empty: the default route."""
    next_hop: str
    """A peer id."""


def _peers_by_id(peers: Any) -> Any:
    """Peers as sources give them, by id, so that two can be joined."""
    return list(peers.values()) if isinstance(peers, dict) else peers


SOURCES: Final = "settings_sources"
"""The argument of `Settings` that holds sources of pydantic-settings, the first one first."""


class Settings(BaseSettings):
    """Everything that can be configured. The name of a variable is the field's in upper case."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=to_camel,
        populate_by_name=True,
        validate_default=True,
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """What the constructor is given; environment and file come with `settings.load`."""
        assert isinstance(init_settings, InitSettingsSource)
        sources: tuple[PydanticBaseSettingsSource, ...] = init_settings.init_kwargs.pop(SOURCES, ())
        return init_settings, *sources

    node_id: NodeId = "connector"
    """Name of this node in logs, events and account ids, and its BTP user name."""
    ilp_address: IlpAddress | None = None
    """Own address; without it asked from the parent (ILDCP), else `test.<NODE_ID>`."""
    btp_server_host: HostName = "127.0.0.1"
    """Address of the BTP listener."""
    btp_server_port: Port = 3000
    """Port of the BTP listener; 0 takes a free one."""
    btp_tls_cert: Path | None = None
    """PEM certificate chain: with it and BTP_TLS_KEY the listener speaks wss."""
    btp_tls_key: Path | None = None
    """PEM private key of BTP_TLS_CERT."""
    http_host: HostName = "127.0.0.1"
    """Address of health, metrics, API and page."""
    http_port: Port = 8080
    """Port of health, metrics, API and page; 0 takes a free one."""
    http_tls_cert: Path | None = None
    """PEM certificate chain: with it and HTTP_TLS_KEY health, API and page are served over https."""
    http_tls_key: Path | None = None
    """PEM private key of HTTP_TLS_CERT."""
    http_allowed_hosts: Annotated[list[HostName], BeforeValidator(split_list)] = Field(
        default_factory=list
    )
    """Names by which the node may be asked, comma-separated, besides those of this machine: for a
    proxy in front of it. Unset, and HTTP_HOST not loopback: any name."""
    trusted_proxies: Annotated[list[Network], BeforeValidator(split_list)] = Field(
        default_factory=list
    )
    """Addresses and networks of proxies in front of the HTTP listener, comma-separated:
    X-Forwarded-For, -Proto, -Host and -Prefix are heeded from these only. With any, the page and the
    read API need a key on loopback too."""
    ilp_http_host: HostName = "127.0.0.1"
    """Address of the listener for ILP over HTTP."""
    ilp_http_port: Port | None = None
    """Port of the listener for ILP over HTTP: peers post packets to `/accounts/<peer id>/ilp` or `/ilp`
    there, with their secret as the bearer token; nothing else is served on it. 0 takes a free one.
    Unset: off."""
    ilp_http_tls_cert: Path | None = None
    """PEM certificate chain: with it and ILP_HTTP_TLS_KEY the listener speaks https."""
    ilp_http_tls_key: Path | None = None
    """PEM private key of ILP_HTTP_TLS_CERT."""
    ilp_http_url: PlainHttpUrl | None = None
    """How peers reach that listener, such as `https://alice.example`: answers to what is sent in
    `async` mode are posted below it. Default: `http://ILP_HTTP_HOST:ILP_HTTP_PORT`."""
    admin_api_key: SecretStr | None = None
    """Key of the admin API and, off loopback, of the page. Unset: admin off. As all keys of the HTTP
    listener it has at least 16 characters where HTTP_HOST is not loopback."""
    read_api_key: SecretStr | None = None
    """Read-only key: opens all that ADMIN_API_KEY opens for reading (the page, its live feed, the
    read API, GET of the admin API); what changes something is refused. For viewers, and for the
    pages of other nodes."""
    metrics_key: SecretStr | None = None
    """Key that shows balances and amounts of peers in /metrics, for Prometheus; opens nothing else.
    Off loopback they are shown with this key, READ_API_KEY or ADMIN_API_KEY only; on loopback without
    a key, unless this one is set."""
    data_dir: Path = Path("./data")
    """Folder of the embedded ledger, the outbox and the event store."""
    disk_reserve_bytes: Annotated[int, Field(ge=0, le=1 << 50), EXACT] = limits.DISK_RESERVE_BYTES
    """Octets that are kept free on the disk of DATA_DIR for packets in flight: with less, new packets
    get T00; with less than twice as many, no events are kept. 0: none (docs/deployment.md)."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """How much is logged."""
    log_format: Literal["json", "console"] | None = None
    """Default: console on a terminal, else json."""
    ledger: Literal["embedded", "memory"] = "embedded"
    """`memory` forgets everything at the end: for benchmarks only."""
    tigerbeetle_cluster_id: Annotated[int, Field(ge=0, lt=2**128), EXACT] | None = None
    """With TIGERBEETLE_REPLICAS: accounts are in this TigerBeetle cluster."""
    tigerbeetle_replicas: Replicas | None = None
    """Addresses of the replicas, `host:port,host:port`; names allowed. A port alone: on this
    machine."""
    tigerbeetle_history: bool = False
    """Accounts of peers that are new from now on keep all their balances in TigerBeetle, and the page
    shows those from before the stored events, too. What it costs is in tigerbeetle.md."""
    accounting_outage_policy: Literal["spool", "reject"] = "spool"
    """What happens to new packets while TigerBeetle is away: `spool` goes on, within the limits that
    the mirror of the balances knows, and books them when it is back; `reject` answers T00. An
    embedded ledger whose disk fails always rejects."""
    fulfill_when: Literal["durable", "booked"] = "durable"
    """When the sender gets a Fulfill, with TigerBeetle: `durable`, as soon as the disk of DATA_DIR has it
    and what it makes us owe, which is booked a moment later; or `booked`, when the cluster has booked it.
    While a standby waits it is `booked`. Set `booked` where a process may be started with another DATA_DIR
    after a crash. What each survives is in accounting.md."""
    accounting_spool_limit: Annotated[int, Field(ge=1, le=limits.SPOOL_TRANSFERS_MAX), EXACT] = (
        1_000_000
    )
    """Transfers in the outbox from which on new packets are rejected although the policy is
    `spool`."""
    ledger_retention_days: Annotated[int, Field(ge=0, le=36_500), EXACT] = limits.LEDGER_DAYS_KEPT
    """Days that the journal of an embedded ledger is kept; older rows are pruned. 0: their age
    prunes nothing. Balances, grants and settlements stay for ever; what goes is the history of
    packets (docs/accounting.md)."""
    ledger_max_bytes: Annotated[int, Field(ge=bounds.LEDGER_FILE_BYTES_MIN, le=1 << 50), EXACT] = (
        limits.LEDGER_FILE_BYTES
    )
    """Octets that an embedded ledger may take on disk; its oldest rows are pruned first, but none
    that a packet may still be asked for by."""
    ledger_archive_dir: Path | None = None
    """Folder into which rows are copied before they are pruned, a file for each stretch; unset: they
    are dropped."""
    accounting_timeout_ms: Annotated[int, Field(ge=10, le=60_000), EXACT] = 1000
    """Deadline of one request to the ledger, in milliseconds."""
    telemetry_packets_per_second: Annotated[int, Field(ge=0, le=100_000), EXACT] = 200
    """Packets per second that have events of their own; what comes beyond is only counted. 0: all
    are only counted."""
    otlp_endpoint: PlainHttpUrl | None = None
    """OpenTelemetry collector that gets traces of packets, such as `http://localhost:4318` (OTLP over
    HTTP, JSON). Packets that are only counted have none: see TELEMETRY_PACKETS_PER_SECOND."""
    otlp_sample_ratio: Annotated[float, Field(ge=0, le=1)] = 0.01
    """Share of the packets that is traced, from 0 to 1; all nodes of a path choose the same ones."""
    explorer_max_events: Annotated[int, Field(ge=0, le=100_000_000), EXACT] = 1_000_000
    """Events that are kept for the page, in DATA_DIR; 0 keeps none."""
    explorer_max_bytes: Annotated[int, Field(ge=1 << 20, le=1 << 40), EXACT] = 1 << 30
    """Octets that they may take on disk; the oldest are deleted first. Up to 64 MiB more are taken
    while they are written."""
    explorer_retention_days: Annotated[int, Field(ge=1, le=3650), EXACT] = 7
    """How long they are kept, in days."""
    event_log_max_bytes: Annotated[int, Field(ge=0, le=1 << 40), EXACT] = 64 << 20
    """Octets that the log of what operators, links, settlements and the books did may take in DATA_DIR
    (docs/operating.md); the oldest goes first. At least 1048576; 0: none is kept."""
    event_log_retention_days: Annotated[int, Field(ge=1, le=36500), EXACT] = 400
    """How long it is kept, in days."""
    sink_webhook_url: HttpUrl | None = None
    """Sink: events are POSTed there as JSON, in batches, at least once (docs/sinks.md)."""
    sink_webhook_secret: SecretStr | None = None
    """Signs what is POSTed there, as standardwebhooks.com says: `whsec_` and base64, or any text of at
    least 16 characters. Needed with SINK_WEBHOOK_URL."""
    sink_webhook_events: EventNames = Field(default_factory=list)
    """Types of events, and groups of types, that it gets, comma-separated, or `all`. Default: all but
    packets, balances and the status."""
    sink_nats_url: SecretStr | None = None
    """Sink: events are published to a stream of NATS JetStream there: `nats://user:password@host:4222`,
    `tls://...`, several servers divided by commas. Needs the library nats-py."""
    sink_nats_subject: Subject = "ilp.events"
    """With what their subjects begin; the node id and the type follow."""
    sink_nats_stream: StreamName = "ILP_EVENTS"
    """The stream that takes them; made if it is missing."""
    sink_nats_tls_ca: Path | None = None
    """PEM file with the authorities that are trusted there. Default: those of the system."""
    sink_nats_events: EventNames = Field(default_factory=list)
    """As SINK_WEBHOOK_EVENTS. Default: all that is stored."""
    sink_postgres_url: SecretStr | None = None
    """Sink: events are written into a table of PostgreSQL there:
    `postgresql://user:password@host:5432/database?sslmode=verify-full`. Needs the library asyncpg."""
    sink_postgres_table: TableName = "ilp_events"
    """The table; made if it is missing (`sinks --sql` prints how)."""
    sink_postgres_events: EventNames = Field(default_factory=list)
    """As SINK_WEBHOOK_EVENTS. Default: all that is stored."""
    sink_lag_alert_seconds: Annotated[int, Field(ge=1, le=30 * 86_400), EXACT] = 300
    """How old the oldest event may be that a sink does not have, in seconds, before there is an alert."""
    sink_dead_letters_max_bytes: Annotated[int, Field(ge=1 << 16, le=1 << 34), EXACT] = 16 << 20
    """Octets on disk of the events that a sink refused for good, of each sink; the oldest go first."""
    explorer_nodes: Annotated[
        list[PlainHttpUrl],
        BeforeValidator(split_list),
        Field(max_length=bounds.EXPLORER_NODES_MAX),
    ] = Field(default_factory=list)
    """Pages of other nodes, `http://host:port,http://host:port`: the network on the page then has these
    nodes too, with both sides' balance of each link. This node may be among them."""
    explorer_nodes_key: SecretStr | None = None
    """Shown to the nodes of EXPLORER_NODES that have no key of their own in EXPLORER_NODE_KEYS.
    Every one of them learns it: let it be a READ_API_KEY that they share, never an ADMIN_API_KEY."""
    explorer_node_keys: Annotated[dict[str, SecretStr], BeforeValidator(split_node_keys)] = Field(
        default_factory=dict
    )
    """The key of each node of EXPLORER_NODES, its READ_API_KEY: `http://host:port=key,...` with the
    URLs as they are there. A node is shown its own key and no other."""
    asset_code: AssetCode = "USD"
    """Asset of peers that name none."""
    asset_scale: Scale = 9
    """Scale of peers that name none: amounts count 10**-scale."""
    credit_limit: Amount = 1_000_000_000
    """What a peer that names none may owe us."""
    message_window_ms: Annotated[int, Field(ge=1, le=60_000), EXACT] = 1000
    """By how much each hop shortens the expiry, in milliseconds."""
    max_hold_ms: Annotated[int, Field(ge=100, le=limits.HOLD_MS_MAX), EXACT] = 30_000
    """Longest hold, in milliseconds; longer ones are shortened onward."""
    fee_basis_points: BasisPoints = 0
    """Taken from the incoming amount, rounded up."""
    routes: Annotated[list[RouteSettings], BeforeValidator(split_routes)] = Field(
        default_factory=list
    )
    """Static routes, `prefix=peer,prefix=peer`; an empty prefix is the default route."""
    route_broadcast_interval_ms: Annotated[int, Field(ge=150, le=3_600_000), EXACT] = 30_000
    """How often peers are told at least that our routes are as they were, in milliseconds. Changes
    are told at once."""
    route_hold_down_ms: Annotated[int, Field(ge=300, le=7_200_000), EXACT] = 45_000
    """After how long without a word of a peer the routes that it has announced go, in milliseconds;
    peers are asked to do the same with ours."""
    routing_secret: SecretStr | None = None
    """Hex: makes the authenticator of the routes that begin here. Unset: a random one each start."""
    rates: Rates = Field(default_factory=dict)
    """Exchange rates between currencies, `USD/EUR=0.92`: one USD buys 0.92 EUR. They come before
    those of RATES_URL."""
    rates_url: HttpUrl | None = None
    """Source of live exchange rates for all other pairs: JSON with a base and the rates to it
    (docs/rates.md). Asked several times within RATES_MAX_AGE_SECONDS."""
    rates_max_age_seconds: Annotated[int, Field(ge=1, le=604_800), EXACT] = 60
    """Age from which on a live rate is not used any more: packets that need it get T00."""
    spread_basis_points: BasisPoints = 0
    """Kept of what is exchanged between two currencies, by a static or a live rate."""
    receiver_secret: SecretStr | None = None
    """Hex: packets to this node whose fulfilment is HMAC-SHA256(secret, data) are accepted."""
    local_delivery_url: HttpUrl | None = None
    """Packets to this node are POSTed there as JSON."""
    pay_host: HostName = "127.0.0.1"
    """Address of the public listener for payment pointers (SPSP); nothing else is served there."""
    pay_port: Port | None = None
    """Its port; 0 takes a free one. Unset: this node has no wallets and takes no STREAM payments."""
    pay_url: PlainHttpUrl | None = None
    """The URL by which payers reach that listener, such as `https://pay.example.com`: what payment
    pointers resolve to. Default: derived from PAY_HOST and PAY_PORT."""
    pay_secret: SecretStr | None = None
    """64 hex digits, the key of the addresses that payers are given. Unset: made at the first start
    and kept in DATA_DIR. Set it where a standby has a DATA_DIR of its own: both need the same."""
    pay_secret_former: SecretStr | None = None
    """64 hex digits, the key before PAY_SECRET or the present `pay.key`: payments to addresses that it
    gave out go on. Unset it when these have come to their end."""
    wallets: Annotated[
        list[WalletName], BeforeValidator(split_list), Field(max_length=bounds.WALLETS_MAX)
    ] = Field(default_factory=list)
    """Names that can be paid at `/pay/<name>`, comma-separated; the first one also at
    `/.well-known/pay`. Each has an account of its own, in ASSET_CODE and ASSET_SCALE. Default:
    NODE_ID in lower case."""
    pay_data_url: HttpUrl | None = None
    """Data that payers send with payments to wallets is POSTed there as JSON, and accepted or declined
    (docs/payments.md). Unset: it is ignored."""
    pay_webhook_url: HttpUrl | None = None
    """Every payment that has come in for a wallet is POSTed there as JSON, at least once
    (docs/payments.md)."""
    pay_webhook_secret: SecretStr | None = None
    """Signs what is POSTed there: the header `Connector-Signature` has an HMAC-SHA256 with it."""
    pay_quiet_seconds: Annotated[int, Field(ge=1, le=86_400)] = 30
    """A payment has come in when its payer has closed the connection, or nothing has come for so
    many seconds."""
    settlement_engine_url: EngineUrl | None = None
    """Settlement engine (RFC 38) of peers that name none. Unset or `manual`: an operator pays, and
    confirms it with `settle`."""
    settlement_token: SecretStr | None = None
    """Shared with the settlement engines of all peers that have no BTP_PEER_<ID>_SETTLEMENT_TOKEN:
    they show it at /settlement, as the bearer token or the password, and are shown it. A peer with
    neither is served there on loopback only."""
    peers: Annotated[list[PeerSettings], BeforeValidator(_peers_by_id)] = Field(
        default_factory=list
    )
    """Whom we have terms with; in the environment `BTP_PEER_<ID>_*`."""

    @model_validator(mode="after")
    def _check_whole(self) -> Settings:
        faults = contradictions(self)
        if faults:
            raise ValueError("\n".join(faults))
        return self

    @property
    def own_http_url(self) -> str:
        """How peers reach the listener for ILP over HTTP, without a slash at the end."""
        if self.ilp_http_url is not None:
            return self.ilp_http_url.rstrip("/")
        scheme = "http" if self.ilp_http_tls_cert is None else "https"
        host = f"[{self.ilp_http_host}]" if ":" in self.ilp_http_host else self.ilp_http_host
        return f"{scheme}://{host}:{self.ilp_http_port}"

    def settlement_engine_of(self, peer: PeerSettings) -> str | None:
        """Where the settlement engine of a peer is; None: an operator settles."""
        url = peer.settlement_engine_url or self.settlement_engine_url
        return None if url == "manual" else url

    def settlement_token_of(self, peer: PeerSettings) -> str | None:
        """The token that this node and the settlement engine of a peer share; None: there is none."""
        token = peer.settlement_token or self.settlement_token
        return None if token is None else token.get_secret_value()

    def asset_of(self, peer: PeerSettings) -> Asset:
        """The asset that amounts with `peer` are in."""
        scale = self.asset_scale if peer.asset_scale is None else peer.asset_scale
        return Asset(peer.asset_code or self.asset_code, scale)

    @property
    def http_exposed(self) -> str:
        """Why others reach the HTTP listener, directly or through a proxy; empty: they do not."""
        if not is_loopback(self.http_host):
            return f"HTTP_HOST={self.http_host} is not loopback"
        return "TRUSTED_PROXIES are in front of HTTP" if self.trusted_proxies else ""

    @property
    def wallet_names(self) -> list[str]:
        """Who can be paid here by name; nobody without PAY_PORT."""
        if self.pay_port is None:
            return []
        return list(dict.fromkeys(self.wallets)) or [self.node_id.lower()]

    @property
    def former_pay_key(self) -> bytes | None:
        """PAY_SECRET_FORMER as octets."""
        if self.pay_secret_former is None:
            return None
        return bytes.fromhex(self.pay_secret_former.get_secret_value())

    @property
    def routing_key(self) -> bytes | None:
        """ROUTING_SECRET as octets."""
        if self.routing_secret is None:
            return None
        return bytes.fromhex(self.routing_secret.get_secret_value())

    @property
    def receiver_key(self) -> bytes | None:
        """RECEIVER_SECRET as octets."""
        if self.receiver_secret is None:
            return None
        return bytes.fromhex(self.receiver_secret.get_secret_value())
