"""Balances are reported when they change: the last value, and nothing when nothing changes."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from connector.accounting.manager import AccountManager
from connector.accounting.mirror import Book
from connector.ledger.embedded import MemoryLedger
from connector.ledger.model import IdGenerator
from connector.peering.model import Asset, PeerTerms
from connector.telemetry.bus import EventBus
from connector.telemetry.events import AccountBalance, NodeStatus
from connector.telemetry.reporter import ROUND_FLUSHES, STATUS_SECONDS, Reporter
from tests.support.accounts import MemoryOutbox, put_posted
from tests.support.ledgers import ManualClock

USD = Asset("USD", 9)
PEERS = [f"peer-{number:03d}" for number in range(100)]


class ReporterSetup:
    """A reporter over a hundred accounts that the test moves."""

    def __init__(self, accounts: AccountManager, clock: ManualClock) -> None:
        self.accounts = accounts
        self.clock = clock
        self.bus = EventBus(node_id="me", clock=clock)
        self.touched: set[Book] = set()
        self.states: dict[str, str] = {}
        self.looked_at = 0
        self.reporter = Reporter(
            bus=self.bus,
            accounts=accounts,
            take_touched=self.take,
            status=self.status,
            monotonic_s=clock.monotonic_s,
            settlement_state=self.state,
        )

    def take(self, watched: bool) -> set[Book]:
        touched, self.touched = self.touched, set()
        return touched if watched else set()

    def state(self, peer_id: str) -> str:
        self.looked_at += 1
        return self.states.get(peer_id, "IDLE")

    def status(self) -> NodeStatus:
        return NodeStatus(
            ilp_address="g.me",
            version="1",
            uptime_seconds=0,
            peers_connected=0,
            peers_total=0,
            routes=0,
            accounting="available",
        )

    def move(self, peer_id: str, amount: int, *, marked: bool = True) -> None:
        book = self.accounts.peers[peer_id].peer
        put_posted(book, debits=amount)
        if marked:
            self.touched.add(book)

    def flush(self, seconds: float = 0.05) -> list[AccountBalance]:
        """The balances that one flush tells."""
        self.clock.advance(seconds)
        before = self.bus.seq
        self.reporter.report()
        return [
            one.event
            for one in self.bus.remembered()
            if one.seq > before and isinstance(one.event, AccountBalance)
        ]

    def round(self) -> list[AccountBalance]:
        return [told for _ in range(ROUND_FLUSHES) for told in self.flush()]


@pytest.fixture
async def setup() -> AsyncIterator[ReporterSetup]:
    clock = ManualClock()
    accounts = AccountManager(
        node_id="me",
        ledger=MemoryLedger(clock=clock),
        clock=clock,
        ids=IdGenerator(random_bits=lambda bits: bits),
        outbox=MemoryOutbox(),
    )
    terms = [PeerTerms(peer_id=peer_id, asset=USD, credit_limit=1000) for peer_id in PEERS]
    await accounts.open(terms, [USD])
    yield ReporterSetup(accounts, clock)
    await accounts.close()


async def test_every_balance_is_reported_once_in_the_first_round(setup: ReporterSetup) -> None:
    told = setup.round()
    assert sorted(one.peer_id for one in told) == PEERS
    assert {one.available_credit for one in told} == {1000}
    assert setup.round() == []


async def test_a_marked_account_is_reported_to_viewers_at_the_next_flush(
    setup: ReporterSetup,
) -> None:
    setup.round()
    setup.bus.join(None)
    for amount in (5, 6, 7):
        setup.move("peer-042", amount)
    (told,) = setup.flush()
    assert (told.peer_id, told.net_balance, told.debit_balance) == ("peer-042", 18, 18)
    assert setup.flush() == []


async def test_a_balance_that_returned_to_its_value_is_not_reported(setup: ReporterSetup) -> None:
    setup.round()
    setup.bus.join(None)
    setup.move("peer-001", 5)
    setup.move("peer-001", -5)
    assert setup.flush() == []


async def test_without_viewers_a_change_is_reported_once_a_second(setup: ReporterSetup) -> None:
    setup.round()
    told = []
    for _ in range(3 * ROUND_FLUSHES):
        setup.move("peer-007", 1)
        told += setup.flush()
    assert len(told) == 3


async def test_an_unmarked_change_is_found_within_a_second(setup: ReporterSetup) -> None:
    setup.round()
    setup.bus.join(None)
    setup.move("peer-099", 3, marked=False)
    (told,) = setup.round()
    assert told.net_balance == 3
    setup.states["peer-000"] = "PENDING"
    setup.reporter.touch("peer-000")
    (told,) = setup.flush()
    assert (told.peer_id, told.settlement_state) == ("peer-000", "PENDING")


async def test_an_idle_flush_checks_a_twentieth_of_the_accounts(setup: ReporterSetup) -> None:
    setup.round()
    setup.bus.join(None)
    assert setup.round() == []  # all are looked at once, when the first viewer has come
    setup.looked_at = 0
    setup.round()
    assert setup.looked_at == len(PEERS)


async def test_a_removed_peer_is_forgotten(setup: ReporterSetup) -> None:
    setup.round()
    del setup.accounts.peers["peer-050"]
    setup.reporter.touch("peer-050")
    assert setup.round() == []
    assert "peer-050" not in setup.reporter._told


async def test_the_status_comes_every_second(setup: ReporterSetup) -> None:
    before = setup.bus.seq
    for _ in range(100):
        setup.flush(STATUS_SECONDS / 20)
    told = [one for one in setup.bus.remembered() if one.seq > before]
    assert sum(isinstance(one.event, NodeStatus) for one in told) == 5
