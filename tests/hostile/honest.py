"""The honest peers: one pays, one is paid, some are idle, one comes anew; what they see of the node.

    python -m tests.hostile.honest SEED FACTS

A process of its own, at the usual priority. It is told the target on the first line of its standard
input and then the names of phases; when that is closed it waits for its last answers, and writes to the
file FACTS what was paid. Once a second it says, as JSON, how long the packets of the phase took.

Beside the packets it asks `cat` for a line and back: how long that takes is the machine's doing, and none
of the node's.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import random
import ssl
import sys
from collections import Counter
from pathlib import Path
from typing import Any, Final

import uvloop

from connector.simulation import octets
from tests.hostile import packets
from tests.hostile.target import RECEIVER, SENDER, Target, secret_of
from tests.hostile.wire import GONE, Wire

PACKETS_PER_SECOND: Final = 100
ECHOES_PER_SECOND: Final = 50
IDLE: Final = 20
NEWCOMER: Final = f"idle-{IDLE}"
NEWCOMER_SECONDS: Final = 2.0
EXPIRY_SECONDS: Final = 20.0
_SOURCE: Final = "127.0.0.1"
_AGAIN_SECONDS: Final = 0.5


class Honest:
    """See the module."""

    def __init__(self, target: Target, chance: random.Random) -> None:
        self._target = target
        self._chance = chance
        self._tls = ssl.create_default_context(cafile=target.certificate)
        self._waiting: dict[int, tuple[float, bytes, int, str]] = {}
        """By request id: when it was sent, its condition, its amount, the phase."""
        self._sender: Wire | None = None
        self.phase = ""
        self.paid: dict[str, int] = {}
        """Amounts by condition, in hex: what the sender has the proof of."""
        self.received: dict[str, int] = {}
        """Likewise, what the receiver has fulfilled."""
        self._said: dict[str, Any] = {}
        self._counts: Counter[str] = Counter()
        self._reset()

    def _reset(self) -> None:
        self._said = {"packets": [], "echoes": [], "logIns": []}

    def take(self) -> dict[str, Any]:
        """What was seen since the last call."""
        said = {"phase": self.phase, "counts": dict(self._counts), **self._said}
        self._reset()
        return said

    async def run(self, ready: asyncio.Event) -> None:
        """Pay and be paid until cancelled."""
        connected = asyncio.Barrier(3)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keep(RECEIVER, self._receive, connected))
            group.create_task(self._keep(SENDER, self._listen, connected))
            for number in range(IDLE):
                group.create_task(self._keep(f"idle-{number}", self._listen, None))
            await connected.wait()
            ready.set()
            group.create_task(self._newcomer())
            group.create_task(self._pay())
            group.create_task(self._echo())

    async def finish(self) -> None:
        """Send no more, and wait for the answers that are due."""
        self.phase = "over"
        loop = asyncio.get_running_loop()
        end_s = loop.time() + EXPIRY_SECONDS
        while self._waiting and loop.time() < end_s:
            await asyncio.sleep(0.05)
        self._counts["lost"] += len(self._waiting)

    async def _keep(self, peer_id: str, work: Any, first: asyncio.Barrier | None) -> None:
        while True:
            try:
                wire = await Wire.open(self._target, _SOURCE, tls=self._tls)
                try:
                    await wire.log_in(peer_id, secret_of(peer_id))
                    self._counts["log-ins"] += 1
                    if first is not None:
                        waits, first = first, None
                        if peer_id == SENDER:
                            self._sender = wire
                        await waits.wait()
                    if peer_id == SENDER:
                        self._sender = wire
                    await work(wire)
                finally:
                    wire.abort()
            except GONE:
                pass
            self._counts["links lost"] += 1
            await asyncio.sleep(_AGAIN_SECONDS)

    async def _newcomer(self) -> None:
        """A peer that comes anew all the time: strangers must not keep it out."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(NEWCOMER_SECONDS)
            began_s = loop.time()
            try:
                wire = await Wire.open(self._target, _SOURCE, tls=self._tls)
                try:
                    await wire.log_in(NEWCOMER, secret_of(NEWCOMER))
                    self._said["logIns"].append(round((loop.time() - began_s) * 1000, 3))
                finally:
                    wire.abort()
            except GONE:
                self._counts["log-ins refused"] += 1

    # --- paying

    async def _pay(self) -> None:
        loop = asyncio.get_running_loop()
        due_s = loop.time()
        while True:
            due_s = max(due_s + 1 / PACKETS_PER_SECOND, loop.time() - 0.05)
            await asyncio.sleep(due_s - loop.time())
            if self.phase and self.phase != "over" and self._sender is not None:
                self._offer(self._sender, loop.time())

    def _offer(self, wire: Wire, now_s: float) -> None:
        data = self._chance.randbytes(32) + bytes(68)
        condition = hashlib.sha256(_preimage(data)).digest()
        amount = self._chance.randint(1, 1000)
        ilp = packets.prepare(
            f"{RECEIVER}.shop", amount, seconds=EXPIRY_SECONDS, condition=condition, data=data
        )
        self._waiting[wire.request(ilp)] = (now_s, condition, amount, self.phase)
        self._counts["sent"] += 1

    async def _listen(self, wire: Wire) -> None:
        loop = asyncio.get_running_loop()
        async for seen in wire.heard():
            sent = self._waiting.pop(seen.request_id, None)
            if sent is None or seen.kind == octets.MESSAGE:
                continue
            sent_s, condition, amount, phase = sent
            if phase == self.phase:
                self._said["packets"].append(round((loop.time() - sent_s) * 1000, 3))
            answer = octets.read_ilp(seen.protocols["ilp"])
            assert isinstance(answer, octets.AnswerSeen)
            if answer.code:
                self._counts[f"rejected {answer.code} {answer.message}"] += 1
            elif hashlib.sha256(answer.preimage).digest() == condition:
                self._counts["fulfilled"] += 1
                self.paid[condition.hex()] = amount
            else:
                self._counts["fulfilled without the preimage"] += 1

    # --- being paid

    async def _receive(self, wire: Wire) -> None:
        async for seen in wire.heard():
            if seen.kind != octets.MESSAGE:
                continue
            packet = octets.read_ilp(seen.protocols["ilp"])
            assert isinstance(packet, octets.PrepareSeen)
            preimage = _preimage(packet.data)
            if hashlib.sha256(preimage).digest() != packet.condition:
                # Of an attacker: nothing that this receiver sells.
                wire.answer(seen.request_id, octets.reject("F06", "g.hub.bob", "not for us"))
                continue
            self.received[packet.condition.hex()] = packet.amount
            wire.answer(seen.request_id, octets.fulfill(preimage))

    # --- the machine

    async def _echo(self) -> None:
        pipe = asyncio.subprocess.PIPE
        cat = await asyncio.create_subprocess_exec("cat", stdin=pipe, stdout=pipe)
        assert cat.stdin is not None
        assert cat.stdout is not None
        loop = asyncio.get_running_loop()
        try:
            while True:
                await asyncio.sleep(1 / ECHOES_PER_SECOND)
                began_s = loop.time()
                cat.stdin.write(b"?\n")
                await cat.stdout.readline()
                self._said["echoes"].append(round((loop.time() - began_s) * 1000, 3))
        finally:
            with contextlib.suppress(ProcessLookupError):
                cat.kill()


def _preimage(data: bytes) -> bytes:
    return hashlib.sha256(b"honest" + data).digest()


async def _reports(honest: Honest) -> None:
    while True:
        await asyncio.sleep(1)
        print(json.dumps(honest.take()), flush=True)


async def _main(target: Target, seed: str, facts: Path) -> None:
    honest = Honest(target, random.Random(seed))
    ready = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(honest.run(ready)), group.create_task(_reports(honest))]
        await ready.wait()
        print("{}", flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            honest.phase = line.strip()
        await honest.finish()
        print(json.dumps(honest.take()), flush=True)
        facts.write_text(json.dumps({"paid": honest.paid, "received": honest.received}))
        for task in tasks:
            task.cancel()


def main() -> None:
    """Until standard input is closed."""
    seed, facts = sys.argv[1:]
    uvloop.run(_main(Target.from_json(sys.stdin.readline()), seed, Path(facts)))


if __name__ == "__main__":
    main()
