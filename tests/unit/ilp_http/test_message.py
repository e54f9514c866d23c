"""Heads of requests: which path, whose token, which ids."""

from __future__ import annotations

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector.base import limits
from connector.ilp_http.message import (
    AGAIN,
    FULFILL,
    PREPARE,
    REJECT,
    Refusal,
    Request,
    peer_in_path,
    read_head,
    read_token,
    request_id_of,
)

ID = "42ee09c8-a6de-4ae3-8a47-4732b0cbb07b"
PACKET_ID = "0123456789abcdef0123456789abcdef"


def head(*headers: tuple[bytes, bytes], method: bytes = b"POST", path: bytes = b"/ilp") -> Request:
    request = read_head(method, path, headers)
    assert isinstance(request, Request), request
    return request


def refused(
    *headers: tuple[bytes, bytes], method: bytes = b"POST", path: bytes = b"/ilp"
) -> tuple[int, str]:
    refusal = read_head(method, path, headers)
    assert isinstance(refusal, Refusal), refusal
    return refusal.status, refusal.reason


def test_everything_that_a_request_says_is_read() -> None:
    request = head(
        (b"authorization", b"Bearer secret"),
        (b"content-type", b"Application/ILP+Octet-Stream; charset=x"),
        (b"request-id", ID.upper().encode()),
        (b"callback-url", b"http://bob/ilp"),
        (b"ilp-packet-id", PACKET_ID.encode()),
        (b"ilp-peer-name", b"7768"),
        path=b"/accounts/bob/ilp?x=1",
    )
    assert request.token == "secret"
    assert request.content_type == "application/ilp+octet-stream"
    assert request.request_id == uuid.UUID(ID)
    assert request.callback_url == "http://bob/ilp"
    assert request.packet_id == int(PACKET_ID, 16)
    assert request.path == "/accounts/bob/ilp"


def test_a_request_may_say_nothing_but_its_path() -> None:
    request = head(method=b"GET")
    assert (request.token, request.packet_id, request.request_id) == ("", 0, None)


@pytest.mark.parametrize(
    ("path", "peer_id"),
    [
        ("/accounts/bob/ilp", "bob"),
        ("/accounts/bob/ilp/", None),
        ("//accounts/bob/ilp", None),
        ("///accounts/%76ictim/ilp//", None),
        ("/accounts/%62ob/ilp", None),
        ("/accounts/a%2Fb/ilp", None),
        ("/accounts/bob/ilp\n", None),
        ("/accounts/bob/ilp/btp", None),
        ("/accounts/bob", None),
        ("/accounts//ilp", None),
        ("/ilp", None),
    ],
)
def test_the_path_names_the_peer(path: str, peer_id: str | None) -> None:
    assert peer_in_path(path) == peer_id


@pytest.mark.parametrize("path", [b"/", b"/metrics", b"/admin/peers", b"/accounts/bob", b"*", b""])
def test_nothing_else_is_there(path: bytes) -> None:
    assert refused(path=path)[0] == 404


@pytest.mark.parametrize("path", [b"/ilp/", b"//ilp", b"/%69lp", b"/accounts/bob/ilp/", b"/accounts/b%6Fb/ilp"])  # fmt: skip
def test_another_spelling_of_a_path_is_another_path(path: bytes) -> None:
    assert refused(path=path)[0] == 404


@pytest.mark.parametrize("coding", [b"chunked", b"identity", b"gzip, chunked"])
def test_a_packet_has_a_length(coding: bytes) -> None:
    field = (b"transfer-encoding", coding)
    for headers in (
        [field],
        [field, (b"content-length", b"5")],
        [(b"content-length", b"5"), field],
    ):
        for method in (b"POST", b"GET"):
            assert refused(*headers, method=method)[0] == 411


@pytest.mark.parametrize("method", [b"PUT", b"HEAD", b"OPTIONS", b"DELETE", b"BREW"])
def test_other_methods_are_refused(method: bytes) -> None:
    assert refused(method=method)[0] == 405


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ([(b"request-id", b"1")], "Request-Id is not a UUID"),
        ([(b"request-id", ID.encode() + b"0")], "Request-Id is not a UUID"),
        ([(b"request-id", b"00000000-0000-0000-0000-000000000000")], "Request-Id is not a UUID"),
        ([(b"callback-url", b"http://bob/")], "Callback-Url without Request-Id"),
        ([(b"ilp-packet-id", b"1")], "ILP-Packet-Id is not 32 hex digits"),
        ([(b"ilp-packet-id", b"0" * 32)], "ILP-Packet-Id is not 32 hex digits"),
        ([(b"ilp-packet-id", b"+" + b"1" * 31)], "ILP-Packet-Id is not 32 hex digits"),
        ([(b"authorization", b"Bearer a"), (b"authorization", b"Bearer b")], "a header is there twice"),
        ([(b"request-id", ID.encode())] * 2, "a header is there twice"),
    ],
)  # fmt: skip
def test_headers_that_cannot_be_read_are_named(
    headers: list[tuple[bytes, bytes]], reason: str
) -> None:
    assert refused(*headers) == (400, reason)


@pytest.mark.parametrize(
    ("authorization", "token"),
    [
        ("Bearer secret", "secret"),
        ("bearer  secret ", "secret"),
        ("secret", "secret"),  # ilp-plugin-http with a secretToken
        ("", ""),
        ("Bearer", ""),
        ("Basic abc", "Basic abc"),
        ("Bearer " + "x" * limits.BTP_TOKEN_BYTES_MAX, "x" * limits.BTP_TOKEN_BYTES_MAX),
        ("Bearer " + "x" * (limits.BTP_TOKEN_BYTES_MAX + 1), ""),
    ],
)
def test_the_token_is_a_bearer_token_or_bare(authorization: str, token: str) -> None:
    assert read_token(authorization) == token


@given(packet_id=st.integers(1, 2**128 - 1))
def test_a_request_id_is_a_uuid_of_version_4_and_always_the_same(packet_id: int) -> None:
    request_id = request_id_of(packet_id)
    assert request_id.version == 4
    assert request_id == request_id_of(packet_id)
    assert request_id != request_id_of(packet_id ^ 1)
    assert head((b"request-id", str(request_id).encode())).request_id == request_id


def test_what_precedes_a_resent_packet_is_no_ilp_packet() -> None:
    assert AGAIN[0] not in (PREPARE, FULFILL, REJECT)
