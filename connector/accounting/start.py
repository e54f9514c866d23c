"""First contact with the ledger: from `open` until all balances are known and agreed.

Used only until the start is over. If the ledger answers, that is before `open` returns. If it is
away and the outbox has all balances, packets are accepted meanwhile on the balances assumed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from connector.accounting.acknowledged import Acknowledged
from connector.accounting.availability import Availability, Phase
from connector.accounting.chart import Chart
from connector.accounting.credit import Credit
from connector.accounting.leaseholder import LeaseHolder
from connector.accounting.mirror import Mirror
from connector.accounting.recovery import Recovery
from connector.accounting.replay import Replay
from connector.accounting.reports import Reports
from connector.accounting.spool import Spool
from connector.accounting.turn import Turn
from connector.base.clock import Clock
from connector.base.errors import LedgerUnavailableError
from connector.ledger.interface import Ledger
from connector.ledger.model import IdGenerator, Memory, Posted
from connector.peering.model import PeerTerms

_NOTHING = Posted(0, 0)


class Start:
    """See the module."""

    def __init__(
        self,
        *,
        terms: Sequence[PeerTerms],
        turn: Turn,
        chart: Chart,
        mirror: Mirror,
        credit: Credit,
        acknowledged: Acknowledged,
        lease: LeaseHolder,
        ids: IdGenerator,
        recovery: Recovery,
        replay: Replay,
        spool: Spool,
        availability: Availability,
        reports: Reports,
        clock: Clock,
        on_other_disk: Callable[[], None] = lambda: None,
        grants: bool = True,
    ) -> None:
        """`terms`: the peers to be granted their credit, unless `grants` is false.

        The chart has all accounts already. `on_other_disk`: called when the ledger knows this node and
        DATA_DIR does not.
        """
        self._terms = terms if grants else ()
        self._turn = turn
        self._chart = chart
        self._mirror = mirror
        self._credit = credit
        self._acknowledged = acknowledged
        self._lease = lease
        self._ids = ids
        self._recovery = recovery
        self._replay = replay
        self._spool = spool
        self._availability = availability
        self._reports = reports
        self._clock = clock
        self._on_other_disk = on_other_disk
        self._is_new = False
        # The balances assumed for the ledger, after a start without it.
        self._assumed: dict[int, Posted] = {}
        self._is_compared = False
        # Requests of the outbox up to this one were written before this start.
        self._former_seq = 0

    async def open(self) -> None:
        """Reach the ledger, or start without it.

        Raises:
            LedgerLockedError, LedgerCorruptError, LedgerUnavailableError, LedgerRefusedError: see
                `Ledger.open`.
            LedgerBehindError: the ledger has less than it acknowledged.
            OtherIsActiveError: another process of this node has taken over.
            ConnectorError: an account cannot be created.
        """
        assert self._availability.phase is Phase.OPENING, self._availability.phase
        memory = await self._spool.begin()
        self._is_new = memory.is_new
        self._acknowledged.begin(memory)
        self._recovery.begin()
        try:
            await self._open_books(memory)
        except LedgerUnavailableError as error:
            if not self._turn.ledger.may_be_away:
                raise
            self._open_without(memory, str(error))

    async def reach(self) -> None:
        """Finish a start without the ledger; when this returns, the start is over.

        Raises:
            LedgerUnavailableError, LedgerRefusedError: the ledger does not serve us yet.
            LedgerBehindError: the ledger has less than it acknowledged.
        """
        if self._availability.phase is Phase.WAITING:
            await self._open_books(None)
        else:
            await self._agree()

    async def _open_ledger(self, ledger: Ledger) -> None:
        """Open the ledger, and check that it is the right one before anything is created in it."""
        await ledger.open()
        await self._acknowledged.compare(ledger)
        self._turn.compare_after_failures(self._acknowledged.require)
        await self._lease.take(ledger, is_running=self._availability.phase is not Phase.OPENING)
        self._ids.rise_above(await ledger.highest_id())

    async def _create(self, ledger: Ledger) -> int:
        """Create what accounts are missing; returns how many were there."""
        existed = await self._chart.create(ledger, self._chart.by_id.values())
        if existed and self._is_new:
            self._on_other_disk()
        return existed

    async def _open_books(self, memory: Memory | None) -> None:
        async with self._turn as ledger:
            await self._open_ledger(ledger)
            existed = await self._create(ledger)
        if not existed and not self._spool.transfers:
            # An outbox that is not empty has packets, whether or not the ledger does.
            self._recovery.no_earlier_packets()
        if existed and memory is not None and memory.is_new and self._turn.ledger.may_be_away:
            self._reports.alert(
                "outbox_is_new",
                {
                    "accounts": existed,
                    "detail": "the ledger knows this node, its DATA_DIR does not: what an outbox "
                    "held that is gone now was not booked",
                },
            )
        if self._spool.transfers:
            # Its holds were admitted under these limits.
            for peer in self._terms:
                await self._credit.raise_at_start(peer)
        await self._replay.book_all()
        async with self._turn as ledger:
            await self._chart.load(ledger, self._mirror, self._chart.by_id.values())
        for peer in self._terms:
            await self._credit.grant_at_start(peer)
        async with self._turn as ledger:
            await self._acknowledged.remember_all(ledger)
            # The last step: what it finds to be owed is queued, and can be written from now on.
            await self._recovery.load(ledger)
        self._availability.opened()

    def _open_without(self, memory: Memory, why: str) -> None:
        """Start while the ledger is away.

        After a clean stop, or at the very first start, all balances are known, and spooling can
        begin at once. After a crash it is not known what was held: treating resent packets as new
        ones would pay them twice, so no packet is accepted until the ledger answers.
        """
        spools = self._availability.spools
        if not spools or not (memory.is_new or memory.books is not None):
            if spools:
                why += "; this node did not stop cleanly, so only the ledger knows what is held"
            self._availability.blind(why)
            return
        assert not self._assumed, "started twice"
        books = memory.books or {}
        for book in self._chart.by_id.values():
            posted = books.get(book.account_id, _NOTHING)
            self._assumed[book.account_id] = posted
            self._mirror.set_posted(book, posted)
        for one in self._chart.peers.values():
            if not one.removed:
                self._credit.promise(one)
        self._former_seq = memory.last_seq
        assert len(self._assumed) == len(self._chart.by_id)
        self._availability.known(why, self._clock.monotonic_s())

    # --- after packets have been accepted

    async def _agree(self) -> None:
        assert self._availability.phase is not Phase.WAITING
        async with self._turn as ledger:
            await self._open_ledger(ledger)
            existed = await self._create(ledger)
        if not existed and not self._former_seq:
            self._recovery.no_earlier_packets()
        await self._keep_promises(may_lower=False)
        await self._replay.book_until(self._former_seq)
        if not self._is_compared:
            await self._compare()
            self._is_compared = True
        await self._keep_promises(may_lower=True)

    async def _compare(self) -> None:
        """Correct the mirror by the difference between the ledger and the balances assumed."""
        differing = 0
        async with self._turn as ledger:
            accounts = await self._chart.look_up(ledger, self._chart.by_id)
        for account in accounts:
            there, assumed = Posted(*account[2:5:2]), self._assumed[account.id]
            differing += there != assumed
            self._mirror.follow(self._chart.by_id[account.id], there, assumed)
            self._assumed[account.id] = there
        if differing:
            self._reports.alert("ledger_differs", {"accounts": differing})

    async def _keep_promises(self, *, may_lower: bool) -> None:
        """Grant in the ledger what the mirror has granted.

        Credit is raised before the outbox is replayed, whose holds rely on it; lowered afterwards.
        """
        for books in list(self._chart.peers.values()):
            if books.removed:
                self._credit.withdraw_promise(books.terms.peer_id)
            else:
                line, peer = books.credit_line.account_id, books.peer.account_id
                self._assumed[line], self._assumed[peer] = await self._credit.keep_promise(
                    books, self._assumed[line], self._assumed[peer], may_lower=may_lower
                )
