"""Executes the steps of settlements: book, request the payment, confirm, or book back.

Owns the open settlements. A step is on disk before it is executed, with the id of its ledger
transfer and the idempotency key for the engine. Neither ever changes, so each step can be repeated
after any crash and takes effect once (docs/settlement.md has all cases).

Long because every step of a settlement shares its lock, its phase on disk and its events.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final, Protocol

from connector.accounting.manager import State as BooksState
from connector.accounting.mirror import PeerBooks
from connector.accounting.settlement import Payment
from connector.base.backoff import Backoff
from connector.base.clock import Clock
from connector.base.errors import (
    EngineError,
    LedgerRefusedError,
    LedgerUnavailableError,
    SettlementKeyReusedError,
    SettlementStoreError,
)
from connector.base.log import Log
from connector.ledger.model import DONE, Status, Transfer
from connector.settlement import bounds
from connector.settlement.engine import Answer, SettlementEngine
from connector.settlement.engines import ENGINE_BACKOFF, Engines
from connector.settlement.model import (
    OPEN,
    TO_BOOK,
    Direction,
    Move,
    Origin,
    Payer,
    Phase,
    Quantity,
    Settlement,
    State,
    after,
    log_fields,
    to_engine,
)
from connector.settlement.store import SettlementStore
from connector.telemetry.events import (
    Event,
    SettlementCompleted,
    SettlementFailed,
    SettlementStarted,
    SettlementTriggered,
    SettlementWaiting,
)

FAULTS: Final = (
    LedgerUnavailableError,
    LedgerRefusedError,
    SettlementStoreError,
    EngineError,
)
"""Errors after which a step is retried: they pass, or the cause can be repaired."""

LEDGER_BACKOFF: Final = Backoff(
    min_s=bounds.SETTLEMENT_RETRY_SECONDS_MIN,
    max_s=bounds.SETTLEMENT_LEDGER_RETRY_SECONDS_MAX,
    jitter=0.5,
)
"""Between attempts that failed at our own ledger or disk."""
DECISION_BACKOFF: Final = Backoff(
    min_s=bounds.SETTLEMENT_RETRY_SECONDS_MIN,
    max_s=bounds.SETTLEMENT_DECISION_SECONDS_MAX,
    jitter=0.5,
)
"""After a failed settlement, before the next one with the same peer is decided."""


class Books(Protocol):
    """The part of the `AccountManager` that settlement uses."""

    @property
    def peers(self) -> Mapping[str, PeerBooks]:
        """By peer id."""

    @property
    def state(self) -> BooksState:
        """Whether the ledger is available."""

    def new_packet_id(self) -> int:
        """An id: unique, rising, its low octet zero."""

    def settlement_id(self, peer_id: str, *words: str) -> int:
        """The id of the transfer of a settlement, derived from its arguments."""

    async def record_settlement(
        self,
        peer_id: str,
        transfer_id: int,
        amount: int,
        *,
        outgoing: bool,
        tag: int,
    ) -> Status:
        """Book a payment that was made outside; idempotent by the transfer id."""

    async def pay_out(self, peer_id: str, transfer_id: int, payment: Payment) -> int:
        """Book a payment before it is made; idempotent by the transfer id; returns the amount."""

    async def booked_settlements(self, transfer_ids: Sequence[int]) -> list[Transfer]:
        """The transfers that the ledger has among these ids."""

    async def settleable(self, peer_id: str) -> tuple[int, int]:
        """What we owe, and how much of it may be paid now."""


class Carrier:
    """See the module. One per node."""

    def __init__(
        self,
        *,
        accounts: Books,
        store: SettlementStore,
        engines: Engines,
        clock: Clock,
        log: Log,
        emit: Callable[[Event], None],
        touch: Callable[[str], None],
        random: Callable[[], float],
    ) -> None:
        self.counts: Final[dict[tuple[str, str], int]] = {}
        """Settlements by peer and result, since the start."""
        self.open: Final[dict[int, Settlement]] = {}
        """Settlements that have another step to take, by id."""
        self.not_before_ms: Final[dict[str, int]] = {}
        """By peer id: the earliest time of the next decision, in ms."""
        self.booking = 0
        """Requests to the ledger without an answer."""
        self._accounts = accounts
        self._store = store
        self._engines = engines
        self._clock = clock
        self._log = log
        self._emit = emit
        self._touch = touch
        self._random = random
        self._paying: dict[str, Settlement] = {}
        """By peer id: the last settlement that pays it."""
        self._waiting: dict[str, dict[int, int]] = {}
        """By peer id: the amounts of payments that wait for an operator, by settlement id."""
        self._locks: dict[int, asyncio.Lock] = {}
        """By settlement id: one step at a time."""
        self._refusals: dict[str, int] = {}
        """By peer id: failed settlements since the last completed one."""

    # --- open settlements

    def new(
        self,
        peer_id: str,
        direction: Direction,
        origin: Origin,
        key: str,
        amount: int,
        quantity: Quantity,
    ) -> Settlement:
        """A new settlement with a known peer, not yet on disk."""
        asset = self._accounts.peers[peer_id].terms.asset
        now_ms = self._clock.now_ms()
        return Settlement(
            id=self._accounts.new_packet_id(),
            booking_id=self._accounts.settlement_id(peer_id, direction, origin, key),
            peer_id=peer_id,
            asset=asset,
            direction=direction,
            origin=origin,
            key=key,
            amount=amount,
            quantity=quantity,
            payer=Payer.NOBODY,
            phase=Phase.PENDING,
            created_ms=now_ms,
            changed_ms=now_ms,
        )

    async def booked(self, one: Settlement) -> Transfer | None:
        """The transfer that the ledger has under the key of a settlement that is not on disk.

        There is one if `settlements.db` was lost, or another process got the same request.

        Raises:
            SettlementConflictError: it is of another payment, or was booked back.
            LedgerUnavailableError: no answer.
        """
        there = await self._accounts.booked_settlements([one.booking_id, one.reverse_id])
        if not there:
            return None
        if len(there) > 1:
            raise SettlementKeyReusedError(
                "this Idempotency-Key was used for a settlement that was cancelled"
            )
        if not one.is_in(there[0]):
            self._log.warning("settlement_key_reused", peer_id=one.peer_id, asked=str(one.quantity))
            raise SettlementKeyReusedError(
                f"this Idempotency-Key was used for {one.direction} {there[0].amount} of scale "
                f"{one.asset.scale}, as booked in the ledger"
            )
        return there[0]

    def note(self, one: Settlement) -> Settlement:
        """Count a settlement as open."""
        if one.phase is Phase.WAITING and one.id not in self.open:
            self._waiting.setdefault(one.peer_id, {})[one.id] = one.amount
        self.open[one.id] = one
        if one.payer is not Payer.NOBODY:
            self._paying[one.peer_id] = one
        return one

    def forget(self, peer_id: str) -> None:
        """The peer was removed: its settlements take no further step. The store keeps them."""
        self._paying.pop(peer_id, None)
        self._waiting.pop(peer_id, None)
        for one in [one for one in self.open.values() if one.peer_id == peer_id]:
            del self.open[one.id]

    def to_be_credited(self, peer_id: str) -> int:
        """Payments of a peer that are decided and not known to be booked, in units of its asset."""
        return sum(
            one.amount
            for one in self.open.values()
            if one.peer_id == peer_id
            and one.direction is Direction.INCOMING
            and one.phase in TO_BOOK
        )

    def waiting(self, peer_id: str) -> int:
        """How many payments of a peer wait for an operator."""
        return len(self._waiting.get(peer_id, ()))

    def waiting_amount(self, peer_id: str) -> int:
        """Their sum, in units of the peer's asset: what would be credited if all were accepted."""
        return sum(self._waiting.get(peer_id, {}).values())

    def lock(self, one: Settlement) -> asyncio.Lock:
        """Held during each step of a settlement."""
        return self._locks.setdefault(one.id, asyncio.Lock())

    def end(self, one: Settlement) -> None:
        """The settlement takes no further step."""
        assert one.phase not in OPEN, one.phase
        self.open.pop(one.id, None)
        self._locks.pop(one.id, None)

    def under_way(self, peer_id: str) -> Settlement | None:
        """The settlement by which a peer is being paid."""
        one = self._paying.get(peer_id)
        return None if one is None or one.state is State.IDLE else one

    def awaits_operator(self, one: Settlement) -> bool:
        """Whether only an operator can take the next step."""
        if one.phase is Phase.WAITING:
            return True
        return one.phase is Phase.BOOKED and self._payer(one) is self._engines.manual

    def _payer(self, one: Settlement) -> SettlementEngine:
        by_hand = one.payer is Payer.OPERATOR
        return self._engines.manual if by_hand else self._engines.of(one.peer_id)

    # --- steps

    async def go_on(self, one: Settlement) -> None:
        """Execute all steps that are possible now; after an error, schedule a retry."""
        async with self.lock(one):
            if one.phase not in OPEN or one.phase is Phase.WAITING:
                return
            if one.peer_id not in self._accounts.peers:
                return
            one.attempts += 1
            try:
                if one.phase in TO_BOOK:
                    await self._book(one)
                if one.phase is Phase.BOOKED:
                    await self._have_paid(one)
                if one.phase is Phase.CANCELLING:
                    await self._book_back(one)
            except FAULTS as error:
                await self._failed(one, error)
        if one.phase not in OPEN:
            self.end(one)

    async def _book(self, one: Settlement) -> None:
        if one.payer is not Payer.NOBODY:
            await self._book_payment(one)
            return
        outgoing = one.direction is Direction.OUTGOING
        status = await self._enter(one, one.booking_id, outgoing=outgoing)
        if status is Status.EXISTS_WITH_DIFFERENT_AMOUNT:
            # Reported while the ledger was away, and booked before `settlements.db` was lost: its
            # amount included another remainder.
            for there in await self._accounts.booked_settlements([one.booking_id]):
                if one.is_in(there):
                    one.amount, status = there.amount, Status.EXISTS
        if status in DONE:
            await self.move(one, Move.SETTLE)
            self.completed(one)
        elif status in (Status.EXCEEDS_CREDITS, Status.ID_ALREADY_FAILED):
            await self._refuse(
                one, "the peer would owe us more than its credit limit: raise the limit first"
            )
        else:
            await self._refuse(
                one, f"the ledger has another payment under this key ({status.name})"
            )

    async def _book_payment(self, one: Settlement) -> None:
        """Book the payment, or as much of it as may be paid now."""
        asset_scale, scale = one.asset.scale, one.quantity.scale
        unit = 10 ** max(0, asset_scale - scale)
        # An operator gets the amount asked for, or nothing.
        decided_here = one.origin is Origin.THRESHOLD
        payment = Payment(
            most=one.amount,
            least=unit if decided_here else one.amount,
            unit=unit,
            leave=self._accounts.peers[one.peer_id].terms.settle_to if decided_here else 0,
            tag=one.tag,
        )
        with self._asking_ledger():
            booked = await self._accounts.pay_out(one.peer_id, one.booking_id, payment)
        if not booked:
            await self._refuse(
                one,
                "we owe less by now, without what is held for packets that it has sent: "
                "a settlement must not use its credit limit",
            )
            return
        one.amount, one.quantity = to_engine(booked, asset_scale, scale)
        assert one.amount == booked, one.amount
        await self.move(one, Move.BOOK)
        one.attempts = 1
        self._log.info("settlement_started", **log_fields(one))
        self.tell(SettlementStarted, one)

    async def _refuse(self, one: Settlement, why: str) -> None:
        # Final: the ledger has used up the id. What is still owed becomes another settlement with
        # another key.
        await self.move(one, Move.REFUSE, error=why)
        self._count(one, "refused")
        self.hold_off(one.peer_id)
        self._log.warning("settlement_refused", reason=why, **log_fields(one))
        self.tell(SettlementFailed, one, error=why)

    async def _enter(self, one: Settlement, id_: int, *, outgoing: bool) -> Status:
        with self._asking_ledger():
            return await self._accounts.record_settlement(
                one.peer_id, id_, one.amount, outgoing=outgoing, tag=one.tag
            )

    @contextmanager
    def _asking_ledger(self) -> Iterator[None]:
        self.booking += 1
        try:
            yield
        finally:
            self.booking -= 1

    async def _have_paid(self, one: Settlement) -> None:
        answer = await self._payer(one).settle(one.peer_id, one.key, one.quantity)
        if answer is Answer.TAKEN:
            await self.move(one, Move.ACKNOWLEDGE)
            self.completed(one)
        elif one.attempts == 1:
            self._log.info("settlement_awaits_operator", **log_fields(one))

    async def _book_back(self, one: Settlement) -> None:
        assert one.payer is not Payer.NOBODY, one.payer
        status = await self._enter(one, one.reverse_id, outgoing=False)
        assert status in DONE, status  # crediting a peer has no limit
        await self.move(one, Move.BOOK_BACK, error="cancelled")
        self._count(one, "cancelled")
        self.hold_off(one.peer_id)
        self._log.warning("settlement_cancelled", **log_fields(one))
        self.tell(SettlementFailed, one, error="cancelled by an operator, and booked back")

    # --- payments that an operator decides on

    def put_to_operator(self, one: Settlement) -> None:
        """Report a payment that waits, after it is on disk."""
        assert one.phase is Phase.WAITING, one.phase
        self.note(one)
        self._count(one, "waiting")
        self.remind(one)
        self.tell(SettlementWaiting, one)

    def remind(self, one: Settlement) -> None:
        """Tell an operator of a payment that waits, when it is new and at each start."""
        self._log.warning("settlement_waits_for_operator", **log_fields(one))

    async def accept(self, one: Settlement) -> None:
        """Let a payment that waits be credited; the caller holds its lock.

        Raises:
            SettlementStoreError: it is not on disk; it still waits.
            SettlementError: it cannot be booked.
        """
        assert one.phase is Phase.WAITING, one.phase
        await self._store.accept(one, at_ms=self._clock.now_ms())
        self._decided(one)
        self._log.info("settlement_accepted", **log_fields(one))
        if not one.amount:
            self.completed(one)  # less than one unit: added to the next payment

    async def decline(self, one: Settlement) -> None:
        """End a payment that waits, without crediting it; the caller holds its lock.

        Raises:
            SettlementStoreError: it is not on disk; it still waits.
        """
        await self.move(one, Move.DECLINE, error="declined by an operator")
        self._decided(one)
        self._count(one, "declined")
        self._log.warning("settlement_declined", **log_fields(one))
        self.tell(SettlementFailed, one, error="declined by an operator: not credited")

    def _decided(self, one: Settlement) -> None:
        amounts = self._waiting.get(one.peer_id, {})
        amounts.pop(one.id, None)  # there is none if the peer was removed meanwhile
        if not amounts:
            self._waiting.pop(one.peer_id, None)
        self._touch(one.peer_id)

    # --- changes

    async def move(self, one: Settlement, move: Move, *, error: str = "") -> None:
        """Change the phase, on disk first.

        Raises:
            SettlementStoreError: it is not on disk; the phase is unchanged.
        """
        await self._store.change(
            one, after(one.phase, move), error=error, at_ms=self._clock.now_ms()
        )
        self._touch(one.peer_id)

    def completed(self, one: Settlement) -> None:
        """Count and report a completed settlement."""
        received = one.direction is Direction.INCOMING
        self._count(one, "received" if received else "completed")
        self._refusals.pop(one.peer_id, None)
        self._log.info(
            "settlement_received" if received else "settlement_completed", **log_fields(one)
        )
        self.tell(SettlementCompleted, one)

    async def _failed(self, one: Settlement, error: Exception) -> None:
        # Retries against our own ledger or disk are frequent: they burden no one else.
        backoff = ENGINE_BACKOFF if isinstance(error, EngineError) else LEDGER_BACKOFF
        wait_ms = self.wait_ms(one.attempts, backoff)
        one.next_attempt_ms = self._clock.now_ms() + wait_ms
        reason = str(error)
        self._count(one, "failed")
        self._log.warning(
            "settlement_failed",
            reason=reason,
            attempts=one.attempts,
            again_in_ms=wait_ms,
            **log_fields(one),
        )
        self.tell(SettlementFailed, one, error=f"{reason}; tried again in {wait_ms / 1000:.0f} s")
        try:
            await self._store.change(one, one.phase, error=reason, at_ms=self._clock.now_ms())
        except SettlementStoreError:
            one.error = reason  # the older reason on disk is valid too

    def wait_ms(self, attempts: int, backoff: Backoff) -> int:
        """Milliseconds to wait after this many failed attempts, at least 1."""
        return int(1000 * backoff.wait_s(attempts, self._random))

    def hold_off(self, peer_id: str) -> None:
        """Delay the next decision about a peer after a failed settlement."""
        refusals = self._refusals[peer_id] = self._refusals.get(peer_id, 0) + 1
        self.not_before_ms[peer_id] = self._clock.now_ms() + self.wait_ms(
            refusals, DECISION_BACKOFF
        )

    def _count(self, one: Settlement, result: str) -> None:
        self.counts[one.peer_id, result] = self.counts.get((one.peer_id, result), 0) + 1

    def tell(
        self,
        kind: type[
            SettlementTriggered
            | SettlementStarted
            | SettlementCompleted
            | SettlementFailed
            | SettlementWaiting
        ],
        one: Settlement,
        **more: str,
    ) -> None:
        """Emit an event of this kind."""
        books = self._accounts.peers.get(one.peer_id)
        if books is None:
            return  # the peer was removed meanwhile
        self._touch(one.peer_id)
        self._emit(
            kind(
                peer_id=one.peer_id,
                asset_code=one.asset.code,
                asset_scale=one.asset.scale,
                amount=one.amount,
                net_balance=books.net_balance,
                threshold=books.terms.settle_threshold,
                settlement_id=one.settlement_id,
                direction=one.direction.value,
                **more,
            )
        )
