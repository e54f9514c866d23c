"""Default routes in a circle, on running nodes: how far a packet goes, what is reported."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from connector import Fulfill, PeerSettings, Reject
from connector.ilp.packet import Answer
from tests.support.commands import command
from tests.support.daemons import Daemon, RunningNodes, secret_of

NOWHERE = "g.nowhere"


@asynccontextmanager
async def ring_of_three(folder: Path) -> AsyncIterator[tuple[RunningNodes, list[Daemon]]]:
    """The default route of a leads to b, that of b to c, that of c to a."""
    async with RunningNodes(folder) as network:

        def peer(of: str, other: str, default: str) -> PeerSettings:
            routes = [f"g.{other}", *([""] if other == default else [])]
            url = network.url_of(other) if other in network.daemons else None
            return PeerSettings(id=other, secret=secret_of(of, other), url=url, routes=routes)

        for node_id, default in (("a", "b"), ("b", "c"), ("c", "a")):
            others = [one for one in "abc" if one != node_id]
            await network.add(node_id, [peer(node_id, one, default) for one in others])
        daemons = list(network.daemons.values())
        for daemon in daemons:
            for one in daemon.settings.peers:
                await daemon.linked(one.id)
        yield network, daemons


def handled(daemon: Daemon) -> int:
    """Prepares that peers have sent to it."""
    return sum(peer.counters.prepares_in for peer in daemon.connector.peers)


def forwarded(daemon: Daemon) -> int:
    return sum(peer.counters.prepares_out for peer in daemon.connector.peers)


def is_loop(answer: Answer, by: str) -> bool:
    return isinstance(answer, Reject) and (answer.code, answer.triggered_by, answer.message) == (
        "F02",
        by,
        "routing loop",
    )


@pytest.mark.parametrize("amount", [0, 100])
async def test_a_packet_in_a_ring_is_rejected_after_two_laps_and_then_after_one(
    tmp_path: Path, amount: int
) -> None:
    async with ring_of_three(tmp_path) as (network, daemons):
        a, b, c = daemons
        assert is_loop(await a.connector.send(NOWHERE, amount, expiry_s=60), "g.a")
        assert [forwarded(one) for one in daemons] == [2, 2, 2]
        # Other packets of the same loop: other conditions, other data, other destinations.
        for number in range(5):
            answer = await a.connector.send(
                f"{NOWHERE}.{number}", amount, condition=bytes([number] * 32), data=b"other"
            )
            assert is_loop(answer, "g.a")
        assert [forwarded(one) for one in daemons] == [7, 7, 7]
        for one in daemons:
            assert not one.connector.driver.in_flight
            for books in one.connector.accounts.peers.values():
                assert books.net_balance == 0
                assert books.peer.debits_pending == books.peer.credits_pending == 0
        await a.log.seen("routing_loop", peer_id="c", next_hop="b", prefix="")
        assert b.log.count("routing_loop") == c.log.count("routing_loop") == 0
        assert await network.stop() == []


async def test_the_operator_is_told_once_and_not_for_each_packet(tmp_path: Path) -> None:
    async with ring_of_three(tmp_path) as (_, daemons):
        a = daemons[0]
        await a.connector.send(NOWHERE, 100)
        await a.log.seen("routing_loop", packets=1)
        answers = await asyncio.gather(
            *(a.connector.send(NOWHERE, 100, condition=bytes([one] * 32)) for one in range(20))
        )
        assert all(is_loop(one, "g.a") for one in answers)
        assert a.log.count("routing_loop") == 1
        url = f"http://127.0.0.1:{a.connector.http_port}"
        async with httpx.AsyncClient(base_url=url, trust_env=False, verify=False) as client:
            [loop] = (await client.get("/api/status")).json()["routingLoops"]
            text = (await client.get("/metrics")).text
            stored = await client.get("/api/events", params={"type": "ROUTING_LOOP"})
        events = stored.json()["items"]
        shown = await asyncio.to_thread(command, "status", "--url", url)
        words = " ".join(shown.out.split())
        assert "to b by (default), back from c: 21 packets refused" in words, shown.out
        assert loop.pop("lastAt")
        assert loop == {
            "peerId": "c",
            "nextHop": "b",
            "prefix": "",
            "destination": NOWHERE,
            "packets": 21,
        }
        assert "ilp_packets_looped_total 21.0" in text
        assert [(one["peerId"], one["nextHop"], one["packets"]) for one in events] == [
            ("c", "b", 1)
        ]


async def test_what_has_a_route_is_delivered_in_a_ring_of_default_routes(tmp_path: Path) -> None:
    """Pings have one condition for all: many of them, of all nodes at once, with different expiries."""
    async with ring_of_three(tmp_path) as (network, daemons):
        a, b, c = daemons
        await a.connector.send(NOWHERE, 100)
        async with asyncio.TaskGroup() as group:
            pings = [
                group.create_task(one.connector.send(f"g.{other}", 1, expiry_s=30 - number % 10))
                for number in range(100)
                for one, other in ((a, "b"), (b, "c"), (c, "a"), (a, "c"), (b, "a"), (c, "b"))
            ]
        assert all(isinstance(one.result(), Fulfill) for one in pings)
        assert await network.stop() == []


async def test_many_pings_at_once_over_several_nodes_are_answered(tmp_path: Path) -> None:
    async with RunningNodes(tmp_path) as network:
        daemons = await network.chain("a", "b", "c", "d", "e", "f")
        async with asyncio.TaskGroup() as group:
            pings = [
                group.create_task(one.connector.send("g.f", amount, expiry_s=30 - number))
                for number in range(20)
                for amount in (0, 1)
                for one in daemons[:-1]
            ]
        assert all(isinstance(one.result(), Fulfill) for one in pings)
        assert all(not one.log.count("routing_loop") for one in daemons)
        assert await network.stop() == []


async def test_a_node_of_the_ring_that_dies_meanwhile_loses_nothing(tmp_path: Path) -> None:
    """It forgets which packets it has forwarded; those that are resent are no loops of their own."""
    async with ring_of_three(tmp_path) as (network, daemons):
        a, b, _ = daemons
        async with asyncio.TaskGroup() as group:
            sent = [
                group.create_task(
                    a.connector.send(NOWHERE, 10, condition=bytes([number] * 32), expiry_s=10)
                )
                for number in range(50)
            ]
            b.cut("a")
            b.cut("c")
        assert {one.result().code for one in sent if isinstance(one.result(), Reject)} <= {
            "F02", "T01", "T00", "R00", "R02",
        }  # fmt: skip
        await a.connector.send("g.b", 1)
        for one in daemons:
            assert not one.connector.driver.in_flight
        assert await network.stop() == []
