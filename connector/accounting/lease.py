"""Which process of a node is active, as a table and as rows of the ledger. Pure.

A node is one process at a time. Over a TigerBeetle cluster several can be started all the same, on
machines that know nothing of each other; what they share is the ledger. So that is where the lease is:
in transfers of amount zero between two accounts of the node that hold nothing (`AccountCode.LEASE`).

    claim  of generation g    one process is active from here on; the next claim, g + 1, ends its time
    wait   on generation g    a standby watches it: from now on it has to give signs of life
    beat   n of generation g  a sign of life
    end    of generation g    it has stopped by itself: a standby need not wait

Every id follows from node, kind and numbers, so of two processes that claim one generation the ledger
takes the first. `user_data_128` names the process (a random number), `user_data_64` the generation,
`user_data_32` the beat. Generations and beats are numbered from 1 without a gap.

No clocks are compared. The active process asks the ledger for claim g + 1 about once a second, and
before and after a request with holds when its last answer is older than LEASE_VALID_SECONDS. A standby
takes over after a silence that it has measured itself, while the ledger answered all its questions;
a longer one after an outage of the ledger (`Watch`).

    OPENING -FREE-> CLAIMING -WON-> ACTIVE -LATER-> SUPERSEDED      ACTIVE -ENDED-> ENDED
    OPENING -OTHER-> STANDBY -FREE-> CLAIMING -LOST-> STANDBY
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto
from typing import Final

from connector.accounting import bounds
from connector.ledger.model import (
    Account,
    AccountCode,
    Transfer,
    TransferCode,
    account_id,
    lease_id,
    lease_tag,
)

LEDGER: Final = 1
"""The ledger number of these accounts: of no asset, since nothing is moved."""
_SIDES: Final = ("holder", "lease")
_U32: Final = (1 << 32) - 1


class Phase(Enum):
    """Where a process stands with the accounts of its node."""

    OPENING = auto()
    """It has not asked the ledger yet, or cannot."""
    STANDBY = auto()
    """Another process is active, or may be."""
    CLAIMING = auto()
    """No other process is: the claim is on its way to the ledger."""
    ACTIVE = auto()
    SUPERSEDED = auto()
    """Another process has taken over; this one stops."""
    ENDED = auto()
    """It has stopped by itself."""


class Event(Enum):
    """What can happen to it."""

    OTHER = auto()
    """The newest claim is another process's, which this one respects."""
    FREE = auto()
    """No process is active that this one respects."""
    WON = auto()
    """The ledger has this process's claim, and no later one."""
    LOST = auto()
    """The ledger has taken another process's claim, before this one had done anything."""
    LATER = auto()
    """Another process has claimed, while this one was at work."""
    ENDED = auto()
    """This process has stopped, all that it had to write is written."""


TRANSITIONS: Final[Mapping[tuple[Phase, Event], Phase]] = {
    (Phase.OPENING, Event.OTHER): Phase.STANDBY,
    (Phase.OPENING, Event.FREE): Phase.CLAIMING,
    # It was started while the ledger was away, and has taken packets since.
    (Phase.OPENING, Event.LATER): Phase.SUPERSEDED,
    (Phase.OPENING, Event.ENDED): Phase.ENDED,
    (Phase.STANDBY, Event.OTHER): Phase.STANDBY,
    (Phase.STANDBY, Event.FREE): Phase.CLAIMING,
    (Phase.STANDBY, Event.ENDED): Phase.ENDED,
    (Phase.CLAIMING, Event.FREE): Phase.CLAIMING,
    (Phase.CLAIMING, Event.WON): Phase.ACTIVE,
    (Phase.CLAIMING, Event.LOST): Phase.STANDBY,
    (Phase.CLAIMING, Event.LATER): Phase.SUPERSEDED,
    (Phase.CLAIMING, Event.ENDED): Phase.ENDED,
    (Phase.ACTIVE, Event.LATER): Phase.SUPERSEDED,
    (Phase.ACTIVE, Event.ENDED): Phase.ENDED,
    (Phase.SUPERSEDED, Event.ENDED): Phase.SUPERSEDED,
}

HOLDS: Final[Mapping[Phase, bool]] = {
    # Nobody can tell while the ledger is away: what the outbox takes is booked in any case.
    Phase.OPENING: True,
    Phase.STANDBY: False,
    Phase.CLAIMING: True,
    Phase.ACTIVE: True,
    Phase.SUPERSEDED: False,
    Phase.ENDED: False,
}
"""Whether money may be held for new packets; what was promised before is booked in every phase."""


class Watch:
    """When the active process has given no sign for long enough, by the clock of who watches.

    That is LEASE_SILENCE_SECONDS in which the ledger answered. After a longer outage of the ledger the
    active process may find it later than the one that watches: it polls more rarely, and its client
    waits longer between two attempts, the longer the outage was. So the silence that is needed then
    grows by what the outage was longer than that, up to LEASE_SILENCE_AFTER_OUTAGE_SECONDS_MAX.
    """

    def __init__(self) -> None:
        self._since_s: float | None = None
        self._looked_s = 0.0
        self._sign_s = 0.0
        self._ledger_was_away = False
        self.needed_s = bounds.LEASE_SILENCE_SECONDS
        """How long the silence has to last."""

    def sign(self, now_s: float) -> None:
        """There was a sign of it. The first look after an outage may find one from before."""
        self.needed_s = self._needed_s(now_s)
        self._since_s = self._looked_s = self._sign_s = now_s
        self._ledger_was_away = False

    def unknown(self) -> None:
        """The ledger did not answer: the silence is measured anew."""
        self._since_s = None
        self._ledger_was_away = True

    def _needed_s(self, now_s: float) -> float:
        if not self._ledger_was_away:
            return bounds.LEASE_SILENCE_SECONDS
        return min(
            max(now_s - self._sign_s, bounds.LEASE_SILENCE_SECONDS),
            bounds.LEASE_SILENCE_AFTER_OUTAGE_SECONDS_MAX,
        )

    def is_over(self, now_s: float) -> bool:
        """Note a look without a sign; returns whether the silence has lasted long enough.

        Only looks that follow closely upon each other count: a process that stood still has not
        watched.
        """
        if self._since_s is None and self._ledger_was_away:
            self.needed_s = self._needed_s(now_s)
        if (
            self._since_s is None
            or now_s - self._looked_s > bounds.LEASE_STANDBY_LOOK_GAP_SECONDS_MAX
        ):
            self._since_s = now_s
        self._looked_s = now_s
        assert self.needed_s >= bounds.LEASE_SILENCE_SECONDS
        assert self.needed_s <= bounds.LEASE_SILENCE_AFTER_OUTAGE_SECONDS_MAX
        return now_s - self._since_s >= self.needed_s


# --- rows


def accounts_of(node_id: str) -> list[Account]:
    """The two accounts that the rows of a node stand between; none of those that hold money."""
    return [
        Account(
            id=account_id(node_id, AccountCode.LEASE, "", side),
            user_data_128=lease_tag(node_id),
            ledger=LEDGER,
            code=AccountCode.LEASE,
        )
        for side in _SIDES
    ]


def claim_id(node_id: str, generation: int) -> int:
    """The id of the claim of a generation, from 1."""
    return lease_id(node_id, "claim", generation)


def wait_id(node_id: str, generation: int) -> int:
    """The id of the row by which a standby asks for signs of life."""
    return lease_id(node_id, "wait", generation)


def beat_id(node_id: str, generation: int, number: int) -> int:
    """The id of a sign of life, from 1."""
    return lease_id(node_id, "beat", generation, number)


def end_id(node_id: str, generation: int) -> int:
    """The id of the row by which the active process ends its time."""
    return lease_id(node_id, "end", generation)


def row(node_id: str, id_: int, *, process: int, generation: int, number: int = 0) -> Transfer:
    """One of these rows, to be created."""
    assert generation > 0, generation
    debit, credit = accounts_of(node_id)
    return Transfer(
        id=id_,
        debit_account_id=debit.id,
        credit_account_id=credit.id,
        user_data_128=process,
        user_data_64=generation,
        user_data_32=number & _U32,
        ledger=LEDGER,
        code=TransferCode.LEASE,
    )
