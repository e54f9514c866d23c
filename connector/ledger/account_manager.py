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
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Final, NamedTuple, Protocol

from connector import limits
from connector.clock import Clock
from connector.errors import (
    ConnectorError,
    CreditInUseError,
    LedgerRefusedError,
    LedgerUnavailableError,
)
from connector.ledger.interface import Ledger
from connector.ledger.model import (
    ACCOUNT_DEBITS_MUST_NOT_EXCEED_CREDITS,
    DONE,
    LINKED,
    PENDING,
    PHASE_CORRECT,
    PHASE_RESOLVE,
    POST,
    TAG_BITS,
    VOID,
    Account,
    AccountCode,
    AccountStatus,
    IdGenerator,
    Status,
    Transfer,
    TransferCode,
    account_id,
    asset_ledger,
    make_transfer,
    node_tag,
    peer_tag,
)
from connector.peers import LOCAL, Asset, PeerTerms

Token = Any
"""Whoever waits; handed back with the outcome. The manager never looks into it."""


class Outcome(Enum):
    """What became of a reservation or a post."""

    HELD = auto()
    NO_CREDIT = auto()
    """The sender would owe us more than its limit."""
    NO_PAYABLE = auto()
    """We would owe the next hop more than we allow."""
    BUSY = auto()
    """The queue is full."""
    UNAVAILABLE = auto()
    """The ledger does not answer."""
    POSTED = auto()
    RELEASED = auto()
    """Not acknowledged within the budget; in the outbox, and retried until it is."""


class State(Enum):
    """Whether new packets can be accounted for."""

    STARTING = "starting"
    AVAILABLE = "available"
    UNAVAILABLE = "unavailable"


class Outbox(Protocol):
    """Durable memory of posts that were promised but not acknowledged."""

    async def add(self, transfers: list[Transfer]) -> None:
        """On disk when this returns."""

    async def remove(self, ids: list[int]) -> None:
        """Forget transfers that the ledger has acknowledged."""

    async def load(self) -> list[Transfer]:
        """All that is in it, oldest first."""


class Book:
    """The mirror of one account."""

    __slots__ = (
        "account_id", "asset", "code", "credits_pending", "credits_posted", "debits_pending",
        "debits_posted", "ledger", "peer_id",
    )  # fmt: skip

    def __init__(self, node_id: str, code: AccountCode, peer_id: str, asset: Asset) -> None:
        self.account_id = account_id(node_id, code, peer_id, str(asset))
        self.code = code
        self.peer_id = peer_id
        self.asset = asset
        self.ledger = asset_ledger(asset.code, asset.scale)
        self.debits_pending = 0
        self.debits_posted = 0
        self.credits_pending = 0
        self.credits_posted = 0

    def load(self, account: Account) -> None:
        """Take over the balances that the ledger has."""
        self.debits_pending = account.debits_pending
        self.debits_posted = account.debits_posted
        self.credits_pending = account.credits_pending
        self.credits_posted = account.credits_posted


@dataclass(slots=True, eq=False)
class PeerBooks:
    """The accounts of one peer."""

    terms: PeerTerms
    peer: Book
    credit_line: Book
    settlement: Book

    @property
    def granted(self) -> int:
        """Credit that the ledger lets it use."""
        return self.credit_line.debits_posted - self.credit_line.credits_posted

    @property
    def debit_balance(self) -> int:
        """All that it has been debited: value it sent through us."""
        return self.peer.debits_posted - self.credit_line.credits_posted

    @property
    def credit_balance(self) -> int:
        """All that it has been credited: value we sent towards it."""
        return self.peer.credits_posted - self.credit_line.debits_posted

    @property
    def net_balance(self) -> int:
        """Positive: it owes us. Negative: we owe it."""
        return self.debit_balance - self.credit_balance

    @property
    def available_credit(self) -> int:
        """What it may still send."""
        book = self.peer
        return book.credits_posted - book.debits_posted - book.debits_pending

    @property
    def payable(self) -> int:
        """What we owe it if all that is pending towards it is fulfilled."""
        return self.credit_balance + self.peer.credits_pending - self.debit_balance


class Reserve:
    """A packet's money to be held: what the switch asks for."""

    __slots__ = ("amount_in", "amount_out", "condition", "fee", "hold_ms", "next_hop", "source")

    def __init__(
        self,
        source: PeerTerms,
        next_hop: PeerTerms,
        amount_in: int,
        fee: int,
        amount_out: int,
        condition: bytes,
        hold_ms: int,
    ) -> None:
        self.source = source
        self.next_hop = next_hop
        self.amount_in = amount_in
        self.fee = fee
        self.amount_out = amount_out
        self.condition = condition
        self.hold_ms = hold_ms


class Reservation:
    """Money held for one packet: its legs, and the books they move."""

    __slots__ = (
        "books", "correcting", "legs", "packet_id", "posted", "relay_by_ms", "resolution", "waiter",
    )  # fmt: skip

    def __init__(
        self,
        packet_id: int,
        legs: list[Transfer],
        books: list[tuple[Book, Book]],
        *,
        posted: bool = False,
    ) -> None:
        self.packet_id = packet_id
        self.legs = legs
        self.books = books
        self.posted = posted
        """Whether the ledger is known to have posted it: before a restart, or after the waiter was
        let go."""
        self.correcting = False
        """Whether the post came too late and a correction takes its place."""
        self.resolution: list[Transfer] = []
        """The transfers that post it, once that is asked for."""
        self.waiter: Token = None
        """Who waits for the post."""
        self.relay_by_ms = 0
        """When the waiter is let go, posted or not."""


@dataclass(slots=True)
class Recovered:
    """A packet that was under way when the node stopped; known by the sender's packet id."""

    reservation: Reservation
    source_id: str
    next_hop_id: str
    condition_tag: int


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
    refused_unexpectedly: int = 0


def condition_tag(condition: bytes) -> int:
    """The first 96 bits of a condition: user_data_64 and user_data_32 of a leg."""
    return int.from_bytes(condition[:12], "big")


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
        timeout_ms: int = 1000,
    ) -> None:
        self.node_id: Final = node_id
        self.ledger: Final = ledger
        self.counters: Final = AccountingCounters()
        self.peers: Final[dict[str, PeerBooks]] = {}
        self.state = State.STARTING
        self.state_reason = "starting"
        self._clock = clock
        self._ids = ids
        self._outbox = outbox
        self._resume: Callable[[Token, Outcome], None] = lambda _token, _outcome: None
        self._turn_done: Callable[[], None] = lambda: None
        self._on_state = on_state
        self._on_alert = on_alert
        self._timeout_ms = timeout_ms
        self._own_books: dict[tuple[AccountCode, Asset], Book] = {}
        self._books_by_id: dict[int, Book] = {}
        self._recovered: dict[tuple[str, int], Recovered] = {}
        self._orphans: dict[int, tuple[int, Reservation]] = {}
        self._reserves: deque[_Entry] = deque()
        self._resolves: deque[_Entry] = deque()
        self._unposted: dict[int, Reservation] = {}
        self._in_outbox: dict[int, Reservation] = {}
        self._to_outbox: list[Reservation] = []
        self._wake = asyncio.Event()
        self._idle = False
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

    async def open(self, peers: Iterable[PeerTerms], assets: Iterable[Asset]) -> None:
        """Open the ledger, create what is missing, load the mirror, replay the outbox.

        Raises:
            LedgerLockedError, LedgerCorruptError, LedgerUnavailableError: see `Ledger.open`.
            ConnectorError: two assets share a ledger number.
        """
        await self.ledger.open()
        terms = list(peers)
        numbers: dict[int, Asset] = {}
        for asset in (*assets, *(peer.asset for peer in terms)):
            other = numbers.setdefault(asset_ledger(asset.code, asset.scale), asset)
            if other != asset:
                raise ConnectorError(f"assets {other} and {asset} share a ledger number")
        for asset in numbers.values():
            for code in (AccountCode.REVENUE, AccountCode.EXCHANGE, AccountCode.WALLET):
                self._add_own_book(code, asset)
        for peer in terms:
            self._add_books(peer)
        await self._create_accounts(self._books_by_id.values())
        await self._load_balances()
        await self._replay_outbox()
        for peer in terms:
            await self._grant_at_start(peer)
        await self._recover()
        self._set_state(State.AVAILABLE, "")

    def _add_own_book(self, code: AccountCode, asset: Asset) -> None:
        book = Book(self.node_id, code, LOCAL, asset)
        self._own_books[code, asset] = book
        self._books_by_id[book.account_id] = book

    def _add_books(self, terms: PeerTerms) -> None:
        codes = (AccountCode.PEER, AccountCode.CREDIT_LINE, AccountCode.SETTLEMENT)
        books = [Book(self.node_id, code, terms.peer_id, terms.asset) for code in codes]
        self.peers[terms.peer_id] = PeerBooks(terms, *books)
        self._books_by_id.update((book.account_id, book) for book in books)

    async def _create_accounts(self, books: Iterable[Book]) -> None:
        accounts = [
            Account(
                id=book.account_id,
                user_data_128=node_tag(self.node_id),
                user_data_64=peer_tag(book.peer_id),
                user_data_32=book.code,
                ledger=book.ledger,
                code=book.code,
                flags=ACCOUNT_DEBITS_MUST_NOT_EXCEED_CREDITS
                if book.code is AccountCode.PEER
                else 0,
            )
            for book in books
        ]
        for at in range(0, len(accounts), self.ledger.batch_transfers_max):
            part = accounts[at : at + self.ledger.batch_transfers_max]
            statuses = await self.ledger.create_accounts(part)
            for account, status in zip(part, statuses, strict=True):
                if status not in (AccountStatus.CREATED, AccountStatus.EXISTS):
                    raise ConnectorError(
                        f"account {account.id:032x} cannot be created: {status.name}"
                    )

    async def _load_balances(self) -> None:
        ids = list(self._books_by_id)
        for at in range(0, len(ids), self.ledger.batch_transfers_max):
            for account in await self.ledger.lookup_accounts(
                ids[at : at + self.ledger.batch_transfers_max]
            ):
                self._books_by_id[account.id].load(account)

    async def _replay_outbox(self) -> None:
        """Book what was promised before the node stopped; under the same ids, so once."""
        packets: dict[int, list[Transfer]] = {}
        for transfer in await self._outbox.load():
            packets.setdefault(transfer.id >> TAG_BITS << TAG_BITS, []).append(transfer)
        booked: list[int] = []
        for packet_id, posts in packets.items():
            statuses = await self.ledger.create_transfers(posts)
            if statuses[0] not in DONE:
                details: dict[str, object] = {
                    "packetId": f"{packet_id:032x}",
                    "statuses": [status.name for status in statuses],
                }
                held = await self.ledger.lookup_transfers([post.pending_id for post in posts])
                if not held:
                    # Another ledger than the one it was meant for: a human must look.
                    self._on_alert("outbox_transfer_unknown", details)
                    continue
                legs = [transfer._replace(timestamp=0) for transfer in held]
                await self.ledger.create_transfers(_correction(legs, self._credit_line_of))
                self.counters.corrections += 1
                self._on_alert("accounting_correction", details)
            booked.extend(post.id for post in posts)
        if booked:
            await self._outbox.remove(booked)
            await self._load_balances()

    async def _grant_at_start(self, terms: PeerTerms) -> None:
        try:
            await self.set_credit_limit(terms.peer_id, terms.credit_limit)
        except CreditInUseError:
            books = self.peers[terms.peer_id]
            free = max(0, books.available_credit)
            await self.set_credit_limit(terms.peer_id, books.granted - free)
            self._on_alert(
                "credit_limit_in_use",
                {
                    "peerId": terms.peer_id,
                    "configured": str(terms.credit_limit),
                    "granted": str(books.granted),
                },
            )

    async def set_credit_limit(self, peer_id: str, limit: int) -> None:
        """Let a peer owe us up to `limit`: the difference to what is granted is transferred.

        Raises:
            CreditInUseError: it already uses more than that.
            LedgerUnavailableError: no acknowledgement.
        """
        books = self.peers[peer_id]
        change = limit - books.granted
        if change == 0:
            return
        line, peer = books.credit_line, books.peer
        debit, credit = (line, peer) if change > 0 else (peer, line)
        amount = abs(change)
        transfer = Transfer(
            id=self._ids.next(self._clock.now_ms()),
            debit_account_id=debit.account_id,
            credit_account_id=credit.account_id,
            amount=amount,
            ledger=peer.ledger,
            code=TransferCode.CREDIT,
        )
        async with self._one_at_a_time:
            status = (await self.ledger.create_transfers([transfer]))[0]
        if status is Status.EXCEEDS_CREDITS:
            raise CreditInUseError(
                f"peer {peer_id} uses {books.granted - books.available_credit} of its credit of "
                f"{books.granted}; a limit of {limit} is below that: let it pay first"
            )
        assert status in DONE, status
        debit.debits_posted += amount
        credit.credits_posted += amount

    async def _recover(self) -> None:
        """Find packets that a resumable peer may ask for again (docs/protocol.md)."""
        since_ns = self._clock.now_ns() - (limits.HOLD_MS_MAX + 60_000) * 1_000_000
        owners = {books.peer.account_id: peer_id for peer_id, books in self.peers.items()}
        legs: dict[int, list[Transfer]] = {}
        resolved: dict[int, int] = {}
        for transfer in await self.ledger.recent_transfers(since_ns):
            packet_id = transfer.id >> TAG_BITS << TAG_BITS
            if transfer.flags & PENDING and transfer.debit_account_id in self._books_by_id:
                legs.setdefault(packet_id, []).append(transfer)
            elif transfer.flags & (POST | VOID):
                resolved[packet_id] = transfer.flags & (POST | VOID)
        now_ns = self._clock.now_ns()
        # The ledger may still count a hold whose time is up; the mirror counts those that we know
        # of and will let go of, so that the two agree as soon as nothing is held.
        for book in self._books_by_id.values():
            book.debits_pending = book.credits_pending = 0
        for packet_id, parts in legs.items():
            first = parts[0]
            outcome = resolved.get(packet_id)
            expires_at_ns = first.timestamp + first.timeout * 1_000_000_000
            if outcome == VOID or (outcome is None and expires_at_ns <= now_ns):
                continue
            reservation = Reservation(
                packet_id,
                # As it was asked for: timestamps are the ledger's.
                [part._replace(timestamp=0) for part in parts],
                [
                    (self._books_by_id[p.debit_account_id], self._books_by_id[p.credit_account_id])
                    for p in parts
                ],
                posted=outcome == POST,
            )
            if outcome is None:
                self._orphans[packet_id] = (expires_at_ns, reservation)
                for leg, (debit, credit) in zip(reservation.legs, reservation.books, strict=True):
                    debit.debits_pending += leg.amount
                    credit.credits_pending += leg.amount
            source_id = owners.get(first.debit_account_id)
            if source_id is None or first.user_data_128 == 0:
                continue
            # At most one leg credits a peer; a packet without such a leg was for this node.
            targets = [owners[p.credit_account_id] for p in parts if p.credit_account_id in owners]
            self._recovered[source_id, first.user_data_128] = Recovered(
                reservation=reservation,
                source_id=source_id,
                next_hop_id=targets[0] if targets else LOCAL,
                condition_tag=first.user_data_64 << 32 | first.user_data_32,
            )

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
            return Outcome.UNAVAILABLE
        if len(self._reserves) >= limits.LEDGER_QUEUE_RESERVATIONS_MAX:
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
        timeout = (asked.hold_ms + limits.PENDING_GRACE_MS + 999) // 1000
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
            transfers = _resolutions(legs, POST)
        for leg, (debit, credit) in zip(legs, reservation.books):  # noqa: B905 - built together
            amount = leg.amount
            debit.debits_pending -= amount
            credit.credits_pending -= amount
            debit.debits_posted += amount
            credit.credits_posted += amount
        relay_by_ms = self._clock.now_ms() + limits.POST_BUDGET_MS
        latest_ms = expires_at_ms - limits.POST_EXPIRY_MARGIN_MS
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
        self._resolves.append((None, reservation, _resolutions(reservation.legs, VOID)))
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
            batch, transfers = self._take_batch()
            self._request_began_ms = self._clock.now_ms()
            try:
                async with self._one_at_a_time:
                    statuses = await self.ledger.create_transfers(transfers)
            except (LedgerUnavailableError, LedgerRefusedError) as error:
                self._request_began_ms = None
                await self._failed(batch, str(error))
                continue
            self._request_began_ms = None
            self.counters.requests += 1
            self.counters.events += len(transfers)
            if self.state is not State.AVAILABLE:
                self._set_state(State.AVAILABLE, "")
            self._deliver(batch, statuses)
            if self._in_outbox:
                await self._clear_outbox()
            # With a ledger that answers at once there may be no other await in this loop.
            await asyncio.sleep(0)

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
            if status is created and size == 1:
                fine = True
            else:
                fine = all(status in DONE for status in statuses[at : at + size]) or (
                    # A chain that is there already: seen on a retry (docs/accounting.md).
                    status is Status.EXISTS and size > 1
                )
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
        self.counters.refused_unexpectedly += 1
        self._on_alert(
            "accounting_refused",
            {
                "packetId": f"{reservation.packet_id:032x}",
                "statuses": [status.name for status in statuses],
            },
        )
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
        correction = _correction(reservation.legs, self._credit_line_of)
        self._resolves.append((reservation.waiter, reservation, correction))
        for grant in correction:
            if grant.code == TransferCode.CREDIT:
                self._books_by_id[grant.debit_account_id].debits_posted += grant.amount
                self._books_by_id[grant.credit_account_id].credits_posted += grant.amount
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

    async def _failed(self, batch: list[_Entry], why: str) -> None:
        """No acknowledgement: reservations are refused, resolutions stay and are tried again."""
        self._set_state(State.UNAVAILABLE, why)
        again: list[_Entry] = []
        for token, reservation, transfers in batch:
            if transfers[0].flags & PENDING:
                # It may be in the ledger all the same: giving it back covers both.
                again.append((None, reservation, _resolutions(reservation.legs, VOID)))
                self._take_back(reservation)
                self._resume(token, Outcome.UNAVAILABLE)
            else:
                again.append((token, reservation, transfers))
        self._resolves.extendleft(reversed(again))
        self._refuse_queued()
        self._turn_done()
        await asyncio.sleep(limits.POST_RETRY_SECONDS)

    def _refuse_queued(self) -> None:
        while self._reserves:
            token, reservation, _ = self._reserves.popleft()
            self._take_back(reservation)
            self._resume(token, Outcome.UNAVAILABLE)

    def _set_state(self, state: State, why: str) -> None:
        if state is not self.state:
            self.state = state
            self.state_reason = why
            self._on_state(state, why)

    # --- time

    def tick(self) -> None:
        """Look at the clock: release posts whose budget is used up, open the breaker.

        Called some 20 times a second. An idle tick looks at three empty containers.
        """
        now_ms = self._clock.now_ms()
        if self._orphans:
            self._forget_orphans(now_ms * 1_000_000)
        began = self._request_began_ms
        if began is not None and now_ms - began > self._timeout_ms:
            self._set_state(State.UNAVAILABLE, f"no answer for {self._timeout_ms} ms")
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
        transfers = [
            transfer
            for reservation in late
            if not reservation.posted
            for transfer in reservation.resolution
        ]
        if not transfers:
            self._release(late)
            return
        durable = False
        try:
            async with asyncio.timeout(limits.OUTBOX_BUDGET_MS / 1000):
                await self._outbox.add(transfers)
            durable = True
        except (OSError, ConnectorError, TimeoutError) as error:
            self._on_alert("outbox_failed", {"error": str(error) or "too slow"})
        if durable:
            self._in_outbox.update((reservation.packet_id, reservation) for reservation in late)
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
        booked = [reservation for reservation in self._in_outbox.values() if reservation.posted]
        if not booked:
            return
        for reservation in booked:
            del self._in_outbox[reservation.packet_id]
        try:
            await self._outbox.remove(
                [transfer.id for reservation in booked for transfer in reservation.resolution]
            )
        except (OSError, ConnectorError) as error:
            # It stays in the outbox: replaying it once more changes nothing.
            self._on_alert("outbox_failed", {"error": str(error)})

    async def expire(self) -> None:
        """Let the ledger's timeouts take effect while nothing else is asked of it."""
        if self._request_began_ms is None and not self._resolves and not self._reserves:
            try:
                async with self._one_at_a_time:
                    await self.ledger.create_transfers([])
            except (LedgerUnavailableError, LedgerRefusedError) as error:
                self._set_state(State.UNAVAILABLE, str(error))
            else:
                if self.state is State.UNAVAILABLE:
                    self._set_state(State.AVAILABLE, "")

    def queue_depth(self) -> int:
        """Packets that wait to be written."""
        return len(self._reserves) + len(self._resolves)

    def stop(self) -> None:
        """Let `run` end once everything queued is written."""
        self._stopping = True
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


def _resolutions(legs: list[Transfer], flag: int) -> list[Transfer]:
    """The transfers that post or void every leg, linked: all or none."""
    last = len(legs) - 1
    return [
        Transfer(
            leg.id | PHASE_RESOLVE, 0, 0, leg.amount, leg.id, 0, 0, 0, 0, 0, 0,
            flag | (LINKED if index < last else 0),
        )
        for index, leg in enumerate(legs)
    ]  # fmt: skip


def _correction(
    legs: list[Transfer], credit_line_of: Callable[[int], int | None]
) -> list[Transfer]:
    """What books the legs outright after their reservation has expired.

    A chain for each leg, one behind the other. The sender's limit must not stand in the way of what has happened, so the
    amount is granted first; `set_credit_limit` takes it back when the sender has paid.
    """
    correction: list[Transfer] = []
    for leg in legs:
        base = leg.id | PHASE_CORRECT
        line = credit_line_of(leg.debit_account_id)
        if line is not None:
            correction.append(
                Transfer(
                    id=base | 0x40,
                    debit_account_id=line,
                    credit_account_id=leg.debit_account_id,
                    amount=leg.amount,
                    ledger=leg.ledger,
                    code=TransferCode.CREDIT,
                    flags=LINKED,
                )
            )
        correction.append(
            Transfer(
                id=base,
                debit_account_id=leg.debit_account_id,
                credit_account_id=leg.credit_account_id,
                amount=leg.amount,
                user_data_128=leg.user_data_128,
                user_data_64=leg.user_data_64,
                user_data_32=leg.user_data_32,
                ledger=leg.ledger,
                code=TransferCode.CORRECTION,
            )
        )
    return correction
