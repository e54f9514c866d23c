"""Proxies: which of their headers count, and that those of others do not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from connector.base import limits
from connector.web import bounds as web_bounds
from connector.web.proxies import CAME_FROM, Proxies, ProxyHeaders, forwarded, is_https
from tests.support.daemons import EventLog
from tests.unit.web.test_app import KEY, MadeUpNode, app_of
from tests.unit.web.test_guard import routers

PROXY = "10.0.0.2"
TRUSTED = ["10.0.0.0/24", "192.0.2.7", "2001:db8:1::/48"]
BEARER = {"authorization": f"Bearer {KEY}"}


async def seen(
    *headers: tuple[str, str], peer: str | None = PROXY, kind: str = "http"
) -> dict[str, Any]:
    """The scope that an application is called with."""
    scopes: list[Any] = []

    async def app(scope: Any, _receive: Any, _send: Any) -> None:
        scopes.append(scope)

    scope = {
        "type": kind, "scheme": "http" if kind == "http" else "ws", "path": "/api/status",
        "client": None if peer is None else (peer, 50_000),
        "headers": [(b"host", b"internal:8080"),
                    *((name.encode(), value.encode("latin-1")) for name, value in headers)],
    }  # fmt: skip
    await ProxyHeaders(app, Proxies(TRUSTED))(scope, None, None)
    (found,) = scopes
    assert isinstance(found, dict)
    return found


def host_of(scope: dict[str, Any]) -> str:
    (host,) = [value.decode() for name, value in scope["headers"] if name == b"host"]
    return host


EVERYTHING = (
    ("x-forwarded-for", "203.0.113.9"),
    ("x-forwarded-proto", "https"),
    ("x-forwarded-host", "Node.Example:8443"),
    ("x-forwarded-prefix", "/nodes/alice/"),
)


# --- whom is believed


@pytest.mark.parametrize(
    "peer", [PROXY, "192.0.2.7", "2001:db8:1::5", "::ffff:10.0.0.9", "2001:db8:1::5%eth0"]
)
async def test_a_trusted_proxy_is_believed(peer: str) -> None:
    scope = await seen(*EVERYTHING, peer=peer)
    assert scope["client"][0] == "203.0.113.9"
    assert (scope["scheme"], is_https(scope)) == ("https", True)
    assert host_of(scope) == "node.example:8443"
    assert forwarded(scope) == ("https", "/nodes/alice")
    assert scope["path"] == "/api/status"


@pytest.mark.parametrize(
    "peer", ["10.0.1.2", "192.0.2.8", "203.0.113.9", "::1", "testclient", None]
)
async def test_nobody_else_is_believed(peer: str | None) -> None:
    scope = await seen(*EVERYTHING, peer=peer)
    assert scope["client"] == (None if peer is None else (peer, 50_000))
    assert (scope["scheme"], host_of(scope)) == ("http", "internal:8080")
    assert forwarded(scope) == (None, "")


async def test_a_trusted_proxy_that_says_nothing_changes_nothing() -> None:
    scope = await seen()
    assert (scope["client"][0], scope["scheme"]) == (PROXY, "http")
    assert host_of(scope) == "internal:8080"
    assert forwarded(scope) == (None, "")


async def test_a_websocket_is_seen_as_one() -> None:
    scope = await seen(*EVERYTHING, kind="websocket")
    assert (scope["scheme"], is_https(scope)) == ("wss", True)
    assert forwarded(scope).scheme == "https"


async def test_other_kinds_of_calls_pass() -> None:
    called: list[Any] = []

    async def app(scope: Any, _receive: Any, _send: Any) -> None:
        called.append(scope)

    await ProxyHeaders(app, Proxies(TRUSTED))({"type": "lifespan"}, None, None)
    assert called == [{"type": "lifespan"}]


# --- the client


@pytest.mark.parametrize(
    ("given", "client"),
    [
        (["203.0.113.9"], "203.0.113.9"),
        (["198.51.100.1, 203.0.113.9"], "203.0.113.9"),
        (["198.51.100.1", "203.0.113.9"], "203.0.113.9"),
        (["198.51.100.1, 203.0.113.9, 10.0.0.3, 192.0.2.7"], "203.0.113.9"),
        (["203.0.113.9, ::ffff:10.0.0.3, ::ffff:192.0.2.7"], "203.0.113.9"),
        (["10.0.0.4, 10.0.0.3"], "10.0.0.4"),
        (["2001:db8:2::1"], "2001:db8:2::1"),
        (["[2001:db8:2::1]:443"], "2001:db8:2::1"),
        (["203.0.113.9:1234"], "203.0.113.9"),
        (["::ffff:203.0.113.9"], "203.0.113.9"),
        (["fe80::1%<zone>"], "fe80::1"),
    ],
)
async def test_the_client_is_the_first_from_the_right_that_is_not_trusted(
    given: list[str], client: str
) -> None:
    scope = await seen(*(("x-forwarded-for", one) for one in given))
    assert scope["client"][0] == client


@pytest.mark.parametrize(
    "given",
    ["", ",", "unknown", "_hidden", "203.0.113.9, unknown", "203.0.113.999", "1.2.3.4:\xb2:\xb2",
     "[::1", "[", "]:", "203.0.113.9 10.0.0.3", "\xff\xfe", "x" * 10_000, "," * 10_000,
     "203.0.113.9, <script>", "fe80::1%eth0, 0", "1" * 5000],
)  # fmt: skip
async def test_a_client_that_is_no_address_is_ignored(given: str) -> None:
    scope = await seen(("x-forwarded-for", given))
    assert scope["client"][0] == PROXY


# --- scheme, host, prefix


@pytest.mark.parametrize(
    ("given", "scheme"),
    [
        (["https"], "https"), (["HTTPS"], "https"), ([" http "], "http"),
        ([""], None), (["ftp"], None), (["https, http"], None), (["https", "https"], None),
        (["\xff"], None), (["https;"], None), (["wss"], None),
    ],
)  # fmt: skip
async def test_a_scheme_is_taken_where_it_is_one(given: list[str], scheme: str | None) -> None:
    scope = await seen(*(("x-forwarded-proto", one) for one in given))
    assert forwarded(scope).scheme == scheme
    assert scope["scheme"] == (scheme or "http")


@pytest.mark.parametrize(
    ("given", "host"),
    [
        (["node.example"], "node.example"), (["[2001:DB8::1]:443"], "[2001:db8::1]:443"),
        ([""], None), (["a, b"], None), (["a", "b"], None), (["a b"], None), (["<b>"], None),
        (["evil/x"], None), (["a:123456"], None), (["\xff"], None), (["user@host"], None),
    ],
)  # fmt: skip
async def test_a_host_name_is_taken_where_it_is_one(given: list[str], host: str | None) -> None:
    scope = await seen(*(("x-forwarded-host", one) for one in given))
    assert host_of(scope) == (host or "internal:8080")


@pytest.mark.parametrize(
    ("given", "prefix"),
    [
        ("/node", "/node"), ("/node/", "/node"), ("/a/b-c/d_e~f.g", "/a/b-c/d_e~f.g"),
        ("", ""), ("/", ""), ("//", ""), ("//evil.example", ""), ("node", ""), ("/a//b", ""),
        ("/..", ""), ("/a/../b", ""), ("/.", ""), ('/"><script>', ""), ("/a b", ""), ("/%2e", ""),
        ("/a, /b", ""), ("https://evil.example", ""), ("/\xe9", ""), ("/a?b", ""), ("/a\\b", ""),
        ("/" + "a" * web_bounds.PROXY_PREFIX_CHARACTERS_MAX, ""),
        ("/" + "a" * (web_bounds.PROXY_PREFIX_CHARACTERS_MAX - 1),
         "/" + "a" * (web_bounds.PROXY_PREFIX_CHARACTERS_MAX - 1)),
    ],
)  # fmt: skip
async def test_a_prefix_is_taken_where_it_is_a_plain_path(given: str, prefix: str) -> None:
    assert forwarded(await seen(("x-forwarded-prefix", given))).prefix == prefix


async def test_a_connection_is_told_whose_request_it_carries() -> None:
    told: list[str] = []

    async def app(_scope: Any, _receive: Any, _send: Any) -> None:
        pass

    scope = {"type": "http", "scheme": "http", "client": (PROXY, 1), "state": {CAME_FROM: told.append},
             "headers": [(b"x-forwarded-for", b"203.0.113.9")]}  # fmt: skip
    await ProxyHeaders(app, Proxies(TRUSTED))(scope, None, None)
    scope["client"] = ("203.0.113.1", 1)
    await ProxyHeaders(app, Proxies(TRUSTED))(scope, None, None)
    assert told == ["203.0.113.9"], "of a stranger's connection the address is known"


# --- with the guard, the login and the page behind it


def client_at(
    peer: str, *, page: Path | None = None, log: EventLog | None = None
) -> httpx.AsyncClient:
    """A browser or program whose requests arrive from `peer`."""
    more = {} if page is None else {"page": page}
    guard = app_of(MadeUpNode(), routers=routers(), log=log, **more)
    transport = httpx.ASGITransport(ProxyHeaders(guard, Proxies(TRUSTED)), client=(peer, 5))
    return httpx.AsyncClient(transport=transport, base_url="http://internal:8080")


async def test_wrong_keys_count_for_the_client_and_not_for_the_proxy() -> None:
    log = EventLog()
    async with client_at(PROXY, log=log) as client:
        wrong = {"authorization": "Bearer hunter2"}
        for _ in range(limits.HTTP_WRONG_KEYS_MAX):
            await client.get("/api/status", headers={**wrong, "x-forwarded-for": "203.0.113.9"})
        one, other = [
            await client.get("/api/status", headers={**wrong, "x-forwarded-for": address})
            for address in ("1.1.1.1, 203.0.113.9", "203.0.113.10")
        ]
    assert (one.status_code, other.status_code) == (429, 401)
    assert log.count("http_authentication_failed", remote="203.0.113.9") > 0
    assert log.count("http_authentication_failed", remote=PROXY) == 0


async def test_a_stranger_cannot_choose_whom_its_wrong_keys_count_for() -> None:
    async with client_at("203.0.113.9") as client:
        for number in range(limits.HTTP_WRONG_KEYS_MAX + 1):
            headers = {"authorization": "Bearer hunter2", "x-forwarded-for": f"198.51.100.{number}"}
            answer = await client.get("/api/status", headers=headers)
    assert answer.status_code == 429


@pytest.mark.parametrize(
    ("peer", "proto", "secure"),
    [(PROXY, "https", True), (PROXY, "http", False), ("203.0.113.9", "https", False)],
)
async def test_the_cookie_is_secure_where_the_browser_uses_tls(
    peer: str, proto: str, secure: bool
) -> None:
    async with client_at(peer) as client:
        headers = {"x-forwarded-proto": proto}
        answers = [await client.post("/login", json={"key": KEY}, headers=headers),
                   await client.post("/logout", headers=headers)]  # fmt: skip
    for answer in answers:
        assert ("; Secure" in answer.headers["set-cookie"]) is secure


@pytest.mark.parametrize(
    ("peer", "origin", "status"),
    [
        (PROXY, "https://node.example", 204), (PROXY, "https://node.example:443", 204),
        (PROXY, "http://node.example", 403), (PROXY, "https://evil.example", 403),
        (PROXY, "http://internal:8080", 403), (PROXY, "https://node.example:8443", 403),
        ("203.0.113.9", "https://node.example", 403), ("203.0.113.9", "http://internal:8080", 204),
    ],
)  # fmt: skip
async def test_the_origin_is_that_which_the_browser_sees(
    peer: str, origin: str, status: int
) -> None:
    said = {"x-forwarded-host": "node.example", "x-forwarded-proto": "https", "origin": origin}
    async with client_at(peer) as client:
        answer = await client.post("/login", json={"key": KEY}, headers=said)
    assert answer.status_code == status


@pytest.mark.parametrize(
    "prefix", ["/admin", "/api", "/health", "/metrics", "/login", "/settlement"]
)
async def test_no_prefix_leads_past_the_guard(prefix: str) -> None:
    """Frameworks cut a prefix off paths that begin with it; the guard decides by the whole path."""
    async with client_at(PROXY) as client:
        await client.post("/login", json={"key": KEY})
        for path in (f"{prefix}/admin/touch", "/admin/touch", f"/x{prefix}/admin/touch"):
            answer = await client.post(path, headers={"x-forwarded-prefix": prefix})
            assert answer.status_code in (401, 403, 404, 405), path
        anonymous = {"x-forwarded-prefix": prefix, "cookie": ""}
        for path in (f"{prefix}/api/accounts", "/api/accounts"):
            assert (await client.get(path, headers=anonymous)).status_code in (401, 403)


async def test_pages_below_a_prefix_find_their_parts_and_their_feed(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("<html><head><title>x</title></head></html>")
    said = {"x-forwarded-prefix": "/nodes/alice", "accept": "text/html"}
    base = '<base href="/nodes/alice/">'
    async with client_at(PROXY, page=tmp_path) as client:
        form = await client.get("/", headers=said)
        assert (form.status_code, form.text.count(base)) == (401, 1)
        assert base in (await client.get("/login", headers=said)).text
        wrong = await client.post("/login", data={"key": "hunter2"}, headers=said)
        assert (wrong.status_code, wrong.text.count(base)) == (401, 1)
        for answer in (form, wrong):
            (policy,) = answer.headers.get_list("content-security-policy")
            assert "base-uri 'self'" in policy
        right = await client.post("/login", json={"key": KEY}, headers=said)
        assert "; Path=/nodes/alice;" in right.headers["set-cookie"]
        page = await client.get("/", headers={**said, **BEARER})
        assert page.text == f"<html><head>{base}<title>x</title></head></html>"
        assert page.headers["cache-control"] == "no-cache"
        assert "base-uri 'self'" in page.headers["content-security-policy"]
        plain = await client.get("/", headers=BEARER)
        assert "<base" not in plain.text
        assert "base-uri 'none'" in plain.headers["content-security-policy"]
    async with client_at("203.0.113.9", page=tmp_path) as client:
        for headers in (said, {**said, **BEARER}):
            assert "<base" not in (await client.get("/", headers=headers)).text
