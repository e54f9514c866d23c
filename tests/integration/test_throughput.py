"""Value per time, and a next hop that answers T04, on running nodes."""

from __future__ import annotations

from pathlib import Path

import httpx

from connector import Connector, Fulfill, Reject
from connector.ilp.packet import Answer
from tests.support.admin import KEY, Operator
from tests.support.daemons import RunningNodes, until

HOUR = {"throughput_window_seconds": 3_600}


def code(answer: Answer) -> str:
    return answer.code if isinstance(answer, Reject) else ""


async def nobody(node: Connector, amount: int) -> str:
    """A packet that c rejects: it has no receiver."""
    return code(await node.send("g.c", amount, fulfillment=bytes(32)))


async def test_both_directions_are_bounded_and_a_rejected_packet_gives_its_share_back(
    tmp_path: Path,
) -> None:
    async with RunningNodes(tmp_path) as network:
        a, b, c = await network.chain(
            "a", "b", "c",
            peer={"b-a": {"throughput_in": 1_000, **HOUR}, "b-c": {"throughput_out": 600, **HOUR}},
            node={"b": {"admin_api_key": KEY}},
        )  # fmt: skip
        send = a.connector.send
        assert isinstance(await send("g.c", 500), Fulfill)
        # The next hop's limit: refused, and the sender's own share comes back.
        refused = await send("g.c", 200)
        assert isinstance(refused, Reject)
        assert (refused.code, refused.triggered_by) == ("T04", "g.b")
        assert refused.message == "too much value for the next hop for now"
        for _ in range(5):
            assert await nobody(a.connector, 100) == "F06"
        assert isinstance(await send("g.b", 500), Fulfill)
        refused = await send("g.b", 50)
        assert isinstance(refused, Reject)
        assert (refused.code, refused.message) == ("T04", "too much value of yours for now")
        assert code(await send("g.b", 1_001)) == "F08"
        assert code(await c.connector.send("g.a", 5_000)) == "", "the other direction has no limit"
        (shown,) = [
            one for one in (await Operator(b).get("/api/peers"))["items"] if one["peerId"] == "a"
        ]
        assert (shown["throughputInLeft"], shown["throughputOutLeft"]) == ("0", None)
        async with httpx.AsyncClient(trust_env=False, verify=False) as client:
            metrics = (await client.get(f"http://127.0.0.1:{b.connector.http_port}/metrics")).text
        assert 'ilp_throughput_refused_total{direction="in",peer="a"} 1.0' in metrics
        assert 'ilp_throughput_refused_total{direction="out",peer="c"} 1.0' in metrics
        # A limit can be changed while it runs.
        answer = await Operator(b).ask(
            "PUT",
            "/admin/peers/a/limits",
            {"throughputIn": "5000", "throughputWindowSeconds": 3600},
        )
        assert answer.json()["throughputIn"] == "5000"
        assert isinstance(await send("g.b", 2_000), Fulfill)


async def test_a_resent_packet_is_counted_once(tmp_path: Path) -> None:
    """The link breaks while the packet is in flight; it is resent, and fulfilled, with one share."""
    async with RunningNodes(tmp_path) as network:
        a, b, c = await network.chain("a", "b", "c", peer={"b-a": {"throughput_in": 1_000, **HOUR}})
        held: list[Reject] = []

        async def answer(_prepare: object) -> Reject:
            b.cut("a")
            await b.linked("a", times=2)
            await until(lambda: b.connector.peers["a"].counters.resent_in > 0)
            held.append(Reject(code="F99", triggered_by="g.c", message="no"))
            return held[-1]

        c.connector.on_prepare(answer)
        assert await nobody(a.connector, 600) == "F99"
        assert len(held) == 1
        assert isinstance(await a.connector.send("g.b", 1_000), Fulfill), "all was given back, once"
        assert code(await a.connector.send("g.b", 10)) == "T04"


async def test_a_next_hop_that_answers_t04_is_told_and_shown(tmp_path: Path) -> None:
    """c grants b 100: what b sends beyond it is refused there, and b's operator learns it."""
    async with RunningNodes(tmp_path) as network:
        a, b, _c = await network.chain(
            "a", "b", "c", peer={"c-b": {"credit_limit": 100}}, node={"b": {"admin_api_key": KEY}}
        )
        for _ in range(3):
            answer = await a.connector.send("g.c", 101)
            assert isinstance(answer, Reject)
            assert (answer.code, answer.triggered_by) == ("T04", "g.c")
        await b.log.seen("next_hop_short", peer_id="c", triggered_by="g.c")
        assert b.log.count("next_hop_short") == 1
        (event,) = await Operator(b).events("NEXT_HOP_SHORT")
        assert (event["peerId"], event["triggeredBy"]) == ("c", "g.c")
        status = await Operator(b).get("/api/status")
        (shown,) = status["nextHopsShort"]
        assert (shown["peerId"], shown["message"]) == ("c", "credit limit reached")
        assert shown["packets"] == 3
        async with httpx.AsyncClient(trust_env=False, verify=False) as client:
            metrics = (await client.get(f"http://127.0.0.1:{b.connector.http_port}/metrics")).text
        assert 'ilp_next_hop_short_total{peer="c"} 3.0' in metrics
