"""Servers that take events, as Debian has them: NATS and PostgreSQL, each with a port and a folder of its own.

They can be killed and started again. Where one is not installed, the test says so and is skipped.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.patience import PATIENCE_SECONDS
from tests.support.ports import free_port


class _Server(ABC):
    """A process that is killed with all that it has started."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def command(self) -> Sequence[str]:
        """The program and its arguments."""

    @abstractmethod
    async def is_ready(self) -> bool:
        """Whether it serves."""

    async def start(self) -> None:
        """Start it and wait until it serves."""
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(  # noqa: ASYNC220 - it takes no user otherwise
                self.command(),
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                cwd=self.folder,
                **_another_user(self.folder),
            )
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not await self.is_ready():
                assert self._process.poll() is None, (self.folder / "server.log").read_text()
                await asyncio.sleep(0.02)

    async def kill(self) -> None:
        """End it at once, without a word."""
        if self._process is not None:
            self._signal(signal.SIGKILL)
            await asyncio.to_thread(self._process.wait)
            self._process = None

    def freeze(self) -> None:
        """It takes connections and never answers."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """It answers again."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        """To it, and to all that it has started: those of PostgreSQL have groups of their own."""
        assert self._process is not None
        for pid in [self._process.pid, *_children(self._process.pid)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)


def _children(pid: int) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            # Behind the name, which may hold anything: state, parent.
            if int(path.read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(int(path.parent.name))
    return found


class NatsServer(_Server):
    """With JetStream."""

    options: tuple[str, ...] = ()
    configuration = ""

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def command(self) -> Sequence[str]:
        config = self.folder / "nats.conf"
        config.write_text(
            f'listen: "127.0.0.1:{self.port}"\njetstream {{ store_dir: "{self.folder}/js" }}\n'
            + self.configuration
        )
        return [_nats(), "-c", str(config)]

    async def is_ready(self) -> bool:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return False
        try:
            return (await reader.readline()).startswith(b"INFO")
        except OSError:
            return False
        finally:
            writer.close()

    async def messages(self, stream: str = "ILP_EVENTS") -> list[Any]:
        """Everything that is in the stream, in its order."""
        import nats
        from nats.js.api import ConsumerConfig, DeliverPolicy

        client = await nats.connect(self.url)
        try:
            js = client.jetstream()
            count = (await js.stream_info(stream)).state.messages
            subscription = await js.pull_subscribe_bind(
                consumer=(
                    await js.add_consumer(
                        stream, ConsumerConfig(deliver_policy=DeliverPolicy.ALL, ack_policy="none")
                    )
                ).name,
                stream=stream,
            )
            found: list[Any] = []
            while len(found) < count:
                found += await subscription.fetch(min(500, count - len(found)), timeout=10)
            return found
        finally:
            await client.close()


class PostgresServer(_Server):
    """A cluster with one database, `events`, and a super-user of that name."""

    @property
    def url(self) -> str:
        return f"postgresql://events@127.0.0.1:{self.port}/postgres"

    def command(self) -> Sequence[str]:
        return [
            str(_postgres() / "postgres"), "-D", str(self.folder / "data"), "-p", str(self.port),
            "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=",
            "-c", "fsync=off", "-c", "max_connections=20",
        ]  # fmt: skip

    def initialize(self) -> None:
        subprocess.run(
            [
                str(_postgres() / "initdb"), "-D", str(self.folder / "data"), "-U", "events",
                "--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C",
            ],
            check=True,
            capture_output=True,
            cwd=self.folder,
            **_another_user(self.folder),
        )  # fmt: skip

    async def is_ready(self) -> bool:
        import asyncpg

        try:
            connection = await asyncpg.connect(self.url, timeout=5)
        except (OSError, asyncpg.PostgresError, TimeoutError):
            return False
        await connection.close()
        return True

    async def ask(self, statement: str, *values: Any) -> list[Any]:
        import asyncpg

        connection = await asyncpg.connect(self.url, timeout=10)
        try:
            return await connection.fetch(statement, *values)  # type: ignore[no-any-return]
        finally:
            await connection.close()


@asynccontextmanager
async def nats_server(configuration: str = "") -> AsyncIterator[NatsServer]:
    """One that runs."""
    _nats()
    _needs("nats", "nats-py")
    with _folder() as folder:
        server = NatsServer(folder)
        server.configuration = configuration
        await server.start()
        try:
            yield server
        finally:
            await server.kill()


@asynccontextmanager
async def postgres_server() -> AsyncIterator[PostgresServer]:
    """One that runs."""
    _postgres()
    _needs("asyncpg", "asyncpg")
    with _folder() as folder:
        server = PostgresServer(folder)
        await asyncio.to_thread(server.initialize)
        await server.start()
        try:
            yield server
        finally:
            await server.kill()


def _needs(module: str, library: str) -> None:
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"the library {library} is not installed")


def _nats() -> str:
    found = shutil.which("nats-server", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")
    if found is None:
        pytest.skip("nats-server is not installed")
    return found


def _postgres() -> Path:
    """The folder of the server's programs; Debian has it nowhere on PATH."""
    for folder in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True):
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return folder
    if (found := shutil.which("initdb")) is not None and shutil.which("postgres"):
        return Path(found).parent
    pytest.skip("no PostgreSQL server is installed")


@contextlib.contextmanager
def _folder() -> Any:
    """Not one of pytest's, which only root may enter: PostgreSQL does not run as root."""
    folder = Path(tempfile.mkdtemp(prefix="sink-"))
    try:
        if (user := _unprivileged()) is not None:
            os.chown(folder, user.pw_uid, user.pw_gid)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _unprivileged() -> pwd.struct_passwd | None:
    """As whom servers run if we are root."""
    if os.getuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    pytest.skip("there is no user but root")


def _another_user(folder: Path) -> dict[str, Any]:
    user = _unprivileged()
    if user is None:
        return {}
    return {
        "user": user.pw_uid,
        "group": user.pw_gid,
        "extra_groups": [],
        "env": {"PATH": os.environ["PATH"], "HOME": str(folder), "LC_ALL": "C"},
    }
