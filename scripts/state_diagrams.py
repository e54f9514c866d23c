"""Draws docs/diagrams/*.md from the tables of state machines in the code.

python scripts/state_diagrams.py            writes them
python scripts/state_diagrams.py --check    exit 1 when they are not up to date
"""

# ruff: noqa: INP001 - a script, no part of a package
from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any, Final, NamedTuple

ROOT: Final = Path(__file__).resolve().parents[1]
FOLDER: Final = ROOT / "docs" / "diagrams"


class Diagram(NamedTuple):
    """One table: `(state, event) -> state`, the first row's state being where it begins."""

    file: str
    title: str
    module: str
    about: str
    rows: str = ""
    """Name of a table beside it, which says what each state means."""


DIAGRAMS: Final = (
    Diagram(
        "btp-session.md",
        "A BTP session",
        "connector.btp.session",
        "One side of one BTP connection, from the log-in to its end. A move without an arrow is a "
        "fault of the peer: the connection is closed.",
    ),
    Diagram(
        "settlement.md",
        "A settlement",
        "connector.settlement.model",
        "One settlement, as stored. A move without an arrow is refused.",
    ),
    Diagram(
        "disk-room.md",
        "Room on the disk of DATA_DIR",
        "connector.base.room",
        "Measured about once a second.",
    ),
    Diagram(
        "ledger-phases.md",
        "How a node stands with its ledger",
        "connector.accounting.availability",
        "An event without an arrow is a fault of ours, and a failed look-up.",
        "ROWS",
    ),
    Diagram(
        "lease.md",
        "Which process of a node is active",
        "connector.accounting.lease",
        "One process, from its start to its end. An event without an arrow is a fault of ours.",
    ),
    Diagram(
        "promises.md",
        "What is promised of a packet's money",
        "connector.accounting.promises",
        "An event without an arrow is a fault of ours. From POST on the money is owed.",
    ),
    Diagram(
        "second-way.md",
        "A packet that its next hop has refused",
        "connector.switch.ways",
        "From the refusal of the first next hop to the answer for the sender: that of the FIRST, or of the SECOND. "
        "An event without an arrow is a fault of ours.",
    ),
)


def drawn(diagram: Diagram) -> str:
    """The page of a diagram."""
    module = importlib.import_module(diagram.module)
    table: Mapping[tuple[Enum, Enum], Enum] = module.TRANSITIONS
    path = f"{diagram.module.replace('.', '/')}.py"
    lines = [
        f"# {diagram.title}",
        "",
        f"{diagram.about}",
        "",
        f"Drawn from `TRANSITIONS` in `{path}` by `python scripts/state_diagrams.py`: change it there.",
        "",
        "```mermaid",
        "stateDiagram-v2",
        *_arrows(table),
        "```",
    ]
    if diagram.rows:
        lines += ["", *_meanings(getattr(module, diagram.rows))]
    return "\n".join(lines) + "\n"


def _arrows(table: Mapping[tuple[Enum, Enum], Enum]) -> list[str]:
    events: dict[tuple[str, str], list[str]] = {}
    for (state, event), to in table.items():
        events.setdefault((state.name, to.name), []).append(event.name)
    left = {state for state, to in events if state != to}
    ends = dict.fromkeys(to for _, to in events if to not in left)
    first = next(iter(events))[0]
    return [
        f"    [*] --> {first}",
        *(f"    {state} --> {to}: {', '.join(names)}" for (state, to), names in events.items()),
        *(f"    {state} --> [*]" for state in ends),
    ]


def _meanings(rows: Mapping[Enum, Any]) -> list[str]:
    """What each state means, as a table; the rows are named tuples of enumerations."""
    fields = next(iter(rows.values()))._fields
    return [
        "| phase | " + " | ".join(name.replace("_", " ") for name in fields) + " |",
        "|---|" + "---|" * len(fields),
        *(
            f"| {state.name} | "
            + " | ".join(value.name.lower().replace("_", " ") for value in row)
            + " |"
            for state, row in rows.items()
        ),
    ]


def pages() -> dict[Path, str]:
    """All pages by their paths."""
    return {
        FOLDER / diagram.file: drawn(diagram)
        for diagram in DIAGRAMS
        if importlib.util.find_spec(diagram.module) is not None
    }


def main() -> int:
    """Write them, or compare."""
    stale = [
        path
        for path, text in pages().items()
        if not path.exists() or path.read_text("utf-8") != text
    ]
    if "--check" in sys.argv[1:]:
        for path in stale:
            sys.stderr.write(f"{path.relative_to(ROOT)}: run python scripts/state_diagrams.py\n")
        return 1 if stale else 0
    FOLDER.mkdir(parents=True, exist_ok=True)
    for path in stale:
        path.write_text(pages()[path], "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
