"""The outbox in use: what the ledger has not acknowledged is put there, and taken out when it has.

Two things go into the outbox. While the ledger is away and the policy is *spool*, requests go there
instead of the ledger. And a post that the ledger does not acknowledge within its budget goes there
before its Fulfill is let go: a Fulfill is money that we owe already, so it must not wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final, Protocol

from connector.accounting import bounds
from connector.accounting.entries import promised_rows
from connector.accounting.fulfilments import Store
from connector.accounting.promises import Outcome, PromiseEvent, Promises, Reservation
from connector.accounting.reports import Reports
from connector.base.errors import ConnectorError
from connector.ledger.model import Memory, Posted, Transfer


class Outbox(Store, Protocol):
    """Durable memory of what was promised but not acknowledged: requests, in order.

    Beside them it keeps fulfilments, see `fulfilments`.
    """

    @property
    def transfers(self) -> int:
        """How many are in it."""

    async def add(self, transfers: list[Transfer]) -> int:
        """On disk when this returns its number, which rises."""

    async def remove(self, seqs: list[int]) -> None:
        """Forget requests that the ledger has acknowledged."""

    async def load(self, after_seq: int, transfers_max: int) -> list[tuple[int, list[Transfer]]]:
        """The oldest after `after_seq`, as many as fit in `transfers_max`, and one at least."""

    async def restore(self) -> bool:
        """Whether it had been taken away from under us, and is there again."""

    async def begin(self) -> Memory:
        """What is known of the time before; from now on the node has not stopped cleanly."""

    async def end(self, books: Mapping[int, Posted]) -> None:
        """The node stops cleanly, with these balances."""

    async def remember(
        self, books: Mapping[int, Posted], highest_id: int, *, anew: bool = False
    ) -> None:
        """Remember what the ledger has acknowledged; `anew`: and nothing else of before."""


class Spool:
    """The only one who uses the outbox while the node runs."""

    def __init__(
        self, *, outbox: Outbox, promises: Promises, reports: Reports, transfers_max: int
    ) -> None:
        """`transfers_max`: room for new packets while the ledger is away; 0: they are rejected."""
        self.transfers_max: Final = transfers_max
        self.may_write: Final = asyncio.Event()
        """Set but while the writer has to wait, so that a replay can reach the end."""
        self.may_write.set()
        self._outbox = outbox
        self._promises = promises
        self._reports = reports
        self.writing: Final = asyncio.Lock()
        """Who puts something in holds it from choosing what to put: each post goes in once."""
        self._last_seq = 0
        # Posts that `run` puts in: a slow disk keeps it waiting, not their Fulfills.
        self._to_put: list[Reservation] = []
        self._put_wanted = asyncio.Event()
        self._put_done = asyncio.Event()
        self._is_stopping = False
        # Booked, but a fault kept them in the outbox: no more than it holds.
        self._booked_seqs: list[int] = []
        self._is_lost = False

    @property
    def transfers(self) -> int:
        """How many are in the outbox."""
        return self._outbox.transfers

    @property
    def has_room(self) -> bool:
        """Whether new packets may still be spooled."""
        return self._outbox.transfers < self.transfers_max

    # --- from one life of the node to the next

    async def begin(self) -> Memory:
        """What is known of the time before.

        Raises:
            LedgerUnavailableError: the disk refuses.
        """
        return await self._outbox.begin()

    async def end(self, books: Mapping[int, Posted]) -> None:
        """Remember balances, after a clean stop."""
        try:
            await self._outbox.end(books)
        except (OSError, ConnectorError) as error:
            self._reports.outbox_failed(str(error))

    async def remember(
        self, books: Mapping[int, Posted], highest_id: int, *, anew: bool = False
    ) -> None:
        """Remember what the ledger has acknowledged of some accounts; `anew`: of no others."""
        try:
            await self._outbox.remember(books, highest_id, anew=anew)
        except (OSError, ConnectorError) as error:
            self._reports.outbox_failed(str(error))

    # --- in place of the ledger

    async def write(self, transfers: list[Transfer]) -> int:
        """Put a request into the outbox in place of the ledger; gives its number.

        Raises:
            OSError, ConnectorError: it is not on disk.
        """
        seq = await self._add(transfers)
        self._reports.counters.spooled += len(transfers)
        return seq

    async def pause(self) -> None:
        """Have the writer wait; after this, all that it has spooled is in the outbox."""
        self.may_write.clear()
        async with self.writing:
            pass

    async def load(self, after_seq: int, transfers_max: int) -> list[tuple[int, list[Transfer]]]:
        """The oldest requests after one, as many as fit in `transfers_max`, and one at least."""
        requests = await self._outbox.load(after_seq, transfers_max)
        assert all(seq > after_seq for seq, _ in requests), "an outbox out of order"
        return requests

    async def _add(self, transfers: list[Transfer]) -> int:
        assert transfers, "a request of nothing"
        assert self.writing.locked(), "two at a time"
        seq = await self._outbox.add(transfers)
        assert seq > self._last_seq, (seq, self._last_seq)
        self._last_seq = seq
        return seq

    # --- posts whose Fulfills must not wait

    async def release_overdue(self) -> None:
        """Put posts whose budget is used up into the outbox and let their Fulfills go.

        Also when the outbox cannot be written in time: keeping a Fulfill back would turn the
        risk of a loss into the loss. They are put there all the same, as soon as the disk does it.
        """
        overdue = self._promises.take_overdue()
        unbooked = [one for one in overdue if not one.posted]
        if unbooked:
            self.put(unbooked)
            try:
                async with asyncio.timeout(bounds.OUTBOX_BUDGET_MS / 1000):
                    await self._put_done.wait()
            except TimeoutError:
                self._reports.outbox_failed("too slow")
        self._release(overdue)

    def put(self, posts: list[Reservation]) -> None:
        """Have posts put into the outbox, as far as they are neither booked nor there then."""
        assert posts, "nothing to put"
        self._to_put += posts
        self._put_done.clear()
        self._put_wanted.set()

    async def run(self) -> None:
        """Put posts into the outbox, until `stop` and all are there."""
        while self._to_put or not self._is_stopping:
            if not self._to_put:
                await self._put_wanted.wait()
                self._put_wanted.clear()
                continue
            try:
                async with self.writing:
                    posts, self._to_put = self._to_put, []
                    await self._put_unbooked(posts)
            except (OSError, ConnectorError) as error:
                # The writer still has them queued.
                self._reports.outbox_failed(str(error))
            if not self._to_put:
                self._put_done.set()
            # Some may have been booked while they were put there.
            await self.clear()

    def stop(self) -> None:
        """Let `run` end."""
        self._is_stopping = True
        self._put_wanted.set()

    async def _put_unbooked(self, posts: list[Reservation]) -> None:
        unbooked = [one for one in posts if not one.posted and not one.outbox_seq]
        transfers = [transfer for one in unbooked for transfer in promised_rows(one)]
        if transfers:
            seq = await self._add(transfers)
            self._promises.stored(seq, unbooked)

    def _release(self, overdue: list[Reservation]) -> None:
        reports = self._reports
        for reservation in overdue:
            if reservation.released:
                continue  # the writer was first: it is in the outbox
            waiter, reservation.waiter = reservation.waiter, None
            reservation.move(PromiseEvent.RELEASE)
            if not reservation.posted:
                reports.counters.released += 1
            reports.resume(waiter, Outcome.POSTED if reservation.posted else Outcome.RELEASED)
        reports.turn_done()

    # --- what is booked

    async def clear(self) -> None:
        """Take out what has been booked: now, or while it was being put in."""
        booked = self._promises.take_booked_seqs()
        if booked:
            await self.forget(booked)

    async def forget(self, seqs: list[int]) -> None:
        """Take requests out of the outbox that are booked; what stays there now goes later.

        A crash meanwhile is no harm: replaying it once more changes nothing.
        """
        self._booked_seqs += seqs
        seqs, self._booked_seqs = self._booked_seqs, []
        try:
            await self._outbox.remove(seqs)
        except (OSError, ConnectorError) as error:
            self._booked_seqs += seqs
            self._reports.outbox_failed(str(error))

    async def look_after(self) -> None:
        """See that the outbox is still there; called every second or so."""
        try:
            was_removed = await self._outbox.restore()
        except (OSError, ConnectorError) as error:
            if not self._is_lost:
                self._reports.outbox_failed(str(error))
            self._is_lost = True
            return
        self._is_lost = False
        if self._booked_seqs:
            await self.forget([])
        if was_removed:
            self._reports.alert(
                "outbox_was_removed",
                {"transfers": self._outbox.transfers, "detail": "written anew, nothing is lost"},
            )
