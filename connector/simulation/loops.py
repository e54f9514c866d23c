"""Checks a payment to an address that nobody has, in a ring of default routes: it ends, unbooked.

For the judge. A node forwards a packet that comes back twice at most, as long as it remembers what it has forwarded
and waits for. Most faults change nothing in that: what is slow, or is sent again under its packet id, joins what is
under way, and what is refused ends. What makes a node take its own packet for another one:

- a process ends: its successor remembers nothing;
- a connection without packet ids is lost: who waited for an answer over it has one then, and the packet
  goes on behind it.

And a packet goes round twice more if a node's MAX_HOLD_MS shortens its first lap by more than the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from connector.simulation.evidence import Evidence, Finding
from connector.simulation.facts import GRACE_S, Fact
from connector.simulation.kinds import CLOCKS, Kind
from connector.simulation.plan import MAX_HOLD_MS, Plan
from connector.simulation.raw import NS, PENDING, Row
from connector.simulation.world import START_NS

FORWARDED_MAX: Final = 2
"""How often a node forwards a packet that comes back (docs/protocol.md)."""
HELD_SHORTER: Final = 2
"""How many times more it does so where MAX_HOLD_MS shortens the first lap (docs/protocol.md)."""
FORGOTTEN: Final = 3
"""How many times more for each time that something is forgotten: all copies come from one peer then, which
takes one lap more (docs/protocol.md)."""
_EXACT_S: Final = 0.001


def look_at_loop(
    evidence: Evidence, fact: Fact, is_booked: Callable[[str, int], bool]
) -> Iterator[Finding]:
    """All findings. `is_booked`: whether a node has booked a payment, by the start of its condition."""
    number = fact.plan.number
    start = int.from_bytes(fact.condition[:12], "big")
    if fact.outcome == "fulfilled":
        yield Finding("loop", fact.way[0], "gets a Fulfill", number)
    forgotten_s = _forgotten_s(evidence, fact)
    usual = FORWARDED_MAX + HELD_SHORTER * _is_held_shorter(evidence.plan, fact)
    for node, rows in evidence.rows.items():
        if is_booked(node, start):
            yield Finding("loop", node, "has booked it", number)
        held_s: dict[int, float] = {}
        for row in rows:
            if row.flags & PENDING and row.condition_start == start:
                held_s.setdefault(row.packet, _made_s(evidence.plan, fact, node, row))
        for count, at_s in enumerate(sorted(held_s.values()), 1):
            times = sum(1 for one in forgotten_s if one <= at_s)
            if count > usual + FORGOTTEN * times:
                text = f"has held it {len(held_s)} times; {times} times something was forgotten"
                yield Finding("loop", node, text, number)
                break


def _forgotten_s(evidence: Evidence, fact: Fact) -> list[float]:
    """When something was forgotten, by any node, since a packet was sent."""
    names = {one.name for one in evidence.plan.nodes}
    found = [at_s for node in names for at_s in evidence.deaths.get(node, ())]
    for link in evidence.plan.links:
        hosts = frozenset((link.left, link.right))
        if hosts <= names and not link.resumable:
            found += evidence.losses.get(hosts, ())
    began_s = fact.sent_s or 0.0
    return [at_s for at_s in found if at_s >= began_s]


def _is_held_shorter(plan: Plan, fact: Fact) -> bool:
    """Whether a packet may live longer than a node holds it, by the clock of that node."""
    behind_s = max(0.0, *(-one.clock_s for one in plan.nodes))
    behind_s += sum(one.size for one in plan.faults if one.kind is Kind.CLOCK_BACK)
    return fact.plan.expires_in_s + behind_s > MAX_HOLD_MS / 1000


def _made_s(plan: Plan, fact: Fact, node: str, row: Row) -> float:
    """When a hold was made, at the latest."""
    (one,) = (one for one in plan.nodes if one.name == node)
    if one.ledger == "embedded" and any(two.kind in CLOCKS for two in plan.faults):
        return fact.expires_at_s + GRACE_S  # its rows have the time of a clock that jumps
    ahead_s = one.clock_s if one.ledger == "embedded" else 0.0
    return (row.timestamp - START_NS) / NS - ahead_s + _EXACT_S
