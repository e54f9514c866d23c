"""docker/monitoring: dashboard and alert rules use only metrics that a real node exports."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import promql_parser
import pytest
import pytest_asyncio
import yaml
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from connector import Fulfill, Reject
from tests.support.daemons import RunningNodes

FOLDER = Path(__file__).parents[2] / "docker" / "monitoring"
ADDED = {"node", "job", "instance"}
"""Labels that Prometheus itself puts on what it reads."""
SUFFIXES = {
    "counter": ("_total",),
    "gauge": ("",),
    "histogram": ("_bucket", "_sum", "_count"),
}
VARIABLES = {"$__rate_interval": "5m", "$node": ".*", "$peer": ".*"}


def dashboards() -> dict[str, Any]:
    return {
        path.name: json.loads(path.read_text())
        for path in sorted((FOLDER / "grafana" / "dashboards").glob("*.json"))
    }


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def expressions() -> Iterator[tuple[str, str]]:
    """Where it stands, and the expression with Grafana's variables filled in."""
    for name, dashboard in dashboards().items():
        for panel in dashboard["panels"]:
            for target in panel.get("targets", ()):
                text = target["expr"]
                for variable, value in VARIABLES.items():
                    text = text.replace(variable, value)
                assert "$" not in text, text
                yield f"{name}: {panel['title']}", text
    for rule in rules():
        yield f"alerts.yml: {rule['alert']}", rule["expr"]


def parts(text: str) -> list[Any]:
    """All parts of an expression."""
    found: list[Any] = []
    promql_parser.walk(promql_parser.parse(text), found.append)
    return found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Metric]:
    """What a node tells after packets of all kinds, by the names that are asked for."""
    async with RunningNodes(tmp_path_factory.mktemp("told")) as network:
        _, b, _ = await network.chain("a", "b", "c", node={"b": {"pay_port": 0}})
        a = network.daemons["a"].connector
        assert isinstance(await a.send("g.c", 100), Fulfill)
        assert isinstance(await a.send("g.b.nobody", 100, fulfillment=bytes(32)), Reject)
        async with httpx.AsyncClient(trust_env=False, verify=False) as client:
            answer = await client.get(f"http://127.0.0.1:{b.connector.http_port}/metrics")
    assert answer.status_code == 200
    families = text_string_to_metric_families(answer.text)
    return {family.name + suffix: family for family in families for suffix in SUFFIXES[family.type]}


async def test_every_expression_asks_for_metrics_and_labels_that_exist(
    told: dict[str, Metric],
) -> None:
    asked: set[str] = set()
    for where, text in expressions():
        for part in parts(text):
            selector = getattr(part, "vector_selector", part)
            if not isinstance(selector, promql_parser.VectorSelector) or selector.name == "up":
                continue
            asked.add(selector.name)
            assert selector.name in told, f"{where}: there is no metric {selector.name}"
            samples = [one for one in told[selector.name].samples if one.name == selector.name]
            for matcher in selector.matchers.matchers:
                if matcher.name in ADDED or not samples:
                    continue
                values = {sample.labels.get(matcher.name) for sample in samples}
                assert values != {None}, f"{where}: {selector.name} has no label {matcher.name}"
                if matcher.op == promql_parser.MatchOp.Equal:
                    assert matcher.value in values, f"{where}: no {matcher.name}={matcher.value!r}"
    assert {"ilp_packets_total", "ilp_account_balance", "ledger_available"} <= asked


async def test_what_is_grouped_by_exists_too(told: dict[str, Metric]) -> None:
    for where, text in expressions():
        for part in parts(text):
            if not isinstance(part, promql_parser.AggregateExpr) or part.modifier is None:
                continue
            names = {
                selector.name
                for inner in parts(part.prettify())
                if isinstance(
                    selector := getattr(inner, "vector_selector", inner),
                    promql_parser.VectorSelector,
                )
            }
            labels = {
                label for name in names for sample in told[name].samples for label in sample.labels
            } | ADDED
            known = all(told[name].samples for name in names)
            assert not known or set(part.modifier.labels) <= labels, where


def test_prometheus_shows_the_key_that_the_compose_file_writes() -> None:
    for name, path in (
        ("prometheus-5-peer.yml", "docker-compose-5-peer-multihop.yml"),
        ("prometheus-production.yml", "docker/docker-compose.production.yml"),
    ):
        job = yaml.safe_load((FOLDER / name).read_text())["scrape_configs"][0]
        file = job["authorization"]["credentials_file"]
        services = yaml.safe_load((FOLDER.parents[1] / path).read_text())["services"]
        prometheus = services["prometheus"]
        (command,) = prometheus["command"]
        assert f'printf %s "$$METRICS_KEY" >{file}\n' in command
        assert Path(file).parent == Path(prometheus["tmpfs"][0])
        key = prometheus["environment"]["METRICS_KEY"]
        nodes = [one["environment"] for one in services.values() if "build" in one]
        assert [env["METRICS_KEY"] for env in nodes if "NODE_ID" in env] == [key]


def test_every_alert_says_what_it_is_and_how_bad() -> None:
    names = [rule["alert"] for rule in rules()]
    assert len(names) == len(set(names)) > 5
    for rule in rules():
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert rule["annotations"]["summary"]
        assert rule["annotations"]["description"]


def test_the_dashboard_can_be_provisioned() -> None:
    (source,) = yaml.safe_load(
        (FOLDER / "grafana/provisioning/datasources/prometheus.yml").read_text()
    )["datasources"]
    found = dashboards()
    assert "connector.json" in found
    for dashboard in found.values():
        assert dashboard["uid"]
        ids = [panel["id"] for panel in dashboard["panels"]]
        assert len(ids) == len(set(ids))
        taken: set[tuple[int, int]] = set()
        for panel in dashboard["panels"]:
            at = panel["gridPos"]
            cells = {
                (x, y)
                for x in range(at["x"], at["x"] + at["w"])
                for y in range(at["y"], at["y"] + at["h"])
            }
            assert not cells & taken, f"{panel['title']} lies over another panel"
            assert at["x"] + at["w"] <= 24
            taken |= cells
            if panel["type"] != "row":
                assert panel["datasource"]["uid"] == source["uid"]


def test_rules_of_the_host_ask_for_what_the_script_writes() -> None:
    script = (FOLDER.parents[1] / "scripts" / "docker-metrics.sh").read_text()
    written = {
        name: set(re.findall(r"(\w+)=", labels or ""))
        for name, labels in re.findall(r"printf '(ilp_\w+)(?:\{(.*?)\})? %s", script)
    }
    assert set(re.findall(r"gauge (ilp_\w+) ", script)) == set(written), "each has its help"
    groups = yaml.safe_load((FOLDER / "alerts-host.yml").read_text())["groups"]
    for rule in (rule for group in groups for rule in group["rules"]):
        asked = [
            part for part in parts(rule["expr"]) if isinstance(part, promql_parser.VectorSelector)
        ]
        assert asked, rule["alert"]
        assert {one.name for one in asked} <= set(written), rule["alert"]
        of_summary = set(re.findall(r"\$labels\.(\w+)", str(rule["annotations"])))
        assert of_summary <= set.union(*(written[one.name] for one in asked)), rule["alert"]
