"""Faults: what each kind breaks when it begins, and how it is repaired."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Protocol

from connector.base.limits import DISK_RESERVE_BYTES
from connector.simulation.cluster import Data
from connector.simulation.disk import AMPLE_BYTES
from connector.simulation.kinds import Kind
from connector.simulation.node import SimulatedNode
from connector.simulation.parts import Surroundings
from connector.simulation.plan import FaultPlan
from connector.simulation.proxy import FaultyProxy
from connector.simulation.raw import read_acknowledged
from connector.simulation.transport import BTP_PORT, HTTP_PORT

CLOCK_FAR_S: Final = 3600.0
SLOW_DISK_S: Final = 0.3
WATCH_POLL_S: Final = 0.1
"""How often the fault checks whether a node knows that a standby waits."""
SLOW_CLUSTER_S: Final = 0.05
"""How long a request to the cluster takes from a machine that is about to be lost: posts take long, but none times out."""
COPIED_BEFORE_S: Final = 2.5
"""How old the copy is that a ledger goes back to."""


class Breakable(Surroundings, Protocol):
    """What faults break."""

    @property
    def nodes(self) -> Mapping[str, SimulatedNode]:
        """By name."""

    def disk_delay_s(self, host: str) -> float:
        """How long its disk takes for a commit."""

    def may_move(self, host: str, *, is_expected: bool = False) -> bool:
        """Whether a node can go on without its disk."""


class Faults:
    """Executes the faults of a plan; at most one at a time for each thing that can break."""

    def __init__(self, simulation: Breakable) -> None:
        self._simulation = simulation
        self._busy: set[tuple[str, ...]] = set()
        self._countdown: dict[str, dict[FaultPlan, int]] = {}
        """By host: faults that strike after so many operations more."""
        self._copies: dict[int, Data] = {}
        self._low_since_s: dict[str, float] = {}
        self.low_disks: list[tuple[str, float, float]] = []
        """When a node's disk had less room than the reserve: host, from, until."""
        self.begun = 0
        self.crashes = 0

    def prepare(self, fault: FaultPlan, at_s: float) -> None:
        """See to what has to be done some time before it begins at `at_s`."""
        if fault.kind is Kind.LEDGER_GOES_BACK:
            self._simulation.world.at(at_s - COPIED_BEFORE_S, self._copy, fault)

    def _copy(self, fault: FaultPlan) -> None:
        if not self._simulation.cluster.has_forgotten:
            self._copies[fault.number] = self._simulation.cluster.data.copy()

    def _all_know(self, copy: Data) -> bool:
        """Whether the DATA_DIR of every node on the cluster shows that a copy is older.

        It remembers what was acknowledged about once a second. Who has nothing newer cannot know.
        """
        simulation = self._simulation
        for node in simulation.plan.nodes:
            if node.ledger != "tigerbeetle":
                continue
            outbox = simulation.disks[node.name].databases.get("outbox.db")
            known = {} if outbox is None else read_acknowledged(outbox.connection)
            if not any(
                debits > there[0] or credits_ > there[1]
                for account_id, (debits, credits_) in known.items()
                for there in (copy.posted(account_id),)
            ):
                return False
        return True

    def begin(self, fault: FaultPlan) -> None:
        """Begin a fault, unless the same thing is broken already."""
        if fault.kind in (Kind.LEDGER_FORGETS, Kind.LEDGER_GOES_BACK) and (
            Kind.LEDGER_FIRST_START in self._simulation.plan.traits
        ):
            return  # a node that has no memory yet cannot know which ledger is the right one
        if fault.kind is Kind.LEDGER_GOES_BACK:
            copy = self._copies.get(fault.number)
            if copy is None or not self._all_know(copy):
                return
        place = _place(fault)
        if self._busy & set(place):
            return
        if fault.kind is Kind.SECOND_PROCESS and (
            ("cluster",) in self._busy or not self._simulation.may_move(fault.where)
        ):
            return
        if fault.kind is Kind.MACHINE_LOST and not (
            self._simulation.may_move(fault.where, is_expected=True)
            and self._simulation.nodes[fault.where].have_watched()
        ):
            return
        self._busy |= set(place)
        self.begun += 1
        simulation = self._simulation
        other = f" and {fault.other}" if fault.other else ""
        simulation.note("fault", f"{fault.number}: {fault.kind} at {fault.where}{other}")
        self._break(fault)
        simulation.world.after(fault.for_s, self._end, fault, place)

    def _end(self, fault: FaultPlan, place: frozenset[tuple[str, ...]]) -> None:
        self._countdown.get(fault.where, {}).pop(fault, None)
        self._mend(fault)
        self._busy -= place
        self._simulation.note("fault", f"{fault.number}: {fault.kind} is over")

    def operation(self, host: str, _what: str) -> None:
        """A process has written, committed or sent a ledger request: it may be killed here."""
        waiting = self._countdown.get(host)
        if not waiting:
            return
        for fault, left in list(waiting.items()):
            if left:
                waiting[fault] = left - 1
            else:
                if fault.kind is Kind.MACHINE_LOST and not self._simulation.nodes[host].may_be_lost:
                    continue  # what it has spooled would be lost with it (docs/accounting.md)
                del waiting[fault]
                self._strike(fault)

    def _strike(self, fault: FaultPlan) -> None:
        """Do what happens at one moment, perhaps between two operations that belong together."""
        way = self._simulation.cluster.way(fault.where)
        match fault.kind:
            case Kind.LEDGER_AWAY:
                way.away = True
            case Kind.LEDGER_ACK_LOST:
                way.loses_answers = True
            case Kind.MACHINE_LOST:
                self._end_slowness(fault)
                self.crashes += 1
                self._simulation.nodes[fault.where].lose_machine()
            case _:
                self._kill(fault, fault.where)

    def _look_whether_watched(self, fault: FaultPlan) -> None:
        """Once it knows that a standby waits, its machine is lost so many operations later."""
        simulation = self._simulation
        node = simulation.nodes[fault.where]
        if not node.has_standby:
            return
        if not node.is_watched:
            simulation.world.after(WATCH_POLL_S, self._look_whether_watched, fault)
            return
        if fault.size > 1:
            simulation.cluster.way(fault.where).latency_s = SLOW_CLUSTER_S
        self._countdown.setdefault(fault.where, {})[fault] = fault.after_operations

    def _end_slowness(self, fault: FaultPlan) -> None:
        plan = next(one for one in self._simulation.plan.nodes if one.name == fault.where)
        self._simulation.cluster.way(fault.where).latency_s = plan.latency_s

    def _kill(self, fault: FaultPlan, host: str) -> None:
        node = self._simulation.nodes[host]
        if node.alive:
            self.crashes += 1
            node.kill(power=fault.kind is Kind.POWER)

    def _break(self, fault: FaultPlan) -> None:
        simulation = self._simulation
        network, where = simulation.network, fault.where
        match fault.kind:
            case Kind.CRASH | Kind.POWER | Kind.LEDGER_AWAY | Kind.LEDGER_ACK_LOST:
                if fault.after_operations:
                    self._countdown.setdefault(where, {})[fault] = fault.after_operations
                else:
                    self._strike(fault)
            case Kind.BOTH_ENDS:
                self._kill(fault, where)
                self._kill(fault, fault.other)
            case Kind.STOP:
                simulation.nodes[where].stop()
            case Kind.REPLACE | Kind.REPLACE_LATE:
                simulation.nodes[where].stop(comes_back=True)
            case Kind.REPLACE_CRASH:
                self._countdown.setdefault(where, {})[fault] = fault.after_operations
                simulation.nodes[where].stop(comes_back=True)
                simulation.world.after(fault.for_s * 0.4, simulation.nodes[where].start)
            case Kind.PAUSE:
                simulation.nodes[where].pause()
            case Kind.SECOND_PROCESS:
                simulation.nodes[where].stand_still()
            case Kind.MACHINE_LOST:
                simulation.world.after(WATCH_POLL_S, self._look_whether_watched, fault)
            case Kind.CUT | Kind.OUTAGE:
                network.cut(network.link(where, fault.other))
            case Kind.FLAP:
                self._flap(fault, simulation.world.now_s + fault.for_s)
            case Kind.ANSWERS_LOST | Kind.GATEWAY | Kind.ASKED_TWICE:
                network.link(where, fault.other).proxy = FaultyProxy(
                    network, fault.kind, fault.size, behind=bool(fault.after_operations)
                )
            case Kind.ONE_CARRIER:
                network.refuse(network.link(where, fault.other), _port_of(fault))
            case Kind.HOLD:
                network.hold(network.link(where, fault.other), where)
            case Kind.SLOW_LINK:
                network.link(where, fault.other).latency_s[where] *= 40
            case Kind.REFUSE:
                link = network.link(where, fault.other)
                link.refuses = True
                network.cut(link)
                network.join(link)
            case Kind.LEDGER_SLOW:
                simulation.cluster.way(where).latency_s = 0.2 + 0.2 * fault.size
            case Kind.LEDGER_REFUSED:
                simulation.cluster.way(where).refused = "session_evicted"
            case Kind.LEDGER_AND_CRASH:
                simulation.cluster.way(where).away = True
                self._kill(fault, where)
                simulation.world.after(fault.for_s * 0.6, simulation.nodes[where].start)
            case Kind.LEDGER_FORGETS:
                simulation.cluster.replace(Data())
            case Kind.LEDGER_GOES_BACK:
                simulation.cluster.replace(self._copies.pop(fault.number))
            case Kind.JOURNAL_CUT:
                self._kill(fault, where)
                if simulation.nodes[where].cut_journal(fault.after_operations + 1):
                    simulation.note(where, "has lost the end of its journal")
                    simulation.world.after(fault.for_s * 0.3, simulation.nodes[where].start)
            case Kind.SETTLEMENTS_LOST:
                self._kill(fault, where)
                simulation.nodes[where].lose_settlements()
            case Kind.DISK_FULL:
                if fault.number % 2:
                    # It fills up: the node sees it coming.
                    simulation.disks[where].free_bytes = DISK_RESERVE_BYTES // 2
                    simulation.world.after(fault.for_s / 2, self._fill_up, fault)
                else:
                    simulation.disks[where].fill(full=True)
            case Kind.DISK_LOW:
                simulation.disks[where].free_bytes = DISK_RESERVE_BYTES - 1
                self._low_since_s[where] = simulation.world.now_s
            case Kind.DISK_BROKEN:
                simulation.disks[where].broken = True
            case Kind.DISK_SLOW:
                simulation.disks[where].delay_s = SLOW_DISK_S
            case Kind.CLOCK_AHEAD:
                simulation.nodes[where].clock.jump(fault.size)
            case Kind.CLOCK_BACK:
                simulation.nodes[where].clock.jump(-fault.size)
            case Kind.CLOCK_FAR:
                simulation.nodes[where].clock.jump(CLOCK_FAR_S)
            case Kind.REMOVE_PEER:
                simulation.nodes[where].remove_a_peer(fault.for_s)
            case Kind.CHANGE_LIMIT:
                simulation.nodes[where].change_a_limit(fault.for_s)
            case _:
                raise AssertionError(fault.kind)

    def _flap(self, fault: FaultPlan, until_s: float) -> None:
        """Cut a link and join it, again and again; `size`: how long either lasts."""
        simulation = self._simulation
        link = simulation.network.link(fault.where, fault.other)
        if simulation.world.now_s < until_s:
            simulation.network.cut(link)
            simulation.world.after(fault.size / 2, simulation.network.join, link)
            simulation.world.after(fault.size, self._flap, fault, until_s)

    def _fill_up(self, fault: FaultPlan) -> None:
        disk = self._simulation.disks[fault.where]
        if disk.free_bytes < DISK_RESERVE_BYTES:  # else it was emptied, or replaced, meanwhile
            disk.fill(full=True)

    def _mend(self, fault: FaultPlan) -> None:
        simulation = self._simulation
        network, where = simulation.network, fault.where
        match fault.kind:
            case (
                Kind.CRASH
                | Kind.POWER
                | Kind.STOP
                | Kind.LEDGER_AND_CRASH
                | Kind.BOTH_ENDS
                | Kind.SETTLEMENTS_LOST
                | Kind.REPLACE
                | Kind.REPLACE_LATE
                | Kind.REPLACE_CRASH
            ):
                for host in filter(None, (where, fault.other)):
                    simulation.nodes[host].start()
                if fault.kind is Kind.LEDGER_AND_CRASH:
                    simulation.cluster.back(where)
            case Kind.PAUSE:
                simulation.nodes[where].go_on()
            case Kind.CUT | Kind.FLAP | Kind.OUTAGE:
                network.join(network.link(where, fault.other))
            case Kind.ANSWERS_LOST | Kind.GATEWAY | Kind.ASKED_TWICE:
                network.link(where, fault.other).proxy = None
            case Kind.ONE_CARRIER:
                network.link(where, fault.other).refused_ports.discard(_port_of(fault))
            case Kind.HOLD:
                network.release(network.link(where, fault.other), where)
            case Kind.SLOW_LINK:
                network.link(where, fault.other).latency_s[where] /= 40
            case Kind.REFUSE:
                network.link(where, fault.other).refuses = False
            case Kind.LEDGER_AWAY:
                simulation.cluster.back(where)
            case Kind.LEDGER_SLOW:
                self._end_slowness(fault)
            case Kind.LEDGER_ACK_LOST:
                simulation.cluster.way(where).loses_answers = False
            case Kind.LEDGER_REFUSED:
                simulation.cluster.way(where).refused = ""
            case Kind.DISK_FULL:
                simulation.disks[where].fill(full=False)
            case Kind.DISK_LOW:
                simulation.disks[where].free_bytes = AMPLE_BYTES
                since_s = self._low_since_s.pop(where)
                self.low_disks.append((where, since_s, simulation.world.now_s))
            case Kind.DISK_BROKEN:
                simulation.disks[where].mend()
            case Kind.DISK_SLOW:
                simulation.disks[where].delay_s = simulation.disk_delay_s(where)
            case Kind.CLOCK_AHEAD:
                simulation.nodes[where].clock.jump(-fault.size)
            case Kind.CLOCK_BACK:
                simulation.nodes[where].clock.jump(fault.size)
            case Kind.CLOCK_FAR:
                simulation.nodes[where].clock.jump(-CLOCK_FAR_S)
            case Kind.LEDGER_FORGETS | Kind.LEDGER_GOES_BACK:
                simulation.cluster.recall()
            case Kind.JOURNAL_CUT:
                simulation.nodes[where].put_journal_back()
                simulation.nodes[where].start()
            case Kind.SECOND_PROCESS:
                simulation.nodes[where].wake()
            case Kind.MACHINE_LOST:
                self._end_slowness(fault)
                simulation.nodes[where].dismiss_standby()
            case Kind.REMOVE_PEER | Kind.CHANGE_LIMIT:
                pass
            case _:
                raise AssertionError(fault.kind)


def _port_of(fault: FaultPlan) -> int:
    return BTP_PORT if fault.size else HTTP_PORT


def _place(fault: FaultPlan) -> frozenset[tuple[str, ...]]:
    """The things that a fault breaks: only one fault may break each at a time."""
    match fault.kind:
        case (
            Kind.CRASH
            | Kind.POWER
            | Kind.STOP
            | Kind.PAUSE
            | Kind.REMOVE_PEER
            | Kind.CHANGE_LIMIT
            | Kind.SETTLEMENTS_LOST
            | Kind.REPLACE
            | Kind.REPLACE_LATE
            | Kind.REPLACE_CRASH
        ):
            return frozenset((("process", fault.where),))
        case Kind.BOTH_ENDS:
            return frozenset((("process", fault.where), ("process", fault.other)))
        case Kind.CUT | Kind.REFUSE | Kind.FLAP | Kind.OUTAGE:
            return frozenset((("link", *sorted((fault.where, fault.other))),))
        case Kind.ANSWERS_LOST | Kind.GATEWAY | Kind.ASKED_TWICE | Kind.ONE_CARRIER:
            return frozenset((("http", *sorted((fault.where, fault.other))),))
        case Kind.HOLD | Kind.SLOW_LINK:
            # Also while it is cut: what is held back, or slow, is lost then.
            return frozenset(((fault.kind, fault.where, fault.other),))
        case Kind.JOURNAL_CUT:
            return frozenset((("process", fault.where), ("disk", fault.where)))
        case Kind.LEDGER_AND_CRASH:
            return frozenset((("process", fault.where), ("ledger", fault.where)))
        case Kind.SECOND_PROCESS | Kind.MACHINE_LOST:
            return frozenset((what, fault.where) for what in ("process", "ledger", "disk"))
        case Kind.DISK_FULL | Kind.DISK_BROKEN | Kind.DISK_SLOW | Kind.DISK_LOW:
            return frozenset((("disk", fault.where),))
        case Kind.CLOCK_AHEAD | Kind.CLOCK_BACK | Kind.CLOCK_FAR:
            return frozenset((("clock", fault.where),))
        case Kind.LEDGER_FORGETS | Kind.LEDGER_GOES_BACK:
            return frozenset((("cluster",),))
        case _:
            return frozenset((("ledger", fault.where),))
