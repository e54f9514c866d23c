"""A process that waits until it may be the active one of its node; see `lease`.

It has the ledger and nothing else of the node: no accounts, no outbox, no links. It takes over when
the active process has ended its time, or has given no sign for LEASE_SILENCE_SECONDS in which the
ledger answered, longer after an outage of it. While the ledger is away nobody can tell, so it waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from typing import Final

from connector.accounting import bounds, lease
from connector.accounting.lease import Watch
from connector.accounting.leaseholder import claim, newest_beat, newest_claim
from connector.base.clock import Clock
from connector.base.errors import LedgerUnavailableError
from connector.ledger.interface import Ledger


class Standby:
    """See the module. Used once."""

    def __init__(
        self,
        *,
        node_id: str,
        ledger: Ledger,
        clock: Clock,
        process: int,
        own: Collection[int] = (),
        other_is_active: Callable[[], Awaitable[None]] | None = None,
        say: Callable[[str], None] = lambda _what: None,
    ) -> None:
        """Nothing is asked yet.

        Args:
            node_id: of which node.
            ledger: not open yet; the caller closes it.
            clock: for silence.
            process: the name under which it claims: 128 random bits.
            own: names of processes that are gone for certain: those of this DATA_DIR, which is locked.
            other_is_active: awaited once, when the ledger is there and another process has it.
            say: told whenever what it waits for changes, for an operator.
        """
        self._node_id: Final = node_id
        self._ledger = ledger
        self._clock = clock
        self._process = process
        self._own = own
        self._other_is_active = other_is_active
        self._say = say
        self._said = ""
        self._watch = Watch()
        self._is_open = False
        self.generation = 0
        """The newest that was claimed; zero: none, as far as is known."""
        self._beats = 0
        self._has_asked = False
        """Whether the active process knows that somebody waits."""

    async def wait(self) -> None:
        """Wait, and claim the accounts; when this returns, the newest claim is this process's.

        Unless nobody has ever claimed: the accounts for it are made by the node itself then, once it
        knows that its ledger is the right one.

        Raises:
            LedgerRefusedError: the ledger will not serve us; see there.
        """
        while True:
            try:
                if await self._step():
                    return
            except LedgerUnavailableError as error:
                self._watch.unknown()
                self._tell(f"the ledger is away: {error}")
            await asyncio.sleep(bounds.LEASE_STANDBY_LOOK_SECONDS)

    def _tell(self, what: str) -> None:
        if what != self._said:
            self._said = what
            self._say(what)

    async def _step(self) -> bool:
        """Look once; whether it is this process's turn now."""
        if not self._is_open:
            await self._ledger.open()
            self.generation, newest = await newest_claim(self._ledger, self._node_id, 0)
            await self._turn_to_newest()
            if newest is not None and newest.user_data_128 in self._own:
                return await self._claim("its process has ended")
            if self.generation and self._other_is_active is not None:
                await self._other_is_active()
            self._is_open = True
        found = await self._look()
        if lease.claim_id(self._node_id, self.generation + 1) in found:
            self.generation, _ = await newest_claim(
                self._ledger, self._node_id, self.generation + 1
            )
            await self._turn_to_newest()
            return False
        if not self._has_asked:
            await self._ask_for_signs()
        now_s = self._clock.monotonic_s()
        if lease.end_id(self._node_id, self.generation) in found:
            return await self._claim("it has stopped")
        ahead = [number for number in self._next_beats() if self._beat_id(number) in found]
        if ahead:
            self._beats = max(ahead)
            self._watch.sign(now_s)
            self._tell(f"generation {self.generation} is active")
        elif self._watch.is_over(now_s):
            return await self._claim(
                f"it has given no sign of life for {self._watch.needed_s:.0f} s"
            )
        return False

    async def _turn_to_newest(self) -> None:
        """Watch the generation that was found to be the newest."""
        self._has_asked = not self.generation
        self._beats = 0
        if self.generation:
            self._beats = await newest_beat(self._ledger, self._node_id, self.generation)
        self._watch.sign(self._clock.monotonic_s())

    def _beat_id(self, number: int) -> int:
        return lease.beat_id(self._node_id, self.generation, number)

    def _next_beats(self) -> range:
        return range(self._beats + 1, self._beats + 1 + bounds.LEASE_BEATS_LOOKED_UP_MAX)

    async def _look(self) -> set[int]:
        """Which of the rows are there that matter now."""
        wanted = [
            lease.claim_id(self._node_id, self.generation + 1),
            lease.end_id(self._node_id, self.generation),
            *map(self._beat_id, self._next_beats()),
        ]
        return {one.id for one in await self._ledger.lookup_transfers(wanted)}

    async def _ask_for_signs(self) -> None:
        """Tell the active process that somebody waits: without that it gives no signs of life."""
        id_ = lease.wait_id(self._node_id, self.generation)
        ask = lease.row(self._node_id, id_, process=self._process, generation=self.generation)
        await self._ledger.create_transfers([ask])
        self._has_asked = True
        self._watch.sign(self._clock.monotonic_s())

    async def _claim(self, why: str) -> bool:
        """Claim the next generation; whether it is ours."""
        if not self.generation:
            self._tell("nobody has ever claimed this node's accounts: taking over")
            return True
        await claim(
            self._ledger, self._node_id, process=self._process, generation=self.generation + 1
        )
        self.generation, newest = await newest_claim(self._ledger, self._node_id, self.generation)
        if newest is not None and newest.user_data_128 == self._process:
            self._tell(f"generation {self.generation - 1}: {why}; taking over")
            return True
        await self._turn_to_newest()  # another standby was faster
        return False
