"""Accounts, transfers and their results, in the terms of TigerBeetle.

Amounts are unsigned integers in the smallest unit of an asset. Statuses have TigerBeetle's numbers
in every ledger, so that the contract suite can compare them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from enum import IntEnum
from functools import partial
from typing import Final, NamedTuple

ID_MAX: Final = 2**128 - 1
AMOUNT_MAX: Final = 2**128 - 1
"""As the amount of a post: the full amount of the hold."""


class AccountCode(IntEnum):
    """The kind of an account (docs/accounting.md)."""

    PEER = 1
    CREDIT_LINE = 2
    REVENUE = 3
    EXCHANGE = 4
    WALLET = 5
    SETTLEMENT = 6
    LEASE = 7
    """No money: carries the rows that say which process of a node is active (`accounting.lease`)."""
    PAYMENT = 8
    """No money: carries the rows that say which payments were begun (`accounting.own`)."""


class TransferCode(IntEnum):
    """The purpose of a transfer."""

    PACKET = 1
    FEE = 2
    EXCHANGE_IN = 3
    EXCHANGE_OUT = 4
    CREDIT = 5
    SETTLEMENT = 6
    CORRECTION = 7
    LEASE = 8
    """Amount zero; see `accounting.lease`."""
    PAYMENT = 9
    """Amount zero; see `accounting.own`."""


ACCOUNT_LINKED: Final = 1 << 0
ACCOUNT_DEBITS_MUST_NOT_EXCEED_CREDITS: Final = 1 << 1
ACCOUNT_CREDITS_MUST_NOT_EXCEED_DEBITS: Final = 1 << 2
ACCOUNT_HISTORY: Final = 1 << 3

LINKED: Final = 1 << 0
PENDING: Final = 1 << 1
POST: Final = 1 << 2
VOID: Final = 1 << 3


class Status(IntEnum):
    """The result of one transfer; TigerBeetle's numbers (`CreateTransferStatus`)."""

    CREATED = 0xFFFFFFFF
    LINKED_EVENT_FAILED = 1
    LINKED_EVENT_CHAIN_OPEN = 2
    TIMESTAMP_MUST_BE_ZERO = 3
    RESERVED_FLAG = 4
    ID_MUST_NOT_BE_ZERO = 5
    ID_MUST_NOT_BE_INT_MAX = 6
    FLAGS_ARE_MUTUALLY_EXCLUSIVE = 7
    DEBIT_ACCOUNT_ID_MUST_NOT_BE_ZERO = 8
    DEBIT_ACCOUNT_ID_MUST_NOT_BE_INT_MAX = 9
    CREDIT_ACCOUNT_ID_MUST_NOT_BE_ZERO = 10
    CREDIT_ACCOUNT_ID_MUST_NOT_BE_INT_MAX = 11
    ACCOUNTS_MUST_BE_DIFFERENT = 12
    PENDING_ID_MUST_BE_ZERO = 13
    PENDING_ID_MUST_NOT_BE_ZERO = 14
    PENDING_ID_MUST_NOT_BE_INT_MAX = 15
    PENDING_ID_MUST_BE_DIFFERENT = 16
    TIMEOUT_RESERVED_FOR_PENDING_TRANSFER = 17
    LEDGER_MUST_NOT_BE_ZERO = 19
    CODE_MUST_NOT_BE_ZERO = 20
    DEBIT_ACCOUNT_NOT_FOUND = 21
    CREDIT_ACCOUNT_NOT_FOUND = 22
    ACCOUNTS_MUST_HAVE_THE_SAME_LEDGER = 23
    TRANSFER_MUST_HAVE_THE_SAME_LEDGER_AS_ACCOUNTS = 24
    PENDING_TRANSFER_NOT_FOUND = 25
    PENDING_TRANSFER_NOT_PENDING = 26
    PENDING_TRANSFER_HAS_DIFFERENT_DEBIT_ACCOUNT_ID = 27
    PENDING_TRANSFER_HAS_DIFFERENT_CREDIT_ACCOUNT_ID = 28
    PENDING_TRANSFER_HAS_DIFFERENT_LEDGER = 29
    PENDING_TRANSFER_HAS_DIFFERENT_CODE = 30
    EXCEEDS_PENDING_TRANSFER_AMOUNT = 31
    PENDING_TRANSFER_HAS_DIFFERENT_AMOUNT = 32
    PENDING_TRANSFER_ALREADY_POSTED = 33
    PENDING_TRANSFER_ALREADY_VOIDED = 34
    PENDING_TRANSFER_EXPIRED = 35
    EXISTS_WITH_DIFFERENT_FLAGS = 36
    EXISTS_WITH_DIFFERENT_DEBIT_ACCOUNT_ID = 37
    EXISTS_WITH_DIFFERENT_CREDIT_ACCOUNT_ID = 38
    EXISTS_WITH_DIFFERENT_AMOUNT = 39
    EXISTS_WITH_DIFFERENT_PENDING_ID = 40
    EXISTS_WITH_DIFFERENT_USER_DATA_128 = 41
    EXISTS_WITH_DIFFERENT_USER_DATA_64 = 42
    EXISTS_WITH_DIFFERENT_USER_DATA_32 = 43
    EXISTS_WITH_DIFFERENT_TIMEOUT = 44
    EXISTS_WITH_DIFFERENT_CODE = 45
    EXISTS = 46
    OVERFLOWS_DEBITS_PENDING = 47
    OVERFLOWS_CREDITS_PENDING = 48
    OVERFLOWS_DEBITS_POSTED = 49
    OVERFLOWS_CREDITS_POSTED = 50
    OVERFLOWS_DEBITS = 51
    OVERFLOWS_CREDITS = 52
    OVERFLOWS_TIMEOUT = 53
    EXCEEDS_CREDITS = 54
    EXCEEDS_DEBITS = 55
    EXISTS_WITH_DIFFERENT_LEDGER = 67
    ID_ALREADY_FAILED = 68


DONE: Final = frozenset((Status.CREATED, Status.EXISTS))
"""The transfer is in the ledger, by this request or an earlier one with the same id."""


class AccountStatus(IntEnum):
    """The result of creating one account; TigerBeetle's numbers (`CreateAccountStatus`)."""

    CREATED = 0xFFFFFFFF
    LINKED_EVENT_FAILED = 1
    LINKED_EVENT_CHAIN_OPEN = 2
    TIMESTAMP_MUST_BE_ZERO = 3
    RESERVED_FLAG = 5
    ID_MUST_NOT_BE_ZERO = 6
    ID_MUST_NOT_BE_INT_MAX = 7
    FLAGS_ARE_MUTUALLY_EXCLUSIVE = 8
    DEBITS_PENDING_MUST_BE_ZERO = 9
    DEBITS_POSTED_MUST_BE_ZERO = 10
    CREDITS_PENDING_MUST_BE_ZERO = 11
    CREDITS_POSTED_MUST_BE_ZERO = 12
    LEDGER_MUST_NOT_BE_ZERO = 13
    CODE_MUST_NOT_BE_ZERO = 14
    EXISTS_WITH_DIFFERENT_FLAGS = 15
    EXISTS_WITH_DIFFERENT_USER_DATA_128 = 16
    EXISTS_WITH_DIFFERENT_USER_DATA_64 = 17
    EXISTS_WITH_DIFFERENT_USER_DATA_32 = 18
    EXISTS_WITH_DIFFERENT_LEDGER = 19
    EXISTS_WITH_DIFFERENT_CODE = 20
    EXISTS = 21


class Transfer(NamedTuple):
    """One debit and one credit, or the resolution of a pending one.

    The fields and their order are TigerBeetle's; all unsigned, of the widths of `ROW`.
    A tuple because one or more are built per packet.
    """

    id: int
    debit_account_id: int = 0
    credit_account_id: int = 0
    amount: int = 0
    pending_id: int = 0
    user_data_128: int = 0
    user_data_64: int = 0
    user_data_32: int = 0
    timeout: int = 0
    """Seconds until a pending transfer expires by itself; zero: never."""
    ledger: int = 0
    """TigerBeetle's number of the asset; `asset_ledger` elsewhere."""
    code: int = 0
    flags: int = 0
    timestamp: int = 0
    """Nanoseconds since the epoch, given by the ledger."""


make_transfer: Final[Callable[[tuple[int, ...]], Transfer]] = partial(tuple.__new__, Transfer)
"""A `Transfer` from all of its fields, in order; three times as fast as its constructor."""


class Account(NamedTuple):
    """An account with its balances."""

    id: int
    debits_pending: int = 0
    debits_posted: int = 0
    credits_pending: int = 0
    credits_posted: int = 0
    user_data_128: int = 0
    user_data_64: int = 0
    user_data_32: int = 0
    ledger: int = 0
    code: int = 0
    flags: int = 0
    timestamp: int = 0


def account_id(node_id: str, code: AccountCode, peer_id: str, asset: str) -> int:
    """The id of an account: anyone can recompute it, and no two accounts share one.

    The first 16 octets of a SHA-256 over the length-prefixed node id, kind, peer id (empty for
    accounts of the node itself) and asset (`CODE/scale`).
    """
    parts = [part.encode("utf-8") for part in (node_id, code.name.lower(), peer_id, asset)]
    digest = hashlib.sha256(b"".join(len(part).to_bytes(2, "big") + part for part in parts))
    return int.from_bytes(digest.digest()[:16], "big") or 1


def asset_ledger(code: str, scale: int) -> int:
    """The u32 of an asset in every ledger: the same on all nodes, never zero."""
    name = code.encode("utf-8")
    digest = hashlib.sha256(len(name).to_bytes(2, "big") + name + bytes([scale])).digest()
    return int.from_bytes(digest[:4], "big") or 1


class Posted(NamedTuple):
    """The posted debits and credits of an account."""

    debits: int
    credits: int


class Balance(NamedTuple):
    """Balances of an account after a past transfer, as the ledger reports them."""

    debits_pending: int = 0
    debits_posted: int = 0
    credits_pending: int = 0
    credits_posted: int = 0
    timestamp: int = 0
    """Of that transfer, nanoseconds since the epoch."""


_NOTHING_KNOWN: Final[Mapping[int, Posted]] = {}


class Memory(NamedTuple):
    """What the outbox has saved before this start."""

    is_new: bool
    """Whether the outbox was created by this start: nothing was saved."""
    books: Mapping[int, Posted] | None
    """By account id, including what is in the outbox; None unless the node stopped cleanly."""
    last_seq: int = 0
    """The newest request in the outbox; zero: it is empty."""
    acknowledged: Mapping[int, Posted] = _NOTHING_KNOWN
    """By account id: what the ledger has acknowledged, and so must have at least."""
    highest_id: int = 0
    """The highest id given to a packet; zero: not known."""


DERIVED_ID_MAX: Final = (1 << 80) - 1
"""Ids up to this one are derived from a transfer's purpose; higher ones contain a time."""


def grant_id(*words: int) -> int:
    """The id of a credit grant, derived from its arguments.

    Below all ids that contain a time, so it does not disturb a ledger that relies on rising ids.
    """
    octets = b"".join(word.to_bytes(20, "big", signed=True) for word in words)
    return int.from_bytes(hashlib.sha256(b"grant" + octets).digest()[:9], "big") << TAG_BITS


def settlement_id(settlement_account_id: int, *words: str) -> int:
    """The id of the transfer of a settlement, derived from its arguments.

    So the ledger itself refuses to book one settlement twice. Below all ids that contain a time;
    its low octet is zero.
    """
    parts = [settlement_account_id.to_bytes(16, "big"), *(word.encode("utf-8") for word in words)]
    octets = b"".join(len(part).to_bytes(2, "big") + part for part in parts)
    digest = hashlib.sha256(b"settlement" + octets).digest()[:9]
    return (int.from_bytes(digest, "big") or 1) << TAG_BITS


def lease_id(node_id: str, word: str, *numbers: int) -> int:
    """The id of a transfer of the lease of a node, the same for the same words.

    Like all derived ids it is below those that have a time in them, its low octet zero.
    """
    parts = [node_id.encode("utf-8"), word.encode("ascii")]
    octets = b"".join(len(part).to_bytes(2, "big") + part for part in parts)
    octets += b"".join(number.to_bytes(8, "big") for number in numbers)
    digest = hashlib.sha256(b"lease" + octets).digest()[:9]
    return (int.from_bytes(digest, "big") or 1) << TAG_BITS


def payment_id(node_id: str, key: str, attempt: int) -> int:
    """The id of the row that claims an attempt at a payment, from 1; like `lease_id`."""
    parts = [node_id.encode("utf-8"), key.encode("utf-8")]
    octets = b"".join(len(part).to_bytes(2, "big") + part for part in parts)
    digest = hashlib.sha256(b"payment" + octets + attempt.to_bytes(8, "big")).digest()[:9]
    return (int.from_bytes(digest, "big") or 1) << TAG_BITS


def node_tag(node_id: str) -> int:
    """The user_data_128 of every account of a node, for queries."""
    return int.from_bytes(hashlib.sha256(b"node:" + node_id.encode("utf-8")).digest()[:16], "big")


def lease_tag(node_id: str) -> int:
    """The user_data_128 of the accounts that carry a node's lease: they are none of its books."""
    return int.from_bytes(hashlib.sha256(b"lease:" + node_id.encode("utf-8")).digest()[:16], "big")


def payment_tag(node_id: str) -> int:
    """The user_data_128 of the accounts that carry a node's payments: they are none of its books."""
    return int.from_bytes(
        hashlib.sha256(b"payment:" + node_id.encode("utf-8")).digest()[:16], "big"
    )


def peer_tag(peer_id: str) -> int:
    """The user_data_64 of every account of a peer."""
    return int.from_bytes(hashlib.sha256(b"peer:" + peer_id.encode("utf-8")).digest()[:8], "big")


# The id of a transfer of a packet: the packet's id, its low octet naming phase and leg.
PHASE_RESERVE: Final = 0x00
PHASE_RESOLVE: Final = 0x10
PHASE_CORRECT: Final = 0x20
# Added to the other phases: a second hold after the first was refused, and its resolution.
PHASE_AGAIN: Final = 0x80
# In the same octet: `accounting.entries.GRANT_BIT` (0x40), and 1 in a settlement booked back.
TAG_BITS: Final = 8
TAG_MASK: Final = (1 << TAG_BITS) - 1
SECOND_WAY: Final = 1 << 79
"""Set in the id of a packet that is sent a second way (`switch.ways`); `IdGenerator` never sets it."""
_ID_RAISED_MAX: Final = ((1 << 48) - 1) << 80
"""Ids with a later time would leave no room to count up from; no clock can have given them."""


def second_id(packet_id: int) -> int:
    """The id under which a packet is held and sent a second way; that of no other packet."""
    assert not packet_id & SECOND_WAY, packet_id
    return packet_id | SECOND_WAY


def first_id(packet_id: int) -> int:
    """The id of a packet, from that of its first or its second way."""
    return packet_id & ~SECOND_WAY


class Kept(NamedTuple):
    """A fulfilment that could not be fetched again; see `accounting.fulfilments`."""

    packet_id: int
    """Ours, 128 bits."""
    keep_until_ms: int
    octets: bytes
    """The Fulfill, an ILP packet with its data."""


make_kept: Final[Callable[[tuple[int, int, bytes]], Kept]] = partial(tuple.__new__, Kept)
"""A `Kept` from all of its fields, as `make_transfer`."""


class IdGenerator:
    """Ids that rise with time: 48 bits of milliseconds, one for second ways, 71 that start random, 8 left at zero.

    The low octet is for the phase and leg of a transfer (`PHASE_*`), so one packet id names all
    transfers of a packet. Rises even when the clock goes back.
    """

    def __init__(self, *, random_bits: Callable[[int], int], last: int = 0) -> None:
        self._random_bits = random_bits
        self._ms = 0
        self._last = last

    @property
    def last(self) -> int:
        """The highest id so far; zero: none."""
        return self._last

    def rise_above(self, id_: int) -> None:
        """Make every later id higher than `id_`, whatever the clock says.

        After a clock was set back, existing ids are higher than those it gives now. A ledger that
        relies on rising ids would have to search its archive for every lower id.
        """
        if id_ & SECOND_WAY:
            # Counting on from it would give ids of second ways: begin with the next millisecond.
            id_ = ((id_ >> 80) + 1) << 80
        if self._last < id_ < _ID_RAISED_MAX:
            self._last = id_ >> TAG_BITS << TAG_BITS  # the low octet is for phase and leg
            assert self._last + (1 << TAG_BITS) > id_

    def next(self, now_ms: int) -> int:
        """A new id, higher than every one before."""
        if now_ms > self._ms:
            self._ms = now_ms
            # The top bit is for second ways. The one below is clear, so counting on cannot run into it.
            fresh = now_ms << 80 | self._random_bits(70) << TAG_BITS
            if fresh > self._last:
                self._last = fresh
                return fresh
        self._last += 1 << TAG_BITS
        return self._last
