"""Stays connected to the peers that this node dials: dial, wait for the end, back off, dial again.

A peer that has dialled this node is not dialled until that link is gone.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from connector.base.backoff import Backoff
from connector.base.clock import Clock
from connector.base.log import Log
from connector.btp import bounds
from connector.btp.credentials import Credentials
from connector.btp.link import Link, describe

BACKOFF: Final = Backoff(
    min_s=bounds.RECONNECT_DELAY_SECONDS_MIN,
    max_s=bounds.RECONNECT_DELAY_SECONDS_MAX,
    jitter=1,
    floor_s=bounds.RECONNECT_DELAY_SECONDS_MIN / 2,
)
"""Full jitter: peers that lost their links at one moment do not all dial at one moment."""


@dataclass(slots=True)
class DialState:
    """The history of dialling one peer."""

    attempts: int = 0
    last_error: str = ""
    """Why the last attempt did not lead to a log-in; empty after one that did."""


class Dialler:
    """Dials peers; one `stay_connected` per peer."""

    def __init__(
        self,
        *,
        connect: Callable[[Credentials], Awaitable[Link]],
        serving: Callable[[str], Link | None],
        clock: Clock,
        log: Log,
        random: Callable[[], float],
    ) -> None:
        """`connect` opens a link that logs in by itself; it raises `OSError` or `ssl.SSLError`.

        `serving` gives the link that carries requests to a peer, whoever dialled it: while there
        is one, the peer is not dialled. `random` gives a number from 0 to 1, for the back-off.
        """
        self.states: Final[dict[str, DialState]] = {}
        """By peer id."""
        self._connect = connect
        self._serving = serving
        self._clock = clock
        self._log = log
        self._random = random
        self._stopping = False

    async def stay_connected(self, credentials: Credentials) -> None:
        """Dial again whenever the link is gone, with random exponential back-off, until stopped."""
        assert credentials.url is not None
        state = self.states.setdefault(credentials.peer_id, DialState())
        failures = 0
        while not self._stopping:
            served_by = self._serving(credentials.peer_id)
            if served_by is not None:
                # The peer has dialled this node. When both do it again, chance lets one be first.
                failures = await self._wait(served_by, failures)
                continue
            state.attempts += 1
            link = None
            try:
                async with asyncio.timeout(bounds.DIAL_SECONDS_MAX):
                    link = await self._connect(credentials)
            except (OSError, TimeoutError, ssl.SSLError) as error:
                reason = describe(error) or "timed out"
            else:
                await link.closed.wait()
                reason = link.close_reason
                lived_s = self._clock.monotonic_s() - link.logged_in_at_s
                if link.logged_in_at_s and lived_s > bounds.RECONNECT_STABLE_SECONDS:
                    failures = 0
            failures += 1
            if link is None or not link.logged_in_at_s:
                # Once per reason: a peer that is away for a day makes one line.
                if reason != state.last_error:
                    self._log.warning("btp_dial_failed", peer_id=credentials.peer_id, reason=reason)
                state.last_error = reason
            else:
                state.last_error = ""
            await asyncio.sleep(BACKOFF.wait_s(failures, self._random))

    async def _wait(self, link: Link, failures: int) -> int:
        """Return the failures so far, some time after the end of a link that the peer dialled."""
        began_s = self._clock.monotonic_s()
        await link.closed.wait()
        if self._clock.monotonic_s() - began_s > bounds.RECONNECT_STABLE_SECONDS:
            failures = 0
        await asyncio.sleep(BACKOFF.wait_s(failures + 1, self._random))
        return failures + 1

    def remove(self, peer_id: str) -> None:
        """Discard the history of a peer; its `stay_connected` is cancelled by whoever started it."""
        self.states.pop(peer_id, None)

    def stop(self) -> None:
        """Dial no more; links that are open stay."""
        self._stopping = True
