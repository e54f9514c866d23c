"""Queues holds, posts and voids, and writes them in batches to the ledger or to the outbox.

One request is in flight; everything queued meanwhile goes into the next one, posts and voids before
holds, the legs of a packet together. There is no flush timer: an idle ledger gets a request at
once, a busy one gets full requests. One exception: a post that nobody waits for, since its Fulfill has
been relayed, wakes nobody. It goes with the next request, or with one of its own at the next tick;
with one of its own at once it would hold up the next packet.

Long because the queues have one owner, and the states of a queued reservation are handled in one
place.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

from connector.accounting import bounds
from connector.accounting.acknowledged import Acknowledged
from connector.accounting.availability import Admits, Asks, Availability, Phase, WritesTo
from connector.accounting.chart import Chart
from connector.accounting.credit import Credit
from connector.accounting.entries import (
    TAG,
    Entry,
    Reserve,
    again,
    condition_tag,
    correcting_transfers,
    entry_of,
    is_booked,
    is_within_credit,
    legs_of,
    moves_of,
    outbox_rows,
    resolutions,
)
from connector.accounting.leaseholder import LeaseHolder
from connector.accounting.mirror import Mirror
from connector.accounting.promises import (
    Outcome,
    Promise,
    PromiseEvent,
    Promises,
    Reservation,
    Token,
    to_be_kept,
)
from connector.accounting.reconcile import Reconciler
from connector.accounting.reports import Reports, packet_details
from connector.accounting.spool import Spool
from connector.accounting.turn import Turn
from connector.base.clock import Clock
from connector.base.errors import (
    ConnectorError,
    LedgerBehindError,
    LedgerRefusedError,
    LedgerUnavailableError,
    SupersededError,
)
from connector.ledger.model import (
    PENDING,
    PHASE_RESOLVE,
    POST,
    VOID,
    AccountCode,
    Kept,
    Status,
    Transfer,
    make_transfer,
)
from connector.peering.model import LOCAL

# Statuses of a void whose hold has expired; `ID_ALREADY_FAILED` is that of its repetition.
_ALREADY_FREE: Final = frozenset(
    {
        Status.PENDING_TRANSFER_EXPIRED,
        Status.PENDING_TRANSFER_NOT_FOUND,
        Status.ID_ALREADY_FAILED,
        Status.LINKED_EVENT_FAILED,
    }
)
# Integers on the packet path: an attribute of an enumeration costs as much as a transfer.
_read_tag: Final = TAG.unpack_from
_ASKED: Final = int(Promise.ASKED)
_VOIDING: Final = int(Promise.VOIDING)
_HELD: Final = int(PromiseEvent.HELD)
_VOID: Final = int(PromiseEvent.VOID)


def _decides(batch: list[Reservation]) -> bool:
    """Whether a request has holds or voids: only the active process of a node decides on those."""
    return any(one.state in (_ASKED, _VOIDING) for one in batch)


class Writer:
    """See the module. Sole owner of the queues."""

    def __init__(
        self,
        *,
        turn: Turn,
        chart: Chart,
        mirror: Mirror,
        promises: Promises,
        credit: Credit,
        acknowledged: Acknowledged,
        spool: Spool,
        reconciler: Reconciler,
        lease: LeaseHolder,
        availability: Availability,
        reports: Reports,
        clock: Clock,
        patience_ms: int,
    ) -> None:
        """`patience_ms`: how long the ledger may leave a request without an answer."""
        self._turn = turn
        self._chart = chart
        self._peers = chart.peers
        self._mirror = mirror
        self._promises = promises
        self._credit = credit
        self._acknowledged = acknowledged
        self._spool = spool
        self._reconciler = reconciler
        self._lease = lease
        self._availability = availability
        self._reports = reports
        self._clock = clock
        self._patience_ms = patience_ms
        self._holds: deque[Reservation] = deque()
        # Posts, voids and corrections: accepted whatever the length of the queue.
        self._resolutions: deque[Reservation] = deque()
        # The request in flight.
        self._taken: list[Reservation] = []
        self._request_began_ms: int | None = None
        self._woken: asyncio.Future[None] | None = None
        """What `run` waits for while it is idle. An `asyncio.Event` costs several times as much."""
        self._is_idle = False
        self._is_stopping = False
        # Of the queued resolutions: posts that nobody waits for, since the last request or tick.
        self._unhurried = 0

    @property
    def depth(self) -> int:
        """Packets that wait to be written."""
        return len(self._holds) + len(self._resolutions)

    @property
    def in_request(self) -> int:
        """Packets in the request that the ledger has not answered; zero: there is none."""
        return len(self._taken)

    @property
    def is_stopping(self) -> bool:
        """Whether `stop` was called."""
        return self._is_stopping

    def unacknowledged(self) -> list[Reservation]:
        """What the ledger may or may not have: the request in flight and queued resolutions."""
        return [*self._taken, *self._resolutions]

    # --- packets

    def reserve(
        self,
        token: Token,
        packet_id: int,
        sender_packet_id: int,
        asked: Reserve,
        dry: bool = False,
    ) -> Outcome | Reservation:
        """Queue the reservation of a packet. See `AccountManager.reserve`; `dry`: `would_hold`."""
        if not self._availability.is_up:
            refused = self._refused_while_away(asked, dry)
            if refused is not None:
                return refused
        if len(self._holds) >= bounds.LEDGER_QUEUE_RESERVATIONS_MAX:
            return Outcome.BUSY
        source, next_hop = asked.source, asked.next_hop
        source_id, target_id = source.peer_id, next_hop.peer_id
        if target_id == LOCAL:
            target = (
                self._chart.wallets[next_hop.wallet]
                if next_hop.wallet
                else self._chart.own(AccountCode.WALLET, next_hop.asset)
            )
        else:
            books = self._peers[target_id]
            target = books.peer
            payable_max = next_hop.max_payable
            if payable_max is not None and books.payable + asked.amount_out > payable_max:
                return Outcome.NO_PAYABLE
            held_max = next_hop.max_in_flight_value
            if held_max is not None and target.credits_pending + asked.amount_out > held_max:
                return Outcome.NO_ROOM
        debit = (
            self._peers[source_id].peer
            if source_id != LOCAL
            else self._chart.own(AccountCode.WALLET, source.asset)
        )
        held_max = source.max_in_flight_value
        if held_max is not None and debit.debits_pending + asked.amount_in > held_max:
            return Outcome.NO_ROOM
        if dry:
            return Outcome.HELD
        timeout = (asked.hold_ms + bounds.PENDING_GRACE_MS + 999) // 1000
        amount, fee = asked.amount_out, asked.fee
        if not fee and debit.ledger == target.ledger and debit is not target:
            # The common case: one asset, no fee, one leg.
            tag_64, tag_32 = _read_tag(asked.condition)
            leg = make_transfer(
                (
                    packet_id, debit.account_id, target.account_id, amount, 0, sender_packet_id,
                    tag_64, tag_32, timeout, debit.ledger, 1, PENDING, 0,
                )
            )  # fmt: skip
            self._mirror.hold(debit, target, amount)
            legs = [leg]
            reservation = Reservation(packet_id, legs, [(debit, target)])
        else:
            moves = moves_of(debit, target, asked, self._chart.own)
            tag = condition_tag(asked.condition)
            legs = legs_of(moves, packet_id, sender_packet_id, tag, timeout)
            for move in moves:
                self._mirror.hold(move.debit, move.credit, move.amount)
            reservation = Reservation(packet_id, legs, [(m.debit, m.credit) for m in moves])
        reservation.waiter = token
        self._holds.append(reservation)
        if self._is_idle:
            self._start_writing()
        return reservation

    def would_hold(self, asked: Reserve) -> Outcome:
        """The outcome of a reservation now, by the mirror where the ledger decides; queues nothing."""
        if not self._lease.may_hold:
            return Outcome.UNAVAILABLE
        would = self.reserve(None, 0, 0, asked, dry=True)
        assert isinstance(would, Outcome), would
        source_id = asked.source.peer_id
        if (
            would is Outcome.HELD
            and source_id != LOCAL
            and self._peers[source_id].available_credit < asked.amount_in
        ):
            return Outcome.NO_CREDIT
        return would

    def _refused_while_away(self, asked: Reserve, dry: bool) -> Outcome | None:
        """Why a packet is refused while the ledger is away; None: the mirror admits it."""
        if self._availability.row.admits is not Admits.BY_MIRROR:
            return Outcome.UNAVAILABLE
        if not self._spool.has_room:
            if dry:
                return Outcome.UNAVAILABLE
            self._availability.full(f"the spool is full: {self._spool.transfers} transfers")
            return Outcome.UNAVAILABLE
        source_id = asked.source.peer_id
        if source_id != LOCAL and self._peers[source_id].available_credit < asked.amount_in:
            return Outcome.NO_CREDIT
        return None

    def post(self, token: Token, reservation: Reservation, expires_at_ms: int) -> None:
        """Queue the post of a reservation. See `AccountManager.post`."""
        latest_ms = expires_at_ms - bounds.POST_EXPIRY_MARGIN_MS
        relay_by_ms = min(
            latest_ms - bounds.OUTBOX_BUDGET_MS, self._clock.now_ms() + bounds.POST_BUDGET_MS
        )
        legs = reservation.legs
        if len(legs) == 1:
            # The common case: one leg.
            leg = legs[0]
            id_, amount = leg[0], leg[3]
            transfer = make_transfer(
                (id_ | PHASE_RESOLVE, 0, 0, amount, id_, 0, 0, 0, 0, 0, 0, POST, 0)
            )
            self._promises.post(reservation, token, [transfer], relay_by_ms, latest_ms)
            debit, credit = reservation.books[0]
            self._mirror.post(debit, credit, amount)
        else:
            posts = resolutions(legs, POST)
            self._promises.post(reservation, token, posts, relay_by_ms, latest_ms)
            for leg, (debit, credit) in zip(legs, reservation.books, strict=True):
                self._mirror.post(debit, credit, leg.amount)
        self._resolutions.append(reservation)
        if token is None:
            self._unhurried += 1
        elif self._is_idle:
            self._start_writing()

    def post_unasked(self, reservation: Reservation) -> None:
        """Queue the post of a packet that was fulfilled before a restart; it has no waiter.

        Only its kept Fulfill says that it is owed: unless the ledger has it soon, it goes into the outbox.
        """
        now_ms = self._clock.now_ms()
        relay_by_ms = now_ms + bounds.POST_BUDGET_MS
        posts = resolutions(reservation.legs, POST)
        self._promises.post(reservation, None, posts, relay_by_ms, relay_by_ms)
        for leg, (debit, credit) in zip(reservation.legs, reservation.books, strict=True):
            self._mirror.post(debit, credit, leg.amount)
        self._resolutions.append(reservation)
        if self._is_idle:
            self._start_writing()

    def void(self, reservation: Reservation) -> None:
        """Queue the void of a reservation. See `AccountManager.void`."""
        reservation.move(_VOID)
        self._give_back(reservation)
        if self._is_idle and self._resolutions:
            self._start_writing()

    def _give_back(self, reservation: Reservation) -> None:
        """Queue a void without a waiter: if it is lost, the ledger's timeout releases the hold.

        Not when another process has taken over: it may go on with the packet, and need the hold.
        """
        self._release(reservation)
        reservation.waiter = None
        if self._lease.is_superseded:
            return
        reservation.transfers = resolutions(reservation.legs, VOID)
        self._resolutions.append(reservation)

    def _release(self, reservation: Reservation) -> None:
        for leg, (debit, credit) in zip(reservation.legs, reservation.books):  # noqa: B905
            self._mirror.release(debit, credit, leg.amount)

    # --- the task

    def _start_writing(self) -> None:
        self._is_idle = False
        assert self._holds or self._resolutions or self._is_stopping
        woken = self._woken
        if woken is not None and not woken.done():
            woken.set_result(None)

    def stop(self) -> None:
        """Let `run` end once everything queued is written."""
        self._is_stopping = True
        self._start_writing()

    async def run(self) -> None:
        """Write until `stop`; then until everything queued is written."""
        availability, lease, monotonic_s = self._availability, self._lease, self._clock.monotonic_s
        while True:
            if not self._holds and (
                not self._resolutions
                or (self._unhurried >= len(self._resolutions) and not self._is_stopping)
            ):
                if self._is_stopping:
                    return
                self._is_idle = True
                self._woken = asyncio.get_running_loop().create_future()
                await self._woken
                self._woken = None
                self._is_idle = False
                continue
            if self._holds and not lease.may_hold:
                self._give_back_queued()
                self._reports.turn_done()
                continue
            if lease.is_superseded and self._drop_voids():
                continue
            if not availability.writes_to_ledger:
                await self._spool.may_write.wait()
                if availability.row.writes_to is WritesTo.OUTBOX:
                    await self._write_to_outbox()
                elif availability.row.writes_to is WritesTo.LEDGER:
                    self._drop_replayed()
                else:
                    # Queued by a start that has not come to its end.
                    await asyncio.sleep(bounds.POST_RETRY_SECONDS)
                continue
            assert not self._taken, "one request at a time"
            batch, transfers, kept = self._take_batch()
            self._taken = batch
            self._request_began_ms = self._clock.now_ms()
            began_s = self._clock.monotonic_s()
            try:
                async with self._turn as ledger:
                    # Another process may have taken over while this one waited for its turn, or was
                    # suspended before or after the request.
                    if monotonic_s() >= lease.valid_until_s and _decides(batch):
                        await lease.look(ledger)
                    statuses = await ledger.create_transfers(transfers, kept)
                    # Holds are the last of a batch.
                    if batch[-1].state == _ASKED and monotonic_s() >= lease.valid_until_s:
                        await lease.look(ledger)
                    if (
                        statuses.count(Status.CREATED) != len(statuses)
                        and self._acknowledged.is_doubtful(statuses)
                    ) or availability.phase is Phase.STALLED:
                        await self._acknowledged.compare(ledger)
            except SupersededError:
                self._request_began_ms = None
                self._taken = []
                self._step_back(batch)
                continue
            except (LedgerUnavailableError, LedgerRefusedError, LedgerBehindError) as error:
                self._request_began_ms = None
                self._taken = []
                self._failed(batch, error)
                if availability.writes_to_ledger:
                    await asyncio.sleep(bounds.POST_RETRY_SECONDS)
                continue
            self._request_began_ms = None
            self._taken = []
            assert len(statuses) == len(transfers)
            counters = self._reports.counters
            counters.requests += 1
            counters.events += len(transfers)
            self._reports.request_done(self._clock.monotonic_s() - began_s, len(transfers))
            if availability.phase is Phase.STALLED:
                availability.answered()
            self._deliver(batch, statuses)
            if self._promises.has_released:
                await self._spool.clear()
            if self._reconciler.is_due:
                await self._reconcile()
            if self._holds or self._resolutions:
                # With a ledger that answers at once this may be the only await in the loop.
                await asyncio.sleep(0)

    def _drop_voids(self) -> bool:
        """Forget voids that are queued; whether there were any. See `_give_back`."""
        queue = self._resolutions
        self._resolutions = deque(one for one in queue if one.state != _VOIDING)
        return len(self._resolutions) < len(queue)

    def _drop_replayed(self) -> None:
        """Drop posts that a replay has booked from the outbox while they were queued."""
        queue = self._resolutions
        self._resolutions = deque(one for one in queue if not one.posted)
        self._unhurried = 0

    def _take_batch(self) -> tuple[list[Reservation], list[Transfer], list[Kept]]:
        """The next request: resolutions first, then holds, whole packets, up to the limit.

        The third element: the fulfilments that are kept beside their posts.
        """
        room = self._turn.ledger.batch_transfers_max
        self._unhurried = 0
        batch: list[Reservation] = []
        transfers: list[Transfer] = []
        kept: list[Kept] = []
        for queue in (self._resolutions, self._holds):
            while queue:
                reservation = queue[0]
                part = reservation.transfers
                size = len(part)
                if size > room:
                    break
                room -= size
                transfers += part
                batch.append(queue.popleft())
                if reservation.fulfill:
                    kept.append(to_be_kept(reservation))
        assert batch, "a packet with more legs than a request may hold"
        assert room >= 0, room
        return batch, transfers, kept

    # --- results of a request

    def _deliver(self, batch: list[Reservation], statuses: list[Status]) -> None:
        at = 0
        created = Status.CREATED
        resume = self._reports.resume
        acknowledged = self._promises.acknowledged
        for reservation in batch:
            size = len(reservation.transfers)
            fine = (size == 1 and statuses[at] is created) or is_booked(statuses[at : at + size])
            at += size
            state = reservation.state
            if state == _ASKED:
                if fine:
                    reservation.move(_HELD)
                    resume(reservation.waiter, Outcome.HELD)
                else:
                    self._hold_refused(reservation, statuses[at - size : at])
            elif not fine:
                self._not_resolved(reservation, statuses[at - size : at])
            elif state != _VOIDING:
                waiter = reservation.waiter
                if acknowledged(reservation) and waiter is not None:
                    resume(waiter, Outcome.POSTED)
        assert at == len(statuses)
        self._reports.turn_done()

    def _hold_refused(self, reservation: Reservation, statuses: list[Status]) -> None:
        outcome = Outcome.NO_CREDIT
        if Status.EXCEEDS_CREDITS not in statuses:
            self._reports.refused(reservation, statuses)
            outcome = Outcome.UNAVAILABLE
        self._refuse(reservation, outcome)

    def _refuse(self, reservation: Reservation, outcome: Outcome) -> None:
        """Refuse a hold that is not in the ledger."""
        reservation.move(PromiseEvent.REFUSED)
        self._release(reservation)
        waiter, reservation.waiter = reservation.waiter, None
        self._reports.resume(waiter, outcome)

    def _refuse_unacknowledged(self, reservation: Reservation, outcome: Outcome) -> None:
        """Refuse a hold that may be in the ledger."""
        reservation.move(PromiseEvent.GIVEN_BACK)
        assert not reservation.hold_spooled, "a hold that was acknowledged"
        waiter = reservation.waiter
        self._give_back(reservation)
        self._reports.resume(waiter, outcome)

    def _refuse_queued(self) -> None:
        """Refuse holds that were not sent to the ledger."""
        while self._holds:
            self._refuse(self._holds.popleft(), Outcome.UNAVAILABLE)

    def _give_back_queued(self) -> None:
        """Refuse holds of which some may have been sent, in a request that was not acknowledged."""
        while self._holds:
            self._refuse_unacknowledged(self._holds.popleft(), Outcome.UNAVAILABLE)

    def _not_resolved(self, reservation: Reservation, statuses: list[Status]) -> None:
        entry = entry_of(reservation)
        if entry is not Entry.CORRECTION and self._promises.take_held_again(reservation.packet_id):
            # A replay has made a second hold under other ids (`replay`): resolve that one.
            reservation.legs = again(reservation.legs)
            flag = VOID if entry is Entry.VOID else POST
            reservation.transfers = resolutions(reservation.legs, flag)
            self._resolutions.append(reservation)
            return
        match entry:
            case Entry.VOID:
                if not all(status in _ALREADY_FREE for status in statuses):
                    self._reports.refused(reservation, statuses)
            case Entry.POST:
                # Too late: the hold has expired, but the amount is owed. Book it directly; the
                # waiter of the post waits for the correction. The fulfilment is kept already, by
                # this request.
                reservation.fulfill = b""
                reservation.move(PromiseEvent.REFUSED)
                reservation.transfers = correcting_transfers(
                    reservation.legs, self._chart.credit_line_of
                )
                self._resolutions.append(reservation)
                self._credit.mirror_grants(reservation.transfers)
                self._reports.counters.corrections += 1
                self._reports.alert(
                    "accounting_correction", packet_details(reservation.packet_id, statuses)
                )
            case _:
                assert reservation.corrected, reservation.state
                # Refused permanently. Its post goes into the outbox, or stays there, for an operator;
                # if a caller waits for it, when its budget is used up.
                self._reports.refused(reservation, statuses, owed=True)
                if reservation.waiter is None:
                    self._spool.put([reservation])

    def _failed(self, batch: list[Reservation], error: ConnectorError) -> None:
        """No acknowledgement: the request may or may not be in the ledger.

        Everything is retried under the same ids, directly or through the outbox. Holds that are
        refused now are voided instead, which is right in both cases.
        """
        availability = self._availability
        if isinstance(error, LedgerBehindError):
            # This ledger has lost bookings: the request must go to the right one.
            self._acknowledged.refuse(error)
        else:
            availability.failed(str(error), self._clock.monotonic_s())
        holds = [one for one in batch if one.state == _ASKED]
        again = [
            one
            for one in batch
            if one.state != _ASKED
            # What is in the outbox is replayed from there.
            and (not one.outbox_seq or one.corrected or availability.writes_to_ledger)
            and not one.posted
        ]
        assert len(holds) + len(again) <= len(batch)
        self._resolutions.extendleft(reversed(again))
        if availability.row.admits is not Admits.BY_MIRROR:
            for reservation in holds:
                self._refuse_unacknowledged(reservation, Outcome.UNAVAILABLE)
            self._refuse_queued()
        else:
            # The ledger has not checked these against the credit limits, so the mirror does.
            asked = [*holds, *self._holds]
            self._holds.clear()
            for reservation in asked:
                if is_within_credit(reservation):
                    self._holds.append(reservation)
                else:
                    self._refuse_unacknowledged(reservation, Outcome.NO_CREDIT)
        self._reports.turn_done()

    def _step_back(self, batch: list[Reservation]) -> None:
        """Another process has taken over: write what is owed, hold nothing new, give nothing back.

        The ledger may have some of the holds. They end by their timeouts, unless the other process
        goes on with their packets.
        """
        holds = [one for one in batch if one.state == _ASKED]
        owed = [one for one in batch if one.state != _ASKED and not one.posted]
        self._resolutions.extendleft(reversed(owed))
        self._drop_voids()
        for reservation in holds:
            self._refuse_unacknowledged(reservation, Outcome.UNAVAILABLE)
        self._refuse_queued()
        self._reports.turn_done()

    # --- instead of the ledger

    async def _write_to_outbox(self) -> None:
        spool = self._spool
        async with spool.writing:
            if not spool.may_write.is_set():
                return  # a replay is at its end: the writer is paused
            taken, _, _ = self._take_batch()
            # What the outbox has already is replayed from there: each post goes in once.
            batch = [
                one for one in taken if not one.posted and (not one.outbox_seq or one.corrected)
            ]
            rows = [transfer for reservation in batch for transfer in outbox_rows(reservation)]
            if not rows:
                return
            try:
                await spool.keep(batch)
                seq = await spool.write(rows)
            except (OSError, ConnectorError) as error:
                self._not_spooled(batch, str(error))
                failed = True
            else:
                failed = False
                self._spooled(batch, seq)
        if failed:
            await asyncio.sleep(bounds.POST_RETRY_SECONDS)

    def _spooled(self, batch: list[Reservation], seq: int) -> None:
        """The outbox has a request."""
        self._availability.outbox_took(has_room=self._spool.has_room)
        for reservation in batch:
            match entry_of(reservation):
                case Entry.HOLD:
                    reservation.hold_spooled = True
                    reservation.move(_HELD)
                    self._reports.resume(reservation.waiter, Outcome.HELD)
                case Entry.VOID:
                    pass
                case _:
                    waiter = self._promises.spooled(reservation, seq)
                    if waiter is not None:
                        self._reports.counters.released += 1
                        self._reports.resume(waiter, Outcome.RELEASED)
        self._reports.turn_done()

    def _not_spooled(self, batch: list[Reservation], why: str) -> None:
        """The outbox failed: resolutions are retried, holds are refused."""
        holds = [one for one in batch if one.state == _ASKED]
        self._resolutions.extendleft(one for one in reversed(batch) if one.state != _ASKED)
        if self._availability.outbox_failed(why):
            self._reports.outbox_failed(why)
        for reservation in holds:
            self._refuse_unacknowledged(reservation, Outcome.UNAVAILABLE)
        self._refuse_queued()
        self._reports.turn_done()

    # --- time

    def tick(self, now_ms: int) -> None:
        """Change to STALLED when a request has been without an answer for too long.

        And write posts that nobody waits for, if no request has taken them along.
        """
        if self._unhurried:
            self._unhurried = 0
            if self._is_idle:
                self._start_writing()
        began_ms = self._request_began_ms
        if (
            began_ms is not None
            and now_ms - began_ms > self._patience_ms
            and self._availability.writes_to_ledger
        ):
            self._availability.slow(f"no answer for {self._patience_ms} ms")
            self._refuse_queued()

    async def expire(self) -> None:
        """Let the ledger's timeouts take effect while no other request is sent."""
        availability = self._availability
        if availability.row.asks is not Asks.EXPIRY:
            return  # `Reconnect` polls it
        if self._request_began_ms is None and not self._resolutions and not self._holds:
            try:
                async with self._turn as ledger:
                    await ledger.create_transfers([])
                    if availability.phase is Phase.STALLED:
                        await self._acknowledged.compare(ledger)
            except LedgerBehindError as error:
                self._acknowledged.refuse(error)
            except (LedgerUnavailableError, LedgerRefusedError) as error:
                availability.failed(str(error), self._clock.monotonic_s())
            else:
                if availability.phase is Phase.STALLED:
                    availability.answered()
                if self._reconciler.is_due:
                    await self._reconcile()

    async def _reconcile(self) -> None:
        if await self._reconciler.reconcile(self.unacknowledged):
            self._credit.follow()
