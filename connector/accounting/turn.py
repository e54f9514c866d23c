"""The ledger and its lock: one request at a time (see `Ledger`).

After a failed request the next answer may come from a server with another data file. So the next
holder of the turn first compares the ledger with what it has acknowledged.

Callers that waited during the failed request fail with its error at once. Otherwise each would wait
one timeout for every caller before it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Final

from connector.base.errors import LedgerNotNowError, LedgerRefusedError, LedgerUnavailableError
from connector.ledger.interface import Ledger

_CLOSED: Final = "the ledger is closed: the node stops"


class Turn:
    """The only holder of the ledger among the parts that book.

    `history` reads past balances within a turn; a standby, which is no node yet, has its ledger to itself.

    `async with turn as ledger:` gives exclusive access, in the order of the requests for it.
    """

    def __init__(self, ledger: Ledger) -> None:
        self.ledger: Final = ledger
        """For its properties; requests need the turn."""
        # As `asyncio.Lock`, at a tenth of its cost where nobody waits.
        self._is_taken = False
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._compare: Callable[[Ledger], Awaitable[None]] | None = None
        self._is_in_doubt = False
        """Whether a request has failed since the ledger was compared."""
        self._failures = 0
        """Requests without an answer: whoever sees it change while it waits fails too."""
        self._why = ""
        """The reason of the last one."""
        self._is_closed = False

    def compare_after_failures(self, compare: Callable[[Ledger], Awaitable[None]]) -> None:
        """Have `compare` called after a failed request, from now on: the ledger was opened.

        It raises LedgerUnavailableError if the ledger is not the right one.
        """
        self._compare = compare

    async def __aenter__(self) -> Ledger:
        """Wait for the turn.

        Raises:
            LedgerUnavailableError: a request that this one waited for was not answered; or the
                ledger is closed, cannot be compared, or is not the right one.
        """
        failures = self._failures
        if self._is_taken or self._waiting:
            await self._wait()
        self._is_taken = True
        if self._is_closed or self._failures != failures:
            self._release()
            raise LedgerUnavailableError(_CLOSED if self._is_closed else self._why)
        if self._is_in_doubt and self._compare is not None:
            try:
                await self._compare(self.ledger)
            except BaseException as error:
                self._end(error)
                raise
            self._is_in_doubt = False
        return self.ledger

    async def __aexit__(
        self,
        _type: type[BaseException] | None,
        error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self._end(error)

    def _end(self, error: BaseException | None) -> None:
        assert self._is_taken
        # LedgerNotNowError is raised without a request: it says nothing about the ledger.
        if not isinstance(error, LedgerNotNowError):
            if isinstance(error, LedgerUnavailableError):
                self._failures += 1
                self._why = str(error)
            if isinstance(error, LedgerUnavailableError | LedgerRefusedError):
                self._is_in_doubt = True
        self._release()

    async def _wait(self) -> None:
        """Until it is this caller's turn, in the order of the calls."""
        called = asyncio.get_running_loop().create_future()
        self._waiting.append(called)
        try:
            try:
                await called
            finally:
                self._waiting.remove(called)
        except asyncio.CancelledError:
            # It may have been called and cancelled at the same time.
            if not self._is_taken:
                self._call_next()
            raise
        assert not self._is_taken, "two at a time"

    def _release(self) -> None:
        self._is_taken = False
        self._call_next()

    def _call_next(self) -> None:
        if self._waiting and not self._waiting[0].done():
            self._waiting[0].set_result(None)

    async def close(self) -> None:
        """Close the ledger. Who asks for the turn from now on is refused, also if it waits for it."""
        self._is_closed = True
        await self.ledger.close()
