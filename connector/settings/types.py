"""The types of single settings: what a value may be, and the message when it is not.

`model` defines the settings. A list or a table may be one text, as in the environment, or a list or
a mapping, as in YAML and in programs. Amounts of money are exact: floats, which are not, and
booleans, which Python treats as integers, are refused.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from fractions import Fraction
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, WithJsonSchema

from connector.base import limits
from connector.base.urls import is_dialable, replica_addresses
from connector.ilp import address
from connector.settings import bounds

PEER_VARIABLE: Final = "BTP_PEER_"
"""How the variables of peers begin."""
WHOLE_NUMBER: Final = "must be a whole number, in digits only"
_WHOLE: Final = re.compile(r"-?[0-9]+")
"""An integer as text. pydantic would accept more: `1_000`, `5.0`, `+5`, blanks, digits of other scripts."""
SLIPPAGE_PATTERN: Final = r"0(\.[0-9]{1,9})?|1(\.0{1,9})?"
"""Which part of a rate may be lost in a payment: a text from 0 to 1."""
_ASSET_CODE: Final = re.compile(r"[A-Za-z0-9._-]{1,32}")
_PEER_ID: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_NODE_ID: Final = re.compile(r"[A-Za-z0-9_~-]{1,64}")
# Bounded: a number with a large exponent takes very long to compute.
_RATE: Final = re.compile(r"\d{1,40}(?:/\d{1,40}|(?:\.\d{0,40})?(?:[eE][+-]?\d{1,2})?)")
_WALLET: Final = re.compile(r"[a-z0-9_~](?:[a-z0-9._~-]{0,62}[a-z0-9_~])?")
_HOST_NAME: Final = re.compile(r"[a-z0-9._-]{1,253}")
_TABLE: Final = re.compile(r"(?:[a-z_][a-z0-9_]{0,62}\.)?[a-z_][a-z0-9_]{0,59}")
_SUBJECT: Final = re.compile(r"[A-Za-z0-9_-]{1,64}(?:\.[A-Za-z0-9_-]{1,64}){0,7}")
_STREAM: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_MAPPED_BITS: Final = 96
"""The prefix of the IPv6 addresses that IPv4 addresses are mapped to (RFC 4291, 2.5.5.2)."""
PRINTABLE: Final = re.compile(r"[\x21-\x7e]+")
"""What a header, and so a key or a token, may be made of."""


def _check(test: Callable[[Any], bool], message: str) -> AfterValidator:
    """A validator that raises `message` if `test` fails. None passes: the value is unset."""

    def check(value: Any) -> Any:
        if value is not None and not test(value):
            raise ValueError(message)
        return value

    return AfterValidator(check)


def _matches(pattern: re.Pattern[str], message: str) -> AfterValidator:
    """As `_check`: the whole text matches `pattern`."""
    return _check(lambda text: pattern.fullmatch(text) is not None, message)


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname)


def _is_engine(text: str) -> bool:
    return text == "manual" or (_is_url(text) and "@" not in urlsplit(text).netloc)


def _is_host(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return _HOST_NAME.fullmatch(text) is not None
    return True


def is_loopback(host: str) -> bool:
    """Whether a listener at `host` is reachable from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_same_listener(host: str, other: str) -> bool:
    """Whether listeners at the two hosts cannot have the same port."""
    hosts = {"127.0.0.1" if one == "localhost" else one for one in (host, other)}
    if len(hosts) == 1:
        return True
    # What listens on all addresses of a family has the port on each of them; `::` may on both.
    return "::" in hosts or ("0.0.0.0" in hosts and not any(":" in one for one in hosts))  # noqa: S104 - a comparison


def _replicas(text: str) -> str:
    replica_addresses(text)
    return text


def _network(text: str) -> str:
    """An address or a network in its usual form; of IPv4 also if it is mapped into IPv6.

    Raises:
        ValueError: it is neither, or the network of all addresses.
    """
    try:
        network: ipaddress.IPv4Network | ipaddress.IPv6Network | None = ipaddress.ip_network(text)
    except ValueError:
        network = None
    if isinstance(network, ipaddress.IPv6Network) and network.prefixlen >= _MAPPED_BITS:
        mapped = network.network_address.ipv4_mapped
        if mapped is not None:
            network = ipaddress.ip_network((mapped, network.prefixlen - _MAPPED_BITS))
    if network is None or network.prefixlen == 0:
        raise ValueError("must be an address or a network such as 10.0.0.2 or 10.0.0.0/8")
    return str(network.network_address) if network.num_addresses == 1 else str(network)


def _moment(value: Any) -> Any:
    """A time in UTC with seconds, `2026-01-31T12:00:00Z`.

    Raises:
        ValueError: it is none.
    """
    if isinstance(value, datetime):  # as YAML reads it
        value = value.isoformat()
    if not isinstance(value, str):
        return value
    try:
        found = datetime.fromisoformat(value)
        if found.tzinfo is None:
            found = found.replace(tzinfo=UTC)
        found = found.astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError("must be a time such as 2026-01-31T12:00:00Z") from None
    return f"{found:%Y-%m-%dT%H:%M:%SZ}"


def moment_ms(text: str) -> int:
    """Milliseconds since the epoch of a `Moment`."""
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def split_list(value: Any) -> Any:
    """`a,b` as `[a, b]`; a value that is not a text is returned unchanged."""
    if not isinstance(value, str):
        return value
    # An extra comma must not become the empty prefix, which is the default route.
    return [part.strip() for part in value.split(",") if part.strip()]


def split_routes(value: Any) -> Any:
    """`prefix=peer,prefix=peer` as a list of `{prefix, next_hop}`.

    Raises:
        ValueError: a part of the text has no `=`.
    """
    if not isinstance(value, str):
        return value
    routes = []
    for part in filter(None, re.split(r"[,\s]+", value)):
        prefix, equals, peer = part.partition("=")
        if not equals:
            raise ValueError(f"{part!r} is not prefix=peer")
        routes.append({"prefix": prefix, "next_hop": peer})
    return routes


def split_node_keys(value: Any) -> Any:
    """`http://a:8080=key,http://b:8080=key`, or a mapping, as keys by URL.

    Raises:
        ValueError: a URL or a key is malformed; the message has neither, since they may be swapped.
    """
    if isinstance(value, str):
        parts = [part.partition("=") for part in re.split(r"[,\s]+", value) if part]
        pairs: list[tuple[Any, Any]] = [(url, key) for url, _, key in parts]
    elif isinstance(value, Mapping):
        pairs = list(value.items())
    else:
        pairs = [(None, None)]
    keys: dict[str, SecretStr] = {}
    for url, key in pairs:
        text = key.get_secret_value() if isinstance(key, SecretStr) else key
        if not isinstance(url, str) or not _is_url(url) or not isinstance(text, str):
            raise ValueError("must be http://host:port=key,http://host:port=key")
        if not PRINTABLE.fullmatch(text):
            raise ValueError("every key must be printable ASCII characters without spaces")
        if url.rstrip("/") in keys:
            raise ValueError("a node has two keys")
        keys[url.rstrip("/")] = SecretStr(text)
    return keys


def split_rates(value: Any) -> Any:
    """`USD/EUR=0.92,EUR/USD=1.08`, or a mapping, as exact fractions by pair of codes.

    Raises:
        ValueError: a pair or a rate is malformed.
    """
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
            raise ValueError(f"{pair!r} is not FROM/TO=rate, such as EUR/USD=1.08")
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


def _exact(value: Any) -> Any:
    """Refuse values that are not exact integers, but that pydantic would accept."""
    if isinstance(value, bool | float) or (isinstance(value, str) and not _WHOLE.fullmatch(value)):
        raise ValueError(WHOLE_NUMBER)
    return value


def is_asset_code(text: str) -> bool:
    """Whether it can be the code of an asset here."""
    return _ASSET_CODE.fullmatch(text) is not None


def _asset_code(value: Any) -> Any:
    """Say what a code is made of, in other words than its pattern."""
    if isinstance(value, str) and not _ASSET_CODE.fullmatch(value):
        raise ValueError("must be 1 to 32 letters, digits, points, hyphens and underscores")
    return value


EXACT: Final = BeforeValidator(_exact)
"""Of integers; after their `Field`, so that the JSON schema has its bounds."""
Port = Annotated[int, Field(ge=0, le=65535), EXACT]
BasisPoints = Annotated[int, Field(ge=0, le=10_000), EXACT]
Amount = Annotated[
    int,
    Field(ge=0, le=limits.AMOUNT_MAX),
    EXACT,
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 0, "maximum": limits.AMOUNT_MAX},
                {"type": "string", "pattern": "^[0-9]+$"},
            ]
        }
    ),
]
Throughput = Annotated[Amount, Field(ge=1)]
Moment = Annotated[str, BeforeValidator(_moment)]
RateLimit = Annotated[int, Field(ge=1, le=bounds.RATE_LIMIT_PACKETS_PER_SECOND_MAX), EXACT]
Scale = Annotated[int, Field(ge=0, le=255), EXACT]
ThroughputWindow = Annotated[int, Field(ge=1, le=bounds.THROUGHPUT_WINDOW_SECONDS_MAX), EXACT]
AssetCode = Annotated[
    str,
    Field(min_length=1, max_length=32, pattern=r"^[A-Za-z0-9._-]+$"),
    BeforeValidator(_asset_code),
]
IlpAddress = Annotated[str, _check(address.is_address, "is not an ILP address such as g.us.alice")]
Prefix = Annotated[str, _check(address.is_prefix, "is not an ILP address prefix")]
Prefixes = Annotated[list[Prefix], BeforeValidator(split_list)]
Rates = Annotated[dict[tuple[str, str], Fraction], BeforeValidator(split_rates)]
NodeId = Annotated[
    str,
    _matches(
        _NODE_ID,
        "must be 1 to 64 letters, digits, _, ~ and -",
    ),
]
PeerId = Annotated[
    str,
    _matches(
        _PEER_ID,
        "must be 1 to 63 lower-case letters, digits and hyphens",
    ),
]
WalletName = Annotated[
    str,
    _matches(
        _WALLET,
        "must be 1 to 64 lower-case letters, digits, _, ~, . and -, without . or - at its ends",
    ),
]
HostName = Annotated[
    str,
    AfterValidator(str.lower),
    _check(_is_host, "must be a host name or an address, without a port"),
]
Network = Annotated[str, AfterValidator(_network)]
HttpUrl = Annotated[str, _check(_is_url, "must be an http:// or https:// URL")]
PlainHttpUrl = Annotated[
    HttpUrl,
    _check(
        lambda url: not {"@", "?", "#"} & set(url),
        "must be a URL without credentials, query and fragment, such as http://10.0.0.2:8080",
    ),
]
TableName = Annotated[
    str,
    _matches(
        _TABLE,
        "must be a name of lower-case letters, digits and _, perhaps after a schema and a point",
    ),
]
Subject = Annotated[
    str,
    _matches(
        _SUBJECT,
        "must be letters, digits, - and _, in parts divided by points",
    ),
]
StreamName = Annotated[
    str,
    _matches(
        _STREAM,
        "must be 1 to 64 letters, digits, - and _",
    ),
]
EventNames = Annotated[
    list[Annotated[str, Field(min_length=1, max_length=64)]],
    BeforeValidator(split_list),
    Field(max_length=bounds.SINK_EVENT_NAMES_MAX),
]
Replicas = Annotated[str, AfterValidator(_replicas)]
EngineUrl = Annotated[str, _check(_is_engine, "must be an http:// or https:// URL, or `manual`")]
DialUrl = Annotated[str, _check(is_dialable, "must be a ws:// or wss:// URL without credentials")]
