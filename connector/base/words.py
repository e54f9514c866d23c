"""Errors of the system in words, for messages and logs."""

from __future__ import annotations

import os
from typing import Final

CHARACTERS_MAX: Final = 200


def words_of(error: BaseException) -> str:
    """An error in one short line, for messages and logs; one of the system without its number."""
    text = getattr(error, "strerror", None) or str(error)
    if isinstance(error, ConnectionError) and error.errno:
        text = os.strerror(error.errno)  # asyncio's own text names internals
    return " ".join(str(text).split())[:CHARACTERS_MAX]
