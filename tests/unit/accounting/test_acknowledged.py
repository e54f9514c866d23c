"""A ledger that has less than it acknowledged is refused, at the start and while the node runs."""

from __future__ import annotations

import asyncio

import pytest

from connector.accounting.manager import State
from connector.accounting.promises import Outcome
from connector.base.errors import LedgerBehindError
from connector.ledger.machine import LedgerMachine
from connector.ledger.model import Posted
from tests.support.accounts import Fault
from tests.support.bank import Bank, away, simulated


async def _state(bank: Bank, wanted: State) -> None:
    while bank.manager.state is not wanted:
        await asyncio.sleep(0.02)


@simulated
async def test_what_has_moved_is_remembered_and_nothing_for_a_single_packet() -> None:
    async with Bank() as bank:
        peer = bank.manager.peers["alice"].peer
        assert bank.outbox.acknowledged[peer.account_id] == Posted(0, 1000)  # its credit
        await bank.pay("a", 300)
        assert bank.outbox.acknowledged[peer.account_id] == Posted(0, 1000)
        await bank.manager.remember_acknowledged()
        assert bank.outbox.acknowledged[peer.account_id] == Posted(300, 1000)
        assert bank.outbox.highest_id == bank.manager._ids.last


@simulated
async def test_a_ledger_behind_is_refused_at_the_start_until_the_loss_is_accepted() -> None:
    async with Bank() as bank:
        await bank.pay("a", 300)
        await bank.manager.remember_acknowledged()
    bank.ledger.machine = LedgerMachine()
    with pytest.raises(LedgerBehindError, match=r"is not there.*--accept-ledger-loss"):
        await Bank(ledger=bank.ledger, outbox=bank.outbox).open()
    assert bank.ledger.machine.accounts == {}  # nothing was made in it
    again = await Bank(ledger=bank.ledger, outbox=bank.outbox, accept_loss=True).open()
    assert again.alerts == ["ledger_loss_accepted"]
    assert again.net("alice") == 0
    # Accepted once: what is remembered now is what there is now.
    assert (await Bank(ledger=bank.ledger, outbox=bank.outbox).open()).alerts == []


@simulated
async def test_an_older_copy_is_refused_and_the_message_says_how_much_is_missing() -> None:
    async with Bank() as bank:
        await bank.pay("a", 300)
        await bank.manager.remember_acknowledged()
    state = bank.ledger.machine.accounts[bank.manager.peers["alice"].peer.account_id]
    state.debits_posted = 200
    with pytest.raises(LedgerBehindError) as refused:
        await Bank(ledger=bank.ledger, outbox=bank.outbox).open()
    assert (
        "peer of alice (USD/9) has 200 debited and 1000 credited, 300 and 1000 were acknowledged"
        in str(refused.value)
    )


@simulated
async def test_a_ledger_that_is_ahead_of_what_is_remembered_is_no_fault() -> None:
    async with Bank() as bank:
        await bank.pay("a", 300)  # and a crash before that is remembered
    again = await Bank(ledger=bank.ledger, outbox=bank.outbox).open()
    assert again.alerts == []
    assert again.net("alice") == 300


@pytest.mark.parametrize("spool", [0, 1000])
@simulated
async def test_a_running_node_takes_nothing_new_until_the_right_ledger_is_back(spool: int) -> None:
    bank = Bank(spool=spool)
    bank.ledger.may_be_away = True
    async with bank:
        await bank.pay("a", 300)
        held = await bank.hold("b", 100)
        await bank.manager.remember_acknowledged()
        right, bank.ledger.machine = bank.ledger.machine, LedgerMachine()
        bank.reserve("c", 50)
        assert await bank.outcome("c") is Outcome.UNAVAILABLE
        assert bank.manager.state is State.REJECTING
        assert "is not there" in bank.manager.state_reason
        assert bank.alerts == ["ledger_behind"]
        assert bank.reserve("d", 50) is Outcome.UNAVAILABLE
        # What was promised before goes into the outbox, and none of it into this ledger.
        bank.post("b", held)
        assert await bank.outcome("b", other_than=Outcome.HELD) is Outcome.RELEASED
        await asyncio.sleep(5)
        assert bank.ledger.machine.accounts == {}
        assert bank.alerts == ["ledger_behind"]
        bank.ledger.machine = right
        await _state(bank, State.AVAILABLE)
        await bank.idle()
        assert bank.net("alice") == 400
        await bank.pay("e", 100)
        assert await bank.rest() == []


@simulated
async def test_nothing_is_replayed_into_another_ledger_that_comes_back() -> None:
    bank = Bank(spool=1000)
    bank.ledger.may_be_away = True
    async with bank:
        await bank.pay("a", 300)
        await bank.manager.remember_acknowledged()
        away(bank)
        bank.post("b", await bank.hold("b", 100))
        await bank.outcome("b", other_than=Outcome.HELD)
        right, bank.ledger.machine = bank.ledger.machine, LedgerMachine()
        bank.ledger.down = None
        await _state(bank, State.REJECTING)
        assert bank.ledger.machine.accounts == {}
        bank.ledger.machine = right
        await _state(bank, State.AVAILABLE)
        assert bank.net("alice") == 400
        assert await bank.rest() == []


@simulated
async def test_an_older_copy_is_noticed_before_the_mirror_follows_it() -> None:
    bank = Bank(spool=1000)
    bank.ledger.may_be_away = True
    async with bank:
        await bank.pay("a", 300)
        await bank.manager.remember_acknowledged()
        state = bank.ledger.machine.accounts[bank.manager.peers["alice"].peer.account_id]
        state.debits_posted = 200
        while bank.manager.state is State.AVAILABLE:
            await asyncio.sleep(1)
            await bank.manager.expire()
        assert bank.alerts == ["ledger_behind"]
        assert bank.net("alice") == 300
        state.debits_posted = 300
        await _state(bank, State.AVAILABLE)


@simulated
async def test_a_node_that_waits_for_its_first_contact_refuses_a_ledger_that_is_behind() -> None:
    async with Bank(spool=1000) as bank:
        await bank.hold("a")  # a crash: only the ledger knows what is held
    right, bank.ledger.machine = bank.ledger.machine, LedgerMachine()
    async with away(Bank(ledger=bank.ledger, outbox=bank.outbox, spool=1000)) as again:
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
    bank = Bank()
    bank.ledger.may_be_away = True
    async with bank:
        await bank.pay("a", 300)
        await bank.manager.remember_acknowledged()
        bank.ledger.next_faults = [Fault.REFUSED]
        await bank.manager.expire()
        assert bank.manager.state is State.REJECTING
        state = bank.ledger.machine.accounts[bank.manager.peers["alice"].peer.account_id]
        state.debits_posted = 200
        await bank.manager.expire()
        assert bank.alerts == ["ledger_behind"]
