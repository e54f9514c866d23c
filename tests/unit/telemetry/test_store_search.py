"""Search in stored packets: what fits is found however far back, in bounded steps."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from typing import Any

import pytest

from connector.telemetry import bounds
from connector.telemetry.store_file import _SCHEMA, CODES
from connector.telemetry.store_query import EventQuery, find_text

ENDS = ["PACKET_FULFILLED", "PACKET_REJECTED"]


class Store:
    """A file in memory with packets in it."""

    def __init__(self) -> None:
        self.file = sqlite3.connect(":memory:")
        self.file.executescript(_SCHEMA)
        self.seq = 0

    def add(self, **fields: Any) -> int:
        """A packet that has ended, in the next event; returns its number."""
        self.seq += 1
        kind = "PACKET_REJECTED" if "code" in fields else "PACKET_FULFILLED"
        body = {
            "type": kind, "peerId": "alice", "nextHop": "bob", "destination": "g.bob.shop",
            "amount": "100", "timestamp": "x", **fields,
        }  # fmt: skip
        packet = bytes.fromhex(fields.get("packetId", f"{self.seq:032x}"))
        self.file.execute(
            "INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?)",
            (self.seq, self.seq * 1000, CODES[kind], body["peerId"], body["nextHop"], packet,
             json.dumps(body)),
        )  # fmt: skip
        return self.seq

    def found(self, **query: Any) -> tuple[list[int], int | None]:
        rows, before = find_text(self.file, EventQuery(types=ENDS, **query))
        return [seq for seq, _ in rows], before


@pytest.fixture
def store() -> Iterator[Store]:
    store = Store()
    yield store
    store.file.close()


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ("far", True), ("G.FAR", True), ("carol", True), ("dave", True), ("f02", True),
        ("no route", True), ("4711", True), ("abc", True), ("ABC", True), ("g.hub", True),
        ("471", False), ("bcd", False), ("timestamp", False), ("%", False), ("_", False),
        ("!", False), ("' OR 1=1 --", False), ("nobody", False),
    ],
)  # fmt: skip
def test_each_part_that_is_shown_is_searched_and_nothing_else(
    store: Store, text: str, *, fits: bool
) -> None:
    store.add()
    wanted = store.add(
        destination="g.far.Away", peerId="carol", nextHop="dave", code="F02", amount="4711",
        message="No route found", triggeredBy="g.hub", packetId="abcd" + "0" * 28,
    )  # fmt: skip
    store.add()
    assert store.found(text=text) == ([wanted] if fits else [], None)


def test_codes_by_their_beginning_and_together_with_a_peer(store: Store) -> None:
    one = store.add(code="F02")
    two = store.add(code="F08", peerId="carol")
    three = store.add(code="T04")
    store.add()
    assert store.found(code="F") == ([two, one], None)
    assert store.found(code="T04") == ([three], None)
    assert store.found(code="f", peer="carol") == ([two], None)
    assert store.found(code="%") == ([], None)


def test_what_is_far_back_is_found_in_bounded_steps(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounds, "SEARCH_EVENTS_MAX", 10)
    wanted = store.add(destination="g.far")
    for _ in range(34):
        store.add()
    steps: list[list[int]] = []
    before: int | None = None
    while True:
        rows, before = store.found(text="g.far", before=before)
        steps.append(rows)
        if before is None:
            break
    assert steps == [[], [], [], [wanted]]


def test_pages_go_on_where_the_last_one_ended(store: Store) -> None:
    numbers = [store.add(destination="g.far") for _ in range(5)]
    rows, before = store.found(text="far", count=2)
    assert (rows, before) == (numbers[:2:-1], numbers[3])
    assert store.found(text="far", count=9, before=before) == (numbers[2::-1], None)
    assert store.found(text="far", from_ms=2000, to_ms=3000)[0] == [3, 2]


def test_an_empty_store_has_nothing_and_says_so(store: Store) -> None:
    assert store.found(text="x") == ([], None)
