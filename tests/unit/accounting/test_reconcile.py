"""Several processes that book for one node."""

from __future__ import annotations

import asyncio

from connector.accounting import bounds as accounting_bounds
from connector.accounting.manager import State
from connector.accounting.promises import Outcome, Reservation
from tests.support.accounts import Fault
from tests.support.bank import (
    CAROL,
    Bank,
    pair,
    simulated,
)


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
        for bank in (one, two):
            await bank.manager.expire()
            assert (bank.net("alice"), bank.net("bob"), bank.net("carol")) == (300, -200, -40)
            assert bank.manager.counters.reconciled > 0
            assert bank.alerts.count("accounts_are_shared") == 1
            assert await bank.rest() == []


@simulated
async def test_one_limit_for_all_processes_of_a_node() -> None:
    one, two = await pair()
    async with one, two:
        banks = [one, two] * 50
        for number, bank in enumerate(banks):
            bank.reserve(number, 33)
        outcomes = [await bank.outcome(number) for number, bank in enumerate(banks)]
        assert outcomes.count(Outcome.HELD) == 1000 // 33
        assert outcomes.count(Outcome.NO_CREDIT) == 100 - 1000 // 33


@simulated
async def test_a_mirror_that_is_ahead_of_a_busy_ledger_is_left_alone() -> None:
    """What is queued, under way, or in the outbox is in the mirror and not yet in the ledger."""
    bank = Bank()
    bank.ledger.may_be_away = True
    async with bank:
        bank.ledger.latency_s = 0.4
        bank.ledger.batch_transfers_max = 3
        for number in range(40):
            reservation = bank.reserve(number, 3, fee=1)
            assert isinstance(reservation, Reservation)
            await bank.outcome(number)
            bank.post(number, reservation)
            await bank.manager.expire()
        await bank.idle()
        await bank.manager.expire()
        assert bank.manager.counters.reconciled == 0
        assert bank.net("alice") == 120
        assert await bank.rest() == []


@simulated
async def test_a_mirror_is_left_alone_when_the_ledger_goes_away_before_it_is_looked_up() -> None:
    bank = Bank(spool=1000)
    bank.ledger.may_be_away = True
    async with bank:
        held = await bank.hold("a")
        await asyncio.sleep(accounting_bounds.RECONCILE_SECONDS)
        bank.ledger.latency_s = 0.4
        bank.outbox.latency_s = 0.1
        bank.ledger.next_faults = [None, Fault.REFUSED]
        expiring = asyncio.create_task(bank.manager.expire())
        await asyncio.sleep(0.1)
        # The writer's turn comes first, and its post is on its way to the outbox at the look.
        bank.post("a", held)
        await expiring
        assert bank.manager.state is State.SPOOLING
        assert bank.net("alice") == 100
        await bank.idle()
        assert bank.manager.counters.reconciled == 0
        assert await bank.rest() == []


@simulated
async def test_what_was_booked_from_the_outbox_and_still_waits_is_counted_once() -> None:
    """The ledger comes back while the writer is busy with something else."""
    bank = Bank(spool=1000)
    bank.ledger.may_be_away = True
    async with bank:
        held = await bank.hold("a")
        bank._tasks[0].cancel()  # the writer, and what puts posts into the outbox
        bank._tasks.append(bank._group.create_task(bank.manager._spool.run()))
        bank.post("a", held)
        assert await bank.outcome("a", other_than=Outcome.HELD) is Outcome.RELEASED
        bank.manager._availability.failed("no answer", bank.clock.monotonic_s())
        while bank.manager.state is not State.AVAILABLE:
            await asyncio.sleep(0.02)
        assert bank.manager.queue_depth() == 1
        await bank.manager._reconciler.reconcile(bank.manager._writer.unacknowledged)
        assert bank.net("alice") == 100
        assert bank.alerts == []
