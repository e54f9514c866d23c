"""Runs fuzz targets for a time each; see scripts/fuzz."""

from __future__ import annotations

import argparse
import faulthandler
import importlib.util
import random
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any, Final

_SEEDS: Final = 64
_SEED_BYTES: Final = (64, 512, 4096)
_INPUT_SECONDS_MAX: Final = 120


def main() -> int:
    """Exit status: 0 when no target failed, 1 when one did, 2 for a wrong command line."""
    parser = argparse.ArgumentParser(prog="scripts/fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="default: all")
    parser.add_argument("--seconds", type=float, default=60.0, help="for each target (60)")
    parser.add_argument("--seed", type=int, default=None, help="to get the same inputs again")
    parser.add_argument("--list", action="store_true", help="name the targets")
    parser.add_argument(
        "--coverage", action="store_true", help="guided by coverage: needs the extra `fuzz`"
    )
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.coverage and importlib.util.find_spec("atheris") is None:
        parser.error("atheris is not installed: pip install -e '.[fuzz]'")
    if options.one:
        return _with_coverage(options.one, options.seconds, options.seed)

    from tests.fuzz.targets import TARGETS

    if options.list:
        print("\n".join(TARGETS))
        return 0
    unknown = [name for name in options.targets if name not in TARGETS]
    if unknown:
        parser.error(f"no such target: {', '.join(unknown)}; --list names all")
    number = options.seed if options.seed is not None else random.SystemRandom().randrange(2**32)
    failed = [
        name
        for name in options.targets or TARGETS
        if not _passes(name, options.seconds, number, coverage=options.coverage)
    ]
    print(f"failed: {', '.join(failed)}" if failed else "no target failed", f"(--seed {number})")
    return 1 if failed else 0


def _passes(name: str, seconds: float, number: int, *, coverage: bool) -> bool:
    from tests.fuzz.target import Target, run
    from tests.fuzz.targets import TARGETS

    began_s = time.perf_counter()
    if coverage:
        # Instrumenting happens at import, and the fuzzer ends its process: one process a target.
        command = [sys.executable, "-m", "tests.fuzz", "--coverage", "--one", name]
        command += ["--seconds", str(seconds), "--seed", str(number)]
        done = subprocess.run(command, check=False)
        print(f"{name:26} {'ok' if done.returncode == 0 else 'FAILED'}", flush=True)
        return done.returncode == 0
    target = TARGETS[name]

    def check(value: Any) -> None:
        # What does not end is a fault, too. The stack names the target.
        faulthandler.dump_traceback_later(_INPUT_SECONDS_MAX, exit=True)
        try:
            target.check(value)
        finally:
            faulthandler.cancel_dump_traceback_later()

    try:
        count = run(Target(name, target.inputs, check), seconds, number)
    except Exception:  # noqa: BLE001 - the next target is run all the same
        traceback.print_exc()
        print(f"{name:26} FAILED", flush=True)
        return False
    print(f"{name:26} {count:9,} inputs in {time.perf_counter() - began_s:.0f} s", flush=True)
    return True


def _with_coverage(name: str, seconds: float, number: int | None) -> int:
    import atheris

    with atheris.instrument_imports(include=["connector"]):
        from tests.fuzz.targets import TARGETS
    from tests.fuzz.target import as_test

    test = as_test(TARGETS[name], examples=1, number=None)
    feed = test.hypothesis.fuzz_one_input  # type: ignore[attr-defined]
    options = [f"-max_total_time={max(1, round(seconds))}", f"-seed={number or 1}", "-max_len=8192"]
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        # What hypothesis draws from: from an empty corpus it would get too little to draw anything.
        chance = random.Random(number)
        for at in range(_SEEDS):
            Path(folder, f"{at}").write_bytes(chance.randbytes(chance.choice(_SEED_BYTES)))
        atheris.Setup([sys.argv[0], *options, folder], feed)
        atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
