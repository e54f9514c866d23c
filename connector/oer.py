"""The Octet Encoding Rules (RFC 30) that ILP and BTP share: lengths, octet strings, integers.

Lengths are written in the shortest form only. Longer forms are accepted, because deployed peers
write them. A length is never trusted: it is checked against the octets present before anything is
sliced or allocated. Every fault is a `DecodeError`.
"""

from __future__ import annotations

from connector.base.errors import DecodeError

_LENGTH_OCTETS_MAX = 8


def var_octets(value: bytes) -> bytes:
    """`value` with its length prefix: one octet up to 127, else 0x80 + n and n octets (RFC 30)."""
    size = len(value)
    if size < 0x80:
        return size.to_bytes(1, "big") + value
    if size < 0x100:
        return b"\x81" + size.to_bytes(1, "big") + value
    count = (size.bit_length() + 7) // 8
    return (0x80 | count).to_bytes(1, "big") + size.to_bytes(count, "big") + value


def length_size(length: int) -> int:
    """Octets of the shortest form of a length."""
    return 1 if length < 0x80 else 1 + (length.bit_length() + 7) // 8


def read_length(octets: bytes, at: int, field: str, *, strict: bool = False) -> tuple[int, int]:
    """The length at `at`, and the position after it.

    The contents are within `octets`. With `strict`, only the shortest form is accepted.

    Raises:
        DecodeError: cut off, indefinite, longer than what follows, or (strict) not shortest.
    """
    start = at
    if at >= len(octets):
        raise DecodeError(field, start, "cut off before its length")
    length = octets[at]
    at += 1
    if length & 0x80:
        count = length & 0x7F
        if not 0 < count <= _LENGTH_OCTETS_MAX:
            raise DecodeError(field, start, f"a length of {count} octets")
        if at + count > len(octets):
            raise DecodeError(field, start, "cut off within its length")
        length = int.from_bytes(octets[at : at + count], "big")
        at += count
        if strict and length_size(length) != count + 1:
            raise DecodeError(field, start, "length is not in its shortest form")
    if length > len(octets) - at:
        raise DecodeError(field, start, f"claims {length} octets, {len(octets) - at} are there")
    return length, at


def read_var_octets(
    octets: bytes, at: int, field: str, *, size_max: int | None = None, strict: bool = False
) -> tuple[bytes, int]:
    """The octet string at `at`, and the position after it.

    Raises:
        DecodeError: see `read_length`; also when longer than `size_max` octets.
    """
    length, begin = read_length(octets, at, field, strict=strict)
    if size_max is not None and length > size_max:
        raise DecodeError(field, at, f"{length} octets, at most {size_max} allowed")
    end = begin + length
    return octets[begin:end], end


def var_uint(value: int) -> bytes:
    """An unsigned integer of any size with its length prefix; zero is `01 00` (RFC 30)."""
    if value < 0:
        raise ValueError("an unsigned integer cannot be negative")
    return var_octets(value.to_bytes(max(1, (value.bit_length() + 7) // 8), "big"))


def read_var_uint(
    octets: bytes, at: int, field: str, *, size_max: int = 8, strict: bool = False
) -> tuple[int, int]:
    """The unsigned integer at `at`, of at most `size_max` octets, and the position after it.

    Raises:
        DecodeError: see `read_length`; also when empty, too large, or (strict) zero-padded.
    """
    content, end = read_var_octets(octets, at, field, size_max=size_max, strict=strict)
    if not content:
        raise DecodeError(field, at, "an integer of no octets")
    if strict and len(content) > 1 and content[0] == 0:
        raise DecodeError(field, at, "an integer with leading zeros")
    return int.from_bytes(content, "big"), end
