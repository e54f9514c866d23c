"""A peer on a page of its own: all that belongs to it, its chart with limits and events, and its files."""

from __future__ import annotations

import asyncio
import csv
import io
import re
from pathlib import Path

import pytest

from connector import Fulfill, Reject
from tests.browser.axe import audit
from tests.browser.conftest import PATIENCE_MS, Viewer
from tests.support.admin import KEY, Operator
from tests.support.daemons import Daemon, RunningNodes

expect = pytest.importorskip("playwright.async_api", reason="playwright is not installed").expect
expect.set_options(timeout=PATIENCE_MS)

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]

ELEMENTS = "document.querySelectorAll('*').length"


async def busy(network: RunningNodes) -> tuple[Daemon, Daemon, Daemon]:
    """Three nodes, of which the middle one has terms, traffic and a settlement with the last."""
    a, b, c = await network.chain(
        "a", "b", "c",
        peer={
            "a-b": {"routes": ["g"]},
            "b-c": {
                "routes": ["g.c", "g.far"], "settle_threshold": 900_000_000, "max_payable": 950_000_000,
                "fee_basis_points": 30, "max_packet_amount": 500_000_000,
                "throughput_in": 2_000_000_000,
            },
        },
        node={"b": {"admin_api_key": KEY}},
    )  # fmt: skip
    for amount in (250_000_000, 100_000_000, 1_500_000):
        assert isinstance(await a.connector.send("g.c", amount), Fulfill)
    assert isinstance(await a.connector.send("g.far.x", 5), Reject)
    path = "/admin/accounts/c/settlements"
    paid = await Operator(b).ask("POST", path, {"direction": "outgoing", "amount": "50000000"})
    assert paid.status_code == 201
    return a, b, c


async def test_a_peer_is_one_object_that_can_be_linked(viewer: Viewer, tmp_path: Path) -> None:
    async with RunningNodes(tmp_path) as network, viewer:
        a, b, _c = await busy(network)
        await viewer.open(b.connector.http_port, "#peers/c")
        page, card = viewer.page, viewer.page.locator("#peer-card")
        await expect(viewer.at("peer-state")).to_contain_text("connected")
        await expect(viewer.at("net")).to_have_attribute("data-net", "-301500000")
        await expect(viewer.at("net")).to_contain_text("we owe 0.301500000 USD")
        says = {
            "Link": ["it dials us", "To it: fulfilled / rejected3 / 1"],
            "Limits": ["We may owe it0.95 USD", "A packet from it0.5 USD", "2 USD per 1 min",
                       "We settle from0.9 USD"],
            "Routes and fees": ["g.c", "Fee on what it sends0.3 %"],
            "Keys": ["plain ws", "it dials us"],
            "History": ["peer connected", "settlement completed", "settlement.record"],
            "Settlements": ["we pay it", "0.050000000 USD", "completed"],
            "Packets": ["a → to it", "0.25 USD", "fulfilled", "F02 rejected"],
        }  # fmt: skip
        for panel, texts in says.items():
            for text in texts:
                await expect(card.get_by_role("region", name=panel, exact=True)).to_contain_text(
                    text
                )
        assert "secret" not in (await card.inner_text()).lower().replace("secret\n", "")
        # Limits and thresholds in the chart, and what happened at its moment.
        for kind in ("limit", "threshold"):
            await card.locator(f'[data-level-line="{kind}"]').first.wait_for(state="attached")
        await expect(card.locator('[data-mark="settlement"]')).to_have_count(1)
        await expect(card.locator('[data-mark="up"]')).to_have_count(1)
        await audit(viewer, "a peer")
        await viewer.shot("peer-page")
        # The same after it was loaded again, and live.
        await page.reload()
        await viewer.live()
        await expect(viewer.at("peer-packets").get_by_role("button")).to_have_count(4)
        assert isinstance(await a.connector.send("g.c", 1), Fulfill)
        await expect(viewer.at("net")).to_have_attribute("data-net", "-301500001")
        await expect(viewer.at("peer-packets").get_by_role("button")).to_have_count(5)
        await page.keyboard.press("Escape")
        await expect(page).to_have_url(re.compile("#peers$"))
        await viewer.at("peer-a").get_by_role("button").click()
        await expect(page).to_have_url(re.compile("#peers/a$"))
        await page.go_back()
        await page.go_back()
        await expect(page).to_have_url(re.compile("#peers/c$"))
        # Another page begins at its top.
        await viewer.tab("Dashboard")
        row = viewer.at("positions").get_by_role("button", name="c")
        await row.scroll_into_view_if_needed()
        assert await page.evaluate("scrollY") > 0
        await row.click()
        await expect(page).to_have_url(re.compile("#peers/c$"))
        await page.wait_for_function("scrollY === 0")
        await page.goto(f"{page.url.partition('#')[0]}#peers/nobody")
        await expect(card).to_contain_text("There is no peer of that name")
        for width in (360, 1920):
            await page.set_viewport_size({"width": width, "height": 900})
            await page.goto(f"{page.url.partition('#')[0]}#peers/c")
            await viewer.at("peer-settlements").wait_for()
            assert await page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
            await audit(viewer, f"a peer, {width}")
            await viewer.shot(f"peer-page-{width}")


async def test_a_part_of_the_chart_is_zoomed_to_by_mouse_and_by_keys(
    viewer: Viewer, tmp_path: Path
) -> None:
    async with RunningNodes(tmp_path) as network, viewer:
        _a, b, _c = await busy(network)
        await viewer.open(b.connector.http_port, "#peers/c?range=15m")
        page = viewer.page
        chart = page.locator("#peer-card .chart-balance svg")
        box = await chart.bounding_box()
        assert box is not None
        y = box["y"] + box["height"] / 2
        await page.mouse.move(box["x"] + box["width"] * 0.5, y)
        await page.mouse.down()
        await page.mouse.move(box["x"] + box["width"] * 0.75, y, steps=4)
        await expect(chart.locator(".brush")).to_have_count(1)
        await viewer.shot("peer-brush")
        await page.mouse.up()
        await expect(page).to_have_url(re.compile(r"#peers/c\?.*zoom=\d+-\d+"))
        begin, end = map(int, re.findall(r"zoom=(\d+)-(\d+)", page.url)[0])
        assert 150_000 < end - begin < 300_000, "a quarter of 15 minutes, about"
        await page.reload()
        await viewer.live()
        await viewer.at("unzoom").click()
        await expect(page).not_to_have_url(re.compile("zoom="))
        # By keys: Enter at both ends. Esc ends the choice, not the page.
        await chart.focus()
        for _ in range(5):
            await page.keyboard.press("ArrowLeft")
        await page.keyboard.press("Enter")
        await page.keyboard.press("Escape")
        await expect(page.locator("#peer-card")).to_have_count(1)
        for _ in range(5):
            await page.keyboard.press("ArrowLeft")
        await page.keyboard.press("Enter")
        for _ in range(8):
            await page.keyboard.press("ArrowLeft")
        await page.keyboard.press("Enter")
        await expect(page).to_have_url(re.compile(r"zoom=\d+-\d+"))


async def test_packets_and_settlements_of_a_peer_are_saved_as_csv(
    viewer: Viewer, tmp_path: Path
) -> None:
    async with RunningNodes(tmp_path) as network, viewer:
        _a, b, _c = await busy(network)
        await viewer.open(b.connector.http_port, "#peers/c")
        rows: dict[str, list[dict[str, str]]] = {}
        for label in ("Packets of c", "Settlements with c"):
            async with viewer.page.expect_download() as saving:
                await viewer.page.get_by_role("button", name=f"{label} as CSV").click()
            download = await saving.value
            text = Path(await download.path()).read_text("utf-8")
            rows[download.suggested_filename] = list(csv.DictReader(io.StringIO(text)))
        packets, settlements = rows["packets-c.csv"], rows["settlements-c.csv"]
        assert [(one["amount"], one["asset"], one["result"]) for one in packets] == [
            ("0.000000005", "USD", "rejected"), ("0.0015", "USD", "fulfilled"),
            ("0.1", "USD", "fulfilled"), ("0.25", "USD", "fulfilled"),
        ]  # fmt: skip
        assert packets[0]["code"] == "F02"
        assert (packets[0]["from"], packets[0]["next_hop"]) == ("a", "c")
        (settlement,) = settlements
        assert (settlement["amount"], settlement["units"]) == ("0.05", "50000000")
        assert settlement["phase"] == "completed"


async def test_a_page_of_a_peer_that_is_looked_at_for_long_does_not_grow(
    viewer: Viewer, tmp_path: Path
) -> None:
    async with RunningNodes(tmp_path) as network, viewer:
        a, b, _c = await busy(network)
        await viewer.open(b.connector.http_port, "#peers/c?range=5m")
        await expect(viewer.at("peer-packets").get_by_role("button")).to_have_count(4)
        for _ in range(12):
            await a.connector.send("g.c", 1)
        await expect(viewer.at("peer-packets").get_by_role("button")).to_have_count(15)
        before = await viewer.page.evaluate(ELEMENTS)
        for _ in range(6):
            await asyncio.gather(*(a.connector.send("g.c", 1) for _ in range(40)))
            await asyncio.sleep(0.4)
        await expect(viewer.at("net")).to_have_attribute("data-net", "-301500252")
        assert await viewer.page.evaluate(ELEMENTS) <= before + 20
