"""Parts of a simulated node: settings, log, randomness, its settlement engine."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Protocol

from connector.base.errors import EngineError
from connector.settings.model import Settings
from connector.settlement.engine import Answer, Reply
from connector.settlement.model import Quantity
from connector.simulation.cluster import Cluster
from connector.simulation.disk import Disk
from connector.simulation.facts import Facts
from connector.simulation.network import Network
from connector.simulation.plan import (
    MAX_HOLD_MS,
    STREAM_PACKET_MAX,
    WALLET,
    LinkPlan,
    NodePlan,
    Plan,
)
from connector.simulation.transport import BTP_PORT, HTTP_PORT
from connector.simulation.world import ProcessLoop, World

FOLDER: Final = Path("/simulated")
_ENGINE_FAILURES_MAX: Final = 2


class Surroundings(Protocol):
    """What every part of a simulation may need of the whole."""

    @property
    def plan(self) -> Plan:
        """What the seed means."""

    @property
    def world(self) -> World:
        """Time and processes."""

    @property
    def network(self) -> Network:
        """Connections between hosts."""

    @property
    def cluster(self) -> Cluster:
        """The ledger that nodes share."""

    @property
    def disks(self) -> Mapping[str, Disk]:
        """By host."""

    def note(self, who: str, text: str, payment: int = 0) -> None:
        """Write a line into the diary."""


class Around(Surroundings, Protocol):
    """What a node needs of the simulation that it is in."""

    @property
    def nodes(self) -> Mapping[str, Any]:
        """By name."""

    @property
    def facts(self) -> Facts:
        """What the ends know, and the diary."""

    @property
    def deaths(self) -> dict[str, list[float]]:
        """By host: when its process has ended."""

    @property
    def alerts(self) -> dict[str, set[str]]:
        """By host: the events of its warnings."""

    @property
    def chance(self) -> random.Random:
        """For what is not decided by the plan."""

    def pay_outside(self, payer: str, payee: str, key: str, quantity: Quantity) -> None:
        """A settlement engine has paid another node."""

    def waits_for_operator(self, node: str, peer: str, key: str, settlement_id: str) -> None:
        """A payment that an engine has reported waits until an operator accepts or declines it."""

    def new_disk(self, host: str, name: str) -> None:
        """Give a node an empty disk."""

    def has_posted(self, node: str, condition: bytes) -> bool:
        """Whether the ledger of a node has made final what it held for a condition."""


def token_of(left: str, right: str) -> str:
    """The token that two neighbours share."""
    return "secret-of-" + "-".join(sorted((left, right)))


def settings_of(plan: Plan, node: NodePlan) -> Settings:
    """The settings of a node, as an operator would write them."""
    peers: list[dict[str, Any]] = []
    names = {one.name for one in plan.nodes}
    for link in plan.links:
        if node.name not in (link.left, link.right) or link.local:
            continue
        other = link.right if link.left == node.name else link.left
        dials = link.is_btp and (link.both_dial or (other in names and link.left == node.name))
        peers.append(
            {
                "id": other,
                "secret": token_of(node.name, other),
                "url": f"ws://{other}:{BTP_PORT}" if dials else None,
                "asset_code": link.asset.code,
                "asset_scale": link.asset.scale,
                "credit_limit": link.credit_limit,
                "routes": _routes_over(plan, node.name, other, link),
                **_exchange_with(plan, other, link),
                **_over_http(node.name, other, link),
                "max_packet_amount": STREAM_PACKET_MAX if plan.streams and other in names else None,
                "settle_threshold": plan.settle_threshold if other in names else None,
                "settlement_engine_url": "http://engine"
                if plan.settle_threshold or plan.prepaid_max
                else None,
                "max_in_flight_value": plan.in_flight_max.get((node.name, other)),
                "max_prepaid": plan.prepaid_max.get((node.name, other)),
            }
        )
    more: dict[str, Any] = {}
    if plan.hold_down_ms:
        more = {
            "route_hold_down_ms": plan.hold_down_ms,
            "route_broadcast_interval_ms": plan.hold_down_ms // 3,
        }
    if any(one.http and node.name in (one.left, one.right) for one in plan.links):
        more |= {"ilp_http_port": HTTP_PORT, "ilp_http_url": f"http://{node.name}:{HTTP_PORT}"}
    if plan.streams:
        more |= {"pay_port": 0, "wallets": [WALLET]}
    return Settings(
        node_id=node.name,
        ilp_address=f"g.{node.name}",
        data_dir=FOLDER / node.name,
        btp_server_port=BTP_PORT,
        accounting_outage_policy=node.policy,
        fulfill_when=node.fulfill_when,
        max_hold_ms=MAX_HOLD_MS,
        fee_basis_points=node.fee_basis_points,
        rates=plan.rates,
        explorer_max_events=0,
        telemetry_packets_per_second=0,
        peers=peers,
        **more,
    )


def http_url_of(host: str, poster: str) -> str:
    """Where `poster` posts packets for a host, and answers to it."""
    return f"http://{host}:{HTTP_PORT}/accounts/{poster}/ilp"


def _over_http(node: str, other: str, link: LinkPlan) -> dict[str, Any]:
    return {"http_url": http_url_of(other, node), "http_mode": link.http} if link.http else {}


def _exchange_with(plan: Plan, other: str, link: LinkPlan) -> dict[str, Any]:
    """Whether routes are exchanged with a neighbour: else the judge knows the way of each packet beforehand."""
    if link.announces:
        own = [] if link.announces == "all" else [f"g.{link.right}.{other}"]
        return {"send_routes": True, "receive_routes": True, "receive_prefixes": own}
    learns = bool(plan.hold_down_ms) and any(one.name == other for one in plan.nodes)
    return {"send_routes": learns, "receive_routes": learns, "transit": learns}


def _routes_over(plan: Plan, node: str, other: str, link: LinkPlan) -> list[str]:
    """The prefixes that are reached over a neighbour."""
    names = {one.name for one in plan.nodes}
    if link.refuses:
        return [
            prefix
            for one in plan.links
            if node in (one.left, one.right) and not (one.refuses or one.local or one.closes)
            for prefix in _routes_over(
                plan, node, one.right if one.left == node else one.left, replace(one, default_of="")
            )
        ]
    if other not in names:
        return [f"g.{node}.{other}"]
    if plan.hold_down_ms:
        return []
    prefixes = [
        f"g.{name}" for name in sorted(names) if name != node and plan.way(node, name)[1] == other
    ]
    return [*prefixes, ""] if link.default_of == node else prefixes


class SimulatedLog:
    """Writes warnings into the diary, and remembers their events."""

    def __init__(self, simulation: Around, node: str) -> None:
        self._simulation = simulation
        self._node = node

    def debug(self, event: str, **fields: Any) -> None:
        """See `Log`."""

    def info(self, event: str, **fields: Any) -> None:
        """See `Log`."""
        if event == "accounting_state_changed":
            self.warning(event, **fields)

    def warning(self, event: str, **fields: Any) -> None:
        """See `Log`."""
        self._simulation.alerts.setdefault(self._node, set()).add(event)
        said = " ".join(f"{name}={value}" for name, value in sorted(fields.items()))
        self._simulation.note(self._node, f"logs {event} {said}"[:300])

    def error(self, event: str, **fields: Any) -> None:
        """See `Log`. It is for what cannot happen."""
        self._simulation.facts.complaints.append(f"{self._node} logs the error {event}")
        self.warning(event, **fields)


class SimulatedRandomness:
    """One seeded source, `Randomness` of a process."""

    def __init__(self, source: random.Random) -> None:
        self._source = source

    def bits(self, count: int) -> int:
        """See `Randomness`."""
        return self._source.getrandbits(count)

    def octets(self, count: int) -> bytes:
        """See `Randomness`. Masks are zeros: their order is not part of a run."""
        return bytes(count) if count == 4 else self._source.randbytes(count)

    def random(self) -> float:
        """See `Randomness`."""
        return self._source.random()


class SimulatedEngine:
    """A settlement engine: pays the other node once per key, and notifies that node's engine."""

    kind: Final = "http"

    def __init__(self, simulation: Around, node: str, loop: ProcessLoop) -> None:
        self._simulation = simulation
        self._node = node
        self._loop = loop
        self._chance = simulation.world.random(f"engine {node} {loop.name}")
        self._failed: dict[str, int] = {}

    async def settle(self, peer_id: str, key: str, quantity: Quantity) -> Answer:
        """See `SettlementEngine`: accepts the request or fails; its answer may be lost."""
        await asyncio.sleep(0.01)
        # It gets well: after the second time it takes what it is asked to pay, and says so.
        self._failed[key] = failed = self._failed.get(key, 0) + 1
        fails = failed <= _ENGINE_FAILURES_MAX
        if fails and self._chance.random() < 0.3:
            raise EngineError("the simulated engine takes nothing now")
        facts = self._simulation.facts
        known = facts.settled_out.setdefault((self._node, peer_id, key), quantity.amount)
        if known != quantity.amount:
            facts.complaints.append(
                f"{self._node}: settlement {key} to {peer_id} was {known}, now {quantity.amount}"
            )
        elif any(one.name == peer_id for one in self._simulation.plan.nodes):
            self._simulation.pay_outside(self._node, peer_id, key, quantity)
        if fails and self._chance.random() < 0.2:
            raise EngineError("the simulated engine has taken it and does not say so")
        return Answer.TAKEN

    async def message(self, peer_id: str, octets: bytes) -> Reply:
        """See `SettlementEngine`."""
        return Reply(200, b"")

    async def add_account(self, peer_id: str) -> None:
        """See `SettlementEngine`."""

    async def remove_account(self, peer_id: str) -> None:
        """See `SettlementEngine`."""
