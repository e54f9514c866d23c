"""The lease: the table of phases, silence, and the rows in the ledger."""

from __future__ import annotations

from itertools import product

import pytest

from connector.accounting import bounds, lease
from connector.accounting.lease import HOLDS, TRANSITIONS, Event, Phase, Watch
from connector.ledger.model import DERIVED_ID_MAX, TAG_MASK, TransferCode, lease_tag, node_tag

OUTCOMES: dict[Phase, dict[Event, Phase]] = {
    Phase.OPENING: {
        Event.OTHER: Phase.STANDBY,
        Event.FREE: Phase.CLAIMING,
        Event.LATER: Phase.SUPERSEDED,
        Event.ENDED: Phase.ENDED,
    },
    Phase.STANDBY: {
        Event.OTHER: Phase.STANDBY,
        Event.FREE: Phase.CLAIMING,
        Event.ENDED: Phase.ENDED,
    },
    Phase.CLAIMING: {
        Event.FREE: Phase.CLAIMING,
        Event.WON: Phase.ACTIVE,
        Event.LOST: Phase.STANDBY,
        Event.LATER: Phase.SUPERSEDED,
        Event.ENDED: Phase.ENDED,
    },
    Phase.ACTIVE: {Event.LATER: Phase.SUPERSEDED, Event.ENDED: Phase.ENDED},
    Phase.SUPERSEDED: {Event.ENDED: Phase.SUPERSEDED},
    Phase.ENDED: {},
}


@pytest.mark.parametrize(("phase", "event"), list(product(Phase, Event)))
def test_every_event_in_every_phase(phase: Phase, event: Event) -> None:
    """What is not in the table is a fault of ours."""
    assert TRANSITIONS.get((phase, event)) is OUTCOMES[phase].get(event)


def test_nobody_becomes_active_without_a_claim_that_the_ledger_took() -> None:
    assert [key for key, to in TRANSITIONS.items() if to is Phase.ACTIVE] == [
        (Phase.CLAIMING, Event.WON)
    ]


def test_a_process_that_was_superseded_stays_so() -> None:
    assert {to for (phase, _), to in TRANSITIONS.items() if phase is Phase.SUPERSEDED} == {
        Phase.SUPERSEDED
    }


def test_every_phase_says_whether_money_may_be_held() -> None:
    assert set(HOLDS) == set(Phase)
    assert not HOLDS[Phase.SUPERSEDED]
    assert not HOLDS[Phase.STANDBY]


# --- silence


def test_silence_counts_from_the_last_sign() -> None:
    watch = Watch()
    watch.sign(100.0)
    looks = [100.0 + 0.5 * number for number in range(1, 20)]
    over = [at_s for at_s in looks if watch.is_over(at_s)]
    assert over[0] == 100.0 + bounds.LEASE_SILENCE_SECONDS
    watch.sign(110.0)
    assert not watch.is_over(110.5)


def test_a_look_that_got_no_answer_begins_the_silence_anew() -> None:
    watch = Watch()
    watch.sign(0.0)
    assert not watch.is_over(1.0)
    assert not watch.is_over(2.5)
    watch.unknown()
    assert not watch.is_over(2.75)
    assert not watch.is_over(4.5)
    assert watch.is_over(2.75 + bounds.LEASE_SILENCE_SECONDS)


def first_over(watch: Watch, from_s: float) -> float:
    """How many seconds of looks without a sign it takes."""
    looks = (from_s + 0.5 * number for number in range(100))
    return next(at_s for at_s in looks if watch.is_over(at_s)) - from_s


@pytest.mark.parametrize(
    ("away_s", "needed_s"),
    [(2.0, 3.0), (5.0, 5.0), (14.5, 14.5), (600.0, 15.0)],
)
def test_after_an_outage_of_the_ledger_the_active_process_has_as_long_to_find_it_again(
    away_s: float, needed_s: float
) -> None:
    watch = Watch()
    watch.sign(100.0)
    watch.unknown()
    watch.unknown()
    assert first_over(watch, 100.0 + away_s) == needed_s
    assert watch.needed_s == needed_s


def test_a_sign_after_an_outage_brings_the_usual_silence_back() -> None:
    watch = Watch()
    watch.sign(0.0)
    watch.unknown()
    assert not watch.is_over(60.0)
    watch.sign(60.5)
    watch.sign(61.0)
    assert first_over(watch, 61.5) == bounds.LEASE_SILENCE_SECONDS - 0.5


def test_a_sign_that_the_first_look_after_an_outage_finds_may_be_from_before_it() -> None:
    watch = Watch()
    watch.sign(0.0)
    watch.unknown()
    watch.sign(8.0)
    assert watch.needed_s == 8.0
    assert first_over(watch, 8.5) == 7.5
    watch.sign(20.0)
    assert watch.needed_s == bounds.LEASE_SILENCE_SECONDS


def test_an_outage_that_comes_back_makes_the_silence_no_shorter() -> None:
    watch = Watch()
    watch.sign(0.0)
    watch.unknown()
    assert not watch.is_over(10.0)
    watch.unknown()
    assert first_over(watch, 12.0) == 12.0


def test_a_watcher_that_stood_still_has_not_watched() -> None:
    watch = Watch()
    watch.sign(0.0)
    assert not watch.is_over(1.0)
    assert not watch.is_over(60.0)
    assert not watch.is_over(61.5)
    assert watch.is_over(60.0 + bounds.LEASE_SILENCE_SECONDS)


def test_nobody_is_silent_before_the_first_look() -> None:
    assert not Watch().is_over(1e9)


# --- rows


def test_rows_move_nothing_and_stand_between_accounts_that_are_none_of_the_books() -> None:
    debit, credit = lease.accounts_of("alice")
    one = lease.row("alice", lease.claim_id("alice", 3), process=77, generation=3)
    assert (one.debit_account_id, one.credit_account_id) == (debit.id, credit.id)
    assert (one.amount, one.flags, one.code) == (0, 0, TransferCode.LEASE)
    assert (one.user_data_128, one.user_data_64) == (77, 3)
    # Nobody who asks for the accounts of the node is given these.
    assert debit.user_data_128 == credit.user_data_128 == lease_tag("alice") != node_tag("alice")


def test_ids_differ_by_node_kind_and_number_and_are_below_those_of_packets() -> None:
    ids = [
        make(node, number)
        for node in ("alice", "bob")
        for number in (1, 2, 1 << 39)
        for make in (
            lease.claim_id,
            lease.wait_id,
            lease.end_id,
            lambda node, number: lease.beat_id(node, 1, number),
            lambda node, number: lease.beat_id(node, 2, number),
        )
    ]
    assert len(set(ids)) == len(ids)
    assert all(0 < id_ <= DERIVED_ID_MAX and not id_ & TAG_MASK for id_ in ids)
