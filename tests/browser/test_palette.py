"""The palette: everything by keyboard; forms of what is done; the theme that was chosen."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from connector import Fulfill, PeerSettings, Reject
from tests.browser.axe import audit
from tests.browser.conftest import PATIENCE_MS, Viewer
from tests.support.admin import KEY, Operator
from tests.support.daemons import RunningNodes

expect = pytest.importorskip("playwright.async_api", reason="playwright is not installed").expect
expect.set_options(timeout=PATIENCE_MS)

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]

REFUSED = "the server responded with a status of 4"
BACKGROUND = "getComputedStyle(document.documentElement).backgroundColor"


async def palette(viewer: Viewer, text: str) -> None:
    """Open the palette, and type."""
    await viewer.page.keyboard.press("Control+k")
    await expect(viewer.page.get_by_role("combobox", name="Search")).to_be_focused()
    await viewer.page.keyboard.type(text)


async def choose(viewer: Viewer, text: str, option: str) -> None:
    """The option that comes first for a text, by keyboard alone."""
    await palette(viewer, text)
    first = viewer.page.locator("#hits").get_by_role("option", selected=True)
    await expect(first).to_contain_text(option)
    await viewer.page.keyboard.press("Enter")
    await expect(viewer.page.get_by_role("combobox", name="Search")).to_have_count(0)


async def give_key(viewer: Viewer) -> None:
    await viewer.page.get_by_label("ADMIN_API_KEY", exact=True).fill(KEY)
    await viewer.page.keyboard.press("Enter")


async def test_pages_peers_accounts_and_packets_are_gone_to_by_keyboard(
    viewer: Viewer, tmp_path: Path
) -> None:
    async with RunningNodes(tmp_path) as network, viewer:
        a, b, _c = await network.chain("a", "b", "c", peer={"a-b": {"routes": ["g"]}})
        assert isinstance(await a.connector.send("g.c", 700), Fulfill)
        assert isinstance(
            await a.connector.send("g.nobody", 5, condition=bytes.fromhex("c0ffee" + "07" * 29)),
            Reject,
        )
        await viewer.open(b.connector.http_port)
        page = viewer.page
        await palette(viewer, "")
        await expect(page.locator("#hits").get_by_role("option").first).to_contain_text("Dashboard")
        await audit(viewer, "the palette")
        await viewer.shot("palette")
        await page.keyboard.press("Escape")
        await expect(page.get_by_role("dialog")).to_have_count(0)
        await choose(viewer, "keys", "Keys")
        await expect(page.get_by_role("tab", name="Keys", selected=True)).to_be_visible()
        await choose(viewer, "c", "c")
        await expect(page).to_have_url(re.compile("#peers/c$"))
        await choose(viewer, "a usd", "a · USD")
        await expect(page).to_have_url(re.compile(r"#accounts\?q=a"))
        await choose(viewer, "g.a", "g.a")
        await expect(page.get_by_label("Filter routes")).to_have_value("g.a")
        # A packet by the first digits of its id, or of its condition.
        events = (await Operator(b).get("/api/events?type=PACKET_RECEIVED"))["items"]
        refused = next(one for one in events if one["destination"] == "g.nobody")
        for digits in (refused["packetId"][:20], "c0ffee"):
            await choose(viewer, digits, "packet to g.nobody, rejected")
            await expect(viewer.at("packet-drawer")).to_contain_text(refused["packetId"])
            await page.keyboard.press("Escape")
        # Nothing found is said to be a filter, and walking with arrows comes around.
        await palette(viewer, "zzz")
        await expect(page.locator("#hits").get_by_role("option")).to_have_count(1)
        await page.keyboard.press("ArrowDown")
        await expect(page.locator("#hits").get_by_role("option", selected=True)).to_contain_text(
            "Packets with “zzz”"
        )
        await page.keyboard.press("Enter")
        await expect(page.get_by_label("Text", exact=True)).to_have_value("zzz")
        # Also from a field that is typed in; and once more closes it.
        await page.get_by_label("Text", exact=True).focus()
        await palette(viewer, "dash")
        await page.keyboard.press("Control+k")
        await expect(page.get_by_role("dialog")).to_have_count(0)
        # Without a key to operate with nothing is offered that would do something.
        await palette(viewer, "settle")
        await expect(
            page.locator("#hits").get_by_role("option").filter(has_text="action")
        ).to_have_count(0)


async def test_a_peer_is_added_limited_and_given_a_route_from_the_palette(
    viewer: Viewer, tmp_path: Path
) -> None:
    async with RunningNodes(tmp_path) as network, viewer:
        a = await network.add("a", [PeerSettings(id="b", secret="of-a-b")], admin_api_key=KEY)
        viewer.expected = (REFUSED,)
        await viewer.open(a.connector.http_port)
        page = viewer.page
        operator = Operator(a)
        await choose(viewer, "add peer", "Add a peer")
        await give_key(viewer)
        await expect(page.get_by_label("Its name here")).to_be_focused()
        await expect(viewer.at("do-it")).to_be_disabled()
        await page.keyboard.type("carol")
        await page.get_by_role("button", name="Make one").click()
        secret = await page.get_by_label("Secret that it shares with us").input_value()
        assert re.fullmatch("[0-9a-f]{48}", secret)
        await page.get_by_label("Prefixes that it reaches").fill("g.carol, g.shops")
        await page.get_by_label("Asset", exact=True).fill("EUR")
        await page.get_by_label("Digits after the point").fill("2")
        await page.get_by_label("It may owe us, in EUR").fill("12.345")
        await expect(page.get_by_role("alert")).to_contain_text("That is no amount in EUR")
        await page.get_by_label("It may owe us, in EUR").fill("12.34")
        await expect(viewer.at("effects")).to_contain_text("carol")
        await audit(viewer, "the form of a new peer")
        await viewer.shot("add-peer")
        await viewer.at("do-it").click()
        await expect(viewer.at("done")).to_contain_text("give it its name here, and the secret")
        added = await operator.get("/admin/peers/carol")
        assert (added["assetCode"], added["assetScale"], added["creditLimit"]) == ("EUR", 2, "1234")
        assert added["routes"] == ["g.carol", "g.shops"]
        await page.keyboard.press("Escape")
        # What a form leaves as it was is not sent.
        await choose(viewer, "limits carol", "Limits of carol")
        field = page.get_by_label("It may owe us, in EUR")
        await expect(field).to_have_value("12.34")
        await page.get_by_label("We may owe it, in EUR").fill("5")
        await expect(viewer.at("effects")).to_contain_text("maxPayable")
        await expect(viewer.at("effects")).not_to_contain_text("creditLimit")
        await viewer.at("do-it").click()
        await viewer.at("done").wait_for()
        await page.keyboard.press("Escape")
        limited = await operator.get("/admin/peers/carol")
        assert (limited["creditLimit"], limited["maxPayable"]) == ("1234", "500")
        await choose(viewer, "add route", "Add a route")
        await page.get_by_label("Addresses that begin with").fill("g.far")
        await page.get_by_label("go to", exact=True).select_option("carol")
        await expect(viewer.at("do-it")).to_be_enabled()
        await viewer.at("do-it").click()
        await viewer.at("done").wait_for()
        await page.keyboard.press("Escape")
        await viewer.tab("Peers")
        await page.get_by_role("button", name="Remove the route g.far to carol").click()
        await expect(viewer.at("do-it")).to_be_enabled()
        await viewer.at("do-it").click()
        await viewer.at("done").wait_for()
        await page.keyboard.press("Escape")
        await expect(viewer.at("routes")).not_to_contain_text("g.far")
        # A secret that was typed is nowhere in the page.
        assert secret not in await page.content()
        actions = {one["action"] for one in await operator.events("ADMIN_ACTION", count=4)}
        assert {"peer.create", "peer.limits", "route.add", "route.delete"} <= actions, actions


async def test_a_test_packet_a_payment_and_a_record_of_one(viewer: Viewer, tmp_path: Path) -> None:
    async with RunningNodes(tmp_path) as network, viewer:
        a, b = await network.chain(
            "a", "b", node={"a": {"admin_api_key": KEY}, "b": {"pay_port": 0}}
        )
        viewer.expected = (REFUSED,)
        await viewer.open(a.connector.http_port)
        page = viewer.page
        await choose(viewer, "test packet", "Send a test packet")
        await give_key(viewer)
        await page.get_by_label("To", exact=True).fill("g.b")
        await page.get_by_label("Amount, in USD").fill("0.000002")
        await expect(viewer.at("effects")).to_contain_text("0.000002 USD is sent to g.b")
        await viewer.at("do-it").click()
        await expect(viewer.at("done")).to_contain_text("Fulfilled after")
        await page.keyboard.press("Escape")
        await choose(viewer, "pay", "Pay a payment pointer")
        await page.get_by_label("To", exact=True).fill(
            f"http://127.0.0.1:{b.connector.pay_port}/pay/b"
        )
        await page.get_by_label("Amount to send, in USD").fill("0.001")
        await viewer.at("effects").wait_for()
        await viewer.at("do-it").click()
        await viewer.at("done").wait_for()
        await page.keyboard.press("Escape")
        await viewer.tab("Accounts")
        await expect(viewer.at("net")).to_have_attribute("data-net", "-1002000")
        await choose(viewer, "record b", "Record a payment with b")
        await page.get_by_label("Amount, in USD").fill("0.000002")
        await expect(viewer.at("effects")).to_contain_text("we owe it that much less")
        await viewer.at("do-it").click()
        await viewer.at("done").wait_for()
        await page.keyboard.press("Escape")
        await expect(viewer.at("net")).to_have_attribute("data-net", "-1000000")


async def test_the_theme_is_the_systems_until_one_is_chosen(viewer: Viewer, tmp_path: Path) -> None:
    async with RunningNodes(tmp_path) as network, viewer:
        (a,) = await network.chain("a")
        page = viewer.page
        await viewer.open(a.connector.http_port)
        dark, light = "rgb(9, 13, 18)", "rgb(239, 243, 247)"
        assert await page.evaluate(BACKGROUND) == dark
        await page.emulate_media(color_scheme="light")
        assert await page.evaluate(BACKGROUND) == light
        await viewer.at("theme").click()
        await expect(viewer.at("theme")).to_have_attribute("data-theme", "dark")
        assert await page.evaluate(BACKGROUND) == dark
        await viewer.at("theme").click()
        await page.emulate_media(color_scheme="dark")
        await page.reload()
        await viewer.live()
        assert await page.evaluate(BACKGROUND) == light
        await audit(viewer, "light by choice")
        await viewer.shot("theme-light")
        await choose(viewer, "theme system", "Theme as the system prefers")
        assert await page.evaluate(BACKGROUND) == dark
