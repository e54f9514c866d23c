"""Authenticates and bounds every request before routing.

Checks, in this order: the size of the headers, the host name (DNS rebinding), the origin of the
page, the key where the path needs one, the size of the body. Applies to WebSockets too. Adds the
protective headers to every answer. `/metrics` is open, but balances are left out for requests
without a key (`shows_money`). What needs no key on loopback needs one if it came through a proxy: then
it is not from this machine.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from connector.base.log import Log
from connector.base.wrong_keys import Denied
from connector.web import bounds
from connector.web.access import Access
from connector.web.engine_access import ENGINE_PREFIX, EngineAccess, account_of
from connector.web.operating import CALLER, CSRF_HEADER, CSRF_WRONG, Caller, is_of
from connector.web.places import Holder, holder_at
from connector.web.proxies import HOST, forwarded
from connector.web.roles import Role

HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        "connect-src 'self'; font-src 'self'; base-uri 'none'; form-action 'self'; "
        "frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    # Keeps pages of other origins from embedding answers that they cannot read.
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
OPEN_PATHS: Final = frozenset(
    ("/health", "/health/live", "/health/ready", "/metrics", "/login", "/logout", "/login.css")
)
"""Paths that need no key."""
METRICS_PATH: Final = "/metrics"

_SHOWS_MONEY: Final = "connector.shows_money"
_MAY_GO_ON: Final = "connector.may_go_on"
_LOGIN: Final = "connector.login"
_ROLE: Final = "connector.role"
_VIA: Final = "connector.via"
"""Set in the scope of a request by the guard."""
_OF_PROXIES: Final = frozenset(
    ("forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-real-ip")
)
"""Headers that proxies add, and that no program on this machine sends for itself."""
_PROXY_NOT_NAMED: Final = (
    "this request came through a proxy, from anywhere: name the proxy in TRUSTED_PROXIES, "
    "and set {names}"
)
_SAFE_METHODS: Final = frozenset(("GET", "HEAD", "OPTIONS"))
_KEY_NEEDED: Final = "{names} is needed: Authorization: Bearer <key>"
_KEY_WRONG: Final = "wrong key: it is not {names} of this node"
_READS_ONLY: Final = "READ_API_KEY only reads: ADMIN_API_KEY is needed to change something"
_METRICS_KEY_WRONG: Final = (
    "this is no key of this node; without a key /metrics is answered, but has no balances"
)
_KEY_FOR_METRICS_ONLY: Final = "METRICS_KEY opens /metrics only: {names} is needed"
_ENGINE_KEY_NEEDED: Final = (
    "SETTLEMENT_TOKEN, or the peer's own token, is needed: Authorization: Bearer <token>"
)
_ENGINE_KEY_WRONG: Final = (
    "wrong token: it is not SETTLEMENT_TOKEN of this node, or the peer has a token of its own"
)

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


class Refusal(NamedTuple):
    """The answer to a request that is refused."""

    status: int
    message: str
    headers: tuple[tuple[bytes, bytes], ...] = ()


def page_headers(prefix: str) -> dict[str, str]:
    """The headers of a page that differ from `HEADERS` where it has a `<base>` (`base_of`)."""
    if not prefix:
        return {}
    policy = HEADERS["Content-Security-Policy"]
    return {"Content-Security-Policy": policy.replace("base-uri 'none'", "base-uri 'self'")}


def _raw(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode(), value.encode()) for name, value in headers.items()]


_RAW_HEADERS: Final = _raw(HEADERS)


class Guard:
    """An ASGI application around another one."""

    def __init__(
        self,
        app: App,
        *,
        access: Access,
        hosts: frozenset[str] | None,
        log: Log,
        login_page: Callable[[str], bytes],
        engines: EngineAccess | None = None,
    ) -> None:
        """Build it.

        Args:
            app: the application behind it.
            access: checks keys and logins.
            hosts: names that the Host header may have, in lower case; None: any.
            log: for errors of the application.
            login_page: the answer to a browser that asks for the page without a login, for a path
                prefix (`Forwarded`).
            engines: checks the tokens of settlement engines, the only keys for /settlement.
        """
        self.app: Final = app
        self._access = access
        self._hosts = hosts
        self._log = log
        self._login_page = login_page
        self._engines = engines

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        if _headers_bytes(scope) > bounds.HTTP_HEADERS_BYTES_MAX:
            await self._refuse(scope, {}, send, Refusal(431, "the headers are too large"))
            return
        headers = _headers_of(scope)
        refusal = self._check(scope, headers)
        if refusal is not None:
            await self._refuse(scope, headers, send, refusal)
            return
        if scope["type"] == "websocket":
            await self.app(scope, receive, send)
            return
        body = await _read_body(scope, receive, headers)
        if isinstance(body, Refusal):
            await self._refuse(scope, headers, send, body)
            return
        if body is None:
            return
        await self._call(scope, body, send)

    async def _call(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def protected(message: Message) -> None:
            if message["type"] == "http.response.start":
                present = {name.lower() for name, _ in message.get("headers", ())}
                missing = [pair for pair in _RAW_HEADERS if pair[0] not in present]
                message = {**message, "headers": [*message.get("headers", ()), *missing]}
            await send(message)

        CALLER.set(Caller(scope.get(_VIA, "key"), source_of(scope)))
        try:
            await self.app(scope, receive, protected)
        except Exception:  # noqa: BLE001 - an error in one route must not stop the others
            # The client already has a 500. Path and body may hold secrets, so the log has only the
            # pattern of the route.
            route = scope.get("route")
            self._log.error(
                "http_failed",
                method=scope["method"],
                route=getattr(route, "path", ""),
                exc_info=True,
            )

    # --- checks

    def _check(self, scope: Scope, headers: dict[str, str]) -> Refusal | None:
        host = HOST.fullmatch(headers.get("host", "").lower())
        if self._hosts is not None and (host is None or (host[1] or host[2]) not in self._hosts):
            return Refusal(421, "unknown host name: see HTTP_ALLOWED_HOSTS")
        changes = scope["type"] == "websocket" or scope["method"] not in _SAFE_METHODS
        if changes and not _same_origin(headers, forwarded(scope).scheme):
            return Refusal(403, "requests from pages of other origins are refused")
        return self._check_key(scope, headers)

    def _check_key(self, scope: Scope, headers: dict[str, str]) -> Refusal | None:
        access = self._access
        path = scope["path"]
        if path == METRICS_PATH:
            return self._check_metrics(scope, headers)
        if path in OPEN_PATHS:
            return None
        source = source_of(scope)
        if self._engines is not None and path.startswith(ENGINE_PREFIX + "/"):
            return _check_engine(self._engines, account_of(path), headers, source)
        admin = path == "/admin" or path.startswith("/admin/")
        if admin and not access.has_key:
            return Refusal(403, "the admin API is off: set ADMIN_API_KEY to turn it on")
        reads = scope["type"] == "websocket" or scope["method"] in _SAFE_METHODS
        if not admin and not access.required:
            if not _came_through_proxy(headers):
                return None
            if not access.has_login:
                return Refusal(403, _PROXY_NOT_NAMED.format(names="ADMIN_API_KEY"))
        cookie = headers.get("cookie", "")
        if admin and "authorization" not in headers:
            token = access.operating_token(cookie)
            if token is not None:
                scope[_VIA] = "page"
                safe = reads or is_of(token, headers.get(CSRF_HEADER, ""))
                return None if safe else Refusal(403, CSRF_WRONG)
        login = access.by_cookie(cookie) if not admin and reads else None
        if login is not None:
            scope[_MAY_GO_ON] = lambda: access.has_cookie(cookie)
            scope[_LOGIN], scope[_ROLE] = login.login, login.role
            return None
        names = access.key_names if reads else "ADMIN_API_KEY"
        match access.by_header(headers.get("authorization", ""), source):
            case Role.OPERATE:
                return None
            case Role.READ:
                scope[_ROLE] = Role.READ
                return None if reads else Refusal(403, _READS_ONLY)
            case Role.METRICS:
                return Refusal(403, _KEY_FOR_METRICS_ONLY.format(names=names))
            case Denied.THROTTLED:
                return throttled(access, source)
            case Denied.NO_KEY | Denied.WRONG_KEY as denied:
                message = (_KEY_NEEDED if denied is Denied.NO_KEY else _KEY_WRONG).format(
                    names=names
                )
                return Refusal(401, message, ((b"www-authenticate", b"Bearer"),))

    def _check_metrics(self, scope: Scope, headers: dict[str, str]) -> Refusal | None:
        """Decide whether balances are shown; only a wrong key is refused."""
        access, source = self._access, source_of(scope)
        is_open = not access.metrics_need_key and not _came_through_proxy(headers)
        if is_open or access.has_cookie(headers.get("cookie", "")):
            scope[_SHOWS_MONEY] = True
            return None
        match access.by_header(headers.get("authorization", ""), source):
            case Role():
                scope[_SHOWS_MONEY] = True
                return None
            case Denied.NO_KEY:
                return None
            case Denied.THROTTLED:
                return throttled(access, source)
            case Denied.WRONG_KEY:
                return Refusal(401, _METRICS_KEY_WRONG, ((b"www-authenticate", b"Bearer"),))

    async def _refuse(
        self, scope: Scope, headers: dict[str, str], send: Send, refusal: Refusal
    ) -> None:
        content, kind = json.dumps({"error": refusal.message}).encode(), b"application/json"
        protective = HEADERS
        if (
            scope["type"] == "http"
            and refusal.status == 401
            and scope["path"] == "/"
            and ("text/html" in headers.get("accept", ""))
        ):
            prefix = forwarded(scope).prefix
            content, kind = self._login_page(prefix), b"text/html; charset=utf-8"
            protective = {**HEADERS, **page_headers(prefix)}
        start = {
            "type": "http.response.start",
            "status": refusal.status,
            "headers": [
                (b"content-type", kind),
                (b"content-length", str(len(content)).encode()),
                *refusal.headers,
                *_raw(protective),
            ],
        }
        body = {"type": "http.response.body", "body": content}
        if scope["type"] == "websocket":
            if "websocket.http.response" not in scope.get("extensions", {}):
                await send({"type": "websocket.close", "code": 1008})
                return
            start["type"], body["type"] = (
                "websocket.http.response.start",
                "websocket.http.response.body",
            )
        await send(start)
        await send(body)


def _check_engine(
    engines: EngineAccess, peer_id: str, headers: dict[str, str], source: str
) -> Refusal | None:
    if engines.is_closed(peer_id):
        return Refusal(403, "settlement engines are let in off loopback by SETTLEMENT_TOKEN only")
    if not engines.has_token(peer_id) and _came_through_proxy(headers):
        return Refusal(403, _PROXY_NOT_NAMED.format(names="SETTLEMENT_TOKEN"))
    given = _token_in(headers.get("authorization", ""))
    match engines.check(peer_id, given, source):
        case None:
            return None
        case Denied.THROTTLED:
            return throttled(engines, source)
        case Denied.NO_KEY:
            return Refusal(401, _ENGINE_KEY_NEEDED, ((b"www-authenticate", b"Bearer"),))
        case Denied.WRONG_KEY:
            return Refusal(401, _ENGINE_KEY_WRONG, ((b"www-authenticate", b"Bearer"),))


def _token_in(authorization: str) -> str:
    """A bearer token, or the password of basic authentication, which engines take from a URL."""
    scheme, _, given = authorization.partition(" ")
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(given, validate=True).decode().partition(":")[2]
        except ValueError:
            return ""
    return given if scheme.lower() == "bearer" else ""


def _came_through_proxy(headers: Mapping[str, str]) -> bool:
    """Whether a request says that a proxy has passed it on, so that its client may be anywhere.

    Asked where no key is needed on loopback. A proxy that adds none of these headers looks like a
    program on this machine: an operator names it in TRUSTED_PROXIES.
    """
    return not _OF_PROXIES.isdisjoint(headers)


def source_of(scope: Scope) -> str:
    """The address that a request comes from."""
    client = scope.get("client")
    return str(client[0]) if client else ""


def holder_of(scope: Scope) -> Holder:
    """Who makes a request that the guard has let through; on loopback, without a key, an operator."""
    return holder_at(source_of(scope), scope.get(_LOGIN, ""), scope.get(_ROLE, Role.OPERATE))


def shows_money(scope: Scope) -> bool:
    """Whether a request for /metrics may see balances and amounts, as the guard has decided."""
    return scope.get(_SHOWS_MONEY) is True


def may_go_on(scope: Scope) -> bool:
    """Whether a WebSocket may stay open: the login that it was opened with has not ended."""
    check: Callable[[], bool] | None = scope.get(_MAY_GO_ON)
    return check is None or check()


def throttled(access: Access | EngineAccess, source: str) -> Refusal:
    """The refusal after too many wrong keys from an address."""
    seconds = access.retry_after_s(source)
    return Refusal(
        429,
        f"a wrong key, as were too many from this address: try again in {seconds} s",
        ((b"retry-after", str(seconds).encode()),),
    )


def _headers_bytes(scope: Scope) -> int:
    """The octets of names, values and the target, which all checks have to read."""
    size = sum(len(name) + len(value) for name, value in scope["headers"])
    return size + len(scope.get("raw_path") or b"") + len(scope.get("query_string") or b"")


def _headers_of(scope: Scope) -> dict[str, str]:
    """Headers by lower-case name; a single-value header that is repeated counts as empty."""
    headers: dict[str, str] = {}
    for name, value in scope["headers"]:
        text = name.decode("latin-1").lower()
        both = text in headers and text in ("host", "origin", "authorization", "content-length")
        headers[text] = "" if both else value.decode("latin-1")
    return headers


def _same_origin(headers: dict[str, str], scheme: str | None) -> bool:
    """Whether a request comes from this node's own page, or from no page.

    Browsers send Origin with requests that change something and with WebSockets; other programs
    usually do not. The scheme is compared where a trusted proxy says it; else one that nobody has told
    us of may terminate TLS.
    """
    origin = headers.get("origin")
    if origin is None:
        return headers.get("sec-fetch-site", "same-origin") in ("same-origin", "none")
    try:
        parts = urlsplit(origin.lower())
        default = {"http": 80, "https": 443}.get(parts.scheme)
        theirs = parts.hostname, parts.port or default
    except ValueError:
        return False
    host = HOST.fullmatch(headers.get("host", "").lower())
    if default is None or host is None or scheme not in (None, parts.scheme):
        return False
    return theirs == (host[1] or host[2], int(host[3]) if host[3] else default)


async def _read_body(
    scope: Scope, receive: Receive, headers: dict[str, str]
) -> Receive | Refusal | None:
    """Read the whole body, in any number of parts, up to the size and time allowed.

    None: the client has hung up before its end. The application is never told of that while it reads the
    body: it would take it for a failure.
    """
    length = headers.get("content-length", "0")
    size_max = (
        bounds.HTTP_LOGIN_BYTES_MAX if scope["path"] in OPEN_PATHS else bounds.HTTP_BODY_BYTES_MAX
    )
    too_large = Refusal(413, "body too large")
    if not (length.isascii() and length.isdigit()) or len(length) > 10 or int(length) > size_max:
        return too_large
    if length == "0" and "transfer-encoding" not in headers:
        return _replay(b"", receive)
    body = bytearray()
    try:
        async with asyncio.timeout(bounds.HTTP_BODY_SECONDS_MAX):
            while True:
                message = await receive()
                if message["type"] != "http.request":
                    return None
                body += message.get("body", b"")
                if len(body) > size_max:
                    return too_large
                if not message.get("more_body", False):
                    break
    except TimeoutError:
        return Refusal(408, "the body did not come in time")
    return _replay(bytes(body), receive)


def _replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` that returns the body in one message, then the messages after it."""
    first: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return first.pop() if first else await receive()

    return again
