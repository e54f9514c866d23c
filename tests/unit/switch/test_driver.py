"""The driver: each packet has one flow, and every flow comes to its end."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import Any, cast

import pytest

from connector.accounting.entries import Reserve, condition_tag
from connector.accounting.manager import AccountManager
from connector.accounting.mirror import Book, PeerBooks
from connector.accounting.promises import Outcome, Promise, Reservation
from connector.accounting.resent import Recovered
from connector.base import limits
from connector.ilp import ildcp
from connector.ilp.packet import Code, Fulfill, Prepare, Reject, decode, encode
from connector.ledger.model import AccountCode, Transfer
from connector.peering.model import LOCAL, Asset, Peer, PeerRegistry, PeerTerms, Unanswered
from connector.peering.routing import Route, RouteSource, RoutingTable
from connector.switch import bounds as switch_bounds
from connector.switch.driver import Driver
from connector.switch.flight import Flight, Trace
from connector.switch.inbox import Inboxes
from connector.switch.receiver import PING_CONDITION, PING_FULFILLMENT
from connector.switch.rules import Node
from connector.switch.switch import Deliver, Result, Switch
from connector.switch.terms import Rates
from tests.support.ledgers import ManualClock

pytestmark = pytest.mark.interpreted
USD = Asset("USD", 9)
OWN = "g.us"
PREIMAGE = b"p" * 32
TAG = condition_tag(hashlib.sha256(PREIMAGE).digest())
EARLIER_ID = 0x80
"""A packet id that an earlier process gave: those of the stand-in begin at 0x100."""
FULFILL = encode(Fulfill(fulfillment=PREIMAGE))
REJECT = encode(Reject(code="F99", triggered_by="g.bob", message="no"))


_CODES = (AccountCode.PEER, AccountCode.CREDIT_LINE, AccountCode.SETTLEMENT)


class FakeAccounts:
    """Stands in for `AccountManager`: records every call, decides nothing."""

    def __init__(self) -> None:
        self.refuses: Outcome | None = None
        self.reserved: list[tuple[Flight, int, int, Reserve]] = []
        self.posted: list[tuple[Flight, Reservation]] = []
        self.kept: list[tuple[int, bytes]] = []
        self.can_keep = True
        self.voided: list[Reservation] = []
        self.recovered: dict[tuple[str, int], Recovered] = {}
        self.may_know_former = False
        self.peers: dict[str, PeerBooks] = {
            terms.peer_id: PeerBooks(
                terms, *(Book("us", code, terms.peer_id, USD) for code in _CODES)
            )
            for terms in (PeerTerms(peer_id=peer_id, asset=USD) for peer_id in ("alice", "bob"))
        }
        self.books: list[tuple[Book, Book]] = []
        self._last_id = 0

    def new_packet_id(self, now_ms: int = 0) -> int:
        self._last_id += 1 << 8
        return self._last_id

    def reserve(
        self, flight: Flight, packet_id: int, sender_packet_id: int, asked: Reserve
    ) -> Outcome | Reservation:
        if self.refuses is not None:
            return self.refuses
        self.reserved.append((flight, packet_id, sender_packet_id, asked))
        return Reservation(packet_id, [Transfer(packet_id, amount=asked.amount_out)], self.books)

    def post(
        self, flight: Flight, reservation: Reservation, expires_at_ms: int, octets: bytes = b""
    ) -> None:
        self.posted.append((flight, reservation))

    def keep_and_post(
        self, flight: Flight, reservation: Reservation, expires_at_ms: int, octets: bytes
    ) -> None:
        self.kept.append((flight.packet_id, octets))
        self.post(flight, reservation, expires_at_ms)

    def void(self, reservation: Reservation) -> None:
        self.voided.append(reservation)

    def find_recovered(self, source_id: str, sender_packet_id: int) -> Recovered | None:
        return self.recovered.get((source_id, sender_packet_id))

    def take_recovered(self, source_id: str, sender_packet_id: int, *_: bytes) -> Recovered | None:
        return self.recovered.pop((source_id, sender_packet_id), None)


@dataclass
class FakeOutlet:
    """Stands in for the links to next hops."""

    refuses: Unanswered | None = None
    knows_packet_ids: bool = True
    sent: list[Flight] = field(default_factory=list)
    forgotten: list[Flight] = field(default_factory=list)

    def send(self, flight: Flight) -> Unanswered | None:
        if self.refuses is None:
            self.sent.append(flight)
        return self.refuses

    def can_ask_again(self, next_hop: Peer) -> bool:
        return self.knows_packet_ids

    def forget(self, flights: Collection[Flight]) -> None:
        self.forgotten.extend(flights)


@dataclass
class FakeConnection:
    """Stands in for the link that a Prepare came over."""

    open: bool = True
    answers: list[tuple[int, bytes]] = field(default_factory=list)

    def reply(self, request_id: int, octets: bytes) -> bool:
        if self.open:
            self.answers.append((request_id, octets))
        return self.open

    @property
    def codes(self) -> list[str | None]:
        """Of the answers, in order; None for a Fulfill."""
        answers = [decode(octets) for _, octets in self.answers]
        return [answer.code if isinstance(answer, Reject) else None for answer in answers]


class DriverSetup:
    """A driver whose accounts, links and clock are stand-ins."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.node = Node(OWN)
        self.peers = PeerRegistry(
            Peer(PeerTerms(peer_id=peer_id, asset=USD)) for peer_id in ("alice", "bob")
        )
        self.alice, self.bob = self.peers["alice"], self.peers["bob"]
        self.local = Peer(PeerTerms(peer_id=LOCAL, asset=USD))
        self.accounts = FakeAccounts()
        self.outlet = FakeOutlet()
        self.connection = FakeConnection()
        self.delivering: list[tuple[Flight, Deliver]] = []
        self.ended_: list[tuple[Flight, Result]] = []
        self.traced = False
        self.forwarded_: list[Flight] = []
        self.unreadable_: list[tuple[Peer, str]] = []
        routes = RoutingTable(
            [
                Route(RouteSource.CONFIG, "alice", "g.alice"),
                Route(RouteSource.CONFIG, "bob", "g.bob"),
                Route(RouteSource.LOCAL, LOCAL, OWN),
            ]
        )
        self.driver = Driver(
            switch=Switch(
                node=self.node,
                peers=self.peers,
                routes=routes,
                rates=Rates({}),
                now_ms=self.clock.now_ms,
                window_ms=1000,
                hold_ms_max=30_000,
                delivers=lambda: True,
            ),
            accounts=cast(AccountManager, self.accounts),
            outlet=self.outlet,
            deliver=lambda flight, step: self.delivering.append((flight, step)),
            observer=self,
            now_ms=self.clock.now_ms,
            monotonic_s=self.clock.monotonic_s,
        )

    def began(self, _flight: Flight) -> Trace | None:
        return Trace() if self.traced else None

    def forwarded(self, flight: Flight, _trace: Trace) -> None:
        self.forwarded_.append(flight)

    def unreadable(self, source: Peer, _packet_id: int, message: str) -> None:
        self.unreadable_.append((source, message))

    def ended(self, flight: Flight, result: Result) -> None:
        self.ended_.append((flight, result))

    def prepare(self, **fields: Any) -> Prepare:
        whole = {
            "amount": 100,
            "expires_at_ms": self.clock.now_ms() + 10_000,
            "condition": hashlib.sha256(PREIMAGE).digest(),
            "destination": "g.bob",
            **fields,
        }
        return Prepare(**whole)

    def arrive(
        self, sender_id: int = 0, request_id: int = 1, *, again: bool = False, **fields: Any
    ) -> None:
        octets = encode(self.prepare(**fields))
        self.driver.arrived(self.alice, octets, sender_id, self.connection, request_id, again)

    def send(self, sender_id: int = 0, request_id: int = 1, **fields: Any) -> Flight:
        """A Prepare of alice's that is on its way to bob."""
        self.arrive(sender_id, request_id, **fields)
        flight = self.accounts.reserved[-1][0]
        self.driver.booked(flight, Outcome.HELD)
        assert self.outlet.sent[-1] is flight
        return flight

    def fulfill(self, flight: Flight) -> None:
        self.driver.answered(flight, FULFILL)
        self.driver.booked(flight, Outcome.POSTED)

    def at_rest(self) -> bool:
        """Nothing is in flight any more, and no counter says so."""
        return (
            self.driver.in_flight == 0
            and all(peer.in_flight == 0 for peer in (*self.peers, self.local))
            and all(one.in_flight_bytes == 0 for one in (self.node, *self.peers, self.local))
            and not any(self.driver.waiting_for(peer) for peer in self.peers)
        )


@pytest.fixture
def setup() -> DriverSetup:
    return DriverSetup()


# --- there and back


def test_a_packet_is_held_sent_posted_and_answered(setup: DriverSetup) -> None:
    setup.arrive(request_id=7)
    flight, packet_id, sender_id, asked = setup.accounts.reserved[0]
    assert (packet_id, sender_id, asked.amount_out) == (flight.packet_id, 0, 100)
    assert not setup.outlet.sent  # nothing is promised before the money is held
    setup.driver.booked(flight, Outcome.HELD)
    assert setup.outlet.sent == [flight]
    assert flight.next_hop is setup.bob
    assert decode(flight.octets) == setup.prepare(expires_at_ms=setup.clock.now_ms() + 9000)
    assert not setup.connection.answers
    setup.driver.answered(flight, FULFILL)
    assert setup.accounts.posted == [(flight, flight.reservation)]
    assert not setup.connection.answers  # nothing is told before it is booked
    setup.driver.booked(flight, Outcome.POSTED)
    assert setup.connection.answers == [(7, FULFILL)]
    assert setup.at_rest()


def test_a_reject_voids_the_hold_and_is_passed_on(setup: DriverSetup) -> None:
    flight = setup.send()
    setup.driver.answered(flight, REJECT)
    assert setup.accounts.voided == [flight.reservation]
    assert setup.connection.answers == [(1, REJECT)]
    assert setup.at_rest()


def test_outcomes_are_counted_for_both_peers(setup: DriverSetup) -> None:
    setup.fulfill(setup.send())
    setup.driver.answered(setup.send(), REJECT)
    came, went = setup.alice.counters, setup.bob.counters
    assert (came.prepares_in, came.fulfilled_in, came.rejected_in) == (2, 1, 1)
    assert (went.prepares_out, went.fulfilled_out, went.rejected_out) == (2, 1, 1)
    assert (came.amount_in, went.amount_out) == (100, 100)
    assert came.rejected_in_by_code == {"F99": 1}
    assert [result.code for _, result in setup.ended_] == [None, "F99"]


def test_in_flight_counts_from_the_first_wait_to_the_answer(setup: DriverSetup) -> None:
    setup.arrive()
    assert (setup.driver.in_flight, setup.alice.in_flight) == (1, 1)
    setup.driver.booked(setup.accounts.reserved[0][0], Outcome.HELD)
    assert (setup.driver.in_flight, setup.alice.in_flight) == (1, 1)
    flight = setup.send(amount=100)
    assert (setup.driver.in_flight, setup.alice.in_flight) == (2, 2)
    assert setup.driver.waiting_for(setup.bob) == setup.outlet.sent
    assert setup.driver.waiting_for(setup.alice) == []
    setup.fulfill(flight)
    assert setup.driver.in_flight == 1


@pytest.mark.parametrize("outcome", [Outcome.NO_CREDIT, Outcome.UNAVAILABLE])
def test_a_refused_reservation_ends_the_packet(setup: DriverSetup, outcome: Outcome) -> None:
    setup.arrive()
    setup.driver.booked(setup.accounts.reserved[0][0], outcome)
    assert setup.connection.codes in (["T04"], ["T00"])
    assert not setup.outlet.sent
    assert not setup.accounts.voided
    assert setup.at_rest()


def test_a_reservation_refused_at_once_is_answered_at_once(setup: DriverSetup) -> None:
    setup.accounts.refuses = Outcome.BUSY
    setup.arrive()
    assert setup.connection.codes == ["T05"]
    assert setup.at_rest()


def test_an_unreachable_next_hop_voids_the_hold(setup: DriverSetup) -> None:
    setup.outlet.refuses = Unanswered.NOT_SENT
    setup.arrive()
    flight = setup.accounts.reserved[0][0]
    setup.driver.booked(flight, Outcome.HELD)
    assert setup.connection.codes == ["T01"]
    assert setup.accounts.voided == [flight.reservation]
    assert setup.at_rest()
    counters = setup.bob.counters
    assert (counters.prepares_out, counters.rejected_out) == (0, 0)  # it has seen nothing


def test_a_packet_of_amount_zero_needs_no_ledger(setup: DriverSetup) -> None:
    setup.arrive(amount=0)
    (flight,) = setup.outlet.sent
    assert setup.driver.in_flight == 1
    setup.driver.answered(flight, FULFILL)
    assert setup.connection.codes == [None]
    assert not setup.accounts.reserved
    assert setup.at_rest()


def test_an_unreadable_prepare_is_rejected_with_f01(setup: DriverSetup) -> None:
    setup.driver.arrived(setup.alice, b"\x0c\x01\x00", 5, setup.connection, 9)
    ((request_id, octets),) = setup.connection.answers
    answer = decode(octets)
    assert isinstance(answer, Reject)
    assert (request_id, answer.code, answer.triggered_by) == (9, "F01", OWN)
    setup.driver.arrived(setup.alice, REJECT, 0, setup.connection, 10)
    assert setup.connection.codes == ["F01", "F01"]
    assert setup.alice.counters.rejected_in_by_code == {"F01": 2}
    assert setup.at_rest()


def test_unknown_codes_of_peers_do_not_grow_the_metrics(setup: DriverSetup) -> None:
    """Defect 18."""
    for number in range(100):
        octets = encode(Reject(code=f"Z{number:02}", triggered_by="g.bob"))
        setup.driver.answered(setup.send(), octets)
    by_code = setup.alice.counters.rejected_in_by_code
    assert len(by_code) == 65
    assert by_code["other"] == 36
    assert setup.alice.counters.rejected_in == 100


def test_an_answer_is_booked_although_the_link_is_closed(setup: DriverSetup) -> None:
    """A packet outlives its link: the next hop fulfilled, so we owe it."""
    flight = setup.send()
    setup.connection.open = False
    setup.fulfill(flight)
    assert setup.accounts.posted == [(flight, flight.reservation)]
    assert setup.alice.counters.answers_undelivered == 1
    assert setup.at_rest()


# --- time


def test_a_packet_is_rejected_at_its_deadline(setup: DriverSetup) -> None:
    flight = setup.send()
    setup.clock.advance(8.999)
    setup.driver.tick()
    assert not setup.connection.answers
    setup.clock.advance(0.001)
    setup.driver.tick()
    assert setup.connection.codes == ["R00"]
    assert setup.accounts.voided == [flight.reservation]
    assert setup.outlet.forgotten == [flight]
    assert setup.at_rest()


def test_a_late_answer_is_only_counted(setup: DriverSetup) -> None:
    """Requirement 52."""
    flight = setup.send()
    setup.clock.advance(9)
    setup.driver.tick()
    setup.driver.answered(flight, FULFILL)
    assert setup.bob.counters.answers_late == 1
    assert len(setup.connection.answers) == 1
    assert not setup.accounts.posted


def test_an_answer_to_a_packet_that_never_left_is_not_counted(setup: DriverSetup) -> None:
    setup.arrive()
    setup.driver.answered(setup.accounts.reserved[0][0], FULFILL)
    assert not setup.connection.answers
    assert setup.bob.counters.answers_late == 0


def test_each_packet_has_its_own_deadline(setup: DriverSetup) -> None:
    now_ms = setup.clock.now_ms()
    for seconds in (8, 4, 6):
        setup.send(request_id=seconds, expires_at_ms=now_ms + seconds * 1000)
    for _ in range(8):
        setup.clock.advance(1)
        setup.driver.tick()
    assert [request_id for request_id, _ in setup.connection.answers] == [4, 6, 8]
    assert setup.at_rest()


def test_a_tick_with_nothing_to_do_does_nothing(setup: DriverSetup) -> None:
    setup.driver.tick()
    setup.clock.advance(10**6)
    setup.driver.tick()
    assert setup.at_rest()


# --- packets of the node itself, and for it


def test_a_packet_of_this_node_is_handled_like_one_of_a_peer(setup: DriverSetup) -> None:
    setup.driver.originate(setup.local, setup.prepare(), setup.connection)
    flight, _, sender_id, asked = setup.accounts.reserved[0]
    assert (asked.source.peer_id, sender_id) == (LOCAL, 0)
    setup.driver.booked(flight, Outcome.HELD)
    setup.fulfill(flight)
    assert setup.connection.codes == [None]
    assert setup.local.counters.fulfilled_in == 1
    assert setup.at_rest()


def test_a_sender_of_this_node_that_gave_up_is_no_lost_answer(setup: DriverSetup) -> None:
    setup.driver.originate(setup.local, setup.prepare(), setup.connection)
    flight = setup.accounts.reserved[0][0]
    setup.driver.booked(flight, Outcome.HELD)
    setup.connection.open = False
    setup.fulfill(flight)
    assert setup.local.counters.answers_undelivered == 0
    assert setup.at_rest()


def own_packet(setup: DriverSetup, *, again: bool) -> None:
    """A packet of a payment of this node, which has id 11."""
    if again:
        octets = encode(setup.prepare())
        setup.driver.arrived(setup.local, octets, 11, setup.connection, 0, again=True)
    else:
        setup.driver.originate(setup.local, setup.prepare(), setup.connection, 11)


def test_a_packet_of_this_node_with_an_id_is_reserved_with_it_and_its_answer_not_kept(
    setup: DriverSetup,
) -> None:
    own_packet(setup, again=False)
    ((flight, _, sender_id, asked),) = setup.accounts.reserved
    assert (asked.source.peer_id, sender_id) == (LOCAL, 11)
    setup.driver.booked(flight, Outcome.HELD)
    own_packet(setup, again=True)  # joins the one under way
    setup.fulfill(flight)
    assert setup.connection.codes == [None]
    assert setup.driver.answer_given(LOCAL, 11) is None
    assert not setup.accounts.kept  # its next hop can be asked again
    assert setup.at_rest()


@pytest.mark.parametrize("is_known", [True, False])
def test_a_packet_of_this_node_is_looked_up_when_it_is_resent_and_never_taken_as_new(
    setup: DriverSetup, is_known: bool
) -> None:
    assert not setup.accounts.may_know_former
    own_packet(setup, again=True)
    assert not setup.accounts.reserved
    assert setup.driver.to_look_up() == [(LOCAL, 11)]
    if is_known:
        former = replace(recovered(), source_id=LOCAL)
        setup.accounts.recovered[LOCAL, 11] = former
    setup.driver.looked_up([(LOCAL, 11)])
    assert not setup.accounts.reserved
    if not is_known:
        assert setup.connection.codes == ["F00"]
        assert not setup.outlet.sent
    else:
        (flight,) = setup.outlet.sent
        assert (flight.packet_id, flight.again) == (former.reservation.packet_id, True)
        setup.fulfill(flight)
        assert setup.connection.codes == [None]


def test_the_fulfill_of_a_packet_of_this_node_is_kept_where_it_could_not_be_fetched_again(
    setup: DriverSetup,
) -> None:
    setup.outlet.knows_packet_ids = False
    own_packet(setup, again=False)
    flight = setup.accounts.reserved[0][0]
    setup.driver.booked(flight, Outcome.HELD)
    setup.fulfill(flight)
    assert setup.accounts.kept == [(flight.packet_id, FULFILL)]


def test_a_peer_protocol_request_waits_like_a_packet(setup: DriverSetup) -> None:
    question = ildcp.request(setup.clock.now_ms() + 5000)
    setup.driver.ask(setup.local, setup.bob, question, setup.connection)
    (flight,) = setup.outlet.sent
    assert flight.octets == encode(question)
    setup.clock.advance(5)
    setup.driver.tick()
    assert setup.connection.codes == ["R00"]
    assert setup.at_rest()


def test_a_handler_is_asked_and_its_answer_posted(setup: DriverSetup) -> None:
    setup.arrive(destination=f"{OWN}.shop")
    flight = setup.accounts.reserved[0][0]
    setup.driver.booked(flight, Outcome.HELD)
    ((delivered, step),) = setup.delivering
    assert delivered is flight
    assert step.source is setup.alice
    assert setup.driver.in_flight == 1
    setup.driver.delivered(flight, Fulfill(fulfillment=PREIMAGE))
    setup.driver.booked(flight, Outcome.POSTED)
    assert setup.connection.codes == [None]
    assert setup.at_rest()


def test_a_traced_packet_knows_when_a_handler_answered(setup: DriverSetup) -> None:
    setup.traced = True
    setup.arrive(destination=f"{OWN}.shop", amount=0)
    ((flight, _),) = setup.delivering
    setup.clock.advance(2)
    setup.driver.delivered(flight, Fulfill(fulfillment=PREIMAGE))
    assert flight.trace is not None
    assert flight.trace.answered_s == flight.began_s + 2


def test_second_and_late_answers_of_a_handler_are_ignored(setup: DriverSetup) -> None:
    setup.arrive(destination=f"{OWN}.shop", amount=0)
    ((flight, _),) = setup.delivering
    setup.clock.advance(9)
    setup.driver.tick()
    setup.driver.delivered(flight, Fulfill(fulfillment=PREIMAGE))
    assert setup.connection.codes == ["R00"]
    assert setup.at_rest()


# --- resent packets


def test_a_resent_packet_in_flight_is_answered_on_the_new_link(setup: DriverSetup) -> None:
    flight = setup.send(sender_id=11, request_id=1)
    old, setup.connection = setup.connection, FakeConnection()
    old.open = False
    setup.arrive(sender_id=11, request_id=2)
    assert len(setup.accounts.reserved) == 1  # once
    assert len(setup.outlet.sent) == 1
    assert setup.alice.counters.resent_in == 1
    assert setup.alice.counters.prepares_in == 1
    setup.fulfill(flight)
    assert setup.connection.answers == [(2, FULFILL)]
    assert not old.answers
    assert setup.alice.counters.answers_undelivered == 0
    assert setup.at_rest()


def test_a_resent_packet_after_its_answer_gets_the_same_answer(setup: DriverSetup) -> None:
    setup.fulfill(setup.send(sender_id=11, request_id=1))
    setup.driver.answered(setup.send(sender_id=12, request_id=2), REJECT)
    setup.arrive(sender_id=11, request_id=3)
    setup.arrive(sender_id=12, request_id=4)
    assert setup.connection.answers[2:] == [(3, FULFILL), (4, REJECT)]
    assert len(setup.accounts.reserved) == 2
    assert setup.alice.counters.fulfilled_in == 1
    assert setup.at_rest()


def test_packet_ids_of_two_peers_are_independent(setup: DriverSetup) -> None:
    """Defect 7."""
    setup.fulfill(setup.send(sender_id=11))
    octets = encode(setup.prepare(destination="g.alice"))
    setup.driver.arrived(setup.bob, octets, 11, setup.connection, 2)
    assert len(setup.accounts.reserved) == 2


def test_packets_without_an_id_are_never_the_same(setup: DriverSetup) -> None:
    setup.fulfill(setup.send())
    setup.send()
    assert len(setup.accounts.reserved) == 2
    assert not setup.driver.wants_receipt("alice")


def test_an_answer_is_kept_until_two_receipts_after_it(setup: DriverSetup) -> None:
    assert not setup.driver.wants_receipt("alice")
    setup.fulfill(setup.send(sender_id=11))
    for _ in range(2):
        setup.driver.receipt("alice")
        assert setup.driver.wants_receipt("alice")
        setup.arrive(sender_id=11)
        assert setup.connection.codes[-1] is None
        assert len(setup.accounts.reserved) == 1
    setup.driver.receipt("alice")
    assert not setup.driver.wants_receipt("alice")
    setup.arrive(sender_id=11)
    assert len(setup.accounts.reserved) == 2  # by now it is a new packet


def test_receipts_of_a_new_link_do_not_cover_answers_of_the_old_one(
    setup: DriverSetup,
) -> None:
    setup.fulfill(setup.send(sender_id=11))
    setup.driver.reconnected("alice")
    assert not setup.driver.wants_receipt("alice")
    setup.fulfill(setup.send(sender_id=12))
    for _ in range(3):
        setup.driver.receipt("alice")
    setup.arrive(sender_id=11, request_id=2, again=True)
    assert setup.connection.answers[2:] == [(2, FULFILL)]
    setup.driver.reconnected("alice")  # nothing new to keep
    setup.clock.advance(limits.FORMER_PACKETS_MS / 1000)
    setup.driver.receipt("alice")
    setup.arrive(sender_id=11)
    assert len(setup.accounts.reserved) == 3  # by now nobody asks for the old one


def test_answers_kept_of_old_links_are_bounded_and_dropped_ones_are_recorded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(switch_bounds, "ANSWERS_UNREAD_MAX", 10)
    inbox = Inboxes().get("alice")
    for first in (1, 7):
        for number in range(first, first + 6):
            inbox.keep(number, FULFILL, 0)
        inbox.reconnected(0)
    assert [number for number in range(20) if inbox.find(number)] == [7, 8, 9, 10, 11, 12]
    assert inbox.forgotten_id_max == inbox.lost_id_max == 6


def test_a_new_packet_is_taken_at_once_whatever_the_ledger_may_know(setup: DriverSetup) -> None:
    setup.accounts.may_know_former = True
    setup.arrive(sender_id=11)
    assert len(setup.accounts.reserved) == 1
    assert setup.driver.to_look_up() == []


def test_a_resent_packet_is_new_when_nothing_was_forgotten(setup: DriverSetup) -> None:
    setup.arrive(sender_id=11, again=True)
    assert len(setup.accounts.reserved) == 1


@pytest.mark.parametrize("again", [True, False])
def test_a_packet_that_waits_for_a_look_up_is_not_new_meanwhile(
    setup: DriverSetup, *, again: bool
) -> None:
    setup.accounts.may_know_former = True
    setup.arrive(sender_id=11, request_id=1, again=True)
    # The start has ended, and there were no earlier packets: what comes now is new.
    setup.accounts.may_know_former = False
    setup.arrive(sender_id=11, request_id=2, again=again)
    assert not setup.accounts.reserved
    setup.driver.looked_up(setup.driver.to_look_up())
    ((flight, *_),) = setup.accounts.reserved
    setup.driver.booked(flight, Outcome.HELD)
    setup.fulfill(flight)
    assert setup.connection.answers == [(2, FULFILL)]
    assert setup.at_rest()


def forgotten(setup: DriverSetup, sender_id: int) -> None:
    """It was answered, and its sender has shown that it read past that."""
    setup.fulfill(setup.send(sender_id=sender_id))
    for _ in range(3):
        setup.driver.receipt("alice")


def test_a_resent_packet_waits_for_the_ledger_when_it_may_be_forgotten(
    setup: DriverSetup,
) -> None:
    forgotten(setup, 11)
    setup.arrive(sender_id=11, request_id=2, again=True)
    setup.arrive(sender_id=10, request_id=3, again=True)
    assert len(setup.accounts.reserved) == 1
    assert setup.driver.to_look_up() == [("alice", 11), ("alice", 10)]
    setup.accounts.recovered["alice", 11] = Recovered(
        Reservation(EARLIER_ID, [Transfer(EARLIER_ID, amount=100)], [], Promise.BOOKED),
        "alice", 11, LOCAL, TAG,
    )  # fmt: skip
    setup.driver.looked_up([("alice", 11)])
    assert setup.driver.to_look_up() == [("alice", 10)]
    flight, step = setup.delivering[0]
    assert (flight.packet_id, step.packet_id, step.prepare.amount) == (EARLIER_ID, EARLIER_ID, 100)
    assert len(setup.accounts.reserved) == 1  # paid already
    setup.driver.delivered(flight, Fulfill(fulfillment=PREIMAGE))
    assert setup.connection.answers[-1][0] == 2
    setup.driver.looked_up([("alice", 10), ("alice", 11)])
    assert len(setup.accounts.reserved) == 2  # the ledger did not know it
    assert setup.driver.to_look_up() == []


def test_a_packet_resent_over_several_links_is_handled_once(
    setup: DriverSetup,
) -> None:
    setup.accounts.may_know_former = True
    setup.arrive(sender_id=11, request_id=1, again=True)
    old, setup.connection = setup.connection, FakeConnection()
    old.open = False
    setup.arrive(sender_id=11, request_id=2, again=True)
    assert setup.driver.to_look_up() == [("alice", 11)]
    setup.driver.looked_up([("alice", 11)])
    flight = setup.accounts.reserved[0][0]
    setup.driver.booked(flight, Outcome.HELD)
    setup.fulfill(flight)
    assert setup.connection.answers == [(2, FULFILL)]
    assert not old.answers
    assert setup.at_rest()


def test_a_resent_packet_waits_for_its_look_up_until_it_has_expired_by_every_clock(
    setup: DriverSetup,
) -> None:
    """Until then it may be posted, and would be answered with its Fulfill."""
    setup.accounts.may_know_former = True
    setup.arrive(sender_id=11, again=True)
    setup.arrive(sender_id=12, again=True, expires_at_ms=setup.clock.now_ms() + 20_000)
    setup.clock.advance(10 + limits.CLOCK_ERROR_MS / 1000)
    setup.driver.give_up_asking()
    assert not setup.connection.answers
    setup.clock.advance(0.001)
    setup.driver.give_up_asking()
    assert setup.connection.codes == ["R00"]
    assert setup.driver.to_look_up() == [("alice", 12)]


def test_resent_packets_that_wait_for_the_ledger_are_bounded(
    setup: DriverSetup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(switch_bounds, "PACKETS_ASKED_AGAIN_PER_PEER_MAX", 3)
    monkeypatch.setattr(switch_bounds, "PACKETS_ASKED_AGAIN_MAX", 4)
    monkeypatch.setattr(switch_bounds, "PACKETS_LOOKED_UP_AT_ONCE_MAX", 2)
    setup.accounts.may_know_former = True
    for sender_id in range(1, 6):
        setup.arrive(sender_id=sender_id, again=True)
    octets = encode(setup.prepare(destination="g.alice"))
    for sender_id in (1, 2):
        setup.driver.arrived(setup.bob, octets, sender_id, setup.connection, sender_id, True)
    setup.arrive(sender_id=1, again=True)  # known already
    assert not setup.connection.answers  # any answer could be wrong
    seen = []
    while keys := setup.driver.to_look_up():
        assert len(keys) <= 2
        seen += keys
        setup.driver.looked_up(keys)
    # The third of alice's gave way to the second of bob's.
    assert seen == [("alice", 1), ("bob", 1), ("alice", 2), ("bob", 2)]


def test_the_data_of_packets_in_flight_is_counted(setup: DriverSetup) -> None:
    first, second = setup.send(sender_id=11, data=b"x" * 700), setup.send(data=b"y" * 300)
    assert setup.alice.in_flight_bytes == setup.node.in_flight_bytes == 1000
    setup.fulfill(first)
    assert setup.alice.in_flight_bytes == setup.node.in_flight_bytes == 300
    setup.driver.answered(second, REJECT)
    assert setup.at_rest()


def test_the_data_of_resent_packets_that_wait_for_the_ledger_is_bounded(
    setup: DriverSetup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "IN_FLIGHT_BYTES_PER_PEER_MAX", 3000)
    monkeypatch.setattr(limits, "IN_FLIGHT_BYTES_MAX", 4000)
    setup.accounts.may_know_former = True
    data = b"x" * 1000
    for sender_id in (1, 2, 3, 4, 3):
        setup.arrive(sender_id=sender_id, again=True, data=data)
    octets = encode(setup.prepare(destination="g.alice", data=data))
    for sender_id in (1, 2, 3):
        setup.driver.arrived(setup.bob, octets, sender_id, setup.connection, sender_id, True)
    assert not setup.connection.answers  # any answer could be wrong
    # The fourth of alice's found no room, and her third gave way to the second of bob's.
    keys = setup.driver.to_look_up()
    assert sorted(keys) == [("alice", 1), ("alice", 2), ("bob", 1), ("bob", 2)]
    setup.driver.looked_up(keys)
    assert not setup.driver.to_look_up()
    setup.arrive(sender_id=5, again=True, data=b"x" * 3000)
    assert setup.driver.to_look_up() == [("alice", 5)]


def test_a_removed_peer_ends_the_wait_of_its_resent_packets(setup: DriverSetup) -> None:
    setup.accounts.may_know_former = True
    setup.arrive(sender_id=11, again=True)
    setup.accounts.peers["alice"].removed = True
    setup.driver.looked_up(setup.driver.to_look_up())
    assert not setup.accounts.reserved
    assert setup.driver.to_look_up() == []


def test_a_packet_under_way_is_not_forgotten_by_receipts(setup: DriverSetup) -> None:
    flight = setup.send(sender_id=11)
    for _ in range(5):
        setup.driver.receipt("alice")
    setup.arrive(sender_id=11, request_id=2)
    setup.fulfill(flight)
    assert setup.connection.answers == [(2, FULFILL)]


def test_answers_kept_for_a_peer_that_never_reads_are_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(switch_bounds, "ANSWERS_PER_GENERATION_MAX", 10)
    inbox = Inboxes().get("alice")
    for number in range(1, 1000):
        inbox.keep(number, FULFILL, 0)
        kept = len(inbox.answers.by_id) + len(inbox.older.by_id) + len(inbox.oldest.by_id)
        assert kept <= 3 * 10
        assert inbox.find(number) is not None
    assert inbox.find(999 - 10) is not None
    assert inbox.find(1) is None


@pytest.mark.parametrize("reconnects_each", [None, 7, 40])
def test_large_answers_are_bounded_in_octets(
    monkeypatch: pytest.MonkeyPatch, reconnects_each: int | None
) -> None:
    monkeypatch.setattr(switch_bounds, "ANSWERS_KEPT_PER_PEER_BYTES_MAX", 100_000)
    inboxes = Inboxes()
    inbox = inboxes.get("alice")
    for number in range(1, 500):
        inbox.keep(number, bytes(5000), 0)
        assert inbox.octets <= 100_000
        assert inboxes.octets == inbox.octets
        if reconnects_each and number % reconnects_each == 0:
            inbox.reconnected(0)
    dropped = [number for number in range(1, 500) if inbox.find(number) is None]
    assert dropped == list(range(1, len(dropped) + 1)), "the oldest go first"
    assert inbox.forgotten_id_max == inbox.lost_id_max == dropped[-1]


def test_of_all_peers_the_one_with_the_most_answers_makes_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(switch_bounds, "ANSWERS_KEPT_BYTES_MAX", 200_000)
    inboxes = Inboxes()
    honest, hostile = inboxes.get("honest"), inboxes.get("hostile")
    for number in range(1, 11):
        honest.keep(number, bytes(100), 0)
    for number in range(1, 500):
        hostile.keep(number, bytes(5000), 0)
        assert inboxes.octets == honest.octets + hostile.octets <= 200_000
    assert all(honest.find(number) for number in range(1, 11))
    assert hostile.find(499)


def test_octets_are_given_back_when_answers_are_dropped() -> None:
    inboxes = Inboxes()
    inbox = inboxes.get("alice")
    for number in range(1, 20):
        inbox.keep(number, FULFILL, 0)
        if number % 5 == 0:
            inbox.reconnected(0)
    for _ in range(4):
        inbox.receipt(limits.FORMER_PACKETS_MS)
    assert not inbox.keeps
    assert inbox.octets == inboxes.octets == 0


def recovered(*, posted: bool = False) -> Recovered:
    packet_id = 900 << 8
    legs = [Transfer(packet_id, amount=100)]
    books = [tuple(Book("us", AccountCode.PEER, one, USD) for one in ("alice", "bob"))]
    state = Promise.BOOKED if posted else Promise.HELD
    reservation = Reservation(packet_id, legs, cast(Any, books), state)
    return Recovered(reservation, "alice", 11, "bob", TAG)


@pytest.mark.parametrize("posted", [False, True])
def test_a_packet_from_before_a_restart_is_resent_to_the_next_hop(
    setup: DriverSetup, *, posted: bool
) -> None:
    setup.accounts.recovered["alice", 11] = recovered(posted=posted)
    setup.arrive(sender_id=11)
    assert not setup.accounts.reserved  # its money is held or posted already
    (flight,) = setup.outlet.sent
    assert (flight.packet_id, flight.again) == (900 << 8, True)
    assert setup.alice.counters.resent_in == 1
    setup.driver.answered(flight, FULFILL)
    assert len(setup.accounts.posted) == (0 if posted else 1)
    if not posted:
        setup.driver.booked(flight, Outcome.POSTED)
    assert setup.connection.codes == [None]
    assert setup.at_rest()


def test_a_packet_from_before_a_restart_is_joined_and_kept_like_any_other(
    setup: DriverSetup,
) -> None:
    setup.accounts.recovered["alice", 11] = recovered()
    setup.arrive(sender_id=11, request_id=1)
    setup.arrive(sender_id=11, request_id=2)
    setup.fulfill(setup.outlet.sent[0])
    setup.arrive(sender_id=11, request_id=3)
    assert setup.connection.answers == [(2, FULFILL), (3, FULFILL)]
    assert len(setup.accounts.posted) == 1


def test_a_packet_that_is_resent_while_it_is_under_way_is_no_loop(setup: DriverSetup) -> None:
    """With its expiry shortened, as often as its sender likes."""
    expires_at_ms = setup.clock.now_ms() + 10_000
    flight = setup.send(sender_id=11, expires_at_ms=expires_at_ms)
    for number in range(1, 4):
        setup.arrive(11, 1 + number, again=True, expires_at_ms=expires_at_ms - number * 2000)
    assert setup.outlet.sent == [flight]
    setup.fulfill(flight)
    assert setup.connection.answers == [(4, FULFILL)]
    assert setup.at_rest()


def test_a_packet_that_waits_no_longer_is_not_compared_with_others(setup: DriverSetup) -> None:
    """However it ended: answered, over its time, or not sent at all."""
    loops = setup.driver._switch.loops
    setup.fulfill(setup.send())
    setup.driver.answered(setup.send(), REJECT)
    setup.send()
    assert loops.waiting == 1
    setup.clock.advance(60)
    setup.driver.tick()
    setup.outlet.refuses = Unanswered.NOT_SENT
    setup.arrive()
    setup.driver.booked(setup.accounts.reserved[-1][0], Outcome.HELD)
    assert setup.at_rest()
    assert not loops.waiting


def test_every_own_code_is_counted_separately(setup: DriverSetup) -> None:
    assert len(Code) < 64


# --- what is told about it


def test_a_traced_packet_knows_when_each_of_its_steps_was(setup: DriverSetup) -> None:
    setup.traced = True
    began_s = setup.clock.monotonic_s()
    setup.arrive()
    flight = setup.accounts.reserved[0][0]
    trace = flight.trace
    assert trace is not None
    assert trace.asked is setup.accounts.reserved[0][3]
    assert trace.reserved_s is None
    setup.clock.advance(1)
    setup.driver.booked(flight, Outcome.HELD)
    assert setup.forwarded_ == [flight]
    setup.clock.advance(1)
    setup.driver.answered(flight, FULFILL)
    setup.clock.advance(1)
    setup.driver.booked(flight, Outcome.POSTED)
    times = (trace.reserved_s, trace.forwarded_s, trace.answered_s, trace.posted_s)
    assert times == (began_s + 1, began_s + 1, began_s + 2, began_s + 3)


def test_a_packet_without_a_trace_reports_no_steps(setup: DriverSetup) -> None:
    setup.fulfill(setup.send())
    assert setup.forwarded_ == []
    assert len(setup.ended_) == 1


def test_a_refused_reservation_is_no_step(setup: DriverSetup) -> None:
    setup.traced = True
    setup.arrive()
    flight = setup.accounts.reserved[0][0]
    setup.driver.booked(flight, Outcome.NO_CREDIT)
    assert flight.trace is not None
    assert flight.trace.reserved_s is None
    assert flight.trace.posted_s is None


def test_an_unreadable_prepare_is_reported_with_its_sender(setup: DriverSetup) -> None:
    setup.driver.arrived(setup.alice, b"\x0c", 0, setup.connection, 1)
    ((source, message),) = setup.unreadable_
    assert source is setup.alice
    assert message.startswith("unreadable packet: ")


# --- a resent packet must equal the first one

DIFFERENT = [
    pytest.param({"amount": 101}, id="amount"),
    pytest.param({"destination": "g.bob.other"}, id="destination"),
    pytest.param({"condition": b"c" * 32}, id="condition"),
    pytest.param({"data": b"other"}, id="data"),
]


@pytest.mark.parametrize("changed", DIFFERENT)
@pytest.mark.parametrize("again", [False, True])
def test_a_packet_under_the_id_of_one_under_way_is_refused(
    setup: DriverSetup, changed: dict[str, Any], *, again: bool
) -> None:
    flight = setup.send(sender_id=11, request_id=1)
    setup.arrive(sender_id=11, request_id=2, again=again, **changed)
    assert setup.connection.codes == ["F00"]
    assert setup.connection.answers[0][0] == 2
    assert setup.alice.counters.resent_refused == 1
    assert setup.alice.counters.rejected_in_by_code == {"F00": 1}
    setup.fulfill(flight)
    assert setup.connection.answers[-1] == (1, FULFILL)  # the first one is not touched
    setup.arrive(sender_id=11, request_id=3)
    assert setup.connection.answers[-1] == (3, FULFILL)
    assert len(setup.accounts.reserved) == 1
    assert setup.at_rest()


@pytest.mark.parametrize("changed", DIFFERENT)
@pytest.mark.parametrize("reconnected", [False, True])
def test_a_packet_under_the_id_of_an_answered_one_is_refused(
    setup: DriverSetup, changed: dict[str, Any], *, reconnected: bool
) -> None:
    setup.fulfill(setup.send(sender_id=11))
    if reconnected:
        setup.driver.reconnected("alice")
    setup.arrive(sender_id=11, request_id=2, again=True, **changed)
    assert setup.connection.codes == [None, "F00"]
    assert setup.alice.counters.resent_refused == 1
    setup.arrive(sender_id=11, request_id=3, again=True)
    assert setup.connection.answers[-1] == (3, FULFILL)
    assert len(setup.accounts.reserved) == 1


def test_a_resent_packet_may_expire_at_another_time(setup: DriverSetup) -> None:
    flight = setup.send(sender_id=11, request_id=1)
    later = setup.clock.now_ms() + 12_000
    setup.arrive(sender_id=11, request_id=2, again=True, expires_at_ms=later)
    setup.fulfill(flight)
    setup.arrive(sender_id=11, request_id=3, again=True, expires_at_ms=later + 1)
    assert setup.connection.answers == [(2, FULFILL), (3, FULFILL)]
    assert setup.alice.counters.resent_refused == 0


@pytest.mark.parametrize("changed", DIFFERENT)
def test_a_packet_under_an_id_that_the_ledger_is_asked_for_is_refused(
    setup: DriverSetup, changed: dict[str, Any]
) -> None:
    setup.accounts.may_know_former = True
    setup.arrive(sender_id=11, request_id=1, again=True)
    setup.arrive(sender_id=11, request_id=2, again=True, **changed)
    assert setup.connection.codes == ["F00"]
    setup.driver.looked_up(setup.driver.to_look_up())
    (asked,) = setup.accounts.reserved
    assert asked[3].amount_in == 100


@pytest.mark.parametrize(
    "changed",
    [
        {"amount": 101},
        {"condition": b"c" * 32},
        # No packet with money can have gone there.
        {"destination": "peer.config"},
        {"destination": "peer.settle"},
        {"destination": "test.bob"},
    ],
)
@pytest.mark.parametrize("posted", [False, True])
def test_a_packet_that_the_ledger_knows_otherwise_is_refused(
    setup: DriverSetup, changed: dict[str, Any], *, posted: bool
) -> None:
    setup.accounts.recovered["alice", 11] = recovered(posted=posted)
    setup.arrive(sender_id=11, request_id=1, again=True, **changed)
    assert setup.connection.codes == ["F00"]
    assert not setup.outlet.sent
    assert not setup.accounts.reserved
    assert not setup.accounts.voided
    setup.arrive(sender_id=11, request_id=2, again=True)
    (flight,) = setup.outlet.sent  # the right one is still taken up
    assert flight.packet_id == 900 << 8


def posted_here(setup: DriverSetup, sender_id: int) -> None:
    """The ledger says of `sender_id`: posted, for this node, by this process."""
    (_, packet_id, _, _) = setup.accounts.reserved[-1]
    legs = [Transfer(packet_id, amount=100)]
    setup.accounts.recovered["alice", sender_id] = Recovered(
        Reservation(packet_id, legs, [], Promise.BOOKED), "alice", sender_id, LOCAL, TAG
    )


def test_a_packet_whose_answer_was_read_is_not_delivered_again(setup: DriverSetup) -> None:
    forgotten(setup, 11)
    posted_here(setup, 11)
    for request_id in (2, 3):
        setup.arrive(sender_id=11, request_id=request_id, again=True)
        setup.driver.looked_up(setup.driver.to_look_up())
    assert setup.connection.codes == [None, "F00", "F00"]
    assert setup.alice.counters.resent_refused == 2
    assert not setup.delivering
    assert setup.at_rest()


def test_a_ping_whose_answer_was_read_is_answered_again(setup: DriverSetup) -> None:
    """This node computes its Fulfill: unlike a delivery, it can be repeated."""
    forgotten(setup, 11)
    (_, packet_id, _, _) = setup.accounts.reserved[-1]
    legs = [Transfer(packet_id, amount=100)]
    for request_id in (2, 3):
        setup.accounts.recovered["alice", 11] = Recovered(
            Reservation(packet_id, legs, [], Promise.BOOKED),
            "alice", 11, LOCAL, condition_tag(PING_CONDITION),
        )  # fmt: skip
        setup.arrive(
            sender_id=11, request_id=request_id, again=True,
            destination=OWN, condition=PING_CONDITION,
        )  # fmt: skip
        setup.driver.looked_up(setup.driver.to_look_up())
    ping_fulfill = encode(Fulfill(fulfillment=PING_FULFILLMENT))
    assert setup.connection.answers == [(1, FULFILL), (2, ping_fulfill), (3, ping_fulfill)]
    assert setup.alice.counters.resent_refused == 0
    assert len(setup.accounts.posted) == 1
    assert not setup.delivering
    assert setup.at_rest()


def test_a_packet_whose_answer_may_not_have_been_read_is_delivered_under_the_same_id(
    setup: DriverSetup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(switch_bounds, "ANSWERS_PER_GENERATION_MAX", 1)
    setup.fulfill(setup.send(sender_id=11))
    posted_here(setup, 11)
    packet_id = setup.accounts.reserved[-1][1]
    for sender_id in (12, 13, 14):  # push the answer out, without any receipt
        setup.driver.answered(setup.send(sender_id=sender_id), REJECT)
    setup.arrive(sender_id=11, request_id=9, again=True)
    setup.driver.looked_up(setup.driver.to_look_up())
    ((_, step),) = setup.delivering
    assert step.packet_id == packet_id


def test_a_resent_packet_over_the_rate_waits_instead_of_being_refused(setup: DriverSetup) -> None:
    setup.alice.terms = PeerTerms(peer_id="alice", asset=USD, rate_limit=1)
    setup.send(sender_id=10)
    setup.accounts.recovered["alice", 11] = recovered()
    setup.arrive(sender_id=11, request_id=2, again=True)
    assert not setup.connection.answers
    assert len(setup.outlet.sent) == 1
    setup.clock.advance(1)
    setup.driver.looked_up(setup.driver.to_look_up())
    assert setup.outlet.sent[-1].packet_id == 900 << 8
    assert setup.driver.to_look_up() == []


def fill_places(setup: DriverSetup) -> None:
    setup.alice.in_flight = limits.IN_FLIGHT_PER_PEER_MAX
    setup.node.in_flight = limits.IN_FLIGHT_PER_PEER_MAX


@pytest.mark.parametrize("left_ms", [10_000, -1])
@pytest.mark.parametrize("amount_max", [None, 1])
def test_posted_packets_that_are_resent_take_no_more_places_than_others(
    setup: DriverSetup, left_ms: int, amount_max: int | None
) -> None:
    """Neither that it has expired, nor a limit that is lower by now, lets one pass the bounds."""
    setup.alice.terms = PeerTerms(peer_id="alice", asset=USD, max_packet_amount=amount_max)
    setup.accounts.recovered["alice", 11] = recovered(posted=True)
    fill_places(setup)
    expires_at_ms = setup.clock.now_ms() + left_ms
    setup.arrive(sender_id=11, again=True, expires_at_ms=expires_at_ms)
    setup.driver.give_up_asking()
    assert not setup.outlet.sent
    assert not setup.connection.answers
    setup.alice.in_flight = setup.node.in_flight = 0
    setup.driver.looked_up(setup.driver.to_look_up())
    (flight,) = setup.outlet.sent
    setup.driver.answered(flight, FULFILL)
    assert setup.connection.codes == [None]
    assert setup.at_rest()


def test_a_posted_packet_that_is_over_by_every_clock_waits_no_longer(setup: DriverSetup) -> None:
    setup.accounts.recovered["alice", 11] = recovered(posted=True)
    fill_places(setup)
    setup.arrive(sender_id=11, again=True)
    setup.clock.advance(10.001 + limits.CLOCK_ERROR_MS / 1000)
    setup.driver.give_up_asking()
    assert setup.connection.codes == ["T00"]
    assert not setup.outlet.sent
    assert not setup.accounts.voided


def test_a_posted_packet_whose_kept_fulfill_is_not_read_yet_waits_for_it_although_it_has_expired(
    setup: DriverSetup,
) -> None:
    found = setup.accounts.recovered["alice", 11] = recovered(posted=True)
    found.may_be_kept = True
    setup.accounts.may_know_former = True
    setup.arrive(sender_id=11, again=True)
    setup.clock.advance(10)
    setup.driver.give_up_asking()
    setup.driver.looked_up(setup.driver.to_look_up())
    assert not setup.connection.answers
    assert not setup.outlet.sent
    found.may_be_kept, found.fulfill = False, FULFILL
    setup.driver.looked_up(setup.driver.to_look_up())
    assert setup.connection.answers == [(1, FULFILL)]
    assert not setup.outlet.sent


def test_a_resent_packet_that_waits_too_long_voids_its_hold(setup: DriverSetup) -> None:
    setup.alice.terms = PeerTerms(peer_id="alice", asset=USD, rate_limit=1)
    setup.send(sender_id=10)
    held = setup.accounts.recovered["alice", 11] = recovered()
    setup.arrive(sender_id=11, request_id=2, again=True)
    setup.alice.terms = PeerTerms(peer_id="alice", asset=USD, rate_limit=0)
    setup.clock.advance(10)
    setup.driver.give_up_asking()
    assert setup.accounts.voided == [held.reservation]
    assert setup.connection.codes == ["T00"]


# --- fulfilments that could not be fetched again


@pytest.mark.parametrize(
    ("knows_packet_ids", "sender_id", "is_kept"),
    [(False, 11, True), (True, 11, False), (False, 0, False)],
)
def test_a_fulfill_is_kept_where_it_could_not_be_fetched_again(
    setup: DriverSetup, *, knows_packet_ids: bool, sender_id: int, is_kept: bool
) -> None:
    setup.outlet.knows_packet_ids = knows_packet_ids
    flight = setup.send(sender_id=sender_id)
    setup.fulfill(flight)
    assert setup.accounts.kept == ([(flight.packet_id, FULFILL)] if is_kept else [])
    assert len(setup.accounts.posted) == 1
    assert setup.connection.answers == [(1, FULFILL)]


def test_what_a_receiver_of_this_node_fulfills_is_kept(setup: DriverSetup) -> None:
    setup.arrive(sender_id=11, destination=OWN)
    flight = setup.accounts.reserved[-1][0]
    setup.driver.booked(flight, Outcome.HELD)
    setup.driver.delivered(flight, Fulfill(fulfillment=PREIMAGE))
    setup.driver.booked(flight, Outcome.POSTED)
    assert setup.accounts.kept == [(flight.packet_id, FULFILL)]
    assert setup.connection.answers == [(1, FULFILL)]


@pytest.mark.parametrize("destination", ["g.bob", OWN])
def test_without_room_for_its_fulfill_a_packet_is_refused_before_it_is_promised(
    setup: DriverSetup, destination: str
) -> None:
    setup.outlet.knows_packet_ids = False
    setup.accounts.can_keep = False
    setup.arrive(sender_id=11, destination=destination)
    setup.driver.booked(setup.accounts.reserved[-1][0], Outcome.HELD)
    assert setup.connection.codes == ["T02"]
    assert not setup.outlet.sent
    assert not setup.delivering
    assert len(setup.accounts.voided) == 1
    assert setup.at_rest()


@pytest.mark.parametrize("state", [Promise.BOOKED, Promise.POSTING, Promise.RELEASED])
def test_a_kept_fulfill_answers_a_resent_packet_at_once(setup: DriverSetup, state: Promise) -> None:
    """Also when its next hop has been removed and its time is nearly over."""
    former = setup.accounts.recovered["alice", 11] = recovered(posted=True)
    former.fulfill = FULFILL
    former.reservation.state = state
    setup.peers.remove("bob")
    setup.arrive(sender_id=11, expires_at_ms=setup.clock.now_ms() + 1)
    assert setup.connection.answers == [(1, FULFILL)]
    assert not setup.outlet.sent
    assert not setup.accounts.posted
    assert not setup.accounts.voided
    assert setup.at_rest()


def test_a_packet_for_this_node_whose_fulfill_was_kept_is_not_delivered_again(
    setup: DriverSetup,
) -> None:
    forgotten(setup, 11)
    posted_here(setup, 11)
    setup.accounts.recovered["alice", 11].fulfill = FULFILL
    setup.arrive(sender_id=11, request_id=2, again=True)
    setup.driver.looked_up(setup.driver.to_look_up())
    assert setup.connection.codes == [None, None]
    assert not setup.delivering


def test_a_kept_fulfill_is_given_for_no_other_condition(setup: DriverSetup) -> None:
    former = setup.accounts.recovered["alice", 11] = recovered(posted=True)
    former.fulfill = FULFILL
    like = hashlib.sha256(PREIMAGE).digest()[:12] + b"c" * 20
    setup.arrive(sender_id=11, condition=like)
    assert setup.connection.codes == ["F00"]


def test_a_packet_that_was_given_back_is_not_tried_again_under_its_id(setup: DriverSetup) -> None:
    """Its next hop may have fulfilled it after all, and would be paid twice."""
    former = setup.accounts.recovered["alice", 11] = recovered()
    former.reservation.state = Promise.FREE
    setup.arrive(sender_id=11, request_id=1)
    assert setup.connection.codes == ["T00"]
    assert not setup.outlet.sent
    assert not setup.accounts.reserved
    assert not setup.accounts.voided
    assert setup.at_rest()


def test_a_posted_packet_waits_until_its_fulfill_was_looked_for(setup: DriverSetup) -> None:
    former = setup.accounts.recovered["alice", 11] = recovered(posted=True)
    former.may_be_kept = True
    setup.arrive(sender_id=11)
    assert not setup.connection.answers
    assert not setup.outlet.sent
    assert setup.driver.to_look_up() == [("alice", 11)]
    former.fulfill, former.may_be_kept = FULFILL, False
    setup.driver.looked_up(setup.driver.to_look_up())
    assert setup.connection.answers == [(1, FULFILL)]


# --- how long a packet is remembered


@pytest.mark.parametrize(("late_ms", "code"), [(0, None), (1, "F00")])
def test_a_packet_that_could_be_resent_for_longer_than_it_is_remembered_is_refused(
    setup: DriverSetup, late_ms: int, code: str | None
) -> None:
    expires_at_ms = setup.clock.now_ms() + limits.EXPIRY_MS_MAX + late_ms
    setup.arrive(sender_id=11, expires_at_ms=expires_at_ms)
    assert setup.connection.codes == ([code] if code else [])
    assert bool(setup.accounts.reserved) == (code is None)


def test_a_packet_that_cannot_be_resent_may_expire_at_any_time(setup: DriverSetup) -> None:
    setup.arrive(expires_at_ms=setup.clock.now_ms() + 10 * limits.EXPIRY_MS_MAX)
    assert setup.accounts.reserved


def test_an_unexpired_packet_is_remembered_by_every_node_on_its_way() -> None:
    """The sum of docs/protocol.md: the expiry allowed, and the error of two clocks."""
    oldest_ms = limits.EXPIRY_MS_MAX + limits.CLOCK_ERROR_MS
    assert limits.HOLD_MS_MAX + limits.CLOCK_ERROR_MS <= limits.EXPIRY_MS_MAX
    assert oldest_ms < limits.FORMER_PACKETS_MS


# --- look-ups, fair between peers


def arrive_from(setup: DriverSetup, peer: Peer, *sender_ids: int) -> None:
    for sender_id in sender_ids:
        octets = encode(setup.prepare(destination="g.alice"))
        setup.driver.arrived(peer, octets, sender_id, setup.connection, sender_id, again=True)


def test_peers_take_turns_at_the_ledger(
    setup: DriverSetup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(switch_bounds, "PACKETS_LOOKED_UP_AT_ONCE_MAX", 4)
    setup.accounts.may_know_former = True
    arrive_from(setup, setup.alice, *range(1, 11))
    arrive_from(setup, setup.bob, 1, 2)
    first = setup.driver.to_look_up()
    assert first == [("alice", 1), ("bob", 1), ("alice", 2), ("bob", 2)]
    # What the ledger has not spoken about comes after all others.
    second = setup.driver.to_look_up()
    assert {one for one in second if one[0] == "alice"} == {("alice", 3), ("alice", 4)}


def test_with_all_places_taken_the_peer_with_the_most_gives_way(
    setup: DriverSetup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(switch_bounds, "PACKETS_ASKED_AGAIN_MAX", 4)
    setup.accounts.may_know_former = True
    arrive_from(setup, setup.alice, *range(1, 11))
    arrive_from(setup, setup.bob, *range(1, 11))
    asked = setup.driver.to_look_up()
    assert len(asked) == 4
    assert sum(peer_id == "bob" for peer_id, _ in asked) == 2


def test_a_packet_that_is_recovered_already_needs_no_look_up(setup: DriverSetup) -> None:
    setup.accounts.may_know_former = True
    setup.accounts.recovered["alice", 11] = recovered()
    setup.arrive(sender_id=11, again=True)
    assert setup.driver.to_look_up() == []
    assert setup.outlet.sent[-1].again
