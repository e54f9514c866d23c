"""Fulfilments that could not be fetched again, durable before their posts are queued.

A next hop with packet ids answers a resent packet with the same Fulfill. A next hop without them,
and a receiver of this node, would treat it as a new packet. Their Fulfills are written to
`outbox.db` first; then the packet is posted and answered. After a crash a resent packet is answered
from there, and what was fulfilled but not posted is posted (`recovery`). A write that fails is
retried, and no packet that would need one is admitted meanwhile. A packet whose Fulfill is not on
disk when the sender's last moment comes is posted all the same, with an alert.

A row is kept until the packet can no longer be resent. It is kept also after the sender has read
the answer: a sender that is a connector keeps no Fulfill itself and resends to us when it gets a
resent packet.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple, Protocol

from connector.accounting import bounds
from connector.accounting.outbox import Kept
from connector.accounting.promises import Reservation, Token
from connector.accounting.reports import TOO_SLOW, Reports
from connector.base import limits
from connector.base.clock import Clock
from connector.base.errors import ConnectorError

_NEVER_MS: Final = 1 << 62


def _in_s(seconds: float) -> float:
    return asyncio.get_running_loop().time() + seconds


class Store(Protocol):
    """The store of fulfilments; see `outbox.SqliteOutbox`."""

    @property
    def kept_bytes(self) -> int:
        """The total size of all rows."""

    async def keep(self, rows: Sequence[Kept]) -> None:
        """On disk when this returns."""

    async def kept(self, packet_ids: Sequence[int]) -> dict[int, bytes]:
        """The Fulfills of the given packets, as far as there are rows, by packet id."""

    async def kept_ids(self) -> list[int]:
        """The ids of all packets with a row."""

    async def forget_kept(self, now_ms: int) -> bool:
        """Remove a bounded number of rows that are out of date; whether there may be more."""


class _Waiting(NamedTuple):
    token: Token
    reservation: Reservation
    expires_at_ms: int
    latest_ms: int
    """When its post is queued, on disk or not."""
    row: Kept


class Fulfilments:
    """See the module. The only writer of the store."""

    def __init__(
        self,
        *,
        store: Store,
        post: Callable[[Token, Reservation, int], None],
        reports: Reports,
        clock: Clock,
    ) -> None:
        """`post` queues a post; see `Writer.post`."""
        self._store = store
        self._post = post
        self._reports = reports
        self._clock = clock
        self._waiting: list[_Waiting] = []
        # Those that are being written.
        self._writing: list[_Waiting] = []
        # Posted already: their last moment came. No more than are in flight when the disk begins to
        # fail, since nothing is taken then that would need it.
        self._late_rows: list[Kept] = []
        self._failed = ""
        """Why rows are not on disk; empty: they are."""
        self._wake: Final = asyncio.Event()
        self._patience: asyncio.Timeout | None = None
        self._is_stopping = False

    @property
    def has_room(self) -> bool:
        """Whether further packets can be admitted; there is always room for those in flight."""
        return self._store.kept_bytes < bounds.FULFILMENTS_BYTES_MAX and not self._failed

    @property
    def is_empty(self) -> bool:
        """Whether nothing is kept."""
        return not self._store.kept_bytes

    def keep_and_post(
        self, token: Token, reservation: Reservation, expires_at_ms: int, octets: bytes
    ) -> None:
        """Queue a fulfilment for the store; its post is queued when it is on disk."""
        now_ms = self._clock.now_ms()
        left_ms = max(0, expires_at_ms - bounds.POST_EXPIRY_MARGIN_MS - now_ms)
        latest_ms = now_ms + max(left_ms // 2, left_ms - bounds.FULFILMENT_POST_MS)
        lives_ms = min(max(0, expires_at_ms - now_ms), limits.EXPIRY_MS_MAX)
        # By the sender's clock, whose error may be as large as that of ours.
        keep_until_ms = now_ms + lives_ms + 2 * limits.CLOCK_ERROR_MS
        row = Kept(reservation.packet_id, keep_until_ms, octets)
        self._waiting.append(_Waiting(token, reservation, expires_at_ms, latest_ms, row))
        self._wake.set()

    def tick(self, now_ms: int) -> None:
        """Post those whose last moment has come, although they are not on disk."""
        if self._waiting or self._writing:
            self._post_late(now_ms)

    def _post_late(self, now_ms: int) -> None:
        waiting, writing = self._waiting, self._writing
        late = [one for one in (*writing, *waiting) if one.latest_ms <= now_ms]
        if not late:
            return
        self._failed = self._failed or TOO_SLOW
        self._late_rows += [one.row for one in waiting if one.latest_ms <= now_ms]
        self._waiting = [one for one in waiting if one.latest_ms > now_ms]
        self._writing = [one for one in writing if one.latest_ms > now_ms]
        self._reports.tally("fulfilments_not_kept", len(late), self._failed)
        self._post_all(late)

    def _post_all(self, batch: list[_Waiting]) -> None:
        for one in batch:
            self._post(one.token, one.reservation, one.expires_at_ms)

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
            await self._keep()
            if self._failed:
                if self._is_stopping:
                    self._post_late(_NEVER_MS)
                    return
                await asyncio.sleep(bounds.OUTBOX_RETRY_SECONDS)

    async def _keep(self) -> None:
        """Write what is queued to the store, then queue its posts; if it fails, leave it queued."""
        self._writing, self._waiting = self._waiting, []
        late_rows, self._late_rows = self._late_rows, []
        rows = late_rows + [one.row for one in self._writing]
        stop_at_s = _in_s(bounds.FULFILMENT_STOP_SECONDS) if self._is_stopping else None
        try:
            async with asyncio.timeout_at(stop_at_s) as self._patience:
                await self._store.keep(rows)
        except (OSError, ConnectorError, TimeoutError) as error:
            if not self._failed:
                self._reports.outbox_failed(str(error) or TOO_SLOW)
            self._failed = str(error) or TOO_SLOW
            left = {one.row.packet_id for one in self._writing}
            self._late_rows += [row for row in rows if row.packet_id not in left]
            self._waiting = self._writing + self._waiting
            self._writing = []
        else:
            self._failed = ""
            kept, self._writing = self._writing, []
            self._post_all(kept)
        finally:
            self._patience = None

    async def keep(self, answers: Mapping[int, bytes]) -> None:
        """Keep Fulfills of posted packets that could be fetched again so far, by packet id.

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
        return {} if self.is_empty or not packet_ids else await self._store.kept(packet_ids)

    async def packet_ids(self) -> list[int]:
        """All packets that a Fulfill is kept for.

        Raises:
            LedgerUnavailableError: the file cannot be read.
        """
        return [] if self.is_empty else await self._store.kept_ids()

    async def maintain(self) -> None:
        """Remove fulfilments of packets that cannot be resent any more; called about once a second."""
        if self.is_empty:
            return
        try:
            for _ in range(bounds.FULFILMENT_SLICES_FORGOTTEN_AT_ONCE_MAX):
                if not await self._store.forget_kept(self._clock.now_ms()):
                    return
        except (OSError, ConnectorError) as error:
            self._reports.outbox_failed(str(error))
