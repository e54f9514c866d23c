"""Fulfilments that could not be fetched again: durable first, then posted; found after a crash."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from connector.accounting import bounds
from connector.accounting.promises import Outcome, Reservation
from connector.accounting.writer import Writer
from connector.base import limits
from connector.base.errors import LedgerUnavailableError
from connector.ledger.model import (
    PHASE_CORRECT,
    PHASE_RESOLVE,
    POST,
    Kept,
    Status,
    Transfer,
    TransferCode,
)
from connector.peering.model import PeerTerms
from tests.support.accounting_node import (
    ALICE,
    BOB,
    CAROL,
    HOLD_MS,
    WE,
    AccountingNode,
    expired,
    node_on_cluster,
    taken,
)
from tests.support.accounts import Fault, books_at_rest
from tests.support.clocks import simulated

FULFILL = b"\x0d\x21" + b"p" * 32 + b"\x00"


def keep_and_post(
    node: AccountingNode, token: object, reservation: Reservation, *, left_ms: int = HOLD_MS
) -> None:
    expires_at_ms = node.clock.now_ms() + left_ms
    node.manager.keep_and_post(token, reservation, expires_at_ms, FULFILL)


async def pay_and_keep(node: AccountingNode, token: object, **options: Any) -> Reservation:
    reservation = await node.hold(token, **options)
    keep_and_post(node, token, reservation)
    in_outbox = node.ledger.fulfilments is None and node.ledger.keeps_books
    expected = Outcome.RELEASED if in_outbox else Outcome.POSTED
    assert await node.outcome(token, other_than=Outcome.HELD) is expected
    return reservation


def posts(node: AccountingNode) -> int:
    return sum(1 for request in node.ledger.requests for one in request if one.flags & POST)


async def killed_between(node: AccountingNode, **options: Any) -> Reservation:
    """A packet whose fulfilment is on disk, the node having died before its post was queued."""
    async with node:
        reservation = await node.hold("a", sender_id=11, **options)
        keep_and_post(node, "a", reservation)
        while not node.outbox.fulfilments:
            await asyncio.sleep(0)
    assert not posts(node)
    return reservation


@simulated
async def test_a_post_waits_until_its_fulfilment_is_durable() -> None:
    async with AccountingNode() as node:
        reservation = await node.hold("a")
        node.outbox.latency_s = 0.05
        keep_and_post(node, "a", reservation)
        await asyncio.sleep(0.04)
        assert posts(node) == 0
        assert await node.outcome("a", other_than=Outcome.HELD) is Outcome.RELEASED
        assert node.outbox.fulfilments[reservation.packet_id].octets == FULFILL
        await node.idle()
        assert posts(node) == 1
        assert node.alerts == []
        assert await node.rest() == []


@simulated
async def test_a_fulfill_is_relayed_when_it_is_kept_and_its_post_follows() -> None:
    async with AccountingNode() as node:
        reservation = await node.hold("a")
        node.outbox.latency_s, node.ledger.latency_s = 0.05, 0.2
        keep_and_post(node, "a", reservation)
        began_ms = node.clock.now_ms()
        assert await node.outcome("a", other_than=Outcome.HELD) is Outcome.RELEASED
        assert node.clock.now_ms() - began_ms == 50
        assert not reservation.posted
        assert node.manager.peers["alice"].peer.debits_posted == 100  # owed, and shown
        await asyncio.sleep(1)
        assert reservation.posted
        assert not node.outbox.ids
        assert (node.manager.counters.relayed, node.manager.counters.released) == (1, 0)
        assert node.alerts == []
        assert await node.rest() == []


@simulated
async def test_a_post_that_the_ledger_leaves_without_an_answer_goes_into_the_outbox() -> None:
    """Its Fulfill has been relayed, and is not kept for ever: the outbox has the debt."""
    node = node_on_cluster(spool=1000)
    async with node:
        reservation = await node.hold("a")
        node.ledger.down = Fault.REFUSED
        keep_and_post(node, "a", reservation)
        assert await node.outcome("a", other_than=Outcome.HELD) is Outcome.RELEASED
        await asyncio.sleep(bounds.POST_BUDGET_MS / 1000 + 0.1)
        assert node.outbox.ids == [reservation.packet_id | PHASE_RESOLVE]
        assert [one for one in node.order if one == ("a", Outcome.RELEASED)] == [node.order[-1]]
    await asyncio.sleep(2000)
    node.ledger.down = None
    async with node_on_cluster(ledger=node.ledger, outbox=node.outbox, spool=1000) as again:
        await again.idle()
        assert again.net("alice") == 100
        assert again.alerts == ["accounting_correction"]
        assert await again.rest() == []


@simulated
async def test_a_relayed_post_is_no_fulfill_that_left_too_early() -> None:
    """Ledger and disk fail for longer than its sender waits: nobody is told that its post is not durable."""
    async with node_on_cluster() as node:
        reservation = await node.hold("a")
        node.ledger.down = Fault.REFUSED
        keep_and_post(node, "a", reservation, left_ms=1000)
        assert await node.outcome("a", other_than=Outcome.HELD) is Outcome.RELEASED
        node.outbox.error = OSError("disk full")
        await asyncio.sleep(5)
        assert set(node.alerts) == {"outbox_failed"}
        node.outbox.error = node.ledger.down = None
        await asyncio.sleep(5)
        assert reservation.posted
        assert await node.rest() == []


@simulated
async def test_a_hold_that_expired_before_its_post_becomes_a_correction_though_nobody_waits() -> (
    None
):
    async with node_on_cluster() as node:
        reservation = await node.hold("a", hold_ms=1000)
        node.ledger.down = Fault.REFUSED
        keep_and_post(node, "a", reservation, left_ms=1000)
        assert await node.outcome("a", other_than=Outcome.HELD) is Outcome.RELEASED
        await asyncio.sleep(30)
        node.ledger.down = None
        await asyncio.sleep(5)
        assert "accounting_correction" in node.alerts
        assert node.net("alice") == 100
        assert await node.rest() == []


@simulated
async def test_a_fulfill_waits_for_its_post_where_a_standby_with_another_disk_may_take_over() -> (
    None
):
    async with AccountingNode() as node:
        node.manager._lease.is_watched = True
        reservation = await node.hold("a")
        keep_and_post(node, "a", reservation)
        assert await node.outcome("a", other_than=Outcome.HELD) is Outcome.POSTED
        assert reservation.posted


@simulated
async def test_what_is_owed_is_kept_until_its_ledger_was_reached() -> None:
    """However long a node waits for its ledger after a crash, and whatever the kept Fulfill's time."""
    node = node_on_cluster()
    await killed_between(node)
    node.ledger.down = Fault.REFUSED
    async with node_on_cluster(ledger=node.ledger, outbox=node.outbox) as again:
        for _ in range(2):
            await asyncio.sleep(100)
            await again.manager.maintain_outbox()
        assert again.outbox.fulfilments
        node.ledger.down = None
        await asyncio.sleep(5)
        assert again.net("alice") == 100
        await again.manager.maintain_outbox()
        assert not again.outbox.fulfilments


@pytest.mark.parametrize("down_s", [60, 600])
@pytest.mark.parametrize("spool", [0, 1000])
@simulated
async def test_what_is_owed_is_kept_until_it_is_booked_or_in_the_outbox(
    spool: int, down_s: int
) -> None:
    """The ledger hangs after the start that found it, and the node is killed again."""
    node = node_on_cluster(spool=spool)
    await killed_between(node)
    await asyncio.sleep(down_s)
    again = node_on_cluster(ledger=node.ledger, outbox=node.outbox, spool=spool)
    async with again:
        again.ledger.gate.clear()
        for _ in range(120):
            await again.manager.maintain_outbox()
            await asyncio.sleep(1)
        assert again.outbox.ids
    again.ledger.gate.set()
    async with node_on_cluster(ledger=node.ledger, outbox=node.outbox, spool=spool) as third:
        await asyncio.sleep(5)
        assert third.net("alice") == 100
        assert await third.rest() == []


@simulated
async def test_what_is_owed_survives_a_kill_before_it_could_be_put_into_the_outbox() -> None:
    node = node_on_cluster()
    await killed_between(node)
    await asyncio.sleep(600)
    async with node_on_cluster(ledger=node.ledger, outbox=node.outbox) as again:
        again.ledger.gate.clear()
        await again.manager.maintain_outbox()
        assert again.outbox.fulfilments
        assert not again.outbox.ids
    again.ledger.gate.set()
    async with node_on_cluster(ledger=node.ledger, outbox=node.outbox) as third:
        await asyncio.sleep(5)
        assert third.net("alice") == 100


@simulated
async def test_what_a_full_outbox_does_not_take_stays_kept() -> None:
    node = node_on_cluster()
    async with node:
        reservation = await node.hold("a")
        node.ledger.down = Fault.REFUSED
        add = node.outbox.add

        async def full(_transfers: Any) -> int:
            raise LedgerUnavailableError("the outbox is full")

        node.outbox.add = full  # type: ignore[method-assign]
        keep_and_post(node, "a", reservation)
        assert await node.outcome("a", other_than=Outcome.HELD) is Outcome.RELEASED
        for _ in range(120):
            await asyncio.sleep(1)
            await node.manager.maintain_outbox()
        assert node.outbox.fulfilments
        node.outbox.add = add  # type: ignore[method-assign]
    node.ledger.down = None
    async with node_on_cluster(ledger=node.ledger, outbox=node.outbox) as again:
        await asyncio.sleep(5)
        assert again.net("alice") == 100
        await again.manager.maintain_outbox()
        assert not again.outbox.fulfilments


@simulated
async def test_an_operator_is_told_of_what_was_fulfilled_and_a_lost_ledger_does_not_hold() -> None:
    node = node_on_cluster()
    await killed_between(node)
    empty = node_on_cluster(outbox=node.outbox, accept_loss=True)
    async with empty:
        await empty.idle()
        assert empty.alerts.count("fulfilment_not_booked") == 1


@pytest.mark.interpreted
@simulated
async def test_what_was_relayed_and_is_not_booked_is_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "IN_FLIGHT_TOTAL_MAX", 1)
    async with node_on_cluster() as node:
        reservation = await node.hold("a")
        assert node.manager.can_keep
        node.ledger.gate.clear()
        keep_and_post(node, "a", reservation)
        assert await node.outcome("a", other_than=Outcome.HELD) is Outcome.RELEASED
        assert not node.manager.can_keep
        assert node.manager.undurable == 1
        await asyncio.sleep(1)
        assert node.manager.undurable == 0  # in the outbox
        assert node.manager.can_keep
        node.ledger.gate.set()


@pytest.mark.interpreted
@pytest.mark.parametrize(
    ("in_request", "left_ms", "waits_ms"),
    [
        (0, HOLD_MS, 0),
        (2, HOLD_MS, 0),
        (5, HOLD_MS, 0),
        (6, HOLD_MS, 4),
        (bounds.FULFILMENTS_CROWD, HOLD_MS, 4),
        (bounds.FULFILMENTS_CROWD + 1, HOLD_MS, 6),
        (300, HOLD_MS, 6),
        (300, bounds.POST_EXPIRY_MARGIN_MS + 8, 0),
    ],
)
@simulated
async def test_fulfills_are_gathered_while_the_ledger_has_many_packets(
    monkeypatch: pytest.MonkeyPatch, in_request: int, left_ms: int, waits_ms: int
) -> None:
    """Not where the last moment of one is near."""
    async with AccountingNode() as node:
        reservation = await node.hold("a")
        monkeypatch.setattr(Writer, "in_request", property(lambda _: in_request))
        began_ms = node.clock.now_ms()
        keep_and_post(node, "a", reservation, left_ms=left_ms)
        assert await node.outcome("a", other_than=Outcome.HELD) is Outcome.RELEASED
        assert node.clock.now_ms() - began_ms == waits_ms
        assert node.alerts == []
        await node.idle()


@pytest.mark.interpreted
@simulated
async def test_enough_fulfills_are_gathered_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    async with AccountingNode() as node:
        held = [await node.hold(token) for token in "abc"]
        monkeypatch.setattr(Writer, "in_request", property(lambda _: 9))
        began_ms = node.clock.now_ms()
        keep_and_post(node, "a", held[0])
        await asyncio.sleep(0.001)
        assert not node.outbox.fulfilments
        keep_and_post(node, "b", held[1])
        keep_and_post(node, "c", held[2])
        assert await node.outcome("c", other_than=Outcome.HELD) is Outcome.RELEASED
        assert node.clock.now_ms() - began_ms == 1
        assert len(node.outbox.fulfilments) == 3
        await node.idle()


@simulated
async def test_what_gathers_during_a_write_is_kept_in_the_next_one() -> None:
    writes: list[int] = []
    async with AccountingNode() as node:
        held = [await node.hold(number, 10) for number in range(8)]
        keep = node.outbox.keep

        async def counted(rows: Any) -> None:
            writes.append(len(rows))
            await keep(rows)

        node.outbox.keep = counted  # type: ignore[method-assign]
        node.outbox.latency_s = 0.05
        for number, reservation in enumerate(held):
            keep_and_post(node, number, reservation)
            if not number:
                await asyncio.sleep(0.01)
        for number in range(8):
            await node.outcome(number, other_than=Outcome.HELD)
        assert writes == [1, 7]


@pytest.mark.parametrize("error", [OSError("disk full"), None])
@pytest.mark.parametrize(
    ("left_ms", "posted_ms"),
    [
        (HOLD_MS, HOLD_MS - bounds.POST_EXPIRY_MARGIN_MS - bounds.FULFILMENT_POST_MS),
        (bounds.POST_EXPIRY_MARGIN_MS + 100, 50),
        (bounds.POST_EXPIRY_MARGIN_MS, 0),
        (-5, 0),
    ],
)
@simulated
async def test_a_disk_that_fails_or_is_too_slow_holds_the_post_up_until_the_last_moment(
    left_ms: int, posted_ms: int, error: Exception | None
) -> None:
    async with AccountingNode() as node:
        reservation = await node.hold("a")
        node.outbox.error = error
        node.outbox.latency_s = 0.0 if error else 60.0
        began_ms = node.clock.now_ms()
        keep_and_post(node, "a", reservation, left_ms=left_ms)
        assert await node.outcome("a", other_than=Outcome.HELD) is Outcome.POSTED
        assert posted_ms <= node.clock.now_ms() - began_ms <= posted_ms + 30
        assert node.alerts == [*(["outbox_failed"] if error else []), "fulfilments_not_kept"]
        assert node.net("alice") == 100
        # Put on disk all the same, as soon as it takes it.
        node.outbox.error = None
        await asyncio.sleep(61)
        assert node.outbox.fulfilments
        assert node.manager.can_keep


@simulated
async def test_nothing_is_taken_that_would_need_a_disk_that_fails() -> None:
    async with AccountingNode() as node:
        first, second = await node.hold("a"), await node.hold("b")
        node.outbox.error = OSError("disk full")
        keep_and_post(node, "a", first)
        await asyncio.sleep(0.1)
        assert not node.manager.can_keep
        keep_and_post(node, "b", second)
        await asyncio.sleep(5)
        assert posts(node) == 0
        node.outbox.error = None
        began_ms = node.clock.now_ms()
        for token in ("a", "b"):
            assert await node.outcome(token, other_than=Outcome.HELD) is Outcome.RELEASED
        assert node.clock.now_ms() - began_ms <= bounds.OUTBOX_RETRY_SECONDS * 1000 + 10
        assert len(node.outbox.fulfilments) == 2
        assert node.manager.can_keep
        assert node.alerts == ["outbox_failed"]


@simulated
async def test_each_post_has_a_last_moment_of_its_own() -> None:
    """Also those that wait behind a write which does not end."""
    async with AccountingNode() as node:
        held = [await node.hold(number, 10) for number in range(4)]
        node.outbox.latency_s = 60.0
        for number, left_ms in enumerate((HOLD_MS, 5000, 3000, 10_000)):
            keep_and_post(node, number, held[number], left_ms=left_ms)
            await asyncio.sleep(0)
        for number in (2, 1, 3, 0):
            assert await node.outcome(number, other_than=Outcome.HELD) is Outcome.POSTED
        posted = [token for token, outcome in node.order if outcome is Outcome.POSTED]
        assert posted == [2, 1, 3, 0]


@pytest.mark.parametrize("error", [OSError("disk full"), None])
@simulated
async def test_a_node_that_stops_gives_the_disk_one_more_chance(error: Exception | None) -> None:
    node = AccountingNode()
    await node.__aenter__()
    reservation = await node.hold("a")
    node.outbox.error = error
    node.outbox.latency_s = 0.0 if error else 60.0
    keep_and_post(node, "a", reservation)
    await asyncio.sleep(0.1)
    began_ms = node.clock.now_ms()
    node.manager.stop()
    await asyncio.gather(*node._tasks[:2])
    assert node.clock.now_ms() - began_ms <= 1000
    assert node.outcomes["a"] is Outcome.POSTED
    node.outbox.latency_s = 0.0
    await node.manager.save_clean_stop()
    assert "fulfilments_not_kept" in node.alerts
    await node.__aexit__(None, None, None)


@simulated
async def test_stopping_posts_what_waits_for_the_disk() -> None:
    node = AccountingNode()
    await node.__aenter__()
    reservation = await node.hold("a")
    node.outbox.latency_s = 0.05
    keep_and_post(node, "a", reservation)
    await node.stop()
    assert node.outcomes["a"] is Outcome.RELEASED
    assert reservation.posted


@pytest.mark.parametrize(("next_hop", "fee"), [(BOB, 0), (BOB, 3), (CAROL, 3), (WE, 0), (ALICE, 0)])
@pytest.mark.parametrize("away_s", [0, 60, 2000])
@simulated
async def test_what_was_fulfilled_before_a_crash_is_posted_at_the_next_start(
    next_hop: PeerTerms, fee: int, away_s: float
) -> None:
    """Also when its hold has expired meanwhile, and when its time is over."""
    node = AccountingNode()
    before = await killed_between(node, next_hop=next_hop, fee=fee)
    await asyncio.sleep(away_s)
    async with AccountingNode(ledger=node.ledger, outbox=node.outbox) as again:
        await again.idle()
        found = taken(again, 11)
        assert found is not None
        assert found.reservation.packet_id == before.packet_id
        assert found.fulfill == FULFILL
        assert not found.may_be_kept
        assert again.alerts == (["accounting_correction"] if away_s else [])
        assert again.net("alice") == (100 if next_hop is not ALICE else 0)
        await again.manager.maintain_outbox()
        assert bool(again.outbox.fulfilments) == (away_s < 100)
        assert await again.rest() == []
    # Booked once, however often it is started.
    last = await AccountingNode(ledger=node.ledger, outbox=node.outbox).open()
    assert last.net("alice") == again.net("alice")
    assert await books_at_rest(last.manager) == []


@simulated
async def test_what_the_ledger_refuses_for_good_stays_in_the_outbox_though_nobody_asks() -> None:
    node = AccountingNode()
    before = await killed_between(node)
    await asyncio.sleep(60)
    # As another program would: the id of the correction is taken.
    leg = before.legs[0]
    taken_id = Transfer(
        id=leg.id | PHASE_CORRECT,
        debit_account_id=leg.credit_account_id,
        credit_account_id=leg.debit_account_id,
        amount=1,
        ledger=leg.ledger,
        code=TransferCode.FEE,
    )
    assert await node.ledger.create_transfers([taken_id]) == [Status.CREATED]
    async with AccountingNode(ledger=node.ledger, outbox=node.outbox) as again:
        await again.idle()
        assert again.alerts == ["accounting_correction", "accounting_refused"]
        assert again.outbox.ids == [leg.id | PHASE_RESOLVE]
    # Also at the next start, when its Fulfill is kept no more.
    await asyncio.sleep(2000)
    async with AccountingNode(ledger=node.ledger, outbox=node.outbox) as last:
        await last.idle()
        assert "accounting_refused" in last.alerts
        assert leg.id | PHASE_RESOLVE in last.outbox.ids


@simulated
async def test_what_it_owes_is_posted_when_its_ledger_is_there_at_last() -> None:
    node = node_on_cluster(spool=1000)
    await killed_between(node)
    node.ledger.down = Fault.REFUSED
    async with node_on_cluster(ledger=node.ledger, outbox=node.outbox, spool=1000) as again:
        await asyncio.sleep(1)
        assert again.net("alice") == 0
        node.ledger.down = None
        await asyncio.sleep(5)
        assert again.net("alice") == 100
        assert await again.rest() == []


@pytest.mark.parametrize("fails_at", [0, 1, 2, 3, 4, 5, 6, 7])
@simulated
async def test_a_start_that_fails_half_way_posts_what_is_owed_once(fails_at: int) -> None:
    """Each look into the ledger takes its time, and one of them fails."""
    node = node_on_cluster(spool=1000)
    await killed_between(node)
    await asyncio.sleep(60)
    node.ledger.down = Fault.REFUSED
    async with node_on_cluster(ledger=node.ledger, outbox=node.outbox, spool=1000) as again:
        looks = 0

        def slow(look: Any) -> Any:
            async def looked(*arguments: Any) -> Any:
                nonlocal looks
                looks += 1
                await asyncio.sleep(0.01)
                if looks == fails_at:
                    raise LedgerUnavailableError("once")
                return await look(*arguments)

            return looked

        for name in ("lookup_accounts", "lookup_transfers", "recent_transfers"):
            setattr(again.ledger, name, slow(getattr(again.ledger, name)))
        await asyncio.sleep(1)
        assert again.net("alice") == 0
        node.ledger.down = None
        await asyncio.sleep(10)
        assert looks > 6
        assert again.net("alice") == 100
        assert again.manager.peers["alice"].peer.debits_pending == 0
        assert posts(again) == 1
        for name in ("lookup_accounts", "lookup_transfers", "recent_transfers"):
            delattr(again.ledger, name)
        assert await again.rest() == []


@simulated
async def test_between_accounts_that_are_gone_an_operator_is_told() -> None:
    node = AccountingNode()
    await killed_between(node)
    again = await AccountingNode([ALICE, CAROL], ledger=node.ledger, outbox=node.outbox).open()
    assert again.alerts == ["fulfilment_not_booked"]


@simulated
async def test_the_fulfill_of_a_posted_packet_is_read_when_it_is_asked_for() -> None:
    async with AccountingNode() as node:
        await pay_and_keep(node, "a", sender_id=11)
        await node.pay("b", sender_id=12)
    async with AccountingNode(ledger=node.ledger, outbox=node.outbox) as again:
        one = again.manager.find_recovered("alice", 11)
        assert one is not None
        assert one.may_be_kept
        again.outbox.error = LedgerUnavailableError("unreadable")
        asked = [("alice", 11), ("alice", 12), ("alice", 13)]
        # Any answer to these could be wrong; of the third one nothing is known to anybody.
        assert list(await again.manager.find_former(asked)) == [("alice", 13)]
        again.outbox.error = None
        assert list(await again.manager.find_former(asked)) == asked
        found, other = taken(again, 11), taken(again, 12)
        assert found is not None
        assert other is not None
        assert (found.fulfill, other.fulfill) == (FULFILL, b"")
        assert found.reservation.posted
        assert not found.may_be_kept
        assert not other.may_be_kept


@simulated
async def test_a_process_that_has_forgotten_its_answers_finds_them() -> None:
    async with node_on_cluster() as node:
        await pay_and_keep(node, "a", sender_id=11)
        # Its post goes with the next request: until then the ledger cannot tell.
        assert list(await node.manager.find_former([("alice", 11)])) == []
        await node.idle()
        assert list(await node.manager.find_former([("alice", 11)])) == [("alice", 11)]
        found = taken(node, 11)
        assert found is not None
        assert found.fulfill == FULFILL


@simulated
async def test_fulfilments_are_kept_until_their_packets_cannot_be_asked_for() -> None:
    async with AccountingNode() as node:
        await pay_and_keep(node, "a")
        await asyncio.sleep((HOLD_MS + 2 * limits.CLOCK_ERROR_MS) / 1000 - 1)
        await node.manager.maintain_outbox()
        assert node.outbox.fulfilments
        await asyncio.sleep(2)
        node.outbox.error = OSError("disk full")
        await node.manager.maintain_outbox()
        assert node.alerts == ["outbox_failed", "outbox_failed"]
        node.outbox.error = None
        await node.manager.maintain_outbox()
        assert not node.outbox.fulfilments


@pytest.mark.interpreted
@simulated
async def test_room_for_fulfilments_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "FULFILMENTS_BYTES_MAX", 256)
    async with AccountingNode() as node:
        assert node.manager.can_keep
        await pay_and_keep(node, "a")
        assert node.manager.can_keep
        await pay_and_keep(node, "b")
        assert not node.manager.can_keep
        # What is under way finds room all the same.
        await pay_and_keep(node, "c")
        assert len(node.outbox.fulfilments) == 3


# --- beside the posts, where the ledger can do that


def keeping_bank(**options: Any) -> AccountingNode:
    node = AccountingNode(**options)
    if node.ledger.fulfilments is None:
        node.ledger.keep_beside()
        node = AccountingNode(ledger=node.ledger, outbox=node.outbox)
    return node


def beside(node: AccountingNode) -> dict[int, Kept]:
    assert node.ledger.fulfilments is not None
    return node.ledger.fulfilments.rows


@simulated
async def test_a_fulfilment_goes_into_the_request_of_its_post() -> None:
    async with keeping_bank() as node:
        reservation = await node.hold("a", sender_id=11)
        node.outbox.error = OSError("not to be used")
        node.ledger.latency_s = 0.05
        keep_and_post(node, "a", reservation)
        await asyncio.sleep(0.01)
        assert not beside(node)
        assert await node.outcome("a", other_than=Outcome.HELD) is Outcome.POSTED
        assert beside(node)[reservation.packet_id].octets == FULFILL
        assert posts(node) == 1
        assert node.alerts == []
        assert list(await node.manager.find_former([("alice", 11)])) == [("alice", 11)]
        assert not node.outbox.fulfilments


@pytest.mark.parametrize("acknowledged", [False, True])
@pytest.mark.parametrize("carried_out", [False, True])
@simulated
async def test_a_fulfilment_beside_is_there_whenever_its_post_is(
    carried_out: bool, acknowledged: bool
) -> None:
    """The node dies before the request with both, after it, or after its acknowledgement."""
    async with keeping_bank() as node:
        reservation = await node.hold("a", sender_id=11)
        node.ledger.latency_s = 0.02
        keep_and_post(node, "a", reservation)
        if acknowledged:
            await node.outcome("a", other_than=Outcome.HELD)
        else:
            await asyncio.sleep(0.015 if carried_out else 0.005)
    carried_out |= acknowledged
    node.ledger.latency_s = 0.0
    again = await keeping_bank(ledger=node.ledger, outbox=node.outbox).open()
    assert again.net("alice") == (100 if carried_out else 0)
    assert bool(beside(again)) == carried_out
    assert list(await again.manager.find_former([("alice", 11)])) == [("alice", 11)]
    found = taken(again, 11)
    assert found is not None
    assert found.reservation.posted == carried_out
    assert found.fulfill == (FULFILL if carried_out else b"")


@simulated
async def test_what_was_refused_beside_its_fulfilment_is_booked_at_the_next_start() -> None:
    """The hold had expired; the node died before the correction."""
    async with keeping_bank() as node:
        reservation = await expired(node, sender_id=11)
        node.ledger.next_faults = [None, Fault.REFUSED]
        node.ledger.down = Fault.REFUSED
        keep_and_post(node, "late", reservation)
        while not beside(node):
            await asyncio.sleep(0)
    node.ledger.down = None
    node.ledger.next_faults = []
    async with keeping_bank(ledger=node.ledger, outbox=node.outbox) as again:
        await again.idle()
        assert again.alerts == ["accounting_correction"]
        assert again.net("alice") == 100
        found = taken(again, 11)
        assert found is not None
        assert found.fulfill == FULFILL


@simulated
async def test_a_request_that_is_sent_again_brings_its_fulfilments_again() -> None:
    async with keeping_bank() as node:
        reservation = await node.hold("a")
        node.ledger.next_faults = [Fault.REFUSED]
        keep_and_post(node, "a", reservation)
        assert await node.outcome("a", other_than=Outcome.HELD) in (
            Outcome.POSTED,
            Outcome.RELEASED,
        )
        await node.idle()
        kept = beside(node).get(reservation.packet_id) or node.outbox.fulfilments.get(
            reservation.packet_id
        )
        assert kept is not None
        assert kept.octets == FULFILL


@simulated
async def test_a_post_that_goes_into_the_outbox_takes_its_fulfilment_along() -> None:
    async with keeping_bank() as node:
        reservation = await node.hold("a", sender_id=11)
        node.ledger.gate.clear()
        keep_and_post(node, "a", reservation)
        assert await node.outcome("a", other_than=Outcome.HELD) is Outcome.RELEASED
        assert node.outbox.transfers == 1
        assert node.outbox.fulfilments[reservation.packet_id].octets == FULFILL
        assert not beside(node)
    # Dead before the ledger answered.
    node.ledger.gate.set()
    async with keeping_bank(ledger=node.ledger, outbox=node.outbox) as again:
        await again.idle()
        assert again.net("alice") == 100
        assert list(await again.manager.find_former([("alice", 11)])) == [("alice", 11)]
        found = taken(again, 11)
        assert found is not None
        assert found.fulfill == FULFILL
        assert await again.rest() == []


@simulated
async def test_a_post_waits_for_an_outbox_that_does_not_take_its_fulfilment() -> None:
    """Until shortly before the sender's last moment; a post without a fulfilment does not wait."""
    async with keeping_bank() as node:
        reservation = await node.hold("a")
        other = await node.hold("b")
        node.ledger.gate.clear()

        async def refused(_rows: Any) -> None:
            raise LedgerUnavailableError("no room")

        node.outbox.keep = refused  # type: ignore[method-assign]
        began_ms = node.clock.now_ms()
        keep_and_post(node, "a", reservation, left_ms=5000)
        node.post("b", other)
        assert await node.outcome("b", other_than=Outcome.HELD) is Outcome.RELEASED
        assert node.outbox.transfers == 1
        assert node.clock.now_ms() - began_ms < 1000
        assert await node.outcome("a", other_than=Outcome.HELD) is Outcome.RELEASED
        assert node.outbox.transfers == 2
        waited_ms = node.clock.now_ms() - began_ms
        assert 4000 <= waited_ms < 5000 - bounds.POST_EXPIRY_MARGIN_MS
        node.ledger.gate.set()
        await node.idle()
        assert node.alerts == ["outbox_failed", "fulfilments_not_kept"]
        # The ledger has taken it after all.
        assert beside(node)[reservation.packet_id].octets == FULFILL


@pytest.mark.interpreted
@simulated
async def test_both_stores_are_looked_at_counted_and_cleared(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The outbox may have some from when another ledger, or another version, was used."""
    monkeypatch.setattr(bounds, "FULFILMENTS_BYTES_MAX", 256)
    async with AccountingNode() as node:
        await pay_and_keep(node, "a", sender_id=11)
    async with keeping_bank(ledger=node.ledger, outbox=node.outbox) as again:
        assert again.manager.can_keep
        await pay_and_keep(again, "b", sender_id=12)
        assert not again.manager.can_keep
        assert len(again.outbox.fulfilments) == len(beside(again)) == 1
        asked = [("alice", 11), ("alice", 12)]
        assert list(await again.manager.find_former(asked)) == asked
        for sender_id in (11, 12):
            found = taken(again, sender_id)
            assert found is not None
            assert found.fulfill == FULFILL
        await asyncio.sleep((HOLD_MS + 2 * limits.CLOCK_ERROR_MS) / 1000 + 1)
        await again.manager.maintain_outbox()
        assert not again.outbox.fulfilments
        assert not beside(again)
        assert again.manager.can_keep


@simulated
async def test_a_ledger_that_forgets_its_books_keeps_no_fulfilments() -> None:
    node = AccountingNode()
    node.ledger.keeps_books = False
    async with AccountingNode(ledger=node.ledger) as node:
        await pay_and_keep(node, "a")
        assert not node.outbox.fulfilments
        assert node.manager.can_keep
