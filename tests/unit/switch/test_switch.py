"""The flow of one Prepare, driven by hand: what it asks for, and how it ends."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from fractions import Fraction
from typing import Any, TypeVar

import pytest

from connector.accounting.entries import Reserve
from connector.accounting.mirror import Book
from connector.accounting.promises import Outcome, Promise, Reservation
from connector.accounting.resent import Recovered
from connector.base import limits
from connector.ilp import ildcp
from connector.ilp.packet import (
    Answer,
    Code,
    Fulfill,
    Packet,
    Prepare,
    Reject,
    amount_too_large_data,
    decode,
    encode,
)
from connector.ledger.model import AccountCode, Transfer
from connector.peering.model import (
    LOCAL,
    Asset,
    Peer,
    PeerRegistry,
    PeerTerms,
    Relation,
    Unanswered,
)
from connector.peering.routing import Learned, Route, RouteSource, RoutingTable
from connector.switch import bounds
from connector.switch.receiver import PING_CONDITION, PING_FULFILLMENT, fulfillment_for
from connector.switch.rules import Node
from connector.switch.switch import Deliver, PacketFlow, Post, Result, Send, Step, Switch, Void
from connector.switch.terms import Rates

NOW_MS = 1_700_000_000_000
WINDOW_MS = 1000
HOLD_MS_MAX = 30_000
USD = Asset("USD", 9)
EUR = Asset("EUR", 9)
SECRET = b"a secret of the receiver's"
PREIMAGE = b"p" * 32
CONDITION = hashlib.sha256(PREIMAGE).digest()
PACKET_ID = 77 << 8
OWN = "g.us"

ALICE = PeerTerms(peer_id="alice", asset=USD)
TERMS = (
    ALICE,
    PeerTerms(peer_id="bob", asset=USD),
    PeerTerms(peer_id="carol", asset=EUR),
    PeerTerms(peer_id="kid", asset=EUR, relation=Relation.CHILD),
)
ROUTES = (
    Route(RouteSource.LOCAL, LOCAL, OWN),
    Route(RouteSource.CONFIG, "alice", "g.alice"),
    Route(RouteSource.CONFIG, "bob", "g.bob"),
    Route(RouteSource.CONFIG, "carol", "g.carol"),
    Route(RouteSource.CONFIG, "gone", "g.gone"),
)

T = TypeVar("T")


def prepare(**fields: Any) -> Prepare:
    """As it comes from a link: with its canonical octets."""
    whole = {
        "amount": 1000,
        "expires_at_ms": NOW_MS + 20_000,
        "condition": CONDITION,
        "destination": "g.bob.shop",
        "data": b"for bob",
        **fields,
    }
    packet = decode(encode(Prepare(**whole)))
    assert isinstance(packet, Prepare)
    return packet


class SwitchSetup:
    """A switch whose clock stands still, and whose steps the test takes itself."""

    def __init__(self, *, address: str = OWN, delivers: bool = False, **terms: Any) -> None:
        self.now_ms = NOW_MS
        self.node = Node(address)
        self.peers = PeerRegistry(
            Peer(replace(one, **terms) if one is ALICE else one) for one in TERMS
        )
        self.routes = RoutingTable(ROUTES)
        self.switch = Switch(
            node=self.node,
            peers=self.peers,
            routes=self.routes,
            rates=Rates({("USD", "EUR"): Fraction(1, 2)}),
            now_ms=lambda: self.now_ms,
            window_ms=WINDOW_MS,
            hold_ms_max=HOLD_MS_MAX,
            receiver_secret=SECRET,
            delivers=lambda: delivers,
        )

    def forward(self, offer: Prepare, source: str = "alice") -> PacketFlow:
        return self.switch.forward(self.peers[source], offer, PACKET_ID)

    def resume(self, offer: Prepare, recovered: Recovered) -> PacketFlow:
        source = self.peers[recovered.source_id]
        return self.switch.forward(source, offer, recovered.reservation.packet_id, recovered)

    def sent(self, offer: Prepare, **terms: Any) -> tuple[PacketFlow, Send]:
        """A flow that has its money and waits for the next hop."""
        flow = self.forward(offer)
        if offer.amount:
            asked(flow, Reserve)
            return flow, told(flow, RESERVATION, Send)
        return flow, asked(flow, Send)


RESERVATION = Reservation(PACKET_ID, [], [])


def go(flow: PacketFlow, outcome: object = None) -> Step | Result:
    try:
        return flow.send(outcome)
    except StopIteration as end:
        result: Result = end.value
        return result


def told(flow: PacketFlow, outcome: object, kind: type[T]) -> T:
    """What the flow does next when told `outcome`."""
    step = go(flow, outcome)
    assert isinstance(step, kind), step
    return step


def asked(flow: PacketFlow, kind: type[T]) -> T:
    return told(flow, None, kind)


def rejected(result: Step | Result, code: str, triggered_by: str = OWN) -> Reject:
    """The Reject that a flow ended with; the Result says the same."""
    assert isinstance(result, Result), result
    answer = decode(result.octets)
    assert isinstance(answer, Reject)
    assert (answer.code, answer.triggered_by) == (code, triggered_by)
    assert (result.code, result.triggered_by) == (code, triggered_by)
    assert result.message == answer.message
    assert "\n" not in answer.message
    for secret in ("alice", "bob", "carol", "kid", "1000", "Traceback", "0x"):
        assert secret not in answer.message  # nothing of ours is told to strangers
    return answer


def fulfilled(result: Step | Result) -> Fulfill:
    assert isinstance(result, Result), result
    assert result.code is None
    answer = decode(result.octets)
    assert isinstance(answer, Fulfill)
    return answer


# --- the whole way


def test_a_packet_is_held_sent_verified_posted_and_then_answered() -> None:
    setup = SwitchSetup()
    offer = prepare()
    flow = setup.forward(offer)

    hold = asked(flow, Reserve)
    assert (hold.source.peer_id, hold.next_hop.peer_id) == ("alice", "bob")
    assert (hold.amount_in, hold.fee, hold.amount_out) == (1000, 0, 1000)
    assert hold.condition == CONDITION
    assert hold.hold_ms == 20_000

    send = told(flow, RESERVATION, Send)
    assert (send.next_hop.peer_id, send.packet_id, send.again) == ("bob", PACKET_ID, False)
    assert send.deadline_ms == offer.expires_at_ms - WINDOW_MS
    onward = decode(send.octets)
    assert onward == prepare(expires_at_ms=send.deadline_ms)

    answer = encode(Fulfill(fulfillment=PREIMAGE, data=b"thanks"))
    post = told(flow, answer, Post)
    assert (post.reservation, post.expires_at_ms) == (RESERVATION, offer.expires_at_ms)

    result = told(flow, Outcome.POSTED, Result)
    assert result.octets is answer  # not a byte of it was touched
    assert (result.code, result.next_hop, result.amount_out) == (None, "bob", 1000)


def test_a_released_post_is_answered_like_a_booked_one() -> None:
    flow, _ = SwitchSetup().sent(prepare())
    told(flow, encode(Fulfill(fulfillment=PREIMAGE)), Post)
    fulfilled(go(flow, Outcome.RELEASED))


def test_the_fee_stays_here_and_is_reported() -> None:
    setup = SwitchSetup(fee_basis_points=30)
    flow = setup.forward(prepare())
    hold = asked(flow, Reserve)
    assert (hold.amount_in, hold.fee, hold.amount_out) == (1000, 3, 997)
    send = told(flow, RESERVATION, Send)
    assert decode(send.octets).amount == 997  # type: ignore[union-attr]
    told(flow, encode(Fulfill(fulfillment=PREIMAGE)), Post)
    result = told(flow, Outcome.POSTED, Result)
    assert (result.amount_out, result.fee) == (997, 3)


def test_another_asset_is_offered_at_the_rate() -> None:
    setup = SwitchSetup(fee_basis_points=100)
    flow = setup.forward(prepare(destination="g.carol"))
    hold = asked(flow, Reserve)
    assert (hold.next_hop.asset, hold.fee, hold.amount_out) == (EUR, 10, 495)
    assert decode(told(flow, RESERVATION, Send).octets).amount == 495  # type: ignore[union-attr]


def test_a_packet_of_amount_zero_holds_nothing() -> None:
    """STREAM probes rates with it (requirement 37)."""
    flow, send = SwitchSetup().sent(prepare(amount=0))
    assert decode(send.octets).amount == 0  # type: ignore[union-attr]
    fulfilled(go(flow, encode(Fulfill(fulfillment=PREIMAGE))))


def test_a_packet_of_amount_zero_voids_nothing() -> None:
    flow, _ = SwitchSetup().sent(prepare(amount=0))
    rejected(go(flow, Unanswered.TIMED_OUT), "R00")


@pytest.mark.parametrize(
    ("left_ms", "deadline_ms", "hold_ms"),
    [
        (2000, 1000, 2000),
        (HOLD_MS_MAX, HOLD_MS_MAX - WINDOW_MS, HOLD_MS_MAX),
        (HOLD_MS_MAX + 1, HOLD_MS_MAX - WINDOW_MS, HOLD_MS_MAX),
        (10**9, HOLD_MS_MAX - WINDOW_MS, HOLD_MS_MAX),
    ],
)
def test_the_onward_expiry_leaves_a_window_and_is_capped(
    left_ms: int, deadline_ms: int, hold_ms: int
) -> None:
    """Requirements 6, 7 and 33."""
    flow = SwitchSetup().forward(prepare(expires_at_ms=NOW_MS + left_ms))
    assert asked(flow, Reserve).hold_ms == hold_ms
    send = told(flow, RESERVATION, Send)
    assert send.deadline_ms == NOW_MS + deadline_ms
    assert decode(send.octets).expires_at_ms == NOW_MS + deadline_ms  # type: ignore[union-attr]


def test_condition_destination_and_data_pass_unchanged_in_any_form() -> None:
    """A Prepare that did not come in canonical form is encoded anew (requirement 29)."""
    offer = prepare()
    offer.wire = None
    _, send = SwitchSetup().sent(offer)
    onward = decode(send.octets)
    assert isinstance(onward, Prepare)
    assert (onward.condition, onward.destination, onward.data) == (
        offer.condition,
        offer.destination,
        offer.data,
    )


# --- what is refused at once


@pytest.mark.parametrize(
    ("offer", "code"),
    [
        ({"expires_at_ms": NOW_MS}, "R00"),
        ({"expires_at_ms": NOW_MS + 2 * WINDOW_MS - 1}, "R02"),
        ({"amount": 5001}, "F08"),
        ({"destination": "g.nowhere"}, "F02"),
        ({"destination": "g.bobby"}, "F02"),
        ({"destination": "g.gone"}, "F02"),
        ({"destination": "g.alice.shop"}, "F02"),
        ({"destination": "test.bob"}, "F02"),
        ({"destination": "peer.unknown"}, "F01"),
        ({"destination": "g.us.someone", "expires_at_ms": NOW_MS + 1999}, "R02"),
        ({"destination": "g.us.someone"}, "F06"),
        ({"destination": "g.us.~payer"}, "T00"),
        ({"destination": "g.carol", "amount": 1}, "R01"),
    ],
)
def test_an_inadmissible_packet_is_refused_before_money_moves(
    offer: dict[str, Any], code: str
) -> None:
    setup = SwitchSetup(max_packet_amount=5000)
    rejected(go(setup.forward(prepare(**offer))), code)


def test_a_packet_may_go_back_to_a_sender_that_wants_it() -> None:
    flow = SwitchSetup(allow_reflection=True).forward(prepare(destination="g.alice.shop"))
    assert asked(flow, Reserve).next_hop.peer_id == "alice"


def test_a_packet_for_a_next_hop_that_is_away_takes_the_second_best_route() -> None:
    """Requirement 36, as far as nothing is held yet; never one that is away, too, or the sender."""
    setup = SwitchSetup()
    for number, peer_id in enumerate(("alice", "carol", "bob")):
        learned = Learned(path=("g.x",) * (number + 1), auth=bytes(32))
        setup.routes.add(Route(RouteSource.PEER, peer_id, "g.x", learned))
    offer = prepare(destination="g.x.shop")
    assert asked(setup.forward(offer, "bob"), Reserve).next_hop.peer_id == "alice"
    setup.peers["alice"].away = True
    assert asked(setup.forward(offer, "bob"), Reserve).next_hop.peer_id == "carol"
    setup.peers["carol"].away = True
    assert asked(setup.forward(offer, "bob"), Reserve).next_hop.peer_id == "alice"
    setup.peers["alice"].away = False
    assert asked(setup.forward(offer, "bob"), Reserve).next_hop.peer_id == "alice"


def test_a_learned_route_that_leads_back_is_a_passing_reason() -> None:
    setup = SwitchSetup()
    learned = Learned(path=("g.alice",), auth=bytes(32))
    setup.routes.add(Route(RouteSource.PEER, "alice", "g.x", learned))
    rejected(go(setup.forward(prepare(destination="g.x.shop"))), "T01")


def test_a_packet_over_the_limit_gets_f08_with_the_limit() -> None:
    """Requirement 35: two u64, received and maximum."""
    setup = SwitchSetup(max_packet_amount=5000)
    answer = rejected(go(setup.forward(prepare(amount=5001))), "F08")
    assert answer.data == amount_too_large_data(5001, 5000)


def test_without_a_rate_no_packet_changes_its_asset() -> None:
    setup = SwitchSetup()
    offer = prepare(destination="g.bob")
    result = go(setup.forward(offer, source="carol"))
    assert rejected(result, "T00").message == "no exchange rate"
    assert isinstance(result, Result)
    assert result.next_hop == "bob"


@pytest.mark.parametrize(
    ("outcome", "code"),
    [
        (Outcome.NO_CREDIT, "T04"),
        (Outcome.NO_PAYABLE, "T04"),
        (Outcome.NO_ROOM, "T04"),
        (Outcome.BUSY, "T05"),
        (Outcome.UNAVAILABLE, "T00"),
    ],
)
@pytest.mark.parametrize("destination", ["g.bob", f"{OWN}.ping"])
def test_a_packet_without_a_hold_is_not_forwarded(
    outcome: Outcome, code: str, destination: str
) -> None:
    flow = SwitchSetup().forward(prepare(destination=destination, condition=PING_CONDITION))
    asked(flow, Reserve)
    rejected(go(flow, outcome), code)


@pytest.mark.parametrize(("late_ms", "promised"), [(-1, True), (0, False), (1, False)])
def test_a_packet_that_expired_in_the_ledger_is_not_forwarded(
    late_ms: int, *, promised: bool
) -> None:
    setup = SwitchSetup()
    flow = setup.forward(prepare())
    asked(flow, Reserve)
    setup.now_ms = NOW_MS + 19_000 + late_ms
    if promised:
        told(flow, RESERVATION, Send)
    else:
        assert told(flow, RESERVATION, Void).reservation is RESERVATION
        rejected(go(flow), "R00")


# --- what the next hop says


def test_a_reject_is_passed_on_untouched() -> None:
    """Requirement 30: code, triggered-by, message and data are the other's."""
    theirs = encode(Reject(code="F99", triggered_by="g.far.away", message="no", data=b"\0\1"))
    flow, _ = SwitchSetup().sent(prepare())
    void = told(flow, theirs, Void)
    assert void.reservation is RESERVATION
    result = asked(flow, Result)
    assert result.octets is theirs
    assert (result.code, result.triggered_by, result.message) == ("F99", "g.far.away", "no")
    assert result.next_hop == "bob"


def long_form(packet: Answer) -> bytes:
    """The same packet with an octet behind its last field: legal, but not canonical."""
    canonical = encode(packet)
    assert canonical[1] < 0x7F
    return canonical[:1] + bytes([canonical[1] + 1]) + canonical[2:] + b"\0"


@pytest.mark.parametrize(
    "answer",
    [
        Fulfill(fulfillment=PREIMAGE, data=b"d"),
        Reject(code="T99", triggered_by="g.x", message="m"),
    ],
)
def test_an_answer_in_another_form_is_passed_on_in_the_canonical_one(answer: Answer) -> None:
    flow, _ = SwitchSetup().sent(prepare())
    go(flow, long_form(answer))
    result = go(flow)
    assert isinstance(result, Result)
    assert result.octets == encode(answer)


@pytest.mark.parametrize(
    ("said", "code"),
    [
        (Unanswered.NOT_SENT, "T01"),
        (Unanswered.TIMED_OUT, "R00"),
        (Unanswered.LINK_LOST, "T00"),
        (Unanswered.REFUSED, "T00"),
        (Unanswered.BUSY, "T02"),
        (encode(Fulfill(fulfillment=b"q" * 32)), "F05"),
        (b"", "T00"),
        (b"\xff\xff", "T00"),
        (b"\x0d\x02\x00", "T00"),
        (encode(prepare()), "T00"),
    ],
)
def test_without_a_valid_fulfillment_the_hold_is_voided(said: object, code: str) -> None:
    """Defects 4, 13 and 21: the money is given back, and no parser's words are passed on."""
    flow, _ = SwitchSetup().sent(prepare())
    assert told(flow, said, Void).reservation is RESERVATION
    rejected(go(flow), code)


def test_every_unanswered_reason_has_a_code() -> None:
    for said in Unanswered:
        flow, _ = SwitchSetup().sent(prepare(amount=0))
        assert isinstance(go(flow, said), Result)


@pytest.mark.parametrize("said", [b"", b"\x0e\x00", encode(prepare())])
def test_malformed_answers_are_counted_against_the_next_hop(said: bytes) -> None:
    setup = SwitchSetup()
    flow, send = setup.sent(prepare())
    go(flow, said)
    assert send.next_hop.counters.answers_malformed == 1
    assert setup.peers["alice"].counters.answers_malformed == 0


@pytest.mark.parametrize(("late_ms", "code"), [(-1, None), (0, "R00"), (1, "R00")])
def test_a_fulfill_counts_until_the_expiry_on_that_link(late_ms: int, code: str | None) -> None:
    """Requirement 11: the right preimage, and in time."""
    setup = SwitchSetup()
    flow, send = setup.sent(prepare())
    setup.now_ms = send.deadline_ms + late_ms
    answer = encode(Fulfill(fulfillment=PREIMAGE))
    if code is None:
        told(flow, answer, Post)
        assert send.next_hop.counters.answers_late == 0
    else:
        told(flow, answer, Void)
        rejected(go(flow), code)
        assert send.next_hop.counters.answers_late == 1


def test_a_late_reject_is_still_a_reject() -> None:
    setup = SwitchSetup()
    flow, send = setup.sent(prepare())
    setup.now_ms = send.deadline_ms + 5
    told(flow, encode(Reject(code="F99", triggered_by="g.x")), Void)
    rejected(go(flow), "F99", "g.x")


# --- packets for this node


def test_a_ping_is_held_answered_and_posted() -> None:
    flow = SwitchSetup().forward(prepare(destination=OWN, condition=PING_CONDITION))
    hold = asked(flow, Reserve)
    assert (hold.source.peer_id, hold.next_hop.peer_id) == ("alice", LOCAL)
    assert hold.next_hop.asset == hold.source.asset
    assert (hold.amount_in, hold.fee, hold.amount_out) == (1000, 0, 1000)
    told(flow, RESERVATION, Post)
    result = told(flow, Outcome.POSTED, Result)
    assert fulfilled(result).fulfillment == PING_FULFILLMENT
    assert (result.next_hop, result.amount_out, result.fee) == (LOCAL, 1000, 0)


def test_a_ping_of_amount_zero_is_answered_at_once() -> None:
    flow = SwitchSetup().forward(
        prepare(destination=f"{OWN}.x", condition=PING_CONDITION, amount=0)
    )
    assert fulfilled(go(flow)).fulfillment == PING_FULFILLMENT


def test_a_packet_made_with_the_receiver_secret_is_accepted() -> None:
    preimage = fulfillment_for(SECRET, b"order 1")
    condition = hashlib.sha256(preimage).digest()
    offer = prepare(destination=f"{OWN}.shop", condition=condition, data=b"order 1")
    flow = SwitchSetup().forward(offer)
    asked(flow, Reserve)
    told(flow, RESERVATION, Post)
    assert fulfilled(go(flow, Outcome.POSTED)).fulfillment == preimage


def test_a_handler_is_asked_while_the_money_is_held() -> None:
    flow = SwitchSetup(delivers=True).forward(prepare(destination=f"{OWN}.shop"))
    asked(flow, Reserve)
    deliver = told(flow, RESERVATION, Deliver)
    assert deliver.source.peer_id == "alice"
    assert deliver.prepare.destination == f"{OWN}.shop"
    assert deliver.deadline_ms == NOW_MS + 19_000
    told(flow, Fulfill(fulfillment=PREIMAGE, data=b"receipt"), Post)
    assert fulfilled(go(flow, Outcome.POSTED)).data == b"receipt"


@pytest.mark.parametrize(
    ("said", "code", "by"),
    [
        (Reject(code="F99", triggered_by="g.us.shop", message="sold out"), "F99", "g.us.shop"),
        (Fulfill(fulfillment=b"q" * 32), "F05", OWN),
        (Unanswered.TIMED_OUT, "R00", OWN),
    ],
)
def test_without_a_valid_fulfillment_of_the_handler_the_hold_is_voided(
    said: object, code: str, by: str
) -> None:
    flow = SwitchSetup(delivers=True).forward(prepare(destination=f"{OWN}.shop"))
    asked(flow, Reserve)
    told(flow, RESERVATION, Deliver)
    told(flow, said, Void)
    rejected(go(flow), code, by)


def test_a_handler_that_is_late_is_not_paid() -> None:
    setup = SwitchSetup(delivers=True)
    flow = setup.forward(prepare(destination=f"{OWN}.shop"))
    asked(flow, Reserve)
    setup.now_ms = told(flow, RESERVATION, Deliver).deadline_ms
    told(flow, Fulfill(fulfillment=PREIMAGE), Void)
    rejected(go(flow), "R00")


def test_a_packet_of_amount_zero_for_the_handler_needs_no_ledger() -> None:
    flow = SwitchSetup(delivers=True).forward(prepare(destination=f"{OWN}.shop", amount=0))
    asked(flow, Deliver)
    rejected(go(flow, Reject(code="F99", triggered_by=OWN)), "F99")


# --- between neighbours


def config_request(**fields: Any) -> Prepare:
    return prepare(
        **{
            "amount": 0,
            "condition": ildcp.PEER_CONDITION,
            "destination": ildcp.DESTINATION,
            "data": b"",
            **fields,
        }
    )


def test_a_child_is_told_its_address_and_asset() -> None:
    """Requirement 44."""
    answer = fulfilled(go(SwitchSetup().forward(config_request(), source="kid")))
    assert answer.fulfillment == bytes(32)
    assert ildcp.read_answer(answer) == ildcp.ChildConfig(
        address="g.us.kid", asset_scale=9, asset_code="EUR"
    )


def settle_message(**fields: Any) -> Prepare:
    return prepare(**{"amount": 0, "destination": "peer.settle", "data": b"hello", **fields})


def test_a_message_for_the_settlement_engine_is_answered_under_any_condition() -> None:
    """Requirements 66 and 67: RFC 38 gives a condition that no fulfilment of zeros has."""
    setup = SwitchSetup()
    setup.routes.add(Route(RouteSource.CONFIG, "bob", ""))
    flow = setup.forward(settle_message())
    deliver = asked(flow, Deliver)
    assert (deliver.source.peer_id, deliver.prepare.data) == ("alice", b"hello")
    assert deliver.deadline_ms == NOW_MS + 20_000
    answer = fulfilled(go(flow, Fulfill(fulfillment=bytes(32), data=b"hello back")))
    assert (answer.fulfillment, answer.data) == (bytes(32), b"hello back")


@pytest.mark.parametrize(
    ("said", "code"),
    [
        (Reject(code="F00", triggered_by="peer.settle", message="what?"), "F00"),
        (Unanswered.TIMED_OUT, "R00"),
    ],
)
def test_a_message_that_the_settlement_engine_does_not_answer_is_rejected(
    said: object, code: str
) -> None:
    flow = SwitchSetup().forward(settle_message())
    asked(flow, Deliver)
    rejected(go(flow, said), code, "peer.settle")


def test_a_message_for_the_settlement_engine_carries_no_money() -> None:
    rejected(go(SwitchSetup().forward(settle_message(amount=1))), "F01", "peer.settle")


@pytest.mark.parametrize(
    ("source", "fields", "code"),
    [
        ("alice", {}, "F00"),
        ("kid", {"amount": 1}, "F01"),
        ("kid", {"condition": CONDITION}, "F01"),
        ("kid", {"destination": "peer.other"}, "F01"),
        ("kid", {"destination": "peer.settle.more"}, "F01"),
    ],
)
def test_other_peer_protocols_are_refused(source: str, fields: dict[str, Any], code: str) -> None:
    """Requirement 45, and defect 5: `peer.` is never routed, whatever the table says."""
    setup = SwitchSetup()
    setup.routes.add(Route(RouteSource.CONFIG, "bob", ""))
    rejected(go(setup.forward(config_request(**fields), source=source)), code)


def test_a_node_without_an_address_rejects_ildcp() -> None:
    """Requirement 46: no made-up address, and the child may ask again."""
    rejected(go(SwitchSetup(address="").forward(config_request(), source="kid")), "T03", "")


def test_a_peer_protocol_request_is_sent_unchanged() -> None:
    setup = SwitchSetup()
    question = ildcp.request(NOW_MS + 5000)
    flow = setup.switch.ask(setup.peers["bob"], question, PACKET_ID)
    send = asked(flow, Send)
    assert (send.octets, send.deadline_ms) == (encode(question), NOW_MS + 5000)
    answer = encode(
        ildcp.answer(ildcp.ChildConfig(address="g.bob.us", asset_scale=2, asset_code="X"))
    )
    result = told(flow, answer, Result)
    assert (result.octets, result.code, result.next_hop) == (answer, None, "bob")


def test_a_peer_protocol_request_without_an_answer_ends_as_a_reject() -> None:
    setup = SwitchSetup()
    flow = setup.switch.ask(setup.peers["bob"], ildcp.request(NOW_MS + 5000), PACKET_ID)
    asked(flow, Send)
    rejected(go(flow, Unanswered.LINK_LOST), "T00")


# --- packets that were under way when this node stopped


def book(code: AccountCode, peer_id: str, asset: Asset = USD) -> Book:
    return Book("us", code, peer_id, asset)


def recovered(next_hop: str, *, posted: bool = False, fee: int = 0) -> Recovered:
    """1000 of alice's, held for `next_hop`; with a fee in legs as they are booked."""
    alice = book(AccountCode.PEER, "alice")
    wallet = book(AccountCode.WALLET, LOCAL)
    target = wallet if next_hop == LOCAL else book(AccountCode.PEER, next_hop)
    legs = [Transfer(PACKET_ID, amount=1000 - fee)]
    books = [(alice, target)]
    if fee:
        legs.append(Transfer(PACKET_ID | 1, amount=fee))
        books.append((alice, book(AccountCode.REVENUE, LOCAL)))
    state = Promise.BOOKED if posted else Promise.HELD
    return Recovered(Reservation(PACKET_ID, legs, books, state), "alice", 11, next_hop, 0)


def test_a_held_resent_packet_is_forwarded_under_its_id_and_posted() -> None:
    setup = SwitchSetup()
    offer = prepare()
    found = recovered("bob", fee=3)
    flow = setup.resume(offer, found)
    send = asked(flow, Send)
    assert (send.next_hop.peer_id, send.packet_id, send.again) == ("bob", PACKET_ID, True)
    assert decode(send.octets) == prepare(amount=997, expires_at_ms=NOW_MS + 19_000)
    post = told(flow, encode(Fulfill(fulfillment=PREIMAGE)), Post)
    assert (post.reservation, post.expires_at_ms) == (found.reservation, offer.expires_at_ms)
    result = told(flow, Outcome.POSTED, Result)
    assert (result.code, result.next_hop, result.amount_out) == (None, "bob", 997)


def test_a_posted_resent_packet_is_answered_without_a_second_post() -> None:
    """Once: the second answer costs nobody anything."""
    flow = SwitchSetup().resume(prepare(), recovered("bob", posted=True))
    asked(flow, Send)
    fulfilled(go(flow, encode(Fulfill(fulfillment=PREIMAGE))))


@pytest.mark.parametrize("said", [encode(Reject(code="F99", triggered_by="g.bob")), b"?"])
def test_a_posted_resent_packet_is_never_voided(said: bytes) -> None:
    flow = SwitchSetup().resume(prepare(), recovered("bob", posted=True))
    asked(flow, Send)
    assert told(flow, said, Result).code in ("F99", "T00")


def test_a_held_resent_packet_is_voided_when_the_next_hop_rejects() -> None:
    found = recovered("bob")
    flow = SwitchSetup().resume(prepare(), found)
    asked(flow, Send)
    assert told(flow, Unanswered.LINK_LOST, Void).reservation is found.reservation
    rejected(go(flow), "T00")


@pytest.mark.parametrize(
    ("next_hop", "left_ms"), [("gone", 20_000), ("bob", WINDOW_MS), ("bob", 1)]
)
def test_a_held_resent_packet_is_voided_without_a_next_hop_or_time_to_ask_it(
    next_hop: str, left_ms: int
) -> None:
    flow = SwitchSetup().resume(prepare(expires_at_ms=NOW_MS + left_ms), recovered(next_hop))
    asked(flow, Void)
    rejected(go(flow), "T00")


def test_a_posted_resent_packet_without_a_next_hop_is_rejected() -> None:
    rejected(go(SwitchSetup().resume(prepare(), recovered("gone", posted=True))), "T00")


@pytest.mark.parametrize("left_ms", [WINDOW_MS, 1, -30_000])
def test_a_posted_resent_packet_is_fulfilled_although_it_is_over_by_this_clock(
    left_ms: int,
) -> None:
    """The next hop is told the packet's own expiry, so that it refuses what it does not know."""
    setup = SwitchSetup()
    offer = prepare(expires_at_ms=NOW_MS + left_ms)
    flow = setup.resume(offer, recovered("bob", posted=True))
    send = asked(flow, Send)
    assert send.deadline_ms == NOW_MS + bounds.POSTED_ANSWER_MS
    onward = decode(send.octets)
    assert isinstance(onward, Prepare)
    assert onward.expires_at_ms == offer.expires_at_ms - WINDOW_MS <= NOW_MS
    setup.now_ms += bounds.POSTED_ANSWER_MS - 1
    fulfilled(go(flow, encode(Fulfill(fulfillment=PREIMAGE))))


def test_a_posted_resent_packet_that_is_over_by_every_clock_asks_nobody() -> None:
    offer = prepare(expires_at_ms=NOW_MS - limits.CLOCK_ERROR_MS - 1)
    rejected(go(SwitchSetup().resume(offer, recovered("bob", posted=True))), "T00")
    offer = prepare(expires_at_ms=offer.expires_at_ms, destination=OWN)
    setup = SwitchSetup(delivers=True)
    rejected(go(setup.resume(offer, recovered(LOCAL, posted=True))), "T00")


def test_a_posted_packet_for_a_receiver_here_is_delivered_although_it_is_over_by_this_clock() -> (
    None
):
    setup = SwitchSetup(delivers=True)
    offer = prepare(expires_at_ms=NOW_MS - limits.CLOCK_ERROR_MS, destination=OWN)
    flow = setup.resume(offer, recovered(LOCAL, posted=True))
    assert asked(flow, Deliver).deadline_ms == NOW_MS + bounds.POSTED_ANSWER_MS
    fulfilled(go(flow, Fulfill(fulfillment=PREIMAGE)))


def test_a_held_packet_for_a_receiver_here_that_has_expired_is_voided_and_not_delivered() -> None:
    setup = SwitchSetup(delivers=True)
    offer = prepare(expires_at_ms=NOW_MS, destination=OWN)
    flow = setup.resume(offer, recovered(LOCAL))
    asked(flow, Void)
    rejected(go(flow), "T00")


def test_a_held_packet_for_this_node_is_answered_again() -> None:
    flow = SwitchSetup().resume(
        prepare(condition=PING_CONDITION, destination=OWN), recovered(LOCAL)
    )
    asked(flow, Post)
    result = told(flow, Outcome.POSTED, Result)
    assert fulfilled(result).fulfillment == PING_FULFILLMENT
    assert (result.next_hop, result.amount_out) == (LOCAL, 1000)


ORDER = fulfillment_for(SECRET, b"order 1")
ORDER_CONDITION = hashlib.sha256(ORDER).digest()


@pytest.mark.parametrize(
    ("condition", "data", "answers"),
    [
        (PING_CONDITION, b"", True),
        (PING_CONDITION, b"any data", True),
        (ORDER_CONDITION, b"order 1", True),
        (ORDER_CONDITION, b"order 2", False),
        (hashlib.sha256(PREIMAGE).digest(), b"order 1", False),
    ],
)
def test_this_node_answers_pings_and_packets_of_its_secret_itself(
    condition: bytes, data: bytes, *, answers: bool
) -> None:
    switch = SwitchSetup(delivers=True).switch
    offer = prepare(destination=f"{OWN}.shop", condition=condition, data=data)
    assert switch.answers_itself(offer) is answers
    assert switch.answers_itself(offer) is answers  # as often as it is resent


@pytest.mark.parametrize(
    ("condition", "data", "fulfillment"),
    [(PING_CONDITION, b"", PING_FULFILLMENT), (ORDER_CONDITION, b"order 1", ORDER)],
)
def test_a_posted_packet_that_this_node_answers_itself_is_answered_again_and_not_booked_again(
    condition: bytes, data: bytes, fulfillment: bytes
) -> None:
    offer = prepare(destination=f"{OWN}.shop", condition=condition, data=data)
    flow = SwitchSetup(delivers=True).resume(offer, recovered(LOCAL, posted=True))
    result = asked(flow, Result)
    assert fulfilled(result).fulfillment == fulfillment
    assert (result.next_hop, result.amount_out) == (LOCAL, 1000)


def test_a_held_packet_for_the_handler_is_delivered_again() -> None:
    found = recovered(LOCAL)
    flow = SwitchSetup(delivers=True).resume(prepare(destination=f"{OWN}.shop"), found)
    step = asked(flow, Deliver)
    assert (step.deadline_ms, step.packet_id) == (NOW_MS + 19_000, PACKET_ID)
    assert told(flow, Fulfill(fulfillment=PREIMAGE), Post).reservation is found.reservation
    fulfilled(go(flow, Outcome.POSTED))


def test_a_held_resent_packet_without_a_receiver_is_voided() -> None:
    flow = SwitchSetup().resume(prepare(destination=f"{OWN}.shop"), recovered(LOCAL))
    asked(flow, Void)
    rejected(go(flow), "F06")


def test_every_refusal_of_ours_names_us_and_has_a_known_code() -> None:
    known = {code.value for code in Code}
    setup = SwitchSetup()
    packets: list[Packet] = []
    for offer in (prepare(destination="g.nowhere"), prepare(destination="peer.x")):
        result = go(setup.forward(offer))
        assert isinstance(result, Result)
        packets.append(decode(result.octets))
    for packet in packets:
        assert isinstance(packet, Reject)
        assert packet.triggered_by == OWN
        assert packet.code in known
