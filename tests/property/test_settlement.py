"""Whatever fails and dies, in whatever order: settled exactly once, books balance, nothing is lost."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st

from connector.base.errors import EnvironmentFault, SettlementError
from connector.settlement.model import Quantity
from tests.support.accounts import Fault, books_at_rest
from tests.support.clocks import simulate
from tests.support.settlements import ALICE, BOB, EngineFault, Ground, Life, settlement_transfers

BUSY = replace(BOB, credit_limit=300, settle_threshold=100, settle_to=20)

amounts = st.integers(1, 400)
steps = st.one_of(
    st.tuples(st.just("owe"), amounts),
    st.tuples(st.just("earn"), amounts),
    st.tuples(st.just("hold"), amounts),
    st.tuples(st.just("wait"), st.sampled_from([0.3, 0.6, 1.1, 5.0, 40.0])),
    st.tuples(st.just("engine"), st.lists(st.sampled_from([None, *EngineFault]), max_size=4)),
    st.tuples(st.just("ledger"), st.lists(st.sampled_from([None, *Fault]), max_size=4)),
    st.tuples(st.just("disk"), st.integers(1, 3)),
    st.tuples(
        st.just("receive"),
        st.tuples(st.integers(1, 3), st.integers(1, 5000), st.integers(7, 11)),
    ),
    st.tuples(st.just("die"), st.integers(0, 12)),
)
scales = st.sampled_from([None, 8, 12])


class Story:
    """What happened, to be compared with what is in the books at the end."""

    def __init__(self, scale: int | None) -> None:
        self.ground = Ground()
        self.scale = scale
        self.told: dict[str, Quantity] = {}
        """Payments of the peer, by key."""

    @asynccontextmanager
    async def life(self) -> AsyncIterator[Life]:
        """A process; one that a fault keeps from starting is started again."""
        while True:
            life = Life(self.ground, (ALICE, BUSY), scale=self.scale)
            try:
                await life.__aenter__()
                break
            except EnvironmentFault:
                pass
        try:
            yield life
        finally:
            await life.__aexit__(None, None, None)

    async def go(self, todo: list[tuple[str, object]]) -> None:
        """One process after the other, until all is done."""
        todo = list(todo)
        while todo:
            async with self.life() as life:
                try:
                    await self._live(life, todo)
                except _DiedError:
                    pass
            self.ground.fuse.light(None)
        self.ground.engine.next_faults.clear()
        self.ground.ledger.next_faults.clear()
        self.ground.file.next_errors.clear()

    async def _live(self, life: Life, todo: list[tuple[str, object]]) -> None:
        dying = False
        while todo:
            kind, what = todo.pop(0)
            if kind == "die":
                assert isinstance(what, int)
                self.ground.fuse.light(what)
                dying = True
                continue
            work = life._group.create_task(self._step(life, kind, what))
            life._tasks.append(work)
            blown = life._group.create_task(self.ground.fuse.blown.wait())
            life._tasks.append(blown)
            await asyncio.wait([work, blown], return_when=asyncio.FIRST_COMPLETED)
            if dying and self.ground.fuse.blown.is_set():
                raise _DiedError
            await work
            blown.cancel()

    async def _step(self, life: Life, kind: str, what: object) -> None:
        ground = self.ground
        if kind == "owe":
            await life.owe(what)  # type: ignore[arg-type]
        elif kind == "earn":
            await life.owe(what, source="bob", next_hop="alice")  # type: ignore[arg-type]
        elif kind == "hold":
            await life.hold(what, source="bob", next_hop="alice")  # type: ignore[arg-type]
        elif kind == "wait":
            await asyncio.sleep(what)  # type: ignore[arg-type]
        elif kind == "engine":
            ground.engine.next_faults = list(what)  # type: ignore[call-overload]
        elif kind == "ledger":
            ground.ledger.next_faults = list(what)  # type: ignore[call-overload]
        elif kind == "disk":
            ground.file.next_errors = [sqlite3.OperationalError("full")] * what  # type: ignore[operator]
        else:
            number, amount, scale = what  # type: ignore[misc]
            await self.tell(life, f"key {number}", Quantity(amount, scale))

    async def tell(self, life: Life, key: str, quantity: Quantity) -> None:
        """The peer's engine tells a payment; what it had for this key before, if it had one."""
        quantity = self.told.setdefault(key, quantity)
        try:
            await life.settlements.receive("bob", key, quantity)
        except EnvironmentFault:
            pass  # told again at the end, as an engine does
        except SettlementError as error:
            raise AssertionError from error


class _DiedError(Exception):
    pass


@settings(max_examples=min(60, settings().max_examples))
@given(st.lists(steps, max_size=14), scales)
def test_settled_exactly_once_whatever_fails_and_dies(
    todo: list[tuple[str, object]], scale: int | None
) -> None:
    async def scenario() -> None:
        told = Story(scale)
        ground = told.ground
        await told.go(todo)
        async with told.life() as life:
            for key, quantity in told.told.items():
                await told.tell(life, key, quantity)
                await told.tell(life, key, quantity)
            await asyncio.sleep(45)  # holds run out
            await life.quiet()
            await life.accounts.expire()
            assert await books_at_rest(life.accounts) == []
            # What the engine has paid is what the ledger has, once.
            paid, received = life.settled()
            engine = sum(Fraction(one.amount, 10**one.scale) for one in ground.engine.paid.values())
            assert engine == Fraction(paid, 10**9)
            # What the peer has paid is credited once, and what is less than a unit is kept.
            kept = await life.store.remainder("bob", BOB.asset)
            there = sum(Fraction(one.amount, 10**one.scale) for one in told.told.values())
            assert there == Fraction(received, 10**9) + Fraction(kept.amount, 10**kept.scale)
            assert Fraction(kept.amount, 10**kept.scale) < Fraction(1, 10**9)
            # Nothing that should be paid is left.
            owed = -life.net()
            unit = 10 if scale == 8 else 1
            assert owed <= 100 or owed - 20 < unit
            assert sum(settlement_transfers(ground)) == paid + received

    simulate(scenario())
