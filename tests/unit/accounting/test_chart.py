"""Which accounts a node has."""

from __future__ import annotations

import pytest

from connector.accounting.chart import Chart
from connector.accounting.mirror import Mirror
from connector.ledger.model import AccountCode, Posted
from connector.peering.model import LOCAL, Asset, PeerTerms

USD = Asset("USD", 9)
EUR = Asset("EUR", 2)
ALICE = PeerTerms(peer_id="alice", asset=USD)


def chart() -> Chart:
    return Chart("us", keeps_history=False)


def test_an_asset_has_three_accounts_of_the_node_itself_once() -> None:
    one = chart()
    new = one.add_asset(USD)
    assert [(book.code, book.peer_id) for book in new] == [
        (AccountCode.REVENUE, LOCAL), (AccountCode.EXCHANGE, LOCAL), (AccountCode.WALLET, LOCAL),
    ]  # fmt: skip
    assert one.add_asset(USD) == []
    assert one.own(AccountCode.WALLET, USD) is new[2]
    assert one.find_own(AccountCode.WALLET, EUR) is None


def test_a_peer_has_three_accounts_found_by_id() -> None:
    one = chart()
    new = one.add_peer(ALICE)
    books = one.peers["alice"]
    assert new == [books.peer, books.credit_line, books.settlement]
    assert all(one.by_id[book.account_id] is book for book in new)
    assert len({book.account_id for book in new}) == 3


def test_only_accounts_of_peers_have_a_credit_line() -> None:
    one = chart()
    one.add_asset(USD)
    one.add_peer(ALICE)
    books = one.peers["alice"]
    assert one.credit_line_of(books.peer.account_id) == books.credit_line.account_id
    for other in (books.credit_line, books.settlement, one.own(AccountCode.WALLET, USD)):
        assert one.credit_line_of(other.account_id) is None
    assert one.credit_line_of(12345) is None


def test_a_peer_that_could_not_be_added_leaves_nothing_behind() -> None:
    one = chart()
    one.add_asset(USD)
    one.add_peer(ALICE, removed=True)
    former, before = one.peers["alice"], set(one.by_id)
    carol = PeerTerms(peer_id="alice", asset=EUR)
    new = [*one.add_asset(EUR), *one.add_peer(carol, removed=True)]
    assert one.peers["alice"] is not former
    one.take_back_peer("alice", new, former)
    assert one.peers["alice"] is former
    assert set(one.by_id) == before
    assert one.find_own(AccountCode.WALLET, EUR) is None


def test_only_a_removed_peer_that_is_even_is_forgotten() -> None:
    one = chart()
    one.add_peer(ALICE)
    books = one.peers["alice"]
    with pytest.raises(AssertionError):
        one.forget_peer("alice")
    books.removed = True
    Mirror().set_posted(books.peer, Posted(1, 0))
    with pytest.raises(AssertionError):
        one.forget_peer("alice")
    Mirror().set_posted(books.peer, Posted(0, 0))
    one.forget_peer("alice")
    assert one.peers == {}
    assert one.by_id == {}
