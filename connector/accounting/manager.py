"""Turns reserve, post and void into ledger requests, also through outages.

`AccountManager` is the façade of the package: it joins the parts and delegates each call to the
part responsible for it. The package's docstring lists the responsibilities.

Long because every operation of the package has its documented method here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Final, TypeVar

from connector.accounting.acknowledged import Acknowledged
from connector.accounting.availability import Availability, Phase, State
from connector.accounting.chart import Chart
from connector.accounting.credit import Credit
from connector.accounting.entries import Reserve
from connector.accounting.fulfilments import Fulfilments
from connector.accounting.leaseholder import LeaseHolder, LeaseTerms
from connector.accounting.mirror import Book, Mirror, PeerBooks
from connector.accounting.own import Claim, OwnPacket, OwnPayments
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
        relays_early: bool = False,
        lease: LeaseTerms | None = None,
    ) -> None:
        """Nothing is opened yet.

        Args:
            node_id: the owner of the accounts.
            ledger: keeps the accounts.
            clock: for holds, budgets and deadlines.
            ids: for packets.
            outbox: for what the ledger has not acknowledged; opened and closed by the caller.
            on_state: called at each change of state, with the reason.
            on_alert: called with a log event and its fields that an operator should see.
            on_request: called with the seconds that a request of the writer took and its number of
                transfers.
            timeout_ms: how long the ledger may leave a request without an answer.
            spool_transfers_max: room in the outbox for new packets while the ledger is away, in
                transfers; 0: they are rejected.
            keeps_history: whether accounts of peers that are created from now on keep their past
                balances in the ledger.
            accept_ledger_loss: accept a ledger that has less than it acknowledged.
            relays_early: whether a Fulfill that could be fetched again is relayed when it is on disk,
                not when its post is booked; see `fulfilments`.
            lease: how this process becomes the active one of its node; None: no other process can
                use the ledger.
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
        self._outbox = outbox
        self._spool = spool = Spool(
            outbox=outbox, promises=promises, reports=reports, transfers_max=spool_transfers_max
        )
        self._credit = credit = Credit(
            turn=turn, chart=chart, mirror=mirror, availability=availability, reports=reports
        )
        self._lease = holder = LeaseHolder(
            node_id=node_id,
            turn=turn,
            availability=availability,
            reports=reports,
            clock=clock,
            terms=lease,
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
        self._own_payments = OwnPayments(turn=turn, chart=chart, availability=availability)
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
            lease=holder,
            availability=availability,
            reports=reports,
            clock=clock,
            # The ledger enforces its own deadline first; requests that wait can be spooled then.
            patience_ms=timeout_ms + (timeout_ms // 4 if spools else 0),
        )
        self._fulfilments = Fulfilments(
            ledger=ledger,
            store=outbox,
            posts=writer,
            reports=reports,
            clock=clock,
            promises=promises,
            is_watched=lambda: holder.is_watched,
            is_up=lambda: availability.is_up,
        )
        self._relays_early: Final = relays_early and self._fulfilments.may_relay_early
        self._recovery = Recovery(
            turn=turn,
            chart=chart,
            mirror=mirror,
            availability=availability,
            fulfilments=self._fulfilments,
            reports=reports,
            clock=clock,
            post=writer.post_unasked,
            unacknowledged=lambda: {one.packet_id for one in writer.unacknowledged()},
            is_shared=lambda: reconciler.is_shared,
        )
        self._replay = Replay(
            turn=turn,
            chart=chart,
            credit=credit,
            acknowledged=acknowledged,
            lease=holder,
            spool=spool,
            promises=promises,
            availability=availability,
            reports=reports,
            is_stopping=lambda: writer.is_stopping,
        )
        self._reconnect = Reconnect(
            turn=turn,
            acknowledged=acknowledged,
            lease=holder,
            availability=availability,
            replay=self._replay,
            reports=reports,
            wanted=wanted,
        )

    def attach(
        self, resume: Callable[[Token, Outcome], None], turn_done: Callable[[], None]
    ) -> None:
        """Set the callbacks for outcomes, and for the end of the outcomes of one request."""
        self._reports.resume = resume
        self._reports.turn_done = turn_done

    # --- lifecycle

    async def open(
        self,
        peers: Iterable[PeerTerms],
        assets: Iterable[Asset],
        former: Iterable[PeerTerms] = (),
        *,
        grants: bool = True,
        wallets: Mapping[str, Asset] | None = None,
    ) -> None:
        """Open the ledger, create what is missing, load the mirror, replay the outbox.

        `former` are peers without terms that may still have a balance. If the ledger is away and may
        come back, `reconnect` does all this. `grants`: whether credit is granted as configured
        here; not where another process is active. `wallets`: those that can be paid by name.

        Raises:
            LedgerLockedError, LedgerCorruptError, LedgerUnavailableError, LedgerRefusedError: see
                `Ledger.open`.
            OtherIsActiveError: another process of this node has taken over.
            ConnectorError: two assets share a ledger number.
        """
        terms, gone = list(peers), list(former)
        for asset in (*assets, *(peer.asset for peer in (*terms, *gone))):
            self._chart.add_asset(asset)
        for peer in terms:
            self._chart.add_peer(peer)
        for peer in gone:
            self._chart.add_peer(peer, removed=True)
        for name, asset in (wallets or {}).items():
            self._chart.add_asset(asset)
            self._chart.add_wallets([name], asset)
        start = Start(
            terms=terms,
            turn=self._turn,
            chart=self._chart,
            mirror=self._mirror,
            credit=self._credit,
            acknowledged=self._acknowledged,
            lease=self._lease,
            ids=self._ids,
            recovery=self._recovery,
            replay=self._replay,
            spool=self._spool,
            availability=self._availability,
            reports=self._reports,
            clock=self._clock,
            on_other_disk=self._fulfilments.other_disk,
            grants=grants,
        )
        await start.open()
        if not self._availability.is_up:
            self._reconnect.finish_later(start)

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

    async def reconnect(self) -> None:
        """Poll a ledger that is away until it is back, and replay the outbox; until `stop`."""
        await self._reconnect.run()

    def stop(self) -> None:
        """Let `reconnect` end, and `run` once everything queued is written."""
        self._fulfilments.stop()
        self._reconnect.stop()

    async def save_clean_stop(self) -> None:
        """Save what was acknowledged, and the balances, for a start without the ledger.

        Call it after the tasks have ended.

        Only when nothing is held or waits: else only the ledger knows.
        """
        self._reports.flush()
        await self._acknowledged.remember()
        await self._lease.end()
        if self._lease.is_superseded or self._lease.is_watched:
            return  # others book from here on: what the balances are then only the ledger knows
        books = self._chart.by_id.values()
        if (
            self.state not in (State.AVAILABLE, State.SPOOLING)
            or self._writer.depth
            or len(self._promises)
            or any(book.is_held for book in books)
        ):
            return
        self._credit.withdraw_promises()
        await self._spool.end({book.account_id: book.posted for book in books})

    async def close(self) -> None:
        """Close the ledger."""
        await self._turn.close()

    # --- status

    @property
    def state(self) -> State:
        """Whether new packets can be accounted for."""
        return self._availability.state

    @property
    def state_reason(self) -> str:
        """The reason of the state; empty while the ledger is available."""
        return self._availability.reason

    @property
    def knows_holds(self) -> bool:
        """Whether this process knows what is held. After a crash it does not until the ledger answers."""
        return self._availability.phase not in (Phase.OPENING, Phase.WAITING)

    @property
    def generation(self) -> int:
        """Of the claim by which this process is the active one of its node; zero: there is none."""
        return self._lease.generation

    @property
    def is_superseded(self) -> bool:
        """Whether another process of this node has taken over."""
        return self._lease.is_superseded

    @property
    def ledger(self) -> Ledger:
        """The ledger, for its properties; requests go through `in_turn`."""
        return self._turn.ledger

    @property
    def waits_for_commits(self) -> dict[str, bool]:
        """By name of a file, `ledger` or `outbox`: whether the event loop waits for its commits at present."""
        found = {"ledger": self.ledger.waits_for_commits, "outbox": self._outbox.waits_for_commits}
        return {name: waits for name, waits in found.items() if waits is not None}

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

    @property
    def undurable(self) -> int:
        """Posts that are neither in the ledger nor in the outbox yet."""
        return len(self._promises)

    def queue_depth(self) -> int:
        """Packets that wait to be written."""
        return self._writer.depth

    @property
    def wallets(self) -> Mapping[str, Book]:
        """The accounts of those that can be paid here, by name."""
        return self._chart.wallets

    def own_book(self, code: AccountCode, asset: Asset) -> Book | None:
        """One of the node's own accounts."""
        return self._chart.find_own(code, asset)

    def books(self) -> Iterable[Book]:
        """All accounts of the node."""
        return self._chart.by_id.values()

    def take_moved(self, watched: bool) -> set[Book]:
        """Accounts whose balances have changed since the last call.

        Changes are recorded only after a call with `watched`, until the next call.
        """
        return self._mirror.take_moved(watched)

    # --- peers added and removed while the node runs

    async def add_peer(self, terms: PeerTerms) -> None:
        """Add a peer: its accounts, its balance from before, and its credit.

        Raises:
            LedgerUnavailableError: no acknowledgement; it is not added.
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
        """Remove a peer. What is held for packets in flight is still posted or voided."""
        self._chart.peers[peer_id].removed = True

    def forget_peer(self, peer_id: str) -> None:
        """Drop a removed peer whose balance is zero and for which nothing is held."""
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
        """Lower credit above a limit as far as it is unused; called about once a second."""
        await self._credit.take_back()

    # --- packets

    def new_packet_id(self, now_ms: int = 0) -> int:
        """An id for a packet: unique, rising, its low octet zero.

        `now_ms`: the time, if the caller has just read it; zero: it is read.
        """
        return self._ids.next(now_ms or self._clock.now_ms())

    def reserve(
        self, token: Token, packet_id: int, sender_packet_id: int, asked: Reserve
    ) -> Outcome | Reservation:
        """Queue the reservation of a packet; `resume(token, outcome)` is called when it is booked.

        Returns the reservation, or the reason of an immediate refusal: then nothing was queued.
        """
        return self._writer.reserve(token, packet_id, sender_packet_id, asked)

    def would_hold(self, asked: Reserve) -> Outcome:
        """What `reserve` would come to now: `HELD`, or why not. Nothing is queued."""
        return self._writer.would_hold(asked)

    def post(
        self, token: Token, reservation: Reservation, expires_at_ms: int, octets: bytes = b""
    ) -> None:
        """Make a reservation final; then `resume(token, POSTED or RELEASED)` is called.

        `expires_at_ms` is when the sender stops waiting: the budget ends before it. `octets`: its
        Fulfill, which may be relayed when it is on disk.
        """
        if self._relays_early and octets:
            self._fulfilments.post_early(token, reservation, expires_at_ms, octets)
        else:
            self._writer.post(token, reservation, expires_at_ms)

    def keep_and_post(
        self, token: Token, reservation: Reservation, expires_at_ms: int, octets: bytes
    ) -> None:
        """As `post`, of a packet whose Fulfill, `octets`, could not be fetched again.

        The Fulfill is durable no later than the post. The caller decides whether that is needed:
        the sender may resend the packet, and its Fulfill could not be fetched again.
        """
        self._fulfilments.keep_and_post(token, reservation, expires_at_ms, octets)

    @property
    def can_keep(self) -> bool:
        """Whether there is room for further Fulfills that could not be fetched again."""
        return self._fulfilments.has_room

    def void(self, reservation: Reservation) -> None:
        """Release a reservation. There is no callback."""
        self._writer.void(reservation)

    # --- resent packets

    @property
    def may_know_former(self) -> bool:
        """Whether the ledger may have packets that another process accepted.

        Before this one was started, or beside it where several share a node's accounts.
        """
        return self._recovery.may_know_former

    async def find_former(self, asked: Sequence[tuple[str, int]]) -> Sequence[tuple[str, int]]:
        """Look up packets in the ledger by their sources and their senders' packet ids.

        Returns those that were looked up: `take_recovered` has them now if the ledger does.
        Returns none while the ledger is away, unless all are known since the start.
        """
        return await self._recovery.find(asked)

    def find_recovered(self, source_id: str, sender_packet_id: int) -> Recovered | None:
        """The packet that `take_recovered` would return for the right condition; it is kept."""
        return self._recovery.peek(source_id, sender_packet_id)

    def take_recovered(
        self, source_id: str, sender_packet_id: int, condition: bytes
    ) -> Recovered | None:
        """Remove and return the packet that `source_id` sent under this id before we restarted.

        With another condition it is another packet: its fulfillment could not release the money
        that is held.
        """
        return self._recovery.take(source_id, sender_packet_id, condition)

    async def keep_answers(
        self, next_hop_id: str, answer_of: Callable[[str, int], bytes | None]
    ) -> int:
        """Keep the Fulfills of packets whose next hop is being removed; returns how many.

        It could be asked for them until now. `answer_of`: the answer that is still in memory, by
        source and the sender's packet id.

        Raises:
            LedgerUnavailableError: the ledger does not answer, or the disk refuses.
        """
        self._availability.require_up()
        return await self._recovery.keep_answers(next_hop_id, answer_of)

    # --- payments of this node

    async def claim_payment(self, claim: Claim) -> bool:
        """Have an attempt at a payment of this node claimed, once for all processes of the node.

        Whether it is ours: false where it was claimed before under another tag. See `own`.

        Raises:
            LedgerUnavailableError: no acknowledgement; ask again with the same arguments.
        """
        return await self._own_payments.claim(claim)

    async def own_packets(
        self, claim: Claim, packet_ids: Sequence[int], asset: Asset
    ) -> list[OwnPacket] | None:
        """What the ledger has of packets that this node has sent from its own account.

        None: it does not know the attempt, so that it has none of them says nothing.

        Args:
            claim: of the attempt that they belong to.
            packet_ids: as given to `reserve` as the sender's packet ids.
            asset: of the account.

        Raises:
            LedgerUnavailableError: no answer.
        """
        now_ms = self._recovery.ledger_ms
        return await self._own_payments.packets(claim, packet_ids, asset, now_ms)

    # --- queries and settlements

    async def in_turn(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Run `ask`, one read-only request to the ledger, between the others; returns its result.

        Raises:
            LedgerUnavailableError: the ledger is away, or does not answer.
        """
        self._availability.require_up()
        async with self._turn:
            return await ask()

    def settlement_id(self, peer_id: str, *words: str) -> int:
        """The id of the transfer of a settlement with a peer, derived from its arguments."""
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
        """Book a payment that was made outside; idempotent by its id.

        Outgoing: debit the peer, credit its settlement account; incoming: the reverse. Returns
        CREATED, EXISTS, or the status of a permanent refusal: then nothing was booked.

        Args:
            peer_id: the peer.
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
        """Book a payment before it is made; idempotent by its id.

        What may be paid is read in the same turn of the ledger: what we owe the peer, less what is
        held for packets that it has sent. Returns the amount that is booked under this id. Zero:
        none, and the id is used up in the ledger, so an earlier request under it whose answer was
        lost cannot take effect later.

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
        """Time-driven work: overdue posts, a ledger that does not answer, old holds, alerts.

        Called about 50 times a second. An idle tick only checks a few empty containers.
        """
        now_ms = self._clock.now_ms()
        self._recovery.tick(now_ms)
        self._writer.tick(now_ms)
        self._spool.tick(now_ms)
        # After that: its posts have until the next tick to be acknowledged.
        self._fulfilments.tick(now_ms)
        self._reports.tick(now_ms)
        self._reports.turn_done()

    async def expire(self) -> None:
        """Let the ledger's timeouts take effect while no other request is sent."""
        await self._writer.expire()

    async def keep_lease(self) -> None:
        """See whether another process has taken over; called every LEASE_LOOK_SECONDS."""
        await self._lease.keep()

    def stood_still(self) -> None:
        """The process stood still: no money is held until `may_go_on` gives True."""
        self._lease.doubt()

    async def may_go_on(self) -> bool | None:
        """Whether this process is still the active one, after it stood still.

        None: the ledger does not answer, and a standby may have taken over; ask again.
        """
        return await self._lease.may_go_on()

    async def remember_acknowledged(self) -> None:
        """Save in DATA_DIR what the ledger has acknowledged; called about once a second."""
        await self._acknowledged.remember()

    async def maintain_outbox(self) -> None:
        """Check that the outbox's file exists, and prune it; called about once a second."""
        await self._spool.maintain()
        if self.knows_holds:
            # Before that a kept Fulfill may be all that says that a packet is owed.
            await self._fulfilments.maintain()
