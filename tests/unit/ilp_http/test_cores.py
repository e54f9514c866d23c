"""Whole cores linked over HTTP alone, in memory and simulated time: cuts and crashes at random moments."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from connector import Fulfill, PeerSettings, Prepare, Reject
from connector.base import limits
from connector.ilp.packet import Answer, decode, encode
from tests.support.accounts import books_at_rest
from tests.support.clocks import simulate
from tests.support.in_memory import MemoryNetwork
from tests.unit.node.test_core import FULFILLMENT, Machine, settings_of

PORTS = {"alice": 11, "bob": 12, "carol": 13}
SEEDS = range(int(os.environ.get("HTTP_SEEDS", "4")))


def peer(a: str, b: str, **more: Any) -> PeerSettings:
    """`b` as a peer of `a`, over HTTP."""
    url = f"http://{b}.example:{PORTS[b]}/accounts/{a}/ilp"
    return PeerSettings(
        id=b,
        secret="-".join(sorted((a, b))),
        http_url=url,
        send_routes=False,
        receive_routes=False,
        **more,
    )


class HttpMachine(Machine):
    """A core whose life can end at any moment."""

    async def reached(self, peer_id: str) -> None:
        async with asyncio.timeout(120):
            while not self.core.links.reaches(peer_id):
                await asyncio.sleep(0.05)

    async def crash(self) -> None:
        self.network.listening.pop(PORTS[self.settings.node_id], None)
        await super().crash()


@asynccontextmanager
async def line(how: str) -> AsyncIterator[tuple[asyncio.TaskGroup, list[HttpMachine]]]:
    """alice - bob - carol; none of their links is BTP, unless `how` is `both`."""
    network = MemoryNetwork()
    mode = "sync" if how == "both" else how
    to_bob, to_carol = (
        f"ws://{name}.example:{port}" if how == "both" else None
        for name, port in (("bob", 2), ("carol", 3))
    )

    def settings(node_id: str, port: int, *peers: PeerSettings) -> Any:
        own = PORTS[node_id]
        return settings_of(
            node_id,
            port,
            *peers,
            ilp_http_port=own,
            ilp_http_url=f"http://{node_id}.example:{own}",
            credit_limit=10**9,
        )

    machines = [
        HttpMachine(network, one)
        for one in (
            settings(
                "alice", 1, peer("alice", "bob", routes=["g.carol"], http_mode=mode, url=to_bob)
            ),
            settings(
                "bob",
                2,
                peer("bob", "alice", routes=["g.alice"], http_mode=mode),
                peer("bob", "carol", routes=["g.carol"], http_mode=mode, url=to_carol),
            ),
            settings("carol", 3, peer("carol", "bob", routes=["g.alice"], http_mode=mode)),
        )
    ]
    async with asyncio.TaskGroup() as group:
        for machine in machines:
            await machine.start(group)
        await machines[0].reached("bob")
        await machines[1].reached("carol")
        yield group, machines
        for machine in machines:
            await machine.stop()
    for machine in machines:
        machine.disk.close()
        assert not [line for line in machine.log.events if line[0] == "error"]


class Shop:
    """carol's handler: slow now and then; it remembers what it was asked for, by packet id."""

    def __init__(self, dice: random.Random) -> None:
        self._dice = dice
        self.paid: set[str] = set()

    async def __call__(self, _prepare: Prepare, packet_id: str) -> Fulfill | Reject:
        if packet_id not in self.paid and self._dice.random() < 0.1:
            return Reject(code="F99", triggered_by="g.carol", message="sold out", data=b"")
        self.paid.add(packet_id)
        await asyncio.sleep(self._dice.choice((0, 0, 0.01, 0.5, 12)))
        return Fulfill(fulfillment=FULFILLMENT)


@pytest.mark.parametrize("mode", ["sync", "async", "both"])
@pytest.mark.parametrize("seed", SEEDS)
def test_books_match_whatever_is_cut_or_dies(mode: str, seed: int) -> None:
    """Only the node that sends its own packets lives on: nobody would ask it again."""

    async def scenario() -> None:
        dice = random.Random(seed)
        async with line(mode) as (group, (alice, bob, carol)):
            shop = Shop(dice)
            carol.on_prepare = shop  # type: ignore[assignment]
            carol.core.on_prepare(shop)
            answers: list[Answer] = []

            async def send() -> None:
                await asyncio.sleep(dice.random() * 20)
                answers.append(
                    await alice.core.send("g.carol", 7, fulfillment=FULFILLMENT, expiry_s=30)
                )

            sending = [group.create_task(send()) for _ in range(60)]
            for _ in range(8):
                await asyncio.sleep(dice.random() * 3)
                what = dice.choice(("cut", "links", "bob", "carol"))
                if what == "cut":
                    alice.network.cut()
                    continue
                if what == "links":
                    # Of BTP only; without any, those of HTTP.
                    links = [*alice.core.links.live.values(), *bob.core.links.live.values()]
                    for link in links:
                        link.abort()
                    if not links:
                        alice.network.cut()
                    continue
                victim = bob if what == "bob" else carol
                await victim.crash()
                await asyncio.sleep(dice.random() * 2)
                await victim.start(group)
            await asyncio.wait(sending)
            await asyncio.sleep(40)  # longer than the packets live
            fulfilled = sum(isinstance(answer, Fulfill) for answer in answers)
            codes = {answer.code for answer in answers if isinstance(answer, Reject)}
            assert codes <= {"F99", "T00", "T01", "R00"}, codes
            assert fulfilled > 5, answers
            assert alice.net("bob") == -7 * fulfilled
            assert bob.net("alice") == 7 * fulfilled
            assert bob.net("carol") == -carol.net("bob")
            # What bob paid carol and got from alice: the same, since every packet was asked for in time.
            assert carol.net("bob") == 7 * fulfilled
            assert 7 * len(shop.paid) >= carol.net("bob")
            for machine in (alice, bob, carol):
                assert await books_at_rest(machine.core.accounts) == []

    simulate(scenario())


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_an_answer_that_got_lost_is_given_again_and_not_paid_again(mode: str) -> None:
    async def scenario() -> None:
        delivered = 0
        async with line(mode) as (group, (alice, bob, carol)):

            async def pay(_prepare: Prepare) -> Fulfill:
                nonlocal delivered
                delivered += 1
                await asyncio.sleep(2)
                return Fulfill(fulfillment=FULFILLMENT)

            carol.core.on_prepare(pay)
            sending = group.create_task(alice.core.send("g.carol", 7, fulfillment=FULFILLMENT))
            await asyncio.sleep(1)
            alice.network.cut()
            await asyncio.sleep(0.9)
            alice.network.cut()
            assert isinstance(await sending, Fulfill)
            assert delivered == 1
            assert (bob.net("alice"), carol.net("bob")) == (7, 7)
            if mode == "sync":
                assert bob.core.peers["alice"].counters.resent_in >= 1

    simulate(scenario())


def test_answers_over_http_are_kept_as_long_as_their_packets_can_be_asked_for() -> None:
    async def scenario() -> None:
        async with line("sync") as (_, (alice, bob, _carol)):
            for _ in range(5):
                assert isinstance(await alice.core.send("g.carol", 7), Fulfill)
            await asyncio.sleep(10)
            inbox = bob.core.driver._inboxes.by_peer["alice"]
            assert len(inbox.unread.by_id) == 5
            assert not bob.core.driver.wants_receipt("alice"), "a removal need not wait for it"
            assert bob.core.applier.is_drained("alice")
            await asyncio.sleep(3 * limits.FORMER_PACKETS_MS / 1000)
            assert not inbox.unread.by_id
            assert inbox.octets == 0
            assert not inbox.was_read(max(inbox.forgotten_id_max, 1)), "nobody has said so"

    simulate(scenario())


class Outside(asyncio.Protocol):
    """A connection of a program of another kind: no packet ids, each request answered once, in its time."""

    def __init__(self, shop: OutsideShop) -> None:
        self._shop = shop
        self.transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        head, _, body = data.partition(b"\r\n\r\n")
        if head.startswith(b"GET"):
            self.transport.write(b"HTTP/1.1 404 x\r\ncontent-length: 0\r\n\r\n")
            return
        prepare = decode(body)
        assert isinstance(prepare, Prepare)
        assert prepare.data not in self._shop.asked, "the same packet again: it would be paid twice"
        self._shop.asked.add(prepare.data)
        loop = asyncio.get_running_loop()
        loop.call_later(self._shop.dice.choice((0, 0.01, 0.5, 3)), self._pay)

    def _pay(self) -> None:
        self._shop.paid += 1
        octets = encode(Fulfill(fulfillment=FULFILLMENT))
        self.transport.write(
            b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(octets) + octets
        )


class OutsideShop:
    def __init__(self, dice: random.Random) -> None:
        self.dice = dice
        self.asked: set[bytes] = set()
        self.paid = 0


@pytest.mark.parametrize("seed", SEEDS)
def test_another_program_gets_no_packet_twice_and_the_node_between_loses_nothing_it_knows(
    seed: int,
) -> None:
    """alice - bob over HTTP, both ours; dora is of another kind. bob dies, connections break."""

    async def scenario() -> None:
        dice = random.Random(seed)
        network = MemoryNetwork()
        shop = OutsideShop(dice)
        await network.listen(lambda: Outside(shop), "dora", 14, None)
        dora = PeerSettings(
            id="dora", secret="of-dora", http_url="http://dora.example:14/", routes=["g.dora"]
        )
        alice = HttpMachine(
            network,
            settings_of("alice", 1, peer("alice", "bob", routes=["g.dora"]), credit_limit=10**9),
        )
        bob = HttpMachine(
            network,
            settings_of("bob", 2, peer("bob", "alice"), dora, ilp_http_port=12, credit_limit=10**9),
        )
        answers: list[Answer] = []
        async with asyncio.TaskGroup() as group:
            await bob.start(group)
            await alice.start(group)
            await alice.reached("bob")
            await bob.reached("dora")

            async def send(number: int) -> None:
                await asyncio.sleep(dice.random() * 20)
                answers.append(
                    await alice.core.send(
                        "g.dora", 7, fulfillment=FULFILLMENT, data=b"%d" % number, expiry_s=15
                    )
                )

            sending = [group.create_task(send(number)) for number in range(60)]
            for _ in range(8):
                await asyncio.sleep(dice.random() * 3)
                if dice.random() < 0.5:
                    network.cut()
                    continue
                await bob.crash()
                await asyncio.sleep(dice.random() * 2)
                await bob.start(group)
            await asyncio.wait(sending)
            await asyncio.sleep(20)  # longer than the packets live
            fulfilled = sum(isinstance(answer, Fulfill) for answer in answers)
            codes = {answer.code for answer in answers if isinstance(answer, Reject)}
            assert codes <= {"T00", "T01", "R00"}, codes
            assert 5 < fulfilled <= shop.paid
            assert alice.net("bob") == -7 * fulfilled
            assert bob.net("alice") == 7 * fulfilled
            assert bob.net("dora") == -7 * fulfilled, "what it was paid for it owes, and no more"
            for machine in (alice, bob):
                assert await books_at_rest(machine.core.accounts) == []
            for machine in (alice, bob):
                await machine.stop()
        for machine in (alice, bob):
            machine.disk.close()
            assert not [line for line in machine.log.events if line[0] == "error"]

    simulate(scenario())
