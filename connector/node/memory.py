"""Peers that a node has had, in a file of its DATA_DIR.

Needed to show balances with removed peers, and the age of secrets. A fault of the file does not
prevent a start: it is logged.
"""

from __future__ import annotations

from typing import Final

from connector.node.core import Platform
from connector.peering.model import PeerTerms
from connector.peering.remembered import FILE_NAME, KnownPeers
from connector.settings.model import Settings


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
                "known_peers_unreadable", path=str(self._path), reason=str(error)
            )

    def note(self, settings: Settings) -> None:
        """Add peers and secrets of `settings` that are new."""
        peers = [
            (peer.id, settings.asset_of(peer), peer.secret.get_secret_value())
            for peer in settings.peers
        ]
        if self.known.meet(peers, self._platform.clock.now_ms()):
            self._write()

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
                "known_peers_not_written", path=str(self._path), reason=str(error)
            )
