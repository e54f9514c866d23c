"""`explain` says what then happens: the same node is asked, and then sent the packet itself."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from connector import Connector, Fulfill, PeerSettings, Reject
from tests.support.admin import KEY, Operator
from tests.support.commands import command
from tests.support.daemons import Daemon, RunningNodes, until


async def foretold(b: Daemon, destination: str, amount: int = 0, **more: Any) -> dict[str, Any]:
    query = {"destination": destination, "amount": amount, "from": "a", **more}
    path = "/api/explain?" + "&".join(f"{name}={value}" for name, value in query.items())
    body: dict[str, Any] = await Operator(b).get(path)
    return body


def state(b: Daemon) -> list[Any]:
    """What no explanation may change."""
    connector = b.connector
    counters = [
        {
            name: getattr(peer.counters, name)
            for name in dir(peer.counters)
            if not name.startswith("_")
        }
        for peer in connector.peers
    ]
    books = [
        (one.net_balance, one.peer.debits_pending, one.peer.credits_pending)
        for one in connector.accounts.peers.values()
    ]
    return [
        counters, books, [peer.taken() for peer in connector.peers], connector.node.in_flight,
        connector.packets.received, connector.accounts.queue_depth(), connector.switch.loops.packets,
    ]  # fmt: skip


class Setup:
    """a - b - c, b with a peer that is away and one with another currency."""

    def __init__(self, network: RunningNodes, b_to_a: dict[str, Any], **node: Any) -> None:
        self.network = network
        self._b_to_a = b_to_a
        self._node = node

    async def start(self) -> None:
        network = self.network
        self.b = await network.add(
            "b",
            [
                PeerSettings(id="a", secret="a-and-b", routes=["g.a"], **self._b_to_a),
                PeerSettings(id="c", secret="b-and-c", routes=["g.c"], max_payable=5_000),
                PeerSettings(id="away", secret="b-and-away", routes=["g.away"]),
                PeerSettings(id="euro", secret="b-and-euro", routes=["g.euro"], asset_code="EUR"),
                PeerSettings(id="yen", secret="b-and-yen", routes=["g.yen"], asset_code="JPY"),
            ],
            rates={"USD/EUR": "0.001"},
            admin_api_key=KEY,
            **self._node,
        )
        url = self.network.url_of("b")
        for name in ("a", "c"):
            secret = "a-and-b" if name == "a" else "b-and-c"
            peer = PeerSettings(id="b", secret=secret, url=url, routes=["g"])
            await network.add(name, [peer])
            await self.b.linked(name)
            await network.daemons[name].linked("b")

    @property
    def a(self) -> Connector:
        return self.network.daemons["a"].connector


CASES: list[tuple[str, str, int, dict[str, Any], float, str | None]] = [
    # what, destination, amount, b's terms for a, expiry in seconds, code
    ("a packet that passes", "g.c", 1_000, {}, 30, None),
    ("a packet without an amount", "g.c", 0, {}, 30, None),
    ("with a fee", "g.c", 1_000, {"fee_basis_points": 25}, 30, None),
    ("for the node itself", "g.b", 10, {}, 30, None),
    ("for the node itself, without an amount", "g.b", 0, {}, 30, None),
    ("no route", "example.nowhere", 10, {}, 30, "F02"),
    ("of the other network", "test.c", 10, {}, 30, "F02"),
    ("a peer protocol that is unknown", "peer.unknown", 10, {}, 30, "F01"),
    ("back to the sender", "g.a", 10, {}, 30, "F02"),
    ("a link that is down", "g.away", 10, {}, 30, "T01"),
    ("a link that is down, without an amount", "g.away", 0, {}, 30, "T01"),
    ("no rate", "g.yen", 1_000, {}, 30, "T00"),
    ("nothing is left", "g.euro", 999, {}, 30, "R01"),
    ("too large", "g.c", 101, {"max_packet_amount": 100}, 30, "F08"),
    ("larger than may be sent in a time", "g.c", 101, {"throughput_in": 100}, 30, "F08"),
    ("no credit", "g.c", 101, {"credit_limit": 100}, 30, "T04"),
    ("just the credit", "g.c", 100, {"credit_limit": 100}, 30, None),
    ("the limit of the next hop", "g.c", 5_001, {}, 30, "T04"),
    ("just that limit", "g.c", 5_000, {}, 30, None),
    ("too little time", "g.c", 10, {}, 2.5, "R02"),
]


@pytest.mark.parametrize(
    ("destination", "amount", "terms", "expiry_s", "code"),
    [case[1:] for case in CASES],
    ids=[case[0] for case in CASES],
)
async def test_what_is_foretold_is_what_happens(
    tmp_path: Path, destination: str, amount: int, terms: dict[str, Any], expiry_s: float,
    code: str | None,
) -> None:  # fmt: skip
    async with RunningNodes(tmp_path) as network:
        setup = Setup(network, terms)
        await setup.start()
        before = state(setup.b)
        # What is left of the time when it gets to b: a takes one window.
        said = await foretold(setup.b, destination, amount, expirySeconds=max(0.5, expiry_s - 1))
        assert state(setup.b) == before
        assert (said["code"], said["outcome"] == "rejected") == (code, code is not None), said
        onto = setup.a.peers["b"]
        if destination.startswith("peer.") or destination in ("example.nowhere", "test.c", "g.a"):
            # Its own node would refuse these: the foretold code is compared with b's own word.
            assert code is not None
            return
        answer = await setup.a.send(destination, amount, expiry_s=expiry_s)
        if code is None:
            assert isinstance(answer, Fulfill), (answer, onto)
        else:
            assert isinstance(answer, Reject)
            assert (answer.code, answer.message, answer.triggered_by) == (
                code, said["message"], "g.b",
            )  # fmt: skip


async def test_amounts_fee_expiry_and_what_is_left_are_those_of_the_packet(tmp_path: Path) -> None:
    async with RunningNodes(tmp_path) as network:
        setup = Setup(network, {"fee_basis_points": 25, "credit_limit": 3_000})
        await setup.start()
        said = await foretold(setup.b, "g.c.shop", 1_001, expirySeconds=10)
        assert said["outcome"] == "sent"
        assert (said["fee"], said["amountOut"], said["expiresInMsOut"]) == ("3", "998", 9_000)
        assert said["route"] == {
            "prefix": "g.c", "nextHop": "c", "source": "config", "path": [], "learnedMs": None,
        }  # fmt: skip
        assert said["nextHop"] == {
            "peerId": "c", "connected": True, "asset": "USD/9", "rate": "1", "payableLeft": "5000",
        }  # fmt: skip
        assert said["creditLeft"] == "3000"
        assert isinstance(await setup.a.send("g.c", 1_001), Fulfill)
        await until(lambda: setup.b.net("c") == -998)
        said = await foretold(setup.b, "g.c.shop", 1_001)
        assert (said["creditLeft"], said["nextHop"]["payableLeft"]) == ("1999", "4002")


async def test_a_packet_of_the_node_itself_and_an_unknown_peer(tmp_path: Path) -> None:
    async with RunningNodes(tmp_path) as network:
        setup = Setup(network, {})
        await setup.start()
        own = Operator(setup.b)
        said = await own.get("/api/explain?destination=g.c&amount=7")
        assert (said["from"], said["outcome"], said["creditLeft"]) == ("", "sent", None)
        for query, status in (
            ("destination=g.c&from=nobody", 404),
            ("destination=g..c", 422),
            ("destination=g.c&amount=-1", 422),
            ("destination=g.c&amount=18446744073709551616", 422),
            ("destination=g.c&expirySeconds=0", 422),
            ("", 422),
        ):
            assert (await own.ask("GET", f"/api/explain?{query}")).status_code == status, query


async def test_limits_that_are_used_up_are_foretold(tmp_path: Path) -> None:
    """Packets per second and value per time: used up by packets, never by questions."""
    async with RunningNodes(tmp_path) as network:
        setup = Setup(network, {"throughput_in": 1_000, "throughput_window_seconds": 3_600})
        await setup.start()
        for _ in range(3):
            assert (await foretold(setup.b, "g.c", 1_000))["outcome"] == "sent"
        assert isinstance(await setup.a.send("g.c", 900), Fulfill)
        assert (await foretold(setup.b, "g.c", 50))["outcome"] == "sent"
        said = await foretold(setup.b, "g.c", 200)
        assert (said["code"], said["message"]) == ("T04", "too much value of yours for now")
        answer = await setup.a.send("g.c", 200)
        assert isinstance(answer, Reject)
        assert (answer.code, answer.message) == ("T04", said["message"])


async def test_the_command_shows_it(tmp_path: Path) -> None:
    async with RunningNodes(tmp_path) as network:
        setup = Setup(network, {})
        await setup.start()
        url = f"http://127.0.0.1:{setup.b.connector.http_port}"
        done = await asyncio.to_thread(
            command, "explain", "g.c.shop", "--amount", "10", "--from", "a", "--url", url
        )
        assert done.code == 0, done.err
        for word in ("g.c to c (config)", "link to next hop", "sent to the next hop", "10 USD/9"):
            assert word in done.out
        done = await asyncio.to_thread(command, "explain", "g.away", "--url", url)
        assert done.code == 1
        assert "T01 next hop not connected" in done.out
        done = await asyncio.to_thread(command, "explain", "g..x", "--url", url)
        assert done.code == 2
