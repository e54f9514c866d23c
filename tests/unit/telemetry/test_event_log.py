"""The log: what is kept and for how long, who cannot push out whom, exports, and events in words."""

from __future__ import annotations

import csv
import io
import json
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from connector.base.disk import SystemDisk
from connector.telemetry import bounds, events
from connector.telemetry.bus import EventBus
from connector.telemetry.event_log import (
    GROUPS,
    KEPT_TYPES,
    EventLog,
    csv_cells,
    csv_columns,
    csv_row,
    said_of,
    shown,
    types_of,
)
from connector.telemetry.events import AdminAction, Alert, Event, PeerConnected, PeerDisconnected
from connector.telemetry.store_file import CODES
from connector.telemetry.store_query import EventQuery
from tests.support.daemons import EventLog as Lines
from tests.support.ledgers import ManualClock

SETTLEMENT: dict[str, Any] = {
    "peer_id": "bob", "asset_code": "USD", "asset_scale": 2, "amount": 5, "net_balance": -5,
    "threshold": 4, "settlement_id": "s1",
}  # fmt: skip


def action(number: int = 0, **fields: Any) -> AdminAction:
    given = {"action": "peer.limits", "target": "bob", "key_fingerprint": "ab", "peer_id": "bob"}
    return AdminAction(**{**given, "detail": f"n{number}", **fields})


class Setup:
    def __init__(
        self, folder: Path, clock: ManualClock, *, bytes_max: int = 1 << 26, days: int = 400
    ) -> None:
        self.clock = clock
        self.bus = EventBus(node_id="me", clock=clock)
        self.log = EventLog(
            folder=folder,
            disk=SystemDisk(),
            node_id="me",
            clock=clock,
            log=Lines(),
            bytes_max=bytes_max,
            retention_days=days,
        )
        self.bus.hand_to(self.log.take)

    async def tell(self, *told: Event) -> None:
        for one in told:
            self.bus.emit(one)
        self.bus.flush()
        await self.log.store.write()

    async def found(self, **query: Any) -> list[dict[str, Any]]:
        page = await self.log.page(EventQuery(**{"types": KEPT_TYPES, **query}))
        return [json.loads(text) for text in page.items]

    async def exported(self, **query: Any) -> list[dict[str, Any]]:
        pages = self.log.export(EventQuery(**{"types": KEPT_TYPES, **query}), self.bus.seq)
        return [json.loads(text) async for page in pages for text in page]


@pytest.fixture
async def one(tmp_path: Path) -> AsyncIterator[Setup]:
    setup = Setup(tmp_path, ManualClock())
    await setup.log.store.open()
    yield setup
    await setup.log.store.close()


async def test_it_keeps_what_its_groups_name_and_nothing_else(one: Setup) -> None:
    await one.tell(
        action(),
        PeerConnected(peer_id="bob", direction="inbound"),
        events.SettlementStarted(**SETTLEMENT),
        Alert(name="w", level="warning", peer_id="", detail=""),
        events.RouteAdded(prefix="g.b", next_hop="bob", source="config"),
        events.PacketReceived(
            packet_id=1, peer_id="bob", destination="g.b", amount=1, expires_at=0,
            execution_condition=bytes(32),
        ),
        events.NodeStarted(version="1", ilp_address="g.me", backend="embedded"),
    )  # fmt: skip
    assert [event["type"] for event in await one.found()] == [
        "NODE_STARTED", "ALERT", "SETTLEMENT_STARTED", "PEER_CONNECTED", "ADMIN_ACTION",
    ]  # fmt: skip
    assert len(await one.found(peer="bob")) == 3
    assert [event["type"] for event in await one.found(types=types_of(["books", "node"]))] == [
        "NODE_STARTED"
    ]


async def test_what_was_kept_is_there_after_a_restart(tmp_path: Path) -> None:
    clock = ManualClock()
    first = Setup(tmp_path, clock)
    await first.log.store.open()
    await first.tell(action(1))
    await first.log.store.close()
    second = Setup(tmp_path, clock)
    await second.log.store.open()
    second.bus.number_from(second.log.store.last_seq)
    await second.tell(action(2))
    assert [event["detail"] for event in await second.found()] == ["n2", "n1"]
    await second.log.store.close()
    with sqlite3.connect(tmp_path / "log.sqlite") as file:
        assert file.execute("SELECT count(*) FROM events").fetchone() == (2,)
    assert (tmp_path / "log.sqlite").stat().st_mode & 0o777 == 0o600


async def test_a_power_cut_loses_nothing_that_was_written(one: Setup) -> None:
    assert one.log.store._writer is not None
    (found,) = await one.log.store._writer.run(
        lambda file: file.execute("PRAGMA synchronous").fetchone()
    )
    assert found == 2, "FULL"


async def test_it_is_bounded_in_octets_and_links_and_alerts_go_first(tmp_path: Path) -> None:
    limit = bounds.EVENT_STORE_BYTES_MIN
    one = Setup(tmp_path, ManualClock(), bytes_max=limit)
    await one.log.store.open()
    await one.tell(*(action(number) for number in range(200)))
    for _ in range(12):
        await one.tell(
            *(Alert(name="w", level="warning", peer_id="", detail="x" * 400) for _ in range(500))
        )
    for _ in range(10):
        await one.tell()  # what is too much goes in slices
    assert one.log.store.octets <= limit
    assert len(await one.found(types=["ADMIN_ACTION"], count=1000)) == 200
    assert 0 < len(await one.found(types=["ALERT"], count=1000)) < 6000
    await one.log.store.close()


async def test_an_old_event_goes(tmp_path: Path) -> None:
    one = Setup(tmp_path, ManualClock(), days=2)
    await one.log.store.open()
    await one.tell(action(1))
    one.clock.advance(86_400)
    await one.tell(action(2))
    one.clock.advance(86_401)
    await one.tell(action(3))
    await one.tell()
    assert [event["detail"] for event in await one.found()] == ["n3", "n2"]
    await one.log.store.close()


async def test_of_a_link_that_flaps_so_much_is_kept_and_of_others_all(one: Setup) -> None:
    for _ in range(100):
        await one.tell(PeerConnected(peer_id="flaps", direction="inbound"))
    await one.tell(PeerDisconnected(peer_id="bob", direction="inbound", reason="closed"))
    assert len(await one.found(peer="flaps", count=1000)) == bounds.LOG_LINKS_AT_ONCE_MAX
    assert len(await one.found(peer="bob")) == 1
    assert one.log.passed_over == 100 - bounds.LOG_LINKS_AT_ONCE_MAX
    one.clock.advance(3600)
    for _ in range(100):
        await one.tell(PeerConnected(peer_id="flaps", direction="inbound"))
    kept = len(await one.found(peer="flaps", count=1000)) - bounds.LOG_LINKS_AT_ONCE_MAX
    assert kept == bounds.LOG_LINKS_PER_HOUR_MAX


async def test_the_peers_that_it_remembers_are_bounded(
    one: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounds, "LOG_PEERS_REMEMBERED_MAX", 3)
    await one.tell(*(PeerConnected(peer_id=f"p{n}", direction="inbound") for n in range(9)))
    assert len(one.log._pace) == 3


async def test_with_no_octets_nothing_is_kept(tmp_path: Path) -> None:
    one = Setup(tmp_path, ManualClock(), bytes_max=0)
    await one.log.store.open()
    await one.tell(action())
    assert one.log.store.fault == "EVENT_LOG_MAX_BYTES=0"
    assert await one.found() == []
    assert not (tmp_path / "log.sqlite").exists()


async def test_a_text_is_found_anywhere(one: Setup) -> None:
    await one.tell(action(1), action(2, detail="creditLimit: 5 USD -> 7 USD"), action(3))
    assert [event["detail"] for event in await one.found(text="5 usd")] == [
        "creditLimit: 5 USD -> 7 USD"
    ]
    assert await one.found(text="100%") == []


async def test_an_export_has_all_that_fits_oldest_first_and_ends(
    one: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("connector.base.limits.HTTP_PAGE_ITEMS_MAX", 10)
    await one.tell(*(action(number) for number in range(35)))
    last = one.bus.seq
    pages = one.log.export(EventQuery(types=KEPT_TYPES), last)
    seen: list[str] = []
    async for page in pages:
        seen += [json.loads(text)["detail"] for text in page]
        await one.tell(action(99))  # comes meanwhile
    assert seen == [f"n{number}" for number in range(35)]
    some = await one.exported(text="N1", peer="bob")
    assert [event["detail"] for event in some] == ["n1", *(f"n{n}" for n in range(10, 20))]
    assert await one.exported(peer="nobody") == []


def test_every_type_is_in_one_group_and_has_a_number() -> None:
    assert len(KEPT_TYPES) == sum(map(len, GROUPS.values()))
    assert set(KEPT_TYPES) <= set(CODES)
    assert types_of([]) is None
    assert types_of(["Link", "alert", "peer_connected"]) == [
        "PEER_CONNECTED", "PEER_DISCONNECTED", "ALERT", "ROUTING_LOOP", "NEXT_HOP_SHORT",
    ]  # fmt: skip
    with pytest.raises(KeyError):
        types_of(["link", "nonsense"])


@pytest.mark.parametrize(
    ("event", "said"),
    [
        (action(detail="creditLimit: 5 USD -> 7 USD", address="10.0.0.1"),
         "peer.limits bob (creditLimit: 5 USD -> 7 USD), by key 10.0.0.1"),
        (action(detail="", outcome="no such peer", via="page"),
         "peer.limits bob: no such peer, by page"),
        (action(detail="", action="settlement.pay", outcome="ok: outgoing 5"),
         "settlement.pay bob outgoing 5, by key"),
        (PeerConnected(peer_id="bob", direction="inbound"), "bob is connected, inbound"),
        (PeerDisconnected(peer_id="bob", direction="inbound", reason="gone"),
         "bob is disconnected: gone"),
        (events.SettlementStarted(**SETTLEMENT), "outgoing settlement with bob started: 5 USD/2"),
        (events.SettlementFailed(**SETTLEMENT, error="no"),
         "outgoing settlement with bob failed: 5 USD/2: no"),
        (Alert(name="w", level="warning", peer_id="bob", detail="{}", suppressed=3),
         "w (bob), 3 more before: {}"),
        (Alert(name="w", level="warning", peer_id="", detail=""), "w"),
        (events.RoutingLoop(peer_id="a", next_hop="b", prefix="g", destination="g.x", packets=2),
         "packets to b come back from a: 2 refused"),
        (events.NextHopShort(peer_id="b", triggered_by="g.b", message="m", packets=2),
         "b answers T04: 2 packets"),
        (events.BooksChecked(ok=True, checks=9, failed="", detail="", pending=0),
         "the books are right: 9 rules hold"),
        (events.BooksChecked(ok=False, checks=9, failed="sums", detail="1 off", pending=0),
         "the books are wrong: sums: 1 off"),
        (events.AccountingState(state="spooling", backend="tigerbeetle", error="away"),
         "accounting is spooling: away"),
        (events.AccountingState(state="available", backend="embedded"), "accounting is available"),
        (events.NodeStarted(version="1", ilp_address="g.a", backend="x"),
         "version 1 started as g.a"),
        (events.NodeStopped(uptime_seconds=7), "stopped after 7 s"),
    ],
)  # fmt: skip
def test_an_event_in_words(event: Event, said: str) -> None:
    text = events.encode(event, node_id="n", seq=1, at_ms=0)
    assert said_of(json.loads(text)) == said


def test_an_event_of_another_version_has_words_too() -> None:
    assert said_of({"type": "SOMETHING_NEW"}) == "something new"


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "1", "{}", '{"type": "X", "seq": 1, "timestamp": ""}', '{"type": []}',
     '{"type": "ALERT"}', '{"type": "ALERT", "seq": "1", "timestamp": ""}', "[" * 100_000],
)  # fmt: skip
def test_what_is_no_event_is_left_out(text: str) -> None:
    try:
        assert shown(text) is None
    except TypeError:
        pytest.fail("a damaged row")


def test_an_event_that_lacks_a_field_is_told_by_its_type() -> None:
    found = shown('{"type": "ALERT", "seq": 1, "timestamp": "2026"}')
    assert found is not None
    assert (found["group"], found["said"]) == ("alert", "alert")


def test_every_type_that_is_kept_has_words_of_its_own() -> None:
    from connector.telemetry import event_log

    assert set(event_log._WORDS) == set(KEPT_TYPES)


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@x", "\tx", "\rx"])
def test_no_cell_is_a_formula(text: str) -> None:
    (row,) = csv.reader(io.StringIO(csv_row(["a", text]), newline=""))
    assert row == ["a", f"'{text}"]


def test_a_row_has_the_columns_and_the_rest_as_json() -> None:
    event = json.loads(events.encode(action(), node_id="n", seq=7, at_ms=0))
    cells = csv_cells({**event, "group": "operator", "said": 'he said "so", and left'})
    (row,) = csv.reader(io.StringIO(csv_row(cells), newline=""))
    named = dict(zip(csv_columns(), row, strict=True))
    assert named["said"] == 'he said "so", and left'
    assert (named["seq"], named["peerId"], named["type"]) == ("7", "bob", "ADMIN_ACTION")
    assert json.loads(named["event"])["action"] == "peer.limits"
