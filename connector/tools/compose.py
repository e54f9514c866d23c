"""Writes compose files: connectors in a line, a ring, a mesh or around a hub, for any number of them.

    python -m connector compose --topology ring --nodes 10 > docker-compose.ring.yml

Routes are static and shortest; where two ways are equally short, the neighbour that stands first in
the list wins, on every node alike. docker-compose.yml and two files under docker/ are made here too
(scripts/compose_files.py), so that what a user generates is what the tests run.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import combinations, pairwise
from typing import Any, Final

import yaml

from connector.tools import bounds

SENDER: Final = "sender"
NETWORK: Final = "ilp-network"
TIGERBEETLE_IMAGE: Final = "ilp-connector-tigerbeetle:0.17.9"
# Its client accepts IP addresses only, so the server has a fixed one.
SUBNET_TIGERBEETLE: Final = "172.30.6"


class Topology(StrEnum):
    """How nodes are linked."""

    LINE = "line"
    RING = "ring"
    MESH = "mesh"
    HUB = "hub"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The parameters of a compose file."""

    topology: Topology
    names: Sequence[str]
    """Of the nodes, and of their services; the first is the hub, or where a line begins."""
    secret: Callable[[str], str]
    """The secret of that name: `admin`, `sender`, or a link's, `a-b`."""
    image: str = "ilp-connector:local"
    project: str = "."
    """Folder of this project, seen from the file: there the image is built."""
    tigerbeetle: bool = False
    """Accounts in one TigerBeetle, not in embedded ledgers."""
    subnet: str | None = None
    """First three numbers of the network; None: Docker chooses, or SUBNET_TIGERBEETLE."""
    btp_port: int = 3000
    """Of the first node, on the host; the others follow."""
    http_port: int = 8080
    """Of the first node, on the host; the others follow."""
    links: list[tuple[str, str]] = field(init=False)
    """Pairs; the second dials the first."""

    def __post_init__(self) -> None:
        """Check the parameters.

        Raises:
            ValueError: no file can be made of them; the message says what to change.
        """
        count = len(self.names)
        check_count(self.topology, count)
        if self.tigerbeetle and count > bounds.COMPOSE_NODES_TIGERBEETLE_MAX:
            raise ValueError(
                f"a TigerBeetle cluster keeps 64 sessions, and each node takes one: at most "
                f"{bounds.COMPOSE_NODES_TIGERBEETLE_MAX} nodes"
            )
        for name, first in (("BTP", self.btp_port), ("HTTP", self.http_port)):
            if not 0 < first <= 65_536 - count:
                raise ValueError(f"{name} ports from {first} on: {count} of them do not fit")
        ours = range(self.btp_port, self.btp_port + count)
        if self.http_port in ours or self.btp_port in range(self.http_port, self.http_port + count):
            raise ValueError(
                f"the {count} BTP ports from {self.btp_port} and HTTP ports from {self.http_port} "
                "overlap: choose them further apart"
            )
        object.__setattr__(self, "links", links(self.topology, self.names))


def check_count(topology: Topology, count: int) -> None:
    """Check the number of nodes.

    Raises:
        ValueError: there cannot be so many, or so few.
    """
    smallest = 3 if topology is Topology.RING else 2
    if not smallest <= count <= bounds.COMPOSE_NODES_MAX:
        raise ValueError(
            f"a {topology} has {smallest} to {bounds.COMPOSE_NODES_MAX} nodes, not {count}"
        )


def default_names(topology: Topology, count: int) -> list[str]:
    """`node1`, `node2`, ...; `connector-hub`, `spoke-1`, ..."""
    if topology is Topology.HUB:
        return ["connector-hub", *(f"spoke-{number}" for number in range(1, count))]
    return [f"node{number}" for number in range(1, count + 1)]


def describe(plan: Plan, command: str) -> str:
    """The comment at the head of a file: what it is, and how to use it."""
    drawn = {
        Topology.LINE: " - ".join(plan.names),
        Topology.RING: " - ".join([*plan.names, plan.names[0]]),
        Topology.MESH: f"each of {', '.join(plan.names)} linked to every other",
        Topology.HUB: f"{plan.names[0]} in the middle of {', '.join(plan.names[1:])}",
    }[plan.topology]
    # Across the hub, not just to it.
    begin = (
        plan.names[1] if plan.topology is Topology.HUB and len(plan.names) > 2 else plan.names[0]
    )
    last_btp, last_http = (first + len(plan.names) - 1 for first in (plan.btp_port, plan.http_port))
    books = (
        "all accounts in one TigerBeetle" if plan.tigerbeetle else "each with a ledger of its own"
    )
    return f"""\
{len(plan.names)} connectors, {books}: {drawn}.
Addresses are g.<name>. On the host, on loopback only: BTP from port {plan.btp_port} to {last_btp}, HTTP from {plan.http_port} to {last_http}.

  {command} up -d --build
  {command} exec {begin} \\
    sh -c 'ilp-connector send --url ws://127.0.0.1:3000 --auth "sender:$BTP_PEER_SENDER_SECRET" --destination g.{plan.names[-1]}'
  {command} exec {begin} \\
    sh -c 'ilp-connector balances --key "$ADMIN_API_KEY"'
  {command} down          (with -v: the books too)
"""


def links(topology: Topology, names: Sequence[str]) -> list[tuple[str, str]]:
    """Which nodes are linked; the second of a pair dials the first."""
    match topology:
        case Topology.LINE:
            return list(pairwise(names))
        case Topology.RING:
            return [*pairwise(names), (names[0], names[-1])]
        case Topology.MESH:
            return list(combinations(names, 2))
        case Topology.HUB:
            return [(names[0], spoke) for spoke in names[1:]]


def next_hops(
    names: Sequence[str], linked: Sequence[tuple[str, str]]
) -> tuple[dict[str, dict[str, str]], int]:
    """For every node the neighbour towards each other node; and the longest way, in hops."""
    neighbours: dict[str, list[str]] = {name: [] for name in names}
    for one, other in linked:
        neighbours[one].append(other)
        neighbours[other].append(one)
    order = {name: index for index, name in enumerate(names)}
    hops: dict[str, dict[str, str]] = {}
    longest = 0
    for start in names:
        # Breadth first from `start`; each node is reached through the neighbour its way began with.
        first: dict[str, str] = {}
        distance = {start: 0}
        waiting = deque([start])
        while waiting:
            here = waiting.popleft()
            for there in sorted(neighbours[here], key=order.__getitem__):
                if there not in distance:
                    distance[there] = distance[here] + 1
                    first[there] = first.get(here, there)
                    waiting.append(there)
        assert len(distance) == len(names), "every topology is connected"
        hops[start] = {name: first[name] for name in names if name != start}
        longest = max(longest, *distance.values())
    return hops, longest


def window_ms(hops: int) -> int:
    """By how much each hop may shorten the expiry where the longest way has so many."""
    return min(bounds.COMPOSE_WINDOW_MS_MAX, bounds.COMPOSE_WINDOWS_MS_MAX // hops)


def compose_file(plan: Plan, header: str) -> str:
    """The file, as text, with `header` as its first comment."""
    hops, longest = next_hops(plan.names, plan.links)
    common = _common(plan, window=window_ms(longest))
    services: dict[str, Any] = {}
    if plan.tigerbeetle:
        services["tigerbeetle"] = _tigerbeetle(plan)
    for index, name in enumerate(plan.names):
        services[name] = _node(plan, index, name, hops[name], common)
    content: dict[str, Any] = {"services": services, "networks": {NETWORK: _network(plan)}}
    content["volumes"] = dict.fromkeys(f"{name}-data" for name in services)
    header = "".join(f"# {line}".rstrip() + "\n" for line in header.splitlines())
    return header + yaml.dump(content, Dumper=_Dumper, sort_keys=False, width=110)


def _common(plan: Plan, *, window: int) -> dict[str, str]:
    common = {
        "BTP_SERVER_HOST": "0.0.0.0",  # noqa: S104 - inside a container
        "BTP_SERVER_PORT": "3000",
        "HTTP_HOST": "0.0.0.0",  # noqa: S104
        "HTTP_PORT": "8080",
        "ADMIN_API_KEY": plan.secret("admin"),
        "LOG_LEVEL": "${LOG_LEVEL:-info}",
        "LOG_FORMAT": "json",
        "CREDIT_LIMIT": "1000000000000",
    }
    if window < bounds.COMPOSE_WINDOW_MS_MAX:
        common["MESSAGE_WINDOW_MS"] = str(window)
    if plan.tigerbeetle:
        common |= {"TIGERBEETLE_CLUSTER_ID": "0", "TIGERBEETLE_REPLICAS": "tigerbeetle:3000"}
    return common


def _node(
    plan: Plan, index: int, name: str, hops: Mapping[str, str], common: Mapping[str, str]
) -> dict[str, Any]:
    environment = {**common, "NODE_ID": name, "ILP_ADDRESS": f"g.{name}"}
    environment[f"BTP_PEER_{SENDER.upper()}_SECRET"] = plan.secret(SENDER)
    for accepts, dials in plan.links:
        if name not in (accepts, dials):
            continue
        peer = dials if name == accepts else accepts
        variable = f"BTP_PEER_{peer.upper().replace('-', '_')}"
        environment[f"{variable}_SECRET"] = plan.secret(f"{accepts}-{dials}")
        if name == dials:
            environment[f"{variable}_URL"] = f"ws://{peer}:3000"
    environment["ROUTES"] = ",".join(f"g.{other}={hop}" for other, hop in hops.items())
    service: dict[str, Any] = {"container_name": name, "image": plan.image}
    if index == 0:
        # On one service only: the others use the image that it leaves. BASE_IMAGE of the environment
        # is handed on where it is set.
        service["build"] = {"context": plan.project, "args": ["BASE_IMAGE"]}
    if plan.tigerbeetle:
        service["depends_on"] = {"tigerbeetle": {"condition": "service_healthy"}}
    return service | {
        "restart": "unless-stopped",
        "stop_grace_period": "15s",
        "read_only": True,
        "tmpfs": ["/tmp"],  # noqa: S108 - inside the container
        "cap_drop": ["ALL"],
        "security_opt": _security(plan, io_uring=plan.tigerbeetle),
        "mem_limit": "512m",
        "pids_limit": 256,
        "environment": environment,
        "ports": [
            f"127.0.0.1:{plan.btp_port + index}:3000",
            f"127.0.0.1:{plan.http_port + index}:8080",
        ],
        "volumes": [f"{name}-data:/data"],
        "networks": [NETWORK],
        "healthcheck": _healthcheck(["ilp-connector", "healthcheck"], "4s", "60s"),
        "logging": _logging(),
    }


def _tigerbeetle(plan: Plan) -> dict[str, Any]:
    return {
        "container_name": "tigerbeetle",
        "image": TIGERBEETLE_IMAGE,
        "build": {
            "context": f"{plan.project}/docker/tigerbeetle",
            "args": ["TIGERBEETLE_IMAGE"],
        },
        "restart": "unless-stopped",
        "stop_grace_period": "15s",
        "read_only": True,
        "cap_drop": ["ALL"],
        "security_opt": _security(plan, io_uring=True),
        "mem_limit": "3g",
        "pids_limit": 128,
        "environment": {
            "TIGERBEETLE_CLUSTER_ID": "0",
            "TIGERBEETLE_REPLICA_ID": "0",
            "TIGERBEETLE_REPLICA_COUNT": "1",
            "TIGERBEETLE_PORT": "3000",
            "TIGERBEETLE_CACHE_GRID": "256MiB",
        },
        "volumes": ["tigerbeetle-data:/data"],
        "networks": {NETWORK: {"ipv4_address": f"{_subnet(plan)}.10"}},
        "healthcheck": _healthcheck(["/entrypoint.sh", "healthcheck"], "2s", "30s"),
        "logging": _logging(),
    }


def _security(plan: Plan, *, io_uring: bool) -> list[str]:
    options = ["no-new-privileges:true"]
    if io_uring:
        options.append(f"seccomp={plan.project}/docker/tigerbeetle/seccomp.json")
    return options


def _healthcheck(command: list[str], interval: str, start_period: str) -> dict[str, Any]:
    return {
        "test": ["CMD", *command],
        "interval": interval,
        "timeout": "10s",
        "retries": 5,
        "start_period": start_period,
    }


def _logging() -> dict[str, Any]:
    return {"driver": "json-file", "options": {"max-size": "10m", "max-file": "5"}}


def _network(plan: Plan) -> dict[str, Any]:
    network: dict[str, Any] = {"driver": "bridge"}
    subnet = _subnet(plan)
    if subnet is not None:
        network["ipam"] = {"config": [{"subnet": f"{subnet}.0/24"}]}
    return network


def _subnet(plan: Plan) -> str | None:
    return plan.subnet or (SUBNET_TIGERBEETLE if plan.tigerbeetle else None)


class _Dumper(yaml.SafeDumper):
    """Lists indented, nothing as nothing, and no aliases: every service reads whole."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


_Dumper.add_representer(
    type(None), lambda dumper, _: dumper.represent_scalar("tag:yaml.org,2002:null", "")
)
