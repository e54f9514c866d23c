"""What is told about packets: whole up to a budget, counted beyond it, with the times of the steps."""

from __future__ import annotations

from typing import Any, cast

import pytest

from connector.accounting.entries import Reserve
from connector.accounting.promises import Reservation
from connector.ilp.packet import Prepare
from connector.ledger.model import PHASE_RESOLVE, Transfer
from connector.peering.model import Asset, Peer, PeerTerms
from connector.switch.flight import Flight, ReplyTo, Trace
from connector.switch.observer import Budget, PacketObserver
from connector.switch.switch import Result, Story
from connector.telemetry.events import (
    Event,
    PacketForwarded,
    PacketFulfilled,
    PacketReceived,
    PacketRejected,
)
from tests.support.daemons import EventLog
from tests.support.ledgers import ManualClock

USD = Asset("USD", 9)
PACKET_ID = 0xAB00


class Desk:
    """An observer whose clock, log and events the test holds."""

    def __init__(self, per_second: int = 200) -> None:
        self.clock = ManualClock()
        self.log = EventLog()
        self.events: list[Event] = []
        self.alice = Peer(PeerTerms(peer_id="alice", asset=USD))
        self.bob = Peer(PeerTerms(peer_id="bob", asset=USD))
        self.observer = PacketObserver(
            emit=self.events.append,
            log=self.log,
            monotonic_s=self.clock.monotonic_s,
            packets_per_second=per_second,
            own_address=lambda: "g.me",
        )

    def begin(self, amount: int = 100) -> Flight:
        prepare = Prepare(
            amount=amount,
            expires_at_ms=5000,
            condition=bytes(32),
            destination="g.bob.x",
        )
        flight = Flight(
            cast(Story, None), self.alice, prepare, PACKET_ID, 0, cast(ReplyTo, None), 0
        )
        flight.began_s = self.clock.monotonic_s()
        flight.trace = self.observer.began(flight)
        return flight

    def pass_ms(self, ms: int) -> float:
        self.clock.advance(ms / 1000)
        return self.clock.monotonic_s()

    def forward(self, flight: Flight) -> Trace:
        """Held after 1 ms, sent on after 2, fee 10."""
        trace = flight.trace
        assert trace is not None
        trace.asked = Reserve(self.alice.terms, self.bob.terms, 100, 10, 90, bytes(32), 1000)
        legs = [Transfer(PACKET_ID, amount=90), Transfer(PACKET_ID | 1, amount=10)]
        flight.reservation = Reservation(PACKET_ID, legs, [])
        trace.reserved_s = self.pass_ms(1)
        flight.next_hop = self.bob
        trace.forwarded_s = self.pass_ms(1)
        self.observer.forwarded(flight, trace)
        return trace


def fulfilled() -> Result:
    return Result(b"", code=None, next_hop="bob", amount_out=90, fee=10)


def rejected(next_hop: str | None = None) -> Result:
    return Result(b"", code="F02", next_hop=next_hop, message="no route", triggered_by="g.me")


def one(desk: Desk, kind: type) -> Any:
    (found,) = [event for event in desk.events if type(event) is kind]
    return found


def test_a_fulfilled_packet_tells_its_steps_their_times_and_its_transfers() -> None:
    desk = Desk()
    flight = desk.begin()
    trace = desk.forward(flight)
    trace.answered_s = desk.pass_ms(5)
    held = flight.reservation
    assert held is not None
    held.transfers = [Transfer(leg.id | PHASE_RESOLVE) for leg in held.legs]
    trace.posted_s = desk.pass_ms(2)
    desk.pass_ms(1)
    desk.observer.ended(flight, fulfilled())
    assert [type(event) for event in desk.events] == [
        PacketReceived,
        PacketForwarded,
        PacketFulfilled,
    ]
    forwarded = one(desk, PacketForwarded)
    assert (forwarded.next_hop, forwarded.amount, forwarded.fee) == ("bob", 90, 10)
    end = one(desk, PacketFulfilled)
    assert (end.peer_id, end.next_hop, end.amount) == ("alice", "bob", 100)
    times = (end.reserved_ms, end.forwarded_ms, end.answered_ms, end.posted_ms, end.duration_ms)
    assert times == (1.0, 2.0, 7.0, 9.0, 10.0)
    assert end.reserve_ids == f"{PACKET_ID:032x} {PACKET_ID | 1:032x}"
    assert end.resolve_ids == " ".join(f"{leg.id | PHASE_RESOLVE:032x}" for leg in held.legs)


def test_a_packet_refused_at_once_was_never_held_nor_sent() -> None:
    desk = Desk()
    desk.observer.ended(desk.begin(), rejected())
    end = one(desk, PacketRejected)
    assert (end.code, end.message, end.triggered_by, end.next_hop) == (
        "F02",
        "no route",
        "g.me",
        None,
    )
    assert (end.reserved_ms, end.forwarded_ms, end.answered_ms) == (None, None, None)
    assert (end.reserve_ids, end.resolve_ids) == ("", "")


def test_a_reject_from_further_on_tells_what_gave_the_money_back() -> None:
    desk = Desk()
    flight = desk.begin()
    desk.forward(flight).answered_s = desk.pass_ms(1)
    desk.observer.ended(flight, rejected("bob"))
    end = one(desk, PacketRejected)
    assert end.next_hop == "bob"
    assert end.resolve_ids.split() == [
        f"{leg | PHASE_RESOLVE:032x}" for leg in (PACKET_ID, PACKET_ID | 1)
    ]


def test_what_the_ledger_refused_to_hold_has_no_transfers() -> None:
    desk = Desk()
    flight = desk.begin()
    assert flight.trace is not None
    flight.trace.asked = Reserve(desk.alice.terms, desk.bob.terms, 100, 0, 100, bytes(32), 1000)
    flight.reservation = Reservation(PACKET_ID, [Transfer(PACKET_ID)], [])
    desk.observer.ended(flight, rejected("bob"))
    assert one(desk, PacketRejected).reserve_ids == ""


def test_beyond_the_budget_packets_are_only_counted() -> None:
    desk = Desk(per_second=3)
    flights = [desk.begin() for _ in range(10)]
    for flight in flights:
        desk.observer.ended(flight, fulfilled())
    assert desk.observer.received == desk.observer.fulfilled == 10
    assert desk.observer.counted == 7
    packets = [type(event) for event in desk.events]
    assert packets.count(PacketReceived) == packets.count(PacketFulfilled) == 3


def test_the_choice_is_made_once_for_a_packet() -> None:
    desk = Desk(per_second=1)
    whole, counted = desk.begin(), desk.begin()
    desk.pass_ms(5000)  # there is room again, but these two have begun
    desk.observer.ended(counted, fulfilled())
    desk.observer.ended(whole, fulfilled())
    assert [type(event) for event in desk.events] == [PacketReceived, PacketFulfilled]


def test_rejects_of_counted_packets_are_told_up_to_a_budget_of_their_own() -> None:
    desk = Desk(per_second=2)
    for _ in range(2):
        desk.begin()
    for _ in range(5):
        desk.observer.ended(desk.begin(), rejected())
    assert sum(type(event) is PacketRejected for event in desk.events) == 2
    assert desk.observer.rejected == 5


def test_zero_switches_whole_packets_off() -> None:
    desk = Desk(per_second=0)
    desk.observer.ended(desk.begin(), rejected())
    desk.observer.unreadable(desk.alice, 1, "unreadable packet: amount")
    desk.pass_ms(10_000)
    desk.observer.ended(desk.begin(), fulfilled())
    assert desk.events == []
    assert (desk.observer.received, desk.observer.counted) == (3, 3)


def test_what_is_no_packet_is_told_as_a_reject() -> None:
    desk = Desk()
    desk.observer.unreadable(desk.alice, 0x100, "unreadable packet: amount")
    end = one(desk, PacketRejected)
    assert (end.peer_id, end.code, end.destination, end.triggered_by) == (
        "alice",
        "F01",
        "",
        "g.me",
    )


def test_rejects_are_logged_a_few_a_second() -> None:
    desk = Desk()
    for _ in range(100):
        desk.observer.ended(desk.begin(), rejected())
    assert desk.log.count("packet_rejected") == 5


def test_latencies_are_those_since_the_last_time() -> None:
    desk = Desk(per_second=1000)
    assert desk.observer.take_latencies_ms() == (None, None)
    for ms in range(1, 101):
        flight = desk.begin()
        desk.pass_ms(ms)
        desk.observer.ended(flight, fulfilled())
    assert desk.observer.take_latencies_ms() == (50.0, 99.0)
    assert desk.observer.take_latencies_ms() == (None, None)


@pytest.mark.parametrize("per_second", [1, 5, 200])
def test_a_budget_gives_one_seconds_worth_at_once_and_then_its_rate(per_second: int) -> None:
    budget = Budget(per_second)
    assert sum(budget.take(100.0) for _ in range(3 * per_second)) == per_second
    taken = sum(budget.take(100.0 + tick / 1000) for tick in range(10_001))
    assert abs(taken - 10 * per_second) <= 1
