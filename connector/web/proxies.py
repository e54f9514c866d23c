"""What a trusted proxy says of a request: its client, its scheme, its host name, its path prefix.

`X-Forwarded-For`, `-Proto`, `-Host` and `-Prefix` are heeded from the addresses of TRUSTED_PROXIES
only. Headers of others, repeated ones, lists where one value is meant, and malformed values are
ignored. The path of a request is never changed: the guard decides by it.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any, Final, NamedTuple

from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from connector.web import bounds

Scope = MutableMapping[str, Any]
App = Callable[[Any, Any, Any], Awaitable[None]]

HOST: Final = re.compile(r"(?:\[([0-9a-f:.]+)\]|([a-z0-9._-]+))(?::(\d{1,5}))?")
"""A Host header in lower case: address in brackets or name, and port."""
_PREFIX: Final = re.compile(r"(?:/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+")
_FORWARDED: Final = "connector.forwarded"
"""Where a scope holds its `Forwarded`."""
_PROXY: Final = "connector.proxy"
"""Where a scope holds the address of the proxy."""
CAME_FROM: Final = "connector.came_from"
"""Where the state of a connection holds what is told the address of each request's client."""
_PROTO: Final = b"x-forwarded-proto"
_NAME: Final = b"x-forwarded-host"
_CUT_OFF: Final = b"x-forwarded-prefix"
_SCHEMES: Final = frozenset(("http", "https"))


class Forwarded(NamedTuple):
    """What a trusted proxy says of a request, beside client and host name."""

    scheme: str | None
    """`http` or `https`; None: it does not say."""
    prefix: str
    """The path that it has cut off, such as `/node`; empty: none."""


def forwarded(scope: Scope) -> Forwarded:
    """What a trusted proxy says of a request; without one: nothing."""
    found = scope.get(_FORWARDED)
    return found if isinstance(found, Forwarded) else Forwarded(None, "")


def is_https(scope: Scope) -> bool:
    """Whether the client uses TLS, to this node or to a trusted proxy."""
    return scope.get("scheme") in ("https", "wss")


def base_of(prefix: str) -> str:
    """The element of a page that makes its relative links begin at `prefix`; empty: at its own URL."""
    return f'<base href="{prefix}/">' if prefix else ""


class Proxies:
    """The addresses whose headers are heeded."""

    def __init__(self, networks: Sequence[str]) -> None:
        """`networks`: addresses and networks, such as 10.0.0.2 or 10.0.0.0/8; all valid."""
        self.networks: Final = [ipaddress.ip_network(network) for network in networks]

    def written(self) -> list[str]:
        """All networks, those of IPv4 also mapped into IPv6: another proxy may write them so."""
        networks = [str(network) for network in self.networks]
        return networks + [
            f"::ffff:{network.network_address}/{96 + network.prefixlen}"
            for network in self.networks
            if isinstance(network, ipaddress.IPv4Network)
        ]

    def trusts(self, host: str) -> bool:
        """Whether `host` is the address of a trusted proxy."""
        address = _address(host)
        return address is not None and any(address in network for network in self.networks)


class ProxyHeaders:
    """An ASGI application around another one, which sees client, scheme and host as forwarded."""

    def __init__(self, app: App, proxies: Proxies) -> None:
        self._app = app
        self._proxies = proxies
        # It walks X-Forwarded-For from the right to the first address that is not trusted.
        self._walk = ProxyHeadersMiddleware(self._forward, proxies.written())

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        """See ASGI."""
        client = scope.get("client") if scope["type"] in ("http", "websocket") else None
        peer = _address(client[0]) if client else None
        if peer is None or not self._proxies.trusts(str(peer)):
            await self._app(scope, receive, send)
            return
        given = _single(scope["headers"])
        scheme = given.get(_PROTO, "").lower()
        prefix = given.get(_CUT_OFF, "").removesuffix("/")
        host = given.get(_NAME, "").lower()
        headers = [
            (name, value) for name, value in scope["headers"] if name not in (_PROTO, _CUT_OFF)
        ]
        if HOST.fullmatch(host):
            headers = [(name, value) for name, value in headers if name != b"host"]
            headers.append((b"host", host.encode()))
        if scheme in _SCHEMES:
            headers.append((_PROTO, scheme.encode()))
        is_prefix = _PREFIX.fullmatch(prefix) and len(prefix) <= bounds.PROXY_PREFIX_CHARACTERS_MAX
        said = Forwarded(
            scheme=scheme if scheme in _SCHEMES else None, prefix=prefix if is_prefix else ""
        )
        proxied: Any = {
            **scope,
            "headers": headers,
            "client": (str(peer), 0),
            _PROXY: str(peer),
            _FORWARDED: said,
        }
        await self._walk(proxied, receive, send)

    async def _forward(self, scope: Any, receive: Any, send: Any) -> None:
        """Go on with the client that was found, or with the proxy where that is no address."""
        client = _address(scope["client"][0])
        host = scope[_PROXY] if client is None else str(client)
        scope["client"] = (host, scope["client"][1])
        tell = scope.get("state", {}).get(CAME_FROM)
        if tell is not None:
            tell(host)
        await self._app(scope, receive, send)


def _single(headers: Sequence[tuple[bytes, bytes]]) -> dict[bytes, str]:
    """Headers that are there once; of others the value is empty."""
    found: dict[bytes, str] = {}
    for name, value in headers:
        found[name] = "" if name in found else value.decode("latin-1").strip()
    return found


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """An address, in one form only; None: it is none.

    One of IPv4 that is mapped into IPv6 is what it is mapped from. The zone of an IPv6 address is left
    out: it is a free text.
    """
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv4Address):
        return address
    return address.ipv4_mapped or ipaddress.IPv6Address(int(address))
