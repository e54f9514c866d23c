"""Settlements are completed, whatever fails and wherever the process dies."""

from __future__ import annotations

import itertools
import sqlite3
from dataclasses import replace
from typing import Any

import pytest

from connector.accounting.promises import Reservation
from connector.base import limits
from connector.base.errors import (
    LedgerUnavailableError,
    SettlementConflictError,
    SettlementError,
    SettlementStoreError,
    SettlementUnknownError,
)
from connector.ilp.packet import Fulfill, Reject
from connector.settlement import bounds as settlement_bounds
from connector.settlement.engine import Reply
from connector.settlement.model import Direction, Phase, Quantity, State
from connector.telemetry.events import (
    SettlementCompleted,
    SettlementFailed,
    SettlementStarted,
    SettlementTriggered,
)
from tests.support.accounts import Fault, books_at_rest, put_posted
from tests.support.clocks import simulate, simulated
from tests.support.settlements import (
    ALICE,
    BOB,
    DurableState,
    EngineFault,
    SettlementNode,
    settlement_transfers,
)

UNIT = Quantity(1, 9)


def kinds(node: SettlementNode) -> list[type]:
    return [type(event) for event in node.events]


# --- from the threshold to the end


@simulated
async def test_a_debt_above_the_threshold_is_booked_and_paid() -> None:
    durable = DurableState()
    async with SettlementNode(durable) as node:
        assert await node.owe(101)
        assert node.net() == -101
        await node.until(lambda: node.settled() == (101, 0))
        await node.quiet()
        assert list(durable.engine.paid.values()) == [Quantity(101, 9)]
        assert (node.net(), node.settlements.state("bob")) == (0, State.IDLE)
        assert kinds(node) == [SettlementTriggered, SettlementStarted, SettlementCompleted]
        assert node.settlements.counts == {("bob", "completed"): 1}
        triggered, started, completed = node.events
        assert isinstance(triggered, SettlementTriggered)
        assert isinstance(started, SettlementStarted)
        assert isinstance(completed, SettlementCompleted)
        assert (triggered.net_balance, started.net_balance) == (-101, 0)
        assert (triggered.amount, triggered.threshold) == (101, 100)
        assert len({one.settlement_id for one in (triggered, started, completed)}) == 1
        assert await books_at_rest(node.accounts) == []


@simulated
async def test_a_debt_at_the_threshold_is_not_settled() -> None:
    async with SettlementNode(DurableState()) as node:
        assert await node.owe(100)
        await node.quiet()
        assert (node.net(), node.events) == (-100, [])


@simulated
async def test_a_peer_without_a_threshold_is_never_settled_with() -> None:
    async with SettlementNode(DurableState(), (ALICE, replace(BOB, settle_threshold=None))) as node:
        assert await node.owe(10**9)
        await node.quiet()
        assert node.events == []


@simulated
async def test_settle_to_stays_owed() -> None:
    async with SettlementNode(DurableState(), (ALICE, replace(BOB, settle_to=40))) as node:
        assert await node.owe(150)
        await node.quiet()
        assert (node.net(), node.settled()) == (-40, (110, 0))


@simulated
async def test_the_states_of_a_settlement() -> None:
    durable = DurableState()
    durable.engine.latency_s = 2.0
    async with SettlementNode(durable) as node:
        durable.ledger.gate.set()
        states: list[State] = []
        assert await node.owe(101)
        durable.ledger.latency_s = 0.5

        def changed() -> bool:
            state = node.settlements.state("bob")
            if not states or states[-1] is not state:
                states.append(state)
            return len(states) == 4

        await node.until(changed, 30)
        assert states == [State.IDLE, State.PENDING, State.IN_PROGRESS, State.IDLE]


@simulated
async def test_a_peer_has_one_settlement_at_a_time() -> None:
    durable = DurableState()
    durable.engine.down = EngineFault.REFUSED
    async with SettlementNode(durable) as node:
        assert await node.owe(150)
        await node.until(lambda: len(durable.engine.asked) >= 3)
        assert await node.owe(400)
        await node.until(lambda: len(durable.engine.asked) >= 6)
        assert settlement_transfers(durable) == [150]
        assert node.net() == -400, "booked before it was asked for, and once"
        durable.engine.down = None
        await node.quiet()
        assert sorted(one.amount for one in durable.engine.paid.values()) == [150, 400]


@simulated
async def test_a_coarser_engine_pays_whole_units_and_the_rest_stays_owed() -> None:
    durable = DurableState()
    async with SettlementNode(durable, scale=7) as node:
        assert await node.owe(1234)
        await node.quiet()
        assert list(durable.engine.paid.values()) == [Quantity(12, 7)]
        assert (node.net(), node.settled()) == (-34, (1200, 0))
        assert await node.owe(70)
        await node.quiet()
        assert [one.amount for one in durable.engine.paid.values()] == [12, 1]
        assert (node.net(), node.settled()) == (-4, (1300, 0))


@simulated
async def test_an_engine_is_not_asked_for_less_than_its_unit() -> None:
    durable = DurableState()
    async with SettlementNode(durable, scale=2) as node:
        assert await node.owe(1234)
        await node.quiet()
        assert (durable.engine.asked, node.net(), node.settlements.state("bob")) == (
            [], -1234, State.IDLE,
        )  # fmt: skip


@simulated
async def test_a_finer_engine_gets_the_same_value() -> None:
    durable = DurableState()
    async with SettlementNode(durable, scale=18) as node:
        assert await node.owe(101)
        await node.quiet()
        assert list(durable.engine.paid.values()) == [Quantity(101 * 10**9, 18)]


# --- faults


@pytest.mark.long
@simulated
async def test_a_failing_engine_is_retried_with_the_same_key_and_growing_waits() -> None:
    durable = DurableState()
    durable.engine.down = EngineFault.REFUSED
    async with SettlementNode(durable, tick_s=60) as node:
        assert await node.owe(101)
        await node.until(lambda: len(durable.engine.asked) >= 14, 20_000, every_s=60)
        pauses = [
            later - earlier for earlier, later in itertools.pairwise(durable.engine.asked_at_s)
        ]
        check_s = settlement_bounds.SETTLEMENT_CHECK_SECONDS + 0.001
        for attempt, pause in enumerate(pauses):
            doubled = min(3600, 2**attempt)
            assert doubled / 2 - 0.001 <= pause <= doubled + check_s
        assert max(pauses) <= settlement_bounds.SETTLEMENT_RETRY_SECONDS_MAX + check_s
        assert len(set(durable.engine.asked)) == 1
        assert node.logged("settlement_failed") >= 13
        durable.engine.down = None
        await node.quiet()
        assert len(durable.engine.paid) == 1
        assert kinds(node)[-1] is SettlementCompleted
        failed = [event for event in node.events if isinstance(event, SettlementFailed)]
        assert "tried again in" in failed[0].error


@simulated
async def test_a_lost_answer_of_the_engine_pays_once() -> None:
    durable = DurableState()
    durable.engine.next_faults = [EngineFault.LOST, EngineFault.LOST]
    async with SettlementNode(durable) as node:
        assert await node.owe(101)
        await node.quiet()
        assert len(durable.engine.asked) == 3
        assert list(durable.engine.paid.values()) == [Quantity(101, 9)]
        assert node.settled() == (101, 0)


@pytest.mark.parametrize("fault", Fault)
@simulated
async def test_a_failing_ledger_books_once(fault: Fault) -> None:
    """Also when the acknowledgement was lost: the mirror counts it once, like the ledger."""
    durable = DurableState()
    async with SettlementNode(durable) as node:
        assert await node.owe(101)
        durable.ledger.next_faults = [fault]
        ours: list[object] = []
        original = durable.ledger.create_transfers

        async def only_settlements(transfers: Any, kept: Any = ()) -> Any:
            if not transfers:
                return []
            ours.append(transfers)
            return await original(transfers, kept)

        durable.ledger.create_transfers = only_settlements  # type: ignore[method-assign]
        await node.quiet()
        assert len(ours) == 2
        assert node.settled() == (101, 0)
        assert node.net() == 0
        assert await books_at_rest(node.accounts) == []
        assert [event for event in kinds(node) if event is SettlementStarted] == [SettlementStarted]


@simulated
async def test_nothing_is_decided_while_the_ledger_is_unavailable() -> None:
    durable = DurableState()
    async with SettlementNode(durable) as node:
        assert await node.owe(100)
        durable.ledger.down = Fault.REFUSED
        await node.until(lambda: node.accounts.state.value != "available")
        put_posted(node.accounts.peers["bob"].peer, credits_=1)
        put_posted(node.accounts.peers["alice"].peer, debits=1)
        await node.settlements._pause(20)
        assert node.events == []


@simulated
async def test_a_failing_disk_delays_the_decision_and_nothing_is_booked() -> None:
    durable = DurableState()
    async with SettlementNode(durable) as node:
        durable.file.down = sqlite3.OperationalError("disk is full")
        assert await node.owe(101)
        await node.until(lambda: node.logged("settlement_postponed") >= 2)
        assert settlement_transfers(durable) == []
        durable.file.down = None
        await node.quiet()
        assert node.settled() == (101, 0)


@simulated
async def test_money_held_for_the_peers_own_packets_is_not_paid_out() -> None:
    """The ledger would refuse it: with no credit, what we owe is all that the peer may send."""
    durable = DurableState()
    async with SettlementNode(durable, (ALICE, replace(BOB, credit_limit=0))) as node:
        assert await node.owe(90)
        held = await node.hold(60, source="bob", next_hop="alice")
        assert held is not None
        assert await node.owe(50)
        await node.until(lambda: node.settled()[0] == 80)
        await node.quiet()
        assert node.net() == -60, "140 owed, 60 of it held"
        assert ("bob", "refused") not in node.settlements.counts


@pytest.mark.interpreted
@simulated
async def test_after_a_refusal_of_the_ledger_another_key_is_used() -> None:
    durable = DurableState()
    async with SettlementNode(durable, (ALICE, replace(BOB, credit_limit=0))) as node:
        assert await node.owe(150)
        # Between looking and booking, the peer has used all of it.
        original = node.accounts.settleable
        held: list[Reservation | None] = []

        async def stale(peer_id: str) -> tuple[int, int]:
            answer = await original(peer_id)
            if not held:
                held.append(await node.hold(150, source="bob", next_hop="alice"))
            return answer

        node.accounts.settleable = stale  # type: ignore[method-assign]
        await node.until(lambda: node.settlements.counts.get(("bob", "refused")) == 1)
        assert held[0] is not None
        node.accounts.void(held[0])
        await node.until(lambda: node.settlements.counts.get(("bob", "completed")) == 1)
        refused = next(event for event in node.events if isinstance(event, SettlementFailed))
        assert "credit limit" in refused.error
        assert [one.amount for one in durable.engine.paid.values()] == [150]
        assert node.settled() == (150, 0), "once its packet was rejected"
        keys = {one.key for one in await node.store.latest("bob", 10)}
        assert len(keys) == 2


# --- the process dies, anywhere


async def points_of_a_settlement() -> int:
    durable = DurableState()
    async with SettlementNode(durable) as node:
        durable.crash_points.arm(None)
        assert await node.owe(101)
        await node.quiet()
        return durable.crash_points.points


def test_the_number_of_crash_points_is_as_expected() -> None:
    """Intent to disk, ledger, booked to disk, engine, completed to disk: before and after each."""
    assert simulate(points_of_a_settlement()) == 10


@pytest.mark.parametrize("point", range(10))
@pytest.mark.parametrize("by_hand", [False, True], ids=["engine", "by hand"])
@simulated
async def test_a_crash_at_any_point_settles_once(point: int, by_hand: bool) -> None:
    durable = DurableState()
    async with SettlementNode(durable, by_hand=by_hand) as node:
        assert await node.owe(101)
        durable.crash_points.arm(point)
        if by_hand and point >= 6:
            await node.until(lambda: node.settlements.state("bob") is State.IN_PROGRESS)
            one = node.settlements.under_way("bob")
            assert one is not None
            node._tasks.append(
                node._group.create_task(node.settlements.confirm("bob", one.settlement_id))
            )
            if point >= 8:
                return  # confirming passes two points: there are no more
        await durable.crash_points.crashed.wait()
    durable.crash_points.arm(None)
    async with SettlementNode(durable, by_hand=by_hand) as node:
        if by_hand:
            await node.until(lambda: node.settlements.state("bob") is not State.PENDING)
            await node.until(lambda: node.net() == 0)
            one = node.settlements.under_way("bob")
            if one is not None:
                await node.until(lambda: one.phase is Phase.BOOKED)
                await node.settlements.confirm("bob", one.settlement_id)
        await node.quiet()
        assert settlement_transfers(durable) == [101]
        assert node.settled() == (101, 0)
        assert node.net() == 0
        if not by_hand:
            assert list(durable.engine.paid.values()) == [Quantity(101, 9)]
        assert await books_at_rest(node.accounts) == []
        (stored,) = await node.store.latest("bob", 10)
        assert stored.phase is Phase.COMPLETED


@pytest.mark.parametrize("point", range(10))
@simulated
async def test_a_crash_during_an_incoming_payment_credits_once(point: int) -> None:
    """The engine tells it again until it is answered; we book it by ourselves meanwhile."""
    durable = DurableState()
    async with SettlementNode(durable) as node:
        durable.crash_points.arm(point)
        receiving = node._group.create_task(
            node.settlements.receive("bob", "theirs", Quantity(77, 9))
        )
        node._tasks.append(receiving)
        await durable.crash_points.crashed.wait()
    durable.crash_points.arm(None)
    async with SettlementNode(durable) as node:
        if point % 2:
            await node.quiet()  # sometimes it is told again at once, sometimes much later
        one = await node.settlements.receive("bob", "theirs", Quantity(77, 9))
        assert (one.phase, one.amount) == (Phase.COMPLETED, 77)
        assert node.settled() == (0, 77)
        assert node.net() == -77
        assert await books_at_rest(node.accounts) == []


# --- what comes in


@simulated
async def test_a_payment_is_credited_once_for_each_key() -> None:
    durable = DurableState()
    async with SettlementNode(durable) as node:
        first = await node.settlements.receive("bob", "k", Quantity(254, 9))
        again = await node.settlements.receive("bob", "k", Quantity(254, 9))
        assert (first.id, first.amount, again.phase) == (again.id, 254, Phase.COMPLETED)
        assert (node.net(), node.settled()) == (-254, (0, 254))
        assert node.settlements.counts == {("bob", "received"): 1}
        (event,) = node.events
        assert isinstance(event, SettlementCompleted)
        assert (event.direction, event.amount, event.net_balance) == ("incoming", 254, -254)
        await node.settlements.receive("bob", "k2", Quantity(1, 9))
        await node.settlements.receive("alice", "k", Quantity(5, 9))
        assert (node.net(), node.net("alice")) == (-255, -5)
        assert await books_at_rest(node.accounts) == []


@simulated
async def test_another_amount_under_a_key_is_refused() -> None:
    async with SettlementNode(DurableState()) as node:
        await node.settlements.receive("bob", "k", Quantity(254, 9))
        for other in (Quantity(255, 9), Quantity(254, 8), Quantity(2540, 10)):
            with pytest.raises(SettlementConflictError, match="was used for incoming 254"):
                await node.settlements.receive("bob", "k", other)
        assert node.settled() == (0, 254)
        assert node.logged("settlement_key_reused") == 3


@simulated
async def test_a_remainder_below_a_unit_is_added_to_the_next_payment() -> None:
    durable = DurableState()
    async with SettlementNode(durable) as node:
        one = await node.settlements.receive("bob", "k1", Quantity(6, 10))
        assert (one.amount, one.phase, node.net()) == (0, Phase.COMPLETED, 0)
        assert node.logged("settlement_received") == 1
    async with SettlementNode(durable) as node:
        assert await node.store.remainder("bob", BOB.asset) == Quantity(6, 10)
        await node.settlements.receive("bob", "k1", Quantity(6, 10))
        assert await node.store.remainder("bob", BOB.asset) == Quantity(6, 10)
        one = await node.settlements.receive("bob", "k2", Quantity(6, 10))
        assert (one.amount, node.net()) == (1, -1)
        assert await node.store.remainder("bob", BOB.asset) == Quantity(2, 10)
        assert (await node.settlements.receive("bob", "k1", Quantity(6, 10))).amount == 0


@pytest.mark.parametrize("fault", Fault)
@simulated
async def test_a_payment_that_cannot_be_booked_now_is_booked_later(fault: Fault) -> None:
    durable = DurableState()
    async with SettlementNode(durable) as node:
        durable.ledger.down = fault
        with pytest.raises(LedgerUnavailableError):
            await node.settlements.receive("bob", "k", Quantity(77, 9))
        durable.ledger.down = None
        await node.quiet()
        assert node.settled() == (0, 77)
        assert (await node.settlements.receive("bob", "k", Quantity(77, 9))).amount == 77
        assert node.net() == -77
        assert await books_at_rest(node.accounts) == []


@pytest.mark.parametrize(
    ("peer_id", "key", "quantity", "error"),
    [
        ("nobody", "k", UNIT, SettlementUnknownError),
        ("bob", "", UNIT, SettlementError),
        ("bob", "k" * 257, UNIT, SettlementError),
        ("bob", "k", Quantity(0, 9), SettlementError),
        ("bob", "k", Quantity(2**64, 9), SettlementError),
        ("bob", "k", Quantity(10**40, 0), SettlementError),
    ],
)
@simulated
async def test_payments_that_cannot_be_credited(
    peer_id: str, key: str, quantity: Quantity, error: type[Exception]
) -> None:
    async with SettlementNode(DurableState()) as node:
        with pytest.raises(error):
            await node.settlements.receive(peer_id, key, quantity)
        assert await node.settlements.view(None, 10) == []


@simulated
async def test_no_payment_is_acknowledged_while_the_disk_fails() -> None:
    durable = DurableState()
    async with SettlementNode(durable) as node:
        durable.file.down = sqlite3.OperationalError("disk is full")
        with pytest.raises(SettlementStoreError, match="disk is full"):
            await node.settlements.receive("bob", "k", UNIT)
        assert node.settled() == (0, 0)


# --- by hand


@simulated
async def test_an_operator_confirms_a_payment() -> None:
    durable = DurableState()
    async with SettlementNode(durable, by_hand=True, tick_s=60) as node:
        assert await node.owe(101)
        await node.until(lambda: node.settlements.state("bob") is State.IN_PROGRESS)
        assert node.net() == 0, "booked first: the peer cannot use it up meanwhile"
        assert node.logged("settlement_awaits_operator") == 1
        await node.settlements._pause(1_000)
        one = node.settlements.under_way("bob")
        assert one is not None
        assert (await node.settlements.confirm("bob", one.settlement_id)).phase is Phase.COMPLETED
        again = await node.settlements.confirm("bob", one.settlement_id)
        assert again.phase is Phase.COMPLETED
        assert node.settlements.state("bob") is State.IDLE
        assert node.settlements.counts == {("bob", "completed"): 1}
        assert durable.engine.asked == []


@simulated
async def test_an_engine_never_pays_what_an_operator_was_asked_to_pay() -> None:
    durable = DurableState()
    async with SettlementNode(durable, by_hand=True) as node:
        assert await node.owe(101)
        await node.until(lambda: node.settlements.state("bob") is State.IN_PROGRESS)
    async with SettlementNode(durable) as node:
        await node.settlements._pause(100)
        assert node.settlements.state("bob") is State.IN_PROGRESS
        assert durable.engine.asked == []


@simulated
async def test_an_operator_cancels_a_settlement() -> None:
    durable = DurableState()
    async with SettlementNode(durable, by_hand=True) as node:
        assert await node.owe(101)
        await node.until(lambda: node.settlements.state("bob") is State.IN_PROGRESS)
        one = node.settlements.under_way("bob")
        assert one is not None
        assert (await node.settlements.cancel("bob", one.settlement_id, force=False)).phase is (
            Phase.CANCELLED
        )
        assert (node.net(), node.settled()) == (-101, (101, 101))
        await node.settlements.cancel("bob", one.settlement_id, force=False)
        assert node.settled() == (101, 101), "booked back once"
        with pytest.raises(SettlementConflictError, match="is cancelled"):
            await node.settlements.confirm("bob", one.settlement_id)
        # It is owed as before, so it is settled anew, under another key.
        await node.until(lambda: node.settlements.state("bob") is State.IN_PROGRESS)
        other = node.settlements.under_way("bob")
        assert other is not None
        assert other.key != one.key
        assert await books_at_rest(node.accounts) == []


@simulated
async def test_cancelling_after_the_engine_was_asked_needs_force() -> None:
    durable = DurableState()
    durable.engine.down = EngineFault.LOST
    async with SettlementNode(durable) as node:
        assert await node.owe(101)
        await node.until(lambda: len(durable.engine.asked) > 1)
        one = node.settlements.under_way("bob")
        assert one is not None
        with pytest.raises(SettlementConflictError, match="may pay it yet"):
            await node.settlements.cancel("bob", one.settlement_id, force=False)
        await node.settlements.cancel("bob", one.settlement_id, force=True)
        assert node.net() == -101


@pytest.mark.parametrize("point", range(6))
@simulated
async def test_a_crash_while_cancelling_books_back_once(point: int) -> None:
    durable = DurableState()
    terms = (ALICE, BOB)
    async with SettlementNode(durable, terms, by_hand=True) as node:
        assert await node.owe(101)
        await node.until(lambda: node.settlements.state("bob") is State.IN_PROGRESS)
        one = node.settlements.under_way("bob")
        assert one is not None
        await node.settlements._pause(1)
        durable.crash_points.arm(point)
        node._tasks.append(
            node._group.create_task(node.settlements.cancel("bob", one.settlement_id, force=False))
        )
        await durable.crash_points.crashed.wait()
    durable.crash_points.arm(None)
    quiet = (ALICE, replace(BOB, settle_threshold=None))
    async with SettlementNode(durable, quiet, by_hand=True) as node:
        await node.settlements._pause(10)
        stored = await node.store.find(one.id)
        assert stored is not None
        if point == 0:
            # It died before it was on disk: the operator says it again.
            assert stored.phase is Phase.BOOKED
            await node.settlements.cancel("bob", one.settlement_id, force=False)
        assert node.settled() == (101, 101)
        assert node.net() == -101
        assert await books_at_rest(node.accounts) == []


@simulated
async def test_an_operator_records_an_external_payment() -> None:
    durable = DurableState()
    async with SettlementNode(durable, (ALICE, replace(BOB, settle_threshold=None))) as node:
        assert await node.owe(500)
        record = node.settlements.record
        one = await record("bob", Direction.OUTGOING, "k1", Quantity(500, 9))
        assert (one.phase, node.net()) == (Phase.COMPLETED, 0)
        await record("bob", Direction.OUTGOING, "k1", Quantity(500, 9))
        assert node.net() == 0
        await record("bob", Direction.INCOMING, "k2", Quantity(30, 9))
        assert (node.net(), node.settled()) == (-30, (500, 30))
        with pytest.raises(SettlementConflictError):
            await record("bob", Direction.INCOMING, "k1", Quantity(500, 9))
        with pytest.raises(SettlementError, match="whole units"):
            await record("bob", Direction.OUTGOING, "k3", Quantity(5, 10))
        assert durable.engine.asked == []
        assert await books_at_rest(node.accounts) == []


@simulated
async def test_an_operator_cannot_record_a_payment_over_the_credit_limit() -> None:
    async with SettlementNode(DurableState()) as node:
        for _ in range(2):  # the same key is answered the same
            with pytest.raises(SettlementConflictError, match="credit limit"):
                await node.settlements.record("bob", Direction.OUTGOING, "k", Quantity(1001, 9))
        assert (node.net(), node.settled()) == (0, (0, 0))
        await node.settlements.record("bob", Direction.OUTGOING, "k2", Quantity(1000, 9))
        assert node.net() == 1000, "a payment in advance is credit given"


@simulated
async def test_an_operator_pays_a_peer_now() -> None:
    durable = DurableState()
    async with SettlementNode(durable, (ALICE, replace(BOB, settle_to=10))) as node:
        assert await node.owe(90)
        one = await node.settlements.pay("bob", "k", None)
        assert one.amount == 80
        await node.quiet()
        assert (await node.settlements.pay("bob", "k", None)).phase is Phase.COMPLETED
        assert (node.net(), len(durable.engine.paid)) == (-10, 1)
        with pytest.raises(SettlementError, match="we owe 10"):
            await node.settlements.pay("bob", "k2", 11)
        assert (await node.settlements.pay("bob", "k3", 10)).amount == 10
        await node.quiet()
        with pytest.raises(SettlementError, match="nothing to pay"):
            await node.settlements.pay("bob", "k4", None)
        with pytest.raises(SettlementConflictError):
            await node.settlements.pay("bob", "k3", 9)
        with pytest.raises(SettlementError, match="now: neither owes the other anything"):
            await node.settlements.pay("bob", "k5", 5)
        await node.settlements.record("bob", Direction.OUTGOING, "k6", Quantity(7, 9))
        with pytest.raises(
            SettlementError, match="5 is more than can be paid to bob now: it owes us 7"
        ):
            await node.settlements.pay("bob", "k7", 5)


@simulated
async def test_there_is_one_payment_at_a_time() -> None:
    durable = DurableState()
    durable.engine.down = EngineFault.REFUSED
    async with SettlementNode(durable) as node:
        assert await node.owe(200)
        await node.until(lambda: len(durable.engine.asked) > 0)
        with pytest.raises(SettlementConflictError, match="is under way"):
            await node.settlements.pay("bob", "k", None)


# --- start and end


@simulated
async def test_a_settlement_of_a_removed_peer_resumes_when_it_returns() -> None:
    durable = DurableState()
    durable.engine.down = EngineFault.REFUSED
    async with SettlementNode(durable) as node:
        assert await node.owe(101)
        await node.until(lambda: len(durable.engine.asked) > 0)
    async with SettlementNode(durable, (ALICE,)) as node:
        assert node.logged("settlement_without_peer") == 1
        await node.settlements._pause(100)
    durable.engine.down = None
    async with SettlementNode(durable) as node:
        await node.quiet()
        assert len(durable.engine.paid) == 1
        assert settlement_transfers(durable) == [101]


@simulated
async def test_accounts_are_announced_as_soon_as_the_engine_answers() -> None:
    durable = DurableState()
    durable.engine.down = EngineFault.REFUSED
    async with SettlementNode(durable) as node:
        await node.until(lambda: node.logged("settlement_engine_unavailable") >= 2)
        assert durable.engine.accounts == set()
        durable.engine.down = None
        await node.until(lambda: durable.engine.accounts == {"bob"})
        await node.settlements.drop("bob")
        assert durable.engine.accounts == set()


@simulated
async def test_settlements_as_json() -> None:
    durable = DurableState()
    async with SettlementNode(durable) as node:
        assert await node.owe(101)
        await node.quiet()
        await node.settlements.receive("alice", "k", Quantity(3, 9))
        newest, oldest = await node.settlements.view(None, 10)
        assert (newest["peerId"], newest["direction"], newest["origin"]) == (
            "alice", "incoming", "engine",
        )  # fmt: skip
        assert oldest["amount"] == "101"
        assert oldest["phase"] == "completed"
        assert [one["peerId"] for one in await node.settlements.view("bob", 10)] == ["bob"]
        assert len(await node.settlements.view(None, 1)) == 1


# --- messages between engines


@simulated
async def test_a_message_of_the_peers_engine_is_answered_by_ours() -> None:
    durable = DurableState()
    async with SettlementNode(durable) as node:
        durable.engine.reply = Reply(201, b"our address")
        answer = await node.settlements.answer("bob", b"your address?")
        assert answer == Fulfill(fulfillment=bytes(32), data=b"our address")
        assert durable.engine.messages == [("bob", b"your address?")]


@pytest.mark.parametrize(
    ("reply", "down", "code", "data"),
    [
        (Reply(400, b"what?"), None, "F00", b"what?"),
        (Reply(500, b"ouch"), None, "T00", b"ouch"),
        (Reply(302, b""), None, "T00", b""),
        (Reply(201, b""), EngineFault.REFUSED, "T00", b""),
    ],
)
@simulated
async def test_a_message_that_our_engine_refuses_is_rejected_by_peer_settle(
    reply: Reply, down: EngineFault | None, code: str, data: bytes
) -> None:
    durable = DurableState()
    async with SettlementNode(durable) as node:
        durable.engine.reply, durable.engine.down = reply, down
        answer = await node.settlements.answer("bob", b"?")
        assert isinstance(answer, Reject)
        assert (answer.code, answer.triggered_by, answer.data) == (code, "peer.settle", data)


@simulated
async def test_messages_that_fail_fill_no_log() -> None:
    durable = DurableState()
    async with SettlementNode(durable) as node:
        durable.engine.reply = Reply(500, b"ouch")
        for _ in range(50):
            await node.settlements.answer("bob", b"?")
        assert node.logged("settlement_message_failed") == limits.LOG_LINES_PER_SECOND_PER_EVENT_MAX


@simulated
async def test_without_an_engine_messages_are_rejected() -> None:
    async with SettlementNode(DurableState(), by_hand=True) as node:
        answer = await node.settlements.answer("bob", b"?")
        assert isinstance(answer, Reject)
        assert (answer.code, answer.triggered_by) == ("F00", "peer.settle")


@simulated
async def test_a_message_of_our_engine_is_sent_as_a_prepare_with_amount_zero() -> None:
    async with SettlementNode(DurableState()) as node:
        answer = await node.settlements.relay("bob", b"hello")
        assert isinstance(answer, Fulfill)
        assert answer.data == b"theirs"
        ((peer_id, prepare),) = node.asked_peer
        assert (peer_id, prepare.destination, prepare.amount) == ("bob", "peer.settle", 0)
        assert prepare.data == b"hello"
        assert prepare.condition.hex().startswith("66687aad")
        with pytest.raises(SettlementUnknownError):
            await node.settlements.relay("nobody", b"hello")
