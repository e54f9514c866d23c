"""Several processes of one node on one ledger: one of them is active."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import Any

import pytest

from connector.accounting import bounds, lease
from connector.accounting.leaseholder import newest_claim
from connector.accounting.manager import State
from connector.accounting.promises import Outcome, Reservation
from connector.accounting.standby import Standby
from connector.base.errors import LedgerUnavailableError, OtherIsActiveError
from connector.ledger.machine import LedgerMachine
from connector.ledger.model import PENDING, IdGenerator, Transfer, TransferCode, node_tag
from tests.support.accounting_node import AccountingNode
from tests.support.accounts import Fault, MemoryOutbox, ScriptedLedger
from tests.support.clocks import SimulatedClock, simulated

A, B, C = 0xA1, 0xB2, 0xC3


class Seen(ScriptedLedger):
    """A ledger as one process sees it: it may be away for this one alone."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(clock=SimulatedClock())
        self.may_be_away = True
        self.machine = cluster.machine
        self.requests = cluster.requests

    async def lookup_transfers(self, ids: Sequence[int]) -> list[Transfer]:
        if self.down is not None:
            raise LedgerUnavailableError("refused on purpose")
        await self._pause()
        return await super().lookup_transfers(ids)


class FullDisk(MemoryOutbox):
    """A DATA_DIR whose disk may refuse to remember who has claimed."""

    refuses = False

    async def keep_claims(self, processes: Sequence[int]) -> None:
        if self.refuses:
            raise OSError("no space left")
        await super().keep_claims(processes)


class Cluster:
    """A ledger that several processes of one node use."""

    def __init__(self) -> None:
        self.machine = LedgerMachine()
        self.requests: list[list[Transfer]] = []
        self.said: list[str] = []

    def process(
        self, name: int, outbox: MemoryOutbox | None = None, **options: Any
    ) -> AccountingNode:
        node = AccountingNode(ledger=Seen(self), outbox=outbox, process=name, **options)
        node.manager._ids = IdGenerator(random_bits=random.Random(name).getrandbits)
        return node

    def stand_by(
        self, name: int, ledger: Seen | None = None, own: Sequence[int] = ()
    ) -> asyncio.Task[None]:
        standby = Standby(
            node_id="us",
            ledger=ledger or Seen(self),
            clock=SimulatedClock(),
            process=name,
            own=own,
            say=self.said.append,
        )
        return asyncio.create_task(standby.wait())

    def rows(self) -> list[tuple[int, int]]:
        """Process and generation of each row of the lease that was asked for."""
        return [
            (one.user_data_128, one.user_data_64)
            for request in self.requests
            for one in request
            if one.code == TransferCode.LEASE
        ]

    async def newest(self) -> tuple[int, Transfer | None]:
        return await newest_claim(Seen(self), "us", 0)


def stand_still(node: AccountingNode) -> None:
    """No looks, no signs of life."""
    node._tasks[3].cancel()


async def settle(node: AccountingNode, token: str, amount: int = 100) -> None:
    """Pay while the ledger is away."""
    held = await node.hold(token, amount)
    node.post(token, held)
    assert await node.outcome(token, other_than=Outcome.HELD) is Outcome.RELEASED


# --- claiming


@simulated
async def test_a_process_without_another_one_writes_one_row_and_no_more() -> None:
    cluster = Cluster()
    async with cluster.process(A) as one:
        await one.pay("a")
        await asyncio.sleep(60)
        assert cluster.rows() == [(A, 1)]
        assert (one.manager.generation, one.manager.is_superseded) == (1, False)


@simulated
async def test_a_ledger_of_its_own_has_no_lease() -> None:
    async with AccountingNode() as one:
        await one.pay("a")
        await asyncio.sleep(10)
        assert all(code != TransferCode.LEASE for codes in one.codes() for code in codes)
        assert one.manager.generation == 0


@simulated
async def test_the_rows_of_the_lease_are_none_of_the_books() -> None:
    async with Cluster().process(A) as one:
        await one.pay("a")
        ids = {account.id for account in await one.ledger.node_accounts(node_tag("us"))}
        assert not ids & {account.id for account in lease.accounts_of("us")}
        assert ids == {book.account_id for book in one.manager.books()}
        assert await one.rest() == []


@simulated
async def test_a_process_that_is_started_anew_makes_the_older_one_stop() -> None:
    cluster = Cluster()
    async with cluster.process(A) as old:
        await old.pay("a")
        async with cluster.process(B) as new:
            began_s = old.clock.monotonic_s()
            await old.superseded.wait()
            assert old.clock.monotonic_s() - began_s <= bounds.LEASE_LOOK_SECONDS + 0.1
            assert old.alerts == ["lease_superseded"]
            assert (old.manager.is_superseded, new.manager.generation) == (True, 2)
            await new.pay("b")
            assert new.net("alice") == 200


@simulated
async def test_whoever_is_superseded_books_what_it_promised_and_holds_nothing_new() -> None:
    cluster = Cluster()
    async with cluster.process(A) as old:
        held = await old.hold("held")
        async with cluster.process(B):
            await old.superseded.wait()
            old.post("held", held)
            assert await old.outcome("held", other_than=Outcome.HELD) is Outcome.POSTED
            assert isinstance(old.reserve("new"), Reservation)
            assert await old.outcome("new") is Outcome.UNAVAILABLE
        found = await old.ledger.node_accounts(node_tag("us"))
        assert not any(one.debits_pending for one in found)


@pytest.mark.parametrize("noticed", [True, False])
@simulated
async def test_whoever_is_superseded_gives_nothing_back(noticed: bool) -> None:
    """The process that has taken over may go on with the packet, and need what is held for it."""
    cluster = Cluster()
    async with cluster.process(A) as old:
        held = await old.hold("held")
        if not noticed:
            stand_still(old)
        async with cluster.process(B):
            if noticed:
                await old.superseded.wait()
            else:
                await asyncio.sleep(2 * bounds.LEASE_VALID_SECONDS)
            old.manager.void(held)
            await old.superseded.wait()
            await asyncio.sleep(1)
            found = await old.ledger.node_accounts(node_tag("us"))
            assert sum(one.debits_pending for one in found) == 100
        assert not old.manager.peers["alice"].peer.debits_pending


@simulated
async def test_a_process_that_starts_again_on_its_data_dir_claims_at_once() -> None:
    cluster, outbox = Cluster(), MemoryOutbox()
    for generation, name in enumerate((A, B, C), start=1):
        async with cluster.process(name, outbox) as one:
            assert one.manager.generation == generation
            assert outbox.processes[-1] == name


@simulated
async def test_a_claim_that_the_disk_refused_to_remember_is_remembered_later() -> None:
    """Else the next process on this DATA_DIR takes it for the claim of another one."""
    cluster, outbox = Cluster(), FullDisk()
    async with cluster.process(A, outbox):
        pass
    outbox.refuses = True
    async with cluster.process(B, outbox) as one:
        await asyncio.sleep(3 * bounds.LEASE_LOOK_SECONDS)
        assert (outbox.processes, one.alerts) == ([A], ["outbox_failed"])
        outbox.refuses = False
        await asyncio.sleep(2 * bounds.LEASE_LOOK_SECONDS)
        assert outbox.processes == [B]
    async with cluster.process(C, outbox) as one:
        assert one.manager.generation == 3


@simulated
async def test_a_process_that_was_superseded_does_not_claim_again() -> None:
    """Else two supervisors would restart their processes against each other for ever."""
    cluster, outbox = Cluster(), MemoryOutbox()
    async with cluster.process(A, outbox):
        pass
    async with cluster.process(B) as other:
        with pytest.raises(OtherIsActiveError, match="generation 2"):
            await cluster.process(C, outbox).open()
        assert cluster.rows() == [(A, 1), (B, 2)]
        await asyncio.sleep(3)
        assert not other.manager.is_superseded


@simulated
async def test_unless_it_is_told_to_take_over() -> None:
    cluster, outbox = Cluster(), MemoryOutbox()
    async with cluster.process(A, outbox):
        pass
    async with cluster.process(B) as other, cluster.process(C, outbox, takes_over=True) as new:
        await other.superseded.wait()
        assert new.manager.generation == 3


@simulated
async def test_of_two_that_are_started_together_the_ledger_takes_one() -> None:
    cluster = Cluster()
    nodes = [cluster.process(name) for name in (A, B)]
    for node in nodes:
        node.ledger.latency_s = 0.1
    opened = await asyncio.gather(*(node.open() for node in nodes), return_exceptions=True)
    refused = [one for one in opened if isinstance(one, OtherIsActiveError)]
    active = [node.manager for node in nodes if node.manager.generation]
    assert (len(refused), len(active)) == (1, 1)


@simulated
async def test_a_claim_whose_answer_was_lost_is_found() -> None:
    cluster = Cluster()
    one = cluster.process(A)
    one.ledger.next_faults = [Fault.LOST]
    async with one:
        while one.manager.state is not State.AVAILABLE:
            await asyncio.sleep(0.1)
        assert one.manager.generation == 1
        assert cluster.rows() == [(A, 1)]


@simulated
async def test_a_process_that_died_before_it_knew_of_its_claim_is_no_other() -> None:
    """Killed after the ledger took the claim, before it was told."""
    cluster, outbox = Cluster(), MemoryOutbox()
    first = cluster.process(A, outbox)
    first.ledger.next_faults = [Fault.LOST]
    await first.open()
    assert (first.manager.generation, cluster.rows()) == (0, [(A, 1)])
    async with cluster.process(B, outbox) as one:
        assert one.manager.generation == 2


# --- the ledger is away


@simulated
async def test_whoever_started_without_the_ledger_claims_when_it_is_there() -> None:
    one = Cluster().process(A, spool=1000)
    one.ledger.is_open, one.ledger.down = False, Fault.REFUSED
    async with one:
        await settle(one, "a")
        assert one.manager.generation == 0
        one.ledger.down = None
        await one.idle()
        assert one.manager.generation == 1
        assert await one.rest() == []


@simulated
async def test_whoever_comes_back_and_is_superseded_books_its_outbox_first() -> None:
    cluster = Cluster()
    async with cluster.process(A, spool=1000) as old:
        await old.pay("before")
        old.ledger.down = Fault.REFUSED
        await settle(old, "meanwhile")
        assert old.manager.spooled
        async with cluster.process(B) as new:
            old.ledger.down = None
            await old.superseded.wait()
            while old.manager.spooled:
                await asyncio.sleep(0.1)
            await asyncio.sleep(2 * bounds.RECONCILE_SECONDS)
            await new.manager.expire()
            assert new.net("alice") == old.net("alice") == 200
            assert old.alerts.count("lease_superseded") == 1
            await old.stop()
            # What others book from here on its DATA_DIR cannot know: no start without the ledger.
            assert (await old.outbox.begin()).books is None


# --- a process that stood still


@simulated
async def test_nothing_is_held_by_a_process_that_stood_still_while_another_took_over() -> None:
    """What waits in its queue would be taken once more: by whoever the sender has asked since."""
    cluster = Cluster()
    async with cluster.process(A) as old:
        stand_still(old)
        new = await cluster.process(B).open()
        before = len(cluster.requests)
        await asyncio.sleep(bounds.LEASE_VALID_SECONDS)
        old.reserve("late")
        assert await old.outcome("late") is Outcome.UNAVAILABLE
        assert old.manager.is_superseded
        asked = [one.flags for part in cluster.requests[before:] for one in part]
        assert PENDING not in asked, "held for a packet that is another process's by now"
        assert new.manager.generation == 2


@simulated
async def test_whoever_stood_still_asks_the_ledger_whether_it_may_go_on() -> None:
    cluster = Cluster()
    async with cluster.process(A) as old:
        old.manager.stood_still()
        assert not old.manager._lease.may_hold
        assert await old.manager.may_go_on() is True
        assert old.manager._lease.may_hold
        # The ledger is away, and no standby was ever seen.
        old.ledger.down = LedgerUnavailableError("away")
        old.manager.stood_still()
        assert await old.manager.may_go_on() is None
        await asyncio.sleep(bounds.LEASE_DOUBT_SECONDS + 0.1)
        assert await old.manager.may_go_on() is True
        old.ledger.down = None
        standby = cluster.stand_by(B)
        await asyncio.sleep(5)
        assert await old.manager.may_go_on() is True
        # Now one may have taken over.
        old.ledger.down = LedgerUnavailableError("away")
        assert await old.manager.may_go_on() is None
        stand_still(old)
        await standby
        await asyncio.sleep(bounds.LEASE_DOUBT_SECONDS + 0.1)
        assert await old.manager.may_go_on() is None
        old.ledger.down = None
        assert await old.manager.may_go_on() is False
        assert old.manager.is_superseded
        assert await old.manager.may_go_on() is False
    async with AccountingNode() as own:
        assert await own.manager.may_go_on() is True


@pytest.mark.parametrize("answered", [False, True])
@simulated
async def test_an_answer_from_before_a_second_standstill_says_nothing(answered: bool) -> None:
    cluster = Cluster()
    async with cluster.process(A) as old:
        old.manager.stood_still()
        stand_still(old)
        real = old.ledger.lookup_transfers

        async def lookup(ids: Sequence[int]) -> list[Transfer]:
            found = await real(ids)
            await asyncio.sleep(10)  # it stands still once more, and reads the answer afterwards
            if not answered:
                raise LedgerUnavailableError("no answer within 1000 ms")
            return found

        old.ledger.lookup_transfers = lookup  # type: ignore[method-assign]
        asking = asyncio.create_task(old.manager.may_go_on())
        await asyncio.sleep(5)
        async with cluster.process(B):
            await asyncio.sleep(4.9)
            old.manager.stood_still()
            assert await asking is None
            assert not old.manager._lease.may_hold
            old.ledger.lookup_transfers = real  # type: ignore[method-assign]
            assert await old.manager.may_go_on() is False


@simulated
async def test_whoever_has_not_claimed_yet_waits_for_its_ledger_after_it_stood_still() -> None:
    process = Cluster().process(A, spool=1000)
    process.ledger.is_open = False
    process.ledger.down = LedgerUnavailableError("away")
    async with process as one:
        assert one.manager.state is State.SPOOLING
        one.manager.stood_still()
        assert await one.manager.may_go_on() is None
        await asyncio.sleep(bounds.LEASE_DOUBT_SECONDS + 0.1)
        assert await one.manager.may_go_on() is True


@simulated
async def test_whoever_claimed_at_its_first_contact_and_lost_it_stops_in_order() -> None:
    cluster = Cluster()
    old = cluster.process(A, spool=1000)
    old.ledger.is_open = False
    old.ledger.down = LedgerUnavailableError("away")
    async with old:
        real, has_failed = old.ledger.create_accounts, False

        async def create_accounts(accounts: Any) -> Any:
            nonlocal has_failed
            if old.manager.generation and not has_failed:  # it goes away again, after the claim
                has_failed = True
                old.ledger.down = LedgerUnavailableError("away again")
                raise old.ledger.down
            return await real(accounts)

        old.ledger.create_accounts = create_accounts  # type: ignore[method-assign]
        old.ledger.down = None
        while not has_failed:
            await asyncio.sleep(0.05)
        async with cluster.process(B) as new:
            assert new.manager.generation == 2
            old.ledger.down = None
            await asyncio.sleep(5)
            assert old.manager.is_superseded
            assert old.alerts.count("lease_superseded") == 1


@simulated
async def test_nothing_is_held_by_a_request_that_waited_while_a_later_claim_was_found() -> None:
    cluster = Cluster()
    async with cluster.process(A) as old:
        await cluster.process(B).open()
        old.ledger.latency_s = 0.2
        looking = asyncio.create_task(old.manager.keep_lease())
        await asyncio.sleep(0.05)  # the look has its turn, the writer takes its batch and waits
        old.reserve("late")
        await looking
        assert old.manager.is_superseded
        assert await old.outcome("late") is Outcome.UNAVAILABLE
        assert await old.rest() == []


@simulated
async def test_a_hold_whose_answer_came_after_a_stand_still_is_given_back() -> None:
    cluster = Cluster()
    async with cluster.process(A) as old:
        stand_still(old)
        old.ledger.gate.clear()
        old.reserve("held")
        await asyncio.sleep(1)
        await cluster.process(B).open()
        await asyncio.sleep(bounds.LEASE_VALID_SECONDS)
        old.ledger.gate.set()
        assert await old.outcome("held") is Outcome.UNAVAILABLE
        await old.idle()
        assert await old.rest() == []


# --- standing by


@simulated
async def test_a_standby_waits_as_long_as_there_are_signs_of_life() -> None:
    cluster = Cluster()
    async with cluster.process(A) as active:
        waiting = cluster.stand_by(B)
        await asyncio.sleep(60)
        assert not waiting.done()
        assert not active.manager.is_superseded
        assert cluster.said == ["generation 1 is active"]
        waiting.cancel()


@simulated
async def test_a_standby_takes_over_after_a_silence() -> None:
    cluster = Cluster()
    async with cluster.process(A) as active:
        waiting = cluster.stand_by(B)
        await asyncio.sleep(10)
        stand_still(active)
        began_s = active.clock.monotonic_s()
        await waiting
        took_s = active.clock.monotonic_s() - began_s
        looks_s = bounds.LEASE_LOOK_SECONDS + bounds.LEASE_STANDBY_LOOK_SECONDS
        assert bounds.LEASE_SILENCE_SECONDS - looks_s < took_s < bounds.LEASE_SILENCE_SECONDS + 1
        async with cluster.process(B) as new:
            assert new.manager.generation == 2
            assert cluster.rows().count((B, 2)) == 1, "claimed once"


@simulated
async def test_a_standby_takes_over_at_once_when_the_active_process_has_stopped() -> None:
    cluster = Cluster()
    async with cluster.process(A) as active:
        waiting = cluster.stand_by(B)
        await asyncio.sleep(5)
        await active.stop()
        began_s = active.clock.monotonic_s()
        await waiting
        assert active.clock.monotonic_s() - began_s <= 2 * bounds.LEASE_STANDBY_LOOK_SECONDS


@simulated
async def test_a_standby_on_the_data_dir_of_a_process_that_is_gone_need_not_watch() -> None:
    cluster, outbox = Cluster(), MemoryOutbox()
    async with cluster.process(A, outbox):
        pass
    clock = SimulatedClock()
    await cluster.stand_by(B, own=outbox.processes)
    assert clock.monotonic_s() < bounds.LEASE_STANDBY_LOOK_SECONDS


@simulated
async def test_unless_another_one_has_taken_over_since() -> None:
    cluster, outbox = Cluster(), MemoryOutbox()
    async with cluster.process(A, outbox):
        pass
    async with cluster.process(C) as active:
        waiting = cluster.stand_by(B, own=outbox.processes)
        await asyncio.sleep(30)
        assert not waiting.done()
        assert not active.manager.is_superseded
        waiting.cancel()


@simulated
async def test_a_standby_waits_while_the_ledger_is_away() -> None:
    """The active process is away from it as well: its silence means nothing."""
    cluster = Cluster()
    async with cluster.process(A, spool=1000) as active:
        seen = Seen(cluster)
        waiting = cluster.stand_by(B, seen)
        await asyncio.sleep(5)
        active.ledger.down = seen.down = Fault.REFUSED
        await asyncio.sleep(30)
        assert not waiting.done()
        active.ledger.down = seen.down = None
        await asyncio.sleep(30)
        assert not waiting.done()
        assert not active.manager.is_superseded
        assert any("away" in one for one in cluster.said)
        waiting.cancel()


@simulated
async def test_a_standby_waits_while_the_active_process_books_a_large_outbox() -> None:
    """It takes many requests to a slow ledger, longer than the silence that a standby waits for."""
    cluster = Cluster()
    async with cluster.process(A, spool=1000) as active:
        seen = Seen(cluster)
        waiting = cluster.stand_by(B, seen)
        await asyncio.sleep(5)
        active.ledger.down = seen.down = Fault.REFUSED
        for number in range(50):
            await settle(active, f"meanwhile {number}", amount=10)
        active.ledger.batch_transfers_max = 4
        active.ledger.latency_s = 0.4
        active.ledger.down = seen.down = None
        began_s = active.clock.monotonic_s()
        while active.manager.spooled:
            assert not waiting.done(), active.clock.monotonic_s() - began_s
            await asyncio.sleep(0.1)
        took_s = active.clock.monotonic_s() - began_s
        assert took_s > bounds.LEASE_SILENCE_AFTER_OUTAGE_SECONDS_MAX + 1
        active.ledger.latency_s = 0.0
        await asyncio.sleep(30)
        assert not waiting.done()
        assert not active.manager.is_superseded
        waiting.cancel()


@simulated
async def test_a_standby_waits_longer_for_a_process_that_polls_the_ledger_less_often_than_it() -> (
    None
):
    cluster = Cluster()
    async with cluster.process(A, spool=1000) as active:
        seen = Seen(cluster)
        waiting = cluster.stand_by(B, seen)
        await asyncio.sleep(5)
        active.ledger.down = seen.down = Fault.REFUSED
        await asyncio.sleep(12)
        seen.down = None
        await asyncio.sleep(2 * bounds.LEASE_SILENCE_SECONDS)
        assert not waiting.done()
        active.ledger.down = None
        await asyncio.sleep(30)
        assert not waiting.done()
        assert not active.manager.is_superseded
        waiting.cancel()


@simulated
async def test_of_two_standbys_one_takes_over_and_the_other_watches_it() -> None:
    cluster = Cluster()
    async with cluster.process(A) as active:
        waits = [cluster.stand_by(name) for name in (B, C)]
        await asyncio.sleep(5)
        stand_still(active)
        done, left = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        assert (len(done), len(left)) == (1, 1)
        _, newest = await cluster.newest()
        assert newest is not None
        async with cluster.process(newest.user_data_128) as new:
            await asyncio.sleep(30)
            assert not new.manager.is_superseded
        # It is gone without a word: now it is the other one's turn.
        await left.pop()
        generation, _ = await cluster.newest()
        assert generation == 3


@simulated
async def test_a_standby_follows_a_process_that_is_started_anew() -> None:
    cluster, outbox = Cluster(), MemoryOutbox()
    async with cluster.process(A, outbox):
        waiting = cluster.stand_by(B)
        await asyncio.sleep(5)
    async with cluster.process(C, outbox) as again:
        await asyncio.sleep(30)
        assert not waiting.done()
        assert not again.manager.is_superseded
        waiting.cancel()


@simulated
async def test_a_standby_of_a_node_that_never_was_leaves_the_claim_to_its_start() -> None:
    cluster = Cluster()
    await cluster.stand_by(A)
    assert cluster.rows() == []
    async with cluster.process(A) as one:
        assert one.manager.generation == 1


@simulated
async def test_the_newest_of_many_generations_is_found() -> None:
    cluster = Cluster()
    ledger = Seen(cluster)
    await ledger.create_accounts(lease.accounts_of("us"))
    for newest in (0, 1, 2, 3, 64, 65, 1000):
        known, _ = await cluster.newest()
        for generation in range(known + 1, newest + 1):
            id_ = lease.claim_id("us", generation)
            await ledger.create_transfers([lease.row("us", id_, process=A, generation=generation)])
        for low in {0, min(1, newest), newest // 2, newest}:
            found, claim = await newest_claim(ledger, "us", low)
            assert found == newest
            assert (claim is None) == (newest == 0)
            assert claim is None or claim.id == lease.claim_id("us", newest)
