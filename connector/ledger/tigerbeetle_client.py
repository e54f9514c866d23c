"""TigerBeetle's native client with packed rows: the only module that imports `tigerbeetle`.

The official Python client spends 5-7 us per transfer on converting dataclasses to C structures. Here
the caller packs rows of TigerBeetle's layout into one buffer, which is passed to the C library
unchanged. This depends on what the package generates from the C header (`tigerbeetle.bindings`), so
it is small and pinned to a version; `PublicClient` does the same through the public calls, and a
test compares the two.

A request is a future of octets. The waiting task may be cancelled: the buffers belong to the client
until the library has answered. (The official asyncio client loses track of a request whose task is
cancelled, and then fails an assertion in `close()`.)
"""

from __future__ import annotations

import asyncio
import ctypes
import functools
import logging
from collections.abc import Awaitable, Callable
from enum import IntEnum
from typing import Any, Final, Protocol

import tigerbeetle as tb
from tigerbeetle import bindings, client
from tigerbeetle.lib import c_uint128

log: Final = logging.getLogger("tigerbeetle")


class Operation(IntEnum):
    """The operations of a request; TigerBeetle's numbers."""

    LOOKUP_ACCOUNTS = 140
    LOOKUP_TRANSFERS = 141
    GET_ACCOUNT_TRANSFERS = 142
    GET_ACCOUNT_BALANCES = 143
    QUERY_ACCOUNTS = 144
    QUERY_TRANSFERS = 145
    CREATE_ACCOUNTS = 146
    CREATE_TRANSFERS = 147


class Answer(IntEnum):
    """How a request ended; TigerBeetle's numbers (`PacketStatus`)."""

    OK = 0
    TOO_MUCH_DATA = 1
    SESSION_EVICTED = 2
    CLIENT_TOO_OLD = 3
    CLIENT_TOO_NEW = 4
    CLIENT_CLOSED = 5
    INVALID_OPERATION = 6
    INVALID_DATA_SIZE = 7


Response = tuple[Answer, bytes]


class AddressRefusedError(Exception):
    """The library refuses to create a client; the message is its own."""


class Client(Protocol):
    """A session with a cluster, from one event loop."""

    answered: bool
    """Whether the cluster has ever answered this client."""
    silent_since: float | None
    """Time of the loop's clock since which requests wait and none has been answered; None: no wait."""
    connection: Connection
    """What the library logs about its connections."""

    def submit(self, operation: Operation, events: bytearray) -> asyncio.Future[Response]:
        """Send `events`, rows of TigerBeetle's layout; `events` may not change until answered."""

    def close(self) -> asyncio.Future[None]:
        """End the session. Requests that wait are answered `CLIENT_CLOSED`. Call it once."""


class Connection:
    """Counts of what the library logs about the connections of one client."""

    __slots__ = ("connected", "hung_up", "refused")

    def __init__(self) -> None:
        self.connected = 0
        self.hung_up = 0
        """Connections closed by the server, as always happens with a wrong cluster id."""
        self.refused = 0


class ConnectionLog:
    """Reads the library's log: the only place where it reports network errors.

    The library has one log for the whole process. Its debug lines are off: each would take the
    interpreter's lock. It warns of every failed attempt to connect; the caller of a request reports
    that, so here it is logged at level debug.
    """

    def __init__(self) -> None:
        self.connections: dict[str, Connection] = {}
        self._handler: Any = bindings.LogHandler(self._said)
        tb.configure_logging(debug=False, handler=self._handler)

    def _said(self, level: int, message: int, size: int) -> None:
        text = ctypes.string_at(message, size).decode("utf-8", "replace")
        self.note(text)
        log.log(logging.WARNING if level == bindings.LogLevel.ERR else logging.DEBUG, "%s", text)

    def note(self, text: str) -> None:
        """Count a line, `(part): <client id>: <what happened>`."""
        parts = text.split(": ", 2)
        connection = self.connections.get(parts[1]) if len(parts) == 3 else None
        if connection is None:
            return
        said = parts[2]
        if said.startswith("on_connect: connected"):
            connection.connected += 1
        elif said.startswith("on_connect: error"):
            connection.refused += 1
        elif said.startswith("on_recv:") and "shutdown" in said:
            connection.hung_up += 1


@functools.cache
def connection_log() -> ConnectionLog:
    """The instance of this process; its first call installs it as the library's log handler."""
    return ConnectionLog()


class _Request:
    __slots__ = ("buffer", "future", "packet")

    def __init__(self, packet: Any, buffer: Any, future: asyncio.Future[Response]) -> None:
        self.packet = packet
        self.buffer = buffer
        self.future = future


class PackedClient:
    """See `Client`; rows go to the C library as they are."""

    def __init__(self, *, cluster_id: int, addresses: str, log: ConnectionLog) -> None:
        self.answered = False
        self.silent_since: float | None = None
        self.connection = Connection()
        self._loop = asyncio.get_running_loop()
        self._log = log
        self._requests: dict[int, _Request] = {}
        self._last_key = 0
        self._closed = False
        self._native = bindings.CClient()
        # The library calls it from its own thread until `tb_client_deinit` has returned.
        self._callback = bindings.OnCompletion(self._completed)
        cluster = c_uint128.from_param(cluster_id)
        octets = addresses.encode("ascii")
        status = bindings.tb_client_init(
            ctypes.byref(self._native),
            ctypes.cast(ctypes.byref(cluster), ctypes.POINTER(ctypes.c_uint8 * 16)),
            octets,
            len(octets),
            0,
            self._callback,
        )
        if status != bindings.InitStatus.SUCCESS:
            raise AddressRefusedError(bindings.InitStatus(status).name)
        parameters = bindings.InitParameters()
        bindings.tb_client_init_parameters(ctypes.byref(self._native), ctypes.byref(parameters))
        self._id = str(parameters.client_id.to_python())
        log.connections[self._id] = self.connection

    def submit(self, operation: Operation, events: bytearray) -> asyncio.Future[Response]:
        """See `Client`."""
        future: asyncio.Future[Response] = self._loop.create_future()
        if self._closed:
            future.set_result((Answer.CLIENT_CLOSED, b""))
            return future
        assert events, "an empty request"
        assert (self.silent_since is None) == (not self._requests), len(self._requests)
        buffer = (ctypes.c_char * len(events)).from_buffer(events)
        key = self._last_key = self._last_key + 1
        packet = bindings.CPacket()
        packet.user_data = key
        packet.operation = operation
        packet.data = ctypes.addressof(buffer)
        packet.data_size = len(events)
        self._requests[key] = _Request(packet, buffer, future)
        if self.silent_since is None:
            self.silent_since = self._loop.time()
        status = bindings.tb_client_submit(ctypes.byref(self._native), ctypes.byref(packet))
        if status != bindings.ClientStatus.OK:
            self._answer(key, Answer.CLIENT_CLOSED, b"")
        return future

    def _completed(self, _: int, packet: Any, __: int, octets: int, size: int) -> None:
        """Called from the library's thread; `octets` are valid until this returns."""
        key = packet[0].user_data
        status = packet[0].status
        copy = ctypes.string_at(octets, size) if octets else b""
        try:
            self._loop.call_soon_threadsafe(self._answer, key, Answer(status), copy)
        except RuntimeError:
            # The loop is closed: no task waits for the answer.
            pass

    def _answer(self, key: int, answer: Answer, octets: bytes) -> None:
        request = self._requests.pop(key)
        if answer is Answer.OK:
            self.answered = True
            self.silent_since = self._loop.time()
        # Some answers come from the library itself. Without a waiting request nothing is silent.
        if not self._requests:
            self.silent_since = None
        if not request.future.done():
            request.future.set_result((answer, octets))

    def close(self) -> asyncio.Future[None]:
        """See `Client`. Runs in a thread: it takes up to half a second without a connection."""
        assert not self._closed
        self._closed = True
        self._log.connections.pop(self._id, None)
        return self._loop.run_in_executor(None, self._close)

    def _close(self) -> None:
        bindings.tb_client_deinit(ctypes.byref(self._native))


_Rows = tuple[Any, Callable[..., Awaitable[Any]], Any]
_ASKED_WITH_ONE_FILTER: Final = (
    Operation.GET_ACCOUNT_TRANSFERS,
    Operation.GET_ACCOUNT_BALANCES,
    Operation.QUERY_ACCOUNTS,
    Operation.QUERY_TRANSFERS,
)


class PublicClient:
    """See `Client`; through the public calls of the official asyncio client."""

    def __init__(self, *, cluster_id: int, addresses: str) -> None:
        self.answered = False
        self.silent_since: float | None = None
        self.connection = Connection()
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        try:
            self._client = tb.ClientAsync(cluster_id, addresses)
        except client.InitError as error:
            raise AddressRefusedError(str(error)) from error
        public = self._client
        b = bindings
        self._rows: dict[Operation, _Rows] = {
            Operation.LOOKUP_ACCOUNTS: (c_uint128, public.lookup_accounts, b.CAccount),
            Operation.LOOKUP_TRANSFERS: (c_uint128, public.lookup_transfers, b.CTransfer),
            Operation.GET_ACCOUNT_TRANSFERS: (
                b.CAccountFilter, public.get_account_transfers, b.CTransfer,
            ),
            Operation.GET_ACCOUNT_BALANCES: (
                b.CAccountFilter, public.get_account_balances, b.CAccountBalance,
            ),
            Operation.QUERY_ACCOUNTS: (b.CQueryFilter, public.query_accounts, b.CAccount),
            Operation.QUERY_TRANSFERS: (b.CQueryFilter, public.query_transfers, b.CTransfer),
            Operation.CREATE_ACCOUNTS: (b.CAccount, public.create_accounts, b.CCreateAccountResult),
            Operation.CREATE_TRANSFERS: (
                b.CTransfer, public.create_transfers, b.CCreateTransferResult,
            ),
        }  # fmt: skip

    def submit(self, operation: Operation, events: bytearray) -> asyncio.Future[Response]:
        """See `Client`."""
        future: asyncio.Future[Response] = self._loop.create_future()
        assert events, "an empty request"
        assert (self.silent_since is None) == (not self._tasks), len(self._tasks)
        if self.silent_since is None:
            self.silent_since = self._loop.time()
        # A separate task, so that a caller's cancellation does not reach the official client.
        task = self._loop.create_task(self._ask(operation, bytes(events), future))
        self._tasks.add(task)
        return future

    async def _ask(
        self, operation: Operation, events: bytes, future: asyncio.Future[Response]
    ) -> None:
        event_type, call, result_type = self._rows[operation]
        size = ctypes.sizeof(event_type)
        rows = [
            event_type.from_buffer_copy(events, at).to_python()
            for at in range(0, len(events), size)
        ]
        octets = b""
        answer = Answer.OK
        try:
            if operation in _ASKED_WITH_ONE_FILTER:
                rows = rows[0]
            results = await call(rows)
            octets = b"".join(bytes(result_type.from_param(result)) for result in results)
        except client.TooMuchDataError:
            answer = Answer.TOO_MUCH_DATA
        except client.ClientEvictedError:
            answer = Answer.SESSION_EVICTED
        except client.ClientReleaseTooLowError:
            answer = Answer.CLIENT_TOO_OLD
        except client.ClientReleaseTooHighError:
            answer = Answer.CLIENT_TOO_NEW
        except client.ClientClosedError:
            answer = Answer.CLIENT_CLOSED
        task = asyncio.current_task()
        assert task is not None
        self._tasks.discard(task)
        if answer is Answer.OK:
            self.answered = True
            self.silent_since = self._loop.time()
        if not self._tasks:
            self.silent_since = None
        if not future.done():
            future.set_result((answer, octets))

    def close(self) -> asyncio.Future[None]:
        """See `Client`."""
        return self._loop.create_task(self._client.close())


def packed_is_possible() -> bool:
    """Whether the installed package has the parts that `PackedClient` depends on."""
    names = ("tb_client_init", "tb_client_init_parameters", "tb_client_submit", "tb_client_deinit")
    fields = [name for name, *_ in getattr(getattr(bindings, "CPacket", None), "_fields_", ())]
    return all(hasattr(bindings, name) for name in names) and fields == [
        "user_data", "data", "data_size", "user_tag", "operation", "status", "opaque",
    ]  # fmt: skip


def connect(*, cluster_id: int, addresses: str, log: ConnectionLog) -> Client:
    """A session with the cluster at `addresses`, IP addresses with ports.

    Success does not mean that the cluster answers: the library retries without end.

    Raises:
        AddressRefusedError: the library does not take the addresses.
    """
    if packed_is_possible():
        return PackedClient(cluster_id=cluster_id, addresses=addresses, log=log)
    return PublicClient(cluster_id=cluster_id, addresses=addresses)
