"""What a settlement is: quantities in whole units, its phases, and what may follow what.

A settlement is first *pending*: key, amount and the id of its ledger transfer are on disk, whether
the ledger has it is not known. Then it is *booked*, and whoever pays is asked, again and again
under the same key, until it is *completed*. What the ledger refuses was never asked for; what an
operator takes back is booked back under an id of its own.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from connector.base import limits
from connector.base.errors import ProtocolError, SettlementError
from connector.peering.model import Asset

_DIGITS: Final = re.compile(r"[0-9]{1,100}")


class Direction(StrEnum):
    """Who pays."""

    OUTGOING = "outgoing"
    """We pay the peer."""
    INCOMING = "incoming"
    """The peer has paid us."""


class Origin(StrEnum):
    """Who began it; keys of one origin never meet those of another."""

    THRESHOLD = "threshold"
    """We owed more than agreed."""
    OPERATOR = "operator"
    """The admin API or `settle`."""
    ENGINE = "engine"
    """A settlement engine saw a payment come in."""


class Payer(StrEnum):
    """Who is asked to pay; decided once, so that what an operator was asked for no engine pays."""

    NOBODY = "nobody"
    """It was paid before it was told to us."""
    OPERATOR = "operator"
    ENGINE = "engine"


class State(StrEnum):
    """How far settling with a peer has come, as shown."""

    IDLE = "IDLE"
    PENDING = "PENDING"
    """Decided and on disk; not known to be booked."""
    IN_PROGRESS = "IN_PROGRESS"
    """Booked; whoever pays has not said yet that it is done."""


class Phase(StrEnum):
    """How far one settlement has come, as stored."""

    PENDING = "pending"
    BOOKED = "booked"
    CANCELLING = "cancelling"
    COMPLETED = "completed"
    REFUSED = "refused"
    CANCELLED = "cancelled"


class Move(StrEnum):
    """What takes a settlement further."""

    BOOK = "book"
    """The ledger has it, and someone is to pay."""
    SETTLE = "settle"
    """The ledger has it, and it was paid before it was told to us."""
    REFUSE = "refuse"
    """The ledger will never have it: the peer would owe more than its limit."""
    ACKNOWLEDGE = "acknowledge"
    """Whoever pays has taken it over, or an operator says that it is paid."""
    CANCEL = "cancel"
    """An operator takes it back."""
    BOOK_BACK = "book back"
    """The ledger has the reverse."""


TRANSITIONS: Final[dict[tuple[Phase, Move], Phase]] = {
    (Phase.PENDING, Move.BOOK): Phase.BOOKED,
    (Phase.PENDING, Move.SETTLE): Phase.COMPLETED,
    (Phase.PENDING, Move.REFUSE): Phase.REFUSED,
    (Phase.BOOKED, Move.ACKNOWLEDGE): Phase.COMPLETED,
    (Phase.BOOKED, Move.CANCEL): Phase.CANCELLING,
    (Phase.CANCELLING, Move.BOOK_BACK): Phase.CANCELLED,
}

OPEN: Final = frozenset((Phase.PENDING, Phase.BOOKED, Phase.CANCELLING))
"""Something is still to be done."""
IN_LEDGER: Final = frozenset((Phase.BOOKED, Phase.CANCELLING, Phase.COMPLETED, Phase.CANCELLED))
"""Its transfer is known to be booked."""


def after(phase: Phase, move: Move) -> Phase:
    """The phase that follows.

    Raises:
        ProtocolError: that cannot be done in this phase.
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
        """The same with the smallest scale that shows it."""
        amount, scale = self.amount, self.scale
        while scale and amount % 10 == 0:
            amount, scale = amount // 10, scale - 1
        return Quantity(amount, scale)

    def __str__(self) -> str:
        return f"{self.amount} of scale {self.scale}"


NOTHING: Final = Quantity(0, 0)


def read_quantity(amount: object, scale: object) -> Quantity:
    """A quantity as it stands in JSON: the amount a string of digits, the scale 0 to 255.

    Raises:
        SettlementError: it is not one.
    """
    if not isinstance(amount, str) or not _DIGITS.fullmatch(amount):
        raise SettlementError('amount must be a string of at most 100 digits, such as "254"')
    if (
        isinstance(scale, bool)
        or not isinstance(scale, int)
        or not 0 <= scale <= limits.ASSET_SCALE_DIGITS_MAX
    ):
        raise SettlementError("scale must be a whole number from 0 to 255")
    return Quantity(int(amount), scale)


def convert(given: Quantity, kept: Quantity, scale: int) -> tuple[int, Quantity]:
    """Whole units of `scale` in what is given and what was kept before, and what is kept now."""
    common = max(given.scale, kept.scale, scale)
    total = given.amount * 10 ** (common - given.scale) + kept.amount * 10 ** (common - kept.scale)
    units, rest = divmod(total, 10 ** (common - scale))
    return units, Quantity(rest, common).least


def to_engine(amount: int, asset_scale: int, engine_scale: int) -> tuple[int, Quantity]:
    """As much of `amount` as an engine of `engine_scale` can pay, in both scales.

    What it cannot pay is not taken from the account: it stays owed, and is part of the next
    settlement.
    """
    if engine_scale >= asset_scale:
        return amount, Quantity(amount * 10 ** (engine_scale - asset_scale), engine_scale)
    unit = 10 ** (asset_scale - engine_scale)
    return amount - amount % unit, Quantity(amount // unit, engine_scale)


def amount_due(owed: int, *, threshold: int | None, settle_to: int, available: int) -> int:
    """What is to be paid now; zero: nothing.

    `owed` passes the threshold, and is brought down to `settle_to`. What the peer may still send
    bounds it: money that is held for the peer's own packets may be used up by them, and the ledger
    would refuse to book it twice.
    """
    if threshold is None or owed <= threshold:
        return 0
    return max(0, min(owed - settle_to, available))


@dataclass(slots=True, eq=False)
class Settlement:
    """One settlement, as stored. Amounts in units of the peer's asset unless said otherwise."""

    id: int
    """Of its ledger transfer; given once, and stored with the key."""
    peer_id: str
    asset: Asset
    direction: Direction
    origin: Origin
    key: str
    """The idempotency key."""
    amount: int
    quantity: Quantity
    """As the engine says it, or was told it."""
    payer: Payer
    phase: Phase
    created_ms: int
    changed_ms: int
    attempts: int = 0
    error: str = ""
    """Of the last attempt."""
    next_attempt_ms: int = field(default=0)
    """Not stored: after a restart it is tried at once."""

    @property
    def settlement_id(self) -> str:
        """As shown: the id of its transfer, in hex."""
        return f"{self.id:032x}"

    @property
    def reverse_id(self) -> int:
        """Of the transfer that books it back."""
        return self.id | 1  # the low octet of an id is free for this (ledger/model.py)

    @property
    def state(self) -> State:
        """Its part in the state of the peer."""
        if self.payer is Payer.NOBODY:
            return State.IDLE
        if self.phase is Phase.PENDING:
            return State.PENDING
        return State.IN_PROGRESS if self.phase in OPEN else State.IDLE


def key_tag(key: str) -> int:
    """128 bits that stand for a key in its ledger transfer; a key that is 32 hex digits itself."""
    if re.fullmatch(r"[0-9a-f]{32}", key):
        return int(key, 16)
    return int.from_bytes(hashlib.sha256(b"key:" + key.encode("utf-8")).digest()[:16], "big")


def settled_sums(
    settlements: Iterable[tuple[Phase, Direction, int]], *, with_open: bool
) -> tuple[int, int]:
    """What settlements have credited and debited their account in the ledger.

    `with_open`: as if the ledger had all that it was asked for and has not been heard to have.
    """
    paid = received = 0
    for phase, direction, amount in settlements:
        if phase in IN_LEDGER or (with_open and phase is Phase.PENDING):
            if direction is Direction.OUTGOING:
                paid += amount
            else:
                received += amount
        if phase is Phase.CANCELLED or (with_open and phase is Phase.CANCELLING):
            received += amount  # booked back
    return paid, received
