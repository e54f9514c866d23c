"""Turns reserve, post and void into ledger requests, also through outages.

`AccountManager` is the façade of the package: it joins the parts and hands each call to the one
that owns the matter. The package's docstring says which part owns what.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Final, TypeVar

from connector.accounting.acknowledged import Acknowledged
from connector.accounting.availability import Availability, State
from connector.accounting.chart import Chart
from connector.accounting.credit import Credit
from connector.accounting.entries import Reserve
from connector.accounting.fulfilments import Fulfilments
from connector.accounting.mirror import Book, Mirror, PeerBooks
from connector.accounting.promises import Outcome, Promises, Reservation, Token
from connector.accounting.reconcile import Reconciler
from connector.accounting.reconnect import Reconnect
from connector.accounting.recovery import Recovery
from connector.accounting.replay import Replay
from connector.accounting.reports import AccountingCounters, Reports
from connector.accounting.resent import Recovered
from connector.accounting.settlement import Payment, SettlementBooks
from connector.accounting.spool import Outbox, Spool
from connector.accounting.start import Start
from connector.accounting.turn import Turn
from connector.accounting.writer import Writer
from connector.base.clock import Clock
from connector.ledger.interface import Ledger
from connector.ledger.model import AccountCode, IdGenerator, Status, Transfer
from connector.peering.model import Asset, PeerTerms

__all__ = ["AccountManager", "State"]

T = TypeVar("T")


class AccountManager:
    """Reserve, post, void; balances; limits; recovery. One per node."""

    def __init__(
        self,
        *,
        node_id: str,
        ledger: Ledger,
        clock: Clock,
        ids: IdGenerator,
        outbox: Outbox,
        on_state: Callable[[State, str], None] = lambda _state, _why: None,
        on_alert: Callable[[str, dict[str, object]], None] = lambda _event, _fields: None,
        on_request: Callable[[float, int], None] = lambda _seconds, _transfers: None,
        timeout_ms: int = 1000,
        spool_transfers_max: int = 0,
        keeps_history: bool = False,
        accept_ledger_loss: bool = False,
    ) -> None:
        """Nothing is opened yet.

        Args:
            node_id: whose accounts these are.
            ledger: where they are.
            clock: for holds, budgets and deadlines.
            ids: for packets.
            outbox: for what the ledger has not acknowledged; opened and closed by the caller.
            on_state: told each change of state, with the reason.
            on_alert: told what an operator should know, as a log event with its fields.
            on_request: told how long a request of the writer took, and its transfers.
            timeout_ms: how long the ledger may leave a request without an answer.
            spool_transfers_max: room in the outbox for new packets while the ledger is away; 0:
                they are rejected.
            keeps_history: whether accounts of peers that are created from now on keep all their
                balances, so that the ledger can be asked for those of the past.
            accept_ledger_loss: go on although the ledger has less than it acknowledged.
        """
        self.node_id: Final = node_id
        self._clock = clock
        self._ids = ids
        spools = spool_transfers_max > 0
        self._turn = turn = Turn(ledger)
        self._chart = chart = Chart(node_id, keeps_history=keeps_history)
        self._mirror = mirror = Mirror()
        self._reports = reports = Reports(alert=on_alert, request_done=on_request)
        self._promises = promises = Promises()
        wanted = asyncio.Event()
        self._availability = availability = Availability(
            spools=spools, on_state=on_state, on_away=wanted.set
        )
        self._spool = spool = Spool(
            outbox=outbox, promises=promises, reports=reports, transfers_max=spool_transfers_max
        )
        self._credit = credit = Credit(
            turn=turn, chart=chart, mirror=mirror, availability=availability, reports=reports
        )
        self._acknowledged = acknowledged = Acknowledged(
            turn=turn,
            chart=chart,
            spool=spool,
            availability=availability,
            reports=reports,
            ids=ids,
            accept_loss=accept_ledger_loss,
        )
        self._settlements = SettlementBooks(
            turn=turn, chart=chart, mirror=mirror, availability=availability
        )
        self._reconciler = reconciler = Reconciler(
            turn=turn,
            chart=chart,
            mirror=mirror,
            acknowledged=acknowledged,
            availability=availability,
            reports=reports,
            clock=clock,
        )
        self._writer = writer = Writer(
            turn=turn,
            chart=chart,
            mirror=mirror,
            promises=promises,
            credit=credit,
            acknowledged=acknowledged,
            spool=spool,
            reconciler=reconciler,
            availability=availability,
            reports=reports,
            clock=clock,
            # A ledger that keeps its deadlines says so itself, and what waits can be spooled.
            patience_ms=timeout_ms + (timeout_ms // 4 if spools else 0),
        )
        self._fulfilments = Fulfilments(
            store=outbox, post=writer.post, reports=reports, clock=clock
        )
        self._recovery = Recovery(
            turn=turn,
            chart=chart,
            mirror=mirror,
            availability=availability,
            fulfilments=self._fulfilments,
            reports=reports,
            clock=clock,
            post=writer.post_unasked,
            on_the_way=lambda: {one.packet_id for one in writer.on_the_way()},
            is_shared=lambda: reconciler.is_shared,
        )
        self._replay = Replay(
            turn=turn,
            chart=chart,
            credit=credit,
            acknowledged=acknowledged,
            spool=spool,
            promises=promises,
            availability=availability,
            reports=reports,
            is_stopping=lambda: writer.is_stopping,
        )
        self._reconnect = Reconnect(
            turn=turn,
            acknowledged=acknowledged,
            availability=availability,
            replay=self._replay,
            reports=reports,
            wanted=wanted,
        )

    def attach(
        self, resume: Callable[[Token, Outcome], None], turn_done: Callable[[], None]
    ) -> None:
        """Who is told outcomes, and what is called when all of a request have been told."""
        self._reports.resume = resume
        self._reports.turn_done = turn_done

    # --- life

    async def open(
        self,
        peers: Iterable[PeerTerms],
        assets: Iterable[Asset],
        former: Iterable[PeerTerms] = (),
    ) -> None:
        """Open the ledger, create what is missing, load the mirror, replay the outbox.

        `former` are peers that we have no terms with any more, but perhaps a balance. When the
        ledger is away, and may come back, all this is left to `attend`.

        Raises:
            LedgerLockedError, LedgerCorruptError, LedgerUnavailableError, LedgerRefusedError: see
                `Ledger.open`.
            ConnectorError: two assets share a ledger number.
        """
        terms, gone = list(peers), list(former)
        for asset in (*assets, *(peer.asset for peer in (*terms, *gone))):
            self._chart.add_asset(asset)
        for peer in terms:
            self._chart.add_peer(peer)
        for peer in gone:
            self._chart.add_peer(peer, removed=True)
        start = Start(
            terms=terms,
            turn=self._turn,
            chart=self._chart,
            mirror=self._mirror,
            credit=self._credit,
            acknowledged=self._acknowledged,
            ids=self._ids,
            recovery=self._recovery,
            replay=self._replay,
            spool=self._spool,
            availability=self._availability,
            reports=self._reports,
            clock=self._clock,
        )
        await start.open()
        if not self._availability.is_up:
            self._reconnect.owe(start)

    async def run(self) -> None:
        """Write until `stop`; then until everything queued is written."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keep())
            group.create_task(self._spool.run())
            await self._writer.run()
            self._spool.stop()

    async def _keep(self) -> None:
        await self._fulfilments.run()
        self._writer.stop()

    async def attend(self) -> None:
        """Ask for a ledger that is away until it is back, and bring it up to date; until `stop`."""
        await self._reconnect.run()

    def stop(self) -> None:
        """Let `run` end once everything queued is written, and `attend`."""
        self._fulfilments.stop()
        self._reconnect.stop()

    async def stopped(self) -> None:
        """Remember what was acknowledged, and the balances, for a start without the ledger.

        After the tasks have ended.

        Only when nothing is held or waits: else only the ledger knows.
        """
        await self._acknowledged.remember()
        books = self._chart.by_id.values()
        if (
            self.state not in (State.AVAILABLE, State.SPOOLING)
            or self._writer.depth
            or self._promises.has_overdue
            or any(book.is_held for book in books)
        ):
            return
        self._credit.withdraw_promises()
        await self._spool.end({book.account_id: book.posted for book in books})

    async def close(self) -> None:
        """Let go of the ledger."""
        await self._turn.close()

    # --- what is shown

    @property
    def state(self) -> State:
        """Whether new packets can be accounted for."""
        return self._availability.state

    @property
    def state_reason(self) -> str:
        """Why it is so; empty while all is well."""
        return self._availability.reason

    @property
    def ledger(self) -> Ledger:
        """Where the accounts are. For its kind; requests go through `in_turn`."""
        return self._turn.ledger

    @property
    def counters(self) -> AccountingCounters:
        """For metrics."""
        return self._reports.counters

    @property
    def peers(self) -> Mapping[str, PeerBooks]:
        """The accounts of peers, removed ones included."""
        return self._chart.peers

    @property
    def spooled(self) -> int:
        """Transfers in the outbox."""
        return self._spool.transfers

    def queue_depth(self) -> int:
        """Packets that wait to be written."""
        return self._writer.depth

    def own_book(self, code: AccountCode, asset: Asset) -> Book | None:
        """One of the node's own accounts."""
        return self._chart.find_own(code, asset)

    def books(self) -> Iterable[Book]:
        """All accounts of the node."""
        return self._chart.by_id.values()

    def take_moved(self, watched: bool) -> set[Book]:
        """Accounts whose balances have moved since the last call.

        They are noted only while somebody looks: `watched`, until the next call.
        """
        return self._mirror.take_moved(watched)

    # --- peers that come and go while the node runs

    async def add_peer(self, terms: PeerTerms) -> None:
        """Take up a peer: its accounts, what it owed before, and its credit.

        Raises:
            LedgerUnavailableError: no acknowledgement; it is not taken up.
            CreditInUseError: it owes more than its limit from before.
            ConnectorError: its asset and another one share a ledger number.
        """
        self._availability.require_up()
        chart, peer_id = self._chart, terms.peer_id
        former = chart.peers.get(peer_id)
        assert former is None or former.removed, peer_id
        if former is None or former.terms.asset != terms.asset:
            assert former is None or former.is_even, "its balance would be lost from sight"
            new = [*chart.add_asset(terms.asset), *chart.add_peer(terms, removed=True)]
            try:
                async with self._turn as ledger:
                    await self._acknowledged.require(ledger)
                    await chart.create(ledger, new)
                    await chart.load(ledger, self._mirror, new)
            except BaseException:
                chart.take_back_peer(peer_id, new, former)
                raise
        await self.set_credit_limit(peer_id, terms.credit_limit)
        books = chart.peers[peer_id]
        books.terms = terms
        books.removed = False

    def remove_peer(self, peer_id: str) -> None:
        """Let go of a peer. What is held for packets under way is still booked or given back."""
        self._chart.peers[peer_id].removed = True

    def forget_peer(self, peer_id: str) -> None:
        """Lose sight of a removed peer that owes nothing and is owed nothing."""
        self._chart.forget_peer(peer_id)

    async def set_credit_limit(self, peer_id: str, limit: int) -> None:
        """Let a peer owe us up to `limit`: the difference to what is granted is transferred.

        Raises:
            CreditInUseError: it already uses more than that.
            LedgerUnavailableError: no acknowledgement.
        """
        self._availability.require_up()
        await self._credit.set_limit(peer_id, limit)

    async def take_back_credit(self) -> None:
        """Lower what was granted above a limit, as far as it is free; called about every second."""
        await self._credit.take_back()

    # --- packets

    def new_packet_id(self) -> int:
        """An id for a packet: unique, rising, its low octet zero."""
        return self._ids.next(self._clock.now_ms())

    def reserve(
        self, token: Token, packet_id: int, sender_packet_id: int, asked: Reserve
    ) -> Outcome | Reservation:
        """Queue the reservation of a packet; `resume(token, outcome)` comes when it is booked.

        Returns the reservation, or why it was refused at once: then nothing was queued.
        """
        return self._writer.reserve(token, packet_id, sender_packet_id, asked)

    def post(self, token: Token, reservation: Reservation, expires_at_ms: int) -> None:
        """Make a reservation final; `resume(token, POSTED or RELEASED)` comes when it may be told.

        `expires_at_ms` is when the sender stops waiting: the budget ends before it.
        """
        self._writer.post(token, reservation, expires_at_ms)

    def keep_and_post(
        self, token: Token, reservation: Reservation, expires_at_ms: int, octets: bytes
    ) -> None:
        """As `post`, of a packet whose Fulfill, `octets`, could not be fetched again.

        The Fulfill is on disk before the post is queued. Whether it is needed is up to the caller:
        the sender may ask for the packet again, and whoever fulfilled it could not be asked.
        """
        self._fulfilments.keep_and_post(token, reservation, expires_at_ms, octets)

    @property
    def can_keep(self) -> bool:
        """Whether there is room for further Fulfills that could not be fetched again."""
        return self._fulfilments.has_room

    def void(self, reservation: Reservation) -> None:
        """Give a reservation back. Nobody is told."""
        self._writer.void(reservation)

    # --- resent packets

    @property
    def may_know_former(self) -> bool:
        """Whether the ledger may have packets that were taken by another process than this.

        Before this one was started, or beside it, where several share a node's accounts.
        """
        return self._recovery.may_know_former

    async def find_former(self, asked: Sequence[tuple[str, int]]) -> Sequence[tuple[str, int]]:
        """Ask the ledger whether it has packets, by their sources and the senders' ids of them.

        Returns those about which it has spoken: `take_recovered` knows now which of them it has.
        None of them while it is away, unless all are known since the start.
        """
        return await self._recovery.find(asked)

    def find_recovered(self, source_id: str, sender_packet_id: int) -> Recovered | None:
        """The packet that `take_recovered` would give for the right condition; it stays there."""
        return self._recovery.peek(source_id, sender_packet_id)

    def take_recovered(
        self, source_id: str, sender_packet_id: int, condition: bytes
    ) -> Recovered | None:
        """The packet that `source_id` sent under this id before we restarted; asked for once.

        Under another condition it is another packet: the proof that frees the money that is held
        would not fit it.
        """
        return self._recovery.take(source_id, sender_packet_id, condition)

    # --- looks and settlements

    async def in_turn(self, ask: Callable[[], Awaitable[T]]) -> T:
        """What `ask` answers: one request to the ledger that is for looking, between the others.

        Raises:
            LedgerUnavailableError: the ledger is away, or does not answer.
        """
        self._availability.require_up()
        async with self._turn:
            return await ask()

    def settlement_id(self, peer_id: str, *words: str) -> int:
        """The id of the transfer of a settlement with a peer, the same for the same words."""
        return self._settlements.id_of(peer_id, words)

    async def record_settlement(
        self,
        peer_id: str,
        transfer_id: int,
        amount: int,
        *,
        outgoing: bool,
        tag: int,
    ) -> Status:
        """Book what has moved outside; the same id again is booked once.

        Outgoing: debit the peer, credit its settlement account; incoming: the reverse. Returns
        CREATED, EXISTS, or why the ledger does not take it, for ever: then nothing has moved.

        Args:
            peer_id: whose accounts.
            transfer_id: the same for the same settlement.
            amount: in units of the peer's asset, above zero.
            outgoing: whether we pay.
            tag: 128 bits of the settlement's key, kept in the transfer.

        Raises:
            LedgerUnavailableError: no acknowledgement; try again with the same id.
        """
        return await self._settlements.record(
            peer_id, transfer_id, amount, outgoing=outgoing, tag=tag
        )

    async def pay_out(self, peer_id: str, transfer_id: int, payment: Payment) -> int:
        """Book a payment that is about to be made; the same id again is booked once.

        What may be paid is read in the same turn of the ledger, just before: what we owe the peer,
        less what is held for packets that it has sent. Returns the amount that is booked under this
        id. Zero: none, and the ledger has used up the id, so an earlier request under it whose
        answer was lost cannot take effect later.

        Raises:
            LedgerUnavailableError: no acknowledgement; try again with the same id.
        """
        return await self._settlements.pay_out(peer_id, transfer_id, payment)

    async def booked_settlements(self, transfer_ids: Sequence[int]) -> list[Transfer]:
        """The transfers of settlements that the ledger has among these ids, in their order.

        Raises:
            LedgerUnavailableError: no answer.
        """
        return await self._settlements.booked(transfer_ids)

    async def settleable(self, peer_id: str) -> tuple[int, int]:
        """What we owe a peer, and how much of it may be paid, as the ledger has it now.

        What is held for packets that the peer has sent may not be paid: it has paid that much if
        they are fulfilled. The mirror is ahead of the ledger; the lower figure of the two counts.

        Raises:
            LedgerUnavailableError: no answer.
        """
        return await self._settlements.settleable(peer_id)

    # --- time

    def tick(self) -> None:
        """Look at the clock: release posts whose budget is used up, open the breaker.

        Called some 20 times a second. An idle tick looks at a few empty containers.
        """
        now_ms = self._clock.now_ms()
        self._recovery.tick(now_ms)
        self._writer.tick(now_ms)
        self._promises.note_overdue(now_ms)
        self._reports.turn_done()

    async def release_late(self) -> None:
        """Put posts whose budget is used up into the outbox and let their Fulfills go."""
        await self._spool.release_overdue()

    async def expire(self) -> None:
        """Let the ledger's timeouts take effect while nothing else is asked of it."""
        await self._writer.expire()

    async def remember_acknowledged(self) -> None:
        """Remember in DATA_DIR what the ledger has acknowledged; called about once a second."""
        await self._acknowledged.remember()

    async def look_after_outbox(self) -> None:
        """See that the outbox is still there, and drop what it need not keep; every second or so."""
        await self._spool.look_after()
        await self._fulfilments.look_after()
