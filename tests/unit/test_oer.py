"""Lengths, octet strings and integers of RFC 30: on the line and one step over."""

from __future__ import annotations

import pytest

from connector import oer
from connector.base.errors import DecodeError


@pytest.mark.parametrize(
    ("size", "head"),
    [
        (0, "00"),
        (1, "01"),
        (127, "7f"),
        (128, "8180"),
        (255, "81ff"),
        (256, "820100"),
        (65_535, "82ffff"),
        (65_536, "83010000"),
    ],
)
def test_a_length_takes_its_shortest_form(size: int, head: str) -> None:
    encoded = oer.var_octets(b"x" * size)
    assert encoded == bytes.fromhex(head) + b"x" * size
    assert oer.length_size(size) == len(head) // 2
    assert oer.read_var_octets(encoded, 0, "f", strict=True) == (b"x" * size, len(encoded))


def test_127_is_a_short_form() -> None:
    """RFC 30 says both "less than 127" and "less than 128"; requirements 3.13 settle it."""
    assert oer.read_length(b"\x7f" + bytes(127), 0, "f", strict=True) == (127, 1)


def test_reading_starts_where_it_is_told_and_says_where_the_next_field_starts() -> None:
    octets = b"??\x02ab\x01c"
    assert oer.read_var_octets(octets, 2, "f") == (b"ab", 5)
    assert oer.read_var_octets(octets, 5, "f") == (b"c", 7)


@pytest.mark.parametrize("head", ["8105", "820005", "8800000000 00000005"])
def test_a_longer_form_is_read_but_not_when_strict(head: str) -> None:
    octets = bytes.fromhex(head) + b"hello"
    assert oer.read_length(octets, 0, "f") == (5, len(octets) - 5)
    assert oer.read_var_octets(octets, 0, "f") == (b"hello", len(octets))
    with pytest.raises(DecodeError, match="shortest form"):
        oer.read_var_octets(octets, 0, "f", strict=True)


@pytest.mark.parametrize(
    ("octets", "reason"),
    [
        ("", "cut off before its length"),
        ("81", "cut off within its length"),
        ("8201", "cut off within its length"),
        ("80", "a length of 0 octets"),
        ("89000000000000000000", "a length of 9 octets"),
        ("ff", "a length of 127 octets"),
        ("01", "claims 1 octets, 0 are there"),
        ("0361", "claims 3 octets, 1 are there"),
        ("8400ffffff61", "claims 16777215 octets, 1 are there"),
        ("88ffffffffffffffff", "claims 18446744073709551615 octets, 0 are there"),
    ],
)
def test_a_length_that_lies_is_a_decode_error(octets: str, reason: str) -> None:
    with pytest.raises(DecodeError) as caught:
        oer.read_var_octets(b"??" + bytes.fromhex(octets), 2, "the field")
    assert (caught.value.field, caught.value.offset) == ("the field", 2)
    assert caught.value.reason == reason


def test_an_octet_string_may_have_exactly_its_bound() -> None:
    assert oer.read_var_octets(b"\x03abc", 0, "f", size_max=3) == (b"abc", 4)
    with pytest.raises(DecodeError, match="4 octets, at most 3 allowed"):
        oer.read_var_octets(b"\x04abcd", 0, "f", size_max=3)


@pytest.mark.parametrize(
    ("value", "encoded"),
    [
        (0, "0100"),
        (1, "0101"),
        (255, "01ff"),
        (256, "020100"),
        (2**64 - 1, "08ffffffffffffffff"),
    ],
)
def test_an_integer_takes_the_fewest_octets_and_zero_takes_one(value: int, encoded: str) -> None:
    octets = bytes.fromhex(encoded)
    assert oer.var_uint(value) == octets
    assert oer.read_var_uint(octets, 0, "f", strict=True) == (value, len(octets))


def test_a_negative_integer_is_refused() -> None:
    with pytest.raises(ValueError, match="negative"):
        oer.var_uint(-1)


def test_an_integer_of_no_octets_is_refused() -> None:
    with pytest.raises(DecodeError, match="no octets"):
        oer.read_var_uint(b"\x00", 0, "f")


def test_an_integer_beyond_its_size_is_refused() -> None:
    assert oer.read_var_uint(b"\x02\x01\x00", 0, "f", size_max=2) == (256, 3)
    with pytest.raises(DecodeError, match="at most 2 allowed"):
        oer.read_var_uint(b"\x03\x01\x00\x00", 0, "f", size_max=2)
    with pytest.raises(DecodeError, match="at most 8 allowed"):
        oer.read_var_uint(b"\x09" + bytes(9), 0, "f")


def test_leading_zeros_are_read_but_not_when_strict() -> None:
    assert oer.read_var_uint(b"\x02\x00\x04", 0, "f") == (4, 3)
    with pytest.raises(DecodeError, match="leading zeros"):
        oer.read_var_uint(b"\x02\x00\x04", 0, "f", strict=True)
