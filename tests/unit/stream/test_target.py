"""Payment pointers and SPSP answers."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from connector.stream.target import read_answer, shown, url_of

SECRET = bytes(range(32))
TEXT = base64.b64encode(SECRET).decode()


@pytest.mark.parametrize(
    ("target", "url"),
    [
        ("$example.com", "https://example.com/.well-known/pay"),
        ("$example.com/", "https://example.com/.well-known/pay"),
        ("$example.com/pay/alice", "https://example.com/pay/alice"),
        ("http://127.0.0.1:81/pay/a", "http://127.0.0.1:81/pay/a"),
        ("http://127.0.0.1:81", "http://127.0.0.1:81/.well-known/pay"),
        ("https://example.com/x?y=1", "https://example.com/x?y=1"),
    ],
)
def test_what_a_pointer_stands_for(target: str, url: str) -> None:
    assert url_of(target) == url


@pytest.mark.parametrize(
    "target",
    [
        "", "example.com", "$", "$user@example.com", "$example.com:81/x", "$example.com/x?y=1",
        "$example.com/x#y", "ftp://example.com", "http://", "http://u:p@example.com/", "$a b",
        "http://example.com:x/", "$" + "a" * 3000,
    ],
)  # fmt: skip
def test_what_is_no_pointer(target: str) -> None:
    with pytest.raises(ValueError):
        url_of(target)


@pytest.mark.parametrize(
    "secret", [TEXT, TEXT.rstrip("="), TEXT.replace("+", "-").replace("/", "_")]
)
def test_an_answer_is_read(secret: str) -> None:
    body = {"destination_account": "g.a.b", "shared_secret": secret, "more": 1}
    assert read_answer(body) == ("g.a.b", SECRET)


@pytest.mark.parametrize(
    "body",
    [
        None,
        [],
        {},
        {"destination_account": "no address", "shared_secret": TEXT},
        {"destination_account": "g.a.b"},
        {"destination_account": "g.a.b", "shared_secret": 5},
        {"destination_account": "g.a.b", "shared_secret": "ä"},
        {"destination_account": "g.a.b", "shared_secret": TEXT[:-4]},
        {"destination_account": "g.a.b", "shared_secret": TEXT + TEXT},
    ],
)
def test_what_is_no_answer(body: Any) -> None:
    with pytest.raises(ValueError):
        read_answer(body)


@pytest.mark.parametrize(
    ("target", "text"),
    [
        ("$alice.example/a", "$alice.example/a"),
        ("https://alice.example/pay?token=hunter2", "https://alice.example/pay?(hidden)"),
        ("https://alice.example/pay?", "https://alice.example/pay?(hidden)"),
    ],
)
def test_a_query_is_not_shown(target: str, text: str) -> None:
    assert shown(target) == text
