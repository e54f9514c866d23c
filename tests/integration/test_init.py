"""`init` on one machine, twice: what it writes is checked, started as it says, linked, and carries a packet."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from tests.support.commands import command
from tests.support.inherited import INHERITED
from tests.support.patience import PATIENCE_SECONDS
from tests.support.ports import free_ports


def made(folder: Path, *options: str) -> dict[str, Any]:
    done = command("init", str(folder), "--yes", "--json", *options)
    assert done.code == 0, done.err
    body: dict[str, Any] = done.json
    return body


def line_of(body: dict[str, Any], *words: str) -> str:
    """The step that has these words."""
    found: str = next(one for one in body["next"] if all(word in one for word in words))
    return found.strip()


def started_as_told(body: dict[str, Any]) -> list[str]:
    """The command of the first step, as this interpreter has it, in place of the shell."""
    told = line_of(body, "set -a").strip("()").removesuffix("connector run")
    return ["sh", "-c", f"{told} exec {shlex.quote(sys.executable)} -m connector run"]


@contextmanager
def running(body: dict[str, Any], folder: Path) -> Iterator[None]:
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(started_as_told(body), env=INHERITED, stderr=log, stdout=log)
        try:
            env = {"HTTP_PORT": body["url"].rsplit(":", 1)[1]}
            ready = command("healthcheck", "--wait", str(int(PATIENCE_SECONDS)), env=env)
            assert ready.code == 0, ready.err + (folder / "log").read_text()
            yield
            process.terminate()
            assert process.wait(PATIENCE_SECONDS) == 0
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    text = (folder / "log").read_text()
    assert '"level":"error"' not in text.replace(" ", "")
    for secret in (folder / "secrets").iterdir():
        assert secret.read_text().strip() not in text


def environment(folder: Path) -> dict[str, str]:
    """As the shell of the first step has it."""
    text = subprocess.run(
        ["sh", "-c", f"set -a; . {folder}/connector.env; env -0"],
        env={"PATH": os.environ["PATH"]}, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    found = dict(one.split("=", 1) for one in text.split("\0") if one)
    return {name: value for name, value in found.items() if name not in ("PATH", "PWD", "OLDPWD")}


def linked(url: str) -> None:
    """Wait until the only peer of a node is connected: bob dials."""
    ends_s = monotonic() + PATIENCE_SECONDS
    while not command("peers", "--url", url, "--json").json["items"][0]["connected"]:
        assert monotonic() < ends_s, "no link"
        sleep(0.01)


def test_two_nodes_made_by_init_link_and_pass_a_packet(tmp_path: Path) -> None:
    ports = [str(port) for port in free_ports(4)]
    a, b = tmp_path / "alice", tmp_path / "bob"
    alice = made(
        a, "--node-id", "alice", "--peer", "bob", "--route", "test.bob=bob",
        "--btp-port", ports[0], "--http-port", ports[1],
    )  # fmt: skip
    # What alice's operator is told to say to bob's, literally, but for the file of the secret.
    told = line_of(alice, "connector init FOLDER")
    words = shlex.split(told.replace("=FILE", f"={alice['peers'][0]['secretFile']}"))[3:]
    bob = made(b, *words, "--btp-port", ports[2], "--http-port", ports[3])
    assert bob["peers"][0] == {
        "peerId": "alice", "dials": True, "url": alice["btpUrl"],
        "secretFile": str(b / "secrets" / "peer-alice"),
    }  # fmt: skip
    for folder in (a, b):
        checked = command("check-config", env=environment(folder))
        assert checked.code == 0, checked.err
        assert "the configuration is valid" in checked.out
    with running(alice, a), running(bob, b):
        linked(alice["url"])
        linked(bob["url"])
        key = (a / "secrets" / "admin-api-key").read_text().strip()
        ping = command("ping", "test.bob", "--url", alice["url"], "--key", key, "--count", "1")
        assert ping.code == 0, ping.out + ping.err
        paid = command(
            "ping", "test.alice", "--url", bob["url"], "--count", "1", "--amount", "5",
            "--key", (b / "secrets" / "admin-api-key").read_text().strip(),
        )  # fmt: skip
        assert paid.code == 0, paid.out + paid.err
        (account,) = command("balances", "--url", alice["url"], "--json").json["items"]
        assert account["netBalance"] == "5"
