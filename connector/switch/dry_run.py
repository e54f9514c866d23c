"""What would happen to a packet now: its flow is run, and each step answered without being done.

It is the flow of every packet (`Switch.forward`), so rules, routing, terms and codes cannot differ from
those of the packet path. What the flow asks for is answered by what would answer it: the accounts say
whether they would hold the money, the links whether they would send. Nothing is held, sent or counted;
tokens that a rule takes are put back before anything else runs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from connector.accounting.entries import Reserve
from connector.accounting.manager import AccountManager
from connector.accounting.promises import Outcome, Reservation
from connector.ilp.packet import Prepare
from connector.peering.model import LOCAL, Peer, Unanswered
from connector.switch.receiver import PING_CONDITION
from connector.switch.switch import Deliver, Result, Send, Step, Switch

_DATA_OCTETS: Final = 16
_PACKET_ID: Final = 1 << 8
"""Of no packet: nothing is written under it."""


class Links(Protocol):
    """The connections to next hops."""

    def would_send(self, peer_id: str) -> Unanswered | None:
        """Why a packet for this peer would not be sent now; None: it would."""

    def can_ask_again(self, next_hop: Peer) -> bool:
        """See `switch.driver.Outlet`."""


@dataclass(slots=True, kw_only=True)
class Foreseen:
    """What would happen to a packet."""

    source: Peer
    prepare: Prepare
    result: Result
    """The answer of this node; of a packet that would be sent on, it is not the end: see `sent`."""
    asked: Reserve | None = None
    """The money that would be held; None: none, or it does not come so far."""
    sent: Send | None = None
    """What would be sent to the next hop, which then decides."""
    delivered: bool = False
    """Whether this node's own receiver would be asked, which then decides."""

    @property
    def outcome(self) -> str:
        """`sent`, `delivered`, `fulfilled` (by this node itself) or `rejected`."""
        if self.sent is not None:
            return "sent"
        if self.delivered:
            return "delivered"
        return "fulfilled" if self.result.code is None else "rejected"


class DryRun:
    """See the module."""

    def __init__(
        self,
        *,
        switch: Switch,
        accounts: AccountManager,
        links: Links,
        now_ms: Callable[[], int],
        random_octets: Callable[[int], bytes],
    ) -> None:
        self._switch = switch
        self._accounts = accounts
        self._links = links
        self._now_ms = now_ms
        self._random_octets = random_octets

    def ping(self, source: Peer, destination: str, amount: int, expiry_ms: int) -> Foreseen:
        """What would happen to a ping from `source`.

        Args:
            source: a peer, or this node itself.
            destination: an ILP address.
            amount: in units of the source's asset; 0 to 2**64 - 1.
            expiry_ms: milliseconds until it expires.
        """
        prepare = Prepare(
            amount=amount,
            expires_at_ms=self._now_ms() + expiry_ms,
            condition=PING_CONDITION,
            destination=destination,
            # Like no other packet, so that it is no copy of one that is under way (`loops`).
            data=self._random_octets(_DATA_OCTETS),
        )
        asked = [source, *self._switch.next_hops_of(destination)]
        before = [(peer, peer.taken()) for peer in {peer.peer_id: peer for peer in asked}.values()]
        try:
            return self._run(source, prepare)
        finally:
            for peer, taken in before:
                peer.put_back(taken)

    def _run(self, source: Peer, prepare: Prepare) -> Foreseen:
        flow = self._switch.forward(source, prepare, _PACKET_ID)
        asked: Reserve | None = None
        sent: Send | None = None
        delivered = False
        outcome: object = None
        while True:
            try:
                step: Step = flow.send(outcome)
            except StopIteration as end:
                step = end.value
            if isinstance(step, Result):
                return Foreseen(
                    source=source,
                    prepare=prepare,
                    result=step,
                    asked=asked,
                    sent=sent,
                    delivered=delivered,
                )
            outcome = None
            if isinstance(step, Reserve):
                asked = step
                would = self._accounts.would_hold(step)
                outcome = Reservation(_PACKET_ID, [], []) if would is Outcome.HELD else would
            elif isinstance(step, Send):
                outcome = self._would_send(source, step)
                if outcome is None:
                    # The flow goes on as if there were no answer, and undoes what it has noted.
                    sent, outcome = step, Unanswered.TIMED_OUT
            elif isinstance(step, Deliver):
                outcome = Unanswered.BUSY
                delivered = self._may_keep(source)

    def _would_send(self, source: Peer, step: Send) -> Unanswered | None:
        if not self._links.can_ask_again(step.next_hop) and not self._may_keep(source):
            return Unanswered.BUSY
        return self._links.would_send(step.next_hop.peer_id)

    def _may_keep(self, source: Peer) -> bool:
        """Whether a Fulfill that could not be fetched again would find room (`Driver._may_keep`)."""
        return source.peer_id == LOCAL or self._accounts.can_keep
