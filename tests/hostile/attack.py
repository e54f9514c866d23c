"""What an attack is, and the process that carries one out.

    python -m tests.hostile.attack NAME SEED

Each attack has a process of its own, at the lowest priority, so that it shares neither the event loop
nor the time of those who measure. It is told the target on the first line of its standard input, begins
with the second, and ends when that is closed. What it has done it says once a second, as JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, ClassVar, Final

import uvloop

from connector.simulation import octets
from tests.hostile.target import Target, secret_of
from tests.hostile.wire import GONE, Wire, logged_in, opened

Peers = Mapping[str, Mapping[str, Any]]
"""Peers of the node, and what of their settings differs from the usual."""
NICENESS: Final = 19
_REPORT_SECONDS: Final = 1.0
_BEHIND_SECONDS_MAX: Final = 0.1
"""What a busy machine has made an attacker miss beyond this is not made up for."""
_AT_ONCE_MAX: Final = 100
PAUSE_SECONDS: Final = 1.0
"""After a connection that the node has closed."""


class Attack(ABC):
    """One kind of hostile behaviour, at a rate that it states."""

    name: ClassVar[str]
    rate: ClassVar[str]
    """What it does a second, for people."""
    peers: ClassVar[Peers] = {}
    """Those of its own."""

    def __init__(self, target: Target, number: int, chance: random.Random) -> None:
        """`number` tells it from others: its addresses are 127.1.<number>.x."""
        self.target = target
        self.chance = chance
        self.done: Counter[str] = Counter()
        """What it has done, and what came of it."""
        self.findings: list[str] = []
        """What a node must not let happen."""
        self._number = number

    @abstractmethod
    async def run(self) -> None:
        """Attack until cancelled."""

    # --- for attacks

    def source(self, which: int = 1) -> str:
        """One of its addresses."""
        return f"127.1.{self._number}.{which}"

    def find(self, what: str) -> None:
        """Note what must not happen."""
        if len(self.findings) < 10:
            self.findings.append(what)

    async def ticks(self, per_second: float) -> AsyncIterator[int]:
        """So many a second, evenly."""
        loop = asyncio.get_running_loop()
        due_s, count = loop.time(), 0
        while True:
            due_s = max(due_s + 1 / per_second, loop.time() - _BEHIND_SECONDS_MAX)
            await asyncio.sleep(due_s - loop.time())
            yield count
            count += 1

    async def each(self, per_second: float, one: Callable[[int], Awaitable[object]]) -> None:
        """So many a second, without waiting for the end of those before; they may end as in `GONE`."""
        under_way: set[asyncio.Task[None]] = set()
        async with asyncio.TaskGroup() as group:
            async for count in self.ticks(per_second):
                if len(under_way) >= _AT_ONCE_MAX:
                    self.done["left out"] += 1
                    continue
                task = group.create_task(self._once(one(count)))
                under_way.add(task)
                task.add_done_callback(under_way.discard)

    async def _once(self, one: Awaitable[object]) -> None:
        try:
            await one
        except* GONE:
            self.done["closed by the node"] += 1

    async def keep(self, session: Callable[[], Awaitable[None]]) -> None:
        """One session after the other, whatever becomes of each."""
        while True:
            try:
                await session()
            except* GONE:
                self.done["closed by the node"] += 1
            await asyncio.sleep(PAUSE_SECONDS)

    @asynccontextmanager
    async def peer(self, peer_id: str, *, ids: bool = False) -> AsyncIterator[Wire]:
        """One of its peers, logged in."""
        async with logged_in(
            self.target, self.source(), peer_id, secret_of(peer_id), ids=ids
        ) as wire:
            self.done["log-ins"] += 1
            yield wire

    @asynccontextmanager
    async def stranger(self, which: int = 1, **how: bool | int) -> AsyncIterator[Wire]:
        """A connection without a log-in."""
        async with opened(self.target, self.source(which), **how) as wire:
            self.done["connections"] += 1
            yield wire

    async def silent(self, peer_id: str) -> None:
        """Be a peer that is given packets and answers none."""

        async def session() -> None:
            async with self.peer(peer_id) as wire:
                async for seen in wire.heard():
                    self.done["packets left unanswered"] += seen.kind == octets.MESSAGE

        await self.keep(session)

    async def sends(
        self, peer_id: str, per_second: float, make: Callable[[int], bytes], *, ids: bool = False
    ) -> None:
        """Be a peer that sends, and counts the answers by code."""

        async def session() -> None:
            async with self.peer(peer_id, ids=ids) as wire, asyncio.TaskGroup() as group:
                listening = group.create_task(self.counts(wire))
                async for count in self.ticks(per_second):
                    if listening.done():
                        return
                    packet_id = self.chance.randbytes(16) if ids else b""
                    wire.request(make(count), packet_id)
                    self.done["packets"] += 1
                    await wire.writer.drain()

        await self.keep(session)

    async def counts(self, wire: Wire) -> None:
        """Count all that a peer is answered."""
        async for seen in wire.heard():
            if seen.kind == octets.RESPONSE and "ilp" in seen.protocols:
                self.count(seen.protocols["ilp"])

    def count(self, ilp: bytes) -> None:
        """Count an answer to a packet."""
        answer = octets.read_ilp(ilp)
        if isinstance(answer, octets.AnswerSeen):
            self.done[f"rejected {answer.code}" if answer.code else "fulfilled"] += 1


async def together(*parts: Awaitable[None]) -> None:
    """All at once, until cancelled."""
    async with asyncio.TaskGroup() as group:
        for part in parts:
            group.create_task(_of(part))


async def _of(part: Awaitable[None]) -> None:
    await part


async def _reports(attack: Attack) -> None:
    while True:
        await asyncio.sleep(_REPORT_SECONDS)
        said = {"done": attack.done, "findings": attack.findings}
        print(json.dumps(said), flush=True)


async def _main(attack: Attack) -> None:
    async with asyncio.TaskGroup() as group:
        parts = [group.create_task(attack.run()), group.create_task(_reports(attack))]
        await asyncio.to_thread(sys.stdin.read)
        for part in parts:
            part.cancel()


def main() -> None:
    """Carry out the attack that the command line names."""
    from tests.hostile.catalogue import ATTACKS

    name, seed = sys.argv[1:]
    os.nice(NICENESS)
    target = Target.from_json(sys.stdin.readline())
    number = list(ATTACKS).index(name) + 1
    attack = ATTACKS[name](target, number, random.Random(f"{seed} {name}"))
    print("{}", flush=True)
    if sys.stdin.readline():
        uvloop.run(_main(attack))


if __name__ == "__main__":
    main()
