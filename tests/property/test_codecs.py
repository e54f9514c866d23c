"""Codecs: encoded values are decoded again; any octets are a value or a DecodeError."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import example, given
from hypothesis import strategies as st

from connector import oer
from connector.base.errors import DecodeError
from connector.btp import packet as btp
from connector.btp.packet import MESSAGE, RESPONSE, BtpError, Protocol
from connector.ilp import ildcp
from connector.ilp import packet as ilp
from connector.ilp.packet import Fulfill, Packet, Prepare, Reject
from tests.support import strategies as some


def outcome(read: Callable[[bytes], object], octets: bytes) -> object:
    """What `read` makes of `octets`: a value, or None for a DecodeError; nothing else may come."""
    try:
        return read(octets)
    except DecodeError:
        return None


# --- RFC 30


@given(st.binary(max_size=70_000) | some.payloads, st.binary(max_size=3), st.binary(max_size=3))
def test_octet_strings_come_back_from_anywhere(value: bytes, before: bytes, after: bytes) -> None:
    octets = before + oer.var_octets(value) + after
    end = len(octets) - len(after)
    assert oer.read_var_octets(octets, len(before), "f", strict=True) == (value, end)
    assert oer.length_size(len(value)) == end - len(before) - len(value)


@given(st.integers(0, 2**64 - 1), st.binary(max_size=3))
def test_integers_come_back(value: int, after: bytes) -> None:
    octets = oer.var_uint(value)
    assert oer.read_var_uint(octets + after, 0, "f", strict=True) == (value, len(octets))


@given(some.hostile(some.payloads.map(oer.var_octets)), st.booleans())
def test_a_length_never_reaches_beyond_what_is_there(octets: bytes, strict: bool) -> None:
    found = outcome(lambda o: oer.read_var_octets(o, 0, "f", strict=strict), octets)
    if found is not None:
        value, end = found
        assert end <= len(octets)
        assert octets[end - len(value) : end] == value
        if strict:
            assert octets[:end] == oer.var_octets(value)


@given(some.hostile(st.integers(0, 2**64 - 1).map(oer.var_uint)), st.booleans())
def test_an_integer_is_read_or_a_decode_error(octets: bytes, strict: bool) -> None:
    found = outcome(lambda o: oer.read_var_uint(o, 0, "f", strict=strict), octets)
    if found is not None and strict:
        value, end = found
        assert octets[:end] == oer.var_uint(value)


# --- ILPv4


@given(some.ilp_packets)
def test_ilp_packets_come_back_and_keep_their_octets(value: Packet) -> None:
    octets = ilp.encode(value)
    decoded = ilp.decode(octets)
    assert decoded == value
    assert decoded.wire == octets


@given(some.moments_ms)
def test_moments_come_back(at_ms: int) -> None:
    assert ilp.read_time(ilp.write_time(at_ms)) == at_ms
    assert btp.read_generalized_time(btp.write_generalized_time(at_ms)) == at_ms


@given(some.moments_ms, some.moments_ms)
def test_moments_are_in_order_as_octets(one_ms: int, other_ms: int) -> None:
    one, other = ilp.write_time(one_ms), ilp.write_time(other_ms)
    assert (one < other) == (one_ms < other_ms)


@given(some.hostile(some.ilp_octets | some.prepares.map(ilp.encode)))
def test_ilp_octets_are_a_packet_or_a_decode_error_for_every_way_in(octets: bytes) -> None:
    value = outcome(ilp.decode, octets)
    prepare = outcome(ilp.decode_prepare, octets)
    assert isinstance(prepare, Prepare | None)
    if value is not None:
        assert isinstance(value, Prepare | Fulfill | Reject)
        # The octets are kept exactly when they are the only encoding of the fields. One that
        # expires before 1970 is readable, long expired, and never written again.
        if not (isinstance(value, Prepare) and value.expires_at_ms < 0):
            assert (value.wire is not None) == (ilp.encode(value) == octets)
    # The short ways agree with the long one. An octet behind the body is ignored, but rules the
    # short ways out.
    try:
        length, at = oer.read_length(octets, 1, "body")
    except DecodeError:
        return
    if at + length == len(octets):
        assert outcome(ilp.decode, octets + b"\x00") == value
        if octets[0] == ilp.PREPARE:
            assert prepare == value


@given(some.prepares, some.amounts, some.moments_ms, st.binary(max_size=3))
def test_repricing_changes_amount_and_expiry_and_nothing_else(
    original: Prepare, amount: int, expires_at_ms: int, behind: bytes
) -> None:
    received = ilp.decode_prepare(ilp.encode(original) + behind)
    repriced = ilp.reprice(received, amount=amount, expires_at_ms=expires_at_ms)
    assert repriced == ilp.encode(
        Prepare(
            amount=amount,
            expires_at_ms=expires_at_ms,
            condition=original.condition,
            destination=original.destination,
            data=original.data,
        )
    )


@given(some.hostile(some.moments_ms.map(ilp.write_time)))
def test_time_octets_are_a_moment_or_a_decode_error(octets: bytes) -> None:
    at_ms = outcome(ilp.read_time, octets)
    if isinstance(at_ms, int) and at_ms >= 0:
        assert ilp.write_time(at_ms) == octets


# --- ILDCP


@given(some.child_configs)
def test_child_configurations_come_back(config: ildcp.ChildConfig) -> None:
    octets = ilp.encode(ildcp.answer(config))
    received = ilp.decode(octets)
    assert isinstance(received, Fulfill)
    assert ildcp.read_answer(received) == config


@given(some.hostile(some.child_configs.map(lambda config: ildcp.answer(config).data)))
def test_ildcp_octets_are_a_configuration_or_a_decode_error(data: bytes) -> None:
    config = outcome(
        lambda octets: ildcp.read_answer(Fulfill(fulfillment=bytes(32), data=octets)), data
    )
    if config is not None:
        assert ildcp.read_answer(ildcp.answer(config)) == config


# --- BTP


@given(some.any_btp)
def test_btp_packets_come_back(value: btp.BtpPacket | BtpError) -> None:
    assert btp.decode(btp.encode(value)) == value


ilp_messages = st.builds(
    btp.encode_ilp,
    st.sampled_from((MESSAGE, RESPONSE)),
    some.request_ids,
    some.ilp_octets | some.payloads,
    st.just(0) | some.packet_ids,
)


@given(some.hostile(ilp_messages | some.btp_octets))
@example(b"\x06\x00\x00\x00\x09\x89" + bytes(8) + b"\x09\x01\x01\x03ilp\x00\x01a")
@example(b"\x06\x00\x00\x00\x09\x08\x01\x01\x03ilp\x00\x80")
def test_btp_octets_are_a_packet_or_a_decode_error_for_both_ways_in(octets: bytes) -> None:
    value = outcome(btp.decode, octets)
    if isinstance(value, btp.BtpPacket | BtpError):
        assert btp.read_head(octets) == (value.kind, value.request_id)
        if not (isinstance(value, BtpError) and value.triggered_at_ms < 0):
            assert btp.decode(btp.encode(value)) == value
    else:
        assert value is None
    short = btp.read_ilp(octets)
    if short is None or short[0] not in (MESSAGE, RESPONSE):
        return  # the session takes the long way for these
    kind, request_id, inner, packet_id = short
    assert isinstance(value, btp.BtpPacket)
    assert (value.kind, value.request_id) == (kind, request_id)
    beside = [Protocol("packet-id", 0, packet_id.to_bytes(16, "big"))]
    carried = [Protocol("ilp", 0, inner)]
    assert value.protocols in (carried, carried + beside)
    if packet_id:
        assert value.protocols == carried + beside


@given(
    st.sampled_from((MESSAGE, RESPONSE)),
    some.request_ids,
    some.ilp_octets | some.payloads,
    st.just(0) | some.packet_ids,
)
def test_what_carries_ilp_is_always_read_the_short_way(
    kind: int, request_id: int, inner: bytes, packet_id: int
) -> None:
    octets = btp.encode_ilp(kind, request_id, inner, packet_id)
    assert btp.read_ilp(octets) == (kind, request_id, inner, packet_id)


@given(some.hostile(some.moments_ms.map(btp.write_generalized_time)))
def test_generalized_time_is_a_moment_or_a_decode_error(octets: bytes) -> None:
    at_ms = outcome(btp.read_generalized_time, octets)
    if isinstance(at_ms, int):
        assert btp.read_generalized_time(btp.write_generalized_time(at_ms)) == at_ms
