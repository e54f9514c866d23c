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
from tests.support.patience import PATIENCE_SECONDS

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc and 127.0.0.0/8"),
    pytest.mark.skipif(
        shutil.which("openssl") is None, reason="makes its certificate with openssl"
    ),
]
SEED = 20_260_101


# What the clock measures is for `scripts/attack` on a quiet machine: other tests run beside this one.
MEASURED_BY_THE_CLOCK = {
    "p99 of honest packets", "honest packets", "health and status", "a peer can log in"
}  # fmt: skip


def test_all_attacks_at_once(tmp_path: Path) -> None:
    plan = Plan(quiet_seconds=4, attack_seconds=20, attacks=ATTACKS, stalls_log=True, seed=SEED)
    campaign = Campaign(plan, tmp_path, lambda _: None)
    report = asyncio.run(campaign.run(asyncio.Event()))
    broken = [
        bound
        for bound in report.bounds
        if not bound.holds and bound.name not in MEASURED_BY_THE_CLOCK
    ]
    assert broken == []
    assert report.honest["fulfilled"] > 0
    assert not report.honest.get("lost"), "each honest packet has an answer"
    assert not report.honest.get("links lost")
    assert list(report.attacks) == list(ATTACKS)


def test_what_is_broken_is_told() -> None:
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
