"""Fuzz targets: what operators write and nodes keep: environment, YAML, URLs, changes, peers."""

from __future__ import annotations

import contextlib
import csv
import io
import tempfile
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import yaml
from hypothesis import strategies as st
from pydantic.alias_generators import to_camel

from connector.base.disk import SystemDisk
from connector.base.errors import ConfigError, OperatorError
from connector.base.urls import is_dialable
from connector.node.memory import FormerLinks
from connector.peering.remembered import KnownPeers
from connector.settings.describe import describe
from connector.settings.load import load
from connector.settings.model import PeerSettings, Settings
from connector.settings.overlay import Overlay
from connector.telemetry.event_log import KEPT_TYPES, csv_cells, csv_columns, csv_row, shown
from connector.tools.nodes import Nodes
from tests.fuzz.target import Target, json_octets, json_values, near_object
from tests.support import strategies as some
from tests.support.daemons import EventLog
from tests.support.ledgers import ManualClock

BASE = Settings(
    node_id="hub",
    peers=[
        PeerSettings.model_validate({"id": "alice", "secret": "of-alice"}),
        PeerSettings.model_validate({"id": "bob", "secret": "of-bob", "routes": ["g.bob"]}),
    ],
)

BASE_MS = 1_790_000_000_000

urls = st.builds(
    "".join,
    st.tuples(
        st.sampled_from(("ws://", "wss://", "btp+ws://", "http://", "https://", "", "://", "ws:")),
        st.sampled_from(("", "user:pw@", "@", "a@b@")),
        st.sampled_from(
            (
                "localhost",
                "[::1]",
                "[::1",
                "1.2.3.4",
                "é.example",
                "a" * 70,
                ".",
                "..",
                "",
                "[v1.x]",
            )
        )
        | st.text(max_size=10),
        st.sampled_from(("", ":", ":80", ":99999", ":x", ":-1", ":٣")),
        st.sampled_from(("", "/", "/accounts/a/ilp/btp", "?q#f", "/%zz")) | st.text(max_size=6),
    ),
)


@cache
def _folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="fuzz-"))


def _file(name: str, content: bytes) -> Path:
    path = _folder() / name
    path.write_bytes(content)
    return path


# --- settings

texts = (
    st.sampled_from(
        (
            "",
            "0",
            "1",
            "-1",
            "true",
            "1e3",
            "1_000",
            " 5 ",
            "0x10",
            "x",
            "g.a",
            "a=b,c",
            "A/B=1/0",
            "USD/EUR=1e99",
            "=",
            ",",
            "/",
            "::1",
            "9" * 5000,
            "\x00",
            "\ud800",
            "²",
            "٣",
            "nan",
            "inf",
            "host:1,host:2",
            "[::1]:3001",
            "manual",
            "embedded",
            "parent",
            "child",
        )
    )
    | urls
    | st.text(max_size=12)
)
variables = st.sampled_from(
    [name.upper() for name in Settings.model_fields]
    + [
        f"BTP_PEER_{peer}_{name.upper()}"
        for peer in ("ALICE", "BOB", "A_B", "")
        for name in PeerSettings.model_fields
    ]
    + ["BTP_PEER_ALICE_SECRET_FILE", "NODE_ID_FILE", "BTP_PEER_", "CONNECTOR_X", "ROUTES_FILE"]
) | st.text(max_size=8).map("BTP_PEER_".__add__)
environments = st.dictionaries(variables, texts, max_size=6).map(
    lambda found: {"BTP_PEER_ALICE_SECRET": "of-alice", **found}
)


def check_environment(environment: dict[str, str]) -> None:
    """Settings, or a ConfigError that names every fault."""
    environment = {name: value for name, value in environment.items() if "\x00" not in value}
    environment.pop("CONFIG_FILE", None)
    _load(environment)


def _load(environment: dict[str, str]) -> None:
    try:
        shown = str(describe(load(environment)))
    except ConfigError as error:
        shown = _said(error)
    assert "of-alice" not in shown


def _said(error: ConfigError) -> str:
    assert error.faults
    assert all(fault.strip() for fault in error.faults)
    return str(error)


_peer_fields: dict[str, st.SearchStrategy[Any]] = {
    to_camel(name): texts | json_values for name in PeerSettings.model_fields
}
_peer_fields["id"] = st.sampled_from(("alice", "bob", "carol", "A", ""))
_peer_fields["secret"] = st.sampled_from(("of-alice", "of-bob", "x"))
_settings_fields: dict[str, st.SearchStrategy[Any]] = {
    to_camel(name): texts | json_values for name in Settings.model_fields if name != "data_dir"
}
_settings_fields["peers"] = st.lists(near_object(_peer_fields), max_size=3)
_settings_fields["routes"] = st.lists(
    near_object({"prefix": st.sampled_from(("", "g.a", "g.b")), "nextHop": st.just("alice")}),
    max_size=3,
)
_yaml_words = st.lists(
    st.sampled_from(
        ("peers:", "- ", "  ", "\n", "{", "}", "[", "]", ": ", "nodeId", "id", "secret", "? ", "&a ",
         "*a", "<<: ", "!!int ", "!!timestamp ", "!!binary ", "!!set ", "!!float ", "2001-99-99",
         "0b_", "1:99", "=", "~", ".inf", "|\n", "'", '"', "#", "---\n", "%YAML 9.9\n", "0o8", "1e9")
    ),
    max_size=25,
).map("".join)  # fmt: skip


def _as_yaml(value: Any) -> bytes:
    return str(yaml.safe_dump(value, allow_unicode=False)).encode("utf-8", "surrogatepass")


yaml_octets = (
    some.hostile(near_object(_settings_fields).map(_as_yaml))
    | _yaml_words.map(str.encode)
    | st.integers(1, 3000).map(lambda depth: b"nodeId: " + b"[" * depth)
    | st.dictionaries(st.integers() | st.dates() | st.none(), texts, max_size=2).map(
        lambda odd: _as_yaml({"peers": [{"id": "alice", "secret": "of-alice", **odd}]})
    )
)


def check_yaml(octets: bytes) -> None:
    """Settings, or a ConfigError that names every fault."""
    _load({"CONFIG_FILE": str(_file("settings.yaml", octets))})


# --- files of a node

_routes = st.lists(
    near_object({"prefix": st.sampled_from(("", "g.a")), "nextHop": st.sampled_from(("bob", "x"))}),
    max_size=3,
)
changes = near_object(
    {
        "version": st.just(1),
        "peers": st.dictionaries(
            st.sampled_from(("alice", "bob", "carol")), near_object(_peer_fields), max_size=3
        ),
        "removedPeers": st.lists(st.sampled_from(("alice", "bob", "dave")), max_size=3),
        "routes": _routes,
        "removedRoutes": _routes,
    }
)


def check_changes(octets: bytes) -> None:
    """Changes that give whole settings and are written back, or a ConfigError without a secret."""
    path = _file("changes.json", octets)
    try:
        overlay = Overlay.read(path)
        overlay.apply(BASE)
    except ConfigError as error:
        said = _said(error)
    else:
        overlay.write(path)
        assert Overlay.read(path) == overlay
        return
    assert "of-alice" not in said


known_peers = near_object(
    {
        "salt": st.binary(max_size=16).map(bytes.hex),
        "peers": st.dictionaries(
            st.text(max_size=5),
            near_object(
                {
                    "assetCode": st.just("USD"),
                    "assetScale": st.integers(0, 255),
                    "fingerprint": st.just("0badcafe"),
                    "sinceMs": st.integers(0, 2**53),
                }
            ),
            max_size=3,
        ),
    }
)


def check_known_peers(octets: bytes) -> None:
    """Peers that are written back the same, or a ValueError."""
    path = _file("known_peers.json", octets)
    with contextlib.suppress(ValueError):
        found = KnownPeers.read(path, bytes)
        found.write(path)
        assert KnownPeers.read(path, bytes).peers == found.peers


named_nodes = near_object(
    {
        "version": st.just(1),
        "nodes": st.dictionaries(
            st.text(max_size=5),
            near_object(
                {
                    "url": st.just("http://hub:8080") | urls,
                    "keyFile": st.none() | st.text(max_size=9),
                }
            ),
            max_size=3,
        ),
    }
)


def check_named_nodes(octets: bytes) -> None:
    """Nodes by name, or an OperatorError; a file that others could write is not asked for here."""
    path = _file("nodes.json", octets)
    path.chmod(0o600)
    with contextlib.suppress(OperatorError):
        for one in Nodes(path.parent).all():
            with contextlib.suppress(OperatorError):
                one.key()


log_rows = near_object(
    {
        "type": st.sampled_from(KEPT_TYPES),
        "nodeId": st.just("a"),
        "seq": st.integers(0, 2**60),
        "timestamp": st.just("2026-01-31T12:00:00.000Z"),
        "peerId": st.text(max_size=5),
        "detail": st.text(max_size=9),
    }
)


def check_log_row(octets: bytes) -> None:
    """An event with words that a table can hold, or none."""
    try:
        text = octets.decode()
    except UnicodeDecodeError:
        return
    found = shown(text)
    if found is None:
        return
    assert isinstance(found["said"], str)
    (row,) = csv.reader(io.StringIO(csv_row(csv_cells(found)), newline=""))
    assert len(row) == len(csv_columns())


replaced = near_object(
    {"atMs": st.just(BASE_MS) | st.floats(), "peers": st.lists(st.text(max_size=5), max_size=3)}
)


def check_replaced(octets: bytes) -> None:
    """Peers, or none and a line that says why; once."""
    log = EventLog()
    platform: Any = SimpleNamespace(
        clock=ManualClock(BASE_MS * 1_000_000), log=log, disk=SystemDisk()
    )
    _file("replaced.json", octets)
    links = FormerLinks(BASE.model_copy(update={"data_dir": _folder()}), platform)
    assert all(isinstance(peer_id, str) for peer_id in links.take())
    assert len(log.events) <= 1
    assert links.take() == set()


def check_url(text: str) -> None:
    """A verdict on any text; what may be dialled holds no credentials."""
    if is_dialable(text):
        assert text.startswith(("ws://", "wss://", "btp+ws"))
    for name in ("local_delivery_url", "settlement_engine_url", "otlp_endpoint", "explorer_nodes"):
        with contextlib.suppress(ValueError):
            Settings.model_validate({name: text})
    with contextlib.suppress(ValueError):
        PeerSettings.model_validate({"id": "a", "secret": "s", "url": text})


TARGETS = (
    Target("settings-environment", environments, check_environment),
    Target("settings-yaml", yaml_octets, check_yaml),
    Target("changes-file", json_octets(changes), check_changes),
    Target("known-peers-file", json_octets(known_peers), check_known_peers),
    Target("replaced-file", json_octets(replaced), check_replaced),
    Target("nodes-file", json_octets(named_nodes), check_named_nodes),
    Target("log-row", json_octets(log_rows), check_log_row),
    Target("urls", urls | texts, check_url),
)
