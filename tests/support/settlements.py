"""Accounts and settlements of a node in simulated time, with state that survives a crash.

`SettlementNode` is one process, which can be killed at any await. Its `DurableState` (ledger,
outbox, file, engine) stays, and the next `SettlementNode` starts with it.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from enum import Enum, auto
from pathlib import Path
from typing import Any, Self, TypeVar

from connector.accounting.entries import Reserve
from connector.accounting.manager import AccountManager
from connector.accounting.promises import Outcome, Reservation
from connector.base.errors import EngineError, EnvironmentFault
from connector.ilp.packet import Fulfill, Prepare, Reject
from connector.ledger.model import IdGenerator, Kept, Status, Transfer, TransferCode
from connector.peering.model import Asset, PeerTerms
from connector.settlement.engine import Answer, Reply
from connector.settlement.manager import SettlementManager
from connector.settlement.model import Quantity
from connector.settlement.store import _SCHEMA, SettlementStore
from connector.telemetry.events import Event
from tests.support.accounts import MemoryOutbox, ScriptedLedger
from tests.support.clocks import SimulatedClock
from tests.support.daemons import EventLog

T = TypeVar("T")

USD = Asset("USD", 9)
ALICE = PeerTerms(peer_id="alice", asset=USD, credit_limit=10**12)
BOB = PeerTerms(peer_id="bob", asset=USD, credit_limit=1000, settle_threshold=100)


class EngineFault(Enum):
    """How a settlement engine can fail."""

    REFUSED = auto()
    """It did not accept the request."""
    LOST = auto()
    """It accepted the request, but the answer was lost."""


class CrashPoints:
    """Kills a process at the n-th call to disk, ledger or engine."""

    def __init__(self) -> None:
        self.points = 0
        """Points passed since `arm`."""
        self.crashed = asyncio.Event()
        self._left: int | None = None

    def arm(self, points: int | None) -> None:
        """Crash after this many points; None: never."""
        self.points = 0
        self._left = points
        self.crashed.clear()

    async def point(self) -> None:
        self.points += 1
        if self._left is not None:
            self._left -= 1
            if self._left < 0:
                self.crashed.set()
                await asyncio.Event().wait()  # dead: nothing after this is executed
        await asyncio.sleep(0)


class CrashingLedger(ScriptedLedger):
    """Has a crash point before and after each request."""

    def __init__(self, crash_points: CrashPoints, *, clock: SimulatedClock) -> None:
        super().__init__(clock=clock)
        self._crash_points = crash_points

    async def _carry_out(self, transfers: list[Transfer], kept: Sequence[Kept]) -> list[Status]:
        if not any(transfer.code == TransferCode.SETTLEMENT for transfer in transfers):
            return await super()._carry_out(transfers, kept)
        await self._crash_points.point()
        statuses = await super()._carry_out(transfers, kept)
        await self._crash_points.point()
        return statuses


class FakeSettlementEngine:
    """A settlement engine that remembers keys (RFC 38), and fails on request."""

    kind = "http"

    def __init__(self, crash_points: CrashPoints) -> None:
        self._crash_points = crash_points
        self.paid: dict[str, Quantity] = {}
        """Payments by key; each key is paid once."""
        self.asked: list[str] = []
        """The key of each request."""
        self.asked_at_s: list[float] = []
        """The time of each request, by the loop's clock."""
        self.accounts: set[str] = set()
        self.messages: list[tuple[str, bytes]] = []
        self.reply = Reply(201, b"fine")
        self.latency_s = 0.0
        self.next_faults: list[EngineFault | None] = []
        self.down: EngineFault | None = None

    async def settle(self, peer_id: str, key: str, quantity: Quantity) -> Answer:
        self.asked.append(key)
        self.asked_at_s.append(asyncio.get_running_loop().time())
        fault = self.next_faults.pop(0) if self.next_faults else self.down
        await self._crash_points.point()
        await asyncio.sleep(self.latency_s / 2)
        if fault is EngineFault.REFUSED:
            raise EngineError("refused on purpose")
        assert self.paid.setdefault(key, quantity) == quantity, "one key, two orders"
        await self._crash_points.point()
        await asyncio.sleep(self.latency_s / 2)
        if fault is EngineFault.LOST:
            raise EngineError("lost on purpose")
        return Answer.TAKEN

    async def message(self, peer_id: str, octets: bytes) -> Reply:
        self.messages.append((peer_id, octets))
        if self.down is not None:
            raise EngineError("down")
        return self.reply

    async def add_account(self, peer_id: str) -> None:
        if self.down is not None:
            raise EngineError("down")
        self.accounts.add(peer_id)

    async def remove_account(self, peer_id: str) -> None:
        self.accounts.discard(peer_id)


class CrashingDatabase:
    """A `Database` in memory with a crash point before and after each piece of work."""

    def __init__(self, crash_points: CrashPoints) -> None:
        self._crash_points = crash_points
        self.path = Path("made-up.db")
        self.connection = sqlite3.connect(":memory:", isolation_level=None)
        self.connection.executescript(_SCHEMA)
        self.next_errors: list[sqlite3.Error | None] = []
        self.down: sqlite3.Error | None = None

    async def open(self, schema: str = "") -> None:
        await asyncio.sleep(0)

    def look(self, work: Callable[[sqlite3.Connection], T]) -> T:
        return work(self.connection)

    def is_removed(self) -> bool:
        return False

    async def rescue(self) -> None:
        raise AssertionError("it is never removed")

    waits_for_commits = False

    async def commit(self, work: Callable[[sqlite3.Connection], T], transfers: int) -> T:
        assert transfers >= 0, transfers
        return await self.run(work)

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        await self._crash_points.point()
        error = self.next_errors.pop(0) if self.next_errors else self.down
        if error is not None:
            raise error
        result = work(self.connection)
        await self._crash_points.point()
        return result

    async def close(self) -> None:
        """The data is kept, like that of a file."""


class DurableState:
    """State that survives the process."""

    def __init__(self) -> None:
        self.clock = SimulatedClock()
        self.crash_points = CrashPoints()
        self.ledger = CrashingLedger(self.crash_points, clock=self.clock)
        self.outbox = MemoryOutbox()
        self.file = CrashingDatabase(self.crash_points)
        self.engine = FakeSettlementEngine(self.crash_points)
        self.keys = (f"{number:032x}" for number in itertools.count(1))
        self.dice = random.Random(7)

    def lose_store(self) -> None:
        """`settlements.db` is lost, or the next process has another DATA_DIR."""
        self.file = CrashingDatabase(self.crash_points)


async def _never(_seconds: float) -> None:
    await asyncio.Event().wait()


class SettlementNode:
    """One process: a running `AccountManager` and `SettlementManager`.

    Entering raises an `EnvironmentFault` if the process could not start.
    """

    def __init__(
        self,
        durable: DurableState,
        terms: Iterable[PeerTerms] = (ALICE, BOB),
        *,
        by_hand: bool = False,
        scale: int | None = None,
        spool: int = 0,
        tick_s: float = 1.0,
        looks: bool = True,
    ) -> None:
        """`looks`: False: never at a balance by itself, however long a test on a real clock takes."""
        self.durable = durable
        self._tick_s = tick_s
        """Period of the account manager's timers; long for tests that wait for hours."""
        self.clock = durable.clock
        self.log = EventLog()
        self.events: list[Event] = []
        self.actions: list[tuple[str, ...]] = []
        """Of operators, as they are recorded."""
        self.touched: set[str] = set()
        self.terms = list(terms)
        self._outcomes: dict[object, asyncio.Future[Outcome]] = {}
        self.accounts = AccountManager(
            node_id="us",
            ledger=durable.ledger,
            clock=self.clock,
            ids=IdGenerator(random_bits=durable.dice.getrandbits),
            outbox=durable.outbox,
            spool_transfers_max=spool,
        )
        self.accounts.attach(self._told, lambda: None)
        store = SettlementStore(durable.file)
        self.store = store
        self.settlements = SettlementManager(
            accounts=self.accounts,
            store=store,
            clock=self.clock,
            log=self.log,
            emit=self.events.append,
            touch=self.touched.add,
            ask_peer=self._ask_peer,
            new_key=lambda: next(durable.keys),
            random=durable.dice.random,
            pause=asyncio.sleep if looks else _never,
        )
        for one in self.terms:
            engine = durable.engine if not by_hand and one.settle_threshold is not None else None
            self.settlements.use(one.peer_id, engine, scale)
        self.asked_peer: list[tuple[str, Prepare]] = []
        self.peer_answer: Fulfill | Reject = Fulfill(fulfillment=bytes(32), data=b"theirs")
        self._tasks: list[asyncio.Task[Any]] = []

    async def _ask_peer(self, peer_id: str, prepare: Prepare) -> Fulfill | Reject:
        self.asked_peer.append((peer_id, prepare))
        return self.peer_answer

    def _told(self, token: object, outcome: Outcome) -> None:
        future = self._outcomes.get(token)
        if future is not None and not future.done():
            future.set_result(outcome)

    async def __aenter__(self) -> Self:
        self._group = asyncio.TaskGroup()
        await self._group.__aenter__()
        try:
            await self.accounts.open(self.terms, [])
            self._tasks = [
                self._group.create_task(self.accounts.run()),
                self._group.create_task(self.accounts.reconnect()),
                self._group.create_task(self._tick()),
            ]
            await self.settlements.open()
        except EnvironmentFault:
            await self.__aexit__(None, None, None)
            raise
        self._tasks.append(self._group.create_task(self.settlements.run()))
        await asyncio.sleep(0)
        return self

    async def __aexit__(self, *error: object) -> None:
        """Kill the process: nothing in progress is finished."""
        for task in self._tasks:
            task.cancel()
        await self._group.__aexit__(*error)  # type: ignore[arg-type]

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(self._tick_s)
            self.accounts.tick()
            await self.accounts.expire()

    async def hold(
        self, amount: int, *, source: str = "alice", next_hop: str = "bob"
    ) -> Reservation | None:
        """Reserve a packet's money; None: refused."""
        packet_id = self.accounts.new_packet_id()
        peers = self.accounts.peers
        asked = Reserve(
            peers[source].terms, peers[next_hop].terms, amount, 0, amount, b"c" * 32, 20_000
        )
        future = self._outcomes[packet_id] = asyncio.get_running_loop().create_future()
        held = self.accounts.reserve(packet_id, packet_id, 0, asked)
        if isinstance(held, Outcome) or await future is not Outcome.HELD:
            return None
        return held

    async def owe(self, amount: int, *, source: str = "alice", next_hop: str = "bob") -> bool:
        """Fulfil a packet of this amount, so that we owe its next hop; False: refused."""
        held = await self.hold(amount, source=source, next_hop=next_hop)
        if held is None:
            return False
        await self.post(held)
        return True

    async def post(self, held: Reservation) -> None:
        """Fulfil a packet whose money is held."""
        token = ("post", held.packet_id)
        future = self._outcomes[token] = asyncio.get_running_loop().create_future()
        self.accounts.post(token, held, self.clock.now_ms() + 20_000)
        await future

    def net(self, peer_id: str = "bob") -> int:
        return self.accounts.peers[peer_id].net_balance

    def logged(self, event: str) -> int:
        return self.log.count(event)

    async def until(
        self, check: Callable[[], bool], seconds: float = 10_000.0, *, every_s: float = 0.25
    ) -> None:
        """Wait, in simulated time; `check` is called every `every_s` seconds."""
        async with asyncio.timeout(seconds):
            while not check():
                await asyncio.sleep(every_s)

    async def quiet(self) -> None:
        """Wait until nothing is in progress and nothing is due."""
        await self.until(
            lambda: not self.settlements._carrier.open and not self.settlements._busy, 20_000
        )
        await asyncio.sleep(65)  # longer than any decision is held off
        await self.until(
            lambda: not self.settlements._carrier.open and not self.settlements._busy, 20_000
        )

    def settled(self, peer_id: str = "bob") -> tuple[int, int]:
        """Amounts in the ledger paid to the peer, and paid by it."""
        book = self.accounts.peers[peer_id].settlement
        account = self.durable.ledger.machine.accounts[book.account_id].snapshot()
        return account.credits_posted, account.debits_posted


def settlement_transfers(durable: DurableState) -> list[int]:
    """Amounts of the settlements in the ledger."""
    return [
        transfer.amount
        for transfer, status in durable.ledger.machine.records()
        if transfer.code == TransferCode.SETTLEMENT and status.name == "CREATED"
    ]


__all__ = [
    "ALICE",
    "BOB",
    "USD",
    "CrashPoints",
    "CrashingDatabase",
    "DurableState",
    "EngineFault",
    "FakeSettlementEngine",
    "SettlementNode",
    "settlement_transfers",
]  # fmt: skip
