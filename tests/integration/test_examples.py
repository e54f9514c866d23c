"""The examples run, and print what the documentation says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support.inherited import INHERITED

ROOT = Path(__file__).parents[2]


def run(*command: str) -> str:
    done = subprocess.run(
        [sys.executable, *command],
        capture_output=True, text=True, timeout=60, env=INHERITED, cwd=ROOT, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def test_the_library_example_pays_and_prints_balances() -> None:
    assert run("examples/library.py").splitlines() == [
        "100 refused: F99 a coffee is 250",
        "paid 250: enjoy!",
        "alice: I owe bob 250",
        "bob: alice owes me 250",
    ]
