"""Staying connected: dial again after every end, with growing waits, one log line per reason."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any, cast

import pytest
import structlog

from connector.btp import bounds
from connector.btp.credentials import Credentials
from connector.btp.dial import BACKOFF, Dialler, DialState
from connector.btp.link import Link
from tests.support.ledgers import ManualClock

BOB = Credentials(peer_id="bob", token="secret", username="us", url="ws://bob:1")


class FakeLink:
    """A link that is closed already; `lived_s` seconds after its log-in, if there was one."""

    def __init__(self, clock: ManualClock, *, lived_s: float | None, reason: str = "gone") -> None:
        self.closed = asyncio.Event()
        self.closed.set()
        self.close_reason = reason
        self.logged_in_at_s = 0.0 if lived_s is None else clock.monotonic_s() - lived_s


class ScriptedDialler:
    """A dialler with scripted attempts, whose waits take no time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock = ManualClock()
        self.log = structlog.testing.CapturingLogger()
        self.waits: list[float] = []
        self.shown: list[str] = []
        """The token of each attempt."""
        self.outcomes: list[Any] = []
        self.served_by: list[Any] = []
        self.carries: list[int] = []
        """Packets since the call before, for each look at them."""
        self.packets = 0
        self.dialler = Dialler(
            connect=self._connect,
            serving=lambda _peer_id: self.served_by.pop(0) if self.served_by else None,
            carried=self._carried,
            clock=self.clock,
            log=self.log,
            random=lambda: 1.0,
        )
        monkeypatch.setattr("connector.btp.dial.asyncio.sleep", self._sleep)

    async def _connect(self, credentials: Credentials) -> Link:
        assert credentials.peer_id == "bob"
        self.shown.append(credentials.token)
        outcome = self.outcomes.pop(0)
        if not self.outcomes:
            self.dialler.stop()
        if isinstance(outcome, Exception):
            raise outcome
        return cast(Link, outcome)

    def _carried(self, _peer_id: str) -> int:
        """As the links said that they had: the one under way may have carried since it was last asked."""
        self.packets += self.carries.pop(0) if self.carries else 0
        return self.packets

    async def _sleep(self, seconds: float) -> None:
        self.waits.append(seconds)

    async def run(self, *outcomes: object, credentials: Credentials = BOB) -> DialState:
        self.outcomes = list(outcomes)
        await self.dialler.stay_connected(credentials)
        return self.dialler.states["bob"]

    @property
    def reasons(self) -> list[str]:
        return [call.kwargs["reason"] for call in self.log.calls]


@pytest.fixture
def dialling(monkeypatch: pytest.MonkeyPatch) -> ScriptedDialler:
    return ScriptedDialler(monkeypatch)


async def test_waits_grow_up_to_the_maximum(dialling: ScriptedDialler) -> None:
    state = await dialling.run(*[ConnectionRefusedError(111, "refused")] * 8)
    assert state.attempts == 8
    assert dialling.waits == [BACKOFF.wait_s(failures, lambda: 1.0) for failures in range(1, 9)]
    assert dialling.waits[-1] == pytest.approx(
        bounds.RECONNECT_DELAY_SECONDS_MAX + bounds.RECONNECT_DELAY_SECONDS_MIN / 2
    )


async def test_one_log_line_per_reason(dialling: ScriptedDialler) -> None:
    refused = ConnectionRefusedError(111, "refused")
    state = await dialling.run(refused, refused, TimeoutError(), TimeoutError(), refused)
    assert dialling.reasons == ["Connection refused", "timed out", "Connection refused"]
    assert state.last_error == "Connection refused"


async def test_a_link_without_a_log_in_is_a_failure_with_its_reason(
    dialling: ScriptedDialler,
) -> None:
    state = await dialling.run(
        FakeLink(dialling.clock, lived_s=None, reason="log-in refused: F00 ''")
    )
    assert state.last_error == "log-in refused: F00 ''"
    assert dialling.reasons == [state.last_error]


async def test_a_link_that_logged_in_clears_the_error(dialling: ScriptedDialler) -> None:
    dialling.clock.advance(1000)
    state = await dialling.run(TimeoutError(), FakeLink(dialling.clock, lived_s=1))
    assert state.last_error == ""
    assert dialling.reasons == ["timed out"]


async def test_only_a_stable_link_resets_the_wait(dialling: ScriptedDialler) -> None:
    dialling.clock.advance(1000)
    short = FakeLink(dialling.clock, lived_s=bounds.RECONNECT_STABLE_SECONDS - 1)
    stable = FakeLink(dialling.clock, lived_s=bounds.RECONNECT_STABLE_SECONDS + 1)
    await dialling.run(TimeoutError(), short, stable, TimeoutError())
    expected = [BACKOFF.wait_s(failures, lambda: 1.0) for failures in (1, 2, 1, 2)]
    assert dialling.waits == expected


async def test_a_short_link_that_carried_packets_does_not_make_the_next_dial_wait_for_long(
    dialling: ScriptedDialler,
) -> None:
    dialling.clock.advance(1000)
    refused = [ConnectionRefusedError(111, "refused")] * 6
    short = [FakeLink(dialling.clock, lived_s=1) for _ in range(3)]
    dialling.carries = [0] * 6 + [0, 1] * 3
    await dialling.run(*refused, *short)
    most = bounds.RECONNECT_FAILURES_CARRIED + 1
    expected = [*range(1, 7), most, most, most]
    assert dialling.waits == [BACKOFF.wait_s(failures, lambda: 1.0) for failures in expected]
    assert dialling.waits[-1] < 0.5


async def test_links_that_carry_nothing_make_the_next_dial_wait_for_longer(
    dialling: ScriptedDialler,
) -> None:
    """Logged in or not: a peer that closes each link at once is not dialled ten times a second."""
    dialling.clock.advance(1000)
    lived = (1, None, 1, None)
    await dialling.run(*[FakeLink(dialling.clock, lived_s=one) for one in lived])
    assert dialling.waits == [BACKOFF.wait_s(failures, lambda: 1.0) for failures in (1, 2, 3, 4)]


async def test_a_link_of_the_peer_that_carried_packets_counts_as_one_of_ours(
    dialling: ScriptedDialler,
) -> None:
    dialling.served_by = [FakeLink(dialling.clock, lived_s=0) for _ in range(5)]
    dialling.carries = [0, 0, 0, 0, 0, 0, 0, 0, 0, 1]
    await dialling.run(TimeoutError())
    expected = (1, 2, 3, 4, 3, 4)
    assert dialling.waits == [BACKOFF.wait_s(failures, lambda: 1.0) for failures in expected]


async def test_the_history_of_a_removed_peer_is_discarded(dialling: ScriptedDialler) -> None:
    await dialling.run(TimeoutError())
    dialling.dialler.remove("bob")
    dialling.dialler.remove("bob")
    assert dialling.dialler.states == {}


async def test_a_peer_that_has_dialled_this_node_is_not_dialled_before_that_link_is_gone(
    dialling: ScriptedDialler,
) -> None:
    dialling.served_by = [FakeLink(dialling.clock, lived_s=0)] * 3
    state = await dialling.run(TimeoutError())
    assert state.attempts == 1
    assert dialling.waits == [BACKOFF.wait_s(failures, lambda: 1.0) for failures in (1, 2, 3, 4)]


async def test_a_link_of_the_peer_that_lasted_resets_the_wait(dialling: ScriptedDialler) -> None:
    class LongLink(FakeLink):
        def __init__(self) -> None:
            super().__init__(dialling.clock, lived_s=0)
            self.closed.wait = self._wait  # type: ignore[method-assign]

        async def _wait(self) -> bool:
            dialling.clock.advance(1000 * (bounds.RECONNECT_STABLE_SECONDS + 1))
            return True

    dialling.served_by = [FakeLink(dialling.clock, lived_s=0)] * 3 + [LongLink()]
    await dialling.run(TimeoutError())
    assert dialling.waits == [BACKOFF.wait_s(failures, lambda: 1.0) for failures in (1, 2, 3, 1, 2)]


async def test_where_the_new_secret_is_refused_the_former_one_is_shown_while_it_serves(
    dialling: ScriptedDialler,
) -> None:
    clock = dialling.clock
    until_ms = clock.now_ms() + 60_000
    rotated = replace(BOB, former_token="former", former_until_ms=until_ms)
    refused = [FakeLink(clock, lived_s=None) for _ in range(3)]
    worked = [FakeLink(clock, lived_s=5.0) for _ in range(2)]
    away = ConnectionRefusedError(111, "refused")
    await dialling.run(refused[0], worked[0], away, refused[1], worked[1], credentials=rotated)
    # What worked is shown again; a peer that is away has refused nothing.
    assert dialling.shown == ["secret", "former", "former", "former", "secret"]


async def test_a_former_secret_that_serves_no_more_is_not_shown(dialling: ScriptedDialler) -> None:
    clock = dialling.clock
    over = replace(BOB, former_token="former", former_until_ms=clock.now_ms())
    await dialling.run(*[FakeLink(clock, lived_s=None) for _ in range(4)], credentials=over)
    assert dialling.shown == ["secret"] * 4
