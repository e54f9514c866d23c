"""The one who writes the books.

The switch says *reserve*, *post* or *void*; the `AccountManager` turns it into transfers, and its
writer hands them to the ledger: one request in flight, everything that gathered meanwhile in the
next one, resolutions before reservations, the legs of a packet never apart. No timer flushes
anything: an idle ledger is asked at once, a busy one gets full requests.

The manager also keeps a *mirror* of all balances as they will be when the queue is written:
telemetry and admission read it and cost the ledger nothing. At rest it equals the ledger (audit).

A Fulfill is money that we owe already, so it must not wait for a slow ledger: when the post is not
acknowledged within its budget, it is put into the durable outbox, the Fulfill is passed on, and
the post is retried under the same id until it is booked; at the next start if need be.

While the ledger is away there are two ways (`ACCOUNTING_OUTAGE_POLICY`). *Reject*: no new packet is
taken, and what is to be resolved waits. *Spool*: the mirror decides what a peer may still send, and
requests go into the outbox instead of the ledger; `attend` asks for the ledger meanwhile and, when
it is back, replays them in their order and hands it back to the writer.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final, NamedTuple, Protocol, TypeVar

from connector.accounting import bounds
from connector.accounting.books import (
    Book,
    Outcome,
    PeerBooks,
    Recovered,
    Reservation,
    Reserve,
    Token,
    chains,
    condition_tag,
    correcting_transfers,
    grant_transfer,
    is_booked,
    resolutions,
    with_legs,
)
from connector.accounting.recovery import FormerPacket, former_packets, recovered
from connector.base import limits
from connector.base.clock import Clock
from connector.base.errors import (
    ConnectorError,
    CreditInUseError,
    LedgerRefusedError,
    LedgerUnavailableError,
)
from connector.ledger.interface import Ledger
from connector.ledger.model import (
    ACCOUNT_DEBITS_MUST_NOT_EXCEED_CREDITS,
    ACCOUNT_HISTORY,
    DONE,
    LINKED,
    PENDING,
    PHASE_RESOLVE,
    POST,
    TAG_BITS,
    VOID,
    Account,
    AccountCode,
    AccountStatus,
    IdGenerator,
    Memory,
    Posted,
    Status,
    Transfer,
    TransferCode,
    asset_ledger,
    make_transfer,
    node_tag,
    peer_tag,
)
from connector.peering.model import LOCAL, Asset, PeerTerms

T = TypeVar("T")


class State(Enum):
    """Whether new packets can be accounted for."""

    UNAVAILABLE = "unavailable"
    """The balances are not known: before the ledger has been heard for the first time."""
    AVAILABLE = "available"
    SPOOLING = "spooling"
    """The ledger is away, its outbox takes its place."""
    REJECTING = "rejecting"
    """The ledger is away, and so is what could take its place."""


class Outbox(Protocol):
    """Durable memory of what was promised but not acknowledged: requests, in order."""

    @property
    def transfers(self) -> int:
        """How many are in it."""

    async def add(self, transfers: list[Transfer]) -> int:
        """On disk when this returns its number, which rises."""

    async def remove(self, seqs: list[int]) -> None:
        """Forget requests that the ledger has acknowledged."""

    async def load(self, after_seq: int, transfers_max: int) -> list[tuple[int, list[Transfer]]]:
        """The oldest after `after_seq`, as many as fit in `transfers_max`, and one at least."""

    async def restore(self) -> bool:
        """Whether it had been taken away from under us, and is there again."""

    async def begin(self) -> Memory:
        """What is known of the time before; from now on the node has not stopped cleanly."""

    async def end(self, books: Mapping[int, Posted]) -> None:
        """The node stops cleanly, with these balances."""


class _Move(NamedTuple):
    """One leg before it has an id."""

    debit: Book
    credit: Book
    amount: int
    code: TransferCode


_Entry = tuple[Token, Reservation, list[Transfer]]


@dataclass(slots=True)
class AccountingCounters:
    """Plain integers for metrics."""

    requests: int = 0
    events: int = 0
    corrections: int = 0
    released: int = 0
    reconciled: int = 0
    """Accounts whose mirror was brought up to what another process did."""
    spooled: int = 0
    """Transfers that went into the outbox in place of the ledger."""
    refused_unexpectedly: int = 0


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
        """
        self.node_id: Final = node_id
        self.ledger: Final = ledger
        self.counters: Final = AccountingCounters()
        self.peers: Final[dict[str, PeerBooks]] = {}
        self.state = State.UNAVAILABLE
        self.state_reason = "starting"
        self._clock = clock
        self._ids = ids
        self._outbox = outbox
        self._resume: Callable[[Token, Outcome], None] = lambda _token, _outcome: None
        self._turn_done: Callable[[], None] = lambda: None
        self._on_state = on_state
        self._on_alert = on_alert
        self._on_request = on_request
        self._timeout_ms = timeout_ms
        self._own_books: dict[tuple[AccountCode, Asset], Book] = {}
        self._books_by_id: dict[int, Book] = {}
        self._recovered: dict[tuple[str, int], Recovered] = {}
        self._former_until_ms = 0
        self._orphans: dict[int, tuple[int, Reservation]] = {}
        self._reserves: deque[_Entry] = deque()
        self._resolves: deque[_Entry] = deque()
        self._unposted: dict[int, Reservation] = {}
        self._late: dict[int, list[Reservation]] = {}
        # Booked, but a fault kept them in the outbox: no more than it holds.
        self._booked_seqs: list[int] = []
        self._to_outbox: list[Reservation] = []
        self._taken: list[_Entry] = []
        self._wake = asyncio.Event()
        self._idle = False
        self._spool_transfers_max = spool_transfers_max
        self._keeps_history = keeps_history
        self._terms: list[PeerTerms] = []
        self._met = False
        # Requests up to here have been replayed; what came before this life ends at the second.
        self._replayed_seq = 0
        self._former_seq = 0
        self._assumed: dict[int, Posted] = {}
        self._compared = False
        self._promised_credit: dict[str, int] = {}
        # Granted beyond the limit: by corrections, and where a lowered limit was in use.
        self._lent: dict[str, int] = {}
        self._outbox_is_lost = False
        self._reconcile_at_s = clock.monotonic_s() + bounds.RECONCILE_SECONDS
        self._is_shared = False
        self._away = False
        self._attention = asyncio.Event()
        self._left_at_s = -1e9
        self._ask_again_s = bounds.LEDGER_ASK_AGAIN_SECONDS_MIN
        self._spool_lock = asyncio.Lock()
        self._may_spool = asyncio.Event()
        self._may_spool.set()
        # The writer, a changed limit and the expiry of holds take turns: one request is out at a
        # time (see `Ledger`).
        self._one_at_a_time = asyncio.Lock()
        self._stopping = False
        self._request_began_ms: int | None = None

    def attach(
        self, resume: Callable[[Token, Outcome], None], turn_done: Callable[[], None]
    ) -> None:
        """Who is told outcomes, and what is called when all of a request have been told."""
        self._resume = resume
        self._turn_done = turn_done

    # --- opening

    async def open(
        self,
        peers: Iterable[PeerTerms],
        assets: Iterable[Asset],
        former: Iterable[PeerTerms] = (),
    ) -> None:
        """Open the ledger, create what is missing, load the mirror, replay the outbox.

        `former` are peers that we have no terms with any more, but perhaps a balance. When the ledger
        is away, and may come back, all this is left to `attend`: see `_open_without`.

        Raises:
            LedgerLockedError, LedgerCorruptError, LedgerUnavailableError, LedgerRefusedError: see
                `Ledger.open`.
            ConnectorError: two assets share a ledger number.
        """
        self._terms = list(peers)
        gone = list(former)
        for asset in (*assets, *(peer.asset for peer in (*self._terms, *gone))):
            self._add_own_books(asset)
        for peer in self._terms:
            self._add_books(peer)
        for peer in gone:
            self._add_books(peer, removed=True)
        memory = await self._outbox.begin()
        self._former_until_ms = self._clock.now_ms() + limits.FORMER_PACKETS_MS
        try:
            await self._open_books(memory)
        except LedgerUnavailableError as error:
            if not self.ledger.may_be_away:
                raise
            await self._open_without(memory, str(error))

    async def _open_books(self, memory: Memory | None) -> None:
        await self.ledger.open()
        existed = await self._create_accounts(self._books_by_id.values())
        if not existed:
            self._former_until_ms = 0  # nobody has kept these books before
        if existed and memory is not None and memory.is_new and self.ledger.may_be_away:
            self._on_alert(
                "outbox_is_new",
                {
                    "accounts": existed,
                    "detail": "the ledger knows this node, its DATA_DIR does not: what an outbox "
                    "held that is gone now was not booked",
                },
            )
        await self._replay_all(adjust=False)
        await self._load_balances()
        for peer in self._terms:
            await self._grant_at_start(peer)
        await self._recover()
        self._met = True
        self._set_state(State.AVAILABLE, "")

    async def _open_without(self, memory: Memory, why: str) -> None:
        """Start while the ledger is away.

        After a clean stop, or for the first time, all balances are known, and spooling can begin
        at once. After a crash it is not known what was held: taking packets that a neighbour sends
        again for new ones would pay them twice, so nothing is taken until the ledger is there.
        """
        knows = memory.is_new or memory.books is not None
        if not self._spool_transfers_max or not knows:
            if self._spool_transfers_max:
                why += "; this node did not stop cleanly, so only the ledger knows what is held"
            self.state_reason = why
            self._on_state(State.UNAVAILABLE, why)
            self._be_away()
            return
        books = memory.books or {}
        for book in self._books_by_id.values():
            posted = books.get(book.account_id, Posted(0, 0))
            self._assumed[book.account_id] = posted
            book.debits_posted, book.credits_posted = posted
        for one in self.peers.values():
            if one.removed:
                continue
            wanted = one.terms.credit_limit - one.granted
            promised = max(wanted, -max(0, one.available_credit))
            self._promised_credit[one.terms.peer_id] = promised
            one.move_credit(promised)
        self._former_seq = memory.last_seq
        self._leave(why)

    def _add_own_books(self, asset: Asset) -> list[Book]:
        """The node's own accounts in an asset; those that are new."""
        if (AccountCode.WALLET, asset) in self._own_books:
            return []
        number = asset_ledger(asset.code, asset.scale)
        for (_, other), book in self._own_books.items():
            if book.ledger == number:
                raise ConnectorError(f"assets {other} and {asset} share a ledger number")
        books = []
        for code in (AccountCode.REVENUE, AccountCode.EXCHANGE, AccountCode.WALLET):
            book = Book(self.node_id, code, LOCAL, asset)
            self._own_books[code, asset] = book
            self._books_by_id[book.account_id] = book
            books.append(book)
        return books

    def _add_books(self, terms: PeerTerms, *, removed: bool = False) -> list[Book]:
        codes = (AccountCode.PEER, AccountCode.CREDIT_LINE, AccountCode.SETTLEMENT)
        books = [Book(self.node_id, code, terms.peer_id, terms.asset) for code in codes]
        self.peers[terms.peer_id] = PeerBooks(terms, books[0], books[1], books[2], removed)
        self._books_by_id.update((book.account_id, book) for book in books)
        return books

    # --- peers that come and go while the node runs

    async def add_peer(self, terms: PeerTerms) -> None:
        """Take up a peer: its accounts, what it owed before, and its credit.

        Raises:
            LedgerUnavailableError: no acknowledgement; it is not taken up.
            CreditInUseError: it owes more than its limit from before.
            ConnectorError: its asset and another one share a ledger number.
        """
        self._must_be_there()
        former = self.peers.get(terms.peer_id)
        assert former is None or former.removed, terms.peer_id
        if former is None or former.terms.asset != terms.asset:
            assert former is None or former.is_even, "its balance would be lost from sight"
            new = [*self._add_own_books(terms.asset), *self._add_books(terms, removed=True)]
            try:
                async with self._one_at_a_time:
                    await self._create_accounts(new)
                    for account in await self._look_up(book.account_id for book in new):
                        self._books_by_id[account.id].load(account)
            except BaseException:
                for book in new:
                    del self._books_by_id[book.account_id]
                    self._own_books.pop((book.code, book.asset), None)
                del self.peers[terms.peer_id]
                if former is not None:
                    self.peers[terms.peer_id] = former
                raise
        await self.set_credit_limit(terms.peer_id, terms.credit_limit)
        books = self.peers[terms.peer_id]
        books.terms = terms
        books.removed = False

    def remove_peer(self, peer_id: str) -> None:
        """Let go of a peer. What is held for packets under way is still booked or given back."""
        self.peers[peer_id].removed = True

    def forget_peer(self, peer_id: str) -> None:
        """Lose sight of a removed peer that owes nothing and is owed nothing."""
        books = self.peers[peer_id]
        assert books.removed, peer_id
        assert books.is_even, peer_id
        del self.peers[peer_id]
        for book in (books.peer, books.credit_line, books.settlement):
            del self._books_by_id[book.account_id]

    def _must_be_there(self) -> None:
        if self.state is not State.AVAILABLE:
            raise LedgerUnavailableError(f"the ledger is away: {self.state_reason}")

    # --- opening, continued

    async def _create_accounts(self, books: Iterable[Book]) -> int:
        """Create those that are missing; returns how many were there."""
        accounts = [
            Account(
                id=book.account_id,
                user_data_128=node_tag(self.node_id),
                user_data_64=peer_tag(book.peer_id),
                user_data_32=book.code,
                ledger=book.ledger,
                code=book.code,
                flags=self._flags_of(book),
            )
            for book in books
        ]
        existed = 0
        for at in range(0, len(accounts), self.ledger.batch_transfers_max):
            part = accounts[at : at + self.ledger.batch_transfers_max]
            statuses = await self.ledger.create_accounts(part)
            differing: list[Account] = []
            for account, status in zip(part, statuses, strict=True):
                if status is AccountStatus.EXISTS_WITH_DIFFERENT_FLAGS:
                    differing.append(account)
                elif status not in (AccountStatus.CREATED, AccountStatus.EXISTS):
                    raise _cannot_be_created(account, status)
                existed += status is not AccountStatus.CREATED
            await self._differ_in_history_only(differing)
        return existed

    def _flags_of(self, book: Book) -> int:
        flags = ACCOUNT_DEBITS_MUST_NOT_EXCEED_CREDITS if book.code is AccountCode.PEER else 0
        # What was granted must be known of the same moments (`PeerBooks`).
        if self._keeps_history and book.code in (AccountCode.PEER, AccountCode.CREDIT_LINE):
            flags |= ACCOUNT_HISTORY
        return flags

    async def _differ_in_history_only(self, accounts: list[Account]) -> None:
        """See that they are as wanted but for the history: that was decided when they were made.

        The status names the first difference only, so all else is compared here.
        """
        if not accounts:
            return
        found = {account.id: account for account in await self._look_up(a.id for a in accounts)}
        for account in accounts:
            there = found[account.id]
            as_wanted = account._replace(flags=account.flags ^ ACCOUNT_HISTORY)
            if there[5:11] != as_wanted[5:11]:
                raise _cannot_be_created(account, AccountStatus.EXISTS_WITH_DIFFERENT_FLAGS)

    async def _load_balances(self) -> None:
        for account in await self._look_up(self._books_by_id):
            self._books_by_id[account.id].load(account)

    async def _look_up(self, account_ids: Iterable[int]) -> list[Account]:
        ids = list(account_ids)
        found: list[Account] = []
        for at in range(0, len(ids), self.ledger.batch_transfers_max):
            found += await self.ledger.lookup_accounts(
                ids[at : at + self.ledger.batch_transfers_max]
            )
        return found

    async def _grant_at_start(self, terms: PeerTerms) -> None:
        try:
            await self.set_credit_limit(terms.peer_id, terms.credit_limit)
        except CreditInUseError:
            books = self.peers[terms.peer_id]
            free = max(0, books.available_credit)
            with contextlib.suppress(CreditInUseError):
                least = max(terms.credit_limit, books.granted - free)
                await self.set_credit_limit(terms.peer_id, least)
            self._lend(books)

    def _lend(self, books: PeerBooks) -> None:
        """Leave it the credit that it uses; `take_back_credit` lowers it as the peer pays."""
        self._lent[books.terms.peer_id] = books.granted - books.terms.credit_limit
        self._on_alert(
            "credit_limit_in_use",
            {
                "peerId": books.terms.peer_id,
                "configured": str(books.terms.credit_limit),
                "granted": str(books.granted),
            },
        )

    async def set_credit_limit(self, peer_id: str, limit: int) -> None:
        """Let a peer owe us up to `limit`: the difference to what is granted is transferred.

        Raises:
            CreditInUseError: it already uses more than that.
            LedgerUnavailableError: no acknowledgement.
        """
        if self._met and self.state is not State.AVAILABLE:
            raise LedgerUnavailableError(f"the ledger is away: {self.state_reason}")
        books = self.peers[peer_id]
        change = limit - books.granted
        if change:
            await self._grant(books, change)
        if books.granted > limit:
            self._lent[peer_id] = books.granted - limit  # a correction came meanwhile
        else:
            self._lent.pop(peer_id, None)

    async def take_back_credit(self) -> None:
        """Lower what was granted beyond a limit, as far as it is free; called every second or so."""
        for peer_id, lent in list(self._lent.items()):
            books = self.peers.get(peer_id)
            if books is None or books.removed:
                del self._lent[peer_id]
                continue
            free = min(lent, books.available_credit)
            if free <= 0 or self.state is not State.AVAILABLE:
                continue
            try:
                await self._grant(books, -free)
            except CreditInUseError:
                continue  # it has sent packets meanwhile
            except (LedgerUnavailableError, LedgerRefusedError):
                # It may have been done, and must not be done twice: the next start sees to it.
                self._lent.pop(peer_id, None)
                continue
            left = self._lent.pop(peer_id, 0) - free
            if left > 0:
                self._lent[peer_id] = left

    async def _grant(self, books: PeerBooks, change: int) -> None:
        """Book a change of the credit granted to a peer, in the ledger and in the mirror.

        The id follows from the balances that it changes: two processes that share the accounts of
        a node, and start together, grant once.
        """
        line, peer = books.credit_line, books.peer
        transfer = grant_transfer(
            books,
            change,
            (
                Posted(line.debits_posted, line.credits_posted),
                Posted(peer.debits_posted + peer.debits_pending, peer.credits_posted),
            ),
        )
        async with self._one_at_a_time:
            status = (await self.ledger.create_transfers([transfer]))[0]
        if status in (Status.EXCEEDS_CREDITS, Status.ID_ALREADY_FAILED):
            raise CreditInUseError(
                f"peer {books.terms.peer_id} uses {books.granted - books.available_credit} of its "
                f"credit of {books.granted}; a limit of {books.granted + change} is below that: "
                "let it pay first"
            )
        assert status in DONE, status
        books.move_credit(change)

    async def _recover(self) -> None:
        """Find packets that a resumable peer may ask for again (docs/protocol.md)."""
        now_ns = self._clock.now_ns()
        # The ledger may still count a hold whose time is up; the mirror counts those that we know
        # of and will let go of, so that the two agree as soon as nothing is held.
        for book in self._books_by_id.values():
            book.debits_pending = book.credits_pending = 0
        for packet in former_packets(await self.ledger.recent_transfers(self._former_since_ns())):
            if not packet.is_over(now_ns):
                reservation = packet.reservation(self._books_by_id)
                if reservation is not None:
                    self._take_up(reservation, packet.expires_at_ns)

    def _former_since_ns(self) -> int:
        """From when on packets may be asked for again: none lives longer."""
        return self._clock.now_ns() - limits.FORMER_PACKETS_MS * 1_000_000

    def _take_up(self, reservation: Reservation, expires_at_ns: int) -> None:
        """Count what is held for a packet that this process has not reserved, and await its sender."""
        if not reservation.posted:
            self._orphans[reservation.packet_id] = (expires_at_ns, reservation)
            for leg, (debit, credit) in zip(reservation.legs, reservation.books, strict=True):
                debit.debits_pending += leg.amount
                credit.credits_pending += leg.amount
        found = recovered(reservation)
        if found is not None:
            self._recovered[found.source_id, found.sender_packet_id] = found

    @property
    def may_know_former(self) -> bool:
        """Whether the ledger may have packets that were taken by another process than this.

        Before this one was started, or beside it, where several share a node's accounts.
        """
        if self.ledger.may_be_away and self.state is State.AVAILABLE:
            return True  # it can be asked: no need to guess
        return self._is_shared or self._clock.now_ms() < self._former_until_ms

    async def find_former(self, asked: Sequence[tuple[str, int]]) -> Sequence[tuple[str, int]]:
        """Ask the ledger whether it has packets, by their sources and the senders' ids of them.

        Returns those about which it has spoken: `take_recovered` knows now which of them it has.
        None of them while it is away, unless all are known since the start.
        """
        unknown = [tag for source_id, tag in asked if (source_id, tag) not in self._recovered]
        if not unknown:
            return asked
        try:
            found = await self.in_turn(lambda: self._former_packets(unknown))
        except (LedgerUnavailableError, LedgerRefusedError):
            return ()
        if self.state is not State.AVAILABLE:
            return ()  # while we waited for our turn, resolutions went into the outbox
        # What this process has answered and forgotten, and the ledger does not have yet: also what
        # is in the outbox is in the queue as long as the ledger is there. Asked again in a moment,
        # it will know.
        on_the_way = {one.packet_id for _, one, _ in (*self._taken, *self._resolves)}
        wanted, undecided = set(asked), set()
        now_ns = self._clock.now_ns()
        for packet in found:
            reservation = packet.reservation(self._books_by_id)
            former = None if reservation is None else recovered(reservation)
            # Other peers may use the same ids.
            if former is None or (former.source_id, former.sender_packet_id) not in wanted:
                continue
            if packet.packet_id in on_the_way:
                undecided.add((former.source_id, former.sender_packet_id))
            elif not packet.is_over(now_ns) and packet.packet_id not in self._orphans:
                self._take_up(former.reservation, packet.expires_at_ns)
        return [one for one in asked if one not in undecided]

    async def _former_packets(self, tags: Sequence[int]) -> list[FormerPacket]:
        """Packets by the senders' ids of them, with what became of them."""
        packets = former_packets(await self.ledger.tagged_transfers(tags, self._former_since_ns()))
        by_id = {one.resolution_id: one for one in packets if not one.outcome}
        if by_id:
            for transfer in await self.ledger.lookup_transfers(list(by_id)):
                by_id[transfer.id].outcome = transfer.flags & (POST | VOID)
        return packets

    def take_recovered(
        self, source_id: str, sender_packet_id: int, condition: bytes
    ) -> Recovered | None:
        """The packet that `source_id` sent under this id before we restarted; asked for once.

        Under another condition it is another packet: the proof that frees the money that is held
        would not fit it.
        """
        if not self._recovered:
            return None
        recovered = self._recovered.get((source_id, sender_packet_id))
        if recovered is None or recovered.condition_tag != condition_tag(condition):
            return None
        del self._recovered[source_id, sender_packet_id]
        self._orphans.pop(recovered.reservation.packet_id, None)
        return recovered

    async def in_turn(self, ask: Callable[[], Awaitable[T]]) -> T:
        """What `ask` answers: one request to the ledger that is for looking, between the others.

        Raises:
            LedgerUnavailableError: the ledger is away, or does not answer.
        """
        self._must_be_there()
        async with self._one_at_a_time:
            return await ask()

    # --- settlements (connector/settlement)

    async def record_settlement(
        self, peer_id: str, transfer_id: int, amount: int, *, outgoing: bool, tag: int
    ) -> Status:
        """Book what has moved, or is about to, outside; the same id again is booked once.

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
        if self.state is not State.AVAILABLE:
            raise LedgerUnavailableError(f"the ledger is away: {self.state_reason}")
        books = self.peers[peer_id]
        debit, credit = (
            (books.peer, books.settlement) if outgoing else (books.settlement, books.peer)
        )
        transfer = Transfer(
            id=transfer_id,
            debit_account_id=debit.account_id,
            credit_account_id=credit.account_id,
            amount=amount,
            user_data_128=tag,
            ledger=debit.ledger,
            code=TransferCode.SETTLEMENT,
        )
        async with self._one_at_a_time:
            status = (await self.ledger.create_transfers([transfer]))[0]
            if status is Status.EXISTS:
                # The mirror has counted it, unless the acknowledgement was lost. Nothing but this
                # moves the settlement account, so what it has and its mirror has not was lost.
                (account,) = await self.ledger.lookup_accounts([books.settlement.account_id])
                amount = (
                    account.credits_posted - books.settlement.credits_posted
                    if outgoing
                    else account.debits_posted - books.settlement.debits_posted
                )
        if status in DONE:
            debit.debits_posted += amount
            credit.credits_posted += amount
        return status

    async def settleable(self, peer_id: str) -> tuple[int, int]:
        """What we owe a peer, and how much of it may be paid, as the ledger has it now.

        The mirror is ahead of the ledger, and another process that shares the accounts is in
        neither queue nor mirror; money that is paid out must be there.

        Raises:
            LedgerUnavailableError: no answer.
        """
        if self.state is not State.AVAILABLE:
            raise LedgerUnavailableError(f"the ledger is away: {self.state_reason}")
        books = self.peers[peer_id]
        async with self._one_at_a_time:
            peer, line = await self.ledger.lookup_accounts(
                [books.peer.account_id, books.credit_line.account_id]
            )
        granted = line.debits_posted - line.credits_posted
        posted = peer.credits_posted - peer.debits_posted
        return posted - granted, posted - peer.debits_pending

    # --- the packet path

    def new_packet_id(self) -> int:
        """An id for a packet: unique, rising, its low octet zero."""
        return self._ids.next(self._clock.now_ms())

    def reserve(
        self, token: Token, packet_id: int, sender_packet_id: int, asked: Reserve
    ) -> Outcome | Reservation:
        """Queue the reservation of a packet; `resume(token, outcome)` comes when it is booked.

        Returns the reservation, or why it was refused at once: then nothing was queued.
        """
        if self.state is not State.AVAILABLE:
            refused = self._refused_while_away(asked)
            if refused is not None:
                return refused
        if len(self._reserves) >= bounds.LEDGER_QUEUE_RESERVATIONS_MAX:
            return Outcome.BUSY
        source, next_hop = asked.source, asked.next_hop
        source_id, target_id = source.peer_id, next_hop.peer_id
        if target_id == LOCAL:
            target = self._own_books[AccountCode.WALLET, next_hop.asset]
        else:
            books = self.peers[target_id]
            target = books.peer
            payable_max = next_hop.max_payable
            if payable_max is not None and books.payable + asked.amount_out > payable_max:
                return Outcome.NO_PAYABLE
        debit = (
            self.peers[source_id].peer
            if source_id != LOCAL
            else self._own_books[AccountCode.WALLET, source.asset]
        )
        condition = asked.condition
        tag_64 = int.from_bytes(condition[:8], "big")
        tag_32 = int.from_bytes(condition[8:12], "big")
        timeout = (asked.hold_ms + bounds.PENDING_GRACE_MS + 999) // 1000
        amount, fee = asked.amount_out, asked.fee
        if not fee and debit.ledger == target.ledger and debit is not target:
            # By far the most: one asset, no fee, one leg.
            leg = make_transfer(
                (
                    packet_id, debit.account_id, target.account_id, amount, 0, sender_packet_id,
                    tag_64, tag_32, timeout, debit.ledger, 1, PENDING, 0,
                )
            )  # fmt: skip
            debit.debits_pending += amount
            target.credits_pending += amount
            legs = [leg]
            reservation = Reservation(packet_id, legs, [(debit, target)])
        else:
            data = (sender_packet_id, tag_64, tag_32, timeout)
            moves = self._moves(debit, target, asked)
            legs = [
                Transfer(
                    packet_id | index, move.debit.account_id, move.credit.account_id, move.amount,
                    0, *data, move.debit.ledger, move.code,
                    PENDING | (LINKED if index + 1 < len(moves) else 0),
                )
                for index, move in enumerate(moves)
            ]  # fmt: skip
            for move in moves:
                move.debit.debits_pending += move.amount
                move.credit.credits_pending += move.amount
            reservation = Reservation(packet_id, legs, [(m.debit, m.credit) for m in moves])
        self._reserves.append((token, reservation, legs))
        if self._idle:
            self._start_writing()
        return reservation

    def _refused_while_away(self, asked: Reserve) -> Outcome | None:
        """Why a packet is not taken while the ledger is away; None: it is, the mirror allows it."""
        if self.state is not State.SPOOLING:
            return Outcome.UNAVAILABLE
        if self._outbox.transfers >= self._spool_transfers_max:
            self._set_state(
                State.REJECTING, f"the spool is full: {self._outbox.transfers} transfers"
            )
            return Outcome.UNAVAILABLE
        source_id = asked.source.peer_id
        if source_id != LOCAL and self.peers[source_id].available_credit < asked.amount_in:
            return Outcome.NO_CREDIT
        return None

    def _moves(self, source: Book, target: Book, asked: Reserve) -> list[_Move]:
        """What a packet with a fee, or one that changes its asset, moves."""
        revenue = self._own_books[AccountCode.REVENUE, source.asset]
        fee = [_Move(source, revenue, asked.fee, TransferCode.FEE)] if asked.fee else []
        if source.ledger == target.ledger and source is not target:
            return [_Move(source, target, asked.amount_out, TransferCode.PACKET), *fee]
        # Another asset; or back to where it came from, which no single transfer can be.
        exchange_in = self._own_books[AccountCode.EXCHANGE, source.asset]
        exchange_out = self._own_books[AccountCode.EXCHANGE, target.asset]
        return [
            _Move(source, exchange_in, asked.amount_in - asked.fee, TransferCode.EXCHANGE_IN),
            *fee,
            _Move(exchange_out, target, asked.amount_out, TransferCode.EXCHANGE_OUT),
        ]

    def post(self, token: Token, reservation: Reservation, expires_at_ms: int) -> None:
        """Make a reservation final; `resume(token, POSTED or RELEASED)` comes when it may be told.

        `expires_at_ms` is when the sender stops waiting: the budget ends before it.
        """
        legs = reservation.legs
        if len(legs) == 1:
            leg = legs[0]
            transfers = [
                make_transfer(
                    (leg.id | PHASE_RESOLVE, 0, 0, leg.amount, leg.id, 0, 0, 0, 0, 0, 0, POST, 0)
                )
            ]
        else:
            transfers = resolutions(legs, POST)
        for leg, (debit, credit) in zip(legs, reservation.books):  # noqa: B905 - built together
            amount = leg.amount
            debit.debits_pending -= amount
            credit.credits_pending -= amount
            debit.debits_posted += amount
            credit.credits_posted += amount
        relay_by_ms = self._clock.now_ms() + bounds.POST_BUDGET_MS
        latest_ms = expires_at_ms - bounds.POST_EXPIRY_MARGIN_MS
        reservation.relay_by_ms = min(latest_ms, relay_by_ms)
        reservation.waiter = token
        reservation.resolution = transfers
        self._unposted[reservation.packet_id] = reservation
        self._resolves.append((token, reservation, transfers))
        if self._idle:
            self._start_writing()

    def void(self, reservation: Reservation) -> None:
        """Give a reservation back.

        Nobody waits: a crash before it is booked only means that the ledger's own timeout frees the
        money later.
        """
        for leg, (debit, credit) in zip(reservation.legs, reservation.books):  # noqa: B905
            debit.debits_pending -= leg.amount
            credit.credits_pending -= leg.amount
        self._resolves.append((None, reservation, resolutions(reservation.legs, VOID)))
        if self._idle:
            self._start_writing()

    # --- the writer

    def _start_writing(self) -> None:
        self._idle = False
        self._wake.set()

    async def run(self) -> None:
        """Write until `stop`; then until everything queued is written."""
        while True:
            if not self._resolves and not self._reserves:
                if self._stopping:
                    return
                self._idle = True
                self._wake.clear()
                await self._wake.wait()
                self._idle = False
                continue
            if self._spools:
                await self._may_spool.wait()
                if self._spools:
                    await self._spool()
                    continue
            batch, transfers = self._take_batch()
            self._taken = batch
            self._request_began_ms = self._clock.now_ms()
            began_s = self._clock.monotonic_s()
            try:
                async with self._one_at_a_time:
                    statuses = await self.ledger.create_transfers(transfers)
            except (LedgerUnavailableError, LedgerRefusedError) as error:
                self._request_began_ms = None
                self._taken = []
                self._failed(batch, str(error))
                if not self._spools:
                    await asyncio.sleep(bounds.POST_RETRY_SECONDS)
                continue
            self._request_began_ms = None
            self._taken = []
            self.counters.requests += 1
            self.counters.events += len(transfers)
            self._on_request(self._clock.monotonic_s() - began_s, len(transfers))
            if self.state is not State.AVAILABLE and not self._spools:
                self._set_state(State.AVAILABLE, "")
            self._deliver(batch, statuses)
            if self._late:
                await self._clear_outbox()
            if self._clock.monotonic_s() >= self._reconcile_at_s:
                await self._reconcile()
            # With a ledger that answers at once there may be no other await in this loop.
            await asyncio.sleep(0)

    async def _reconcile(self) -> None:
        """Bring the mirror up to what other processes did with this node's accounts.

        What the ledger has, and what is queued here and will be written, is what the mirror should
        have; pending amounts are this process's own affair.
        """
        self._reconcile_at_s = self._clock.monotonic_s() + bounds.RECONCILE_SECONDS
        if not self.ledger.may_be_away:
            return
        try:
            async with self._one_at_a_time:
                found = await self._look_up(self._books_by_id)
        except (LedgerUnavailableError, LedgerRefusedError):
            return  # the next request will say so
        if self._away or self.state is not State.AVAILABLE:
            return  # while we waited for our turn, entries went into the outbox
        expected = {account.id: [*account[2:5:2]] for account in found}
        for _, reservation, transfers in (*self._taken, *self._resolves):
            if transfers[0].flags & (VOID | PENDING):
                continue
            if reservation.posted and not reservation.correcting:
                continue  # `attend` has booked it from the outbox, while the writer was busy
            grants = [one for one in transfers if one.code == TransferCode.CREDIT]
            for move in (*reservation.legs, *grants):
                # An account that came meanwhile was not looked up.
                for account_id, side in ((move.debit_account_id, 0), (move.credit_account_id, 1)):
                    if account_id in expected:
                        expected[account_id][side] += move.amount
        differing = 0
        for id_, posted in expected.items():
            book = self._books_by_id.get(id_)
            if book is not None and posted != [book.debits_posted, book.credits_posted]:
                book.debits_posted, book.credits_posted = posted
                differing += 1
        if differing:
            self.counters.reconciled += differing
            if not self._is_shared:
                self._is_shared = True
                self._on_alert(
                    "accounts_are_shared",
                    {
                        "accounts": differing,
                        "detail": "the ledger has more than this process has written: another one "
                        "books for this node too; what is shown here follows within "
                        f"{bounds.RECONCILE_SECONDS:.0f} s",
                    },
                )

    @property
    def _spools(self) -> bool:
        """Whether requests go into the outbox now, until `attend` has brought the ledger back."""
        return self._spool_transfers_max > 0 and self._away

    def _take_batch(self) -> tuple[list[_Entry], list[Transfer]]:
        """The next request: resolutions first, then reservations, whole packets, up to the limit."""
        size_max = self.ledger.batch_transfers_max
        batch: list[_Entry] = []
        transfers: list[Transfer] = []
        for queue in (self._resolves, self._reserves):
            while queue and len(transfers) + len(queue[0][2]) <= size_max:
                entry = queue.popleft()
                batch.append(entry)
                transfers += entry[2]
        return batch, transfers

    def _deliver(self, batch: list[_Entry], statuses: list[Status]) -> None:
        at = 0
        created = Status.CREATED
        unposted = self._unposted
        resume = self._resume
        for token, reservation, transfers in batch:
            size = len(transfers)
            first = transfers[0]
            status = statuses[at]
            fine = (status is created and size == 1) or is_booked(statuses[at : at + size])
            at += size
            if first.flags & PENDING:
                if fine:
                    resume(token, Outcome.HELD)
                else:
                    self._take_back(reservation)
                    resume(token, self._why_refused(statuses[at - size : at], reservation))
            elif fine:
                if unposted.pop(reservation.packet_id, None) is not None:
                    # Who waits knows its reservation: a pair that keeps each other would be left
                    # to the collector of cycles, thousands a second.
                    reservation.waiter = None
                    resume(token, Outcome.POSTED)
                elif token is not None:
                    reservation.posted = True
            else:
                self._not_resolved(reservation, first, statuses[at - size : at])
        self._turn_done()

    def _why_refused(self, statuses: list[Status], reservation: Reservation) -> Outcome:
        if Status.EXCEEDS_CREDITS in statuses:
            return Outcome.NO_CREDIT
        self._alert_books(reservation, statuses)
        return Outcome.UNAVAILABLE

    def _take_back(self, reservation: Reservation) -> None:
        for leg, (debit, credit) in zip(reservation.legs, reservation.books):  # noqa: B905
            debit.debits_pending -= leg.amount
            credit.credits_pending -= leg.amount

    def _not_resolved(
        self, reservation: Reservation, first: Transfer, statuses: list[Status]
    ) -> None:
        if first.flags & VOID:
            gone = (
                Status.PENDING_TRANSFER_EXPIRED,
                Status.PENDING_TRANSFER_NOT_FOUND,
                Status.ID_ALREADY_FAILED,  # the same, told again
                Status.LINKED_EVENT_FAILED,
            )
            if all(status in gone for status in statuses):
                return  # it was free already
            self._alert_books(reservation, statuses)
            return
        if not first.flags & POST:
            self._alert_books(reservation, statuses)  # a correction: never correct it again
            return
        # The post came too late: the ledger gave the money back, but we owe it. Book it outright;
        # until that is done, whoever waits for the post goes on waiting.
        reservation.correcting = True
        correction = correcting_transfers(reservation.legs, self._credit_line_of)
        self._resolves.append((reservation.waiter, reservation, correction))
        self._mirror_grants(correction)
        self.counters.corrections += 1
        self._on_alert(
            "accounting_correction",
            {
                "packetId": f"{reservation.packet_id:032x}",
                "statuses": [status.name for status in statuses],
            },
        )

    def _alert_books(self, reservation: Reservation, statuses: list[Status]) -> None:
        self.counters.refused_unexpectedly += 1
        self._on_alert(
            "accounting_refused",
            {
                "packetId": f"{reservation.packet_id:032x}",
                "statuses": [status.name for status in statuses],
            },
        )

    def _credit_line_of(self, peer_account_id: int) -> int | None:
        book = self._books_by_id.get(peer_account_id)
        if book is None or book.code is not AccountCode.PEER:
            return None
        return self.peers[book.peer_id].credit_line.account_id

    def _failed(self, batch: list[_Entry], why: str) -> None:
        """No acknowledgement: it may be in the ledger all the same.

        Everything is sent again under the same ids, directly or through the outbox; but where
        reservations are refused now, they are given back, which covers both cases.
        """
        self._leave(why)
        resolves: list[_Entry] = []
        reserves: list[_Entry] = []
        for entry in batch:
            _, reservation, transfers = entry
            if transfers[0].flags & PENDING:
                reserves.append(entry)
            elif not reservation.outbox_seq or reservation.correcting or not self._spools:
                resolves.append(entry)
            # Else `attend` replays it from the outbox.
        self._resolves.extendleft(reversed(resolves))
        if self.state is not State.SPOOLING:
            for entry in reserves:
                self._give_back(entry, Outcome.UNAVAILABLE)
            self._refuse_queued()
        else:
            # The ledger did not get to compare these with what the peers may owe us.
            asked = [*reserves, *self._reserves]
            self._reserves.clear()
            for entry in asked:
                if self._within_credit(entry[1]):
                    self._reserves.append(entry)
                else:
                    self._give_back(entry, Outcome.NO_CREDIT)
        self._turn_done()

    @staticmethod
    def _within_credit(reservation: Reservation) -> bool:
        """Whether the mirror has credit for all that its sender has asked for so far."""
        debit = reservation.books[0][0]
        return (
            debit.code is not AccountCode.PEER
            or debit.debits_posted + debit.debits_pending <= debit.credits_posted
        )

    def _give_back(self, entry: _Entry, outcome: Outcome) -> None:
        """Refuse a reservation that may be in the ledger."""
        token, reservation, _ = entry
        self._take_back(reservation)
        self._resolves.append((None, reservation, resolutions(reservation.legs, VOID)))
        self._resume(token, outcome)

    def _refuse_queued(self) -> None:
        while self._reserves:
            token, reservation, _ = self._reserves.popleft()
            self._take_back(reservation)
            self._resume(token, Outcome.UNAVAILABLE)

    def _set_state(self, state: State, why: str) -> None:
        self.state_reason = why
        if state is not self.state:
            self.state = state
            self._on_state(state, why)

    # --- while the ledger is away

    def _leave(self, why: str) -> None:
        """The ledger does not answer."""
        if self._away:
            self.state_reason = why
            return
        now_s = self._clock.monotonic_s()
        if now_s - self._left_at_s > bounds.LEDGER_STABLE_SECONDS:
            self._ask_again_s = bounds.LEDGER_ASK_AGAIN_SECONDS_MIN
        else:
            # It answers and fails in turn: a full disk, say. Do not flicker.
            self._ask_again_s = min(2 * self._ask_again_s, bounds.LEDGER_ASK_AGAIN_SECONDS_MAX)
        self._left_at_s = now_s
        if self._spool_transfers_max:
            self._be_away()
            self._set_state(State.SPOOLING, why)
        else:
            self._set_state(State.REJECTING, why)

    def _be_away(self) -> None:
        self._away = True
        self._attention.set()

    async def _spool(self) -> None:
        """Put what is queued into the outbox, in place of the ledger."""
        batch, _ = self._take_batch()
        rows: list[Transfer] = []
        for _, reservation, part in batch:
            if reservation.spooled and part[0].flags & POST:
                rows += with_legs(part, reservation.legs)
            else:
                rows += part
        try:
            async with self._spool_lock:
                await self._outbox.add(rows)
        except (OSError, ConnectorError) as error:
            self._resolves.extendleft(
                entry for entry in reversed(batch) if not entry[2][0].flags & PENDING
            )
            if self.state is State.SPOOLING:
                self._set_state(State.REJECTING, str(error))
                self._on_alert("outbox_failed", {"error": str(error)})
            for entry in batch:
                if entry[2][0].flags & PENDING:
                    self._give_back(entry, Outcome.UNAVAILABLE)
            self._refuse_queued()
            self._turn_done()
            await asyncio.sleep(bounds.POST_RETRY_SECONDS)
            return
        if self.state is State.REJECTING and self._outbox.transfers < self._spool_transfers_max:
            self._set_state(State.SPOOLING, self.state_reason)
        self.counters.spooled += len(rows)
        for token, reservation, part in batch:
            if part[0].flags & PENDING:
                reservation.spooled = True
                self._resume(token, Outcome.HELD)
            elif self._unposted.pop(reservation.packet_id, None) is not None:
                self.counters.released += 1
                reservation.waiter = None
                self._resume(token, Outcome.RELEASED)
        self._turn_done()

    async def attend(self) -> None:
        """Ask for a ledger that is away until it is back, and bring it up to date; until `stop`."""
        while not self._stopping:
            if not self._away:
                self._attention.clear()
                await self._attention.wait()
                continue
            await asyncio.sleep(self._ask_again_s)
            try:
                await self._come_back()
            except LedgerUnavailableError as error:
                if self.state is not State.REJECTING:
                    self.state_reason = str(error)
            except LedgerRefusedError as error:
                if self.state_reason != str(error):
                    self.state_reason = str(error)
                    self._on_alert("ledger_refused", {"reason": error.reason, "error": str(error)})

    async def _come_back(self) -> None:
        if not self._met and self.state is State.UNAVAILABLE:
            await self._open_books(None)
            self._away = False
            return
        if not self._met:
            await self._meet()
        try:
            while True:
                rows = await self._replay_next(adjust=True)
                if self._stopping:
                    return
                if rows < self.ledger.batch_transfers_max and self._may_spool.is_set():
                    # Nearly there: the writer waits, so that the end can be reached.
                    self._may_spool.clear()
                    async with self._spool_lock:
                        pass  # the request that was being spooled is in the outbox now
                elif not rows:
                    # From here to the writer's next look at the state nothing can come between.
                    self._away = False
                    self._set_state(State.AVAILABLE, "")
                    return
        finally:
            self._may_spool.set()

    async def _meet(self) -> None:
        """Hear a ledger for the first time, packets having been taken already."""
        await self.ledger.open()
        if not await self._create_accounts(self._books_by_id.values()):
            self._former_until_ms = 0
        while self._replayed_seq < self._former_seq:
            if not await self._replay_next(adjust=False, until_seq=self._former_seq):
                break
        if not self._compared:
            await self._compare()
            self._compared = True
        for books in self.peers.values():
            if not books.removed:
                await self._keep_promise(books)
        self._met = True

    async def _compare(self) -> None:
        """Let the mirror go on from what the ledger has, not from what was assumed of it."""
        differing = 0
        for account in await self._look_up(self._books_by_id):
            book = self._books_by_id[account.id]
            there, assumed = Posted(*account[2:5:2]), self._assumed[account.id]
            differing += there != assumed
            book.debits_posted += there.debits - assumed.debits
            book.credits_posted += there.credits - assumed.credits
            self._assumed[account.id] = there
        if differing:
            self._on_alert("ledger_differs", {"accounts": differing})

    async def _keep_promise(self, books: PeerBooks) -> None:
        """Grant in the ledger what the mirror has granted; or what it can be."""
        line, peer = books.credit_line.account_id, books.peer.account_id
        there = self._assumed[line], self._assumed[peer]
        change = books.terms.credit_limit - (there[0].debits - there[0].credits)
        if not await self._is_granted(books, change, there):
            change = max(change, -max(0, there[1].credits - there[1].debits))
            if not await self._is_granted(books, change, there):
                change = 0
        promised = self._promised_credit.pop(books.terms.peer_id, 0)
        books.move_credit(promised, -1)
        books.move_credit(change)
        if books.granted > books.terms.credit_limit:
            self._lend(books)
        raised, lowered = max(change, 0), max(-change, 0)
        self._assumed[line] = Posted(there[0].debits + raised, there[0].credits + lowered)
        self._assumed[peer] = Posted(there[1].debits + lowered, there[1].credits + raised)

    async def _is_granted(
        self, books: PeerBooks, change: int, there: tuple[Posted, Posted]
    ) -> bool:
        if not change:
            return True
        async with self._one_at_a_time:
            statuses = await self.ledger.create_transfers([grant_transfer(books, change, there)])
        return statuses[0] in DONE

    async def _replay_all(self, *, adjust: bool) -> None:
        """Book all that the outbox holds, under the same ids, so once."""
        while await self._replay_next(adjust=adjust):
            pass

    async def _replay_next(self, *, adjust: bool, until_seq: int = 1 << 62) -> int:
        """Book the next requests of the outbox; returns how many transfers they held.

        `adjust`: corrections move the mirror too, which will not be loaded afterwards.
        """
        size_max = self.ledger.batch_transfers_max
        loaded = await self._outbox.load(self._replayed_seq, size_max)
        requests = [one for one in loaded if one[0] <= until_seq]
        transfers = [transfer for _, part in requests for transfer in part]
        done: list[int] = []
        async with self._one_at_a_time:
            # An empty request asks whether the ledger is there.
            statuses = await self.ledger.create_transfers(transfers)
            at = 0
            for seq, part in requests:
                if await self._settle_replayed(seq, part, statuses[at : at + len(part)], adjust):
                    done.append(seq)
                at += len(part)
        if requests:
            self._replayed_seq = requests[-1][0]
        for seq in done:
            for reservation in self._late.pop(seq, ()):
                reservation.posted = True
                reservation.outbox_seq = 0
        if done:
            await self._forget(done)
        return len(transfers)

    async def _settle_replayed(
        self, seq: int, transfers: list[Transfer], statuses: list[Status], adjust: bool
    ) -> bool:
        """Correct what the ledger did not take; whether all of the request is booked now."""
        if all(status in DONE for status in statuses):
            return True
        correcting = {one.packet_id for one in self._late.get(seq, ()) if one.correcting}
        complete = True
        for start, end in chains(transfers):
            first, chain = transfers[start], statuses[start:end]
            packet_id = first.id >> TAG_BITS << TAG_BITS
            if is_booked(chain) or first.flags & VOID or packet_id in correcting:
                continue
            details: dict[str, object] = {
                "packetId": f"{packet_id:032x}",
                "statuses": [status.name for status in chain],
            }
            if first.flags & PENDING:
                # If it was fulfilled, its post is corrected; if not, nothing is owed.
                self._on_alert("spooled_reservation_refused", details)
            elif not first.flags & POST:
                self.counters.refused_unexpectedly += 1
                self._on_alert("accounting_refused", details)
            else:
                legs = await self._legs_of(transfers[start:end])
                if not legs:
                    # Another ledger than the one it was meant for: a human must look.
                    self._on_alert("outbox_transfer_unknown", details)
                    complete = False
                    continue
                await self._correct(legs, adjust)
                self._on_alert("accounting_correction", details)
        return complete

    async def _legs_of(self, posts: list[Transfer]) -> list[Transfer]:
        """The holds that `posts` make final."""
        if posts[0].debit_account_id:
            if posts[0].debit_account_id not in self._books_by_id:
                return []
            return [post._replace(id=post.pending_id, pending_id=0, flags=0) for post in posts]
        held = await self.ledger.lookup_transfers([post.pending_id for post in posts])
        return [transfer._replace(timestamp=0) for transfer in held]

    async def _correct(self, legs: list[Transfer], adjust: bool) -> None:
        correction = correcting_transfers(legs, self._credit_line_of)
        await self.ledger.create_transfers(correction)
        self.counters.corrections += 1
        if adjust:
            self._mirror_grants(correction)

    def _mirror_grants(self, correction: list[Transfer]) -> None:
        for grant in correction:
            if grant.code == TransferCode.CREDIT:
                self._books_by_id[grant.debit_account_id].debits_posted += grant.amount
                peer = self._books_by_id[grant.credit_account_id]
                peer.credits_posted += grant.amount
                self._lent[peer.peer_id] = self._lent.get(peer.peer_id, 0) + grant.amount

    async def stopped(self) -> None:
        """Remember the balances, for a start without the ledger; after the tasks have ended.

        Only when nothing is held or waits: else only the ledger knows.
        """
        books = self._books_by_id.values()
        if (
            self.state not in (State.AVAILABLE, State.SPOOLING)
            or self.queue_depth()
            or self._to_outbox
            or any(book.debits_pending or book.credits_pending for book in books)
        ):
            return
        for peer_id, promised in self._promised_credit.items():
            self.peers[peer_id].move_credit(promised, -1)
        self._promised_credit.clear()
        try:
            await self._outbox.end(
                {book.account_id: Posted(book.debits_posted, book.credits_posted) for book in books}
            )
        except (OSError, ConnectorError) as error:
            self._on_alert("outbox_failed", {"error": str(error)})

    # --- time

    def tick(self) -> None:
        """Look at the clock: release posts whose budget is used up, open the breaker.

        Called some 20 times a second. An idle tick looks at four empty containers.
        """
        now_ms = self._clock.now_ms()
        if self._orphans:
            self._forget_orphans(now_ms * 1_000_000)
        if self._recovered and now_ms >= self._former_until_ms:
            self._recovered.clear()  # nobody asks any more
        began = self._request_began_ms
        # A ledger that keeps its deadlines says so itself, and what waits can be spooled.
        patience_ms = self._timeout_ms + (self._timeout_ms // 4 if self._spool_transfers_max else 0)
        if began is not None and now_ms - began > patience_ms and not self._away:
            self._set_state(State.REJECTING, f"no answer for {patience_ms} ms")
            self._refuse_queued()
        if self._unposted:
            late = [one for one in self._unposted.values() if one.relay_by_ms <= now_ms]
            self._to_outbox.extend(late)
            for reservation in late:
                del self._unposted[reservation.packet_id]
        self._turn_done()

    def _forget_orphans(self, now_ns: int) -> None:
        """Holds from before a restart that nobody asked for: the ledger's timeout frees them."""
        for packet_id, (expires_at_ns, reservation) in list(self._orphans.items()):
            if expires_at_ns <= now_ns:
                del self._orphans[packet_id]
                source_id = reservation.books[0][0].peer_id
                self._recovered.pop((source_id, reservation.legs[0].user_data_128), None)
                self._take_back(reservation)

    async def release_late(self) -> None:
        """Put posts whose budget is used up into the outbox and let their Fulfills go.

        Also when the outbox cannot be written in time: keeping a Fulfill back would turn the
        risk of a loss into the loss.
        """
        late, self._to_outbox = self._to_outbox, []
        open_ = [reservation for reservation in late if not reservation.posted]
        transfers = [
            transfer
            for reservation in open_
            for transfer in (
                with_legs(reservation.resolution, reservation.legs)
                if reservation.spooled
                else reservation.resolution
            )
        ]
        if not transfers:
            self._release(late)
            return
        try:
            async with asyncio.timeout(bounds.OUTBOX_BUDGET_MS / 1000):
                seq = await self._outbox.add(transfers)
        except (OSError, ConnectorError, TimeoutError) as error:
            self._on_alert("outbox_failed", {"error": str(error) or "too slow"})
        else:
            self._late[seq] = open_
            for reservation in open_:
                reservation.outbox_seq = seq
        self._release(late)
        # Some may have been booked while they were put there.
        await self._clear_outbox()

    def _release(self, late: list[Reservation]) -> None:
        for reservation in late:
            if not reservation.posted:
                self.counters.released += 1
            self._resume(
                reservation.waiter, Outcome.POSTED if reservation.posted else Outcome.RELEASED
            )
        self._turn_done()

    async def _clear_outbox(self) -> None:
        """Forget what has been booked: now, or while it was being put into the outbox."""
        booked = [seq for seq, late in self._late.items() if all(one.posted for one in late)]
        for seq in booked:
            del self._late[seq]
        if booked:
            await self._forget(booked)

    async def _forget(self, seqs: list[int]) -> None:
        """Take what is booked out of the outbox; what stays there now goes the next time.

        A crash meanwhile is no harm: replaying it once more changes nothing.
        """
        self._booked_seqs += seqs
        seqs, self._booked_seqs = self._booked_seqs, []
        try:
            await self._outbox.remove(seqs)
        except (OSError, ConnectorError) as error:
            self._booked_seqs += seqs
            self._on_alert("outbox_failed", {"error": str(error)})

    async def expire(self) -> None:
        """Let the ledger's timeouts take effect while nothing else is asked of it."""
        if self._away:
            return  # `attend` asks
        if self._request_began_ms is None and not self._resolves and not self._reserves:
            try:
                async with self._one_at_a_time:
                    await self.ledger.create_transfers([])
            except (LedgerUnavailableError, LedgerRefusedError) as error:
                self._leave(str(error))
            else:
                if self.state is State.REJECTING:
                    self._set_state(State.AVAILABLE, "")
                if self._clock.monotonic_s() >= self._reconcile_at_s:
                    await self._reconcile()

    async def look_after_outbox(self) -> None:
        """See that the outbox is still there; called every second or so."""
        try:
            was_removed = await self._outbox.restore()
        except (OSError, ConnectorError) as error:
            if not self._outbox_is_lost:
                self._on_alert("outbox_failed", {"error": str(error)})
            self._outbox_is_lost = True
            return
        self._outbox_is_lost = False
        if self._booked_seqs:
            await self._forget([])
        if was_removed:
            self._on_alert(
                "outbox_was_removed",
                {"transfers": self._outbox.transfers, "detail": "written anew, nothing is lost"},
            )

    @property
    def spooled(self) -> int:
        """Transfers in the outbox."""
        return self._outbox.transfers

    def queue_depth(self) -> int:
        """Packets that wait to be written."""
        return len(self._reserves) + len(self._resolves)

    def stop(self) -> None:
        """Let `run` end once everything queued is written, and `attend`."""
        self._stopping = True
        self._attention.set()
        self._start_writing()

    def own_book(self, code: AccountCode, asset: Asset) -> Book | None:
        """One of the node's own accounts."""
        return self._own_books.get((code, asset))

    def books(self) -> Iterable[Book]:
        """All accounts of the node."""
        return self._books_by_id.values()

    async def close(self) -> None:
        """Let go of the ledger."""
        await self.ledger.close()


def _cannot_be_created(account: Account, status: AccountStatus) -> ConnectorError:
    return ConnectorError(f"account {account.id:032x} cannot be created: {status.name}")
