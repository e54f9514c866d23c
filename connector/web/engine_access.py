"""Authenticates settlement engines: the token of each peer's engine.

A peer with a token of its own is reported by that token only, and its token reports no other peer.
SETTLEMENT_TOKEN is for the peers without one.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from connector.base.clock import Clock
from connector.base.log import Log
from connector.base.wrong_keys import Denied, WrongKeys, is_same

ENGINE_PREFIX: Final = "/settlement"
"""Paths for settlement engines."""
_ACCOUNT: Final = re.compile(rf"{ENGINE_PREFIX}/accounts/([^/]+)/.*", re.DOTALL)


def account_of(path: str) -> str:
    """The peer that a path of ENGINE_PREFIX is about, as the routes read it; empty: of none."""
    found = _ACCOUNT.fullmatch(path)
    return "" if found is None else found[1]


class EngineAccess:
    """Authenticates settlement engines."""

    def __init__(
        self,
        *,
        token_of: Callable[[str], str | None],
        required: bool,
        clock: Clock,
        log: Log,
    ) -> None:
        """Build it.

        Args:
            token_of: the token of a peer's engine; None: there is none. Of an unknown peer, and of
                "": the node's.
            required: whether others than programs of this machine reach the listener: peers without
                a token are closed then.
            clock: for throttling.
            log: for wrong tokens.
        """
        self._token_of = token_of
        self._required = required
        self._wrong = WrongKeys(clock=clock, log=log)

    def has_token(self, peer_id: str) -> bool:
        """Whether an engine needs a token to report a peer."""
        return self._token_of(peer_id) is not None

    def is_closed(self, peer_id: str) -> bool:
        """Whether no engine may report a peer, since there is no token for it."""
        return self._required and not self.has_token(peer_id)

    def check(self, peer_id: str, given: str, source: str) -> Denied | None:
        """Whether a token (empty: none) may report a peer; None: it may.

        A token of another peer is as wrong as any, and counts as such.
        """
        right = self._token_of(peer_id)
        if right is None:
            return Denied.NO_KEY if self._required else None
        if not given:
            return Denied.NO_KEY
        return None if is_same(given, right) else self._wrong.deny(source)

    def retry_after_s(self, source: str) -> int:
        """See `WrongKeys`."""
        return self._wrong.retry_after_s(source)
