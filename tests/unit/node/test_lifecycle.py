"""A stop while links are held: it waits, so that answers can be sent when links are released."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from connector.base import limits
from connector.btp.standstill import Standstill
from connector.node.lifecycle import Lifecycle
from tests.support.clocks import SimulatedClock, simulated
from tests.support.daemons import EventLog


@pytest.mark.parametrize(
    ("superseded", "released_after_s", "waits_s"),
    [(False, 1.0, 2.0), (False, 60.0, limits.STOP_IN_FLIGHT_SECONDS_MAX), (True, 60.0, 0.0)],
)
@simulated
async def test_a_stop_waits_for_packets_while_links_are_held_unless_it_was_replaced(
    superseded: bool, released_after_s: float, waits_s: float
) -> None:
    """They are answered a second after the links are released."""
    loop, clock = asyncio.get_running_loop(), SimulatedClock()
    standstill = Standstill(clock=clock, log=EventLog(), limit_s=1.0, on_standstill=lambda: None)
    standstill.seen()
    await asyncio.sleep(2)
    assert not standstill.seen()
    driver = SimpleNamespace(in_flight=2)

    def answered() -> None:
        driver.in_flight = 0

    loop.call_later(released_after_s + 1, answered)
    core = SimpleNamespace(
        node=SimpleNamespace(stopping=False),
        links=SimpleNamespace(standstill=standstill, stop_listening=lambda: None, held=0),
        clock=clock,
        driver=driver,
        accounts=SimpleNamespace(is_superseded=superseded, spooled=0, undurable=0),
    )
    began_s = loop.time()
    await Lifecycle._wait_for_packets(cast(Any, SimpleNamespace(_core=core)))
    assert loop.time() - began_s == pytest.approx(waits_s, abs=0.1)
    assert core.node.stopping


@pytest.mark.parametrize("superseded", [False, True])
@simulated
async def test_a_stop_waits_for_posts_whose_fulfills_were_relayed(superseded: bool) -> None:
    """Until the ledger or the outbox has them: the ticks that see to it end afterwards."""
    loop, clock = asyncio.get_running_loop(), SimulatedClock()
    standstill = Standstill(clock=clock, log=EventLog(), limit_s=1.0, on_standstill=lambda: None)
    accounts = SimpleNamespace(is_superseded=superseded, spooled=0, undurable=3)
    loop.call_later(0.3, setattr, accounts, "undurable", 0)
    core = SimpleNamespace(
        node=SimpleNamespace(stopping=False),
        links=SimpleNamespace(standstill=standstill, stop_listening=lambda: None, held=0),
        clock=clock,
        driver=SimpleNamespace(in_flight=0),
        accounts=accounts,
    )
    began_s = loop.time()
    await Lifecycle._wait_for_packets(cast(Any, SimpleNamespace(_core=core)))
    assert loop.time() - began_s == pytest.approx(0.3, abs=0.1)


def test_no_former_peer_is_forgotten_while_a_post_is_queued() -> None:
    forgotten: list[str] = []
    accounts = SimpleNamespace(
        queue_depth=lambda: 1,
        peers={"bob": SimpleNamespace(is_even=True)},
        forget_peer=forgotten.append,
    )
    settlements = SimpleNamespace(under_way=lambda _: None)
    core = SimpleNamespace(accounts=accounts, settlements=settlements)
    life = Lifecycle.__new__(Lifecycle)
    life._core = cast(Any, core)
    former = [cast(Any, SimpleNamespace(peer_id="bob"))]
    assert life._forget_even(former) == []
    accounts.queue_depth = lambda: 0
    assert life._forget_even(former) == ["bob"]
    assert forgotten == ["bob"]


@pytest.mark.parametrize(("comes_back", "answered"), [(True, 0), (False, 1)])
@simulated
async def test_a_node_that_is_replaced_leaves_look_ups_to_the_process_that_follows(
    comes_back: bool, answered: int
) -> None:
    """It takes no new packets any more: what is unknown to the ledger would be rejected."""
    told: list[object] = []

    async def find_former(asked: object) -> object:
        core.node.stopping = True
        return asked

    core = SimpleNamespace(
        node=SimpleNamespace(stopping=False),
        links=SimpleNamespace(comes_back=comes_back, flush=lambda: None),
        clock=SimulatedClock(),
        driver=SimpleNamespace(to_look_up=lambda: [("b", 1)], looked_up=told.append),
        accounts=SimpleNamespace(find_former=find_former),
    )
    life = Lifecycle.__new__(Lifecycle)
    life._core = cast(Any, core)
    await life._look_up()
    assert len(told) == answered
    await life._look_up()
    assert len(told) == 2 * answered
