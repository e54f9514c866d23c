"""Fulfills that could be fetched again, relayed when they are on disk (`FULFILL_WHEN=durable`)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from connector.accounting import bounds
from connector.accounting.promises import Outcome, Reservation
from connector.base import limits
from connector.base.errors import LedgerUnavailableError
from connector.ledger.model import PENDING, PHASE_RESOLVE, POST, VOID
from tests.support.accounting_node import HOLD_MS, AccountingNode, node_on_cluster, taken
from tests.support.accounts import Fault
from tests.support.clocks import simulated

FULFILL = b"\x0d\x21" + b"p" * 32 + b"\x00"
LATE_MS = bounds.FULFILMENT_EARLY_MS + 20
"""When a Fulfill that the disk does not take goes through the ledger, at the latest: with a tick."""


def early_node(**options: Any) -> AccountingNode:
    return node_on_cluster(early=True, **options)


def post(
    node: AccountingNode, token: object, reservation: Reservation, *, left_ms: int = HOLD_MS
) -> None:
    node.manager.post(token, reservation, node.clock.now_ms() + left_ms, FULFILL)


async def told(node: AccountingNode, token: object) -> Outcome:
    """The outcome of a post."""
    return await node.outcome(token, other_than=Outcome.HELD)


def requests_with(node: AccountingNode, flag: int) -> list[int]:
    """The numbers of the requests that have such transfers."""
    return [
        number
        for number, request in enumerate(node.ledger.requests)
        if any(one.flags & flag for one in request)
    ]


@simulated
async def test_a_fulfill_is_relayed_when_it_is_on_disk_and_its_post_follows_within_a_tick() -> None:
    async with early_node() as node:
        reservation = await node.hold("a")
        node.outbox.latency_s = 0.005
        began_ms = node.clock.now_ms()
        post(node, "a", reservation)
        assert await told(node, "a") is Outcome.RELEASED
        assert node.clock.now_ms() - began_ms == 5
        assert node.outbox.fulfilments[reservation.packet_id].octets == FULFILL
        assert not requests_with(node, POST)
        await asyncio.sleep(0.021)
        assert reservation.posted
        assert len(requests_with(node, POST)) == 1
        assert (node.manager.counters.relayed, node.manager.counters.corrections) == (1, 0)
        assert node.alerts == []
        assert await node.rest() == []


@simulated
async def test_a_post_that_nobody_waits_for_goes_with_the_next_hold_and_before_it() -> None:
    async with early_node() as node:
        first = await node.hold("a")
        post(node, "a", first)
        assert await told(node, "a") is Outcome.RELEASED
        await node.hold("b")
        assert first.posted
        assert [one.flags for one in node.ledger.requests[-1]] == [POST, PENDING]


@simulated
async def test_a_post_that_somebody_waits_for_takes_those_along_that_nobody_waits_for() -> None:
    async with early_node() as node:
        first, second = await node.hold("a"), await node.hold("b")
        post(node, "a", first)
        assert await told(node, "a") is Outcome.RELEASED
        node.post("b", second)
        assert await told(node, "b") is Outcome.POSTED
        assert first.posted
        assert [one.flags for one in node.ledger.requests[-1]] == [POST, POST]


@simulated
async def test_a_node_that_stops_books_what_it_has_relayed() -> None:
    node = early_node()
    await node.__aenter__()
    reservation = await node.hold("a")
    post(node, "a", reservation)
    assert await told(node, "a") is Outcome.RELEASED
    assert not reservation.posted
    await node.stop()
    assert reservation.posted


@simulated
async def test_what_was_relayed_before_a_crash_is_posted_by_the_next_process() -> None:
    async with early_node() as node:
        reservation = await node.hold("a", sender_id=11)
        post(node, "a", reservation)
        assert await told(node, "a") is Outcome.RELEASED
    assert not requests_with(node, POST)
    async with early_node(ledger=node.ledger, outbox=node.outbox) as again:
        found = taken(again, 11)
        assert found is not None
        assert found.fulfill == FULFILL
        await again.idle()
        assert again.net("alice") == 100
        assert again.manager.counters.corrections == 0
        assert again.alerts == []
        assert await again.rest() == []


@simulated
async def test_what_was_relayed_before_a_long_downtime_is_booked_by_a_correction() -> None:
    async with early_node() as node:
        reservation = await node.hold("a", sender_id=11)
        post(node, "a", reservation)
        assert await told(node, "a") is Outcome.RELEASED
    await asyncio.sleep(3600)
    async with early_node(ledger=node.ledger, outbox=node.outbox) as again:
        await again.idle()
        assert again.net("alice") == 100
        assert again.alerts == ["accounting_correction"]
        assert await again.rest() == []


@simulated
async def test_a_ledger_that_goes_away_after_the_relay_gets_the_post_later() -> None:
    """Within the hold, and with its grace: so it is a post, no correction."""
    async with early_node(spool=1000) as node:
        reservation = await node.hold("a")
        node.ledger.down = Fault.REFUSED
        post(node, "a", reservation)
        assert await told(node, "a") is Outcome.RELEASED
        await asyncio.sleep(1)
        assert node.outbox.ids == [reservation.packet_id | PHASE_RESOLVE]
        await asyncio.sleep(HOLD_MS / 1000)
        node.ledger.down = None
        await node.idle()
        assert not node.outbox.ids
        assert [one.flags for one in node.ledger.requests[-1]] == [POST]
        assert node.net("alice") == 100
        assert node.manager.counters.corrections == 0
        assert node.alerts == []
        assert await node.rest() == []


@simulated
async def test_a_disk_that_takes_long_holds_nothing_up_and_is_left_alone_for_a_while() -> None:
    async with early_node() as node:
        node.outbox.latency_s = 0.3
        first, second, third = [await node.hold(token) for token in "abc"]
        began_ms = node.clock.now_ms()
        post(node, "a", first)
        assert await told(node, "a") is Outcome.POSTED
        assert node.clock.now_ms() - began_ms <= LATE_MS
        began_ms = node.clock.now_ms()
        post(node, "b", second)
        assert await told(node, "b") is Outcome.POSTED
        assert node.clock.now_ms() == began_ms
        node.outbox.latency_s = 0.0
        await asyncio.sleep(bounds.FULFILMENT_NOT_EARLY_MS / 1000 + 0.1)
        post(node, "c", third)
        assert await told(node, "c") is Outcome.RELEASED
        assert node.manager.can_keep
        assert node.alerts == []
        assert await node.rest() == []


@simulated
async def test_a_disk_that_fails_holds_nothing_up_and_refuses_no_packet() -> None:
    async with early_node() as node:
        first, second = await node.hold("a"), await node.hold("b")
        node.outbox.error = OSError("no space left")
        post(node, "a", first)
        assert await told(node, "a") is Outcome.POSTED
        post(node, "b", second)
        assert await told(node, "b") is Outcome.POSTED
        # Whether one that has to be kept can be, nobody has tried.
        assert node.manager.can_keep
        assert node.alerts == ["outbox_failed"]
        node.outbox.error = None
        assert await node.rest() == []


@simulated
async def test_a_failed_write_keeps_on_trying_for_those_that_have_to_be_kept() -> None:
    async with early_node() as node:
        needed, other = await node.hold("needed"), await node.hold("other")
        node.outbox.error = OSError("no space left")
        node.manager.keep_and_post("needed", needed, node.clock.now_ms() + HOLD_MS, FULFILL)
        post(node, "other", other)
        assert await told(node, "other") is Outcome.POSTED
        assert not node.manager.can_keep
        assert node.outcomes["needed"] is Outcome.HELD
        node.outbox.error = None
        assert await told(node, "needed") is Outcome.RELEASED
        assert list(node.outbox.fulfilments) == [needed.packet_id]
        assert node.manager.can_keep
        assert await node.rest() == []


async def _watched(node: AccountingNode) -> None:
    node.manager._lease.is_watched = True


async def _silent(node: AccountingNode) -> None:
    """The ledger has stalled."""
    node.ledger.down = Fault.REFUSED
    node.reserve("other")
    await asyncio.sleep(0.1)
    node.ledger.down = None


@pytest.mark.interpreted
@simulated
@pytest.mark.parametrize("state", [_watched, _silent])
async def test_it_is_relayed_when_it_is_booked_where_another_rule_holds(state: Any) -> None:
    async with early_node() as node:
        reservation = await node.hold("a")
        await state(node)
        post(node, "a", reservation)
        assert await told(node, "a") in (Outcome.POSTED, Outcome.RELEASED)
        assert node.manager.counters.relayed == 0
        assert not node.outbox.fulfilments
        await asyncio.sleep(3)
        assert reservation.posted
        assert await node.rest() == []


@simulated
@pytest.mark.parametrize(
    "left_ms",
    [0, bounds.FULFILMENT_EARLY_MS + bounds.POST_EXPIRY_MARGIN_MS + bounds.FULFILMENT_POST_MS - 1],
)
async def test_one_with_little_time_left_does_not_wait_for_the_disk(left_ms: int) -> None:
    async with early_node() as node:
        reservation = await node.hold("a")
        post(node, "a", reservation, left_ms=left_ms)
        await told(node, "a")
        assert node.manager.counters.relayed == 0
        assert not node.outbox.fulfilments
        await node.idle()
        assert reservation.posted


@pytest.mark.interpreted
@simulated
async def test_half_of_the_room_is_left_for_those_that_have_to_be_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with early_node() as node:
        first, second = await node.hold("a"), await node.hold("b")
        post(node, "a", first)
        assert await told(node, "a") is Outcome.RELEASED
        monkeypatch.setattr(bounds, "FULFILMENTS_BYTES_MAX", 2 * node.outbox.kept_bytes)
        post(node, "b", second)
        assert await told(node, "b") is Outcome.POSTED
        assert node.manager.can_keep


@simulated
async def test_a_row_goes_when_its_post_is_booked_and_not_before() -> None:
    async with early_node() as node:
        reservation = await node.hold("a")
        post(node, "a", reservation)
        assert await told(node, "a") is Outcome.RELEASED
        # Neither the ledger nor the disk takes the post.
        node.ledger.down = Fault.REFUSED
        node.outbox.error = LedgerUnavailableError("no space left")
        for _ in range(5):
            await asyncio.sleep(bounds.FULFILMENT_EARLY_KEPT_MS / 1000)
            await node.manager.maintain_outbox()
            assert list(node.outbox.fulfilments) == [reservation.packet_id]
        node.ledger.down = node.outbox.error = None
        await asyncio.sleep(3)
        assert reservation.posted
        await node.manager.maintain_outbox()
        assert not node.outbox.fulfilments
        assert await node.rest() == []


@simulated
async def test_a_row_that_is_being_written_is_not_forgotten_meanwhile() -> None:
    """The process stood still: its time was over before it was written."""
    async with early_node() as node:
        reservation = await node.hold("a")
        node.manager.keep_and_post("a", reservation, node.clock.now_ms(), FULFILL)
        node.outbox.latency_s = 0.01
        await asyncio.sleep(0)
        forgotten: list[int] = []

        async def forget(now_ms: int) -> bool:
            forgotten.append(now_ms)
            return False

        node.outbox.forget_kept = forget  # type: ignore[method-assign]
        reservation.keep_until_ms = node.clock.now_ms()
        await node.manager.maintain_outbox()
        assert not forgotten


@simulated
async def test_answers_of_a_next_hop_that_is_removed_are_kept_though_their_posts_are_on_the_way() -> (
    None
):
    async with early_node() as node:
        reservation = await node.hold("a", sender_id=11)
        post(node, "a", reservation)
        assert await told(node, "a") is Outcome.RELEASED
        assert not reservation.posted
        assert await node.manager.keep_answers("bob", lambda _source, _id: FULFILL) == 1
        kept = node.outbox.fulfilments[reservation.packet_id]
        assert kept.keep_until_ms >= node.clock.now_ms() + limits.EXPIRY_MS_MAX


@simulated
async def test_a_void_does_not_wait_for_the_tick() -> None:
    async with early_node() as node:
        first, second = await node.hold("a"), await node.hold("b")
        post(node, "a", first)
        assert await told(node, "a") is Outcome.RELEASED
        node.manager.void(second)
        await asyncio.sleep(0.001)
        assert len(requests_with(node, VOID)) == 1
        assert first.posted


@simulated
async def test_a_ledger_that_keeps_fulfilments_itself_keeps_none_for_this() -> None:
    node = AccountingNode()
    node.ledger.keep_beside()
    async with AccountingNode(ledger=node.ledger, early=True) as beside:
        reservation = await beside.hold("a")
        post(beside, "a", reservation)
        assert await told(beside, "a") is Outcome.POSTED
        assert not beside.outbox.fulfilments


@simulated
async def test_a_disk_that_is_new_to_a_node_which_is_not_is_not_relied_on() -> None:
    """Its DATA_DIR was lost, or is elsewhere: this one may be lost as well."""
    async with early_node() as node:
        await node.hold("a")
    async with early_node(ledger=node.ledger) as other:
        reservation = await other.hold("b")
        post(other, "b", reservation)
        assert await told(other, "b") is Outcome.POSTED
        assert not other.outbox.fulfilments
        assert other.alerts == ["outbox_is_new"]
    async with early_node(ledger=node.ledger, outbox=other.outbox) as again:
        reservation = await again.hold("c")
        post(again, "c", reservation)
        assert await told(again, "c") is Outcome.RELEASED


@simulated
@pytest.mark.parametrize("spool", [0, 1000])
async def test_the_same_where_the_ledger_was_away_at_the_start(spool: int) -> None:
    async with early_node() as node:
        await node.hold("a")
    node.ledger.down, node.ledger.is_open = Fault.REFUSED, False
    async with early_node(ledger=node.ledger, spool=spool) as other:
        await asyncio.sleep(1)
        node.ledger.down = None
        while other.manager.state_reason:
            await asyncio.sleep(0.1)
        reservation = await other.hold("b")
        post(other, "b", reservation)
        assert await told(other, "b") is Outcome.POSTED
        assert not other.outbox.fulfilments


@simulated
async def test_in_a_crowd_fulfills_are_relayed_when_they_are_booked() -> None:
    """What packets wait for is CPU then, and a write takes some."""
    count = bounds.LEDGER_CROWD + 1
    async with early_node() as node:
        first, second = await node.hold("a"), await node.hold("b")
        node.ledger.latency_s = 0.01
        for number in range(count):
            assert isinstance(node.reserve(number, 1), Reservation)
        await asyncio.sleep(0.001)
        assert node.manager._writer.in_request == count
        post(node, "a", first)
        assert await told(node, "a") is Outcome.POSTED
        await node.idle()
        post(node, "b", second)
        assert await told(node, "b") is Outcome.RELEASED
