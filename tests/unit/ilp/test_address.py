"""What is an ILP address (RFC 15), and what lies within what."""

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
    assert address.scheme(f"{scheme}.a") == address.scheme(scheme) == scheme


def test_the_scheme_is_the_first_of_many_segments() -> None:
    assert address.scheme("g.a.b.c") == "g"


def test_the_empty_prefix_contains_every_address() -> None:
    assert address.is_prefix("")
    assert address.is_within("g.alice", "")
    assert address.is_within("", "")


@pytest.mark.parametrize(
    "text", [".", "g.", "g..a", "x", "g.a.", "g.a b", "g." + "a" * 1022, "g\n"]
)
def test_an_invalid_prefix_is_refused(text: str) -> None:
    assert not address.is_prefix(text)


@pytest.mark.parametrize(
    ("inner", "outer", "within"),
    [
        ("g.alice", "g.alice", True),
        ("g.alice.bob", "g.alice", True),
        ("g.alice", "g", True),
        ("g.alice", "g.al", False),
        ("g.al", "g.alice", False),
        ("g.Alice", "g.alice", False),
        ("test.alice", "test1", False),
        ("test1.alice", "test", False),
    ],
)
def test_addresses_nest_by_whole_segments(inner: str, outer: str, *, within: bool) -> None:
    assert address.is_within(inner, outer) is within


@pytest.mark.parametrize("text", ["a", "A-b_c~0", "0"])
def test_a_valid_segment_is_accepted(text: str) -> None:
    assert address.is_segment(text)


@pytest.mark.parametrize("text", ["", ".", "a.b", "a b", "a\n", "é"])
def test_an_invalid_segment_is_refused(text: str) -> None:
    assert not address.is_segment(text)
