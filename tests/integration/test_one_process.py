"""One process of a node is active: a second one is noticed, a standby takes over, nothing is lost.

Whole connectors as processes, on a real TigerBeetle server or on embedded ledgers. In a line of three
the one in the middle has a second process. Its books and its neighbours' are compared afterwards.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import secrets
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from connector import PeerSettings, Settings
from connector.accounting.manager import State
from connector.base.clock import SystemClock
from connector.base.errors import SupersededError
from connector.node.daemon import serve
from connector.settings.load import load as load_settings
from connector.tools.audit import audit, mirror_faults
from connector.tools.demo import DemoNode, at_rest, chain, start, stop, wait_ready
from tests.support.daemons import Daemon, until
from tests.support.inherited import INHERITED
from tests.support.load import Portions, load
from tests.support.patience import PATIENCE_SECONDS, allowed_s
from tests.support.ports import free_ports
from tests.support.tigerbeetle_server import FRAGILE_CLUSTER_ID, TigerBeetleServer

pytestmark = pytest.mark.slow

CLOCK = SystemClock()
AMOUNT = 7
NOTICED_SECONDS_MAX = 5.0
TAKEN_OVER_SECONDS_MAX = 10.0
STOOD_STILL_SECONDS = 15.0
HOLD_SECONDS_MAX = 45.0
"""A hold's longest life: what a packet has, and the grace after it."""


@dataclass(slots=True)
class Process:
    """A process of the node in the middle."""

    environment: dict[str, str]
    log: Path
    process: asyncio.subprocess.Process

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.environment['HTTP_PORT']}"

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def said(self, event: str, **fields: Any) -> bool:
        """Whether its log has such a line."""
        for line in self.log.read_text("utf-8").splitlines():
            with contextlib.suppress(ValueError):
                entry = json.loads(line)
                if entry.get("event") == event and fields.items() <= entry.items():
                    return True
        return False

    async def has_said(self, event: str, **fields: Any) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not self.said(event, **fields):
                assert self.process.returncode is None, self.log.read_text("utf-8")
                await asyncio.sleep(0.05)

    async def ended(self) -> int:
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await self.process.wait()

    async def ready(self) -> tuple[int, str]:
        async with httpx.AsyncClient(trust_env=False, verify=False) as client:
            answer = await client.get(f"{self.url}/health/ready")
            return answer.status_code, str(answer.json()["reason"])

    async def generation(self) -> int | None:
        async with httpx.AsyncClient(trust_env=False, verify=False) as client:
            found = (await client.get(f"{self.url}/health")).json()["accounting"]["generation"]
            return None if found is None else int(found)


class Line:
    """Three nodes; the processes of the one in the middle come and go."""

    def __init__(self, nodes: list[DemoNode], folder: Path, secret: str) -> None:
        self.nodes = nodes
        self.secret = secret
        self._folder = folder
        self._processes: list[Process] = []

    @property
    def middle(self) -> DemoNode:
        return self.nodes[1]

    async def run(self, data_dir: str, *options: str, **environment: str) -> Process:
        """Start a process of the node in the middle on a DATA_DIR."""
        whole = {
            **self.middle.environment,
            "DATA_DIR": str(self._folder / data_dir),
            **environment,
        }
        log = self._folder / f"process-{len(self._processes)}.log"
        with log.open("ab") as out:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "connector", "run", *options,
                env=whole, stdout=out, stderr=out, stdin=asyncio.subprocess.DEVNULL,
                start_new_session=True,
            )  # fmt: skip
        self._processes.append(Process(whole, log, process))
        return self._processes[-1]

    async def active(self, process: Process, links: int = 2) -> None:
        """Wait until a process is the node, and connected."""
        self.middle.process = process.process
        self.middle.environment = process.environment
        self.middle.http_port = int(process.environment["HTTP_PORT"])
        self.middle.data_dir = Path(process.environment["DATA_DIR"])
        self.middle.data_dir.mkdir(exist_ok=True)
        (self.middle.data_dir / "connector.log").write_text(process.log.read_text("utf-8"))
        await wait_ready(self.middle, links, CLOCK)
        for neighbour in (self.nodes[0], self.nodes[2]):
            await wait_ready(neighbour, 1, CLOCK)

    def load(self) -> Any:
        return load(
            f"ws://127.0.0.1:{self.nodes[0].btp_port}", self.secret,
            f"g.{self.nodes[2].node_id}", amount=AMOUNT, count=100, window=50,
        )  # fmt: skip

    async def exact(self, fulfilled: int) -> None:
        """The books of all three, and the sender's word against the first one's."""
        await at_rest(self.nodes, CLOCK)
        names = [node.node_id for node in self.nodes]
        async with asyncio.timeout(HOLD_SECONDS_MAX + PATIENCE_SECONDS):
            while True:
                reports = [
                    await audit(load_settings(node.environment).settings, CLOCK)
                    for node in self.nodes
                ]
                if not any(report.pending for report in reports):
                    break
                await asyncio.sleep(0.5)
        for report in reports:
            assert report.ok, [check for check in report.checks if not check[1]]
        assert mirror_faults(reports, list(itertools.pairwise(names))) == []
        owed = next(one for one in reports[0].peers if one["peerId"] == "sender")
        assert int(owed["debitBalance"]) == fulfilled * AMOUNT

    async def end(self) -> None:
        for one in self._processes:
            if one.process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    one.send(signal.SIGCONT)
                    one.send(signal.SIGTERM)
        for one in self._processes:
            try:
                await one.ended()
            except TimeoutError:
                one.process.kill()
                await one.process.wait()
        await stop([self.nodes[0], self.nodes[2]])


@asynccontextmanager
async def line(
    folder: Path, server: TigerBeetleServer | None, *, dials_both: bool = False, **settings: str
) -> AsyncIterator[Line]:
    """The neighbours run; the node in the middle does not yet.

    `dials_both`: the one in the middle dials both of them, so it need not be found anywhere.
    """
    environment = {**INHERITED, **settings}
    if server is not None:
        environment |= {
            "TIGERBEETLE_CLUSTER_ID": str(server.cluster_id),
            "TIGERBEETLE_REPLICAS": server.address,
            # Others have had nodes of these names there.
            "ASSET_CODE": f"T{secrets.token_hex(4)}",
        }
    secret = secrets.token_urlsafe(16)
    nodes = chain(3, folder, environment, secret)
    if server is not None:
        name = f"middle{secrets.token_hex(6)}"
        for node in nodes:
            node.environment = {
                key.replace("PEER2", name.upper()): value.replace("peer2", name)
                for key, value in node.environment.items()
            }
        nodes[1].node_id = name
    if dials_both:
        url = f"BTP_PEER_{nodes[1].node_id.upper()}_URL"
        del nodes[2].environment[url]
        nodes[1].environment["BTP_PEER_PEER3_URL"] = f"ws://127.0.0.1:{nodes[2].btp_port}"
    whole = Line(nodes, folder, secret)
    try:
        await start(nodes[0])
        await start(nodes[2])
        yield whole
    finally:
        await whole.end()


def ports() -> dict[str, str]:
    """For a process that is on another machine in truth."""
    btp, http, pay = free_ports(3)
    return {"BTP_SERVER_PORT": str(btp), "HTTP_PORT": str(http), "PAY_PORT": str(pay)}


async def seconds_until(check: Callable[[], Awaitable[object]]) -> float:
    began_s = CLOCK.monotonic_s()
    await check()
    return CLOCK.monotonic_s() - began_s


def fair(portions: Portions) -> None:
    """Packets whose time runs out while nobody is there are rejected; they are never kept waiting."""
    assert portions.rejected.keys() <= {"T00", "T01", "T03", "R00", "R02"}, portions.rejected


# --- a second process


@pytest.mark.tigerbeetle
async def test_a_second_process_makes_the_older_one_stop_and_does_not_fight_it(
    tmp_path: Path, tigerbeetle_server: TigerBeetleServer
) -> None:
    async with line(tmp_path, tigerbeetle_server, dials_both=True) as nodes:
        old = await nodes.run("a", **ports())
        await nodes.active(old)
        async with nodes.load() as portions:
            await portions.whole(2)
            new = await nodes.run("b", **ports())
            await new.has_said("connector_started")
            took_s = await seconds_until(old.ended)
            await nodes.active(new)
            await portions.whole(2)
        assert took_s < allowed_s(NOTICED_SECONDS_MAX)
        assert old.process.returncode == 3
        assert old.said("lease_superseded", level="warning")
        assert "--standby" in old.log.read_text("utf-8").splitlines()[-1]
        fair(portions)
        # A supervisor starts it again: it waits, and leaves the other one alone.
        again = await nodes.run("a", **ports())
        await again.has_said("standby_instead")
        await again.has_said("standby", detail=f"generation {await new.generation()} is active")
        status, reason = await again.ready()
        assert (status, reason.split(":")[0]) == (503, "standby")
        assert (await new.ready())[0] == 200
        await nodes.exact(portions.fulfilled)
        # It is needed after all.
        new.send(signal.SIGTERM)
        assert await new.ended() == 0
        assert await seconds_until(lambda: nodes.active(again)) < allowed_s(TAKEN_OVER_SECONDS_MAX)
        assert await again.generation() == 3


@pytest.mark.tigerbeetle
async def test_a_second_process_on_one_data_dir_does_not_start(
    tmp_path: Path, tigerbeetle_server: TigerBeetleServer
) -> None:
    """What its outbox holds has one owner: the lock says who."""
    async with line(tmp_path, tigerbeetle_server, dials_both=True) as nodes:
        first = await nodes.run("a", **ports())
        await nodes.active(first)
        second = await nodes.run("a", **ports())
        assert await second.ended() == 2
        assert f"in use by process {first.process.pid}" in second.log.read_text("utf-8")
        assert (await first.ready())[0] == 200
        assert await first.generation() == 1


# --- a standby


@pytest.mark.parametrize(
    ("ledger", "data_dir"),
    [
        pytest.param("embedded", "a", id="embedded"),
        pytest.param("tigerbeetle", "a", marks=pytest.mark.tigerbeetle, id="one-data-dir"),
        pytest.param("tigerbeetle", "b", marks=pytest.mark.tigerbeetle, id="another-data-dir"),
    ],
)
async def test_a_standby_takes_over_from_a_process_that_is_killed_under_load(
    tmp_path: Path, ledger: str, data_dir: str, request: pytest.FixtureRequest
) -> None:
    """At the same address; neighbours connect again, and send again what was under way."""
    server = request.getfixturevalue("tigerbeetle_server") if ledger == "tigerbeetle" else None
    async with line(tmp_path, server) as nodes:
        active = await nodes.run("a")
        await nodes.active(active)
        standby = await nodes.run(data_dir, "--standby")
        await standby.has_said("standby")
        async with nodes.load() as portions:
            await portions.whole(3)
            if server is not None and data_dir == "b":
                await standby.has_said("standby", detail="generation 1 is active")
            active.send(signal.SIGKILL)
            took_s = await seconds_until(portions.whole)
            await portions.whole(3)
        print(f"{ledger} {data_dir}: packets flow again after {took_s:.1f} s")
        assert took_s < allowed_s(TAKEN_OVER_SECONDS_MAX)
        fair(portions)
        await nodes.active(standby)
        assert await standby.generation() == (None if server is None else 2)
        await nodes.exact(portions.fulfilled)


@pytest.mark.tigerbeetle
async def test_a_process_that_stood_still_steps_down_when_it_wakes(
    tmp_path: Path, tigerbeetle_server: TigerBeetleServer
) -> None:
    """What it finds in its buffers then has been taken by the other one: nothing is booked twice."""
    async with line(tmp_path, tigerbeetle_server, dials_both=True) as nodes:
        old = await nodes.run("a", **ports())
        await nodes.active(old)
        standby = await nodes.run("b", "--standby", **ports())
        await standby.has_said("standby", detail="generation 1 is active")
        assert (await standby.ready())[0] == 503
        async with nodes.load() as portions:
            await portions.whole(3)
            old.send(signal.SIGSTOP)
            stopped_s = CLOCK.monotonic_s()
            await standby.has_said("connector_started")
            await portions.whole(2)
            await asyncio.sleep(STOOD_STILL_SECONDS - (CLOCK.monotonic_s() - stopped_s))
            old.send(signal.SIGCONT)
            took_s = await seconds_until(old.ended)
            await portions.whole(3)
        assert old.process.returncode == 3
        assert took_s < allowed_s(NOTICED_SECONDS_MAX)
        assert old.said("lease_superseded")
        fair(portions)
        await nodes.active(standby)
        await nodes.exact(portions.fulfilled)


# --- the ledger is away


@pytest.mark.tigerbeetle
async def test_nobody_takes_over_while_the_ledger_is_away(
    tmp_path: Path, fragile_server: TigerBeetleServer
) -> None:
    async with line(tmp_path, fragile_server, dials_both=True) as nodes:
        active = await nodes.run("a", **ports())
        await nodes.active(active)
        standby = await nodes.run("b", "--standby", **ports())
        await standby.has_said("standby", detail="generation 1 is active")
        async with nodes.load() as portions:
            await portions.whole(2)
            fragile_server.kill()
            await asyncio.sleep(8)  # longer than the silence of a process that is gone
            await portions.whole(1)
            await asyncio.to_thread(fragile_server.start)
            await nodes.active(active)
            await portions.whole(2)
            await asyncio.sleep(5)  # the same once more, with the ledger
        fair(portions)
        assert (await active.generation(), active.process.returncode) == (1, None)
        assert (await standby.ready())[0] == 503
        await nodes.exact(portions.fulfilled)


@pytest.mark.tigerbeetle
async def test_what_two_processes_took_while_the_ledger_was_away_is_booked(
    tmp_path: Path, fragile_server: TigerBeetleServer
) -> None:
    """Nobody can tell then. When it is back, the newer one goes on, the older one books and stops."""
    name = f"n{secrets.token_hex(6)}"
    daemons = [
        Daemon(
            Settings(
                node_id=name,
                ilp_address=f"g.{name}",
                btp_server_port=0,
                http_port=0,
                data_dir=tmp_path / str(number),
                tigerbeetle_cluster_id=FRAGILE_CLUSTER_ID,
                tigerbeetle_replicas=fragile_server.address,
                peers=[PeerSettings(id="alice", secret="alice-token", credit_limit=10**6)],
            )
        )
        for number in range(2)
    ]
    old, new = daemons
    total = 0
    ends = asyncio.Event()
    running = [asyncio.create_task(one.connector.run_until(ends)) for one in daemons[:1]]
    try:
        await old.log.seen("connector_started", generation=1)
        fragile_server.kill()
        await old.log.seen("accounting_state_changed", state="spooling")
        running.append(asyncio.create_task(new.connector.run_until(ends)))
        await new.log.seen("connector_started", generation=0)
        for daemon in daemons:
            url = f"ws://127.0.0.1:{daemon.connector.btp_port}"
            async with load(url, "alice-token", f"g.{name}", count=20, sender="alice") as portions:
                await portions.whole()
            assert not portions.rejected
            total += portions.fulfilled * AMOUNT
        await asyncio.to_thread(fragile_server.start)
        with pytest.raises(SupersededError, match="--standby"):
            await running[0]
        assert old.log.count("lease_superseded") == 1
        assert old.connector.accounts.spooled == 0
        await until(lambda: new.connector.accounts.state is State.AVAILABLE)
        await until(lambda: new.connector.accounts.peers["alice"].net_balance == total)
        assert new.connector.accounts.generation == 2
    finally:
        ends.set()
        if not fragile_server.running:
            await asyncio.to_thread(fragile_server.start)
        await asyncio.gather(*running, return_exceptions=True)
    report = await audit(new.settings, CLOCK)
    assert report.ok, report.checks


@pytest.mark.tigerbeetle
async def test_a_standby_books_what_its_data_dir_still_holds(
    tmp_path: Path, fragile_server: TigerBeetleServer
) -> None:
    """Its machine was away when another one took over: what it had promised is not left to chance."""
    name = f"n{secrets.token_hex(6)}"

    def daemon(folder: str) -> Daemon:
        return Daemon(
            Settings(
                node_id=name,
                ilp_address=f"g.{name}",
                btp_server_port=0,
                http_port=0,
                data_dir=tmp_path / folder,
                tigerbeetle_cluster_id=FRAGILE_CLUSTER_ID,
                tigerbeetle_replicas=fragile_server.address,
                peers=[PeerSettings(id="alice", secret="alice-token", credit_limit=10**6)],
            )
        )

    old, new = daemon("a"), daemon("b")
    stop_old, stop_new = asyncio.Event(), asyncio.Event()
    first = asyncio.create_task(old.connector.run_until(stop_old))
    running: list[asyncio.Task[None]] = []
    try:
        await old.log.seen("connector_started", generation=1)
        fragile_server.kill()
        await old.log.seen("accounting_state_changed", state="spooling")
        url = f"ws://127.0.0.1:{old.connector.btp_port}"
        async with load(url, "alice-token", f"g.{name}", count=20, sender="alice") as portions:
            await portions.whole()
        stop_old.set()
        await first
        assert old.connector.accounts.spooled
        await asyncio.to_thread(fragile_server.start)
        running.append(asyncio.create_task(new.connector.run_until(stop_new)))
        await new.log.seen("connector_started", generation=2)
        alice = new.connector.accounts.peers["alice"]
        assert alice.net_balance == 0
        running.append(asyncio.create_task(serve(old.settings, stop_new, standby=True)))
        await until(lambda: alice.net_balance == portions.fulfilled * AMOUNT)
        assert not new.connector.accounts.is_superseded
    finally:
        stop_old.set()
        stop_new.set()
        if not fragile_server.running:
            await asyncio.to_thread(fragile_server.start)
        await asyncio.gather(first, *running, return_exceptions=True)
    report = await audit(new.settings, CLOCK)
    assert report.ok, report.checks
