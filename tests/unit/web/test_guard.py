"""Checks before the application: origins, bodies of all sorts, WebSockets, the login."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, Request, WebSocket

from connector.base import limits
from connector.web import bounds as web_bounds
from connector.web.guard import HEADERS, Guard, Message
from tests.support.daemons import EventLog
from tests.unit.web.test_app import KEY, MadeUpNode, app_of, client_of

BEARER = {"authorization": f"Bearer {KEY}"}
OWN = "http://127.0.0.1:8080"


def routers() -> list[APIRouter]:
    """A route that takes a body, one of the admin API, one that breaks, and a WebSocket."""
    router = APIRouter()

    @router.post("/api/size")
    async def size(request: Request) -> dict[str, int]:
        return {"size": len(await request.body())}

    @router.post("/admin/touch")
    async def touch() -> dict[str, str]:
        return {"touched": "yes"}

    @router.get("/api/broken")
    async def broken() -> None:
        raise RuntimeError("hunter2")

    @router.websocket("/ws")
    async def feed(websocket: WebSocket) -> None:
        await websocket.accept()

    return [router]


@pytest.fixture
def log() -> EventLog:
    return EventLog()


@pytest.fixture
async def client(log: EventLog) -> AsyncIterator[httpx.AsyncClient]:
    """To a node off loopback."""
    async with client_of(app_of(MadeUpNode(), log=log, routers=routers())) as client:
        yield client


# --- clients that hang up


@pytest.mark.parametrize("path", ["/login", "/api/size", "/admin/touch"])
@pytest.mark.parametrize("length", ["0", "9"])
async def test_hanging_up_is_no_failure_of_ours(path: str, length: str, log: EventLog) -> None:
    """In the middle of the body, or before the application looks for one."""
    app = app_of(MadeUpNode(), log=log, routers=routers())
    messages = [{"type": "http.request", "body": b"{", "more_body": True}] if length == "9" else []
    headers = {"host": "127.0.0.1:8080", "content-length": length, **BEARER}
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST",
        "scheme": "http", "path": path, "raw_path": path.encode(), "query_string": b"",
        "root_path": "", "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 8080),
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }  # fmt: skip
    sent: list[Message] = []

    async def receive() -> Message:
        return messages.pop() if messages else {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    await app(scope, receive, send)
    assert [event for level, event, _ in log.events if level == "error"] == []
    assert bool(sent) is (length == "0"), "nobody is there to be answered"


# --- other origins


@pytest.mark.long
@pytest.mark.parametrize("path", ["/admin/touch", "/api/size", "/login", "/logout"])
@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"}, {"origin": "null"}, {"origin": ""},
        {"origin": "http://127.0.0.1:8081"}, {"origin": "http://127.0.0.1"},
        {"origin": "http://127.0.0.1:8080.evil.example"}, {"origin": "file://127.0.0.1:8080"},
        {"origin": "http://[::1"}, {"origin": "http://127.0.0.1:99999"},
        {"sec-fetch-site": "cross-site"}, {"sec-fetch-site": "same-site"},
    ],
)  # fmt: skip
async def test_a_page_of_another_origin_changes_nothing(
    client: httpx.AsyncClient, path: str, headers: dict[str, str]
) -> None:
    answer = await client.post(path, headers={**BEARER, **headers}, content=b'{"key": "x"}')
    assert answer.status_code == 403
    assert "other origins" in answer.json()["error"]


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("127.0.0.1:8080", "http://127.0.0.1:8080"), ("node.example", "http://node.example"),
        ("node.example", "https://node.example"), ("Node.Example:443", "https://node.example"),
        ("[::1]:8080", "http://[::1]:8080"),
    ],
)  # fmt: skip
async def test_our_own_page_and_programs_may_change_settings(
    client: httpx.AsyncClient, host: str, origin: str
) -> None:
    for headers in ({"host": host, "origin": origin}, {"host": host}):
        answer = await client.post("/admin/touch", headers={**BEARER, **headers})
        assert answer.json() == {"touched": "yes"}


# --- bodies


async def in_pieces(size: int) -> AsyncIterator[bytes]:
    while size > 0:
        yield b"x" * min(size, 65_536)
        size -= 65_536


@pytest.mark.parametrize(
    ("size", "status"),
    [
        (0, 200),
        (1, 200),
        (web_bounds.HTTP_BODY_BYTES_MAX, 200),
        (web_bounds.HTTP_BODY_BYTES_MAX + 1, 413),
    ],
)
async def test_a_body_without_a_length_is_bounded_as_it_arrives(
    client: httpx.AsyncClient, size: int, status: int
) -> None:
    answer = await client.post("/api/size", content=in_pieces(size), headers=BEARER)
    assert answer.request.headers["transfer-encoding"] == "chunked"
    assert answer.status_code == status
    assert answer.json() == ({"size": size} if status == 200 else {"error": "body too large"})


async def test_without_a_key_a_body_is_bounded_to_the_size_of_a_login(
    client: httpx.AsyncClient,
) -> None:
    for content in (in_pieces(65_536), b"x" * 65_536):
        assert (await client.post("/login", content=content)).status_code == 413
    # Without the key nothing is read at all.
    assert (await client.post("/api/size", content=in_pieces(1 << 22))).status_code == 401


async def call(
    app: Guard, scope: dict[str, Any], messages: list[Message], *, then_wait: bool = False
) -> list[Message]:
    """Call an application as a server does."""
    sent: list[Message] = []
    coming = iter(messages)

    async def receive() -> Message:
        for message in coming:
            return message
        if then_wait:
            await asyncio.Event().wait()
        raise AssertionError("nothing more comes")

    async def send(message: Message) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return sent


def http_scope(path: str, **headers: str) -> dict[str, Any]:
    return {
        "type": "http", "method": "POST", "path": path, "raw_path": path.encode(),
        "query_string": b"", "http_version": "1.1", "scheme": "http", "client": ("192.0.2.1", 5),
        "server": ("127.0.0.1", 8080), "root_path": "",
        "headers": [(name.replace("_", "-").encode(), value.encode())
                    for name, value in {"host": "a", **headers}.items()],
    }  # fmt: skip


async def test_a_body_that_never_ends_times_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web_bounds, "HTTP_BODY_SECONDS_MAX", 0.02)
    app = app_of(MadeUpNode(), routers=routers())
    scope = http_scope("/api/size", content_length="10", authorization=f"Bearer {KEY}")
    piece = {"type": "http.request", "body": b"x", "more_body": True}
    start, _ = await call(app, scope, [piece], then_wait=True)
    assert start["status"] == 408


async def test_a_repeated_single_value_header_counts_as_missing() -> None:
    """Proxies and servers disagree which of two counts."""
    app = app_of(MadeUpNode(), routers=routers())
    scope = http_scope("/admin/touch", authorization=f"Bearer {KEY}")
    scope["headers"].append((b"authorization", b"Bearer other"))
    assert (await call(app, scope, []))[0]["status"] == 401
    scope = http_scope("/admin/touch", authorization=f"Bearer {KEY}", origin="http://a")
    scope["headers"].append((b"origin", b"http://a"))
    assert (await call(app, scope, []))[0]["status"] == 403


# --- WebSockets


def ws_scope(*, extension: bool = True, **headers: str) -> dict[str, Any]:
    scope = {**http_scope("/ws", **headers), "type": "websocket", "subprotocols": []}
    del scope["method"]
    if extension:
        scope["extensions"] = {"websocket.http.response": {}}
    return scope


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"authorization": "Bearer wrong"}, 401),
        ({"authorization": f"Bearer {KEY}", "origin": "http://evil.example"}, 403),
        ({"authorization": f"Bearer {KEY}", "origin": "null"}, 403),
    ],
)
async def test_a_websocket_is_refused_before_the_upgrade(
    headers: dict[str, str], status: int
) -> None:
    app = app_of(MadeUpNode(), routers=routers())
    start, body = await call(app, ws_scope(**headers), [])
    assert (start["type"], start["status"]) == ("websocket.http.response.start", status)
    assert body["body"].startswith(b'{"error": ')
    (closed,) = await call(app, ws_scope(extension=False, **headers), [])
    assert closed == {"type": "websocket.close", "code": 1008}


async def test_a_websocket_with_an_unknown_host_name_is_refused() -> None:
    app = app_of(MadeUpNode(), routers=routers(), required=False, hosts=frozenset(("localhost",)))
    start, _ = await call(app, ws_scope(host="evil.example", origin="http://evil.example"), [])
    assert start["status"] == 421


@pytest.mark.parametrize("headers", [{"origin": "http://a"}, {}])
async def test_a_websocket_with_key_or_cookie_is_accepted(headers: dict[str, str]) -> None:
    app = app_of(MadeUpNode(), routers=routers())
    async with client_of(app) as client:
        answer = await client.post("/login", json={"key": KEY})
    name, value = next(iter(answer.cookies.items()))
    for shown in ({"authorization": f"Bearer {KEY}"}, {"cookie": f"{name}={value}"}):
        sent = await call(app, ws_scope(**headers, **shown), [{"type": "websocket.connect"}])
        assert sent[0]["type"] == "websocket.accept"


# --- admin


async def test_admin_accepts_the_key_but_not_the_cookie(client: httpx.AsyncClient) -> None:
    assert (await client.post("/admin/touch")).status_code == 401
    assert (await client.post("/login", json={"key": KEY})).status_code == 204
    assert (await client.get("/api/status")).status_code == 200, "the cookie opens the page"
    answer = await client.post("/admin/touch")
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert (await client.post("/admin/touch", headers=BEARER)).status_code == 200


async def test_admin_needs_the_key_on_loopback_too() -> None:
    async with client_of(app_of(MadeUpNode(), required=False, routers=routers())) as client:
        assert (await client.get("/api/status")).status_code == 200
        assert (await client.post("/admin/touch")).status_code == 401
        assert (await client.post("/admin/touch", headers=BEARER)).status_code == 200


async def test_without_a_key_admin_is_off() -> None:
    app = app_of(MadeUpNode(), key=None, required=False, routers=routers())
    async with client_of(app) as client:
        for path in ("/admin/touch", "/admin", "/admin/nowhere"):
            answer = await client.post(path, headers=BEARER)
            assert answer.status_code == 403
            assert "set ADMIN_API_KEY" in answer.json()["error"]


async def test_twenty_wrong_keys_are_enough_and_the_right_one_still_opens(
    client: httpx.AsyncClient, log: EventLog
) -> None:
    wrong = {"authorization": "Bearer hunter2"}
    for number in range(limits.HTTP_WRONG_KEYS_MAX):
        path = ("/api/status", "/admin/touch")[number % 2]
        assert (await client.request("POST" if number % 2 else "GET", path, headers=wrong)
                ).status_code == 401  # fmt: skip
    answer = await client.get("/api/status", headers=wrong)
    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) >= 1
    assert (await client.post("/login", json={"key": "hunter2"})).status_code == 429
    assert (await client.get("/api/status", headers=BEARER)).status_code == 200
    assert (await client.post("/login", json={"key": KEY})).status_code == 204
    assert (await client.get("/health")).status_code == 200
    assert log.count("http_authentication_failed", remote="127.0.0.1") > 0
    assert "hunter2" not in str(log.events)


async def test_headers_that_are_too_large_are_refused_before_they_are_read(
    client: httpx.AsyncClient,
) -> None:
    for headers in (
        {"cookie": 'connector-alice="' + '\\"' * web_bounds.HTTP_HEADERS_BYTES_MAX},
        {f"x-{number}": "x" * 1000 for number in range(20)},
    ):
        answer = await client.get("/api/status", headers={**BEARER, **headers})
        assert answer.status_code == 431
    path = "/api/status?" + "x" * web_bounds.HTTP_HEADERS_BYTES_MAX
    assert (await client.get(path, headers=BEARER)).status_code == 431


# --- the key that only reads

READ_KEY = "key-of-the-reader"
READER = {"authorization": f"Bearer {READ_KEY}"}


@pytest.fixture
async def reader() -> AsyncIterator[httpx.AsyncClient]:
    """To a node off loopback with both keys; it shows the one that reads."""
    admin = APIRouter(prefix="/admin")

    @admin.get("/things")
    async def things() -> list[str]:
        return ["one"]

    app = app_of(MadeUpNode(), read_key=READ_KEY, routers=[*routers(), admin])
    async with client_of(app, **READER) as client:
        yield client


@pytest.mark.parametrize(
    "path", ["/api/status", "/api/accounts", "/api/keys", "/admin/things", "/"]
)
async def test_the_key_of_readers_opens_all_that_is_read(
    reader: httpx.AsyncClient, path: str
) -> None:
    assert (await reader.get(path)).status_code == 200
    assert (await reader.head(path)).status_code in (200, 405), "405: there is no such route"


@pytest.mark.long
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "TRACE", "X"])
@pytest.mark.parametrize(
    "path", ["/admin/touch", "/admin/things", "/admin", "/api/size", "/nowhere"]
)
async def test_the_key_of_readers_changes_nothing(
    reader: httpx.AsyncClient, method: str, path: str
) -> None:
    answer = await reader.request(method, path)
    assert answer.status_code == 403
    assert answer.json() == {
        "error": "READ_API_KEY only reads: ADMIN_API_KEY is needed to change something"
    }


async def test_readers_log_in_and_still_change_nothing(reader: httpx.AsyncClient) -> None:
    del reader.headers["authorization"]
    assert (await reader.get("/api/status")).status_code == 401
    assert (await reader.post("/login", json={"key": READ_KEY})).status_code == 204
    assert (await reader.get("/api/status")).status_code == 200
    assert (await reader.get("/")).status_code == 200
    assert (await reader.get("/admin/things")).status_code == 401, (
        "a login that reads does not open /admin"
    )
    for path in ("/admin/touch", "/api/size"):
        assert (await reader.post(path)).status_code == 401
    assert (await reader.post("/logout")).status_code == 204
    assert (await reader.get("/api/status")).status_code == 401


async def test_the_live_feed_opens_for_readers() -> None:
    app = app_of(MadeUpNode(), read_key=READ_KEY, routers=routers())
    sent = await call(app, ws_scope(**READER), [{"type": "websocket.connect"}])
    assert sent[0]["type"] == "websocket.accept"


async def test_what_is_needed_is_named(reader: httpx.AsyncClient) -> None:
    del reader.headers["authorization"]
    for method, path, names in (
        ("GET", "/api/status", "ADMIN_API_KEY or READ_API_KEY"),
        ("GET", "/admin/things", "ADMIN_API_KEY or READ_API_KEY"),
        ("POST", "/admin/touch", "ADMIN_API_KEY"),
    ):
        answer = await reader.request(method, path)
        assert (answer.status_code, answer.json()) == (
            401, {"error": f"{names} is needed: Authorization: Bearer <key>"}
        )  # fmt: skip


async def test_readers_alone_leave_admin_off() -> None:
    app = app_of(MadeUpNode(), key=None, read_key=READ_KEY, routers=routers())
    async with client_of(app, **READER) as client:
        assert (await client.get("/api/status")).status_code == 200
        assert (await client.post("/login", json={"key": READ_KEY})).status_code == 204
        answer = await client.post("/admin/touch")
        assert (answer.status_code, "set ADMIN_API_KEY" in answer.text) == (403, True)


# --- metrics

METRICS_KEY = "key-of-prometheus"


async def balances_shown(app: Guard, **headers: str) -> bool | int:
    """Whether /metrics shows balances, or the status of a refusal; all else in it is always there."""
    async with client_of(app, **headers) as client:
        answer = await client.get("/metrics")
    if answer.status_code != 200:
        return answer.status_code
    assert "up 1.0" in answer.text
    return "ilp_account_balance" in answer.text


@pytest.mark.parametrize(
    ("required", "metrics_key", "given", "shown"),
    [
        (True, None, None, False), (True, METRICS_KEY, None, False),
        (True, None, KEY, True), (True, METRICS_KEY, KEY, True),
        (True, METRICS_KEY, METRICS_KEY, True), (True, None, METRICS_KEY, 401),
        (True, METRICS_KEY, METRICS_KEY[:-1], 401), (True, METRICS_KEY, "", False),
        (False, None, None, True), (False, None, "anything", True),
        (False, METRICS_KEY, None, False), (False, METRICS_KEY, METRICS_KEY, True),
        (False, METRICS_KEY, KEY, True), (False, METRICS_KEY, "hunter2", 401),
    ],
)  # fmt: skip
async def test_balances_in_metrics_need_a_key_off_loopback_or_where_one_is_set(
    required: bool, metrics_key: str | None, given: str | None, shown: bool | int
) -> None:
    app = app_of(MadeUpNode(), required=required, metrics_key=metrics_key)
    headers = {} if given is None else {"authorization": f"Bearer {given}"}
    assert await balances_shown(app, **headers) == shown


async def test_a_login_shows_balances_in_metrics_too() -> None:
    app = app_of(MadeUpNode(), metrics_key=METRICS_KEY)
    async with client_of(app) as client:
        assert (await client.post("/login", json={"key": METRICS_KEY})).status_code == 401
        assert "ilp_account_balance" not in (await client.get("/metrics")).text
        assert (await client.post("/login", json={"key": KEY})).status_code == 204
        assert "ilp_account_balance" in (await client.get("/metrics")).text


async def test_the_key_of_metrics_opens_nothing_else() -> None:
    app = app_of(MadeUpNode(), metrics_key=METRICS_KEY, routers=routers())
    async with client_of(app, authorization=f"Bearer {METRICS_KEY}") as client:
        for method, path in (("GET", "/api/accounts"), ("POST", "/admin/touch"), ("GET", "/")):
            answer = await client.request(method, path)
            assert answer.status_code == 403
            assert "ADMIN_API_KEY is needed" in answer.json()["error"]


async def test_wrong_keys_at_metrics_count_like_wrong_admin_keys() -> None:
    app = app_of(MadeUpNode(), metrics_key=METRICS_KEY)
    for _ in range(limits.HTTP_WRONG_KEYS_MAX):
        assert await balances_shown(app, authorization="Bearer hunter2") == 401
    assert await balances_shown(app, authorization="Bearer hunter2") == 429
    assert await balances_shown(app, authorization=f"Bearer {METRICS_KEY}") is True
    assert await balances_shown(app) is False
    async with client_of(app, authorization="Bearer hunter2") as client:
        assert (await client.get("/api/status")).status_code == 429


# --- a proxy on loopback that TRUSTED_PROXIES does not name


FROM_ANYWHERE = [
    {"x-forwarded-for": "203.0.113.9"}, {"X-Forwarded-For": ""}, {"forwarded": "for=203.0.113.9"},
    {"x-real-ip": "203.0.113.9"}, {"via": "1.1 proxy"}, {"x-forwarded-host": "node.example"},
]  # fmt: skip


@pytest.mark.parametrize("header", FROM_ANYWHERE)
async def test_what_a_proxy_passes_on_is_not_from_this_machine(header: dict[str, str]) -> None:
    app = app_of(MadeUpNode(), required=False, routers=routers())
    assert await balances_shown(app) is True
    assert await balances_shown(app, **header) is False
    async with client_of(app, **header) as client:
        for path in ("/", "/api/status", "/api/accounts"):
            assert (await client.get(path)).status_code == 401
        assert (await client.get("/health")).status_code == 200
        assert (await client.get("/api/status", headers=BEARER)).status_code == 200
        assert (await client.post("/login", json={"key": KEY})).status_code == 204
        assert (await client.get("/api/status")).status_code == 200
    start, _ = await call(app, ws_scope(**{name.lower(): "x" for name in header}), [])
    assert start["status"] == 401


async def test_without_a_key_a_proxy_is_told_to_be_named() -> None:
    app = app_of(MadeUpNode(), key=None, required=False, routers=routers())
    async with client_of(app, **FROM_ANYWHERE[0]) as client:
        answer = await client.get("/api/status")
        assert (answer.status_code, "TRUSTED_PROXIES" in answer.text) == (403, True)
        assert (await client.get("/metrics")).status_code == 200


# --- login


async def test_a_cookie_that_was_kept_is_of_no_use_after_the_log_out(
    client: httpx.AsyncClient,
) -> None:
    answer = await client.post("/login", json={"key": KEY}, headers={"origin": OWN})
    kept = {"cookie": answer.headers["set-cookie"].partition(";")[0]}
    client.cookies.clear()
    assert (await client.get("/api/status", headers=kept)).status_code == 200
    # Without it nobody is logged out, nor by a page of another origin.
    assert (await client.post("/logout", headers={"origin": OWN})).status_code == 204
    evil = {**kept, "origin": "http://evil.example"}
    assert (await client.post("/logout", headers=evil)).status_code == 403
    assert (await client.get("/api/status", headers=kept)).status_code == 200
    assert (await client.post("/logout", headers={**kept, "origin": OWN})).status_code == 204
    assert (await client.get("/api/status", headers=kept)).status_code == 401


async def test_login_sets_a_cookie_and_logout_clears_it(client: httpx.AsyncClient) -> None:
    answer = await client.post("/login", json={"key": KEY}, headers={"origin": OWN})
    assert answer.status_code == 204
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert KEY not in cookie
    assert (await client.get("/api/accounts")).status_code == 200
    assert (await client.post("/logout", headers={"origin": OWN})).status_code == 204
    assert (await client.get("/api/accounts")).status_code == 401


async def test_a_browser_without_a_login_gets_the_form(client: httpx.AsyncClient) -> None:
    answer = await client.get("/", headers={"accept": "text/html,*/*"})
    assert answer.status_code == 401
    assert 'action="login"' in answer.text
    assert {name: answer.headers[name] for name in HEADERS} == HEADERS
    assert (await client.get("/login")).status_code == 200
    assert (await client.get("/login.css")).headers["content-type"].startswith("text/css")
    wrong = await client.post("/login", data={"key": "hunter2"})
    assert wrong.status_code == 401
    assert "this is not the key" in wrong.text
    assert "hunter2" not in wrong.text
    right = await client.post("/login", data={"key": KEY})
    assert (right.status_code, right.headers["location"]) == (303, "./")
    page = await client.get("/", headers={"accept": "text/html"})
    assert (page.status_code, "form" in page.text) == (200, False)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b'"key"', b'{"key": 1}', b'{"key": ""}', b'{"key": null}', b"\xff",
     b"[" * 8000],
)  # fmt: skip
async def test_a_malformed_login_does_not_count_as_a_wrong_key(
    client: httpx.AsyncClient, content: bytes
) -> None:
    answer = await client.post("/login", content=content)
    assert answer.status_code == 422
    assert answer.json() == {"error": 'not valid: {"key": "..."} is expected'}


async def test_without_a_configured_key_login_is_refused() -> None:
    async with client_of(app_of(MadeUpNode(), key=None, required=False)) as client:
        assert (await client.post("/login", json={"key": "None"})).status_code == 403


# --- the page, and what breaks


async def test_an_internal_error_is_logged_and_not_shown_to_the_client(
    client: httpx.AsyncClient, log: EventLog
) -> None:
    answer = await client.get("/api/broken", headers=BEARER)
    assert (answer.status_code, list(answer.json())) == (500, ["error"])
    assert "hunter2" not in answer.text
    assert {name: answer.headers[name] for name in HEADERS} == HEADERS
    assert log.count("http_failed", method="GET") == 1


async def test_without_the_page_the_answer_says_how_to_build_it(tmp_path: Path) -> None:
    app = app_of(MadeUpNode(), key=None, required=False, page=tmp_path / "none")
    async with client_of(app) as client:
        answer = await client.get("/")
        assert answer.status_code == 200
        assert "CONNECTOR_UI=skip" in answer.text
        assert (await client.get("/assets/x.js")).status_code == 404


async def test_only_files_of_the_page_are_served(tmp_path: Path) -> None:
    page = tmp_path / "page"
    (page / "assets").mkdir(parents=True)
    (page / "index.html").write_text("<title>the page</title>")
    (page / "assets" / "app-1f.js").write_text("export {};")
    (tmp_path / "secret").write_text("hunter2")
    app = app_of(MadeUpNode(), key=None, required=False, page=page)
    async with client_of(app) as client:
        index = await client.get("/")
        assert (index.text, index.headers["cache-control"]) == (
            "<title>the page</title>",
            "no-cache",
        )
        script = await client.get("/assets/app-1f.js")
        assert script.headers["content-type"].startswith("text/javascript")
        assert "immutable" in script.headers["cache-control"]
        assert script.headers["content-security-policy"] == HEADERS["Content-Security-Policy"]
        for path in ("/assets/../../secret", "/assets/%2e%2e/%2e%2e/secret", "/assets/", "/assets",
                     "/assets/..%2f..%2fsecret", "/index.html", "/assets/nowhere.js"):  # fmt: skip
            answer = await client.get(path)
            assert answer.status_code in (404, 307, 405), path
            assert "hunter2" not in answer.text
