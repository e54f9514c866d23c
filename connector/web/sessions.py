"""Logins of browsers. They end with log-out, after a time, with the process, and when there are too many.

The cookie is a random token; only its digest is kept, in memory. So a stolen cookie is worth nothing
after log-out, and nothing on disk can be one.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from connector.base.clock import Clock
from connector.web import bounds
from connector.web.wrong_keys import digest

_TOKEN_BYTES: Final = 32


class Sessions:
    """The logins of one node."""

    def __init__(self, *, clock: Clock, random_octets: Callable[[int], bytes]) -> None:
        self._clock = clock
        self._random_octets = random_octets
        self._ends_s: OrderedDict[bytes, float] = OrderedDict()
        """By the digest of the token: when it ends, by the monotonic clock; the first ends first."""

    def begin(self) -> str:
        """A new login; returns its token. Of too many, the oldest ends."""
        now_s = self._clock.monotonic_s()
        while self._ends_s and next(iter(self._ends_s.values())) <= now_s:
            self._ends_s.popitem(last=False)
        if len(self._ends_s) >= bounds.HTTP_SESSIONS_MAX:
            self._ends_s.popitem(last=False)
        token = self._random_octets(_TOKEN_BYTES).hex()
        self._ends_s[digest(token)] = now_s + bounds.HTTP_LOGIN_SECONDS_MAX
        assert len(self._ends_s) <= bounds.HTTP_SESSIONS_MAX
        return token

    def is_open(self, token: str) -> bool:
        """Whether a login has not ended. Looked up by digest: time tells nothing about tokens."""
        return self._ends_s.get(digest(token), 0.0) > self._clock.monotonic_s()

    def end(self, token: str) -> None:
        """Log out. Nothing happens if there is no such login."""
        self._ends_s.pop(digest(token), None)

    def __len__(self) -> int:
        return len(self._ends_s)
