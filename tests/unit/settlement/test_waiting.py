"""Payments that an engine reports beyond what it may vouch for: they wait for an operator."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

import pytest

from connector.accounting.manager import State as BooksState
from connector.base.errors import (
    LedgerUnavailableError,
    SettlementConflictError,
    SettlementError,
    SettlementStoreError,
    SettlementsWaitingError,
    SettlementUnknownError,
)
from connector.settlement import bounds
from connector.settlement.manager import SettlementManager
from connector.settlement.model import (
    Direction,
    Phase,
    Quantity,
    Settlement,
    State,
    is_credited_at_once,
)
from connector.telemetry.events import SettlementCompleted, SettlementFailed, SettlementWaiting
from tests.support.accounts import Fault, books_at_rest
from tests.support.clocks import simulated
from tests.support.settlements import ALICE, BOB, DurableState, SettlementNode

PREPAID = 100
TERMS = (ALICE, replace(BOB, max_prepaid=PREPAID, settle_threshold=None))
PAID = Quantity(177, 9)


@pytest.mark.parametrize(
    ("amount", "owed", "bound", "at_once"),
    [
        (100, 0, 100, True), (101, 0, 100, False), (1, -100, 100, False), (1, -99, 100, True),
        (500, 500, 0, True), (501, 500, 0, False), (600, 500, 100, True), (601, 500, 100, False),
        (0, -1000, 0, True), (10**18, -(10**18), None, True),
    ],
)  # fmt: skip
def test_what_is_owed_and_the_bound_are_credited_at_once(
    amount: int, owed: int, bound: int | None, at_once: bool
) -> None:
    assert is_credited_at_once(amount, owed=owed, max_prepaid=bound) is at_once


async def wait_for_operator(node: SettlementNode, key: str = "theirs") -> Settlement:
    one = await node.settlements.receive("bob", key, PAID)
    assert one.phase is Phase.WAITING
    return one


@simulated
async def test_a_payment_beyond_the_bound_waits_and_is_told_once() -> None:
    async with SettlementNode(DurableState(), TERMS) as node:
        one = await wait_for_operator(node)
        again = await wait_for_operator(node)
        assert (again is one, node.settled(), node.net()) == (True, (0, 0), 0)
        assert (node.settlements.state("bob"), node.settlements.waiting("bob")) == (
            State.IDLE,
            1,
        )
        assert node.logged("settlement_waits_for_operator") == 1
        (event,) = node.events
        assert isinstance(event, SettlementWaiting)
        assert (event.amount, event.direction, event.net_balance) == (177, "incoming", 0)
        assert node.settlements.counts == {("bob", "waiting"): 1}
        with pytest.raises(SettlementConflictError, match="was used for incoming 177"):
            await node.settlements.receive("bob", "theirs", Quantity(5, 9))
        (shown,) = await node.settlements.view("bob", 10, Phase.WAITING)
        assert (shown["phase"], shown["state"], shown["amount"]) == ("waiting", "IDLE", "177")
        assert await node.settlements.view("bob", 10, Phase.PENDING) == []


@simulated
async def test_many_small_payments_are_bounded_together() -> None:
    async with SettlementNode(DurableState(), TERMS) as node:
        phases = [
            (await node.settlements.receive("bob", f"k{n}", Quantity(30, 9))).phase
            for n in range(5)
        ]
        assert phases == [Phase.COMPLETED] * 3 + [Phase.WAITING] * 2
        assert node.net() == -90
        assert (await node.settlements.receive("bob", "fits", Quantity(10, 9))).phase is (
            Phase.COMPLETED
        )


@simulated
async def test_what_the_peer_owes_may_be_paid_off() -> None:
    async with SettlementNode(DurableState(), TERMS) as node:
        assert await node.owe(400, source="bob", next_hop="alice")
        assert (await node.settlements.receive("bob", "k", Quantity(500, 9))).phase is (
            Phase.COMPLETED
        )
        assert node.net() == -100


@simulated
async def test_payments_at_the_same_time_are_compared_one_after_the_other() -> None:
    durable = DurableState()
    durable.ledger.latency_s = 0.05
    async with SettlementNode(durable, TERMS) as node:
        tasks = [
            node._group.create_task(node.settlements.receive("bob", f"k{n}", Quantity(60, 9)))
            for n in range(4)
        ]
        phases = [(await task).phase for task in tasks]
        assert sorted(phases) == [Phase.COMPLETED, *[Phase.WAITING] * 3]
        assert node.net() == -60


@simulated
async def test_a_payment_that_is_not_booked_yet_counts_against_the_next() -> None:
    durable = DurableState()
    async with SettlementNode(durable, TERMS) as node:
        durable.ledger.down = Fault.REFUSED
        with pytest.raises(LedgerUnavailableError):
            await node.settlements.receive("bob", "first", Quantity(60, 9))
        # What is too much is not decided while the ledger is away.
        await node.until(lambda: node.accounts.state is not BooksState.AVAILABLE)
        with pytest.raises(LedgerUnavailableError, match="is not known yet"):
            await node.settlements.receive("bob", "second", Quantity(60, 9))
        assert node.settlements.waiting("bob") == 0
        durable.ledger.down = None
        await node.until(lambda: node.net() == -60)
        assert (await node.settlements.receive("bob", "second", Quantity(60, 9))).phase is (
            Phase.WAITING
        )


class NotKnownYet:
    """Accounts of which the ledger has told nothing since the start: all balances are zero."""

    state = BooksState.UNAVAILABLE

    def __init__(self, accounts: Any) -> None:
        self._accounts = accounts

    def __getattr__(self, name: str) -> Any:
        return getattr(self._accounts, name)


@simulated
async def test_nothing_is_compared_with_balances_that_are_not_known() -> None:
    async with SettlementNode(DurableState(), TERMS) as node:
        settlements: Any = node.settlements
        settlements._accounts = NotKnownYet(node.accounts)
        with pytest.raises(LedgerUnavailableError, match="has not answered since the start"):
            await node.settlements.receive("bob", "k", Quantity(60, 9))
        settlements._accounts = node.accounts
        assert await node.settlements.view("bob", 10) == []
        assert (await node.settlements.receive("bob", "k", Quantity(60, 9))).phase is (
            Phase.COMPLETED
        )


@simulated
async def test_an_accepted_payment_is_credited_once_however_often_it_is_accepted() -> None:
    async with SettlementNode(DurableState(), TERMS) as node:
        one = await wait_for_operator(node)
        for _ in range(2):
            done = await node.settlements.accept("bob", one.settlement_id)
            assert (done.phase, done.amount) == (Phase.COMPLETED, 177)
        assert (node.settled(), node.net(), node.settlements.waiting("bob")) == ((0, 177), -177, 0)
        assert node.settlements.state("bob") is State.IDLE
        assert [type(event) for event in node.events] == [SettlementWaiting, SettlementCompleted]
        # The engine is told so, and a payment that is credited is not declined any more.
        assert (await node.settlements.receive("bob", "theirs", PAID)).phase is Phase.COMPLETED
        with pytest.raises(SettlementConflictError, match="is completed"):
            await node.settlements.decline("bob", one.settlement_id)
        assert await books_at_rest(node.accounts) == []
        assert not node.settlements._carrier.open


@simulated
async def test_a_declined_payment_is_never_credited() -> None:
    async with SettlementNode(DurableState(), TERMS) as node:
        one = await wait_for_operator(node)
        for _ in range(2):
            assert (
                await node.settlements.decline("bob", one.settlement_id)
            ).phase is Phase.DECLINED
        with pytest.raises(SettlementConflictError, match="is declined"):
            await node.settlements.accept("bob", one.settlement_id)
        with pytest.raises(SettlementConflictError, match="an operator has declined"):
            await node.settlements.receive("bob", "theirs", PAID)
        assert (node.settled(), node.settlements.waiting("bob")) == ((0, 0), 0)
        failed = node.events[-1]
        assert isinstance(failed, SettlementFailed)
        assert "declined" in failed.error
        assert not node.settlements._carrier.open


@pytest.mark.parametrize("decision", ["accept", "decline"])
@simulated
async def test_what_is_less_than_a_unit_is_kept_exactly(decision: str) -> None:
    """While it waits nothing of it is in the remainder; when it is accepted all of it is."""
    async with SettlementNode(DurableState(), TERMS) as node:
        settlements = node.settlements
        await settlements.receive("bob", "half", Quantity(5, 10))
        one = await settlements.receive("bob", "big", Quantity(2005, 10))
        assert (one.phase, one.amount) == (Phase.WAITING, 200)
        # Another payment takes the first half meanwhile.
        assert (await settlements.receive("bob", "half2", Quantity(7, 10))).amount == 1
        done = await getattr(settlements, decision)("bob", one.settlement_id)
        accepted = decision == "accept"
        assert done.phase is (Phase.COMPLETED if accepted else Phase.DECLINED)
        assert node.settled() == (0, 201 if accepted else 1)
        left = await node.store.remainder("bob", one.asset)
        assert left == Quantity(7 if accepted else 2, 10)


@simulated
async def test_an_operators_own_record_needs_no_second_word() -> None:
    async with SettlementNode(DurableState(), TERMS) as node:
        one = await node.settlements.record("bob", Direction.INCOMING, "k", Quantity(5000, 9))
        assert (one.phase, node.net()) == (Phase.COMPLETED, -5000)
        with pytest.raises(SettlementConflictError, match="is completed"):
            await node.settlements.accept("bob", one.settlement_id)


@simulated
async def test_only_what_waits_can_be_decided() -> None:
    async with SettlementNode(DurableState(), TERMS) as node:
        one = await wait_for_operator(node)
        for decide in (node.settlements.accept, node.settlements.decline):
            for peer_id, settlement_id in (
                ("bob", "ff"), ("bob", "not-hex"), ("alice", one.settlement_id),
                ("nobody", one.settlement_id),
            ):  # fmt: skip
                with pytest.raises(SettlementUnknownError):
                    await decide(peer_id, settlement_id)
        assert node.settlements.waiting("bob") == 1


@simulated
async def test_waiting_payments_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "SETTLEMENTS_WAITING_PER_PEER_MAX", 2)
    async with SettlementNode(DurableState(), TERMS) as node:
        first = await wait_for_operator(node, "a")
        await wait_for_operator(node, "b")
        with pytest.raises(SettlementsWaitingError):
            await node.settlements.receive("bob", "c", PAID)
        await wait_for_operator(node, "a")
        assert (await node.settlements.receive("bob", "small", Quantity(1, 9))).amount == 1
        await node.settlements.decline("bob", first.settlement_id)
        await wait_for_operator(node, "c")


@simulated
async def test_of_a_removed_peer_only_what_it_owes_is_credited_at_once() -> None:
    async with SettlementNode(DurableState(), TERMS) as node:
        assert await node.owe(50, source="bob", next_hop="alice")
        node.accounts.remove_peer("bob")
        assert (await node.settlements.receive("bob", "k", Quantity(40, 9))).phase is (
            Phase.COMPLETED
        )
        assert (await node.settlements.receive("bob", "k2", Quantity(11, 9))).phase is Phase.WAITING


# --- the process dies, anywhere

Step = Callable[[SettlementManager, str], Coroutine[Any, Any, Settlement]]


@pytest.mark.parametrize("point", range(6))
@simulated
async def test_a_crash_before_it_waits_leaves_one_payment_that_waits(point: int) -> None:
    durable = DurableState()
    async with SettlementNode(durable, TERMS) as node:
        durable.crash_points.arm(point)
        node._tasks.append(node._group.create_task(node.settlements.receive("bob", "theirs", PAID)))
        await durable.crash_points.crashed.wait()
    durable.crash_points.arm(None)
    async with SettlementNode(durable, TERMS) as node:
        if node.settlements.waiting("bob"):
            assert node.logged("settlement_waits_for_operator") == 1, "told again at each start"
        one = await wait_for_operator(node)
        assert (node.settlements.waiting("bob"), node.settled()) == (1, (0, 0))
        await node.settlements.accept("bob", one.settlement_id)
        assert (node.settled(), len(await node.store.latest("bob", 10))) == ((0, 177), 1)


@pytest.mark.parametrize("point", range(6))
@simulated
async def test_a_crash_while_it_is_accepted_credits_once(point: int) -> None:
    """Accepted to disk, ledger, completed to disk: before and after each."""
    durable = DurableState()
    async with SettlementNode(durable, TERMS) as node:
        one = await wait_for_operator(node)
        durable.crash_points.arm(point)
        node._tasks.append(
            node._group.create_task(node.settlements.accept("bob", one.settlement_id))
        )
        await durable.crash_points.crashed.wait()
    durable.crash_points.arm(None)
    async with SettlementNode(durable, TERMS) as node:
        if point:
            await node.until(lambda: node.settled() == (0, 177))  # without another word
            await node.quiet()
        else:
            assert node.settlements.waiting("bob") == 1
        done = await node.settlements.accept("bob", one.settlement_id)
        assert (done.phase, node.settled(), node.net()) == (Phase.COMPLETED, (0, 177), -177)
        assert (await node.settlements.receive("bob", "theirs", PAID)).phase is Phase.COMPLETED
        assert await books_at_rest(node.accounts) == []


@pytest.mark.parametrize("point", range(2))
@simulated
async def test_a_crash_while_it_is_declined_leaves_it_waiting_or_declined(point: int) -> None:
    durable = DurableState()
    async with SettlementNode(durable, TERMS) as node:
        one = await wait_for_operator(node)
        durable.crash_points.arm(point)
        node._tasks.append(
            node._group.create_task(node.settlements.decline("bob", one.settlement_id))
        )
        await durable.crash_points.crashed.wait()
    durable.crash_points.arm(None)
    async with SettlementNode(durable, TERMS) as node:
        assert node.settlements.waiting("bob") == 1 - point
        assert (await node.settlements.decline("bob", one.settlement_id)).phase is Phase.DECLINED
        assert node.settled() == (0, 0)


@simulated
async def test_a_disk_that_refuses_leaves_it_waiting() -> None:
    durable = DurableState()
    async with SettlementNode(durable, TERMS) as node:
        one = await wait_for_operator(node)
        for decide in (node.settlements.accept, node.settlements.decline):
            durable.file.down = sqlite3.OperationalError("disk is full")
            with pytest.raises(SettlementStoreError):
                await decide("bob", one.settlement_id)
            durable.file.down = None
            assert (one.phase, node.settlements.waiting("bob")) == (Phase.WAITING, 1)
        assert node.settled() == (0, 0)


@simulated
async def test_accepted_while_the_ledger_is_away_it_is_booked_when_it_is_back() -> None:
    durable = DurableState()
    async with SettlementNode(durable, TERMS) as node:
        one = await wait_for_operator(node)
        durable.ledger.down = Fault.REFUSED
        with pytest.raises(LedgerUnavailableError, match="accepted, not booked yet"):
            await node.settlements.accept("bob", one.settlement_id)
        assert node.settlements.waiting("bob") == 0
        durable.ledger.down = None
        await node.until(lambda: node.settled() == (0, 177))
        await node.quiet()
        assert (await node.settlements.accept("bob", one.settlement_id)).phase is Phase.COMPLETED


@simulated
async def test_a_lost_file_forgets_no_credit_and_books_none_twice() -> None:
    durable = DurableState()
    async with SettlementNode(durable, TERMS) as node:
        one = await wait_for_operator(node)
        await node.settlements.accept("bob", one.settlement_id)
    durable.lose_store()
    async with SettlementNode(durable, TERMS) as node:
        again = await node.settlements.receive("bob", "theirs", PAID)
        assert (again.phase, node.settled()) == (Phase.COMPLETED, (0, 177))


@simulated
async def test_an_amount_that_no_account_takes_is_refused_and_does_not_wait() -> None:
    async with SettlementNode(DurableState(), TERMS) as node:
        with pytest.raises(SettlementError, match="units at once"):
            await node.settlements.receive("bob", "k", Quantity(1 << 64, 9))
        assert node.settlements.waiting("bob") == 0
