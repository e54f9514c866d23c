"""What a request of ILP over HTTP says (RFC 35), and the headers that we add. Pure.

A packet of a node of this kind has the header `ILP-Packet-Id`. If it may have been sent before, its
body begins with `AGAIN`: other programs would take it for a new packet, so they must not be able to
read it. A node of this kind says that it knows packet ids by the same header in its answers.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from connector.base import limits

PREPARE: Final = 12
FULFILL: Final = 13
REJECT: Final = 14
"""The first octet of a packet (RFC 27)."""
OCTET_STREAM: Final = "application/octet-stream"
ILP_OCTET_STREAM: Final = "application/ilp+octet-stream"
CONTENT_TYPES: Final = (OCTET_STREAM, ILP_OCTET_STREAM)
"""RFC 35, and what ilp-plugin-http sends."""
PACKET_ID: Final = "ILP-Packet-Id"
"""In a request: 32 hex digits, the sender's id of the packet. In an answer: `known`."""
KNOWN: Final = "known"
REQUEST_ID: Final = "Request-Id"
CALLBACK_URL: Final = "Callback-Url"
AGAIN: Final = b"packet-again\0"
"""Before a packet that may have been sent before. Its first octet is that of no ILP packet."""
assert AGAIN[0] not in (PREPARE, FULFILL, REJECT)

_PACKET_ID: Final = re.compile(r"[0-9a-f]{32}")
_ACCOUNT_PATH: Final = re.compile(r"/accounts/([^/%]+)/ilp")
_UUID: Final = re.compile(
    r"[0-9a-f]{8}-[0-9a-f]{4}-[1-8][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", re.IGNORECASE
)
_ONCE: Final = frozenset(
    (b"authorization", b"content-type", b"request-id", b"callback-url", b"ilp-packet-id")
)
"""Headers that decide something: a request with two of one kind is refused."""


@dataclass(slots=True, frozen=True)
class Refusal:
    """Why a request is refused."""

    status: int
    """Of HTTP: 400 to 599."""
    reason: str
    """One line for the other side; never something that it has sent."""


class Request:
    """One HTTP request, as far as it has been read."""

    __slots__ = ("body", "callback_url", "content_type", "method", "packet_id", "path", "peer_id", "request_id", "token")  # fmt: skip

    def __init__(self, method: str, path: str) -> None:
        self.method = method
        self.path = path
        self.token = ""
        self.content_type = ""
        """Without parameters, in lower case."""
        self.packet_id = 0
        """Of `ILP-Packet-Id`; zero: none."""
        self.request_id: uuid.UUID | None = None
        self.callback_url = ""
        """Empty: the answer is wanted in the response."""
        self.peer_id = ""
        """Whom the token belongs to, once it has been compared."""
        self.body = b""


def read_head(
    method: bytes, target: bytes, headers: Iterable[tuple[bytes, bytes]]
) -> Request | Refusal:
    """Read the head of a request; `headers` have lower-case names.

    What is wrong with it is only said where it is a request that the listener serves at all.
    """
    path = target.split(b"?", 1)[0].decode("latin-1")
    if path != "/ilp" and peer_in_path(path) is None:
        return Refusal(404, "nothing here; POST to /ilp or /accounts/<id>/ilp")
    if method not in (b"POST", b"GET"):
        return Refusal(405, "POST only")
    found: dict[bytes, str] = {}
    for name, value in headers:
        if name == b"transfer-encoding":
            # A packet has a length. With both, a proxy may see another end than we do (RFC 9112, 6.1); and
            # a body in chunks of one octet would be 65,536 pieces of work.
            return Refusal(411, "no Transfer-Encoding; give a Content-Length")
        if name in _ONCE:
            if name in found:
                return Refusal(400, "a header is there twice")
            found[name] = value.decode("latin-1").strip()
    request = Request(method.decode("ascii"), path)
    request.token = read_token(found.get(b"authorization", ""))
    request.content_type = found.get(b"content-type", "").split(";", 1)[0].strip().lower()
    packet_id = found.get(b"ilp-packet-id")
    if packet_id is not None:
        request.packet_id = int(packet_id, 16) if _PACKET_ID.fullmatch(packet_id) else 0
        if not request.packet_id:
            return Refusal(400, "ILP-Packet-Id is not 32 hex digits")
    request_id = found.get(b"request-id")
    if request_id is not None:
        if _UUID.fullmatch(request_id) is None:
            return Refusal(400, "Request-Id is not a UUID")
        request.request_id = uuid.UUID(request_id)
    request.callback_url = found.get(b"callback-url", "")
    if request.callback_url and request.request_id is None:
        return Refusal(400, "Callback-Url without Request-Id")
    return request


def peer_in_path(path: str) -> str | None:
    """The peer that `/accounts/<id>/ilp` names; None: the path is another one.

    Exactly so, since a proxy may have rules for paths: no id has a character that needs an escape.
    """
    found = _ACCOUNT_PATH.fullmatch(path)
    return None if found is None else found[1]


def read_token(authorization: str) -> str:
    """The token of an `Authorization` header; empty: none that could be right.

    A bearer token (RFC 6750); ilp-plugin-http with a `secretToken` sends the bare token.
    """
    scheme, _, rest = authorization.partition(" ")
    token = rest.strip() if scheme.lower() == "bearer" else authorization
    return token if len(token) <= limits.BTP_TOKEN_BYTES_MAX else ""


def request_id_of(packet_id: int) -> uuid.UUID:
    """The `Request-Id` of a packet of ours: the same for each attempt, also after a restart.

    A UUID of version 4 (RFC 35): of a packet id, which is no such, by its digest.
    """
    digest = hashlib.sha256(b"ILP over HTTP" + packet_id.to_bytes(16, "big")).digest()
    return uuid.UUID(bytes=digest[:16], version=4)
