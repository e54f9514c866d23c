"""The rows of a ledger, read by the simulator's own decoder.

For the simulated cluster its list of transfers; for an embedded ledger the journal in its database.
It shares no code with the product: a row that the product wrote wrongly is read as it was written.
"""

from __future__ import annotations

import hashlib
import sqlite3
import struct
import zlib
from collections.abc import Iterable, Iterator
from heapq import heappop, heappush
from typing import Final, NamedTuple

LINKED: Final = 1
PENDING: Final = 2
POST: Final = 4
VOID: Final = 8
NS: Final = 1_000_000_000

SECOND_WAY: Final = 1 << 71
"""The bit of `Row.packet` that tells a packet's second way from its first."""
KINDS: Final = ("peer", "credit_line", "revenue", "exchange", "wallet", "settlement")


class Row(NamedTuple):
    """One transfer, in TigerBeetle's order of fields."""

    id: int
    debit: int
    credit: int
    amount: int
    pending_id: int
    tag: int
    data_64: int
    data_32: int
    timeout: int
    ledger: int
    code: int
    flags: int
    timestamp: int

    @property
    def condition_start(self) -> int:
        """The first 96 bits of the condition of the packet that it is for; zero: none."""
        return self.data_64 << 32 | self.data_32

    @property
    def packet(self) -> int:
        """What all transfers of a packet share."""
        return self.id >> 8


class RawAccount(NamedTuple):
    """The owner and kind of an account."""

    node: str
    kind: str
    peer: str
    asset: str


def account_id(node: str, kind: str, peer: str, asset: str) -> int:
    """See docs/accounting.md, Accounts."""
    digest = hashlib.sha256()
    for part in (node, kind, peer, asset):
        octets = part.encode()
        digest.update(len(octets).to_bytes(2, "big") + octets)
    return int.from_bytes(digest.digest()[:16], "big")


class Book:
    """The balances of one account, computed from rows."""

    __slots__ = ("credits", "credits_pending", "debits", "debits_pending")

    def __init__(self) -> None:
        self.debits = 0
        self.credits = 0
        self.debits_pending = 0
        self.credits_pending = 0


class Leg(NamedTuple):
    """One posted movement."""

    row: Row
    """The hold, or the transfer itself where nothing was held."""
    final: Row
    """What made it final."""


class Ledger:
    """The rows of one node, processed in order."""

    def __init__(self, rows: Iterable[Row], accounts: dict[int, RawAccount], now_ns: int) -> None:
        """`accounts`: all that the node can have. `now_ns`: holds that expired before it are void."""
        self.accounts = accounts
        self.books: dict[int, Book] = {}
        self.booked: dict[int, list[Leg]] = {}
        """By condition: posted legs."""
        self.others: list[Row] = []
        """Posted without a packet: credit, settlements."""
        self.open: list[Row] = []
        """Holds that are neither resolved nor expired."""
        self.faults: list[str] = []
        self.count = 0
        self._work(rows, now_ns)

    def book(self, account: int) -> Book:
        """The balances of an account."""
        found = self.books.get(account)
        if found is None:
            found = self.books[account] = Book()
        return found

    def _work(self, rows: Iterable[Row], now_ns: int) -> None:
        holds: dict[int, Row] = {}
        seen: set[int] = set()
        for row in rows:
            self.count += 1
            if row.id in seen:
                self.faults.append(f"transfer {row.id:032x} stands twice")
            seen.add(row.id)
            if row.flags & PENDING:
                holds[row.id] = row
                continue
            if row.flags & (POST | VOID):
                hold = holds.pop(row.pending_id, None)
                if hold is None:
                    self.faults.append(f"transfer {row.id:032x} resolves what is not held")
                    continue
                if row.flags & VOID:
                    continue
                if row.amount != hold.amount:
                    self.faults.append(f"{row.amount} of {hold.amount} held was posted")
                self._final(hold, row)
            else:
                self._final(row, row)
        for hold in holds.values():
            if not hold.timeout or hold.timestamp + hold.timeout * NS > now_ns:
                self.open.append(hold)
                self.book(hold.debit).debits_pending += hold.amount
                self.book(hold.credit).credits_pending += hold.amount

    def _final(self, row: Row, final: Row) -> None:
        self.book(row.debit).debits += final.amount
        self.book(row.credit).credits += final.amount
        condition = row.condition_start
        if condition:
            self.booked.setdefault(condition, []).append(Leg(row, final))
        else:
            self.others.append(row)


CREDIT: Final = 5
"""The code of a transfer that grants credit."""
SETTLEMENT: Final = 6
"""The code of a transfer that books what was paid outside."""


def over_limit(rows: Iterable[Row], limits: dict[int, int]) -> list[Row]:
    """Transfers after which a peer owes more than its limit, whatever credit it was granted.

    `limits`: by account of a peer.
    """
    available = dict(limits)
    holds: dict[int, Row] = {}
    expiry: list[tuple[int, int]] = []
    found: list[Row] = []
    for row in rows:
        while expiry and expiry[0][0] <= row.timestamp:
            _, id_ = heappop(expiry)
            hold = holds.pop(id_, None)
            if hold is not None and hold.debit in available:
                available[hold.debit] += hold.amount
        if row.code == CREDIT:
            continue
        if row.flags & PENDING:
            holds[row.id] = row
            if row.timeout:
                heappush(expiry, (row.timestamp + row.timeout * NS, row.id))
            if row.debit in available:
                available[row.debit] -= row.amount
                if available[row.debit] < 0:
                    found.append(row)
        elif row.flags & (POST | VOID):
            hold = holds.pop(row.pending_id, None)
            if hold is None:
                continue
            if row.flags & VOID:
                if hold.debit in available:
                    available[hold.debit] += hold.amount
            elif hold.credit in available:
                available[hold.credit] += row.amount
        else:
            if row.credit in available:
                available[row.credit] += row.amount
            if row.debit in available:
                available[row.debit] -= row.amount
                if available[row.debit] < 0:
                    found.append(row)
    return found


# --- the journal of an embedded ledger (docs/accounting.md)

_ACCOUNT: Final = struct.Struct("<16s16s16s16s16s16sQIIIHHQ")
_TRANSFER: Final = struct.Struct("<16s16s16s16s16s16sQIIIHHQ")
_DENSE: Final = struct.Struct("<16sIIQ16sQIIIHHBQ")


def _number(octets: bytes) -> int:
    return int.from_bytes(octets, "little")


class Journal:
    """The requests of a journal, also those that were pruned since they were read."""

    def __init__(self) -> None:
        self.requests: dict[int, tuple[int, bytes, bytes]] = {}
        """By number, from 1: kind, events, statuses."""
        self.first = 0
        """The oldest that there was when it was read last; zero: there was none."""

    def read(self, connection: sqlite3.Connection) -> None:
        """Read what is there."""
        self.first = 0
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'journal'").fetchone():
            return  # it never came to that, or all of it is lost
        for seq, *request in connection.execute(
            "SELECT seq, kind, events, statuses FROM journal ORDER BY seq"
        ):
            self.first = self.first or seq
            self.requests[seq] = (request[0], request[1], request[2])


def read_points(connection: sqlite3.Connection) -> int:
    """How many states of the past a journal has from which it could be replayed."""
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'point'").fetchone():
        return 0
    query = "SELECT count(*) FROM point WHERE state IS NOT NULL"
    return int(connection.execute(query).fetchone()[0])


def read_journal(connection: sqlite3.Connection, journal: Journal | None = None) -> list[Row]:
    """Every transfer that was created, oldest first; `journal`: what was read of it before."""
    journal = Journal() if journal is None else journal
    journal.read(connection)
    return list(_rows_of(request for _, request in sorted(journal.requests.items())))


def rows_in(connection: sqlite3.Connection) -> Iterator[Row]:
    """What there is of a journal, one by one: a long one takes much memory at once."""
    yield from _rows_of(
        connection.execute("SELECT kind, events, statuses FROM journal ORDER BY seq")
    )


def _rows_of(requests: Iterable[tuple[int, bytes, bytes]]) -> Iterator[Row]:
    accounts: list[int] = []
    for kind, events, statuses in requests:
        if kind == 1:
            octets = zlib.decompress(events)
            for index, status in enumerate(statuses):
                if status == 0:
                    fields = _ACCOUNT.unpack_from(octets, index * _ACCOUNT.size)
                    accounts.append(_number(fields[0]))
        elif kind == 2:
            for index, status in enumerate(statuses):
                if status == 0:
                    yield _dense(events, index * _DENSE.size, accounts)
        else:
            octets = zlib.decompress(events)
            for index, status in enumerate(statuses):
                if status == 0:
                    fields = _TRANSFER.unpack_from(octets, index * _TRANSFER.size)
                    wide = [_number(one) for one in fields[:6]]
                    yield Row(*wide, *fields[6:])


def read_acknowledged(connection: sqlite3.Connection) -> dict[int, tuple[int, int]]:
    """What the outbox's file remembers of the ledger: debits and credits by account."""
    query = "SELECT 1 FROM sqlite_master WHERE name = 'acknowledged'"
    if not connection.execute(query).fetchone():
        return {}
    rows = connection.execute("SELECT account_id, debits_posted, credits_posted FROM acknowledged")
    return {
        int.from_bytes(id_, "big"): (int(debits), int(credits_)) for id_, debits, credits_ in rows
    }


def read_kept(connection: sqlite3.Connection) -> set[int]:
    """The packets that a Fulfill is kept for, in either file; see `Row.packet`.

    Of each, one after the other: its id (16 octets), the length of the Fulfill (4), the Fulfill.
    """
    packets: set[int] = set()
    query = "SELECT 1 FROM sqlite_master WHERE name = 'kept'"
    if connection.execute(query).fetchone():
        for (octets,) in connection.execute("SELECT packets FROM kept"):
            at = 0
            while at < len(octets):
                packets.add(int.from_bytes(octets[at : at + 16], "big") >> 8)
                at += 20 + int.from_bytes(octets[at + 16 : at + 20], "big")
    return packets


def _account(number: int, accounts: list[int]) -> int:
    """Zero: none, or one whose row is missing."""
    return accounts[number] if number < len(accounts) else 0


def _dense(octets: bytes, at: int, accounts: list[int]) -> Row:
    id_, debit, credit, amount, tag, d64, d32, timeout, ledger, code, flags, low, timestamp = (
        _DENSE.unpack_from(octets, at)
    )
    number = _number(id_)
    return Row(
        number,
        _account(debit, accounts),
        _account(credit, accounts),
        amount,
        number >> 8 << 8 | low if flags & (POST | VOID) else 0,
        _number(tag),
        d64,
        d32,
        timeout,
        ledger,
        code,
        flags,
        timestamp,
    )
