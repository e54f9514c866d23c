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
import os
import re
from collections.abc import Mapping, Sequence
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
from connector.settings.faults import SECRETS, explain
from connector.settings.model import SOURCES, PeerSettings, Settings
from connector.settings.names import (
    FIELDS,
    NOT_SETTINGS,
    PEER_SUFFIXES,
    PREFIXES,
    is_service_link,
    misspelt,
    near_miss,
    near_peer_variable,
    split_peer_variable,
    suggest,
)
from connector.settings.types import PEER_VARIABLE

_SURROGATES: Final = re.compile("[\\ud800-\\udfff]")
_BOMS_UTF_16: Final = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


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
        self.unread: list[str] = []
        """Variables whose files cannot be read."""

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
    _read_environment(env, variables, file.peers)
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
        said = explain(error, list(ids), sources)
        said += _faults_of_the_rest(error, values, list(ids), sources)
        # Of a value whose file cannot be read nothing else is known: it was said why.
        faults.extend(line for line in said if not _names_one_of(variables.unread, line))
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
    known = {to_camel(name): name for name in FIELDS.values()}
    for key, value in content.items():
        if key == "peers":
            _read_file_peers(path, value, reading)
        elif key in known:
            reading.values[known[key]] = value
            reading.sources[known[key]] = f"{path}: {key}"
        else:
            reading.faults.append(f"{path}: unknown key {key!r}{suggest(str(key), known)}")


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
                    f"{path}: peers[{index}]: unknown key {key!r}{suggest(str(key), known)}"
                )


# --- the environment


def _read_environment(env: Mapping[str, str], reading: _Source, of_file: Mapping[str, Any]) -> None:
    faults = reading.faults
    found: dict[str, dict[str, tuple[str, str]]] = {}
    for variable in sorted(env):
        if variable in NOT_SETTINGS or is_service_link(variable, env[variable]):
            continue
        base = variable.removesuffix("_FILE")
        if variable.startswith(PEER_VARIABLE):
            split = split_peer_variable(base) or split_peer_variable(variable)
            if split is None:
                meant = near_peer_variable(base)
                faults.append(
                    f"{variable} is not a setting of a peer"
                    + (
                        f"; did you mean {meant}{variable.removeprefix(base)}?"
                        if meant
                        else ": after BTP_PEER_<ID> may come "
                        + ", ".join(f"_{suffix}" for suffix in sorted(PEER_SUFFIXES))
                    )
                )
                continue
            text = _value(variable, env, reading, is_secret=split[1] in SECRETS)
            # Empty means unset, as for other variables; but an empty secret is a mistake with its own message.
            if text is not None and (text or split[1] == "secret"):
                found.setdefault(split[0], {})[split[1]] = (text, variable)
        elif base in FIELDS:
            text = _value(variable, env, reading, is_secret=FIELDS[base] in SECRETS)
            if text is not None and (text or base == "ROUTES"):
                reading.values[FIELDS[base]] = text
                reading.sources[FIELDS[base]] = variable
        elif variable.startswith(PREFIXES):
            faults.append(f"{variable} is not a setting{suggest(variable, FIELDS)}")
        elif env[variable] and (meant := near_miss(base)) is not None:
            suffix = variable.removeprefix(base)
            faults.append(f"{variable} is not a setting; did you mean {meant}{suffix}?")
    _drop_misspelt(found, reading, of_file)
    _take_peers(found, reading)


def _drop_misspelt(
    found: dict[str, dict[str, tuple[str, str]]], reading: _Source, of_file: Mapping[str, Any]
) -> None:
    """Name settings of a peer whose misspelt names look like those of another peer, and drop those.

    `BTP_PEER_BOB_RECIEVE_ROUTES` would be the routes of a peer `bob-recieve`, which has no secret.
    """
    for name, fields in list(found.items()):
        if "secret" in fields or _id_of(name, fields) in of_file:
            continue
        meant = {
            variable: misspelt(variable.removesuffix("_FILE"), other)
            for _, variable in fields.values()
            for other in found
            if name.startswith(f"{other}_")
        }
        if meant and all(meant.values()):
            del found[name]
            reading.faults.extend(
                f"{variable} is not a setting of a peer; did you mean {one}?"
                for variable, one in meant.items()
            )


def _id_of(name: str, fields: Mapping[str, tuple[str, str]]) -> str:
    """The id of a peer by the `<ID>` of its variables."""
    return fields["id"][0] if "id" in fields else name.lower().replace("_", "-")


def _take_peers(found: Mapping[str, dict[str, tuple[str, str]]], reading: _Source) -> None:
    """Peers by the `<ID>` of their variables, and per field its text and its variable."""
    names: dict[str, str] = {}
    for name, fields in found.items():
        peer_id = _id_of(name, fields)
        fields.pop("id", None)
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


def _value(
    variable: str, env: Mapping[str, str], reading: _Source, *, is_secret: bool
) -> str | None:
    """The value, or the contents of the file that `<NAME>_FILE` names; blanks around it are none of it.

    They come from files of variables that were written with line ends of Windows, for example. In the
    value of a secret they may be meant.
    """
    base = variable.removesuffix("_FILE")
    if base == variable:
        text = env[variable]
        if _SURROGATES.search(text) and not variable.endswith("_DIR"):
            # Octets that are not UTF-8. Only names of files may hold them.
            reading.faults.append(f"{variable} is not UTF-8 text")
            return None
        return text if is_secret else text.strip()
    if not env[variable]:
        return None  # as any other variable: empty is unset
    if env.get(base):
        reading.faults.append(f"{base} and {variable} are both set: keep one")
        return None
    path = Path(env[variable])
    try:
        return _read_text(path, bounds.VALUE_FILE_BYTES_MAX).strip()
    except OSError as error:
        reason = error.strerror
    except ValueError as error:
        reason = str(error)
    reading.faults.append(f"{variable}={path} cannot be read: {reason}")
    reading.unread.append(base)
    return None


def _names_one_of(names: Sequence[str], line: str) -> bool:
    return any(re.search(rf"\b{name}\b", line) for name in names)


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
    unknown = [name for name, field in FIELDS.items() if wrong & {field, to_camel(field)}]
    left = [one for index, one in enumerate(ids) if index not in bad_peers]
    try:
        Settings(**rest)
    except ValidationError as second:
        # A route to a peer that was left out is not at fault.
        return [
            line
            for line in explain(second, left, sources)
            if not any(f"leads to {name}" in line for name in gone)
            and not _names_one_of(unknown, line)
        ]
    return []
