"""Charts over time: latency and rejects by code, a part zoomed to, days over restarts, and peers in small."""

from __future__ import annotations

import asyncio
import math
import re
import sqlite3
import time
from pathlib import Path

import pytest

from connector import Fulfill, Reject
from connector.telemetry.aggregates import NODE, Row
from connector.telemetry.peer_minutes import PeerRow
from tests.browser.axe import audit
from tests.browser.conftest import PATIENCE_MS, Viewer
from tests.support.daemons import RunningNodes

expect = pytest.importorskip("playwright.async_api", reason="playwright is not installed").expect
expect.set_options(timeout=PATIENCE_MS)

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]

DAY_S = 86_400
# How many parts the first line of a chart is drawn in: one more than there are gaps in it.
PARTS = """(title) => [...document.querySelectorAll(`section[aria-label="${title}"] .stroke`)].at(-1)
  .getAttribute('d').split('M').length - 1"""


def past(file: Path) -> None:
    """Three days of traffic, with six hours in which the node did not run."""
    now_s = int(time.time()) // 60 * 60
    with sqlite3.connect(file) as connection:
        for minute in range(now_s - 3 * DAY_S, now_s - 60, 60):
            if now_s - 14 * 3600 < minute < now_s - 8 * 3600:
                continue
            wave = 2 + math.sin(minute / 9000) + math.sin(minute / 700) / 4
            row = Row(
                fulfilled=round(600 * wave), rejected=round(20 * wave), seconds=60,
                value={("USD", 9): round(9_000_000_000 * wave)},
                codes={"F02": round(12 * wave), "T04": round(6 * wave), "R00": 2},
                latency={4: round(500 * wave), 6: round(90 * wave), 9: 8},
            )  # fmt: skip
            peer = PeerRow(round(600 * wave), round(20 * wave), 0, 0, round(9e9 * wave), 0)
            rows = [(minute, NODE, row.as_text()), (minute, "a", peer.as_text())]
            connection.executemany("INSERT OR REPLACE INTO minutes VALUES (?,?,?)", rows)
    connection.close()


async def test_days_are_there_after_a_restart_and_a_part_of_them_is_zoomed_to(
    viewer: Viewer, tmp_path: Path
) -> None:
    async with RunningNodes(tmp_path) as network, viewer:
        a, b = await network.chain("a", "b")
        b = await network.restart("b", lambda: past(tmp_path / "b" / "events.sqlite"))
        await a.linked("b", times=2)
        await viewer.open(b.connector.http_port, "#dashboard?range=24h")
        page = viewer.page
        await expect(viewer.at("resolution")).to_contain_text("average of 15 min")
        # A day, with the hours in which it did not run: a gap.
        await expect(viewer.at("rejects-said")).to_contain_text("Per second")
        for title in (
            "Packets per second",
            "Value per second",
            "Latency over time",
            "Rejects by code",
        ):
            await page.wait_for_function(f"(title) => ({PARTS})(title) === 2", arg=title)
        rejects = page.get_by_role("region", name="Rejects by code")
        await expect(rejects).to_contain_text(re.compile(r"F02 [\d,]+.*T04 [\d,]+.*R00 [\d,]+"))
        await audit(viewer, "charts of a day")
        charts = page.get_by_role("region", name="Packets per second")
        await charts.scroll_into_view_if_needed()
        await viewer.shot("rates-day")
        # A part of it, in all charts, in the address, finer.
        chart = charts.locator("svg.zooms")
        box = await chart.bounding_box()
        assert box is not None
        y = box["y"] + box["height"] / 2
        await page.mouse.move(box["x"] + box["width"] * 0.8, y)
        await page.mouse.down()
        await page.mouse.move(box["x"] + box["width"] * 0.95, y, steps=4)
        await page.mouse.up()
        await expect(page).to_have_url(re.compile(r"range=24h&zoom=\d+-\d+"))
        await expect(viewer.at("resolution")).to_contain_text(re.compile("average of [15] min"))
        whole = "Packets per second"
        await page.wait_for_function(f"(title) => ({PARTS})(title) === 1", arg=whole)
        await viewer.shot("rates-zoomed")
        await page.reload()
        await viewer.live()
        await expect(viewer.at("resolution")).to_contain_text(re.compile("average of [15] min"))
        await viewer.at("unzoom").click()
        await expect(viewer.at("resolution")).to_contain_text("average of 15 min")
        await expect(viewer.at("unzoom")).to_have_count(0)
        await page.get_by_role("radio", name="7 d").click()
        await expect(viewer.at("resolution")).to_contain_text("average of 1 h")
        await viewer.shot("rates-week")
        # And of the peer.
        await page.goto(f"{page.url.partition('#')[0]}#peers/a?range=24h")
        await expect(viewer.at("peer-traffic")).to_contain_text(
            re.compile(r"[\d,]{7,} packets from it, [\d,.]+ USD; 0 packets to it")
        )
        await expect(viewer.at("peer-traffic")).to_contain_text("Averages of 15 min")
        await audit(viewer, "traffic of a peer")
        await viewer.shot("rates-peer")


async def test_what_happens_now_is_in_the_charts_by_code_and_by_peer(
    viewer: Viewer, tmp_path: Path
) -> None:
    async with RunningNodes(tmp_path) as network, viewer:
        a, b, _c = await network.chain("a", "b", "c", peer={"a-b": {"routes": ["g"]}})
        await viewer.open(b.connector.http_port, "#dashboard?range=1m")
        page = viewer.page
        await expect(viewer.at("rejects-said")).to_contain_text("No packet was rejected")
        for _ in range(6):
            assert isinstance(await a.connector.send("g.c", 10), Fulfill)
        for _ in range(3):
            assert isinstance(await a.connector.send("g.nowhere", 10), Reject)
        rejects = page.get_by_role("region", name="Rejects by code")
        await expect(rejects).to_contain_text("F02 3")
        latency = page.get_by_role("region", name="Latency over time")
        await expect(latency.locator(".stroke").first).to_have_attribute("d", re.compile("M.+"))
        await viewer.tab("Peers")
        for peer, packets in (("a", 9), ("c", 6)):
            hour = viewer.at(f"peer-{peer}").locator(".hour")
            await expect(hour).to_have_attribute("data-packets", str(packets))
        await audit(viewer, "peers with small charts")
        await viewer.shot("peers-sparks")
        await page.goto(f"{page.url.partition('#')[0]}#peers/c")
        await expect(viewer.at("peer-traffic")).to_contain_text("6 packets to it")
        await page.goto(f"{page.url.partition('#')[0]}#peers/a")
        await expect(viewer.at("peer-traffic")).to_contain_text("3 rejected, of its own F02 3")
        # Looked at for long, charts and tables do not grow.
        await viewer.tab("Dashboard")
        await expect(viewer.at("resolution")).to_contain_text("average of")
        await page.wait_for_timeout(2500)
        before = await page.evaluate("document.querySelectorAll('*').length")
        for _ in range(4):
            await asyncio.gather(*(a.connector.send("g.c", 1) for _ in range(20)))
            await page.wait_for_timeout(1000)
        assert await page.evaluate("document.querySelectorAll('*').length") <= before + 60
