"""Replaying the outbox: every promise is held and booked once, whatever the limits are now."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from connector.accounting.manager import State
from connector.accounting.promises import Outcome, Reservation
from connector.ledger.model import PHASE_AGAIN, PHASE_CORRECT, PHASE_RESOLVE, VOID, Transfer
from tests.support.accounting_node import ALICE, BOB, CAROL, HOLD_MS, AccountingNode, away, taken
from tests.support.accounts import Fault
from tests.support.clocks import simulated

REFUSED = ["spooled_reservation_refused", "credit_granted_for_hold"]


async def spend(node: AccountingNode, amount: int = 950) -> None:
    """Another process of the same node uses credit of alice."""
    alice = node.manager.peers["alice"]
    transfer = Transfer(
        id=1 << 90,
        debit_account_id=alice.peer.account_id,
        credit_account_id=alice.settlement.account_id,
        amount=amount,
        ledger=alice.peer.ledger,
        code=1,
    )
    await node.ledger.create_transfers([transfer])


async def over_the_limit(node: AccountingNode, *, sender_id: int = 0, fee: int = 0) -> Reservation:
    """A packet whose hold was spooled, and refused and held anew when the ledger came back."""
    node.ledger.down = Fault.REFUSED
    held = await node.hold("a", 100, sender_id=sender_id, fee=fee)
    node.ledger.down = None
    await spend(node)
    await node.idle()
    assert node.alerts == REFUSED
    assert node.outbox.requests == {}
    return held


def debited(node: AccountingNode) -> tuple[int, int]:
    """What the ledger has debited alice, beside what was spent; and what it holds."""
    alice = node.manager.peers["alice"]
    accounts = node.ledger.machine.accounts
    account, line = accounts[alice.peer.account_id], accounts[alice.credit_line.account_id]
    # Credit that was taken back is debited, too.
    return account.debits_posted - line.credits_posted - 950, account.debits_pending


@pytest.mark.parametrize("fee", [0, 3])
@simulated
async def test_a_refused_hold_is_held_anew_and_posted(fee: int) -> None:
    async with AccountingNode(spool=1000) as node:
        held = await over_the_limit(node, fee=fee)
        assert debited(node) == (0, 100)
        assert node.manager.peers["alice"].granted == 1100
        node.post("a", held)
        assert await node.outcome("a", other_than=Outcome.HELD) is Outcome.POSTED
        assert debited(node) == (100, 0)
        assert (node.net("alice"), node.net("bob")) == (100, -100 + fee)
        assert node.alerts == REFUSED
        assert node.manager.counters.corrections == 0


@simulated
async def test_a_refused_hold_is_held_anew_and_given_back() -> None:
    async with AccountingNode(spool=1000) as node:
        held = await over_the_limit(node)
        node.manager.void(held)
        await node.idle()
        assert debited(node) == (0, 0)
        await node.manager.take_back_credit()
        assert node.manager.peers["alice"].granted == 1000
        assert node.alerts == REFUSED


@simulated
async def test_a_packet_that_was_held_anew_is_found_after_a_crash_and_posted_once() -> None:
    async with AccountingNode(spool=1000) as node:
        await over_the_limit(node, sender_id=11)
    async with AccountingNode(ledger=node.ledger, outbox=node.outbox, spool=1000) as again:
        found = taken(again, 11)
        assert found is not None
        again.post("a", found.reservation)
        assert await again.outcome("a") is Outcome.POSTED
        assert debited(again) == (100, 0)
        assert again.manager.counters.corrections == 0
    async with AccountingNode(ledger=node.ledger, outbox=node.outbox, spool=1000) as once_more:
        found = taken(once_more, 11)
        assert found is not None
        assert found.reservation.posted


@simulated
async def test_a_post_of_what_was_held_anew_that_comes_too_late_is_corrected_once() -> None:
    async with AccountingNode(spool=1000) as node:
        held = await over_the_limit(node)
        await asyncio.sleep(HOLD_MS / 1000 + 12)
        node.post("a", held)
        assert await node.outcome("a", other_than=Outcome.HELD) is Outcome.POSTED
        assert debited(node) == (100, 0)
        assert node.alerts == [*REFUSED, "accounting_correction"]


@pytest.mark.parametrize("posts", [True, False])
@simulated
async def test_what_resolves_a_hold_further_on_in_the_outbox_finds_it(posts: bool) -> None:
    async with AccountingNode(spool=1000) as node:
        node.ledger.batch_transfers_max = 2
        node.ledger.down = Fault.REFUSED
        held = [await node.hold(number, 20) for number in range(5)]
        for number, one in enumerate(held):
            if posts:
                node.post(number, one)
                await node.outcome(number, other_than=Outcome.HELD)
            else:
                node.manager.void(one)
        await asyncio.sleep(0.1)
        node.ledger.down = None
        await spend(node)
        await node.idle()
        assert node.outbox.requests == {}
        # The first two fit into what is left of the limit.
        assert sorted(node.alerts) == sorted(REFUSED * 3)
        assert debited(node) == (100 if posts else 0, 0)
        assert node.manager.counters.corrections == 0
        ids = {one.id for request in node.ledger.requests for one in request}
        assert held[4].packet_id | PHASE_AGAIN | PHASE_RESOLVE in ids


@pytest.mark.parametrize("fault", list(Fault))
@pytest.mark.parametrize("resolved", [None, "post", "void"])
@pytest.mark.parametrize("failing", range(5))
@simulated
async def test_a_replay_that_is_cut_off_anywhere_is_repeated_with_the_same_result(
    failing: int, resolved: str | None, fault: Fault
) -> None:
    async with AccountingNode(spool=1000) as node:
        node.ledger.down = Fault.REFUSED
        held = await node.hold("a")
        if resolved == "post":
            node.post("a", held)
        elif resolved == "void":
            node.manager.void(held)
        await asyncio.sleep(0.1)
        node.ledger.down = None
        await spend(node)
        node.ledger.next_faults = [*[None] * failing, fault]
        await node.idle()
        if resolved is None:
            node.post("a", held)
        await node.outcome("a", other_than=None if resolved == "void" else Outcome.HELD)
        await node.idle()
        owed = 0 if resolved == "void" else 100
        assert debited(node) == (owed, 0)
        alice = node.manager.peers["alice"]
        account = node.ledger.machine.accounts[alice.peer.account_id]
        line = node.ledger.machine.accounts[alice.credit_line.account_id]
        assert alice.peer.credits_posted == account.credits_posted
        assert alice.granted == line.debits_posted - line.credits_posted
        assert node.net("alice") == owed


@pytest.mark.parametrize("corrected_first", [True, False])
@simulated
async def test_an_outbox_that_is_cut_into_other_parts_the_second_time_is_booked_once(
    corrected_first: bool,
) -> None:
    """The node is killed after the ledger has all, and before the rows are taken out."""
    async with AccountingNode(spool=1000) as node:
        node.ledger.down = Fault.REFUSED
        held = await node.hold("a")
        node.post("a", held)
        await node.outcome("a", other_than=Outcome.HELD)
    node.ledger.down = None
    await spend(node)
    rows = dict(node.outbox.requests)
    both = [transfer for part in rows.values() for transfer in part]
    nothing = Transfer(id=5 << 100, pending_id=4 << 100, flags=VOID)
    whole = node.ledger.batch_transfers_max
    for size in (whole, 2) if corrected_first else (2, whole):
        # Behind something else, the hold and its post do not fit into one request of two.
        node.outbox.requests = {1: [nothing, both[0]], 2: [both[1]]}
        node.ledger.batch_transfers_max = size
        again = await AccountingNode(ledger=node.ledger, outbox=node.outbox, spool=1000).open()
        assert debited(again) == (100, 0)
        assert again.net("bob") == -100
    # Corrected where both were seen at once, else held anew and posted; never both.
    ids = [held.packet_id | PHASE_CORRECT, held.packet_id | PHASE_AGAIN | PHASE_RESOLVE]
    (found,) = await node.ledger.lookup_transfers(ids)
    assert found.id == ids[not corrected_first]


@simulated
async def test_what_the_ledger_cannot_hold_at_all_stays_in_the_outbox_with_its_amount() -> None:
    """The account of its next hop is not as it was when it was promised."""
    async with AccountingNode(spool=1000) as node:
        node.ledger.down = Fault.REFUSED
        await node.hold("a")
    node.ledger.down = None
    node.ledger.machine.accounts[node.manager.peers["bob"].peer.account_id].ledger ^= 1
    for _ in range(2):
        again = await AccountingNode(
            [ALICE], ledger=node.ledger, outbox=node.outbox, spool=1000
        ).open()
        assert again.alerts == ["spooled_reservation_refused", "accounting_refused"]
        assert again.outbox.transfers == 1


# --- starts


@pytest.mark.parametrize("before", [None, 1000])
@simulated
async def test_what_was_promised_without_the_ledger_is_held_after_a_crash(
    before: int | None,
) -> None:
    """Started for the first time, or with a raised limit; the credit is granted when it is there."""
    node = AccountingNode(spool=1000)
    if before is not None:
        async with AccountingNode(spool=1000) as node:
            await node.stop()
    terms = [replace(ALICE, credit_limit=5000), BOB, CAROL]
    async with away(
        AccountingNode(terms, ledger=node.ledger, outbox=node.outbox, spool=1000)
    ) as promised:
        assert promised.manager.state is State.SPOOLING
        await promised.hold("a", 3000, sender_id=11)
        promised.post("b", await promised.hold("b", 1500))
        await promised.outcome("b", other_than=Outcome.HELD)
    node.ledger.down = None
    async with AccountingNode(terms, ledger=node.ledger, outbox=node.outbox, spool=1000) as again:
        assert again.alerts == []
        assert again.manager.may_know_former
        found = taken(again, 11)
        assert found is not None
        again.post("a", found.reservation)
        assert await again.outcome("a") is Outcome.POSTED
        assert again.net("alice") == 4500
        assert again.manager.peers["alice"].granted == 5000
        assert await again.rest() == []


@simulated
async def test_what_was_promised_in_two_lives_without_the_ledger_is_booked() -> None:
    node = AccountingNode(spool=1000)
    for number in range(2):
        async with away(AccountingNode(ledger=node.ledger, outbox=node.outbox, spool=1000)) as node:
            node.post("a", await node.hold("a", 300 + number))
            await node.outcome("a", other_than=Outcome.HELD)
            await node.stop()
    async with away(AccountingNode(ledger=node.ledger, outbox=node.outbox, spool=1000)) as node:
        node.ledger.down = None
        await node.idle()
        assert node.alerts == []
        assert node.net("alice") == 601
        assert await node.rest() == []


# --- a slow disk


@simulated
async def test_a_post_that_gets_into_the_outbox_late_is_taken_out_of_it() -> None:
    async with AccountingNode() as node:
        node.outbox.latency_s = 1.0
        held = await node.hold("a")
        node.ledger.gate.clear()
        node.post("a", held)
        assert await node.outcome("a", other_than=Outcome.HELD) is Outcome.RELEASED
        assert node.alerts == []
        node.ledger.gate.set()
        await asyncio.sleep(4)
        assert node.outbox.transfers == 0
        assert await node.rest() == []


@simulated
async def test_a_late_post_goes_into_the_outbox_once_also_while_spooling() -> None:
    async with AccountingNode(spool=1000) as node:
        held = await node.hold("a")
        node.outbox.latency_s = 0.3
        node.ledger.gate.clear()
        node.ledger.down = Fault.REFUSED
        node.post("a", held)
        await asyncio.sleep(0.28)  # overdue, and on its way to the outbox
        node.ledger.gate.set()
        assert await node.outcome("a", other_than=Outcome.HELD) is Outcome.RELEASED
        await asyncio.sleep(2)
        assert node.outbox.ids == [held.packet_id | PHASE_RESOLVE]
        node.ledger.down = None
        await node.idle()
        await asyncio.sleep(1)
        assert node.outbox.transfers == 0
        assert node.net("alice") == 100
        assert await node.rest() == []
