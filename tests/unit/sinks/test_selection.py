"""Names of events in settings; what is wrong with settings of sinks; texts that PostgreSQL takes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector.base.errors import ConfigError
from connector.node.preflight import check
from connector.settings.describe import describe
from connector.settings.load import load
from connector.settings.model import Settings
from connector.sinks import sinks as sinks_module
from connector.sinks.postgres import as_jsonb, table_statement
from connector.sinks.selection import CALM, chosen_types
from connector.sinks.sinks import make_sinks, sink_faults
from tests.support.daemons import CLOCK, EventLog
from tests.support.settings import fault

WEBHOOK = {
    "SINK_WEBHOOK_URL": "https://x.example/h",
    "SINK_WEBHOOK_SECRET": "0123456789abcdef",
}


def test_groups_and_types_may_be_named() -> None:
    assert chosen_types([]) is None
    assert chosen_types(["settlement", "all"]) is None
    assert chosen_types(["link", "PACKET_REJECTED"]) == (
        "PEER_CONNECTED",
        "PEER_DISCONNECTED",
        "PACKET_REJECTED",
    )
    assert chosen_types(["ALERT"]) == ("ALERT",)
    assert "ROUTING_LOOP" in (chosen_types(["alert"]) or ())
    assert "PACKET_RECEIVED" not in CALM
    with pytest.raises(KeyError):
        chosen_types(["packets"])


def test_what_is_wrong_is_said_with_the_setting(tmp_path: Path) -> None:
    settings = load(
        {**WEBHOOK, "DATA_DIR": str(tmp_path), "SINK_WEBHOOK_EVENTS": "link,settlemnt"}
    ).settings
    with pytest.raises(ConfigError, match="SINK_WEBHOOK_EVENTS: 'settlemnt'"):
        check(settings)


def test_a_library_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sinks_module.importlib.util, "find_spec", lambda _name: None)
    settings = load(
        {"SINK_NATS_URL": "nats://127.0.0.1", "SINK_POSTGRES_URL": "postgres://h/d"}
    ).settings
    assert sink_faults(settings) == [
        "SINK_NATS_URL needs the library nats-py: pip install 'ilp-connector[nats]'",
        "SINK_POSTGRES_URL needs the library asyncpg: pip install 'ilp-connector[postgres]'",
    ]


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"SINK_WEBHOOK_URL": "https://x.example/h"}, "needs SINK_WEBHOOK_SECRET"),
        ({**WEBHOOK, "SINK_WEBHOOK_SECRET": "short"}, "less than 16 characters"),
        ({"SINK_WEBHOOK_SECRET": "0123456789abcdef"}, "needs SINK_WEBHOOK_URL"),
        ({"SINK_NATS_URL": "http://hunter2@h"}, "SINK_NATS_URL must be a URL such as"),
        ({"SINK_NATS_URL": "nats://a:1,hunter2"}, "SINK_NATS_URL must be a URL such as"),
        ({"SINK_POSTGRES_URL": "mysql://u:hunter2@h"}, "SINK_POSTGRES_URL must be a URL such as"),
        ({"SINK_POSTGRES_TABLE": "events; DROP TABLE x"}, "SINK_POSTGRES_TABLE"),
        ({"SINK_NATS_SUBJECT": "a.>"}, "SINK_NATS_SUBJECT"),
        ({**WEBHOOK, "EXPLORER_MAX_EVENTS": "0"}, "needs the event store"),
        ({"SINK_WEBHOOK_SECRETS": "x"}, "SINK_WEBHOOK_SECRETS is not a setting"),
    ],
)
def test_settings_that_cannot_be(variables: dict[str, str], said: str) -> None:
    found = fault(**variables)
    assert said in found
    assert "hunter2" not in found


def test_urls_with_credentials_are_secrets(tmp_path: Path) -> None:
    path = tmp_path / "url"
    path.write_text("postgresql://u:hunter2@db.example/events\n")
    loaded = load(
        {"SINK_NATS_URL": "nats://u:hunter2@n.example:4222", "SINK_POSTGRES_URL_FILE": str(path)}
    )
    assert "hunter2" not in str(describe(loaded))
    assert "hunter2" not in repr(loaded.settings)
    places = [sink.place for sink, _ in make_sinks(loaded.settings, CLOCK, EventLog())]
    assert places == ["nats://n.example:4222", "db.example/events ilp_events"]


def test_by_default_a_webhook_gets_no_packets_and_the_others_everything() -> None:
    settings = load(
        {**WEBHOOK, "SINK_NATS_URL": "nats://h", "SINK_POSTGRES_URL": "postgres://h/d"}
    ).settings
    types = {sink.name: types for sink, types in make_sinks(settings, CLOCK, EventLog())}
    assert types == {"webhook": CALM, "nats": None, "postgres": None}
    assert make_sinks(Settings(), CLOCK, EventLog()) == []


def test_the_statement_names_the_table_and_an_index_in_its_schema() -> None:
    statement = table_statement("audit.ilp")
    assert "CREATE TABLE IF NOT EXISTS audit.ilp (" in statement
    assert "INDEX IF NOT EXISTS ilp_at ON audit.ilp (at)" in statement


@given(
    st.dictionaries(st.text(max_size=5), st.text(st.characters(exclude_categories=()), max_size=9))
)
def test_any_json_becomes_text_that_postgres_takes(value: dict[str, str]) -> None:
    text = as_jsonb(json.dumps(value))
    text.encode()
    assert "\\u0000" not in text.replace("\\\\", "")
    found = json.loads(text)
    clean = all(
        "\0" not in one and not any("\ud800" <= c <= "\udfff" for c in one)
        for pair in found.items()
        for one in pair
    )
    assert clean
