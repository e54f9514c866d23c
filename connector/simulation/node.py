"""A connector in a world: the daemon's core in a process that can be killed at any moment.

Long because all that happens to a node happens to its processes: start, death, standing still, files
that are lost, operators, and what the judge asks afterwards.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, Final

from connector.accounting import lease
from connector.accounting.bounds import RECONCILE_SECONDS
from connector.accounting.manager import State
from connector.accounting.standby import Standby
from connector.base.clock import SteadyClock
from connector.base.errors import (
    EnvironmentFault,
    LedgerBehindError,
    LedgerRefusedError,
    OtherIsActiveError,
    SettlementConflictError,
)
from connector.base.stop import Stop
from connector.ilp.packet import Fulfill, Prepare, Reject
from connector.ledger.embedded import FILE_NAME as LEDGER_FILE
from connector.ledger.embedded import EmbeddedLedger
from connector.ledger.interface import Ledger
from connector.ledger.retention import Retention
from connector.node.core import Core, Platform
from connector.node.lifecycle import Lifecycle
from connector.node.payments import Payments
from connector.settlement.model import Phase, Quantity
from connector.settlement.store import FILE_NAME as SETTLEMENTS_FILE
from connector.simulation.cluster import ClusterClient
from connector.simulation.disk import ProcessDisk
from connector.simulation.evidence import Shown
from connector.simulation.facts import Given, Waiting
from connector.simulation.kinds import Kind
from connector.simulation.network import HostNetwork
from connector.simulation.operators import (
    accept_or_decline,
    lower_and_raise,
    remove_and_restore,
)
from connector.simulation.parts import (
    Around,
    SimulatedEngine,
    SimulatedLog,
    SimulatedRandomness,
    settings_of,
)
from connector.simulation.plan import NodePlan
from connector.simulation.streams import Spsp, pay_key_of
from connector.simulation.world import START_NS, NodeClock, ProcessLoop

FAILURES_MAX: Final = 10
MIRROR_FOLLOWS_S: Final = RECONCILE_SECONDS + 1.0
"""After what another process of the node has booked, its balances are shown."""
_ENGINE_LOOKS_S: Final = 1.0
"""How often an engine checks whether the node that it has notified still runs."""

_DISK_FAULTS: Final = frozenset((Kind.DISK_FULL, Kind.DISK_BROKEN, Kind.DISK_SLOW))


class SimulatedNode:
    """One connector: its machine and disk last, its processes start and end."""

    def __init__(self, simulation: Around, plan: NodePlan) -> None:
        self.simulation: Final = simulation
        self.plan: Final = plan
        self.name: Final = plan.name
        self.clock: Final = NodeClock(simulation.world)
        self.clock.jump(plan.clock_s)
        self._clock = SteadyClock(self.clock.now_ns, self.clock.monotonic_ns)
        self.core: Core | None = None
        self._payments: Payments | None = None
        """What it pays itself, where the plan has such payments."""
        self.starts = 0
        self._loop: ProcessLoop | None = None
        self._stop: Stop | None = None
        self._ledger: Ledger | None = None
        self._settings = settings_of(simulation.plan, plan)
        self._failures: list[str] = []
        self._packets_before = 0
        self.clock_starts: Final[list[tuple[float, float]]] = []
        """When each process began, and how far its clock was ahead then, in seconds."""
        self._stopping = False
        self._power_is_off = False
        self._start_again = False
        self._former: ProcessLoop | None = None
        """A process that stood still while another one took over, as long as it lives."""
        self._former_ended_s = -MIRROR_FOLLOWS_S
        self._standby: ProcessLoop | None = None
        """A process on another machine that waits while this one works; see `have_watched`."""
        self.machines_lost_s: Final[list[float]] = []
        """When a machine of it was lost for good, with its disk."""
        self._is_started = False
        """Whether the current process has opened its files and ledger."""
        self._disk_fails = any(
            one.kind in (Kind.DISK_FULL, Kind.DISK_BROKEN) and one.where == plan.name
            for one in simulation.plan.faults
        )
        self._takes_over = False
        """Whether the next process takes over from any other one (`run --take-over`)."""
        self._is_operated = False
        """Whether an operator is changing something in the process of now."""
        self._delivered: dict[bytes, str] = {}
        """By condition: the id under which the receiver within this node was asked first."""
        self._given: set[str] = set()
        """The ids of packets that it has fulfilled."""

    # --- life and death

    @property
    def alive(self) -> bool:
        """Whether a process runs."""
        return self._loop is not None and self._loop.alive

    def start(self) -> None:
        """Start a process, unless one runs."""
        if self.alive:
            self._start_again = self._stopping
            return
        simulation = self.simulation
        self.starts += 1
        self._stopping = self._start_again = self._is_started = self._is_operated = False
        if self._power_is_off:
            self._power_is_off = False
            simulation.network.host_back(self.name)
        self._loop = loop = simulation.world.new_process(f"{self.name}#{self.starts}")
        simulation.note(self.name, "starts")
        loop.run_now(self._begin, loop)

    def _begin(self, loop: ProcessLoop, process: int | None = None) -> None:
        """`process`: the name under which it has claimed while it stood by."""
        simulation = self.simulation
        disk = ProcessDisk(simulation.disks[self.name], loop)
        machine = self.clock
        self._clock = clock = SteadyClock(machine.now_ns, machine.monotonic_ns)
        self.clock_starts.append((simulation.world.now_s, self.ahead_ns / 1e9))
        ledger: Ledger
        if self.plan.ledger == "embedded":
            path = self._settings.data_dir / LEDGER_FILE
            # With a bound on its size that it is always over: old rows are pruned as soon as they may be.
            retention = Retention(bytes_max=1) if Kind.PRUNED in simulation.plan.traits else None
            ledger = EmbeddedLedger(path, clock=clock, disk=disk, retention=retention)
        else:
            ledger = ClusterClient(simulation.cluster, self.name, loop)
        self._ledger = ledger
        stop = Stop()
        chance = simulation.world.random(f"process {self.name} {self.starts}")
        self.core = Core(
            self._settings,
            platform=Platform(
                clock=clock,
                randomness=SimulatedRandomness(chance),
                network=HostNetwork(simulation.network, self.name, loop),
                disk=disk,
                log=SimulatedLog(simulation, self.name),
            ),
            ledger=ledger,
            make_engine=lambda _url, _token: SimulatedEngine(simulation, self.name, loop),
            process=process,
            takes_over=self._takes_over,
            on_superseded=stop.set,
            pay_key=pay_key_of(self.name) if self.simulation.plan.streams else None,
        )
        self._payments = None
        if simulation.plan.streams:
            spsp = Spsp(simulation.nodes, chance.randbytes)
            self._payments = Payments(self.core, transport=spsp)
        self._takes_over = False
        if any(one.local and one.right == self.name for one in simulation.plan.links):
            self.core.on_prepare(self._receive)
        self._stop = stop
        task = loop.create_task(_live(self.core, stop, self._started, self._payments))
        task.add_done_callback(lambda done: self._ended(loop, done))

    def _started(self) -> None:
        self._is_started = True

    def _ended(self, loop: ProcessLoop, task: asyncio.Task[None]) -> None:
        """The process has ended by itself: after `stop`, or because a task failed."""
        if not loop.alive:
            return
        if loop is self._former:
            self._former_ended(task)
            return
        self._count_packets()
        loop.kill()
        simulation = self.simulation
        simulation.disks[self.name].process_died()
        simulation.network.host_died(self.name, silent=False, keep_sent=True, loop=loop)
        simulation.deaths.setdefault(self.name, []).append(simulation.world.now_s)
        error = None if task.cancelled() else task.exception()
        # The daemon says so and exits; its supervisor tries again.
        disk = simulation.disks[self.name]
        refuses = isinstance(error, LedgerBehindError) and (
            simulation.cluster.had_forgotten or disk.has_cut_journal
        )
        if isinstance(error, OtherIsActiveError):
            refuses = self._disk_fails
        elif not self._is_started and isinstance(error, EnvironmentFault):
            refuses = refuses or disk.has_been_ill(self.clock_starts[-1][0])
        elif not self._is_started and isinstance(error, LedgerRefusedError):
            refuses = isinstance(self._ledger, ClusterClient) and self._ledger.was_refused
        if refuses:
            simulation.note(self.name, f"refuses to start: {error}"[:300])
        elif error is not None:
            text = _describe(error)
            simulation.note(self.name, f"fails: {text}")
            self._fail(text)
        else:
            simulation.note(self.name, "has stopped")
        superseded = self.core is not None and self.core.superseded_why
        if (superseded or isinstance(error, OtherIsActiveError)) and self._disk_fails:
            # It could not remember its own claim. The daemon would start again as a standby, and take
            # over after a silence; an operator is quicker.
            simulation.note(self.name, "an operator has it take over")
            self._takes_over = self._start_again = True
        if self._start_again or error is not None:
            simulation.world.after(0.5, self.start)  # as a supervisor does

    def kill(self, *, power: bool = False) -> None:
        """End the process as `kill -9` does, or the machine by a power cut."""
        loop = self._loop
        if loop is None or not loop.alive:
            return
        simulation = self.simulation
        self._count_packets()
        self._collect_faults()
        loop.kill()
        disk = simulation.disks[self.name]
        lost = 0
        if power:
            lost = disk.power_was_cut()
            self._power_is_off = True
        else:
            disk.process_died()
        simulation.network.host_died(
            self.name, silent=power, keep_sent=simulation.chance.random() < 0.5, loop=loop
        )
        simulation.deaths.setdefault(self.name, []).append(simulation.world.now_s)
        what = "loses its power" if power else "is killed"
        simulation.note(self.name, f"{what}; {lost} octets were not on the disk" if lost else what)

    def stop(self, *, comes_back: bool = False) -> None:
        """Ask the process to end (SIGTERM), or to make place for one that follows (SIGUSR2)."""
        stop = self._stop
        if self.alive and self._loop is not None and stop is not None:
            self._stopping = True
            what = "be replaced" if comes_back else "stop"
            self.simulation.note(self.name, f"is asked to {what}")
            self.simulation.deaths.setdefault(self.name, []).append(self.simulation.world.now_s)
            self._loop.run_now(stop.for_replacement if comes_back else stop.set)

    def pause(self) -> None:
        """Suspend the process (SIGSTOP)."""
        if self._loop is not None:
            self._loop.pause()

    def go_on(self) -> None:
        """Resume the process (SIGCONT)."""
        if self._loop is not None:
            self._loop.go_on()

    # --- a second process

    def stand_still(self) -> None:
        """The process stands still, and a standby on another machine takes its place."""
        former = self._loop
        if former is None or not former.alive or self._former is not None or not self._is_started:
            return
        if self._stopping:
            return  # its standby takes over because it has stopped
        if self.core is None or not self.core.accounts.generation:
            return  # one that has not claimed yet takes over from its standby (docs/accounting.md)
        if self.core.accounts.spooled:
            return  # what it has spooled stays on its machine, unknown to its successor (ibid.)
        simulation = self.simulation
        self._count_packets()
        former.pause()
        simulation.note(self.name, "stands still; a standby with a disk of its own waits")
        simulation.deaths.setdefault(self.name, []).append(simulation.world.now_s)
        self._former, self.core = former, None
        self.starts += 1
        self._is_started = self._is_operated = False
        simulation.network.leave(self.name)
        simulation.new_disk(self.name, f"{self.name}#{self.starts}")
        self._loop = loop = simulation.world.new_process(f"{self.name}#{self.starts}")
        loop.run_now(lambda: loop.create_task(self._stand_by(loop)))

    async def _stand_by(self, loop: ProcessLoop) -> None:
        simulation, machine = self.simulation, self.clock
        chance = simulation.world.random(f"standby {loop.name}")
        while True:
            process = chance.getrandbits(128)
            ledger = ClusterClient(simulation.cluster, self.name, loop)
            standby = Standby(
                node_id=self.name,
                ledger=ledger,
                clock=SteadyClock(machine.now_ns, machine.monotonic_ns),
                process=process,
                say=lambda what: simulation.note(self.name, f"standby: {what}"[:300]),
            )
            try:
                await standby.wait()
                break
            except LedgerRefusedError as error:
                # It exits, and its supervisor starts it again.
                simulation.note(self.name, f"standby: is refused: {error}"[:300])
                await asyncio.sleep(1.0)
            finally:
                await ledger.close()
        if loop is self._standby:
            self._fail("a standby takes over from a process that works")
            return
        if self.machines_lost_s:
            simulation.network.host_back(self.name)  # it knows no connection of the lost machine
        self._begin(loop, process)

    # --- a machine that is lost

    def have_watched(self) -> bool:
        """Start a standby on another machine, with a disk of its own; whether that was done."""
        core, simulation = self.core, self.simulation
        if not self.alive or core is None or not self._is_started or self._standby is not None:
            return False
        if self._stopping:
            return False  # the standby takes over because it has stopped
        if self._former is not None or not core.accounts.generation:
            return False
        simulation.note(self.name, "a standby on another machine begins to wait")
        self._standby = loop = simulation.world.new_process(f"{self.name}#{self.starts}-standby")
        loop.run_now(lambda: loop.create_task(self._stand_by(loop)))
        return True

    @property
    def has_standby(self) -> bool:
        """Whether a process on another machine waits."""
        return self._standby is not None

    @property
    def is_watched(self) -> bool:
        """Whether the process of now has answered a standby in the ledger, for a second at least."""
        core = self.core
        if core is None or not self.alive:
            return False
        beat = lease.beat_id(self.name, core.accounts.generation, 2)
        return beat in self.simulation.cluster.data.by_id

    @property
    def may_be_lost(self) -> bool:
        """Whether its machine has nothing that was promised and that the ledger has never seen."""
        return self.core is not None and not self.core.accounts.spooled

    def lose_machine(self) -> None:
        """Its machine is gone for good, with its disk; the standby finds that out."""
        lost, standby, simulation = self._loop, self._standby, self.simulation
        if lost is None or not lost.alive or standby is None:
            return
        self._count_packets()
        self._collect_faults()
        lost.kill()
        simulation.cluster.lost.add(lost)
        simulation.network.host_died(self.name, silent=True, keep_sent=False, loop=lost)
        simulation.network.leave(self.name)
        simulation.note(self.name, "its machine is lost for good, and the disk with it")
        simulation.deaths.setdefault(self.name, []).append(simulation.world.now_s)
        self.starts += 1
        self.core = None
        self._is_started = self._is_operated = False
        self._former_ended_s = simulation.world.now_s
        simulation.new_disk(self.name, f"{self.name}#{self.starts}")
        self.machines_lost_s.append(simulation.world.now_s)
        self._loop, self._standby = standby, None

    def dismiss_standby(self) -> None:
        """A standby that was not needed stops waiting."""
        if self._standby is not None:
            self.simulation.note(self.name, "the standby is not needed, and ends")
            self._standby.kill()
            self._standby = None

    def wake(self) -> None:
        """The process that stood still goes on, where the standby has taken over by now."""
        former = self._former
        if former is None or not former.alive:
            return
        if self.core is not None:
            self.simulation.note(self.name, "the process that stood still goes on")
            former.go_on()
            return
        self.simulation.note(self.name, "the process that stood still is killed")
        self._former_ended(None)

    def _former_ended(self, task: asyncio.Task[None] | None) -> None:
        former, simulation = self._former, self.simulation
        assert former is not None
        for fault in former.faults:
            self._fail(_describe(fault))
        if task is not None:
            error = None if task.cancelled() else task.exception()
            simulation.note(self.name, "the process that stood still has stepped down")
            if error is not None:
                self._fail(f"as it steps down: {_describe(error)}")
        former.kill()
        simulation.network.host_died(self.name, silent=False, keep_sent=True, loop=former)
        simulation.deaths.setdefault(self.name, []).append(simulation.world.now_s)
        self._former = None
        self._former_ended_s = simulation.world.now_s

    # --- files that are lost between two processes

    def cut_journal(self, requests: int) -> bool:
        """Its journal has lost its end; whether it had one that could be lost."""
        return self.simulation.disks[self.name].cut_journal(LEDGER_FILE, requests)

    def put_journal_back(self) -> None:
        """The right journal is there again; the operator starts the node on it."""
        disk = self.simulation.disks[self.name]
        if disk.has_cut_journal:
            self.kill()
            disk.put_back(LEDGER_FILE)

    def lose_settlements(self) -> None:
        """The file with its settlements is gone."""
        self.simulation.disks[self.name].remove(SETTLEMENTS_FILE)

    # --- operators

    def _operate(self, change: Callable[[Core], Awaitable[None]]) -> None:
        """Let an operator change something while the node runs; one of them at a time."""
        core, loop = self.core, self._loop
        if core is None or loop is None or not loop.alive or not self._is_started:
            return
        if self._is_operated:
            return

        async def operate() -> None:
            try:
                await change(core)
            except Exception as error:  # noqa: BLE001 - it would be lost with the task
                if not self._stopping:
                    self._fail(f"an operator is told: {_describe(error)}")
            self._is_operated = False

        self._is_operated = True
        loop.run_now(lambda: loop.create_task(operate()))

    def change_a_limit(self, for_s: float) -> None:
        """See `operators`."""
        peer = self.simulation.chance.choice(self._settings.peers)
        self._operate(
            lambda core: lower_and_raise(self.simulation, core, self._settings, peer, for_s)
        )

    def remove_a_peer(self, for_s: float) -> None:
        """See `operators`."""
        peer = self.simulation.chance.choice(self._settings.peers)
        self._operate(
            lambda core: remove_and_restore(self.simulation, core, self._settings, peer, for_s)
        )

    async def _receive(self, prepare: Prepare, packet_id: str) -> Fulfill | Reject:
        """The receiver within this node; see `Core.on_prepare`."""
        simulation = self.simulation
        facts, world = simulation.facts, simulation.world
        fact = facts.by_condition.get(prepare.condition)
        name = f"{self.name}r"
        if fact is None or fact.plan.receiver != name:
            return Reject(code="F02", triggered_by=f"g.{self.name}", message="who?")
        plan = fact.plan
        facts.note(world.now_s, name, f"is asked to take {prepare.amount}", plan.number)
        first_id = self._delivered.setdefault(prepare.condition, packet_id)
        if first_id != packet_id and prepare.amount and not fact.hostile:
            facts.complaints.append(f"{name} is asked for payment {plan.number} under another id")
        if packet_id in self._given or (fact.given and not fact.hostile):
            # Delivery is at least once: it gives the same again. But what its node has posted is
            # answered from there, unless the disk has failed. (A hostile sender may pay the same
            # several times, under different ids.)
            disk_failed = any(one.kind in _DISK_FAULTS for one in simulation.plan.faults)
            if not (fact.hostile or disk_failed) and simulation.has_posted(
                self.name, prepare.condition
            ):
                facts.complaints.append(f"{name} is asked for payment {plan.number} after its post")
            return Fulfill(fulfillment=fact.preimage)
        expires_at_s = (prepare.expires_at_ms - START_NS // 1_000_000) / 1000
        if plan.outcome in ("silence", "late"):
            await asyncio.sleep(max(0.0, expires_at_s - world.now_s) + 0.5)
        elif plan.think_s:
            await asyncio.sleep(plan.think_s)
        if plan.outcome == "lie":
            return Fulfill(fulfillment=bytes(32))
        if plan.outcome != "pay" or world.now_s >= expires_at_s:
            return Reject(code="F99", triggered_by=f"g.{self.name}", message="no thanks")
        fact.given.append(Given(world.now_s, prepare.amount, expires_at_s, b"", name))
        self._given.add(packet_id)
        facts.note(world.now_s, name, f"fulfils it, {prepare.amount}", plan.number)
        return Fulfill(fulfillment=fact.preimage)

    async def be_paid(self, peer: str, key: str, quantity: Quantity) -> None:
        """The settlement engine reports an incoming payment."""
        if self.core is None:
            return
        try:
            one = await self.core.settlements.receive(peer, key, quantity)
        except SettlementConflictError:
            waited = self.simulation.facts.waited.get((self.name, peer, key))
            if waited is None or waited.accept:
                raise
            return  # it was declined, and the engine is told so
        if one.phase is Phase.WAITING:
            self.simulation.waits_for_operator(self.name, peer, key, one.settlement_id)

    def decide(self, waiting: Waiting, done: Callable[[bool], None]) -> None:
        """Let an operator accept or decline a payment that waits; `done` says whether that is done."""
        self._ask(lambda core: accept_or_decline(self.simulation, core, waiting), done)

    @property
    def is_up(self) -> bool:
        """Whether its process has opened its files and ledger."""
        return self.alive and self._is_started

    def ask_payments(
        self, what: Callable[[Payments], Coroutine[Any, Any, None]], done: Callable[[bool], None]
    ) -> None:
        """Ask its process about payments that it makes; `done` says whether it has answered."""
        payments = self._payments
        assert payments is not None
        self._ask(lambda _core: what(payments), done)

    def told_of_payment(
        self, peer: str, key: str, quantity: Quantity, done: Callable[[bool], None]
    ) -> None:
        """Let the settlement engine tell it of a payment; `done` says whether it has taken it."""
        self._ask(lambda _core: self.be_paid(peer, key, quantity), done)

    def _ask(
        self, what: Callable[[Core], Coroutine[Any, Any, None]], done: Callable[[bool], None]
    ) -> None:
        """Ask the process of now over HTTP, as it were.

        One that dies before it answers has not taken it, as far as the caller knows.
        """
        core = self.core
        loop, world = self._loop, self.simulation.world
        if loop is None or not loop.alive or core is None or not self._is_started:
            world.after(0.01, done, False)
            return
        answers: list[bool] = []

        def answered(task: asyncio.Task[None]) -> None:
            answers.append(not task.cancelled() and task.exception() is None)
            done(answers[0])

        def ask() -> None:
            loop.create_task(what(core)).add_done_callback(answered)

        def look() -> None:
            if answers:
                return
            if loop.alive:
                world.after(_ENGINE_LOOKS_S, look)
            else:
                done(False)

        loop.run_now(ask)
        world.after(_ENGINE_LOOKS_S, look)

    # --- status

    def _count_packets(self) -> None:
        if self.core is not None:
            self._packets_before += _packets(self.core)

    @property
    def packets(self) -> int:
        """Prepares that it has handled."""
        now = _packets(self.core) if self.core is not None and self.alive else 0
        return self._packets_before + now

    @property
    def ahead_ns(self) -> int:
        """How far the clock of its last process is ahead."""
        return self._clock.now_ns() - START_NS - self.clock.monotonic_ns()

    @property
    def ledger_ahead_ns(self) -> int:
        """How far the clock of its ledger is ahead: that of a cluster is right."""
        if not isinstance(self._ledger, EmbeddedLedger):
            return 0
        return self._ledger.now_ns() - START_NS - self.clock.monotonic_ns()

    def is_quiet(self) -> bool:
        """Whether nothing is in progress."""
        core = self.core
        if core is None or not self.alive or self._former is not None:
            return False
        if self.simulation.world.now_s - self._former_ended_s < MIRROR_FOLLOWS_S:
            return False
        accounts = core.accounts
        return (
            accounts.state is State.AVAILABLE
            and not self._is_operated
            and not any(core.settlements.under_way(peer.peer_id) for peer in core.peers)
            and not core.driver.in_flight
            and not accounts.spooled
            and not accounts.queue_depth()
            and all(
                not book.debits_pending and not book.credits_pending for book in accounts.books()
            )
        )

    def why_not_ready(self) -> str:
        """Why it accepts no packets; empty: it does."""
        core = self.core
        if core is None or not self.alive:
            return "it does not run"
        accounts = core.accounts
        if accounts.state is not State.AVAILABLE:
            return f"{accounts.state.value}: {accounts.state_reason}"
        if accounts.spooled or accounts.queue_depth():
            return f"{accounts.spooled} transfers in the outbox, {accounts.queue_depth()} queued"
        settling = [one.peer_id for one in core.peers if core.settlements.under_way(one.peer_id)]
        if settling:
            return f"settlements with {settling} are under way"
        if core.driver.in_flight:
            return f"{core.driver.in_flight} packets are said to be in flight"
        return ""

    def shown(self) -> dict[str, Shown]:
        """What it reports of its peers."""
        core = self.core
        if core is None or not self.alive:
            return {}
        return {
            peer_id: Shown(
                one.debit_balance,
                one.credit_balance,
                one.peer.debits_pending + one.peer.credits_pending,
            )
            for peer_id, one in core.accounts.peers.items()
        }

    def hops(self) -> dict[str, str]:
        """Where it sends packets for each other node."""
        core = self.core
        if core is None or not self.alive:
            return {}
        found = {
            one.name: core.routes.find(f"g.{one.name}.x") for one in self.simulation.plan.nodes
        }
        return {name: route.next_hop for name, route in found.items() if route is not None}

    def _collect_faults(self) -> None:
        if self._loop is not None:
            for error in self._loop.faults:
                self._fail(_describe(error))
            self._loop.faults.clear()

    def _fail(self, text: str) -> None:
        if text not in self._failures and len(self._failures) < FAILURES_MAX:
            self._failures.append(text)

    def failures(self) -> list[str]:
        """Exceptions of its tasks."""
        self._collect_faults()
        return self._failures


async def _live(
    core: Core, stop: Stop, opened: Callable[[], None], payments: Payments | None
) -> None:
    """Run a core as the daemon does, until it is asked to stop."""
    life = Lifecycle(core)
    try:
        await life.open()
        opened()
        async with asyncio.TaskGroup() as group:
            try:
                await life.start(group)
                if payments is not None:
                    payments.attach(group)
                await stop.wait()
                if stop.comes_back:
                    life.replaced_at_once()
            finally:
                if payments is not None:
                    await payments.stop()
                await life.stop()
    finally:
        await life.close()


def _packets(core: Core) -> int:
    return sum(peer.counters.prepares_in for peer in core.peers)


def _describe(error: BaseException) -> str:
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(_describe(one) for one in error.exceptions)
    where = ""
    trace = error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        if "simulation" not in code.co_filename:
            where = f" at {Path(code.co_filename).name}:{trace.tb_lineno} {code.co_name}"
        trace = trace.tb_next
    return f"{type(error).__name__}: {error}{where}"
