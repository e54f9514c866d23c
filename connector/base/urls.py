"""Which URLs can be dialled; apart from the settings, whose loading takes longer than a packet."""

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
        # What has no IDNA form cannot be looked up either; UnicodeError is a ValueError.
        (parts.hostname or "").encode("idna")
    except (InvalidURI, ValueError):
        return False
    return "@" not in parts.netloc
