"""Another way for a packet that its next hop has refused: when, under which id, and with which answer."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from connector import Fulfill, Prepare, Reject
from connector.accounting.entries import Reserve
from connector.accounting.promises import Outcome, Reservation
from connector.ilp.packet import Code, encode, reject
from connector.ledger.model import PENDING, first_id, second_id
from connector.peering.model import LOCAL, Peer, PeerTerms, Relation, Unanswered
from connector.peering.routing import Learned, Route, RouteSource
from connector.switch import ways
from connector.switch.switch import PacketFlow, Post, Rename, Result, Send, Void
from connector.switch.ways import Step, StepEvent
from tests.support.accounts import books_at_rest
from tests.support.clocks import simulate
from tests.support.in_memory import MemoryNetwork
from tests.unit.node.test_core import FULFILLMENT, Machine, peer, settings_of
from tests.unit.switch.test_switch import (
    NOW_MS,
    OWN,
    PACKET_ID,
    PREIMAGE,
    RESERVATION,
    USD,
    WINDOW_MS,
    SwitchSetup,
    asked,
    fulfilled,
    go,
    prepare,
    rejected,
    told,
)

SECOND = Reservation(second_id(PACKET_ID), [], [])
BUSY = encode(Reject(code="T02", triggered_by="g.bob", message="busy"))
FULFILL = encode(Fulfill(fulfillment=PREIMAGE))


def switch(**fields: Any) -> SwitchSetup:
    """Packets for g.bob go to bob, and may go to dora."""
    setup = SwitchSetup(**fields)
    setup.peers.add(Peer(PeerTerms(peer_id="dora", asset=USD)))
    setup.routes.add(Route(RouteSource.CONFIG, "dora", "g.bob"))
    return setup


def refused(setup: SwitchSetup, answer: object = BUSY, **fields: Any) -> PacketFlow:
    """A flow that is about to say what it does after its next hop has refused."""
    flow, send = setup.sent(prepare(**fields))
    assert send.next_hop.peer_id == "bob"
    assert told(flow, answer, Void).reservation is RESERVATION
    return flow


def sent_again(flow: PacketFlow) -> Send:
    assert asked(flow, Rename).packet_id == second_id(PACKET_ID)
    hold = asked(flow, Reserve)
    assert (hold.source.peer_id, hold.next_hop.peer_id) == ("alice", "dora")
    send = told(flow, SECOND, Send)
    assert (send.next_hop.peer_id, send.packet_id, send.again) == (
        "dora",
        second_id(PACKET_ID),
        False,
    )
    return send


# --- the table


@pytest.mark.parametrize("step", Step)
@pytest.mark.parametrize("event", StepEvent)
def test_every_step_has_its_row_or_is_a_fault_of_ours(step: Step, event: StepEvent) -> None:
    way = ways.SecondWay()
    way.step = step
    to = ways.TRANSITIONS.get((step, event))
    if to is None:
        with pytest.raises(AssertionError):
            way.move(event)
        assert way.step is step
    else:
        way.move(event)
        assert way.step is to


def test_every_way_ends_and_only_an_answer_of_the_second_hop_replaces_the_first() -> None:
    left = {step for step, _ in ways.TRANSITIONS}
    assert set(Step) - left == {Step.FIRST, Step.SECOND}
    assert [one for one, to in ways.TRANSITIONS.items() if to is Step.SECOND] == [
        (Step.SENT, StepEvent.ANSWERED)
    ]


# --- the flow


@pytest.mark.parametrize("code", sorted(ways.CODES))
def test_the_second_hop_gets_the_packet_with_a_hold_of_its_own(code: str) -> None:
    setup = switch()
    flow = refused(setup, encode(Reject(code=code, triggered_by="g.bob", message="no")))
    sent_again(flow)
    post = told(flow, FULFILL, Post)
    assert post.reservation is SECOND
    assert told(flow, Outcome.POSTED, Rename).packet_id == PACKET_ID
    result = asked(flow, Result)
    assert (result.code, result.next_hop, result.amount_out) == (None, "dora", 1000)
    fulfilled(result)
    assert (setup.switch.ways.tried, setup.switch.ways.fulfilled) == (1, 1)
    assert not setup.switch.loops.waiting


@pytest.mark.parametrize("said", [Unanswered.NOT_SENT, Unanswered.BUSY])
def test_a_hop_that_could_not_be_asked_is_passed_by(said: Unanswered) -> None:
    flow = refused(switch(), said)
    sent_again(flow)
    told(flow, FULFILL, Post)


@pytest.mark.parametrize("said", [Unanswered.TIMED_OUT, Unanswered.LINK_LOST, Unanswered.REFUSED])
def test_after_an_unknown_outcome_nobody_else_is_asked(said: Unanswered) -> None:
    assert isinstance(asked(refused(switch(), said), Result).code, str)


@pytest.mark.parametrize("code", ["T00", "T03", "T04", "F02", "F99", "R00", "R01"])
def test_other_refusals_are_passed_on(code: str) -> None:
    answer = encode(Reject(code=code, triggered_by="g.bob", message="no"))
    assert asked(refused(switch(), answer), Result).octets == answer


def test_the_answer_of_the_second_hop_is_the_last() -> None:
    flow = refused(switch())
    sent_again(flow)
    told(flow, encode(Reject(code="T02", triggered_by="g.dora", message="busy, too")), Void)
    assert asked(flow, Rename).packet_id == PACKET_ID
    rejected(go(flow), "T02", "g.dora")


def test_a_second_hop_that_does_not_answer_leaves_the_outcome_open() -> None:
    flow = refused(switch())
    sent_again(flow)
    assert told(flow, Unanswered.TIMED_OUT, Void).reservation is SECOND
    asked(flow, Rename)
    rejected(go(flow), "R00")


@pytest.mark.parametrize("outcome", [Outcome.NO_CREDIT, Outcome.BUSY, Outcome.UNAVAILABLE])
def test_without_a_second_hold_the_first_answer_stands(outcome: Outcome) -> None:
    setup = switch()
    flow = refused(setup)
    asked(flow, Rename)
    asked(flow, Reserve)
    assert told(flow, outcome, Rename).packet_id == PACKET_ID
    assert asked(flow, Result).octets == BUSY
    assert setup.switch.ways.tried == 0


@pytest.mark.parametrize("said", [Unanswered.NOT_SENT, Unanswered.BUSY])
def test_a_second_hop_that_could_not_be_asked_changes_nothing(said: Unanswered) -> None:
    flow = refused(switch())
    sent_again(flow)
    assert told(flow, said, Void).reservation is SECOND
    asked(flow, Rename)
    assert asked(flow, Result).octets == BUSY


def test_a_second_hold_that_came_too_late_is_given_back() -> None:
    setup = switch()
    flow = refused(setup)
    asked(flow, Rename)
    asked(flow, Reserve)
    setup.now_ms += 19_000
    assert told(flow, SECOND, Void).reservation is SECOND
    asked(flow, Rename)
    assert asked(flow, Result).octets == BUSY


@pytest.mark.parametrize(("left_ms", "goes"), [(2 * WINDOW_MS, True), (2 * WINDOW_MS - 1, False)])
def test_it_needs_time_for_a_hop_and_is_offered_the_rest(left_ms: int, goes: bool) -> None:
    setup = switch()
    flow, _ = setup.sent(prepare())
    setup.now_ms = NOW_MS + 20_000 - left_ms
    told(flow, BUSY, Void)
    if goes:
        assert sent_again(flow).deadline_ms == NOW_MS + 20_000 - WINDOW_MS
    else:
        assert asked(flow, Result).octets == BUSY


def test_a_packet_of_amount_zero_holds_nothing_on_its_second_way() -> None:
    setup = switch()
    flow, _ = setup.sent(prepare(amount=0))
    assert told(flow, BUSY, Rename).packet_id == second_id(PACKET_ID)
    assert asked(flow, Send).next_hop.peer_id == "dora"
    assert told(flow, FULFILL, Rename).packet_id == PACKET_ID
    fulfilled(go(flow))


def test_nobody_is_asked_who_is_away_leaves_or_has_sent_it() -> None:
    for change in ("away", "draining"):
        setup = switch()
        setattr(setup.peers["dora"], change, True)
        assert asked(refused(setup), Result).octets == BUSY
    setup = switch()
    setup.routes.remove(Route(RouteSource.CONFIG, "dora", "g.bob"))
    setup.routes.add(Route(RouteSource.PEER, "alice", "g.bob"))
    setup.routes.add(Route(RouteSource.LOCAL, LOCAL, "g.bob"))
    assert asked(refused(setup), Result).octets == BUSY


def test_while_the_node_stops_nothing_new_begins() -> None:
    setup = switch()
    flow, _ = setup.sent(prepare())
    setup.node.stopping = True
    told(flow, BUSY, Void)
    assert asked(flow, Result).octets == BUSY


def test_a_packet_that_comes_back_is_not_sent_another_way() -> None:
    """Else each node of a ring with two ways would send it twice a lap."""
    setup = switch()
    elsewhere, _ = setup.sent(prepare())
    back = refused(setup, expires_at_ms=NOW_MS + 17_000)
    assert asked(back, Result).octets == BUSY
    elsewhere.close()


def test_a_packet_that_comes_back_is_not_sent_round_a_hop_that_is_away() -> None:
    setup = switch()
    setup.peers["bob"].away = True
    first = setup.forward(prepare())
    assert asked(first, Reserve).next_hop.peer_id == "dora"
    told(first, RESERVATION, Send)
    back = setup.forward(prepare(expires_at_ms=NOW_MS + 17_000))
    assert asked(back, Reserve).next_hop.peer_id == "bob"
    told(back, RESERVATION, Send)
    told(back, Unanswered.NOT_SENT, Void)
    rejected(go(back), "T01")


def test_the_value_per_time_of_each_way_is_its_own() -> None:
    setup = switch()
    for name in ("bob", "dora"):
        setup.peers[name].terms = replace(setup.peers[name].terms, throughput_out=1000)
    flow = refused(setup)
    sent_again(flow)
    told(flow, FULFILL, Post)
    told(flow, Outcome.POSTED, Rename)
    fulfilled(go(flow))
    flow = refused(setup)
    assert asked(flow, Result).octets == BUSY  # dora's limit is used up, bob's is given back


# --- who has refused


def learned(next_hop: str, *path: str) -> Route:
    return Route(RouteSource.PEER, next_hop, "g.far", Learned(path=path, auth=bytes(32)))


@pytest.mark.parametrize(
    ("next_hop", "triggered_by", "is_itself"),
    [
        ("bob", "g.bobs-own", True),
        ("bob", "g.behind", False),
        ("bob", "g.bob", False),
        ("kid", f"{OWN}.kid", True),
        ("kid", f"{OWN}.kid.behind", False),
        ("carol", "g.anyone", True),  # of a route of the settings nothing is known
        ("carol", OWN, False),
        ("carol", f"{OWN}.below", False),
    ],
)
def test_a_refusal_counts_if_it_is_the_next_hop_s_own(
    next_hop: str, triggered_by: str, is_itself: bool
) -> None:
    setup = SwitchSetup()
    setup.routes.add(learned("bob", "g.bobs-own", "g.behind"))
    setup.routes.add(Route(RouteSource.CHILD, "kid", "g.far"))
    setup.routes.add(Route(RouteSource.CONFIG, "carol", "g.far"))
    assert setup.peers["kid"].terms.relation is Relation.CHILD
    hop = setup.peers[next_hop]
    if next_hop == "kid":
        assert hop.terms.child_segment == "kid"
    found = ways.refuses_itself(hop, setup.routes, "g.far.shop", triggered_by, OWN)
    assert found is is_itself


# --- whole nodes, one of which dies at any moment


@contextlib.asynccontextmanager
async def fork(
    *, refuses: bool = True
) -> AsyncIterator[tuple[asyncio.TaskGroup, list[Machine], list[Prepare]]]:
    """alice - bob - (west: its next hop is not there | yard: pays)."""
    network = MemoryNetwork()
    delivered: list[Prepare] = []

    async def pay(prepare: Prepare) -> Fulfill | Reject:
        delivered.append(prepare)
        if not refuses:
            return reject(Code.T02_PEER_BUSY, "g.dest", "busy")
        return Fulfill(fulfillment=FULFILLMENT)

    off = {"send_routes": False, "receive_routes": False}
    machines = [
        Machine(network, settings)
        for settings in (
            settings_of("alice", 1, peer("alice", "bob", dials=2, routes=["g.dest"], **off)),
            settings_of(
                "bob", 2,
                peer("bob", "alice", **off),
                peer("bob", "west", dials=3, routes=["g.dest"], **off),
                peer("bob", "yard", dials=4, routes=["g.dest"], **off),
            ),
            settings_of(
                "west", 3, peer("west", "bob", **off),
                peer("west", "nobody", routes=["g.dest"], **off),
            ),
            settings_of("yard", 4, peer("yard", "bob", **off), ilp_address="g.dest"),
        )
    ]  # fmt: skip
    async with asyncio.TaskGroup() as group:
        for machine in reversed(machines):
            machine.ledger.latency_s = 0.002
            machine.on_prepare = pay
            await machine.start(group)
        await machines[0].connected("bob")
        for name in ("west", "yard"):
            await machines[1].connected(name)
        yield group, machines, delivered
        for machine in machines:
            await machine.stop()
    for machine in machines:
        machine.disk.close()
        assert not [line for line in machine.log.events if line[0] == "error"]


def holds(machine: Machine, peer_id: str) -> list[int]:
    """The packets that a node has held money for, towards a peer."""
    account = machine.core.accounts.peers[peer_id].peer.account_id
    return [
        transfer.id
        for request in machine.ledger.requests
        for transfer in request
        if transfer.flags & PENDING and transfer.credit_account_id == account
    ]


def test_a_packet_takes_the_way_that_is_left_and_its_events_are_one_packet_s() -> None:
    async def scenario() -> None:
        async with fork() as (_, (alice, bob, west, yard), delivered):
            answer = await alice.core.send("g.dest", 5, fulfillment=FULFILLMENT)
            assert isinstance(answer, Fulfill)
            assert len(delivered) == 1
            assert (bob.net("alice"), bob.net("west"), bob.net("yard")) == (5, 0, -5)
            assert (west.net("bob"), yard.net("bob")) == (0, 5)
            (first,), (second,) = holds(bob, "west"), holds(bob, "yard")
            assert second == second_id(first)
            ids = {one.packet_id for one in bob.events if hasattr(one, "packet_id")}
            assert ids == {first_id(second)}
            counters = bob.core.peers["west"].counters
            assert (counters.prepares_out, counters.rejected_out) == (1, 1)
            counters = bob.core.peers["yard"].counters
            assert (counters.prepares_out, counters.fulfilled_out) == (1, 1)
            assert bob.core.node.in_flight == 0
            await asyncio.sleep(1)  # a Fulfill may be relayed before its post is booked
            for machine in (alice, bob, west, yard):
                assert await books_at_rest(machine.core.accounts) == []

    simulate(scenario())


@pytest.mark.long
@pytest.mark.parametrize("refuses", [True, False])
def test_a_node_that_dies_at_any_moment_pays_one_way_or_none(refuses: bool) -> None:
    """In steps of a millisecond, from before the packet arrives to after its answer."""
    outcomes: dict[str, int] = {}

    async def scenario(crash_at_s: float) -> None:
        async with fork(refuses=refuses) as (group, machines, delivered):
            alice, bob, west, yard = machines
            sending = group.create_task(
                alice.core.send("g.dest", 5, fulfillment=FULFILLMENT, expiry_s=8)
            )
            await asyncio.sleep(crash_at_s)
            await bob.crash()
            await bob.start(group)
            answer = await sending
            await asyncio.sleep(12)
            paid = 5 if isinstance(answer, Fulfill) else 0
            code = "paid" if paid else getattr(answer, "code", "")
            outcomes[code] = outcomes.get(code, 0) + 1
            assert (alice.net("bob"), bob.net("alice")) == (-paid, paid)
            assert (bob.net("yard"), yard.net("bob")) == (-paid, paid)
            assert (bob.net("west"), west.net("bob")) == (0, 0)
            assert len(delivered) <= 1
            assert len({first_id(one) for one in holds(bob, "yard")}) <= 1
            for machine in machines:
                assert await books_at_rest(machine.core.accounts) == []

    for step in range(30):
        simulate(scenario(step / 1000))
    assert outcomes.pop("paid" if refuses else "T02") > 10
    # Given back before the crash, or taken up after it and not sent another way: the sender tries again.
    assert outcomes.keys() <= {"T00", "T01", "T02"}


def test_a_packet_whose_answer_is_forgotten_is_found_by_its_second_way() -> None:
    async def scenario() -> None:
        async with fork() as (_, (alice, bob, _, yard), delivered):
            await alice.core.send("g.dest", 5, fulfillment=FULFILLMENT, expiry_s=25)
            (request,) = (one for one in alice.ledger.requests if one[0].flags & PENDING)
            key = ("alice", request[0].id)
            inbox = bob.core.driver._inboxes.get("alice")
            for generation in (inbox.answers, inbox.older, inbox.oldest, inbox.unread):
                generation.by_id.clear()
            await asyncio.sleep(1)  # the Fulfill may have been relayed before its post was booked
            assert list(await bob.core.accounts.find_former([key])) == [key]
            found = bob.core.accounts.find_recovered(*key)
            assert found is not None
            assert found.next_hop_id == "yard"
            assert found.reservation.posted
            assert (bob.net("yard"), yard.net("bob"), len(delivered)) == (-5, 5, 1)

    simulate(scenario())
