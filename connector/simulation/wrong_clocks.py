"""Decides which losses a wrong clock excuses: those that the documentation names, and no others.

A node that starts while its clock is wrong counts holds as expired, and refuses what is resent, if
they are over by that clock (docs/accounting.md, Clocks). A jump while it runs costs nothing: it is not followed while
packets are under way. So what counts is the clock of a process when it began, and when a packet was decided.
"""

from __future__ import annotations

from typing import Final

from connector.simulation.evidence import Evidence
from connector.simulation.facts import Fact, Given
from connector.simulation.raw import NS, Row
from connector.simulation.world import START_NS

START_S: Final = 5.0
"""How long after its death a node has been started again, and has booked what its outbox had."""
WINDOWS_S: Final = 6.0
"""A packet expires so much earlier at the last node of the longest way."""
SAMPLE_S: Final = 1.5
"""A change of a clock is noted so much later at most."""
TICK_S: Final = 1.5
"""A node says that a packet has expired so much later at most."""


class WrongClocks:
    """Answers the judge's questions about clocks."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self._nodes = {one.name: one for one in evidence.plan.nodes}

    def hides(self, node: str, hold: Row, fact: Fact | None) -> bool:
        """Whether a process of `node` cannot know of a hold: by its clock it was over when it began.

        The last request of the process before may reach the ledger after its death; and a process
        that starts books the holds that its outbox has, which are from before as well.
        """
        if self._nodes[node].ledger != "tigerbeetle" or not hold.timeout:
            return False
        held_at_s = (hold.timestamp - START_NS) / 1e9
        sent_s = held_at_s if fact is None or fact.sent_s is None else fact.sent_s
        return any(
            sent_s <= began_s
            and held_at_s <= began_s + START_S
            and began_s + ahead_s >= held_at_s + hold.timeout - 1.0
            for began_s, ahead_s in self._evidence.clock_starts.get(node, ())
        )

    def counted_until_ns(self, node: str, hold: Row, fact: Fact | None) -> int:
        """How long a node counts a hold that is not resolved: a process that begins by its clock.

        An embedded ledger goes by that clock itself.
        """
        ends_ns = hold.timestamp + hold.timeout * NS
        if self._nodes[node].ledger != "tigerbeetle":
            return ends_ns
        held_at_s = (hold.timestamp - START_NS) / 1e9
        sent_s = held_at_s if fact is None or fact.sent_s is None else fact.sent_s
        for began_s, ahead_s in self._evidence.clock_starts.get(node, ()):
            if sent_s <= began_s and held_at_s <= began_s + START_S and ahead_s > 0:
                early_ns = int(ahead_s * NS)
                began_ns = START_NS + int(began_s * NS)
                ends_ns = min(ends_ns, max(began_ns, ends_ns - early_ns))
        return ends_ns

    def as_held(self, node: str, rows: list[Row]) -> list[Row]:
        """Rows with the holds that an embedded ledger has ended itself ended then: it goes by the clock of a process that began."""
        starts = [one for one in self._evidence.clock_starts.get(node, ()) if one[1] > 0]
        if self._nodes[node].ledger == "tigerbeetle" or not starts:
            return rows
        usual_s = self._nodes[node].clock_s
        return [_ended(row, usual_s, starts) if row.timeout else row for row in rows]

    def gave_up(self, fact: Fact) -> bool:
        """Whether a node on the way began while a packet was under way that was over by its clock."""
        sent_s = fact.sent_s or 0.0
        until_s = max(fact.answered_s or 0.0, fact.expires_at_s)
        return any(
            sent_s <= began_s <= until_s
            and began_s + ahead_s >= fact.expires_at_s - WINDOWS_S
            and ahead_s > WINDOWS_S
            for node in fact.way
            for began_s, ahead_s in self._evidence.clock_starts.get(node, ())
        )

    def takes_late(self, node: str, given: Given) -> bool:
        """Whether a Fulfill that came too late was in time by the clock of the node that it came to."""
        least_s, _ = self._errors_s(node, given.at_s, given.at_s)
        return given.at_s + least_s < given.expires_at_s

    def says_it_late(self, node: str, fact: Fact, grace_s: float) -> bool:
        """Whether `node` knows only after the sender has given up that a packet has expired."""
        least_s, _ = self._errors_s(node, fact.sent_s or 0.0, fact.expires_at_s + grace_s)
        return TICK_S - least_s >= grace_s

    def is_ahead(self, node: str) -> bool:
        """Whether a process of `node` was ahead of the clock that its plan gives it, at some time."""
        usual_s = self._nodes[node].clock_s
        return any(
            ahead_s > usual_s + 0.01 for _, ahead_s in self._evidence.clock_errors.get(node, ())
        )

    def _errors_s(self, node: str, from_s: float, until_s: float) -> tuple[float, float]:
        """The least and the most that the clock of a process was ahead in a time."""
        found: list[float] = []
        current_s = self._nodes[node].clock_s
        for at_s, ahead_s in self._evidence.clock_errors.get(node, ()):
            if at_s <= from_s - SAMPLE_S:
                current_s = ahead_s
            elif at_s <= until_s + SAMPLE_S:
                found.append(ahead_s)
        found.append(current_s)
        return min(found), max(found)


def _ended(hold: Row, usual_s: float, starts: list[tuple[float, float]]) -> Row:
    """`usual_s`: how far the clock was ahead by which the hold was booked."""
    held_at_s = (hold.timestamp - START_NS) / 1e9 - usual_s
    for began_s, ahead_s in starts:
        if held_at_s <= began_s and began_s + ahead_s >= held_at_s + hold.timeout + usual_s:
            # Rounded up: it may have been posted until then.
            return hold._replace(timeout=int(began_s - held_at_s) + 1)
    return hold
