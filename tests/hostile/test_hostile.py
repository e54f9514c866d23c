"""Half a minute of all attacks at once; `scripts/attack` runs them for as long as one likes."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.hostile.__main__ import EXIT_INTERRUPTED
from tests.hostile.campaign import Campaign, Plan
from tests.hostile.catalogue import ATTACKS
from tests.hostile.report import Bound, Report
from tests.support.inherited import INHERITED
from tests.support.patience import PATIENCE_SECONDS, allowed_s

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc and 127.0.0.0/8"),
    pytest.mark.skipif(
        shutil.which("openssl") is None, reason="makes its certificate with openssl"
    ),
]
SEED = 20_260_101


def _run(folder: Path, attacks: list[str], *, seconds: float, stalls_log: bool = True) -> Report:
    plan = Plan(
        quiet_seconds=4,
        attack_seconds=seconds,
        attacks={name: ATTACKS[name] for name in attacks},
        stalls_log=stalls_log,
        seed=SEED,
        # Other tests run beside it: what is found here is a node that stands still.
        p99_ms_min=allowed_s(0.5) * 1000,
    )
    said: list[str] = []
    return asyncio.run(Campaign(plan, folder, said.append).run(asyncio.Event()))


def test_all_attacks_at_once(tmp_path: Path) -> None:
    report = _run(tmp_path, list(ATTACKS), seconds=20)
    broken = [bound for bound in report.bounds if not bound.holds]
    assert broken == []
    idle = [name for name, done in report.attacks.items() if not done]
    assert idle == [], "each attack has done something"


def test_what_is_broken_is_told(tmp_path: Path) -> None:
    """A run whose honest peers are not paid in time, and whose node was killed."""
    report = Report()
    report.bounds = [Bound("memory", True, ""), Bound("books", False, "3 units differ")]
    assert not report.ok
    assert "BROKEN books: 3 units differ" in report.as_text()
    assert not Report().ok, "nothing was looked at"


def test_ctrl_c_gives_the_figures_so_far() -> None:
    command = [
        sys.executable,
        "-m",
        "tests.hostile",
        "--attacks",
        "jam",
        "--json",
        "--quiet",
        "600",
    ]
    with subprocess.Popen(
        command, env=INHERITED, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as attack:
        assert attack.stderr is not None
        assert "quiet" in attack.stderr.readline(), "the first line says that measuring begins"
        os.kill(attack.pid, signal.SIGINT)
        out, err = attack.communicate(timeout=2 * PATIENCE_SECONDS)
    assert attack.returncode == EXIT_INTERRUPTED, err
    said = json.loads(out)
    assert said["interrupted"]
    assert said["bounds"]["audit"]["holds"]
    assert "Traceback" not in err


def test_an_attack_that_does_not_exist_is_a_wrong_command_line() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.hostile", "--attacks", "jam,charm"],
        env=INHERITED, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "no such attack: charm" in done.stderr
