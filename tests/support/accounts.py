"""Parts below an `AccountManager`, with scripted faults; and checks of its books."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from enum import Enum, auto

from connector.accounting.manager import AccountManager
from connector.accounting.mirror import Book, Mirror
from connector.base.clock import Clock
from connector.base.errors import LedgerUnavailableError
from connector.ledger.embedded import MemoryLedger
from connector.ledger.model import (
    Kept,
    Memory,
    Posted,
    Status,
    Transfer,
    node_tag,
)


class Fault(Enum):
    """How a request to a ledger can fail."""

    REFUSED = auto()
    """Not carried out."""
    LOST = auto()
    """Carried out, but the acknowledgement did not arrive."""


class KeptInMemory:
    """Fulfilments as a ledger or an outbox keeps them; they outlive the manager."""

    def __init__(self) -> None:
        self.rows: dict[int, Kept] = {}
        self.unposted: set[int] | None = None
        """Those of which it is not known that they are posted; None: all."""
        self.error: Exception | None = None

    @property
    def kept_bytes(self) -> int:
        return sum(len(row.octets) + 128 for row in self.rows.values())

    def add(self, rows: Sequence[Kept]) -> None:
        for row in rows:
            before = self.rows.get(row.packet_id)
            if before is None or before.keep_until_ms < row.keep_until_ms:
                self.rows[row.packet_id] = row

    async def kept(self, packet_ids: Sequence[int]) -> dict[int, bytes]:
        self._work()
        return {id_: self.rows[id_].octets for id_ in packet_ids if id_ in self.rows}

    async def kept_ids(self) -> list[int]:
        self._work()
        return sorted(self.rows if self.unposted is None else self.unposted & self.rows.keys())

    async def forget_kept(self, now_ms: int) -> bool:
        self._work()
        over = [id_ for id_, row in self.rows.items() if row.keep_until_ms <= now_ms]
        for id_ in over:
            del self.rows[id_]
        return False

    def _work(self) -> None:
        if self.error is not None:
            raise self.error


class ScriptedLedger(MemoryLedger):
    """A ledger in memory that takes time, fails when told to, and insists on one request at a time."""

    def __init__(self, *, clock: Clock) -> None:
        super().__init__(clock=clock)
        self.requests: list[list[Transfer]] = []
        """All that were made and were not empty."""
        self.latency_s = 0.0
        self.next_faults: list[Fault | None] = []
        """What happens to the next requests, first one first; None: nothing."""
        self.down: Fault | None = None
        """What happens to all requests after those."""
        self.gate = asyncio.Event()
        """Requests wait while it is not set."""
        self.gate.set()
        self.may_be_away = False
        self.keeps_books = True
        self.waits_for_commits: bool | None = None
        self.fulfilments: KeptInMemory | None = None
        self.is_open = True
        """Where not, opening it fails while it is down."""
        self.refusal: Exception | None = None
        self.one_at_a_time = True
        self._busy = False

    async def open(self) -> None:
        if self.refusal is not None:
            raise self.refusal
        if not self.is_open and self.down is not None:
            raise LedgerUnavailableError("refused on purpose")
        self.is_open = True

    def keep_beside(self) -> KeptInMemory:
        """From now on fulfilments are kept beside transfers, as the embedded ledger does."""
        self.fulfilments = KeptInMemory()
        self.fulfilments.unposted = set()
        return self.fulfilments

    async def create_transfers(
        self, transfers: Sequence[Transfer], kept: Sequence[Kept] = ()
    ) -> list[Status]:
        assert not self._busy or not self.one_at_a_time, "two requests at a time"
        assert len(transfers) <= self.batch_transfers_max
        assert not kept or self.fulfilments is not None
        self._busy = True
        try:
            return await self._carry_out(list(transfers), kept)
        finally:
            self._busy = False

    async def _carry_out(self, transfers: list[Transfer], kept: Sequence[Kept]) -> list[Status]:
        if transfers:
            self.requests.append(transfers)
        fault = self.next_faults.pop(0) if self.next_faults else self.down
        # Half of the time passes before it is carried out and half after: a node that is killed
        # meanwhile cannot know which.
        await self._pause()
        if fault is Fault.REFUSED:
            raise LedgerUnavailableError("refused on purpose")
        statuses = await super().create_transfers(transfers)
        if self.fulfilments is not None:
            self.fulfilments.add(kept)
            assert self.fulfilments.unposted is not None
            if statuses.count(Status.CREATED) != len(statuses):
                self.fulfilments.unposted.update(row.packet_id for row in kept)
        await self._pause()
        if fault is Fault.LOST:
            raise LedgerUnavailableError("lost on purpose")
        return statuses

    async def _pause(self) -> None:
        if self.latency_s:
            await asyncio.sleep(self.latency_s / 2)
        await self.gate.wait()


class MemoryOutbox:
    """An outbox that outlives the manager, as a file does; and fails when told to."""

    waits_for_commits = False

    def __init__(self) -> None:
        self.requests: dict[int, list[Transfer]] = {}
        self._kept = KeptInMemory()
        self.latency_s = 0.0
        self.error: Exception | None = None
        self.was_removed = False
        self._seq = 0
        self._is_new = True
        self._books: dict[int, Posted] | None = None
        self.acknowledged: dict[int, Posted] = {}
        self.highest_id = 0
        self.processes: list[int] = []

    @property
    def transfers(self) -> int:
        return sum(map(len, self.requests.values()))

    @property
    def ids(self) -> list[int]:
        """Of the transfers in it, oldest first."""
        return [transfer.id for request in self.requests.values() for transfer in request]

    async def add(self, transfers: list[Transfer]) -> int:
        await self._work()
        self._seq += 1
        self.requests[self._seq] = transfers
        return self._seq

    async def remove(self, seqs: list[int]) -> None:
        await self._work()
        for seq in seqs:
            self.requests.pop(seq, None)

    async def load(self, after_seq: int, transfers_max: int) -> list[tuple[int, list[Transfer]]]:
        found: list[tuple[int, list[Transfer]]] = []
        for seq, request in self.requests.items():
            if seq <= after_seq:
                continue
            transfers_max -= len(request)
            if transfers_max < 0 and found:
                break
            found.append((seq, request))
        return found

    @property
    def fulfilments(self) -> dict[int, Kept]:
        """Those that are kept, by packet."""
        return self._kept.rows

    @property
    def kept_bytes(self) -> int:
        return self._kept.kept_bytes

    async def keep(self, rows: Sequence[Kept]) -> None:
        await self._work()
        self._kept.add(rows)

    async def kept(self, packet_ids: Sequence[int]) -> dict[int, bytes]:
        await self._work()
        return await self._kept.kept(packet_ids)

    async def kept_ids(self) -> list[int]:
        await self._work()
        return await self._kept.kept_ids()

    async def forget_kept(self, now_ms: int) -> bool:
        await self._work()
        return await self._kept.forget_kept(now_ms)

    async def restore(self) -> bool:
        await self._work()
        was_removed, self.was_removed = self.was_removed, False
        return was_removed

    async def begin(self) -> Memory:
        await self._work()
        memory = Memory(
            self._is_new,
            self._books,
            max(self.requests, default=0),
            dict(self.acknowledged),
            self.highest_id,
        )
        self._is_new, self._books = False, None
        return memory

    async def end(self, books: Mapping[int, Posted]) -> None:
        await self._work()
        self._books = dict(books)

    async def remember(
        self, books: Mapping[int, Posted], highest_id: int, *, replace: bool = False
    ) -> None:
        await self._work()
        self.acknowledged = {**({} if replace else self.acknowledged), **books}
        self.highest_id = highest_id

    async def claims(self) -> list[int]:
        await self._work()
        return list(self.processes)

    async def keep_claims(self, processes: Sequence[int]) -> None:
        await self._work()
        self.processes = list(processes)

    async def _work(self) -> None:
        if self.latency_s:
            await asyncio.sleep(self.latency_s)
        if self.error is not None:
            raise self.error


def put_posted(book: Book, *, debits: int = 0, credits_: int = 0) -> None:
    """Debit and credit an account in the mirror, as no packet does: one side alone."""
    posted = Posted(book.debits_posted + debits, book.credits_posted + credits_)
    Mirror().set_posted(book, posted)


async def books_at_rest(accounts: AccountManager) -> list[str]:
    """Which of the invariants 1, 2, 3, 5 and 6 of docs/accounting.md a node breaks at rest.

    A peer that uses more than its limit is granted what it uses.
    """
    faults: list[str] = []
    ledger = accounts.ledger
    found = {
        account.id: account for account in await ledger.node_accounts(node_tag(accounts.node_id))
    }
    totals: dict[int, list[int]] = {}
    for account in found.values():
        total = totals.setdefault(account.ledger, [0, 0])
        total[0] += account.debits_posted
        total[1] += account.credits_posted
        if account.debits_pending or account.credits_pending:
            faults.append(f"2: money is held in {account}")
    faults += [
        f"1, 5: in asset {number} debits are {debits}, credits {credits_}"
        for number, (debits, credits_) in totals.items()
        if debits != credits_
    ]
    for peer_id, books in accounts.peers.items():
        configured = books.terms.credit_limit
        if books.granted != configured and (
            books.granted < configured or books.available_credit > 0
        ):
            faults.append(f"3: {peer_id} is granted {books.granted}, configured {configured}")
    for book in accounts.books():
        account = found[book.account_id]
        mirror = (
            book.debits_pending, book.debits_posted, book.credits_pending, book.credits_posted,
        )  # fmt: skip
        if mirror != account[1:5]:
            faults.append(f"6: {book.code.name} of {book.peer_id!r}: {mirror}, {account[1:5]}")
    if accounts.queue_depth():
        faults.append(f"{accounts.queue_depth()} packets wait to be written")
    return faults
