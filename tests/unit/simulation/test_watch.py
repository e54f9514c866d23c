"""Rows that a journal loses before they are old enough are found, whenever that is."""

from __future__ import annotations

import sqlite3
from types import SimpleNamespace
from typing import Any

import pytest

from connector.simulation.watch import KEPT_S, LOOKS_BEFORE_S, Watch
from connector.simulation.world import World

EARLY = [("n1", "rows were pruned too early")]


class Place:
    """A node whose process began at 3 s, with a journal of ten requests and three points."""

    def __init__(self) -> None:
        self.world = World(1)
        self.world.now_s = 100.0
        self.connection = sqlite3.connect(":memory:", isolation_level=None)
        self.connection.execute("CREATE TABLE journal (seq INTEGER, kind, events, statuses)")
        self.connection.execute("CREATE TABLE point (seq INTEGER, state)")
        self.write(1, 10)
        self.connection.executemany("INSERT INTO point VALUES (?, 1)", [(2,), (4,), (8,)])
        node = SimpleNamespace(plan=SimpleNamespace(ledger="embedded"), clock_starts=[(3.0, 0.0)])
        disk = SimpleNamespace(
            has_cut_journal=False,
            database=lambda _name: SimpleNamespace(connection=self.connection),
        )
        simulation: Any = SimpleNamespace(world=self.world, nodes={"n1": node}, disks={"n1": disk})
        self.watch = Watch(simulation)

    def write(self, first: int, last: int) -> None:
        self.connection.executemany(
            "INSERT INTO journal VALUES (?, 2, x'', x'')",
            [(seq,) for seq in range(first, last + 1)],
        )

    def prune(self, last: int) -> None:
        self.connection.execute("DELETE FROM journal WHERE seq <= ?", (last,))

    def end(self, at_s: float) -> list[tuple[str, str]]:
        self.world.now_s = at_s
        self.watch.rows_of("n1")
        self.watch.look_at_journals()
        return self.watch.wrongly_pruned


def test_a_journal_that_loses_what_is_old_enough_is_right() -> None:
    place = Place()
    place.watch.read_journals()
    place.world.now_s = place.watch.looks_again_s()
    assert place.world.now_s == 3.0 + KEPT_S - LOOKS_BEFORE_S
    place.watch.look_for_early_pruning()
    place.write(11, 20)
    place.prune(4)
    assert place.end(725.0) == []


@pytest.mark.parametrize("at_s", [50.0, 400.0, 601.0])
def test_rows_that_are_pruned_before_they_are_old_are_found(at_s: float) -> None:
    place = Place()
    place.world.now_s = min(100.0, at_s)
    if at_s < 100.0:
        place.prune(2)
    place.watch.read_journals()
    if at_s >= 100.0:
        place.prune(2)
    place.world.now_s = place.watch.looks_again_s()
    place.watch.look_for_early_pruning()
    assert place.end(725.0) == EARLY


def test_rows_that_are_written_after_the_last_look_and_pruned_are_found() -> None:
    place = Place()
    place.watch.read_journals()
    place.world.now_s = place.watch.looks_again_s()
    place.watch.look_for_early_pruning()
    place.write(11, 20)
    place.prune(12)
    assert place.end(725.0) == EARLY


def test_a_process_that_may_prune_already_is_not_accused() -> None:
    place = Place()
    place.watch.read_journals()
    place.world.now_s = 3.0 + KEPT_S
    place.prune(2)
    place.watch.look_for_early_pruning()
    assert place.end(725.0) == []


def test_a_journal_that_loses_nothing_is_found() -> None:
    place = Place()
    place.watch.read_journals()
    assert place.end(725.0) == [("n1", "no rows were pruned")]
