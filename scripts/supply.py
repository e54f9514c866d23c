"""What the image holds that is not ours: its licences, and a software bill of materials (CycloneDX).

    python scripts/supply.py licences          writes docs/licences.md; after scripts/lock, in its .venv
    python scripts/supply.py sbom > sbom.json  needs nothing installed

Names, versions and hashes come from the locks: requirements/runtime.txt, explorer-ui/package-lock.json,
docker/images.lock. Licences of Python packages come from their metadata, and from docs/licences.md
afterwards; a test fails while that file is not about just what is locked.
"""

# ruff: noqa: INP001 - a script, no part of a package
from __future__ import annotations

import argparse
import base64
import json
import re
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[1]
LICENCES: Final = ROOT / "docs" / "licences.md"
ALLOWED: Final = frozenset(
    (
        "0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "MIT", "MIT-0", "MPL-2.0", "PSF-2.0",
    )
)  # fmt: skip
"""Licences that let the image be passed on under Apache-2.0, with their texts kept."""
_SPDX: Final = {
    "MIT License": "MIT",
    "ISC License": "ISC",
    "License :: OSI Approved :: MIT License": "MIT",
    "License :: OSI Approved :: Apache Software License": "Apache-2.0",
}
_NOT_INSTALLED_HERE: Final = {"colorama": "BSD-3-Clause"}  # on Windows only
_HEAD: Final = """\
# Licences

What the image of the connector holds besides this project (Apache-2.0) and its Debian base, whose own are in the
base image. Made by `python scripts/supply.py licences` from the locks; a test compares it with them. The texts are
in each package (`/opt/connector/lib/python*/site-packages/*.dist-info`). `python scripts/supply.py sbom` writes the same as a
software bill of materials, with hashes.
"""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Part:
    """Something of others that is shipped."""

    kind: str
    """`pypi`, `npm` or `oci`."""
    name: str
    version: str
    hashes: tuple[tuple[str, str], ...] = ()
    """Algorithm as CycloneDX names it, and hexadecimal digits; one for each file of a Python package."""
    licence: str = ""
    """SPDX expression."""


def python_parts() -> list[Part]:
    """What requirements/runtime.txt locks."""
    parts: list[Part] = []
    text = (ROOT / "requirements" / "runtime.txt").read_text("utf-8").replace("\\\n", " ")
    for line in text.splitlines():
        found = re.match(r"([\w.-]+)==(\S+)", line)
        if found:
            hashes = tuple(("SHA-256", digits) for digits in re.findall(r"sha256:(\w+)", line))
            parts.append(Part(kind="pypi", name=found[1], version=found[2], hashes=hashes))
    return parts


def page_parts() -> list[Part]:
    """What is bundled into the explorer page: its dependencies but for vite, which bundles them."""
    lock = json.loads((ROOT / "explorer-ui" / "package-lock.json").read_text("utf-8"))["packages"]
    waiting = [name for name in lock[""]["dependencies"] if name != "vite"]
    parts: dict[str, Part] = {}
    while waiting:
        name = waiting.pop()
        entry = lock[f"node_modules/{name}"]
        if name in parts:
            continue
        algorithm, _, digest = entry["integrity"].partition("-")
        parts[name] = Part(
            kind="npm", name=name, version=entry["version"], licence=entry["license"],
            hashes=((algorithm.replace("sha", "SHA-"), base64.b64decode(digest).hex()),),
        )  # fmt: skip
        waiting += entry.get("dependencies", {})
    return sorted(parts.values())


def image_parts() -> list[Part]:
    """What docker/images.lock pins."""
    lines = (ROOT / "docker" / "images.lock").read_text("utf-8").splitlines()
    parts: list[Part] = []
    for line in lines:
        if not line.startswith("#"):
            image, _, digest = line.split()[1].partition("@")
            name, _, version = image.rpartition(":")
            hashes = (("SHA-256", digest.removeprefix("sha256:")),)
            parts.append(Part(kind="oci", name=name, version=version, hashes=hashes))
    return parts


def licence_of(name: str) -> str:
    """The licence of an installed Python package.

    Raises:
        SystemExit: it is not installed, or its metadata names none that is known.
    """
    if name in _NOT_INSTALLED_HERE:
        return _NOT_INSTALLED_HERE[name]
    try:
        found = metadata(name)
    except PackageNotFoundError:
        sys.exit(f"{name} is not installed: run this with .venv/bin/python, after scripts/check")
    named = found.get("License-Expression")
    if named:
        return str(named)
    classifiers = [_SPDX[one] for one in found.get_all("Classifier") or [] if one in _SPDX]
    if classifiers:
        return " OR ".join(sorted(classifiers))
    plain = _SPDX.get(found.get("License") or "", found.get("License") or "")
    if plain not in ALLOWED:
        sys.exit(f"{name}: its licence {plain!r} is not known")
    return plain


def licences() -> str:
    """The text of docs/licences.md."""
    rows = [
        f"| {part.name} | {part.version} | {part.licence or licence_of(part.name)} |"
        for part in python_parts()
    ]
    page = [f"| {part.name} | {part.version} | {part.licence} |" for part in page_parts()]
    head = ["| package | version | licence |", "|---|---|---|"]
    return "\n".join(
        [_HEAD, "## Python packages", "", *head, *rows, "", "## In the explorer page", "", *head, *page, "", "## TigerBeetle", "", "The server, in an image of its own, and its client: Apache-2.0."]
    ) + "\n"  # fmt: skip


def listed() -> dict[tuple[str, str], str]:
    """Licences by name and version, out of docs/licences.md."""
    rows = re.findall(
        r"^\| (\S+) \| (\d\S*) \| ([^|]+) \|$", LICENCES.read_text("utf-8"), re.MULTILINE
    )
    return {(name, version): licence for name, version, licence in rows}


def sbom() -> dict[str, Any]:
    """The bill of materials, CycloneDX 1.6."""
    version = re.search(
        r'__version__ = "(\S+)"', (ROOT / "connector" / "version.py").read_text("utf-8")
    )
    assert version is not None
    known = listed()
    components: list[dict[str, Any]] = []
    for part in [*python_parts(), *page_parts(), *image_parts()]:
        licence = known.get((part.name, part.version))
        purl = f"pkg:{part.kind}/{part.name.replace('@', '%40')}@{part.version}"
        if part.kind == "oci":
            folder, _, name = part.name.rpartition("/")
            where = folder or "docker.io/library"
            purl = f"pkg:oci/{name}@sha256:{part.hashes[0][1]}?repository_url={where}/{name}&tag={part.version}"
        components.append(
            {
                "type": "container" if part.kind == "oci" else "library",
                "bom-ref": purl,
                "name": part.name,
                "version": part.version,
                "purl": purl,
                "hashes": [{"alg": alg, "content": content} for alg, content in part.hashes],
                **({"licenses": [{"expression": licence}]} if licence else {}),
            }
        )
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": "ilp-connector",
                "name": "ilp-connector",
                "version": version[1],
                "licenses": [{"expression": "Apache-2.0"}],
            }
        },
        "components": components,
        "dependencies": [
            {"ref": "ilp-connector", "dependsOn": [one["bom-ref"] for one in components]}
        ],
    }


def main() -> None:
    """The program."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("what", choices=["licences", "sbom"])
    if parser.parse_args().what == "sbom":
        print(json.dumps(sbom(), indent=2))  # noqa: T201 - what it is for
    else:
        LICENCES.write_text(licences(), "utf-8")


if __name__ == "__main__":
    main()
