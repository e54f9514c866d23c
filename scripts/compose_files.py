"""Writes the compose files that the generator makes: `python scripts/compose_files.py`.

A test fails while they are out of date. Their secrets are no secrets: everything in these files
listens on loopback only.
"""

# ruff: noqa: INP001 - a script, no part of a package
from __future__ import annotations

from pathlib import Path
from typing import Final

from connector.tools.compose import Plan, Topology, compose_file, default_names, describe

_NOTE: Final = """
The secrets are made for the demo and known to everybody: never let these ports off loopback.
Made by scripts/compose_files.py; `ilp-connector compose` writes such a file for any size.
"""


def files() -> dict[str, str]:
    """Path and content of each."""
    return {
        path: compose_file(plan, describe(plan, f"docker compose{option}") + _NOTE)
        for path, option, plan in (
            (
                "docker-compose.yml",
                "",
                _plan(Topology.LINE, ["connector-a", "connector-b", "connector-c"], "."),
            ),
            (
                "docker/docker-compose.mesh.yml",
                " -f docker/docker-compose.mesh.yml",
                _plan(Topology.MESH, [f"connector-{one}" for one in "abcd"], ".."),
            ),
            (
                "docker/docker-compose.hub-spoke.yml",
                " -f docker/docker-compose.hub-spoke.yml",
                _plan(Topology.HUB, default_names(Topology.HUB, 4), ".."),
            ),
        )
    }


def _plan(topology: Topology, names: list[str], project: str) -> Plan:
    return Plan(
        topology=topology,
        names=names,
        project=project,
        secret=lambda name: f"demo-only-secret-{name}",
    )


if __name__ == "__main__":
    root = Path(__file__).parent.parent
    for path, text in files().items():
        (root / path).write_text(text, "utf-8")
