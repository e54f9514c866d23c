"""Requests of commands to a node: its answer, or one line for the operator."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from connector.base.errors import (
    ConnectorError,
    EnvironmentFault,
    KeyRefusedError,
    OperatorError,
)
from connector.tools.client import NodeClient
from tests.support.outside_http import FakeNetwork, raw

URL = "http://node:8080"


def node(handler: Any, key: str | None = None, url: str = URL) -> NodeClient:
    return NodeClient(url, key, transport=FakeNetwork(handler))


def fault(
    ask: Any, *args: Any, kind: type[ConnectorError] = EnvironmentFault, **options: Any
) -> str:
    """What is said; `kind` decides on the exit code of a command."""
    with pytest.raises(kind) as caught:
        ask(*args, **options)
    return str(caught.value)


def answers(status: int, body: bytes) -> NodeClient:
    return node(lambda _: raw(status, body))


def test_it_gives_what_the_node_shows_and_sends_the_key() -> None:
    seen: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, json={"nodeId": "a"})

    assert node(handler, "key", URL + "/").get("/api/status") == {"nodeId": "a"}
    assert str(seen[0].url) == URL + "/api/status"
    assert seen[0].headers["authorization"] == "Bearer key"


def test_a_node_that_is_not_ready_still_shows_its_health() -> None:
    assert answers(503, b'{"status": "starting"}').get("/health/ready") == {"status": "starting"}
    assert fault(answers(503, b'{"error": "x"}').get, "/api/status") == (
        f"{URL}/api/status answered HTTP 503: not a connector?"
    )


@pytest.mark.parametrize("body", [b"", b"<html>", b"[1]", b"7", b'{"a": NaN}', b"[" * 10_000])
def test_what_is_no_connector_is_told(body: bytes) -> None:
    said = f"{URL}/api/status answered HTTP 200: not a connector?"
    assert fault(answers(200, body).get, "/api/status") == said
    assert fault(answers(200, body).admin, "GET", "/api/status") == said


def test_an_answer_in_json_that_is_not_a_nodes_is_told() -> None:
    """A path in --url gets 404 from the node itself; another server may say anything."""
    assert fault(answers(404, b'{"error": "Not Found"}').get, "/api/peers") == (
        f"{URL}/api/peers answered HTTP 404: not a connector?"
    )
    assert fault(answers(200, b'{"hello": 1}').get, "/api/peers") == (
        f"{URL}/api/peers answered HTTP 200: not a connector?"
    )
    with_path = node(lambda _: raw(404, b'{"error": "Not Found"}'), url=URL + "/foo")
    said = fault(with_path.get, "/api/status")
    assert said.endswith("not a connector? --url has a path: right only where a proxy adds it")


def test_why_a_question_is_refused_is_told() -> None:
    refused = answers(422, b'{"error": "limit: more than 1000"}')
    said = fault(refused.get, "/api/events", kind=OperatorError)
    assert said == f"{URL} refuses: limit: more than 1000"
    assert fault(refused.admin, "POST", "/x", {}, kind=OperatorError) == "limit: more than 1000"


def test_a_missing_key_is_told() -> None:
    refused = answers(401, b'{"error": "who are you"}')
    said = f"{URL} asks for a key: pass --key with the node's ADMIN_API_KEY"
    assert fault(refused.get, "/api/status", kind=KeyRefusedError) == said
    assert fault(refused.admin, "GET", "/x", kind=KeyRefusedError) == said


def test_a_key_that_does_not_open_what_is_asked_for_is_told() -> None:
    refused = answers(403, b'{"error": "READ_API_KEY only reads"}')
    said = fault(refused.get, "/api/status", kind=KeyRefusedError)
    assert said == f"{URL} refuses: READ_API_KEY only reads"
    said = fault(refused.admin, "POST", "/x", {}, kind=KeyRefusedError)
    assert said == "READ_API_KEY only reads"


def test_a_wrong_key_is_told_apart_from_none() -> None:
    refused = node(lambda _: raw(401, b'{"error": "who are you"}'), "wrong")
    said = f"{URL} refuses this key: pass --key with the node's ADMIN_API_KEY"
    assert fault(refused.get, "/api/status", kind=KeyRefusedError) == said
    assert fault(refused.admin, "GET", "/x", kind=KeyRefusedError) == said


def test_a_btp_port_is_told() -> None:
    said = fault(answers(426, b"Failed to open a WebSocket connection").get, "/api/status")
    assert "BTP port" in said
    assert "HTTP_PORT" in said


@pytest.mark.parametrize(
    "url",
    ["127.0.0.1:8080", "nonsense", "ws://node:1", "http://", "http://node:99999", "localhost:1"],
)
def test_what_is_no_url_of_a_node_is_told_before_it_is_asked(url: str) -> None:
    with pytest.raises(OperatorError, match="is not the URL of a node, such as http://127"):
        NodeClient(url)


@pytest.mark.parametrize(("given", "spoken"), [("https", "http"), ("http", "https")])
def test_a_node_that_speaks_the_other_of_http_and_https_is_told_and_not_given_the_key(
    given: str, spoken: str
) -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        if request.url.scheme != spoken:
            raise httpx.ReadError("closed")
        assert "authorization" not in request.headers
        return httpx.Response(200, json={"status": "alive"})

    said = fault(node(handler, "key", f"{given}://node:8080").get, "/api/status")
    assert said == (
        f"{given}://node:8080 does not answer, {spoken}://node:8080 does: "
        f"pass --url {spoken}://node:8080"
    )


def test_the_reason_of_a_refusal_is_the_nodes() -> None:
    assert fault(answers(409, b'{"error": "in use"}').admin, "POST", "/x", {}) == "in use"


def test_a_node_that_is_not_there_is_told() -> None:
    gone = NodeClient("http://127.0.0.1:9")
    assert fault(gone.get, "/x") == (
        "http://127.0.0.1:9 does not answer: Connection refused; is the node running?"
    )
    assert fault(gone.admin, "GET", "/x") == (
        "http://127.0.0.1:9 does not answer: Connection refused; is the node running?"
    )


def test_a_change_whose_answer_is_lost_is_asked_for_once_more_under_its_key() -> None:
    seen: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        if len(seen) == 1:
            raise httpx.ReadError("lost")
        return httpx.Response(200, json={"done": True})

    assert node(handler).admin("POST", "/x", {"a": "1"}, "k") == {"done": True}
    assert [one.headers["idempotency-key"] for one in seen] == ["k", "k"]
    assert [json.loads(one.content) for one in seen] == [{"a": "1"}, {"a": "1"}]
    assert seen[0].headers["content-type"] == "application/json"


def test_a_change_that_may_have_been_made_names_the_key_to_repeat_it_with() -> None:
    def handler(_: httpx.Request) -> httpx.Response:
        raise httpx.ReadError("lost")

    assert fault(node(handler).admin, "POST", "/x", {}, "k").endswith(
        "does not answer: lost; if it may have been done, repeat it with --idempotency-key k"
    )


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b'{"error": "it was used", "code": "key_reused"}', OperatorError),
        (b'{"error": "in use"}', EnvironmentFault),
        (b'{"error": "in use", "code": "of another version"}', EnvironmentFault),
    ],
)
def test_a_key_of_another_request_is_wrong_for_good_and_other_conflicts_may_pass(
    body: bytes, kind: type[ConnectorError]
) -> None:
    said = fault(answers(409, body).admin, "POST", "/admin/payments", {}, kind=kind)
    assert said in ("it was used", "in use")
