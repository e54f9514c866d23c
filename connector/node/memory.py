"""Peers that a node has had, and those that a replaced process had, in files of its DATA_DIR.

Needed to show balances with removed peers, and the age of secrets. A fault of the file does not
prevent a start: it is logged.
"""

from __future__ import annotations

import json
from typing import Final

from connector.base.files import parse_json
from connector.base.words import words_of
from connector.node import bounds
from connector.node.core import Platform
from connector.peering.model import Asset, PeerTerms, Relation
from connector.peering.remembered import FILE_NAME, KnownPeers
from connector.settings.model import Settings
from connector.settings.terms import asset_is_the_parents, with_parents_asset

FORMER_LINKS_FILE: Final = "replaced.json"


class PeerMemory:
    """Reads, extends and writes `KnownPeers`. A node whose ledger is in memory has no file."""

    def __init__(self, settings: Settings, platform: Platform) -> None:
        self.known = KnownPeers.make(platform.randomness.octets)
        """Empty until `read`."""
        self._path: Final = None if settings.ledger == "memory" else settings.data_dir / FILE_NAME
        self._platform: Final = platform

    def read(self) -> None:
        """Read what earlier starts have written."""
        if self._path is None:
            return
        try:
            self.known = KnownPeers.read(self._path, self._platform.randomness.octets)
        except (OSError, ValueError) as error:
            self._platform.log.warning(
                "known_peers_unreadable", path=str(self._path), reason=words_of(error)
            )

    def note(self, settings: Settings) -> None:
        """Add peers and secrets of `settings` that are new."""
        peers = [
            (peer.id, settings.asset_of(peer), peer.secret.get_secret_value())
            for peer in settings.peers
        ]
        if self.known.meet(peers, self._platform.clock.now_ms()):
            self._write()

    def parents_asset(self, settings: Settings) -> Asset | None:
        """The asset of the account with the parent at the last start; None: there was none."""
        return _parents_asset(self.known, settings)

    def former(self, settings: Settings) -> list[PeerTerms]:
        """Removed peers, which may still have a balance."""
        present = {peer.id for peer in settings.peers}
        return [
            PeerTerms(peer_id=peer_id, asset=known.asset)
            for peer_id, known in self.known.peers.items()
            if peer_id not in present
        ]

    def forget(self, peer_ids: list[str]) -> None:
        """Drop removed peers with a balance of zero."""
        for peer_id in peer_ids:
            del self.known.peers[peer_id]
        if peer_ids:
            self._write()

    def _write(self) -> None:
        if self._path is None:
            return
        try:
            self.known.write(self._path)
        except OSError as error:
            self._platform.log.warning(
                "known_peers_not_written", path=str(self._path), reason=words_of(error)
            )


def with_known_asset(settings: Settings) -> Settings:
    """The settings as a node takes them at its next start: with what its parent has said of the asset.

    Without the file, or with one that cannot be read, those that are given.
    """
    if settings.ledger == "memory" or not asset_is_the_parents(settings):
        return settings
    try:
        # No number of this node: nothing is written.
        known = KnownPeers.read(settings.data_dir / FILE_NAME, bytes)
    except (OSError, ValueError):
        return settings
    asset = _parents_asset(known, settings)
    return settings if asset is None else with_parents_asset(settings, asset)


def _parents_asset(known: KnownPeers, settings: Settings) -> Asset | None:
    for peer in settings.peers:
        if peer.relation is Relation.PARENT and peer.id in known.peers:
            return known.peers[peer.id].asset
    return None


class FormerLinks:
    """Peers with packet ids that were connected with the process that this one replaces.

    They are back in a moment, so packets for them wait (`btp.returning`). Without the file, or with one
    that cannot be read, they do not.
    """

    def __init__(self, settings: Settings, platform: Platform) -> None:
        self._path: Final = settings.data_dir / FORMER_LINKS_FILE
        self._note: Final = platform.disk.note(self._path)
        self._in_memory: Final = settings.ledger == "memory"
        self._platform: Final = platform

    def write(self, peer_ids: list[str]) -> None:
        """Leave them to the process that follows."""
        if self._in_memory:
            return
        text = json.dumps({"atMs": self._platform.clock.now_ms(), "peers": peer_ids})
        try:
            self._note.leave(text)
        except OSError as error:
            self._warn(error)

    def take(self) -> set[str]:
        """What the former process has left, once, unless that is too long ago."""
        try:
            found = parse_json(self._note.take(bounds.REPLACED_FILE_BYTES_MAX))
            age_ms = self._platform.clock.now_ms() - int(found["atMs"])
            peers = {str(peer_id) for peer_id in found["peers"]}
        except FileNotFoundError:
            return set()
        except (OSError, ValueError, TypeError, KeyError, OverflowError) as error:
            self._warn(error)
            return set()
        return peers if 0 <= age_ms <= bounds.REPLACED_SECONDS_MAX * 1000 else set()

    def _warn(self, error: Exception) -> None:
        self._platform.log.warning("replaced_file", path=str(self._path), reason=words_of(error))
