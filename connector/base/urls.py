"""Which URLs and addresses can be dialled. Not in `settings`, which takes long to import."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

from websockets.exceptions import InvalidURI
from websockets.uri import parse_uri

REPLICAS_MAX: Final = 6
"""Of a TigerBeetle cluster."""


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


def replica_addresses(text: str) -> list[tuple[str, int]]:
    """Host and port of each replica in `host:port,...`; a bare port is on this machine.

    Raises:
        ValueError: it has another form, or names more than `REPLICAS_MAX`.
    """
    parts = [part.strip() for part in text.split(",")]
    if len(parts) > REPLICAS_MAX:
        raise ValueError(f"a cluster has at most {REPLICAS_MAX} replicas, {text!r} names more")
    return [_replica_address(part) for part in parts]


def _replica_address(part: str) -> tuple[str, int]:
    host, colon, port = part.rpartition(":")
    if not colon:
        host = "127.0.0.1"
    elif host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        host = ""
    if not host or not port.isascii() or not port.isdecimal() or not 0 < int(port) < 1 << 16:
        raise ValueError(
            f"{part!r} is no address of a replica: write host:port, [IPv6 address]:port or a port"
        )
    return host, int(port)
