"""Prefixes whose last learned route has gone a moment ago: packets for them are refused for now, not for good.

News of routes travel one hop at a time, so a prefix can be without any for a few seconds while another way is being told. A packet
that got F02 meanwhile would end a payment that can go on. Bounded, in all and for each peer that has announced them.
Pure: the caller has the clock.
"""

from __future__ import annotations

from connector.peering import bounds


class Missed:
    """See the module."""

    def __init__(self) -> None:
        """None."""
        self._until: dict[str, tuple[int, str]] = {}
        """By prefix: until when, in milliseconds, and who had announced it. Those that end first stand first."""
        self._counts: dict[str, int] = {}
        """By peer."""

    def __len__(self) -> int:
        return len(self._until)

    def add(self, prefix: str, peer_id: str, until_ms: int) -> None:
        """A route has gone. `until_ms`: not before that of an earlier call."""
        self._drop(prefix)
        count = self._counts.get(peer_id, 0)
        if count >= bounds.MISSED_PER_PEER_MAX or len(self._until) >= bounds.MISSED_MAX:
            return
        self._counts[peer_id] = count + 1
        self._until[prefix] = until_ms, peer_id

    def forget(self, now_ms: int) -> int | None:
        """Forget those whose time is over; gives when the next one ends."""
        while self._until:
            prefix, (until_ms, _) = next(iter(self._until.items()))
            if until_ms > now_ms:
                return until_ms
            self._drop(prefix)
        return None

    def holds(self, destination: str) -> bool:
        """Whether a prefix of `destination` was routed until a moment ago."""
        if not self._until:
            return False
        segments = destination.split(".", bounds.MISSED_SEGMENTS_MAX)[: bounds.MISSED_SEGMENTS_MAX]
        return any(
            ".".join(segments[:depth]) in self._until for depth in range(1, len(segments) + 1)
        )

    def _drop(self, prefix: str) -> None:
        former = self._until.pop(prefix, None)
        if former is None:
            return
        peer_id = former[1]
        self._counts[peer_id] -= 1
        assert self._counts[peer_id] >= 0, peer_id
        if not self._counts[peer_id]:
            del self._counts[peer_id]
