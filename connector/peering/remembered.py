"""Facts about peers that survive restarts and are not in the ledger.

The asset of each peer's account, so that its balance can be shown after the peer was removed; and
when its secret was first used. A secret is stored as a fingerprint: four octets of a hash salted
with a random number of this node. It tells two secrets apart and reveals nothing else.
"""

from __future__ import annotations

import hmac
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from connector.base.files import read_json, replace_private
from connector.peering import bounds
from connector.peering.model import Asset

FILE_NAME: Final = "known_peers.json"
_SALT_BYTES: Final = 16
_FINGERPRINT_BYTES: Final = 4
_ID: Final = re.compile(r"[a-z0-9-]{1,63}")
_CODE: Final = re.compile(r"[A-Za-z0-9._-]{1,32}")
_FINGERPRINT: Final = re.compile(rf"[0-9a-f]{{{2 * _FINGERPRINT_BYTES}}}")
_SCALE_MAX: Final = 255


@dataclass(slots=True, frozen=True, kw_only=True)
class KnownPeer:
    """A current or removed peer of this node."""

    asset: Asset
    fingerprint: str
    """Of its secret."""
    since_ms: int
    """When the secret was first in use here."""


class KnownPeers:
    """All current and removed peers of this node."""

    def __init__(self, salt: bytes, peers: dict[str, KnownPeer] | None = None) -> None:
        self._salt: Final = salt
        self.peers: Final[dict[str, KnownPeer]] = peers or {}

    @classmethod
    def make(cls, random_octets: Callable[[int], bytes]) -> Self:
        """An empty set with a new salt: the first start of a node."""
        return cls(random_octets(_SALT_BYTES))

    @classmethod
    def read(cls, path: Path, random_octets: Callable[[int], bytes]) -> Self:
        """Read the file, if there is one.

        Raises:
            OSError, ValueError: it cannot be read, or is not such a file.
        """
        try:
            content = read_json(path, bounds.KNOWN_PEERS_FILE_BYTES_MAX)
        except FileNotFoundError:
            return cls.make(random_octets)
        try:
            peers = {peer_id: _read_peer(peer_id, one) for peer_id, one in content["peers"].items()}
            salt = bytes.fromhex(content["salt"])
        except (KeyError, TypeError, AttributeError, OverflowError) as error:
            raise ValueError(f"not a file of this node: {type(error).__name__}") from error
        if len(salt) != _SALT_BYTES:
            raise ValueError(f"not a file of this node: a salt of {len(salt)} octets")
        return cls(salt, peers)

    def write(self, path: Path) -> None:
        """Write it to disk.

        Raises:
            OSError: it could not be written.
        """
        content: dict[str, Any] = {
            "salt": self._salt.hex(),
            "peers": {
                peer_id: {
                    "assetCode": one.asset.code,
                    "assetScale": one.asset.scale,
                    "fingerprint": one.fingerprint,
                    "sinceMs": one.since_ms,
                }
                for peer_id, one in self.peers.items()
            },
        }
        replace_private(path, json.dumps(content, indent=1) + "\n")

    def fingerprint(self, secret: str) -> str:
        """The fingerprint of `secret`: eight hexadecimal digits."""
        return hmac.digest(self._salt, secret.encode(), "sha256")[:_FINGERPRINT_BYTES].hex()

    def meet(self, peers: Iterable[tuple[str, Asset, str]], now_ms: int) -> bool:
        """Add configured peers by id, asset and secret; returns whether anything is new."""
        changed = False
        for peer_id, asset, secret in peers:
            fingerprint = self.fingerprint(secret)
            known = self.peers.get(peer_id)
            if known is not None and known.asset == asset and known.fingerprint == fingerprint:
                continue
            since_ms = (
                known.since_ms if known is not None and known.fingerprint == fingerprint else now_ms
            )
            self.peers[peer_id] = KnownPeer(asset=asset, fingerprint=fingerprint, since_ms=since_ms)
            changed = True
        return changed


def _read_peer(peer_id: str, one: Any) -> KnownPeer:
    """A peer of the file.

    Raises:
        ValueError, KeyError, TypeError: it is none.
    """
    code, scale, fingerprint, since_ms = (
        one["assetCode"], one["assetScale"], one["fingerprint"], one["sinceMs"],
    )  # fmt: skip
    is_valid = (
        _ID.fullmatch(peer_id) is not None
        and _CODE.fullmatch(code) is not None
        and type(scale) is int
        and 0 <= scale <= _SCALE_MAX
        and _FINGERPRINT.fullmatch(fingerprint) is not None
        and type(since_ms) is int
        and since_ms >= 0
    )
    if not is_valid:
        raise ValueError(f"not a file of this node: peer {peer_id[:64]!r}")
    return KnownPeer(asset=Asset(code, scale), fingerprint=fingerprint, since_ms=since_ms)
