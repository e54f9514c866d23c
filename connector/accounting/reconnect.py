"""Polls a ledger that is away until it answers, then replays the outbox."""

from __future__ import annotations

import asyncio
import contextlib

from connector.accounting.acknowledged import Acknowledged
from connector.accounting.availability import Availability
from connector.accounting.leaseholder import LeaseHolder
from connector.accounting.replay import Replay
from connector.accounting.reports import Reports
from connector.accounting.start import Start
from connector.accounting.turn import Turn
from connector.base.errors import (
    LedgerBehindError,
    LedgerRefusedError,
    LedgerUnavailableError,
    SupersededError,
)


class Reconnect:
    """See the module."""

    def __init__(
        self,
        *,
        turn: Turn,
        acknowledged: Acknowledged,
        lease: LeaseHolder,
        availability: Availability,
        replay: Replay,
        reports: Reports,
        wanted: asyncio.Event,
    ) -> None:
        """`wanted` is set by others when the ledger is found to be away."""
        self._turn = turn
        self._acknowledged = acknowledged
        self._lease = lease
        self._availability = availability
        self._replay = replay
        self._reports = reports
        self._start: Start | None = None
        self._wanted = wanted
        self._is_stopping = False

    def stop(self) -> None:
        """Let `run` end."""
        self._is_stopping = True
        self._wanted.set()

    def finish_later(self, start: Start) -> None:
        """The node started without its ledger: `start` is finished when the ledger answers."""
        assert self._start is None
        assert self._availability.is_away
        self._start = start

    async def run(self) -> None:
        """Poll the ledger whenever it is away; until `stop`."""
        while not self._is_stopping:
            if not self._availability.is_away:
                self._wanted.clear()
                await self._wanted.wait()
                continue
            await asyncio.sleep(self._availability.ask_again_s)
            try:
                await self._resync()
            except LedgerUnavailableError as error:
                self._availability.still_away(str(error))
            except LedgerBehindError as error:
                self._acknowledged.refuse(error)
            except LedgerRefusedError as error:
                if self._availability.refused(str(error)):
                    self._reports.alert(
                        "ledger_refused", {"reason": error.reason, "error": str(error)}
                    )

    async def _resync(self) -> None:
        if self._start is not None:
            await self._start.reach()
            assert self._availability.is_up or self._availability.spools
            self._start = None
        if self._availability.is_away:
            async with self._turn as ledger:
                await self._acknowledged.compare(ledger)
                # What the outbox holds was promised, whoever is active now: it is booked all the same.
                with contextlib.suppress(SupersededError):
                    await self._lease.look(ledger)
            await self._replay.hand_over()
