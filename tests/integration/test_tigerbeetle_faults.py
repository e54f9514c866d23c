"""TigerBeetle's faults, with a real server: killed, moved, stopped, absent, of another cluster."""

from __future__ import annotations

import asyncio
import os
import random
import socket
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from connector.base.clock import SystemClock
from connector.base.errors import LedgerRefusedError, LedgerUnavailableError
from connector.ledger import tigerbeetle
from connector.ledger.model import ACCOUNT_HISTORY, Account, Status, Transfer
from connector.ledger.rows import pack_accounts, pack_transfers
from connector.ledger.tigerbeetle import TigerBeetleLedger
from connector.ledger.tigerbeetle_client import (
    Answer,
    Operation,
    PackedClient,
    PublicClient,
    connection_log,
)
from tests.support.daemons import until
from tests.support.ledgers import Books
from tests.support.patience import PATIENCE_SECONDS, allowed_s
from tests.support.ports import free_port
from tests.support.tigerbeetle_server import (
    FRAGILE_CLUSTER_ID,
    TigerBeetleServer,
)

pytestmark = pytest.mark.tigerbeetle


@pytest.fixture
async def ledger(fragile_server: TigerBeetleServer) -> AsyncIterator[TigerBeetleLedger]:
    ledger = ledger_at(fragile_server.address)
    await ledger.open()
    yield ledger
    await ledger.close()


@pytest.fixture
async def patient_ledger(fragile_server: TigerBeetleServer) -> AsyncIterator[TigerBeetleLedger]:
    """For tests that are not about deadlines: a server of a busy machine may take seconds."""
    ledger = ledger_at(fragile_server.address, timeout_ms=round(PATIENCE_SECONDS * 1000))
    await ledger.open()
    yield ledger
    await ledger.close()


def ledger_at(
    addresses: str, cluster_id: int = FRAGILE_CLUSTER_ID, timeout_ms: int = 1000
) -> TigerBeetleLedger:
    return TigerBeetleLedger(
        cluster_id=cluster_id, addresses=addresses, clock=SystemClock(), timeout_ms=timeout_ms
    )


async def no_waiting(_: float) -> None:
    raise AssertionError


async def until_answered(ledger: TigerBeetleLedger, transfer: Transfer) -> Status:
    """Send it again, unchanged, as the contract says, until there is an answer."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            try:
                return (await ledger.create_transfers([transfer]))[0]
            except LedgerUnavailableError:
                pass


async def test_a_server_that_was_killed_is_found_again(
    ledger: TigerBeetleLedger, fragile_server: TigerBeetleServer
) -> None:
    """What was acknowledged is still there; what was not is resent under the same id."""
    books = Books(ledger, no_waiting)
    await books.create()
    await books.done(books.move(1))
    fragile_server.kill()
    with pytest.raises(LedgerUnavailableError):
        await ledger.create_transfers([books.move(2)])
    with pytest.raises(LedgerUnavailableError):
        await ledger.create_transfers([])
    fragile_server.start()
    assert await until_answered(ledger, books.move(2)) in (Status.CREATED, Status.EXISTS)
    assert await ledger.create_transfers([books.move(1)]) == [Status.EXISTS]
    assert await books.balances(books.bank) == (0, 20, 0, 0)
    assert await ledger.create_transfers([]) == []


async def test_a_server_that_stands_still_for_a_while(
    ledger: TigerBeetleLedger, fragile_server: TigerBeetleServer
) -> None:
    """Deadlines pass with the outcome unknown; the same transfers again settle it, once."""
    books = Books(ledger, no_waiting)
    await books.create()
    loop = asyncio.get_running_loop()
    fragile_server.pause()
    try:
        for _ in range(3):
            began = loop.time()
            with pytest.raises(LedgerUnavailableError, match="no answer within 1000 ms"):
                await ledger.create_transfers([books.move(1)])
            assert 0.9 < loop.time() - began < allowed_s(1.5)
    finally:
        fragile_server.resume()
    assert await until_answered(ledger, books.move(1)) in (Status.CREATED, Status.EXISTS)
    assert await books.balances(books.bank) == (0, 10, 0, 0)


async def test_a_server_that_moved_is_found_under_its_name(
    fragile_server: TigerBeetleServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library keeps the first address for ever; a new client asks for the name again."""
    home = "127.0.0.1"
    loop = asyncio.get_running_loop()

    async def getaddrinfo(host: str, port: int, **_: object) -> list[tuple[object, ...]]:
        assert host == "ledger.example"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (home, port))]

    monkeypatch.setattr(loop, "getaddrinfo", getaddrinfo)
    ledger = ledger_at(f"ledger.example:{fragile_server.port}")
    await ledger.open()
    books = Books(ledger, no_waiting)
    await books.create()
    fragile_server.kill()
    fragile_server.host = home = "127.0.0.2"
    fragile_server.start()
    try:
        assert await until_answered(ledger, books.move(1)) in (Status.CREATED, Status.EXISTS)
    finally:
        await ledger.close()
        fragile_server.kill()
        fragile_server.host = "127.0.0.1"
        fragile_server.start()


async def test_a_wrong_cluster_id_is_named(fragile_server: TigerBeetleServer) -> None:
    ledger = ledger_at(fragile_server.address, cluster_id=FRAGILE_CLUSTER_ID + 1)
    with pytest.raises(LedgerRefusedError, match="TIGERBEETLE_CLUSTER_ID") as caught:
        await ledger.open()
    assert caught.value.reason == "wrong_cluster"
    await ledger.close()


async def test_a_server_that_is_not_there_is_named() -> None:
    """And nothing is permanent about it: the same ledger opens once the server is there."""
    place = f"localhost:{free_port()}"
    ledger = ledger_at(place)
    for _ in range(2):
        with pytest.raises(LedgerUnavailableError, match=f"^{place}: nothing listens there"):
            await ledger.open()
    await ledger.close()
    await ledger.close()


async def test_a_server_that_comes_later(fragile_server: TigerBeetleServer) -> None:
    fragile_server.kill()
    ledger = ledger_at(fragile_server.address)
    try:
        with pytest.raises(LedgerUnavailableError):
            await ledger.open()
        fragile_server.start()
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                try:
                    await ledger.open()
                    break
                except LedgerUnavailableError:
                    pass
        assert ledger.batch_transfers_max < 300
    finally:
        await ledger.close()


async def _push_out_others(server: TigerBeetleServer) -> None:
    """The cluster keeps 64 sessions; one that was closed counts until it is pushed out itself."""
    one_id = bytearray(b"\1" + bytes(15))
    for _ in range(5):
        # Not all at once: the server takes only 32 connections.
        others = [
            PackedClient(
                cluster_id=FRAGILE_CLUSTER_ID,
                addresses=server.address,
                log=connection_log(),
            )
            for _ in range(13)
        ]
        async with asyncio.timeout(PATIENCE_SECONDS):
            for asked in [client.submit(Operation.LOOKUP_ACCOUNTS, one_id) for client in others]:
                assert (await asked)[0] is Answer.OK
        for closing in [client.close() for client in others]:
            await closing


async def test_a_session_that_others_pushed_out_is_named_and_then_replaced(
    patient_ledger: TigerBeetleLedger, fragile_server: TigerBeetleServer
) -> None:
    await _push_out_others(fragile_server)
    with pytest.raises(LedgerRefusedError, match="ended our session") as caught:
        await patient_ledger.create_transfers([])
    assert caught.value.reason == "session_evicted"
    assert await patient_ledger.create_transfers([]) == []


async def test_a_session_that_was_pushed_out_is_replaced_though_nobody_waited_to_be_told(
    patient_ledger: TigerBeetleLedger, fragile_server: TigerBeetleServer
) -> None:
    await _push_out_others(fragile_server)
    task = asyncio.ensure_future(patient_ledger.create_transfers([]))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    client = patient_ledger._client
    assert client is not None
    await until(lambda: client.silent_since is None)
    with pytest.raises(LedgerUnavailableError, match="was closed"):
        await patient_ledger.create_transfers([])
    assert await patient_ledger.create_transfers([]) == []


async def test_a_caller_that_gives_up_does_not_lose_its_transfer(
    patient_ledger: TigerBeetleLedger,
) -> None:
    """And the ledger still closes: the official client would fail an assertion."""
    books = Books(patient_ledger, no_waiting)
    await books.create()
    task = asyncio.ensure_future(patient_ledger.create_transfers([books.move(1)]))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await patient_ledger.create_transfers([books.move(1)]) == [Status.EXISTS]


async def test_closing_answers_those_who_wait(
    patient_ledger: TigerBeetleLedger, fragile_server: TigerBeetleServer
) -> None:
    fragile_server.pause()
    try:
        task = asyncio.ensure_future(patient_ledger.create_transfers([]))
        client = patient_ledger._client
        assert client is not None
        await until(lambda: client.silent_since is not None)  # it has been asked
        await patient_ledger.close()
        with pytest.raises(LedgerUnavailableError, match="closed"):
            await task
    finally:
        fragile_server.resume()
    with pytest.raises(LedgerUnavailableError, match="not open"):
        await patient_ledger.create_transfers([])


async def test_packed_rows_and_the_public_calls_agree(
    tigerbeetle_server: TigerBeetleServer,
) -> None:
    """The same requests, octet for octet the same answers but for timestamps."""
    clients = (
        PackedClient(cluster_id=0, addresses=tigerbeetle_server.address, log=connection_log()),
        PublicClient(cluster_id=0, addresses=tigerbeetle_server.address),
    )
    rng = random.Random(5)
    base = int.from_bytes(os.urandom(12), "big") << 16
    transfers = [
        Transfer(
            base + rng.randrange(200), base + rng.randrange(3), base + rng.randrange(3),
            rng.choice((1, 10, 2**64, 2**127)), rng.choice((0, 0, base + 5)), rng.getrandbits(128),
            rng.getrandbits(64), rng.getrandbits(32), rng.choice((0, 0, 9)), rng.choice((1, 1, 0)),
            rng.choice((1, 2, 0)), rng.choice((0, 0, 1, 2, 4, 8)),
        )
        for _ in range(200)
    ]  # fmt: skip
    accounts = [
        Account(base + n, ledger=1, code=1, user_data_128=base, flags=ACCOUNT_HISTORY)
        for n in range(3)
    ]
    account_rows = pack_accounts(accounts)
    ids = bytearray(b"".join((base + n).to_bytes(16, "little") for n in range(200)))
    query = tigerbeetle.pack_query(user_data_128=base)
    of_account = tigerbeetle.pack_account_filter(base, timestamp_max=0, count=100)
    first: list[list[bytes]] = []
    try:
        for client in clients:
            answers = []
            for operation, rows in (
                (Operation.CREATE_ACCOUNTS, account_rows),
                (Operation.CREATE_TRANSFERS, pack_transfers(transfers)),
                # Twice, so that the second client's requests find what the first one's found.
                (Operation.CREATE_ACCOUNTS, account_rows),
                (Operation.CREATE_TRANSFERS, pack_transfers(transfers)),
                (Operation.LOOKUP_TRANSFERS, ids),
                (Operation.LOOKUP_ACCOUNTS, ids),
                (Operation.QUERY_ACCOUNTS, query),
                (Operation.QUERY_TRANSFERS, query),
                (Operation.GET_ACCOUNT_TRANSFERS, of_account),
                (Operation.GET_ACCOUNT_BALANCES, of_account),
            ):
                answer, octets = await client.submit(operation, rows)
                assert answer is Answer.OK
                assert client.answered
                assert client.silent_since is None
                answers.append(octets)
            too_many = bytearray(128 * 9000)
            assert (await client.submit(Operation.CREATE_TRANSFERS, too_many))[0] is (
                Answer.TOO_MUCH_DATA
            )
            # The library's own refusal leaves nothing waiting: this is no silence.
            assert client.silent_since is None
            first.append(answers)
    finally:
        for client in clients:
            await client.close()
    packed, public = first
    assert packed[4:] == public[4:]
    assert len(packed[4]) > 128 * 10
    assert len(packed[-1]) == len(packed[-2]) > 128 * 5
    for index in (2, 3):
        again = [memoryview(octets[index]).cast("I")[2::4].tolist() for octets in (packed, public)]
        assert again[0] == again[1]


DENY_IO_URING = """
import ctypes, os, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
rows = [(0x20, 0, 0, 0), (0x15, 0, 1, 425), (0x06, 0, 0, 0x00050001), (0x06, 0, 0, 0x7FFF0000)]
program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *row) for row in rows))
class Filter(ctypes.Structure):
    _fields_ = [("size", ctypes.c_ushort), ("rows", ctypes.c_void_p)]
filter = Filter(len(rows), ctypes.addressof(program))
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, ctypes.byref(filter), 0, 0) == 0
"""


@pytest.mark.skipif(sys.platform != "linux", reason="io_uring is Linux's")
def test_denied_io_uring_is_named_instead_of_a_native_crash() -> None:
    """As Docker 25 and later deny it: by a seccomp filter that answers EPERM."""
    program = DENY_IO_URING + textwrap.dedent("""
        import asyncio
        from connector.base.clock import SystemClock
        from connector.base.errors import LedgerRefusedError
        from connector.ledger.tigerbeetle import TigerBeetleLedger
        async def main():
            ledger = TigerBeetleLedger(cluster_id=0, addresses="3000", clock=SystemClock())
            try:
                await ledger.open()
            except LedgerRefusedError as error:
                print(error.reason, error)
            await ledger.close()
        asyncio.run(main())
    """)
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=root, capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout.split(" ")[0]) == (0, "io_uring_denied"), done.stderr
    assert "seccomp" in done.stdout
