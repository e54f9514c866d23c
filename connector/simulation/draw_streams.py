"""Draws payments of many packets (STREAM) that nodes make to wallets of other nodes.

From a random source of its own: the rest of a plan stays as it is, but that links between nodes know packet ids, and for a few
kinds that would decide how such a payment ends.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from connector.simulation.draw_apart import chance_of, dice_of, numbered
from connector.simulation.kinds import CLOCKS, Kind
from connector.simulation.plan import CREDIT_MAX, STREAM_PACKET_MAX, FaultPlan, Plan, StreamPlan

STREAM_CHANCE: Final = 0.15
_LONG: Final = frozenset((Kind.PRUNED, Kind.LONG_UP))
_TRAITS: Final = frozenset((Kind.LIMITS, Kind.CLOCKS_DIFFER, Kind.IN_FLIGHT_VALUE))
"""Not with it: with a limit no such amount passes, with clocks that differ the time of packets is not what the judge computes."""
_FAULTS: Final = frozenset(
    (
        *CLOCKS,
        # A process with another disk refuses the key, as it has to (docs/payments.md).
        *(Kind.SECOND_PROCESS, Kind.MACHINE_LOST),
        *(Kind.LEDGER_FORGETS, Kind.LEDGER_GOES_BACK, Kind.JOURNAL_CUT),
        *(Kind.REMOVE_PEER, Kind.CHANGE_LIMIT),
        # The file of payments cannot be written, and the payment ends with that.
        *(Kind.DISK_FULL, Kind.DISK_BROKEN, Kind.DISK_LOW),
    )
)
"""Left out of such a plan."""
_STEPS: Final = (1, 2, 3, 5, 8, 13, 21, 40, 80, 150, 300)
"""So many writes, commits and requests to the ledger later a payer is killed."""


def with_streams(plan: Plan) -> Plan:
    """Perhaps payments of many packets, and perhaps a payer that is killed while one is under way."""
    dice = dice_of("streams", plan.seed)
    names = [one.name for one in plan.nodes]
    if len(names) < 2 or plan.traits & _LONG:
        return plan
    if dice.random() >= chance_of(plan.kinds, STREAM_CHANCE):
        return plan
    streams, faults = [], []
    for number, payer in enumerate(dice.sample(names, dice.choice((1, 1, 2))), 1):
        at_s = round(dice.random() * plan.traffic_s / 3, 4)
        payee = dice.choice([one for one in names if one != payer])
        packets = dice.choice((1, 3, 60, 60, 250))
        amount = packets * STREAM_PACKET_MAX - dice.randrange(STREAM_PACKET_MAX)
        streams.append(StreamPlan(number, at_s, payer, payee, amount))
        if Kind.CRASH in plan.kinds and dice.random() < 0.6:
            faults.append(
                FaultPlan(
                    number=0,
                    kind=Kind.CRASH,
                    at_s=round(at_s + 0.5 * dice.random(), 4),
                    for_s=dice.choice((0.2, 1.5, 2.5)),
                    where=payer,
                    after_operations=dice.choice(_STEPS),
                )
            )
    links = [
        replace(
            one,
            credit_limit=CREDIT_MAX,
            resumable=one.resumable or (one.left in names and one.right in names),
        )
        for one in plan.links
    ]
    kept = [one for one in plan.faults if one.kind not in _FAULTS]
    return replace(
        plan,
        nodes=tuple(replace(one, clock_s=0.0) for one in plan.nodes),
        links=tuple(links),
        faults=numbered(kept, faults),
        streams=tuple(streams),
        in_flight_max={},
        traits=plan.traits - _TRAITS | {Kind.STREAM},
    )
