"""The node under attack: a process as a user would start it, and what it costs and says."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any, Final, NamedTuple

from tests.hostile.target import Target
from tests.support.inherited import INHERITED

START_SECONDS_MAX: Final = 60.0
STOP_SECONDS_MAX: Final = 30.0
_LINES_SHOWN: Final = 10
_TICKS: Final = os.sysconf("SC_CLK_TCK")


def make_certificate(folder: Path) -> Path:
    """A certificate for 127.0.0.1, with its key beside it as `key.pem`."""
    certificate = folder / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
         "-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext",
         "subjectAltName=IP:127.0.0.1", "-keyout", folder / "key.pem", "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    return certificate


class Costs(NamedTuple):
    """What a process uses."""

    memory_mib: float
    """Resident."""
    descriptors: int
    """Open files and sockets."""
    cpu_seconds: float
    """So far, of all threads."""


class Log:
    """What the node logs, read from a pipe; whoever reads it may stall."""

    def __init__(self) -> None:
        self.events: Counter[str] = Counter()
        self.errors: list[str] = []
        """Lines of a fault of ours, and what is no line of the log at all: a traceback."""
        self.error_count = 0
        self.lines_lost = 0
        self.started = asyncio.Event()
        self.compiled = False
        self._reads = asyncio.Event()
        self._reads.set()

    def stall(self, stalls: bool) -> None:
        """Read nothing until told otherwise: the pipe fills up."""
        if stalls:
            self._reads.clear()
        else:
            self._reads.set()

    async def read(self, stream: asyncio.StreamReader) -> None:
        """Until the node has ended."""
        while line := await stream.readline():
            self._note(line)
            await self._reads.wait()

    def _note(self, line: bytes) -> None:
        try:
            said: dict[str, Any] = json.loads(line)
            event, level = said["event"], said["level"]
        except (ValueError, KeyError, TypeError):
            self._fault(line)
            return
        self.events[event] += 1
        if level in ("error", "critical"):
            self._fault(line)
        if event == "log_lines_lost":
            self.lines_lost += said["lines"]
        if event == "connector_started":
            self.compiled = said["compiled"]
            self.started.set()

    def _fault(self, line: bytes) -> None:
        self.error_count += 1
        if len(self.errors) < _LINES_SHOWN:
            self.errors.append(line.decode("utf-8", "replace").strip()[:2000])


class Node:
    """One node, from its start to its end."""

    def __init__(self, folder: Path, target: Target) -> None:
        self.folder = folder
        self.target = target
        self.log = Log()
        self._process: asyncio.subprocess.Process | None = None

    @property
    def environment(self) -> dict[str, str]:
        """Of the node, and of commands about it."""
        return {**INHERITED, "CONFIG_FILE": str(self.folder / "settings.yaml")}

    async def start(self, group: asyncio.TaskGroup) -> None:
        """Start it, and wait until it serves.

        Raises:
            TimeoutError: it does not.
            RuntimeError: it ended.
        """
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "connector", "run",
            env=self.environment, cwd=self.folder, stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )  # fmt: skip
        assert self._process.stderr is not None
        reading = group.create_task(self.log.read(self._process.stderr))
        started = group.create_task(self.log.started.wait())
        async with asyncio.timeout(START_SECONDS_MAX):
            await asyncio.wait((reading, started), return_when=asyncio.FIRST_COMPLETED)
        if not self.log.started.is_set():
            started.cancel()
            raise RuntimeError(f"the node does not start: {self.log.errors}")

    @property
    def runs(self) -> bool:
        """Whether it is still there."""
        return self._process is not None and self._process.returncode is None

    async def stop(self) -> int | None:
        """As an operator does, by SIGTERM; its exit code. None: it had to be killed."""
        assert self._process is not None
        if self.runs:
            self._process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(STOP_SECONDS_MAX):
                return await self._process.wait()
        except TimeoutError:
            self.kill()
            await self._process.wait()
            return None

    def kill(self) -> None:
        """End it at once."""
        if self.runs:
            assert self._process is not None
            self._process.kill()

    async def audit(self) -> tuple[int, str]:
        """`connector audit` on what it has left: exit code and output."""
        audit = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "connector", "audit",
            env={**self.environment, "NO_COLOR": "1", "COLUMNS": "200"}, cwd=self.folder,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        said, _ = await audit.communicate()
        assert audit.returncode is not None
        return audit.returncode, said.decode("utf-8", "replace")

    # --- what it costs

    def _proc(self, name: str) -> Path:
        assert self._process is not None
        return Path(f"/proc/{self._process.pid}/{name}")

    def costs(self) -> Costs | None:
        """What it uses; None: it has ended."""
        try:
            status = self._proc("status").read_text()
            resident = next(one for one in status.splitlines() if one.startswith("VmRSS:"))
            fields = self._proc("stat").read_text().rsplit(")", 1)[1].split()
            return Costs(
                memory_mib=int(resident.split()[1]) / 1024,
                descriptors=sum(1 for _ in self._proc("fd").iterdir()),
                cpu_seconds=(int(fields[11]) + int(fields[12])) / _TICKS,
            )
        except (OSError, StopIteration):
            return None

    def events_bytes(self) -> int:
        """What the stored events take on disk."""
        return sum(path.stat().st_size for path in (self.folder / "data").glob("events*"))
