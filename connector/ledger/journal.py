"""The journal of the embedded ledger: its tables, its rows, and how they are replayed.

journal     one row per request: transfers in the dense layout of `rows`, or in TigerBeetle's
            128 octets, compressed, if one does not fit in it
account     balances at the checkpoint; decimal text, ids in hex
checkpoint  the row up to which the accounts and holds are saved
derived     transfers whose ids are derived from their purpose (grants, settlements): kept
            permanently, also after their journal rows are pruned
point       past states, chained by hash (`retention`)
id_range    lowest and highest id of each range of rows, from one checkpoint to the next: only the
            ranges that may contain a transfer are searched for it
kept        fulfilments that could not be fetched again (`kept`), written with their posts
"""

from __future__ import annotations

import sqlite3
import struct
import zlib
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from connector.base.errors import LedgerCorruptError
from connector.ledger import bounds, kept
from connector.ledger.machine import LedgerMachine, Record
from connector.ledger.model import (
    DERIVED_ID_MAX,
    ID_MAX,
    Account,
    AccountStatus,
    Status,
    Transfer,
)
from connector.ledger.rows import NO_ACCOUNT, ROW, pack_transfer, unpack_dense, unpack_transfer

FORMAT: Final = 5
FORMATS_READ: Final = (1, 2, 3, 4, 5)
FORMAT_OF_DERIVED: Final = 3
"""The first one with table `derived`."""
TRANSFERS: Final = 0
ACCOUNTS: Final = 1
DENSE: Final = 2
CREATED_OCTET: Final = 0

SCHEMA: Final = f"""
CREATE TABLE IF NOT EXISTS journal (
    seq INTEGER PRIMARY KEY, now_ns INTEGER NOT NULL, kind INTEGER NOT NULL,
    events BLOB NOT NULL, statuses BLOB NOT NULL, id_min BLOB, id_max BLOB);
CREATE TABLE IF NOT EXISTS account (
    id TEXT PRIMARY KEY, debits_pending TEXT, debits_posted TEXT, credits_pending TEXT,
    credits_posted TEXT, user_data_128 TEXT, user_data_64 TEXT, user_data_32 INTEGER,
    ledger INTEGER, code INTEGER, flags INTEGER, timestamp INTEGER) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS checkpoint (
    one INTEGER PRIMARY KEY CHECK (one = 1), seq INTEGER NOT NULL, timestamp INTEGER NOT NULL,
    holds BLOB NOT NULL, id_max BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS derived (
    id BLOB PRIMARY KEY, seq INTEGER NOT NULL, transfer BLOB NOT NULL, status INTEGER NOT NULL
    ) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS point (
    seq INTEGER PRIMARY KEY, now_ns INTEGER NOT NULL, timestamp INTEGER NOT NULL,
    hash BLOB NOT NULL, state BLOB);
CREATE TABLE IF NOT EXISTS id_range (
    last_seq INTEGER PRIMARY KEY, first_seq INTEGER NOT NULL, id_min BLOB, id_max BLOB);
{kept.SCHEMA}"""

JournalRow = tuple[int, int, int, bytes, bytes]
"""Its number, time in nanoseconds, kind, events and statuses."""
AccountRow = tuple[str, str, str, str, str, str, str, int, int, int, int, int]
_COUNT: Final = struct.Struct("<I")

DAMAGE: Final = (
    zlib.error,
    struct.error,
    ValueError,
    LookupError,
    TypeError,
    OverflowError,
    AssertionError,
)
"""What reading a damaged row may raise: SQLite does not enforce column types."""


def id_octets(id_: int) -> bytes:
    """An id in 16 octets, big-endian: they sort like the numbers."""
    return id_.to_bytes(16, "big")


def status_octet(status: Status | AccountStatus) -> int:
    """A status in one octet; CREATED, the common case, is zero."""
    if status == Status.CREATED:
        return CREATED_OCTET
    octet = int(status)
    # Zero would be read back as CREATED.
    assert CREATED_OCTET < octet < 256, status
    return octet


def _status(octet: int) -> Status:
    return Status.CREATED if octet == CREATED_OCTET else Status(octet)


def pack_account(account: Account) -> bytes:
    """An account in 128 octets; its fields have the widths of a transfer's."""
    (
        id_, debits_pending, debits_posted, credits_pending, credits_posted, data_128, data_64,
        data_32, ledger, code, flags, timestamp,
    ) = account  # fmt: skip
    return pack_transfer(
        Transfer(
            id_, debits_pending, debits_posted, credits_pending, credits_posted, data_128, data_64,
            data_32, 0, ledger, code, flags,
        ),
        timestamp,
    )  # fmt: skip


def unpack_account(octets: bytes, at: int) -> Account:
    """The account in the 128 octets from `at`."""
    row = unpack_transfer(octets, at)
    return Account(*row[:8], *row[9:])


def row_of_account(account: Account) -> tuple[object, ...]:
    """An account as a row of table `account`."""
    return (
        f"{account.id:032x}", str(account.debits_pending), str(account.debits_posted),
        str(account.credits_pending), str(account.credits_posted), f"{account.user_data_128:032x}",
        str(account.user_data_64), account.user_data_32, account.ledger, account.code,
        account.flags, account.timestamp,
    )  # fmt: skip


def account_of_row(row: AccountRow) -> Account:
    """The account in a row of table `account`."""
    return Account(
        int(row[0], 16), int(row[1]), int(row[2]), int(row[3]), int(row[4]), int(row[5], 16),
        int(row[6]), *row[7:],
    )  # fmt: skip


def pack_holds(holds: Iterable[Transfer]) -> bytes:
    """Open holds, 128 octets each."""
    return b"".join(pack_transfer(hold, hold.timestamp) for hold in holds)


def unpack_holds(octets: bytes) -> list[Transfer]:
    """The holds in such octets."""
    return [unpack_transfer(octets, at) for at in range(0, len(octets), ROW.size)]


def pack_state(accounts: Sequence[Account], holds: bytes) -> bytes:
    """All balances and open holds in canonical form: accounts by creation, holds by id."""
    in_order = sorted(unpack_holds(holds), key=lambda hold: hold.id)
    body = b"".join(map(pack_account, accounts)) + pack_holds(in_order)
    # As `unpack_state` finds the end of the accounts, and the holds behind it.
    assert len(body) == len(accounts) * ROW.size + len(holds), (len(body), len(accounts))
    return _COUNT.pack(len(accounts)) + body


def unpack_state(octets: bytes) -> tuple[list[Account], list[Transfer]]:
    """The accounts and holds in such octets."""
    (count,) = _COUNT.unpack_from(octets)
    end = _COUNT.size + count * ROW.size
    accounts = [unpack_account(octets, at) for at in range(_COUNT.size, end, ROW.size)]
    return accounts, unpack_holds(octets[end:])


def state_of(machine: LedgerMachine) -> bytes:
    """The state of a machine in the form of `pack_state`."""
    accounts = [state.snapshot() for state in machine.accounts.values()]
    return pack_state(accounts, pack_holds(hold.transfer for hold in machine.holds.values()))


def uses_up(status: Status) -> bool:
    """Whether a transfer with this status has used up its id."""
    return status in (
        Status.CREATED,
        Status.EXCEEDS_CREDITS,
        Status.EXCEEDS_DEBITS,
        Status.DEBIT_ACCOUNT_NOT_FOUND,
        Status.CREDIT_ACCOUNT_NOT_FOUND,
        Status.PENDING_TRANSFER_NOT_FOUND,
    )


class IdRange:
    """The lowest and highest id in the rows of a stretch that is still being written."""

    __slots__ = ("first_seq", "high", "low")

    def __init__(self, first_seq: int) -> None:
        self.first_seq: Final = first_seq
        self.low = ID_MAX
        self.high = 0

    def add(self, low: int, high: int) -> None:
        """A row has these ids and others between them."""
        assert low <= high, (low, high)
        self.low = min(self.low, low)
        self.high = max(self.high, high)

    def row(self, last_seq: int) -> tuple[int, int, bytes | None, bytes | None]:
        """Its row in table `id_range`, once it ends."""
        assert last_seq >= self.first_seq, (last_seq, self.first_seq)
        if self.low > self.high:
            return last_seq, self.first_seq, None, None  # nothing but accounts
        return last_seq, self.first_seq, id_octets(self.low), id_octets(self.high)


def cover(connection: sqlite3.Connection, last_seq: int) -> None:
    """Fill table `id_range` for rows up to `last_seq` that no stretch has.

    They were written by a version that did not know the table. Once, some seconds a million rows.
    """
    (first,) = connection.execute("SELECT min(seq) FROM journal").fetchone()
    if first is None:
        return
    begin = first
    stretches = connection.execute(
        "SELECT first_seq, last_seq FROM id_range WHERE last_seq <= ? ORDER BY last_seq",
        (last_seq,),
    ).fetchall()
    for first_seq, end in [*stretches, (last_seq + 1, last_seq)]:
        # From row to row: in a damaged file the numbers of two rows may be far apart.
        while (
            at := connection.execute(
                "SELECT min(seq) FROM journal WHERE seq >= ? AND seq < ?", (begin, first_seq)
            ).fetchone()[0]
        ) is not None:
            part = min(at + bounds.JOURNAL_ROWS_COVERED_AT_ONCE, first_seq) - 1
            connection.execute(
                "INSERT OR REPLACE INTO id_range SELECT ?, ?, min(id_min), max(id_max)"
                " FROM journal WHERE seq BETWEEN ? AND ?",
                (part, at, at, part),
            )
            begin = part + 1
        begin = max(begin, end + 1)


def rows_with(
    connection: sqlite3.Connection, ids: Sequence[int], before_seq: int
) -> Iterator[tuple[int, bytes, bytes]]:
    """Kind, events and statuses of the rows before `before_seq` that may have transfers under `ids`.

    Oldest first. Reads the stretches between whose lowest and highest id one of them is. The rows
    behind the last stretch are not read: a machine remembers what is in them (`bounds`).
    """
    keys = sorted(map(id_octets, ids))
    limits = (keys[-1], keys[0])
    stretches: list[tuple[int, int]] = [(0, before_seq - 1)]
    if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'id_range'").fetchone():
        stretches = [
            (first, min(last, before_seq - 1))
            for first, last, low, high in connection.execute(
                "SELECT first_seq, last_seq, id_min, id_max FROM id_range"
                " WHERE id_min <= ? AND id_max >= ? ORDER BY last_seq",
                limits,
            ).fetchall()
            if _is_between(keys, low, high)
        ]
    for first, last in stretches:
        for kind, events, statuses, low, high in connection.execute(
            "SELECT kind, events, statuses, id_min, id_max FROM journal"
            " WHERE seq BETWEEN ? AND ? AND id_min <= ? AND id_max >= ? ORDER BY seq",
            (first, last, *limits),
        ):
            if _is_between(keys, low, high):
                yield kind, events, statuses


def _is_between(keys: Sequence[bytes], low: bytes, high: bytes) -> bool:
    """Whether one of `keys`, which rise, is between two octet strings."""
    at = bisect_left(keys, low)
    return at < len(keys) and keys[at] <= high


def derived_rows(
    seq: int, transfers: Sequence[Transfer], statuses: Sequence[Status]
) -> list[tuple[bytes, int, bytes, int]]:
    """Rows of table `derived` for those transfers of a request that have derived ids."""
    return [
        (id_octets(one.id), seq, pack_transfer(one, one.timestamp), status_octet(status))
        for one, status in zip(transfers, statuses, strict=True)
        if one.id <= DERIVED_ID_MAX and uses_up(status)
    ]


def derived_record(transfer: bytes, status: int) -> Record:
    """The record in a row of table `derived`."""
    return unpack_transfer(transfer), _status(status)


def numbered(machine: LedgerMachine) -> dict[int, int]:
    """The number of each account in dense rows, in the order of creation."""
    numbers = {id_: number for number, id_ in enumerate(machine.accounts)}
    numbers[0] = NO_ACCOUNT  # as in a post or void that was refused
    return numbers


def _transfers(
    machine: LedgerMachine, kind: int, events: bytes, *, stamped: bool = True
) -> list[Transfer]:
    if kind == DENSE:
        return list(unpack_dense(events, list(machine.accounts), stamped=stamped))
    octets = zlib.decompress(events)
    found = [unpack_transfer(octets, at) for at in range(0, len(octets), ROW.size)]
    return found if stamped else [one._replace(timestamp=0) for one in found]


def records(machine: LedgerMachine, kind: int, events: bytes, statuses: bytes) -> Iterator[Record]:
    """The transfers of a row of the journal, with their statuses."""
    for transfer, octet in zip(_transfers(machine, kind, events), statuses, strict=True):
        yield transfer, _status(octet)


def replay(machine: LedgerMachine, row: JournalRow, path: Path) -> None:
    """Replay a row.

    Raises:
        LedgerCorruptError: it does not give the statuses that it recorded.
    """
    seq, now_ns, kind, events, statuses = row
    before = machine.timestamp
    results: Sequence[Status | AccountStatus]
    if kind == ACCOUNTS:
        octets = zlib.decompress(events)
        offsets = range(0, len(octets), ROW.size)
        accounts = [unpack_account(octets, at)._replace(timestamp=0) for at in offsets]
        results = machine.create_accounts(accounts, now_ns)
    else:
        transfers = _transfers(machine, kind, events, stamped=False)
        results = machine.create_transfers(transfers, now_ns)
    if bytes(map(status_octet, results)) != statuses:
        raise LedgerCorruptError(f"{path} is damaged: row {seq} of its journal does not replay")
    assert machine.timestamp >= before, "a row is older than the one before"


class Archive:
    """Look-up of old transfers in the journal for a machine, limited to rows before a given one.

    A replay must not look ahead: a transfer whose id is lower than earlier ones, such as the late
    post of a packet from before a restart, would be found as existing when it is replayed.
    """

    def __init__(self, find: Callable[[int, int, LedgerMachine], Record | None]) -> None:
        self.before_seq = 0
        self.machine: Final = LedgerMachine(archive=self)
        """The machine whose accounts the rows refer to."""
        self._find = find

    def __call__(self, id_: int) -> Record | None:
        """The transfer under `id_` in a row before `before_seq`."""
        assert self.before_seq > 0, "looked up before it is known what may be seen"
        return self._find(id_, self.before_seq, self.machine)
