"""Settings: where values come from, what is refused, and that all of it is said at once."""

from __future__ import annotations

import runpy
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from connector.base import limits
from connector.base.errors import ConfigError
from connector.peering.model import Asset, Relation
from connector.settings.model import (
    Loaded,
    PeerSettings,
    RouteSettings,
    Settings,
    describe,
    is_loopback,
    load,
)

ROOT = Path(__file__).parents[3]
ALICE = {"BTP_PEER_ALICE_SECRET": "alice's-own"}


def settings(**environment: str) -> Settings:
    return load(environment).settings


def peer(**environment: str) -> PeerSettings:
    (one,) = load({**ALICE, **environment}).settings.peers
    return one


def faults(environment: dict[str, str]) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        load(environment)
    return caught.value.faults


def fault(**environment: str) -> str:
    """The one fault of this environment."""
    found = faults(environment)
    assert len(found) == 1, found
    return found[0]


# --- every variable


def test_without_any_variable_everything_has_its_documented_default() -> None:
    found = settings()
    assert {
        name: getattr(found, name)
        for name in Settings.model_fields
        if name not in ("data_dir", "peers", "routes", "rates")
    } == {
        "node_id": "connector",
        "ilp_address": None,
        "btp_server_host": "127.0.0.1",
        "btp_server_port": 3000,
        "btp_tls_cert": None,
        "btp_tls_key": None,
        "http_host": "127.0.0.1",
        "http_port": 8080,
        "http_tls_cert": None,
        "http_tls_key": None,
        "http_allowed_hosts": [],
        "admin_api_key": None,
        "log_level": "info",
        "log_format": None,
        "ledger": "embedded",
        "tigerbeetle_cluster_id": None,
        "tigerbeetle_replicas": None,
        "tigerbeetle_history": False,
        "accounting_outage_policy": "spool",
        "accounting_spool_limit": 1_000_000,
        "accounting_timeout_ms": 1000,
        "telemetry_packets_per_second": 200,
        "otlp_endpoint": None,
        "otlp_sample_ratio": 0.01,
        "explorer_max_events": 1_000_000,
        "explorer_max_bytes": 1_073_741_824,
        "explorer_retention_days": 7,
        "explorer_nodes": [],
        "explorer_nodes_key": None,
        "asset_code": "USD",
        "asset_scale": 9,
        "credit_limit": 1_000_000_000,
        "message_window_ms": 1000,
        "max_hold_ms": 30_000,
        "fee_basis_points": 0,
        "receiver_secret": None,
        "local_delivery_url": None,
        "settlement_engine_url": None,
        "settlement_token": None,
    }
    assert found.data_dir == Path("data")
    assert (found.peers, found.routes, found.rates) == ([], [], {})


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


def test_routes_are_prefix_equals_peer_and_an_empty_prefix_is_the_default() -> None:
    found = settings(**ALICE, ROUTES="g.bob=alice,=alice")
    assert found.routes == [
        RouteSettings(prefix="g.bob", next_hop="alice"),
        RouteSettings(prefix="", next_hop="alice"),
    ]


def test_the_receiver_secret_is_read_as_octets() -> None:
    assert settings(RECEIVER_SECRET="00ff10").receiver_key == b"\x00\xff\x10"
    assert settings().receiver_key is None


def test_an_empty_variable_counts_as_unset() -> None:
    """Compose files pass `${NAME:-}` on."""
    assert settings(NODE_ID="", ADMIN_API_KEY="", HTTP_PORT="") == settings()


def test_variables_of_other_programs_are_left_alone() -> None:
    """So are those that the commands and the build read."""
    assert settings(
        PATH="/bin", HTTP_PROXY="http://proxy", CONNECTOR_UI="skip",
        CONNECTOR_URL="http://127.0.0.1:8080", TIGERBEETLE_BIN="/usr/bin/tigerbeetle",
    ) == settings()  # fmt: skip


# --- peers


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


def test_a_peer_that_says_little_has_the_nodes_asset_and_no_bounds_of_its_own() -> None:
    found = settings(**ALICE, ASSET_CODE="XRP", ASSET_SCALE="6")
    (one,) = found.peers
    assert one == PeerSettings(id="alice", secret=SecretStr("alice's-own"))
    assert found.asset_of(one) == Asset("XRP", 6)
    assert one.relation is Relation.PEER


def test_a_scale_of_zero_is_not_taken_for_a_missing_one() -> None:
    found = settings(**ALICE, BTP_PEER_ALICE_ASSET_SCALE="0", ASSET_SCALE="6")
    assert found.asset_of(found.peers[0]) == Asset("USD", 0)


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


# --- sources


def yaml_file(folder: Path, text: str) -> dict[str, str]:
    path = folder / "connector.yaml"
    path.write_text(text, "utf-8")
    return {"CONFIG_FILE": str(path)}


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


def test_an_empty_file_sets_nothing(tmp_path: Path) -> None:
    assert load(yaml_file(tmp_path, "")).settings == settings()


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


def test_a_value_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "value").write_bytes(b"\xff\xfe")
    assert fault(NODE_ID_FILE=str(tmp_path / "value")).endswith("cannot be read: not UTF-8")


def test_a_value_and_a_file_for_it_are_one_too_many() -> None:
    assert (
        fault(NODE_ID="a", NODE_ID_FILE="/x") == "NODE_ID and NODE_ID_FILE are both set: keep one"
    )


# --- faults


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"CONNECTOR_PORT": "1"}, "CONNECTOR_PORT is not a setting"),
        ({"BTP_SERVER_PROT": "1"}, "BTP_SERVER_PROT is not a setting; did you mean BTP_SERVER_PORT?"),
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
        ({"RATES": "USD/EUR"}, "RATES: the rate '' of USD/EUR is not a number"),
        ({"RATES": "USD/EUR=-1"}, "RATES: the rate '-1' of USD/EUR is not a number"),
        ({"RATES": "USD/EUR=1e999999999"}, "is not a number"),
        ({"RATES": "USD/EUR=0"}, "RATES: the rate of USD/EUR must be above zero"),
        ({"RATES": "USD/EUR=1/0"}, "RATES: the rate of USD/EUR must be above zero"),
        ({"NODE_ID": "two words"}, "NODE_ID: must be 1 to 64 letters"),
        ({"ILP_ADDRESS": "g"}, "ILP_ADDRESS: is not an ILP address"),
        ({"BTP_SERVER_PORT": "65536"}, "BTP_SERVER_PORT: Input should be less than"),
        ({"HTTP_PORT": "-1"}, "HTTP_PORT: Input should be greater than"),
        ({"LOG_LEVEL": "loud"}, "LOG_LEVEL: Input should be 'debug', 'info'"),
        ({"LOG_FORMAT": "xml"}, "LOG_FORMAT: Input should be 'json' or 'console'"),
        ({"ASSET_CODE": "U S D"}, "ASSET_CODE"),
        ({"ASSET_SCALE": "256"}, "ASSET_SCALE"),
        ({"CREDIT_LIMIT": "-5"}, "CREDIT_LIMIT: Input should be greater than or equal to 0"),
        ({"MESSAGE_WINDOW_MS": "0"}, "MESSAGE_WINDOW_MS"),
        ({"MAX_HOLD_MS": "1999"}, "MAX_HOLD_MS must be at least twice MESSAGE_WINDOW_MS"),
        ({"FEE_BASIS_POINTS": "10001"}, "FEE_BASIS_POINTS"),
        ({"ACCOUNTING_OUTAGE_POLICY": "hope"}, "ACCOUNTING_OUTAGE_POLICY"),
        ({"ACCOUNTING_TIMEOUT_MS": "9"}, "ACCOUNTING_TIMEOUT_MS"),
        ({"ACCOUNTING_SPOOL_LIMIT": "0"}, "ACCOUNTING_SPOOL_LIMIT"),
        ({"RECEIVER_SECRET": "abc"}, "RECEIVER_SECRET must be an even number of hex digits"),
        ({"RECEIVER_SECRET": "zz"}, "RECEIVER_SECRET must be an even number of hex digits"),
        ({"LOCAL_DELIVERY_URL": "ftp://wallet"}, "LOCAL_DELIVERY_URL: must be an http://"),
        ({"BTP_TLS_CERT": "c.pem"}, "BTP_TLS_CERT and BTP_TLS_KEY go together"),
        ({"BTP_TLS_KEY": "k.pem"}, "BTP_TLS_CERT and BTP_TLS_KEY go together"),
        ({"TIGERBEETLE_CLUSTER_ID": "0"}, "TIGERBEETLE_CLUSTER_ID and TIGERBEETLE_REPLICAS go"),
        ({"TIGERBEETLE_REPLICAS": "tb:1"}, "TIGERBEETLE_CLUSTER_ID and TIGERBEETLE_REPLICAS go"),
        ({"TIGERBEETLE_CLUSTER_ID": "x", "TIGERBEETLE_REPLICAS": "t:1"}, "TIGERBEETLE_CLUSTER_ID"),
        ({"TIGERBEETLE_HISTORY": "true"}, "TIGERBEETLE_HISTORY is kept by TigerBeetle only"),
        ({"TIGERBEETLE_HISTORY": "perhaps"}, "TIGERBEETLE_HISTORY"),
        ({"HTTP_HOST": "0.0.0.0"}, "HTTP_HOST=0.0.0.0 is not loopback: set ADMIN_API_KEY"),
        ({"SETTLEMENT_ENGINE_URL": "engine"}, "SETTLEMENT_ENGINE_URL: must be an http://"),
        ({"SETTLEMENT_ENGINE_URL": "http://u:p@e"}, "SETTLEMENT_ENGINE_URL: must be an http://"),
        ({"SETTLEMENT_TOKEN": "two words"}, "SETTLEMENT_TOKEN must be printable ASCII"),
        (
            {**ALICE, "BTP_PEER_ALICE_SETTLEMENT_ENGINE_URL": "e:1"},
            "BTP_PEER_ALICE_SETTLEMENT_ENGINE_URL='e:1': must be an http://",
        ),
        (
            {**ALICE, "HTTP_HOST": "0.0.0.0", "ADMIN_API_KEY": "k", "SETTLEMENT_ENGINE_URL": "http://e"},
            "HTTP_HOST=0.0.0.0 is not loopback: set SETTLEMENT_TOKEN",
        ),
        ({"CONFIG_FILE": "/no/such.yaml"}, "CONFIG_FILE=/no/such.yaml cannot be read: No such file"),
    ],
)  # fmt: skip
def test_each_fault_is_named_with_its_variable(environment: dict[str, str], said: str) -> None:
    found = faults(environment)
    assert any(said in line for line in found), found
    if "TIGERBEETLE_CLUSTER_ID" not in said:
        assert len(found) == 1, found


@pytest.mark.parametrize(
    ("node", "own", "engine"),
    [
        ("", "", None),
        ("manual", "", None),
        ("http://e", "", "http://e"),
        ("http://e", "manual", None),
        ("http://e", "https://own/x", "https://own/x"),
        ("manual", "https://own/x", "https://own/x"),
    ],
)
def test_a_peer_has_its_own_settlement_engine_or_that_of_the_node(
    node: str, own: str, engine: str | None
) -> None:
    found = settings(**ALICE, SETTLEMENT_ENGINE_URL=node, BTP_PEER_ALICE_SETTLEMENT_ENGINE_URL=own)
    assert found.settlement_engine_of(found.peers[0]) == engine


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
        ("httpPort: many", "HTTP_PORT: Input should be a valid integer"),
        ("routes: [{prefix: g.a, nextHop: nobody}]", "the route g.a leads to 'nobody'"),
        ("routes: [{prefix: g.a}]", "ROUTES[0].nextHop: Field required"),
        ("rates: [1]", "RATES: must be FROM/TO=rate"),
    ],
)  # fmt: skip
def test_each_fault_of_the_file_is_named(tmp_path: Path, text: str, said: str) -> None:
    found = faults(yaml_file(tmp_path, text))
    assert any(said in line for line in found), found


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "connector.yaml").write_bytes(b"\xff\xfe\x00")
    (said,) = faults({"CONFIG_FILE": str(tmp_path / "connector.yaml")})
    assert "is not YAML" in said


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
        "'nodeID'", "HTTP_PORT:", "HTTP_HOST=0.0.0.0", "BTP_TLS_CERT and", "peers a and b",
        "BTP_PEER_C_CREDIT_LIMIT", "BTP_PEER_D_COLOUR", "route g.x", "CONNECTOR_X", "MAX_HOLD_MS",
    ):  # fmt: skip
        assert sum(part in line for line in found) == 1, (part, found)
    assert len(found) == 10, found


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


def test_settings_made_in_a_program_read_no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NODE_ID", "from-env")
    assert Settings().node_id == "connector"


def test_settings_made_in_a_program_are_checked_alike_and_frozen() -> None:
    with pytest.raises(ValidationError, match="configured twice"):
        Settings(
            peers=[
                PeerSettings(id="a", secret=SecretStr("1")),
                PeerSettings(id="a", secret=SecretStr("2")),
            ]
        )
    with pytest.raises(ValidationError, match="ADMIN_API_KEY must not be empty"):
        Settings(admin_api_key=SecretStr(""))
    with pytest.raises(ValidationError, match="frozen"):
        Settings().node_id = "other"  # type: ignore[misc]


def test_rates_of_a_program_may_be_fractions() -> None:
    rates = {("USD", "EUR"): Fraction(2, 3)}
    assert Settings(rates=rates).rates == rates


def test_more_peers_than_the_bound_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PEERS_MAX", 1)
    two = {"BTP_PEER_A_SECRET": "1", "BTP_PEER_B_SECRET": "2"}
    assert faults(two) == ("more than 1 peers",)


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("localhost", True), ("127.0.0.1", True), ("127.1.2.3", True), ("::1", True),
        ("0.0.0.0", False), ("::", False), ("192.168.0.1", False), ("127.example.org", False),
    ],
)  # fmt: skip
def test_only_this_machine_is_loopback(host: str, local: bool) -> None:
    assert is_loopback(host) is local


# --- what check-config prints


def test_the_effective_configuration_is_listed_with_sources_and_without_secrets() -> None:
    loaded: Loaded = load(
        {
            "NODE_ID": "me",
            "ADMIN_API_KEY": "hunter2",
            "RECEIVER_SECRET": "00ff",
            "RATES": "USD/EUR=0.92",
            "ROUTES": ",".join(f"g.p{n}=east-coast" for n in range(21)),
            "BTP_PEER_EAST_COAST_SECRET": "hunter3",
            "BTP_PEER_EAST_COAST_ROUTES": "g.a,g.b",
        }
    )
    rows = {name: (value, source) for name, value, source in describe(loaded)}
    assert len(rows) == len(Settings.model_fields) - 1 + len(PeerSettings.model_fields) - 1
    assert rows["NODE_ID"] == ("me", "NODE_ID")
    assert rows["HTTP_PORT"] == ("8080", "default")
    assert rows["ILP_ADDRESS"] == ("", "default")
    assert rows["ADMIN_API_KEY"] == ("[redacted]", "ADMIN_API_KEY")
    assert rows["RECEIVER_SECRET"] == ("[redacted]", "RECEIVER_SECRET")
    assert rows["RATES"] == ("USD/EUR=0.92", "RATES")
    assert rows["ROUTES"][0].endswith("g.p19=east-coast,... (21)")
    assert rows["BTP_PEER_EAST_COAST_SECRET"] == ("[redacted]", "BTP_PEER_EAST_COAST_SECRET")
    assert rows["BTP_PEER_EAST_COAST_ROUTES"][0] == "g.a,g.b"
    text = str(describe(loaded))
    assert not any(secret in text for secret in ("hunter2", "hunter3", "00ff"))


def test_the_reference_in_docs_is_made_from_the_docstrings_of_today() -> None:
    script = runpy.run_path(str(ROOT / "scripts" / "configuration_reference.py"))
    for model in (Settings, PeerSettings):
        assert set(script["docstrings"](model)) == set(model.model_fields), "a field says nothing"
    committed = (ROOT / "docs" / "configuration.md").read_text("utf-8")
    assert committed == script["reference"](), (
        "run: python scripts/configuration_reference.py > docs/configuration.md"
    )


# --- HTTP


def test_http_tls_goes_together_and_host_names_are_checked() -> None:
    with pytest.raises(ConfigError) as caught:
        load({"HTTP_TLS_CERT": "a.pem", "HTTP_ALLOWED_HOSTS": "Node.Example:80,ok.example"})
    text = str(caught.value)
    assert "HTTP_TLS_CERT and HTTP_TLS_KEY go together" in text
    assert "without a port" in text
    loaded = load({"HTTP_ALLOWED_HOSTS": "Node.Example, ::1"})
    assert loaded.settings.http_allowed_hosts == ["node.example", "::1"]
    rows = {name: value for name, value, _ in describe(loaded)}
    assert rows["HTTP_ALLOWED_HOSTS"] == "node.example,::1"


def test_the_nodes_of_the_network_are_urls_without_credentials() -> None:
    for wrong in ("b:8080", "ftp://b", "http://user:word@b", "http://b/?key=word"):
        with pytest.raises(ConfigError) as caught:
            load({"EXPLORER_NODES": f"http://a:1,{wrong}"})
        assert "EXPLORER_NODES[1]" in str(caught.value)
        assert "word" not in str(caught.value)
    loaded = load({"EXPLORER_NODES": "http://a:1, https://b/x", "EXPLORER_NODES_KEY": "word"})
    assert loaded.settings.explorer_nodes == ["http://a:1", "https://b/x"]
    assert ("EXPLORER_NODES_KEY", "[redacted]", "EXPLORER_NODES_KEY") in describe(loaded)
