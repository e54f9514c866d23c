"""Seeds one-line faults into copies of the package, and lets `connector simulate` find them.

    python tests/faults/run.py [--minutes 5] [--jobs 1] [NAME ...]

Each fault of `table.py` is put into a copy of its own; the simulator then runs fresh seeds until one
fails or the time is over. Exit code 1: a fault was not found, or its line is not there any more.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from table import FAULTS, Fault

ROOT = Path(__file__).resolve().parents[2]


def seeded(fault: Fault, folder: Path) -> str | None:
    """Put a copy of the package with `fault` into `folder`; why it cannot be done."""
    copy = folder / "connector"
    shutil.copytree(
        ROOT / "connector", copy, ignore=shutil.ignore_patterns("page", "__pycache__", "*.so")
    )
    (copy / "web" / "page").mkdir(parents=True, exist_ok=True)
    path = folder / fault.path
    text = path.read_text("utf-8")
    if text.count(fault.old) != 1:
        return f"{fault.path} has the line {text.count(fault.old)} times"
    path.write_text(text.replace(fault.old, fault.new), "utf-8")
    return None


def find(fault: Fault, minutes: float) -> tuple[bool, str]:
    """Whether the simulator finds `fault`, and what it says of it."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        if (why := seeded(fault, folder)) is not None:
            return False, why
        began_s = time.monotonic()
        seeds = 0
        began_cpu_s = _cpu_s()
        command = [sys.executable, "-m", "connector", "simulate", "--minutes", str(minutes)]
        command += ["--json", *fault.options]
        environment = {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
        with subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                seeds += 1
                outcome = json.loads(line)
                if outcome["findings"]:
                    process.kill()
                    process.wait()
                    took_s = time.monotonic() - began_s
                    rules = sorted({one["rule"] for one in outcome["findings"]})
                    return True, (
                        f"seed {outcome['seed']} after {took_s:.0f} s "
                        f"({_cpu_s() - began_cpu_s:.0f} s of a core), {seeds} seeds: "
                        f"{', '.join(rules)}"
                    )
            _, errors = process.communicate()
        took = f"{_cpu_s() - began_cpu_s:.0f} s of a core"
    return (
        False,
        f"not found in {seeds} seeds, {took}{'; ' + errors.strip()[-300:] if errors else ''}",
    )


def _cpu_s() -> float:
    """What the simulators so far took of a core."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> int:
    """The program."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--minutes", type=float, default=5.0)
    arguments = parser.parse_args()
    missed = 0
    for fault in FAULTS:
        if arguments.names and fault.name not in arguments.names:
            continue
        found, text = find(fault, arguments.minutes)
        missed += not found
        print(f"{'found ' if found else 'MISSED'}  {fault.name:<36} {text}", flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
