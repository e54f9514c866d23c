"""All links of the node: admission, log-in, and sending to next hops.

One of the links of a peer carries requests (`connector.btp.peer_links`); answers are accepted over
any. Open requests are kept per peer. They survive the loss of a link, and end as lost only if they
cannot be resent and no link is left over which an answer could arrive. All links are held while the
process does not know whether it may speak (`connector.btp.standstill`).

Long because admission, log-in, loss and resending decide over the same tables of links.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import ssl
from collections.abc import Callable, Collection, Iterable, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

from websockets.client import ClientProtocol
from websockets.frames import CloseCode
from websockets.server import ServerProtocol
from websockets.uri import parse_uri

from connector.base import limits
from connector.base.clock import Clock
from connector.base.connections import Connections
from connector.base.errors import ListenError
from connector.base.log import Log, Sampler
from connector.btp import bounds
from connector.btp.credentials import Credentials, CredentialTable, digest_of
from connector.btp.dial import Dialler
from connector.btp.link import Link, LinkOwner, OutgoingRequest, PacketHandler
from connector.btp.network import Listener, Network
from connector.btp.peer_links import PeerLinks
from connector.btp.returning import Returning
from connector.btp.session import AuthRequest, State
from connector.btp.standstill import Standstill
from connector.peering.model import Peer, PeerRegistry, Unanswered


class LinkObserver(Protocol):
    """Called when peers connect and disconnect; must not block."""

    def connected(self, peer_id: str, direction: str) -> None:
        """A peer has logged in, or this node has logged in to the peer."""

    def disconnected(self, peer_id: str, direction: str, reason: str) -> None:
        """The last link of a peer is closed."""


class Beside(Protocol):
    """Another way to peers, beside their links: ILP over HTTP."""

    def reaches(self, peer_id: str) -> bool:
        """Whether new packets can be sent to a peer."""

    def knows_packet_ids(self, peer_id: str) -> bool:
        """Whether a packet that is sent to a peer now could be resent, as far as it is known."""

    def send(self, flight: OutgoingRequest) -> Unanswered | None:
        """See `switch.driver.Outlet`."""

    def would_send(self, peer_id: str) -> Unanswered | None:
        """Why a new packet for a peer would not be sent now; None: it would."""

    def carries(self, flight: OutgoingRequest) -> bool:
        """Whether the answer to a packet is waited for there."""

    def take_over(
        self, peer_id: str, flights: Sequence[OutgoingRequest]
    ) -> Sequence[OutgoingRequest]:
        """Resend packets that were sent over links; returns those that it has taken."""

    def hand_over(self, peer_id: str) -> None:
        """Carry no longer what waits to be resent to a peer: a link does it."""

    def forget(self, flights: Collection[OutgoingRequest]) -> None:
        """See `switch.driver.Outlet`."""


class Links(LinkOwner):
    """See the module."""

    def __init__(
        self,
        *,
        clock: Clock,
        log: Log,
        peers: PeerRegistry,
        credentials: Iterable[Credentials],
        random_id: Callable[[], int],
        random_octets: Callable[[int], bytes],
        observer: LinkObserver,
        network: Network,
        standstill_s: float = math.inf,
        on_standstill: Callable[[], None] = lambda: None,
    ) -> None:
        """No links yet.

        Args:
            clock: for deadlines.
            log: for connections.
            peers: who may connect.
            credentials: of them, and where to dial them.
            random_id: returns the first request id of a session.
            random_octets: returns WebSocket masks.
            observer: told of connections.
            network: listens and connects.
            standstill_s: the time without a call of `standstill.seen` after which links are held;
                infinite: they never are.
            on_standstill: called when they are.
        """
        super().__init__(
            clock=clock,
            random_id=random_id,
            random_octets=random_octets,
            standstill=Standstill(
                clock=clock, log=log, limit_s=standstill_s, on_standstill=self._hold
            ),
        )
        self._on_standstill = on_standstill
        self.live: Final[dict[str, Link]] = {}
        """The link that carries requests to each connected peer, by peer id."""
        self.connects: Final[dict[str, int]] = {}
        """How many links each peer has had."""
        self.dialler: Final = Dialler(
            connect=self._connect,
            serving=self.live.get,
            carried=self._carried,
            clock=clock,
            log=log,
            random=lambda: int.from_bytes(random_octets(4), "big") / 2**32,
        )
        self.auth_failures = 0
        self._log = log
        self._peers = peers
        self.credentials: Final = CredentialTable(credentials)
        self._observer = observer
        self._by_peer: dict[str, PeerLinks] = {}
        self._all: dict[Link, None] = {}
        count_max = min(bounds.CONNECTIONS_NOT_LOGGED_IN_MAX, network.strangers_max)
        self._strangers: Connections[Link] = Connections(
            count_max=count_max,
            per_address_max=min(bounds.CONNECTIONS_NOT_LOGGED_IN_PER_ADDRESS_MAX, count_max),
        )
        """Incoming links in `_all` without a log-in: their number is bounded separately."""
        self._dialled: dict[Link, Credentials] = {}
        # Unauthenticated parties cause these lines, so their rate is limited.
        self._failures = Sampler(limits.LOG_LINES_PER_SECOND_PER_EVENT_MAX)
        self._refusals = Sampler(limits.LOG_LINES_PER_SECOND_PER_EVENT_MAX)
        self._network = network
        self._listener: Listener | None = None
        self._stopping = False
        self._returning: Final = Returning()
        self.beside: Beside | None = None
        """Carries packets to peers that no link serves."""
        self.comes_back = False
        """Set before a stop: a new process of this node follows at once."""

    def attach(self, driver: PacketHandler) -> None:
        """Set the packet handler. Separate, because driver and links refer to each other."""
        self.driver = driver

    def _carried(self, peer_id: str) -> int:
        """How many packets went to a peer and came from it so far."""
        peer = self._peers.get(peer_id)
        return 0 if peer is None else peer.counters.prepares_in + peer.counters.prepares_out

    # --- another way beside the links

    def reaches(self, peer_id: str) -> bool:
        """Whether packets can be sent to a peer, over a link or beside the links."""
        return peer_id in self.live or (self.beside is not None and self.beside.reaches(peer_id))

    @property
    def reached(self) -> int:
        """How many peers that holds for."""
        if self.beside is None:
            return len(self.live)
        return sum(self.reaches(peer.peer_id) for peer in self._peers)

    def direction(self, peer_id: str) -> str | None:
        """Over what packets are sent to a peer: `inbound` or `outbound` links, `http`; None: nothing."""
        link = self.live.get(peer_id)
        if link is not None:
            return link.direction
        return "http" if self.reaches(peer_id) else None

    def is_resumable(self, peer_id: str) -> bool:
        """Whether what is sent to a peer now could be resent."""
        link = self.live.get(peer_id)
        if link is not None:
            return link.session.resumable
        return self.beside is not None and (
            self.beside.reaches(peer_id) and self.beside.knows_packet_ids(peer_id)
        )

    def beside_reached(self, peer_id: str) -> None:
        """Packets can be sent to a peer beside the links now."""
        self.connects[peer_id] = self.connects.get(peer_id, 0) + 1
        if peer_id not in self.live:
            self._observer.connected(peer_id, "http")

    def beside_lost(self, peer_id: str, reason: str) -> None:
        """They cannot any more."""
        if peer_id not in self.live:
            self._observer.disconnected(peer_id, "http", reason)

    def _waiting_for(self, peer: Peer) -> Sequence[OutgoingRequest]:
        """What was sent to a peer and has no answer, but for what is carried beside the links."""
        waiting = self.driver.waiting_for(peer)
        beside = self.beside
        if beside is None:
            return waiting
        return [flight for flight in waiting if not beside.carries(flight)]

    # --- listening and dialling

    async def listen(self, host: str, port: int, tls: ssl.SSLContext | None) -> int:
        """Accept connections of peers. Returns the port; 0 lets the system choose it.

        Raises:
            ListenError: the port is in use, or the address is not one of this machine.
        """
        try:
            self._listener = await self._network.listen(
                lambda: Link(
                    self, ServerProtocol(max_size=limits.BTP_MESSAGE_BYTES_MAX), "inbound"
                ),
                host,
                port,
                tls,
            )
        except OSError as error:
            raise ListenError(
                f"cannot listen for BTP on {host}:{port}: {error.strerror or error}; "
                "choose another BTP_SERVER_PORT or BTP_SERVER_HOST"
            ) from error
        return self._listener.port

    async def _connect(self, credentials: Credentials) -> Link:
        """Open a connection to a peer; the link logs in by itself."""
        assert credentials.url is not None
        url = credentials.url.removeprefix("btp+")
        parts = urlsplit(url)
        secure = parts.scheme == "wss"
        websocket = ClientProtocol(parse_uri(url), max_size=limits.BTP_MESSAGE_BYTES_MAX)

        link = Link(self, websocket, "outbound")
        self._dialled[link] = credentials
        self._all[link] = None
        try:
            await self._network.connect(
                lambda: link,
                parts.hostname or "",
                parts.port or (443 if secure else 80),
                ssl.create_default_context() if secure else None,
            )
        except BaseException:
            self.gone(link)
            raise
        return link

    # --- adding and removing peers

    def add_peer(self, credentials: Credentials) -> None:
        """Allow a peer to log in with these credentials, which replace older ones."""
        before = self.credentials.get(credentials.peer_id)
        if before is not None and before.former_token and not credentials.former_token:
            self._log.info("former_secret_over", peer_id=credentials.peer_id)
        self.credentials.put(credentials)

    def to_expect(self) -> list[str]:
        """Ids of the peers with packet ids that are connected, or expected back.

        A process that follows at once expects them.
        """
        live = [peer_id for peer_id, link in self.live.items() if link.session.resumable]
        return [*live, *self._returning.peers()]

    @property
    def held(self) -> int:
        """How many packets wait for peers that are expected back."""
        return self._returning.held

    def expect(self, peer_ids: AbstractSet[str]) -> None:
        """Before `listen`: these were connected with the process that this one replaces."""
        for peer in self._peers:
            if peer.peer_id in peer_ids:
                self._returning.expect(peer.peer_id, self.clock.monotonic_s())

    def remove_peer(self, peer_id: str, reason: str) -> None:
        """Refuse log-ins of a peer and close its links; the caller stops dialling it.

        Packets sent to it that have no answer end as lost: it cannot answer any more.
        """
        self.credentials.remove(peer_id)
        self.hang_up(peer_id, reason)
        self._returning.back(peer_id)
        for flight in self.driver.waiting_for(self._peers[peer_id]):
            self.driver.answered(flight, Unanswered.LINK_LOST)
        self.flush()
        self._by_peer.pop(peer_id, None)
        self.connects.pop(peer_id, None)
        self.dialler.remove(peer_id)

    def hang_up(self, peer_id: str, reason: str) -> None:
        """Close all links of a peer, including those that have not logged in yet."""
        for link, credentials in list(self._dialled.items()):
            if credentials.peer_id == peer_id and link.peer is None:
                link.drop(reason)
        links = self._by_peer.get(peer_id)
        for link in links.all() if links is not None else ():
            link.drop(reason, CloseCode.NORMAL_CLOSURE)

    def drop_not_accepted(self, peer_id: str) -> None:
        """Close the links that a peer has logged in over with a secret that serves no more."""
        credentials, links = self.credentials.get(peer_id), self._by_peer.get(peer_id)
        if credentials is None or links is None:
            return
        now_ms = self.clock.now_ms()
        for link in links.all():
            # Of a dialled link the peer is the judge.
            if link.direction == "inbound" and not credentials.is_token(link.token_digest, now_ms):
                link.drop("its secret serves no more", CloseCode.NORMAL_CLOSURE)

    def uses_former(self, peer_id: str) -> bool:
        """Whether the link that carries requests to a peer was logged in over with its former secret."""
        link, credentials = self.live.get(peer_id), self.credentials.get(peer_id)
        if link is None or credentials is None:
            return False
        return link.token_digest != digest_of(credentials.token)

    # --- from the links

    def admit(self, link: Link) -> bool:
        """See `LinkOwner`: bounded in total, and more tightly before the log-in.

        Where there are too many without a log-in, the oldest of the address with the most is closed.
        """
        if self._stopping or len(self._all) >= bounds.CONNECTIONS_MAX:
            self._refuse(link, "too many connections")
            return False
        self._all[link] = None
        superfluous = self._strangers.add(link)
        if superfluous is not None:
            self._refuse(superfluous, "too many connections")
            if superfluous is not link:
                superfluous.abort()
        return superfluous is not link

    def _refuse(self, link: Link, why: str) -> None:
        link.close_reason = why
        suppressed = self._refusals.allow(self.clock.monotonic_s())
        if suppressed is not None:
            self._log.warning(
                "btp_connection_refused",
                remote=link.remote,
                reason=link.close_reason,
                suppressed=suppressed,
            )

    def credentials_of(self, link: Link) -> Credentials | None:
        """See `LinkOwner`."""
        return self._dialled.get(link)

    def log_in(self, link: Link, auth: AuthRequest) -> None:
        """See `LinkOwner`."""
        peer_id = self.credentials.authenticate(
            link.path_peer_id, auth.username, auth.token, self.clock.now_ms()
        )
        if peer_id is None:
            self.auth_failures += 1
            suppressed = self._failures.allow(self.clock.monotonic_s())
            if suppressed is not None:
                self._log.warning(
                    "btp_authentication_failed",
                    remote=link.remote,
                    # Text of an unauthenticated party is truncated, and its token is never logged.
                    username=auth.username[:64],
                    reason="unknown peer or wrong token",
                    suppressed=suppressed,
                )
            link.session.refuse(auth)
            link.drop("authentication failed")
            return
        if self._links_of(peer_id).log_ins.allow(self.clock.monotonic_s()) is None:
            link.session.refuse(auth, b"too many log-ins in this second", "T00")
            self._refuse(link, f"peer {peer_id} logs in too often")
            link.drop(link.close_reason)
            return
        link.session.accept(auth)
        link.token_digest = digest_of(auth.token)
        self._logged_in(link, self._peers[peer_id], auth.username)

    def opened(self, link: Link) -> None:
        """See `LinkOwner`."""
        credentials = self._dialled[link]
        link.token_digest = digest_of(credentials.token)
        self._logged_in(link, self._peers[credentials.peer_id], credentials.username)

    def _note(self, links: PeerLinks, link: Link, event: str, **fields: str) -> None:
        """Log a change of a peer's connections, at a limited rate."""
        suppressed = links.lines.allow(self.clock.monotonic_s())
        if suppressed is not None:
            assert link.peer is not None
            self._log.info(
                event,
                peer_id=link.peer.peer_id,
                direction=link.direction,
                suppressed=suppressed,
                **fields,
            )

    def _links_of(self, peer_id: str) -> PeerLinks:
        links = self._by_peer.get(peer_id)
        if links is None:
            links = self._by_peer[peer_id] = PeerLinks(self.random_id())
        return links

    def _logged_in(self, link: Link, peer: Peer, username: str) -> None:
        """Add a logged-in link; it carries requests from now on unless another one is preferred."""
        peer_id = peer.peer_id
        self._strangers.remove(link)
        link.peer = peer
        link.logged_in_at_s = self.clock.monotonic_s()
        assert link.session.auth_id is not None
        link.log_in_key = username.encode(), link.session.auth_id
        links = self._links_of(peer_id)
        for old in links.all():
            if old.session.resumable is not link.session.resumable:
                # Another program: requests that were sent without packet ids cannot be resent.
                old.drop("replaced by another kind of connection", CloseCode.NORMAL_CLOSURE)
        if not links.all() and not link.session.resumable:
            links.requests.clear()  # from an earlier link with packet ids: they end as lost in `_resend`
        if self.beside is not None and link.session.resumable:
            self.beside.hand_over(peer_id)
        waiting = self._waiting_for(peer)
        link.session.join(links.requests)
        links.add(link)
        self.connects[peer_id] = self.connects.get(peer_id, 0) + 1
        self._note(links, link, "btp_connection_established", remote=link.remote)
        former = self.live.get(peer_id)
        carrier = links.carrier()
        assert carrier is not None, peer_id
        self.live[peer_id] = carrier
        if former is not carrier:
            self._observer.connected(peer_id, carrier.direction)
        self.driver.reconnected(peer_id)
        held = self._returning.back(peer_id)
        if held and not carrier.session.resumable:
            # Another program now. What is sent to it could not be resent, and its Fulfills not be kept.
            waiting = [flight for flight in waiting if flight not in held]
            for flight in held:
                self.driver.answered(flight, Unanswered.NOT_SENT)
        if former is not carrier:
            self._resend(carrier, waiting)
        for old in links.superfluous():
            old.drop("too many connections of this peer", CloseCode.NORMAL_CLOSURE)

    def _resend(self, link: Link, waiting: Collection[OutgoingRequest]) -> None:
        """Resend all open requests, if the peer supports packet ids (docs/protocol.md).

        Otherwise requests that went over another link of the peer keep waiting for their answers.
        """
        requests = link.session.requests
        if link.session.resumable:
            requests.before_resending(waiting)
            link.resend(waiting)
            return
        asked = set(requests.open)
        for flight in waiting:
            if flight not in asked:
                self.driver.answered(flight, Unanswered.LINK_LOST)

    def gone(self, link: Link) -> None:
        """See `LinkOwner`."""
        if link not in self._all:
            return
        del self._all[link]
        self._dialled.pop(link, None)
        link.gone_at_s = self.clock.monotonic_s()
        was_open = link.session.state is State.OPEN
        link.session.close()
        peer = link.peer
        if peer is None or not was_open:
            self._strangers.remove(link)
            return
        peer_id = peer.peer_id
        links = self._by_peer[peer_id]
        links.remove(link)
        carrier = links.carrier()
        was_carrier = self.live.get(peer_id) is link
        if carrier is not None:
            self.live[peer_id] = carrier
        elif was_carrier:
            del self.live[peer_id]
            if self.reaches(peer_id):
                self._observer.connected(peer_id, "http")
            else:
                self._observer.disconnected(peer_id, link.direction, link.close_reason)
        self._note(links, link, "btp_connection_lost", reason=link.close_reason)
        if links.all():
            # Receipts over another link do not cover the answers sent over this one.
            self.driver.reconnected(peer_id)
            # Requests that are still open when a drained link is closed get no answer over it.
            if (
                carrier is not None
                and carrier.session.resumable
                and (was_carrier or not link.drained_ids.isdisjoint(links.requests.by_id))
            ):
                self._resend(carrier, self._waiting_for(peer))
        else:
            self._lose(link, links)
        self.flush()

    def _lose(self, link: Link, links: PeerLinks) -> None:
        """The last link of a peer is closed.

        With packet ids, open requests are resent when the peer is back or, after a stop of this
        node, when their senders resend them. Senders that cannot resend get a Reject before a stop.
        """
        left: list[OutgoingRequest] = []
        if not link.session.resumable:
            left = links.requests.clear()
        else:
            if self._stopping:
                left = [one for one in links.requests.open if not one.sender_packet_id]
                links.requests.forget(left)
            elif self.beside is not None and not links.comes_back:
                assert link.peer is not None
                waiting = self._waiting_for(link.peer)
                links.requests.forget(set(self.beside.take_over(link.peer.peer_id, waiting)))
            # Two neighbours may be replaced at the same time: what was being reserved waits then, too,
            # for the process that follows this one.
            if links.comes_back and (self.comes_back or not self._stopping):
                assert link.peer is not None
                self._returning.expect(link.peer.peer_id, self.clock.monotonic_s())
        for flight in left:
            self.driver.answered(flight, Unanswered.LINK_LOST)

    def is_replaced(self, peer_id: str) -> bool:
        """Whether a peer has said that a new process of it follows at once."""
        links = self._by_peer.get(peer_id)
        return links is not None and links.comes_back

    def is_only_link(self, link: Link) -> bool:
        """See `LinkOwner`."""
        assert link.peer is not None
        links = self._by_peer.get(link.peer.peer_id)
        return links is not None and len(links) == 1

    def reply_elsewhere(self, link: Link, request_id: int, octets: bytes) -> bool:
        """See `LinkOwner`.

        Over a link of the other direction that existed at the same time: it leads to the same
        process, where request ids are unique. A peer with packet ids resends instead.
        """
        if link.peer is None or link.session.resumable:
            return False
        other = self.live.get(link.peer.peer_id)
        if (
            other is None
            or other.direction == link.direction
            or other.session.resumable
            or other.logged_in_at_s > link.gone_at_s
        ):
            return False
        other.session.owed += 1
        return other.reply(request_id, octets)

    def flush(self) -> None:
        """See `LinkOwner`."""
        standstill = self.standstill
        standstill.look(self.clock.monotonic_s())
        touched = self.touched
        while touched and not standstill.is_held:
            touched.popitem()[0].flush()

    # --- sending to next hops

    def send(self, flight: OutgoingRequest) -> Unanswered | None:
        """See `switch.driver.Outlet`."""
        assert flight.next_hop is not None
        link = self.live.get(flight.next_hop.terms.peer_id)
        if flight.again:
            if link is None:
                # After a restart the sender may be back before the next hop: wait for it until
                # the packet's deadline.
                return None if self.beside is None else self.beside.send(flight)
            if not link.session.resumable:
                # The peer may have this packet already and would take it for a new one.
                return Unanswered.LINK_LOST
        elif link is None:
            if self._stopping and not flight.sender_packet_id:
                return Unanswered.NOT_SENT
            if self._returning.hold(flight.next_hop.terms.peer_id, flight):
                return None
            return Unanswered.NOT_SENT if self.beside is None else self.beside.send(flight)
        return link.send(flight, flight.again)

    def would_send(self, peer_id: str) -> Unanswered | None:
        """Why a new packet for this peer would not be sent now; None: it would, or would wait for it."""
        link = self.live.get(peer_id)
        if link is not None:
            return Unanswered.BUSY if link.writing_paused else None
        if self._stopping:
            return Unanswered.NOT_SENT
        if peer_id in self._returning.peers():
            return None
        return Unanswered.NOT_SENT if self.beside is None else self.beside.would_send(peer_id)

    def can_ask_again(self, next_hop: Peer) -> bool:
        """See `switch.driver.Outlet`."""
        link = self.live.get(next_hop.terms.peer_id)
        if link is None:
            return self.beside is None or self.beside.knows_packet_ids(next_hop.terms.peer_id)
        return link.session.resumable

    def forget(self, flights: Collection[OutgoingRequest]) -> None:
        """See `switch.driver.Outlet`."""
        for links in self._by_peer.values():
            links.requests.forget(flights)
        self._returning.forget(flights)
        if self.beside is not None:
            self.beside.forget(flights)

    # --- a process that stood still

    def _hold(self) -> None:
        for link in self._all:
            link.pause_reading()
        self._on_standstill()

    def release(self) -> None:
        """Go on: this process is still the active one."""
        if not self.standstill.over():
            return
        for link in list(self._all):
            link.go_on()
        self.flush()

    def abandon(self) -> None:
        """Close all links without another word: another process has taken over."""
        assert self.standstill.is_held
        for link in list(self._all):
            link.close_reason = link.close_reason or "another process has taken over"
            link.abort()

    # --- time

    def tick(self) -> None:
        """Called about once a second: log-in deadlines, drained links, pings, silence."""
        now_s = self.clock.monotonic_s()
        self.standstill.look(now_s)
        if self.standstill.is_held:
            return
        for link in list(self._all):
            link.keep_alive(now_s)
        for peer_id in self.credentials.graces_over(self.clock.now_ms()):
            self._log.info("former_secret_over", peer_id=peer_id)
            self.drop_not_accepted(peer_id)
        self._refuse_held(now_s)
        self.flush()

    def _refuse_held(self, now_s: float) -> None:
        """Reject what waits for peers that have not come back by now."""
        for flight in self._returning.over(now_s):
            self.driver.answered(flight, Unanswered.NOT_SENT)

    def stop_listening(self) -> None:
        """Stop accepting connections, packets that will be resent, and dialling; open links stay."""
        if self._stopping:
            return
        self._stopping = True
        self.dialler.stop()
        if self._listener is not None:
            self._listener.close()
        if self.comes_back:
            # What waits for other peers is left to the new process, if its sender can resend it.
            for flight in self._returning.take_not_resendable():
                self.driver.answered(flight, Unanswered.NOT_SENT)
            self.driver = _LeavesNew(self.driver)
        else:
            self._refuse_held(math.inf)

    async def close(self) -> None:
        """Close every link and wait a bounded time until all are closed."""
        self.stop_listening()
        links = list(self._all)
        for link in links:
            if self.comes_back and link.session.resumable:
                link.drop("being replaced", CloseCode.SERVICE_RESTART)
            else:
                link.drop("shutting down", CloseCode.GOING_AWAY)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(2 * bounds.CLOSE_SECONDS_MAX):
                for link in links:
                    await link.closed.wait()


class _LeavesNew:
    """Stands before the packet handler while this process stops and a new one follows at once.

    New packets with packet ids get no answer: their senders resend them to the new process.
    """

    def __init__(self, driver: PacketHandler) -> None:
        self._driver: Final = driver

    def arrived(
        self,
        source: Peer,
        octets: bytes,
        sender_packet_id: int,
        reply_to: Link,
        request_id: int,
        again: bool,
    ) -> None:
        """See `PacketHandler`."""
        if not sender_packet_id:
            self._driver.arrived(source, octets, sender_packet_id, reply_to, request_id, again)

    def reconnected(self, peer_id: str) -> None:
        """See `PacketHandler`."""
        self._driver.reconnected(peer_id)

    def answered(self, flight: Any, said: bytes | Unanswered) -> None:
        """See `PacketHandler`."""
        self._driver.answered(flight, said)

    def receipt(self, peer_id: str) -> None:
        """See `PacketHandler`."""
        self._driver.receipt(peer_id)

    def wants_receipt(self, peer_id: str) -> bool:
        """See `PacketHandler`."""
        return self._driver.wants_receipt(peer_id)

    def waiting_for(self, peer: Peer) -> Sequence[OutgoingRequest]:
        """See `PacketHandler`."""
        return self._driver.waiting_for(peer)
