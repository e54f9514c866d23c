"""Fuzz targets: what the network sends before a log-in: OER, ILP, BTP, frames."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from itertools import pairwise

from hypothesis import strategies as st

from connector import oer
from connector.base import limits
from connector.base.errors import DecodeError, ProtocolError
from connector.btp import packet as btp
from connector.btp.frames import Splitter, wrap
from connector.btp.session import AuthRequest, Session
from connector.ilp import address, ildcp
from connector.ilp import packet as ilp
from connector.ilp.packet import Fulfill, Prepare, Reject
from connector.peering.routing import Route, RouteSource, RoutingTable
from connector.routing import codec as ccp
from connector.routing.model import NeighbourTerms
from connector.routing.router import Router
from tests.fuzz.target import Target, near
from tests.support import strategies as some
from tests.support.btp_pair import Pair, session

FRAME_BYTES_MAX = 400


def check_oer(value: tuple[bytes, int, bool]) -> None:
    """Lengths, octet strings and integers from any offset."""
    octets, at, strict = value
    for read in (oer.read_length, oer.read_var_octets, oer.read_var_uint):
        with contextlib.suppress(DecodeError):
            _, end = read(octets, at, "field", strict=strict)
            assert end <= len(octets)


def check_ilp(octets: bytes) -> None:
    """A packet that encodes to what it was decoded from, or a DecodeError."""
    try:
        value = ilp.decode(octets)
    except DecodeError:
        return
    assert isinstance(value, Prepare | Fulfill | Reject)
    if isinstance(value, Prepare) and value.expires_at_ms < 0:
        return  # before 1970: readable, long expired, never written again
    again = ilp.encode(value)
    assert ilp.decode(again) == value
    if value.wire is not None:
        assert value.wire == again == octets
    if isinstance(value, Prepare):
        repriced = ilp.reprice(value, amount=1, expires_at_ms=value.expires_at_ms)
        changed = ilp.decode_prepare(repriced)
        assert (changed.amount, changed.destination, changed.data) == (
            1,
            value.destination,
            value.data,
        )


def check_address(octets: bytes) -> None:
    """An address that a route for it, or for its scheme, takes; or a DecodeError."""
    text = octets.decode("utf-8", "replace")
    address.is_prefix(text)
    address.is_address(text)
    with contextlib.suppress(DecodeError):
        parsed = address.parse(octets)
        assert parsed.encode() == octets
        assert address.is_address(parsed)
        assert address.is_prefix(parsed)
        for prefix in (parsed, parsed.split(".", 1)[0]):
            route = Route(RouteSource.CONFIG, "bob", prefix)
            assert RoutingTable([route]).find(parsed) is route


def check_ildcp(data: bytes) -> None:
    """A child's configuration, or a DecodeError."""
    with contextlib.suppress(DecodeError):
        config = ildcp.read_answer(Fulfill(fulfillment=bytes(32), data=data))
        assert ildcp.read_answer(ildcp.answer(config)) == config


def check_ccp(data: bytes) -> None:
    """Requests about routes, or a DecodeError; a router answers either, and takes what it may only."""
    for decode, encode in (
        (ccp.decode_control, ccp.encode_control),
        (ccp.decode_update, ccp.encode_update),
    ):
        with contextlib.suppress(DecodeError):
            assert decode(encode(decode(data))) == decode(data)  # type: ignore[operator]
    table = RoutingTable()
    router = Router(
        table,
        secret=b"",
        interval_ms=1000,
        hold_down_ms=2000,
        random_octets=lambda size: b"r" * size,
    )
    router.set_address("g.us", 0)
    router.set_neighbours([NeighbourTerms(peer_id="eve", is_customer=True)], 0)
    router.connected("eve", 0)
    for destination in (ccp.UPDATE, ccp.CONTROL):
        answer = router.request("eve", ccp.request(destination, data, 100), 1)
        assert isinstance(answer, Fulfill) or answer.code == "F01", answer
    for route in table:
        assert route.prefix.startswith("g.")
        assert not (route.prefix + ".").startswith("g.us.")
    for request in router.tick(10):
        assert len(request.data) <= limits.PACKET_DATA_BYTES_MAX
    router.tick(10_000)
    assert not list(table)
    assert router.room.routes == router.room.octets == 0


def check_btp(octets: bytes) -> None:
    """A packet that comes back after encoding, or a DecodeError; the short way agrees."""
    short = btp.read_ilp(octets)
    try:
        value = btp.decode(octets)
    except DecodeError:
        assert short is None or short[0] not in (btp.MESSAGE, btp.RESPONSE)
        return
    assert btp.read_head(octets) == (value.kind, value.request_id)
    if isinstance(value, btp.BtpError) and value.triggered_at_ms < 0:
        return
    assert btp.decode(btp.encode(value)) == value
    if short is not None and short[0] in (btp.MESSAGE, btp.RESPONSE):
        assert value.protocols[0] == btp.Protocol("ilp", 0, short[2])


def check_session(value: tuple[str, list[bytes], bool]) -> None:
    """A session takes any messages in any state: an event, or the peer's fault."""
    start, messages, accepts = value
    one = _session(start)
    for octets in messages:
        with contextlib.suppress(DecodeError, ProtocolError):
            event = one.receive(octets)
            if isinstance(event, AuthRequest):
                (one.accept if accepts else one.refuse)(event)
        for outgoing in one.take_outgoing():
            btp.decode(outgoing)
    assert len(one.requests.open) <= 1


def _session(start: str) -> Session:
    match start:
        case "dialled":
            one = session(3)
            one.log_in("alice", "secret")
        case "server":
            one = Pair().log_in().server
            one.request(b"x", "request", 1)
        case "client":
            one = Pair().log_in().client
            one.request(b"x", "request", 1)
        case _:
            one = session(3)
            if start == "closed":
                one.close()
    one.take_outgoing()
    return one


def _cut(octets: bytes, places: list[int]) -> Iterator[bytes]:
    ends = [0, *sorted(place % (len(octets) + 1) for place in places), len(octets)]
    for begin, end in pairwise(ends):
        yield octets[begin:end]


def _split(reads: list[bytes], *, masked: bool) -> tuple[list[bytes], bytes]:
    """The plain messages, and all other octets in order."""
    splitter = Splitter(masked=masked, size_max=FRAME_BYTES_MAX)
    messages: list[bytes] = []
    rest = b""
    for read in reads:
        for is_message, octets in splitter.split(read):
            if is_message:
                assert len(octets) <= FRAME_BYTES_MAX
                messages.append(octets)
            else:
                rest += octets
    return messages, rest


def check_frames(value: tuple[bytes, list[int], bool]) -> None:
    """Splitting gives the same however the octets are cut into reads, and never raises."""
    octets, places, masked = value
    whole = _split([octets], masked=masked)
    assert _split(list(_cut(octets, places)), masked=masked) == whole


def check_wrapped(value: tuple[list[bytes], list[int], bool]) -> None:
    """What `wrap` writes is split into the same messages."""
    messages, places, masked = value
    octets = wrap(messages, (lambda count: b"\x5a" * count) if masked else None)
    assert _split(list(_cut(octets, places)), masked=masked) == (messages, b"")


_frame_octets = some.hostile(
    st.lists(st.binary(max_size=FRAME_BYTES_MAX + 5) | st.just(b"x" * 126), max_size=4).map(
        lambda messages: wrap(messages, None)
    )
    | st.lists(st.binary(max_size=FRAME_BYTES_MAX + 5), max_size=4).map(
        lambda messages: wrap(messages, lambda count: b"\xa5" * count)
    )
)
_places = st.lists(st.integers(0, 2000), max_size=5)

TARGETS = (
    Target(
        "oer",
        st.tuples(
            near("ilp", some.payloads.map(oer.var_octets)), st.integers(0, 40), st.booleans()
        ),
        check_oer,
    ),
    Target("ilp-packet", near("ilp", some.ilp_octets), check_ilp),
    Target(
        "ilp-address",
        some.hostile(some.addresses.map(str.encode)),
        check_address,
    ),
    Target(
        "ildcp",
        some.hostile(some.child_configs.map(lambda config: ildcp.answer(config).data)),
        check_ildcp,
    ),
    Target(
        "ccp",
        some.hostile(
            st.builds(
                ccp.encode_update,
                st.builds(
                    ccp.RouteUpdate,
                    table_id=st.binary(min_size=16, max_size=16),
                    current_epoch=st.integers(0, 9),
                    from_epoch=st.integers(0, 1),
                    to_epoch=st.integers(0, 9),
                    hold_down_ms=st.integers(0, 2**32 - 1),
                    speaker=some.addresses,
                    new=st.lists(
                        st.builds(
                            ccp.Announcement,
                            prefix=some.addresses,
                            path=st.lists(some.addresses, max_size=3).map(tuple),
                            auth=st.binary(min_size=32, max_size=32),
                        ),
                        max_size=4,
                    ).map(tuple),
                    withdrawn=st.lists(some.addresses, max_size=3).map(tuple),
                ),
            )
            | st.builds(
                ccp.encode_control,
                st.builds(
                    ccp.RouteControl,
                    mode=st.sampled_from(ccp.Mode),
                    table_id=st.binary(min_size=16, max_size=16),
                    epoch=st.integers(0, 2**32 - 1),
                ),
            )
        ),
        check_ccp,
    ),
    Target(
        "btp-packet",
        near(
            "btp",
            some.btp_octets
            | st.builds(
                btp.encode_ilp,
                st.sampled_from((btp.MESSAGE, btp.RESPONSE)),
                some.request_ids,
                some.ilp_octets,
                st.just(0) | some.packet_ids,
                st.booleans(),
            ),
        ),
        check_btp,
    ),
    Target(
        "btp-session",
        st.tuples(
            st.sampled_from(("fresh", "dialled", "server", "client", "closed")),
            st.lists(near("btp", some.btp_octets), min_size=1, max_size=5),
            st.booleans(),
        ),
        check_session,
    ),
    Target("websocket-frames", st.tuples(_frame_octets, _places, st.booleans()), check_frames),
    Target(
        "websocket-wrapping",
        st.tuples(
            st.lists(st.binary(max_size=FRAME_BYTES_MAX), max_size=5), _places, st.booleans()
        ),
        check_wrapped,
    ),
)
