"""The rules of a ledger as a state machine: requests in, statuses out, no other effects.

TigerBeetle's semantics for all that the product uses: linked chains, pending transfers with
timeouts, post, void, account limits, idempotent ids. The time is an argument of a request, so the
same requests give the same state: the embedded ledger journals requests and replays them.

Only the newest transfers are in memory. `archive`, provided by the owner, looks up older ids; ids
rise with time, so it is rarely called.

Long because the rules share one state and are kept in the order of TigerBeetle's documentation, so
that they can be compared with it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Final

from connector.ledger import bounds
from connector.ledger.model import (
    ACCOUNT_CREDITS_MUST_NOT_EXCEED_DEBITS,
    ACCOUNT_DEBITS_MUST_NOT_EXCEED_CREDITS,
    ACCOUNT_HISTORY,
    ACCOUNT_LINKED,
    AMOUNT_MAX,
    ID_MAX,
    LINKED,
    PENDING,
    POST,
    VOID,
    Account,
    AccountStatus,
    Status,
    Transfer,
    make_transfer,
)

_KNOWN_FLAGS: Final = LINKED | PENDING | POST | VOID
_RESOLVE: Final = POST | VOID
_CREATED: Final = Status.CREATED
_KNOWN_ACCOUNT_FLAGS: Final = (
    ACCOUNT_LINKED
    | ACCOUNT_DEBITS_MUST_NOT_EXCEED_CREDITS
    | ACCOUNT_CREDITS_MUST_NOT_EXCEED_DEBITS
    | ACCOUNT_HISTORY
)
_USUAL_MAX: Final = (1 << 60) - 1
"""Sums of money beyond it are compared with the highest one, which costs a call."""
_NS: Final = 1_000_000_000
_NEVER_NS: Final = 1 << 80

# Failures that depend on the current state: they use up their ids, so that a retry cannot succeed
# after the first attempt was refused (TigerBeetle, "transient errors").
_TRANSIENT: Final = frozenset(
    (
        Status.DEBIT_ACCOUNT_NOT_FOUND,
        Status.CREDIT_ACCOUNT_NOT_FOUND,
        Status.PENDING_TRANSFER_NOT_FOUND,
        Status.EXCEEDS_CREDITS,
        Status.EXCEEDS_DEBITS,
    )
)

Record = tuple[Transfer, Status]
"""A transfer in the ledger, or a failed one that has used up its id, and its status."""
_PENDING_ID: Final = Transfer._fields.index("pending_id")
"""Its place among the fields of a transfer."""
_TIMESTAMP: Final = Transfer._fields.index("timestamp")
Archive = Callable[[int], Record | None]


class AccountState:
    """The balances of one account; changed in place."""

    __slots__ = (
        "code", "credits_pending", "credits_posted", "debits_pending", "debits_posted", "flags",
        "id", "ledger", "timestamp", "touched", "user_data_32", "user_data_64", "user_data_128",
    )  # fmt: skip

    def __init__(self, account: Account) -> None:
        (
            self.id, self.debits_pending, self.debits_posted, self.credits_pending,
            self.credits_posted, self.user_data_128, self.user_data_64, self.user_data_32,
            self.ledger, self.code, self.flags, self.timestamp,
        ) = account  # fmt: skip
        self.touched = True
        """Whether it has changed since the owner last saved it."""

    def snapshot(self) -> Account:
        """The account as a value."""
        return Account(
            self.id, self.debits_pending, self.debits_posted, self.credits_pending,
            self.credits_posted, self.user_data_128, self.user_data_64, self.user_data_32,
            self.ledger, self.code, self.flags, self.timestamp,
        )  # fmt: skip


class Entry:
    """A transfer in the ledger, or a failed one that has used up its id.

    As it was requested, and what the ledger has added: `transfer` puts both together, which few need.
    """

    __slots__ = ("amount", "at_ns", "pending", "requested", "status")

    def __init__(
        self,
        requested: Transfer,
        status: Status,
        at_ns: int,
        pending: Transfer | None,
        amount: int,
    ) -> None:
        self.requested = requested
        self.status = status
        self.at_ns = at_ns
        """Its timestamp; zero: it failed."""
        self.pending = pending
        """Of a resolution: the hold, as it was requested."""
        self.amount = amount
        """Of a resolution: how much is posted, or given back."""

    @property
    def transfer(self) -> Transfer:
        """As it is in the ledger; one that failed as it was requested."""
        requested, at_ns = self.requested, self.at_ns
        if requested[_TIMESTAMP] == at_ns:
            return requested
        pending = self.pending
        if pending is None:
            return make_transfer(requested[:12] + (at_ns,))  # noqa: RUF005 - without a list between
        id_, _, _, _, pending_id, data_128, data_64, data_32, _, _, _, flags, _ = requested
        return make_transfer(
            (
                id_, pending.debit_account_id, pending.credit_account_id, self.amount, pending_id,
                data_128 or pending.user_data_128, data_64 or pending.user_data_64,
                data_32 or pending.user_data_32, 0, pending.ledger, pending.code, flags, at_ns,
            )
        )  # fmt: skip

    @property
    def record(self) -> Record:
        """It, and its status."""
        return self.transfer, self.status


class Hold:
    """A pending transfer that is neither resolved nor expired."""

    __slots__ = ("at_ns", "credit", "debit", "expires_at_ns", "requested")

    def __init__(
        self, requested: Transfer, at_ns: int, debit: AccountState, credit: AccountState
    ) -> None:
        self.requested = requested
        self.at_ns = at_ns
        self.debit = debit
        self.credit = credit
        timeout = requested.timeout
        self.expires_at_ns = at_ns + timeout * _NS if timeout else 0

    @property
    def transfer(self) -> Transfer:
        """As it is in the ledger."""
        if self.requested.timestamp:
            return self.requested
        return make_transfer(self.requested[:12] + (self.at_ns,))  # noqa: RUF005 - as above


_Undo = Callable[[], None]


class LedgerMachine:
    """Accounts, open holds and the newest transfers, under the rules of the contract."""

    def __init__(self, *, archive: Archive | None = None) -> None:
        self.accounts: dict[int, AccountState] = {}
        self.holds: dict[int, Hold] = {}
        self.timestamp = 0
        """Timestamp of the last event, nanoseconds; every event gets a higher one."""
        self._archive = archive
        self._records: dict[int, Entry] = {}
        self._order: deque[int] = deque()
        self._closed: dict[int, Status] = {}
        self._earliest_ns = _NEVER_NS
        self._forgotten_id_max = 0

    # --- accounts

    def create_accounts(self, accounts: Sequence[Account], now_ns: int) -> list[AccountStatus]:
        """Create accounts at `now_ns`; a failing member of a linked chain rolls back the chain."""
        statuses: list[AccountStatus] = []
        index = 0
        while index < len(accounts):
            end = index
            while end < len(accounts) and accounts[end].flags & ACCOUNT_LINKED:
                end += 1
            statuses += self._create_account_chain(accounts[index : end + 1], now_ns)
            index = end + 1
        assert len(statuses) == len(accounts), (len(statuses), len(accounts))
        return statuses

    def _create_account_chain(self, chain: Sequence[Account], now_ns: int) -> list[AccountStatus]:
        created: list[int] = []
        for index, account in enumerate(chain):
            if account.flags & ACCOUNT_LINKED and index + 1 == len(chain):
                status = AccountStatus.LINKED_EVENT_CHAIN_OPEN
            else:
                status = self._create_account(account, now_ns)
            if status is not AccountStatus.CREATED:
                for id_ in created:
                    del self.accounts[id_]
                statuses = [AccountStatus.LINKED_EVENT_FAILED] * len(chain)
                statuses[index] = status
                if chain[-1].flags & ACCOUNT_LINKED:
                    statuses[-1] = AccountStatus.LINKED_EVENT_CHAIN_OPEN
                return statuses
            created.append(account.id)
        return [AccountStatus.CREATED] * len(chain)

    def _create_account(self, account: Account, now_ns: int) -> AccountStatus:
        both = ACCOUNT_DEBITS_MUST_NOT_EXCEED_CREDITS | ACCOUNT_CREDITS_MUST_NOT_EXCEED_DEBITS
        if account.timestamp:
            return AccountStatus.TIMESTAMP_MUST_BE_ZERO
        if account.flags & ~_KNOWN_ACCOUNT_FLAGS:
            return AccountStatus.RESERVED_FLAG
        if account.id == 0:
            return AccountStatus.ID_MUST_NOT_BE_ZERO
        if account.id == ID_MAX:
            return AccountStatus.ID_MUST_NOT_BE_INT_MAX
        if (old := self.accounts.get(account.id)) is not None:
            for field, status in _ACCOUNT_COMPARED:
                if getattr(old, field) != getattr(account, field):
                    return status
            return AccountStatus.EXISTS
        if account.flags & both == both:
            return AccountStatus.FLAGS_ARE_MUTUALLY_EXCLUSIVE
        for field, status in _ZERO_AT_FIRST:
            if getattr(account, field):
                return status
        if account.ledger == 0:
            return AccountStatus.LEDGER_MUST_NOT_BE_ZERO
        if account.code == 0:
            return AccountStatus.CODE_MUST_NOT_BE_ZERO
        self.timestamp = max(self.timestamp + 1, now_ns)
        self.accounts[account.id] = AccountState(account._replace(timestamp=self.timestamp))
        return AccountStatus.CREATED

    def restore(
        self, accounts: Iterable[Account], holds: Iterable[Transfer], timestamp: int
    ) -> None:
        """Restore a saved state: accounts with balances, open holds, last timestamp."""
        assert not self.accounts, "restored over a state in use"
        debits = credits_ = held = 0
        for account in accounts:
            self.accounts[account.id] = state = AccountState(account)
            state.touched = False
            debits += state.debits_pending
            credits_ += state.credits_pending
            assert state.timestamp <= timestamp, "an account is newer than the state it is saved in"
        for transfer in holds:
            self._open_hold(
                transfer,
                transfer.timestamp,
                self.accounts[transfer.debit_account_id],
                self.accounts[transfer.credit_account_id],
            )
            held += transfer.amount
        # They are saved together. In a damaged file they may differ (`journal.DAMAGE`).
        assert debits == held, "the pending debits are not what the open holds hold"
        assert credits_ == held, "the pending credits are not what the open holds hold"
        self.timestamp = timestamp

    # --- transfers

    def create_transfers(self, transfers: Sequence[Transfer], now_ns: int) -> list[Status]:
        """Execute a request that arrives at `now_ns`."""
        self.expire(now_ns)
        statuses: list[Status] = []
        index = 0
        count = len(transfers)
        while index < count:
            if not transfers[index].flags & LINKED:
                statuses.append(self._create(transfers[index], now_ns, None))
                index += 1
                continue
            end = index
            while end < count and transfers[end].flags & LINKED:
                end += 1
            if end == count:
                # The last event of the request is still linked: the chain is open.
                statuses.extend(self._create_open_chain(transfers[index:], now_ns))
                break
            statuses.extend(self._create_chain(transfers[index : end + 1], now_ns))
            index = end + 1
        assert len(statuses) == count, (len(statuses), count)
        # Once a request, not once a transfer.
        assert len(self._records) <= len(self._order), "a transfer that is never forgotten"
        assert len(self._closed) <= len(self._order), "a closed hold that is never forgotten"
        return statuses

    def _create_chain(self, chain: Sequence[Transfer], now_ns: int) -> list[Status]:
        undo: list[_Undo] = []
        for index, transfer in enumerate(chain):
            status = self._create(transfer, now_ns, undo)
            if status is not Status.CREATED:
                for step in reversed(undo):
                    step()
                if status in _TRANSIENT:
                    self._remember(transfer.id, Entry(transfer, status, 0, None, 0))
                statuses = [Status.LINKED_EVENT_FAILED] * len(chain)
                statuses[index] = status
                return statuses
        return [Status.CREATED] * len(chain)

    def _create_open_chain(self, chain: Sequence[Transfer], now_ns: int) -> list[Status]:
        """Refuse an open chain; an earlier fault in it keeps its own status."""
        undo: list[_Undo] = []
        statuses = [Status.LINKED_EVENT_FAILED] * len(chain)
        statuses[-1] = Status.LINKED_EVENT_CHAIN_OPEN
        for index, transfer in enumerate(chain[:-1]):
            status = self._create(transfer, now_ns, undo)
            if status is not Status.CREATED:
                statuses[index] = status
                break
        for step in reversed(undo):
            step()
        # Only now: a transfer that was rolled back may have had the same id.
        for transfer, status in zip(chain, statuses, strict=True):
            if status in _TRANSIENT:
                self._remember(transfer.id, Entry(transfer, status, 0, None, 0))
        return statuses

    def _create(self, transfer: Transfer, now_ns: int, undo: list[_Undo] | None) -> Status:
        id_, flags = transfer.id, transfer.flags
        # On the packet path: two tests for a well-formed transfer; others get their status here.
        # (A comparison with a number of more than 62 bits costs as much as a look-up.)
        if transfer.timestamp or flags & ~_KNOWN_FLAGS or id_ >= ID_MAX:
            return _fault_of(transfer)
        entry = self._records.get(id_)
        if entry is not None:
            return _compare(transfer, entry.record, self.find)
        if id_ <= self._forgotten_id_max:
            if id_ <= 0:
                return _fault_of(transfer)
            record = self._find(id_, transfer.pending_id)
            if record is not None:
                return _compare(transfer, record, self.find)
        if flags & _RESOLVE:
            return self._resolve(transfer, now_ns, undo)
        _, debit_id, credit_id, amount, pending_id, _, _, _, timeout, ledger, code, _, _ = transfer
        debit = self.accounts.get(debit_id)
        credit = self.accounts.get(credit_id)
        if (
            debit is credit
            or pending_id
            or (timeout and not flags & PENDING)
            or not ledger
            or not code
            or debit is None
            or credit is None
        ):
            status = _malformed(transfer)
            if status is not None:
                return status
            if debit is None:
                return self._used_up(transfer, Status.DEBIT_ACCOUNT_NOT_FOUND, undo)
            assert credit is None, "an account that is two"
            return self._used_up(transfer, Status.CREDIT_ACCOUNT_NOT_FOUND, undo)
        if debit.ledger != credit.ledger:
            return Status.ACCOUNTS_MUST_HAVE_THE_SAME_LEDGER
        if ledger != debit.ledger:
            return Status.TRANSFER_MUST_HAVE_THE_SAME_LEDGER_AS_ACCOUNTS
        debits = debit.debits_posted + debit.debits_pending + amount
        credits_ = credit.credits_posted + credit.credits_pending + amount
        if (debits > _USUAL_MAX and debits > AMOUNT_MAX) or (
            credits_ > _USUAL_MAX and credits_ > AMOUNT_MAX
        ):
            return _overflow(debit, credit, amount, pending=bool(flags & PENDING))
        if debit.flags & ACCOUNT_DEBITS_MUST_NOT_EXCEED_CREDITS and debits > debit.credits_posted:
            return self._used_up(transfer, Status.EXCEEDS_CREDITS, undo)
        if (
            credit.flags & ACCOUNT_CREDITS_MUST_NOT_EXCEED_DEBITS
            and credits_ > credit.debits_posted
        ):
            return self._used_up(transfer, Status.EXCEEDS_DEBITS, undo)
        previous = self.timestamp
        self.timestamp = at = now_ns if now_ns > previous else previous + 1
        assert at > previous, (at, previous)
        if flags & PENDING:
            debit.debits_pending += amount
            credit.credits_pending += amount
            self._open_hold(transfer, at, debit, credit)
        else:
            debit.debits_posted += amount
            credit.credits_posted += amount
        self._remember(id_, Entry(transfer, _CREATED, at, None, 0))
        debit.touched = credit.touched = True
        if undo is not None:
            undo.append(partial(self._undo_create, transfer, debit, credit))
        return _CREATED

    def _undo_create(self, transfer: Transfer, debit: AccountState, credit: AccountState) -> None:
        if transfer.flags & PENDING:
            debit.debits_pending -= transfer.amount
            credit.credits_pending -= transfer.amount
            assert debit.debits_pending >= 0
            assert credit.credits_pending >= 0
            del self.holds[transfer.id]
        else:
            debit.debits_posted -= transfer.amount
            credit.credits_posted -= transfer.amount
            assert debit.debits_posted >= 0
            assert credit.credits_posted >= 0
        del self._records[transfer.id]

    def _resolve(self, transfer: Transfer, now_ns: int, undo: list[_Undo] | None) -> Status:
        (
            id_, debit_id, credit_id, amount, pending_id, _, _, _, timeout, ledger, code, flags, _,
        ) = transfer  # fmt: skip
        if (flags & POST and flags & VOID) or flags & PENDING:
            return Status.FLAGS_ARE_MUTUALLY_EXCLUSIVE
        hold = self.holds.get(pending_id)
        if hold is None:
            # (No hold has one of these ids.)
            if pending_id == 0:
                return Status.PENDING_ID_MUST_NOT_BE_ZERO
            if pending_id == ID_MAX:
                return Status.PENDING_ID_MUST_NOT_BE_INT_MAX
            if pending_id == id_:
                return Status.PENDING_ID_MUST_BE_DIFFERENT
        if timeout:
            return Status.TIMEOUT_RESERVED_FOR_PENDING_TRANSFER
        if hold is None:
            record = self._find(pending_id, 0)
            if record is None or record[1] is not Status.CREATED:
                return self._used_up(transfer, Status.PENDING_TRANSFER_NOT_FOUND, undo)
            pending = record[0]
            if not pending.flags & PENDING:
                return Status.PENDING_TRANSFER_NOT_PENDING
        else:
            pending = hold.requested
        if debit_id and debit_id != pending.debit_account_id:
            return Status.PENDING_TRANSFER_HAS_DIFFERENT_DEBIT_ACCOUNT_ID
        if credit_id and credit_id != pending.credit_account_id:
            return Status.PENDING_TRANSFER_HAS_DIFFERENT_CREDIT_ACCOUNT_ID
        if ledger and ledger != pending.ledger:
            return Status.PENDING_TRANSFER_HAS_DIFFERENT_LEDGER
        if code and code != pending.code:
            return Status.PENDING_TRANSFER_HAS_DIFFERENT_CODE
        held = pending.amount
        if flags & POST:
            if amount > _USUAL_MAX and amount == AMOUNT_MAX:
                amount = held
            if amount > held:
                return Status.EXCEEDS_PENDING_TRANSFER_AMOUNT
        else:
            amount = amount or held
            if amount > held:
                return Status.EXCEEDS_PENDING_TRANSFER_AMOUNT
            if amount < held:
                return Status.PENDING_TRANSFER_HAS_DIFFERENT_AMOUNT
        if hold is None:
            return self._how_closed(pending_id)
        debit, credit = hold.debit, hold.credit
        debit.debits_pending -= held
        credit.credits_pending -= held
        assert debit.debits_pending >= 0
        assert credit.credits_pending >= 0
        assert 0 <= amount <= held
        posted = amount if flags & POST else 0
        if posted:
            debit.debits_posted += posted
            credit.credits_posted += posted
        del self.holds[pending_id]
        self._closed[pending_id] = (
            Status.PENDING_TRANSFER_ALREADY_POSTED
            if flags & POST
            else Status.PENDING_TRANSFER_ALREADY_VOIDED
        )
        previous = self.timestamp
        self.timestamp = at = now_ns if now_ns > previous else previous + 1
        assert at > previous, (at, previous)
        self._remember(id_, Entry(transfer, _CREATED, at, pending, amount))
        debit.touched = credit.touched = True
        if undo is not None:
            undo.append(partial(self._undo_resolve, hold, id_, posted))
        return _CREATED

    def _undo_resolve(self, hold: Hold, id_: int, posted: int) -> None:
        pending, debit, credit = hold.requested, hold.debit, hold.credit
        debit.debits_pending += pending.amount
        credit.credits_pending += pending.amount
        debit.debits_posted -= posted
        credit.credits_posted -= posted
        assert debit.debits_posted >= 0
        assert credit.credits_posted >= 0
        del self._closed[pending.id]
        assert pending.id not in self.holds, pending.id
        self._open_hold(pending, hold.at_ns, debit, credit)
        del self._records[id_]

    def expire(self, now_ns: int) -> int:
        """Void every hold whose timeout has passed at `now_ns`; returns how many.

        Scans the holds only when the earliest possible expiry has come: nearly all are resolved
        before, and cost nothing here.
        """
        if now_ns < self._earliest_ns:
            return 0
        due = [hold for hold in self.holds.values() if 0 < hold.expires_at_ns <= now_ns]
        for hold in due:
            requested = hold.requested
            hold.debit.debits_pending -= requested.amount
            hold.credit.credits_pending -= requested.amount
            assert hold.debit.debits_pending >= 0
            assert hold.credit.credits_pending >= 0
            hold.debit.touched = hold.credit.touched = True
            del self.holds[requested.id]
            if requested.id in self._records:
                self._closed[requested.id] = Status.PENDING_TRANSFER_EXPIRED
        self._earliest_ns = min(
            (hold.expires_at_ns for hold in self.holds.values() if hold.expires_at_ns),
            default=_NEVER_NS,
        )
        assert self._earliest_ns > now_ns, (self._earliest_ns, now_ns)
        return len(due)

    def next_expiry_ns(self) -> int | None:
        """A whole second before which no hold expires; None if no hold has a timeout."""
        moments = [hold.expires_at_ns for hold in self.holds.values() if hold.expires_at_ns]
        return min(moments) // _NS * _NS if moments else None

    # --- memory of transfers

    def stored(self, transfers: Sequence[Transfer], statuses: Sequence[Status]) -> list[Transfer]:
        """The transfers of the request just executed, as they are in the ledger now.

        One that was not created is returned as it was requested.
        """
        records = self._records
        return [
            records[transfer.id].transfer if status is _CREATED else transfer
            for transfer, status in zip(transfers, statuses, strict=True)
        ]

    def entries(
        self, transfers: Sequence[Transfer], statuses: Sequence[Status]
    ) -> list[Entry] | None:
        """As `stored`, not put together; None unless all were created."""
        if statuses.count(_CREATED) != len(statuses):
            return None
        records = self._records
        return [records[transfer.id] for transfer in transfers]

    def find(self, id_: int) -> Record | None:
        """The transfer under `id_`, or the failed one that used it up."""
        return self._find(id_, 0)

    def may_be_archived(self, id_: int) -> bool:
        """Whether only the archive can tell if there is a transfer under `id_`."""
        return (
            id_ not in self._records and id_ <= self._forgotten_id_max and self._archive is not None
        )

    def records(self) -> Iterator[Record]:
        """The transfers in memory, oldest first."""
        for entry in self._records.values():
            yield entry.record

    def remember(self, record: Record) -> None:
        """Restore a transfer from the journal without executing it; call it oldest first."""
        transfer, status = record
        self._remember(transfer.id, Entry(transfer, status, transfer.timestamp, None, 0))
        if status is Status.CREATED and transfer.flags & (POST | VOID):
            self._closed[transfer.pending_id] = (
                Status.PENDING_TRANSFER_ALREADY_POSTED
                if transfer.flags & POST
                else Status.PENDING_TRANSFER_ALREADY_VOIDED
            )

    def forget_below(self, id_max: int) -> None:
        """Ids up to `id_max` that are not in memory may be in the archive from now on."""
        self._forgotten_id_max = max(self._forgotten_id_max, id_max)

    def _find(self, id_: int, pending_id: int) -> Record | None:
        entry = self._records.get(id_)
        if entry is not None:
            return entry.record
        # Above every archived id: certainly new. A resolution of an open hold in our id scheme (the
        # hold's id with another phase) is new as well, otherwise the hold would be closed.
        if id_ > self._forgotten_id_max or self._archive is None:
            return None
        if pending_id in self.holds and id_ >> 8 == pending_id >> 8:
            return None
        return self._archive(id_)

    def _remember(self, id_: int, entry: Entry) -> None:
        self._records[id_] = entry
        self._order.append(id_)
        if len(self._order) > bounds.LEDGER_REMEMBERED_TRANSFERS_MAX:
            oldest = self._order.popleft()
            forgotten = self._records.pop(oldest, None)
            self._closed.pop(oldest, None)
            if forgotten is not None:
                pending_id = forgotten.requested[_PENDING_ID]
                if pending_id:
                    # Its hold was forgotten before it was closed.
                    self._closed.pop(pending_id, None)
            self._forgotten_id_max = max(self._forgotten_id_max, oldest)

    def _used_up(self, transfer: Transfer, status: Status, undo: list[_Undo] | None) -> Status:
        if undo is None:
            self._remember(transfer.id, Entry(transfer, status, 0, None, 0))
        return status

    def _how_closed(self, pending_id: int) -> Status:
        closed = self._closed.get(pending_id)
        if closed is not None:
            return closed
        # The hold is closed: its resolution, if there was one, is archived by our id scheme.
        resolution = self._find(pending_id | 0x10, 0)
        if resolution is None or resolution[0].pending_id != pending_id:
            return Status.PENDING_TRANSFER_EXPIRED
        if resolution[0].flags & POST:
            return Status.PENDING_TRANSFER_ALREADY_POSTED
        return Status.PENDING_TRANSFER_ALREADY_VOIDED

    def _open_hold(
        self, requested: Transfer, at_ns: int, debit: AccountState, credit: AccountState
    ) -> None:
        self.holds[requested.id] = hold = Hold(requested, at_ns, debit, credit)
        if 0 < hold.expires_at_ns < self._earliest_ns:
            self._earliest_ns = hold.expires_at_ns


def _overflow(debit: AccountState, credit: AccountState, amount: int, *, pending: bool) -> Status:
    """Which balance would not fit into 128 bits, in TigerBeetle's order."""
    if pending and debit.debits_pending + amount > AMOUNT_MAX:
        return Status.OVERFLOWS_DEBITS_PENDING
    if pending and credit.credits_pending + amount > AMOUNT_MAX:
        return Status.OVERFLOWS_CREDITS_PENDING
    if debit.debits_posted + amount > AMOUNT_MAX:
        return Status.OVERFLOWS_DEBITS_POSTED
    if credit.credits_posted + amount > AMOUNT_MAX:
        return Status.OVERFLOWS_CREDITS_POSTED
    if debit.debits_pending + debit.debits_posted + amount > AMOUNT_MAX:
        return Status.OVERFLOWS_DEBITS
    return Status.OVERFLOWS_CREDITS


def _malformed(transfer: Transfer) -> Status | None:
    """Why a transfer that is not well-formed by itself is refused, in TigerBeetle's order; None: it is."""
    (
        id_, debit_id, credit_id, _, pending_id, _, _, _, timeout, ledger, code, flags, timestamp,
    ) = transfer  # fmt: skip
    faults = (
        (timestamp, Status.TIMESTAMP_MUST_BE_ZERO),
        (flags & ~_KNOWN_FLAGS, Status.RESERVED_FLAG),
        (id_ == 0, Status.ID_MUST_NOT_BE_ZERO),
        (id_ == ID_MAX, Status.ID_MUST_NOT_BE_INT_MAX),
        (debit_id == 0, Status.DEBIT_ACCOUNT_ID_MUST_NOT_BE_ZERO),
        (debit_id == ID_MAX, Status.DEBIT_ACCOUNT_ID_MUST_NOT_BE_INT_MAX),
        (credit_id == 0, Status.CREDIT_ACCOUNT_ID_MUST_NOT_BE_ZERO),
        (credit_id == ID_MAX, Status.CREDIT_ACCOUNT_ID_MUST_NOT_BE_INT_MAX),
        (debit_id == credit_id, Status.ACCOUNTS_MUST_BE_DIFFERENT),
        (pending_id, Status.PENDING_ID_MUST_BE_ZERO),
        (timeout and not flags & PENDING, Status.TIMEOUT_RESERVED_FOR_PENDING_TRANSFER),
        (ledger == 0, Status.LEDGER_MUST_NOT_BE_ZERO),
        (code == 0, Status.CODE_MUST_NOT_BE_ZERO),
    )
    return next((status for is_so, status in faults if is_so), None)


def _fault_of(transfer: Transfer) -> Status:
    """`_malformed` of one that is."""
    status = _malformed(transfer)
    assert status is not None, transfer
    return status


def _compare(transfer: Transfer, record: Record, find: Archive) -> Status:
    """The status of a transfer whose id exists, in TigerBeetle's order of checks."""
    old, status = record
    if status is not Status.CREATED:
        return Status.ID_ALREADY_FAILED
    if transfer.flags != old.flags:
        return Status.EXISTS_WITH_DIFFERENT_FLAGS
    if transfer.pending_id != old.pending_id:
        return Status.EXISTS_WITH_DIFFERENT_PENDING_ID
    if transfer.timeout != old.timeout:
        return Status.EXISTS_WITH_DIFFERENT_TIMEOUT
    if transfer.flags & (POST | VOID):
        # Fields left out of a resolution were taken from its pending transfer.
        pending = find(old.pending_id)
        transfer = _completed(transfer, old if pending is None else pending[0])
    for field, differs in _COMPARED:
        if getattr(transfer, field) != getattr(old, field):
            return differs
    return Status.EXISTS


def _completed(transfer: Transfer, pending: Transfer) -> Transfer:
    """A resolution with what it leaves out filled in from the transfer that it resolves."""
    all_of_it = AMOUNT_MAX if transfer.flags & POST else 0
    return transfer._replace(
        debit_account_id=transfer.debit_account_id or pending.debit_account_id,
        credit_account_id=transfer.credit_account_id or pending.credit_account_id,
        amount=pending.amount if transfer.amount == all_of_it else transfer.amount,
        user_data_128=transfer.user_data_128 or pending.user_data_128,
        user_data_64=transfer.user_data_64 or pending.user_data_64,
        user_data_32=transfer.user_data_32 or pending.user_data_32,
        ledger=transfer.ledger or pending.ledger,
        code=transfer.code or pending.code,
    )


_COMPARED: Final = (
    ("debit_account_id", Status.EXISTS_WITH_DIFFERENT_DEBIT_ACCOUNT_ID),
    ("credit_account_id", Status.EXISTS_WITH_DIFFERENT_CREDIT_ACCOUNT_ID),
    ("amount", Status.EXISTS_WITH_DIFFERENT_AMOUNT),
    ("user_data_128", Status.EXISTS_WITH_DIFFERENT_USER_DATA_128),
    ("user_data_64", Status.EXISTS_WITH_DIFFERENT_USER_DATA_64),
    ("user_data_32", Status.EXISTS_WITH_DIFFERENT_USER_DATA_32),
    ("ledger", Status.EXISTS_WITH_DIFFERENT_LEDGER),
    ("code", Status.EXISTS_WITH_DIFFERENT_CODE),
)
_ACCOUNT_COMPARED: Final = (
    ("flags", AccountStatus.EXISTS_WITH_DIFFERENT_FLAGS),
    ("user_data_128", AccountStatus.EXISTS_WITH_DIFFERENT_USER_DATA_128),
    ("user_data_64", AccountStatus.EXISTS_WITH_DIFFERENT_USER_DATA_64),
    ("user_data_32", AccountStatus.EXISTS_WITH_DIFFERENT_USER_DATA_32),
    ("ledger", AccountStatus.EXISTS_WITH_DIFFERENT_LEDGER),
    ("code", AccountStatus.EXISTS_WITH_DIFFERENT_CODE),
)
_ZERO_AT_FIRST: Final = (
    ("debits_pending", AccountStatus.DEBITS_PENDING_MUST_BE_ZERO),
    ("debits_posted", AccountStatus.DEBITS_POSTED_MUST_BE_ZERO),
    ("credits_pending", AccountStatus.CREDITS_PENDING_MUST_BE_ZERO),
    ("credits_posted", AccountStatus.CREDITS_POSTED_MUST_BE_ZERO),
)
