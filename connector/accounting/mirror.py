"""The balances of a node's accounts in memory. Pure.

The mirror has all balances as they will be when everything queued is written: telemetry and
admission read it without a request to the ledger. With an empty queue it equals the ledger.

`Mirror` is the only writer of balances. Each of its moves changes both sides by the same amount, so
the sum of debits always equals the sum of credits.
"""

from __future__ import annotations

from connector.ledger.model import Account, AccountCode, Posted, account_id, asset_ledger
from connector.peering.model import Asset, PeerTerms


class Book:
    """The mirror of one account. Only `Mirror` changes its balances."""

    __slots__ = (
        "_credits_pending", "_credits_posted", "_debits_pending", "_debits_posted", "account_id",
        "asset", "code", "ledger", "peer_id",
    )  # fmt: skip

    def __init__(
        self, node_id: str, code: AccountCode, peer_id: str, asset: Asset, wallet: str = ""
    ) -> None:
        # A wallet with a name is an account of this node, and its name stands for a peer's in the id.
        self.account_id = account_id(node_id, code, wallet or peer_id, str(asset))
        self.code = code
        self.peer_id = peer_id
        self.asset = asset
        self.ledger = asset_ledger(asset.code, asset.scale)
        self._debits_pending = 0
        self._debits_posted = 0
        self._credits_pending = 0
        self._credits_posted = 0

    @property
    def debits_pending(self) -> int:
        """Held, to be debited if a packet is fulfilled."""
        return self._debits_pending

    @property
    def debits_posted(self) -> int:
        """Debited finally."""
        return self._debits_posted

    @property
    def credits_pending(self) -> int:
        """Held, to be credited if a packet is fulfilled."""
        return self._credits_pending

    @property
    def credits_posted(self) -> int:
        """Credited finally."""
        return self._credits_posted

    @property
    def posted(self) -> Posted:
        """Its posted debits and credits."""
        return Posted(self._debits_posted, self._credits_posted)

    @property
    def is_held(self) -> bool:
        """Whether money is held on it."""
        return bool(self._debits_pending or self._credits_pending)


class PeerBooks:
    """The accounts of one peer, and its balances without granted credit."""

    __slots__ = ("credit_line", "peer", "removed", "settlement", "terms")

    def __init__(
        self,
        terms: PeerTerms,
        peer: Book,
        credit_line: Book,
        settlement: Book,
        removed: bool = False,
    ) -> None:
        self.terms = terms
        self.peer = peer
        self.credit_line = credit_line
        self.settlement = settlement
        self.removed = removed
        """Whether the peer was removed: its balance stays until it is settled."""

    @property
    def is_even(self) -> bool:
        """Whether the net balance is zero and nothing is held."""
        return not self.net_balance and not self.peer.is_held

    @property
    def granted(self) -> int:
        """Credit that the ledger lets it use."""
        return self.credit_line._debits_posted - self.credit_line._credits_posted

    @property
    def debit_balance(self) -> int:
        """All that it has been debited: value it sent through us."""
        return self.peer._debits_posted - self.credit_line._credits_posted

    @property
    def credit_balance(self) -> int:
        """All that it has been credited: value we sent towards it."""
        return self.peer._credits_posted - self.credit_line._debits_posted

    @property
    def net_balance(self) -> int:
        """Positive: it owes us. Negative: we owe it."""
        return self.debit_balance - self.credit_balance

    @property
    def available_credit(self) -> int:
        """What it may still send."""
        book = self.peer
        return book._credits_posted - book._debits_posted - book._debits_pending

    @property
    def payable(self) -> int:
        """What we owe it if all that is pending towards it is fulfilled."""
        return self.credit_balance + self.peer._credits_pending - self.debit_balance


class Mirror:
    """The only writer of balances; notes which accounts have moved."""

    def __init__(self) -> None:
        self._moved: set[Book] | None = None

    def take_moved(self, watched: bool) -> set[Book]:
        """Accounts whose balances have changed since the last call.

        Changes are recorded only after a call with `watched`, until the next call.
        """
        moved = self._moved or set()
        self._moved = set() if watched else None
        return moved

    # --- packets

    def hold(self, debit: Book, credit: Book, amount: int) -> None:
        """Hold `amount`, above zero, between two accounts of one asset."""
        assert debit is not credit
        assert debit.ledger == credit.ledger
        debit._debits_pending += amount
        credit._credits_pending += amount
        if self._moved is not None:
            self._moved.update((debit, credit))

    def release(self, debit: Book, credit: Book, amount: int) -> None:
        """Release what was held: its packet was not fulfilled."""
        debit._debits_pending -= amount
        credit._credits_pending -= amount
        assert debit._debits_pending >= 0
        assert credit._credits_pending >= 0
        if self._moved is not None:
            self._moved.update((debit, credit))

    def post(self, debit: Book, credit: Book, amount: int) -> None:
        """Make final what was held: its packet was fulfilled."""
        debit._debits_pending -= amount
        credit._credits_pending -= amount
        assert debit._debits_pending >= 0
        assert credit._credits_pending >= 0
        debit._debits_posted += amount
        credit._credits_posted += amount
        if self._moved is not None:
            self._moved.update((debit, credit))

    # --- other changes

    def move(self, debit: Book, credit: Book, amount: int) -> None:
        """Debit and credit at once: credit granted, or a settlement."""
        assert debit is not credit
        assert debit.ledger == credit.ledger
        assert amount >= 0, amount
        debit._debits_posted += amount
        credit._credits_posted += amount
        if self._moved is not None:
            self._moved.update((debit, credit))

    def grant(self, books: PeerBooks, change: int) -> None:
        """Grant a peer more credit, or less if `change` is below zero."""
        if change < 0:
            self.move(books.peer, books.credit_line, -change)
        else:
            self.move(books.credit_line, books.peer, change)

    def undo_grant(self, books: PeerBooks, change: int) -> None:
        """Take back a grant that only the mirror knew of: it never went to the ledger."""
        debit, credit = books.credit_line, books.peer
        if change < 0:
            debit, credit = credit, debit
        debit._debits_posted -= abs(change)
        credit._credits_posted -= abs(change)
        assert debit._debits_posted >= 0
        assert credit._credits_posted >= 0
        if self._moved is not None:
            self._moved.update((debit, credit))

    def load(self, book: Book, account: Account) -> None:
        """Set all balances to those of the ledger."""
        assert book.account_id == account.id
        book._debits_pending = account.debits_pending
        book._debits_posted = account.debits_posted
        book._credits_pending = account.credits_pending
        book._credits_posted = account.credits_posted

    def forget_holds(self, book: Book) -> None:
        """Set its pending balances to zero; known holds are counted again, one by one."""
        book._debits_pending = book._credits_pending = 0

    def set_posted(self, book: Book, posted: Posted) -> bool:
        """Set the posted balances; returns whether they have changed."""
        assert posted.debits >= 0
        assert posted.credits >= 0
        if book.posted == posted:
            return False
        book._debits_posted, book._credits_posted = posted
        if self._moved is not None:
            self._moved.add(book)
        return True

    def follow(self, book: Book, there: Posted, assumed: Posted) -> None:
        """Correct the posted balances by what the ledger has (`there`) against what was assumed."""
        book._debits_posted += there.debits - assumed.debits
        book._credits_posted += there.credits - assumed.credits
        if self._moved is not None:
            self._moved.add(book)
