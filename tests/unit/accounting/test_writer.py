"""Batches of the writer, their limits, and the state after a failure of the ledger."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from connector.accounting import bounds as accounting_bounds
from connector.accounting.entries import resolutions
from connector.accounting.manager import State
from connector.accounting.promises import Outcome
from connector.ledger.model import (
    PHASE_CORRECT,
    PHASE_RESOLVE,
    POST,
    VOID,
    AccountCode,
    Status,
    Transfer,
    TransferCode,
)
from connector.peering.model import PeerTerms
from tests.support.accounting_node import (
    ALICE,
    BOB,
    CAROL,
    CONDITION,
    EUR,
    USD,
    WE,
    AccountingNode,
    expired,
)
from tests.support.accounts import Fault, books_at_rest
from tests.support.clocks import simulated

# --- a packet


@simulated
async def test_money_is_held_then_posted() -> None:
    async with AccountingNode() as node:
        reservation = await node.hold("a")
        alice, bob = node.manager.peers["alice"], node.manager.peers["bob"]
        assert (alice.available_credit, alice.net_balance, bob.payable) == (900, 0, 100)
        node.post("a", reservation)
        assert await node.outcome("a", other_than=Outcome.HELD) is Outcome.POSTED
        assert (alice.net_balance, alice.debit_balance, alice.credit_balance) == (100, 100, 0)
        assert (bob.net_balance, bob.debit_balance, bob.credit_balance) == (-100, 0, 100)
        assert bob.available_credit == 1100
        assert await node.rest() == []


@simulated
async def test_money_that_is_given_back_is_as_it_was() -> None:
    async with AccountingNode() as node:
        reservation = await node.hold("a", fee=3)
        node.manager.void(reservation)
        await node.idle()
        assert node.manager.peers["alice"].available_credit == 1000
        assert await books_at_rest(node.manager) == []  # at once: it did not wait for a timeout
        assert node.alerts == []


@simulated
async def test_the_ledger_is_told_whose_packet_it_is_and_how_long() -> None:
    async with AccountingNode() as node:
        await node.hold("a", sender_id=2**127 + 5, hold_ms=20_001)
        ((leg,),) = node.ledger.requests[3:]
        assert leg.user_data_128 == 2**127 + 5
        assert leg.user_data_64 << 32 | leg.user_data_32 == int.from_bytes(CONDITION[:12], "big")
        assert leg.timeout == 31  # 20.001 s and ten of grace, rounded up


@simulated
async def test_a_fee_is_a_leg_of_its_own() -> None:
    async with AccountingNode() as node:
        reservation = await node.pay("a", 100, fee=3)
        assert [leg.code for leg in reservation.legs] == [TransferCode.PACKET, TransferCode.FEE]
        assert (node.net("alice"), node.net("bob")) == (100, -97)
        assert node.own(AccountCode.REVENUE) == -3
        assert await node.rest() == []


@pytest.mark.parametrize("fee", [0, 10])
@simulated
async def test_a_change_of_asset_goes_by_way_of_the_exchange(fee: int) -> None:
    async with AccountingNode() as node:
        reservation = await node.pay("a", 100, next_hop=CAROL, fee=fee, amount_out=45)
        fees = [TransferCode.FEE] if fee else []
        assert [leg.code for leg in reservation.legs] == [
            TransferCode.EXCHANGE_IN, *fees, TransferCode.EXCHANGE_OUT,
        ]  # fmt: skip
        assert (node.net("alice"), node.net("carol")) == (100, -45)
        assert node.own(AccountCode.EXCHANGE, USD) == -(100 - fee)
        assert node.own(AccountCode.EXCHANGE, EUR) == 45
        assert node.own(AccountCode.REVENUE, USD) == -fee
        assert await node.rest() == []


@simulated
async def test_packets_to_and_from_this_node_go_through_its_wallet() -> None:
    async with AccountingNode() as node:
        await node.pay("in", 100, next_hop=WE)
        assert node.own(AccountCode.WALLET) == -100
        await node.pay("out", 30, source=WE)
        assert (node.own(AccountCode.WALLET), node.net("alice"), node.net("bob")) == (-70, 100, -30)
        await node.pay("there", 10, next_hop=replace(WE, asset=EUR), source=CAROL)
        assert node.own(AccountCode.WALLET, EUR) == -10
        assert await node.rest() == []


@pytest.mark.parametrize(("who", "fee"), [(ALICE, 0), (ALICE, 3), (WE, 0)])
@simulated
async def test_what_goes_back_to_where_it_came_from_is_booked_too(who: PeerTerms, fee: int) -> None:
    async with AccountingNode() as node:
        await node.pay("a", 100, source=who, next_hop=who, fee=fee)
        assert node.own(AccountCode.EXCHANGE) == 0
        assert node.own(AccountCode.REVENUE) == -fee
        assert node.net("alice") == fee
        assert node.alerts == []
        assert await node.rest() == []


# --- limits


@simulated
async def test_credit_ends_on_the_line() -> None:
    async with AccountingNode() as node:
        held = [await node.hold("a", 600)]
        node.reserve("over", 401)
        assert await node.outcome("over") is Outcome.NO_CREDIT
        held.append(await node.hold("b", 400))
        node.reserve("one more", 1)
        assert await node.outcome("one more") is Outcome.NO_CREDIT
        assert node.alerts == []
        for reservation in held:
            node.manager.void(reservation)
        assert await node.rest() == []


@simulated
async def test_the_fee_counts_against_the_credit_as_well() -> None:
    """A chain is all or nothing."""
    async with AccountingNode() as node:
        node.reserve("over", 1001, fee=2)
        assert await node.outcome("over") is Outcome.NO_CREDIT
        await node.hold("all", 1000, fee=2)


@simulated
async def test_what_we_may_owe_ends_on_the_line() -> None:
    """Defect 1: the outgoing side is checked before anything is promised."""
    bob = replace(BOB, max_payable=100)
    async with AccountingNode([ALICE, bob, CAROL]) as node:
        await node.pay("a", 60, next_hop=bob)
        assert node.reserve("over", 41, next_hop=bob) is Outcome.NO_PAYABLE
        held = await node.hold("b", 40, next_hop=bob)
        assert node.reserve("one more", 1, next_hop=bob) is Outcome.NO_PAYABLE
        node.manager.void(held)
        await node.hold("c", 40, next_hop=bob)
        assert "over" not in node.outcomes  # refused at once, nobody waits


@simulated
async def test_what_is_held_towards_a_next_hop_ends_on_the_line() -> None:
    bob = replace(BOB, max_in_flight_value=100)
    async with AccountingNode([ALICE, bob, CAROL]) as node:
        held = await node.hold("a", 60, next_hop=bob)
        assert node.reserve("over", 41, next_hop=bob) is Outcome.NO_ROOM
        await node.hold("b", 40, next_hop=bob)
        assert node.reserve("one more", 1, next_hop=bob) is Outcome.NO_ROOM
        await node.hold("to another", 200, next_hop=CAROL)
        node.post("a", held)
        await node.outcome("a", other_than=Outcome.HELD)
        # What is owed is not in flight.
        await node.hold("c", 60, next_hop=bob)
        assert "over" not in node.outcomes  # refused at once, nobody waits


@simulated
async def test_what_is_held_for_a_sender_ends_on_the_line() -> None:
    alice = replace(ALICE, max_in_flight_value=100)
    async with AccountingNode([alice, BOB, CAROL]) as node:
        held = await node.hold("a", 100, fee=3, source=alice)
        assert node.reserve("over", 1, source=alice) is Outcome.NO_ROOM
        node.manager.void(held)
        await node.hold("b", 100, source=alice)


@pytest.mark.interpreted
@simulated
async def test_a_full_queue_takes_no_more() -> None:
    async with AccountingNode() as node:
        node.ledger.gate.clear()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(accounting_bounds, "LEDGER_QUEUE_RESERVATIONS_MAX", 3)
            node.reserve("first", 1)
            await asyncio.sleep(0)  # it is in a request now, not in the queue
            queued = [node.reserve(number, 1) for number in range(4)]
        assert [one is Outcome.BUSY for one in queued] == [False, False, False, True]
        assert node.manager.queue_depth() == 3
        node.ledger.gate.set()
        assert await node.outcome(2) is Outcome.HELD


@simulated
async def test_a_resolution_is_never_refused_for_want_of_room() -> None:
    async with AccountingNode() as node:
        held = [await node.hold(number, 1) for number in range(5)]
        node.ledger.gate.clear()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(accounting_bounds, "LEDGER_QUEUE_RESERVATIONS_MAX", 0)
            for number, reservation in enumerate(held):
                node.post(number, reservation)
            node.ledger.gate.set()
            for number in range(5):
                assert await node.outcome(number, other_than=Outcome.HELD) is Outcome.POSTED


@simulated
async def test_a_reservation_that_the_ledger_cannot_explain_is_refused_and_told() -> None:
    async with AccountingNode() as node:
        first = await node.hold("a", 1)
        node.reserve("b", 2, packet_id=first.packet_id)
        assert await node.outcome("b") is Outcome.UNAVAILABLE
        assert node.alerts == ["accounting_refused"]
        assert node.manager.counters.refused_unexpectedly == 1
        assert await node.rest() != []  # the test's own doing: two packets under one id


# --- requests


@simulated
async def test_what_gathers_during_a_request_goes_into_the_next_one_posts_first() -> None:
    async with AccountingNode() as node:
        one, two = await node.hold("a", 1), await node.hold("b", 1)
        node.ledger.requests.clear()
        node.ledger.gate.clear()
        node.reserve("c", 1)
        await asyncio.sleep(0)
        node.reserve("d", 1)
        node.post("a", one)
        node.reserve("e", 1)
        node.manager.void(two)
        node.ledger.gate.set()
        await node.outcome("e")
        first, second = node.ledger.requests
        assert len(first) == 1
        assert [transfer.flags & (POST | VOID) for transfer in second] == [POST, VOID, 0, 0]
        assert [token for token, _ in node.order[2:]] == ["c", "a", "d", "e"]
        assert node.manager.counters.requests == 4
        assert node.manager.counters.events == 7


@simulated
async def test_an_idle_ledger_is_asked_at_once() -> None:
    async with AccountingNode() as node:
        node.reserve("a", 1)
        began_s = node.clock.monotonic_s()
        await node.outcome("a")
        assert node.clock.monotonic_s() == began_s


@simulated
async def test_the_legs_of_a_packet_are_never_apart() -> None:
    async with AccountingNode() as node:
        node.ledger.batch_transfers_max = 5
        node.ledger.requests.clear()
        for number in range(4):
            node.reserve(number, 10, fee=1)
        await node.outcome(3)
        assert [len(request) for request in node.ledger.requests] == [4, 4]
        assert all(not request[-1].flags & 1 for request in node.ledger.requests)


@simulated
async def test_waiters_are_told_then_the_turn_ends_once() -> None:
    async with AccountingNode() as node:
        node.turns = 0
        for number in range(10):
            node.reserve(number, 1)
        await node.outcome(9)
        assert node.turns == 1


@simulated
async def test_stopping_writes_everything_that_is_queued() -> None:
    async with AccountingNode() as node:
        node.ledger.latency_s = 0.1
        for number in range(3):
            node.reserve(number, 1)
        node.manager.stop()
        await node._tasks[0]
        assert [node.outcomes[number] for number in range(3)] == [Outcome.HELD] * 3
        assert node.manager.queue_depth() == 0


@simulated
async def test_an_idle_manager_stops_at_once() -> None:
    async with AccountingNode() as node:
        node.manager.stop()
        await node._tasks[0]


# --- a ledger that fails


@pytest.mark.parametrize("fault", list(Fault))
@simulated
async def test_a_reservation_without_acknowledgement_is_refused_and_given_back(
    fault: Fault,
) -> None:
    async with AccountingNode() as node:
        node.ledger.next_faults = [fault]
        node.reserve("a", 100, fee=3)
        assert await node.outcome("a") is Outcome.UNAVAILABLE
        assert node.states[-1] is State.REJECTING
        assert node.manager.state_reason
        assert node.reserve("b", 1) is Outcome.UNAVAILABLE
        assert node.manager.peers["alice"].available_credit == 1000
        await node.idle()
        assert node.states[-1] is State.AVAILABLE
        assert await books_at_rest(node.manager) == []
        assert node.alerts == []
        await node.pay("c", 1000)


@pytest.mark.parametrize("fault", list(Fault))
@simulated
async def test_giving_back_is_tried_until_it_is_acknowledged(fault: Fault) -> None:
    async with AccountingNode() as node:
        node.ledger.next_faults = [fault, Fault.LOST, Fault.REFUSED, Fault.LOST]
        node.reserve("a", 100)
        await node.outcome("a")
        await node.idle()
        assert node.states == [State.AVAILABLE, State.REJECTING, State.AVAILABLE]
        assert await books_at_rest(node.manager) == []
        assert node.alerts == []


@pytest.mark.parametrize("fault", list(Fault))
@pytest.mark.parametrize("fee", [0, 3])
@simulated
async def test_a_post_without_acknowledgement_is_the_same_post_again(
    fault: Fault, fee: int
) -> None:
    async with AccountingNode() as node:
        reservation = await node.hold("a", 100, fee=fee)
        node.ledger.next_faults = [fault]
        node.ledger.requests.clear()
        node.post("a", reservation)
        assert await node.outcome("a", other_than=Outcome.HELD) in (
            Outcome.POSTED,
            Outcome.RELEASED,
        )
        await node.idle()
        first, second = node.ledger.requests
        assert first == second
        assert node.net("alice") == 100
        assert node.outbox.requests == {}
        assert await node.rest() == []


@simulated
async def test_what_is_tried_again_keeps_its_order() -> None:
    async with AccountingNode() as node:
        held = [await node.hold(number, 1) for number in range(3)]
        node.ledger.requests.clear()
        node.ledger.next_faults = [Fault.REFUSED]
        for number, reservation in enumerate(held):
            node.post(number, reservation)
        await node.idle()
        first, again = node.ledger.requests
        assert len(first) == 3
        assert again == first


@simulated
async def test_what_waits_behind_a_failed_request_is_refused_too() -> None:
    async with AccountingNode() as node:
        node.ledger.next_faults = [Fault.REFUSED]
        node.ledger.gate.clear()
        node.reserve("a", 1)
        await asyncio.sleep(0)
        node.reserve("b", 1)
        node.ledger.gate.set()
        assert await node.outcome("b") is Outcome.UNAVAILABLE
        await node.idle()
        assert await books_at_rest(node.manager) == []


@simulated
async def test_a_ledger_that_hangs_is_noticed_and_taken_back_into_use() -> None:
    async with AccountingNode() as node:
        node.ledger.gate.clear()
        node.reserve("a", 1)
        await asyncio.sleep(0)
        node.reserve("b", 1)
        await asyncio.sleep(0.99)
        assert node.manager.state is State.AVAILABLE
        await asyncio.sleep(0.1)
        assert node.manager.state is State.REJECTING
        assert node.manager.state_reason == "no answer for 1000 ms"
        assert node.outcomes == {"b": Outcome.UNAVAILABLE}
        node.ledger.gate.set()
        assert await node.outcome("a") is Outcome.HELD
        await node.idle()
        assert node.manager.state is State.AVAILABLE


@simulated
async def test_expiry_is_asked_for_while_nothing_else_is() -> None:
    async with AccountingNode() as node:
        await node.hold("a", 100, hold_ms=1000)
        await asyncio.sleep(12)
        peer = node.manager.peers["alice"].peer.account_id
        assert node.ledger.machine.accounts[peer].debits_pending == 100
        await node.manager.expire()
        assert node.ledger.machine.accounts[peer].debits_pending == 0


@simulated
async def test_an_idle_node_notices_a_ledger_that_is_away_and_one_that_is_back() -> None:
    async with AccountingNode() as node:
        node.ledger.down = Fault.REFUSED
        await node.manager.expire()
        assert node.states[-1] is State.REJECTING
        node.ledger.down = None
        await node.manager.expire()
        assert node.states[-1] is State.AVAILABLE
        await node.manager.expire()
        assert len(node.states) == 3


@simulated
async def test_a_busy_ledger_is_not_asked_for_expiry() -> None:
    """It looks at its timeouts with every request; and there is one request at a time."""
    async with AccountingNode() as node:
        node.ledger.gate.clear()
        node.reserve("a", 1)
        await asyncio.sleep(0)
        await node.manager.expire()
        node.ledger.gate.set()
        await node.outcome("a")


@simulated
async def test_expiry_and_the_writer_take_turns() -> None:
    async with AccountingNode() as node:
        node.ledger.latency_s = 0.1
        async with asyncio.TaskGroup() as group:
            group.create_task(node.manager.expire())
            await asyncio.sleep(0.01)
            node.reserve("a", 1)
            await node.outcome("a")


# --- posts that come too late


@pytest.mark.parametrize("fee", [0, 3])
@pytest.mark.parametrize("next_hop", [BOB, CAROL, WE])
@simulated
async def test_a_post_that_comes_too_late_becomes_a_correction(
    fee: int, next_hop: PeerTerms
) -> None:
    """Never a silent loss: the next hop has fulfilled, so we owe it, and the sender owes us."""
    async with AccountingNode() as node:
        reservation = await expired(node, fee=fee, next_hop=next_hop)
        node.post("late", reservation)
        assert await node.outcome("late", other_than=Outcome.HELD) is Outcome.POSTED
        assert node.alerts == ["accounting_correction"]
        assert node.manager.counters.corrections == 1
        assert node.net("alice") == 100
        assert node.own(AccountCode.REVENUE) == -fee
        assert node.manager.peers["alice"].granted == 1100
        assert node.manager.peers["alice"].available_credit == 1000
        assert await node.rest() == []


@simulated
async def test_a_correction_is_booked_beyond_the_credit_limit() -> None:
    """What has happened has happened; until it pays, the peer may send nothing more."""
    async with AccountingNode() as node:
        reservation = await expired(node)
        rest = await node.hold("all the rest", 900)
        await node.ledger.create_transfers([])
        node.post("late", reservation)
        assert await node.outcome("late", other_than=Outcome.HELD) is Outcome.POSTED
        assert node.net("alice") == 100
        assert node.manager.peers["alice"].available_credit == 100
        node.manager.void(rest)
        assert await node.rest() == []


@pytest.mark.parametrize("fault", list(Fault))
@simulated
async def test_the_waiter_is_told_when_the_correction_is_booked(fault: Fault) -> None:
    async with AccountingNode() as node:
        reservation = await expired(node, fee=3)
        node.ledger.next_faults = [None, fault]
        node.post("late", reservation)
        await node.idle()
        assert node.outcomes["late"] in (Outcome.POSTED, Outcome.RELEASED)
        assert node.alerts == ["accounting_correction"]
        assert node.outbox.requests == {}
        assert node.net("alice") == 100
        assert await node.rest() == []


@simulated
async def test_until_its_correction_is_booked_a_post_stays_in_the_outbox() -> None:
    """Whoever pulls the plug in between finds it there at the next start."""
    async with AccountingNode() as node:
        reservation = await expired(node)
        node.ledger.down = Fault.REFUSED
        node.post("late", reservation)
        assert await node.outcome("late", other_than=Outcome.HELD) is Outcome.RELEASED
        node.ledger.next_faults = [Fault.REFUSED, None]
        while not node.alerts:
            await asyncio.sleep(0.02)
        await asyncio.sleep(0.1)
        assert node.alerts == ["accounting_correction"]
        assert node.outbox.ids == [reservation.packet_id | PHASE_RESOLVE]
    node.ledger.down = None
    again = AccountingNode(ledger=node.ledger, outbox=node.outbox)
    async with again:
        assert again.alerts == ["accounting_correction"]
        assert again.outbox.requests == {}
        assert (again.net("alice"), again.net("bob")) == (100, -100)
        assert await again.rest() == []


@simulated
async def test_giving_back_what_has_expired_is_silent() -> None:
    async with AccountingNode() as node:
        reservation = await expired(node, fee=3)
        node.manager.void(reservation)
        await node.idle()
        assert node.alerts == []
        assert await books_at_rest(node.manager) == []


@simulated
async def test_a_packet_is_not_given_back_after_it_was_posted() -> None:
    async with AccountingNode() as node:
        reservation = await node.pay("a")
        with pytest.raises(AssertionError, match="VOID"):
            node.manager.void(reservation)
        assert node.net("alice") == 100
        account = node.ledger.machine.accounts[node.manager.peers["alice"].peer.account_id]
        assert account.debits_posted == 100


@simulated
async def test_a_packet_that_another_process_posted_is_not_given_back() -> None:
    """Post and void share an id, so the ledger takes the first; that someone tried is told."""
    async with AccountingNode() as node:
        reservation = await node.hold("a")
        await node.ledger.create_transfers(resolutions(reservation.legs, POST))
        node.manager.void(reservation)
        await node.idle()
        assert node.alerts == ["accounting_refused"]
        account = node.ledger.machine.accounts[node.manager.peers["alice"].peer.account_id]
        assert account.debits_posted == 100


@simulated
async def test_a_correction_that_is_refused_is_told_and_not_corrected_again() -> None:
    async with AccountingNode() as node:
        reservation = await expired(node)
        wallet = node.manager.own_book(AccountCode.WALLET, USD)
        exchange = node.manager.own_book(AccountCode.EXCHANGE, USD)
        assert wallet is not None
        assert exchange is not None
        taken = Transfer(
            id=reservation.packet_id | PHASE_CORRECT,
            debit_account_id=wallet.account_id,
            credit_account_id=exchange.account_id,
            amount=1,
            ledger=wallet.ledger,
            code=TransferCode.CORRECTION,
        )
        assert await node.ledger.create_transfers([taken]) == [Status.CREATED]
        node.post("late", reservation)
        assert await node.outcome("late", other_than=Outcome.HELD) is Outcome.RELEASED
        assert node.alerts == ["accounting_correction", "accounting_refused"]
