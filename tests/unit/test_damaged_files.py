"""Files that a disk, a restored backup or a hand has damaged give the error that names them.

Found by `scripts/fuzz`: before, these ended in a TypeError, a struct.error or a RecursionError.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Awaitable, Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from connector.accounting.outbox import SqliteOutbox
from connector.base.errors import (
    ConfigError,
    EnvironmentFault,
    LedgerCorruptError,
    SettlementStoreError,
)
from connector.base.sqlite import SqliteFile
from connector.ledger.embedded import EmbeddedLedger
from connector.ledger.model import Account, Transfer
from connector.node.payment_store import Connection, PaymentStatus, PaymentStore
from connector.node.received_store import ReceivedStore
from connector.peering import bounds
from connector.peering.model import Asset
from connector.peering.remembered import KnownPeers
from connector.settings.load import load
from connector.settings.overlay import Overlay
from connector.settlement.store import SettlementStore
from connector.stream.incoming import Incoming
from connector.stream.money import Terms
from tests.support.ledgers import ManualClock

DEEP = "[" * 100_000
USD = Asset("USD", 9)


def change(path: Path, statement: str) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute(statement)
        connection.commit()


@pytest.mark.parametrize(
    "content",
    [
        "nodeId: !!float ''",
        "nodeId: 2001-99-99",
        "nodeId: !!int x",
        "nodeId: " + "[" * 2000,
        "peers: [{id: alice, secret: s, 1: 2}]",
        "peers: [{id: alice, secret: s, null: 2}]",
    ],
)
def test_yaml_that_cannot_be_made_into_values_is_a_config_error(
    tmp_path: Path, content: str
) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text(content)
    with pytest.raises(ConfigError, match=r"settings\.yaml"):
        load({"CONFIG_FILE": str(path)})


def test_deeply_nested_changes_are_a_config_error(tmp_path: Path) -> None:
    path = tmp_path / "changes.json"
    path.write_text(DEEP)
    with pytest.raises(ConfigError, match="is not JSON"):
        Overlay.read(path)


@pytest.mark.parametrize(
    "content",
    [
        DEEP,
        (
            '{"salt": "", "peers": {"bob": {"assetCode": "USD", "assetScale": Infinity, '
            '"fingerprint": "", "sinceMs": 0}}}'
        ),
    ],
)
def test_known_peers_that_cannot_be_read_are_a_value_error(tmp_path: Path, content: str) -> None:
    path = tmp_path / "known_peers.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"not a file of this node|not JSON|nested too deeply"):
        KnownPeers.read(path, bytes)


KNOWN: dict[str, Any] = {
    "assetCode": "USD", "assetScale": 9, "fingerprint": "00112233", "sinceMs": 1,
}  # fmt: skip


def test_a_known_peer_is_read(tmp_path: Path) -> None:
    path = tmp_path / "known_peers.json"
    path.write_text(json.dumps({"salt": "00" * 16, "peers": {"bob": KNOWN}}))
    assert KnownPeers.read(path, bytes).peers["bob"].asset == Asset("USD", 9)


@pytest.mark.parametrize(
    ("peer_id", "change"),
    [
        ("a\ud800", {}),
        ("", {}),
        ("a" * 64, {}),
        ("bob", {"assetCode": "x\x1b[31m"}),
        ("bob", {"assetCode": 1}),
        ("bob", {"assetScale": 256}),
        ("bob", {"assetScale": -1}),
        ("bob", {"assetScale": True}),
        ("bob", {"assetScale": 1.0}),
        ("bob", {"fingerprint": "0011223\ud800"}),
        ("bob", {"sinceMs": -1}),
        ("bob", {"sinceMs": None}),
    ],
)
def test_a_known_peer_that_none_can_be_is_a_value_error(
    tmp_path: Path, peer_id: str, change: dict[str, Any]
) -> None:
    """Not found later, where an id or an asset is used."""
    path = tmp_path / "known_peers.json"
    path.write_text(json.dumps({"salt": "00" * 16, "peers": {peer_id: {**KNOWN, **change}}}))
    with pytest.raises(ValueError, match=r"not a file of this node|surrogates not allowed"):
        KnownPeers.read(path, bytes)


@pytest.mark.parametrize("salt", ["", "00", "00" * 17])
def test_a_salt_of_another_length_is_a_value_error(tmp_path: Path, salt: str) -> None:
    path = tmp_path / "known_peers.json"
    path.write_text(json.dumps({"salt": salt, "peers": {}}))
    with pytest.raises(ValueError, match="a salt of"):
        KnownPeers.read(path, bytes)


def test_a_file_that_is_too_long_is_a_value_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounds, "KNOWN_PEERS_FILE_BYTES_MAX", 10)
    path = tmp_path / "known_peers.json"
    path.write_text('{"salt": "00", "peers": {}}')
    with pytest.raises(ValueError, match="longer than 10 octets"):
        KnownPeers.read(path, bytes)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE checkpoint SET id_max = 5",
        "UPDATE checkpoint SET holds = 5",
        "UPDATE account SET debits_pending = NULL",
        "UPDATE account SET debits_pending = 'x'",
    ],
)
async def test_a_ledger_whose_columns_hold_another_type_is_damaged(
    tmp_path: Path, statement: str
) -> None:
    path = tmp_path / "ledger.db"
    ledger = EmbeddedLedger(path, clock=ManualClock())
    await ledger.open()
    await ledger.create_accounts([Account(n, ledger=1, code=1) for n in (1, 2)])
    await ledger.create_transfers([Transfer(2**127, 1, 2, 5, ledger=1, code=1)])
    await ledger.close()
    change(path, statement)
    with pytest.raises(LedgerCorruptError, match=r"ledger\.db is damaged"):
        await ledger.open()


async def test_a_journal_row_with_accounts_that_are_not_there_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    ledger = EmbeddedLedger(path, clock=ManualClock())
    await ledger.open()
    await ledger.create_accounts([Account(n, ledger=1, code=1) for n in (1, 2)])
    await ledger.create_transfers([Transfer(2**127, 1, 2, 5, ledger=1, code=1)])
    change(path, "UPDATE journal SET kind = 2, events = zeroblob(162) WHERE seq = 1")
    try:
        with pytest.raises(LedgerCorruptError, match=r"ledger\.db is damaged"):
            await ledger.replay_all()
    finally:
        await ledger.close()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE request SET transfers = 5",
        "UPDATE request SET count = 'x'",
        "UPDATE request SET transfers = substr(transfers, 1, 200)",
        "UPDATE request SET transfers = substr(transfers, 1, 128)",
    ],
)
async def test_an_outbox_with_a_damaged_request_is_not_replayed(
    tmp_path: Path, statement: str
) -> None:
    """Two transfers were promised: a request that holds another number is not sent."""
    outbox = SqliteOutbox(SqliteFile(tmp_path / "outbox.db"))
    await outbox.open()
    await outbox.add([Transfer(2**127 + n, 1, 2, 5) for n in (0, 1)])
    change(tmp_path / "outbox.db", statement)
    try:
        with pytest.raises(LedgerCorruptError, match=r"outbox\.db is damaged"):
            await outbox.load(0, 100)
    finally:
        await outbox.close()


@pytest.mark.parametrize(
    "values", ["'bob', 'USD', 9, 'x', 9", "'bob', 'USD', 9, '1', 'x'", "'bob', 'USD', 9, '1', -1"]
)
async def test_a_damaged_remainder_is_an_error_of_the_store(tmp_path: Path, values: str) -> None:
    store = SettlementStore(SqliteFile(tmp_path / "settlements.db"))
    await store.open()
    change(tmp_path / "settlements.db", f"INSERT INTO remainder VALUES ({values})")
    try:
        with pytest.raises(SettlementStoreError, match="the remainder of bob is damaged"):
            await store.remainder("bob", USD)
    finally:
        await store.close()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE received SET amount = 'x'",
        "UPDATE received SET amount = '-5'",
        "UPDATE received SET packets = 'x'",
        "UPDATE received SET began_ms = 'x'",
        "UPDATE received SET last_ms = -1",
        "UPDATE received SET next_ms = -1",
        "UPDATE received SET hook = 'x' WHERE ended = ''",
        "UPDATE received SET token = 'é'",
        "UPDATE received SET wallet = x'00'",
    ],
)
async def test_a_damaged_payment_that_came_in_is_an_error_of_the_store(
    tmp_path: Path, statement: str
) -> None:
    """Not of the node, which is paid as before."""
    one = Incoming("1" * 32, "p" * 32, "token", "alice", "USD", 9, 5, 1, 1000, 2000)
    store = ReceivedStore(SqliteFile(tmp_path / "received.db"))
    assert await store.open() == []
    ended = replace(one, id="2" * 32, token="other", ended="closed")
    await store.put([one, ended], tells=True, now_ms=3000)
    change(tmp_path / "received.db", statement)
    reads: list[Callable[[], Awaitable[object]]] = [
        lambda: store.recent(wallet=None, hook=None, before=None, count=10)
    ]
    if "WHERE" not in statement:
        reads.append(lambda: store.due(1 << 62))
    for read in reads:
        with pytest.raises(EnvironmentFault, match=r"received\.db: damaged"):
            await read()
    await store.close()
    with pytest.raises(EnvironmentFault, match=r"received\.db: damaged"):
        await ReceivedStore(SqliteFile(tmp_path / "received.db")).open()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE payments SET connection = '['",
        f"UPDATE payments SET connection = '{DEEP}'",
        "UPDATE payments SET connection = replace(connection, '9/10', '9/0')",
        "UPDATE payments SET connection = replace(connection, '1031', '99999999')",
        "UPDATE payments SET connection = replace(connection, '1031', '\"x\"')",
        "UPDATE payments SET connection = replace(connection, '00', '')",
        "UPDATE payments SET amount = 'x'",
        "UPDATE payments SET sent = '1001'",
        "UPDATE payments SET tag = '0'",
        "UPDATE payments SET state = 'x'",
        "UPDATE payments SET packets = -1",
        "UPDATE payments SET own_asset = 'USD'",
    ],
)
async def test_a_damaged_payment_is_an_error_of_the_store(tmp_path: Path, statement: str) -> None:
    store = PaymentStore(SqliteFile(tmp_path / "payments.db"))
    connection = Connection(
        "g.bob", bytes(32), Terms(Fraction(9, 10), Fraction(0)), last=7, high=1031, open=[3, 5]
    )
    one = PaymentStatus(
        "k", "$bob", 1000, Fraction(0), Asset("USD", 9), tag=1, connection=connection
    )
    await store.put(one)
    assert await store.find("k") == one
    assert await store.cut_off() == [one]
    change(tmp_path / "payments.db", statement)
    try:
        for read in (store.cut_off, lambda: store.find("k")):
            with pytest.raises(EnvironmentFault, match=r"payments\.db: damaged"):
                await read()
    finally:
        await store.close()
