"""Checks the bounds of an operator: value in flight, payments in advance, room on the disk.

For the judge. Everything is worked out from raw rows and from what the ends know.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from heapq import heappop, heappush
from typing import Final

from connector.simulation.evidence import Evidence, Finding
from connector.simulation.facts import Fact
from connector.simulation.kinds import Kind
from connector.simulation.raw import (
    CREDIT,
    PENDING,
    POST,
    SETTLEMENT,
    VOID,
    Row,
    account_id,
)

Onward = Callable[[str, str, str, int], int]
"""The amount that a hop forwards: node, peer before, peer after, amount."""
ROOM_LOOK_S: Final = 1.2
"""How long a node takes at most to notice that there is too little room on its disk."""
FINDINGS_MAX: Final = 3


def look_at_bounds(
    evidence: Evidence, onward: Onward, counted_until_ns: Callable[[str, Row], int]
) -> Iterator[Finding]:
    """All findings. `counted_until_ns`: how long a node counts a hold that is not resolved."""
    for (node, peer), most in evidence.plan.in_flight_max.items():
        yield from _look_at_holds(evidence, node, peer, most, counted_until_ns)
    for fact in evidence.facts.by_condition.values():
        yield from _look_at_size(evidence, fact, onward)
    for node, from_s, until_s in evidence.low_disks:
        yield from _look_at_room(evidence, node, from_s, until_s)
    for node, what in evidence.wrongly_pruned:
        yield Finding("pruned", node, what)
    yield from _look_at_prepayments(evidence)


# --- value in flight


def _look_at_holds(
    evidence: Evidence,
    node: str,
    peer: str,
    most: int,
    counted_until_ns: Callable[[str, Row], int],
) -> Iterator[Finding]:
    """No more is held for packets from `peer`, and for those to it, than `most`.

    A hold of a request that came too late does not count: its packet was refused. A post of such a
    request counts: it is asked for until it is there.
    """
    asset = str(evidence.plan.link_of(node, peer).asset)
    account = account_id(node, "peer", peer, asset)
    late = evidence.late_ids
    rows = [row for row in evidence.rows[node] if not row.flags & PENDING or row.id not in late]
    for side, words in ((1, "from"), (2, "to")):
        found = 0
        for row, held in holds_of(rows, account, side, lambda row: counted_until_ns(node, row)):
            if held <= most:
                continue
            found += 1
            if found <= FINDINGS_MAX:
                text = f"{held} is held for packets {words} {peer}, {most} is allowed"
                yield Finding("in-flight", node, text, _number_of(evidence, row))


def holds_of(
    rows: Sequence[Row], account: int, side: int, until_ns: Callable[[Row], int]
) -> Iterator[tuple[Row, int]]:
    """Each hold on one side of an account (1: debit, 2: credit), and all that is held with it."""
    open_: dict[int, Row] = {}
    expiry: list[tuple[int, int]] = []
    held = 0
    for row in rows:
        while expiry and expiry[0][0] <= row.timestamp:
            over = open_.pop(heappop(expiry)[1], None)
            held -= 0 if over is None else over.amount
        if row.flags & PENDING and row[side] == account:
            open_[row.id] = row
            held += row.amount
            heappush(expiry, (until_ns(row), row.id))
            yield row, held
        elif row.flags & (POST | VOID):
            over = open_.pop(row.pending_id, None)
            held -= 0 if over is None else over.amount


def _look_at_size(evidence: Evidence, fact: Fact, onward: Onward) -> Iterator[Finding]:
    """F08 says of a packet that it is too large by itself, and nothing else says so."""
    plan = evidence.plan
    if (
        fact.plan.outcome == "nowhere"
        or fact.hostile
        or plan.has_ways
        or plan.streams
        # A neighbour that says what is not true may have got it.
        or any(one.announces for one in plan.links)
        or (not plan.in_flight_max and fact.outcome != "F08")
    ):
        return
    amount, way = fact.plan.amount, fact.way
    too_large_at = next_hop = ""
    for before, node, after in zip(way, way[1:], way[2:], strict=False):
        passed = onward(node, before, after, amount)
        if amount > plan.in_flight_max.get((node, before), amount) or passed > (
            plan.in_flight_max.get((node, after), passed)
        ):
            too_large_at, next_hop = node, after
            break
        amount = passed
    at = f"g.{too_large_at}"
    if fact.outcome == "F08" and (not too_large_at or fact.rejected_by != at):
        text = f"{fact.rejected_by} says F08, where {too_large_at or 'nobody'} has to"
    elif too_large_at and fact.outcome == "fulfilled":
        text = "it is more than may be in flight, and was fulfilled"
    elif (
        too_large_at
        and fact.outcome == "T04"
        and fact.rejected_by == at
        # While its next hop is removed, such a packet is the node's own, and the bound is another.
        and (too_large_at, next_hop) not in evidence.facts.removed
    ):
        text = "it can never pass, and the answer is that it may later"
    else:
        return
    yield Finding("too-large", too_large_at, text, fact.plan.number)


# --- room on the disk


def _look_at_room(
    evidence: Evidence, node: str, from_s: float, until_s: float
) -> Iterator[Finding]:
    """No new packet is taken while there is less room than the reserve."""
    times_s = evidence.fault_times_s
    if any(
        one.kind is Kind.PAUSE
        and one.where == node
        and from_s - one.for_s < times_s[one.number] < until_s
        for one in evidence.plan.faults
    ):
        return  # it cannot look
    held = {row.condition_start for row in evidence.rows[node] if row.flags & PENDING}
    found = 0
    for fact in evidence.facts.by_condition.values():
        ended_s = fact.answered_s
        if fact.sent_s is None or ended_s is None or fact.hostile:
            continue
        is_then = from_s + ROOM_LOOK_S <= fact.sent_s and ended_s <= until_s
        if is_then and int.from_bytes(fact.condition[:12], "big") in held and found < FINDINGS_MAX:
            found += 1
            text = "a new packet was taken, though there was too little room on the disk"
            yield Finding("reserve", node, text, fact.plan.number)


# --- payments in advance


def tag_of(key: str) -> int:
    """What a settlement's transfer says of its Idempotency-Key (docs/settlement.md)."""
    if len(key) == 32 and not set(key) - set("0123456789abcdef"):
        return int(key, 16)
    return int.from_bytes(hashlib.sha256(b"key:" + key.encode()).digest()[:16], "big")


def is_settled(rows: Sequence[Row], key: str) -> bool:
    """Whether a payment from outside is booked under this Idempotency-Key."""
    return any(row.code == SETTLEMENT and row.tag == tag_of(key) for row in rows)


def _look_at_prepayments(evidence: Evidence) -> Iterator[Finding]:
    facts, plan = evidence.facts, evidence.plan
    for paid, amount in facts.settled_in.items():
        node, peer, key = paid
        if (node, peer) not in plan.prepaid_max:
            continue
        asset = str(plan.link_of(node, peer).asset)
        account = account_id(node, "peer", peer, asset)
        rows = evidence.rows[node]
        booked = [
            row
            for row in rows
            if row.code == SETTLEMENT and row.credit == account and row.tag == tag_of(key)
        ]
        waited = facts.waited.get(paid)
        most = plan.prepaid_max[node, peer]
        owed = _owed(rows, account)[facts.told_rows[paid] :]
        if waited is not None and not waited.accept and booked:
            yield Finding("settled", node, f"{key} of {peer} was declined, and is booked")
        elif len(booked) > 1:
            yield Finding("settled", node, f"{key} of {peer} is booked {len(booked)} times")
        owing = max(owed, default=0) + _posted_behind(rows, account, booked)
        if booked and waited is None and owed and amount > owing + most:
            text = f"{amount} of {peer} was taken unasked: it owed {owing} at most, and {most} may be paid in advance"
            yield Finding("prepaid", node, text)
        others = sum(
            more
            for other, more in facts.settled_in.items()
            if other[:2] == (node, peer) and other != paid
        )
        # Of a peer that is removed meanwhile only what it owes is taken unasked.
        is_removed = (node, peer) in facts.removed
        if waited and owed and not is_removed and amount + others <= min(owed) + most:
            text = f"{amount} of {peer} waits, though it owed {min(owed)}, and {most} may be paid in advance"
            yield Finding("prepaid", node, text)


def _owed(rows: Sequence[Row], account: int) -> list[int]:
    """What a peer owes after so many rows of a ledger, from none on; grants are no part of it."""
    holds: Mapping[int, Row] = {row.id: row for row in rows if row.flags & PENDING}
    owed = [0]
    now = 0
    for row in rows:
        what = holds.get(row.pending_id) if row.flags & POST else row
        if what is not None and what.code != CREDIT and not row.flags & (PENDING | VOID):
            now += row.amount * ((what.debit == account) - (what.credit == account))
        owed.append(now)
    return owed


def _posted_behind(rows: Sequence[Row], account: int, booked: Sequence[Row]) -> int:
    """What was held when a payment was booked, and posted behind it in the ledger.

    The node may have relayed these Fulfills before: it counts them as owed then.
    """
    if not booked:
        return 0
    at = rows.index(booked[0])
    held = {row.id: row for row in rows[:at] if row.flags & PENDING and row.debit == account}
    return sum(row.amount for row in rows[at:] if row.flags & POST and row.pending_id in held)


def _number_of(evidence: Evidence, row: Row) -> int:
    start = row.condition_start.to_bytes(12, "big")
    for fact in evidence.facts.by_condition.values():
        if fact.condition.startswith(start):
            return fact.plan.number
    return 0
