"""Books what the outbox holds, in order and under the same ids, so once; then hands over.

A hold that the ledger refuses now had been granted by the mirror; if its packet was fulfilled, the
post behind it is refused too and booked outright.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from connector.accounting.acknowledged import Acknowledged
from connector.accounting.availability import Availability
from connector.accounting.chart import Chart
from connector.accounting.credit import Credit
from connector.accounting.entries import chains, correcting_transfers, is_booked
from connector.accounting.promises import Promises
from connector.accounting.reports import Reports, packet_details
from connector.accounting.spool import Spool
from connector.accounting.turn import Turn
from connector.ledger.interface import Ledger
from connector.ledger.model import DONE, PENDING, POST, TAG_BITS, VOID, Status, Transfer

_SEQ_MAX: Final = 1 << 62


class Replay:
    """Knows how far the outbox has been replayed in this life of the node."""

    def __init__(
        self,
        *,
        turn: Turn,
        chart: Chart,
        credit: Credit,
        acknowledged: Acknowledged,
        spool: Spool,
        promises: Promises,
        availability: Availability,
        reports: Reports,
        is_stopping: Callable[[], bool],
    ) -> None:
        self._turn = turn
        self._chart = chart
        self._credit = credit
        self._acknowledged = acknowledged
        self._spool = spool
        self._promises = promises
        self._availability = availability
        self._reports = reports
        self._is_stopping = is_stopping
        self._done_seq = 0

    async def book_all(self) -> None:
        """Book all that the outbox holds; the mirror is loaded afterwards."""
        while await self._book_next(adjust=False):
            pass

    async def book_until(self, seq: int) -> None:
        """Book what the outbox holds up to request `seq`; the mirror is compared afterwards."""
        while self._done_seq < seq:
            if not await self._book_next(adjust=False, until_seq=seq):
                break

    async def hand_over(self) -> None:
        """Book what the outbox holds, and give the ledger back to the writer.

        Raises:
            LedgerUnavailableError, LedgerRefusedError, LedgerBehindError: not done; what is booked
                is booked.
        """
        pauses = False
        try:
            while True:
                rows = await self._book_next(adjust=True)
                if self._is_stopping():
                    return
                if rows < self._turn.ledger.batch_transfers_max and not pauses:
                    # Nearly there: the writer waits, so that the end can be reached.
                    pauses = True
                    self._availability.nearly_back()
                    await self._spool.pause()
                elif not rows:
                    # From here to the writer's next look at the phase nothing can come between.
                    pauses = False
                    self._availability.back()
                    return
        finally:
            if pauses:
                self._availability.relapsed()
            self._spool.may_write.set()

    async def _book_next(self, *, adjust: bool, until_seq: int = _SEQ_MAX) -> int:
        """Book the next requests of the outbox; returns how many transfers they held.

        `adjust`: corrections move the mirror too, which will not be loaded afterwards.
        """
        size_max = self._turn.ledger.batch_transfers_max
        loaded = await self._spool.load(self._done_seq, size_max)
        requests = [one for one in loaded if one[0] <= until_seq]
        transfers = [transfer for _, part in requests for transfer in part]
        done: list[int] = []
        async with self._turn as ledger:
            # An empty request asks whether the ledger is there.
            statuses = await ledger.create_transfers(transfers)
            assert len(statuses) == len(transfers)
            if self._acknowledged.is_doubtful(statuses):
                await self._acknowledged.compare(ledger)
            at = 0
            for seq, part in requests:
                part_statuses = statuses[at : at + len(part)]
                if await self._settle(ledger, seq, part, part_statuses, adjust):
                    done.append(seq)
                at += len(part)
        if requests:
            assert requests[-1][0] > self._done_seq
            self._done_seq = requests[-1][0]
        for seq in done:
            self._promises.replayed(seq)
        if done:
            await self._spool.forget(done)
        return len(transfers)

    async def _settle(
        self,
        ledger: Ledger,
        seq: int,
        transfers: list[Transfer],
        statuses: list[Status],
        adjust: bool,
    ) -> bool:
        """Correct what the ledger did not take; whether all of the request is booked now."""
        if all(status in DONE for status in statuses):
            return True
        corrected = self._promises.corrected_of(seq)
        complete = True
        for start, end in chains(transfers):
            first, chain = transfers[start], statuses[start:end]
            packet_id = first.id >> TAG_BITS << TAG_BITS
            if is_booked(chain) or first.flags & VOID or packet_id in corrected:
                continue
            details = packet_details(packet_id, chain)
            if first.flags & PENDING:
                # If it was fulfilled, its post is corrected; if not, nothing is owed.
                self._reports.alert("spooled_reservation_refused", details)
            elif not first.flags & POST:
                self._reports.counters.refused_unexpectedly += 1
                self._reports.alert("accounting_refused", details)
            else:
                legs = await self._legs_of(ledger, transfers[start:end])
                if not legs:
                    # Another ledger than the one it was meant for: a human must look.
                    self._reports.alert("outbox_transfer_unknown", details)
                    complete = False
                    continue
                await self._correct(ledger, legs, adjust)
                self._reports.alert("accounting_correction", details)
        return complete

    async def _legs_of(self, ledger: Ledger, posts: list[Transfer]) -> list[Transfer]:
        """The holds that `posts` make final."""
        if posts[0].debit_account_id:
            if posts[0].debit_account_id not in self._chart.by_id:
                return []
            return [post._replace(id=post.pending_id, pending_id=0, flags=0) for post in posts]
        held = await ledger.lookup_transfers([post.pending_id for post in posts])
        return [transfer._replace(timestamp=0) for transfer in held]

    async def _correct(self, ledger: Ledger, legs: list[Transfer], adjust: bool) -> None:
        correction = correcting_transfers(legs, self._chart.credit_line_of)
        await ledger.create_transfers(correction)
        self._reports.counters.corrections += 1
        if adjust:
            self._credit.mirror_correction(correction)
