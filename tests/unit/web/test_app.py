"""The HTTP surface over a made-up node: what is open, what needs the key, what is refused."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from connector.base import limits
from connector.base.clock import Clock, SystemClock
from connector.base.randomness import SystemRandomness
from connector.web import bounds as web_bounds
from connector.web.access import Access
from connector.web.app import create_app
from connector.web.guard import HEADERS, OPEN_PATHS, Guard
from tests.support.daemons import EventLog

KEY = "key-of-the-admin"
OPEN = ["/health", "/health/live", "/health/ready", "/metrics"]
READ = [
    "/api/status", "/api/peers", "/api/routes", "/api/routes/explain?destination=g.a",
    "/api/accounts", "/api/keys", "/api/openapi.json",
]  # fmt: skip


class MadeUpNode:
    """A `NodeView` that says what it is told to."""

    def __init__(self) -> None:
        self.reason = ""
        self.is_ready = True
        self.status_word = "healthy"
        self.asked: list[tuple[str, int]] = []

    def health(self) -> dict[str, Any]:
        return {"status": self.status_word, "nodeId": "made-up"}

    def ready(self) -> tuple[bool, str]:
        return self.is_ready, self.reason

    def metrics(self, *, money: bool) -> bytes:
        text = b"# HELP up Whether.\n# TYPE up gauge\nup 1.0\n"
        return text + b"# TYPE ilp_account_balance gauge\nilp_account_balance 7.0\n" * money

    def status(self) -> dict[str, Any]:
        return {"nodeId": "made-up"}

    def peers_view(self) -> list[dict[str, Any]]:
        return [{"peerId": "bob"}]

    def routes_view(self, cursor: str, count: int) -> tuple[list[dict[str, Any]], str | None]:
        self.asked.append((cursor, count))
        return [{"prefix": "g.a"}], "g.a"

    def accounts_view(self) -> list[dict[str, Any]]:
        return [{"peerId": "bob", "netBalance": str(2**64)}]

    def explain_view(self, destination: str) -> dict[str, Any]:
        return {"destination": destination}

    def keys_view(self) -> dict[str, Any]:
        return {"items": [], "next": None}


@pytest.fixture
def node() -> MadeUpNode:
    return MadeUpNode()


def app_of(
    node: MadeUpNode,
    *,
    key: str | None = KEY,
    required: bool = True,
    hosts: frozenset[str] | None = None,
    log: EventLog | None = None,
    clock: Clock | None = None,
    metrics_key: str | None = None,
    read_key: str | None = None,
    **more: Any,
) -> Guard:
    log = log or EventLog()
    access = Access(
        key=key, read_key=read_key, metrics_key=metrics_key, required=required, node_id="made-up",
        clock=clock or SystemClock(), log=log, random_octets=SystemRandomness().octets,
    )  # fmt: skip
    return create_app(node, access=access, hosts=hosts, log=log, node_id="made-up", **more)


def paths_of(routes: Iterable[Any]) -> Iterator[str]:
    for route in routes:
        if hasattr(route, "path"):
            yield route.path
        else:  # FastAPI keeps routers that were included as they are
            yield from paths_of(route.original_router.routes)


def client_of(app: Guard, **headers: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://127.0.0.1:8080", headers=headers
    )


@pytest.fixture
async def client(node: MadeUpNode) -> AsyncIterator[httpx.AsyncClient]:
    """To a node on loopback."""
    hosts = frozenset(("localhost", "127.0.0.1", "::1"))
    async with client_of(app_of(node, key=None, required=False, hosts=hosts)) as client:
        yield client


@pytest.fixture
async def outside(node: MadeUpNode) -> AsyncIterator[httpx.AsyncClient]:
    """To a node off loopback."""
    async with client_of(app_of(node)) as client:
        yield client


async def test_health_is_200_and_503_when_unhealthy(
    client: httpx.AsyncClient, node: MadeUpNode
) -> None:
    assert (await client.get("/health")).status_code == 200
    node.status_word = "degraded"
    assert (await client.get("/health")).status_code == 200
    node.status_word = "unhealthy"
    answer = await client.get("/health")
    assert (answer.status_code, answer.json()["nodeId"]) == (503, "made-up")


async def test_a_node_that_is_not_ready_answers_503_with_the_reason(
    client: httpx.AsyncClient, node: MadeUpNode
) -> None:
    node.is_ready, node.reason = False, "accounting unavailable: disk full"
    answer = await client.get("/health/ready")
    assert answer.status_code == 503
    assert answer.json() == {"status": "not ready", "reason": "accounting unavailable: disk full"}
    assert (await client.get("/health/live")).status_code == 200, "it lives all the same"


async def test_a_ready_node_may_be_degraded(client: httpx.AsyncClient, node: MadeUpNode) -> None:
    assert (await client.get("/health/ready")).json() == {"status": "ready", "reason": ""}
    node.reason = "spooling"
    answer = await client.get("/health/ready")
    assert (answer.status_code, answer.json()["status"]) == (200, "degraded")


async def test_metrics_are_in_prometheus_text_format(client: httpx.AsyncClient) -> None:
    answer = await client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    family, _ = text_string_to_metric_families(answer.text)
    assert (family.name, family.samples[0].value) == ("up", 1.0)


async def test_lists_have_items_and_next(client: httpx.AsyncClient) -> None:
    assert (await client.get("/api/peers")).json() == {"items": [{"peerId": "bob"}], "next": None}
    assert (await client.get("/api/accounts")).json()["items"][0]["netBalance"] == str(2**64)
    assert (await client.get("/api/routes")).json() == {"items": [{"prefix": "g.a"}], "next": "g.a"}


@pytest.mark.parametrize(
    ("query", "asked"),
    [
        ("", ("", 200)),
        ("?limit=7&cursor=g.x", ("g.x", 7)),
        ("?limit=0", ("", 1)),
        ("?limit=-5", ("", 1)),
        (f"?limit={10**9}", ("", limits.HTTP_PAGE_ITEMS_MAX)),
    ],
)
async def test_a_page_of_routes_is_bounded(
    client: httpx.AsyncClient, node: MadeUpNode, query: str, asked: tuple[str, int]
) -> None:
    assert (await client.get(f"/api/routes{query}")).status_code == 200
    assert node.asked == [asked]


async def test_a_route_is_explained(client: httpx.AsyncClient) -> None:
    answer = await client.get("/api/routes/explain", params={"destination": "g.bob"})
    assert answer.json() == {"destination": "g.bob"}


# --- the key


@pytest.mark.parametrize("path", OPEN)
async def test_health_and_metrics_need_no_key(outside: httpx.AsyncClient, path: str) -> None:
    assert (await outside.get(path)).status_code == 200


@pytest.mark.long
@pytest.mark.parametrize("path", READ)
@pytest.mark.parametrize(
    "authorization",
    ["", "Bearer", "Bearer ", f"Bearer {KEY}x", f"Bearer {KEY[:-1]}", f"Basic {KEY}", KEY,
     "Bearer \xff\xfe"],
)  # fmt: skip
async def test_off_loopback_everything_else_needs_the_key(
    outside: httpx.AsyncClient, path: str, authorization: str
) -> None:
    headers = {"authorization": authorization.encode("latin-1")} if authorization else {}
    answer = await outside.get(path, headers=headers)
    assert answer.status_code == 401
    has_key = authorization.startswith("Bearer ") and authorization != "Bearer "
    assert answer.json() == {
        "error": "wrong key: it is not ADMIN_API_KEY of this node"
        if has_key
        else "ADMIN_API_KEY is needed: Authorization: Bearer <key>"
    }


@pytest.mark.parametrize("path", READ)
@pytest.mark.parametrize("scheme", ["Bearer", "bearer"])
async def test_with_the_key_everything_is_readable(
    outside: httpx.AsyncClient, path: str, scheme: str
) -> None:
    answer = await outside.get(path, headers={"authorization": f"{scheme} {KEY}"})
    assert answer.status_code == 200


async def test_only_listed_routes_need_no_key(node: MadeUpNode, tmp_path: Path) -> None:
    """Walks all routes that there are, so a new one is covered when it is added."""
    (tmp_path / "assets").mkdir()
    guard = app_of(node, page=tmp_path)
    paths = set(paths_of(guard.app.routes))  # type: ignore[attr-defined]
    assert {"/", "/assets", "/api/accounts"} <= paths
    async with client_of(guard) as client:
        found = {path for path in paths if (await client.get(path)).status_code != 401}
    assert found == set(OPEN_PATHS) == {*OPEN, "/login", "/logout", "/login.css"}


async def test_a_required_key_that_is_not_set_refuses_everyone(node: MadeUpNode) -> None:
    app = app_of(node, key=None)
    async with client_of(app, authorization="Bearer None") as client:
        assert (await client.get("/api/status")).status_code == 401


@pytest.mark.parametrize("path", READ)
async def test_on_loopback_no_key_is_needed(client: httpx.AsyncClient, path: str) -> None:
    assert (await client.get(path)).status_code == 200


# --- what is refused


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8080", 200), ("127.0.0.1", 200), ("LOCALHOST:1", 200), ("[::1]:8080", 200),
        ("[::1]", 200), ("evil.example", 421), ("evil.example:8080", 421), ("", 421),
        ("127.0.0.1.evil.example", 421), ("127.0.0.1:8080@evil.example", 421),
    ],
)  # fmt: skip
async def test_on_loopback_only_local_host_names_are_accepted(
    client: httpx.AsyncClient, host: str, status: int
) -> None:
    """A page whose name was rebound to 127.0.0.1 says its own name in Host."""
    assert (await client.get("/api/status", headers={"host": host})).status_code == status
    assert (await client.get("/health", headers={"host": host})).status_code == status


async def test_off_loopback_any_host_name_is_accepted(outside: httpx.AsyncClient) -> None:
    assert (await outside.get("/health", headers={"host": "node.example"})).status_code == 200


@pytest.mark.parametrize(
    "length", [str(web_bounds.HTTP_BODY_BYTES_MAX + 1), "-1", "many", "9" * 40]
)
async def test_a_body_that_is_too_large_is_refused_by_its_length(
    client: httpx.AsyncClient, length: str
) -> None:
    answer = await client.get("/api/status", headers={"content-length": length})
    assert (answer.status_code, answer.json()) == (413, {"error": "body too large"})


async def test_a_body_of_the_largest_size_is_not_refused(client: httpx.AsyncClient) -> None:
    headers = {"content-length": str(web_bounds.HTTP_BODY_BYTES_MAX)}
    assert (await client.get("/api/status", headers=headers)).status_code == 200


async def test_an_invalid_value_is_named_but_not_repeated(client: httpx.AsyncClient) -> None:
    answer = await client.get("/api/routes", params={"limit": "hunter2"})
    assert answer.status_code == 422
    assert answer.json() == {
        "error": "not valid: query.limit: must be a whole number, in digits only"
    }
    assert (await client.get("/api/routes/explain")).json() == {
        "error": "not valid: query.destination: is required"
    }


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/hunter2", 404), ("GET", "/docs", 404), ("GET", "/redoc", 404),
        ("POST", "/api/status", 405), ("DELETE", "/health", 405),
    ],
)  # fmt: skip
async def test_not_found_answers_have_one_form(
    client: httpx.AsyncClient, method: str, path: str, status: int
) -> None:
    """The pages of FastAPI, which load scripts from elsewhere, are not there either."""
    answer = await client.request(method, path)
    assert answer.status_code == status
    assert list(answer.json()) == ["error"]
    assert "hunter2" not in answer.text


@pytest.mark.long
@pytest.mark.parametrize("path", [*OPEN, *READ, "/nowhere", "/api/routes?limit=x"])
async def test_every_answer_carries_the_protective_headers(
    client: httpx.AsyncClient, outside: httpx.AsyncClient, path: str
) -> None:
    for answer in (await client.get(path), await outside.get(path)):
        assert {name: answer.headers[name] for name in HEADERS} == HEADERS
        assert len(answer.headers.get_list("content-security-policy")) == 1
    refused = await client.get(path, headers={"host": "evil.example"})
    assert {name: refused.headers[name] for name in HEADERS} == HEADERS
