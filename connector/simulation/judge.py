"""The judge: compares what the ends recorded with the raw ledger of every hop, unit by unit.

It shares no code with the product's books. Its rules stand in `rules`; a finding names one of them. What
the documentation says may be lost is there too, and is counted.

Long because all that is said of one payment is compared in one place.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from connector.simulation import raw
from connector.simulation.evidence import Evidence, Finding
from connector.simulation.facts import Fact
from connector.simulation.kinds import Kind
from connector.simulation.plan import Asset
from connector.simulation.raw import Leg, RawAccount, account_id
from connector.simulation.rules import EXCUSES, RULES
from connector.simulation.world import START_NS

NOT_DURABLE: Final = frozenset(("posts_not_durable", "fulfilments_not_kept", "outbox_failed"))
"""Alerts that say what would be lost in a crash."""
LATE_ON_DISK: Final = frozenset(
    (
        *(Kind.DISK_FULL, Kind.DISK_BROKEN, Kind.DISK_SLOW),
        # A sender's last moment passes while the process stands still, or by its clock.
        *(Kind.PAUSE, Kind.SECOND_PROCESS, Kind.CLOCK_AHEAD, Kind.CLOCK_BACK, Kind.CLOCK_FAR),
    )
)
"""With one of these at a node, a Fulfill may be let go before it is durable."""

PATIENCE_S: Final = 25.0
"""Seconds: a packet fulfilled with this much time left outlasts every fault of a plan."""

START_S: Final = 5.0
"""How long after its death a node has been started again, and has booked what its outbox had."""

FORWARDED_MAX: Final = 2
"""How often a node forwards a packet that comes back (docs/protocol.md)."""

CLOCKS: Final = frozenset((Kind.CLOCK_AHEAD, Kind.CLOCK_BACK, Kind.CLOCK_FAR))


@dataclass(slots=True)
class Verdict:
    """The result of the judge."""

    findings: list[Finding]
    excused: dict[str, int]
    booked: int
    """Bookings that were compared."""


class Judge:
    """See the module."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self._plan = evidence.plan
        self._findings: list[Finding] = []
        self._excused: dict[str, int] = {}
        self._booked = 0
        self._nodes = [one.name for one in self._plan.nodes]
        self._fees = {one.name: one.fee_basis_points for one in self._plan.nodes}
        self._ledgers: dict[str, raw.Ledger] = {}
        self._accounts: dict[str, dict[int, RawAccount]] = {}
        for node in self._nodes:
            accounts = self._accounts[node] = self._accounts_of(node)
            now_ns = evidence.now_ns + evidence.ahead_ns.get(node, 0)
            self._ledgers[node] = raw.Ledger(evidence.rows[node], accounts, now_ns)

    def judge(self) -> Verdict:
        """Compare everything."""
        for complaint in self._evidence.facts.complaints:
            self._find("answers", "", complaint)
        if self._evidence.misplaced:
            self._find("misplaced", "", f"{self._evidence.misplaced} transfers")
        for node in self._nodes:
            self._look_at_node(node)
        known: set[int] = set()
        for fact in self._evidence.facts.by_condition.values():
            known.add(int.from_bytes(fact.condition[:12], "big"))
            if fact.amounts:
                self._look_at_payment(fact)
        for node in self._nodes:
            for condition, legs in self._ledgers[node].booked.items():
                if condition not in known:
                    self._find("stray", node, f"{legs[0].final.amount} for no payment")
        self._look_at_links()
        return Verdict(self._findings, self._excused, self._booked)

    def _find(self, rule: str, where: str, text: str, payment: int = 0) -> None:
        assert rule in RULES, rule
        self._findings.append(Finding(rule, where, text, payment))

    def _excuse(self, reason: str) -> None:
        assert reason in EXCUSES, reason
        self._excused[reason] = self._excused.get(reason, 0) + 1

    def _accounts_of(self, node: str) -> dict[int, RawAccount]:
        accounts: dict[int, RawAccount] = {}
        assets: set[Asset] = set()
        for peer in self._plan.neighbours(node):
            asset = self._plan.link_of(node, peer).asset
            assets.add(asset)
            for kind in ("peer", "credit_line", "settlement"):
                one = RawAccount(node, kind, peer, str(asset))
                accounts[account_id(node, kind, peer, str(asset))] = one
        for asset in (*assets, Asset("USD", 9)):
            for kind in ("revenue", "exchange", "wallet"):
                # The node's own accounts have no peer.
                one = RawAccount(node, kind, "", str(asset))
                accounts[account_id(node, kind, "", str(asset))] = one
        return accounts

    # --- one node

    def _look_at_node(self, node: str) -> None:
        evidence, ledger = self._evidence, self._ledgers[node]
        for fault in ledger.faults:
            self._find("rows", node, fault)
        for failure in evidence.failures.get(node, ()):
            self._find("failed", node, failure)
        if node in evidence.not_ready:
            self._find("not-ready", node, evidence.not_ready[node])
        told = evidence.alerts.get(node, set()) & NOT_DURABLE
        if told and not any(
            one.kind in LATE_ON_DISK and one.where == node for one in self._plan.faults
        ):
            self._find("not-durable", node, ", ".join(sorted(told)))
        booked = {leg.row.packet for legs in ledger.booked.values() for leg in legs}
        unbooked = evidence.kept.get(node, set()) - booked
        if unbooked:
            self._find("kept", node, f"{len(unbooked)} packets are fulfilled and not booked")
        for hold in ledger.open:
            if self._is_out_of_sight(node, hold):
                self._excuse("wrong-clock")
                continue
            if hold.id in evidence.late_ids:
                self._excuse("late-request")
                continue
            self._find("pending", node, f"{hold.amount} is still held", self._number_of(hold))
        limits = {
            id_: self._plan.link_of(node, account.peer).credit_limit
            for id_, account in self._accounts[node].items()
            if account.kind == "peer"
        }
        for row in raw.over_limit(evidence.rows[node], limits)[:3]:
            whose = self._accounts[node][row.debit].peer
            self._find("over-limit", node, f"{whose} by {row.amount}", self._number_of(row))
        for row in raw.over_limit(evidence.rows[node], dict.fromkeys(limits, 0)):
            if row.code == raw.SETTLEMENT:
                whose = self._accounts[node][row.debit].peer
                self._find("overpaid", node, f"{row.amount} is booked as paid to {whose}")
        for peer in self._plan.neighbours(node):
            if not self._plan.link_of(node, peer).local:
                self._look_at_peer(node, peer)

    def _is_out_of_sight(self, node: str, hold: raw.Row) -> bool:
        """Whether the node cannot know of a hold: its clock was wrong when it started after it.

        The last request of a process may reach the ledger after its death; and a process that starts
        books the holds that its outbox has, which are from before as well.
        """
        plan = self._plan
        on_cluster = any(one.name == node and one.ledger == "tigerbeetle" for one in plan.nodes)
        was_wrong = any(one.kind in CLOCKS and one.where == node for one in plan.faults)
        held_at_s = (hold.timestamp - START_NS) / 1e9
        deaths = self._evidence.deaths.get(node, ())
        return on_cluster and was_wrong and any(at_s + START_S >= held_at_s for at_s in deaths)

    def _look_at_peer(self, node: str, peer: str) -> None:
        evidence, ledger = self._evidence, self._ledgers[node]
        link = self._plan.link_of(node, peer)
        asset = str(link.asset)
        account = ledger.book(account_id(node, "peer", peer, asset))
        line = ledger.book(account_id(node, "credit_line", peer, asset))
        shown = evidence.shown.get(node, {}).get(peer)
        debits, credits_ = account.debits - line.credits, account.credits - line.debits
        if shown is not None and (shown.debits, shown.credits) != (debits, credits_):
            self._find(
                "shown",
                node,
                f"{peer}: shows {shown.debits} debited and {shown.credits} credited, its ledger "
                f"has {debits} and {credits_}",
            )
        if shown is not None and shown.pending:
            self._find("pending", node, f"shows {shown.pending} pending for {peer}")
        granted = line.debits - line.credits
        free = account.credits - account.debits - account.debits_pending
        limit = link.credit_limit
        if granted < limit or (granted > limit and free > 0):
            self._find("granted", node, f"{peer}: {granted} granted, {limit} configured")
        box = ledger.book(account_id(node, "settlement", peer, asset))
        paid_in = evidence.settled_in.get((node, peer), 0)
        paid_out = evidence.settled_out.get((node, peer), 0)
        if box.debits != paid_in:
            self._find("settled", node, f"{peer} has paid {paid_in}, {box.debits} is booked")
        if box.credits > paid_out and any(
            one.kind is Kind.SETTLEMENTS_LOST and one.where == node for one in self._plan.faults
        ):
            self._excuse("settlements-lost")
        elif box.credits != paid_out:
            self._find("settled", node, f"{paid_out} was paid to {peer}, {box.credits} is booked")

    def _number_of(self, row: raw.Row) -> int:
        start = row.condition_start.to_bytes(12, "big")
        for fact in self._evidence.facts.by_condition.values():
            if fact.condition.startswith(start):
                return fact.plan.number
        return 0

    # --- one payment

    def _look_at_payment(self, fact: Fact) -> None:
        number = fact.plan.number
        if fact.plan.outcome == "nowhere":
            self._look_at_loop(fact)
            return
        # Where no money moves, no ledger remembers it.
        given = sum(1 for one in fact.given if one.amount)
        if fact.amounts == {0}:
            return
        # A hostile sender repeats itself under the id of its packet, which is one packet all the same.
        if given > fact.times and not (fact.hostile and fact.way[-1] in self._plan.hostile_ends):
            if self._had_wrong_clock(fact.way[-2]):
                self._excuse("wrong-clock")
                return
            self._find("given-twice", fact.way[-1], f"fulfilled {given} times", number)
        late = [one for one in fact.given if one.at_s >= one.expires_at_s and one.amount]
        if late:
            # It counts for nobody, unless a clock on the way was wrong.
            given -= len(late)
            differ = Kind.CLOCKS_DIFFER in self._plan.traits
            if differ or any(one.kind in CLOCKS for one in self._plan.faults):
                self._excuse("expiry-clock")
                return
        nodes = fact.way[1:-1]
        bookings = [self._bookings(node, fact) for node in nodes]
        counts = [len(one) for one in bookings]
        for node, count in zip(nodes, counts, strict=True):
            if count > fact.times:
                self._find("booked-twice", node, f"booked {count} times", number)
        # What each place on the way says: was it paid on?
        said: list[int | None] = [*counts, given]
        if fact.hostile and fact.way[-1] in self._plan.hostile_ends:
            said[-1] = None
        first = 1 if fact.outcome == "fulfilled" else 0
        if fact.hostile or fact.outcome in ("lost", "expired", "error", ""):
            said.insert(0, None)
        else:
            said.insert(0, first)
        for index in range(len(said) - 1):
            here, there = said[index], said[index + 1]
            if here is None or there is None:
                continue
            name, next_name = fact.way[index], fact.way[index + 1]
            if here > there:
                self._find(
                    "unproven",
                    name,
                    f"booked {here} times, {next_name} has {there}; {self._seen(fact, counts)}",
                    number,
                )
            elif here < there and not self._may_be_lost(fact, name, next_name):
                self._find(
                    "lost",
                    name,
                    f"booked {here} times, {next_name} has {there}; {self._seen(fact, counts)}",
                    number,
                )
        self._look_at_amounts(fact, bookings)
        if fact.outcome == "expired" and not fact.hostile:
            self._look_at_silence(fact)

    @staticmethod
    def _seen(fact: Fact, counts: list[int]) -> str:
        return f"sender: {fact.outcome or 'no answer'}, hops: {counts}, receiver: {len(fact.given)}"

    def _had_wrong_clock(self, node: str, started_after_s: float | None = None) -> bool:
        """Whether its clock was wrong by an hour: beyond what docs/protocol.md allows.

        With a time: only if it was started again after it, perhaps with that clock.
        """
        deaths = self._evidence.deaths.get(node, ())
        return any(
            one.kind is Kind.CLOCK_FAR and one.where == node for one in self._plan.faults
        ) and (started_after_s is None or any(at_s >= started_after_s for at_s in deaths))

    def _bookings(self, node: str, fact: Fact) -> list[list[Leg]]:
        """The legs that a node has posted for a payment, one list per packet."""
        condition = int.from_bytes(fact.condition[:12], "big")
        packets: dict[int, list[Leg]] = {}
        for leg in self._ledgers[node].booked.get(condition, ()):
            packets.setdefault(leg.row.packet, []).append(leg)
        self._booked += len(packets)
        for legs in packets.values():
            places = [(leg.row.id & 0x0F) for leg in legs]
            if len(places) != len(set(places)):
                self._find("booked-twice", node, "a leg was posted and corrected", fact.plan.number)
        return list(packets.values())

    def _may_be_lost(self, fact: Fact, here: str, there: str) -> bool:
        """Whether the documentation says that `here` may lose what `there` fulfilled."""
        began_s = fact.sent_s or 0.0
        given_s = max((one.at_s for one in fact.given), default=began_s)
        clocks_s = [one.clock_s for one in self._plan.nodes]
        patience_s = PATIENCE_S + max(clocks_s) - min(clocks_s)
        if any(one.expires_at_s - one.at_s < patience_s for one in fact.given):
            self._excuse("too-late")
            return True
        # Also of a node before: it gives up a packet that it would have resent.
        if any(self._had_wrong_clock(node, began_s) for node in fact.way):
            self._excuse("wrong-clock")
            return True
        link = self._plan.link_of(here, there)
        if not link.resumable:
            lost = self._evidence.losses.get(frozenset((here, there)), ())
            if any(began_s <= at_s <= given_s + 10 for at_s in lost):
                self._excuse("plain-link")
                return True
        # The first node on the way of a sender that cannot resend; and the node behind a
        # plain link: the node before has given the packet up.
        for left, right in zip(fact.way, fact.way[1:], strict=False):
            if left == there:
                break
            one = self._plan.link_of(left, right)
            lost = self._evidence.losses.get(frozenset((left, right)), ())
            gone = not one.resumable or left in self._plan.hostile_ends
            if (
                gone
                and any(began_s <= at_s <= given_s + 10 for at_s in lost)
                and any(
                    began_s <= at_s <= given_s + 10
                    for node in fact.way[fact.way.index(right) : fact.way.index(there)]
                    for at_s in self._evidence.deaths.get(node, ())
                )
            ):
                self._excuse("sender-gone")
                return True
        return False

    def _look_at_amounts(self, fact: Fact, bookings: list[list[list[Leg]]]) -> None:
        nodes = fact.way[1:-1]
        number = fact.plan.number
        offered: set[int] = set(fact.amounts)
        for index, node in enumerate(nodes):
            before, after = fact.way[index], fact.way[index + 2]
            onward: set[int] = set()
            for legs in bookings[index]:
                moved = self._moves(node, legs)
                taken = moved.pop(("peer", before), (0, 0))
                is_local = self._plan.link_of(node, after).local
                key = ("wallet", "") if is_local else ("peer", after)
                passed = moved.pop(key, (0, 0))
                extra = [key for key, sides in moved.items() if key[0] == "peer" and any(sides)]
                if extra or taken[1] or passed[0]:
                    self._find("wrong-account", node, f"{moved}", number)
                if taken[0] not in offered:
                    self._find(
                        "wrong-amount", node, f"took {taken[0]}, was offered {offered}", number
                    )
                expected = self.onward(node, before, after, taken[0])
                if passed[1] != expected:
                    self._find(
                        "wrong-amount",
                        node,
                        f"passed on {passed[1]} of {taken[0]}, expected {expected}",
                        number,
                    )
                onward.add(passed[1])
            if index + 1 == len(nodes):
                for one in fact.given:
                    if one.amount and onward and one.amount not in onward:
                        self._find(
                            "wrong-amount",
                            node,
                            f"the receiver got {one.amount}, booked is {onward}",
                            number,
                        )
            offered = onward or {
                self.onward(node, before, after, amount) for amount in offered if amount
            }

    def _moves(self, node: str, legs: list[Leg]) -> dict[tuple[str, str], tuple[int, int]]:
        """Debits and credits by kind of account and peer."""
        moved: dict[tuple[str, str], tuple[int, int]] = {}
        for leg in legs:
            for account_number, side in ((leg.row.debit, 0), (leg.row.credit, 1)):
                account = self._accounts[node].get(account_number)
                key = ("unknown", "") if account is None else (account.kind, account.peer)
                old = moved.get(key, (0, 0))
                moved[key] = (
                    (old[0] + leg.final.amount, old[1])
                    if side == 0
                    else (old[0], old[1] + leg.final.amount)
                )
        return moved

    def onward(self, node: str, before: str, after: str, amount: int) -> int:
        """The amount that a hop forwards: less its fee, rounded up; at its rate, rounded down."""
        if self._plan.link_of(node, after).local:
            return amount
        fee = -(-amount * self._fees[node] // 10_000)
        there, here = self._plan.link_of(node, after).asset, self._plan.link_of(before, node).asset
        if here == there:
            return amount - fee
        rate = Fraction(1) if here.code == there.code else self._plan.rates[here.code, there.code]
        rate *= Fraction(10) ** there.scale / Fraction(10) ** here.scale
        return int((amount - fee) * rate.numerator // rate.denominator)

    def _look_at_loop(self, fact: Fact) -> None:
        number = fact.plan.number
        start = int.from_bytes(fact.condition[:12], "big")
        if fact.outcome == "fulfilled":
            self._find("loop", fact.way[0], "gets a Fulfill", number)
        for node in self._nodes:
            if start in self._ledgers[node].booked:
                self._find("loop", node, "has booked it", number)
            rows = self._evidence.rows[node]
            held = {
                one.packet
                for one in rows
                if one.flags & raw.PENDING and one.condition_start == start
            }
            if len(held) > FORWARDED_MAX and not self._plan.faults:
                self._find("loop", node, f"has held it {len(held)} times", number)
        if fact.outcome == "expired":
            self._look_at_silence(fact)

    def _look_at_silence(self, fact: Fact) -> None:
        sender, node = fact.way[0], fact.way[1]
        lost = self._evidence.losses.get(frozenset((sender, node)), ())
        deaths = self._evidence.deaths.get(node, ())
        began_s = fact.sent_s or 0.0
        if any(one.kind in CLOCKS and one.where == node for one in self._plan.faults):
            self._excuse("expiry-clock")  # it answers when the packet is over by its own clock
        elif not any(began_s <= at_s for at_s in (*lost, *deaths)):
            self._find("silent", node, f"{sender} got no answer at all", fact.plan.number)

    # --- neighbours

    def _look_at_links(self) -> None:
        if not self._plan.faults and not self._plan.hostile_ends:
            for hosts, times in self._evidence.losses.items():
                where = " and ".join(sorted(hosts))
                self._find("dropped", where, f"lost {len(times)} times though nothing breaks")
        if self._excused.keys() - {"settlements-lost", "late-request"} or any(
            one.rule in ("lost", "unproven") for one in self._findings
        ):
            return  # said payment by payment
        for link in self._plan.links:
            left, right = link.left, link.right
            if right not in self._nodes or left not in self._nodes:
                continue
            here, there = self._totals(left, right), self._totals(right, left)
            if here != there[::-1]:
                self._find(
                    "mirror", f"{left} and {right}", f"{left} has {here}, {right} has {there}"
                )

    def _totals(self, node: str, peer: str) -> tuple[int, int]:
        asset = str(self._plan.link_of(node, peer).asset)
        ledger = self._ledgers[node]
        account = ledger.book(account_id(node, "peer", peer, asset))
        line = ledger.book(account_id(node, "credit_line", peer, asset))
        box = ledger.book(account_id(node, "settlement", peer, asset))
        # What moved outside has its own rule, and may be under way on one side.
        return (
            account.debits - line.credits - box.credits,
            account.credits - line.debits - box.debits,
        )
