"""An end with two sockets: it is asked over one and answers over the other."""

from __future__ import annotations

from dataclasses import replace

import pytest

from connector.simulation.octets import UnreadableError, read_frames, server_frame, upgrade_answer
from connector.simulation.plan import Plan
from connector.simulation.plugin import PluginEnd
from connector.simulation.run import Simulation
from tests.support.worlds import small_plan


def plan_with_two_sockets() -> Plan:
    plan = small_plan(count=6, outcomes=("pay",))
    links = tuple(
        replace(one, resumable=False, both_dial=True) if one.left == "n1a" else one
        for one in plan.links
    )
    return replace(plan, links=links)


def test_both_sockets_stay_and_every_payment_is_answered() -> None:
    simulation = Simulation(plan_with_two_sockets())
    outcome = simulation.run()
    assert isinstance(simulation.ends["n1a"], PluginEnd)
    assert outcome.findings == []
    assert (outcome.payments, outcome.fulfilled) == (6, 6)
    core = simulation.nodes["n1"].core
    assert core is not None
    assert core.links.connects["n1a"] == 2


def test_frames_of_a_server_are_read_by_a_client() -> None:
    octets = server_frame(2, b"short") + server_frame(2, b"x" * 300)
    assert read_frames(octets) == ([(2, b"short"), (2, b"x" * 300)], b"")


def test_what_opens_no_websocket_is_said() -> None:
    with pytest.raises(UnreadableError, match="no WebSocket"):
        upgrade_answer(b"GET / HTTP/1.1\r\nHost: n1a")
