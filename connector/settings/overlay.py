"""Changes that an operator made while the node ran, applied to the configuration it starts with.

The environment and CONFIG_FILE define the base. Changes made through the admin API are kept in
`DATA_DIR/changes.json` as differences to it, field by field: all other fields keep following the
base. `Overlay.apply` returns the settings in effect, validated like the base.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError
from pydantic.alias_generators import to_camel

from connector.base.errors import ConfigError
from connector.base.files import read_json, replace_private
from connector.settings import bounds
from connector.settings.faults import in_plain_words
from connector.settings.load import Loaded
from connector.settings.model import PeerSettings, RouteSettings, Settings
from connector.settings.types import PeerId

FILE_NAME: Final = "changes.json"


class Overlay(BaseModel):
    """Differences to the base. Immutable: every change returns a new one."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True
    )

    version: Literal[1] = 1
    peers: dict[PeerId, dict[str, Any]] = Field(default_factory=dict)
    """Fields, by their names in YAML, of peers that were added or changed."""
    removed_peers: list[PeerId] = Field(default_factory=list)
    """Peers of the base that are not in effect, nor are routes to them."""
    draining_peers: list[PeerId] = Field(default_factory=list)
    """Peers that are removed as soon as no packet of or to them is in flight."""
    routes: list[RouteSettings] = Field(default_factory=list)
    """Static routes that were added."""
    removed_routes: list[RouteSettings] = Field(default_factory=list)
    """Static routes of the base that are not in effect."""

    @classmethod
    def read(cls, path: Path) -> Overlay:
        """Read the file; without one there are no changes.

        Raises:
            ConfigError: it cannot be used; with every fault, and never with a secret.
        """
        try:
            content = read_json(path, bounds.CHANGES_FILE_BYTES_MAX)
        except (FileNotFoundError, NotADirectoryError):
            return cls()  # a DATA_DIR that cannot be used is reported when it is opened
        except OSError as error:
            raise ConfigError([f"{path} cannot be read: {error.strerror}"]) from error
        except ValueError as error:
            at = f", line {error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
            raise ConfigError(
                [f"{path} is not JSON{at}: restore it, or remove it to undo all run-time changes"]
            ) from error
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            raise ConfigError([f"{path}: {fault}" for fault in faults_in(error)]) from error

    def write(self, path: Path) -> None:
        """Put it on disk, readable by this user only: it holds secrets.

        Raises:
            OSError: it could not be written; the previous content is kept.
        """
        content = self.model_dump(by_alias=True, mode="json")
        if not self.draining_peers:
            del content["drainingPeers"]  # so that versions that do not know it can read the rest
        replace_private(path, json.dumps(content, indent=1) + "\n")

    @property
    def is_empty(self) -> bool:
        """Whether nothing was changed."""
        return not (
            self.peers
            or self.removed_peers
            or self.draining_peers
            or self.routes
            or self.removed_routes
        )

    # --- changes

    def with_peer(self, wanted: PeerSettings, base: Settings) -> Overlay:
        """With a peer as given: only differences to the base are stored."""
        of_base = next((peer for peer in base.peers if peer.id == wanted.id), None)
        patch = {
            to_camel(name): _plain(getattr(wanted, name))
            for name, field in PeerSettings.model_fields.items()
            if name != "id"
            and getattr(wanted, name)
            != (
                getattr(of_base, name)
                if of_base is not None
                else field.get_default(call_default_factory=True)
            )
        }
        peers = {name: fields for name, fields in self.peers.items() if name != wanted.id}
        if patch:
            peers[wanted.id] = patch
        removed = [name for name in self.removed_peers if name != wanted.id]
        return self.model_copy(
            update={
                "peers": peers,
                "removed_peers": removed,
                "draining_peers": [name for name in self.draining_peers if name != wanted.id],
            }
        )

    def draining(self, peer_id: str) -> Overlay:
        """With a peer that is to be removed; adding it again cancels that."""
        others = [name for name in self.draining_peers if name != peer_id]
        return self.model_copy(update={"draining_peers": [*others, peer_id]})

    def without_peer(self, peer_id: str, base: Settings) -> Overlay:
        """Without a peer, and without the routes to it that were added."""
        removed = [name for name in self.removed_peers if name != peer_id]
        if any(peer.id == peer_id for peer in base.peers):
            removed.append(peer_id)
        return self.model_copy(
            update={
                "peers": {k: v for k, v in self.peers.items() if k != peer_id},
                "removed_peers": removed,
                "draining_peers": [name for name in self.draining_peers if name != peer_id],
                "routes": [route for route in self.routes if route.next_hop != peer_id],
            }
        )

    def with_route(self, route: RouteSettings, base: Settings) -> Overlay:
        """With a static route."""
        added = [one for one in self.routes if one != route]
        if route not in base.routes:
            added.append(route)
        removed = [one for one in self.removed_routes if one != route]
        return self.model_copy(update={"routes": added, "removed_routes": removed})

    def without_route(self, route: RouteSettings, base: Settings) -> Overlay:
        """Without a static route."""
        removed = [one for one in self.removed_routes if one != route]
        if route in base.routes:
            removed.append(route)
        return self.model_copy(
            update={
                "routes": [one for one in self.routes if one != route],
                "removed_routes": removed,
            }
        )

    # --- in effect

    def apply(self, base: Settings) -> Settings:
        """The settings in effect.

        Changes of a peer that the base no longer has are left out: removing a peer from the
        configuration removes it.

        Raises:
            ConfigError: with every fault, in the terms of the admin API.
        """
        if self.is_empty:
            return base
        faults: list[str] = []
        peers: list[PeerSettings] = []
        patches = dict(self.peers)
        for peer in base.peers:
            patch = patches.pop(peer.id, None)
            if patch is not None:
                _add_peer(peers, {**peer.model_dump(by_alias=True), **patch, "id": peer.id}, faults)
            elif peer.id not in self.removed_peers:
                peers.append(peer)
        for peer_id, patch in patches.items():
            if "secret" in patch:
                _add_peer(peers, {**patch, "id": peer_id}, faults)
        ids = {peer.id for peer in peers}
        known = ids | set(self.removed_peers) | set(patches)
        removed_routes = set(self.removed_routes)
        routes = [
            route
            for route in base.routes
            if route not in removed_routes
            and (route.next_hop in ids or route.next_hop not in known)
        ]
        there = set(routes)
        routes += [one for one in self.routes if one.next_hop in ids and one not in there]
        # Only what was given: a default is not taken for a configured value.
        values = {name: getattr(base, name) for name in base.model_fields_set}
        try:
            settings = Settings(**{**values, "peers": peers, "routes": routes})
        except ValidationError as error:
            faults += faults_in(error)
        if faults:
            raise ConfigError(list(dict.fromkeys(faults)))
        return settings


def _add_peer(peers: list[PeerSettings], fields: dict[str, Any], faults: list[str]) -> None:
    try:
        peers.append(PeerSettings.model_validate(fields))
    except ValidationError as error:
        faults.extend(f"peer {fields['id']}: {fault}" for fault in faults_in(error))


def faults_in(error: ValidationError) -> list[str]:
    """The location and reason of each fault, one per line, without the given value."""
    lines: list[str] = []
    for fault in error.errors(include_url=False):
        where = ".".join(str(part) for part in fault["loc"])
        lines.extend(f"{where}: {line}" if where else line for line in in_plain_words(fault))
    return lines


def _plain(value: Any) -> Any:
    """A setting as JSON has it; secrets too."""
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    return value


@dataclass(frozen=True, slots=True)
class InEffect:
    """The base, what was changed, and what is in effect."""

    base: Settings
    overlay: Overlay
    settings: Settings


def in_effect(base: Settings) -> InEffect:
    """The settings of a node with its run-time changes.

    Raises:
        ConfigError: the changes are invalid, or do not fit the base any more.
    """
    path = base.data_dir / FILE_NAME
    overlay = Overlay.read(path)
    try:
        settings = overlay.apply(base)
    except ConfigError as error:
        raise ConfigError([f"{path}: {fault}" for fault in error.faults]) from error
    return InEffect(base, overlay, settings)


def with_changes(loaded: Loaded) -> Loaded:
    """The loaded settings with the run-time changes, and the source of each value.

    Raises:
        ConfigError: see `in_effect`.
    """
    found = in_effect(loaded.settings)
    path = found.base.data_dir / FILE_NAME
    by_alias = {to_camel(name): name for name in PeerSettings.model_fields}
    sources: dict[str, str] = dict(loaded.sources)
    for peer_id, fields in found.overlay.peers.items():
        for alias in fields:
            sources[f"peers.{peer_id}.{by_alias.get(alias, alias)}"] = str(path)
    if found.overlay.routes or found.overlay.removed_routes:
        sources["routes"] = " and ".join(filter(None, (sources.get("routes"), str(path))))
    return Loaded(found.settings, sources)
