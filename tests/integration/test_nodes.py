"""`--node`: commands ask the node of a name, with its key and no other."""

from __future__ import annotations

import asyncio
import io
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import typer

from connector.cli.main import ASK_NO_NODE, app
from tests.support.admin import KEY, Operator
from tests.support.commands import Done, command
from tests.support.daemons import RunningNodes

COMMANDS = typer.main.get_command(app)


@pytest.fixture
async def network(tmp_path: Path) -> AsyncIterator[RunningNodes]:
    async with RunningNodes(tmp_path) as network:
        yield network


class Shell:
    """An operator's, with nodes of his own."""

    def __init__(self, folder: Path) -> None:
        self.env = {"XDG_CONFIG_HOME": str(folder / "config")}

    async def run(self, *arguments: str, **env: str) -> Done:
        return await asyncio.to_thread(lambda: command(*arguments, env={**self.env, **env}))

    async def knows(self, name: str, operator: Operator, key: str = KEY) -> None:
        """Give a node a name, with its key in a file."""
        path = Path(self.env["XDG_CONFIG_HOME"]).with_name(f"key-of-{name}")
        path.write_text(key)
        path.chmod(0o600)
        url = f"http://127.0.0.1:{operator.daemon.connector.http_port}"
        done = await self.run("nodes", "add", name, "--url", url, "--key-file", str(path))
        assert done.code == 0, done.err
        assert key not in done.out + done.err


async def two(network: RunningNodes) -> tuple[Shell, Operator, Operator]:
    exposed = {"http_host": "0.0.0.0"}
    a, b = await network.chain(
        "a", "b",
        node={"a": {"admin_api_key": KEY, **exposed}, "b": {"admin_api_key": "key-of-node-b-only", **exposed}},
    )  # fmt: skip
    shell = Shell(network.folder)
    await shell.knows("hub", Operator(a))
    await shell.knows("b", Operator(b), "key-of-node-b-only")
    return shell, Operator(a), Operator(b)


async def test_commands_ask_the_node_of_a_name_with_its_key(network: RunningNodes) -> None:
    shell, a, _ = await two(network)
    for name, node_id in (("hub", "a"), ("b", "b")):
        done = await shell.run("--node", name, "status", "--json")
        assert (done.code, done.json["nodeId"]) == (0, node_id), done.err
        done = await shell.run("status", "--json", CONNECTOR_NODE=name)
        assert (done.code, done.json["nodeId"]) == (0, node_id), done.err
    # A key of the environment is not shown to a node that has a name.
    done = await shell.run("--node", "hub", "status", ADMIN_API_KEY="key-of-another-node")
    assert done.code == 0, done.err
    limits = ("limits", "b", "--credit-limit", "777", "--yes")
    assert (await shell.run("--node", "hub", *limits)).code == 0
    assert (await a.get("/admin/peers/b"))["creditLimit"] == "777"
    for one in (
        ("peers",), ("peers", "show", "b"), ("routes",), ("balances",), ("wallets",), ("packets",),
        ("received",), ("payments",), ("log",), ("settle",), ("audit",), ("healthcheck",),
        ("explain", "g.b"), ("ping", "g.b", "--count", "1"), ("peers", "reconnect", "b"),
    ):  # fmt: skip
        done = await shell.run("--node", "hub", *one)
        assert done.code == 0, (one, done.out, done.err)


async def test_a_name_and_a_url_exclude_each_other(network: RunningNodes) -> None:
    shell, _, b = await two(network)
    url = f"http://127.0.0.1:{b.daemon.connector.http_port}"
    for one in (("status",), ("explain", "g.b"), ("ping", "g.b"), ("audit",), ("healthcheck",)):
        done = await shell.run("--node", "hub", *one, "--url", url)
        assert done.code == 2
        assert "exclude each other" in done.err
    both = await shell.run("status", CONNECTOR_NODE="hub", CONNECTOR_URL=url)
    assert both.code == 2
    assert "keep one" in both.err
    # A default of the environment gives way, and its key stays at home: b would refuse it anyway.
    typed = await shell.run("status", "--url", url, CONNECTOR_NODE="hub")
    assert typed.code == 2
    assert "asks for a key" in typed.err
    typed = await shell.run(
        "status", "--url", url, "--json", CONNECTOR_NODE="hub", ADMIN_API_KEY="key-of-node-b-only"
    )
    assert typed.json["nodeId"] == "b"
    other = await shell.run("--node", "hub", "status", "--key", "wrong")
    assert other.code == 2
    assert "refuses this key" in other.err


async def test_what_is_wrong_with_a_name_is_said(tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    assert (await shell.run("nodes")).out.startswith("no nodes: ")
    unknown = await shell.run("--node", "hub", "status")
    assert (unknown.code, "no node is named hub" in unknown.err) == (2, True)
    for name in sorted(ASK_NO_NODE - {"nodes"}):
        done = await shell.run("--node", "hub", name)
        assert done.code == 2
        assert f"`{name}` asks no node" in done.err
    key = tmp_path / "key"
    key.write_text("key-of-hub")
    key.chmod(0o644)
    options = ("nodes", "add", "hub", "--url", "http://127.0.0.1:9", "--key-file", str(key))
    refused = await shell.run(*options)
    assert refused.code == 2
    assert f"chmod go= {key}" in refused.err
    key.chmod(0o600)
    assert (await shell.run(*options)).code == 0
    assert (await shell.run(*options)).code == 2
    assert (await shell.run(*options, "--force", "--json")).json == {
        "name": "hub", "url": "http://127.0.0.1:9", "keyFile": str(key),
    }  # fmt: skip
    listed = await shell.run("nodes", "--json")
    assert [one["name"] for one in listed.json["items"]] == ["hub"]
    assert "hub" in (await shell.run("nodes", "list")).out
    key.chmod(0o640)
    assert "readable by others" in (await shell.run("--node", "hub", "status")).err
    assert (await shell.run("nodes", "remove", "hub")).code == 0
    assert (await shell.run("nodes", "remove", "hub")).code == 2


def test_a_key_may_come_from_stdin_and_a_plain_way_is_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("key-of-hub\n"))
    done = command(
        "nodes", "add", "hub", "--url", "http://hub.example", "--key-file", "-",
        env={"XDG_CONFIG_HOME": str(tmp_path)},
    )  # fmt: skip
    assert done.code == 0
    assert "unencrypted" in done.err
    kept = tmp_path / "ilp-connector" / "keys" / "hub"
    assert (kept.read_text(), kept.stat().st_mode & 0o777) == ("key-of-hub\n", 0o600)


def leaves(found: Any, name: str = "") -> dict[str, Any]:
    """Every command by its words."""
    below = getattr(found, "commands", {})
    own = {name: found} if name else {}
    return own | {
        words: one
        for key, sub in below.items()
        for words, one in leaves(sub, f"{name} {key}".strip()).items()
    }


def test_every_command_that_asks_a_node_takes_its_url_from_the_name() -> None:
    without = {
        words
        for words, one in leaves(COMMANDS).items()
        if words.split()[0] not in ASK_NO_NODE
        and not any(each.name == "url" and each.callback is not None for each in one.params)
    }
    assert without == set()
