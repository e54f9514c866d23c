"""A ledger on a TigerBeetle cluster.

The client library reconnects for ever, hides network errors, takes IP addresses only and never
times out. So every request has a deadline here, names are resolved before a client is made, and a
client that does not answer is replaced by one with newly resolved addresses, which finds a server
that has moved. A cluster has 64 sessions and evicts the oldest, so each replacement waits twice as
long as the one before.

Faults that do not pass by waiting raise `LedgerRefusedError`: an invalid address, a wrong cluster
id, a client older or newer than the server, an evicted session, a kernel or container that denies
io_uring (the library would abort the process).

Long because sessions, deadlines and faults of the client share one state. The encoding is in `rows`,
the client library in `tigerbeetle_client`.
"""

from __future__ import annotations

import asyncio
import ctypes
import ipaddress
import os
import socket
import struct
import sys
from collections.abc import Sequence
from typing import Final

from connector.base import limits
from connector.base.clock import Clock
from connector.base.errors import LedgerRefusedError, LedgerUnavailableError
from connector.base.urls import replica_addresses
from connector.base.words import words_of
from connector.ledger import bounds
from connector.ledger.model import (
    ID_MAX,
    LINKED,
    Account,
    AccountStatus,
    Balance,
    Kept,
    Status,
    Transfer,
)
from connector.ledger.rows import (
    ROW,
    pack_accounts,
    pack_transfers,
    read_statuses,
    unpack_accounts,
    unpack_transfers,
)
from connector.ledger.tigerbeetle_client import (
    AddressRefusedError,
    Answer,
    Client,
    ConnectionLog,
    Operation,
    connect,
    connection_log,
)

RECENT_TRANSFERS_MAX: Final = 100_000
SILENCE_SECONDS_MIN: Final = 1.0
"""How long a client may leave requests unanswered before it is replaced, for the first time."""
SILENCE_SECONDS_MAX: Final = 8.0
FIRST_ANSWER_SECONDS_MAX: Final = 4.0
"""How long a new session may take: 0.6 to 1.3 s were seen in clusters of three replicas."""
VERDICT_SECONDS_MAX: Final = 2.5
"""How long to watch a server that closes connections before reporting a wrong cluster id."""
KNOCK_SECONDS_MAX: Final = 0.3
QUERY_FILTER: Final = struct.Struct("<QQQIIH6xQQII")
assert QUERY_FILTER.size == 64
ACCOUNT_FILTER: Final = struct.Struct("<QQQQQIH58xQQII")
assert ACCOUNT_FILTER.size == 128
BALANCE_ROW: Final = struct.Struct("<QQQQQQQQQ56x")
assert BALANCE_ROW.size == 128
_DEBITS_AND_CREDITS: Final = 3
_REVERSED_OF_ACCOUNT: Final = 4
_REVERSED: Final = 1
_ID: Final = struct.Struct("<QQ")
_LOW: Final = (1 << 64) - 1
_ACCOUNT_STATUS: Final = {int(status): status for status in AccountStatus}

_FAULTS: Final = {
    Answer.SESSION_EVICTED: "session_evicted",
    Answer.CLIENT_TOO_OLD: "client_too_old",
    Answer.CLIENT_TOO_NEW: "client_too_new",
}
_FAULT_MESSAGES: Final = {
    "session_evicted": "the cluster ended our session: it keeps 64, and others have opened more "
    "since (each connector has one, and each run of `tigerbeetle repl`); find out who does",
    "client_too_old": "the TigerBeetle client is older than the server accepts: install the Python "
    "package `tigerbeetle` in the version of the server",
    "client_too_new": "the TigerBeetle client is newer than the server: upgrade the server first, "
    "or install the Python package `tigerbeetle` in its version",
}
_SYS_IO_URING_SETUP: Final = 425
"""The number of the system call on every architecture."""
_IO_URING_PARAMS_OCTETS: Final = 120


class _TooMuchDataError(Exception):
    """More events than the cluster accepts in one request; none was sent."""


def parse_addresses(text: str) -> list[tuple[str, int]]:
    """Host and port of each replica (`replica_addresses`).

    Raises:
        LedgerRefusedError: the text has another form.
    """
    try:
        return replica_addresses(text)
    except ValueError as error:
        raise LedgerRefusedError("bad_address", str(error)) from None


class TigerBeetleLedger:
    """A ledger in a TigerBeetle cluster. See the module for the design, `Ledger` for the contract."""

    backend = "tigerbeetle"
    may_be_away = True
    keeps_books = True
    fulfilments = None
    waits_for_commits = None

    def __init__(
        self, *, cluster_id: int, addresses: str, clock: Clock, timeout_ms: int = 1000
    ) -> None:
        if not 0 <= cluster_id <= ID_MAX:
            raise LedgerRefusedError("bad_cluster_id", f"{cluster_id} does not fit in 128 bits")
        self._cluster_id = cluster_id
        self._addresses = addresses
        self._replicas = parse_addresses(addresses)
        self._clock = clock
        self._timeout_s = timeout_ms / 1000
        self._log: ConnectionLog | None = None
        self._client: Client | None = None
        self._connecting = asyncio.Lock()
        self._patience_s = SILENCE_SECONDS_MIN
        self._batch_max: int | None = None
        self._retired: set[asyncio.Future[None]] = set()
        self._answered = False
        self._closed = False

    @property
    def batch_transfers_max(self) -> int:
        """See `Ledger`. The cluster's own limit, once it is known."""
        return self._batch_max or bounds.LEDGER_BATCH_TRANSFERS_MAX

    # --- opening and closing

    async def open(self) -> None:
        """See `Ledger`. May be called again after it failed.

        Raises:
            LedgerRefusedError: it cannot succeed by waiting; see the module.
            LedgerUnavailableError: the cluster does not answer.
        """
        self._closed = False
        if self._log is None:
            _probe_io_uring()
            self._log = connection_log()
        if not await _somebody_listens(await self._resolve()):
            raise LedgerUnavailableError(f"{self._addresses}: nothing listens there")
        await self._first_answer()
        await self._find_batch_max()

    async def close(self) -> None:
        """See `Ledger`."""
        self._closed = True
        async with self._connecting:
            self._retire()
        while self._retired:
            await asyncio.wait(self._retired)

    def _retire(self) -> None:
        """Close the client without waiting: the library may take half a second."""
        client, self._client = self._client, None
        if client is not None:
            closing = client.close()
            self._retired.add(closing)
            closing.add_done_callback(self._retired.discard)

    async def _first_answer(self) -> None:
        """Wait for a new session, which may take longer than a request of one that is open.

        Raises:
            LedgerRefusedError, LedgerUnavailableError: see `open`.
        """
        loop = asyncio.get_running_loop()
        latest_s = loop.time() + FIRST_ANSWER_SECONDS_MAX
        while True:
            try:
                await self._ask(Operation.LOOKUP_ACCOUNTS, bytearray(_ID.size))
                return
            except LedgerUnavailableError:
                client = self._client
                if client is None or not client.connection.connected or loop.time() >= latest_s:
                    raise

    async def _find_batch_max(self) -> None:
        """Find out how many transfers the cluster accepts in one request.

        Tried with transfers that are all zeros: the library refuses a request that is too large, and
        the cluster refuses each transfer without recording it.
        """
        if await self._takes(bounds.LEDGER_BATCH_TRANSFERS_MAX):
            self._batch_max = bounds.LEDGER_BATCH_TRANSFERS_MAX
            return
        low, high = 0, bounds.LEDGER_BATCH_TRANSFERS_MAX
        while high - low > 1:
            middle = (low + high) // 2
            if await self._takes(middle):
                low = middle
            else:
                high = middle
        assert high == low + 1, (low, high)
        if low < limits.TRANSFERS_PER_RESERVATION_MAX:
            raise LedgerRefusedError(
                "batch_too_small", f"the cluster takes only {low} transfers in a request"
            )
        self._batch_max = low

    async def _takes(self, count: int) -> bool:
        try:
            await self._ask(Operation.CREATE_TRANSFERS, bytearray(count * ROW.size))
        except _TooMuchDataError:
            return False
        return True

    # --- one request

    async def _ask(self, operation: Operation, events: bytearray) -> bytes:
        """Send one request; returns the octets of its answer, within the deadline.

        Raises:
            _TooMuchDataError: nothing was sent.
            LedgerRefusedError: the cluster will not serve us.
            LedgerUnavailableError: no answer in time; the outcome is unknown.
        """
        try:
            async with asyncio.timeout(self._timeout_s):
                client = await self._ready_client()
                answer, octets = await client.submit(operation, events)
        except TimeoutError:
            raise LedgerUnavailableError(await self._why_silent()) from None
        return self._octets(client, answer, octets)

    async def _ask_all(self, operation: Operation, questions: Sequence[bytearray]) -> list[bytes]:
        """As `_ask`, for several requests: the library sends them in one or two messages."""
        try:
            async with asyncio.timeout(self._timeout_s):
                client = await self._ready_client()
                asked = [client.submit(operation, events) for events in questions]
                answers = [await one for one in asked]
        except TimeoutError:
            raise LedgerUnavailableError(await self._why_silent()) from None
        return [self._octets(client, answer, octets) for answer, octets in answers]

    def _octets(self, client: Client, answer: Answer, octets: bytes) -> bytes:
        if answer is Answer.OK:
            self._answered = True
            self._patience_s = SILENCE_SECONDS_MIN
            return octets
        if answer is Answer.TOO_MUCH_DATA:
            raise _TooMuchDataError
        if answer is Answer.CLIENT_CLOSED:
            # The library closes a session that was ended, also when the request that was told so had
            # timed out: from then on it answers with this alone. Another call begins a new one.
            if client is self._client:
                self._retire()
            raise LedgerUnavailableError("the client was closed while a request waited")
        if (fault := _FAULTS.get(answer)) is not None:
            # The library has closed this session; another call may begin a new one.
            if client is self._client:
                self._retire()
            raise LedgerRefusedError(fault, f"{self._addresses}: {_FAULT_MESSAGES[fault]}")
        raise AssertionError(f"the TigerBeetle client does not know what it was asked: {answer!r}")

    async def _ready_client(self) -> Client:
        client = self._client
        if client is not None and not self._too_silent(client):
            return client
        async with self._connecting:
            client = self._client
            if client is not None and not self._too_silent(client):
                return client
            if self._closed or self._log is None:
                raise LedgerUnavailableError("the ledger is not open")
            addresses = await self._resolve()
            if client is not None:
                self._patience_s = min(2 * self._patience_s, SILENCE_SECONDS_MAX)
                self._retire()
            assert self._client is None, "a session would stay open"
            try:
                self._client = connect(
                    cluster_id=self._cluster_id, addresses=addresses, log=self._log
                )
            except AddressRefusedError as error:
                raise LedgerRefusedError(
                    "bad_address", f"TigerBeetle does not take {self._addresses!r}: {error}"
                ) from error
            return self._client

    def _too_silent(self, client: Client) -> bool:
        since = client.silent_since
        if since is None:
            return False
        patience_s = self._patience_s
        if client.connection.connected and not client.answered:
            patience_s = max(patience_s, FIRST_ANSWER_SECONDS_MAX)
        return asyncio.get_running_loop().time() - since >= patience_s

    async def _resolve(self) -> str:
        """The replicas by IP address, as the library wants them.

        Raises:
            LedgerUnavailableError: a name is unknown, which may pass.
        """
        return ",".join([await _resolve(host, port) for host, port in self._replicas])

    async def _why_silent(self) -> str:
        """What is known about the cause of a missing answer, for the operator.

        Raises:
            LedgerRefusedError: the cluster closes each connection: its id is another one.
        """
        timeout = f"no answer within {round(self._timeout_s * 1000)} ms"
        client = self._client
        if client is None:
            return f"{self._addresses}: {timeout}"
        seen = client.connection
        if not self._answered and seen.hung_up and not seen.refused:
            # One closed connection may be a server that stops; repeated ones mean a wrong cluster id.
            wait_until = asyncio.get_running_loop().time() + VERDICT_SECONDS_MAX
            # The count comes from the library's own thread: there is no event to wait for.
            while seen.hung_up < 2 and asyncio.get_running_loop().time() < wait_until:
                await asyncio.sleep(0.05)
            if _always_hangs_up(client):
                raise LedgerRefusedError(
                    "wrong_cluster",
                    f"{self._addresses} hangs up on every request for cluster {self._cluster_id}: "
                    "it holds another cluster. Set TIGERBEETLE_CLUSTER_ID to the id that its data "
                    "file was formatted with",
                )
        if seen.refused and not seen.connected:
            return f"{self._addresses}: nothing listens there ({timeout})"
        if seen.connected:
            return f"{self._addresses}: connected, but {timeout}"
        return f"{self._addresses}: cannot be reached ({timeout})"

    # --- the contract

    async def create_transfers(
        self, transfers: Sequence[Transfer], kept: Sequence[Kept] = ()
    ) -> list[Status]:
        """See `Ledger`. An empty request tests whether the cluster answers."""
        assert not kept, "a cluster keeps transfers only"
        if not transfers:
            await self._ask(Operation.LOOKUP_ACCOUNTS, bytearray(_ID.pack(1, 0)))
            return []
        if len(transfers) <= self.batch_transfers_max:
            try:
                return read_statuses(
                    await self._ask(Operation.CREATE_TRANSFERS, pack_transfers(transfers)),
                    len(transfers),
                )
            except _TooMuchDataError:
                # The cluster has restarted with a lower limit.
                await self._find_batch_max()
        statuses: list[Status] = []
        while len(statuses) < len(transfers):
            part = _whole_chains(transfers, len(statuses), self.batch_transfers_max)
            octets = await self._ask(Operation.CREATE_TRANSFERS, pack_transfers(part))
            statuses += read_statuses(octets, len(part))
        assert len(statuses) == len(transfers), (len(statuses), len(transfers))
        return statuses

    async def create_accounts(self, accounts: Sequence[Account]) -> list[AccountStatus]:
        """See `Ledger`."""
        statuses: list[AccountStatus] = []
        size_max = self.batch_transfers_max
        for at in range(0, len(accounts), size_max):
            part = accounts[at : at + size_max]
            octets = await self._ask(Operation.CREATE_ACCOUNTS, pack_accounts(part))
            codes = memoryview(octets).cast("I")[2::4].tolist()
            assert len(codes) == len(part)
            statuses += [_ACCOUNT_STATUS[code] for code in codes]
        assert len(statuses) == len(accounts), (len(statuses), len(accounts))
        return statuses

    async def lookup_accounts(self, ids: Sequence[int]) -> list[Account]:
        """See `Ledger`.

        Raises:
            LedgerUnavailableError: no answer.
        """
        return unpack_accounts(await self._lookup(Operation.LOOKUP_ACCOUNTS, ids))

    async def lookup_transfers(self, ids: Sequence[int]) -> list[Transfer]:
        """See `Ledger`.

        Raises:
            LedgerUnavailableError: no answer.
        """
        return unpack_transfers(await self._lookup(Operation.LOOKUP_TRANSFERS, ids))

    async def _lookup(self, operation: Operation, ids: Sequence[int]) -> bytes:
        found = []
        size_max = self.batch_transfers_max
        for at in range(0, len(ids), size_max):
            keys = bytearray().join(
                _ID.pack(id_ & _LOW, id_ >> 64) for id_ in ids[at : at + size_max]
            )
            octets = await self._ask(operation, keys)
            assert len(octets) // ROW.size <= len(keys) // _ID.size, (len(octets), len(keys))
            found.append(octets)
        return b"".join(found)

    async def node_accounts(self, node_tag: int) -> list[Account]:
        """See `Ledger`.

        Raises:
            LedgerUnavailableError: no answer.
        """
        assert node_tag, "zero matches the accounts of every node"
        accounts: list[Account] = []
        after = 0
        while True:
            page = unpack_accounts(
                await self._ask(
                    Operation.QUERY_ACCOUNTS,
                    pack_query(user_data_128=node_tag, timestamp_min=after),
                )
            )
            assert not page or page[0].timestamp >= after, (page[0].timestamp, after)
            accounts += page
            if len(page) < bounds.LEDGER_BATCH_TRANSFERS_MAX:
                return accounts
            after = page[-1].timestamp + 1

    async def recent_transfers(self, since_ns: int) -> list[Transfer]:
        """See `Ledger`. The newest `RECENT_TRANSFERS_MAX` when there are more.

        Raises:
            LedgerUnavailableError: no answer.
        """
        newest_first: list[Transfer] = []
        before = 0
        while len(newest_first) < RECENT_TRANSFERS_MAX:
            page = unpack_transfers(
                await self._ask(
                    Operation.QUERY_TRANSFERS,
                    pack_query(timestamp_min=since_ns, timestamp_max=before, flags=_REVERSED),
                )
            )
            assert not before or not page or page[0].timestamp <= before, "a page comes again"
            newest_first += page
            if len(page) < bounds.LEDGER_BATCH_TRANSFERS_MAX:
                break
            before = page[-1].timestamp - 1
            if before < since_ns:
                break
        newest_first.reverse()
        return newest_first[-RECENT_TRANSFERS_MAX:]

    async def highest_id(self) -> int:
        """See `Ledger`: zero, a cluster finds every id at the same cost."""
        return 0

    async def maintain(self) -> str:
        """Nothing to be done: the cluster maintains its own files."""
        return ""

    async def tagged_transfers(
        self, tags: Sequence[int], since_ns: int, *, by_ledger: bool = False
    ) -> list[Transfer]:
        """See `Ledger`. How its clock differs from ours is not known, so `by_ledger` changes nothing.

        Raises:
            LedgerUnavailableError: no answer.
        """
        assert all(tags), "zero matches every transfer"
        found: list[Transfer] = []
        for at in range(0, len(tags), bounds.LEDGER_REQUESTS_AT_ONCE_MAX):
            part = tags[at : at + bounds.LEDGER_REQUESTS_AT_ONCE_MAX]
            # Small answers: the library sends as many queries in a message as their answers fit in one.
            questions = [
                pack_query(
                    user_data_128=tag,
                    timestamp_min=since_ns,
                    count=bounds.LEDGER_TRANSFERS_PER_TAG_MAX,
                    flags=_REVERSED,
                )
                for tag in part
            ]
            for octets in await self._ask_all(Operation.QUERY_TRANSFERS, questions):
                found += unpack_transfers(octets)
        assert len(found) <= len(tags) * bounds.LEDGER_TRANSFERS_PER_TAG_MAX, len(found)
        return sorted(found, key=lambda transfer: transfer.timestamp)

    async def account_transfers(self, account_id: int, before: int = 0) -> list[Transfer]:
        """A page of the transfers of an account, newest first; `before`: the oldest timestamp seen.

        Raises:
            LedgerUnavailableError: no answer.
        """
        rows = pack_account_filter(
            account_id, timestamp_max=max(0, before - 1), count=bounds.LEDGER_BATCH_TRANSFERS_MAX
        )
        return unpack_transfers(await self._ask(Operation.GET_ACCOUNT_TRANSFERS, rows))

    async def balances_at(self, account_id: int, moments_ns: Sequence[int]) -> list[Balance | None]:
        """See `PastLedger`.

        Raises:
            LedgerUnavailableError: no answer.
        """
        assert all(0 < at_ns < 1 << 63 for at_ns in moments_ns), "zero asks for the newest"
        filters = [
            pack_account_filter(account_id, timestamp_max=at_ns, count=1) for at_ns in moments_ns
        ]
        found = await self._ask_all(Operation.GET_ACCOUNT_BALANCES, filters)
        return [_unpack_balance(octets) if octets else None for octets in found]


def _whole_chains(transfers: Sequence[Transfer], start: int, size_max: int) -> Sequence[Transfer]:
    """As many transfers from `start` as fit in a request without splitting a chain."""
    end = min(start + size_max, len(transfers))
    if end < len(transfers):
        while end > start and transfers[end - 1].flags & LINKED:
            end -= 1
        assert end > start, "a chain is longer than a request"
    assert start < end <= start + size_max, (start, end, size_max)
    return transfers[start:end]


def pack_query(
    *,
    user_data_128: int = 0,
    timestamp_min: int = 0,
    timestamp_max: int = 0,
    count: int = bounds.LEDGER_BATCH_TRANSFERS_MAX,
    flags: int = 0,
) -> bytearray:
    """A filter for queries; zero: any value."""
    assert 0 < count <= bounds.LEDGER_BATCH_TRANSFERS_MAX, count
    assert not timestamp_max or timestamp_min <= timestamp_max, (timestamp_min, timestamp_max)
    return bytearray(
        QUERY_FILTER.pack(
            user_data_128 & _LOW, user_data_128 >> 64, 0, 0, 0, 0, timestamp_min, timestamp_max,
            count, flags,
        )
    )  # fmt: skip


def pack_account_filter(account_id: int, *, timestamp_max: int, count: int) -> bytearray:
    """A filter for the newest transfers of an account up to a time; zero: no limit."""
    assert 0 < count <= bounds.LEDGER_BATCH_TRANSFERS_MAX, count
    return bytearray(
        ACCOUNT_FILTER.pack(
            account_id & _LOW, account_id >> 64, 0, 0, 0, 0, 0, 0, timestamp_max, count,
            _DEBITS_AND_CREDITS | _REVERSED_OF_ACCOUNT,
        )
    )  # fmt: skip


def _unpack_balance(octets: bytes) -> Balance:
    row = BALANCE_ROW.unpack(octets)
    amounts = (low | high << 64 for low, high in zip(row[:8:2], row[1:8:2], strict=True))
    return Balance._make((*amounts, row[8]))


def _always_hangs_up(client: Client) -> bool:
    seen = client.connection
    return seen.hung_up >= 2 and seen.refused == 0 and not client.answered


async def _resolve(host: str, port: int) -> str:
    try:
        literal = ipaddress.ip_address(host)
    except ValueError:
        try:
            found = await asyncio.get_running_loop().getaddrinfo(
                host, port, type=socket.SOCK_STREAM
            )
        except (OSError, UnicodeError) as error:
            raise LedgerUnavailableError(
                f"the name {host} of the ledger is not known: {words_of(error)}"
            ) from error
        # IPv4 first: it is what servers listen on, and what `localhost` usually means.
        found.sort(key=lambda entry: entry[0] != socket.AF_INET)
        literal = ipaddress.ip_address(str(found[0][4][0]).partition("%")[0])
    return f"{literal}:{port}" if literal.version == 4 else f"[{literal}]:{port}"


async def _somebody_listens(replicas: str) -> bool:
    """Whether any replica may accept connections, so that a start without the cluster need not wait.

    False only where every connection is refused.
    """
    for replica in replicas.split(","):
        host, _, port = replica.rpartition(":")
        try:
            async with asyncio.timeout(KNOCK_SECONDS_MAX):
                _, writer = await asyncio.open_connection(host.strip("[]"), int(port))
        except ConnectionRefusedError:
            continue
        except (OSError, TimeoutError):
            return True  # it may only be slow: try a session
        writer.close()
        return True
    return False


def _probe_io_uring() -> None:
    """Ask the kernel for a ring first: where that is denied, making a client aborts the process.

    Raises:
        LedgerRefusedError: it is denied.
    """
    if not sys.platform.startswith("linux"):
        return
    kernel = ctypes.CDLL(None, use_errno=True)
    params = ctypes.create_string_buffer(_IO_URING_PARAMS_OCTETS)
    ring = kernel.syscall(_SYS_IO_URING_SETUP, 1, params)
    if ring >= 0:
        os.close(ring)
        return
    raise LedgerRefusedError(
        "io_uring_denied",
        f"io_uring is denied here ({os.strerror(ctypes.get_errno())}), and TigerBeetle's client "
        "cannot do without: give the container `security_opt: [seccomp=...]` with a profile that "
        "allows io_uring (Docker 25 and later deny it), or set the sysctl "
        "kernel.io_uring_disabled=0",
    )
