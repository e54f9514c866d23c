"""Transfers and accounts as octets: TigerBeetle's layout, and a denser one for the journal.

Pure, and compiled where supported: every transfer is encoded here.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import Any, Final

from connector.ledger import bounds
from connector.ledger.machine import Entry
from connector.ledger.model import POST, VOID, Account, Status, Transfer

ROW: Final = struct.Struct("<QQQQQQQQQQQQQIIIHHQ")
"""A transfer in 128 octets, TigerBeetle's layout."""
ACCOUNT_ROW: Final = struct.Struct("<QQQQQQQQQQQQQIIIHHQ")
_WIDE_ROW: Final = struct.Struct("<16s16s16sQQ16s16sQIIIHHQ")
"""The same, with ids as octets: halves of them would be new integers each."""
assert ROW.size == _WIDE_ROW.size == 128
_ZERO: Final = bytes(16)
_ACCOUNT_IDS: Final[dict[int, bytes]] = {}
_RESULT_OCTETS: Final = 16
_CREATED: Final = int(Status.CREATED)
_STATUS: Final = {int(status): status for status in Status}
_LOW: Final = (1 << 64) - 1


def pack_transfer(transfer: Transfer, timestamp: int = 0) -> bytes:
    """The 128 octets of a transfer.

    Raises:
        struct.error: a field is wider than its place.
    """
    (
        id_,
        debit,
        credit,
        amount,
        pending,
        data_128,
        data_64,
        data_32,
        timeout,
        ledger,
        code,
        flags,
        _,
    ) = transfer
    return ROW.pack(
        id_ & _LOW, id_ >> 64, debit & _LOW, debit >> 64, credit & _LOW, credit >> 64,
        amount & _LOW, amount >> 64, pending & _LOW, pending >> 64, data_128 & _LOW,
        data_128 >> 64, data_64, data_32, timeout, ledger, code, flags, timestamp,
    )  # fmt: skip


def unpack_transfer(octets: bytes, at: int = 0) -> Transfer:
    """The transfer in the 128 octets from `at`."""
    (
        id_low, id_high, debit_low, debit_high, credit_low, credit_high, amount_low, amount_high,
        pending_low, pending_high, data_low, data_high, data_64, data_32, timeout, ledger, code,
        flags, timestamp,
    ) = ROW.unpack_from(octets, at)  # fmt: skip
    return Transfer(
        id_high << 64 | id_low, debit_high << 64 | debit_low, credit_high << 64 | credit_low,
        amount_high << 64 | amount_low, pending_high << 64 | pending_low,
        data_high << 64 | data_low, data_64, data_32, timeout, ledger, code, flags, timestamp,
    )  # fmt: skip


def pack_transfers(transfers: Sequence[Transfer]) -> bytearray:
    """Rows of 128 octets.

    Raises:
        struct.error, OverflowError: a field is wider than its place.
    """
    rows = bytearray(len(transfers) * ROW.size)
    pack_into = _WIDE_ROW.pack_into
    accounts = _ACCOUNT_IDS
    low = _LOW
    at = 0
    for (
        id_, debit, credit, amount, pending, data_128, data_64, data_32, timeout, ledger, code,
        flags, timestamp,
    ) in transfers:  # fmt: skip
        pack_into(
            rows, at, id_.to_bytes(16, "little"),
            accounts.get(debit) or _account_id(debit), accounts.get(credit) or _account_id(credit),
            amount & low, amount >> 64, pending.to_bytes(16, "little") if pending else _ZERO,
            data_128.to_bytes(16, "little") if data_128 else _ZERO,
            data_64, data_32, timeout, ledger, code, flags, timestamp,
        )  # fmt: skip
        at += 128
    assert at == len(rows), (at, len(rows))
    return rows


def _account_id(id_: int) -> bytes:
    """The octets of an account's id, which are kept: the same few are in almost all transfers."""
    if len(_ACCOUNT_IDS) >= bounds.ACCOUNT_IDS_KEPT_MAX:
        _ACCOUNT_IDS.clear()
    octets = _ACCOUNT_IDS[id_] = id_.to_bytes(16, "little")
    return octets


def read_statuses(octets: bytes, count: int) -> list[Status]:
    """One status per row of 16 octets: timestamp, status, reserved."""
    assert len(octets) == count * _RESULT_OCTETS, (len(octets), count)
    codes = memoryview(octets).cast("I")[2::4].tolist()
    if codes.count(_CREATED) == count:
        return [Status.CREATED] * count
    return [_STATUS[code] for code in codes]


def unpack_transfers(octets: bytes) -> list[Transfer]:
    """The transfers in rows of 128 octets."""
    assert len(octets) % ROW.size == 0, len(octets)
    return [unpack_transfer(octets, at) for at in range(0, len(octets), ROW.size)]


def pack_accounts(accounts: Sequence[Account]) -> bytearray:
    """Rows of 128 octets.

    Raises:
        struct.error: a field is wider than its place.
    """
    rows = bytearray(len(accounts) * ACCOUNT_ROW.size)
    for index, account in enumerate(accounts):
        wide = [word for field in account[:6] for word in (field & _LOW, field >> 64)]
        data_64, data_32, *rest = account[6:]
        ACCOUNT_ROW.pack_into(rows, index * ACCOUNT_ROW.size, *wide, data_64, data_32, 0, *rest)
    return rows


def unpack_accounts(octets: bytes) -> list[Account]:
    """The accounts in rows of 128 octets."""
    return [
        Account._make(
            (
                *(low | high << 64 for low, high in zip(row[0:12:2], row[1:12:2], strict=True)),
                row[12], row[13], *row[15:],
            )
        )
        for row in ACCOUNT_ROW.iter_unpack(octets)
    ]  # fmt: skip


_DENSE_ROW: Final = struct.Struct("<QQIIQQQQIIIHHBQ")
"""id (low, high), numbers of the accounts, amount, user_data (128 low and high, 64, 32), timeout,
ledger, code, flags, low octet of the pending id, timestamp."""
_DENSE_WIDE_ROW: Final = struct.Struct("<16sIIQ16sQIIIHHBQ")
"""The same, with ids as octets."""
assert _DENSE_ROW.size == _DENSE_WIDE_ROW.size
_DENSE_TAG_AT: Final = 32
NO_ACCOUNT: Final = (1 << 32) - 1
_RESOLVES: Final = int(POST | VOID)
# The places of the fields of a transfer.
_ID: Final = 0
_DEBIT: Final = 1
_CREDIT: Final = 2
_AMOUNT: Final = 3
_PENDING_ID: Final = 4
_DATA_128: Final = 5
_DATA_64: Final = 6
_DATA_32: Final = 7
_TIMEOUT: Final = 8
_LEDGER: Final = 9
_CODE: Final = 10
_FLAGS: Final = 11


def pack_dense(transfers: Sequence[Transfer], numbers: dict[int, int]) -> bytearray:
    """Rows of 81 octets: as small as compressed rows of 128, in a fraction of the time.

    Raises:
        KeyError: an unknown account, or a pending id of another packet.
        struct.error, OverflowError: an amount over 64 bits, an id over 128.
    """
    size = _DENSE_ROW.size
    rows = bytearray(len(transfers) * size)
    pack_into = _DENSE_WIDE_ROW.pack_into
    at = 0
    for (
        id_, debit, credit, amount, pending, data_128, data_64, data_32, timeout, ledger, code,
        flags, timestamp,
    ) in transfers:  # fmt: skip
        tag = 0
        if pending:
            if pending ^ id_ > 0xFF or not flags & _RESOLVES:
                raise KeyError(pending)
            tag = pending & 0xFF
        elif flags & _RESOLVES:
            raise KeyError(pending)
        pack_into(
            rows, at, id_.to_bytes(16, "little"), numbers[debit], numbers[credit], amount,
            data_128.to_bytes(16, "little") if data_128 else _ZERO,
            data_64, data_32, timeout, ledger, code, flags, tag, timestamp,
        )  # fmt: skip
        at += size
    assert at == len(rows), (at, len(rows))
    return rows


def pack_entries(entries: Sequence[Entry], numbers: dict[int, int]) -> bytearray:
    """The rows of `pack_dense` for transfers in the ledger, without putting each together first.

    Raises:
        KeyError, struct.error, OverflowError: as there.
    """
    size = _DENSE_ROW.size
    rows = bytearray(len(entries) * size)
    pack_into = _DENSE_WIDE_ROW.pack_into
    at = 0
    for entry in entries:
        # Most fields are only passed on: as objects they need no conversion.
        fields: tuple[Any, ...] = entry.requested
        id_: int = fields[_ID]
        pending_id: int = fields[_PENDING_ID]
        data_128: int = fields[_DATA_128]
        data_64: Any = fields[_DATA_64]
        data_32: Any = fields[_DATA_32]
        flags: int = fields[_FLAGS]
        pending = entry.pending
        tag = 0
        if pending is None:
            if pending_id or flags & _RESOLVES:
                raise KeyError(pending_id)
            held, amount, timeout = fields, fields[_AMOUNT], fields[_TIMEOUT]
        else:
            if pending_id ^ id_ > 0xFF:
                raise KeyError(pending_id)
            tag = pending_id & 0xFF
            held, amount, timeout = pending, entry.amount, 0
            data_128 = data_128 or pending.user_data_128
            data_64 = data_64 or pending.user_data_64
            data_32 = data_32 or pending.user_data_32
        pack_into(
            rows, at, id_.to_bytes(16, "little"), numbers[held[_DEBIT]], numbers[held[_CREDIT]],
            amount, data_128.to_bytes(16, "little") if data_128 else _ZERO, data_64, data_32,
            timeout, held[_LEDGER], held[_CODE], flags, tag, entry.at_ns,
        )  # fmt: skip
        at += size
    assert at == len(rows), (at, len(rows))
    return rows


def has_tag(octets: bytes, tags: frozenset[bytes]) -> bool:
    """Whether dense rows have a transfer with one of these `user_data_128`, in little-endian octets."""
    for at in range(_DENSE_TAG_AT, len(octets), _DENSE_ROW.size):
        if octets[at : at + 16] in tags:
            return True
    return False


def unpack_dense(octets: bytes, ids: Sequence[int], *, stamped: bool = True) -> Iterator[Transfer]:
    """The transfers in dense rows.

    Args:
        octets: the rows.
        ids: the account ids by account number.
        stamped: with their timestamps; else with zeros, as they were requested.
    """
    for (
        id_low, id_high, debit, credit, amount, data_low, data_high, data_64, data_32, timeout,
        ledger, code, flags, tag, timestamp,
    ) in _DENSE_ROW.iter_unpack(octets):  # fmt: skip
        id_ = id_high << 64 | id_low
        yield Transfer(
            id_,
            0 if debit == NO_ACCOUNT else ids[debit],
            0 if credit == NO_ACCOUNT else ids[credit],
            amount,
            id_ >> 8 << 8 | tag if flags & _RESOLVES else 0,
            data_high << 64 | data_low, data_64, data_32, timeout, ledger, code, flags,
            timestamp if stamped else 0,
        )  # fmt: skip
