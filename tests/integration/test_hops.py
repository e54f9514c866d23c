"""One packet over several nodes, by its condition, as `/api/v1/network/conditions/...` tells it."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from pathlib import Path
from typing import Any

import pytest

from connector import Fulfill, Reject
from connector.switch.receiver import PING_CONDITION
from connector.web import bounds
from connector.web.bounds import HOPS_SHOWN_MAX
from connector.web.models import HopsEverywhere, HopsHere
from tests.support.admin import Operator
from tests.support.daemons import Daemon, RunningNodes
from tests.support.ports import free_ports

NAMES = ("a", "b", "c")
SECRET = bytes.fromhex("55" * 32)


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine is no fault of a node."""
    monkeypatch.setattr(bounds, "NETWORK_SECONDS_MAX", 30.0)


async def chain(network: RunningNodes, **more: Any) -> list[Daemon]:
    """Three nodes that show each other; c fulfils what comes with its secret."""
    ports = free_ports(3)
    pages = [f"http://127.0.0.1:{port}" for port in ports]
    node = {
        name: {"http_port": port, "explorer_nodes": pages, **more.get(name, {})}
        for name, port in zip(NAMES, ports, strict=True)
    }
    node["c"]["receiver_secret"] = SECRET.hex()
    return await network.chain(*NAMES, node=node, peer={"b-a": {"fee_basis_points": 100}})


def paid(data: bytes) -> dict[str, Any]:
    """What makes a packet that c fulfils, with a condition of its own."""
    return {"data": data, "fulfillment": hmac.digest(SECRET, data, "sha256")}


def condition_of(packet: dict[str, Any]) -> str:
    return hashlib.sha256(packet["fulfillment"]).hexdigest()


async def test_each_node_says_what_it_had_of_one_packet(tmp_path: Path) -> None:
    async with RunningNodes(tmp_path) as network:
        a, b, c = await chain(network)
        packet = paid(b"one packet")
        assert isinstance(await a.connector.send("g.c", 1000, **packet), Fulfill)
        assert isinstance(await a.connector.send("g.c", 5), Fulfill)
        condition = condition_of(packet)
        found = await Operator(b).get(f"/api/v1/network/conditions/{condition}")
        shown = HopsEverywhere.model_validate(found, strict=True)
        assert (shown.condition, shown.configured) == (condition, True)
        assert [(one.node_id, one.error, len(one.items)) for one in shown.nodes] == [
            ("b", "", 1), ("a", "", 1), ("c", "", 1),
        ]  # fmt: skip
        hops = {one.node_id: one.items[0] for one in shown.nodes}
        assert [(hops[n].peer_id, hops[n].next_hop) for n in NAMES] == [
            ("", "b"), ("a", "c"), ("b", ""),
        ]  # fmt: skip
        assert [(hops[n].amount, hops[n].amount_out, hops[n].fee) for n in NAMES] == [
            ("1000", "1000", "0"), ("1000", "990", "10"), ("990", None, None),
        ]  # fmt: skip
        assert {hops[n].status for n in NAMES} == {"fulfilled"}
        assert hops["b"].asset_in is not None
        assert (hops["b"].asset_in.code, hops["b"].asset_in.scale) == ("USD", 9)
        assert hops["a"].ways == ["b"]
        # What a node waits for its next hop is longer than that one takes, by the clock of each.
        for one, following in (("a", "b"), ("b", "c")):
            waits = (hops[one].answered_ms or 0) - (hops[one].forwarded_ms or 0)
            assert waits >= (hops[following].answered_ms or hops[following].duration_ms or 0)
        for node in shown.nodes:
            assert abs(node.clock_offset_ms or 0) <= (node.clock_error_ms or 0) + 1
        here = await Operator(c).get(f"/api/v1/conditions/{condition}")
        assert HopsHere.model_validate(here, strict=True).items[0] == hops["c"]


async def test_what_is_unknown_is_said_of_the_node_it_is_unknown_of(tmp_path: Path) -> None:
    async with RunningNodes(tmp_path) as network:
        a, b, c = await chain(network, c={"telemetry_packets_per_second": 0})
        assert isinstance(await a.connector.send("g.c", 7, condition=bytes(32)), Reject)
        path = f"/api/v1/network/conditions/{bytes(32).hex()}"
        nodes = {one["nodeId"]: one for one in (await Operator(a).get(path))["nodes"]}
        assert nodes["b"]["items"][0]["status"] == "rejected"
        # It only counted the packet.
        assert (nodes["c"]["error"], nodes["c"]["items"]) == ("", [])
        await c.stop()
        silent = (await Operator(a).get(path))["nodes"][-1]
        assert "cannot be reached" in silent["error"]
        assert (silent["nodeId"], silent["clockOffsetMs"], silent["items"]) == ("c", None, [])
        for wrong in ("ab", "g" * 64, "AB" * 32):
            answer = await Operator(b).ask("GET", f"/api/v1/conditions/{wrong}")
            assert answer.status_code == 422
        answer = await Operator(b).ask("GET", f"/api/v1/conditions/{bytes(32).hex()}?near=1")
        assert answer.status_code == 422


async def test_of_pings_those_next_to_a_time_are_told(tmp_path: Path) -> None:
    async with RunningNodes(tmp_path) as network:
        a, _b = await network.chain("a", "b")
        for _ in range(2 * HOPS_SHOWN_MAX):
            assert isinstance(await a.connector.send("g.b", 1), Fulfill)
        path = f"/api/v1/conditions/{PING_CONDITION.hex()}"
        events = await Operator(a).get("/api/events?type=PACKET_RECEIVED&limit=1000")
        received = [one["timestamp"] for one in events["items"]][::-1]
        last = await Operator(a).get(path)
        assert last["more"] is True
        assert len(last["items"]) == HOPS_SHOWN_MAX
        first = await Operator(a).get(f"{path}?at={received[0]}")
        assert first["more"] is True
        assert first["items"][0]["receivedAt"] == received[0]


async def test_a_packet_is_found_by_how_its_id_or_condition_begins(tmp_path: Path) -> None:
    async with RunningNodes(tmp_path) as network:
        a, _b, _c = await chain(network)
        packets = [paid(b"%d" % number) for number in range(5)]
        await asyncio.gather(*(a.connector.send("g.c", 1, **packet) for packet in packets))
        operator = Operator(a)
        everything = await operator.get("/api/events?type=PACKET_RECEIVED")
        for event in everything["items"]:
            for whole in (event["packetId"], event["executionCondition"]):
                for digits in (8, 9, 20, len(whole)):
                    found = await operator.get(f"/api/v1/packet-ids?prefix={whole[:digits]}")
                    assert event["packetId"] in [one["packetId"] for one in found["items"]]
        assert (await operator.get(f"/api/v1/packet-ids?prefix={'0f' * 32}"))["items"] == []
        for wrong in ("", "abc", "xyz1", "a" * 65):
            answer = await operator.ask("GET", f"/api/v1/packet-ids?prefix={wrong}")
            assert answer.status_code == 422
