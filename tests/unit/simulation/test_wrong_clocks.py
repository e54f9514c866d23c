"""Losses that a wrong clock excuses, and losses in the same run that it does not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from connector.simulation.facts import Fact, Facts, Given
from connector.simulation.raw import PENDING, Row
from connector.simulation.world import START_NS
from connector.simulation.wrong_clocks import WrongClocks
from tests.support.worlds import nothing_seen, small_plan

HOUR_S = 3600.0
GRACE_S = 4.0


class Place:
    """A payment that is sent at 10 s and lives for a minute, and clocks."""

    def __init__(self, ledger: str = "tigerbeetle") -> None:
        plan = small_plan(ledger=ledger)
        facts = Facts()
        self.fact: Fact = facts.register(plan.payments[0], ["n1a", "n1", "n2", "n2a"])
        self.fact.sent_s, self.fact.expires_at_s = 10.0, 70.0
        self.evidence = nothing_seen(plan, facts)

    @property
    def clocks(self) -> WrongClocks:
        return WrongClocks(self.evidence)

    def hold(self, at_s: float, timeout_s: int = 70) -> Row:
        timestamp = START_NS + int(at_s * 1e9)
        return Row(1 << 8, 1, 2, 5, 0, 0, 0, 0, timeout_s, 1, 1, PENDING, timestamp)


@pytest.mark.parametrize(
    ("began_s", "ahead_s", "is_hidden"),
    [
        (12.0, HOUR_S, True),  # the hold was over by that clock
        (12.0, 5.0, False),  # a clock that is little ahead sees it
        (12.0, -HOUR_S, False),
        (9.0, HOUR_S, False),  # the process was there before the packet: it held the money itself
        (2.0, HOUR_S, False),
    ],
)
def test_a_hold_is_hidden_from_a_process_by_whose_clock_it_was_over(
    began_s: float, ahead_s: float, is_hidden: bool
) -> None:
    place = Place()
    place.evidence.clock_starts = {"n1": [(0.0, 0.0), (began_s, ahead_s)]}
    assert place.clocks.hides("n1", place.hold(10.1), place.fact) is is_hidden
    assert not place.clocks.hides("n2", place.hold(10.1), place.fact)


@pytest.mark.parametrize(
    ("ledger", "began_s", "ahead_s", "timeout_s"),
    [
        ("embedded", 12.0, HOUR_S, 2),  # the process that began then has ended it
        ("embedded", 12.0, 5.0, 70),
        ("embedded", 9.0, HOUR_S, 70),
        ("tigerbeetle", 12.0, HOUR_S, 70),  # a cluster has a clock of its own
    ],
)
def test_an_embedded_ledger_ends_holds_by_the_clock_of_a_process_that_begins(
    ledger: str, began_s: float, ahead_s: float, timeout_s: int
) -> None:
    place = Place(ledger)
    place.evidence.clock_starts = {"n1": [(0.0, 0.0), (began_s, ahead_s)]}
    (held,) = place.clocks.as_held("n1", [place.hold(10.1)])
    assert held == place.hold(10.1)._replace(timeout=timeout_s)


def test_an_embedded_ledger_goes_by_the_clock_of_its_node_and_hides_nothing() -> None:
    place = Place("embedded")
    place.evidence.clock_starts = {"n1": [(12.0, HOUR_S)]}
    assert not place.clocks.hides("n1", place.hold(10.1), place.fact)


@pytest.mark.parametrize(
    ("node", "began_s", "ahead_s", "gave_up"),
    [
        ("n1", 20.0, HOUR_S, True),
        ("n2", 20.0, HOUR_S, True),
        ("n1", 20.0, 5.0, False),
        ("n1", 60.0, 10.0, True),
        ("n1", 9.0, HOUR_S, False),
        ("n1", 71.0, HOUR_S, False),
        ("n3", 20.0, HOUR_S, False),
    ],
)
def test_a_packet_is_given_up_by_a_process_that_begins_meanwhile_with_such_a_clock(
    node: str, began_s: float, ahead_s: float, gave_up: bool
) -> None:
    place = Place()
    place.evidence.clock_starts = {node: [(0.0, 0.0), (began_s, ahead_s)]}
    assert place.clocks.gave_up(place.fact) is gave_up


@pytest.mark.parametrize(
    ("errors", "takes"),
    [([(0.0, 0.0)], False), ([(0.0, -0.4)], False), ([(0.0, -0.6)], True), ([(0.0, 5.0)], False)],
)
def test_a_late_fulfill_counts_for_a_node_whose_clock_is_behind_by_as_much(
    errors: list[tuple[float, float]], takes: bool
) -> None:
    place = Place()
    place.evidence.clock_errors = {"n2": errors}
    given = Given(70.5, 5, 70.0, b"", "n2a")
    assert place.clocks.takes_late("n2", given) is takes


def test_a_clock_that_was_behind_long_before_does_not_count() -> None:
    place = Place()
    place.evidence.clock_errors = {"n2": [(0.0, -5.0), (30.0, 0.0)]}
    assert not place.clocks.takes_late("n2", Given(70.5, 5, 70.0, b"", "n2a"))
    assert place.clocks.takes_late("n2", Given(31.0, 5, 30.5, b"", "n2a"))


@pytest.mark.parametrize(("error_s", "late"), [(0.0, False), (-2.0, False), (-3.0, True)])
def test_a_node_says_it_late_if_its_clock_is_behind_by_what_a_sender_waits(
    error_s: float, late: bool
) -> None:
    place = Place()
    place.evidence.clock_errors = {"n1": [(0.0, error_s)]}
    assert place.clocks.says_it_late("n1", place.fact, GRACE_S) is late


@pytest.mark.parametrize(("usual_s", "error_s", "ahead"), [(0.0, 0.0, False), (3.0, 3.0, False), (0.0, 0.5, True), (3.0, -2.0, False)])  # fmt: skip
def test_a_clock_that_is_always_ahead_is_no_news(
    usual_s: float, error_s: float, ahead: bool
) -> None:
    place = Place()
    nodes = tuple(replace(one, clock_s=usual_s) for one in place.evidence.plan.nodes)
    place.evidence.plan = replace(place.evidence.plan, nodes=nodes)
    place.evidence.clock_errors = {"n1": [(0.0, usual_s), (5.0, error_s)]}
    assert place.clocks.is_ahead("n1") is ahead
