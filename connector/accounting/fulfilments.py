"""Fulfilments that could not be fetched again, durable before their posts are queued.

A next hop with packet ids answers a resent packet with the same Fulfill. A next hop without them,
and a receiver of this node, would treat it as a new packet. Their Fulfills are written to
`outbox.db` first; then the packet is posted and answered. After a crash a resent packet is answered
from there, and what was fulfilled but not posted is posted (`recovery`).

A row is kept until the packet can no longer be resent. It is kept also after the sender has read
the answer: a sender that is a connector keeps no Fulfill itself and resends to us when it gets a
resent packet.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, Protocol

from connector.accounting import bounds
from connector.accounting.outbox import Kept
from connector.accounting.promises import Reservation, Token
from connector.accounting.reports import Reports
from connector.base import limits
from connector.base.clock import Clock
from connector.base.errors import ConnectorError


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
    decide_by_ms: int
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
        self._wake: Final = asyncio.Event()
        self._is_stopping = False

    @property
    def has_room(self) -> bool:
        """Whether further packets can be admitted; there is always room for those in flight."""
        return self._store.kept_bytes < bounds.FULFILMENTS_BYTES_MAX

    @property
    def is_empty(self) -> bool:
        """Whether nothing is kept."""
        return not self._store.kept_bytes

    def keep_and_post(
        self, token: Token, reservation: Reservation, expires_at_ms: int, octets: bytes
    ) -> None:
        """Queue a fulfilment for the store; its post is queued when it is on disk."""
        now_ms = self._clock.now_ms()
        left_ms = expires_at_ms - bounds.POST_EXPIRY_MARGIN_MS - now_ms
        decide_by_ms = now_ms + max(0, min(bounds.FULFILMENT_BUDGET_MS, left_ms // 2))
        lives_ms = min(max(0, expires_at_ms - now_ms), limits.EXPIRY_MS_MAX)
        # By the sender's clock, whose error may be as large as that of ours.
        keep_until_ms = now_ms + lives_ms + 2 * limits.CLOCK_ERROR_MS
        row = Kept(reservation.packet_id, keep_until_ms, octets)
        self._waiting.append(_Waiting(token, reservation, expires_at_ms, decide_by_ms, row))
        self._wake.set()

    def stop(self) -> None:
        """Let `run` end once everything queued is kept."""
        self._is_stopping = True
        self._wake.set()

    async def run(self) -> None:
        """Store what is queued, all of it in one write at a time; until `stop`."""
        while True:
            if not self._waiting:
                if self._is_stopping:
                    return
                self._wake.clear()
                await self._wake.wait()
                continue
            batch, self._waiting = self._waiting, []
            await self._keep([one.row for one in batch], min(one.decide_by_ms for one in batch))
            for one in batch:
                self._post(one.token, one.reservation, one.expires_at_ms)

    async def _keep(self, rows: list[Kept], decide_by_ms: int) -> None:
        """Write them to the store; if that fails or takes too long, an alert is raised.

        Their posts and answers are not held back then: a Fulfill is money that we owe already.
        """
        # The write is started in any case, and is completed even if this wait is given up.
        left_ms = max(bounds.FULFILMENT_BUDGET_MS_MIN, decide_by_ms - self._clock.now_ms())
        try:
            async with asyncio.timeout(left_ms / 1000):
                await self._store.keep(rows)
        except (OSError, ConnectorError, TimeoutError) as error:
            self._reports.alert(
                "fulfilments_not_kept",
                {"packets": len(rows), "error": str(error) or "the disk is too slow"},
            )

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
