"""A real TigerBeetle server for tests, when the machine has its binary."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import pytest

from tests.support.ports import free_port, free_ports

MISSING = (
    "no TigerBeetle server: no `tigerbeetle` on PATH, TIGERBEETLE_BIN is not set, and "
    "`scripts/tigerbeetle install` was not run"
)
INSTALLED = Path(__file__).parents[2] / ".tigerbeetle" / "tigerbeetle"
READY_SECONDS_MAX = 60.0
SHARED_CLUSTER_ID = 0
FRAGILE_CLUSTER_ID = 9
MORE_CONNECTIONS = ("--development", "--experimental", "--limit-pipeline-requests=24")
"""32 instead of the eight of `--development` alone; the real thing fills a gigabyte more at start."""
QUIET_SECONDS = 2.0
"""How long a replica says nothing of lagging before it is believed to have caught up."""
_IN_VIEW = re.compile(r"transition_to_normal_from_\w+: view=(?:\d+\.\.)?(\d+) (primary|backup)")


def binary() -> str | None:
    """Where the server is, if anywhere."""
    named = os.environ.get("TIGERBEETLE_BIN")
    installed = str(INSTALLED) if INSTALLED.exists() else None
    return named or shutil.which("tigerbeetle") or installed


class TigerBeetleServer:
    """One replica on loopback with a data file of its own (1.1 GB, removed by `remove`).

    It is the only one of its cluster, or number `replica` of those that listen at `ports`.
    """

    HOST: Final = "127.0.0.1"

    def __init__(
        self, cluster_id: int = 0, *options: str, replica: int = 0, ports: Sequence[int] = ()
    ) -> None:
        path = binary()
        if path is None:
            pytest.skip(MISSING)
        self.binary = path
        self.cluster_id = cluster_id
        self.host = self.HOST
        self.ports = tuple(ports) or (free_port(),)
        self.port = self.ports[replica]
        self.options = options or ("--development",)
        self.folder = Path(tempfile.mkdtemp(prefix="tigerbeetle-test-"))
        self._log = self.folder / "log"
        self._log_began = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._replica = replica
        self._format()

    def _format(self) -> None:
        subprocess.run(
            [self.binary, "format", f"--cluster={self.cluster_id}", f"--replica={self._replica}",
             f"--replica-count={len(self.ports)}", "--development", str(self.folder / "data")],
            check=True, capture_output=True,
        )  # fmt: skip

    @property
    def address(self) -> str:
        """Where the whole cluster is."""
        return ",".join(f"{self.host}:{port}" for port in self.ports)

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Run it and wait until it listens.

        While nobody listens, a client on this machine may be given this very port as its own and
        connect to itself; it lets go of the port when it hears nothing.
        """
        deadline = time.monotonic() + READY_SECONDS_MAX
        while True:
            self.launch()
            try:
                self.wait_ready()
            except AssertionError:
                if "AddressInUse" not in self._said() or time.monotonic() > deadline:
                    raise
                self.kill()
                time.sleep(0.2)
            else:
                return

    def launch(self) -> None:
        """Run it."""
        assert self._process is None
        with self._log.open("ab") as log:
            self._log_began = log.tell()
            self._process = subprocess.Popen(
                [self.binary, "start", f"--addresses={self.address}", *self.options,
                 str(self.folder / "data")],
                stdout=log, stderr=log,
            )  # fmt: skip

    def wait_ready(self) -> None:
        """Wait until it says that it listens.

        A connection proves nothing: it may be taken by the server that was killed before, whose
        socket the kernel closes a little later.
        """
        assert self._process is not None
        deadline = time.monotonic() + READY_SECONDS_MAX
        while ": listening on " not in self._said():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"the server did not start: {self._said()[-2000:]}")
            time.sleep(0.02)

    @property
    def leads_in_view(self) -> int:
        """Since which view it leads, by its log; -1: another one does."""
        if not self.running or not (found := _IN_VIEW.findall(self._said())):
            return -1
        view, role = found[-1]
        return int(view) if role == "primary" else -1

    def _said(self) -> str:
        """Its log since it was started last."""
        return self._log.read_bytes()[self._log_began :].decode("utf-8", "replace")

    async def caught_up(self) -> None:
        """Wait until a replica that was started again has what the others committed meanwhile.

        Its log is the only place that tells: while it lags, every prepare that comes says so.
        """
        deadline = time.monotonic() + READY_SECONDS_MAX
        lines, quiet_since = -1, time.monotonic()
        while time.monotonic() - quiet_since < QUIET_SECONDS:
            assert time.monotonic() < deadline, "the replica does not catch up"
            said = self._said()
            lagging = said.count("lagging behind the cluster") + said.count("(too far ahead")
            if lagging != lines:
                lines, quiet_since = lagging, time.monotonic()
            await asyncio.sleep(0.1)

    def kill(self) -> None:
        """End it as `kill -9` does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def replace_data(self) -> None:
        """Kill it and start it on a freshly formatted file of the same cluster."""
        self.kill()
        (self.folder / "data").rename(self.folder / "own data")
        self._format()
        self.start()

    def put_data_back(self) -> None:
        """Undo `replace_data`; what was written meanwhile is gone."""
        self.kill()
        (self.folder / "own data").replace(self.folder / "data")
        self.start()

    def pause(self) -> None:
        """Stop it in its tracks; connections stay open."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def remove(self) -> None:
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


class TigerBeetleCluster:
    """Several replicas on loopback."""

    def __init__(self, cluster_id: int, replicas: int, *options: str) -> None:
        ports = free_ports(replicas)
        self.cluster_id = cluster_id
        self.replicas = [
            TigerBeetleServer(cluster_id, *options, replica=replica, ports=ports)
            for replica in range(replicas)
        ]

    @property
    def address(self) -> str:
        return self.replicas[0].address

    def start(self) -> None:
        """Run those that do not run, at once: each takes a while to get its memory."""
        for replica in self.replicas:
            if not replica.running:
                replica.kill()
                replica.launch()
        for replica in self.replicas:
            replica.wait_ready()

    @property
    def leader(self) -> TigerBeetleServer:
        """Who leads, by their logs."""
        return max(self.replicas, key=lambda replica: replica.leads_in_view)

    def remove(self) -> None:
        for replica in self.replicas:
            replica.remove()


@pytest.fixture(scope="session")
def tigerbeetle_server() -> Iterator[TigerBeetleServer]:
    """One server for all tests that write, or pause it for a moment.

    They share it, as the ids of their nodes and accounts are theirs alone. Tests that use it run in
    one process (tests/conftest.py), so that there is one server however many processes run tests.
    """
    server = TigerBeetleServer(SHARED_CLUSTER_ID, *MORE_CONNECTIONS)
    server.start()
    yield server
    server.remove()


@pytest.fixture(scope="session")
def _fragile_server() -> Iterator[TigerBeetleServer]:
    server = TigerBeetleServer(FRAGILE_CLUSTER_ID, *MORE_CONNECTIONS)
    yield server
    server.remove()


@pytest.fixture
def fragile_server(_fragile_server: TigerBeetleServer) -> TigerBeetleServer:
    """A server to be killed, moved and paused; it runs at its own address when a test begins."""
    if _fragile_server.running:
        _fragile_server.resume()
    if not _fragile_server.running or _fragile_server.host != TigerBeetleServer.HOST:
        _fragile_server.kill()
        _fragile_server.host = TigerBeetleServer.HOST
        _fragile_server.start()
    return _fragile_server
