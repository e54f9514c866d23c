"""What the site makes of the repository's pages (mkdocs.yml): those of its root too, links between them kept.

A link to a file that is no page (a test, a source) becomes its text, or a link below `DOCS_SOURCE_URL` where that is
set: the address at which the repository's files can be read.
"""

# ruff: noqa: INP001 - a script, no part of a package
from __future__ import annotations

import os
import posixpath
import re
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[1]
ROOT_PAGES: Final = ("README", "CHANGELOG", "CONTRIBUTING", "SECURITY", "RELEASING")
_LINK: Final = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")
_FENCE: Final = re.compile(r"^ *```.*?^ *```", re.DOTALL | re.MULTILINE)


def on_files(files: Any, config: Any) -> Any:
    """See mkdocs: adds the pages of the root."""
    # Only mkdocs has it: the tests of this file do without.
    from mkdocs.structure.files import File  # noqa: PLC0415

    for name in ROOT_PAGES:
        text = (ROOT / f"{name}.md").read_text("utf-8")
        files.append(File.generated(config, f"project/{name.lower()}.md", content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """See mkdocs: links as they are in the repository become those of the site."""
    return linked(markdown, page.file.src_uri)


def linked(markdown: str, page: str) -> str:
    """The text of a page, with its links for the site.

    Args:
        markdown: as it stands in the repository.
        page: its path below docs/; pages of the root are `project/<name>.md`.
    """
    parts: list[str] = []
    end = 0
    for fence in _FENCE.finditer(markdown):
        parts += [_LINK.sub(lambda found: _link(found, page), markdown[end : fence.start()])]
        parts += [fence.group()]
        end = fence.end()
    parts.append(_LINK.sub(lambda found: _link(found, page), markdown[end:]))
    return "".join(parts)


def _link(found: re.Match[str], page: str) -> str:
    image, text, link = found.groups()
    if re.match(r"[a-z]+:|#", link):
        return found.group()
    place, mark, anchor = link.partition("#")
    # Where the page stands in the repository.
    is_of_root = page.startswith("project/")
    folder = "" if is_of_root else posixpath.join("docs", posixpath.dirname(page))
    target = posixpath.normpath(posixpath.join(folder, place))
    if (ROOT / target).is_dir() and (ROOT / target / "README.md").exists():
        target = posixpath.join(target, "README.md")
    name, ending = posixpath.splitext(target)
    if ending == ".md" and name in ROOT_PAGES:
        wanted = f"project/{name.lower()}.md"
    elif target.startswith("docs/") and (ROOT / target).is_file():
        wanted = target.removeprefix("docs/")
    else:
        base = os.environ.get("DOCS_SOURCE_URL", "").rstrip("/")
        return f"[{text}]({base}/{target})" if base else text
    there = posixpath.relpath(wanted, posixpath.dirname(page) or ".")
    return f"{image}[{text}]({there}{mark}{anchor})"
