"""What single settings may be."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from connector.base import limits
from connector.base.errors import ConfigError
from connector.settings.describe import describe
from connector.settings.load import load
from connector.settings.model import PeerSettings, RouteSettings, Settings
from connector.settings.types import is_loopback
from tests.support.settings import ALICE, fault, settings


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("localhost", True), ("127.0.0.1", True), ("127.1.2.3", True), ("::1", True),
        ("0.0.0.0", False), ("::", False), ("192.168.0.1", False), ("127.example.org", False),
    ],
)  # fmt: skip
def test_only_this_machine_is_loopback(host: str, local: bool) -> None:
    assert is_loopback(host) is local


@pytest.mark.parametrize(
    "url",
    [
        "http://bob:3000",
        "bob:3000",
        "ws://",
        "ws://bob:99999",
        "ws://bob:port",
        "ws://a..b:3000",
        f"ws://{'a' * 64}:3000",
        "ws://bob:3000#fragment",
        "ws://me:hunter2@bob:3000",
        "ws://me@bob",
        "wss://:hunter2@bob/path",
    ],
)
def test_a_url_that_cannot_be_dialled_is_refused_and_credentials_are_not_repeated(url: str) -> None:
    said = fault(**ALICE, BTP_PEER_ALICE_URL=url)
    assert said.startswith("BTP_PEER_ALICE_URL")
    assert said.endswith("must be a ws:// or wss:// URL without credentials")
    assert "hunter2" not in said


def test_the_nodes_of_the_network_are_urls_without_credentials() -> None:
    for wrong in ("b:8080", "ftp://b", "http://user:word@b", "http://b/?key=word"):
        with pytest.raises(ConfigError) as caught:
            load({"EXPLORER_NODES": f"http://a:1,{wrong}"})
        assert "EXPLORER_NODES[1]" in str(caught.value)
        assert "word" not in str(caught.value)
    loaded = load({"EXPLORER_NODES": "http://a:1, https://b/x", "EXPLORER_NODES_KEY": "word"})
    assert loaded.settings.explorer_nodes == ["http://a:1", "https://b/x"]
    assert ("EXPLORER_NODES_KEY", "[redacted]", "EXPLORER_NODES_KEY") in describe(loaded)


def test_each_node_of_the_network_has_a_key(tmp_path: Path) -> None:
    nodes = {"EXPLORER_NODES": "http://a:1/,https://b/x"}
    given = "http://a:1=word==, https://b/x/=other"
    for environment in (
        {"EXPLORER_NODE_KEYS": given},
        {"EXPLORER_NODE_KEYS_FILE": str(written(tmp_path / "keys", given.replace(", ", "\n")))},
        {
            "CONFIG_FILE": str(
                written(
                    tmp_path / "node.yaml",
                    "explorerNodeKeys: {'http://a:1/': word==, 'https://b/x': other}",
                )
            )
        },
    ):
        loaded = load({**nodes, **environment})
        keys = loaded.settings.explorer_node_keys
        assert {url: key.get_secret_value() for url, key in keys.items()} == {
            "http://a:1": "word==", "https://b/x": "other",
        }  # fmt: skip
        (shown,) = [value for name, value, _ in describe(loaded) if name == "EXPLORER_NODE_KEYS"]
        assert shown == "http://a:1=[redacted],https://b/x=[redacted]"
        assert "word" not in str(loaded)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("hunter2", "must be http://host:port=key,"), ("hunter2=http://a:1", "must be http://host"),
        ("=hunter2", "must be http://host"), ("http://a:1", "every key must be printable"),
        ("http://a:1=", "every key must be printable"),
        ("http://a:1=hunter2é", "every key must be printable"),
        ("http://a:1=hunter2,http://a:1/=hunter3", "a node has two keys"),
    ],
)  # fmt: skip
def test_a_key_of_a_node_that_cannot_be_used_is_not_repeated(given: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load({"EXPLORER_NODES": "http://a:1", "EXPLORER_NODE_KEYS": given})
    (line,) = caught.value.faults
    assert line.startswith(f"EXPLORER_NODE_KEYS: {said}")
    assert "hunter" not in line


def written(path: Path, text: str) -> Path:
    path.write_text(text, "utf-8")
    return path


def test_routes_are_prefix_equals_peer_and_an_empty_prefix_is_the_default() -> None:
    found = settings(**ALICE, ROUTES="g.bob=alice,=alice")
    assert found.routes == [
        RouteSettings(prefix="g.bob", next_hop="alice"),
        RouteSettings(prefix="", next_hop="alice"),
    ]


def test_rates_of_a_program_may_be_fractions() -> None:
    rates = {("USD", "EUR"): Fraction(2, 3)}
    assert Settings(rates=rates).rates == rates


@pytest.mark.parametrize("value", [0, 5, "5", "0", limits.AMOUNT_MAX, str(limits.AMOUNT_MAX)])
def test_an_amount_is_a_whole_number_or_its_digits(value: Any) -> None:
    assert Settings(credit_limit=value).credit_limit == int(value)


@pytest.mark.parametrize(
    "value",
    [5.0, 9007199254740993.0, 1e3, 0.5, float("nan"), True, False, "5.0", "1_0", "1e3", "", [5]],
)
def test_an_amount_that_could_lose_units_is_refused(value: Any) -> None:
    with pytest.raises(ValidationError):
        Settings(credit_limit=value)
    with pytest.raises(ValidationError):
        PeerSettings(id="a", secret=SecretStr("s"), max_payable=value)
