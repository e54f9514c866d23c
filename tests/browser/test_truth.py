"""What the page says is true wherever it says it: one balance, settlements that are no traffic, a peer that is down."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from connector import Fulfill, PeerSettings
from tests.browser.conftest import PATIENCE_MS, Viewer
from tests.support.admin import KEY, Operator
from tests.support.daemons import RunningNodes

expect = pytest.importorskip("playwright.async_api", reason="playwright is not installed").expect
expect.set_options(timeout=PATIENCE_MS)

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]

BALANCE = "0.385926226"


async def test_one_balance_has_the_same_digits_everywhere(viewer: Viewer, tmp_path: Path) -> None:
    async with RunningNodes(tmp_path) as network, viewer:
        a, b, _c = await network.chain("a", "b", "c")
        assert isinstance(await a.connector.send("g.c", 385_926_226), Fulfill)
        await viewer.open(b.connector.http_port)
        page = viewer.page
        await expect(page.locator("#network")).to_contain_text(f"+{BALANCE} USD")
        await expect(viewer.at("positions")).to_contain_text(f"+{BALANCE} USD")
        await viewer.tab("Accounts")
        card = viewer.at("account-a")
        await expect(card.locator(".net-value")).to_have_text(f"+{BALANCE}")
        await expect(card.locator(".sides")).to_contain_text(BALANCE)
        await expect(card.get_by_test_id("credit")).to_contain_text(f"{BALANCE} of 1 USD")
        await page.goto(f"{page.url.partition('#')[0]}#peers/a")
        await expect(page.locator("#peer-card .net")).to_contain_text(f"owes us {BALANCE} USD")
        await expect(page.locator("#peer-card .sides")).to_contain_text(BALANCE)


async def test_a_settlement_is_no_traffic_and_a_peer_that_is_down_is_foretold(
    viewer: Viewer, tmp_path: Path
) -> None:
    async with RunningNodes(tmp_path) as network, viewer:
        a, b, c = await network.chain("a", "b", "c", node={"b": {"admin_api_key": KEY}})
        assert isinstance(await a.connector.send("g.c", 1000), Fulfill)
        operator = Operator(b)
        paid = {"direction": "incoming", "amount": "307"}
        answer = await operator.ask("POST", "/admin/accounts/a/settlements", paid)
        assert answer.status_code == 201
        await viewer.open(b.connector.http_port, "#peers/a")
        page = viewer.page
        await expect(viewer.at("net")).to_have_attribute("data-net", "693")
        await expect(viewer.at("peer-settlements")).to_contain_text("0.000000307 USD")
        await expect(viewer.at("peer-packets").get_by_role("button")).to_have_count(1)
        # The value that passed is that of the packet alone.
        sums = """() => fetch('api/aggregates?range=60&points=60').then((one) => one.json()).then((found) =>
          found.items.flatMap((item) => item.value).reduce((sum, one) => sum + Number(one.amount), 0))"""
        await page.wait_for_function(f"async () => (await ({sums})()) === 1000")
        # Not only the route: what would happen now.
        await c.stop()
        await viewer.tab("Peers")
        await expect(viewer.at("peer-c")).to_contain_text("down")
        await page.get_by_label("Destination to explain").fill("g.c.shop")
        await page.get_by_role("button", name="Explain").click()
        await expect(viewer.at("explained")).to_contain_text("T01")
        await page.get_by_label("Destination to explain").fill("not an address!")
        await page.get_by_role("button", name="Explain").click()
        await expect(page.get_by_role("alert")).to_contain_text("That is not an ILP address")


async def test_many_even_accounts_are_a_list(viewer: Viewer, tmp_path: Path) -> None:
    async with RunningNodes(tmp_path) as network, viewer:
        members = [
            PeerSettings(id=f"member-{n}", secret=f"of-{n}", offline_expected=True)
            for n in range(1, 13)
        ]
        a = await network.add("a", members)
        await viewer.open(a.connector.http_port, "#accounts")
        rows = viewer.at("evens").get_by_role("listitem")
        await expect(rows).to_have_count(12)
        await expect(viewer.page.locator(".card")).to_have_count(0)
        names = await rows.all_text_contents()
        assert [re.match(r"member-\d+", one)[0] for one in names][8:11] == [  # type: ignore[index]
            "member-9", "member-10", "member-11",
        ]  # fmt: skip
        await viewer.shot("evens")
        await viewer.at("even-member-3").click()
        await expect(viewer.page).to_have_url(re.compile("#peers/member-3$"))
