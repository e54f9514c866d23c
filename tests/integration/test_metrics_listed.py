"""What a running node tells Prometheus is in the reference, with kind and labels."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families

from connector import Connector, PeerSettings, Settings

ROOT = Path(__file__).parents[2]
_ROW = re.compile(r"^\| `(\w+)` \| (\w+) \| ([^|]*) \| ([^|]+) \|$", re.MULTILINE)


async def test_every_metric_of_a_node_is_in_the_reference(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "reference" / "metrics.md").read_text("utf-8")
    listed = {name: (kind, labels) for name, kind, labels, _ in _ROW.findall(page)}
    settings = Settings(
        node_id="hub", ilp_address="g.hub", data_dir=tmp_path / "data", btp_server_port=0, http_port=0,
        pay_port=0, wallets=["shop"], pay_webhook_url="http://127.0.0.1:9/",
        peers=[PeerSettings(id="bob", secret="long-and-random-of-bob", routes=["g.bob"])],
    )  # fmt: skip
    async with Connector(settings) as node:
        await node.send("g.bob", 1000)
        async with httpx.AsyncClient() as client:
            text = (await client.get(f"http://127.0.0.1:{node.http_port}/metrics")).text
    checked = 0
    for family in text_string_to_metric_families(text):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        assert name in listed, f"{name}: run python scripts/telemetry_reference.py"
        kind, labels = listed[name]
        assert kind == family.type, name
        used = {label for sample in family.samples for label in sample.labels} - {"le"}
        assert used <= set(re.findall(r"`(\w+)`", labels)), name
        checked += 1
    assert checked > 30
