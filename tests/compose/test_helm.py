"""The Helm chart: what it renders is what the connector reads, and what Kubernetes takes.

Rendering needs `helm`, by the variable HELM or from PATH (.ci/helm gets it).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from connector.settings.load import load
from connector.version import __version__

ROOT: Final = Path(__file__).parents[2]
CHART: Final = ROOT / "deploy" / "helm" / "ilp-connector"
HELM: Final = os.environ.get("HELM") or shutil.which("helm")

needs_helm = pytest.mark.skipif(
    HELM is None, reason="no helm here: .ci/helm gets it, HELM names it"
)

VALUES: Final[dict[str, Any]] = {
    "nodeId": "hub",
    "ilpAddress": "g.hub",
    "secret": {"readApiKey": "read-api-key", "metricsKey": "metrics-key"},
    "settings": {"ASSET_SCALE": 9, "CREDIT_LIMIT": 1_000_000_000_000, "OTLP_SAMPLE_RATIO": 0.25},
    "peers": [
        {"id": "alice-2", "secretKey": "peer-alice", "settings": {"CREDIT_LIMIT": 12_345_678_901}},
        {"id": "bob", "secretKey": "peer-bob", "settings": {"URL": "wss://bob/btp", "ROUTES": "g.bob"}},
    ],
}  # fmt: skip
KINDS: Final[dict[str, dict[str, Any]]] = {
    "embedded": {},
    "external": {"ledger": {"kind": "external", "clusterId": 4711, "replicas": ["10.0.0.1:3001"]}},
    "single": {
        "ledger": {"kind": "single", "clusterId": "4711"},
        "btpTlsSecret": "tls",
        "service": {"btp": {"type": "LoadBalancer"}},
    },
}


def helm(tmp_path: Path, values: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    assert HELM is not None
    path = tmp_path / "values.yaml"
    path.write_text(yaml.safe_dump(values))
    return subprocess.run(
        [HELM, "template", "hub", str(CHART), "-f", str(path)],
        check=False, capture_output=True, text=True, timeout=60,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
    )  # fmt: skip


def rendered(tmp_path: Path, kind: str) -> dict[tuple[str, str], dict[str, Any]]:
    done = helm(tmp_path, VALUES | KINDS[kind])
    assert done.returncode == 0, done.stderr
    objects = [one for one in yaml.safe_load_all(done.stdout) if one]
    return {(one["kind"], one["metadata"]["name"]): one for one in objects}


def test_the_chart_is_of_this_version_and_its_server_of_that_of_the_client() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text("utf-8"))
    assert chart["appVersion"] == __version__
    values = yaml.safe_load((CHART / "values.yaml").read_text("utf-8"))
    (client,) = re.findall(r'"tigerbeetle==([\d.]+)"', (ROOT / "pyproject.toml").read_text())
    assert values["ledger"]["single"]["image"]["tag"] == client


def environment(workload: dict[str, Any], secrets: Path) -> dict[str, str]:
    """What the container is given, its secrets in a folder of the test."""
    (container,) = workload["spec"]["template"]["spec"]["containers"]
    found = {one["name"]: one["value"] for one in container["env"]}
    for name, value in found.items():
        assert isinstance(value, str), name
        if name.endswith("_FILE"):
            file = secrets / Path(value).name
            file.write_text("x" * 32 + file.name)
            found[name] = str(file)
    return found


@needs_helm
@pytest.mark.parametrize("kind", KINDS)
def test_the_node_reads_what_it_was_given(tmp_path: Path, kind: str) -> None:
    objects = rendered(tmp_path, kind)
    variables = environment(objects["StatefulSet", "hub"], tmp_path)
    variables.pop("BTP_TLS_CERT", None), variables.pop("BTP_TLS_KEY", None)
    settings = load(variables).settings
    assert (settings.node_id, settings.ilp_address) == ("hub", "g.hub")
    assert settings.credit_limit == 1_000_000_000_000, "not 1e+12"
    assert settings.otlp_sample_ratio == 0.25
    peers = {peer.id: peer for peer in settings.peers}
    assert peers["alice-2"].credit_limit == 12_345_678_901
    assert peers["bob"].url == "wss://bob/btp"
    assert (settings.tigerbeetle_cluster_id is None) == (kind == "embedded")
    if kind == "single":
        assert variables["TIGERBEETLE_REPLICAS"] == "hub-tigerbeetle:3000"
        assert ("Service", "hub-tigerbeetle") in objects


@needs_helm
@pytest.mark.parametrize("kind", KINDS)
def test_a_pod_may_do_no_more_than_a_container_of_compose(tmp_path: Path, kind: str) -> None:
    objects = rendered(tmp_path, kind)
    for (what, _), workload in objects.items():
        if what != "StatefulSet":
            continue
        assert workload["spec"]["replicas"] == 1, "one process of a node"
        pod = workload["spec"]["template"]["spec"]
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsUser"] == 1000
        profile = pod["securityContext"]["seccompProfile"]["type"]
        assert profile == ("RuntimeDefault" if kind == "embedded" else "Localhost")
        for container in pod["containers"]:
            security = container["securityContext"]
            assert security["readOnlyRootFilesystem"] is True
            assert security["allowPrivilegeEscalation"] is False
            assert security["capabilities"] == {"drop": ["ALL"]}
            assert container["resources"]["limits"]["memory"]
    policies = {name for what, name in objects if what == "NetworkPolicy"}
    assert policies == ({"hub", "hub-tigerbeetle"} if kind == "single" else {"hub"})


@needs_helm
@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"ledger": {"kind": "external", "clusterId": "7"}}, "ledger.replicas"),
        ({"ledger": {"kind": "single"}}, "ledger.clusterId"),
        ({"ledger": {"kind": "single", "clusterId": "0"}}, "ledger.clusterId"),
        ({"ledger": {"kind": "other"}}, "embedded, external or single"),
        ({"settings": {"CREDIT_LIMIT": 1 << 60}}, "write it in quotes"),
        ({"secret": {"adminApiKey": ""}}, "secret.adminApiKey"),
    ],
)
def test_what_is_missing_or_not_exact_is_said(
    tmp_path: Path, values: dict[str, Any], said: str
) -> None:
    refused = helm(tmp_path, values)
    assert refused.returncode != 0
    assert said in refused.stderr


@needs_helm
@pytest.mark.parametrize("kind", KINDS)
def test_kubernetes_takes_it(tmp_path: Path, kind: str) -> None:
    schema = pytest.importorskip("kubernetes_validate", reason="no kubernetes-validate here")
    for one in rendered(tmp_path, kind).values():
        schema.validate(one, "1.31", strict=True)
