"""The commands: exit codes, what they print and log; daemons are processes, most others are not."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import queue
import re
import resource
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from time import monotonic, sleep
from typing import Any, Self

import pytest

from connector import Fulfill
from connector.base import limits
from connector.cli.show import SystemSleep
from connector.settings.load import load
from connector.tools.healthcheck import WAIT_SECONDS_MAX, WAIT_VARIABLE
from connector.version import is_compiled
from tests.support.certificates import certificate
from tests.support.commands import Done, command
from tests.support.daemons import Daemon
from tests.support.inherited import INHERITED
from tests.support.patience import PATIENCE_SECONDS, allowed_s
from tests.support.ports import free_port

__all__ = ["certificate"]

ROOT = Path(__file__).parents[2]
ALICE_TOKEN = "alice-hunter2"
BOB_TOKEN = "bob-hunter2"
RECEIVER_SECRET = "c0ffee00c0ffee00"
ADMIN_KEY = "admin-hunter2"
CAMEL_CASE = re.compile(r"[a-z][a-zA-Z0-9]*")


def environment(folder: Path, **settings: str) -> dict[str, str]:
    """A node with two peers on free ports."""
    return {
        **INHERITED,
        "NODE_ID": "node",
        "ILP_ADDRESS": "g.node",
        "BTP_SERVER_PORT": "0",
        "HTTP_PORT": "0",
        "DATA_DIR": str(folder),
        "ADMIN_API_KEY": ADMIN_KEY,
        "RECEIVER_SECRET": RECEIVER_SECRET,
        "BTP_PEER_ALICE_SECRET": ALICE_TOKEN,
        "BTP_PEER_ALICE_CREDIT_LIMIT": "5000",
        "BTP_PEER_BOB_SECRET": BOB_TOKEN,
        "BTP_PEER_BOB_ROUTES": "g.bob",
        **settings,
    }


def process(*arguments: str, python: tuple[str, ...] = ()) -> Done:
    """Run `python -m connector` as a process of its own, to its end."""
    found = subprocess.run(
        [sys.executable, *python, "-m", "connector", *arguments],
        env=INHERITED,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    return Done(found.returncode, found.stdout, found.stderr)


def unread(*arguments: str, env: Mapping[str, str]) -> tuple[int, str]:
    """Run a command whose output nobody reads; its exit code, and what it says of that."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as output:
        found = subprocess.run(
            [sys.executable, "-m", "connector", *arguments],
            env=env,
            stdout=output,
            stderr=subprocess.PIPE,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
    return found.returncode, found.stderr


class Node:
    """A daemon in a process of its own, and its log, line by line."""

    def __init__(
        self, env: Mapping[str, str], *arguments: str, file_size_max: int | None = None
    ) -> None:
        self.lines: list[dict[str, Any]] = []
        self._queue: queue.Queue[dict[str, Any] | None] = queue.Queue()

        def limit() -> None:
            assert file_size_max is not None
            resource.setrlimit(resource.RLIMIT_FSIZE, (file_size_max, file_size_max))

        self.process = subprocess.Popen(
            [sys.executable, "-m", "connector", *arguments],
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=limit if file_size_max is not None else None,  # noqa: PLW1509 - takes no lock
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self._queue.put(json.loads(line))
        self._queue.put(None)

    def event(self, name: str, **fields: Any) -> dict[str, Any]:
        """Wait for a line of the log with these fields."""
        for line in self.lines:
            if line["event"] == name and fields.items() <= line.items():
                return line
        while True:
            line_or_end = self._queue.get(timeout=PATIENCE_SECONDS)
            assert line_or_end is not None, f"no {name} in {self.lines}"
            self.lines.append(line_or_end)
            if line_or_end["event"] == name and fields.items() <= line_or_end.items():
                return line_or_end

    @property
    def btp(self) -> str:
        return f"ws://127.0.0.1:{self.event('connector_started')['btpServerPort']}"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.event('connector_started')['httpPort']}"

    def send(self, destination: str, *arguments: str, token: str = ALICE_TOKEN) -> Done:
        """`send` as alice."""
        return command(
            "send", "--url", self.btp, "--auth", f"alice:{token}", "--destination", destination,
            "--json", *arguments,
        )  # fmt: skip

    def show(self, name: str, *arguments: str) -> Done:
        return command(name, "--url", self.url, *arguments)

    def nets(self) -> dict[str, str]:
        items = self.show("balances", "--json").json["items"]
        return {item["peerId"]: item["netBalance"] for item in items}

    def stop(self, number: int = signal.SIGTERM) -> float:
        """Stop it, see that it did so in order, and how many seconds that took."""
        began_s = monotonic()
        self.process.send_signal(number)
        assert self.process.wait(PATIENCE_SECONDS) == 0
        took_s = monotonic() - began_s
        self.event("connector_stopped")
        return took_s

    def __enter__(self) -> Self:
        self.event("connector_started")
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._reader.join(PATIENCE_SECONDS)
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        out = self.process.stdout.read()
        self.process.stdout.close()
        self.process.stderr.close()
        while (line := self._queue.get_nowait()) is not None:
            self.lines.append(line)
        said = json.dumps(self.lines) + out
        assert "hunter2" not in said, "a secret stands in the log"
        assert RECEIVER_SECRET not in said
        assert not [line for line in self.lines if line["level"] == "error"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("commands")


@pytest.fixture(scope="module")
def node(folder: Path) -> Iterator[Node]:
    """One running node for the commands that only look, or pay."""
    with Node(environment(folder), "run") as node:
        yield node
        node.stop()


# --- run


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR2])
def test_a_signal_stops_the_daemon_cleanly_and_soon(tmp_path: Path, number: int) -> None:
    """`run` is the default command; a peer that stays connected does not hold it up."""
    with Node(environment(tmp_path)) as node:
        with socket.create_connection(("127.0.0.1", int(node.btp.rsplit(":", 1)[1]))):
            assert node.stop(number) < allowed_s(2)
        assert node.lines[-1]["event"] == "connector_stopped"
        with Node(environment(tmp_path)) as again:
            again.stop()


def test_sigusr1_is_ignored(tmp_path: Path) -> None:
    with Node(environment(tmp_path)) as node:
        node.process.send_signal(signal.SIGUSR1)
        assert node.send("g.node").code == 0
        node.stop()


def test_the_log_is_json_lines_with_the_documented_events(tmp_path: Path) -> None:
    with Node(environment(tmp_path), "run") as node:
        assert node.send("g.node").code == 0
        assert node.send("g.nowhere").code == 1
        assert node.send("g.node", token="wrong").code == 2
        node.event("btp_connection_lost", peerId="alice")
        node.event("btp_authentication_failed", username="alice")
        node.stop()
    for line in node.lines:
        assert {"event", "level", "timestamp", "nodeId"} <= set(line)
        assert line["nodeId"] == "node"
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", line["timestamp"])
        assert all(CAMEL_CASE.fullmatch(name) for name in line), line
        assert re.fullmatch(r"[a-z_]+", line["event"]), line
    events = [line["event"] for line in node.lines]
    started = node.event("connector_started")
    assert started["compiled"] is is_compiled()
    assert started["ledger"] == "embedded"
    assert min(started["btpServerPort"], started["httpPort"]) > 0
    assert node.event("accounting_initialized")["backend"] == "embedded"
    assert {"clusterId", "replicas"} <= set(node.event("accounting_initialized"))
    established = node.event("btp_connection_established")
    assert (established["peerId"], established["direction"]) == ("alice", "inbound")
    assert {"peerId", "direction", "reason"} <= set(node.event("btp_connection_lost"))
    rejected = node.event("packet_rejected")
    assert (rejected["code"], rejected["peerId"], rejected["suppressed"]) == ("F02", "alice", 0)
    assert node.event("accounting_state_changed")["state"] == "available"
    assert events.index("config_loaded") == 0
    assert events[-1] == "connector_stopped"


def test_a_wrong_configuration_names_every_fault_and_exits_2(tmp_path: Path) -> None:
    done = command(
        "run",
        env=environment(
            tmp_path,
            HTTP_PORT="many",
            BTP_SERVER_PROT="1",
            CREDIT_LIMIT="-1",
            RECEIVER_SECRET="hunter2",
            ROUTES="g.x=nobody",
            BTP_TLS_CERT="cert.pem",
            BTP_PEER_BOB_SECRET=ALICE_TOKEN,
        ),
    )
    assert done.code == 2
    assert done.out == ""
    first, *faults = done.err.splitlines()
    assert first == "connector: the configuration cannot be used:"
    for name in (
        "HTTP_PORT", "BTP_SERVER_PROT", "CREDIT_LIMIT", "RECEIVER_SECRET", "nobody",
        "BTP_TLS_CERT", "peers alice and bob",
    ):  # fmt: skip
        assert sum(name in fault for fault in faults) == 1, (name, faults)
    assert len(faults) == 7
    assert not (tmp_path / "ledger.db").exists()


@pytest.mark.parametrize("name", ["run", "check-config", "healthcheck"])
def test_off_loopback_secrets_that_can_be_guessed_are_refused(tmp_path: Path, name: str) -> None:
    exposed = {"HTTP_HOST": "0.0.0.0", "BTP_SERVER_HOST": "0.0.0.0"}
    secrets = {"ADMIN_API_KEY": "change-me-admin", "BTP_PEER_BOB_SECRET": "x"}
    others = {"BTP_PEER_ALICE_SECRET": "long-and-random-of-alice"}
    done = command(name, env=environment(tmp_path, **exposed, **secrets, **others))
    assert done.code == 2
    for variable, why in (
        ("ADMIN_API_KEY", "the value of the example"),
        ("BTP_PEER_BOB_SECRET", "less than 16 characters"),
    ):
        assert f"{variable} has {why}, and " in done.err
    assert done.err.count("openssl rand -hex 32") == 2
    assert "change-me" not in done.err


@pytest.mark.parametrize("variable", ["BTP_SERVER_PORT", "HTTP_PORT"])
def test_a_port_in_use_is_said_in_one_line(tmp_path: Path, variable: str) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        done = command("run", env=environment(tmp_path, **{variable: port, "LOG_LEVEL": "error"}))
    assert done.code == 1
    (line,) = done.err.splitlines()
    assert line == (
        f"connector: {variable}={port} cannot be had on 127.0.0.1: Address already in use; "
        "choose another one"
    )
    assert not (tmp_path / "data").exists(), "a node that did not start has made no books"


def test_a_ledger_that_another_process_uses_is_left_alone(node: Node, folder: Path) -> None:
    done = command("run", env=environment(folder, LOG_LEVEL="error"))
    assert done.code == 2
    (line,) = done.err.splitlines()
    assert f"ledger.db is in use by process {node.process.pid}" in line
    assert "DATA_DIR" in line
    assert node.send("g.node").code == 0


def used(folder: Path) -> None:
    """Leave the books of a node that had one packet."""

    async def pay_itself() -> None:
        daemon = Daemon(load(environment(folder)).settings)
        async with asyncio.TaskGroup() as group:
            await daemon.start(group)
            assert isinstance(await daemon.connector.send("g.node", 1), Fulfill)
            await daemon.stop()

    asyncio.run(pay_itself())


def garbage(folder: Path) -> None:
    folder.joinpath("ledger.db").write_bytes(b"garbage" * 1000)


def another_database(folder: Path) -> None:
    with sqlite3.connect(folder / "ledger.db") as connection:
        connection.execute("CREATE TABLE journal (other)")
        connection.execute("PRAGMA user_version = 99")
    connection.close()


def damaged_row(folder: Path) -> None:
    used(folder)
    with sqlite3.connect(folder / "ledger.db") as connection:
        connection.execute("DELETE FROM checkpoint")
        connection.execute("DELETE FROM account")
        connection.execute("UPDATE journal SET events = zeroblob(9) WHERE seq = 2")
    connection.close()


def missing_row(folder: Path) -> None:
    used(folder)
    with sqlite3.connect(folder / "ledger.db") as connection:
        connection.execute("DELETE FROM checkpoint")
        connection.execute("DELETE FROM account")
        connection.execute("DELETE FROM journal WHERE seq = 1")
    connection.close()


def contents(folder: Path) -> object:
    """What a ledger holds, or its octets where it is none."""
    with sqlite3.connect(folder / "ledger.db") as connection:
        try:
            rows = connection.execute("SELECT * FROM journal").fetchall()
            found: object = (connection.execute("PRAGMA user_version").fetchone(), rows)
        except sqlite3.DatabaseError:
            found = (folder / "ledger.db").read_bytes()
    connection.close()
    return found


@pytest.mark.parametrize("damage", [garbage, another_database, damaged_row, missing_row])
def test_a_ledger_that_is_none_or_damaged_is_named_and_not_touched(
    tmp_path: Path, damage: Any
) -> None:
    damage(tmp_path)
    before = contents(tmp_path)
    done = command("run", env=environment(tmp_path, LOG_LEVEL="error"))
    assert done.code == 2
    assert "ledger.db" in done.err
    assert re.search(r"not a usable ledger|has format|is damaged", done.err), done.err
    assert contents(tmp_path) == before


@pytest.mark.parametrize("name", ["run", "check-config"])
def test_files_and_folders_that_cannot_be_used_are_named_with_their_settings(
    tmp_path: Path, name: str
) -> None:
    """Before anything is opened, and by both commands alike."""
    (tmp_path / "file").write_text("")
    missing = str(tmp_path / "missing.pem")
    tls = {"BTP_TLS_CERT": missing, "BTP_TLS_KEY": missing}
    done = command(name, env=environment(tmp_path / "file" / "data", **tls))
    assert done.code == 2
    first, *faults = done.err.splitlines()
    assert first == "connector: the configuration cannot be used:"
    for fault, said in zip(
        faults,
        (
            f"BTP_TLS_CERT={missing} cannot be read: No such file or directory",
            f"BTP_TLS_KEY={missing} cannot be read: No such file or directory",
            f"DATA_DIR={tmp_path}/file/data cannot be used: {tmp_path}/file is not a folder",
        ),
        strict=True,
    ):
        assert said in fault


@pytest.mark.parametrize("name", ["ledger.db", "outbox.db"])
def test_a_file_that_cannot_be_opened_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    done = command("run", env=environment(tmp_path, LOG_LEVEL="error"))
    assert done.code in (1, 2)
    (line,) = done.err.splitlines()
    assert name in line


def test_on_a_full_disk_packets_are_rejected_and_nothing_booked_is_lost(tmp_path: Path) -> None:
    """Files may not grow beyond 2 MB: the same as a full disk, for one process."""
    with Node(environment(tmp_path), "run", file_size_max=2_000_000) as node:
        done = node.send("g.node", "--amount", "1", "--count", "4000")
        report = done.json
        assert done.code == 1
        assert report["fulfilled"] > 0
        assert set(report["rejected"]) <= {"T00", "R00"}, report
        assert report["fulfilled"] + sum(report["rejected"].values()) == 4000
        node.event("accounting_state_changed", state="rejecting")
        assert node.show("status").code == 0
        assert node.process.poll() is None
        node.process.kill()
    with Node(environment(tmp_path), "run") as node:
        assert int(node.nets()["alice"]) == report["fulfilled"]
        assert node.send("g.node", "--amount", "1").code == 0
        node.stop()
    assert command("audit", env=environment(tmp_path)).code == 0


def test_without_assertions_it_does_not_run() -> None:
    done = process("run", python=("-O",))
    assert done.code == 1
    assert "refusing to run with assertions off" in done.err


def test_where_it_is_not_installed_it_is_said_how_to_install_it() -> None:
    """`-S` leaves out the folder of installed packages."""
    done = process("status", python=("-S",))
    assert done.code == 1
    (line,) = done.err.splitlines()
    assert line.startswith("connector: typer is not installed for ")
    assert "`pip install .`" in line


# --- send


def test_send_pings_and_reports(node: Node) -> None:
    before = int(node.nets()["alice"])
    done = node.send("g.node.any.thing", "--amount", "7", "--count", "20", "--window", "5")
    assert done.code == 0
    report = done.json
    assert (report["sent"], report["fulfilled"], report["rejected"]) == (20, 20, {})
    assert report["latencyMs"]["p50"] > 0
    assert int(node.nets()["alice"]) == before + 140


def test_send_pays_a_receiver_whose_secret_it_knows(node: Node) -> None:
    assert node.send("g.node", "--secret", RECEIVER_SECRET, "--data", "hello").code == 0
    refused = node.send("g.node", "--secret", "00")
    assert (refused.code, refused.json["rejected"]) == (1, {"F06": 1})


@pytest.mark.parametrize(
    ("destination", "arguments", "code", "message"),
    [
        ("g.nowhere", (), "F02", "no route found (by g.node)"),
        ("g.bob", (), "T01", "next hop not connected (by g.node)"),
        ("g.bob", ("--expiry", "1.5"), "R02", "not enough time left to forward (by g.node)"),
        ("g.node", ("--expiry", "0.001"), "R0", ""),
        ("g.bob", ("--amount", "1000000"), "T04", "credit limit reached (by g.node)"),
        ("g.node", ("--amount", str(2**64 - 1)), "T04", "credit limit reached (by g.node)"),
    ],
)
def test_send_says_why_a_packet_was_not_fulfilled_and_no_balance_changes(
    node: Node, destination: str, arguments: tuple[str, ...], code: str, message: str
) -> None:
    before = node.nets()
    done = node.send(destination, *arguments)
    assert done.code == 1
    ((found, count),) = done.json["rejected"].items()
    assert found.startswith(code)
    assert count == 1
    assert message in done.json["messages"][found]
    assert node.nets() == before


def test_send_without_json_is_for_people(node: Node) -> None:
    done = command(
        "send", "--url", node.btp, "--auth", f"alice:{ALICE_TOKEN}", "--destination", "g.nowhere",
    )  # fmt: skip
    assert done.code == 1
    assert "0 of 1 fulfilled" in done.out
    assert "1 x F02: no route found (by g.node)" in done.out


def interrupted_send(node: Node, *arguments: str) -> tuple[int, str, str]:
    """`send` in a process, stopped with Ctrl-C when its packets flow."""
    before = node.show("status", "--json").json["packetsFulfilled"]
    with subprocess.Popen(
        [
            sys.executable, "-m", "connector", "send", "--url", node.btp,
            "--auth", f"alice:{ALICE_TOKEN}", "--destination", "g.node", "--amount", "0",
            "--count", "10000000", "--window", "20", *arguments,
        ],
        env=INHERITED,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as sending:  # fmt: skip
        while node.show("status", "--json").json["packetsFulfilled"] < before + 50:
            assert sending.poll() is None, sending.communicate()
        sending.send_signal(signal.SIGINT)
        out, err = sending.communicate(timeout=PATIENCE_SECONDS)
    return sending.returncode, out, err


def test_send_that_is_interrupted_says_what_it_has_done(node: Node) -> None:
    code, out, err = interrupted_send(node, "--json")
    assert (code, err) == (130, "")
    report = json.loads(out)
    assert report["interrupted"] is True
    assert report["fulfilled"] >= 50
    assert report["fulfilled"] <= report["sent"] < 10_000_000
    assert report["rejected"] == {}


def test_send_that_is_interrupted_says_so_to_people(node: Node) -> None:
    code, out, err = interrupted_send(node)
    assert (code, err) == (130, "")
    fulfilled = re.search(r"^(\d+) of 10000000 fulfilled in ", out, re.MULTILINE)
    assert fulfilled is not None, out
    assert int(fulfilled[1]) >= 50
    assert re.search(r"^interrupted: \d+ sent, \d+ of them not answered$", out, re.MULTILINE)
    assert f"{fulfilled[1]}/10000000" in out, "the bar stands where the figures do"


def test_send_to_the_http_port_says_which_port_it_is(node: Node) -> None:
    http = node.url.replace("http://", "ws://")
    done = command("send", "--url", http, "--auth", "alice:x", "--destination", "g.node")
    assert done.code == 1
    assert f"{http} is the HTTP port of a node" in done.err
    assert "BTP_SERVER_PORT" in done.err


def test_send_names_what_keeps_it_from_sending(node: Node) -> None:
    done = command("send", "--url", node.btp, "--auth", "alice:wrong", "--destination", "g.node")
    assert done.code == 2
    assert "refuses the log-in: check --auth" in done.err


def test_send_gives_up_on_a_connector_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """After ten seconds; here sooner."""
    monkeypatch.setattr(limits, "LOGIN_SECONDS_MAX", 0.3)
    done = command("send", "--url", "ws://127.0.0.1:9", "--auth", "a:b", "--destination", "g.node")
    assert done.code == 1
    assert "connector: cannot connect to ws://127.0.0.1:9: " in done.err
    assert "refused" in done.err


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"--url": "http://x"}, "ws://host:port"),
        ({"--url": "ws://user:word@x"}, "ws://host:port"),
        ({"--url": "ws://a..b:1"}, "--url"),
        ({"--url": "ws://x:99999"}, "--url"),
        ({"--auth": "no-colon"}, "USER:TOKEN"),
        ({"--destination": "nowhere"}, "is not an ILP address"),
        ({"--amount": "-1"}, "amount"),
        ({"--amount": str(2**64)}, "amount"),
        ({"--count": "0"}, "count"),
        ({"--expiry": "0"}, "expiry"),
        ({"--expiry": "nan"}, "expiry"),
        ({"--secret": "abc"}, "hex"),
        ({"--data": "x" * 33_000}, "octets"),
        ({"--colour": "blue"}, "No such option"),
    ],
)
def test_send_refuses_what_makes_no_sense_with_exit_code_2(
    changed: dict[str, str], said: str
) -> None:
    options = {"--url": "ws://127.0.0.1:9", "--auth": "a:b", "--destination": "g.x", **changed}
    done = command("send", *[part for option in options.items() for part in option])
    assert done.code == 2, done.err
    assert said in done.err


# --- looking at a node


def test_status_shows_the_node_at_a_glance(node: Node) -> None:
    body = node.show("status", "--json").json
    assert (body["nodeId"], body["ilpAddress"], body["status"]) == ("node", "g.node", "healthy")
    assert body["accounting"] == {
        "state": "available", "backend": "embedded", "spooled": 0, "generation": None,
    }  # fmt: skip
    assert body["peersTotal"] == 2
    table = node.show("status")
    assert table.code == 0
    assert "g.node" in table.out
    assert "available (embedded)" in table.out
    assert "healthy, but no peer is connected" in table.out


def test_peers_routes_and_balances_are_tables_or_json(node: Node) -> None:
    peers = node.show("peers", "--json").json["items"]
    assert {item["peerId"]: item["connected"] for item in peers} == {"alice": False, "bob": False}
    routes = node.show("routes", "--json").json["items"]
    assert {(item["prefix"], item["nextHop"], item["source"]) for item in routes} == {
        ("g.bob", "bob", "config"), ("g.node", "", "local"),
    }  # fmt: skip
    accounts = node.show("balances", "--json").json["items"]
    assert accounts[0]["creditLimit"] == "5000"
    for name, words in (
        ("peers", "alice"), ("routes", "(this node)"), ("balances", "USD/9"),
    ):  # fmt: skip
        done = node.show(name)
        assert done.code == 0
        assert words in done.out


def test_packets_shows_how_the_last_ones_ended(node: Node) -> None:
    assert node.send("g.node", "--amount", "77").code == 0
    assert node.send("g.nowhere", "--amount", "78").code == 1
    newest, before = node.show("packets", "--json", "--count", "2").json["items"]
    assert (newest["type"], newest["amount"], newest["code"]) == ("PACKET_REJECTED", "78", "F02")
    assert (before["type"], before["amount"], before["peerId"]) == (
        "PACKET_FULFILLED", "77", "alice",
    )  # fmt: skip
    table = node.show("packets", "--peer", "alice")
    assert table.code == 0
    assert "no route found" in table.out
    assert newest["packetId"] in table.out, "the API takes whole ids only"
    assert "(this node)" in table.out
    of_bob = node.show("packets", "--peer", "bob", "--json").json["items"]
    assert all("bob" in (item["peerId"], item["nextHop"]) for item in of_bob)


def test_packets_of_a_peer_that_is_none_are_not_just_none(node: Node) -> None:
    for follow in ((), ("--follow",)):
        done = node.show("packets", "--peer", "nobody", *follow)
        said = "connector: no such peer nobody: `connector peers` lists them\n"
        assert (done.code, done.err) == (2, said)


def test_options_of_packets_that_exclude_each_other_are_refused(node: Node) -> None:
    for other in (("--watch",), ("--count", "5")):
        done = node.show("packets", "--follow", *other)
        assert done.code == 2
        assert f"--follow and {other[0]} exclude each other" in done.err


@pytest.mark.parametrize("width", ["60", "80"])
def test_tables_split_no_figure_in_a_narrow_terminal(node: Node, width: str) -> None:
    assert node.send("g.node", "--amount", "123456").code == 1  # above alice's limit
    newest = node.show("packets", "--json", "--count", "1").json["items"][0]
    for name, words in (
        ("packets", {newest["packetId"], "123456"}),
        ("balances", {node.nets()["alice"], "balance", "still"}),
        ("peers", {"alice", "down"}),
        ("check-config", {"BTP_PEER_ALICE_CREDIT_LIMIT", "5000"}),
    ):
        env = {**environment(Path("unused")), "COLUMNS": width}
        arguments = () if name == "check-config" else ("--url", node.url)
        done = command(name, *arguments, env=env)
        assert done.code == 0, done.err
        assert words <= set(re.findall(r"[^\s│┃:]+", done.out)), done.out
        assert max(map(len, done.out.splitlines())) <= int(width)


def test_watched_json_is_printed_again_and_again_one_a_line(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[None] = []

    def wait() -> None:
        waits.append(None)
        if len(waits) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(SystemSleep, "one_second", staticmethod(wait))
    for name in ("balances", "status", "packets"):
        waits.clear()
        done = node.show(name, "--watch", "--json")
        assert (done.code, done.err) == (130, "")
        lines = [json.loads(line) for line in done.out.splitlines()]
        assert len(lines) == 3
        waits.clear()
        assert node.show(name, "--watch").code == 130


def test_packets_are_followed_until_nobody_reads_them(node: Node) -> None:
    """As in `packets --follow | head -1`."""
    with subprocess.Popen(
        [sys.executable, "-m", "connector", "packets", "--follow", "--url", node.url],
        env=INHERITED,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as following:
        assert following.stdout is not None
        assert following.stderr is not None
        assert node.send("g.node", "--amount", "0").code == 0
        assert following.stdout.readline()
        following.stdout.close()
        while following.poll() is None:
            assert node.send("g.node", "--amount", "0").code == 0
        assert (following.returncode, following.stderr.read()) == (0, "")


def test_packets_are_followed_until_ctrl_c(node: Node) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "connector", "packets", "--follow", "--json", "--url", node.url],
        env=INHERITED,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as following:
        assert following.stdout is not None
        patience = threading.Timer(PATIENCE_SECONDS, following.kill)
        patience.start()
        assert node.send("g.node", "--amount", "43").code == 0
        for line in following.stdout:
            event = json.loads(line)
            assert event["type"] in ("PACKET_FULFILLED", "PACKET_REJECTED")
            if event["amount"] == "43":
                break
        following.send_signal(signal.SIGINT)
        assert following.wait(PATIENCE_SECONDS) == 130
        patience.cancel()
        assert following.stderr is not None
        assert following.stderr.read() == ""


@pytest.mark.parametrize("name", ["status", "peers", "routes", "balances", "packets"])
@pytest.mark.parametrize(
    ("url", "code", "said"),
    [
        ("http://127.0.0.1:9", 1, "is the node running?"),
        ("127.0.0.1:9", 2, "is not the URL of a node, such as http://127.0.0.1:8080"),
    ],
)
def test_a_node_that_does_not_answer_is_said_so(name: str, url: str, code: int, said: str) -> None:
    done = command(name, "--url", url)
    assert done.code == code
    assert said in done.err


def test_a_wrong_port_or_scheme_is_told(node: Node) -> None:
    btp = node.btp.replace("ws://", "http://")
    for arguments in (("status",), ("packets", "--follow")):
        done = command(*arguments, "--url", btp)
        assert done.code == 1
        assert f"{btp} speaks WebSocket only: that is a node's BTP port" in done.err
    https = node.url.replace("http://", "https://")
    done = command("status", "--url", https)
    assert (
        done.err == f"connector: {https} does not answer, {node.url} does: pass --url {node.url}\n"
    )


def test_an_empty_table_is_words(tmp_path: Path) -> None:
    alone = {**INHERITED, "HTTP_PORT": "0", "BTP_SERVER_PORT": "0", "DATA_DIR": str(tmp_path)}
    with Node({**alone, "ADMIN_API_KEY": ADMIN_KEY}, "run") as node:
        assert node.show("peers").out == "no peers\n"
        assert node.show("balances").out == "no accounts\n"
        assert node.show("packets").out == "no packets\n"
        assert node.show("settle", "--key", ADMIN_KEY).out == "no settlements\n"
        node.stop()


def test_the_url_may_come_from_the_environment(node: Node) -> None:
    assert command("status", env={"CONNECTOR_URL": node.url}).code == 0


def test_healthcheck_is_for_the_local_daemon(node: Node, folder: Path) -> None:
    port = node.url.rsplit(":", 1)[1]
    done = command("healthcheck", env=environment(folder, HTTP_PORT=port))
    assert (done.code, done.out.strip()) == (0, "ready")
    done = command("healthcheck", env=environment(folder, HTTP_PORT="9"))
    assert done.code == 1
    assert "is the node running?" in done.err


def test_healthcheck_asks_any_node_by_url(node: Node) -> None:
    done = command("healthcheck", "--url", node.url, env={"HTTP_PORT": "9"})
    assert (done.code, done.out.strip()) == (0, "ready")
    assert command("healthcheck", "--url", "http://127.0.0.1:9").code == 1
    assert command("healthcheck", "--url", "nonsense").code == 2


def test_healthcheck_does_not_wait_for_a_process_that_has_ended(tmp_path: Path) -> None:
    env = environment(tmp_path, HTTP_PORT=str(free_port()))
    with Node(env) as node:
        ready = command("healthcheck", "--wait", str(WAIT_SECONDS_MAX), env=env)
        assert (ready.code, ready.out.strip()) == (0, "ready")
        node.stop()
    began_s = monotonic()
    done = command("healthcheck", "--wait", str(WAIT_SECONDS_MAX), env=env)
    assert done.code == 1
    assert "is the node running?" in done.err
    assert monotonic() - began_s < WAIT_SECONDS_MAX / 2
    fast = command("healthcheck", env={**env, WAIT_VARIABLE: str(WAIT_SECONDS_MAX)})
    assert fast.code == 1
    assert "No process of it is to be seen" in fast.err


# --- configuration and books


def test_check_config_shows_values_and_sources_and_no_secrets(tmp_path: Path) -> None:
    config = tmp_path / "node.yaml"
    config.write_text("feeBasisPoints: 7\n")
    env = environment(tmp_path, CONFIG_FILE=str(config))
    rows = {row["name"]: row for row in command("check-config", "--json", env=env).json}
    assert rows["NODE_ID"] == {"name": "NODE_ID", "value": "node", "source": "NODE_ID"}
    assert rows["FEE_BASIS_POINTS"]["value"] == "7"
    assert rows["FEE_BASIS_POINTS"]["source"] == f"{config}: feeBasisPoints"
    assert rows["MAX_HOLD_MS"]["source"] == "default"
    for name in ("ADMIN_API_KEY", "RECEIVER_SECRET", "BTP_PEER_ALICE_SECRET"):
        assert rows[name]["value"] == "[redacted]"
    done = command("check-config", env=env)
    assert done.code == 0
    assert "BTP_PEER_ALICE_CREDIT_LIMIT" in done.out
    assert "MAX_HOLD_MS" not in done.out
    assert re.search(r"\d+ settings have their defaults: --all\n$", done.out)
    assert "MAX_HOLD_MS" in command("check-config", "--all", env=env).out
    assert RECEIVER_SECRET not in done.out
    assert not (tmp_path / "ledger.db").exists(), "it only looks"
    done = command("check-config", env={**env, "HTTP_PORT": "x"})
    assert done.code == 2
    assert "HTTP_PORT" in done.err


def test_check_config_says_what_has_no_effect_and_that_there_is_no_peer(tmp_path: Path) -> None:
    env = {name: one for name, one in environment(tmp_path).items() if "PEER" not in name}
    done = command("check-config", env={**env, "WALLETS": "shop"})
    assert done.code == 0
    assert "note: WALLETS has no effect without PAY_PORT\n" in done.out
    assert "note: no peer is configured" in done.out
    # Of a configuration that is complete it says only what is left open on purpose.
    said = command("check-config", env=environment(tmp_path)).out
    assert [line for line in said.splitlines() if line.startswith("note:")] == [
        (
            "note: what alice, bob may announce is not bounded: a longer prefix goes before a configured "
            "route such as g.bob=bob; RECEIVE_PREFIXES bounds it, RECEIVE_ROUTES=false takes nothing"
        )
    ]


def test_audit_is_fine_beside_a_running_node_and_finds_a_planted_difference(tmp_path: Path) -> None:
    env = environment(tmp_path)
    with Node(env, "run") as node:
        assert node.send("g.node", "--count", "3").code == 0
        running = command("audit", "--json", env=env)
        assert running.code == 0
        assert running.json["ok"]
        node.stop()
    done = command("audit", env=env)
    assert done.code == 0
    assert done.out.endswith("audit: ok\n")
    assert "asset USD/9: debits = credits" in done.out
    assert "0x" not in done.out
    others = command("audit", "--nodes", "alice,node,bob", env=env)
    assert others.code == 2
    assert "alice, bob are not in this ledger: an embedded ledger" in others.err
    assert others.out == ""
    assert unread("audit", env=env) == (0, "")
    with sqlite3.connect(tmp_path / "ledger.db") as connection:
        (account,) = (
            connection.execute(
                "SELECT id FROM account WHERE debits_posted = '3000' AND code = 1 LIMIT 1"
            ).fetchone()
            or connection.execute(
                "SELECT id FROM account WHERE debits_posted != '0' LIMIT 1"
            ).fetchone()
        )
        connection.execute("UPDATE account SET debits_posted = '2999' WHERE id = ?", (account,))
    connection.close()
    done = command("audit", env=env)
    assert done.code == 1
    assert "audit: FAILED" in done.out
    assert "FAIL" in done.out
    report = command("audit", "--json", env=env)
    assert report.code == 1
    wrong = {check["name"] for check in report.json["checks"] if not check["ok"]}
    assert "journal replays to these balances" in wrong
    assert any("debits = credits" in name for name in wrong)


def test_audit_of_nothing_says_so(tmp_path: Path) -> None:
    done = command("audit", env=environment(tmp_path / "none"))
    assert done.code == 2
    assert "ledger.db: there is no ledger" in done.err
    assert "set DATA_DIR, NODE_ID" in done.err
    assert not (tmp_path / "none").exists(), "it only looks"
    done = command("audit", env=environment(tmp_path, LEDGER="memory"))
    assert done.code == 2
    assert "LEDGER=memory" in done.err


def test_audit_of_a_damaged_ledger_says_so(tmp_path: Path) -> None:
    garbage(tmp_path)
    done = command("audit", env=environment(tmp_path))
    assert done.code == 2
    assert "ledger.db is not a usable ledger" in done.err


# --- the rest


def test_the_demo_pays_through_a_line_and_its_books_add_up(tmp_path: Path) -> None:
    """Whatever the environment says about the node of its user."""
    noise = {"BTP_PEER_X_SECRET": "hunter2", "NODE_ID": "mine", "ROUTES": "=x", "LEDGER": "memory"}
    done = command(
        "demo", "--peers", "3", "--packets", "50", "--json", "--data-dir", str(tmp_path / "demo"),
        env=noise,
    )  # fmt: skip
    assert done.code == 0, done.err
    body = done.json
    assert (body["ok"], body["packets"], body["fulfilled"]) == (True, 50, 50)
    assert body["mirrorFaults"] == []
    assert [audit["ok"] for audit in body["audits"]] == [True] * 3
    last = body["audits"][2]["peers"]
    assert [(peer["peerId"], peer["netBalance"]) for peer in last] == [("peer2", "50000")]
    again = command("demo", "--peers", "2", "--data-dir", str(tmp_path / "demo"))
    assert again.code == 1
    assert "choose another --data-dir" in again.err


@pytest.mark.parametrize("name", ["file", "/proc/none"])
def test_the_demo_names_a_folder_that_cannot_be_used(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("")
    folder = str(tmp_path / name)
    done = command("demo", "--peers", "2", "--data-dir", folder)
    assert done.code == 2
    (line,) = done.err.splitlines()
    assert line.startswith(f"connector: --data-dir {folder} cannot be used: ")


@pytest.mark.tigerbeetle
def test_the_demo_says_at_once_that_there_is_no_cluster() -> None:
    cluster = {"TIGERBEETLE_CLUSTER_ID": "0", "TIGERBEETLE_REPLICAS": "127.0.0.1:9"}
    done = command("demo", "--peers", "2", env=cluster)
    assert done.code == 1
    (line,) = done.err.splitlines()
    assert "TIGERBEETLE_REPLICAS: 127.0.0.1:9: nothing listens there" in line


def test_an_interrupted_demo_stops_its_nodes_and_says_what_was_sent(tmp_path: Path) -> None:
    with _long_demo(tmp_path / "demo") as running:
        log = tmp_path / "demo" / "peer1" / "connector.log"
        _wait_for('"peerId": ?"sender"', log, running)
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=PATIENCE_SECONDS)
    assert (running.returncode, err) == (130, "")
    body = json.loads(out)
    assert (body["interrupted"], body["ok"], body["audits"]) == (True, False, [])
    assert body["fulfilled"] <= body["sent"] < 10_000_000
    assert "connector_stopped" in log.read_text()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_demo_that_is_stopped_while_its_nodes_start_leaves_nothing(
    tmp_path: Path, number: int
) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "connector", "demo", "--peers", "2", "--json"],
        env={**INHERITED, "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        while not list(tmp_path.glob("ilp-demo-*/peer*/connector.log")):
            with pytest.raises(subprocess.TimeoutExpired):
                running.wait(0.05)
        running.send_signal(number)
        out, err = running.communicate(timeout=PATIENCE_SECONDS)
    assert (running.returncode, out, err) == (128 + number, "", "")
    assert list(tmp_path.iterdir()) == []


def test_a_killed_demo_leaves_no_node_behind(tmp_path: Path) -> None:
    with _long_demo(tmp_path / "demo") as running:
        logs = [tmp_path / "demo" / f"peer{number}" / "connector.log" for number in (1, 2)]
        _wait_for('"peerId": ?"sender"', logs[0], running)
        running.kill()
    for log in logs:
        _wait_for("connector_stopped", log)


def _long_demo(folder: Path) -> subprocess.Popen[str]:
    """A demo of two nodes that sends for longer than a test lasts."""
    return subprocess.Popen(
        [
            sys.executable, "-m", "connector", "demo", "--peers", "2", "--packets", "10000000",
            "--data-dir", str(folder), "--json",
        ],
        env=INHERITED,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip


def _wait_for(pattern: str, log: Path, running: subprocess.Popen[str] | None = None) -> None:
    """Return when a log has `pattern`; `running` must not end before that."""
    until_s = monotonic() + PATIENCE_SECONDS
    while not log.exists() or not re.search(pattern, log.read_text()):
        assert monotonic() < until_s, f"{pattern} is not in {log}"
        if running is not None:
            with pytest.raises(subprocess.TimeoutExpired):
                running.wait(0.05)
        else:
            sleep(0.05)


@pytest.mark.parametrize("given", [os.devnull, __file__])
def test_run_until_eof_needs_a_pipe(tmp_path: Path, given: str) -> None:
    with Path(given).open("rb") as file:
        done = subprocess.run(
            [sys.executable, "-m", "connector", "run", "--until-eof"],
            env=environment(tmp_path), stdin=file, capture_output=True, text=True, check=False,
            timeout=PATIENCE_SECONDS,
        )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("connector: --until-eof: standard input ")


def test_compose_names_the_number_that_was_asked_for() -> None:
    done = command("compose", "--topology", "ring", "--nodes", "500")
    assert (done.code, done.out) == (2, "")
    assert "has 3 to 200 nodes, not 500" in done.err


def test_the_process_exits_with_the_code_of_its_command() -> None:
    """As a module; in-process runs show the same for every other command."""
    assert process("check-config").code == 0
    wrong = process("send", "--colour", "blue")
    assert wrong.code == 2
    assert "No such option" in wrong.err
    away = process("status", "--url", "http://127.0.0.1:9")
    assert away.code == 1
    assert "is the node running?" in away.err


def test_the_console_script_runs_the_same_commands() -> None:
    script = Path(sys.executable).with_name("ilp-connector")
    if not script.exists():
        pytest.skip("the package is not installed beside this interpreter")
    version = subprocess.run(
        [str(script), "--version"], env=INHERITED, capture_output=True, text=True, check=True,
        timeout=PATIENCE_SECONDS,
    )  # fmt: skip
    assert version.stdout == process("--version").out


def test_help_lists_the_commands_and_version_the_version() -> None:
    done = command("--help")
    assert done.code == 0
    for name in (
        "run", "demo", "send", "compose", "status", "peers", "routes", "balances", "audit", "check-config",
        "healthcheck",
    ):  # fmt: skip
        assert re.search(rf"\b{name}\b", done.out), name
    version = command("--version")
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*\n", version.out)
    unknown = command("nonsense")
    assert unknown.code == 2


# --- exit codes: one meaning in all commands (README)


OK, FAILED, WRONG = 0, 1, 2


@pytest.mark.parametrize(
    ("code", "arguments"),
    [
        # Done.
        (OK, ["status"]),
        (OK, ["settle"]),
        (OK, ["explain", "g.node"]),
        (OK, ["ping", "g.node", "--count", "1"]),
        (OK, ["trace", "g.node"]),
        # It did not work: the packet was rejected, nobody answers, nothing is due.
        (FAILED, ["explain", "g.nowhere"]),
        (FAILED, ["ping", "g.nowhere", "--count", "1"]),
        (FAILED, ["trace", "g.nowhere"]),
        (FAILED, ["status", "--url", "http://127.0.0.1:9"]),
        (FAILED, ["pay", "http://127.0.0.1:9/pay/x", "--amount", "5"]),
        (FAILED, ["settle", "bob", "--confirm"]),
        # The command line, a name or a key is wrong.
        (WRONG, ["explain", "g.node", "--from", "nobody"]),
        (WRONG, ["packets", "--peer", "nobody"]),
        (WRONG, ["settle", "nobody", "--pay"]),
        (WRONG, ["settle", "bob", "--amount", "5"]),
        (WRONG, ["settle", "--key", "wrong-key"]),
        (WRONG, ["ping", "g.node", "--key", "wrong-key"]),
        (WRONG, ["trace", "g.node", "--key", "wrong-key"]),
        (WRONG, ["pay", "http://127.0.0.1:9/pay/x", "--amount", "5", "--key", "wrong-key"]),
        (WRONG, ["pay", "nobody", "--amount", "5"]),
        (WRONG, ["pay", "$x.example", "--amount", "5", "--max-slippage", "2"]),
        (WRONG, ["status", "--url", "127.0.0.1"]),
        (WRONG, ["ping", "no address"]),
    ],
)  # fmt: skip
def test_an_exit_code_has_one_meaning_in_all_commands(
    node: Node, code: int, arguments: list[str]
) -> None:
    env = {"CONNECTOR_URL": node.url, "ADMIN_API_KEY": ADMIN_KEY}
    done = command(*arguments, env=env)
    assert done.code == code, done.err + done.out
    if code == WRONG:
        assert done.out == ""
        assert done.err


@pytest.mark.parametrize(
    ("code", "name", "change"),
    [
        (OK, "check-config", {}),
        (WRONG, "check-config", {"HTTP_PORT": "x"}),
        (WRONG, "run", {"HTTP_PORT": "x"}),
        (WRONG, "audit", {"HTTP_PORT": "x"}),
        (WRONG, "healthcheck", {"HTTP_PORT": "x"}),
        (WRONG, "check-config", {"BTP_PEER_BOB_SECRET_FILE": "/nope", "BTP_PEER_BOB_SECRET": None}),
        (WRONG, "check-config", {"BTP_TLS_CERT": "/nope", "BTP_TLS_KEY": "/nope"}),
        (WRONG, "run", {"BTP_TLS_CERT": "/nope", "BTP_TLS_KEY": "/nope"}),
        (WRONG, "check-config", {"TIGERBEETLE_CLUSTER_ID": "5"}),
        (WRONG, "run", {"TIGERBEETLE_CLUSTER_ID": "5"}),
        (WRONG, "run", {"TIGERBEETLE_REPLICAS": "127.0.0.1:9"}),
        (WRONG, "audit", {"TIGERBEETLE_REPLICAS": "127.0.0.1:9"}),
        (WRONG, "run", {"DATA_DIR": "/proc"}),
        (WRONG, "check-config", {"DATA_DIR": "/proc"}),
        (WRONG, "audit", {}),
        (FAILED, "healthcheck", {"HTTP_PORT": "9"}),
    ],
)
def test_what_is_wrong_with_a_configuration_ends_every_command_with_2(
    tmp_path: Path, code: int, name: str, change: dict[str, str | None]
) -> None:
    env = {**environment(tmp_path / "none", LOG_LEVEL="error"), **change}
    done = command(name, env={key: one for key, one in env.items() if one is not None})
    assert done.code == code, done.err
    if code == WRONG:
        assert done.err.startswith("connector: the configuration cannot be used:\n  - ")
        assert not (tmp_path / "none").exists()


def test_all_ports_that_are_taken_are_named_and_no_books_are_left(tmp_path: Path) -> None:
    names = ("BTP_SERVER_PORT", "HTTP_PORT", "ILP_HTTP_PORT", "PAY_PORT")
    with contextlib.ExitStack() as stack:
        others = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in names]
        ports = {name: str(one.getsockname()[1]) for name, one in zip(names, others, strict=True)}
        env = environment(tmp_path / "none", LOG_LEVEL="error", **ports)
        done = command("run", env=env)
    assert done.code == FAILED
    assert [line.split("=")[0].split()[-1] for line in done.err.splitlines()] == [*names]
    assert not (tmp_path / "none").exists(), "a node that did not start has made no books"


# --- what is told of URLs, times and routes


@pytest.mark.parametrize("name", ["send", "ping", "trace", "conformance"])
def test_a_scheme_that_the_btp_port_does_not_speak_is_told(node: Node, name: str) -> None:
    wss = node.btp.replace("ws://", "wss://")
    where = {"send": ["--destination", "g.node"], "conformance": []}.get(name, ["g.node"])
    done = command(name, *where, "--url", wss, "--auth", f"alice:{ALICE_TOKEN}")
    assert done.code == FAILED
    assert done.err.replace("\n", "") == (
        f"connector: {wss} does not answer, since it speaks no TLS: pass --url {node.btp}"
    )


@pytest.mark.parametrize("name", ["send", "ping", "trace", "conformance"])
def test_the_http_port_in_place_of_the_btp_port_is_told(node: Node, name: str) -> None:
    http = node.url.replace("http://", "ws://")
    where = {"send": ["--destination", "g.node"], "conformance": []}.get(name, ["g.node"])
    done = command(name, *where, "--url", http, "--auth", f"alice:{ALICE_TOKEN}")
    assert done.code == FAILED
    assert f"{http} is the HTTP port of a node, HTTP_PORT" in done.err


def test_where_tls_is_spoken_ws_is_told_to_be_wrong(
    tmp_path: Path, certificate: tuple[Path, Path]
) -> None:
    cert, key = certificate
    env = environment(tmp_path, BTP_TLS_CERT=str(cert), BTP_TLS_KEY=str(key))
    with Node(env, "run") as node:
        for name in ("send", "ping"):
            where = ["--destination", "g.node"] if name == "send" else ["g.node"]
            done = command(name, *where, "--url", node.btp, "--auth", f"alice:{ALICE_TOKEN}")
            assert done.code == FAILED
            wss = node.btp.replace("ws://", "wss://")
            assert f"it speaks TLS only: pass --url {wss}" in done.err
        node.stop()


def test_a_route_that_was_added_while_the_node_runs_is_not_of_its_configuration(
    tmp_path: Path,
) -> None:
    with Node(environment(tmp_path), "run") as node:
        for path, body in (
            ("routes", {"prefix": "g.far", "nextHop": "bob"}),
            ("peers", {"id": "carol", "secret": "of-carol", "routes": ["g.carol"]}),
        ):
            request = urllib.request.Request(
                f"{node.url}/admin/{path}",
                json.dumps(body).encode(),
                {"Content-Type": "application/json", "Authorization": f"Bearer {ADMIN_KEY}"},
            )
            with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS) as answer:
                assert answer.status == 201
        routes = node.show("routes", "--json").json["items"]
        assert {one["prefix"]: one["source"] for one in routes} == {
            "g.bob": "config", "g.far": "admin", "g.carol": "admin", "g.node": "local",
        }  # fmt: skip
        explained = command("explain", "g.far.x", env={"CONNECTOR_URL": node.url})
        assert "g.far to bob (admin)" in explained.out
        node.stop()
