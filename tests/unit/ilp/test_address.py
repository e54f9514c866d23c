"""ILP addresses and route prefixes (RFC 15): which are valid."""

from __future__ import annotations

import pytest

from connector.base.errors import DecodeError
from connector.ilp import address

GOOD = [
    "g.a",
    "private.x",
    "example.x",
    "peer.config",
    "self.x",
    "test.x",
    "test1.x",
    "test2.x",
    "test3.x",
    "local.x",
    "g.Alice_1~x-Z0.b.c",
    "g." + "a" * 1021,
]
BAD = [
    "",
    "g",
    "g.",
    ".g.a",
    "g..a",
    "g.a.",
    "G.a",
    "test4.a",
    "tests.a",
    "gg.a",
    "unknown",
    "unknown.a",
    "g.a b",
    "g.a\n",
    "g.a/b",
    "g.a*",
    "g.ä",
    "g.a\x00",
    "g." + "a" * 1022,
]


@pytest.mark.parametrize("text", GOOD)
def test_a_valid_address_is_accepted(text: str) -> None:
    assert address.parse(text.encode()) == text
    assert address.is_address(text)
    assert address.is_prefix(text)


@pytest.mark.parametrize("text", BAD)
def test_an_invalid_address_is_refused(text: str) -> None:
    with pytest.raises(DecodeError) as caught:
        address.parse(text.encode())
    assert caught.value.field == "address"
    assert not address.is_address(text)


def test_an_address_with_octets_outside_ascii_is_refused() -> None:
    with pytest.raises(DecodeError):
        address.parse(b"g.\xff\xfe")


@pytest.mark.parametrize("scheme", sorted(address.SCHEMES))
def test_every_scheme_is_a_prefix_but_no_address(scheme: str) -> None:
    assert address.is_prefix(scheme)
    assert not address.is_address(scheme)
    assert address.is_address(f"{scheme}.a")


def test_the_empty_text_is_the_prefix_of_a_default_route() -> None:
    assert address.is_prefix("")
    assert not address.is_address("")


@pytest.mark.parametrize(
    "text", [".", "g.", "g..a", "x", "g.a.", "g.a b", "g." + "a" * 1022, "g\n"]
)
def test_an_invalid_prefix_is_refused(text: str) -> None:
    assert not address.is_prefix(text)
