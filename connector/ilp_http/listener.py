"""What peers ask over HTTP: their tokens, their packets, and their answers to ours.

`POST /accounts/<id>/ilp`, or `/ilp` where the token alone tells the peer. A Prepare goes to the driver
like one that came over BTP; its answer is the response, or is posted to the peer's callback (RFC 35).
A Fulfill or Reject in a request is the answer to a packet that was sent asynchronously. `GET` says
whether the token is right and that packet ids are known.
"""

from __future__ import annotations

import ssl
import uuid
from collections.abc import Callable
from typing import Final, Protocol

from connector.base import limits
from connector.base.clock import Clock
from connector.base.connections import Connections
from connector.base.errors import DecodeError, ListenError
from connector.base.log import Log, Sampler
from connector.base.wrong_keys import Denied, WrongKeys
from connector.btp.credentials import CredentialTable
from connector.btp.network import Listener, Network
from connector.btp.standstill import Standstill
from connector.ilp.packet import decode, decode_prepare
from connector.ilp_http import bounds
from connector.ilp_http.connection import Connection, Headers
from connector.ilp_http.message import (
    AGAIN,
    CONTENT_TYPES,
    FULFILL,
    KNOWN,
    PACKET_ID,
    PREPARE,
    REJECT,
    Refusal,
    Request,
    peer_in_path,
)
from connector.ilp_http.request_ids import RequestIds, Seen
from connector.peering.model import Peer, PeerRegistry

_KNOWN: Final[Headers] = ((PACKET_ID, KNOWN),)


class ReplyTo(Protocol):
    """The destination of an answer; see `switch.flight.ReplyTo`."""

    def reply(self, request_id: int, octets: bytes) -> bool:
        """Queue the answer; False: it can no longer be delivered."""


class Arrivals(Protocol):
    """Takes packets of peers; implemented by the switch's driver."""

    def arrived(
        self,
        source: Peer,
        octets: bytes,
        sender_packet_id: int,
        reply_to: ReplyTo,
        request_id: int,
        again: bool = False,
    ) -> None:
        """A request with an ILP packet arrived; answer it through `reply_to.reply`."""


class Callbacks(Protocol):
    """What the listener needs of the sending side, by peer id."""

    def callback_of(self, peer_id: str) -> str | None:
        """The only Callback-Url that is accepted from a peer; None: none is."""

    def answer_to(self, peer_id: str, request_id: uuid.UUID, until_ms: int) -> ReplyTo:
        """Takes an answer that is to be posted to the callback of a peer until then."""

    def replied(self, peer_id: str, request_id: uuid.UUID, octets: bytes) -> bool:
        """The answer to a packet of ours; False: none waits for it."""


class HttpListener:
    """See the module."""

    def __init__(
        self,
        *,
        clock: Clock,
        log: Log,
        peers: PeerRegistry,
        credentials: CredentialTable,
        driver: Arrivals,
        callbacks: Callbacks,
        network: Network,
        standstill: Standstill,
        flush: Callable[[], None],
    ) -> None:
        """Nothing listens yet.

        Args:
            clock: for deadlines.
            log: for refusals, at a limited rate.
            peers: the senders of packets.
            credentials: their tokens, the same as over BTP.
            driver: takes their packets.
            callbacks: the sending side.
            network: listens.
            standstill: while it holds, nothing is read or said.
            flush: writes what a packet has caused on other connections.
        """
        self.clock: Final = clock
        self.standstill: Final = standstill
        self.refusals: Final[dict[int, int]] = {}
        """Refused requests, by status."""
        self.leaves_new = False
        """Whether packets that will be resent are left to the process that follows this one."""
        self.winds_down = False
        """Whether a stop has begun: connections are closed behind an answer, and probes find nobody."""
        self.wrong_tokens: Final = WrongKeys(clock=clock, log=log)
        self.answered_ms: Final[dict[str, int]] = {}
        """When each peer has last sent a packet that it may resend."""
        self._log = log
        self._peers = peers
        self._credentials = credentials
        self._driver = driver
        self._callbacks = callbacks
        self._network = network
        self._flush = flush
        self._listener: Listener | None = None
        self._request_ids = RequestIds()
        self._began_ms = clock.now_ms()
        strangers_max = min(bounds.STRANGERS_MAX, network.strangers_max)
        self._strangers: Connections[Connection] = Connections(
            count_max=strangers_max,
            per_address_max=min(bounds.STRANGERS_PER_ADDRESS_MAX, strangers_max),
        )
        self._known: dict[str, dict[Connection, None]] = {}
        """Connections whose last request had a right token, by peer id."""
        self._known_count = 0
        self._said = Sampler(limits.LOG_LINES_PER_SECOND_PER_EVENT_MAX)

    def __len__(self) -> int:
        return len(self._strangers) + self._known_count

    async def listen(self, host: str, port: int, tls: ssl.SSLContext | None) -> int:
        """Accept connections. Returns the port; 0 lets the system choose it.

        Raises:
            ListenError: the port is in use, or the address is not one of this machine.
        """
        try:
            self._listener = await self._network.listen(lambda: Connection(self), host, port, tls)
        except OSError as error:
            raise ListenError(
                f"cannot listen for ILP over HTTP on {host}:{port}: {error.strerror or error}; "
                "choose another ILP_HTTP_PORT or ILP_HTTP_HOST"
            ) from error
        return self._listener.port

    def stop_listening(self) -> None:
        """Accept no further connections; open ones stay."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    def close(self) -> None:
        """Close all connections."""
        self.stop_listening()
        for connection in self._all():
            connection.abort()

    def forget_peer(self, peer_id: str) -> None:
        """The peer was removed."""
        self._request_ids.forget_peer(peer_id)
        self.answered_ms.pop(peer_id, None)
        self.cut_off(peer_id)

    def cut_off(self, peer_id: str) -> None:
        """Close the connections of a peer."""
        for connection in list(self._known.get(peer_id, ())):
            connection.abort()

    def go_on(self) -> None:
        """Nothing is held any more."""
        for connection in self._all():
            connection.go_on()

    def tick(self, now_s: float) -> None:
        """Called about once a second: deadlines."""
        if self.standstill.is_held:
            return
        for connection in self._all():
            connection.tick(now_s)

    def _all(self) -> list[Connection]:
        return [*self._strangers, *(one for known in self._known.values() for one in known)]

    # --- from the connections

    def admit(self, connection: Connection) -> bool:
        """See `Owner`: of too many without a token, the oldest idle one is closed."""
        superfluous = self._strangers.add(connection)
        if superfluous is not None and superfluous is not connection:
            superfluous.abort()
        return superfluous is not connection

    def gone(self, connection: Connection) -> None:
        """See `Owner`."""
        self._strangers.remove(connection)
        self._forget(connection)

    def _forget(self, connection: Connection) -> None:
        known = self._known.get(connection.peer_id, {})
        if connection not in known:
            return
        del known[connection]
        self._known_count -= 1
        assert self._known_count >= 0, self._known_count
        if not known:
            del self._known[connection.peer_id]

    def authenticate(self, connection: Connection, request: Request) -> Refusal | None:
        """See `Owner`."""
        peer_id = self._credentials.authenticate(
            peer_in_path(request.path), "", request.token, self.clock.now_ms()
        )
        if peer_id is None or peer_id not in self._peers:
            if self.wrong_tokens.deny(connection.address) is Denied.THROTTLED:
                return Refusal(429, "too many wrong tokens from this address")
            return Refusal(401, "unknown peer or wrong token")
        request.peer_id = peer_id
        if connection.peer_id != peer_id:
            if self._is_crowded(peer_id, times=2):
                return Refusal(503, "too many connections")
            self._strangers.remove(connection)
            self._forget(connection)
            connection.peer_id = peer_id
            self._known.setdefault(peer_id, {})[connection] = None
            self._known_count += 1
        if request.method == "POST" and request.content_type not in CONTENT_TYPES:
            return Refusal(415, f"Content-Type is neither {' nor '.join(CONTENT_TYPES)}")
        return None

    def keeps(self, connection: Connection) -> bool:
        """See `Owner`."""
        is_open = self._listener is not None and not self.winds_down
        return is_open and not self._is_crowded(connection.peer_id, times=1)

    def _is_crowded(self, peer_id: str, *, times: int) -> bool:
        """Whether there are more connections than `times` the bound, of a peer or in all."""
        return (
            len(self._known.get(peer_id, ())) > times * bounds.CONNECTIONS_PER_PEER_MAX
            or self._known_count > times * bounds.CONNECTIONS_MAX
        )

    def refused(self, connection: Connection, refusal: Refusal) -> None:
        """See `Owner`. Wrong tokens have a log line of their own."""
        self.refusals[refusal.status] = self.refusals.get(refusal.status, 0) + 1
        if refusal.status in (401, 429):
            return
        suppressed = self._said.allow(self.clock.monotonic_s())
        if suppressed is not None:
            self._log.warning(
                "ilp_http_request_refused",
                remote=connection.address,
                peer_id=connection.peer_id,
                status=refusal.status,
                reason=refusal.reason,
                suppressed=suppressed,
            )

    def flush(self) -> None:
        """See `Owner`."""
        self._flush()

    def handle(self, connection: Connection, request: Request) -> None:
        """See `Owner`."""
        connection.known = _KNOWN
        if request.method == "GET" and self.winds_down:
            connection.refuse(Refusal(503, "stopping"), _KNOWN)
            return
        if request.method == "GET":
            connection.content_type = "text/plain; charset=utf-8"
            connection.answer(200, b"ILP over HTTP\n", _KNOWN)
            return
        connection.content_type = request.content_type
        packet, again = request.body, False
        if packet.startswith(AGAIN) and request.packet_id:
            packet, again = packet[len(AGAIN) :], True
        kind = packet[0] if packet else 0
        if kind == PREPARE:
            refusal = self._prepare(connection, request, packet, again)
        elif kind in (FULFILL, REJECT) and not again:
            refusal = self._replied(connection, request)
        else:
            refusal = Refusal(400, "not an ILP packet")
        if refusal is not None:
            connection.refuse(refusal, _KNOWN)

    def _prepare(
        self, connection: Connection, request: Request, packet: bytes, again: bool
    ) -> Refusal | None:
        try:
            prepare = decode_prepare(packet)
        except DecodeError as error:
            return Refusal(400, f"unreadable packet: {error.field}")
        if request.callback_url and request.callback_url != self._callbacks.callback_of(
            request.peer_id
        ):
            # Anything else would let a peer make this node post to addresses of its choice.
            return Refusal(400, "Callback-Url is not the one configured for this peer")
        now_ms = self.clock.now_ms()
        packet_id = request.packet_id
        if request.request_id is not None and not packet_id:
            # RFC 35: the request id does for other programs what the packet id does for ours.
            until_ms = min(prepare.expires_at_ms, now_ms + limits.EXPIRY_MS_MAX)
            seen = self._request_ids.note(
                request.peer_id, request.request_id, packet, until_ms, now_ms
            )
            if seen is Seen.OTHER:
                return Refusal(409, "Request-Id was used for another packet")
            if seen is Seen.FULL:
                return Refusal(503, "too many Request-Ids at a time")
            packet_id = request.request_id.int
            # It is not said whether the packet may have come before; the process before this one could
            # have taken it.
            again = seen is Seen.SAME or now_ms < self._began_ms + limits.FORMER_PACKETS_MS
        if self.leaves_new and packet_id:
            return Refusal(503, "being replaced; send it again")
        source = self._peers.get(request.peer_id)
        if source is None:
            return Refusal(401, "unknown peer or wrong token")  # it was removed meanwhile
        if packet_id:
            self.answered_ms[request.peer_id] = now_ms
        if request.callback_url:
            assert request.request_id is not None
            reply_to = self._callbacks.answer_to(
                request.peer_id, request.request_id, prepare.expires_at_ms
            )
            self._driver.arrived(source, packet, packet_id, reply_to, 0, again)
            connection.answer(202, b"", _KNOWN)
            return None
        left_s = (prepare.expires_at_ms - now_ms) / 1000
        connection.wait_until(
            min(max(left_s, 0.0), limits.EXPIRY_MS_MAX / 1000) + bounds.ANSWER_MARGIN_SECONDS
        )
        self._driver.arrived(source, packet, packet_id, connection, connection.number, again)
        return None

    def _replied(self, connection: Connection, request: Request) -> Refusal | None:
        """The answer to a packet that was sent asynchronously."""
        if request.request_id is None:
            return Refusal(400, "an answer without Request-Id")
        try:
            decode(request.body)
        except DecodeError as error:
            return Refusal(400, f"unreadable packet: {error.field}")
        if not self._callbacks.replied(request.peer_id, request.request_id, request.body):
            if self.clock.now_ms() < self._began_ms + bounds.FORMER_ANSWERS_SECONDS * 1000:
                return Refusal(503, "no packet waits for this answer yet")
            return Refusal(400, "no packet waits for this answer")
        connection.answer(200, b"", _KNOWN)
        return None
