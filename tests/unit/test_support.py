"""Simulated time, on which other tests depend (`tests.support.clocks`)."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.clocks import NothingWillHappenError, simulate


def test_simulated_time_passes_by_itself() -> None:
    async def wait() -> float:
        await asyncio.sleep(3600)
        return asyncio.get_running_loop().time()

    assert simulate(wait()) == 3600


def test_a_wait_without_end_is_an_error() -> None:
    with pytest.raises(NothingWillHappenError):
        simulate(asyncio.Event().wait())
