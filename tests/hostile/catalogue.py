"""All attacks, by name.

strangers   who reach the BTP port            visitors   who reach the HTTP port
crowding    peers that take places            lying      peers that break the rules
services    what the node itself asks
"""

from __future__ import annotations

from typing import Final

from tests.hostile import crowding, lying, services, strangers, visitors
from tests.hostile.attack import Attack

ATTACKS: Final[dict[str, type[Attack]]] = {
    attack.name: attack
    for attack in (
        strangers.SilentSockets,
        strangers.BrokenHandshakes,
        strangers.HalfUpgrades,
        strangers.NoLogIn,
        strangers.Guesses,
        visitors.IdleVisitors,
        visitors.SlowVisitors,
        visitors.Cookies,
        visitors.OddRequests,
        visitors.WrongKeys,
        visitors.Readers,
        visitors.Viewers,
        crowding.Jam,
        crowding.PaidJam,
        crowding.DataJam,
        crowding.LargeAnswers,
        crowding.LongTexts,
        crowding.Deaf,
        crowding.ControlFrames,
        crowding.Reconnects,
        crowding.Loop,
        lying.Resent,
        lying.Liars,
        lying.BrokenFrames,
        lying.OddPackets,
        services.Pages,
        services.Receiver,
        services.Collector,
        services.Engine,
    )
}
