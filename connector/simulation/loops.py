"""Checks a payment to an address that nobody has, in a ring of default routes: it ends, unbooked.

For the judge.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from connector.simulation.evidence import Evidence, Finding
from connector.simulation.facts import Fact
from connector.simulation.raw import PENDING

FORWARDED_MAX: Final = 2
"""How often a node forwards a packet that comes back (docs/protocol.md)."""


def look_at_loop(
    evidence: Evidence, fact: Fact, is_booked: Callable[[str, int], bool]
) -> Iterator[Finding]:
    """All findings. `is_booked`: whether a node has booked a payment, by the start of its condition."""
    number = fact.plan.number
    start = int.from_bytes(fact.condition[:12], "big")
    if fact.outcome == "fulfilled":
        yield Finding("loop", fact.way[0], "gets a Fulfill", number)
    for node, rows in evidence.rows.items():
        if is_booked(node, start):
            yield Finding("loop", node, "has booked it", number)
        held = {one.packet for one in rows if one.flags & PENDING and one.condition_start == start}
        if len(held) > FORWARDED_MAX and not evidence.plan.faults:
            yield Finding("loop", node, f"has held it {len(held)} times", number)
