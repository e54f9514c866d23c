"""The effective configuration for `check-config`: each value, redacted, and where it came from."""

from __future__ import annotations

from decimal import Decimal, localcontext
from fractions import Fraction
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from connector.base.log import REDACTED
from connector.settings import bounds
from connector.settings.faults import SECRETS
from connector.settings.load import Loaded
from connector.settings.model import PeerSettings, RouteSettings, Settings
from connector.settings.types import PEER_VARIABLE


def describe(loaded: Loaded) -> list[tuple[str, str, str]]:
    """Name, value and source of every setting; no secret, and no credentials of a URL."""
    settings, sources = loaded.settings, loaded.sources
    rows: list[tuple[str, str, str]] = []
    for name in Settings.model_fields:
        if name == "peers":
            continue
        value = getattr(settings, name)
        rows.append((name.upper(), _text(name, value), sources.get(name, "default")))
    for peer in settings.peers:
        for name in PeerSettings.model_fields:
            if name == "id":
                continue
            source = sources.get(f"peers.{peer.id}.{name}", "default")
            variable = f"{PEER_VARIABLE}{peer.id.upper().replace('-', '_')}_{name.upper()}"
            rows.append((variable, _text(name, getattr(peer, name)), source))
    return rows


def _text(name: str, value: Any) -> str:
    if value is None:
        return ""
    if name == "explorer_node_keys":
        return ",".join(f"{url}={REDACTED}" for url in value)
    if name in SECRETS:
        return REDACTED
    if name == "rates":
        return ",".join(f"{a}/{b}={_exact(rate)}" for (a, b), rate in value.items())
    if name == "routes":
        if value and isinstance(value[0], RouteSettings):
            shown = [
                f"{route.prefix}={route.next_hop}" for route in value[: bounds.ROUTES_SHOWN_MAX]
            ]
            return ",".join(shown) + (f",... ({len(value)})" if len(value) > len(shown) else "")
        return ",".join(value)
    if isinstance(value, list):
        return ",".join(map(str, value))
    if name.endswith("url") and isinstance(value, str):
        return without_credentials(value)
    return str(value)


def _exact(rate: Fraction) -> str:
    """All digits, since money is converted by them; a fraction where there is no end to them."""
    with localcontext(prec=bounds.RATE_DIGITS_SHOWN_MAX):
        text = f"{(Decimal(rate.numerator) / Decimal(rate.denominator)).normalize():f}"
    return text if Fraction(text) == rate else str(rate)


def without_credentials(url: str) -> str:
    """The URL with its user, password and query redacted, which may contain tokens."""
    parts = urlsplit(url)
    netloc = parts.netloc
    if "@" in netloc:
        netloc = f"{REDACTED}@{netloc.rpartition('@')[2]}"
    query = REDACTED if parts.query else ""
    return urlunsplit((parts.scheme, netloc, parts.path, query, parts.fragment))
