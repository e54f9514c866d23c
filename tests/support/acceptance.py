"""The table *Acceptance* of docs/deployment.md: its commands, run as they are written.

On a stack of tests, which has names and ports of its own: of a command only these are replaced.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from pathlib import Path
from typing import Final

from tests.support.compose import ROOT, Stack

_PAGE: Final = ROOT / "docs" / "deployment.md"
_COMPOSE: Final = "docker compose -f"


def table() -> dict[str, list[str]]:
    """What is asked, and the commands that show it."""
    section = _PAGE.read_text("utf-8").partition("\n## Acceptance\n")[2]
    rows = re.findall(r"^\| (.+?) \| (.+) \|$", section, re.MULTILINE)
    return {asked: _commands(shown) for asked, shown in rows if asked != "asked"}


def _commands(shown: str) -> list[str]:
    # *f* stands for `docker compose -f`.
    spelt = shown.replace("*f* `", f"`{_COMPOSE} ")
    return [one for one in re.findall(r"`([^`]+)`", spelt) if _is_command(one)]


def _is_command(text: str) -> bool:
    return text.split(maxsplit=1)[0] in (
        "docker",
        "make",
        "cp",
        "kill",
        "sed",
        "echo",
    ) or text.startswith("scripts/")


def written(stack: Stack, command: str, *more: str, code: int = 0) -> str:
    """Run a command of the table on `stack`, with more arguments if any; what it printed.

    It has to be there, word for word, and to end with `code`.
    """
    assert any(command in commands for commands in table().values()), f"not in the table: {command}"
    words = [*shlex.split(command), *more]
    if words[0] == "docker":
        words = _for_docker(stack, words)
    elif words[0].startswith("scripts/"):
        words = _for_script(stack, words)
    elif words[0] == "make":
        words += ["ARGS=-y"] if words[1].endswith(("recover", "down-volumes")) else []
    done = subprocess.run(
        words,
        check=False, capture_output=True, text=True, timeout=600, cwd=ROOT,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "COMPOSE_PROJECT_NAME": stack.project, "FILE": str(stack.file)},
    )  # fmt: skip
    said = done.stdout + done.stderr
    assert done.returncode == code, f"{command}: exit code {done.returncode}\n{said}"
    return said


def _for_docker(stack: Stack, words: list[str]) -> list[str]:
    verb = words[1]
    if verb == "compose":
        return [*words[:2], "-p", stack.project, "-f", str(stack.file), *words[4:]]
    if verb == "volume":
        # compose puts the name of the project before, unless the file names the volume; of files in
        # docker/ it is that folder's.
        return [
            *words[:3],
            *(f"{stack.project}_{one.removeprefix('docker_')}" for one in words[3:]),
        ]
    services = stack.content["services"]
    return [stack.container(word) if word in services else word for word in words]


def _for_script(stack: Stack, words: list[str]) -> list[str]:
    takes_file = Path(words[0]).name not in ("deploy-5-peer-multihop.sh", "compose-tb.sh")
    if "-f" in words:
        at = words.index("-f") + 1
        words = [*words[:at], str(stack.file), *words[at + 1 :]]
    elif takes_file:
        words = [*words, "-f", str(stack.file)]
    return [str(ROOT / words[0]), *words[1:]]
