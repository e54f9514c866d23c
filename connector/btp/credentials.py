"""Credentials of peers, and their verification (RFC 23, Authentication)."""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from dataclasses import dataclass, replace
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
    former_token: str | None = None
    """The secret before, which serves too until `former_until_ms`; None: there is none."""
    former_until_ms: int = 0
    """Milliseconds since the epoch."""

    def former_at(self, now_ms: int) -> str | None:
        """The secret before, while it serves."""
        return self.former_token if now_ms < self.former_until_ms else None

    def is_token(self, digest: bytes, now_ms: int) -> bool:
        """Whether this is the digest of a token that serves now."""
        former = self.former_at(now_ms)
        return digest == digest_of(self.token) or (
            former is not None and digest == digest_of(former)
        )


class CredentialTable:
    """The credentials of all peers, by peer id and by token."""

    def __init__(self, credentials: Iterable[Credentials]) -> None:
        self._by_peer_id = {one.peer_id: one for one in credentials}
        self._by_token: dict[bytes, str | None] = {}
        self._graces: dict[str, int] = {}
        """By peer id: until when its former secret serves, in milliseconds since the epoch."""
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

    def get(self, peer_id: str) -> Credentials | None:
        """The credentials of a peer; None: there is no such peer."""
        return self._by_peer_id.get(peer_id)

    def graces_over(self, now_ms: int) -> list[str]:
        """The peers whose former secret has ceased to serve; each is named once, and its secret forgotten."""
        ended = [peer_id for peer_id, until_ms in self._graces.items() if now_ms >= until_ms]
        for peer_id in ended:
            one = self._by_peer_id[peer_id]
            self._by_peer_id[peer_id] = replace(one, former_token=None, former_until_ms=0)
        if ended:
            self._index_tokens()
        return ended

    def authenticate(
        self, path_peer_id: str | None, username: str, token: str, now_ms: int
    ) -> str | None:
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
            digest = digest_of(token)
            found = self._by_token.get(digest)
            serves = found is not None and self._by_peer_id[found].is_token(digest, now_ms)
            return found if serves else None
        known = self._by_peer_id.get(name)
        expected = known.token if known is not None else _NO_TOKEN
        former = None if known is None else known.former_at(now_ms)
        given = token.encode()
        # Both are compared, always: else the time would tell which one fits.
        matches = hmac.compare_digest(expected.encode(), given)
        fits_former = hmac.compare_digest((former or _NO_TOKEN).encode(), given)
        matches_former = former is not None and fits_former
        return name if known is not None and (matches or matches_former) else None

    def _index_tokens(self) -> None:
        # A token that two peers share identifies neither.
        self._by_token = {}
        self._graces = {}
        for one in self._by_peer_id.values():
            for token in (one.token, one.former_token):
                if token is not None:
                    digest = digest_of(token)
                    self._by_token[digest] = None if digest in self._by_token else one.peer_id
            if one.former_token is not None:
                self._graces[one.peer_id] = one.former_until_ms


def digest_of(token: str) -> bytes:
    """What tells tokens apart without being one."""
    return hmac.digest(b"btp token", token.encode(), "sha256")
