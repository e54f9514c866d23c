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
            if journal.first > 1:
                self.wrongly_pruned.append((name, "rows were pruned too early"))

    def rows_of(self, node: str) -> list[Row]:
        """Every transfer in the journal of a node, also of rows that were pruned."""
        connection = self._simulation.disks[node].database("ledger.db").connection
        return read_journal(connection, self._journals.get(node))

    def look_at_journals(self) -> None:
        """Whether those that could be pruned were; after `rows_of`.

        A process prunes what is old by its own time, up to a point that is not the last one.
        """
        for name, journal in self._journals.items():
            if journal.requests and min(journal.requests) > 1:
                continue  # said already
            began_s, _ = self._simulation.nodes[name].clock_starts[-1]
            if began_s < self._read_s and self._points[name] > 1 and journal.first == 1:
                self.wrongly_pruned.append((name, "no rows were pruned"))
