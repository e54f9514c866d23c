"""The log of running nodes: what is in it, by the API, by the command, and after kill -9."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import signal
import subprocess
import sys
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.test_commands import ADMIN_KEY, Node, environment
from tests.support.admin import KEY, Operator
from tests.support.commands import Done, command
from tests.support.daemons import RunningNodes
from tests.support.inherited import INHERITED
from tests.support.patience import PATIENCE_SECONDS
from tests.support.ports import free_port


@pytest.fixture
async def network(tmp_path: Path) -> AsyncIterator[RunningNodes]:
    async with RunningNodes(tmp_path) as network:
        yield network


async def pair(network: RunningNodes) -> Operator:
    a, _ = await network.chain("a", "b", node={"a": {"admin_api_key": KEY}})
    return Operator(a)


async def run(a: Operator, *arguments: str) -> Done:
    """`log` of node a."""
    env = {"CONNECTOR_URL": f"http://127.0.0.1:{a.daemon.connector.http_port}"}
    return await asyncio.to_thread(lambda: command("log", *arguments, env=env))


async def said(a: Operator, query: str = "") -> list[str]:
    return [item["said"] for item in (await a.get(f"/api/v1/log{query}"))["items"]]


async def test_what_an_operator_changes_is_kept_with_both_values_and_over_restarts(
    network: RunningNodes,
) -> None:
    a = await pair(network)
    assert (await a.ask("PUT", "/admin/peers/b/limits", {"creditLimit": "7"})).status_code == 200
    secret = {"secret": "another-one-of-both"}
    assert (await a.ask("PATCH", "/admin/peers/b", secret)).status_code == 200
    await a.ask("POST", "/admin/routes", {"prefix": "g.far", "nextHop": "b"})
    assert (await a.ask("PATCH", "/admin/peers/b", {"assetScale": 3})).status_code == 409
    expected = [
        "peer.edit b: peer b has its account in USD/9: delete it and add it again to have one in USD/3, by key 127.0.0.1",
        "route.add g.far=b, by key 127.0.0.1",
        "peer.rotate b (secret: (secret) -> (secret)), by key 127.0.0.1",
        "peer.limits b (creditLimit: 1 USD -> 0.000000007 USD), by key 127.0.0.1",
    ]
    assert await said(a, "?type=operator") == expected
    a = Operator(await network.restart("a"))
    assert await said(a, "?type=operator&peer=b") == expected
    page = await a.get("/api/v1/log?type=node")
    assert [item["type"] for item in page["items"]] == [
        "NODE_STARTED", "NODE_STOPPED", "NODE_STARTED",
    ]  # fmt: skip
    assert (page["fault"], page["notKept"]) == ("", 0)


async def test_links_settlements_and_alerts_are_in_it(network: RunningNodes) -> None:
    a = await pair(network)
    await network.daemons["b"].connector.send("g.a", 500)
    paid = await a.ask(
        "POST", "/admin/accounts/b/settlements", {"direction": "incoming", "amount": "200"}
    )
    assert paid.status_code == 201, paid.text
    await network.restart("b")
    a.daemon.connector.core.log.warning("clock_jumped", seconds=5)
    everything = await said(a, "?peer=b")
    assert any(one.startswith("b is connected") for one in everything)
    assert any(one.startswith("b is disconnected") for one in everything)
    assert "incoming settlement with b completed: 200 USD/9" in everything
    assert await said(a, "?type=alert") == ['clock_jumped: {"seconds":5}']


async def test_pages_filters_and_exports_agree(network: RunningNodes) -> None:
    a = await pair(network)
    for number in range(25):
        await a.ask("PUT", "/admin/peers/b/limits", {"creditLimit": str(1000 + number)})
    seen: list[dict[str, Any]] = []
    path = "/api/v1/log?limit=10&type=operator"
    page = await a.get(path)
    while True:
        seen += page["items"]
        if page["next"] is None:
            break
        page = await a.get(f"{path}&cursor={page['next']}")
    assert len(seen) == 25
    numbers = [item["seq"] for item in seen]
    assert numbers == sorted(numbers, reverse=True)
    after = await a.get(f"/api/v1/log?type=operator&after={numbers[5]}")
    assert [item["seq"] for item in after["items"]] == numbers[4::-1]
    assert int(after["lastSeq"]) >= numbers[0]
    since, until = seen[9]["timestamp"], seen[4]["timestamp"]
    between = await a.get(f"/api/v1/log?type=operator&since={since}&until={until}")
    assert {item["seq"] for item in between["items"]} >= set(numbers[5:9])
    assert len(await said(a, "?text=0.000001024%20USD")) == 1
    lines = (await a.ask("GET", "/api/v1/log?format=jsonl&type=operator")).text
    assert [json.loads(line) for line in lines.splitlines()] == seen[::-1]
    answer = await a.ask("GET", "/api/v1/log?format=csv&type=operator")
    assert answer.headers["content-type"].startswith("text/csv")
    assert "log.csv" in answer.headers["content-disposition"]
    rows = list(csv.DictReader(io.StringIO(answer.text, newline="")))
    assert [int(row["seq"]) for row in rows] == numbers[::-1]
    exported = await run(a, "--export", "csv", "--type", "operator")
    assert list(csv.DictReader(io.StringIO(exported.out, newline=""))) == rows
    exported = await run(a, "--export", "jsonl", "--type", "operator", "--text", "-> 0.00000101")
    assert len(exported.out.splitlines()) == 10


@pytest.mark.parametrize(
    "query",
    ["type=nonsense", "since=yesterday", "until=x", "format=xml", "after=1&text=x", "colour=red",
     "cursor=-1", "type="],
)  # fmt: skip
async def test_a_wrong_filter_is_named(network: RunningNodes, query: str) -> None:
    a = Operator(await network.add("a", []))
    answer = await a.ask("GET", f"/api/v1/log?{query}")
    assert answer.status_code == 422
    assert query.rsplit("&", maxsplit=1)[-1].split("=", maxsplit=1)[0] in answer.json()["error"]


async def test_off_loopback_it_needs_a_key(network: RunningNodes) -> None:
    a = Operator(await network.add("a", [], admin_api_key=KEY, http_host="0.0.0.0"))
    assert (await a.ask("GET", "/api/v1/log", key=None)).status_code == 401
    assert (await a.ask("GET", "/api/v1/log")).status_code == 200


async def test_a_log_that_is_off_says_so(network: RunningNodes) -> None:
    a = Operator(await network.add("a", [], event_log_max_bytes=0))
    assert (await a.get("/api/v1/log"))["fault"] == "EVENT_LOG_MAX_BYTES=0"
    done = await run(a)
    assert (done.code, done.out) == (0, "nothing in the log\n")
    assert "EVENT_LOG_MAX_BYTES=0" in done.err
    assert (await run(a, "--export", "csv")).code == 1


async def test_the_command_shows_the_newest_last(network: RunningNodes) -> None:
    a = await pair(network)
    await a.ask("PUT", "/admin/peers/b/limits", {"creditLimit": "7"})
    done = await run(a, "--since", "1h")
    assert done.code == 0
    *first, last = done.out.splitlines()
    assert any("  node        version " in line for line in first)
    assert "operator    peer.limits b (creditLimit: 1 USD -> 0.000000007 USD)" in last
    body = (await run(a, "--json", "--type", "link")).json
    assert {item["type"] for item in body["items"]} == {"PEER_CONNECTED"}
    assert len((await run(a, "--count", "1")).out.splitlines()) == 1
    assert (await run(a, "--until", "1w")).out == "nothing in the log\n"
    one = await run(a, "--text", "peer.limits")
    assert len(one.out.splitlines()) == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [(["--peer", "nobody"], "no such peer"), (["--type", "x"], "type is one of"),
     (["--since", "then"], "neither a time"), (["--export", "xml"], "csv or jsonl"),
     (["--export", "csv", "--json"], "--follow"), (["--follow", "--until", "1h"], "exclude")],
)  # fmt: skip
async def test_a_wrong_use_is_named(network: RunningNodes, options: list[str], said: str) -> None:
    a = Operator(await network.add("a", []))
    done = await run(a, *options)
    assert done.code == 2
    assert said in " ".join(done.err.split())


def test_an_action_that_was_answered_survives_kill_9_and_is_followed(tmp_path: Path) -> None:
    with Node(environment(tmp_path), "run") as node:
        request = urllib.request.Request(
            f"{node.url}/admin/peers/bob/limits",
            json.dumps({"creditLimit": "4321"}).encode(),
            {"Authorization": f"Bearer {ADMIN_KEY}", "Content-Type": "application/json"},
            method="PUT",
        )
        with urllib.request.urlopen(request) as answer:
            assert answer.status == 200
        node.process.send_signal(signal.SIGKILL)
        node.process.wait()
    with Node(environment(tmp_path), "run") as node:
        page = command("log", "--url", node.url, "--json").json
        types = [item["type"] for item in page["items"]]
        assert types.count("NODE_STARTED") == 2
        assert "NODE_STOPPED" not in types
        (action,) = [item for item in page["items"] if item["type"] == "ADMIN_ACTION"]
        assert action["detail"].endswith("-> 0.000004321 USD")
        node.stop()


def test_it_is_followed_over_a_restart_of_the_node(tmp_path: Path) -> None:
    env = environment(tmp_path, HTTP_PORT=str(free_port()))
    with Node(env, "run") as node:
        follower = subprocess.Popen(
            [sys.executable, "-m", "connector", "log", "--follow", "--json", "--type", "node",
             "--url", node.url],
            env=INHERITED, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert follower.stdout is not None
        assert follower.stderr is not None
        try:
            assert json.loads(follower.stdout.readline())["type"] == "NODE_STARTED"
            node.stop()
            assert "waiting for it" in follower.stderr.readline()
            with Node(env, "run") as again:
                assert json.loads(follower.stdout.readline())["type"] == "NODE_STOPPED"
                assert json.loads(follower.stdout.readline())["type"] == "NODE_STARTED"
                follower.send_signal(signal.SIGINT)
                assert follower.wait(PATIENCE_SECONDS) == 130
                again.stop()
        finally:
            follower.kill()
            follower.communicate()


async def test_routes_that_an_operator_adds_and_removes_have_him_as_their_cause(
    network: RunningNodes,
) -> None:
    a = await pair(network)
    await a.ask("POST", "/admin/routes", {"prefix": "g.far", "nextHop": "b"})
    await a.ask("POST", "/admin/peers", {"id": "c", "secret": "of-c", "routes": ["g.c"]})
    await a.ask("DELETE", "/admin/routes?prefix=g.far&nextHop=b")
    added = await a.events("ROUTE_ADDED", count=4)
    causes = {item["prefix"]: item["source"] for item in added}
    assert causes["g.far"] == "admin"
    assert causes["g.c"] == "admin"
    assert causes["g.b"] == "config"
    (removed,) = await a.events("ROUTE_REMOVED")
    assert (removed["prefix"], removed["source"]) == ("g.far", "admin")
    shown = (await a.get("/api/routes"))["items"]
    assert {item["prefix"]: item["source"] for item in shown}["g.c"] == "admin"
    a = Operator(await network.restart("a"))
    last = next(item for item in await a.events("ROUTE_ADDED") if item["prefix"] == "g.c")
    assert last["source"] == "admin", "after a restart too"
