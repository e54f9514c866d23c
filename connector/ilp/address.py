"""ILP addresses and route prefixes (RFC 15): validation.

An address is a plain `str` once it has passed `parse`: the allocation scheme, then segments from
the general to the specific, joined by dots.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from connector.base import limits
from connector.base.errors import DecodeError
from connector.ilp import bounds

SCHEMES: Final = frozenset(
    ("g", "private", "example", "peer", "self", "test", "test1", "test2", "test3", "local")
)
_ADDRESS: Final = re.compile(
    rb"(?:g|private|example|peer|self|test[123]?|local)(?:\.[A-Za-z0-9_~-]+)+"
)
_PREFIX: Final = re.compile(
    r"(?:g|private|example|peer|self|test[123]?|local)(?:\.[A-Za-z0-9_~-]+)*"
)


@lru_cache(maxsize=bounds.ADDRESS_CACHE_ENTRIES_MAX)
def parse(octets: bytes) -> str:
    """The address encoded in `octets`.

    Raises:
        DecodeError: longer than 1023 characters, unknown scheme, no second segment, an empty
            segment, or a character outside `[A-Za-z0-9_~-]` (RFC 15, requirements of addresses).
    """
    if len(octets) > limits.ADDRESS_CHARACTERS_MAX:
        raise DecodeError("address", 0, f"{len(octets)} characters, at most 1023 allowed")
    if _ADDRESS.fullmatch(octets) is None:
        raise DecodeError("address", 0, "not an ILP address")
    return octets.decode("ascii")


def is_address(text: str) -> bool:
    """Whether `text` is a complete address."""
    try:
        parse(text.encode("ascii", "replace"))
    except DecodeError:
        return False
    return True


def is_prefix(text: str) -> bool:
    """Whether `text` can be a route prefix: empty (everything), a scheme, or an address."""
    if text == "":
        return True
    return len(text) <= limits.ADDRESS_CHARACTERS_MAX and _PREFIX.fullmatch(text) is not None
