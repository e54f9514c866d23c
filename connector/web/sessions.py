"""Logins of browsers. They end with log-out, after a time, with the process, and when there are too many.

Of too many, one of whoever has the most ends (`places`): who logs in again and again logs nobody else out.

The cookie is a random token; only its digest is kept, in memory. So a stolen cookie is worth nothing
after log-out, and nothing on disk can be one.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final, NamedTuple

from connector.base.clock import Clock
from connector.base.wrong_keys import digest
from connector.web import bounds
from connector.web.places import Holder, holder_at, place_for
from connector.web.roles import Role

_TOKEN_BYTES: Final = 32
_NAME_BYTES: Final = 8


class _Login(NamedTuple):
    ends_s: float
    """By the monotonic clock."""
    holder: Holder
    operates_until_s: float
    """By the same clock; 0: it only reads."""


class Sessions:
    """The logins of one node."""

    def __init__(self, *, clock: Clock, random_octets: Callable[[int], bytes]) -> None:
        self._clock = clock
        self._random_octets = random_octets
        self._open: OrderedDict[bytes, _Login] = OrderedDict()
        """By the digest of the token; the first ends first."""

    def begin(self, role: Role, source: str, *, operate: bool = False) -> str:
        """A new login; returns its token.

        Args:
            role: of the key that it is given for.
            source: the address that it is given to.
            operate: whether it may change something, for `HTTP_OPERATE_SECONDS_MAX`.
        """
        assert role is Role.OPERATE or not operate, "a reader does not operate"
        now_s = self._clock.monotonic_s()
        while self._open and next(iter(self._open.values())).ends_s <= now_s:
            self._open.popitem(last=False)
        token = self._random_octets(_TOKEN_BYTES).hex()
        name = digest(token)
        holder = holder_at(source, name[:_NAME_BYTES].hex(), role)
        if len(self._open) >= bounds.HTTP_SESSIONS_MAX:
            self._make_room(holder)
        until_s = now_s + bounds.HTTP_OPERATE_SECONDS_MAX if operate else 0.0
        self._open[name] = _Login(now_s + bounds.HTTP_LOGIN_SECONDS_MAX, holder, until_s)
        assert len(self._open) <= bounds.HTTP_SESSIONS_MAX
        return token

    def _make_room(self, newcomer: Holder) -> None:
        """End one login: where all have a fair share, the oldest of the newcomer's address and role.

        If there is none, the oldest that reads.
        """
        # Each login is one place, so that only addresses can have more than a share.
        holders = [one.holder for one in self._open.values()]
        at = place_for(newcomer, holders)
        if at is None:
            own = [
                at
                for at, one in enumerate(holders)
                if (one.address, one.role) == (newcomer.address, newcomer.role)
            ]
            at = own[0] if own else min(range(len(holders)), key=lambda at: holders[at].role)
        del self._open[list(self._open)[at]]

    def holder(self, token: str) -> Holder | None:
        """Who has logged in; None: nobody, or the login has ended.

        Looked up by digest: time tells nothing about tokens.
        """
        found = self._open.get(digest(token))
        return None if found is None or found.ends_s <= self._clock.monotonic_s() else found.holder

    def operates_for_s(self, token: str) -> float:
        """For how long a login may still change something; 0: it may not."""
        found = self._open.get(digest(token))
        return (
            0.0 if found is None else max(0.0, found.operates_until_s - self._clock.monotonic_s())
        )

    def end(self, token: str) -> None:
        """Log out. Nothing happens if there is no such login."""
        self._open.pop(digest(token), None)

    def __len__(self) -> int:
        return len(self._open)
