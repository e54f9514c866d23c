"""The web application of a node: health, metrics, API, login and page behind the guard.

Health and metrics need no key. Off loopback, balances in metrics, the API and the page need a key or a
login. Requests that change something always need the admin key (web/guard.py). Errors never repeat
what the client sent.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Final, Protocol

from fastapi import APIRouter, FastAPI, Query, Request, Response
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, PlainTextResponse
from fastapi.staticfiles import StaticFiles

from connector.base import limits
from connector.base.log import Log
from connector.web import models
from connector.web.access import Access
from connector.web.engine_access import EngineAccess
from connector.web.faults import say_faults
from connector.web.guard import Guard, page_headers, shows_money
from connector.web.login import login_page, login_router
from connector.web.openapi import complete
from connector.web.operating import session_router
from connector.web.proxies import base_of, forwarded

PAGE: Final = Path(__file__).parent / "page"
"""The folder of the built page."""
_NO_PAGE: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>ILP connector</title></head>
<body><h1>The page is not in this installation</h1>
<p>It is built when the package is installed, unless <code>CONNECTOR_UI=skip</code> was set. To have it,
install again without that: <code>pip install --force-reinstall --no-deps ilp-connector</code>, or in a
clone of the repository <code>cd explorer-ui; npm ci; npm run build</code>.</p>
<p>Everything else is here: <a href="health">health</a>, <a href="metrics">metrics</a>, the API
(<a href="api/openapi.json">OpenAPI</a>), and the commands <code>python -m connector status</code>,
<code>peers</code>, <code>routes</code> and <code>balances</code>.</p></body></html>
"""


class NodeView(Protocol):
    """What the web application shows of a node. All values are current."""

    def health(self) -> dict[str, Any]:
        """Status, node id, peers, accounting, version, uptime."""

    def ready(self) -> tuple[bool, str]:
        """Whether new Prepares can be taken, and why not."""

    def metrics(self, *, money: bool) -> bytes:
        """Prometheus text; `money`: with balances and amounts of peers."""

    def status(self) -> dict[str, Any]:
        """The node at a glance."""

    def peers_view(self) -> list[dict[str, Any]]:
        """One item a peer."""

    def routes_view(self, cursor: str, count: int) -> tuple[list[dict[str, Any]], str | None]:
        """Routes by prefix after `cursor`."""

    def accounts_view(self) -> list[dict[str, Any]]:
        """One item a peer account, with the fields of `ACCOUNT_BALANCE`."""

    def wallets_view(self) -> list[dict[str, Any]]:
        """One item for each wallet of this node."""

    def explain_view(self, destination: str) -> dict[str, Any]:
        """Why packets for an address go where they go."""

    def keys_view(self) -> dict[str, Any]:
        """What identifies this node and secures its links; never a secret."""


def create_app(
    node: NodeView,
    *,
    access: Access,
    hosts: frozenset[str] | None,
    log: Log,
    node_id: str,
    engines: EngineAccess | None = None,
    routers: Iterable[APIRouter] = (),
    page: Path = PAGE,
) -> Guard:
    """The application.

    Args:
        node: the node that is shown.
        access: checks keys and logins.
        hosts: names that the Host header may have; None: any.
        log: for errors of the application.
        node_id: for the login page.
        engines: checks the tokens of settlement engines.
        routers: other routes: events, administration.
        page: folder of the built page.
    """
    # FastAPI's documentation pages load scripts from other sites: off.
    app = FastAPI(
        title="ILP connector", docs_url=None, redoc_url=None, openapi_url="/api/openapi.json"
    )
    say_faults(app)
    app.include_router(_health_router(node))
    app.include_router(_read_router(node))
    app.include_router(login_router(access, node_id))
    app.include_router(session_router(access))
    for router in routers:
        app.include_router(router)
    _serve_page(app, page)
    complete(app)
    return Guard(
        app,
        access=access,
        hosts=hosts,
        log=log,
        login_page=lambda prefix: login_page(node_id, prefix=prefix),
        engines=engines,
    )


def _health_router(node: NodeView) -> APIRouter:
    router = APIRouter(tags=["health"])

    @router.get("/health", responses={200: {"model": models.Health}, 503: {"model": models.Health}})
    async def health() -> JSONResponse:
        body = node.health()
        return JSONResponse(body, 200 if body["status"] != "unhealthy" else 503)

    @router.get("/health/live", response_model=None, responses={200: {"model": models.Alive}})
    async def live() -> dict[str, str]:
        return {"status": "alive"}

    @router.get(
        "/health/ready", responses={200: {"model": models.Ready}, 503: {"model": models.Ready}}
    )
    async def ready() -> JSONResponse:
        is_ready, reason = node.ready()
        if not is_ready:
            return JSONResponse({"status": "not ready", "reason": reason}, 503)
        return JSONResponse({"status": "degraded" if reason else "ready", "reason": reason})

    @router.get(
        "/metrics",
        response_class=PlainTextResponse,
        description="Off loopback, or where METRICS_KEY is set, balances and amounts of peers are "
        "shown to requests with METRICS_KEY, READ_API_KEY or ADMIN_API_KEY only.",
    )
    async def metrics(request: Request) -> Response:
        text = node.metrics(money=shows_money(request.scope))
        return PlainTextResponse(text, media_type="text/plain; version=0.0.4")

    return router


def _read_router(node: NodeView) -> APIRouter:
    router = APIRouter(prefix="/api", tags=["read"])

    @router.get("/status", response_model=None, responses={200: {"model": models.Status}})
    async def status() -> dict[str, Any]:
        return node.status()

    @router.get("/peers", response_model=None, responses={200: {"model": models.Peers}})
    async def peers() -> dict[str, Any]:
        return {"items": node.peers_view(), "next": None}

    @router.get("/routes", response_model=None, responses={200: {"model": models.Routes}})
    async def routes(
        cursor: str = "", limit: Annotated[int, Query(description="1 to 1000")] = 200
    ) -> dict[str, Any]:
        count = max(1, min(limit, limits.HTTP_PAGE_ITEMS_MAX))
        items, following = node.routes_view(cursor, count)
        return {"items": items, "next": following}

    @router.get(
        "/routes/explain", response_model=None, responses={200: {"model": models.Explained}}
    )
    async def explain(destination: str) -> dict[str, Any]:
        return node.explain_view(destination)

    @router.get("/accounts", response_model=None, responses={200: {"model": models.Accounts}})
    async def accounts() -> dict[str, Any]:
        return {"items": node.accounts_view(), "next": None}

    @router.get("/wallets", response_model=None, responses={200: {"model": models.Wallets}})
    async def wallets() -> dict[str, Any]:
        return {"items": node.wallets_view(), "next": None}

    @router.get("/keys", response_model=None, responses={200: {"model": models.Keys}})
    async def keys() -> dict[str, Any]:
        return node.keys_view()

    return router


class _Assets(StaticFiles):
    """Files with a digest of their content in the name: they never change."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(*args, **kwargs)
        response.headers["Cache-Control"] = "private, max-age=31536000, immutable"
        return response


def _serve_page(app: FastAPI, page: Path) -> None:
    @app.get("/", include_in_schema=False)
    async def root(request: Request) -> Response:
        index = page / "index.html"
        prefix = forwarded(request.scope).prefix
        headers = page_headers(prefix)
        if not index.is_file():
            return HTMLResponse(_with_base(_NO_PAGE, prefix), headers=headers)
        headers["Cache-Control"] = "no-cache"
        if not prefix:
            return FileResponse(index, headers=headers)
        return HTMLResponse(_with_base(index.read_text("utf-8"), prefix), headers=headers)

    if (page / "assets").is_dir():
        app.mount("/assets", _Assets(directory=page / "assets"))


def _with_base(text: str, prefix: str) -> str:
    return text.replace("<head>", f"<head>{base_of(prefix)}", 1)
