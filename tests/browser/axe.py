"""Checks the shown page with axe-core, a checker of accessibility rules."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.browser.conftest import Viewer

GRAVE = ("serious", "critical")

_STILL = """async () => {
  const ends = document.getAnimations().filter(
    (one) => one.effect.getComputedTiming().iterations !== Infinity);
  await Promise.allSettled(ends.map((one) => one.finished));
}"""
_AUDIT = """async () => {
  const found = await axe.run(document, { resultTypes: ['violations'] });
  return found.violations.map((one) => ({
    impact: one.impact, rule: one.id, help: one.help,
    nodes: one.nodes.map((node) => `${node.html.slice(0, 200)} ${node.failureSummary}`),
  }));
}"""


@cache
def _source() -> str:
    package = pytest.importorskip(
        "axe_playwright_python", reason="axe-playwright-python, which holds axe-core, is missing"
    )
    return Path(package.__file__).with_name("axe.min.js").read_text("utf-8")


async def audit(viewer: Viewer, place: str) -> None:
    """No violation of serious or critical impact in what is shown now; others are printed."""
    page = viewer.page
    if not await page.evaluate("typeof axe === 'object'"):
        # By the debugger, which the Content-Security-Policy of the page does not bind.
        await page.evaluate(_source())
    # What fades in is looked at when it has come to rest.
    await page.evaluate(_STILL)
    violations: list[dict[str, Any]] = await page.evaluate(_AUDIT)
    for one in violations:
        print(f"{place}: {one['impact']}: {one['rule']}: {one['help']}")
    grave = [one for one in violations if one["impact"] in GRAVE]
    assert not grave, (place, grave)
