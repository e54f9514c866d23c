"""ILP over HTTP of a node: the listener, and the peers that packets are sent to.

It stands beside the BTP links (`btp.links.Beside`): a packet goes by BTP while a link of its next hop
serves, else by HTTP if the peer has a URL. What waits for an answer can change over, if both sides know
packet ids: from a BTP link that is lost, and from HTTP to a link that has logged in.
"""

from __future__ import annotations

import asyncio
import ssl
import uuid
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, Final, Protocol

from connector.base import limits
from connector.base.clock import Clock
from connector.base.log import Log
from connector.btp.link import OutgoingRequest
from connector.btp.links import Links
from connector.btp.network import Network
from connector.ilp_http.client import Client
from connector.ilp_http.listener import Arrivals, HttpListener, ReplyTo
from connector.ilp_http.peer import HttpPeer, Outgoing
from connector.ilp_http.reach import WITH_PACKET_ID, HttpTerms, Reach, Sent
from connector.ilp_http.replies import Room
from connector.peering.model import PeerRegistry, Unanswered


class Driver(Arrivals, Protocol):
    """What is needed of the switch's driver."""

    def answered(self, flight: Any, said: bytes | Unanswered) -> None:
        """The answer of a next hop, or why there is none."""

    def reconnected(self, peer_id: str) -> None:
        """The peer may not have read its answers."""

    def receipt(self, peer_id: str) -> None:
        """The peer has read its answers, or cannot ask for them any more."""

    def wants_receipt(self, peer_id: str) -> bool:
        """Whether answers to a peer are kept that a receipt would drop."""


class _Answer:
    """Takes the answer for the callback of a peer; a `ReplyTo`."""

    __slots__ = ("_peer", "_request_id", "_until_ms")

    def __init__(self, peer: HttpPeer, request_id: uuid.UUID, until_ms: int) -> None:
        self._peer = peer
        self._request_id = request_id
        self._until_ms = until_ms

    def reply(self, _request_id: int, octets: bytes) -> bool:
        """See `ReplyTo`."""
        return self._peer.reply(self._request_id, octets, self._until_ms)


class HttpCarrier:
    """See the module. Implements `btp.links.Beside`."""

    def __init__(
        self,
        *,
        clock: Clock,
        log: Log,
        peers: PeerRegistry,
        links: Links,
        driver: Driver,
        network: Network,
        terms: Iterable[HttpTerms],
        random: Callable[[], float],
    ) -> None:
        """Nothing listens, and nothing is sent yet.

        Args:
            clock: for deadlines.
            log: for what peers and the network cause, at a limited rate.
            peers: all peers.
            links: the BTP links: credentials, standstill, and what a packet has caused there.
            driver: takes packets and answers.
            network: listens and connects.
            terms: of the peers that use HTTP.
            random: returns a number from 0 to 1, for the back-off.
        """
        self.clock: Final = clock
        self.standstill: Final = links.standstill
        self.listener: Final = HttpListener(
            clock=clock,
            log=log,
            peers=peers,
            credentials=links.credentials,
            driver=driver,
            callbacks=self,
            network=network,
            standstill=links.standstill,
            flush=links.flush,
        )
        self._links = links
        self._log = log
        self._driver = driver
        self._random = random
        self._network = network
        self._group: asyncio.TaskGroup | None = None
        self._stopping = False
        self._by_peer: dict[str, HttpPeer] = {}
        self._room_for_replies = Room()
        self._unknown = 0
        """Unknown outcomes of packets to peers that are not used by HTTP any more."""
        self._left: dict[str, dict[Outgoing, Sent]] = {}
        """What was sent by HTTP without packet ids to peers that are not used by it any more, by peer id:
        unknown until its deadline, and no link asks for it."""
        self._leaving: set[asyncio.Task[None]] = set()
        for one in terms:
            self.put(one.peer_id, one)

    # --- life

    async def listen(self, host: str, port: int, tls: ssl.SSLContext | None) -> int:
        """Accept connections of peers. Returns the port.

        Raises:
            ListenError: the port cannot be used.
        """
        return await self.listener.listen(host, port, tls)

    def start(self, group: asyncio.TaskGroup) -> None:
        """Probe peers and send, in tasks of `group`."""
        self._group = group
        for peer in self._by_peer.values():
            peer.start(group)

    def wind_down(self) -> None:
        """A stop begins, and packets in flight are waited for.

        Peers that answer asynchronously have to reach this node for that; without any nobody has.
        """
        self.listener.leaves_new = self._links.comes_back
        self.listener.winds_down = True
        if not any(peer.terms.is_async for peer in self._by_peer.values()):
            self.stop_listening()

    def stop_listening(self) -> None:
        """Accept no further connections; what is under way goes on."""
        self._stopping = True
        self.listener.leaves_new = self._links.comes_back
        self.listener.stop_listening()

    async def close(self) -> None:
        """Close everything; packets that their senders cannot resend are ended as lost."""
        self.stop_listening()
        for peer in self._by_peer.values():
            peer.give_up(only_not_resendable=True)
            await peer.close()
        self.listener.close()

    def abandon(self) -> None:
        """Close all connections without another word: another process has taken over."""
        for peer in self._by_peer.values():
            self._leave(peer)
        self.listener.close()

    # --- adding and removing peers

    def put(self, peer_id: str, terms: HttpTerms | None) -> None:
        """Use HTTP with a peer by these terms, which replace earlier ones; None: do not."""
        former = self._by_peer.get(peer_id)
        if former is not None and former.terms == terms:
            return
        left = {} if terms is None else self._left.pop(peer_id, {})
        if former is not None:
            del self._by_peer[peer_id]
            was_reached = former.is_reached
            left |= former.release()
            self._unknown += former.unknown
            if terms is None and left:
                self._left[peer_id] = {
                    flight: sent for flight, sent in left.items() if sent != WITH_PACKET_ID
                }
            self._leave(former)
            if was_reached:
                self._links.beside_lost(peer_id, "its settings were changed")
        if terms is not None:
            peer = HttpPeer(
                terms,
                owner=self,
                log=self._log,
                random=self._random,
                client=Client(
                    clock=self.clock,
                    network=self._network,
                    headers={"Authorization": f"Bearer {terms.token}"},
                ),
                room=self._room_for_replies,
            )
            self._by_peer[peer_id] = peer
            peer.adopt(left)
            if self._group is not None:
                peer.start(self._group)
        self._links.beside = self if self._by_peer or self._left else None

    def cut_off(self, peer_id: str) -> None:
        """The peer has another secret: it has to show it."""
        self.listener.cut_off(peer_id)

    def remove(self, peer_id: str) -> None:
        """The peer is removed; the caller ends what waits for its answers."""
        self.put(peer_id, None)
        self._left.pop(peer_id, None)
        self.listener.forget_peer(peer_id)

    def _leave(self, peer: HttpPeer) -> None:
        if self._group is None:
            peer.reach = Reach.CLOSED
            return
        task = self._group.create_task(peer.close())
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    def get(self, peer_id: str) -> HttpPeer | None:
        """The state of a peer that packets are sent to by HTTP."""
        return self._by_peer.get(peer_id)

    def counters(self) -> dict[str, int]:
        """Totals since the start, by the names of their metrics."""
        return {
            "ilp_http_authentication_failures": self.listener.wrong_tokens.count,
            "ilp_http_requests_refused": sum(
                count
                for status, count in self.listener.refusals.items()
                if status not in (401, 429)
            ),
            "ilp_http_unknown_outcomes": self._unknown
            + sum(peer.unknown for peer in self._by_peer.values()),
        }

    # --- beside the links

    def reaches(self, peer_id: str) -> bool:
        """See `Beside`."""
        peer = self._by_peer.get(peer_id)
        return peer is not None and peer.is_reached

    def knows_packet_ids(self, peer_id: str) -> bool:
        """See `Beside`."""
        peer = self._by_peer.get(peer_id)
        return peer is None or peer.reach is not Reach.PLAIN

    def send(self, flight: OutgoingRequest) -> Unanswered | None:
        """See `Beside`."""
        assert flight.next_hop is not None
        peer = self._by_peer.get(flight.next_hop.terms.peer_id)
        if peer is None or peer.terms.url is None or self._group is None:
            return None if flight.again else Unanswered.NOT_SENT
        return peer.send(_outgoing(flight))

    def would_send(self, peer_id: str) -> Unanswered | None:
        """See `Beside`."""
        peer = self._by_peer.get(peer_id)
        if peer is None or peer.terms.url is None or self._group is None:
            return Unanswered.NOT_SENT
        return peer.would_send()

    def carries(self, flight: OutgoingRequest) -> bool:
        """See `Beside`."""
        assert flight.next_hop is not None
        peer_id = flight.next_hop.terms.peer_id
        if _outgoing(flight) in self._left.get(peer_id, ()):
            return True
        peer = self._by_peer.get(peer_id)
        return peer is not None and peer.carries(flight)

    def take_over(
        self, peer_id: str, flights: Sequence[OutgoingRequest]
    ) -> Sequence[OutgoingRequest]:
        """See `Beside`."""
        peer = self._by_peer.get(peer_id)
        return () if peer is None else peer.take_over(map(_outgoing, flights))

    def hand_over(self, peer_id: str) -> None:
        """See `Beside`."""
        peer = self._by_peer.get(peer_id)
        if peer is not None:
            peer.hand_over()

    def forget(self, flights: Collection[OutgoingRequest]) -> None:
        """See `Beside`."""
        for flight in flights:
            hop = flight.next_hop  # None: it waits for this node's own receiver
            if hop is None:
                continue
            peer_id, one = hop.terms.peer_id, _outgoing(flight)
            peer = self._by_peer.get(peer_id)
            if peer is not None:
                peer.forget((one,))
            if peer_id in self._left:
                self._left[peer_id].pop(one, None)
                if not self._left[peer_id]:
                    del self._left[peer_id]

    # --- from the peers and the listener

    def reached(self, peer_id: str) -> None:
        """See `PeerOwner`."""
        self._links.beside_reached(peer_id)

    def lost(self, peer_id: str, reason: str) -> None:
        """See `PeerOwner`."""
        self._links.beside_lost(peer_id, reason)

    def answered(self, flight: Any, said: bytes | Unanswered) -> None:
        """See `PeerOwner`."""
        self._driver.answered(flight, said)
        self._links.flush()

    def callback_of(self, peer_id: str) -> str | None:
        """See `Callbacks`."""
        peer = self._by_peer.get(peer_id)
        return None if peer is None else peer.terms.callback_url

    def answer_to(self, peer_id: str, request_id: uuid.UUID, until_ms: int) -> ReplyTo:
        """See `Callbacks`."""
        return _Answer(self._by_peer[peer_id], request_id, until_ms)

    def replied(self, peer_id: str, request_id: uuid.UUID, octets: bytes) -> bool:
        """See `Callbacks`."""
        peer = self._by_peer.get(peer_id)
        return peer is not None and peer.replied(request_id, octets)

    # --- time

    def release(self) -> None:
        """Go on after a standstill: this process is still the active one."""
        if not self.standstill.is_held:
            self.listener.go_on()

    def tick(self) -> None:
        """Called about once a second: deadlines, answers that do not come, answers that are kept."""
        if self.standstill.is_held:
            return
        now_s = self.clock.monotonic_s()
        self.listener.tick(now_s)
        for peer in self._by_peer.values():
            peer.tick(now_s)
        # There are no receipts over HTTP: answers are kept for as long as packets can be resent.
        over_ms = self.clock.now_ms() - 2 * limits.FORMER_PACKETS_MS
        for peer_id, at_ms in list(self.listener.answered_ms.items()):
            if self._driver.wants_receipt(peer_id):
                self._driver.reconnected(peer_id)
            if at_ms < over_ms:
                del self.listener.answered_ms[peer_id]
                self._driver.receipt(peer_id)


def _outgoing(flight: Any) -> Outgoing:
    """A flight of the driver, whose deadline the links do not look at."""
    one: Outgoing = flight
    return one
