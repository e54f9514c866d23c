"""Any failures and crashes, in any order: settled exactly once, books balance, nothing is lost."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connector.base.errors import EnvironmentFault, SettlementError
from connector.settlement.model import Quantity
from tests.support.accounts import Fault, books_at_rest
from tests.support.clocks import simulate
from tests.support.settlements import (
    ALICE,
    BOB,
    DurableState,
    EngineFault,
    SettlementNode,
    settlement_transfers,
)

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


class Scenario:
    """What happened, to be compared with what is in the books at the end."""

    def __init__(self, scale: int | None) -> None:
        self.durable = DurableState()
        self.scale = scale
        self.reported: dict[str, Quantity] = {}
        """Payments of the peer, by key."""

    @asynccontextmanager
    async def process(self) -> AsyncIterator[SettlementNode]:
        """A process; one that a fault keeps from starting is started again."""
        while True:
            node = SettlementNode(self.durable, (ALICE, BUSY), scale=self.scale)
            try:
                await node.__aenter__()
                break
            except EnvironmentFault:
                pass
        try:
            yield node
        finally:
            await node.__aexit__(None, None, None)

    async def go(self, todo: list[tuple[str, object]]) -> None:
        """One process after the other, until all is done."""
        todo = list(todo)
        while todo:
            async with self.process() as node:
                try:
                    await self._live(node, todo)
                except _DiedError:
                    pass
            self.durable.crash_points.arm(None)
        self.durable.engine.next_faults.clear()
        self.durable.ledger.next_faults.clear()
        self.durable.file.next_errors.clear()

    async def _live(self, node: SettlementNode, todo: list[tuple[str, object]]) -> None:
        dying = False
        while todo:
            kind, what = todo.pop(0)
            if kind == "die":
                assert isinstance(what, int)
                self.durable.crash_points.arm(what)
                dying = True
                continue
            work = node._group.create_task(self._step(node, kind, what))
            node._tasks.append(work)
            crashed = node._group.create_task(self.durable.crash_points.crashed.wait())
            node._tasks.append(crashed)
            await asyncio.wait([work, crashed], return_when=asyncio.FIRST_COMPLETED)
            if dying and self.durable.crash_points.crashed.is_set():
                raise _DiedError
            await work
            crashed.cancel()

    async def _step(self, node: SettlementNode, kind: str, what: object) -> None:
        durable = self.durable
        if kind == "owe":
            await node.owe(what)  # type: ignore[arg-type]
        elif kind == "earn":
            await node.owe(what, source="bob", next_hop="alice")  # type: ignore[arg-type]
        elif kind == "hold":
            await node.hold(what, source="bob", next_hop="alice")  # type: ignore[arg-type]
        elif kind == "wait":
            await asyncio.sleep(what)  # type: ignore[arg-type]
        elif kind == "engine":
            durable.engine.next_faults = list(what)  # type: ignore[call-overload]
        elif kind == "ledger":
            durable.ledger.next_faults = list(what)  # type: ignore[call-overload]
        elif kind == "disk":
            durable.file.next_errors = [sqlite3.OperationalError("full")] * what  # type: ignore[operator]
        else:
            number, amount, scale = what  # type: ignore[misc]
            await self.tell(node, f"key {number}", Quantity(amount, scale))

    async def tell(self, node: SettlementNode, key: str, quantity: Quantity) -> None:
        """The peer's engine tells a payment; what it had for this key before, if it had one."""
        quantity = self.reported.setdefault(key, quantity)
        try:
            await node.settlements.receive("bob", key, quantity)
        except EnvironmentFault:
            pass  # reported again at the end, as an engine does
        except SettlementError as error:
            raise AssertionError from error


class _DiedError(Exception):
    pass


@pytest.mark.long
@settings(max_examples=min(60, settings().max_examples))
@given(st.lists(steps, max_size=14), scales)
def test_settled_exactly_once_whatever_fails_and_dies(
    todo: list[tuple[str, object]], scale: int | None
) -> None:
    async def scenario() -> None:
        run = Scenario(scale)
        durable = run.durable
        await run.go(todo)
        async with run.process() as node:
            for key, quantity in run.reported.items():
                await run.tell(node, key, quantity)
                await run.tell(node, key, quantity)
            await asyncio.sleep(45)  # holds run out
            await node.quiet()
            await node.accounts.expire()
            assert await books_at_rest(node.accounts) == []
            # What the engine has paid is what the ledger has, once.
            paid, received = node.settled()
            engine = sum(
                Fraction(one.amount, 10**one.scale) for one in durable.engine.paid.values()
            )
            assert engine == Fraction(paid, 10**9)
            # What the peer has paid is credited once, and what is less than a unit is kept.
            kept = await node.store.remainder("bob", BOB.asset)
            there = sum(Fraction(one.amount, 10**one.scale) for one in run.reported.values())
            assert there == Fraction(received, 10**9) + Fraction(kept.amount, 10**kept.scale)
            assert Fraction(kept.amount, 10**kept.scale) < Fraction(1, 10**9)
            # Nothing that should be paid is left.
            owed = -node.net()
            unit = 10 if scale == 8 else 1
            assert owed <= 100 or owed - 20 < unit
            assert sum(settlement_transfers(durable)) == paid + received

    simulate(scenario())
