"""Resent packets of an earlier or of another process, and their holds."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from connector.accounting import bounds as accounting_bounds
from connector.accounting.entries import Reserve, condition_tag
from connector.accounting.manager import State
from connector.accounting.own import Claim
from connector.accounting.promises import Outcome, Reservation
from connector.base import limits
from connector.base.errors import LedgerBehindError, LedgerUnavailableError
from connector.ledger.model import AccountCode, second_id
from connector.peering.model import LOCAL, Asset, PeerTerms
from tests.support.accounting_node import (
    ALICE,
    BOB,
    CAROL,
    CONDITION,
    HOLD_MS,
    OTHER_CONDITION,
    WE,
    AccountingNode,
    expired,
    node_on_cluster,
    taken,
)
from tests.support.accounts import Fault, books_at_rest
from tests.support.clocks import simulated


def is_over(node: AccountingNode, sender_id: int) -> bool:
    """Whether a packet of alice's is known, and nothing is held for it."""
    found = taken(node, sender_id)
    return found is not None and found.reservation.is_free and not found.fulfill


# --- what nobody asked for in time


@pytest.mark.parametrize("is_away", [True, False])
@simulated
async def test_packets_whose_outcome_nobody_knows_are_told_with_their_next_hop(
    is_away: bool,
) -> None:
    """Where the hold expires while the node is down, and where it does afterwards."""
    async with AccountingNode() as node:
        await node.hold("a", sender_id=11)
        await node.hold("b", sender_id=12)
        await node.hold("c", sender_id=13, next_hop=WE)
        given_back = await node.hold("d", sender_id=14)
        node.manager.void(given_back)
        await node.pay("e", sender_id=15)
        await asyncio.sleep(1)
        ledger, outbox = node.ledger, node.outbox
    if is_away:
        await asyncio.sleep(HOLD_MS / 1000 + 60)
    async with AccountingNode(ledger=ledger, outbox=outbox) as again:
        if not is_away:
            assert taken(again, 11) is not None  # asked for again
            await asyncio.sleep(HOLD_MS / 1000 + 60)
        await asyncio.sleep(1)
        assert again.alerts.count("packets_outcome_unknown") == 1
        (told,) = (one for one in again.told if one[0] == "packets_outcome_unknown")
        assert told[1]["peerId"] == "bob"
        assert told[1]["packets"] == (2 if is_away else 1)


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
    async with AccountingNode() as node:
        await node.pay("a", fee=fee, sender_id=11)
        await node.pay("b", fee=fee, sender_id=12)  # its answer was read, and is forgotten
        await node.pay("c", sender_id=13, next_hop=WE)
        await node.pay("d", sender_id=14, source=CAROL)
        held = await node.hold("e", sender_id=15)
        node.manager.void(held)
        answers = {("alice", 11): FULFILL, ("alice", 13): FULFILL, ("alice", 15): REJECT}
        assert await node.manager.keep_answers("bob", lambda *key: answers.get(key)) == 1
        assert len(node.outbox.fulfilments) == 1
    terms = [ALICE, BOB, CAROL] if has_accounts else [ALICE, CAROL]
    async with AccountingNode(terms, ledger=node.ledger, outbox=node.outbox) as again:
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
    async with AccountingNode() as node:
        await node.hold("a", sender_id=11)
        await node.pay("b", sender_id=12, fee=3)
        await node.pay("c", next_hop=ALICE, source=BOB, sender_id=13)  # of a source that is gone
    async with node_on_cluster(terms=[ALICE, CAROL], ledger=node.ledger) as again:
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
    async with AccountingNode() as node:
        reservation = await node.hold("a", fee=fee)
        node.ledger.down = Fault.REFUSED
        node.post("a", reservation)
        assert await node.outcome("a", other_than=Outcome.HELD) is Outcome.RELEASED
    node.ledger.down = None
    async with AccountingNode(ledger=node.ledger, outbox=node.outbox) as again:
        assert again.outbox.requests == {}
        assert again.alerts == []
        assert again.net("alice") == 100
        assert again.own(AccountCode.REVENUE) == -fee
        assert await books_at_rest(again.manager) == []


@pytest.mark.parametrize("fee", [0, 3])
@simulated
async def test_what_was_promised_and_has_expired_is_corrected_at_the_next_start(fee: int) -> None:
    async with AccountingNode() as node:
        reservation = await expired(node, fee=fee)
        node.ledger.down = Fault.REFUSED
        node.post("late", reservation)
        await node.outcome("late", other_than=Outcome.HELD)
    node.ledger.down = None
    for _ in range(2):  # also when the start breaks off before the outbox is cleared
        kept = dict(node.outbox.requests)
        again = await AccountingNode(ledger=node.ledger, outbox=node.outbox).open()
        assert again.alerts == ["accounting_correction"]
        assert again.net("alice") == 100
        assert again.own(AccountCode.REVENUE) == -fee
        assert again.outbox.requests == {}
        assert await books_at_rest(again.manager) == []
        node.outbox.requests = kept


@simulated
async def test_a_promise_about_another_ledger_is_kept_for_a_human() -> None:
    async with AccountingNode() as node:
        reservation = await node.hold("a")
        node.ledger.gate.clear()
        node.post("a", reservation)
        await node.outcome("a", other_than=Outcome.HELD)
    with pytest.raises(LedgerBehindError, match="is not there"):
        await AccountingNode(outbox=node.outbox).open()
    again = await AccountingNode(outbox=node.outbox, accept_loss=True).open()
    assert again.alerts == ["ledger_loss_accepted", "outbox_transfer_unknown"]
    assert again.outbox.transfers == 1


@pytest.mark.parametrize(("next_hop", "fee"), [(BOB, 0), (BOB, 3), (CAROL, 3), (WE, 0), (ALICE, 0)])
@simulated
async def test_an_open_packet_is_found_again_once(next_hop: PeerTerms, fee: int) -> None:
    async with AccountingNode() as node:
        before = await node.hold("a", sender_id=11, next_hop=next_hop, fee=fee)
    async with AccountingNode(ledger=node.ledger) as again:
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
    async with AccountingNode() as node:
        await node.pay("a", sender_id=11, fee=3)
    again = await AccountingNode(ledger=node.ledger).open()
    found = taken(again, 11)
    assert found is not None
    assert found.reservation.posted
    assert await books_at_rest(again.manager) == []


@simulated
async def test_packets_of_others_are_not_found_and_those_given_back_are_over() -> None:
    async with AccountingNode() as node:
        node.manager.void(await node.hold("given back", sender_id=11))
        await node.hold("without an id")
        await node.hold("our own", source=WE, sender_id=12)
        await node.idle()
    async with AccountingNode(ledger=node.ledger) as again:
        assert is_over(again, 11)
        assert taken(again, 12) is None
        assert again.manager.take_recovered("bob", 11, CONDITION) is None
        assert again.manager.peers["alice"].available_credit == 900
        assert await again.rest() == []


@simulated
async def test_under_another_condition_it_is_another_packet() -> None:
    """Else its sender could have us ask for a proof that does not free the money that is held."""
    async with AccountingNode() as node:
        await node.hold("a", sender_id=11)
    again = await AccountingNode(ledger=node.ledger).open()
    assert taken(again, 11, OTHER_CONDITION) is None
    assert taken(again, 11) is not None


@simulated
async def test_what_nobody_asks_for_again_is_free_when_it_expires() -> None:
    async with AccountingNode() as node:
        await node.hold("a", sender_id=11, fee=3)
        await node.hold("b", sender_id=12)
    async with AccountingNode(ledger=node.ledger) as again:
        assert again.manager.peers["alice"].available_credit == 800
        assert taken(again, 12) is not None  # and then not a word of it
        await asyncio.sleep(31)
        assert again.manager.peers["alice"].available_credit == 900
        assert is_over(again, 11)  # its money is not held any more


@simulated
async def test_what_expired_while_the_node_was_away_is_over() -> None:
    async with AccountingNode() as node:
        await expired(node, sender_id=11)
    again = await AccountingNode(ledger=node.ledger).open()
    assert is_over(again, 11)
    # The ledger has not been asked since and still counts the hold; nobody would ever let go of it.
    assert again.manager.peers["alice"].available_credit == 1000
    await again.manager.expire()
    assert await books_at_rest(again.manager) == []


# --- asking the ledger for a packet


async def asked(node: AccountingNode, *sender_ids: int) -> list[int]:
    """About which packets of alice's the ledger has spoken."""
    found = await node.manager.find_former([("alice", one) for one in sender_ids])
    assert all(source_id == "alice" for source_id, _ in found)
    return [sender_id for _, sender_id in found]


@pytest.mark.parametrize(("next_hop", "fee"), [(BOB, 0), (BOB, 3), (CAROL, 3), (WE, 0)])
@pytest.mark.parametrize("posted", [False, True])
@simulated
async def test_a_packet_that_another_process_took_is_found_in_the_ledger(
    next_hop: PeerTerms, fee: int, *, posted: bool
) -> None:
    async with node_on_cluster() as node, node_on_cluster(ledger=node.ledger) as other:
        node.ledger.one_at_a_time = False
        before = await other.hold("a", sender_id=11, next_hop=next_hop, fee=fee)
        if posted:
            other.post("a", before)
            await other.outcome("a", other_than=Outcome.HELD)
        assert taken(node, 11) is None
        assert await asked(node, 11, 12) == [11, 12]
        found = taken(node, 11)
        assert found is not None
        assert taken(node, 12) is None
        assert (found.source_id, found.next_hop_id) == ("alice", next_hop.peer_id)
        assert found.reservation.legs == before.legs
        assert found.reservation.posted == posted
        if not posted:
            node.post("a", found.reservation)
            assert await node.outcome("a") is Outcome.POSTED
        await asyncio.sleep(accounting_bounds.RECONCILE_SECONDS)
        await node.manager.expire()
        assert await node.rest() == []


@simulated
async def test_what_is_not_asked_for_in_the_end_is_let_go_of_when_it_expires() -> None:
    async with node_on_cluster() as node, node_on_cluster(ledger=node.ledger) as other:
        node.ledger.one_at_a_time = False
        await other.hold("a", sender_id=11)
        assert await asked(node, 11) == [11]
        assert node.manager.peers["alice"].available_credit == 900
        assert taken(node, 11, OTHER_CONDITION) is None
        assert await asked(node, 11) == [11]
        assert node.manager.peers["alice"].available_credit == 900  # held once
        assert await node.rest() == []


@simulated
async def test_packets_that_were_given_back_or_have_expired_are_not_tried_again() -> None:
    async with node_on_cluster() as node:
        node.manager.void(await node.hold("given back", sender_id=11))
        over = await expired(node, sender_id=12)
        of_bob = await node.hold("of bob", source=BOB, next_hop=ALICE, sender_id=13)
        await node.idle()
        assert await asked(node, 11, 12, 13) == [11, 12, 13]
        assert is_over(node, 11)
        assert is_over(node, 12)
        assert taken(node, 13) is None
        # Bob uses the same id: his packet is none of hers, and is not counted twice.
        assert node.manager.take_recovered("bob", 13, CONDITION) is None
        assert node.manager.peers["bob"].available_credit == 900
        node.manager.void(over)
        node.manager.void(of_bob)
        assert await node.rest() == []


@simulated
async def test_while_the_ledger_is_away_it_says_nothing() -> None:
    async with node_on_cluster(spool=1000) as node:
        await node.pay("a", sender_id=11)
        node.ledger.down = Fault.REFUSED
        await node.manager.expire()
        assert node.manager.state is State.SPOOLING
        assert await asked(node, 11, 12) == []
        node.ledger.down = None
        await node.idle()
        assert await asked(node, 11, 12) == [11, 12]
        assert taken(node, 11) is not None


@simulated
async def test_what_is_on_its_way_to_the_ledger_is_asked_for_again_in_a_moment() -> None:
    """Told, put into the outbox, and not yet booked: the ledger has a hold only."""
    async with node_on_cluster() as node:
        reservation = await node.hold("a", sender_id=11)
        node.ledger.latency_s = 0.8  # slower than a Fulfill may wait
        node.post("a", reservation)
        assert await node.outcome("a", other_than=Outcome.HELD) is Outcome.RELEASED
        node.ledger.one_at_a_time = False
        turn = node.manager._turn
        turn._is_taken = False
        assert await asked(node, 11, 12) == [12]
        turn._is_taken = True
        node.ledger.latency_s = 0
        await asyncio.sleep(1)
        assert await asked(node, 11) == [11]
        found = taken(node, 11)
        assert found is not None
        assert found.reservation.posted
        assert await node.rest() == []


# --- packets that were sent a second way


async def second_way(node: AccountingNode, *, voids: bool = True) -> Reservation:
    """The second hold of a packet of alice's, towards carol after bob has refused it."""
    first = await node.hold("first", sender_id=11)
    if voids:
        node.manager.void(first)
    packet_id = second_id(first.packet_id)
    asked = Reserve(ALICE, DORA, 100, 0, 100, CONDITION, HOLD_MS)
    held = node.manager.reserve("second", packet_id, 11, asked)
    assert isinstance(held, Reservation)
    assert await node.outcome("second") is Outcome.HELD
    return held


DORA = PeerTerms(peer_id="dora", asset=ALICE.asset, credit_limit=10_000)


@pytest.mark.parametrize("voids", [True, False])
@pytest.mark.parametrize("end", ["held", "posted", "voided"])
@pytest.mark.parametrize("looks_up", [True, False])
@simulated
async def test_of_two_ways_the_second_says_what_is_owed(
    voids: bool, end: str, looks_up: bool
) -> None:
    """Also if the void of the first was lost; at a start, and where another process has sent it."""
    terms = [ALICE, BOB, DORA]
    async with node_on_cluster(terms=terms) as node, contextlib.AsyncExitStack() as stack:
        if looks_up:
            other = node_on_cluster(terms=terms, ledger=node.ledger)
            again = await stack.enter_async_context(other)
            node.ledger.one_at_a_time = False
        held = await second_way(node, voids=voids)
        if end == "posted":
            node.post("second", held)
            assert await node.outcome("second", other_than=Outcome.HELD) is Outcome.POSTED
        elif end == "voided":
            node.manager.void(held)
        await node.idle()
        if looks_up:
            assert await asked(again, 11) == [11]
        else:
            again = await stack.enter_async_context(
                node_on_cluster(terms=terms, ledger=node.ledger)
            )
        found = taken(again, 11)
        assert found is not None
        assert found.reservation.packet_id == held.packet_id
        assert found.reservation.is_free is (end == "voided")
        assert found.reservation.posted is (end == "posted")
        assert found.next_hop_id == "dora"
        if end == "held":
            again.manager.void(found.reservation)
        assert await again.rest() == []
        assert again.net("dora") == (-100 if end == "posted" else 0)


@simulated
async def test_while_the_second_way_is_on_its_way_to_the_ledger_the_first_says_nothing() -> None:
    async with node_on_cluster(terms=[ALICE, BOB, DORA]) as node:
        held = await second_way(node)
        node.ledger.latency_s = 0.8
        node.post("second", held)
        assert await node.outcome("second", other_than=Outcome.HELD) is Outcome.RELEASED
        node.ledger.one_at_a_time = False
        turn = node.manager._turn
        turn._is_taken = False
        assert await asked(node, 11) == []
        assert node.manager.find_recovered("alice", 11) is None
        turn._is_taken = True
        node.ledger.latency_s = 0
        await asyncio.sleep(1)
        assert await asked(node, 11) == [11]
        found = taken(node, 11)
        assert found is not None
        assert found.reservation.posted
        assert await node.rest() == []


@simulated
async def test_resent_packets_are_looked_up_when_the_accounts_are_shared() -> None:
    async with AccountingNode() as node:
        assert not node.manager.may_know_former  # nobody kept these books before
    async with AccountingNode(ledger=node.ledger) as again:
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
    node = node_on_cluster()
    node.ledger.is_open, node.ledger.down = False, Fault.REFUSED
    async with node:
        assert node.manager.state is State.UNAVAILABLE
        assert node.manager.may_know_former
        assert await asked(node, 11) == []
        node.ledger.down = None
        while node.manager.state is not State.AVAILABLE:
            await asyncio.sleep(0.1)
        assert await asked(node, 11) == [11]


@simulated
async def test_what_was_found_at_a_start_is_forgotten_when_nobody_can_ask_for_it() -> None:
    async with AccountingNode() as node:
        await node.pay("a", sender_id=11)
    async with AccountingNode(ledger=node.ledger) as again:
        await asyncio.sleep(limits.FORMER_PACKETS_MS / 1000 + 1)
        assert taken(again, 11) is None


@simulated
async def test_what_a_look_up_finds_is_there_when_it_ends_however_long_that_takes() -> None:
    async with node_on_cluster() as node:
        reservation = await node.hold("a", sender_id=11)
        node.manager.keep_and_post("a", reservation, node.clock.now_ms() + 5_000, FULFILL)
        assert await node.outcome("a", other_than=Outcome.HELD) is Outcome.RELEASED
        # Older than what may be resent to a process of before; ticks go on during the look-up.
        await asyncio.sleep(1)
        node.outbox.latency_s = 1.0
        assert await asked(node, 11) == [11]
        found = taken(node, 11)
        assert found is not None
        assert (found.reservation.posted, found.fulfill) == (True, FULFILL)


@simulated
async def test_a_hold_that_was_counted_stays_known_and_is_never_new() -> None:
    async with node_on_cluster() as node, node_on_cluster(ledger=node.ledger) as other:
        node.ledger.one_at_a_time = False
        await other.hold("a", sender_id=11)
        await asyncio.sleep(1)
        for _ in range(3):
            assert await asked(node, 11) == [11]
            assert node.manager.find_recovered("alice", 11) is not None
            await asyncio.sleep(1)  # it is not taken: it has to wait
        assert node.manager.peers["alice"].available_credit == 900  # held once
        assert taken(node, 11) is not None


# --- packets of this node itself


@pytest.mark.parametrize("fee", [0, 3])
@pytest.mark.parametrize("away_s", [0, 5, 60, 300])
@pytest.mark.parametrize("is_fulfilled", [True, False])
@simulated
async def test_a_packet_of_this_node_itself_is_taken_up_however_long_it_was_away(
    fee: int, away_s: int, is_fulfilled: bool
) -> None:
    """Also when its hold has expired: then it is booked by a correction, or given back once."""
    async with AccountingNode() as node:
        await node.hold("a", source=WE, sender_id=11, fee=fee, hold_ms=1000)
    await asyncio.sleep(away_s)
    async with AccountingNode(ledger=node.ledger, outbox=node.outbox) as again:
        await asyncio.sleep(0.5 if away_s == 0 else 20)  # until then nobody has asked for it
        asked = [(LOCAL, 11)]
        assert list(await again.manager.find_former(asked)) == asked
        found = again.manager.take_recovered(LOCAL, 11, CONDITION)
        assert found is not None
        assert (found.source_id, found.next_hop_id) == (LOCAL, "bob")
        assert again.manager.take_recovered(LOCAL, 11, CONDITION) is None
        if is_fulfilled:
            again.post("a", found.reservation)
            assert await again.outcome("a") is Outcome.POSTED
        else:
            again.manager.void(found.reservation)
        await again.idle()
        assert again.net("bob") == (fee - 100 if is_fulfilled else 0)
        assert again.own(AccountCode.REVENUE) == (-fee if is_fulfilled else 0)
        assert again.alerts == (["accounting_correction"] if is_fulfilled and away_s else [])
        assert await books_at_rest(again.manager) == []


@simulated
async def test_a_packet_of_this_node_itself_that_was_given_back_is_over() -> None:
    async with AccountingNode() as node:
        node.manager.void(await node.hold("a", source=WE, sender_id=11))
        await node.hold("b", source=WE)  # of `send`, which has no id
    async with AccountingNode(ledger=node.ledger, outbox=node.outbox) as again:
        await asyncio.sleep(60)
        found = again.manager.take_recovered(LOCAL, 11, CONDITION)
        assert found is not None
        assert found.reservation.is_free
        assert not again.manager._recovery._recovered
        await again.manager.expire()
        assert await books_at_rest(again.manager) == []


# --- payments of this node


@simulated
async def test_what_the_ledger_has_of_own_packets() -> None:
    claim = Claim("a payment", 1, 5)
    async with AccountingNode() as node:
        assert await node.manager.claim_payment(claim)
        began_ms = node.clock.now_ms()
        await node.hold("held", source=WE, sender_id=11, fee=3, hold_ms=20_000)
        await node.pay("posted", 50, source=WE, sender_id=12)
        node.manager.void(await node.hold("void", source=WE, sender_id=13))
        await node.hold("of a peer", sender_id=14)
        await node.idle()
        asked = range(11, 16)
        found = await node.manager.own_packets(claim, asked, WE.asset) or []
        assert [one.sender_packet_id for one in found] == [11, 12, 13]
        assert [one.amount for one in found] == [100, 50, 100]
        assert [(one.is_posted, one.is_void) for one in found] == [
            (False, False), (True, False), (False, True),
        ]  # fmt: skip
        assert {one.condition_tag for one in found} == {condition_tag(CONDITION)}
        assert 0 <= found[0].age_ms <= node.clock.now_ms() - began_ms
        expires_at_ms = began_ms + 20_000
        assert expires_at_ms - 2000 <= found[0].expires_at_ms <= expires_at_ms + 50
        # None is older than the claim of its attempt, and another attempt says nothing of it.
        later = Claim("a payment", 2, 6)
        assert await node.manager.claim_payment(later)
        found = await node.manager.own_packets(later, asked, WE.asset) or []
        assert {one.sender_packet_id for one in found} <= {11}  # it is held still
        for unknown in (Claim("a payment", 3, 6), Claim("a payment", 1, 6), Claim("another", 1, 5)):
            assert await node.manager.own_packets(unknown, asked, WE.asset) is None
        other = Asset("EUR", 2)
        assert await node.manager.own_packets(claim, asked, other) == []


@pytest.mark.parametrize("voids", [True, False])
@simulated
async def test_of_an_own_packet_that_went_a_second_way_the_second_counts(voids: bool) -> None:
    async with AccountingNode() as node:
        claim = Claim("a payment", 1, 5)
        assert await node.manager.claim_payment(claim)
        first = await node.hold("first", 30, source=WE, sender_id=11)
        if voids:
            node.manager.void(first)
        packet_id = second_id(first.packet_id)
        held = await node.hold("second", 30, source=WE, sender_id=11, packet_id=packet_id)
        node.post("second", held)
        await node.outcome("second", other_than=Outcome.HELD)
        await node.idle()
        (found,) = await node.manager.own_packets(claim, [11], WE.asset) or []
        assert (found.amount, found.is_posted, found.is_void) == (30, True, False)


@simulated
async def test_an_attempt_at_a_payment_is_claimed_by_the_first_and_again_by_the_same() -> None:
    async with AccountingNode() as node:
        assert await node.manager.claim_payment(Claim("a", 1, 5))
        assert await node.manager.claim_payment(Claim("a", 1, 5))
        assert not await node.manager.claim_payment(Claim("a", 1, 6))
        assert await node.manager.claim_payment(Claim("a", 2, 6))
        assert await node.manager.claim_payment(Claim("b", 1, 6))
        node.ledger.next_faults = [Fault.LOST]
        with pytest.raises(LedgerUnavailableError):
            await node.manager.claim_payment(Claim("c", 1, 7))
        assert await node.manager.claim_payment(Claim("c", 1, 7))
        assert await books_at_rest(node.manager) == []
    async with AccountingNode(ledger=node.ledger) as another:
        assert not await another.manager.claim_payment(Claim("c", 1, 8))
        assert await another.manager.claim_payment(Claim("c", 1, 7))
        node.ledger.down = Fault.REFUSED
        with pytest.raises(LedgerUnavailableError):
            await another.manager.claim_payment(Claim("d", 1, 8))
        node.ledger.down = None
