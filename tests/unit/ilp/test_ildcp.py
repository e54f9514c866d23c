"""A child asks its parent for an address (RFC 31)."""

from __future__ import annotations

import pytest

from connector.base.errors import DecodeError
from connector.ilp import ildcp, packet
from connector.ilp.packet import Fulfill

CONFIG = ildcp.ChildConfig(address="g.parent.child", asset_scale=9, asset_code="XRP")
DATA = b"\x0eg.parent.child\x09\x03XRP"


def test_the_request_is_a_prepare_of_amount_zero_under_the_peer_condition() -> None:
    request = ildcp.request(1_700_000_000_000)
    assert request.destination == "peer.config"
    assert request.amount == 0
    assert request.data == b""
    assert request.expires_at_ms == 1_700_000_000_000
    assert request.condition.hex() == (
        "66687aadf862bd776c8fc18b8e9f8e20089714856ee233b3902a591d0d5f2925"
    )
    assert packet.decode(packet.encode(request)) == request


def test_the_answer_is_a_fulfill_of_zeros_with_address_scale_and_code() -> None:
    answer = ildcp.answer(CONFIG)
    assert answer == Fulfill(fulfillment=bytes(32), data=DATA)
    assert ildcp.read_answer(answer) == CONFIG


@pytest.mark.parametrize("scale", [0, 255])
def test_every_scale_of_one_octet_round_trips(scale: int) -> None:
    config = ildcp.ChildConfig(address="g.p.c", asset_scale=scale, asset_code="€")
    assert ildcp.read_answer(ildcp.answer(config)) == config


def test_octets_after_the_known_fields_are_ignored() -> None:
    assert ildcp.read_answer(Fulfill(fulfillment=bytes(32), data=DATA + b"more")) == CONFIG


@pytest.mark.parametrize(
    ("data", "field"),
    [
        (b"", "address"),
        (b"\x05g.a", "address"),
        (b"\x00\x09\x03XRP", "address"),
        (b"\x01g\x09\x03XRP", "address"),
        (b"\x03g.a", "asset scale"),
        (b"\x03g.a\x09", "asset code"),
        (b"\x03g.a\x09\x03XR", "asset code"),
        (b"\x03g.a\x09\x01\xff", "asset code"),
        (b"\x03g.a\x09\x82\x01\x00" + b"X" * 256, "asset code"),
    ],
)
def test_a_malformed_answer_names_the_field_at_fault(data: bytes, field: str) -> None:
    with pytest.raises(DecodeError) as caught:
        ildcp.read_answer(Fulfill(fulfillment=bytes(32), data=data))
    assert caught.value.field == field


def test_an_answer_cut_off_anywhere_is_refused() -> None:
    for size in range(len(DATA)):
        with pytest.raises(DecodeError):
            ildcp.read_answer(Fulfill(fulfillment=bytes(32), data=DATA[:size]))
