"""Checks payments in a network with several ways, and the routes that nodes have learned. For the judge.

Where a packet may take any of several ways, what is compared is every link: what a node has booked towards a neighbour, that one has
booked as coming from it, once and with the same amount. So each unit that the sender paid is followed to the receiver whatever way it took,
and none is left anywhere.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from connector.simulation.evidence import Evidence, Finding
from connector.simulation.facts import Fact
from connector.simulation.kinds import Kind
from connector.simulation.loops import FORGOTTEN, FORWARDED_MAX
from connector.simulation.plan import Plan

NOBODY: Final = "nobody"
"""In place of a neighbour, where legs move money from or to none."""
WAYS_MAX: Final = 2
"""A packet that a next hop refuses goes another way, once."""
CONVERGES_S: Final = 6.0
"""Within this time after the start all nodes know all, and their disks do."""
NEARLY_S: Final = 1.0
_OTHER_DISK: Final = frozenset(
    (
        *(Kind.SECOND_PROCESS, Kind.MACHINE_LOST),
        *(Kind.DISK_FULL, Kind.DISK_BROKEN, Kind.DISK_LOW, Kind.DISK_SLOW),
    )
)
SWITCHES_S: Final = 4.0
"""So long after a link was lost all that have another way take it."""


@dataclass(frozen=True, slots=True)
class Booking:
    """What a node has booked for one packet."""

    before: str
    after: str
    taken: int
    passed: int


def way_of(
    plan: Plan, fact: Fact, held: Mapping[str, set[tuple[str, str]]], booked: Mapping[str, object]
) -> list[str]:
    """The way that a packet took: from hold to hold, with as many nodes that have booked it as possible.

    `held`: by node from whom to whom it has held money for it. Without any, the way that the plan has for it.
    """
    sender, receiver = fact.way[0], fact.way[-1]
    best, most = list(fact.way), -1
    stack = [[sender]]
    while stack:
        way = stack.pop()
        here = way[-1]
        if here == receiver:
            count = sum(1 for one in way if booked.get(one))
            if (count, -len(way)) > (most, -len(best)):
                best, most = way, count
            continue
        for other in plan.neighbours(here):
            known = here == sender or (way[-2], other) in held.get(here, ())
            if other not in way and known:
                stack.append([*way, other])
    return best


def look_at_links(
    fact: Fact,
    booked: Mapping[str, Sequence[Booking]],
    given: Sequence[int] | None,
    may_be_lost: Callable[[Fact, str, str], bool],
) -> Iterator[Finding]:
    """All findings of a payment. `given`: the amounts that its receiver has fulfilled; None: that is not certain."""
    number, sender, receiver = fact.plan.number, fact.way[0], fact.way[-1]
    out: dict[tuple[str, str], list[int]] = defaultdict(list)
    came: dict[tuple[str, str], list[int]] = defaultdict(list)
    for node, bookings in booked.items():
        for one in bookings:
            out[node, one.after].append(one.passed)
            came[one.before, node].append(one.taken)
    said = not fact.hostile and fact.outcome not in ("lost", "expired", "error", "")
    if said and fact.outcome == "fulfilled":
        out[sender, fact.way[1]].append(fact.plan.amount)
    if given is not None:
        for amount in given:
            came[fact.way[-2], receiver].append(amount)
    seen = f"sender: {fact.outcome or 'no answer'}, booked: {dict(booked)}, receiver: {given}"
    for here, there in sorted({*out, *came}):
        if (here == sender and not said) or (there == receiver and given is None):
            continue
        left, right = sorted(out[here, there]), sorted(came[here, there])
        if len(left) > len(right):
            text = f"booked {len(left)} times towards {there}, which has {len(right)}; {seen}"
            yield Finding("unproven", here, text, number)
        elif len(left) < len(right):
            if not may_be_lost(fact, here, there):
                text = f"booked {len(left)} times, {there} has {len(right)} from it; {seen}"
                yield Finding("lost", here, text, number)
        elif left != right:
            yield Finding(
                "wrong-amount", here, f"{left} towards {there}, which has {right}", number
            )


def look_at_laps(
    evidence: Evidence, fact: Fact, packets: Mapping[str, set[int]]
) -> Iterator[Finding]:
    """A packet passes a node once or, while routes change, twice, and so does its second way.

    `packets`: by node, what was held for it.
    """
    began_s = fact.sent_s or 0.0
    times = sum(at_s >= began_s for died in evidence.deaths.values() for at_s in died)
    # A node that is back from a replacement refuses what it cannot pass on yet, from each side.
    times += sum(
        evidence.fault_times_s[one.number] + one.for_s >= began_s
        for one in evidence.plan.faults
        if one.kind in (Kind.REPLACE, Kind.REPLACE_LATE)
    )
    for node, held in packets.items():
        if len(held) > WAYS_MAX * FORWARDED_MAX + FORGOTTEN * times:
            text = f"has held it {len(held)} times, on its way along learned routes"
            yield Finding("loop", node, text, fact.plan.number)


# --- routes


def look_at_routes(evidence: Evidence) -> Iterator[Finding]:
    """All findings about learned routes: at rest they lead everywhere; and nobody is told too soon that one is gone."""
    plan = evidence.plan
    if not plan.hold_down_ms or any(one.announces == "all" for one in plan.links):
        return
    names = [one.name for one in plan.nodes]
    if not evidence.not_ready:
        for source in names:
            for to in names:
                way = [source]
                while way[-1] != to:
                    hop = evidence.hops.get(way[-1], {}).get(to)
                    way.append(hop or "nowhere")
                    if hop is None or hop in way[:-1] or hop not in names:
                        yield Finding("routes", source, f"at rest the way to {to} is {way}")
                        break
    yield from _look_at_detours(evidence)
    if not _nobody_forgets(plan):
        return
    for fact in evidence.facts.by_condition.values():
        if fact.outcome == "F02" and not fact.hostile and fact.plan.outcome != "nowhere":
            by = fact.rejected_by.removeprefix("g.")
            if by in names and not _is_new(evidence, by, fact.answered_s or 0.0):
                text = f"{by} says that there is no route, which was there and can come back"
                yield Finding("unreachable", by, text, fact.plan.number)


def _look_at_detours(evidence: Evidence) -> Iterator[Finding]:
    """Packets that were sent a while after a link of a ring went away, with nothing else broken."""
    plan = evidence.plan
    outages = [one for one in plan.faults if one.kind is Kind.OUTAGE]
    if not outages or len(plan.faults) > 1 or plan.traits & {Kind.LONG_UP, Kind.LEDGER_FIRST_START}:
        return
    began_s = evidence.fault_times_s[outages[0].number]
    from_s, until_s = began_s + SWITCHES_S, began_s + outages[0].for_s - NEARLY_S
    for fact in evidence.facts.by_condition.values():
        sent_s = fact.sent_s or 0.0
        is_refused = fact.outcome in ("T01", "F02") and fact.rejected_by.count(".") == 1
        if is_refused and from_s <= sent_s <= until_s and not fact.hostile:
            outage = f"the link of {outages[0].where} and {outages[0].other} is away"
            text = f"{fact.outcome} of {fact.rejected_by}, {sent_s - began_s:.1f} s after {outage}"
            yield Finding("detour", fact.rejected_by.removeprefix("g."), text, fact.plan.number)


def _nobody_forgets(plan: Plan) -> bool:
    """Whether no node has a reason to give up a route: nothing lasts so long, and no operator takes it away."""
    if any(one.kind is Kind.REMOVE_PEER for one in plan.faults):
        return False
    if plan.traits & {Kind.LONG_UP, Kind.PRUNED, Kind.LEDGER_FIRST_START}:
        return False
    return sum(one.for_s for one in plan.faults) + NEARLY_S < plan.hold_down_ms / 1000


def _is_new(evidence: Evidence, node: str, at_s: float) -> bool:
    """Whether a process of `node` does not know all: the world is new, or its disk is another one or fails."""
    return at_s <= CONVERGES_S or any(
        one.where == node and one.kind in _OTHER_DISK for one in evidence.plan.faults
    )
