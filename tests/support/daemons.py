"""Whole connectors in one process: real websockets over loopback, real files, and a log to wait on.

async with RunningNodes(tmp_path) as network:
    a, b, c = await network.chain("a", "b", "c")
    answer = await a.connector.send("g.c", 100)
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from connector import Connector, PeerSettings, Settings
from connector.base.clock import SystemClock
from connector.base.stop import Stop
from connector.tools.audit import audit, mirror_faults
from connector.version import is_compiled
from tests.support.patience import PATIENCE_SECONDS
from tests.support.ports import free_port, free_ports

CLOCK = SystemClock()


class EventLog:
    """A log that can be waited on. What a node logs as `error` is a bug of ours."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str, dict[str, Any]]] = []
        self._more = asyncio.Event()

    def debug(self, event: str, **fields: Any) -> None:
        self._note("debug", event, fields)

    def info(self, event: str, **fields: Any) -> None:
        self._note("info", event, fields)

    def warning(self, event: str, **fields: Any) -> None:
        self._note("warning", event, fields)

    def error(self, event: str, **fields: Any) -> None:
        self._note("error", event, fields)

    def _note(self, level: str, event: str, fields: dict[str, Any]) -> None:
        self.events.append((level, event, fields))
        self._more.set()

    def count(self, event: str, **fields: Any) -> int:
        """How often it was logged with these fields."""
        return sum(
            name == event and fields.items() <= said.items() for _, name, said in self.events
        )

    async def seen(self, event: str, *, times: int = 1, **fields: Any) -> None:
        """Wait until it has been logged so often with these fields."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while self.count(event, **fields) < times:
                self._more.clear()
                await self._more.wait()


class Daemon:
    """One connector, in a task of its own as in the daemon."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.log = EventLog()
        self.connector = Connector(settings, log=self.log)
        self._stop = Stop()
        self._task: asyncio.Task[None] | None = None

    async def start(self, group: asyncio.TaskGroup) -> None:
        self._task = group.create_task(self.connector.run_until(self._stop))
        await self.log.seen("connector_started", compiled=is_compiled())

    async def stop(self, *, comes_back: bool = False) -> None:
        """Stop it as a signal would, and wait until it has; `comes_back`: as SIGUSR2 would."""
        self._stop.comes_back = comes_back
        self._stop.set()
        assert self._task is not None
        await self._task

    async def linked(self, peer_id: str, times: int = 1) -> None:
        """Wait until it is connected to a peer, for the first or a later time."""
        await self.log.seen("btp_connection_established", peer_id=peer_id, times=times)

    def net(self, peer_id: str) -> int:
        """What the peer owes it; negative: what it owes the peer."""
        return self.connector.accounts.peers[peer_id].net_balance

    def cut(self, peer_id: str) -> None:
        """Break the connection to a peer without a word."""
        self.connector.links.live[peer_id].abort()


async def until(check: Callable[[], bool]) -> None:
    """Wait for what no event tells."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not check():
            await asyncio.sleep(0.005)


class RunningNodes:
    """Daemons in one process, connected as a chain; each dials the one on its left."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.daemons: dict[str, Daemon] = {}
        self._group = asyncio.TaskGroup()
        self._pairs: list[tuple[str, str]] = []

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        for daemon in reversed(self.daemons.values()):
            await daemon.stop()
        await self._group.__aexit__(*error)
        for daemon in self.daemons.values():
            errors = [event for event in daemon.log.events if event[0] == "error"]
            assert not errors, errors

    async def add(self, node_id: str, peers: list[PeerSettings], **settings: Any) -> Daemon:
        """Start a node with ports, files and an address of its own.

        Its BTP port is one that stays free while the node is away: it comes back at the same one.
        """
        whole = {
            "node_id": node_id,
            "ilp_address": f"g.{node_id}",
            "btp_server_port": free_port(),
            "http_port": 0,
            "data_dir": self.folder / node_id,
            **settings,
        }
        daemon = Daemon(Settings(**whole, peers=peers))
        await daemon.start(self._group)
        self.daemons[node_id] = daemon
        return daemon

    async def chain(
        self,
        *node_ids: str,
        peer: dict[str, dict[str, Any]] | None = None,
        node: dict[str, dict[str, Any]] | None = None,
        at_once: bool = False,
    ) -> list[Daemon]:
        """Nodes in a row, connected.

        `node[id]` are settings of a node; `peer["a-b"]` those that `a` has for its peer `b`.
        `at_once`: none waits for the one before it, where a ledger takes its time to open.
        """
        ports = dict(zip(node_ids, free_ports(len(node_ids)), strict=True)) if at_once else {}

        async def start(at: int) -> None:
            node_id, left, right = node_ids[at], node_ids[:at], node_ids[at + 1 :]
            peers = []
            for beside, prefixes in ((left[-1:], left), (right[:1], right)):
                for other in beside:
                    dial = self.url_of(other) if other in self.daemons else None
                    if at_once and beside == left[-1:]:
                        dial = f"ws://127.0.0.1:{ports[other]}"
                    own = {
                        "id": other,
                        "secret": secret_of(node_id, other),
                        "url": dial,
                        "routes": [f"g.{one}" for one in prefixes],
                    }
                    peers.append(
                        PeerSettings(**{**own, **(peer or {}).get(f"{node_id}-{other}", {})})
                    )
            port = {"btp_server_port": ports[node_id]} if at_once else {}
            await self.add(node_id, peers, **{**port, **(node or {}).get(node_id, {})})

        async def linked(at: int) -> None:
            for left in node_ids[:at][-1:]:
                self._pairs.append((left, node_ids[at]))
                await self.daemons[node_ids[at]].linked(left)
                await self.daemons[left].linked(node_ids[at])

        if at_once:
            async with asyncio.TaskGroup() as group:
                for at in range(len(node_ids)):
                    group.create_task(start(at))
            # In the order of the chain: nodes are stopped in reverse.
            self.daemons |= {node_id: self.daemons.pop(node_id) for node_id in node_ids}
        for at in range(len(node_ids)):
            if not at_once:
                await start(at)
            await linked(at)
        return [self.daemons[node_id] for node_id in node_ids]

    def url_of(self, node_id: str) -> str:
        """Where to dial a node."""
        return f"ws://127.0.0.1:{self.daemons[node_id].connector.btp_port}"

    async def restart(
        self,
        node_id: str,
        meanwhile: Callable[[], None] = lambda: None,
        *,
        comes_back: bool = False,
        **changes: Any,
    ) -> Daemon:
        """Stop a node and start it again, at the same port, on the same files.

        `meanwhile` is called while it does not run; `changes` are of its settings; `comes_back`: its
        peers are told that it does.
        """
        old = self.daemons[node_id]
        await old.stop(comes_back=comes_back)
        meanwhile()
        port = old.connector.btp_port
        daemon = Daemon(old.settings.model_copy(update={"btp_server_port": port, **changes}))
        await daemon.start(self._group)
        self.daemons[node_id] = daemon
        return daemon

    async def stop(self) -> list[str]:
        """Stop all nodes; what is wrong with the books that they leave behind on disk."""
        for daemon in reversed(self.daemons.values()):
            await daemon.stop()
        reports = await asyncio.gather(
            *(audit(daemon.settings, CLOCK) for daemon in self.daemons.values())
        )
        faults = [
            f"{report.node_id}: {check}"
            for report in reports
            for check in report.checks
            if not check[1]
        ]
        faults += [
            f"{report.node_id} still holds {report.pending}" for report in reports if report.pending
        ]
        return faults + mirror_faults(reports, self._pairs)


def secret_of(a: str, b: str) -> str:
    """What two nodes share."""
    return "-".join(("secret", *sorted((a, b))))
