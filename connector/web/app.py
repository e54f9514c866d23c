"""The FastAPI application of a node.

Health and metrics are open; the API needs the admin key as soon as the address is not loopback.
A Host allow-list keeps DNS rebinding out; errors never repeat what was sent.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse
from starlette.exceptions import HTTPException

from connector import limits

HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        "connect-src 'self'; font-src 'self'; base-uri 'none'; form-action 'self'; "
        "frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
_HOST: Final = re.compile(r"(?:\[([0-9a-f:.]+)\]|([a-z0-9._-]+))(?::\d+)?")
_OPEN_PATHS: Final = ("/health", "/health/live", "/health/ready", "/metrics")


class NodeView(Protocol):
    """What the web surface asks of a node. All values are of this moment."""

    def health(self) -> dict[str, Any]:
        """Status, node id, peers, accounting, version, uptime."""

    def ready(self) -> tuple[bool, str]:
        """Whether new Prepares can be taken, and why not."""

    def metrics(self) -> bytes:
        """Prometheus text."""

    def status(self) -> dict[str, Any]:
        """The node at a glance."""

    def peers_view(self) -> list[dict[str, Any]]:
        """One item a peer."""

    def routes_view(self, cursor: str, count: int) -> tuple[list[dict[str, Any]], str | None]:
        """Routes by prefix after `cursor`."""

    def accounts_view(self) -> list[dict[str, Any]]:
        """One item a peer account, with the fields of `ACCOUNT_BALANCE`."""

    def explain_view(self, destination: str) -> dict[str, Any]:
        """Why packets for an address go where they go."""


def create_app(
    node: NodeView, *, key: str | None, key_required: bool, hosts: frozenset[str] | None
) -> FastAPI:
    """The application. `hosts`: names that the Host header may have; None: any."""
    # Its own documentation pages load scripts from elsewhere: off.
    app = FastAPI(
        title="ILP connector", docs_url=None, redoc_url=None, openapi_url="/api/openapi.json"
    )

    @app.middleware("http")
    async def guard(
        request: Request, call_next: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        if hosts is not None and _host(request) not in hosts:
            return _fault(421, "unknown host name")
        length = request.headers.get("content-length", "0")
        if not length.isdigit() or int(length) > limits.HTTP_BODY_BYTES_MAX:
            return _fault(413, "body too large")
        if key_required and request.url.path not in _OPEN_PATHS and not _allowed(request, key):
            return _fault(401, "ADMIN_API_KEY is needed: Authorization: Bearer <key>")
        response = await call_next(request)
        response.headers.update(HEADERS)
        return response

    @app.exception_handler(RequestValidationError)
    async def invalid(_request: Request, error: RequestValidationError) -> Response:
        places = [".".join(map(str, fault["loc"])) for fault in error.errors()]
        return _fault(422, "not valid: " + ", ".join(places))

    @app.exception_handler(HTTPException)
    async def failed(_request: Request, error: HTTPException) -> Response:
        return _fault(error.status_code, str(error.detail))

    @app.get("/health", tags=["health"])
    async def health() -> JSONResponse:
        body = node.health()
        return JSONResponse(body, 200 if body["status"] != "unhealthy" else 503)

    @app.get("/health/live", tags=["health"])
    async def live() -> dict[str, str]:
        return {"status": "alive"}

    @app.get("/health/ready", tags=["health"])
    async def ready() -> JSONResponse:
        is_ready, reason = node.ready()
        if not is_ready:
            return JSONResponse({"status": "not ready", "reason": reason}, 503)
        return JSONResponse({"status": "degraded" if reason else "ready", "reason": reason})

    @app.get("/metrics", tags=["health"])
    async def metrics() -> PlainTextResponse:
        return PlainTextResponse(node.metrics(), media_type="text/plain; version=0.0.4")

    @app.get("/api/status", tags=["read"])
    async def status() -> dict[str, Any]:
        return node.status()

    @app.get("/api/peers", tags=["read"])
    async def peers() -> dict[str, Any]:
        return {"items": node.peers_view(), "next": None}

    @app.get("/api/routes", tags=["read"])
    async def routes(cursor: str = "", limit: int = 200) -> dict[str, Any]:
        count = max(1, min(limit, limits.HTTP_PAGE_ITEMS_MAX))
        items, following = node.routes_view(cursor, count)
        return {"items": items, "next": following}

    @app.get("/api/routes/explain", tags=["read"])
    async def explain(destination: str) -> dict[str, Any]:
        return node.explain_view(destination)

    @app.get("/api/accounts", tags=["read"])
    async def accounts() -> dict[str, Any]:
        return {"items": node.accounts_view(), "next": None}

    return app


def _host(request: Request) -> str:
    found = _HOST.fullmatch(request.headers.get("host", "").lower())
    return (found[1] or found[2]) if found is not None else ""


def _allowed(request: Request, key: str | None) -> bool:
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    return (
        key is not None
        and scheme.lower() == "bearer"
        and hmac.compare_digest(given.encode(), key.encode())
    )


def _fault(status: int, message: str) -> JSONResponse:
    return JSONResponse({"error": message}, status, headers=HEADERS)
