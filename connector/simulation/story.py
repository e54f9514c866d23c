"""Reduces a failing plan to the payments and faults needed for it, and prints its event log."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from connector.base.clock import SystemClock
from connector.simulation.evidence import Finding
from connector.simulation.plan import Plan
from connector.simulation.raw import PENDING, POST, VOID, Row
from connector.simulation.rules import RULES
from connector.simulation.run import Outcome, run_plan
from connector.simulation.world import START_NS

LINES_MAX: Final = 90
_NS: Final = 1_000_000_000
_CLOCK: Final = SystemClock()
"""Real time: the reduction is bounded by it."""
_CORRECTION: Final = 7


def shrink(
    outcome: Outcome, *, seconds_max: float, run: Callable[[Plan], Outcome] = run_plan
) -> Outcome:
    """The smallest plan found in time that violates the same rule, and its outcome."""
    return _Shrinking(outcome, seconds_max, run).shrink()


class _Shrinking:
    def __init__(
        self, outcome: Outcome, seconds_max: float, run: Callable[[Plan], Outcome]
    ) -> None:
        self._best = outcome
        self._rule = outcome.findings[0].rule
        self._deadline_s = _CLOCK.monotonic_s() + seconds_max
        self._run = run

    def shrink(self) -> Outcome:
        finding = self._best.findings[0]
        if finding.payment:
            # Often one payment is enough; and those of the same moment nearly always are.
            at_s = next(
                one.at_s for one in self._best.plan.payments if one.number == finding.payment
            )
            self._try(payments=[finding.payment])
            for radius_s in (0.05, 0.5, 2.0):
                self._try(
                    payments=[
                        one.number
                        for one in self._best.plan.payments
                        if abs(one.at_s - at_s) <= radius_s
                    ]
                )
        before = -1
        while before != self._size and self._in_time():
            before = self._size
            self._halve("faults")
            self._halve("payments")
        return self._best

    @property
    def _size(self) -> int:
        return len(self._best.plan.payments) + len(self._best.plan.faults)

    def _in_time(self) -> bool:
        return _CLOCK.monotonic_s() < self._deadline_s

    def _halve(self, what: str) -> None:
        """Leave out ever smaller parts of the payments or of the faults."""
        parts: Sequence[int] = self._numbers(what)
        size = len(parts)
        while size >= 1 and self._in_time():
            at = 0
            while at < len(parts) and self._in_time():
                kept = [*parts[:at], *parts[at + size :]]
                if self._try(**{what: kept}):
                    parts = self._numbers(what)
                else:
                    at += size
            size //= 2

    def _numbers(self, what: str) -> list[int]:
        plan = self._best.plan
        return [one.number for one in (plan.faults if what == "faults" else plan.payments)]

    def _try(
        self, *, payments: Iterable[int] | None = None, faults: Iterable[int] | None = None
    ) -> bool:
        plan = self._best.plan.keep(
            self._numbers("payments") if payments is None else payments,
            self._numbers("faults") if faults is None else faults,
        )
        if len(plan.payments) + len(plan.faults) >= self._size or not self._in_time():
            return False
        outcome = self._run(plan)
        if all(one.rule != self._rule for one in outcome.findings):
            return False
        outcome.findings.sort(key=lambda one: one.rule != self._rule)
        self._best = outcome
        return True


def tell(outcome: Outcome) -> list[str]:
    """The timeline of the first finding: that of its payment, or of its node."""
    finding = outcome.findings[0]
    plan, facts = outcome.plan, outcome.facts
    fact = facts.by_number.get(finding.payment)
    hosts = set(fact.way) if fact is not None else set(finding.where.split(" and "))
    lines: list[tuple[float, int, str, str]] = []
    for line in facts.diary:
        if fact is not None:
            if line.payment == finding.payment or (
                not line.payment and (line.who in hosts or line.who in ("fault", "judge"))
            ):
                lines.append((line.at_s, len(lines), line.who, line.text))
        elif not line.payment and (not hosts - {""} or line.who in hosts or line.who == "fault"):
            lines.append((line.at_s, len(lines), line.who, line.text))
    if fact is not None:
        condition = int.from_bytes(fact.condition[:12], "big")
        for node, rows in outcome.rows.items():
            for row in rows:
                if row.condition_start == condition:
                    at_s = (row.timestamp - START_NS) / _NS
                    lines.append((at_s, len(lines), node, _in_words(row)))
    lines.sort()
    said = [f"  {at_s:12.6f}  {who:<6} {text}" for at_s, _, who, text in lines]
    if len(said) > LINES_MAX:
        said = [
            *said[: LINES_MAX // 2],
            f"  ... {len(said) - LINES_MAX} lines ...",
            *said[-LINES_MAX // 2 :],
        ]
    head = [
        f"seed {plan.seed}: {finding.rule}: {finding.text}",
        f"  rule: {RULES[finding.rule]}",
    ]
    if finding.where:
        head.append(f"  where: {finding.where}")
    if fact is not None:
        head.append(f"  payment {finding.payment}: {' -> '.join(fact.way)}")
    head.append(f"  network: {_network(plan)}")
    if len(outcome.findings) > 1:
        head.append(f"  and {len(outcome.findings) - 1} more: {_others(outcome.findings[1:])}")
    return [*head, "", *said]


def _others(findings: Sequence[Finding]) -> str:
    counts: dict[str, int] = {}
    for one in findings:
        counts[one.rule] = counts.get(one.rule, 0) + 1
    return ", ".join(f"{count} {rule}" for rule, count in counts.items())


def _network(plan: Plan) -> str:
    nodes = ", ".join(
        f"{one.name} ({one.ledger}, {one.policy}"
        + (f", fee {one.fee_basis_points}" if one.fee_basis_points else "")
        + ")"
        for one in plan.nodes
    )
    plain = [f"{one.left}-{one.right}" for one in plan.links if not one.resumable]
    by_http = [
        f"{one.left}-{one.right} ({one.http}{', and BTP' if one.with_btp else ''})"
        for one in plan.links
        if one.http
    ]
    nodes += f"; without packet ids: {', '.join(plain)}" if plain else ""
    return nodes + (f"; by HTTP: {', '.join(by_http)}" if by_http else "")


def _in_words(row: Row) -> str:
    if row.flags & PENDING:
        what = "holds"
    elif row.flags & POST:
        what = "posts"
    elif row.flags & VOID:
        what = "voids"
    else:
        what = "corrects" if row.code == _CORRECTION else "books"
    return f"ledger: {what} {row.amount} ({row.id:032x})"


def command(outcome: Outcome, *, options: str = "") -> str:
    """The command that runs the reduced plan."""
    plan = outcome.plan
    kept = ",".join(
        [f"p{one.number}" for one in plan.payments] + [f"f{one.number}" for one in plan.faults]
    )
    extra = f" {options}" if options else ""
    return f"connector simulate --seed {plan.seed}{extra} --keep {kept or 'none'}"
