"""Any requests to a ledger, in any order: its books balance, also after a restart."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connector.ledger.embedded import EmbeddedLedger, MemoryLedger
from connector.ledger.machine import LedgerMachine
from connector.ledger.model import (
    AMOUNT_MAX,
    LINKED,
    PENDING,
    PHASE_RESOLVE,
    POST,
    VOID,
    Account,
    Status,
    Transfer,
)
from tests.support.ledgers import ManualClock
from tests.support.memory_folder import memory_folder

T = TypeVar("T")

PEERS = range(1, 4)
BANK = 9
ACCOUNTS = [Account(n, ledger=1, code=1, flags=2) for n in PEERS] + [
    Account(BANK, ledger=1, code=1)
]

ids = st.integers(1, 12).map(lambda n: n << 8)
amounts = st.one_of(st.integers(0, 60), st.sampled_from([2**64, AMOUNT_MAX]))
parties = st.sampled_from([*PEERS, BANK, BANK])
links = st.sampled_from([0, 0, 0, LINKED])
moves = st.builds(
    lambda id_, debit, credit, amount, timeout, flags, link: Transfer(
        id_, debit, credit, amount, timeout=timeout if flags else 0, ledger=1, code=1,
        flags=flags | link,
    ),
    ids, parties, parties, amounts, st.integers(0, 3), st.sampled_from([0, PENDING, PENDING]), links,
)  # fmt: skip
resolutions = st.builds(
    lambda id_, amount, flag, same_id, link: Transfer(
        id_ | (PHASE_RESOLVE if same_id else 0x40 | flag), 0, 0, amount, id_, flags=flag | link
    ),
    ids, st.one_of(st.just(AMOUNT_MAX), st.just(0), st.integers(1, 60)),
    st.sampled_from([POST, VOID]), st.booleans(), links,
)  # fmt: skip
requests = st.lists(st.one_of(moves, resolutions, resolutions), max_size=6)
steps = st.lists(st.tuples(st.integers(0, 2500), requests), max_size=25)

Steps = list[tuple[int, list[Transfer]]]
State = tuple[dict[int, Account], dict[int, Transfer]]


def state(machine: LedgerMachine) -> State:
    return (
        {id_: account.snapshot() for id_, account in machine.accounts.items()},
        {id_: hold.transfer for id_, hold in machine.holds.items()},
    )


def check(machine: LedgerMachine, statuses: dict[int, Status]) -> None:
    accounts = [account.snapshot() for account in machine.accounts.values()]
    holds = [hold.transfer for hold in machine.holds.values()]
    assert sum(a.debits_posted for a in accounts) == sum(a.credits_posted for a in accounts)
    assert sum(a.debits_pending for a in accounts) == sum(hold.amount for hold in holds)
    assert sum(a.credits_pending for a in accounts) == sum(hold.amount for hold in holds)
    for account in accounts:
        assert min(account[1:5]) >= 0
        assert max(account[1:5]) <= AMOUNT_MAX
        if account.flags & 2:
            assert account.debits_posted + account.debits_pending <= account.credits_posted
        # Every balance is the sum of what is stored.
        records = [transfer for transfer, status in machine.records() if status is Status.CREATED]
        plain = [t for t in records if not t.flags & (PENDING | VOID)]
        debits = sum(t.amount for t in plain if t.debit_account_id == account.id)
        assert account.debits_posted == debits
    resolved = [t.pending_id for t, s in machine.records() if s is Status.CREATED and t.pending_id]
    assert len(resolved) == len(set(resolved)), "a hold was resolved twice"
    assert not set(resolved) & set(machine.holds)


def grants() -> list[Transfer]:
    return [Transfer(0xF000 + n, BANK, n, 100, ledger=1, code=5) for n in PEERS]


async def play(
    ledger: MemoryLedger | EmbeddedLedger, clock: ManualClock, steps: Steps
) -> list[list[Status]]:
    answers = []
    for pause_ms, request in steps:
        clock.advance(pause_ms / 1000)
        answers.append(await ledger.create_transfers(request))
    return answers


# Each example is up to twenty-five requests: fewer of them do.
@settings(max_examples=settings().max_examples // 4)
@given(steps)
def test_books_balance_after_any_order_of_reserve_post_void_expire_and_retry(steps: Steps) -> None:
    async def scenario() -> None:
        clock = ManualClock()
        ledger = MemoryLedger(clock=clock)
        await ledger.create_accounts(ACCOUNTS)
        await ledger.create_transfers(grants())
        seen: dict[int, Status] = {}
        for step in steps:
            (statuses,) = await play(ledger, clock, [step])
            for transfer, status in zip(step[1], statuses, strict=True):
                if status is Status.CREATED:
                    assert transfer.id not in seen, "one id, two transfers"
                    seen[transfer.id] = status
            check(ledger.machine, seen)
        # The same requests again change nothing but time.
        before = state(ledger.machine)
        for _, request in steps:
            singles = [t._replace(flags=t.flags & ~LINKED) for t in request if t.id in seen]
            for transfer in singles:
                assert (await ledger.create_transfers([transfer]))[0] is not Status.CREATED
        assert state(ledger.machine) == before
        # Nothing is held for ever that had a timeout.
        clock.advance(10)
        await ledger.create_transfers([])
        assert all(hold.transfer.timeout == 0 for hold in ledger.machine.holds.values())

    asyncio.run(scenario())


async def with_embedded(
    path: Path, clock: ManualClock, work: Callable[[EmbeddedLedger], Awaitable[T]]
) -> T:
    ledger = EmbeddedLedger(path, clock=clock)
    await ledger.open()
    try:
        return await work(ledger)
    finally:
        await ledger.close()


@pytest.mark.long
@settings(max_examples=min(60, settings().max_examples))
@given(steps, st.integers(0, 25), st.booleans())
def test_the_embedded_ledger_has_the_same_state_after_any_end(
    steps: Steps, cut: int, killed: bool
) -> None:
    """Closed, or killed with its files as they were at that moment: all acknowledged is there."""

    async def scenario(folder: Path) -> None:
        clock = ManualClock()
        first, second = steps[:cut], steps[cut:]
        whole = MemoryLedger(clock=ManualClock())
        await whole.create_accounts(ACCOUNTS)
        await whole.create_transfers(grants())
        answers = await play(whole, whole._clock, steps)  # type: ignore[arg-type]
        path = folder / "ledger.db"
        after = folder / "after" / "ledger.db"

        async def begin(ledger: EmbeddedLedger) -> tuple[list[list[Status]], State]:
            await ledger.create_accounts(ACCOUNTS)
            await ledger.create_transfers(grants())
            found = await play(ledger, clock, first)
            if killed:
                shutil.copytree(folder, after.parent)
            return found, state(ledger.machine)

        found, before = await with_embedded(path, clock, begin)
        if not killed:
            after = path

        async def go_on(ledger: EmbeddedLedger) -> list[list[Status]]:
            assert state(ledger.machine) == before
            found = await play(ledger, clock, second)
            replayed, rows = await ledger.replay_all()
            assert state(replayed) == state(ledger.machine)
            assert rows <= len(steps) + 2
            return found

        assert found + await with_embedded(after, clock, go_on) == answers

        async def look(ledger: EmbeddedLedger) -> State:
            return state(ledger.machine)

        assert await with_embedded(after, clock, look) == state(whole.machine)

    with tempfile.TemporaryDirectory(dir=memory_folder()) as folder:
        asyncio.run(scenario(Path(folder) / "node"))
