"""Shares out a bounded number of places: viewers of the live feed, logins. Pure.

When all are taken, a newcomer gets the place of whoever has more than a fair share, and nobody's
otherwise. Shares are those of addresses first, since one holder of a key can log in many times, then those of
logins from one address. An operator comes before those who only read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

from connector.base.connections import network_of
from connector.web.roles import Role


class Holder(NamedTuple):
    """A viewer or login that has a place, or wants one."""

    address: str
    """Of IPv6 the /64, see `network_of`."""
    login: str
    """What tells users of one address apart, such as a digest of the login; never a secret."""
    role: Role


def holder_at(source: str, login: str, role: Role) -> Holder:
    """The holder that a request from the address `source` stands for."""
    return Holder(network_of(source), login, role)


def place_for(newcomer: Holder, taken: Sequence[Holder]) -> int | None:
    """Which of the places `newcomer` may take; None: none, it has a fair share already.

    `taken`: who has them, the oldest first. Of the places of whoever has too many, the oldest goes.
    """
    at = _of_the_busiest(lambda one: one.address, newcomer, taken)
    if at is not None:
        return at
    own = newcomer.address, newcomer.role
    beside = [at for at, one in enumerate(taken) if (one.address, one.role) == own]
    among = _of_the_busiest(lambda one: one.login, newcomer, [taken[at] for at in beside])
    return None if among is None else beside[among]


def _of_the_busiest(
    share_of: Callable[[Holder], str], newcomer: Holder, taken: Sequence[Holder]
) -> int | None:
    """The oldest place of the share with the most, if it has more than `newcomer` has then."""

    def key(one: Holder) -> tuple[str, Role]:
        return share_of(one), one.role

    counts = Counter(map(key, taken))
    if not counts:
        return None
    # Of shares of the same size, one whose role only reads.
    busiest = max(counts, key=lambda share: (counts[share], -share[1]))
    # With a lead of one, the holder that loses its place could take it back at once.
    lead = 1 if busiest[1] < newcomer.role else 2
    if counts[busiest] < counts[key(newcomer)] + lead:
        return None
    return next(at for at, one in enumerate(taken) if key(one) == busiest)
