"""How often a packet in a loop of routes may be held, and what lets it be held more often."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from connector.simulation.facts import Fact, Facts
from connector.simulation.kinds import Kind
from connector.simulation.loops import FORGOTTEN, FORWARDED_MAX, HELD_SHORTER, look_at_loop
from connector.simulation.plan import FaultPlan
from connector.simulation.raw import PENDING, Row
from connector.simulation.world import START_NS
from tests.support.worlds import nothing_seen, small_plan

SENT_S = 10.0
CUT = FaultPlan(1, Kind.CUT, at_s=8.0, for_s=2.0, where="n1", other="n2")


class Place:
    """A payment to nowhere, sent at 10 s; a fault; holds a tenth of a second apart."""

    def __init__(self, *, ledger: str = "tigerbeetle", fault: FaultPlan = CUT) -> None:
        plan = small_plan(ledger=ledger, faults=(fault,))
        nowhere = replace(plan.payments[0], outcome="nowhere")
        facts = Facts()
        self.fact: Fact = facts.register(nowhere, ["n1a", "n1", "n2", "n2a"])
        self.fact.sent_s, self.fact.expires_at_s = SENT_S, SENT_S + nowhere.expires_in_s
        self.fact.outcome = "F02"
        self.evidence = nothing_seen(plan, facts)

    def held(self, times: int) -> Sequence[str]:
        start = int.from_bytes(self.fact.condition[:12], "big")
        self.evidence.rows["n1"] = [
            Row(
                id=number << 8,
                debit=1,
                credit=2,
                amount=5,
                pending_id=0,
                tag=0,
                data_64=start >> 32,
                data_32=start & 0xFFFFFFFF,
                timeout=70,
                ledger=1,
                code=1,
                flags=PENDING,
                timestamp=START_NS + int((SENT_S + number / 10) * 1e9),
            )
            for number in range(1, times + 1)
        ]
        found = look_at_loop(self.evidence, self.fact, lambda _node, _start: False)
        return [one.text for one in found]


@pytest.mark.parametrize("ledger", ["embedded", "tigerbeetle"])
def test_a_fault_alone_lets_no_packet_go_round_more_often(ledger: str) -> None:
    place = Place(ledger=ledger)
    place.evidence.losses[frozenset(("n1", "n2"))] = [SENT_S + 0.05]
    assert place.held(FORWARDED_MAX) == []
    assert place.held(FORWARDED_MAX + 1) == ["has held it 3 times; 0 times something was forgotten"]


@pytest.mark.parametrize("node", ["n1", "n2"])
def test_a_process_that_ends_has_forgotten_what_it_forwarded(node: str) -> None:
    place = Place()
    place.evidence.deaths[node] = [SENT_S + 0.15]
    assert place.held(FORWARDED_MAX + FORGOTTEN) == []
    assert place.held(FORWARDED_MAX + FORGOTTEN + 1) != []


@pytest.mark.parametrize("at_s", [SENT_S - 0.1, SENT_S + 5.0])
def test_what_was_forgotten_before_the_packet_or_after_its_holds_is_no_reason(at_s: float) -> None:
    place = Place()
    place.evidence.deaths["n1"] = [at_s]
    assert place.held(FORWARDED_MAX + 1) != []


def test_a_connection_without_packet_ids_forgets_between_nodes_only() -> None:
    place = Place()
    plan = place.evidence.plan
    place.evidence.plan = replace(
        plan, links=tuple(replace(one, resumable=False) for one in plan.links)
    )
    place.evidence.losses[frozenset(("n1", "n1a"))] = [SENT_S + 0.15]
    assert place.held(FORWARDED_MAX + 1) != []
    place.evidence.losses[frozenset(("n1", "n2"))] = [SENT_S + 0.15]
    assert place.held(FORWARDED_MAX + 1) == []


def test_a_packet_that_is_held_for_less_than_it_lives_goes_round_twice_more() -> None:
    place = Place()
    place.fact.plan = replace(place.fact.plan, expires_in_s=130.0)
    assert place.held(FORWARDED_MAX + HELD_SHORTER) == []
    assert place.held(FORWARDED_MAX + HELD_SHORTER + 1) != []


def test_a_journal_by_a_clock_that_jumps_does_not_say_what_was_forgotten_before() -> None:
    jump = FaultPlan(1, Kind.CLOCK_AHEAD, at_s=8.0, for_s=2.0, where="n1", size=5.0)
    place = Place(ledger="embedded", fault=jump)
    place.evidence.deaths["n1"] = [SENT_S + 5.0]
    assert place.held(FORWARDED_MAX + FORGOTTEN) == []
