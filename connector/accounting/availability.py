"""Whether packets can be accounted for now, as a table of phases. Pure.

Every phase is a row of `ROWS`: the state shown, what admits packets, where the writer writes to,
and which task polls the ledger. Every change of the phase is a row of `TRANSITIONS`; an event that
is looked up in a phase without a row for it is our fault and raises KeyError. Two calls change
nothing in some phases and are not looked up there: `behind` in WAITING only notes the reason,
as `refused` does; `outbox_took` does nothing unless the outbox was blocked and has room now.

    OPENING  -OPENED-> UP        -BLIND-> WAITING          -KNOWN-> SPOOLING
    WAITING  -OPENED-> UP
    UP       -FAILED-> STALLED   -FAILED_OVER-> SPOOLING   -SLOW-> STALLED
    STALLED  -ANSWERED-> UP      -FAILED_OVER-> SPOOLING
    SPOOLING -FULL | OUTBOX_FAILED-> BLOCKED               BLOCKED -ROOM-> SPOOLING
    SPOOLING -NEARLY_BACK-> RETURNING                      BLOCKED -NEARLY_BACK-> RETURNING_BLOCKED
    RETURNING | RETURNING_BLOCKED -BACK-> UP               -RELAPSED-> where it came from
    UP | STALLED | SPOOLING | BLOCKED -BEHIND-> BEHIND     BEHIND -NEARLY_BACK-> RETURNING_BLOCKED

Stopping is not a phase: a node that stops still writes its queue, to the ledger or to the outbox
as its phase says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum, auto
from typing import Final, NamedTuple

from connector.accounting import bounds
from connector.base.backoff import Backoff
from connector.base.errors import LedgerNotNowError


class State(Enum):
    """The state shown in the API, metrics, logs and events."""

    UNAVAILABLE = "unavailable"
    """The balances are not known: the ledger has not answered since the start."""
    AVAILABLE = "available"
    SPOOLING = "spooling"
    """The ledger is away; requests go to the outbox."""
    REJECTING = "rejecting"
    """The ledger is away or does not answer, and no new packet is accepted."""


class Phase(Enum):
    """The relation to the ledger."""

    OPENING = auto()
    """The first attempt to reach the ledger is in progress."""
    WAITING = auto()
    """The ledger has not been reached yet, and the balances are only there."""
    UP = auto()
    STALLED = auto()
    """The ledger failed or does not answer a request; requests still go to it."""
    SPOOLING = auto()
    """The ledger is away; requests go to the outbox."""
    BLOCKED = auto()
    """The ledger is away, and the outbox is full or fails."""
    RETURNING = auto()
    """The ledger answers, and the rest of the outbox fits in one request: the writer pauses."""
    RETURNING_BLOCKED = auto()
    """As RETURNING, entered from BLOCKED or BEHIND: no packets are admitted."""
    BEHIND = auto()
    """The ledger answers, but has less than it acknowledged: it is another one or an older copy."""


class Event(Enum):
    """What can change the phase."""

    OPENED = auto()
    """The ledger was reached for the first time, and all balances are loaded."""
    BLIND = auto()
    """The ledger cannot be reached at the start, and the balances are not known."""
    KNOWN = auto()
    """The ledger cannot be reached at the start, but the outbox has the balances."""
    FAILED = auto()
    """A request was not acknowledged; new packets are rejected (policy reject)."""
    FAILED_OVER = auto()
    """A request was not acknowledged; requests go to the outbox (policy spool)."""
    SLOW = auto()
    """A request has been without an answer for too long."""
    ANSWERED = auto()
    FULL = auto()
    """The outbox has no room for new packets."""
    OUTBOX_FAILED = auto()
    ROOM = auto()
    """The outbox was written and has room."""
    NEARLY_BACK = auto()
    """What is left in the outbox fits in one request."""
    BACK = auto()
    """The outbox has been replayed."""
    RELAPSED = auto()
    """The ledger failed before the outbox was replayed."""
    BEHIND = auto()
    """The ledger has less than it acknowledged."""


class Admits(Enum):
    """What decides whether a packet's money can be held."""

    BY_LEDGER = auto()
    BY_MIRROR = auto()
    """The balances in memory: the ledger cannot be asked."""
    NOTHING = auto()


class WritesTo(Enum):
    """Where the writer puts requests."""

    NOWHERE = auto()
    """Nothing can be queued yet."""
    LEDGER = auto()
    OUTBOX = auto()
    PAUSED = auto()
    """Requests stay queued until the phase ends."""


class Asks(Enum):
    """Which task polls the ledger, besides the writer."""

    OPEN = auto()
    """The first attempt to open it."""
    EXPIRY = auto()
    """`expire`, while nothing is queued."""
    RECONNECT = auto()
    """`reconnect`, with a growing delay."""
    REPLAY = auto()
    """The end of a replay."""


class Row(NamedTuple):
    """The meaning of a phase."""

    shown: State
    admits: Admits
    writes_to: WritesTo
    asks: Asks


ROWS: Final[Mapping[Phase, Row]] = {
    Phase.OPENING: Row(State.UNAVAILABLE, Admits.NOTHING, WritesTo.NOWHERE, Asks.OPEN),
    Phase.WAITING: Row(State.UNAVAILABLE, Admits.NOTHING, WritesTo.NOWHERE, Asks.RECONNECT),
    Phase.UP: Row(State.AVAILABLE, Admits.BY_LEDGER, WritesTo.LEDGER, Asks.EXPIRY),
    Phase.STALLED: Row(State.REJECTING, Admits.NOTHING, WritesTo.LEDGER, Asks.EXPIRY),
    Phase.SPOOLING: Row(State.SPOOLING, Admits.BY_MIRROR, WritesTo.OUTBOX, Asks.RECONNECT),
    Phase.BLOCKED: Row(State.REJECTING, Admits.NOTHING, WritesTo.OUTBOX, Asks.RECONNECT),
    Phase.RETURNING: Row(State.SPOOLING, Admits.BY_MIRROR, WritesTo.PAUSED, Asks.REPLAY),
    Phase.RETURNING_BLOCKED: Row(State.REJECTING, Admits.NOTHING, WritesTo.PAUSED, Asks.REPLAY),
    Phase.BEHIND: Row(State.REJECTING, Admits.NOTHING, WritesTo.OUTBOX, Asks.RECONNECT),
}

TRANSITIONS: Final[Mapping[tuple[Phase, Event], Phase]] = {
    (Phase.OPENING, Event.OPENED): Phase.UP,
    (Phase.OPENING, Event.BLIND): Phase.WAITING,
    (Phase.OPENING, Event.KNOWN): Phase.SPOOLING,
    (Phase.WAITING, Event.OPENED): Phase.UP,
    (Phase.UP, Event.FAILED): Phase.STALLED,
    (Phase.UP, Event.FAILED_OVER): Phase.SPOOLING,
    (Phase.UP, Event.SLOW): Phase.STALLED,
    (Phase.STALLED, Event.FAILED): Phase.STALLED,
    (Phase.STALLED, Event.FAILED_OVER): Phase.SPOOLING,
    (Phase.STALLED, Event.SLOW): Phase.STALLED,
    (Phase.STALLED, Event.ANSWERED): Phase.UP,
    # A request that was in flight when the ledger was found to be away may fail afterwards.
    (Phase.SPOOLING, Event.FAILED_OVER): Phase.SPOOLING,
    (Phase.BLOCKED, Event.FAILED_OVER): Phase.BLOCKED,
    (Phase.RETURNING, Event.FAILED_OVER): Phase.RETURNING,
    (Phase.RETURNING_BLOCKED, Event.FAILED_OVER): Phase.RETURNING_BLOCKED,
    (Phase.SPOOLING, Event.FULL): Phase.BLOCKED,
    (Phase.SPOOLING, Event.OUTBOX_FAILED): Phase.BLOCKED,
    (Phase.BLOCKED, Event.OUTBOX_FAILED): Phase.BLOCKED,
    (Phase.BLOCKED, Event.ROOM): Phase.SPOOLING,
    (Phase.SPOOLING, Event.NEARLY_BACK): Phase.RETURNING,
    (Phase.BLOCKED, Event.NEARLY_BACK): Phase.RETURNING_BLOCKED,
    # The write to the outbox that was in progress when the writer was paused ends in these phases.
    (Phase.RETURNING, Event.FULL): Phase.RETURNING_BLOCKED,
    (Phase.RETURNING, Event.OUTBOX_FAILED): Phase.RETURNING_BLOCKED,
    (Phase.RETURNING_BLOCKED, Event.OUTBOX_FAILED): Phase.RETURNING_BLOCKED,
    (Phase.RETURNING_BLOCKED, Event.ROOM): Phase.RETURNING,
    (Phase.RETURNING, Event.BACK): Phase.UP,
    (Phase.RETURNING_BLOCKED, Event.BACK): Phase.UP,
    (Phase.RETURNING, Event.RELAPSED): Phase.SPOOLING,
    (Phase.RETURNING_BLOCKED, Event.RELAPSED): Phase.BLOCKED,
    (Phase.UP, Event.BEHIND): Phase.BEHIND,
    (Phase.STALLED, Event.BEHIND): Phase.BEHIND,
    (Phase.SPOOLING, Event.BEHIND): Phase.BEHIND,
    (Phase.BLOCKED, Event.BEHIND): Phase.BEHIND,
    (Phase.BEHIND, Event.BEHIND): Phase.BEHIND,
    (Phase.BEHIND, Event.NEARLY_BACK): Phase.RETURNING_BLOCKED,
    (Phase.BEHIND, Event.OUTBOX_FAILED): Phase.BEHIND,
    # A request that was in flight when the ledger was found to be behind may fail afterwards.
    (Phase.BEHIND, Event.FAILED): Phase.BEHIND,
    (Phase.BEHIND, Event.FAILED_OVER): Phase.BEHIND,
    (Phase.BLOCKED, Event.FAILED): Phase.BLOCKED,
    (Phase.RETURNING_BLOCKED, Event.FAILED): Phase.RETURNING_BLOCKED,
}

_AWAY: Final = frozenset(phase for phase, row in ROWS.items() if row.asks is Asks.RECONNECT)
_BLOCKED: Final = frozenset({Phase.BLOCKED, Phase.RETURNING_BLOCKED})
_KEPT_REASON: Final = frozenset({Phase.BLOCKED, Phase.BEHIND})
BACKOFF: Final = Backoff(
    min_s=bounds.LEDGER_ASK_AGAIN_SECONDS_MIN, max_s=bounds.LEDGER_ASK_AGAIN_SECONDS_MAX
)
"""Without jitter: one node asks one ledger."""


class Availability:
    """The phase, its reason, and the delay before the ledger is polled again."""

    def __init__(
        self,
        *,
        spools: bool,
        on_state: Callable[[State, str], None],
        on_away: Callable[[], None],
    ) -> None:
        """Nothing is known of the ledger yet.

        Args:
            spools: whether requests go to the outbox while the ledger is away (policy spool).
            on_state: called with the state shown and its reason whenever the state changes.
            on_away: called when the ledger is found to be away, to start polling it.
        """
        self.spools: Final = spools
        self.phase = Phase.OPENING
        self.row = ROWS[Phase.OPENING]
        self.reason = "starting"
        self.is_up = False
        """Whether the phase is UP: the only check of it on the packet path."""
        self._failures = 1
        """Consecutive failures, each less than LEDGER_STABLE_SECONDS after the one before."""
        self._failed_at_s = -1e9
        self._on_state = on_state
        self._on_away = on_away

    @property
    def ask_again_s(self) -> float:
        """Seconds that `reconnect` waits before it polls the ledger again."""
        return BACKOFF.grown_s(self._failures)

    @property
    def state(self) -> State:
        """The state shown for the phase."""
        return self.row.shown

    @property
    def is_away(self) -> bool:
        """Whether the ledger has to be polled until it is back."""
        return self.phase in _AWAY

    @property
    def is_returning(self) -> bool:
        """Whether a replay is about to hand over to the ledger."""
        return self.row.writes_to is WritesTo.PAUSED

    @property
    def writes_to_ledger(self) -> bool:
        """Whether requests go to the ledger."""
        return self.row.writes_to is WritesTo.LEDGER

    def require_up(self) -> None:
        """Check that the ledger can be queried.

        Raises:
            LedgerUnavailableError: it is away, or has not been reached yet.
        """
        if not self.is_up:
            raise LedgerNotNowError(f"the ledger is away: {self.reason}")

    # --- events

    def opened(self) -> None:
        """All balances are loaded."""
        self._move(Event.OPENED, "")

    def blind(self, why: str) -> None:
        """The ledger cannot be reached, and the balances are only there."""
        self._move(Event.BLIND, why)
        self._on_state(self.row.shown, why)

    def known(self, why: str, now_s: float) -> None:
        """The ledger cannot be reached, but the balances are known."""
        self._back_off(now_s)
        self._move(Event.KNOWN, why)

    def failed(self, why: str, now_s: float) -> None:
        """A request was not acknowledged."""
        if self.row.writes_to is WritesTo.LEDGER:
            self._back_off(now_s)
        self._move(Event.FAILED_OVER if self.spools else Event.FAILED, why)

    def slow(self, why: str) -> None:
        """A request has been without an answer for too long."""
        self._move(Event.SLOW, why)

    def answered(self) -> None:
        """A ledger that had stalled acknowledged a request."""
        self._move(Event.ANSWERED, "")

    def full(self, why: str) -> None:
        """The outbox has no room for new packets."""
        self._move(Event.FULL, why)

    def outbox_failed(self, why: str) -> bool:
        """The outbox could not be written. Returns whether that was not known before."""
        is_news = self.phase not in _BLOCKED
        self._move(Event.OUTBOX_FAILED, why if is_news else self.reason)
        return is_news

    def outbox_took(self, *, has_room: bool) -> None:
        """The outbox was written."""
        if has_room and self.phase in _BLOCKED:
            self._move(Event.ROOM, self.reason)

    def nearly_back(self) -> None:
        """The rest of the outbox fits in one request: the writer has to pause now."""
        self._move(Event.NEARLY_BACK, self.reason)

    def back(self) -> None:
        """The outbox has been replayed."""
        self._move(Event.BACK, "")

    def relapsed(self) -> None:
        """The ledger failed before the outbox was replayed."""
        self._move(Event.RELAPSED, self.reason)

    def still_away(self, why: str) -> None:
        """A poll of the ledger failed. A reason why the outbox is blocked is kept."""
        assert self.is_away, self.phase
        if self.phase not in _KEPT_REASON:
            self.reason = why

    def behind(self, why: str) -> bool:
        """The ledger has less than it acknowledged. Returns whether that was not known before."""
        if self.phase is Phase.WAITING:
            return self.refused(why)
        is_news = self.phase is not Phase.BEHIND
        self._move(Event.BEHIND, why)
        return is_news

    def refused(self, why: str) -> bool:
        """A poll of the ledger was refused. Returns whether the reason is a new one."""
        assert self.is_away, self.phase
        is_news = self.reason != why
        self.reason = why
        return is_news

    def _back_off(self, now_s: float) -> None:
        if now_s - self._failed_at_s > bounds.LEDGER_STABLE_SECONDS:
            self._failures = 1
        else:
            # It answers and fails by turns (a full disk, for example): do not oscillate.
            self._failures += 1
        self._failed_at_s = now_s
        assert self.ask_again_s >= bounds.LEDGER_ASK_AGAIN_SECONDS_MIN
        assert self.ask_again_s <= bounds.LEDGER_ASK_AGAIN_SECONDS_MAX

    def _move(self, event: Event, why: str) -> None:
        before, was_away = self.row, self.is_away
        self.phase = TRANSITIONS[self.phase, event]
        self.row = ROWS[self.phase]
        self.is_up = self.phase is Phase.UP
        self.reason = why
        assert self.is_up is (self.row.admits is Admits.BY_LEDGER), self.phase
        if self.is_away and not was_away:
            self._on_away()
        if self.row.shown is not before.shown:
            self._on_state(self.row.shown, why)
