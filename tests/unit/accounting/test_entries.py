"""What is written for a packet in each state, transfer by transfer."""

from __future__ import annotations

import pytest

from connector.accounting.entries import (
    WRITTEN_AS,
    Entry,
    again,
    chains,
    condition_tag,
    correcting_transfers,
    entry_of,
    grant_transfer,
    held_again,
    is_booked,
    outbox_rows,
    promised_rows,
    resolutions,
    with_legs,
)
from connector.accounting.mirror import Book, PeerBooks
from connector.accounting.promises import Promise, Reservation
from connector.ledger.model import (
    LINKED,
    PENDING,
    PHASE_CORRECT,
    PHASE_RESOLVE,
    POST,
    VOID,
    AccountCode,
    Posted,
    Status,
    Transfer,
    TransferCode,
)
from connector.peering.model import Asset, PeerTerms

USD = Asset("USD", 9)
ID = 77 << 8
LEGS = [
    Transfer(ID, 1, 2, 90, 0, 11, 12, 13, 30, 7, TransferCode.PACKET, PENDING | LINKED),
    Transfer(ID | 1, 1, 3, 10, 0, 11, 12, 13, 30, 7, TransferCode.FEE, PENDING),
]
LINE = 5
"""The credit line of account 1."""


def reservation(state: Promise, *, hold_spooled: bool = False) -> Reservation:
    one = Reservation(ID, LEGS, [], state)
    one.hold_spooled = hold_spooled
    if state is not Promise.ASKED:
        one.transfers = resolutions(LEGS, VOID if state is Promise.VOIDING else POST)
    return one


def line_of(account_id: int) -> int | None:
    return LINE if account_id == 1 else None


@pytest.mark.parametrize("state", list(Promise))
def test_what_is_written_follows_from_the_promise(state: Promise) -> None:
    if state not in WRITTEN_AS:
        assert state in (Promise.HELD, Promise.FREE, Promise.CORRECTED)
        with pytest.raises(KeyError):
            entry_of(reservation(state))
        return
    assert entry_of(reservation(state)) is WRITTEN_AS[state]
    assert reservation(state).corrected == (WRITTEN_AS[state] is Entry.CORRECTION)


@pytest.mark.parametrize("flag", [POST, VOID])
def test_all_legs_are_resolved_or_none(flag: int) -> None:
    one, two = resolutions(LEGS, flag)
    assert (one.id, one.pending_id, one.amount, one.flags) == (
        ID | PHASE_RESOLVE, ID, 90, flag | LINKED,
    )  # fmt: skip
    assert (two.id, two.pending_id, two.amount, two.flags) == (
        ID | PHASE_RESOLVE | 1, ID | 1, 10, flag,
    )  # fmt: skip


def test_post_and_void_share_their_ids() -> None:
    assert [one.id for one in resolutions(LEGS, POST)] == [
        one.id for one in resolutions(LEGS, VOID)
    ]


def test_a_resolution_posts_or_voids() -> None:
    for flag in (0, PENDING, POST | VOID):
        with pytest.raises(AssertionError):
            resolutions(LEGS, flag)


def test_a_correction_grants_what_it_debits_a_peer_and_books_each_leg_by_itself() -> None:
    correction = correcting_transfers(LEGS, line_of)
    assert [(one.debit_account_id, one.credit_account_id, one.amount) for one in correction] == [
        (LINE, 1, 90), (1, 2, 90), (LINE, 1, 10), (1, 3, 10),
    ]  # fmt: skip
    assert [one.flags for one in correction] == [LINKED, 0, LINKED, 0]
    assert {one.id & 0xF0 & ~0x40 for one in correction} == {PHASE_CORRECT}
    assert len({one.id for one in correction}) == 4
    # What was held for a peer stays findable by its sender's id.
    assert correction[1].user_data_128 == LEGS[0].user_data_128


def test_an_account_without_a_credit_line_is_corrected_without_a_grant() -> None:
    assert len(correcting_transfers(LEGS, lambda _id: None)) == 2


@pytest.mark.parametrize("state", [one for one in Promise if one in WRITTEN_AS])
def test_a_post_whose_hold_the_ledger_may_refuse_says_what_it_makes_final(state: Promise) -> None:
    known, spooled = reservation(state), reservation(state, hold_spooled=True)
    assert outbox_rows(known) is known.transfers
    if WRITTEN_AS[state] is Entry.POST:
        assert outbox_rows(spooled) == with_legs(spooled.transfers, LEGS)
        assert outbox_rows(spooled)[0].debit_account_id == 1
    else:
        assert outbox_rows(spooled) is spooled.transfers


@pytest.mark.parametrize("state", [Promise.OVERDUE, Promise.CORRECTING_OVERDUE])
def test_what_goes_into_the_outbox_with_a_fulfill_is_the_post(state: Promise) -> None:
    one = reservation(state)
    one.transfers = correcting_transfers(LEGS, line_of)
    assert promised_rows(one) == resolutions(LEGS, POST)
    one.hold_spooled = True
    assert promised_rows(one) == with_legs(resolutions(LEGS, POST), LEGS)


@pytest.mark.parametrize(("change", "debit", "credit"), [(5, 1, 0), (-5, 0, 1)])
def test_a_grant_goes_from_the_credit_line_to_the_peer_or_back(
    change: int, debit: int, credit: int
) -> None:
    kinds = (AccountCode.PEER, AccountCode.CREDIT_LINE, AccountCode.SETTLEMENT)
    peer, line, settlement = (Book("us", kind, "alice", USD) for kind in kinds)
    books = PeerBooks(PeerTerms(peer_id="alice", asset=USD), peer, line, settlement)
    there = Posted(10, 0)
    grant = grant_transfer(books, change, there)
    ids = (peer.account_id, line.account_id)
    assert (grant.debit_account_id, grant.credit_account_id) == (ids[debit], ids[credit])
    assert grant.amount == 5
    # Of what is decided on the same balances the ledger takes one, whatever it is.
    assert grant_transfer(books, 3 - change, there).id == grant.id
    assert grant_transfer(books, change, Posted(11, 0)).id != grant.id
    assert grant_transfer(books, change, there, 1).id != grant.id
    with pytest.raises(AssertionError):
        grant_transfer(books, 0, there)


def test_what_is_held_anew_is_granted_first_in_one_chain_under_ids_of_its_own() -> None:
    held = held_again(LEGS, line_of)
    assert [one.id & 0xFF for one in held] == [0xC0, 0xC1, 0x80, 0x81]
    assert list(chains(held)) == [(0, len(held))]
    assert [one.amount for one in held[:2]] == [leg.amount for leg in LEGS]
    assert [one.flags & PENDING for one in held] == [0, 0, PENDING, PENDING]
    assert len(held_again(LEGS, lambda _id: None)) == len(LEGS)
    # A packet is corrected once, whichever hold has expired.
    assert correcting_transfers(again(LEGS), line_of) == correcting_transfers(LEGS, line_of)


def test_chains_end_with_the_first_transfer_that_is_not_linked() -> None:
    one = Transfer(1)
    linked = Transfer(1, flags=LINKED)
    assert list(chains([one, linked, linked, one, one])) == [(0, 1), (1, 4), (4, 5)]
    assert list(chains([])) == []
    with pytest.raises(AssertionError):
        list(chains([one, linked]))


@pytest.mark.parametrize(
    ("statuses", "booked"),
    [
        ([Status.CREATED], True),
        ([Status.EXISTS], True),
        ([Status.CREATED, Status.CREATED], True),
        # As TigerBeetle answers a chain that went through before.
        ([Status.EXISTS, Status.LINKED_EVENT_FAILED], True),
        ([Status.EXCEEDS_CREDITS], False),
        ([Status.LINKED_EVENT_FAILED, Status.EXISTS], False),
        ([Status.PENDING_TRANSFER_EXPIRED, Status.LINKED_EVENT_FAILED], False),
    ],
)
def test_a_chain_is_booked_now_or_since_an_earlier_try(
    statuses: list[Status], *, booked: bool
) -> None:
    assert is_booked(statuses) is booked


def test_the_tag_of_a_condition_is_its_first_96_bits() -> None:
    assert condition_tag(bytes(range(32))) == int.from_bytes(bytes(range(12)), "big")
