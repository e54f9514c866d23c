"""Websockets under BTP sessions: moves octets, keeps connections alive, decides nothing.

`websockets` does the protocol without I/O; this file gives it a transport. All frames of one read
are handled before anything is written, and every link touched meanwhile is written to once.
`Links` listens, dials, keeps one live link per peer (the newest logged-in one), and is the switch's
way to next hops.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import os
import ssl
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, cast
from urllib.parse import unquote, urlsplit

from tenacity import wait_random_exponential
from websockets.client import ClientProtocol
from websockets.frames import CloseCode, Frame, Opcode
from websockets.http11 import Request, Response
from websockets.protocol import CONNECTING, OPEN
from websockets.server import ServerProtocol
from websockets.uri import parse_uri

from connector.base import limits
from connector.base.clock import Clock
from connector.base.errors import ListenError, PeerError
from connector.base.log import Log, Sampler
from connector.btp import bounds
from connector.btp.frames import Splitter, wrap
from connector.btp.network import Listener, Network
from connector.btp.session import (
    AuthRequest,
    Ignored,
    IlpAnswer,
    IlpRequest,
    LoggedIn,
    LogInRefused,
    Session,
    State,
)
from connector.peering.model import Peer, PeerRegistry, Unanswered


class OutgoingRequest(Protocol):
    """A Prepare that the packet handler wants sent, and answered."""

    octets: bytes
    packet_id: int
    sender_packet_id: int
    """Under which the sender can ask for it again; zero: it cannot."""
    next_hop: Peer | None
    again: bool
    """Whether it may have been sent before this node restarted."""
    link_ref: Any
    """Ours: over which link it went, under which request id."""


class PacketHandler(Protocol):
    """Who is told of packets; the switch's driver."""

    def arrived(
        self,
        source: Peer,
        octets: bytes,
        sender_packet_id: int,
        reply_to: Link,
        request_id: int,
        again: bool,
    ) -> None:
        """A request with an ILP packet came; answer through `reply_to.reply`."""

    def reconnected(self, peer_id: str) -> None:
        """A new connection with a peer is there: answers to it from before may not be read."""

    def answered(self, flight: Any, said: bytes | Unanswered) -> None:
        """The answer to a request of ours, or why there is none."""

    def receipt(self, peer_id: str) -> None:
        """The peer has read all answers that were sent before it was pinged."""

    def wants_receipt(self, peer_id: str) -> bool:
        """Whether answers to this peer are kept until it has read them."""

    def waiting_for(self, peer: Peer) -> Sequence[OutgoingRequest]:
        """Requests that were sent to `peer` and have no answer, oldest first."""


@dataclass(slots=True, frozen=True, kw_only=True)
class Credentials:
    """How a peer and we know each other."""

    peer_id: str
    token: str
    username: str
    """What we call ourselves when we dial it."""
    url: str | None = None
    """Where to dial it; None: it dials us."""


class Link(asyncio.Protocol):
    """One websocket and its BTP session."""

    def __init__(
        self, links: Links, websocket: ServerProtocol | ClientProtocol, direction: str
    ) -> None:
        self._links = links
        self._websocket = websocket
        self.direction: Final = direction
        self.session = Session(first_request_id=links.random_id(), now_ms=links.clock.now_ms)
        self.peer: Peer | None = None
        self.path_peer_id: str | None = None
        """The peer that the URL path names: `/accounts/<id>/ilp/btp`."""
        self.remote = ""
        self.closed = asyncio.Event()
        self.close_reason = ""
        self.logged_in_at_s = 0.0
        self._transport: asyncio.Transport | None = None
        self._fragments: bytearray | None = None
        self._handshake_size = 0
        self._opened_at_s = links.clock.monotonic_s()
        self.last_heard_s = self._opened_at_s
        self._last_ping_s = self._opened_at_s
        self.latency_s: float | None = None
        self._receipt_ping: bytes | None = None
        self._ping_number = 0
        self._writing_paused = False
        self._closing = False
        listening = isinstance(websocket, ServerProtocol)
        self._splitter = Splitter(masked=listening, size_max=limits.BTP_MESSAGE_BYTES_MAX)
        self._mask = None if listening else links.random_octets
        self._plain = False
        """Whether the handshake is over: frames may be taken the short way."""

    # --- transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is there; see `asyncio.Protocol`."""
        # uvloop's transports do not inherit from asyncio's: a cast, not a check.
        self._transport = transport = cast(asyncio.Transport, transport)
        transport.set_write_buffer_limits(high=bounds.WRITE_BUFFER_PAUSE_BYTES)
        name = transport.get_extra_info("peername")
        self.remote = f"{name[0]}:{name[1]}" if isinstance(name, tuple) else str(name)
        if isinstance(self._websocket, ClientProtocol):
            self._websocket.send_request(self._websocket.connect())
            self.flush()
        elif not self._links.admit(self):
            transport.abort()

    def data_received(self, data: bytes) -> None:
        """Handle every frame of one read, then write once per link."""
        links = self._links
        self.last_heard_s = links.clock.monotonic_s()
        links.touched.add(self)
        if self._plain:
            for is_message, octets in self._splitter.split(data):
                if not is_message:
                    self._not_plain(octets)
                elif self._fragments is not None:
                    self.drop("websocket: a message within a fragmented one")
                else:
                    self._received(octets)
                if self._closing:
                    break
        else:
            self._not_plain(data)
        links.flush()

    def _not_plain(self, octets: bytes) -> None:
        """Everything but whole binary messages: handshake, control frames, fragments."""
        websocket = self._websocket
        if websocket.state is CONNECTING:
            self._handshake_size += len(octets)
            if self._handshake_size > bounds.HANDSHAKE_BYTES_MAX:
                self.drop("websocket: handshake too large")
                return
        try:
            websocket.receive_data(octets)
        except EOFError:
            return  # more octets behind the closing handshake
        # Frames may already stand behind the handshake: then `websockets` keeps the connection.
        handshake_only = octets.endswith(b"\r\n\r\n")
        for event in websocket.events_received():
            if isinstance(event, Frame):
                self._frame(event)
            elif isinstance(event, Request):
                self._handshake(event)
                self._plain = handshake_only and websocket.state is OPEN
            elif isinstance(event, Response):
                self._handshake_answer()
                self._plain = handshake_only and websocket.state is OPEN
            if self._closing:
                break
        broken = websocket.parser_exc or websocket.handshake_exc
        if broken is not None and not self._closing:
            self.drop(f"websocket: {_clean(broken)}")

    def eof_received(self) -> None:
        """The other side has sent all it will send."""
        with contextlib.suppress(EOFError):
            self._websocket.receive_eof()

    def connection_lost(self, error: Exception | None) -> None:
        """The socket is gone."""
        if not self.close_reason:
            self.close_reason = f"connection lost: {error}" if error else "closed by the other side"
        self._closing = True
        self._links.gone(self)
        self.closed.set()

    def pause_writing(self) -> None:
        """The other side does not keep up with reading."""
        self._writing_paused = True
        # A peer that does not read its answers is not read from either: its own requests stop.
        if self._transport is not None and not self._closing:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        """It has caught up."""
        self._writing_paused = False
        if self._transport is not None and not self._closing:
            self._transport.resume_reading()

    # --- websocket

    def _handshake(self, request: Request) -> None:
        assert isinstance(self._websocket, ServerProtocol)
        response = self._websocket.accept(request)
        if response.status_code == 101:
            self.path_peer_id = _peer_in_path(request.path)
        self._websocket.send_response(response)
        if response.status_code != 101:
            self.drop("not a websocket handshake")

    def _handshake_answer(self) -> None:
        refused = self._websocket.handshake_exc
        if refused is not None:
            self.drop(f"handshake refused: {_clean(refused)}")
            return
        credentials = self._links.credentials_of(self)
        assert credentials is not None
        self.session.log_in(credentials.username, credentials.token)
        self._queue()

    def _frame(self, frame: Frame) -> None:
        match frame.opcode:
            case Opcode.BINARY if frame.fin:
                self._received(bytes(frame.data))
            case Opcode.BINARY:
                self._fragments = bytearray(frame.data)
            case Opcode.CONT if self._fragments is not None:
                self._fragments += frame.data
                if frame.fin:
                    message, self._fragments = bytes(self._fragments), None
                    self._received(message)
            case Opcode.PONG:
                self._pong(bytes(frame.data))
            case Opcode.TEXT | Opcode.CONT:
                self.drop("text message: BTP is binary", CloseCode.UNSUPPORTED_DATA)
            case Opcode.CLOSE:
                received = self._websocket.close_rcvd
                code = received.code if received is not None else 0
                self.close_reason = self.close_reason or f"closed by the other side ({code})"
                self._finish()
            case _:
                pass  # pings are answered by `websockets`

    def _received(self, message: bytes) -> None:
        session = self.session
        links = self._links
        try:
            event = session.receive(message)
        except PeerError as error:
            self._queue()
            self.drop(f"BTP: {error}")
            return
        if type(event) is IlpRequest:
            assert self.peer is not None
            links.driver.arrived(
                self.peer, event.ilp, event.packet_id, self, event.request_id, event.again
            )
        elif type(event) is IlpAnswer:
            ilp = event.ilp
            links.driver.answered(event.request, Unanswered.REFUSED if ilp is None else ilp)
        else:
            self._rare(event)

    def _rare(self, event: object) -> None:
        match event:
            case AuthRequest():
                self._links.log_in(self, event)
            case LoggedIn():
                self._links.opened(self)
            case LogInRefused(code=code, reason=reason):
                self.drop(f"log-in refused: {code} {reason!r}")
            case Ignored():
                self._links.ignored += 1
            case _:
                raise AssertionError(event)
        self._queue()

    # --- sending

    def reply(self, request_id: int, octets: bytes) -> bool:
        """See `ReplyTo`."""
        if self.session.state is not State.OPEN:
            return False
        self.session.respond(request_id, octets)
        self._links.touched.add(self)
        return True

    def send(self, flight: OutgoingRequest, again: bool) -> Unanswered | None:
        """See `Outlet`; `again`: over another connection it may have been sent before."""
        if self._writing_paused:
            return Unanswered.BUSY
        request_id = self.session.request(flight.octets, flight, flight.packet_id, again)
        flight.link_ref = (self, request_id)
        self._links.touched.add(self)
        return None

    def _queue(self) -> None:
        self._links.touched.add(self)

    def flush(self) -> None:
        """Write everything that was queued, at once."""
        websocket = self._websocket
        outgoing = self.session.take_outgoing()
        octets = websocket.data_to_send()
        if outgoing and websocket.state is OPEN:
            octets.append(wrap(outgoing, self._mask))
        if not octets or self._transport is None or self._transport.is_closing():
            return
        self._transport.write(b"".join(octets) if len(octets) > 1 else octets[0])
        if octets[-1] == b"" and self._transport.can_write_eof():
            self._transport.write_eof()
        if self._transport.get_write_buffer_size() > bounds.WRITE_BUFFER_BYTES_MAX:
            self.close_reason = "the other side does not read"
            self._transport.abort()

    def drop(self, reason: str, code: CloseCode = CloseCode.POLICY_VIOLATION) -> None:
        """Close the connection, after what is queued has been written."""
        self.close_reason = self.close_reason or reason
        self.flush()
        if self._websocket.state is OPEN:
            self._websocket.send_close(code, reason[:100])
        self._finish()

    def _finish(self) -> None:
        self.flush()
        if not self._closing:
            self._closing = True
            if self._transport is not None:
                self._transport.resume_reading()
            self._links.gone(self)
            asyncio.get_running_loop().call_later(bounds.CLOSE_SECONDS_MAX, self._abort)
        if self._transport is not None:
            self._transport.close()

    def _abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    # --- keeping alive

    def _pong(self, payload: bytes) -> None:
        now_s = self._links.clock.monotonic_s()
        self.latency_s = now_s - self._last_ping_s
        if payload == self._receipt_ping and self.peer is not None:
            self._receipt_ping = None
            self._links.driver.receipt(self.peer.peer_id)

    def _ping(self, now_s: float) -> bytes:
        self._ping_number += 1
        payload = self._ping_number.to_bytes(8, "big")
        self._last_ping_s = now_s
        self._websocket.send_ping(payload)
        self._queue()
        return payload

    def keep_alive(self, now_s: float) -> None:
        """Called about once a second: log-in deadline, pings, silence."""
        if self._closing:
            return
        if self.session.state is not State.OPEN:
            if now_s - self._opened_at_s > limits.LOGIN_SECONDS_MAX:
                self.drop("no log-in in time")
            return
        if now_s - self.last_heard_s > bounds.KEEPALIVE_SILENCE_SECONDS_MAX:
            self.drop("silent for too long")
            return
        if (
            self.peer is not None
            and self.session.resumable
            and self._receipt_ping is None
            and self._links.driver.wants_receipt(self.peer.peer_id)
        ):
            self._receipt_ping = self._ping(now_s)
            return
        if now_s - self._last_ping_s >= bounds.KEEPALIVE_PING_SECONDS:
            self._ping(now_s)


class LinkObserver(Protocol):
    """Is told of links that come and go; must not wait."""

    def connected(self, peer_id: str, direction: str) -> None:
        """A peer has logged in, or we at it."""

    def disconnected(self, peer_id: str, direction: str, reason: str) -> None:
        """The live link of a peer is gone."""


@dataclass(slots=True)
class DialState:
    """How dialling a peer goes."""

    attempts: int = 0
    last_error: str = ""


class Links:
    """All links of the node: the listener, the dialled ones, and who is live."""

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
    ) -> None:
        self.clock: Final = clock
        self.random_id: Final = random_id
        self.random_octets: Final = random_octets
        self.touched: Final[set[Link]] = set()
        self.live: Final[dict[str, Link]] = {}
        """The link of each connected peer, by peer id."""
        self.connects: Final[dict[str, int]] = {}
        self.dialling: Final[dict[str, DialState]] = {}
        self.ignored = 0
        self.auth_failures = 0
        self._log = log
        self._peers = peers
        self._credentials = {one.peer_id: one for one in credentials}
        self._by_token = _unique_tokens(self._credentials.values())
        self._observer = observer
        self._all: set[Link] = set()
        self._not_logged_in = 0
        self._dialled: dict[Link, Credentials] = {}
        # Strangers decide how often these are said.
        self._failures = Sampler(limits.LOG_LINES_PER_SECOND_PER_EVENT_MAX)
        self._refusals = Sampler(limits.LOG_LINES_PER_SECOND_PER_EVENT_MAX)
        self._network = network
        self._listener: Listener | None = None
        self._stopping = False
        self.driver: PacketHandler
        """Who is told of packets; see `attach`."""

    def attach(self, driver: PacketHandler) -> None:
        """The driver and the links know each other: this closes the circle."""
        self.driver = driver

    # --- listening and dialling

    async def listen(self, host: str, port: int, tls: ssl.SSLContext | None) -> int:
        """Accept peers; gives the port, which is another one where 0 was asked for.

        Raises:
            ListenError: the port is taken, or the address is not ours.
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

    async def dial(self, credentials: Credentials) -> None:
        """Stay connected to a peer, for ever: dial, wait until it is gone, dial again."""
        assert credentials.url is not None
        back_off = wait_random_exponential(
            multiplier=bounds.RECONNECT_DELAY_SECONDS_MIN, max=bounds.RECONNECT_DELAY_SECONDS_MAX
        )
        state = self.dialling.setdefault(credentials.peer_id, DialState())
        failures = 0
        while not self._stopping:
            state.attempts += 1
            link = None
            try:
                async with asyncio.timeout(bounds.DIAL_SECONDS_MAX):
                    link = await self._connect(credentials)
            except (OSError, TimeoutError, ssl.SSLError) as error:
                reason = _clean(error) or "timed out"
            else:
                await link.closed.wait()
                reason = link.close_reason
                lived_s = self.clock.monotonic_s() - link.logged_in_at_s
                if link.logged_in_at_s and lived_s > bounds.RECONNECT_STABLE_SECONDS:
                    failures = 0
            failures = min(failures + 1, 16)
            if link is None or not link.logged_in_at_s:
                if reason != state.last_error:
                    self._log.warning("btp_dial_failed", peer_id=credentials.peer_id, reason=reason)
                state.last_error = reason
            else:
                state.last_error = ""
            await asyncio.sleep(
                bounds.RECONNECT_DELAY_SECONDS_MIN / 2 + back_off(_Attempt(failures))  # type: ignore[arg-type]
            )

    async def _connect(self, credentials: Credentials) -> Link:
        assert credentials.url is not None
        url = credentials.url.removeprefix("btp+")
        parts = urlsplit(url)
        secure = parts.scheme == "wss"
        websocket = ClientProtocol(parse_uri(url), max_size=limits.BTP_MESSAGE_BYTES_MAX)

        link = Link(self, websocket, "outbound")
        self._dialled[link] = credentials
        self._all.add(link)
        self._not_logged_in += 1
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

    # --- peers that come and go

    def add_peer(self, credentials: Credentials) -> None:
        """Let a peer log in, with these credentials from now on."""
        self._credentials[credentials.peer_id] = credentials
        self._by_token = _unique_tokens(self._credentials.values())

    def remove_peer(self, peer_id: str, reason: str) -> None:
        """Let a peer in no more, and close its link; whoever dials it is stopped by its owner.

        Packets that were sent to it and have no answer are answered: it cannot give one any more.
        """
        del self._credentials[peer_id]
        self._by_token = _unique_tokens(self._credentials.values())
        self.hang_up(peer_id, reason)
        for flight in self.driver.waiting_for(self._peers[peer_id]):
            self.driver.answered(flight, Unanswered.LINK_LOST)
        self.flush()
        self.connects.pop(peer_id, None)
        self.dialling.pop(peer_id, None)

    def hang_up(self, peer_id: str, reason: str) -> None:
        """Close the link of a peer, and those that are being opened to it."""
        for link, credentials in list(self._dialled.items()):
            if credentials.peer_id == peer_id and link.peer is None:
                link.drop(reason)
        live = self.live.get(peer_id)
        if live is not None:
            live.drop(reason, CloseCode.NORMAL_CLOSURE)

    # --- from the links

    def admit(self, link: Link) -> bool:
        """Whether one more connection is taken."""
        if (
            self._stopping
            or len(self._all) >= bounds.CONNECTIONS_MAX
            or self._not_logged_in >= bounds.CONNECTIONS_NOT_LOGGED_IN_MAX
        ):
            link.close_reason = "too many connections"
            suppressed = self._refusals.allow(self.clock.monotonic_s())
            if suppressed is not None:
                self._log.warning(
                    "btp_connection_refused",
                    remote=link.remote,
                    reason=link.close_reason,
                    suppressed=suppressed,
                )
            return False
        self._all.add(link)
        self._not_logged_in += 1
        return True

    def credentials_of(self, link: Link) -> Credentials | None:
        """With what to log in over a link that we dialled."""
        return self._dialled.get(link)

    def log_in(self, link: Link, auth: AuthRequest) -> None:
        """Decide whether the other side of a link is one of our peers."""
        peer_id = self._authenticate(link.path_peer_id, auth)
        if peer_id is None:
            self.auth_failures += 1
            suppressed = self._failures.allow(self.clock.monotonic_s())
            if suppressed is not None:
                self._log.warning(
                    "btp_authentication_failed",
                    remote=link.remote,
                    # What an unknown party says is cut short and never the token.
                    username=auth.username[:64],
                    reason="unknown peer or wrong token",
                    suppressed=suppressed,
                )
            link.session.refuse(auth)
            link.drop("authentication failed")
            return
        link.session.accept(auth)
        self._open(link, self._peers[peer_id])

    def _authenticate(self, path_peer_id: str | None, auth: AuthRequest) -> str | None:
        """The peer that shows the right token; in constant time for a given name."""
        name = auth.username or path_peer_id
        if auth.username and path_peer_id is not None and path_peer_id != auth.username:
            return None
        if not name:
            return self._by_token.find(auth.token)
        known = self._credentials.get(name)
        expected = known.token if known is not None else "\0" * 32
        matches = hmac.compare_digest(expected.encode(), auth.token.encode())
        return name if known is not None and matches else None

    def opened(self, link: Link) -> None:
        """A link that we dialled is logged in."""
        credentials = self._dialled[link]
        self._open(link, self._peers[credentials.peer_id])

    def _open(self, link: Link, peer: Peer) -> None:
        self._not_logged_in -= 1
        link.peer = peer
        link.logged_in_at_s = self.clock.monotonic_s()
        old = self.live.get(peer.peer_id)
        self.live[peer.peer_id] = link
        self.connects[peer.peer_id] = self.connects.get(peer.peer_id, 0) + 1
        if old is not None:
            old.drop("replaced by a newer connection", CloseCode.NORMAL_CLOSURE)
        self._log.info(
            "btp_connection_established",
            peer_id=peer.peer_id,
            direction=link.direction,
            remote=link.remote,
        )
        self._observer.connected(peer.peer_id, link.direction)
        self.driver.reconnected(peer.peer_id)
        self._send_again(link, peer)

    def _send_again(self, link: Link, peer: Peer) -> None:
        """What the old connection left open: sent again to a peer that knows packet ids."""
        for flight in self.driver.waiting_for(peer):
            if flight.link_ref is not None and flight.link_ref[0] is link:
                continue
            if not link.session.resumable:
                self.driver.answered(flight, Unanswered.LINK_LOST)
                continue
            peer.counters.resent_out += 1
            # A link that is full now: the packet waits for its deadline like any other.
            link.send(flight, again=True)

    def gone(self, link: Link) -> None:
        """A link is closed or closing."""
        if link not in self._all:
            return
        self._all.discard(link)
        self._dialled.pop(link, None)
        was_open = link.session.state is State.OPEN
        left: list[OutgoingRequest] = link.session.close()
        peer = link.peer
        if peer is None or not was_open:
            self._not_logged_in -= 1 if peer is None else 0
            return
        if self.live.get(peer.peer_id) is link:
            del self.live[peer.peer_id]
            self._observer.disconnected(peer.peer_id, link.direction, link.close_reason)
        self._log.info(
            "btp_connection_lost",
            peer_id=peer.peer_id,
            direction=link.direction,
            reason=link.close_reason,
        )
        # A resumable peer is asked again, when it is back; after a stop, when we are and the
        # sender asks us again. Who cannot ask again is told before we go.
        for flight in left:
            if not link.session.resumable or (self._stopping and not flight.sender_packet_id):
                self.driver.answered(flight, Unanswered.LINK_LOST)
        self.flush()

    def flush(self) -> None:
        """Write to every link that something was queued for."""
        touched = self.touched
        while touched:
            touched.pop().flush()

    # --- the switch's way out

    def send(self, flight: OutgoingRequest) -> Unanswered | None:
        """See `Outlet`."""
        assert flight.next_hop is not None
        link = self.live.get(flight.next_hop.terms.peer_id)
        if flight.again:
            if link is None:
                # After a restart the sender may be back before the next hop is: wait for it, until
                # the packet's deadline.
                return None
            if not link.session.resumable:
                # It may have seen this packet already and would take it for a new one.
                return Unanswered.LINK_LOST
        elif link is None:
            return Unanswered.NOT_SENT
        return link.send(flight, flight.again)

    def forget(self, flight: OutgoingRequest) -> None:
        """See `Outlet`."""
        if flight.link_ref is not None:
            link, request_id = flight.link_ref
            link.session.forget(request_id)

    # --- time

    def tick(self) -> None:
        """About once a second: log-in deadlines, pings, silence."""
        now_s = self.clock.monotonic_s()
        for link in list(self._all):
            link.keep_alive(now_s)
        self.flush()

    def stop_listening(self) -> None:
        """Take no more connections; those that are there stay."""
        self._stopping = True
        if self._listener is not None:
            self._listener.close()

    async def close(self) -> None:
        """Say goodbye on every link and wait until all are gone."""
        self._stopping = True
        if self._listener is not None:
            self._listener.close()
        links = list(self._all)
        for link in links:
            link.drop("shutting down", CloseCode.GOING_AWAY)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(2 * bounds.CLOSE_SECONDS_MAX):
                for link in links:
                    await link.closed.wait()


class _Attempt:
    """What tenacity's waits look at."""

    def __init__(self, attempt_number: int) -> None:
        self.attempt_number = attempt_number


class _Tokens:
    """Peers by token, for log-ins without a name; a token that two share names nobody."""

    def __init__(self, credentials: Iterable[Credentials]) -> None:
        self._digests: dict[bytes, str | None] = {}
        for one in credentials:
            digest = _digest(one.token)
            self._digests[digest] = None if digest in self._digests else one.peer_id

    def find(self, token: str) -> str | None:
        # The digest is looked up, not the token: what the timing of a look-up tells about a
        # SHA-256 does not lead to a preimage.
        return self._digests.get(_digest(token))


def _digest(token: str) -> bytes:
    return hmac.digest(b"btp token", token.encode(), "sha256")


def _unique_tokens(credentials: Iterable[Credentials]) -> _Tokens:
    return _Tokens(credentials)


def _peer_in_path(path: str) -> str | None:
    parts = path.split("?", 1)[0].strip("/").split("/")
    if len(parts) == 4 and parts[0] == "accounts" and parts[2:] == ["ilp", "btp"]:
        return unquote(parts[1])
    return None


def _clean(error: BaseException) -> str:
    text = getattr(error, "strerror", None) or str(error)
    if isinstance(error, ConnectionError) and error.errno:
        text = os.strerror(error.errno)  # asyncio's own words are for its authors
    return " ".join(str(text).split())[:200]
