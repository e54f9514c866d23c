"""A next hop that always answers T01, on running nodes: packets go the other way, and each is paid once."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

import httpx
import pytest

from connector import Fulfill, PeerSettings, Reject
from tests.support.daemons import Daemon, RunningNodes, secret_of, until

PACKETS = 60


async def network_of(network: RunningNodes, *, has_other: bool = True) -> list[Daemon]:
    """a - b - (busy: its own next hop is never there | c - d)."""

    def peer(of: str, other: str, *routes: str) -> PeerSettings:
        url = network.url_of(other) if other in network.daemons else None
        return PeerSettings(
            id=other, secret=secret_of(of, other), url=url, routes=list(routes),
            send_routes=False, receive_routes=False,
        )  # fmt: skip

    await network.add("d", [peer("d", "c", "g.a")])
    await network.add("c", [peer("c", "d", "g.d"), peer("c", "b", "g.a")])
    away = PeerSettings(id="away", secret="nobody-has-it", routes=["g.d"])
    await network.add("busy", [peer("busy", "b", "g.a"), away])
    others = [peer("b", "c", *(["g.d"] if has_other else []))]
    await network.add("b", [peer("b", "a", "g.a"), peer("b", "busy", "g.d"), *others])
    await network.add("a", [peer("a", "b", "g.d")])
    daemons = [network.daemons[name] for name in ("a", "b", "busy", "c", "d")]
    for daemon in daemons:
        for one in daemon.settings.peers:
            if one.id != "away":
                await daemon.linked(one.id)
    network._pairs += [("a", "b"), ("b", "busy"), ("b", "c"), ("c", "d")]
    return daemons


async def pay(_prepare: object) -> Fulfill:
    return Fulfill(fulfillment=b"p" * 32)


@pytest.mark.parametrize("amount", [0, 7])
async def test_each_packet_is_paid_once_over_the_way_that_is_left(
    tmp_path: Path, amount: int
) -> None:
    async with RunningNodes(tmp_path) as network:
        a, b, busy, c, d = await network_of(network)
        # Among routes of the settings the lower id is the better one: each packet is refused once.
        assert [one.next_hop for one in b.connector.routes.candidates("g.d")] == ["busy", "c"]
        d.connector.on_prepare(pay)
        condition = hashlib.sha256(b"p" * 32).digest()
        answers = await asyncio.gather(
            *(
                a.connector.send("g.d", amount, condition=condition, data=bytes([one]))
                for one in range(PACKETS)
            )
        )
        assert all(isinstance(one, Fulfill) for one in answers)
        paid = PACKETS * amount
        assert (b.net("a"), b.net("c"), b.net("busy")) == (paid, -paid, 0)
        assert (busy.net("b"), busy.net("away"), c.net("b"), d.net("c")) == (0, 0, paid, paid)
        assert b.connector.peers["busy"].counters.rejected_out == PACKETS
        assert b.connector.peers["c"].counters.fulfilled_out == PACKETS
        url = f"http://127.0.0.1:{b.connector.http_port}/metrics"
        async with httpx.AsyncClient(trust_env=False, verify=False) as client:
            text = (await client.get(url)).text
        for name in ("ilp_packets_second_way_total", "ilp_packets_second_way_fulfilled_total"):
            assert f"{name} {PACKETS}.0" in text
        assert await network.stop() == []


async def test_without_another_way_the_sender_gets_the_refusal(tmp_path: Path) -> None:
    async with RunningNodes(tmp_path) as network:
        a, b, *_ = await network_of(network, has_other=False)
        answer = await a.connector.send("g.d", 7)
        assert isinstance(answer, Reject)
        assert (answer.code, answer.triggered_by) == ("T01", "g.busy")
        assert b.net("a") == 0
        assert await network.stop() == []


async def test_a_refusal_from_behind_the_next_hop_is_not_sent_round(tmp_path: Path) -> None:
    """Where the next hop has announced the route, its address is known: c has not refused it, d has."""
    async with RunningNodes(tmp_path) as network:
        neighbours = {"d": "cx", "c": "bd", "x": "bd", "b": "acx", "a": "b"}
        for name, peers in neighbours.items():
            await network.add(
                name,
                [
                    PeerSettings(
                        id=one,
                        secret=secret_of(name, one),
                        transit=True,
                        url=network.url_of(one) if one in network.daemons else None,
                    )
                    for one in peers
                ],
            )
        a, b, d = network.daemons["a"], network.daemons["b"], network.daemons["d"]

        async def refuse(_prepare: object) -> Reject:
            return Reject(code="T02", triggered_by="g.d", message="busy")

        d.connector.on_prepare(refuse)
        await until(lambda: len(b.connector.routes.candidates("g.d")) == 2)
        await until(lambda: a.connector.routes.best("g.d") is not None)
        answer = await a.connector.send("g.d.shop", 7, condition=bytes(32))
        assert isinstance(answer, Reject)
        assert (answer.code, answer.triggered_by) == ("T02", "g.d")
        assert b.connector.switch.ways.tried == 0
        assert d.connector.peers["c"].counters.prepares_in == 1
        assert d.connector.peers["x"].counters.prepares_in == 0
        assert await network.stop() == []
