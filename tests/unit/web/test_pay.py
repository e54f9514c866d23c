"""What payers are told: status, headers and body of every kind of request."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from connector.web.pay import PayApp, pay_url

ADDRESS, SECRET = "test.node.token", bytes(range(32))


async def ask(
    path: str,
    method: str = "GET",
    *,
    accept: str | None = "application/spsp4+json",
    is_ready: bool = True,
) -> tuple[int, dict[str, str], bytes]:
    invited: list[str] = []

    def invite(wallet: str) -> tuple[str, bytes] | None:
        invited.append(wallet)
        return (f"{ADDRESS}-{wallet}", SECRET) if is_ready else None

    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    async def receive() -> dict[str, Any]:
        raise AssertionError("the body of a request is not read")

    headers = [] if accept is None else [(b"accept", accept.encode())]
    scope = {"type": "http", "method": method, "path": path, "headers": headers}
    await PayApp(["alice", "bob"], invite)(scope, receive, send)
    start, body = sent
    fields = {name.decode(): value.decode() for name, value in start["headers"]}
    assert fields["access-control-allow-origin"] == "*"
    assert fields["cache-control"] == "no-store"
    if method != "HEAD":
        assert int(fields["content-length"]) == len(body["body"])
    if start["status"] not in (200, 503):
        assert not invited
    return start["status"], fields, body["body"]


@pytest.mark.parametrize(
    ("path", "wallet"),
    [("/pay/alice", "alice"), ("/pay/BOB", "bob"), ("/.well-known/pay", "alice")],
)
async def test_a_wallet_is_answered_with_an_address_and_a_secret(path: str, wallet: str) -> None:
    status, headers, body = await ask(path)
    assert (status, headers["content-type"]) == (200, "application/spsp4+json")
    assert json.loads(body) == {
        "destination_account": f"{ADDRESS}-{wallet}",
        "shared_secret": base64.b64encode(SECRET).decode(),
        "receipts_enabled": False,
    }


@pytest.mark.parametrize(
    "path",
    ["/", "/pay", "/pay/", "/pay/carol", "/pay/alice/", "/pay/alice/x", "/.well-known", "/metrics"],
)
async def test_any_other_path_is_no_receiver(path: str) -> None:
    status, headers, body = await ask(path)
    assert (status, headers["content-type"]) == (404, "application/spsp4+json")
    assert json.loads(body)["id"] == "InvalidReceiverError"


@pytest.mark.parametrize(
    ("accept", "status"),
    [
        (None, 200),
        ("*/*", 200),
        ("text/html, application/json;q=0.9", 200),
        ("Application/SPSP4+JSON", 200),
        ("application/spsp4+json, application/spsp+json", 200),
        ("text/html", 406),
        ("application/pdf, image/*", 406),
    ],
)
async def test_what_the_client_takes(accept: str | None, status: int) -> None:
    assert (await ask("/pay/alice", accept=accept))[0] == status


async def test_head_is_get_without_a_body() -> None:
    status, headers, body = await ask("/pay/alice", "HEAD")
    assert (status, body) == (200, b"")
    assert int(headers["content-length"]) > 0


async def test_options_says_that_any_site_may_ask() -> None:
    status, headers, body = await ask("/pay/alice", "OPTIONS")
    assert (status, body) == (204, b"")
    assert headers["access-control-allow-methods"] == "GET, HEAD, OPTIONS"
    assert headers["access-control-allow-headers"] == "*"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "TRACE"])
async def test_other_methods_are_refused(method: str) -> None:
    status, headers, _ = await ask("/pay/alice", method)
    assert (status, headers["allow"]) == (405, "GET, HEAD, OPTIONS")


async def test_a_node_without_an_address_says_when_to_come_back() -> None:
    status, headers, _ = await ask("/pay/alice", is_ready=False)
    assert (status, headers["retry-after"]) == (503, "5")


def test_what_payment_pointers_resolve_to() -> None:
    assert pay_url("https://pay.example/", "0.0.0.0", 1) == "https://pay.example"
    assert pay_url(None, "127.0.0.1", 80) == "http://127.0.0.1:80"
    assert pay_url(None, "::1", 80) == "http://[::1]:80"
