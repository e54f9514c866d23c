"""Runs one seed: plan, world, verdict.

Long because the order in which a run begins and ends is read in one place.
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass
from typing import Final

from connector.settlement.model import Quantity
from connector.simulation.bounded import is_settled
from connector.simulation.cluster import Cluster
from connector.simulation.disk import DELAY_S, Disk
from connector.simulation.ends import End, RefusingEnd, address_of
from connector.simulation.evidence import Evidence, Finding
from connector.simulation.facts import Fact, Facts, Waiting
from connector.simulation.faults import Faults
from connector.simulation.hostile import HostileEnd
from connector.simulation.http_ends import HttpEnd
from connector.simulation.judge import Judge
from connector.simulation.kinds import CLOCKS, Kind
from connector.simulation.liar import LyingEnd
from connector.simulation.network import Network
from connector.simulation.node import SimulatedNode
from connector.simulation.parts import token_of
from connector.simulation.plan import USD, WALLET, Plan, PrepaymentPlan
from connector.simulation.plugin import PluginEnd
from connector.simulation.raw import (
    PENDING,
    POST,
    Row,
    account_id,
    read_kept,
)
from connector.simulation.streams import Payer
from connector.simulation.watch import AWAKE_S, Watch
from connector.simulation.world import START_NS, NothingWillHappenError, SpinsError, World

WARM_UP_S: Final = 2.0
"""Virtual seconds until every link is up and traffic begins."""
LONG_UP_S: Final = 400.0
"""So much longer with `LONG_UP`: then no node remembers packets of before the start."""
PRUNED_S: Final = 620.0
"""With `PRUNED`, in the middle of the traffic: what was booked before is old enough to be pruned then."""
LINKS_AGAIN_S: Final = 5.0
"""And then until links that were found dead are there again."""
POLL_S: Final = 0.5
CALM_S: Final = 2.5
"""Virtual seconds without activity before the judge runs; slow ticks are a second apart."""
ROUTES_CALM_S: Final = 10.0
"""So much longer where nodes learn routes: links are dialled again in up to 5 s, and then tables are told."""
HOLD_MARGIN_S: Final = 15.0
"""A ledger keeps a hold for at most so much longer than its packet has at the first node."""
REST_S_MAX: Final = 180.0
_NS: Final = 1_000_000_000


@dataclass(slots=True)
class Outcome:
    """The outcome of a plan."""

    plan: Plan
    findings: list[Finding]
    excused: dict[str, int]
    payments: int
    fulfilled: int
    packets: int
    """Prepares that nodes have handled."""
    faults: int
    crashes: int
    virtual_s: float
    events: int
    digest: str
    facts: Facts
    rows: dict[str, list[Row]]


class Simulation:
    """A world with nodes, ends, links, disks and a cluster, as a plan says."""

    def __init__(self, plan: Plan) -> None:
        self.plan: Final = plan
        self.world: Final = World(plan.seed)
        self.network: Final = Network(self.world)
        self.cluster: Final = Cluster(self.world)
        self.facts: Final = Facts()
        self.disks: Final[dict[str, Disk]] = {}
        self.nodes: Final[dict[str, SimulatedNode]] = {}
        self.ends: Final[dict[str, End]] = {}
        self.losses: Final[dict[frozenset[str], list[float]]] = {}
        self.deaths: Final[dict[str, list[float]]] = {}
        self.alerts: Final[dict[str, set[str]]] = {}
        self.chance: Final = self.world.random("simulation")
        self.faults: Final = Faults(self)
        self.watch: Final = Watch(self)
        self.evidence: Evidence
        """The input of the judge, once it has run."""
        self._ways: dict[tuple[str, str], list[str]] = {}
        self._quiet_since_s: float | None = None
        self._is_quiet = False
        self._packets_seen = 0
        self.payers: Final[dict[int, Payer]] = {}
        """Of payments of many packets, by number."""
        self.untold = 0
        """Payments outside that the payee has not been notified of."""
        self.network.on_lost = self._lost
        self.network.on_operation = self.faults.operation
        self.cluster.on_operation = self.faults.operation
        for link in plan.links:
            there = self.network.link(link.left, link.right)
            there.knows_ids = link.resumable
            there.latency_s = dict.fromkeys(there.hosts, link.latency_s)
        for node in plan.nodes:
            self.new_disk(node.name, node.name)
            self.cluster.way(node.name).latency_s = node.latency_s
            self.nodes[node.name] = SimulatedNode(self, node)
        lying = [one.left for one in plan.links if one.announces]
        for name in (*plan.ends, *plan.hostile_ends, *plan.refusing_ends, *lying):
            node_name = plan.neighbours(name)[0]
            link = plan.link_of(name, node_name)
            options = {
                "world": self.world,
                "network": self.network,
                "facts": self.facts,
                "name": name,
                "node": node_name,
                "token": token_of(name, node_name),
                "resumable": link.resumable,
            }
            if name in lying:
                self.ends[name] = LyingEnd(prefixes=self._not_its_own(name), **options)
            elif name in plan.hostile_ends:
                self.ends[name] = HostileEnd(register=self._register_other, **options)
            elif link.http:
                self.ends[name] = HttpEnd(mode=link.http, **options)
            else:
                kind = RefusingEnd if link.refuses else PluginEnd if link.both_dial else End
                self.ends[name] = kind(**options)  # type: ignore[arg-type]
            # A node whose clock is behind says later that a packet has expired.
            self.ends[name].grace_s += max(0.0, *(-one.clock_s for one in plan.nodes))

    def _not_its_own(self, name: str) -> list[str]:
        """What an end may announce that is not behind it, or is no prefix for anybody."""
        plan = self.plan
        nodes = [f"g.{one.name}" for one in plan.nodes]
        ends = [address_of(one) for one in plan.ends]
        bad = ["", "g", "test.x", "peer.config", "g." + "x" * 900, f"g.{name[:-1]}"]
        return [*nodes, *ends, *bad, f"{address_of(name)}.shop", "g.nobody", "g.nobody.else"]

    def new_disk(self, host: str, name: str) -> None:
        """Give a node an empty disk."""
        disk = self.disks[host] = Disk(self.world, name)
        disk.delay_s = self.disk_delay_s(host)
        disk.on_operation = self.faults.operation

    def may_move(self, host: str, *, is_expected: bool = False) -> bool:
        """Whether a node can go on without its disk, without a loss that the documentation names.

        Not where only the disk knows what was fulfilled, or what is being settled. Nothing that was
        fulfilled and relayed is such where the node knows that a standby waits (`is_expected`).
        """
        links = [one for one in self.plan.links if host in (one.left, one.right)]
        known = all((one.resumable or is_expected) and not one.local for one in links)
        return known and self.plan.settle_threshold is None and not self.plan.prepaid_max

    def disk_delay_s(self, host: str) -> float:
        """How long its disk takes for a commit."""
        plan = next(one for one in self.plan.nodes if one.name == host)
        return plan.latency_s if plan.ledger == "embedded" else DELAY_S

    def note(self, who: str, text: str, payment: int = 0) -> None:
        """Write a line into the diary."""
        self.facts.note(self.world.now_s, who, text, payment)

    def _lost(self, host: str, other: str) -> None:
        times = self.losses.setdefault(frozenset((host, other)), [])
        if not times or times[-1] != self.world.now_s:
            times.append(self.world.now_s)

    def _register_other(self, fact: Fact, salt: bytes) -> Fact:
        other = self.facts.register(fact.plan, fact.way, salt=salt)
        other.hostile = True
        return other

    # --- payments outside

    def pay_outside(self, payer: str, payee: str, key: str, quantity: Quantity) -> None:
        """The payer's engine has paid: the payee's engine notifies its node until it accepts."""
        paid = (payee, payer, key)
        if paid in self.facts.settled_in:
            return
        self.facts.settled_in[paid] = quantity.amount
        if self.plan.prepaid_max:
            self.facts.told_rows[paid] = len(self._rows(payee, self.nodes[payee].plan.ledger))
        self.note(payee, f"was paid {quantity.amount} by {payer}, outside")
        self.untold += 1
        self._tell(payee, payer, key, quantity)

    def _tell(self, payee: str, payer: str, key: str, quantity: Quantity) -> None:
        def done(taken: bool) -> None:
            if taken:
                self.untold -= 1
            else:
                self.world.after(0.5, self._tell, payee, payer, key, quantity)

        self.nodes[payee].told_of_payment(payer, key, quantity, done)
        if Kind.SETTLE_FALSELY in self.plan.kinds and self.chance.random() < 0.5:
            # An engine that repeats a notification, also much later.
            self.world.after(
                2.0 * self.chance.random(),
                self.nodes[payee].told_of_payment,
                payer,
                key,
                quantity,
                lambda _taken: None,
            )

    def waits_for_operator(self, node: str, peer: str, key: str, settlement_id: str) -> None:
        """An operator looks whether the money is there, and says so a while later."""
        paid = (node, peer, key)
        before = self.facts.waited.get(paid)
        if before is not None and before.settlement_id == settlement_id:
            return
        is_true = key not in {one.key for one in self.plan.prepayments if not one.is_true}
        waiting = Waiting(node, peer, key, settlement_id, accept=is_true)
        self.facts.waited[paid] = waiting
        self.facts.forgotten.discard(paid)
        self.note(node, f"asks an operator about {key} of {peer}")
        self.untold += 1
        self.world.after(3.0 * self.chance.random(), self._decide, waiting)

    def _decide(self, waiting: Waiting) -> None:
        def done(taken: bool) -> None:
            if taken:
                self.untold -= 1
            else:
                self.world.after(0.5, self._decide, waiting)

        self.nodes[waiting.node].decide(waiting, done)

    def _prepay(self, plan: PrepaymentPlan) -> None:
        asset = self.plan.link_of(plan.node, plan.peer).asset
        quantity = Quantity(plan.amount, asset.scale)
        self.pay_outside(plan.peer, plan.node, plan.key, quantity)

    # --- running

    def run(self) -> Outcome:
        """Run the plan to its end and judge it; interrupted (`KeyboardInterrupt`), it ends the world too."""
        try:
            return self._run()
        finally:
            self.world.close()

    def _run(self) -> Outcome:
        world, plan = self.world, self.plan
        random.seed(plan.seed)  # waits between dials
        failure: str | None = None
        try:
            self._begin()
            last_s = self._at_s(plan.traffic_s)
            rest_s = REST_S_MAX + max((one.expires_in_s for one in plan.payments), default=0.0)
            world.run_until(lambda: False, last_s)
            self._heal()
            self._poll()
            world.run_until(lambda: self._is_quiet, last_s + rest_s)
        except (NothingWillHappenError, SpinsError) as error:
            failure = f"{type(error).__name__}: {error}"
        evidence = self.evidence = self._evidence()
        if failure is not None:
            evidence.failures.setdefault(plan.nodes[0].name, []).append(failure)
        verdict = Judge(evidence).judge()
        facts = list(self.facts.by_condition.values())
        return Outcome(
            plan=plan,
            findings=verdict.findings,
            excused=verdict.excused,
            payments=sum(1 for one in facts if one.sent_s is not None),
            fulfilled=sum(1 for one in facts if one.outcome == "fulfilled"),
            packets=sum(node.packets for node in self.nodes.values()),
            faults=self.faults.begun,
            crashes=self.faults.crashes,
            virtual_s=world.now_s,
            events=world.events,
            digest=self._digest(evidence),
            facts=self.facts,
            rows=evidence.rows,
        )

    def _begin(self) -> None:
        plan, world = self.plan, self.world
        if Kind.LEDGER_FIRST_START in plan.traits:
            for node in plan.nodes:
                if node.ledger == "tigerbeetle":
                    self.cluster.way(node.name).away = True
                    world.after(self._warm_up_s + plan.traffic_s / 2, self.cluster.back, node.name)
        for one in self.nodes.values():
            world.after(0.0, one.start)
            if Kind.LONG_UP in plan.traits:
                # Nothing comes and nothing is done, so it may as well stand still.
                world.at(WARM_UP_S, one.pause)
                world.at(WARM_UP_S + LONG_UP_S, one.go_on)
        for end in self.ends.values():
            world.after(0.3, end.dial)
            if isinstance(end, LyingEnd):
                world.at(self._warm_up_s, end.begin, self._at_s(plan.traffic_s))
        if Kind.PRUNED in plan.traits:
            world.at(self._at_s(plan.traffic_s / 2) - PRUNED_S - LINKS_AGAIN_S, self._pause_long)
        for payment in plan.payments:
            pair = (payment.sender, payment.receiver)
            way = self._ways.get(pair)
            if way is None:
                way = self._ways[pair] = plan.way(*pair)
            fact = self.facts.register(payment, way)
            fact.hostile = payment.sender in plan.hostile_ends or payment.receiver in (
                plan.hostile_ends
            )
            world.at(self._at_s(payment.at_s), self.ends[payment.sender].pay, fact)
        for stream in plan.streams:
            self.payers[stream.number] = payer = Payer(
                self.nodes[stream.payer], stream, world.after
            )
            world.at(self._at_s(stream.at_s), payer.ask)
        for prepayment in plan.prepayments:
            world.at(self._at_s(prepayment.at_s), self._prepay, prepayment)
        if any(one.clock_s for one in plan.nodes) or any(one.kind in CLOCKS for one in plan.faults):
            self.watch.look_at_clocks()
        for fault in plan.faults:
            at_s = self._at_s(fault.at_s)
            self.faults.prepare(fault, at_s)
            world.at(at_s, self.faults.begin, fault)

    @property
    def _warm_up_s(self) -> float:
        long_up = Kind.LONG_UP in self.plan.traits
        return WARM_UP_S + (LONG_UP_S + LINKS_AGAIN_S if long_up else 0.0)

    def _at_s(self, planned_s: float) -> float:
        """When something happens that is planned for a moment of the traffic."""
        plan = self.plan
        pause_s = 0.0
        if Kind.PRUNED in plan.traits and planned_s >= plan.traffic_s / 2:
            lives_s = max((one.expires_in_s for one in plan.payments), default=0.0)
            pause_s = lives_s + HOLD_MARGIN_S + PRUNED_S + LINKS_AGAIN_S
        return self._warm_up_s + planned_s + pause_s

    def _pause_long(self) -> None:
        """Nothing is under way: all nodes stand still until their journals are old.

        But shortly before their time they run for a while.
        """
        self.watch.read_journals()
        looks_s = self.watch.looks_again_s()
        for one in self.nodes.values():
            one.pause()
            self.world.after(PRUNED_S, one.go_on)
            if looks_s - AWAKE_S > self.world.now_s:
                self.world.at(looks_s - AWAKE_S, one.go_on)
                self.world.at(looks_s, one.pause)
        if looks_s - AWAKE_S > self.world.now_s:
            self.world.at(looks_s, self.watch.look_for_early_pruning)

    @property
    def _calm_s(self) -> float:
        # A node whose clock is ahead counts holds as expired that its ledger still has.
        plan = self.plan
        calm_s = CALM_S + max(0.0, *(one.clock_s for one in plan.nodes))
        if plan.hold_down_ms:
            calm_s += ROUTES_CALM_S
        calm_s += max((one.size for one in plan.faults if one.kind is Kind.CLOCK_AHEAD), default=0)
        if any(one.kind is Kind.CLOCK_FAR for one in plan.faults):
            # One that starts with such a clock forgets holds whose whole time is still to pass.
            calm_s += HOLD_MARGIN_S + max((one.expires_in_s for one in plan.payments), default=0.0)
        return calm_s

    def _heal(self) -> None:
        """Begin no more faults; those that are active are repaired when they end."""
        self.note("judge", "the traffic has ended; everything is let come to rest")

    def _poll(self) -> None:
        """Check whether the world is quiet."""
        world = self.world
        # A hostile peer that comes back late sends and is answered between two looks.
        packets = sum(node.packets for node in self.nodes.values())
        came, self._packets_seen = packets - self._packets_seen, packets
        quiet = (
            not came
            and not self.facts.open
            and not self.untold
            and all(one.seen is not None for one in self.payers.values())
            and all(node.is_quiet() for node in self.nodes.values())
        )
        if not quiet:
            self._quiet_since_s = None
        elif self._quiet_since_s is None:
            self._quiet_since_s = world.now_s
        elif world.now_s - self._quiet_since_s >= self._calm_s:
            self._is_quiet = True
            return
        world.after(POLL_S, self._poll)

    # --- judging

    def _evidence(self) -> Evidence:
        plan = self.plan
        now_ns = START_NS + int(self.world.now_s * _NS)
        rows = {node.name: self._rows(node.name, node.ledger) for node in plan.nodes}
        self.watch.look_at_journals()
        settled_in: dict[tuple[str, str], int] = {}
        for paid, amount in self.facts.settled_in.items():
            waited = self.facts.waited.get(paid)
            # A payment that was forgotten may have been booked all the same, by a request under way.
            if (
                waited is None
                or (waited.accept and paid not in self.facts.forgotten)
                or (waited.accept and is_settled(rows[paid[0]], paid[2]))
            ):
                settled_in[paid[:2]] = settled_in.get(paid[:2], 0) + amount
        settled_out: dict[tuple[str, str], int] = {}
        for (node_name, peer, _), amount in self.facts.settled_out.items():
            key = (node_name, peer)
            settled_out[key] = settled_out.get(key, 0) + amount
        return Evidence(
            plan=plan,
            facts=self.facts,
            rows=rows,
            shown={name: node.shown() for name, node in self.nodes.items()},
            failures={name: node.failures() for name, node in self.nodes.items()},
            not_ready={
                name: why for name, node in self.nodes.items() if (why := node.why_not_ready())
            },
            losses=self.losses,
            deaths=self.deaths,
            kept={
                name: read_kept(disk.database("outbox.db").connection)
                | read_kept(disk.database("ledger.db").connection)
                for name, disk in self.disks.items()
            },
            alerts=self.alerts,
            now_ns=now_ns,
            misplaced=self.cluster.misplaced + sum(one.misplaced for one in self.disks.values()),
            late_ids=self.cluster.late_ids,
            ahead_ns={name: node.ledger_ahead_ns for name, node in self.nodes.items()},
            settled_in=settled_in,
            clock_starts={name: node.clock_starts for name, node in self.nodes.items()},
            clock_errors=self.watch.clock_errors,
            machines_lost={name: node.machines_lost_s for name, node in self.nodes.items()},
            low_disks=self.faults.low_disks,
            fault_times_s={one.number: self._at_s(one.at_s) for one in plan.faults},
            wrongly_pruned=self.watch.wrongly_pruned,
            streams={
                number: one.seen for number, one in self.payers.items() if one.seen is not None
            },
            hops={name: node.hops() for name, node in self.nodes.items() if plan.hold_down_ms},
            settled_out=settled_out,
        )

    def has_posted(self, node: str, condition: bytes) -> bool:
        """Whether the ledger of a node has posted a hold for a condition."""
        rows = self._rows(node, self.nodes[node].plan.ledger)
        start = int.from_bytes(condition[:12], "big")
        held = {row.id for row in rows if row.flags & PENDING and row.condition_start == start}
        return any(row.flags & POST and row.pending_id in held for row in rows)

    def _rows(self, node: str, ledger: str) -> list[Row]:
        if ledger == "embedded":
            return self.watch.rows_of(node)
        # The node's own asset is in use, also where no neighbour has it.
        own = {account_id(node, kind, "", str(USD)) for kind in ("revenue", "exchange", "wallet")}
        own.add(account_id(node, "wallet", WALLET, str(USD)))
        for peer in self.plan.neighbours(node):
            asset = str(self.plan.link_of(node, peer).asset)
            for kind in ("peer", "credit_line", "settlement"):
                own.add(account_id(node, kind, peer, asset))
            for kind in ("revenue", "exchange", "wallet"):
                own.add(account_id(node, kind, "", asset))
        return [Row(*row) for row in self.cluster.rows if row[1] in own or row[2] in own]

    def _digest(self, evidence: Evidence) -> str:
        total = hashlib.sha256()
        for line in self.facts.diary:
            total.update(f"{line.at_s:.9f} {line.who} {line.text} {line.payment}\n".encode())
        for name in sorted(evidence.rows):
            for row in evidence.rows[name]:
                total.update(f"{name} {tuple(row)}\n".encode())
        return total.hexdigest()[:16]


def run_plan(plan: Plan) -> Outcome:
    """Run a plan in a world of its own."""
    return Simulation(plan).run()
