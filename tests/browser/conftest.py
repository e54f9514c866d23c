"""A real browser before real daemons. What the browser's console calls an error fails the test."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Self

import pytest
import pytest_asyncio

from connector.web.app import PAGE
from tests.support.build_hook import ROOT, build_hook

if TYPE_CHECKING:
    from playwright.async_api import Browser, ConsoleMessage, Locator, Page

FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
PATIENCE_MS = 60_000


def chromium() -> str | None:
    """A Chromium of the system."""
    named = os.environ.get("BROWSER_BIN")
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    return named or next(filter(None, map(shutil.which, names)), None)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    """One for all tests: each has a context of its own, which shares nothing with the others."""
    pytest.importorskip("playwright", reason="playwright is not installed")
    program = chromium()
    if program is None:
        pytest.skip("no Chromium: apt-get install chromium, or name one in BROWSER_BIN")
    if not (PAGE / "index.html").exists():
        pytest.skip("the page is not built: python hatch_build.py")
    if build_hook().needs_build(ROOT):
        pytest.fail("the page is older than explorer-ui: python hatch_build.py")
    from playwright.async_api import async_playwright

    async with async_playwright() as playwright:
        running = await playwright.chromium.launch(executable_path=program, args=FLAGS)
        yield running
        await running.close()


class Viewer:
    """A page of the browser, and what its console complained about."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.errors: list[str] = []
        self.expected: tuple[str, ...] = ()
        """What a test brings about on purpose, such as a daemon that is away."""
        page.on("console", self._said)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.set_default_timeout(PATIENCE_MS)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        """Before its daemon goes, which the browser would complain about."""
        await self.page.close()
        if error[0] is None:
            self._check()

    def _said(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.errors.append(message.text)

    async def open(self, port: int, place: str = "") -> None:
        """The page of the node at `port`, as soon as its live feed has begun."""
        await self.page.goto(f"http://127.0.0.1:{port}/{place}")
        await self.live()

    async def live(self) -> None:
        """Return when the feed is live."""
        await self.page.wait_for_selector('[data-testid=live][data-state="live"]')

    def at(self, test_id: str) -> Locator:
        """What bears a test id."""
        return self.page.get_by_test_id(test_id)

    async def tab(self, name: str) -> None:
        """Go to a tab by its button; return when it is there."""
        await self.page.get_by_role("tab", name=name).click()
        await self.page.get_by_role("tab", name=name, selected=True).wait_for()

    async def shot(self, name: str) -> None:
        """A picture, into the folder that BROWSER_SHOTS names."""
        folder = os.environ.get("BROWSER_SHOTS")
        if folder:
            await self.page.screenshot(path=Path(folder) / f"{name}.png")

    def _check(self) -> None:
        """Fail for what the console said and nobody expected."""
        # Chromium ends requests when an interface of the machine comes or goes, as containers' do; the
        # page asks again.
        expected = (*self.expected, "net::ERR_NETWORK_CHANGED")
        left = [one for one in self.errors if not any(part in one for part in expected)]
        assert not left, left


@pytest_asyncio.fixture(loop_scope="module")
async def viewer(browser: Browser) -> AsyncIterator[Viewer]:
    context = await browser.new_context(
        viewport={"width": 1280, "height": 900}, color_scheme="dark"
    )
    yield Viewer(await context.new_page())
    await context.close()
