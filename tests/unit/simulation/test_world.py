"""Virtual time: the order in which things run, and that nothing of a killed process does."""

from __future__ import annotations

import asyncio

import pytest

from connector.simulation.world import NodeClock, NothingWillHappenError, SpinsError, World


def test_time_jumps_to_the_next_timer() -> None:
    world = World(1)
    fired: list[float] = []
    world.after(3600.0, lambda: fired.append(world.now_s))
    assert world.run_until(lambda: bool(fired), 10_000.0)
    assert fired == [3600.0]


def test_timers_of_one_moment_fire_in_the_order_of_their_making() -> None:
    world = World(1)
    fired: list[int] = []
    for number in range(5):
        world.at(1.0, fired.append, number)
    world.run_until(lambda: len(fired) == 5, 2.0)
    assert fired == [0, 1, 2, 3, 4]


def test_a_world_in_which_nothing_will_happen_says_so() -> None:
    with pytest.raises(NothingWillHappenError):
        World(1).run_until(lambda: False, 1.0)


def test_the_deadline_ends_a_run() -> None:
    world = World(1)
    world.after(10.0, lambda: None)
    assert not world.run_until(lambda: False, 5.0)
    assert world.now_s == 5.0


def test_a_process_that_spins_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("connector.simulation.world.CALLBACKS_AT_ONCE_MAX", 1000)
    world = World(1)
    loop = world.new_process("a")

    def spin() -> None:
        loop.call_soon(spin)

    loop.call_soon(spin)
    with pytest.raises(SpinsError):
        world.run_until(lambda: False, 1.0)


def test_a_killed_process_runs_not_one_line_more() -> None:
    world = World(1)
    loop = world.new_process("a")
    said: list[str] = []

    async def work() -> None:
        try:
            said.append("began")
            await asyncio.sleep(10)
        finally:
            said.append("cleaned up")

    loop.run_now(lambda: loop.create_task(work()))
    world.after(5.0, loop.kill)
    world.after(20.0, lambda: None)
    world.run_until(lambda: False, 15.0)
    assert said == ["began"]
    world.close()


def test_a_paused_process_is_late_and_loses_nothing() -> None:
    world = World(1)
    loop = world.new_process("a")
    woke: list[float] = []

    async def work() -> None:
        await asyncio.sleep(1)
        woke.append(world.now_s)

    loop.run_now(lambda: loop.create_task(work()))
    world.after(0.5, loop.pause)
    world.after(4.0, loop.go_on)
    world.run_until(lambda: bool(woke), 10.0)
    assert woke == [4.0]


def test_asyncio_parts_work_on_a_process_loop() -> None:
    """Task groups, timeouts and locks, as the nodes use them."""
    world = World(1)
    loop = world.new_process("a")
    said: list[str] = []

    async def late(lock: asyncio.Lock) -> None:
        async with lock:
            await asyncio.sleep(2)
        said.append("late")

    async def work() -> None:
        lock = asyncio.Lock()
        async with asyncio.TaskGroup() as group:
            group.create_task(late(lock))
            group.create_task(late(lock))
        try:
            async with asyncio.timeout(1):
                await asyncio.Event().wait()
        except TimeoutError:
            said.append(f"timed out at {world.now_s:g}")

    loop.run_now(lambda: loop.create_task(work()))
    world.run_until(lambda: len(said) == 3, 100.0)
    assert said == ["late", "late", "timed out at 5"]


def test_what_a_callback_raises_is_a_fault_of_its_process() -> None:
    world = World(1)
    loop = world.new_process("a")
    loop.call_soon(lambda: 1 / 0)
    world.after(1.0, lambda: None)
    world.run_until(lambda: False, 0.5)
    assert [type(one) for one in loop.faults] == [ZeroDivisionError]


def test_chance_is_drawn_by_name() -> None:
    first, second = World(1), World(1)
    second.random("another").random()
    assert first.random("a").random() == second.random("a").random()
    assert World(2).random("a").random() != first.random("a").random()


def test_a_clock_that_jumps_goes_on_from_there() -> None:
    world = World(1)
    clock = NodeClock(world)
    before_ms = clock.now_ms()
    clock.jump(5.0)
    assert clock.now_ms() == before_ms + 5000
    assert clock.monotonic_s() == 0.0


def test_an_interrupted_world_ends_without_a_word() -> None:
    """Ctrl-C in a task: what is awaited in a `finally` or a task group is not heard of again."""
    world = World(1)
    loop = world.new_process("a")
    ended: list[str] = []

    async def child() -> None:
        await asyncio.sleep(1.0)
        raise KeyboardInterrupt

    async def parent() -> None:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(child())
                group.create_task(asyncio.sleep(5.0))
        finally:
            await asyncio.sleep(0)
            ended.append("parent")

    loop.call_soon(lambda: loop.create_task(parent()))
    with pytest.raises(KeyboardInterrupt):
        world.run_until(lambda: False, 10.0)
    world.close()
    assert ended == ["parent"]


def test_what_happens_to_processes_in_the_middle_of_a_step_comes_before_or_after_it() -> None:
    """A fault strikes at a step of one process: another one sees it at once, itself after the step."""
    world = World(1)
    first, second = world.new_process("a"), world.new_process("b")
    said: list[str] = []

    def strikes() -> None:
        second.run_now(lambda: said.append(f"b in {name()}"))
        first.run_now(lambda: said.append(f"a in {name()}"))
        said.append(f"step in {name()}")

    def name() -> str:
        loop = asyncio.get_running_loop()
        return "a" if loop is first else "b"

    first.run_now(strikes)
    assert said == ["b in b", "step in a", "a in a"]
