"""Keeps links to the peers that this node dials: dial, wait until the link ends, back off, repeat.

A peer that has dialled this node is not dialled while that link exists. The wait grows with each attempt that fails, and with each link
that ends soon; but never beyond half a second after a link that has carried packets, since payments wait for the next one.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Final

from connector.base.backoff import Backoff
from connector.base.clock import Clock
from connector.base.log import Log
from connector.base.words import words_of
from connector.btp import bounds
from connector.btp.credentials import Credentials
from connector.btp.link import Link

BACKOFF: Final = Backoff(
    min_s=bounds.RECONNECT_DELAY_SECONDS_MIN,
    max_s=bounds.RECONNECT_DELAY_SECONDS_MAX,
    jitter=1,
    floor_s=bounds.RECONNECT_DELAY_SECONDS_MIN / 2,
)
"""Full jitter: peers that lost their links at the same time dial at different times."""


@dataclass(slots=True)
class DialState:
    """The dialling state of one peer."""

    attempts: int = 0
    last_error: str = ""
    """The error of the last attempt; empty after a successful log-in."""


class Dialler:
    """Dials peers; one `stay_connected` per peer."""

    def __init__(
        self,
        *,
        connect: Callable[[Credentials], Awaitable[Link]],
        serving: Callable[[str], Link | None],
        carried: Callable[[str], int],
        clock: Clock,
        log: Log,
        random: Callable[[], float],
    ) -> None:
        """`connect` opens a link that logs in by itself; it raises `OSError` or `ssl.SSLError`.

        `serving` returns the link that carries requests to a peer, dialled by either side: while
        there is one, the peer is not dialled. `carried` returns how many packets went to and came
        from a peer so far. `random` returns a number from 0 to 1, for the back-off.
        """
        self.states: Final[dict[str, DialState]] = {}
        """By peer id."""
        self._connect = connect
        self._serving = serving
        self._carried = carried
        self._clock = clock
        self._log = log
        self._random = random
        self._stopping = False

    async def stay_connected(self, credentials: Credentials) -> None:
        """Dial whenever there is no link, with random exponential back-off, until stopped."""
        assert credentials.url is not None
        state = self.states.setdefault(credentials.peer_id, DialState())
        peer_id = credentials.peer_id
        failures = 0
        shows_former = False
        while not self._stopping:
            served_by = self._serving(peer_id)
            before = self._carried(peer_id)
            if served_by is not None:
                # The peer has dialled this node. If both dial again, the random delay makes one first.
                began_s = self._clock.monotonic_s()
                await served_by.closed.wait()
                failures = 1 + self._after(peer_id, failures, began_s, before)
                await asyncio.sleep(BACKOFF.wait_s(failures, self._random))
                continue
            state.attempts += 1
            link = None
            try:
                async with asyncio.timeout(bounds.DIAL_SECONDS_MAX):
                    link = await self._connect(self._shown(credentials, shows_former=shows_former))
            except (OSError, TimeoutError, ssl.SSLError) as error:
                reason = words_of(error) or "timed out"
            else:
                await link.closed.wait()
                reason = link.close_reason
                if link.logged_in_at_s:
                    failures = self._after(peer_id, failures, link.logged_in_at_s, before)
            failures += 1
            if link is not None and not link.logged_in_at_s:
                # It may not know the new secret yet, or not the former one any more.
                shows_former = not shows_former
            if link is None or not link.logged_in_at_s:
                # Once per reason: a peer that is away for a day causes one line.
                if reason != state.last_error:
                    self._log.warning("btp_dial_failed", peer_id=peer_id, reason=reason)
                state.last_error = reason
            else:
                state.last_error = ""
            await asyncio.sleep(BACKOFF.wait_s(failures, self._random))

    def _shown(self, credentials: Credentials, *, shows_former: bool) -> Credentials:
        """The credentials to log in with: with the former secret, while it serves, where the new one was refused."""
        former = credentials.former_at(self._clock.now_ms())
        if former is None or not shows_former:
            return credentials
        return replace(credentials, token=former)

    def _after(self, peer_id: str, failures: int, began_s: float, before: int) -> int:
        """The failures that count after a link that has served since `began_s`, without its own end."""
        if self._clock.monotonic_s() - began_s > bounds.RECONNECT_STABLE_SECONDS:
            return 0
        if self._carried(peer_id) > before:
            return min(failures, bounds.RECONNECT_FAILURES_CARRIED)
        return failures

    def remove(self, peer_id: str) -> None:
        """Discard the state of a peer; the caller cancels its `stay_connected`."""
        self.states.pop(peer_id, None)

    def stop(self) -> None:
        """Stop dialling; open links stay."""
        self._stopping = True
