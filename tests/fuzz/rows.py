"""Fuzz targets: what a node reads from its own disk: rows, journal, outbox, settlements, events.

A file may be damaged by a disk, a restored backup or a hand. Opening and reading it then gives the
error of that file, which names it, and no other exception.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import sqlite3
import struct
import tempfile
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from connector.accounting.outbox import SqliteOutbox, acknowledged_in
from connector.base.disk import SystemDisk
from connector.base.errors import (
    EnvironmentFault,
    LedgerBehindError,
    LedgerCorruptError,
    LedgerUnavailableError,
    SettlementStoreError,
)
from connector.base.marker import FileMarker
from connector.base.sqlite import SqliteFile
from connector.ledger.embedded import EmbeddedLedger
from connector.ledger.model import PENDING, PHASE_RESOLVE, POST, Account, Kept, Posted, Transfer
from connector.ledger.rows import (
    pack_accounts,
    pack_dense,
    pack_transfer,
    pack_transfers,
    unpack_accounts,
    unpack_dense,
    unpack_transfers,
)
from connector.node.payment_store import Connection, PaymentStatus, PaymentStore
from connector.node.received_store import ReceivedStore
from connector.peering.model import Asset
from connector.settlement.model import Direction, Origin, Payer, Phase, Quantity, Settlement
from connector.settlement.store import SettlementStore
from connector.stream.incoming import Incoming
from connector.stream.money import Terms
from connector.telemetry.aggregates import NODE, Aggregates, Counters, Row
from connector.telemetry.bus import EventBus
from connector.telemetry.events import AccountBalance, PacketFulfilled, PeerConnected
from connector.telemetry.peer_minutes import PeerMinutes, PeerRow
from connector.telemetry.store import EventStore
from connector.telemetry.store_query import EventQuery
from tests.fuzz.target import Target
from tests.support import strategies as some
from tests.support.daemons import EventLog
from tests.support.ledgers import ManualClock
from tests.support.memory_folder import memory_folder

# --- rows as octets

_wide = st.integers(0, 2**128 - 1)
_middle = st.integers(0, 2**64 - 1)
_narrow = st.integers(0, 2**32 - 1)
_short = st.integers(0, 2**16 - 1)
transfers = st.builds(
    Transfer, _wide, _wide, _wide, _wide | _middle, _wide, _wide, _middle, _narrow, _narrow, _narrow,
    _short, _short, _middle,
)  # fmt: skip
accounts = st.builds(
    Account, _wide, _wide, _wide, _wide, _wide, _wide, _middle, _narrow, _narrow, _short, _short,
    _middle,
)  # fmt: skip


def check_rows(value: tuple[list[Transfer], list[Account]]) -> None:
    """Transfers and accounts come back from their octets, in every layout that takes them."""
    some_transfers, some_accounts = value
    octets = bytes(pack_transfers(some_transfers))
    assert unpack_transfers(octets) == some_transfers
    assert octets == b"".join(pack_transfer(one, one.timestamp) for one in some_transfers)
    assert unpack_accounts(bytes(pack_accounts(some_accounts))) == some_accounts
    ids = sorted({id_ for one in some_transfers for id_ in one[1:3]})
    numbers = {id_: number for number, id_ in enumerate(ids)}
    with contextlib.suppress(KeyError, struct.error):
        assert list(unpack_dense(bytes(pack_dense(some_transfers, numbers)), ids)) == some_transfers


# --- files

Change = tuple[str, int, int, Any]
"""Which row and column of which table, and its new value."""

_values = (
    st.none()
    | st.integers(-3, 300)
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats()
    | st.text(max_size=6)
    | st.sampled_from(("pending", "incoming", "-1", "1e9", "9" * 50, "\x00", "²"))
    | st.binary(max_size=140)
    | st.sampled_from(("cut", "flip", "double")).map(lambda how: (how,))
)


def changes(*tables: str) -> st.SearchStrategy[list[Change]]:
    """Damage to a few places of a file."""
    one = st.tuples(st.sampled_from(tables), st.integers(0, 40), st.integers(0, 15), _values)
    return st.lists(one, min_size=1, max_size=3)


def _damage(path: Path, wanted: list[Change]) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        for table, row, column, value in wanted:
            found = connection.execute(f"SELECT * FROM {table}").fetchall()
            if not found:
                continue
            names = [line[1] for line in connection.execute(f"PRAGMA table_info({table})")]
            name = names[column % len(names)]
            old = found[row % len(found)][column % len(names)]
            new = _altered(old, value)
            with contextlib.suppress(sqlite3.Error, OverflowError, UnicodeEncodeError):
                connection.execute(
                    f"UPDATE {table} SET {name} = ? WHERE {name} IS ? AND {names[0]} IS ?",
                    (new, old, found[row % len(found)][0]),
                )
        connection.commit()


def _altered(old: Any, value: Any) -> Any:
    if not isinstance(value, tuple):
        return value
    if not isinstance(old, bytes) or not old:
        return old
    match value[0]:
        case "cut":
            return old[:-1]
        case "double":
            return old + old
        case _:
            middle = len(old) // 2
            return old[:middle] + bytes((old[middle] ^ 0x10,)) + old[middle + 1 :]


@cache
def _made(name: str) -> Path:
    """A folder with a whole file, as a kill leaves it; made once."""
    home, kept = (Path(tempfile.mkdtemp(prefix="fuzz-")) for _ in range(2))
    asyncio.run(_MAKERS[name](home, kept))
    return kept


def _with_copy(name: str, wanted: list[Change], work: Callable[[Path], Any]) -> None:
    with tempfile.TemporaryDirectory(prefix="fuzz-", dir=memory_folder()) as folder:
        copy = Path(folder)
        shutil.copytree(_made(name), copy, dirs_exist_ok=True)
        _damage(copy / name, wanted)
        asyncio.run(work(copy / name))


async def _make_ledger(home: Path, kept: Path) -> None:
    ledger = EmbeddedLedger(home / "ledger.db", clock=ManualClock())
    await ledger.open()
    await ledger.create_accounts([Account(n, ledger=1, code=1, user_data_128=7) for n in (1, 2)])
    base = 2**127
    for number in range(4):
        id_ = base + (number << 8)
        hold = Transfer(id_, 1, 2, 10 + number, timeout=60, ledger=1, code=1, flags=PENDING)
        await ledger.create_transfers([hold])
        if number % 2:
            post = Transfer(
                id_ | PHASE_RESOLVE, amount=2**128 - 1, pending_id=id_, ledger=1, code=1, flags=POST
            )
            await ledger.create_transfers([post], [Kept(id_, 10, bytes(40))])
        if number == 1:
            await ledger.close()  # so there is a checkpoint too
            await ledger.open()
    shutil.copytree(home, kept, dirs_exist_ok=True)
    await ledger.close()


async def _make_outbox(home: Path, kept: Path) -> None:
    outbox = SqliteOutbox(SqliteFile(home / "outbox.db"))
    await outbox.open()
    await outbox.begin()
    await outbox.end({})
    for number in range(3):
        await outbox.add([Transfer(2**127 + number, 1, 2, number, flags=PENDING)] * (number + 1))
    await outbox.keep([Kept(2**127 + number, 10, bytes(40)) for number in range(3)])
    await outbox.remember({1: Posted(5, 6), 2: Posted(7, 8)}, 2**127)
    await outbox.keep_claims([1, 2])
    await outbox.close()
    shutil.copytree(home, kept, dirs_exist_ok=True)


async def _make_events(home: Path, kept: Path) -> None:
    store = _events_in(home / "events.sqlite")
    await store.open()
    bus = EventBus(node_id="hub", clock=ManualClock())
    bus.hand_to(store.take)
    for number in range(3):
        bus.emit(
            PacketFulfilled(
                packet_id=number << 8, peer_id="alice", next_hop="bob", destination="g.bob",
                amount=number, duration_ms=1.0,
            )
        )  # fmt: skip
        bus.emit(PeerConnected(peer_id="bob", direction="inbound"))
        bus.emit(
            AccountBalance(
                peer_id="bob", asset_code="USD", asset_scale=9, debit_balance=number,
                credit_balance=0, net_balance=number, pending_debits=0, pending_credits=0,
                credit_limit=0, available_credit=0, settlement_threshold=None,
                settlement_state="idle",
            )
        )  # fmt: skip
    minute = ManualClock().now_ms() // 60_000 * 60
    store.take_minute(minute, NODE, Row(fulfilled=3, seconds=60, value={("USD", 9): 5}))
    store.take_minute(minute, "bob", PeerRow(fulfilled_in=1, codes={"F02": 1}))
    bus.flush()
    await store.close()
    shutil.copytree(home, kept, dirs_exist_ok=True)


def _events_in(path: Path) -> EventStore:
    return EventStore(
        path=path, disk=SystemDisk(), node_id="hub", clock=ManualClock(), log=EventLog(),
        events_max=1000, bytes_max=1 << 30, retention_days=7,
    )  # fmt: skip


async def _make_settlements(home: Path, kept: Path) -> None:
    store = SettlementStore(SqliteFile(home / "settlements.db"))
    await store.open()
    for number, way in enumerate((Direction.OUTGOING, Direction.INCOMING)):
        await store.add(
            Settlement(
                id=(number + 1) << 8,
                booking_id=(number + 1) << 8,
                peer_id="bob",
                asset=_USD,
                direction=way,
                origin=Origin.ENGINE,
                key=f"k{number}",
                amount=5,
                quantity=Quantity(5_000_000_001, 18),
                payer=Payer.NOBODY,
                phase=Phase.PENDING,
                created_ms=1,
                changed_ms=1,
            )
        )
    await store.close()
    shutil.copytree(home, kept, dirs_exist_ok=True)


async def _make_payments(home: Path, kept: Path) -> None:
    store = PaymentStore(SqliteFile(home / "payments.db"))
    terms = Terms(Fraction(9, 10), Fraction(1, 100))
    connection = Connection("g.bob", bytes(32), terms, last=7, high=1031, open=[3, 5])
    for number, one in enumerate((connection, None)):
        await store.put(
            PaymentStatus(
                f"k{number}", "$bob.example", 1000, Fraction(1, 100), _USD, sent=10, tag=1 << 127,
                connection=one,
            )
        )  # fmt: skip
    await store.close()
    shutil.copytree(home, kept, dirs_exist_ok=True)


async def _make_received(home: Path, kept: Path) -> None:
    store = ReceivedStore(SqliteFile(home / "received.db"))
    await store.open()
    one = Incoming("1" * 32, "p" * 32, "token", "alice", "USD", 9, 5, 1, 1000, 2000)
    ended = replace(one, id="2" * 32, token="other", ended="closed")
    await store.put([one, ended], tells=True, now_ms=3000)
    await store.close()
    shutil.copytree(home, kept, dirs_exist_ok=True)


_USD = Asset("USD", 9)
_MAKERS: dict[str, Callable[[Path, Path], Coroutine[Any, Any, None]]] = {
    "ledger.db": _make_ledger,
    "outbox.db": _make_outbox,
    "settlements.db": _make_settlements,
    "payments.db": _make_payments,
    "received.db": _make_received,
    "events.sqlite": _make_events,
}


def check_journal(wanted: list[Change]) -> None:
    """A damaged ledger file opens, or says that it is damaged; so does its replay."""

    async def work(path: Path) -> None:
        ledger = EmbeddedLedger(path, clock=ManualClock())
        try:
            await ledger.open()
        except (LedgerBehindError, LedgerCorruptError, LedgerUnavailableError):
            return
        try:
            with contextlib.suppress(LedgerCorruptError, LedgerUnavailableError):
                await ledger.replay_all()
            with contextlib.suppress(LedgerCorruptError, LedgerUnavailableError):
                await ledger.tagged_transfers([7], 0)
        finally:
            await ledger.close()

    _with_copy("ledger.db", wanted, work)


def check_outbox(wanted: list[Change]) -> None:
    """A damaged outbox is read, or says that it is damaged."""

    async def work(path: Path) -> None:
        outbox = SqliteOutbox(SqliteFile(path))
        try:
            await outbox.open()
        except (LedgerCorruptError, LedgerUnavailableError):
            return
        try:
            reads: list[Callable[[], Awaitable[object]]] = [
                outbox.begin,
                lambda: outbox.load(0, 100),
                lambda: outbox.kept([2**127, 2**127 + 1]),
                outbox.kept_ids,
                lambda: outbox.forget_kept(11),
                outbox.claims,
            ]
            for read in reads:
                with contextlib.suppress(LedgerCorruptError, LedgerUnavailableError):
                    await read()
        finally:
            await outbox.close()
        with contextlib.suppress(LedgerCorruptError, LedgerUnavailableError):
            await acknowledged_in(SqliteFile(path, read_only=True))

    _with_copy("outbox.db", wanted, work)


def check_settlements(wanted: list[Change]) -> None:
    """A damaged file of settlements is read, or says that it is damaged."""

    async def work(path: Path) -> None:
        store = SettlementStore(SqliteFile(path))
        try:
            await store.open()
        except SettlementStoreError:
            return
        try:
            reads: list[Callable[[], Awaitable[object]]] = [
                store.open_ones,
                lambda: store.latest(None, 10),
                lambda: store.remainder("bob", _USD),
                lambda: store.booked("bob", _USD),
                lambda: store.find(1 << 8),
            ]
            for read in reads:
                with contextlib.suppress(SettlementStoreError):
                    await read()
        finally:
            await store.close()

    _with_copy("settlements.db", wanted, work)


def check_payments(wanted: list[Change]) -> None:
    """A damaged file of payments is read, or says that it is damaged."""

    async def work(path: Path) -> None:
        store = PaymentStore(SqliteFile(path))
        try:
            for read in (store.cut_off, lambda: store.find("k0"), lambda: store.find("k1")):
                with contextlib.suppress(EnvironmentFault):
                    await read()
        finally:
            await store.close()

    _with_copy("payments.db", wanted, work)


def check_received(wanted: list[Change]) -> None:
    """A damaged file of payments that came in is read, or says that it is damaged."""

    async def work(path: Path) -> None:
        store = ReceivedStore(SqliteFile(path))
        try:
            await store.open()
        except EnvironmentFault:
            return
        try:
            reads: list[Callable[[], Awaitable[object]]] = [
                lambda: store.recent(wallet=None, hook=None, before=None, count=10),
                lambda: store.due(1 << 62),
                store.next_due_ms,
                store.counts,
            ]
            for read in reads:
                with contextlib.suppress(EnvironmentFault):
                    await read()
        finally:
            await store.close()

    _with_copy("received.db", wanted, work)


async def _restore(store: EventStore) -> None:
    """Minutes of traffic, as a node takes them back at its start and shows them."""
    now_ms = ManualClock().now_ms
    whole = Aggregates(read=lambda: Counters(0, 0, {}), now_ms=now_ms)
    whole.restore(await store.minutes(0))
    whole.sample()
    whole.view(604_800, 180)
    peers = PeerMinutes(
        read=lambda: [("bob", PeerRow())], now_ms=now_ms, known_s=whole.known_s,
        sink=store.take_minute,
    )  # fmt: skip
    peers.restore(await store.minutes_of_peers(0))
    peers.sample()
    peers.activity()
    window = peers.window(604_800, 180)
    peers.view("bob", window, await store.minutes_of_peer("bob", window))
    store.take_minute(ManualClock().now_ms() // 60_000 * 60, NODE, Row(fulfilled=1))
    await store.write()


def check_events(wanted: list[Change]) -> None:
    """A damaged event store is read as far as it can be, or replaced, or keeps nothing for a while."""

    async def work(path: Path) -> None:
        store = _events_in(path)
        await store.open()
        now_ms = ManualClock().now_ms()
        try:
            await store.events(EventQuery(from_ms=now_ms - 1000, to_ms=now_ms + 1000))
            await store.events(EventQuery(peer="bob", types=("PEER_CONNECTED",)))
            await _restore(store)
            await store.packet(f"{1 << 8:032x}")
            await store.last_asset("bob")
            await store.history("bob", _USD, now_ms - 5000, now_ms, 10)
        finally:
            await store.close()

    _with_copy("events.sqlite", wanted, work)


def check_marker(octets: bytes) -> None:
    """A number from an intact slot, else zero; it can be written again."""
    with tempfile.TemporaryDirectory(prefix="fuzz-", dir=memory_folder()) as folder:
        path = Path(folder, "marker")
        path.write_bytes(octets)
        assert FileMarker(path, read_only=True).open() >= 0
        marker = FileMarker(path)
        last = marker.open()
        if last < 2**64 - 1:
            marker.write(last + 1)
            marker.close()
            assert FileMarker(path, read_only=True).open() == last + 1
        marker.close()


@cache
def _marker() -> bytes:
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        marker = FileMarker(Path(folder, "marker"))
        marker.open()
        for seq in (7, 8):
            marker.write(seq)
        marker.close()
        return Path(folder, "marker").read_bytes()


TARGETS = (
    Target(
        "ledger-rows",
        st.tuples(st.lists(transfers, max_size=4), st.lists(accounts, max_size=3)),
        check_rows,
    ),
    Target(
        "journal-rows",
        changes("journal", "account", "checkpoint", "point", "derived", "kept"),
        check_journal,
    ),
    Target(
        "outbox-rows",
        changes("request", "book", "stop", "acknowledged", "highest", "claim", "kept"),
        check_outbox,
    ),
    Target("event-rows", changes("events", "balances", "minutes"), check_events),
    Target("marker-file", some.hostile(st.builds(_marker)), check_marker),
    Target("settlement-rows", changes("settlement", "remainder"), check_settlements),
    Target("payment-rows", changes("payments"), check_payments),
    Target("received-rows", changes("received", "stop"), check_received),
)
