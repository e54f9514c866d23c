"""All attacks, by name.

strangers   who reach the BTP port            visitors   who reach the HTTP port
crowding    peers that take places            lying      peers that break the rules
services    what the node itself asks       routers    peers that announce routes
payers      who reach the listeners for payments and for ILP over HTTP
"""

from __future__ import annotations

from typing import Final

from tests.hostile import crowding, lying, payers, routers, services, strangers, visitors
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
        routers.RouteFloods,
        routers.RouteThieves,
        payers.Payers,
        payers.HttpPeers,
        services.Pages,
        services.Receiver,
        services.Collector,
        services.Engine,
        services.RatesSource,
    )
}
