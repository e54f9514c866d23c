"""The ledger is given to one at a time, in the order in which they came."""

from __future__ import annotations

import asyncio

import pytest

from connector.accounting.turn import Turn
from tests.support.accounts import ScriptedLedger
from tests.support.clocks import SimulatedClock, simulate


def test_one_at_a_time_in_their_order() -> None:
    async def main() -> None:
        ledger = ScriptedLedger(clock=SimulatedClock())
        turn = Turn(ledger)
        order: list[str] = []

        async def ask(name: str) -> None:
            async with turn as given:
                assert given is ledger
                order.append(f"{name} begins")
                await asyncio.sleep(1)
                order.append(f"{name} ends")

        async with asyncio.TaskGroup() as group:
            for name in "abc":
                group.create_task(ask(name))
        assert order == [f"{name} {what}" for name in "abc" for what in ("begins", "ends")]

    simulate(main())


def test_a_request_that_fails_or_is_cancelled_ends_its_turn() -> None:
    async def main() -> None:
        turn = Turn(ScriptedLedger(clock=SimulatedClock()))
        with pytest.raises(ValueError, match="on purpose"):
            async with turn:
                raise ValueError("on purpose")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1), turn:
                await asyncio.sleep(2)
        async with asyncio.timeout(1), turn:
            pass

    simulate(main())
