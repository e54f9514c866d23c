"""Decides settlements from what we owe, and handles requests of engines and operators.

Off the packet path: balances are checked on a timer. `carrier` executes the steps of each
settlement, `engines` has the payer of each peer. Failed attempts are repeated at growing intervals.

Long because the timer's decisions and the requests of engines and operators share locks and checks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final

from connector.accounting.manager import State as BooksState
from connector.base import limits
from connector.base.backoff import is_due
from connector.base.clock import Clock
from connector.base.errors import (
    LedgerUnavailableError,
    QuantityError,
    SettlementConflictError,
    SettlementError,
    SettlementKeyReusedError,
    SettlementsWaitingError,
    SettlementUnknownError,
)
from connector.base.log import Log
from connector.ilp.packet import Fulfill, Prepare, Reject
from connector.settlement import bounds
from connector.settlement.carrier import FAULTS, Books, Carrier
from connector.settlement.engine import SettlementEngine
from connector.settlement.engines import Engines
from connector.settlement.model import (
    NOTHING,
    TO_BOOK,
    Direction,
    Move,
    Origin,
    Payer,
    Phase,
    Quantity,
    Settlement,
    State,
    amount_due,
    as_json,
    convert,
    is_credited_at_once,
    log_fields,
    to_engine,
)
from connector.settlement.store import SettlementStore
from connector.telemetry.events import Event, SettlementTriggered


class SettlementManager:
    """See the module. One per node."""

    def __init__(
        self,
        *,
        accounts: Books,
        store: SettlementStore,
        clock: Clock,
        log: Log,
        emit: Callable[[Event], None],
        touch: Callable[[str], None],
        ask_peer: Callable[[str, Prepare], Awaitable[Fulfill | Reject]],
        new_key: Callable[[], str],
        random: Callable[[], float],
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Nothing is opened yet.

        Args:
            accounts: books settlements.
            store: keeps them.
            clock: for due times and times of change.
            log: for the operator.
            emit: takes events.
            touch: called with the id of a peer whose account changed.
            ask_peer: sends a Prepare to a peer and returns its answer.
            new_key: returns an unguessable key, never the same twice.
            random: returns a number from 0 to 1, for jitter.
            pause: sleeps for a number of seconds.
        """
        self._accounts = accounts
        self._store = store
        self._clock = clock
        self._log = log
        self._new_key = new_key
        self._pause = pause
        self._engines: Final = Engines(
            clock=clock,
            log=log,
            ask_peer=ask_peer,
            random=random,
            is_peer=lambda peer_id: peer_id in accounts.peers,
        )
        self._carrier: Final = Carrier(
            accounts=accounts,
            store=store,
            engines=self._engines,
            clock=clock,
            log=log,
            emit=emit,
            touch=touch,
            random=random,
        )
        self.counts: Final = self._carrier.counts
        """Settlements by peer and result, since the start."""
        self._deciding: dict[str, asyncio.Lock] = {}
        """By peer id: one decision at a time."""
        self._receiving: dict[str, asyncio.Lock] = {}
        """By peer id: one payment at a time is compared with what the peer owes, and booked."""
        self._busy: set[object] = set()
        """What a task is working on."""
        self._group: asyncio.TaskGroup | None = None
        self._stopping = False

    # --- lifecycle

    async def open(self) -> None:
        """Load the open settlements.

        Raises:
            SettlementStoreError: the file cannot be used.
        """
        await self._store.open()
        for one in await self._store.open_ones():
            books = self._accounts.peers.get(one.peer_id)
            if books is None or books.terms.asset != one.asset:
                # It is kept on disk until the peer is configured again.
                self._log.warning(
                    "settlement_without_peer",
                    peer_id=one.peer_id,
                    settlement_id=one.settlement_id,
                    asset=str(one.asset),
                    amount=str(one.amount),
                )
                continue
            self._carrier.note(one)
            if one.phase is Phase.WAITING:
                self._carrier.remind(one)
                continue
            self._log.info("settlement_resumed", phase=one.phase.value, **log_fields(one))

    def use(self, peer_id: str, engine: SettlementEngine | None, scale: int | None = None) -> None:
        """Set the payer of a peer: an engine, or None for an operator.

        The account is created at the engine as soon as it answers.

        `scale`: the unit of the engine; default: that of the asset.
        """
        self._engines.use(peer_id, engine, scale)

    async def drop(self, peer_id: str) -> None:
        """Remove a peer, and request once that its engine removes the account."""
        self._carrier.forget(peer_id)
        await self._engines.drop(peer_id)

    def engine_of(self, peer_id: str) -> SettlementEngine:
        """Who pays a peer."""
        return self._engines.of(peer_id)

    async def run(self) -> None:
        """Check balances and take due steps until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            while True:
                await self._pause(bounds.SETTLEMENT_CHECK_SECONDS)
                self.look()

    async def stop(self) -> None:
        """Start nothing new and wait for requests to the ledger; call it before cancelling `run`."""
        self._stopping = True
        deadline_s = self._clock.monotonic_s() + bounds.SETTLEMENT_STOP_SECONDS_MAX
        while self._carrier.booking and self._clock.monotonic_s() < deadline_s:
            await self._pause(0.01)

    async def close(self) -> None:
        """Close the file."""
        await self._store.close()

    # --- decisions

    def look(self) -> None:
        """Start all steps that are due, each in its own task, a bounded number at a time."""
        if self._stopping:
            return
        now_ms = self._clock.now_ms()
        for one in list(self._carrier.open.values()):
            if is_due(
                one.next_attempt_ms, now_ms, bounds.SETTLEMENT_RETRY_SECONDS_MAX
            ) and not self._carrier.awaits_operator(one):
                self._begin(one.id, self._carrier.go_on(one))
        for peer_id in self._engines.due(now_ms):
            self._begin(("account", peer_id), self._engines.announce(peer_id))
        if self._accounts.state is not BooksState.AVAILABLE:
            return
        for peer_id, books in self._accounts.peers.items():
            threshold = books.terms.settle_threshold
            if (
                threshold is not None
                and -books.net_balance > threshold
                and is_due(
                    self._carrier.not_before_ms.get(peer_id, 0),
                    now_ms,
                    bounds.SETTLEMENT_RETRY_SECONDS_MAX,
                )
                and self.under_way(peer_id) is None
            ):
                self._begin(("peer", peer_id), self._decide(peer_id))

    def _begin(self, what: object, work: Coroutine[Any, Any, None]) -> None:
        if what in self._busy or len(self._busy) >= bounds.SETTLEMENT_ATTEMPTS_AT_A_TIME_MAX:
            work.close()
            return
        assert self._group is not None, "run first"
        self._busy.add(what)
        task = self._group.create_task(work)
        task.add_done_callback(lambda _: self._busy.discard(what))

    async def _decide(self, peer_id: str) -> None:
        """Settle with a peer if, by the ledger's balances, we owe more than its threshold."""
        try:
            one = await self._trigger(peer_id, Origin.THRESHOLD, self._new_key(), None)
            if one is not None:
                await self._carrier.go_on(one)
            else:
                wait_ms = int(bounds.SETTLEMENT_LEDGER_RETRY_SECONDS_MAX * 1000)
                self._carrier.not_before_ms[peer_id] = self._clock.now_ms() + wait_ms
        except SettlementConflictError:
            return  # an operator has started one meanwhile
        except FAULTS as error:
            self._log.warning("settlement_postponed", peer_id=peer_id, reason=str(error))
            self._carrier.hold_off(peer_id)

    async def _trigger(
        self, peer_id: str, origin: Origin, key: str, wanted: int | None
    ) -> Settlement | None:
        """Decide a settlement and store it; None: there is nothing to pay."""
        async with self._deciding.setdefault(peer_id, asyncio.Lock()):
            self._check_idle(peer_id)
            terms = self._accounts.peers[peer_id].terms
            owed, available = await self._accounts.settleable(peer_id)
            threshold = terms.settle_threshold if origin is Origin.THRESHOLD else -1
            due = amount_due(
                owed,
                threshold=threshold,
                settle_to=terms.settle_to if wanted is None else 0,
                available=available,
            )
            if wanted is not None:
                if wanted > due:
                    raise SettlementError(
                        f"{wanted} is more than can be paid to {peer_id} now: "
                        f"{_debt_in_words(owed, available)}"
                    )
                due = wanted
            scale = self._engines.scales.get(peer_id, terms.asset.scale)
            amount, quantity = to_engine(due, terms.asset.scale, scale)
            if not amount:
                return None
            one = self._payment(peer_id, origin, key, amount, quantity)
            await self._store.add(one)
            self._carrier.note(one)
        self._log.info(
            "settlement_triggered",
            owed=str(owed),
            threshold=_text(terms.settle_threshold),
            **log_fields(one),
        )
        self._carrier.tell(SettlementTriggered, one)
        return one

    def _check_idle(self, peer_id: str) -> None:
        if (other := self.under_way(peer_id)) is not None:
            raise SettlementConflictError(
                f"settlement {other.settlement_id} with {peer_id} is under way: "
                "wait for it, or confirm or cancel it"
            )

    def _payment(
        self, peer_id: str, origin: Origin, key: str, amount: int, quantity: Quantity
    ) -> Settlement:
        """A payment by the payer of this peer, not yet on disk."""
        one = self._carrier.new(peer_id, Direction.OUTGOING, origin, key, amount, quantity)
        by_hand = self.engine_of(peer_id) is self._engines.manual
        one.payer = Payer.OPERATOR if by_hand else Payer.ENGINE
        return one

    # --- requests of engines and operators

    async def receive(self, peer_id: str, key: str, quantity: Quantity) -> Settlement:
        """Credit a payment of the peer that our engine reports, once per key.

        One that is more than the engine may vouch for waits for an operator: its phase is WAITING.

        Raises:
            SettlementError: there is no such peer, or the quantity cannot be booked.
            SettlementConflictError: this key was used for another quantity.
            SettlementStoreError, LedgerUnavailableError: not yet booked; retry with the same key.
        """
        self._check(peer_id, key)
        async with self._receiving.setdefault(peer_id, asyncio.Lock()):
            return await self._record(peer_id, Direction.INCOMING, Origin.ENGINE, key, quantity)

    async def record(
        self, peer_id: str, direction: Direction, key: str, quantity: Quantity
    ) -> Settlement:
        """Book a payment that an operator reports, once per key.

        Raises: as `receive`; and
            SettlementError: the ledger refuses it.
        """
        return await self._record(peer_id, direction, Origin.OPERATOR, key, quantity)

    async def _record(
        self, peer_id: str, direction: Direction, origin: Origin, key: str, quantity: Quantity
    ) -> Settlement:
        self._check(peer_id, key)
        scale = self.scale_of(peer_id)
        if not quantity.amount:
            raise QuantityError("amount: must be above zero")
        amount = 0  # of an incoming one the store works it out, with the remainder of the last
        if direction is Direction.OUTGOING:
            amount, rest = divmod(quantity.amount * 10**scale, 10**quantity.scale)
            if rest or not 0 < amount <= limits.AMOUNT_MAX:
                raise SettlementError(
                    f"amount must be 1 to {limits.AMOUNT_MAX} whole units of scale {scale}"
                )
        one = self._carrier.new(peer_id, direction, origin, key, amount, quantity)
        is_new = await self._is_new(one)
        if is_new and origin is Origin.ENGINE:
            await self._compare_with_debt(one)
        asked, one = one, await self._store.add(one)
        if (one.direction, one.quantity, one.payer) != (direction, quantity, Payer.NOBODY):
            self._log.warning("settlement_key_reused", peer_id=peer_id, asked=str(quantity))
            raise SettlementKeyReusedError(
                f"this Idempotency-Key was used for {one.direction} {one.quantity}"
            )
        if one is asked and one.phase is Phase.COMPLETED:
            if one.amount:
                # It was counted and reported when it was booked; the mirror has it from the ledger.
                self._log.warning("settlement_known_to_ledger", **log_fields(one))
            else:
                self._carrier.completed(one)  # less than one unit: added to the next payment
        if one.phase is Phase.WAITING:
            if one is asked:
                self._carrier.put_to_operator(one)
            return self._carrier.note(self._carrier.open.get(one.id, one))
        if one.phase in TO_BOOK:
            # From here on it is booked even if the caller does not retry.
            one = self._carrier.note(self._carrier.open.get(one.id, one))
            await self._carrier.go_on(one)
        if one.phase in TO_BOOK:
            raise LedgerUnavailableError(one.error or "not booked yet")
        if one.phase is Phase.DECLINED:
            raise SettlementConflictError("an operator has declined this payment")
        if one.phase is Phase.REFUSED:
            raise SettlementConflictError(f"the ledger refuses it: {one.error}")
        return one

    async def _is_new(self, one: Settlement) -> bool:
        """Whether the key of a reported payment is known neither on disk nor in the ledger.

        One that the ledger has booked, but which is not on disk, is completed. While the ledger is
        away it is treated as new: its id is the same, so booking it finds it.
        """
        if await self._store.with_key(one.peer_id, one.asset, one.origin, one.key) is not None:
            return False
        try:
            there = await self._carrier.booked(one)
        except LedgerUnavailableError:
            return True
        if there is not None:
            one.amount, one.phase = there.amount, Phase.COMPLETED
        return there is None

    async def _compare_with_debt(self, one: Settlement) -> None:
        """Let a new payment that an engine reports wait for an operator, if it is too much.

        Decided once, before it is on disk: what is on disk as pending is booked, whatever the peer
        owes by then. A payment that is booked, but not noted as such yet, counts twice against the
        next one, which may wait without need then.

        Raises:
            LedgerUnavailableError: the ledger is away, so what the peer owes is not certain.
            SettlementsWaitingError: too many wait already.
        """
        books = self._accounts.peers[one.peer_id]
        kept = await self._store.remainder(one.peer_id, one.asset)
        amount, _ = convert(one.quantity, kept, one.asset.scale)
        # Of a removed peer only what it owes is expected.
        bound = 0 if books.removed else books.terms.max_prepaid
        if bound is not None and self._accounts.state is BooksState.UNAVAILABLE:
            raise LedgerUnavailableError(
                "the ledger has not answered since the start: what this peer owes is not known yet"
            )
        owed = books.net_balance - self._carrier.to_be_credited(one.peer_id)
        if amount > limits.AMOUNT_MAX or is_credited_at_once(amount, owed=owed, max_prepaid=bound):
            return
        if self._accounts.state is not BooksState.AVAILABLE:
            raise LedgerUnavailableError(
                "the ledger is away: whether an operator has to accept this payment is not known yet"
            )
        if self._carrier.waiting(one.peer_id) >= bounds.SETTLEMENTS_WAITING_PER_PEER_MAX:
            raise SettlementsWaitingError(
                f"{bounds.SETTLEMENTS_WAITING_PER_PEER_MAX} payments of this peer wait for an operator"
            )
        one.phase = Phase.WAITING
        one.amount, _ = convert(one.quantity, NOTHING, one.asset.scale)

    async def pay(self, peer_id: str, key: str, amount: int | None) -> Settlement:
        """Pay a peer now, for an operator; `amount` None: all that is above `settle_to`.

        Returns when the decision is on disk.

        Raises:
            SettlementError: there is no such peer, nothing to pay, or less than `amount`.
            SettlementConflictError: one is in progress, or the key was used for another.
            SettlementStoreError, LedgerUnavailableError: try again.
        """
        self._check(peer_id, key)
        asset = self._accounts.peers[peer_id].terms.asset
        found = await self._store.with_key(peer_id, asset, Origin.OPERATOR, key)
        if found is not None:
            found = self._carrier.open.get(found.id, found)
            if found.payer is Payer.NOBODY or amount not in (None, found.amount):
                raise SettlementKeyReusedError(
                    f"this Idempotency-Key was used for {found.direction} {found.quantity}"
                )
            return found
        one = await self._resume(peer_id, key, amount)
        if one is None:
            one = await self._trigger(peer_id, Origin.OPERATOR, key, amount)
        if one is None:
            raise SettlementError(f"there is nothing to pay to {peer_id}")
        await self._go_on_soon(one)
        return one

    async def _resume(self, peer_id: str, key: str, amount: int | None) -> Settlement | None:
        """Resume a payment whose key is not on disk, but which the ledger has booked.

        It is not known whether its engine got the request: it is repeated under the same key.
        """
        async with self._deciding.setdefault(peer_id, asyncio.Lock()):
            asset_scale = self.scale_of(peer_id)
            scale = self._engines.scales.get(peer_id, asset_scale)
            one = self._payment(peer_id, Origin.OPERATOR, key, 0, Quantity(0, scale))
            there = await self._carrier.booked(one)
            if there is None:
                return None
            one.amount, one.quantity = to_engine(there.amount, asset_scale, scale)
            if one.amount != there.amount or amount not in (None, there.amount):
                raise SettlementKeyReusedError(
                    f"this Idempotency-Key was used for outgoing {there.amount} of scale "
                    f"{asset_scale}, as booked in the ledger"
                )
            self._check_idle(peer_id)
            await self._store.add(one)
            self._carrier.note(one)
        self._log.warning("settlement_known_to_ledger", **log_fields(one))
        return one

    async def confirm(self, peer_id: str, settlement_id: str) -> Settlement:
        """Complete a settlement in progress that an operator has paid.

        Raises:
            SettlementError: there is none, or it is not in progress.
            SettlementStoreError: try again.
        """
        one = await self._named(peer_id, settlement_id)
        async with self._carrier.lock(one):
            if one.phase is Phase.COMPLETED:
                return one
            if one.phase is not Phase.BOOKED:
                raise SettlementConflictError(f"settlement {one.settlement_id} is {one.phase}")
            await self._carrier.move(one, Move.ACKNOWLEDGE)
            self._carrier.completed(one)
        self._carrier.end(one)
        return one

    async def cancel(self, peer_id: str, settlement_id: str, *, force: bool) -> Settlement:
        """Cancel a settlement that has not been paid, for an operator; it is booked back.

        Once its engine has got the request this needs `force`: it may have paid, or may still pay.

        Raises:
            SettlementError: there is none, it is not in progress, or its engine got the request.
            SettlementStoreError: try again.
        """
        one = await self._named(peer_id, settlement_id)
        if one.phase is Phase.CANCELLED:
            return one
        async with self._carrier.lock(one):
            if one.phase is not Phase.BOOKED and one.phase is not Phase.CANCELLING:
                raise SettlementConflictError(f"settlement {one.settlement_id} is {one.phase}")
            if not force and one.payer is Payer.ENGINE:
                raise SettlementConflictError(
                    f"the engine of {peer_id} was asked for settlement {one.settlement_id} and "
                    "may pay it yet: make sure that it does not, then cancel with force"
                )
            if one.phase is Phase.BOOKED:
                await self._carrier.move(one, Move.CANCEL)
        await self._carrier.go_on(one)
        return one

    async def retry(self, peer_id: str, settlement_id: str) -> Settlement:
        """Have the next attempt of a settlement in progress made at once; under the same key.

        Raises:
            SettlementError: there is none, or nothing of it is attempted again.
        """
        named = await self._named(peer_id, settlement_id)
        one = self._carrier.open.get(named.id)
        if one is None or self._carrier.awaits_operator(one):
            raise SettlementConflictError(
                f"settlement {named.settlement_id} is {named.phase}: nothing is to be tried again"
            )
        one.next_attempt_ms = 0
        return one

    async def accept(self, peer_id: str, settlement_id: str) -> Settlement:
        """Credit a payment that waits for an operator. Accepting it again changes nothing.

        Raises:
            SettlementError: there is none, or it does not wait.
            SettlementStoreError: not accepted yet.
            LedgerUnavailableError: accepted; it is booked when the ledger is back.
        """
        one = await self._waiting_one(peer_id, settlement_id)
        async with self._carrier.lock(one):
            if one.phase is Phase.WAITING:
                await self._carrier.accept(one)
            elif one.origin is not Origin.ENGINE or one.phase not in (*TO_BOOK, Phase.COMPLETED):
                raise SettlementConflictError(f"settlement {one.settlement_id} is {one.phase}")
        return await self._credited(one)

    async def _credited(self, one: Settlement) -> Settlement:
        """Book a payment that an operator has accepted, unless that is done."""
        if one.phase in TO_BOOK:
            await self._carrier.go_on(one)
        if one.phase in TO_BOOK:
            raise LedgerUnavailableError(f"accepted, not booked yet: {one.error or 'try again'}")
        if one.phase is not Phase.COMPLETED:
            raise SettlementConflictError(
                f"settlement {one.settlement_id} is {one.phase}: {one.error}"
            )
        self._carrier.end(one)
        return one

    async def decline(self, peer_id: str, settlement_id: str) -> Settlement:
        """End a payment that waits for an operator: it is not credited.

        Raises:
            SettlementError: there is none, or it does not wait.
            SettlementStoreError: try again.
        """
        one = await self._waiting_one(peer_id, settlement_id)
        async with self._carrier.lock(one):
            if one.phase is Phase.DECLINED:
                return one
            if one.phase is not Phase.WAITING:
                raise SettlementConflictError(f"settlement {one.settlement_id} is {one.phase}")
            await self._carrier.decline(one)
        self._carrier.end(one)
        return one

    async def _waiting_one(self, peer_id: str, settlement_id: str) -> Settlement:
        """As `_named`; one that waits is open afterwards, also of a peer that was added again."""
        self.scale_of(peer_id)
        one = await self._named(peer_id, settlement_id)
        if one.asset != self._accounts.peers[peer_id].terms.asset:
            raise SettlementConflictError(
                f"settlement {one.settlement_id} is in {one.asset}, the account of {peer_id} is not"
            )
        if one.phase is Phase.WAITING:
            one = self._carrier.note(self._carrier.open.get(one.id, one))
        return one

    async def _named(self, peer_id: str, settlement_id: str) -> Settlement:
        try:
            id_ = int(settlement_id, 16)
        except ValueError:
            id_ = 0
        one = self._carrier.open.get(id_) or await self._store.find(id_)
        if one is None or one.peer_id != peer_id:
            raise SettlementUnknownError(
                f"there is no settlement {settlement_id[:64]} with {peer_id}"
            )
        return one

    def _check(self, peer_id: str, key: str) -> None:
        self.scale_of(peer_id)
        if not 0 < len(key) <= bounds.SETTLEMENT_KEY_CHARACTERS_MAX:
            raise SettlementError(
                f"Idempotency-Key must be 1 to {bounds.SETTLEMENT_KEY_CHARACTERS_MAX} characters"
            )

    async def _go_on_soon(self, one: Settlement) -> None:
        if self._group is None:
            await self._carrier.go_on(one)
        else:
            self._begin(one.id, self._carrier.go_on(one))

    # --- messages between the engines

    async def answer(self, peer_id: str, octets: bytes) -> Fulfill | Reject:
        """See `Engines.answer`."""
        return await self._engines.answer(peer_id, octets)

    async def relay(self, peer_id: str, octets: bytes) -> Fulfill | Reject:
        """See `Engines.relay`."""
        return await self._engines.relay(peer_id, octets)

    # --- status

    def under_way(self, peer_id: str) -> Settlement | None:
        """The settlement in progress that pays a peer; None: there is none."""
        return self._carrier.under_way(peer_id)

    def state(self, peer_id: str) -> State:
        """The state of settling with a peer."""
        one = self.under_way(peer_id)
        return State.IDLE if one is None else one.state

    def waiting(self, peer_id: str) -> int:
        """How many payments of a peer wait for an operator."""
        return self._carrier.waiting(peer_id)

    def waiting_amount(self, peer_id: str) -> int:
        """Their sum, in units of the peer's asset."""
        return self._carrier.waiting_amount(peer_id)

    def scale_of(self, peer_id: str) -> int:
        """The scale of a peer's asset.

        Raises:
            SettlementUnknownError: there is no such peer.
        """
        books = self._accounts.peers.get(peer_id)
        if books is None:
            raise SettlementUnknownError(f"there is no peer {peer_id[:64]}")
        return books.terms.asset.scale

    async def view(
        self, peer_id: str | None, count: int, phase: Phase | None = None
    ) -> list[dict[str, Any]]:
        """The newest settlements of a peer, or of all, newest first; those in `phase`, or all."""
        return [
            as_json(self._carrier.open.get(one.id, one))
            for one in await self._store.latest(peer_id, count, phase)
        ]

    def as_json(self, one: Settlement) -> dict[str, Any]:
        """One settlement, for the API."""
        return as_json(one)


def _debt_in_words(owed: int, available: int) -> str:
    """What we owe a peer, or it us; `available`: what of it may be paid now."""
    if owed > 0:
        return (
            f"we owe {owed}, of which {max(0, available)} is not held for packets that it has sent"
        )
    return f"it owes us {-owed}" if owed else "neither owes the other anything"


def _text(number: int | None) -> str | None:
    return None if number is None else str(number)
