"""Operating with a login: only one that was asked for, with its token, from its own page, and for a while."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import APIRouter

from connector.web import bounds
from connector.web.operating import CALLER, CSRF_WRONG, csrf_of
from connector.web.roles import Role
from connector.web.sessions import Sessions
from tests.support.ledgers import ManualClock
from tests.unit.web.test_app import KEY, MadeUpNode, app_of, client_of

READ_KEY = "key-of-a-reader"


def done_router(seen: list[tuple[str, str]]) -> APIRouter:
    router = APIRouter(prefix="/admin")

    @router.post("/thing")
    async def thing() -> dict[str, str]:
        caller = CALLER.get()
        seen.append((caller.via, caller.address))
        return {"done": "yes"}

    @router.get("/thing")
    async def shown() -> dict[str, str]:
        return {"shown": "yes"}

    return router


@pytest.fixture
def seen() -> list[tuple[str, str]]:
    return []


@pytest.fixture
async def client(seen: list[tuple[str, str]]) -> AsyncIterator[httpx.AsyncClient]:
    app = app_of(MadeUpNode(), key=KEY, read_key=READ_KEY, routers=[done_router(seen)])
    async with client_of(app) as client:
        yield client


async def log_in(client: httpx.AsyncClient, key: str = KEY, **more: object) -> httpx.Response:
    return await client.post("/login", json={"key": key, **more})


async def session(client: httpx.AsyncClient) -> dict[str, object]:
    answer = await client.get("/api/session")
    assert answer.status_code == 200
    return dict(answer.json())


async def test_a_login_reads_until_it_is_made_for_operating(
    client: httpx.AsyncClient, seen: list[tuple[str, str]]
) -> None:
    assert (await log_in(client)).status_code == 204
    assert (await session(client))["role"] == "read"
    assert (await session(client))["csrfToken"] is None
    assert (await client.post("/admin/thing")).status_code == 401
    assert (await client.get("/admin/thing")).status_code == 401
    assert (await log_in(client, operate=True)).status_code == 204
    now = await session(client)
    assert (now["role"], now["loggedIn"], now["canOperate"]) == ("operate", True, True)
    assert 0 < int(str(now["operatesForSeconds"])) <= bounds.HTTP_OPERATE_SECONDS_MAX
    done = await client.post("/admin/thing", headers={"X-CSRF-Token": str(now["csrfToken"])})
    assert done.status_code == 200
    assert (await client.get("/admin/thing")).status_code == 200
    assert [via for via, _ in seen] == ["page"]


@pytest.mark.parametrize("token", [None, "", "0" * 64, "\xe9", csrf_of("another login")])
async def test_without_its_token_nothing_is_changed(
    client: httpx.AsyncClient, seen: list[tuple[str, str]], token: str | None
) -> None:
    await log_in(client, operate=True)
    headers = {} if token is None else {"X-CSRF-Token": token.encode("latin-1")}
    refused = await client.post("/admin/thing", headers=headers)
    assert (refused.status_code, refused.json()["error"]) == (403, CSRF_WRONG)
    assert seen == []


async def test_a_page_of_another_origin_is_refused_even_with_the_token(
    client: httpx.AsyncClient, seen: list[tuple[str, str]]
) -> None:
    await log_in(client, operate=True)
    headers = {"X-CSRF-Token": str((await session(client))["csrfToken"])}
    for origin in ({"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        assert (await client.post("/admin/thing", headers={**headers, **origin})).status_code == 403
    assert seen == []


async def test_a_reader_cannot_begin_to_operate(client: httpx.AsyncClient) -> None:
    assert (await log_in(client, READ_KEY, operate=True)).status_code == 403
    assert (await log_in(client, READ_KEY)).status_code == 204
    assert (await session(client))["role"] == "read"


async def test_log_out_ends_it_and_a_new_login_ends_the_former_one(
    client: httpx.AsyncClient, seen: list[tuple[str, str]]
) -> None:
    await log_in(client, operate=True)
    token = str((await session(client))["csrfToken"])
    former = dict(client.cookies)
    await log_in(client)
    client.cookies.clear()
    cookie = "; ".join(f"{name}={value}" for name, value in former.items())
    headers = {"X-CSRF-Token": token, "Cookie": cookie}
    assert (await client.post("/admin/thing", headers=headers)).status_code == 401
    await log_in(client, operate=True)
    token = str((await session(client))["csrfToken"])
    await client.post("/logout")
    assert (await client.post("/admin/thing", headers={"X-CSRF-Token": token})).status_code == 401
    assert seen == []


async def test_the_key_itself_needs_no_token(
    client: httpx.AsyncClient, seen: list[tuple[str, str]]
) -> None:
    await log_in(client)
    done = await client.post("/admin/thing", headers={"Authorization": f"Bearer {KEY}"})
    assert done.status_code == 200
    assert [via for via, _ in seen] == ["key"]


def test_it_ends_by_itself_and_the_login_goes_on_reading() -> None:
    clock = ManualClock()
    numbers = iter(range(100))
    sessions = Sessions(clock=clock, random_octets=lambda count: bytes([next(numbers)]) * count)
    token = sessions.begin(Role.OPERATE, "192.0.2.1", operate=True)
    assert sessions.operates_for_s(token) == bounds.HTTP_OPERATE_SECONDS_MAX
    clock.advance(bounds.HTTP_OPERATE_SECONDS_MAX)
    assert sessions.operates_for_s(token) == 0
    assert sessions.holder(token) is not None
    assert sessions.operates_for_s("nobody's") == 0
