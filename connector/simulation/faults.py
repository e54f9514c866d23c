"""Faults: what each kind breaks when it begins, and how it is repaired."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from connector.simulation.plan import FaultPlan, Kind

if TYPE_CHECKING:
    from connector.simulation.run import Simulation

CLOCK_FAR_S: Final = 3600.0
SLOW_DISK_S: Final = 0.3


class Faults:
    """Executes the faults of a plan; at most one at a time for each thing that can break."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        self._busy: set[tuple[str, ...]] = set()
        self._countdown: dict[str, tuple[int, FaultPlan]] = {}
        self.begun = 0
        self.crashes = 0

    def begin(self, fault: FaultPlan) -> None:
        """Begin a fault, unless the same thing is broken already."""
        if fault.kind is Kind.LEDGER_FORGETS and (
            Kind.LEDGER_FIRST_START in self._simulation.plan.traits
        ):
            return  # a node that has no memory yet cannot know which ledger is the right one
        place = _place(fault)
        if self._busy & set(place):
            return
        self._busy |= set(place)
        self.begun += 1
        simulation = self._simulation
        other = f" and {fault.other}" if fault.other else ""
        simulation.note("fault", f"{fault.number}: {fault.kind} at {fault.where}{other}")
        self._break(fault)
        simulation.world.after(fault.for_s, self._end, fault, place)

    def _end(self, fault: FaultPlan, place: frozenset[tuple[str, ...]]) -> None:
        self._countdown.pop(fault.where, None)
        self._mend(fault)
        self._busy -= place
        self._simulation.note("fault", f"{fault.number}: {fault.kind} is over")

    def operation(self, host: str, _what: str) -> None:
        """A process has written, committed or sent a ledger request: it may be killed here."""
        waiting = self._countdown.get(host)
        if waiting is None:
            return
        left, fault = waiting
        if left:
            self._countdown[host] = (left - 1, fault)
            return
        del self._countdown[host]
        self._kill(fault, host)

    def _kill(self, fault: FaultPlan, host: str) -> None:
        node = self._simulation.nodes[host]
        if node.alive:
            self.crashes += 1
            node.kill(power=fault.kind is Kind.POWER)

    def _break(self, fault: FaultPlan) -> None:
        simulation = self._simulation
        network, where = simulation.network, fault.where
        match fault.kind:
            case Kind.CRASH | Kind.POWER:
                if fault.after_operations:
                    self._countdown[where] = (fault.after_operations, fault)
                else:
                    self._kill(fault, where)
            case Kind.BOTH_ENDS:
                self._kill(fault, where)
                self._kill(fault, fault.other)
            case Kind.STOP:
                simulation.nodes[where].stop()
            case Kind.PAUSE:
                simulation.nodes[where].pause()
            case Kind.CUT:
                network.cut(network.link(where, fault.other))
            case Kind.HOLD:
                network.hold(network.link(where, fault.other), where)
            case Kind.SLOW_LINK:
                network.link(where, fault.other).latency_s[where] *= 40
            case Kind.REFUSE:
                link = network.link(where, fault.other)
                link.refuses = True
                network.cut(link)
                network.join(link)
            case Kind.LEDGER_AWAY:
                simulation.cluster.way(where).away = True
            case Kind.LEDGER_SLOW:
                simulation.cluster.way(where).latency_s = 0.2 + 0.2 * fault.size
            case Kind.LEDGER_ACK_LOST:
                simulation.cluster.way(where).loses_answers = True
            case Kind.LEDGER_REFUSED:
                simulation.cluster.way(where).refused = "session_evicted"
            case Kind.LEDGER_AND_CRASH:
                simulation.cluster.way(where).away = True
                self._kill(fault, where)
                simulation.world.after(fault.for_s * 0.6, simulation.nodes[where].start)
            case Kind.LEDGER_FORGETS:
                simulation.cluster.forget()
            case Kind.DISK_FULL:
                simulation.disks[where].fill(full=True)
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
            case _:
                raise AssertionError(fault.kind)

    def _mend(self, fault: FaultPlan) -> None:
        simulation = self._simulation
        network, where = simulation.network, fault.where
        match fault.kind:
            case Kind.CRASH | Kind.POWER | Kind.STOP | Kind.LEDGER_AND_CRASH | Kind.BOTH_ENDS:
                for host in filter(None, (where, fault.other)):
                    simulation.nodes[host].start()
                if fault.kind is Kind.LEDGER_AND_CRASH:
                    simulation.cluster.back(where)
            case Kind.PAUSE:
                simulation.nodes[where].go_on()
            case Kind.CUT:
                network.join(network.link(where, fault.other))
            case Kind.HOLD:
                network.release(network.link(where, fault.other), where)
            case Kind.SLOW_LINK:
                network.link(where, fault.other).latency_s[where] /= 40
            case Kind.REFUSE:
                network.link(where, fault.other).refuses = False
            case Kind.LEDGER_AWAY:
                simulation.cluster.back(where)
            case Kind.LEDGER_SLOW:
                plan = next(one for one in simulation.plan.nodes if one.name == where)
                simulation.cluster.way(where).latency_s = plan.latency_s
            case Kind.LEDGER_ACK_LOST:
                simulation.cluster.way(where).loses_answers = False
            case Kind.LEDGER_REFUSED:
                simulation.cluster.way(where).refused = ""
            case Kind.DISK_FULL:
                simulation.disks[where].fill(full=False)
            case Kind.DISK_BROKEN:
                simulation.disks[where].broken = False
            case Kind.DISK_SLOW:
                simulation.disks[where].delay_s = simulation.disk_delay_s(where)
            case Kind.CLOCK_AHEAD:
                simulation.nodes[where].clock.jump(-fault.size)
            case Kind.CLOCK_BACK:
                simulation.nodes[where].clock.jump(fault.size)
            case Kind.CLOCK_FAR:
                simulation.nodes[where].clock.jump(-CLOCK_FAR_S)
            case Kind.LEDGER_FORGETS:
                simulation.cluster.recall()
            case Kind.REMOVE_PEER:
                pass
            case _:
                raise AssertionError(fault.kind)


def _place(fault: FaultPlan) -> frozenset[tuple[str, ...]]:
    """The things that a fault breaks: only one fault may break each at a time."""
    match fault.kind:
        case Kind.CRASH | Kind.POWER | Kind.STOP | Kind.PAUSE | Kind.REMOVE_PEER:
            return frozenset((("process", fault.where),))
        case Kind.BOTH_ENDS:
            return frozenset((("process", fault.where), ("process", fault.other)))
        case Kind.CUT | Kind.REFUSE:
            return frozenset((("link", *sorted((fault.where, fault.other))),))
        case Kind.HOLD | Kind.SLOW_LINK:
            # Also while it is cut: what is held back, or slow, is lost then.
            return frozenset(((fault.kind, fault.where, fault.other),))
        case Kind.LEDGER_AND_CRASH:
            return frozenset((("process", fault.where), ("ledger", fault.where)))
        case Kind.DISK_FULL | Kind.DISK_BROKEN | Kind.DISK_SLOW:
            return frozenset((("disk", fault.where),))
        case Kind.CLOCK_AHEAD | Kind.CLOCK_BACK | Kind.CLOCK_FAR:
            return frozenset((("clock", fault.where),))
        case Kind.LEDGER_FORGETS:
            return frozenset((("cluster",),))
        case _:
            return frozenset((("ledger", fault.where),))
