"""The judge: compares what the ends recorded with the raw ledger of every hop, unit by unit.

It shares no code with the product's books. Its rules stand in `rules`; a finding names one of them. What
the documentation says may be lost is there too, and is counted.

Long because all that is said of one payment is compared in one place.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise, product
from typing import Final

from connector.simulation import raw
from connector.simulation.bounded import look_at_bounds
from connector.simulation.evidence import Evidence, Finding
from connector.simulation.facts import GRACE_S, Fact, Given
from connector.simulation.judge_streams import look_at_streams
from connector.simulation.kinds import Kind
from connector.simulation.loops import look_at_loop
from connector.simulation.plan import USD, WALLET, Asset
from connector.simulation.raw import Leg, RawAccount, account_id
from connector.simulation.replaced import look_at_replacements
from connector.simulation.rules import EXCUSES, RULES
from connector.simulation.ways import (
    NOBODY,
    Booking,
    look_at_laps,
    look_at_links,
    look_at_routes,
    way_of,
)
from connector.simulation.wrong_clocks import WrongClocks

NOT_DURABLE: Final = frozenset(("posts_not_durable", "fulfilments_not_kept", "outbox_failed"))
"""Alerts that say what would be lost in a crash."""
LATE_ON_DISK: Final = frozenset(
    (
        *(Kind.DISK_FULL, Kind.DISK_BROKEN, Kind.DISK_SLOW),
        # A sender's last moment passes while the process stands still.
        *(Kind.PAUSE, Kind.SECOND_PROCESS),
    )
)
"""With one of these at a node, or a clock that is ahead, a Fulfill may be let go before it is durable."""

PATIENCE_S: Final = 25.0
"""Seconds: a packet fulfilled with this much time left outlasts every fault of a plan."""

WITHOUT_PAYMENT: Final = frozenset(("settlements-lost", "late-request"))
"""Excuses that are of no payment: neighbours mirror each other all the same."""


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
        self._unequal: set[int] = set()
        """Conditions of payments that neighbours may differ by."""
        self._clocks = WrongClocks(evidence)
        self._by_start = {
            int.from_bytes(fact.condition[:12], "big"): fact
            for fact in evidence.facts.by_condition.values()
        }
        self._booked = 0
        self._laps: dict[int, dict[str, set[int]]] = {}
        """By condition and node: the packets that were held for it."""
        self._streams: dict[int, dict[str, list[Leg]]] = {}
        """By condition and node: legs of what none of the single payments is."""
        self._held: dict[str, dict[int, set[tuple[str, str]]]] | None = None
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
        for fact in self._evidence.facts.by_condition.values():
            if fact.amounts:
                self._look_at_payment(fact)
        for node in self._nodes:
            for condition, legs in self._ledgers[node].booked.items():
                if condition in self._by_start or not any(leg.final.amount for leg in legs):
                    continue  # claims of payments and of the lease move nothing
                if self._plan.streams:
                    self._streams.setdefault(condition, {})[node] = legs
                else:
                    self._find("stray", node, f"{legs[0].final.amount} for no payment")
        if self._plan.streams:
            self._look_at_streams()
        self._look_at_links()
        self._findings += look_at_bounds(self._evidence, self.onward, self._counted_until_ns)
        self._findings += look_at_replacements(self._evidence)
        self._findings += look_at_routes(self._evidence)
        return Verdict(self._findings, self._excused, self._booked)

    def _find(self, rule: str, where: str, text: str, payment: int = 0) -> None:
        assert rule in RULES, rule
        self._findings.append(Finding(rule, where, text, payment))

    def _excuse(self, reason: str, fact: Fact | None = None) -> None:
        assert reason in EXCUSES, reason
        self._excused[reason] = self._excused.get(reason, 0) + 1
        if fact is not None:
            self._unequal.add(int.from_bytes(fact.condition[:12], "big"))
        else:
            assert reason in WITHOUT_PAYMENT or reason == "wrong-clock", reason

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
        number = account_id(node, "wallet", WALLET, str(USD))
        accounts[number] = RawAccount(node, "wallet", WALLET, str(USD))
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
        if (
            told
            and not any(one.kind in LATE_ON_DISK and one.where == node for one in self._plan.faults)
            and not self._clocks.is_ahead(node)
        ):
            self._find("not-durable", node, ", ".join(sorted(told)))
        booked = {leg.row.packet for legs in ledger.booked.values() for leg in legs}
        unbooked = evidence.kept.get(node, set()) - booked
        if unbooked:
            self._find("kept", node, f"{len(unbooked)} packets are fulfilled and not booked")
        for hold in ledger.open:
            if self._clocks.hides(node, hold, self._fact_of(hold)):
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
        rows = self._clocks.as_held(node, evidence.rows[node])
        for row in raw.over_limit(rows, limits)[:3]:
            whose = self._accounts[node][row.debit].peer
            self._find("over-limit", node, f"{whose} by {row.amount}", self._number_of(row))
        for row in raw.over_limit(rows, dict.fromkeys(limits, 0)):
            if row.code == raw.SETTLEMENT:
                whose = self._accounts[node][row.debit].peer
                self._find("overpaid", node, f"{row.amount} is booked as paid to {whose}")
        for peer in self._plan.neighbours(node):
            if not self._plan.link_of(node, peer).local:
                self._look_at_peer(node, peer)

    def _counted_until_ns(self, node: str, hold: raw.Row) -> int:
        return self._clocks.counted_until_ns(node, hold, self._fact_of(hold))

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

    def _fact_of(self, row: raw.Row) -> Fact | None:
        return self._by_start.get(row.condition_start)

    def _number_of(self, row: raw.Row) -> int:
        fact = self._fact_of(row)
        return 0 if fact is None else fact.plan.number

    # --- one payment

    def _look_at_payment(self, fact: Fact) -> None:
        number = fact.plan.number
        if fact.plan.outcome == "nowhere":
            self._findings += look_at_loop(
                self._evidence, fact, lambda node, start: start in self._ledgers[node].booked
            )
            if fact.outcome == "expired":
                self._look_at_silence(fact, booked=False)
            return
        # Packets with amount zero are in no ledger.
        given = sum(1 for one in fact.given if one.amount)
        if fact.amounts == {0}:
            return
        # A hostile sender repeats itself under the id of its packet, which is one packet all the same.
        if given > fact.times and not (fact.hostile and fact.way[-1] in self._plan.hostile_ends):
            self._find("given-twice", fact.way[-1], f"fulfilled {given} times", number)
        late = [one for one in fact.given if one.at_s >= one.expires_at_s and one.amount]
        if late:
            # A late Fulfill pays nobody, unless it is in time by the clock of the node that got it.
            given -= len(late)
        is_late = any(self._clocks.takes_late(fact.way[-2], one) for one in late)
        if self._plan.has_ways:
            self._look_at_ways(fact, late, is_late=is_late)
            return
        nodes = fact.way[1:-1]
        bookings = [self._bookings(node, fact) for node in nodes]
        counts = [len(one) for one in bookings]
        for node, count in zip(nodes, counts, strict=True):
            if count > fact.times:
                self._find("booked-twice", node, f"booked {count} times", number)
        # For each node how often it booked the payment; for the receiver how often it fulfilled it.
        said: list[int | None] = [*counts, given]
        if fact.hostile and fact.way[-1] in self._plan.hostile_ends:
            said[-1] = None
        elif is_late and counts[-1] != given:
            self._excuse("expiry-clock", fact)
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
                text = f"booked {here} times, {next_name} has {there}; {self._seen(fact, counts)}"
                if given and self._evidence.machines_lost.get(next_name):
                    text += f"; {next_name} has relayed a Fulfill that no ledger had before its machine was lost"
                self._find("unproven", name, text, number)
            elif here < there and not self._may_be_lost(fact, name, next_name):
                self._find(
                    "lost",
                    name,
                    f"booked {here} times, {next_name} has {there}; {self._seen(fact, counts)}",
                    number,
                )
        self._look_at_amounts(fact, bookings)
        if fact.outcome == "expired" and not fact.hostile:
            self._look_at_silence(fact, booked=bool(counts[0]))

    @staticmethod
    def _seen(fact: Fact, counts: list[int]) -> str:
        return f"sender: {fact.outcome or 'no answer'}, hops: {counts}, receiver: {len(fact.given)}"

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

    def _look_at_ways(self, fact: Fact, late: list[Given], *, is_late: bool) -> None:
        """The same, where it may have taken one of several ways: link by link."""
        start = int.from_bytes(fact.condition[:12], "big")
        booked = {
            node: [self._booking(node, legs, fact) for legs in self._bookings(node, fact)]
            for node in self._nodes
        }
        held = {node: holds.get(start, set()) for node, holds in self._holds().items()}
        fact.way = way_of(self._plan, fact, held, booked)
        given: list[int] | None = [
            one.amount for one in fact.given if one.amount and one not in late
        ]
        if fact.hostile and fact.way[-1] in self._plan.hostile_ends:
            given = None
        elif is_late:
            self._excuse("expiry-clock", fact)
            given = None
        self._findings += look_at_links(fact, booked, given, self._may_be_lost)
        if not fact.hostile:
            self._findings += look_at_laps(self._evidence, fact, self._laps.get(start, {}))
        if fact.outcome == "expired" and not fact.hostile:
            self._look_at_silence(fact, booked=bool(booked[fact.way[1]]))

    def _look_at_streams(self) -> None:
        packets: dict[int, dict[str, list[Booking]]] = {}
        for condition, by_node in self._streams.items():
            for node, legs in by_node.items():
                by_packet: dict[int, list[Leg]] = {}
                for leg in legs:
                    by_packet.setdefault(leg.row.packet, []).append(leg)
                self._booked += len(by_packet)
                packets.setdefault(condition, {})[node] = [
                    self._sides(node, one, local="") for one in by_packet.values()
                ]
        self._findings += look_at_streams(self._evidence, packets, self._streams)

    def _booking(self, node: str, legs: list[Leg], fact: Fact) -> Booking:
        one = self._sides(node, legs, local=f"{node}r", number=fact.plan.number)
        if NOBODY in (one.before, one.after):
            return one
        expected = self.onward(node, one.before, one.after, one.taken)
        if one.passed != expected:
            text = f"passed on {one.passed} of {one.taken}, expected {expected}"
            self._find("wrong-amount", node, text, fact.plan.number)
        return one

    def _sides(self, node: str, legs: list[Leg], *, local: str, number: int = 0) -> Booking:
        """From whom to whom legs move how much. `local`: what stands for the node itself."""
        taken, passed = {}, {}
        for (kind, peer), (debits, credits_) in self._moves(node, legs).items():
            name = (peer or local) if kind == "wallet" else peer
            if kind in ("peer", "wallet"):
                taken.update({name: debits} if debits else {})
                passed.update({name: credits_} if credits_ else {})
        if len(taken) != 1 or len(passed) != 1:
            self._find("wrong-account", node, f"from {taken} to {passed}", number)
        nobody = [(NOBODY, 0)]
        (before, amount), (after, onward) = (
            min(taken.items() or nobody),
            min(passed.items() or nobody),
        )
        return Booking(before, after, amount, onward)

    def _holds(self) -> dict[str, dict[int, set[tuple[str, str]]]]:
        """By node and condition: from whom to whom money was held."""
        if self._held is None:
            self._held = {}
            for node in self._nodes:
                sides: dict[tuple[int, int], tuple[set[str], set[str]]] = {}
                for row in self._evidence.rows[node]:
                    if row.flags & raw.PENDING and row.condition_start:
                        both = sides.setdefault((row.condition_start, row.packet), (set(), set()))
                        for number, side in ((row.debit, both[0]), (row.credit, both[1])):
                            account = self._accounts[node].get(number)
                            if account is not None and account.kind in ("peer", "wallet"):
                                side.add(account.peer or f"{node}r")
                here = self._held[node] = {}
                for (start, packet), (befores, afters) in sides.items():
                    here.setdefault(start, set()).update(product(befores, afters))
                    laps = self._laps.setdefault(start, {}).setdefault(node, set())
                    laps.add(packet & ~raw.SECOND_WAY)
        return self._held

    def _may_be_lost(self, fact: Fact, here: str, there: str) -> bool:
        """Whether the documentation says that `here` may lose what `there` fulfilled."""
        began_s = fact.sent_s or 0.0
        given_s = max((one.at_s for one in fact.given), default=began_s)
        clocks_s = [one.clock_s for one in self._plan.nodes]
        patience_s = PATIENCE_S + max(clocks_s) - min(clocks_s) + self._plan.long_faults_s
        if any(one.expires_at_s - one.at_s < patience_s for one in fact.given):
            self._excuse("too-late", fact)
            return True
        # A node that began with a clock by which it was over gives up asking again, or is refused.
        if self._clocks.gave_up(fact):
            self._excuse("wrong-clock", fact)
            return True
        lost = self._evidence.lost_s(here, there)
        if any(began_s <= at_s <= given_s + 10 for at_s in lost):
            self._excuse("plain-link", fact)
            return True
        # What only its disk knew: its successor cannot ask such a next hop again.
        if there not in fact.way:
            return False  # it was booked beside the way that it took
        after = fact.way[fact.way.index(there) + 1 :][:1]
        if after and not self._plan.link_of(there, after[0]).resumable:
            lost = self._evidence.machines_lost.get(there, ())
            if any(began_s <= at_s <= given_s + 10 for at_s in lost):
                self._excuse("machine-lost", fact)
                return True
        # The first node after a sender, or a plain link, that cannot resend: it was given up.
        for left, right in pairwise(fact.way):
            if left == there:
                break
            if left in self._plan.hostile_ends:
                lost = self._evidence.losses.get(frozenset((left, right)), ())
            else:
                lost = self._evidence.lost_s(left, right)
            if any(began_s <= at_s <= given_s + 10 for at_s in lost) and any(
                began_s <= at_s <= given_s + 10
                for node in fact.way[fact.way.index(right) : fact.way.index(there)]
                for at_s in self._evidence.deaths.get(node, ())
            ):
                self._excuse("sender-gone", fact)
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

    def _look_at_silence(self, fact: Fact, *, booked: bool) -> None:
        """A packet that is not posted is answered when it is over, also if it was resent long before."""
        sender, node = fact.way[0], fact.way[1]
        lost = self._evidence.losses.get(frozenset((sender, node)), ())
        deaths = self._evidence.deaths.get(node, ())
        began_s = fact.sent_s or 0.0
        link = self._plan.link_of(sender, node)
        if (link.resumable or link.http == "async") and not booked:
            patience_s = PATIENCE_S + self._plan.long_faults_s
            began_s = max(began_s, fact.expires_at_s - patience_s)
        grace_s = GRACE_S + max(0.0, *(-one.clock_s for one in self._plan.nodes))
        if self._clocks.says_it_late(node, fact, grace_s):
            self._excuse("expiry-clock", fact)
        elif not any(began_s <= at_s for at_s in (*lost, *deaths)):
            self._find("silent", node, f"{sender} got no answer at all", fact.plan.number)

    # --- neighbours

    def _look_at_links(self) -> None:
        if not self._plan.faults and not self._plan.hostile_ends:
            for hosts, times in self._evidence.losses.items():
                link = self._plan.link_of(*sorted(hosts))
                if link.both_dial and link.resumable:
                    continue  # of two connections one serves; a plugin needs both, and loses none
                where = " and ".join(sorted(hosts))
                self._find("dropped", where, f"lost {len(times)} times though nothing breaks")
        if any(one.rule in ("lost", "unproven") for one in self._findings):
            return  # said payment by payment
        if self._plan.streams and self._plan.long_faults_s:
            return  # what came too late of a stream is excused packet by packet
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
        debits, credits_ = 0, 0
        for condition in self._unequal:
            for leg in ledger.booked.get(condition, ()):
                number = account_id(node, "peer", peer, asset)
                debits += leg.final.amount * (leg.row.debit == number)
                credits_ += leg.final.amount * (leg.row.credit == number)
        # What moved outside has its own rule, and may be under way on one side.
        return (
            account.debits - line.credits - box.credits - debits,
            account.credits - line.debits - box.debits - credits_,
        )
