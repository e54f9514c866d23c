"""Plans: one seed, one plan; and parts of it that can be left out."""

from __future__ import annotations

from dataclasses import replace

import pytest

from connector.simulation.draw import LIVES_S, SLOWLY_REPLACED_S, make_plan
from connector.simulation.kinds import (
    FAULTS,
    HOSTILE,
    KNOWN_OPEN,
    REPLACED,
    ROUTES,
    Kind,
    default_kinds,
)
from connector.simulation.parts import settings_of

SEEDS = range(12)


def test_a_seed_gives_one_plan() -> None:
    kinds = default_kinds()
    assert make_plan(5, kinds=kinds) == make_plan(5, kinds=kinds)
    assert make_plan(5, kinds=kinds) != make_plan(6, kinds=kinds)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_the_number_of_nodes_can_be_given(count: int) -> None:
    assert len(make_plan(1, kinds=default_kinds(), nodes=count).nodes) == count


def test_every_payment_has_a_way_between_its_ends() -> None:
    for seed in SEEDS:
        plan = make_plan(seed, kinds=default_kinds())
        nodes = {one.name for one in plan.nodes}
        for payment in plan.payments:
            way = plan.way(payment.sender, payment.receiver)
            assert way[0] == payment.sender
            assert way[-1] == payment.receiver
            assert set(way[1:-1]) <= nodes
            assert way[1:-1]


def test_only_what_was_asked_for_is_in_a_plan() -> None:
    for seed in SEEDS:
        plan = make_plan(seed, kinds=default_kinds({Kind.CRASH}))
        assert {one.kind for one in plan.faults} <= {Kind.CRASH}
        assert not plan.hostile_ends
        assert all(one.fee_basis_points == 0 for one in plan.nodes)


@pytest.mark.parametrize(
    "kind", [*FAULTS, *HOSTILE, *sorted(REPLACED), Kind.SECOND_PROCESS, Kind.MACHINE_LOST]
)
def test_every_kind_comes_up(kind: Kind) -> None:
    for seed in range(20):
        plan = make_plan(seed, kinds=frozenset((kind,)))
        found = {one.kind for one in plan.faults}
        found |= {one.hostile for one in plan.payments if one.hostile is not None}
        assert found <= {kind}
        if found:
            return
    raise AssertionError(kind)


def test_better_ways_that_refuse_change_nothing_else_of_a_plan() -> None:
    found = 0
    for seed in range(40):
        kinds = default_kinds()
        plan = make_plan(seed, kinds=kinds)
        without = make_plan(seed, kinds=kinds - {Kind.TWO_WAYS})
        assert (plan.nodes, plan.payments, plan.faults, plan.ends) == (
            without.nodes, without.payments, without.faults, without.ends,
        )  # fmt: skip
        assert tuple(one for one in plan.links if not one.refuses) == without.links
        for link in plan.links:
            if link.refuses:
                found += 1
                (node,) = (one for one in plan.nodes if one.name == link.right)
                routes = {one.id: set(one.routes) for one in settings_of(plan, node).peers}
                own = routes.pop(link.left)
                assert own == set().union(*routes.values()) - {""}
                assert all(link.left < other for other in routes)
    assert found


@pytest.mark.long
def test_a_ring_of_default_routes_changes_nothing_else_of_a_plan() -> None:
    rings = 0
    for seed in range(40):
        # Nodes that learn routes are in no plan with a ring, so more of them are in one without.
        kinds = default_kinds() - ROUTES
        plan = make_plan(seed, kinds=kinds)
        without = make_plan(seed, kinds=kinds - {Kind.ROUTING_LOOP})
        assert [one for one in plan.payments if one.outcome != "nowhere"] == list(without.payments)
        assert (plan.nodes, plan.faults, plan.ends) == (without.nodes, without.faults, without.ends)
        links = [replace(one, default_of="") for one in plan.links if not one.closes]
        assert links == list(without.links)
        ring = {
            one.default_of: one.right if one.left == one.default_of else one.left
            for one in plan.links
            if one.default_of
        }
        assert ring.keys() == set(ring.values())
        assert len(ring) != 1
        rings += bool(ring)
        for payment in plan.payments:
            way = plan.way(payment.sender, payment.receiver)
            assert way == without.way(payment.sender, payment.receiver)
    assert rings


def test_known_open_kinds_are_off_until_they_are_asked_for() -> None:
    assert not default_kinds() & KNOWN_OPEN.keys()
    assert default_kinds({Kind.LEDGER_FORGETS}) == {Kind.LEDGER_FORGETS}
    assert Kind.CRASH not in default_kinds(None, frozenset((Kind.CRASH,)))


def test_parts_can_be_kept() -> None:
    plan = make_plan(3, kinds=default_kinds({Kind.CRASH}))
    kept = plan.keep([1, 2], [1])
    assert [one.number for one in kept.payments] in ([1, 2], [2, 1])
    assert [one.number for one in kept.faults] == [1]


def test_packets_outlive_a_slow_replacement() -> None:
    kinds = frozenset((Kind.REPLACE_LATE, Kind.CLOCKS_DIFFER))
    plans = [make_plan(seed, kinds=kinds) for seed in range(40)]
    slow = [plan for plan in plans if plan.long_faults_s]
    assert slow
    for plan in slow:
        lives_s = max(one.expires_in_s for one in plan.payments)
        assert lives_s >= LIVES_S + SLOWLY_REPLACED_S
        assert plan.long_faults_s <= SLOWLY_REPLACED_S


@pytest.mark.long
def test_some_nodes_are_replaced_and_nothing_else_breaks() -> None:
    plans = [make_plan(seed, kinds=default_kinds()) for seed in range(100)]
    alone = [
        plan
        for plan in plans
        if plan.faults and {one.kind for one in plan.faults} == {Kind.REPLACE}
    ]
    assert len(alone) > 5


def test_bounds_are_of_nodes_and_their_neighbours() -> None:
    kinds = frozenset((Kind.IN_FLIGHT_VALUE, Kind.PREPAID))
    plans = [make_plan(seed, kinds=kinds) for seed in range(20)]
    assert any(plan.in_flight_max for plan in plans)
    assert any(not one.is_true for plan in plans for one in plan.prepayments)
    for plan in plans:
        names = {one.name for one in plan.nodes}
        for node, peer in (*plan.in_flight_max, *plan.prepaid_max):
            assert node in names
            assert peer in plan.neighbours(node)
        assert {(one.node, one.peer) for one in plan.prepayments} <= plan.prepaid_max.keys()
