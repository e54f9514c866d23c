"""An HTTP client for one server: many small requests, each as fast as it can be, and told apart when it fails.

For packets it matters whether a request can have reached the server: `HttpUnreachableError` of the
kind `NOT_CONNECTED` says that it cannot. `h11` implements HTTP/1.1 without I/O, on the network of the
links. A connection carries one request at a time and is kept for the next one for a short time.
The package's other client (`base.http`) serves all servers and costs five times as much per request.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from typing import Any, Final, Protocol, cast
from urllib.parse import urlsplit

import h11

from connector.base.clock import Clock
from connector.base.errors import (
    HttpAnswerError,
    HttpError,
    HttpTimeoutError,
    HttpUnreachableError,
)
from connector.base.http import HttpAnswer
from connector.base.http_heads import BoundedHeads
from connector.base.words import words_of
from connector.btp.network import Network
from connector.ilp_http import bounds

NOT_CONNECTED: Final = "NotConnected"
"""The kind of an `HttpUnreachableError` before anything of a request was sent."""
LOST: Final = "Lost"
"""After that: the server may have it."""


class Asks(Protocol):
    """An HTTP client; see `Client`."""

    async def ask(
        self,
        method: str,
        url: str,
        *,
        content: bytes = b"",
        headers: Mapping[str, str] | None = None,
        seconds_max: float,
    ) -> HttpAnswer:
        """Send one request; returns the answer, or raises an `HttpError`."""

    async def close(self) -> None:
        """Close all connections."""


class _Connection(asyncio.Protocol):
    """One connection: at most one request at a time."""

    def __init__(self) -> None:
        self.idle_since_s = 0.0
        self.is_closed = False
        self._http = BoundedHeads(h11.CLIENT, max_incomplete_event_size=bounds.HEADERS_BYTES_MAX)
        self._transport: asyncio.Transport | None = None
        self._waiting: asyncio.Future[HttpAnswer] | None = None
        self._response: h11.Response | None = None
        self._body = bytearray()
        self._unread = bytearray()
        """What has come and was not handed to the library."""
        self._informational = self._pieces = 0
        """Of the answer, so far."""
        self._goes_on = False
        """Whether the rest of what was read has its turn in the loop."""
        self._lost: str | None = None
        """Why the socket was closed."""
        self._told_end = False
        """Whether the library knows that it was."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, error: Exception | None) -> None:
        """The socket is closed: that ends an answer without a length."""
        self.is_closed = True
        self._lost = words_of(error) if error else "closed by the server"
        if self._waiting is not None:
            self._feed(b"")

    def data_received(self, data: bytes) -> None:
        """A part of the answer; without a request it is a fault of the server."""
        if self._waiting is None:
            self.abort()
        else:
            self._feed(data)

    def _feed(self, data: bytes) -> None:
        self._unread += data
        if not self._goes_on:
            self._read()

    def _read(self) -> None:
        """Handle what has come: some of it, and the rest when others have had their turn."""
        went_on, self._goes_on = self._goes_on, False
        try:
            for _ in range(bounds.EVENTS_PER_READ_MAX):
                if self._waiting is None or self._waiting.done():
                    break
                event = self._http.next_event()
                if event is h11.NEED_DATA:
                    if not self._more():
                        break
                elif event is h11.PAUSED or isinstance(event, h11.ConnectionClosed):
                    break
                else:
                    self._handle(event)
            else:
                self._goes_on = True
        except h11.RemoteProtocolError:
            self._fail(HttpUnreachableError(LOST, "the answer is not HTTP/1.1"))
            return
        if self._goes_on:
            asyncio.get_running_loop().call_soon(self._read)
        elif self._lost is not None:
            self._fail(HttpUnreachableError(LOST, self._lost))
        if self._goes_on is not went_on and not self.is_closed and self._transport is not None:
            if self._goes_on:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()

    def _more(self) -> bool:
        """Hand the next part to the library; False: there is none.

        Raises:
            h11.RemoteProtocolError: it is refused.
        """
        part = bytes(self._unread[: bounds.ANSWER_BYTES_AT_ONCE])
        del self._unread[: len(part)]
        if not part and (self._lost is None or self._told_end):
            return False
        # No octets: the end of the connection.
        self._told_end = not part
        self._http.receive_data(part)
        return True

    def _handle(self, event: Any) -> None:
        if isinstance(event, h11.InformationalResponse):
            self._informational += 1
            if self._informational > bounds.INFORMATIONAL_RESPONSES_MAX:
                self._fail(HttpUnreachableError(LOST, "1xx without an answer"))
        elif isinstance(event, h11.Response):
            self._response = event
        elif isinstance(event, h11.Data):
            self._pieces += 1
            self._body += event.data
            if len(self._body) > bounds.BODY_BYTES_MAX:
                self._fail(HttpAnswerError("the answer is too long"))
            elif self._pieces > bounds.ANSWER_PIECES_MAX:
                self._fail(HttpAnswerError("the answer is in too many pieces"))
        elif isinstance(event, h11.EndOfMessage):
            self._whole()

    def _whole(self) -> None:
        response, waiting = self._response, self._waiting
        assert response is not None
        assert waiting is not None
        headers = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in response.headers
        }
        if headers.get("content-encoding", "identity").lower() != "identity":
            self._fail(HttpAnswerError("the answer has a content encoding that was not asked for"))
            return
        self._waiting = None
        http = self._http
        is_over = http.our_state is h11.DONE and http.their_state is h11.DONE
        # What comes after an answer would be taken for that of the next packet.
        if is_over and not self._unread and http.trailing_data == (b"", False):
            self._http.start_next_cycle()
        else:
            self.abort()
        if not waiting.done():
            waiting.set_result(HttpAnswer(response.status_code, bytes(self._body), headers))

    def _fail(self, error: HttpError) -> None:
        waiting, self._waiting = self._waiting, None
        self.abort()
        if waiting is not None and not waiting.done():
            waiting.set_exception(error)

    def send(self, request: h11.Request, body: bytes) -> asyncio.Future[HttpAnswer]:
        """Send a request; the future is its answer."""
        assert self._waiting is None
        assert self._transport is not None
        octets = self._http.send(request) or b""
        if body:
            octets += self._http.send(h11.Data(data=body)) or b""
        octets += self._http.send(h11.EndOfMessage()) or b""
        self._response = None
        self._body.clear()
        self._informational = self._pieces = 0
        self._waiting = asyncio.get_running_loop().create_future()
        self._transport.write(octets)
        return self._waiting

    def abort(self) -> None:
        """Close at once."""
        self.is_closed = True
        if self._transport is not None:
            self._transport.abort()


class Client:
    """Sends requests to the servers of a peer."""

    def __init__(self, *, clock: Clock, network: Network, headers: Mapping[str, str]) -> None:
        """No connection is opened before the first request.

        Args:
            clock: for the age of connections.
            network: connects.
            headers: sent with every request.
        """
        self._clock = clock
        self._network = network
        self._headers = dict(headers)
        self._idle: dict[tuple[str, str], list[_Connection]] = {}
        """By scheme and host with port; the one that was used last is the last one."""
        self._tls: ssl.SSLContext | None = None
        self._is_closed = False

    async def close(self) -> None:
        """Close idle connections; the owner of a request cancels it."""
        self._is_closed = True
        for connections in self._idle.values():
            for connection in connections:
                connection.abort()
        self._idle.clear()

    async def ask(
        self,
        method: str,
        url: str,
        *,
        content: bytes = b"",
        headers: Mapping[str, str] | None = None,
        seconds_max: float,
    ) -> HttpAnswer:
        """Send one request; returns the complete answer, whatever its status.

        Args:
            method: of HTTP, in upper case.
            url: absolute, http or https, without credentials.
            content: the body of the request.
            headers: besides those of the client.
            seconds_max: for this request, connecting included.

        Raises:
            HttpUnreachableError: no connection (`NOT_CONNECTED`), or no answer over it (`LOST`).
            HttpTimeoutError: the answer was not complete in time.
            HttpAnswerError: the answer is too long, or encoded.
        """
        parts = urlsplit(url)
        place = parts.scheme, parts.netloc
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        request = h11.Request(
            method=method,
            target=target,
            headers=[
                ("Host", parts.netloc),
                *self._headers.items(),
                *(headers or {}).items(),
                ("Content-Length", str(len(content))),
            ],
        )
        until_s = self._clock.monotonic_s() + seconds_max
        connection = self._take(place) or await self._connect(parts, seconds_max)
        answered = False
        try:
            async with asyncio.timeout(max(0.0, until_s - self._clock.monotonic_s())):
                answer = await connection.send(request, content)
            answered = True
        except TimeoutError:
            raise HttpTimeoutError(f"no answer within {seconds_max:g} s") from None
        finally:
            if not answered:
                connection.abort()
        if not connection.is_closed and not self._is_closed:
            connection.idle_since_s = self._clock.monotonic_s()
            self._idle.setdefault(place, []).append(connection)
        return answer

    def _take(self, place: tuple[str, str]) -> _Connection | None:
        """A connection that is open, as far as it is known, and will be for a while."""
        connections = self._idle.get(place, [])
        oldest_s = self._clock.monotonic_s() - bounds.SENDING_IDLE_SECONDS_MAX
        found: _Connection | None = None
        while connections and found is None:
            last = connections.pop()
            if last.is_closed:
                continue
            if last.idle_since_s < oldest_s:
                last.abort()
                continue
            found = last
        # Those before the last one are as old or older.
        while connections and (connections[0].is_closed or connections[0].idle_since_s < oldest_s):
            connections.pop(0).abort()
        return found

    async def _connect(self, parts: Any, seconds_max: float) -> _Connection:
        connection = _Connection()
        secure = parts.scheme == "https"
        try:
            if secure and self._tls is None:
                # Reading the certificates takes 25 ms.
                self._tls = await asyncio.to_thread(ssl.create_default_context)
            async with asyncio.timeout(min(seconds_max, bounds.CONNECT_SECONDS_MAX)):
                await self._network.connect(
                    lambda: connection,
                    parts.hostname or "",
                    parts.port or (443 if secure else 80),
                    self._tls if secure else None,
                )
        except TimeoutError:
            raise HttpUnreachableError(NOT_CONNECTED, "no connection in time") from None
        except (OSError, UnicodeError) as error:  # a name that is none is a UnicodeError
            raise HttpUnreachableError(NOT_CONNECTED, words_of(error)) from error
        return connection
