"""The judge looks when a world is at rest, not between two packets of who comes late."""

from __future__ import annotations

from connector.simulation.run import POLL_S, Simulation
from tests.support.worlds import small_plan


class Counted:
    """A node that seems quiet at every look."""

    def __init__(self) -> None:
        self.packets = 0

    def is_quiet(self) -> bool:
        return True


def test_packets_between_two_looks_begin_the_rest_anew() -> None:
    simulation = Simulation(small_plan())
    node = Counted()
    simulation.nodes.clear()
    simulation.nodes["n1"] = node  # type: ignore[assignment]
    world = simulation.world
    calm_s = simulation._calm_s
    try:
        simulation._poll()
        late_s = calm_s - POLL_S / 2
        world.at(late_s, setattr, node, "packets", 1)
        world.run_until(lambda: simulation._is_quiet, 10 * calm_s)
        assert simulation._is_quiet
        assert world.now_s >= late_s + calm_s
    finally:
        world.close()
