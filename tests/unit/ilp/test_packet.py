"""ILPv4 packets, octet by octet (RFC 27)."""

from __future__ import annotations

import pytest

from connector.base import limits
from connector.base.errors import DecodeError
from connector.ilp import packet
from connector.ilp.packet import Code, Fulfill, Prepare, Reject
from connector.oer import var_octets

CONDITION = bytes(range(32))
EXPIRY = b"20171223012140549"
EXPIRY_MS = 1_513_992_100_549
PREPARE = Prepare(
    amount=107,
    expires_at_ms=EXPIRY_MS,
    condition=CONDITION,
    destination="example.alice",
    data=b"hi",
)
FULFILL = Fulfill(fulfillment=CONDITION, data=b"hi")
REJECT = Reject(code="F02", triggered_by="g.us", message="größe", data=b"hi")

PREPARE_BODY = (107).to_bytes(8, "big") + EXPIRY + CONDITION + b"\x0dexample.alice" + b"\x02hi"
FULFILL_BODY = CONDITION + b"\x02hi"
REJECT_BODY = b"F02" + b"\x04g.us" + b"\x07gr\xc3\xb6\xc3\x9fe" + b"\x02hi"
WIRE = [
    (PREPARE, b"\x0c" + var_octets(PREPARE_BODY)),
    (FULFILL, b"\x0d" + var_octets(FULFILL_BODY)),
    (REJECT, b"\x0e" + var_octets(REJECT_BODY)),
]
KINDS = ["prepare", "fulfill", "reject"]
BODIES = [(12, PREPARE_BODY), (13, FULFILL_BODY), (14, REJECT_BODY)]


def prepare_octets(
    *,
    amount: bytes = bytes(8),
    expiry: bytes = EXPIRY,
    condition: bytes = CONDITION,
    destination: bytes = b"g.a",
    rest: bytes = b"\x00",
) -> bytes:
    return b"\x0c" + var_octets(amount + expiry + condition + var_octets(destination) + rest)


def changed(original: Prepare, **fields: object) -> Prepare:
    names = ("amount", "expires_at_ms", "condition", "destination", "data")
    return Prepare(**{name: getattr(original, name) for name in names} | fields)


# --- both directions


@pytest.mark.parametrize(("value", "octets"), WIRE, ids=KINDS)
def test_a_packet_is_written_as_the_rfc_says_and_read_back(
    value: packet.Packet, octets: bytes
) -> None:
    assert packet.encode(value) == octets
    assert packet.decode(octets) == value


@pytest.mark.parametrize(("value", "octets"), WIRE, ids=KINDS)
def test_a_packet_in_canonical_form_keeps_its_octets(value: packet.Packet, octets: bytes) -> None:
    assert packet.decode(octets).wire is octets
    assert value.wire is None


@pytest.mark.parametrize(("kind", "body"), BODIES, ids=KINDS)
@pytest.mark.parametrize("form", ["longer length", "octets in the body", "octets behind the body"])
def test_another_form_is_read_and_its_octets_are_not_kept(
    kind: int, body: bytes, form: str
) -> None:
    plain = packet.decode(bytes((kind,)) + var_octets(body))
    octets = {
        "longer length": bytes((kind, 0x82)) + len(body).to_bytes(2, "big") + body,
        "octets in the body": bytes((kind,)) + var_octets(body + b"more"),
        "octets behind the body": bytes((kind,)) + var_octets(body) + b"more",
    }[form]
    value = packet.decode(octets)
    assert value == plain
    assert value.wire is None
    assert packet.encode(value) == plain.wire


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (12, PREPARE_BODY.replace(b"\x0dexample", b"\x81\x0dexample")),
        (12, PREPARE_BODY.replace(b"\x02hi", b"\x81\x02hi")),
        (13, FULFILL_BODY.replace(b"\x02hi", b"\x81\x02hi")),
        (14, REJECT_BODY.replace(b"\x04g.us", b"\x81\x04g.us")),
        (14, REJECT_BODY.replace(b"\x07gr", b"\x81\x07gr")),
        (14, REJECT_BODY.replace(b"\x02hi", b"\x82\x00\x02hi")),
    ],
)
def test_a_longer_length_inside_a_packet_makes_it_not_canonical(kind: int, body: bytes) -> None:
    value = packet.decode(bytes((kind,)) + var_octets(body))
    assert value in (PREPARE, FULFILL, REJECT)
    assert value.wire is None


@pytest.mark.parametrize("amount", [0, 1, limits.AMOUNT_MAX])
def test_every_amount_of_64_bits_round_trips(amount: int) -> None:
    octets = packet.encode(changed(PREPARE, amount=amount))
    decoded = packet.decode_prepare(octets)
    assert decoded.amount == amount


def test_data_may_have_exactly_its_bound() -> None:
    full = bytes(limits.PACKET_DATA_BYTES_MAX)
    for value in (
        changed(PREPARE, data=full),
        Fulfill(fulfillment=CONDITION, data=full),
        Reject(code="F00", data=full),
    ):
        assert packet.decode(packet.encode(value)).data == full


@pytest.mark.parametrize(
    "octets",
    [
        prepare_octets(rest=var_octets(bytes(limits.PACKET_DATA_BYTES_MAX + 1))),
        b"\x0d" + var_octets(CONDITION + var_octets(bytes(limits.PACKET_DATA_BYTES_MAX + 1))),
        b"\x0e" + var_octets(b"F00\x00\x00" + var_octets(bytes(limits.PACKET_DATA_BYTES_MAX + 1))),
    ],
    ids=KINDS,
)
def test_data_one_octet_over_its_bound_is_refused(octets: bytes) -> None:
    with pytest.raises(DecodeError) as caught:
        packet.decode(octets)
    assert caught.value.field == "data"


# --- reading


@pytest.mark.parametrize(
    ("octets", "field"),
    [
        (b"", "packet"),
        (b"\x00", "packet"),
        (b"\x0b\x00", "packet"),
        (b"\x0f\x00", "packet"),
        (b"\x0c", "prepare"),
        (b"\x0c\x00", "prepare"),
        (b"\x0c\x38" + bytes(56), "prepare"),
        (b"\x0d", "fulfill"),
        (b"\x0d\x1f" + bytes(31), "fulfillment"),
        (b"\x0d\x20" + bytes(32), "data"),
        (b"\x0e", "reject"),
        (b"\x0e\x00", "code"),
        (b"\x0e\x02F0", "code"),
        (b"\x0e\x06f00\x00\x00\x00", "code"),
        (b"\x0e\x06F0x\x00\x00\x00", "code"),
        (b"\x0e\x06F\xd9\xa0\x00\x00\x00", "code"),
        (b"\x0e\x03F00", "triggered by"),
        (b"\x0e\x05F00\x01 ", "triggered by"),
        (b"\x0e\x04F00\x00", "message"),
        (b"\x0e\x06F00\x00\x01\xff", "message"),
        (b"\x0e\x05F00\x00\x00", "data"),
        (prepare_octets(expiry=b"2017122301214054x"), "expiry"),
        (prepare_octets(destination=b""), "address"),
        (prepare_octets(destination=b"g"), "address"),
        (prepare_octets(destination=b"g." + b"a" * 1022), "destination"),
        (prepare_octets(rest=b""), "data"),
        (prepare_octets(rest=b"\x01"), "data"),
    ],
)
def test_a_malformed_packet_names_the_field_at_fault(octets: bytes, field: str) -> None:
    with pytest.raises(DecodeError) as caught:
        packet.decode(octets)
    assert caught.value.field == field


@pytest.mark.parametrize(("value", "octets"), WIRE, ids=KINDS)
def test_a_packet_cut_off_anywhere_is_refused(value: packet.Packet, octets: bytes) -> None:
    for size in range(len(octets)):
        with pytest.raises(DecodeError):
            packet.decode(octets[:size])


@pytest.mark.parametrize("octets", [b"", b"\x0d\x00", WIRE[1][1], WIRE[2][1]])
def test_only_a_prepare_is_read_as_one(octets: bytes) -> None:
    with pytest.raises(DecodeError, match="not a Prepare"):
        packet.decode_prepare(octets)


def test_a_field_may_not_reach_beyond_the_body() -> None:
    """The body ends before the data; the octets behind it would fill the gap."""
    body = CONDITION + b"\x04hi"
    with pytest.raises(DecodeError):
        packet.decode(b"\x0d" + var_octets(body) + b"!!")


def test_a_message_may_have_exactly_its_bound() -> None:
    longest = "m" * limits.REJECT_MESSAGE_BYTES_MAX
    octets = packet.encode(Reject(code="F00", message=longest))
    assert packet.decode(octets) == Reject(code="F00", message=longest)
    body = b"F00\x00" + var_octets(longest.encode() + b"m") + b"\x00"
    with pytest.raises(DecodeError) as caught:
        packet.decode(b"\x0e" + var_octets(body))
    assert caught.value.field == "message"


def test_an_unknown_code_passes() -> None:
    """Relayed Rejects keep their code (RFC 27): applications may have their own."""
    decoded = packet.decode(b"\x0e\x06Z42\x00\x00\x00")
    assert decoded == Reject(code="Z42")


def canonical(value: packet.Packet, octets: bytes) -> None:
    assert packet.encode(value) == octets
    decoded = packet.decode(octets)
    assert decoded == value
    assert decoded.wire is octets
    # Behind the body an octet is ignored, but it may not be taken for the only encoding.
    again = packet.decode(octets + b"\x00")
    assert again == value
    assert again.wire is None


@pytest.mark.parametrize("name_size", [3, 70, 127, 128, 255, 256, 1023])
@pytest.mark.parametrize("data_size", [0, 1, 66, 67, 68, 94, 95, 127, 128, 195, 255, 256, 32_767])
def test_sizes_at_which_a_length_changes_its_form_are_read_and_written(
    name_size: int, data_size: int
) -> None:
    data = b"\x5a" * data_size
    prepare = changed(PREPARE, destination="g." + "a" * (name_size - 2), data=data)
    head = prepare.amount.to_bytes(8, "big") + EXPIRY + CONDITION
    body = head + var_octets(prepare.destination.encode()) + var_octets(data)
    canonical(prepare, b"\x0c" + var_octets(body))
    body = CONDITION + var_octets(data)
    canonical(Fulfill(fulfillment=CONDITION, data=data), b"\x0d" + var_octets(body))


@pytest.mark.parametrize("size", range(35, 258))
def test_a_length_octet_of_a_fulfill_that_fits_by_chance_is_not_taken_for_a_length(
    size: int,
) -> None:
    """From 130 octets on, what would be the length in one octet announces a longer form."""
    octets = bytes((13, size - 2)) + CONDITION + bytes((size - 35,)) + bytes(size - 35)
    if size < 130:
        canonical(Fulfill(fulfillment=CONDITION, data=bytes(size - 35)), octets)
    else:
        with pytest.raises(DecodeError):
            packet.decode(octets)


@pytest.mark.parametrize("behind", [b"", b"!"], ids=["short way", "long way"])
def test_an_invalid_expiry_is_reported_at_its_offset(behind: bytes) -> None:
    with pytest.raises(DecodeError) as caught:
        packet.decode(prepare_octets(expiry=b"20171323012140549") + behind)
    assert (caught.value.field, caught.value.offset) == ("expiry", 10)
    with pytest.raises(DecodeError) as caught:
        packet.read_time(b"")
    assert caught.value.offset == 0


@pytest.mark.parametrize("data_size", [0, 5, 128, 200, 255, 300])
def test_a_wrong_length_at_any_place_of_a_prepare_is_never_canonical(data_size: int) -> None:
    octets = packet.encode(changed(PREPARE, data=b"\x00" * data_size))
    head = 2 if octets[1] < 0x80 else 2 + (octets[1] & 0x7F)
    name_at = head + 57
    data_at = name_at + 14
    for at in (*range(1, head), name_at, *range(data_at, min(data_at + 3, len(octets)))):
        for wrong in set(range(256)) - {octets[at]}:
            damaged = octets[:at] + bytes((wrong,)) + octets[at + 1 :]
            try:
                value = packet.decode(damaged)
            except DecodeError:
                continue
            assert (value.wire is not None) == (packet.encode(value) == damaged)


# --- writing


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (changed(PREPARE, amount=-1), "amount"),
        (changed(PREPARE, amount=limits.AMOUNT_MAX + 1), "amount"),
        (changed(PREPARE, condition=bytes(31)), "condition"),
        (changed(PREPARE, condition=bytes(33)), "condition"),
        (changed(PREPARE, destination="g"), "destination"),
        (changed(PREPARE, destination="g.ä"), "destination"),
        (changed(PREPARE, data=bytes(limits.PACKET_DATA_BYTES_MAX + 1)), "data"),
        (changed(PREPARE, expires_at_ms=-1), "outside the years"),
        (Fulfill(fulfillment=bytes(31)), "fulfillment"),
        (Fulfill(fulfillment=bytes(33)), "fulfillment"),
        (Fulfill(fulfillment=CONDITION, data=bytes(limits.PACKET_DATA_BYTES_MAX + 1)), "data"),
        (Reject(code="F0"), "code"),
        (Reject(code="f00"), "code"),
        (Reject(code="Fé0"), "code"),
        (Reject(code="F00", triggered_by="no body"), "triggered-by"),
        (Reject(code="F00", message="m" * (limits.REJECT_MESSAGE_BYTES_MAX + 1)), "message"),
        (Reject(code="F00", message="\ud800"), "surrogates"),
        (Reject(code="F00", data=bytes(limits.PACKET_DATA_BYTES_MAX + 1)), "data"),
    ],
)
def test_a_field_out_of_its_range_is_not_written(value: packet.Packet, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        packet.encode(value)


@pytest.mark.interpreted
def test_a_value_that_is_no_packet_is_not_encoded() -> None:
    with pytest.raises(AssertionError):
        packet.encode(b"octets")


# --- time


@pytest.mark.parametrize(
    ("digits", "at_ms"),
    [
        (b"19700101000000000", 0),
        (b"19700101000000001", 1),
        (b"20171223012140549", 1_513_992_100_549),
        (b"20200229235959999", 1_583_020_799_999),
        (b"20380119031408000", 2**31 * 1000),
        (b"99991231235959999", 253_402_300_799_999),
    ],
)
def test_time_is_written_and_read_as_17_digits_in_utc(digits: bytes, at_ms: int) -> None:
    assert packet.read_time(digits) == at_ms
    assert packet.write_time(at_ms) == digits


def test_a_moment_before_1970_is_read_as_long_past() -> None:
    assert packet.read_time(b"19691231235959999") == -1
    assert packet.read_time(b"00010101000000000") < 0


@pytest.mark.parametrize(
    "digits",
    [
        b"20171323012140549",  # month 13
        b"20170023012140549",  # month 0
        b"20170431012140549",  # 31 April
        b"20190229012140549",  # 29 February of a common year
        b"20171200012140549",  # day 0
        b"20171223242140549",  # hour 24
        b"20171223016040549",  # minute 60
        b"20171223012160549",  # second 60
        b"20161231235960000",  # a leap second that did happen (requirement 41)
        b"00001223012140549",  # year 0
        b"2017122301214054",  # 16 digits
        b"201712230121405499",  # 18 digits
        b"2017122301214054 ",
        b"+2017122301214054",
        b"20171223 12140549",
        b"2017122301214054\xb2",  # a digit, but not one of ASCII
    ],
)
def test_an_invalid_time_is_refused(digits: bytes) -> None:
    with pytest.raises(DecodeError) as caught:
        packet.read_time(digits, 10)
    assert (caught.value.field, caught.value.offset) == ("expiry", 10)


@pytest.mark.parametrize("at_ms", [-1, 253_402_300_800_000])
def test_a_moment_outside_the_years_1970_to_9999_is_not_written(at_ms: int) -> None:
    with pytest.raises(ValueError, match="outside the years"):
        packet.write_time(at_ms)


# --- passing on


@pytest.mark.parametrize("data", [b"", bytes(60), bytes(200), bytes(limits.PACKET_DATA_BYTES_MAX)])
def test_repricing_changes_amount_and_expiry_and_nothing_else(data: bytes) -> None:
    original = packet.decode_prepare(packet.encode(changed(PREPARE, data=data)))
    assert original.wire is not None
    octets = packet.reprice(original, amount=99, expires_at_ms=EXPIRY_MS - 1000)
    expected = changed(original, amount=99, expires_at_ms=EXPIRY_MS - 1000)
    assert octets == packet.encode(expected)


def test_repricing_a_packet_in_another_form_gives_the_canonical_one() -> None:
    octets = WIRE[0][1] + b"trailing"
    original = packet.decode_prepare(octets)
    repriced = packet.reprice(original, amount=107, expires_at_ms=EXPIRY_MS)
    assert repriced == WIRE[0][1]


@pytest.mark.parametrize("octets", [WIRE[0][1], WIRE[0][1] + b"trailing"])
@pytest.mark.parametrize("change", [{"amount": -1}, {"amount": 2**64}, {"expires_at_ms": -1}])
def test_repricing_out_of_range_is_refused(octets: bytes, change: dict[str, int]) -> None:
    original = packet.decode_prepare(octets)
    with pytest.raises(ValueError, match=r"amount|years"):
        packet.reprice(original, **{"amount": 1, "expires_at_ms": 1} | change)


# --- rejects of our own


def test_a_reject_of_ours_has_a_known_code_and_our_address() -> None:
    ours = packet.reject(Code.F02_UNREACHABLE, "g.us", "no route found")
    assert ours == Reject(code="F02", triggered_by="g.us", message="no route found")


def test_a_long_message_of_ours_is_cut_to_what_fits_on_a_line() -> None:
    longest = "é" * limits.REJECT_MESSAGE_CHARACTERS_OURS_MAX
    assert packet.reject(Code.T00_INTERNAL_ERROR, "g.us", longest).message == longest
    cut = packet.reject(Code.T00_INTERNAL_ERROR, "g.us", longest + "!")
    assert cut.message == longest
    packet.encode(cut)


def test_f08_carries_both_amounts_as_u64() -> None:
    assert packet.amount_too_large_data(1, limits.AMOUNT_MAX) == bytes(7) + b"\x01" + b"\xff" * 8


def test_every_code_is_a_letter_and_two_digits_named_once() -> None:
    for code in Code:
        assert code.name.startswith(code.value + "_")
        packet.encode(packet.reject(code, "", ""))


# --- as values


def test_packets_with_equal_fields_are_equal_in_any_wire_form() -> None:
    for value, octets in WIRE:
        assert packet.decode(octets + b"!") == value
        assert hash(packet.decode(octets)) == hash(value)
    assert len({value for value, _ in WIRE}) == 3


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (PREPARE, changed(PREPARE, amount=1)),
        (PREPARE, changed(PREPARE, expires_at_ms=1)),
        (PREPARE, changed(PREPARE, condition=bytes(32))),
        (PREPARE, changed(PREPARE, destination="g.b")),
        (PREPARE, changed(PREPARE, data=b"")),
        (FULFILL, Fulfill(fulfillment=CONDITION)),
        (FULFILL, Fulfill(fulfillment=bytes(32), data=b"hi")),
        (REJECT, Reject(code="F02")),
        (REJECT, Reject(code="F00", triggered_by="g.us", message="größe", data=b"hi")),
        (PREPARE, FULFILL),
        (FULFILL, REJECT),
        (REJECT, PREPARE),
    ],
)
def test_packets_differ_in_any_field(one: packet.Packet, other: packet.Packet) -> None:
    assert one != other
    assert other != one


def test_repr_shows_no_fulfillment_and_no_data() -> None:
    assert repr(PREPARE) == (
        "Prepare(amount=107, destination='example.alice', expires_at_ms=1513992100549)"
    )
    assert repr(FULFILL) == "Fulfill(data=2 octets)"
    assert repr(REJECT) == "Reject(F02 by 'g.us': 'größe')"
