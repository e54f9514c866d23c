"""Keeps the lease of a node in its ledger while this process is active; see `lease`.

Nothing here is on the way of a packet. About once a second the ledger is asked whether another
process has claimed, between two requests of the writer. The writer asks too, but only before and
after a request with holds, and only when the last answer is older than LEASE_VALID_SECONDS: after a
standstill, say. So packets that a woken process finds in its buffers are not admitted before the
ledger has said that it is still the active one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from connector.accounting import bounds, lease
from connector.accounting.availability import Availability
from connector.accounting.lease import HOLDS, TRANSITIONS, Event, Phase
from connector.accounting.reports import Reports
from connector.accounting.turn import Turn
from connector.base.clock import Clock
from connector.base.errors import (
    ConnectorError,
    LedgerRefusedError,
    LedgerUnavailableError,
    OtherIsActiveError,
    SupersededError,
)
from connector.ledger.interface import Ledger
from connector.ledger.model import DONE, AccountStatus, Transfer

_NEVER: Final = float("inf")
_DOUBLINGS: Final = 40
_POINTS: Final = 64


class ClaimMemory(Protocol):
    """Remembers in DATA_DIR the random numbers of the processes that have claimed from it."""

    async def claims(self) -> Sequence[int]:
        """The numbers; none: nobody has ever claimed from here."""

    async def keep_claims(self, processes: Sequence[int]) -> None:
        """Remember these instead; on disk when this returns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseTerms:
    """How a process takes part in the lease of its node."""

    process: int
    """Its number: 128 random bits."""
    memory: ClaimMemory
    takes_over: bool = False
    """Whether it claims although another process has, since this DATA_DIR was last active."""
    on_superseded: Callable[[str], None] = lambda _why: None
    """Told once, with what to do, when another process has taken over."""


class LeaseHolder:
    """The lease of the process that is, or is to become, the active one."""

    def __init__(
        self,
        *,
        node_id: str,
        turn: Turn,
        availability: Availability,
        reports: Reports,
        clock: Clock,
        terms: LeaseTerms | None,
    ) -> None:
        """`terms`: None: the ledger is this process's own, and there is no lease."""
        self._node_id = node_id
        self._turn = turn
        self._availability = availability
        self._reports = reports
        self._clock = clock
        self._terms = terms
        self.phase = Phase.OPENING
        self.may_hold = HOLDS[self.phase]
        """Whether money may be held for new packets; the writer reads it before each request."""
        self.generation = 0
        """The generation that this process has claimed; zero: none."""
        self.is_watched = False
        """Whether a standby waits for signs of life."""
        self.valid_until_s = _NEVER
        """Until then no look is needed before money is held; by the monotonic clock."""
        self._unkept: Sequence[int] = ()
        """Claims that the disk has refused to remember."""
        self._beats = 0
        self._doubt_s = -_NEVER
        """When the process was last found to have stood still, by the monotonic clock."""

    @property
    def is_superseded(self) -> bool:
        """Whether another process has taken over."""
        return self.phase is Phase.SUPERSEDED

    def _move(self, event: Event) -> None:
        self.phase = TRANSITIONS[self.phase, event]
        self.may_hold = HOLDS[self.phase]

    # --- claiming

    async def take(self, ledger: Ledger, *, is_running: bool) -> None:
        """Become the active process of the node; the caller holds the turn.

        A process on a DATA_DIR from which nobody has claimed takes over from whoever is active:
        somebody has just started it. A process whose DATA_DIR has claimed before does not take over
        from another process: two supervisors would restart theirs against each other for ever.

        Args:
            ledger: the right one, and open.
            is_running: packets have been taken already, while the ledger was away. Then a later
                claim makes this process stop instead of keeping it from starting.

        Raises:
            OtherIsActiveError: another process has taken over.
            LedgerUnavailableError: no answer; take it again.
        """
        if self._terms is None or self.phase is Phase.SUPERSEDED:
            return
        if self.phase is Phase.ACTIVE:
            with contextlib.suppress(SupersededError):
                await self.look(ledger)
            return
        process, memory = self._terms.process, self._terms.memory
        own = {process, *await memory.claims()}
        is_new = own == {process} and self.phase is Phase.OPENING
        low = 0
        for _ in range(bounds.LEASE_CLAIM_TRIES_MAX):
            asked_s = self._clock.monotonic_s()
            low, newest = await newest_claim(ledger, self._node_id, low)
            if newest is not None and newest.user_data_128 == process:
                if self.phase is Phase.OPENING:
                    self._move(Event.FREE)  # it was claimed for this process while it stood by
                await self._keep_claims((process,))
                self._won(low, asked_s)
                return
            is_own = newest is None or newest.user_data_128 in own
            if not (is_own or is_new or self._terms.takes_over):
                self._taken(low, is_running=is_running)
                return
            self._move(Event.FREE)
            is_new = False  # a claim that gets in between is by a process started just now as well
            before = () if newest is None or not is_own else (newest.user_data_128,)
            await self._keep_claims((*before, process))
            await claim(ledger, self._node_id, process=process, generation=low + 1)
        raise LedgerUnavailableError("the ledger does not take the claim of this process")

    async def _keep_claims(self, processes: Sequence[int]) -> None:
        """Remember who claims. Where the disk refuses, `keep` tries again.

        A process that dies before that leaves its successor waiting like a standby, although it was
        the last one itself. A DATA_DIR that never kept a claim counts as new at the next start.
        """
        assert self._terms is not None
        try:
            await self._terms.memory.keep_claims(processes)
        except (OSError, ConnectorError) as error:
            if not self._unkept:
                self._reports.outbox_failed(str(error))
            self._unkept = processes
        else:
            self._unkept = ()

    def _won(self, generation: int, asked_s: float) -> None:
        self._move(Event.WON)
        self.generation = generation
        self.valid_until_s = asked_s + bounds.LEASE_VALID_SECONDS

    def _taken(self, generation: int, *, is_running: bool) -> None:
        if is_running:
            self._superseded(generation)
            return
        self._move(Event.LOST if self.phase is Phase.CLAIMING else Event.OTHER)
        raise OtherIsActiveError(
            f"another process of node {self._node_id} has taken over its accounts (generation "
            f"{generation}) since this DATA_DIR was in use. One process of a node is active at a "
            "time: stop that one, and this one takes over when it waits (`run --standby`), or "
            "have this one take over now (`run --take-over`)"
        )

    def _superseded(self, generation: int) -> None:
        assert self._terms is not None
        self._move(Event.LATER)
        self.valid_until_s = -_NEVER
        why = (
            f"another process of node {self._node_id} has taken over its accounts: it has claimed "
            f"generation {generation}, after {self.generation} of this one. This process stops; "
            "what it has promised is booked first. Run one process of a node, and others with "
            "--standby"
        )
        self._reports.alert(
            "lease_superseded",
            {"generation": self.generation, "newest": generation, "detail": why},
        )
        self._terms.on_superseded(why)

    # --- while active

    async def keep(self) -> None:
        """See whether another process has claimed, and give a sign of life; about once a second."""
        if self.phase is not Phase.ACTIVE:
            return
        if self._unkept:
            await self._keep_claims(self._unkept)
        if not self._availability.is_up:
            return
        try:
            async with self._turn as ledger:
                await self.look(ledger)
        except (LedgerUnavailableError, LedgerRefusedError):
            pass  # the next request will say so
        except SupersededError:
            pass  # it is known now, and told

    def doubt(self) -> None:
        """Hold no money until `may_go_on` gives True: the process stood still."""
        self.may_hold = False
        self._doubt_s = self._clock.monotonic_s()

    async def may_go_on(self) -> bool | None:
        """Whether this process is still the active one, after it stood still: asks the ledger.

        None: nobody can tell yet. The first requests may fail because they stood still as well. When
        the ledger does not answer for LEASE_DOUBT_SECONDS, and no standby was seen before, a standby
        can have taken over only if it was started during the standstill. That risk is accepted: the
        policy for outages decides then (`availability`).
        """
        if self.phase is Phase.ACTIVE:
            try:
                async with self._turn as ledger:
                    await self.look(ledger)
            except SupersededError:
                return False
            except (LedgerUnavailableError, LedgerRefusedError):
                for_s = self._clock.monotonic_s() - self._doubt_s
                if self.is_watched or for_s < bounds.LEASE_DOUBT_SECONDS:
                    return None
            else:
                if self._clock.monotonic_s() >= self.valid_until_s:
                    return None  # an answer from before another standstill, or another ledger's
        elif (
            self.phase in (Phase.OPENING, Phase.CLAIMING)
            and self._terms is not None
            and self._clock.monotonic_s() - self._doubt_s < bounds.LEASE_DOUBT_SECONDS
        ):
            return None  # `Reconnect` claims when the ledger is there
        if self.phase is Phase.SUPERSEDED:
            return False
        self.may_hold = HOLDS[self.phase]
        return True

    async def look(self, ledger: Ledger) -> None:
        """As `keep`, but within the caller's turn, and it raises.

        Raises:
            SupersededError: another process has taken over.
            LedgerUnavailableError: no answer.
        """
        if self.phase is Phase.SUPERSEDED:
            raise SupersededError("another process has taken over")
        if self.phase is not Phase.ACTIVE:
            return
        assert self._terms is not None
        asked_s = self._clock.monotonic_s()
        node_id, generation = self._node_id, self.generation
        later = lease.claim_id(node_id, generation + 1)
        waits = lease.wait_id(node_id, generation)
        found = {one.id for one in await ledger.lookup_transfers([later, waits])}
        if later in found:
            self._superseded(generation + 1)
            raise SupersededError("another process has taken over")
        self.is_watched = self.is_watched or waits in found
        if self.is_watched:
            number = self._beats + 1
            beat = lease.row(
                node_id,
                lease.beat_id(node_id, generation, number),
                process=self._terms.process,
                generation=generation,
                number=number,
            )
            (status,) = await ledger.create_transfers([beat])
            if status not in DONE:
                return  # another ledger than the one that has the claim: `acknowledged` says so
            self._beats = number
        self.valid_until_s = asked_s + bounds.LEASE_VALID_SECONDS

    async def look_if_due(self, ledger: Ledger) -> None:
        """As `look`, when the last answer is older than a second: for work that takes many requests.

        Another process that has taken over is noted; the caller books on, since what it books was
        promised, whoever is active now.

        Raises:
            LedgerUnavailableError: no answer.
        """
        age_s = self._clock.monotonic_s() - (self.valid_until_s - bounds.LEASE_VALID_SECONDS)
        if age_s >= bounds.LEASE_LOOK_SECONDS:
            with contextlib.suppress(SupersededError):
                await self.look(ledger)

    async def end(self) -> None:
        """Let a standby take over at once: all that this process had to write is written."""
        if self._terms is None or self.phase is Phase.ENDED:
            return
        was_active = self.phase is Phase.ACTIVE
        self._move(Event.ENDED)
        if not was_active or not self._availability.is_up:
            return
        id_ = lease.end_id(self._node_id, self.generation)
        end = lease.row(self._node_id, id_, process=self._terms.process, generation=self.generation)
        try:
            async with self._turn as ledger:
                await ledger.create_transfers([end])
        except (LedgerUnavailableError, LedgerRefusedError):
            pass  # a standby waits a few seconds longer then


# --- what is asked of the ledger


async def claim(ledger: Ledger, node_id: str, *, process: int, generation: int) -> None:
    """Have a generation claimed; `newest_claim` then tells whose claim the ledger took.

    Raises:
        LedgerUnavailableError: no acknowledgement, or the ledger cannot keep it.
    """
    if generation == 1:
        for status in await ledger.create_accounts(lease.accounts_of(node_id)):
            if status not in (AccountStatus.CREATED, AccountStatus.EXISTS):
                raise LedgerUnavailableError(f"no account for the lease: {status.name}")
    id_ = lease.claim_id(node_id, generation)
    await ledger.create_transfers([lease.row(node_id, id_, process=process, generation=generation)])


async def newest_claim(ledger: Ledger, node_id: str, low: int) -> tuple[int, Transfer | None]:
    """The newest generation that was claimed, and its claim; 0 and None: there is none.

    `low`: one that was found before.

    Raises:
        LedgerUnavailableError: no answer.
    """
    return await _highest(ledger, lambda number: lease.claim_id(node_id, number), low)


async def newest_beat(ledger: Ledger, node_id: str, generation: int) -> int:
    """The number of the newest sign of life of a generation; 0: there is none.

    Raises:
        LedgerUnavailableError: no answer.
    """
    number, _ = await _highest(ledger, lambda one: lease.beat_id(node_id, generation, one), 0)
    return number


async def _highest(
    ledger: Ledger, id_of: Callable[[int], int], low: int
) -> tuple[int, Transfer | None]:
    """The highest number, at least `low`, that the ledger has a transfer of; they have no gaps."""
    newest: Transfer | None = None
    asked = [low, *(low + (1 << power) for power in range(_DOUBLINGS))] if low else []
    asked = asked or [1 << power for power in range(_DOUBLINGS)]
    high = asked[-1] + 1
    while asked:
        ids = {id_of(number): number for number in asked}
        for one in await ledger.lookup_transfers(list(ids)):
            if ids[one.id] >= low:
                low, newest = ids[one.id], one
        missing = [number for number in asked if number > low]
        high = min([high, *missing])
        # What lies between, evenly spread: some forty doublings are found in a few requests.
        step = max(1, (high - low) // _POINTS)
        asked = list(range(low + step, high, step))
    return low, newest
