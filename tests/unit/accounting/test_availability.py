"""The table of phases: every event in every phase, and what each phase means."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import pytest

from connector.accounting import bounds
from connector.accounting.availability import (
    ROWS,
    TRANSITIONS,
    Admits,
    Asks,
    Availability,
    Event,
    Phase,
    State,
    WritesTo,
)
from connector.base.errors import LedgerUnavailableError

# One way into each phase, and how each event is told.
WAY_TO: dict[Phase, tuple[Event, ...]] = {
    Phase.OPENING: (),
    Phase.WAITING: (Event.BLIND,),
    Phase.UP: (Event.OPENED,),
    Phase.STALLED: (Event.OPENED, Event.SLOW),
    Phase.SPOOLING: (Event.KNOWN,),
    Phase.BLOCKED: (Event.KNOWN, Event.FULL),
    Phase.RETURNING: (Event.KNOWN, Event.NEARLY_BACK),
    Phase.RETURNING_BLOCKED: (Event.KNOWN, Event.FULL, Event.NEARLY_BACK),
    Phase.BEHIND: (Event.OPENED, Event.BEHIND),
}
TELL: dict[Event, Callable[[Availability], object]] = {
    Event.OPENED: lambda one: one.opened(),
    Event.BLIND: lambda one: one.blind("blind"),
    Event.KNOWN: lambda one: one.known("known", 0.0),
    Event.FAILED: lambda one: one.failed("failed", 0.0),
    Event.FAILED_OVER: lambda one: one.failed("failed over", 0.0),
    Event.SLOW: lambda one: one.slow("slow"),
    Event.ANSWERED: lambda one: one.answered(),
    Event.FULL: lambda one: one.full("full"),
    Event.OUTBOX_FAILED: lambda one: one.outbox_failed("disk full"),
    Event.ROOM: lambda one: one.outbox_took(has_room=True),
    Event.NEARLY_BACK: lambda one: one.nearly_back(),
    Event.BACK: lambda one: one.back(),
    Event.RELAPSED: lambda one: one.relapsed(),
    Event.BEHIND: lambda one: one.behind("behind"),
}


class AvailabilitySetup:
    """An availability, and what it has told."""

    def __init__(self, phase: Phase, *, spools: bool = True) -> None:
        self.told: list[tuple[State, str]] = []
        self.away = 0
        self.one = Availability(
            spools=spools,
            on_state=lambda state, why: self.told.append((state, why)),
            on_away=self._on_away,
        )
        for event in WAY_TO[phase]:
            TELL[event](self.one)
        assert self.one.phase is phase
        self.told.clear()
        self.away = 0

    def _on_away(self) -> None:
        self.away += 1


def test_every_phase_has_a_row_and_can_be_reached() -> None:
    assert set(ROWS) == set(Phase)
    assert set(TRANSITIONS.values()) == set(Phase) - {Phase.OPENING}
    assert {event for _, event in TRANSITIONS} == set(Event)


@pytest.mark.parametrize(("phase", "event"), list(product(Phase, Event)))
def test_each_event_leads_where_the_table_says_or_fails(phase: Phase, event: Event) -> None:
    setup = AvailabilitySetup(phase, spools=event is not Event.FAILED)
    to = TRANSITIONS.get((phase, event))
    if event is Event.ROOM and to is None:
        TELL[event](setup.one)  # room is news only where there was none
        assert setup.one.phase is phase
        return
    if event is Event.BEHIND and phase is Phase.WAITING:
        assert setup.one.behind("behind")  # only the reason changes: nothing is taken or written
        assert setup.one.phase is phase
        assert setup.one.reason == "behind"
        return
    if to is None:
        with pytest.raises(KeyError):
            TELL[event](setup.one)
        assert setup.one.phase is phase
        assert setup.told == []
        return
    was = setup.one.state
    TELL[event](setup.one)
    assert setup.one.phase is to
    assert setup.one.state is ROWS[to].shown
    assert setup.one.is_up is (to is Phase.UP)
    told = [state for state, _ in setup.told]
    # That a node waits for its first contact is told although nothing else was shown before.
    assert told == ([] if ROWS[to].shown is was and event is not Event.BLIND else [ROWS[to].shown])
    was_away = ROWS[phase].asks is Asks.RECONNECT
    assert setup.away == (setup.one.is_away and not was_away)


@pytest.mark.parametrize("phase", list(Phase))
def test_only_a_ledger_that_is_up_is_asked_by_others(phase: Phase) -> None:
    setup = AvailabilitySetup(phase)
    if phase is Phase.UP:
        setup.one.require_up()
        return
    with pytest.raises(LedgerUnavailableError, match="the ledger is away"):
        setup.one.require_up()


@pytest.mark.parametrize("phase", list(Phase))
def test_what_a_row_says_agrees_with_itself(phase: Phase) -> None:
    row = ROWS[phase]
    assert (row.admits is Admits.BY_LEDGER) == (row.shown is State.AVAILABLE)
    assert (row.admits is Admits.BY_MIRROR) == (row.shown is State.SPOOLING)
    if row.admits is Admits.BY_LEDGER:
        assert row.writes_to is WritesTo.LEDGER
    if row.writes_to is WritesTo.PAUSED:
        assert row.asks is Asks.REPLAY
    if row.writes_to is WritesTo.OUTBOX:
        assert row.asks is Asks.RECONNECT


def test_the_policy_decides_what_a_failure_leads_to() -> None:
    for spools, phase in ((True, Phase.SPOOLING), (False, Phase.STALLED)):
        setup = AvailabilitySetup(Phase.UP, spools=spools)
        setup.one.failed("no answer", 0.0)
        assert setup.one.phase is phase
        assert setup.one.reason == "no answer"


def test_the_reason_is_empty_while_the_ledger_is_up() -> None:
    setup = AvailabilitySetup(Phase.RETURNING)
    assert setup.one.reason
    setup.one.back()
    assert setup.one.reason == ""


def test_what_blocks_the_outbox_stays_the_reason_while_the_ledger_is_away() -> None:
    spooling, blocked = AvailabilitySetup(Phase.SPOOLING), AvailabilitySetup(Phase.BLOCKED)
    for setup in (spooling, blocked):
        setup.one.still_away("refused")
    assert spooling.one.reason == "refused"
    assert blocked.one.reason == "full"


def test_an_outbox_that_fails_is_news_once() -> None:
    setup = AvailabilitySetup(Phase.SPOOLING)
    assert setup.one.outbox_failed("disk full")
    assert not setup.one.outbox_failed("still full")
    assert setup.one.reason == "disk full"


@pytest.mark.parametrize("phase", [Phase.WAITING, Phase.UP, Phase.SPOOLING])
def test_that_a_ledger_is_behind_is_news_once_and_stays_the_reason(phase: Phase) -> None:
    setup = AvailabilitySetup(phase)
    assert setup.one.behind("has less")
    assert not setup.one.behind("has less")
    assert setup.one.is_away
    if phase is not Phase.WAITING:
        setup.one.still_away("no answer")
        assert setup.one.reason == "has less"


def test_a_refusal_is_news_until_it_is_the_reason() -> None:
    setup = AvailabilitySetup(Phase.WAITING)
    assert setup.one.refused("wrong cluster")
    assert not setup.one.refused("wrong cluster")


def test_a_ledger_that_fails_again_and_again_is_asked_less_often() -> None:
    setup = AvailabilitySetup(Phase.UP, spools=False)
    waits = []
    for _ in range(6):
        setup.one.failed("full disk", 1.0)
        waits.append(setup.one.ask_again_s)
    assert waits == [0.25, 0.5, 1.0, 2.0, 2.0, 2.0]
    setup.one.failed("once more", 1.0 + bounds.LEDGER_STABLE_SECONDS + 0.1)
    assert setup.one.ask_again_s == bounds.LEDGER_ASK_AGAIN_SECONDS_MIN


def test_what_fails_while_it_is_away_does_not_lengthen_the_wait() -> None:
    setup = AvailabilitySetup(Phase.SPOOLING)
    for _ in range(3):
        setup.one.failed("was under way", 0.1)
    assert setup.one.ask_again_s == bounds.LEDGER_ASK_AGAIN_SECONDS_MIN
