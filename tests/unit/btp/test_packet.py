"""BTP packets, octet by octet (RFC 23)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from connector.base.errors import DecodeError
from connector.btp import bounds as btp_bounds
from connector.btp import packet
from connector.btp.packet import (
    ERROR,
    MESSAGE,
    RESPONSE,
    TRANSFER,
    BtpError,
    BtpPacket,
    ContentType,
    Protocol,
)
from connector.oer import var_octets, var_uint

ILP = Protocol("ilp", ContentType.OCTET_STREAM, b"\x0d\x00")
NOTE = Protocol("note", ContentType.TEXT, "größe".encode())
JSON = Protocol("custom", ContentType.JSON, b"{}")
ID = Protocol("packet-id", ContentType.OCTET_STREAM, bytes(range(16)))
ID_VALUE = int.from_bytes(bytes(range(16)), "big")
MOMENT_MS = 1_504_004_849_123

PACKETS = {
    "06 00000001 02 0100": BtpPacket(kind=MESSAGE, request_id=1),
    "01 ffffffff 02 0100": BtpPacket(kind=RESPONSE, request_id=2**32 - 1),
    "06 00000007 0a 0101 03 696c70 00 02 0d00": BtpPacket(
        kind=MESSAGE, request_id=7, protocols=[ILP]
    ),
    "06 00000007 23 0103 03 696c70 00 02 0d00 04 6e6f7465 01 07 6772c3b6c39f65"
    "06 637573746f6d 02 02 7b7d": BtpPacket(
        kind=MESSAGE, request_id=7, protocols=[ILP, NOTE, JSON]
    ),
    "07 0000002a 0a 0000000000000005 0100": BtpPacket(kind=TRANSFER, request_id=42, amount=5),
    "07 0000002a 12 ffffffffffffffff 0101 03 696c70 00 02 0d00": BtpPacket(
        kind=TRANSFER, request_id=42, amount=2**64 - 1, protocols=[ILP]
    ),
    "02 0000004d 2c 463030 10 556e726561636861626c654572726f72 13 32303137303832393131303732392e3132335a"
    "01 78 0100": BtpError(
        request_id=77, code="F00", name="UnreachableError", triggered_at_ms=MOMENT_MS, data=b"x"
    ),
}


def octets_of(text: str) -> bytes:
    return bytes.fromhex(text)


def message(body: bytes, kind: int = MESSAGE) -> bytes:
    return bytes((kind, 0, 0, 0, 9)) + var_octets(body)


def error_body(
    *,
    code: bytes = b"F00",
    name: bytes = b"\x01E",
    moment: bytes = b"\x0f19700101000000Z",
    data: bytes = b"\x00",
    protocols: bytes = b"\x01\x00",
) -> bytes:
    return code + name + moment + data + protocols


def protocols_body(*names: bytes) -> bytes:
    return var_uint(len(names)) + b"".join(var_octets(name) + b"\x00\x00" for name in names)


# --- both directions


@pytest.mark.parametrize("text", PACKETS, ids=[p.__class__.__name__ for p in PACKETS.values()])
def test_a_packet_is_written_as_the_rfc_says_and_read_back(text: str) -> None:
    value = PACKETS[text]
    octets = octets_of(text)
    # The length octet in the table is checked here, so that a slip in it is seen.
    assert octets[5] == len(octets) - 6
    assert packet.encode(value) == octets
    assert packet.decode(octets) == value


@pytest.mark.parametrize("text", PACKETS)
def test_a_packet_cut_off_anywhere_is_refused(text: str) -> None:
    octets = octets_of(text)
    for size in range(len(octets)):
        with pytest.raises(DecodeError):
            packet.decode(octets[:size])


def test_the_kind_of_an_error_is_error() -> None:
    decoded = packet.decode(message(error_body(), ERROR))
    assert decoded.kind == ERROR
    assert decoded == BtpError(request_id=9, code="F00", name="E", triggered_at_ms=0)


def test_packets_without_protocols_share_no_list() -> None:
    one, other = (BtpPacket(kind=MESSAGE, request_id=1) for _ in range(2))
    assert one.protocols is not other.protocols


def test_the_head_is_read_without_the_body() -> None:
    assert packet.read_head(b"\x06\x00\x00\x01\x00") == (MESSAGE, 256)


@pytest.mark.parametrize("kind", [0, 3, 4, 5, 8, 255])
def test_an_unknown_type_is_refused(kind: int) -> None:
    octets = bytes((kind,)) + b"\x00\x00\x00\x01\x02\x01\x00"
    with pytest.raises(DecodeError, match=f"unknown type {kind}"):
        packet.decode(octets)


def test_octets_behind_the_known_fields_are_ignored() -> None:
    plain = packet.decode(message(b"\x01\x00"))
    assert packet.decode(message(b"\x01\x00more")) == plain
    assert packet.decode(message(b"\x01\x00") + b"more") == plain


def test_longer_forms_of_lengths_and_counts_are_read() -> None:
    body = b"\x02\x00\x01" + b"\x81\x03ilp" + b"\x00" + b"\x82\x00\x02\x0d\x00"
    octets = b"\x06\x00\x00\x00\x09\x81" + bytes((len(body),)) + body
    assert packet.decode(octets) == BtpPacket(kind=MESSAGE, request_id=9, protocols=[ILP])


def test_an_unknown_content_type_is_read() -> None:
    decoded = packet.decode(message(b"\x01\x01\x01x\xff\x00"))
    assert decoded.protocols == [Protocol("x", 255, b"")]


@pytest.mark.parametrize(
    ("octets", "field"),
    [
        (b"", "BTP packet"),
        (b"\x06\x00\x00\x00", "BTP packet"),
        (b"\x06\x00\x00\x00\x01", "BTP body"),
        (b"\x06\x00\x00\x00\x01\x05\x01\x00", "BTP body"),
        (message(b""), "protocol count"),
        (message(b"\x00"), "protocol count"),
        (message(b"\x09" + bytes(9)), "protocol count"),
        (message(b"\x01\x01"), "protocol name"),
        (message(b"\x01\x01\x04ilp"), "protocol name"),
        (message(b"\x01\x01\x01\xff\x00\x00"), "protocol name"),
        (message(b"\x01\x01\x03ilp"), "content type"),
        (message(b"\x01\x01\x03ilp\x00"), "protocol data"),
        (message(b"\x01\x01\x03ilp\x00\x01"), "protocol data"),
        (message(protocols_body(b"a", b"b", b"a")), "protocol name"),
        (message(protocols_body(b"n" * 256)), "protocol name"),
        (message(bytes(7), TRANSFER), "amount"),
        (message(bytes(8), TRANSFER), "protocol count"),
        (message(b"", ERROR), "error code"),
        (message(error_body(code=b"f00"), ERROR), "error code"),
        (message(error_body(code=b"F0\xb2"), ERROR), "error code"),
        (message(error_body(name=b"\x01\xff"), ERROR), "error name"),
        (message(error_body(moment=b"\x0e19700101000000"), ERROR), "error time"),
        (message(error_body(data=b"\x7f"), ERROR), "error data"),
        (message(error_body(protocols=b""), ERROR), "protocol count"),
    ],
)
def test_a_malformed_packet_names_the_field_at_fault(octets: bytes, field: str) -> None:
    with pytest.raises(DecodeError) as caught:
        packet.decode(octets)
    assert caught.value.field == field


def test_a_field_may_not_reach_beyond_the_body() -> None:
    with pytest.raises(DecodeError):
        packet.decode(message(b"\x01\x01\x03ilp\x00\x04ab") + b"cd")


def test_a_packet_may_have_exactly_as_many_protocols_as_allowed() -> None:
    names = [b"%d" % number for number in range(btp_bounds.BTP_PROTOCOLS_MAX + 1)]
    decoded = packet.decode(message(protocols_body(*names[:-1])))
    assert len(decoded.protocols) == btp_bounds.BTP_PROTOCOLS_MAX
    with pytest.raises(DecodeError, match="at most 32"):
        packet.decode(message(protocols_body(*names)))


def test_a_huge_count_is_refused_before_anything_is_read() -> None:
    with pytest.raises(DecodeError, match="18446744073709551615, at most 32"):
        packet.decode(message(b"\x08" + b"\xff" * 8))


def test_a_protocol_name_may_have_exactly_its_bound() -> None:
    name = "n" * btp_bounds.BTP_PROTOCOL_NAME_BYTES_MAX
    decoded = packet.decode(message(protocols_body(name.encode())))
    assert decoded.protocols == [Protocol(name, 0, b"")]


def test_error_data_may_have_exactly_its_bound() -> None:
    full = bytes(btp_bounds.BTP_ERROR_DATA_BYTES_MAX)
    value = BtpError(request_id=9, code="F00", name="E", triggered_at_ms=0, data=full)
    assert packet.decode(packet.encode(value)) == value
    with pytest.raises(DecodeError) as caught:
        packet.decode(message(error_body(data=var_octets(full + b"!")), ERROR))
    assert caught.value.field == "error data"


# --- the short way


@pytest.mark.parametrize("kind", [MESSAGE, RESPONSE])
@pytest.mark.parametrize("size", [0, 1, 100, 113, 114, 127, 128, 255, 256, 32_767])
@pytest.mark.parametrize("packet_id", [0, 1, 2**128 - 1])
def test_fast_path_and_general_decoder_read_the_same_ilp(
    kind: int, size: int, packet_id: int
) -> None:
    ilp = bytes(size)
    octets = packet.encode_ilp(kind, 258, ilp, packet_id)
    assert packet.read_ilp(octets) == (kind, 258, ilp, packet_id)
    protocols = [Protocol("ilp", 0, ilp)]
    if packet_id:
        protocols.append(Protocol("packet-id", 0, packet_id.to_bytes(16, "big")))
    assert packet.decode(octets) == BtpPacket(kind=kind, request_id=258, protocols=protocols)


@pytest.mark.parametrize(
    "protocols",
    [
        [],
        [NOTE],
        [ILP, NOTE],
        [NOTE, ILP],
        [ID, ILP],
        [ILP, ID, NOTE],
        [ILP, ID._replace(data=bytes(15))],
        [ILP, ID._replace(data=bytes(17))],
        [ILP, ID._replace(content_type=1)],
        [ILP, ID._replace(name="packet_id")],
        [ILP._replace(content_type=1)],
        [ILP._replace(name="ilq")],
    ],
)
def test_every_other_form_is_left_to_the_general_decoder(protocols: list[Protocol]) -> None:
    octets = packet.encode(BtpPacket(kind=MESSAGE, request_id=1, protocols=protocols))
    assert packet.read_ilp(octets) is None


@pytest.mark.parametrize("size", [0, 113, 300])
def test_a_packet_marked_as_resent_is_left_to_the_general_decoder(size: int) -> None:
    octets = packet.encode_ilp(MESSAGE, 258, bytes(size), ID_VALUE, again=True)
    assert packet.read_ilp(octets) is None
    again = Protocol("packet-again", 0, b"")
    assert packet.decode(octets) == BtpPacket(
        kind=MESSAGE, request_id=258, protocols=[Protocol("ilp", 0, bytes(size)), ID, again]
    )


@pytest.mark.parametrize("packet_id", [0, ID_VALUE])
@pytest.mark.parametrize("size", [2, 200])
def test_a_damaged_packet_is_left_to_the_general_decoder(size: int, packet_id: int) -> None:
    octets = packet.encode_ilp(MESSAGE, 1, bytes(size), packet_id)
    for cut in range(len(octets)):
        assert packet.read_ilp(octets[:cut]) is None
    assert packet.read_ilp(octets + b"!") is None


@pytest.mark.parametrize(
    "body",
    [
        b"\x01\x01\x03ilp\x00",
        b"\x01\x01\x03ilp\x00\x80",
        b"\x01\x01\x03ilp\x00\x81",
        b"\x01\x01\x03ilp\x00\x89" + bytes(9),
        b"\x01\x01\x03ilp\x00\x89" + bytes(8) + b"\x01a",
        b"\x01\x01\x03ilp\x00\xff" + bytes(127),
        b"\x01\x01\x03ilp\x00\x03ab",
        b"\x01\x01\x03ilp\x00\x01ab",
        b"\x01\x02\x03ilp\x00\x01a",
    ],
)
def test_a_wrong_length_is_left_to_the_general_decoder(body: bytes) -> None:
    assert packet.read_ilp(message(body)) is None


@pytest.mark.parametrize("head", [b"\x80", b"\x89" + bytes(8), b"\xff" + bytes(126)])
def test_an_absurd_body_length_is_left_to_the_general_decoder(head: bytes) -> None:
    body = b"\x01\x01\x03ilp\x00\x01a"
    size = b"" if head == b"\x80" else bytes((len(body),))
    octets = b"\x06\x00\x00\x00\x09" + head + size + body
    assert packet.read_ilp(octets) is None
    with pytest.raises(DecodeError):
        packet.decode(octets)


def test_the_fast_path_reads_a_longer_form_of_a_length() -> None:
    octets = b"\x06\x00\x00\x00\x09\x81\x0b\x01\x01\x03ilp\x00\x82\x00\x01a"
    assert packet.read_ilp(octets) == (MESSAGE, 9, b"a", 0)
    assert packet.decode(octets).protocols == [Protocol("ilp", 0, b"a")]


def test_the_empty_response_says_that_it_has_no_protocols() -> None:
    octets = packet.encode_empty_response(7920)
    assert octets == bytes.fromhex("0100001ef0020100")
    assert packet.decode(octets) == BtpPacket(kind=RESPONSE, request_id=7920)


# --- writing


def btp(**fields: object) -> BtpPacket:
    return BtpPacket(**{"kind": MESSAGE, "request_id": 1} | fields)


@pytest.mark.parametrize("request_id", [0, 2**32 - 1])
@pytest.mark.parametrize("content_type", [0, 255])
def test_a_field_at_the_end_of_its_range_is_written(request_id: int, content_type: int) -> None:
    value = btp(request_id=request_id, protocols=[Protocol("x", content_type, b"")])
    assert packet.decode(packet.encode(value)) == value


A_FAULT = BtpError(request_id=1, code="F00", name="E", triggered_at_ms=0)


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (btp(request_id=-1), "request id"),
        (btp(request_id=2**32), "request id"),
        (btp(protocols=[ILP, ILP]), "twice"),
        (btp(protocols=[Protocol("x", 256, b"")]), "content type"),
        (btp(protocols=[Protocol("x", -1, b"")]), "content type"),
        (btp(kind=TRANSFER), "amount"),
        (btp(kind=TRANSFER, amount=-1), "amount"),
        (btp(kind=TRANSFER, amount=2**64), "amount"),
        (replace(A_FAULT, request_id=2**32), "request id"),
        (replace(A_FAULT, data=bytes(btp_bounds.BTP_ERROR_DATA_BYTES_MAX + 1)), "8192"),
        (replace(A_FAULT, code="F0"), "code"),
        (replace(A_FAULT, code="Fé0"), "code"),
    ],
)
def test_a_field_out_of_its_range_is_not_written(value: BtpPacket | BtpError, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        packet.encode(value)


@pytest.mark.parametrize("code", packet.ERROR_NAMES)
def test_every_error_of_the_rfc_round_trips(code: str) -> None:
    value = BtpError(
        request_id=1, code=code, name=packet.ERROR_NAMES[code], triggered_at_ms=MOMENT_MS
    )
    assert packet.decode(packet.encode(value)) == value


# --- time


@pytest.mark.parametrize(
    ("text", "at_ms"),
    [
        (b"19700101000000Z", 0),
        (b"20170829110729.123Z", MOMENT_MS),
        (b"20170829110729.12Z", MOMENT_MS - 3),
        (b"20170829110729.1Z", MOMENT_MS - 23),
        (b"20170829110729Z", MOMENT_MS - 123),
        (b"19691231235959.999Z", -1),
        (b"99991231235959.999Z", 253_402_300_799_999),
    ],
)
def test_a_moment_is_written_without_trailing_zeros(text: bytes, at_ms: int) -> None:
    assert packet.write_generalized_time(at_ms) == text
    assert packet.read_generalized_time(text) == at_ms


@pytest.mark.parametrize(
    ("text", "at_ms"),
    [
        (b"19700101000000.000Z", 0),
        (b"20170829110729.120Z", MOMENT_MS - 3),
        (b"20170829110729.100Z", MOMENT_MS - 23),
    ],
)
def test_the_trailing_zeros_of_js_are_read(text: bytes, at_ms: int) -> None:
    assert packet.read_generalized_time(text) == at_ms


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"20170829110729",
        b"20170829110729.Z",
        b"20170829110729.1234Z",
        b"20170829110729+0000",
        b"20170829110729.123z",
        b"2017082911072Z",
        b"20171329110729Z",
        b"20170431110729Z",
        b"20170829240729Z",
        b"20170829116029Z",
        b"20170829110760Z",
        b"20161231235960Z",  # a leap second that did happen
        b"20161231235961Z",
        b"00000829110729Z",
        b"20170829110729Z\n",
    ],
)
def test_an_invalid_time_is_refused(text: bytes) -> None:
    with pytest.raises(DecodeError) as caught:
        packet.read_generalized_time(text, 12)
    assert (caught.value.field, caught.value.offset) == ("error time", 12)


@pytest.mark.parametrize("size", [0, 1, 0x77, 0x78, 0x7F, 0x80, 0xF6, 0xF7, 0xFF, 0x100, 32_000])
def test_fast_encoders_give_the_same_octets_as_the_general_one(size: int) -> None:
    ilp = bytes(size)
    carried = packet.BtpPacket(
        kind=packet.MESSAGE, request_id=7, protocols=[packet.Protocol("ilp", 0, ilp)]
    )
    assert packet.encode_ilp(packet.MESSAGE, 7, ilp) == packet.encode(carried)
