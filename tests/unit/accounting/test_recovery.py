"""Packets of an earlier life or of another process, and what is held for them."""

from __future__ import annotations

import asyncio

import pytest

from connector.accounting import bounds as accounting_bounds
from connector.accounting.manager import State
from connector.accounting.promises import Outcome
from connector.base import limits
from connector.base.errors import LedgerBehindError
from connector.ledger.model import (
    AccountCode,
)
from connector.peering.model import PeerTerms
from tests.support.accounts import Fault, books_at_rest
from tests.support.bank import (
    ALICE,
    BOB,
    CAROL,
    CONDITION,
    OTHER_CONDITION,
    WE,
    Bank,
    away_bank,
    expired,
    simulated,
    taken,
)


def is_over(bank: Bank, sender_id: int) -> bool:
    """Whether a packet of alice's is known, and nothing is held for it."""
    found = taken(bank, sender_id)
    return found is not None and found.reservation.is_free and not found.fulfill


# --- a next hop that was removed

FULFILL = b"\x0d\x21" + b"p" * 32 + b"\x00"
REJECT = b"\x0e\x06F99\x00\x00\x00"


@pytest.mark.parametrize("fee", [0, 3])
@pytest.mark.parametrize("has_accounts", [True, False])
@simulated
async def test_the_fulfill_of_a_next_hop_that_was_removed_is_kept(
    fee: int, has_accounts: bool
) -> None:
    """Its answer was in memory, and the sender may not have read it when the node is killed."""
    async with Bank() as bank:
        await bank.pay("a", fee=fee, sender_id=11)
        await bank.pay("b", fee=fee, sender_id=12)  # its answer was read, and is forgotten
        await bank.pay("c", sender_id=13, next_hop=WE)
        await bank.pay("d", sender_id=14, source=CAROL)
        held = await bank.hold("e", sender_id=15)
        bank.manager.void(held)
        answers = {("alice", 11): FULFILL, ("alice", 13): FULFILL, ("alice", 15): REJECT}
        assert await bank.manager.keep_answers("bob", lambda *key: answers.get(key)) == 1
        assert len(bank.outbox.fulfilments) == 1
    terms = [ALICE, BOB, CAROL] if has_accounts else [ALICE, CAROL]
    async with Bank(terms, ledger=bank.ledger, outbox=bank.outbox) as again:
        asked = [("alice", 11), ("alice", 12)]
        assert list(await again.manager.find_former(asked)) == asked
        found, forgotten = taken(again, 11), taken(again, 12)
        assert found is not None
        assert found.fulfill == FULFILL
        assert forgotten is not None  # known, so never forwarded as a new packet
        assert not forgotten.fulfill
        assert forgotten.reservation.is_free is not has_accounts


@simulated
async def test_a_packet_towards_accounts_that_are_gone_is_never_new() -> None:
    """Also where it is only held, and where another process took it."""
    async with Bank() as bank:
        await bank.hold("a", sender_id=11)
        await bank.pay("b", sender_id=12, fee=3)
        await bank.pay("c", next_hop=ALICE, source=BOB, sender_id=13)  # of a source that is gone
    async with away_bank(terms=[ALICE, CAROL], ledger=bank.ledger) as again:
        again.manager._recovery._recovered.clear()  # as if another process had taken them
        asked = [("alice", 11), ("alice", 12), ("alice", 14)]
        assert list(await again.manager.find_former(asked)) == asked
        assert is_over(again, 11)
        assert is_over(again, 12)
        assert taken(again, 14) is None


# --- starting again


@pytest.mark.parametrize("fee", [0, 3])
@simulated
async def test_what_was_promised_is_booked_at_the_next_start(fee: int) -> None:
    async with Bank() as bank:
        reservation = await bank.hold("a", fee=fee)
        bank.ledger.down = Fault.REFUSED
        bank.post("a", reservation)
        assert await bank.outcome("a", other_than=Outcome.HELD) is Outcome.RELEASED
    bank.ledger.down = None
    async with Bank(ledger=bank.ledger, outbox=bank.outbox) as again:
        assert again.outbox.requests == {}
        assert again.alerts == []
        assert again.net("alice") == 100
        assert again.own(AccountCode.REVENUE) == -fee
        assert await books_at_rest(again.manager) == []


@pytest.mark.parametrize("fee", [0, 3])
@simulated
async def test_what_was_promised_and_has_expired_is_corrected_at_the_next_start(fee: int) -> None:
    async with Bank() as bank:
        reservation = await expired(bank, fee=fee)
        bank.ledger.down = Fault.REFUSED
        bank.post("late", reservation)
        await bank.outcome("late", other_than=Outcome.HELD)
    bank.ledger.down = None
    for _ in range(2):  # also when the start breaks off before the outbox is cleared
        kept = dict(bank.outbox.requests)
        again = await Bank(ledger=bank.ledger, outbox=bank.outbox).open()
        assert again.alerts == ["accounting_correction"]
        assert again.net("alice") == 100
        assert again.own(AccountCode.REVENUE) == -fee
        assert again.outbox.requests == {}
        assert await books_at_rest(again.manager) == []
        bank.outbox.requests = kept


@simulated
async def test_a_promise_about_another_ledger_is_kept_for_a_human() -> None:
    async with Bank() as bank:
        reservation = await bank.hold("a")
        bank.ledger.gate.clear()
        bank.post("a", reservation)
        await bank.outcome("a", other_than=Outcome.HELD)
    with pytest.raises(LedgerBehindError, match="is not there"):
        await Bank(outbox=bank.outbox).open()
    again = await Bank(outbox=bank.outbox, accept_loss=True).open()
    assert again.alerts == ["ledger_loss_accepted", "outbox_transfer_unknown"]
    assert again.outbox.transfers == 1


@pytest.mark.parametrize(("next_hop", "fee"), [(BOB, 0), (BOB, 3), (CAROL, 3), (WE, 0), (ALICE, 0)])
@simulated
async def test_an_open_packet_is_found_again_once(next_hop: PeerTerms, fee: int) -> None:
    async with Bank() as bank:
        before = await bank.hold("a", sender_id=11, next_hop=next_hop, fee=fee)
    async with Bank(ledger=bank.ledger) as again:
        assert again.manager.peers["alice"].available_credit <= 1000
        found = taken(again, 11)
        assert found is not None
        assert (found.source_id, found.next_hop_id) == ("alice", next_hop.peer_id)
        assert found.reservation.packet_id == before.packet_id
        assert found.reservation.legs == before.legs
        assert not found.reservation.posted
        assert taken(again, 11) is None
        again.post("a", found.reservation)
        assert await again.outcome("a") is Outcome.POSTED
        assert await again.rest() == []


@simulated
async def test_a_posted_packet_is_found_again_as_posted() -> None:
    async with Bank() as bank:
        await bank.pay("a", sender_id=11, fee=3)
    again = await Bank(ledger=bank.ledger).open()
    found = taken(again, 11)
    assert found is not None
    assert found.reservation.posted
    assert await books_at_rest(again.manager) == []


@simulated
async def test_packets_of_others_are_not_found_and_those_given_back_are_over() -> None:
    async with Bank() as bank:
        bank.manager.void(await bank.hold("given back", sender_id=11))
        await bank.hold("without an id")
        await bank.hold("our own", source=WE, sender_id=12)
        await bank.idle()
    async with Bank(ledger=bank.ledger) as again:
        assert is_over(again, 11)
        assert taken(again, 12) is None
        assert again.manager.take_recovered("bob", 11, CONDITION) is None
        assert again.manager.peers["alice"].available_credit == 900
        assert await again.rest() == []


@simulated
async def test_under_another_condition_it_is_another_packet() -> None:
    """Else its sender could have us ask for a proof that does not free the money that is held."""
    async with Bank() as bank:
        await bank.hold("a", sender_id=11)
    again = await Bank(ledger=bank.ledger).open()
    assert taken(again, 11, OTHER_CONDITION) is None
    assert taken(again, 11) is not None


@simulated
async def test_what_nobody_asks_for_again_is_free_when_it_expires() -> None:
    async with Bank() as bank:
        await bank.hold("a", sender_id=11, fee=3)
        await bank.hold("b", sender_id=12)
    async with Bank(ledger=bank.ledger) as again:
        assert again.manager.peers["alice"].available_credit == 800
        assert taken(again, 12) is not None  # and then not a word of it
        await asyncio.sleep(31)
        assert again.manager.peers["alice"].available_credit == 900
        assert is_over(again, 11)  # its money is not held any more


@simulated
async def test_what_expired_while_the_node_was_away_is_over() -> None:
    async with Bank() as bank:
        await expired(bank, sender_id=11)
    again = await Bank(ledger=bank.ledger).open()
    assert is_over(again, 11)
    # The ledger has not been asked since and still counts the hold; nobody would ever let go of it.
    assert again.manager.peers["alice"].available_credit == 1000
    await again.manager.expire()
    assert await books_at_rest(again.manager) == []


# --- asking the ledger for a packet


async def asked(bank: Bank, *sender_ids: int) -> list[int]:
    """About which packets of alice's the ledger has spoken."""
    found = await bank.manager.find_former([("alice", one) for one in sender_ids])
    assert all(source_id == "alice" for source_id, _ in found)
    return [sender_id for _, sender_id in found]


@pytest.mark.parametrize(("next_hop", "fee"), [(BOB, 0), (BOB, 3), (CAROL, 3), (WE, 0)])
@pytest.mark.parametrize("posted", [False, True])
@simulated
async def test_a_packet_that_another_process_took_is_found_in_the_ledger(
    next_hop: PeerTerms, fee: int, *, posted: bool
) -> None:
    async with away_bank() as bank, away_bank(ledger=bank.ledger) as other:
        bank.ledger.one_at_a_time = False
        before = await other.hold("a", sender_id=11, next_hop=next_hop, fee=fee)
        if posted:
            other.post("a", before)
            await other.outcome("a", other_than=Outcome.HELD)
        assert taken(bank, 11) is None
        assert await asked(bank, 11, 12) == [11, 12]
        found = taken(bank, 11)
        assert found is not None
        assert taken(bank, 12) is None
        assert (found.source_id, found.next_hop_id) == ("alice", next_hop.peer_id)
        assert found.reservation.legs == before.legs
        assert found.reservation.posted == posted
        if not posted:
            bank.post("a", found.reservation)
            assert await bank.outcome("a") is Outcome.POSTED
        await asyncio.sleep(accounting_bounds.RECONCILE_SECONDS)
        await bank.manager.expire()
        assert await bank.rest() == []


@simulated
async def test_what_is_not_asked_for_in_the_end_is_let_go_of_when_it_expires() -> None:
    async with away_bank() as bank, away_bank(ledger=bank.ledger) as other:
        bank.ledger.one_at_a_time = False
        await other.hold("a", sender_id=11)
        assert await asked(bank, 11) == [11]
        assert bank.manager.peers["alice"].available_credit == 900
        assert taken(bank, 11, OTHER_CONDITION) is None
        assert await asked(bank, 11) == [11]
        assert bank.manager.peers["alice"].available_credit == 900  # held once
        assert await bank.rest() == []


@simulated
async def test_packets_that_were_given_back_or_have_expired_are_not_tried_again() -> None:
    async with away_bank() as bank:
        bank.manager.void(await bank.hold("given back", sender_id=11))
        over = await expired(bank, sender_id=12)
        of_bob = await bank.hold("of bob", source=BOB, next_hop=ALICE, sender_id=13)
        await bank.idle()
        assert await asked(bank, 11, 12, 13) == [11, 12, 13]
        assert is_over(bank, 11)
        assert is_over(bank, 12)
        assert taken(bank, 13) is None
        # Bob uses the same id: his packet is none of hers, and is not counted twice.
        assert bank.manager.take_recovered("bob", 13, CONDITION) is None
        assert bank.manager.peers["bob"].available_credit == 900
        bank.manager.void(over)
        bank.manager.void(of_bob)
        assert await bank.rest() == []


@simulated
async def test_while_the_ledger_is_away_it_says_nothing() -> None:
    async with away_bank(spool=1000) as bank:
        await bank.pay("a", sender_id=11)
        bank.ledger.down = Fault.REFUSED
        await bank.manager.expire()
        assert bank.manager.state is State.SPOOLING
        assert await asked(bank, 11, 12) == []
        bank.ledger.down = None
        await bank.idle()
        assert await asked(bank, 11, 12) == [11, 12]
        assert taken(bank, 11) is not None


@simulated
async def test_what_is_on_its_way_to_the_ledger_is_asked_for_again_in_a_moment() -> None:
    """Told, put into the outbox, and not yet booked: the ledger has a hold only."""
    async with away_bank() as bank:
        reservation = await bank.hold("a", sender_id=11)
        bank.ledger.latency_s = 0.8  # slower than a Fulfill may wait
        bank.post("a", reservation)
        assert await bank.outcome("a", other_than=Outcome.HELD) is Outcome.RELEASED
        bank.ledger.one_at_a_time = False
        turn = bank.manager._turn
        with_lock, turn._lock = turn._lock, asyncio.Lock()
        assert await asked(bank, 11, 12) == [12]
        turn._lock = with_lock
        bank.ledger.latency_s = 0
        await asyncio.sleep(1)
        assert await asked(bank, 11) == [11]
        found = taken(bank, 11)
        assert found is not None
        assert found.reservation.posted
        assert await bank.rest() == []


@simulated
async def test_who_else_may_have_taken_a_packet() -> None:
    async with Bank() as bank:
        assert not bank.manager.may_know_former  # nobody kept these books before
    async with Bank(ledger=bank.ledger) as again:
        assert again.manager.may_know_former
        await asyncio.sleep(limits.FORMER_PACKETS_MS / 1000)
        assert not again.manager.may_know_former
        again.ledger.may_be_away = True
        assert again.manager.may_know_former  # it costs little to ask
        again.ledger.down = Fault.REFUSED
        await again.manager.expire()
        assert again.manager.state is State.REJECTING
        assert not again.manager.may_know_former
        again.ledger.down = None


@simulated
async def test_nobody_knows_who_took_a_packet_before_the_ledger_has_been_met() -> None:
    bank = away_bank()
    bank.ledger.is_open, bank.ledger.down = False, Fault.REFUSED
    async with bank:
        assert bank.manager.state is State.UNAVAILABLE
        assert bank.manager.may_know_former
        assert await asked(bank, 11) == []
        bank.ledger.down = None
        while bank.manager.state is not State.AVAILABLE:
            await asyncio.sleep(0.1)
        assert await asked(bank, 11) == [11]


@simulated
async def test_what_was_found_at_a_start_is_forgotten_when_nobody_can_ask_for_it() -> None:
    async with Bank() as bank:
        await bank.pay("a", sender_id=11)
    async with Bank(ledger=bank.ledger) as again:
        await asyncio.sleep(limits.FORMER_PACKETS_MS / 1000 + 1)
        assert taken(again, 11) is None
