"""Payment pointers (RFC 26) and what their servers answer (SPSP, RFC 9). Pure."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any, Final
from urllib.parse import urlsplit

from connector.ilp import address
from connector.stream.crypto import SECRET_BYTES

ACCEPT: Final = "application/spsp4+json, application/spsp+json"
WELL_KNOWN: Final = "/.well-known/pay"
_CHARACTERS_MAX: Final = 2000
_HOST: Final = re.compile(r"[A-Za-z0-9.-]{1,253}")
_PRINTABLE: Final = re.compile(r"[\x21-\x7e]+")


def url_of(target: str) -> str:
    """The URL that a payment pointer stands for; a URL is taken as it is.

    `$host` and `$host/` are `https://host/.well-known/pay`, `$host/path` is `https://host/path`.

    Raises:
        ValueError: it is neither; or a pointer with a user, a port, a query or a fragment; or a URL with
            a user.
    """
    if len(target) > _CHARACTERS_MAX or _PRINTABLE.fullmatch(target) is None:
        raise ValueError("a payment pointer or URL has printable ASCII characters, without spaces")
    if target.startswith("$"):
        host, slash, path = target[1:].partition("/")
        if _HOST.fullmatch(host) is None or {"?", "#"} & set(path):
            raise ValueError("a payment pointer is $host or $host/path, without port and query")
        return f"https://{host}{slash}{path}" if path else f"https://{host}{WELL_KNOWN}"
    try:
        parts = urlsplit(target)
        _ = parts.port
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
        raise ValueError("neither a payment pointer ($host/path) nor an http:// or https:// URL")
    return target if parts.path not in ("", "/") else f"{target.rstrip('/')}{WELL_KNOWN}"


def shown(target: str) -> str:
    """A target for views and logs: without its query, which may hold a token."""
    head, mark, _ = target.partition("?")
    return f"{head}?(hidden)" if mark else target


def read_answer(body: Any) -> tuple[str, bytes]:
    """The ILP address and the shared secret of an SPSP answer.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(body, dict):
        raise ValueError("the answer is not an object")  # noqa: TRY004 - one kind of fault
    destination, text = body.get("destination_account"), body.get("shared_secret")
    if not isinstance(destination, str) or not address.is_address(destination):
        raise ValueError("destination_account is not an ILP address")
    if destination == "peer" or destination.startswith("peer."):
        raise ValueError("destination_account is for neighbours only")
    if not isinstance(text, str):
        raise ValueError("there is no shared_secret")  # noqa: TRY004 - one kind of fault
    try:
        # Some servers write base64 in its form for URLs, and without padding.
        plain = text.strip().rstrip("=").replace("-", "+").replace("_", "/")
        secret = base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("shared_secret is not base64") from None
    if len(secret) != SECRET_BYTES:
        raise ValueError(f"shared_secret has {len(secret)} octets, not {SECRET_BYTES}")
    return destination, secret
