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
from tests.support.accounts import Fault, books_at_rest
from tests.support.bank import (
    ALICE,
    BOB,
    CAROL,
    HOLD_MS,
    WE,
    Bank,
    simulated,
)

# --- posts that must not wait


@pytest.mark.parametrize(
    ("left_ms", "released_ms"), [(HOLD_MS, 250), (451, 250), (449, 249), (400, 200), (150, 0)]
)
@simulated
async def test_a_fulfill_waits_for_the_ledger_only_so_long(left_ms: int, released_ms: int) -> None:
    async with Bank() as bank:
        reservation = await bank.hold("a")
        bank.ledger.gate.clear()
        began_ms = bank.clock.now_ms()
        bank.post("a", reservation, left_ms=left_ms)
        assert await bank.outcome("a", other_than=Outcome.HELD) is Outcome.RELEASED
        assert released_ms <= bank.clock.now_ms() - began_ms <= released_ms + 20
        assert bank.outbox.ids == [reservation.packet_id | PHASE_RESOLVE]
        assert bank.manager.counters.released == 1
        assert bank.alerts == []

        bank.ledger.gate.set()
        await bank.idle()
        assert bank.outbox.requests == {}
        assert bank.net("alice") == 100
        assert await bank.rest() == []


DISK_FAULTS = [OSError("disk full"), LedgerUnavailableError("x"), None]


@pytest.mark.parametrize("error", DISK_FAULTS)
@pytest.mark.parametrize("left_ms", [HOLD_MS, 2000, 301])
@simulated
async def test_a_fulfill_is_held_back_until_the_last_moment_while_its_post_is_not_durable(
    error: Exception | None, left_ms: int
) -> None:
    """Beyond that, keeping it back would turn the risk of a loss into the loss."""
    async with Bank() as bank:
        reservation = await bank.hold("a")
        bank.ledger.gate.clear()
        bank.outbox.error = error
        bank.outbox.latency_s = 0.0 if error else 60.0
        began_ms = bank.clock.now_ms()
        bank.post("a", reservation, left_ms=left_ms)
        assert await bank.outcome("a", other_than=Outcome.HELD) is Outcome.RELEASED
        latest_ms = left_ms - bounds.POST_EXPIRY_MARGIN_MS
        assert latest_ms <= bank.clock.now_ms() - began_ms <= latest_ms + 20
        await asyncio.sleep(0.1)
        told = ["outbox_failed"] if error else []
        assert bank.alerts == [*told, "posts_not_durable"]
        bank.outbox.error, bank.outbox.latency_s = None, 0.0
        bank.ledger.gate.set()
        await bank.idle()
        assert bank.net("alice") == 100
        assert await bank.rest() == []


@pytest.mark.parametrize("left_ms", [100, 50, -5])
@simulated
async def test_a_fulfill_whose_last_moment_has_passed_is_let_go_at_once(left_ms: int) -> None:
    async with Bank() as bank:
        reservation = await bank.hold("a")
        bank.ledger.gate.clear()
        began_ms = bank.clock.now_ms()
        bank.post("a", reservation, left_ms=left_ms)
        assert await bank.outcome("a", other_than=Outcome.HELD) is Outcome.RELEASED
        assert bank.clock.now_ms() - began_ms <= 20
        await asyncio.sleep(0.1)
        assert bank.alerts == ["posts_not_durable"]
        # Put there all the same: the node may be killed before the ledger answers.
        assert bank.outbox.ids == [reservation.packet_id | PHASE_RESOLVE]


@simulated
async def test_a_post_goes_into_the_outbox_as_soon_as_the_disk_takes_it() -> None:
    async with Bank() as bank:
        held = [await bank.hold(number, 10) for number in range(3)]
        bank.ledger.gate.clear()
        bank.outbox.error = OSError("disk full")
        for number, reservation in enumerate(held):
            bank.post(number, reservation)
        await asyncio.sleep(5)
        assert set(bank.outcomes.values()) == {Outcome.HELD}
        assert bank.alerts == ["outbox_failed"]
        bank.outbox.error = None
        began_ms = bank.clock.now_ms()
        for number in range(3):
            assert await bank.outcome(number, other_than=Outcome.HELD) is Outcome.RELEASED
        assert bank.clock.now_ms() - began_ms <= bounds.OUTBOX_RETRY_SECONDS * 1000
        assert len(bank.outbox.requests) == 1
        assert bank.alerts == ["outbox_failed"]


@simulated
async def test_a_fulfill_that_is_held_back_leaves_when_the_ledger_answers() -> None:
    async with Bank() as bank:
        reservation = await bank.hold("a")
        bank.ledger.gate.clear()
        bank.outbox.error = OSError("disk full")
        bank.post("a", reservation)
        await asyncio.sleep(2)
        assert bank.outcomes["a"] is Outcome.HELD
        bank.ledger.gate.set()
        assert await bank.outcome("a", other_than=Outcome.HELD) is Outcome.POSTED
        bank.outbox.error = None
        await asyncio.sleep(2)
        assert bank.outbox.requests == {}
        assert bank.manager.counters.released == 0
        assert await bank.rest() == []


@pytest.mark.parametrize("killed_after_s", [0.3, 0.7, 1.24, 1.4, 3.0])
@simulated
async def test_a_fulfill_that_has_left_is_booked_whenever_the_node_is_killed(
    killed_after_s: float,
) -> None:
    async with Bank() as bank:
        reservation = await bank.hold("a")
        bank.ledger.gate.clear()
        bank.outbox.latency_s = 1.0
        bank.post("a", reservation)
        await asyncio.sleep(killed_after_s)
        has_left = bank.outcomes["a"] is Outcome.RELEASED
        assert has_left is (killed_after_s > 1.3)
    bank.ledger.gate.set()
    again = await Bank(ledger=bank.ledger, outbox=bank.outbox).open()
    assert again.net("alice") >= 100 * has_left


@simulated
async def test_posts_that_are_not_durable_are_told_ten_seconds_apart_with_their_number() -> None:
    async with Bank() as bank:
        fields: list[dict[str, object]] = []
        reports = bank.manager._reports
        held = [await bank.hold(number, 10) for number in range(30)]
        bank.ledger.gate.clear()
        bank.outbox.latency_s = 600.0
        alert = reports.alert
        reports.alert = lambda event, more: (alert(event, more), fields.append(more))  # type: ignore[misc, func-returns-value]
        for number, reservation in enumerate(held):
            bank.post(number, reservation, left_ms=200)
            await asyncio.sleep(0.5)
        await asyncio.sleep(10)
        assert bank.alerts == ["posts_not_durable"] * 3
        assert sum(int(str(one["packets"])) for one in fields) == 30
        assert {one["error"] for one in fields} == {"the disk is too slow"}


@simulated
async def test_a_post_that_is_booked_while_it_goes_into_the_outbox_does_not_stay_there() -> None:
    async with Bank() as bank:
        bank.outbox.latency_s = 0.05
        reservation = await bank.hold("a")
        bank.ledger.gate.clear()
        bank.post("a", reservation)
        await asyncio.sleep(0.27)
        bank.ledger.gate.set()
        assert await bank.outcome("a", other_than=Outcome.HELD) is Outcome.POSTED
        await bank.idle()
        assert bank.outbox.requests == {}
        assert bank.manager.counters.released == 0


@simulated
async def test_a_post_that_is_booked_before_it_gets_to_the_outbox_never_enters_it() -> None:
    async with Bank() as bank:
        reservation = await bank.hold("a")
        bank.ledger.gate.clear()
        bank.post("a", reservation)
        async with bank.manager._spool.writing:
            await asyncio.sleep(0.3)
            assert bank.manager._promises.has_overdue
            bank.ledger.gate.set()
            assert await bank.outcome("a", other_than=Outcome.HELD) is Outcome.POSTED
            bank.outbox.error = OSError("must not be used")
        await asyncio.sleep(1)
        assert bank.alerts == []


@simulated
async def test_a_booked_post_that_cannot_be_removed_from_the_outbox_is_harmless() -> None:
    async with Bank() as bank:
        reservation = await bank.hold("a")
        bank.ledger.gate.clear()
        bank.post("a", reservation)
        await bank.outcome("a", other_than=Outcome.HELD)
        bank.outbox.error = OSError("disk full")
        bank.ledger.gate.set()
        await bank.idle()
        assert bank.alerts == ["outbox_failed"]
        assert bank.outbox.transfers == 1
        bank.outbox.error = None
    again = await Bank(ledger=bank.ledger, outbox=bank.outbox).open()
    assert again.outbox.requests == {}
    assert again.alerts == []
    assert again.net("alice") == 100


@simulated
async def test_other_requests_do_not_clear_the_outbox_of_what_is_not_booked() -> None:
    async with Bank() as bank:
        late = await bank.hold("late")
        bank.ledger.gate.clear()
        bank.reserve("a", 1)
        await asyncio.sleep(0)  # a request is out, the post will be in the next
        bank.post("late", late)
        await bank.outcome("late", other_than=Outcome.HELD)
        bank.ledger.next_faults = [Fault.REFUSED]
        bank.ledger.gate.set()
        await bank.outcome("a")
        assert bank.outbox.transfers == 1
        await bank.idle()
        assert bank.outbox.requests == {}


# --- spooling


@pytest.mark.parametrize("fault", list(Fault))
@pytest.mark.parametrize("fee", [0, 3])
@simulated
async def test_while_the_ledger_is_away_packets_go_on_and_are_booked_later(
    fault: Fault, fee: int
) -> None:
    async with Bank(spool=1000) as bank:
        bank.ledger.down = fault
        first = await bank.hold("a", fee=fee)
        assert bank.states[-1] is State.SPOOLING
        bank.post("a", first)
        assert await bank.outcome("a", other_than=Outcome.HELD) is Outcome.RELEASED
        second = await bank.hold("b", 50, fee=fee)
        bank.manager.void(second)
        third = await bank.hold("c", 7)
        await asyncio.sleep(1)
        legs = 2 if fee else 1
        assert bank.manager.spooled == 2 * legs + 2 * legs + 1
        assert (bank.net("alice"), bank.net("bob")) == (100, -100 + fee)
        bank.ledger.down = None
        await bank.idle()
        assert bank.states == [State.AVAILABLE, State.SPOOLING, State.AVAILABLE]
        assert bank.outbox.requests == {}
        bank.post("c", third)
        assert await bank.outcome("c", other_than=Outcome.HELD) is Outcome.POSTED
        assert bank.alerts == []
        assert await bank.rest() == []
        assert (bank.net("alice"), bank.net("bob")) == (107, -107 + fee)


@simulated
async def test_limits_hold_while_the_ledger_is_away() -> None:
    bob = replace(BOB, max_payable=900)
    async with Bank([ALICE, bob, CAROL], spool=1000) as bank:
        await bank.pay("before", 300, next_hop=bob)
        bank.ledger.down = Fault.REFUSED
        held = await bank.hold("a", 400, next_hop=bob)
        assert bank.reserve("over", 301, next_hop=CAROL, amount_out=1) is Outcome.NO_CREDIT
        assert bank.reserve("payable", 201, next_hop=bob) is Outcome.NO_PAYABLE
        rest = await bank.hold("rest", 300, next_hop=CAROL, amount_out=1)
        assert bank.reserve("one more", 1, next_hop=CAROL, amount_out=1) is Outcome.NO_CREDIT
        bank.manager.void(held)
        again = await bank.hold("again", 400, next_hop=CAROL, amount_out=1)
        own = await bank.hold("own", 100, source=WE, next_hop=CAROL, amount_out=1)
        bank.ledger.down = None
        await bank.idle()
        for reservation in (rest, again, own):
            bank.manager.void(reservation)
        assert bank.alerts == []
        assert await bank.rest() == []


@simulated
async def test_what_waited_for_the_ledger_is_held_to_the_limits_too() -> None:
    """The ledger would have refused one of them; it did not get to."""
    async with Bank(spool=1000) as bank:
        bank.ledger.gate.clear()
        asked = {"a": bank.reserve("a", 600)}
        await asyncio.sleep(0)
        asked |= {"b": bank.reserve("b", 600), "c": bank.reserve("c", 400)}
        bank.ledger.next_faults = [Fault.LOST]
        bank.ledger.down = Fault.REFUSED
        bank.ledger.gate.set()
        # The first in line has the first claim, whether or not the ledger has it already.
        outcomes = {name: await bank.outcome(name) for name in "abc"}
        assert outcomes["b"] is Outcome.NO_CREDIT
        assert list(outcomes.values()).count(Outcome.HELD) == 2
        bank.ledger.down = None
        await bank.idle()
        for name in "ac":
            reservation = asked[name]
            assert isinstance(reservation, Reservation)
            bank.manager.void(reservation)
        assert await bank.rest() == []


@simulated
async def test_a_full_spool_rejects_and_still_resolves() -> None:
    async with Bank(spool=3) as bank:
        bank.ledger.down = Fault.REFUSED
        held = [await bank.hold(number, 10) for number in range(3)]
        assert bank.reserve("over", 1) is Outcome.UNAVAILABLE
        assert bank.states[-1] is State.REJECTING
        assert bank.manager.state_reason == "the spool is full: 3 transfers"
        bank.post(0, held[0])
        bank.manager.void(held[1])
        assert await bank.outcome(0, other_than=Outcome.HELD) is Outcome.RELEASED
        await asyncio.sleep(0.1)
        assert bank.manager.spooled == 5
        bank.ledger.down = None
        while bank.manager.state is not State.AVAILABLE:
            await asyncio.sleep(0.02)
        bank.manager.void(held[2])
        assert bank.net("alice") == 10
        assert await bank.rest() == []
        assert bank.alerts == []


@simulated
async def test_without_an_outbox_there_is_nothing_to_spool_into() -> None:
    async with Bank(spool=1000) as bank:
        reservation = await bank.hold("a")
        bank.ledger.down = Fault.REFUSED
        bank.outbox.error = OSError("disk full")
        bank.reserve("b")
        assert await bank.outcome("b") is Outcome.UNAVAILABLE
        assert bank.states[-1] is State.REJECTING
        assert bank.manager.state_reason == "disk full"
        assert bank.reserve("c") is Outcome.UNAVAILABLE
        bank.post("a", reservation)
        assert await bank.outcome("a", other_than=Outcome.HELD) is Outcome.RELEASED
        bank.outbox.error = None
        while bank.manager.state is not State.SPOOLING:
            await asyncio.sleep(0.02)
        bank.manager.void(await bank.hold("d"))
        bank.ledger.down = None
        await bank.idle()
        assert bank.net("alice") == 100
        assert await bank.rest() == []


@simulated
async def test_a_ledger_and_an_outbox_that_fail_together_do_not_flicker() -> None:
    """On a full disk an embedded ledger answers questions, and fails at every write."""
    async with Bank(spool=1000) as bank:
        bank.outbox.error = OSError("disk full")
        for _ in range(200):
            bank.ledger.next_faults = [] if bank.manager._availability.is_away else [Fault.REFUSED]
            bank.reserve(object(), 1)
            await asyncio.sleep(0.05)
        assert len(bank.states) < 25


@simulated
async def test_what_the_ledger_refuses_afterwards_is_booked_all_the_same() -> None:
    """It was promised; that the limits differed meanwhile is the operator's to know."""
    async with Bank(spool=1000) as bank:
        bank.ledger.down = Fault.REFUSED
        held = await bank.hold("a", 800)
        bank.post("a", held)
        unused = await bank.hold("b", 200)
        bank.manager.void(unused)
        await asyncio.sleep(0.1)
        bank.ledger.down = None
        alice = bank.manager.peers["alice"]
        spent = Transfer(
            id=1 << 90,
            debit_account_id=alice.peer.account_id,
            credit_account_id=alice.settlement.account_id,
            amount=900,
            ledger=alice.peer.ledger,
            code=1,
        )
        await bank.ledger.create_transfers([spent])  # another process of the same node
        await bank.idle()
        assert bank.alerts == [
            "spooled_reservation_refused", "spooled_reservation_refused", "accounting_correction",
        ]  # fmt: skip
        peer = bank.ledger.machine.accounts[alice.peer.account_id]
        assert peer.debits_posted == 1700
        assert bank.net("alice") == 800


@simulated
async def test_the_end_of_an_outage_is_reached_under_load() -> None:
    async with Bank(spool=100_000) as bank:
        bank.ledger.batch_transfers_max = 20
        bank.ledger.down = Fault.REFUSED
        bank.ledger.latency_s = bank.outbox.latency_s = 0.001

        async def traffic() -> None:
            for number in range(3000):
                reservation = bank.reserve(number, 1)
                if isinstance(reservation, Reservation):
                    held = await bank.outcome(number) is Outcome.HELD
                    if held and number % 2:
                        bank.post(number, reservation)
                    elif held:
                        bank.manager.void(reservation)
                await asyncio.sleep(0.0005)

        async with asyncio.TaskGroup() as group:
            group.create_task(traffic())
            await asyncio.sleep(1)
            bank.ledger.down = None
            began_s = bank.clock.monotonic_s()
            while bank.manager.state is not State.AVAILABLE:
                await asyncio.sleep(0.01)
            assert bank.clock.monotonic_s() - began_s < 2
        await bank.idle()
        assert Outcome.UNAVAILABLE not in bank.outcomes.values()
        assert await bank.rest() == []
        assert bank.states == [State.AVAILABLE, State.SPOOLING, State.AVAILABLE]


@simulated
async def test_a_spool_that_is_left_behind_is_booked_at_the_next_start() -> None:
    async with Bank(spool=1000) as bank:
        bank.ledger.down = Fault.REFUSED
        held = await bank.hold("a", 100, fee=3)
        bank.post("a", held)
        await bank.outcome("a", other_than=Outcome.HELD)
    bank.ledger.down = None
    async with Bank(ledger=bank.ledger, outbox=bank.outbox) as again:
        assert again.outbox.requests == {}
        assert again.net("alice") == 100
        assert await books_at_rest(again.manager) == []


@simulated
async def test_a_limit_cannot_be_changed_while_the_ledger_is_away() -> None:
    async with Bank(spool=1000) as bank:
        bank.ledger.down = Fault.REFUSED
        await bank.hold("a")
        with pytest.raises(LedgerUnavailableError, match="away: refused on purpose"):
            await bank.manager.set_credit_limit("alice", 2000)
        assert bank.manager.peers["alice"].granted == 1000


@simulated
async def test_an_outbox_that_was_taken_away_is_told() -> None:
    async with Bank(spool=1000) as bank:
        await bank.manager.maintain_outbox()
        bank.outbox.was_removed = True
        await bank.manager.maintain_outbox()
        await bank.manager.maintain_outbox()
        assert bank.alerts == ["outbox_was_removed"]
        bank.outbox.error = OSError("it is a folder now")
        await bank.manager.maintain_outbox()
        await bank.manager.maintain_outbox()
        assert bank.alerts == ["outbox_was_removed", "outbox_failed"]


@simulated
async def test_what_could_not_be_taken_out_of_the_outbox_goes_later() -> None:
    async with Bank() as bank:
        held = await bank.hold("a")
        bank.ledger.gate.clear()
        bank.post("a", held)
        assert await bank.outcome("a", other_than=Outcome.HELD) is Outcome.RELEASED
        bank.outbox.error = OSError("disk full")
        bank.ledger.gate.set()
        await bank.idle()
        assert bank.alerts == ["outbox_failed"]
        bank.outbox.error = None
        assert bank.outbox.transfers == 1
        await bank.manager.maintain_outbox()
        assert bank.outbox.transfers == 0
        assert await bank.rest() == []
