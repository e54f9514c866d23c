"""Balances of the past: the right ones, with few questions, and packets go first."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from connector.accounting import bounds as accounting_bounds
from connector.accounting.entries import Reserve
from connector.accounting.history import LedgerHistory, PastBalance
from connector.accounting.manager import AccountManager, State
from connector.accounting.mirror import PeerBooks
from connector.accounting.promises import Reservation
from connector.base.errors import LedgerRefusedError, LedgerUnavailableError
from connector.ledger.model import ACCOUNT_HISTORY, Balance, IdGenerator, Kept, Status, Transfer
from connector.peering.model import LOCAL, Asset, PeerTerms
from tests.support.accounts import MemoryOutbox, ScriptedLedger
from tests.support.clocks import SimulatedClock, simulate

USD = Asset("USD", 9)
BOB = PeerTerms(peer_id="bob", asset=USD, credit_limit=10**6)
WE = PeerTerms(peer_id=LOCAL, asset=USD)
SECOND = 1000


class KeepingLedger(ScriptedLedger):
    """Keeps balances as TigerBeetle does: those of accounts with the flag, after each transfer."""

    def __init__(self, *, clock: SimulatedClock) -> None:
        super().__init__(clock=clock)
        self.kept: dict[int, list[Balance]] = {}
        self.reads: list[tuple[int, int]] = []
        self.read: Callable[[], Awaitable[None]] | None = None
        """What happens before balances are read."""

    async def create_transfers(
        self, transfers: Sequence[Transfer], kept: Sequence[Kept] = ()
    ) -> list[Status]:
        assert not kept
        statuses = []
        for transfer in transfers:
            statuses += await super().create_transfers([transfer])
            for account in self.machine.accounts.values():
                kept = self.kept.setdefault(account.id, [])
                balance = Balance(*account.snapshot()[1:5], self.machine.timestamp)
                if account.flags & ACCOUNT_HISTORY and balance[:4] != (kept or [Balance()])[-1][:4]:
                    kept.append(balance)
        return statuses

    async def balances_at(self, account_id: int, moments_ns: Sequence[int]) -> list[Balance | None]:
        self.reads.append((account_id, len(moments_ns)))
        assert 0 < len(moments_ns) <= accounting_bounds.LEDGER_HISTORY_POINTS_PER_REQUEST_MAX
        assert list(moments_ns) == sorted(set(moments_ns), reverse=True)
        if self.read is not None:
            await self.read()
        return [self.newest(account_id, at_ns) for at_ns in moments_ns]

    def newest(self, account_id: int, at_ns: int) -> Balance | None:
        assert 0 < at_ns < 1 << 63
        until = [one for one in self.kept.get(account_id, []) if one.timestamp <= at_ns]
        return until[-1] if until else None


class Desk:
    """A node with one peer, and what the past was really like."""

    def __init__(self, *, history: bool = True) -> None:
        self.clock = SimulatedClock()
        self.ledger = KeepingLedger(clock=self.clock)
        self.manager = AccountManager(
            node_id="us",
            ledger=self.ledger,
            clock=self.clock,
            ids=IdGenerator(random_bits=random.Random(1).getrandbits),
            outbox=MemoryOutbox(),
            keeps_history=history,
        )
        self.manager.attach(self._tell, lambda: None)
        self.history = LedgerHistory(self.ledger, self.manager)
        self.told: dict[Any, Any] = {}
        self.truth: list[PastBalance] = []

    def _tell(self, token: Any, outcome: Any) -> None:
        self.told[token] = outcome

    @property
    def books(self) -> PeerBooks:
        return self.manager.peers["bob"]

    async def move(self, amount: int, *, to_bob: bool = True) -> None:
        packet_id, held = await self.hold(amount, to_bob=to_bob)
        self.manager.post(packet_id, held, self.clock.now_ms() + 20_000)
        await self.written()

    async def hold(self, amount: int, *, to_bob: bool = True) -> tuple[int, Reservation]:
        source, target = (WE, BOB) if to_bob else (BOB, WE)
        asked = Reserve(source, target, amount, 0, amount, bytes(32), 20_000)
        packet_id = self.manager.new_packet_id()
        held = self.manager.reserve(packet_id, packet_id, 0, asked)
        assert isinstance(held, Reservation)
        await self.written()
        return packet_id, held

    async def written(self) -> None:
        await asyncio.sleep(0.01)
        assert not self.manager.queue_depth()

    def note(self) -> None:
        """The balance now."""
        books = self.books
        self.truth.append(
            PastBalance(
                self.clock.now_ms(), books.debit_balance, books.credit_balance,
                books.peer.debits_pending, books.peer.credits_pending,
            )
        )  # fmt: skip

    async def past(self, from_ms: int, until_ms: int, **options: int) -> list[PastBalance]:
        wanted = {"points_max": 1000, "step_ms_min": SECOND, **options}
        return await self.history.balances("bob", USD, from_ms, until_ms, **wanted)


@asynccontextmanager
async def desk_at_work(*, history: bool = True) -> Any:
    desk = Desk(history=history)
    await desk.manager.open([BOB], [])
    async with asyncio.TaskGroup() as group:
        writer = group.create_task(desk.manager.run())
        yield desk
        writer.cancel()


def test_every_interval_ends_with_the_balance_it_had() -> None:
    """With credit granted, raised and lowered in between, and money that is only held."""

    async def main() -> None:
        async with desk_at_work() as desk:
            dice = random.Random(7)
            for _ in range(30):
                await asyncio.sleep(dice.choice((1.0, 1.2, 3.0)))
                desk.note()
                await asyncio.sleep(0.001)
                match dice.randrange(4):
                    case 0:
                        await desk.manager.set_credit_limit("bob", dice.randrange(10**5, 10**6))
                    case 1:
                        _, held = await desk.hold(dice.randrange(1, 100))
                        await asyncio.sleep(1.0)
                        desk.note()
                        await asyncio.sleep(0.001)
                        desk.manager.void(held)
                    case _:
                        await desk.move(dice.randrange(1, 500), to_bob=dice.random() < 0.5)
            await asyncio.sleep(1)
            desk.note()
            began_ms, now_ms = desk.truth[0].at_ms, desk.clock.now_ms()
            found = await desk.past(began_ms, now_ms + 1)
            assert found[0] == desk.truth[0]
            assert [one.at_ms for one in found] == sorted({one.at_ms for one in found})
            for noted in desk.truth:
                last = [one for one in found if one.at_ms <= noted.at_ms][-1]
                assert last[1:] == noted[1:]
            # From the middle on, and until the middle.
            middle = desk.truth[20]
            assert (await desk.past(middle.at_ms, now_ms + 1))[0] == middle
            assert (await desk.past(began_ms, middle.at_ms + 1))[-1][1:] == middle[1:]

    simulate(main())


def test_an_account_that_does_not_move_costs_few_questions() -> None:
    async def main() -> None:
        async with desk_at_work() as desk:
            await desk.move(100)
            await asyncio.sleep(86_400)
            from_ms = desk.clock.now_ms() - 3_600_000
            found = await desk.past(from_ms, desk.clock.now_ms())
            assert found == [PastBalance(from_ms, 0, 100, 0, 0)]
            assert len(desk.ledger.reads) == 2  # of the account, and of its credit line

    simulate(main())


def test_one_that_moves_all_the_time_costs_no_more_than_the_bound() -> None:
    async def main() -> None:
        async with desk_at_work() as desk:
            from_ms = desk.clock.now_ms()
            for _ in range(400):
                await desk.move(1)
                await asyncio.sleep(0.99)
            desk.note()
            found = await desk.past(from_ms, desk.clock.now_ms() + 1)
            peer_id = desk.books.peer.account_id
            assert len(found) in range(90, accounting_bounds.LEDGER_HISTORY_POINTS_MAX + 1)
            counts = [count for account_id, count in desk.ledger.reads if account_id == peer_id]
            assert counts[:5] == [1, 2, 4, 8, 16]
            assert len(found) <= sum(counts) <= accounting_bounds.LEDGER_HISTORY_POINTS_MAX
            assert len(counts) < 12
            assert len(desk.ledger.reads) == len(counts) + 1
            assert found[-1].credit_balance == desk.truth[-1].credit_balance == 400
            few = await desk.past(from_ms, desk.clock.now_ms() + 1, points_max=2)
            assert len(few) in (2, 3)
            assert (few[0].at_ms, few[-1][1:]) == (from_ms, found[-1][1:])

    simulate(main())


def test_it_begins_with_the_account() -> None:
    async def main() -> None:
        async with desk_at_work() as desk:
            made_ms = desk.clock.now_ms()
            assert await desk.past(0, made_ms) == []
            await asyncio.sleep(10)
            await desk.move(5)
            found = await desk.past(0, desk.clock.now_ms() + 1)
            assert found[0] == PastBalance(made_ms, 0, 0, 0, 0)
            assert found[-1].credit_balance == 5
            # Numbers that no ledger counts with.
            assert (await desk.past(desk.clock.now_ms(), 10**15))[-1].credit_balance == 5
            assert await desk.past(10**15 - 1, 10**15) == []

    simulate(main())


def test_an_account_that_nothing_moved_yet_is_even() -> None:
    async def main() -> None:
        async with desk_at_work() as desk:
            desk.ledger.kept.clear()
            made_ms = desk.clock.now_ms()
            await asyncio.sleep(1)
            assert await desk.past(0, made_ms + 500) == [PastBalance(made_ms, 0, 0, 0, 0)]

    simulate(main())


def test_an_account_without_history_is_not_asked_for_it() -> None:
    async def main() -> None:
        async with desk_at_work(history=False) as desk:
            await desk.move(5)
            assert await desk.past(0, desk.clock.now_ms()) == []
            assert (
                await desk.history.balances(
                    "bob", Asset("EUR", 2), 0, 10**12, points_max=9, step_ms_min=1
                )
                == []
            )
            assert (
                await desk.history.balances("nobody", USD, 0, 10**12, points_max=9, step_ms_min=1)
                == []
            )
            assert desk.ledger.reads == []

    simulate(main())


@pytest.mark.parametrize(
    "error", [LedgerUnavailableError("away"), LedgerRefusedError("session_evicted", "pushed out")]
)
def test_a_ledger_that_goes_away_meanwhile_leaves_what_was_found(error: Exception) -> None:
    async def main() -> None:
        async with desk_at_work() as desk:
            from_ms = desk.clock.now_ms()
            for _ in range(20):
                await desk.move(1)
                await asyncio.sleep(1)
            until_ms = desk.clock.now_ms() + 1
            whole = await desk.past(from_ms, until_ms)
            desk.ledger.reads.clear()

            async def read() -> None:
                if len(desk.ledger.reads) > 4:
                    raise error

            desk.ledger.read = read
            part = await desk.past(from_ms, until_ms)
            assert len(part) == 1 + 2 + 4
            assert part == whole[-len(part) :]
            desk.manager._availability.failed("no answer", desk.clock.monotonic_s())
            assert desk.manager.state is State.REJECTING
            assert await desk.past(from_ms, until_ms) == []

    simulate(main())


def test_a_slow_ledger_keeps_no_viewer_waiting_for_long() -> None:
    async def main() -> None:
        async with desk_at_work() as desk:
            from_ms = desk.clock.now_ms()
            for _ in range(20):
                await desk.move(1)
                await asyncio.sleep(1)
            desk.ledger.read = lambda: asyncio.sleep(0.15)
            began_s = desk.clock.monotonic_s()
            part = await desk.past(from_ms, desk.clock.now_ms() + 1)
            took_s = desk.clock.monotonic_s() - began_s
            assert took_s <= accounting_bounds.LEDGER_HISTORY_SECONDS_MAX
            assert part[-1].credit_balance == 20
            assert len(part) == 1 + 2 + 4

    simulate(main())


def test_viewers_take_turns_and_too_many_get_nothing() -> None:
    async def main() -> None:
        async with desk_at_work() as desk:
            await desk.move(1)
            await asyncio.sleep(1)
            reading = 0

            async def read() -> None:
                nonlocal reading
                reading += 1
                assert reading == 1
                await asyncio.sleep(0.001)
                reading -= 1

            desk.ledger.read = read
            most = accounting_bounds.LEDGER_HISTORY_ANSWERS_WAITING_MAX
            now_ms = desk.clock.now_ms()
            answers = await asyncio.gather(
                *(desk.past(now_ms - 500, now_ms) for _ in range(most + 4))
            )
            assert [len(answer) for answer in answers] == [1] * most + [0] * 4
            assert len(await desk.past(now_ms - 500, now_ms)) == 1

    simulate(main())


def test_packets_go_first() -> None:
    """Whoever writes waits for one read at most, however much is asked for; and seldom."""

    async def main() -> None:
        async with desk_at_work() as desk:
            from_ms = desk.clock.now_ms()
            for _ in range(200):
                await desk.move(1)
                await asyncio.sleep(1)
            desk.ledger.read = lambda: asyncio.sleep(0.02)
            looking = asyncio.ensure_future(desk.past(from_ms, desk.clock.now_ms()))
            waited_s = []
            for _ in range(50):
                packet_id = desk.manager.new_packet_id()
                asked = Reserve(WE, BOB, 1, 0, 1, bytes(32), 20_000)
                began_s = desk.clock.monotonic_s()
                assert isinstance(desk.manager.reserve(packet_id, packet_id, 0, asked), Reservation)
                while packet_id not in desk.told:
                    await asyncio.sleep(0.0005)
                waited_s.append(desk.clock.monotonic_s() - began_s)
                await asyncio.sleep(0.01)
            assert not looking.done()
            assert 0.01 < max(waited_s) < 0.022
            assert sum(one < 0.001 for one in waited_s) > 30
            assert len(await looking) > 90

    simulate(main())
