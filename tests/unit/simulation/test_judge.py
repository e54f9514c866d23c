"""The judge finds every kind of manipulated book; without that, a pass would mean nothing."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import pytest

from connector.settlement.model import key_tag
from connector.simulation.bounded import _posted_behind, tag_of
from connector.simulation.evidence import Evidence, StreamSeen
from connector.simulation.facts import Given, Waiting
from connector.simulation.judge import Judge
from connector.simulation.kinds import Kind
from connector.simulation.plan import FaultPlan, PaymentPlan, StreamPlan
from connector.simulation.raw import PENDING, POST, SETTLEMENT, VOID, Row, account_id
from connector.simulation.rules import RULES
from connector.simulation.run import Simulation
from tests.support.worlds import small_plan

Doctor = Callable[[Evidence], None]


@cache
def run(ledger: str) -> Evidence:
    """Of a run that went well."""
    simulation = Simulation(small_plan(ledger=ledger))
    assert simulation.run().findings == []
    return simulation.evidence


def evidence(ledger: str = "embedded") -> Evidence:
    """The same, to be doctored."""
    return copy.deepcopy(run(ledger))


def rules(found: Evidence) -> set[str]:
    """The rules that the judge finds broken."""
    return {one.rule for one in Judge(found).judge().findings}


def condition_of(found: Evidence, number: int) -> int:
    return int.from_bytes(found.facts.by_number[number].condition[:12], "big")


def index_of(found: Evidence, node: str, number: int, flags: int) -> int:
    """Where a row of a payment stands; resolutions are found by their hold."""
    condition = condition_of(found, number)
    rows = found.rows[node]
    holds = {row.id for row in rows if row.condition_start == condition and row.flags & PENDING}
    for index, row in enumerate(rows):
        if row.flags & flags and (row.id in holds or row.pending_id in holds):
            return index
    raise AssertionError((node, number, flags))


def drop_post(found: Evidence) -> None:
    """The hop has fulfilled upstream and never booked it: its void says so."""
    rows = found.rows["n1"]
    index = index_of(found, "n1", 1, POST)
    rows[index] = rows[index]._replace(flags=VOID)


def book_again(found: Evidence) -> None:
    rows = found.rows["n1"]
    hold = rows[index_of(found, "n1", 1, PENDING)]
    post = rows[index_of(found, "n1", 1, POST)]
    other = hold.id + (1 << 100)
    rows.append(hold._replace(id=other))
    rows.append(post._replace(id=other | 0x10, pending_id=other))


def correct_again(found: Evidence) -> None:
    rows = found.rows["n1"]
    hold = rows[index_of(found, "n1", 1, PENDING)]
    rows.append(hold._replace(id=hold.id | 0x20, flags=0, timeout=0, code=7))


def book_what_nobody_fulfilled(found: Evidence) -> None:
    fact = found.facts.by_number[1]
    fact.given.clear()


def forget_upstream(found: Evidence) -> None:
    fact = found.facts.by_number[1]
    fact.outcome = "T00"


def another_amount(found: Evidence) -> None:
    for flags in (PENDING, POST):
        index = index_of(found, "n2", 1, flags)
        found.rows["n2"][index] = found.rows["n2"][index]._replace(amount=7)


def another_account(found: Evidence) -> None:
    index = index_of(found, "n1", 1, PENDING)
    found.rows["n1"][index] = found.rows["n1"][index]._replace(
        debit=account_id("n1", "peer", "n2", "USD/9"),
        credit=account_id("n1", "peer", "n1a", "USD/9"),
    )


def no_such_payment(found: Evidence) -> None:
    index = index_of(found, "n1", 1, PENDING)
    found.rows["n1"][index] = found.rows["n1"][index]._replace(data_64=1, data_32=2)


def same_id_twice(found: Evidence) -> None:
    found.rows["n1"].append(found.rows["n1"][0])


def over_the_limit(found: Evidence) -> None:
    hold = found.rows["n1"][index_of(found, "n1", 1, PENDING)]
    found.rows["n1"].append(hold._replace(id=hold.id + (1 << 100), amount=10**16))


def still_held(found: Evidence) -> None:
    index = index_of(found, "n1", 1, POST)
    del found.rows["n1"][index]


def shown_wrongly(found: Evidence) -> None:
    found.shown["n1"]["n2"].debits += 1


def mirror_is_cracked(found: Evidence) -> None:
    """A transfer that is for no packet, on one side only."""
    found.rows["n1"].append(
        Row(
            id=1 << 120,
            debit=account_id("n1", "peer", "n2", "USD/9"),
            credit=account_id("n1", "wallet", "", "USD/9"),
            amount=5,
            pending_id=0,
            tag=0,
            data_64=0,
            data_32=0,
            timeout=0,
            ledger=1,
            code=1,
            flags=0,
            timestamp=found.now_ns,
        )
    )


def granted_twice(found: Evidence) -> None:
    grant = next(row for row in found.rows["n1"] if row.code == 5)
    found.rows["n1"].append(grant._replace(id=grant.id + (1 << 100)))


def settled_twice(found: Evidence) -> None:
    settle(found, "settlement", "peer", 5)


def paid_more_than_owed(found: Evidence) -> None:
    settle(found, "peer", "settlement", 1 << 40)


def settle(found: Evidence, debit: str, credit: str, amount: int, *, tag: int = 9) -> None:
    found.rows["n1"].append(
        Row(
            id=1 << 121,
            debit=account_id("n1", debit, "n2", "USD/9"),
            credit=account_id("n1", credit, "n2", "USD/9"),
            amount=amount,
            pending_id=0,
            tag=tag,
            data_64=0,
            data_32=0,
            timeout=0,
            ledger=1,
            code=6,
            flags=0,
            timestamp=found.now_ns,
        )
    )


def asked_twice(found: Evidence) -> None:
    fact = found.facts.by_number[1]
    one = fact.given[0]
    fact.given.append(Given(one.at_s + 1, one.amount, one.expires_at_s, b"", one.receiver))


def lost_a_connection(found: Evidence) -> None:
    found.losses[frozenset(("n1", "n2"))] = [0.5]


def never_answered(found: Evidence) -> None:
    found.facts.by_number[3].outcome = "expired"


def held_three_times(found: Evidence) -> None:
    """As if the payment had gone round; its holds are given back, and its receiver knows nothing of it."""
    fact = found.facts.by_number[3]
    fact.plan = replace(fact.plan, outcome="nowhere")
    rows = found.rows["n1"]
    hold = rows[index_of(found, "n1", 3, PENDING)]
    void = rows[index_of(found, "n1", 3, VOID)]
    for lap in (1, 2):
        other = hold.id + (lap << 100)
        rows.append(hold._replace(id=other))
        rows.append(void._replace(id=other | 0x10, pending_id=other))


def fulfilled_from_nowhere(found: Evidence) -> None:
    fact = found.facts.by_number[1]
    fact.plan = replace(fact.plan, outcome="nowhere")


def complained(found: Evidence) -> None:
    found.facts.complaints.append("n1a got a Fulfill that does not fit")


def booked_elsewhere(found: Evidence) -> None:
    found.misplaced = 1


def failed(found: Evidence) -> None:
    found.failures["n1"] = ["AssertionError"]


def kept_and_not_booked(found: Evidence) -> None:
    found.kept["n1"] = {1}


def let_go_too_early(found: Evidence) -> None:
    found.alerts["n1"] = {"posts_not_durable"}


def is_not_ready(found: Evidence) -> None:
    found.not_ready["n1"] = "3 transfers in the outbox"


def more_in_flight_than_allowed(found: Evidence) -> None:
    """The third one is rejected for another reason, after its money was held."""
    found.plan = replace(found.plan, in_flight_max={("n1", "n2"): 1001})


def too_large_and_fulfilled(found: Evidence) -> None:
    found.plan = replace(found.plan, in_flight_max={("n1", "n1a"): 5})


def taken_on_an_engines_word(found: Evidence) -> None:
    paid = ("n1", "n2", "key")
    found.plan = replace(found.plan, prepaid_max={paid[:2]: 10})
    found.facts.settled_in[paid] = 1 << 40
    found.facts.told_rows[paid] = 0
    settle(found, "settlement", "peer", 1 << 40, tag=tag_of("key"))


def taken_without_room(found: Evidence) -> None:
    found.low_disks = [("n2", 0.0, 1000.0)]


def lost_by_a_replacement(found: Evidence) -> None:
    fault = FaultPlan(1, Kind.REPLACE, at_s=0.0, for_s=0.1, where="n2")
    found.fault_times_s = {1: 2.0, 2: 2.0}
    found.plan = replace(found.plan, faults=(fault,))
    found.facts.by_number[1].outcome = "T01"


def not_pruned(found: Evidence) -> None:
    found.wrongly_pruned = [("n1", "no rows were pruned")]


def learns(found: Evidence, **options: Any) -> None:
    """As if the nodes had learned their routes."""
    found.plan = replace(found.plan, hold_down_ms=45_000, **options)
    found.hops = {"n1": {"n2": "n2"}, "n2": {"n1": "n1"}}


def a_way_to_nowhere(found: Evidence) -> None:
    learns(found)
    found.hops["n1"] = {"n2": "n1a"}


def refused(found: Evidence, code: str, at_s: float) -> None:
    fact = found.facts.by_number[1]
    fact.outcome, fact.rejected_by = code, "g.n1"
    fact.sent_s = fact.answered_s = at_s


def no_route_is_said(found: Evidence) -> None:
    learns(found)
    refused(found, "F02", 50.0)


def no_detour(found: Evidence) -> None:
    outage = FaultPlan(1, Kind.OUTAGE, at_s=0.0, for_s=8.0, where="n1", other="n2")
    learns(found, faults=(outage,))
    found.fault_times_s = {1: 2.0}
    refused(found, "T01", 7.0)


def stream(found: Evidence, *seen: StreamSeen) -> None:
    found.plan = replace(found.plan, streams=(StreamPlan(1, 0.0, "n1", "n2", 50),))
    found.streams = dict(enumerate(seen, 1))


def said_to_be_sent(found: Evidence) -> None:
    stream(found, StreamSeen("completed", 50, 50, 0, ""))


def said_to_be_delivered(found: Evidence) -> None:
    stream(found, StreamSeen("failed", 0, 5, 0, ""))


def never_ends(found: Evidence) -> None:
    stream(found)


DOCTORS: dict[str, Doctor] = {
    "routes": a_way_to_nowhere,
    "unreachable": no_route_is_said,
    "detour": no_detour,
    "stream-sent": said_to_be_sent,
    "stream-delivered": said_to_be_delivered,
    "stream-ends": never_ends,
    "pruned": not_pruned,
    "in-flight": more_in_flight_than_allowed,
    "too-large": too_large_and_fulfilled,
    "prepaid": taken_on_an_engines_word,
    "reserve": taken_without_room,
    "replaced": lost_by_a_replacement,
    "booked-twice": book_again,
    "given-twice": asked_twice,
    "unproven": book_what_nobody_fulfilled,
    "lost": forget_upstream,
    "wrong-amount": another_amount,
    "wrong-account": another_account,
    "stray": no_such_payment,
    "rows": same_id_twice,
    "over-limit": over_the_limit,
    "pending": still_held,
    "shown": shown_wrongly,
    "mirror": mirror_is_cracked,
    "granted": granted_twice,
    "settled": settled_twice,
    "overpaid": paid_more_than_owed,
    "dropped": lost_a_connection,
    "silent": never_answered,
    "loop": held_three_times,
    "answers": complained,
    "misplaced": booked_elsewhere,
    "kept": kept_and_not_booked,
    "not-durable": let_go_too_early,
    "failed": failed,
    "not-ready": is_not_ready,
}


def test_every_rule_has_a_doctor() -> None:
    assert DOCTORS.keys() == RULES.keys()


@pytest.mark.parametrize("ledger", ["embedded", "tigerbeetle"])
@pytest.mark.parametrize("rule", RULES)
def test_a_doctored_book_is_found(rule: str, ledger: str) -> None:
    found = evidence(ledger)
    DOCTORS[rule](found)
    assert rule in rules(found)


@pytest.mark.parametrize("both_dial", [False, True])
def test_of_two_connections_of_a_pair_one_is_closed_where_both_dial(both_dial: bool) -> None:
    found = evidence()
    links = tuple(replace(one, both_dial=both_dial) for one in found.plan.links)
    found.plan = replace(found.plan, links=links)
    lost_a_connection(found)
    assert ("dropped" in rules(found)) is not both_dial


def test_a_payment_to_nowhere_is_not_fulfilled_or_booked() -> None:
    found = evidence()
    fulfilled_from_nowhere(found)
    places = {(one.rule, one.where) for one in Judge(found).judge().findings}
    assert places >= {("loop", "n1a"), ("loop", "n1"), ("loop", "n2")}


@pytest.mark.parametrize("doctor", [drop_post, correct_again])
def test_other_doctored_books_are_found(doctor: Doctor) -> None:
    found = evidence()
    doctor(found)
    assert rules(found) & {"lost", "unproven", "booked-twice"}


@cache
def preimage() -> bytes:
    return hashlib.sha256(b"simulated payment 1").digest()


def test_the_judge_knows_a_payment_by_its_condition() -> None:
    plan = PaymentPlan(
        number=1,
        at_s=0.0,
        sender="a",
        receiver="b",
        amount=1,
        expires_in_s=1.0,
        outcome="pay",
        think_s=0.0,
    )
    assert plan.preimage == preimage()
    assert plan.condition == hashlib.sha256(preimage()).digest()


@pytest.mark.parametrize("fee", [0, 30, 250])
def test_fees_are_what_the_documentation_says(fee: int) -> None:
    simulation = Simulation(small_plan(fee_basis_points=fee))
    assert simulation.run().findings == []
    judge = Judge(simulation.evidence)
    assert judge.onward("n1", "n1a", "n2", 10_000) == 10_000 - fee
    assert judge.onward("n1", "n1a", "n2", 1) == (1 if not fee else 0)


def test_a_hold_of_a_request_that_came_too_late_is_excused_and_counted() -> None:
    found = evidence("tigerbeetle")
    hold = found.rows["n1"][index_of(found, "n1", 3, PENDING)]
    rows = found.rows["n1"]
    rows[:] = [row for row in rows if row.pending_id != hold.id]
    assert "pending" in rules(found)
    found.late_ids = {hold.id}
    verdict = Judge(found).judge()
    assert verdict.findings == []
    assert verdict.excused == {"late-request": 1}


def test_a_post_that_came_too_late_ends_what_is_in_flight() -> None:
    """Payments of about 1,000, one after the other."""
    found = evidence("tigerbeetle")
    found.plan = replace(found.plan, in_flight_max={("n1", "n2"): 1002})
    found.late_ids = {row.id for row in found.rows["n1"] if row.pending_id}
    assert found.late_ids
    assert "in-flight" not in rules(found)


def prepaid(found: Evidence, amount: int, *, booked: bool, accept: bool | None) -> None:
    """A payment of n2 to n1, for which 10 may be prepaid; `accept`: an operator was asked."""
    paid = ("n1", "n2", "key")
    found.plan = replace(found.plan, prepaid_max={paid[:2]: 10})
    found.facts.settled_in[paid] = amount
    found.facts.told_rows[paid] = 0
    if accept is not None:
        found.facts.waited[paid] = Waiting(*paid, "1", accept)
    if booked:
        found.settled_in[paid[:2]] = amount
        settle(found, "settlement", "peer", amount, tag=tag_of("key"))
        found.shown["n1"]["n2"].credits += amount


@pytest.mark.parametrize(
    ("amount", "booked", "accept", "rule"),
    [
        (1 << 40, True, True, None),
        (1 << 40, False, False, None),
        (1 << 40, True, False, "settled"),
        (1 << 40, True, None, "prepaid"),
    ],
)
def test_what_an_operator_was_asked_for_and_said_is_what_is_booked(
    amount: int, booked: bool, accept: bool | None, rule: str | None
) -> None:
    found = evidence()
    prepaid(found, amount, booked=booked, accept=accept)
    assert rules(found) == ({rule} if rule is not None else set())


def test_a_payment_within_what_may_be_prepaid_does_not_wait() -> None:
    """n1a has sent a thousand and got as much."""
    found, paid = evidence(), ("n1", "n1a", "key")
    found.plan = replace(found.plan, prepaid_max={paid[:2]: 10})
    found.facts.settled_in[paid], found.facts.told_rows[paid] = 5, 0
    found.facts.waited[paid] = Waiting(*paid, "1", accept=False)
    assert "prepaid" in rules(found)
    found.facts.settled_in[paid] = 50
    assert "prepaid" not in rules(found)


@pytest.mark.parametrize(("held_first", "counted"), [(True, 7), (False, 0)])
def test_a_post_behind_a_payment_counts_as_owed_if_its_hold_was_there(
    held_first: bool, counted: int
) -> None:
    """Its Fulfill may have been relayed before; one that was held later was not owed yet."""
    blank = Row(1, 0, 0, 7, 0, 0, 0, 0, 0, 1, 1, 0, 0)
    hold = blank._replace(id=2, debit=5, credit=6, flags=PENDING)
    post = blank._replace(id=3, pending_id=2, flags=POST)
    payment = blank._replace(id=4, debit=9, credit=5, amount=50, code=SETTLEMENT)
    rows = [hold, payment, post] if held_first else [payment, hold, post]
    assert _posted_behind(rows, 5, [payment]) == counted
    assert _posted_behind(rows, 5, []) == 0


@pytest.mark.parametrize("key", ["0123456789abcdef" * 2, "prepayment 1"])
def test_the_tag_of_a_key_is_what_the_product_writes(key: str) -> None:
    assert tag_of(key) == key_tag(key)


def test_a_replacement_is_no_reason_where_something_else_was_broken() -> None:
    found = evidence()
    lost_by_a_replacement(found)
    crash = FaultPlan(2, Kind.CRASH, at_s=0.0, for_s=0.1, where="n2")
    found.plan = replace(found.plan, faults=(*found.plan.faults, crash))
    assert "replaced" not in rules(found)


def test_a_fulfill_that_a_lost_machine_relayed_and_no_ledger_has_is_told() -> None:
    found = evidence("tigerbeetle")
    drop_post(found)
    found.machines_lost = {"n1": [1000.0]}
    said = [one.text for one in Judge(found).judge().findings if one.rule == "unproven"]
    assert any("n1 has relayed a Fulfill that no ledger had" in one for one in said)


@pytest.mark.parametrize(
    ("lost_s", "resumable", "is_excused"),
    [(0.1, False, True), (0.1, True, False), (-5.0, False, False), (60.0, False, False)],
)
def test_what_only_the_disk_of_a_lost_machine_knew_may_be_lost(
    *, lost_s: float, resumable: bool, is_excused: bool
) -> None:
    """The sender got a Reject, and its node has booked nothing; the next one has, and its receiver."""
    found = evidence("tigerbeetle")
    fact = found.facts.by_number[1]
    fact.outcome = "T00"
    index = index_of(found, "n1", 1, POST)
    found.rows["n1"][index] = found.rows["n1"][index]._replace(flags=VOID)
    links = [replace(one, resumable=resumable or one.left != "n2a") for one in found.plan.links]
    found.plan = replace(found.plan, links=tuple(links))
    found.machines_lost = {"n2": [(fact.sent_s or 0.0) + lost_s]}
    verdict = Judge(found).judge()
    assert verdict.excused.get("machine-lost", 0) == is_excused
    assert ("lost" in {one.rule for one in verdict.findings}) is not is_excused


def test_what_is_too_large_by_itself_is_not_asked_for_again_later() -> None:
    found = evidence()
    found.plan = replace(found.plan, in_flight_max={("n2", "n2a"): 5})
    fact = found.facts.by_number[1]
    for outcome, by, is_wrong in (("T04", "g.n2", 1), ("F08", "g.n2", 0), ("F08", "g.n1", 1)):
        fact.outcome, fact.rejected_by = outcome, by
        said = [one for one in Judge(found).judge().findings if one.rule == "too-large"]
        assert sum(one.payment == 1 for one in said) == is_wrong
    # While the next hop was removed the packet was for n2 itself, whose bound is another.
    fact.outcome, fact.rejected_by = "T04", "g.n2"
    found.facts.removed.add(("n2", "n2a"))
    said = [one for one in Judge(found).judge().findings if one.rule == "too-large"]
    assert not any(one.payment == 1 for one in said)
