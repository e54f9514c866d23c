"""Loops of routes: a packet that comes back is refused, and equal packets of others are not."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import pytest

from connector.accounting.entries import Reserve
from connector.accounting.mirror import Book
from connector.accounting.promises import Outcome, Promise, Reservation
from connector.accounting.resent import Recovered
from connector.ilp.packet import Fulfill, Prepare, Reject, decode, encode
from connector.ledger.model import AccountCode, Transfer
from connector.peering.model import Asset, Peer, PeerRegistry, PeerTerms
from connector.peering.routing import Route, RouteSource, RoutingTable
from connector.switch import bounds
from connector.switch.receiver import PING_CONDITION
from connector.switch.rules import Node
from connector.switch.switch import PacketFlow, Post, Result, Send, Switch, Void
from connector.switch.terms import Rates

NOW_MS = 1_700_000_000_000
PREIMAGE = b"p" * 32
CONDITION = hashlib.sha256(PREIMAGE).digest()
USD, EUR = Asset("USD", 9), Asset("EUR", 9)
RESERVATION = Reservation(77 << 8, [], [])


def prepare(left_ms: int = 30_000, **fields: Any) -> Prepare:
    whole = {
        "amount": 1000,
        "expires_at_ms": NOW_MS + left_ms,
        "condition": CONDITION,
        "destination": "g.nowhere.shop",
        **fields,
    }
    packet = decode(encode(Prepare(**whole)))
    assert isinstance(packet, Prepare)
    return packet


class SwitchSetup:
    """A switch with some peers, whose default route leads to the last of them."""

    def __init__(
        self,
        node_id: str,
        *peer_ids: str,
        window_ms: int = 1000,
        hold_ms_max: int = 30_000,
        assets: Mapping[str, Asset] | None = None,
        **terms: Any,
    ) -> None:
        self.node_id = node_id
        self.now_ms = NOW_MS
        self.forwarded = 0
        self.held = 0
        self.peers = PeerRegistry(
            Peer(PeerTerms(peer_id=one, asset=(assets or {}).get(one, USD), **terms))
            for one in peer_ids
        )
        self.default = Route(RouteSource.CONFIG, peer_ids[-1], "")
        self.routes = RoutingTable([self.default])
        self.switch = Switch(
            node=Node(f"g.{node_id}"),
            peers=self.peers,
            routes=self.routes,
            rates=Rates({("USD", "EUR"): Fraction(2), ("EUR", "USD"): Fraction(2)}),
            now_ms=lambda: self.now_ms,
            window_ms=window_ms,
            hold_ms_max=hold_ms_max,
        )

    def forward(self, source: str, packet: Prepare) -> tuple[PacketFlow, Send | Reject]:
        """A packet, until it waits for its next hop or is refused."""
        flow = self.switch.forward(self.peers[source], packet, 77 << 8)
        try:
            step = flow.send(None)
            if isinstance(step, Reserve):
                self.held += 1
                step = flow.send(RESERVATION)
        except StopIteration as end:
            return flow, rejected(end.value)
        assert isinstance(step, Send)
        self.forwarded += 1
        return flow, step

    def sent(self, source: str, packet: Prepare) -> tuple[PacketFlow, Prepare]:
        """A packet that waits for its next hop, and the packet as sent."""
        flow, step = self.forward(source, packet)
        assert isinstance(step, Send), step
        onward = decode(step.octets)
        assert isinstance(onward, Prepare)
        return flow, onward

    def refused(self, source: str, packet: Prepare) -> Reject:
        _, step = self.forward(source, packet)
        assert isinstance(step, Reject), step
        return step

    def found(self) -> list[tuple[str, str, str, int]]:
        return [
            (one.source_id, one.prefix, one.next_hop_id, one.packets)
            for one in self.switch.loops.current(self.now_ms)
        ]


def rejected(result: Result) -> Reject:
    answer = decode(result.octets)
    assert isinstance(answer, Reject)
    return answer


def end(flow: PacketFlow, answer: Fulfill | Reject) -> Result:
    """Let the next hop answer."""
    try:
        step = flow.send(encode(answer))
        step = flow.send(Outcome.POSTED if isinstance(step, Post) else None)
    except StopIteration as stop:
        step = stop.value
    assert isinstance(step, Result), step
    return step


class Ring:
    """Nodes in a ring: the default route of each leads to the next one, and that of the last to the first."""

    def __init__(self, *setups: SwitchSetup) -> None:
        self.nodes = {one.node_id: one for one in setups}

    def send(self, at: str, packet: Prepare, source: str = "user") -> Reject:
        """A packet of a user of a node, to its end."""
        node = self.nodes[at]
        flow, step = node.forward(source, packet)
        if isinstance(step, Reject):
            return step
        onward = decode(step.octets)
        assert isinstance(onward, Prepare)
        answer = self.send(step.next_hop.peer_id, onward, at)
        try:
            assert isinstance(flow.send(encode(answer)), Void)
            flow.send(None)
        except StopIteration as stop:
            return rejected(stop.value)
        raise AssertionError

    @property
    def forwarded(self) -> list[int]:
        """How often each node has forwarded a packet, since the last look."""
        counts = [one.forwarded for one in self.nodes.values()]
        for one in self.nodes.values():
            one.forwarded = 0
        return counts


def ring(*node_ids: str, **settings: Any) -> Ring:
    return Ring(
        *(
            SwitchSetup(
                one, "user", node_ids[at - 1], node_ids[(at + 1) % len(node_ids)], **settings
            )
            for at, one in enumerate(node_ids)
        )
    )


# --- rings


def test_a_packet_in_a_ring_passes_each_node_twice_at_most() -> None:
    around = ring("a", "b", "c")
    answer = around.send("a", prepare())
    assert (answer.code, answer.triggered_by, answer.message) == ("F02", "g.a", "routing loop")
    assert around.forwarded == [2, 2, 2]
    assert around.nodes["a"].held == 2  # the third time it was refused before anything was held


def test_a_known_loop_costs_one_lap() -> None:
    around = ring("a", "b", "c")
    around.send("a", prepare())
    assert around.forwarded == [2, 2, 2]
    for number in range(5):
        other = hashlib.sha256(b"%d" % number).digest()
        answer = around.send("a", prepare(condition=other, data=b"other data"))
        assert (answer.code, answer.triggered_by) == ("F02", "g.a")
        assert around.forwarded == [1, 1, 1]
    assert around.nodes["a"].found() == [("c", "", "b", 6)]
    assert around.nodes["a"].switch.loops.packets == 6


def test_a_loop_that_another_node_knows_costs_less_too() -> None:
    """Whichever of them a packet comes back to refuses it."""
    around = ring("a", "b", "c")
    around.send("a", prepare())
    assert around.forwarded == [2, 2, 2]
    assert around.send("b", prepare()).triggered_by == "g.a"
    assert around.forwarded == [1, 2, 2]
    assert [one.found() for one in around.nodes.values()] == [[("c", "", "b", 2)], [], []]


@pytest.mark.parametrize("count", [3, 4, 7, 12])
def test_the_length_of_a_ring_does_not_matter(count: int) -> None:
    around = ring(*(f"n{number}" for number in range(count)))
    around.send("n0", prepare())
    assert around.forwarded == [2] * count


def test_nor_do_different_message_windows() -> None:
    around = Ring(
        SwitchSetup("a", "user", "c", "b", window_ms=1000),
        SwitchSetup("b", "a", "c", window_ms=333),
        SwitchSetup("c", "b", "a", window_ms=1700),
    )
    around.send("a", prepare())
    assert around.forwarded == [2, 2, 2]


def test_a_node_that_holds_for_a_shorter_time_costs_two_laps_more() -> None:
    """It shortens the first lap by more than the others."""
    around = Ring(
        SwitchSetup("a", "user", "c", "b"),
        SwitchSetup("b", "a", "c", hold_ms_max=20_000),
        SwitchSetup("c", "b", "a"),
    )
    around.send("a", prepare())
    assert around.forwarded == [4, 4, 4]
    around.send("a", prepare())
    assert around.forwarded == [1, 1, 1]


def test_amounts_that_grow_around_a_ring_do_not_hide_it() -> None:
    assets = {"c": EUR}
    around = Ring(
        SwitchSetup("a", "user", "c", "b"),
        SwitchSetup("b", "a", "c", assets=assets),
        SwitchSetup("c", "b", "a", assets={"b": EUR}),
    )
    around.send("a", prepare(amount=1))
    assert around.forwarded == [2, 2, 2]


def test_fees_do_not_hide_it() -> None:
    around = ring("a", "b", "c", fee_basis_points=250)
    around.send("a", prepare())
    assert around.forwarded == [2, 2, 2]


@pytest.mark.parametrize("fields", [{"amount": 0}, {"condition": PING_CONDITION, "amount": 1}])
def test_pings_and_packets_without_an_amount_do_not_loop_either(fields: dict[str, Any]) -> None:
    around = ring("a", "b", "c")
    around.send("a", prepare(**fields))
    assert around.forwarded == [2, 2, 2]
    around.send("a", prepare(**fields))
    assert around.forwarded == [1, 1, 1]


def test_two_nodes_that_reflect_packets_are_a_ring() -> None:
    around = Ring(
        SwitchSetup("a", "user", "b", allow_reflection=True),
        SwitchSetup("b", "a", allow_reflection=True),
    )
    around.send("a", prepare())
    assert around.forwarded == [2, 2]


def test_a_ring_is_found_where_a_node_of_another_kind_brings_its_packets_in() -> None:
    """All packets come from the same peer, also the first one: it takes one lap more."""

    def around(setups: list[SwitchSetup], packet: Prepare) -> int:
        """How often `packet` goes around, from node c, which forwards everything."""
        for laps in range(10):
            for setup, source in zip(setups, "ca", strict=True):
                _, step = setup.forward(source, packet)
                if isinstance(step, Reject):
                    return laps
                onward = decode(step.octets)
                assert isinstance(onward, Prepare)
                packet = onward
            packet = prepare(expires_at_ms=packet.expires_at_ms - 1000, data=packet.data)
        raise AssertionError

    setups = [SwitchSetup("a", "c", "b"), SwitchSetup("b", "a", "c")]
    assert around(setups, prepare()) == 3
    assert around(setups, prepare(data=b"other")) == 1


# --- packets that are equal, and not in a loop


def test_pings_of_many_at_once_are_all_forwarded() -> None:
    setup = SwitchSetup("a", "c", "d", "b")
    flows = [
        setup.sent("cd"[number % 2], prepare(condition=PING_CONDITION))[0] for number in range(1000)
    ]
    assert setup.found() == []
    for flow in flows:
        answer = end(flow, Reject(code="F99", triggered_by="g.x", message="no"))
        assert answer.code == "F99"
    assert not setup.switch.loops.waiting


def test_pings_with_less_time_than_those_before_are_forwarded() -> None:
    setup = SwitchSetup("a", "c", "d", "b")
    for number, left_ms in enumerate((30_000, 25_000, 19_998, 15_001, 10_000, 5000, 2500)):
        setup.sent("cd"[number % 2], prepare(left_ms, condition=PING_CONDITION))
    assert setup.found() == []


@pytest.mark.parametrize("apart", [2, 3])
def test_equal_packets_over_ways_of_different_lengths_are_forwarded(apart: int) -> None:
    """As of all nodes of a line in the same millisecond: `a` itself, and those before it."""
    setup = SwitchSetup("a", "user", "before", "b")
    setup.sent("user", prepare(30_000))
    for number in range(1, 9):
        setup.sent("before", prepare(30_000 - number * apart * 1000))
    assert setup.found() == []


def marked(setup: SwitchSetup, **fields: Any) -> int:
    """The time left of a packet of a user that comes back from c, 2 s earlier, for the second time."""
    left_ms = 30_000
    for source in ("user", "c"):
        _, onward = setup.sent(source, prepare(left_ms, **fields))
        left_ms = onward.expires_at_ms - 2000 - NOW_MS
    assert 24_000 - 600 < left_ms < 24_000 - 100
    return left_ms


def test_a_copy_is_only_what_is_equal_in_all_that_no_node_changes() -> None:
    setup = SwitchSetup("a", "user", "c", "b")
    left_ms = marked(setup)
    for fields in (
        {"destination": "g.nowhere.else"},
        {"data": b"other"},
        {"condition": hashlib.sha256(b"other").digest()},
    ):
        setup.sent("c", prepare(left_ms, **fields))
    setup.sent("user", prepare(left_ms))  # it does not come from where it came from before
    assert setup.found() == []


@pytest.mark.parametrize(("other_ms", "is_loop"), [(1, False), (0, True), (-1, False)])
def test_a_packet_is_refused_only_if_its_expiry_has_the_mark(other_ms: int, is_loop: bool) -> None:
    setup = SwitchSetup("a", "user", "c", "b")
    _, step = setup.forward("c", prepare(marked(setup) + other_ms))
    assert isinstance(step, Reject) == is_loop


def test_a_marked_packet_is_held_for_as_long_as_its_sender_waits() -> None:
    setup = SwitchSetup("a", "user", "c", "b")
    setup.sent("user", prepare(30_000))
    hold = setup.switch.forward(setup.peers["c"], prepare(27_000), 77 << 8).send(None)
    assert isinstance(hold, Reserve)
    assert hold.hold_ms == 27_000


def test_a_mark_leaves_the_next_hop_enough_time() -> None:
    setup = SwitchSetup("a", "user", "c", "b")
    setup.sent("user", prepare(30_000))
    _, onward = setup.sent("c", prepare(2050))
    assert onward.expires_at_ms == NOW_MS + 1050


def test_a_packet_that_was_answered_is_not_looked_for_any_more() -> None:
    setup = SwitchSetup("a", "user", "c", "b")
    first, _ = setup.sent("user", prepare(30_000))
    second, onward = setup.sent("c", prepare(27_000))
    for flow in (second, first):
        assert end(flow, Fulfill(fulfillment=PREIMAGE)).code is None
    assert not setup.switch.loops.waiting
    setup.sent("c", prepare(expires_at_ms=onward.expires_at_ms - 2000))
    assert setup.found() == []


def test_a_packet_sent_again_by_a_peer_without_packet_ids_is_no_loop() -> None:
    setup = SwitchSetup("a", "c", "b")
    for _ in range(5):
        setup.sent("c", prepare(30_000))
    assert setup.found() == []


def test_a_packet_that_the_ledger_knows_is_not_compared() -> None:
    """It was forwarded before this process was started, and is asked for again."""
    setup = SwitchSetup("a", "user", "c", "b")
    left_ms = marked(setup)
    peers = [Book("a", AccountCode.PEER, one, USD) for one in ("c", "b")]
    legs = [Transfer(99 << 8, amount=1000)]
    held = Reservation(99 << 8, legs, [(peers[0], peers[1])], Promise.HELD)
    recovered = Recovered(held, "c", 11, "b", 0)
    flow = setup.switch.forward(setup.peers["c"], prepare(left_ms), 99 << 8, recovered)
    send = flow.send(None)
    assert isinstance(send, Send)
    assert send.again
    assert setup.found() == []
    assert setup.switch.loops.waiting == 1  # nor is another one compared with it


def test_a_packet_whose_route_has_changed_meanwhile_is_no_loop() -> None:
    setup = SwitchSetup("a", "user", "c", "b")
    left_ms = marked(setup)
    setup.routes.remove(setup.default)
    setup.routes.add(Route(RouteSource.CONFIG, "user", ""))
    setup.sent("c", prepare(left_ms))
    assert setup.found() == []


def test_equal_packets_of_a_sender_do_not_hide_each_other() -> None:
    """However many are sent at once, a millisecond apart: the loop is found, and then costs a lap."""
    around = ring("a", "b", "c")
    a, b, c = around.nodes.values()
    packets = [prepare(30_000 + number) for number in range(10)]
    refused = 0
    sources = "user"
    for _ in range(6):
        onward = []
        for packet in packets:
            _, step = a.forward(sources, packet)
            if isinstance(step, Reject):
                refused += 1
                continue
            sent = decode(step.octets)
            assert isinstance(sent, Prepare)
            onward.append(c.sent("b", b.sent("a", sent)[1])[1])
        packets, sources = onward, "c"
    assert not packets
    assert refused == 10
    assert a.found() == [("c", "", "b", 10)]


def test_an_answered_packet_with_the_same_condition_does_not_hide_a_loop() -> None:
    """A ping to somewhere else is sent first, and answered while another one goes round."""
    setup = SwitchSetup("a", "user", "c", "b")
    other, _ = setup.sent("user", prepare(condition=PING_CONDITION, destination="g.there"))
    fields = {"condition": PING_CONDITION}
    _, onward = setup.sent("user", prepare(30_000, **fields))
    end(other, Reject(code="F99", triggered_by="g.x", message="no"))
    left_ms = onward.expires_at_ms - 2000 - NOW_MS
    _, onward = setup.sent("c", prepare(left_ms, **fields))
    setup.refused("c", prepare(onward.expires_at_ms - 2000 - NOW_MS, **fields))
    assert setup.found() == [("c", "", "b", 1)]


# --- what is known of loops


def test_a_loop_is_forgotten_unless_packets_show_it_again() -> None:
    around = ring("a", "b", "c")
    around.send("a", prepare())
    assert around.forwarded == [2, 2, 2]
    for one in around.nodes.values():
        one.now_ms += bounds.LOOP_KNOWN_MS - 1
    late = prepare(bounds.LOOP_KNOWN_MS + 30_000)
    around.send("a", late)
    assert around.forwarded == [1, 1, 1]
    around.nodes["a"].now_ms += 1
    around.send("a", late)
    assert around.forwarded == [2, 2, 2]
    a = around.nodes["a"]
    assert a.found() == [("c", "", "b", 3)]
    a.now_ms += bounds.LOOP_SHOWN_MS
    assert a.found() == []
    assert a.switch.loops.packets == 3


def test_a_known_loop_refuses_nothing_of_other_peers_or_routes() -> None:
    setup = SwitchSetup("a", "user", "d", "c", "b")
    setup.routes.add(Route(RouteSource.CONFIG, "b", "g.b"))
    setup.refused("c", prepare(marked(setup)))
    assert setup.refused("c", prepare(20_000)).code == "F02"
    setup.sent("d", prepare(20_000))
    setup.sent("user", prepare(30_000, destination="g.b.shop"))
    setup.sent("c", prepare(20_000, destination="g.b.shop"))


def test_a_loop_is_told_at_once_and_then_at_a_limited_rate() -> None:
    around = ring("a", "b", "c")
    a = around.nodes["a"]
    loops = a.switch.loops
    around.send("a", prepare())
    [(loop, packets)] = loops.take_news(a.now_ms)
    assert (loop.source_id, loop.prefix, loop.next_hop_id) == ("c", "", "b")
    assert (loop.destination, packets) == ("g.nowhere.shop", 1)
    for _ in range(3):
        around.send("a", prepare())
    assert loops.take_news(a.now_ms + bounds.LOOP_TOLD_AGAIN_MS - 1) == []
    assert [count for _, count in loops.take_news(a.now_ms + bounds.LOOP_TOLD_AGAIN_MS)] == [3]
    assert loops.take_news(a.now_ms + 2 * bounds.LOOP_TOLD_AGAIN_MS) == []


def test_the_loops_that_are_known_are_bounded() -> None:
    count = bounds.LOOPS_MAX + 2
    setup = SwitchSetup("a", "user", *(f"p{number}" for number in range(count)), "b")
    for number in range(count):
        setup.now_ms += 1
        fields = {"condition": hashlib.sha256(b"%d" % number).digest()}
        left_ms = 30_000
        for source in ("user", f"p{number}"):
            _, onward = setup.sent(source, prepare(left_ms, **fields))
            left_ms = onward.expires_at_ms - 2000 - NOW_MS
        setup.refused(f"p{number}", prepare(left_ms, **fields))
    found = setup.found()
    assert len(found) == bounds.LOOPS_MAX
    assert found[0][0] == f"p{count - 1}"
    assert ("p0", "", "b", 1) not in found


def test_packets_with_the_condition_of_another_one_are_compared_with_their_own_kind() -> None:
    """A ping that waits for long hides no other one, and a sender cannot hide his packets so."""
    setup = SwitchSetup("a", "user", "c", "b")
    parked, _ = setup.sent("user", prepare(condition=PING_CONDITION, destination="g.silent"))
    flows = []
    left_ms = 30_000
    for source in ("user", "c"):
        flow, onward = setup.sent(source, prepare(left_ms, condition=PING_CONDITION))
        flows.append(flow)
        left_ms = onward.expires_at_ms - 2000 - NOW_MS
    setup.sent("c", prepare(left_ms, condition=PING_CONDITION, destination="g.elsewhere"))
    assert setup.refused("c", prepare(left_ms, condition=PING_CONDITION)).code == "F02"
    for flow in (*flows[::-1], parked):
        end(flow, Reject(code="F99", triggered_by="g.x", message="no"))
    assert setup.switch.loops.waiting == 1
