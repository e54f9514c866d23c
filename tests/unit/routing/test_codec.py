"""The octets of CCP; those of JS peers are in tests/conformance."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector.base.errors import DecodeError
from connector.peering.routing import Property
from connector.routing import codec
from connector.routing.codec import Announcement, Mode, RouteControl, RouteUpdate

EMPTY = RouteUpdate(
    table_id=bytes(16), current_epoch=0, from_epoch=0, to_epoch=0, hold_down_ms=0, speaker="g.a"
)
_ids = st.binary(min_size=16, max_size=16)
_epochs = st.integers(0, 2**32 - 1)
_names = st.from_regex(r"g(\.[a-zA-Z0-9_~-]{1,9}){0,4}", fullmatch=True)
_properties = st.builds(
    Property,
    flags=st.integers(0, 15).map(lambda bits: bits << 4),
    id=st.integers(0, 65535),
    value=st.binary(max_size=200),
)
_announcements = st.builds(
    Announcement,
    prefix=_names,
    path=st.lists(_names, max_size=5).map(tuple),
    auth=st.binary(min_size=32, max_size=32),
    properties=st.lists(_properties, max_size=3).map(tuple),
)
_controls = st.builds(
    RouteControl,
    mode=st.sampled_from(Mode),
    table_id=_ids,
    epoch=_epochs,
    features=st.lists(st.text(max_size=20), max_size=3).map(tuple),
)
_updates = st.builds(
    RouteUpdate,
    table_id=_ids,
    current_epoch=_epochs,
    from_epoch=_epochs,
    to_epoch=_epochs,
    hold_down_ms=_epochs,
    speaker=_names,
    new=st.lists(_announcements, max_size=4).map(tuple),
    withdrawn=st.lists(_names, max_size=4).map(tuple),
)


@given(_controls)
def test_a_control_request_is_read_as_it_was_written(control: RouteControl) -> None:
    octets = codec.encode_control(control)
    assert codec.decode_control(octets) == control
    assert codec.decode_control(octets + b"extension") == control


@given(_updates)
def test_an_update_is_read_as_it_was_written(update: RouteUpdate) -> None:
    octets = codec.encode_update(update)
    assert codec.decode_update(octets) == update
    assert codec.decode_update(octets + b"extension") == update


@given(_updates)
def test_the_size_of_an_announcement_is_not_underestimated(update: RouteUpdate) -> None:
    empty = len(codec.encode_update(replace(update, new=())))
    assert len(codec.encode_update(update)) - empty <= sum(one.size for one in update.new)


@given(_updates | _controls, st.data())
def test_what_is_cut_off_is_an_error(
    value: RouteUpdate | RouteControl, data: st.DataObject
) -> None:
    if isinstance(value, RouteControl):
        octets = codec.encode_control(value)
        cut = octets[: data.draw(st.integers(0, len(octets) - 1))]
        with pytest.raises(DecodeError):
            codec.decode_control(cut)
    else:
        octets = codec.encode_update(value)
        cut = octets[: data.draw(st.integers(0, len(octets) - 1))]
        with pytest.raises(DecodeError):
            codec.decode_update(cut)


@given(st.binary(max_size=300))
def test_any_octets_are_a_request_or_a_decode_error(octets: bytes) -> None:
    for read in (codec.decode_control, codec.decode_update):
        try:
            read(octets)
        except DecodeError:
            continue


_HEAD = bytes(16) + bytes(16) + b"\x03g.a"


@pytest.mark.parametrize(
    "octets",
    [
        _HEAD + b"\x08" + b"\xff" * 8,
        _HEAD + b"\x04\x7f\xff\xff\xff" + bytes(100),
        _HEAD + b"\x01\x01\x03g.b" + b"\x04\x7f\xff\xff\xff" + bytes(100),
        _HEAD + b"\x01\x00" + b"\x08" + b"\xff" * 8,
        _HEAD + b"\x89" + b"\x01" * 9,
        _HEAD + b"\x00",
    ],
)
def test_a_declared_count_is_not_believed(octets: bytes) -> None:
    with pytest.raises(DecodeError):
        codec.decode_update(octets)


@pytest.mark.parametrize(
    "octets",
    [
        codec.encode_update(replace(EMPTY, withdrawn=("",) * 9000)),
        codec.encode_update(
            replace(EMPTY, new=(Announcement(prefix="g.a", path=("",) * 600, auth=bytes(32)),))
        ),
        codec.encode_update(
            replace(EMPTY, new=(Announcement(prefix="g.a", path=("",) * 500, auth=bytes(32)),) * 20)
        ),
    ],
)  # fmt: skip
def test_names_of_no_octets_are_not_read_by_the_ten_thousand(octets: bytes) -> None:
    with pytest.raises(DecodeError):
        codec.decode_update(octets)


def test_as_many_addresses_as_there_is_room_for_are_read() -> None:
    names = ("g.a",) * 8150
    assert (
        codec.decode_update(codec.encode_update(replace(EMPTY, withdrawn=names))).withdrawn == names
    )


def test_no_features_and_no_routes_are_one_octet_of_zero() -> None:
    control = RouteControl(mode=Mode.IDLE, table_id=bytes(16), epoch=0)
    assert codec.encode_control(control) == bytes(21) + b"\x01\x00"


def test_an_unknown_mode_is_an_error() -> None:
    with pytest.raises(DecodeError, match="mode"):
        codec.decode_control(b"\x02" + bytes(20) + b"\x01\x00")


def test_an_update_that_no_packet_holds_is_refused() -> None:
    route = Announcement(prefix="g." + "a" * 1000, path=("g.b",), auth=bytes(32))
    update = RouteUpdate(
        table_id=bytes(16), current_epoch=1, from_epoch=0, to_epoch=1, hold_down_ms=1, speaker="g.b",
        new=(route,) * 40,
    )  # fmt: skip
    with pytest.raises(ValueError, match="octets"):
        codec.encode_update(update)
