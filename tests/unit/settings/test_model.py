"""The settings: their defaults, what contradicts what, and their reference."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from connector.peering.model import Asset, Relation
from connector.settings import bounds
from connector.settings.model import PeerSettings, Settings
from tests.support.settings import ALICE, faults, settings

ROOT = Path(__file__).parents[3]


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
        "trusted_proxies": [],
        "ilp_http_host": "127.0.0.1",
        "ilp_http_port": None,
        "ilp_http_tls_cert": None,
        "ilp_http_tls_key": None,
        "ilp_http_url": None,
        "admin_api_key": None,
        "read_api_key": None,
        "metrics_key": None,
        "log_level": "info",
        "log_format": None,
        "ledger": "embedded",
        "tigerbeetle_cluster_id": None,
        "tigerbeetle_replicas": None,
        "tigerbeetle_history": False,
        "accounting_outage_policy": "spool",
        "fulfill_when": "durable",
        "accounting_spool_limit": 1_000_000,
        "accounting_timeout_ms": 1000,
        "telemetry_packets_per_second": 200,
        "otlp_endpoint": None,
        "otlp_sample_ratio": 0.01,
        "explorer_max_events": 1_000_000,
        "explorer_max_bytes": 1_073_741_824,
        "explorer_retention_days": 7,
        "event_log_max_bytes": 67_108_864,
        "event_log_retention_days": 400,
        "explorer_nodes": [],
        "explorer_nodes_key": None,
        "explorer_node_keys": {},
        "asset_code": "USD",
        "asset_scale": 9,
        "credit_limit": 1_000_000_000,
        "message_window_ms": 1000,
        "max_hold_ms": 30_000,
        "fee_basis_points": 0,
        "rates_max_age_seconds": 60,
        "rates_url": None,
        "spread_basis_points": 0,
        "receiver_secret": None,
        "local_delivery_url": None,
        "pay_host": "127.0.0.1",
        "pay_port": None,
        "pay_url": None,
        "pay_secret": None,
        "pay_secret_former": None,
        "pay_data_url": None,
        "pay_webhook_url": None,
        "pay_webhook_secret": None,
        "pay_quiet_seconds": 30,
        "sink_webhook_url": None,
        "sink_webhook_secret": None,
        "sink_webhook_events": [],
        "sink_nats_url": None,
        "sink_nats_subject": "ilp.events",
        "sink_nats_stream": "ILP_EVENTS",
        "sink_nats_tls_ca": None,
        "sink_nats_events": [],
        "sink_postgres_url": None,
        "sink_postgres_table": "ilp_events",
        "sink_postgres_events": [],
        "sink_lag_alert_seconds": 300,
        "sink_dead_letters_max_bytes": 16 << 20,
        "wallets": [],
        "settlement_engine_url": None,
        "settlement_token": None,
        "route_broadcast_interval_ms": 30_000,
        "route_hold_down_ms": 45_000,
        "routing_secret": None,
        "disk_reserve_bytes": 256 << 20,
        "ledger_archive_dir": None,
        "ledger_max_bytes": 8 << 30,
        "ledger_retention_days": 30,
    }
    assert found.data_dir == Path("data")
    assert (found.peers, found.routes, found.rates) == ([], [], {})


def test_the_receiver_secret_is_read_as_octets() -> None:
    assert settings(RECEIVER_SECRET="00ff10").receiver_key == b"\x00\xff\x10"
    assert settings().receiver_key is None


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


def test_more_peers_than_the_bound_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "PEERS_MAX", 1)
    two = {"BTP_PEER_A_SECRET": "1", "BTP_PEER_B_SECRET": "2"}
    assert faults(two) == ("more than 1 peers",)


def test_the_reference_in_docs_is_made_from_the_docstrings_of_today() -> None:
    script = runpy.run_path(str(ROOT / "scripts" / "configuration_reference.py"))
    for model in (Settings, PeerSettings):
        assert set(script["docstrings"](model)) == set(model.model_fields), "a field says nothing"
    committed = (ROOT / "docs" / "configuration.md").read_text("utf-8")
    assert committed == script["reference"](), (
        "run: python scripts/configuration_reference.py > docs/configuration.md"
    )
