"""One packet over all nodes, from packet to packet, and ids that can be copied."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

import pytest

from connector import Fulfill, PeerSettings, Reject
from connector.web import bounds
from tests.browser.axe import audit
from tests.browser.conftest import PATIENCE_MS, Viewer
from tests.support.daemons import Daemon, RunningNodes
from tests.support.ports import free_ports

expect = pytest.importorskip("playwright.async_api", reason="playwright is not installed").expect
expect.set_options(timeout=PATIENCE_MS)

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]

NAMES = ("ams", "ber", "cph", "dub")
SECRET = "55" * 32


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other nodes are asked for longer than an operator would wait: a busy machine is no fault."""
    monkeypatch.setattr(bounds, "NETWORK_SECONDS_MAX", 30.0)


async def line(network: RunningNodes, names: tuple[str, ...] = NAMES, **more: Any) -> list[Daemon]:
    """Nodes in a row that show each other; each takes a fee."""
    ports = free_ports(len(names))
    pages = [f"http://127.0.0.1:{port}" for port in ports]
    node = {
        name: {"http_port": port, "explorer_nodes": pages, **more.get(name, {})}
        for name, port in zip(names, ports, strict=True)
    }
    peer = {f"{a}-{b}": {"fee_basis_points": 50} for b, a in itertools.pairwise(names)}
    return await network.chain(*names, node=node, peer=peer)


async def test_one_packet_is_followed_over_four_nodes(viewer: Viewer, tmp_path: Path) -> None:
    async with RunningNodes(tmp_path) as network, viewer:
        a, b, _c, d = await line(network)
        assert isinstance(await a.connector.send("g.dub", 125_000_000), Fulfill)
        await viewer.open(b.connector.http_port, "#packets")
        page = viewer.page
        await viewer.at("packet-rows").get_by_text("g.dub").first.click()
        await viewer.at("follow").click()
        await expect(viewer.at("way-sentence")).to_contain_text("over 4 nodes.")
        await expect(viewer.at("way-sentence")).to_contain_text("fulfilled")
        await expect(viewer.at("way-sentence")).to_contain_text(
            re.compile(r"\d ms in the nodes, .* ms between them; slowest: ")
        )
        stops = viewer.at("way-stop")
        assert [await one.get_attribute("data-node") for one in await stops.all()] == list(NAMES)
        # Amounts in and out and the fee of each hop.
        await expect(stops.nth(1)).to_contain_text("0.125 USD")
        await expect(stops.nth(1)).to_contain_text("0.124375 USD")
        await expect(stops.nth(1)).to_contain_text("0.000625 USD")
        await expect(stops.nth(3)).to_contain_text("received")
        for one in await viewer.at("way-inside").all_text_contents():
            assert re.fullmatch(r"[\d.]+ ms", one), one
        bars = await page.locator(".way-bar").evaluate_all(
            "all => all.map(one => [...one.querySelectorAll('.way-part')]"
            ".map(part => part.getBoundingClientRect()).map(box => [box.left, box.right]))"
        )
        # Each lies within the time for which the hop before it waited.
        for before, one in itertools.pairwise(bars):
            assert before[1][0] <= one[0][0] + 2
            assert one[-1][1] <= before[1][1] + 4
        await audit(viewer, "one packet over all nodes")
        await viewer.shot("way")
        # It is in the address; a reload shows the same.
        await page.reload()
        await viewer.live()
        await expect(stops).to_have_count(4)
        # The packet at another node is a click away, at that node.
        href = await stops.nth(3).get_by_role("link").get_attribute("href") or ""
        assert href.startswith(f"http://127.0.0.1:{d.connector.http_port}/#packets?packet=")
        await page.get_by_role("button", name="Its story at ber").click()
        await expect(viewer.at("packet-drawer")).to_contain_text("Posted in the ledger")
        await audit(viewer, "a way with the story at this node")
        await viewer.shot("way-story")
        await page.keyboard.press("Escape")
        await expect(viewer.at("packet-drawer")).to_have_count(0)
        for width in (360, 3840):
            await page.set_viewport_size({"width": width, "height": 900})
            await viewer.shot(f"way-{width}")
            assert await page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
            await audit(viewer, f"one packet over all nodes, {width}")
        await page.set_viewport_size({"width": 1280, "height": 900})
        await page.emulate_media(color_scheme="light")
        await audit(viewer, "one packet over all nodes by daylight")
        await viewer.shot("way-light")
        await page.keyboard.press("Escape")
        await expect(viewer.at("packet-rows")).to_be_visible()


async def test_what_is_not_known_of_a_way_has_its_place_and_its_reason(
    viewer: Viewer, tmp_path: Path
) -> None:
    async with RunningNodes(tmp_path) as network, viewer:
        a, _b, c, _d = await line(network, cph={"telemetry_packets_per_second": 0})
        answer = await a.connector.send("g.dub.nobody", 700, condition=bytes(32))
        assert isinstance(answer, Reject)
        await viewer.open(a.connector.http_port, f"#packets?condition={bytes(32).hex()}")
        missing = viewer.at("way-missing")
        await expect(missing).to_have_attribute("data-node", "cph")
        await expect(missing).to_contain_text("keeps nothing of this packet: it was only counted")
        await expect(viewer.at("way-stop")).to_have_count(3)
        await expect(viewer.at("way-stop").last).to_contain_text("F06 rejected")
        await expect(viewer.page.locator(".way-link").last).to_contain_text(
            "with all that cph took"
        )
        await c.stop()
        await viewer.page.reload()
        await viewer.live()
        await expect(missing).to_contain_text("It could not be asked: cannot be reached")
        await expect(viewer.at("way-sentence")).to_contain_text("and 1 of which nothing is known")
        await audit(viewer, "a way that is not all known")
        await viewer.shot("way-missing")


async def test_a_clock_that_is_wrong_is_said_and_does_not_move_a_hop(
    viewer: Viewer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with RunningNodes(tmp_path) as network, viewer:
        a, b, _c = await line(network, NAMES[:3])
        observed = b.connector.events._clock
        honest = observed.now_ms

        class Ahead:
            """An hour before its time, for events."""

            def now_ms(self) -> int:
                return honest() + 3_600_000

            def monotonic_s(self) -> float:
                return float(observed.monotonic_s())

        monkeypatch.setattr(b.connector.events, "_clock", Ahead())
        assert isinstance(
            await a.connector.send("g.cph", 9, data=b"x", condition=bytes(31) + b"\1"), Reject
        )
        await viewer.open(a.connector.http_port, f"#packets?condition={'00' * 31}01")
        stops = viewer.at("way-stop")
        await expect(stops).to_have_count(3)
        assert [await one.get_attribute("data-node") for one in await stops.all()] == [
            "ams",
            "ber",
            "cph",
        ]
        await expect(stops.nth(1)).to_contain_text(re.compile(r"its clock is 1 h ahead"))
        await expect(stops.nth(2)).not_to_contain_text("its clock")
        await viewer.shot("way-clock")


async def test_from_packet_to_packet_with_keys_and_ids_are_copied(
    viewer: Viewer, tmp_path: Path
) -> None:
    async with RunningNodes(tmp_path) as network, viewer:
        peers = [PeerSettings(id="b", secret="of-a-and-b")]
        a = await network.add("a", peers)
        for number in range(30):
            assert isinstance(await a.connector.send(f"g.nobody.n{number}", 1), Reject)
        await viewer.open(a.connector.http_port, "#packets")
        page, drawer = viewer.page, viewer.at("packet-drawer")
        rows = viewer.at("packet-rows").locator("[data-id]")
        await rows.first.click()
        await expect(drawer).to_contain_text("g.nobody.n29")
        await expect(drawer.get_by_role("button", name="Newer packet")).to_be_disabled()
        for number in range(28, 3, -1):
            await page.keyboard.press("j")
            await expect(drawer).to_contain_text(f"g.nobody.n{number}")
        # The open row stays in sight, and the drawer is the same one.
        await expect(page.locator(".row-open")).to_be_in_viewport()
        await page.keyboard.press("k")
        await expect(drawer).to_contain_text("g.nobody.n5")
        older = drawer.get_by_role("button", name="Older packet")
        await older.click()
        await expect(drawer).to_contain_text("g.nobody.n4")
        await expect(older).to_be_focused()
        await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        shown = await drawer.locator(".drawer-id").text_content()
        await drawer.get_by_role("button", name="Copy the packet id").click()
        await expect(drawer.get_by_role("status").filter(has_text="Copied")).to_be_visible()
        assert await page.evaluate("navigator.clipboard.readText()") == shown
        await audit(viewer, "the story of a packet, with what can be copied")
        await viewer.shot("drawer")
