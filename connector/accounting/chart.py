"""The chart of accounts: which accounts a node has, and creating them in the ledger."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from connector.accounting.mirror import Book, Mirror, PeerBooks
from connector.base.errors import ConnectorError, LedgerUnavailableError
from connector.ledger.interface import Ledger
from connector.ledger.model import (
    ACCOUNT_DEBITS_MUST_NOT_EXCEED_CREDITS,
    ACCOUNT_HISTORY,
    Account,
    AccountCode,
    AccountStatus,
    asset_ledger,
    node_tag,
    peer_tag,
)
from connector.peering.model import LOCAL, Asset, PeerTerms

_OWN: Final = (AccountCode.REVENUE, AccountCode.EXCHANGE, AccountCode.WALLET)
_OF_PEER: Final = (AccountCode.PEER, AccountCode.CREDIT_LINE, AccountCode.SETTLEMENT)


class Chart:
    """The accounts of a node, by peer, by kind and by id."""

    def __init__(self, node_id: str, *, keeps_history: bool) -> None:
        self.node_id: Final = node_id
        self.peers: Final[dict[str, PeerBooks]] = {}
        self.by_id: Final[dict[int, Book]] = {}
        self._own: dict[tuple[AccountCode, Asset], Book] = {}
        self.wallets: Final[dict[str, Book]] = {}
        """Accounts of those that can be paid here by name."""
        self._keeps_history = keeps_history

    # --- which exist

    def own(self, code: AccountCode, asset: Asset) -> Book:
        """One of the node's own accounts in an asset that is in use."""
        return self._own[code, asset]

    def find_own(self, code: AccountCode, asset: Asset) -> Book | None:
        """One of the node's own accounts; None: no peer uses this asset."""
        return self._own.get((code, asset))

    def credit_line_of(self, peer_account_id: int) -> int | None:
        """The credit line beside the account of a peer; None: it is no peer's account."""
        book = self.by_id.get(peer_account_id)
        if book is None or book.code is not AccountCode.PEER:
            return None
        return self.peers[book.peer_id].credit_line.account_id

    def add_asset(self, asset: Asset) -> list[Book]:
        """Add the node's own accounts in an asset; returns those that are new.

        Raises:
            ConnectorError: another asset has the same ledger number.
        """
        if (AccountCode.WALLET, asset) in self._own:
            return []
        number = asset_ledger(asset.code, asset.scale)
        for (_, other), book in self._own.items():
            if book.ledger == number:
                raise ConnectorError(f"assets {other} and {asset} share a ledger number")
        books = [Book(self.node_id, code, LOCAL, asset) for code in _OWN]
        for book in books:
            self._own[book.code, asset] = book
            self.by_id[book.account_id] = book
        return books

    def add_wallets(self, names: Iterable[str], asset: Asset) -> None:
        """Add an account for each name, in an asset that is in use."""
        assert (AccountCode.WALLET, asset) in self._own, asset
        for name in names:
            book = Book(self.node_id, AccountCode.WALLET, LOCAL, asset, wallet=name)
            self.wallets[name] = book
            self.by_id[book.account_id] = book

    def add_peer(self, terms: PeerTerms, *, removed: bool = False) -> list[Book]:
        """Add the accounts of a peer; replaces those under earlier terms."""
        assert terms.peer_id != LOCAL
        books = [Book(self.node_id, code, terms.peer_id, terms.asset) for code in _OF_PEER]
        self.peers[terms.peer_id] = PeerBooks(terms, books[0], books[1], books[2], removed)
        self.by_id.update((book.account_id, book) for book in books)
        return books

    def take_back_peer(self, peer_id: str, new: Iterable[Book], former: PeerBooks | None) -> None:
        """Undo `add_peer` and its `add_asset` after their accounts could not be created."""
        for book in new:
            del self.by_id[book.account_id]
            self._own.pop((book.code, book.asset), None)
        del self.peers[peer_id]
        if former is not None:
            self.peers[peer_id] = former

    def forget_peer(self, peer_id: str) -> None:
        """Drop a removed peer whose balance is zero and for which nothing is held."""
        books = self.peers[peer_id]
        assert books.removed, peer_id
        assert books.is_even, peer_id
        del self.peers[peer_id]
        for book in (books.peer, books.credit_line, books.settlement):
            del self.by_id[book.account_id]

    # --- in the ledger

    async def create(self, ledger: Ledger, books: Iterable[Book]) -> int:
        """Create accounts that are missing; returns how many existed already.

        Raises:
            ConnectorError: the ledger has an account with this id and other properties.
            LedgerUnavailableError: no acknowledgement.
        """
        accounts = [
            Account(
                id=book.account_id,
                user_data_128=node_tag(self.node_id),
                user_data_64=peer_tag(book.peer_id),
                user_data_32=book.code,
                ledger=book.ledger,
                code=book.code,
                flags=self._flags_of(book),
            )
            for book in books
        ]
        existed = 0
        for at in range(0, len(accounts), ledger.batch_transfers_max):
            part = accounts[at : at + ledger.batch_transfers_max]
            statuses = await ledger.create_accounts(part)
            differing: list[Account] = []
            for account, status in zip(part, statuses, strict=True):
                if status is AccountStatus.EXISTS_WITH_DIFFERENT_FLAGS:
                    differing.append(account)
                elif status not in (AccountStatus.CREATED, AccountStatus.EXISTS):
                    raise _cannot_be_created(account, status)
                existed += status is not AccountStatus.CREATED
            await self._differ_in_history_only(ledger, differing)
        assert 0 <= existed <= len(accounts)
        return existed

    def _flags_of(self, book: Book) -> int:
        flags = ACCOUNT_DEBITS_MUST_NOT_EXCEED_CREDITS if book.code is AccountCode.PEER else 0
        # The net balance needs the history of both (`PeerBooks`).
        if self._keeps_history and book.code in (AccountCode.PEER, AccountCode.CREDIT_LINE):
            flags |= ACCOUNT_HISTORY
        return flags

    async def _differ_in_history_only(self, ledger: Ledger, accounts: list[Account]) -> None:
        """Check that existing accounts differ from the wanted ones in the history flag only.

        That flag is fixed when an account is created. The status names the first difference only,
        so all other fields are compared here.
        """
        if not accounts:
            return
        found = await self.look_up(ledger, (account.id for account in accounts))
        by_id = {account.id: account for account in found}
        for account in accounts:
            there = by_id[account.id]
            as_wanted = account._replace(flags=account.flags ^ ACCOUNT_HISTORY)
            if there[5:11] != as_wanted[5:11]:
                raise _cannot_be_created(account, AccountStatus.EXISTS_WITH_DIFFERENT_FLAGS)

    async def look_up(self, ledger: Ledger, account_ids: Iterable[int]) -> list[Account]:
        """Look up accounts with their balances, in requests within the ledger's batch limit."""
        ids = list(account_ids)
        found: list[Account] = []
        for at in range(0, len(ids), ledger.batch_transfers_max):
            found += await ledger.lookup_accounts(ids[at : at + ledger.batch_transfers_max])
        assert len(found) <= len(ids)
        return found

    async def look_up_all(self, ledger: Ledger, account_ids: Sequence[int]) -> list[Account]:
        """Look up a few accounts that must exist, in the order of `account_ids`.

        Raises:
            LedgerUnavailableError: no answer, or one does not exist. A ledger without an account
                that was created in it is another one (`acknowledged`); its answers are not used.
        """
        found = {one.id: one for one in await ledger.lookup_accounts(account_ids)}
        for id_ in account_ids:
            if id_ not in found:
                raise LedgerUnavailableError(f"the ledger does not have account {id_:032x}")
        return [found[id_] for id_ in account_ids]

    async def load(self, ledger: Ledger, mirror: Mirror, books: Iterable[Book]) -> None:
        """Load the balances of accounts from the ledger into the mirror."""
        for account in await self.look_up(ledger, [book.account_id for book in books]):
            mirror.load(self.by_id[account.id], account)


def _cannot_be_created(account: Account, status: AccountStatus) -> ConnectorError:
    return ConnectorError(f"account {account.id:032x} cannot be created: {status.name}")
