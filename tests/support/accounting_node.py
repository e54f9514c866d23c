"""A running `AccountManager` with its timers, on a ledger and an outbox with scripted faults."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import Iterable
from typing import Any, Final, Self

from connector.accounting import bounds as accounting_bounds
from connector.accounting.entries import Reserve
from connector.accounting.leaseholder import LeaseTerms
from connector.accounting.manager import AccountManager, State
from connector.accounting.mirror import PeerBooks
from connector.accounting.promises import Outcome, Reservation
from connector.accounting.resent import Recovered
from connector.ledger.model import (
    AccountCode,
    IdGenerator,
)
from connector.peering.model import LOCAL, Asset, PeerTerms
from tests.support.accounts import Fault, MemoryOutbox, ScriptedLedger, books_at_rest
from tests.support.clocks import SimulatedClock

USD = Asset("USD", 9)
EUR = Asset("EUR", 2)
ALICE = PeerTerms(peer_id="alice", asset=USD, credit_limit=1000)
BOB = PeerTerms(peer_id="bob", asset=USD, credit_limit=1000)
CAROL = PeerTerms(peer_id="carol", asset=EUR, credit_limit=1000)
WE = PeerTerms(peer_id=LOCAL, asset=USD)
CONDITION = hashlib.sha256(b"p" * 32).digest()
OTHER_CONDITION = hashlib.sha256(b"q" * 32).digest()
HOLD_MS = 20_000


TICK_SECONDS: Final = 0.02


class AccountingNode:
    """One process: a running `AccountManager`. Its ledger and outbox can be passed to the next one."""

    def __init__(
        self,
        terms: Iterable[PeerTerms] = (ALICE, BOB, CAROL),
        *,
        ledger: ScriptedLedger | None = None,
        outbox: MemoryOutbox | None = None,
        spool: int = 0,
        history: bool = False,
        accept_loss: bool = False,
        early: bool = False,
        process: int = 0,
        takes_over: bool = False,
    ) -> None:
        """A process that does not run yet.

        `early`: Fulfills that could be fetched again are relayed when they are on disk. `process`: takes
        part in the lease of the node under this name; zero: there is none.
        """
        self.superseded = asyncio.Event()
        self.spool = spool
        self.clock = SimulatedClock()
        self.ledger = ledger or ScriptedLedger(clock=self.clock)
        self.outbox = outbox or MemoryOutbox()
        self.terms = list(terms)
        self.outcomes: dict[object, Outcome] = {}
        self.order: list[object] = []
        self.states: list[State] = []
        self.alerts: list[str] = []
        self.told: list[tuple[str, dict[str, object]]] = []
        """The same with their fields."""
        self.turns = 0
        self._told = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self.manager = AccountManager(
            node_id="us",
            ledger=self.ledger,
            clock=self.clock,
            ids=IdGenerator(random_bits=random.Random(len(self.ledger.requests)).getrandbits),
            outbox=self.outbox,
            on_state=lambda state, _why: self.states.append(state),
            on_alert=self._alerted,
            spool_transfers_max=spool,
            keeps_history=history,
            accept_ledger_loss=accept_loss,
            relays_early=early,
            lease=LeaseTerms(
                process=process,
                memory=self.outbox,
                takes_over=takes_over,
                on_superseded=lambda _why: self.superseded.set(),
            )
            if process
            else None,
        )
        self.manager.attach(self._tell, self._turn)

    def _tell(self, token: object, outcome: Outcome) -> None:
        assert token not in self.outcomes or self.outcomes[token] is Outcome.HELD
        self.outcomes[token] = outcome
        self.order.append((token, outcome))
        self._told.set()

    def _alerted(self, event: str, fields: dict[str, object]) -> None:
        self.alerts.append(event)
        self.told.append((event, fields))

    def _turn(self) -> None:
        self.turns += 1

    async def open(self) -> Self:
        await self.manager.open(self.terms, [])
        return self

    async def __aenter__(self) -> Self:
        await self.open()
        self._group = asyncio.TaskGroup()
        await self._group.__aenter__()
        self._tasks = [
            self._group.create_task(self.manager.run()),
            self._group.create_task(self.manager.reconnect()),
            self._group.create_task(self._keep_ticking()),
            self._group.create_task(self._keep_lease()),
        ]
        await asyncio.sleep(0)
        return self

    async def __aexit__(self, *error: object) -> None:
        for task in self._tasks:
            task.cancel()
        await self._group.__aexit__(*error)  # type: ignore[arg-type]

    async def _keep_ticking(self) -> None:
        # Without a task that wakes up each time: there are 3,000 ticks in a minute.
        loop = asyncio.get_running_loop()
        failed: asyncio.Future[None] = loop.create_future()

        def tick() -> None:
            nonlocal timer
            try:
                self.manager.tick()
            except BaseException as error:  # noqa: BLE001 - it fails the test
                failed.set_exception(error)
            else:
                timer = loop.call_later(TICK_SECONDS, tick)

        timer = loop.call_later(TICK_SECONDS, tick)
        try:
            await failed
        finally:
            timer.cancel()

    async def _keep_lease(self) -> None:
        while True:
            await asyncio.sleep(accounting_bounds.LEASE_LOOK_SECONDS)
            await self.manager.keep_lease()

    async def outcome(self, token: object, *, other_than: Outcome | None = None) -> Outcome:
        """Wait for the outcome of a token."""
        while self.outcomes.get(token) in (None, other_than):
            self._told.clear()
            await self._told.wait()
        return self.outcomes[token]

    def reserve(
        self,
        token: object,
        amount: int = 100,
        *,
        source: PeerTerms = ALICE,
        next_hop: PeerTerms = BOB,
        fee: int = 0,
        amount_out: int | None = None,
        sender_id: int = 0,
        hold_ms: int = HOLD_MS,
        packet_id: int | None = None,
    ) -> Reservation | Outcome:
        out = amount - fee if amount_out is None else amount_out
        asked = Reserve(source, next_hop, amount, fee, out, CONDITION, hold_ms)
        id_ = self.manager.new_packet_id() if packet_id is None else packet_id
        return self.manager.reserve(token, id_, sender_id, asked)

    async def hold(self, token: object, amount: int = 100, **options: Any) -> Reservation:
        reservation = self.reserve(token, amount, **options)
        assert isinstance(reservation, Reservation)
        assert await self.outcome(token) is Outcome.HELD
        return reservation

    def post(self, token: object, reservation: Reservation, *, left_ms: int = HOLD_MS) -> None:
        self.manager.post(token, reservation, self.clock.now_ms() + left_ms)

    async def pay(self, token: object, amount: int = 100, **options: Any) -> Reservation:
        reservation = await self.hold(token, amount, **options)
        self.post(token, reservation)
        assert await self.outcome(token, other_than=Outcome.HELD) is Outcome.POSTED
        return reservation

    async def stop(self) -> None:
        """Stop cleanly, like a daemon: everything queued is written first."""
        self.manager.stop()
        await asyncio.gather(*self._tasks[:2])
        await self.manager.save_clean_stop()
        await self.__aexit__(None, None, None)

    async def idle(self) -> None:
        """Wait until everything is written, and one tick longer."""
        while self.manager.queue_depth() or self.manager.state is State.SPOOLING:
            await asyncio.sleep(0.02)
        await asyncio.sleep(0.1)

    async def rest(self) -> list[str]:
        """Wait until all holds have expired; returns the invariants that are broken then."""
        await asyncio.sleep((HOLD_MS + accounting_bounds.PENDING_GRACE_MS) / 1000 + 2)
        await self.manager.expire()
        await asyncio.sleep(0.1)
        await self.manager.take_back_credit()
        return await books_at_rest(self.manager)

    def net(self, peer_id: str) -> int:
        return self.manager.peers[peer_id].net_balance

    def own(self, code: AccountCode, asset: Asset = USD) -> int:
        """Debits less credits of one of the node's own accounts."""
        book = self.manager.own_book(code, asset)
        assert book is not None
        return book.debits_posted - book.credits_posted

    def codes(self) -> list[list[int]]:
        """The codes of the transfers of each request."""
        return [[transfer.code for transfer in request] for request in self.ledger.requests]


async def expired(node: AccountingNode, **options: Any) -> Reservation:
    """A reservation that has expired in the ledger."""
    reservation = await node.hold("late", hold_ms=1000, **options)
    await asyncio.sleep(12)
    return reservation


async def corrected(node: AccountingNode) -> PeerBooks:
    """Alice, after a correction has granted her 100 more than agreed."""
    reservation = await expired(node)
    node.post("late", reservation)
    assert await node.outcome("late", other_than=Outcome.HELD) is Outcome.POSTED
    assert node.manager.peers["alice"].granted == 1100
    return node.manager.peers["alice"]


def away(node: AccountingNode) -> AccountingNode:
    node.ledger.may_be_away = True
    node.ledger.is_open = False
    node.ledger.down = Fault.REFUSED
    return node


async def pair() -> tuple[AccountingNode, AccountingNode]:
    """Two processes with the accounts of one node."""
    one = AccountingNode()
    two = AccountingNode(ledger=one.ledger)
    two.manager._ids = IdGenerator(random_bits=random.Random(77).getrandbits)
    one.ledger.one_at_a_time = False
    one.ledger.may_be_away = True
    return one, two


def taken(node: AccountingNode, sender_id: int, condition: bytes = CONDITION) -> Recovered | None:
    return node.manager.take_recovered("alice", sender_id, condition)


def node_on_cluster(**options: Any) -> AccountingNode:
    """A node whose ledger may be away and is shared, like a cluster."""
    node = AccountingNode(**options)
    node.ledger.may_be_away = True
    return node
