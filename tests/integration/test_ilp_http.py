"""Whole nodes linked over HTTP (RFC 35): packets, books, crashes, and hostile or broken other sides."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from connector import Fulfill, PeerSettings
from tests.support.daemons import Daemon, RunningNodes, secret_of
from tests.support.ports import free_ports


class HttpPair(RunningNodes):
    """Two nodes, a and b, with nothing but HTTP between them."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.ports = dict(zip("ab", free_ports(2), strict=True))
        self._pairs.append(("a", "b"))

    def url(self, of: str, for_: str) -> str:
        return f"http://127.0.0.1:{self.ports[of]}/accounts/{for_}/ilp"

    def peer(self, at: str, other: str, **more: Any) -> PeerSettings:
        return PeerSettings(
            **{
                "id": other,
                "secret": secret_of(at, other),
                "http_url": self.url(other, at),
                "routes": [f"g.{other}"],
                **more,
            }
        )

    async def both(self, **more: Any) -> tuple[Daemon, Daemon]:
        """Start them; `more` are settings that each has for the other."""
        for at, other in ("ab", "ba"):
            await self.add(at, [self.peer(at, other, **more)], ilp_http_port=self.ports[at])
        a, b = self.daemons["a"], self.daemons["b"]
        await reached(a, "b")
        await reached(b, "a")
        return a, b


async def reached(daemon: Daemon, peer_id: str, times: int = 1) -> None:
    await daemon.log.seen("ilp_http_reached", peer_id=peer_id, times=times)


@pytest.mark.parametrize("mode", ["sync", "async"])
async def test_packets_go_both_ways_and_the_books_match(tmp_path: Path, mode: str) -> None:
    async with HttpPair(tmp_path) as network:
        a, b = await network.both(http_mode=mode)
        for _ in range(3):
            assert isinstance(await a.connector.send("g.b", 100), Fulfill)
        assert isinstance(await b.connector.send("g.a", 50), Fulfill)
        assert a.net("b") == -250
        assert b.net("a") == 250
        assert await network.stop() == []


@pytest.mark.parametrize("mode", ["sync", "async"])
async def test_many_packets_at_once_are_all_answered_and_booked(tmp_path: Path, mode: str) -> None:
    async with HttpPair(tmp_path) as network:
        a, b = await network.both(http_mode=mode)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(a.connector.send("g.b", 1)) for _ in range(500)]
        assert all(isinstance(task.result(), Fulfill) for task in tasks)
        assert b.net("a") == 500
        assert await network.stop() == []
