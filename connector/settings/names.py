"""The names of settings: which variable is one, whose it is, and which one was meant."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from typing import Final

from connector.settings.model import PeerSettings, Settings
from connector.settings.types import PEER_VARIABLE

PEER_SUFFIXES: Final = {
    name.upper(): name for name in PeerSettings.model_fields if name != "id"
} | {"ID": "id"}
FIELDS: Final = {name.upper(): name for name in Settings.model_fields if name != "peers"}
_BARE: Final = {name.replace("_", ""): name for name in FIELDS}
# Unknown names with one of our prefixes are faults.
PREFIXES: Final = (
    PEER_VARIABLE,
    "BTP_",
    "TIGERBEETLE_",
    "ACCOUNTING_",
    "CONNECTOR_",
    "TELEMETRY_",
    "EXPLORER_",
    "ILP_HTTP_",
    "SINK_",
)
# Variables of other programs or of the environment that look like ours.
NOT_SETTINGS: Final = frozenset(
    (
        "CONFIG_FILE", "CONNECTOR_AUTH", "CONNECTOR_NODE", "CONNECTOR_UI", "CONNECTOR_URL", "TIGERBEETLE_BIN",
        "CONNECTOR_HEALTHCHECK_WAIT",
        # One .env may serve compose, the image of the TigerBeetle server and the node.
        "CONNECTOR_IMAGE", "CONNECTOR_MEM_LIMIT", "TIGERBEETLE_SERVER_IMAGE",
        "TIGERBEETLE_MEM_LIMIT", "TIGERBEETLE_IPV4", "TIGERBEETLE_REPLICA_ID",
        "TIGERBEETLE_REPLICA_COUNT", "TIGERBEETLE_ADDRESSES", "TIGERBEETLE_PORT",
        "TIGERBEETLE_DATA_DIR", "TIGERBEETLE_CACHE_GRID", "TIGERBEETLE_DEVELOPMENT",
        "TIGERBEETLE_AUTO_FORMAT", "TIGERBEETLE_MARKER_DIR", "TIGERBEETLE_PRODUCTION",
        "TIGERBEETLE_MEMLOCK", "TIGERBEETLE_0_IPV4", "TIGERBEETLE_1_IPV4", "TIGERBEETLE_2_IPV4",
        "TIGERBEETLE_IMAGE", "BASE_IMAGE", "BTP_BIND_ADDRESS", "HTTP_BIND_ADDRESS",
        "BTP_HOST_PORT", "HTTP_HOST_PORT", "CONNECTOR_A_BTP_PORT", "CONNECTOR_A_HTTP_PORT",
        "CONNECTOR_B_BTP_PORT", "CONNECTOR_B_HTTP_PORT",
        "PROXY_IMAGE", "PROXY_BIND_ADDRESS", "PROXY_HTTP_PORT", "PROXY_HTTPS_PORT", "PROXY_TLS", "PUBLIC_HOST",
        "ALERTMANAGER_IMAGE", "ALERTMANAGER_CONFIG", "ALERT_WEBHOOK_URL", "NODE_EXPORTER_IMAGE",
        "HOST_METRICS_DIR", "COLLECTOR_IMAGE", "COLLECTOR_TARGET", "SECRETS_DIR",
    )
)  # fmt: skip
# Kubernetes sets these for every Service in the namespace, whatever it is called: with one named
# `connector`, CONNECTOR_SERVICE_HOST; with one named `http`, HTTP_PORT=tcp://10.0.0.1:80.
_SERVICE_LINK: Final = re.compile(
    r".+_SERVICE_(?:HOST|PORT(?:_[A-Z0-9_]+)?)|.+_PORT_\d+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?"
)
_SERVICE_URL: Final = re.compile(r"(?:tcp|udp|sctp)://.+:\d+")


def is_service_link(variable: str, text: str) -> bool:
    """Whether Kubernetes has set a variable to `text`, for one of its Services."""
    if _SERVICE_LINK.fullmatch(variable) is not None:
        return True
    return variable.endswith("_PORT") and _SERVICE_URL.fullmatch(text) is not None


def split_peer_variable(variable: str) -> tuple[str, str] | None:
    """`BTP_PEER_ALICE_RATE_LIMIT` -> (`ALICE`, `rate_limit`): the longest suffix wins."""
    rest = variable.removeprefix(PEER_VARIABLE)
    for suffix in sorted(PEER_SUFFIXES, key=len, reverse=True):
        name = rest.removesuffix(f"_{suffix}")
        if name != rest and name:
            return name, PEER_SUFFIXES[suffix]
    return None


def misspelt(variable: str, peer: str) -> str | None:
    """The setting of a peer that was meant, if another peer's is named only because of a spelling.

    `BTP_PEER_BOB_RECIEVE_ROUTES`, read as the routes of a peer `BOB_RECIEVE`, where there is `BOB`; but
    not `BTP_PEER_BOB_US_ROUTES`.
    """
    split = split_peer_variable(variable)
    if split is None:
        return None
    last = f"_{split[1].upper()}"
    written = split[0].removeprefix(f"{peer}_")
    for suffix in PEER_SUFFIXES:
        first = suffix.removesuffix(last)
        if first != suffix and difflib.SequenceMatcher(None, written, first).ratio() >= _NEAR:
            return f"{PEER_VARIABLE}{peer}_{suffix}"
    return None


def near_peer_variable(variable: str) -> str | None:
    """The setting of a peer that was most likely meant: its last words differ a little from one."""
    words = variable.removeprefix(PEER_VARIABLE).split("_")
    best, meant = _NEAR, None
    for at in range(1, len(words)):
        name, last = "_".join(words[:at]), "_".join(words[at:])
        if not name:
            continue
        whole = _with_unit(last, PEER_SUFFIXES)
        if whole is not None:
            return f"{PEER_VARIABLE}{name}_{whole}"
        for suffix in PEER_SUFFIXES:
            ratio = difflib.SequenceMatcher(None, last, suffix).ratio()
            if ratio >= best:  # of equals the one with the longer id
                best, meant = ratio, f"{PEER_VARIABLE}{name}_{suffix}"
    return meant


def suggest(name: str, known: Mapping[str, str]) -> str:
    """What was most likely meant by a name that is known to be wrong, as the end of a message."""
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]}?" if close else ""


def near_miss(name: str) -> str | None:
    """The setting that a variable without one of our prefixes was most likely meant to be.

    Much stricter than `suggest`, since it may be another program's: another spelling of the same
    letters (CREDITLIMIT, http_port), its unit left out (RATES_MAX_AGE), a setting of a peer without the
    peer (SEND_ROUTES), or two neighbouring letters swapped, one left out or one too
    many in a name of eight letters or more. Not a wrong letter: NODE_IP is not NODE_ID.
    """
    bare = name.upper().replace("_", "").replace("-", "")
    same = _BARE.get(bare) or _SHORT_NAMES.get(bare)
    if same is not None:
        return same
    if len(name) < _NEAR_MISS_CHARACTERS_MIN:
        return None
    whole = _with_unit(name, FIELDS)
    if whole is not None:
        return whole
    if name in PEER_SUFFIXES and name not in _COMMON and not name.startswith("HTTP_"):
        return f"{PEER_VARIABLE}<ID>_{name}"
    if name in _FIELDS_WITHOUT_ONE:
        return _FIELDS_WITHOUT_ONE[name]
    return next((one for one in _variants(name) if one in FIELDS), None)


def _with_unit(name: str, known: Mapping[str, str]) -> str | None:
    """The setting that is this one with its unit."""
    return next((one for unit in _UNITS if (one := f"{name}_{unit}") in known), None)


_COMMON: Final = frozenset(("URL", "USERNAME", "SECRET", "RELATION", "TRANSIT", "RATE_LIMIT"))
"""Settings of a peer that without one may be another program's, as may those that begin with `HTTP_`."""
_UNITS: Final = ("MS", "SECONDS", "DAYS", "BYTES", "BASIS_POINTS")
_SHORT_NAMES: Final = {
    "ADMINKEY": "ADMIN_API_KEY", "READKEY": "READ_API_KEY", "METRICSAPIKEY": "METRICS_KEY",
    "TRUSTEDPROXY": "TRUSTED_PROXIES", "PAYURI": "PAY_URL", "RATESURI": "RATES_URL",
    "PAYWALLETS": "WALLETS", "PAYWALLET": "WALLETS", "OTLPSAMPLERATE": "OTLP_SAMPLE_RATIO",
}  # fmt: skip
"""What is written for settings that nobody else has."""
_NEAR_MISS_CHARACTERS_MIN: Final = 8
_NEAR: Final = 0.75
"""How alike a setting of a peer and what was written for it have to be, of 1."""


def _without_one(name: str) -> Iterator[str]:
    for at in range(len(name)):
        yield name[:at] + name[at + 1 :]


def _variants(name: str) -> Iterator[str]:
    """The name with one character less, and with two adjacent characters swapped."""
    yield from _without_one(name)
    for at in range(len(name) - 1):
        yield name[:at] + name[at + 1] + name[at] + name[at + 2 :]


_FIELDS_WITHOUT_ONE: Final = {short: name for name in FIELDS for short in _without_one(name)}
