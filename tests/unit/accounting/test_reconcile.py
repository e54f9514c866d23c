"""Several processes that book for one node."""

from __future__ import annotations

import asyncio

from connector.accounting import bounds as accounting_bounds
from connector.accounting.manager import State
from connector.accounting.promises import Outcome, Reservation
from tests.support.accounting_node import CAROL, AccountingNode, pair
from tests.support.accounts import Fault
from tests.support.clocks import simulated


@simulated
async def test_what_another_process_booked_shows_up_here() -> None:
    one, two = await pair()
    async with one, two:
        for number in range(20):
            await one.pay(("one", number), 10)
            held = await two.hold(("two", number), 5, next_hop=CAROL, amount_out=2, fee=1)
            two.post(("two", number), held)
            await asyncio.sleep(0.5)
        await asyncio.sleep(accounting_bounds.RECONCILE_SECONDS)
        for node in (one, two):
            await node.manager.expire()
            assert (node.net("alice"), node.net("bob"), node.net("carol")) == (300, -200, -40)
            assert node.manager.counters.reconciled > 0
            assert node.alerts.count("accounts_are_shared") == 1
            assert await node.rest() == []


@simulated
async def test_one_limit_for_all_processes_of_a_node() -> None:
    one, two = await pair()
    async with one, two:
        nodes = [one, two] * 50
        for number, node in enumerate(nodes):
            node.reserve(number, 33)
        outcomes = [await node.outcome(number) for number, node in enumerate(nodes)]
        assert outcomes.count(Outcome.HELD) == 1000 // 33
        assert outcomes.count(Outcome.NO_CREDIT) == 100 - 1000 // 33


@simulated
async def test_a_mirror_that_is_ahead_of_a_busy_ledger_is_left_alone() -> None:
    """What is queued, under way, or in the outbox is in the mirror and not yet in the ledger."""
    node = AccountingNode()
    node.ledger.may_be_away = True
    async with node:
        node.ledger.latency_s = 0.4
        node.ledger.batch_transfers_max = 3
        for number in range(40):
            reservation = node.reserve(number, 3, fee=1)
            assert isinstance(reservation, Reservation)
            await node.outcome(number)
            node.post(number, reservation)
            await node.manager.expire()
        await node.idle()
        await node.manager.expire()
        assert node.manager.counters.reconciled == 0
        assert node.net("alice") == 120
        assert await node.rest() == []


@simulated
async def test_a_mirror_is_left_alone_when_the_ledger_goes_away_before_it_is_looked_up() -> None:
    node = AccountingNode(spool=1000)
    node.ledger.may_be_away = True
    async with node:
        held = await node.hold("a")
        await asyncio.sleep(accounting_bounds.RECONCILE_SECONDS)
        node.ledger.latency_s = 0.4
        node.outbox.latency_s = 0.1
        node.ledger.next_faults = [None, Fault.REFUSED]
        expiring = asyncio.create_task(node.manager.expire())
        await asyncio.sleep(0.1)
        # The writer's turn comes first, and its post is on its way to the outbox at the look.
        node.post("a", held)
        await expiring
        assert node.manager.state is State.SPOOLING
        assert node.net("alice") == 100
        await node.idle()
        assert node.manager.counters.reconciled == 0
        assert await node.rest() == []


@simulated
async def test_what_was_booked_from_the_outbox_and_still_waits_is_counted_once() -> None:
    """The ledger comes back while the writer is busy with something else."""
    node = AccountingNode(spool=1000)
    node.ledger.may_be_away = True
    async with node:
        held = await node.hold("a")
        node._tasks[0].cancel()  # the writer, and what puts posts into the outbox
        node._tasks.append(node._group.create_task(node.manager._spool.run()))
        node.post("a", held)
        assert await node.outcome("a", other_than=Outcome.HELD) is Outcome.RELEASED
        node.manager._availability.failed("no answer", node.clock.monotonic_s())
        while node.manager.state is not State.AVAILABLE:
            await asyncio.sleep(0.02)
        assert node.manager.queue_depth() == 1
        await node.manager._reconciler.reconcile(node.manager._writer.unacknowledged)
        assert node.net("alice") == 100
        assert node.alerts == []
