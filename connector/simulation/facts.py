"""Facts: what the ends of the network sent, received and answered; and the diary, an event log.

Recorded by the simulator's ends, independently of the product: the judge compares the product's
books with them.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Final

from connector.simulation.plan import PaymentPlan

DIARY_LINES_MAX: Final = 400_000
GRACE_S: Final = 4.0
"""How long an end waits for an answer after its packet has expired: longer than a node takes to say so."""


@dataclass(slots=True)
class Given:
    """A Fulfill that an end gave."""

    at_s: float
    amount: int
    expires_at_s: float
    packet_id: bytes
    receiver: str


@dataclass(slots=True)
class Fact:
    """What the ends have recorded of one payment."""

    plan: PaymentPlan
    preimage: bytes
    condition: bytes
    way: list[str]
    sent_s: float | None = None
    expires_at_s: float = 0.0
    outcome: str = ""
    """`fulfilled`, the code of a Reject, `lost` (with its link, and it cannot be resent), `expired`,
    `unsent`, `error`; empty: no answer yet."""
    answered_s: float | None = None
    rejected_by: str = ""
    """The address of the node or end that has rejected it."""
    answers: list[str] = field(default_factory=list)
    """Every answer that came, also those to a hostile sender."""
    given: list[Given] = field(default_factory=list)
    hostile: bool = False
    """Whether its sender or its receiver violates the protocol."""
    times: int = 1
    """How often it was offered as a packet that was not offered before."""
    amounts: set[int] = field(default_factory=set)
    """All amounts that it was offered with."""


@dataclass(slots=True, frozen=True)
class Waiting:
    """A payment outside that waits for an operator, and what they will say."""

    node: str
    peer: str
    key: str
    settlement_id: str
    accept: bool


@dataclass(slots=True, frozen=True)
class Line:
    """One line of the diary."""

    at_s: float
    who: str
    text: str
    payment: int = 0


class Facts:
    """All payments of a world, by condition."""

    def __init__(self) -> None:
        self.by_condition: Final[dict[bytes, Fact]] = {}
        self.by_number: Final[dict[int, Fact]] = {}
        self.diary: list[Line] = []
        self.open = 0
        """Payments whose sender still waits."""
        self.settled_in: dict[tuple[str, str, str], int] = {}
        """Payments to nodes outside the ledger: (node, peer, key) to amount, once per key."""
        self.told_rows: dict[tuple[str, str, str], int] = {}
        """By node, peer and key: how many rows its ledger had when a payment outside was made."""
        self.waited: dict[tuple[str, str, str], Waiting] = {}
        """Payments that an operator was asked for."""
        self.forgotten: set[tuple[str, str, str]] = set()
        """Those that the node knew no more when the operator had decided."""
        self.settled_out: dict[tuple[str, str, str], int] = {}
        """Payments by nodes outside the ledger: (node, peer, key) to amount."""
        self.removed: set[tuple[str, str]] = set()
        """(node, peer) pairs of removed peers, which are refused correctly."""
        self.complaints: list[str] = []
        """Violations that an end has seen itself."""

    def register(self, plan: PaymentPlan, way: list[str], *, salt: bytes = b"") -> Fact:
        """Register a payment that will be made."""
        preimage = hashlib.sha256(plan.preimage + salt).digest() if salt else plan.preimage
        condition = hashlib.sha256(preimage).digest()
        fact = Fact(plan, preimage, condition, way)
        self.by_condition[condition] = fact
        self.by_number.setdefault(plan.number, fact)
        return fact

    def note(self, at_s: float, who: str, text: str, payment: int = 0) -> None:
        """Write a line into the diary."""
        if len(self.diary) < DIARY_LINES_MAX:
            self.diary.append(Line(at_s, who, text, payment))
