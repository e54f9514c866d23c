"""A settlement: quantities in whole units, its phases, and the transitions between them. Pure.

A settlement is first *pending*: key, amount and the id of its ledger transfer are on disk, and it
is not known whether the ledger has it. The id is derived from peer, direction, origin and key, so
the ledger itself detects a settlement that is reported or booked twice. Then it is *booked*, and the
payment is requested of its payer, with the same key each time, until it is *completed*. A
settlement that the ledger refuses is never passed to a payer. A cancelled one is booked back under
another id.

A payment that an engine reports, and that is more than it may vouch for (`is_credited_at_once`), is
first *waiting* instead. An operator accepts it, and it is booked like a pending one, or declines it.
Nothing of it is in the ledger, nor in the remainder, until it is accepted.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from connector.base import limits
from connector.base.errors import ProtocolError, QuantityError
from connector.ledger.model import Transfer
from connector.peering.model import Asset

_DIGITS: Final = re.compile(r"[0-9]{1,100}")


class Direction(StrEnum):
    """Who pays."""

    OUTGOING = "outgoing"
    """We pay the peer."""
    INCOMING = "incoming"
    """The peer has paid us."""


class Origin(StrEnum):
    """What started it. Each origin has its own space of idempotency keys."""

    THRESHOLD = "threshold"
    """We owed more than the threshold."""
    OPERATOR = "operator"
    """The admin API or `settle`."""
    ENGINE = "engine"
    """A settlement engine reported an incoming payment."""


class Payer(StrEnum):
    """The payer. Decided once: an engine never pays what an operator was asked to pay."""

    NOBODY = "nobody"
    """It had been paid before it was reported to us."""
    OPERATOR = "operator"
    ENGINE = "engine"


class State(StrEnum):
    """The state of settling with a peer, as the API shows it."""

    IDLE = "IDLE"
    PENDING = "PENDING"
    """Decided and on disk; not known to be booked."""
    IN_PROGRESS = "IN_PROGRESS"
    """Booked; the payer has not confirmed it yet."""


class Phase(StrEnum):
    """The phase of one settlement, as stored."""

    PENDING = "pending"
    BOOKED = "booked"
    CANCELLING = "cancelling"
    COMPLETED = "completed"
    REFUSED = "refused"
    CANCELLED = "cancelled"
    WAITING = "waiting"
    """Reported by an engine, more than it may vouch for: not credited until an operator accepts it."""
    ACCEPTED = "accepted"
    """Accepted by an operator; not known to be booked."""
    DECLINED = "declined"


class Move(StrEnum):
    """What changes the phase of a settlement."""

    BOOK = "book"
    """The ledger has it, and it is to be paid."""
    SETTLE = "settle"
    """The ledger has it, and it had been paid before it was reported to us."""
    REFUSE = "refuse"
    """Refused permanently, its id used up: we owe less, or the peer would exceed its limit."""
    ACKNOWLEDGE = "acknowledge"
    """The engine has accepted it, or an operator confirms that it is paid."""
    CANCEL = "cancel"
    """An operator cancels it."""
    BOOK_BACK = "book back"
    """The ledger has the reverse transfer."""
    ACCEPT = "accept"
    """An operator lets a waiting payment be credited."""
    DECLINE = "decline"
    """An operator does not."""


TRANSITIONS: Final[dict[tuple[Phase, Move], Phase]] = {
    (Phase.PENDING, Move.BOOK): Phase.BOOKED,
    (Phase.PENDING, Move.SETTLE): Phase.COMPLETED,
    (Phase.PENDING, Move.REFUSE): Phase.REFUSED,
    (Phase.BOOKED, Move.ACKNOWLEDGE): Phase.COMPLETED,
    (Phase.BOOKED, Move.CANCEL): Phase.CANCELLING,
    (Phase.CANCELLING, Move.BOOK_BACK): Phase.CANCELLED,
    (Phase.WAITING, Move.ACCEPT): Phase.ACCEPTED,
    (Phase.WAITING, Move.DECLINE): Phase.DECLINED,
    (Phase.ACCEPTED, Move.SETTLE): Phase.COMPLETED,
    (Phase.ACCEPTED, Move.REFUSE): Phase.REFUSED,
}

TO_BOOK: Final = frozenset((Phase.PENDING, Phase.ACCEPTED))
"""Phases in which the ledger has to be asked: it may have the transfer already."""
OPEN: Final = TO_BOOK | {Phase.BOOKED, Phase.CANCELLING, Phase.WAITING}
"""Phases with another step to take."""
IN_LEDGER: Final = frozenset((Phase.BOOKED, Phase.CANCELLING, Phase.COMPLETED, Phase.CANCELLED))
"""Phases in which its transfer is known to be booked."""


def after(phase: Phase, move: Move) -> Phase:
    """The phase after `move`.

    Raises:
        ProtocolError: there is no such transition.
    """
    to = TRANSITIONS.get((phase, move))
    if to is None:
        raise ProtocolError(f"a settlement that is {phase} cannot {move}")
    return to


@dataclass(slots=True, frozen=True)
class Quantity:
    """An amount in units of 10**-scale (RFC 38)."""

    amount: int
    scale: int

    def __post_init__(self) -> None:
        assert self.amount >= 0, self.amount
        assert 0 <= self.scale <= limits.ASSET_SCALE_DIGITS_MAX, self.scale

    @property
    def least(self) -> Quantity:
        """The same quantity with the smallest scale that represents it."""
        amount, scale = self.amount, self.scale
        while scale and amount % 10 == 0:
            amount, scale = amount // 10, scale - 1
        return Quantity(amount, scale)

    def __str__(self) -> str:
        return f"{self.amount} of scale {self.scale}"


NOTHING: Final = Quantity(0, 0)


def read_amount(given: object) -> int:
    """An amount from JSON: a whole number, or a string of its digits.

    Raises:
        QuantityError: it is neither.
    """
    if isinstance(given, int) and not isinstance(given, bool):
        given = str(given)
    if not isinstance(given, str) or not _DIGITS.fullmatch(given):
        raise QuantityError('amount: must be a string of at most 100 digits, such as "254"')
    return int(given)


def read_quantity(amount: object, scale: object) -> Quantity:
    """A quantity from JSON: the amount as in `read_amount`, the scale 0 to 255.

    Raises:
        QuantityError: it is not a quantity.
    """
    units = read_amount(amount)
    if (
        isinstance(scale, bool)
        or not isinstance(scale, int)
        or not 0 <= scale <= limits.ASSET_SCALE_DIGITS_MAX
    ):
        raise QuantityError("scale: must be a whole number from 0 to 255")
    return Quantity(units, scale)


def convert(given: Quantity, kept: Quantity, scale: int) -> tuple[int, Quantity]:
    """Add `given` and the remainder `kept`; returns whole units of `scale` and the new remainder."""
    common = max(given.scale, kept.scale, scale)
    total = given.amount * 10 ** (common - given.scale) + kept.amount * 10 ** (common - kept.scale)
    units, rest = divmod(total, 10 ** (common - scale))
    return units, Quantity(rest, common).least


def to_engine(amount: int, asset_scale: int, engine_scale: int) -> tuple[int, Quantity]:
    """As much of `amount` as an engine of `engine_scale` can pay, in both scales.

    The remainder is not booked: it stays owed and becomes part of the next settlement.
    """
    if engine_scale >= asset_scale:
        return amount, Quantity(amount * 10 ** (engine_scale - asset_scale), engine_scale)
    unit = 10 ** (asset_scale - engine_scale)
    return amount - amount % unit, Quantity(amount // unit, engine_scale)


def amount_due(owed: int, *, threshold: int | None, settle_to: int, available: int) -> int:
    """The amount to pay now; 0: nothing is due.

    Above `threshold`, what is owed is reduced to `settle_to`. `available` is the part of it that may
    be paid; it is negative if more is held than owed. The rest is held for packets that the peer has
    sent, and counts as paid by them, so they cannot bring what we owe below `settle_to`.
    """
    if threshold is None or owed <= threshold:
        return 0
    return max(0, min(owed, available) - settle_to)


def is_credited_at_once(amount: int, *, owed: int, max_prepaid: int | None) -> bool:
    """Whether a payment that an engine reports is credited without asking an operator.

    What the peer owes may always be paid off. Beyond that the engine's word makes us owe the peer,
    and `max_prepaid` bounds what all its words together can make us owe.

    Args:
        amount: of the payment, in units of the asset.
        owed: what the peer owes us, less its payments that are not booked yet; negative: we owe it.
        max_prepaid: what we may owe the peer afterwards; None: no bound.
    """
    assert amount >= 0, amount
    return not amount or max_prepaid is None or amount - owed <= max_prepaid


@dataclass(slots=True, eq=False)
class Settlement:
    """One settlement, as stored. Amounts in units of the peer's asset unless said otherwise."""

    id: int
    """Unique, rising with time; for the API and operators."""
    booking_id: int
    """The id of its ledger transfer; stored with the key, and never changed."""
    peer_id: str
    asset: Asset
    direction: Direction
    origin: Origin
    key: str
    """The idempotency key."""
    amount: int
    quantity: Quantity
    """The amount in the scale of the engine."""
    payer: Payer
    phase: Phase
    created_ms: int
    changed_ms: int
    attempts: int = 0
    error: str = ""
    """The error of the last attempt."""
    next_attempt_ms: int = field(default=0)
    """Not stored: after a restart the next attempt is made at once."""

    @property
    def settlement_id(self) -> str:
        """The id in hex, as the API shows it."""
        return f"{self.id:032x}"

    @property
    def reverse_id(self) -> int:
        """The id of the transfer that reverses it."""
        return self.booking_id | 1  # the low octet is reserved for this (ledger/model.py)

    @property
    def tag(self) -> int:
        """128 bits of the key, kept in its transfers.

        Of a payment that we have made and only record, other bits: its transfer must not be taken
        for a payment that can be requested again.
        """
        made = self.direction is Direction.OUTGOING and self.payer is Payer.NOBODY
        if (
            made and self.booking_id != self.id
        ):  # equal ids: written by a version that did not distinguish
            return key_tag(f"paid outside:{self.key}")
        return key_tag(self.key)

    def is_in(self, there: Transfer) -> bool:
        """Whether a transfer under its id is this settlement, not another one under the same key.

        The booked amount of an incoming one may include a unit from remainders of earlier payments.
        """
        if there.user_data_128 != self.tag:
            return False
        if self.direction is Direction.INCOMING:
            units, rest = convert(self.quantity, NOTHING, self.asset.scale)
            return units <= there.amount <= units + bool(rest.amount)
        return self.payer is not Payer.NOBODY or there.amount == self.amount

    @property
    def state(self) -> State:
        """The state of settling with its peer."""
        if self.payer is Payer.NOBODY:
            return State.IDLE
        if self.phase is Phase.PENDING:
            return State.PENDING
        return State.IN_PROGRESS if self.phase in OPEN else State.IDLE


def key_tag(key: str) -> int:
    """The key as 128 bits for its ledger transfer: a key of 32 hex digits itself, else its hash."""
    if re.fullmatch(r"[0-9a-f]{32}", key):
        return int(key, 16)
    return int.from_bytes(hashlib.sha256(b"key:" + key.encode("utf-8")).digest()[:16], "big")


def settled_sums(
    settlements: Iterable[tuple[Phase, Direction, int]], *, with_open: bool
) -> tuple[int, int]:
    """The sums that settlements have credited and debited to their account in the ledger.

    `with_open` includes those whose booking was requested without a known answer.
    """
    paid = received = 0
    for phase, direction, amount in settlements:
        if phase in IN_LEDGER or (with_open and phase in TO_BOOK):
            if direction is Direction.OUTGOING:
                paid += amount
            else:
                received += amount
        if phase is Phase.CANCELLED or (with_open and phase is Phase.CANCELLING):
            received += amount  # booked back
    return paid, received


def as_json(one: Settlement) -> dict[str, Any]:
    """A settlement as the API shows it (docs/api.md)."""
    return {
        "settlementId": one.settlement_id,
        "peerId": one.peer_id,
        "assetCode": one.asset.code,
        "assetScale": one.asset.scale,
        "direction": one.direction.value,
        "origin": one.origin.value,
        "amount": str(one.amount),
        "quantity": {"amount": str(one.quantity.amount), "scale": one.quantity.scale},
        "phase": one.phase.value,
        "state": one.state.value,
        "payer": one.payer.value,
        "attempts": one.attempts,
        "error": one.error,
        "nextAttemptMs": one.next_attempt_ms or None,
        "createdMs": one.created_ms,
        "changedMs": one.changed_ms,
    }


def log_fields(one: Settlement) -> Mapping[str, Any]:
    """The fields of every log line about a settlement."""
    return {
        "peer_id": one.peer_id,
        "settlement_id": one.settlement_id,
        "direction": one.direction.value,
        "amount": str(one.amount),
        "asset": str(one.asset),
        "idempotency_key": one.key,
    }
