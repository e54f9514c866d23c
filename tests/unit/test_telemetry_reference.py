"""The references of metrics and log events are those of the sources."""

from __future__ import annotations

import runpy
from pathlib import Path

ROOT = Path(__file__).parents[2]
SCRIPT = runpy.run_path(str(ROOT / "scripts" / "telemetry_reference.py"))


def test_the_pages_are_made_from_the_sources() -> None:
    for path, text in SCRIPT["pages"]().items():
        assert path.exists(), "run: python scripts/telemetry_reference.py"
        assert path.read_text("utf-8") == text, "run: python scripts/telemetry_reference.py"


def test_levels_and_fields_are_found() -> None:
    found = SCRIPT["log_events"]()
    assert found["accounting_state_changed"].levels == ["info", "warning"]
    assert found["btp_dial_failed"].levels == ["warning"]
    assert found["btp_dial_failed"].fields == ["peerId", "reason"]
    assert found["ledger_behind"].fields == ["error"]
    assert found["http_failed"].levels == ["error"]
    assert "settlement_received" in found
    assert "settlement_completed" in found


def test_kinds_and_labels_are_found() -> None:
    found = SCRIPT["metrics"]()
    assert found["ilp_packets_total"][:2] == ("counter", "`peer`, `direction`, `result`, `code`")
    assert found["ilp_packet_latency_seconds"][0] == "histogram"
    assert found["ilp_packets_in_flight"][0] == "gauge"
    assert found["telemetry_dropped_total"][0] == "counter"
