"""Settings: the environment, then a YAML file, then defaults; frozen, and checked as a whole.

`load` reads them for the daemon and reports every fault at once; `Settings(...)` makes them in a
program (the library use) and reads nothing. Amounts are in the smallest unit of an asset.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    WithJsonSchema,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from connector.base import limits
from connector.base.errors import ConfigError
from connector.base.urls import is_dialable
from connector.ilp import address
from connector.peering.model import Asset, Relation

_PEER_ID: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_NODE_ID: Final = re.compile(r"[A-Za-z0-9_~-]{1,64}")
_PEER_VARIABLE: Final = "BTP_PEER_"
# Bounded: a long exponent would be a number that nobody can wait for.
_RATE: Final = re.compile(r"\d{1,40}(?:/\d{1,40}|(?:\.\d{0,40})?(?:[eE][+-]?\d{1,2})?)")
_HOST_NAME: Final = re.compile(r"[a-z0-9._-]{1,253}|[0-9a-f:.]{2,45}")
_UNRESERVED: Final = re.compile(r"[\x21-\x7e]+")


def _check(test: Callable[[Any], bool], message: str) -> AfterValidator:
    def check(value: Any) -> Any:
        if value is not None and not test(value):
            raise ValueError(message)
        return value

    return AfterValidator(check)


def _is_url(text: str) -> bool:
    parts = urlsplit(text)
    return parts.scheme in ("http", "https") and bool(parts.hostname)


def _is_engine(text: str) -> bool:
    return text == "manual" or (_is_url(text) and "@" not in urlsplit(text).netloc)


def _split_list(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    # A comma too many must not become the empty prefix, which is the default route.
    return [part.strip() for part in value.split(",") if part.strip()]


def _no_flag(value: Any) -> Any:
    """`true` is no number, although Python counts with it."""
    if isinstance(value, bool):
        raise ValueError("must be a number")  # noqa: TRY004 - pydantic's way
    return value


def _split_routes(value: Any) -> Any:
    """`prefix=peer,prefix=peer`, or a list of `{prefix, nextHop}`."""
    if not isinstance(value, str):
        return value
    routes = []
    for part in filter(None, re.split(r"[,\s]+", value)):
        prefix, equals, peer = part.partition("=")
        if not equals:
            raise ValueError(f"{part!r} is not prefix=peer")
        routes.append({"prefix": prefix, "next_hop": peer})
    return routes


def _split_rates(value: Any) -> Any:
    """`USD/EUR=0.92,EUR/USD=1.08`, or a mapping."""
    if isinstance(value, str):
        parts = [part.partition("=") for part in re.split(r"[,\s]+", value) if part]
        value = {pair: rate for pair, _, rate in parts}
    if not isinstance(value, Mapping):
        raise ValueError("must be FROM/TO=rate,FROM/TO=rate")  # noqa: TRY004 - pydantic's way
    rates: dict[tuple[str, str], Fraction] = {}
    for pair, rate in value.items():
        if isinstance(pair, tuple):
            rates[pair] = Fraction(rate)
            continue
        source, slash, target = str(pair).partition("/")
        if not slash or not source or not target:
            raise ValueError(f"{pair!r} is not FROM/TO")
        if not _RATE.fullmatch(str(rate)):
            raise ValueError(f"the rate {rate!r} of {pair} is not a number such as 0.92 or 12/13")
        try:
            number = Fraction(str(rate))
        except ZeroDivisionError:
            number = Fraction(0)
        if number <= 0:
            raise ValueError(f"the rate of {pair} must be above zero")
        rates[source, target] = number
    return rates


Port = Annotated[int, Field(ge=0, le=65535)]
BasisPoints = Annotated[int, Field(ge=0, le=10_000)]
Amount = Annotated[
    int,
    Field(ge=0, le=limits.AMOUNT_MAX),
    BeforeValidator(_no_flag),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 0, "maximum": limits.AMOUNT_MAX},
                {"type": "string", "pattern": "^[0-9]+$"},
            ]
        }
    ),
]
RateLimit = Annotated[int, Field(ge=1, le=limits.RATE_LIMIT_PACKETS_PER_SECOND_MAX)]
Scale = Annotated[int, Field(ge=0, le=255)]
AssetCode = Annotated[str, Field(min_length=1, max_length=32, pattern=r"^[A-Za-z0-9._-]+$")]
IlpAddress = Annotated[str, _check(address.is_address, "is not an ILP address such as g.us.alice")]
Prefix = Annotated[str, _check(address.is_prefix, "is not an ILP address prefix")]
PeerId = Annotated[
    str,
    _check(
        lambda text: _PEER_ID.fullmatch(text) is not None,
        "must be 1 to 63 lower-case letters, digits and hyphens",
    ),
]
HostName = Annotated[
    str,
    AfterValidator(str.lower),
    _check(
        lambda text: _HOST_NAME.fullmatch(text) is not None,
        "must be a host name or an address, without a port",
    ),
]
HttpUrl = Annotated[str, _check(_is_url, "must be an http:// or https:// URL")]

PlainHttpUrl = Annotated[
    HttpUrl,
    _check(
        lambda url: not {"@", "?", "#"} & set(url),
        "must be a URL without credentials, such as http://10.0.0.2:8080",
    ),
]


class PeerSettings(BaseModel):
    """One peer: `BTP_PEER_<ID>_*`, or an item of `peers` in YAML."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True
    )

    id: PeerId
    """Its name; in the environment the `<ID>` in lower case, `_` as `-`."""
    secret: SecretStr
    """Shared with the peer: the token of the BTP log-in. Without it no peer is accepted."""
    url: Annotated[
        str | None,
        _check(is_dialable, "must be a ws:// or wss:// URL without credentials"),
    ] = None
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
    max_packet_amount: Amount | None = None
    """The largest packet taken from it. Default: no bound."""
    rate_limit: RateLimit | None = None
    """Packets per second taken from it. Default: no bound."""
    settle_threshold: Amount | None = None
    """When we owe it more than this, settle. Default: never."""
    settle_to: Amount = 0
    """What we go on owing it after a settlement."""
    settlement_engine_url: Annotated[
        str | None, _check(_is_engine, "must be an http:// or https:// URL, or `manual`")
    ] = None
    """Settlement engine (RFC 38) that pays it; `manual`: an operator does. Default:
    SETTLEMENT_ENGINE_URL."""
    settlement_engine_scale: Scale | None = None
    """Scale that its settlement engine is given amounts in; what is less than a unit of it stays
    owed. Default: the scale of the asset."""
    routes: Annotated[list[Prefix], BeforeValidator(_split_list)] = Field(default_factory=list)
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
        if len(token.encode()) > limits.BTP_TOKEN_BYTES_MAX or not _UNRESERVED.fullmatch(token):
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


class Settings(BaseSettings):
    """Everything that can be configured. The name of a variable is the field's in upper case."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=to_camel,
        populate_by_name=True,
        validate_default=True,
    )

    node_id: Annotated[
        str,
        _check(
            lambda text: _NODE_ID.fullmatch(text) is not None,
            "must be 1 to 64 letters, digits, _, ~ and -",
        ),
    ] = "connector"
    """Name of this node in logs, events and account ids, and its BTP user name."""
    ilp_address: IlpAddress | None = None
    """Own address; without it asked from the parent (ILDCP), else `test.<NODE_ID>`."""
    btp_server_host: str = "127.0.0.1"
    """Address of the BTP listener."""
    btp_server_port: Port = 3000
    """Port of the BTP listener; 0 takes a free one."""
    btp_tls_cert: Path | None = None
    """PEM certificate chain: with it and BTP_TLS_KEY the listener speaks wss."""
    btp_tls_key: Path | None = None
    """PEM private key of BTP_TLS_CERT."""
    http_host: str = "127.0.0.1"
    """Address of health, metrics, API and page."""
    http_port: Port = 8080
    """Port of health, metrics, API and page; 0 takes a free one."""
    http_tls_cert: Path | None = None
    """PEM certificate chain: with it and HTTP_TLS_KEY health, API and page are served over https."""
    http_tls_key: Path | None = None
    """PEM private key of HTTP_TLS_CERT."""
    http_allowed_hosts: Annotated[list[HostName], BeforeValidator(_split_list)] = Field(
        default_factory=list
    )
    """Names by which the node may be asked, comma-separated, besides those of this machine: for a
    proxy in front of it. Unset, and HTTP_HOST not loopback: any name."""
    admin_api_key: SecretStr | None = None
    """Key of the admin API and, off loopback, of the page. Unset: admin off."""
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
    tigerbeetle_replicas: str | None = None
    """Addresses of the replicas, `host:port,host:port`; names allowed."""
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
        BeforeValidator(_split_list),
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
    routes: Annotated[list[RouteSettings], BeforeValidator(_split_routes)] = Field(
        default_factory=list
    )
    """Static routes, `prefix=peer,prefix=peer`; an empty prefix is the default route."""
    rates: Annotated[dict[tuple[str, str], Fraction], BeforeValidator(_split_rates)] = Field(
        default_factory=dict
    )
    """Exchange rates between currencies, `USD/EUR=0.92`: one USD buys 0.92 EUR."""
    receiver_secret: SecretStr | None = None
    """Hex: packets to this node whose fulfilment is HMAC-SHA256(secret, data) are accepted."""
    local_delivery_url: HttpUrl | None = None
    """Packets to this node are POSTed there as JSON."""
    settlement_engine_url: Annotated[
        str | None, _check(_is_engine, "must be an http:// or https:// URL, or `manual`")
    ] = None
    """Settlement engine (RFC 38) of peers that name none. Unset or `manual`: an operator pays, and
    confirms it with `settle`."""
    settlement_token: SecretStr | None = None
    """Shared with the settlement engines: they show it at /settlement, as the bearer token or the
    password, and are shown it. Without it /settlement is served on loopback only."""
    peers: list[PeerSettings] = Field(default_factory=list)
    """Whom we have terms with; in the environment `BTP_PEER_<ID>_*`."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what is passed in: reading the environment is `load`'s, which knows its faults."""
        return (init_settings,)

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
    if settings.settlement_token is not None:
        token = settings.settlement_token.get_secret_value()
        if not _UNRESERVED.fullmatch(token):
            faults.append("SETTLEMENT_TOKEN must be printable ASCII characters without spaces")
    if (
        not is_loopback(settings.http_host)
        and settings.settlement_token is None
        and any(settings.settlement_engine_of(peer) for peer in settings.peers)
    ):
        faults.append(
            f"HTTP_HOST={settings.http_host} is not loopback: set SETTLEMENT_TOKEN, which the "
            "settlement engines have to show at /settlement, or use 127.0.0.1"
        )
    if not is_loopback(settings.http_host) and settings.admin_api_key is None:
        faults.append(
            f"HTTP_HOST={settings.http_host} is not loopback: set ADMIN_API_KEY to protect the "
            "API and the page, or use 127.0.0.1"
        )
    return faults


def is_loopback(host: str) -> bool:
    """Whether a listener at `host` is reachable from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


# --- reading


@dataclass(frozen=True, slots=True)
class Loaded:
    """Settings, and where each value that is not a default came from."""

    settings: Settings
    sources: Mapping[str, str]


_PEER_SUFFIXES: Final = {
    name.upper(): name for name in PeerSettings.model_fields if name != "id"
} | {"ID": "id"}
_FIELDS: Final = {name.upper(): name for name in Settings.model_fields if name != "peers"}
# What belongs to other programs or to the daemon's surroundings but looks like ours.
_PREFIXES: Final = (
    _PEER_VARIABLE,
    "BTP_",
    "TIGERBEETLE_",
    "ACCOUNTING_",
    "CONNECTOR_",
    "TELEMETRY_",
    "EXPLORER_",
)
_NOT_SETTINGS: Final = frozenset(
    (
        "CONFIG_FILE", "CONNECTOR_AUTH", "CONNECTOR_UI", "CONNECTOR_URL", "TIGERBEETLE_BIN",
        # One .env may serve compose, the image of the TigerBeetle server and the node.
        "CONNECTOR_IMAGE", "CONNECTOR_MEM_LIMIT", "TIGERBEETLE_SERVER_IMAGE",
        "TIGERBEETLE_MEM_LIMIT", "TIGERBEETLE_IPV4", "TIGERBEETLE_REPLICA_ID",
        "TIGERBEETLE_REPLICA_COUNT", "TIGERBEETLE_ADDRESSES", "TIGERBEETLE_PORT",
        "TIGERBEETLE_DATA_DIR", "TIGERBEETLE_CACHE_GRID", "TIGERBEETLE_DEVELOPMENT",
        "TIGERBEETLE_AUTO_FORMAT",
    )
)  # fmt: skip


def load(environment: Mapping[str, str] | None = None) -> Loaded:
    """Settings from the environment and the file that CONFIG_FILE names.

    Raises:
        ConfigError: with every fault that was found, and what to do about it.
    """
    env = os.environ if environment is None else environment
    faults: list[str] = []
    sources: dict[str, str] = {}
    values: dict[str, Any] = {}
    peers: dict[str, dict[str, Any]] = {}
    config_file = env.get("CONFIG_FILE")
    if config_file:
        _read_yaml(Path(config_file), values, peers, sources, faults)
    _read_environment(env, values, peers, sources, faults)
    values["peers"] = list(peers.values())
    try:
        settings = Settings(**values)
    except ValidationError as error:
        faults.extend(_explain(error, peers))
        faults.extend(_faults_of_the_rest(error, values, peers))
    if faults:
        raise ConfigError(list(dict.fromkeys(faults)))
    return Loaded(settings, sources)


def _faults_of_the_rest(
    error: ValidationError, values: Mapping[str, Any], peers: Mapping[str, Mapping[str, Any]]
) -> list[str]:
    """What is wrong between settings, found even while some setting is wrong by itself.

    Validation stops before it compares settings; so it is done again without the wrong ones.
    """
    wrong = {str(part) for fault in error.errors() for part in fault["loc"][:1]}
    if not wrong:
        return []
    bad_peers = {fault["loc"][1] for fault in error.errors() if fault["loc"][:1] == ("peers",)}
    rest = {
        name: value
        for name, value in values.items()
        if name == "peers" or (name not in wrong and to_camel(name) not in wrong)
    }
    ids = list(peers)
    gone = [repr(ids[index]) for index in bad_peers if isinstance(index, int)]
    rest["peers"] = [peer for index, peer in enumerate(values["peers"]) if index not in bad_peers]
    try:
        Settings(**rest)
    except ValidationError as second:
        # A route to a peer that was left out is not at fault.
        return [
            line
            for line in _explain(second, peers)
            if not any(f"leads to {name}" in line for name in gone)
        ]
    return []


def _read_yaml(
    path: Path,
    values: dict[str, Any],
    peers: dict[str, dict[str, Any]],
    sources: dict[str, str],
    faults: list[str],
) -> None:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        content = yaml.load(path.read_text("utf-8"), Loader=loader) or {}  # noqa: S506 - it is a safe loader
    except OSError as error:
        faults.append(f"CONFIG_FILE={path} cannot be read: {error.strerror}")
        return
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        where = getattr(error, "problem_mark", None)
        line = f", line {where.line + 1}" if where is not None else ""
        faults.append(f"CONFIG_FILE={path} is not YAML{line}: {getattr(error, 'problem', error)}")
        return
    if not isinstance(content, dict):
        faults.append(f"CONFIG_FILE={path} must hold settings by name, such as nodeId: alice")
        return
    known = {to_camel(name): name for name in _FIELDS.values()}
    for key, value in content.items():
        if key == "peers":
            _read_yaml_peers(path, value, peers, sources, faults)
        elif key in known:
            values[known[key]] = value
            sources[known[key]] = f"{path}: {key}"
        else:
            faults.append(f"{path}: unknown key {key!r}{_suggest(str(key), known)}")


def _read_yaml_peers(
    path: Path,
    items: Any,
    peers: dict[str, dict[str, Any]],
    sources: dict[str, str],
    faults: list[str],
) -> None:
    known = {to_camel(name): name for name in PeerSettings.model_fields}
    if not isinstance(items, list):
        faults.append(f"{path}: peers must be a list")
        return
    for index, item in enumerate(items):
        if not isinstance(item, dict) or not isinstance(item.get("id"), str):
            faults.append(f"{path}: peers[{index}] needs an id")
            continue
        if item["id"] in peers:
            faults.append(f"{path}: peer {item['id']} stands twice")
        peer = peers.setdefault(item["id"], {})
        for key, value in item.items():
            if key in known:
                name = known[key]
                peer[name] = value
                sources[f"peers.{item['id']}.{name}"] = f"{path}: peers[{index}].{key}"
            else:
                faults.append(f"{path}: peers[{index}]: unknown key {key!r}{_suggest(key, known)}")


def _read_environment(
    env: Mapping[str, str],
    values: dict[str, Any],
    peers: dict[str, dict[str, Any]],
    sources: dict[str, str],
    faults: list[str],
) -> None:
    found: dict[str, dict[str, tuple[str, str]]] = {}
    for variable in sorted(env):
        if variable in _NOT_SETTINGS:
            continue
        base = variable.removesuffix("_FILE")
        if variable.startswith(_PEER_VARIABLE):
            split = _split_peer_variable(base) or _split_peer_variable(variable)
            if split is None:
                faults.append(
                    f"{variable} is not a setting of a peer: after BTP_PEER_<ID> may come "
                    + ", ".join(f"_{suffix}" for suffix in sorted(_PEER_SUFFIXES))
                )
                continue
            text = _value(variable, env, faults)
            # Empty is unset, as above peers; but an empty secret is a mistake worth its own word.
            if text is not None and (text or split[1] == "secret"):
                found.setdefault(split[0], {})[split[1]] = (text, variable)
        elif base in _FIELDS:
            text = _value(variable, env, faults)
            if text is not None and (text or base == "ROUTES"):
                values[_FIELDS[base]] = text
                sources[_FIELDS[base]] = variable
        elif variable.startswith(_PREFIXES):
            faults.append(f"{variable} is not a setting{_suggest(variable, _FIELDS)}")
    names: dict[str, str] = {}
    for name, fields in found.items():
        given = fields.pop("id", None)
        peer_id = given[0] if given is not None else name.lower().replace("_", "-")
        other = names.setdefault(peer_id, name)
        if other != name:
            faults.append(
                f"{_PEER_VARIABLE}{other}_* and {_PEER_VARIABLE}{name}_* are both peer {peer_id}: "
                "keep one"
            )
        peer = peers.setdefault(peer_id, {"id": peer_id})
        for field, (text, variable) in fields.items():
            peer[field] = text
            sources[f"peers.{peer_id}.{field}"] = variable


def _split_peer_variable(variable: str) -> tuple[str, str] | None:
    """`BTP_PEER_ALICE_RATE_LIMIT` -> (`ALICE`, `rate_limit`): the longest suffix wins."""
    rest = variable.removeprefix(_PEER_VARIABLE)
    for suffix in sorted(_PEER_SUFFIXES, key=len, reverse=True):
        name = rest.removesuffix(f"_{suffix}")
        if name != rest and name:
            return name, _PEER_SUFFIXES[suffix]
    return None


def _value(variable: str, env: Mapping[str, str], faults: list[str]) -> str | None:
    """The value, or the contents of the file that `<NAME>_FILE` names."""
    base = variable.removesuffix("_FILE")
    if base == variable:
        return env[variable]
    if base in env:
        faults.append(f"{base} and {variable} are both set: keep one")
        return None
    path = Path(env[variable])
    try:
        return path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8"
        faults.append(f"{variable}={path} cannot be read: {reason}")
        return None


def _suggest(name: str, known: Mapping[str, str]) -> str:
    import difflib  # noqa: PLC0415 - only ever needed for a fault

    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]}?" if close else ""


def _explain(error: ValidationError, peers: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A validation error in the words of the environment; never with the value of a secret."""
    lines: list[str] = []
    ids = list(peers)
    by_alias = {to_camel(name): name for name in PeerSettings.model_fields | Settings.model_fields}
    for fault in error.errors(include_url=False, include_input=False, include_context=False):
        location = [by_alias.get(str(part), part) for part in fault["loc"]]
        message = fault["msg"].removeprefix("Value error, ")
        if location[:1] == ["peers"] and len(location) > 1 and isinstance(location[1], int):
            name = f"{_PEER_VARIABLE}{ids[location[1]].upper().replace('-', '_')}"
            rest = "_".join(str(part).upper() for part in location[2:] if isinstance(part, str))
            where = f"{name}_{rest}" if rest else name
            if fault["type"] == "missing":
                message = "is required"
        else:
            where = "".join(
                f"[{part}]" if isinstance(part, int) else f".{part}" if index else str(part).upper()
                for index, part in enumerate([*location[:1], *fault["loc"][1:]])
            )
        given = _shown(location, peers, ids)
        lines.extend(f"{where}{given}: {line}" if where else line for line in message.split("\n"))
    return lines


def _shown(location: list[Any], peers: Mapping[str, Mapping[str, Any]], ids: list[str]) -> str:
    if len(location) != 3 or location[0] != "peers":
        return ""
    field = location[2]
    value = peers[ids[location[1]]].get(field)
    # A URL with credentials is refused: they must not stand in the message that says so.
    hidden = value is None or field == "secret" or "@" in str(value)
    return "" if hidden else f"={value!r}"


_SECRETS: Final = frozenset(
    ("secret", "admin_api_key", "explorer_nodes_key", "receiver_secret", "settlement_token")
)


def describe(loaded: Loaded) -> list[tuple[str, str, str]]:
    """The effective configuration: name, value (secrets redacted) and source of every setting."""
    settings, sources = loaded.settings, loaded.sources
    rows: list[tuple[str, str, str]] = []
    for name in Settings.model_fields:
        if name == "peers":
            continue
        value = getattr(settings, name)
        rows.append((name.upper(), _text(name, value), sources.get(name, "default")))
    for peer in settings.peers:
        for name in PeerSettings.model_fields:
            if name == "id":
                continue
            source = sources.get(f"peers.{peer.id}.{name}", "default")
            variable = f"{_PEER_VARIABLE}{peer.id.upper().replace('-', '_')}_{name.upper()}"
            rows.append((variable, _text(name, getattr(peer, name)), source))
    return rows


def _text(name: str, value: Any) -> str:
    if value is None:
        return ""
    if name in _SECRETS:
        return "[redacted]"
    if name == "rates":
        return ",".join(f"{a}/{b}={float(rate):g}" for (a, b), rate in value.items())
    if name == "routes":
        if value and isinstance(value[0], RouteSettings):
            shown = [f"{route.prefix}={route.next_hop}" for route in value[:20]]
            return ",".join(shown) + (f",... ({len(value)})" if len(value) > len(shown) else "")
        return ",".join(value)
    if isinstance(value, list):
        return ",".join(map(str, value))
    return str(value)
