"""Holds new packets for peers whose process is being replaced, until they are back.

A node that is replaced closes its links to peers with packet ids with the WebSocket code 1012
(service restart). Until it has logged in again, for a bounded time, new packets for it are held
instead of being rejected (T01). The new process does the same with the peers of the former one, which
it is told at its start. They count as packets in flight, so their number is bounded where
that is. They have not been sent, so each can be rejected at any time without doubt about its outcome.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final

from connector.btp import bounds
from connector.btp.link import OutgoingRequest


@dataclass(slots=True)
class _Away:
    until_s: float
    """By the monotonic clock."""
    held: dict[OutgoingRequest, None] = field(default_factory=dict)


class Returning:
    """Which peers are expected back, and the packets that wait for each, oldest first."""

    def __init__(self) -> None:
        """No peer is away."""
        self._away: Final[dict[str, _Away]] = {}

    def expect(self, peer_id: str, now_s: float) -> None:
        """The last link of a peer is closed, and it has said that it comes back."""
        assert peer_id not in self._away, peer_id
        self._away[peer_id] = _Away(now_s + bounds.RETURN_SECONDS_MAX)

    def hold(self, peer_id: str, flight: OutgoingRequest) -> bool:
        """Let a packet wait for its next hop; False: that is not expected back."""
        away = self._away.get(peer_id)
        if away is None:
            return False
        away.held[flight] = None
        return True

    @property
    def held(self) -> int:
        """How many packets wait."""
        return sum(len(away.held) for away in self._away.values())

    def peers(self) -> list[str]:
        """Ids of the peers that are expected back."""
        return list(self._away)

    def back(self, peer_id: str) -> Collection[OutgoingRequest]:
        """The peer is back, or removed; returns what waited for it."""
        away = self._away.pop(peer_id, None)
        return () if away is None else away.held.keys()

    def over(self, now_s: float) -> list[OutgoingRequest]:
        """Expect those back no longer that have not come in time; returns what waited for them."""
        late = [peer_id for peer_id, away in self._away.items() if away.until_s <= now_s]
        return [flight for peer_id in late for flight in self.back(peer_id)]

    def take_not_resendable(self) -> list[OutgoingRequest]:
        """Let those wait no longer whose senders cannot resend them; returns them."""
        taken = [
            flight
            for away in self._away.values()
            for flight in away.held
            if not flight.sender_packet_id
        ]
        self.forget(taken)
        return taken

    def forget(self, flights: Collection[OutgoingRequest]) -> None:
        """These do not wait any more."""
        for away in self._away.values():
            for flight in flights:
                away.held.pop(flight, None)
