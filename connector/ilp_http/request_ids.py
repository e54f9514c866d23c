"""The Request-Ids that peers have used (RFC 35): the same id and the same body is the same packet. Pure.

An id is remembered until its packet has expired; none is dropped before, so their number is bounded
by refusing further packets.
"""

from __future__ import annotations

import hashlib
import uuid
from collections import OrderedDict
from enum import Enum, auto

from connector.ilp_http import bounds


class Seen(Enum):
    """What is known of a request id."""

    NEW = auto()
    SAME = auto()
    """It came before, with the same packet."""
    OTHER = auto()
    """It came before, with another packet."""
    FULL = auto()
    """There is no room to remember it."""


class RequestIds:
    """The ids of all peers."""

    def __init__(self) -> None:
        self._by_peer: dict[str, OrderedDict[uuid.UUID, tuple[bytes, int]]] = {}
        """Digest and time of expiry, oldest request first."""
        self._count = 0
        self._pruned_ms = 0

    def __len__(self) -> int:
        return self._count

    def note(
        self, peer_id: str, request_id: uuid.UUID, packet: bytes, until_ms: int, now_ms: int
    ) -> Seen:
        """Remember a request until `until_ms`, in milliseconds since the Unix epoch."""
        known = self._by_peer.setdefault(peer_id, OrderedDict())
        digest = hashlib.sha256(packet).digest()
        earlier = known.get(request_id)
        if earlier is not None and earlier[1] > now_ms:
            return Seen.SAME if earlier[0] == digest else Seen.OTHER
        self._prune(known, now_ms)
        if self._is_full(known):
            self._prune_all(now_ms)
            if self._is_full(known):
                return Seen.FULL
        self._count += request_id not in known
        known[request_id] = digest, until_ms
        known.move_to_end(request_id)
        return Seen.NEW

    def forget_peer(self, peer_id: str) -> None:
        """The peer was removed."""
        self._count -= len(self._by_peer.pop(peer_id, ()))
        assert self._count >= 0, self._count

    def _is_full(self, known: OrderedDict[uuid.UUID, tuple[bytes, int]]) -> bool:
        return (
            len(known) >= bounds.REQUEST_IDS_PER_PEER_MAX or self._count >= bounds.REQUEST_IDS_MAX
        )

    def _prune(self, known: OrderedDict[uuid.UUID, tuple[bytes, int]], now_ms: int) -> None:
        """Drop the oldest that have expired: at most two for each new one, so the cost is constant."""
        for _ in range(2):
            oldest = next(iter(known), None)
            if oldest is None or known[oldest][1] > now_ms:
                return
            del known[oldest]
            self._count -= 1

    def _prune_all(self, now_ms: int) -> None:
        """At most once a second: a peer that is refused without end costs no more than that."""
        if abs(now_ms - self._pruned_ms) < 1000:
            return
        self._pruned_ms = now_ms
        for known in self._by_peer.values():
            for request_id in [one for one, (_, until) in known.items() if until <= now_ms]:
                del known[request_id]
                self._count -= 1
        assert self._count >= 0, self._count
