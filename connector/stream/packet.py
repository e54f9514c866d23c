"""STREAM packets and their frames (RFC 29, section 5): what is inside the encrypted data.

`decode` accepts any octets and returns a packet or raises `DecodeError`; `encode` returns the
canonical form. What follows the declared frames is ignored, and so are frames of unknown types.
Maxima that are too large for 64 bits mean "no limit" and are read as 2**64 - 1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple, dataclass
from enum import IntEnum
from typing import Any, Final

from connector.base import limits
from connector.base.errors import DecodeError
from connector.oer import read_var_octets, read_var_uint, var_octets, var_uint
from connector.stream import bounds

VERSION: Final = 1
UINT_MAX: Final = limits.AMOUNT_MAX


class CloseCode(IntEnum):
    """Why a connection or a stream was closed (RFC 29, section 5.4)."""

    NO_ERROR = 1
    INTERNAL_ERROR = 2
    ENDPOINT_BUSY = 3
    FLOW_CONTROL_ERROR = 4
    STREAM_ID_ERROR = 5
    STREAM_STATE_ERROR = 6
    FRAME_FORMAT_ERROR = 7
    PROTOCOL_VIOLATION = 8
    APPLICATION_ERROR = 9


@dataclass(slots=True, frozen=True)
class ConnectionClose:
    """The connection is over."""

    error_code: int
    """0 to 255, usually a `CloseCode`."""
    message: str


@dataclass(slots=True, frozen=True)
class ConnectionNewAddress:
    """Where the other end is reached from now on."""

    source_account: str


@dataclass(slots=True, frozen=True)
class ConnectionMaxData:
    """How many octets of data the sender of this frame takes on all streams together."""

    max_offset: int


@dataclass(slots=True, frozen=True)
class ConnectionDataBlocked:
    """More data is there than the other end takes on all streams together."""

    max_offset: int


@dataclass(slots=True, frozen=True)
class ConnectionMaxStreamId:
    """The highest stream id that the other end may open."""

    max_stream_id: int


@dataclass(slots=True, frozen=True)
class ConnectionStreamIdBlocked:
    """A stream is wanted above the highest id that is allowed."""

    max_stream_id: int


@dataclass(slots=True, frozen=True)
class ConnectionAssetDetails:
    """The asset of the sender of this frame; the same for the whole connection."""

    asset_code: str
    asset_scale: int
    """0 to 255."""


@dataclass(slots=True, frozen=True)
class StreamClose:
    """A stream is over."""

    stream_id: int
    error_code: int
    message: str


@dataclass(slots=True, frozen=True)
class StreamMoney:
    """A stream's share of the packet's amount."""

    stream_id: int
    shares: int


@dataclass(slots=True, frozen=True)
class StreamMaxMoney:
    """What a stream may receive in all, and what it has received, in the receiver's asset."""

    stream_id: int
    receive_max: int
    total_received: int


@dataclass(slots=True, frozen=True)
class StreamMoneyBlocked:
    """More is to be sent on a stream than the other end takes."""

    stream_id: int
    send_max: int
    total_sent: int


@dataclass(slots=True, frozen=True)
class StreamData:
    """Data of an application."""

    stream_id: int
    offset: int
    data: bytes


@dataclass(slots=True, frozen=True)
class StreamMaxData:
    """How many octets of data the sender of this frame takes on a stream."""

    stream_id: int
    max_offset: int


@dataclass(slots=True, frozen=True)
class StreamDataBlocked:
    """More data is there than the other end takes on a stream."""

    stream_id: int
    max_offset: int


@dataclass(slots=True, frozen=True)
class StreamReceipt:
    """A receipt (RFC 39, deprecated): read, never made."""

    stream_id: int
    receipt: bytes


Frame = (
    ConnectionClose
    | ConnectionNewAddress
    | ConnectionMaxData
    | ConnectionDataBlocked
    | ConnectionMaxStreamId
    | ConnectionStreamIdBlocked
    | ConnectionAssetDetails
    | StreamClose
    | StreamMoney
    | StreamMaxMoney
    | StreamMoneyBlocked
    | StreamData
    | StreamMaxData
    | StreamDataBlocked
    | StreamReceipt
)


@dataclass(slots=True)
class StreamPacket:
    """What one end says to the other in an ILP packet."""

    sequence: int
    """Of the Prepare, and the same in its answer; 0 to 2**64 - 1."""
    packet_type: int
    """Of the ILP packet that carries it: 12, 13 or 14."""
    amount: int
    """In a Prepare the least that the receiver has to get; in an answer what it got, or would have."""
    frames: tuple[Frame, ...] = ()


# --- fields


def _read_uint(octets: bytes, at: int) -> tuple[int, int]:
    return read_var_uint(octets, at, "frame")


def _read_max(octets: bytes, at: int) -> tuple[int, int]:
    content, end = read_var_octets(octets, at, "frame")
    if not content:
        raise DecodeError("frame", at, "an integer of no octets")
    if len(content) > 8 and any(content[:-8]):
        return UINT_MAX, end
    return int.from_bytes(content[-8:], "big"), end


def _read_u8(octets: bytes, at: int) -> tuple[int, int]:
    if at >= len(octets):
        raise DecodeError("frame", at, "cut off")
    return octets[at], at + 1


def _read_text(octets: bytes, at: int) -> tuple[str, int]:
    content, end = read_var_octets(octets, at, "frame")
    try:
        return content.decode("utf-8"), end
    except UnicodeDecodeError:
        raise DecodeError("frame", at, "not UTF-8") from None


def _read_octets(octets: bytes, at: int) -> tuple[bytes, int]:
    return read_var_octets(octets, at, "frame")


def _u8(value: int) -> bytes:
    return value.to_bytes(1, "big")


def _text(value: str) -> bytes:
    return var_octets(value.encode("utf-8"))


_Read = Callable[[bytes, int], tuple[Any, int]]
_Write = Callable[[Any], bytes]
_UINT: Final[tuple[_Read, _Write]] = (_read_uint, var_uint)
_MAX: Final[tuple[_Read, _Write]] = (_read_max, var_uint)
_U8: Final[tuple[_Read, _Write]] = (_read_u8, _u8)
_TEXT: Final[tuple[_Read, _Write]] = (_read_text, _text)
_OCTETS: Final[tuple[_Read, _Write]] = (_read_octets, var_octets)

FRAMES: Final[dict[int, tuple[type[Frame], tuple[tuple[_Read, _Write], ...]]]] = {
    0x01: (ConnectionClose, (_U8, _TEXT)),
    0x02: (ConnectionNewAddress, (_TEXT,)),
    0x03: (ConnectionMaxData, (_MAX,)),
    0x04: (ConnectionDataBlocked, (_MAX,)),
    0x05: (ConnectionMaxStreamId, (_MAX,)),
    0x06: (ConnectionStreamIdBlocked, (_MAX,)),
    0x07: (ConnectionAssetDetails, (_TEXT, _U8)),
    0x10: (StreamClose, (_UINT, _U8, _TEXT)),
    0x11: (StreamMoney, (_UINT, _UINT)),
    0x12: (StreamMaxMoney, (_UINT, _MAX, _UINT)),
    0x13: (StreamMoneyBlocked, (_UINT, _MAX, _UINT)),
    0x14: (StreamData, (_UINT, _UINT, _OCTETS)),
    0x15: (StreamMaxData, (_UINT, _MAX)),
    0x16: (StreamDataBlocked, (_UINT, _MAX)),
    0x17: (StreamReceipt, (_UINT, _OCTETS)),
}
"""Every frame that is read, by its type: its class, and its fields in order."""
_TYPES: Final = {made: number for number, (made, _) in FRAMES.items()}


# --- packets


def read_head(octets: bytes) -> tuple[StreamPacket, int]:
    """A packet without its frames, and where their number stands.

    Raises:
        DecodeError: the octets are malformed.
    """
    if len(octets) < 2:
        raise DecodeError("stream packet", 0, "cut off")
    if octets[0] != VERSION:
        raise DecodeError("stream packet", 0, f"version {octets[0]}")
    sequence, at = read_var_uint(octets, 2, "sequence")
    amount, at = read_var_uint(octets, at, "amount")
    return StreamPacket(sequence, octets[1], amount), at


def decode(octets: bytes) -> StreamPacket:
    """The packet encoded in `octets`.

    Raises:
        DecodeError: the octets are malformed; no other exception is raised.
    """
    packet, at = read_head(octets)
    packet.frames = read_frames(octets, at)
    return packet


def read_frames(octets: bytes, at: int) -> tuple[Frame, ...]:
    """The frames whose number stands at `at`; those of unknown types are left out.

    Raises:
        DecodeError: fewer than declared, too many, or one is malformed.
    """
    count, at = read_var_uint(octets, at, "frames")
    if count > bounds.FRAMES_PER_PACKET_MAX:
        raise DecodeError("frames", at, f"{count}, at most {bounds.FRAMES_PER_PACKET_MAX} taken")
    frames: list[Frame] = []
    for _ in range(count):
        if at >= len(octets):
            raise DecodeError("frames", at, "fewer than declared")
        known = FRAMES.get(octets[at])
        content, at = read_var_octets(octets, at + 1, "frame")
        if known is None:
            continue
        made, fields = known
        values: list[Any] = []
        place = 0
        for read, _write in fields:
            value, place = read(content, place)
            values.append(value)
        frames.append(made(*values))
    return tuple(frames)


def encode(packet: StreamPacket) -> bytes:
    """The canonical octets of `packet`.

    Raises:
        ValueError: a field is out of its range.
    """
    if not (0 <= packet.sequence <= UINT_MAX and 0 <= packet.amount <= UINT_MAX):
        raise ValueError("sequence and amount lie between 0 and 2**64 - 1")
    return b"".join(
        (
            b"\x01",
            _u8(packet.packet_type),
            var_uint(packet.sequence),
            var_uint(packet.amount),
            var_uint(len(packet.frames)),
            *(_encode_frame(frame) for frame in packet.frames),
        )
    )


def _encode_frame(frame: Frame) -> bytes:
    number = _TYPES[type(frame)]
    content = b"".join(
        write(value)
        for (_read, write), value in zip(FRAMES[number][1], astuple(frame), strict=True)
    )
    return _u8(number) + var_octets(content)
