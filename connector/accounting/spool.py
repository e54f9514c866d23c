"""Writes to the outbox what the ledger has not acknowledged, and removes it when it has.

Two things go into the outbox. While the ledger is away and the policy is *spool*, requests go there
instead of the ledger. And a post that the ledger does not acknowledge within its budget goes there,
so that its Fulfill need not wait for the ledger. It waits for the disk: a post is durable before its
Fulfill is sent. A write that fails is retried; a Fulfill whose post is not durable when the sender's
time runs out is sent nevertheless, with an alert.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Final, Protocol

from connector.accounting import bounds
from connector.accounting.entries import promised_rows
from connector.accounting.fulfilments import Store
from connector.accounting.promises import Outcome, Promises, Reservation, Token, to_be_kept
from connector.accounting.reports import TOO_SLOW, Reports
from connector.base.errors import ConnectorError
from connector.base.words import words_of
from connector.ledger.model import Memory, Posted, Transfer


class Outbox(Store, Protocol):
    """Durable requests that the ledger has not acknowledged, in order. See `outbox.SqliteOutbox`.

    It keeps fulfilments in the same file, see `fulfilments`.
    """

    @property
    def transfers(self) -> int:
        """Transfers in the outbox."""

    @property
    def waits_for_commits(self) -> bool:
        """Whether the event loop waits for its commits at present (`base.pace`)."""

    async def add(self, transfers: list[Transfer]) -> int:
        """Append a request; it is on disk when this returns its number. Numbers rise."""

    async def remove(self, seqs: list[int]) -> None:
        """Remove requests that the ledger has acknowledged."""

    async def load(self, after_seq: int, transfers_max: int) -> list[tuple[int, list[Transfer]]]:
        """The oldest requests after `after_seq`, as many as fit in `transfers_max`, at least one."""

    async def restore(self) -> bool:
        """Write the file again if it was deleted while in use; returns whether it was."""

    async def begin(self) -> Memory:
        """Read what was saved before this start, and mark the node as not stopped cleanly."""

    async def end(self, books: Mapping[int, Posted]) -> None:
        """Save these balances and mark the node as stopped cleanly."""

    async def remember(
        self, books: Mapping[int, Posted], highest_id: int, *, replace: bool = False
    ) -> None:
        """Save what the ledger has acknowledged; `replace`: and delete all other balances."""


class Spool:
    """The only user of the outbox while the node runs."""

    def __init__(
        self, *, outbox: Outbox, promises: Promises, reports: Reports, transfers_max: int
    ) -> None:
        """`transfers_max`: room for new packets while the ledger is away; 0: they are rejected."""
        self.transfers_max: Final = transfers_max
        self.may_write: Final = asyncio.Event()
        """Cleared while the writer is paused, so that a replay can reach the end."""
        self.may_write.set()
        self._outbox = outbox
        self._promises = promises
        self._reports = reports
        self.writing: Final = asyncio.Lock()
        """Held from choosing what to write until it is written, so that each post goes in once."""
        self._last_seq = 0
        self._now_ms = 0
        # Posts that `run` writes. The writer has each of them in its queue or in flight as well, which
        # bounds them.
        self._to_put: dict[int, Reservation] = {}
        self._put_wanted = asyncio.Event()
        self._put_failed = ""
        """Why the last write failed; empty: it did not."""
        self._is_stopping = False
        # Booked requests that a fault kept in the outbox; bounded by what the outbox holds.
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

    # --- state kept over restarts

    async def begin(self) -> Memory:
        """Read what was saved before this start.

        Raises:
            LedgerUnavailableError: the disk refuses.
        """
        return await self._outbox.begin()

    async def end(self, books: Mapping[int, Posted]) -> None:
        """Save balances after a clean stop; a failure is reported."""
        try:
            await self._outbox.end(books)
        except (OSError, ConnectorError) as error:
            self._reports.outbox_failed(words_of(error))

    async def remember(
        self, books: Mapping[int, Posted], highest_id: int, *, replace: bool = False
    ) -> None:
        """Save what the ledger has acknowledged of some accounts; `replace`: delete all others."""
        try:
            await self._outbox.remember(books, highest_id, replace=replace)
        except (OSError, ConnectorError) as error:
            self._reports.outbox_failed(words_of(error))

    # --- instead of the ledger

    async def write(self, transfers: list[Transfer]) -> int:
        """Write a request to the outbox instead of the ledger; returns its number.

        Raises:
            OSError, ConnectorError: it is not on disk.
        """
        seq = await self._add(transfers)
        self._reports.counters.spooled += len(transfers)
        return seq

    async def pause(self) -> None:
        """Pause the writer; when this returns, all that it has spooled is in the outbox."""
        self.may_write.clear()
        async with self.writing:
            pass

    async def load(self, after_seq: int, transfers_max: int) -> list[tuple[int, list[Transfer]]]:
        """The oldest requests after `after_seq`, as many as fit in `transfers_max`, at least one."""
        requests = await self._outbox.load(after_seq, transfers_max)
        assert all(seq > after_seq for seq, _ in requests), "an outbox out of order"
        return requests

    async def keep(self, posts: list[Reservation]) -> None:
        """Write those Fulfills that were to be kept beside posts in the ledger, before these posts.

        Raises:
            OSError, ConnectorError: they are not on disk.
        """
        unkept = [one for one in posts if one.fulfill]
        if unkept:
            await self._outbox.keep([to_be_kept(one) for one in unkept])
            for reservation in unkept:
                reservation.fulfill = b""

    async def _add(self, transfers: list[Transfer]) -> int:
        assert transfers, "a request of nothing"
        assert self.writing.locked(), "two at a time"
        seq = await self._outbox.add(transfers)
        assert seq > self._last_seq, (seq, self._last_seq)
        self._last_seq = seq
        return seq

    # --- overdue posts

    def tick(self, now_ms: int) -> None:
        """Queue posts whose budget is used up; release Fulfills whose last moment has come."""
        self._now_ms = now_ms
        overdue = self._promises.take_overdue(now_ms)
        if overdue:
            self.put(overdue)
        waiters = self._promises.take_latest(now_ms)
        if waiters:
            self._reports.tally("posts_not_durable", len(waiters), self._put_failed or TOO_SLOW)
            self._tell_released(waiters)

    def put(self, posts: list[Reservation]) -> None:
        """Queue posts for `run`, which writes those that are neither booked nor in the outbox yet."""
        assert posts, "nothing to put"
        self._to_put.update((one.packet_id, one) for one in posts)
        self._put_wanted.set()

    async def run(self) -> None:
        """Write queued posts to the outbox, until `stop` and the queue is empty."""
        while self._to_put or not self._is_stopping:
            if not self._to_put:
                await self._put_wanted.wait()
                self._put_wanted.clear()
                continue
            async with self.writing:
                posts, self._to_put = self._to_put, {}
                try:
                    await self._put_unbooked(posts.values())
                except (OSError, ConnectorError) as error:
                    # The writer has them queued too; what it books meanwhile is not written here.
                    self._to_put = posts | self._to_put
                    self._note_failed(str(error))
                else:
                    self._put_failed = ""
            # Some may have been booked while they were written.
            await self.clear()
            if self._put_failed:
                if self._is_stopping:
                    return
                await asyncio.sleep(bounds.OUTBOX_RETRY_SECONDS)

    def stop(self) -> None:
        """Let `run` end."""
        self._is_stopping = True
        self._put_wanted.set()

    async def _put_unbooked(self, posts: Iterable[Reservation]) -> None:
        unbooked = [one for one in posts if not one.posted and not one.outbox_seq]
        not_kept: Exception | None = None
        try:
            await self.keep(unbooked)
        except (OSError, ConnectorError) as error:
            not_kept = error
            unbooked = self._without_fulfill(unbooked, str(error))
        transfers = [transfer for one in unbooked for transfer in promised_rows(one)]
        if transfers:
            seq = await self._add(transfers)
            self._tell_released(self._promises.stored(seq, unbooked))
        if not_kept is not None:
            raise not_kept

    def _without_fulfill(self, posts: list[Reservation], why: str) -> list[Reservation]:
        """The posts to write although Fulfills cannot be kept: they have none, or no time is left."""
        latest_ms = self._now_ms + bounds.FULFILMENT_WAIT_MS
        late = [one for one in posts if one.fulfill and one.latest_ms <= latest_ms]
        if late:
            self._reports.tally("fulfilments_not_kept", len(late), why)
        return [one for one in posts if not one.fulfill] + late

    def _note_failed(self, why: str) -> None:
        if not self._put_failed:
            self._reports.outbox_failed(why)
        self._put_failed = why

    def _tell_released(self, waiters: list[Token]) -> None:
        reports = self._reports
        reports.counters.released += len(waiters)
        for waiter in waiters:
            reports.resume(waiter, Outcome.RELEASED)
        reports.turn_done()

    # --- removing what is booked

    async def clear(self) -> None:
        """Remove requests whose posts have all been booked, even while they were being written."""
        booked = self._promises.take_booked_seqs()
        if booked:
            await self.forget(booked)

    async def forget(self, seqs: list[int]) -> None:
        """Remove booked requests from the outbox; what cannot be removed now is removed later.

        A crash in between is harmless: replaying them again changes nothing.
        """
        self._booked_seqs += seqs
        seqs, self._booked_seqs = self._booked_seqs, []
        try:
            await self._outbox.remove(seqs)
        except (OSError, ConnectorError) as error:
            self._booked_seqs += seqs
            self._reports.outbox_failed(words_of(error))

    async def maintain(self) -> None:
        """Check that the outbox's file exists; called about once a second."""
        try:
            was_removed = await self._outbox.restore()
        except (OSError, ConnectorError) as error:
            if not self._is_lost:
                self._reports.outbox_failed(words_of(error))
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
