"""What the page says when it cannot show everything: late, empty, loading, failed, ledger away."""

from __future__ import annotations

import asyncio
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from connector import Fulfill
from connector.accounting.manager import State
from connector.telemetry import bounds as telemetry_bounds
from tests.browser.axe import audit
from tests.browser.conftest import PATIENCE_MS, Viewer
from tests.browser.way import Way
from tests.support.daemons import Daemon, RunningNodes, until
from tests.support.patience import allowed_s
from tests.support.ports import free_ports
from tests.support.tigerbeetle_server import TigerBeetleServer

if TYPE_CHECKING:
    from playwright.async_api import Route, WebSocketRoute

expect = pytest.importorskip("playwright.async_api", reason="playwright is not installed").expect
expect.set_options(timeout=PATIENCE_MS)

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]

TABS = ["Dashboard", "Packets", "Accounts", "Peers", "Keys"]


async def pay(daemon: Daemon, destination: str, count: int, amount: int = 1) -> None:
    """So many payments at once."""
    sends = (daemon.connector.send(destination, amount) for _ in range(count))
    assert all(isinstance(one, Fulfill) for one in await asyncio.gather(*sends))


# --- the feed


@pytest.mark.slow
async def test_a_feed_that_comes_late_is_said_to(viewer: Viewer, tmp_path: Path) -> None:
    async with RunningNodes(tmp_path) as network:
        (a,) = await network.chain("a")
        async with Way(a.connector.http_port) as way, viewer:
            await viewer.open(way.port)
            # How late something is can be told by what has come before.
            await expect(viewer.page.get_by_role("tabpanel")).to_contain_text(
                re.compile(r"up ([3-9]|\d\d) s")
            )
            way.delay_s = 4.0
            # At first nothing comes, then everything comes late.
            await expect(viewer.at("behind")).to_contain_text("Nothing was heard")
            await expect(viewer.at("live")).to_have_text("silent")
            await expect(viewer.at("behind")).to_contain_text(re.compile("feed is [34] s behind"))
            await expect(viewer.at("live")).to_have_text("behind")
            await viewer.shot("behind")
            way.delay_s = 0.0
            await viewer.live()
            await expect(viewer.at("behind")).to_have_count(0)


async def test_a_viewer_that_could_not_keep_up_says_so_and_asks_anew(
    viewer: Viewer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(telemetry_bounds, "VIEWER_FRAMES_MAX", 10)
    async with RunningNodes(tmp_path) as network:
        a, b = await network.chain("a", "b", node={"a": {"telemetry_packets_per_second": 100_000}})
        async with Way(a.connector.http_port) as way, viewer:
            await viewer.open(way.port, "#accounts")
            await pay(a, "g.b", 1)
            await expect(viewer.at("net")).to_have_attribute("data-net", "-1")
            bus, paid = a.connector.events, 1
            way.block()
            while not any(one.dropped for one in bus._viewers):
                await pay(a, "g.b", 50)
                paid += 50
            assert await viewer.at("net").get_attribute("data-net") != str(-paid)
            way.unblock()
            await expect(viewer.at("gaps")).to_contain_text("interrupted once and has caught up")
            await viewer.live()
            await expect(viewer.at("net")).to_have_attribute("data-net", str(-paid))
            assert b.net("a") == paid
            await viewer.shot("gap")
            # What was missed is found; what comes from now on is live again.
            await pay(a, "g.b", 1, amount=7)
            await expect(viewer.at("net")).to_have_attribute("data-net", str(-paid - 7))
            await viewer.page.get_by_role("button", name="Dismiss").click()
            await expect(viewer.at("gaps")).to_have_count(0)


async def test_packets_that_were_only_counted_are_counted_on_screen(
    viewer: Viewer, tmp_path: Path
) -> None:
    async with RunningNodes(tmp_path) as network, viewer:
        a, _b = await network.chain("a", "b", node={"a": {"telemetry_packets_per_second": 5}})
        await viewer.open(a.connector.http_port, "#packets")
        await pay(a, "g.b", 60)
        counted = a.connector.packets.counted
        assert 40 <= counted <= 55
        await expect(viewer.at("counted")).to_contain_text(f"{counted} packets were only counted")
        await expect(viewer.at("packets-shown")).to_have_text(f"{60 - counted} packets shown")
        await viewer.shot("counted")
        # Balances and totals have them all.
        await viewer.tab("Accounts")
        await expect(viewer.at("net")).to_have_attribute("data-net", "-60")
        await viewer.tab("Dashboard")
        await expect(viewer.page.get_by_role("region", name="Packets / s")).to_contain_text(
            "60 since"
        )


# --- empty, loading, failed


async def test_a_node_without_anything_says_so_on_each_tab(viewer: Viewer, tmp_path: Path) -> None:
    async with RunningNodes(tmp_path) as network, viewer:
        (a,) = await network.chain("a")
        await viewer.open(a.connector.http_port)
        says = {
            "Dashboard": ["No accounts yet", "No packets yet", "nothing needs you"],
            "Packets": ["No packets yet", "No older packets are stored."],
            "Accounts": ["No accounts yet"],
            "Peers": ["No peers configured", "g.a"],
            "Keys": ["No peers configured", "not set"],
        }
        for name in TABS:
            await viewer.tab(name)
            for text in says[name]:
                await expect(viewer.page.get_by_role("tabpanel")).to_contain_text(text)
            await audit(viewer, f"{name}, empty")
            await viewer.shot(f"empty-{name.lower()}")
        # Nothing that fits is something else than nothing at all.
        for tab, field, says_so in (
            ("Packets", "Text", "No packet fits these filters"),
            ("Peers", "Filter routes", "No route fits"),
        ):
            await viewer.tab(tab)
            await viewer.page.get_by_label(field).fill("zzz")
            await expect(viewer.page.get_by_role("tabpanel")).to_contain_text(says_so)


@pytest.mark.slow
async def test_what_is_not_there_yet_is_said_to_be_loading(viewer: Viewer, tmp_path: Path) -> None:
    """Each tab waits with words, and shows what it has as soon as it comes."""
    may_connect, may_answer = asyncio.Event(), asyncio.Event()

    async def connect(socket: WebSocketRoute) -> None:
        await may_connect.wait()
        socket.connect_to_server()

    async def hold(route: Route) -> None:
        await may_answer.wait()
        await route.continue_()

    async with RunningNodes(tmp_path) as network, viewer:
        a, _b = await network.chain("a", "b")
        await pay(a, "g.b", 3)
        page = viewer.page
        panel = page.get_by_role("tabpanel")
        await page.route_web_socket(re.compile("/ws"), connect)
        await page.route(re.compile("/api/"), hold)
        await page.goto(f"http://127.0.0.1:{a.connector.http_port}/")
        for name in TABS:
            await viewer.tab(name)
            await expect(panel.get_by_role("status", name=f"Loading {name}")).to_be_visible()
            await expect(panel).to_contain_text("not told its state yet: waiting for it")
        await audit(viewer, "loading")
        await viewer.shot("loading")
        may_connect.set()
        await viewer.live()
        # What a tab asks for on its own, while everything else is there.
        waits = {
            "Keys": ("Loading keys", "Secrets of the links"),
            "Peers": ("Loading routes", "g.b"),
            "Packets": ("Looking further back", "No older packets are stored."),
        }
        for name, (words, _) in waits.items():
            await viewer.tab(name)
            await expect(panel).to_contain_text(words)
        await viewer.at("packet-rows").locator("[data-id]").first.click()
        await expect(viewer.at("packet-drawer")).to_contain_text("Loading the packet")
        may_answer.set()
        await viewer.at("timeline").wait_for()
        for name, (words, then) in waits.items():
            await viewer.tab(name)
            await expect(panel).to_contain_text(then)
            await expect(panel).not_to_contain_text(words)


async def test_what_cannot_be_loaded_says_why_and_can_be_asked_again(
    viewer: Viewer, tmp_path: Path
) -> None:
    viewer.expected = ("500", "WebSocket connection to")
    own = r"/api/(keys|routes|events|accounts|aggregates)"
    refused = r"/api/"

    async def refuse(route: Route) -> None:
        if refused and re.search(refused, route.request.url):
            await route.fulfill(status=500, json={"error": "the disk is on fire"})
        else:
            await route.continue_()

    async def close(socket: WebSocketRoute) -> None:
        if refused == r"/api/":
            await socket.close()
        else:
            socket.connect_to_server()

    async with RunningNodes(tmp_path) as network, viewer:
        a, _b = await network.chain("a", "b")
        await pay(a, "g.b", 3)
        page = viewer.page
        panel = page.get_by_role("tabpanel")
        await page.route_web_socket(re.compile("/ws"), close)
        await page.route(re.compile("/api/"), refuse)
        await page.goto(f"http://127.0.0.1:{a.connector.http_port}/")
        # Nothing at all: every tab says so.
        for name in TABS:
            await viewer.tab(name)
            await expect(panel.get_by_role("alert")).to_contain_text("the disk is on fire")
        await audit(viewer, "failed")
        await viewer.shot("failed")
        refused = own
        await page.get_by_role("button", name="Try again").click()
        await viewer.live()
        # Only what a tab asks for on its own.
        for name, again in (
            ("Keys", "Secrets of the links"),
            ("Peers", "g.b"),
            ("Packets", "No older packets are stored."),
            ("Dashboard", "Packets per second"),
        ):
            refused = own
            await viewer.tab(name)
            alert = panel.get_by_role("alert").filter(has_text="the disk is on fire")
            await expect(alert).to_be_visible()
            await audit(viewer, f"{name}, failed")
            await viewer.shot(f"failed-{name.lower()}")
            refused = ""
            await alert.get_by_role("button", name="Try again").click()
            await expect(alert).to_have_count(0)
            await expect(panel).to_contain_text(again)
        refused = r"/history"
        await viewer.tab("Accounts")
        await expect(panel.get_by_role("alert")).to_contain_text("History could not be loaded")
        await expect(viewer.at("net")).to_have_attribute("data-net", "-3")


# --- the ledger


async def test_a_node_that_started_without_its_ledger_says_what_is_wrong(
    viewer: Viewer, tmp_path: Path
) -> None:
    away = f"127.0.0.1:{free_ports(1)[0]}"
    settings: dict[str, Any] = {
        "tigerbeetle_cluster_id": 9,
        "tigerbeetle_replicas": away,
        "accounting_outage_policy": "reject",
    }
    async with RunningNodes(tmp_path) as network, viewer:
        (a,) = await network.chain("a", node={"a": settings})
        assert a.connector.accounts.state is State.UNAVAILABLE
        for name in TABS:
            await viewer.page.goto("about:blank")
            await viewer.page.goto(
                f"http://127.0.0.1:{a.connector.http_port}/#{name.lower()}", wait_until="commit"
            )
            opened_s = time.monotonic()
            panel = viewer.page.get_by_role("tabpanel")
            await expect(panel).to_contain_text("Accounting unavailable: new packets are refused")
            await expect(panel).to_contain_text(away)
            took_s = time.monotonic() - opened_s
            print(f"{name}: said after {took_s * 1000:.0f} ms")
            assert took_s < allowed_s(1)
            await audit(viewer, f"{name}, without a ledger")
            await viewer.shot(f"unavailable-{name.lower()}")


@pytest.mark.tigerbeetle
async def test_a_ledger_that_goes_away_is_said_within_a_second_and_what_waits_for_it(
    viewer: Viewer, tmp_path: Path, fragile_server: TigerBeetleServer
) -> None:
    shared = {
        "tigerbeetle_cluster_id": fragile_server.cluster_id,
        "tigerbeetle_replicas": fragile_server.address,
        "accounting_outage_policy": "spool",
    }
    async with RunningNodes(tmp_path) as network, viewer:
        a, b = await network.chain("a", "b", node={"a": shared, "b": shared}, at_once=True)
        await viewer.open(a.connector.http_port)
        await pay(a, "g.b", 1)
        fragile_server.kill()
        paying = asyncio.create_task(pay(a, "g.b", 20))
        await until(lambda: a.connector.accounts.state is State.SPOOLING)
        away_s = time.monotonic()
        panel = viewer.page.get_by_role("tabpanel")
        await expect(panel).to_contain_text("Accounting spooling: the ledger is away")
        took_s = time.monotonic() - away_s
        print(f"spooling said after {took_s * 1000:.0f} ms")
        assert took_s < allowed_s(1)
        await paying
        await expect(panel).to_contain_text(f"({a.connector.accounts.spooled} transfers wait)")
        await expect(viewer.at("accounting")).to_contain_text("spooling")
        await viewer.shot("spooling")
        # On every other tab, too.
        for name in TABS[1:]:
            await viewer.tab(name)
            await expect(viewer.at("accounting-notice")).to_contain_text("packets go on")
        await viewer.tab("Accounts")
        await expect(viewer.at("net")).to_have_attribute("data-net", "-21")
        fragile_server.start()
        await expect(viewer.at("accounting-notice")).to_have_count(0)
        await viewer.tab("Dashboard")
        await expect(viewer.at("accounting")).to_contain_text("available")
        await until(lambda: b.connector.accounts.state is State.AVAILABLE)
