"""Evidence: what the judge reads of a run; and its findings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from connector.simulation import raw
from connector.simulation.facts import Facts
from connector.simulation.plan import Plan


@dataclass(frozen=True, slots=True)
class StreamSeen:
    """What a payer says of a payment of many packets."""

    state: str
    sent: int
    delivered: int
    uncertain: int
    reason: str


@dataclass(frozen=True, slots=True)
class Finding:
    """A violation of a rule."""

    rule: str
    where: str
    text: str
    payment: int = 0


@dataclass(slots=True)
class Shown:
    """What a node reports of one peer."""

    debits: int
    credits: int
    pending: int


@dataclass(slots=True)
class Evidence:
    """The input of the judge."""

    plan: Plan
    facts: Facts
    rows: dict[str, list[raw.Row]]
    """By node, oldest first."""
    shown: dict[str, dict[str, Shown]]
    """By node and peer."""
    failures: dict[str, list[str]]
    """By node: exceptions of its tasks, or why it did not start."""
    not_ready: dict[str, str]
    """By node: why it accepts no packets at the end of the run."""
    losses: dict[frozenset[str], list[float]]
    """By link: when a connection of it was lost."""
    deaths: dict[str, list[float]]
    """By node: when it was killed, stopped or lost its power."""
    kept: dict[str, set[int]]
    """By node: the packets that it keeps a Fulfill for; see `raw.Row.packet`."""
    alerts: dict[str, set[str]]
    """By node: the events of its warnings."""
    now_ns: int
    ahead_ns: dict[str, int] = field(default_factory=dict)
    """By node: how far the clock of its ledger is ahead."""
    late_ids: set[int] = field(default_factory=set)
    """Transfers of requests that reached the cluster after their sender had timed out."""
    misplaced: int = 0
    """Transfers that were created while another data file was in place."""
    settled_in: dict[tuple[str, str], int] = field(default_factory=dict)
    """By node and peer: payments to it outside the ledger, each key once."""
    clock_starts: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    """By node: when each process began, and how many seconds its clock was ahead then."""
    clock_errors: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    """By node: from when on the clock of its process was so many seconds ahead."""
    machines_lost: dict[str, list[float]] = field(default_factory=dict)
    """By node: when a machine of it was lost for good, with its disk, while a standby waited."""
    low_disks: list[tuple[str, float, float]] = field(default_factory=list)
    """Host, from, until: when its disk had less room than the reserve."""
    fault_times_s: dict[int, float] = field(default_factory=dict)
    """By number of a fault: when it begins."""
    wrongly_pruned: list[tuple[str, str]] = field(default_factory=list)
    """Nodes whose journal lost rows too early, or none where it had to, and which of both."""
    streams: dict[int, StreamSeen] = field(default_factory=dict)
    """By number: what a payer says of a payment of many packets that has ended."""
    hops: dict[str, dict[str, str]] = field(default_factory=dict)
    """By node, where nodes learn routes: the next hop to each other node at the end, as far as it knows one."""
    settled_out: dict[tuple[str, str], int] = field(default_factory=dict)
    """By node and peer: payments that its settlement engine has accepted, each key once."""

    def lost_s(self, here: str, there: str) -> Sequence[float]:
        """When packets that `here` had sent to `there` may have got an unknown outcome (docs/protocol.md)."""
        link = self.plan.link_of(here, there)
        nodes = {one.name for one in self.plan.nodes}
        if link.resumable:
            return ()
        lost_s = self.losses.get(frozenset((here, there)), [])
        if not link.http:
            return lost_s
        if link.http == "sync":
            # A process that stops closes connections; nobody but it knows that something was asked over them. And
            # the answer to one that has stopped meanwhile reaches nobody.
            return [*lost_s, *(at_s for one in (here, there) for at_s in self.deaths.get(one, ()))]
        if here not in nodes:
            return ()  # an end asks again until it has the answer
        # It asks again under the Request-Id until it is told 202; what it had asked dies with its process, and an
        # answer that is still to come with that of the other node.
        return [at_s for one in (here, there) for at_s in self.deaths.get(one, ())]
