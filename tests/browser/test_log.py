"""The log on the page: what happened, warnings with their detail, search, files; and what a reload keeps."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import pytest

from connector import Fulfill
from tests.browser.axe import audit
from tests.browser.conftest import PATIENCE_MS, Viewer
from tests.support.admin import KEY, Operator
from tests.support.daemons import RunningNodes

expect = pytest.importorskip("playwright.async_api", reason="playwright is not installed").expect
expect.set_options(timeout=PATIENCE_MS)

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]


async def test_what_happened_is_there_after_a_reload_searched_and_saved(
    viewer: Viewer, tmp_path: Path
) -> None:
    async with RunningNodes(tmp_path) as network, viewer:
        a, b = await network.chain("a", "b", node={"a": {"admin_api_key": KEY}})
        assert isinstance(await a.connector.send("g.b", 700), Fulfill)
        operator = Operator(a)
        paid = {"direction": "outgoing", "amount": "300"}
        assert (
            await operator.ask("POST", "/admin/accounts/b/settlements", paid)
        ).status_code == 201
        a.connector.core.platform.log.warning(
            "disk_nearly_full", path="/data", reason="only 4 MB are left"
        )
        await viewer.open(a.connector.http_port)
        page = viewer.page
        happened = viewer.at("happened")
        await expect(happened).to_contain_text("settlement completed")
        await expect(viewer.at("inbox")).to_contain_text("Warning: disk nearly full")
        await expect(viewer.at("inbox")).to_contain_text("only 4 MB are left")
        await page.reload()
        await viewer.live()
        # It was before this page was opened.
        await expect(happened).to_contain_text("settlement completed")
        await expect(happened).to_contain_text("disk nearly full")
        await page.get_by_role("button", name=re.compile("Warning: disk nearly full")).click()
        log = viewer.at("log")
        await expect(log.locator(".event")).to_have_count(1)
        await expect(log).to_contain_text("only 4 MB are left")
        await expect(log).to_contain_text("/data")
        await page.get_by_role("radio", name="all").click()
        await expect(log.locator('[data-type="NODE_STARTED"]')).to_have_count(1)
        await expect(log.locator('[data-type="SETTLEMENT_COMPLETED"]')).to_contain_text(
            "outgoing settlement with b completed: 300 USD/9"
        )
        await audit(viewer, "the log")
        await viewer.shot("log")
        # What comes while it is looked at comes to its top.
        await b.stop()
        await expect(log.locator(".event").first).to_contain_text("b is disconnected")
        await page.get_by_label("Text").fill("4 MB")
        await expect(viewer.at("log-count")).to_have_text("1 event that fit")
        await page.get_by_label("Text").fill("not there")
        await expect(page.get_by_role("tabpanel")).to_contain_text(
            "All that is kept was looked at."
        )
        await page.get_by_label("Text").fill("")
        await page.get_by_role("radio", name="settlements").click()
        await expect(log.locator('[data-type="PEER_DISCONNECTED"]')).to_have_count(0)
        # As files: what was filtered for, all of it.
        for name, read in (("CSV", _from_csv), ("JSON lines", _from_lines)):
            async with page.expect_download() as saving:
                await page.get_by_role("link", name=name).click()
            path = await (await saving.value).path()
            found = read(Path(path).read_text("utf-8"))
            assert "SETTLEMENT_COMPLETED" in found
            assert all(one.startswith("SETTLEMENT_") for one in found)
        # All of an event, in place.
        await log.get_by_role("button", name=re.compile("^Open event")).first.click()
        await expect(log.locator("pre")).to_contain_text('"peerId": "b"')
        for width in (360, 3840):
            await page.set_viewport_size({"width": width, "height": 900})
            assert await page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
            await audit(viewer, f"the log, {width}")
            await viewer.shot(f"log-{width}")


def _from_csv(text: str) -> list[str]:
    return [row["type"] for row in csv.DictReader(io.StringIO(text))]


def _from_lines(text: str) -> list[str]:
    return [json.loads(line)["type"] for line in text.splitlines()]
