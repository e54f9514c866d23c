"""The ledger on TigerBeetle with a scripted client: cases that a healthy server never shows."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

import pytest

from connector.base.clock import SystemClock
from connector.base.errors import LedgerRefusedError, LedgerUnavailableError
from connector.ledger import tigerbeetle
from connector.ledger.model import LINKED, Balance, Status, Transfer
from connector.ledger.rows import ROW, pack_transfer, pack_transfers
from connector.ledger.tigerbeetle import TigerBeetleLedger, parse_addresses
from connector.ledger.tigerbeetle_client import Answer, Connection, Operation, Response

CREATED = b"\0" * 8 + b"\xff\xff\xff\xff" + b"\0" * 4
ANSWERED = (Answer.OK, b"")


class ScriptedClient:
    """Answers as told; None: never."""

    def __init__(self, answer: Callable[[Operation, bytes], Response | None]) -> None:
        self.answer = answer
        self.answered = False
        self.silent_since: float | None = None
        self.connection = Connection()
        self.closed = False
        self.asked: list[tuple[Operation, bytes]] = []

    def submit(self, operation: Operation, events: bytearray) -> asyncio.Future[Response]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Response] = loop.create_future()
        self.asked.append((operation, bytes(events)))
        answer = self.answer(operation, bytes(events))
        if answer is None:
            self.silent_since = self.silent_since or loop.time()
        else:
            self.answered = True
            self.silent_since = None
            future.set_result(answer)
        return future

    def close(self) -> asyncio.Future[None]:
        assert not self.closed
        self.closed = True
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        future.set_result(None)
        return future


class Cluster:
    """What `connect` gives instead of native clients, and the addresses it was given."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clients: list[ScriptedClient] = []
        self.addresses: list[str] = []
        self.answer: Callable[[Operation, bytes], Response | None] = all_created

        def connect(*, cluster_id: int, addresses: str, log: object) -> ScriptedClient:
            self.addresses.append(addresses)
            self.clients.append(ScriptedClient(self._answer))
            return self.clients[-1]

        async def somebody_listens(_replicas: str) -> bool:
            return True

        monkeypatch.setattr(tigerbeetle, "connect", connect)
        monkeypatch.setattr(tigerbeetle, "_probe_io_uring", lambda: None)
        monkeypatch.setattr(tigerbeetle, "_somebody_listens", somebody_listens)
        monkeypatch.setattr(tigerbeetle, "connection_log", object)

    def _answer(self, operation: Operation, events: bytes) -> Response | None:
        return self.answer(operation, events)


def all_created(operation: Operation, events: bytes) -> Response:
    if operation is Operation.CREATE_TRANSFERS:
        return Answer.OK, CREATED * (len(events) // ROW.size)
    return ANSWERED


def at_most(count: int) -> Callable[[Operation, bytes], Response]:
    def answer(operation: Operation, events: bytes) -> Response:
        if operation is Operation.CREATE_TRANSFERS and len(events) > count * ROW.size:
            return Answer.TOO_MUCH_DATA, b""
        return all_created(operation, events)

    return answer


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    return Cluster(monkeypatch)


def ledger_at(addresses: str = "3000", timeout_ms: int = 20) -> TigerBeetleLedger:
    return TigerBeetleLedger(
        cluster_id=1, addresses=addresses, clock=SystemClock(), timeout_ms=timeout_ms
    )


@pytest.mark.parametrize(
    ("text", "replicas"),
    [
        ("3000", [("127.0.0.1", 3000)]),
        ("localhost:3000", [("localhost", 3000)]),
        ("a:1, b:2 ,10.0.0.1:65535", [("a", 1), ("b", 2), ("10.0.0.1", 65535)]),
        ("[::1]:3000", [("::1", 3000)]),
    ],
)
def test_replica_addresses_are_parsed(text: str, replicas: list[tuple[str, int]]) -> None:
    assert parse_addresses(text) == replicas


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "a:1,b",
        "a:",
        ":3000",
        "a:0",
        "a:65536",
        "a:b",
        "a:-1",
        "::1",
        "a:1,,b:2",
        "a:\u0663",
        "a:1," * 7,
    ],
)
def test_an_invalid_address_is_refused_at_once(text: str) -> None:
    with pytest.raises(LedgerRefusedError) as caught:
        ledger_at(text)
    assert caught.value.reason == "bad_address"


@pytest.mark.parametrize("cluster_id", [-1, 2**128])
def test_a_cluster_id_has_128_bits(cluster_id: int) -> None:
    with pytest.raises(LedgerRefusedError, match="128 bits"):
        TigerBeetleLedger(cluster_id=cluster_id, addresses="3000", clock=SystemClock())


def test_rows_match_the_model() -> None:
    transfers = [Transfer(2**127 + n, 2, 3, 2**100, 5, 6, 7, 8, 9, 10, 11, 12) for n in range(3)]
    assert pack_transfers(transfers) == b"".join(map(pack_transfer, transfers))


@pytest.mark.parametrize("size", [3, 253, 8188, 8189, 9000])
async def test_the_limit_of_a_request_is_found_by_transfers_that_change_nothing(
    cluster: Cluster, size: int
) -> None:
    cluster.answer = at_most(size)
    ledger = ledger_at()
    await ledger.open()
    assert ledger.batch_transfers_max == min(size, 8189)
    assert all(events.count(0) == len(events) for _, events in cluster.clients[0].asked)
    await ledger.close()


async def test_a_cluster_that_takes_less_than_a_packet_needs_is_refused(cluster: Cluster) -> None:
    cluster.answer = at_most(2)
    with pytest.raises(LedgerRefusedError, match="only 2"):
        await ledger_at().open()


async def test_a_lower_limit_splits_requests_between_chains(cluster: Cluster) -> None:
    ledger = ledger_at()
    await ledger.open()
    cluster.answer = at_most(5)
    chain = [Transfer(n + 1, flags=LINKED if n % 3 else 0) for n in range(10)]
    chain[-1] = chain[-1]._replace(flags=0)
    cluster.clients[0].asked.clear()
    assert await ledger.create_transfers(chain) == [Status.CREATED] * 10
    sent = [len(events) // ROW.size for _, events in cluster.clients[0].asked if any(events)]
    assert sent == [10, 4, 3, 3]
    await ledger.close()


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Answer.SESSION_EVICTED, "session_evicted"),
        (Answer.CLIENT_TOO_NEW, "client_too_new"),
        (Answer.CLIENT_TOO_OLD, "client_too_old"),
    ],
)
async def test_permanent_faults_have_names_and_end_the_session(
    cluster: Cluster, answer: Answer, reason: str
) -> None:
    cluster.answer = lambda *_: (answer, b"")
    ledger = ledger_at("10.1.1.1:3000")
    with pytest.raises(LedgerRefusedError, match=r"10\.1\.1\.1:3000") as caught:
        await ledger.open()
    assert caught.value.reason == reason
    assert cluster.clients[0].closed
    cluster.answer = all_created
    await ledger.open()
    assert len(cluster.clients) == 2
    await ledger.close()


async def test_a_session_that_ended_while_nobody_waited_is_replaced(cluster: Cluster) -> None:
    """The request that was told so had timed out; the library says only that the client is closed."""
    ledger = ledger_at()
    await ledger.open()
    cluster.answer = lambda *_: None
    with pytest.raises(LedgerUnavailableError):
        await ledger.create_transfers([])
    cluster.answer = lambda *_: (Answer.CLIENT_CLOSED, b"")
    with pytest.raises(LedgerUnavailableError, match="was closed"):
        await ledger.create_transfers([])
    assert cluster.clients[0].closed
    cluster.answer = all_created
    assert await ledger.create_transfers([Transfer(1)]) == [Status.CREATED]
    assert len(cluster.clients) == 2
    await ledger.close()
    with pytest.raises(LedgerUnavailableError, match="not open"):
        await ledger.create_transfers([])


async def test_our_own_errors_are_not_reported_as_the_clusters(cluster: Cluster) -> None:
    cluster.answer = lambda *_: (Answer.INVALID_OPERATION, b"")
    with pytest.raises(AssertionError):
        await ledger_at().open()


@pytest.mark.long
async def test_a_silent_client_is_replaced_with_new_addresses_and_growing_waits(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tigerbeetle, "SILENCE_SECONDS_MIN", 0.05)
    monkeypatch.setattr(tigerbeetle, "SILENCE_SECONDS_MAX", 0.2)
    number = 0

    async def getaddrinfo(host: str, port: int, **_: object) -> list[tuple[object, ...]]:
        nonlocal number
        number += 1
        return [
            (socket.AF_INET6, 1, 6, "", ("fe80::1%lo", port, 0, 1)),
            (socket.AF_INET, 1, 6, "", (f"10.0.0.{number}", port)),
        ]

    loop = asyncio.get_running_loop()
    monkeypatch.setattr(loop, "getaddrinfo", getaddrinfo)
    ledger = ledger_at("ledger.example:7")
    await ledger.open()
    cluster.answer = lambda *_: None
    began = loop.time()
    while loop.time() - began < 0.6:
        with pytest.raises(LedgerUnavailableError):
            await ledger.create_transfers([Transfer(1)])
    # After 0.05, then 0.1, then every 0.2 seconds: sessions are scarce.
    assert 3 <= len(cluster.clients) <= 6
    assert cluster.addresses[:2] == ["10.0.0.2:7", "10.0.0.3:7"]  # the first was only knocked at
    assert [client.closed for client in cluster.clients[:-1]] == [True] * (len(cluster.clients) - 1)
    cluster.answer = all_created
    assert await ledger.create_transfers([Transfer(1)]) == [Status.CREATED]
    await ledger.close()
    await ledger.close()
    assert cluster.clients[-1].closed


async def test_a_new_session_may_take_longer_than_a_request(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in clusters of several replicas; one that cannot be reached is not waited for."""
    monkeypatch.setattr(tigerbeetle, "SILENCE_SECONDS_MIN", 0.0)
    left = 3

    def slow(operation: Operation, events: bytes) -> Response | None:
        nonlocal left
        cluster.clients[-1].connection.connected = 1
        left -= 1
        return all_created(operation, events) if left <= 0 else None

    cluster.answer = slow
    ledger = ledger_at()
    await ledger.open()
    assert len(cluster.clients) == 1, "a session that is about to be is not thrown away"
    await ledger.close()
    monkeypatch.setattr(tigerbeetle, "FIRST_ANSWER_SECONDS_MAX", 0.1)
    left = 1000
    with pytest.raises(LedgerUnavailableError, match="connected, but no answer"):
        await ledger.open()
    assert 990 < left < 1000
    await ledger.close()
    cluster.answer = lambda *_: None
    asked = len(cluster.clients)
    with pytest.raises(LedgerUnavailableError, match="cannot be reached"):
        await ledger.open()
    assert len(cluster.clients[asked].asked) == 1
    await ledger.close()


async def test_an_unknown_name_is_resolved_again(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def getaddrinfo(*_: object, **__: object) -> list[tuple[object, ...]]:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    with pytest.raises(LedgerUnavailableError, match=r"the name ledger\.example"):
        await ledger_at("ledger.example:7").open()


async def test_ipv6_addresses_are_bracketed(cluster: Cluster) -> None:
    ledger = ledger_at("[::1]:3000,10.0.0.1:3000")
    await ledger.open()
    assert cluster.addresses == ["[::1]:3000,10.0.0.1:3000"]
    await ledger.close()


@pytest.mark.parametrize(
    ("connected", "refused", "says"),
    [(0, 0, "cannot be reached"), (0, 2, "nothing listens there"), (1, 1, "connected, but")],
)
async def test_a_timeout_names_the_addresses(
    cluster: Cluster, connected: int, refused: int, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tigerbeetle, "FIRST_ANSWER_SECONDS_MAX", 0.1)

    def answer(*_: object) -> None:
        cluster.clients[-1].connection.connected = connected
        cluster.clients[-1].connection.refused = refused

    cluster.answer = answer
    with pytest.raises(LedgerUnavailableError, match=says):
        await ledger_at().open()


async def test_one_closed_connection_is_not_a_wrong_cluster(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that stops hangs up once, and then refuses."""
    monkeypatch.setattr(tigerbeetle, "VERDICT_SECONDS_MAX", 0.1)
    monkeypatch.setattr(tigerbeetle, "FIRST_ANSWER_SECONDS_MAX", 0.2)

    def answer(*_: object) -> None:
        connection = cluster.clients[-1].connection
        connection.connected = connection.hung_up = 1

    cluster.answer = answer
    with pytest.raises(LedgerUnavailableError, match="connected, but"):
        await ledger_at().open()


@pytest.mark.interpreted
async def test_recent_transfers_are_bounded_and_the_newest_win(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tigerbeetle, "RECENT_TRANSFERS_MAX", 10_000)
    ledger = ledger_at(timeout_ms=5000)
    await ledger.open()
    newest = 20_000

    def page(_: Operation, events: bytes) -> Response:
        _, _, _, _, _, _, low, high, size, flags = tigerbeetle.QUERY_FILTER.unpack(events)
        assert flags == 1
        top = high or newest
        stamps = range(top, max(low - 1, top - size), -1)
        return Answer.OK, b"".join(pack_transfer(Transfer(n), n) for n in stamps)

    cluster.answer = page
    found = await ledger.recent_transfers(0)
    assert [transfer.id for transfer in found] == list(range(10_001, 20_001))
    newest = 8189
    assert [t.id for t in await ledger.recent_transfers(1)] == list(range(1, 8190))
    assert [t.id for t in await ledger.recent_transfers(8000)] == list(range(8000, 8190))
    await ledger.close()


async def test_a_past_balance_is_the_newest_up_to_that_time(cluster: Cluster) -> None:
    ledger = ledger_at()
    await ledger.open()
    account_id, at_ns = 2**127 + 5, 2**63 - 1
    amounts = (2**64 + 1, 2, 2**127 + 3, 4)
    words = [word for one in amounts for word in (one % 2**64, one >> 64)]

    def found(operation: Operation, events: bytes) -> Response:
        assert operation is Operation.GET_ACCOUNT_BALANCES
        low, high, *tags, before, size, flags = tigerbeetle.ACCOUNT_FILTER.unpack(events)
        assert (high << 64 | low, before, size, flags) == (account_id, at_ns, 1, 7)
        assert not any(tags)
        return Answer.OK, tigerbeetle.BALANCE_ROW.pack(*words, 77)

    cluster.answer = found
    assert await ledger.balances_at(account_id, [at_ns]) == [Balance(*amounts, 77)]
    empty = iter((False, True, False))
    cluster.answer = lambda *asked: ANSWERED if next(empty) else found(*asked)
    balances = await ledger.balances_at(account_id, [at_ns] * 3)
    assert balances == [Balance(*amounts, 77), None, Balance(*amounts, 77)]
    cluster.answer = lambda *_: None
    with pytest.raises(LedgerUnavailableError, match="no answer within 20 ms"):
        await ledger.balances_at(account_id, [at_ns] * 3)
    await ledger.close()
