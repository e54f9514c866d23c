"""The network on the page: a fixed place for every node, ghosts, what passes, settlements on their links."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest

from connector import Fulfill, PeerSettings
from tests.browser.axe import audit
from tests.browser.conftest import PATIENCE_MS, Viewer
from tests.support.admin import KEY
from tests.support.daemons import Daemon, RunningNodes, secret_of, until
from tests.support.ports import free_ports

expect = pytest.importorskip("playwright.async_api", reason="playwright is not installed").expect
expect.set_options(timeout=PATIENCE_MS)

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]

PLACES = """() => Object.fromEntries([...document.querySelectorAll('[data-node]')]
  .map((one) => [one.dataset.node, one.getAttribute('transform')]))"""
# Names of nodes that lie on each other, or outside the picture.
UNREADABLE = """() => {
  const names = [...document.querySelectorAll('.net-name')].map((one) => [one.textContent, one.getBoundingClientRect()]);
  const frame = document.querySelector('.network svg').getBoundingClientRect();
  const bad = [];
  for (const [i, [a, x]] of names.entries()) {
    if (x.left < frame.left || x.right > frame.right || x.top < frame.top || x.bottom > frame.bottom) bad.push(a);
    for (const [b, y] of names.slice(i + 1)) {
      if (x.left < y.right && y.left < x.right && x.top < y.bottom && y.top < x.bottom) bad.push(`${a} on ${b}`);
    }
  }
  return bad;
}"""
ELEMENTS = "document.querySelectorAll('*').length"


async def mesh(network: RunningNodes, names: list[str], **settings: Any) -> list[Daemon]:
    """Nodes that are all linked with each other, and show each other."""
    ports = free_ports(len(names))
    pages = [f"http://127.0.0.1:{port}" for port in ports]
    daemons: list[Daemon] = []
    for at, name in enumerate(names):
        peers = [
            PeerSettings(
                id=other,
                secret=secret_of(name, other),
                url=network.url_of(other) if other in network.daemons else None,
                routes=[f"g.{other}"],
            )
            for other in names
            if other != name
        ]
        daemons.append(
            await network.add(name, peers, http_port=ports[at], explorer_nodes=pages, **settings)
        )
    for at, one in enumerate(daemons):
        for other in names[:at]:
            await one.linked(other)
    return daemons


async def test_ten_nodes_can_be_read_and_one_that_dies_stays_as_a_ghost(
    viewer: Viewer, tmp_path: Path
) -> None:
    names = ["ams", "ber", "cph", "dub", "edi", "fra", "gva", "hel", "ist", "lis"]
    async with RunningNodes(tmp_path) as network, viewer:
        nodes = await mesh(network, names)
        page, going = viewer.page, True

        async def traffic() -> None:
            while going:
                sends = [nodes[0].connector.send(f"g.{to}", 2_500_000) for to in ("ber", "fra")]
                sends += [nodes[3].connector.send("g.hel", 700_000) for _ in range(8)]
                await asyncio.gather(*sends)
                await asyncio.sleep(0.2)

        sending = asyncio.ensure_future(traffic())
        try:
            await viewer.open(nodes[0].connector.http_port)
            picture = page.locator("#network")
            await expect(picture.locator("[data-node]")).to_have_count(10)
            await expect(picture.locator(".net-link")).to_have_count(45)
            # Width and motion by what passes; what stands still does not move.
            await picture.locator(".net-flow.net-fast, .net-flow.net-racing").first.wait_for(
                state="attached"
            )
            busy = picture.locator(".net-link", has=page.locator(".net-flow"))
            widths = await busy.locator(".net-way").evaluate_all(
                "all => all.map((one) => Number(one.getAttribute('stroke-width')))"
            )
            assert max(widths) > 2.5
            quiet = picture.locator(".net-link:not(:has(.net-flow)) .net-way")
            assert await quiet.first.get_attribute("stroke-width") == "1.5"
            # What both sides book of every link, in figures.
            rows = viewer.at("net-links").locator("tbody tr")
            await expect(rows).to_have_count(45)
            assert not await rows.get_by_text("not asked").count()
            assert await page.evaluate(UNREADABLE) == []
            await audit(viewer, "a mesh of ten")
            await viewer.shot("network-ten")
            places, elements = await page.evaluate(PLACES), await page.evaluate(ELEMENTS)
            await picture.locator('[data-node="fra"]').hover()
            await expect(picture.locator(".net-lit")).to_have_count(9)
            both = picture.locator(".net-lit[data-verdict]", has_text="ams \u2212")
            await expect(both).to_contain_text(re.compile(r"fra \+0\.\d{9} USD"))
            await viewer.shot("network-ten-pointed")
            await page.mouse.move(5, 5)
        finally:
            going = False
            await sending
        await network.daemons["hel"].stop()
        ghost = picture.locator('[data-node="hel"][data-ghost=true]')
        await expect(ghost).to_contain_text(re.compile(r"silent for \d+ s"))
        await expect(picture).to_contain_text("1 not answering")
        # Its links are there, with what it booked.
        await expect(picture.locator('[data-verdict="last known"]')).to_have_count(9)
        row = viewer.at("net-links").locator('[data-link^="dub hel"]')
        await expect(row).to_contain_text(re.compile(r"[+\u2212].*USD.*[+\u2212].*USD.* ago"))
        await expect(row).to_contain_text("link down")
        assert await page.evaluate(PLACES) == places
        await viewer.shot("network-ten-ghost")
        # It stays so when the page is loaded again; and nothing grows while it is looked at.
        await page.reload()
        await viewer.live()
        await expect(ghost).to_contain_text("silent for")
        assert await page.evaluate(PLACES) == places
        await page.wait_for_timeout(4500)
        assert await page.evaluate(ELEMENTS) < elements * 1.2
        for width in (360, 1920):
            await page.set_viewport_size({"width": width, "height": 900})
            await page.wait_for_function(
                f"() => Math.abs(document.querySelector('.network svg').getBoundingClientRect().left) < {width}"
            )
            await picture.scroll_into_view_if_needed()
            assert await page.evaluate(UNREADABLE) == []
            assert await page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
            await audit(viewer, f"a mesh of ten, {width}")
            await viewer.shot(f"network-ten-{width}")


async def test_configured_peers_are_drawn_though_nobody_asks_them(
    viewer: Viewer, tmp_path: Path
) -> None:
    async with RunningNodes(tmp_path) as network, viewer:
        more = [PeerSettings(id=f"shop-{n}", secret=f"of-shop-{n}") for n in range(1, 6)]
        late = PeerSettings(id="phone", secret="of-the-phone", offline_expected=True)
        hub = await network.add(
            "hub", [PeerSettings(id="a", secret=secret_of("a", "hub")), late, *more]
        )
        peer = PeerSettings(
            id="hub", secret=secret_of("a", "hub"), url=network.url_of("hub"), routes=["g.hub"]
        )
        a = await network.add("a", [peer])
        await a.linked("hub")
        assert isinstance(await a.connector.send("g.hub", 300_000_000), Fulfill)
        await viewer.open(hub.connector.http_port)
        picture = viewer.page.locator("#network")
        await expect(picture.locator("[data-node]")).to_have_count(8)
        await expect(picture.locator('[data-node="a"]')).to_have_attribute("data-ghost", "false")
        await expect(picture.locator('[data-node="shop-3"]')).to_contain_text("down")
        await expect(picture.locator('[data-node="phone"]')).to_contain_text("away, expected")
        # A peer that may be away is no fault; those that should be there are.
        await expect(picture).to_contain_text("5 links down")
        row = viewer.at("net-links").locator('[data-link^="a hub"]')
        await expect(row).to_contain_text("+0.300000000 USD")
        await expect(row).to_contain_text("not asked")
        assert await viewer.page.evaluate(UNREADABLE) == []
        await audit(viewer, "a hub with its peers")
        await viewer.shot("network-hub")
        await row.get_by_role("button").click()
        await expect(viewer.page).to_have_url(re.compile(r"#peers.*\ba$"))


async def test_a_settlement_is_a_state_of_its_link(viewer: Viewer, tmp_path: Path) -> None:
    async with RunningNodes(tmp_path) as network, viewer:
        ports = free_ports(3)
        pages = [f"http://127.0.0.1:{port}" for port in ports]
        a, b, _c = await network.chain(
            "a", "b", "c",
            peer={"a-b": {"settle_threshold": 500_000_000}},
            node={
                name: {"http_port": port, "explorer_nodes": pages, "admin_api_key": KEY}
                | {"explorer_nodes_key": KEY}
                for name, port in zip("abc", ports, strict=True)
            },
        )  # fmt: skip
        assert isinstance(await a.connector.send("g.c", 900_000_000), Fulfill)
        await until(lambda: a.net("b") == 0)
        for port, said in ((ports[0], "settling, 0.900000000 USD"), (ports[1], "settling")):
            await viewer.open(port)
            link = viewer.page.locator('.net-link[data-settlement="under way"]')
            await expect(link).to_have_count(1)
            await expect(link.locator(".net-coin")).to_have_count(1)
            await expect(link).to_contain_text(said)
            # Booked by one side only until it is paid: that is no fault of the books.
            await expect(link).to_have_attribute("data-verdict", "settling")
            await expect(viewer.page.locator("#network")).to_contain_text("1 settlement open")
            await expect(viewer.page.locator('[data-verdict="differs"]')).to_have_count(0)
        await audit(viewer, "a settlement")
        await viewer.shot("network-settlement")
        assert b.net("a") == 900_000_000
