"""A Fulfill that the next hop could not be asked for again is on disk before its post, or with it.

A next hop with packet ids answers a resent packet with the same Fulfill. A next hop without them,
and a receiver of this node, would treat it as a new packet. Their Fulfills are kept: after a crash
a resent packet is answered with the kept one, and what was fulfilled but not posted is posted
(`recovery`). The ledger decides where:

- beside the post, in the same request, if the ledger supports it (`Ledger.fulfilments`): both are
  durable, or neither. If the post goes into the outbox instead, so does the Fulfill, before it;
- else in `outbox.db`. When it is on disk the post is queued and the Fulfill relayed: after a crash
  the kept Fulfill shows that its amount is owed (`recovery`). Where a standby on another machine
  waits, which would not know of it, the Fulfill is relayed like any other: when the post is booked,
  or in the outbox. A write that fails is retried, and no packet that would need one is admitted
  meanwhile. A packet whose Fulfill is not on disk when the sender's last moment comes is posted all
  the same, with an alert;
- nowhere, if the ledger does not keep its books either (`Ledger.keeps_books`).

Where Fulfills are kept in `outbox.db`, those that could be fetched again may be kept there as well, for a
moment (`post_early`): the write takes less time than the ledger's answer. Nothing depends on it: where
it fails or takes long, where there is little room or many packets are in flight, while the ledger is away or a standby
waits, and on a disk that is new to a node which is not, such a Fulfill is relayed when its post is booked.

A Fulfill that could not be fetched again is kept until the packet can no longer be resent. It is kept also after the sender has read
the answer: a sender that is a connector keeps no Fulfill itself and resends to us when it gets a
resent packet.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol

from connector.accounting import bounds
from connector.accounting.promises import Outcome, Promises, Reservation, Token, to_be_kept
from connector.accounting.reports import TOO_SLOW, Reports
from connector.base import limits
from connector.base.clock import Clock
from connector.base.errors import ConnectorError
from connector.ledger.interface import KeptBeside, Ledger
from connector.ledger.model import Kept

_NEVER_MS: Final = 1 << 62


def _in_s(seconds: float) -> float:
    return asyncio.get_running_loop().time() + seconds


class Store(KeptBeside, Protocol):
    """The store of what the ledger does not keep; see `outbox.SqliteOutbox`."""

    async def keep(self, rows: Sequence[Kept]) -> None:
        """On disk when this returns.

        Raises:
            LedgerUnavailableError: the disk refuses.
        """


class Posts(Protocol):
    """The queue of posts; see `Writer`."""

    def post(self, token: Token, reservation: Reservation, expires_at_ms: int) -> None:
        """Queue a post; without a token its Fulfill has been relayed."""

    @property
    def depth(self) -> int:
        """Packets that wait to be written."""

    @property
    def in_request(self) -> int:
        """Packets in the request that the ledger has not answered; zero: there is none."""


class _Waiting:
    # A plain class: a NamedTuple is slow to construct, also in compiled code.
    __slots__ = ("expires_at_ms", "is_needed", "latest_ms", "reservation", "token")

    def __init__(
        self,
        token: Token,
        reservation: Reservation,
        expires_at_ms: int,
        latest_ms: int,
        is_needed: bool,
    ) -> None:
        self.token = token
        self.reservation = reservation
        self.expires_at_ms = expires_at_ms
        self.latest_ms = latest_ms
        """When its post is queued, on disk or not."""
        self.is_needed = is_needed
        """Whether it could not be fetched again."""


class Fulfilments:
    """See the module. The only writer of the store."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        store: Store,
        posts: Posts,
        reports: Reports,
        clock: Clock,
        promises: Promises,
        is_watched: Callable[[], bool],
        is_up: Callable[[], bool],
    ) -> None:
        """Nothing is kept yet.

        Args:
            ledger: says where Fulfills are kept.
            store: keeps those that the ledger does not keep.
            posts: the queue of posts.
            reports: outcomes and alerts.
            clock: for deadlines.
            promises: posts that the ledger has not acknowledged.
            is_watched: whether a process with another store may take over.
            is_up: whether posts go to the ledger.
        """
        self._store = store
        self._posts = posts
        self._post = posts.post
        self._reports = reports
        self._clock = clock
        self._promises = promises
        self._is_watched = is_watched
        self._is_up = is_up
        beside = ledger.fulfilments
        self._is_beside: Final = beside is not None
        self._keeps: Final = ledger.keeps_books
        self.may_relay_early: Final = ledger.keeps_books and beside is None
        """Whether `post_early` can be of use with this ledger."""
        # The outbox may have some from when the node ran with another ledger, or version.
        self._kept: Final[list[KeptBeside]] = [store] if beside is None else [beside, store]
        self._waiting: list[_Waiting] = []
        # Those that are being written.
        self._writing: list[_Waiting] = []
        # Posted already: their last moment came. No more than are in flight when the disk begins to
        # fail, since nothing is taken then that would need it.
        self._late_rows: list[Kept] = []
        self._failed = ""
        """Why rows that are needed are not on disk; empty: they are."""
        self._is_other_disk = False
        """Whether DATA_DIR is new, and the node is not: it may be lost again."""
        self._not_early_before_ms = 0
        """The disk has failed, or taken long: until then no Fulfill is kept that need not be."""
        self._wake: Final = asyncio.Event()
        # `run` is woken when so many wait; more than one while it gathers.
        self._enough = 1
        self._patience: asyncio.Timeout | None = None
        self._is_stopping = False

    @property
    def has_room(self) -> bool:
        """Whether further packets can be admitted; there is always room for those in flight."""
        used = 0
        for one in self._kept:
            used += one.kept_bytes
        return (
            used < bounds.FULFILMENTS_BYTES_MAX
            and not self._failed
            # Those that were relayed are in flight no more, and the ledger may be away.
            and len(self._promises) < limits.IN_FLIGHT_TOTAL_MAX
        )

    @property
    def is_empty(self) -> bool:
        """Whether nothing is kept."""
        return not any(one.kept_bytes for one in self._kept)

    def keep_and_post(
        self, token: Token, reservation: Reservation, expires_at_ms: int, octets: bytes
    ) -> None:
        """Queue the post of a packet, with its fulfilment or after it."""
        if not self._keeps:
            self._post(token, reservation, expires_at_ms)
            return
        now_ms = self._clock.now_ms()
        lives_ms = min(max(0, expires_at_ms - now_ms), limits.EXPIRY_MS_MAX)
        reservation.fulfill = octets
        # Twice: the sender's clock may be wrong by as much as ours.
        reservation.keep_until_ms = now_ms + lives_ms + 2 * limits.CLOCK_ERROR_MS
        if self._is_beside:
            self._post(token, reservation, expires_at_ms)
            return
        left_ms = max(0, expires_at_ms - bounds.POST_EXPIRY_MARGIN_MS - now_ms)
        latest_ms = now_ms + max(left_ms // 2, left_ms - bounds.FULFILMENT_POST_MS)
        assert now_ms <= latest_ms <= now_ms + left_ms, (latest_ms, now_ms, left_ms)
        self._waiting.append(_Waiting(token, reservation, expires_at_ms, latest_ms, True))
        if (
            len(self._waiting) == self._enough
            or latest_ms <= now_ms + bounds.FULFILMENTS_GATHERED_UNTIL_MS
        ):
            self._wake.set()

    def post_early(
        self, token: Token, reservation: Reservation, expires_at_ms: int, octets: bytes
    ) -> None:
        """Queue the post of a packet whose Fulfill could be fetched again.

        If that can be done at once the Fulfill is kept and relayed first. Its row shows after a crash
        what is owed; it is kept until the post is in the ledger or in the outbox (`maintain`).
        """
        now_ms = self._clock.now_ms()
        latest_ms = now_ms + bounds.FULFILMENT_EARLY_MS
        if (
            # In a crowd it is CPU that packets wait for, not the ledger: a write costs more than it spares.
            self._posts.in_request + self._posts.depth > bounds.LEDGER_CROWD
            or now_ms < self._not_early_before_ms
            or self._is_other_disk
            or expires_at_ms < latest_ms + bounds.POST_EXPIRY_MARGIN_MS + bounds.FULFILMENT_POST_MS
            or not self._has_room_early()
            or not self._is_up()
            or self._is_watched()
            or self._is_stopping
        ):
            self._post(token, reservation, expires_at_ms)
            return
        reservation.fulfill = octets
        reservation.keep_until_ms = now_ms + bounds.FULFILMENT_EARLY_KEPT_MS
        self._waiting.append(_Waiting(token, reservation, expires_at_ms, latest_ms, False))
        if len(self._waiting) == self._enough:
            self._wake.set()

    def other_disk(self) -> None:
        """DATA_DIR is new, and the ledger knows the node: another one has been lost, or is elsewhere."""
        self._is_other_disk = True

    def _has_room_early(self) -> bool:
        """As `has_room`, with half of it left for those that have to be kept."""
        used = 0
        for one in self._kept:
            used += one.kept_bytes
        return (
            used < bounds.FULFILMENTS_BYTES_MAX // 2
            and not self._failed
            and len(self._promises) < limits.IN_FLIGHT_TOTAL_MAX // 2
        )

    def tick(self, now_ms: int) -> None:
        """Post those whose last moment has come, although they are not on disk."""
        if self._waiting or self._writing:
            self._post_late(now_ms)

    def _post_late(self, now_ms: int) -> None:
        waiting, writing = self._waiting, self._writing
        late = [one for one in (*writing, *waiting) if one.latest_ms <= now_ms]
        if not late:
            return
        self._not_early_before_ms = now_ms + bounds.FULFILMENT_NOT_EARLY_MS
        self._late_rows += [
            to_be_kept(one.reservation)
            for one in waiting
            if one.latest_ms <= now_ms and one.is_needed
        ]
        self._waiting = [one for one in waiting if one.latest_ms > now_ms]
        self._writing = [one for one in writing if one.latest_ms > now_ms]
        # Each is posted once: now, or when it is on disk.
        assert len(late) + len(self._waiting) + len(self._writing) == len(waiting) + len(writing)
        needed = sum(one.is_needed for one in late)
        if needed:
            self._failed = self._failed or TOO_SLOW
            self._reports.tally("fulfilments_not_kept", needed, self._failed)
        self._post_all(late)

    def _post_all(self, batch: list[_Waiting]) -> None:
        for one in batch:
            assert one.reservation.fulfill, "posted before"
            one.reservation.fulfill = b""  # not for the ledger
            self._post(one.token, one.reservation, one.expires_at_ms)

    def _relay_all(self, batch: list[_Waiting]) -> None:
        """Relay Fulfills that are kept, and queue their posts."""
        resume = self._reports.resume
        for one in batch:
            reservation = one.reservation
            reservation.fulfill = b""
            self._post(None, reservation, one.expires_at_ms)
            resume(one.token, Outcome.RELEASED)
        self._reports.counters.relayed += len(batch)
        self._reports.turn_done()

    def stop(self) -> None:
        """Let `run` end once everything queued is kept, or the disk has had its last chance."""
        self._is_stopping = True
        self._wake.set()
        if self._patience is not None:
            self._patience.reschedule(_in_s(bounds.FULFILMENT_STOP_SECONDS))

    async def run(self) -> None:
        """Store what is queued, all of it in one write at a time; until `stop`."""
        while True:
            if not self._waiting and not self._late_rows:
                if self._is_stopping:
                    return
                self._wake.clear()
                await self._wake.wait()
                continue
            await self._gather()
            await self._keep()
            if self._failed:
                if self._is_stopping:
                    self._post_late(_NEVER_MS)
                    return
                await asyncio.sleep(bounds.OUTBOX_RETRY_SECONDS)

    async def _gather(self) -> None:
        """Wait a little for more fulfilments while many packets are in flight: fewer, larger writes.

        Packets that were reserved in one request are answered at about the same time.
        """
        enough = self._posts.in_request
        wait_s = bounds.FULFILMENTS_GATHERED_IN_CROWD_SECONDS
        if enough <= bounds.FULFILMENTS_CROWD:
            enough //= bounds.FULFILMENTS_GATHERED_ONE_IN
            wait_s = bounds.FULFILMENTS_GATHERED_SECONDS
        if len(self._waiting) >= enough or self._is_stopping:
            return
        until_ms = self._clock.now_ms() + bounds.FULFILMENTS_GATHERED_UNTIL_MS
        if any(one.latest_ms <= until_ms for one in self._waiting):
            return
        self._enough = enough
        self._wake.clear()
        timer = asyncio.get_running_loop().call_later(wait_s, self._wake.set)
        try:
            await self._wake.wait()
        finally:
            timer.cancel()
            self._enough = 1

    async def _keep(self) -> None:
        """Write what is queued to the store, then queue its posts; if it fails, leave it queued."""
        assert not self._writing, "two writes at a time"
        self._writing, self._waiting = self._waiting, []
        late_rows, self._late_rows = self._late_rows, []
        needed = late_rows + [to_be_kept(one.reservation) for one in self._writing if one.is_needed]
        rows = needed + [to_be_kept(one.reservation) for one in self._writing if not one.is_needed]
        stop_at_s = _in_s(bounds.FULFILMENT_STOP_SECONDS) if self._is_stopping else None
        try:
            async with asyncio.timeout_at(stop_at_s) as self._patience:
                await self._store.keep(rows)
        except (OSError, ConnectorError, TimeoutError) as error:
            self._not_kept(needed, str(error) or TOO_SLOW)
        else:
            self._failed = ""
            kept, self._writing = self._writing, []
            if self._is_watched():
                self._post_all(kept)
            else:
                self._relay_all(kept)
        finally:
            self._patience = None

    def _not_kept(self, needed: list[Kept], why: str) -> None:
        """A write has failed: those that have to be kept are tried again, the others are posted."""
        if not self._failed:
            self._reports.outbox_failed(why)
        waiting = self._writing + self._waiting
        self._writing = []
        self._waiting = [one for one in waiting if one.is_needed]
        left = {one.reservation.packet_id for one in self._waiting}
        self._late_rows += [row for row in needed if row.packet_id not in left]
        if self._waiting or self._late_rows:
            self._failed = why
        self._not_early_before_ms = self._clock.now_ms() + bounds.FULFILMENT_NOT_EARLY_MS
        self._post_all([one for one in waiting if not one.is_needed])

    async def keep(self, answers: Mapping[int, bytes]) -> None:
        """Keep Fulfills of posted packets, by packet id, whose next hop is being removed.

        Raises:
            LedgerUnavailableError: the disk refuses.
        """
        keep_until_ms = self._clock.now_ms() + limits.EXPIRY_MS_MAX + 2 * limits.CLOCK_ERROR_MS
        rows = [Kept(id_, keep_until_ms, octets) for id_, octets in answers.items()]
        if rows:
            await self._store.keep(rows)

    async def find(self, packet_ids: Sequence[int]) -> dict[int, bytes]:
        """The Fulfills that are kept for some packets.

        Raises:
            LedgerUnavailableError: the file cannot be read.
        """
        found: dict[int, bytes] = {}
        for one in self._kept:
            if packet_ids and one.kept_bytes:
                found.update(await one.kept(packet_ids))
        return found

    async def packet_ids(self) -> list[int]:
        """The packets with a kept Fulfill; those known to be posted may be missing.

        Raises:
            LedgerUnavailableError: the file cannot be read.
        """
        found: set[int] = set()
        for one in self._kept:
            if one.kept_bytes:
                found.update(await one.kept_ids())
        return sorted(found)

    async def maintain(self) -> None:
        """Remove fulfilments of packets that cannot be resent any more; called about once a second.

        None while one of them is all that says that its packet is owed.
        """
        # One time for all: what is written meanwhile is not over by it.
        now_ms = self._clock.now_ms()
        if self._promises.needs_kept(now_ms) or any(
            one.reservation.keep_until_ms <= now_ms for one in (*self._writing, *self._waiting)
        ):
            return
        for one in self._kept:
            if one.kept_bytes:
                await self._forget(one, now_ms)

    async def _forget(self, kept: KeptBeside, now_ms: int) -> None:
        try:
            for _ in range(bounds.FULFILMENT_SLICES_FORGOTTEN_AT_ONCE_MAX):
                if not await kept.forget_kept(now_ms):
                    return
        except (OSError, ConnectorError) as error:
            self._reports.outbox_failed(str(error))
