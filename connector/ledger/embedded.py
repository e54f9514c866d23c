"""The embedded ledger: the state machine of `machine`, made durable by a journal in SQLite.

Every request is applied in memory, appended to the journal as one row, and acknowledged when that
row is on disk. The row holds the request, its time and its statuses, so a replay gives the same
state, and a difference reveals a damaged file. Every LEDGER_CHECKPOINT_TRANSFERS transfers the same
transaction also saves a checkpoint (accounts, open holds), so a start replays only the tail. One
statement per request is also the fastest: SQLite does its work outside the interpreter.

`journal` has the tables and rows, `retention` the rules for pruning them, `base.marker` the number
of the last acknowledged request, which reveals a journal that has lost its latest rows.

The file belongs to one process (`<file>.lock`); other processes may open it read-only (audit).
`MemoryLedger` is the machine without the journal, for tests and benchmarks.

Long because opening, writing, look-ups and pruning share one file and its invariants.
"""

from __future__ import annotations

import contextlib
import sqlite3
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, TypeVar

from connector.base.clock import Clock
from connector.base.disk import Database, Disk, HeldByAnotherError, Hold, SystemDisk
from connector.base.errors import (
    LedgerBehindError,
    LedgerCorruptError,
    LedgerLockedError,
    LedgerUnavailableError,
)
from connector.base.marker import SUFFIX as MARKER_SUFFIX
from connector.base.sqlite import in_transaction
from connector.base.words import words_of
from connector.ledger import bounds, journal
from connector.ledger.journal import (
    Archive,
    IdRange,
    JournalRow,
    account_of_row,
    derived_record,
    derived_rows,
    id_octets,
    numbered,
    pack_account,
    pack_holds,
    records,
    replay,
    row_of_account,
    state_of,
    status_octet,
    unpack_holds,
    unpack_state,
    uses_up,
)
from connector.ledger.kept import Block, KeptTable, blocks_of
from connector.ledger.kept import convert as convert_kept
from connector.ledger.kept import insert as insert_kept
from connector.ledger.machine import LedgerMachine, Record
from connector.ledger.model import DERIVED_ID_MAX, Account, AccountStatus, Kept, Status, Transfer
from connector.ledger.retention import (
    Retention,
    Upkeep,
    archive_rows,
    chain_hash,
    hash_before,
    points,
)
from connector.ledger.rows import has_tag, pack_dense, pack_entries, pack_transfer

T = TypeVar("T")

FILE_NAME: Final = "ledger.db"
_JUMP_NS: Final = 30 * 1_000_000_000
"""Rows that lie further apart may be those before and after a jump of the clock."""
_CLOCK_SLACK_NS: Final = 1_000_000_000
"""Timestamps always rise: those of a large request may be this far ahead of the clock."""
_CLOCK_NOTED_NS: Final = 1_000_000
"""A correction of the clock that is noted; less is the grain of a monotonic clock in seconds."""
_AFTER_ALL: Final = 2**62


class MemoryLedger:
    """The machine without durability: for tests and benchmarks, never for money."""

    backend = "memory"
    may_be_away = False
    keeps_books = False
    fulfilments = None
    waits_for_commits = None
    batch_transfers_max = bounds.LEDGER_BATCH_TRANSFERS_MAX

    def __init__(self, *, clock: Clock) -> None:
        self._clock = clock
        self.machine = LedgerMachine()

    async def open(self) -> None:
        """Nothing to recover."""

    async def close(self) -> None:
        """Nothing to close."""

    async def create_accounts(self, accounts: Sequence[Account]) -> list[AccountStatus]:
        """See `Ledger`."""
        return self.machine.create_accounts(accounts, self._clock.now_ns())

    async def create_transfers(
        self, transfers: Sequence[Transfer], kept: Sequence[Kept] = ()
    ) -> list[Status]:
        """See `Ledger`."""
        assert not kept, "nothing in it survives a restart"
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

    async def highest_id(self) -> int:
        """See `Ledger`: zero, nothing survives a restart."""
        return 0

    async def maintain(self) -> str:
        """Nothing to be done."""
        return ""

    async def tagged_transfers(
        self, tags: Sequence[int], since_ns: int, *, by_ledger: bool = False
    ) -> list[Transfer]:
        """See `Ledger`; only transfers that are in memory."""
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
    # Open holds too: one may be older than all transfers in memory.
    recent = {hold.transfer.id: hold.transfer for hold in machine.holds.values()}
    for transfer, status in machine.records():
        if status is Status.CREATED and transfer.timestamp >= since_ns:
            recent[transfer.id] = transfer
    return sorted(recent.values(), key=lambda transfer: transfer.timestamp)


class EmbeddedLedger:
    """A ledger in one SQLite file. See the module for the design, `Ledger` for the contract."""

    backend = "embedded"
    may_be_away = False
    keeps_books = True
    batch_transfers_max = bounds.LEDGER_BATCH_TRANSFERS_MAX

    def __init__(
        self,
        path: Path,
        *,
        clock: Clock,
        disk: Disk | None = None,
        read_only: bool = False,
        retention: Retention | None = None,
        accept_loss: bool = False,
    ) -> None:
        """Nothing is opened yet.

        Args:
            path: the file; created if it is missing.
            clock: for timestamps, timeouts and the age of rows.
            disk: the file system of the file; default: the machine's.
            read_only: open it beside the process that owns the file.
            retention: how much of the journal is kept; default: 30 days, 8 GiB.
            accept_loss: open the file even if acknowledged requests are missing at its end.
        """
        self.path = path
        self.machine = LedgerMachine()
        self.missing_requests = 0
        """Acknowledged requests that are missing at the end of the journal."""
        self._clock = clock
        self._read_only = read_only
        self._accept_loss = accept_loss
        self._upkeep = Upkeep(retention or Retention(), began_s=clock.monotonic_s())
        self._disk: Disk = disk or SystemDisk()
        self._file = self._disk.database(path, read_only=read_only)
        self._marker = self._disk.marker(
            path.with_name(path.name + MARKER_SUFFIX), read_only=read_only
        )
        self._reader = self._disk.database(path, read_only=True)
        """For long reads beside the writer: points, archives, the audit."""
        self.fulfilments: Final = KeptTable(write=self._run, read=self._look)
        """See `Ledger`."""
        self._lock: Hold | None = None
        self._closing = False
        self._seq = 0
        """Of the last request that is on disk."""
        self._applied = 0
        """Of the last request that is in memory: the same, or the next one while it is written."""
        self._id_max = 0
        self._id_range = IdRange(1)
        """Of the rows since the last checkpoint."""
        self._ahead_ns = 0
        """How far the ledger's time is ahead of the clock."""
        self._offset_ns = 0
        """Of the clock, when that was noted last."""
        self._offset_ns = self._clock_offset_ns()
        self._since_checkpoint = 0
        self._stale = False
        self._account_numbers: dict[int, int] = {}

    @property
    def waits_for_commits(self) -> bool:
        """See `Ledger`."""
        return self._file.waits_for_commits

    async def open(self) -> None:
        """See `Ledger`.

        Raises:
            LedgerLockedError: another process uses the file.
            LedgerBehindError: requests that were acknowledged are missing at its end.
            LedgerCorruptError: the file is damaged or not a ledger.
            LedgerUnavailableError: the disk refuses.
        """
        self._closing = False
        self._seq = self._applied = 0
        if not self._read_only:
            self._take_lock()
        try:
            acknowledged = self._open_marker()
            await self._file.open()
            await self._file.run(lambda connection: self._check_format(connection, acknowledged))
            await self._load()
            if not self._read_only:
                await self._file.run(self.fulfilments.count)
                await self._reader.open()
        except sqlite3.DatabaseError as error:
            await self.close()
            raise _translate(error, self.path) from error
        except journal.DAMAGE as error:
            await self.close()
            raise LedgerCorruptError(f"{self.path} is damaged: {error}") from error
        except BaseException:
            await self.close()
            raise

    def _take_lock(self) -> None:
        try:
            self._lock = self._disk.hold(self.path.with_name(self.path.name + ".lock"))
        except HeldByAnotherError as error:
            raise LedgerLockedError(
                f"{self.path} is in use by process {error.owner}; "
                "stop it, or give this node a DATA_DIR of its own"
            ) from None
        except OSError as error:
            raise LedgerUnavailableError(
                f"DATA_DIR: cannot write in {self.path.parent}: {error.strerror or error}"
            ) from error

    def _open_marker(self) -> int:
        try:
            return self._marker.open()
        except OSError as error:
            raise LedgerUnavailableError(
                f"DATA_DIR: cannot use {self.path.parent}: {words_of(error)}"
            ) from error

    def _check_end(self, connection: sqlite3.Connection, acknowledged: int) -> None:
        """Check that the journal has every acknowledged request, before anything is written."""
        newest = 0
        if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'journal'").fetchone():
            (newest,) = connection.execute("SELECT ifnull(max(seq), 0) FROM journal").fetchone()
        self.missing_requests = max(0, acknowledged - newest)
        if self._read_only:
            return
        if not self.missing_requests:
            if newest > acknowledged:
                # The marker is behind after a power cut: all that is there counts as acknowledged.
                self._marker.write(newest)
            return
        if not self._accept_loss:
            raise LedgerBehindError(
                f"{self.path} ends at request {newest}, but {acknowledged} were acknowledged: "
                f"the last {self.missing_requests} are missing. Its {self.path.name}-wal was lost "
                "or damaged, or an older copy stands in its place. Put the right files back. If "
                "they are gone for good, start once with --accept-ledger-loss: what those requests "
                "booked is lost then, and packets that neighbours resend may be paid twice"
            )
        self._marker.lower(newest)

    def _check_format(self, connection: sqlite3.Connection, acknowledged: int) -> None:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        is_new = version == 0 and not connection.execute("SELECT 1 FROM sqlite_master").fetchone()
        if version not in journal.FORMATS_READ and not (is_new and not self._read_only):
            raise LedgerCorruptError(
                f"{self.path} has format {version}, this version reads {journal.FORMAT}"
            )
        self._check_end(connection, acknowledged)
        if not self._read_only:
            convert_kept(connection)
            connection.executescript(journal.SCHEMA)
            in_transaction(connection, self._cover_ids)
            if 0 < version < journal.FORMAT_OF_DERIVED:
                in_transaction(connection, self._find_derived)
            if version != journal.FORMAT:
                connection.execute(f"PRAGMA user_version = {journal.FORMAT}")

    @staticmethod
    def _cover_ids(connection: sqlite3.Connection) -> None:
        saved = connection.execute("SELECT seq FROM checkpoint").fetchone()
        if saved is not None:
            journal.cover(connection, saved[0])

    def _find_derived(self, connection: sqlite3.Connection) -> None:
        """Fill table `derived` from a journal of an older format, once: 1 s per million rows."""
        machine = LedgerMachine()
        rows = connection.execute(
            "SELECT seq, now_ns, kind, events, statuses FROM journal"
            " WHERE kind = ? OR id_min <= ? ORDER BY seq",
            (journal.ACCOUNTS, id_octets(DERIVED_ID_MAX)),
        )
        for row in rows:
            if row[2] == journal.ACCOUNTS:
                replay(machine, row, self.path)
                continue
            found = list(records(machine, *row[2:]))
            connection.executemany(
                "INSERT OR IGNORE INTO derived VALUES (?, ?, ?, ?)",
                derived_rows(row[0], [one for one, _ in found], [status for _, status in found]),
            )

    async def _load(self) -> None:
        machine, seq, id_max, id_range = await self._file.run(self._read_state)
        self.machine = machine
        self._seq = self._applied = seq
        self._id_max = id_max
        self._id_range = id_range
        self._since_checkpoint = (
            bounds.LEDGER_CHECKPOINT_TRANSFERS
        )  # save soon: the start took time
        self._stale = False

    def _read_state(
        self, connection: sqlite3.Connection
    ) -> tuple[LedgerMachine, int, int, IdRange]:
        """The machine after the last row of the journal: checkpoint, then replay."""
        connection.execute("BEGIN")
        try:
            saved = connection.execute(
                "SELECT seq, timestamp, holds, id_max FROM checkpoint"
            ).fetchone()
            seq, timestamp, holds, id_max = saved or (0, 0, b"", bytes(16))
            archive = Archive(self._find_in_journal)
            machine = archive.machine
            machine.restore(
                map(account_of_row, connection.execute("SELECT * FROM account ORDER BY timestamp")),
                unpack_holds(zlib.decompress(holds) if holds else b""),
                timestamp,
            )
            if len(id_max) != 16:
                raise ValueError(f"the checkpoint's highest id has {len(id_max)} octets")
            highest = int.from_bytes(id_max, "big")
            first = self._first_remembered(connection, seq)
            for _, _, kind, events, statuses in self._rows(connection, first, seq):
                if kind != journal.ACCOUNTS:
                    for record in records(machine, kind, events, statuses):
                        if uses_up(record[1]):
                            machine.remember(record)
            machine.forget_below(highest)
            id_range = IdRange(seq + 1)
            for row in self._rows(connection, seq + 1, None):
                archive.before_seq = row[0]
                replay(machine, row, self.path)
                seq = row[0]
                if row[2] != journal.ACCOUNTS:
                    ids = [record[0].id for record in records(machine, *row[2:])]
                    if ids:
                        id_range.add(min(ids), max(ids))
            highest = max(highest, id_range.high)
            archive.before_seq = _AFTER_ALL
        except journal.DAMAGE as error:
            raise LedgerCorruptError(f"{self.path} is damaged: {error}") from error
        finally:
            connection.execute("ROLLBACK")
        return machine, seq, highest, id_range

    @staticmethod
    def _first_remembered(connection: sqlite3.Connection, seq: int) -> int:
        """The first journal row whose transfers are kept in memory."""
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
    def _rows(connection: sqlite3.Connection, first: int, last: int | None) -> Iterator[JournalRow]:
        yield from connection.execute(
            "SELECT seq, now_ns, kind, events, statuses FROM journal"
            " WHERE seq >= ? AND seq <= ? ORDER BY seq",
            (first, _AFTER_ALL if last is None else last),
        )

    def _find_in_journal(self, id_: int, before_seq: int, machine: LedgerMachine) -> Record | None:
        """Find a transfer that is not in memory any more. Rare: blocks while it reads the file."""
        key = id_octets(id_)

        def work(connection: sqlite3.Connection) -> Record | None:
            if id_ <= DERIVED_ID_MAX:
                found = connection.execute(
                    "SELECT transfer, status FROM derived WHERE id = ? AND seq < ?",
                    (key, before_seq),
                ).fetchone()
                return None if found is None else derived_record(*found)
            for row in journal.rows_with(connection, [id_], before_seq):
                for record in records(machine, *row):
                    if record[0].id == id_ and uses_up(record[1]):
                        return record
            return None

        return self._file.look(work)

    async def close(self) -> None:
        """See `Ledger`: saves a checkpoint, so that the next start is quick."""
        # From here on no request is taken: the checkpoint would not have it, or have it and not say so.
        self._closing = True
        if self._lock is not None and self._seq:
            # Without a checkpoint nothing is lost: the next start replays more of the journal.
            with contextlib.suppress(sqlite3.Error, OSError):
                await self._file.run(lambda _: None)  # what is being written is on disk after this
                if not self._stale and self._applied == self._seq:
                    save = self._save_checkpoint(self._seq)
                    await self._file.run(lambda connection: in_transaction(connection, save))
        await self._reader.close()
        await self._file.close()
        with contextlib.suppress(OSError):
            self._marker.close()
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    async def create_accounts(self, accounts: Sequence[Account]) -> list[AccountStatus]:
        """See `Ledger`."""
        await self._refresh()
        self._require_open()  # it may have been closed meanwhile
        now_ns = self.now_ns()
        assert self._applied == self._seq, "one request at a time"
        try:
            statuses = self.machine.create_accounts(accounts, now_ns)
            if AccountStatus.CREATED in statuses:
                rows = zlib.compress(b"".join(map(pack_account, accounts)), 1)
                await self._append(now_ns, journal.ACCOUNTS, rows, statuses)
        except BaseException:
            self._stale = True
            raise
        return statuses

    async def create_transfers(
        self, transfers: Sequence[Transfer], kept: Sequence[Kept] = ()
    ) -> list[Status]:
        """See `Ledger`. An empty request lets timeouts take effect."""
        assert transfers or not kept, "fulfilments without a post"
        if self._stale:
            await self._refresh()
        self._require_open()
        now_ns = self.now_ns()
        machine = self.machine
        assert self._applied == self._seq, "one request at a time"
        try:
            if not transfers and not machine.expire(now_ns):
                return []
            statuses = machine.create_transfers(transfers, now_ns)
            entries = machine.entries(transfers, statuses)
            try:
                rows: bytes | bytearray = (
                    pack_dense(machine.stored(transfers, statuses), self._numbers())
                    if entries is None
                    else pack_entries(entries, self._numbers())
                )
                kind = journal.DENSE
            except (KeyError, OverflowError, struct.error):
                stored = machine.stored(transfers, statuses)
                octets = b"".join([pack_transfer(one, one.timestamp) for one in stored])
                rows, kind = zlib.compress(octets, 1), journal.TRANSFERS
            ids = [transfer.id for transfer in transfers]
            lowest, highest = (min(ids), max(ids)) if ids else (0, 0)
            derived: list[tuple[bytes, int, bytes, int]] = []
            if ids and lowest <= DERIVED_ID_MAX:
                stored = machine.stored(transfers, statuses)
                derived = derived_rows(self._seq + 1, stored, statuses)
            await self._append(
                now_ns, kind, rows, statuses, lowest, highest, derived, blocks_of(kept)
            )
        except BaseException:
            # Memory may be ahead of the disk. What is on disk is the truth: it is read again before
            # the next request.
            self._stale = True
            raise
        return statuses

    def _require_open(self) -> None:
        if self._closing:
            raise LedgerUnavailableError(f"{self.path.name} is being closed: the node stops")

    def now_ns(self) -> int:
        """The ledger's time: that of the clock, but it never goes back.

        Holds expire by the time elapsed since they were created. If the clock was ahead and has
        been set back, the ledger's time continues from the newest timestamp at the clock's pace.
        Otherwise no hold would expire until the clock reaches that timestamp again. If the clock is
        set forward then, the ledger's time does not jump with it: it is less ahead.
        """
        offset_ns = self._clock_offset_ns()
        moved_ns = offset_ns - self._offset_ns
        if abs(moved_ns) >= _CLOCK_NOTED_NS:
            self._offset_ns = offset_ns
            self._ahead_ns = max(0, self._ahead_ns - max(0, moved_ns))
        now_ns = self._clock.now_ns() + self._ahead_ns
        behind_ns = self.machine.timestamp - now_ns
        if behind_ns > _CLOCK_SLACK_NS:
            self._ahead_ns += behind_ns
            now_ns += behind_ns
        assert self._ahead_ns >= 0, self._ahead_ns
        assert now_ns >= self.machine.timestamp - _CLOCK_SLACK_NS, "the ledger's time went back"
        return now_ns

    def _clock_offset_ns(self) -> int:
        """The clock against the monotonic one; as before if this process was stopped between both."""
        before_s = self._clock.monotonic_s()
        now_ns = self._clock.now_ns()
        after_s = self._clock.monotonic_s()
        if (after_s - before_s) * 1e9 >= _CLOCK_NOTED_NS:
            return self._offset_ns
        return now_ns - round(after_s * 1e9)

    def _numbers(self) -> dict[int, int]:
        """The number of each account, in the order of creation."""
        numbers = self._account_numbers
        accounts = self.machine.accounts
        if len(numbers) != len(accounts) + 1:
            numbers = numbered(self.machine)
            self._account_numbers = numbers
        assert len(numbers) == len(accounts) + 1, (len(numbers), len(accounts))
        return numbers

    async def _append(
        self,
        now_ns: int,
        kind: int,
        events: bytes | bytearray,
        statuses: Sequence[Status | AccountStatus],
        lowest: int = 0,
        highest: int = 0,
        derived: Sequence[tuple[bytes, int, bytes, int]] = (),
        blocks: Sequence[Block] = (),
    ) -> None:
        """Write a request that was applied in memory to disk.

        `lowest`, `highest`: of the ids of its transfers; zero if it has none.

        Raises:
            LedgerUnavailableError: it could not be written.
        """
        # In the common case all are CREATED, and that octet is zero.
        size = len(statuses)
        assert lowest <= highest, (lowest, highest)
        all_created = statuses.count(Status.CREATED) == size
        results = bytes(size) if all_created else bytes(map(status_octet, statuses))
        seq = self._seq + 1
        assert self._applied == self._seq, "one request at a time"
        self._applied = seq
        low = high = None
        if highest:
            low, high = id_octets(lowest), id_octets(highest)
            self._id_max = max(self._id_max, highest)
            self._id_range.add(lowest, highest)
        self._since_checkpoint += size
        save: Callable[[sqlite3.Connection], None] | None = None
        if self._since_checkpoint >= bounds.LEDGER_CHECKPOINT_TRANSFERS:
            self._since_checkpoint = 0
            save = self._save_checkpoint(seq)

        marker = self._marker

        def insert(connection: sqlite3.Connection) -> None:
            connection.execute(
                "INSERT INTO journal VALUES (?, ?, ?, ?, ?, ?, ?)",
                (seq, now_ns, kind, events, results, low, high),
            )

        def insert_all(connection: sqlite3.Connection) -> None:
            insert(connection)
            if blocks:
                insert_kept(connection, blocks, posted=all_created)
            if derived:
                connection.executemany("INSERT OR IGNORE INTO derived VALUES (?, ?, ?, ?)", derived)
            if save is not None:
                save(connection)

        def write(connection: sqlite3.Connection) -> None:
            if save is None and not derived and not blocks:
                insert(connection)
            else:
                in_transaction(connection, insert_all)
            marker.write(seq)

        try:
            # A checkpoint is no short transaction.
            await (self._file.commit(write, size) if save is None else self._file.run(write))
        except BaseException as error:
            # It failed, or the caller gave up waiting and it may be done.
            self.fulfilments.may_have_added()
            if isinstance(error, sqlite3.Error | OSError):
                raise LedgerUnavailableError(f"{self.path.name}: {error}") from error
            raise
        self._upkeep.bytes_since_point += len(events) + size
        self._seq = seq
        self.fulfilments.added(blocks)

    async def _run(self, work: Callable[[sqlite3.Connection], T], /) -> T:
        """`work` with the connection that writes."""
        return await self._checked(self._file, work)

    async def _look(self, work: Callable[[sqlite3.Connection], T], /) -> T:
        """`work`, which only reads, beside the writer."""
        return await self._checked(self._file if self._read_only else self._reader, work)

    async def _checked(self, file: Database, work: Callable[[sqlite3.Connection], T]) -> T:
        self._require_open()
        try:
            return await file.run(work)
        except (sqlite3.Error, OSError) as error:
            raise LedgerUnavailableError(f"{self.path.name}: {error}") from error
        except journal.DAMAGE as error:
            raise LedgerCorruptError(f"{self.path} is damaged: {error}") from error

    async def _refresh(self) -> None:
        self._require_open()
        if not self._stale:
            return
        try:
            await self._load()
        except (sqlite3.Error, OSError) as error:
            raise LedgerUnavailableError(f"{self.path.name}: {error}") from error

    def _save_checkpoint(self, seq: int) -> Callable[[sqlite3.Connection], None]:
        """Copy the state now, on the loop; returns the function that writes it, in any thread.

        The state in memory is that after request `seq`, and is copied before anything is awaited.
        """
        machine = self.machine
        assert seq == self._applied, (seq, self._applied)
        touched = []
        for state in machine.accounts.values():
            if state.touched:
                state.touched = False
                touched.append(state.snapshot())
        holds = pack_holds(hold.transfer for hold in machine.holds.values())
        timestamp = machine.timestamp
        id_max = id_octets(self._id_max)
        id_range = self._id_range.row(seq) if seq >= self._id_range.first_seq else None
        self._id_range = IdRange(seq + 1)

        def save(connection: sqlite3.Connection) -> None:
            connection.executemany(
                "INSERT OR REPLACE INTO account VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                map(row_of_account, touched),
            )
            connection.execute(
                "INSERT OR REPLACE INTO checkpoint VALUES (1, ?, ?, ?, ?)",
                (seq, timestamp, zlib.compress(holds, 1), id_max),
            )
            if id_range is not None:
                connection.execute("INSERT OR REPLACE INTO id_range VALUES (?, ?, ?, ?)", id_range)

        return save

    async def lookup_accounts(self, ids: Sequence[int]) -> list[Account]:
        """See `Ledger`."""
        await self._refresh()
        return _lookup_accounts(self.machine, ids)

    async def lookup_transfers(self, ids: Sequence[int]) -> list[Transfer]:
        """See `Ledger`. What is too old to be remembered is read from the journal, all at once."""
        await self._refresh()
        machine = self.machine
        old = [id_ for id_ in ids if id_ > DERIVED_ID_MAX and machine.may_be_archived(id_)]
        if not old:
            return _lookup_transfers(machine, ids)
        wanted = frozenset(old)
        before_seq = self._seq + 1

        def work(connection: sqlite3.Connection) -> dict[int, Transfer]:
            return {
                transfer.id: transfer
                for row in journal.rows_with(connection, old, before_seq)
                for transfer, status in records(machine, *row)
                if transfer.id in wanted and status is Status.CREATED
            }

        archived = await self._look(work)
        found: list[Transfer] = []
        for id_ in ids:
            if id_ in wanted:
                found += [archived[id_]] if id_ in archived else []
            else:
                found += _lookup_transfers(machine, [id_])
        assert len(found) <= len(ids), (len(found), len(ids))
        return found

    async def node_accounts(self, node_tag: int) -> list[Account]:
        """See `Ledger`."""
        assert node_tag, "zero matches the accounts of every node in a cluster"
        await self._refresh()
        return _node_accounts(self.machine, node_tag)

    async def highest_id(self) -> int:
        """See `Ledger`."""
        await self._refresh()
        return self._id_max

    async def recent_transfers(self, since_ns: int) -> list[Transfer]:
        """See `Ledger`."""
        await self._refresh()
        return _recent_transfers(self.machine, since_ns + self._ahead_ns)

    async def tagged_transfers(
        self, tags: Sequence[int], since_ns: int, *, by_ledger: bool = False
    ) -> list[Transfer]:
        """See `Ledger`. Reads the journal: a tenth of a second for a million transfers.

        A clock that was ahead for a while leaves a gap between rows, in which no time has passed. So gaps do not count,
        down to `since_ns` by our own time: rather too many rows are read than a packet is not found.
        """
        assert all(tags), "zero matches every transfer in a cluster"
        await self._refresh()
        machine = self.machine
        now_at_ns = self._clock.now_ns() + self._ahead_ns
        # By our own time: nothing before it is of use, however far the ledger is ahead.
        floor_ns = since_ns
        since_ns += 0 if by_ledger else self._ahead_ns
        wanted = frozenset(tags)
        octets_of = frozenset(tag.to_bytes(16, "little") for tag in wanted)

        def work(connection: sqlite3.Connection) -> list[Transfer]:
            found: list[Transfer] = []
            from_ns, later_ns = since_ns, now_at_ns
            cursor = connection.execute(
                "SELECT now_ns, kind, events, statuses FROM journal ORDER BY seq DESC"
            )
            for now_ns, kind, events, statuses in cursor:
                gap_ns = later_ns - now_ns
                if gap_ns > _JUMP_NS and from_ns > floor_ns:
                    from_ns = max(floor_ns, from_ns - gap_ns)
                later_ns = now_ns
                if now_ns < from_ns - _CLOCK_SLACK_NS:
                    break
                if kind == journal.ACCOUNTS or (
                    kind == journal.DENSE and not has_tag(events, octets_of)
                ):
                    continue
                found += [
                    transfer
                    for transfer, status in records(machine, kind, events, statuses)
                    if status is Status.CREATED
                    and transfer.user_data_128 in wanted
                    and transfer.timestamp >= from_ns
                ]
            return sorted(found, key=lambda transfer: transfer.timestamp)

        try:
            return await self._file.run(work)
        except sqlite3.Error as error:
            raise LedgerUnavailableError(f"{self.path.name}: {error}") from error
        except journal.DAMAGE as error:
            raise LedgerCorruptError(f"{self.path} is damaged: {error}") from error

    # --- upkeep of the journal

    async def maintain(self) -> str:
        """Add a point when one is due, and prune a few rows; called about once a second.

        The writer's statements may run between any two statements of this method.

        Raises:
            LedgerUnavailableError: the disk refuses, or what is in the file is damaged; nothing is
                pruned then.
        """
        self._require_open()
        if self._stale or self._read_only or not self._seq:
            return ""
        try:
            await self._maintain()
        except (sqlite3.Error, OSError) as error:
            raise LedgerUnavailableError(f"{self.path.name}: {error}") from error
        except journal.DAMAGE as error:
            # The machine in memory is right, and goes on; the next start reads the file.
            raise LedgerUnavailableError(
                f"{self.path.name} is damaged, and nothing is pruned: {error!r}"
            ) from error
        if not self._upkeep.is_over:
            return ""
        return (
            f"{self.path.name} is larger than {self._upkeep.retention.bytes_max} octets, and all in "
            "it is too young to be pruned: packets may still be asked for again"
        )

    async def _maintain(self) -> None:
        upkeep, file, reader = self._upkeep, self._file, self._reader
        now_ns, now_s = self.now_ns(), self._clock.monotonic_s()
        await file.run(lambda _: self._marker.sync())
        if await reader.run(lambda c: upkeep.wants_point(c, now_ns)):
            taken = await reader.run(upkeep.read_state)
            await file.run(
                lambda c: in_transaction(c, lambda c: upkeep.add_point(c, taken, now_ns, now_s))
            )
        wanted = await reader.run(lambda c: upkeep.base_wanted(c, now_ns, now_s))
        if wanted is not None:
            base_seq, last_seq = wanted
            folder = upkeep.retention.archive
            if folder is not None:
                name = self.path.stem
                await reader.run(lambda c: archive_rows(c, folder, name, last_seq))
            await file.run(lambda c: upkeep.move_base(c, base_seq))
        for _ in range(bounds.JOURNAL_SLICES_PER_UPKEEP):
            if not await file.run(upkeep.prune):
                break

    @property
    def upkeep(self) -> Upkeep:
        """The state of pruning, for status and metrics."""
        return self._upkeep

    async def replay_all(
        self, on_progress: Callable[[int, int], None] = lambda _done, _of: None
    ) -> tuple[LedgerMachine, int]:
        """Replay the journal from the oldest point with a state; returns the state and the rows read.

        For the audit: the result must equal the state in use. Every later point is compared too, and
        its hash is verified against the one before it.

        Args:
            on_progress: is given the rows read so far and their number, now and then, in another
                thread.

        Raises:
            LedgerCorruptError: a row does not give the statuses that it recorded, or a point does
                not match.
        """
        self._require_open()

        def work(connection: sqlite3.Connection) -> tuple[LedgerMachine, int]:
            archive = Archive(self._find_in_journal)
            machine = archive.machine
            last_seq = self._seq
            kept = [point for point in points(connection) if point.seq <= last_seq]
            for point in kept:
                assert point.state is not None
                before = hash_before(connection, point.seq)
                if chain_hash(before, point.seq, point.timestamp, point.state) != point.hash:
                    raise LedgerCorruptError(
                        f"{self.path} is damaged: the point at row {point.seq} is not what its "
                        "hash says"
                    )
            (first,) = connection.execute("SELECT min(seq) FROM journal").fetchone()
            begin = 0
            if first is not None and first > 1:
                if not kept:
                    raise LedgerCorruptError(
                        f"{self.path} is damaged: its journal begins at row {first}, without a point"
                    )
                base = kept.pop(0)
                assert base.state is not None
                begin = base.seq
                machine.restore(*unpack_state(base.state), base.timestamp)
                machine.forget_below(self._id_max)
            states = {point.seq: point.state for point in kept}
            count = 0
            for row in self._rows(connection, begin + 1, last_seq):
                archive.before_seq = row[0]
                replay(machine, row, self.path)
                count += 1
                if not count % bounds.REPLAYED_ROWS_PER_REPORT:
                    on_progress(count, last_seq - begin)
                if row[0] in states and states[row[0]] != state_of(machine):
                    raise LedgerCorruptError(
                        f"{self.path} is damaged: its rows up to {row[0]} do not give the point there"
                    )
            return machine, count

        try:
            return await self._file.run(work)
        except journal.DAMAGE as error:
            raise LedgerCorruptError(f"{self.path} is damaged: {error}") from error


def _translate(error: sqlite3.DatabaseError, path: Path) -> Exception:
    text = str(error)
    if "malformed" in text or "not a database" in text or "no such table" in text:
        return LedgerCorruptError(
            f"{path} is not a usable ledger ({text}); restore a backup or choose another DATA_DIR"
        )
    return LedgerUnavailableError(f"{path}: {text}")
