"""Transfers and accounts as octets, in both layouts."""

from __future__ import annotations

import struct

import pytest

from connector.ledger.machine import Entry, LedgerMachine
from connector.ledger.model import (
    AMOUNT_MAX,
    PENDING,
    POST,
    VOID,
    Account,
    Status,
    Transfer,
)
from connector.ledger.rows import (
    pack_accounts,
    pack_dense,
    pack_entries,
    pack_transfer,
    pack_transfers,
    read_statuses,
    unpack_accounts,
    unpack_dense,
    unpack_transfers,
)

A, B = 2**127 + 1, 2**64 - 1
NUMBERS = {A: 0, B: 1, 0: 2**32 - 1}
HOLD = Transfer(7 << 8, A, B, 2**64 - 1, 0, 2**127 + 3, 4, 5, 6, 1, 1, PENDING, 9)
POSTED = HOLD._replace(id=(7 << 8) + 16, pending_id=7 << 8, flags=POST)
VOIDED = Transfer((7 << 8) + 17, pending_id=7 << 8, flags=VOID)


def test_a_batch_is_the_concatenation_of_its_rows() -> None:
    rows = pack_transfers([HOLD, POSTED, VOIDED])
    each = [pack_transfer(one, one.timestamp) for one in (HOLD, POSTED, VOIDED)]
    assert bytes(rows) == b"".join(each)
    assert unpack_transfers(bytes(rows)) == [HOLD, POSTED, VOIDED]


def test_accounts_round_trip() -> None:
    accounts = [
        Account(A, 2**128 - 1, 2, 2**127, 4, 2**126, 2**64 - 1, 2**32 - 1, 9, 2**16 - 1, 11, 12),
        Account(B, ledger=1, code=1),
    ]
    assert unpack_accounts(bytes(pack_accounts(accounts))) == accounts
    with pytest.raises(struct.error):
        pack_accounts([accounts[0]._replace(code=2**16)])


def test_each_row_has_one_status() -> None:
    def rows(*statuses: Status) -> bytes:
        return b"".join(struct.pack("<QII", 123, status, 0) for status in statuses)

    assert read_statuses(rows(Status.CREATED, Status.CREATED), 2) == [Status.CREATED] * 2
    mixed = Status.CREATED, Status.EXISTS, Status.EXCEEDS_CREDITS
    assert read_statuses(rows(*mixed), 3) == list(mixed)
    assert read_statuses(b"", 0) == []


def test_dense_rows_round_trip() -> None:
    rows = pack_dense([HOLD, POSTED, VOIDED], NUMBERS)
    assert len(rows) == 3 * 81
    assert list(unpack_dense(bytes(rows), [A, B])) == [HOLD, POSTED, VOIDED]
    asked = [one._replace(timestamp=0) for one in (HOLD, POSTED, VOIDED)]
    assert list(unpack_dense(bytes(rows), [A, B], stamped=False)) == asked


@pytest.mark.parametrize(
    "fields",
    [
        {"pending_id": 9 << 8, "flags": POST},  # of another packet
        {"pending_id": 7 << 8},  # neither post nor void
        {"flags": VOID},  # of nothing
        {"debit_account_id": 3},  # an account that has no number
    ],
)
def test_fields_that_do_not_fit_in_a_dense_row_are_reported(fields: dict[str, int]) -> None:
    with pytest.raises(KeyError):
        pack_dense([HOLD._replace(**fields)], NUMBERS)


def test_a_large_amount_does_not_fit_in_a_dense_row() -> None:
    with pytest.raises(struct.error):
        pack_dense([HOLD._replace(amount=2**64)], NUMBERS)


def booked(*requested: Transfer) -> tuple[list[Entry], list[Transfer]]:
    """Transfers in a ledger: as it keeps them, and put together."""
    machine = LedgerMachine()
    machine.create_accounts([Account(one, ledger=1, code=1) for one in (A, B)], 1)
    statuses = machine.create_transfers(requested, 10**18)
    entries = machine.entries(requested, statuses)
    assert entries is not None
    return entries, machine.stored(requested, statuses)


def test_rows_of_a_ledger_are_those_of_its_transfers_put_together() -> None:
    hold = HOLD._replace(amount=50, timestamp=0)
    other = hold._replace(id=8 << 8, user_data_128=0)
    third = hold._replace(id=9 << 8)
    entries, stored = booked(
        hold._replace(id=6 << 8, timeout=0, flags=0),
        hold,
        other,
        third,
        Transfer(hold.id + 16, amount=AMOUNT_MAX, pending_id=hold.id, flags=POST),
        Transfer(other.id + 16, 0, 0, 20, other.id, 2**127, 2**63, 2**31, 0, 1, 1, flags=POST),
        Transfer(third.id + 17, pending_id=third.id, flags=VOID),
    )
    rows = pack_entries(entries, NUMBERS)
    assert rows == pack_dense(stored, NUMBERS)
    assert list(unpack_dense(bytes(rows), [A, B])) == stored
    assert [one.amount for one in stored[4:]] == [50, 20, 50]
    assert [one.user_data_128 for one in stored[4:]] == [hold.user_data_128, 2**127, 2**127 + 3]


def test_what_does_not_fit_in_the_rows_of_a_ledger_is_reported() -> None:
    hold = HOLD._replace(amount=50, timestamp=0)
    of_another, _ = booked(hold, Transfer(9 << 8, amount=1, pending_id=hold.id, flags=POST))
    with pytest.raises(KeyError):
        pack_entries(of_another, NUMBERS)
    with pytest.raises(KeyError):
        pack_entries(of_another[:1], {A: 0})
    large, _ = booked(hold._replace(amount=2**64))
    with pytest.raises(struct.error):
        pack_entries(large, NUMBERS)


def test_there_are_entries_only_of_a_request_of_which_all_was_created() -> None:
    machine = LedgerMachine()
    statuses = machine.create_transfers([HOLD._replace(timestamp=0)], 10**18)
    assert statuses == [Status.DEBIT_ACCOUNT_NOT_FOUND]
    assert machine.entries([HOLD], statuses) is None
