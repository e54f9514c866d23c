"""One WebSocket and its BTP session: moves octets and keeps the connection alive.

`websockets` implements the protocol without I/O; this module adds the transport. The frames of one
read are handled before anything is written, up to a bound; then every link with output is written to once, and
what is left has the next turn of the event loop.
`connector.btp.links` owns the links and makes the decisions.

Long because the transport, the WebSocket and the session of a connection share its state, and each
callback of asyncio drives all three.
"""

from __future__ import annotations

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, Protocol, cast
from urllib.parse import unquote

from websockets.client import ClientProtocol
from websockets.frames import CloseCode, Frame, Opcode
from websockets.http11 import Request, Response
from websockets.protocol import CONNECTING, OPEN
from websockets.server import ServerProtocol

from connector.base import limits
from connector.base.clock import Clock
from connector.base.connections import network_of
from connector.base.errors import PeerError
from connector.base.words import words_of
from connector.btp import bounds
from connector.btp.credentials import Credentials
from connector.btp.frames import Splitter, wrap
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
from connector.btp.standstill import Standstill
from connector.peering.model import Peer, Unanswered


class OutgoingRequest(Protocol):
    """A Prepare to be sent to a next hop."""

    octets: bytes
    """The ILP packet."""
    packet_id: int
    """128 bits; sent with the packet to a peer that supports packet ids."""
    sender_packet_id: int
    """The id under which its sender can resend it; zero: it cannot."""
    next_hop: Peer | None
    again: bool
    """Whether it may have been sent before this node restarted."""
    quiet: bool
    """Whether it is a request about addresses or routes, and no packet."""


class PacketHandler(Protocol):
    """Receives the packets of links; implemented by the switch's driver."""

    def arrived(
        self,
        source: Peer,
        octets: bytes,
        sender_packet_id: int,
        reply_to: Link,
        request_id: int,
        again: bool,
    ) -> None:
        """A request with an ILP packet arrived; answer it through `reply_to.reply`.

        `again`: the peer has marked the packet as possibly resent.
        """

    def reconnected(self, peer_id: str) -> None:
        """The peer has a new link: it may not have read the answers sent over older ones."""

    def answered(self, flight: Any, said: bytes | Unanswered) -> None:
        """The answer to a sent request, or why there is none."""

    def receipt(self, peer_id: str) -> None:
        """The peer has read all answers that were sent before it was pinged."""

    def wants_receipt(self, peer_id: str) -> bool:
        """Whether answers to this peer are kept until it has read them."""

    def waiting_for(self, peer: Peer) -> Sequence[OutgoingRequest]:
        """Requests to `peer` without an answer, oldest first."""


class LinkOwner(ABC):
    """The interface of a link to its owner; see `connector.btp.links`.

    A class and not a protocol: a compiled link reads these attributes for every packet.
    """

    driver: PacketHandler

    def __init__(
        self,
        *,
        clock: Clock,
        random_id: Callable[[], int],
        random_octets: Callable[[int], bytes],
        standstill: Standstill,
    ) -> None:
        self.standstill: Final = standstill
        self.clock: Final = clock
        self.random_id: Final = random_id
        self.random_octets: Final = random_octets
        self.touched: Final[dict[Link, None]] = {}
        """Links with something to write, in order; emptied by `flush`. A set has the order of addresses in
        memory, which no seed of the simulator repeats."""
        self.ignored = 0
        """BTP packets without effect."""

    @abstractmethod
    def admit(self, link: Link) -> bool:
        """Whether an incoming connection is accepted."""

    @abstractmethod
    def credentials_of(self, link: Link) -> Credentials | None:
        """The credentials for the log-in over a dialled link."""

    @abstractmethod
    def log_in(self, link: Link, auth: AuthRequest) -> None:
        """Accept or refuse the log-in of the other side."""

    @abstractmethod
    def opened(self, link: Link) -> None:
        """The other side has accepted our log-in."""

    @abstractmethod
    def gone(self, link: Link) -> None:
        """The link is closed or closing; further calls have no effect."""

    @abstractmethod
    def is_only_link(self, link: Link) -> bool:
        """Whether the peer has no other link: only then a receipt covers all recent answers."""

    @abstractmethod
    def reply_elsewhere(self, link: Link, request_id: int, octets: bytes) -> bool:
        """Answer a request of a closed link over another one; False: there is none."""

    @abstractmethod
    def flush(self) -> None:
        """Write to every link in `touched`."""


class Link(asyncio.Protocol):
    """One websocket and its BTP session."""

    def __init__(
        self, links: LinkOwner, websocket: ServerProtocol | ClientProtocol, direction: str
    ) -> None:
        self._links = links
        self._websocket = websocket
        self.direction: Final = direction
        self.session = Session(first_request_id=links.random_id(), now_ms=links.clock.now_ms)
        self.peer: Peer | None = None
        self.path_peer_id: str | None = None
        """The peer that the URL path names: `/accounts/<id>/ilp/btp`."""
        self.remote = ""
        self.address = ""
        """Where the connection comes from; see `base.connections`."""
        self.is_idle: Final = True
        """Before the log-in it may be closed in favour of a newer one."""
        self.closed = asyncio.Event()
        self.close_reason = ""
        self.comes_back = False
        """Whether the other side has closed it to be replaced by a new process."""
        self.logged_in_at_s = 0.0
        self.log_in_key: tuple[bytes, int] = (b"", 0)
        """User name and request id of the log-in: the same on both sides, different for each link."""
        self.token_digest = b""
        """Of the token that it was logged in with (`credentials.digest_of`)."""
        self.gone_at_s = 0.0
        self.drained_from_s = 0.0
        """When the link was drained (it carries no new requests since); zero: it serves."""
        self.drained_ids: set[int] = set()
        """Our requests that had no answer then."""
        self._to_resend: deque[OutgoingRequest] = deque()
        self._resends_later = False
        """Whether the event loop will call `_resend_more`."""
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
        self._unread = b""
        """What was read while links are held, or while `_frames` are left; nothing more is read then."""
        self._frames: Iterator[tuple[bool, bytes]] | None = None
        """What is left of a read when its turn of the event loop was over: see `_handle`."""
        self._goes_on_later = False
        """Whether the event loop will call `_next_turn`."""
        self._lost: str | None = None
        """Why the socket is closed, while `_frames` that came before are left."""
        self._closing = False
        listening = isinstance(websocket, ServerProtocol)
        self._splitter = Splitter(masked=listening, size_max=limits.BTP_MESSAGE_BYTES_MAX)
        self._mask = None if listening else links.random_octets
        self._plain = False
        """Whether the handshake is over, so that the fast path of `frames` may be used."""
        self._odd_frames = 0
        """Control frames and fragments since the last call of `keep_alive`."""

    # --- transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is connected; see `asyncio.Protocol`."""
        # uvloop's transports do not inherit from asyncio's, so isinstance cannot check it.
        self._transport = transport = cast(asyncio.Transport, transport)
        transport.set_write_buffer_limits(high=bounds.WRITE_BUFFER_PAUSE_BYTES)
        name = transport.get_extra_info("peername")
        self.remote = f"{name[0]}:{name[1]}" if isinstance(name, tuple) else str(name)
        self.address = network_of(str(name[0]) if isinstance(name, tuple) else "")
        if isinstance(self._websocket, ClientProtocol):
            self._websocket.send_request(self._websocket.connect())
            self.flush()
        elif not self._links.admit(self):
            transport.abort()
        elif self._links.standstill.is_held:
            transport.pause_reading()

    def data_received(self, data: bytes) -> None:
        """Handle the frames of one read, then write once per link; many of them in several turns of the loop."""
        links = self._links
        self.last_heard_s = now_s = links.clock.monotonic_s()
        links.standstill.look(now_s)
        if links.standstill.is_held or self._frames is not None:
            self._unread += data
            self.pause_reading()  # uvloop reads although `connection_made` has paused it
            return
        if not self._plain:
            self._handle(self._in_parts(data))
        elif len(data) <= bounds.SPLIT_BYTES_AT_ONCE:
            self._handle(iter(self._splitter.split(data)))
        else:
            self._handle(self._split_in_parts(data))

    def _handle(self, frames: Iterator[tuple[bool, bytes]]) -> None:
        """Handle frames until they end, or this link's turn does.

        Who sends many small messages must not keep the others waiting: a read has thousands of them.
        """
        links = self._links
        links.touched[self] = None
        left = bounds.WORK_PER_TURN
        for is_message, octets in frames:
            if not is_message:
                left -= bounds.WORK_NOT_PLAIN + len(octets) // bounds.WORK_NOT_PLAIN_BYTES
                self._not_plain(octets)
            elif self._fragments is not None:
                self.drop("websocket: a message within a fragmented one")
            else:
                left -= self._received(octets)
            if self._closing:
                break
            if left <= 0:
                if self._frames is None:
                    self.pause_reading()
                self._frames = frames
                self._go_on_later()
                links.flush()
                return
        self._frames = None
        links.flush()

    def _go_on_later(self) -> None:
        if not self._goes_on_later:
            self._goes_on_later = True
            asyncio.get_running_loop().call_soon(self._next_turn)

    def _next_turn(self) -> None:
        """Go on with what was read, unless something forbids it."""
        self._goes_on_later = False
        frames, links = self._frames, self._links
        if frames is None:
            return
        links.standstill.look(links.clock.monotonic_s())
        if self._closing:
            self._frames = None
        elif not self._may_handle():
            return  # `resume_reading` goes on
        else:
            try:
                self._handle(frames)
            except Exception as error:  # noqa: BLE001 - as asyncio does with what it calls itself
                self._frames = None
                self._failed("what was read in an earlier turn", error)
        if self._frames is not None:
            return
        if self._lost is not None:
            self._end(self._lost)
        else:
            self.resume_reading()

    def _split_in_parts(self, data: bytes) -> Iterator[tuple[bool, bytes]]:
        """The frames of a large read, cut in parts: of the smallest messages there are tens of thousands."""
        size = bounds.SPLIT_BYTES_AT_ONCE
        for at in range(0, len(data), size):
            yield from self._splitter.split(data[at : at + size])

    def _in_parts(self, data: bytes) -> Iterator[tuple[bool, bytes]]:
        """A read before the fast path is used, in parts; what is behind the handshake may be for that path."""
        if self._websocket.state is CONNECTING:
            self._handshake_size += len(data)
            if self._handshake_size > bounds.HANDSHAKE_BYTES_MAX:
                self.drop("websocket: handshake too large")
                return
        size = bounds.NOT_PLAIN_BYTES_AT_ONCE
        for at in range(0, len(data), size):
            yield False, data[at : at + size]
            if self._plain:
                yield from self._split_in_parts(data[at + size :])
                return

    def _not_plain(self, octets: bytes) -> None:
        """Handle what the fast path does not: handshake, control frames, fragments."""
        websocket = self._websocket
        try:
            websocket.receive_data(octets)
        except EOFError:
            return  # more octets after the closing handshake
        # Frames may directly follow the handshake: then the slow path is used for this connection.
        handshake_only = octets.endswith(b"\r\n\r\n")
        for event in websocket.events_received():
            if isinstance(event, Frame):
                self._frame(event)
            elif isinstance(event, Request):
                if websocket.parser_exc is not None or websocket.close_rcvd is not None:
                    # By what came behind the request in the same read: it cannot be answered any more.
                    self.drop("websocket: ended before its handshake")
                else:
                    self._handshake(event)
                    self._plain = handshake_only and websocket.state is OPEN
            elif isinstance(event, Response):
                self._handshake_answer()
                self._plain = handshake_only and websocket.state is OPEN
            if self._closing:
                break
        broken = websocket.parser_exc or websocket.handshake_exc
        if broken is not None and not self._closing:
            self.drop(f"websocket: {words_of(broken)}")

    def eof_received(self) -> None:
        """The other side has closed its sending direction."""
        with contextlib.suppress(EOFError):
            self._websocket.receive_eof()

    def connection_lost(self, error: Exception | None) -> None:
        """The socket is closed."""
        reason = f"connection lost: {words_of(error)}" if error else "closed by the other side"
        if self._frames is not None and not self._closing and not self._links.standstill.is_held:
            # What has come counts: a Fulfill among it may not come again.
            self._lost, self._writing_paused = reason, False
            self._go_on_later()
            return
        self._end(reason)

    def _end(self, reason: str) -> None:
        if not self.close_reason:
            self.close_reason = reason
        self._closing = True
        self._frames, self._unread = None, b""
        self._links.gone(self)
        self.closed.set()

    def pause_writing(self) -> None:
        """The write buffer is full: the other side reads too slowly."""
        self._writing_paused = True
        # Stop reading from a peer that does not read its answers, so that its requests stop.
        self.pause_reading()

    def resume_writing(self) -> None:
        """The write buffer has room again."""
        self._writing_paused = False
        self.resume_reading()
        self._resend_more()

    def pause_reading(self) -> None:
        """Leave what arrives to the system's buffers."""
        if self._transport is not None and not self._closing:
            self._transport.pause_reading()

    def go_on(self) -> None:
        """Links are not held any more: read, and resend what is left."""
        self.resume_reading()
        self._resend_more()

    def resume_reading(self) -> None:
        """Handle what was read and is left, and read again, unless something forbids it."""
        if not self._may_handle():
            return
        if self._frames is not None:
            self._go_on_later()
            return
        self.last_heard_s = self._links.clock.monotonic_s()
        if self._unread:
            unread, self._unread = self._unread, b""
            try:
                self.data_received(unread)
            except Exception as error:  # noqa: BLE001 - as asyncio does with what it calls itself
                self._failed("what was read while links were held", error)
        if self._may_read():
            assert self._transport is not None
            self._transport.resume_reading()

    def _failed(self, what: str, error: Exception) -> None:
        asyncio.get_running_loop().call_exception_handler({"message": what, "exception": error})
        self.abort()

    def _may_read(self) -> bool:
        return self._frames is None and self._may_handle()

    def _may_handle(self) -> bool:
        return not (
            self._transport is None
            or self._closing
            or self._writing_paused
            or self._links.standstill.is_held
        )

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
            self.drop(f"handshake refused: {words_of(refused)}")
            return
        credentials = self._links.credentials_of(self)
        assert credentials is not None
        self.session.log_in(credentials.username, credentials.token)
        self._queue()

    def _frame(self, frame: Frame) -> None:
        if frame.opcode is not Opcode.BINARY or not frame.fin:
            # Six octets each, and a hundred times as dear to read as a packet's.
            self._odd_frames += 1
            if self._odd_frames > bounds.ODD_FRAMES_PER_SECOND_MAX:
                self.drop("websocket: too many control frames or fragments")
                return
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
                self.comes_back = code == CloseCode.SERVICE_RESTART
                self.close_reason = self.close_reason or f"closed by the other side ({code})"
                self._finish()
            case _:
                pass  # pings are answered by `websockets`

    def _received(self, message: bytes) -> int:
        """Handle a BTP packet; returns how much of a turn it takes."""
        session = self.session
        links = self._links
        try:
            event = session.receive(message)
        except PeerError as error:
            self._queue()
            self.drop(f"BTP: {error}")
            return bounds.WORK_RARE
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
            return bounds.WORK_RARE
        return 1

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
            return self._links.reply_elsewhere(self, request_id, octets)
        self.session.respond(request_id, octets)
        self._links.touched[self] = None
        return True

    @property
    def writing_paused(self) -> bool:
        """Whether the other side reads too slowly, so that nothing more is sent."""
        return self._writing_paused

    def send(self, flight: OutgoingRequest, again: bool) -> Unanswered | None:
        """See `Outlet`; `again`: it may have been sent before over another connection."""
        if self._writing_paused:
            if not again:
                return Unanswered.BUSY
            # Its hold must not be given back: the next hop may have fulfilled it. It is asked when it reads.
            self.session.requests.will_resend(flight)
            self._to_resend.append(flight)
            return None
        request_id = self.session.request(flight.octets, flight, flight.packet_id, again)
        if again:
            self.session.requests.resent(flight, request_id)
        self._links.touched[self] = None
        return None

    def resend(self, flights: Iterable[OutgoingRequest]) -> None:
        """Resend open requests, as fast as the other side reads.

        In parts, each in a turn of the event loop of its own: a log-in may ask for thousands, and a
        peer may log in often.
        """
        self._to_resend = deque(flights)
        self._resend_part()

    def _resend_part(self) -> None:
        queue = self._to_resend
        if not queue:
            return
        if self.session.state is not State.OPEN or self.drained_from_s:
            queue.clear()  # another link carries them now, or the next one will
            return
        if self._writing_paused or self._links.standstill.is_held:
            return  # `resume_writing` and `go_on` do the rest
        is_open = self.session.requests.ids_of_resent
        left = bounds.RESENT_AT_ONCE_BYTES
        while queue and left > 0:
            flight = queue.popleft()
            if flight not in is_open:
                continue  # answered meanwhile, or its deadline has passed
            assert flight.next_hop is not None
            flight.next_hop.counters.resent_out += 1
            left -= len(flight.octets) + bounds.RESENT_OVERHEAD_BYTES
            self.send(flight, again=True)
        if queue and not self._resends_later:
            self._resends_later = True
            asyncio.get_running_loop().call_soon(self._resend_later)

    def _resend_later(self) -> None:
        self._resends_later = False
        self._resend_more()

    def _resend_more(self) -> None:
        """Go on with what is left to be resent."""
        if self._to_resend:
            self._resend_part()
            self._links.flush()

    def drain(self) -> None:
        """Carry no new requests; answers still pass, and it is closed when none is open."""
        if not self.drained_from_s:
            self.drained_from_s = self._links.clock.monotonic_s()
            self.drained_ids = set(self.session.requests.by_id)

    def _queue(self) -> None:
        self._links.touched[self] = None

    def flush(self) -> None:
        """Write everything that is queued, in one call."""
        if self._links.standstill.is_held:
            self._links.touched[self] = None
            return
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
            # A control frame has room for so many octets.
            text = reason.encode()[: bounds.CLOSE_REASON_BYTES_MAX].decode(errors="ignore")
            self._websocket.send_close(code, text)
        self._finish()

    def _finish(self) -> None:
        self.flush()
        if not self._closing:
            self._closing = True
            if self._transport is not None:
                self._transport.resume_reading()
            self._links.gone(self)
            asyncio.get_running_loop().call_later(bounds.CLOSE_SECONDS_MAX, self.abort)
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Close the connection at once; what is queued is lost."""
        if self._lost is not None:
            self._end(self._lost)  # the transport has said so before
        elif self._transport is not None:
            self._transport.abort()

    # --- keeping alive

    def _pong(self, payload: bytes) -> None:
        now_s = self._links.clock.monotonic_s()
        self.latency_s = now_s - self._last_ping_s
        if payload == self._receipt_ping and self.peer is not None:
            self._receipt_ping = None
            if self._links.is_only_link(self):
                self._links.driver.receipt(self.peer.peer_id)

    def _ping(self, now_s: float) -> bytes:
        self._ping_number += 1
        payload = self._ping_number.to_bytes(8, "big")
        self._last_ping_s = now_s
        self._websocket.send_ping(payload)
        self._queue()
        return payload

    def keep_alive(self, now_s: float) -> None:
        """Called about once a second: log-in deadline, drained, pings, silence."""
        self._odd_frames = 0
        if self._closing:
            return
        if self.session.state is not State.OPEN:
            if now_s - self._opened_at_s > limits.LOGIN_SECONDS_MAX:
                self.drop("no log-in in time")
            return
        if now_s - self.last_heard_s > bounds.KEEPALIVE_SILENCE_SECONDS_MAX:
            self.drop("silent for too long")
            return
        if self.drained_from_s and self._is_drained(now_s - self.drained_from_s):
            self.drop("another connection serves", CloseCode.NORMAL_CLOSURE)
            return
        if (
            self.peer is not None
            and self.session.resumable
            and self._receipt_ping is None
            and self._links.is_only_link(self)
            and self._links.driver.wants_receipt(self.peer.peer_id)
        ):
            self._receipt_ping = self._ping(now_s)
            return
        if now_s - self._last_ping_s >= bounds.KEEPALIVE_PING_SECONDS:
            self._ping(now_s)

    def _is_drained(self, for_s: float) -> bool:
        """Whether it may be closed, `for_s` seconds after it was replaced."""
        if for_s >= bounds.DRAIN_SECONDS_MAX:
            return True
        # Not at once: the other side may not know yet that this link is drained.
        if for_s < bounds.DRAIN_SECONDS_MIN or self.session.owed > 0:
            return False
        return self.drained_ids.isdisjoint(self.session.requests.by_id)


def _peer_in_path(path: str) -> str | None:
    parts = path.split("?", 1)[0].strip("/").split("/")
    if len(parts) == 4 and parts[0] == "accounts" and parts[2:] == ["ilp", "btp"]:
        return unquote(parts[1])
    return None
