"""Ends of the network that speak ILP over HTTP (RFC 35), with a codec of their own and no packet ids.

One that is synchronous is like npm's ilp-plugin-http: what it has asked without an answer is lost, and it does not ask again. One that
is asynchronous asks again under its `Request-Id` until its packet has expired, also where it was told 202 and no answer came; it
recognises what it is asked again, posts answers until they are taken, and some of them twice. It tries another
packet under a `Request-Id`, which is refused.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any, Final

from connector.simulation import octets
from connector.simulation.ends import START_MS, End, Sent
from connector.simulation.parts import http_url_of
from connector.simulation.transport import HTTP_PORT, Transport

ATTEMPT_S: Final = 3.0
"""How long an asynchronous end waits for a response, and then for the answer, before it asks again."""
_PAUSE_S: Final = 0.5
_TRICKS: Final = 0.1
"""The share of packets after which another one is sent under the same `Request-Id`, and of answers that are posted twice."""
_NOT_UUIDS: Final = 1 << 63


class HttpEnd(End):
    """See the module."""

    def __init__(self, *, mode: str, **options: Any) -> None:
        super().__init__(**options)
        self.is_async: Final = mode == "async"
        self.resumable = self.is_async
        """Whether it recognises what it is asked again."""
        self.refused_others = 0
        """How often another packet under a `Request-Id` was refused."""
        self.refused_answers = 0
        """How often an answer was refused because there was one, or it came too late."""
        self._by_request: dict[str, Sent] = {}
        """Of an asynchronous end: what has no answer, by `Request-Id`."""
        self._taken: set[bytes] = set()
        """The ids of what the node has said that it takes."""
        self._network.listen(self.name, None, lambda: _Served(self), HTTP_PORT)

    def dial(self) -> None:
        """Find out whether the node is there: by a request that moves no money."""
        self.ask("GET", b"", {}, self._reached, self._dial_again)

    def _reached(self, answer: octets.HttpSeen) -> None:
        if answer.status == 200:
            self.connected_s = self.world.now_s
        else:
            self._dial_again()

    def drop(self) -> None:
        """There is no connection that could be closed."""

    # --- asking

    def ask(
        self,
        method: str,
        body: bytes,
        headers: dict[str, str],
        done: Callable[[octets.HttpSeen], None],
        failed: Callable[[], None],
        *,
        not_sent: Callable[[], None] | None = None,
    ) -> None:
        """Send one request, on a connection of its own; one of the three is called, at most once."""
        path = http_url_of(self.node, self.name).split(str(HTTP_PORT), 1)[1]
        fields = {"Host": self.node, "Authorization": f"Bearer {self._token}", **headers}
        if method == "POST":
            fields["Content-Type"] = "application/octet-stream"
        request = octets.http(f"{method} {path} HTTP/1.1", fields, body)
        asked = _Asking(request, done, failed, not_sent or failed)

        def made(transport: Transport) -> None:
            if transport.is_lost:
                asked.not_connected()
            else:
                transport.begin(asked)

        self._network.connect(
            self.name, None, self.node, made, lambda _error: asked.not_connected(), HTTP_PORT
        )
        if self.is_async:
            self.world.after(ATTEMPT_S, asked.give_up)

    # --- sending

    def new_packet_id(self) -> bytes:
        """A `Request-Id`."""
        return uuid.UUID(int=self.chance.getrandbits(128), version=4).bytes

    def _send(self, sent: Sent, *, again: bool) -> None:
        headers: dict[str, str] = {}
        if self.is_async:
            request_id = str(uuid.UUID(bytes=sent.packet_id))
            self._by_request[request_id] = sent
            headers = {"Request-Id": request_id, "Callback-Url": http_url_of(self.name, self.node)}

        def done(answer: octets.HttpSeen) -> None:
            self._answered(sent, answer)

        def failed() -> None:
            if self.is_async:
                self.world.after(_PAUSE_S * self.chance.random(), self._ask_again, sent)
            else:
                self._end(sent, "lost")

        def not_sent() -> None:
            self._end(sent, "unsent")

        self.ask(
            "POST", sent.octets, headers, done, failed, not_sent=None if self.is_async else not_sent
        )

    def _give_up(self, sent: Sent) -> None:
        if sent.fact.condition in self._sent:
            is_owed = not self.is_async or sent.packet_id in self._taken
            self._end(sent, "expired" if is_owed else "lost")

    def _ask_again(self, sent: Sent) -> None:
        if sent.fact.condition in self._sent and self.world.now_s < sent.fact.expires_at_s:
            self.resent += 1
            self.facts.note(self.world.now_s, self.name, "asks again", sent.fact.plan.number)
            self._send(sent, again=True)

    def _answered(self, sent: Sent, answer: octets.HttpSeen) -> None:
        status = answer.status
        if sent.fact.condition not in self._sent:
            return
        if status == 200 and not self.is_async:
            self.took(sent, octets.read_ilp(answer.body))
        elif status == 202 and self.is_async:
            self._taken.add(sent.packet_id)
            self.world.after(ATTEMPT_S, self._ask_again, sent)
        elif status >= 500 or (self.node, self.name) in self.facts.removed:
            # A proxy, a node that is being replaced, or one that has forgotten this peer for a while.
            if self.is_async:
                self.world.after(_PAUSE_S, self._ask_again, sent)
            else:
                self._end(sent, "lost")
        else:
            self.facts.complaints.append(
                f"payment {sent.fact.plan.number}: {self.name} is told {answer.start}: {answer.body[:80]!r}"
            )
            self._end(sent, "error")

    def _send_other(self, request_id: str) -> None:
        """Another packet, for nobody, under the id of one that was answered."""
        number = self.chance.getrandbits(64) | _NOT_UUIDS
        expires_at_ms = round(self.world.now_s * 1000) + 20_000
        other = octets.prepare(
            1,
            START_MS + expires_at_ms,
            number.to_bytes(32, "big"),
            "g.nowhere",
            b"another packet",
        )

        def done(answer: octets.HttpSeen) -> None:
            self.refused_others += answer.status == 409

        headers = {"Request-Id": request_id, "Callback-Url": http_url_of(self.name, self.node)}
        self.ask("POST", other, headers, done, lambda: None)

    # --- being asked

    def served(self, request: octets.HttpSeen, served: _Served) -> None:
        """A request of the node."""
        method = request.start.split(" ")[0]
        if request.headers.get("authorization") != f"Bearer {self._token}":
            self.facts.complaints.append(f"{self.name} is shown a wrong token")
        packet = octets.read_ilp(request.body) if method == "POST" else None
        request_id = request.headers.get("request-id", "")
        if packet is None:
            served.answer(405, b"")  # as ilp-plugin-http, to what is no POST
        elif isinstance(packet, octets.AnswerSeen):
            sent = self._by_request.pop(request_id, None)
            served.answer(400 if sent is None else 200, b"")
            if sent is not None and sent.fact.condition in self._sent:
                self.took(sent, packet)
                if self.chance.random() < _TRICKS:
                    self.world.after(2 * self.chance.random(), self._send_other, request_id)
        else:
            self._asked(request, request_id, packet, served)

    def _asked(
        self,
        request: octets.HttpSeen,
        request_id: str,
        prepare: octets.PrepareSeen,
        served: _Served,
    ) -> None:
        reply_to: Any = served
        protocols: dict[str, bytes] = {}
        if self.is_async:
            if request.headers.get("callback-url") != http_url_of(self.node, self.name):
                self.facts.complaints.append(f"{self.name} is asked without a Callback-Url")
            served.answer(202, b"")
            reply_to = _Callback(self, request_id)
            protocols = {"packet-id": uuid.UUID(request_id).bytes}
        self.asked(octets.BtpSeen(octets.MESSAGE, 0, protocols), prepare, reply_to)

    def reply(self, transport: Any, request_id: int, answer: bytes) -> None:
        """See `End`: `transport` is what came with the request."""
        transport.answer(200, answer)

    def post_answer(self, request_id: str, answer: bytes, attempts: int = 12) -> None:
        """Post an answer to the node until it is taken or refused."""

        def done(seen: octets.HttpSeen) -> None:
            if seen.status >= 500:
                failed()
                return
            self.refused_answers += seen.status == 400
            if self.chance.random() < _TRICKS:
                self.world.after(self.chance.random(), self._post_other, request_id)

        def failed() -> None:
            if attempts:
                self.world.after(_PAUSE_S, self.post_answer, request_id, answer, attempts - 1)

        self.ask("POST", answer, {"Request-Id": request_id}, done, failed)

    def _post_other(self, request_id: str) -> None:
        """A second answer, after the first one was taken or refused: nobody waits for it."""

        def done(seen: octets.HttpSeen) -> None:
            if seen.status == 200:
                self.facts.complaints.append(f"{self.name}: a second answer was taken")
            self.refused_answers += seen.status == 400

        other = octets.reject("F99", f"g.{self.name}", "or not")
        self.ask("POST", other, {"Request-Id": request_id}, done, lambda: None)


class _Callback:
    """Takes the answer to what was asked asynchronously."""

    def __init__(self, end: HttpEnd, request_id: str) -> None:
        self._end = end
        self._request_id = request_id

    def answer(self, _status: int, body: bytes) -> None:
        """Post it."""
        self._end.post_answer(self._request_id, body)


class _Connection:
    """One side of a connection: an `asyncio.Protocol`."""

    def __init__(self) -> None:
        self._transport: Transport
        self._rest = b""

    def connection_made(self, transport: Transport) -> None:
        """See `asyncio.Protocol`."""
        self._transport = transport

    def eof_received(self) -> None:
        """See `asyncio.Protocol`."""

    def pause_writing(self) -> None:
        """See `asyncio.Protocol`."""

    def resume_writing(self) -> None:
        """See `asyncio.Protocol`."""

    def connection_lost(self, _error: Exception | None) -> None:
        """See `asyncio.Protocol`."""


class _Served(_Connection):
    """A connection that the node has opened."""

    def __init__(self, end: HttpEnd) -> None:
        super().__init__()
        self._end = end

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        request, self._rest = octets.read_http(self._rest + data)
        if request is not None:
            self._end.served(request, self)

    def answer(self, status: int, body: bytes) -> None:
        """Say something."""
        headers = {"Content-Type": "application/octet-stream"}
        self._transport.write(octets.http(f"HTTP/1.1 {status} {status}", headers, body))


class _Asking(_Connection):
    """A connection for one request of the end."""

    def __init__(
        self,
        request: bytes,
        done: Callable[[octets.HttpSeen], None],
        failed: Callable[[], None],
        not_sent: Callable[[], None],
    ) -> None:
        super().__init__()
        self._request = request
        self._done = done
        self._failed = failed
        self._not_sent = not_sent
        self._is_over = False

    def connection_made(self, transport: Transport) -> None:
        """See `asyncio.Protocol`."""
        super().connection_made(transport)
        if self._is_over:
            transport.close()
        else:
            transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        answer, self._rest = octets.read_http(self._rest + data)
        if answer is not None and not self._is_over:
            self._is_over = True
            self._transport.close()
            self._done(answer)

    def connection_lost(self, _error: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self._fail()

    def give_up(self) -> None:
        """No answer has come in time."""
        if not self._is_over:
            if hasattr(self, "_transport"):
                self._transport.abort()
            self._fail()

    def not_connected(self) -> None:
        """Nothing of the request has left."""
        if not self._is_over:
            self._is_over = True
            self._not_sent()

    def _fail(self) -> None:
        if not self._is_over:
            self._is_over = True
            self._failed()
