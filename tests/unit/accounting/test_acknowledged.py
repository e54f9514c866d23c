"""A ledger that has less than it acknowledged is refused, at the start and while the node runs."""

from __future__ import annotations

import asyncio

import pytest

from connector.accounting.manager import State
from connector.accounting.promises import Outcome
from connector.base.errors import LedgerBehindError
from connector.ledger.machine import LedgerMachine
from connector.ledger.model import Posted
from connector.simulation.cluster import copied
from tests.support.accounting_node import AccountingNode, away
from tests.support.accounts import Fault
from tests.support.clocks import simulated


async def _state(node: AccountingNode, wanted: State) -> None:
    while node.manager.state is not wanted:
        await asyncio.sleep(0.02)


@simulated
async def test_what_has_moved_is_remembered_and_nothing_for_a_single_packet() -> None:
    async with AccountingNode() as node:
        peer = node.manager.peers["alice"].peer
        assert node.outbox.acknowledged[peer.account_id] == Posted(0, 1000)  # its credit
        await node.pay("a", 300)
        assert node.outbox.acknowledged[peer.account_id] == Posted(0, 1000)
        await node.manager.remember_acknowledged()
        assert node.outbox.acknowledged[peer.account_id] == Posted(300, 1000)
        assert node.outbox.highest_id == node.manager._ids.last


@simulated
async def test_a_ledger_behind_is_refused_at_the_start_until_the_loss_is_accepted() -> None:
    async with AccountingNode() as node:
        await node.pay("a", 300)
        await node.manager.remember_acknowledged()
    node.ledger.machine = LedgerMachine()
    with pytest.raises(LedgerBehindError, match=r"is not there.*--accept-ledger-loss"):
        await AccountingNode(ledger=node.ledger, outbox=node.outbox).open()
    assert node.ledger.machine.accounts == {}  # nothing was made in it
    again = await AccountingNode(ledger=node.ledger, outbox=node.outbox, accept_loss=True).open()
    assert again.alerts == ["ledger_loss_accepted"]
    assert again.net("alice") == 0
    # Accepted once: what is remembered now is what there is now.
    assert (await AccountingNode(ledger=node.ledger, outbox=node.outbox).open()).alerts == []


@simulated
async def test_an_older_copy_is_refused_and_the_message_says_how_much_is_missing() -> None:
    async with AccountingNode() as node:
        await node.pay("a", 300)
        await node.manager.remember_acknowledged()
    state = node.ledger.machine.accounts[node.manager.peers["alice"].peer.account_id]
    state.debits_posted = 200
    with pytest.raises(LedgerBehindError) as refused:
        await AccountingNode(ledger=node.ledger, outbox=node.outbox).open()
    assert (
        "peer of alice (USD/9) has 200 debited and 1000 credited, 300 and 1000 were acknowledged"
        in str(refused.value)
    )


@simulated
async def test_a_ledger_that_is_ahead_of_what_is_remembered_is_no_fault() -> None:
    async with AccountingNode() as node:
        await node.pay("a", 300)  # and a crash before that is remembered
    again = await AccountingNode(ledger=node.ledger, outbox=node.outbox).open()
    assert again.alerts == []
    assert again.net("alice") == 300


@pytest.mark.parametrize("spool", [0, 1000])
@simulated
async def test_a_running_node_takes_nothing_new_until_the_right_ledger_is_back(spool: int) -> None:
    node = AccountingNode(spool=spool)
    node.ledger.may_be_away = True
    async with node:
        await node.pay("a", 300)
        held = await node.hold("b", 100)
        await node.manager.remember_acknowledged()
        right, node.ledger.machine = node.ledger.machine, LedgerMachine()
        node.reserve("c", 50)
        assert await node.outcome("c") is Outcome.UNAVAILABLE
        assert node.manager.state is State.REJECTING
        assert "is not there" in node.manager.state_reason
        assert node.alerts == ["ledger_behind"]
        assert node.reserve("d", 50) is Outcome.UNAVAILABLE
        # What was promised before goes into the outbox, and none of it into this ledger.
        node.post("b", held)
        assert await node.outcome("b", other_than=Outcome.HELD) is Outcome.RELEASED
        await asyncio.sleep(5)
        assert node.ledger.machine.accounts == {}
        assert node.alerts == ["ledger_behind"]
        node.ledger.machine = right
        await _state(node, State.AVAILABLE)
        await node.idle()
        assert node.net("alice") == 400
        await node.pay("e", 100)
        assert await node.rest() == []


@simulated
async def test_nothing_is_replayed_into_another_ledger_that_comes_back() -> None:
    node = AccountingNode(spool=1000)
    node.ledger.may_be_away = True
    async with node:
        await node.pay("a", 300)
        await node.manager.remember_acknowledged()
        away(node)
        node.post("b", await node.hold("b", 100))
        await node.outcome("b", other_than=Outcome.HELD)
        right, node.ledger.machine = node.ledger.machine, LedgerMachine()
        node.ledger.down = None
        await _state(node, State.REJECTING)
        assert node.ledger.machine.accounts == {}
        node.ledger.machine = right
        await _state(node, State.AVAILABLE)
        assert node.net("alice") == 400
        assert await node.rest() == []


@simulated
async def test_an_older_copy_is_noticed_before_the_mirror_follows_it() -> None:
    node = AccountingNode(spool=1000)
    node.ledger.may_be_away = True
    async with node:
        await node.pay("a", 300)
        await node.manager.remember_acknowledged()
        state = node.ledger.machine.accounts[node.manager.peers["alice"].peer.account_id]
        state.debits_posted = 200
        while node.manager.state is State.AVAILABLE:
            await asyncio.sleep(1)
            await node.manager.expire()
        assert node.alerts == ["ledger_behind"]
        assert node.net("alice") == 300
        state.debits_posted = 300
        await _state(node, State.AVAILABLE)


@pytest.mark.parametrize("spool", [0, 1000])
@simulated
async def test_nothing_is_booked_into_the_ledger_that_answers_after_a_failure(spool: int) -> None:
    """A failed request may have been the last one to the right data file."""
    node = AccountingNode(spool=spool)
    node.ledger.may_be_away = True
    async with node:
        held = await node.hold("b", 100)
        await node.manager.remember_acknowledged()
        older = copied(node.ledger.machine)
        await node.pay("a", 300)
        await node.manager.remember_acknowledged()
        right = node.ledger.machine
        node.ledger.machine = older
        node.ledger.next_faults = [Fault.REFUSED]
        node.post("b", held)
        await asyncio.sleep(20)
        assert node.alerts.count("ledger_behind") == 1
        account = older.accounts[node.manager.peers["alice"].peer.account_id]
        assert (account.debits_posted, account.debits_pending) == (0, 100)
        node.ledger.machine = right
        await _state(node, State.AVAILABLE)
        await asyncio.sleep(5)
        assert node.net("alice") == 400
        assert await node.rest() == []


@simulated
async def test_a_node_that_waits_for_its_first_contact_refuses_a_ledger_that_is_behind() -> None:
    async with AccountingNode(spool=1000) as node:
        await node.hold("a")  # a crash: only the ledger knows what is held
    right, node.ledger.machine = node.ledger.machine, LedgerMachine()
    async with away(AccountingNode(ledger=node.ledger, outbox=node.outbox, spool=1000)) as again:
        again.ledger.down = None
        while not again.alerts:
            await asyncio.sleep(0.02)
        assert again.alerts == ["ledger_behind"]
        assert again.manager.state is State.UNAVAILABLE
        assert "is not there" in again.manager.state_reason
        again.ledger.machine = right
        await _state(again, State.AVAILABLE)


@simulated
async def test_a_silent_ledger_that_answers_again_is_compared_first() -> None:
    node = AccountingNode()
    node.ledger.may_be_away = True
    async with node:
        await node.pay("a", 300)
        await node.manager.remember_acknowledged()
        node.ledger.next_faults = [Fault.REFUSED]
        await node.manager.expire()
        assert node.manager.state is State.REJECTING
        state = node.ledger.machine.accounts[node.manager.peers["alice"].peer.account_id]
        state.debits_posted = 200
        await node.manager.expire()
        assert node.alerts == ["ledger_behind"]
