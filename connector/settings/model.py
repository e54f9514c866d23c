"""Every setting: its type, its default and, under it, what it means.

The docstrings of the fields are the reference: docs/configuration.md is made from them. `Settings(...)`
makes them in a program (the library use) and reads nothing; `load` reads them for the daemon.
Frozen, and checked as a whole. Amounts are in the smallest unit of an asset.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
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
from connector.settings.types import (
    Amount,
    AssetCode,
    BasisPoints,
    DialUrl,
    EngineUrl,
    HostName,
    HttpUrl,
    IlpAddress,
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
    is_loopback,
    is_same_listener,
    split_list,
    split_routes,
)

_PRINTABLE: Final = re.compile(r"[\x21-\x7e]+")
_EXAMPLE: Final = re.compile(r"change[-_ ]?me", re.IGNORECASE)
"""How secrets of `.env.production.example` begin."""


class PeerSettings(BaseModel):
    """One peer: `BTP_PEER_<ID>_*`, or an item of `peers` in YAML."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True
    )

    id: PeerId
    """Its name; in the environment the `<ID>` in lower case, `_` as `-`."""
    secret: SecretStr
    """Shared with the peer: the token of the BTP log-in. Without it no peer is accepted. Where
    BTP_SERVER_HOST is not loopback: at least 16 characters."""
    url: DialUrl | None = None
    """Where to dial it; without it, it dials us."""
    username: str | None = None
    """Sent as `auth_username` instead of NODE_ID when we dial it."""
    relation: Relation = Relation.PEER
    """`peer`, `parent` or `child`."""
    asset_code: AssetCode | None = None
    """Default: ASSET_CODE."""
    asset_scale: Scale | None = None
    """Default: ASSET_SCALE."""
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
    settle_threshold: Amount | None = None
    """When we owe it more than this, settle. Default: never."""
    settle_to: Amount = 0
    """What we go on owing it after a settlement."""
    settlement_engine_url: EngineUrl | None = None
    """Settlement engine (RFC 38) that pays it; `manual`: an operator does. Default:
    SETTLEMENT_ENGINE_URL."""
    settlement_engine_scale: Scale | None = None
    """Scale that its settlement engine is given amounts in; what is less than a unit of it stays
    owed. Default: the scale of the asset."""
    routes: Prefixes = Field(default_factory=list)
    """Prefixes that are reached through it."""
    fee_basis_points: BasisPoints | None = None
    """Taken from what it sends. Default: FEE_BASIS_POINTS."""
    allow_reflection: bool = False
    """Whether its packets may be sent back to it."""

    @model_validator(mode="after")
    def _check_whole(self) -> PeerSettings:
        token = self.secret.get_secret_value()
        if not token:
            raise ValueError("secret must not be empty")
        if len(token.encode()) > limits.BTP_TOKEN_BYTES_MAX or not _PRINTABLE.fullmatch(token):
            raise ValueError(
                f"secret must be 1 to {limits.BTP_TOKEN_BYTES_MAX} printable ASCII characters"
            )
        if self.settle_threshold is not None and self.settle_to > self.settle_threshold:
            raise ValueError("settleTo must not be above settleThreshold")
        return self


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
    admin_api_key: SecretStr | None = None
    """Key of the admin API and, off loopback, of the page. Unset: admin off. As all keys of the HTTP
    listener it has at least 16 characters where HTTP_HOST is not loopback."""
    metrics_key: SecretStr | None = None
    """Key that shows balances and amounts of peers in /metrics, for Prometheus; opens nothing else.
    Off loopback they are shown with this key or ADMIN_API_KEY only, on loopback without a key unless
    this one is set."""
    data_dir: Path = Path("./data")
    """Folder of the embedded ledger, the outbox and the event store."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """How much is logged."""
    log_format: Literal["json", "console"] | None = None
    """Default: console on a terminal, else json."""
    ledger: Literal["embedded", "memory"] = "embedded"
    """`memory` forgets everything at the end: for benchmarks only."""
    tigerbeetle_cluster_id: Annotated[int, Field(ge=0, lt=2**128)] | None = None
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
    accounting_spool_limit: Annotated[int, Field(ge=1, le=limits.SPOOL_TRANSFERS_MAX)] = 1_000_000
    """Transfers in the outbox from which on new packets are rejected although the policy is
    `spool`."""
    ledger_retention_days: Annotated[int, Field(ge=0, le=36_500)] = limits.LEDGER_DAYS_KEPT
    """Days that the journal of an embedded ledger is kept; older rows are pruned. 0: their age
    prunes nothing. Balances, grants and settlements stay for ever; what goes is the history of
    packets (docs/accounting.md)."""
    ledger_max_bytes: Annotated[int, Field(ge=limits.LEDGER_FILE_BYTES_MIN, le=1 << 50)] = (
        limits.LEDGER_FILE_BYTES
    )
    """Octets that an embedded ledger may take on disk; its oldest rows are pruned first, but none
    that a packet may still be asked for by."""
    ledger_archive_dir: Path | None = None
    """Folder into which rows are copied before they are pruned, a file for each stretch; unset: they
    are dropped."""
    accounting_timeout_ms: Annotated[int, Field(ge=10, le=60_000)] = 1000
    """Deadline of one request to the ledger, in milliseconds."""
    telemetry_packets_per_second: Annotated[int, Field(ge=0, le=100_000)] = 200
    """Packets per second that have events of their own; what comes beyond is only counted. 0: all
    are only counted."""
    otlp_endpoint: PlainHttpUrl | None = None
    """OpenTelemetry collector that gets traces of packets, such as `http://localhost:4318` (OTLP over
    HTTP, JSON). Packets that are only counted have none: see TELEMETRY_PACKETS_PER_SECOND."""
    otlp_sample_ratio: Annotated[float, Field(ge=0, le=1)] = 0.01
    """Share of the packets that is traced, from 0 to 1; all nodes of a path choose the same ones."""
    explorer_max_events: Annotated[int, Field(ge=0, le=100_000_000)] = 1_000_000
    """Events that are kept for the page, in DATA_DIR; 0 keeps none."""
    explorer_max_bytes: Annotated[int, Field(ge=1 << 20, le=1 << 40)] = 1 << 30
    """Octets that they may take on disk; the oldest are deleted first. Up to 64 MiB more are taken
    while they are written."""
    explorer_retention_days: Annotated[int, Field(ge=1, le=3650)] = 7
    """How long they are kept, in days."""
    explorer_nodes: Annotated[
        list[PlainHttpUrl],
        BeforeValidator(split_list),
        Field(max_length=limits.EXPLORER_NODES_MAX),
    ] = Field(default_factory=list)
    """Pages of other nodes, `http://host:port,http://host:port`: the page then shows the network,
    with both sides' balance of each link. This node may be among them."""
    explorer_nodes_key: SecretStr | None = None
    """Shown to the nodes of EXPLORER_NODES that want a key: their ADMIN_API_KEY."""
    asset_code: AssetCode = "USD"
    """Asset of peers that name none."""
    asset_scale: Scale = 9
    """Scale of peers that name none: amounts count 10**-scale."""
    credit_limit: Amount = 1_000_000_000
    """What a peer that names none may owe us."""
    message_window_ms: Annotated[int, Field(ge=1, le=60_000)] = 1000
    """By how much each hop shortens the expiry, in milliseconds."""
    max_hold_ms: Annotated[int, Field(ge=100, le=limits.HOLD_MS_MAX)] = 30_000
    """Longest hold, in milliseconds; longer ones are shortened onward."""
    fee_basis_points: BasisPoints = 0
    """Taken from the incoming amount, rounded up."""
    routes: Annotated[list[RouteSettings], BeforeValidator(split_routes)] = Field(
        default_factory=list
    )
    """Static routes, `prefix=peer,prefix=peer`; an empty prefix is the default route."""
    rates: Rates = Field(default_factory=dict)
    """Exchange rates between currencies, `USD/EUR=0.92`: one USD buys 0.92 EUR."""
    receiver_secret: SecretStr | None = None
    """Hex: packets to this node whose fulfilment is HMAC-SHA256(secret, data) are accepted."""
    local_delivery_url: HttpUrl | None = None
    """Packets to this node are POSTed there as JSON."""
    settlement_engine_url: EngineUrl | None = None
    """Settlement engine (RFC 38) of peers that name none. Unset or `manual`: an operator pays, and
    confirms it with `settle`."""
    settlement_token: SecretStr | None = None
    """Shared with the settlement engines: they show it at /settlement, as the bearer token or the
    password, and are shown it. Without it /settlement is served on loopback only."""
    peers: Annotated[list[PeerSettings], BeforeValidator(_peers_by_id)] = Field(
        default_factory=list
    )
    """Whom we have terms with; in the environment `BTP_PEER_<ID>_*`."""

    @model_validator(mode="after")
    def _check_whole(self) -> Settings:
        faults = list(_contradictions(self))
        if faults:
            raise ValueError("\n".join(faults))
        return self

    def settlement_engine_of(self, peer: PeerSettings) -> str | None:
        """Where the settlement engine of a peer is; None: an operator settles."""
        url = peer.settlement_engine_url or self.settlement_engine_url
        return None if url == "manual" else url

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
    def receiver_key(self) -> bytes | None:
        """RECEIVER_SECRET as octets."""
        if self.receiver_secret is None:
            return None
        return bytes.fromhex(self.receiver_secret.get_secret_value())


def _contradictions(settings: Settings) -> list[str]:
    """What is wrong between settings that are fine one by one."""
    faults: list[str] = []
    ids: set[str] = set()
    tokens: dict[str, str] = {}
    parents = [peer.id for peer in settings.peers if peer.relation is Relation.PARENT]
    if len(settings.peers) > limits.PEERS_MAX:
        faults.append(f"more than {limits.PEERS_MAX} peers")
    for peer in settings.peers:
        if peer.id in ids:
            faults.append(f"peer {peer.id} is configured twice")
        ids.add(peer.id)
        other = tokens.setdefault(peer.secret.get_secret_value(), peer.id)
        if other != peer.id:
            faults.append(
                f"peers {other} and {peer.id} have the same secret: give each its own, "
                "since a log-in without a user name is told by its token"
            )
    faults.extend(
        f"the route {route.prefix or '(default)'} leads to {route.next_hop!r}, "
        "which is no configured peer"
        for route in settings.routes
        if route.next_hop not in ids
    )
    if len(parents) > 1:
        faults.append(f"more than one parent: {', '.join(parents)}")
    if (settings.btp_tls_cert is None) != (settings.btp_tls_key is None):
        faults.append("BTP_TLS_CERT and BTP_TLS_KEY go together: set both or neither")
    if (settings.http_tls_cert is None) != (settings.http_tls_key is None):
        faults.append("HTTP_TLS_CERT and HTTP_TLS_KEY go together: set both or neither")
    if 0 < settings.http_port == settings.btp_server_port and is_same_listener(
        settings.btp_server_host, settings.http_host
    ):
        faults.append(
            f"BTP_SERVER_PORT and HTTP_PORT are both {settings.http_port}: give each its own"
        )
    if (settings.tigerbeetle_cluster_id is None) != (settings.tigerbeetle_replicas is None):
        faults.append(
            "TIGERBEETLE_CLUSTER_ID and TIGERBEETLE_REPLICAS go together: set both or neither"
        )
    if settings.tigerbeetle_history and settings.tigerbeetle_cluster_id is None:
        faults.append(
            "TIGERBEETLE_HISTORY is kept by TigerBeetle only: set TIGERBEETLE_CLUSTER_ID and "
            "TIGERBEETLE_REPLICAS too, or unset it"
        )
    if settings.receiver_secret is not None:
        text = settings.receiver_secret.get_secret_value()
        if not re.fullmatch(r"(?:[0-9a-fA-F]{2})+", text):
            faults.append("RECEIVER_SECRET must be an even number of hex digits")
    if settings.max_hold_ms < 2 * settings.message_window_ms:
        faults.append("MAX_HOLD_MS must be at least twice MESSAGE_WINDOW_MS")
    if settings.admin_api_key is not None and not settings.admin_api_key.get_secret_value():
        faults.append("ADMIN_API_KEY must not be empty: unset it to turn the admin API off")
    for name, secret in (
        ("METRICS_KEY", settings.metrics_key),
        ("SETTLEMENT_TOKEN", settings.settlement_token),
    ):
        if secret is not None and not _PRINTABLE.fullmatch(secret.get_secret_value()):
            faults.append(f"{name} must be printable ASCII characters without spaces")
    alone = "" if settings.trusted_proxies else ", or use 127.0.0.1"
    if settings.metrics_key is not None and settings.metrics_key == settings.admin_api_key:
        faults.append(
            "METRICS_KEY and ADMIN_API_KEY are the same: whoever reads metrics could change peers; "
            "give each its own"
        )
    if (
        settings.http_exposed
        and settings.settlement_token is None
        and any(settings.settlement_engine_of(peer) for peer in settings.peers)
    ):
        faults.append(
            f"{settings.http_exposed}: set SETTLEMENT_TOKEN, which the settlement engines have to "
            f"show at /settlement{alone}"
        )
    if settings.http_exposed and settings.admin_api_key is None:
        faults.append(
            f"{settings.http_exposed}: set ADMIN_API_KEY to protect the API and the page{alone}"
        )
    faults.extend(_weak_secrets(settings))
    return faults


def _weak_secrets(settings: Settings) -> Iterator[str]:
    """Secrets that others know or can guess, of listeners that others can reach."""
    of_http = [
        ("ADMIN_API_KEY", settings.admin_api_key),
        ("METRICS_KEY", settings.metrics_key),
        ("SETTLEMENT_TOKEN", settings.settlement_token),
    ]
    of_btp = [
        (f"BTP_PEER_{peer.id.upper().replace('-', '_')}_SECRET", peer.secret)
        for peer in settings.peers
    ]
    btp = settings.btp_server_host
    btp_exposed = "" if is_loopback(btp) else f"BTP_SERVER_HOST={btp} is not loopback"
    for exposed, secrets in ((settings.http_exposed, of_http), (btp_exposed, of_btp)):
        for name, secret in secrets if exposed else ():
            text = "" if secret is None else secret.get_secret_value()
            if not text:
                continue  # unset, or a fault of its own
            if _EXAMPLE.match(text):
                why = "has the value of the example"
            elif len(text) < limits.EXPOSED_SECRET_CHARACTERS_MIN:
                why = f"has less than {limits.EXPOSED_SECRET_CHARACTERS_MIN} characters"
            else:
                continue
            yield (
                f"{name} {why}, and {exposed}: give it a secret of its own, "
                "such as the output of `openssl rand -hex 32`"
            )
