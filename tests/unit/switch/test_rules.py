"""Admission: every rule on the line and one step over."""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest

from connector.base import limits
from connector.ilp.packet import Prepare, Reject
from connector.peering.model import Asset, Peer, PeerTerms
from connector.switch import bounds, rules
from connector.switch.rules import Node

NOW_MS = 1_700_000_000_000
TERMS = PeerTerms(peer_id="alice", asset=Asset("XRP", 9))


def prepare(
    *,
    destination: str = "g.bob",
    amount: int = 100,
    expires_at_ms: int = NOW_MS + 30_000,
    data: bytes = b"",
) -> Prepare:
    return Prepare(
        amount=amount,
        expires_at_ms=expires_at_ms,
        condition=bytes(32),
        destination=destination,
        data=data,
    )


def check(
    offer: Prepare,
    *,
    address: str = "g.us",
    stopping: bool = False,
    in_flight_total: int = 0,
    in_flight: int = 0,
    unpaid: int = 0,
    **terms: object,
) -> Reject | None:
    node = Node(address)
    node.stopping = stopping
    node.in_flight = max(in_flight_total, in_flight)  # its own count among them
    source = Peer(replace(TERMS, **terms), in_flight=in_flight, in_flight_unpaid=unpaid)
    return rules.check(node, source, offer, NOW_MS)


def code_of(refusal: Reject | None) -> str | None:
    return None if refusal is None else refusal.code


def test_a_new_node_has_nothing_in_flight_and_does_not_stop() -> None:
    node = Node("g.us")
    assert (node.address, node.in_flight, node.stopping, node.disk_full) == (
        "g.us", 0, False, False,
    )  # fmt: skip


def test_a_valid_prepare_is_admitted() -> None:
    assert check(prepare()) is None


@pytest.mark.parametrize("amount", [0, 1, limits.AMOUNT_MAX])
def test_without_a_limit_any_amount_is_admitted(amount: int) -> None:
    """Zero is what STREAM probes rates with (requirement 37)."""
    assert check(prepare(amount=amount)) is None


@pytest.mark.parametrize("destination", ["g.bob", "peer.config"])
def test_a_stopping_node_admits_nothing(destination: str) -> None:
    refusal = check(prepare(destination=destination), stopping=True)
    assert refusal == Reject(code="T03", triggered_by="g.us", message="shutting down")


def test_a_node_without_room_on_its_disk_takes_nothing_new_and_finishes_resent_packets() -> None:
    node, source = Node("g.us"), Peer(TERMS)
    node.disk_full = True
    refusal = rules.check(node, source, prepare(), NOW_MS)
    assert refusal == Reject(code="T00", triggered_by="g.us", message="no room on disk")
    assert rules.check(node, source, prepare(), NOW_MS, is_new=False) is None
    node.disk_full = False
    assert rules.check(node, source, prepare(), NOW_MS) is None


def test_a_node_without_an_address_takes_only_peer_protocols() -> None:
    refusal = check(prepare(), address="")
    assert refusal == Reject(code="T03", triggered_by="", message="no address yet")
    assert check(prepare(destination="peer.config"), address="") is None


@pytest.mark.parametrize(("left_ms", "code"), [(1, None), (0, "R00"), (-1, "R00")])
def test_a_prepare_is_admitted_until_it_expires(left_ms: int, code: str | None) -> None:
    assert code_of(check(prepare(expires_at_ms=NOW_MS + left_ms))) == code


@pytest.mark.parametrize(("amount", "code"), [(1000, None), (1001, "F08")])
def test_an_amount_may_be_exactly_the_largest_allowed(amount: int, code: str | None) -> None:
    assert code_of(check(prepare(amount=amount), max_packet_amount=1000)) == code


def test_an_f08_carries_the_amount_received_and_the_largest_allowed() -> None:
    refusal = check(prepare(amount=1001), max_packet_amount=1000)
    assert refusal is not None
    assert refusal.data == struct.pack(">QQ", 1001, 1000)


@pytest.mark.parametrize(
    ("largest", "in_flight", "allowed"),
    [(1000, None, 1000), (None, 900, 900), (1000, 900, 900), (900, 1000, 900)],
)
def test_a_packet_that_is_more_than_may_be_in_flight_could_never_pass(
    largest: int | None, in_flight: int | None, allowed: int
) -> None:
    """T04 would let its sender try for ever."""
    bounds_ = {"max_packet_amount": largest, "max_in_flight_value": in_flight}
    assert check(prepare(amount=allowed), **bounds_) is None
    refusal = check(prepare(amount=allowed + 1), **bounds_)
    assert refusal is not None
    assert (refusal.code, refusal.data) == ("F08", struct.pack(">QQ", allowed + 1, allowed))


def test_a_limit_of_zero_admits_only_zero() -> None:
    assert check(prepare(amount=0), max_packet_amount=0) is None
    assert code_of(check(prepare(amount=1), max_packet_amount=0)) == "F08"


@pytest.mark.parametrize(
    ("address", "destination", "code"),
    [
        ("g.us", "g.bob", None),
        ("g.us", "test.bob", "F02"),
        ("g.us", "test1.bob", "F02"),
        ("g.us", "test2.bob", "F02"),
        ("g.us", "test3.bob", "F02"),
        ("test.us", "g.bob", "F02"),
        ("test1.us", "g.bob", "F02"),
        ("test.us", "test.bob", None),
        ("test.us", "test1.bob", None),
        ("g.us", "private.bob", None),
        ("g.us", "example.bob", None),
        ("private.us", "g.bob", None),
        ("private.us", "test.bob", None),
        ("g.us", "peer.config", None),
        ("test.us", "peer.config", None),
    ],
)
def test_live_and_test_networks_are_kept_apart(
    address: str, destination: str, code: str | None
) -> None:
    assert code_of(check(prepare(destination=destination), address=address)) == code


def test_a_node_that_is_told_another_address_keeps_to_its_new_network() -> None:
    node, source = Node(""), Peer(TERMS)
    for address, refused, taken in (
        ("test.us", "g.bob", "test.bob"),
        ("g.us", "test.bob", "g.bob"),
    ):
        node.set_address(address)
        assert node.address == address
        assert code_of(rules.check(node, source, prepare(destination=refused), NOW_MS)) == "F02"
        assert rules.check(node, source, prepare(destination=taken), NOW_MS) is None
    node.set_address("private.us")
    for destination in ("g.bob", "test.bob"):
        assert rules.check(node, source, prepare(destination=destination), NOW_MS) is None


TOTAL, OF_A_PEER = limits.IN_FLIGHT_BYTES_MAX, limits.IN_FLIGHT_BYTES_PER_PEER_MAX


@pytest.mark.parametrize(
    ("total", "of_peer", "octets", "code"),
    [
        (0, OF_A_PEER - 100, 100, None), (0, OF_A_PEER - 100, 101, "T05"),
        (TOTAL - 200, 100, 100, None), (TOTAL - 200, 100, 101, "T05"),
        (TOTAL - 100, 0, 100, None), (TOTAL - 100, 0, 101, "T03"),
        (TOTAL, OF_A_PEER, 0, None), (0, 0, limits.PACKET_DATA_BYTES_MAX, None),
    ],
)  # fmt: skip
@pytest.mark.parametrize("is_new", [True, False])
def test_data_in_flight_is_bounded_in_total_and_per_peer(
    total: int, of_peer: int, octets: int, code: str | None, *, is_new: bool
) -> None:
    """Memory is octets: 20,000 packets with all the data that they may have would take 1.3 GB."""
    node, source = Node("g.us"), Peer(TERMS, in_flight_bytes=of_peer)
    node.in_flight_bytes = max(total, of_peer)  # its own among them
    offer = prepare(data=bytes(octets))
    assert code_of(rules.check(node, source, offer, NOW_MS, is_new=is_new)) == code


@pytest.mark.parametrize(
    ("counts", "code"),
    [
        ({"in_flight_total": limits.IN_FLIGHT_TOTAL_MAX - 1}, None),
        ({"in_flight_total": limits.IN_FLIGHT_TOTAL_MAX}, "T03"),
        ({"in_flight": limits.IN_FLIGHT_PER_PEER_MAX - 1}, None),
        ({"in_flight": limits.IN_FLIGHT_PER_PEER_MAX}, "T05"),
        ({"in_flight_total": limits.IN_FLIGHT_TOTAL_MAX - 100, "in_flight": 99}, None),
        ({"in_flight_total": limits.IN_FLIGHT_TOTAL_MAX - 100, "in_flight": 100}, "T05"),
    ],
)
def test_packets_in_flight_are_bounded_in_total_and_per_peer(
    counts: dict[str, int], code: str | None
) -> None:
    assert code_of(check(prepare(), **counts)) == code


@pytest.mark.parametrize("greedy", [1, 4, 30, 300])
def test_however_many_peers_take_all_they_can_the_next_one_finds_room(greedy: int) -> None:
    node = Node("g.us")
    peers = [Peer(replace(TERMS, peer_id=f"p{number}")) for number in range(greedy)]
    while True:
        before = node.in_flight
        for peer in peers:
            if rules.check(node, peer, prepare(), NOW_MS) is None:
                peer.in_flight += 1
                node.in_flight += 1
        if node.in_flight == before:
            break
    honest = Peer(replace(TERMS, peer_id="honest"))
    for _ in range(limits.IN_FLIGHT_TOTAL_MAX // (greedy + 1) // 2):
        assert rules.check(node, honest, prepare(), NOW_MS) is None
        honest.in_flight += 1
        node.in_flight += 1
    assert node.in_flight <= limits.IN_FLIGHT_TOTAL_MAX


def test_there_are_fewer_places_for_packets_without_money() -> None:
    most = bounds.IN_FLIGHT_UNPAID_PER_PEER_MAX
    assert code_of(check(prepare(amount=0), unpaid=most - 1, in_flight=most)) is None
    assert code_of(check(prepare(amount=0), unpaid=most, in_flight=most)) == "T05"
    assert code_of(check(prepare(amount=1), unpaid=most, in_flight=most)) is None


def test_a_rate_limit_refuses_and_recovers_with_time() -> None:
    node, source = Node("g.us"), Peer(replace(TERMS, rate_limit=2))
    codes = [
        code_of(rules.check(node, source, prepare(), NOW_MS + ms)) for ms in (0, 0, 0, 499, 500)
    ]
    assert codes == [None, None, "T05", "T05", None]


@pytest.mark.parametrize(
    "offer",
    [
        prepare(expires_at_ms=NOW_MS),
        prepare(amount=1001),
        prepare(destination="test.bob"),
    ],
)
def test_a_prepare_refused_by_another_rule_costs_no_token(offer: Prepare) -> None:
    node = Node("g.us")
    source = Peer(replace(TERMS, rate_limit=1, max_packet_amount=1000))
    assert rules.check(node, source, offer, NOW_MS) is not None
    assert rules.check(node, source, prepare(), NOW_MS) is None


def test_the_first_objection_counts() -> None:
    offer = prepare(expires_at_ms=NOW_MS, amount=1001, destination="test.bob")
    wrong = {"max_packet_amount": 1000, "rate_limit": 0, "in_flight": limits.IN_FLIGHT_PER_PEER_MAX}
    assert code_of(check(offer, stopping=True, **wrong)) == "T03"
    assert code_of(check(offer, **wrong)) == "R00"
    offer.expires_at_ms = NOW_MS + 1
    assert code_of(check(offer, **wrong)) == "F08"
    offer.amount = 1
    assert code_of(check(offer, **wrong)) == "F02"
    offer.destination = "g.bob"
    assert code_of(check(offer, **wrong)) == "T05"
    assert code_of(check(offer, rate_limit=0)) == "T05"
    assert check(offer) is None


def test_every_refusal_comes_from_us_and_tells_nothing_about_accounts() -> None:
    refusals = [
        check(prepare(), stopping=True),
        check(prepare(expires_at_ms=NOW_MS)),
        check(prepare(amount=1001), max_packet_amount=1000),
        check(prepare(destination="test.bob")),
        check(prepare(), in_flight_total=limits.IN_FLIGHT_TOTAL_MAX),
        check(prepare(), in_flight=limits.IN_FLIGHT_PER_PEER_MAX),
        check(prepare(), rate_limit=0),
    ]
    for refusal in refusals:
        assert refusal is not None
        assert refusal.triggered_by == "g.us"
        assert refusal.message
        assert "alice" not in refusal.message
