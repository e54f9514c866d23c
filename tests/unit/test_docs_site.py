"""The site of the documentation: every page has its place, and links of the repository become those of the site."""

from __future__ import annotations

import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
HOOKS = runpy.run_path(str(ROOT / "scripts" / "docs_hooks.py"))


class _Loader(yaml.SafeLoader):
    """Objects of Python, which mkdocs makes, are of no interest here."""


_LoaderTag = "tag:yaml.org,2002:python/"
_Loader.add_multi_constructor(_LoaderTag, lambda _loader, suffix, _node: suffix)


def config() -> dict[str, Any]:
    found: dict[str, Any] = yaml.load((ROOT / "mkdocs.yml").read_text("utf-8"), _Loader)
    return found


def places(nav: Any) -> Iterator[str]:
    if isinstance(nav, str):
        yield nav
    for one in nav.values() if isinstance(nav, dict) else nav if isinstance(nav, list) else ():
        yield from places(one)


def test_every_page_has_its_place_and_every_place_its_page() -> None:
    pages = {str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md")}
    of_root = {f"project/{name.lower()}.md" for name in HOOKS["ROOT_PAGES"]}
    found = list(places(config()["nav"]))
    assert len(found) == len(set(found))
    assert set(found) == pages | of_root


def test_a_link_that_leads_nowhere_is_a_failure() -> None:
    assert config()["strict"] is True
    assert set(config()["validation"].values()) == {"warn"}
    for place in (".ci/run", ".github/workflows/ci.yml"):
        assert "scripts/docs" in (ROOT / place).read_text("utf-8")


@pytest.mark.parametrize(
    ("page", "text", "expected"),
    [
        ("api.md", "[a](operating.md#x)", "[a](operating.md#x)"),
        ("reference/metrics.md", "[a](../deployment.md#m)", "[a](../deployment.md#m)"),
        ("api.md", "[c](../CONTRIBUTING.md)", "[c](project/contributing.md)"),
        ("decisions/0007-phases-as-tables.md", "[d](../diagrams/)", "[d](../diagrams/README.md)"),
        ("project/readme.md", "[d](docs/api.md#e) ![p](docs/images/explorer.png)",
         "[d](../api.md#e) ![p](../images/explorer.png)"),
        ("project/readme.md", "[d](docs/decisions/README.md) [s](SECURITY.md)", "[d](../decisions/README.md) [s](security.md)"),
        ("conformance.md", "see [`test`](../tests/unit/test_oer.py)", "see `test`"),
        ("project/contributing.md", "[fuzz](tests/fuzz)", "fuzz"),
        ("api.md", "[w](https://example.org) [h](#here)", "[w](https://example.org) [h](#here)"),
        ("api.md", "```sh\n[x](../CONTRIBUTING.md)\n```\n[c](../README.md)",
         "```sh\n[x](../CONTRIBUTING.md)\n```\n[c](project/readme.md)"),
    ],
)  # fmt: skip
def test_links_become_those_of_the_site(page: str, text: str, expected: str) -> None:
    assert HOOKS["linked"](text, page) == expected


def test_a_source_is_linked_where_it_can_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCS_SOURCE_URL", "https://code.example/ilp/")
    said = HOOKS["linked"]("[`test`](../tests/unit/test_oer.py)", "conformance.md")
    assert said == "[`test`](https://code.example/ilp/tests/unit/test_oer.py)"
