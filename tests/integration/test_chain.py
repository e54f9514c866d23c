"""Whole connectors over real websockets: what a user sees, and what is in the books afterwards."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from connector import Fulfill, PeerSettings, Prepare, Reject, Relation
from connector.accounting.manager import AccountManager
from connector.base import limits
from connector.ilp.packet import Answer
from connector.ledger.model import AccountCode
from connector.peering.model import Asset
from connector.switch.receiver import PING_CONDITION, fulfillment_for
from tests.support.daemons import CLOCK, Daemon, RunningNodes, secret_of, until
from tests.support.guest import Guest
from tests.support.patience import PATIENCE_SECONDS
from tests.support.tigerbeetle_server import TigerBeetleServer

PREIMAGE = b"p" * 32


class SlowReceiver:
    """A handler that answers only when the test tells it to."""

    def __init__(self, daemon: Daemon) -> None:
        self.asked: list[Prepare] = []
        self._came = asyncio.Event()
        self._open = asyncio.Event()
        daemon.connector.on_prepare(self._receive)

    async def _receive(self, prepare: Prepare) -> Fulfill | Reject:
        self.asked.append(prepare)
        self._came.set()
        await self._open.wait()
        return Fulfill(fulfillment=PREIMAGE, data=b"here you are")

    async def was_asked(self) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            await self._came.wait()

    def answer(self) -> None:
        self._open.set()


def rejected(answer: Answer, code: str, by: str) -> Reject:
    assert isinstance(answer, Reject), answer
    assert (answer.code, answer.triggered_by) == (code, by), answer
    return answer


def balances(daemon: Daemon) -> dict[str, tuple[int, int, int]]:
    return {
        peer_id: (books.net_balance, books.peer.debits_pending, books.peer.credits_pending)
        for peer_id, books in daemon.connector.accounts.peers.items()
    }


def fee_earned(accounts: AccountManager, asset: Asset) -> int:
    book = accounts.own_book(AccountCode.REVENUE, asset)
    assert book is not None
    return book.credits_posted - book.debits_posted


async def test_a_packet_travels_three_nodes_and_is_in_the_books_of_all(tmp_path: Path) -> None:
    async with RunningNodes(tmp_path) as network:
        a, b, c = await network.chain("a", "b", "c")
        for _ in range(3):
            assert isinstance(await a.connector.send("g.c", 100), Fulfill)
        assert isinstance(await c.connector.send("g.a.wallet", 50), Fulfill)
        assert isinstance(await a.connector.send("g.c", 0), Fulfill)
        assert balances(a) == {"b": (-250, 0, 0)}
        assert balances(b) == {"a": (250, 0, 0), "c": (-250, 0, 0)}
        assert balances(c) == {"b": (250, 0, 0)}
        assert b.connector.views.status()["packetsFulfilled"] == 5
        assert await network.stop() == []


async def test_many_packets_at_once_are_all_answered_and_booked(tmp_path: Path) -> None:
    async with RunningNodes(tmp_path) as network:
        a, _, c = await network.chain("a", "b", "c")
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(a.connector.send("g.c", 1)) for _ in range(500)]
        assert all(isinstance(task.result(), Fulfill) for task in tasks)
        assert c.net("b") == 500
        assert await network.stop() == []


async def test_a_node_can_pay_itself(tmp_path: Path) -> None:
    async with RunningNodes(tmp_path) as network:
        (a,) = await network.chain("a")
        assert isinstance(await a.connector.send("g.a", 100), Fulfill)
        assert a.log.count("accounting_refused") == 0


# --- refusals on the way


async def test_each_refusal_names_who_made_it_and_moves_nothing(tmp_path: Path) -> None:
    async with RunningNodes(tmp_path) as network:
        a, b, c = await network.chain(
            "a", "b", "c", peer={"b-a": {"credit_limit": 1000}, "c-b": {"max_packet_amount": 900}}
        )
        before = [balances(daemon) for daemon in (a, b, c)]
        send = a.connector.send
        rejected(await send("g.nowhere", 1), "F02", "g.a")
        rejected(await send("g.c.nobody", 1, fulfillment=PREIMAGE), "F06", "g.c")
        rejected(await send("g.c", 1, expiry_s=1.9), "R02", "g.a")
        rejected(await send("g.c", 1, expiry_s=2.9), "R02", "g.b")
        rejected(await send("g.c", 1, expiry_s=3.9), "R02", "g.c")
        rejected(await send("g.c", 901), "F08", "g.c")
        answer = rejected(await send("g.c", 1001), "T04", "g.b")
        assert answer.message == "credit limit reached"
        rejected(await send("test.c", 1), "F02", "g.a")
        await until(lambda: [balances(daemon) for daemon in (a, b, c)] == before)
        assert isinstance(await send("g.c", 900), Fulfill)
        rejected(await send("g.c", 101), "T04", "g.b")
        assert a.net("b") == -900
        assert await network.stop() == []


async def test_a_handler_s_reject_and_a_broken_handler_are_told_the_sender(tmp_path: Path) -> None:
    async with RunningNodes(tmp_path) as network:
        a, _, c = await network.chain("a", "b", "c")

        async def refuse(prepare: Prepare) -> Reject:
            if prepare.data == b"crash":
                raise KeyError("secret of the shop")
            return Reject(code="F99", triggered_by="g.c.shop", message="sold out", data=b"\x01")

        c.connector.on_prepare(refuse)
        answer = await a.connector.send("g.c.shop", 5, fulfillment=PREIMAGE)
        assert answer == Reject(
            code="F99", triggered_by="g.c.shop", message="sold out", data=b"\x01"
        )
        answer = await a.connector.send("g.c.shop", 5, fulfillment=PREIMAGE, data=b"crash")
        assert "secret" not in rejected(answer, "T00", "g.c").message
        assert await network.stop() == []


async def test_a_next_hop_that_is_not_there_is_unreachable(tmp_path: Path) -> None:
    async with RunningNodes(tmp_path) as network:
        a, b, c = await network.chain("a", "b", "c")
        await c.stop()
        await b.log.seen("btp_connection_lost", peer_id="c")
        rejected(await a.connector.send("g.c", 10), "T01", "g.b")
        assert b.net("a") == 0


# --- money


async def test_two_assets_and_a_fee(tmp_path: Path) -> None:
    """b takes one percent in dollars, and pays out half a euro for each."""
    euro = {"asset_code": "EUR", "asset_scale": 2}
    dollar = {"asset_code": "USD", "asset_scale": 2}
    async with RunningNodes(tmp_path) as network:
        a, b, c = await network.chain(
            "a",
            "b",
            "c",
            peer={
                "b-a": {**dollar, "fee_basis_points": 100},
                "b-c": euro,
                "c-b": euro,
            },
            node={
                "a": dollar,
                "b": {"rates": {("USD", "EUR"): Fraction(1, 2)}},
                "c": euro,
            },
        )
        assert isinstance(await a.connector.send("g.c", 1000), Fulfill)
        assert (a.net("b"), b.net("a"), b.net("c"), c.net("b")) == (-1000, 1000, -495, 495)
        assert fee_earned(b.connector.accounts, Asset("USD", 2)) == 10
        rejected(await c.connector.send("g.a", 10), "T00", "g.b")  # no rate that way
        rejected(await a.connector.send("g.c", 1), "R01", "g.b")
        assert await network.stop() == []


async def test_balances_survive_a_restart(tmp_path: Path) -> None:
    """Defect 3."""
    async with RunningNodes(tmp_path) as network:
        a, b, _ = await network.chain("a", "b", "c")
        assert isinstance(await a.connector.send("g.c", 100), Fulfill)
        b = await network.restart("b")
        assert balances(b) == {"a": (100, 0, 0), "c": (-100, 0, 0)}
        await b.linked("a")
        await b.linked("c")
        assert isinstance(await a.connector.send("g.c", 11), Fulfill)
        assert b.net("a") == 111
        assert await network.stop() == []


# --- links that break


@pytest.mark.parametrize("side", ["a", "b", "c"])
async def test_a_packet_in_flight_survives_its_link(tmp_path: Path, side: str) -> None:
    """The answer comes over the new connection, and nobody pays twice."""
    async with RunningNodes(tmp_path) as network:
        a, b, c = await network.chain("a", "b", "c")
        receiver = SlowReceiver(c)
        async with asyncio.TaskGroup() as group:
            paying = group.create_task(a.connector.send("g.c.shop", 100, fulfillment=PREIMAGE))
            await receiver.was_asked()
            {"a": a, "b": b, "c": c}[side].cut("b" if side != "b" else "c")
            near, far = (a, b) if side == "a" else (b, c)
            await near.linked(far.settings.node_id, times=2)
            await until(lambda: far.connector.peers[near.settings.node_id].counters.resent_in == 1)
            receiver.answer()
        answer = paying.result()
        assert answer == Fulfill(fulfillment=PREIMAGE, data=b"here you are")
        assert len(receiver.asked) == 1
        assert (a.net("b"), b.net("a"), b.net("c"), c.net("b")) == (-100, 100, -100, 100)
        assert await network.stop() == []


@pytest.mark.parametrize("side", ["b", "c"])
async def test_a_node_that_is_replaced_under_load_costs_nobody_a_packet(
    tmp_path: Path, side: str
) -> None:
    """Its neighbours hold new packets until it is back; what was under way is resent."""
    async with RunningNodes(tmp_path) as network:
        a, _, _ = await network.chain("a", "b", "c")
        answers: list[Answer] = []
        enough = asyncio.Event()

        async def pay() -> None:
            while not enough.is_set():
                answers.append(await a.connector.send("g.c", 1))

        async with asyncio.TaskGroup() as group:
            for _ in range(20):
                group.create_task(pay())
            await until(lambda: len(answers) > 100)
            await network.restart(side, comes_back=True)
            seen = len(answers)
            await until(lambda: len(answers) > seen + 100)
            enough.set()
        assert {type(answer) for answer in answers} == {Fulfill}
        assert a.net("b") == -len(answers)
        assert await network.stop() == []


async def test_an_answer_that_was_lost_with_its_link_is_given_again(tmp_path: Path) -> None:
    """c has fulfilled and booked while b was not there: asked again, it says the same."""
    async with RunningNodes(tmp_path) as network:
        a, b, c = await network.chain("a", "b", "c")
        receiver = SlowReceiver(c)
        async with asyncio.TaskGroup() as group:
            paying = group.create_task(a.connector.send("g.c.shop", 100, fulfillment=PREIMAGE))
            await receiver.was_asked()
            c.cut("b")
            receiver.answer()
            await until(lambda: c.net("b") == 100)
        assert isinstance(paying.result(), Fulfill)
        assert len(receiver.asked) == 1
        assert b.net("c") == -100
        assert await network.stop() == []


async def _asked_when_it_is_forgotten(folder: Path, settings: dict[str, Any]) -> None:
    alice = PeerSettings(id="alice", secret="alice-token", credit_limit=1000)
    node_id = f"n{secrets.token_hex(5)}"
    async with RunningNodes(folder) as network:
        node = await network.add(node_id, [alice], **settings)
        driver, port = node.connector.driver, node.connector.btp_port
        ping = Prepare(
            amount=100,
            expires_at_ms=CLOCK.now_ms() + 20_000,
            condition=PING_CONDITION,
            destination=node.connector.node.address,
        )
        async with Guest.connect(port) as guest:
            await guest.log_in("alice", "alice-token", with_ids=True)
            fulfilled = await guest.ask(2, ping, packet_id=77)
            assert isinstance(fulfilled, Fulfill)
            reading = asyncio.create_task(guest.next_frame())  # answers pings
            await until(lambda: not driver.wants_receipt("alice"))
            reading.cancel()
        async with Guest.connect(port) as guest:
            await guest.log_in("alice", "alice-token", with_ids=True)
            assert await guest.ask(2, ping, packet_id=77, again=True) == fulfilled
            assert node.net("alice") == 100
            assert await guest.ask(3, ping, packet_id=78, again=True) == fulfilled
            assert node.net("alice") == 200  # that one the ledger had not
        assert await network.stop() == []


async def test_a_packet_that_was_read_and_forgotten_is_found_in_the_ledger(tmp_path: Path) -> None:
    """Whoever asks for it read the answer once, and lost it in a crash."""
    await _asked_when_it_is_forgotten(tmp_path, {})


@pytest.mark.tigerbeetle
async def test_a_packet_that_was_read_and_forgotten_is_found_in_tigerbeetle(
    tmp_path: Path, tigerbeetle_server: TigerBeetleServer
) -> None:
    settings = {"tigerbeetle_cluster_id": 0, "tigerbeetle_replicas": tigerbeetle_server.address}
    await _asked_when_it_is_forgotten(tmp_path, settings)


async def test_a_packet_outlives_the_link_of_its_sender(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next hop fulfils after the sender is gone: we owe it, and the sender owes us."""
    async with RunningNodes(tmp_path) as network:
        a, b, c = await network.chain("a", "b", "c")
        receiver = SlowReceiver(c)
        paying = asyncio.ensure_future(a.connector.send("g.c.shop", 100, fulfillment=PREIMAGE))
        await receiver.was_asked()
        monkeypatch.setattr(limits, "STOP_IN_FLIGHT_SECONDS_MAX", 0.01)
        await a.stop()
        await b.log.seen("btp_connection_lost", peer_id="a")
        receiver.answer()
        await until(lambda: b.connector.peers["a"].counters.answers_undelivered == 1)
        assert (b.net("a"), b.net("c"), c.net("b")) == (100, -100, 100)
        assert b.connector.driver.in_flight == 0
        rejected(await paying, "T00", "g.a")


async def test_stopping_waits_for_packets_in_flight(tmp_path: Path) -> None:
    async with RunningNodes(tmp_path) as network:
        a, b, c = await network.chain("a", "b", "c")
        receiver = SlowReceiver(c)
        async with asyncio.TaskGroup() as group:
            paying = group.create_task(a.connector.send("g.c.shop", 100, fulfillment=PREIMAGE))
            await receiver.was_asked()
            stopping = group.create_task(b.stop())
            await until(lambda: b.connector.node.stopping)
            rejected(await a.connector.send("g.c", 1), "T03", "g.b")
            assert not stopping.done()
            receiver.answer()
        assert isinstance(paying.result(), Fulfill)
        assert b.log.count("connector_stopped") == 1
        assert await network.stop() == []


# --- addresses


async def test_a_child_gets_its_address_from_its_parent(tmp_path: Path) -> None:
    async with RunningNodes(tmp_path) as network:
        secret = secret_of("up", "kid")
        up = await network.add(
            "up", [PeerSettings(id="kid", secret=secret, relation=Relation.CHILD)]
        )
        kid = await network.add(
            "kid",
            [
                PeerSettings(
                    id="up", secret=secret, relation=Relation.PARENT, url=network.url_of("up")
                )
            ],
            ilp_address=None,
        )
        await kid.log.seen("ilp_address_received", ilp_address="g.up.kid")
        assert kid.connector.node.address == "g.up.kid"
        assert isinstance(await up.connector.send("g.up.kid", 10), Fulfill)
        assert isinstance(await kid.connector.send("g.up", 3), Fulfill)
        assert (up.net("kid"), kid.net("up")) == (-7, 7)


async def test_a_child_whose_parent_is_away_says_that_it_has_no_address_yet(
    tmp_path: Path,
) -> None:
    """Requirement 46."""
    async with RunningNodes(tmp_path) as network:
        kid = await network.add(
            "kid",
            [PeerSettings(id="up", secret="x", relation=Relation.PARENT, url="ws://127.0.0.1:1")],
            ilp_address=None,
        )
        rejected(await kid.connector.send("g.far", 10), "T03", "")


# --- receivers


async def test_packets_for_the_receiver_secret_are_accepted(tmp_path: Path) -> None:
    secret = b"\x01\x02\x03"
    async with RunningNodes(tmp_path) as network:
        a, b = await network.chain("a", "b", node={"b": {"receiver_secret": secret.hex()}})
        proof = fulfillment_for(secret, b"order 7")
        answer = await a.connector.send("g.b.shop", 10, fulfillment=proof, data=b"order 7")
        assert isinstance(answer, Fulfill)
        assert b.net("a") == 10


@asynccontextmanager
async def http_receiver(answers: dict[str, Any]) -> AsyncIterator[tuple[str, list[Any]]]:
    """A tiny HTTP server that answers what stands in `answers` under the destination."""
    asked: list[Any] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.read(65536):
            headers, _, body = head.partition(b"\r\n\r\n")
            sizes = [
                int(line.split(b":")[1])
                for line in headers.lower().split(b"\r\n")
                if line.startswith(b"content-length")
            ]
            while len(body) < sizes[0]:
                body += await reader.read(65536)
            asked.append(json.loads(body))
            status, answer = answers[asked[-1]["destination"]]
            octets = json.dumps(answer).encode()
            writer.write(
                b"HTTP/1.1 %d X\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
                % (status, len(octets))
                + octets
            )
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}/packets", asked
    finally:
        server.close()


async def test_packets_are_delivered_to_an_http_server(tmp_path: Path) -> None:
    proof = base64.b64encode(PREIMAGE).decode()
    answers = {
        "g.b.good": (200, {"fulfillment": proof, "data": base64.b64encode(b"ok").decode()}),
        "g.b.no": (200, {"code": "F99", "message": "no"}),
        "g.b.odd": (200, ["?"]),
        "g.b.down": (503, {}),
        "g.b.liar": (200, {"fulfillment": base64.b64encode(b"q" * 32).decode()}),
    }
    async with http_receiver(answers) as (url, asked), RunningNodes(tmp_path) as network:
        a, b = await network.chain("a", "b", node={"b": {"local_delivery_url": url}})

        async def send(to: str) -> Answer:
            return await a.connector.send(to, 7, fulfillment=PREIMAGE, data=b"\x00\xff")

        assert await send("g.b.good") == Fulfill(fulfillment=PREIMAGE, data=b"ok")
        assert rejected(await send("g.b.no"), "F99", "g.b").message == "no"
        rejected(await send("g.b.odd"), "T00", "g.b")
        rejected(await send("g.b.down"), "T00", "g.b")
        rejected(await send("g.b.liar"), "F05", "g.b")
        first = asked[0]
        assert (first["amount"], first["source"]) == ("7", "a")
        assert base64.b64decode(first["data"]) == b"\x00\xff"
        assert base64.b64decode(first["condition"]) == hashlib.sha256(PREIMAGE).digest()
        assert first["expiresAt"].endswith("Z")
        assert b.net("a") == 7
        assert await network.stop() == []


async def test_a_receiver_that_never_answers_costs_nobody_anything(tmp_path: Path) -> None:
    async with RunningNodes(tmp_path) as network:
        a, _, c = await network.chain("a", "b", "c", node={
            node_id: {"message_window_ms": 500} for node_id in ("a", "b", "c")
        })  # fmt: skip
        SlowReceiver(c)
        answer = await a.connector.send("g.c.shop", 5, fulfillment=PREIMAGE, expiry_s=4)
        rejected(answer, "R00", "g.c")
        assert await network.stop() == []
