"""Events of packets: complete up to a budget, counted beyond it, with the times of the steps."""

from __future__ import annotations

from typing import Any, cast

import pytest

from connector.accounting.entries import Reserve
from connector.accounting.promises import Reservation
from connector.ilp.packet import Prepare
from connector.ledger.model import PHASE_RESOLVE, Transfer
from connector.peering.model import Asset, Peer, PeerTerms
from connector.peering.routing import Route, RouteSource
from connector.switch.flight import Flight, ReplyTo, Trace
from connector.switch.loops import Loop
from connector.switch.observer import Budget, PacketObserver
from connector.switch.switch import PacketFlow, Result
from connector.telemetry.events import (
    Event,
    PacketForwarded,
    PacketFulfilled,
    PacketReceived,
    PacketRejected,
    RoutingLoop,
)
from tests.support.daemons import EventLog
from tests.support.ledgers import ManualClock

USD = Asset("USD", 9)
PACKET_ID = 0xAB00


class ObserverSetup:
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
            now_ms=self.clock.now_ms,
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
            cast(PacketFlow, None), self.alice, prepare, PACKET_ID, 0, cast(ReplyTo, None), 0
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


def one(setup: ObserverSetup, kind: type) -> Any:
    (found,) = [event for event in setup.events if type(event) is kind]
    return found


def test_a_fulfilled_packet_tells_its_steps_their_times_and_its_transfers() -> None:
    setup = ObserverSetup()
    flight = setup.begin()
    trace = setup.forward(flight)
    trace.answered_s = setup.pass_ms(5)
    held = flight.reservation
    assert held is not None
    held.transfers = [Transfer(leg.id | PHASE_RESOLVE) for leg in held.legs]
    trace.posted_s = setup.pass_ms(2)
    setup.pass_ms(1)
    setup.observer.ended(flight, fulfilled())
    assert [type(event) for event in setup.events] == [
        PacketReceived,
        PacketForwarded,
        PacketFulfilled,
    ]
    forwarded = one(setup, PacketForwarded)
    assert (forwarded.next_hop, forwarded.amount, forwarded.fee) == ("bob", 90, 10)
    end = one(setup, PacketFulfilled)
    assert (end.peer_id, end.next_hop, end.amount) == ("alice", "bob", 100)
    times = (end.reserved_ms, end.forwarded_ms, end.answered_ms, end.posted_ms, end.duration_ms)
    assert times == (1.0, 2.0, 7.0, 9.0, 10.0)
    assert end.reserve_ids == f"{PACKET_ID:032x} {PACKET_ID | 1:032x}"
    assert end.resolve_ids == " ".join(f"{leg.id | PHASE_RESOLVE:032x}" for leg in held.legs)


def test_a_packet_refused_at_once_reports_no_hold_and_no_send() -> None:
    setup = ObserverSetup()
    setup.observer.ended(setup.begin(), rejected())
    end = one(setup, PacketRejected)
    assert (end.code, end.message, end.triggered_by, end.next_hop) == (
        "F02",
        "no route",
        "g.me",
        None,
    )
    assert (end.reserved_ms, end.forwarded_ms, end.answered_ms) == (None, None, None)
    assert (end.reserve_ids, end.resolve_ids) == ("", "")


def test_a_reject_of_the_next_hop_reports_the_voiding_transfers() -> None:
    setup = ObserverSetup()
    flight = setup.begin()
    setup.forward(flight).answered_s = setup.pass_ms(1)
    setup.observer.ended(flight, rejected("bob"))
    end = one(setup, PacketRejected)
    assert end.next_hop == "bob"
    assert end.resolve_ids.split() == [
        f"{leg | PHASE_RESOLVE:032x}" for leg in (PACKET_ID, PACKET_ID | 1)
    ]


def test_a_refused_reservation_reports_no_transfers() -> None:
    setup = ObserverSetup()
    flight = setup.begin()
    assert flight.trace is not None
    flight.trace.asked = Reserve(setup.alice.terms, setup.bob.terms, 100, 0, 100, bytes(32), 1000)
    flight.reservation = Reservation(PACKET_ID, [Transfer(PACKET_ID)], [])
    setup.observer.ended(flight, rejected("bob"))
    assert one(setup, PacketRejected).reserve_ids == ""


def test_beyond_the_budget_packets_are_only_counted() -> None:
    setup = ObserverSetup(per_second=3)
    flights = [setup.begin() for _ in range(10)]
    for flight in flights:
        setup.observer.ended(flight, fulfilled())
    assert setup.observer.received == setup.observer.fulfilled == 10
    assert setup.observer.counted == 7
    packets = [type(event) for event in setup.events]
    assert packets.count(PacketReceived) == packets.count(PacketFulfilled) == 3


def test_a_packet_is_sampled_once() -> None:
    setup = ObserverSetup(per_second=1)
    whole, counted = setup.begin(), setup.begin()
    setup.pass_ms(5000)  # there is room again, but these two have begun
    setup.observer.ended(counted, fulfilled())
    setup.observer.ended(whole, fulfilled())
    assert [type(event) for event in setup.events] == [PacketReceived, PacketFulfilled]


def test_rejects_of_counted_packets_are_told_up_to_a_budget_of_their_own() -> None:
    setup = ObserverSetup(per_second=2)
    for _ in range(2):
        setup.begin()
    for _ in range(5):
        setup.observer.ended(setup.begin(), rejected())
    assert sum(type(event) is PacketRejected for event in setup.events) == 2
    assert setup.observer.rejected == 5


def test_a_budget_of_zero_reports_no_whole_packets() -> None:
    setup = ObserverSetup(per_second=0)
    setup.observer.ended(setup.begin(), rejected())
    setup.observer.unreadable(setup.alice, 1, "unreadable packet: amount")
    setup.pass_ms(10_000)
    setup.observer.ended(setup.begin(), fulfilled())
    assert setup.events == []
    assert (setup.observer.received, setup.observer.counted) == (3, 3)


def test_an_unreadable_packet_is_reported_as_a_reject() -> None:
    setup = ObserverSetup()
    setup.observer.unreadable(setup.alice, 0x100, "unreadable packet: amount")
    end = one(setup, PacketRejected)
    assert (end.peer_id, end.code, end.destination, end.triggered_by) == (
        "alice",
        "F01",
        "",
        "g.me",
    )


def test_rejects_are_logged_a_few_a_second() -> None:
    setup = ObserverSetup()
    for _ in range(100):
        setup.observer.ended(setup.begin(), rejected())
    assert setup.log.count("packet_rejected") == 5


def test_latencies_cover_the_time_since_the_last_read() -> None:
    setup = ObserverSetup(per_second=1000)
    assert setup.observer.take_latencies_ms() == (None, None)
    for ms in range(1, 101):
        flight = setup.begin()
        setup.pass_ms(ms)
        setup.observer.ended(flight, fulfilled())
    assert setup.observer.take_latencies_ms() == (50.0, 99.0)
    assert setup.observer.take_latencies_ms() == (None, None)


@pytest.mark.parametrize("per_second", [1, 5, 200])
def test_a_budget_gives_one_seconds_worth_at_once_and_then_its_rate(per_second: int) -> None:
    budget = Budget(per_second)
    assert sum(budget.take(100.0) for _ in range(3 * per_second)) == per_second
    taken = sum(budget.take(100.0 + tick / 1000) for tick in range(10_001))
    assert abs(taken - 10 * per_second) <= 1


def test_a_loop_of_routes_is_a_log_line_and_an_event() -> None:
    setup = ObserverSetup()
    loop = Loop("carol", Route(RouteSource.CONFIG, "bob", ""))
    loop.destination = "g.nowhere"
    setup.observer.tell_loops([(loop, 7)])
    fields = {"peer_id": "carol", "next_hop": "bob", "prefix": "", "destination": "g.nowhere"}
    assert setup.log.count("routing_loop", **fields, packets=7) == 1
    assert one(setup, RoutingLoop) == RoutingLoop(**fields, packets=7)
