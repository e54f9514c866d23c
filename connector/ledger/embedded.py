"""The embedded ledger: the state machine of `machine`, made durable by a journal in SQLite.

Every request is applied in memory, appended to the journal as one row, and acknowledged when that
row is on disk. The row holds the request, its time and its statuses, so that a replay gives the
same state, and a difference betrays a damaged file. Now and then the same transaction also saves
a checkpoint (accounts, open holds), so that a start replays only the tail. One statement a
request is also the cheapest way to a disk: the work of SQLite is done outside the interpreter.

    journal     one row a request: transfers in the dense layout below or, where one does not fit
                in it, in TigerBeetle's 128 octets, compressed
    account     balances as of the checkpoint; decimal text, ids in hex
    checkpoint  up to which row the accounts and holds are

The file belongs to one process (`<file>.lock`); a read-only second one may look (audit).
`MemoryLedger` is the machine without the journal, for tests and benchmarks.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Final

from connector.base.clock import Clock
from connector.base.errors import LedgerCorruptError, LedgerLockedError, LedgerUnavailableError
from connector.base.sqlite import SqliteFile, in_transaction
from connector.ledger import bounds
from connector.ledger.machine import LedgerMachine, Record
from connector.ledger.model import (
    Account,
    AccountStatus,
    Status,
    Transfer,
)
from connector.ledger.rows import (
    NO_ACCOUNT,
    ROW,
    has_tag,
    pack_dense,
    pack_transfer,
    unpack_dense,
    unpack_transfer,
)

FILE_NAME: Final = "ledger.db"
_FORMAT: Final = 2
_FORMATS_READ: Final = (1, 2)
_CLOCK_SLACK_NS: Final = 1_000_000_000
"""Timestamps rise even where the clock does not: those of a request may be ahead of its time."""
_TRANSFERS: Final = 0
_ACCOUNTS: Final = 1
_DENSE: Final = 2
_CREATED_OCTET: Final = 0
_REPLAY_ROWS: Final = 256
_AFTER_ALL: Final = 2**62

_SCHEMA: Final = f"""
PRAGMA user_version = {_FORMAT};
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
"""

_JournalRow = tuple[int, int, int, bytes, bytes]


def _id_octets(id_: int) -> bytes:
    return id_.to_bytes(16, "big")


def _status_octet(status: Status | AccountStatus) -> int:
    return _CREATED_OCTET if status == Status.CREATED else int(status)


def _pack_account(account: Account) -> bytes:
    """An account in the 128-octet layout; it has a transfer's widths field by field."""
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


def _unpack_account(octets: bytes, at: int) -> Account:
    row = unpack_transfer(octets, at)
    return Account(*row[:8], *row[9:])


class MemoryLedger:
    """The rules without durability: for tests and benchmarks, never for money."""

    backend = "memory"
    may_be_away = False
    batch_transfers_max = bounds.LEDGER_BATCH_TRANSFERS_MAX

    def __init__(self, *, clock: Clock) -> None:
        self._clock = clock
        self.machine = LedgerMachine()

    async def open(self) -> None:
        """Nothing to recover."""

    async def close(self) -> None:
        """Nothing to let go."""

    async def create_accounts(self, accounts: Sequence[Account]) -> list[AccountStatus]:
        """See `Ledger`."""
        return self.machine.create_accounts(accounts, self._clock.now_ns())

    async def create_transfers(self, transfers: Sequence[Transfer]) -> list[Status]:
        """See `Ledger`."""
        return self.machine.create_transfers(transfers, self._clock.now_ns())

    async def lookup_accounts(self, ids: Sequence[int]) -> list[Account]:
        """See `Ledger`."""
        return _lookup_accounts(self.machine, ids)

    async def lookup_transfers(self, ids: Sequence[int]) -> list[Transfer]:
        """See `Ledger`."""
        return _lookup_transfers(self.machine, ids)

    async def node_accounts(self, node_tag: int) -> list[Account]:
        """See `Ledger`."""
        return _node_accounts(self.machine, node_tag)

    async def recent_transfers(self, since_ns: int) -> list[Transfer]:
        """See `Ledger`."""
        return _recent_transfers(self.machine, since_ns)

    async def tagged_transfers(self, tags: Sequence[int], since_ns: int) -> list[Transfer]:
        """See `Ledger`; of those that are remembered."""
        wanted = set(tags)
        return [
            transfer
            for transfer in _recent_transfers(self.machine, since_ns)
            if transfer.user_data_128 in wanted
        ]


def _lookup_accounts(machine: LedgerMachine, ids: Sequence[int]) -> list[Account]:
    return [machine.accounts[id_].snapshot() for id_ in ids if id_ in machine.accounts]


def _lookup_transfers(machine: LedgerMachine, ids: Sequence[int]) -> list[Transfer]:
    found = [machine.find(id_) for id_ in ids]
    return [record[0] for record in found if record is not None and record[1] is Status.CREATED]


def _node_accounts(machine: LedgerMachine, node_tag: int) -> list[Account]:
    states = machine.accounts.values()
    return [state.snapshot() for state in states if state.user_data_128 == node_tag]


def _recent_transfers(machine: LedgerMachine, since_ns: int) -> list[Transfer]:
    # Open holds first: one may be older than all that is remembered.
    recent = {hold.transfer.id: hold.transfer for hold in machine.holds.values()}
    for transfer, status in machine.records():
        if status is Status.CREATED and transfer.timestamp >= since_ns:
            recent[transfer.id] = transfer
    return sorted(recent.values(), key=lambda transfer: transfer.timestamp)


class EmbeddedLedger:
    """A ledger in one SQLite file. See the module for how, `Ledger` for what."""

    backend = "embedded"
    may_be_away = False
    batch_transfers_max = bounds.LEDGER_BATCH_TRANSFERS_MAX

    def __init__(self, path: Path, *, clock: Clock, read_only: bool = False) -> None:
        self.path = path
        self.machine = LedgerMachine()
        self._clock = clock
        self._read_only = read_only
        self._file = SqliteFile(path, read_only=read_only)
        self._archive_connection: sqlite3.Connection | None = None
        self._lock: IO[str] | None = None
        self._seq = 0
        self._id_max = 0
        self._since_checkpoint = 0
        self._stale = False
        self._account_numbers: dict[int, int] = {}

    async def open(self) -> None:
        """See `Ledger`.

        Raises:
            LedgerLockedError: another process uses the file.
            LedgerCorruptError: the file is damaged or no ledger.
            LedgerUnavailableError: the disk refuses.
        """
        if not self._read_only:
            self._take_lock()
        try:
            await self._file.open()
            await self._file.run(self._check_format)
            await self._load()
        except sqlite3.DatabaseError as error:
            await self.close()
            raise _translate(error, self.path) from error
        except BaseException:
            await self.close()
            raise

    def _take_lock(self) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            lock = self.path.with_name(self.path.name + ".lock").open("a+")
        except OSError as error:
            raise LedgerUnavailableError(f"cannot write in {self.path.parent}: {error}") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.seek(0)
            owner = lock.read(20).strip() or "unknown"
            lock.close()
            raise LedgerLockedError(
                f"{self.path} is in use by process {owner}; "
                "stop it, or give this node a DATA_DIR of its own"
            ) from None
        lock.seek(0)
        lock.truncate()
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        self._lock = lock

    def _check_format(self, connection: sqlite3.Connection) -> None:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        is_new = version == 0 and not connection.execute("SELECT 1 FROM sqlite_master").fetchone()
        if version not in _FORMATS_READ and not (is_new and not self._read_only):
            raise LedgerCorruptError(
                f"{self.path} has format {version}, this version reads {_FORMAT}"
            )
        if not self._read_only:
            connection.executescript(_SCHEMA)

    async def _load(self) -> None:
        machine, seq, id_max = await self._file.run(self._read_state)
        self.machine = machine
        self._seq = seq
        self._id_max = id_max
        self._since_checkpoint = bounds.LEDGER_CHECKPOINT_TRANSFERS  # save soon: a start was work
        self._stale = False

    def _read_state(self, connection: sqlite3.Connection) -> tuple[LedgerMachine, int, int]:
        """The machine as of the last row of the journal: checkpoint, then replay."""
        connection.execute("BEGIN")
        try:
            saved = connection.execute(
                "SELECT seq, timestamp, holds, id_max FROM checkpoint"
            ).fetchone()
            seq, timestamp, holds, id_max = saved or (0, 0, b"", bytes(16))
            archive = _Archive(self._find_in_journal)
            machine = archive.machine
            holds = zlib.decompress(holds) if holds else b""
            machine.restore(
                map(
                    _account_of_row, connection.execute("SELECT * FROM account ORDER BY timestamp")
                ),
                (unpack_transfer(holds, at) for at in range(0, len(holds), ROW.size)),
                timestamp,
            )
            highest = int.from_bytes(id_max, "big")
            first = self._first_remembered(connection, seq)
            for _, _, kind, events, statuses in self._rows(connection, first, seq):
                if kind != _ACCOUNTS:
                    for record in _records(machine, kind, events, statuses):
                        if _uses_up(record[1]):
                            machine.remember(record)
            machine.forget_below(highest)
            for row in self._rows(connection, seq + 1, None):
                archive.before_seq = row[0]
                _replay(machine, row, self.path)
                seq = row[0]
                if row[2] != _ACCOUNTS:
                    records = _records(machine, *row[2:])
                    highest = max((highest, *(record[0].id for record in records)))
            archive.before_seq = _AFTER_ALL
        except (
            zlib.error,
            struct.error,
            ValueError,
            LookupError,
            AssertionError,
        ) as error:
            raise LedgerCorruptError(f"{self.path} is damaged: {error}") from error
        finally:
            connection.execute("ROLLBACK")
        return machine, seq, highest

    @staticmethod
    def _first_remembered(connection: sqlite3.Connection, seq: int) -> int:
        """The journal row from which on the newest transfers are to be remembered."""
        count = 0
        first = seq + 1
        cursor = connection.execute(
            "SELECT seq, length(statuses) FROM journal WHERE seq <= ? ORDER BY seq DESC", (seq,)
        )
        for row_seq, size in cursor:
            count += size
            if count > bounds.LEDGER_REMEMBERED_TRANSFERS_MAX:
                break
            first = row_seq
        return first

    @staticmethod
    def _rows(
        connection: sqlite3.Connection, first: int, last: int | None
    ) -> Iterator[_JournalRow]:
        yield from connection.execute(
            "SELECT seq, now_ns, kind, events, statuses FROM journal"
            " WHERE seq >= ? AND seq <= ? ORDER BY seq",
            (first, _AFTER_ALL if last is None else last),
        )

    def _find_in_journal(self, id_: int, before_seq: int, machine: LedgerMachine) -> Record | None:
        """A transfer too old to be remembered. Rare: blocks the caller for a look at the file."""
        if self._archive_connection is None:
            self._archive_connection = sqlite3.connect(
                f"file:{self.path}?mode=ro", uri=True, check_same_thread=False
            )
        key = _id_octets(id_)
        cursor = self._archive_connection.execute(
            "SELECT kind, events, statuses FROM journal"
            " WHERE id_min <= ? AND id_max >= ? AND seq < ? ORDER BY seq",
            (key, key, before_seq),
        )
        for kind, events, statuses in cursor:
            for record in _records(machine, kind, events, statuses):
                if record[0].id == id_ and _uses_up(record[1]):
                    return record
        return None

    async def close(self) -> None:
        """See `Ledger`: saves a checkpoint, so that the next start is quick."""
        if self._lock is not None and self._seq and not self._stale:
            try:
                await self._file.run(
                    lambda connection: in_transaction(connection, self._save_checkpoint(self._seq))
                )
            except (sqlite3.Error, OSError, AssertionError):
                # Nothing is lost without it: the next start replays more of the journal.
                pass
        await self._file.close()
        if self._archive_connection is not None:
            self._archive_connection.close()
            self._archive_connection = None
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    async def create_accounts(self, accounts: Sequence[Account]) -> list[AccountStatus]:
        """See `Ledger`."""
        await self._refresh()
        now_ns = self._clock.now_ns()
        statuses = self.machine.create_accounts(accounts, now_ns)
        if AccountStatus.CREATED in statuses:
            rows = zlib.compress(b"".join(map(_pack_account, accounts)), 1)
            await self._append(now_ns, _ACCOUNTS, rows, statuses, None)
        return statuses

    async def create_transfers(self, transfers: Sequence[Transfer]) -> list[Status]:
        """See `Ledger`. An empty request lets timeouts take effect."""
        if self._stale:
            await self._refresh()
        now_ns = self._clock.now_ns()
        machine = self.machine
        if not transfers and not machine.expire(now_ns):
            return []
        statuses = machine.create_transfers(transfers, now_ns)
        stored = machine.stored(transfers, statuses)
        ids = [transfer.id for transfer in transfers]
        try:
            rows: bytes | bytearray = pack_dense(stored, self._numbers())
            kind = _DENSE
        except (KeyError, struct.error):
            rows = zlib.compress(b"".join([pack_transfer(one, one.timestamp) for one in stored]), 1)
            kind = _TRANSFERS
        await self._append(now_ns, kind, rows, statuses, ids)
        return statuses

    def _numbers(self) -> dict[int, int]:
        """The number of each account: in the order of their creation."""
        numbers = self._account_numbers
        accounts = self.machine.accounts
        if len(numbers) != len(accounts) + 1:
            numbers = _numbered(self.machine)
            self._account_numbers = numbers
        return numbers

    async def _append(
        self,
        now_ns: int,
        kind: int,
        events: bytes | bytearray,
        statuses: Sequence[Status | AccountStatus],
        ids: Sequence[int] | None,
    ) -> None:
        """Put a request that was applied in memory on disk.

        Raises:
            LedgerUnavailableError: it could not be written; memory is as before the request.
        """
        # Nearly always all are created, and that octet is zero.
        size = len(statuses)
        all_created = statuses.count(Status.CREATED) == size
        results = bytes(size) if all_created else bytes(map(_status_octet, statuses))
        seq = self._seq + 1
        low = high = None
        if ids:
            highest = max(ids)
            low, high = _id_octets(min(ids)), _id_octets(highest)
            self._id_max = max(self._id_max, highest)
        self._since_checkpoint += size
        save: Callable[[sqlite3.Connection], None] | None = None
        if self._since_checkpoint >= bounds.LEDGER_CHECKPOINT_TRANSFERS:
            self._since_checkpoint = 0
            save = self._save_checkpoint(seq)

        def write(connection: sqlite3.Connection) -> None:
            connection.execute(
                "INSERT INTO journal VALUES (?, ?, ?, ?, ?, ?, ?)",
                (seq, now_ns, kind, events, results, low, high),
            )

        def write_and_save(connection: sqlite3.Connection) -> None:
            write(connection)
            assert save is not None
            save(connection)

        try:
            await self._file.run(
                write if save is None else lambda c: in_transaction(c, write_and_save)
            )
        except (sqlite3.Error, OSError) as error:
            # Memory is ahead of the disk now; what is on disk is the truth.
            self._stale = True
            raise LedgerUnavailableError(f"{self.path.name}: {error}") from error
        self._seq = seq

    async def _refresh(self) -> None:
        if not self._stale:
            return
        try:
            await self._load()
        except (sqlite3.Error, OSError) as error:
            raise LedgerUnavailableError(f"{self.path.name}: {error}") from error

    def _save_checkpoint(self, seq: int) -> Callable[[sqlite3.Connection], None]:
        """What saves the state of this moment; taken now, written later in the file's thread."""
        machine = self.machine
        touched = []
        for state in machine.accounts.values():
            if state.touched:
                state.touched = False
                touched.append(state.snapshot())
        holds = b"".join(
            pack_transfer(hold.transfer, hold.transfer.timestamp) for hold in machine.holds.values()
        )
        timestamp = machine.timestamp
        id_max = _id_octets(self._id_max)

        def save(connection: sqlite3.Connection) -> None:
            connection.executemany(
                "INSERT OR REPLACE INTO account VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                map(_row_of_account, touched),
            )
            connection.execute(
                "INSERT OR REPLACE INTO checkpoint VALUES (1, ?, ?, ?, ?)",
                (seq, timestamp, zlib.compress(holds, 1), id_max),
            )

        return save

    async def lookup_accounts(self, ids: Sequence[int]) -> list[Account]:
        """See `Ledger`."""
        await self._refresh()
        return _lookup_accounts(self.machine, ids)

    async def lookup_transfers(self, ids: Sequence[int]) -> list[Transfer]:
        """See `Ledger`."""
        await self._refresh()
        return _lookup_transfers(self.machine, ids)

    async def node_accounts(self, node_tag: int) -> list[Account]:
        """See `Ledger`."""
        await self._refresh()
        return _node_accounts(self.machine, node_tag)

    async def recent_transfers(self, since_ns: int) -> list[Transfer]:
        """See `Ledger`."""
        await self._refresh()
        return _recent_transfers(self.machine, since_ns)

    async def tagged_transfers(self, tags: Sequence[int], since_ns: int) -> list[Transfer]:
        """See `Ledger`. Reads the journal: a tenth of a second for a million transfers."""
        await self._refresh()
        machine = self.machine
        wanted = frozenset(tags)
        octets_of = frozenset(tag.to_bytes(16, "little") for tag in wanted)

        def work(connection: sqlite3.Connection) -> list[Transfer]:
            found: list[Transfer] = []
            cursor = connection.execute(
                "SELECT now_ns, kind, events, statuses FROM journal ORDER BY seq DESC"
            )
            for now_ns, kind, events, statuses in cursor:
                if now_ns < since_ns - _CLOCK_SLACK_NS:
                    break
                if kind == _ACCOUNTS or (kind == _DENSE and not has_tag(events, octets_of)):
                    continue
                found += [
                    transfer
                    for transfer, status in _records(machine, kind, events, statuses)
                    if status is Status.CREATED
                    and transfer.user_data_128 in wanted
                    and transfer.timestamp >= since_ns
                ]
            return sorted(found, key=lambda transfer: transfer.timestamp)

        try:
            return await self._file.run(work)
        except sqlite3.Error as error:
            raise LedgerUnavailableError(f"{self.path.name}: {error}") from error

    async def replay_all(self) -> tuple[LedgerMachine, int]:
        """The state that the whole journal gives, from its first row, and how many rows it has.

        For the audit: it must equal the state in use.

        Raises:
            LedgerCorruptError: a row does not give the statuses that it recorded.
        """

        def work(connection: sqlite3.Connection) -> tuple[LedgerMachine, int]:
            archive = _Archive(self._find_in_journal)
            machine = archive.machine
            count = 0
            for row in self._rows(connection, 1, self._seq):
                archive.before_seq = row[0]
                _replay(machine, row, self.path)
                count += 1
            return machine, count

        return await self._file.run(work)


class _Archive:
    """The journal as a machine finds it, as far as it was written when a row was.

    A replay must not look ahead. Else a transfer whose id is lower than others before it, such as the late post of a packet from
    before a restart, would be found there already when it is replayed.
    """

    def __init__(self, find: Callable[[int, int, LedgerMachine], Record | None]) -> None:
        self.before_seq = 0
        self.machine: Final = LedgerMachine(archive=self)
        """Whose accounts the rows refer to."""
        self._find = find

    def __call__(self, id_: int) -> Record | None:
        return self._find(id_, self.before_seq, self.machine)


def _uses_up(status: Status) -> bool:
    """Whether a transfer with this status has taken its id for good."""
    return status in (
        Status.CREATED,
        Status.EXCEEDS_CREDITS,
        Status.EXCEEDS_DEBITS,
        Status.DEBIT_ACCOUNT_NOT_FOUND,
        Status.CREDIT_ACCOUNT_NOT_FOUND,
        Status.PENDING_TRANSFER_NOT_FOUND,
    )


def _numbered(machine: LedgerMachine) -> dict[int, int]:
    numbers = {id_: number for number, id_ in enumerate(machine.accounts)}
    numbers[0] = NO_ACCOUNT  # as in a post or void that was refused
    return numbers


def _transfers(machine: LedgerMachine, kind: int, events: bytes) -> list[Transfer]:
    """The transfers of a row of the journal."""
    if kind == _DENSE:
        return list(unpack_dense(events, list(machine.accounts)))
    octets = zlib.decompress(events)
    return [unpack_transfer(octets, at) for at in range(0, len(octets), ROW.size)]


def _records(machine: LedgerMachine, kind: int, events: bytes, statuses: bytes) -> Iterator[Record]:
    for transfer, status in zip(_transfers(machine, kind, events), statuses, strict=True):
        yield transfer, Status.CREATED if status == _CREATED_OCTET else Status(status)


def _replay(machine: LedgerMachine, row: _JournalRow, path: Path) -> None:
    seq, now_ns, kind, events, statuses = row
    results: Sequence[Status | AccountStatus]
    if kind == _ACCOUNTS:
        octets = zlib.decompress(events)
        offsets = range(0, len(octets), ROW.size)
        accounts = [_unpack_account(octets, at)._replace(timestamp=0) for at in offsets]
        results = machine.create_accounts(accounts, now_ns)
    else:
        transfers = [one._replace(timestamp=0) for one in _transfers(machine, kind, events)]
        results = machine.create_transfers(transfers, now_ns)
    if bytes(map(_status_octet, results)) != statuses:
        raise LedgerCorruptError(f"{path} is damaged: row {seq} of its journal does not replay")


def _row_of_account(account: Account) -> tuple[object, ...]:
    return (
        f"{account.id:032x}", str(account.debits_pending), str(account.debits_posted),
        str(account.credits_pending), str(account.credits_posted), f"{account.user_data_128:032x}",
        str(account.user_data_64), account.user_data_32, account.ledger, account.code,
        account.flags, account.timestamp,
    )  # fmt: skip


def _account_of_row(
    row: tuple[str, str, str, str, str, str, str, int, int, int, int, int],
) -> Account:
    return Account(
        int(row[0], 16), int(row[1]), int(row[2]), int(row[3]), int(row[4]), int(row[5], 16),
        int(row[6]), *row[7:],
    )  # fmt: skip


def _translate(error: sqlite3.DatabaseError, path: Path) -> Exception:
    text = str(error)
    if "malformed" in text or "not a database" in text or "no such table" in text:
        return LedgerCorruptError(
            f"{path} is not a usable ledger ({text}); restore a backup or choose another DATA_DIR"
        )
    return LedgerUnavailableError(f"{path}: {text}")
