"""One connection to the listener: octets in, requests out; one answer at a time.

`h11` implements HTTP/1.1 without I/O; this module adds the transport and the bounds. A connection is a
stranger's until a request over it had the right token: that is checked when the head has been read,
before the body. `connector.ilp_http.listener` decides what a request means.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final, Protocol, cast

import h11

from connector.base.clock import Clock
from connector.base.connections import network_of
from connector.base.http_heads import BoundedHeads
from connector.btp.standstill import Standstill
from connector.ilp_http import bounds
from connector.ilp_http.message import OCTET_STREAM, Refusal, Request, read_head

Headers = Sequence[tuple[str, str]]
_TEXT: Final = (("Content-Type", "text/plain; charset=utf-8"),)


class Owner(Protocol):
    """What a connection needs of its listener."""

    @property
    def clock(self) -> Clock:
        """For deadlines."""

    @property
    def standstill(self) -> Standstill:
        """While it holds, nothing is read or said."""

    def admit(self, connection: Connection) -> bool:
        """Whether a new connection is kept."""

    def gone(self, connection: Connection) -> None:
        """It is closed."""

    def authenticate(self, connection: Connection, request: Request) -> Refusal | None:
        """Whose token a request has; why it is refused, if it is. The body has not been read."""

    def handle(self, connection: Connection, request: Request) -> None:
        """A whole request; answer it by `answer`, at once or later."""

    def refused(self, connection: Connection, refusal: Refusal) -> None:
        """A request was refused; told for counters and log."""

    def keeps(self, connection: Connection) -> bool:
        """Whether there is room for the connection when its request has been answered."""

    def flush(self) -> None:
        """Write what the requests of one read have caused elsewhere."""


class Connection(asyncio.Protocol):
    """See the module."""

    def __init__(self, owner: Owner) -> None:
        self.address = ""
        """See `base.connections`."""
        self.peer_id = ""
        """Whose token the last request had; empty: a stranger's."""
        self.number = 0
        """Of the request that is being answered, or was last: answers to earlier ones are dropped."""
        self.content_type = OCTET_STREAM
        """Of answers: that of the last request."""
        self.known: Headers = ()
        """What answers say of packet ids."""
        self._owner = owner
        self._http = BoundedHeads(h11.SERVER, max_incomplete_event_size=bounds.HEADERS_BYTES_MAX)
        self._transport: asyncio.Transport | None = None
        self._request: Request | None = None
        self._body = bytearray()
        self._answering = False
        self._wants_no_body = False
        """Whether the request is a HEAD, which is refused without a text."""
        self._unread = bytearray()
        """Further requests while one is answered, and what came while nothing may be said."""
        self._held: tuple[int, bytes, Headers] | None = None
        """An answer that was ready while nothing might be said."""
        self._writing_paused = False
        self._gone = False
        self._deadline_s = owner.clock.monotonic_s() + bounds.REQUEST_SECONDS_MAX

    @property
    def is_idle(self) -> bool:
        """Whether it may be closed in favour of a newer one: no request is being answered."""
        return not self._answering

    # --- transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        self._transport = transport = cast(asyncio.Transport, transport)
        transport.set_write_buffer_limits(high=bounds.WRITE_BUFFER_BYTES)
        name = transport.get_extra_info("peername")
        self.address = network_of(str(name[0]) if isinstance(name, tuple) else "")
        if not self._owner.admit(self):
            self.abort()

    def connection_lost(self, _error: Exception | None) -> None:
        """The socket is closed."""
        self._gone = True
        self._owner.gone(self)

    def pause_writing(self) -> None:
        """The other side does not read its answers: no further request is handled."""
        self._writing_paused = True

    def resume_writing(self) -> None:
        """There is room again."""
        self._writing_paused = False
        self._go_on()

    def data_received(self, data: bytes) -> None:
        """Handle the requests of one read, then write everything that they have caused."""
        standstill = self._owner.standstill
        standstill.look(self._owner.clock.monotonic_s())
        if self._is_blocked():
            self._unread += data
            if len(self._unread) > bounds.UNREAD_BYTES_MAX and self._transport is not None:
                self._transport.pause_reading()
            return
        self._receive(data)
        self._owner.flush()

    def eof_received(self) -> None:
        """The other side has closed: its socket is closed, too."""

    def go_on(self) -> None:
        """Nothing is held any more: say what was ready, and handle what was read meanwhile."""
        held, self._held = self._held, None
        if held is not None:
            self.answer(held[0], held[1], held[2])
        self._go_on()

    def _go_on(self) -> None:
        """Handle what was read meanwhile: at most one request, whose answer brings the next call."""
        if self._gone or self._is_blocked():
            return
        unread, self._unread = bytes(self._unread), bytearray()
        if unread or self._http.trailing_data[0]:
            self._receive(unread)
            self._owner.flush()
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def _is_blocked(self) -> bool:
        return self._answering or self._writing_paused or self._owner.standstill.is_held

    def _receive(self, data: bytes) -> None:
        http = self._http
        now_s = self._owner.clock.monotonic_s()
        if self._request is None and http.their_state is h11.IDLE:
            # From its first octet on a request has so long.
            self._deadline_s = min(self._deadline_s, now_s + bounds.REQUEST_SECONDS_MAX)
        try:
            if data:  # no octets would mean the end of the connection
                http.receive_data(data)
            # A few rounds at most: without Transfer-Encoding a body is one piece, and after its end the
            # next request has its turn in the loop (`_send`).
            while not self._gone:
                event = http.next_event()
                if event is h11.NEED_DATA or event is h11.PAUSED:
                    return
                if isinstance(event, h11.Request):
                    if not self._head(event):
                        return
                elif isinstance(event, h11.Data):
                    self._body += event.data
                    if len(self._body) > bounds.BODY_BYTES_MAX:
                        self.refuse(Refusal(413, "too long for an ILP packet"))
                        return
                elif isinstance(event, h11.EndOfMessage):
                    self._whole()
                    return
                else:
                    self.abort()
                    return
        except h11.RemoteProtocolError as error:
            self.refuse(Refusal(error.error_status_hint, "not HTTP/1.1"))

    def _head(self, event: h11.Request) -> bool:
        """Whether the request is read on."""
        self._wants_no_body = event.method == b"HEAD"
        request = read_head(event.method, event.target, event.headers)
        refusal = (
            request if isinstance(request, Refusal) else self._owner.authenticate(self, request)
        )
        if refusal is None and _length(event) > bounds.BODY_BYTES_MAX:
            refusal = Refusal(413, "too long for an ILP packet")
        if refusal is not None:
            self.refuse(refusal)
            return False
        assert isinstance(request, Request)
        self._request = request
        self._body.clear()
        if self._http.they_are_waiting_for_100_continue:
            self._write(self._http.send(h11.InformationalResponse(status_code=100, headers=[])))
        return True

    def _whole(self) -> None:
        """A request is complete."""
        request, self._request = self._request, None
        assert request is not None
        request.body = bytes(self._body)
        self._body.clear()
        self._answering = True
        self.number += 1
        self._deadline_s = self._owner.clock.monotonic_s() + bounds.REQUEST_SECONDS_MAX
        self._owner.handle(self, request)

    # --- answering

    def wait_until(self, seconds: float) -> None:
        """Give the answer so many seconds from now."""
        self._deadline_s = self._owner.clock.monotonic_s() + seconds

    def reply(self, request_id: int, octets: bytes) -> bool:
        """See `switch.flight.ReplyTo`; `request_id` is `number`."""
        return self.answer(200, octets, self.known, number=request_id)

    def answer(
        self, status: int, body: bytes, headers: Headers = (), *, number: int | None = None
    ) -> bool:
        """Answer the request; False: it was answered, or its connection is gone."""
        if self._gone or not self._answering or (number is not None and number != self.number):
            return False
        if self._owner.standstill.is_held:
            self._held = status, body, headers
            return True
        is_closing = not self._owner.keeps(self)
        fields = [*headers, ("Content-Type", self.content_type), ("Content-Length", str(len(body)))]
        if is_closing:
            fields.append(("Connection", "close"))
        self._send(status, fields, body)
        return True

    def refuse(self, refusal: Refusal, headers: Headers = ()) -> None:
        """Answer with an error of HTTP; unless the whole request was read, close after it."""
        self._owner.refused(self, refusal)
        if self._http.our_state not in (h11.IDLE, h11.SEND_RESPONSE) or self._gone:
            self.abort()
            return
        body = refusal.reason.encode() + b"\n"
        fields = [*headers, *_TEXT, ("Content-Length", str(len(body)))]
        if not self._answering:
            fields.append(("Connection", "close"))
        if refusal.status == 401:
            fields.append(("WWW-Authenticate", "Bearer"))
        elif refusal.status in (429, 503):
            fields.append(("Retry-After", "3"))
        self._send(refusal.status, fields, body)

    def _send(self, status: int, headers: Headers, body: bytes) -> None:
        http = self._http
        octets = http.send(h11.Response(status_code=status, headers=list(headers))) or b""
        if body and not self._wants_no_body:
            octets += http.send(h11.Data(data=body)) or b""
        octets += http.send(h11.EndOfMessage()) or b""
        self._write(octets)
        self._answering = False
        self._request = None
        if http.our_state is h11.DONE and http.their_state is h11.DONE:
            http.start_next_cycle()
            self._deadline_s = self._owner.clock.monotonic_s() + bounds.IDLE_SECONDS_MAX
            if self._unread or http.trailing_data[0]:
                asyncio.get_running_loop().call_soon(self._go_on)
            return
        self._gone = True  # nothing more is read
        if self._transport is not None:
            self._transport.close()

    def _write(self, octets: bytes | None) -> None:
        if octets and self._transport is not None and not self._transport.is_closing():
            self._transport.write(octets)

    # --- time

    def tick(self, now_s: float) -> None:
        """Called about once a second: end what takes too long."""
        if self._gone or now_s < self._deadline_s:
            return
        if self._answering:
            # The packet may be held or posted, so there is no answer that would be right.
            self.refuse(Refusal(504, "no answer in time"))
        else:
            self.abort()

    def abort(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()


def _length(event: h11.Request) -> int:
    """The declared length of the body; 0: none is. `h11` has checked that it is a number."""
    for name, value in event.headers:
        if name == b"content-length":
            return int(value)
    return 0
