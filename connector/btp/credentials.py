"""Credentials of peers, and their verification (RFC 23, Authentication)."""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

_NO_TOKEN: Final = "\0" * 32
"""Compared with the token of an unknown name, so that both cases take the same time."""


@dataclass(slots=True, frozen=True, kw_only=True)
class Credentials:
    """How a peer and this node log in to each other."""

    peer_id: str
    token: str
    """The shared secret; the same in both directions."""
    username: str
    """This node's name in the log-ins that it sends."""
    url: str | None = None
    """The WebSocket URL to dial; None: the peer dials this node."""


class CredentialTable:
    """The credentials of all peers, by peer id and by token."""

    def __init__(self, credentials: Iterable[Credentials]) -> None:
        self._by_peer_id = {one.peer_id: one for one in credentials}
        self._by_token: dict[bytes, str | None] = {}
        self._index_tokens()

    def put(self, credentials: Credentials) -> None:
        """Add a peer, or replace its credentials."""
        self._by_peer_id[credentials.peer_id] = credentials
        self._index_tokens()

    def remove(self, peer_id: str) -> None:
        """Remove a peer.

        Raises:
            KeyError: there is no such peer.
        """
        del self._by_peer_id[peer_id]
        self._index_tokens()

    def authenticate(self, path_peer_id: str | None, username: str, token: str) -> str | None:
        """The id of the peer that logs in; None: unknown, or a wrong token.

        `path_peer_id` is the peer named by the URL path, if any; it must agree with a non-empty
        `username`. Without either, the token alone identifies the peer. For a given name the
        comparison takes constant time, whether the name is known or not.
        """
        if username and path_peer_id is not None and path_peer_id != username:
            return None
        name = username or path_peer_id
        if not name:
            # Looked up by digest: the timing of a dictionary look-up leaks at most something about
            # the digest, which does not lead to a token.
            return self._by_token.get(_digest(token))
        known = self._by_peer_id.get(name)
        expected = known.token if known is not None else _NO_TOKEN
        matches = hmac.compare_digest(expected.encode(), token.encode())
        return name if known is not None and matches else None

    def _index_tokens(self) -> None:
        # A token that two peers share identifies neither.
        self._by_token = {}
        for one in self._by_peer_id.values():
            digest = _digest(one.token)
            self._by_token[digest] = None if digest in self._by_token else one.peer_id


def _digest(token: str) -> bytes:
    return hmac.digest(b"btp token", token.encode(), "sha256")
