"""Fuzz targets: answers to commands, of a node or of another server in its place."""

from __future__ import annotations

import contextlib
from typing import Any

import httpx
from hypothesis import strategies as st

from connector.base.errors import EnvironmentFault, OperatorError
from connector.tools import follow
from connector.tools.client import NodeClient
from connector.tools.healthcheck import read_answer
from tests.fuzz.target import Target, json_octets, json_values, near_object

_texts = st.sampled_from(("ready", "degraded", "x" * 9000, "\x1b[31m", "\ud800")) | st.text(
    max_size=5
)
health_answers = st.builds(
    lambda head, body: head + body,
    st.sampled_from((b"HTTP/1.0 200 OK\r\n\r\n", b"\r\n\r\n", b"", b"\xff\r\n\r\n")),
    json_octets(near_object({"status": _texts, "reason": _texts}) | json_values),
)


def check_health(octets: bytes) -> None:
    """One line that any terminal can show."""
    _, said = read_answer(octets, "http://127.0.0.1:8080")
    said.encode("utf-8")
    assert said.isprintable()
    assert len(said) < 1000


_events = st.lists(near_object({"type": st.just("PACKET_FULFILLED")}) | json_values, max_size=3)
messages = json_octets(
    near_object(
        {"seq": st.integers() | st.text(max_size=5), "gap": st.booleans(), "packets": _events,
         "events": _events}
    )
    | json_values
)  # fmt: skip


def check_feed(octets: bytes) -> None:
    """A number and events, or a fault that names the node."""
    for text in (octets, octets.decode("utf-8", "replace")):
        with contextlib.suppress(EnvironmentFault, OperatorError):
            seq, events = follow._read("http://127.0.0.1:8080", text)
            assert isinstance(seq, int)
            assert all("type" in event for event in events)


def check_node_answer(value: tuple[int, bytes]) -> None:
    """An object, or a fault that an operator can read."""
    status, body = value

    def handle(_: httpx.Request) -> httpx.Response:
        return httpx.Response(status, stream=httpx.ByteStream(body))

    client = NodeClient(
        "http://127.0.0.1:8080", "key-of-the-operator", transport=httpx.MockTransport(handle)
    )
    calls: tuple[Any, ...] = (
        lambda: client.get("/api/status"),
        lambda: client.admin("POST", "/admin/peers", {"id": "bob"}, "key"),
    )
    for call in calls:
        with contextlib.suppress(EnvironmentFault, OperatorError):
            assert isinstance(call(), dict)


TARGETS = (
    Target("health-answer", health_answers, check_health),
    Target("feed-message", messages, check_feed),
    Target(
        "node-answer",
        st.tuples(
            st.sampled_from((200, 201, 400, 401, 403, 404, 422, 426, 500, 503, 599)),
            json_octets(near_object({"error": _texts | json_values}) | json_values),
        ),
        check_node_answer,
    ),
)
