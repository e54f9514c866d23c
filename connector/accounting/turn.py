"""The ledger, and whose turn it is: one request is out at a time (see `Ledger`)."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Final

from connector.ledger.interface import Ledger


class Turn:
    """Holds the ledger; nobody else in this package does.

    `async with turn as ledger:` gives it to one at a time, in the order in which they came.
    """

    def __init__(self, ledger: Ledger) -> None:
        self.ledger: Final = ledger
        """For what is no request: its kind, its limits."""
        self._lock = asyncio.Lock()

    async def __aenter__(self) -> Ledger:
        await self._lock.acquire()
        return self.ledger

    async def __aexit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        assert self._lock.locked()
        self._lock.release()

    async def close(self) -> None:
        """Let go of the ledger, after all tasks that use it have ended."""
        await self.ledger.close()
