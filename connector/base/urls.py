"""Which URLs can be dialled. Not in `settings`, which takes long to import."""

from __future__ import annotations

from urllib.parse import urlsplit

from websockets.exceptions import InvalidURI
from websockets.uri import parse_uri


def is_dialable(text: str) -> bool:
    """Whether `text` is a ws:// or wss:// URL, without credentials, that can be dialled."""
    plain = text.removeprefix("btp+")
    try:
        parse_uri(plain)
        parts = urlsplit(plain)
        _ = parts.port
        # A name without an IDNA form cannot be resolved; UnicodeError is a ValueError.
        (parts.hostname or "").encode("idna")
    except (InvalidURI, ValueError):
        return False
    return "@" not in parts.netloc
