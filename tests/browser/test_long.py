"""A page that is kept open all day: counts stay true, and neither the renderer's work, its heap nor its DOM grow.

Half a minute on each tab by default; `BROWSER_LONG_MINUTES=30` for that long on each, on a machine that has
nothing else to do: only then the share of a core is held against its limit. Where others use the caches of
the same cores, the same work takes several times as long.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from connector import Fulfill
from tests.browser.conftest import PATIENCE_MS, Viewer
from tests.support.daemons import Daemon, RunningNodes

expect = pytest.importorskip("playwright.async_api", reason="playwright is not installed").expect
expect.set_options(timeout=PATIENCE_MS)

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

SECONDS = float(os.environ.get("BROWSER_LONG_MINUTES", "0.5")) * 60
PACKETS_PER_SECOND = 20
CPU_SHARE_MAX = 0.05 if "BROWSER_LONG_MINUTES" in os.environ else 0.25
# Between the first and the last look: what is drawn for the newest rows may vary a little.
DOM_GROWTH_MAX = 1.15
HEAP_GROWTH_BYTES_MAX = 6 << 20
LOOKS = 4


class Renderer:
    """What the process that draws the page uses."""

    def __init__(self, viewer: Viewer) -> None:
        self._viewer = viewer
        self._session: Any = None

    async def look(self) -> dict[str, float]:
        """Seconds of CPU, octets of heap and nodes after a collection."""
        if self._session is None:
            self._session = await self._viewer.page.context.new_cdp_session(self._viewer.page)
            await self._session.send("Performance.enable")
        await self._session.send("HeapProfiler.collectGarbage")
        found = await self._session.send("Performance.getMetrics")
        metrics = {one["name"]: one["value"] for one in found["metrics"]}
        elements = await self._viewer.page.evaluate("document.querySelectorAll('*').length")
        return {
            "cpu_s": metrics["ProcessTime"],
            "at_s": metrics["Timestamp"],
            "heap": metrics["JSHeapUsedSize"],
            "nodes": metrics["Nodes"],
            "elements": elements,
        }


@asynccontextmanager
async def traffic(a: Daemon) -> AsyncIterator[list[int]]:
    """Packets in an even pace; gives a list of the amounts that were sent."""
    sent: list[int] = []

    async def send() -> None:
        clock = asyncio.get_running_loop().time
        due_s = clock()
        while True:
            sent.append(len(sent) % 7 + 1)
            assert isinstance(await a.connector.send("g.c", sent[-1]), Fulfill)
            due_s = max(due_s + 1 / PACKETS_PER_SECOND, clock() - 1)
            await asyncio.sleep(max(0.0, due_s - clock()))

    sending = asyncio.create_task(send())
    try:
        yield sent
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)


@pytest.mark.parametrize("tab", ["Dashboard", "Packets", "Accounts", "Peers"])
async def test_a_page_that_is_kept_open_stays_light_and_true(
    viewer: Viewer, tmp_path: Path, tab: str
) -> None:
    async with RunningNodes(tmp_path) as network, viewer:
        a, b, _c = await network.chain("a", "b", "c")
        await viewer.open(b.connector.http_port, f"#{tab.lower()}")
        renderer = Renderer(viewer)
        async with traffic(a) as sent:
            # The first rows fill the page: what is drawn later takes their place.
            while len(sent) < 15 * PACKETS_PER_SECOND:
                await asyncio.sleep(0.2)
            looks = [await renderer.look()]
            for _ in range(LOOKS):
                await asyncio.sleep(SECONDS / LOOKS)
                looks.append(await renderer.look())
        first, last = looks[0], looks[-1]
        share = (last["cpu_s"] - first["cpu_s"]) / (last["at_s"] - first["at_s"])
        print(
            f"{tab}: {share:.1%} of a core; {[{k: round(v) for k, v in one.items()} for one in looks]}"
        )
        assert share < CPU_SHARE_MAX
        assert last["elements"] <= first["elements"] * DOM_GROWTH_MAX
        assert last["nodes"] <= first["nodes"] * DOM_GROWTH_MAX + 500
        assert last["heap"] <= first["heap"] + HEAP_GROWTH_BYTES_MAX
        # What the page counts is what the API counts, and what was sent.
        url = f"http://127.0.0.1:{b.connector.http_port}"
        async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
            status = (await client.get("/api/status")).json()
        passed = status["packetsFulfilled"] + status["packetsRejected"]
        assert passed in (len(sent), len(sent) - 1)
        await viewer.tab("Dashboard")
        await expect(viewer.page.get_by_role("region", name="Packets / s")).to_contain_text(
            f"{passed:,} since"
        )
        await viewer.tab("Accounts")
        net = str(sum(sent[:passed]))
        await expect(viewer.at("account-a").get_by_test_id("net")).to_have_attribute(
            "data-net", net
        )
        await viewer.tab("Packets")
        await viewer.page.get_by_label("Time", exact=True).select_option("3600000")
        if passed < 5000:  # all of them have a row
            await expect(viewer.at("packets-shown")).to_contain_text(f"{passed:,} packets fit")
