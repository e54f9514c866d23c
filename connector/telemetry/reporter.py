"""Emits balances that changed, and the status of the node.

A round over all accounts takes a second, one slice per flush, and reports every balance that has
changed. That is enough for the history. While there are viewers, accounts that moved are
checked at every flush, so that a change is seen at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from connector.accounting.manager import AccountManager
from connector.accounting.mirror import Book, PeerBooks
from connector.peering.model import LOCAL
from connector.telemetry.bus import FLUSH_SECONDS, EventBus
from connector.telemetry.events import AccountBalance, NodeStatus

STATUS_SECONDS: Final = 1.0
ROUND_FLUSHES: Final = round(1.0 / FLUSH_SECONDS)


def balance_of(books: PeerBooks, settlement_state: str = "IDLE") -> AccountBalance:
    """The current balance with a peer."""
    terms = books.terms
    return AccountBalance(
        peer_id=terms.peer_id,
        asset_code=terms.asset.code,
        asset_scale=terms.asset.scale,
        debit_balance=books.debit_balance,
        credit_balance=books.credit_balance,
        net_balance=books.net_balance,
        pending_debits=books.peer.debits_pending,
        pending_credits=books.peer.credits_pending,
        credit_limit=terms.credit_limit,
        available_credit=books.available_credit,
        settlement_threshold=terms.settle_threshold,
        settlement_state=settlement_state,
    )


class Reporter:
    """One per node; the bus calls `report` before every flush."""

    def __init__(
        self,
        *,
        bus: EventBus,
        accounts: AccountManager,
        take_touched: Callable[[bool], Iterable[Book]],
        status: Callable[[], NodeStatus],
        monotonic_s: Callable[[], float],
        settlement_state: Callable[[str], str] = lambda _peer_id: "IDLE",
    ) -> None:
        self._bus = bus
        self._accounts = accounts
        self._take_touched = take_touched
        self._status = status
        self._monotonic_s = monotonic_s
        self._settlement_state = settlement_state
        self._told: dict[str, tuple[Any, ...]] = {}
        self._touched: set[str] = set()
        self._round: list[str] = []
        self._slice = 0
        self._was_watched = False
        self._next_status_s = 0.0

    def touch(self, peer_id: str) -> None:
        """Check the account of this peer at the next flush."""
        self._touched.add(peer_id)

    def report(self) -> None:
        """Emit what is due."""
        self._tell_balances()
        now_s = self._monotonic_s()
        if now_s >= self._next_status_s:
            self._next_status_s = now_s + STATUS_SECONDS
            self._bus.emit(self._status())

    def _tell_balances(self) -> None:
        peer_ids = self._touched
        watched = bool(self._bus.viewers)
        peer_ids.update(book.peer_id for book in self._take_touched(watched))
        peer_ids.discard(LOCAL)
        if watched and not self._was_watched:
            # Changes between the viewer's snapshot and now were not marked.
            peer_ids.update(self._accounts.peers)
        self._was_watched = watched
        peer_ids.update(self._next_slice())
        self._touched = set()
        for peer_id in peer_ids:
            books = self._accounts.peers.get(peer_id)
            if books is None:
                self._told.pop(peer_id, None)
                continue
            state = self._settlement_state(peer_id)
            seen = _seen(books, state)
            if self._told.get(peer_id) != seen:
                self._told[peer_id] = seen
                self._bus.emit(balance_of(books, state))

    def _next_slice(self) -> list[str]:
        """The next slice of the round over all accounts."""
        if self._slice == 0:
            self._round = list(self._accounts.peers)
        count, at = len(self._round), self._slice
        self._slice = (at + 1) % ROUND_FLUSHES
        return self._round[count * at // ROUND_FLUSHES : count * (at + 1) // ROUND_FLUSHES]


def _seen(books: PeerBooks, state: str) -> tuple[Any, ...]:
    """The values that `ACCOUNT_BALANCE` depends on, without computing it."""
    book, line = books.peer, books.credit_line
    return (
        book.debits_posted, book.credits_posted, book.debits_pending, book.credits_pending,
        line.debits_posted, line.credits_posted, books.terms, state,
    )  # fmt: skip
