"""Records clocks and journals while a world runs: at its end they can no longer be seen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Protocol

from connector.simulation.disk import Disk
from connector.simulation.node import SimulatedNode
from connector.simulation.raw import Journal, Row, read_journal, read_points
from connector.simulation.world import World

CLOCK_LOOK_S: Final = 0.5
CLOCK_NOTED_S: Final = 0.001
KEPT_S: Final = 600.0
"""How long a process keeps every row, at least, however large the file is (docs/accounting.md): from its start
on, and from the point that covers the row."""
LOOKS_BEFORE_S: Final = 1.0
AWAKE_S: Final = 5.0
"""How long the processes run before that, in the pause in which they stand still otherwise: they have time
to prune."""
_NS: Final = 1_000_000_000


class Watched(Protocol):
    """The part of a simulation that is looked at."""

    @property
    def world(self) -> World:
        """Time."""

    @property
    def nodes(self) -> Mapping[str, SimulatedNode]:
        """By name."""

    @property
    def disks(self) -> Mapping[str, Disk]:
        """By host."""


class Watch:
    """See the module."""

    def __init__(self, simulation: Watched) -> None:
        self.clock_errors: Final[dict[str, list[tuple[float, float]]]] = {}
        """By node: from when on the clock of its process was so many seconds ahead."""
        self.wrongly_pruned: Final[list[tuple[str, str]]] = []
        """Nodes that have pruned too early, or not at all, and which of both."""
        self._simulation = simulation
        self._journals: dict[str, Journal] = {}
        """Of nodes that may prune theirs: what was read before."""
        self._points: dict[str, int] = {}
        """By node: how many points its journal had then."""
        self._read_s = 0.0
        self._looked_s = 0.0
        self._known: dict[str, int] = {}
        """By node: the newest row of its journal that was read before it may be pruned."""

    def look_at_clocks(self) -> None:
        """Note how far the clock of each process is ahead whenever that has changed, from now on."""
        world = self._simulation.world
        for name, node in self._simulation.nodes.items():
            errors = self.clock_errors.setdefault(name, [])
            error_s = node.ahead_ns / _NS
            if not errors or abs(errors[-1][1] - error_s) > CLOCK_NOTED_S:
                errors.append((world.now_s, error_s))
        world.after(CLOCK_LOOK_S, self.look_at_clocks)

    def read_journals(self) -> None:
        """Read all journals, which are too young to be pruned."""
        simulation = self._simulation
        self._read_s = simulation.world.now_s
        for name, node in simulation.nodes.items():
            if node.plan.ledger != "embedded" or simulation.disks[name].has_cut_journal:
                continue
            connection = simulation.disks[name].database("ledger.db").connection
            journal = self._journals[name] = Journal()
            journal.read(connection)
            self._points[name] = read_points(connection)
            self._note_looked(name, journal)

    def _note_looked(self, name: str, journal: Journal) -> None:
        self._looked_s = self._simulation.world.now_s
        self._known[name] = max(journal.requests, default=0)
        if journal.first > 1:
            self._note_early(name)

    def _note_early(self, name: str) -> None:
        early = (name, "rows were pruned too early")
        if early not in self.wrongly_pruned:
            self.wrongly_pruned.append(early)

    def _began_s(self, name: str) -> float:
        return self._simulation.nodes[name].clock_starts[-1][0]

    def looks_again_s(self) -> float:
        """A moment before a process may prune what `read_journals` has read; without journals a time in the past."""
        old_s = min((self._began_s(name) + KEPT_S for name in self._journals), default=0.0)
        return old_s - LOOKS_BEFORE_S

    def look_for_early_pruning(self) -> None:
        """Read the same journals again: what is not old enough yet is still there."""
        simulation = self._simulation
        for name, journal in self._journals.items():
            if simulation.world.now_s < self._began_s(name) + KEPT_S:
                journal.read(simulation.disks[name].database("ledger.db").connection)
                self._note_looked(name, journal)

    def rows_of(self, node: str) -> list[Row]:
        """Every transfer in the journal of a node, also of rows that were pruned."""
        connection = self._simulation.disks[node].database("ledger.db").connection
        return read_journal(connection, self._journals.get(node))

    def look_at_journals(self) -> None:
        """Whether those that could be pruned were, and nothing that is younger; after `rows_of`.

        A process prunes what is old by its own time, up to a point that is not the last one.
        """
        for name, journal in self._journals.items():
            is_young = self._simulation.world.now_s - self._looked_s < KEPT_S
            if is_young and journal.first > self._known[name] + 1:
                self._note_early(name)  # what nobody has read was written since the last look
            if journal.requests and min(journal.requests) > 1:
                continue  # said already
            if self._began_s(name) < self._read_s and self._points[name] > 1 and journal.first == 1:
                self.wrongly_pruned.append((name, "no rows were pruned"))
