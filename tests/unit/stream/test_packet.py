"""STREAM packets: the published vectors, round trips, hostile octets."""

from __future__ import annotations

import base64
import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector.base.errors import DecodeError
from connector.oer import var_octets
from connector.stream import bounds
from connector.stream.packet import (
    FRAMES,
    UINT_MAX,
    Frame,
    StreamMaxMoney,
    StreamMoney,
    StreamPacket,
    decode,
    encode,
)

VECTORS = json.loads((Path(__file__).parents[2] / "conformance/stream_packets.json").read_text())

_INTEGERS = st.integers(0, UINT_MAX)
_BY_TYPE: dict[str, st.SearchStrategy[Any]] = {
    "int": _INTEGERS,
    "str": st.text(max_size=40),
    "bytes": st.binary(max_size=40),
}


def _frames() -> st.SearchStrategy[Frame]:
    made = []
    for kind, _fields in FRAMES.values():
        arguments = {
            field.name: st.integers(0, 255)
            if field.name in ("error_code", "asset_scale")
            else _BY_TYPE[str(field.type)]
            for field in dataclasses.fields(kind)
        }
        made.append(st.builds(kind, **arguments))
    return st.one_of(made)


PACKETS = st.builds(
    StreamPacket,
    _INTEGERS,
    st.sampled_from((12, 13, 14)),
    _INTEGERS,
    st.lists(_frames(), max_size=8).map(tuple),
)


def _as_published(frame: Frame, names: list[str]) -> dict[str, Any]:
    """The fields of a frame under the names of the fixtures, which are in the same order."""
    shown: dict[str, Any] = {}
    for name, value in zip(names, dataclasses.astuple(frame), strict=True):
        if isinstance(value, bytes):
            shown[name] = base64.b64encode(value).decode()
        elif name in ("errorCode", "sourceAssetScale"):
            shown[name] = value
        else:
            shown[name] = str(value)
    return {"name": type(frame).__name__, **shown}


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_the_published_packets_are_read_and_written(vector: dict[str, Any]) -> None:
    octets, wanted = base64.b64decode(vector["buffer"]), vector["packet"]
    packet = decode(octets)
    assert packet.sequence == int(wanted["sequence"])
    assert packet.packet_type == wanted["packetType"]
    assert packet.amount == int(wanted["amount"])
    found = []
    for frame, one in zip(packet.frames, wanted["frames"], strict=True):
        names = [name for name in one if name not in ("type", "name")]
        found.append({"type": one["type"], **_as_published(frame, names)})
    assert found == wanted["frames"]
    if not vector.get("decode_only"):
        assert encode(packet) == octets


def test_there_are_all_of_the_published_vectors() -> None:
    assert len(VECTORS) == 53


@given(PACKETS, st.binary(max_size=20))
def test_what_is_written_is_read_and_trailing_octets_are_ignored(
    packet: StreamPacket, junk: bytes
) -> None:
    assert decode(encode(packet) + junk) == packet


@given(PACKETS)
def test_a_packet_that_is_cut_off_is_refused(packet: StreamPacket) -> None:
    octets = encode(packet)
    for end in range(len(octets)):
        with pytest.raises(DecodeError):
            decode(octets[:end])


def test_frames_of_unknown_types_are_left_out() -> None:
    octets = bytes((1, 12)) + b"\x01\x05" + b"\x01\x00" + b"\x01\x02"
    octets += b"\x63" + var_octets(b"anything") + b"\x11" + var_octets(b"\x01\x01\x01\x07")
    assert decode(octets) == StreamPacket(5, 12, 0, (StreamMoney(1, 7),))


@pytest.mark.parametrize("octets", [9, 12, 200])
def test_a_maximum_beyond_64_bits_means_no_limit(octets: int) -> None:
    content = b"\x01\x01" + var_octets(b"\x01" + bytes(octets - 1)) + b"\x01\x00"
    packet = decode(b"\x01\x0c\x01\x00\x01\x00\x01\x01\x12" + var_octets(content))
    assert packet.frames == (StreamMaxMoney(1, UINT_MAX, 0),)


def test_as_many_frames_as_are_taken_and_one_more() -> None:
    one = b"\x11" + var_octets(b"\x01\x01\x01\x01")
    head = b"\x01\x0c\x01\x00\x01\x00\x02"
    most = bounds.FRAMES_PER_PACKET_MAX
    assert len(decode(head + most.to_bytes(2, "big") + one * most).frames) == most
    with pytest.raises(DecodeError, match="at most"):
        decode(head + (most + 1).to_bytes(2, "big") + one * (most + 1))


@pytest.mark.parametrize(
    "octets",
    [
        b"\x02\x0c\x01\x00\x01\x00\x01\x00",
        b"\x01\x0c\x09\x01" + bytes(8) + b"\x01\x00\x01\x00",
        b"\x01\x0c\x01\x00\x01\x00\x01\x01\x11\x01\x01",
        b"\x01\x0c\x01\x00\x01\x00\x01\x01\x02\x03\x02\xff\xff",
    ],
    ids=["another version", "a sequence of 9 octets", "a frame cut off inside", "no UTF-8"],
)
def test_malformed_packets_are_refused(octets: bytes) -> None:
    with pytest.raises(DecodeError):
        decode(octets)
