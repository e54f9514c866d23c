"""The ledger and its lock: one request at a time (see `Ledger`)."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Final

from connector.ledger.interface import Ledger


class Turn:
    """The only holder of the ledger in this package.

    `async with turn as ledger:` gives exclusive access, in the order of the requests for it.
    """

    def __init__(self, ledger: Ledger) -> None:
        self.ledger: Final = ledger
        """For its properties; requests need the turn."""
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
        """Close the ledger, after all tasks that use it have ended."""
        await self.ledger.close()
