"""`ping` and `trace` through real nodes: by a node's own API, and as a BTP client."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from connector.base.clock import SystemClock
from connector.tools.probe import Trace, prober, trace
from tests.support.admin import KEY, Operator
from tests.support.commands import Done, command
from tests.support.daemons import RunningNodes, until
from tests.support.inherited import INHERITED


class Line:
    """a - b - c - d, with a guest at a."""

    def __init__(self, network: RunningNodes) -> None:
        self.network = network
        a = network.daemons["a"].connector
        self.url = f"http://127.0.0.1:{a.http_port}"
        self.btp = ["--url", f"ws://127.0.0.1:{a.btp_port}", "--auth", "guest:of-the-guest"]
        self.api = ["--url", self.url, "--key", KEY]

    async def run(self, *arguments: str) -> Done:
        return await asyncio.to_thread(command, *arguments)


@pytest_asyncio.fixture
async def line(tmp_path: Path) -> AsyncIterator[Line]:
    async with RunningNodes(tmp_path) as network:
        await network.chain(
            "a", "b", "c", "d", node={"a": {"admin_api_key": KEY}, "c": {"message_window_ms": 700}}
        )
        guest = {"id": "guest", "secret": "of-the-guest"}
        answer = await Operator(network.daemons["a"]).ask("POST", "/admin/peers", guest)
        assert answer.status_code == 201
        yield Line(network)


@pytest.mark.parametrize("way", ["api", "btp"])
async def test_a_ping_is_fulfilled_by_the_connector_of_its_address(line: Line, way: str) -> None:
    options = getattr(line, way)
    done = await line.run("ping", "g.d", "--count", "3", "--interval", "0.01", "--json", *options)
    assert done.code == 0, done.err
    said = json.loads(done.out)
    assert (said["sent"], said["fulfilled"], said["rejected"]) == (3, 3, {})
    assert 0 < said["ms"]["min"] <= said["ms"]["p50"] <= said["ms"]["max"]
    assert line.network.daemons["d"].net("c") == 0
    done = await line.run("ping", "g.d", "--count", "1", "--amount", "7", *options)
    assert "1 of 1 fulfilled" in done.out
    assert line.network.daemons["d"].net("c") == 7


@pytest.mark.parametrize("way", ["api", "btp"])
async def test_a_ping_that_does_not_get_there_says_who_refused_it(line: Line, way: str) -> None:
    done = await line.run("ping", "g.c.nobody", "--count", "1", *getattr(line, way))
    assert done.code == 0, "below the address of c: it answers all pings"
    done = await line.run(
        "ping", "example.x", "--count", "2", "--interval", "0", *getattr(line, way)
    )
    assert done.code == 1
    assert "F02" in done.out
    assert "g.a" in done.out
    assert "0 of 2 fulfilled" in done.out


@pytest.mark.parametrize("way", ["api", "btp"])
async def test_a_trace_names_every_hop_in_order(line: Line, way: str) -> None:
    done = await line.run("trace", "g.d.shop", "--json", "--step", "200", *getattr(line, way))
    assert done.code == 0, done.err
    said = json.loads(done.out)
    assert said["reached"]
    assert [hop["address"] for hop in said["hops"]] == ["g.a", "g.b", "g.c", "g.d"]
    assert all(hop["ms"] > 0 for hop in said["hops"])
    assert said["end"]["code"] is None
    done = await line.run("trace", "g.d.shop", *getattr(line, way))
    assert done.out.index("g.a") < done.out.index("g.b") < done.out.index("g.c")
    assert "g.d.shop has answered" in done.out


async def test_a_trace_ends_where_the_packet_ends(line: Line) -> None:
    done = await line.run("trace", "example.x", "--json", *line.btp)
    assert done.code == 1
    said = json.loads(done.out)
    assert (said["reached"], said["end"]["code"], said["end"]["triggeredBy"]) == (
        False,
        "F02",
        "g.a",
    )


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--url", "ws://127.0.0.1:1", "--auth", "a:b"], "cannot connect"),
        (["--url", "http://127.0.0.1:1"], "does not answer"),
        (["--url", "ws://127.0.0.1:1"], "needs --auth"),
        (["--url", "ftp://127.0.0.1:1"], "must be http://"),
    ],
)
def test_what_cannot_be_asked_is_said(options: list[str], says: str) -> None:
    for name in ("ping", "trace"):
        done = command(name, "g.d", *options)
        assert done.code in (1, 2)
        assert says in done.err


async def test_a_wrong_key_and_a_wrong_token_are_said(line: Line) -> None:
    done = await line.run("ping", "g.d", "--url", line.url, "--key", "wrong")
    assert done.code == 2
    assert "refuses this key: pass --key" in done.err
    done = await line.run("trace", "g.d", *line.btp[:3], "guest:wrong")
    assert done.code == 2
    assert "the log-in is refused: check --auth USER:TOKEN" in done.err


async def test_what_is_stopped_gives_what_it_has(line: Line) -> None:
    stopped = asyncio.Event()
    seen: list[Any] = []

    def after_two(now: Trace) -> None:
        seen.append(now.probes)
        if now.probes == 2:
            stopped.set()

    async with prober(line.btp[1], None, line.btp[3], SystemClock()) as one:
        found = await trace(
            one, "g.d", amount=0, step_ms=200, expiry_ms_max=30_000, stopped=stopped,
            on_progress=after_two,
        )  # fmt: skip
    assert seen == [1, 2]
    assert found.interrupted
    assert [hop.address for hop in found.hops] == ["g.a"]
    assert found.as_json()["interrupted"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("ping", "--count", "1000", "--interval", "0.05"),
        ("trace", "--step", "10"),
        ("conformance", "--only", "log-in-time"),
    ],
    ids=lambda arguments: arguments[0],
)
async def test_ctrl_c_ends_a_command_with_130_and_what_it_has(
    line: Line, arguments: tuple[str, ...]
) -> None:
    name, *options = arguments
    to = [] if name == "conformance" else ["g.d"]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "connector", name, *to, *options, *line.btp, "--json",
        env=dict(INHERITED), stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    a = line.network.daemons["a"].connector
    guest = a.peers["guest"].counters
    if name == "conformance":
        await line.network.daemons["a"].linked(
            "guest"
        )  # that the account is right is looked at first
    else:
        await until(lambda: guest.prepares_in >= 2)
    process.send_signal(signal.SIGINT)
    assert process.stdout is not None
    said = json.loads(await process.stdout.read())
    assert await process.wait() == 130
    assert said["interrupted"]
    if name != "conformance":
        assert said.get("sent", said.get("probes")) >= 1
