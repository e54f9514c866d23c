"""The rules of a ledger: what the contract suite cannot see from outside, and every branch.

What transfers may do and what they are answered is in tests/conformance/test_ledger_contract.py;
here the same rules are walked through briefly, so that this file alone covers the machine.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from connector.ledger import bounds as ledger_bounds
from connector.ledger.machine import LedgerMachine, Record
from connector.ledger.model import (
    ACCOUNT_LINKED,
    AMOUNT_MAX,
    ID_MAX,
    LINKED,
    PENDING,
    PHASE_RESOLVE,
    POST,
    VOID,
    Account,
    AccountStatus,
    Status,
    Transfer,
)

NS = 1_000_000_000
PEER, BANK, SINK, OTHER = 1, 2, 3, 4
ACCOUNTS = (
    Account(PEER, ledger=1, code=1, flags=2),
    Account(BANK, ledger=1, code=1),
    Account(SINK, ledger=1, code=1, flags=4),
    Account(OTHER, ledger=2, code=1),
)
MOVE = Transfer(0x100, BANK, PEER, 10, ledger=1, code=1)
SPEND = MOVE._replace(debit_account_id=PEER, credit_account_id=BANK)
HOLD = MOVE._replace(flags=PENDING)
POSTED = Transfer(0x110, 0, 0, AMOUNT_MAX, HOLD.id, flags=POST)
VOIDED = Transfer(0x110, 0, 0, 0, HOLD.id, flags=VOID)


@dataclass
class Archive:
    """Remembers what a test puts in, and what it was asked."""

    records: dict[int, Record] = field(default_factory=dict)
    asked: list[int] = field(default_factory=list)

    def __call__(self, id_: int) -> Record | None:
        self.asked.append(id_)
        return self.records.get(id_)


def machine(archive: Archive | None = None) -> LedgerMachine:
    made = LedgerMachine(archive=archive)
    assert set(made.create_accounts(ACCOUNTS, 1)) == {AccountStatus.CREATED}
    return made


def write(machine: LedgerMachine, *transfers: Transfer, now_ns: int = NS) -> list[Status]:
    return machine.create_transfers(transfers, now_ns)


def balances(machine: LedgerMachine, id_: int) -> tuple[int, ...]:
    return machine.accounts[id_].snapshot()[1:5]


@pytest.mark.parametrize(
    ("transfer", "status"),
    [
        (MOVE, Status.CREATED),
        (MOVE._replace(timestamp=1), Status.TIMESTAMP_MUST_BE_ZERO),
        (MOVE._replace(flags=1 << 9), Status.RESERVED_FLAG),
        (MOVE._replace(id=0), Status.ID_MUST_NOT_BE_ZERO),
        (MOVE._replace(id=ID_MAX), Status.ID_MUST_NOT_BE_INT_MAX),
        (MOVE._replace(debit_account_id=0), Status.DEBIT_ACCOUNT_ID_MUST_NOT_BE_ZERO),
        (MOVE._replace(debit_account_id=ID_MAX), Status.DEBIT_ACCOUNT_ID_MUST_NOT_BE_INT_MAX),
        (MOVE._replace(credit_account_id=0), Status.CREDIT_ACCOUNT_ID_MUST_NOT_BE_ZERO),
        (MOVE._replace(credit_account_id=ID_MAX), Status.CREDIT_ACCOUNT_ID_MUST_NOT_BE_INT_MAX),
        (MOVE._replace(credit_account_id=BANK), Status.ACCOUNTS_MUST_BE_DIFFERENT),
        (MOVE._replace(pending_id=1), Status.PENDING_ID_MUST_BE_ZERO),
        (MOVE._replace(timeout=1), Status.TIMEOUT_RESERVED_FOR_PENDING_TRANSFER),
        (MOVE._replace(ledger=0), Status.LEDGER_MUST_NOT_BE_ZERO),
        (MOVE._replace(code=0), Status.CODE_MUST_NOT_BE_ZERO),
        (MOVE._replace(debit_account_id=9), Status.DEBIT_ACCOUNT_NOT_FOUND),
        (MOVE._replace(credit_account_id=9), Status.CREDIT_ACCOUNT_NOT_FOUND),
        (MOVE._replace(credit_account_id=OTHER), Status.ACCOUNTS_MUST_HAVE_THE_SAME_LEDGER),
        (MOVE._replace(ledger=2), Status.TRANSFER_MUST_HAVE_THE_SAME_LEDGER_AS_ACCOUNTS),
        (SPEND, Status.EXCEEDS_CREDITS),
        (MOVE._replace(credit_account_id=SINK), Status.EXCEEDS_DEBITS),
        (MOVE._replace(flags=POST | VOID), Status.FLAGS_ARE_MUTUALLY_EXCLUSIVE),
        (MOVE._replace(flags=POST | PENDING), Status.FLAGS_ARE_MUTUALLY_EXCLUSIVE),
        (POSTED._replace(pending_id=0), Status.PENDING_ID_MUST_NOT_BE_ZERO),
        (POSTED._replace(pending_id=ID_MAX), Status.PENDING_ID_MUST_NOT_BE_INT_MAX),
        (POSTED._replace(pending_id=POSTED.id), Status.PENDING_ID_MUST_BE_DIFFERENT),
        (POSTED._replace(timeout=1), Status.TIMEOUT_RESERVED_FOR_PENDING_TRANSFER),
        (POSTED, Status.PENDING_TRANSFER_NOT_FOUND),
    ],
)
def test_the_first_fault_is_named(transfer: Transfer, status: Status) -> None:
    assert write(machine(), transfer) == [status]


@pytest.mark.parametrize(
    ("transfer", "status"),
    [
        (POSTED, Status.CREATED),
        (VOIDED, Status.CREATED),
        (VOIDED._replace(amount=10), Status.CREATED),
        (POSTED._replace(amount=0), Status.CREATED),
        (
            POSTED._replace(debit_account_id=9),
            Status.PENDING_TRANSFER_HAS_DIFFERENT_DEBIT_ACCOUNT_ID,
        ),
        (
            POSTED._replace(credit_account_id=9),
            Status.PENDING_TRANSFER_HAS_DIFFERENT_CREDIT_ACCOUNT_ID,
        ),
        (POSTED._replace(ledger=9), Status.PENDING_TRANSFER_HAS_DIFFERENT_LEDGER),
        (POSTED._replace(code=9), Status.PENDING_TRANSFER_HAS_DIFFERENT_CODE),
        (POSTED._replace(amount=11), Status.EXCEEDS_PENDING_TRANSFER_AMOUNT),
        (VOIDED._replace(amount=11), Status.EXCEEDS_PENDING_TRANSFER_AMOUNT),
        (VOIDED._replace(amount=9), Status.PENDING_TRANSFER_HAS_DIFFERENT_AMOUNT),
        (HOLD, Status.EXISTS),
        (HOLD._replace(flags=0), Status.EXISTS_WITH_DIFFERENT_FLAGS),
        (HOLD._replace(pending_id=1), Status.EXISTS_WITH_DIFFERENT_PENDING_ID),
        (HOLD._replace(timeout=1), Status.EXISTS_WITH_DIFFERENT_TIMEOUT),
        (HOLD._replace(amount=1), Status.EXISTS_WITH_DIFFERENT_AMOUNT),
    ],
)
def test_resolutions_and_retries_are_compared_with_their_hold(
    transfer: Transfer, status: Status
) -> None:
    held = machine()
    assert write(held, HOLD, transfer) == [Status.CREATED, status]


def test_only_a_hold_can_be_resolved() -> None:
    assert write(machine(), MOVE, POSTED)[1] is Status.PENDING_TRANSFER_NOT_PENDING


@pytest.mark.parametrize(
    ("first", "again", "closed"),
    [
        (POSTED, VOIDED, Status.PENDING_TRANSFER_ALREADY_POSTED),
        (VOIDED, POSTED, Status.PENDING_TRANSFER_ALREADY_VOIDED),
    ],
)
def test_a_hold_is_resolved_once(first: Transfer, again: Transfer, closed: Status) -> None:
    assert write(
        machine(), HOLD, first, first, again, first._replace(id=7), again._replace(id=8)
    ) == [
        Status.CREATED,
        Status.CREATED,
        Status.EXISTS,
        Status.EXISTS_WITH_DIFFERENT_FLAGS,
        closed,
        closed,
    ]


@pytest.mark.parametrize("resolution", [POSTED, VOIDED])
def test_a_failing_chain_is_rolled_back_in_reverse(resolution: Transfer) -> None:
    books = machine()
    write(books, HOLD._replace(timeout=5))
    before = [account.snapshot() for account in books.accounts.values()]
    chain = (
        resolution._replace(flags=resolution.flags | LINKED),
        MOVE._replace(id=0x200, flags=LINKED),
        HOLD._replace(id=0x300, flags=PENDING | LINKED, timeout=9),
        SPEND._replace(id=0x400, amount=1000),
    )
    failed = Status.LINKED_EVENT_FAILED
    assert write(books, *chain) == [failed, failed, failed, Status.EXCEEDS_CREDITS]
    assert [account.snapshot() for account in books.accounts.values()] == before
    assert list(books.holds) == [HOLD.id]
    assert books.find(0x300) is None
    assert write(books, chain[3]) == [Status.ID_ALREADY_FAILED]
    assert books.next_expiry_ns() == 6 * NS
    assert write(books, resolution) == [Status.CREATED]


def test_a_chain_with_invalid_fields_uses_up_no_id() -> None:
    books = machine()
    bad = MOVE._replace(id=0x200, code=0)
    assert write(books, MOVE._replace(flags=LINKED), bad) == [
        Status.LINKED_EVENT_FAILED,
        Status.CODE_MUST_NOT_BE_ZERO,
    ]
    assert write(books, bad._replace(code=1), MOVE) == [Status.CREATED, Status.CREATED]


def test_a_valid_chain_is_created_whole() -> None:
    assert write(machine(), MOVE._replace(flags=LINKED), SPEND._replace(id=5)) == [
        Status.CREATED,
        Status.CREATED,
    ]


@pytest.mark.parametrize(
    ("account", "status"), [(BANK, Status.LINKED_EVENT_FAILED), (9, Status.DEBIT_ACCOUNT_NOT_FOUND)]
)
def test_an_open_chain_moves_nothing(account: int, status: Status) -> None:
    books = machine()
    chain = [
        MOVE._replace(id=0x200, flags=LINKED),
        MOVE._replace(id=0x300, flags=LINKED, debit_account_id=account),
        MOVE._replace(id=0x400, flags=LINKED),
    ]
    assert write(books, *chain) == [
        Status.LINKED_EVENT_FAILED,
        status,
        Status.LINKED_EVENT_CHAIN_OPEN,
    ]
    assert balances(books, BANK) == (0, 0, 0, 0)
    assert (books.find(0x300) is None) is (status is Status.LINKED_EVENT_FAILED)


@pytest.mark.parametrize(
    ("before", "after", "debit", "status"),
    [
        (PENDING, PENDING, BANK, Status.OVERFLOWS_DEBITS_PENDING),
        (PENDING, PENDING, SINK, Status.OVERFLOWS_CREDITS_PENDING),
        (0, 0, BANK, Status.OVERFLOWS_DEBITS_POSTED),
        (0, 0, SINK, Status.OVERFLOWS_CREDITS_POSTED),
        (PENDING, 0, BANK, Status.OVERFLOWS_DEBITS),
        (PENDING, 0, SINK, Status.OVERFLOWS_CREDITS),
    ],
)
def test_balances_do_not_overflow(before: int, after: int, debit: int, status: Status) -> None:
    books = machine()
    write(books, MOVE._replace(amount=AMOUNT_MAX, flags=before))
    over = MOVE._replace(id=7, amount=1, debit_account_id=debit, flags=after)
    assert write(books, over) == [status]


# --- accounts


@pytest.mark.parametrize(
    ("account", "status"),
    [
        (ACCOUNTS[0], AccountStatus.EXISTS),
        (ACCOUNTS[0]._replace(code=2), AccountStatus.EXISTS_WITH_DIFFERENT_CODE),
        (Account(9, timestamp=1), AccountStatus.TIMESTAMP_MUST_BE_ZERO),
        (Account(9, flags=1 << 9), AccountStatus.RESERVED_FLAG),
        (Account(0), AccountStatus.ID_MUST_NOT_BE_ZERO),
        (Account(ID_MAX), AccountStatus.ID_MUST_NOT_BE_INT_MAX),
        (Account(9, flags=6), AccountStatus.FLAGS_ARE_MUTUALLY_EXCLUSIVE),
        (Account(9, credits_posted=1), AccountStatus.CREDITS_POSTED_MUST_BE_ZERO),
        (Account(9), AccountStatus.LEDGER_MUST_NOT_BE_ZERO),
        (Account(9, ledger=1), AccountStatus.CODE_MUST_NOT_BE_ZERO),
        (Account(9, ledger=1, code=1, flags=ACCOUNT_LINKED), AccountStatus.LINKED_EVENT_CHAIN_OPEN),
    ],
)
def test_the_first_fault_of_an_account_is_named(account: Account, status: AccountStatus) -> None:
    assert machine().create_accounts([account], 2) == [status]


def test_a_broken_chain_of_accounts_leaves_none() -> None:
    books = machine()
    linked = Account(9, ledger=1, code=1, flags=ACCOUNT_LINKED)
    failed = AccountStatus.LINKED_EVENT_FAILED
    assert books.create_accounts([linked, Account(10)], 2) == [
        failed,
        AccountStatus.LEDGER_MUST_NOT_BE_ZERO,
    ]
    assert books.create_accounts([linked, linked._replace(id=0), linked], 2) == [
        failed,
        AccountStatus.ID_MUST_NOT_BE_ZERO,
        AccountStatus.LINKED_EVENT_CHAIN_OPEN,
    ]
    assert 9 not in books.accounts


# --- time


def test_timestamps_rise_when_the_clock_stops_or_goes_back() -> None:
    books = machine()
    for id_, now_ns in ((0x100, 50), (0x200, 50), (0x300, 10), (0x400, 60)):
        write(books, HOLD._replace(id=id_), now_ns=now_ns)
    write(books, POSTED, now_ns=1)
    found = [books.find(id_) for id_ in (0x100, 0x200, 0x300, 0x400, 0x110)]
    assert [record and record[0].timestamp for record in found] == [50, 51, 52, 60, 61]
    assert books.create_accounts([Account(9, ledger=1, code=1)], 1) == [AccountStatus.CREATED]
    assert books.accounts[9].timestamp == 62


def test_holds_expire_to_the_nanosecond() -> None:
    books = machine()
    write(books, HOLD._replace(timeout=2), now_ns=NS + 5)
    assert books.next_expiry_ns() == 3 * NS
    assert books.expire(3 * NS + 4) == 0
    assert balances(books, BANK) == (10, 0, 0, 0)
    assert books.expire(3 * NS + 5) == 1
    assert balances(books, BANK) == (0, 0, 0, 0)
    assert books.next_expiry_ns() is None
    assert write(books, POSTED) == [Status.PENDING_TRANSFER_EXPIRED]
    assert write(books, HOLD._replace(timeout=2)) == [Status.EXISTS]


def test_holds_that_expire_in_the_same_second_are_independent() -> None:
    books = machine()
    write(books, HOLD._replace(timeout=1), now_ns=NS)
    write(books, HOLD._replace(id=0x200, timeout=1), now_ns=NS + 5)
    assert books.expire(2 * NS) == 1
    assert list(books.holds) == [0x200]
    assert write(books, POSTED._replace(id=0x210, pending_id=0x200)) == [Status.CREATED]
    assert books.next_expiry_ns() is None


# --- memory


def test_a_saved_state_is_restored() -> None:
    books = machine()
    write(books, MOVE, HOLD._replace(id=0x200, timeout=5))
    again = LedgerMachine()
    again.restore(
        [account.snapshot() for account in books.accounts.values()],
        [hold.transfer for hold in books.holds.values()],
        books.timestamp,
    )
    for transfer, status in books.records():
        again.remember((transfer, status))
    assert again.next_expiry_ns() == books.next_expiry_ns()
    assert write(again, MOVE, POSTED._replace(id=0x210, pending_id=0x200)) == [
        Status.EXISTS,
        Status.CREATED,
    ]
    assert balances(again, BANK) == (0, 20, 0, 0)


@pytest.mark.parametrize(
    ("resolution", "closed"),
    [
        (POSTED, Status.PENDING_TRANSFER_ALREADY_POSTED),
        (VOIDED, Status.PENDING_TRANSFER_ALREADY_VOIDED),
    ],
)
def test_resolutions_restored_from_the_journal_close_their_hold(
    resolution: Transfer, closed: Status
) -> None:
    books = machine()
    books.remember((HOLD, Status.CREATED))
    books.remember((SPEND._replace(id=0x900), Status.EXCEEDS_CREDITS))
    books.remember((resolution, Status.CREATED))
    assert write(books, resolution._replace(id=0x500)) == [closed]
    assert write(books, SPEND._replace(id=0x900)) == [Status.ID_ALREADY_FAILED]


@pytest.mark.interpreted
def test_old_transfers_are_looked_up_in_the_archive(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ledger_bounds, "LEDGER_REMEMBERED_TRANSFERS_MAX", 2)
    archive = Archive()
    books = machine(archive)
    write(books, *(MOVE._replace(id=n) for n in (0x100, 0x200, 0x300)))
    assert len(list(books.records())) == 2
    archive.records[0x100] = (MOVE, Status.CREATED)
    assert write(books, MOVE._replace(id=0x100)) == [Status.EXISTS]
    assert archive.asked == [0x100]
    # Above all that was forgotten nothing need be looked up.
    assert write(books, MOVE._replace(id=0x101)) == [Status.CREATED]
    assert archive.asked == [0x100]


def test_the_archive_is_not_asked_for_the_resolution_of_an_open_hold() -> None:
    """Else every post after a restart would wait for the disk."""
    archive = Archive()
    books = machine(archive)
    books.forget_below(0x1000)
    write(books, HOLD)
    archive.asked.clear()
    assert write(books, POSTED) == [Status.CREATED]
    assert archive.asked == []


@pytest.mark.parametrize(
    ("resolution", "closed"),
    [
        (None, Status.PENDING_TRANSFER_EXPIRED),
        (POSTED._replace(pending_id=0x900), Status.PENDING_TRANSFER_EXPIRED),
        (POSTED, Status.PENDING_TRANSFER_ALREADY_POSTED),
        (VOIDED, Status.PENDING_TRANSFER_ALREADY_VOIDED),
    ],
)
def test_the_archive_says_how_an_old_hold_was_closed(
    resolution: Transfer | None, closed: Status
) -> None:
    archive = Archive({HOLD.id: (HOLD, Status.CREATED)})
    if resolution is not None:
        archive.records[HOLD.id | PHASE_RESOLVE] = (resolution, Status.CREATED)
    books = machine(archive)
    books.forget_below(0x1000)
    assert write(books, POSTED._replace(id=0x777)) == [closed]


def test_a_resolution_of_an_old_hold_can_be_retried(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without an archive what it left out cannot be known; it is taken as sent."""
    monkeypatch.setattr(ledger_bounds, "LEDGER_REMEMBERED_TRANSFERS_MAX", 2)
    books = machine()
    write(books, HOLD, MOVE._replace(id=0x900), POSTED)
    assert write(books, POSTED) == [Status.EXISTS]


@pytest.mark.interpreted
@pytest.mark.parametrize("resolution", [POSTED, VOIDED, None])
def test_what_is_known_of_closed_holds_is_bounded(
    monkeypatch: pytest.MonkeyPatch, resolution: Transfer | None
) -> None:
    """Also of those that are closed when their holds are no longer in memory."""
    monkeypatch.setattr(ledger_bounds, "LEDGER_REMEMBERED_TRANSFERS_MAX", 2)
    books = machine()
    write(books, HOLD._replace(timeout=1), *(MOVE._replace(id=n) for n in (0x900, 0xA00, 0xB00)))
    if resolution is None:
        assert books.expire(NS + 10**10) == 1
    else:
        assert write(books, resolution) == [Status.CREATED]
        assert write(books, resolution._replace(id=0xC00)) != [Status.CREATED]
        write(books, *(MOVE._replace(id=n) for n in (0xD00, 0xE00, 0xF00)))
    assert not books.holds
    assert not books._closed
