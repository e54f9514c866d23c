"""Processes for the interop tests: connectors of ours, and JS peers steered by lines of JSON."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.inherited import INHERITED
from tests.support.patience import PATIENCE_SECONDS

HERE = Path(__file__).parent


def install_node_modules(cache: Path, of: Path = HERE) -> Path:
    """The folder `node_modules` of package-lock.json in `of`; filled from the npm registry once.

    Skips the test, with the reason, where that cannot be done.
    """
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            pytest.skip(f"interop: {program} is not installed")
    lock = (of / "package-lock.json").read_bytes()
    folder = cache / hashlib.sha256(lock).hexdigest()[:16]
    if not folder.exists():
        cache.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(dir=cache))
        for name in ("package.json", "package-lock.json"):
            shutil.copy(of / name, fresh)
        try:
            done = subprocess.run(
                ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"],
                cwd=fresh, capture_output=True, text=True, timeout=180, stdin=subprocess.DEVNULL,
                check=False,
            )  # fmt: skip
            said = (done.stderr + done.stdout).strip()
            failed = done.returncode != 0
        except subprocess.TimeoutExpired:
            said, failed = "no answer in 180 s", True
        if failed:
            shutil.rmtree(fresh, ignore_errors=True)
            pytest.skip(f"interop: npm ci failed: {' '.join(said.split())[:200]}")
        # Complete or not there: a run that is stopped half way leaves nothing to trip over.
        with contextlib.suppress(OSError):
            fresh.rename(folder)
    return folder / "node_modules"


class JsProcess:
    """A node process that answers each line with a line."""

    def __init__(self, modules: Path) -> None:
        self._modules = modules
        self.process: asyncio.subprocess.Process

    async def start(self, script: str, *arguments: str) -> None:
        self.process = await asyncio.create_subprocess_exec(
            "node", str(HERE / script), *arguments,
            env={**os.environ, "NODE_PATH": str(self._modules), "DEBUG": ""},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, limit=1 << 26,
        )  # fmt: skip

    async def write(self, line: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(line).encode() + b"\n")
        await self.process.stdin.drain()

    async def read(self) -> Any:
        assert self.process.stdout is not None
        line = await self.process.stdout.readline()
        if not line:
            raise AssertionError(f"node ended with {await self.process.wait()}")
        return json.loads(line)

    async def stop(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await self.process.wait()
        except TimeoutError:
            self.process.kill()
            await self.process.wait()


class Codec(JsProcess):
    """codec.js: the reference codecs."""

    async def ask(self, **command: Any) -> list[dict[str, Any]]:
        async with asyncio.timeout(PATIENCE_SECONDS):
            await self.write(command)
            answer: list[dict[str, Any]] = await self.read()
        return answer


class JsPeer(JsProcess):
    """peer.js: an unchanged ilp-plugin-btp."""

    def __init__(self, modules: Path) -> None:
        super().__init__(modules)
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._events: asyncio.Queue[str] = asyncio.Queue()
        self._reader: asyncio.Task[None]

    async def start(self, script: str, *arguments: str) -> None:
        await super().start(script, *arguments)
        self._reader = asyncio.get_running_loop().create_task(self._read_all())
        await self.event("started")

    async def _read_all(self) -> None:
        while True:
            line = await self.read()
            if "event" in line:
                self._events.put_nowait(line["event"])
            else:
                self._waiting.pop(line.pop("id")).set_result(line)

    async def event(self, name: str) -> None:
        """Wait until it happens; other events meanwhile are dropped."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while await self._events.get() != name:
                pass

    async def do(self, verb: str, **fields: Any) -> dict[str, Any]:
        number = next(self._ids)
        answer = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        await self.write({"id": number, "do": verb, **fields})
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await answer

    async def connected(self) -> None:
        """Return when the plugin says that it is."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not (await self.do("state"))["connected"]:
                await asyncio.sleep(0.02)

    async def send(
        self, destination: str, amount: int, *, preimage: bytes, data: bytes = b"",
        expires_in_ms: int = 20_000,
    ) -> dict[str, Any]:  # fmt: skip
        """Send a Prepare whose data begin with its preimage; gives the fields of the answer."""
        prepare = {
            "amount": str(amount),
            "destination": destination,
            "expiresInMs": expires_in_ms,
            "condition": hashlib.sha256(preimage).hexdigest(),
            "data": (preimage + data).hex(),
        }
        return await self.do("send", prepare=prepare)

    async def stop(self) -> None:
        self._reader.cancel()
        with contextlib.suppress(asyncio.CancelledError, AssertionError):
            await self._reader
        await super().stop()


@contextlib.asynccontextmanager
async def spsp_server(invitation: dict[str, Any]) -> AsyncIterator[str]:
    """The URL of a server that gives every payer this `address` and `secret`."""
    body = {
        "destination_account": invitation["address"],
        "shared_secret": invitation["secret"],
    }

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        content = json.dumps(body).encode()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/spsp4+json\r\n")
        writer.write(b"Content-Length: %d\r\nConnection: close\r\n\r\n" % len(content) + content)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1") as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"


class Node:
    """A connector of ours as a process of its own, with an embedded ledger."""

    def __init__(self, name: str, folder: Path, ports: list[int], **settings: str) -> None:
        self.name = name
        self.btp_port, self.http_port = ports
        self._log = folder / f"{name}.log"
        self._environment = {
            **INHERITED,
            "NODE_ID": name,
            "ILP_ADDRESS": f"g.{name}",
            "BTP_SERVER_PORT": str(self.btp_port),
            "HTTP_PORT": str(self.http_port),
            "DATA_DIR": str(folder / name),
            "LOG_FORMAT": "json",
            **settings,
        }
        self._process: asyncio.subprocess.Process | None = None

    def url(self, user: str, token: str, path: str = "") -> str:
        return f"btp+ws://{user}:{token}@127.0.0.1:{self.btp_port}{path}"

    async def launch(self) -> None:
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "connector", "run",
                env=self._environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip

    async def start(self) -> None:
        await self.launch()
        await self.healthy()

    async def healthy(self) -> None:
        await self.until(lambda health: health["status"] == "healthy", "/health")

    async def get(self, path: str) -> Any:
        # Without certificates: to load them takes longer than to ask.
        async with httpx.AsyncClient(
            trust_env=False, verify=False, timeout=PATIENCE_SECONDS
        ) as client:
            return (await client.get(f"http://127.0.0.1:{self.http_port}{path}")).json()

    async def until(self, check: Any, path: str) -> None:
        """Ask until it is so."""
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                while True:
                    with contextlib.suppress(httpx.HTTPError):
                        if check(await self.get(path)):
                            return
                    assert self._process is not None
                    if self._process.returncode is not None:
                        raise AssertionError(f"{self.name} ended: {self.log()[-1000:]}")
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise AssertionError(f"{self.name}: {path} did not come true") from None

    async def connected(self, *peers: str) -> None:
        def all_there(body: Any) -> bool:
            live = {item["peerId"] for item in body["items"] if item["connected"]}
            return live.issuperset(peers)

        await self.until(all_there, "/api/peers")

    async def balances(self) -> dict[str, int]:
        """What each peer owes us, once nothing is pending any more."""

        def at_rest(body: Any) -> bool:
            return not any(
                int(item["pendingDebits"]) or int(item["pendingCredits"]) for item in body["items"]
            )

        await self.until(at_rest, "/api/accounts")
        items = (await self.get("/api/accounts"))["items"]
        return {item["peerId"]: int(item["netBalance"]) for item in items}

    def log(self) -> str:
        return self._log.read_text()

    async def stop(self, number: int = signal.SIGTERM) -> int:
        assert self._process is not None
        if self._process.returncode is None:
            self._process.send_signal(number)
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await self._process.wait()


@contextlib.asynccontextmanager
async def running(*nodes: Node) -> AsyncIterator[None]:
    """Start connectors, and stop them at the end; none may have logged an error of ours."""
    started: list[Node] = []
    try:
        for node in nodes:
            await node.launch()
            started.append(node)
        for node in nodes:
            await node.healthy()
        yield
    finally:
        for node in started:
            with contextlib.suppress(AssertionError):
                await node.stop()
    for node in started:
        assert '"level": "error"' not in node.log(), node.log()
        assert '"level":"error"' not in node.log(), node.log()
