"""The simulator's own codec, independent of the product's.

Plain functions for the ends of a network, which must detect wrong octets of the product: ILPv4
packets (RFC 27), BTP (RFC 23), and plain WebSocket frames (RFC 6455).
"""

from __future__ import annotations

import base64
import hashlib
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final, NamedTuple

MESSAGE: Final = 6
RESPONSE: Final = 1
ERROR: Final = 2
PREPARE: Final = 12
FULFILL: Final = 13
REJECT: Final = 14


class UnreadableError(Exception):
    """Octets of the product that the simulator cannot decode."""


# --- lengths


def var(octets: bytes) -> bytes:
    """A value with its length prefix."""
    size = len(octets)
    if size < 128:
        return bytes((size,)) + octets
    width = (size.bit_length() + 7) // 8
    return bytes((0x80 | width,)) + size.to_bytes(width, "big") + octets


def read_var(octets: bytes, at: int) -> tuple[bytes, int]:
    """The length-prefixed value at `at`, and the position after it."""
    size = octets[at]
    at += 1
    if size & 0x80:
        width = size & 0x7F
        size = int.from_bytes(octets[at : at + width], "big")
        at += width
    end = at + size
    if end > len(octets):
        raise UnreadableError(f"cut off at {at}")
    return octets[at:end], end


# --- ILP


class PrepareSeen(NamedTuple):
    """A Prepare as it came over the wire."""

    amount: int
    expires_at_ms: int
    condition: bytes
    destination: str
    data: bytes


class AnswerSeen(NamedTuple):
    """A Fulfill (`code` is empty) or a Reject."""

    preimage: bytes
    code: str
    triggered_by: str
    message: str
    data: bytes


def time_of(ms: int) -> bytes:
    """`YYYYMMDDHHMMSSfff`."""
    return _text_of(ms // 1000) + b"%03d" % (ms % 1000)


@lru_cache(maxsize=512)
def _text_of(seconds: int) -> bytes:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y%m%d%H%M%S").encode()


def read_time(octets: bytes) -> int:
    """Milliseconds since the epoch."""
    return _second_of(octets[:14]) * 1000 + int(octets[14:])


@lru_cache(maxsize=512)
def _second_of(octets: bytes) -> int:
    moment = datetime.strptime(octets.decode("ascii"), "%Y%m%d%H%M%S").replace(tzinfo=UTC)
    return int(moment.timestamp())


def prepare(
    amount: int, expires_at_ms: int, condition: bytes, destination: str, data: bytes
) -> bytes:
    """A Prepare."""
    body = b"".join(
        (
            amount.to_bytes(8, "big"),
            time_of(expires_at_ms),
            condition,
            var(destination.encode("ascii")),
            var(data),
        )
    )
    return bytes((PREPARE,)) + var(body)


def fulfill(preimage: bytes, data: bytes = b"") -> bytes:
    """A Fulfill."""
    return bytes((FULFILL,)) + var(preimage + var(data))


def reject(code: str, triggered_by: str, message: str) -> bytes:
    """A Reject."""
    body = code.encode() + var(triggered_by.encode()) + var(message.encode()) + b"\x00"
    return bytes((REJECT,)) + var(body)


def read_ilp(octets: bytes) -> PrepareSeen | AnswerSeen:
    """Decode an ILP packet.

    Raises:
        UnreadableError: it is not one.
    """
    try:
        body, _ = read_var(octets, 1)
        match octets[0]:
            case 12:
                destination, at = read_var(body, 57)
                data, _ = read_var(body, at)
                return PrepareSeen(
                    int.from_bytes(body[:8], "big"),
                    read_time(body[8:25]),
                    body[25:57],
                    destination.decode("ascii"),
                    data,
                )
            case 13:
                data, _ = read_var(body, 32)
                return AnswerSeen(body[:32], "", "", "", data)
            case 14:
                by, at = read_var(body, 3)
                message, at = read_var(body, at)
                data, _ = read_var(body, at)
                code = body[:3].decode("ascii")
                return AnswerSeen(b"", code, by.decode(), message.decode(), data)
            case _:
                raise UnreadableError(f"ILP type {octets[0]}")
    except (IndexError, ValueError) as error:
        raise UnreadableError(f"ILP packet: {error}") from error


# --- CCP


def route_update(
    table_id: bytes,
    current: int,
    first: int,
    last: int,
    hold_down_ms: int,
    speaker: str,
    new: list[tuple[str, tuple[str, ...]]],
    withdrawn: list[str],
) -> bytes:
    """The data of a route update; `new`: prefixes with their paths."""
    octets = table_id + b"".join(
        one.to_bytes(4, "big") for one in (current, first, last, hold_down_ms)
    )
    octets += var(speaker.encode()) + _count(len(new))
    for prefix, path in new:
        octets += var(prefix.encode()) + _count(len(path))
        octets += b"".join(var(hop.encode()) for hop in path) + bytes(32) + _count(0)
    return octets + _count(len(withdrawn)) + b"".join(var(one.encode()) for one in withdrawn)


def _count(number: int) -> bytes:
    return bytes((1, number))


# --- BTP

_ILP_HEAD: Final = b"\x03ilp\x00"
_ID_HEAD: Final = b"\x09packet-id\x00\x10"
_AGAIN: Final = b"\x0cpacket-again\x00\x00"


class BtpSeen(NamedTuple):
    """A BTP packet as it came over the wire."""

    kind: int
    request_id: int
    protocols: dict[str, bytes]
    code: str = ""
    """Of an Error."""


def btp(kind: int, request_id: int, protocols: list[tuple[str, int, bytes]]) -> bytes:
    """A Message or Response."""
    body = bytes((1, len(protocols))) + b"".join(
        var(name.encode()) + bytes((content_type,)) + var(data)
        for name, content_type, data in protocols
    )
    return bytes((kind,)) + request_id.to_bytes(4, "big") + var(body)


def btp_ilp(
    kind: int, request_id: int, ilp: bytes, packet_id: bytes = b"", again: bool = False
) -> bytes:
    """A Message or Response with an ILP packet, and the sender's id for it."""
    count = 1 + bool(packet_id) + bool(packet_id and again)
    body = bytes((1, count)) + _ILP_HEAD + var(ilp)
    if packet_id:
        body += _ID_HEAD + packet_id
        if again:
            body += _AGAIN
    return bytes((kind,)) + request_id.to_bytes(4, "big") + var(body)


def read_btp(octets: bytes) -> BtpSeen:
    """Decode a BTP packet.

    Raises:
        UnreadableError: it is not one.
    """
    try:
        kind = octets[0]
        request_id = int.from_bytes(octets[1:5], "big")
        body, _ = read_var(octets, 5)
        if kind == ERROR:
            return BtpSeen(kind, request_id, {}, body[:3].decode("ascii"))
        width = body[0]
        at = 1 + width
        protocols: dict[str, bytes] = {}
        for _ in range(int.from_bytes(body[1:at], "big")):
            name, at = read_var(body, at)
            data, at = read_var(body, at + 1)
            protocols[name.decode()] = data
    except (IndexError, ValueError) as error:
        raise UnreadableError(f"BTP packet: {error}") from error
    return BtpSeen(kind, request_id, protocols)


# --- HTTP


class HttpSeen(NamedTuple):
    """A request or an answer as it came over the wire."""

    start: str
    """Its first line."""
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes

    @property
    def status(self) -> int:
        """Of an answer."""
        return int(self.start.split(" ")[1])


def http(start: str, headers: dict[str, str], body: bytes) -> bytes:
    """A request or an answer."""
    lines = [start, *(f"{name}: {value}" for name, value in headers.items())]
    head = "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""])
    return head.encode("latin-1") + body


def read_http(octets: bytes) -> tuple[HttpSeen | None, bytes]:
    """The first whole request or answer, None if it is not whole, and the rest.

    Raises:
        UnreadableError: it is neither.
    """
    head, found, rest = octets.partition(b"\r\n\r\n")
    if not found:
        return None, octets
    start, *lines = head.decode("latin-1").split("\r\n")
    headers: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    try:
        size = int(headers.get("content-length", "0"))
    except ValueError as error:
        raise UnreadableError(f"HTTP: {head[:80]!r}") from error
    if "HTTP/1.1" not in start or "transfer-encoding" in headers:
        raise UnreadableError(f"HTTP: {head[:80]!r}")
    if len(rest) < size:
        return None, octets
    return HttpSeen(start, headers, rest[:size]), rest[size:]


# --- WebSocket

_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_KEY: Final = base64.b64encode(bytes(16)).decode()
ACCEPT: Final = base64.b64encode(
    hashlib.sha1(_KEY.encode() + _GUID).digest()  # noqa: S324 - RFC 6455
).decode()
BINARY: Final = 0x2
CLOSE: Final = 0x8
PING: Final = 0x9
PONG: Final = 0xA


def upgrade_request(host: str) -> bytes:
    """The request that opens a WebSocket."""
    return (
        f"GET / HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {_KEY}\r\nSec-WebSocket-Version: 13\r\n\r\n"
    ).encode()


def upgrade_answer(request: bytes) -> bytes:
    """What a server says to the request that opens a WebSocket.

    Raises:
        UnreadableError: it is no such request.
    """
    for line in request.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"sec-websocket-key":
            break
    else:
        raise UnreadableError(f"no WebSocket: {request[:80]!r}")
    digest = hashlib.sha1(value.strip() + _GUID).digest()  # noqa: S324 - RFC 6455
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + base64.b64encode(digest) + b"\r\n\r\n"
    )


def server_frame(opcode: int, payload: bytes) -> bytes:
    """A whole frame from a server."""
    size = len(payload)
    if size < 126:
        return bytes((0x80 | opcode, size)) + payload
    return bytes((0x80 | opcode, 126)) + size.to_bytes(2, "big") + payload


def frame(opcode: int, payload: bytes) -> bytes:
    """A complete frame from a client, masked with zeros."""
    size = len(payload)
    head = bytes((0x80 | opcode,))
    if size < 126:
        return b"".join((head, bytes((0x80 | size,)), b"\0\0\0\0", payload))
    if size < 0x10000:
        return b"".join((head, b"\xfe", size.to_bytes(2, "big"), b"\0\0\0\0", payload))
    return b"".join((head, b"\xff", size.to_bytes(8, "big"), b"\0\0\0\0", payload))


def read_frames(octets: bytes) -> tuple[list[tuple[int, bytes]], bytes]:
    """The complete frames at the start of `octets`, and the rest; a client masks with zeros."""
    frames: list[tuple[int, bytes]] = []
    at, size = 0, len(octets)
    while size - at >= 2:
        length = octets[at + 1] & 0x7F
        begin = at + 2
        if length == 126:
            begin += 2
            length = int.from_bytes(octets[at + 2 : begin], "big")
        elif length == 127:
            begin += 8
            length = int.from_bytes(octets[at + 2 : begin], "big")
        if octets[at + 1] & 0x80:
            begin += 4
        end = begin + length
        if end > size or begin > size:
            break
        frames.append((octets[at] & 0x0F, octets[begin:end]))
        at = end
    return frames, octets[at:] if at else octets
