"""Minutes of traffic on disk: added up, found again, bounded in octets, damage is a gap."""

from __future__ import annotations

import sqlite3

import pytest

from connector.telemetry import store_minutes
from connector.telemetry.aggregates import NODE, Row
from connector.telemetry.peer_minutes import PeerRow
from connector.telemetry.store_minutes import ROW_OCTETS, Minute, MinuteTable

BIG = 1 << 20


@pytest.fixture
def file() -> sqlite3.Connection:
    return sqlite3.connect(":memory:", isolation_level=None)


def counted(file: sqlite3.Connection) -> int:
    rows = file.execute("SELECT body FROM minutes").fetchall()
    return sum(len(text) + ROW_OCTETS for (text,) in rows)


def test_what_came_twice_of_a_minute_is_added(file: sqlite3.Connection) -> None:
    table = MinuteTable(BIG)
    table.prepare(file)
    table.write(file, [Minute(60, NODE, Row(fulfilled=3, seconds=20, codes={"F02": 1}))])
    table.write(
        file,
        [
            Minute(60, NODE, Row(fulfilled=4, seconds=15, codes={"F02": 1, "T04": 2})),
            Minute(60, "bob", PeerRow(fulfilled_in=1)),
            Minute(120, "bob", PeerRow(fulfilled_out=2)),
            Minute(120, "eve", PeerRow(rejected_in=9)),
        ],
    )
    assert store_minutes.of_node(file, 0) == [
        (60, Row(fulfilled=7, seconds=35, codes={"F02": 2, "T04": 2}))
    ]
    bob = store_minutes.of_peer(file, "bob", range(0, 120, 60))
    assert bob == {60: PeerRow(fulfilled_in=1)}
    assert store_minutes.of_peer(file, "bob", range(0, 600, 300)) == {
        0: PeerRow(fulfilled_in=1, fulfilled_out=2)
    }
    assert [one[:2] for one in store_minutes.of_peers(file, 0, 100)] == [
        (60, "bob"), (120, "bob"), (120, "eve"),
    ]  # fmt: skip
    assert [one[0] for one in store_minutes.of_peers(file, 0, 2)] == [120, 120], "the last"
    again = MinuteTable(BIG)
    again.prepare(file)
    assert table.octets == again.octets == counted(file)


def test_it_is_bounded_in_octets_and_rows_of_peers_go_first(file: sqlite3.Connection) -> None:
    table = MinuteTable(20_000)
    table.prepare(file)
    for minute in range(0, 60 * 400, 60):
        table.write(file, [Minute(minute, NODE, Row(fulfilled=1, seconds=60))])
        table.write(file, [Minute(minute, f"p{n}", PeerRow(fulfilled_in=1)) for n in range(5)])
        table.trim(file, oldest_s=0)
        assert table.octets <= 20_000
        assert table.octets == counted(file)
    node = store_minutes.of_node(file, 0)
    assert node, "what remains is that of the whole node"
    assert node[-1][0] == 60 * 399


def test_what_is_too_old_goes(file: sqlite3.Connection) -> None:
    table = MinuteTable(BIG)
    table.prepare(file)
    table.write(file, [Minute(at, "bob", PeerRow(fulfilled_in=1)) for at in range(0, 600, 60)])
    table.trim(file, oldest_s=300)
    assert sorted(store_minutes.of_peer(file, "bob", range(0, 9960, 60))) == [
        300,
        360,
        420,
        480,
        540,
    ]


@pytest.mark.parametrize(
    "body",
    ["", "[1", "null", "[]", '{"s":1}', "7", "[" * 90_000, "[Infinity,0,0,0,0,0,{}]"],
)
def test_a_damaged_row_is_a_gap_and_is_written_over(file: sqlite3.Connection, body: str) -> None:
    table = MinuteTable(BIG)
    table.prepare(file)
    for peer in (NODE, "bob"):
        file.execute("INSERT INTO minutes VALUES (60, ?, ?)", (peer, body))
    table.prepare(file)
    assert store_minutes.of_node(file, 0) == []
    assert store_minutes.of_peers(file, 0, 9) == []
    assert store_minutes.of_peer(file, "bob", range(0, 960, 60)) == {}
    table.write(file, [Minute(60, NODE, Row(fulfilled=1)), Minute(60, "bob", PeerRow(amount_in=1))])
    assert store_minutes.of_node(file, 0) == [(60, Row(fulfilled=1))]
    assert table.octets == counted(file)
