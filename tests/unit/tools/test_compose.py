"""The generator of compose files."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import Any

import pytest
import yaml

from connector.settings.load import load
from connector.settings.model import Settings
from connector.tools import bounds as tools_bounds
from connector.tools.compose import (
    Plan,
    Topology,
    compose_file,
    default_names,
    describe,
    links,
    next_hops,
    window_ms,
)

ROOT = Path(__file__).parents[3]


def plan(topology: Topology, count: int, **options: Any) -> Plan:
    return Plan(
        topology=topology,
        names=default_names(topology, count),
        secret=lambda name: f"long-and-random-{name}",
        **options,
    )


def services(one: Plan) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(compose_file(one, "head"))["services"]
    return found


def settings_of(service: dict[str, Any]) -> Settings:
    # As compose does: only LOG_LEVEL is filled in.
    return load(
        {
            key: value.replace("${LOG_LEVEL:-info}", "info")
            for key, value in service["environment"].items()
        }
    ).settings


@pytest.mark.long
@pytest.mark.parametrize("topology", Topology)
@pytest.mark.parametrize("count", [3, 4, 10])
@pytest.mark.parametrize("tigerbeetle", [False, True])
def test_every_node_has_a_configuration_that_the_connector_takes(
    topology: Topology, count: int, tigerbeetle: bool
) -> None:
    found = services(plan(topology, count, tigerbeetle=tigerbeetle))
    assert ("tigerbeetle" in found) is tigerbeetle
    for name, service in found.items():
        if name != "tigerbeetle":
            settings = settings_of(service)
            assert settings.node_id == name
            assert (settings.tigerbeetle_replicas == "tigerbeetle:3000") is tigerbeetle


@pytest.mark.long
@pytest.mark.parametrize("topology", Topology)
@pytest.mark.parametrize("count", [3, 4, 7, 10])
def test_packets_from_every_node_reach_every_other_by_routes_alone(
    topology: Topology, count: int
) -> None:
    found = services(plan(topology, count))
    routes = {
        name: dict(route.split("=") for route in service["environment"]["ROUTES"].split(","))
        for name, service in found.items()
    }
    for start in found:
        for end in found:
            here, hops = start, 0
            while here != end:
                here = routes[here][f"g.{end}"]
                hops += 1
                assert hops < count, f"packets from {start} to {end} go round in circles"


@pytest.mark.parametrize("topology", Topology)
def test_both_ends_of_a_link_share_a_secret_and_one_dials(topology: Topology) -> None:
    one = plan(topology, 5)
    nodes = {name: settings_of(service) for name, service in services(one).items()}
    for accepts, dials in links(topology, one.names):
        theirs = next(peer for peer in nodes[accepts].peers if peer.id == dials)
        ours = next(peer for peer in nodes[dials].peers if peer.id == accepts)
        assert theirs.secret == ours.secret
        assert (theirs.url, ours.url) == (None, f"ws://{accepts}:3000")
    secrets = {peer.secret.get_secret_value() for node in nodes.values() for peer in node.peers}
    assert len(secrets) == len(one.links) + 1, "each link has its own, and the sender one"


def test_the_number_of_links() -> None:
    counts = {topology: len(links(topology, default_names(topology, 6))) for topology in Topology}
    assert counts == {"line": 5, "ring": 6, "mesh": 15, "hub": 5}


def test_routes_are_the_shortest() -> None:
    names = default_names(Topology.RING, 10)
    hops, longest = next_hops(names, links(Topology.RING, names))
    assert longest == 5
    assert hops["node1"]["node10"] == "node10"
    assert hops["node1"]["node6"] == "node2", "of two ways the one through the first neighbour"


def test_the_longest_line_leaves_packets_time_to_arrive() -> None:
    assert 0 < window_ms(tools_bounds.COMPOSE_NODES_MAX) * tools_bounds.COMPOSE_NODES_MAX < 30_000
    window = services(plan(Topology.LINE, 31))["node1"]["environment"]["MESSAGE_WINDOW_MS"]
    assert window == str(window_ms(30)) == "500"


@pytest.mark.parametrize(
    ("topology", "count", "options", "said"),
    [
        (Topology.LINE, 1, {}, "has 2 to 200 nodes, not 1"),
        (Topology.RING, 2, {}, "has 3 to 200 nodes, not 2"),
        (Topology.MESH, tools_bounds.COMPOSE_NODES_MAX + 1, {}, "not 201"),
        (
            Topology.HUB,
            tools_bounds.COMPOSE_NODES_TIGERBEETLE_MAX + 1,
            {"tigerbeetle": True},
            "64 sessions",
        ),
        (Topology.LINE, 3, {"btp_port": 65_534}, "do not fit"),
        (Topology.LINE, 3, {"http_port": 0}, "do not fit"),
        (Topology.LINE, 10, {"btp_port": 8075}, "overlap"),
        (Topology.LINE, 10, {"btp_port": 8085}, "overlap"),
    ],
)
def test_what_cannot_be_built_is_refused(
    topology: Topology, count: int, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        plan(topology, count, **options)


@pytest.mark.parametrize(
    ("topology", "count", "options"),
    [
        (Topology.LINE, 2, {}),
        (Topology.RING, 3, {}),
        (Topology.LINE, 3, {"btp_port": 65_533}),
        (Topology.LINE, 10, {"btp_port": 8070}),
        (Topology.HUB, tools_bounds.COMPOSE_NODES_TIGERBEETLE_MAX, {"tigerbeetle": True}),
    ],
)
def test_what_can_just_be_built(topology: Topology, count: int, options: dict[str, Any]) -> None:
    assert len(plan(topology, count, **options).names) == count


def test_only_loopback_ports_are_published() -> None:
    for service in services(plan(Topology.MESH, 4, tigerbeetle=True)).values():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))


def test_the_head_says_how_to_use_it() -> None:
    one = plan(Topology.HUB, 4)
    text = compose_file(one, describe(one, "docker compose -f x.yml"))
    head = "".join(line for line in text.splitlines(keepends=True) if line.startswith("#"))
    assert "docker compose -f x.yml exec spoke-1" in head
    assert "--destination g.spoke-3" in head


def test_containers_are_called_as_their_services() -> None:
    for name, service in services(plan(Topology.HUB, 4, tigerbeetle=True)).items():
        assert service["container_name"] == name


@pytest.mark.parametrize("tigerbeetle", [False, True])
def test_a_subnet_that_is_asked_for_is_used(tigerbeetle: bool) -> None:
    one = plan(Topology.LINE, 2, subnet="10.1.2", tigerbeetle=tigerbeetle)
    content = yaml.safe_load(compose_file(one, ""))
    assert content["networks"]["ilp-network"]["ipam"] == {"config": [{"subnet": "10.1.2.0/24"}]}


def test_without_one_docker_chooses_unless_tigerbeetle_has_an_address() -> None:
    content = yaml.safe_load(compose_file(plan(Topology.LINE, 2), ""))
    assert content["networks"]["ilp-network"] == {"driver": "bridge"}
    content = yaml.safe_load(compose_file(plan(Topology.LINE, 2, tigerbeetle=True), ""))
    (pool,) = content["networks"]["ilp-network"]["ipam"]["config"]
    address = content["services"]["tigerbeetle"]["networks"]["ilp-network"]["ipv4_address"]
    assert address == pool["subnet"].replace(".0/24", ".10")


def test_the_files_of_the_repository_are_up_to_date() -> None:
    files = runpy.run_path(str(ROOT / "scripts" / "compose_files.py"))["files"]()
    for path, text in files.items():
        assert (ROOT / path).read_text("utf-8") == text, "run: python scripts/compose_files.py"
