"""The outbox in use: posts that must not wait, and requests while the ledger is away."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from connector.accounting import bounds
from connector.accounting.manager import State
from connector.accounting.promises import Outcome, Reservation
from connector.base.errors import (
    LedgerUnavailableError,
)
from connector.ledger.model import (
    PHASE_RESOLVE,
    Transfer,
)
from tests.support.accounting_node import ALICE, BOB, CAROL, HOLD_MS, WE, AccountingNode
from tests.support.accounts import Fault, books_at_rest
from tests.support.clocks import simulated

# --- posts that must not wait


@pytest.mark.parametrize(
    ("left_ms", "released_ms"), [(HOLD_MS, 250), (451, 250), (449, 249), (400, 200), (150, 0)]
)
@simulated
async def test_a_fulfill_waits_for_the_ledger_only_so_long(left_ms: int, released_ms: int) -> None:
    async with AccountingNode() as node:
        reservation = await node.hold("a")
        node.ledger.gate.clear()
        began_ms = node.clock.now_ms()
        node.post("a", reservation, left_ms=left_ms)
        assert await node.outcome("a", other_than=Outcome.HELD) is Outcome.RELEASED
        assert released_ms <= node.clock.now_ms() - began_ms <= released_ms + 20
        assert node.outbox.ids == [reservation.packet_id | PHASE_RESOLVE]
        assert node.manager.counters.released == 1
        assert node.alerts == []

        node.ledger.gate.set()
        await node.idle()
        assert node.outbox.requests == {}
        assert node.net("alice") == 100
        assert await node.rest() == []


DISK_FAULTS = [OSError("disk full"), LedgerUnavailableError("x"), None]


@pytest.mark.parametrize("error", DISK_FAULTS)
@pytest.mark.parametrize("left_ms", [HOLD_MS, 2000, 301])
@simulated
async def test_a_fulfill_is_held_back_until_the_last_moment_while_its_post_is_not_durable(
    error: Exception | None, left_ms: int
) -> None:
    """Beyond that, keeping it back would turn the risk of a loss into the loss."""
    async with AccountingNode() as node:
        reservation = await node.hold("a")
        node.ledger.gate.clear()
        node.outbox.error = error
        node.outbox.latency_s = 0.0 if error else 60.0
        began_ms = node.clock.now_ms()
        node.post("a", reservation, left_ms=left_ms)
        assert await node.outcome("a", other_than=Outcome.HELD) is Outcome.RELEASED
        latest_ms = left_ms - bounds.POST_EXPIRY_MARGIN_MS
        assert latest_ms <= node.clock.now_ms() - began_ms <= latest_ms + 20
        await asyncio.sleep(0.1)
        told = ["outbox_failed"] if error else []
        assert node.alerts == [*told, "posts_not_durable"]
        node.outbox.error, node.outbox.latency_s = None, 0.0
        node.ledger.gate.set()
        await node.idle()
        assert node.net("alice") == 100
        assert await node.rest() == []


@pytest.mark.parametrize("left_ms", [100, 50, -5])
@simulated
async def test_a_fulfill_whose_last_moment_has_passed_is_let_go_at_once(left_ms: int) -> None:
    async with AccountingNode() as node:
        reservation = await node.hold("a")
        node.ledger.gate.clear()
        began_ms = node.clock.now_ms()
        node.post("a", reservation, left_ms=left_ms)
        assert await node.outcome("a", other_than=Outcome.HELD) is Outcome.RELEASED
        assert node.clock.now_ms() - began_ms <= 20
        await asyncio.sleep(0.1)
        assert node.alerts == ["posts_not_durable"]
        # Put there all the same: the node may be killed before the ledger answers.
        assert node.outbox.ids == [reservation.packet_id | PHASE_RESOLVE]


@simulated
async def test_a_post_goes_into_the_outbox_as_soon_as_the_disk_takes_it() -> None:
    async with AccountingNode() as node:
        held = [await node.hold(number, 10) for number in range(3)]
        node.ledger.gate.clear()
        node.outbox.error = OSError("disk full")
        for number, reservation in enumerate(held):
            node.post(number, reservation)
        await asyncio.sleep(5)
        assert set(node.outcomes.values()) == {Outcome.HELD}
        assert node.alerts == ["outbox_failed"]
        node.outbox.error = None
        began_ms = node.clock.now_ms()
        for number in range(3):
            assert await node.outcome(number, other_than=Outcome.HELD) is Outcome.RELEASED
        assert node.clock.now_ms() - began_ms <= bounds.OUTBOX_RETRY_SECONDS * 1000
        assert len(node.outbox.requests) == 1
        assert node.alerts == ["outbox_failed"]


@simulated
async def test_a_fulfill_that_is_held_back_leaves_when_the_ledger_answers() -> None:
    async with AccountingNode() as node:
        reservation = await node.hold("a")
        node.ledger.gate.clear()
        node.outbox.error = OSError("disk full")
        node.post("a", reservation)
        await asyncio.sleep(2)
        assert node.outcomes["a"] is Outcome.HELD
        node.ledger.gate.set()
        assert await node.outcome("a", other_than=Outcome.HELD) is Outcome.POSTED
        node.outbox.error = None
        await asyncio.sleep(2)
        assert node.outbox.requests == {}
        assert node.manager.counters.released == 0
        assert await node.rest() == []


@pytest.mark.parametrize("killed_after_s", [0.3, 0.7, 1.24, 1.4, 3.0])
@simulated
async def test_a_fulfill_that_has_left_is_booked_whenever_the_node_is_killed(
    killed_after_s: float,
) -> None:
    async with AccountingNode() as node:
        reservation = await node.hold("a")
        node.ledger.gate.clear()
        node.outbox.latency_s = 1.0
        node.post("a", reservation)
        await asyncio.sleep(killed_after_s)
        has_left = node.outcomes["a"] is Outcome.RELEASED
        assert has_left is (killed_after_s > 1.3)
    node.ledger.gate.set()
    again = await AccountingNode(ledger=node.ledger, outbox=node.outbox).open()
    assert again.net("alice") >= 100 * has_left


@pytest.mark.interpreted
@simulated
async def test_posts_that_are_not_durable_are_told_ten_seconds_apart_with_their_number() -> None:
    async with AccountingNode() as node:
        fields: list[dict[str, object]] = []
        reports = node.manager._reports
        held = [await node.hold(number, 10) for number in range(30)]
        node.ledger.gate.clear()
        node.outbox.latency_s = 600.0
        alert = reports.alert
        reports.alert = lambda event, more: (alert(event, more), fields.append(more))  # type: ignore[misc, func-returns-value]
        for number, reservation in enumerate(held):
            node.post(number, reservation, left_ms=200)
            await asyncio.sleep(0.5)
        await asyncio.sleep(10)
        assert node.alerts == ["posts_not_durable"] * 3
        assert sum(int(str(one["packets"])) for one in fields) == 30
        assert {one["error"] for one in fields} == {"the disk is too slow"}


@simulated
async def test_a_post_that_is_booked_while_it_goes_into_the_outbox_does_not_stay_there() -> None:
    async with AccountingNode() as node:
        node.outbox.latency_s = 0.05
        reservation = await node.hold("a")
        node.ledger.gate.clear()
        node.post("a", reservation)
        await asyncio.sleep(0.27)
        node.ledger.gate.set()
        assert await node.outcome("a", other_than=Outcome.HELD) is Outcome.POSTED
        await node.idle()
        assert node.outbox.requests == {}
        assert node.manager.counters.released == 0


@simulated
async def test_a_post_that_is_booked_before_it_gets_to_the_outbox_never_enters_it() -> None:
    async with AccountingNode() as node:
        reservation = await node.hold("a")
        node.ledger.gate.clear()
        node.post("a", reservation)
        async with node.manager._spool.writing:
            await asyncio.sleep(0.3)
            assert node.manager._promises.has_overdue
            node.ledger.gate.set()
            assert await node.outcome("a", other_than=Outcome.HELD) is Outcome.POSTED
            node.outbox.error = OSError("must not be used")
        await asyncio.sleep(1)
        assert node.alerts == []


@simulated
async def test_a_booked_post_that_cannot_be_removed_from_the_outbox_is_harmless() -> None:
    async with AccountingNode() as node:
        reservation = await node.hold("a")
        node.ledger.gate.clear()
        node.post("a", reservation)
        await node.outcome("a", other_than=Outcome.HELD)
        node.outbox.error = OSError("disk full")
        node.ledger.gate.set()
        await node.idle()
        assert node.alerts == ["outbox_failed"]
        assert node.outbox.transfers == 1
        node.outbox.error = None
    again = await AccountingNode(ledger=node.ledger, outbox=node.outbox).open()
    assert again.outbox.requests == {}
    assert again.alerts == []
    assert again.net("alice") == 100


@simulated
async def test_other_requests_do_not_clear_the_outbox_of_what_is_not_booked() -> None:
    async with AccountingNode() as node:
        late = await node.hold("late")
        node.ledger.gate.clear()
        node.reserve("a", 1)
        await asyncio.sleep(0)  # a request is out, the post will be in the next
        node.post("late", late)
        await node.outcome("late", other_than=Outcome.HELD)
        node.ledger.next_faults = [Fault.REFUSED]
        node.ledger.gate.set()
        await node.outcome("a")
        assert node.outbox.transfers == 1
        await node.idle()
        assert node.outbox.requests == {}


# --- spooling


@pytest.mark.parametrize("fault", list(Fault))
@pytest.mark.parametrize("fee", [0, 3])
@simulated
async def test_while_the_ledger_is_away_packets_go_on_and_are_booked_later(
    fault: Fault, fee: int
) -> None:
    async with AccountingNode(spool=1000) as node:
        node.ledger.down = fault
        first = await node.hold("a", fee=fee)
        assert node.states[-1] is State.SPOOLING
        node.post("a", first)
        assert await node.outcome("a", other_than=Outcome.HELD) is Outcome.RELEASED
        second = await node.hold("b", 50, fee=fee)
        node.manager.void(second)
        third = await node.hold("c", 7)
        await asyncio.sleep(1)
        legs = 2 if fee else 1
        assert node.manager.spooled == 2 * legs + 2 * legs + 1
        assert (node.net("alice"), node.net("bob")) == (100, -100 + fee)
        node.ledger.down = None
        await node.idle()
        assert node.states == [State.AVAILABLE, State.SPOOLING, State.AVAILABLE]
        assert node.outbox.requests == {}
        node.post("c", third)
        assert await node.outcome("c", other_than=Outcome.HELD) is Outcome.POSTED
        assert node.alerts == []
        assert await node.rest() == []
        assert (node.net("alice"), node.net("bob")) == (107, -107 + fee)


@simulated
async def test_limits_hold_while_the_ledger_is_away() -> None:
    bob = replace(BOB, max_payable=900)
    async with AccountingNode([ALICE, bob, CAROL], spool=1000) as node:
        await node.pay("before", 300, next_hop=bob)
        node.ledger.down = Fault.REFUSED
        held = await node.hold("a", 400, next_hop=bob)
        assert node.reserve("over", 301, next_hop=CAROL, amount_out=1) is Outcome.NO_CREDIT
        assert node.reserve("payable", 201, next_hop=bob) is Outcome.NO_PAYABLE
        rest = await node.hold("rest", 300, next_hop=CAROL, amount_out=1)
        assert node.reserve("one more", 1, next_hop=CAROL, amount_out=1) is Outcome.NO_CREDIT
        node.manager.void(held)
        again = await node.hold("again", 400, next_hop=CAROL, amount_out=1)
        own = await node.hold("own", 100, source=WE, next_hop=CAROL, amount_out=1)
        node.ledger.down = None
        await node.idle()
        for reservation in (rest, again, own):
            node.manager.void(reservation)
        assert node.alerts == []
        assert await node.rest() == []


@simulated
async def test_what_waited_for_the_ledger_is_held_to_the_limits_too() -> None:
    """The ledger would have refused one of them; it did not get to."""
    async with AccountingNode(spool=1000) as node:
        node.ledger.gate.clear()
        asked = {"a": node.reserve("a", 600)}
        await asyncio.sleep(0)
        asked |= {"b": node.reserve("b", 600), "c": node.reserve("c", 400)}
        node.ledger.next_faults = [Fault.LOST]
        node.ledger.down = Fault.REFUSED
        node.ledger.gate.set()
        # The first in line has the first claim, whether or not the ledger has it already.
        outcomes = {name: await node.outcome(name) for name in "abc"}
        assert outcomes["b"] is Outcome.NO_CREDIT
        assert list(outcomes.values()).count(Outcome.HELD) == 2
        node.ledger.down = None
        await node.idle()
        for name in "ac":
            reservation = asked[name]
            assert isinstance(reservation, Reservation)
            node.manager.void(reservation)
        assert await node.rest() == []


@simulated
async def test_a_full_spool_rejects_and_still_resolves() -> None:
    async with AccountingNode(spool=3) as node:
        node.ledger.down = Fault.REFUSED
        held = [await node.hold(number, 10) for number in range(3)]
        assert node.reserve("over", 1) is Outcome.UNAVAILABLE
        assert node.states[-1] is State.REJECTING
        assert node.manager.state_reason == "the spool is full: 3 transfers"
        node.post(0, held[0])
        node.manager.void(held[1])
        assert await node.outcome(0, other_than=Outcome.HELD) is Outcome.RELEASED
        await asyncio.sleep(0.1)
        assert node.manager.spooled == 5
        node.ledger.down = None
        while node.manager.state is not State.AVAILABLE:
            await asyncio.sleep(0.02)
        node.manager.void(held[2])
        assert node.net("alice") == 10
        assert await node.rest() == []
        assert node.alerts == []


@simulated
async def test_without_an_outbox_there_is_nothing_to_spool_into() -> None:
    async with AccountingNode(spool=1000) as node:
        reservation = await node.hold("a")
        node.ledger.down = Fault.REFUSED
        node.outbox.error = OSError("disk full")
        node.reserve("b")
        assert await node.outcome("b") is Outcome.UNAVAILABLE
        assert node.states[-1] is State.REJECTING
        assert node.manager.state_reason == "disk full"
        assert node.reserve("c") is Outcome.UNAVAILABLE
        node.post("a", reservation)
        assert await node.outcome("a", other_than=Outcome.HELD) is Outcome.RELEASED
        node.outbox.error = None
        while node.manager.state is not State.SPOOLING:
            await asyncio.sleep(0.02)
        node.manager.void(await node.hold("d"))
        node.ledger.down = None
        await node.idle()
        assert node.net("alice") == 100
        assert await node.rest() == []


@simulated
async def test_a_ledger_and_an_outbox_that_fail_together_do_not_flicker() -> None:
    """On a full disk an embedded ledger answers questions, and fails at every write."""
    async with AccountingNode(spool=1000) as node:
        node.outbox.error = OSError("disk full")
        for _ in range(200):
            node.ledger.next_faults = [] if node.manager._availability.is_away else [Fault.REFUSED]
            node.reserve(object(), 1)
            await asyncio.sleep(0.05)
        assert len(node.states) < 25


@simulated
async def test_what_the_ledger_refuses_afterwards_is_booked_all_the_same() -> None:
    """It was promised; that the limits differed meanwhile is the operator's to know."""
    async with AccountingNode(spool=1000) as node:
        node.ledger.down = Fault.REFUSED
        held = await node.hold("a", 800)
        node.post("a", held)
        unused = await node.hold("b", 200)
        node.manager.void(unused)
        await asyncio.sleep(0.1)
        node.ledger.down = None
        alice = node.manager.peers["alice"]
        spent = Transfer(
            id=1 << 90,
            debit_account_id=alice.peer.account_id,
            credit_account_id=alice.settlement.account_id,
            amount=900,
            ledger=alice.peer.ledger,
            code=1,
        )
        await node.ledger.create_transfers([spent])  # another process of the same node
        await node.idle()
        assert node.alerts == [
            "spooled_reservation_refused", "spooled_reservation_refused", "accounting_correction",
        ]  # fmt: skip
        peer = node.ledger.machine.accounts[alice.peer.account_id]
        assert peer.debits_posted == 1700
        assert node.net("alice") == 800


@pytest.mark.long
@simulated
async def test_the_end_of_an_outage_is_reached_under_load() -> None:
    async with AccountingNode(spool=100_000) as node:
        node.ledger.batch_transfers_max = 20
        node.ledger.down = Fault.REFUSED
        node.ledger.latency_s = node.outbox.latency_s = 0.001

        async def traffic() -> None:
            for number in range(3000):
                reservation = node.reserve(number, 1)
                if isinstance(reservation, Reservation):
                    held = await node.outcome(number) is Outcome.HELD
                    if held and number % 2:
                        node.post(number, reservation)
                    elif held:
                        node.manager.void(reservation)
                await asyncio.sleep(0.0005)

        async with asyncio.TaskGroup() as group:
            group.create_task(traffic())
            await asyncio.sleep(1)
            node.ledger.down = None
            began_s = node.clock.monotonic_s()
            while node.manager.state is not State.AVAILABLE:
                await asyncio.sleep(0.01)
            assert node.clock.monotonic_s() - began_s < 2
        await node.idle()
        assert Outcome.UNAVAILABLE not in node.outcomes.values()
        assert await node.rest() == []
        assert node.states == [State.AVAILABLE, State.SPOOLING, State.AVAILABLE]


@simulated
async def test_a_spool_that_is_left_behind_is_booked_at_the_next_start() -> None:
    async with AccountingNode(spool=1000) as node:
        node.ledger.down = Fault.REFUSED
        held = await node.hold("a", 100, fee=3)
        node.post("a", held)
        await node.outcome("a", other_than=Outcome.HELD)
    node.ledger.down = None
    async with AccountingNode(ledger=node.ledger, outbox=node.outbox) as again:
        assert again.outbox.requests == {}
        assert again.net("alice") == 100
        assert await books_at_rest(again.manager) == []


@simulated
async def test_a_limit_cannot_be_changed_while_the_ledger_is_away() -> None:
    async with AccountingNode(spool=1000) as node:
        node.ledger.down = Fault.REFUSED
        await node.hold("a")
        with pytest.raises(LedgerUnavailableError, match="away: refused on purpose"):
            await node.manager.set_credit_limit("alice", 2000)
        assert node.manager.peers["alice"].granted == 1000


@simulated
async def test_an_outbox_that_was_taken_away_is_told() -> None:
    async with AccountingNode(spool=1000) as node:
        await node.manager.maintain_outbox()
        node.outbox.was_removed = True
        await node.manager.maintain_outbox()
        await node.manager.maintain_outbox()
        assert node.alerts == ["outbox_was_removed"]
        node.outbox.error = OSError("it is a folder now")
        await node.manager.maintain_outbox()
        await node.manager.maintain_outbox()
        assert node.alerts == ["outbox_was_removed", "outbox_failed"]


@simulated
async def test_what_could_not_be_taken_out_of_the_outbox_goes_later() -> None:
    async with AccountingNode() as node:
        held = await node.hold("a")
        node.ledger.gate.clear()
        node.post("a", held)
        assert await node.outcome("a", other_than=Outcome.HELD) is Outcome.RELEASED
        node.outbox.error = OSError("disk full")
        node.ledger.gate.set()
        await node.idle()
        assert node.alerts == ["outbox_failed"]
        node.outbox.error = None
        assert node.outbox.transfers == 1
        await node.manager.maintain_outbox()
        assert node.outbox.transfers == 0
        assert await node.rest() == []
