"""One run: a quiet time, then all attacks at once, then the books.

The node, the honest peers and each attack are processes of their own; this one only looks.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import urllib.request
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.hostile import books
from tests.hostile.attack import Attack
from tests.hostile.child import Child
from tests.hostile.node import Costs, Node, make_certificate
from tests.hostile.report import Bound, Phase, Report, percentile
from tests.hostile.target import ADMIN_KEY, EVENTS_BYTES_MAX, Target, settings
from tests.support.ports import free_ports

MEMORY_MIB_MAX: Final = 512
P99_TIMES_MAX: Final = 2.0
HEALTH_SECONDS_MAX: Final = 5.0
LOG_IN_SECONDS_MAX: Final = 5.0
DESCRIPTORS_LEFT_MAX: Final = 20
"""More than before the attacks, once the attackers are gone."""
LOG_STALL_EVERY_SECONDS: Final = 30
LOG_STALL_SECONDS: Final = 10
_USUAL: Final = frozenset(("sent", "fulfilled", "log-ins"))
"""Counts of the honest peers that say nothing bad."""
_SETTLE_SECONDS: Final = 2.0
_CALM_SECONDS_MAX: Final = 30.0
_END_SECONDS_MAX: Final = 40.0


@dataclass(slots=True, frozen=True, kw_only=True)
class Plan:
    """What is wanted of a run."""

    quiet_seconds: float
    attack_seconds: float
    attacks: dict[str, type[Attack]]
    stalls_log: bool
    seed: int
    p99_times_max: float = P99_TIMES_MAX


class Campaign:
    """See the module."""

    def __init__(self, plan: Plan, folder: Path, say: Callable[[str], None]) -> None:
        """Nothing is started yet.

        Args:
            plan: what is wanted.
            folder: for the node's files.
            say: is given a line about the progress.
        """
        self.report = Report()
        self._plan = plan
        self._folder = folder
        self._say = say
        self._target = self._make_target()
        self._node = Node(folder, self._target)
        self._attackers: list[Child] = []
        self._honest: Child
        self._phase: Phase | None = None
        self._health_max_s = 0.0
        self._health_failures: list[str] = []
        self._minute = array("d")

    def _make_target(self) -> Target:
        btp, http, pages, engine, receiver, collector, pay, ilp_http, rates = free_ports(9)
        return Target(
            btp_port=btp, http_port=http, pages_port=pages, engine_port=engine,
            receiver_port=receiver, collector_port=collector, pay_port=pay, ilp_http_port=ilp_http,
            rates_port=rates,
            certificate=str(self._folder / "certificate.pem"),
        )  # fmt: skip

    async def run(self, stopped: asyncio.Event) -> Report:
        """All of it; `stopped`: ends the attacks early, and what is left is done all the same."""
        plan = self._plan
        make_certificate(self._folder)
        peers = {
            name: dict(how) for one in plan.attacks.values() for name, how in one.peers.items()
        }
        (self._folder / "settings.yaml").write_text(settings(self._target, self._folder, peers))
        async with asyncio.TaskGroup() as group:
            with self._all_ended():
                await self._node.start(group)
                self.report.compiled = self._node.log.compiled
                await self._start_children(group)
                looking = group.create_task(self._look())
                self._say(
                    f"quiet for {plan.quiet_seconds:g} s, then {len(self._attackers)} attacks"
                )
                await self._during(self.report.quiet, "quiet", plan.quiet_seconds, stopped)
                before = self._descriptors()
                for attacker in self._attackers:
                    attacker.tell("go")
                stalling = group.create_task(self._stall_log()) if plan.stalls_log else None
                await self._during(self.report.attacked, "attack", plan.attack_seconds, stopped)
                self.report.interrupted = stopped.is_set()
                if stalling is not None:
                    stalling.cancel()
                    self._node.log.stall(False)
                await self._end(self._attackers)
                left = await self._calm(before)
                await self._end([self._honest])
                looking.cancel()
                exit_code = await self._node.stop()
            await self._judge(before, left, exit_code)
        return self.report

    # --- processes

    @contextlib.contextmanager
    def _all_ended(self) -> Iterator[None]:
        try:
            yield
        finally:
            self._node.log.stall(False)
            for child in self._attackers:
                child.kill()
            if hasattr(self, "_honest"):
                self._honest.kill()
            self._node.kill()

    async def _start_children(self, group: asyncio.TaskGroup) -> None:
        seed = str(self._plan.seed)
        facts = str(self._folder / "facts.json")
        self._honest = await Child.start(
            "honest", "tests.hostile.honest", seed, facts, own_session=True
        )
        for name in self._plan.attacks:
            self._attackers.append(
                await Child.start(name, "tests.hostile.attack", name, seed, own_session=False)
            )
        waits = []
        for child in (self._honest, *self._attackers):
            child.tell(self._target.to_json())
            is_ready = asyncio.Event()
            waits.append(is_ready.wait())
            group.create_task(self._listen(child, is_ready))
        for wait in waits:
            await wait
        await asyncio.sleep(_SETTLE_SECONDS)

    async def _listen(self, child: Child, is_ready: asyncio.Event) -> None:
        async for said in child.lines():
            is_ready.set()
            if child is self._honest and said:
                self._take(said)
        is_ready.set()

    def _take(self, said: dict[str, Any]) -> None:
        self.report.honest = said["counts"]
        if self._phase is not None:
            self._phase.packets_ms.extend(said["packets"])
            self._phase.echoes_ms.extend(said["echoes"])
            self._phase.log_ins_ms.extend(said["logIns"])
            self._minute.extend(said["packets"])

    async def _end(self, children: list[Child]) -> None:
        for child in children:
            child.end()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_END_SECONDS_MAX):
                for child in children:
                    await child.ended()
        for child in children:
            child.kill()

    # --- phases

    async def _during(
        self, phase: Phase, name: str, seconds: float, stopped: asyncio.Event
    ) -> None:
        if stopped.is_set():
            return
        loop = asyncio.get_running_loop()
        began_s, before = loop.time(), self._node.costs()
        self._phase = phase
        self._honest.tell(name)
        minutes = 0
        while before is not None and (costs := self._node.costs()) and not stopped.is_set():
            phase.seconds = loop.time() - began_s
            phase.cpu_seconds = costs.cpu_seconds - before.cpu_seconds
            phase.memory_mib_max = max(phase.memory_mib_max, costs.memory_mib)
            phase.descriptors_max = max(phase.descriptors_max, costs.descriptors)
            if phase.seconds >= seconds:
                break
            if phase.seconds >= (minutes + 1) * 60:
                minutes += 1
                self._progress(name, minutes, phase, costs)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(1.0, seconds - phase.seconds)):
                    await stopped.wait()
        self._phase = None

    def _progress(self, name: str, minutes: int, phase: Phase, costs: Costs) -> None:
        self.report.load_1m.append(round(os.getloadavg()[0], 1))
        self._say(
            f"{name:6} {minutes:3} min: p50 {percentile(self._minute, 0.5):.1f} ms, "
            f"p99 {percentile(self._minute, 0.99):.1f} ms, "
            f"longest {percentile(self._minute, 1.0):.0f} ms; "
            f"{costs.memory_mib:.0f} MiB, {costs.descriptors} descriptors, "
            f"CPU {100 * phase.cpu_seconds / phase.seconds:.0f} %, load {os.getloadavg()[0]:.1f}, "
            f"{self._node.log.error_count} error lines"
        )
        self._minute = array("d")

    async def _stall_log(self) -> None:
        while True:
            await asyncio.sleep(LOG_STALL_EVERY_SECONDS - LOG_STALL_SECONDS)
            self._node.log.stall(True)
            await asyncio.sleep(LOG_STALL_SECONDS)
            self._node.log.stall(False)

    async def _look(self) -> None:
        """An operator who asks for health and status once a second, from an address of their own."""
        loop = asyncio.get_running_loop()
        while True:
            for path in ("/health", "/api/status"):
                began_s = loop.time()
                try:
                    await asyncio.to_thread(self._get, path)
                except OSError as error:
                    if self._node.runs and len(self._health_failures) < 10:
                        self._health_failures.append(f"{path}: {error}")
                self._health_max_s = max(self._health_max_s, loop.time() - began_s)
            await asyncio.sleep(1)

    def _get(self, path: str) -> None:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self._target.http_port}{path}",
            headers={"Authorization": f"Bearer {ADMIN_KEY}"},
        )
        with urllib.request.urlopen(request, timeout=HEALTH_SECONDS_MAX * 2) as answer:
            json.load(answer)

    async def _calm(self, before: int) -> int:
        """Wait until the attackers' sockets are closed; the descriptors that are left."""
        loop = asyncio.get_running_loop()
        end_s = loop.time() + _CALM_SECONDS_MAX
        while True:
            left = self._descriptors()
            if left <= before + DESCRIPTORS_LEFT_MAX or loop.time() > end_s:
                return left
            await asyncio.sleep(0.2)

    def _descriptors(self) -> int:
        costs = self._node.costs()
        return 0 if costs is None else costs.descriptors

    # --- the verdict

    async def _judge(self, before: int, left: int, exit_code: int | None) -> None:
        report, log = self.report, self._node.log
        report.log_events = dict(log.events.most_common())
        report.log_lines_lost = log.lines_lost
        report.attacks = {one.name: one.last.get("done", {}) for one in self._attackers}
        audit_code, report.audit = await self._node.audit()
        failures = [one.failure for one in (*self._attackers, self._honest) if one.failure]
        findings = [
            f"{one.name}: {what}"
            for one in self._attackers
            for what in one.last.get("findings", [])
        ]
        try:
            differences = books.compare(self._folder) + books.over_limits(self._folder)
        except OSError as error:
            differences = [f"nothing to compare: {error}"]
        counts = report.honest
        sent, fulfilled = counts.get("sent", 0), counts.get("fulfilled", 0)
        others = {name: n for name, n in counts.items() if n and name not in _USUAL}
        memory_mib = max(report.quiet.memory_mib_max, report.attacked.memory_mib_max)
        events = self._node.events_bytes()
        log_in_ms = percentile(report.attacked.log_ins_ms, 1.0)
        report.bounds = [
            self._p99(),
            Bound("memory", memory_mib < MEMORY_MIB_MAX, f"{memory_mib:.0f} MiB resident at most"),
            Bound("no error line", not log.error_count, f"{log.error_count}: {log.errors}"),
            Bound(
                "honest packets",
                sent == fulfilled > 0 and not others,
                f"{fulfilled} of {sent} fulfilled {others or ''}".strip(),
            ),
            Bound(
                "a peer can log in",
                bool(report.attacked.log_ins_ms) and log_in_ms < LOG_IN_SECONDS_MAX * 1000,
                f"{len(report.attacked.log_ins_ms)} times, slowest {log_in_ms:.0f} ms",
            ),
            Bound("books", not differences, "; ".join(differences) or "every unit agrees"),
            Bound("audit", audit_code == 0, f"exit code {audit_code}"),
            Bound(
                "health and status",
                not self._health_failures and self._health_max_s < HEALTH_SECONDS_MAX,
                f"slowest answer {self._health_max_s:.2f} s {self._health_failures or ''}".strip(),
            ),
            Bound(
                "descriptors",
                left <= before + DESCRIPTORS_LEFT_MAX,
                f"{before} before, {report.attacked.descriptors_max} at most, {left} afterwards",
            ),
            Bound(
                "events on disk",
                # What is still in SQLite's log comes on top (docs/configuration.md).
                events <= EVENTS_BYTES_MAX + (64 << 20),
                f"{events / (1 << 20):.0f} MiB",
            ),
            Bound("stops when told", exit_code == 0, f"exit code {exit_code}"),
            Bound("attackers", not failures, "; ".join(failures) or "all went on to the end"),
            Bound("attacks", not findings, "; ".join(findings) or "none got what it must not"),
        ]

    def _p99(self) -> Bound:
        quiet, attacked = self.report.quiet, self.report.attacked
        before, during = percentile(quiet.packets_ms, 0.99), percentile(attacked.packets_ms, 0.99)
        machine_before = percentile(quiet.echoes_ms, 0.99)
        machine_during = percentile(attacked.echoes_ms, 0.99)
        # What the machine itself takes longer, since attackers work on it too, is not the node's.
        machine = max(0.0, machine_during - machine_before)
        allowed = self._plan.p99_times_max * before + machine
        return Bound(
            "p99 of honest packets",
            during < allowed,
            f"{during:.1f} ms under attack, {before:.1f} ms before: allowed {allowed:.1f} ms, which is "
            f"{self._plan.p99_times_max:g} times as much and what the machine alone took longer "
            f"(a line to `cat` and back: {machine_during:.1f} ms, {machine_before:.1f} ms before)",
        )
