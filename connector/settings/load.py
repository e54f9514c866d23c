"""Reads the settings of the daemon: the environment, then the file of CONFIG_FILE, then defaults.

All faults are reported together, each with its variable or key and never with a secret; the source
of each value is kept for `describe`.

Environment and file are two sources of pydantic-settings, which gives the first precedence over the
second, field by field and peer by peer. Its own sources of these kinds are not used: they read
`os.environ` instead of a given mapping, stop at the first value that they cannot decode, have one
name per field where we have two (HTTP_PORT and httpPort), and do not support peers by pattern,
`_FILE`, or the detection of unknown names and duplicate keys.
"""

from __future__ import annotations

import codecs
import difflib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError
from pydantic.alias_generators import to_camel
from pydantic.fields import FieldInfo
from pydantic_settings import PydanticBaseSettingsSource

from connector.base.errors import ConfigError
from connector.base.files import read_bounded
from connector.settings import bounds, strict_yaml
from connector.settings.faults import explain
from connector.settings.model import SOURCES, PeerSettings, Settings
from connector.settings.types import PEER_VARIABLE

_BOMS_UTF_16: Final = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_PEER_SUFFIXES: Final = {
    name.upper(): name for name in PeerSettings.model_fields if name != "id"
} | {"ID": "id"}
_FIELDS: Final = {name.upper(): name for name in Settings.model_fields if name != "peers"}
_BARE: Final = {name.replace("_", ""): name for name in _FIELDS}
# Unknown names with one of our prefixes are faults.
_PREFIXES: Final = (
    PEER_VARIABLE,
    "BTP_",
    "TIGERBEETLE_",
    "ACCOUNTING_",
    "CONNECTOR_",
    "TELEMETRY_",
    "EXPLORER_",
    "ILP_HTTP_",
)
_SURROGATES: Final = re.compile("[\\ud800-\\udfff]")
# Variables of other programs or of the environment that look like ours.
_NOT_SETTINGS: Final = frozenset(
    (
        "CONFIG_FILE", "CONNECTOR_AUTH", "CONNECTOR_UI", "CONNECTOR_URL", "TIGERBEETLE_BIN",
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
    )
)  # fmt: skip
# Kubernetes sets these for every Service in the namespace, whatever it is called: with one named
# `connector`, CONNECTOR_SERVICE_HOST; with one named `http`, HTTP_PORT=tcp://10.0.0.1:80.
_SERVICE_LINK: Final = re.compile(
    r".+_SERVICE_(?:HOST|PORT(?:_[A-Z0-9_]+)?)|.+_PORT_\d+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?"
)
_SERVICE_URL: Final = re.compile(r"(?:tcp|udp|sctp)://.+:\d+")


@dataclass(frozen=True, slots=True)
class Loaded:
    """Settings, and where each value that is not a default came from."""

    settings: Settings
    sources: Mapping[str, str]
    """Variable, or file and key, by field: `http_port`, `peers.alice.secret`."""


class _Source(PydanticBaseSettingsSource):
    """One source of pydantic-settings, with its values read beforehand."""

    def __init__(self) -> None:
        super().__init__(Settings)
        self.values: dict[str, Any] = {}
        """By field of `Settings`, without peers."""
        self.peers: dict[str, dict[str, Any]] = {}
        """By peer id, then by field of `PeerSettings`."""
        self.sources: dict[str, str] = {}
        self.faults: list[str] = []

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """See `PydanticBaseSettingsSource`."""
        return self.values.get(field_name), field_name, False

    def __call__(self) -> dict[str, Any]:
        return {**self.values, "peers": self.peers} if self.peers else dict(self.values)


def load(environment: Mapping[str, str] | None = None) -> Loaded:
    """Settings from the environment and the file that CONFIG_FILE names.

    Raises:
        ConfigError: with every fault that was found, and what to do about it.
    """
    env = os.environ if environment is None else environment
    file, variables = _Source(), _Source()
    config_file = env.get("CONFIG_FILE")
    if config_file:
        _read_file(Path(config_file), file)
    _read_environment(env, variables)
    faults = [*file.faults, *variables.faults]
    sources = {**file.sources, **variables.sources}
    try:
        given: dict[str, Any] = {SOURCES: (variables, file)}
        settings = Settings(**given)
    except ValidationError as error:
        # For fault messages: the two sources joined as pydantic-settings does.
        ids = dict.fromkeys([*file.peers, *variables.peers])
        peers = {one: {**file.peers.get(one, {}), **variables.peers.get(one, {})} for one in ids}
        values = {**file.values, **variables.values, "peers": list(peers.values())}
        faults.extend(explain(error, list(ids), sources))
        faults.extend(_faults_of_the_rest(error, values, list(ids), sources))
    if faults:
        raise ConfigError(list(dict.fromkeys(faults)))
    return Loaded(settings, sources)


# --- the file


def _read_file(path: Path, reading: _Source) -> None:
    try:
        text = _read_text(path, bounds.YAML_FILE_BYTES_MAX)
        content, faults = strict_yaml.read(text)
    except OSError as error:
        reading.faults.append(f"CONFIG_FILE={path} cannot be read: {error.strerror}")
        return
    except strict_yaml.YamlFault as error:
        reading.faults.append(f"CONFIG_FILE={path} is not YAML{error}")
        return
    except ValueError as error:
        reading.faults.append(f"CONFIG_FILE={path} cannot be read: {error}")
        return
    reading.faults += [f"{path}: {fault}" for fault in faults]
    if content is None:
        # Most likely cut short, or never written: running on defaults would hide that.
        reading.faults.append(
            f"CONFIG_FILE={path} is empty: write settings, such as nodeId: alice, or unset it"
        )
        return
    if not isinstance(content, dict):
        reading.faults.append(
            f"CONFIG_FILE={path} must hold settings by name, such as nodeId: alice"
        )
        return
    known = {to_camel(name): name for name in _FIELDS.values()}
    for key, value in content.items():
        if key == "peers":
            _read_file_peers(path, value, reading)
        elif key in known:
            reading.values[known[key]] = value
            reading.sources[known[key]] = f"{path}: {key}"
        else:
            reading.faults.append(f"{path}: unknown key {key!r}{_suggest(str(key), known)}")


def _read_file_peers(path: Path, items: Any, reading: _Source) -> None:
    known = {to_camel(name): name for name in PeerSettings.model_fields}
    if not isinstance(items, list):
        reading.faults.append(f"{path}: peers must be a list")
        return
    for index, item in enumerate(items):
        if not isinstance(item, dict) or not isinstance(item.get("id"), str):
            reading.faults.append(f"{path}: peers[{index}] needs an id")
            continue
        peer_id = item["id"]
        if peer_id in reading.peers:
            reading.faults.append(f"{path}: peer {peer_id} stands twice")
        peer = reading.peers.setdefault(peer_id, {})
        for key, value in item.items():
            if key in known:
                peer[known[key]] = value
                reading.sources[f"peers.{peer_id}.{known[key]}"] = f"{path}: peers[{index}].{key}"
            else:
                reading.faults.append(
                    f"{path}: peers[{index}]: unknown key {key!r}{_suggest(str(key), known)}"
                )


# --- the environment


def _read_environment(env: Mapping[str, str], reading: _Source) -> None:
    faults = reading.faults
    found: dict[str, dict[str, tuple[str, str]]] = {}
    for variable in sorted(env):
        if variable in _NOT_SETTINGS or _is_service_link(variable, env[variable]):
            continue
        base = variable.removesuffix("_FILE")
        if variable.startswith(PEER_VARIABLE):
            split = _split_peer_variable(base) or _split_peer_variable(variable)
            if split is None:
                meant = _near_peer_variable(base)
                faults.append(
                    f"{variable} is not a setting of a peer"
                    + (
                        f"; did you mean {meant}{variable.removeprefix(base)}?"
                        if meant
                        else ": after BTP_PEER_<ID> may come "
                        + ", ".join(f"_{suffix}" for suffix in sorted(_PEER_SUFFIXES))
                    )
                )
                continue
            text = _value(variable, env, faults)
            # Empty means unset, as for other variables; but an empty secret is a mistake with its own message.
            if text is not None and (text or split[1] == "secret"):
                found.setdefault(split[0], {})[split[1]] = (text, variable)
        elif base in _FIELDS:
            text = _value(variable, env, faults)
            if text is not None and (text or base == "ROUTES"):
                reading.values[_FIELDS[base]] = text
                reading.sources[_FIELDS[base]] = variable
        elif variable.startswith(_PREFIXES):
            faults.append(f"{variable} is not a setting{_suggest(variable, _FIELDS)}")
        elif env[variable] and (meant := _near_miss(base)) is not None:
            suffix = variable.removeprefix(base)
            faults.append(f"{variable} is not a setting; did you mean {meant}{suffix}?")
    _take_peers(found, reading)


def _take_peers(found: Mapping[str, dict[str, tuple[str, str]]], reading: _Source) -> None:
    """Peers by the `<ID>` of their variables, and per field its text and its variable."""
    names: dict[str, str] = {}
    for name, fields in found.items():
        given = fields.pop("id", None)
        peer_id = given[0] if given is not None else name.lower().replace("_", "-")
        other = names.setdefault(peer_id, name)
        if other != name:
            reading.faults.append(
                f"{PEER_VARIABLE}{other}_* and {PEER_VARIABLE}{name}_* are both peer {peer_id}: "
                "keep one"
            )
        peer = reading.peers.setdefault(peer_id, {"id": peer_id})
        for key, (text, variable) in fields.items():
            peer[key] = text
            reading.sources[f"peers.{peer_id}.{key}"] = variable


def _is_service_link(variable: str, text: str) -> bool:
    if _SERVICE_LINK.fullmatch(variable) is not None:
        return True
    return variable.endswith("_PORT") and _SERVICE_URL.fullmatch(text) is not None


def _split_peer_variable(variable: str) -> tuple[str, str] | None:
    """`BTP_PEER_ALICE_RATE_LIMIT` -> (`ALICE`, `rate_limit`): the longest suffix wins."""
    rest = variable.removeprefix(PEER_VARIABLE)
    for suffix in sorted(_PEER_SUFFIXES, key=len, reverse=True):
        name = rest.removesuffix(f"_{suffix}")
        if name != rest and name:
            return name, _PEER_SUFFIXES[suffix]
    return None


def _near_peer_variable(variable: str) -> str | None:
    """The setting of a peer that was most likely meant: its last words differ a little from one."""
    words = variable.removeprefix(PEER_VARIABLE).split("_")
    best, meant = _NEAR, None
    for at in range(1, len(words)):
        name, last = "_".join(words[:at]), "_".join(words[at:])
        for suffix in _PEER_SUFFIXES if name else ():
            ratio = difflib.SequenceMatcher(None, last, suffix).ratio()
            if ratio >= best:  # of equals the one with the longer id
                best, meant = ratio, f"{PEER_VARIABLE}{name}_{suffix}"
    return meant


def _value(variable: str, env: Mapping[str, str], faults: list[str]) -> str | None:
    """The value, or the contents of the file that `<NAME>_FILE` names."""
    base = variable.removesuffix("_FILE")
    if base == variable:
        text = env[variable]
        if _SURROGATES.search(text) and not variable.endswith("_DIR"):
            # Octets that are not UTF-8. Only names of files may hold them.
            faults.append(f"{variable} is not UTF-8 text")
            return None
        return text
    if not env[variable]:
        return None  # as any other variable: empty is unset
    if base in env:
        faults.append(f"{base} and {variable} are both set: keep one")
        return None
    path = Path(env[variable])
    try:
        return _read_text(path, bounds.VALUE_FILE_BYTES_MAX).strip()
    except OSError as error:
        reason = error.strerror
    except ValueError as error:
        reason = str(error)
    faults.append(f"{variable}={path} cannot be read: {reason}")
    return None


def _read_text(path: Path, bytes_max: int) -> str:
    """The text of a file, without the byte order mark that some editors put before it.

    Raises:
        OSError: it cannot be read.
        ValueError: it is too long, or not UTF-8.
    """
    octets = read_bounded(path, bytes_max)
    if len(octets) > bytes_max:
        raise ValueError(f"it is longer than {bytes_max} octets")
    if octets.startswith(_BOMS_UTF_16) or b"\0" in octets:
        raise ValueError("it is UTF-16, or not text at all: save it as UTF-8")
    try:
        return octets.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"octet {error.start + 1} is not UTF-8: save it as UTF-8") from None


# --- names


def _suggest(name: str, known: Mapping[str, str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]}?" if close else ""


def _near_miss(name: str) -> str | None:
    """The setting that a variable without one of our prefixes was most likely meant to be.

    Much stricter than `_suggest`, since it may be another program's: another spelling of the same
    letters (CREDITLIMIT, http_port), or two neighbouring letters swapped, one left out or one too
    many in a name of eight letters or more. Not a wrong letter: NODE_IP is not NODE_ID.
    """
    bare = name.upper().replace("_", "").replace("-", "")
    same = _BARE.get(bare) or _SHORT_NAMES.get(bare)
    if same is not None:
        return same
    if len(name) < _NEAR_MISS_CHARACTERS_MIN:
        return None
    if name in _FIELDS_WITHOUT_ONE:
        return _FIELDS_WITHOUT_ONE[name]
    return next((one for one in _variants(name) if one in _FIELDS), None)


_SHORT_NAMES: Final = {"ADMINKEY": "ADMIN_API_KEY", "READKEY": "READ_API_KEY"}
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


_FIELDS_WITHOUT_ONE: Final = {short: name for name in _FIELDS for short in _without_one(name)}


# --- faults of values


def _faults_of_the_rest(
    error: ValidationError,
    values: Mapping[str, Any],
    ids: Sequence[str],
    sources: Mapping[str, str],
) -> list[str]:
    """Contradictions between settings, found even if some setting is invalid by itself.

    Validation stops before it compares settings, so it is repeated without the invalid ones.
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
    gone = [repr(ids[index]) for index in bad_peers if isinstance(index, int)]
    rest["peers"] = [peer for index, peer in enumerate(values["peers"]) if index not in bad_peers]
    # What they would be compared with is not known, so nothing that names them is a fault.
    unknown = [name for name, field in _FIELDS.items() if wrong & {field, to_camel(field)}]
    left = [one for index, one in enumerate(ids) if index not in bad_peers]
    try:
        Settings(**rest)
    except ValidationError as second:
        # A route to a peer that was left out is not at fault.
        return [
            line
            for line in explain(second, left, sources)
            if not any(f"leads to {name}" in line for name in gone)
            and not any(re.search(rf"\b{name}\b", line) for name in unknown)
        ]
    return []
