"""Settlements carried through, whatever fails and wherever the process dies."""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Callable, Coroutine
from dataclasses import replace
from functools import wraps
from typing import Any

import pytest

from connector.accounting.promises import Reservation
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
from tests.support.clocks import simulate
from tests.support.settlements import (
    ALICE,
    BOB,
    EngineFault,
    Ground,
    Life,
    settlement_transfers,
)

UNIT = Quantity(1, 9)


def simulated(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run a test in simulated time."""

    @wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        simulate(test(*args, **kwargs))

    return run


def kinds(life: Life) -> list[type]:
    return [type(event) for event in life.events]


# --- from the threshold to the end


@simulated
async def test_a_debt_above_the_threshold_is_booked_and_paid() -> None:
    ground = Ground()
    async with Life(ground) as life:
        assert await life.owe(101)
        assert life.net() == -101
        await life.until(lambda: life.settled() == (101, 0))
        await life.quiet()
        assert list(ground.engine.paid.values()) == [Quantity(101, 9)]
        assert (life.net(), life.settlements.state("bob")) == (0, State.IDLE)
        assert kinds(life) == [SettlementTriggered, SettlementStarted, SettlementCompleted]
        assert life.settlements.counts == {("bob", "completed"): 1}
        triggered, started, completed = life.events
        assert isinstance(triggered, SettlementTriggered)
        assert isinstance(started, SettlementStarted)
        assert isinstance(completed, SettlementCompleted)
        assert (triggered.net_balance, started.net_balance) == (-101, 0)
        assert (triggered.amount, triggered.threshold) == (101, 100)
        assert len({one.settlement_id for one in (triggered, started, completed)}) == 1
        assert await books_at_rest(life.accounts) == []


@simulated
async def test_a_debt_at_the_threshold_is_not_settled() -> None:
    async with Life(Ground()) as life:
        assert await life.owe(100)
        await life.quiet()
        assert (life.net(), life.events) == (-100, [])


@simulated
async def test_a_peer_without_a_threshold_is_never_settled_with() -> None:
    async with Life(Ground(), (ALICE, replace(BOB, settle_threshold=None))) as life:
        assert await life.owe(10**9)
        await life.quiet()
        assert life.events == []


@simulated
async def test_settle_to_stays_owed() -> None:
    async with Life(Ground(), (ALICE, replace(BOB, settle_to=40))) as life:
        assert await life.owe(150)
        await life.quiet()
        assert (life.net(), life.settled()) == (-40, (110, 0))


@simulated
async def test_the_states_of_a_settlement() -> None:
    ground = Ground()
    ground.engine.latency_s = 2.0
    async with Life(ground) as life:
        ground.ledger.gate.set()
        states: list[State] = []
        assert await life.owe(101)
        ground.ledger.latency_s = 0.5

        def changed() -> bool:
            state = life.settlements.state("bob")
            if not states or states[-1] is not state:
                states.append(state)
            return len(states) == 4

        await life.until(changed, 30)
        assert states == [State.IDLE, State.PENDING, State.IN_PROGRESS, State.IDLE]


@simulated
async def test_a_peer_has_one_settlement_at_a_time() -> None:
    ground = Ground()
    ground.engine.down = EngineFault.REFUSED
    async with Life(ground) as life:
        assert await life.owe(150)
        await life.until(lambda: len(ground.engine.asked) >= 3)
        assert await life.owe(400)
        await life.until(lambda: len(ground.engine.asked) >= 6)
        assert settlement_transfers(ground) == [150]
        assert life.net() == -400, "booked before it was asked for, and once"
        ground.engine.down = None
        await life.quiet()
        assert sorted(one.amount for one in ground.engine.paid.values()) == [150, 400]


@simulated
async def test_a_coarser_engine_pays_whole_units_and_the_rest_stays_owed() -> None:
    ground = Ground()
    async with Life(ground, scale=7) as life:
        assert await life.owe(1234)
        await life.quiet()
        assert list(ground.engine.paid.values()) == [Quantity(12, 7)]
        assert (life.net(), life.settled()) == (-34, (1200, 0))
        assert await life.owe(70)
        await life.quiet()
        assert [one.amount for one in ground.engine.paid.values()] == [12, 1]
        assert (life.net(), life.settled()) == (-4, (1300, 0))


@simulated
async def test_an_engine_is_not_asked_for_less_than_its_unit() -> None:
    ground = Ground()
    async with Life(ground, scale=2) as life:
        assert await life.owe(1234)
        await life.quiet()
        assert (ground.engine.asked, life.net(), life.settlements.state("bob")) == (
            [], -1234, State.IDLE,
        )  # fmt: skip


@simulated
async def test_a_finer_engine_gets_the_same_value() -> None:
    ground = Ground()
    async with Life(ground, scale=18) as life:
        assert await life.owe(101)
        await life.quiet()
        assert list(ground.engine.paid.values()) == [Quantity(101 * 10**9, 18)]


# --- faults


@simulated
async def test_a_failing_engine_is_retried_with_the_same_key_and_growing_waits() -> None:
    ground = Ground()
    ground.engine.down = EngineFault.REFUSED
    async with Life(ground) as life:
        assert await life.owe(101)
        moments: list[float] = []
        seen = 0
        for _ in range(16):
            await life.until(lambda: len(ground.engine.asked) > seen, 20_000)  # noqa: B023
            seen = len(ground.engine.asked)
            moments.append(ground.clock.monotonic_s())
        pauses = [later - earlier for earlier, later in itertools.pairwise(moments)]
        check_s = settlement_bounds.SETTLEMENT_CHECK_SECONDS + 0.25
        for attempt, pause in enumerate(pauses):
            doubled = min(3600, 2**attempt)
            assert doubled / 2 - 0.25 <= pause <= doubled + check_s
        assert max(pauses) <= settlement_bounds.SETTLEMENT_RETRY_SECONDS_MAX + check_s
        assert len(set(ground.engine.asked)) == 1
        assert life.logged("settlement_failed") >= 15
        ground.engine.down = None
        await life.quiet()
        assert len(ground.engine.paid) == 1
        assert kinds(life)[-1] is SettlementCompleted
        failed = [event for event in life.events if isinstance(event, SettlementFailed)]
        assert "tried again in" in failed[0].error


@simulated
async def test_a_lost_answer_of_the_engine_pays_once() -> None:
    ground = Ground()
    ground.engine.next_faults = [EngineFault.LOST, EngineFault.LOST]
    async with Life(ground) as life:
        assert await life.owe(101)
        await life.quiet()
        assert len(ground.engine.asked) == 3
        assert list(ground.engine.paid.values()) == [Quantity(101, 9)]
        assert life.settled() == (101, 0)


@pytest.mark.parametrize("fault", Fault)
@simulated
async def test_a_failing_ledger_books_once(fault: Fault) -> None:
    """Also when the acknowledgement was lost: the mirror counts it once, like the ledger."""
    ground = Ground()
    async with Life(ground) as life:
        assert await life.owe(101)
        ground.ledger.next_faults = [fault]
        ours: list[object] = []
        original = ground.ledger.create_transfers

        async def only_settlements(transfers: Any, kept: Any = ()) -> Any:
            if not transfers:
                return []
            ours.append(transfers)
            return await original(transfers, kept)

        ground.ledger.create_transfers = only_settlements  # type: ignore[method-assign]
        await life.quiet()
        assert len(ours) == 2
        assert life.settled() == (101, 0)
        assert life.net() == 0
        assert await books_at_rest(life.accounts) == []
        assert [event for event in kinds(life) if event is SettlementStarted] == [SettlementStarted]


@simulated
async def test_nothing_is_decided_while_the_ledger_is_unavailable() -> None:
    ground = Ground()
    async with Life(ground) as life:
        assert await life.owe(100)
        ground.ledger.down = Fault.REFUSED
        await life.until(lambda: life.accounts.state.value != "available")
        put_posted(life.accounts.peers["bob"].peer, credits_=1)
        put_posted(life.accounts.peers["alice"].peer, debits=1)
        await life.settlements._pause(20)
        assert life.events == []


@simulated
async def test_a_failing_disk_delays_the_decision_and_nothing_is_booked() -> None:
    ground = Ground()
    async with Life(ground) as life:
        ground.file.down = sqlite3.OperationalError("disk is full")
        assert await life.owe(101)
        await life.until(lambda: life.logged("settlement_postponed") >= 2)
        assert settlement_transfers(ground) == []
        ground.file.down = None
        await life.quiet()
        assert life.settled() == (101, 0)


@simulated
async def test_money_held_for_the_peers_own_packets_is_not_paid_out() -> None:
    """The ledger would refuse it: with no credit, what we owe is all that the peer may send."""
    ground = Ground()
    async with Life(ground, (ALICE, replace(BOB, credit_limit=0))) as life:
        assert await life.owe(90)
        held = await life.hold(60, source="bob", next_hop="alice")
        assert held is not None
        assert await life.owe(50)
        await life.until(lambda: life.settled()[0] == 80)
        await life.quiet()
        assert life.net() == -60, "140 owed, 60 of it held"
        assert ("bob", "refused") not in life.settlements.counts


@pytest.mark.interpreted
@simulated
async def test_after_a_refusal_of_the_ledger_another_key_is_used() -> None:
    ground = Ground()
    async with Life(ground, (ALICE, replace(BOB, credit_limit=0))) as life:
        assert await life.owe(150)
        # Between looking and booking, the peer has used all of it.
        original = life.accounts.settleable
        held: list[Reservation | None] = []

        async def stale(peer_id: str) -> tuple[int, int]:
            answer = await original(peer_id)
            if not held:
                held.append(await life.hold(150, source="bob", next_hop="alice"))
            return answer

        life.accounts.settleable = stale  # type: ignore[method-assign]
        await life.until(lambda: life.settlements.counts.get(("bob", "refused")) == 1)
        assert held[0] is not None
        life.accounts.void(held[0])
        await life.until(lambda: life.settlements.counts.get(("bob", "completed")) == 1)
        refused = next(event for event in life.events if isinstance(event, SettlementFailed))
        assert "credit limit" in refused.error
        assert [one.amount for one in ground.engine.paid.values()] == [150]
        assert life.settled() == (150, 0), "once its packet was rejected"
        keys = {one.key for one in await life.store.latest("bob", 10)}
        assert len(keys) == 2


# --- the process dies, anywhere


async def points_of_a_settlement() -> int:
    ground = Ground()
    async with Life(ground) as life:
        ground.fuse.light(None)
        assert await life.owe(101)
        await life.quiet()
        return ground.fuse.points


def test_the_number_of_crash_points_is_as_expected() -> None:
    """Intent to disk, ledger, booked to disk, engine, completed to disk: before and after each."""
    assert simulate(points_of_a_settlement()) == 10


@pytest.mark.parametrize("point", range(10))
@pytest.mark.parametrize("by_hand", [False, True], ids=["engine", "by hand"])
@simulated
async def test_a_crash_at_any_point_settles_once(point: int, by_hand: bool) -> None:
    ground = Ground()
    async with Life(ground, by_hand=by_hand) as life:
        assert await life.owe(101)
        ground.fuse.light(point)
        if by_hand and point >= 6:
            await life.until(lambda: life.settlements.state("bob") is State.IN_PROGRESS)
            one = life.settlements.under_way("bob")
            assert one is not None
            life._tasks.append(
                life._group.create_task(life.settlements.confirm("bob", one.settlement_id))
            )
            if point >= 8:
                return  # confirming passes two points: there are no more
        await ground.fuse.blown.wait()
    ground.fuse.light(None)
    async with Life(ground, by_hand=by_hand) as life:
        if by_hand:
            await life.until(lambda: life.settlements.state("bob") is not State.PENDING)
            await life.until(lambda: life.net() == 0)
            one = life.settlements.under_way("bob")
            if one is not None:
                await life.until(lambda: one.phase is Phase.BOOKED)
                await life.settlements.confirm("bob", one.settlement_id)
        await life.quiet()
        assert settlement_transfers(ground) == [101]
        assert life.settled() == (101, 0)
        assert life.net() == 0
        if not by_hand:
            assert list(ground.engine.paid.values()) == [Quantity(101, 9)]
        assert await books_at_rest(life.accounts) == []
        (stored,) = await life.store.latest("bob", 10)
        assert stored.phase is Phase.COMPLETED


@pytest.mark.parametrize("point", range(6))
@simulated
async def test_a_crash_during_an_incoming_payment_credits_once(point: int) -> None:
    """The engine tells it again until it is answered; we book it by ourselves meanwhile."""
    ground = Ground()
    async with Life(ground) as life:
        ground.fuse.light(point)
        receiving = life._group.create_task(
            life.settlements.receive("bob", "theirs", Quantity(77, 9))
        )
        life._tasks.append(receiving)
        await ground.fuse.blown.wait()
    ground.fuse.light(None)
    async with Life(ground) as life:
        if point % 2:
            await life.quiet()  # sometimes it is told again at once, sometimes much later
        one = await life.settlements.receive("bob", "theirs", Quantity(77, 9))
        assert (one.phase, one.amount) == (Phase.COMPLETED, 77)
        assert life.settled() == (0, 77)
        assert life.net() == -77
        assert await books_at_rest(life.accounts) == []


# --- what comes in


@simulated
async def test_a_payment_is_credited_once_for_each_key() -> None:
    ground = Ground()
    async with Life(ground) as life:
        first = await life.settlements.receive("bob", "k", Quantity(254, 9))
        again = await life.settlements.receive("bob", "k", Quantity(254, 9))
        assert (first.id, first.amount, again.phase) == (again.id, 254, Phase.COMPLETED)
        assert (life.net(), life.settled()) == (-254, (0, 254))
        assert life.settlements.counts == {("bob", "received"): 1}
        (event,) = life.events
        assert isinstance(event, SettlementCompleted)
        assert (event.direction, event.amount, event.net_balance) == ("incoming", 254, -254)
        await life.settlements.receive("bob", "k2", Quantity(1, 9))
        await life.settlements.receive("alice", "k", Quantity(5, 9))
        assert (life.net(), life.net("alice")) == (-255, -5)
        assert await books_at_rest(life.accounts) == []


@simulated
async def test_another_amount_under_a_key_is_refused() -> None:
    async with Life(Ground()) as life:
        await life.settlements.receive("bob", "k", Quantity(254, 9))
        for other in (Quantity(255, 9), Quantity(254, 8), Quantity(2540, 10)):
            with pytest.raises(SettlementConflictError, match="was used for incoming 254"):
                await life.settlements.receive("bob", "k", other)
        assert life.settled() == (0, 254)
        assert life.logged("settlement_key_reused") == 3


@simulated
async def test_a_remainder_below_a_unit_is_added_to_the_next_payment() -> None:
    ground = Ground()
    async with Life(ground) as life:
        one = await life.settlements.receive("bob", "k1", Quantity(6, 10))
        assert (one.amount, one.phase, life.net()) == (0, Phase.COMPLETED, 0)
        assert life.logged("settlement_received") == 1
    async with Life(ground) as life:
        assert await life.store.remainder("bob", BOB.asset) == Quantity(6, 10)
        await life.settlements.receive("bob", "k1", Quantity(6, 10))
        assert await life.store.remainder("bob", BOB.asset) == Quantity(6, 10)
        one = await life.settlements.receive("bob", "k2", Quantity(6, 10))
        assert (one.amount, life.net()) == (1, -1)
        assert await life.store.remainder("bob", BOB.asset) == Quantity(2, 10)
        assert (await life.settlements.receive("bob", "k1", Quantity(6, 10))).amount == 0


@pytest.mark.parametrize("fault", Fault)
@simulated
async def test_a_payment_that_cannot_be_booked_now_is_booked_later(fault: Fault) -> None:
    ground = Ground()
    async with Life(ground) as life:
        ground.ledger.down = fault
        with pytest.raises(LedgerUnavailableError):
            await life.settlements.receive("bob", "k", Quantity(77, 9))
        ground.ledger.down = None
        await life.quiet()
        assert life.settled() == (0, 77)
        assert (await life.settlements.receive("bob", "k", Quantity(77, 9))).amount == 77
        assert life.net() == -77
        assert await books_at_rest(life.accounts) == []


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
    async with Life(Ground()) as life:
        with pytest.raises(error):
            await life.settlements.receive(peer_id, key, quantity)
        assert await life.settlements.view(None, 10) == []


@simulated
async def test_no_payment_is_acknowledged_while_the_disk_fails() -> None:
    ground = Ground()
    async with Life(ground) as life:
        ground.file.down = sqlite3.OperationalError("disk is full")
        with pytest.raises(SettlementStoreError, match="disk is full"):
            await life.settlements.receive("bob", "k", UNIT)
        assert life.settled() == (0, 0)


# --- by hand


@simulated
async def test_an_operator_confirms_a_payment() -> None:
    ground = Ground()
    async with Life(ground, by_hand=True) as life:
        assert await life.owe(101)
        await life.until(lambda: life.settlements.state("bob") is State.IN_PROGRESS)
        assert life.net() == 0, "booked first: the peer cannot use it up meanwhile"
        assert life.logged("settlement_awaits_operator") == 1
        await life.settlements._pause(10_000)
        one = life.settlements.under_way("bob")
        assert one is not None
        assert (await life.settlements.confirm("bob", one.settlement_id)).phase is Phase.COMPLETED
        again = await life.settlements.confirm("bob", one.settlement_id)
        assert again.phase is Phase.COMPLETED
        assert life.settlements.state("bob") is State.IDLE
        assert life.settlements.counts == {("bob", "completed"): 1}
        assert ground.engine.asked == []


@simulated
async def test_an_engine_never_pays_what_an_operator_was_asked_to_pay() -> None:
    ground = Ground()
    async with Life(ground, by_hand=True) as life:
        assert await life.owe(101)
        await life.until(lambda: life.settlements.state("bob") is State.IN_PROGRESS)
    async with Life(ground) as life:
        await life.settlements._pause(100)
        assert life.settlements.state("bob") is State.IN_PROGRESS
        assert ground.engine.asked == []


@simulated
async def test_an_operator_cancels_a_settlement() -> None:
    ground = Ground()
    async with Life(ground, by_hand=True) as life:
        assert await life.owe(101)
        await life.until(lambda: life.settlements.state("bob") is State.IN_PROGRESS)
        one = life.settlements.under_way("bob")
        assert one is not None
        assert (await life.settlements.cancel("bob", one.settlement_id, force=False)).phase is (
            Phase.CANCELLED
        )
        assert (life.net(), life.settled()) == (-101, (101, 101))
        await life.settlements.cancel("bob", one.settlement_id, force=False)
        assert life.settled() == (101, 101), "booked back once"
        with pytest.raises(SettlementConflictError, match="is cancelled"):
            await life.settlements.confirm("bob", one.settlement_id)
        # It is owed as before, so it is settled anew, under another key.
        await life.until(lambda: life.settlements.state("bob") is State.IN_PROGRESS)
        other = life.settlements.under_way("bob")
        assert other is not None
        assert other.key != one.key
        assert await books_at_rest(life.accounts) == []


@simulated
async def test_cancelling_after_the_engine_was_asked_needs_force() -> None:
    ground = Ground()
    ground.engine.down = EngineFault.LOST
    async with Life(ground) as life:
        assert await life.owe(101)
        await life.until(lambda: len(ground.engine.asked) > 1)
        one = life.settlements.under_way("bob")
        assert one is not None
        with pytest.raises(SettlementConflictError, match="may pay it yet"):
            await life.settlements.cancel("bob", one.settlement_id, force=False)
        await life.settlements.cancel("bob", one.settlement_id, force=True)
        assert life.net() == -101


@pytest.mark.parametrize("point", range(6))
@simulated
async def test_a_crash_while_cancelling_books_back_once(point: int) -> None:
    ground = Ground()
    terms = (ALICE, BOB)
    async with Life(ground, terms, by_hand=True) as life:
        assert await life.owe(101)
        await life.until(lambda: life.settlements.state("bob") is State.IN_PROGRESS)
        one = life.settlements.under_way("bob")
        assert one is not None
        await life.settlements._pause(1)
        ground.fuse.light(point)
        life._tasks.append(
            life._group.create_task(life.settlements.cancel("bob", one.settlement_id, force=False))
        )
        await ground.fuse.blown.wait()
    ground.fuse.light(None)
    quiet = (ALICE, replace(BOB, settle_threshold=None))
    async with Life(ground, quiet, by_hand=True) as life:
        await life.settlements._pause(10)
        stored = await life.store.find(one.id)
        assert stored is not None
        if point == 0:
            # It died before it was on disk: the operator says it again.
            assert stored.phase is Phase.BOOKED
            await life.settlements.cancel("bob", one.settlement_id, force=False)
        assert life.settled() == (101, 101)
        assert life.net() == -101
        assert await books_at_rest(life.accounts) == []


@simulated
async def test_an_operator_records_an_external_payment() -> None:
    ground = Ground()
    async with Life(ground, (ALICE, replace(BOB, settle_threshold=None))) as life:
        assert await life.owe(500)
        record = life.settlements.record
        one = await record("bob", Direction.OUTGOING, "k1", Quantity(500, 9))
        assert (one.phase, life.net()) == (Phase.COMPLETED, 0)
        await record("bob", Direction.OUTGOING, "k1", Quantity(500, 9))
        assert life.net() == 0
        await record("bob", Direction.INCOMING, "k2", Quantity(30, 9))
        assert (life.net(), life.settled()) == (-30, (500, 30))
        with pytest.raises(SettlementConflictError):
            await record("bob", Direction.INCOMING, "k1", Quantity(500, 9))
        with pytest.raises(SettlementError, match="whole units"):
            await record("bob", Direction.OUTGOING, "k3", Quantity(5, 10))
        assert ground.engine.asked == []
        assert await books_at_rest(life.accounts) == []


@simulated
async def test_an_operator_cannot_record_a_payment_over_the_credit_limit() -> None:
    async with Life(Ground()) as life:
        for _ in range(2):  # the same key is answered the same
            with pytest.raises(SettlementConflictError, match="credit limit"):
                await life.settlements.record("bob", Direction.OUTGOING, "k", Quantity(1001, 9))
        assert (life.net(), life.settled()) == (0, (0, 0))
        await life.settlements.record("bob", Direction.OUTGOING, "k2", Quantity(1000, 9))
        assert life.net() == 1000, "a payment in advance is credit given"


@simulated
async def test_an_operator_pays_a_peer_now() -> None:
    ground = Ground()
    async with Life(ground, (ALICE, replace(BOB, settle_to=10))) as life:
        assert await life.owe(90)
        one = await life.settlements.pay("bob", "k", None)
        assert one.amount == 80
        await life.quiet()
        assert (await life.settlements.pay("bob", "k", None)).phase is Phase.COMPLETED
        assert (life.net(), len(ground.engine.paid)) == (-10, 1)
        with pytest.raises(SettlementError, match="we owe 10"):
            await life.settlements.pay("bob", "k2", 11)
        assert (await life.settlements.pay("bob", "k3", 10)).amount == 10
        await life.quiet()
        with pytest.raises(SettlementError, match="nothing to pay"):
            await life.settlements.pay("bob", "k4", None)
        with pytest.raises(SettlementConflictError):
            await life.settlements.pay("bob", "k3", 9)


@simulated
async def test_there_is_one_payment_at_a_time() -> None:
    ground = Ground()
    ground.engine.down = EngineFault.REFUSED
    async with Life(ground) as life:
        assert await life.owe(200)
        await life.until(lambda: len(ground.engine.asked) > 0)
        with pytest.raises(SettlementConflictError, match="is under way"):
            await life.settlements.pay("bob", "k", None)


# --- start and end


@simulated
async def test_a_settlement_of_a_removed_peer_resumes_when_it_returns() -> None:
    ground = Ground()
    ground.engine.down = EngineFault.REFUSED
    async with Life(ground) as life:
        assert await life.owe(101)
        await life.until(lambda: len(ground.engine.asked) > 0)
    async with Life(ground, (ALICE,)) as life:
        assert life.logged("settlement_without_peer") == 1
        await life.settlements._pause(100)
    ground.engine.down = None
    async with Life(ground) as life:
        await life.quiet()
        assert len(ground.engine.paid) == 1
        assert settlement_transfers(ground) == [101]


@simulated
async def test_accounts_are_announced_as_soon_as_the_engine_answers() -> None:
    ground = Ground()
    ground.engine.down = EngineFault.REFUSED
    async with Life(ground) as life:
        await life.until(lambda: life.logged("settlement_engine_unavailable") >= 2)
        assert ground.engine.accounts == set()
        ground.engine.down = None
        await life.until(lambda: ground.engine.accounts == {"bob"})
        await life.settlements.drop("bob")
        assert ground.engine.accounts == set()


@simulated
async def test_settlements_as_json() -> None:
    ground = Ground()
    async with Life(ground) as life:
        assert await life.owe(101)
        await life.quiet()
        await life.settlements.receive("alice", "k", Quantity(3, 9))
        newest, oldest = await life.settlements.view(None, 10)
        assert (newest["peerId"], newest["direction"], newest["origin"]) == (
            "alice", "incoming", "engine",
        )  # fmt: skip
        assert oldest["amount"] == "101"
        assert oldest["phase"] == "completed"
        assert [one["peerId"] for one in await life.settlements.view("bob", 10)] == ["bob"]
        assert len(await life.settlements.view(None, 1)) == 1


# --- messages between engines


@simulated
async def test_a_message_of_the_peers_engine_is_answered_by_ours() -> None:
    ground = Ground()
    async with Life(ground) as life:
        ground.engine.reply = Reply(201, b"our address")
        answer = await life.settlements.answer("bob", b"your address?")
        assert answer == Fulfill(fulfillment=bytes(32), data=b"our address")
        assert ground.engine.messages == [("bob", b"your address?")]


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
    ground = Ground()
    async with Life(ground) as life:
        ground.engine.reply, ground.engine.down = reply, down
        answer = await life.settlements.answer("bob", b"?")
        assert isinstance(answer, Reject)
        assert (answer.code, answer.triggered_by, answer.data) == (code, "peer.settle", data)


@simulated
async def test_without_an_engine_messages_are_rejected() -> None:
    async with Life(Ground(), by_hand=True) as life:
        answer = await life.settlements.answer("bob", b"?")
        assert isinstance(answer, Reject)
        assert (answer.code, answer.triggered_by) == ("F00", "peer.settle")


@simulated
async def test_a_message_of_our_engine_is_sent_as_a_prepare_with_amount_zero() -> None:
    async with Life(Ground()) as life:
        answer = await life.settlements.relay("bob", b"hello")
        assert isinstance(answer, Fulfill)
        assert answer.data == b"theirs"
        ((peer_id, prepare),) = life.asked_peer
        assert (peer_id, prepare.destination, prepare.amount) == ("bob", "peer.settle", 0)
        assert prepare.data == b"hello"
        assert prepare.condition.hex().startswith("66687aad")
        with pytest.raises(SettlementUnknownError):
            await life.settlements.relay("nobody", b"hello")
