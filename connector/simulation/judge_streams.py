"""Judges payments of many packets, link by link: facts against ledgers, as `judge` does.

Nobody but the payer and the payee knows which packets belong to one. So it goes by the rows: whatever is booked for none of the
single payments is of a stream; it has begun at a payer and ends in a wallet, each link has it once on both sides, and what the
payer says that it has sent is what its ledger says.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Final

from connector.simulation.evidence import Evidence, Finding
from connector.simulation.plan import USD, WALLET, Asset, Plan, StreamPlan
from connector.simulation.raw import NS, Leg
from connector.simulation.ways import NOBODY, Booking

PATIENCE_S: Final = 25.0
_OWN: Final = ("", WALLET)


def onward(plan: Plan, node: str, one: Booking) -> int:
    """What a node passes on of what it has taken for a packet of a stream. A payer pays itself no fee."""
    basis_points = next(two.fee_basis_points for two in plan.nodes if two.name == node)
    fee = 0 if one.before in _OWN else -(-one.taken * basis_points // 10_000)
    here, there = (_asset(plan, node, side) for side in (one.before, one.after))
    rest = one.taken - fee
    if here == there:
        return rest
    rate = Fraction(1) if here.code == there.code else plan.rates[here.code, there.code]
    rate *= Fraction(10) ** there.scale / Fraction(10) ** here.scale
    return int(rest * rate.numerator // rate.denominator)


def _asset(plan: Plan, node: str, side: str) -> Asset:
    return USD if side in _OWN else plan.link_of(node, side).asset


def look_at_streams(
    evidence: Evidence,
    packets: Mapping[int, Mapping[str, list[Booking]]],
    legs: Mapping[int, Mapping[str, list[Leg]]],
) -> Iterator[Finding]:
    """All findings. `packets`: by condition and node what is booked; `legs`: the rows of it."""
    plan = evidence.plan
    paid: dict[str, int] = defaultdict(int)
    """By payer, as its ledger has it."""
    got: dict[str, int] = defaultdict(int)
    """By payer, what the wallet got."""
    for condition, booked in packets.items():
        out: dict[tuple[str, str], list[int]] = defaultdict(list)
        came: dict[tuple[str, str], list[int]] = defaultdict(list)
        payers = [
            node for node, bookings in booked.items() if any(one.before in _OWN for one in bookings)
        ]
        for node, bookings in booked.items():
            if len(bookings) > 1 and not plan.has_ways:
                yield Finding("booked-twice", node, f"a packet of a stream {len(bookings)} times")
            for one in bookings:
                if NOBODY in (one.before, one.after):
                    continue  # the judge has said so
                expected = onward(plan, node, one)
                if one.passed != expected:
                    text = (
                        f"of a stream: passed on {one.passed} of {one.taken}, expected {expected}"
                    )
                    yield Finding("wrong-amount", node, text)
                if one.before in _OWN:
                    paid[node] += one.taken
                else:
                    came[one.before, node].append(one.taken)
                if one.after not in _OWN:
                    out[node, one.after].append(one.passed)
                elif payers:
                    got[payers[0]] += one.passed
        for here, there in sorted({*out, *came}):
            left, right = sorted(out[here, there]), sorted(came[here, there])
            if len(left) > len(right):
                yield Finding(
                    "unproven",
                    here,
                    f"a packet of a stream is booked, and {there} has not booked it",
                )
            elif len(left) < len(right):
                if not _is_late(legs[condition].get(there, []), plan.long_faults_s):
                    yield Finding("lost", here, f"{there} has booked a packet of a stream from it")
            elif left != right:
                yield Finding(
                    "wrong-amount", here, f"of a stream: {left} towards {there}, which has {right}"
                )
    for stream in plan.streams:
        yield from _look_at_payment(evidence, stream, paid[stream.payer], got[stream.payer])
    for payer in paid.keys() - {one.payer for one in plan.streams}:
        yield Finding("stray", payer, f"it has paid {paid[payer]}, and nobody has asked for it")


def _is_late(legs: list[Leg], more_s: float) -> bool:
    """Whether a next hop has booked a packet with too little time left to be asked for again (RFC 22)."""
    return any(
        leg.row.timestamp + leg.row.timeout * NS - leg.final.timestamp < (PATIENCE_S + more_s) * NS
        for leg in legs
    )


def _look_at_payment(
    evidence: Evidence, plan: StreamPlan, paid: int, got: int
) -> Iterator[Finding]:
    seen, where = evidence.streams.get(plan.number), plan.payer
    what = f"stream {plan.number} of {plan.amount} to {plan.payee}"
    if paid > plan.amount:
        yield Finding("stream-sent", where, f"{what}: {paid} is booked")
    if seen is None:
        yield Finding("stream-ends", where, f"{what} has not ended")
        return
    text = f"{what}: {seen}; {paid} is booked, {got} came in"
    if seen.state == "completed" and seen.sent != plan.amount:
        yield Finding("stream-sent", where, text)
    if not seen.sent <= paid <= seen.sent + seen.uncertain:
        yield Finding("stream-sent", where, text)
    if seen.delivered > got:
        yield Finding("stream-delivered", where, text)
    died = {node for node, times in evidence.deaths.items() if times}
    if not died and seen.delivered != got:
        yield Finding("stream-delivered", where, text)
    # What such a neighbour was asked before a crash, nobody can ask it again.
    may_doubt = any(
        one.refuses and not one.resumable
        for one in evidence.plan.links
        if plan.payer in (one.left, one.right)
    )
    if seen.uncertain and not died - {plan.payer} and not may_doubt:
        yield Finding("stream-sent", where, text)
    if not evidence.plan.faults and seen.state != "completed":
        yield Finding("stream-ends", where, text)
