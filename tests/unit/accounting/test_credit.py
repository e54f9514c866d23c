"""Limits, grants, and credit above a limit."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from connector.accounting import bounds
from connector.accounting.settlement import Payment
from connector.base.clock import Clock, SystemClock
from connector.base.errors import (
    CreditInUseError,
    LedgerUnavailableError,
)
from connector.ledger.embedded import EmbeddedLedger
from connector.ledger.model import DONE
from tests.support.accounting_node import (
    ALICE,
    BOB,
    CAROL,
    AccountingNode,
    away,
    corrected,
    pair,
)
from tests.support.accounts import Fault, books_at_rest
from tests.support.clocks import simulated


@simulated
async def test_a_changed_limit_transfers_the_difference() -> None:
    node = await AccountingNode().open()
    for limit in (1500, 1500, 200, 0):
        await node.manager.set_credit_limit("alice", limit)
        assert node.manager.peers["alice"].granted == limit
        assert node.manager.peers["alice"].available_credit == limit
        assert node.net("alice") == 0
    assert [request[0].amount for request in node.ledger.requests[-3:]] == [500, 1300, 200]


@simulated
async def test_credit_in_use_cannot_be_taken_away() -> None:
    async with AccountingNode() as node:
        await node.pay("a", 300)
        await node.hold("b", 100)
        with pytest.raises(CreditInUseError, match="alice uses 400 of its credit of 1000"):
            await node.manager.set_credit_limit("alice", 399)
        await node.manager.set_credit_limit("alice", 400)
        assert node.manager.peers["alice"].available_credit == 0


@simulated
async def test_at_the_start_a_limit_is_lowered_as_far_as_it_can_be() -> None:
    async with AccountingNode() as node:
        await node.pay("a", 300)
    again = await AccountingNode(
        [replace(ALICE, credit_limit=100), BOB, CAROL], ledger=node.ledger
    ).open()
    assert again.alerts == ["credit_limit_in_use"]
    assert again.manager.peers["alice"].granted == 300
    assert again.manager.peers["alice"].available_credit == 0


@simulated
async def test_what_is_granted_beyond_a_limit_is_taken_back_as_the_peer_pays() -> None:
    async with AccountingNode() as node:
        await node.pay("a", 300)
    lower = [replace(ALICE, credit_limit=100), BOB, CAROL]
    async with AccountingNode(lower, ledger=node.ledger) as again:
        alice = again.manager.peers["alice"]
        for paid, granted, available in ((50, 250, 0), (130, 120, 0), (70, 100, 50), (20, 100, 70)):
            await again.pay(paid, paid, source=BOB, next_hop=ALICE)
            await again.manager.take_back_credit()
            assert (alice.granted, alice.available_credit) == (granted, available)
        asked = len(again.ledger.requests)
        await again.manager.take_back_credit()
        assert len(again.ledger.requests) == asked
        assert await again.rest() == []


@simulated
async def test_a_limit_that_is_raised_is_not_lowered_again() -> None:
    async with AccountingNode() as node:
        alice = await corrected(node)
        await node.manager.set_credit_limit("alice", 2000)
        alice.terms = replace(ALICE, credit_limit=2000)
        await node.manager.take_back_credit()
        assert alice.granted == 2000
        assert await node.rest() == []


@simulated
async def test_credit_is_taken_back_once_whatever_the_ledger_answers() -> None:
    async with AccountingNode() as node:
        alice = await corrected(node)
        # Refused: packets have used it meanwhile, and the mirror does not know.
        state = node.ledger.machine.accounts[alice.peer.account_id]
        state.debits_pending += 1000
        await node.manager.take_back_credit()
        assert alice.granted == 1100
        state.debits_pending -= 1000
        # No answer: it has been done, and the ledger says so when it is asked again.
        node.ledger.down = Fault.LOST
        await node.manager.take_back_credit()
        node.ledger.down = None
        asked = len(node.ledger.requests)
        await node.manager.take_back_credit()
        await node.manager.take_back_credit()
        assert len(node.ledger.requests) == asked
        assert alice.granted == 1000
        assert await node.rest() == []


@pytest.mark.parametrize("fault", list(Fault))
@pytest.mark.parametrize("limit", [1600, 400])
@pytest.mark.parametrize("retried", [True, False])
@simulated
async def test_a_limit_whose_answer_was_lost_is_granted_once(
    fault: Fault, limit: int, retried: bool
) -> None:
    async with AccountingNode() as node:
        alice = node.manager.peers["alice"]
        node.ledger.next_faults = [fault]
        with pytest.raises(LedgerUnavailableError):
            await node.manager.set_credit_limit("alice", limit)
        await node.pay("meanwhile", 100)
        if retried:
            await node.manager.set_credit_limit("alice", limit)
            alice.terms = replace(ALICE, credit_limit=limit)
        await node.manager.take_back_credit()
        await node.manager.take_back_credit()
        assert alice.granted == (limit if retried else 1000)
        assert await node.rest() == []


@simulated
async def test_a_ledger_without_the_accounts_of_a_peer_is_asked_again_later() -> None:
    """Another one stands in its place: the next who has the turn notices that (`acknowledged`)."""
    async with AccountingNode() as node:
        alice = await corrected(node)
        accounts = node.ledger.machine.accounts
        right = dict(accounts)
        accounts.clear()
        with pytest.raises(LedgerUnavailableError, match="does not have account"):
            await node.manager.set_credit_limit("alice", 2000)
        missing = pytest.raises(LedgerUnavailableError, match="does not have what it has")
        await node.manager.take_back_credit()
        with missing:
            await node.manager.settleable("alice")
        with missing:
            await node.manager.record_settlement("alice", 7 << 8, 5, outgoing=False, tag=1)
        with missing:
            payment = Payment(least=1, most=5, leave=0, unit=1, tag=1)
            await node.manager.pay_out("alice", 8 << 8, payment)
        assert node.alerts.count("ledger_behind") == 1
        accounts.update(right)
        await asyncio.sleep(5)
        await node.manager.take_back_credit()
        assert alice.granted == 1000
        assert await node.rest() == []


class ForgetfulLedger(EmbeddedLedger):
    """The embedded ledger, which fails once after its commit: it is durable, and nobody knows."""

    def __init__(self, path: Path, clock: Clock) -> None:
        super().__init__(path, clock=clock)
        self.requests: list[object] = []
        self.fails_once = False
        write = self._marker.write

        def write_or_fail(seq: int) -> None:
            if self.fails_once:
                self.fails_once = False
                raise OSError("Input/output error")
            write(seq)

        self._marker.write = write_or_fail  # type: ignore[method-assign]


@pytest.mark.parametrize("limit", [1600, 400])
async def test_the_mirror_has_a_grant_of_the_embedded_ledger_whose_answer_was_lost(
    tmp_path: Path, limit: int
) -> None:
    ledger = ForgetfulLedger(tmp_path / "ledger.db", SystemClock())
    node = await AccountingNode(ledger=ledger).open()  # type: ignore[arg-type]
    alice = node.manager.peers["alice"]
    ledger.fails_once = True
    with pytest.raises(LedgerUnavailableError):
        await node.manager.set_credit_limit("alice", limit)
    assert alice.granted == 1000
    (line,) = await ledger.lookup_accounts([alice.credit_line.account_id])
    assert line.debits_posted - line.credits_posted == limit
    # Within a second: seen, and taken back to what is configured.
    await node.manager.take_back_credit()
    await node.manager.take_back_credit()
    assert alice.granted == 1000
    assert await books_at_rest(node.manager) == []
    await node.manager.close()


@simulated
async def test_of_two_grants_for_the_same_balances_the_ledger_takes_one() -> None:
    """A request that was long on its way comes after it was asked for again, and after packets."""
    async with AccountingNode() as node:
        alice = node.manager.peers["alice"]
        node.ledger.next_faults = [Fault.REFUSED]
        with pytest.raises(LedgerUnavailableError):
            await node.manager.set_credit_limit("alice", 1600)
        late = node.ledger.requests[-1]
        await node.pay("meanwhile", 100)
        await node.manager.set_credit_limit("alice", 1700)
        (status,) = await node.ledger.create_transfers(late)
        assert status not in DONE
        # And the other way round: it comes first.
        node.ledger.next_faults = [Fault.REFUSED]
        with pytest.raises(LedgerUnavailableError):
            await node.manager.set_credit_limit("alice", 1800)
        await node.ledger.create_transfers(node.ledger.requests[-1])
        await node.manager.set_credit_limit("alice", 1900)
        assert alice.granted == 1900
        alice.terms = replace(ALICE, credit_limit=1900)
        assert await node.rest() == []


@simulated
async def test_a_refused_lowering_is_tried_again_under_another_id() -> None:
    async with AccountingNode() as node:
        alice = node.manager.peers["alice"]
        machine = node.ledger.machine.accounts[alice.peer.account_id]
        machine.debits_pending += 700
        with pytest.raises(CreditInUseError):
            await node.manager.set_credit_limit("alice", 400)
        machine.debits_pending -= 700
        await node.manager.set_credit_limit("alice", 400)
        alice.terms = replace(ALICE, credit_limit=400)
        assert alice.granted == 400
        assert await node.rest() == []


@simulated
async def test_a_promise_to_a_peer_that_was_forgotten_is_nothing_to_withdraw() -> None:
    node = away(AccountingNode(spool=1000))
    async with node:
        node.manager.remove_peer("carol")
        node.manager.forget_peer("carol")
        await node.stop()
    books = (await node.outbox.begin()).books
    assert books is not None
    assert len(books) == len(list(node.manager.books()))
    assert not any(any(posted) for posted in books.values())


@simulated
async def test_nothing_is_taken_back_of_a_peer_that_was_removed() -> None:
    async with AccountingNode() as node:
        await corrected(node)
        node.manager.remove_peer("alice")
        asked = len(node.ledger.requests)
        await node.manager.take_back_credit()
        assert len(node.ledger.requests) == asked


@simulated
async def test_credit_that_a_superseded_process_granted_is_taken_back_by_the_other() -> None:
    """It grants for its last corrections, and is gone before the peer has paid."""
    one, two = await pair()
    async with two:
        async with one:
            await corrected(one)
        await asyncio.sleep(bounds.RECONCILE_SECONDS)
        await two.manager.expire()
        books = two.manager.peers["alice"]
        assert books.granted == 1100
        await two.pay("back", 100, source=BOB, next_hop=ALICE)
        await two.manager.take_back_credit()
        assert books.granted == 1000
        assert await two.rest() == []


@simulated
async def test_a_limit_that_is_just_being_raised_is_not_taken_for_credit_above_it() -> None:
    """Its terms follow when the limits of all peers are changed."""
    one, two = await pair()
    async with one, two:
        await one.manager.set_credit_limit("alice", 1500)
        await two.pay("other", 10)
        await asyncio.sleep(bounds.RECONCILE_SECONDS + 1)
        await one.manager.expire()
        await one.manager.take_back_credit()
        assert one.manager.counters.reconciled > 0
        assert one.manager.peers["alice"].granted == 1500
