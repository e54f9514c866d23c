"""What check-config prints."""

from __future__ import annotations

import pytest

from connector.base.errors import ConfigError
from connector.settings.describe import describe, without_credentials
from connector.settings.load import Loaded, load
from connector.settings.model import PeerSettings, Settings
from tests.support.settings import ALICE


def test_the_effective_configuration_is_listed_with_sources_and_without_secrets() -> None:
    loaded: Loaded = load(
        {
            "NODE_ID": "me",
            "ADMIN_API_KEY": "hunter2",
            "READ_API_KEY": "hunter5",
            "METRICS_KEY": "hunter4",
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
    assert rows["METRICS_KEY"] == ("[redacted]", "METRICS_KEY")
    assert rows["RECEIVER_SECRET"] == ("[redacted]", "RECEIVER_SECRET")
    assert rows["RATES"] == ("USD/EUR=0.92", "RATES")
    assert rows["ROUTES"][0].endswith("g.p19=east-coast,... (21)")
    assert rows["BTP_PEER_EAST_COAST_SECRET"] == ("[redacted]", "BTP_PEER_EAST_COAST_SECRET")
    assert rows["BTP_PEER_EAST_COAST_ROUTES"][0] == "g.a,g.b"
    text = str(describe(loaded))
    assert not any(
        secret in text for secret in ("hunter2", "hunter3", "hunter4", "hunter5", "00ff")
    )


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


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://wallet:8080/x", "http://wallet:8080/x"),
        ("http://user:hunter2@wallet:8080/x", "http://[redacted]@wallet:8080/x"),
        ("http://a@b@wallet/", "http://[redacted]@wallet/"),
        ("ws://peer/btp?token=hunter2", "ws://peer/btp?[redacted]"),
        ("manual", "manual"),
    ],
)
def test_credentials_of_a_url_are_redacted(url: str, shown: str) -> None:
    assert without_credentials(url) == shown


def test_no_url_is_listed_with_its_credentials() -> None:
    rows = describe(
        load(
            {
                **ALICE,
                "LOCAL_DELIVERY_URL": "http://user:hunter2@wallet/",
                "BTP_PEER_ALICE_URL": "ws://peer/?token=hunter2",
            }
        )
    )
    assert "hunter2" not in str(rows)


@pytest.mark.parametrize(
    "rate", ["0.92", "0.123456789012345678", "12345678901", "12/13", "0.0000001"]
)
def test_a_rate_is_shown_to_its_last_digit(rate: str) -> None:
    rows = {name: value for name, value, _ in describe(load({"RATES": f"USD/EUR={rate}"}))}
    assert rows["RATES"] == f"USD/EUR={rate}"
