"""Watches what we owe, and carries every settlement through: decide, book, have it paid, confirm.

Off the packet path: balances are looked at on a timer. What is decided is on disk before it is
done, with the id under which the ledger books it and the key under which the engine is asked, which
never change; so each step can be done again after any crash and is done once (docs/settlement.md
goes through them). Whoever fails is asked again, ever more rarely.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Protocol

from connector.accounting.manager import State as BooksState
from connector.accounting.mirror import PeerBooks
from connector.base import limits
from connector.base.backoff import Backoff
from connector.base.clock import Clock
from connector.base.errors import (
    EngineError,
    LedgerRefusedError,
    LedgerUnavailableError,
    SettlementConflictError,
    SettlementError,
    SettlementStoreError,
    SettlementUnknownError,
)
from connector.base.log import Log
from connector.ilp import settle
from connector.ilp.packet import Code, Fulfill, Prepare, Reject
from connector.ledger.model import DONE, Status
from connector.settlement import bounds
from connector.settlement.engine import Answer, ManualEngine, SettlementEngine
from connector.settlement.model import (
    OPEN,
    Direction,
    Move,
    Origin,
    Payer,
    Phase,
    Quantity,
    Settlement,
    State,
    after,
    amount_due,
    key_tag,
    to_engine,
)
from connector.settlement.store import SettlementStore
from connector.telemetry.events import (
    Event,
    SettlementCompleted,
    SettlementFailed,
    SettlementStarted,
    SettlementTriggered,
)

_FAULTS: Final = (
    LedgerUnavailableError,
    LedgerRefusedError,
    SettlementStoreError,
    EngineError,
)
"""What passes, or is put right by someone, while we go on trying."""

ENGINE_BACKOFF: Final = Backoff(
    min_s=bounds.SETTLEMENT_RETRY_SECONDS_MIN, max_s=bounds.SETTLEMENT_RETRY_SECONDS_MAX, jitter=0.5
)
"""Between two requests to an engine that fails (RFC 38, Retry behavior)."""
LEDGER_BACKOFF: Final = Backoff(
    min_s=bounds.SETTLEMENT_RETRY_SECONDS_MIN,
    max_s=bounds.SETTLEMENT_LEDGER_RETRY_SECONDS_MAX,
    jitter=0.5,
)
"""Between two attempts that our own ledger or disk refused."""
DECISION_BACKOFF: Final = Backoff(
    min_s=bounds.SETTLEMENT_RETRY_SECONDS_MIN,
    max_s=bounds.SETTLEMENT_DECISION_SECONDS_MAX,
    jitter=0.5,
)
"""Before a settlement with a peer is decided again, after one came to nothing."""


class Books(Protocol):
    """What is asked of the `AccountManager`."""

    @property
    def peers(self) -> Mapping[str, PeerBooks]:
        """By peer id."""

    @property
    def state(self) -> BooksState:
        """Whether the ledger is there."""

    def new_packet_id(self) -> int:
        """An id for a transfer: unique, rising, its low octet zero."""

    async def record_settlement(
        self, peer_id: str, transfer_id: int, amount: int, *, outgoing: bool, tag: int
    ) -> Status:
        """Book it, once for each id."""

    async def settleable(self, peer_id: str) -> tuple[int, int]:
        """What we owe, and how much of it may be paid."""


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
        """`touch`: is told whose account changed; `ask_peer`: brings a Prepare to a peer; `new_key`: unguessable, never the same twice; `random`: 0 to 1, for jitter."""
        self.counts: Final[dict[tuple[str, str], int]] = {}
        """Settlements by peer and result, since the start."""
        self._accounts = accounts
        self._store = store
        self._clock = clock
        self._log = log
        self._emit = emit
        self._touch = touch
        self._ask_peer = ask_peer
        self._new_key = new_key
        self._random = random
        self._pause = pause
        self._engines: dict[str, SettlementEngine] = {}
        self._scales: dict[str, int] = {}
        self._manual: Final = ManualEngine()
        self._open: dict[int, Settlement] = {}
        self._paying: dict[str, Settlement] = {}
        self._locks: dict[int, asyncio.Lock] = {}
        self._deciding: dict[str, asyncio.Lock] = {}
        self._busy: set[object] = set()
        self._not_before_ms: dict[str, int] = {}
        self._refusals: dict[str, int] = {}
        self._unannounced: dict[str, tuple[int, int]] = {}
        self._group: asyncio.TaskGroup | None = None
        self._stopping = False
        self._booking = 0

    # --- life

    async def open(self) -> None:
        """Load what is under way.

        Raises:
            SettlementStoreError: the file cannot be used.
        """
        await self._store.open()
        for one in await self._store.open_ones():
            books = self._accounts.peers.get(one.peer_id)
            if books is None or books.terms.asset != one.asset:
                # It stays on disk, for the day that the peer is configured again.
                self._log.warning(
                    "settlement_without_peer",
                    peer_id=one.peer_id,
                    settlement_id=one.settlement_id,
                    asset=str(one.asset),
                    amount=str(one.amount),
                )
                continue
            self._note(one)
            self._log.info("settlement_resumed", phase=one.phase.value, **_fields(one))

    def use(self, peer_id: str, engine: SettlementEngine | None, scale: int | None = None) -> None:
        """Who pays a peer: an engine that counts in `scale` (default: the asset's); None: by hand.

        The engine is told of the account as soon as it answers.
        """
        self._engines[peer_id] = engine or self._manual
        if scale is not None:
            self._scales[peer_id] = scale
        else:
            self._scales.pop(peer_id, None)
        if engine is not None:
            self._unannounced[peer_id] = (0, 0)

    async def drop(self, peer_id: str) -> None:
        """A peer is gone: its engine is told, once."""
        engine = self._engines.pop(peer_id, self._manual)
        self._unannounced.pop(peer_id, None)
        self._paying.pop(peer_id, None)
        for one in [one for one in self._open.values() if one.peer_id == peer_id]:
            del self._open[one.id]
        try:
            await engine.remove_account(peer_id)
        except EngineError as error:
            self._log.warning("settlement_account_not_removed", peer_id=peer_id, reason=str(error))

    def _note(self, one: Settlement) -> Settlement:
        """Something is to be done about it."""
        self._open[one.id] = one
        if one.payer is not Payer.NOBODY:
            self._paying[one.peer_id] = one
        return one

    def engine_of(self, peer_id: str) -> SettlementEngine:
        """Who pays a peer."""
        return self._engines.get(peer_id, self._manual)

    async def run(self) -> None:
        """Watch, and do what is due, until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            while True:
                await self._pause(bounds.SETTLEMENT_CHECK_SECONDS)
                self.look()

    async def stop(self) -> None:
        """Begin nothing new, and return when nothing is being booked; before `run` is cancelled."""
        self._stopping = True
        deadline_s = self._clock.monotonic_s() + bounds.SETTLEMENT_STOP_SECONDS_MAX
        while self._booking and self._clock.monotonic_s() < deadline_s:
            await self._pause(0.01)

    async def close(self) -> None:
        """Let go of the file."""
        await self._store.close()

    # --- watching

    def look(self) -> None:
        """Begin what is due now, each in a task of its own, a bounded number at a time."""
        if self._stopping:
            return
        now_ms = self._clock.now_ms()
        for one in list(self._open.values()):
            if one.next_attempt_ms <= now_ms and not self._waits(one):
                self._begin(one.id, self._go_on(one))
        for peer_id, (due_ms, attempts) in list(self._unannounced.items()):
            if due_ms <= now_ms:
                self._begin(("account", peer_id), self._announce(peer_id, attempts))
        if self._accounts.state is not BooksState.AVAILABLE:
            return
        for peer_id, books in self._accounts.peers.items():
            threshold = books.terms.settle_threshold
            if (
                threshold is not None
                and -books.net_balance > threshold
                and self._not_before_ms.get(peer_id, 0) <= now_ms
                and self.under_way(peer_id) is None
            ):
                self._begin(("peer", peer_id), self._decide(peer_id))

    def _waits(self, one: Settlement) -> bool:
        """Whether it is an operator's turn."""
        return one.phase is Phase.BOOKED and self._payer(one) is self._manual

    def _payer(self, one: Settlement) -> SettlementEngine:
        return self._manual if one.payer is Payer.OPERATOR else self.engine_of(one.peer_id)

    def _begin(self, what: object, work: Any) -> None:
        if what in self._busy or len(self._busy) >= bounds.SETTLEMENT_ATTEMPTS_AT_A_TIME_MAX:
            work.close()
            return
        assert self._group is not None, "run first"
        self._busy.add(what)
        task = self._group.create_task(work)
        task.add_done_callback(lambda _: self._busy.discard(what))

    async def _announce(self, peer_id: str, attempts: int) -> None:
        try:
            await self.engine_of(peer_id).add_account(peer_id)
        except EngineError as error:
            wait_ms = self._wait_ms(attempts + 1, ENGINE_BACKOFF)
            if peer_id in self._unannounced:
                self._unannounced[peer_id] = (self._clock.now_ms() + wait_ms, attempts + 1)
            self._log.warning(
                "settlement_engine_unavailable",
                peer_id=peer_id,
                reason=str(error),
                again_in_ms=wait_ms,
            )
        else:
            self._unannounced.pop(peer_id, None)
            self._log.info("settlement_account_ready", peer_id=peer_id)

    async def _decide(self, peer_id: str) -> None:
        """We owe more than agreed, as the mirror has it: settle what the ledger says."""
        try:
            one = await self._trigger(peer_id, Origin.THRESHOLD, self._new_key(), None)
            if one is not None:
                await self._go_on(one)
            else:
                wait_ms = int(bounds.SETTLEMENT_LEDGER_RETRY_SECONDS_MAX * 1000)
                self._not_before_ms[peer_id] = self._clock.now_ms() + wait_ms
        except SettlementConflictError:
            return  # an operator was quicker
        except _FAULTS as error:
            self._log.warning("settlement_postponed", peer_id=peer_id, reason=str(error))
            self._hold_off(peer_id)

    async def _trigger(
        self, peer_id: str, origin: Origin, key: str, wanted: int | None
    ) -> Settlement | None:
        """Decide on a settlement and put it on disk; None: there is nothing to pay."""
        async with self._deciding.setdefault(peer_id, asyncio.Lock()):
            books = self._accounts.peers[peer_id]
            terms = books.terms
            if (other := self.under_way(peer_id)) is not None:
                raise SettlementConflictError(
                    f"settlement {other.settlement_id} with {peer_id} is under way: "
                    "wait for it, or confirm or cancel it"
                )
            owed, available = await self._accounts.settleable(peer_id)
            threshold = terms.settle_threshold if origin is Origin.THRESHOLD else -1
            due = amount_due(
                min(owed, -books.net_balance),
                threshold=threshold,
                settle_to=terms.settle_to if wanted is None else 0,
                available=available,
            )
            if wanted is not None:
                if wanted > due:
                    raise SettlementError(
                        f"{wanted} is more than can be paid to {peer_id} now: we owe {owed}, of "
                        f"which {max(0, available)} is not held for packets that it has sent"
                    )
                due = wanted
            scale = self._scales.get(peer_id, terms.asset.scale)
            amount, quantity = to_engine(due, terms.asset.scale, scale)
            if not amount:
                return None
            one = self._new(peer_id, Direction.OUTGOING, origin, key, amount, quantity)
            by_hand = self.engine_of(peer_id) is self._manual
            one.payer = Payer.OPERATOR if by_hand else Payer.ENGINE
            await self._store.add(one)
            self._note(one)
        self._log.info(
            "settlement_triggered",
            owed=str(owed),
            threshold=_text(terms.settle_threshold),
            **_fields(one),
        )
        self._tell(SettlementTriggered, one)
        return one

    def _new(
        self,
        peer_id: str,
        direction: Direction,
        origin: Origin,
        key: str,
        amount: int,
        quantity: Quantity,
    ) -> Settlement:
        asset = self._accounts.peers[peer_id].terms.asset
        now_ms = self._clock.now_ms()
        return Settlement(
            id=self._accounts.new_packet_id(),
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

    # --- carrying through

    async def _go_on(self, one: Settlement) -> None:
        """Take it as far as it goes now; on a fault try again later."""
        lock = self._locks.setdefault(one.id, asyncio.Lock())
        async with lock:
            if one.phase not in OPEN or one.peer_id not in self._accounts.peers:
                return
            one.attempts += 1
            try:
                if one.phase is Phase.PENDING:
                    await self._book(one)
                if one.phase is Phase.BOOKED:
                    await self._have_paid(one)
                if one.phase is Phase.CANCELLING:
                    await self._book_back(one)
            except _FAULTS as error:
                await self._failed(one, error)
        if one.phase not in OPEN:
            self._open.pop(one.id, None)
            self._locks.pop(one.id, None)

    async def _book(self, one: Settlement) -> None:
        outgoing = one.direction is Direction.OUTGOING
        status = await self._enter(one, one.id, outgoing=outgoing)
        if status in DONE:
            to_pay = one.payer is not Payer.NOBODY
            await self._move(one, Move.BOOK if to_pay else Move.SETTLE)
            if to_pay:
                one.attempts = 1
                self._log.info("settlement_started", **_fields(one))
                self._tell(SettlementStarted, one)
            else:
                self._completed(one)
            return
        # The ledger has the last word on the limit of the peer, and an id that it has refused stays
        # refused: what is still owed is settled anew, under another key.
        why = (
            "it would owe us more than its credit limit: part of what we owe is held for its packets"
            if status in (Status.EXCEEDS_CREDITS, Status.ID_ALREADY_FAILED)
            else f"the ledger answered {status.name}"
        )
        await self._move(one, Move.REFUSE, error=why)
        self._count(one, "refused")
        self._hold_off(one.peer_id)
        self._log.warning("settlement_refused", reason=why, **_fields(one))
        self._tell(SettlementFailed, one, error=why)

    async def _enter(self, one: Settlement, id_: int, *, outgoing: bool) -> Status:
        self._booking += 1
        try:
            return await self._accounts.record_settlement(
                one.peer_id, id_, one.amount, outgoing=outgoing, tag=key_tag(one.key)
            )
        finally:
            self._booking -= 1

    async def _have_paid(self, one: Settlement) -> None:
        answer = await self._payer(one).settle(one.peer_id, one.key, one.quantity)
        if answer is Answer.TAKEN:
            await self._move(one, Move.ACKNOWLEDGE)
            self._completed(one)
        elif one.attempts == 1:
            self._log.info("settlement_awaits_operator", **_fields(one))

    async def _book_back(self, one: Settlement) -> None:
        status = await self._enter(one, one.reverse_id, outgoing=False)
        assert status in DONE, status  # crediting a peer has no limit
        await self._move(one, Move.BOOK_BACK, error="cancelled")
        self._count(one, "cancelled")
        self._hold_off(one.peer_id)
        self._log.warning("settlement_cancelled", **_fields(one))
        self._tell(SettlementFailed, one, error="cancelled by an operator, and booked back")

    async def _move(self, one: Settlement, move: Move, *, error: str = "") -> None:
        await self._store.change(
            one, after(one.phase, move), error=error, at_ms=self._clock.now_ms()
        )
        self._touch(one.peer_id)

    def _completed(self, one: Settlement) -> None:
        received = one.direction is Direction.INCOMING
        self._count(one, "received" if received else "completed")
        self._refusals.pop(one.peer_id, None)
        self._log.info(
            "settlement_received" if received else "settlement_completed", **_fields(one)
        )
        self._tell(SettlementCompleted, one)

    async def _failed(self, one: Settlement, error: Exception) -> None:
        # Our own ledger or disk is asked often, since nobody else is burdened.
        backoff = ENGINE_BACKOFF if isinstance(error, EngineError) else LEDGER_BACKOFF
        wait_ms = self._wait_ms(one.attempts, backoff)
        one.next_attempt_ms = self._clock.now_ms() + wait_ms
        reason = str(error)
        self._count(one, "failed")
        self._log.warning(
            "settlement_failed",
            reason=reason,
            attempts=one.attempts,
            again_in_ms=wait_ms,
            **_fields(one),
        )
        self._tell(SettlementFailed, one, error=f"{reason}; tried again in {wait_ms / 1000:.0f} s")
        try:
            await self._store.change(one, one.phase, error=reason, at_ms=self._clock.now_ms())
        except SettlementStoreError:
            one.error = reason  # what is on disk is older, and as true

    def _wait_ms(self, attempts: int, backoff: Backoff) -> int:
        """Milliseconds to wait after so many attempts that failed, at least 1."""
        return int(1000 * backoff.wait_s(attempts, self._random))

    def _hold_off(self, peer_id: str) -> None:
        """Do not decide again at once about a peer where it has just come to nothing."""
        refusals = self._refusals[peer_id] = self._refusals.get(peer_id, 0) + 1
        self._not_before_ms[peer_id] = self._clock.now_ms() + self._wait_ms(
            refusals, DECISION_BACKOFF
        )

    def _count(self, one: Settlement, result: str) -> None:
        self.counts[one.peer_id, result] = self.counts.get((one.peer_id, result), 0) + 1

    def _tell(
        self,
        kind: type[
            SettlementTriggered | SettlementStarted | SettlementCompleted | SettlementFailed
        ],
        one: Settlement,
        **more: str,
    ) -> None:
        books = self._accounts.peers.get(one.peer_id)
        if books is None:
            return  # it was removed meanwhile
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

    # --- what an engine and an operator tell

    async def receive(self, peer_id: str, key: str, quantity: Quantity) -> Settlement:
        """The peer's engine saw a payment from it: credit it, once for each key.

        Raises:
            SettlementError: there is no such peer, or the quantity cannot be booked.
            SettlementConflictError: this key was used for another quantity.
            SettlementStoreError, LedgerUnavailableError: not yet booked; tell it again.
        """
        return await self._record(peer_id, Direction.INCOMING, Origin.ENGINE, key, quantity)

    async def record(
        self, peer_id: str, direction: Direction, key: str, quantity: Quantity
    ) -> Settlement:
        """An operator says that a payment was made: book it, once for each key.

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
            raise SettlementError("amount must be above zero")
        amount = 0  # of what comes in, the store knows what was kept before
        if direction is Direction.OUTGOING:
            amount, rest = divmod(quantity.amount * 10**scale, 10**quantity.scale)
            if rest or not 0 < amount <= limits.AMOUNT_MAX:
                raise SettlementError(
                    f"amount must be 1 to {limits.AMOUNT_MAX} whole units of scale {scale}"
                )
        one = self._new(peer_id, direction, origin, key, amount, quantity)
        asked, one = one, await self._store.add(one)
        if (one.direction, one.quantity, one.payer) != (direction, quantity, Payer.NOBODY):
            self._log.warning("settlement_key_reused", peer_id=peer_id, asked=str(quantity))
            raise SettlementConflictError(
                f"this Idempotency-Key was used for {one.direction} {one.quantity}"
            )
        if one is asked and one.phase is Phase.COMPLETED:
            self._completed(one)  # less than a unit: kept for the next
        if one.phase is Phase.PENDING:
            # From here on it is booked without being told again.
            one = self._note(self._open.get(one.id, one))
            await self._go_on(one)
        if one.phase is Phase.PENDING:
            raise LedgerUnavailableError(one.error or "not booked yet")
        if one.phase is Phase.REFUSED:
            raise SettlementConflictError(f"the ledger refuses it: {one.error}")
        return one

    async def pay(self, peer_id: str, key: str, amount: int | None) -> Settlement:
        """An operator wants a peer paid now, by its engine; None: all that is above `settle_to`.

        Returns as soon as that is decided and on disk.

        Raises:
            SettlementError: there is no such peer, or nothing, or not so much, to pay.
            SettlementConflictError: one is under way, or the key was used for another.
            SettlementStoreError, LedgerUnavailableError: try again.
        """
        self._check(peer_id, key)
        asset = self._accounts.peers[peer_id].terms.asset
        found = await self._store.with_key(peer_id, asset, Origin.OPERATOR, key)
        if found is not None:
            found = self._open.get(found.id, found)
            if found.payer is Payer.NOBODY or amount not in (None, found.amount):
                raise SettlementConflictError(
                    f"this Idempotency-Key was used for {found.direction} {found.quantity}"
                )
            return found
        one = await self._trigger(peer_id, Origin.OPERATOR, key, amount)
        if one is None:
            raise SettlementError(f"there is nothing to pay to {peer_id}")
        await self._go_on_soon(one)
        return one

    async def _go_on_soon(self, one: Settlement) -> None:
        if self._group is None:
            await self._go_on(one)
        else:
            self._begin(one.id, self._go_on(one))

    async def confirm(self, peer_id: str, settlement_id: str) -> Settlement:
        """An operator says that a settlement which is in progress has been paid.

        Raises:
            SettlementError: there is none, or it is not in progress.
            SettlementStoreError: try again.
        """
        one = await self._named(peer_id, settlement_id)
        async with self._locks.setdefault(one.id, asyncio.Lock()):
            if one.phase is Phase.COMPLETED:
                return one
            if one.phase is not Phase.BOOKED:
                raise SettlementConflictError(f"settlement {one.settlement_id} is {one.phase}")
            await self._move(one, Move.ACKNOWLEDGE)
            self._open.pop(one.id, None)
            self._completed(one)
        self._locks.pop(one.id, None)
        return one

    async def cancel(self, peer_id: str, settlement_id: str, *, force: bool) -> Settlement:
        """An operator takes back a settlement that has not been paid; it is booked back.

        Where an engine has been asked, only `force` does it: it may have paid, or may pay yet.

        Raises:
            SettlementError: there is none, it is not in progress, or its engine was asked.
            SettlementStoreError: try again.
        """
        one = await self._named(peer_id, settlement_id)
        if one.phase is Phase.CANCELLED:
            return one
        async with self._locks.setdefault(one.id, asyncio.Lock()):
            if one.phase is not Phase.BOOKED and one.phase is not Phase.CANCELLING:
                raise SettlementConflictError(f"settlement {one.settlement_id} is {one.phase}")
            if not force and one.payer is Payer.ENGINE:
                raise SettlementConflictError(
                    f"the engine of {peer_id} was asked for settlement {one.settlement_id} and "
                    "may pay it yet: make sure that it does not, then cancel with force"
                )
            if one.phase is Phase.BOOKED:
                await self._move(one, Move.CANCEL)
        await self._go_on(one)
        return one

    async def _named(self, peer_id: str, settlement_id: str) -> Settlement:
        try:
            id_ = int(settlement_id, 16)
        except ValueError:
            id_ = 0
        one = self._open.get(id_) or await self._store.find(id_)
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

    # --- messages between the engines (RFC 38, Exchanging messages)

    async def answer(self, peer_id: str, octets: bytes) -> Fulfill | Reject:
        """What our engine says to a message that came from the peer's."""
        engine = self.engine_of(peer_id)
        if engine is self._manual:
            return settle.refusal(Code.F00_BAD_REQUEST, "there is no settlement engine here")
        try:
            reply = await engine.message(peer_id, octets)
        except EngineError as error:
            self._log.warning("settlement_message_failed", peer_id=peer_id, reason=str(error))
            return settle.refusal(Code.T00_INTERNAL_ERROR, "settlement engine does not answer")
        if reply.ok:
            return settle.answer(reply.body)
        final = 400 <= reply.status < 500
        self._log.warning(
            "settlement_message_failed", peer_id=peer_id, reason=f"HTTP {reply.status}"
        )
        return settle.refusal(
            Code.F00_BAD_REQUEST if final else Code.T00_INTERNAL_ERROR,
            "settlement engine refused the message",
            reply.body,
        )

    async def relay(self, peer_id: str, octets: bytes) -> Fulfill | Reject:
        """Bring a message of our engine to the peer's.

        Raises:
            SettlementUnknownError: there is no such peer.
        """
        self.scale_of(peer_id)
        expires_at_ms = self._clock.now_ms() + int(bounds.SETTLEMENT_MESSAGE_SECONDS_MAX * 1000)
        return await self._ask_peer(peer_id, settle.request(octets, expires_at_ms))

    # --- what is shown

    def under_way(self, peer_id: str) -> Settlement | None:
        """The settlement that a peer is being paid by."""
        one = self._paying.get(peer_id)
        return None if one is None or one.state is State.IDLE else one

    def state(self, peer_id: str) -> State:
        """How far settling with a peer has come."""
        one = self.under_way(peer_id)
        return State.IDLE if one is None else one.state

    def scale_of(self, peer_id: str) -> int:
        """The scale of a peer's asset.

        Raises:
            SettlementUnknownError: there is no such peer.
        """
        books = self._accounts.peers.get(peer_id)
        if books is None:
            raise SettlementUnknownError(f"there is no peer {peer_id[:64]}")
        return books.terms.asset.scale

    async def view(self, peer_id: str | None, count: int) -> list[dict[str, Any]]:
        """The newest settlements of a peer, or of all, newest first."""
        return [
            self.as_json(self._open.get(one.id, one))
            for one in await self._store.latest(peer_id, count)
        ]

    def as_json(self, one: Settlement) -> dict[str, Any]:
        """One settlement, for the API."""
        return {
            "settlementId": one.settlement_id,
            "peerId": one.peer_id,
            "assetCode": one.asset.code,
            "assetScale": one.asset.scale,
            "direction": one.direction.value,
            "origin": one.origin.value,
            "amount": str(one.amount),
            "quantity": {"amount": str(one.quantity.amount), "scale": one.quantity.scale},
            "phase": one.phase.value,
            "state": one.state.value,
            "payer": one.payer.value,
            "attempts": one.attempts,
            "error": one.error,
            "createdMs": one.created_ms,
            "changedMs": one.changed_ms,
        }


def _fields(one: Settlement) -> Mapping[str, Any]:
    """What every log line of a settlement has."""
    return {
        "peer_id": one.peer_id,
        "settlement_id": one.settlement_id,
        "direction": one.direction.value,
        "amount": str(one.amount),
        "asset": str(one.asset),
        "idempotency_key": one.key,
    }


def _text(number: int | None) -> str | None:
    return None if number is None else str(number)
