"""A real TigerBeetle server for tests, when the machine has its binary."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

MISSING = "no TigerBeetle server: no `tigerbeetle` on PATH and TIGERBEETLE_BIN is not set"
READY_SECONDS_MAX = 60.0


def binary() -> str | None:
    """Where the server is, if anywhere."""
    named = os.environ.get("TIGERBEETLE_BIN")
    return named or shutil.which("tigerbeetle")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


class TigerBeetleServer:
    """One replica on loopback with a data file of its own (1.1 GB, removed by `remove`)."""

    def __init__(self, cluster_id: int = 0, *options: str) -> None:
        path = binary()
        if path is None:
            pytest.skip(MISSING)
        self.binary = path
        self.cluster_id = cluster_id
        self.host = "127.0.0.1"
        self.port = free_port()
        self.options = options or ("--development",)
        self.folder = Path(tempfile.mkdtemp(prefix="tigerbeetle-test-"))
        self._process: subprocess.Popen[bytes] | None = None
        subprocess.run(
            [path, "format", f"--cluster={cluster_id}", "--replica=0", "--replica-count=1",
             "--development", str(self.folder / "data")],
            check=True, capture_output=True,
        )  # fmt: skip

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"

    def start(self) -> None:
        """Run it and wait until it listens."""
        assert self._process is None
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self.binary, "start", f"--addresses={self.address}", *self.options,
                 str(self.folder / "data")],
                stdout=log, stderr=log,
            )  # fmt: skip
        deadline = time.monotonic() + READY_SECONDS_MAX
        while True:
            try:
                socket.create_connection((self.host, self.port), 0.2).close()
                return
            except OSError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    said = (self.folder / "log").read_text(errors="replace")[-2000:]
                    raise AssertionError(f"the server did not start: {said}") from None
                time.sleep(0.05)

    def kill(self) -> None:
        """End it as `kill -9` does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

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


_shared: list[TigerBeetleServer] = []


@pytest.fixture(scope="session")
def tigerbeetle_server(request: pytest.FixtureRequest) -> TigerBeetleServer:
    """One server for all tests that only write: ids are theirs alone, so they may share it.

    Test modules import this fixture; however many do, there is one server.
    """
    if not _shared:
        server = TigerBeetleServer()
        request.config.add_cleanup(server.remove)
        server.start()
        _shared.append(server)
    return _shared[0]
