"""Balances older than the stored events, from a real TigerBeetle server."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from connector import Fulfill
from connector.ledger.model import ACCOUNT_HISTORY
from connector.telemetry.store import FILE_NAME
from tests.support.daemons import CLOCK, Daemon, RunningNodes
from tests.support.patience import PATIENCE_SECONDS, allowed_s
from tests.support.tigerbeetle_server import TigerBeetleServer

pytestmark = pytest.mark.tigerbeetle

CREDIT = 10**9


def on(server: TigerBeetleServer, *, history: bool) -> dict[str, Any]:
    return {
        "tigerbeetle_cluster_id": server.cluster_id,
        "tigerbeetle_replicas": server.address,
        "tigerbeetle_history": history,
        "credit_limit": CREDIT,
    }


async def pair(
    network: RunningNodes, server: TigerBeetleServer, *, history: bool
) -> tuple[list[str], list[Daemon]]:
    names = [f"{name}{random.getrandbits(40):x}" for name in "ab"]
    node = dict.fromkeys(names, on(server, history=history))
    return names, await network.chain(*names, node=node, at_once=True)


async def history_of(daemon: Daemon, peer_id: str, from_ms: int, **more: Any) -> list[Any]:
    """When, and net, debit and credit balance then."""
    url = f"http://127.0.0.1:{daemon.connector.http_port}/api/accounts/{peer_id}/history"
    async with httpx.AsyncClient(trust_env=False, verify=False, timeout=PATIENCE_SECONDS) as client:
        response = await client.get(url, params={"from": from_ms, **more})
    assert response.status_code == 200, response.text
    return [
        (
            ms(item["timestamp"]),
            *(int(item[name]) for name in ("netBalance", "debitBalance", "creditBalance")),
        )
        for item in response.json()["items"]
    ]


async def past_of(
    daemon: Daemon, peer_id: str, from_ms: int, known_ms: int, **more: Any
) -> list[Any]:
    """The same, back to `known_ms`.

    A ledger that does not answer in time leaves the stored part: on a busy machine it is asked again.
    """
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            points = await history_of(daemon, peer_id, from_ms, **more)
            if points and points[0][0] <= known_ms:
                return points


def at(points: list[Any], moment_ms: int) -> Any:
    """Net, debit and credit at a time."""
    return [point for point in points if point[0] <= moment_ms][-1][1:]


def without_events(network: RunningNodes, node_id: str) -> Callable[[], None]:
    def remove() -> None:
        files = list((network.folder / node_id).glob(f"{FILE_NAME}*"))
        assert files
        for file in files:
            file.unlink()

    return remove


async def last_stored(daemon: Daemon, peer_id: str, debit: int) -> int:
    """Wait until the event store has the balance of a peer that has been debited so much; when."""
    url = f"http://127.0.0.1:{daemon.connector.http_port}/api/events"
    async with (
        asyncio.timeout(PATIENCE_SECONDS),
        httpx.AsyncClient(trust_env=False, verify=False) as client,
    ):
        while True:
            answer = await client.get(url, params={"type": "ACCOUNT_BALANCE", "peer": peer_id})
            for item in answer.json()["items"]:
                if item["debitBalance"] == str(debit):
                    return ms(item["timestamp"])
            await asyncio.sleep(0.02)


def ms(moment: str) -> int:
    return round(datetime.fromisoformat(moment).timestamp() * 1000)


async def pay(source: Daemon, target: Daemon, amount: int) -> None:
    answer = await source.connector.send(target.connector.node.address, amount)
    assert isinstance(answer, Fulfill)


def keeps_history(daemon: Daemon, peer_id: str) -> Callable[[], Any]:
    """Asks the ledger whether the account of a peer has the flag."""
    manager = daemon.connector.accounts
    book = manager.peers[peer_id].peer

    async def ask() -> bool:
        (account,) = await manager.in_turn(
            lambda: manager.ledger.lookup_accounts([book.account_id])
        )
        return bool(account.flags & ACCOUNT_HISTORY)

    return ask


@pytest.mark.slow
async def test_the_past_is_there_without_the_event_store(
    tigerbeetle_server: TigerBeetleServer, tmp_path: Path
) -> None:
    async with RunningNodes(tmp_path) as network:
        (a_id, b_id), (a, b) = await pair(network, tigerbeetle_server, history=True)
        noted: list[tuple[int, int, int]] = []
        """When, and what `b` had credited and debited `a`."""
        credited = debited = 0
        limits_of_a = iter((CREDIT // 2, 3 * CREDIT, CREDIT // 4))
        for step in range(6):
            if step % 2:
                await pay(b, a, 7 * step + 1)
                credited += 7 * step + 1
                # What is merely granted is not part of a balance.
                await b.connector.accounts.set_credit_limit(a_id, next(limits_of_a))
            else:
                await pay(a, b, 100 * step + 5)
                await pay(a, b, 10)
                debited += 100 * step + 15
            await asyncio.sleep(1.1)  # balances are told apart by the second
            noted.append((CLOCK.now_ms(), debited, credited))
        b = await network.restart(b_id, meanwhile=without_events(network, b_id))
        restarted_ms = CLOCK.now_ms()
        await a.linked(b_id, times=2)
        await pay(a, b, 1000)
        await last_stored(b, a_id, debited + 1000)

        first_ms = noted[0][0]
        points = await past_of(b, a_id, first_ms - 60_000, first_ms)
        assert [point[0] for point in points] == sorted(point[0] for point in points)
        for moment_ms, debit, credit in noted:
            assert at(points, moment_ms) == (debit - credit, debit, credit)
        assert points[-1][1:] == (debited - credited + 1000, debited + 1000, credited)
        assert points[-1][0] >= restarted_ms - 1000
        kept = await history_of(b, a_id, noted[0][0] - 60_000, stored=True)
        assert kept == points[-len(kept) :]
        assert kept[0][0] >= restarted_ms - 1000
        # From the middle on: the first point is the balance at that moment.
        moment_ms, debit, credit = noted[2]
        assert (await past_of(b, a_id, moment_ms, moment_ms))[0] == (
            moment_ms, debit - credit, debit, credit,
        )  # fmt: skip
        # A range that ends before anything was stored.
        only = await past_of(b, a_id, first_ms - 60_000, first_ms, to=noted[3][0])
        assert only == [point for point in points if point[0] <= noted[3][0]]
        few = await past_of(b, a_id, first_ms, first_ms, points=3)
        assert few[0][0] == noted[0][0]
        assert at(few, CLOCK.now_ms()) == points[-1][1:]
        # The other side, which has lost nothing, had the same.
        theirs = await history_of(a, b_id, noted[0][0] - 60_000)
        assert at(theirs, noted[4][0]) == (
            noted[4][2] - noted[4][1], noted[4][2], noted[4][1],
        )  # fmt: skip
        assert await network.stop() == []


async def test_a_ledger_that_stands_still_leaves_the_stored_part(
    tigerbeetle_server: TigerBeetleServer, tmp_path: Path
) -> None:
    async with RunningNodes(tmp_path) as network:
        (a_id, b_id), (a, b) = await pair(network, tigerbeetle_server, history=True)
        await pay(a, b, 10)
        await asyncio.sleep(1.1)
        before_ms = CLOCK.now_ms()
        b = await network.restart(b_id, meanwhile=without_events(network, b_id))
        await a.linked(b_id, times=2)
        stored_ms = await last_stored(b, a_id, 10)
        whole = await past_of(b, a_id, before_ms - 60_000, before_ms)
        assert at(whole, before_ms) == (10, 10, 0)
        tigerbeetle_server.pause()
        try:
            began_s = CLOCK.monotonic_s()
            part = await history_of(b, a_id, before_ms - 60_000)
            assert CLOCK.monotonic_s() - began_s < allowed_s(4)
            assert part == [(stored_ms, 10, 10, 0)]
        finally:
            tigerbeetle_server.resume()
        await pay(a, b, 5)
        assert await network.stop() == []


async def test_accounts_made_without_it_have_what_is_stored_and_the_setting_may_change(
    tigerbeetle_server: TigerBeetleServer, tmp_path: Path
) -> None:
    async with RunningNodes(tmp_path) as network:
        (a_id, b_id), (a, b) = await pair(network, tigerbeetle_server, history=False)
        await pay(a, b, 10)
        await asyncio.sleep(1.1)
        await last_stored(b, a_id, 10)
        noted_ms = CLOCK.now_ms()
        assert at(await history_of(b, a_id, noted_ms - 60_000), noted_ms) == (10, 10, 0)
        for times, history in enumerate((True, False, True), 2):
            b = await network.restart(
                b_id, meanwhile=without_events(network, b_id), tigerbeetle_history=history
            )
            await a.linked(b_id, times=times)
            await pay(a, b, 1)
            assert not await keeps_history(b, a_id)()
        await last_stored(b, a_id, 13)
        points = await history_of(b, a_id, noted_ms - 60_000)
        assert points[0][0] > noted_ms
        assert at(points, CLOCK.now_ms()) == (13, 13, 0)
        assert await network.stop() == []


async def test_accounts_made_with_it_keep_it_whatever_the_setting_says_later(
    tigerbeetle_server: TigerBeetleServer, tmp_path: Path
) -> None:
    async with RunningNodes(tmp_path) as network:
        (a_id, b_id), (a, b) = await pair(network, tigerbeetle_server, history=True)
        await pay(a, b, 10)
        await asyncio.sleep(1.1)
        noted_ms = CLOCK.now_ms()
        for times, history in enumerate((False, True, False), 2):
            b = await network.restart(
                b_id, meanwhile=without_events(network, b_id), tigerbeetle_history=history
            )
            await a.linked(b_id, times=times)
            await pay(a, b, 1)
            assert await keeps_history(b, a_id)()
            assert at(await past_of(b, a_id, noted_ms - 60_000, noted_ms), noted_ms) == (10, 10, 0)
        assert await network.stop() == []
