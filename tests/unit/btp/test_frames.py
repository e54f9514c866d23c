"""The fast path for frames: the same messages as by `websockets`, however the octets are split."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.exceptions import PayloadTooBig
from websockets.frames import Frame, Opcode
from websockets.protocol import CLIENT, SERVER, Protocol, Side

from connector.btp.frames import Splitter, wrap

SIZE_MAX = 1000
KEY = b"\x01\x02\x03\x04"

# Where the form of a length changes, and the bound, on the line and one step over.
sizes = st.integers(0, 40) | st.sampled_from((125, 126, 127, 128, SIZE_MAX - 1, SIZE_MAX))
payloads = sizes.flatmap(lambda size: st.binary(min_size=size, max_size=size))
keys = st.binary(min_size=4, max_size=4)
controls = st.builds(
    Frame,
    st.sampled_from((Opcode.PING, Opcode.PONG)),
    st.binary(max_size=125),
)
whole = st.builds(Frame, st.just(Opcode.BINARY), payloads)
text = st.builds(lambda words: Frame(Opcode.TEXT, words.encode()), st.text(max_size=20))
fragmented = st.lists(st.binary(max_size=200), min_size=2, max_size=4).map(
    lambda parts: [
        Frame(Opcode.CONT if at else Opcode.BINARY, part, fin=at == len(parts) - 1)
        for at, part in enumerate(parts)
    ]
)
"""One message in several frames, which nothing but a control frame may interrupt."""
streams = st.lists(
    (whole | controls | text).map(lambda frame: [frame]) | fragmented, max_size=8
).map(lambda groups: [frame for group in groups for frame in group])
sides = st.sampled_from((CLIENT, SERVER))


def receiver(side: Side) -> Protocol:
    return Protocol(side, max_size=SIZE_MAX)


def splitter(side: Side) -> Splitter:
    """What the receiver on `side` uses: a server's frames come masked."""
    return Splitter(masked=side is SERVER, size_max=SIZE_MAX)


def octets_of(frames: list[Frame], side: Side) -> bytes:
    """The frames as the other side of `side` writes them."""
    return b"".join(frame.serialize(mask=side is SERVER) for frame in frames)


def cut(octets: bytes, places: list[int]) -> list[bytes]:
    """`octets` as reads that end at `places`."""
    ends = [0, *sorted(place % (len(octets) + 1) for place in places), len(octets)]
    return [octets[begin:end] for begin, end in pairwise(ends)]


def take(octets: list[bytes], side: Side) -> tuple[list[Frame], Exception | None]:
    """What a link makes of reads: the short way, and `websockets` for the rest."""
    short, long = splitter(side), receiver(side)
    found: list[Frame] = []
    for read in octets:
        for is_message, part in short.split(read):
            if is_message:
                found.append(Frame(Opcode.BINARY, part))
                continue
            long.receive_data(part)
            found += [event for event in long.events_received() if isinstance(event, Frame)]
            if long.parser_exc is not None or long.close_rcvd is not None:
                return found, long.parser_exc  # a link stops here
    return found, None


def take_the_long_way(octets: bytes, side: Side) -> tuple[list[Frame], Exception | None]:
    long = receiver(side)
    long.receive_data(octets)
    events = [event for event in long.events_received() if isinstance(event, Frame)]
    return events, long.parser_exc


def plain(frames: list[Frame]) -> list[tuple[object, ...]]:
    return [(frame.opcode, bytes(frame.data), frame.fin) for frame in frames]


@given(streams, st.lists(st.integers(0, 10_000), max_size=12), sides)
def test_any_split_of_frames_gives_the_messages_that_websockets_reads(
    frames: list[Frame], places: list[int], side: Side
) -> None:
    octets = octets_of(frames, side)
    found, fault = take(cut(octets, places), side)
    assert fault is None
    assert plain(found) == plain(take_the_long_way(octets, side)[0]) == plain(frames)


@given(streams, st.binary(max_size=60), st.lists(st.integers(0, 10_000), max_size=8), sides)
def test_malformed_frames_fail_where_websockets_fails(
    frames: list[Frame], junk: bytes, places: list[int], side: Side
) -> None:
    """The same frames come out before the fault, and there is a fault in the same cases.

    But for a message that stands within a fragmented one: there the link itself is the judge.
    """
    octets = octets_of(frames, side) + junk
    found, fault = take(cut(octets, places), side)
    expected, expected_fault = take_the_long_way(octets, side)
    if str(expected_fault) == "expected a continuation frame":
        return
    assert plain(found) == plain(expected)
    # `websockets` may know from its head that a frame is wrong; here it is looked at once whole.
    assert fault is None or str(fault) == str(expected_fault)


@given(st.lists(payloads, max_size=6), keys, sides)
def test_wrapped_messages_equal_those_of_websockets(
    messages: list[bytes], key: bytes, side: Side
) -> None:
    """`side` receives; only what goes to a server is masked."""
    octets = wrap(messages, (lambda _: key) if side is SERVER else None)
    frames, fault = take_the_long_way(octets, side)
    assert fault is None
    assert [bytes(frame.data) for frame in frames] == messages
    if side is CLIENT:
        assert octets == octets_of([Frame(Opcode.BINARY, message) for message in messages], side)


@pytest.mark.parametrize("size", [65_535, 65_536, 70_000])
@pytest.mark.parametrize("side", sorted(Side, key=str))
def test_a_message_is_wrapped_in_a_length_that_holds_its_size(size: int, side: Side) -> None:
    octets = wrap([bytes(size)], (lambda _: KEY) if side is SERVER else None)
    long = Protocol(side, max_size=size)
    long.receive_data(octets)
    (frame,) = long.events_received()
    assert isinstance(frame, Frame)
    assert len(frame.data) == size


def test_wrapping_no_messages_gives_no_octets() -> None:
    assert wrap([], None) == b""


def test_each_message_is_masked_with_a_key_of_its_own() -> None:
    given_out = iter([b"\1\1\1\1", b"\2\2\2\2"])
    octets = wrap([b"\0", b"\0"], lambda size: next(given_out))
    assert octets == b"\x82\x81\1\1\1\1\1" + b"\x82\x81\2\2\2\2\2"


def test_a_message_is_complete_only_with_its_last_octet() -> None:
    octets = octets_of([Frame(Opcode.BINARY, b"x" * 200)], SERVER)
    short = splitter(SERVER)
    for at in range(len(octets) - 1):
        assert list(short.split(octets[at : at + 1])) == []
    assert list(short.split(octets[-1:])) == [(True, b"x" * 200)]


def test_several_messages_of_one_read_come_in_order() -> None:
    octets = wrap([b"1", b"", b"3"], None)
    assert list(splitter(CLIENT).split(octets)) == [(True, b"1"), (True, b""), (True, b"3")]


def test_a_frame_of_another_kind_does_not_end_the_fast_path() -> None:
    ping = Frame(Opcode.PING, b"?").serialize(mask=False)
    octets = wrap([b"1"], None) + ping + wrap([b"2"], None)
    assert list(splitter(CLIENT).split(octets)) == [(True, b"1"), (False, ping), (True, b"2")]


@pytest.mark.parametrize(
    ("head", "why"),
    [
        (b"\x82\x7f" + (SIZE_MAX + 1).to_bytes(8, "big"), "a length of eight octets"),
        (b"\x82\x7e" + (SIZE_MAX + 1).to_bytes(2, "big"), "too large"),
        (b"\x82\x81\0\0\0\0x", "masked, and it must not be"),
    ],
)
def test_everything_from_the_first_invalid_frame_goes_to_websockets(head: bytes, why: str) -> None:
    short = splitter(CLIENT)
    behind = wrap([b"behind"], None)
    assert list(short.split(wrap([b"before"], None) + head + behind)) == [
        (True, b"before"),
        (False, head + behind),
    ], why
    assert list(short.split(behind)) == [(False, behind)]


def test_a_message_of_the_largest_size_is_taken_and_one_octet_more_is_not() -> None:
    fits, over = wrap([bytes(SIZE_MAX)], None), wrap([bytes(SIZE_MAX + 1)], None)
    assert list(splitter(CLIENT).split(fits)) == [(True, bytes(SIZE_MAX))]
    assert list(splitter(CLIENT).split(over)) == [(False, over)]
    _, fault = take([over], CLIENT)
    assert isinstance(fault, PayloadTooBig)


def test_an_unmasked_frame_of_a_client_is_a_fault() -> None:
    _, fault = take([wrap([b"x"], None)], SERVER)
    assert str(fault) == "incorrect masking"


def test_a_compressed_frame_is_a_fault() -> None:
    _, fault = take([b"\xc2\x01x"], CLIENT)
    assert str(fault) == "reserved bits must be 0"


def test_a_declared_length_allocates_nothing() -> None:
    """No memory is set aside for octets that were only announced."""
    short = splitter(CLIENT)
    assert list(short.split(b"\x82\x7e" + SIZE_MAX.to_bytes(2, "big") + b"abc")) == []
    assert len(short._rest) == 7
