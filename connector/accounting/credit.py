"""Credit: what peers may owe us, granted in the ledger itself.

Credit above a limit comes from corrections and from limits that were lowered while in use; it is
taken back as the peer pays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from connector.accounting import bounds
from connector.accounting.availability import Availability
from connector.accounting.chart import Chart
from connector.accounting.entries import grant_transfer
from connector.accounting.mirror import Mirror, PeerBooks
from connector.accounting.reports import Reports
from connector.accounting.turn import Turn
from connector.base.errors import (
    CreditInUseError,
    LedgerNotNowError,
    LedgerRefusedError,
    LedgerUnavailableError,
)
from connector.ledger.interface import Ledger
from connector.ledger.model import DONE, Posted, Status, Transfer, TransferCode
from connector.peering.model import PeerTerms


class Credit:
    """Grants and takes back credit. Owns the record of credit granted above limits."""

    def __init__(
        self,
        *,
        turn: Turn,
        chart: Chart,
        mirror: Mirror,
        availability: Availability,
        reports: Reports,
    ) -> None:
        self._turn = turn
        self._chart = chart
        self._mirror = mirror
        self._availability = availability
        self._reports = reports
        # Limits of peers whose credit is, or may be, above the limit: one entry per peer at most.
        self._to_reach: dict[str, int] = {}
        # The last grant to a peer whose answer was lost.
        self._in_doubt: dict[str, Transfer] = {}
        # The limits that `set_limit` has reached; the terms of their peers follow.
        self._reached: dict[str, int] = {}
        # Granted in the mirror only, at a start without the ledger; not in the ledger yet.
        self._promised: dict[str, int] = {}

    async def set_limit(self, peer_id: str, limit: int) -> None:
        """Let a peer owe us up to `limit`: the difference to what is granted is transferred.

        Raises:
            CreditInUseError: it already uses more than that.
            LedgerUnavailableError: no acknowledgement; what is granted is read from the ledger
                later.
        """
        assert limit >= 0, limit
        books = self._chart.peers[peer_id]
        try:
            await self._grant(books, lambda there: limit - there.granted)
        except LedgerUnavailableError:
            # The transfer may have been booked. Unless it is requested again, it is undone later.
            self._to_reach.setdefault(peer_id, books.terms.credit_limit)
            raise
        self._reached[peer_id] = limit
        self._to_reach.pop(peer_id, None)
        if books.granted > limit:
            self._to_reach[peer_id] = limit  # a correction came meanwhile

    def follow(self) -> None:
        """Another process has booked for this node: what it granted above limits is taken back.

        A process that is superseded grants for its last corrections, and is gone before it can.
        """
        peers = self._chart.peers
        self._reached = {one: limit for one, limit in self._reached.items() if one in peers}
        for peer_id, books in peers.items():
            limit = max(books.terms.credit_limit, self._reached.get(peer_id, 0))
            if books.granted > limit and not books.removed:
                self._to_reach.setdefault(peer_id, limit)

    async def raise_at_start(self, terms: PeerTerms) -> None:
        """Grant a peer its limit if it has less, before the outbox's holds on it are booked."""
        books = self._chart.peers[terms.peer_id]
        await self._grant(books, lambda there: max(0, terms.credit_limit - there.granted))

    async def grant_at_start(self, terms: PeerTerms) -> None:
        """Grant a peer its limit, or what it uses if that is more."""
        books = self._chart.peers[terms.peer_id]
        await self._grant(books, lambda there: there.towards(terms.credit_limit))
        if books.granted > terms.credit_limit:
            self._leave_in_use(books)

    def _leave_in_use(self, books: PeerBooks) -> None:
        """Keep the credit that a peer uses granted; `take_back` lowers it as the peer pays."""
        self._to_reach[books.terms.peer_id] = books.terms.credit_limit
        self._reports.alert(
            "credit_limit_in_use",
            {
                "peerId": books.terms.peer_id,
                "configured": str(books.terms.credit_limit),
                "granted": str(books.granted),
            },
        )

    async def take_back(self) -> None:
        """Lower credit above a limit as far as it is unused; called about once a second.

        Where the answer to a grant was lost, what is granted is read from the ledger first.
        """
        for peer_id, limit in list(self._to_reach.items()):
            books = self._chart.peers.get(peer_id)
            if books is None or books.removed:
                del self._to_reach[peer_id]
                self._in_doubt.pop(peer_id, None)
                continue
            takes = min(books.granted - limit, books.available_credit) > 0
            if self._availability.is_up and (takes or peer_id in self._in_doubt):
                try:
                    await self._reach(books, limit)
                except (CreditInUseError, LedgerUnavailableError, LedgerRefusedError):
                    continue  # tried again in a second

    async def _reach(self, books: PeerBooks, limit: int) -> None:
        peer_id = books.terms.peer_id
        was_in_doubt = peer_id in self._in_doubt

        def change_of(there: _There) -> int:
            above = there.granted - limit
            if above < 0:
                return -above if was_in_doubt else 0
            # What is unused in the mirror may still be held in the ledger, and the reverse.
            return -max(0, min(above, there.free, books.available_credit))

        await self._grant(books, change_of)
        if books.granted <= limit and peer_id not in self._in_doubt:
            self._to_reach.pop(peer_id, None)

    def mirror_grants(self, transfers: Iterable[Transfer]) -> None:
        """Count in the mirror the credit that `transfers` grant above limits.

        Corrections among `transfers` book amounts that the mirror has already.
        """
        for grant in transfers:
            assert grant.code in (TransferCode.CREDIT, TransferCode.CORRECTION), grant.code
            if grant.code == TransferCode.CREDIT:
                peer = self._chart.by_id[grant.credit_account_id]
                self._mirror.move(self._chart.by_id[grant.debit_account_id], peer, grant.amount)
                limit = self._chart.peers[peer.peer_id].terms.credit_limit
                self._to_reach.setdefault(peer.peer_id, limit)

    async def _grant(self, books: PeerBooks, change_of: Callable[[_There], int]) -> int:
        """Change the credit granted to a peer, computed from the ledger's own balances.

        The balances are read and the grant is made in one turn, so the effect of an earlier request
        is seen, acknowledged or not. The id of a grant is derived from the balances of the credit
        line, which every grant changes: of two requests computed from the same balances the ledger
        accepts only the first, even if the other was delayed for long.

        Raises:
            CreditInUseError: the peer uses more than would be left.
            LedgerUnavailableError: no acknowledgement.
        """
        async with self._turn as ledger:
            there = await self._look(ledger, books)
            for _ in range(bounds.GRANT_TRIES_MAX):
                change = change_of(there)
                if not change:
                    return 0
                transfer = grant_transfer(books, change, there.line, there.refused)
                self._in_doubt[books.terms.peer_id] = transfer
                status = (await ledger.create_transfers([transfer]))[0]
                if status in DONE:
                    del self._in_doubt[books.terms.peer_id]
                    self._mirror.grant(books, change)
                    return change
                if status is Status.EXCEEDS_CREDITS:
                    del self._in_doubt[books.terms.peer_id]
                    raise CreditInUseError(
                        f"peer {books.terms.peer_id} uses {there.granted - there.free} of its "
                        f"credit of {there.granted}; a limit of {there.granted + change} is below "
                        "that: let it pay first"
                    )
                refused = there.refused
                if status is Status.ID_ALREADY_FAILED:
                    del self._in_doubt[books.terms.peer_id]
                    refused += 1
                # Else an earlier request was booked first: its effect is seen in the next round.
                there = (await self._look(ledger, books))._replace(refused=refused)
        raise LedgerNotNowError(
            f"the credit of peer {books.terms.peer_id} is being changed by others as well"
        )

    async def _look(self, ledger: Ledger, books: PeerBooks) -> _There:
        """Read what the ledger has granted; corrects the mirror if an answer was lost."""
        ids = [books.credit_line.account_id, books.peer.account_id]
        in_doubt = self._in_doubt.get(books.terms.peer_id)
        line, peer = await self._chart.look_up_all(ledger, ids)
        if in_doubt is not None and await ledger.lookup_transfers([in_doubt.id]):
            del self._in_doubt[books.terms.peer_id]
            raised = in_doubt.debit_account_id == books.credit_line.account_id
            # Unless the mirror has been reconciled with the ledger meanwhile.
            known = books.credit_line.posted
            if line.debits_posted > known.debits if raised else line.credits_posted > known.credits:
                self._mirror.grant(books, in_doubt.amount if raised else -in_doubt.amount)
        return _There(
            Posted(line.debits_posted, line.credits_posted),
            peer.credits_posted - peer.debits_posted - peer.debits_pending,
        )

    # --- at a start without the ledger

    def promise(self, books: PeerBooks) -> None:
        """Grant a peer its limit in the mirror only, or what it uses if that is more."""
        peer_id = books.terms.peer_id
        assert peer_id not in self._promised, peer_id
        wanted = books.terms.credit_limit - books.granted
        promised = max(wanted, -max(0, books.available_credit))
        self._promised[peer_id] = promised
        self._mirror.grant(books, promised)

    async def keep_promise(
        self, books: PeerBooks, line: Posted, peer: Posted, *, may_lower: bool
    ) -> tuple[Posted, Posted]:
        """Grant in the ledger what the mirror has granted, as far as it is possible.

        Args:
            books: of the peer.
            line: the balances that the mirror assumes for its credit line in the ledger.
            peer: the balances that it assumes for its account.
            may_lower: whether credit may be taken back, too; else that is done by a later call.

        Returns:
            The balances to assume for both now.

        Raises:
            LedgerUnavailableError: no acknowledgement; call again with the same balances.
        """
        limit = books.terms.credit_limit
        peer_id = books.terms.peer_id
        async with self._turn as ledger:
            for _ in range(bounds.GRANT_TRIES_MAX):
                there = await self._look(ledger, books)
                change = there.towards(limit)
                if not change or (change < 0 and not may_lower):
                    break
                transfer = grant_transfer(books, change, there.line, there.refused)
                await ledger.create_transfers([transfer])
            else:
                raise LedgerNotNowError(f"the credit of peer {peer_id} is being changed")
        if change < 0:
            return line, peer
        # The other side of every transfer of a credit line is the peer's account.
        raised, lowered = there.line.debits - line.debits, there.line.credits - line.credits
        self._mirror.undo_grant(books, self._promised.pop(peer_id, 0))
        self._mirror.follow(books.credit_line, there.line, line)
        followed = Posted(peer.debits + lowered, peer.credits + raised)
        self._mirror.follow(books.peer, followed, peer)
        if may_lower and books.granted > limit:
            self._leave_in_use(books)
        return there.line, followed

    def withdraw_promises(self) -> None:
        """Undo grants that exist in the mirror only, before its balances are saved."""
        for peer_id in list(self._promised):
            self.withdraw_promise(peer_id)

    def withdraw_promise(self, peer_id: str) -> None:
        """Undo a grant that exists in the mirror only, if there is one: the peer was removed."""
        promised = self._promised.pop(peer_id, 0)
        books = self._chart.peers.get(peer_id)
        if books is not None:  # else its accounts have left the mirror as well
            self._mirror.undo_grant(books, promised)


class _There(NamedTuple):
    """A peer's credit as the ledger has it."""

    line: Posted
    """On the credit line."""
    free: int
    """Credit that is neither used nor held."""
    refused: int = 0
    """Grants refused at these balances; their ids are used up, so they are part of the next id."""

    @property
    def granted(self) -> int:
        """Credit that the ledger lets the peer use."""
        return self.line.debits - self.line.credits

    def towards(self, limit: int) -> int:
        """The change that brings it to `limit`, or as near to that as the credit in use allows."""
        return max(limit - self.granted, -max(0, self.free))
