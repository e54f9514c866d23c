"""Sinks with whole nodes and real servers, killed and restarted under load: nothing is missing."""

from __future__ import annotations

import asyncio
import json
import random
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from connector import Fulfill
from connector.base.backoff import Backoff
from connector.sinks import bounds, runner
from connector.sinks.jetstream import JetStreamSink
from connector.sinks.port import Record, SinkError
from connector.sinks.postgres import PostgresSink, table_statement
from connector.telemetry.events import PacketRejected
from connector.tools.demo import DemoNode, start, stop, wait_ready
from tests.support.admin import KEY, Operator
from tests.support.certificates import certificate
from tests.support.commands import Done, command
from tests.support.daemons import CLOCK, Daemon, EventLog, RunningNodes, until
from tests.support.inherited import INHERITED
from tests.support.load import load
from tests.support.patience import PATIENCE_SECONDS
from tests.support.ports import free_port, free_ports
from tests.support.sink_servers import NatsServer, PostgresServer, nats_server, postgres_server

__all__ = ["certificate"]

SECRET = "a-secret-of-this-test"
ROUNDS = 3
QUIET = {"telemetry_packets_per_second": 1000}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "_PAUSE", Backoff(min_s=0.01, max_s=0.1))


def stored(node: Daemon) -> list[int]:
    """Numbers of all events in the file of a node, besides those that say that a sink fails."""
    with sqlite3.connect(node.settings.data_dir / "events.sqlite") as file:
        return [seq for (seq,) in file.execute("SELECT seq FROM events ORDER BY seq")]


@asynccontextmanager
async def under_load(node: Daemon) -> AsyncIterator[Callable[[], int]]:
    """Packets through the node while the block runs; how many were fulfilled so far."""
    stopping, fulfilled = asyncio.Event(), 0

    async def send() -> None:
        nonlocal fulfilled
        while not stopping.is_set():
            answer = await node.connector.send(f"g.{node.settings.node_id}", 1)
            fulfilled += isinstance(answer, Fulfill)
            await asyncio.sleep(0.002)

    async with asyncio.TaskGroup() as group:
        for _ in range(4):
            group.create_task(send())
        try:
            yield lambda: fulfilled
        finally:
            stopping.set()


async def all_delivered(node: Daemon, name: str) -> None:
    """Wait until the sink has all that the store has; it goes on to get what comes."""
    sink = node.connector.sinks.runners[name]
    node.connector.events.flush()
    await node.connector._store.write()
    await until(lambda: not sink.lag_events and not sink.fault)


async def killed_under_load(node: Daemon, name: str, server: NatsServer | PostgresServer) -> None:
    """Kill the server of a sink somewhere in a batch, and start it again, some times; all is delivered then."""
    dice = random.Random(name)
    sink = node.connector.sinks.runners[name]
    async with under_load(node) as fulfilled:
        for _ in range(ROUNDS):
            before, had = sink.delivered, fulfilled()
            await until(lambda: sink.delivered > before + 100)  # noqa: B023 - this round's own
            await asyncio.sleep(dice.random() / 10)  # somewhere in a batch
            await server.kill()
            await until(lambda: bool(sink.fault) and fulfilled() > had + 50)  # noqa: B023 - as above
            await server.start()
    await all_delivered(node, name)


# --- NATS


@pytest.mark.nats
async def test_a_stream_has_every_event_once_whatever_becomes_of_its_server(tmp_path: Path) -> None:
    async with nats_server() as server, RunningNodes(tmp_path) as network:
        node = await network.add("a", [], sink_nats_url=server.url, **QUIET)
        await killed_under_load(node, "nats", server)
        await node.log.seen("sink_failed")
        last = node.connector.events.seq
        messages = await server.messages()
        expected = [seq for seq in stored(node) if seq <= last]
        ids = Counter(message.headers["Nats-Msg-Id"] for message in messages)
        missing = [seq for seq in expected if f"a-{seq}" not in ids]
        assert not missing
        assert set(ids.values()) == {1}
        assert len(expected) > 300
        first = json.loads(messages[0].data)
        assert messages[0].subject == f"ilp.events.a.{first['type'].lower()}"
        assert first["nodeId"] == "a"


@pytest.mark.nats
async def test_what_the_server_will_not_take_is_a_dead_letter(tmp_path: Path) -> None:
    async with nats_server("max_payload: 2048\n") as server, RunningNodes(tmp_path) as network:
        node = await network.add("a", [], sink_nats_url=server.url, admin_api_key=KEY)
        node.connector.events.emit(rejected("x" * 500, destination="g." + "y" * 1000))
        await node.log.seen("sink_refused", sink="nats", events=1)
        await all_delivered(node, "nats")
        url = f"http://127.0.0.1:{node.connector.http_port}"
        async with httpx.AsyncClient(trust_env=False, base_url=url) as client:
            (item,) = (await client.get("/api/v1/sinks")).json()["items"]
            assert (item["sink"], item["deadLetters"], item["state"]) == ("nats", 1, "current")
            page = (await client.get("/api/v1/sinks/nats/dead")).json()
            (letter,) = page["items"]
            assert "octets: the server takes" in letter["reason"]
            assert json.loads(letter["event"])["seq"] == letter["seq"]
            assert (await client.get("/api/v1/sinks/other/dead")).status_code == 404
            refused = await client.post("/admin/sinks/nats/deliver-again")
            assert refused.status_code == 401
            headers = {"Authorization": f"Bearer {KEY}"}
            again = await client.post("/admin/sinks/nats/deliver-again", headers=headers)
            assert (again.status_code, again.json()) == (202, {"sink": "nats", "letters": 1})
            status = (await client.get("/api/status")).json()
            assert status["sinks"][0]["sink"] == "nats"
            metrics = (await client.get("/metrics")).text
            assert 'ilp_sink_up{sink="nats"} 1.0' in metrics


@pytest.mark.nats
async def test_a_password_of_a_stream_is_not_shown_and_a_wrong_one_is_said(tmp_path: Path) -> None:
    users = 'authorization { user: "ilp", password: "right" }\n'
    async with nats_server() as server:
        await server.kill()
        server.configuration = users
        await server.start()
        url = f"nats://ilp:hunter2@127.0.0.1:{server.port}"
        sink = JetStreamSink(url, subject="s", stream="S", node_id="a")
        with pytest.raises(SinkError, match=r"(?i)authorization") as caught:
            await sink.deliver([record(1)])
        assert "hunter2" not in str(caught.value) + sink.place
        await sink.close()
        right = JetStreamSink(url.replace("hunter2", "right"), subject="s", stream="S", node_id="a")
        assert list(await right.deliver([record(1)])) == []
        await right.close()


@pytest.mark.nats
async def test_a_stream_over_tls_is_checked(tmp_path: Path, certificate: tuple[Path, Path]) -> None:
    cert, key = certificate
    async with nats_server() as server:
        await server.kill()
        for path in (cert, key):
            copy = server.folder / path.name
            copy.write_bytes(path.read_bytes())
            copy.chmod(0o644)
        server.configuration = (
            f'tls {{ cert_file: "{server.folder / cert.name}", '
            f'key_file: "{server.folder / key.name}" }}\n'
        )
        await server.start()
        url = server.url.replace("nats:", "tls:")
        known = JetStreamSink(url, subject="s", stream="S", node_id="a", tls_ca=cert)
        assert list(await known.deliver([record(1)])) == []
        await known.close()
        unknown = JetStreamSink(url, subject="s", stream="S", node_id="a")
        with pytest.raises(SinkError, match=r"(?i)certificate"):
            await unknown.deliver([record(2)])
        await unknown.close()


@pytest.mark.nats
async def test_a_user_who_only_publishes_needs_no_more_and_else_is_told_why(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bounds, "DELIVER_SECONDS_MAX", 1.0)
    user = 'user: "ilp", password: "right", permissions: {{ publish: {}, subscribe: "_INBOX.>" }}'
    async with nats_server() as server:
        url = f"nats://ilp:right@127.0.0.1:{server.port}"
        maker = JetStreamSink(server.url, subject="s", stream="S", node_id="a")
        assert list(await maker.deliver([record(1)])) == []
        await maker.close()
        for allowed in ('["s.>"]', '["other"]'):
            await server.kill()
            admin = 'user: "admin", password: "admin"'
            server.configuration = (
                f"authorization {{ users: [ {{ {user.format(allowed)} }}, {{ {admin} }} ] }}\n"
            )
            await server.start()
            sink = JetStreamSink(url, subject="s", stream="S", node_id="a")
            if allowed == '["s.>"]':
                assert list(await sink.deliver([record(2)])) == []
            else:
                with pytest.raises(SinkError, match=r"(?i)permissions violation"):
                    await sink.deliver([record(3)])
            await sink.close()


@pytest.mark.nats
async def test_a_stream_server_without_jetstream_is_said() -> None:
    async with nats_server() as server:
        await server.kill()
        (server.folder / "nats.conf").unlink()
        server.command = lambda: [  # type: ignore[method-assign]
            NatsServer.command(server)[0], "-a", "127.0.0.1", "-p", str(server.port),
        ]  # fmt: skip
        await server.start()
        sink = JetStreamSink(server.url, subject="s", stream="S", node_id="a")
        with pytest.raises(SinkError):
            await sink.deliver([record(1)])
        await sink.close()


@pytest.mark.nats
async def test_a_stream_server_that_stands_still_costs_a_bounded_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bounds, "DELIVER_SECONDS_MAX", 0.3)
    monkeypatch.setattr(bounds, "CONNECT_SECONDS_MAX", 1)
    monkeypatch.setattr(bounds, "CLOSE_SECONDS_MAX", 0.2)
    async with nats_server() as server:
        sink = JetStreamSink(server.url, subject="s", stream="S", node_id="a")
        assert list(await sink.deliver([record(1)])) == []
        server.freeze()
        for _ in range(3):
            with pytest.raises(SinkError, match=r"no answer|in time"):
                await sink.deliver([record(2)])
        server.thaw()
        async with asyncio.timeout(30):
            while True:
                try:
                    await sink.deliver([record(2)])
                    break
                except SinkError:
                    await asyncio.sleep(0.05)
        await sink.close()
        assert len(await server.messages("S")) == 2


# --- PostgreSQL


@pytest.mark.postgres
async def test_a_table_has_every_event_once_whatever_becomes_of_its_server(tmp_path: Path) -> None:
    async with postgres_server() as server, RunningNodes(tmp_path) as network:
        node = await network.add("a", [], sink_postgres_url=server.url, **QUIET)
        await killed_under_load(node, "postgres", server)
        last = node.connector.events.seq
        rows = await server.ask(
            "SELECT seq, type, at, peer_id, event::text AS event FROM ilp_events"
        )
        expected = {seq for seq in stored(node) if seq <= last}
        assert expected - {row["seq"] for row in rows} == set()
        assert len(rows) == len({row["seq"] for row in rows})
        assert len(expected) > 300
        for row in rows[:50]:
            event = json.loads(row["event"])
            assert (event["seq"], event["type"]) == (row["seq"], row["type"])
            assert event.get("peerId") == row["peer_id"]
            assert event["timestamp"][:19] == row["at"].isoformat()[:19]


@pytest.mark.postgres
async def test_what_peers_write_cannot_keep_a_row_from_the_table(tmp_path: Path) -> None:
    async with postgres_server() as server, RunningNodes(tmp_path) as network:
        node = await network.add("a", [], sink_postgres_url=server.url)
        node.connector.events.emit(rejected("a\0b\ud800c'\"; DROP TABLE ilp_events; -- \\u0000"))
        await all_delivered(node, "postgres")
        await until(lambda: node.connector.sinks.runners["postgres"].delivered > 0)
        (row,) = await server.ask(
            "SELECT event ->> 'message' AS said FROM ilp_events WHERE type = 'PACKET_REJECTED'"
        )
        assert row["said"] == "a\ufffdb\ufffdc'\"; DROP TABLE ilp_events; -- \\u0000"


@pytest.mark.postgres
async def test_a_row_that_the_table_refuses_is_a_dead_letter_and_the_others_are_there() -> None:
    async with postgres_server() as server:
        sink = PostgresSink(server.url, table="ilp_events", node_id="a", log=EventLog())
        assert list(await sink.deliver([record(1)])) == []
        await server.ask("ALTER TABLE ilp_events ADD CHECK (seq <> 3)")
        refused = await sink.deliver([record(seq) for seq in range(1, 6)])
        assert [one.record.seq for one in refused] == [3]
        assert "violates check constraint" in refused[0].reason
        assert {row["seq"] for row in await server.ask("SELECT seq FROM ilp_events")} == {
            1,
            2,
            4,
            5,
        }
        await sink.close()


@pytest.mark.postgres
async def test_a_table_that_goes_is_made_again_and_its_loss_is_told() -> None:
    async with postgres_server() as server:
        log = EventLog()
        sink = PostgresSink(server.url, table="audit.events", node_id="a", log=log)
        with pytest.raises(SinkError, match='schema "audit" does not exist'):
            await sink.deliver([record(1)])
        await server.ask("CREATE SCHEMA audit")
        assert list(await sink.deliver([record(1)])) == []
        await server.ask("DROP TABLE audit.events")
        with pytest.raises(SinkError, match="does not exist"):
            await sink.deliver([record(2)])
        assert list(await sink.deliver([record(2)])) == []
        assert log.count("sink_table_made") == 2
        assert [row["seq"] for row in await server.ask("SELECT seq FROM audit.events")] == [2]
        await sink.close()


@pytest.mark.postgres
async def test_a_user_who_may_not_make_the_table_is_told_how_and_then_needs_insert_only() -> None:
    async with postgres_server() as server:
        await server.ask("CREATE USER poor PASSWORD 'hunter2'")
        await server.ask("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
        url = server.url.replace("events@", "poor:hunter2@")
        sink = PostgresSink(url, table="ilp_events", node_id="a", log=EventLog())
        with pytest.raises(SinkError, match="sinks --sql") as caught:
            await sink.deliver([record(1)])
        assert "hunter2" not in str(caught.value) + sink.place
        for statement in table_statement("ilp_events").split(";\n"):
            if statement.strip():
                await server.ask(statement)
        await server.ask("GRANT INSERT, SELECT ON ilp_events TO poor")
        assert list(await sink.deliver([record(1), record(2)])) == []
        assert list(await sink.deliver([record(2)])) == []
        assert len(await server.ask("SELECT seq FROM ilp_events")) == 2
        await sink.close()


@pytest.mark.postgres
async def test_a_database_that_stands_still_costs_a_bounded_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bounds, "DELIVER_SECONDS_MAX", 0.3)
    monkeypatch.setattr(bounds, "CONNECT_SECONDS_MAX", 0.5)
    monkeypatch.setattr(bounds, "CLOSE_SECONDS_MAX", 0.2)
    async with postgres_server() as server:
        sink = PostgresSink(server.url, table="ilp_events", node_id="a", log=EventLog())
        assert list(await sink.deliver([record(1)])) == []
        server.freeze()
        for _ in range(2):
            with pytest.raises(SinkError, match="in time"):
                await sink.deliver([record(2)])
        server.thaw()
        async with asyncio.timeout(30):
            while True:
                try:
                    await sink.deliver([record(2)])
                    break
                except SinkError:
                    await asyncio.sleep(0.05)
        await sink.close()
        assert len(await server.ask("SELECT seq FROM ilp_events")) == 2


# --- servers that are something else


@pytest.mark.parametrize("greeting", [b"", b"INFO {}", b"x" * 200_000 + b"\r\n", b"INFO {]\r\n"])
@pytest.mark.parametrize("kind", ["nats", "postgres"])
async def test_what_only_listens_costs_a_bounded_time_and_is_no_success(
    kind: str, greeting: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("nats" if kind == "nats" else "asyncpg")
    for name in ("DELIVER_SECONDS_MAX", "CONNECT_SECONDS_MAX", "CLOSE_SECONDS_MAX"):
        monkeypatch.setattr(bounds, name, 0.2 if kind == "postgres" else 1)

    open_: list[asyncio.StreamWriter] = []

    async def greet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        open_.append(writer)
        writer.write(greeting)

    async with await asyncio.start_server(greet, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        sink: JetStreamSink | PostgresSink = (
            JetStreamSink(f"nats://127.0.0.1:{port}", subject="s", stream="S", node_id="a")
            if kind == "nats"
            else PostgresSink(
                f"postgresql://u@127.0.0.1:{port}/d?sslmode=disable",
                table="t",
                node_id="a",
                log=EventLog(),
            )
        )
        async with asyncio.timeout(30):
            for _ in range(2):
                with pytest.raises(SinkError):
                    await sink.deliver([record(1)])
            await sink.close()
        for one in open_:
            one.transport.abort()


# --- webhooks


class Receiver:
    """An HTTP server that can be closed, be silent, or answer anything."""

    def __init__(self) -> None:
        self.port = free_port()
        self.deliveries: list[list[int]] = []
        self.answer = b"HTTP/1.1 204 No Content\r\n\r\n"
        self.refuses = ""
        """What is in it is answered with 422."""
        self.before_answer: Callable[[], Any] = lambda: None
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def close(self) -> None:
        """As a crash: all connections break."""
        if self._server is not None:
            self._server.close()
            for writer in self._open:
                writer.transport.abort()
            self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                (length,) = [
                    int(line.split(b":")[1])
                    for line in head.split(b"\r\n")
                    if line.lower().startswith(b"content-length")
                ]
                content = await reader.readexactly(length)
                if self.refuses and self.refuses.encode() in content:
                    writer.write(b"HTTP/1.1 422 x\r\nContent-Length: 0\r\n\r\n")
                    continue
                body = json.loads(content)
                self.deliveries.append([one["seq"] for one in body["events"]])
                self.before_answer()
                writer.write(self.answer)
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self._open.discard(writer)
            writer.close()


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    await receiver.start()
    try:
        yield receiver
    finally:
        await receiver.close()


def webhook(receiver: Receiver) -> dict[str, Any]:
    return {
        "sink_webhook_url": f"http://127.0.0.1:{receiver.port}/events",
        "sink_webhook_secret": SECRET,
        "sink_webhook_events": ["all"],
    }


async def test_a_webhook_gets_every_event_and_twice_only_what_broke_off(tmp_path: Path) -> None:
    async with receiving() as receiver, RunningNodes(tmp_path) as network:
        node = await network.add("a", [], **webhook(receiver), **QUIET)
        sink = node.connector.sinks.runners["webhook"]
        breaks = 0
        async with under_load(node):
            for _ in range(ROUNDS):
                before = sink.delivered
                await until(lambda: sink.delivered > before + 100)  # noqa: B023 - this round's own
                # It has the next delivery, and goes before it answers.
                broken = asyncio.Event()
                receiver.before_answer = lambda: [
                    broken.set(),  # noqa: B023 - this round's own
                    *[writer.transport.abort() for writer in receiver._open],
                ]
                await broken.wait()
                breaks += 1
                await receiver.close()
                receiver.before_answer = lambda: None
                await until(lambda: bool(sink.fault))
                await receiver.start()
        await all_delivered(node, "webhook")
        got = Counter(seq for batch in receiver.deliveries for seq in batch)
        assert [seq for seq in stored(node) if seq <= max(got) and seq not in got] == []
        assert len(got) > 300
        twice = {seq for seq, times in got.items() if times > 1}
        # Each batch that broke off, and perhaps a first attempt after it.
        assert len(twice) <= 2 * breaks * bounds.BATCH_EVENTS_MAX
        assert max(got.values()) <= 3


async def test_a_restart_of_the_node_repeats_nothing_and_misses_nothing(tmp_path: Path) -> None:
    async with receiving() as receiver, RunningNodes(tmp_path) as network:
        node = await network.add("a", [], **webhook(receiver), **QUIET)
        for _ in range(2):
            async with under_load(node):
                before = len(receiver.deliveries)
                await until(lambda: len(receiver.deliveries) > before + 2)  # noqa: B023 - this round's own
            node = await network.restart("a")
        await all_delivered(node, "webhook")
        got = Counter(seq for batch in receiver.deliveries for seq in batch)
        assert set(got.values()) == {1}
        assert [seq for seq in stored(node) if seq <= max(got) and seq not in got] == []
        order = [seq for batch in receiver.deliveries for seq in batch]
        assert order == sorted(order)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"", "no answer within"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1000\r\n" + b"x" * 4096
         + b"\r\n" * 1, "no answer within"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n" + b"x" * 100_000, "too long"),
        (b"HTTP/1.1 307 x\r\nLocation: http://169.254.169.254/\r\nContent-Length: 0\r\n\r\n",
         "redirects are not followed"),
        (b"HTTP/1.1 401 x\r\nContent-Length: 0\r\n\r\n", "HTTP 401"),
        (b"SSH-2.0-x\r\n\r\n", ""),
    ],
    ids=["silent", "drips", "endless", "redirects", "refuses", "another protocol"],
)  # fmt: skip
async def test_packets_go_on_whatever_a_webhook_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: bytes, said: str
) -> None:
    monkeypatch.setattr(bounds, "WEBHOOK_SECONDS_MAX", 0.3)
    async with receiving() as receiver, RunningNodes(tmp_path) as network:
        receiver.answer = answer
        node = await network.add("a", [], **webhook(receiver), **QUIET)
        sink = node.connector.sinks.runners["webhook"]
        async with under_load(node) as fulfilled:
            await until(lambda: sink.failures >= 2)
            had = fulfilled()
            await until(lambda: fulfilled() > had + 20)
            # On a busy machine the time may be over before the bound is reached.
            assert said in sink.fault or "no answer within" in sink.fault
            assert sink.delivered == 0
        receiver.answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
        for writer in receiver._open:
            writer.transport.abort()
        await all_delivered(node, "webhook")
        got = {seq for batch in receiver.deliveries for seq in batch}
        assert [seq for seq in stored(node) if seq <= max(got) and seq not in got] == []


async def test_the_commands_show_sinks_and_deliver_dead_letters_again(tmp_path: Path) -> None:
    async with receiving() as receiver, RunningNodes(tmp_path) as network:
        receiver.refuses = "g.bad"
        node = await network.add("a", [], **webhook(receiver), admin_api_key=KEY)
        url = f"http://127.0.0.1:{node.connector.http_port}"
        env = {"CONNECTOR_URL": url, "ADMIN_API_KEY": KEY}

        async def said(*arguments: str) -> Done:
            return await asyncio.to_thread(lambda: command("sinks", *arguments, env=env))

        node.connector.events.emit(rejected("no", destination="g.bad"))
        await node.log.seen("sink_refused", events=1, reason="HTTP 422")
        await all_delivered(node, "webhook")
        shown = await said()
        assert shown.code == 0, shown.err
        assert f"http://127.0.0.1:{receiver.port}" in shown.out
        assert "/events" not in shown.out  # a path may be a secret
        assert "1 dead letters" in shown.out
        (item,) = (await said("--json")).json["items"]
        assert (item["sink"], item["state"], item["refused"]) == ("webhook", "current", 1)
        letters = await said("--dead", "webhook")
        assert "HTTP 422" in letters.out
        assert "PACKET_REJECTED" in letters.out
        (letter,) = (await said("--dead", "webhook", "--json")).json["items"]
        status = await asyncio.to_thread(lambda: command("status", env=env))
        assert "sink webhook" in status.out
        receiver.refuses = ""
        again = await said("--deliver-again", "webhook", "--seq", str(letter["seq"]))
        assert "1 dead letters are delivered again" in again.out
        await until(lambda: [letter["seq"]] in receiver.deliveries)
        await until(lambda: node.connector.sinks.view()[0]["deadLetters"] == 0)
        assert (await said("--deliver-again", "webhook")).out.startswith("0 dead")
        other = await said("--dead", "other")
        assert other.code == 2
        assert "no such sink other; there is webhook" in other.err
        assert (await said("--seq", "1")).code == 2
        assert (await said("--sql")).out == table_statement("ilp_events")
        assert (await said("--sql", "--json")).json["statement"].startswith("CREATE TABLE")
        kept = await Operator(node).events("ADMIN_ACTION", count=2)
        assert {one["action"] for one in kept} == {"sink.deliver-again"}


# --- the node itself


@pytest.mark.nats
@pytest.mark.postgres
@pytest.mark.slow
async def test_a_node_that_is_killed_under_load_delivers_all_that_it_has_stored(
    tmp_path: Path,
) -> None:
    """To all three kinds at once; a stream and a table have nothing twice."""
    dice, secret = random.Random(5), "of-the-sender"
    async with nats_server() as nats, postgres_server() as postgres, receiving() as receiver:
        btp, http = free_ports(2)
        environment = {
            **INHERITED,
            "NODE_ID": "n1",
            "ILP_ADDRESS": "g.n1",
            "BTP_SERVER_PORT": str(btp),
            "HTTP_PORT": str(http),
            "DATA_DIR": str(tmp_path / "n1"),
            "LOG_FORMAT": "json",
            "BTP_PEER_SENDER_SECRET": secret,
            "TELEMETRY_PACKETS_PER_SECOND": "1000",
            "SINK_NATS_URL": nats.url,
            "SINK_POSTGRES_URL": postgres.url,
            "SINK_WEBHOOK_URL": f"http://127.0.0.1:{receiver.port}/",
            "SINK_WEBHOOK_SECRET": SECRET,
            "SINK_WEBHOOK_EVENTS": "all",
        }
        node = DemoNode("n1", btp, http, tmp_path / "n1", environment)
        await start(node)
        try:
            await wait_ready(node, 0, CLOCK)
            async with load(f"ws://127.0.0.1:{btp}", secret, "g.n1", expiry_s=3.0):
                for _ in range(ROUNDS):
                    had = len(receiver.deliveries)
                    await until(lambda: len(receiver.deliveries) > had + 3)  # noqa: B023 - this round's own
                    await asyncio.sleep(dice.random() / 4)  # somewhere in a batch
                    assert node.process is not None
                    node.process.kill()
                    await node.process.wait()
                    await start(node)
                    await wait_ready(node, 0, CLOCK)
            async with httpx.AsyncClient(trust_env=False, base_url=node.url) as client:
                async with asyncio.timeout(PATIENCE_SECONDS):
                    while True:
                        items = (await client.get("/api/v1/sinks")).json()["items"]
                        assert len(items) == 3
                        if not any(one["lagEvents"] or one["fault"] for one in items):
                            break
                        await asyncio.sleep(0.05)
        finally:
            await stop([node])
        with sqlite3.connect(tmp_path / "n1" / "events.sqlite") as file:
            kept = [seq for (seq,) in file.execute("SELECT seq FROM events ORDER BY seq")]
            cursors = dict(file.execute("SELECT name, seq FROM readers"))
        assert len(kept) > 500
        ids = Counter(one.headers["Nats-Msg-Id"] for one in await nats.messages())
        rows = Counter(row["seq"] for row in await postgres.ask("SELECT seq FROM ilp_events"))
        got = Counter(seq for batch in receiver.deliveries for seq in batch)
        for name, has in (
            ("nats", {int(one.removeprefix("n1-")) for one in ids}),
            ("postgres", set(rows)),
            ("webhook", set(got)),
        ):
            assert [one for one in kept if one <= cursors[name] and one not in has] == [], name
        assert set(ids.values()) == set(rows.values()) == {1}
        twice = [seq for seq, times in got.items() if times > 1]
        assert len(twice) <= ROUNDS * bounds.BATCH_EVENTS_MAX


# --- helpers


def record(seq: int) -> Record:
    body = {"type": "ALERT", "nodeId": "a", "seq": seq, "peerId": "bob"}
    return Record(seq, 1_700_000_000_000 + seq, "ALERT", json.dumps(body))


def rejected(message: str, destination: str = "g.x") -> PacketRejected:
    return PacketRejected(
        packet_id=1 << 8,
        peer_id="bob",
        next_hop=None,
        destination=destination,
        amount=1,
        code="F02",
        message=message,
        triggered_by="g.x",
        duration_ms=1.0,
    )
