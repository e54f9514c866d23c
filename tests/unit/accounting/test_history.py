"""Past balances: correct, with few requests to the ledger, and packets come first."""

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
from tests.support.clocks import SimulatedClock, simulated

USD = Asset("USD", 9)
BOB = PeerTerms(peer_id="bob", asset=USD, credit_limit=10**6)
WE = PeerTerms(peer_id=LOCAL, asset=USD)
SECOND = 1000


class HistoryLedger(ScriptedLedger):
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


class HistorySetup:
    """A node with one peer, and what the past was really like."""

    def __init__(self, *, history: bool = True) -> None:
        self.clock = SimulatedClock()
        self.ledger = HistoryLedger(clock=self.clock)
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
async def running_setup(*, history: bool = True) -> Any:
    setup = HistorySetup(history=history)
    await setup.manager.open([BOB], [])
    async with asyncio.TaskGroup() as group:
        writer = group.create_task(setup.manager.run())
        yield setup
        writer.cancel()


@simulated
async def test_every_interval_ends_with_the_balance_it_had() -> None:
    """With credit granted, raised and lowered in between, and money that is only held."""
    async with running_setup() as setup:
        dice = random.Random(7)
        for _ in range(30):
            await asyncio.sleep(dice.choice((1.0, 1.2, 3.0)))
            setup.note()
            await asyncio.sleep(0.001)
            match dice.randrange(4):
                case 0:
                    await setup.manager.set_credit_limit("bob", dice.randrange(10**5, 10**6))
                case 1:
                    _, held = await setup.hold(dice.randrange(1, 100))
                    await asyncio.sleep(1.0)
                    setup.note()
                    await asyncio.sleep(0.001)
                    setup.manager.void(held)
                case _:
                    await setup.move(dice.randrange(1, 500), to_bob=dice.random() < 0.5)
        await asyncio.sleep(1)
        setup.note()
        began_ms, now_ms = setup.truth[0].at_ms, setup.clock.now_ms()
        found = await setup.past(began_ms, now_ms + 1)
        assert found[0] == setup.truth[0]
        assert [one.at_ms for one in found] == sorted({one.at_ms for one in found})
        for noted in setup.truth:
            last = [one for one in found if one.at_ms <= noted.at_ms][-1]
            assert last[1:] == noted[1:]
        # From the middle on, and until the middle.
        middle = setup.truth[20]
        assert (await setup.past(middle.at_ms, now_ms + 1))[0] == middle
        assert (await setup.past(began_ms, middle.at_ms + 1))[-1][1:] == middle[1:]


@simulated
async def test_an_account_that_does_not_move_costs_few_questions() -> None:
    async with running_setup() as setup:
        await setup.move(100)
        await asyncio.sleep(86_400)
        from_ms = setup.clock.now_ms() - 3_600_000
        found = await setup.past(from_ms, setup.clock.now_ms())
        assert found == [PastBalance(from_ms, 0, 100, 0, 0)]
        assert len(setup.ledger.reads) == 2  # of the account, and of its credit line


@simulated
async def test_one_that_moves_all_the_time_costs_no_more_than_the_bound() -> None:
    async with running_setup() as setup:
        from_ms = setup.clock.now_ms()
        for _ in range(400):
            await setup.move(1)
            await asyncio.sleep(0.99)
        setup.note()
        found = await setup.past(from_ms, setup.clock.now_ms() + 1)
        peer_id = setup.books.peer.account_id
        assert len(found) in range(90, accounting_bounds.LEDGER_HISTORY_POINTS_MAX + 1)
        counts = [count for account_id, count in setup.ledger.reads if account_id == peer_id]
        assert counts[:5] == [1, 2, 4, 8, 16]
        assert len(found) <= sum(counts) <= accounting_bounds.LEDGER_HISTORY_POINTS_MAX
        assert len(counts) < 12
        assert len(setup.ledger.reads) == len(counts) + 1
        assert found[-1].credit_balance == setup.truth[-1].credit_balance == 400
        few = await setup.past(from_ms, setup.clock.now_ms() + 1, points_max=2)
        assert len(few) in (2, 3)
        assert (few[0].at_ms, few[-1][1:]) == (from_ms, found[-1][1:])


@simulated
async def test_it_begins_with_the_account() -> None:
    async with running_setup() as setup:
        made_ms = setup.clock.now_ms()
        assert await setup.past(0, made_ms) == []
        await asyncio.sleep(10)
        await setup.move(5)
        found = await setup.past(0, setup.clock.now_ms() + 1)
        assert found[0] == PastBalance(made_ms, 0, 0, 0, 0)
        assert found[-1].credit_balance == 5
        # Numbers that no ledger counts with.
        assert (await setup.past(setup.clock.now_ms(), 10**15))[-1].credit_balance == 5
        assert await setup.past(10**15 - 1, 10**15) == []


@simulated
async def test_an_account_that_nothing_moved_yet_is_even() -> None:
    async with running_setup() as setup:
        setup.ledger.kept.clear()
        made_ms = setup.clock.now_ms()
        await asyncio.sleep(1)
        assert await setup.past(0, made_ms + 500) == [PastBalance(made_ms, 0, 0, 0, 0)]


@simulated
async def test_an_account_without_history_is_not_asked_for_it() -> None:
    async with running_setup(history=False) as setup:
        await setup.move(5)
        assert await setup.past(0, setup.clock.now_ms()) == []
        assert (
            await setup.history.balances(
                "bob", Asset("EUR", 2), 0, 10**12, points_max=9, step_ms_min=1
            )
            == []
        )
        assert (
            await setup.history.balances("nobody", USD, 0, 10**12, points_max=9, step_ms_min=1)
            == []
        )
        assert setup.ledger.reads == []


@pytest.mark.parametrize(
    "error", [LedgerUnavailableError("away"), LedgerRefusedError("session_evicted", "pushed out")]
)
@simulated
async def test_a_ledger_that_goes_away_meanwhile_leaves_what_was_found(error: Exception) -> None:
    async with running_setup() as setup:
        from_ms = setup.clock.now_ms()
        for _ in range(20):
            await setup.move(1)
            await asyncio.sleep(1)
        until_ms = setup.clock.now_ms() + 1
        whole = await setup.past(from_ms, until_ms)
        setup.ledger.reads.clear()

        async def read() -> None:
            if len(setup.ledger.reads) > 4:
                raise error

        setup.ledger.read = read
        part = await setup.past(from_ms, until_ms)
        assert len(part) == 1 + 2 + 4
        assert part == whole[-len(part) :]
        setup.manager._availability.failed("no answer", setup.clock.monotonic_s())
        assert setup.manager.state is State.REJECTING
        assert await setup.past(from_ms, until_ms) == []


@simulated
async def test_a_slow_ledger_keeps_no_viewer_waiting_for_long() -> None:
    async with running_setup() as setup:
        from_ms = setup.clock.now_ms()
        for _ in range(20):
            await setup.move(1)
            await asyncio.sleep(1)
        setup.ledger.read = lambda: asyncio.sleep(0.15)
        began_s = setup.clock.monotonic_s()
        part = await setup.past(from_ms, setup.clock.now_ms() + 1)
        took_s = setup.clock.monotonic_s() - began_s
        assert took_s <= accounting_bounds.LEDGER_HISTORY_SECONDS_MAX
        assert part[-1].credit_balance == 20
        assert len(part) == 1 + 2 + 4


@simulated
async def test_viewers_take_turns_and_too_many_get_nothing() -> None:
    async with running_setup() as setup:
        await setup.move(1)
        await asyncio.sleep(1)
        reading = 0

        async def read() -> None:
            nonlocal reading
            reading += 1
            assert reading == 1
            await asyncio.sleep(0.001)
            reading -= 1

        setup.ledger.read = read
        most = accounting_bounds.LEDGER_HISTORY_ANSWERS_WAITING_MAX
        now_ms = setup.clock.now_ms()
        answers = await asyncio.gather(*(setup.past(now_ms - 500, now_ms) for _ in range(most + 4)))
        assert [len(answer) for answer in answers] == [1] * most + [0] * 4
        assert len(await setup.past(now_ms - 500, now_ms)) == 1


@simulated
async def test_packets_go_first() -> None:
    """Whoever writes waits for one read at most, however much is asked for; and seldom."""
    async with running_setup() as setup:
        from_ms = setup.clock.now_ms()
        for _ in range(200):
            await setup.move(1)
            await asyncio.sleep(1)
        setup.ledger.read = lambda: asyncio.sleep(0.02)
        looking = asyncio.ensure_future(setup.past(from_ms, setup.clock.now_ms()))
        waited_s = []
        for _ in range(50):
            packet_id = setup.manager.new_packet_id()
            asked = Reserve(WE, BOB, 1, 0, 1, bytes(32), 20_000)
            began_s = setup.clock.monotonic_s()
            assert isinstance(setup.manager.reserve(packet_id, packet_id, 0, asked), Reservation)
            while packet_id not in setup.told:
                await asyncio.sleep(0.0005)
            waited_s.append(setup.clock.monotonic_s() - began_s)
            await asyncio.sleep(0.01)
        assert not looking.done()
        assert 0.01 < max(waited_s) < 0.022
        assert sum(one < 0.001 for one in waited_s) > 30
        assert len(await looking) > 90
