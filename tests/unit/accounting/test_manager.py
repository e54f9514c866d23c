"""The one who writes the books: in which requests, under which limits, and what a failure leaves."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import replace
from functools import wraps
from typing import Any, Self

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connector.accounting import bounds as accounting_bounds
from connector.accounting.entries import Reserve, resolutions
from connector.accounting.manager import AccountManager, State
from connector.accounting.mirror import PeerBooks
from connector.accounting.promises import Outcome, Reservation
from connector.accounting.resent import Recovered
from connector.base import limits
from connector.base.errors import (
    ConnectorError,
    CreditInUseError,
    LedgerRefusedError,
    LedgerUnavailableError,
)
from connector.ledger.model import (
    ACCOUNT_DEBITS_MUST_NOT_EXCEED_CREDITS,
    ACCOUNT_HISTORY,
    PHASE_CORRECT,
    PHASE_RESOLVE,
    POST,
    VOID,
    AccountCode,
    IdGenerator,
    Status,
    Transfer,
    TransferCode,
)
from connector.peering.model import LOCAL, Asset, PeerTerms
from tests.support.accounts import Fault, MemoryOutbox, ScriptedLedger, books_at_rest
from tests.support.clocks import SimulatedClock, simulate

USD = Asset("USD", 9)
EUR = Asset("EUR", 2)
ALICE = PeerTerms(peer_id="alice", asset=USD, credit_limit=1000)
BOB = PeerTerms(peer_id="bob", asset=USD, credit_limit=1000)
CAROL = PeerTerms(peer_id="carol", asset=EUR, credit_limit=1000)
WE = PeerTerms(peer_id=LOCAL, asset=USD)
CONDITION = hashlib.sha256(b"p" * 32).digest()
OTHER_CONDITION = hashlib.sha256(b"q" * 32).digest()
HOLD_MS = 20_000


def simulated(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run a test in simulated time."""

    @wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        simulate(test(*args, **kwargs))

    return run


class Bank:
    """A manager at work, on a ledger and an outbox that outlive it."""

    def __init__(
        self,
        terms: Iterable[PeerTerms] = (ALICE, BOB, CAROL),
        *,
        ledger: ScriptedLedger | None = None,
        outbox: MemoryOutbox | None = None,
        spool: int = 0,
        history: bool = False,
    ) -> None:
        self.spool = spool
        self.clock = SimulatedClock()
        self.ledger = ledger or ScriptedLedger(clock=self.clock)
        self.outbox = outbox or MemoryOutbox()
        self.terms = list(terms)
        self.outcomes: dict[object, Outcome] = {}
        self.order: list[object] = []
        self.states: list[State] = []
        self.alerts: list[str] = []
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
            on_alert=lambda event, _fields: self.alerts.append(event),
            spool_transfers_max=spool,
            keeps_history=history,
        )
        self.manager.attach(self._tell, self._turn)

    def _tell(self, token: object, outcome: Outcome) -> None:
        assert token not in self.outcomes or self.outcomes[token] is Outcome.HELD
        self.outcomes[token] = outcome
        self.order.append((token, outcome))
        self._told.set()

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
            self._group.create_task(self.manager.attend()),
            self._group.create_task(self._tick()),
        ]
        await asyncio.sleep(0)
        return self

    async def __aexit__(self, *error: object) -> None:
        for task in self._tasks:
            task.cancel()
        await self._group.__aexit__(*error)  # type: ignore[arg-type]

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(0.02)
            self.manager.tick()
            await self.manager.release_late()

    async def outcome(self, token: object, *, other_than: Outcome | None = None) -> Outcome:
        """What became of it, as soon as it is told."""
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
        """As a daemon stops: everything queued is written first."""
        self.manager.stop()
        await asyncio.gather(*self._tasks[:2])
        await self.manager.stopped()
        await self.__aexit__(None, None, None)

    async def idle(self) -> None:
        """Wait until everything is written, and one tick longer."""
        while self.manager.queue_depth() or self.manager.state is State.SPOOLING:
            await asyncio.sleep(0.02)
        await asyncio.sleep(0.1)

    async def rest(self) -> list[str]:
        """Wait until all that is held must have expired; which invariants are broken then."""
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
        """Of the transfers of each request."""
        return [[transfer.code for transfer in request] for request in self.ledger.requests]


# --- opening


@simulated
async def test_a_new_node_has_accounts_and_its_peers_have_their_credit() -> None:
    bank = await Bank().open()
    assert bank.states == [State.AVAILABLE]
    assert bank.manager.state is State.AVAILABLE
    assert {peer_id: one.granted for peer_id, one in bank.manager.peers.items()} == {
        "alice": 1000,
        "bob": 1000,
        "carol": 1000,
    }
    assert len(list(bank.manager.books())) == 3 * 3 + 2 * 3
    assert bank.net("alice") == 0  # credit that was granted is not debt
    assert bank.manager.own_book(AccountCode.WALLET, Asset("XRP", 6)) is None
    assert await books_at_rest(bank.manager) == []
    await bank.manager.close()


@simulated
async def test_accounts_are_created_and_read_in_requests_that_the_ledger_takes() -> None:
    bank = Bank()
    bank.ledger.batch_transfers_max = 4
    await bank.open()
    assert await books_at_rest(bank.manager) == []


@simulated
async def test_an_account_that_cannot_be_created_stops_the_start() -> None:
    bank = await Bank().open()
    state = bank.ledger.machine.accounts[bank.manager.peers["alice"].peer.account_id]
    state.flags = 0
    with pytest.raises(ConnectorError, match="EXISTS_WITH_DIFFERENT_FLAGS"):
        await Bank(ledger=bank.ledger).open()


@simulated
async def test_accounts_of_peers_keep_their_history_when_it_is_wanted() -> None:
    bank = await Bank(history=True).open()
    flags = {
        (book.code, bank.ledger.machine.accounts[book.account_id].flags)
        for book in bank.manager.books()
    }
    assert flags == {
        (AccountCode.PEER, ACCOUNT_HISTORY | ACCOUNT_DEBITS_MUST_NOT_EXCEED_CREDITS),
        (AccountCode.CREDIT_LINE, ACCOUNT_HISTORY),
        *((code, 0) for code in AccountCode if code > AccountCode.CREDIT_LINE),
    }


@pytest.mark.parametrize("at_first", [False, True])
@simulated
async def test_accounts_keep_what_they_were_made_to_keep(at_first: bool) -> None:
    """Flags cannot be changed; a setting that was changed is no ground to refuse to start."""
    bank = await Bank([ALICE], history=at_first).open()
    alice = bank.manager.peers["alice"]
    again = await Bank([ALICE, BOB], ledger=bank.ledger, history=not at_first).open()
    assert again.manager.state is State.AVAILABLE
    accounts = bank.ledger.machine.accounts
    for books, kept in ((alice, at_first), (again.manager.peers["bob"], not at_first)):
        for book in (books.peer, books.credit_line):
            assert bool(accounts[book.account_id].flags & ACCOUNT_HISTORY) is kept
    assert await books_at_rest(again.manager) == []


@pytest.mark.parametrize("field", ["code", "ledger", "user_data_128", "user_data_64", "flags"])
@simulated
async def test_an_account_that_differs_in_more_than_its_history_stops_the_start(field: str) -> None:
    """The ledger names the flags first, and nothing behind them."""
    bank = await Bank(history=True).open()
    state = bank.ledger.machine.accounts[bank.manager.peers["bob"].credit_line.account_id]
    setattr(state, field, getattr(state, field) ^ 2)
    with pytest.raises(ConnectorError, match="EXISTS_WITH_DIFFERENT_FLAGS"):
        await Bank(ledger=bank.ledger).open()


@simulated
async def test_who_only_looks_waits_for_its_turn() -> None:
    async with Bank() as bank:
        bank.ledger.gate.clear()
        held = bank.reserve("one")
        assert isinstance(held, Reservation)
        await asyncio.sleep(0.01)
        asked: list[bool] = []

        async def ask() -> str:
            asked.append(bank.ledger.gate.is_set())
            return "seen"

        looking = asyncio.ensure_future(bank.manager.in_turn(ask))
        await asyncio.sleep(0.01)
        assert asked == []
        bank.ledger.gate.set()
        assert await looking == "seen"
        assert asked == [True]
        assert await bank.outcome("one") is Outcome.HELD


@simulated
async def test_nobody_looks_while_the_ledger_is_away() -> None:
    async with Bank() as bank:
        bank.ledger.down = Fault.REFUSED
        bank.reserve("one")
        assert await bank.outcome("one") is Outcome.UNAVAILABLE

        async def ask() -> None:
            raise AssertionError

        with pytest.raises(LedgerUnavailableError, match="away"):
            await bank.manager.in_turn(ask)


@pytest.mark.interpreted
@simulated
async def test_two_assets_under_one_number_stop_the_start() -> None:
    bank = Bank()
    with pytest.MonkeyPatch.context() as patch:
        for module in ("mirror", "chart"):
            patch.setattr(f"connector.accounting.{module}.asset_ledger", lambda _code, _scale: 7)
        with pytest.raises(ConnectorError, match="share"):
            await bank.open()


# --- credit limits


@simulated
async def test_a_changed_limit_transfers_the_difference() -> None:
    bank = await Bank().open()
    for limit in (1500, 1500, 200, 0):
        await bank.manager.set_credit_limit("alice", limit)
        assert bank.manager.peers["alice"].granted == limit
        assert bank.manager.peers["alice"].available_credit == limit
        assert bank.net("alice") == 0
    assert [request[0].amount for request in bank.ledger.requests[-3:]] == [500, 1300, 200]


@simulated
async def test_credit_in_use_cannot_be_taken_away() -> None:
    async with Bank() as bank:
        await bank.pay("a", 300)
        await bank.hold("b", 100)
        with pytest.raises(CreditInUseError, match="alice uses 400 of its credit of 1000"):
            await bank.manager.set_credit_limit("alice", 399)
        await bank.manager.set_credit_limit("alice", 400)
        assert bank.manager.peers["alice"].available_credit == 0


@simulated
async def test_at_the_start_a_limit_is_lowered_as_far_as_it_can_be() -> None:
    async with Bank() as bank:
        await bank.pay("a", 300)
    again = await Bank([replace(ALICE, credit_limit=100), BOB, CAROL], ledger=bank.ledger).open()
    assert again.alerts == ["credit_limit_in_use"]
    assert again.manager.peers["alice"].granted == 300
    assert again.manager.peers["alice"].available_credit == 0


@simulated
async def test_what_is_granted_beyond_a_limit_is_taken_back_as_the_peer_pays() -> None:
    async with Bank() as bank:
        await bank.pay("a", 300)
    lower = [replace(ALICE, credit_limit=100), BOB, CAROL]
    async with Bank(lower, ledger=bank.ledger) as again:
        alice = again.manager.peers["alice"]
        for paid, granted, available in ((50, 250, 0), (130, 120, 0), (70, 100, 50), (20, 100, 70)):
            await again.pay(paid, paid, source=BOB, next_hop=ALICE)
            await again.manager.take_back_credit()
            assert (alice.granted, alice.available_credit) == (granted, available)
        asked = len(again.ledger.requests)
        await again.manager.take_back_credit()
        assert len(again.ledger.requests) == asked
        assert await again.rest() == []


@simulated
async def test_a_limit_that_is_raised_is_not_lowered_again() -> None:
    async with Bank() as bank:
        alice = await corrected(bank)
        await bank.manager.set_credit_limit("alice", 2000)
        alice.terms = replace(ALICE, credit_limit=2000)
        await bank.manager.take_back_credit()
        assert alice.granted == 2000
        assert await bank.rest() == []


@simulated
async def test_credit_is_taken_back_once_whatever_the_ledger_answers() -> None:
    async with Bank() as bank:
        alice = await corrected(bank)
        # Refused: packets have used it meanwhile, and the mirror does not know.
        state = bank.ledger.machine.accounts[alice.peer.account_id]
        state.debits_pending += 1000
        await bank.manager.take_back_credit()
        assert alice.granted == 1100
        state.debits_pending -= 1000
        # No answer: it may have been done.
        bank.ledger.down = Fault.LOST
        await bank.manager.take_back_credit()
        bank.ledger.down = None
        asked = len(bank.ledger.requests)
        await bank.manager.take_back_credit()
        assert len(bank.ledger.requests) == asked
        assert alice.granted == 1100
    # An id that the ledger has refused stays refused, until the balances are others.
    async with Bank(ledger=bank.ledger) as again:
        assert again.alerts == ["credit_limit_in_use"]
        assert again.manager.peers["alice"].granted == 1100
        await again.pay("more")
        assert await again.rest() == []
        assert again.manager.peers["alice"].granted == 1000


@simulated
async def test_nothing_is_taken_back_of_a_peer_that_was_removed() -> None:
    async with Bank() as bank:
        await corrected(bank)
        bank.manager.remove_peer("alice")
        asked = len(bank.ledger.requests)
        await bank.manager.take_back_credit()
        assert len(bank.ledger.requests) == asked


# --- a packet


@simulated
async def test_money_is_held_then_posted() -> None:
    async with Bank() as bank:
        reservation = await bank.hold("a")
        alice, bob = bank.manager.peers["alice"], bank.manager.peers["bob"]
        assert (alice.available_credit, alice.net_balance, bob.payable) == (900, 0, 100)
        bank.post("a", reservation)
        assert await bank.outcome("a", other_than=Outcome.HELD) is Outcome.POSTED
        assert (alice.net_balance, alice.debit_balance, alice.credit_balance) == (100, 100, 0)
        assert (bob.net_balance, bob.debit_balance, bob.credit_balance) == (-100, 0, 100)
        assert bob.available_credit == 1100
        assert await bank.rest() == []


@simulated
async def test_money_that_is_given_back_is_as_it_was() -> None:
    async with Bank() as bank:
        reservation = await bank.hold("a", fee=3)
        bank.manager.void(reservation)
        await bank.idle()
        assert bank.manager.peers["alice"].available_credit == 1000
        assert await books_at_rest(bank.manager) == []  # at once: it did not wait for a timeout
        assert bank.alerts == []


@simulated
async def test_the_ledger_is_told_whose_packet_it_is_and_how_long() -> None:
    async with Bank() as bank:
        await bank.hold("a", sender_id=2**127 + 5, hold_ms=20_001)
        ((leg,),) = bank.ledger.requests[3:]
        assert leg.user_data_128 == 2**127 + 5
        assert leg.user_data_64 << 32 | leg.user_data_32 == int.from_bytes(CONDITION[:12], "big")
        assert leg.timeout == 31  # 20.001 s and ten of grace, rounded up


@simulated
async def test_a_fee_is_a_leg_of_its_own() -> None:
    async with Bank() as bank:
        reservation = await bank.pay("a", 100, fee=3)
        assert [leg.code for leg in reservation.legs] == [TransferCode.PACKET, TransferCode.FEE]
        assert (bank.net("alice"), bank.net("bob")) == (100, -97)
        assert bank.own(AccountCode.REVENUE) == -3
        assert await bank.rest() == []


@pytest.mark.parametrize("fee", [0, 10])
@simulated
async def test_a_change_of_asset_goes_by_way_of_the_exchange(fee: int) -> None:
    async with Bank() as bank:
        reservation = await bank.pay("a", 100, next_hop=CAROL, fee=fee, amount_out=45)
        fees = [TransferCode.FEE] if fee else []
        assert [leg.code for leg in reservation.legs] == [
            TransferCode.EXCHANGE_IN, *fees, TransferCode.EXCHANGE_OUT,
        ]  # fmt: skip
        assert (bank.net("alice"), bank.net("carol")) == (100, -45)
        assert bank.own(AccountCode.EXCHANGE, USD) == -(100 - fee)
        assert bank.own(AccountCode.EXCHANGE, EUR) == 45
        assert bank.own(AccountCode.REVENUE, USD) == -fee
        assert await bank.rest() == []


@simulated
async def test_packets_to_and_from_this_node_go_through_its_wallet() -> None:
    async with Bank() as bank:
        await bank.pay("in", 100, next_hop=WE)
        assert bank.own(AccountCode.WALLET) == -100
        await bank.pay("out", 30, source=WE)
        assert (bank.own(AccountCode.WALLET), bank.net("alice"), bank.net("bob")) == (-70, 100, -30)
        await bank.pay("there", 10, next_hop=replace(WE, asset=EUR), source=CAROL)
        assert bank.own(AccountCode.WALLET, EUR) == -10
        assert await bank.rest() == []


@pytest.mark.parametrize(("who", "fee"), [(ALICE, 0), (ALICE, 3), (WE, 0)])
@simulated
async def test_what_goes_back_to_where_it_came_from_is_booked_too(who: PeerTerms, fee: int) -> None:
    async with Bank() as bank:
        await bank.pay("a", 100, source=who, next_hop=who, fee=fee)
        assert bank.own(AccountCode.EXCHANGE) == 0
        assert bank.own(AccountCode.REVENUE) == -fee
        assert bank.net("alice") == fee
        assert bank.alerts == []
        assert await bank.rest() == []


# --- limits


@simulated
async def test_credit_ends_on_the_line() -> None:
    async with Bank() as bank:
        held = [await bank.hold("a", 600)]
        bank.reserve("over", 401)
        assert await bank.outcome("over") is Outcome.NO_CREDIT
        held.append(await bank.hold("b", 400))
        bank.reserve("one more", 1)
        assert await bank.outcome("one more") is Outcome.NO_CREDIT
        assert bank.alerts == []
        for reservation in held:
            bank.manager.void(reservation)
        assert await bank.rest() == []


@simulated
async def test_the_fee_counts_against_the_credit_as_well() -> None:
    """A chain is all or nothing."""
    async with Bank() as bank:
        bank.reserve("over", 1001, fee=2)
        assert await bank.outcome("over") is Outcome.NO_CREDIT
        await bank.hold("all", 1000, fee=2)


@simulated
async def test_what_we_may_owe_ends_on_the_line() -> None:
    """Defect 1: the outgoing side is checked before anything is promised."""
    bob = replace(BOB, max_payable=100)
    async with Bank([ALICE, bob, CAROL]) as bank:
        await bank.pay("a", 60, next_hop=bob)
        assert bank.reserve("over", 41, next_hop=bob) is Outcome.NO_PAYABLE
        held = await bank.hold("b", 40, next_hop=bob)
        assert bank.reserve("one more", 1, next_hop=bob) is Outcome.NO_PAYABLE
        bank.manager.void(held)
        await bank.hold("c", 40, next_hop=bob)
        assert "over" not in bank.outcomes  # refused at once, nobody waits


@pytest.mark.interpreted
@simulated
async def test_a_full_queue_takes_no_more() -> None:
    async with Bank() as bank:
        bank.ledger.gate.clear()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(accounting_bounds, "LEDGER_QUEUE_RESERVATIONS_MAX", 3)
            bank.reserve("first", 1)
            await asyncio.sleep(0)  # it is in a request now, not in the queue
            queued = [bank.reserve(number, 1) for number in range(4)]
        assert [one is Outcome.BUSY for one in queued] == [False, False, False, True]
        assert bank.manager.queue_depth() == 3
        bank.ledger.gate.set()
        assert await bank.outcome(2) is Outcome.HELD


@simulated
async def test_a_resolution_is_never_refused_for_want_of_room() -> None:
    async with Bank() as bank:
        held = [await bank.hold(number, 1) for number in range(5)]
        bank.ledger.gate.clear()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(accounting_bounds, "LEDGER_QUEUE_RESERVATIONS_MAX", 0)
            for number, reservation in enumerate(held):
                bank.post(number, reservation)
            bank.ledger.gate.set()
            for number in range(5):
                assert await bank.outcome(number, other_than=Outcome.HELD) is Outcome.POSTED


@simulated
async def test_a_reservation_that_the_ledger_cannot_explain_is_refused_and_told() -> None:
    async with Bank() as bank:
        first = await bank.hold("a", 1)
        bank.reserve("b", 2, packet_id=first.packet_id)
        assert await bank.outcome("b") is Outcome.UNAVAILABLE
        assert bank.alerts == ["accounting_refused"]
        assert bank.manager.counters.refused_unexpectedly == 1
        assert await bank.rest() != []  # the test's own doing: two packets under one id


# --- requests


@simulated
async def test_what_gathers_during_a_request_goes_into_the_next_one_posts_first() -> None:
    async with Bank() as bank:
        one, two = await bank.hold("a", 1), await bank.hold("b", 1)
        bank.ledger.requests.clear()
        bank.ledger.gate.clear()
        bank.reserve("c", 1)
        await asyncio.sleep(0)
        bank.reserve("d", 1)
        bank.post("a", one)
        bank.reserve("e", 1)
        bank.manager.void(two)
        bank.ledger.gate.set()
        await bank.outcome("e")
        first, second = bank.ledger.requests
        assert len(first) == 1
        assert [transfer.flags & (POST | VOID) for transfer in second] == [POST, VOID, 0, 0]
        assert [token for token, _ in bank.order[2:]] == ["c", "a", "d", "e"]
        assert bank.manager.counters.requests == 4
        assert bank.manager.counters.events == 7


@simulated
async def test_an_idle_ledger_is_asked_at_once() -> None:
    async with Bank() as bank:
        bank.reserve("a", 1)
        began_s = bank.clock.monotonic_s()
        await bank.outcome("a")
        assert bank.clock.monotonic_s() == began_s


@simulated
async def test_the_legs_of_a_packet_are_never_apart() -> None:
    async with Bank() as bank:
        bank.ledger.batch_transfers_max = 5
        bank.ledger.requests.clear()
        for number in range(4):
            bank.reserve(number, 10, fee=1)
        await bank.outcome(3)
        assert [len(request) for request in bank.ledger.requests] == [4, 4]
        assert all(not request[-1].flags & 1 for request in bank.ledger.requests)


@simulated
async def test_waiters_are_told_then_the_turn_ends_once() -> None:
    async with Bank() as bank:
        bank.turns = 0
        for number in range(10):
            bank.reserve(number, 1)
        await bank.outcome(9)
        assert bank.turns == 1


@simulated
async def test_stopping_writes_everything_that_is_queued() -> None:
    async with Bank() as bank:
        bank.ledger.latency_s = 0.1
        for number in range(3):
            bank.reserve(number, 1)
        bank.manager.stop()
        await bank._tasks[0]
        assert [bank.outcomes[number] for number in range(3)] == [Outcome.HELD] * 3
        assert bank.manager.queue_depth() == 0


@simulated
async def test_an_idle_manager_stops_at_once() -> None:
    async with Bank() as bank:
        bank.manager.stop()
        await bank._tasks[0]


# --- a ledger that fails


@pytest.mark.parametrize("fault", list(Fault))
@simulated
async def test_a_reservation_without_acknowledgement_is_refused_and_given_back(
    fault: Fault,
) -> None:
    async with Bank() as bank:
        bank.ledger.next_faults = [fault]
        bank.reserve("a", 100, fee=3)
        assert await bank.outcome("a") is Outcome.UNAVAILABLE
        assert bank.states[-1] is State.REJECTING
        assert bank.manager.state_reason
        assert bank.reserve("b", 1) is Outcome.UNAVAILABLE
        assert bank.manager.peers["alice"].available_credit == 1000
        await bank.idle()
        assert bank.states[-1] is State.AVAILABLE
        assert await books_at_rest(bank.manager) == []
        assert bank.alerts == []
        await bank.pay("c", 1000)


@pytest.mark.parametrize("fault", list(Fault))
@simulated
async def test_giving_back_is_tried_until_it_is_acknowledged(fault: Fault) -> None:
    async with Bank() as bank:
        bank.ledger.next_faults = [fault, Fault.LOST, Fault.REFUSED, Fault.LOST]
        bank.reserve("a", 100)
        await bank.outcome("a")
        await bank.idle()
        assert bank.states == [State.AVAILABLE, State.REJECTING, State.AVAILABLE]
        assert await books_at_rest(bank.manager) == []
        assert bank.alerts == []


@pytest.mark.parametrize("fault", list(Fault))
@pytest.mark.parametrize("fee", [0, 3])
@simulated
async def test_a_post_without_acknowledgement_is_the_same_post_again(
    fault: Fault, fee: int
) -> None:
    async with Bank() as bank:
        reservation = await bank.hold("a", 100, fee=fee)
        bank.ledger.next_faults = [fault]
        bank.ledger.requests.clear()
        bank.post("a", reservation)
        assert await bank.outcome("a", other_than=Outcome.HELD) in (
            Outcome.POSTED,
            Outcome.RELEASED,
        )
        await bank.idle()
        first, second = bank.ledger.requests
        assert first == second
        assert bank.net("alice") == 100
        assert bank.outbox.requests == {}
        assert await bank.rest() == []


@simulated
async def test_what_is_tried_again_keeps_its_order() -> None:
    async with Bank() as bank:
        held = [await bank.hold(number, 1) for number in range(3)]
        bank.ledger.requests.clear()
        bank.ledger.next_faults = [Fault.REFUSED]
        for number, reservation in enumerate(held):
            bank.post(number, reservation)
        await bank.idle()
        first, again = bank.ledger.requests
        assert len(first) == 3
        assert again == first


@simulated
async def test_what_waits_behind_a_failed_request_is_refused_too() -> None:
    async with Bank() as bank:
        bank.ledger.next_faults = [Fault.REFUSED]
        bank.ledger.gate.clear()
        bank.reserve("a", 1)
        await asyncio.sleep(0)
        bank.reserve("b", 1)
        bank.ledger.gate.set()
        assert await bank.outcome("b") is Outcome.UNAVAILABLE
        await bank.idle()
        assert await books_at_rest(bank.manager) == []


@simulated
async def test_a_ledger_that_hangs_is_noticed_and_taken_back_into_use() -> None:
    async with Bank() as bank:
        bank.ledger.gate.clear()
        bank.reserve("a", 1)
        await asyncio.sleep(0)
        bank.reserve("b", 1)
        await asyncio.sleep(0.99)
        assert bank.manager.state is State.AVAILABLE
        await asyncio.sleep(0.1)
        assert bank.manager.state is State.REJECTING
        assert bank.manager.state_reason == "no answer for 1000 ms"
        assert bank.outcomes == {"b": Outcome.UNAVAILABLE}
        bank.ledger.gate.set()
        assert await bank.outcome("a") is Outcome.HELD
        await bank.idle()
        assert bank.manager.state is State.AVAILABLE


@simulated
async def test_expiry_is_asked_for_while_nothing_else_is() -> None:
    async with Bank() as bank:
        await bank.hold("a", 100, hold_ms=1000)
        await asyncio.sleep(12)
        peer = bank.manager.peers["alice"].peer.account_id
        assert bank.ledger.machine.accounts[peer].debits_pending == 100
        await bank.manager.expire()
        assert bank.ledger.machine.accounts[peer].debits_pending == 0


@simulated
async def test_an_idle_node_notices_a_ledger_that_is_away_and_one_that_is_back() -> None:
    async with Bank() as bank:
        bank.ledger.down = Fault.REFUSED
        await bank.manager.expire()
        assert bank.states[-1] is State.REJECTING
        bank.ledger.down = None
        await bank.manager.expire()
        assert bank.states[-1] is State.AVAILABLE
        await bank.manager.expire()
        assert len(bank.states) == 3


@simulated
async def test_a_busy_ledger_is_not_asked_for_expiry() -> None:
    """It looks at its timeouts with every request; and there is one request at a time."""
    async with Bank() as bank:
        bank.ledger.gate.clear()
        bank.reserve("a", 1)
        await asyncio.sleep(0)
        await bank.manager.expire()
        bank.ledger.gate.set()
        await bank.outcome("a")


@simulated
async def test_expiry_and_the_writer_take_turns() -> None:
    async with Bank() as bank:
        bank.ledger.latency_s = 0.1
        async with asyncio.TaskGroup() as group:
            group.create_task(bank.manager.expire())
            await asyncio.sleep(0.01)
            bank.reserve("a", 1)
            await bank.outcome("a")


# --- posts that must not wait


@pytest.mark.parametrize(
    ("left_ms", "released_ms"), [(HOLD_MS, 250), (351, 251), (300, 200), (100, 0), (50, 0)]
)
@simulated
async def test_a_fulfill_waits_for_its_post_only_so_long(left_ms: int, released_ms: int) -> None:
    async with Bank() as bank:
        reservation = await bank.hold("a")
        bank.ledger.gate.clear()
        began_ms = bank.clock.now_ms()
        bank.post("a", reservation, left_ms=left_ms)
        assert await bank.outcome("a", other_than=Outcome.HELD) is Outcome.RELEASED
        assert released_ms <= bank.clock.now_ms() - began_ms <= released_ms + 20
        assert bank.outbox.ids == [reservation.packet_id | PHASE_RESOLVE]
        assert bank.manager.counters.released == 1

        bank.ledger.gate.set()
        await bank.idle()
        assert bank.outbox.requests == {}
        assert bank.net("alice") == 100
        assert await bank.rest() == []


@pytest.mark.parametrize("error", [OSError("disk full"), LedgerUnavailableError("x"), None])
@simulated
async def test_a_fulfill_is_let_go_even_if_the_outbox_fails_too(error: Exception | None) -> None:
    """Keeping it back would turn the risk of a loss into the loss."""
    async with Bank() as bank:
        reservation = await bank.hold("a")
        bank.ledger.gate.clear()
        bank.outbox.error = error
        bank.outbox.latency_s = 0.0 if error else 0.11
        bank.post("a", reservation)
        assert await bank.outcome("a", other_than=Outcome.HELD) is Outcome.RELEASED
        assert bank.alerts == ["outbox_failed"]
        bank.ledger.gate.set()
        await bank.idle()
        assert bank.net("alice") == 100
        assert await bank.rest() == []


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
    bank = await Bank().open()
    manager = bank.manager
    writer = asyncio.ensure_future(manager.run())
    reservation = await bank.hold("a")
    bank.ledger.gate.clear()
    bank.post("a", reservation)
    await asyncio.sleep(0.3)
    manager.tick()
    bank.ledger.gate.set()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    bank.outbox.error = OSError("must not be used")
    await manager.release_late()
    assert bank.outcomes["a"] is Outcome.POSTED
    assert bank.alerts == []
    manager.stop()
    await writer


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


# --- posts that come too late


async def expired(bank: Bank, **options: Any) -> Reservation:
    """A reservation that the ledger has given back by itself."""
    reservation = await bank.hold("late", hold_ms=1000, **options)
    await asyncio.sleep(12)
    return reservation


async def corrected(bank: Bank) -> PeerBooks:
    """Alice, after a correction has granted her 100 more than agreed."""
    reservation = await expired(bank)
    bank.post("late", reservation)
    assert await bank.outcome("late", other_than=Outcome.HELD) is Outcome.POSTED
    assert bank.manager.peers["alice"].granted == 1100
    return bank.manager.peers["alice"]


@pytest.mark.parametrize("fee", [0, 3])
@pytest.mark.parametrize("next_hop", [BOB, CAROL, WE])
@simulated
async def test_a_post_that_comes_too_late_becomes_a_correction(
    fee: int, next_hop: PeerTerms
) -> None:
    """Never a silent loss: the next hop has fulfilled, so we owe it, and the sender owes us."""
    async with Bank() as bank:
        reservation = await expired(bank, fee=fee, next_hop=next_hop)
        bank.post("late", reservation)
        assert await bank.outcome("late", other_than=Outcome.HELD) is Outcome.POSTED
        assert bank.alerts == ["accounting_correction"]
        assert bank.manager.counters.corrections == 1
        assert bank.net("alice") == 100
        assert bank.own(AccountCode.REVENUE) == -fee
        assert bank.manager.peers["alice"].granted == 1100
        assert bank.manager.peers["alice"].available_credit == 1000
        assert await bank.rest() == []


@simulated
async def test_a_correction_is_booked_beyond_the_credit_limit() -> None:
    """What has happened has happened; until it pays, the peer may send nothing more."""
    async with Bank() as bank:
        reservation = await expired(bank)
        rest = await bank.hold("all the rest", 900)
        await bank.ledger.create_transfers([])
        bank.post("late", reservation)
        assert await bank.outcome("late", other_than=Outcome.HELD) is Outcome.POSTED
        assert bank.net("alice") == 100
        assert bank.manager.peers["alice"].available_credit == 100
        bank.manager.void(rest)
        assert await bank.rest() == []


@pytest.mark.parametrize("fault", list(Fault))
@simulated
async def test_the_waiter_is_told_when_the_correction_is_booked(fault: Fault) -> None:
    async with Bank() as bank:
        reservation = await expired(bank, fee=3)
        bank.ledger.next_faults = [None, fault]
        bank.post("late", reservation)
        await bank.idle()
        assert bank.outcomes["late"] in (Outcome.POSTED, Outcome.RELEASED)
        assert bank.alerts == ["accounting_correction"]
        assert bank.outbox.requests == {}
        assert bank.net("alice") == 100
        assert await bank.rest() == []


@simulated
async def test_until_its_correction_is_booked_a_post_stays_in_the_outbox() -> None:
    """Whoever pulls the plug in between finds it there at the next start."""
    async with Bank() as bank:
        reservation = await expired(bank)
        bank.ledger.down = Fault.REFUSED
        bank.post("late", reservation)
        assert await bank.outcome("late", other_than=Outcome.HELD) is Outcome.RELEASED
        bank.ledger.next_faults = [Fault.REFUSED, None]
        while not bank.alerts:
            await asyncio.sleep(0.02)
        await asyncio.sleep(0.1)
        assert bank.alerts == ["accounting_correction"]
        assert bank.outbox.ids == [reservation.packet_id | PHASE_RESOLVE]
    bank.ledger.down = None
    again = Bank(ledger=bank.ledger, outbox=bank.outbox)
    async with again:
        assert again.alerts == ["accounting_correction"]
        assert again.outbox.requests == {}
        assert (again.net("alice"), again.net("bob")) == (100, -100)
        assert await again.rest() == []


@simulated
async def test_giving_back_what_has_expired_is_silent() -> None:
    async with Bank() as bank:
        reservation = await expired(bank, fee=3)
        bank.manager.void(reservation)
        await bank.idle()
        assert bank.alerts == []
        assert await books_at_rest(bank.manager) == []


@simulated
async def test_a_packet_is_not_given_back_after_it_was_posted() -> None:
    async with Bank() as bank:
        reservation = await bank.pay("a")
        with pytest.raises(AssertionError, match="VOID"):
            bank.manager.void(reservation)
        assert bank.net("alice") == 100
        account = bank.ledger.machine.accounts[bank.manager.peers["alice"].peer.account_id]
        assert account.debits_posted == 100


@simulated
async def test_a_packet_that_another_process_posted_is_not_given_back() -> None:
    """Post and void share an id, so the ledger takes the first; that someone tried is told."""
    async with Bank() as bank:
        reservation = await bank.hold("a")
        await bank.ledger.create_transfers(resolutions(reservation.legs, POST))
        bank.manager.void(reservation)
        await bank.idle()
        assert bank.alerts == ["accounting_refused"]
        account = bank.ledger.machine.accounts[bank.manager.peers["alice"].peer.account_id]
        assert account.debits_posted == 100


@simulated
async def test_a_correction_that_is_refused_is_told_and_not_corrected_again() -> None:
    async with Bank() as bank:
        reservation = await expired(bank)
        wallet = bank.manager.own_book(AccountCode.WALLET, USD)
        exchange = bank.manager.own_book(AccountCode.EXCHANGE, USD)
        assert wallet is not None
        assert exchange is not None
        taken = Transfer(
            id=reservation.packet_id | PHASE_CORRECT,
            debit_account_id=wallet.account_id,
            credit_account_id=exchange.account_id,
            amount=1,
            ledger=wallet.ledger,
            code=TransferCode.CORRECTION,
        )
        assert await bank.ledger.create_transfers([taken]) == [Status.CREATED]
        bank.post("late", reservation)
        assert await bank.outcome("late", other_than=Outcome.HELD) is Outcome.RELEASED
        assert bank.alerts == ["accounting_correction", "accounting_refused"]


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
            "spooled_reservation_refused", "accounting_correction", "spooled_reservation_refused",
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
        await bank.manager.look_after_outbox()
        bank.outbox.was_removed = True
        await bank.manager.look_after_outbox()
        await bank.manager.look_after_outbox()
        assert bank.alerts == ["outbox_was_removed"]
        bank.outbox.error = OSError("it is a folder now")
        await bank.manager.look_after_outbox()
        await bank.manager.look_after_outbox()
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
        await bank.manager.look_after_outbox()
        assert bank.outbox.transfers == 0
        assert await bank.rest() == []


# --- starting without the ledger


def away(bank: Bank) -> Bank:
    bank.ledger.may_be_away = True
    bank.ledger.is_open = False
    bank.ledger.down = Fault.REFUSED
    return bank


@simulated
async def test_a_new_node_starts_without_its_ledger_and_has_accounts_when_it_comes() -> None:
    async with away(Bank(spool=1000)) as bank:
        assert bank.states == [State.SPOOLING]
        assert bank.manager.peers["alice"].available_credit == 1000
        held = await bank.hold("a", 600, fee=3)
        assert bank.reserve("over", 401) is Outcome.NO_CREDIT
        bank.post("a", held)
        await bank.outcome("a", other_than=Outcome.HELD)
        open_ = await bank.hold("b", 100)
        bank.ledger.down = None
        await bank.idle()
        assert bank.states == [State.SPOOLING, State.AVAILABLE]
        assert bank.alerts == []
        bank.post("b", open_)
        assert await bank.outcome("b", other_than=Outcome.HELD) is Outcome.POSTED
        assert await bank.rest() == []
        assert bank.net("alice") == 700


@simulated
async def test_with_policy_reject_a_node_starts_and_waits() -> None:
    async with away(Bank()) as bank:
        assert bank.manager.state is State.UNAVAILABLE
        assert "refused on purpose" in bank.manager.state_reason
        assert bank.reserve("a") is Outcome.UNAVAILABLE
        await bank.manager.expire()
        bank.ledger.down = None
        while bank.manager.state is not State.AVAILABLE:
            await asyncio.sleep(0.02)
        await bank.pay("b", 1000)
        assert await bank.rest() == []


@pytest.mark.parametrize("limit", [1000, 1500, 700, 100])
@simulated
async def test_after_a_clean_stop_a_node_goes_on_from_what_it_remembers(limit: int) -> None:
    bank = Bank(spool=1000)
    async with bank:
        await bank.pay("a", 300)
        bank.ledger.down = Fault.REFUSED
        bank.post("b", await bank.hold("b", 200))
        await bank.outcome("b", other_than=Outcome.HELD)
        await bank.stop()
    terms = [replace(ALICE, credit_limit=limit), BOB, CAROL]
    async with away(Bank(terms, ledger=bank.ledger, outbox=bank.outbox, spool=1000)) as again:
        assert again.states == [State.SPOOLING]
        assert again.net("alice") == 500
        room = max(0, limit - 500)
        assert again.manager.peers["alice"].available_credit == room
        if room:
            again.post("c", await again.hold("c", room))
        assert again.reserve("over", 1) is Outcome.NO_CREDIT
        again.ledger.down = None
        await again.idle()
        granted = again.manager.peers["alice"].granted
        assert granted == max(limit, 500)
        faults = await again.rest()
        assert [fault for fault in faults if limit >= 500 or not fault.startswith("3")] == []
        assert again.alerts == (["credit_limit_in_use"] if limit < 500 else [])


@simulated
async def test_after_a_crash_only_the_ledger_knows_what_is_held() -> None:
    async with Bank(spool=1000) as bank:
        await bank.hold("a", sender_id=11)
    async with away(Bank(ledger=bank.ledger, outbox=bank.outbox, spool=1000)) as again:
        assert again.manager.state is State.UNAVAILABLE
        assert "did not stop cleanly" in again.manager.state_reason
        assert again.reserve("b") is Outcome.UNAVAILABLE
        again.ledger.down = None
        while again.manager.state is not State.AVAILABLE:
            await asyncio.sleep(0.02)
        assert taken(again, 11) is not None


@simulated
async def test_a_node_that_stops_with_money_held_has_not_stopped_cleanly() -> None:
    bank = Bank(spool=1000)
    async with bank:
        await bank.hold("a")
        await bank.stop()
    assert (await bank.outbox.begin()).books is None


@simulated
async def test_a_ledger_that_knows_more_than_the_node_is_believed_and_told() -> None:
    async with Bank() as bank:
        await bank.pay("a", 300)
    async with away(Bank(ledger=bank.ledger, spool=1000)) as again:  # its DATA_DIR is lost
        again.post("b", await again.hold("b", 100))
        await again.outcome("b", other_than=Outcome.HELD)
        again.ledger.down = None
        await again.idle()
        assert again.alerts == ["ledger_differs"]
        assert again.net("alice") == 400
        assert await again.rest() == []


@simulated
async def test_a_ledger_that_goes_away_again_while_it_is_met_is_met_again() -> None:
    bank = Bank(spool=1000)
    async with bank:
        bank.ledger.down = Fault.REFUSED
        bank.post("b", await bank.hold("b", 200))
        await bank.outcome("b", other_than=Outcome.HELD)
        await bank.stop()
    for failing in range(6):
        terms = [replace(one, credit_limit=2000 + failing) for one in (ALICE, BOB, CAROL)]
        again = away(Bank(terms, ledger=bank.ledger, outbox=bank.outbox, spool=1000))
        async with again:
            again.post("c", await again.hold("c", 10))
            await again.outcome("c", other_than=Outcome.HELD)
            again.ledger.next_faults = [None] * failing + [Fault.LOST, Fault.REFUSED]
            again.ledger.down = None
            await again.idle()
            assert again.net("alice") == 210 + 10 * failing
            assert again.alerts == []
            assert await again.rest() == []
            await again.stop()


@simulated
async def test_a_ledger_that_refuses_us_is_told_once() -> None:
    async with away(Bank()) as bank:
        bank.ledger.refusal = LedgerRefusedError("wrong_cluster", "it is another cluster")
        await asyncio.sleep(3)
        assert bank.alerts == ["ledger_refused"]
        assert bank.manager.state_reason == "it is another cluster"


@simulated
async def test_a_new_outbox_for_an_old_node_is_told() -> None:
    async with Bank() as bank:
        pass
    bank.ledger.may_be_away = True
    again = await Bank(ledger=bank.ledger).open()
    assert again.alerts == ["outbox_is_new"]
    assert (await Bank(ledger=bank.ledger, outbox=again.outbox).open()).alerts == []


@simulated
async def test_two_processes_that_start_together_grant_once() -> None:
    one = Bank()
    two = Bank(ledger=one.ledger)
    one.ledger.latency_s = 0.1
    one.ledger.one_at_a_time = False
    await asyncio.gather(one.open(), two.open())
    assert await books_at_rest(one.manager) == []
    assert await books_at_rest(two.manager) == []


# --- several processes, one node


async def pair() -> tuple[Bank, Bank]:
    """Two processes with the accounts of one node."""
    one = Bank()
    two = Bank(ledger=one.ledger)
    two.manager._ids = IdGenerator(random_bits=random.Random(77).getrandbits)
    one.ledger.one_at_a_time = False
    one.ledger.may_be_away = True
    return one, two


@simulated
async def test_what_another_process_booked_shows_up_here() -> None:
    one, two = await pair()
    async with one, two:
        for number in range(20):
            await one.pay(("one", number), 10)
            held = await two.hold(("two", number), 5, next_hop=CAROL, amount_out=2, fee=1)
            two.post(("two", number), held)
            await asyncio.sleep(0.5)
        await asyncio.sleep(accounting_bounds.RECONCILE_SECONDS)
        for bank in (one, two):
            await bank.manager.expire()
            assert (bank.net("alice"), bank.net("bob"), bank.net("carol")) == (300, -200, -40)
            assert bank.manager.counters.reconciled > 0
            assert bank.alerts.count("accounts_are_shared") == 1
            assert await bank.rest() == []


@simulated
async def test_one_limit_for_all_processes_of_a_node() -> None:
    one, two = await pair()
    async with one, two:
        banks = [one, two] * 50
        for number, bank in enumerate(banks):
            bank.reserve(number, 33)
        outcomes = [await bank.outcome(number) for number, bank in enumerate(banks)]
        assert outcomes.count(Outcome.HELD) == 1000 // 33
        assert outcomes.count(Outcome.NO_CREDIT) == 100 - 1000 // 33


@simulated
async def test_a_mirror_that_is_ahead_of_a_busy_ledger_is_left_alone() -> None:
    """What is queued, under way, or in the outbox is in the mirror and not yet in the ledger."""
    bank = Bank()
    bank.ledger.may_be_away = True
    async with bank:
        bank.ledger.latency_s = 0.4
        bank.ledger.batch_transfers_max = 3
        for number in range(40):
            reservation = bank.reserve(number, 3, fee=1)
            assert isinstance(reservation, Reservation)
            await bank.outcome(number)
            bank.post(number, reservation)
            await bank.manager.expire()
        await bank.idle()
        await bank.manager.expire()
        assert bank.manager.counters.reconciled == 0
        assert bank.net("alice") == 120
        assert await bank.rest() == []


@simulated
async def test_a_mirror_is_left_alone_when_the_ledger_goes_away_before_it_is_looked_up() -> None:
    bank = Bank(spool=1000)
    bank.ledger.may_be_away = True
    async with bank:
        held = await bank.hold("a")
        await asyncio.sleep(accounting_bounds.RECONCILE_SECONDS)
        bank.ledger.latency_s = 0.4
        bank.outbox.latency_s = 0.1
        bank.ledger.next_faults = [None, Fault.REFUSED]
        expiring = asyncio.create_task(bank.manager.expire())
        await asyncio.sleep(0.1)
        # The writer's turn comes first, and its post is on its way to the outbox at the look.
        bank.post("a", held)
        await expiring
        assert bank.manager.state is State.SPOOLING
        assert bank.net("alice") == 100
        await bank.idle()
        assert bank.manager.counters.reconciled == 0
        assert await bank.rest() == []


@simulated
async def test_what_was_booked_from_the_outbox_and_still_waits_is_counted_once() -> None:
    """The ledger comes back while the writer is busy with something else."""
    bank = Bank(spool=1000)
    bank.ledger.may_be_away = True
    async with bank:
        held = await bank.hold("a")
        bank._tasks[0].cancel()  # the writer
        bank.post("a", held)
        assert await bank.outcome("a", other_than=Outcome.HELD) is Outcome.RELEASED
        bank.manager._availability.failed("no answer", bank.clock.monotonic_s())
        while bank.manager.state is not State.AVAILABLE:
            await asyncio.sleep(0.02)
        assert bank.manager.queue_depth() == 1
        await bank.manager._reconciler.reconcile(bank.manager._writer.on_the_way)
        assert bank.net("alice") == 100
        assert bank.alerts == []


# --- starting again


@pytest.mark.parametrize("fee", [0, 3])
@simulated
async def test_what_was_promised_is_booked_at_the_next_start(fee: int) -> None:
    async with Bank() as bank:
        reservation = await bank.hold("a", fee=fee)
        bank.ledger.down = Fault.REFUSED
        bank.post("a", reservation)
        assert await bank.outcome("a", other_than=Outcome.HELD) is Outcome.RELEASED
    bank.ledger.down = None
    async with Bank(ledger=bank.ledger, outbox=bank.outbox) as again:
        assert again.outbox.requests == {}
        assert again.alerts == []
        assert again.net("alice") == 100
        assert again.own(AccountCode.REVENUE) == -fee
        assert await books_at_rest(again.manager) == []


@pytest.mark.parametrize("fee", [0, 3])
@simulated
async def test_what_was_promised_and_has_expired_is_corrected_at_the_next_start(fee: int) -> None:
    async with Bank() as bank:
        reservation = await expired(bank, fee=fee)
        bank.ledger.down = Fault.REFUSED
        bank.post("late", reservation)
        await bank.outcome("late", other_than=Outcome.HELD)
    bank.ledger.down = None
    for _ in range(2):  # also when the start breaks off before the outbox is cleared
        kept = dict(bank.outbox.requests)
        again = await Bank(ledger=bank.ledger, outbox=bank.outbox).open()
        assert again.alerts == ["accounting_correction"]
        assert again.net("alice") == 100
        assert again.own(AccountCode.REVENUE) == -fee
        assert again.outbox.requests == {}
        assert await books_at_rest(again.manager) == []
        bank.outbox.requests = kept


@simulated
async def test_a_promise_about_another_ledger_is_kept_for_a_human() -> None:
    async with Bank() as bank:
        reservation = await bank.hold("a")
        bank.ledger.gate.clear()
        bank.post("a", reservation)
        await bank.outcome("a", other_than=Outcome.HELD)
    again = await Bank(outbox=bank.outbox).open()
    assert again.alerts == ["outbox_transfer_unknown"]
    assert again.outbox.transfers == 1


def taken(bank: Bank, sender_id: int, condition: bytes = CONDITION) -> Recovered | None:
    return bank.manager.take_recovered("alice", sender_id, condition)


@pytest.mark.parametrize(("next_hop", "fee"), [(BOB, 0), (BOB, 3), (CAROL, 3), (WE, 0), (ALICE, 0)])
@simulated
async def test_an_open_packet_is_found_again_once(next_hop: PeerTerms, fee: int) -> None:
    async with Bank() as bank:
        before = await bank.hold("a", sender_id=11, next_hop=next_hop, fee=fee)
    async with Bank(ledger=bank.ledger) as again:
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
    async with Bank() as bank:
        await bank.pay("a", sender_id=11, fee=3)
    again = await Bank(ledger=bank.ledger).open()
    found = taken(again, 11)
    assert found is not None
    assert found.reservation.posted
    assert await books_at_rest(again.manager) == []


@simulated
async def test_packets_of_others_and_those_given_back_are_not_found() -> None:
    async with Bank() as bank:
        bank.manager.void(await bank.hold("given back", sender_id=11))
        await bank.hold("without an id")
        await bank.hold("our own", source=WE, sender_id=12)
        await bank.idle()
    async with Bank(ledger=bank.ledger) as again:
        assert taken(again, 11) is None
        assert taken(again, 12) is None
        assert again.manager.take_recovered("bob", 11, CONDITION) is None
        assert again.manager.peers["alice"].available_credit == 900
        assert await again.rest() == []


@simulated
async def test_under_another_condition_it_is_another_packet() -> None:
    """Else its sender could have us ask for a proof that does not free the money that is held."""
    async with Bank() as bank:
        await bank.hold("a", sender_id=11)
    again = await Bank(ledger=bank.ledger).open()
    assert taken(again, 11, OTHER_CONDITION) is None
    assert taken(again, 11) is not None


@simulated
async def test_what_nobody_asks_for_again_is_free_when_it_expires() -> None:
    async with Bank() as bank:
        await bank.hold("a", sender_id=11, fee=3)
        await bank.hold("b", sender_id=12)
    async with Bank(ledger=bank.ledger) as again:
        assert again.manager.peers["alice"].available_credit == 800
        assert taken(again, 12) is not None  # and then not a word of it
        await asyncio.sleep(31)
        assert again.manager.peers["alice"].available_credit == 900
        assert taken(again, 11) is None  # its money is not held any more


@simulated
async def test_what_expired_while_the_node_was_away_is_not_found() -> None:
    async with Bank() as bank:
        await expired(bank, sender_id=11)
    again = await Bank(ledger=bank.ledger).open()
    assert taken(again, 11) is None
    # The ledger has not been asked since and still counts the hold; nobody would ever let go of it.
    assert again.manager.peers["alice"].available_credit == 1000
    await again.manager.expire()
    assert await books_at_rest(again.manager) == []


# --- anything at all


CODES = ("alice", "bob", "carol", LOCAL)
PARTIES = {"alice": ALICE, "bob": BOB, "carol": CAROL, LOCAL: WE}
steps = st.one_of(
    st.tuples(
        st.just("reserve"),
        st.sampled_from(CODES),
        st.sampled_from(CODES),
        st.integers(2, 400),
        st.integers(0, 1),
    ),
    st.tuples(st.just("post"), st.integers(0, 10)),
    st.tuples(st.just("void"), st.integers(0, 10)),
    st.tuples(st.just("forget"), st.integers(0, 10)),
    st.tuples(st.just("wait"), st.sampled_from([0.0, 0.001, 0.05, 0.3, 2.0, 14.0])),
    st.tuples(st.just("fail"), st.sampled_from([*Fault, None]), st.integers(1, 3)),
    st.tuples(st.just("hang"), st.sampled_from([0.01, 0.4, 3.0])),
    st.tuples(st.just("outbox"), st.booleans()),
    st.tuples(st.just("restart")),
)


class Clerk:
    """Carries out a script against a bank, which may be closed and opened again meanwhile."""

    def __init__(self, spool: int) -> None:
        self.bank = Bank(spool=spool)
        self.fresh = 0
        self.held: list[tuple[int, Reservation, tuple[Any, ...]]] = []
        self.owed = dict.fromkeys(CODES, 0)
        """Net balance of each peer, as promised to the world."""

    async def carry_out(self, script: list[tuple[Any, ...]]) -> None:
        await self.bank.__aenter__()
        for step in script:
            await getattr(self, "_" + step[0])(*step[1:])
        self.bank.outbox.error = None
        self.bank.ledger.next_faults = []
        self.bank.ledger.gate.set()

    async def _reserve(self, source: str, target: str, amount: int, fee: int) -> None:
        self.fresh += 1
        there, here = PARTIES[target], PARTIES[source]
        out = amount - fee if there.asset == here.asset else max(1, (amount - fee) // 2)
        reservation = self.bank.reserve(
            self.fresh, amount, source=here, next_hop=there, fee=fee, amount_out=out, hold_ms=2000
        )
        if isinstance(reservation, Reservation):
            self.held.append((self.fresh, reservation, (source, target, amount, out)))

    def _pick(self, at: int) -> tuple[int, Reservation, tuple[Any, ...]] | None:
        held = [one for one in self.held if self.bank.outcomes.get(one[0]) is Outcome.HELD]
        if not held:
            return None
        self.held.remove(held[at % len(held)])
        return held[at % len(held)]

    async def _post(self, at: int) -> None:
        if (one := self._pick(at)) is not None:
            token, reservation, (source, target, amount, out) = one
            self.bank.post(token, reservation)
            told = await self.bank.outcome(token, other_than=Outcome.HELD)
            assert told in (Outcome.POSTED, Outcome.RELEASED)
            self.owed[source] += amount
            self.owed[target] -= out

    async def _void(self, at: int) -> None:
        if (one := self._pick(at)) is not None:
            self.bank.manager.void(one[1])

    async def _forget(self, at: int) -> None:
        """As a crash between two steps would: only the timeout frees it, only a restart notes it."""
        await self._void(at)

    async def _wait(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def _fail(self, fault: Fault | None, times: int) -> None:
        self.bank.ledger.next_faults += [fault] * times

    async def _hang(self, seconds: float) -> None:
        self.bank.ledger.gate.clear()
        asyncio.get_running_loop().call_later(seconds, self.bank.ledger.gate.set)

    async def _outbox(self, broken: bool) -> None:
        self.bank.outbox.error = OSError("disk full") if broken else None

    async def _restart(self) -> None:
        ledger, outbox = self.bank.ledger, self.bank.outbox
        if outbox.error is not None or self.bank.manager._promises.has_overdue:
            return  # a second failure on top: what is lost then was told to the operator
        # What was let go without being durable would be lost: wait for it, like an operator.
        await self.bank.idle()
        await self.bank.__aexit__(None, None, None)
        ledger.next_faults = []
        ledger.gate.set()
        corrections = self.bank.manager.counters.corrections
        self.bank = Bank(ledger=ledger, outbox=outbox, spool=self.bank.spool)
        self.bank.outcomes = {}
        self.held = []
        self.bank.manager.counters.corrections = corrections
        await self.bank.__aenter__()


# Each example is a day in the life of a node: fewer of them do.
@settings(max_examples=settings().max_examples // 4)
@given(st.lists(steps, max_size=40), st.sampled_from([0, 1_000_000]))
def test_whatever_happens_the_books_balance_and_say_what_was_promised(
    script: list[tuple[Any, ...]], spool: int
) -> None:
    async def story() -> None:
        clerk = Clerk(spool)
        await clerk.carry_out(script)
        try:
            await clerk.bank.idle()
            for token, reservation, _ in clerk.held:
                if clerk.bank.outcomes[token] is Outcome.HELD:
                    clerk.bank.manager.void(reservation)
            await clerk.bank.idle()
            assert await clerk.bank.rest() == []
            for peer_id in ("alice", "bob", "carol"):
                assert clerk.bank.net(peer_id) == clerk.owed[peer_id]
            assert "accounting_refused" not in clerk.bank.alerts
            await clerk.bank.manager.look_after_outbox()
            assert clerk.bank.outbox.requests == {}
        finally:
            await clerk.bank.__aexit__(None, None, None)

    simulate(story())


@simulated
async def test_what_was_booked_by_a_correction_is_found_as_posted() -> None:
    """Its hold had expired; but it is owed, and must not be paid again."""
    async with Bank() as bank:
        reservation = await expired(bank, sender_id=11, fee=3)
        bank.post("late", reservation)
        await bank.outcome("late", other_than=Outcome.HELD)
        await bank.idle()
    again = await Bank(ledger=bank.ledger).open()
    found = taken(again, 11)
    assert found is not None
    assert found.reservation.posted
    assert await books_at_rest(again.manager) == []


# --- asking the ledger for a packet


def away_bank(**options: Any) -> Bank:
    """On a ledger that may be away, and is shared, and remembers more than is read at a start."""
    bank = Bank(**options)
    bank.ledger.may_be_away = True
    return bank


async def asked(bank: Bank, *sender_ids: int) -> list[int]:
    """About which packets of alice's the ledger has spoken."""
    found = await bank.manager.find_former([("alice", one) for one in sender_ids])
    assert all(source_id == "alice" for source_id, _ in found)
    return [sender_id for _, sender_id in found]


@pytest.mark.parametrize(("next_hop", "fee"), [(BOB, 0), (BOB, 3), (CAROL, 3), (WE, 0)])
@pytest.mark.parametrize("posted", [False, True])
@simulated
async def test_a_packet_that_another_process_took_is_found_in_the_ledger(
    next_hop: PeerTerms, fee: int, *, posted: bool
) -> None:
    async with away_bank() as bank, away_bank(ledger=bank.ledger) as other:
        bank.ledger.one_at_a_time = False
        before = await other.hold("a", sender_id=11, next_hop=next_hop, fee=fee)
        if posted:
            other.post("a", before)
            await other.outcome("a", other_than=Outcome.HELD)
        assert taken(bank, 11) is None
        assert await asked(bank, 11, 12) == [11, 12]
        found = taken(bank, 11)
        assert found is not None
        assert taken(bank, 12) is None
        assert (found.source_id, found.next_hop_id) == ("alice", next_hop.peer_id)
        assert found.reservation.legs == before.legs
        assert found.reservation.posted == posted
        if not posted:
            bank.post("a", found.reservation)
            assert await bank.outcome("a") is Outcome.POSTED
        await asyncio.sleep(accounting_bounds.RECONCILE_SECONDS)
        await bank.manager.expire()
        assert await bank.rest() == []


@simulated
async def test_what_is_not_asked_for_in_the_end_is_let_go_of_when_it_expires() -> None:
    async with away_bank() as bank, away_bank(ledger=bank.ledger) as other:
        bank.ledger.one_at_a_time = False
        await other.hold("a", sender_id=11)
        assert await asked(bank, 11) == [11]
        assert bank.manager.peers["alice"].available_credit == 900
        assert taken(bank, 11, OTHER_CONDITION) is None
        assert await asked(bank, 11) == [11]
        assert bank.manager.peers["alice"].available_credit == 900  # held once
        assert await bank.rest() == []


@simulated
async def test_packets_that_were_given_back_or_have_expired_are_new_ones() -> None:
    async with away_bank() as bank:
        bank.manager.void(await bank.hold("given back", sender_id=11))
        over = await expired(bank, sender_id=12)
        of_bob = await bank.hold("of bob", source=BOB, next_hop=ALICE, sender_id=13)
        await bank.idle()
        assert await asked(bank, 11, 12, 13) == [11, 12, 13]
        assert [taken(bank, one) for one in (11, 12, 13)] == [None, None, None]
        # Bob uses the same id: his packet is none of hers, and is not counted twice.
        assert bank.manager.take_recovered("bob", 13, CONDITION) is None
        assert bank.manager.peers["bob"].available_credit == 900
        bank.manager.void(over)
        bank.manager.void(of_bob)
        assert await bank.rest() == []


@simulated
async def test_while_the_ledger_is_away_it_says_nothing() -> None:
    async with away_bank(spool=1000) as bank:
        await bank.pay("a", sender_id=11)
        bank.ledger.down = Fault.REFUSED
        await bank.manager.expire()
        assert bank.manager.state is State.SPOOLING
        assert await asked(bank, 11, 12) == []
        bank.ledger.down = None
        await bank.idle()
        assert await asked(bank, 11, 12) == [11, 12]
        assert taken(bank, 11) is not None


@simulated
async def test_what_is_on_its_way_to_the_ledger_is_asked_for_again_in_a_moment() -> None:
    """Told, put into the outbox, and not yet booked: the ledger has a hold only."""
    async with away_bank() as bank:
        reservation = await bank.hold("a", sender_id=11)
        bank.ledger.latency_s = 0.8  # slower than a Fulfill may wait
        bank.post("a", reservation)
        assert await bank.outcome("a", other_than=Outcome.HELD) is Outcome.RELEASED
        bank.ledger.one_at_a_time = False
        turn = bank.manager._turn
        with_lock, turn._lock = turn._lock, asyncio.Lock()
        assert await asked(bank, 11, 12) == [12]
        turn._lock = with_lock
        bank.ledger.latency_s = 0
        await asyncio.sleep(1)
        assert await asked(bank, 11) == [11]
        found = taken(bank, 11)
        assert found is not None
        assert found.reservation.posted
        assert await bank.rest() == []


@simulated
async def test_who_else_may_have_taken_a_packet() -> None:
    async with Bank() as bank:
        assert not bank.manager.may_know_former  # nobody kept these books before
    async with Bank(ledger=bank.ledger) as again:
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
    bank = away_bank()
    bank.ledger.is_open, bank.ledger.down = False, Fault.REFUSED
    async with bank:
        assert bank.manager.state is State.UNAVAILABLE
        assert bank.manager.may_know_former
        assert await asked(bank, 11) == []
        bank.ledger.down = None
        while bank.manager.state is not State.AVAILABLE:
            await asyncio.sleep(0.1)
        assert await asked(bank, 11) == [11]


@simulated
async def test_what_was_found_at_a_start_is_forgotten_when_nobody_can_ask_for_it() -> None:
    async with Bank() as bank:
        await bank.pay("a", sender_id=11)
    async with Bank(ledger=bank.ledger) as again:
        await asyncio.sleep(limits.FORMER_PACKETS_MS / 1000 + 1)
        assert taken(again, 11) is None
