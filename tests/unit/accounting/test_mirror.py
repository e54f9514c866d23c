"""Balances in memory: both sides move by one amount, and nobody but the mirror moves them."""

from __future__ import annotations

import pytest

from connector.accounting.mirror import Book, Mirror, PeerBooks
from connector.ledger.model import Account, AccountCode, Posted
from connector.peering.model import Asset, PeerTerms

USD = Asset("USD", 9)
EUR = Asset("EUR", 2)
BALANCES = ("debits_pending", "debits_posted", "credits_pending", "credits_posted")


def book(peer_id: str = "alice", asset: Asset = USD) -> Book:
    return Book("us", AccountCode.PEER, peer_id, asset)


def books() -> PeerBooks:
    kinds = (AccountCode.PEER, AccountCode.CREDIT_LINE, AccountCode.SETTLEMENT)
    return PeerBooks(
        PeerTerms(peer_id="alice", asset=USD), *(Book("us", kind, "alice", USD) for kind in kinds)
    )


def balances(one: Book) -> tuple[int, ...]:
    return tuple(getattr(one, name) for name in BALANCES)


@pytest.mark.parametrize("name", BALANCES)
def test_balances_cannot_be_set_from_outside(name: str) -> None:
    with pytest.raises(AttributeError):
        setattr(book(), name, 5)


def test_money_is_held_then_posted_on_both_sides() -> None:
    mirror, alice, bob = Mirror(), book("alice"), book("bob")
    mirror.hold(alice, bob, 100)
    assert (balances(alice), balances(bob)) == ((100, 0, 0, 0), (0, 0, 100, 0))
    assert alice.is_held
    mirror.post(alice, bob, 100)
    assert (balances(alice), balances(bob)) == ((0, 100, 0, 0), (0, 0, 0, 100))
    assert not bob.is_held
    assert (alice.posted, bob.posted) == (Posted(100, 0), Posted(0, 100))


def test_money_that_is_released_is_as_it_was() -> None:
    mirror, alice, bob = Mirror(), book("alice"), book("bob")
    mirror.hold(alice, bob, 100)
    mirror.release(alice, bob, 100)
    assert balances(alice) == balances(bob) == (0, 0, 0, 0)


def test_nothing_is_released_or_posted_that_was_not_held() -> None:
    mirror, alice, bob = Mirror(), book("alice"), book("bob")
    mirror.hold(alice, bob, 99)
    for act in (mirror.release, mirror.post):
        with pytest.raises(AssertionError):
            act(alice, bob, 100)


def test_money_moves_between_two_accounts_of_one_asset_and_never_backwards() -> None:
    mirror, alice = Mirror(), book("alice")
    for other, amount in ((alice, 1), (book("carol", EUR), 1), (book("bob"), -1)):
        with pytest.raises(AssertionError):
            mirror.move(alice, other, amount)
    assert balances(alice) == (0, 0, 0, 0)


def test_a_grant_that_only_the_mirror_knew_of_is_undone() -> None:
    mirror, one = Mirror(), books()
    for change in (1000, -400, 0):
        before = (balances(one.peer), balances(one.credit_line))
        mirror.grant(one, change)
        mirror.undo_grant(one, change)
        assert (balances(one.peer), balances(one.credit_line)) == before
        mirror.grant(one, change)


def test_a_mirror_takes_over_what_the_ledger_has() -> None:
    mirror, alice = Mirror(), book()
    mirror.load(alice, Account(alice.account_id, 1, 2, 3, 4))
    assert balances(alice) == (1, 2, 3, 4)
    mirror.forget_holds(alice)
    assert balances(alice) == (0, 2, 0, 4)
    with pytest.raises(AssertionError):
        mirror.load(alice, Account(7, 1, 2, 3, 4))


def test_a_mirror_follows_what_the_ledger_has_in_place_of_what_was_assumed() -> None:
    mirror, alice = Mirror(), book()
    mirror.set_posted(alice, Posted(100, 50))
    mirror.hold(alice, book("bob"), 7)
    mirror.follow(alice, Posted(130, 40), Posted(100, 45))
    assert balances(alice) == (7, 130, 0, 45)


def test_it_is_known_whether_posted_balances_changed() -> None:
    mirror, alice = Mirror(), book()
    assert mirror.set_posted(alice, Posted(3, 4))
    assert not mirror.set_posted(alice, Posted(3, 4))


def test_accounts_that_moved_are_noted_while_somebody_looks() -> None:
    mirror, alice, bob = Mirror(), book("alice"), book("bob")
    mirror.hold(alice, bob, 5)
    assert mirror.take_moved(watched=True) == set()
    mirror.post(alice, bob, 5)
    assert mirror.take_moved(watched=True) == {alice, bob}
    assert mirror.take_moved(watched=True) == set()
    mirror.set_posted(bob, Posted(9, 9))
    assert mirror.take_moved(watched=False) == {bob}
    mirror.hold(alice, bob, 5)
    assert mirror.take_moved(watched=True) == set()


@pytest.mark.parametrize("field", [None, *BALANCES])
def test_a_peer_is_even_when_nobody_owes_and_nothing_is_held(field: str | None) -> None:
    one = books()
    if field is not None:
        Mirror().load(one.peer, Account(one.peer.account_id, **{field: 5}))
    assert one.is_even is (field is None)


def test_credit_does_not_count_as_owed() -> None:
    mirror, one = Mirror(), books()
    mirror.grant(one, 1000)
    assert (one.granted, one.available_credit, one.is_even) == (1000, 1000, True)
    mirror.grant(one, -400)
    assert (one.granted, one.available_credit, one.is_even) == (600, 600, True)


def test_what_a_peer_may_send_and_what_we_may_owe_it_count_what_is_held() -> None:
    mirror, one, other = Mirror(), books(), book("bob")
    mirror.grant(one, 1000)
    mirror.hold(one.peer, other, 300)
    mirror.hold(other, one.peer, 70)
    assert (one.available_credit, one.payable, one.net_balance) == (700, 70, 0)
    mirror.post(one.peer, other, 300)
    assert (one.available_credit, one.payable, one.net_balance) == (700, -230, 300)
    assert (one.debit_balance, one.credit_balance) == (300, 0)
