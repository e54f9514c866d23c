"""ILPv4 packets (RFC 27): Prepare, Fulfill, Reject, and the error codes.

A packet is one octet for its type and a length-prefixed body. `decode` accepts any octets and returns
a packet or raises `DecodeError`; `encode` returns the canonical form. Octets after the known fields
of a body are ignored, as RFC 27 requires.

A connector changes two fields of a Prepare (amount and expiry) and nothing of an answer. So a
packet in canonical form keeps its octets in `wire`, and is forwarded by `reprice` or unchanged; one
in another form is encoded again.

Long because the decoders and encoders of the three packets, fast paths included, are kept side by side.
"""

from __future__ import annotations

import calendar
import re
import struct
from collections.abc import Callable
from datetime import UTC, datetime
from enum import Enum
from typing import Final, assert_never

from connector.base import limits
from connector.base.errors import DecodeError
from connector.ilp import address, bounds
from connector.oer import length_size, read_length, read_var_octets, var_octets

PREPARE: Final = 12
FULFILL: Final = 13
REJECT: Final = 14

_AMOUNT_EXPIRY: Final = struct.Struct(">Q17s")
_HEAD: Final = struct.Struct(">Q17s32s")
_EXPIRY_OFFSET: Final = 8
_TAIL_OFFSET: Final = 25
_ADDRESS_OFFSET: Final = 57
_MINUTE_MS: Final = 60_000
_EXPIRES_AT_MS_MAX: Final = 253_402_300_800_000
_CODE: Final = re.compile(rb"[A-Z][0-9]{2}")
# RFC 27 says an address; a JS connector that does not know its own says "unknown".
_TRIGGERED_BY: Final = re.compile(rb"[A-Za-z0-9_~.-]{0,1023}")


class Code(Enum):
    """Error codes of a Reject and their names (RFC 27, error codes)."""

    F00_BAD_REQUEST = "F00"
    F01_INVALID_PACKET = "F01"
    F02_UNREACHABLE = "F02"
    F03_INVALID_AMOUNT = "F03"
    F04_INSUFFICIENT_DESTINATION_AMOUNT = "F04"
    F05_WRONG_CONDITION = "F05"
    F06_UNEXPECTED_PAYMENT = "F06"
    F07_CANNOT_RECEIVE = "F07"
    F08_AMOUNT_TOO_LARGE = "F08"
    F99_APPLICATION_ERROR = "F99"
    T00_INTERNAL_ERROR = "T00"
    T01_PEER_UNREACHABLE = "T01"
    T02_PEER_BUSY = "T02"
    T03_CONNECTOR_BUSY = "T03"
    T04_INSUFFICIENT_LIQUIDITY = "T04"
    T05_RATE_LIMITED = "T05"
    T99_APPLICATION_ERROR = "T99"
    R00_TRANSFER_TIMED_OUT = "R00"
    R01_INSUFFICIENT_SOURCE_AMOUNT = "R01"
    R02_INSUFFICIENT_TIMEOUT = "R02"
    R99_APPLICATION_ERROR = "R99"


class Prepare:
    """An offer to pay `amount` for proof of delivery to `destination` before `expires_at_ms`.

    A plain slotted class: one is built for every packet.
    """

    __slots__ = ("amount", "condition", "data", "destination", "expires_at_ms", "wire")

    amount: int
    """In the smallest unit of the asset agreed on the link it travels; 0 to 2**64 - 1."""
    expires_at_ms: int
    """Milliseconds since the Unix epoch."""
    condition: bytes
    """SHA-256 of the fulfillment; 32 octets."""
    destination: str
    """An ILP address."""
    data: bytes
    """For the receiver, end to end; at most 32767 octets."""
    wire: bytes | None
    """The canonical octets it was decoded from, if it was."""

    def __init__(
        self,
        *,
        amount: int,
        expires_at_ms: int,
        condition: bytes,
        destination: str,
        data: bytes = b"",
        wire: bytes | None = None,
    ) -> None:
        self.amount = amount
        self.expires_at_ms = expires_at_ms
        self.condition = condition
        self.destination = destination
        self.data = data
        self.wire = wire

    def _key(self) -> tuple[object, ...]:
        return (self.amount, self.expires_at_ms, self.condition, self.destination, self.data)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Prepare) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def __repr__(self) -> str:
        return (
            f"Prepare(amount={self.amount}, destination={self.destination!r}, "
            f"expires_at_ms={self.expires_at_ms})"
        )


class Fulfill:
    """Proof that a Prepare was delivered: the preimage of its condition."""

    __slots__ = ("data", "fulfillment", "wire")

    fulfillment: bytes
    """32 octets."""
    data: bytes
    """For the sender, end to end; at most 32767 octets."""
    wire: bytes | None
    """The canonical octets it was decoded from, if it was."""

    def __init__(self, *, fulfillment: bytes, data: bytes = b"", wire: bytes | None = None) -> None:
        self.fulfillment = fulfillment
        self.data = data
        self.wire = wire

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Fulfill) and (self.fulfillment, self.data) == (
            other.fulfillment,
            other.data,
        )

    def __hash__(self) -> int:
        return hash((self.fulfillment, self.data))

    def __repr__(self) -> str:
        return f"Fulfill(data={len(self.data)} octets)"


class Reject:
    """The answer that moves no money: error code, origin and message."""

    __slots__ = ("code", "data", "message", "triggered_by", "wire")

    code: str
    """Three characters, usually one of `Code`; F final, T temporary, R relative to the offer."""
    triggered_by: str
    """ILP address of the rejecting node, as it reported it; may be empty or not an address."""
    message: str
    """For humans; at most 8191 octets of UTF-8."""
    data: bytes
    """For the sender; at most 32767 octets."""
    wire: bytes | None
    """The canonical octets it was decoded from, if it was."""

    def __init__(
        self,
        *,
        code: str,
        triggered_by: str = "",
        message: str = "",
        data: bytes = b"",
        wire: bytes | None = None,
    ) -> None:
        self.code = code
        self.triggered_by = triggered_by
        self.message = message
        self.data = data
        self.wire = wire

    def _key(self) -> tuple[object, ...]:
        return (self.code, self.triggered_by, self.message, self.data)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Reject) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def __repr__(self) -> str:
        return f"Reject({self.code} by {self.triggered_by!r}: {self.message!r})"


Answer = Fulfill | Reject
Packet = Prepare | Fulfill | Reject


class _Minute:
    """A minute, and its twelve digits YYYYMMDDHHmm."""

    __slots__ = ("begins_ms", "digits")

    def __init__(self, begins_ms: int, digits: bytes) -> None:
        self.begins_ms = begins_ms
        self.digits = digits


class _Latest:
    """The minutes of the last time that was read, and of the last one that was written."""

    __slots__ = ("read", "written")

    def __init__(self) -> None:
        self.read = self.written = _Minute(0, b"197001010000")


# Almost all times are of the same few minutes, and of one after the other. An `lru_cache` would cost as
# much as the rest.
_LATEST: Final = _Latest()
_KNOWN_ADDRESSES: Final[dict[bytes, str]] = {}
_KNOWN_MINUTES: Final[dict[bytes, int]] = {}
_KNOWN_DIGITS: Final[dict[int, bytes]] = {}
_SECONDS: Final = [b"%02d" % number for number in range(60)]
_MILLISECONDS: Final = [b"%03d" % number for number in range(1000)]
_DIGIT_ZERO: Final = ord("0")


def _minute_ms(digits: bytes) -> int:
    """Milliseconds at the start of the minute that the twelve `digits` YYYYMMDDHHmm name."""
    moment = datetime.strptime(digits.decode("ascii"), "%Y%m%d%H%M").replace(tzinfo=UTC)
    return calendar.timegm(moment.utctimetuple()) * 1000


def _minute_digits(minute: int) -> bytes:
    moment = datetime.fromtimestamp(minute * 60, UTC)
    return f"{moment.year:04d}{moment:%m%d%H%M}".encode()


def read_time(digits: bytes, offset: int = 0) -> int:
    """Milliseconds since the epoch of an ILP time, 17 digits YYYYMMDDHHmmSSfff in UTC (RFC 27).

    Raises:
        DecodeError: not 17 digits, or no such moment (month 13, 31 April, hour 24, second 60).
    """
    if len(digits) != 17:
        raise DecodeError("expiry", offset, "not 17 digits")
    return _time_at(digits, 0, offset)


def _time_at(octets: bytes, at: int, offset: int) -> int:
    """See `read_time`: the time in the 17 octets from `at`."""
    minute = octets[at : at + 12]
    latest = _LATEST.read
    is_latest = minute == latest.digits
    if not is_latest and minute not in _KNOWN_MINUTES and not minute.isdigit():
        raise DecodeError("expiry", offset, "not 17 digits")
    rest_ms = 0
    for place in range(at + 12, at + 17):
        digit = octets[place] - _DIGIT_ZERO
        if not 0 <= digit <= 9:
            raise DecodeError("expiry", offset, "not 17 digits")
        rest_ms = rest_ms * 10 + digit
    if rest_ms >= _MINUTE_MS:
        raise DecodeError("expiry", offset, "no such second")
    if not is_latest:
        latest = _LATEST.read = _minute_of(minute, offset)
    return latest.begins_ms + rest_ms


def _minute_of(digits: bytes, offset: int) -> _Minute:
    begins_ms = _KNOWN_MINUTES.get(digits)
    if begins_ms is None:
        try:
            begins_ms = _minute_ms(digits)
        except ValueError:
            raise DecodeError("expiry", offset, "no such moment") from None
        if len(_KNOWN_MINUTES) >= bounds.TIME_CACHE_ENTRIES_MAX:
            _KNOWN_MINUTES.clear()
        _KNOWN_MINUTES[digits] = begins_ms
    return _Minute(begins_ms, digits)


def write_time(at_ms: int) -> bytes:
    """The 17 digits of a moment (RFC 27).

    Raises:
        ValueError: before 1970 or after 9999.
    """
    if not 0 <= at_ms < _EXPIRES_AT_MS_MAX:
        raise ValueError(f"{at_ms} ms is outside the years 1970 to 9999")
    latest = _LATEST.written
    rest_ms = at_ms - latest.begins_ms
    if not 0 <= rest_ms < _MINUTE_MS:
        minute = at_ms // _MINUTE_MS
        digits = _KNOWN_DIGITS.get(minute)
        if digits is None:
            if len(_KNOWN_DIGITS) >= bounds.TIME_CACHE_ENTRIES_MAX:
                _KNOWN_DIGITS.clear()
            digits = _KNOWN_DIGITS[minute] = _minute_digits(minute)
        latest = _LATEST.written = _Minute(minute * _MINUTE_MS, digits)
        rest_ms = at_ms - latest.begins_ms
    second = rest_ms // 1000
    return latest.digits + _SECONDS[second] + _MILLISECONDS[rest_ms - second * 1000]


def decode(octets: bytes) -> Packet:
    """The packet encoded in `octets`.

    Raises:
        DecodeError: the octets are malformed; no other exception is raised.
    """
    if not octets:
        raise DecodeError("packet", 0, "empty")
    if octets[0] == FULFILL:
        return _decode_fulfill(octets)
    reader = _READERS.get(octets[0])
    if reader is None:
        raise DecodeError("packet", 0, f"unknown type {octets[0]}")
    return reader(octets)


def decode_prepare(octets: bytes) -> Prepare:
    """The Prepare encoded in `octets`.

    Raises:
        DecodeError: not a Prepare, or malformed.
    """
    if not octets or octets[0] != PREPARE:
        raise DecodeError("packet", 0, "not a Prepare")
    short = _short_prepare(octets)
    if short is not None:
        return short
    length, at = read_length(octets, 1, "prepare")
    end = at + length
    if length < _ADDRESS_OFFSET:
        raise DecodeError("prepare", at, "cut off")
    amount, expiry, condition = _HEAD.unpack_from(octets, at)
    expires_at_ms = read_time(expiry, at + _EXPIRY_OFFSET)
    body = octets if end == len(octets) else octets[:end]
    name, data_at = read_var_octets(
        body, at + _ADDRESS_OFFSET, "destination", size_max=limits.ADDRESS_CHARACTERS_MAX
    )
    data, data_end = read_var_octets(body, data_at, "data", size_max=limits.PACKET_DATA_BYTES_MAX)
    # Shortest form of every length and nothing after the last field: the octets are the canonical
    # encoding of these fields, and can be forwarded unchanged.
    size = _ADDRESS_OFFSET + length_size(len(name)) + len(name) + length_size(len(data)) + len(data)
    canonical = data_end == len(octets) and len(octets) == 1 + length_size(size) + size
    return Prepare(
        amount=amount,
        expires_at_ms=expires_at_ms,
        condition=condition,
        destination=address.parse(name),
        data=data,
        wire=octets if canonical else None,
    )


def _short_prepare(octets: bytes) -> Prepare | None:
    """Fast path: canonical, and no length above 65535. None: use the general decoder.

    A field may be cut off here without an error only if the sizes then do not add up.
    """
    size = len(octets)
    if size < 62:
        return None
    at = 2
    length = octets[1]
    if length > 0x7F:
        if length == 0x81:
            at = 3
            length = octets[2]
            if length < 0x80:
                return None
        elif length == 0x82:
            at = 4
            length = octets[2] << 8 | octets[3]
            if length < 0x100:
                return None
        else:
            return None
    if at + length != size or length < _ADDRESS_OFFSET + 1:
        return None
    name_at = at + _ADDRESS_OFFSET + 1
    data_at = name_at + octets[name_at - 1]
    if octets[name_at - 1] > 0x7F or data_at >= size:
        return None
    length = octets[data_at]
    begin = data_at + 1
    if length > 0x7F:
        if length != 0x81 or begin >= size:
            return None
        length = octets[begin]
        begin += 1
        if length < 0x80:
            return None
    if begin + length != size:
        return None
    # Octet by octet: at a fifth of the cost of `_HEAD.unpack_from`.
    amount = (
        octets[at + 1] << 48
        | octets[at + 2] << 40
        | octets[at + 3] << 32
        | octets[at + 4] << 24
        | octets[at + 5] << 16
        | octets[at + 6] << 8
        | octets[at + 7]
    )
    if octets[at]:
        amount |= octets[at] << 56
    expiry_at = at + _EXPIRY_OFFSET
    expires_at_ms = _time_at(octets, expiry_at, expiry_at)
    name = octets[name_at:data_at]
    destination = _KNOWN_ADDRESSES.get(name)
    if destination is None:
        destination = address.parse(name)
        if len(_KNOWN_ADDRESSES) >= bounds.LATEST_ADDRESSES_MAX:
            _KNOWN_ADDRESSES.clear()
        _KNOWN_ADDRESSES[name] = destination
    return Prepare(
        amount=amount,
        expires_at_ms=expires_at_ms,
        condition=octets[at + _TAIL_OFFSET : at + _ADDRESS_OFFSET],
        destination=destination,
        data=octets[begin:],
        wire=octets,
    )


def _decode_fulfill(octets: bytes) -> Fulfill:
    size = len(octets)
    # The common case: canonical, less than 95 octets of data.
    if size > 34 and octets[1] == size - 2 and size < 130 and octets[34] == size - 35:
        return Fulfill(fulfillment=octets[2:34], data=octets[35:], wire=octets)
    length, at = read_length(octets, 1, "fulfill")
    end = at + length
    body = octets if end == len(octets) else octets[:end]
    if length < 32:
        raise DecodeError("fulfillment", at, "cut off")
    data, data_end = read_var_octets(body, at + 32, "data", size_max=limits.PACKET_DATA_BYTES_MAX)
    size = 32 + length_size(len(data)) + len(data)
    canonical = data_end == len(octets) and len(octets) == 1 + length_size(size) + size
    return Fulfill(fulfillment=octets[at : at + 32], data=data, wire=octets if canonical else None)


def _decode_reject(octets: bytes) -> Reject:
    length, at = read_length(octets, 1, "reject")
    end = at + length
    body = octets if end == len(octets) else octets[:end]
    code = body[at : at + 3]
    if _CODE.fullmatch(code) is None:
        raise DecodeError("code", at, "not a letter and two digits")
    by, message_at = read_var_octets(
        body, at + 3, "triggered by", size_max=limits.ADDRESS_CHARACTERS_MAX
    )
    if _TRIGGERED_BY.fullmatch(by) is None:
        raise DecodeError("triggered by", at + 3, "not like an ILP address")
    message, data_at = read_var_octets(
        body, message_at, "message", size_max=limits.REJECT_MESSAGE_BYTES_MAX
    )
    try:
        text = message.decode("utf-8")
    except UnicodeDecodeError:
        raise DecodeError("message", message_at, "not UTF-8") from None
    data, data_end = read_var_octets(body, data_at, "data", size_max=limits.PACKET_DATA_BYTES_MAX)
    size = 3 + sum(length_size(len(part)) + len(part) for part in (by, message, data))
    canonical = data_end == len(octets) and len(octets) == 1 + length_size(size) + size
    return Reject(
        code=code.decode("ascii"),
        triggered_by=by.decode("ascii"),
        message=text,
        data=data,
        wire=octets if canonical else None,
    )


_READERS: Final[dict[int, Callable[[bytes], Packet]]] = {
    PREPARE: decode_prepare,
    FULFILL: _decode_fulfill,
    REJECT: _decode_reject,
}


def encode(packet: Packet) -> bytes:
    """The canonical octets of `packet`.

    Raises:
        ValueError: a field is out of its range.
    """
    match packet:
        case Prepare():
            return _encode_prepare(packet)
        case Fulfill():
            if len(packet.fulfillment) != 32:
                raise ValueError("a fulfillment has 32 octets")
            _check_size("data", packet.data, limits.PACKET_DATA_BYTES_MAX)
            return b"\x0d" + var_octets(packet.fulfillment + var_octets(packet.data))
        case Reject():
            return _encode_reject(packet)
        case _:
            assert_never(packet)


def _encode_prepare(packet: Prepare) -> bytes:
    if not 0 <= packet.amount <= limits.AMOUNT_MAX:
        raise ValueError("an amount lies between 0 and 2**64 - 1")
    if len(packet.condition) != 32:
        raise ValueError("a condition has 32 octets")
    if not address.is_address(packet.destination):
        raise ValueError("the destination is not an ILP address")
    _check_size("data", packet.data, limits.PACKET_DATA_BYTES_MAX)
    head = _HEAD.pack(packet.amount, write_time(packet.expires_at_ms), packet.condition)
    name = var_octets(packet.destination.encode("ascii"))
    return b"\x0c" + var_octets(head + name + var_octets(packet.data))


def _encode_reject(packet: Reject) -> bytes:
    code = packet.code.encode("ascii", "replace")
    if _CODE.fullmatch(code) is None:
        raise ValueError("a code is a letter and two digits")
    by = packet.triggered_by.encode("ascii", "replace")
    if _TRIGGERED_BY.fullmatch(by) is None:
        raise ValueError("triggered-by is neither empty nor like an ILP address")
    message = packet.message.encode("utf-8")
    _check_size("message", message, limits.REJECT_MESSAGE_BYTES_MAX)
    _check_size("data", packet.data, limits.PACKET_DATA_BYTES_MAX)
    return b"\x0e" + var_octets(
        code + var_octets(by) + var_octets(message) + var_octets(packet.data)
    )


def _check_size(field: str, value: bytes, size_max: int) -> None:
    if len(value) > size_max:
        raise ValueError(f"{field} has {len(value)} octets, at most {size_max} allowed")


def reprice(prepare: Prepare, *, amount: int, expires_at_ms: int) -> bytes:
    """The octets of `prepare` with another amount and expiry; all else is unchanged (RFC 27).

    Raises:
        ValueError: the amount or the expiry is out of its range.
    """
    wire = prepare.wire
    if wire is not None and amount == prepare.amount:
        # One asset, and no fee: only the expiry changes.
        at = 2 if wire[1] < 0x80 else 2 + (wire[1] & 0x7F)
        expiry = write_time(expires_at_ms)
        return wire[: at + _EXPIRY_OFFSET] + expiry + wire[at + _TAIL_OFFSET :]
    if not 0 <= amount <= limits.AMOUNT_MAX:
        raise ValueError("an amount lies between 0 and 2**64 - 1")
    if wire is None:
        return _encode_prepare(
            Prepare(
                amount=amount,
                expires_at_ms=expires_at_ms,
                condition=prepare.condition,
                destination=prepare.destination,
                data=prepare.data,
            )
        )
    at = 2 if wire[1] < 0x80 else 2 + (wire[1] & 0x7F)
    return (
        wire[:at]
        + _AMOUNT_EXPIRY.pack(amount, write_time(expires_at_ms))
        + wire[at + _TAIL_OFFSET :]
    )


def reject(code: Code, triggered_by: str, message: str, data: bytes = b"") -> Reject:
    """A Reject of this node; the message is truncated to the length of a line."""
    return Reject(
        code=code.value,
        triggered_by=triggered_by,
        message=message[: limits.REJECT_MESSAGE_CHARACTERS_OURS_MAX],
        data=data,
    )


def amount_too_large_data(received: int, maximum: int) -> bytes:
    """The data of an F08: the amount received and the largest allowed, as two u64 (RFC 27)."""
    return struct.pack(">QQ", received, maximum)
