"""What came in, on disk: nothing that has ended changes, what waits is bounded and taken by turns."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from connector.base.errors import EnvironmentFault
from connector.base.sqlite import SqliteFile
from connector.node import bounds
from connector.node.received_store import Hook, Outcome, Received, ReceivedStore
from connector.stream.incoming import Incoming

ONE = Incoming("1" * 32, "p" * 32, "token", "alice", "USD", 9, 5, 1, 1000, 2000)


@asynccontextmanager
async def opened(folder: Path, *, clean: bool = True) -> AsyncIterator[ReceivedStore]:
    store = ReceivedStore(SqliteFile(folder / "received.db"))
    await store.open()
    yield store
    if clean:
        await store.note_clean_stop()
    await store.close()


async def all_of(store: ReceivedStore, **which: str) -> list[Received]:
    found = {"wallet": None, "hook": None, **which}
    return await store.recent(before=None, count=1000, **found)


@pytest.mark.parametrize("clean", [True, False])
async def test_open_payments_go_on_and_after_a_crash_are_said_to_be_at_least(
    tmp_path: Path, clean: bool
) -> None:
    ended = replace(ONE, id="2" * 32, token="other", ended="closed")
    async with opened(tmp_path, clean=clean) as store:
        await store.put([ONE, ended], tells=True, now_ms=3000)
    store = ReceivedStore(SqliteFile(tmp_path / "received.db"))
    assert await store.open() == [replace(ONE, at_least=not clean)]
    assert [one.payment.at_least for one in await all_of(store)] == [False, not clean]
    await store.close()


async def test_one_that_has_ended_waits_once_and_never_changes(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await store.put([ONE], tells=True, now_ms=3000)
        assert await store.due(9000) == []
        await store.put([replace(ONE, amount=2**64, ended="quiet")], tells=True, now_ms=3000)
        await store.put([replace(ONE, amount=7, ended="closed")], tells=False, now_ms=4000)
        (due,) = await store.due(3000)
        assert (due.payment.amount, due.payment.ended, due.payment.token) == (2**64, "quiet", "")
        assert await store.due(2999) == []
        assert await store.next_due_ms() == 3000
        again = Outcome(Hook.WAITING, 1, 5000, "HTTP 500")
        await store.told(due.payment.id, again)
        assert await store.due(4999) == []
        (due,) = await store.due(5000)
        assert (due.attempts, due.fault) == (1, "HTTP 500")
        await store.told(due.payment.id, Outcome(Hook.DEAD, 2, 0, "gone"))
        assert await store.counts() == {"dead": 1}
        assert [one.fault for one in await all_of(store, hook="dead")] == ["gone"]
        # Another end of the same attempt changes nothing any more.
        await store.told(due.payment.id, again)
        assert await store.counts() == {"dead": 1}
        assert await store.tell_again(due.payment.id, 6000)
        assert [(one.attempts, one.fault) for one in await store.due(6000)] == [(0, "")]
        assert not await store.tell_again("x", 6000)


async def test_open_ones_are_not_told_again(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await store.put([ONE], tells=True, now_ms=0)
        assert not await store.tell_again(ONE.id, 0)


async def test_wallets_take_turns(tmp_path: Path) -> None:
    many = [
        replace(ONE, id=f"{number:032}", wallet=wallet, ended="closed")
        for number, wallet in enumerate(["alice"] * 20 + ["bob"] * 2)
    ]
    async with opened(tmp_path) as store:
        await store.put(many, tells=True, now_ms=0)
        due = [one.payment.wallet for one in await store.due(0)]
        assert due[:4] == ["alice", "bob"] * 2
        assert due[4:] == ["alice"] * (bounds.WEBHOOKS_PER_WALLET_MAX - 2)


async def test_each_kind_is_bounded_and_what_waits_too_long_is_a_dead_letter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounds, "RECEIVED_KEPT_MAX", 3)
    async with opened(tmp_path) as store:
        for number in range(10):
            one = replace(ONE, id=f"{number:032}", ended="quiet")
            await store.put([one], tells=True, now_ms=0)
        assert [one.seq for one in await all_of(store, hook="waiting")] == [10, 9, 8]
        dead = await all_of(store, hook="dead")
        assert [(one.seq, one.fault) for one in dead] == [
            (seq, "too many waited") for seq in (7, 6, 5)
        ]
        await store.put([replace(ONE, id="open")], tells=True, now_ms=0)
        for number in range(10, 20):
            one = replace(ONE, id=f"{number:032}", ended="quiet")
            await store.put([one], tells=False, now_ms=0)
        ids = [one.payment.id for one in await all_of(store, hook="none")]
        assert ids == [*(f"{number:032}" for number in (19, 18, 17)), "open"]


async def test_who_floods_with_tiny_payments_pushes_out_no_larger_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounds, "RECEIVED_KEPT_MAX", 3)
    async with opened(tmp_path) as store:
        amounts = [1000, *[2] * 5, 999, *[10] * 20]
        for number, amount in enumerate(amounts):
            one = replace(ONE, id=f"{number:032}", amount=amount, ended="quiet")
            await store.put([one], tells=True, now_ms=0)
        waiting = await all_of(store, hook="waiting")
        assert [one.payment.amount for one in waiting] == [10, 999, 1000]
        assert [one.payment.amount for one in await all_of(store, hook="dead")] == [10, 10, 10]


async def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "received.db").write_bytes(b"no database" * 100)
    store = ReceivedStore(SqliteFile(tmp_path / "received.db"))
    with pytest.raises(EnvironmentFault, match=r"received\.db: file is not a database"):
        await store.open()


async def test_a_clock_that_was_set_back_keeps_no_webhook_waiting_for_longer(
    tmp_path: Path,
) -> None:
    year_ms = 365 * 86_400_000
    async with opened(tmp_path) as store:
        await store.put([replace(ONE, ended="quiet")], tells=True, now_ms=year_ms)
        await store.told(ONE.id, Outcome(Hook.WAITING, 1, year_ms + 2000, "away"))
        assert not await store.due(year_ms)
        (one,) = await store.due(0)
        await store.told(ONE.id, Outcome(Hook.WAITING, 2, 4000, "away"))
        assert not await store.due(0)
        assert (one.attempts, len(await store.due(4000))) == (1, 1)
