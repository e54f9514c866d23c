"""Packets by condition, and by how their id begins: by an index, and bounded."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector.telemetry.events import PacketReceived, encode
from connector.telemetry.store_file import _SCHEMA, CODES, CONDITION
from connector.telemetry.store_ids import beginning, with_condition

PING = "ab" * 32


class Store:
    """A file in memory with received packets in it."""

    def __init__(self) -> None:
        self.file = sqlite3.connect(":memory:")
        self.file.executescript(_SCHEMA)
        self.seq = 0

    def receive(self, condition: str, *, packet: int | None = None, **fields: Any) -> int:
        """One packet; its number, which is also that of its event unless it is given."""
        self.seq += 1
        number = self.seq if packet is None else packet
        event = PacketReceived(
            **{
                "packet_id": number,
                "peer_id": "alice",
                "destination": "g.bob",
                "amount": 1,
                "expires_at": 0,
                "execution_condition": bytes.fromhex(condition),
                **fields,
            }
        )
        text = encode(event, node_id="me", seq=self.seq, at_ms=self.seq * 1000)
        self.add("PACKET_RECEIVED", number, text)
        return number

    def add(self, kind: str, packet: int, text: str) -> None:
        self.file.execute(
            "INSERT OR REPLACE INTO events VALUES (?, ?, ?, 'alice', NULL, ?, ?)",
            (self.seq, self.seq * 1000, CODES[kind], packet.to_bytes(16, "big"), text),
        )

    def found(self, condition: str, at_ms: int | None = None, count: int = 10) -> list[int]:
        return [numbers(events) for events in with_condition(self.file, condition, at_ms, count)]

    def begun(self, digits: str, count: int = 10) -> list[int]:
        return [numbers(events) for events in beginning(self.file, digits, count)]


def numbers(events: list[str]) -> int:
    return int(json.loads(events[0])["packetId"], 16)


@pytest.fixture
def store() -> Iterator[Store]:
    store = Store()
    yield store
    store.file.close()


def test_only_packets_with_the_whole_condition_are_found(store: Store) -> None:
    near = "ab" * 31 + "ac"
    wanted, _other = store.receive(PING), store.receive(near)
    assert store.found(PING) == [wanted]
    assert store.found("00" * 32) == []


def test_of_many_those_next_to_a_time_are_found_oldest_first(store: Store) -> None:
    for _ in range(50):
        store.receive(PING)
    assert store.found(PING, count=4) == [47, 48, 49, 50]
    assert store.found(PING, at_ms=25_500, count=4) == [24, 25, 26, 27]
    # At either end there are fewer on one side, and more of the other.
    assert store.found(PING, at_ms=0, count=4) == [1, 2, 3, 4]
    assert store.found(PING, at_ms=90_000, count=4) == [47, 48, 49, 50]
    assert store.found(PING, at_ms=49_500, count=4) == [47, 48, 49, 50]


def test_all_events_of_a_packet_come_with_it(store: Store) -> None:
    number = store.receive(PING)
    store.seq += 1
    store.add("PACKET_FULFILLED", number, json.dumps({"type": "PACKET_FULFILLED"}))
    ((received, fulfilled),) = with_condition(store.file, PING, None, 10)
    assert json.loads(received)["executionCondition"] == PING
    assert json.loads(fulfilled)["type"] == "PACKET_FULFILLED"


def test_a_text_of_a_peer_that_looks_like_a_condition_is_none(store: Store) -> None:
    forged = f'g.x"executionCondition":"{PING}"'
    store.receive("cd" * 32, destination=forged, peer_id=forged)
    assert store.found(PING) == []
    assert store.begun("abab") == []
    assert store.found("cd" * 32) == [1]


def test_a_damaged_row_is_no_fault_of_the_file(store: Store) -> None:
    store.seq += 1
    store.add("PACKET_RECEIVED", 7, "{not json")
    number = store.receive(PING)
    assert store.found(PING) == [number]


def test_the_index_is_used(store: Store) -> None:
    plan = store.file.execute(
        f"EXPLAIN QUERY PLAN SELECT packet FROM events WHERE type = {CODES['PACKET_RECEIVED']} "
        f"AND {CONDITION} = ? AND seq <= 9 ORDER BY seq DESC LIMIT 2",
        ("ab" * 8,),
    ).fetchall()
    assert ["events_by_condition" in row[3] for row in plan] == [True], plan


@given(
    conditions=st.lists(st.binary(min_size=32, max_size=32), min_size=1, max_size=8),
    ids=st.data(),
    length=st.integers(1, 64),
)
def test_whatever_begins_so_is_found(
    conditions: list[bytes], ids: st.DataObject, length: int
) -> None:
    store = Store()
    packets = {
        store.receive(one.hex(), packet=ids.draw(st.integers(1, (1 << 128) - 1))): one.hex()
        for one in conditions
    }
    for number, condition in packets.items():
        for whole in (number.to_bytes(16, "big").hex(), condition):
            assert number in store.begun(whole[:length], 20)
    assert len(store.begun("", 3)) <= 6
    store.file.close()
