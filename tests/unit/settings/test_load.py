"""Sources of values, values that are refused, and that all faults are reported at once."""

from __future__ import annotations

import os
import re
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from connector.base import files, limits
from connector.base.errors import ConfigError
from connector.peering.model import Relation
from connector.settings.describe import describe
from connector.settings.load import load
from connector.settings.model import PeerSettings, RouteSettings, Settings
from connector.settings.types import is_same_listener
from tests.support.settings import ALICE, fault, faults, peer, settings, yaml_file


@pytest.mark.parametrize(
    ("variable", "text", "value"),
    [
        ("NODE_ID", "node-1_~", "node-1_~"),
        ("ILP_ADDRESS", "g.us.node", "g.us.node"),
        ("BTP_SERVER_HOST", "0.0.0.0", "0.0.0.0"),
        ("BTP_SERVER_PORT", "0", 0),
        ("BTP_SERVER_PORT", "65535", 65535),
        ("HTTP_HOST", "::1", "::1"),
        ("HTTP_PORT", "8081", 8081),
        ("ADMIN_API_KEY", "key", SecretStr("key")),
        ("DATA_DIR", "/var/lib/ilp", Path("/var/lib/ilp")),
        ("LOG_LEVEL", "debug", "debug"),
        ("LOG_FORMAT", "console", "console"),
        ("LEDGER", "memory", "memory"),
        ("ACCOUNTING_OUTAGE_POLICY", "reject", "reject"),
        ("ACCOUNTING_SPOOL_LIMIT", "1", 1),
        ("ACCOUNTING_TIMEOUT_MS", "60000", 60_000),
        ("ASSET_CODE", "XRP", "XRP"),
        ("ASSET_SCALE", "255", 255),
        ("CREDIT_LIMIT", str(limits.AMOUNT_MAX), limits.AMOUNT_MAX),
        ("CREDIT_LIMIT", "0", 0),
        ("MESSAGE_WINDOW_MS", "15000", 15_000),
        ("MAX_HOLD_MS", str(limits.HOLD_MS_MAX), limits.HOLD_MS_MAX),
        ("FEE_BASIS_POINTS", "10000", 10_000),
        ("RATES", "USD/EUR=0.92 EUR/USD=25/23", {
            ("USD", "EUR"): Fraction(23, 25), ("EUR", "USD"): Fraction(25, 23),
        }),
        ("RATES", "USD/EUR=9.2e-1", {("USD", "EUR"): Fraction(23, 25)}),
        ("RECEIVER_SECRET", "00fF", SecretStr("00fF")),
        ("LOCAL_DELIVERY_URL", "https://wallet/prepare", "https://wallet/prepare"),
        ("RATES_URL", "https://rates/v1?key=k", "https://rates/v1?key=k"),
        ("RATES_MAX_AGE_SECONDS", "604800", 604_800),
        ("SPREAD_BASIS_POINTS", "10000", 10_000),
    ],
)  # fmt: skip
def test_a_variable_sets_the_field_of_its_name(variable: str, text: str, value: Any) -> None:
    loaded = load({variable: text})
    name = variable.lower()
    assert getattr(loaded.settings, name) == value
    assert loaded.sources == {name: variable}


def test_settings_that_go_together_are_taken_together() -> None:
    found = settings(
        BTP_TLS_CERT="cert.pem", BTP_TLS_KEY="key.pem",
        TIGERBEETLE_CLUSTER_ID="0", TIGERBEETLE_REPLICAS="tb1:3000,tb2:3000",
        TIGERBEETLE_HISTORY="true",
    )  # fmt: skip
    assert (found.btp_tls_cert, found.btp_tls_key) == (Path("cert.pem"), Path("key.pem"))
    assert (found.tigerbeetle_cluster_id, found.tigerbeetle_replicas) == (0, "tb1:3000,tb2:3000")
    assert found.tigerbeetle_history
    assert not settings(TIGERBEETLE_HISTORY="false").tigerbeetle_history


@pytest.mark.parametrize("replicas", ["3001", "3001,3002", "tb:3001", "[::1]:3001, 10.0.0.1:1"])
def test_replicas_are_ports_or_hosts_with_ports(replicas: str) -> None:
    found = settings(TIGERBEETLE_CLUSTER_ID="0", TIGERBEETLE_REPLICAS=replicas)
    assert found.tigerbeetle_replicas == replicas


@pytest.mark.parametrize(
    ("btp", "http", "is_same"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("localhost", "127.0.0.1", True),
        ("127.0.0.1", "127.0.0.2", False),
        ("127.0.0.1", "::1", False),
        ("0.0.0.0", "127.0.0.1", True),
        ("0.0.0.0", "::1", False),
        ("::", "127.0.0.1", True),
        ("::", "0.0.0.0", True),
    ],
)
def test_two_listeners_cannot_have_the_same_port_of_the_same_address(
    btp: str, http: str, is_same: bool
) -> None:
    assert is_same_listener(btp, http) is is_same
    assert is_same_listener(http, btp) is is_same


def test_listeners_that_let_the_system_choose_have_ports_of_their_own() -> None:
    found = settings(BTP_SERVER_PORT="0", HTTP_PORT="0")
    assert (found.btp_server_port, found.http_port) == (0, 0)


def test_an_empty_variable_counts_as_unset() -> None:
    """Compose files pass `${NAME:-}` on."""
    assert settings(NODE_ID="", ADMIN_API_KEY="", HTTP_PORT="") == settings()


def test_variables_of_other_programs_are_left_alone() -> None:
    """So are those that the commands and the build read."""
    assert settings(
        PATH="/bin", HTTP_PROXY="http://proxy", CONNECTOR_UI="skip",
        CONNECTOR_URL="http://127.0.0.1:8080", TIGERBEETLE_BIN="/usr/bin/tigerbeetle",
    ) == settings()  # fmt: skip


@pytest.mark.parametrize(
    ("suffix", "text", "value"),
    [
        ("URL", "ws://127.0.0.1:3000", "ws://127.0.0.1:3000"),
        ("URL", "btp+wss://bob.example/accounts/me/ilp/btp", "btp+wss://bob.example/accounts/me/ilp/btp"),
        ("URL", "ws://[::1]:3000", "ws://[::1]:3000"),
        ("USERNAME", "me", "me"),
        ("RELATION", "parent", Relation.PARENT),
        ("RELATION", "child", Relation.CHILD),
        ("ASSET_CODE", "EUR", "EUR"),
        ("ASSET_SCALE", "2", 2),
        ("CREDIT_LIMIT", "0", 0),
        ("MAX_PAYABLE", "5", 5),
        ("MAX_IN_FLIGHT_VALUE", "5", 5),
        ("MAX_PACKET_AMOUNT", "6", 6),
        ("RATE_LIMIT", "7", 7),
        ("SETTLE_THRESHOLD", "8", 8),
        ("ROUTES", "g.a, g.b", ["g.a", "g.b"]),
        ("ROUTES", "g.a,", ["g.a"]),
        ("ROUTES", "", []),
        ("URL", "", None),
        ("FEE_BASIS_POINTS", "9", 9),
        ("ALLOW_REFLECTION", "true", True),
    ],
)  # fmt: skip
def test_a_peer_variable_sets_the_peers_field(suffix: str, text: str, value: Any) -> None:
    found = peer(**{f"BTP_PEER_ALICE_{suffix}": text})
    assert getattr(found, suffix.lower()) == value


@pytest.mark.parametrize(
    ("environment", "peer_id"),
    [
        ({"BTP_PEER_BOB_SECRET": "s"}, "bob"),
        ({"BTP_PEER_EAST_COAST_SECRET": "s"}, "east-coast"),
        ({"BTP_PEER_RATE_LIMIT_SECRET": "s"}, "rate-limit"),
        ({"BTP_PEER_ID_SECRET": "s"}, "id"),
        ({"BTP_PEER_X_SECRET": "s", "BTP_PEER_X_ID": "west"}, "west"),
        ({"BTP_PEER_7_SECRET": "s"}, "7"),
    ],
)
def test_a_peers_id_is_its_name_in_lower_case_with_hyphens(
    environment: dict[str, str], peer_id: str
) -> None:
    (one,) = load(environment).settings.peers
    assert (one.id, one.secret.get_secret_value()) == (peer_id, "s")


def test_two_peers_are_told_apart_by_the_longest_suffix() -> None:
    found = settings(BTP_PEER_A_SECRET="1", BTP_PEER_A_RATE_LIMIT="5", BTP_PEER_A_SETTLE_SECRET="2")
    assert [(one.id, one.rate_limit) for one in found.peers] == [("a", 5), ("a-settle", None)]


FILE = """
nodeId: from-file
httpPort: 9000
rates: {USD/EUR: 0.92}
peers:
  - {id: alice, secret: in-file, creditLimit: 5, routes: [g.alice]}
  - {id: bob, secret: of-bob}
routes:
  - {prefix: g.bob, nextHop: bob}
"""


def test_the_file_has_the_same_settings_in_camel_case(tmp_path: Path) -> None:
    found = load(yaml_file(tmp_path, FILE)).settings
    assert (found.node_id, found.http_port) == ("from-file", 9000)
    assert found.rates == {("USD", "EUR"): Fraction(23, 25)}
    assert [one.id for one in found.peers] == ["alice", "bob"]
    assert found.peers[0].credit_limit == 5
    assert found.peers[0].routes == ["g.alice"]
    assert found.routes == [RouteSettings(prefix="g.bob", next_hop="bob")]


def test_the_environment_wins_over_the_file_field_by_field(tmp_path: Path) -> None:
    environment = yaml_file(tmp_path, FILE)
    path = environment["CONFIG_FILE"]
    loaded = load(
        {**environment, "NODE_ID": "from-env", "BTP_PEER_ALICE_SECRET": "in-env", "ROUTES": ""}
    )
    alice = loaded.settings.peers[0]
    assert loaded.settings.node_id == "from-env"
    assert (alice.secret.get_secret_value(), alice.credit_limit) == ("in-env", 5)
    assert loaded.settings.routes == []
    assert loaded.sources["node_id"] == "NODE_ID"
    assert loaded.sources["http_port"] == f"{path}: httpPort"
    assert loaded.sources["peers.alice.secret"] == "BTP_PEER_ALICE_SECRET"
    assert loaded.sources["peers.alice.credit_limit"] == f"{path}: peers[0].creditLimit"


def test_a_file_of_no_settings_sets_nothing(tmp_path: Path) -> None:
    assert load(yaml_file(tmp_path, "{}")).settings == settings()


@pytest.mark.parametrize("variable", ["ADMIN_API_KEY", "BTP_PEER_ALICE_SECRET", "NODE_ID"])
def test_any_value_can_come_from_a_file_of_its_own(tmp_path: Path, variable: str) -> None:
    (tmp_path / "value").write_text("of-the-file\n")
    loaded = load({f"{variable}_FILE": str(tmp_path / "value")})
    rows = {name: source for name, _, source in describe(loaded)}
    assert rows[variable] == f"{variable}_FILE"
    values = [loaded.settings.node_id, loaded.settings.admin_api_key]
    values += [one.secret for one in loaded.settings.peers]
    assert "of-the-file" in values or SecretStr("of-the-file") in values


def test_a_value_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    path = tmp_path / "missing"
    said = fault(ADMIN_API_KEY_FILE=str(path))
    assert said == f"ADMIN_API_KEY_FILE={path} cannot be read: No such file or directory"


@pytest.mark.parametrize(
    "environment",
    [
        {"BTP_PEER_BOB_SECRET_FILE": "/nope", "BTP_PEER_BOB_ROUTES": "g.bob"},
        {"HTTP_HOST": "192.0.2.1", "ADMIN_API_KEY_FILE": "/nope"},
        {"TIGERBEETLE_CLUSTER_ID_FILE": "/nope", "TIGERBEETLE_REPLICAS": "3001"},
        {"BTP_TLS_CERT": "a.pem", "BTP_TLS_KEY_FILE": "/nope"},
    ],
)
def test_of_a_value_file_that_cannot_be_read_nothing_else_is_said(
    environment: dict[str, str],
) -> None:
    said = fault(**environment)
    assert said.endswith("_FILE=/nope cannot be read: No such file or directory")


def test_a_peer_whose_id_is_longer_than_anothers_is_no_misspelling(tmp_path: Path) -> None:
    said = fault(BTP_PEER_BOB_SECRET="s", BTP_PEER_BOB_US_ROUTES="g.us")
    assert said == "BTP_PEER_BOB_US_SECRET: is required"
    file = tmp_path / "node.yaml"
    file.write_text("peers: [{id: bob-recieve, secret: t}]")
    found = settings(
        CONFIG_FILE=str(file), BTP_PEER_BOB_SECRET="s", BTP_PEER_BOB_RECIEVE_ROUTES="g.us"
    )
    assert {peer.id: peer.routes for peer in found.peers} == {"bob": [], "bob-recieve": ["g.us"]}


def test_blanks_around_a_value_are_none_of_it_but_of_a_secret() -> None:
    """An .env file with line ends of Windows gives each value one."""
    found = settings(
        NODE_ID="alice\r", CREDIT_LIMIT=" 5\r", HTTP_PORT="8081\r", LOG_LEVEL="info\r",
        BTP_SERVER_PORT="\r", ADMIN_API_KEY="k", BTP_PEER_BOB_SECRET="s", BTP_PEER_BOB_ROUTES="g.bob\r",
    )  # fmt: skip
    assert (found.node_id, found.credit_limit, found.http_port) == ("alice", 5, 8081)
    assert found.btp_server_port == 3000
    assert found.peers[0].routes == ["g.bob"]
    assert "1 to 1024" in fault(BTP_PEER_BOB_SECRET="s\r")


def test_an_empty_file_variable_counts_as_unset() -> None:
    environment = {
        "NODE_ID": "a", "ILP_ADDRESS": "g.a", "ADMIN_API_KEY_FILE": "",
        "BTP_PEER_BOB_SECRET": "s", "BTP_PEER_BOB_SECRET_FILE": "",
    }  # fmt: skip
    settings = load(environment).settings
    assert settings.admin_api_key is None
    assert settings.peers[0].secret.get_secret_value() == "s"


@pytest.mark.parametrize("name", ["NODE_ID_FILE", "CONFIG_FILE"])
def test_a_pipe_that_nobody_writes_to_is_named_and_one_that_is_written_to_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(files, "_MILLISECONDS_MAX", 10)
    os.mkfifo(tmp_path / "pipe")
    said = fault(**{name: str(tmp_path / "pipe")})
    assert said == (
        f"{name}={tmp_path / 'pipe'} cannot be read: it is a pipe, and nothing comes out of it"
    )
    reading, writing = os.pipe()  # as `<(...)` of a shell
    os.write(writing, b"nodeId: alice" if name == "CONFIG_FILE" else b"alice\n")
    os.close(writing)
    try:
        assert load({name: f"/dev/fd/{reading}"}).settings.node_id == "alice"
    finally:
        os.close(reading)


NOT_UTF_8 = [
    ("nodeId: a".encode("utf-16"), "it is UTF-16, or not text at all: save it as UTF-8"),
    ("nodeId: a".encode("utf-16-be"), "it is UTF-16, or not text at all: save it as UTF-8"),
    ("nodeId: \u00e4".encode("latin-1"), "octet 9 is not UTF-8: save it as UTF-8"),
]


@pytest.mark.parametrize(("content", "said"), NOT_UTF_8)
def test_a_file_that_is_not_utf_8_is_named_with_the_remedy(
    tmp_path: Path, content: bytes, said: str
) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    for name in ("NODE_ID_FILE", "CONFIG_FILE"):
        assert fault(**{name: str(path)}) == f"{name}={path} cannot be read: {said}"


def test_a_value_and_a_file_for_it_are_one_too_many() -> None:
    assert (
        fault(NODE_ID="a", NODE_ID_FILE="/x") == "NODE_ID and NODE_ID_FILE are both set: keep one"
    )


def test_an_empty_value_beside_a_file_is_unset(tmp_path: Path) -> None:
    """A compose file hands a variable on, set or not."""
    path = tmp_path / "key"
    path.write_text("key-of-an-operator\n")
    settings = load({"NODE_ID": "a", "ADMIN_API_KEY": "", "ADMIN_API_KEY_FILE": str(path)}).settings
    assert settings.admin_api_key is not None
    assert settings.admin_api_key.get_secret_value() == "key-of-an-operator"
    peer = {"BTP_PEER_BOB_SECRET": "", "BTP_PEER_BOB_SECRET_FILE": str(path)}
    assert load({"NODE_ID": "a", **peer}).settings.peers[0].id == "bob"


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"CONNECTOR_PORT": "1"}, "CONNECTOR_PORT is not a setting"),
        ({"BTP_SERVER_PROT": "1"}, "BTP_SERVER_PROT is not a setting; did you mean BTP_SERVER_PORT?"),
        ({"BTP_PEER_BOB_B_SECERT": "1"}, "did you mean BTP_PEER_BOB_B_SECRET?"),
        ({"BTP_PEER_BOB_SECRET": "1", "BTP_PEER_BOB_RECIEVE_ROUTES": "true"},
         "BTP_PEER_BOB_RECIEVE_ROUTES is not a setting of a peer; did you mean BTP_PEER_BOB_RECEIVE_ROUTES?"),
        ({"BTP_PEER_BOB_THROUGHPUT_WINDOW": "1"}, "did you mean BTP_PEER_BOB_THROUGHPUT_WINDOW_SECONDS?"),
        ({"BTP_PEER_NODE_1_SERET": "1"}, "did you mean BTP_PEER_NODE_1_SECRET?"),
        ({"BTP_PEER_BANK_EU_CREDTLIMIT": "1"}, "did you mean BTP_PEER_BANK_EU_CREDIT_LIMIT?"),
        ({"BTP_PEER__SECRT": "1"}, "is not a setting of a peer: after BTP_PEER_<ID> may come"),
        ({"BTP_PEER_BOB_SECRT_FILE": "1"}, "did you mean BTP_PEER_BOB_SECRET_FILE?"),
        ({"ACCOUNTING_TIMEOUT": "1"}, "did you mean ACCOUNTING_TIMEOUT_MS?"),
        ({"TIGERBEETLE_REPLICA": "x:1"}, "did you mean TIGERBEETLE_REPLICAS?"),
        ({**ALICE, "BTP_PEER_ALICE_SECRETS": "x"}, "BTP_PEER_ALICE_SECRETS is not a setting of a peer"),
        ({"BTP_PEER_SECRET": "x"}, "BTP_PEER_SECRET is not a setting of a peer"),
        ({"BTP_PEER_ALICE_URL": "ws://h:1"}, "BTP_PEER_ALICE_SECRET: is required"),
        ({"BTP_PEER_ALICE_SECRET": ""}, "BTP_PEER_ALICE: secret must not be empty"),
        ({"BTP_PEER_ALICE_SECRET": "a b"}, "BTP_PEER_ALICE: secret must be 1 to 1024 printable"),
        ({"BTP_PEER_ALICE_SECRET": "s" * 1025}, "BTP_PEER_ALICE: secret must be 1 to 1024 printable"),
        ({"BTP_PEER_ALICE_SECRET": "1", "BTP_PEER_BOB_SECRET": "1"},
         "peers alice and bob have the same secret: give each its own"),
        ({"BTP_PEER_X_ID": "alice", "BTP_PEER_X_SECRET": "2", **ALICE},
         "BTP_PEER_ALICE_* and BTP_PEER_X_* are both peer alice: keep one"),
        ({**ALICE, "BTP_PEER_ALICE_ID": "Not-Lower"}, "must be 1 to 63 lower-case letters"),
        ({**ALICE, "BTP_PEER_ALICE_ID": "-a"}, "must be 1 to 63 lower-case letters"),
        ({"BTP_PEER_" + "A" * 64 + "_SECRET": "1"}, "must be 1 to 63 lower-case letters"),
        ({**ALICE, "BTP_PEER_ALICE_RELATION": "friend"}, "BTP_PEER_ALICE_RELATION='friend'"),
        ({**ALICE, "BTP_PEER_ALICE_CREDIT_LIMIT": "-1"}, "BTP_PEER_ALICE_CREDIT_LIMIT='-1'"),
        ({**ALICE, "BTP_PEER_ALICE_MAX_PAYABLE": "1.5"}, "BTP_PEER_ALICE_MAX_PAYABLE='1.5'"),
        ({**ALICE, "BTP_PEER_ALICE_MAX_PACKET_AMOUNT": str(2**64)}, "_MAX_PACKET_AMOUNT="),
        ({**ALICE, "BTP_PEER_ALICE_RATE_LIMIT": "0"}, "BTP_PEER_ALICE_RATE_LIMIT='0'"),
        ({**ALICE, "BTP_PEER_ALICE_ROUTES": "g.a,not an address"}, "is not an ILP address prefix"),
        ({**ALICE, "BTP_PEER_ALICE_FEE_BASIS_POINTS": "10001"}, "_FEE_BASIS_POINTS='10001'"),
        ({**ALICE, "BTP_PEER_ALICE_SETTLE_THRESHOLD": "1", "BTP_PEER_ALICE_SETTLE_TO": "2"},
         "settleTo must not be above settleThreshold"),
        ({"BTP_PEER_A_SECRET": "1", "BTP_PEER_A_RELATION": "parent",
          "BTP_PEER_B_SECRET": "2", "BTP_PEER_B_RELATION": "parent"}, "more than one parent: a, b"),
        ({"ROUTES": "g.bob=bob"}, "the route g.bob leads to 'bob', which is no configured peer"),
        ({"ROUTES": "=bob"}, "the route (default) leads to 'bob'"),
        ({"ROUTES": "g.bob"}, "ROUTES: 'g.bob' is not prefix=peer"),
        ({"ROUTES": "g..bob=bob"}, "is not an ILP address prefix"),
        ({"RATES": "nonsense"}, "RATES: 'nonsense' is not FROM/TO"),
        ({"RATES": "USD/EUR"}, "RATES='USD/EUR': the rate '' of USD/EUR is not a number"),
        ({"RATES": "USD/EUR=-1"}, "the rate '-1' of USD/EUR is not a number"),
        ({"RATES": "USD/EUR=1e999999999"}, "is not a number"),
        ({"RATES": "USD/EUR=0"}, "RATES='USD/EUR=0': the rate of USD/EUR must be above zero"),
        ({"RATES": "USD/EUR=1/0"}, "the rate of USD/EUR must be above zero"),
        ({"NODE_ID": "two words"}, "NODE_ID='two words': must be 1 to 64 letters"),
        ({"ILP_ADDRESS": "g"}, "ILP_ADDRESS='g': is not an ILP address"),
        ({"BTP_SERVER_PORT": "65536"}, "BTP_SERVER_PORT='65536': must be 65535 or less"),
        ({"HTTP_PORT": "-1"}, "HTTP_PORT='-1': must be 0 or more"),
        ({"LOG_LEVEL": "loud"}, "LOG_LEVEL='loud': must be 'debug', 'info', 'warning' or 'error'"),
        ({"LOG_FORMAT": "xml"}, "LOG_FORMAT='xml': must be 'json' or 'console'"),
        ({"ASSET_CODE": "U S D"}, "ASSET_CODE='U S D': must be 1 to 32 letters, digits"),
        ({"ASSET_SCALE": "256"}, "ASSET_SCALE='256': must be 255 or less"),
        ({"CREDIT_LIMIT": "-5"}, "CREDIT_LIMIT='-5': must be 0 or more"),
        ({"MESSAGE_WINDOW_MS": "0"}, "MESSAGE_WINDOW_MS='0': must be 1 or more"),
        ({"MAX_HOLD_MS": "1999"}, "MAX_HOLD_MS must be at least twice MESSAGE_WINDOW_MS"),
        ({"FEE_BASIS_POINTS": "10001"}, "FEE_BASIS_POINTS"),
        ({"ACCOUNTING_OUTAGE_POLICY": "hope"}, "ACCOUNTING_OUTAGE_POLICY"),
        ({"ACCOUNTING_TIMEOUT_MS": "9"}, "ACCOUNTING_TIMEOUT_MS"),
        ({"ACCOUNTING_SPOOL_LIMIT": "0"}, "ACCOUNTING_SPOOL_LIMIT"),
        ({"RECEIVER_SECRET": "abc"}, "RECEIVER_SECRET must be an even number of hex digits"),
        ({"RECEIVER_SECRET": "zz"}, "RECEIVER_SECRET must be an even number of hex digits"),
        ({"LOCAL_DELIVERY_URL": "ftp://wallet"}, "LOCAL_DELIVERY_URL='ftp://wallet': must be an http://"),
        ({"BTP_TLS_CERT": "c.pem"}, "BTP_TLS_CERT and BTP_TLS_KEY go together"),
        ({"BTP_TLS_KEY": "k.pem"}, "BTP_TLS_CERT and BTP_TLS_KEY go together"),
        ({"TIGERBEETLE_CLUSTER_ID": "0"}, "TIGERBEETLE_CLUSTER_ID and TIGERBEETLE_REPLICAS go"),
        ({"TIGERBEETLE_REPLICAS": "tb:1"}, "TIGERBEETLE_CLUSTER_ID and TIGERBEETLE_REPLICAS go"),
        (
            {"TIGERBEETLE_CLUSTER_ID": "0", "TIGERBEETLE_REPLICAS": "nope"},
            "'nope' is no address of a replica: write host:port, [IPv6 address]:port or a port",
        ),
        (
            {"TIGERBEETLE_CLUSTER_ID": "0", "TIGERBEETLE_REPLICAS": "a:1,b:c"},
            "'b:c' is no address of a replica",
        ),
        ({"BTP_SERVER_PORT": "8080"}, "BTP_SERVER_PORT and HTTP_PORT are both 8080"),
        (
            {"BTP_SERVER_PORT": "8080", "BTP_SERVER_HOST": "0.0.0.0"},
            "BTP_SERVER_PORT and HTTP_PORT are both 8080",
        ),
        (
            {"BTP_SERVER_HOST": "127.0.0.1:3000"},
            "BTP_SERVER_HOST='127.0.0.1:3000': must be a host name or an address, without a port",
        ),
        ({"HTTP_HOST": "http://0.0.0.0"}, "HTTP_HOST='http://0.0.0.0': must be a host name"),
        ({"HTTP_ALLOWED_HOSTS": "10.0.0.1:80"}, "HTTP_ALLOWED_HOSTS[0]='10.0.0.1:80': must be"),
        ({"LOCAL_DELIVERY_URL": "http://wallet:99999"}, "must be an http://"),
        ({"TIGERBEETLE_CLUSTER_ID": "x", "TIGERBEETLE_REPLICAS": "t:1"}, "TIGERBEETLE_CLUSTER_ID"),
        ({"TIGERBEETLE_HISTORY": "true"}, "TIGERBEETLE_HISTORY is kept by TigerBeetle only"),
        ({"TIGERBEETLE_HISTORY": "perhaps"}, "TIGERBEETLE_HISTORY='perhaps': must be true or false"),
        ({"OTLP_SAMPLE_RATIO": "some"}, "OTLP_SAMPLE_RATIO='some': must be a number such as 0.5"),
        ({"HTTP_HOST": "0.0.0.0"}, "HTTP_HOST=0.0.0.0 is not loopback: set ADMIN_API_KEY"),
        ({"SETTLEMENT_ENGINE_URL": "engine"}, "SETTLEMENT_ENGINE_URL='engine': must be an http://"),
        ({"SETTLEMENT_ENGINE_URL": "http://u:p@e"}, "SETTLEMENT_ENGINE_URL: must be an http://"),
        ({"SETTLEMENT_TOKEN": "two words"}, "SETTLEMENT_TOKEN must be printable ASCII"),
        (
            {"TRUSTED_PROXIES": "10.0.0.2"},
            "TRUSTED_PROXIES are in front of HTTP: set ADMIN_API_KEY, or READ_API_KEY if nothing",
        ),
        (
            {"TRUSTED_PROXIES": "10.0.0.2", "ADMIN_API_KEY": "short"},
            "ADMIN_API_KEY has less than 16 characters, and TRUSTED_PROXIES are in front of HTTP:",
        ),
        ({"METRICS_KEY": "two words"}, "METRICS_KEY must be printable ASCII"),
        (
            {"METRICS_KEY": "same-key", "ADMIN_API_KEY": "same-key"},
            "METRICS_KEY and ADMIN_API_KEY are the same: whoever may only read metrics could change",
        ),
        (
            {"READ_API_KEY": "same-key", "ADMIN_API_KEY": "same-key"},
            "READ_API_KEY and ADMIN_API_KEY are the same: whoever may only read everything could change",
        ),
        (
            {"READ_API_KEY": "same-key", "METRICS_KEY": "same-key"},
            "METRICS_KEY and READ_API_KEY are the same: whoever may only read metrics could read every",
        ),
        ({"READ_API_KEY": "two words"}, "READ_API_KEY must be printable ASCII"),
        (
            {"EXPLORER_NODES": "http://a:1", "EXPLORER_NODE_KEYS": "http://b:1=k"},
            "EXPLORER_NODE_KEYS has a key for a node that is not in EXPLORER_NODES",
        ),
        (
            {**ALICE, "BTP_PEER_ALICE_SETTLEMENT_ENGINE_URL": "e:1"},
            "BTP_PEER_ALICE_SETTLEMENT_ENGINE_URL='e:1': must be an http://",
        ),
        (
            {**ALICE, "HTTP_HOST": "0.0.0.0", "ADMIN_API_KEY": "k" * 16, "SETTLEMENT_ENGINE_URL": "http://e"},
            "HTTP_HOST=0.0.0.0 is not loopback: set SETTLEMENT_TOKEN",
        ),
        (
            {**ALICE, "HTTP_HOST": "0.0.0.0", "ADMIN_API_KEY": "k" * 16, "SETTLEMENT_ENGINE_URL": "http://e",
             "BTP_PEER_BOB_SECRET": "b", "BTP_PEER_BOB_SETTLEMENT_TOKEN": "t" * 16},
            "HTTP_HOST=0.0.0.0 is not loopback: set SETTLEMENT_TOKEN",
        ),
        (
            {**ALICE, "BTP_PEER_ALICE_SETTLEMENT_TOKEN": "two words"},
            "BTP_PEER_ALICE: settlementToken must be printable ASCII",
        ),
        (
            {**ALICE, "BTP_PEER_ALICE_SETTLEMENT_TOKEN": "same", "SETTLEMENT_TOKEN": "same"},
            "SETTLEMENT_TOKEN and BTP_PEER_ALICE_SETTLEMENT_TOKEN are the same: the engine of one peer",
        ),
        (
            {**ALICE, "BTP_PEER_ALICE_SETTLEMENT_TOKEN": "same",
             "BTP_PEER_BOB_SECRET": "b", "BTP_PEER_BOB_SETTLEMENT_TOKEN": "same"},
            "BTP_PEER_ALICE_SETTLEMENT_TOKEN and BTP_PEER_BOB_SETTLEMENT_TOKEN are the same",
        ),
        ({"CONFIG_FILE": "/no/such.yaml"}, "CONFIG_FILE=/no/such.yaml cannot be read: No such file"),
    ],
)  # fmt: skip
def test_each_fault_is_named_with_its_variable(environment: dict[str, str], said: str) -> None:
    found = faults(environment)
    assert any(said in line for line in found), found
    assert len(found) == 1, found


LONG = "0123456789abcdef"
KEYS = ("ADMIN_API_KEY", "READ_API_KEY", "METRICS_KEY", "SETTLEMENT_TOKEN")


@pytest.mark.parametrize(
    ("secret", "why"),
    [
        (LONG[:-1], "has less than 16 characters"), ("x", "has less than 16 characters"),
        ("change-me-of-any-length", "has the value of the example"),
        ("Change_Me", "has the value of the example"), ("CHANGEME", "has the value of the example"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "node.example"])
@pytest.mark.parametrize(
    "name", [*KEYS, "BTP_PEER_NEW_YORK_SECRET", "BTP_PEER_NEW_YORK_SETTLEMENT_TOKEN"]
)
def test_off_loopback_a_secret_that_can_be_guessed_is_refused(
    name: str, host: str, secret: str, why: str
) -> None:
    of_btp = name.startswith("BTP_") and not name.endswith("_TOKEN")
    listener = "BTP_SERVER_HOST" if of_btp else "HTTP_HOST"
    peer = {"BTP_PEER_NEW_YORK_SECRET": LONG} if name.startswith("BTP_PEER") else {}
    (said,) = faults({"ADMIN_API_KEY": LONG, **peer, listener: host, name: secret})
    assert said == (
        f"{name} {why}, and {listener}={host} is not loopback: give it a secret of its own, "
        "such as the output of `openssl rand -hex 32`"
    )


@pytest.mark.parametrize(
    "given", ["proxy", "10.0.0.256", "10.0.0.1/8", "10.0.0.0/33", "0.0.0.0/0", "::/0", "10.0.0.2:80",
              "*"],
)  # fmt: skip
def test_a_proxy_that_is_no_address_is_named(given: str) -> None:
    (said,) = faults({"TRUSTED_PROXIES": f"10.0.0.2,{given}", "ADMIN_API_KEY": LONG})
    assert said == (
        f"TRUSTED_PROXIES[1]={given!r}: must be an address or a network such as 10.0.0.2 or 10.0.0.0/8"
    )


def test_proxies_are_addresses_and_networks() -> None:
    given = " 10.0.0.2, 10.1.0.0/16,2001:DB8::1 , fd00::/8"
    found = load({"TRUSTED_PROXIES": given, "ADMIN_API_KEY": LONG}).settings
    assert found.trusted_proxies == ["10.0.0.2", "10.1.0.0/16", "2001:db8::1", "fd00::/8"]
    # A listener of both kinds sees IPv4 mapped into IPv6; they are one address.
    given = "::ffff:10.0.0.2,::FFFF:10.1.0.0/112,::fffe:0:0/95"
    found = load({"TRUSTED_PROXIES": given, "ADMIN_API_KEY": LONG}).settings
    assert found.trusted_proxies == ["10.0.0.2", "10.1.0.0/16", "::fffe:0:0/95"]


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.1.2.3"])
def test_on_loopback_any_secret_will_do(host: str) -> None:
    for number, secret in enumerate(("x", "change-me-peer")):
        load(
            {
                "HTTP_HOST": host,
                "BTP_SERVER_HOST": host,
                **{name: f"{secret}{len(name) + number}" for name in KEYS},
                "BTP_PEER_BOB_SECRET": secret,
            }
        )


def test_off_loopback_the_key_of_readers_is_enough() -> None:
    found = load({"HTTP_HOST": "0.0.0.0", "READ_API_KEY": LONG}).settings
    assert found.admin_api_key is None


def test_a_secret_is_judged_by_the_listener_that_it_protects() -> None:
    short = {"BTP_PEER_BOB_SECRET": "x", **{name: name[:3] for name in KEYS}}
    with_btp = faults({**short, "BTP_SERVER_HOST": "0.0.0.0"})
    assert [line.split()[0] for line in with_btp] == ["BTP_PEER_BOB_SECRET"]
    with_http = faults({**short, "HTTP_HOST": "0.0.0.0"})
    assert [line.split()[0] for line in with_http] == list(KEYS)
    load({name: f"{LONG}{name}" for name in short} | {"HTTP_HOST": "::", "BTP_SERVER_HOST": "::"})


def test_of_a_file_too_every_guessable_secret_is_named(tmp_path: Path) -> None:
    found = faults(
        yaml_file(
            tmp_path,
            "btpServerHost: 0.0.0.0\nhttpHost: 0.0.0.0\nadminApiKey: change-me-admin\n"
            "peers: [{id: a, secret: change-me-a}, {id: b, secret: b}]",
        )
    )
    assert [line.split()[0] for line in found] == [
        "ADMIN_API_KEY", "BTP_PEER_A_SECRET", "BTP_PEER_B_SECRET",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nodeID: a", "unknown key 'nodeID'; did you mean nodeId?"),
        ("peers: [{id: a, secret: s, secrets: t}]", "peers[0]: unknown key 'secrets'; did you mean secret?"),
        ("peers: {a: 1}", "peers must be a list"),
        ("peers: [{secret: s}]", "peers[0] needs an id"),
        ("peers: [7]", "peers[0] needs an id"),
        ("peers: [{id: a, secret: s}, {id: a, secret: t}]", "peer a stands twice"),
        ("- a\n- b", "must hold settings by name, such as nodeId: alice"),
        ("nodeId: a\n  b: [", "is not YAML, line 2"),
        ("httpPort: many", "connector.yaml: httpPort='many': must be a whole number, in digits only"),
        ("routes: [{prefix: g.a, nextHop: nobody}]", "the route g.a leads to 'nobody'"),
        ("httpPort:", "connector.yaml: httpPort: has no value"),
        ("nodeId: 5", "connector.yaml: nodeId=5: must be text: put it in quotes"),
        ("dataDir: 5", "connector.yaml: dataDir=5: must be text: put it in quotes"),
        ("tigerbeetleHistory: [1]", "connector.yaml: tigerbeetleHistory: must be true or false"),
        ("explorerNodes: 5", "connector.yaml: explorerNodes=5: must be a list"),
        ("routes: [{prefix: g.a}]", "connector.yaml: routes[0].nextHop: is required"),
        ("routes: [{prefix: g.a, nextHop: b, to: c}]", "routes[0].to='c': is not a setting"),
        ("routes: [7]", "routes[0]=7: must be keys with values, such as {prefix: g.bob, nextHop: bob}"),
        ("peers: [{id: a}]", "connector.yaml: peers[0].secret: is required"),
        ("peers: [{id: A, secret: s}]", "connector.yaml: peers[0].id='A': must be 1 to 63"),
        ("peers: [{id: a, secret: s}, {id: b, secret: 12345}]",
         "connector.yaml: peers[1].secret: must be text: put it in quotes"),
        ("peers: [{id: a, secret: s t}]", "connector.yaml: peers[0]: secret must be 1 to 1024"),
        ("peers: [{id: a, secret: s, routes: [g.a, g..b]}]", "peers[0].routes[1]='g..b': is not an ILP"),
        ("", "connector.yaml is empty: write settings, such as nodeId: alice, or unset it"),
        ("# nodeId: a", "connector.yaml is empty"),
        ("[]", "must hold settings by name, such as nodeId: alice"),
        ("rates: [1]", "rates: must be FROM/TO=rate"),
    ],
)  # fmt: skip
def test_each_fault_of_the_file_is_named(tmp_path: Path, text: str, said: str) -> None:
    found = faults(yaml_file(tmp_path, text))
    assert any(said in line for line in found), found


def test_all_faults_come_at_once(tmp_path: Path) -> None:
    """Faults of single settings, between settings, of the file and of names."""
    found = faults(
        {
            **yaml_file(tmp_path, "nodeID: x\nmaxHoldMs: 100"),
            "HTTP_PORT": "x",
            "HTTP_HOST": "0.0.0.0",
            "BTP_TLS_CERT": "c.pem",
            "BTP_PEER_A_SECRET": "same",
            "BTP_PEER_B_SECRET": "same",
            "BTP_PEER_C_SECRET": "other",
            "BTP_PEER_C_CREDIT_LIMIT": "-1",
            "BTP_PEER_D_COLOUR": "blue",
            "ROUTES": "g.x=nobody,g.c=c",
            "CONNECTOR_X": "1",
        }
    )
    for part in (
        "'nodeID'", "HTTP_PORT='x':", "HTTP_HOST=0.0.0.0", "BTP_TLS_CERT and", "peers a and b",
        "BTP_PEER_C_CREDIT_LIMIT", "BTP_PEER_D_COLOUR", "route g.x", "CONNECTOR_X", "MAX_HOLD_MS",
    ):  # fmt: skip
        assert sum(part in line for line in found) == 1, (part, found)
    assert len(found) == 10, found


@pytest.mark.parametrize("text", ["1e6", "1.5", "many", "0x10", "1 000"])
@pytest.mark.parametrize("name", ["CREDIT_LIMIT", "HTTP_PORT", "ACCOUNTING_TIMEOUT_MS"])
def test_what_is_no_whole_number_is_told_alike(name: str, text: str) -> None:
    assert fault(**{name: text}) == f"{name}={text!r}: must be a whole number, in digits only"


@pytest.mark.long
def test_no_message_is_in_the_words_of_the_validator() -> None:
    """Every setting, given what it cannot be."""
    wrong = {name.upper(): "\x00?" for name in Settings.model_fields if name != "peers"}
    wrong |= {
        f"BTP_PEER_A_{name.upper()}": "\x00?" for name in PeerSettings.model_fields if name != "id"
    }
    for name, text in wrong.items():
        peers = {"BTP_PEER_A_SECRET": "s"} if name.startswith("BTP_PEER_") else {}
        for value in (text, "-1", "99999999999999999999999999999999999999999999"):
            try:
                load({**peers, name: value})
            except ConfigError as error:
                said = "\n".join(error.faults)
                assert not re.search(r"[Ii]nput|valid (?!ILP)|Field|parse|string", said), said


def test_no_message_holds_a_secret(tmp_path: Path) -> None:
    (tmp_path / "connector.yaml").write_text(
        "adminApiKey: [hunter2]\nreceiverSecret: hunter2\n"
        "peers: [{id: a, secret: {x: hunter2}}, {id: b, secret: hunter2 hunter2}]\n"
    )
    found = faults(
        {
            "CONFIG_FILE": str(tmp_path / "connector.yaml"),
            "BTP_PEER_C_SECRET": "hunter2",
            "BTP_PEER_D_SECRET": "hunter2",
            "BTP_PEER_D_CREDIT_LIMIT": "x",
            "BTP_PEER_E_SECRET": "hunter2",
            "BTP_PEER_E_URL": "ws://e:hunter2@e",
        }
    )
    assert len(found) >= 5
    assert "hunter2" not in "\n".join(found)


# --- taken as it is written, or not at all


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nodeId: a\nnodeId: b", "connector.yaml: line 2: nodeId stands twice"),
        ("peers:\n  - {id: a, secret: s,\n     creditLimit: 5, creditLimit: 500}",
         "connector.yaml: line 3: creditLimit stands twice"),
        ("peers: [{id: a, secret: s}]\npeers: [{id: b, secret: t}]", "line 2: peers stands twice"),
        ("peers: [{id: a, secret: s, creditLimit: 0100}]", "line 1: a number as 010"),
        ("httpPort: 0x1f90", "line 1: a number as 010, 0x1f or 1:30"),
        ("creditLimit: 18:00", "line 1: a number as 010, 0x1f or 1:30"),
        ("creditLimit: 9007199254740993.0", ": must be a whole number"),
        ("peers: [{id: a, secret: s, maxPayable: 1e3}]", "peers[0].maxPayable='1e3': must be a whole number"),
        ("creditLimit: yes", "creditLimit: must be a whole number"),
        ("nodeId: " + "[" * 20_000, "is not YAML: it is nested too deep"),
        ("peers: &p [*p]", "is not YAML: it is nested too deep"),
        ("nodeId: 2001-99-99", "is not YAML: month must be in 1..12"),
        ("? [a]\n: 1", "is not YAML"),
        ("nodeId: !!python/object/apply:os.system [id]", "is not YAML, line 1"),
    ],
)  # fmt: skip
def test_what_yaml_would_take_otherwise_is_a_fault(tmp_path: Path, text: str, said: str) -> None:
    found = faults(yaml_file(tmp_path, text))
    assert any(said in line for line in found), found


def test_numbers_and_texts_that_are_what_they_look_like_are_taken(tmp_path: Path) -> None:
    text = 'nodeId: "010"\ncreditLimit: 1_000\nhttpPort: 0\notlpSampleRatio: 0.5\nassetScale: "09"'
    found = load(yaml_file(tmp_path, text)).settings
    assert (found.node_id, found.credit_limit, found.http_port) == ("010", 1000, 0)
    assert (found.otlp_sample_ratio, found.asset_scale) == (0.5, 9)


def test_a_secret_that_looks_like_a_number_is_not_repeated(tmp_path: Path) -> None:
    found = faults(yaml_file(tmp_path, "peers: [{id: a, secret: 07777777}]"))
    assert "07777777" not in "".join(found)


def test_large_values_are_not_repeated(tmp_path: Path) -> None:
    bomb = "username: &a [x, x]\n    relation: &b [*a, *a, *a, *a]\n    assetCode: &c [*b, *b, *b]"
    found = faults(yaml_file(tmp_path, f"peers:\n  - id: a\n    secret: s\n    {bomb}\n"))
    assert len(found) == 3
    assert all(len(line) < 200 for line in found)


def test_a_byte_order_mark_is_no_part_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(b"\xef\xbb\xbfadminkey\r\n")
    (tmp_path / "connector.yaml").write_bytes(b"\xef\xbb\xbfnodeId: a\n")
    found = settings(
        ADMIN_API_KEY_FILE=str(tmp_path / "key"), CONFIG_FILE=str(tmp_path / "connector.yaml")
    )
    assert found.admin_api_key == SecretStr("adminkey")
    assert found.node_id == "a"


def test_a_file_without_end_is_left_at_its_bound() -> None:
    assert "longer than 1048576 octets" in fault(NODE_ID_FILE="/dev/zero")


# --- variables of others


def service_links(service: str) -> dict[str, str]:
    """What Kubernetes sets for a Service."""
    port = f"{service}_PORT_3000_TCP"
    return {
        f"{service}_SERVICE_HOST": "10.0.0.1",
        f"{service}_SERVICE_PORT": "3000",
        f"{service}_SERVICE_PORT_BTP": "3000",
        f"{service}_PORT": "tcp://10.0.0.1:3000",
        port: "tcp://10.0.0.1:3000",
        f"{port}_PROTO": "tcp",
        f"{port}_PORT": "3000",
        f"{port}_ADDR": "10.0.0.1",
    }


@pytest.mark.parametrize(
    "service",
    ["CONNECTOR", "TIGERBEETLE", "BTP", "BTP_PEER_BOB", "BTP_PEER_ALICE_SECRET", "HTTP",
     "BTP_SERVER", "EXPLORER", "ACCOUNTING", "POSTGRES", "PAY", "ILP_HTTP", "RATES", "WALLETS", "ROUTE",
     "BTP_PEER_BOB_HTTP", "TELEMETRY", "DISK_RESERVE"],
)  # fmt: skip
def test_kubernetes_service_links_are_ignored(service: str) -> None:
    assert settings(**service_links(service)) == settings()
    assert settings(**ALICE, **service_links(service)) == settings(**ALICE)


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("HTTP_PROT", "HTTP_PORT"),
        ("HTTP_POR", "HTTP_PORT"),
        ("HTTP_PORTS", "HTTP_PORT"),
        ("CREDITLIMIT", "CREDIT_LIMIT"),
        ("CREDIT_LIMITS", "CREDIT_LIMIT"),
        ("CREDIT_LMIT", "CREDIT_LIMIT"),
        ("http_port", "HTTP_PORT"),
        ("NODEID", "NODE_ID"),
        ("ADMIN_API_KEYS", "ADMIN_API_KEY"),
        ("SETTLEMENT_ENGINE_ULR", "SETTLEMENT_ENGINE_URL"),
        ("ADMINAPI_KEY_FILE", "ADMIN_API_KEY_FILE"),
        ("ADMIN_KEY", "ADMIN_API_KEY"),
        ("READ_KEY", "READ_API_KEY"),
        ("METRICS_API_KEY", "METRICS_KEY"),
        ("TRUSTED_PROXY", "TRUSTED_PROXIES"),
        ("RATES_ULR", "RATES_URL"),
        ("RATE_URL", "RATES_URL"),
        ("RATES_MAX_AGE", "RATES_MAX_AGE_SECONDS"),
        ("ROUTE_BROADCAST_INTERVAL", "ROUTE_BROADCAST_INTERVAL_MS"),
        ("ROUTES_HOLD_DOWN_MS", "ROUTE_HOLD_DOWN_MS"),
        ("DISK_RESERVE", "DISK_RESERVE_BYTES"),
        ("LEDGER_RETENTION", "LEDGER_RETENTION_DAYS"),
        ("PAY_PROT", "PAY_PORT"),
        ("PAYPORT", "PAY_PORT"),
        ("PAY_WALLETS", "WALLETS"),
        ("ILPHTTP_PORT", "ILP_HTTP_PORT"),
        ("SEND_ROUTES", "BTP_PEER_<ID>_SEND_ROUTES"),
        ("MAX_PAYABLE", "BTP_PEER_<ID>_MAX_PAYABLE"),
    ],
)
def test_a_near_miss_of_a_setting_is_named(variable: str, meant: str) -> None:
    assert fault(**{variable: "1"}) == f"{variable} is not a setting; did you mean {meant}?"


@pytest.mark.parametrize(
    "variable",
    ["HTTP_PROXY", "http_proxy", "NODE_IP", "NODE_NAME", "LOG", "RATE", "ROUTE", "HOSTNAME",
     "DATABASE_URL", "HTTPS_PROXY", "LEDGERS", "HTTP_PATH", "PORT", "HOST", "RATE_LIMIT", "USERNAME",
     "HTTP_URL", "HTTP_TOKEN"],
)  # fmt: skip
def test_a_name_that_may_be_another_programs_is_left_alone(variable: str) -> None:
    assert settings(**{variable: "1"}) == settings()


def test_every_setting_is_found_when_two_letters_are_swapped_or_underscores_left_out() -> None:
    for name in (one.upper() for one in Settings.model_fields if one != "peers"):
        if "_" in name:
            assert f"did you mean {name}?" in fault(**{name.replace("_", ""): "1"})
        if len(name) >= 8:
            swapped = name[:-2] + name[-1] + name[-2]
            if swapped != name:
                assert f"did you mean {name}?" in fault(**{swapped: "1"})


@pytest.mark.parametrize(
    "variable", ["ADMIN_API_KEY", "BTP_PEER_ALICE_SECRET", "HTTP_PORT", "NODE_ID"]
)
def test_a_value_that_is_not_utf_8_is_a_fault(variable: str) -> None:
    env = {**ALICE, variable: b"a\xffb".decode("utf-8", "surrogateescape")}
    with pytest.raises(ConfigError, match=f"{variable} is not UTF-8 text"):
        load(env)


def test_a_folder_may_have_any_name() -> None:
    name = b"/tmp/a\xffb".decode("utf-8", "surrogateescape")
    assert str(load({**ALICE, "DATA_DIR": name}).settings.data_dir) == name


def test_a_key_that_no_header_carries_is_a_fault() -> None:
    with pytest.raises(ConfigError, match="ADMIN_API_KEY must be printable ASCII"):
        load({**ALICE, "ADMIN_API_KEY": "sch\u00f6n" * 4})
