"""The live feed and the stored events of whole nodes, as a page and a command see them."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    asynccontextmanager,
    contextmanager,
)
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from connector import Fulfill, Reject
from connector.telemetry import bounds as telemetry_bounds
from connector.telemetry import store as store_module
from connector.telemetry.events import Event, PeerDisconnected
from connector.web import bounds as web_bounds
from tests.support.daemons import Daemon, RunningNodes, until
from tests.support.patience import PATIENCE_SECONDS, allowed_s

PEER = {"credit_limit": 10**9}


class Page:
    """A viewer that keeps what it is told, as the page does."""

    def __init__(self, link: ClientConnection) -> None:
        self.link = link
        self.snapshot: dict[str, Any] = {}
        self.events: list[dict[str, Any]] = []
        self.gaps = 0
        self.seq = 0

    async def read(self) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(await self.link.recv())
        self.seq = message["seq"]
        if message.get("type") == "snapshot":
            self.snapshot = message
        else:
            self.events += message["events"]
        self.gaps += bool(message.get("gap"))
        return message

    async def seen(self, check: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The first event that passes, now or later."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            at = 0
            while True:
                for event in self.events[at:]:
                    if check(event):
                        return event
                at = len(self.events)
                await self.read()

    async def closed(self) -> int | None:
        """Read until the node ends it; its code."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            try:
                while True:
                    await self.read()
            except ConnectionClosed as end:
                return end.rcvd.code if end.rcvd is not None else None

    async def saw(self, kind: str, **fields: Any) -> dict[str, Any]:
        """The first event of a kind with these fields."""
        return await self.seen(lambda event: is_(event, kind, **fields))


def is_(event: dict[str, Any], kind: str, **fields: Any) -> bool:
    return event["type"] == kind and fields.items() <= event.items()


@asynccontextmanager
async def page(daemon: Daemon, since: int | None = None, **options: Any) -> AsyncIterator[Page]:
    """`options`: of the connection."""
    query = "" if since is None else f"?since={since}"
    url = f"ws://127.0.0.1:{daemon.connector.http_port}/ws{query}"
    async with connect(url, **options) as link:
        viewer = Page(link)
        await viewer.read()
        yield viewer


@asynccontextmanager
async def api(daemon: Daemon) -> AsyncIterator[httpx.AsyncClient]:
    url = f"http://127.0.0.1:{daemon.connector.http_port}"
    async with httpx.AsyncClient(base_url=url, trust_env=False, verify=False) as client:
        yield client


async def get(daemon: Daemon, path: str, **parameters: Any) -> Any:
    async with api(daemon) as client:
        response = await client.get(path, params=parameters)
        assert response.status_code == 200, response.text
        return response.json()


# --- the live feed


async def test_a_viewer_gets_a_snapshot_and_then_what_happens(tmp_path: Path) -> None:
    async with RunningNodes(tmp_path) as network:
        a, _b, _c = await network.chain("a", "b", "c")
        async with page(a) as viewer:
            status = await get(a, "/api/status")
            assert viewer.snapshot["status"]["nodeId"] == "a" == status["nodeId"]
            assert [one["peerId"] for one in viewer.snapshot["peers"]] == ["b"]
            assert viewer.snapshot["accounts"] == (await get(a, "/api/accounts"))["items"]
            assert viewer.snapshot["gap"] is False
            assert isinstance(await a.connector.send("g.c", 700), Fulfill)
            received = await viewer.saw("PACKET_RECEIVED", peerId="", amount="700")
            packet = {"packetId": received["packetId"]}
            await viewer.saw("PACKET_FORWARDED", **packet, nextHop="b", fee="0")
            done = await viewer.saw("PACKET_FULFILLED", **packet, nextHop="b", destination="g.c")
            await viewer.saw("ACCOUNT_BALANCE", peerId="b", netBalance="-700", pendingCredits="0")
        times = [done[step] for step in ("reservedMs", "forwardedMs", "answeredMs", "postedMs")]
        assert times == sorted(times)
        assert times[-1] <= done["durationMs"]
        seqs = [event["seq"] for event in viewer.events]
        assert seqs == list(range(seqs[0], seqs[0] + len(seqs)))


async def test_every_node_of_the_way_tells_its_part_of_a_packet(tmp_path: Path) -> None:
    async with RunningNodes(tmp_path) as network:
        a, b, c = await network.chain("a", "b", "c", node={"b": {"fee_basis_points": 100}})
        async with page(a) as at_a, page(b) as at_b, page(c) as at_c:
            await a.connector.send("g.c", 1000)
            sent = await at_a.saw("PACKET_RECEIVED")
            passed = await at_b.saw("PACKET_RECEIVED", peerId="a", amount="1000")
            arrived = await at_c.saw("PACKET_RECEIVED", peerId="b", amount="990")
            await at_b.saw("PACKET_FORWARDED", peerId="a", nextHop="c", amount="990", fee="10")
            await at_b.saw("PACKET_FULFILLED", peerId="a", nextHop="c", amount="1000")
            await at_c.saw("PACKET_FULFILLED", peerId="b", nextHop="", amount="990")
        conditions = {event["executionCondition"] for event in (sent, passed, arrived)}
        assert len(conditions) == 1
        assert len({event["packetId"] for event in (sent, passed, arrived)}) == 3


async def test_rejects_are_told_wherever_they_come_from(tmp_path: Path) -> None:
    async with RunningNodes(tmp_path) as network:
        a, b, _c = await network.chain("a", "b", "c")
        async with page(a) as at_a, page(b) as at_b:
            assert isinstance(await a.connector.send("g.nowhere", 5), Reject)
            local = await at_a.saw("PACKET_REJECTED", code="F02", triggeredBy="g.a")
            assert local["nextHop"] is None
            assert isinstance(await a.connector.send("g.c", 5, condition=bytes(32)), Reject)
            relayed = await at_b.saw("PACKET_REJECTED", nextHop="c", triggeredBy="g.c")
            assert relayed["code"] == "F06"
            await at_a.saw("PACKET_REJECTED", nextHop="b", triggeredBy="g.c")


async def test_links_that_come_and_go_are_told(tmp_path: Path) -> None:
    async with RunningNodes(tmp_path) as network:
        a, b = await network.chain("a", "b")
        async with page(a) as viewer:
            b.cut("a")
            lost = await viewer.saw("PEER_DISCONNECTED", peerId="b", direction="inbound")
            assert lost["reason"]
            await viewer.saw("PEER_CONNECTED", peerId="b", direction="inbound")


async def test_a_balance_is_seen_within_a_tenth_of_a_second(tmp_path: Path) -> None:
    async with RunningNodes(tmp_path) as network:
        a, _b = await network.chain("a", "b")
        delays = []
        async with page(a) as viewer:
            loop = asyncio.get_running_loop()
            for count in range(1, 12):
                await a.connector.send("g.b", 10)
                fulfilled_s = loop.time()
                await viewer.saw("ACCOUNT_BALANCE", peerId="b", netBalance=str(-10 * count))
                delays.append(loop.time() - fulfilled_s)
        assert sorted(delays)[len(delays) // 2] < 0.1


async def test_a_viewer_resumes_where_it_was(tmp_path: Path) -> None:
    async with RunningNodes(tmp_path) as network:
        a, _b = await network.chain("a", "b")
        async with page(a) as first:
            await a.connector.send("g.b", 1)
            await first.saw("PACKET_FULFILLED")
            since = first.seq
        await a.connector.send("g.b", 2)
        async with page(a, since) as again:
            assert again.snapshot == {}
            await again.saw("PACKET_FULFILLED", amount="2")
            assert again.events[0]["seq"] == since + 1
            assert not any(is_(event, "PACKET_FULFILLED", amount="1") for event in again.events)
        async with page(a, again.seq) as idle:
            assert idle.gaps == 0
            assert idle.snapshot == {}


async def test_a_viewer_that_missed_too_much_starts_over(tmp_path: Path) -> None:
    async with RunningNodes(tmp_path) as network:
        a, _b = await network.chain("a", "b")
        async with page(a, 12345) as viewer:
            assert viewer.snapshot["gap"] is True
        async with page(a, viewer.seq + 10**9) as ahead:
            assert ahead.snapshot["gap"] is True


async def test_numbers_and_packets_outlive_a_restart(tmp_path: Path) -> None:
    async with RunningNodes(tmp_path) as network:
        a, b = await network.chain("a", "b")
        async with page(a) as before:
            await a.connector.send("g.b", 3)
            done = await before.saw("PACKET_FULFILLED", amount="3")
            since = before.seq
            a = await network.restart("a")
            await before.closed()
        await a.linked("b")
        async with page(a, since) as after:
            assert after.snapshot["gap"] is True
            assert after.seq > since
            assert done in after.snapshot["packets"]
            await a.connector.send("g.b", 4)
            assert (await after.saw("PACKET_FULFILLED", amount="4"))["seq"] > done["seq"]
        assert b.net("a") == 7


async def test_a_viewer_that_never_reads_costs_nothing_but_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web_bounds, "VIEWER_SEND_SECONDS_MAX", 1.0)
    monkeypatch.setattr(telemetry_bounds, "VIEWER_FRAMES_MAX", 5)
    async with RunningNodes(tmp_path) as network:
        a, _b = await network.chain("a", "b")
        with deaf_viewer(a):
            bus = a.connector.events
            await until(lambda: bus.viewers == 1)
            (viewer,) = bus._viewers
            async with page(a) as reader:
                # More than kernel buffers hold.
                async with asyncio.timeout(PATIENCE_SECONDS):
                    while bus.viewers == 2:
                        for _ in range(200):
                            bus.emit(long_event())
                        assert len(viewer._frames) <= 5
                        assert isinstance(await a.connector.send("g.b", 1), Fulfill)
                        reader.events.clear()
                        await reader.read()
                assert bus.viewers == 1
                await a.connector.send("g.b", 77)
                await reader.saw("PACKET_FULFILLED", amount="77")
            assert viewer.dropped > 0
        assert bus.frames_dropped_total() >= viewer.dropped
        assert bus.viewers_dropped == 1


@contextmanager
def deaf_viewer(daemon: Daemon) -> Iterator[None]:
    """One that asks for the feed and then reads nothing at all."""
    with socket.socket() as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.connect(("127.0.0.1", daemon.connector.http_port))
        deaf.sendall(
            b"GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n"
            b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        )
        yield


def long_event() -> Event:
    return PeerDisconnected(peer_id="b", direction="inbound", reason="x" * 2000)


async def test_a_stop_does_not_wait_for_a_viewer_that_never_reads(tmp_path: Path) -> None:
    async with RunningNodes(tmp_path) as network:
        a, _b = await network.chain("a", "b")
        with deaf_viewer(a):
            bus = a.connector.events
            await until(lambda: bus.viewers == 1)
            (viewer,) = bus._viewers
            while not viewer._frames:  # its socket is full
                for _ in range(500):
                    bus.emit(long_event())
                await asyncio.sleep(0.06)
            loop = asyncio.get_running_loop()
            began_s = loop.time()
            await a.stop()
            assert loop.time() - began_s < allowed_s(3)


async def test_there_are_only_so_many_viewers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web_bounds, "VIEWERS_MAX", 1)
    async with RunningNodes(tmp_path) as network:
        a, _b = await network.chain("a", "b")
        async with page(a):
            with pytest.raises(ConnectionClosed) as caught:
                async with page(a):
                    pass
            assert caught.value.rcvd is not None
            assert caught.value.rcvd.code == 1013
        await until(lambda: a.connector.events.viewers == 0)
        async with page(a) as viewer:
            assert viewer.snapshot


async def test_one_holder_of_a_key_does_not_keep_the_others_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web_bounds, "VIEWERS_MAX", 4)
    keys = {
        "admin_api_key": SecretStr("key-of-an-operator"),
        "read_api_key": SecretStr("key-of-a-reader-1"),
    }

    def viewer_at(
        address: str, key: str = "key-of-a-reader-1"
    ) -> AbstractAsyncContextManager[Page]:
        headers = {"Authorization": f"Bearer {key}", "X-Forwarded-For": address}
        return page(a, additional_headers=headers)

    async with RunningNodes(tmp_path) as network, AsyncExitStack() as open_:
        a, _b = await network.chain(
            "a", "b", node={"a": {**keys, "trusted_proxies": ["127.0.0.1"]}}
        )
        greedy = [await open_.enter_async_context(viewer_at("192.0.2.1")) for _ in range(4)]
        with pytest.raises(ConnectionClosed):
            await open_.enter_async_context(viewer_at("192.0.2.1"))
        await open_.enter_async_context(viewer_at("192.0.2.2"))
        assert await greedy[0].closed() == 1013
        await open_.enter_async_context(viewer_at("192.0.2.1", "key-of-an-operator"))
        assert await greedy[1].closed() == 1013
        assert a.connector.events.viewers == 4
        await a.connector.send("g.b", 7)
        await greedy[2].saw("PACKET_FULFILLED", amount="7")


async def test_what_a_viewer_says_is_bounded(tmp_path: Path) -> None:
    async with RunningNodes(tmp_path) as network:
        a, _b = await network.chain("a", "b")
        async with page(a) as chatty:
            for _ in range(2 * web_bounds.VIEWER_MESSAGES_MAX):
                await chatty.link.send("hello")
            assert await chatty.closed() == 1008
        async with page(a) as loud:
            await loud.link.send("x" * (web_bounds.VIEWER_MESSAGE_BYTES_MAX + 1))
            assert await loud.closed() == 1009
        await until(lambda: a.connector.events.viewers == 0)
        assert isinstance(await a.connector.send("g.b", 1), Fulfill)


# --- stored events


async def test_stored_events_are_found_by_type_peer_packet_time_and_page(tmp_path: Path) -> None:
    async with RunningNodes(tmp_path) as network:
        a, b, _c = await network.chain("a", "b", "c")
        for amount in range(1, 8):
            await a.connector.send("g.c", amount)
        await a.connector.send("g.nowhere", 9)
        done = await get(b, "/api/events", type="PACKET_FULFILLED", limit=3)
        assert [one["amount"] for one in done["items"]] == ["7", "6", "5"]
        more = await get(b, "/api/events", type="PACKET_FULFILLED", limit=100, cursor=done["next"])
        assert [one["amount"] for one in more["items"]] == ["4", "3", "2", "1"]
        assert more["next"] is None
        both = await get(a, "/api/events", type="PACKET_FULFILLED,PACKET_REJECTED")
        assert [one["amount"] for one in both["items"]] == ["9", "7", "6", "5", "4", "3", "2", "1"]
        by_hop = await get(b, "/api/events", peer="c", type="PACKET_FULFILLED")
        assert len(by_hop["items"]) == 7
        links = await get(b, "/api/events", peer="c", type="PEER_CONNECTED")
        assert [one["direction"] for one in links["items"]] == ["inbound"]
        fourth = more["items"][0]
        steps = await get(b, "/api/events", packet=fourth["packetId"])
        assert [one["type"] for one in steps["items"]] == [
            "PACKET_FULFILLED",
            "PACKET_FORWARDED",
            "PACKET_RECEIVED",
        ]
        newer = await get(b, "/api/events", after=fourth["seq"], type="PACKET_FULFILLED")
        assert [one["amount"] for one in newer["items"]] == ["5", "6", "7"]
        since = await get(
            b, "/api/events", type="PACKET_FULFILLED", **{"from": fourth["timestamp"]}
        )
        assert fourth in since["items"]
        until_then = await get(b, "/api/events", type="PACKET_FULFILLED", to="2020-01-01T00:00:00Z")
        assert until_then["items"] == []


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api/events?type=NOTHING", 422),
        ("/api/events?type=", 422),
        ("/api/events?packet=12", 422),
        ("/api/events?from=yesterday", 422),
        ("/api/events?from=99999-01-01T00:00:00Z", 422),
        ("/api/events?cursor=-1", 422),
        ("/api/events?cursor=a", 422),
        ("/api/events?limit=many", 422),
        ("/api/events?limit=-5", 200),
        ("/api/events?limit=1000000", 200),
        ("/api/events?peer=%00", 200),
        ("/api/packets/12", 422),
        ("/api/packets/" + "0" * 32, 404),
        ("/api/accounts/nobody/history", 404),
        ("/api/accounts/b/history?from=2&to=1", 422),
        ("/api/accounts/b/history?from=0&to=1", 200),
        ("/api/accounts/b/history?points=0", 200),
    ],
)
async def test_questions_are_checked(path: str, status: int, one_node: Daemon) -> None:
    async with api(one_node) as client:
        response = await client.get(path)
    assert response.status_code == status, response.text
    assert "error" in response.json() or status == 200


@pytest.fixture
async def one_node(tmp_path: Path) -> AsyncIterator[Daemon]:
    async with RunningNodes(tmp_path) as network:
        a, _b = await network.chain("a", "b")
        yield a


async def test_a_packet_has_a_timeline(tmp_path: Path) -> None:
    async with RunningNodes(tmp_path) as network:
        a, b, _c = await network.chain("a", "b", "c")
        await a.connector.send("g.c", 500)
        await a.connector.send("g.c", 600, condition=bytes(32))
        await a.connector.send("g.nowhere", 700)
        fulfilled = await timeline_of(b, "PACKET_FULFILLED")
        assert fulfilled["status"] == "fulfilled"
        assert steps_of(fulfilled) == [
            "received",
            "reserved",
            "forwarded",
            "answered",
            "posted",
            "fulfilled",
        ]
        assert [one["step"] for one in fulfilled["transfers"]] == ["reserve", "post"]
        assert fulfilled["transfers"][0]["id"] == fulfilled["packetId"]
        times = [step["ms"] for step in fulfilled["timeline"]]
        assert times == sorted(times)
        refused_further_on = await timeline_of(b, "PACKET_REJECTED")
        assert steps_of(refused_further_on) == [
            "received",
            "reserved",
            "forwarded",
            "answered",
            "rejected",
        ]
        assert [one["step"] for one in refused_further_on["transfers"]] == ["reserve", "void"]
        assert refused_further_on["triggeredBy"] == "g.c"
        refused_here = await timeline_of(a, "PACKET_REJECTED")
        assert steps_of(refused_here) == ["received", "rejected"]
        assert refused_here["transfers"] == []


async def timeline_of(daemon: Daemon, kind: str) -> Any:
    """Of the newest packet that ended so."""
    newest = (await get(daemon, "/api/events", type=kind, limit=1))["items"][0]
    return await get(daemon, f"/api/packets/{newest['packetId']}")


def steps_of(packet: Any) -> list[str]:
    return [step["step"] for step in packet["timeline"]]


async def test_a_balance_has_a_history(tmp_path: Path) -> None:
    async with RunningNodes(tmp_path) as network:
        a, _b = await network.chain("a", "b")
        async with page(a) as viewer:
            for count in range(1, 4):
                await a.connector.send("g.b", 100)
                await viewer.saw("ACCOUNT_BALANCE", netBalance=str(-100 * count))
                await asyncio.sleep(1.0)
        minute_ago_ms = a.connector.clock.now_ms() - 60_000
        history = await get(a, "/api/accounts/b/history", **{"from": minute_ago_ms})
        nets = [int(point["netBalance"]) for point in history["items"]]
        assert nets[-1] == -300
        assert nets == sorted(nets, reverse=True)
        assert {-100, -200} & set(nets)
        assert (history["assetCode"], history["assetScale"]) == ("USD", 9)
        a = await network.restart("a")
        again = await get(a, "/api/accounts/b/history", **{"from": minute_ago_ms})
        assert [int(point["netBalance"]) for point in again["items"]][: len(nets)] == nets


async def test_a_store_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / store_module.FILE_NAME).mkdir()  # no file can be there
    async with RunningNodes(tmp_path) as network:
        a, _b = await network.chain("a", "b")
        async with page(a) as viewer:
            assert isinstance(await a.connector.send("g.b", 1), Fulfill)
            await viewer.saw("PACKET_FULFILLED", amount="1")
        assert (await get(a, "/api/events"))["items"] == []
        assert (await get(a, "/api/status"))["eventStore"]["fault"]
        assert a.log.count("event_store_failed") == 1


async def test_without_a_store_there_is_still_the_live_feed(tmp_path: Path) -> None:
    async with RunningNodes(tmp_path) as network:
        a, _b = await network.chain("a", "b", node={"a": {"explorer_max_events": 0}})
        async with page(a) as viewer:
            await a.connector.send("g.b", 1)
            await viewer.saw("PACKET_FULFILLED", amount="1")
        assert (await get(a, "/api/events"))["items"] == []
        assert not (tmp_path / "a" / store_module.FILE_NAME).exists()


async def test_beyond_the_budget_packets_are_counted_and_the_feed_says_so(tmp_path: Path) -> None:
    async with RunningNodes(tmp_path) as network:
        a, _b = await network.chain("a", "b", node={"a": {"telemetry_packets_per_second": 2}})
        async with page(a) as viewer:
            for _ in range(10):
                await a.connector.send("g.b", 1)
            said = await viewer.seen(
                lambda event: is_(event, "NODE_STATUS") and event["packetsFulfilled"] == 10
            )
        assert 0 < said["packetsCounted"] <= 8
        assert said["packetsReceived"] == 10
        assert (await get(a, "/api/status"))["packetsCounted"] == said["packetsCounted"]


# --- who may look


async def test_other_origins_may_not_look(tmp_path: Path) -> None:
    async with RunningNodes(tmp_path) as network:
        a, _b = await network.chain("a", "b")
        url = f"ws://127.0.0.1:{a.connector.http_port}/ws"
        own = f"http://127.0.0.1:{a.connector.http_port}"
        async with connect(url, additional_headers={"Origin": own}) as link:
            assert json.loads(await link.recv())["type"] == "snapshot"
        with pytest.raises(InvalidStatus) as caught:
            async with connect(url, additional_headers={"Origin": "http://evil.example"}):
                pass
        assert caught.value.response.status_code == 403
        with pytest.raises(InvalidStatus):
            async with connect(url, additional_headers={"Host": "evil.example"}):
                pass


async def test_off_loopback_the_feed_needs_the_key(tmp_path: Path) -> None:
    async with RunningNodes(tmp_path) as network:
        a, _b = await network.chain(
            "a", "b", node={"a": {"http_host": "0.0.0.0", "admin_api_key": "k" * 40}}
        )
        url = f"ws://127.0.0.1:{a.connector.http_port}/ws"
        with pytest.raises(InvalidStatus) as caught:
            async with connect(url):
                pass
        assert caught.value.response.status_code in (401, 403)
        right = {"Authorization": "Bearer " + "k" * 40}
        async with connect(url, additional_headers=right) as link:
            assert json.loads(await link.recv())["type"] == "snapshot"


async def test_a_live_feed_ends_with_the_login_that_it_was_opened_with(tmp_path: Path) -> None:
    key = "k" * 40
    async with RunningNodes(tmp_path) as network:
        a, _b = await network.chain(
            "a", "b", node={"a": {"http_host": "0.0.0.0", "admin_api_key": key}}
        )
        url = f"ws://127.0.0.1:{a.connector.http_port}/ws"
        async with api(a) as client:
            answer = await client.post("/login", json={"key": key})
            kept = {"Cookie": answer.headers["set-cookie"].partition(";")[0]}
            by_key = {"Authorization": f"Bearer {key}"}
            async with (
                connect(url, additional_headers=kept) as link,
                connect(url, additional_headers=by_key) as other,
            ):
                viewer, stays = Page(link), Page(other)
                await viewer.read()
                await stays.read()
                assert (await client.post("/logout")).status_code == 204
                assert await viewer.closed() == 1008
                await stays.saw("NODE_STATUS")
            with pytest.raises(InvalidStatus):
                async with connect(url, additional_headers=kept):
                    pass
