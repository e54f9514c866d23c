"""BTP packets (RFC 23): a type, a request id, and a length-prefixed body of sub-protocols.

    Message   6   side protocols, among them `ilp`
    Transfer  7   amount and side protocols
    Response  1   side protocols; answers a Message or Transfer
    Error     2   code, name, moment, data and side protocols; answers likewise

The count of side protocols is a length-prefixed integer (`01 04`, zero is `01 00`), which the RFC
leaves to be seen from the code of its implementations.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import IntEnum
from typing import Final, NamedTuple

from connector.base import limits
from connector.base.errors import DecodeError
from connector.btp import bounds
from connector.oer import read_length, read_var_octets, read_var_uint, var_octets, var_uint

RESPONSE: Final = 1
ERROR: Final = 2
MESSAGE: Final = 6
TRANSFER: Final = 7
KINDS: Final = frozenset((RESPONSE, ERROR, MESSAGE, TRANSFER))
REQUEST_ID_MAX: Final = 2**32 - 1

_HEAD: Final = struct.Struct(">BI")
_HEAD_SIZE: Final = 5
_ONLY_ILP: Final = b"\x01\x01\x03ilp\x00"
_ILP_AND_ID: Final = b"\x01\x02\x03ilp\x00"
_ILP_PREFIX_SIZE: Final = 7
_LENGTH_HEAD_MAX: Final = 0x88
PACKET_ID: Final = "packet-id"
PACKET_ID_SIZE: Final = 16
_ID_PREFIX: Final = b"\x09packet-id\x00\x10"
PACKET_AGAIN: Final = "packet-again"
_ILP_ID_AND_AGAIN: Final = b"\x01\x03\x03ilp\x00"
_AGAIN: Final = b"\x0cpacket-again\x00\x00"
_CODE: Final = re.compile(rb"[A-Z][0-9]{2}")
_TIME: Final = re.compile(rb"(\d{14})(?:\.(\d{1,3}))?Z")


def _before_ilp(size: int) -> bytes:
    """What stands between the request id and an ILP packet of `size` octets that is alone."""
    length = size.to_bytes(1, "big") if size < 0x80 else b"\x81" + size.to_bytes(1, "big")
    whole = len(_ONLY_ILP) + len(length) + size
    return (b"" if whole < 0x80 else b"\x81") + whole.to_bytes(1, "big") + _ONLY_ILP + length


# For nearly all sizes: those with which the length of the whole has one octet, and perhaps 0x81 before it.
_BEFORE_ILP: Final = [_before_ilp(size) for size in range(0x100 - 9)]


class ContentType(IntEnum):
    """How to interpret the data of a side protocol."""

    OCTET_STREAM = 0
    TEXT = 1
    JSON = 2


class Protocol(NamedTuple):
    """One side protocol of a BTP packet."""

    name: str
    content_type: int
    data: bytes


@dataclass(slots=True, kw_only=True)
class BtpPacket:
    """A Message, Response or Transfer."""

    kind: int
    request_id: int
    """0 to 2**32 - 1."""
    protocols: Sequence[Protocol] = field(default_factory=list)
    amount: int | None = None
    """Of a Transfer, else None."""


@dataclass(slots=True, kw_only=True)
class BtpError:
    """A BTP Error: the answer to a request that failed."""

    request_id: int
    code: str
    name: str
    triggered_at_ms: int
    data: bytes = b""
    protocols: Sequence[Protocol] = field(default_factory=list)
    kind: int = ERROR


ERROR_NAMES: Final = {
    "T00": "UnreachableError",
    "F00": "NotAcceptedError",
    "F01": "InvalidFieldsError",
    "F03": "TransferNotFoundError",
    "F04": "InvalidFulfillmentError",
    "F05": "DuplicateIdError",
    "F06": "AlreadyRolledBackError",
    "F07": "AlreadyFulfilledError",
    "F08": "InsufficientBalanceError",
}


def read_head(octets: bytes) -> tuple[int, int]:
    """Type and request id.

    Raises:
        DecodeError: shorter than five octets, or an unknown type.
    """
    if len(octets) < _HEAD_SIZE:
        raise DecodeError("BTP packet", 0, "cut off")
    kind, request_id = _HEAD.unpack_from(octets)
    if kind not in KINDS:
        raise DecodeError("BTP packet", 0, f"unknown type {kind}")
    return kind, request_id


def read_ilp(octets: bytes) -> tuple[int, int, bytes, int] | None:
    """Type, request id, ILP packet and packet id of a BTP packet in one of the two common forms.

    Fast path for nearly all traffic: `ilp` alone, or `ilp` and `packet-id` (zero where it is missing).
    None for every other form, valid or malformed: `decode` handles those.
    """
    size = len(octets)
    at = _HEAD_SIZE + 1
    if size <= at:
        return None
    length = octets[_HEAD_SIZE]
    if length == 0x81:
        length = octets[at]
        at += 1
    elif length & 0x80:
        if not 0x80 < length <= _LENGTH_HEAD_MAX:
            return None
        at += length & 0x7F
        length = int.from_bytes(octets[_HEAD_SIZE + 1 : at], "big")
    if at + length != size:
        return None
    prefix = octets[at : at + _ILP_PREFIX_SIZE]
    is_alone = prefix == _ONLY_ILP
    if not is_alone and prefix != _ILP_AND_ID:
        return None
    at += _ILP_PREFIX_SIZE
    if at >= size:
        return None
    length = octets[at]
    at += 1
    if length == 0x81:
        if at >= size:
            return None
        length = octets[at]
        at += 1
    elif length & 0x80:
        if not 0x80 < length <= _LENGTH_HEAD_MAX:
            return None
        begin = at
        at += length & 0x7F
        length = int.from_bytes(octets[begin:at], "big")
    end = at + length
    # Octet by octet: at a fifth of the cost of `_HEAD.unpack_from`.
    kind = octets[0]
    request_id = octets[1] << 24 | octets[2] << 16 | octets[3] << 8 | octets[4]
    if is_alone:
        return (kind, request_id, octets[at:end], 0) if end == size else None
    id_at = end + len(_ID_PREFIX)
    if id_at + PACKET_ID_SIZE == size and octets[end:id_at] == _ID_PREFIX:
        packet_id = int.from_bytes(octets[id_at:], "big")
        return kind, request_id, octets[at:end], packet_id
    return None


def decode(octets: bytes) -> BtpPacket | BtpError:
    """The BTP packet that `octets` hold.

    Raises:
        DecodeError: the octets are malformed; no other exception is raised.
    """
    kind, request_id = read_head(octets)
    length, at = read_length(octets, _HEAD_SIZE, "BTP body")
    body = octets[: at + length]
    if kind == ERROR:
        return _decode_error(request_id, body, at)
    amount: int | None = None
    if kind == TRANSFER:
        if length < 8:
            raise DecodeError("amount", at, "cut off")
        amount = int.from_bytes(body[at : at + 8], "big")
        at += 8
    return BtpPacket(
        kind=kind, request_id=request_id, protocols=_read_protocols(body, at), amount=amount
    )


def _decode_error(request_id: int, body: bytes, at: int) -> BtpError:
    code = body[at : at + 3]
    if _CODE.fullmatch(code) is None:
        raise DecodeError("error code", at, "not a letter and two digits")
    name, moment_at = read_var_octets(body, at + 3, "error name")
    moment, data_at = read_var_octets(body, moment_at, "error time")
    data, protocols_at = read_var_octets(
        body, data_at, "error data", size_max=bounds.BTP_ERROR_DATA_BYTES_MAX
    )
    return BtpError(
        request_id=request_id,
        code=code.decode("ascii"),
        name=_text(name, at + 3, "error name"),
        triggered_at_ms=read_generalized_time(moment, moment_at),
        data=data,
        protocols=_read_protocols(body, protocols_at),
    )


def _read_protocols(body: bytes, at: int) -> list[Protocol]:
    count, at = read_var_uint(body, at, "protocol count")
    if count > bounds.BTP_PROTOCOLS_MAX:
        raise DecodeError("protocol count", at, f"{count}, at most {bounds.BTP_PROTOCOLS_MAX}")
    protocols: list[Protocol] = []
    names: set[bytes] = set()
    for _ in range(count):
        name, type_at = read_var_octets(
            body, at, "protocol name", size_max=bounds.BTP_PROTOCOL_NAME_BYTES_MAX
        )
        if type_at >= len(body):
            raise DecodeError("content type", type_at, "cut off")
        data, data_end = read_var_octets(body, type_at + 1, "protocol data")
        if name in names:
            raise DecodeError("protocol name", at, "stands twice in one packet")
        names.add(name)
        protocols.append(Protocol(_text(name, at, "protocol name"), body[type_at], data))
        at = data_end
    return protocols


def _text(octets: bytes, at: int, field_name: str) -> str:
    try:
        return octets.decode("utf-8")
    except UnicodeDecodeError:
        raise DecodeError(field_name, at, "not UTF-8") from None


def read_generalized_time(octets: bytes, offset: int = 0) -> int:
    """Milliseconds since the epoch of `YYYYMMDDHHMMSS[.fff]Z` (RFC 30; JS always writes `.000`).

    Raises:
        DecodeError: another form, or not a valid time.
    """
    found = _TIME.fullmatch(octets)
    if found is None:
        raise DecodeError("error time", offset, "not YYYYMMDDHHMMSS[.fff]Z")
    whole, fraction = found.groups()
    try:
        moment = datetime.strptime(whole.decode("ascii"), "%Y%m%d%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        raise DecodeError("error time", offset, "no such moment") from None
    ms = int((fraction or b"0").ljust(3, b"0"))
    seconds = (moment - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds()
    return int(seconds) * 1000 + ms


def write_generalized_time(at_ms: int) -> bytes:
    """`YYYYMMDDHHMMSS[.fff]Z` without trailing zeros (RFC 30)."""
    seconds, ms = divmod(at_ms, 1000)
    moment = datetime.fromtimestamp(seconds, UTC)
    fraction = f".{ms:03d}".rstrip("0") if ms else ""
    return f"{moment.year:04d}{moment:%m%d%H%M%S}{fraction}Z".encode()


def encode(packet: BtpPacket | BtpError) -> bytes:
    """The octets of `packet`.

    Raises:
        ValueError: a field is out of its range.
    """
    if not 0 <= packet.request_id <= REQUEST_ID_MAX:
        raise ValueError("a request id lies between 0 and 2**32 - 1")
    names = [protocol.name for protocol in packet.protocols]
    if len(set(names)) != len(names):
        raise ValueError("a protocol name stands twice in one packet")
    if any(not 0 <= protocol.content_type <= 255 for protocol in packet.protocols):
        raise ValueError("a content type lies between 0 and 255")
    body = var_uint(len(packet.protocols)) + b"".join(
        var_octets(name.encode("utf-8")) + content_type.to_bytes(1, "big") + var_octets(data)
        for name, content_type, data in packet.protocols
    )
    match packet:
        case BtpError():
            if _CODE.fullmatch(code := packet.code.encode("ascii", "replace")) is None:
                raise ValueError("a code is a letter and two digits")
            if len(packet.data) > bounds.BTP_ERROR_DATA_BYTES_MAX:
                raise ValueError("error data has at most 8192 octets")
            body = (
                code
                + var_octets(packet.name.encode("utf-8"))
                + var_octets(write_generalized_time(packet.triggered_at_ms))
                + var_octets(packet.data)
                + body
            )
        case BtpPacket(kind=kind, amount=amount) if kind == TRANSFER:
            if amount is None or not 0 <= amount <= limits.AMOUNT_MAX:
                raise ValueError("a Transfer has an amount between 0 and 2**64 - 1")
            body = amount.to_bytes(8, "big") + body
        case _:
            pass
    return _HEAD.pack(packet.kind, packet.request_id) + var_octets(body)


def encode_ilp(
    kind: int, request_id: int, ilp: bytes, packet_id: int = 0, again: bool = False
) -> bytes:
    """A Message or Response that carries `ilp`, and the packet id unless it is zero.

    `again`: marks a packet that may have been sent before, over another connection.
    """
    if packet_id == 0:
        # Fast path for the most common sizes.
        size = len(ilp)
        if size < len(_BEFORE_ILP):
            return (kind << 32 | request_id).to_bytes(_HEAD_SIZE, "big") + _BEFORE_ILP[size] + ilp
    if packet_id:
        head, tail = (_ILP_ID_AND_AGAIN, _AGAIN) if again else (_ILP_AND_ID, b"")
        named = _ID_PREFIX + packet_id.to_bytes(PACKET_ID_SIZE, "big")
        body = head + var_octets(ilp) + named + tail
    else:
        body = _ONLY_ILP + var_octets(ilp)
    return _HEAD.pack(kind, request_id) + var_octets(body)


def encode_empty_response(request_id: int) -> bytes:
    """A Response without side protocols: `01 <id> 02 01 00`."""
    return _HEAD.pack(RESPONSE, request_id) + b"\x02\x01\x00"
