"""Accessibility of the page: axe-core, use by keyboard alone, no meaning in colour alone."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from connector import Fulfill, Reject
from tests.browser.axe import audit
from tests.browser.conftest import PATIENCE_MS, Viewer
from tests.support.daemons import RunningNodes
from tests.support.ports import free_ports

expect = pytest.importorskip("playwright.async_api", reason="playwright is not installed").expect
expect.set_options(timeout=PATIENCE_MS)

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]

TABS = ["Dashboard", "Packets", "Accounts", "Peers", "Keys", "Log"]
WIDTHS = pytest.mark.parametrize("width", [pytest.param(360, marks=pytest.mark.slow), 1280])


@asynccontextmanager
async def busy(viewer: Viewer, tmp_path: Path, width: int) -> AsyncIterator[None]:
    """The page of a node with something of everything: both sides, rejects, limits nearly reached."""
    ports = free_ports(3)
    nodes = [f"http://127.0.0.1:{port}" for port in ports]
    async with RunningNodes(tmp_path) as network, viewer:
        a, _b, _c = await network.chain(
            "a", "b", "c",
            peer={
                "a-b": {"routes": ["g"]},
                "b-c": {"settle_threshold": 1_000_000},
                "b-a": {"credit_limit": 1_200_000},
            },
            node={
                name: {"http_port": port, "explorer_nodes": nodes}
                for name, port in zip("abc", ports, strict=True)
            },
        )  # fmt: skip
        assert isinstance(await a.connector.send("g.c", 950_000), Fulfill)
        assert isinstance(await a.connector.send("g.nobody", 5), Reject)
        await viewer.page.set_viewport_size({"width": width, "height": 800})
        await viewer.open(ports[1])
        yield


@WIDTHS
async def test_axe_finds_nothing_grave(viewer: Viewer, tmp_path: Path, width: int) -> None:
    async with busy(viewer, tmp_path, width):
        page = viewer.page
        await page.locator('#network [data-verdict="mirrored"]').nth(1).wait_for()
        for name in TABS:
            await viewer.tab(name)
            await expect(page.locator(".loading")).to_have_count(0)
            await audit(viewer, name)
        await viewer.tab("Packets")
        await viewer.at("packet-rows").get_by_text("g.nobody").first.click()
        await viewer.at("timeline").wait_for()
        await audit(viewer, "the story of a packet")
        header = await page.locator("header.top").bounding_box()
        close = await page.get_by_role("button", name="Close").bounding_box()
        assert header is not None
        assert close is not None
        assert close["y"] >= header["y"] + header["height"]
        await page.keyboard.press("Escape")
        await page.get_by_label("Time", exact=True).select_option("custom")
        await page.get_by_label("Text").fill("zzz")
        await page.get_by_text("No packet fits").wait_for()
        await audit(viewer, "filters that nothing fits")
        await page.goto(f"{page.url.partition('#')[0]}#peers?peer=c")
        await page.get_by_label("Destination to explain").fill("g.c.x")
        await page.get_by_role("button", name="Explain").click()
        await page.locator(".explain-answer").wait_for()
        await audit(viewer, "a peer, and a route explained")
        await page.keyboard.press("Escape")
        await page.locator("body").press("?")
        await page.get_by_role("dialog", name="Help").wait_for()
        await audit(viewer, "help")
        await page.keyboard.press("Escape")
        await page.get_by_role("button", name="Search").click()
        await page.get_by_role("combobox", name="Search").fill("c")
        await page.get_by_role("option").first.wait_for()
        await audit(viewer, "search")


async def test_axe_finds_nothing_grave_by_daylight(viewer: Viewer, tmp_path: Path) -> None:
    """The light theme, which a browser asks for."""
    async with busy(viewer, tmp_path, 1280):
        page = viewer.page
        await page.emulate_media(color_scheme="light")
        white = await page.evaluate("getComputedStyle(document.querySelector('.panel')).color")
        assert white == "rgb(23, 33, 44)"
        await page.locator('#network [data-verdict="mirrored"]').nth(1).wait_for()
        for name in TABS:
            await viewer.tab(name)
            await expect(page.locator(".loading")).to_have_count(0)
            await audit(viewer, f"{name} by daylight")
            await viewer.shot(f"light-{name.lower()}")
        await viewer.tab("Packets")
        await viewer.at("packet-rows").get_by_text("g.nobody").first.click()
        await viewer.at("timeline").wait_for()
        await audit(viewer, "the story of a packet by daylight")
        await page.goto(f"{page.url.partition('#')[0]}#peers/c")
        await viewer.at("peer-packets").wait_for()
        await audit(viewer, "a peer by daylight")
        await viewer.shot("light-peer")
        await page.locator("body").press("?")
        await page.get_by_role("dialog", name="Help").wait_for()
        await audit(viewer, "help by daylight")


@WIDTHS
async def test_axe_finds_nothing_grave_where_a_key_is_asked_for(
    viewer: Viewer, tmp_path: Path, width: int
) -> None:
    viewer.expected = ("401", "WebSocket connection to")
    async with RunningNodes(tmp_path) as network, viewer:
        node = await network.add("a", [], http_host="0.0.0.0", admin_api_key="key-of-the-admin")
        page = viewer.page
        await page.set_viewport_size({"width": width, "height": 800})
        await page.goto(f"http://127.0.0.1:{node.connector.http_port}/")
        await page.get_by_label("Key", exact=True).fill("not-the-key")
        await page.get_by_role("button", name="Log in").click()
        await page.get_by_role("alert").filter(has_text="not the key").wait_for()
        await audit(viewer, "the form before the page")
        await page.get_by_label("Key", exact=True).fill("key-of-the-admin")
        await page.get_by_role("button", name="Log in").click()
        await viewer.live()
        await page.context.clear_cookies()
        await page.keyboard.press("5")
        await page.get_by_label("Key", exact=True).fill("not-the-key")
        await page.get_by_role("button", name="Log in").click()
        await page.get_by_role("alert").filter(has_text="not the key").wait_for()
        await audit(viewer, "the form in the page")


# --- the keyboard alone

# What Tab should lead to: of a row of tabs or choices only the one that is chosen.
WAITING = """() => [...document.querySelectorAll(
    'a[href], button, input, select, textarea, summary, [tabindex]')].filter((one) =>
      one.tabIndex >= 0 && !one.disabled && one.checkVisibility({ visibilityProperty: true }) &&
      one.closest('[inert]') === null).map((one) => { one.dataset.wanted = '1'; }).length"""
STEP = """() => {
  const one = document.activeElement;
  if (one === null || one === document.body) return null;
  one.dataset.reached = '1';
  const style = getComputedStyle(one);
  const field = one.closest('.search-field');
  const ring = style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2;
  const box = one.getBoundingClientRect();
  const x = Math.min(Math.max(box.left + box.width / 2, 0), innerWidth - 1);
  const y = Math.min(Math.max(box.top + Math.min(box.height, 20) / 2, 0), innerHeight - 1);
  const top = document.elementFromPoint(x, y);
  return {
    what: one.outerHTML.slice(0, 160),
    visible: ring || (field !== null && getComputedStyle(field).boxShadow !== 'none'),
    seen: box.bottom > 0 && box.top < innerHeight && (one.contains(top) || top?.contains(one)),
  };
}"""
MISSED = """() => [...document.querySelectorAll('[data-wanted]:not([data-reached])')]
    .map((one) => one.outerHTML.slice(0, 160))"""


@WIDTHS
async def test_tab_leads_to_every_control_and_shows_where_it_is(
    viewer: Viewer, tmp_path: Path, width: int
) -> None:
    async with busy(viewer, tmp_path, width):
        page = viewer.page
        # What comes a moment later would not be counted.
        await page.locator('#network [data-verdict="mirrored"]').nth(1).wait_for()
        for name in [*TABS, "story", "peer"]:
            if name == "story":
                await viewer.tab("Packets")
                await viewer.at("packet-rows").locator("[data-id]").first.click()
                await viewer.at("timeline").wait_for()
            elif name == "peer":
                await viewer.tab("Peers")
                await viewer.at("peer-c").get_by_role("button").click()
                await viewer.at("peer-packets").wait_for()
                await expect(page.get_by_role("region", name="Keys")).to_be_visible()
                await expect(viewer.at("peer-routes")).to_be_visible()
            else:
                await viewer.tab(name)
            await expect(page.locator(".loading")).to_have_count(0)
            # Once around, wherever it begins; between the end and the beginning lies the browser.
            for _ in range(await page.evaluate(WAITING) + 3):
                await page.keyboard.press("Tab")
                if (at := await page.evaluate(STEP)) is not None:
                    assert at["visible"], (name, at["what"])
                    assert at["seen"], (name, at["what"])
            missed = await page.evaluate(MISSED)
            assert missed == [], (name, missed)


async def test_arrows_walk_along_tabs_and_choices(viewer: Viewer, tmp_path: Path) -> None:
    async with busy(viewer, tmp_path, 1280):
        page = viewer.page

        async def focused(role: str, name: str) -> None:
            await expect(page.get_by_role(role, name=name, exact=True)).to_be_focused()  # type: ignore[arg-type]

        await page.get_by_role("tab", name="Dashboard").focus()
        for key, name in (
            ("ArrowRight", "Packets"), ("End", "Log"), ("ArrowRight", "Dashboard"),
            ("ArrowLeft", "Log"), ("Home", "Dashboard"), ("ArrowRight", "Packets"),
            ("ArrowRight", "Accounts"),
        ):  # fmt: skip
            await page.keyboard.press(key)
            await focused("tab", name)
            await expect(page.get_by_role("tab", selected=True)).to_have_text(name)
            await expect(page.get_by_role("tabpanel", name=name)).to_be_visible()
        await page.get_by_role("radio", name="15 min").focus()
        for key, name in (("ArrowRight", "1 h"), ("End", "7 d"), ("ArrowRight", "5 min")):
            await page.keyboard.press(key)
            await focused("radio", name)
            await expect(page.get_by_role("radio", checked=True)).to_have_text(name)
        # A table is one stop; arrows lead on from there.
        await viewer.tab("Packets")
        rows = viewer.at("packet-rows").locator("[data-id]")
        await rows.first.focus()
        await page.keyboard.press("ArrowDown")
        await expect(rows.nth(1)).to_be_focused()
        await page.keyboard.press("Enter")
        await expect(viewer.at("packet-drawer")).to_be_focused()


@WIDTHS
async def test_what_opens_keeps_the_focus_and_gives_it_back(
    viewer: Viewer, tmp_path: Path, width: int
) -> None:
    async with busy(viewer, tmp_path, width):
        page = viewer.page
        for name in ("Help", "Search"):
            opener = page.get_by_role("button", name=name, exact=True)
            await opener.focus()
            await page.keyboard.press("Enter")
            dialog = page.get_by_role("dialog", name=name)
            await dialog.wait_for()
            for _ in range(8):
                await page.keyboard.press("Tab")
                # Between the last and the first lies the browser's own frame.
                assert await page.evaluate(
                    "document.activeElement === document.body"
                    " || document.activeElement.closest('dialog') !== null"
                )
            await page.keyboard.press("Escape")
            await expect(dialog).to_have_count(0)
            await expect(opener).to_be_focused()
        await viewer.tab("Packets")
        row = viewer.at("packet-rows").locator("[data-id]").nth(1)
        await row.focus()
        for close in ("Escape", "Enter"):
            await page.keyboard.press("Enter")
            await expect(viewer.at("packet-drawer")).to_be_focused()
            if close == "Enter":
                await page.get_by_role("button", name="Close").focus()
            await page.keyboard.press(close)
            await expect(viewer.at("packet-drawer")).to_have_count(0)
            await expect(row).to_be_focused()
        await viewer.tab("Peers")
        peer = viewer.at("peer-c").get_by_role("button")
        await peer.focus()
        await page.keyboard.press("Enter")
        await page.locator("#peer-card").get_by_role("button", name="Close").focus()
        await page.keyboard.press("Enter")
        await expect(page.locator("#peer-card")).to_have_count(0)
        await expect(peer).to_be_focused()


# --- no colours

# What is coloured by a balance or a state, and what says the same without the colour.
UNSAID = r"""() => {
  const shown = (one) => one.checkVisibility({ visibilityProperty: true });
  const text = (one) => one.textContent ?? '';
  const bad = [];
  for (const one of document.querySelectorAll('.owed, .owing')) {
    const sign = one.matches('.owed') ? /\+|owes us/ : /\u2212|we owe/;
    if (shown(one) && !sign.test(text(one))) bad.push(one.outerHTML);
  }
  for (const one of document.querySelectorAll('.chip:not(.chip-quiet)')) {
    const mark = getComputedStyle(one, '::before').content;
    if (shown(one) && (mark === 'none' || text(one).trim() === '')) bad.push(one.outerHTML);
  }
  for (const one of document.querySelectorAll('[data-level=amber], [data-level=rose]')) {
    if (!/above \d+ %/.test(text(one))) bad.push(one.outerHTML);
  }
  for (const one of document.querySelectorAll('.dot:not([aria-hidden=true])')) bad.push(one.outerHTML);
  for (const one of document.querySelectorAll('td .dot, .live .dot')) {
    if (text(one.parentElement).trim() === '') bad.push(one.parentElement.outerHTML);
  }
  return bad;
}"""


async def test_no_balance_and_no_state_is_told_by_colour_alone(
    viewer: Viewer, tmp_path: Path
) -> None:
    async with busy(viewer, tmp_path, 1280):
        page = viewer.page
        debugger = await page.context.new_cdp_session(page)
        await debugger.send("Emulation.setEmulatedVisionDeficiency", {"type": "achromatopsia"})
        await page.locator('#network [data-verdict="mirrored"]').nth(1).wait_for()
        for name in TABS:
            await viewer.tab(name)
            await expect(page.locator(".loading")).to_have_count(0)
            assert await page.evaluate(UNSAID) == [], name
            await viewer.shot(f"grey-{name.lower()}")
        await viewer.tab("Accounts")
        for peer, words in (("a", "owes us"), ("c", "we owe")):
            net = viewer.at(f"account-{peer}").get_by_test_id("net")
            await expect(net).to_contain_text(re.compile(rf"[+\u2212].*{words}"))
        await expect(viewer.at("account-a").get_by_test_id("credit")).to_contain_text("above 70 %")
        await expect(viewer.at("account-c").get_by_test_id("settlement")).to_contain_text(
            "above 90 %"
        )
