"""Operating from the page: what needs somebody, what can be done about it, and what is true of it."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from connector import Fulfill, PeerSettings
from tests.browser.axe import audit
from tests.browser.conftest import PATIENCE_MS, Viewer
from tests.support.admin import KEY, Operator
from tests.support.daemons import RunningNodes

expect = pytest.importorskip("playwright.async_api", reason="playwright is not installed").expect
expect.set_options(timeout=PATIENCE_MS)

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]

REFUSED = "the server responded with a status of 4"


async def give_key(viewer: Viewer, key: str = KEY) -> None:
    await viewer.page.get_by_label("ADMIN_API_KEY", exact=True).fill(key)
    await viewer.page.get_by_role("button", name="Operate", exact=True).click()


async def test_a_settlement_that_waits_is_confirmed_from_the_inbox(
    viewer: Viewer, tmp_path: Path
) -> None:
    async with RunningNodes(tmp_path) as network, viewer:
        a, _b = await network.chain(
            "a", "b", peer={"a-b": {"settle_threshold": 1000}}, node={"a": {"admin_api_key": KEY}}
        )
        viewer.expected = (REFUSED,)
        await viewer.open(a.connector.http_port)
        page, inbox = viewer.page, viewer.at("inbox")
        await expect(viewer.at("sentence")).to_contain_text("1 of 1 links up")
        await expect(viewer.at("sentence")).to_contain_text("nothing needs you")
        await expect(page).to_have_title("a · ILP connector")
        calm = await page.locator('link[rel="icon"]').get_attribute("href")
        assert isinstance(await a.connector.send("g.b", 1001), Fulfill)
        await expect(inbox).to_contain_text("Pay b 0.000001001 USD, then confirm")
        await expect(viewer.at("sentence")).to_contain_text("1 needs you")
        await expect(page).to_have_title("(1) a · ILP connector")
        assert await page.locator('link[rel="icon"]').get_attribute("href") != calm
        await audit(viewer, "inbox")
        await viewer.shot("inbox-settlement")
        await page.get_by_role("button", name="Confirm paid: 0.000001001 USD").click()
        # The page only reads until the key is given; a wrong one is said to be wrong.
        await give_key(viewer, "not-the-key")
        await expect(page.get_by_role("alert")).to_contain_text("That is not the ADMIN_API_KEY")
        await give_key(viewer)
        await expect(viewer.at("effects")).to_contain_text("0.000001001 USD to b is noted as paid")
        await audit(viewer, "confirmation")
        await viewer.shot("confirmation")
        operator = Operator(a)
        assert await operator.events("ADMIN_ACTION", count=0) == [], "nothing is done yet"
        await viewer.at("do-it").click()
        await expect(viewer.at("done")).to_contain_text("It is noted as paid")
        await expect(viewer.at("sentence")).to_contain_text("nothing needs you")
        await expect(viewer.at("operator")).to_have_attribute("data-role", "operate")
        (action,) = await operator.events("ADMIN_ACTION")
        assert (action["action"], action["via"]) == ("settlement.confirm", "page")
        assert action["address"] == "127.0.0.1"
        (one,) = (await operator.get("/admin/settlements"))["items"]
        assert one["phase"] == "completed"


async def test_43_peers_that_are_down_are_one_row(viewer: Viewer, tmp_path: Path) -> None:
    async with RunningNodes(tmp_path) as network, viewer:
        peers = [PeerSettings(id=f"member-{n}", secret=f"of-{n}") for n in range(1, 44)]
        a = await network.add("a", peers, admin_api_key=KEY)
        viewer.expected = (REFUSED,)
        await viewer.open(a.connector.http_port)
        page = viewer.page
        row = viewer.at("inbox-row")
        await expect(row).to_have_count(1)
        await expect(row).to_contain_text("43 peers are not connected")
        await expect(row).to_contain_text("member-1, member-2, member-3 and 40 more")
        await expect(page).to_have_title("(1) a · ILP connector")
        await viewer.shot("inbox-43")
        await page.get_by_role("button", name="Open: 43 peers are not connected").click()
        await expect(row.get_by_text("is not connected")).to_have_count(43)
        await page.get_by_role("button", name="member-2: expected offline").click()
        await give_key(viewer)
        await expect(viewer.at("effects")).to_contain_text(
            "a missing link with member-2 is no alarm"
        )
        await viewer.at("do-it").click()
        await viewer.at("done").wait_for()
        await page.get_by_role("button", name="Close", exact=True).click()
        await expect(row).to_contain_text("42 peers are not connected")
        await expect(viewer.at("sentence")).to_contain_text(
            "0 of 43 links up (1 expected to be down)"
        )
        await viewer.tab("Peers")
        names = await page.locator(".peers-left tbody th button").all_text_contents()
        assert names[:3] == ["member-1", "member-2", "member-3"]
        assert names[9] == "member-10"
        await expect(viewer.at("peer-member-2")).to_contain_text("down, expected")


async def test_a_limit_is_raised_with_its_effect_told_and_a_wrong_amount_refused(
    viewer: Viewer, tmp_path: Path
) -> None:
    async with RunningNodes(tmp_path) as network, viewer:
        a, b = await network.chain(
            "a", "b", peer={"a-b": {"credit_limit": 1000}}, node={"a": {"admin_api_key": KEY}}
        )
        viewer.expected = (REFUSED,)
        assert isinstance(await b.connector.send("g.a", 800), Fulfill)
        await viewer.open(a.connector.http_port)
        page = viewer.page
        await expect(viewer.at("inbox")).to_contain_text("b has used 80 % of its credit")
        await page.get_by_role("button", name="Credit limit of b").click()
        await give_key(viewer)
        field = page.get_by_label("It may owe us, in USD")
        await expect(field).to_have_value("0.000002")
        await expect(viewer.at("effects")).to_contain_text("0.000002 USD")
        for wrong, said in (("lots", "That is no amount in USD"), ("0.0000005", "uses 800")):
            await field.fill(wrong)
            await expect(page.get_by_role("alert")).to_contain_text(said)
            await expect(viewer.at("do-it")).to_be_disabled()
        await field.fill("0.000005")
        await expect(viewer.at("effects")).to_contain_text("0.000005 USD")
        await expect(viewer.at("do-it")).to_be_enabled()
        await viewer.at("do-it").click()
        await viewer.at("done").wait_for()
        settings = await Operator(a).get("/admin/peers/b")
        assert settings["creditLimit"] == "5000"
        await page.get_by_role("button", name="Close", exact=True).click()
        await expect(viewer.at("sentence")).to_contain_text("nothing needs you")


async def test_without_an_admin_key_nothing_is_offered(viewer: Viewer, tmp_path: Path) -> None:
    async with RunningNodes(tmp_path) as network, viewer:
        a = await network.add("a", [PeerSettings(id="b", secret="of-a-and-b")])
        await viewer.open(a.connector.http_port)
        await expect(viewer.at("inbox")).to_contain_text("b is not connected")
        await expect(viewer.at("inbox").locator(".act")).to_have_count(0)
        await expect(viewer.at("operator")).to_have_count(0)


async def test_no_row_says_in_flight_beside_how_long_it_took(
    viewer: Viewer, tmp_path: Path
) -> None:
    async with RunningNodes(tmp_path) as network, viewer:
        a, b, _c = await network.chain("a", "b", "c")
        await viewer.open(b.connector.http_port, "#packets")
        going = True

        async def traffic() -> None:
            while going:
                await asyncio.gather(*(a.connector.send("g.c", 10) for _ in range(20)))
                await asyncio.sleep(0.05)

        sending = asyncio.ensure_future(traffic())
        try:
            rows = viewer.page.locator("[data-id]")
            await rows.nth(10).wait_for()
            for _ in range(20):
                seen = await rows.evaluate_all(
                    "all => all.map(one => [one.querySelector('.cell-status').textContent,"
                    " one.querySelector('.cell-took').textContent])"
                )
                assert seen
                wrong = [one for one in seen if "in flight" in one[0] and one[1] != "\u2013"]
                assert wrong == []
                await asyncio.sleep(0.1)
        finally:
            going = False
            await sending


async def test_the_title_says_that_the_connector_is_away(viewer: Viewer, tmp_path: Path) -> None:
    async with RunningNodes(tmp_path) as network, viewer:
        a, _b = await network.chain("a", "b")
        await viewer.open(a.connector.http_port)
        viewer.expected = ("ERR_CONNECTION_REFUSED", "ERR_CONNECTION_RESET", "WebSocket connection")
        await a.stop()
        await expect(viewer.page).to_have_title(re.compile(r"^offline: "))


async def test_search_finds_what_is_far_back_and_says_none_only_when_it_has_looked(
    viewer: Viewer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("connector.telemetry.bounds.SEARCH_EVENTS_MAX", 50)
    async with RunningNodes(tmp_path) as network, viewer:
        a, _b = await network.chain("a", "b")
        for index in range(5):
            await a.connector.send(f"g.nowhere.{index}", 1)
        for _ in range(30):
            await asyncio.gather(*(a.connector.send("g.b", 10) for _ in range(10)))
        await viewer.open(a.connector.http_port, "#packets")
        shown = viewer.at("packets-shown")
        await expect(shown).to_contain_text("shown")
        await viewer.page.get_by_label("Text", exact=True).fill("nowhere")
        await expect(shown).to_have_text("5 packets fit")
        await viewer.shot("search")
        await viewer.page.get_by_label("Text", exact=True).fill("not there at all")
        await expect(viewer.page.get_by_role("tabpanel")).to_contain_text(
            "All that is stored was looked at."
        )
        await expect(shown).to_have_text("0 packets fit")


async def test_charts_look_the_same_after_a_reload(viewer: Viewer, tmp_path: Path) -> None:
    async with RunningNodes(tmp_path) as network, viewer:
        a, _b = await network.chain("a", "b")
        await viewer.open(a.connector.http_port, "#dashboard?range=1m")
        page = viewer.page
        for _ in range(4):
            await asyncio.gather(*(a.connector.send("g.b", 1000) for _ in range(25)))
            await asyncio.sleep(0.5)
        await expect(viewer.at("sentence")).not_to_contain_text("not known yet")
        # By the minute and longer, points do not move: they are those of the connector.
        await expect(viewer.at("resolution")).to_contain_text("average of 1 s")
        series = "() => fetch('api/aggregates?range=60&points=60').then(one => one.json())"
        before = (await page.evaluate(series))["items"]
        await page.reload()
        await viewer.live()
        after = {one["timestamp"]: one for one in (await page.evaluate(series))["items"]}
        for one in before:
            assert after.get(one["timestamp"], one) == one
        assert sum(one["fulfilled"] or 0 for one in before) <= 100
        assert any(one["fulfilled"] is None for one in before), "before the start: a gap"
        labels = await page.locator(".chart").first.locator("text.axis-text").all_text_contents()
        assert len(labels) == len(set(labels)), labels


async def test_a_peer_is_disabled_and_removed_from_its_own_card(
    viewer: Viewer, tmp_path: Path
) -> None:
    async with RunningNodes(tmp_path) as network, viewer:
        a, b = await network.chain("a", "b", node={"a": {"admin_api_key": KEY}})
        viewer.expected = (REFUSED,)
        assert isinstance(await a.connector.send("g.b", 700), Fulfill)
        operator = Operator(a)
        path = "/admin/accounts/b/settlements"
        paid = await operator.ask("POST", path, {"direction": "outgoing", "amount": "300"})
        assert paid.status_code == 201
        await viewer.open(a.connector.http_port, "#peers/b")
        page, card = viewer.page, viewer.page.locator("#peer-card")
        await expect(card).to_contain_text("we owe 0.000000400 USD")
        await expect(viewer.at("peer-routes")).to_contain_text("g.b")
        await expect(viewer.at("peer-settlements")).to_contain_text("0.000000300 USD")
        await expect(viewer.at("peer-settlements")).to_contain_text("completed")
        await audit(viewer, "peer")
        await viewer.shot("peer")
        await page.get_by_role("button", name="Disable b").click()
        await give_key(viewer)
        await expect(viewer.at("effects")).to_contain_text("new packets of b are refused (T03)")
        await viewer.at("do-it").click()
        await viewer.at("done").wait_for()
        await page.get_by_role("button", name="Close", exact=True).last.click()
        await expect(viewer.at("peer-state")).to_contain_text("disabled")
        refused = await b.connector.send("g.a", 1)
        assert getattr(refused, "code", "") == "T03"
        # What would happen now, and not only which route there is.
        await page.get_by_label("Destination to explain").fill("not an address!")
        await page.get_by_role("button", name="Explain").click()
        await expect(page.get_by_role("alert")).to_contain_text("That is not an ILP address")
        await page.get_by_label("Destination to explain").fill("g.b.x")
        await page.get_by_role("button", name="Explain").click()
        await expect(viewer.at("explained")).to_contain_text("F02")
        await page.get_by_role("button", name="Remove b").click()
        await expect(viewer.at("effects")).to_contain_text("we owe it 0.0000004 USD")
        await viewer.shot("removal")
        await viewer.at("do-it").click()
        await viewer.at("done").wait_for()
        await expect(viewer.at("peer-state")).to_contain_text("no longer configured")
        actions = [one["action"] for one in await operator.events("ADMIN_ACTION", count=3)]
        assert [one for one in actions if one != "peer.drain"] == [
            "peer.delete", "peer.edit", "settlement.record",
        ]  # fmt: skip
