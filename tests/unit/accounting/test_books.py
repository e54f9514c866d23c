"""The accounts of a peer as the mirror has them."""

from __future__ import annotations

import pytest

from connector.accounting.mirror import Book, Mirror, PeerBooks
from connector.ledger.model import Account, AccountCode
from connector.peering.model import Asset, PeerTerms

USD = Asset("USD", 9)


def books() -> PeerBooks:
    kinds = (AccountCode.PEER, AccountCode.CREDIT_LINE, AccountCode.SETTLEMENT)
    return PeerBooks(
        PeerTerms(peer_id="alice", asset=USD), *(Book("us", kind, "alice", USD) for kind in kinds)
    )


@pytest.mark.parametrize(
    ("field", "is_even"),
    [
        (None, True),
        ("debits_posted", False),
        ("credits_posted", False),
        ("debits_pending", False),
        ("credits_pending", False),
    ],
)
def test_a_peer_is_even_when_nobody_owes_and_nothing_is_held(
    field: str | None, is_even: bool
) -> None:
    one = books()
    if field is not None:
        account = Account(one.peer.account_id, **{field: 5})
        Mirror().load(one.peer, account)
    assert one.is_even is is_even


def test_credit_does_not_count_as_owed() -> None:
    one = books()
    mirror = Mirror()
    mirror.grant(one, 1000)
    assert (one.granted, one.available_credit, one.is_even) == (1000, 1000, True)
    mirror.grant(one, -400)
    assert (one.granted, one.available_credit, one.is_even) == (600, 600, True)
