"""Seeds one-line faults into copies of the package, and lets `connector simulate` find them.

    python tests/faults/run.py [--minutes 5] [--jobs 1] [NAME ...]

Each fault of `table.py` is put into a copy of its own; the simulator then runs fresh seeds until one
fails or the core has worked for so many minutes. Exit code 1: a fault was not found, or its line is not there any more.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
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
    for name, old, new in fault.edits:
        path = folder / name
        text = path.read_text("utf-8")
        if text.count(old) != 1:
            return f"{name} has the line {text.count(old)} times"
        path.write_text(text.replace(old, new), "utf-8")
    return None


def find(fault: Fault, minutes: float) -> tuple[bool, str]:
    """Whether the simulator finds `fault`, and what it says of it."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        if (why := seeded(fault, folder)) is not None:
            return False, why
        began_s = time.monotonic()
        # What counts is the time of a core: other work on the machine does not shorten the search.
        command = ["sh", "-c", f'ulimit -t {minutes * 60:.0f}; exec "$@"', "sh"]
        command += [sys.executable, "-m", "connector", "simulate", "--minutes", "600"]
        command += ["--json", *fault.options]
        environment = {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
        with tempfile.TemporaryFile("w+") as errors:
            process = subprocess.Popen(
                command,
                cwd=folder,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
            assert process.stdout is not None
            seeds, found = 0, ""
            for line in process.stdout:
                seeds += 1
                outcome = json.loads(line)
                if outcome["findings"]:
                    rules = sorted({one["rule"] for one in outcome["findings"]})
                    found = f"seed {outcome['seed']}: {', '.join(rules)}"
                    process.kill()
                    break
            process.stdout.close()
            _, status, used = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            errors.seek(0)
            said = errors.read().strip()[-300:]
        took = (
            f"{time.monotonic() - began_s:.0f} s, {used.ru_utime + used.ru_stime:.0f} s of a core, "
            f"{seeds} seeds"
        )
    if found:
        return True, f"{found} ({took})"
    return False, f"{took}{'; ' + said if said else ''}"


def main() -> int:
    """The program."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--jobs", type=int, default=1)
    arguments = parser.parse_args()
    unknown = set(arguments.names) - {fault.name for fault in FAULTS}
    if unknown:
        parser.error(f"no such fault: {', '.join(sorted(unknown))}")
    faults = [one for one in FAULTS if not arguments.names or one.name in arguments.names]
    missed = 0
    with ThreadPoolExecutor(arguments.jobs) as pool:
        running = {pool.submit(find, fault, arguments.minutes): fault for fault in faults}
        for done in as_completed(running):
            found, text = done.result()
            missed += not found
            verdict = "found " if found else "MISSED"
            print(f"{verdict}  {running[done].name:<40} {text}", flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
