"""Payments that came in, of a whole core in memory and in simulated time: disks that fail, and crowds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import httpx
import pytest

from connector.base import limits
from connector.base.errors import EnvironmentFault
from connector.node import bounds
from connector.node.received import ReceivedPayments
from connector.node.received_store import ReceivedStore
from connector.stream.incoming import Incoming, IncomingPayments
from tests.support.clocks import simulated
from tests.support.cores import Machine, settings_of
from tests.support.in_memory import MemoryNetwork
from tests.support.outside_http import FakeNetwork


class Paid(Machine):
    """A node with wallets whose payments are told to `answers`."""

    received: ReceivedPayments
    incoming: IncomingPayments

    def __init__(self, answers: Callable[[httpx.Request], Any]) -> None:
        paid = {"pay_port": 0, "wallets": ["alice"], "pay_webhook_url": "http://application/paid"}
        super().__init__(MemoryNetwork(), settings_of("carol", 1, **paid))
        self.pay_key = bytes(32)
        self.answers = answers

    async def began(self, group: asyncio.TaskGroup) -> None:
        assert self.core.incoming is not None
        self.incoming = self.core.incoming
        self.received = ReceivedPayments(
            self.core, self.incoming, emit=self.events.append, transport=FakeNetwork(self.answers)
        )
        await self.received.open()
        self.received.start(group)

    async def ends(self) -> None:
        await self.received.stop()

    def pay(self, token: str, amount: int = 1) -> None:
        """A payment that came in as a whole."""
        self.incoming.received(token, "alice", amount)
        self.incoming.closed(token)


@simulated
async def test_a_disk_that_fails_while_a_webhook_is_told_stops_no_node(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: list[bytes] = []

    def answer(request: httpx.Request) -> httpx.Response:
        told.append(request.content)
        return httpx.Response(204, stream=httpx.ByteStream(b""))

    node = Paid(answer)
    note, failures = ReceivedStore.told, 2

    async def fails(self: ReceivedStore, *arguments: Any, **more: Any) -> None:
        nonlocal failures
        failures -= 1
        if failures >= 0:
            raise EnvironmentFault("received payments: disk full")
        await note(self, *arguments, **more)

    monkeypatch.setattr(ReceivedStore, "told", fails)
    async with asyncio.TaskGroup() as group:
        await node.start(group)
        node.pay("token")
        async with asyncio.timeout(60):
            while (await node.received.recent(wallet=None, hook="told", cursor="", count=1))[
                0
            ] == []:
                await asyncio.sleep(0.1)
        # Nor is it told again, since this process knows that it was.
        assert len(told) == 1
        await node.stop()


@simulated
async def test_a_crowd_is_written_in_parts_told_by_turns_and_its_failures_fill_no_log(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bounds, "RECEIVED_WRITTEN_AT_ONCE_MAX", 7)
    written: list[int] = []
    put = ReceivedStore.put

    async def noted(self: ReceivedStore, changed: Sequence[Incoming], **more: Any) -> None:
        written.append(len(changed))
        await put(self, changed, **more)

    monkeypatch.setattr(ReceivedStore, "put", noted)
    node = Paid(lambda _: httpx.Response(500, stream=httpx.ByteStream(b"")))
    async with asyncio.TaskGroup() as group:
        await node.start(group)
        for number in range(100):
            node.pay(f"token{number}")
        async with asyncio.timeout(60):
            while node.received.waiting < 100:
                await asyncio.sleep(0.1)
        lines = node.log.count("webhook_failed")
        began_s = asyncio.get_running_loop().time()
        await asyncio.sleep(10)
        lines = node.log.count("webhook_failed") - lines
        seconds = asyncio.get_running_loop().time() - began_s
        assert 0 < lines <= limits.LOG_LINES_PER_SECOND_PER_EVENT_MAX * (seconds + 1)
        # At a stop, too, all of it is written.
        node.pay("last")
        await node.stop()
    assert max(written) == 7
    assert sum(written) >= 101
