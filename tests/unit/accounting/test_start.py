"""First contact with the ledger: what is created and loaded, with and without it."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from connector.accounting.manager import State
from connector.accounting.promises import Outcome, Reservation
from connector.base.errors import (
    ConnectorError,
    LedgerRefusedError,
    LedgerUnavailableError,
)
from connector.ledger.model import (
    ACCOUNT_DEBITS_MUST_NOT_EXCEED_CREDITS,
    ACCOUNT_HISTORY,
    AccountCode,
)
from connector.peering.model import Asset
from tests.support.accounting_node import ALICE, BOB, CAROL, AccountingNode, away, taken
from tests.support.accounts import Fault, books_at_rest
from tests.support.clocks import simulated

_WITHOUT_HISTORY = (
    AccountCode.REVENUE,
    AccountCode.EXCHANGE,
    AccountCode.WALLET,
    AccountCode.SETTLEMENT,
)

# --- opening


@simulated
async def test_a_new_node_has_accounts_and_its_peers_have_their_credit() -> None:
    node = await AccountingNode().open()
    assert node.states == [State.AVAILABLE]
    assert node.manager.state is State.AVAILABLE
    assert {peer_id: one.granted for peer_id, one in node.manager.peers.items()} == {
        "alice": 1000,
        "bob": 1000,
        "carol": 1000,
    }
    assert len(list(node.manager.books())) == 3 * 3 + 2 * 3
    assert node.net("alice") == 0  # credit that was granted is not debt
    assert node.manager.own_book(AccountCode.WALLET, Asset("XRP", 6)) is None
    assert await books_at_rest(node.manager) == []
    await node.manager.close()


@simulated
async def test_accounts_are_created_and_read_in_requests_that_the_ledger_takes() -> None:
    node = AccountingNode()
    node.ledger.batch_transfers_max = 4
    await node.open()
    assert await books_at_rest(node.manager) == []


@simulated
async def test_an_account_that_cannot_be_created_stops_the_start() -> None:
    node = await AccountingNode().open()
    state = node.ledger.machine.accounts[node.manager.peers["alice"].peer.account_id]
    state.flags = 0
    with pytest.raises(ConnectorError, match="EXISTS_WITH_DIFFERENT_FLAGS"):
        await AccountingNode(ledger=node.ledger).open()


@simulated
async def test_accounts_of_peers_keep_their_history_when_it_is_wanted() -> None:
    node = await AccountingNode(history=True).open()
    flags = {
        (book.code, node.ledger.machine.accounts[book.account_id].flags)
        for book in node.manager.books()
    }
    assert flags == {
        (AccountCode.PEER, ACCOUNT_HISTORY | ACCOUNT_DEBITS_MUST_NOT_EXCEED_CREDITS),
        (AccountCode.CREDIT_LINE, ACCOUNT_HISTORY),
        *((code, 0) for code in _WITHOUT_HISTORY),
    }


@pytest.mark.parametrize("at_first", [False, True])
@simulated
async def test_accounts_keep_what_they_were_made_to_keep(at_first: bool) -> None:
    """Flags cannot be changed; a setting that was changed is no ground to refuse to start."""
    node = await AccountingNode([ALICE], history=at_first).open()
    alice = node.manager.peers["alice"]
    again = await AccountingNode([ALICE, BOB], ledger=node.ledger, history=not at_first).open()
    assert again.manager.state is State.AVAILABLE
    accounts = node.ledger.machine.accounts
    for books, kept in ((alice, at_first), (again.manager.peers["bob"], not at_first)):
        for book in (books.peer, books.credit_line):
            assert bool(accounts[book.account_id].flags & ACCOUNT_HISTORY) is kept
    assert await books_at_rest(again.manager) == []


@pytest.mark.parametrize("field", ["code", "ledger", "user_data_128", "user_data_64", "flags"])
@simulated
async def test_an_account_that_differs_in_more_than_its_history_stops_the_start(field: str) -> None:
    """The ledger names the flags first, and nothing behind them."""
    node = await AccountingNode(history=True).open()
    state = node.ledger.machine.accounts[node.manager.peers["bob"].credit_line.account_id]
    setattr(state, field, getattr(state, field) ^ 2)
    with pytest.raises(ConnectorError, match="EXISTS_WITH_DIFFERENT_FLAGS"):
        await AccountingNode(ledger=node.ledger).open()


@simulated
async def test_who_only_looks_waits_for_its_turn() -> None:
    async with AccountingNode() as node:
        node.ledger.gate.clear()
        held = node.reserve("one")
        assert isinstance(held, Reservation)
        await asyncio.sleep(0.01)
        asked: list[bool] = []

        async def ask() -> str:
            asked.append(node.ledger.gate.is_set())
            return "seen"

        looking = asyncio.ensure_future(node.manager.in_turn(ask))
        await asyncio.sleep(0.01)
        assert asked == []
        node.ledger.gate.set()
        assert await looking == "seen"
        assert asked == [True]
        assert await node.outcome("one") is Outcome.HELD


@simulated
async def test_nobody_looks_while_the_ledger_is_away() -> None:
    async with AccountingNode() as node:
        node.ledger.down = Fault.REFUSED
        node.reserve("one")
        assert await node.outcome("one") is Outcome.UNAVAILABLE

        async def ask() -> None:
            raise AssertionError

        with pytest.raises(LedgerUnavailableError, match="away"):
            await node.manager.in_turn(ask)


@pytest.mark.interpreted
@simulated
async def test_two_assets_under_one_number_stop_the_start() -> None:
    node = AccountingNode()
    with pytest.MonkeyPatch.context() as patch:
        for module in ("mirror", "chart"):
            patch.setattr(f"connector.accounting.{module}.asset_ledger", lambda _code, _scale: 7)
        with pytest.raises(ConnectorError, match="share"):
            await node.open()


# --- starting without the ledger


@simulated
async def test_a_new_node_starts_without_its_ledger_and_has_accounts_when_it_comes() -> None:
    async with away(AccountingNode(spool=1000)) as node:
        assert node.states == [State.SPOOLING]
        assert node.manager.peers["alice"].available_credit == 1000
        held = await node.hold("a", 600, fee=3)
        assert node.reserve("over", 401) is Outcome.NO_CREDIT
        node.post("a", held)
        await node.outcome("a", other_than=Outcome.HELD)
        open_ = await node.hold("b", 100)
        node.ledger.down = None
        await node.idle()
        assert node.states == [State.SPOOLING, State.AVAILABLE]
        assert node.alerts == []
        node.post("b", open_)
        assert await node.outcome("b", other_than=Outcome.HELD) is Outcome.POSTED
        assert await node.rest() == []
        assert node.net("alice") == 700


@simulated
async def test_what_was_promised_to_a_peer_that_was_removed_meanwhile_is_withdrawn() -> None:
    async with away(AccountingNode(spool=1000)) as node:
        carol = node.manager.peers["carol"]
        assert carol.granted == 1000
        node.manager.remove_peer("carol")
        node.ledger.down = None
        await node.idle()
        await asyncio.sleep(12)
        await node.pay("a")  # the mirror is compared with the ledger beside it
        assert node.alerts == []
        assert carol.granted == 0
        assert carol.peer.posted == (0, 0)
        await node.manager.add_peer(CAROL)
        assert carol.granted == 1000
        assert await node.rest() == []


@simulated
async def test_with_policy_reject_a_node_starts_and_waits() -> None:
    async with away(AccountingNode()) as node:
        assert node.manager.state is State.UNAVAILABLE
        assert "refused on purpose" in node.manager.state_reason
        assert node.reserve("a") is Outcome.UNAVAILABLE
        await node.manager.expire()
        node.ledger.down = None
        while node.manager.state is not State.AVAILABLE:
            await asyncio.sleep(0.02)
        await node.pay("b", 1000)
        assert await node.rest() == []


@pytest.mark.parametrize("limit", [1000, 1500, 700, 100])
@simulated
async def test_after_a_clean_stop_a_node_goes_on_from_what_it_remembers(limit: int) -> None:
    node = AccountingNode(spool=1000)
    async with node:
        await node.pay("a", 300)
        node.ledger.down = Fault.REFUSED
        node.post("b", await node.hold("b", 200))
        await node.outcome("b", other_than=Outcome.HELD)
        await node.stop()
    terms = [replace(ALICE, credit_limit=limit), BOB, CAROL]
    async with away(
        AccountingNode(terms, ledger=node.ledger, outbox=node.outbox, spool=1000)
    ) as again:
        assert again.states == [State.SPOOLING]
        assert again.net("alice") == 500
        room = max(0, limit - 500)
        assert again.manager.peers["alice"].available_credit == room
        if room:
            again.post("c", await again.hold("c", room))
        assert again.reserve("over", 1) is Outcome.NO_CREDIT
        again.ledger.down = None
        await again.idle()
        granted = again.manager.peers["alice"].granted
        assert granted == max(limit, 500)
        faults = await again.rest()
        assert [fault for fault in faults if limit >= 500 or not fault.startswith("3")] == []
        assert again.alerts == (["credit_limit_in_use"] if limit < 500 else [])


@simulated
async def test_after_a_crash_only_the_ledger_knows_what_is_held() -> None:
    async with AccountingNode(spool=1000) as node:
        await node.hold("a", sender_id=11)
    async with away(AccountingNode(ledger=node.ledger, outbox=node.outbox, spool=1000)) as again:
        assert again.manager.state is State.UNAVAILABLE
        assert "did not stop cleanly" in again.manager.state_reason
        assert again.reserve("b") is Outcome.UNAVAILABLE
        again.ledger.down = None
        while again.manager.state is not State.AVAILABLE:
            await asyncio.sleep(0.02)
        assert taken(again, 11) is not None


@simulated
async def test_a_node_that_stops_with_money_held_has_not_stopped_cleanly() -> None:
    node = AccountingNode(spool=1000)
    async with node:
        await node.hold("a")
        await node.stop()
    assert (await node.outbox.begin()).books is None


@simulated
async def test_a_ledger_that_knows_more_than_the_node_is_believed_and_told() -> None:
    async with AccountingNode() as node:
        await node.pay("a", 300)
    async with away(
        AccountingNode(ledger=node.ledger, spool=1000)
    ) as again:  # its DATA_DIR is lost
        again.post("b", await again.hold("b", 100))
        await again.outcome("b", other_than=Outcome.HELD)
        again.ledger.down = None
        await again.idle()
        assert again.alerts == ["ledger_differs"]
        assert again.net("alice") == 400
        assert await again.rest() == []


@simulated
async def test_a_ledger_that_goes_away_again_while_it_is_met_is_met_again() -> None:
    node = AccountingNode(spool=1000)
    async with node:
        node.ledger.down = Fault.REFUSED
        node.post("b", await node.hold("b", 200))
        await node.outcome("b", other_than=Outcome.HELD)
        await node.stop()
    for failing in range(6):
        terms = [replace(one, credit_limit=2000 + failing) for one in (ALICE, BOB, CAROL)]
        again = away(AccountingNode(terms, ledger=node.ledger, outbox=node.outbox, spool=1000))
        async with again:
            again.post("c", await again.hold("c", 10))
            await again.outcome("c", other_than=Outcome.HELD)
            again.ledger.next_faults = [None] * failing + [Fault.LOST, Fault.REFUSED]
            again.ledger.down = None
            await again.idle()
            assert again.net("alice") == 210 + 10 * failing
            assert again.alerts == []
            assert await again.rest() == []
            await again.stop()


@simulated
async def test_a_ledger_that_refuses_us_is_told_once() -> None:
    async with away(AccountingNode()) as node:
        node.ledger.refusal = LedgerRefusedError("wrong_cluster", "it is another cluster")
        await asyncio.sleep(3)
        assert node.alerts == ["ledger_refused"]
        assert node.manager.state_reason == "it is another cluster"


@simulated
async def test_a_new_outbox_for_an_old_node_is_told() -> None:
    async with AccountingNode() as node:
        pass
    node.ledger.may_be_away = True
    again = await AccountingNode(ledger=node.ledger).open()
    assert again.alerts == ["outbox_is_new"]
    assert (await AccountingNode(ledger=node.ledger, outbox=again.outbox).open()).alerts == []


@simulated
async def test_two_processes_that_start_together_grant_once() -> None:
    one = AccountingNode()
    two = AccountingNode(ledger=one.ledger)
    one.ledger.latency_s = 0.1
    one.ledger.one_at_a_time = False
    await asyncio.gather(one.open(), two.open())
    assert await books_at_rest(one.manager) == []
    assert await books_at_rest(two.manager) == []
