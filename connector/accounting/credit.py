"""Credit: what peers may owe us, granted in the ledger itself.

Credit above a limit comes from corrections and from limits that were lowered while in use; it is
taken back as the peer pays.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

from connector.accounting.availability import Availability
from connector.accounting.chart import Chart
from connector.accounting.entries import grant_transfer
from connector.accounting.mirror import Mirror, PeerBooks
from connector.accounting.reports import Reports
from connector.accounting.turn import Turn
from connector.base.errors import CreditInUseError, LedgerRefusedError, LedgerUnavailableError
from connector.ledger.model import DONE, Posted, Status, Transfer, TransferCode
from connector.peering.model import PeerTerms


class Credit:
    """Grants of credit. The only one who knows what was granted above a limit."""

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
        self._above_limit: dict[str, int] = {}
        # Granted in the mirror at a start without the ledger, which has yet to be told.
        self._promised: dict[str, int] = {}

    async def set_limit(self, peer_id: str, limit: int) -> None:
        """Let a peer owe us up to `limit`: the difference to what is granted is transferred.

        Raises:
            CreditInUseError: it already uses more than that.
            LedgerUnavailableError: no acknowledgement.
        """
        assert limit >= 0, limit
        books = self._chart.peers[peer_id]
        change = limit - books.granted
        if change:
            await self._grant(books, change)
        if books.granted > limit:
            self._above_limit[peer_id] = books.granted - limit  # a correction came meanwhile
        else:
            self._above_limit.pop(peer_id, None)

    async def grant_at_start(self, terms: PeerTerms) -> None:
        """Grant a peer its limit; where it uses more than that, what it uses."""
        try:
            await self.set_limit(terms.peer_id, terms.credit_limit)
        except CreditInUseError:
            books = self._chart.peers[terms.peer_id]
            free = max(0, books.available_credit)
            with contextlib.suppress(CreditInUseError):
                least = max(terms.credit_limit, books.granted - free)
                await self.set_limit(terms.peer_id, least)
            self._leave_in_use(books)

    def _leave_in_use(self, books: PeerBooks) -> None:
        """Leave a peer the credit that it uses; `take_back` lowers it as the peer pays."""
        self._above_limit[books.terms.peer_id] = books.granted - books.terms.credit_limit
        self._reports.alert(
            "credit_limit_in_use",
            {
                "peerId": books.terms.peer_id,
                "configured": str(books.terms.credit_limit),
                "granted": str(books.granted),
            },
        )

    async def take_back(self) -> None:
        """Lower what was granted above a limit, as far as it is free; called about every second."""
        for peer_id, above in list(self._above_limit.items()):
            books = self._chart.peers.get(peer_id)
            if books is None or books.removed:
                del self._above_limit[peer_id]
                continue
            free = min(above, books.available_credit)
            if free <= 0 or not self._availability.is_up:
                continue
            try:
                await self._grant(books, -free)
            except CreditInUseError:
                continue  # it has sent packets meanwhile
            except (LedgerUnavailableError, LedgerRefusedError):
                # It may have been done, and must not be done twice: the next start sees to it.
                self._above_limit.pop(peer_id, None)
                continue
            left = self._above_limit.pop(peer_id, 0) - free
            if left > 0:
                self._above_limit[peer_id] = left

    def mirror_grants(self, transfers: Iterable[Transfer]) -> None:
        """Count what is granted above limits for what was promised.

        Corrections among `transfers` book what the mirror has already.
        """
        for grant in transfers:
            assert grant.code in (TransferCode.CREDIT, TransferCode.CORRECTION), grant.code
            if grant.code == TransferCode.CREDIT:
                peer = self._chart.by_id[grant.credit_account_id]
                self._mirror.move(self._chart.by_id[grant.debit_account_id], peer, grant.amount)
                above = self._above_limit.get(peer.peer_id, 0)
                self._above_limit[peer.peer_id] = above + grant.amount

    async def _grant(self, books: PeerBooks, change: int) -> None:
        """Book a change of the credit granted to a peer, in the ledger and in the mirror.

        The id follows from the balances that it changes: two processes that share the accounts of
        a node, and start together, grant once.
        """
        peer = books.peer
        there = (
            books.credit_line.posted,
            Posted(peer.debits_posted + peer.debits_pending, peer.credits_posted),
        )
        transfer = grant_transfer(books, change, there)
        async with self._turn as ledger:
            status = (await ledger.create_transfers([transfer]))[0]
        if status in (Status.EXCEEDS_CREDITS, Status.ID_ALREADY_FAILED):
            raise CreditInUseError(
                f"peer {books.terms.peer_id} uses {books.granted - books.available_credit} of its "
                f"credit of {books.granted}; a limit of {books.granted + change} is below that: "
                "let it pay first"
            )
        assert status in DONE, status
        self._mirror.grant(books, change)

    # --- at a start without the ledger

    def promise(self, books: PeerBooks) -> None:
        """Grant a peer its limit in the mirror, or as near to it as what it uses allows."""
        peer_id = books.terms.peer_id
        assert peer_id not in self._promised, peer_id
        wanted = books.terms.credit_limit - books.granted
        promised = max(wanted, -max(0, books.available_credit))
        self._promised[peer_id] = promised
        self._mirror.grant(books, promised)

    async def keep_promise(
        self, books: PeerBooks, line: Posted, peer: Posted
    ) -> tuple[Posted, Posted]:
        """Grant in the ledger what the mirror has granted; or what it can be.

        Args:
            books: of the peer.
            line: what the ledger has on its credit line.
            peer: what the ledger has on its account.

        Returns:
            What the ledger has on both now.

        Raises:
            LedgerUnavailableError: no acknowledgement; ask again with the same balances.
        """
        change = books.terms.credit_limit - (line.debits - line.credits)
        if not await self._is_granted(books, change, (line, peer)):
            change = max(change, -max(0, peer.credits - peer.debits))
            if not await self._is_granted(books, change, (line, peer)):
                change = 0
        self._mirror.undo_grant(books, self._promised.pop(books.terms.peer_id, 0))
        self._mirror.grant(books, change)
        if books.granted > books.terms.credit_limit:
            self._leave_in_use(books)
        raised, lowered = max(change, 0), max(-change, 0)
        assert raised - lowered == change
        return (
            Posted(line.debits + raised, line.credits + lowered),
            Posted(peer.debits + lowered, peer.credits + raised),
        )

    def withdraw_promises(self) -> None:
        """Take what the ledger was never told out of the mirror, before it is saved."""
        for peer_id, promised in self._promised.items():
            self._mirror.undo_grant(self._chart.peers[peer_id], promised)
        self._promised.clear()

    async def _is_granted(
        self, books: PeerBooks, change: int, there: tuple[Posted, Posted]
    ) -> bool:
        if not change:
            return True
        async with self._turn as ledger:
            statuses = await ledger.create_transfers([grant_transfer(books, change, there)])
        return statuses[0] in DONE
