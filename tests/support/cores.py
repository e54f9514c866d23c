"""Whole cores in memory and in simulated time, which can be stopped and abandoned."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from connector import PeerSettings, Prepare, Settings
from connector.node.core import Core
from connector.node.lifecycle import Lifecycle
from connector.telemetry.events import Event
from tests.support.accounts import ScriptedLedger
from tests.support.clocks import SimulatedClock
from tests.support.daemons import EventLog
from tests.support.in_memory import MemoryDisk, MemoryNetwork, memory_platform


class Machine:
    """What outlives the life of a core: its ledger and its disk."""

    def __init__(self, network: MemoryNetwork, settings: Settings) -> None:
        self.network = network
        self.settings = settings
        self.disk = MemoryDisk()
        self.ledger = ScriptedLedger(clock=SimulatedClock())
        self.log = EventLog()
        self.events: list[Event] = []
        self.on_prepare: Callable[[Prepare], Any] | None = None
        self.pay_key: bytes | None = None
        self.core: Core
        self.life: Lifecycle
        self._lives = 0
        self._task: asyncio.Task[None] | None = None
        self._stop = asyncio.Event()

    async def start(self, group: asyncio.TaskGroup) -> None:
        """Begin a life; returns when it has started."""
        self._lives += 1
        self._stop = asyncio.Event()
        seed = sum(self.settings.node_id.encode()) * 100 + self._lives
        self.core = Core(
            self.settings,
            platform=memory_platform(self.network, self.disk, self.log, seed=seed),
            ledger=self.ledger,
            emit=self.events.append,
            pay_key=self.pay_key,
        )
        if self.on_prepare is not None:
            self.core.on_prepare(self.on_prepare)
        self.life = Lifecycle(self.core)
        started = asyncio.Event()
        self._task = group.create_task(self._run(started))
        await started.wait()

    async def _run(self, started: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as group:
            await self.life.open()
            await self.life.start(group)
            await self.began(group)
            started.set()
            await self._stop.wait()
            await self.ends()
            await self.life.stop()
        await self.life.close()

    async def began(self, group: asyncio.TaskGroup) -> None:
        """For what a test adds to a core."""

    async def ends(self) -> None:
        """The same before it is stopped."""

    async def stop(self) -> None:
        """Stop cleanly."""
        assert self._task is not None
        self._stop.set()
        await self._task

    async def crash(self) -> None:
        """Abandon it: nothing is finished, nobody is told; its connections break."""
        assert self._task is not None
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        self.network.listening.pop(self.settings.btp_server_port, None)
        self.network.cut()

    def net(self, peer_id: str) -> int:
        return self.core.accounts.peers[peer_id].net_balance

    async def connected(self, peer_id: str) -> None:
        async with asyncio.timeout(60):
            while peer_id not in self.core.links.live:
                await asyncio.sleep(0.05)


def settings_of(node_id: str, port: int, *peers: PeerSettings, **more: Any) -> Settings:
    values = {
        "node_id": node_id,
        "ilp_address": f"g.{node_id}",
        "btp_server_port": port,
        "ledger": "memory",
        "data_dir": Path("/made-up") / node_id,
        "credit_limit": 1_000,
    }
    return Settings(**{**values, **more}, peers=list(peers))


def peer(a: str, b: str, *, dials: int | None = None, **more: Any) -> PeerSettings:
    """`b` as a peer of `a`; `dials`: the port of `b` that `a` dials."""
    url = None if dials is None else f"ws://{b}.example:{dials}"
    return PeerSettings(id=b, secret="-".join(sorted((a, b))), url=url, **more)
