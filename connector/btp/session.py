"""The protocol state of one BTP connection (RFC 23): octets in, events and octets out. Pure.

No socket, clock or randomness: a test is a list of octets. The dialling side starts with an `auth`
Message; until that is accepted, no other request is allowed. Then both sides send requests, numbered
by the sender, and each is answered once, by a Response or an Error with the same number.

If both sides have announced packet ids at log-in, each Prepare is sent with a `packet-id`, so that
requests left open by a broken connection can be resent (docs/protocol.md).

Long because the states of a connection and of its requests are read in one place.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Final

from connector.base import limits
from connector.base.errors import DecodeError, ProtocolError
from connector.btp import bounds
from connector.btp.packet import (
    ERROR,
    ERROR_NAMES,
    MESSAGE,
    PACKET_AGAIN,
    PACKET_ID,
    PACKET_ID_SIZE,
    REQUEST_ID_MAX,
    RESPONSE,
    TRANSFER,
    BtpError,
    BtpPacket,
    ContentType,
    Protocol,
    decode,
    encode,
    encode_empty_response,
    encode_ilp,
    read_ilp,
)


class State(Enum):
    """The state of a session."""

    AWAITING_AUTH = auto()
    """Listening side: the other side has not logged in yet."""
    CHECKING_AUTH = auto()
    """Listening side: credentials have arrived and are being verified."""
    LOGGING_IN = auto()
    """Dialling side: the `auth` Message was sent."""
    OPEN = auto()
    CLOSED = auto()


class Move(Enum):
    """What can change the state of a session."""

    AUTH_RECEIVED = auto()
    AUTH_ACCEPTED = auto()
    AUTH_REFUSED = auto()
    AUTH_SENT = auto()
    CLOSE = auto()


TRANSITIONS: Final[dict[tuple[State, Move], State]] = {
    (State.AWAITING_AUTH, Move.AUTH_RECEIVED): State.CHECKING_AUTH,
    (State.AWAITING_AUTH, Move.AUTH_SENT): State.LOGGING_IN,
    (State.CHECKING_AUTH, Move.AUTH_ACCEPTED): State.OPEN,
    (State.CHECKING_AUTH, Move.AUTH_REFUSED): State.CLOSED,
    (State.LOGGING_IN, Move.AUTH_ACCEPTED): State.OPEN,
    (State.LOGGING_IN, Move.AUTH_REFUSED): State.CLOSED,
    **{(state, Move.CLOSE): State.CLOSED for state in State},
}


class IlpRequest:
    """A request of the peer with an ILP packet."""

    __slots__ = ("again", "ilp", "packet_id", "request_id")

    def __init__(self, request_id: int, ilp: bytes, packet_id: int, again: bool = False) -> None:
        self.request_id = request_id
        self.ilp = ilp
        self.packet_id = packet_id
        """The sender's packet id; zero if there is none."""
        self.again = again
        """Whether the sender has marked the packet as possibly resent."""


class IlpAnswer:
    """The answer to one of our requests."""

    __slots__ = ("ilp", "request")

    def __init__(self, request: Any, ilp: bytes | None) -> None:
        self.request = request
        """The handle that was passed to `Session.request`."""
        self.ilp = ilp
        """None: an Error, or a Response without an ILP packet."""


@dataclass(slots=True, frozen=True)
class AuthRequest:
    """The other side wants to log in; answer with `accept` or `refuse`."""

    request_id: int
    username: str
    token: str
    resumable: bool


@dataclass(slots=True, frozen=True)
class LoggedIn:
    """The other side has accepted our log-in."""


@dataclass(slots=True, frozen=True)
class LogInRefused:
    """The other side has refused our log-in."""

    code: str
    reason: str


@dataclass(slots=True, frozen=True)
class Ignored:
    """A packet without effect; only counted."""

    reason: str


Event = IlpRequest | IlpAnswer | AuthRequest | LoggedIn | LogInRefused | Ignored

_REFUSAL: Final = "not logged in"


class Requests:
    """Our open requests to one peer, over all of its connections.

    A peer may answer over another connection: ilp-plugin-btp sends everything over the one that it dialled.
    So ids are unique per peer.
    """

    __slots__ = ("by_id", "ids_of_resent", "next_id")

    def __init__(self, first_id: int) -> None:
        """`first_id`: the first request id."""
        self.by_id: Final[dict[int, Any]] = {}
        """Handles of open requests, oldest first. A resent request has several ids."""
        self.ids_of_resent: Final[dict[Any, list[int]]] = {}
        """All ids of resent requests; the first answer to any of them counts."""
        self.next_id = first_id & REQUEST_ID_MAX

    def take_id(self) -> int:
        """The next request id that is not open (RFC 23)."""
        request_id = self.next_id
        while request_id in self.by_id:
            request_id = (request_id + 1) & REQUEST_ID_MAX
        self.next_id = (request_id + 1) & REQUEST_ID_MAX
        return request_id

    def before_resending(self, requests: Iterable[Any] = ()) -> None:
        """Record the ids of all open requests, before `requests` are resent, which may be others, too."""
        for request_id, request in self.by_id.items():
            self.ids_of_resent.setdefault(request, [request_id])
        for request in requests:
            self.will_resend(request)

    def will_resend(self, request: Any) -> None:
        """`request` was sent over no connection yet, and will be resent."""
        self.ids_of_resent.setdefault(request, [])

    def resent(self, request: Any, request_id: int) -> None:
        """`request` was resent as `request_id`; above a bound its oldest id is dropped."""
        ids = self.ids_of_resent.get(request)
        if ids is None:
            return
        ids.append(request_id)
        if len(ids) > bounds.REQUEST_IDS_OF_ONE_PACKET_MAX:
            self.by_id.pop(ids.pop(0), None)

    def answered(self, request: Any) -> None:
        """Drop the other ids of a request that was answered under one of them."""
        for request_id in self.ids_of_resent.pop(request, ()):
            self.by_id.pop(request_id, None)

    def forget(self, requests: Collection[Any]) -> None:
        """Stop waiting for the answers of these handles; late ones are ignored."""
        for request_id in [one for one, request in self.by_id.items() if request in requests]:
            del self.by_id[request_id]
        if self.ids_of_resent:
            for request in requests:
                self.ids_of_resent.pop(request, None)

    def clear(self) -> list[Any]:
        """Remove all open requests; returns their handles, oldest first."""
        left = list(dict.fromkeys(self.by_id.values()))
        self.by_id.clear()
        self.ids_of_resent.clear()
        return left

    @property
    def open(self) -> list[Any]:
        """The handles of open requests, oldest first."""
        return list(dict.fromkeys(self.by_id.values()))


class Session:
    """One side of one BTP connection."""

    def __init__(self, *, first_request_id: int, now_ms: Any) -> None:
        """Start a session.

        Args:
            first_request_id: the id of our first request; `join` may replace the numbering.
            now_ms: the time for our Errors.
        """
        self.state = State.AWAITING_AUTH
        self.resumable = False
        """Whether both sides support packet ids."""
        self.auth_id: int | None = None
        """The request id of the log-in, whichever side sent it."""
        self.owed = 0
        """Requests of the other side over this connection that have no answer yet."""
        self.requests = Requests(first_request_id)
        """Our open requests; shared with other connections to the peer (`join`)."""
        self._open = self.requests.by_id
        self._now_ms = now_ms
        self._outgoing: list[bytes] = []

    def _move(self, move: Move) -> None:
        to = TRANSITIONS.get((self.state, move))
        if to is None:
            raise ProtocolError(f"{move.name} while {self.state.name}")
        self.state = to

    # --- octets out

    def take_outgoing(self) -> list[bytes]:
        """Remove and return the BTP packets to send, in order."""
        outgoing, self._outgoing = self._outgoing, []
        return outgoing

    def log_in(self, username: str, token: str) -> None:
        """Open the connection from the dialling side (RFC 23, Authentication)."""
        self._move(Move.AUTH_SENT)
        self.auth_id = self.requests.take_id()
        self._outgoing.append(
            encode(
                BtpPacket(
                    kind=MESSAGE,
                    request_id=self.auth_id,
                    protocols=[
                        Protocol("auth", ContentType.OCTET_STREAM, b""),
                        Protocol("auth_username", ContentType.TEXT, username.encode()),
                        Protocol("auth_token", ContentType.TEXT, token.encode()),
                        Protocol(PACKET_ID, ContentType.OCTET_STREAM, b""),
                    ],
                )
            )
        )

    def accept(self, auth: AuthRequest) -> None:
        """Accept the log-in of the other side."""
        self._move(Move.AUTH_ACCEPTED)
        self.resumable = auth.resumable
        if auth.resumable:
            protocols = [Protocol(PACKET_ID, ContentType.OCTET_STREAM, b"")]
            self._outgoing.append(
                encode(BtpPacket(kind=RESPONSE, request_id=auth.request_id, protocols=protocols))
            )
        else:
            self._outgoing.append(encode_empty_response(auth.request_id))

    def refuse(
        self, auth: AuthRequest, reason: bytes = b"invalid username or token", code: str = "F00"
    ) -> None:
        """Refuse the log-in of the other side; `reason` says no more than it may know.

        `code` is a BTP error code (RFC 23, "BTP Error Codes"): T00 if the same log-in may succeed
        later, F00 if not.
        """
        self._move(Move.AUTH_REFUSED)
        self._error(auth.request_id, code, reason)

    def request(self, ilp: bytes, request: Any, packet_id: int, again: bool = False) -> int:
        """Queue a request with an ILP packet; `request` is returned with its answer.

        `again`: it may have been sent before over another connection. Returns the request id.
        """
        assert self.state is State.OPEN, self.state
        request_id = self.requests.take_id()
        self._open[request_id] = request
        self._outgoing.append(
            encode_ilp(MESSAGE, request_id, ilp, packet_id if self.resumable else 0, again)
        )
        return request_id

    def respond(self, request_id: int, ilp: bytes) -> None:
        """Queue the answer to an `IlpRequest` of this or another connection to the same process."""
        assert self.state is State.OPEN, self.state
        self.owed -= 1
        self._outgoing.append(encode_ilp(RESPONSE, request_id, ilp))

    def join(self, requests: Requests) -> None:
        """Share request ids and open requests with the other connections to the peer."""
        assert not self._open, "joined after a request"
        self.requests = requests
        self._open = requests.by_id

    def close(self) -> None:
        """End the session; its requests stay open for other connections, or for their owner."""
        self._move(Move.CLOSE)

    # --- octets in

    def receive(self, octets: bytes) -> Event:
        """Process a BTP packet of the other side; returns the event.

        Raises:
            DecodeError: unreadable; the connection should be closed.
            ProtocolError: not allowed in this state; an Error is queued if it was a request,
                and the connection should be closed after it.
        """
        if self.state is State.OPEN:
            short = read_ilp(octets)
            if short is not None:
                kind, request_id, ilp, packet_id = short
                if kind == MESSAGE:
                    self.owed += 1
                    return IlpRequest(request_id, ilp, packet_id if self.resumable else 0)
                if kind == RESPONSE:
                    request = self._open.pop(request_id, None)
                    if request is None:
                        return Ignored("answer without a request")
                    if self.requests.ids_of_resent:
                        self.requests.answered(request)
                    return IlpAnswer(request, ilp)
        packet = decode(octets)
        if packet.kind in (RESPONSE, ERROR):
            return self._answer(packet)
        assert isinstance(packet, BtpPacket)
        if self.state is State.AWAITING_AUTH:
            return self._auth(packet)
        if self.state is not State.OPEN:
            self._error(packet.request_id, "F00", _REFUSAL.encode())
            raise ProtocolError(f"a request while {self.state.name}")
        return self._request(packet)

    def _auth(self, packet: BtpPacket) -> Event:
        fields = {protocol.name: protocol.data for protocol in packet.protocols}
        if packet.kind != MESSAGE or not packet.protocols or packet.protocols[0].name != "auth":
            self._error(packet.request_id, "F00", b"log in first")
            raise ProtocolError("the first packet is not a log-in")
        if "auth_token" not in fields:
            self._error(packet.request_id, "F00", b"auth_token is missing")
            raise ProtocolError("a log-in without auth_token")
        username = fields.get("auth_username", b"")
        token = fields["auth_token"]
        try:
            if max(len(username), len(token)) > limits.BTP_TOKEN_BYTES_MAX:
                raise ProtocolError("credentials are too long")
            names = username.decode("utf-8"), token.decode("utf-8")
        except (UnicodeDecodeError, ProtocolError):
            self._error(packet.request_id, "F00", b"credentials are not readable")
            raise ProtocolError("credentials are not readable") from None
        self._move(Move.AUTH_RECEIVED)
        self.auth_id = packet.request_id
        return AuthRequest(packet.request_id, *names, resumable=PACKET_ID in fields)

    def _answer(self, packet: BtpPacket | BtpError) -> Event:
        if self.state is State.LOGGING_IN and packet.request_id == self.auth_id:
            if isinstance(packet, BtpError):
                self._move(Move.AUTH_REFUSED)
                reason = packet.data[:100].decode("utf-8", "replace")
                return LogInRefused(packet.code, reason)
            self._move(Move.AUTH_ACCEPTED)
            self.resumable = any(protocol.name == PACKET_ID for protocol in packet.protocols)
            return LoggedIn()
        request = self._open.pop(packet.request_id, None)
        if request is None:
            # "responses without a request get no answer" (RFC 23, Flow)
            return Ignored("answer without a request")
        self.requests.answered(request)
        if isinstance(packet, BtpError):
            return IlpAnswer(request, None)
        return IlpAnswer(request, _ilp_of(packet.protocols))

    def _request(self, packet: BtpPacket) -> Event:
        if packet.kind == TRANSFER:
            self._error(packet.request_id, "F00", b"settlement is not made by BTP Transfer")
            return Ignored("BTP Transfer")
        ilp = _ilp_of(packet.protocols)
        if ilp is not None:
            packet_id = self._packet_id_of(packet.protocols)
            again = any(protocol.name == PACKET_AGAIN for protocol in packet.protocols)
            self.owed += 1
            return IlpRequest(packet.request_id, ilp, packet_id, again=again and packet_id != 0)
        if not packet.protocols:
            # An empty Message is acknowledged; JS peers use it as a keep-alive.
            self._outgoing.append(encode_empty_response(packet.request_id))
            return Ignored("empty Message")
        self._error(packet.request_id, "F00", b"unknown primary protocol")
        return Ignored("unknown primary protocol")

    def _packet_id_of(self, protocols: Sequence[Protocol]) -> int:
        if not self.resumable:
            return 0
        for name, _, data in protocols:
            if name == PACKET_ID and len(data) == PACKET_ID_SIZE:
                return int.from_bytes(data, "big")
        return 0

    def _error(self, request_id: int, code: str, data: bytes) -> None:
        self._outgoing.append(
            encode(
                BtpError(
                    request_id=request_id,
                    code=code,
                    name=ERROR_NAMES[code],
                    triggered_at_ms=self._now_ms(),
                    data=data,
                )
            )
        )


def _ilp_of(protocols: Sequence[Protocol]) -> bytes | None:
    for name, _, data in protocols:
        if name == "ilp":
            return data
    return None


__all__ = [
    "AuthRequest",
    "DecodeError",
    "Event",
    "Ignored",
    "IlpAnswer",
    "IlpRequest",
    "LogInRefused",
    "LoggedIn",
    "Requests",
    "Session",
    "State",
]
