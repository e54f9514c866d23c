"""The table of promises: every event in every state, and posts that are not acknowledged."""

from __future__ import annotations

from itertools import product

import pytest

from connector.accounting.entries import WRITTEN_AS
from connector.accounting.mirror import Book
from connector.accounting.promises import (
    TRANSITIONS,
    Promise,
    PromiseEvent,
    Promises,
    Reservation,
)
from connector.ledger.model import AccountCode, Transfer
from connector.peering.model import Asset

USD = Asset("USD", 9)
BOOKS = (Book("us", AccountCode.PEER, "alice", USD), Book("us", AccountCode.PEER, "bob", USD))
OWED = set(Promise) - {Promise.ASKED, Promise.HELD, Promise.VOIDING, Promise.FREE}


def reservation(state: Promise = Promise.HELD, number: int = 1) -> Reservation:
    leg = Transfer(number << 8, BOOKS[0].account_id, BOOKS[1].account_id, 100)
    return Reservation(number << 8, [leg], [BOOKS], state)


def posted(
    promises: Promises, number: int = 1, relay_by_ms: int = 100, latest_ms: int = 1000
) -> Reservation:
    one = reservation(number=number)
    transfers = [Transfer(number << 8 | 0x10)]
    promises.post(one, f"waiter {number}", transfers, relay_by_ms, latest_ms)
    return one


@pytest.mark.parametrize(("state", "event"), list(product(Promise, PromiseEvent)))
def test_each_event_leads_where_the_table_says_or_fails(
    state: Promise, event: PromiseEvent
) -> None:
    one = reservation(state)
    to = TRANSITIONS.get((state, event))
    if to is None:
        with pytest.raises(AssertionError):
            one.move(event)
        assert one.state == state
    else:
        one.move(event)
        assert one.state == to


@pytest.mark.parametrize("state", list(Promise))
def test_what_packets_do_without_a_call_follows_the_same_table(state: Promise) -> None:
    for event, act in (
        (PromiseEvent.POST, lambda one: Promises().post(one, None, [], 0, 0)),
        (PromiseEvent.ACKNOWLEDGED, lambda one: Promises().acknowledged(one)),
    ):
        one = reservation(state)
        to = TRANSITIONS.get((state, event))
        if to is None:
            with pytest.raises(AssertionError):
                act(one)
            assert one.state == state
        else:
            act(one)
            assert one.state == to


def test_what_is_owed_stays_owed() -> None:
    for (state, _event), to in TRANSITIONS.items():
        if state in OWED:
            assert to in OWED
    # And nothing is owed that was not held and fulfilled.
    assert {
        event for (state, event), to in TRANSITIONS.items() if state not in OWED and to in OWED
    } == {PromiseEvent.POST}


def test_every_state_can_be_reached_and_what_is_booked_is_never_left() -> None:
    assert set(TRANSITIONS.values()) == set(Promise) - {Promise.ASKED}
    left = {state for (state, _), to in TRANSITIONS.items() if to is not state}
    assert set(Promise) - left == {
        Promise.VOIDING, Promise.FREE, Promise.BOOKED, Promise.CORRECTED,
    }  # fmt: skip


def test_what_may_be_queued_is_what_the_ledger_may_still_be_told() -> None:
    acknowledged = {state for state, event in TRANSITIONS if event is PromiseEvent.ACKNOWLEDGED}
    assert set(WRITTEN_AS) == acknowledged | {Promise.ASKED, Promise.VOIDING}


def test_a_reservation_knows_whether_it_is_booked_and_whether_by_correction() -> None:
    assert {one for one in Promise if reservation(one).posted} == {
        Promise.BOOKED, Promise.CORRECTED,
    }  # fmt: skip
    assert {one for one in Promise if reservation(one).corrected} == {
        Promise.CORRECTING, Promise.CORRECTING_OVERDUE, Promise.CORRECTING_RELEASED,
        Promise.CORRECTED,
    }  # fmt: skip


def test_ids_of_a_resolution_are_known_once_it_was_asked_for() -> None:
    one = reservation()
    assert one.resolution_ids == []
    Promises().post(one, None, [Transfer(1 << 8 | 0x10)], 0, 0)
    assert one.resolution_ids == [1 << 8 | 0x10]


def test_a_post_that_is_acknowledged_in_time_is_told_once() -> None:
    promises = Promises()
    one = posted(promises)
    assert (one.waiter, one.state, len(promises)) == ("waiter 1", Promise.POSTING, 1)
    assert promises.acknowledged(one)
    assert (one.waiter, one.state, len(promises)) == (None, Promise.BOOKED, 0)
    assert not promises.acknowledged(one)


def test_a_reservation_is_posted_once() -> None:
    promises = Promises()
    one = posted(promises)
    with pytest.raises(AssertionError):
        promises.post(one, "again", [], 0, 0)
    assert one.waiter == "waiter 1"


@pytest.mark.parametrize(("now_ms", "overdue"), [(99, []), (100, [1]), (101, [1, 2])])
def test_a_post_is_overdue_on_the_millisecond(now_ms: int, overdue: list[int]) -> None:
    promises = Promises()
    posted(promises, 1, 100)
    posted(promises, 2, 101)
    assert [one.packet_id >> 8 for one in promises.take_overdue(now_ms)] == overdue
    assert promises.has_overdue is bool(overdue)
    assert promises.take_overdue(now_ms) == []
    # Their Fulfills are held back.
    assert len(promises) == 2


@pytest.mark.parametrize(
    ("now_ms", "told"), [(999, []), (1000, ["waiter 1"]), (1001, ["waiter 1", "waiter 2"])]
)
def test_the_last_moment_comes_on_the_millisecond_and_is_told_once(
    now_ms: int, told: list[str]
) -> None:
    promises = Promises()
    pair = [posted(promises, 1, 100, 1000), posted(promises, 2, 100, 1001)]
    assert promises.take_latest(now_ms) == []  # nobody is overdue yet
    assert promises.take_overdue(100) == pair
    assert promises.take_latest(now_ms) == told
    assert promises.take_latest(now_ms) == []
    assert [one.released for one in pair] == [len(told) > 0, len(told) > 1]
    assert len(promises) == 2 - len(told)


def test_who_is_held_back_is_told_when_the_ledger_answers_after_all() -> None:
    promises = Promises()
    one = posted(promises)
    assert promises.take_overdue(100) == [one]
    assert promises.acknowledged(one)
    assert (one.waiter, one.state, len(promises)) == (None, Promise.BOOKED, 0)
    assert promises.take_latest(1000) == []
    # It gets into the outbox all the same, where it was on its way there.
    assert promises.stored(7, [one]) == []
    assert promises.take_booked_seqs() == [7]


def test_posts_stand_in_the_outbox_until_all_of_a_request_are_booked() -> None:
    promises = Promises()
    pair = [posted(promises, 1), posted(promises, 2)]
    assert promises.take_overdue(100) == pair
    assert promises.stored(7, pair) == ["waiter 1", "waiter 2"]
    assert promises.has_released
    assert [one.outbox_seq for one in pair] == [7, 7]
    assert all(one.released for one in pair)
    assert not promises.acknowledged(pair[0])
    assert promises.take_booked_seqs() == []
    assert not promises.acknowledged(pair[1])
    assert promises.take_booked_seqs() == [7]
    assert not promises.has_released


def test_a_post_that_was_let_go_at_its_last_moment_gets_into_the_outbox_later() -> None:
    promises = Promises()
    one = posted(promises)
    promises.take_overdue(100)
    assert promises.take_latest(1000) == ["waiter 1"]
    assert promises.stored(7, [one]) == []
    assert (one.state, one.outbox_seq) == (Promise.RELEASED, 7)
    promises.replayed(7)
    assert one.posted


def test_a_replay_books_what_was_released_and_leaves_corrections_to_the_writer() -> None:
    promises = Promises()
    one, other = posted(promises, 1), posted(promises, 2)
    promises.stored(7, promises.take_overdue(100))
    other.move(PromiseEvent.REFUSED)
    assert promises.corrected_of(7) == {other.packet_id}
    assert promises.corrected_of(8) == set()
    promises.replayed(7)
    assert (one.state, other.state) == (Promise.BOOKED, Promise.CORRECTING_RELEASED)
    assert (one.outbox_seq, other.outbox_seq) == (0, 0)
    assert not promises.has_released


def test_a_request_of_the_outbox_has_a_number_of_its_own() -> None:
    promises = Promises()
    with pytest.raises(AssertionError):
        promises.stored(0, [])
    promises.stored(7, [])
    with pytest.raises(AssertionError):
        promises.stored(7, [])


def test_what_is_spooled_is_told_to_whoever_still_waits() -> None:
    """Also where its budget is used up and it is held back: it goes in once."""
    promises = Promises()
    one, other = posted(promises, 1, 100), posted(promises, 2, 200)
    assert promises.take_overdue(100) == [one]
    assert promises.spooled(one, 7) == "waiter 1"
    assert promises.spooled(other, 8) == "waiter 2"
    for each, seq in ((one, 7), (other, 8)):
        assert (each.state, each.waiter, each.outbox_seq) == (Promise.RELEASED, None, seq)
    assert promises.spooled(one, 9) is None
    assert one.outbox_seq == 7
    assert len(promises) == 0


def test_a_hold_that_was_put_under_other_ids_is_told_once() -> None:
    promises = Promises()
    promises.note_held_again(7 << 8)
    assert not promises.take_held_again(8 << 8)
    assert promises.take_held_again(7 << 8)
    assert not promises.take_held_again(7 << 8)
