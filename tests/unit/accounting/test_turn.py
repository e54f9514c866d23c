"""The lock of the ledger: one request at a time, in the order of arrival."""

from __future__ import annotations

import asyncio

import pytest

from connector.accounting.turn import Turn
from connector.base.errors import (
    LedgerNotNowError,
    LedgerRefusedError,
    LedgerUnavailableError,
)
from connector.ledger.interface import Ledger
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


@pytest.mark.parametrize(
    "failure", [LedgerUnavailableError("away"), LedgerRefusedError("session_evicted", "ended")]
)
def test_after_a_request_that_failed_the_ledger_is_compared_first(failure: Exception) -> None:
    async def main() -> None:
        ledger = ScriptedLedger(clock=SimulatedClock())
        turn = Turn(ledger)
        compared: list[Ledger] = []
        is_right = False

        async def compare(one: Ledger) -> None:
            compared.append(one)
            if not is_right:
                raise LedgerUnavailableError("another one")

        async def fail() -> None:
            async with turn:
                raise failure

        with pytest.raises(type(failure)):
            await fail()
        async with turn:
            pass  # not opened yet: the start compares by itself
        turn.compare_after_failures(compare)
        for number in (1, 2):
            with pytest.raises(LedgerUnavailableError, match="another one"):
                async with turn:
                    raise AssertionError("given a ledger in doubt")
            assert compared == [ledger] * number
        is_right = True
        async with asyncio.timeout(1), turn as given:
            assert given is ledger
        async with turn:
            pass
        assert len(compared) == 3, "once is enough"

    simulate(main())


def test_those_who_wait_fail_with_the_request_that_is_not_answered() -> None:
    async def main() -> None:
        turn = Turn(ScriptedLedger(clock=SimulatedClock()))
        loop = asyncio.get_running_loop()
        failed: list[tuple[int, float, str]] = []

        async def compare(_: Ledger) -> None:
            await asyncio.sleep(1)
            raise LedgerUnavailableError("no answer to this either")

        async def ask(number: int, after_s: float) -> None:
            await asyncio.sleep(after_s)
            try:
                async with turn:
                    await asyncio.sleep(1)
                    raise LedgerUnavailableError("no answer")
            except LedgerUnavailableError as error:
                failed.append((number, loop.time(), str(error)))

        turn.compare_after_failures(compare)
        began_s = loop.time()
        async with asyncio.TaskGroup() as group:
            for number, after_s in enumerate((0, 0.1, 0.9, 1.5, 1.6)):
                group.create_task(ask(number, after_s))
        assert [(number, round(at_s - began_s, 3), why) for number, at_s, why in failed] == [
            (0, 1.0, "no answer"),
            (1, 1.0, "no answer"),
            (2, 1.0, "no answer"),
            (3, 2.5, "no answer to this either"),
            (4, 2.5, "no answer to this either"),
        ]

    simulate(main())


@pytest.mark.parametrize(
    "failure",
    [LedgerRefusedError("session_evicted", "ended"), LedgerNotNowError("is being changed")],
    ids=["a session that ended", "a request that cannot be made now"],
)
def test_what_is_not_the_silence_of_the_ledger_does_not_fail_those_who_wait(
    failure: Exception,
) -> None:
    async def main() -> None:
        ledger = ScriptedLedger(clock=SimulatedClock())
        turn = Turn(ledger)

        async def refused() -> None:
            async with turn:
                await asyncio.sleep(1)
                raise failure

        task = asyncio.ensure_future(refused())
        await asyncio.sleep(0.5)
        async with turn as given:
            assert given is ledger
        with pytest.raises(type(failure)):
            await task

    simulate(main())


def test_after_it_is_closed_nobody_gets_the_turn_who_waits_for_it_or_asks_for_it() -> None:
    async def main() -> None:
        turn = Turn(ScriptedLedger(clock=SimulatedClock()))
        refused = 0

        async def ask() -> None:
            nonlocal refused
            with pytest.raises(LedgerUnavailableError, match="closed"):
                async with turn:
                    raise AssertionError
            refused += 1

        async with turn:
            waiting = asyncio.create_task(ask())
            await asyncio.sleep(0)
            await turn.close()
        await waiting
        await ask()
        assert refused == 2

    simulate(main())
