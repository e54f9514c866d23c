"""Rates over restarts: minutes of the node and of its peers are on disk, and gaps stay gaps."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import httpx

from connector import Fulfill, Reject
from connector.base.clock import SteadyClock
from connector.web import models
from tests.support.daemons import Daemon, RunningNodes

DAY_NS = 86_400 * 1_000_000_000


async def get(daemon: Daemon, path: str) -> dict[str, Any]:
    url = f"http://127.0.0.1:{daemon.connector.http_port}"
    async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
        answer = await client.get(path)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_minutes_survive_a_restart(tmp_path: Path) -> None:
    async with RunningNodes(tmp_path) as network:
        a, b = await network.chain("a", "b", peer={"a-b": {"routes": ["g"]}})
        for _ in range(3):
            assert isinstance(await a.connector.send("g.b", 70), Fulfill)
        assert isinstance(await a.connector.send("g.nowhere", 5), Reject)
        before = await get(b, "/api/peers/a/aggregates?range=600")
        b = await network.restart("b")
        await a.linked("b", times=2)
        for _ in range(2):
            assert isinstance(await a.connector.send("g.b", 70), Fulfill)
        # Of the peer: both runs, with the minute under way.
        after = await get(b, "/api/peers/a/aggregates?range=600")
        for view, fulfilled in ((before, 3), (after, 5)):
            models.PeerAggregateList.model_validate(view, strict=True)
            known = [one for one in view["items"] if one["fulfilledIn"] is not None]
            assert sum(one["fulfilledIn"] for one in known) == fulfilled
            assert sum(one["rejectedIn"] for one in known) == 1
            assert sum(int(one["amountIn"]) for one in known) == fulfilled * 70
            codes = [code for one in known for code in one["codes"]]
            assert codes == [{"code": "F02", "count": 1}]
        assert any(one["fulfilledIn"] is None for one in after["items"]), "before the start: a gap"
        activity = await get(b, "/api/activity")
        models.Activity.model_validate(activity, strict=True)
        (of_a,) = activity["items"]
        assert sum(count or 0 for count in of_a["packets"]) == 6
        # Of the node: what was of the first run is there, though its process has gone.
        whole = b.connector.aggregates._minutes.values()
        assert sum(row.fulfilled for row in whole) >= 3
        assert sum(row.codes.get("F02", 0) for row in whole) == 1
        async with httpx.AsyncClient(trust_env=False) as client:
            url = f"http://127.0.0.1:{b.connector.http_port}/api/peers/nobody/aggregates"
            assert (await client.get(url)).status_code == 404


async def test_the_view_of_the_node_is_as_the_document_says_and_ends_where_it_is_asked_to(
    tmp_path: Path,
) -> None:
    async with RunningNodes(tmp_path) as network:
        a, _b = await network.chain("a", "b")
        assert isinstance(await a.connector.send("g.b", 70), Fulfill)
        view = await get(a, "/api/aggregates?range=60&points=60")
        models.AggregateList.model_validate(view, strict=True)
        past = await get(a, "/api/aggregates?range=3600&points=60&to=1700000000000")
        assert past["to"] == "2023-11-14T22:13:00.000Z"
        assert all(one["fulfilled"] is None for one in past["items"])


async def test_after_a_day_away_the_day_is_a_gap(tmp_path: Path) -> None:
    async with RunningNodes(tmp_path) as network:
        a, _b = await network.chain("a", "b")
        assert isinstance(await a.connector.send("g.b", 70), Fulfill)
        await a.stop()
        later = Daemon(a.settings)
        clock = SteadyClock(lambda: time.time_ns() + DAY_NS)
        later.connector = type(later.connector)(a.settings, log=later.log, clock=clock)
        await later.start(network._group)
        network.daemons["a"] = later
        view = await get(later, "/api/aggregates?range=172800&points=1000")
        known = [one for one in view["items"] if one["fulfilled"] is not None]
        assert sum(one["fulfilled"] for one in known) == 1
        assert len(known) == 1
        (peer,) = [
            one
            for one in (await get(later, "/api/peers/b/aggregates?range=172800"))["items"]
            if one["fulfilledOut"]
        ]
        assert peer["fulfilledOut"] == 1
