"""The compose files of this repository, read as compose reads them: variables filled in, merged."""

from __future__ import annotations

import json
import os
import random
import re
import secrets
import subprocess
import time
from pathlib import Path
from typing import Any, Final

import httpx
import yaml

ROOT: Final = Path(__file__).parents[2]
BASE_IMAGE: Final = os.environ.get("BASE_IMAGE", "python:3.12-slim")
SERVER_IMAGE: Final = os.environ.get("TIGERBEETLE_IMAGE", "ghcr.io/tigerbeetle/tigerbeetle:0.17.9")
_VARIABLE: Final = re.compile(r"\$\{([A-Z0-9_]+)(?:(:?[-?])([^}]*))?\}")


def compose_files() -> list[Path]:
    """All of them."""
    return sorted(
        [*ROOT.glob("docker-compose*.yml"), *(ROOT / "docker").glob("docker-compose*.yml")]
    )


def fill_in(text: str, values: dict[str, str]) -> str:
    """As compose does: `${X}`, `${X:-default}`, `${X:?message}`."""

    def value(match: re.Match[str]) -> str:
        name, operator, rest = match.groups()
        if values.get(name):
            return values[name]
        if operator in (":?", "?"):
            raise KeyError(f"{name}: {rest}")
        return rest or ""

    return _VARIABLE.sub(value, text)


def variables(text: str) -> dict[str, str]:
    """Every `${X...}` outside comments: name, and operator with what follows."""
    code = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    return {name: f"{operator}{rest}" for name, operator, rest in _VARIABLE.findall(code)}


def example() -> dict[str, str]:
    """The active lines of `.env.production.example`."""
    lines = (ROOT / ".env.production.example").read_text("utf-8").splitlines()
    pairs = (line.partition("=") for line in lines if line and not line.startswith("#"))
    return {name: value for name, _, value in pairs}


def replaced() -> dict[str, str]:
    """The example with secrets in place of those that everybody knows."""
    return {
        name: value.replace("change-me", "secret-of-these-tests")
        for name, value in example().items()
    }


def read(path: Path) -> dict[str, Any]:
    """A file with the values of the example, secrets replaced."""
    content: dict[str, Any] = yaml.safe_load(fill_in(path.read_text("utf-8"), replaced()))
    return content


# --- on a real engine


class Stack:
    """The services of a compose file, apart from all else on the engine.

    Nothing of the file is shared with a real deployment of it: project, container names, volumes,
    networks and host ports are this stack's own, and `remove` leaves none of them behind.
    """

    def __init__(
        self,
        path: Path,
        folder: Path,
        *,
        images: dict[str, str],
        values: dict[str, str] | None = None,
    ) -> None:
        self.project = f"ilptest{secrets.token_hex(4)}"
        self.file = folder / f"{self.project}.yml"
        self.profiles: list[str] = []
        text = fill_in(path.read_text("utf-8"), replaced() | images | (values or {}))
        # A network of its own; the last number of an address stays what it is.
        subnet = f"10.{random.randint(16, 254)}.{random.randint(0, 254)}"
        text = re.sub(r"\b172\.30\.\d+(?=\.\d)", subnet, text)
        self.content: dict[str, Any] = yaml.safe_load(text)
        for service in self.content["services"].values():
            service.pop("build", None)
            name = service.pop("container_name", None)
            if name is not None:
                for network, options in _networks(service).items():
                    service["networks"][network] = {**(options or {}), "aliases": [name]}
            service["ports"] = [
                f"127.0.0.1::{port.rsplit(':', 1)[1]}" for port in service.get("ports", [])
            ]
            service["security_opt"] = [
                re.sub(
                    r"^seccomp=(\.\S+)", lambda m: f"seccomp={(path.parent / m[1]).resolve()}", one
                )
                for one in service.get("security_opt", [])
            ]
        self.content["volumes"] = dict.fromkeys(self.content.get("volumes", {}))
        self.write()

    def write(self) -> None:
        """Let the next command see `content`."""
        self.file.write_text(yaml.safe_dump(self.content), "utf-8")

    def check_often(self) -> None:
        """Health checks every second: who waits for another starts that much earlier."""
        for service in self.content["services"].values():
            service["healthcheck"]["interval"] = "1s"
        self.write()

    def compose(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        profiles = [word for profile in self.profiles for word in ("--profile", profile)]
        command = [
            "docker",
            "compose",
            "-p",
            self.project,
            "-f",
            str(self.file),
            *profiles,
            *arguments,
        ]
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=600)
        if check and done.returncode:
            logs = self.compose("logs", "--tail", "20", check=False).stdout
            raise AssertionError(f"{' '.join(command)}: {done.stdout}{done.stderr}\n{logs}")
        return done

    def up(self, *services: str) -> float:
        """Start, wait until all are healthy, and say how many seconds that took."""
        began = time.monotonic()
        self.compose("up", "-d", "--no-build", *services)
        for service in services or self.services():
            self.wait_healthy(service)
        return time.monotonic() - began

    def down(self) -> None:
        self.compose("down", "-t", "10")

    def remove(self) -> None:
        """Leave nothing behind."""
        self.profiles = sorted(
            {
                profile
                for service in self.content["services"].values()
                for profile in service.get("profiles", [])
            }
        )
        self.compose("down", "-v", "--remove-orphans", "-t", "2", check=False)

    def services(self) -> list[str]:
        return self.compose("config", "--services").stdout.split()

    def connectors(self) -> list[str]:
        """Services that are connectors, in the order of the file."""
        services = self.content["services"].items()
        return [name for name, service in services if "NODE_ID" in service.get("environment", {})]

    def container(self, service: str) -> str:
        # As compose v2 names it; asking compose takes ten times as long.
        return f"{self.project}-{service}-1"

    def inspect(self, service: str) -> dict[str, Any]:
        found = docker("inspect", self.container(service))
        state: dict[str, Any] = json.loads(found)[0]
        return state

    def is_running(self, service: str) -> bool:
        return bool(self.inspect(service)["State"]["Running"])

    def links(self, service: str) -> int:
        """With how many peers a connector is connected."""
        return int(self.api(service, "/health")["peersConnected"])

    def is_linked(self, service: str) -> bool:
        """Whether a connector is connected with all its peers but the sender, who comes and goes."""
        health = self.api(service, "/health")
        senders = int("BTP_PEER_SENDER_SECRET" in self.environment(service))
        return bool(health["peersConnected"] >= health["peersTotal"] - senders)

    def wait_healthy(self, service: str, seconds: float = 120) -> None:
        deadline = time.monotonic() + seconds
        while self.inspect(service)["State"].get("Health", {}).get("Status") != "healthy":
            if time.monotonic() > deadline:
                raise AssertionError(f"{service} is not healthy: {self.logs(service)[-2000:]}")
            time.sleep(0.5)

    def logs(self, service: str) -> str:
        done = subprocess.run(
            ["docker", "logs", self.container(service)], check=False, capture_output=True, text=True
        )
        return done.stdout + done.stderr

    def events(self, service: str) -> list[dict[str, Any]]:
        """The log of a connector, line by line; a line that is no JSON fails."""
        return [json.loads(line) for line in self.logs(service).splitlines()]

    def environment(self, service: str) -> dict[str, str]:
        found: dict[str, str] = self.content["services"][service]["environment"]
        return found

    def execute(self, service: str, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["docker", "exec", self.container(service), *command],
            check=False, capture_output=True, text=True, timeout=300,
        )  # fmt: skip

    def send_command(
        self, service: str, destination: str, count: int, window: int = 20
    ) -> list[str]:
        token = self.environment(service)["BTP_PEER_SENDER_SECRET"]
        return [
            "ilp-connector", "send", "--url", "ws://127.0.0.1:3000", "--auth", f"sender:{token}",
            "--destination", destination, "--count", str(count), "--window", str(window), "--json",
        ]  # fmt: skip

    def send(self, service: str, destination: str, count: int = 10) -> dict[str, Any]:
        """Packets from `service` to `destination`; all must arrive."""
        done = self.execute(service, *self.send_command(service, destination, count))
        assert done.returncode == 0, done.stdout + done.stderr
        report: dict[str, Any] = json.loads(done.stdout)
        return report

    def api(self, service: str, path: str) -> dict[str, Any]:
        """GET of a connector's HTTP surface, through its published port."""
        port = docker("port", self.container(service), "8080").split(":")[-1]
        key = self.environment(service)["ADMIN_API_KEY"]
        answer = httpx.get(
            f"http://127.0.0.1:{port}{path}",
            headers={"Authorization": f"Bearer {key}"}, timeout=10, trust_env=False,
        )  # fmt: skip
        body: dict[str, Any] = answer.json()
        return body

    def balances(self, service: str) -> dict[str, tuple[int, int]]:
        """Debit and credit balance with each peer; waits until nothing is held."""
        deadline = time.monotonic() + 60
        while True:
            items = self.api(service, "/api/accounts")["items"]
            held = sum(int(one["pendingDebits"]) + int(one["pendingCredits"]) for one in items)
            if not held:
                return {
                    one["peerId"]: (int(one["debitBalance"]), int(one["creditBalance"]))
                    for one in items
                }
            assert time.monotonic() < deadline, f"{service} still holds {held}"
            time.sleep(0.2)

    def assert_mirrored(self) -> None:
        """What one side of a link has debited, the other has credited."""
        books = {name: self.balances(name) for name in self.connectors()}
        for name, peers in books.items():
            for peer, (debit, credit) in peers.items():
                if peer in books:
                    assert books[peer][name] == (credit, debit), f"{name} and {peer}"

    def assert_audit(self) -> None:
        """`audit` is content on every node; with one ledger for all, across the nodes too."""
        names = self.connectors()
        shared = "TIGERBEETLE_REPLICAS" in self.environment(names[0])
        for name in names[:1] if shared else names:
            options = ["--nodes", ",".join(names)] if shared else []
            done = self.execute(name, "ilp-connector", "audit", *options)
            assert done.returncode == 0, done.stdout + done.stderr

    def assert_no_errors(self) -> None:
        """No connector has logged what only a bug of ours can cause."""
        for name in self.connectors():
            wrong = [event for event in self.events(name) if event["level"] == "error"]
            assert not wrong, f"{name}: {wrong}"


def _networks(service: dict[str, Any]) -> dict[str, Any]:
    """The networks of a service as a mapping, which they are from then on."""
    networks = service.get("networks", [])
    if isinstance(networks, list):
        networks = service["networks"] = dict.fromkeys(networks)
    return networks


def docker(*arguments: str) -> str:
    """A command of docker that has to work."""
    done = subprocess.run(
        ["docker", *arguments], check=False, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, f"docker {' '.join(arguments)}: {done.stdout}{done.stderr}"
    return done.stdout.strip()


def missing() -> str:
    """Why nothing can be run here, or nothing."""
    for command, lack in (
        (["docker", "info"], "no Docker engine answers"),
        (["docker", "compose", "version"], "no `docker compose`"),
    ):
        try:
            done = subprocess.run(command, check=False, capture_output=True, timeout=60)
        except (OSError, subprocess.TimeoutExpired):
            return lack
        if done.returncode:
            return lack
    for image in (SERVER_IMAGE, BASE_IMAGE):
        for verb in (["image", "inspect"], ["pull", "-q"]):
            done = subprocess.run(
                ["docker", *verb, image], check=False, capture_output=True, timeout=300
            )
            if done.returncode == 0:
                break
        else:
            return f"there is no image {image} here, and no registry to get it from"
    return ""
