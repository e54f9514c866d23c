"""One sink: nothing is lost whatever fails at whichever step, and how it is, is said."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from connector.base.disk import SystemDisk
from connector.base.errors import EnvironmentFault, UnknownNameError
from connector.base.randomness import SystemRandomness
from connector.settings.model import Settings
from connector.sinks import bounds, runner
from connector.sinks.port import Record, Refused, SinkError
from connector.sinks.sinks import Sinks
from connector.telemetry.bus import EventBus
from connector.telemetry.events import PeerConnected
from connector.telemetry.store import EventStore
from tests.support.daemons import EventLog, until
from tests.support.ledgers import ManualClock


class FakeSink:
    """Keeps what it gets, as the test wants."""

    name = "webhook"
    place = "nowhere"

    def __init__(self) -> None:
        self.got: list[Record] = []
        self.batches: list[int] = []
        self.refuses: set[int] = set()
        self.fault: Exception | None = None
        self.fails_once = False
        self.keeps_before_fault = False
        """Whether a batch that fails is there all the same."""
        self.gate: asyncio.Event | None = None
        self.began = asyncio.Event()
        self.closed = 0

    async def deliver(self, records: Sequence[Record]) -> Sequence[Refused]:
        self.began.set()
        if self.gate is not None:
            await self.gate.wait()
        if self.fails_once:
            self.fails_once = False
            raise SinkError("the connection was idle for too long")
        if self.fault is not None:
            if self.keeps_before_fault:
                self.got += records
            raise self.fault
        self.batches.append(len(records))
        self.got += [one for one in records if one.seq not in self.refuses]
        return [Refused(one, "HTTP 422") for one in records if one.seq in self.refuses]

    async def close(self) -> None:
        self.closed += 1

    @property
    def seqs(self) -> list[int]:
        return [one.seq for one in self.got if one.type != runner.GAP_TYPE]


class Setup:
    """A store, a sink, and what delivers from one to the other."""

    def __init__(self, folder: Path, sink: FakeSink, clock: ManualClock, **options: Any) -> None:
        self.sink, self.clock, self.log = sink, clock, EventLog()
        settings = Settings(
            node_id="me",
            data_dir=folder,
            sink_webhook_url="http://127.0.0.1:9/",
            sink_webhook_secret="long-enough-for-a-secret",
            **options,
        )
        self.bus = EventBus(node_id="me", clock=clock)
        self.store = EventStore(
            path=folder / "events.sqlite",
            disk=SystemDisk(),
            node_id="me",
            clock=clock,
            log=self.log,
            events_max=settings.explorer_max_events,
            bytes_max=1 << 30,
            retention_days=7,
        )
        self.bus.hand_to(self.store.take)
        self.sinks = Sinks(
            [(sink, None)],
            settings=settings,
            store=self.store,
            bus=self.bus,
            disk=SystemDisk(),
            clock=clock,
            randomness=SystemRandomness(),
            log=self.log,
        )
        self.runner = self.sinks.runners["webhook"]

    async def tell(self, count: int = 1) -> list[int]:
        first = self.bus.seq + 1
        for at in range(count):
            self.bus.emit(PeerConnected(peer_id=f"bob-{at}", direction="inbound"))
            first = self.bus.seq - at
        self.bus.flush()
        await self.store.write()
        return list(range(first, first + count))

    def shown(self) -> dict[str, Any]:
        (one,) = self.sinks.view()
        return one


@asynccontextmanager
async def running(
    folder: Path, sink: FakeSink, clock: ManualClock | None = None, **options: Any
) -> AsyncIterator[Setup]:
    setup = Setup(folder, sink, clock or ManualClock(), **options)
    await setup.store.open()
    setup.bus.number_from(setup.store.last_seq)
    try:
        async with asyncio.TaskGroup() as group:
            setup.sinks.start(group)
            yield setup
            await setup.sinks.stop()
    finally:
        await setup.sinks.stop()
        await setup.store.close()


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "_PAUSE", runner.Backoff(min_s=0.005, max_s=0.01))
    monkeypatch.setattr(bounds, "LOOK_SECONDS", 0.01)


async def test_events_come_in_order_once_and_in_batches(tmp_path: Path) -> None:
    sink = FakeSink()
    async with running(tmp_path, sink) as setup:
        seqs = await setup.tell(450)
        await until(lambda: len(sink.got) == 450)
        assert sink.seqs == seqs
        assert max(sink.batches) <= bounds.BATCH_EVENTS_MAX
        assert json.loads(sink.got[0].text)["seq"] == seqs[0]
        await until(lambda: setup.runner.delivered == 450)
        shown = setup.shown()
        assert (shown["state"], shown["lagEvents"], shown["delivered"]) == ("current", 0, 450)
        assert shown["deliveredBytes"] == sum(len(one.text) for one in sink.got)
    assert sink.closed


async def test_a_sink_that_fails_is_tried_again_and_told_of_once(tmp_path: Path) -> None:
    sink = FakeSink()
    sink.fault = SinkError("the answer is HTTP 503")
    async with running(tmp_path, sink) as setup:
        seqs = await setup.tell(3)
        await until(lambda: setup.runner.failures > 3)
        shown = setup.shown()
        assert (shown["state"], shown["fault"]) == ("failing", "the answer is HTTP 503")
        assert shown["nextAttemptAt"] is not None
        assert shown["lagEvents"] == 3
        seqs += await setup.tell(2)
        sink.fault = None
        await until(lambda: len(sink.got) == 5)
        assert sink.seqs == seqs
        await setup.log.seen("sink_recovered")
        assert setup.log.count("sink_failed") == 1
        assert setup.shown()["retried"] > 3


async def test_what_a_sink_raises_does_not_stop_the_node(tmp_path: Path) -> None:
    sink = FakeSink()
    sink.fault = ZeroDivisionError("of a library")
    async with running(tmp_path, sink) as setup:
        await setup.tell()
        await setup.log.seen("sink_broken")
        assert setup.shown()["fault"] == "ZeroDivisionError"
        sink.fault = None
        await until(lambda: len(sink.got) == 1)


async def test_a_batch_of_which_nobody_knows_comes_twice_and_no_other(tmp_path: Path) -> None:
    sink = FakeSink()
    async with running(tmp_path, sink) as setup:
        first = await setup.tell(2)
        await until(lambda: len(sink.got) == 2)
        sink.fault, sink.keeps_before_fault = SinkError("no answer"), True
        second = await setup.tell(2)
        await until(lambda: setup.runner.failures == 1)
        sink.fault = None
        await until(lambda: setup.runner.delivered == 4)
        assert sink.seqs[:2] == first
        assert set(sink.seqs[2:]) == set(second)


@pytest.mark.parametrize("step", ["deliver", "dead", "advance"])
async def test_a_crash_at_any_step_loses_nothing_and_repeats_one_batch(
    tmp_path: Path, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process ends in the middle of a step: it never comes back from it."""
    sink, clock = FakeSink(), ManualClock()
    crashed = asyncio.Event()

    async def never(*_args: Any, **_named: Any) -> Any:
        crashed.set()
        await asyncio.Event().wait()

    setup = Setup(tmp_path, sink, clock)
    await setup.store.open()
    before = await setup.tell(2)
    task = asyncio.ensure_future(setup.runner.run())
    await until(lambda: setup.runner.delivered == 2)
    if step == "deliver":
        sink.gate = asyncio.Event()
    elif step == "dead":
        monkeypatch.setattr(setup.runner._dead, "put", never)
    else:
        monkeypatch.setattr(setup.store, "advance", never)
    after = await setup.tell(3)
    sink.refuses = {after[1]}
    setup.runner.wake()
    await (sink.began if step == "deliver" else crashed).wait()
    task.cancel()
    await asyncio.wait([task])
    await setup.store.close()
    await setup.runner._dead.close()
    monkeypatch.undo()
    monkeypatch.setattr(runner, "_PAUSE", runner.Backoff(min_s=0.005, max_s=0.01))
    sink.gate = None
    async with running(tmp_path, sink, clock) as again:
        await until(lambda: again.runner.delivered == 3)
        letters, _ = await again.sinks.dead_letters("webhook", "", 10)
        assert [one["seq"] for one in letters] == [after[1]]
    assert set(sink.seqs) == {*before, after[0], after[2]}
    times = {seq: sink.seqs.count(seq) for seq in sink.seqs}
    assert all(times[seq] == 1 for seq in before)
    assert all(times[seq] <= 2 for seq in (after[0], after[2]))
    if step == "deliver":
        assert len(sink.seqs) == 4


async def test_a_cursor_that_cannot_be_kept_holds_the_sink_without_repeating(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = FakeSink()
    async with running(tmp_path, sink) as setup:
        move = setup.store.advance
        fails = True

        async def advance(name: str, seqs: Sequence[int], *, gap: bool) -> None:
            if fails:
                raise EnvironmentFault("the event store: disk is full")
            await move(name, seqs, gap=gap)

        monkeypatch.setattr(setup.store, "advance", advance)
        seqs = await setup.tell(2)
        await until(lambda: setup.runner.failures > 3)
        assert "disk is full" in setup.shown()["fault"]
        seqs += await setup.tell(2)
        assert len(sink.got) == 2
        fails = False
        await until(lambda: setup.runner.delivered == 4)
        assert sink.seqs == seqs


async def test_a_sink_that_is_away_for_too_long_is_told_exactly_what_it_missed(
    tmp_path: Path,
) -> None:
    sink = FakeSink()
    sink.fault = SinkError("away")
    # A tenth of 100 is for events such as these.
    async with running(tmp_path, sink, explorer_max_events=100) as setup:
        seqs = await setup.tell(10)
        await until(lambda: setup.runner.failures > 0)
        seqs += await setup.tell(25)
        sink.fault = None
        await until(lambda: setup.runner.delivered == 10)
        gap = json.loads(sink.got[0].text)
        assert gap["type"] == "SINK_GAP"
        assert (gap["missed"], gap["missedTotal"]) == (25, 25)
        assert (gap["sink"], gap["nodeId"]) == ("webhook", "me")
        assert (gap["fromSeq"], gap["toSeq"]) == (seqs[0], seqs[24])
        assert sink.seqs == seqs[25:]
        await setup.log.seen("sink_missed_events", events=25, total=25)
        assert setup.shown()["missed"] == 25


async def test_what_is_refused_is_kept_and_delivered_again_when_asked(tmp_path: Path) -> None:
    sink = FakeSink()
    async with running(tmp_path, sink) as setup:
        seqs = await setup.tell(2)
        await until(lambda: len(sink.got) == 2)
        sink.gate = asyncio.Event()
        more = await setup.tell(3)
        sink.refuses = {more[0], more[2]}
        sink.gate.set()
        await setup.log.seen("sink_refused", events=2, reason="HTTP 422")
        await until(lambda: setup.shown()["deadLetters"] == 2)
        letters, following = await setup.sinks.dead_letters("webhook", "", 1)
        assert [one["seq"] for one in letters] == [more[0]]
        assert following is not None
        assert (await setup.sinks.dead_letters("webhook", following, 5))[0][0]["seq"] == more[2]
        sink.refuses = {more[2]}
        assert await setup.sinks.deliver_again("webhook", None) == 2
        await until(lambda: more[0] in sink.seqs and setup.shown()["deadLetters"] == 1)
        (letter,), _ = await setup.sinks.dead_letters("webhook", "", 5)
        assert (letter["seq"], letter["attempts"], letter["again"]) == (more[2], 2, False)
        with pytest.raises(UnknownNameError):
            await setup.sinks.deliver_again("webhook", seqs[0])
        with pytest.raises(UnknownNameError):
            await setup.sinks.deliver_again("other", None)
        sink.refuses = set()
        assert await setup.sinks.deliver_again("webhook", more[2]) == 1
        await until(lambda: setup.shown()["deadLetters"] == 0)
        assert sorted(sink.seqs) == [*seqs, *more]


async def test_dead_letters_that_cannot_be_kept_are_not_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = FakeSink()
    async with running(tmp_path, sink) as setup:
        put = setup.runner._dead.put

        async def fails(*_args: Any) -> int:
            raise EnvironmentFault("dead letters cannot be kept: disk is full")

        monkeypatch.setattr(setup.runner._dead, "put", fails)
        sink.gate = asyncio.Event()
        seqs = await setup.tell(1)
        sink.refuses = set(seqs)
        sink.gate.set()
        await until(lambda: setup.runner.failures > 2)
        assert setup.shown()["lagEvents"] == 1
        monkeypatch.setattr(setup.runner._dead, "put", put)
        await until(lambda: setup.shown()["deadLetters"] == 1)


async def test_an_alert_when_it_falls_behind_and_when_it_has_caught_up(tmp_path: Path) -> None:
    sink, clock = FakeSink(), ManualClock()
    sink.fault = SinkError("away")
    async with running(tmp_path, sink, clock, sink_lag_alert_seconds=60) as setup:
        await setup.tell(1)
        await until(lambda: setup.runner.failures > 0)
        clock.advance(61)
        await setup.log.seen("sink_lags", sink="webhook", lag_seconds=61, reason="away")
        assert setup.shown()["lagSeconds"] == 61
        await until(lambda: setup.runner.failures > 5)
        assert setup.log.count("sink_lags") == 1
        sink.fault = None
        await setup.log.seen("sink_caught_up")
        assert setup.shown()["lagSeconds"] == 0


async def test_a_sink_that_hangs_before_it_has_read_is_seen_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink, clock = FakeSink(), ManualClock()
    async with running(tmp_path, sink, clock, sink_lag_alert_seconds=60) as setup:
        await setup.tell(1)
        await until(lambda: setup.runner.delivered == 1)
        clock.advance(3600)  # a quiet hour is no lag
        gate = asyncio.Event()
        read = setup.store.read_next

        async def hangs(*args: Any, **named: Any) -> Any:
            await gate.wait()
            return await read(*args, **named)

        monkeypatch.setattr(setup.store, "read_next", hangs)
        await setup.tell(1)
        assert setup.shown()["lagSeconds"] == 0
        clock.advance(61)
        await setup.log.seen("sink_lags", lag_seconds=61)
        assert setup.shown()["state"] == "behind"
        gate.set()
        await setup.log.seen("sink_caught_up")


async def test_a_single_failure_is_not_worth_an_alert(tmp_path: Path) -> None:
    sink = FakeSink()
    sink.fails_once = True
    async with running(tmp_path, sink) as setup:
        await setup.tell(1)
        await until(lambda: setup.runner.delivered == 1)
        assert setup.shown()["retried"] == 1
        assert setup.log.count("sink_failed") == 0
        assert setup.log.count("sink_recovered") == 0


async def test_a_stop_lets_the_delivery_under_way_end_so_that_it_is_not_repeated(
    tmp_path: Path,
) -> None:
    sink, clock = FakeSink(), ManualClock()
    sink.gate = asyncio.Event()
    async with running(tmp_path, sink, clock) as setup:
        await setup.tell(2)
        await sink.began.wait()
        asyncio.get_running_loop().call_later(0.05, sink.gate.set)
    async with running(tmp_path, sink, clock) as again:
        await again.tell(1)
        await until(lambda: again.runner.delivered == 1)
    assert len(sink.got) == 3


async def test_a_stop_does_not_wait_for_a_sink_that_does_not_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounds, "STOP_SECONDS_MAX", 0.05)
    sink = FakeSink()
    sink.gate = asyncio.Event()
    async with asyncio.timeout(10):
        async with running(tmp_path, sink) as setup:
            await setup.tell(2)
            await sink.began.wait()
    assert sink.got == []
    assert setup.runner.delivered == 0
